/*-------------------------------------------------------------------------
 *
 * admission.c
 *	  The engine object, its models, and which requests may run.
 *
 * A request is admitted when a sequence place is free and the KV cache can
 * bear it for its whole possible length; from then on it cannot fail for lack
 * of memory.  What it needs is computed first and taken afterwards
 * (L3Demand), so that asking and doing cannot disagree.
 *
 *-------------------------------------------------------------------------
 */
#include "sequence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "placement.h"
#include "request.h"

#define MAX_BATCH_TOKENS	65536
#define MAX_SEQUENCES		4096

/* Multiply-adds per second to assume before the first measurement. */
#define FIRST_PACE			10e9

/* ----------------------------------------------------------------
 *		The engine and its models
 * ----------------------------------------------------------------
 */

static L3Status
check_options(const L3EngineOptions *o, L3Error *err)
{
	if (o->n_threads < 1)
		return l3_error(err, L3_ERR_ARG, "threads must be at least 1, not %d", o->n_threads);
	if (o->batch_tokens < L3_KV_BLOCK || o->batch_tokens > MAX_BATCH_TOKENS)
		return l3_error(err, L3_ERR_ARG, "batch_tokens must be between %d and %d, not %d",
						L3_KV_BLOCK, MAX_BATCH_TOKENS, o->batch_tokens);
	if (o->max_sequences < 1 || o->max_sequences > MAX_SEQUENCES)
		return l3_error(err, L3_ERR_ARG, "max_sequences must be between 1 and %d, not %d",
						MAX_SEQUENCES, o->max_sequences);
	if (o->max_context < 0)
		return l3_error(err, L3_ERR_ARG, "max_context must not be negative, not %d", o->max_context);
	if ((unsigned) o->kv_type >= L3_N_KV_TYPES)
		return l3_error(err, L3_ERR_ARG, "unknown KV type %d", (int) o->kv_type);
	return L3_OK;
}

/* Put the threads on the machine's nodes, and decide over which to spread memory. */
static void
place(L3Engine *engine)
{
	L3Team		team = l3_placement_team(&engine->options);
	L3Machine	machine;
	int			refused;

	l3_numa_read(engine->options.nodes, &machine);
	engine->kv.nodes = l3_placement_pages(&machine, &team);
	refused = l3_pool_pin(engine->runner.pool, &machine, &team);
	if (l3_placement_nodes(&machine, &team) == 0)
		return;
	snprintf(engine->placement, sizeof(engine->placement),
			 "NUMA nodes of threads: %d, of interleaved memory: %d",
			 refused ? 0 : __builtin_popcountll(l3_placement_nodes(&machine, &team)),
			 __builtin_popcountll(engine->kv.nodes));
	refused = refused ? refused : machine.memory_errno;
	if (refused)
		snprintf(engine->placement + strlen(engine->placement),
				 sizeof(engine->placement) - strlen(engine->placement), " (%s)", strerror(refused));
}

L3Status
l3_engine_create(const L3EngineOptions *options, L3Engine **engine_out, L3Error *err)
{
	L3Engine   *engine;
	unsigned	features;
	size_t		n = (size_t) options->max_sequences;
	size_t		rows;
	L3Status	status;

	status = check_options(options, err);
	if (status == L3_OK)
		status = l3_cpu_parse(options->cpu_features, &features, err);
	if (status != L3_OK)
		return status;
	engine = calloc(1, sizeof(*engine));
	if (engine == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	engine->options = *options;
	engine->options.cpu_features = NULL;	/* the caller's; read above */
	engine->ring.next = engine->ring.prev = &engine->ring;
	l3_kernels_init(&engine->kernels, features);
	l3_kv_init(&engine->kv, options->kv_cache_bytes);

	/* as l3_kernels_init: OpenBLAS is in the table only below AVX2 */
	engine->roles_differ = (features & L3_CPU_BLAS) && !(features & L3_CPU_AVX2);
	engine->runner = (L3Runner)
	{
		.kernels = &engine->kernels, .poll = options->poll, .poll_ctx = options->poll_ctx,
		.n_live = &engine->n_live,
		.matmul_pace = {FIRST_PACE}, .attend_pace = {FIRST_PACE}
	};

	rows = (size_t) l3_workspace_rows(options);
	engine->spans = calloc(n, sizeof(L3Span));
	engine->copies = calloc(n, sizeof(L3KvCopy));
	engine->logits_rows = calloc(rows, sizeof(L3OutRow));
	engine->hidden_rows = calloc(rows, sizeof(L3OutRow));
	engine->prefixes = calloc(n, sizeof(uint64_t));
	engine->eligible = calloc(n, sizeof(L3Sequence *));
	engine->shares = calloc(n, sizeof(int32_t));
	engine->batch.spans = engine->spans;
	engine->batch.copies = engine->copies;
	engine->batch.logits_rows = engine->logits_rows;
	engine->batch.hidden_rows = engine->hidden_rows;
	if (!engine->spans || !engine->copies || !engine->logits_rows || !engine->hidden_rows ||
		!engine->prefixes || !engine->eligible || !engine->shares)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory");
	else
		status = l3_pool_create(options->n_threads, &engine->runner.pool, err);
	if (status != L3_OK)
	{
		l3_engine_destroy(engine);
		return status;
	}
	place(engine);
	engine->options.nodes = NULL;	/* the caller's, as cpu_features */
	*engine_out = engine;
	return L3_OK;
}

void
l3_engine_destroy(L3Engine *engine)
{
	while (engine->ring.next != &engine->ring)
	{
		L3Sequence *seq = engine->ring.next;

		l3_sequence_release(seq);
		l3_sequence_free(seq);
	}
	while (engine->models != NULL)
		l3_engine_detach(engine, engine->models);
	if (engine->runner.pool != NULL)
		l3_pool_destroy(engine->runner.pool);
	free(engine->memory);
	free(engine->spans);
	free(engine->copies);
	free(engine->logits_rows);
	free(engine->hidden_rows);
	free(engine->prefixes);
	free(engine->eligible);
	free(engine->shares);
	free(engine);
}

const char *
l3_engine_cpu(const L3Engine *engine)
{
	return l3_cpu_name(engine->kernels.features);
}

const char *
l3_engine_placement(const L3Engine *engine)
{
	return engine->placement;
}

/* Lay the workspace out for the model, growing its memory for all when needed. */
static L3Status
fit_workspace(L3Engine *engine, L3Model *model, L3Error *err)
{
	const L3Hparams *hp = &model->weights.hp;
	const L3EngineOptions *options = &engine->options;
	size_t		scratch = l3_forward_scratch_bytes(&engine->kernels, &model->weights,
												   l3_workspace_rows(options));
	size_t		bytes = l3_workspace_lay_out(hp, options, scratch, NULL, &model->ws);

	if (bytes > engine->memory_bytes)
	{
		void	   *memory;
		L3Status	status = l3_workspace_alloc(bytes, engine->kv.nodes, &memory, err);

		if (status != L3_OK)
			return status;
		free(engine->memory);
		engine->memory = memory;
		engine->memory_bytes = bytes;
		for (L3Model *m = engine->models; m != NULL; m = m->next)
			l3_workspace_lay_out(&m->weights.hp, options, m->ws.scratch_bytes, memory, &m->ws);
	}
	l3_workspace_lay_out(hp, options, scratch, engine->memory, &model->ws);
	return L3_OK;
}

L3Status
l3_engine_attach(L3Engine *engine, const L3Arena *arena, const L3Tokenizer *tok,
				 L3Model **model_out, L3Error *err)
{
	L3Model    *model = calloc(1, sizeof(*model));
	L3Status	status;

	if (model == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	model->engine = engine;
	model->tok = tok;
	model->grammars.tok = tok;
	model->draft_rows = l3_arena_weight_bytes(arena) < L3_CACHED_BYTES ? L3_DRAFT_ROWS_CACHED :
		L3_DRAFT_ROWS;
	status = l3_weights_open(arena, &model->weights, err);
	if (status == L3_OK)
	{
		model->max_context = l3_max_context(&model->weights.hp, &engine->options);
		status = fit_workspace(engine, model, err);
	}
	if (status == L3_OK)
		status = l3_kv_pool_create(&engine->kv, &model->weights.hp, engine->options.kv_type,
								   &model->kv, err);
	if (status != L3_OK)
	{
		l3_weights_close(&model->weights);
		free(model);
		return status;
	}
	model->next = engine->models;
	engine->models = model;
	*model_out = model;
	return L3_OK;
}

void
l3_engine_detach(L3Engine *engine, L3Model *model)
{
	L3Model   **link = &engine->models;

	while (*link != model)
		link = &(*link)->next;
	*link = model->next;
	if (engine->last_model == model)
		engine->last_model = NULL;
	l3_kv_pool_destroy(model->kv);
	l3_weights_close(&model->weights);
	l3_grammars_free(&model->grammars);
	free(model);
}

void
l3_engine_stats(const L3Engine *engine, L3EngineStats *stats)
{
	*stats = engine->stats;
	stats->kv_bytes_used = l3_kv_used_bytes(&engine->kv);
	stats->kv_bytes_cached = l3_kv_cached_bytes(&engine->kv);
	stats->kv_bytes_limit = engine->kv.limit;
	stats->n_sequences = engine->n_sequences;
}

/* ----------------------------------------------------------------
 *		What a request needs
 * ----------------------------------------------------------------
 */

/* What a request would take, computed before anything is taken. */
typedef struct Demand
{
	int32_t		max_new;		/* tokens to generate */
	int32_t		reuse_limit;	/* positions that may come from the cache */
	int32_t		n_blocks;		/* KV blocks of the prompt and the answer */
	int32_t		n_reserved;		/* of these and of label paths at one time */
	int32_t		n_shared;		/* of these, held by running sequences already */
	L3Score    *score;			/* SCORE: owned by the holder of the demand */
} Demand;

/*
 * Positions whose keys and values may be taken from the cache: those before
 * the first one whose own output is wanted.  Embeddings want every one.
 */
static int32_t
reusable_positions(const L3Engine *engine, const L3Request *r)
{
	if (!engine->options.prefix_cache || r->kind == L3_REQ_EMBED)
		return 0;
	return r->kind == L3_REQ_LOGPROBS ? r->first_scored - 1 : r->n_tokens - 1;
}

/* Blocks of the request's prefix that running sequences hold anyway. */
static int32_t
count_shared(const L3KvPool *pool, const L3Request *r, int32_t reuse_limit)
{
	uint64_t	parent = 0;
	int32_t		n_shared = 0;

	for (int32_t i = 0; (i + 1) * L3_KV_BLOCK <= reuse_limit; i++)
	{
		int32_t		block = l3_kv_find(pool, parent, r->salt, r->tokens + i * L3_KV_BLOCK);

		if (block < 0)
			break;
		n_shared += pool->blocks[block].refs > 0;
		parent = pool->blocks[block].serial;
	}
	return n_shared;
}

static L3Status
compute_demand(const L3Engine *engine, const L3Model *model, const L3Request *r,
			   Demand *demand, L3Error *err)
{
	int32_t		n_positions = r->n_tokens;
	L3Status	status;

	memset(demand, 0, sizeof(*demand));
	status = l3_request_check(r, &model->weights.hp, model->max_context, err);
	if (status != L3_OK)
		return status;
	if (r->kind == L3_REQ_GENERATE)
	{
		int32_t		room = model->max_context - r->n_tokens;

		if ((r->n_stops > 0 || r->grammar != NULL) && model->tok == NULL)
			return l3_error(err, L3_ERR_ARG, "stop strings and grammars need a tokenizer");
		demand->max_new = r->max_tokens < room ? r->max_tokens : room;
		/* the last token's keys and values are wanted by nobody */
		n_positions += demand->max_new - 1;
	}
	if (r->kind == L3_REQ_SCORE)
	{
		status = l3_score_create(r, &demand->score, err);
		if (status != L3_OK)
			return status;
	}
	demand->reuse_limit = reusable_positions(engine, r);
	demand->n_blocks = (n_positions + L3_KV_BLOCK - 1) / L3_KV_BLOCK;
	demand->n_reserved = demand->n_blocks +
		(demand->score != NULL ? demand->score->n_blocks_wanted : 0);
	demand->n_shared = count_shared(model->kv, r, demand->reuse_limit);
	return L3_OK;
}

/* Can it be taken now?  Sets *err and *never when not. */
static bool
fits_now(const L3Engine *engine, const L3Model *model, const Demand *demand,
		 bool *never, L3Error *err)
{
	uint64_t	block_bytes = model->kv->block_bytes;
	uint64_t	whole = (uint64_t) demand->n_reserved * block_bytes;
	uint64_t	more = (uint64_t) (demand->n_reserved - demand->n_shared) * block_bytes;

	*never = whole > engine->kv.limit;
	if (*never)
	{
		l3_error(err, L3_ERR_LIMIT, "request does not fit into the KV cache");
		l3_error_detail(err, "It needs %llu kB of keys and values, the limit is %llu kB.",
						(unsigned long long) ((whole + 1023) / 1024),
						(unsigned long long) (engine->kv.limit / 1024));
		l3_error_hint(err, "Raise \"llama3.kv_cache_size\", or ask for fewer tokens.");
		return false;
	}
	if (engine->n_sequences >= engine->options.max_sequences)
	{
		l3_error(err, L3_ERR_MEMORY, "all %d sequences are in use", engine->options.max_sequences);
		return false;
	}
	if (l3_kv_committed_bytes(&engine->kv) + more > engine->kv.limit)
	{
		l3_error(err, L3_ERR_MEMORY, "the KV cache is in use by running requests");
		return false;
	}
	return true;
}

bool
l3_engine_can_admit(L3Engine *engine, const L3Model *model, const L3Request *request,
					bool *never, L3Error *err)
{
	Demand		demand;
	bool		hopeless = true;
	bool		fits = false;

	if (compute_demand(engine, model, request, &demand, err) == L3_OK)
	{
		fits = fits_now(engine, model, &demand, &hopeless, err);
		l3_score_free(demand.score);
	}
	if (never != NULL)
		*never = hopeless;
	return fits;
}

/* ----------------------------------------------------------------
 *		Sequences
 * ----------------------------------------------------------------
 */

/* Allocate all that a sequence needs while it runs; a step allocates nothing. */
static L3Status
create_sequence(L3Model *model, const L3Request *r, Demand *demand, L3Sequence **seq_out,
				L3Error *err)
{
	L3Sequence *seq = calloc(1, sizeof(*seq));
	L3Status	status = L3_OK;

	if (seq == NULL)
	{
		l3_score_free(demand->score);
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	}
	seq->model = model;
	seq->request = *r;
	seq->max_new = demand->max_new;
	seq->reuse_limit = demand->reuse_limit;
	seq->score = demand->score;
	seq->n_known = r->n_tokens;
	seq->prefill_end = r->n_tokens;
	seq->tokens = malloc(((size_t) r->n_tokens + (size_t) demand->max_new) * sizeof(int32_t));
	seq->blocks = malloc((size_t) demand->n_blocks * sizeof(int32_t));
	if (r->kind == L3_REQ_EMBED)
		seq->pooled = calloc(model->weights.hp.n_embd, sizeof(double));
	if (r->kind == L3_REQ_LOGPROBS)
		seq->logprobs = calloc((size_t) (r->n_tokens - r->first_scored), sizeof(double));
	if (seq->tokens == NULL || seq->blocks == NULL ||
		(r->kind == L3_REQ_EMBED && seq->pooled == NULL) ||
		(r->kind == L3_REQ_LOGPROBS && seq->logprobs == NULL))
		status = l3_error(err, L3_ERR_MEMORY, "out of memory");
	if (status == L3_OK && r->kind == L3_REQ_GENERATE)
		status = l3_stops_init(&seq->stops, r->stop, r->stop_len, r->n_stops, err);
	if (status == L3_OK && r->kind == L3_REQ_GENERATE && r->grammar != NULL)
		status = l3_constraint_open(&model->grammars, r->grammar, r->grammar_size,
									demand->max_new, &seq->constraint, err);
	if (status == L3_OK && r->kind == L3_REQ_SCORE)
		status = l3_score_start(seq->score, err);
	if (status != L3_OK)
	{
		l3_sequence_free(seq);
		return status;
	}
	memcpy(seq->tokens, r->tokens, (size_t) r->n_tokens * sizeof(int32_t));
	*seq_out = seq;
	return L3_OK;
}

void
l3_sequence_free(L3Sequence *seq)
{
	l3_stops_free(&seq->stops);
	l3_constraint_close(seq->constraint);
	l3_score_free(seq->score);
	free(seq->tokens);
	free(seq->blocks);
	free(seq->pooled);
	free(seq->logprobs);
	free(seq);
}

void
l3_sequence_release(L3Sequence *seq)
{
	L3KvPool   *pool = seq->model->kv;

	if (seq->score != NULL)
		l3_score_release(seq->score, pool, &seq->n_reserved);
	/* from the end, so that the cache drops tails before heads */
	while (seq->n_blocks > 0)
		l3_kv_unref(pool, seq->blocks[--seq->n_blocks]);
	l3_kv_unreserve(pool, seq->n_reserved);
	seq->n_reserved = 0;
	l3_ring_unlink(seq);
	seq->model->n_sequences--;
	seq->model->engine->n_sequences--;
}

L3Status
l3_engine_submit(L3Engine *engine, L3Model *model, const L3Request *request, L3EventFn event,
				 void *user, L3Sequence **sequence, L3Error *err)
{
	Demand		demand;
	L3Sequence *seq = NULL;
	bool		never;
	L3Status	status;

	status = compute_demand(engine, model, request, &demand, err);
	if (status != L3_OK)
		return status;
	if (!fits_now(engine, model, &demand, &never, err))
	{
		l3_score_free(demand.score);
		return err->status;
	}
	status = create_sequence(model, request, &demand, &seq, err);
	if (status != L3_OK)
		return status;
	seq->event = event;
	seq->user = user;

	/*
	 * Blocks that others hold too are taken here, before they can be given
	 * back: the rest of the reservation counts on them.
	 */
	status = l3_kv_reserve(model->kv, demand.n_reserved, err);
	if (status != L3_OK)
	{
		l3_sequence_free(seq);
		return status;
	}
	seq->n_reserved = demand.n_reserved;
	l3_sequence_take_prefix(seq);
	l3_ring_append(engine, seq);
	model->n_sequences++;
	engine->n_sequences++;
	*sequence = seq;
	return L3_OK;
}

void
l3_engine_cancel(L3Engine *engine, L3Sequence *seq)
{
	if (engine->in_step)
	{
		if (seq->in_batch && !seq->cancelled)
			engine->n_live--;
		seq->cancelled = true;
		return;
	}
	l3_sequence_release(seq);
	l3_sequence_free(seq);
}
