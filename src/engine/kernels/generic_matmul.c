/*-------------------------------------------------------------------------
 *
 * generic_matmul.c
 *	  Matrix products and the activations' int8 form in portable C.
 *
 * This is the specification that every vector kernel is compared with.  For
 * quantised types the comparison is for equality, so the outer chain is
 * rounded once per step on every machine (l3_fma).  Float types multiply and
 * add (l3_madd: fused only where the machine has the instruction).
 *
 * Compile without contraction of floating-point expressions
 * (-ffp-contract=off): a compiler that fuses what is written apart would
 * break the equality.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/generic.h"

#define N		L3_PANEL

static void
quantize_group(const float *x, int n, int8_t *q, float *scale, int32_t sum16[2])
{
	uint32_t	amax_bits = 0;
	float		amax;
	float		d;

	/*
	 * Magnitudes compare as integers do, and a NaN is larger than all: it
	 * becomes the scale and so shows in the result.
	 */
	for (int i = 0; i < n; i++)
	{
		uint32_t	bits = l3_float_to_bits(x[i]) & 0x7FFFFFFF;

		amax_bits = bits > amax_bits ? bits : amax_bits;
	}
	amax = l3_bits_to_float(amax_bits);
	d = amax / 127.0f;
	*scale = d;
	sum16[0] = sum16[1] = 0;
	for (int i = 0; i < L3_ACT_GROUP; i++)
	{
		float		v = 0;

		if (i < n && d != 0)
		{
			v = x[i] / d;
			/* Subnormal scales are coarse; NaN becomes 127. */
			v = v < 127.0f ? v : 127.0f;
			v = v > -127.0f ? v : -127.0f;
		}
		q[i] = (int8_t) ((v + L3_ROUND_MAGIC_F) - L3_ROUND_MAGIC_F);
		sum16[i / 16] += q[i];
	}
}

void
l3_generic_quantize_rows(L3Act *act, int row0, int n)
{
	int			n_groups = (act->k + L3_ACT_GROUP - 1) / L3_ACT_GROUP;

	for (int row = row0; row < row0 + n; row++)
	{
		const float *x = act->x + (size_t) row * act->ldx;

		for (int g = 0; g < n_groups; g++)
		{
			size_t		at = l3_act_index(n_groups, row, g);
			int			left = act->k - g * L3_ACT_GROUP;

			quantize_group(x + g * L3_ACT_GROUP,
						   left < L3_ACT_GROUP ? left : L3_ACT_GROUP,
						   act->q + at * L3_ACT_GROUP, act->scale + at,
						   act->sum16 + at * 2);
		}
	}
}

/* Add the products of k = first .. first + n - 1 of a group to idot. */
static inline void
dot_columns(const L3Group *group, const int8_t *x, int first, int n, int32_t idot[N])
{
	for (int c = 0; c < N; c++)
		idot[c] = 0;
	for (int k = first; k < first + n; k++)
		for (int c = 0; c < N; c++)
			idot[c] += (int32_t) group->q[k][c] * x[k];
}

/* One row of a group: extend the 16 chains in acc. */
static inline void
group_row(const L3Group *group, bool halves, bool has_add, const int8_t *x,
		  float sx, const int32_t sum16[2], float acc[N])
{
	int			n_parts = halves ? 2 : 1;
	int			part_k = L3_ACT_GROUP / n_parts;

	for (int h = 0; h < n_parts; h++)
	{
		int32_t		idot[N];
		float		isum = (float) (halves ? sum16[h] : sum16[0] + sum16[1]);

		dot_columns(group, x, h * part_k, part_k, idot);
		for (int c = 0; c < N; c++)
			acc[c] = l3_fma((float) idot[c], sx * group->scale[h][c], acc[c]);
		if (has_add)
			for (int c = 0; c < N; c++)
				acc[c] = l3_fma(isum, sx * group->add[h][c], acc[c]);
	}
}

/* Rows row_begin .. row_end - 1, all in one tile, of one panel. */
static void
quant_tile(const L3Matrix *w, const uint8_t *panel, const L3Act *x,
		   int row_begin, int row_end, float acc[L3_ACT_TILE][N])
{
	bool		halves = l3_type_halves(w->type);
	bool		has_add = l3_type_has_add(w->type);
	int			n_groups = w->n_in / L3_ACT_GROUP;
	L3Group		group;

	for (int g = 0; g < n_groups; g++)
	{
		l3_unpack_group(w, panel, g, &group);
		for (int row = row_begin; row < row_end; row++)
		{
			size_t		at = l3_act_index(n_groups, row, g);

			group_row(&group, halves, has_add, x->q + at * L3_ACT_GROUP,
					  x->scale[at], x->sum16 + at * 2, acc[row % L3_ACT_TILE]);
		}
	}
}

#define FLOAT_SLAB	64			/* k unpacked at a time */

static void
float_tile(const L3Matrix *w, const uint8_t *panel, const L3Act *x,
		   int row_begin, int row_end, float acc[L3_ACT_TILE][N])
{
	float		slab[FLOAT_SLAB * N];

	for (int k0 = 0; k0 < w->n_in; k0 += FLOAT_SLAB)
	{
		int			n = w->n_in - k0 < FLOAT_SLAB ? w->n_in - k0 : FLOAT_SLAB;

		l3_unpack_floats(w, panel, k0, n, slab);
		for (int row = row_begin; row < row_end; row++)
		{
			const float *xs = x->x + (size_t) row * x->ldx + k0;
			float	   *chain = acc[row % L3_ACT_TILE];

			for (int k = 0; k < n; k++)
				for (int c = 0; c < N; c++)
					chain[c] = l3_madd(slab[k * N + c], xs[k], chain[c]);
		}
	}
}

void
l3_generic_matmul_rows(const L3Matrix *w, int panel0, int panel1, const L3Act *x,
					   int row_begin, int row_end, float *out, size_t ldo,
					   bool accumulate)
{
	for (int p = panel0; p < panel1; p++)
	{
		const uint8_t *panel = w->data + (size_t) p * w->panel_bytes;
		int			n_columns = w->n_out - p * N < N ? w->n_out - p * N : N;
		int			tile_end;

		for (int row = row_begin; row < row_end; row = tile_end)
		{
			float		acc[L3_ACT_TILE][N] = {{0}};

			tile_end = (row / L3_ACT_TILE + 1) * L3_ACT_TILE;
			tile_end = tile_end < row_end ? tile_end : row_end;
			if (l3_type_quantised(w->type))
				quant_tile(w, panel, x, row, tile_end, acc);
			else
				float_tile(w, panel, x, row, tile_end, acc);
			for (int r = row; r < tile_end; r++)
			{
				float	   *dst = out + (size_t) r * ldo + (size_t) p * N;
				const float *src = acc[r % L3_ACT_TILE];

				for (int c = 0; c < n_columns; c++)
					dst[c] = accumulate ? dst[c] + src[c] : src[c];
			}
		}
	}
}

void
l3_generic_matmul(const L3Matrix *w, int panel0, int panel1, const L3Act *x,
				  int m, int m_prefill, float *out, size_t ldo, bool accumulate,
				  void *scratch)
{
	(void) m_prefill;			/* one arithmetic for both roles */
	(void) scratch;
	l3_generic_matmul_rows(w, panel0, panel1, x, 0, m, out, ldo, accumulate);
}

size_t
l3_generic_matmul_scratch_bytes(const L3Matrix *w, int m_max)
{
	(void) w;
	(void) m_max;
	return 0;
}

void
l3_generic_matrix_row(const L3Matrix *w, int n, float *dst)
{
	const uint8_t *panel = w->data + (size_t) (n / N) * w->panel_bytes;
	float		slab[FLOAT_SLAB * N];

	for (int k0 = 0; k0 < w->n_in; k0 += FLOAT_SLAB)
	{
		int			left = w->n_in - k0 < FLOAT_SLAB ? w->n_in - k0 : FLOAT_SLAB;

		l3_unpack_floats(w, panel, k0, left, slab);
		for (int k = 0; k < left; k++)
			dst[k0 + k] = slab[k * N + n % N];
	}
}
