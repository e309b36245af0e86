/*-------------------------------------------------------------------------
 *
 * sequence.h
 *	  The engine, its models and its running sequences, as its own files see
 *	  them.  Private to the engine room.
 *
 * A sequence's positions 0 .. n_done - 1 have their keys and values in the
 * blocks of its table.  Prompt positions are computed in chunks until n_done
 * reaches the prompt's length; then the kind decides:
 *
 *	GENERATE	decodes one position per step, and with it those of a draft
 *				(lookup.h).  Tokens that a grammar forces are computed as those
 *				of a prompt are, with the sampled one before them: prefill_end
 *				moves to where sampling goes on
 *	SCORE		forks label paths from the prompt (score.c)
 *	EMBED, LOGPROBS		are done
 *
 * A draft stands behind the known tokens.  Where the answer goes on as it says,
 * the positions that the step computed are done, and the next token is sampled
 * from the same step's logits; from the first difference on they are not, and
 * are computed again over what stands in their places.
 *
 * Everything is owned by the thread that runs l3_engine_step.  A sequence that
 * is cancelled while a step runs (from poll, or from another's event) is only
 * marked; the step may still write its blocks, so it is freed at the end of the
 * step.  Nothing is written to its outputs after the mark.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SEQUENCE_H
#define L3_SEQUENCE_H

#include "constrain.h"
#include "forward.h"
#include "lookup.h"
#include "sampler.h"
#include "score.h"
#include "stops.h"

/*
 * Decoding sequences and their drafts together have at most so many rows in a
 * step.  Where reading the weights from memory is what takes long, the time of a
 * step hardly grows with its first rows, and for 16 still by far less than
 * theirs; then each row costs what it would in a step of its own.  1B shape in
 * Q8_0 (avx512vnni, one thread, CPU time of "decode S 1 N" in
 * test/bench/engine.c): steps of 1, 2, 4, 8, 16, 24 and 32 rows take 1, 1.07,
 * 1.3, 2.5, 3.0, 3.8 and 5.2 times as long.  Weights that the CPU's caches hold
 * are another matter: 1, 1.5, 2.4, 4.6 and 10 times for 1, 2, 4, 8 and 16 rows
 * of the demonstration model.
 */
#define L3_DRAFT_ROWS			16
#define L3_DRAFT_ROWS_CACHED	4
#define L3_CACHED_BYTES			(UINT64_C(64) << 20)

struct L3Model
{
	L3Engine   *engine;
	L3Model    *next;
	const L3Tokenizer *tok;		/* NULL in tests: no stop token, no bytes */
	L3Weights	weights;
	L3KvPool   *kv;
	L3Workspace ws;				/* the engine's memory in this model's layout */
	L3Grammars	grammars;
	int32_t		max_context;
	int32_t		draft_rows;		/* L3_DRAFT_ROWS, or as few as caches ask for */
	int32_t		n_sequences;
};

struct L3Sequence
{
	L3Sequence *prev;			/* the engine's ring, in order of service */
	L3Sequence *next;
	L3Model    *model;
	L3Request	request;		/* its pointers are the caller's */
	L3EventFn	event;
	void	   *user;
	L3Result	result;

	bool		cancelled;
	bool		ended;			/* done: to be freed at the end of the step */
	bool		in_batch;		/* has a span in the running step */

	int32_t    *tokens;			/* (n_tokens + max_new) prompt and answer */
	int32_t		n_known;		/* tokens of it */
	int32_t		n_draft;		/* tokens behind them that the step computes too */
	int32_t		n_done;			/* positions computed */
	int32_t		prefill_end;	/* positions before it take the prompt's role */
	int32_t		max_new;		/* tokens to generate, at most */
	int32_t		next_token;		/* sampled in this step */
	int32_t		logits_row;		/* of the step's, that it was sampled from */

	int32_t    *blocks;			/* KV blocks of positions 0 .. n_done - 1 */
	int32_t		n_blocks;
	int32_t		n_reserved;		/* blocks that may still be taken */
	int32_t		n_published;	/* leading blocks that the cache knows */
	int32_t		reuse_limit;	/* positions that may come from the cache */

	L3Lookup	lookup;			/* GENERATE */
	L3Stops		stops;			/* GENERATE */
	L3Constraint *constraint;	/* GENERATE with a grammar, else NULL */
	bool		begun;			/* its first forced tokens are known */
	double	   *pooled;			/* EMBED: (n_embd) sum so far */
	double	   *logprobs;		/* LOGPROBS: (n_tokens - first_scored) */
	L3Score    *score;			/* SCORE */
};

struct L3Engine
{
	L3EngineOptions options;
	L3Kernels	kernels;
	L3Runner	runner;			/* runner.ws: of the model that runs */
	void	   *memory;			/* of the workspace, as the largest model needs */
	size_t		memory_bytes;
	L3Kv		kv;
	char		placement[256];	/* l3_engine_placement */
	bool		roles_differ;	/* prompt and generated tokens are computed
								 * differently: decoded blocks are not shared */
	L3Model    *models;
	L3Model    *last_model;		/* that had a step */
	L3Sequence	ring;			/* ring.next: served longest ago */
	int32_t		n_sequences;
	bool		in_step;
	int			n_live;			/* sequences of the step not cancelled */

	/* the step's batch */
	L3Span	   *spans;			/* (max_sequences) */
	L3KvCopy   *copies;			/* (max_sequences) */
	L3OutRow   *logits_rows;	/* (max rows) */
	L3OutRow   *hidden_rows;	/* (max rows) */
	uint64_t   *prefixes;		/* (max_sequences) hashes of blocks begun */
	L3Sequence **eligible;		/* (max_sequences) */
	int32_t    *shares;			/* (max_sequences) rows for each */
	L3Batch		batch;

	L3EngineStats stats;
};

/* Put a sequence at the ring's end; take it out. */
static inline void
l3_ring_append(L3Engine *engine, L3Sequence *seq)
{
	seq->next = &engine->ring;
	seq->prev = engine->ring.prev;
	seq->prev->next = seq;
	engine->ring.prev = seq;
}

static inline void
l3_ring_unlink(L3Sequence *seq)
{
	seq->prev->next = seq->next;
	seq->next->prev = seq->prev;
}

/* A generated answer (answer.c). */

/*
 * Guess what follows the known tokens, at most `room` of them, and write it
 * behind them: how many are worth a row.
 */
int32_t		l3_answer_draft(L3Sequence *seq, int32_t room);
/* What the grammar forces at once becomes part of the answer. */
void		l3_answer_begin(L3Sequence *seq);
/*
 * Find the tokens that the grammar allows next.  The first time it comes to a
 * place that takes milliseconds, so poll is called, which may cancel; *polled
 * is when it last was.
 */
void		l3_answer_mask(L3Sequence *seq, double *polled);
/* Sample the next token from these logits, with a thread's scratch. */
void		l3_answer_sample(L3Sequence *seq, float *logits, int thread);
/*
 * The sampled token becomes part of the answer, with what that forces; then, as
 * far as they are what the draft says, those after it.
 */
void		l3_answer_accept(L3Sequence *seq);

/* Take blocks from the prefix cache for the positions that come next. */
void		l3_sequence_take_prefix(L3Sequence *seq);
/* Take a sequence out of the ring and give its blocks back. */
void		l3_sequence_release(L3Sequence *seq);
/* Free the memory of a sequence that was released, or never ran. */
void		l3_sequence_free(L3Sequence *seq);

#endif							/* L3_SEQUENCE_H */
