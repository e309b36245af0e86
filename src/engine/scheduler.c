/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  Continuous batching: which rows the next step computes, and what becomes
 *	  of them.
 *
 * A step runs one model; models with work take turns.  Its batch holds
 *
 *	1. label paths and prompt chunks, as the "prompt" rows;
 *	2. one row of every decoding sequence, and the rows of its draft.
 *
 * Decoding sequences always take part.  The rest of the token budget goes to
 * prompts in fair shares, and those served move behind those who waited, so
 * a short prompt beside long ones is delayed by a few steps at most.
 *
 * Prompts with a common beginning compute it once, also when they arrive
 * together: before a chunk is scheduled the cache is asked again, and a
 * sequence whose next block is the same that another one computes in this
 * step waits for it.
 *
 * Which rows share a step changes no bit of any result, so all of this is
 * free to follow the load.  That holds for drafts too: each token is sampled
 * from the logits, the mask and the draw of its own position, in order, and
 * those of a draft count as far as they are the ones that were sampled.
 *
 *-------------------------------------------------------------------------
 */
#include "sequence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------
 *		KV blocks of a sequence
 * ----------------------------------------------------------------
 */

/* Serial number under which block i of the table has its parent published. */
static uint64_t
parent_serial(const L3Sequence *seq, int32_t i)
{
	return i == 0 ? 0 : seq->model->kv->blocks[seq->blocks[i - 1]].serial;
}

static void
count_cached(L3Sequence *seq, int32_t n)
{
	seq->n_done += n;
	seq->result.n_cached += n;
	seq->result.n_prompt_done = seq->n_done;
	seq->model->engine->stats.n_cached_tokens += n;
}

/*
 * Only whole blocks, only from a block boundary, and only while everything
 * before them is published too.
 */
void
l3_sequence_take_prefix(L3Sequence *seq)
{
	L3KvPool   *pool = seq->model->kv;

	while (seq->n_published == seq->n_blocks &&
		   seq->n_done == seq->n_blocks * L3_KV_BLOCK &&
		   seq->n_done + L3_KV_BLOCK <= seq->reuse_limit)
	{
		int32_t		block = l3_kv_find(pool, parent_serial(seq, seq->n_blocks),
									   seq->request.salt, seq->tokens + seq->n_done);

		if (block < 0)
			return;
		l3_kv_ref(pool, block);
		l3_kv_unreserve(pool, 1);
		seq->n_reserved--;
		seq->blocks[seq->n_blocks++] = block;
		seq->n_published++;
		count_cached(seq, L3_KV_BLOCK);
	}
}

/*
 * The first positions of the block that is to be computed next, by copy: for a
 * prompt that waits for nobody's whole blocks.
 */
static void
take_beginning(L3Sequence *seq)
{
	L3KvPool   *pool = seq->model->kv;
	int32_t		most = l3_smaller(L3_KV_BLOCK - 1, seq->reuse_limit - seq->n_done);
	int32_t		n_equal;
	int32_t		from;
	int32_t		copy;

	if (seq->n_published != seq->n_blocks || seq->n_done != seq->n_blocks * L3_KV_BLOCK || most <= 0)
		return;
	from = l3_kv_find_beginning(pool, parent_serial(seq, seq->n_blocks), seq->request.salt,
								seq->tokens + seq->n_done, most, &n_equal);
	copy = from >= 0 ? l3_kv_alloc_copy(pool, from) : -1;
	if (copy < 0)
		return;
	seq->n_reserved--;
	seq->blocks[seq->n_blocks++] = copy;
	count_cached(seq, n_equal);
}

/* Give the sequence blocks for its positions up to end. */
static void
take_blocks(L3Sequence *seq, int32_t end)
{
	while (seq->n_blocks * L3_KV_BLOCK < end)
	{
		seq->blocks[seq->n_blocks++] = l3_kv_alloc(seq->model->kv);
		seq->n_reserved--;
	}
}

/* Make whole computed blocks known to the prefix cache. */
static void
publish_blocks(L3Sequence *seq)
{
	const L3Engine *engine = seq->model->engine;
	int32_t		end = seq->n_done;

	if (!engine->options.prefix_cache || seq->request.kind == L3_REQ_EMBED)
		return;
	if (engine->roles_differ)
		end = l3_smaller(end, seq->request.n_tokens);
	while ((seq->n_published + 1) * L3_KV_BLOCK <= end)
	{
		int32_t		i = seq->n_published++;

		/* the same block may come back as another's that has the same content */
		seq->blocks[i] = l3_kv_publish(seq->model->kv, seq->blocks[i], parent_serial(seq, i),
									   seq->request.salt, seq->tokens + i * L3_KV_BLOCK);
	}
}

/* ----------------------------------------------------------------
 *		Building a batch
 * ----------------------------------------------------------------
 */

/* Does it compute prompt tokens next, or tokens that a grammar forced? */
static bool
is_prefill(const L3Sequence *seq)
{
	return seq->n_done < seq->prefill_end;
}

static bool
is_decoding(const L3Sequence *seq)
{
	return seq->request.kind == L3_REQ_GENERATE && !is_prefill(seq);
}

static void
join_batch(L3Engine *engine, L3Sequence *seq)
{
	if (!seq->in_batch)
		engine->n_live++;
	seq->in_batch = true;
}

/* The rows of a span whose logits or states its kind wants. */
static void
want_outputs(L3Batch *batch, const L3Sequence *seq, const L3Span *span)
{
	const L3Request *r = &seq->request;
	int32_t		last = seq->prefill_end - 1;

	for (int32_t i = 0; i < span->n; i++)
	{
		int32_t		position = span->position + i;
		L3OutRow	out = {.row = span->row + i, .span = (int32_t) (span - batch->spans)};
		bool		logits = false;
		bool		hidden = false;

		switch (r->kind)
		{
			case L3_REQ_GENERATE:
				logits = position >= last;
				break;
			case L3_REQ_SCORE:
				logits = position == last;
				break;
			case L3_REQ_LOGPROBS:
				logits = position >= r->first_scored - 1 && position < last;
				break;
			case L3_REQ_EMBED:
				hidden = r->pooling == L3_POOL_MEAN || position == last;
				break;
		}
		if (logits)
			batch->logits_rows[batch->n_logits_rows++] = out;
		if (hidden)
			batch->hidden_rows[batch->n_hidden_rows++] = out;
	}
}

/* Add the next n positions of a sequence. */
static void
add_span(L3Engine *engine, L3Sequence *seq, int32_t n)
{
	L3Batch    *batch = &engine->batch;
	L3Span	   *span = &batch->spans[batch->n_spans++];

	take_blocks(seq, seq->n_done + n);
	seq->logits_row = batch->n_logits_rows;
	*span = (L3Span)
	{
		.tokens = seq->tokens + seq->n_done, .blocks = seq->blocks,
		.position = seq->n_done, .n = n, .row = batch->n_rows,
		.owner = seq, .part = -1
	};
	batch->n_rows += n;
	want_outputs(batch, seq, span);
	join_batch(engine, seq);
}

/*
 * Does another sequence of this step compute the block that seq needs next?
 * If not, note that seq does.  A hash is enough here: at worst it waits a
 * step for nothing.
 */
static bool
waits_for_prefix(L3Engine *engine, const L3Sequence *seq, int32_t *n_prefixes)
{
	uint64_t	hash;

	if (seq->n_done != seq->n_published * L3_KV_BLOCK ||
		seq->n_done + L3_KV_BLOCK > seq->request.n_tokens ||
		!engine->options.prefix_cache || seq->request.kind == L3_REQ_EMBED)
		return false;
	hash = l3_kv_hash(parent_serial(seq, seq->n_published), seq->request.salt,
					  seq->tokens + seq->n_done);
	if (seq->n_done + L3_KV_BLOCK <= seq->reuse_limit)
		for (int32_t i = 0; i < *n_prefixes; i++)
			if (engine->prefixes[i] == hash)
				return true;
	engine->prefixes[(*n_prefixes)++] = hash;
	return false;
}

/* Prompts that can go on, in order of service. */
static int32_t
list_prompts(L3Engine *engine, const L3Model *model, int32_t most)
{
	int32_t		n = 0;
	int32_t		n_prefixes = 0;

	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring && n < most; seq = seq->next)
	{
		if (seq->model != model || !is_prefill(seq) || seq->ended)
			continue;
		l3_sequence_take_prefix(seq);
		if (!waits_for_prefix(engine, seq, &n_prefixes))
			engine->eligible[n++] = seq;
	}
	return n;
}

/*
 * Positions of a prompt to compute, of at most room: chunks end on block
 * boundaries where they can, so that whole blocks can be shared early.
 */
static int32_t
chunk_length(const L3Sequence *seq, int32_t room)
{
	int32_t		left = seq->prefill_end - seq->n_done;
	int32_t		end;

	if (left <= room)
		return left;
	end = (seq->n_done + room) / L3_KV_BLOCK * L3_KV_BLOCK;
	return end > seq->n_done ? end - seq->n_done : room;
}

/* Share the rows out: first an even part for each, then what is left in order. */
static void
add_prompts(L3Engine *engine, const L3Model *model, int32_t room, int32_t most)
{
	int32_t		n = list_prompts(engine, model, most);
	int32_t		even = n > 0 ? room / n / L3_KV_BLOCK * L3_KV_BLOCK : 0;

	if (even < L3_KV_BLOCK)
		even = L3_KV_BLOCK;
	for (int32_t i = 0; i < n; i++)
	{
		if (room > 0)
			take_beginning(engine->eligible[i]);
		engine->shares[i] = chunk_length(engine->eligible[i], l3_smaller(even, room));
		room -= engine->shares[i];
	}
	for (int32_t i = 0; i < n; i++)
	{
		int32_t		more = chunk_length(engine->eligible[i], engine->shares[i] + room);

		if (more > engine->shares[i])
		{
			room -= more - engine->shares[i];
			engine->shares[i] = more;
		}
		if (engine->shares[i] > 0)
			add_span(engine, engine->eligible[i], engine->shares[i]);
	}
}

/* Label paths of requests whose prompt is done. */
static void
add_label_paths(L3Engine *engine, const L3Model *model, int32_t room, int32_t most)
{
	L3Batch    *batch = &engine->batch;

	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
	{
		int32_t		n_spans = batch->n_spans;

		if (seq->model != model || seq->request.kind != L3_REQ_SCORE || is_prefill(seq))
			continue;
		l3_score_schedule(seq->score, model->kv, seq->blocks, &seq->n_reserved, batch, most,
						  room - batch->n_rows, seq);
		if (batch->n_spans > n_spans)
			join_batch(engine, seq);
	}
}

/*
 * Rows that the draft of each decoding sequence may have: what prompts leave,
 * and only so many that the logits of the whole step stay in their buffer.
 */
static int32_t
draft_room(const L3Engine *engine, const L3Model *model, int32_t n_decoding)
{
	const L3Batch *batch = &engine->batch;
	int32_t		room = model->draft_rows;

	if (n_decoding == 0)
		return 0;
	room = l3_smaller(room, engine->runner.ws.max_rows - batch->n_rows);
	room = l3_smaller(room, L3_LOGITS_ROWS - batch->n_logits_rows);
	return room / n_decoding - 1;
}

static void
build_batch(L3Engine *engine, const L3Model *model)
{
	L3Batch    *batch = &engine->batch;
	int32_t		n_decoding = 0;
	int32_t		max_spans;
	int32_t		max_prefill;
	int32_t		room;

	batch->n_spans = batch->n_rows = batch->n_copies = 0;
	batch->n_logits_rows = batch->n_hidden_rows = 0;
	engine->n_live = 0;
	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
		n_decoding += seq->model == model && is_decoding(seq);

	/* no more sequences are admitted than spans fit, so decoding ones all do */
	max_spans = engine->options.max_sequences - n_decoding;
	max_prefill = engine->runner.ws.max_rows - n_decoding;
	add_label_paths(engine, model, max_prefill, max_spans);
	add_prompts(engine, model, max_prefill - batch->n_rows, max_spans - batch->n_spans);
	batch->n_prefill = batch->n_rows;

	room = draft_room(engine, model, n_decoding);
	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
		if (seq->model == model && is_decoding(seq))
		{
			seq->n_draft = l3_answer_draft(seq, room);
			add_span(engine, seq, 1 + seq->n_draft);
		}
}

/* ----------------------------------------------------------------
 *		Results
 * ----------------------------------------------------------------
 */

/*
 * Runs on compute threads, one row each; writes only the engine's own memory.
 * Rows of drafts are left alone: l3_answer_accept comes to those that count.
 */
static void
on_logits(void *ctx, int i, float *logits, int thread)
{
	L3Engine   *engine = ctx;
	const L3OutRow *out = &engine->batch.logits_rows[i];
	const L3Span *span = &engine->batch.spans[out->span];
	const L3Kernels *kernels = &engine->kernels;
	L3Sequence *seq = span->owner;
	int32_t		offset = out->row - span->row;
	int32_t		next = span->position + offset + 1;
	int			n_vocab = (int) seq->model->weights.hp.n_vocab;

	/* poll may have cancelled it; poll does not run now */
	if (seq->cancelled || seq->ended)
		return;
	if (seq->request.kind == L3_REQ_GENERATE)
	{
		if (i == seq->logits_row)
			l3_answer_sample(seq, logits, thread);
	}
	else
	{
		double		logsumexp = kernels->logsumexp(logits, n_vocab);

		if (seq->request.kind == L3_REQ_LOGPROBS)
			seq->logprobs[next - seq->request.first_scored] =
				(double) logits[seq->tokens[next]] - logsumexp;
		else
		{
			const L3Labels *labels = &seq->score->labels;
			int32_t		node = 0;

			if (span->part >= 0)
				node = labels->inner_nodes[labels->chains[span->part].first +
										   seq->score->forks[span->part].n_done + offset];
			l3_score_logits(seq->score, node, logits, logsumexp);
		}
	}
}

/* Add a row's state to the sum, or take it. */
static void
pool_row(L3Sequence *seq, const float *state)
{
	uint32_t	d = seq->model->weights.hp.n_embd;

	for (uint32_t i = 0; i < d; i++)
		seq->pooled[i] += (double) state[i];
}

/* Unit length; a mean's divisor cancels out. */
static void
finish_embedding(L3Sequence *seq)
{
	uint32_t	d = seq->model->weights.hp.n_embd;
	double		squares = 0;
	double		scale;

	for (uint32_t i = 0; i < d; i++)
		squares += seq->pooled[i] * seq->pooled[i];
	scale = squares > 0 ? 1 / sqrt(squares) : 0;
	for (uint32_t i = 0; i < d; i++)
		seq->request.out_embedding[i] = (float) (seq->pooled[i] * scale);
}

/* A sequence's positions up to its prompt's end are done. */
static void
finish_prompt(L3Sequence *seq)
{
	const L3Request *r = &seq->request;

	switch (r->kind)
	{
		case L3_REQ_GENERATE:
			l3_answer_accept(seq);
			break;
		case L3_REQ_SCORE:
			break;
		case L3_REQ_EMBED:
			finish_embedding(seq);
			seq->ended = true;
			break;
		case L3_REQ_LOGPROBS:
			memcpy(r->out_logprobs, seq->logprobs,
				   (size_t) (r->n_tokens - r->first_scored) * sizeof(double));
			seq->ended = true;
			break;
	}
}

/* A span was computed. */
static void
take_result(L3Engine *engine, const L3Span *span)
{
	L3Sequence *seq = span->owner;

	if (seq->cancelled || seq->ended)
		return;
	if (is_decoding(seq))
		engine->stats.n_decode_tokens++;
	else
		engine->stats.n_prefill_tokens += (uint64_t) span->n;
	if (span->part >= 0)
		l3_score_advance(seq->score, seq->model->kv, span->part, span->n, &seq->n_reserved);
	else
	{
		seq->n_done += span->n - seq->n_draft;
		seq->result.n_prompt_done = l3_smaller(seq->n_done, seq->request.n_tokens);
		if (!is_prefill(seq))
			finish_prompt(seq);
		publish_blocks(seq);
	}
}

/* SCORE is done when its prompt and all its label paths are. */
static void
finish_score(L3Sequence *seq)
{
	if (is_prefill(seq) || !l3_score_done(seq->score))
		return;
	l3_score_finish(seq->score, seq->request.out_logprobs);
	seq->ended = true;
}

static void
take_results(L3Engine *engine)
{
	const L3Batch *batch = &engine->batch;
	const L3Workspace *ws = &engine->runner.ws;

	for (int32_t i = 0; i < batch->n_hidden_rows; i++)
	{
		L3Sequence *seq = batch->spans[batch->hidden_rows[i].span].owner;

		pool_row(seq, ws->normed + (size_t) batch->hidden_rows[i].row * seq->model->weights.hp.n_embd);
	}
	for (int32_t i = 0; i < batch->n_spans; i++)
		take_result(engine, &batch->spans[i]);
	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
		if (seq->in_batch && !seq->cancelled && seq->request.kind == L3_REQ_SCORE)
			finish_score(seq);
}

/* ----------------------------------------------------------------
 *		Grammars
 * ----------------------------------------------------------------
 */

/* Answers that begin: what their grammars force at once is computed with the prompt. */
static void
begin_answers(L3Engine *engine, const L3Model *model)
{
	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
		if (seq->model == model && seq->constraint != NULL && !seq->begun && !seq->cancelled)
			l3_answer_begin(seq);
}

/* Masks for the rows that are sampled as soon as their logits are there. */
static void
prepare_masks(L3Engine *engine)
{
	const L3Batch *batch = &engine->batch;
	double		polled = l3_seconds();

	for (int32_t i = 0; i < batch->n_logits_rows; i++)
	{
		L3Sequence *seq = batch->spans[batch->logits_rows[i].span].owner;

		if (i == seq->logits_row && !seq->cancelled)
			l3_answer_mask(seq, &polled);
	}
}

/* ----------------------------------------------------------------
 *		The step
 * ----------------------------------------------------------------
 */

/* The next model with work, after the one that was served last. */
static L3Model *
next_model(L3Engine *engine)
{
	L3Model    *start = engine->last_model != NULL ? engine->last_model->next : engine->models;

	for (L3Model *model = start; model != NULL; model = model->next)
		if (model->n_sequences > 0)
			return model;
	for (L3Model *model = engine->models; model != start; model = model->next)
		if (model->n_sequences > 0)
			return model;
	return NULL;
}

/* Sequences that were served go behind those that were not. */
static void
rotate_ring(L3Engine *engine)
{
	for (int32_t i = 0; i < engine->batch.n_spans; i++)
	{
		L3Sequence *seq = engine->batch.spans[i].owner;

		l3_ring_unlink(seq);
		l3_ring_append(engine, seq);
	}
}

/*
 * Tell the callers.  Ended sequences are out of the ring and hold nothing any
 * more, so that an event may already submit the next request.  An event may
 * also cancel any sequence; that only marks it while in_step.
 */
static void
fire_events(L3Engine *engine, L3Sequence *ended)
{
	for (L3Sequence *seq = ended; seq != NULL; seq = seq->next)
		if (!seq->cancelled)
			seq->event(seq->user, L3_EVENT_DONE, &seq->result);
	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
		if (seq->in_batch && !seq->cancelled)
			seq->event(seq->user, L3_EVENT_PROGRESS, &seq->result);
}

/* Take ended and cancelled sequences out, release what they hold, and tell. */
static void
end_step(L3Engine *engine)
{
	L3Sequence *ended = NULL;
	L3Sequence *next;

	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = next)
	{
		next = seq->next;
		if (!seq->ended && !seq->cancelled)
			continue;
		l3_sequence_release(seq);
		seq->next = ended;
		ended = seq;
	}
	fire_events(engine, ended);
	for (L3Sequence *seq = ended; seq != NULL; seq = next)
	{
		next = seq->next;
		l3_sequence_free(seq);
	}
	engine->in_step = false;
	for (L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = next)
	{
		next = seq->next;
		seq->in_batch = false;
		if (seq->cancelled)
			l3_engine_cancel(engine, seq);
	}
}

/* A step took so long; before is how the counters stood. */
static void
count_step(L3Engine *engine, const L3EngineStats *before, double seconds)
{
	L3EngineStats *stats = &engine->stats;
	uint64_t	n_prefill = stats->n_prefill_tokens - before->n_prefill_tokens;
	uint64_t	n_decode = stats->n_decode_tokens - before->n_decode_tokens +
		(stats->n_drafted_tokens - before->n_drafted_tokens) -
		(stats->n_accepted_tokens - before->n_accepted_tokens);

	stats->n_steps++;
	stats->busy_seconds += seconds;
	if (n_prefill > 0)
		stats->prefill_seconds += seconds * (double) n_prefill / (double) (n_prefill + n_decode);
}

bool
l3_engine_step(L3Engine *engine)
{
	L3Model    *model = next_model(engine);
	L3EngineStats before = engine->stats;
	double		start = l3_seconds();

	if (model == NULL)
		return false;
	engine->last_model = model;
	engine->in_step = true;
	engine->runner.ws = model->ws;
	begin_answers(engine, model);
	build_batch(engine, model);
	rotate_ring(engine);
	prepare_masks(engine);
	engine->batch.on_logits = on_logits;
	engine->batch.ctx = engine;
	if (engine->batch.n_rows > 0 &&
		l3_forward(&engine->runner, &model->weights, model->kv, &engine->batch))
		take_results(engine);
	count_step(engine, &before, l3_seconds() - start);
	end_step(engine);
	return true;
}
