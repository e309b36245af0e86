/*-------------------------------------------------------------------------
 *
 * test_lookup.c
 *	  Prompt lookup: drafts change no bit of any answer, whatever they say, and
 *	  cost nothing where they are of no use.
 *
 * The tiny random model copies nothing of itself.  What makes its answers
 * repeat is little choice: greedy answers that run into circles, few tokens to
 * sample from, grammars of few letters.  So drafts are right and wrong in turn.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "grammar_match.h"
#include "tap.h"

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

#ifdef L3_SANITIZED
#define N_JOBS		24
#else
#define N_JOBS		96
#endif
#define N_KINDS		8
#define MAX_OUT		FIXTURE_MAX_OUT

static const L3Tokenizer *tok;
static L3Grammar *grammars[3];

/* ----------------------------------------------------------------
 *		Requests
 * ----------------------------------------------------------------
 */

static uint32_t
letters(L3GrammarBuilder *b)
{
	return l3_grammar_repeat(b, l3_grammar_range(b, 'a', 'b'), 0, L3_GRAMMAR_UNBOUNDED);
}

/* {"kind": "a", "next": "b"}, ... again and again: sampled letters between forced texts. */
static uint32_t
records(L3GrammarBuilder *b)
{
	uint32_t	parts[] = {grammar_text(b, "{\"k\": \""), l3_grammar_range(b, 'a', 'b'),
	grammar_text(b, "\"}")};
	uint32_t	record = l3_grammar_seq(b, parts, lengthof(parts));

	return l3_grammar_repeat(b, record, 1, 40);
}

static uint32_t
pairs(L3GrammarBuilder *b)
{
	/* abcd can be one token, two or four */
	uint32_t	ways[] = {grammar_text(b, "abcd"), grammar_text(b, "ab"), grammar_text(b, ", ")};

	return l3_grammar_repeat(b, l3_grammar_alt(b, ways, lengthof(ways)), 1, 30);
}

/* Sampling of kind k; what each is for stands beside it. */
static void
set_sampling(Job *job, int k)
{
	L3Sampling *s = &job->request.sampling;

	s->temperature = 1;
	s->top_p = 1;
	s->repeat_penalty = 1;
	switch (k)
	{
		case 0:					/* circles */
			s->temperature = 0;
			break;
		case 1:					/* a penalty that looks back over the draft */
			s->temperature = 0;
			s->repeat_penalty = 1.02f;
			break;
		case 2:					/* circles that are left now and then */
			s->temperature = 0.3f;
			s->top_k = 2;
			break;
		case 3:					/* nothing repeats */
			break;
		case 4:
			s->top_p = 0.3f;
			s->repeat_penalty = 1.2f;
			break;
		default:				/* grammars */
			s->temperature = k % 2 == 0 ? 0.5f : 1;
			break;
	}
}

/* Job i: prompts of 1 to 300 tokens, of few different tokens, so that all has been before. */
static void
make_job(Job *job, int i, bool lookup)
{
	static const int lengths[] = {1, 15, 16, 17, 33, 64, 100, 150, 240, 300};
	int			n = lengths[i * 7 % lengthof(lengths)];
	int			kind = i % N_KINDS;

	job_prompt(job, n, i % 3 == 0 ? 0 : 70, 1000 + (uint64_t) i);
	if (i % 2 == 0)
		for (int t = 0; t < n; t++)
			job->prompt[t] = 'a' + job->prompt[t] % 2;
	job_generate(job, i % 5 == 0 ? 7 + i % 13 : MAX_OUT, 0);
	set_sampling(job, kind);
	job->request.sampling.seed = (uint64_t) i;
	job->request.ignore_stop_tokens = i % 4 == 3 || kind == 5;
	job->request.prompt_lookup = lookup;
	if (kind >= N_KINDS - lengthof(grammars))
	{
		const L3Grammar *g = grammars[kind - (N_KINDS - lengthof(grammars))];

		job->request.grammar = g;
		job->request.grammar_size = g->size;
		job->request.max_tokens = MAX_OUT;
	}
}

static Job *
make_jobs(bool lookup)
{
	Job		   *jobs = calloc(N_JOBS, sizeof(Job));

	for (int i = 0; i < N_JOBS; i++)
		make_job(&jobs[i], i, lookup);
	return jobs;
}

/* Each job alone, without lookup: the answers to compare with. */
static Job *
answers_without(const L3Arena *arena, L3EngineOptions options)
{
	Job		   *jobs = make_jobs(false);

	options.batch_tokens = 512;
	options.n_threads = 1;
	for (int i = 0; i < N_JOBS; i++)
	{
		Rig			rig;
		L3EngineStats stats;

		rig_open(&rig, arena, options, tok);
		rig_run(&rig, &jobs[i], 1);
		l3_engine_stats(rig.engine, &stats);
		if (stats.n_drafted_tokens > 0)
			tap_ok(false, "no draft where a request asks for none");
		rig_close(&rig);
	}
	return jobs;
}

static int
count_differences(const Job *a, const Job *b, int n)
{
	int			n_different = 0;

	for (int i = 0; i < n; i++)
		if (!job_same(&a[i], &b[i]))
		{
			if (n_different++ == 0)
				tap_note("job %d: %d and %d tokens, finish %d and %d", i, a[i].result.n_out,
						 b[i].result.n_out, (int) a[i].result.finish, (int) b[i].result.finish);
		}
	return n_different;
}

/* ----------------------------------------------------------------
 *		The same answers
 * ----------------------------------------------------------------
 */

/* What drafts did in an engine. */
static L3EngineStats
drafts(const Rig *rig)
{
	L3EngineStats stats;

	l3_engine_stats(rig->engine, &stats);
	return stats;
}

typedef struct Shape
{
	int			rows;
	int			threads;
	int			sequences;
	bool		cache;
} Shape;

static void
test_same_answers(const char *what, const L3Arena *arena, L3KvType kv_type, const char *cpu)
{
	static const Shape shapes[] = {
		{16, 1, 1, true}, {17, 2, 3, true}, {64, 2, 7, false}, {512, 1, 40, true}
	};
	L3EngineOptions options = fixture_options();
	Job		   *without;

	options.kv_type = kv_type;
	options.cpu_features = cpu;
	without = answers_without(arena, options);
	for (int i = 0; i < lengthof(shapes); i++)
	{
		Job		   *with = make_jobs(true);
		L3EngineStats stats;
		int			cold;
		int			warm;
		Rig			rig;

		options.batch_tokens = shapes[i].rows;
		options.n_threads = shapes[i].threads;
		options.max_sequences = shapes[i].sequences;
		options.prefix_cache = shapes[i].cache;
		rig_open(&rig, arena, options, tok);
		rig_run(&rig, with, N_JOBS);
		cold = count_differences(without, with, N_JOBS);
		rig_run(&rig, with, N_JOBS);
		warm = count_differences(without, with, N_JOBS);
		stats = drafts(&rig);
		/* among 40 there is room for drafts only when most have ended */
		tap_ok(cold == 0 && warm == 0 && rig_idle(&rig) && (shapes[i].sequences > 7 ||
				(stats.n_accepted_tokens > 0 && stats.n_drafted_tokens > stats.n_accepted_tokens)),
			   "%s: %d answers with drafts as without, %d at one time, %d rows a step, %d threads",
			   what, N_JOBS, shapes[i].sequences, shapes[i].rows, shapes[i].threads);
		tap_note("%d of %d drafted tokens were right", (int) stats.n_accepted_tokens,
				 (int) stats.n_drafted_tokens);
		rig_close(&rig);
		free(with);
	}
	free(without);
}

/* Every kind of sampling has drafts that are right, and some that are wrong. */
static void
test_every_kind(const L3Arena *arena)
{
	static const char *const names[N_KINDS] = {
		"greedy", "greedy with a penalty", "top_k", "plain sampling", "top_p with a penalty",
		"a grammar of letters", "a grammar with forced texts", "a grammar of words"
	};
	L3EngineOptions options = fixture_options();

	options.max_sequences = 4;
	for (int kind = 0; kind < N_KINDS; kind++)
	{
		Job		   *with = make_jobs(true);
		Job		   *without = make_jobs(false);
		L3EngineStats stats;
		bool		same = true;
		Rig			rig;

		rig_open(&rig, arena, options, tok);
		for (int i = kind; i < N_JOBS; i += N_KINDS)
			for (int seed = 0; seed < 10; seed++)
			{
				with[i].request.sampling.seed = without[i].request.sampling.seed = (uint64_t) seed;
				rig_run(&rig, &with[i], 1);
				rig_run(&rig, &without[i], 1);
				same = same && job_same(&with[i], &without[i]);
			}
		stats = drafts(&rig);
		/* what is sampled plainly from 262 tokens hardly ever repeats */
		tap_ok(same && stats.n_drafted_tokens > stats.n_accepted_tokens &&
			   (kind == 3 || stats.n_accepted_tokens > 0), "%s: the same with drafts", names[kind]);
		tap_note("%d of %d drafted tokens were right", (int) stats.n_accepted_tokens,
				 (int) stats.n_drafted_tokens);
		rig_close(&rig);
		free(with);
		free(without);
	}
}

/* ----------------------------------------------------------------
 *		Endings
 * ----------------------------------------------------------------
 */

static uint64_t circle_seed;

/* A greedy answer that runs into a circle soon: most of it is drafted. */
static void
circle(Job *job, bool lookup)
{
	job_prompt(job, 40, 0, circle_seed);
	job_generate(job, MAX_OUT, 0);
	job->request.sampling.repeat_penalty = 1;
	job->request.ignore_stop_tokens = true;
	job->request.prompt_lookup = lookup;
}

/* Find a prompt for it. */
static void
find_circle(const L3Arena *arena)
{
	static Job	job;
	bool		found = false;
	Rig			rig;

	rig_open(&rig, arena, fixture_options(), tok);
	while (!found && circle_seed++ < 1000)
	{
		circle(&job, false);
		rig_run(&rig, &job, 1);
		for (int period = 1; period < 6; period++)
			found = found || memcmp(job.out_tokens + 24, job.out_tokens + 24 - period,
									(MAX_OUT - 24) * sizeof(int32_t)) == 0;
	}
	tap_ok(found, "a greedy answer runs into a circle");
	tap_note("prompt %d", (int) circle_seed);
	rig_close(&rig);
}

/*
 * Stop strings that end at any byte, within a token and across several.  The
 * longer ones are found when the circle has come round, in drafted runs.
 */
static void
test_stop_strings(const L3Arena *arena)
{
	static Job	whole;
	static Job	with;
	static Job	without;
	char		text[MAX_OUT * 8];
	int32_t		n = 0;
	static const int32_t lengths[] = {1, 2, 5, 9, 14};
	int			n_stopped = 0;
	bool		same = true;
	Rig			rig;

	rig_open(&rig, arena, fixture_options(), tok);
	circle(&whole, false);
	rig_run(&rig, &whole, 1);
	for (int i = 0; i < whole.result.n_out; i++)
	{
		uint32_t	len = 0;
		const char *piece = l3_tokenizer_piece(tok, whole.out_tokens[i], &len);

		if (l3_tokenizer_is_special(tok, whole.out_tokens[i]) || piece == NULL)
			continue;
		memcpy(text + n, piece, len);
		n += (int32_t) len;
	}
	for (int i = 0; i < lengthof(lengths); i++)
		for (int32_t at = 0; at + lengths[i] <= n; at++)
		{
			uint64_t	n_right = drafts(&rig).n_accepted_tokens;

			circle(&with, true);
			circle(&without, false);
			with.request.stop = without.request.stop = text + at;
			with.request.stop_len = without.request.stop_len = &lengths[i];
			with.request.n_stops = without.request.n_stops = 1;
			rig_run(&rig, &with, 1);
			rig_run(&rig, &without, 1);
			same = same && job_same(&with, &without);
			n_stopped += with.result.finish == L3_FINISH_STOP_STRING &&
				drafts(&rig).n_accepted_tokens > n_right;
		}
	tap_ok(same && n_stopped > 0,
		   "a stop string ends an answer in the midst of a draft where it ends it without");
	tap_note("%d answers with drafted tokens were stopped", n_stopped);
	rig_close(&rig);
}

static void
test_max_tokens(const L3Arena *arena)
{
	static Job	with;
	static Job	without;
	bool		same = true;
	bool		in_bounds = true;
	L3EngineOptions options = fixture_options();
	Rig			rig;

	rig_open(&rig, arena, options, tok);
	for (int n = 1; n <= MAX_OUT; n++)
	{
		circle(&with, true);
		circle(&without, false);
		with.request.max_tokens = without.request.max_tokens = n;
		rig_run(&rig, &without, 1);
		rig_submit(&rig, &with);
		while (l3_engine_step(rig.engine))
			in_bounds = in_bounds && (with.done || with.sequence->n_reserved >= 0);
		same = same && job_same(&with, &without);
	}
	tap_ok(same && in_bounds && rig_idle(&rig) && drafts(&rig).n_accepted_tokens > 0,
		   "drafts keep within max_tokens and the blocks that are reserved for them");
	rig_close(&rig);
}

/* ----------------------------------------------------------------
 *		What is cached, what is seen meanwhile
 * ----------------------------------------------------------------
 */

/*
 * The cached blocks of answers are what a fresh engine computes: of a prompt
 * that contains an answer the log-probabilities of what follows are the same
 * in every bit.
 */
static void
test_cached_answers(const L3Arena *arena)
{
	Job		   *jobs = make_jobs(true);
	L3EngineOptions options = fixture_options();
	Rig			rig;
	int			n_cached = 0;
	bool		same = true;

	rig_open(&rig, arena, options, tok);
	for (int i = 0; i < N_JOBS; i++)
	{
		static Job	after;
		static Job	alone;
		int			n = jobs[i].request.n_tokens;
		Rig			fresh;

		if (n > 240)
			continue;
		rig_run(&rig, &jobs[i], 1);
		job_prompt(&after, n + jobs[i].result.n_out + 5, 0, 3);
		memcpy(after.prompt, jobs[i].prompt, (size_t) n * sizeof(int32_t));
		memcpy(after.prompt + n, jobs[i].out_tokens, (size_t) jobs[i].result.n_out * sizeof(int32_t));
		job_logprobs(&after, after.request.n_tokens - 3);
		alone = after;
		alone.request.tokens = alone.prompt;
		alone.request.out_logprobs = alone.out_logprobs;
		rig_run(&rig, &after, 1);
		n_cached += after.result.n_cached > n;
		rig_open(&fresh, arena, options, tok);
		rig_run(&fresh, &alone, 1);
		rig_close(&fresh);
		same = same && job_same(&after, &alone);
	}
	tap_ok(same && n_cached > N_JOBS / 4 && drafts(&rig).n_accepted_tokens > 0,
		   "the cache keeps of drafts only what was right");
	rig_close(&rig);
	free(jobs);
}

/* What a caller sees of an answer stays, and more than a token may come at once. */
static void
test_progress(const L3Arena *arena)
{
	static Job	with;
	static Job	without;
	int32_t		seen[MAX_OUT];
	int32_t		n_seen = 0;
	int64_t		n_bytes = 0;
	int			most = 0;
	bool		stays = true;
	Rig			rig;

	rig_open(&rig, arena, fixture_options(), tok);
	circle(&without, false);
	rig_run(&rig, &without, 1);
	circle(&with, true);
	rig_submit(&rig, &with);
	while (l3_engine_step(rig.engine))
	{
		if (with.result.n_out - n_seen > most)
			most = with.result.n_out - n_seen;
		stays = stays && with.result.n_out >= n_seen && with.result.n_bytes >= n_bytes &&
			memcmp(seen, with.out_tokens, (size_t) n_seen * sizeof(int32_t)) == 0;
		n_seen = with.result.n_out;
		n_bytes = with.result.n_bytes;
		memcpy(seen, with.out_tokens, (size_t) n_seen * sizeof(int32_t));
	}
	tap_ok(stays && most > 4 && most <= 1 + L3_LOOKUP_MAX_DRAFT && job_same(&with, &without) &&
		   with.n_events < without.n_events / 2,
		   "an answer in a circle comes in fewer than half the steps, several tokens at once");
	tap_note("%d events with drafts, %d without", with.n_events, without.n_events);
	rig_close(&rig);
}

/* ----------------------------------------------------------------
 *		Where drafts are of no use
 * ----------------------------------------------------------------
 */

/* Steps until all are done; *prompt: until the last one's prompt is. */
static int
count_steps(Rig *rig, Job *jobs, int n, int *prompt)
{
	int			n_steps = 0;

	*prompt = 0;
	for (int i = 0; i < n; i++)
		rig_submit(rig, &jobs[i]);
	while (l3_engine_step(rig->engine))
	{
		n_steps++;
		if (*prompt == 0 && jobs[n - 1].result.n_prompt_done == jobs[n - 1].request.n_tokens)
			*prompt = n_steps;
	}
	return n_steps;
}

static void
test_full_batch(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	Job		   *jobs = calloc(40, sizeof(Job));
	int			prompt;
	Rig			rig;

	for (int i = 0; i < 40; i++)
		circle(&jobs[i], true);
	rig_open(&rig, arena, options, tok);
	(void) count_steps(&rig, jobs, 40, &prompt);
	tap_ok(drafts(&rig).n_drafted_tokens == 0, "no drafts in steps that many sequences share");
	(void) count_steps(&rig, jobs, 2, &prompt);
	tap_ok(drafts(&rig).n_drafted_tokens > 0, "and drafts again when they are few");
	rig_close(&rig);

	/* as the tiny model would have it by itself */
	rig_open(&rig, arena, options, tok);
	rig.model->draft_rows = L3_DRAFT_ROWS_CACHED;
	(void) count_steps(&rig, jobs, 3, &prompt);
	tap_ok(drafts(&rig).n_drafted_tokens == 0, "with weights that caches hold three are many");
	(void) count_steps(&rig, jobs, 1, &prompt);
	tap_ok(drafts(&rig).n_drafted_tokens > 0, "and one is few");
	rig_close(&rig);
	free(jobs);
}

/* A long prompt beside an answer that is drafted takes the steps that it takes without. */
static void
test_prompts_first(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	int			steps[2];

	options.batch_tokens = 16;
	for (int lookup = 0; lookup < 2; lookup++)
	{
		Job		   *jobs = calloc(2, sizeof(Job));
		Rig			rig;

		circle(&jobs[0], lookup);
		job_prompt(&jobs[1], 500, 0, 2);
		job_generate(&jobs[1], 1, 0);
		options.max_sequences = 2;
		rig_open(&rig, arena, options, tok);
		(void) count_steps(&rig, jobs, 2, &steps[lookup]);
		rig_close(&rig);
		free(jobs);
	}
	tap_ok(steps[0] > 10 && steps[1] <= steps[0], "drafts take no rows from a prompt");
	tap_note("%d steps without drafts, %d with", steps[0], steps[1]);
}

/* ----------------------------------------------------------------
 *		Drafts by themselves
 * ----------------------------------------------------------------
 */

static bool
drafts_are(const int32_t *tokens, int32_t n, int32_t room, const int32_t *expected, int32_t n_expected)
{
	L3Lookup	lookup = {.most = L3_LOOKUP_MAX_DRAFT};
	int32_t		all[64];
	int32_t		n_draft;

	memcpy(all, tokens, (size_t) n * sizeof(int32_t));
	n_draft = l3_lookup_draft(&lookup, all, n, room);
	return n_draft == n_expected && memcmp(all, tokens, (size_t) n * sizeof(int32_t)) == 0 &&
		(n_expected == 0 || memcmp(all + n, expected, (size_t) n_expected * sizeof(int32_t)) == 0);
}

static void
test_drafts(void)
{
	static const int32_t longest[] = {1, 2, 3, 10, 11, 12, 13, 14, 9, 2, 3, 20, 1, 2, 3};
	static const int32_t latest[] = {1, 2, 10, 11, 1, 2, 20, 21, 1, 2};
	static const int32_t one[] = {1, 2, 3, 4, 5, 2};
	static const int32_t near[] = {7, 8, 9, 8, 9};

	tap_ok(drafts_are(longest, 15, 3, (int32_t[]) {10, 11, 12}, 3),
		   "a draft follows the place that agrees for longest");
	tap_ok(drafts_are(latest, 10, 3, (int32_t[]) {20, 21, 1}, 3), "of several the latest");
	tap_ok(drafts_are(near, 5, 5, (int32_t[]) {8, 9, 8, 9, 8}, 5),
		   "where the place is near the draft repeats itself");
	tap_ok(drafts_are(one, 6, 8, NULL, 0) && drafts_are(one, 1, 8, NULL, 0) &&
		   drafts_are((int32_t[]) {1, 1}, 2, 8, NULL, 0), "one token that agrees is none");
}

/* An answer of 1000 tokens whose drafts are all wrong pays for few. */
static void
test_pauses(void)
{
	L3Lookup	lookup = {0};
	int32_t		tokens[64];
	int			n_wrong = 0;
	int			n_right = 0;
	int			n_steps = 0;

	for (int i = 0; i < 32; i++)
		tokens[i] = i % 2;
	for (int i = 0; i < 1000; i++)
	{
		int32_t		n = l3_lookup_draft(&lookup, tokens, 32, L3_LOOKUP_MAX_DRAFT);

		n_wrong += n;
		if (n > 0)
			l3_lookup_learn(&lookup, n, 0);
	}
	tap_ok(n_wrong > 0 && n_wrong < 40, "drafts that are always wrong come at growing distances");
	tap_note("%d tokens drafted in 1000 steps", n_wrong);

	/* the same answer begins to repeat itself */
	while (n_right < 100 && n_steps < 1000)
	{
		int32_t		n = l3_lookup_draft(&lookup, tokens, 32, L3_LOOKUP_MAX_DRAFT);

		n_right += n;
		n_steps++;
		if (n > 0)
			l3_lookup_learn(&lookup, n, n);
	}
	tap_ok(n_right >= 100 && n_steps < 100, "and are long again when they are right");
	tap_note("100 tokens in %d steps", n_steps);
}

int
main(void)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *f32 = fixture_arena(&hp, L3_F32, 1);
	const L3Arena *bf16;
	const L3Arena *q8_0;

	hp.tied = 1;
	bf16 = fixture_arena(&hp, L3_BF16, 2);
	hp = fixture_hparams();
	hp.head_dim = hp.value_dim = hp.rope_dim = 64;
	q8_0 = fixture_arena(&hp, L3_Q8_0, 3);
	tok = fixture_tokenizer();
	grammars[0] = grammar_of(letters);
	grammars[1] = grammar_of(records);
	grammars[2] = grammar_of(pairs);

	test_drafts();
	test_pauses();
	test_same_answers("F32, KV in float", f32, L3_KV_F32, NULL);
	test_same_answers("Q8_0, KV in half", q8_0, L3_KV_F16, NULL);
#ifndef L3_SANITIZED
	test_same_answers("F32, KV in 8 bits", f32, L3_KV_Q8_0, NULL);
	test_same_answers("BF16 tied, KV in half", bf16, L3_KV_F16, NULL);
	test_same_answers("Q8_0, portable kernels", q8_0, L3_KV_F32, "generic");
	test_same_answers("F32, kernels of OpenBLAS", f32, L3_KV_F32, "blas");
#endif
	test_every_kind(f32);
	find_circle(f32);
	test_stop_strings(f32);
	test_max_tokens(f32);
	test_cached_answers(f32);
	test_cached_answers(q8_0);
	test_progress(f32);
	test_full_batch(f32);
	test_prompts_first(f32);
	for (int i = 0; i < lengthof(grammars); i++)
		free(grammars[i]);
	free((void *) tok);
	free((void *) f32);
	free((void *) bf16);
	free((void *) q8_0);
	return tap_done();
}
