/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  The rows of a table through the engine itself, without PostgreSQL around
 *	  it: what a query over the same rows is measured against.
 *
 * Usage: rows MODEL.gguf ROWS THREADS KIND AT-ONCE
 *
 * ROWS has a row per line: its tokens, in decimal.  KIND is embed, or the number
 * of tokens to generate; at most AT-ONCE rows are in work.  All else is as an
 * engine worker has it by default, without the prefix cache.  After a few rows
 * to warm up, for each line on standard input all rows are run once, and the
 * seconds are printed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaded.h"

#define MAX_ROWS	100000
#define WARM_UP_ROWS	64
/* llama3.batch_tokens, llama3.max_sequences, llama3.kv_cache_size */
#define BATCH_TOKENS	256
#define MAX_SEQUENCES	64
#define KV_BYTES		(UINT64_C(1) << 30)

typedef struct Rows
{
	L3Request  *requests;		/* (n) */
	int			n;
	int			n_done;
} Rows;

/* One row; false for an empty line. */
static bool
read_row(char *line, L3Request *request)
{
	int32_t    *tokens = bench_alloc((strlen(line) / 2 + 1) * sizeof(int32_t));
	int			n = 0;
	char	   *end;

	for (char *p = line;; p = end)
	{
		long		token = strtol(p, &end, 10);

		if (end == p)
			break;
		tokens[n++] = (int32_t) token;
	}
	request->tokens = tokens;
	request->n_tokens = n;
	return n > 0;
}

static void
read_rows(const char *path, Rows *rows)
{
	FILE	   *file = fopen(path, "r");
	char	   *line = NULL;
	size_t		size = 0;

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	rows->requests = bench_alloc(MAX_ROWS * sizeof(L3Request));
	while (rows->n < MAX_ROWS && getline(&line, &size, file) > 0)
		rows->n += read_row(line, &rows->requests[rows->n]);
	free(line);
	fclose(file);
}

/* Give the requests their kind and outputs. */
static void
set_kind(Rows *rows, const char *kind, int n_embd)
{
	for (int i = 0; i < rows->n; i++)
	{
		L3Request  *request = &rows->requests[i];

		if (strcmp(kind, "embed") == 0)
		{
			request->kind = L3_REQ_EMBED;
			request->out_embedding = bench_alloc(n_embd * sizeof(float));
			continue;
		}
		request->kind = L3_REQ_GENERATE;
		request->max_tokens = atoi(kind);
		request->sampling.top_p = 1;
		request->sampling.repeat_penalty = 1;
		request->out_tokens = bench_alloc(request->max_tokens * sizeof(int32_t));
	}
}

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Rows	   *rows = user;

	if (event != L3_EVENT_DONE)
		return;
	if (result->status != L3_OK)
		bench_die("row", &result->error);
	rows->n_done++;
}

/* Run all rows, admitting as the worker does: whenever there is room, at most at_once. */
static double
run(Loaded *loaded, Rows *rows, int at_once)
{
	double		start = bench_now();
	int			next = 0;
	L3Error		err;

	rows->n_done = 0;
	while (rows->n_done < rows->n)
	{
		L3Sequence *sequence;

		while (next < rows->n && next - rows->n_done < at_once &&
			   l3_engine_can_admit(loaded->engine, loaded->model, &rows->requests[next], NULL, &err))
			if (l3_engine_submit(loaded->engine, loaded->model, &rows->requests[next++],
								 on_event, rows, &sequence, &err) != L3_OK)
				bench_die("submit", &err);
		if (!l3_engine_step(loaded->engine) && next < rows->n)
		{
			fprintf(stderr, "rows: a row does not fit\n");
			exit(1);
		}
	}
	return bench_now() - start;
}

int
main(int argc, char **argv)
{
	L3EngineOptions options = {
		.kv_cache_bytes = KV_BYTES,
		.kv_type = L3_KV_F16,
		.batch_tokens = BATCH_TOKENS,
		.max_sequences = MAX_SEQUENCES,
	};
	Loaded		loaded;
	Rows		rows = {0};
	Rows		some;
	int			at_once;

	if (argc != 6 || (strcmp(argv[4], "embed") != 0 && atoi(argv[4]) < 1) || atoi(argv[3]) < 1 || atoi(argv[5]) < 1)
	{
		fprintf(stderr, "usage: rows MODEL.gguf ROWS THREADS (embed | N) AT-ONCE\n");
		return 2;
	}
	options.n_threads = atoi(argv[3]);
	at_once = atoi(argv[5]);
	bench_load(&loaded, argv[1], &options);
	read_rows(argv[2], &rows);
	set_kind(&rows, argv[4], (int) loaded.plan.hparams.n_embd);
	some = (Rows) {.requests = rows.requests, .n = rows.n < WARM_UP_ROWS ? rows.n : WARM_UP_ROWS};
	(void) run(&loaded, &some, at_once);
	while (getchar() != EOF)
	{
		printf("%.6f\n", run(&loaded, &rows, at_once));
		fflush(stdout);
	}
	bench_unload(&loaded);
	return 0;
}
