/*-------------------------------------------------------------------------
 *
 * engine.c
 *	  The engine under measurement: loads a model, then obeys commands.
 *
 * Usage: engine MODEL.gguf THREADS [CPU-FEATURES [q8_0]]
 *
 * The last argument is the type of the KV cache, f16 by default.
 *
 * After loading it prints a line of facts.  Then each line on standard input is
 * a command, answered by one line on standard output: seconds, unless said
 * otherwise.
 *
 *	prefill N			a prompt of N tokens, to its first token
 *	decode S P N		S sequences with prompts of P tokens, N tokens each:
 *						seconds for the last N - 1, all together
 *	shared S P N		the same with 8 tokens of their own each behind P that
 *						all begin with
 *	mixed S N P			the same of S sequences of N tokens, while one more
 *						prompt of P tokens is computed
 *	embed N LOW HIGH	embeddings of N texts of LOW .. HIGH tokens
 *	lookup 0 or 1		without or, from now on, with prompt lookup; prints what
 *						it did so far: "DRAFTED ACCEPTED" tokens
 *	classify N I LOW HIGH	the probabilities of 4 labels of two tokens each, for N
 *						texts of LOW .. HIGH tokens behind the same instruction
 *						of I tokens; also the tokens that were computed, and
 *						the least that there are to compute
 *	machine				"BANDWIDTH INT8-RATE", bytes and operations per second
 *
 * Tokens are drawn anew for each command: but for the instruction, nothing is
 * found computed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "loaded.h"
#include "machine.h"

#define MAX_SEQUENCES	256
#define MAX_TEXTS		10000
#define N_LABELS		4
#define LABEL_TOKENS	2
/* Requests at once of many, as a worker has by default (llama3.max_sequences). */
#define IN_FLIGHT		64
/* As a worker's defaults, but for room for long contexts. */
#define BATCH_TOKENS	256
#define KV_BYTES		(UINT64_C(2) << 30)

typedef struct Run
{
	bool		done;
	int			n_out;
	int			n_cached;
} Run;

static Loaded loaded;
static L3Pool *pool;
static unsigned features;		/* instruction sets that the engine uses */
static uint32_t seed = 1;
static bool prompt_lookup;

static int32_t
random_token(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (int32_t) ((seed >> 8) % loaded.plan.hparams.n_vocab);
}

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Run		   *run = user;

	run->n_out = result->n_out;
	run->n_cached = result->n_cached;
	if (event != L3_EVENT_DONE)
		return;
	if (result->status != L3_OK)
		bench_die("request", &result->error);
	run->done = true;
}

/* A prompt of random tokens. */
static L3Request
ask(L3RequestKind kind, int n_prompt)
{
	int32_t    *tokens = bench_alloc((size_t) n_prompt * sizeof(int32_t));

	for (int i = 0; i < n_prompt; i++)
		tokens[i] = random_token();
	return (L3Request) {.kind = kind, .tokens = tokens, .n_tokens = n_prompt};
}

static void
submit(const L3Request *request, Run *run)
{
	L3Sequence *sequence;
	L3Error		err;

	memset(run, 0, sizeof(*run));
	if (l3_engine_submit(loaded.engine, loaded.model, request, on_event, run, &sequence, &err) != L3_OK)
		bench_die("submit", &err);
}

/* Have a request, made by ask, generate n_out tokens. */
static void
submit_generation(L3Request *request, Run *run, int n_out)
{
	request->max_tokens = n_out;
	request->sampling.top_p = 1;
	request->sampling.repeat_penalty = 1;
	request->ignore_stop_tokens = true;
	request->prompt_lookup = prompt_lookup;
	request->out_tokens = bench_alloc((size_t) n_out * sizeof(int32_t));
	submit(request, run);
}

static void
release(L3Request *request)
{
	free((void *) request->tokens);
	free(request->out_tokens);
	free(request->out_logprobs);
	free(request->out_embedding);
}

/* Seconds that n requests take, IN_FLIGHT at once.  Releases them. */
static double
answer(L3Request *requests, Run *runs, int n)
{
	double		start = bench_now();
	double		seconds;
	int			next = 0;

	for (bool more = true; more || next < n;)
	{
		L3EngineStats stats;

		l3_engine_stats(loaded.engine, &stats);
		for (int i = stats.n_sequences; i < IN_FLIGHT && next < n; i++, next++)
			submit(&requests[next], &runs[next]);
		more = l3_engine_step(loaded.engine);
	}
	seconds = bench_now() - start;
	for (int i = 0; i < n; i++)
		release(&requests[i]);
	return seconds;
}

static double
prefill(int n)
{
	L3Request	request;
	Run			run;
	double		start = bench_now();

	request = ask(L3_REQ_GENERATE, n);
	submit_generation(&request, &run, 1);
	while (l3_engine_step(loaded.engine))
		;
	release(&request);
	return bench_now() - start;
}

/*
 * Sequences of n_prompt tokens of their own after n_shared that all begin with.
 * n_extra > 0: when all decode, one more prompt of so many tokens comes.
 */
static double
decode(int n_sequences, int n_shared, int n_prompt, int n_out, int n_extra)
{
	L3Request	shared = ask(L3_REQ_GENERATE, n_shared);
	L3Request	requests[MAX_SEQUENCES + 1];
	Run			runs[MAX_SEQUENCES + 1];
	int			n = n_sequences;
	double		start = 0;

	for (int i = 0; i < n; i++)
	{
		requests[i] = ask(L3_REQ_GENERATE, n_shared + n_prompt);
		memcpy((int32_t *) requests[i].tokens, shared.tokens, (size_t) n_shared * sizeof(int32_t));
		submit_generation(&requests[i], &runs[i], n_out);
	}
	release(&shared);
	while (l3_engine_step(loaded.engine))
	{
		int			n_begun = 0;

		for (int i = 0; i < n_sequences; i++)
			n_begun += runs[i].n_out > 0;
		if (start == 0 && n_begun == n_sequences)
		{
			if (n_extra > 0)
			{
				requests[n] = ask(L3_REQ_GENERATE, n_extra);
				submit_generation(&requests[n], &runs[n], 1);
				n++;
			}
			start = bench_now();
		}
	}
	for (int i = 0; i < n; i++)
		release(&requests[i]);
	return bench_now() - start;
}

static int
random_length(int low, int high)
{
	return low + (int) (random_token() % (high - low + 1));
}

static double
embed(int n, int low, int high)
{
	static L3Request requests[MAX_TEXTS];
	static Run	runs[MAX_TEXTS];

	for (int i = 0; i < n; i++)
	{
		requests[i] = ask(L3_REQ_EMBED, random_length(low, high));
		requests[i].out_embedding = bench_alloc(loaded.plan.hparams.n_embd * sizeof(float));
	}
	return answer(requests, runs, n);
}

static void
classify(int n, int n_instruction, int low, int high)
{
	static L3Request requests[MAX_TEXTS];
	static Run	runs[MAX_TEXTS];
	int32_t		labels[N_LABELS * LABEL_TOKENS];
	int32_t		label_end[N_LABELS];
	L3Request	instruction = ask(L3_REQ_SCORE, n_instruction);
	double		seconds;
	long		n_computed = 0;
	long		n_least = n_instruction;

	for (int i = 0; i < N_LABELS; i++)
	{
		for (int j = 0; j < LABEL_TOKENS; j++)
			labels[i * LABEL_TOKENS + j] = random_token();
		label_end[i] = (i + 1) * LABEL_TOKENS;
	}
	for (int i = 0; i < n; i++)
	{
		requests[i] = ask(L3_REQ_SCORE, n_instruction + random_length(low, high));
		memcpy((int32_t *) requests[i].tokens, instruction.tokens, (size_t) n_instruction * sizeof(int32_t));
		requests[i].label_tokens = labels;
		requests[i].label_end = label_end;
		requests[i].n_labels = N_LABELS;
		requests[i].out_logprobs = bench_alloc(N_LABELS * sizeof(double));
		n_computed += requests[i].n_tokens;
		n_least += requests[i].n_tokens - n_instruction;
	}
	seconds = answer(requests, runs, n);
	for (int i = 0; i < n; i++)
		n_computed -= runs[i].n_cached;
	release(&instruction);
	printf("%.6f %ld %ld\n", seconds, n_computed, n_least);
}

/* With prompt lookup from now on, or without; what it did so far. */
static void
set_lookup(bool on)
{
	L3EngineStats stats;

	prompt_lookup = on;
	l3_engine_stats(loaded.engine, &stats);
	printf("%llu %llu\n", (unsigned long long) stats.n_drafted_tokens,
		   (unsigned long long) stats.n_accepted_tokens);
}

/* Obey one command; false when there is no such. */
static bool
obey(const char *line)
{
	int			a;
	int			b;
	int			c;
	int			d;
	const char *instruction;

	if (sscanf(line, "prefill %d", &a) == 1 && a > 0)
		printf("%.6f\n", prefill(a));
	else if (sscanf(line, "decode %d %d %d", &a, &b, &c) == 3 && a > 0 && a <= MAX_SEQUENCES && b > 0 && c > 1)
		printf("%.6f\n", decode(a, 0, b, c, 0));
	else if (sscanf(line, "shared %d %d %d", &a, &b, &c) == 3 && a > 0 && a <= MAX_SEQUENCES && b > 0 && c > 1)
		printf("%.6f\n", decode(a, b, 8, c, 0));
	else if (sscanf(line, "mixed %d %d %d", &a, &b, &c) == 3 && a > 0 && a <= MAX_SEQUENCES && b > 1 && c > 0)
		printf("%.6f\n", decode(a, 0, 8, b, c));
	else if (sscanf(line, "embed %d %d %d", &a, &b, &c) == 3 && a > 0 && a <= MAX_TEXTS && b > 0 && c >= b)
		printf("%.6f\n", embed(a, b, c));
	else if (sscanf(line, "lookup %d", &a) == 1)
		set_lookup(a != 0);
	else if (sscanf(line, "classify %d %d %d %d", &a, &b, &c, &d) == 4 && a > 0 && a <= MAX_TEXTS && b > 0 &&
			 c > 0 && d >= c)
		classify(a, b, c, d);
	else if (strcmp(line, "machine\n") == 0)
		printf("%.0f %.0f\n", machine_bandwidth(pool), machine_int8_rate(pool, features, &instruction));
	else
		return false;
	fflush(stdout);
	return true;
}

int
main(int argc, char **argv)
{
	L3EngineOptions options = {
		.kv_cache_bytes = KV_BYTES,
		.kv_type = L3_KV_F16,
		.batch_tokens = BATCH_TOKENS,
		.max_sequences = MAX_SEQUENCES,
		.prefix_cache = true,
	};
	const L3Hparams *hp = &loaded.plan.hparams;
	const char *instruction;
	char		line[256];
	double		start = bench_now();
	double		seconds;
	L3Error		err;

	if (argc < 3 || argc > 5 || atoi(argv[2]) < 1 || (argc > 4 && strcmp(argv[4], "q8_0") != 0))
	{
		fprintf(stderr, "usage: engine MODEL.gguf THREADS [CPU-FEATURES [q8_0]]\n");
		return 2;
	}
	options.n_threads = atoi(argv[2]);
	options.cpu_features = argc > 3 ? argv[3] : NULL;
	if (argc > 4)
		options.kv_type = L3_KV_Q8_0;
	bench_load(&loaded, argv[1], &options);
	seconds = bench_now() - start;
	if (l3_pool_create(options.n_threads, &pool, &err) != L3_OK)
		bench_die("threads", &err);
	if (l3_cpu_parse(l3_engine_cpu(loaded.engine), &features, &err) != L3_OK)
		bench_die("instruction sets", &err);
	(void) machine_int8_rate(pool, features, &instruction);
	/* parameters that a token is multiplied with: all but the embedding's rows */
	printf("load=%.3f weight_bytes=%llu params=%llu matrix_params=%.0f cpu=%s instruction=%s\n", seconds,
		   (unsigned long long) loaded.plan.weight_bytes, (unsigned long long) loaded.plan.n_params,
		   (double) loaded.plan.n_params - (double) hp->n_vocab * hp->n_embd,
		   l3_engine_cpu(loaded.engine), instruction);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		if (obey(line))
			continue;
		fprintf(stderr, "bench: no such command: %s", line);
		return 1;
	}
	l3_pool_destroy(pool);
	bench_unload(&loaded);
	return 0;
}
