/*-------------------------------------------------------------------------
 *
 * bench.c
 *	  Speed of the engine on one model file, beside what the machine's memory
 *	  could give.
 *
 * Printed per run: memory read bandwidth with the same threads, load time,
 * prefill tokens/s, decode tokens/s alone and with several sequences.  Each
 * figure is the median of several rounds, with its extremes; the bandwidth is
 * measured again before every round, because shared machines drift.
 *
 * Usage: bench MODEL.gguf [--threads N] [--prefill N] [--decode N]
 *			[--sequences N] [--rounds N] [--cpu LIST]
 *
 *-------------------------------------------------------------------------
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaded.h"
#include "pool.h"

#define MAX_ROUNDS	64
#define BANDWIDTH_BYTES (UINT64_C(1) << 30)
#define BANDWIDTH_TASKS 8

/* ---------------------------------------------------------------- bandwidth */

static uint64_t *bandwidth_memory;
static atomic_ullong bandwidth_sink;

static void
read_task(void *ctx, int task, int thread)
{
	size_t		n = BANDWIDTH_BYTES / 8 / BANDWIDTH_TASKS;
	size_t		quarter = n / 4;
	const uint64_t *p = bandwidth_memory + (size_t) task * n;
	uint64_t	a = 0;
	uint64_t	b = 0;
	uint64_t	c = 0;
	uint64_t	d = 0;

	/* one word brings a cache line in; four streams keep the prefetchers busy */
	(void) ctx;
	(void) thread;
	for (size_t i = 0; i + 8 <= quarter; i += 8)
	{
		a += p[i];
		b += p[i + quarter];
		c += p[i + 2 * quarter];
		d += p[i + 3 * quarter];
	}
	atomic_fetch_add(&bandwidth_sink, a + b + c + d);
}

/* Bytes per second that all threads together read from memory: the best of three. */
static double
bandwidth(L3Pool *pool)
{
	double		best = 0;

	for (int i = 0; i < 3; i++)
	{
		double		start = bench_now();
		double		rate;

		l3_pool_run(pool, read_task, NULL, BANDWIDTH_TASKS);
		rate = BANDWIDTH_BYTES / (bench_now() - start);
		best = rate > best ? rate : best;
	}
	return best;
}

/* ------------------------------------------------------------------ figures */

typedef struct Figure
{
	const char *name;
	const char *unit;
	double		values[MAX_ROUNDS];
	int			n;
} Figure;

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

static double
figure_print(Figure *figure)
{
	double		median;

	qsort(figure->values, figure->n, sizeof(double), compare_doubles);
	median = figure->values[figure->n / 2];
	printf("%-28s %9.2f %-6s (min %.2f, max %.2f, %d rounds)\n", figure->name,
		   median, figure->unit, figure->values[0],
		   figure->values[figure->n - 1], figure->n);
	return median;
}

/* ----------------------------------------------------------------- requests */

typedef struct Run
{
	int			done;
	int			n_out;
	L3Status	status;
	char		message[512];
} Run;

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Run		   *run = user;

	run->n_out = result->n_out;
	if (event == L3_EVENT_DONE)
	{
		run->done = 1;
		run->status = result->status;
		snprintf(run->message, sizeof(run->message), "%s", result->error.message);
	}
}

/*
 * Run n sequences of n_prompt random tokens and n_out generated ones to their
 * end; returns the seconds from the first step in which all prompts are done
 * to the end in *decode_seconds, and those before in *prefill_seconds.
 */
static void
run_sequences(L3Engine *engine, L3Model *model, int n_vocab, int n, int n_prompt,
			  int n_out, unsigned seed, double *prefill_seconds, double *decode_seconds)
{
	L3Request	request[256];
	Run			runs[256];
	int32_t    *tokens = malloc(sizeof(int32_t) * n * n_prompt);
	int32_t    *out = malloc(sizeof(int32_t) * n * n_out);
	double		start;
	double		all_prefilled = 0;
	L3Error		err;

	memset(request, 0, sizeof(request));
	memset(runs, 0, sizeof(runs));
	for (int i = 0; i < n * n_prompt; i++)
	{
		seed = seed * 1664525u + 1013904223u;
		tokens[i] = (seed >> 8) % (unsigned) n_vocab;
	}
	for (int i = 0; i < n; i++)
	{
		L3Sequence *sequence;

		request[i].kind = L3_REQ_GENERATE;
		request[i].tokens = tokens + i * n_prompt;
		request[i].n_tokens = n_prompt;
		request[i].max_tokens = n_out;
		request[i].sampling.top_p = 1;
		request[i].sampling.repeat_penalty = 1;
		request[i].ignore_stop_tokens = true;
		request[i].out_tokens = out + i * n_out;
		if (l3_engine_submit(engine, model, &request[i], on_event, &runs[i],
							 &sequence, &err) != L3_OK)
			bench_die("submit", &err);
	}
	start = bench_now();
	while (l3_engine_step(engine))
	{
		int			started = 0;

		for (int i = 0; i < n; i++)
			started += runs[i].n_out > 0;
		if (started == n && all_prefilled == 0)
			all_prefilled = bench_now();
	}
	*prefill_seconds = all_prefilled - start;
	*decode_seconds = bench_now() - all_prefilled;
	for (int i = 0; i < n; i++)
		if (!runs[i].done || runs[i].status != L3_OK)
		{
			fprintf(stderr, "bench: sequence %d: %s\n", i, runs[i].message);
			exit(1);
		}
	free(tokens);
	free(out);
}

int
main(int argc, char **argv)
{
	int			threads = 2;
	int			n_prefill = 512;
	int			n_decode = 32;
	int			n_sequences = 16;
	int			rounds = 5;
	const char *cpu = NULL;
	L3EngineOptions options = {0};
	Loaded		loaded;
	L3Plan		plan;
	L3Pool	   *pool;
	L3Error		err;
	double		start;
	double		read_rate;
	double		rate;
	Figure		bw = {"memory read", "GB/s", {0}, 0};
	Figure		prefill = {"prefill", "tok/s", {0}, 0};
	Figure		decode = {"decode, 1 sequence", "tok/s", {0}, 0};
	Figure		batch = {"decode, all sequences", "tok/s", {0}, 0};

	for (int i = 2; i + 1 < argc; i += 2)
	{
		int			value = atoi(argv[i + 1]);

		if (strcmp(argv[i], "--threads") == 0)
			threads = value;
		else if (strcmp(argv[i], "--prefill") == 0)
			n_prefill = value;
		else if (strcmp(argv[i], "--decode") == 0)
			n_decode = value;
		else if (strcmp(argv[i], "--sequences") == 0)
			n_sequences = value;
		else if (strcmp(argv[i], "--rounds") == 0)
			rounds = value;
		else if (strcmp(argv[i], "--cpu") == 0)
			cpu = argv[i + 1];
		else
			argc = 1;
	}
	if (argc < 2 || rounds < 1 || rounds > MAX_ROUNDS || n_sequences < 1 || n_sequences > 256)
	{
		fprintf(stderr, "usage: bench MODEL.gguf [--threads N] [--prefill N] [--decode N] "
				"[--sequences N] [--rounds N] [--cpu LIST]\n");
		return 2;
	}

	options.n_threads = threads;
	options.kv_cache_bytes = UINT64_C(2) << 30;
	options.kv_type = L3_KV_F16;
	options.batch_tokens = 512;
	options.max_sequences = 64;
	options.max_context = 8192;
	options.cpu_features = cpu;
	start = bench_now();
	bench_load(&loaded, argv[1], &options);
	plan = loaded.plan;
	printf("%s: %.2f G parameters, %s, %.3f GB of weights\n", argv[1],
		   plan.n_params / 1e9, plan.packed_types, plan.weight_bytes / 1e9);
	printf("%-28s %9.2f s\n", "load", bench_now() - start);

	printf("%-28s %s, %d threads\n", "kernels", l3_engine_cpu(loaded.engine), threads);

	if (l3_pool_create(threads, &pool, &err) != L3_OK)
		bench_die("threads", &err);
	bandwidth_memory = bench_map(BANDWIDTH_BYTES);
	memset(bandwidth_memory, 1, BANDWIDTH_BYTES);

	for (int round = -1; round < rounds; round++)
	{
		double		seconds;
		double		ignored;
		int			n_vocab = plan.hparams.n_vocab;

		read_rate = bandwidth(pool);
		run_sequences(loaded.engine, loaded.model, n_vocab, 1, n_prefill, 2, round + 17, &seconds, &ignored);
		if (round < 0)
			continue;			/* warm-up */
		bw.values[bw.n++] = read_rate / 1e9;
		prefill.values[prefill.n++] = n_prefill / seconds;
		run_sequences(loaded.engine, loaded.model, n_vocab, 1, 8, n_decode, round + 91, &ignored, &seconds);
		decode.values[decode.n++] = (n_decode - 1) / seconds;
		if (n_sequences > 1)
		{
			run_sequences(loaded.engine, loaded.model, n_vocab, n_sequences, 8, n_decode, round + 123,
						  &ignored, &seconds);
			batch.values[batch.n++] = (double) n_sequences * (n_decode - 1) / seconds;
		}
	}

	read_rate = figure_print(&bw) * 1e9;
	rate = figure_print(&prefill);
	printf("%-28s %9.2f\n", "  GFLOP/s in matrices", rate * 2 * (plan.n_params -
																 (double) plan.hparams.n_vocab * plan.hparams.n_embd) / 1e9);
	rate = figure_print(&decode);
	printf("%-28s %9.0f %%\n", "  of the memory bandwidth",
		   100 * rate * plan.weight_bytes / read_rate);
	if (batch.n > 0)
	{
		printf("%d sequences:\n", n_sequences);
		figure_print(&batch);
	}
	l3_pool_destroy(pool);
	bench_unload(&loaded);
	return 0;
}
