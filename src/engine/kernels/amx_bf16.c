/*-------------------------------------------------------------------------
 *
 * amx_bf16.c
 *	  Products of BF16 matrices with AMX.
 *
 * TDPBF16PS multiplies bfloat16 with bfloat16.  The weights are; an activation is
 * taken as two of them (amx_bf16.h): an error of 2^-17 at most, which with L3_AMX_BF16_MIN_WIDTH products
 * to a sum is less than what their additions in float may lose.  Each pair of
 * instructions adds the products of 32 k, the high parts first; the order within
 * one is the CPU's, the same for every row.
 *
 * Two tiles of rows by two panels keep all eight tiles busy.  Activations are
 * split by slabs of k into the L1 cache; a task's panels stay in the L2 cache.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/amx.h"

#ifdef L3_HAVE_AMX

#include "kernels/amx_bf16.h"

#define STEPS		8			/* of a slab */
#define PANELS		16			/* whose chains wait in memory together */
#define PAIR		2			/* tiles of rows, panels: worked on together */

/* What a thread works on. */
typedef struct Work
{
	/* a slab of activations: high parts, low parts */
	uint16_t	x[PAIR][STEPS][2][L3_ACT_TILE * STEP];
	float		acc[PANELS][PAIR][L3_ACT_TILE * L3_PANEL];
} Work;

_Static_assert(sizeof(Work) <= L3_SCRATCH_SLAB, "it fits the bound on scratch");

#define STEP_BYTES	(STEP * L3_PANEL * sizeof(uint16_t))	/* of a panel */

/* ----------------------------------------------------------------
 *		Activations
 * ----------------------------------------------------------------
 */

/* n_steps steps from k0 on of up to two tiles of rows from row0 on; zero past m. */
TARGET_BF16 static void
split_slab(const L3Act *act, int row0, int m, int n_rows, int k0, int n_steps, Work *work)
{
	for (int r = 0; r < n_rows; r++)
		for (int s = 0; s < n_steps; s++)
		{
			uint16_t   *high = &work->x[r / L3_ACT_TILE][s][0][r % L3_ACT_TILE * STEP];
			uint16_t   *low = &work->x[r / L3_ACT_TILE][s][1][r % L3_ACT_TILE * STEP];

			if (row0 + r < m)
				split_step(act->x + (size_t) (row0 + r) * act->ldx + k0 + s * STEP, high, low);
			else
			{
				memset(high, 0, STEP * sizeof(uint16_t));
				memset(low, 0, STEP * sizeof(uint16_t));
			}
		}
}

/* ----------------------------------------------------------------
 *		Products
 * ----------------------------------------------------------------
 */

/* Of one part (0 high, 1 low) of a step. */
#define MULTIPLY_PART(part) \
	do { \
		TILE_LOAD(4, work->x[0][s][part], STEP * sizeof(uint16_t)); \
		TILE_DOT_BF16(0, 4, 6); \
		if (two_panels) \
			TILE_DOT_BF16(1, 4, 7); \
		if (two_tiles) \
		{ \
			TILE_LOAD(5, work->x[1][s][part], STEP * sizeof(uint16_t)); \
			TILE_DOT_BF16(2, 5, 6); \
			if (two_panels) \
				TILE_DOT_BF16(3, 5, 7); \
		} \
	} while (0)

/* TILE_LOAD or TILE_STORE of the chains of panel p and the one after it. */
#define MOVE_CHAINS(move) \
	do { \
		move(0, work->acc[p][0], L3_TILE_ROW_BYTES); \
		if (two_panels) \
			move(1, work->acc[p + 1][0], L3_TILE_ROW_BYTES); \
		if (two_tiles) \
			move(2, work->acc[p][1], L3_TILE_ROW_BYTES); \
		if (two_tiles && two_panels) \
			move(3, work->acc[p + 1][1], L3_TILE_ROW_BYTES); \
	} while (0)

/*
 * Extend the chains of panels p and p + 1 by a slab of n_steps; weights is p's
 * slab.  Pieces of panels are no stream: the next pair's are fetched beside.
 */
INLINE void
multiply_pair(bool two_tiles, bool two_panels, Work *work, int p, const uint8_t *weights,
			  size_t panel_bytes, int n_steps, const uint8_t *next)
{
	MOVE_CHAINS(TILE_LOAD);
	for (int s = 0; s < n_steps; s++, weights += STEP_BYTES)
	{
		TILE_LOAD(6, weights, L3_TILE_ROW_BYTES);
		if (two_panels)
			TILE_LOAD(7, weights + panel_bytes, L3_TILE_ROW_BYTES);
		if (next != NULL)
		{
			PREFETCH_LINES(next, STEP_BYTES, _MM_HINT_T0);
			PREFETCH_LINES(next + panel_bytes, STEP_BYTES, _MM_HINT_T0);
			next += STEP_BYTES;
		}
		MULTIPLY_PART(0);
		MULTIPLY_PART(1);
	}
	MOVE_CHAINS(TILE_STORE);
}

static void
multiply_slab(Work *work, int n_tiles, int n_panels, const uint8_t *weights, size_t panel_bytes,
			  int n_steps, const uint8_t *after)
{
	for (int p = 0; p < n_panels; p += PAIR, weights += PAIR * panel_bytes)
	{
		bool		two = p + 1 < n_panels;
		const uint8_t *next = p + PAIR < n_panels ? weights + PAIR * panel_bytes : after;

		if (n_tiles == 2 && two)
			multiply_pair(true, true, work, p, weights, panel_bytes, n_steps, next);
		else if (n_tiles == 2)
			multiply_pair(true, false, work, p, weights, panel_bytes, n_steps, next);
		else if (two)
			multiply_pair(false, true, work, p, weights, panel_bytes, n_steps, next);
		else
			multiply_pair(false, false, work, p, weights, panel_bytes, n_steps, next);
	}
}

/* Sizes of the tiles: 0 to 3 chains, [tile of rows][panel]; 4, 5 activations; 6, 7 weights. */
static void
configure_tiles(int rows)
{
	L3TileConfig config = l3_full_tiles(rows);

	config.rows[6] = config.rows[7] = STEP / 2;
	l3_tile_configure(&config);
}

TARGET512 static void
matmul_bf16(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
			float *out, size_t ldo, bool accumulate, void *scratch)
{
	const int	n_steps = w->n_in / STEP;
	Work	   *work = scratch;

	if (w->n_in < L3_AMX_BF16_MIN_WIDTH || w->n_in % STEP != 0)
	{
		l3_avx512_matmul_float(w, panel0, panel1, x, m, m_prefill, out, ldo, accumulate, scratch);
		return;
	}
	configure_tiles(m < L3_ACT_TILE ? m : L3_ACT_TILE);
	for (int first = panel0; first < panel1; first += PANELS)
	{
		int			n_panels = panel1 - first < PANELS ? panel1 - first : PANELS;
		const uint8_t *weights = w->data + (size_t) first * w->panel_bytes;

		for (int row0 = 0; row0 < m; row0 += PAIR * L3_ACT_TILE)
		{
			int			n_tiles = m - row0 > L3_ACT_TILE ? 2 : 1;

			memset(work->acc, 0, sizeof(work->acc[0]) * (size_t) n_panels);
			for (int s = 0; s < n_steps; s += STEPS)
			{
				int			n = n_steps - s < STEPS ? n_steps - s : STEPS;
				const uint8_t *slab = weights + (size_t) s * STEP_BYTES;

				split_slab(x, row0, m, m < L3_ACT_TILE ? m : n_tiles * L3_ACT_TILE, s * STEP, n, work);
				multiply_slab(work, n_tiles, n_panels, slab, w->panel_bytes, n,
							  row0 == 0 ? slab + STEPS * STEP_BYTES : NULL);
			}
			for (int p = 0; p < n_panels; p++)
				for (int t = 0; t < n_tiles; t++)
				{
					int			row = row0 + t * L3_ACT_TILE;
					int			column = (first + p) * L3_PANEL;

					store_chains(work->acc[p][t], m - row < L3_ACT_TILE ? m - row : L3_ACT_TILE,
								 w->n_out - column, out + (size_t) row * ldo + column, ldo, accumulate);
				}
		}
	}
	l3_tile_release();
}

size_t
l3_amx_bf16_scratch_bytes(void)
{
	return sizeof(Work);
}

void
l3_amx_bf16(L3Kernels *kernels)
{
	kernels->matmul[L3_BF16] = matmul_bf16;
}

#endif							/* L3_HAVE_AMX */
