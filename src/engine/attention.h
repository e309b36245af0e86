/*-------------------------------------------------------------------------
 *
 * attention.h
 *	  The attention of a step, cut into tasks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_ATTENTION_H
#define L3_ATTENTION_H

#include "forward.h"

/* What the tasks of a step's attention see. */
typedef struct L3Attention
{
	const L3Kernels *kernels;
	const L3Hparams *hp;
	const L3Workspace *ws;
	const L3KvPool *kv;
	const L3Batch *batch;
	int			n_tasks;		/* of a layer; l3_attention_plan's */
} L3Attention;

/*
 * Say which rows go into which task, after the spans' kept rows have changed.
 * What is computed does not depend on it.
 */
void		l3_attention_plan(L3Attention *attention, int n_threads);

/*
 * attended = softmax(q k / sqrt(head_dim)) v, for the rows and the KV head of a
 * task; q is rotated and scaled, and k and v of all rows are in their blocks.
 */
void		l3_attention_task(const L3Attention *attention, uint32_t layer, int task, int thread);

#endif							/* L3_ATTENTION_H */
