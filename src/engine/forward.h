/*-------------------------------------------------------------------------
 *
 * forward.h
 *	  One forward pass of the transformer over a mixed batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_FORWARD_H
#define L3_FORWARD_H

#include <time.h>

#include "kv.h"
#include "model.h"
#include "pool.h"
#include "workspace.h"

static inline int32_t
l3_smaller(int32_t a, int32_t b)
{
	return a < b ? a : b;
}

/* Tasks, or other parts, of up to per_task each. */
static inline int
l3_tasks_for(int n, int per_task)
{
	return (n + per_task - 1) / per_task;
}

/* A clock that only goes forward, in seconds: for pace and statistics, no result. */
static inline double
l3_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/*
 * Consecutive positions of one sequence (or of one label path) in a step.
 * Spans of prompt tokens come first, then spans of generated tokens, and each
 * span's rows follow those of the span before.
 */
typedef struct L3Span
{
	const int32_t *tokens;		/* (n) */
	const int32_t *blocks;		/* KV blocks of positions 0 .. position + n - 1 */
	int32_t		position;		/* of tokens[0] */
	int32_t		n;
	int32_t		row;			/* of tokens[0], in the step */
	int32_t		first_kept;		/* forward's: its rows in the running layer, */
	int32_t		n_kept;			/* of the last one only wanted rows */
	int32_t		first_task;		/* attention's: its first task, */
	int32_t		n_quads;		/* the fours of rows in its tasks; 0: another's have them, */
	int32_t		next_together;	/* the next span that is in its tasks, or -1, */
	int32_t		n_shared;		/* and the positions that all of these begin with */
	void	   *owner;			/* the caller's */
	int32_t		part;			/* the caller's */
} L3Span;

/* A copy of a KV block, made before the step's first layer (a fork). */
typedef struct L3KvCopy
{
	int32_t		to;
	int32_t		from;
} L3KvCopy;

/* What a row's final state is wanted for. */
typedef struct L3OutRow
{
	int32_t		row;
	int32_t		span;			/* that it belongs to */
} L3OutRow;

typedef struct L3Batch
{
	L3Span	   *spans;
	int32_t		n_spans;
	int32_t		n_rows;
	int32_t		n_prefill;		/* rows of prompt tokens, the first ones */
	L3KvCopy   *copies;
	int32_t		n_copies;
	L3OutRow   *logits_rows;	/* rows whose logits are wanted, rising */
	int32_t		n_logits_rows;
	L3OutRow   *hidden_rows;	/* rows whose normed state is wanted, rising */
	int32_t		n_hidden_rows;

	/*
	 * Take the logits (n_vocab, writable) of logits_rows[i].  Called by
	 * compute threads, each row by one.
	 */
	void		(*on_logits) (void *ctx, int i, float *logits, int thread);
	void	   *ctx;
} L3Batch;

/* Measured speed of one kind of phase, to cut long ones. */
typedef struct L3Pace
{
	double		work_per_second;
} L3Pace;

/* What a step runs with; one for an engine. */
typedef struct L3Runner
{
	L3Pool	   *pool;
	const L3Kernels *kernels;
	L3Workspace ws;
	void		(*poll) (void *ctx);
	void	   *poll_ctx;
	const int  *n_live;			/* sequences of the step not cancelled yet */
	L3Pace		matmul_pace;
	L3Pace		attend_pace;
} L3Runner;

/*
 * Run the batch.  False when poll cancelled all that was in it; then nothing
 * it computed is of use.  After true, row r's normed state of a hidden row
 * stands in runner->ws.normed.
 */
bool		l3_forward(L3Runner *runner, const L3Weights *weights, const L3KvPool *kv,
					   const L3Batch *batch);

/* Scratch that the matmuls of a model need, for each thread. */
size_t		l3_forward_scratch_bytes(const L3Kernels *kernels, const L3Weights *weights, int rows);

#endif							/* L3_FORWARD_H */
