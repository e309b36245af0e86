/*-------------------------------------------------------------------------
 *
 * checkkernels.c
 *	  Every entry of the kernel table, in every instruction set, against the
 *	  plain C and against double precision.
 *
 * What is demanded:
 *	- quantised matrix products and the activations' int8 form: the plain C's
 *	  bits exactly; and the plain C within the rounding of its own chain of
 *	  the double result, computed from arena.h's formulas by a decoder that
 *	  shares no code with the kernels;
 *	- float products: within (K + 4) roundings of the double result;
 *	- all: a row's bits do not change with the number of rows, its company,
 *	  the panels asked for, or what lies past the ends; nothing is written
 *	  outside of the result.
 *
 * What the CPU has not got of the levels above AVX2 is emulated where it has
 * that (emulated_levels.h).
 *
 * Usage: checkkernels [level]
 *        checkkernels --bench [level]
 *
 *-------------------------------------------------------------------------
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "half.h"
#include "kernels/kernels.h"
#include "kernels/mathc.h"

#include "../tap.h"
#include "amx_emulator.h"
#include "emulated_levels.h"
#include "matrices.h"
#include "attention.h"
#include "bench.h"

#define MAX_M		70

/* ----------------------------------------------------------------
 *		Matrix products
 * ----------------------------------------------------------------
 */

/* Activations of MAX_M rows; what lies past the rows in use is poison. */
typedef struct Input
{
	int			k;
	int			ldx;
	float	   *x;
	uint8_t    *mem;
	L3Act		act;
} Input;

static Input
random_input(int k)
{
	Input		in;

	in.k = k;
	in.ldx = k + 3;
	in.x = aligned_bytes((size_t) MAX_M * in.ldx * sizeof(float));
	for (int i = 0; i < MAX_M * in.ldx; i++)
		in.x[i] = random_normal();
	in.mem = aligned_bytes(l3_act_bytes(MAX_M, k));
	return in;
}

/* Quantise rows 0 .. m - 1 from row first of the input on. */
static void
quantize_input(const L3Kernels *kernels, Input *in, int first, int m)
{
	memset(in->mem, 0xFF, l3_act_bytes(MAX_M, in->k));
	l3_act_init(&in->act, in->mem, m, in->k, in->x + (size_t) first * in->ldx, in->ldx);
	/* NaN for scales, and sums whose addition would overflow */
	memset(in->act.sum16, 0x7F, (size_t) (m + 15) / 16 * 16 * ((in->k + 31) / 32) * 2 * sizeof(int32_t));
	kernels->quantize_rows(&in->act, 0, m);
}

/* The product into a poisoned (m, ldo) array. */
static void
run_matmul(const L3Kernels *kernels, const L3Matrix *w, int panel0, int panel1, const L3Act *x,
		   int m, int m_prefill, float *out, size_t ldo, bool accumulate)
{
	void	   *scratch = aligned_bytes(kernels->matmul_scratch_bytes(w, m) + 64);

	kernels->matmul[w->type] (w, panel0, panel1, x, m, m_prefill, out, ldo, accumulate, scratch);
	free(scratch);
}

/*
 * The full product of MAX_M rows against double.  Each of the roundings of a
 * chain of k steps is at most 2^-24 of the sum of magnitudes.
 */
static bool
near_double(const L3Matrix *w, const Input *in, const float *out, size_t ldo, bool quantised)
{
	int			n_groups = (in->k + 31) / 32;
	double	   *weights = malloc((size_t) in->k * sizeof(double));
	bool		ok = true;

	for (int n = 0; n < w->n_out && ok; n++)
	{
		for (int k = 0; k < in->k; k++)
			weights[k] = weight_value(w, n, k);
		for (int r = 0; r < MAX_M && ok; r++)
		{
			double		sum = 0;
			double		magnitude = 0;

			for (int k = 0; k < in->k; k++)
			{
				double		x = in->x[(size_t) r * in->ldx + k];

				if (quantised)
				{
					size_t		at = ((size_t) (r / 16) * n_groups + k / 32) * 16 + r % 16;

					x = (double) in->act.q[at * 32 + k % 32] * in->act.scale[at];
				}
				sum += weights[k] * x;
				/* The min and the product it is taken from may cancel. */
				magnitude += fabs(x) * (fabs(weights[k]) + (quantised ? 4.0 : 0));
			}
			ok = fabs(out[(size_t) r * ldo + n] - sum) <= (in->k + 4) * 0x1p-24 * magnitude;
		}
	}
	free(weights);
	return ok;
}

/* Rows alone, in every number and from other places, and panels apart. */
static bool
independent(const L3Kernels *kernels, const L3Matrix *w, Input *in, const float *full, size_t ldo)
{
	float	   *out = malloc((size_t) MAX_M * ldo * sizeof(float));
	bool		ok = true;

	for (int m = 1; m <= MAX_M && ok; m++)
	{
		int			first = (int) (random_u32() % (unsigned) (MAX_M - m + 1));
		int			panel0 = (int) (random_u32() % (unsigned) w->n_panels);
		int			panel1 = panel0 + 1 + (int) (random_u32() % (unsigned) (w->n_panels - panel0));
		int			column1 = panel1 * 16 < w->n_out ? panel1 * 16 : w->n_out;

		quantize_input(kernels, in, first, m);
		poison(out, (size_t) MAX_M * ldo);
		run_matmul(kernels, w, panel0, panel1, &in->act, m, m, out, ldo, false);
		for (int r = 0; r < MAX_M && ok; r++)
		{
			const float *row = out + (size_t) r * ldo;

			for (int c = 0; c < (int) ldo && ok; c++)
			{
				if (r < m && c >= panel0 * 16 && c < column1)
					ok = same_bits(row + c, full + (size_t) (first + r) * ldo + c, 1);
				else
					ok = is_poison(row + c);
			}
		}
	}
	free(out);
	return ok;
}

/* out + W x, the sum complete before it is added */
static bool
accumulates(const L3Kernels *kernels, const L3Matrix *w, Input *in, const float *full, size_t ldo)
{
	float	   *out = malloc((size_t) MAX_M * ldo * sizeof(float));
	float	   *before = malloc((size_t) MAX_M * ldo * sizeof(float));
	bool		ok = true;

	for (int i = 0; i < MAX_M * (int) ldo; i++)
		out[i] = before[i] = random_normal();
	quantize_input(kernels, in, 0, MAX_M);
	run_matmul(kernels, w, 0, w->n_panels, &in->act, MAX_M, MAX_M, out, ldo, true);
	for (int r = 0; r < MAX_M && ok; r++)
		for (int c = 0; c < (int) ldo && ok; c++)
		{
			size_t		i = (size_t) r * ldo + c;
			float		expected = c < w->n_out ? before[i] + full[i] : before[i];

			ok = same_bits(&out[i], &expected, 1);
		}
	free(before);
	free(out);
	return ok;
}

/* Generated rows after prompt rows have the bits they have without them. */
static bool
roles_apart(const L3Kernels *kernels, const L3Matrix *w, Input *in, const float *prompt,
			const float *generated, size_t ldo)
{
	float	   *out = malloc((size_t) MAX_M * ldo * sizeof(float));
	bool		ok = true;

	quantize_input(kernels, in, 0, MAX_M);
	for (int m_prefill = 0; m_prefill <= MAX_M && ok; m_prefill += 7)
	{
		poison(out, (size_t) MAX_M * ldo);
		run_matmul(kernels, w, 0, w->n_panels, &in->act, MAX_M, m_prefill, out, ldo, false);
		for (int r = 0; r < MAX_M && ok; r++)
			ok = same_bits(out + (size_t) r * ldo,
						   (r < m_prefill ? prompt : generated) + (size_t) r * ldo, w->n_out);
	}
	free(out);
	return ok;
}

static void
check_matmul(const L3Kernels *kernels, const L3Kernels *generic, L3PackedType type,
			 int n_out, int n_in, int zero_point)
{
	const char *level = l3_cpu_name(kernels->features);
	L3Matrix	w = random_matrix(type, n_out, n_in, zero_point);
	Input		in = random_input(n_in);
	size_t		ldo = (size_t) n_out + 5;
	size_t		n = MAX_M * ldo;
	float	   *plain = malloc(n * sizeof(float));
	float	   *full = malloc(n * sizeof(float));
	float	   *generated = malloc(n * sizeof(float));
	bool		quantised = type >= L3_Q8_0;
	/* OpenBLAS computes prompt rows of all types in float. */
	bool		blas = (kernels->features & (L3_CPU_BLAS | L3_CPU_AVX2)) == L3_CPU_BLAS;
	char		name[100];

	snprintf(name, sizeof(name), "%s %s (%d x %d)", level, l3_packed_type_name(type), n_out, n_in);
	quantize_input(generic, &in, 0, MAX_M);
	poison(plain, n);
	run_matmul(generic, &w, 0, w.n_panels, &in.act, MAX_M, 0, plain, ldo, false);

	quantize_input(kernels, &in, 0, MAX_M);
	poison(full, n);
	run_matmul(kernels, &w, 0, w.n_panels, &in.act, MAX_M, MAX_M, full, ldo, false);
	poison(generated, n);
	run_matmul(kernels, &w, 0, w.n_panels, &in.act, MAX_M, 0, generated, ldo, false);

	if (quantised)
		tap_ok(same_bits(generated, plain, (int) n), "%s: bits of the plain C", name);
	else
		tap_ok(near_double(&w, &in, generated, ldo, false), "%s: near the double result", name);
	if (!quantised || blas || kernels == generic)
		tap_ok(near_double(&w, &in, full, ldo, quantised && !blas),
			   "%s: prompt rows near the double result", name);
	tap_ok(independent(kernels, &w, &in, full, ldo), "%s: a row hangs on itself alone", name);
	tap_ok(accumulates(kernels, &w, &in, full, ldo), "%s: accumulate adds the whole sum", name);
	tap_ok(roles_apart(kernels, &w, &in, full, generated, ldo), "%s: roles do not touch", name);
	if (!blas)
		tap_ok(same_bits(full, generated, (int) n), "%s: both roles alike", name);
	free(generated);
	free(full);
	free(plain);
	free(in.mem);
	free(in.x);
	free((void *) w.data);
}

/*
 * The largest sums that there are: panels of all quants least, greatest and any, by rows of
 * activations that are all 127, all -127, these in turns, and any; bits of the plain C.
 */
static void
check_extremes(const L3Kernels *kernels, const L3Kernels *generic, L3PackedType type, int zero_point)
{
	L3Matrix	w = random_matrix(type, 3 * L3_PANEL, 512, zero_point);
	size_t		scales = l3_panel_scales_bytes(type, w.n_in);
	Input		in = random_input(w.n_in);
	size_t		n = (size_t) MAX_M * w.n_out;
	float	   *plain = malloc(n * sizeof(float));
	float	   *out = malloc(n * sizeof(float));

	for (int p = 0; p < 2; p++)
		memset((uint8_t *) w.data + (size_t) p * w.panel_bytes + scales, p == 0 ? 0 : 0xFF, w.panel_bytes - scales);
	for (int r = 0; r < MAX_M; r++)
		for (int k = 0; k < w.n_in && r % 4 < 3; k++)
			in.x[(size_t) r * in.ldx + k] = r % 4 == 0 || (r % 4 == 2 && k % 2) ? 1 : -1;
	quantize_input(generic, &in, 0, MAX_M);
	run_matmul(generic, &w, 0, w.n_panels, &in.act, MAX_M, 0, plain, w.n_out, false);
	for (int m = 1; m <= MAX_M; m += m < 5 ? 1 : MAX_M - 5)
	{
		quantize_input(kernels, &in, 0, m);
		poison(out, n);
		run_matmul(kernels, &w, 0, w.n_panels, &in.act, m, 0, out, w.n_out, false);
		tap_ok(same_bits(out, plain, m * w.n_out), "%s %s: the largest sums, %d rows", l3_cpu_name(kernels->features),
			   l3_packed_type_name(type), m);
	}
	free(out);
	free(plain);
	free(in.mem);
	free(in.x);
	free((void *) w.data);
}

static void
check_matmuls(const L3Kernels *kernels, const L3Kernels *generic)
{
	static const int outs[] = {1, 15, 16, 17, 31, 33, 100};
	static const int float_ins[] = {1, 2, 3, 15, 31, 64, 100, 513, 1037};

	for (int type = 0; type < L3_N_PACKED_TYPES; type++)
	{
		int			block = l3_packed_block(type);

		if (block == 1)
			for (size_t i = 0; i < sizeof(float_ins) / sizeof(float_ins[0]); i++)
				check_matmul(kernels, generic, type, outs[i % 7], float_ins[i], 0);
		else
			for (int i = 0; i < 7; i++)
				check_matmul(kernels, generic, type, outs[i], block * (1 + i % 5),
							 type == L3_Q8_K && i % 2 ? 128 : 0);
		/* Whole slabs and a rest, as wide as BF16 must be for AMX. */
		for (int k = 512; k <= 1056 && block == 1; k += 272)
			check_matmul(kernels, generic, type, 70, k, 0);
		if (block > 1)
			check_extremes(kernels, generic, type, type == L3_Q8_K ? 128 : 0);
		/* More panels than fit a chunk that is kept in the L2 cache. */
		check_matmul(kernels, generic, type, 16 * 19 + 3, 512, type == L3_Q8_K ? 128 : 0);
	}
}

/* The embedding lookup against the formulas; one rounding a product, one a sum. */
static void
check_matrix_row(const L3Kernels *kernels)
{
	for (int type = 0; type < L3_N_PACKED_TYPES; type++)
	{
		int			k = l3_packed_block(type) == 1 ? 77 : 512;
		L3Matrix	w = random_matrix(type, 35, k, type == L3_Q8_K ? 128 : 0);
		float	   *row = malloc((size_t) k * sizeof(float));
		bool		ok = true;

		for (int n = 0; n < w.n_out; n++)
		{
			kernels->matrix_row(&w, n, row);
			for (int i = 0; i < k; i++)
			{
				double		value = weight_value(&w, n, i);

				ok = ok && fabs(row[i] - value) <= 0x1p-22 * (fabs(value) + 4);
				if (type == L3_F32 || type == L3_F16 || type == L3_BF16 ||
					type == L3_Q8_0 || type == L3_Q4_0)
					ok = ok && row[i] == (float) value;
			}
		}
		tap_ok(ok, "%s %s: matrix_row gives the values", l3_cpu_name(kernels->features),
			   l3_packed_type_name(type));
		free(row);
		free((void *) w.data);
	}
}

/* ----------------------------------------------------------------
 *		Activations
 * ----------------------------------------------------------------
 */

static void
check_quantize(const L3Kernels *kernels, const L3Kernels *generic)
{
	const char *level = l3_cpu_name(kernels->features);
	static const int ks[] = {1, 15, 16, 17, 31, 32, 33, 64, 100, 256, 1024};
	bool		same = true;
	bool		right = true;

	for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++)
	{
		Input		a = random_input(ks[i]);
		Input		b = a;
		int			n_groups = (ks[i] + 31) / 32;
		float	   *special = a.x + 5 * a.ldx;

		for (int k = 0; k < ks[i]; k++)
		{
			a.x[2 * a.ldx + k] = 0;
			a.x[3 * a.ldx + k] *= 1e-42f;	/* subnormal scales */
			a.x[4 * a.ldx + k] *= 1e36f;
			special[k] = k % 40 == 7 ? (k % 3 ? NAN : -INFINITY) : special[k];
			a.x[6 * a.ldx + k] = (float) ((int) (random_u32() % 255) - 127) + 0.5f;	/* ties */
		}
		a.x[6 * a.ldx] = 127.0f;
		b.mem = aligned_bytes(l3_act_bytes(MAX_M, ks[i]));
		quantize_input(kernels, &a, 0, MAX_M);
		/* any rows at a time, in any order */
		kernels->quantize_rows(&a.act, 9, MAX_M - 9);
		kernels->quantize_rows(&a.act, 0, 9);
		quantize_input(generic, &b, 0, MAX_M);
		same = same && memcmp(a.mem, b.mem, l3_act_bytes(MAX_M, ks[i])) == 0;

		for (int r = 0; r < MAX_M; r++)
			for (int g = 0; g < n_groups && r != 5; g++)
			{
				size_t		at = ((size_t) (r / 16) * n_groups + g) * 16 + r % 16;
				int			sum[2] = {0, 0};
				float		amax = 0;

				for (int k = g * 32; k < g * 32 + 32 && k < ks[i]; k++)
					amax = fmaxf(amax, fabsf(a.x[(size_t) r * a.ldx + k]));
				right = right && a.act.scale[at] == amax / 127.0f;
				for (int k = 0; k < 32; k++)
				{
					int			q = a.act.q[at * 32 + k];
					float		x = g * 32 + k < ks[i] ? a.x[(size_t) r * a.ldx + g * 32 + k] : 0;

					sum[k / 16] += q;
					if (a.act.scale[at] > 1e-38f)
						right = right && q == (int) nearbyintf(x / a.act.scale[at]);
				}
				right = right && a.act.sum16[at * 2] == sum[0] && a.act.sum16[at * 2 + 1] == sum[1];
			}
		free(a.mem);
		free(b.mem);
		free(a.x);
	}
	tap_ok(same, "%s quantize_rows: bits of the plain C", level);
	tap_ok(right, "%s quantize_rows: scales, quants and sums by their definition", level);
}

/* ----------------------------------------------------------------
 *		Vector functions
 * ----------------------------------------------------------------
 */

static const int lengths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 1000, 2048};
#define N_LENGTHS	((int) (sizeof(lengths) / sizeof(lengths[0])))

static void
check_vectors(const L3Kernels *kernels)
{
	const char *level = l3_cpu_name(kernels->features);
	bool		norm_ok = true,
				glu_ok = true,
				rope_ok = true,
				inside = true;

	for (int i = 0; i < N_LENGTHS; i++)
	{
		int			n = lengths[i];
		float	   *x = malloc((size_t) (n + 1) * sizeof(float));
		float	   *y = malloc((size_t) (n + 1) * sizeof(float));
		float	   *w = malloc((size_t) n * sizeof(float));
		double		squares = 0;

		poison(x, (size_t) n + 1);
		poison(y, (size_t) n + 1);
		for (int k = 0; k < n; k++)
		{
			x[k] = random_normal() * (k % 5 ? 1 : 30);
			w[k] = random_normal();
			squares += (double) x[k] * x[k];
		}
		kernels->rms_norm(y, x, w, n, 1e-5f);
		for (int k = 0; k < n; k++)
		{
			double		expected = x[k] / sqrt(squares / n + 1e-5f) * w[k];

			norm_ok = norm_ok && fabs(y[k] - expected) <= (n / 16 + 12) * 0x1p-24 * fabs(expected);
		}
		kernels->rms_norm(x, x, w, n, 1e-5f);
		norm_ok = norm_ok && same_bits(x, y, n);

		for (int k = 0; k < n; k++)
			x[k] = random_normal() * (k % 7 ? 3 : 80);
		memcpy(y, x, (size_t) n * sizeof(float));
		kernels->swiglu(y, w, n);
		for (int k = 0; k < n; k++)
		{
			/* below -88 it is nothing: e^-x overflows in float */
			double		expected = x[k] / (1 + exp(-(double) x[k])) * w[k];

			glu_ok = glu_ok && fabs(y[k] - expected) <= 6 * 0x1p-24 * fabs(expected) + 1e-35;
		}
		inside = inside && is_poison(x + n) && is_poison(y + n);
		free(w);
		free(y);
		free(x);
	}

	for (int head_dim = 2; head_dim <= 130; head_dim += head_dim < 40 ? 2 : 30)
		for (int rope_dim = 2; rope_dim <= head_dim; rope_dim += 6)
		{
			float		x[3 * 130 + 1],
						y[3 * 130 + 1],
						cosine[65],
						sine[65];
			float		scale = rope_dim % 4 ? 1.0f : 0.125f;

			poison(x, 3 * 130 + 1);
			for (int k = 0; k < 3 * head_dim; k++)
				x[k] = random_normal();
			for (int k = 0; k < rope_dim / 2; k++)
			{
				cosine[k] = cosf((float) k + 1);
				sine[k] = sinf((float) k + 1);
			}
			memcpy(y, x, sizeof(y));
			kernels->rope(y, 3, head_dim, rope_dim, cosine, sine, scale);
			for (int k = 0; k < 3 * head_dim; k++)
			{
				int			d = k % head_dim;
				int			at = k - d + d / 2 * 2;
				double		a = x[at],
							b = x[at + 1];
				double		expected = x[k] * (double) scale;

				if (d < rope_dim)
					expected = scale * (d % 2 ? b * cosine[d / 2] + a * sine[d / 2] :
										a * cosine[d / 2] - b * sine[d / 2]);
				rope_ok = rope_ok && fabs(y[k] - expected) <=
					4 * 0x1p-24 * scale * (d < rope_dim ? fabs(a) + fabs(b) : fabs(expected) / scale);
			}
			rope_ok = rope_ok && is_poison(y + 3 * head_dim);
		}
	tap_ok(norm_ok, "%s rms_norm: near the double result, in place alike", level);
	tap_ok(glu_ok, "%s swiglu: near the double result", level);
	tap_ok(rope_ok, "%s rope: rotates the leading pairs of each head, scales all", level);
	tap_ok(inside, "%s vector functions write nothing past the end", level);
}

/* Each lane of a vector gives what the element alone gives. */
static void
check_lanes(const L3Kernels *kernels)
{
	float		x[67],
				up[67];
	bool		ok = true;

	for (int i = 0; i < 67; i++)
	{
		x[i] = random_normal() * 20;
		up[i] = 1;
	}
	for (int i = 0; i < 67; i++)
	{
		float		all[67],
					one = x[i];

		memcpy(all, x, sizeof(x));
		kernels->swiglu(all, up, 67);
		kernels->swiglu(&one, up, 1);
		ok = ok && same_bits(&one, &all[i], 1);
	}
	tap_ok(ok, "%s swiglu: every lane alike", l3_cpu_name(kernels->features));
}

static void
check_reductions(const L3Kernels *kernels)
{
	const char *level = l3_cpu_name(kernels->features);
	bool		max_ok = true,
				lse_ok = true;
	float		special[40];

	for (int i = 0; i < N_LENGTHS; i++)
	{
		int			n = lengths[i];
		float	   *x = malloc((size_t) n * sizeof(float));

		for (int round = 0; round < 20; round++)
		{
			int			best = 0;
			double		sum = 0;
			double		lse;

			for (int k = 0; k < n; k++)
				x[k] = round % 2 ? random_normal() * 12 : (float) (random_u32() % 5);
			for (int k = 1; k < n; k++)
				best = x[k] > x[best] ? k : best;
			for (int k = 0; k < n; k++)
				sum += exp((double) x[k] - x[best]);
			lse = x[best] + log(sum);
			max_ok = max_ok && kernels->argmax(x, n) == best;
			lse_ok = lse_ok && fabs(kernels->logsumexp(x, n) - lse) <= 1e-13 * (fabs(lse) + 1);
		}
		free(x);
	}
	tap_ok(max_ok, "%s argmax: the lowest index of the largest", level);
	tap_ok(lse_ok, "%s logsumexp: near the double result", level);

	for (int n = 1; n <= 40; n++)
		for (int at = 0; at < n; at++)
		{
			for (int k = 0; k < n; k++)
				special[k] = k % 3 ? NAN : -1.0f;
			special[at] = -0.5f;
			max_ok = max_ok && kernels->argmax(special, n) == at;
			for (int k = 0; k < n; k++)
				special[k] = k == at ? -INFINITY : NAN;
			max_ok = max_ok && kernels->argmax(special, n) == at;
		}
	special[0] = special[1] = NAN;
	max_ok = max_ok && kernels->argmax(special, 2) == 0;
	tap_ok(max_ok, "%s argmax: NaN never wins", level);

	for (int k = 0; k < 40; k++)
		special[k] = -INFINITY;
	lse_ok = kernels->logsumexp(special, 40) == -INFINITY;
	special[17] = 3;
	lse_ok = lse_ok && kernels->logsumexp(special, 40) == 3;
	special[18] = INFINITY;
	lse_ok = lse_ok && kernels->logsumexp(special, 40) == INFINITY;
	special[39] = NAN;
	lse_ok = lse_ok && isnan(kernels->logsumexp(special, 40));
	tap_ok(lse_ok, "%s logsumexp: infinities and NaN as they should be", level);
}

/* The exponential itself, through swiglu: silu(-x) / -x * up. */
static void
check_exponential(void)
{
	bool		float_ok = true,
				double_ok = true,
				fma_ok = true;

	for (int i = 0; i < 200000; i++)
	{
		float		x = ((float) random_u32() * 0x1p-32f - 0.5f) * (i % 2 ? 176.0f : 2.0f);
		double		y = -(double) random_u32() * 0x1p-32 * (i % 2 ? 700 : 2);
		double		e = exp((double) x);
		float		a = (float) ((int) (random_u32() % 2000001) - 1000000);
		float		b = random_normal() * (i % 3 ? 1e-4f : 1e-36f);
		float		c = i % 5 ? random_normal() * 50 : -a * b * (1 + (float) (i % 7) * 0x1p-23f);

		float_ok = float_ok && fabs(l3_expf(x) - e) <= 1.5 * 0x1p-23 * e + 0x1p-149;
		double_ok = double_ok && fabs(l3_exp_negative(y) - exp(y)) <= 3 * 0x1p-52 * exp(y);
		fma_ok = fma_ok && l3_fma(a, b, c) == fmaf(a, b, c);
	}
	float_ok = float_ok && l3_expf(0) == 1 && l3_expf(-INFINITY) == 0 &&
		l3_expf(INFINITY) == INFINITY && l3_expf(1000) == INFINITY && isnan(l3_expf(NAN));
	tap_ok(float_ok, "l3_expf: within 1.5 ulp");
	tap_ok(double_ok, "l3_exp_negative: within 3 ulp");
	tap_ok(fma_ok && isnan(l3_fma(INFINITY, 0, 1)) && l3_fma(1, INFINITY, 1) == INFINITY,
		   "l3_fma: the bits of a fused multiply-add");
}

static void
check_cpu_list(void)
{
	unsigned	all = l3_cpu_detect();
	unsigned	features;
	L3Error		err;
	bool		ok;

	ok = l3_cpu_parse(NULL, &features, &err) == L3_OK && features == all;
	ok = ok && l3_cpu_parse("", &features, &err) == L3_OK && features == all;
	ok = ok && l3_cpu_parse(" all ", &features, &err) == L3_OK && features == all;
	tap_ok(ok, "an empty list means all that the CPU has");
	ok = l3_cpu_parse("generic", &features, &err) == L3_OK && features == 0;
	ok = ok && l3_cpu_parse("blas", &features, &err) == L3_OK && features == L3_CPU_BLAS;
	ok = ok && l3_cpu_parse("avx2,blas", &features, &err) == L3_OK &&
		features == (all & (L3_CPU_AVX2 | L3_CPU_BLAS));
	ok = ok && l3_cpu_parse("avxvnni", &features, &err) == L3_OK &&
		features == (all & (L3_CPU_AVX2 | L3_CPU_AVXVNNI));
	ok = ok && l3_cpu_parse("avx512", &features, &err) == L3_OK &&
		features == (all & (L3_CPU_AVX2 | L3_CPU_AVX512));
	ok = ok && l3_cpu_parse("avx512vnni", &features, &err) == L3_OK &&
		features == (all & ~(L3_CPU_BLAS | L3_CPU_AVXVNNI | L3_CPU_AMX));
	ok = ok && l3_cpu_parse("amx", &features, &err) == L3_OK &&
		features == (all & ~(L3_CPU_BLAS | L3_CPU_AVXVNNI));
	tap_ok(ok, "a level includes the lower ones and no more than the CPU has");
	ok = strcmp(l3_cpu_level(0), "generic") == 0 && strcmp(l3_cpu_level(6), "amx") == 0 && l3_cpu_level(7) == NULL;
	tap_ok(ok, "the levels are those from generic to amx");
	ok = l3_cpu_parse("avx2,sse9", &features, &err) == L3_ERR_ARG &&
		strstr(err.message, "sse9") != NULL && strstr(err.hint, "avx512vnni") != NULL;
	tap_ok(ok, "an unknown word is an error that lists the known");
}

/*
 * As the engine worker does: OpenBLAS reads its number of threads when it is
 * loaded, so the program starts itself again.
 */
static void
one_blas_thread(char **argv)
{
	const char *threads = getenv("OPENBLAS_NUM_THREADS");

	if (threads != NULL && strcmp(threads, "1") == 0)
		return;
	setenv("OPENBLAS_NUM_THREADS", "1", 1);
	execv("/proc/self/exe", argv);
	perror("execv");
	exit(2);
}

static void
check_all(const L3Kernels *kernels, const L3Kernels *generic)
{
	check_quantize(kernels, generic);
	check_matmuls(kernels, generic);
	check_matrix_row(kernels);
	check_vectors(kernels);
	check_lanes(kernels);
	check_reductions(kernels);
	check_attention(kernels);
}

/* Emulated, AMX can be made to multiply wrong. */
static void
check_amx_trial(void)
{
#if defined(__x86_64__) && defined(L3_HAVE_AMX)
	if (native_features() & L3_CPU_AMX)
		return;
	emulate_amx(true);
	tap_ok(!emulated_amx_works(), "amx: a CPU that multiplies wrong is found out");
	emulate_amx(false);
	tap_ok(emulated_amx_works(), "amx: one that multiplies right is not");
#endif
}

int
main(int argc, char **argv)
{
	const char *only;
	const char *level;
	bool		known = false;
	unsigned	seen = ~0u;
	L3Kernels	generic;

	one_blas_thread(argv);
	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
		return bench(argc > 2 ? argv[2] : NULL);
	only = argc > 1 ? argv[1] : NULL;
	for (size_t i = 0; (level = l3_cpu_level(i)) != NULL; i++)
		known = known || only == NULL || strcmp(only, level) == 0;
	if (!known)
	{
		fprintf(stderr, "there is no level \"%s\"\n", only);
		return 2;
	}

	l3_kernels_init(&generic, 0);
	check_exponential();
	check_cpu_list();
	for (size_t i = 0; (level = l3_cpu_level(i)) != NULL; i++)
	{
		unsigned	features;
		L3Error		err;
		L3Kernels	kernels;

		if (only != NULL && strcmp(only, level) != 0)
			continue;
		if (l3_cpu_parse(level, &features, &err) != L3_OK ||
			strcmp(l3_cpu_name(features), level) != 0)
		{
			tap_skip("%s: not for this CPU or compiler", level);
			continue;
		}
		if (features == seen)
			continue;
		seen = features;
		l3_kernels_init(&kernels, features);
		if (kernels.features != features)
		{
			tap_ok(false, "%s: the CPU has it and it cannot be used", level);
			continue;
		}
		check_all(&kernels, &generic);
		if (features & L3_CPU_AMX)
			check_amx_trial();
	}
	return tap_done();
}
