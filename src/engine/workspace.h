/*-------------------------------------------------------------------------
 *
 * workspace.h
 *	  The buffers of a forward step, laid out once for the largest step.
 *
 * A step allocates nothing: all its buffers are parts of one run of memory
 * whose size follows from the model's shape and the engine's options.  The
 * same function lays the buffers out and predicts their size for plans, so
 * the two cannot drift apart.
 *
 * This file needs no kernels: backends use it for plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_WORKSPACE_H
#define L3_WORKSPACE_H

#include "engine.h"

/*
 * Rows whose logits exist at one time.  More rows are done in groups, each
 * reading the output matrix once; 32 rows amortise that well.
 */
#define L3_LOGITS_ROWS		32

/*
 * Prompt rows that a step can always take beside a full set of decoding
 * sequences, so that prompts never starve.
 */
#define L3_MIN_PREFILL_ROWS	16

/* A token and its logit, for the sampler. */
typedef struct L3Candidate
{
	float		logit;
	int32_t		id;
} L3Candidate;

typedef struct L3Workspace
{
	void	   *memory;			/* all of the below; NULL when only measured */
	size_t		bytes;			/* their sum */

	int			max_rows;		/* rows of a step, a multiple of 16 */
	int			max_blocks;		/* KV blocks of one sequence */
	size_t		scratch_bytes;	/* of each thread */

	/* row r of the step; kv_dim stands for n_kv_heads times a head's width */
	int32_t    *row_tokens;		/* (max_rows) */
	int32_t    *row_positions;	/* (max_rows) */
	int32_t    *row_places;		/* (max_rows) where in x the row's state stands */
	float	   *x;				/* (max_rows, n_embd) residual stream */
	float	   *normed;			/* (max_rows, n_embd) */
	float	   *q;				/* (max_rows, n_heads * head_dim) */
	float	   *k;				/* (max_rows, n_kv_heads * head_dim) */
	float	   *v;				/* (max_rows, n_kv_heads * value_dim) */
	float	   *attended;		/* (max_rows, n_heads * value_dim) */
	float	   *gate;			/* (max_rows, n_ff) */
	float	   *up;				/* (max_rows, n_ff) */
	float	   *cosine;			/* (max_rows, rope_dim / 2) */
	float	   *sine;			/* (max_rows, rope_dim / 2) */
	void	   *act;			/* int8 form of the widest activations */

	float	   *out_normed;		/* (L3_LOGITS_ROWS, n_embd) */
	void	   *out_act;		/* int8 form of out_normed */
	float	   *logits;			/* (L3_LOGITS_ROWS, n_vocab) */

	/* of thread t */
	uint8_t    *scratch;		/* (n_threads, scratch_bytes) for matmuls */
	const void **k_blocks;		/* (n_threads, L3_ATTN_MAX_PARTS, max_blocks) */
	const void **v_blocks;		/* (n_threads, L3_ATTN_MAX_PARTS, max_blocks) */
	L3Candidate *candidates;	/* (n_threads, n_vocab) for the sampler */
} L3Workspace;

/* Rows of the largest step for these options. */
int			l3_workspace_rows(const L3EngineOptions *options);
/* Tokens of the longest sequence of a model under these options. */
int			l3_max_context(const L3Hparams *hparams, const L3EngineOptions *options);

/* The same as l3_act_bytes, which lives among the kernels. */
size_t		l3_workspace_act_bytes(size_t rows, size_t k);

/*
 * Bytes of a worker's buffers, for plans: with the largest matmul scratch that
 * any kernel asks for.
 */
uint64_t	l3_workspace_bytes(const L3Hparams *hparams, const L3EngineOptions *options);

/*
 * Point ws into memory for models of this shape, and return the bytes that it
 * takes; with memory NULL only measure.  scratch_bytes is what each thread's
 * matmuls need.  Models that run in turn may share memory, each with its own
 * layout.
 */
size_t		l3_workspace_lay_out(const L3Hparams *hparams, const L3EngineOptions *options,
								 size_t scratch_bytes, void *memory, L3Workspace *ws);

/*
 * Memory for a layout; free it with free.  It is touched here, so that a lack
 * of it shows now and not during a step, its pages interleaved over the nodes
 * (placement.h).
 */
L3Status	l3_workspace_alloc(size_t bytes, uint64_t nodes, void **memory, L3Error *err);

#endif							/* L3_WORKSPACE_H */
