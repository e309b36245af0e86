/*-------------------------------------------------------------------------
 *
 * test_sampler.c
 *	  The sampler against exact probabilities, and stop strings.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "tap.h"

#define N_VOCAB		4000
#define N_DRAWS		15000

static L3Kernels kernels;
static float logits[N_VOCAB];
static float work[N_VOCAB];
static L3Candidate candidates[N_VOCAB];
static double expected[N_VOCAB];

static int32_t
sample(const L3Sampling *s, const int32_t *history, int n_history, uint64_t position)
{
	memcpy(work, logits, sizeof(work));
	return l3_sample(&kernels, s, work, N_VOCAB, NULL, history, n_history, position, candidates);
}

static L3Sampling
plain_sampling(void)
{
	return (L3Sampling)
	{
		.temperature = 1, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .top_k = 0, .seed = 7
	};
}

static int
by_falling_logit(const void *a, const void *b)
{
	int			i = *(const int *) a;
	int			j = *(const int *) b;

	if (logits[i] != logits[j])
		return logits[i] > logits[j] ? -1 : 1;
	return i - j;
}

/* Exact probabilities, by sorting everything. */
static void
compute_expected(const L3Sampling *s)
{
	static int	order[N_VOCAB];
	int			n = s->top_k > 0 ? s->top_k : N_VOCAB;
	double		sum = 0;
	double		head = 0;
	int			kept = 0;

	for (int i = 0; i < N_VOCAB; i++)
		order[i] = i;
	qsort(order, N_VOCAB, sizeof(int), by_falling_logit);
	for (int i = 0; i < n; i++)
		sum += exp((logits[order[i]] - logits[order[0]]) / (double) s->temperature);
	memset(expected, 0, sizeof(expected));
	while (kept < n && (kept == 0 || head < s->top_p * sum))
	{
		double		weight = exp((logits[order[kept]] - logits[order[0]]) / (double) s->temperature);

		if (weight < s->min_p)
			break;
		expected[order[kept++]] = weight;
		head += weight;
	}
	for (int i = 0; i < N_VOCAB; i++)
		expected[i] /= head;
}

/*
 * Draw many times and compare the frequencies with the exact probabilities:
 * Pearson's chi-square over the tokens that are expected often enough.  The
 * draws are a fixed sequence, so this cannot fail by chance.
 */
static void
check_distribution(const char *what, const L3Sampling *s)
{
	static int	seen[N_VOCAB];
	double		chi2 = 0;
	int			cells = 0;
	bool		allowed = true;

	compute_expected(s);
	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < N_DRAWS; i++)
	{
		int32_t		id = sample(s, NULL, 0, (uint64_t) i);

		seen[id]++;
		allowed = allowed && expected[id] > 0;
	}
	for (int i = 0; i < N_VOCAB; i++)
		if (expected[i] * N_DRAWS >= 5)
		{
			double		d = seen[i] - expected[i] * N_DRAWS;

			chi2 += d * d / (expected[i] * N_DRAWS);
			cells++;
		}
	/* mean cells - 1, standard deviation sqrt(2 cells) */
	tap_ok(allowed && chi2 < cells + 4 * sqrt(2.0 * cells + 1),
		   "%s: draws follow the exact probabilities of %d tokens and no other", what, cells);
	tap_note("chi-square %.1f", chi2);
}

static void
test_distributions(void)
{
	uint64_t	state = 99;
	L3Sampling	s = plain_sampling();

	/* a few likely tokens in a long tail, with ties */
	for (int i = 0; i < N_VOCAB; i++)
		logits[i] = (float) ((fixture_random(&state) >> 58) % 3) - 6;
	for (int i = 0; i < 40; i++)
		logits[i * 101] = 3 - 0.1f * (float) (i / 2);

	s.top_k = 9;
	check_distribution("top_k 9, cutting a tie", &s);
	s.top_p = 0.6f;
	check_distribution("top_k 9, top_p 0.6", &s);
	s = plain_sampling();
	s.top_p = 0.3f;
	check_distribution("top_p 0.3", &s);
	s.top_p = 1;
	s.min_p = 0.2f;
	check_distribution("min_p 0.2", &s);
	s.temperature = 0.5f;
	s.top_k = 30;
	s.top_p = 0.9f;
	s.min_p = 0.05f;
	check_distribution("temperature 0.5, top_k 30, top_p 0.9, min_p 0.05", &s);
}

static void
test_walk(void)
{
	L3Sampling	s = plain_sampling();
	static int	order[N_VOCAB];
	double		head = 0;
	double		u = l3_sample_draw(s.seed, 3);
	int			i = 0;

	/* without filters the draw is the inverse CDF in order of falling probability */
	compute_expected(&s);
	for (int j = 0; j < N_VOCAB; j++)
		order[j] = j;
	qsort(order, N_VOCAB, sizeof(int), by_falling_logit);
	while ((head += expected[order[i]]) <= u)
		i++;
	tap_ok(sample(&s, NULL, 0, 3) == order[i],
		   "the draw walks from the most to the least probable token, ties by id");
	tap_ok(u >= 0 && u < 1 && l3_sample_draw(s.seed, 3) == u && l3_sample_draw(8, 3) != u &&
		   l3_sample_draw(s.seed, 4) != u, "a draw depends on seed and position alone");
}

static void
test_greedy(void)
{
	L3Sampling	s = plain_sampling();
	int32_t		history[] = {3, 3, 5};
	int32_t		long_history[L3_REPEAT_WINDOW + 1] = {3};

	for (int i = 0; i < N_VOCAB; i++)
		logits[i] = -1;
	logits[3] = logits[5] = logits[9] = 2;
	s.temperature = 0;
	tap_ok(sample(&s, NULL, 0, 0) == 3, "greedy takes the lowest id of a tie");
	s.repeat_penalty = 1.5f;
	tap_ok(sample(&s, history, 3, 0) == 9, "repeat_penalty makes tokens of the history less likely");
	tap_ok(work[3] == 2 / 1.5f, "and counts a token once however often it stands there");
	for (int i = 1; i <= L3_REPEAT_WINDOW; i++)
		long_history[i] = 20;
	tap_ok(sample(&s, long_history, L3_REPEAT_WINDOW + 1, 0) == 3 && work[20] == -1.5f,
		   "it looks back over %d tokens and lowers negative logits too", L3_REPEAT_WINDOW);
	logits[11] = NAN;
	s = plain_sampling();
	tap_ok(sample(&s, NULL, 0, 0) != 11, "a NaN is never drawn");
}

/* ----------------------------------------------------------------
 *		Masks
 * ----------------------------------------------------------------
 */

/*
 * A choice among some tokens is the choice of a model that has those alone:
 * the same logits in a vocabulary without the others must give the same token.
 */
static void
test_masks(void)
{
	static float few_logits[N_VOCAB];
	static uint64_t allowed[(N_VOCAB + 63) / 64];
	static int32_t ids[N_VOCAB];
	static int32_t place[N_VOCAB];
	static const int shares[] = {1, 2, 50, 1000};
	uint64_t	state = 5;
	bool		same = true;
	bool		inside = true;
	L3Sampling	s = plain_sampling();

	for (int round = 0; round < 400; round++)
	{
		int32_t		history[3];
		int32_t		few_history[3];
		int			n_history = 0;
		int			n = 0;
		int32_t		id;

		memset(allowed, 0, sizeof(allowed));
		for (int i = 0; i < N_VOCAB; i++)
		{
			logits[i] = (float) ((int) (fixture_random(&state) >> 60) - 8);
			/* round by round a thousandth to all, and always one */
			place[i] = -1;
			if (i != 70 && fixture_random(&state) >> 32 >= (UINT64_C(1) << 32) / (uint64_t) shares[round % 4])
				continue;
			allowed[i >> 6] |= UINT64_C(1) << (i & 63);
			few_logits[n] = logits[i];
			place[i] = n;
			ids[n++] = i;
		}
		for (int i = 0; i < 3; i++)
		{
			history[i] = ids[fixture_random(&state) % (uint64_t) n];
			few_history[n_history++] = place[history[i]];
		}
		s.temperature = round % 5 == 0 ? 0 : 0.7f;
		s.top_k = round % 3 == 0 ? 7 : 0;
		s.top_p = round % 2 == 0 ? 0.8f : 1;
		s.min_p = round % 7 == 0 ? 0.1f : 0;
		s.repeat_penalty = round % 6 == 0 ? 1.3f : 1;
		memcpy(work, logits, sizeof(work));
		id = l3_sample(&kernels, &s, work, N_VOCAB, allowed, history, 3, (uint64_t) round, candidates);
		inside = inside && id >= 0 && place[id] >= 0;
		same = same && id == ids[l3_sample(&kernels, &s, few_logits, n, NULL, few_history, n_history,
										   (uint64_t) round, candidates)];
	}
	tap_ok(inside, "only allowed tokens are chosen");
	tap_ok(same, "a choice under a mask is that of a vocabulary without the other tokens");

	for (int i = 0; i < N_VOCAB; i++)
		work[i] = NAN;
	memset(allowed, 0, sizeof(allowed));
	allowed[2] = 0x30;
	tap_ok(l3_sample(&kernels, &s, work, N_VOCAB, allowed, NULL, 0, 1, candidates) / 2 == 66,
		   "also when nothing but NaN is left");
}

/* ----------------------------------------------------------------
 *		Stop strings
 * ----------------------------------------------------------------
 */

/*
 * Feed text in pieces of one size; returns the final length, or -1 without a
 * stop.  *never_back: no length ever reported as final exceeded the outcome.
 */
static int64_t
feed(const char *text, size_t piece, const char *stop, const int32_t *len, int n, bool *never_back)
{
	L3Stops		stops;
	L3Error		err;
	int64_t		final = 0;
	int64_t		most = 0;
	bool		found = false;

	fixture_check(l3_stops_init(&stops, stop, len, n, &err), &err);
	for (size_t i = 0; i < strlen(text) && !found; i += piece)
	{
		size_t		left = strlen(text) - i;

		found = l3_stops_append(&stops, text + i, (uint32_t) (left < piece ? left : piece), &final);
		if (!found && final > most)
			most = final;
	}
	*never_back = !found || most <= final;
	l3_stops_free(&stops);
	return found ? final : -1;
}

static void
test_stops(void)
{
	static const int32_t len[] = {4, 6, 2, 4};
	static const char stop[] = "abab" "xababy" "zz" "pqpr";
	static const struct
	{
		const char *text;
		int64_t		final;
	}			cases[] = {
		{"hello abab", 6}, {"aababab", 1}, {"ab ab aba b", -1}, {"xabay xababy", 7},
		{"zabz", -1}, {"zzz", 0}, {"", -1}, {"aabzazz", 5}, {"pqpqpr", 2}
	};
	bool		ok = true;
	bool		held = true;
	int64_t		final;
	L3Stops		stops;
	L3Error		err;

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
		for (size_t piece = 1; piece < 9; piece++)
		{
			bool		never_back = false;

			ok = ok && feed(cases[c].text, piece, stop, len, 4, &never_back) == cases[c].final;
			held = held && never_back;
		}
	tap_ok(ok, "stop strings are found wherever tokens cut the text");
	tap_ok(held, "a byte once final is never taken back");

	fixture_check(l3_stops_init(&stops, stop, len, 4, &err), &err);
	l3_stops_append(&stops, "q xaba", 6, &final);
	tap_ok(final == 2, "the longest tail that may become a stop string is held back");
	l3_stops_append(&stops, "q", 1, &final);
	tap_ok(final == 7, "and released when it does not");
	l3_stops_free(&stops);
	tap_ok(l3_stops_init(&stops, "", (const int32_t[]) {0}, 1, &err) == L3_ERR_ARG,
		   "an empty stop string is refused");
}

int
main(void)
{
	l3_kernels_init(&kernels, 0);
	test_distributions();
	test_walk();
	test_greedy();
	test_masks();
	test_stops();
	return tap_done();
}
