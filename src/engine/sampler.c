/*-------------------------------------------------------------------------
 *
 * sampler.c
 *	  From logits to the next token.
 *
 * The order is fixed: repeat_penalty, temperature, top_k, top_p, min_p, one
 * draw.  Each filter works on the renormalised survivors of the one before.
 * The draw is a hash of the seed and the position, so that a sampled answer is
 * as much a function of its arguments as a greedy one, and the survivors are
 * walked in order of falling probability, ties by rising id.
 *
 * Sorting 128,000 tokens for each draw would cost more than the draw is
 * worth.  The most probable few hundred nearly always decide, so candidates
 * are brought into order in growing batches, only as far as needed.
 *
 *-------------------------------------------------------------------------
 */
#include "sampler.h"

#include <math.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The first batch of candidates brought into order; later ones are larger. */
#define FIRST_BATCH			128
#define BATCH_GROWTH		8

/* Ranges too short for another partition step are sorted. */
#define SORT_BELOW			32

double
l3_sample_draw(uint64_t seed, uint64_t position)
{
	uint64_t	hash = XXH3_64bits_withSeed(&position, sizeof(position), seed);

	return (double) (hash >> 11) * 0x1p-53;
}

/*
 * Keskar et al. 2019 (CTRL), with the sign rule that makes a negative logit
 * less likely too.  Each token is penalised once, however often it stands in
 * the window.
 */
static void
penalise(const L3Sampling *s, float *logits, const int32_t *history, int n_history)
{
	int			n = n_history < L3_REPEAT_WINDOW ? n_history : L3_REPEAT_WINDOW;
	const int32_t *window = history + n_history - n;

	for (int i = 0; i < n; i++)
	{
		bool		seen = false;
		float	   *logit = &logits[window[i]];

		for (int j = 0; j < i && !seen; j++)
			seen = window[j] == window[i];
		if (!seen)
			*logit = *logit > 0 ? *logit / s->repeat_penalty : *logit * s->repeat_penalty;
	}
}

/* ----------------------------------------------------------------
 *		Candidates in order of falling logit
 * ----------------------------------------------------------------
 */

static bool
ranks_before(L3Candidate a, L3Candidate b)
{
	return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static int
compare_candidates(const void *a, const void *b)
{
	L3Candidate x = *(const L3Candidate *) a;
	L3Candidate y = *(const L3Candidate *) b;

	return ranks_before(x, y) ? -1 : ranks_before(y, x) ? 1 : 0;
}

static void
swap_candidates(L3Candidate *a, L3Candidate *b)
{
	L3Candidate t = *a;

	*a = *b;
	*b = t;
}

/* The middle one of three, to split at. */
static L3Candidate
median_of_three(L3Candidate a, L3Candidate b, L3Candidate c)
{
	if (ranks_before(b, a))
		swap_candidates(&a, &b);
	if (ranks_before(c, b))
		b = ranks_before(c, a) ? a : c;
	return b;
}

/*
 * Bring the k first-ranking of n candidates to the front, in any order
 * (Hoare's selection).  Candidates are all different, by their ids.
 */
static void
select_first(L3Candidate *c, int n, int k)
{
	int			low = 0;
	int			high = n;

	while (high - low > SORT_BELOW && k > low && k < high)
	{
		L3Candidate pivot = median_of_three(c[low], c[low + (high - low) / 2], c[high - 1]);
		int			i = low;
		int			j = high - 1;

		for (;;)
		{
			while (ranks_before(c[i], pivot))
				i++;
			while (ranks_before(pivot, c[j]))
				j--;
			if (i >= j)
				break;
			swap_candidates(&c[i++], &c[j--]);
		}
		/* a median of three different ones is never the first or the last */
		if (k <= i)
			high = i;
		else
			low = i;
	}
	if (k > low && k < high)
		qsort(c + low, (size_t) (high - low), sizeof(*c), compare_candidates);
}

/* Candidates, of which the first n_sorted stand in their final order. */
typedef struct Ranking
{
	L3Candidate *c;
	int			n;
	int			n_sorted;
} Ranking;

/* Make sure that the first i + 1 candidates stand in order. */
static void
rank_through(Ranking *r, int i)
{
	while (i >= r->n_sorted)
	{
		int			batch = r->n_sorted == 0 ? FIRST_BATCH : r->n_sorted * (BATCH_GROWTH - 1);
		L3Candidate *rest = r->c + r->n_sorted;

		if (batch > r->n - r->n_sorted)
			batch = r->n - r->n_sorted;
		select_first(rest, r->n - r->n_sorted, batch);
		qsort(rest, (size_t) batch, sizeof(*rest), compare_candidates);
		r->n_sorted += batch;
	}
}

/* ----------------------------------------------------------------
 *		The draw
 * ----------------------------------------------------------------
 */

/* exp((logit - best) / temperature): a probability but for its scale */
static double
weight_of(const L3Sampling *s, float logit, float best)
{
	return exp(((double) logit - (double) best) / (double) s->temperature);
}

/* How many candidates pass top_k, top_p and min_p; *total: their weights' sum. */
static int
count_survivors(const L3Sampling *s, Ranking *r, float best, double *total)
{
	int			n = r->n;
	double		sum = 0;

	if (s->top_k > 0 && s->top_k < n)
		n = s->top_k;

	/* the weight of all that top_k leaves */
	if (n < r->n)
		rank_through(r, n - 1);
	for (int i = 0; i < n; i++)
		sum += weight_of(s, r->c[i].logit, best);

	/* the shortest head that holds top_p of it, never empty */
	if (s->top_p < 1)
	{
		double		head = 0;
		int			i = 0;

		do
		{
			rank_through(r, i);
			head += weight_of(s, r->c[i].logit, best);
			i++;
		} while (i < n && head < s->top_p * sum);
		n = i;
		sum = head;
	}

	/* those at least min_p times as probable as the best, whose weight is 1 */
	if (s->min_p > 0)
	{
		double		head = 0;
		int			i = 0;

		for (; i < n; i++)
		{
			double		weight;

			rank_through(r, i);
			weight = weight_of(s, r->c[i].logit, best);
			if (weight < s->min_p)
				break;
			head += weight;
		}
		n = i > 0 ? i : 1;
		sum = i > 0 ? head : 1;
	}
	*total = sum;
	return n;
}

/* The tokens to choose from, by rising id; a NaN has no rank: no sound model gives one. */
static int
list_candidates(const float *logits, int n_tokens, const uint64_t *allowed, L3Candidate *candidates)
{
	int			n = 0;

	for (int first = 0; first < n_tokens; first += 64)
	{
		uint64_t	word = allowed != NULL ? allowed[first >> 6] : UINT64_MAX;

		for (; word != 0; word &= word - 1)
		{
			int			id = first + __builtin_ctzll(word);

			if (id >= n_tokens)
				break;
			candidates[n].logit = isnan(logits[id]) ? -INFINITY : logits[id];
			candidates[n++].id = id;
		}
	}
	return n;
}

/* The best of candidates, which stand by rising id: the first of the largest logit. */
static int32_t
best_candidate(const L3Candidate *candidates, int n)
{
	int			best = 0;

	for (int i = 1; i < n; i++)
		if (candidates[i].logit > candidates[best].logit)
			best = i;
	return candidates[best].id;
}

int32_t
l3_sample(const L3Kernels *kernels, const L3Sampling *s, float *logits, int n_tokens,
		  const uint64_t *allowed, const int32_t *history, int n_history, uint64_t position,
		  L3Candidate *candidates)
{
	Ranking		ranking = {.c = candidates};
	double		target;
	double		head = 0;
	float		best;
	int			n;

	if (s->repeat_penalty != 1)
		penalise(s, logits, history, n_history);
	if (s->temperature == 0 && allowed == NULL)
		return kernels->argmax(logits, n_tokens);

	ranking.n = list_candidates(logits, n_tokens, allowed, candidates);
	if (s->temperature == 0)
		return best_candidate(candidates, ranking.n);
	rank_through(&ranking, 0);
	best = candidates[0].logit;
	if (isinf(best))
		return candidates[0].id;
	n = count_survivors(s, &ranking, best, &target);

	/* inverse CDF; rounding may leave the last survivor just short of it */
	target *= l3_sample_draw(s->seed, position);
	for (int i = 0; i < n - 1; i++)
	{
		rank_through(&ranking, i);
		head += weight_of(s, candidates[i].logit, best);
		if (head > target)
			return candidates[i].id;
	}
	rank_through(&ranking, n - 1);
	return candidates[n - 1].id;
}
