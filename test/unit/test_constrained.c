/*-------------------------------------------------------------------------
 *
 * test_constrained.c
 *	  The engine under grammars: answers are whole texts of the grammar whatever
 *	  the model says, and the same bit for bit in whatever company.
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
#define N_JOBS		12
#else
#define N_JOBS		36
#endif
#define MAX_OUT		FIXTURE_MAX_OUT

static const L3Tokenizer *tok;
static L3Grammar *grammars[6];

static uint32_t
choice(L3GrammarBuilder *b)
{
	uint32_t	ways[] = {grammar_text(b, "abcd"), grammar_text(b, "abc"), grammar_text(b, "\"yes\""),
	grammar_text(b, "\"no, it is not\"")};

	return l3_grammar_alt(b, ways, lengthof(ways));
}

static uint32_t
fixed(L3GrammarBuilder *b)
{
	return grammar_text(b, "{\"kind\": \"abcdabcd\"}");
}

static uint32_t
letters(L3GrammarBuilder *b)
{
	return l3_grammar_repeat(b, l3_grammar_range(b, 'a', 'd'), 0, L3_GRAMMAR_UNBOUNDED);
}

static uint32_t
pairs(L3GrammarBuilder *b)
{
	/* [a, bb, ccc] of 1 to 20 items, between long forced texts */
	uint32_t	item = l3_grammar_repeat(b, l3_grammar_range(b, 'a', 'd'), 1, 3);
	uint32_t	more[] = {grammar_text(b, ", "), item};
	uint32_t	parts[] = {grammar_text(b, "the list: ["), item,
		l3_grammar_repeat(b, l3_grammar_seq(b, more, 2), 0, 19),
	grammar_text(b, "] and that is all of it.")};

	return l3_grammar_seq(b, parts, lengthof(parts));
}

static uint32_t
joined(L3GrammarBuilder *b)
{
	/* the tokenizer spells each first letter together with what that forces */
	static const char *const words[] = {"ab, abcd", "cd. It was cdab", "xabcd"};
	uint32_t	ways[lengthof(words)];

	for (int i = 0; i < lengthof(words); i++)
		ways[i] = grammar_text(b, words[i]);
	return l3_grammar_alt(b, ways, lengthof(words));
}

static void
job_grammar(Job *job, const L3Grammar *g)
{
	job->request.grammar = g;
	job->request.grammar_size = g->size;
}

/* Job i: prompts of 1 to 150 tokens, grammars and temperatures in turn. */
static void
make_job(Job *job, int i)
{
	static const int lengths[] = {1, 15, 16, 17, 33, 60, 100, 150};

	job_prompt(job, lengths[i * 5 % 8], i % 3 == 0 ? 0 : 40, 500 + (uint64_t) i);
	job_generate(job, MAX_OUT, i % 4 == 0 ? 0 : 1);
	job->request.sampling.seed = (uint64_t) i;
	job->request.sampling.top_p = i % 4 == 1 ? 1 : 0.9f;
	job->request.sampling.repeat_penalty = 1;
	/* of every other one with the grammar of letters, which has no end */
	job->request.ignore_stop_tokens = i % (2 * lengthof(grammars)) == 3;
	/* one without a grammar now and then */
	if (i % 7 != 6)
		job_grammar(job, grammars[i % lengthof(grammars)]);
}

static Job *
make_jobs(void)
{
	Job		   *jobs = calloc(N_JOBS, sizeof(Job));

	for (int i = 0; i < N_JOBS; i++)
		make_job(&jobs[i], i);
	return jobs;
}

/* The answer's text; its length. */
static size_t
answer(const Job *job, char *text)
{
	size_t		n = 0;

	for (int32_t i = 0; i < job->result.n_out; i++)
	{
		uint32_t	len;
		const char *piece = l3_tokenizer_piece(tok, job->out_tokens[i], &len);

		memcpy(text + n, piece, len);
		n += len;
	}
	return n;
}

/* Is the answer done, whole, and of the length that the engine says? */
static bool
is_whole(const Job *job)
{
	char		text[MATCH_MAX_TEXT];
	size_t		n = answer(job, text);

	if (job->done && job->result.status == L3_OK && (int64_t) n == job->result.n_bytes &&
		match_whole(job->request.grammar, text, n))
		return true;
	tap_note("%d tokens, status %d, finish %d: \"%.*s\"", job->result.n_out,
			 (int) job->result.status, (int) job->result.finish, (int) n, text);
	return false;
}

/* ----------------------------------------------------------------
 *		Members
 * ----------------------------------------------------------------
 */

static void
test_members(const L3Arena *arena)
{
	Rig			rig;
	bool		whole = true;
	int			n_stop = 0;
	int			n_length = 0;

	rig_open(&rig, arena, fixture_options(), tok);
	for (int round = 0; round < 5; round++)
	{
		Job		   *jobs = make_jobs();

		for (int i = 0; i < N_JOBS; i++)
		{
			jobs[i].request.sampling.seed += (uint64_t) round * 1000;
			jobs[i].request.max_tokens = round == 0 ? MAX_OUT : 50 + (i + round) % 14;
		}
		rig_run(&rig, jobs, N_JOBS);
		for (int i = 0; i < N_JOBS; i++)
			if (jobs[i].request.grammar != NULL)
			{
				whole = whole && is_whole(&jobs[i]);
				n_stop += jobs[i].result.finish == L3_FINISH_STOP;
				n_length += jobs[i].result.finish == L3_FINISH_LENGTH;
			}
		free(jobs);
	}
	tap_ok(whole && n_stop > 0 && n_length > 0 && rig_idle(&rig),
		   "a random model's answers are whole texts of their grammars");
	tap_note("%d ended by themselves, %d at max_tokens", n_stop, n_length);
	rig_close(&rig);
}

/*
 * An embedding may have more rows than the tokenizer has tokens, of whatever
 * size.  With or without a grammar no answer has any of them in it.
 */
static void
test_padded_rows(uint32_t n_vocab)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *arena;
	Job		   *jobs = make_jobs();
	Rig			rig;
	bool		whole = true;
	bool		tokens = true;

	hp.n_vocab = n_vocab;
	arena = fixture_arena(&hp, L3_F32, 1);
	rig_open(&rig, arena, fixture_options(), tok);
	for (int i = 0; i < N_JOBS; i++)
		if (jobs[i].request.grammar == NULL)
			jobs[i].request.sampling.temperature = i % 2 == 0 ? 0 : 2;
	rig_run(&rig, jobs, N_JOBS);
	for (int i = 0; i < N_JOBS; i++)
	{
		whole = whole && (jobs[i].request.grammar == NULL || is_whole(&jobs[i]));
		for (int32_t j = 0; j < jobs[i].result.n_out; j++)
			tokens = tokens && jobs[i].out_tokens[j] < FIXTURE_N_TOKENS;
	}
	tap_ok(tokens && whole, "answers are made of %d tokens when the model has %u rows",
		   FIXTURE_N_TOKENS, n_vocab);
	rig_close(&rig);
	free((void *) arena);
	free(jobs);
}

/* ----------------------------------------------------------------
 *		The same answer bit for bit
 * ----------------------------------------------------------------
 */

static Job *
answers_alone(const L3Arena *arena, L3EngineOptions options)
{
	Job		   *jobs = make_jobs();

	options.n_threads = 1;
	for (int i = 0; i < N_JOBS; i++)
	{
		Rig			rig;

		rig_open(&rig, arena, options, tok);
		rig_run(&rig, &jobs[i], 1);
		rig_close(&rig);
	}
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

static void
test_same(const char *what, const L3Arena *arena, const char *cpu)
{
	static const struct
	{
		int			rows;
		int			threads;
		int			sequences;
		bool		cache;
		size_t		grammar_bytes;
		size_t		state_bytes;
	}			shapes[] = {
		{16, 1, 1, true, 0, 1}, {17, 2, 3, true, 0, 20000}, {64, 2, 36, false, 0, 0},
		{512, 1, 36, true, 1, 0}, {512, 2, 36, true, 1, 1}
	};
	L3EngineOptions options = fixture_options();
	Job		   *alone;

	options.cpu_features = cpu;
	alone = answers_alone(arena, options);
	for (int i = 0; i < lengthof(shapes); i++)
	{
		Job		   *together = make_jobs();
		Rig			rig;
		int			cold;
		int			warm;

		options.batch_tokens = shapes[i].rows;
		options.n_threads = shapes[i].threads;
		options.max_sequences = shapes[i].sequences;
		options.prefix_cache = shapes[i].cache;
		rig_open(&rig, arena, options, tok);
		/* compiled grammars are dropped as soon as nobody uses them, states now and then */
		rig.model->grammars.max_bytes = shapes[i].grammar_bytes;
		rig.model->grammars.max_state_bytes = shapes[i].state_bytes;
		rig_run(&rig, together, N_JOBS);
		cold = count_differences(alone, together);
		rig_run(&rig, together, N_JOBS);
		warm = count_differences(alone, together);
		tap_ok(cold == 0 && warm == 0 && rig_idle(&rig),
			   "%s: %d answers as alone, %d at one time, %d rows a step, %d threads, %s cache",
			   what, N_JOBS, shapes[i].sequences, shapes[i].rows, shapes[i].threads,
			   shapes[i].cache ? "cold and warm" : "no");
		rig_close(&rig);
		free(together);
	}
	free(alone);
}

/*
 * Which answers are refused, because a mask takes too much effort, hangs on what
 * they are alone: not on what the grammar's tables have from others.
 */
static int
test_effort(const L3Arena *arena, uint64_t effort)
{
	Job		   *alone = make_jobs();
	Job		   *together = make_jobs();
	int			n_refused = 0;
	bool		same = true;
	Rig			rig;

	for (int i = 0; i < N_JOBS; i++)
	{
		rig_open(&rig, arena, fixture_options(), tok);
		rig.model->grammars.max_mask_effort = effort;
		rig_run(&rig, &alone[i], 1);
		rig_close(&rig);
		n_refused += alone[i].result.status == L3_ERR_LIMIT;
	}
	rig_open(&rig, arena, fixture_options(), tok);
	rig.model->grammars.max_mask_effort = effort;
	for (int round = 0; round < 2; round++)
	{
		rig_run(&rig, together, N_JOBS);
		for (int i = 0; i < N_JOBS; i++)
			same = same && alone[i].result.status == together[i].result.status &&
				job_same(&alone[i], &together[i]);
	}
	tap_ok(same, "masks of an effort of at most %d: the same answers of %d are refused, alone and in company",
		   (int) effort, n_refused);
	rig_close(&rig);
	free(alone);
	free(together);
	return n_refused;
}

static void
test_efforts(const L3Arena *arena)
{
	static const uint64_t efforts[] = {20, 40, 80, 160, 320, 640, 1280, 2560};
	int			most = 0;
	int			least = N_JOBS;

	for (int i = 0; i < lengthof(efforts); i++)
	{
		int			n_refused = test_effort(arena, efforts[i]);

		most = n_refused > most ? n_refused : most;
		least = n_refused < least ? n_refused : least;
	}
	tap_ok(most > N_JOBS / 2 && least == 0, "the less effort there may be, the more are refused");
}

/*
 * A prompt that contains an earlier answer, whose tokens had two roles, gives
 * the same bits as if that answer had never been.
 */
static void
test_answer_as_prompt(const L3Arena *arena, const char *cpu)
{
	L3EngineOptions options = fixture_options();
	static Job	first;
	static Job	after;
	static Job	alone;
	int32_t		n;
	Rig			rig;

	options.cpu_features = cpu;
	rig_open(&rig, arena, options, tok);
	job_prompt(&first, 33, 0, 3);
	job_generate(&first, MAX_OUT, 1);
	job_grammar(&first, grammars[4]);
	rig_run(&rig, &first, 1);
	n = 33 + first.result.n_out;

	job_prompt(&after, 33, 0, 3);
	memcpy(after.prompt + 33, first.out_tokens, (size_t) first.result.n_out * sizeof(int32_t));
	after.request.n_tokens = n;
	job_logprobs(&after, n - 3);
	rig_run(&rig, &after, 1);
	rig_close(&rig);

	alone = after;
	alone.request.tokens = alone.prompt;
	alone.request.out_logprobs = alone.out_logprobs;
	memset(alone.out_logprobs, 0, sizeof(alone.out_logprobs));
	rig_open(&rig, arena, options, tok);
	rig_run(&rig, &alone, 1);
	rig_close(&rig);
	tap_ok(n > 64 && job_same(&after, &alone), "%s: an answer as part of a prompt is computed as a prompt",
		   cpu == NULL ? "own kernels" : "kernels of OpenBLAS");
}

/* Company that is cancelled in the midst leaves nothing and changes nothing. */
static void
test_cancel(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	Job		   *alone = answers_alone(arena, options);
	Job		   *jobs = make_jobs();
	Rig			rig;
	bool		same = true;
	int			step = 0;

	rig_open(&rig, arena, options, tok);
	for (int i = 0; i < N_JOBS; i++)
		rig_submit(&rig, &jobs[i]);
	while (l3_engine_step(rig.engine))
	{
		int			victim = 2 * step++ + 1;

		if (victim < N_JOBS && !jobs[victim].done)
			l3_engine_cancel(rig.engine, jobs[victim].sequence);
	}
	for (int i = 0; i < N_JOBS; i += 2)
		same = same && job_same(&alone[i], &jobs[i]);
	tap_ok(same && rig_idle(&rig), "answers beside others that are cancelled are the same");
	rig_close(&rig);
	free(alone);
	free(jobs);
}

/* ----------------------------------------------------------------
 *		Lengths
 * ----------------------------------------------------------------
 */

/* The least max_tokens that the engine takes for the grammar. */
static int32_t
least_tokens(Rig *rig, Job *job)
{
	L3Error		err;

	for (job->request.max_tokens = 1; job->request.max_tokens <= MAX_OUT; job->request.max_tokens++)
	{
		L3Status	status = l3_engine_submit(rig->engine, rig->model, &job->request, NULL, NULL,
											  &job->sequence, &err);

		if (status == L3_OK)
		{
			l3_engine_cancel(rig->engine, job->sequence);
			return job->request.max_tokens;
		}
		if (status != L3_ERR_LIMIT)
			fixture_check(status, &err);
	}
	return -1;
}

static void
test_lengths(const L3Arena *arena)
{
	Rig			rig;
	bool		whole = true;
	bool		said = true;

	rig_open(&rig, arena, fixture_options(), tok);
	for (int g = 0; g < lengthof(grammars); g++)
	{
		static Job	job;
		int32_t		least;

		job_prompt(&job, 20, 0, 3);
		job_generate(&job, MAX_OUT, 1);
		job_grammar(&job, grammars[g]);
		least = least_tokens(&rig, &job);
		for (int32_t n = least; n < least + 4; n++)
			for (uint64_t seed = 0; seed < 5; seed++)
			{
				job.request.max_tokens = n;
				job.request.sampling.seed = seed;
				rig_run(&rig, &job, 1);
				whole = whole && is_whole(&job) && job.result.n_out <= n;
			}
		if (least > 1)
		{
			L3Error		err;
			char		number[16];

			job.request.max_tokens = least - 1;
			said = said && l3_engine_submit(rig.engine, rig.model, &job.request, NULL, NULL,
											&job.sequence, &err) == L3_ERR_LIMIT;
			snprintf(number, sizeof(number), " %d ", least);
			said = said && strstr(err.message, number) != NULL;
		}
	}
	tap_ok(whole, "answers are whole with the least number of tokens, and a few more");
	tap_ok(said, "with one less the error says what suffices");
	tap_ok(rig_idle(&rig), "and nothing is left of what was refused");
	rig_close(&rig);
}

static void
test_context_end(const L3Arena *arena)
{
	L3EngineOptions options = fixture_options();
	static Job	job;
	Rig			rig;

	options.max_context = 100;
	rig_open(&rig, arena, options, tok);
	job_prompt(&job, 50, 0, 3);
	job_generate(&job, MAX_OUT, 1);
	job_grammar(&job, grammars[1]);
	rig_run(&rig, &job, 1);
	tap_ok(is_whole(&job), "an answer is whole before the context ends");
	rig_close(&rig);
}

/* ----------------------------------------------------------------
 *		Forced text
 * ----------------------------------------------------------------
 */

static void
test_forced(const L3Arena *arena)
{
	static Job	job;
	L3EngineStats stats;
	L3Ids		ids = {0};
	Rig			rig;
	const char *text = "{\"kind\": \"abcdabcd\"}";
	L3Error		err;

	rig_open(&rig, arena, fixture_options(), tok);
	job_prompt(&job, 20, 0, 3);
	job_generate(&job, MAX_OUT, 1);
	job_grammar(&job, grammars[2]);
	rig_run(&rig, &job, 1);
	l3_engine_stats(rig.engine, &stats);
	fixture_check(l3_tokenizer_encode_ids(tok, text, strlen(text), false, &ids, &err), &err);
	tap_ok((size_t) job.result.n_out == ids.n && job.result.finish == L3_FINISH_STOP &&
		   memcmp(job.out_tokens, ids.ids, ids.n * sizeof(int32_t)) == 0,
		   "an answer that is all forced is spelled as the tokenizer spells it");
	tap_ok(stats.n_decode_tokens == 0 && stats.n_prefill_tokens == 0, "and nothing is computed for it");
	l3_ids_free(&ids);

	job_grammar(&job, grammars[4]);
	rig_run(&rig, &job, 1);
	l3_engine_stats(rig.engine, &stats);
	tap_ok(is_whole(&job) && stats.n_decode_tokens + 10 < (uint64_t) job.result.n_out &&
		   stats.n_prefill_tokens > 25, "forced tokens are computed as a prompt's are");
	tap_note("%d tokens, %llu of them decoded", job.result.n_out,
			 (unsigned long long) stats.n_decode_tokens);
	rig_close(&rig);
}

/* What is forced behind a sampled token is spelled together with it. */
static void
test_joined(const L3Arena *arena)
{
	static Job	job;
	Rig			rig;
	bool		same = true;
	int			n_texts = 0;
	char		last = '\0';

	rig_open(&rig, arena, fixture_options(), tok);
	for (uint64_t seed = 0; seed < 100; seed++)
	{
		char		text[MATCH_MAX_TEXT];
		size_t		n;
		L3Ids		ids = {0};
		L3Error		err;

		job_prompt(&job, 20, 0, 3);
		job_generate(&job, MAX_OUT, 3);
		job.request.sampling.seed = seed;
		job.request.sampling.top_p = 1;
		job_grammar(&job, grammars[5]);
		rig_run(&rig, &job, 1);
		n = answer(&job, text);
		n_texts += text[0] != last;
		last = text[0];
		fixture_check(l3_tokenizer_encode_ids(tok, text, n, false, &ids, &err), &err);
		same = same && is_whole(&job) && ids.n == (size_t) job.result.n_out &&
			memcmp(ids.ids, job.out_tokens, ids.n * sizeof(int32_t)) == 0;
		l3_ids_free(&ids);
	}
	tap_ok(same && n_texts > 10, "a sampled token and what it forces are spelled as the tokenizer spells them");
	rig_close(&rig);
}

/* ----------------------------------------------------------------
 *		Refusals
 * ----------------------------------------------------------------
 */

static void
test_refusals(const L3Arena *arena)
{
	static Job	job;
	static const int32_t stop_len[] = {1};
	Rig			rig;
	Rig			bare;
	bool		never;
	char	   *damaged = malloc(grammars[1]->size);
	L3Error		err;

	rig_open(&rig, arena, fixture_options(), tok);
	rig_open(&bare, arena, fixture_options(), NULL);
	job_prompt(&job, 20, 0, 3);
	job_generate(&job, MAX_OUT, 1);
	job_grammar(&job, grammars[1]);
	tap_ok(!l3_engine_can_admit(bare.engine, bare.model, &job.request, &never, &err) && never &&
		   err.status == L3_ERR_ARG, "a grammar needs a tokenizer");
	job.request.stop = "x";
	job.request.stop_len = stop_len;
	job.request.n_stops = 1;
	tap_ok(!l3_engine_can_admit(rig.engine, rig.model, &job.request, &never, &err) && never &&
		   err.status == L3_ERR_ARG, "a grammar and stop strings are refused together");
	job.request.n_stops = 0;
	job.request.grammar_size = 0;
	tap_ok(!l3_engine_can_admit(rig.engine, rig.model, &job.request, &never, &err) && never &&
		   err.status == L3_ERR_ARG, "a grammar of no bytes is refused");

	memcpy(damaged, grammars[1], grammars[1]->size);
	damaged[grammars[1]->size / 2] ^= 1;
	job_grammar(&job, (L3Grammar *) (void *) damaged);
	tap_ok(l3_engine_submit(rig.engine, rig.model, &job.request, NULL, NULL, &job.sequence, &err) ==
		   L3_ERR_FORMAT && rig_idle(&rig), "a damaged image is refused");
	free(damaged);
	rig_close(&rig);
	rig_close(&bare);
}

int
main(void)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *arena = fixture_arena(&hp, L3_F32, 1);
	const L3Arena *q8_0;

	hp.head_dim = hp.value_dim = hp.rope_dim = 64;
	q8_0 = fixture_arena(&hp, L3_Q8_0, 3);
	tok = fixture_tokenizer();
	grammars[0] = grammar_of(choice);
	grammars[1] = json_grammar(5);
	grammars[2] = grammar_of(fixed);
	grammars[3] = grammar_of(letters);
	grammars[4] = grammar_of(pairs);
	grammars[5] = grammar_of(joined);
	test_members(arena);
	test_padded_rows(277);
	test_padded_rows(321);
	test_padded_rows(1000);
	test_same("own kernels", arena, NULL);
	test_same("kernels of OpenBLAS", q8_0, "blas");
	test_efforts(arena);
	test_answer_as_prompt(arena, NULL);
	test_answer_as_prompt(q8_0, "blas");
	test_cancel(arena);
	test_lengths(arena);
	test_context_end(arena);
	test_forced(arena);
	test_joined(arena);
	test_refusals(arena);
	for (int i = 0; i < lengthof(grammars); i++)
		free(grammars[i]);
	free((void *) arena);
	free((void *) q8_0);
	free((void *) tok);
	return tap_done();
}
