/*-------------------------------------------------------------------------
 *
 * blas.c
 *	  Prompt rows through OpenBLAS, for CPUs that have no vector code of ours.
 *
 * BLAS promises nothing about the order of its additions, and indeed a row of
 * an SGEMM may get other bits at another place of the matrix: with OpenBLAS
 * 0.3.21 on its Haswell and Zen kernels, equal rows come out different in
 * products of 12, 24, 32 or more rows, and with the operands the other way
 * round in those of any size.  So every call has one shape: the 16 outputs of
 * a panel by 16 rows (missing ones are zeros) by K, rows as the second
 * operand, for which each of the kernels tried (Haswell, Zen, SkylakeX,
 * Sandybridge, Nehalem, Core2, Prescott, Barcelona, Atom) treats all rows
 * alike.  That property is tried out before the functions are used; an
 * OpenBLAS without it is left aside.  A larger shape would be faster by a
 * quarter, but then a result would hang on which panels come together.
 *
 * Weights are unpacked to float panel by panel and multiplied with the float
 * activations, not with their int8 form.  Generated rows take the portable
 * kernels.
 *
 * The caller sees to it that OpenBLAS runs one thread (OPENBLAS_NUM_THREADS=1
 * when it is loaded): work is split by us.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/generic.h"

#include <stdlib.h>

#include <cblas.h>

#define N			L3_PANEL
#define ROWS		L3_ACT_TILE

/* product[c][r] = sum over k of panel[k][c] * x[r][k] */
static void
multiply_tile(const float *panel, const float *x, int ldx, int k, float product[N][ROWS])
{
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasTrans, N, ROWS, k,
				1.0f, panel, N, x, ldx, 0.0f, product[0], ROWS);
}

static size_t
matmul_scratch_bytes(const L3Matrix *w, int m_max)
{
	(void) m_max;
	/* a panel as floats, and a tile of rows */
	return (size_t) w->n_in * L3_SCRATCH_INPUT;
}

/* Fewer than ROWS rows, copied to tile (ROWS, k) above rows of zeros. */
static void
copy_tile(const L3Act *x, int row, int n_rows, int k, float *tile)
{
	memset(tile, 0, (size_t) ROWS * k * sizeof(float));
	for (int r = 0; r < n_rows; r++)
		memcpy(tile + (size_t) r * k, x->x + (size_t) (row + r) * x->ldx,
			   (size_t) k * sizeof(float));
}

static void
matmul(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
	   float *out, size_t ldo, bool accumulate, void *scratch)
{
	float	   *panel = scratch;
	float	   *tile = panel + (size_t) w->n_in * N;
	int			n_ragged = m_prefill % ROWS;

	if (n_ragged > 0)
		copy_tile(x, m_prefill - n_ragged, n_ragged, w->n_in, tile);

	for (int p = panel0; p < panel1 && m_prefill > 0; p++)
	{
		int			n_columns = w->n_out - p * N < N ? w->n_out - p * N : N;

		l3_unpack_floats(w, w->data + (size_t) p * w->panel_bytes, 0, w->n_in, panel);
		for (int row = 0; row < m_prefill; row += ROWS)
		{
			float		product[N][ROWS];
			int			n_rows = m_prefill - row < ROWS ? m_prefill - row : ROWS;

			if (n_rows == ROWS)
				multiply_tile(panel, x->x + (size_t) row * x->ldx, x->ldx, w->n_in, product);
			else
				multiply_tile(panel, tile, w->n_in, w->n_in, product);
			for (int r = 0; r < n_rows; r++)
			{
				float	   *dst = out + (size_t) (row + r) * ldo + (size_t) p * N;

				for (int c = 0; c < n_columns; c++)
					dst[c] = accumulate ? dst[c] + product[c][r] : product[c][r];
			}
		}
	}
	l3_generic_matmul_rows(w, panel0, panel1, x, m_prefill, m, out, ldo, accumulate);
}

/* Does this OpenBLAS give equal rows equal results, wherever they stand? */
static bool
rows_alike(void)
{
	static const int depths[] = {1, 7, 64, 515, 1100};
	int			max_k = 1100;
	float	   *panel = malloc(sizeof(float) * (size_t) max_k * N);
	float	   *x = malloc(sizeof(float) * (size_t) max_k * ROWS);
	bool		alike = panel != NULL && x != NULL;

	for (size_t i = 0; alike && i < sizeof(depths) / sizeof(depths[0]); i++)
	{
		float		product[N][ROWS];
		int			k = depths[i];

		/* Values whose sum depends on the order of the additions. */
		for (int j = 0; j < k * N; j++)
			panel[j] = l3_expf((float) (j * 37 % 101) / 20.0f - 3.0f) - 1.0f;
		for (int j = 0; j < k; j++)
			x[j] = l3_expf((float) (j * 53 % 97) / 20.0f - 3.0f) - 1.0f;
		for (int r = 1; r < ROWS; r++)
			memcpy(x + (size_t) r * k, x, (size_t) k * sizeof(float));
		multiply_tile(panel, x, k, k, product);
		for (int c = 0; c < N; c++)
			for (int r = 1; r < ROWS; r++)
				alike = alike && memcmp(&product[c][r], &product[c][0], sizeof(float)) == 0;
	}
	free(x);
	free(panel);
	return alike;
}

void
l3_kernels_blas(L3Kernels *kernels)
{
	if (!rows_alike())
	{
		kernels->features &= ~L3_CPU_BLAS;
		return;
	}
	for (int type = 0; type < L3_N_PACKED_TYPES; type++)
		kernels->matmul[type] = matmul;
	kernels->matmul_scratch_bytes = matmul_scratch_bytes;
}
