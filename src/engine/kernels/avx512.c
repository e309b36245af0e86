/*-------------------------------------------------------------------------
 *
 * avx512.c
 *	  Matrix products and the activations' int8 form in AVX-512 (F, BW, VL,
 *	  DQ) without VNNI.
 *
 * Vector functions and attention are in avx512_vector.c and avx512_attend.c.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx512.h"

#define TARGET	TARGET512

/*
 * sum += products of n quad rows with 4n activations, by VPMADDUBSW, which
 * multiplies unsigned by signed bytes and adds pairs with saturation to 16 bits.
 * Nothing may saturate: a pair is at most 2 * 127 times the largest weight.
 * Four bits leave room to add eight pairs in 16 bits, six bits two.  Eight
 * bits have none, so they go as two nibbles.
 */
TARGET INLINE __m512i
dot_quads(int bits, const __m512i *q, const int8_t *x, int n, __m512i sum)
{
	const __m512i ones = _mm512_set1_epi16(1);
	const __m512i sixteens = _mm512_set1_epi16(16);
	const __m512i nibble = _mm512_set1_epi8(15);
	__m512i		low = _mm512_setzero_si512();
	__m512i		high = _mm512_setzero_si512();

	UNROLL
	for (int j = 0; j < n; j++)
	{
		__m512i		four = _mm512_set1_epi32(load_int32(x + 4 * j));

		if (bits == 4)
			low = _mm512_add_epi16(low, _mm512_maddubs_epi16(q[j], four));
		else if (bits == 6)
		{
			low = _mm512_add_epi16(low, _mm512_maddubs_epi16(q[j], four));
			if (j % 2 == 1)
			{
				sum = _mm512_add_epi32(sum, _mm512_madd_epi16(low, ones));
				low = _mm512_setzero_si512();
			}
		}
		else
		{
			low = _mm512_add_epi16(low, _mm512_maddubs_epi16(_mm512_and_si512(q[j], nibble), four));
			high = _mm512_add_epi16(high, _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(q[j], 4), nibble), four));
		}
	}
	if (bits != 6)
		sum = _mm512_add_epi32(sum, _mm512_madd_epi16(low, ones));
	if (bits == 8)
		sum = _mm512_add_epi32(sum, _mm512_madd_epi16(high, sixteens));
	return sum;
}

#include "kernels/avx512_quant.h"

/* ----------------------------------------------------------------
 *		Matrices in float types
 * ----------------------------------------------------------------
 */

/*
 * Twelve rows by two panels fill 24 registers with chains, and each broadcast
 * value serves both panels.  Rows of activations often stand a power of two
 * apart and would fight for one set of the L1 cache, so a slab of FLOAT_SLAB k
 * of them is copied into an array whose rows do not.  The slab of up to
 * FLOAT_PANELS panels stays in the L2 cache for FLOAT_TILES tiles of rows.
 */
#define FLOAT_ROWS		12
#define FLOAT_FEW_ROWS	2		/* without tiles */
#define FLOAT_TILES		4
#define FLOAT_PANELS	16
#define FLOAT_SLAB		256		/* even: bfloat16 comes in pairs of k */
#define FLOAT_STRIDE	(FLOAT_SLAB + 16)

/* What a thread works on. */
typedef struct FloatWork
{
	float		slab[FLOAT_ROWS * FLOAT_STRIDE];
	/* chains, [panel][row][16] of each tile */
	float		acc[FLOAT_TILES][FLOAT_PANELS * FLOAT_ROWS * L3_PANEL] __attribute__((aligned(64)));
} FloatWork;

/* A vector of 16 columns for each of two consecutive k. */
TARGET INLINE void
load_pair(L3PackedType type, const uint8_t *panel, size_t k, __m512 w[2])
{
	if (type == L3_F32)
	{
		w[0] = _mm512_load_ps((const float *) panel + k * L3_PANEL);
		w[1] = _mm512_load_ps((const float *) panel + (k + 1) * L3_PANEL);
	}
	else if (type == L3_F16)
	{
		w[0] = load_halves(panel + k * 2 * L3_PANEL);
		w[1] = load_halves(panel + (k + 1) * 2 * L3_PANEL);
	}
	else
	{
		__m512i		pair = _mm512_load_si512(panel + k * 2 * L3_PANEL);

		w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
		w[1] = _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32((int) 0xFFFF0000)));
	}
}

/* The last k of an odd number. */
TARGET INLINE __m512
load_last(L3PackedType type, const uint8_t *panel, size_t k)
{
	if (type == L3_F32)
		return _mm512_load_ps((const float *) panel + k * L3_PANEL);
	if (type == L3_F16)
		return load_halves(panel + k * 2 * L3_PANEL);
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(panel + k * 2 * L3_PANEL), 16));
}

/*
 * Extend the chains of R rows in each of P panels by n values of k from k0 on.
 * x holds the rows' values from k0 on, stride apart.  acc is (P, R, 16).  As many
 * bytes of panels from ahead on are fetched, if it is not NULL.
 */
TARGET INLINE void
float_chains(const L3PackedType type, const int R, const int P, const uint8_t *panels,
			 size_t panel_bytes, const float *x, size_t stride, size_t k0, int n, const uint8_t *ahead,
			 float *acc)
{
	const size_t k_bytes = l3_float_k_bytes(type);
	__m512		chain[2 * FLOAT_ROWS];
	int			k;

	UNROLL
	for (int i = 0; i < P * R; i++)
		chain[i] = _mm512_load_ps(acc + i * L3_PANEL);
	for (k = 0; k + 2 <= n; k += 2)
	{
		__m512		w[4][2];

		if (ahead != NULL)
		{
			UNROLL
			for (int p = 0; p < P; p++)
				PREFETCH_LINES(ahead + p * panel_bytes + (size_t) k * k_bytes, 2 * k_bytes, _MM_HINT_T1);
		}
		UNROLL
		for (int p = 0; p < P; p++)
			load_pair(type, panels + p * panel_bytes, k0 + k, w[p]);
		UNROLL
		for (int t = 0; t < 2; t++)
			UNROLL
			for (int r = 0; r < R; r++)
			{
				__m512		v = _mm512_set1_ps(x[r * stride + k + t]);

				UNROLL
				for (int p = 0; p < P; p++)
					chain[p * R + r] = _mm512_fmadd_ps(w[p][t], v, chain[p * R + r]);
			}
	}
	if (k < n)
	{
		UNROLL
		for (int p = 0; p < P; p++)
		{
			__m512		w = load_last(type, panels + p * panel_bytes, k0 + k);

			UNROLL
			for (int r = 0; r < R; r++)
				chain[p * R + r] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[r * stride + k]),
												   chain[p * R + r]);
		}
	}
	UNROLL
	for (int i = 0; i < P * R; i++)
		_mm512_store_ps(acc + i * L3_PANEL, chain[i]);
}

typedef void (*FloatFn) (const uint8_t *panels, size_t panel_bytes, const float *x,
						 size_t stride, size_t k0, int n, const uint8_t *ahead, float *acc);

#define FLOAT_FN(type, R, P) \
	TARGET static void \
	chains_##type##_##R##_##P(const uint8_t *panels, size_t panel_bytes, const float *x, \
							  size_t stride, size_t k0, int n, const uint8_t *ahead, float *acc) \
	{ \
		float_chains(L3_##type, R, P, panels, panel_bytes, x, stride, k0, n, ahead, acc); \
	}
#define FLOAT_FNS(type) \
	FLOAT_FN(type, 1, 1) FLOAT_FN(type, 1, 4) FLOAT_FN(type, 2, 1) FLOAT_FN(type, 2, 4) \
	FLOAT_FN(type, 4, 1) FLOAT_FN(type, 4, 2) FLOAT_FN(type, 8, 1) FLOAT_FN(type, 8, 2) \
	FLOAT_FN(type, 12, 1) FLOAT_FN(type, 12, 2)

FLOAT_FNS(F32)
FLOAT_FNS(F16)
FLOAT_FNS(BF16)

#define N_FLOAT_FNS		5

/*
 * Rows that the functions are made for, and how many panels go together: with
 * few rows so many that chains need not wait for each other.
 */
static const int float_rows[N_FLOAT_FNS] = {1, 2, 4, 8, 12};
static const int float_panels[N_FLOAT_FNS] = {4, 4, 2, 2, 2};

/* By type and rows, for one panel and for several. */
static const FloatFn float_fns[3][N_FLOAT_FNS][2] = {
	[L3_F32] = {{chains_F32_1_1, chains_F32_1_4}, {chains_F32_2_1, chains_F32_2_4},
	{chains_F32_4_1, chains_F32_4_2}, {chains_F32_8_1, chains_F32_8_2}, {chains_F32_12_1, chains_F32_12_2}},
	[L3_F16] = {{chains_F16_1_1, chains_F16_1_4}, {chains_F16_2_1, chains_F16_2_4},
	{chains_F16_4_1, chains_F16_4_2}, {chains_F16_8_1, chains_F16_8_2}, {chains_F16_12_1, chains_F16_12_2}},
	[L3_BF16] = {{chains_BF16_1_1, chains_BF16_1_4}, {chains_BF16_2_1, chains_BF16_2_4},
	{chains_BF16_4_1, chains_BF16_4_2}, {chains_BF16_8_1, chains_BF16_8_2}, {chains_BF16_12_1, chains_BF16_12_2}},
};

/* Which functions take n_rows, of a tile at most. */
static int
float_which(int n_rows)
{
	int			which = 0;

	while (float_rows[which] < n_rows)
		which++;
	return which;
}

/* Extend a tile's chains in n_panels panels by n values of k from k0 on. */
TARGET static void
float_tile(const L3Matrix *w, const uint8_t *panels, int n_panels, const float *x, size_t stride,
		   int which, int k0, int n, const uint8_t *ahead, float *acc)
{
	int			p = 0;

	while (p < n_panels)
	{
		bool		several = p + float_panels[which] <= n_panels;

		float_fns[w->type][which][several] (panels + p * w->panel_bytes, w->panel_bytes, x, stride,
											(size_t) k0, n, ahead == NULL ? NULL : ahead + p * w->panel_bytes,
											acc + p * float_rows[which] * L3_PANEL);
		p += several ? float_panels[which] : 1;
	}
}

/* The slab of k0 .. k0 + n - 1 of rows, then zero rows up to rows_made. */
TARGET static void
copy_slab(float *slab, const L3Act *x, int row, int n_rows, int rows_made, int k0, int n)
{
	for (int r = 0; r < rows_made; r++)
	{
		if (r < n_rows)
			memcpy(slab + r * FLOAT_STRIDE, x->x + (size_t) (row + r) * x->ldx + k0,
				   (size_t) n * sizeof(float));
		else
			memset(slab + r * FLOAT_STRIDE, 0, (size_t) n * sizeof(float));
	}
}

/* Chains of up to FLOAT_TILES tiles, m rows from row0 on, in n_panels panels. */
TARGET static void
float_tiles(const L3Matrix *w, const uint8_t *panels, int n_panels, const L3Act *x, int row0,
			int m, FloatWork *work)
{
	const int	n_tiles = (m + FLOAT_ROWS - 1) / FLOAT_ROWS;
	const size_t k_bytes = l3_float_k_bytes(w->type);

	memset(work->acc, 0, sizeof(work->acc[0]) * (size_t) n_tiles);
	if (m <= FLOAT_FEW_ROWS)
	{
		/* Read where they are, over the whole of k. */
		float_tile(w, panels, n_panels, x->x + (size_t) row0 * x->ldx, x->ldx, float_which(m),
				   0, w->n_in, NULL, work->acc[0]);
		return;
	}
	for (int k0 = 0; k0 < w->n_in; k0 += FLOAT_SLAB)
	{
		int			n = w->n_in - k0 < FLOAT_SLAB ? w->n_in - k0 : FLOAT_SLAB;
		/* the slab that follows: of these panels, or of the next */
		const uint8_t *ahead = k0 + FLOAT_SLAB < w->n_in ? panels + (size_t) (k0 + FLOAT_SLAB) * k_bytes :
			panels + n_panels * w->panel_bytes;

		for (int i = 0; i < n_tiles; i++)
		{
			int			row = i * FLOAT_ROWS;
			int			n_rows = m - row < FLOAT_ROWS ? m - row : FLOAT_ROWS;
			int			which = float_which(n_rows);

			copy_slab(work->slab, x, row0 + row, n_rows, float_rows[which], k0, n);
			float_tile(w, panels, n_panels, work->slab, FLOAT_STRIDE, which, k0, n, i == 0 ? ahead : NULL,
					   work->acc[i]);
		}
	}
}

TARGET void
l3_avx512_matmul_float(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m,
					   int m_prefill, float *out, size_t ldo, bool accumulate, void *scratch)
{
	const int	max_rows = FLOAT_TILES * FLOAT_ROWS;
	FloatWork	work;

	(void) m_prefill;			/* one arithmetic for both roles */
	(void) scratch;
	for (int first = panel0; first < panel1; first += FLOAT_PANELS)
	{
		int			n_panels = panel1 - first < FLOAT_PANELS ? panel1 - first : FLOAT_PANELS;

		for (int row0 = 0; row0 < m; row0 += max_rows)
		{
			int			n = m - row0 < max_rows ? m - row0 : max_rows;

			float_tiles(w, w->data + (size_t) first * w->panel_bytes, n_panels, x, row0, n, &work);
			for (int row = 0; row < n; row += FLOAT_ROWS)
			{
				int			n_rows = n - row < FLOAT_ROWS ? n - row : FLOAT_ROWS;
				int			rows_made = float_rows[float_which(n_rows)];

				for (int p = 0; p < n_panels; p++)
				{
					int			column = (first + p) * L3_PANEL;

					store_chains(work.acc[row / FLOAT_ROWS] + p * rows_made * L3_PANEL, n_rows,
								 w->n_out - column, out + (size_t) (row0 + row) * ldo + column,
								 ldo, accumulate);
				}
			}
		}
	}
}

/* ----------------------------------------------------------------
 *		Activations
 * ----------------------------------------------------------------
 */

/* One group of n <= 32 values; as generic_matmul.c, which explains it. */
TARGET static void
quantize_group(const float *x, int n, int8_t *q, float *scale, int32_t sum16[2])
{
	const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
	const __m512 limit = _mm512_set1_ps(127.0f);
	uint32_t	mask = n >= L3_ACT_GROUP ? 0xFFFFFFFF : (1u << n) - 1;
	__m512		v[2];
	__m512i		amax;
	float		d;

	v[0] = _mm512_maskz_loadu_ps((__mmask16) mask, x);
	v[1] = _mm512_maskz_loadu_ps((__mmask16) (mask >> 16), x + 16);
	amax = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v[0]), magnitude),
							_mm512_and_si512(_mm512_castps_si512(v[1]), magnitude));
	d = l3_bits_to_float(_mm512_reduce_max_epu32(amax)) / 127.0f;
	*scale = d;
	for (int h = 0; h < 2; h++)
	{
		__mmask16	live = d != 0 ? 0xFFFF : 0;
		__m512		t = _mm512_maskz_div_ps(live, v[h], _mm512_set1_ps(d));
		__m512i		rounded;

		t = _mm512_max_ps(_mm512_min_ps(t, limit), _mm512_set1_ps(-127.0f));
		/* A NaN scale makes NaN of the padding too, which stays 0. */
		t = _mm512_maskz_mov_ps((__mmask16) (mask >> (16 * h)), t);
		rounded = _mm512_cvtps_epi32(t);
		_mm_storeu_si128((__m128i *) (q + 16 * h), _mm512_cvtepi32_epi8(rounded));
		sum16[h] = _mm512_reduce_add_epi32(rounded);
	}
}

TARGET static void
quantize_rows(L3Act *act, int row0, int n)
{
	int			n_groups = (act->k + L3_ACT_GROUP - 1) / L3_ACT_GROUP;

	for (int row = row0; row < row0 + n; row++)
	{
		const float *x = act->x + (size_t) row * act->ldx;

		for (int g = 0; g < n_groups; g++)
		{
			size_t		at = l3_act_index(n_groups, row, g);

			quantize_group(x + g * L3_ACT_GROUP, act->k - g * L3_ACT_GROUP,
						   act->q + at * L3_ACT_GROUP, act->scale + at, act->sum16 + at * 2);
		}
	}
}

void
l3_kernels_avx512(L3Kernels *kernels)
{
	install_quant(kernels);
	kernels->matmul[L3_F32] = l3_avx512_matmul_float;
	kernels->matmul[L3_F16] = l3_avx512_matmul_float;
	kernels->matmul[L3_BF16] = l3_avx512_matmul_float;
	kernels->quantize_rows = quantize_rows;
	l3_avx512_vector(kernels);
	l3_avx512_attend(kernels);
}

#endif							/* __x86_64__ */
