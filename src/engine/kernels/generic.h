/*-------------------------------------------------------------------------
 *
 * generic.h
 *	  The portable kernels, shared by the files that fill the table and by
 *	  the vector kernels, which take over only what they do better.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_GENERIC_H
#define L3_GENERIC_H

#include "half.h"
#include "kernels/kernels.h"
#include "kernels/mathc.h"
#include "kernels/quants.h"

/* Index of (row, group) in act->scale; times 32 in act->q, times 2 in sum16. */
static inline size_t
l3_act_index(int n_groups, int row, int g)
{
	return ((size_t) (row / L3_ACT_TILE) * n_groups + g) * L3_ACT_TILE + row % L3_ACT_TILE;
}

/* generic_matmul.c */
void		l3_generic_quantize_rows(L3Act *act, int row0, int n);
/* As L3Kernels.matmul, for rows row_begin .. row_end - 1. */
void		l3_generic_matmul_rows(const L3Matrix *w, int panel0, int panel1,
								   const L3Act *x, int row_begin, int row_end,
								   float *out, size_t ldo, bool accumulate);
void		l3_generic_matmul(const L3Matrix *w, int panel0, int panel1,
							  const L3Act *x, int m, int m_prefill,
							  float *out, size_t ldo, bool accumulate, void *scratch);
size_t		l3_generic_matmul_scratch_bytes(const L3Matrix *w, int m_max);
void		l3_generic_matrix_row(const L3Matrix *w, int n, float *dst);

/* generic.c */
void		l3_generic_kv_store(L3KvType type, void *k_block, void *v_block, int slot,
								const float *key, int head_dim,
								const float *value, int value_dim);

#endif							/* L3_GENERIC_H */
