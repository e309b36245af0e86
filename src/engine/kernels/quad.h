/*-------------------------------------------------------------------------
 *
 * quad.h
 *	  Attention by four query rows at a time, for the vector instruction sets.
 *
 * The rows of a call are the heads that share a KV head, or consecutive tokens
 * of a prompt.  Four of them share each converted key and value; where fewer
 * are left the last one is repeated, and its copies are not stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_QUAD_H
#define L3_QUAD_H

#include <math.h>

#include "kernels/kernels.h"

#define QUAD		4			/* rows that go together */

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

typedef void (*AttendQuadFn) (const L3AttendArgs *args, Quad *quad);

/* fns[kv_type][0] takes a single row, [1] up to four. */
static inline void
attend_by_quads(const L3AttendArgs *args, const AttendQuadFn fns[L3_N_KV_TYPES][2])
{
	for (int row = 0; row < args->n_rows; row += QUAD)
	{
		Quad		quad;

		quad.n_rows = args->n_rows - row < QUAD ? args->n_rows - row : QUAD;
		for (int r = 0; r < QUAD; r++)
		{
			int			from = row + (r < quad.n_rows ? r : quad.n_rows - 1);

			quad.q[r] = args->q[from];
			quad.out[r] = args->out[from];
			quad.n_keys[r] = args->n_keys[from];
			quad.max[r] = -INFINITY;
			quad.sum[r] = 0;
		}
		fns[args->kv_type][quad.n_rows > 1] (args, &quad);
	}
}

#endif							/* L3_QUAD_H */
