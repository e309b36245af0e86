/*-------------------------------------------------------------------------
 *
 * masks.c
 *	  Time that keeping to a schema takes for each token.
 *
 *	  masks SPEC [ANSWERS] < schemas.jsonl
 *
 * SPEC is a vocabulary (test/tokenizer/spec_file.h).  For each line, an object
 * with a "name" and a "schema", answers are drawn as a model with random
 * weights would give them: each token with the same probability, of those that
 * may come.  So strings hold anything that the vocabulary has, which visits
 * more states than a sensible answer does.  Timed are finding the tokens that
 * may come, going on over the token, and spelling what is forced; printed are
 * the first token of the first answer (the schema is compiled before), then
 * the mean, the median and the slowest of the first answer's other tokens,
 * of all answers' other tokens, and how many tokens were forced.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "constrain.h"
#include "loaded.h"
#include "schema.h"
#include "tokenizer/spec_file.h"

#define MAX_TOKENS		400
#define MAX_ANSWERS		1000

typedef struct Times
{
	double	   *seconds;		/* (n) of each token sampled */
	size_t		n;
	size_t		n_forced;
} Times;

/*
 * This thread's seconds of CPU time: on a busy machine a clock would show the
 * others.
 */
static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void
must(L3Status status, const L3Error *err)
{
	if (status != L3_OK)
		bench_die("masks", err);
}

static uint64_t
draw(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717) >> 32;
}

/* One of the allowed tokens, or -1 for the end. */
static int32_t
sample(const L3Tokenizer *tok, const uint64_t *allowed, uint64_t *state)
{
	uint32_t	n_tokens = l3_tokenizer_n_tokens(tok);
	uint32_t	n_words = (n_tokens + 63) / 64;
	uint64_t	n = 0;
	uint64_t	k;

	for (uint32_t i = 0; i < n_words; i++)
		n += (uint64_t) __builtin_popcountll(allowed[i]);
	if (n == 0)
	{
		fprintf(stderr, "no token may come\n");
		exit(1);
	}
	k = draw(state) % n;
	for (uint32_t i = 0;; i++)
	{
		uint64_t	word = allowed[i];
		uint64_t	here = (uint64_t) __builtin_popcountll(word);

		if (k >= here)
		{
			k -= here;
			continue;
		}
		while (k-- > 0)
			word &= word - 1;
		k = i * 64 + (uint64_t) __builtin_ctzll(word);
		return l3_tokenizer_is_stop(tok, (int32_t) k) ? -1 : (int32_t) k;
	}
}

static void
answer(L3Grammars *grammars, const void *image, size_t size, uint64_t seed, Times *times)
{
	const L3Tokenizer *tok = grammars->tok;
	uint64_t	state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	L3Constraint *c;
	L3Ids		ids = {0};
	int32_t		n = 0;
	double		start;
	L3Error		err;

	must(l3_constraint_open(grammars, image, size, MAX_TOKENS, &c, &err), &err);
	must(l3_constraint_force(c, MAX_TOKENS, &ids, &err), &err);
	while ((int32_t) ids.n < MAX_TOKENS && !l3_constraint_ended(c))
	{
		int32_t		token;
		double		spent;

		start = now();
		must(l3_constraint_prepare(c, MAX_TOKENS - (int32_t) ids.n, true, &err), &err);
		spent = now() - start;
		token = sample(tok, l3_constraint_allowed(c), &state);
		if (token < 0)
			break;
		n++;
		start = now();
		must(l3_constraint_accept(c, token, MAX_TOKENS - (int32_t) ids.n, &ids, &err), &err);
		times->seconds[times->n++] = spent + now() - start;
	}
	times->n_forced += ids.n - (size_t) n;
	l3_ids_free(&ids);
	l3_constraint_close(c);
}

static int
compare_seconds(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

/* Mean, median and maximum of the times, in microseconds. */
static void
print_times(const double *seconds, size_t n)
{
	double	   *sorted = malloc((n + 1) * sizeof(double));
	double		sum = 0;

	memcpy(sorted, seconds, n * sizeof(double));
	qsort(sorted, n, sizeof(double), compare_seconds);
	for (size_t i = 0; i < n; i++)
		sum += sorted[i];
	if (n == 0)
		printf("%9s %8s %8s", "-", "-", "-");
	else
		printf("%9.1f %8.1f %8.0f", 1e6 * sum / (double) n, 1e6 * sorted[n / 2], 1e6 * sorted[n - 1]);
	free(sorted);
}

static void
bench_schema(L3Grammars *grammars, const char *name, const json_t *schema, int n_answers)
{
	char	   *text = json_dumps(schema, JSON_ENCODE_ANY);
	Times		times = {0};
	size_t		first;
	void	   *image;
	size_t		size;
	double		start = now();
	double		compiled;
	L3Constraint *c;
	L3Error		err;

	must(l3_schema_compile(text, strlen(text), &image, &size, &err), &err);
	must(l3_constraint_open(grammars, image, size, MAX_TOKENS, &c, &err), &err);
	compiled = now() - start;
	l3_constraint_close(c);
	times.seconds = malloc((size_t) n_answers * MAX_TOKENS * sizeof(double));
	answer(grammars, image, size, 1, &times);
	first = times.n;
	for (int i = 1; i < n_answers; i++)
		answer(grammars, image, size, (uint64_t) i + 1, &times);
	printf("%-24s %8.2f %8.2f ", name, 1e3 * compiled, 1e3 * times.seconds[0]);
	print_times(times.seconds + 1, first - 1);
	print_times(times.seconds + 1, times.n - 1);
	printf("%8zu %8zu %8.1f\n", times.n, times.n_forced, (double) l3_grammars_bytes(grammars) / 1048576);
	free(times.seconds);
	free(image);
	free(text);
}

int
main(int argc, char **argv)
{
	SpecFile	file;
	L3Grammars	grammars = {0};
	int			n_answers = argc > 2 ? atoi(argv[2]) : 30;
	char	   *line = NULL;
	size_t		capacity = 0;
	uint64_t	size;
	double		start;
	void	   *image;
	L3Error		err;

	if (argc < 2 || n_answers < 1 || n_answers > MAX_ANSWERS)
		return 2;
	spec_read(&file, argv[1]);
	must(l3_tokenizer_image_size(&file.spec, &size, &err), &err);
	image = calloc(1, size);
	must(l3_tokenizer_build(&file.spec, image, size, &err), &err);
	grammars.tok = l3_tokenizer_check(image, size, &err);
	start = now();
	must(l3_vocabulary_create(grammars.tok, &grammars.vocabulary, &err), &err);
	printf("%u tokens, tree of %u nodes (%.1f MB) in %.0f ms\n\n", l3_tokenizer_n_tokens(grammars.tok),
		   grammars.vocabulary->trie->n_nodes,
		   (double) l3_trie_bytes(grammars.vocabulary->trie) / 1048576, 1e3 * (now() - start));
	printf("%-24s %8s %8s %27s %26s %17s\n", "", "compile", "first", "first answer, us a token",
		   "all answers, us a token", "tokens");
	printf("%-24s %8s %8s  %8s %8s %8s %8s %8s %8s %8s %8s %8s\n", "schema", "ms", "ms", "mean", "median",
		   "slowest", "mean", "median", "slowest", "sampled", "forced", "MB kept");
	while (getline(&line, &capacity, stdin) > 0)
	{
		json_t	   *object = json_loads(line, 0, NULL);

		if (object == NULL)
			return 2;
		bench_schema(&grammars, json_string_value(json_object_get(object, "name")),
					 json_object_get(object, "schema"), n_answers);
		json_decref(object);
	}
	l3_grammars_free(&grammars);
	free(line);
	free(image);
	spec_free(&file);
	return 0;
}
