/*-------------------------------------------------------------------------
 *
 * avx2.c
 *	  Products of matrices in float types in AVX2, and the level's table.
 *
 * Six rows by the 16 columns of a panel fill twelve registers with chains.
 * As in avx512.c, a slab of the rows' k is copied to where rows do not share
 * sets of the L1 cache, and serves several panels.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx2.h"

#define ROWS			6
#define SLAB			256		/* even: bfloat16 comes in pairs of k */
#define STRIDE			(SLAB + 16)
#define PANELS			4

/* 8 columns, from c on, of one k */
TARGET2 INLINE __m256
load_columns(L3PackedType type, const uint8_t *panel, size_t k, int c)
{
	__m256i		pair;

	if (type == L3_F32)
		return _mm256_load_ps((const float *) panel + k * L3_PANEL + c);
	if (type == L3_F16)
		return load_halves8(panel + (k * L3_PANEL + c) * 2);
	pair = _mm256_load_si256((const __m256i *) (panel + (k / 2 * L3_PANEL + c) * 4));
	if (k % 2)
		return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32((int) 0xFFFF0000)));
	return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
}

/*
 * Extend the chains of R rows in one panel by n values of k from k0 (even) on.
 * With fetch the panel's next slab, which the hardware does not expect after
 * those of other panels, is fetched from memory.
 */
TARGET2 INLINE void
float_chains(const L3PackedType type, const int R, const uint8_t *panel, const float *x,
			 size_t k0, int n, bool fetch, float *acc)
{
	const size_t k_bytes = l3_float_k_bytes(type);
	__m256		chain[ROWS][2];
	int			k;

	UNROLL
	for (int i = 0; i < 2 * R; i++)
		chain[i / 2][i % 2] = _mm256_load_ps(acc + i * 8);
	/* By twos, so that the place in a pair is known to the compiler. */
	for (k = 0; k < n; k += 2)
	{
		if (fetch)
			PREFETCH_LINES(panel + (k0 + SLAB + (size_t) k) * k_bytes, 2 * k_bytes, _MM_HINT_T1);
		UNROLL
		for (int t = 0; t < 2; t++)
		{
			__m256		w[2];

			if (k + t >= n)
				break;
			w[0] = load_columns(type, panel, k0 + k + t, 0);
			w[1] = load_columns(type, panel, k0 + k + t, 8);
			UNROLL
			for (int r = 0; r < R; r++)
			{
				__m256		v = _mm256_set1_ps(x[r * STRIDE + k + t]);

				chain[r][0] = _mm256_fmadd_ps(w[0], v, chain[r][0]);
				chain[r][1] = _mm256_fmadd_ps(w[1], v, chain[r][1]);
			}
		}
	}
	UNROLL
	for (int i = 0; i < 2 * R; i++)
		_mm256_store_ps(acc + i * 8, chain[i / 2][i % 2]);
}

typedef void (*FloatFn) (const uint8_t *panel, const float *x, size_t k0, int n, bool fetch,
						 float *acc);

#define FLOAT_FN(type, R) \
	TARGET2 static void \
	chains_##type##_##R(const uint8_t *panel, const float *x, size_t k0, int n, bool fetch, \
						float *acc) \
	{ \
		float_chains(L3_##type, R, panel, x, k0, n, fetch, acc); \
	}
#define FLOAT_FNS(type) \
	FLOAT_FN(type, 1) FLOAT_FN(type, 2) FLOAT_FN(type, 3) FLOAT_FN(type, 4) \
	FLOAT_FN(type, 5) FLOAT_FN(type, 6)
#define FLOAT_TABLE(type) \
	[L3_##type] = {NULL, chains_##type##_1, chains_##type##_2, chains_##type##_3, \
		chains_##type##_4, chains_##type##_5, chains_##type##_6}

FLOAT_FNS(F32)
FLOAT_FNS(F16)
FLOAT_FNS(BF16)

/* By type and number of rows. */
static const FloatFn float_fns[3][ROWS + 1] = {
	FLOAT_TABLE(F32),
	FLOAT_TABLE(F16),
	FLOAT_TABLE(BF16),
};

/* Up to ROWS rows from row on, by up to PANELS panels. */
static void
float_tile(const L3Matrix *w, const uint8_t *panels, int n_panels, const L3Act *x, int row,
		   int n_rows, float acc[PANELS][ROWS * L3_PANEL])
{
	float		slab[ROWS * STRIDE];

	memset(acc, 0, sizeof(float) * PANELS * ROWS * L3_PANEL);
	for (int k0 = 0; k0 < w->n_in; k0 += SLAB)
	{
		int			n = w->n_in - k0 < SLAB ? w->n_in - k0 : SLAB;

		for (int r = 0; r < n_rows; r++)
			memcpy(slab + r * STRIDE, x->x + (size_t) (row + r) * x->ldx + k0,
				   (size_t) n * sizeof(float));
		for (int p = 0; p < n_panels; p++)
			float_fns[w->type][n_rows] (panels + p * w->panel_bytes, slab, (size_t) k0, n, row == 0,
										acc[p]);
	}
}

TARGET2 static void
matmul_float(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
			 float *out, size_t ldo, bool accumulate, void *scratch)
{
	float		acc[PANELS][ROWS * L3_PANEL] __attribute__((aligned(64)));

	(void) m_prefill;			/* one arithmetic for both roles */
	(void) scratch;
	for (int first = panel0; first < panel1; first += PANELS)
	{
		int			n_panels = panel1 - first < PANELS ? panel1 - first : PANELS;

		for (int row = 0; row < m; row += ROWS)
		{
			int			n_rows = m - row < ROWS ? m - row : ROWS;

			float_tile(w, w->data + (size_t) first * w->panel_bytes, n_panels, x, row, n_rows, acc);
			for (int p = 0; p < n_panels; p++)
			{
				int			column = (first + p) * L3_PANEL;
				int			n_columns = w->n_out - column < L3_PANEL ? w->n_out - column : L3_PANEL;

				store_chains(acc[p], n_rows, n_columns, out + (size_t) row * ldo + column, ldo, accumulate);
			}
		}
	}
}

void
l3_kernels_avx2(L3Kernels *kernels)
{
	kernels->matmul[L3_F32] = matmul_float;
	kernels->matmul[L3_F16] = matmul_float;
	kernels->matmul[L3_BF16] = matmul_float;
	l3_avx2_quant(kernels);
	l3_avx2_vector(kernels);
	l3_avx2_attend(kernels);
}

#endif							/* __x86_64__ */
