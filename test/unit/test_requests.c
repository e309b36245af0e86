/*-------------------------------------------------------------------------
 *
 * test_requests.c
 *	  What the kinds of requests answer, when they end, and which are refused.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "tap.h"

static const L3Arena *arena;
static const L3Tokenizer *tokenizer;
static Rig	rig;

static void
run_one(Job *job)
{
	rig_run(&rig, job, 1);
}

/* ----------------------------------------------------------------
 *		Labels
 * ----------------------------------------------------------------
 */

static const int32_t label_tokens[] = {
	7,
	8, 9, 10,
	8, 9, 11,
	8, 12,
	20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
	8, 9, 13, 14, 15,
	8, 9, 13, 14, 16
};
static const int32_t label_end[] = {1, 4, 7, 9, 29, 34, 39};

#define N_LABELS	7

static int
label_start(int i)
{
	return i == 0 ? 0 : label_end[i - 1];
}

/* log P(label | prompt) from a LOGPROBS request of prompt and label. */
static double
logprob_by_itself(const Job *prompt, int label)
{
	Job			job = *prompt;
	int			n = label_end[label] - label_start(label);
	double		sum = 0;

	memcpy(job.prompt + job.request.n_tokens, label_tokens + label_start(label),
		   (size_t) n * sizeof(int32_t));
	job.request.tokens = job.prompt;
	job_logprobs(&job, job.request.n_tokens);
	job.request.n_tokens += n;
	run_one(&job);
	for (int i = 0; i < n; i++)
		sum += job.out_logprobs[i];
	return sum;
}

static void
test_labels(void)
{
	static const int lengths[] = {1, 15, 16, 30, 47, 100};
	bool		equal = true;
	bool		alone = true;
	bool		probable = true;

	for (size_t l = 0; l < 6; l++)
	{
		Job			job;
		Job			single;

		job_prompt(&job, lengths[l], 0, 60 + l);
		job_score(&job, label_tokens, label_end, N_LABELS);
		run_one(&job);
		for (int i = 0; i < N_LABELS; i++)
		{
			int32_t		end = label_end[i] - label_start(i);

			equal = equal && job.out_logprobs[i] == logprob_by_itself(&job, i);
			job_prompt(&single, lengths[l], 0, 60 + l);
			job_score(&single, label_tokens + label_start(i), &end, 1);
			run_one(&single);
			alone = alone && single.out_logprobs[0] == job.out_logprobs[i];
			probable = probable && job.out_logprobs[i] < 0 && job.out_logprobs[i] > -1000;
		}
	}
	tap_ok(probable, "labels have log-probabilities");
	tap_ok(equal, "a label's is exactly the sum of its tokens' teacher-forced ones");
	tap_ok(alone, "and does not depend on other labels");
}

static void
test_label_order(void)
{
	int32_t		tokens[64];
	int32_t		end[N_LABELS + 1];
	int32_t		n = 0;
	bool		same = true;
	Job			forward;
	Job			backward;

	for (int i = N_LABELS - 1; i >= 0; i--)
	{
		int32_t		len = label_end[i] - label_start(i);

		memcpy(tokens + n, label_tokens + label_start(i), (size_t) len * sizeof(int32_t));
		n += len;
		end[N_LABELS - 1 - i] = n;
	}
	/* and the first of them once more */
	memcpy(tokens + n, tokens, (size_t) end[0] * sizeof(int32_t));
	end[N_LABELS] = n + end[0];

	job_prompt(&forward, 37, 0, 8);
	job_score(&forward, label_tokens, label_end, N_LABELS);
	run_one(&forward);
	job_prompt(&backward, 37, 0, 8);
	job_score(&backward, tokens, end, N_LABELS + 1);
	run_one(&backward);
	for (int i = 0; i < N_LABELS; i++)
		same = same && forward.out_logprobs[i] == backward.out_logprobs[N_LABELS - 1 - i];
	tap_ok(same, "labels in another order have the same log-probabilities");
	tap_ok(backward.out_logprobs[N_LABELS] == backward.out_logprobs[0], "equal labels are allowed");
}

/* 200 labels of two to six tokens in a cache that holds few of them at one time. */
static void
test_many_labels(void)
{
	enum
	{
		N = 200
	};
	static int32_t tokens[N * 6];
	static int32_t end[N];
	L3EngineOptions options = fixture_options();
	size_t		block_bytes = l3_kv_block_bytes(l3_arena_hparams(arena), options.kv_type);
	int32_t		n = 0;
	Job			wide;
	Job			tight;
	Rig			small;

	for (int i = 0; i < N; i++)
	{
		/* different first tokens, all over the vocabulary; heads shared by fours */
		tokens[n++] = i / 4;
		tokens[n++] = 100 + i % 4 / 2;
		for (int j = 0; j < i % 5; j++)
			tokens[n++] = 50 + j;
		tokens[n++] = 200 + i % 4;
		end[i] = n;
	}
	job_prompt(&wide, 41, 0, 3);
	job_score(&wide, tokens, end, N);
	run_one(&wide);

	options.kv_cache_bytes = 68 * block_bytes;
	options.max_sequences = 5;
	rig_open(&small, arena, options, NULL);
	job_prompt(&tight, 41, 0, 3);
	job_score(&tight, tokens, end, N);
	rig_run(&small, &tight, 1);
	tap_ok(job_same(&wide, &tight) && wide.done,
		   "many labels in a cache that holds few at one time answer the same");
	tap_ok(rig_idle(&small), "and leave nothing behind");
	rig_close(&small);
}

/* ----------------------------------------------------------------
 *		Embeddings and log-probabilities
 * ----------------------------------------------------------------
 */

static void
test_embeddings(void)
{
	Job			mean;
	Job			last;
	Job			one_mean;
	Job			one_last;
	double		squares = 0;

	job_prompt(&mean, 90, 0, 1);
	job_embed(&mean, L3_POOL_MEAN);
	run_one(&mean);
	for (int i = 0; i < 64; i++)
		squares += (double) mean.out_embedding[i] * mean.out_embedding[i];
	tap_ok(fabs(squares - 1) < 1e-6, "an embedding has unit length");

	job_prompt(&last, 90, 0, 1);
	job_embed(&last, L3_POOL_LAST);
	run_one(&last);
	tap_ok(memcmp(mean.out_embedding, last.out_embedding, sizeof(mean.out_embedding)) != 0,
		   "mean and last pooling differ");

	job_prompt(&one_mean, 1, 0, 1);
	job_embed(&one_mean, L3_POOL_MEAN);
	run_one(&one_mean);
	job_prompt(&one_last, 1, 0, 1);
	job_embed(&one_last, L3_POOL_LAST);
	run_one(&one_last);
	tap_ok(memcmp(one_mean.out_embedding, one_last.out_embedding, sizeof(mean.out_embedding)) == 0,
		   "except for a single token");
}

static void
test_logprobs(void)
{
	Job			all;
	Job			tail;

	job_prompt(&all, 120, 0, 21);
	job_logprobs(&all, 1);
	run_one(&all);
	job_prompt(&tail, 120, 0, 21);
	job_logprobs(&tail, 81);
	run_one(&tail);
	tap_ok(tail.result.n_cached == 80 &&
		   memcmp(tail.out_logprobs, all.out_logprobs + 80, 39 * sizeof(double)) == 0,
		   "scored tokens are scored the same after a cached prefix");
}

/* A greedy answer's tokens are the most probable ones by the teacher-forced numbers too. */
static void
test_greedy_is_most_probable(void)
{
	enum
	{
		N_VOCAB = 277
	};
	static int32_t ids[N_VOCAB];
	static int32_t ends[N_VOCAB];
	Job			generated;
	Job			scored;
	int			best = 0;

	for (int i = 0; i < N_VOCAB; i++)
	{
		ids[i] = i;
		ends[i] = i + 1;
	}
	job_prompt(&generated, 50, 0, 31);
	job_generate(&generated, 1, 0);
	generated.request.sampling.repeat_penalty = 1;
	generated.request.ignore_stop_tokens = true;
	run_one(&generated);
	job_prompt(&scored, 50, 0, 31);
	job_score(&scored, ids, ends, N_VOCAB);
	run_one(&scored);
	for (int i = 1; i < N_VOCAB; i++)
		if (scored.out_logprobs[i] > scored.out_logprobs[best])
			best = i;
	tap_ok(generated.out_tokens[0] == best, "greedy takes the label of the highest probability");
}

/* ----------------------------------------------------------------
 *		Endings
 * ----------------------------------------------------------------
 */

/* The bytes of an answer's tokens, as the backend puts them together. */
static int
answer_bytes(const Job *job, char *out)
{
	int			n = 0;

	for (int i = 0; i < job->result.n_out; i++)
	{
		uint32_t	len = 0;
		const char *piece = NULL;

		if (!l3_tokenizer_is_special(tokenizer, job->out_tokens[i]))
			piece = l3_tokenizer_piece(tokenizer, job->out_tokens[i], &len);
		if (piece != NULL)
			memcpy(out + n, piece, len);
		n += (int) len;
	}
	return n;
}

static void
make_answer(Job *job, int n, uint64_t seed, int max_tokens)
{
	job_prompt(job, n, 0, seed);
	job_generate(job, max_tokens, 1.5f);
	job->request.sampling.top_p = 1;
	job->request.sampling.seed = seed;
	job->request.ignore_stop_tokens = true;
}

static void
test_lengths(void)
{
	char		bytes[FIXTURE_MAX_OUT * 16];
	Job			job;
	Job			again;

	make_answer(&job, 20, 4, 40);
	run_one(&job);
	tap_ok(job.result.finish == L3_FINISH_LENGTH && job.result.n_out == 40 &&
		   job.result.n_bytes == answer_bytes(&job, bytes), "max_tokens ends an answer");
	tap_ok(job.n_events == 40, "each token is an event");
	make_answer(&again, 20, 4, 7);
	run_one(&again);
	tap_ok(memcmp(again.out_tokens, job.out_tokens, 7 * sizeof(int32_t)) == 0,
		   "a shorter answer is the beginning of the longer");
	make_answer(&job, 510, 4, 40);
	run_one(&job);
	tap_ok(job.result.finish == L3_FINISH_LENGTH && job.result.n_out == 2,
		   "a full context ends an answer");
}

/* Take two bytes from two tokens of a known answer as the stop string. */
static void
test_stop_strings(void)
{
	int			tried = 0;
	bool		ok = true;
	bool		cut = true;

	for (uint64_t seed = 1; seed < 30; seed++)
	{
		char		bytes[FIXTURE_MAX_OUT * 16];
		char		stopped[FIXTURE_MAX_OUT * 16];
		int32_t		len = 3;
		const char *first;
		Job			job;

		make_answer(&job, 12, seed, 30);
		run_one(&job);
		if (answer_bytes(&job, bytes) < 14)
			continue;
		first = memmem(bytes, (size_t) job.result.n_bytes, bytes + 9, 3);
		make_answer(&job, 12, seed, 30);
		job.request.stop = bytes + 9;
		job.request.stop_len = &len;
		job.request.n_stops = 1;
		run_one(&job);
		tried++;
		ok = ok && job.result.finish == L3_FINISH_STOP_STRING &&
			job.result.n_bytes == first - bytes;
		cut = cut && answer_bytes(&job, stopped) >= job.result.n_bytes + 3 &&
			memcmp(stopped, bytes, (size_t) job.result.n_bytes) == 0;
	}
	tap_ok(tried > 20 && ok, "a stop string over several tokens ends an answer before it");
	tap_ok(cut, "and the answer before it is unchanged");
}

static void
test_stop_tokens(void)
{
	int			stopped = 0;
	bool		ok = true;

	for (uint64_t seed = 1; seed < 200 && stopped < 3; seed++)
	{
		Job			job;
		Job			through;
		int			at = -1;

		make_answer(&through, 10, seed, 40);
		run_one(&through);
		for (int i = 39; i >= 0; i--)
			if (l3_tokenizer_is_stop(tokenizer, through.out_tokens[i]))
				at = i;
		make_answer(&job, 10, seed, 40);
		job.request.ignore_stop_tokens = false;
		run_one(&job);
		if (at < 0)
			ok = ok && job.result.finish == L3_FINISH_LENGTH;
		else
		{
			stopped++;
			ok = ok && job.result.finish == L3_FINISH_STOP && job.result.n_out == at;
		}
	}
	tap_ok(stopped == 3 && ok, "a stop token ends an answer and is not part of it");
}

/* ----------------------------------------------------------------
 *		Refusals
 * ----------------------------------------------------------------
 */

static L3Status
refused(const Job *job, L3Error *err)
{
	bool		never = false;
	L3Sequence *seq;
	L3Error		again;

	if (l3_engine_can_admit(rig.engine, rig.model, &job->request, &never, err) || !never)
		return L3_OK;
	if (l3_engine_submit(rig.engine, rig.model, &job->request, NULL, NULL, &seq, &again) !=
		err->status)
		return L3_OK;
	return err->status;
}

static void
test_refusals(void)
{
	static const int32_t prefix_end[] = {1, 3};
	static const int32_t prefix_tokens[] = {8, 8, 9};
	L3Error		err;
	Job			job;

	job_prompt(&job, 512, 0, 1);
	job_generate(&job, 5, 0);
	tap_ok(refused(&job, &err) == L3_ERR_LIMIT, "no room for an answer: %s", err.message);
	job.request.n_tokens = 0;
	tap_ok(refused(&job, &err) == L3_ERR_ARG, "%s", err.message);
	job.request.n_tokens = 5;
	job.prompt[3] = 277;
	tap_ok(refused(&job, &err) == L3_ERR_ARG, "%s", err.message);
	job.prompt[3] = -1;
	tap_ok(refused(&job, &err) == L3_ERR_ARG, "%s", err.message);
	job.prompt[3] = 1;
	job.request.sampling.temperature = NAN;
	tap_ok(refused(&job, &err) == L3_ERR_ARG, "%s", err.message);

	job_prompt(&job, 10, 0, 1);
	job_score(&job, prefix_tokens, prefix_end, 2);
	tap_ok(refused(&job, &err) == L3_ERR_ARG, "%s", err.message);
	job_prompt(&job, 500, 0, 1);
	job_score(&job, label_tokens, label_end, N_LABELS);
	tap_ok(refused(&job, &err) == L3_ERR_LIMIT, "%s", err.message);
	job_prompt(&job, 10, 0, 1);
	job_logprobs(&job, 10);
	tap_ok(refused(&job, &err) == L3_ERR_ARG, "%s", err.message);
}

static void
test_never_fits(void)
{
	L3EngineOptions options = fixture_options();
	size_t		block_bytes = l3_kv_block_bytes(l3_arena_hparams(arena), options.kv_type);
	bool		never;
	L3Error		err;
	Job			job;
	Job			other;
	Rig			small;

	options.kv_cache_bytes = 4 * block_bytes;
	rig_open(&small, arena, options, NULL);
	job_prompt(&job, 60, 0, 1);
	job_generate(&job, 6, 0);
	tap_ok(!l3_engine_can_admit(small.engine, small.model, &job.request, &never, &err) && never &&
		   err.status == L3_ERR_LIMIT && strstr(err.hint, "llama3.kv_cache_size") != NULL,
		   "a request over the whole cache never fits: %s", err.detail);
	job.request.max_tokens = 5;
	tap_ok(l3_engine_can_admit(small.engine, small.model, &job.request, &never, &err),
		   "one that just fills it fits");
	rig_submit(&small, &job);
	job_prompt(&other, 3, 0, 2);
	job_embed(&other, L3_POOL_MEAN);
	tap_ok(!l3_engine_can_admit(small.engine, small.model, &other.request, &never, &err) && !never,
		   "others wait meanwhile");
	while (l3_engine_step(small.engine))
		;
	tap_ok(job.done && l3_engine_can_admit(small.engine, small.model, &other.request, &never, &err),
		   "and are admitted when it has ended, in place of what it left in the cache");
	rig_close(&small);
}

/* A short prompt that comes after long ones is answered within few steps. */
static void
test_fairness(void)
{
	Job		   *jobs = calloc(9, sizeof(Job));
	int			n_steps = 0;

	for (int i = 0; i < 8; i++)
	{
		job_prompt(&jobs[i], 480, 0, 600 + (uint64_t) i);
		job_embed(&jobs[i], L3_POOL_MEAN);
		rig_submit(&rig, &jobs[i]);
	}
	l3_engine_step(rig.engine);
	job_prompt(&jobs[8], 10, 0, 700);
	job_embed(&jobs[8], L3_POOL_MEAN);
	rig_submit(&rig, &jobs[8]);
	while (!jobs[8].done)
	{
		l3_engine_step(rig.engine);
		n_steps++;
	}
	tap_ok(n_steps <= 3, "a short prompt beside eight long ones waits %d steps", n_steps);
	while (l3_engine_step(rig.engine))
		;
	free(jobs);
}

static void
test_workspace(void)
{
	L3EngineOptions options = fixture_options();
	bool		ok = true;
	bool		same = true;

	for (int threads = 1; threads <= 4; threads++)
	{
		L3Hparams	hp = fixture_hparams();
		uint64_t	predicted;
		Rig			other;

		options.n_threads = threads;
		options.batch_tokens = 100 * threads;
		predicted = l3_workspace_bytes(&hp, &options);
		rig_open(&other, arena, options, NULL);
		/* the plan rounds to whole huge pages */
		ok = ok && other.engine->memory_bytes <= predicted &&
			predicted - other.engine->memory_bytes < ((uint64_t) 2 << 20) + predicted / 10;
		rig_close(&other);
	}
	for (int m = 1; m < 40; m += 13)
		for (int k = 32; k < 200; k += 32)
			same = same && l3_act_bytes(m, k) == l3_workspace_act_bytes(m, k);
	tap_ok(ok, "the plan's working memory is what the engine takes");
	tap_ok(same, "and counts activations as the kernels do");
}

/* ----------------------------------------------------------------
 *		Equal requests
 * ----------------------------------------------------------------
 */

/* Requests of each kind, with inputs at other addresses for each copy. */
typedef struct Inputs
{
	int32_t		tokens[3];
	char		stop[4];
	int32_t		stop_len[2];
	uint64_t	grammar[2];
	int32_t		labels[3];
	int32_t		label_end[2];
} Inputs;

static const Inputs some_inputs = {{1, 2, 3}, "abcd", {1, 3}, {5, 6}, {7, 8, 9}, {1, 3}};

static L3Request
request_of(L3RequestKind kind, bool constrained, Inputs *in)
{
	L3Request	r = {.kind = kind, .salt = 1, .tokens = in->tokens, .n_tokens = 3};

	*in = some_inputs;
	r.max_tokens = 5;
	r.sampling = (L3Sampling) {.temperature = 1, .top_p = 0.9f, .min_p = 0.1f, .repeat_penalty = 1, .top_k = 4, .seed = 2};
	if (kind == L3_REQ_GENERATE && constrained)
	{
		r.grammar = in->grammar;
		r.grammar_size = sizeof(in->grammar);
	}
	else if (kind == L3_REQ_GENERATE)
	{
		r.stop = in->stop;
		r.stop_len = in->stop_len;
		r.n_stops = 2;
	}
	r.label_tokens = in->labels;
	r.label_end = in->label_end;
	r.n_labels = 2;
	r.first_scored = 1;
	return r;
}

/* Change one input or field; false when there are no more. */
static bool
change(L3Request *r, Inputs *in, int what)
{
	switch (what)
	{
		case 0: r->salt++; return true;
		case 1: in->tokens[2]++; return true;
		case 2: r->n_tokens--; return true;
		case 3: r->max_tokens++; return true;
		case 4: r->sampling.temperature = 0; return true;
		case 5: r->sampling.top_p = 1; return true;
		case 6: r->sampling.min_p = 0; return true;
		case 7: r->sampling.repeat_penalty = 2; return true;
		case 8: r->sampling.top_k++; return true;
		case 9: r->sampling.seed++; return true;
		case 10: r->ignore_stop_tokens = true; return true;
		case 11: in->stop[3]++; return true;
		case 12: in->stop_len[0] = 2; in->stop_len[1] = 2; return true;
		case 13: r->n_stops--; return true;
		case 14: in->grammar[1]++; return true;
		case 15: r->grammar_size -= 8; return true;
		case 16: r->grammar = r->grammar == NULL ? in->grammar : NULL; return true;
		case 17: in->labels[2]++; return true;
		case 18: in->label_end[0] = 2; return true;
		case 19: r->n_labels--; return true;
		case 20: r->pooling = L3_POOL_LAST; return true;
		case 21: r->first_scored++; return true;
		default: return false;
	}
}

/* Of which kinds a change is one: a bit each, with 1 << 4 for a generation in a grammar. */
static const unsigned changes_of[] = {
	31, 31, 31, 17, 17, 17, 17, 17, 17, 17, 17, 1, 1, 17, 16, 16, 17, 2, 2, 2, 4, 8
};

static void
test_equal(void)
{
	static const int kinds[] = {L3_REQ_GENERATE, L3_REQ_SCORE, L3_REQ_EMBED, L3_REQ_LOGPROBS, L3_REQ_GENERATE};
	bool		equal = true;
	bool		told = true;
	Inputs		in_a;
	Inputs		in_b;
	int32_t		out;

	for (int k = 0; k < 5; k++)
	{
		L3Request	a = request_of(kinds[k], k == 4, &in_a);
		L3Request	b = request_of(kinds[k], k == 4, &in_b);

		equal = equal && l3_request_equal(&a, &b);
		b.prompt_lookup = true;
		b.out_tokens = &out;
		equal = equal && l3_request_equal(&a, &b);
		for (int what = 0; b = request_of(kinds[k], k == 4, &in_b), change(&b, &in_b, what); what++)
			if (l3_request_equal(&a, &b) != ((changes_of[what] >> k & 1) == 0))
			{
				printf("# kind %d, change %d\n", k, what);
				told = false;
			}
		for (int other = 0; other < 5; other++)
		{
			b = request_of(kinds[other], other == 4, &in_b);
			told = told && l3_request_equal(&a, &b) == (other == k);
		}
	}
	tap_ok(equal, "requests with the same inputs are equal, wherever they lie and whatever speeds them up");
	tap_ok(told, "what makes another answer, or another domain, makes another request, and nothing else does");
}

int
main(void)
{
	L3Hparams	hp = fixture_hparams();

	arena = fixture_arena(&hp, L3_F32, 1);
	tokenizer = fixture_tokenizer();
	rig_open(&rig, arena, fixture_options(), tokenizer);
	test_labels();
	test_label_order();
	test_many_labels();
	test_embeddings();
	test_logprobs();
	test_greedy_is_most_probable();
	test_lengths();
	test_stop_strings();
	test_stop_tokens();
	test_refusals();
	test_never_fits();
	test_fairness();
	test_workspace();
	test_equal();
	tap_ok(rig_idle(&rig), "nothing is held at the end");
	rig_close(&rig);
	free((void *) arena);
	free((void *) tokenizer);
	return tap_done();
}
