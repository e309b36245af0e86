/*-------------------------------------------------------------------------
 *
 * test_engine.c
 *	  The engine as its callers see it: the same answer bit for bit whatever
 *	  the company, and nothing left behind.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "kernels/kernels.h"
#include "sequence.h"
#include "tap.h"
#include "workspace.h"

#define MAX_OUT		64
#define MAX_PROMPT	400
#define N_JOBS		32

/* A request with room for its answer. */
typedef struct Job
{
	L3Request	request;
	int32_t		prompt[MAX_PROMPT];
	int32_t		out_tokens[MAX_OUT];
	double		out_logprobs[MAX_PROMPT];
	float		out_embedding[128];
	L3Result	result;
	L3Sequence *sequence;
	bool		done;
	int			n_events;
} Job;

typedef struct Bench
{
	const L3Arena *arena;
	L3EngineOptions options;
	L3Engine   *engine;
	L3Model    *model;
} Bench;

static const L3Tokenizer *tokenizer;

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Job		   *job = user;

	job->result = *result;
	job->done = event == L3_EVENT_DONE;
	job->n_events++;
}

static void
open_bench(Bench *bench, const L3Arena *arena, L3EngineOptions options, const L3Tokenizer *tok)
{
	L3Error		err;

	bench->arena = arena;
	bench->options = options;
	fixture_check(l3_engine_create(&options, &bench->engine, &err), &err);
	fixture_check(l3_engine_attach(bench->engine, arena, tok, &bench->model, &err), &err);
	bench->engine->kv.poison = true;
}

static void
close_bench(Bench *bench)
{
	l3_engine_destroy(bench->engine);
}

static void
submit(Bench *bench, Job *job)
{
	L3Error		err;

	job->done = false;
	job->n_events = 0;
	fixture_check(l3_engine_submit(bench->engine, bench->model, &job->request, on_event, job,
								   &job->sequence, &err), &err);
}

/* Run jobs as fast as they are admitted, until all are done. */
static void
run_jobs(Bench *bench, Job *jobs, int n)
{
	int			next = 0;
	bool		never;
	L3Error		err;

	do
	{
		while (next < n &&
			   l3_engine_can_admit(bench->engine, bench->model, &jobs[next].request, &never, &err))
			submit(bench, &jobs[next++]);
	} while (l3_engine_step(bench->engine));
}

/* ----------------------------------------------------------------
 *		Jobs of every kind
 * ----------------------------------------------------------------
 */

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

static void
fill_prompt(Job *job, int n, int n_common, uint64_t seed)
{
	uint32_t	n_vocab = 256;

	fixture_tokens(job->prompt, n, n_vocab, seed);
	fixture_tokens(job->prompt, n < n_common ? n : n_common, n_vocab, 77);
	job->request.tokens = job->prompt;
	job->request.n_tokens = n;
	job->request.salt = 5;
}

static void
make_generate(Job *job, int n, int max_tokens, float temperature)
{
	job->request.kind = L3_REQ_GENERATE;
	job->request.max_tokens = max_tokens;
	job->request.sampling = (L3Sampling)
	{
		.temperature = temperature, .top_p = 0.95f, .min_p = 0, .repeat_penalty = 1.1f,
		.top_k = 0, .seed = (uint64_t) n
	};
	job->request.out_tokens = job->out_tokens;
}

static void
make_score(Job *job)
{
	job->request.kind = L3_REQ_SCORE;
	job->request.label_tokens = label_tokens;
	job->request.label_end = label_end;
	job->request.n_labels = N_LABELS;
	job->request.out_logprobs = job->out_logprobs;
}

static void
make_embed(Job *job, L3Pooling pooling)
{
	job->request.kind = L3_REQ_EMBED;
	job->request.pooling = pooling;
	job->request.out_embedding = job->out_embedding;
}

static void
make_logprobs(Job *job, int first_scored)
{
	job->request.kind = L3_REQ_LOGPROBS;
	job->request.first_scored = first_scored;
	job->request.out_logprobs = job->out_logprobs;
}

/* All kinds, with prompts of 1 to 300 tokens, most of them with a common beginning. */
static Job *
make_jobs(void)
{
	static const int lengths[] = {1, 15, 16, 17, 33, 64, 100, 150, 240, 300};
	Job		   *jobs = calloc(N_JOBS, sizeof(Job));

	for (int i = 0; i < N_JOBS; i++)
	{
		int			n = lengths[i * 7 % 10];

		fill_prompt(&jobs[i], n, i % 3 == 0 ? 0 : 70, 1000 + (uint64_t) i);
		switch (i % 6)
		{
			case 0:
				make_generate(&jobs[i], n, 20, 0);
				break;
			case 1:
				make_score(&jobs[i]);
				break;
			case 2:
				make_generate(&jobs[i], n, 33, 0.9f);
				break;
			case 3:
				make_embed(&jobs[i], L3_POOL_MEAN);
				break;
			case 4:
				if (n > 1)
					make_logprobs(&jobs[i], n > 20 ? n - 18 : 1);
				else
					make_embed(&jobs[i], L3_POOL_LAST);
				break;
			case 5:
				make_embed(&jobs[i], L3_POOL_LAST);
				break;
		}
	}
	return jobs;
}

/* Bit for bit. */
static bool
same_answers(const Job *a, const Job *b)
{
	return a->done && b->done &&
		a->result.n_out == b->result.n_out && a->result.finish == b->result.finish &&
		a->result.n_bytes == b->result.n_bytes &&
		memcmp(a->out_tokens, b->out_tokens, sizeof(a->out_tokens)) == 0 &&
		memcmp(a->out_logprobs, b->out_logprobs, sizeof(a->out_logprobs)) == 0 &&
		memcmp(a->out_embedding, b->out_embedding, sizeof(a->out_embedding)) == 0;
}

static int
count_differences(const Job *a, const Job *b)
{
	int			n = 0;

	for (int i = 0; i < N_JOBS; i++)
		n += !same_answers(&a[i], &b[i]);
	return n;
}

/* Each job in an engine of its own: the answers to compare with. */
static Job *
answers_alone(const L3Arena *arena, L3EngineOptions options)
{
	Job		   *jobs = make_jobs();

	for (int i = 0; i < N_JOBS; i++)
	{
		Bench		bench;

		open_bench(&bench, arena, options, tokenizer);
		run_jobs(&bench, &jobs[i], 1);
		close_bench(&bench);
	}
	return jobs;
}

static bool
nothing_used(const L3Engine *engine)
{
	L3EngineStats stats;

	l3_engine_stats(engine, &stats);
	return stats.kv_bytes_used == 0 && stats.n_sequences == 0 &&
		l3_kv_committed_bytes(&engine->kv) == 0;
}

/* ----------------------------------------------------------------
 *		The same answer bit for bit
 * ----------------------------------------------------------------
 */

static void
test_same_answers(const char *what, const L3Arena *arena, L3KvType kv_type, const char *cpu)
{
	static const int chunks[] = {16, 17, 64, 512};
	static const int threads[] = {1, 2, 4};
	L3EngineOptions options = fixture_options();
	Job		   *alone;
	Job		   *together = make_jobs();
	Bench		bench;

	options.kv_type = kv_type;
	options.cpu_features = cpu;
	alone = answers_alone(arena, options);
	for (size_t c = 0; c < 4; c++)
		for (size_t t = 0; t < 3; t++)
		{
			int			cold;
			int			warm;
			L3EngineStats stats;

			options.batch_tokens = chunks[c];
			options.n_threads = threads[t];
			/* steps have room for 16 rows more than sequences */
			options.max_sequences = chunks[c] < 64 ? 1 + (int) t : 40;
			open_bench(&bench, arena, options, tokenizer);
			run_jobs(&bench, together, N_JOBS);
			cold = count_differences(alone, together);
			run_jobs(&bench, together, N_JOBS);
			warm = count_differences(alone, together);
			l3_engine_stats(bench.engine, &stats);
			tap_ok(cold == 0 && warm == 0 && stats.n_cached_tokens > 0 && nothing_used(bench.engine),
				   "%s: as alone among %d others, %d rows, %d threads, cold and warm cache",
				   what, options.max_sequences - 1, chunks[c], threads[t]);
			close_bench(&bench);
		}
	free(alone);
	free(together);
}

int
main(void)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *f32 = fixture_arena(&hp, L3_F32, 1);

	tokenizer = fixture_tokenizer();
	test_same_answers("F32, KV in float", f32, L3_KV_F32, NULL);
	free((void *) f32);
	free((void *) tokenizer);
	return tap_done();
}
