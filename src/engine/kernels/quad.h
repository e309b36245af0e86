/*-------------------------------------------------------------------------
 *
 * quad.h
 *	  Attention by four query rows at a time, for the vector instruction sets.
 *
 * The rows of a call are the heads that share a KV head, or consecutive tokens
 * of a prompt.  Four of them share each loaded key and value; where fewer
 * are left the last one is repeated, and its copies are not stored.  All
 * quads of a call take a split of the positions before any takes the next
 * one, so that only the first reads it from outside the L1 cache.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_QUAD_H
#define L3_QUAD_H

#include <math.h>

#include "kernels/kernels.h"

#define QUAD		4			/* rows that go together */
#define MAX_QUADS	(L3_ATTN_MAX_ROWS / QUAD)

/* Four rows of one call, while they are worked on. */
typedef struct Quad
{
	const float *q[QUAD];
	float	   *out[QUAD];
	int			n_keys[QUAD];
	int			n_rows;			/* distinct ones */
	float		max[QUAD];
	float		sum[QUAD];
	/* probabilities, not normalised, of a split's positions */
	float		p[QUAD][L3_ATTN_SPLIT] __attribute__((aligned(64)));
} Quad;

/* Attention of n_quads quads, whose longest row sees n_keys positions. */
typedef void (*AttendQuadsFn) (const L3AttendArgs *args, Quad *quads, int n_quads, int n_keys);

/* fns[kv_type][0] takes a single row, [1] quads. */
static inline void
attend_by_quads(const L3AttendArgs *args, const AttendQuadsFn fns[L3_N_KV_TYPES][2])
{
	Quad		quads[MAX_QUADS];
	int			n_quads = (args->n_rows + QUAD - 1) / QUAD;
	int			n_keys = 0;

	for (int row = 0; row < args->n_rows; row++)
		n_keys = args->n_keys[row] > n_keys ? args->n_keys[row] : n_keys;
	for (int i = 0; i < n_quads; i++)
	{
		Quad	   *quad = &quads[i];
		int			row = i * QUAD;

		quad->n_rows = args->n_rows - row < QUAD ? args->n_rows - row : QUAD;
		for (int r = 0; r < QUAD; r++)
		{
			int			from = row + (r < quad->n_rows ? r : quad->n_rows - 1);

			quad->q[r] = args->q[from];
			quad->out[r] = args->out[from];
			quad->n_keys[r] = args->n_keys[from];
			quad->max[r] = -INFINITY;
			quad->sum[r] = 0;
		}
	}
	fns[args->kv_type][args->n_rows > 1] (args, quads, n_quads, n_keys);
}

/* How many of the split's positions, which begin at first, row r of the quad sees. */
static inline int
seen_in_split(const Quad *quad, int r, int first)
{
	int			n = quad->n_keys[r] - first;

	return n < 0 ? 0 : n < L3_ATTN_SPLIT ? n : L3_ATTN_SPLIT;
}

#endif							/* L3_QUAD_H */
