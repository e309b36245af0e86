/*-------------------------------------------------------------------------
 *
 * test_engine.c
 *	  The engine under load: the same answer bit for bit whatever the company,
 *	  cancellation, the bound on memory, and nothing left behind.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "tap.h"

#define N_JOBS		33
#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

static const L3Tokenizer *tokenizer;

/* Labels with shared heads, of 1 to 20 tokens, one of them twice. */
static const int32_t label_tokens[] = {
	7,
	8, 9, 10,
	8, 9, 11,
	8, 12,
	20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
	8, 9, 13, 14, 15,
	8, 9, 13, 14, 16,
	8, 12
};
static const int32_t label_end[] = {1, 4, 7, 9, 29, 34, 39, 41};

#define N_LABELS	8

/* Job i of a mix of all kinds, with prompts of 1 to 300 tokens, most with a common beginning. */
static void
make_job(Job *job, int i)
{
	static const int lengths[] = {1, 15, 16, 17, 33, 64, 100, 150, 240, 300};
	int			n = lengths[i * 7 % 10];

	job_prompt(job, n, i % 3 == 0 ? 0 : 70, 1000 + (uint64_t) i);
	switch (i % 6)
	{
		case 0:
			job_generate(job, 20, 0);
			break;
		case 1:
			job_score(job, label_tokens, label_end, N_LABELS);
			break;
		case 2:
			job_generate(job, 33, 0.9f);
			break;
		case 3:
			job_embed(job, L3_POOL_MEAN);
			break;
		case 4:
			if (n > 1)
				job_logprobs(job, n > 20 ? n - 18 : 1);
			else
				job_embed(job, L3_POOL_LAST);
			break;
		case 5:
			job_embed(job, L3_POOL_LAST);
			break;
	}
}

static Job *
make_jobs(void)
{
	Job		   *jobs = calloc(N_JOBS, sizeof(Job));

	for (int i = 0; i < N_JOBS; i++)
		make_job(&jobs[i], i);
	return jobs;
}

static int
count_differences(const Job *a, const Job *b)
{
	int			n = 0;

	for (int i = 0; i < N_JOBS; i++)
		n += !job_same(&a[i], &b[i]);
	return n;
}

/* ----------------------------------------------------------------
 *		The same answer bit for bit
 * ----------------------------------------------------------------
 */

/* Each job alone in an engine of its own, with one thread: the answers to compare with. */
static Job *
answers_alone(const L3Arena *arena, L3EngineOptions options)
{
	Job		   *jobs = make_jobs();

	options.batch_tokens = 512;
	options.n_threads = 1;
	for (int i = 0; i < N_JOBS; i++)
	{
		Rig			rig;

		rig_open(&rig, arena, options, tokenizer);
		rig_run(&rig, &jobs[i], 1);
		rig_close(&rig);
	}
	return jobs;
}

/* All jobs at one time, twice, the second time with what the first left in the cache. */
static void
compare_together(const char *what, const L3Arena *arena, L3EngineOptions options, const Job *alone)
{
	Job		   *together = make_jobs();
	L3EngineStats stats;
	Rig			rig;
	int			cold;
	int			warm;

	rig_open(&rig, arena, options, tokenizer);
	rig_run(&rig, together, N_JOBS);
	cold = count_differences(alone, together);
	rig_run(&rig, together, N_JOBS);
	warm = count_differences(alone, together);
	l3_engine_stats(rig.engine, &stats);
	tap_ok(cold == 0 && warm == 0 && (stats.n_cached_tokens > 0) == options.prefix_cache &&
		   rig_idle(&rig),
		   "%s: %d jobs answer as alone, %d at one time, %d rows a step, %d threads, "
		   "cold and %s cache", what, N_JOBS, options.max_sequences, options.batch_tokens,
		   options.n_threads, options.prefix_cache ? "warm" : "no");
	if (cold + warm > 0)
		tap_note("%d differ when cold, %d when warm", cold, warm);
	rig_close(&rig);
	free(together);
}

/* Rows of a step and threads; a step has room for 16 rows more than sequences. */
typedef struct Shape
{
	int			rows;
	int			threads;
	int			sequences;
	bool		cache;
} Shape;

static void
test_same_answers(const char *what, const L3Arena *arena, L3KvType kv_type, const char *cpu,
				  const Shape *shapes, int n)
{
	L3EngineOptions options = fixture_options();
	Job		   *alone;

	options.kv_type = kv_type;
	options.cpu_features = cpu;
	alone = answers_alone(arena, options);
	for (int i = 0; i < n; i++)
	{
		options.batch_tokens = shapes[i].rows;
		options.n_threads = shapes[i].threads;
		options.max_sequences = shapes[i].sequences;
		options.prefix_cache = shapes[i].cache;
		compare_together(what, arena, options, alone);
	}
	free(alone);
}

static void
test_all_same_answers(void)
{
#ifdef L3_SANITIZED
	static const Shape all[] = {{17, 2, 3, true}, {64, 4, 33, true}};
	static const Shape few[] = {{64, 2, 40, true}};
#else
	static const Shape all[] = {
		{16, 1, 1, true}, {16, 2, 3, true}, {17, 1, 40, true}, {17, 4, 2, true},
		{64, 1, 33, true}, {64, 2, 33, true}, {64, 4, 33, false},
		{512, 1, 33, true}, {512, 2, 33, true}, {512, 4, 40, true}
	};
	static const Shape few[] = {{17, 2, 2, true}, {64, 4, 40, true}};
#endif
	L3Hparams	hp = fixture_hparams();
	const L3Arena *f32 = fixture_arena(&hp, L3_F32, 1);
	const L3Arena *bf16;
	const L3Arena *q8_0;

	hp.tied = 1;
	bf16 = fixture_arena(&hp, L3_BF16, 2);
	hp = fixture_hparams();
	hp.head_dim = hp.value_dim = hp.rope_dim = 64;
	q8_0 = fixture_arena(&hp, L3_Q8_0, 3);

	test_same_answers("F32, KV in float", f32, L3_KV_F32, NULL, all, lengthof(all));
	test_same_answers("F32, KV in half", f32, L3_KV_F16, NULL, few, lengthof(few));
	test_same_answers("F32, KV in Q8_0", f32, L3_KV_Q8_0, NULL, few, lengthof(few));
	test_same_answers("Q8_0, KV in Q8_0, AVX2", q8_0, L3_KV_Q8_0, "avx2", few, lengthof(few));
	test_same_answers("Q8_0, KV in half", q8_0, L3_KV_F16, NULL, few, lengthof(few));
	test_same_answers("Q8_0, KV in float, portable kernels", q8_0, L3_KV_F32, "generic", few, lengthof(few));
	test_same_answers("BF16 tied, KV in half", bf16, L3_KV_F16, NULL, few, lengthof(few));
	free((void *) f32);
	free((void *) bf16);
	free((void *) q8_0);
}

/* ----------------------------------------------------------------
 *		The prefix cache
 * ----------------------------------------------------------------
 */

static void
test_prefix_computed_once(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	Job		   *jobs = calloc(20, sizeof(Job));
	int			n_cached = 0;
	int			n_done = 0;
	L3EngineStats stats;
	Rig			rig;

	for (int i = 0; i < 20; i++)
	{
		job_prompt(&jobs[i], 160 + 8, 160, 50 + (uint64_t) i);
		job_generate(&jobs[i], 1, 0);
	}
	rig_open(&rig, arena, options, NULL);
	rig_run(&rig, jobs, 20);
	l3_engine_stats(rig.engine, &stats);
	tap_ok(stats.n_prefill_tokens == 160 + 20 * 8 && stats.n_cached_tokens == 19 * 160,
		   "prompts that arrive together compute their common beginning once");
	for (int i = 0; i < 20; i++)
	{
		n_cached += jobs[i].result.n_cached;
		n_done += jobs[i].result.n_prompt_done;
	}
	tap_ok(n_cached == 19 * 160 && n_done == 20 * 168,
		   "results say how much of their prompts came from the cache");

	/* another database's secret: nothing is shared */
	jobs[0].request.salt = 6;
	rig_run(&rig, jobs, 1);
	tap_ok(jobs[0].result.n_cached == 0, "another salt shares nothing");

	/* the whole prompt is cached: all but the last block's rest comes from there */
	rig_run(&rig, &jobs[1], 1);
	tap_ok(jobs[1].result.n_cached == 160, "the last prompt token is always computed");
	jobs[1].request.n_tokens = 160;
	rig_run(&rig, &jobs[1], 1);
	tap_ok(jobs[1].result.n_cached == 159, "also when the prompt ends with a block");
	rig_close(&rig);

	/* 12 blocks and 5 tokens of a thirteenth, whose beginning is copied */
	for (int i = 0; i < 20; i++)
	{
		job_prompt(&jobs[i], 197 + 20, 197, 50 + (uint64_t) i);
		job_generate(&jobs[i], 1, 0);
		jobs[i].prompt[197] = i;
	}
	rig_open(&rig, arena, options, NULL);
	rig_run(&rig, jobs, 1);
	rig_run(&rig, jobs + 1, 19);
	l3_engine_stats(rig.engine, &stats);
	tap_ok(stats.n_prefill_tokens == 197 + 20 * 20 && stats.n_cached_tokens == 19 * 197,
		   "a known beginning may end within a block");
	rig_close(&rig);
	free(jobs);
}

/* An answer becomes the beginning of the next prompt, as in a conversation. */
static void
test_answer_is_prefix(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	Job			first;
	Job			second;
	Rig			rig;

	rig_open(&rig, arena, options, NULL);
	job_prompt(&first, 20, 0, 9);
	job_generate(&first, 45, 0);
	rig_run(&rig, &first, 1);
	job_prompt(&second, 20, 0, 9);
	memcpy(second.prompt + 20, first.out_tokens, 45 * sizeof(int32_t));
	second.request.n_tokens = 65;
	job_generate(&second, 5, 0);
	rig_run(&rig, &second, 1);
	tap_ok(second.result.n_cached == 64, "a conversation goes on from its own answer");
	rig_close(&rig);
}

/* ----------------------------------------------------------------
 *		Cancellation
 * ----------------------------------------------------------------
 */

static void
test_cancel_between_steps(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	Job		   *jobs = make_jobs();
	bool		ok = true;
	Rig			rig;

	rig_open(&rig, arena, options, tokenizer);
	for (int n_steps = 0; n_steps < 12; n_steps++)
	{
		for (int i = 0; i < N_JOBS; i++)
			rig_submit(&rig, &jobs[i]);
		for (int i = 0; i < n_steps; i++)
			l3_engine_step(rig.engine);
		for (int i = 0; i < N_JOBS; i++)
			if (!jobs[i].done)
				l3_engine_cancel(rig.engine, jobs[i].sequence);
		ok = ok && rig_idle(&rig) && !l3_engine_step(rig.engine);
	}
	tap_ok(ok, "cancel between steps frees the blocks of every kind of request");
	rig_close(&rig);
	free(jobs);
}

typedef struct PollState
{
	Rig		   *rig;
	Job		   *jobs;
	int			n_jobs;
	int			calls;
	int			cancel_at;
	int			calls_after;
} PollState;

static void
cancel_in_poll(void *ctx)
{
	PollState  *state = ctx;

	if (++state->calls > state->cancel_at)
		state->calls_after++;
	if (state->calls == state->cancel_at)
		for (int i = 0; i < state->n_jobs; i++)
			if (!state->jobs[i].done)
				l3_engine_cancel(state->rig->engine, state->jobs[i].sequence);
}

static void
test_cancel_in_poll(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	bool		untouched = true;
	bool		stops_at_once = true;
	bool		freed = true;
	PollState	state = {0};
	Job			job;
	Rig			rig;

	options.poll = cancel_in_poll;
	options.poll_ctx = &state;
	state.rig = &rig;
	rig_open(&rig, arena, options, NULL);
	for (int at = 1; at < 60; at += 3)
	{
		job_prompt(&job, 60, 0, 3);
		job_generate(&job, 4, 0);
		memset(job.out_tokens, 0x55, sizeof(job.out_tokens));
		state.jobs = &job;
		state.n_jobs = 1;
		state.calls = state.calls_after = 0;
		state.cancel_at = at;
		rig_submit(&rig, &job);
		while (state.calls < at)
			l3_engine_step(rig.engine);
		freed = freed && rig_idle(&rig);
		stops_at_once = stops_at_once && state.calls_after == 0;
		for (int i = job.result.n_out; i < FIXTURE_MAX_OUT; i++)
			untouched = untouched && job.out_tokens[i] == 0x55555555;
		untouched = untouched && !job.done;
	}
	tap_ok(freed, "cancel in poll frees the blocks");
	tap_ok(stops_at_once, "a step stops at once when all its sequences are cancelled");
	tap_ok(untouched, "after a cancel there are no events and no output is written");
	rig_close(&rig);
}

static void
test_cancel_some_in_poll(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	Job		   *alone = answers_alone(arena, options);
	Job		   *jobs = make_jobs();
	PollState	state = {.n_jobs = N_JOBS / 2};
	int			differ = 0;
	Rig			rig;

	options.poll = cancel_in_poll;
	options.poll_ctx = &state;
	state.rig = &rig;
	state.jobs = jobs;
	for (int at = 5; at < 400; at += 197)
	{
		state.calls = 0;
		state.cancel_at = at;
		rig_open(&rig, arena, options, tokenizer);
		for (int i = 0; i < N_JOBS; i++)
			rig_submit(&rig, &jobs[i]);
		while (l3_engine_step(rig.engine))
			;
		for (int i = N_JOBS / 2; i < N_JOBS; i++)
			differ += !job_same(&alone[i], &jobs[i]);
		differ += !rig_idle(&rig);
		rig_close(&rig);
	}
	tap_ok(differ == 0, "those that go on answer as if the cancelled had not been there");
	free(alone);
	free(jobs);
}

/* ----------------------------------------------------------------
 *		Memory
 * ----------------------------------------------------------------
 */

/* Do the counters of every pool agree with its blocks and with who holds them? */
static bool
kv_consistent(const L3Engine *engine)
{
	const L3Kv *kv = &engine->kv;
	uint64_t	resident = 0;
	bool		ok = true;

	for (const L3KvPool *pool = kv->pools; pool != NULL; pool = pool->next_pool)
	{
		int64_t		refs = 0;
		int64_t		held = 0;
		int64_t		reserved = 0;
		int			used = 0;
		int			cached = 0;

		for (int i = 0; i < pool->n_touched; i++)
		{
			const L3KvBlock *block = &pool->blocks[i];

			ok = ok && (block->refs > 0) == (block->state == L3_KV_USED);
			ok = ok && (block->state != L3_KV_CACHED || block->serial != 0);
			refs += block->refs;
			used += block->state == L3_KV_USED;
			cached += block->state == L3_KV_CACHED;
			resident += block->state != L3_KV_COLD ? pool->block_bytes : 0;
		}
		for (const L3Sequence *seq = engine->ring.next; seq != &engine->ring; seq = seq->next)
		{
			if (seq->model->kv != pool)
				continue;
			held += seq->n_blocks;
			reserved += seq->n_reserved;
			for (int i = 0; seq->score != NULL && i < seq->score->labels.n_chains; i++)
				held += seq->score->forks[i].n_blocks;
		}
		ok = ok && refs == held && reserved == pool->n_reserved && pool->n_reserved >= 0;
		ok = ok && used == pool->n_used && cached == pool->n_cached;
	}
	return ok && resident == kv->resident && resident <= kv->limit &&
		l3_kv_committed_bytes(kv) <= kv->limit;
}

/* Random submits, cancels and steps on two models of different shapes in a tight cache. */
static void
test_random_load(const L3Arena *a, const L3Arena *b, int n_rounds)
{
	L3EngineOptions options = fixture_options();
	Job		   *alone[2];
	Job		   *jobs = calloc(N_JOBS, sizeof(Job));
	bool	   *running = calloc(N_JOBS, sizeof(bool));
	int		   *which = calloc(N_JOBS, sizeof(int));
	uint64_t	state = 12345;
	bool		consistent = true;
	int			differ = 0;
	int			n_done = 0;
	L3EngineStats stats;
	L3Model    *models[2];
	L3Error		err;
	Rig			rig;

	options.n_threads = 2;
	alone[0] = answers_alone(a, options);
	alone[1] = answers_alone(b, options);
	options.kv_cache_bytes = 48 * l3_kv_block_bytes(l3_arena_hparams(a), options.kv_type) + 5000;
	rig_open(&rig, a, options, tokenizer);
	models[0] = rig.model;
	fixture_check(l3_engine_attach(rig.engine, b, tokenizer, &models[1], &err), &err);

	for (int round = 0; round < n_rounds; round++)
	{
		int			i = (int) (fixture_random(&state) >> 33) % N_JOBS;

		rig.model = models[fixture_random(&state) >> 63];
		if (!running[i])
		{
			make_job(&jobs[i], i);
			if (l3_engine_can_admit(rig.engine, rig.model, &jobs[i].request, NULL, &err))
			{
				rig_submit(&rig, &jobs[i]);
				running[i] = true;
				which[i] = rig.model == models[1];
			}
		}
		else if (fixture_random(&state) % 8 == 0)
		{
			l3_engine_cancel(rig.engine, jobs[i].sequence);
			running[i] = false;
		}
		if (fixture_random(&state) % 2 == 0)
			l3_engine_step(rig.engine);
		consistent = consistent && kv_consistent(rig.engine);
		for (int j = 0; j < N_JOBS; j++)
			if (running[j] && jobs[j].done)
			{
				running[j] = false;
				n_done++;
				differ += !job_same(&jobs[j], &alone[which[j]][j]);
			}
	}
	while (l3_engine_step(rig.engine))
		consistent = consistent && kv_consistent(rig.engine);
	l3_engine_stats(rig.engine, &stats);
	tap_note("%d of the requests ended, %llu tokens came from the cache", n_done,
			 (unsigned long long) stats.n_cached_tokens);
	tap_ok(consistent, "under random load references, reservations and the bound always hold");
	tap_ok(differ == 0 && n_done > n_rounds / 20, "and every answer is as alone");
	tap_ok(rig_idle(&rig), "and nothing is held when all have ended");
	rig_close(&rig);
	free(alone[0]);
	free(alone[1]);
	free(jobs);
	free(running);
	free(which);
}

int
main(void)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *arena = fixture_arena(&hp, L3_F32, 1);
	const L3Arena *other;

	hp.n_layers = 3;
	hp.n_kv_heads = 1;
	hp.head_dim = 48;
	other = fixture_arena(&hp, L3_F32, 4);
	tokenizer = fixture_tokenizer();

	test_all_same_answers();
	test_prefix_computed_once(arena);
	test_answer_is_prefix(arena);
	test_cancel_between_steps(arena);
	test_cancel_in_poll(arena);
	test_cancel_some_in_poll(arena);
#ifdef L3_SANITIZED
	test_random_load(arena, other, 300);
#else
	test_random_load(arena, other, 4000);
#endif
	free((void *) arena);
	free((void *) other);
	free((void *) tokenizer);
	return tap_done();
}
