/*-------------------------------------------------------------------------
 *
 * request.c
 *	  Is a request one that a model can answer?  Is it the same as another?
 *
 * Requests come from other processes: nothing in them is taken on trust.
 *
 *-------------------------------------------------------------------------
 */
#include "request.h"

#include <string.h>

#include "grammar.h"

static L3Status
check_tokens(const char *what, const int32_t *tokens, int32_t n, const L3Hparams *hp, L3Error *err)
{
	for (int32_t i = 0; i < n; i++)
		if (tokens[i] < 0 || (uint32_t) tokens[i] >= hp->n_vocab)
			return l3_error(err, L3_ERR_ARG, "%s %d is token %d, outside the vocabulary of %u",
							what, i + 1, tokens[i], hp->n_vocab);
	return L3_OK;
}

static L3Status
check_sampling(const L3Sampling *s, L3Error *err)
{
	if (!(s->temperature >= 0 && s->temperature <= 1000))
		return l3_error(err, L3_ERR_ARG, "temperature must be between 0 and 1000, not %g",
						(double) s->temperature);
	if (!(s->top_p >= 0 && s->top_p <= 1))
		return l3_error(err, L3_ERR_ARG, "top_p must be between 0 and 1, not %g",
						(double) s->top_p);
	if (!(s->min_p >= 0 && s->min_p <= 1))
		return l3_error(err, L3_ERR_ARG, "min_p must be between 0 and 1, not %g",
						(double) s->min_p);
	if (!(s->repeat_penalty > 0 && s->repeat_penalty <= 1000))
		return l3_error(err, L3_ERR_ARG, "repeat_penalty must be above 0 and at most 1000, not %g",
						(double) s->repeat_penalty);
	if (s->top_k < 0)
		return l3_error(err, L3_ERR_ARG, "top_k must not be negative, not %d", s->top_k);
	return L3_OK;
}

static L3Status
too_long(int64_t n, int32_t max_context, L3Error *err)
{
	l3_error(err, L3_ERR_LIMIT, "prompt of %lld tokens is too long for the context of %d tokens",
			 (long long) n, max_context);
	return err->status;
}

static L3Status
check_generate(const L3Request *r, int32_t max_context, L3Error *err)
{
	if (r->n_tokens >= max_context)
	{
		too_long(r->n_tokens, max_context, err);
		l3_error_detail(err, "The answer needs room for at least one token.");
		return err->status;
	}
	if (r->max_tokens < 1)
		return l3_error(err, L3_ERR_ARG, "max_tokens must be at least 1, not %d", r->max_tokens);
	if (r->grammar != NULL && r->n_stops != 0)
		return l3_error(err, L3_ERR_ARG, "stop strings do not go with a grammar");
	if (r->grammar != NULL && (r->grammar_size == 0 || r->grammar_size > L3_GRAMMAR_MAX_BYTES ||
							   (uintptr_t) r->grammar % sizeof(uint64_t) != 0))
		return l3_error(err, L3_ERR_ARG, "%zu bytes are no grammar", r->grammar_size);
	if (r->n_stops < 0 || (r->n_stops > 0 && (r->stop == NULL || r->stop_len == NULL)))
		return l3_error(err, L3_ERR_ARG, "the stop strings are missing");
	if (r->out_tokens == NULL)
		return l3_error(err, L3_ERR_ARG, "there is no room for the answer");
	return check_sampling(&r->sampling, err);
}

static L3Status
check_score(const L3Request *r, const L3Hparams *hp, int32_t max_context, L3Error *err)
{
	int32_t		start = 0;

	if (r->n_labels < 1 || r->label_tokens == NULL || r->label_end == NULL)
		return l3_error(err, L3_ERR_ARG, "there are no labels");
	if (r->out_logprobs == NULL)
		return l3_error(err, L3_ERR_ARG, "there is no room for the answer");
	for (int32_t i = 0; i < r->n_labels; i++)
	{
		int64_t		n = (int64_t) r->label_end[i] - start;

		if (n < 1)
			return l3_error(err, L3_ERR_ARG, "label %d is empty", i + 1);
		if (r->n_tokens + n > max_context)
		{
			too_long(r->n_tokens + n, max_context, err);
			l3_error_detail(err, "Label %d has %lld of these tokens.", i + 1, (long long) n);
			return err->status;
		}
		start = r->label_end[i];
	}
	return check_tokens("label token", r->label_tokens, r->label_end[r->n_labels - 1], hp, err);
}

L3Status
l3_request_check(const L3Request *r, const L3Hparams *hp, int32_t max_context, L3Error *err)
{
	L3Status	status;

	if (r->n_tokens < 1 || r->tokens == NULL)
		return l3_error(err, L3_ERR_ARG, "the prompt is empty");
	if (r->n_tokens > max_context)
		return too_long(r->n_tokens, max_context, err);
	status = check_tokens("prompt token", r->tokens, r->n_tokens, hp, err);
	if (status != L3_OK)
		return status;

	switch (r->kind)
	{
		case L3_REQ_GENERATE:
			return check_generate(r, max_context, err);
		case L3_REQ_SCORE:
			return check_score(r, hp, max_context, err);
		case L3_REQ_EMBED:
			if (r->out_embedding == NULL)
				return l3_error(err, L3_ERR_ARG, "there is no room for the answer");
			if (r->pooling != L3_POOL_MEAN && r->pooling != L3_POOL_LAST)
				return l3_error(err, L3_ERR_ARG, "unknown pooling %d", (int) r->pooling);
			return L3_OK;
		case L3_REQ_LOGPROBS:
			if (r->first_scored < 1 || r->first_scored >= r->n_tokens)
				return l3_error(err, L3_ERR_ARG,
								"first_scored must be between 1 and %d, not %d",
								r->n_tokens - 1, r->first_scored);
			if (r->out_logprobs == NULL)
				return l3_error(err, L3_ERR_ARG, "there is no room for the answer");
			return L3_OK;
	}
	return l3_error(err, L3_ERR_ARG, "unknown kind of request %d", (int) r->kind);
}

/* ----------------------------------------------------------------
 *		Equal requests
 * ----------------------------------------------------------------
 */

static bool
same_ids(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b)
{
	return n_a == n_b && (n_a <= 0 || memcmp(a, b, (size_t) n_a * sizeof(int32_t)) == 0);
}

static bool
same_stops(const L3Request *a, const L3Request *b)
{
	size_t		n_bytes = 0;

	if (!same_ids(a->stop_len, a->n_stops, b->stop_len, b->n_stops))
		return false;
	for (int32_t i = 0; i < a->n_stops; i++)
		n_bytes += (size_t) a->stop_len[i];
	return n_bytes == 0 || memcmp(a->stop, b->stop, n_bytes) == 0;
}

static bool
same_grammar(const L3Request *a, const L3Request *b)
{
	if (a->grammar == NULL || b->grammar == NULL)
		return a->grammar == b->grammar;
	return a->grammar_size == b->grammar_size && memcmp(a->grammar, b->grammar, a->grammar_size) == 0;
}

static bool
same_sampling(const L3Sampling *a, const L3Sampling *b)
{
	return a->temperature == b->temperature && a->top_p == b->top_p && a->min_p == b->min_p &&
		a->repeat_penalty == b->repeat_penalty && a->top_k == b->top_k && a->seed == b->seed;
}

static bool
same_labels(const L3Request *a, const L3Request *b)
{
	return same_ids(a->label_end, a->n_labels, b->label_end, b->n_labels) &&
		(a->n_labels < 1 ||
		 memcmp(a->label_tokens, b->label_tokens,
				(size_t) a->label_end[a->n_labels - 1] * sizeof(int32_t)) == 0);
}

bool
l3_request_equal(const L3Request *a, const L3Request *b)
{
	if (a->kind != b->kind || a->salt != b->salt ||
		!same_ids(a->tokens, a->n_tokens, b->tokens, b->n_tokens))
		return false;
	switch (a->kind)
	{
		case L3_REQ_GENERATE:
			return a->max_tokens == b->max_tokens && a->ignore_stop_tokens == b->ignore_stop_tokens &&
				same_sampling(&a->sampling, &b->sampling) && same_stops(a, b) && same_grammar(a, b);
		case L3_REQ_SCORE:
			return same_labels(a, b);
		case L3_REQ_EMBED:
			return a->pooling == b->pooling;
		case L3_REQ_LOGPROBS:
			return a->first_scored == b->first_scored;
	}
	return false;
}
