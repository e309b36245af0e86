/*-------------------------------------------------------------------------
 *
 * quad.h
 *	  Attention by four query rows at a time, for the vector instruction sets.
 *
 * The rows of a call are the heads that share a KV head, or consecutive tokens
 * of a prompt, of one sequence or of several that begin alike.  Four of one
 * sequence share each loaded key and value; where fewer are left the last one is
 * repeated, and its copies are not stored.  All quads of a call take a split of
 * the positions that they have in common before any takes the next one, so that
 * only the first reads it from outside the L1 cache.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_QUAD_H
#define L3_QUAD_H

#include <math.h>

#include "kernels/kernels.h"

#define QUAD		L3_ATTN_QUAD
#define MAX_QUADS	(L3_ATTN_MAX_ROWS / QUAD)

/* Four rows of one part of a call, while they are worked on. */
typedef struct Quad
{
	const L3AttendPart *part;
	const float *q[QUAD];
	float	   *out[QUAD];
	int			n_keys[QUAD];
	int			n_rows;			/* distinct ones */
	int			longest;		/* of n_keys */
	float		max[QUAD];
	float		sum[QUAD];
	/* (QUAD, L3_ATTN_SPLIT): scores of a split's positions, then probabilities, not normalised */
	float		(*p)[L3_ATTN_SPLIT];
} Quad;

/* A quad of up to four rows of a part from row on. */
static inline void
start_quad(const L3AttendArgs *args, const L3AttendPart *part, int row, int n_rows, Quad *quad)
{
	quad->part = part;
	quad->n_rows = n_rows < QUAD ? n_rows : QUAD;
	quad->longest = 0;
	for (int r = 0; r < QUAD; r++)
	{
		int			from = row + (r < quad->n_rows ? r : quad->n_rows - 1);

		quad->q[r] = args->q[from];
		quad->out[r] = args->out[from];
		quad->n_keys[r] = args->n_keys[from];
		quad->longest = quad->n_keys[r] > quad->longest ? quad->n_keys[r] : quad->longest;
		quad->max[r] = -INFINITY;
		quad->sum[r] = 0;
	}
}

/*
 * The quads of a call, row r of quad i with row QUAD * i + r of p.  Returns how
 * many; *n_together: the positions from 0 on that they have in common.
 */
static inline int
form_quads(const L3AttendArgs *args, float p[L3_ATTN_MAX_ROWS][L3_ATTN_SPLIT], Quad quads[MAX_QUADS],
		   int *n_together)
{
	int			n_quads = 0;
	int			longest = 0;
	int			row = 0;

	for (const L3AttendPart *part = args->parts; part < args->parts + args->n_parts; part++)
	{
		for (int done = 0; done < part->n_rows; done += QUAD, n_quads++)
		{
			Quad	   *quad = &quads[n_quads];

			start_quad(args, part, row + done, part->n_rows - done, quad);
			quad->p = &p[n_quads * QUAD];
			longest = quad->longest > longest ? quad->longest : longest;
		}
		row += part->n_rows;
	}
	*n_together = args->n_parts > 1 ? args->n_shared : longest;
	return n_quads;
}

/* How many of the split's positions, which begin at first, row r of the quad sees. */
static inline int
seen_in_split(const Quad *quad, int r, int first)
{
	int			n = quad->n_keys[r] - first;

	return n < 0 ? 0 : n < L3_ATTN_SPLIT ? n : L3_ATTN_SPLIT;
}

/* The rows of one quad in a split of L3_ATTN_SPLIT positions. */
typedef struct SplitRows
{
	int			n_seen[QUAD];
	int			n_common;		/* positions that all rows see */
	float		shrink[QUAD];	/* factors for what was summed before */
} SplitRows;

/* What the first R rows see of the split that begins at first. */
static inline void
see_split(const int R, const Quad *quad, int first, SplitRows *rows)
{
	rows->n_common = L3_ATTN_SPLIT;
	for (int r = 0; r < R; r++)
	{
		rows->n_seen[r] = seen_in_split(quad, r, first);
		rows->n_common = rows->n_seen[r] < rows->n_common ? rows->n_seen[r] : rows->n_common;
	}
}

/* Attention of n_quads quads, which take the first n_together positions together. */
typedef void (*AttendQuadsFn) (const L3AttendArgs *args, Quad *quads, int n_quads, int n_together);

/*
 * attend() of an instruction set, by its attend_rows(type, rows of a quad, are
 * there several quads, ...), which is made for each type of the cache.
 */
#define ATTEND_TYPE(target, type) \
	target static void \
	attend_##type##_1(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together) \
	{ \
		attend_rows(L3_KV_##type, 1, false, args, quads, n_quads, n_together); \
	} \
	target static void \
	attend_##type##_4(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together) \
	{ \
		if (n_quads > 1) \
			attend_rows(L3_KV_##type, QUAD, true, args, quads, n_quads, n_together); \
		else \
			attend_rows(L3_KV_##type, QUAD, false, args, quads, n_quads, n_together); \
	}
#define ATTEND(target) \
	ATTEND_TYPE(target, F16) \
	ATTEND_TYPE(target, F32) \
	ATTEND_TYPE(target, Q8_0) \
	static void \
	attend(const L3AttendArgs *args) \
	{ \
		static const AttendQuadsFn fns[L3_N_KV_TYPES][2] = { \
			[L3_KV_F16] = {attend_F16_1, attend_F16_4}, \
			[L3_KV_F32] = {attend_F32_1, attend_F32_4}, \
			[L3_KV_Q8_0] = {attend_Q8_0_1, attend_Q8_0_4} \
		}; \
		float		p[L3_ATTN_MAX_ROWS][L3_ATTN_SPLIT] __attribute__((aligned(64))); \
		Quad		quads[MAX_QUADS]; \
		int			n_together; \
		int			n_quads = form_quads(args, p, quads, &n_together); \
		\
		fns[args->kv_type][args->n_rows > 1] (args, quads, n_quads, n_together); \
	}

#endif							/* L3_QUAD_H */
