/*-------------------------------------------------------------------------
 *
 * call.h
 *	  One evaluation of a SQL function that asks the engine, in two halves.
 *
 * The first half reads the arguments and submits requests; the second takes
 * their answers and makes the result.  Called as a function the halves follow
 * each other at once.  The batch node (batch.c) begins the calls of many rows
 * before it finishes the first: the same code, so the same results.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_CALL_H
#define LLAMA3_CALL_H

#include "digest.h"
#include "row.h"

/* Most requests of one call: llama_similarity's, calibrated llama_classify's. */
#define LLAMA_MAX_CALL_REQUESTS	2

typedef struct LlamaCall LlamaCall;
typedef struct LlamaCallKind LlamaCallKind;

struct LlamaCallKind
{
	const char *symbol;			/* of the SQL function, in C */
	int			n_requests;		/* that a call makes when no option asks for more */

	/*
	 * Read the arguments, the model by llama_call_model, and submit with
	 * llama_call_submit.  Without a request, and unless is_answered is set,
	 * the result is NULL.  What finish needs is kept by llama_call_keep: the
	 * arguments, and all else in CurrentMemoryContext, are gone by then.
	 * Between llama_call_model and the answer nothing may be asked but what
	 * the arguments and the model decide: the answer may be known already.
	 */
	void		(*begin) (FunctionCallInfo fcinfo, LlamaCall *call);
	/* All requests have answers.  The result is in CurrentMemoryContext. */
	Datum		(*finish) (const LlamaCall *call);
};

/*
 * A pinned form (pinned.c) is a kind without halves: it has those of another.
 * They see the arguments in the order of that kind, the model last, and NULL
 * for what a pinned form must not be given.
 */
typedef struct LlamaPinnedKind
{
	LlamaCallKind kind;			/* its begin and finish are NULL */
	const LlamaCallKind *form_of;
	int			model_arg;		/* which of its arguments is the model */
	int			lacks;			/* argument of the other that it has not, or -1 */
} LlamaPinnedKind;

/* The pinned form that a kind is, or NULL. */
static inline const LlamaPinnedKind *
llama_pinned_kind(const LlamaCallKind *kind)
{
	return kind->begin == NULL ? (const LlamaPinnedKind *) kind : NULL;
}

/* What a call cost, in tokens. */
typedef struct LlamaUsage
{
	int64		prompt_tokens;
	int64		cached_tokens;	/* of those, found computed */
	int64		generated_tokens;
} LlamaUsage;

struct LlamaCall
{
	const LlamaCallKind *kind;
	const LlamaModel *model;	/* set by llama_call_submit */
	LlamaRequest *requests[LLAMA_MAX_CALL_REQUESTS];
	int			n_requests;
	bool		is_answered;	/* by begin: finish needs no request */
	const LlamaDigest *question;	/* during begin; or NULL */
	bool		has_key;		/* the answer will go to the result cache, */
	LlamaDigest key;			/* under this key */
	LlamaValueType type;		/* of the answer; set with the key */
	bool		is_cached;		/* the answer came from there */
	Datum		cached;			/* in context */
	MemoryContext context;		/* lives until the call is finished */
	void	   *state;			/* of begin, in context */
	LlamaUsage	usage;			/* set by llama_call_finish */
};

/*
 * For begin.  The model that the last argument names; NULL when the call's
 * answer is known already, and begin has nothing more to do.  Raises like
 * llama_model_get.
 */
extern const LlamaModel *llama_call_model(LlamaCall *call, FunctionCallInfo fcinfo);

/*
 * For begin.  Submit a request; false, with the call's result NULL, where the
 * row cannot be answered under llama3.on_error = 'null'.
 */
extern bool llama_call_submit(LlamaCall *call, const LlamaModel *model,
							  LlamaFunction function, const L3Request *request);

/* For begin.  A copy of n bytes that lives until the call is finished. */
extern void *llama_call_keep(LlamaCall *call, const void *bytes, Size n);

/*
 * The halves.  A call that has begun must be finished or given up; on an
 * error its requests are given up by their resource owner.  What outlives
 * beginning is in context; the rest of what it allocates, in
 * CurrentMemoryContext, may go.  fcinfo has the model last.  question is llama_digest_question's, or NULL
 * where nobody has computed it.
 */
extern void llama_call_begin(LlamaCall *call, const LlamaCallKind *kind, MemoryContext context,
							 FunctionCallInfo fcinfo, const LlamaDigest *question);
/* Would finishing it return at once? */
extern bool llama_call_is_done(const LlamaCall *call);
extern Datum llama_call_finish(LlamaCall *call, bool *isnull);
extern void llama_call_give_up(LlamaCall *call);
extern void llama_usage_add(LlamaUsage *sum, const LlamaUsage *more);

/*
 * How many arguments the kind's halves see of the n that a call has, where they
 * look for number i of those, and the kind that has the halves: what a caller of
 * llama_call_begin needs for a pinned form.  Arguments that are none of those
 * are NULL.
 */
extern int	llama_call_n_arguments(const LlamaCallKind *kind, int n);
extern int	llama_call_argument(const LlamaCallKind *kind, int i, int n);
extern const LlamaCallKind *llama_call_halves(const LlamaCallKind *kind);

static inline bool
llama_call_is_pinned(const LlamaCall *call)
{
	return llama_pinned_kind(call->kind) != NULL;
}

/* Both halves at once, for the functions themselves. */
extern Datum llama_call(FunctionCallInfo fcinfo, const LlamaCallKind *kind);

/* The functions that have two halves, each where it is written. */
extern const LlamaCallKind llama_generate_kind;
extern const LlamaCallKind llama_chat_kind;
extern const LlamaCallKind llama_complete_kind;
extern const LlamaCallKind llama_classify_kind;
extern const LlamaCallKind llama_classify_prob_kind;
extern const LlamaCallKind llama_filter_kind;
extern const LlamaCallKind llama_filter_prob_kind;
extern const LlamaCallKind llama_classify_multi_kind;
extern const LlamaCallKind llama_score_kind;
extern const LlamaCallKind llama_rank_kind;
extern const LlamaCallKind llama_sentiment_kind;
extern const LlamaCallKind llama_extract_kind;
extern const LlamaCallKind llama_summarize_kind;
extern const LlamaCallKind llama_translate_kind;
extern const LlamaCallKind llama_redact_kind;
extern const LlamaCallKind llama_fix_grammar_kind;
extern const LlamaCallKind llama_embed_kind;
extern const LlamaCallKind llama_similarity_kind;

/* Their pinned forms. */
extern const LlamaPinnedKind llama_generate_pinned_kind;
extern const LlamaPinnedKind llama_chat_pinned_kind;
extern const LlamaPinnedKind llama_complete_pinned_kind;
extern const LlamaPinnedKind llama_classify_pinned_kind;
extern const LlamaPinnedKind llama_classify_prob_pinned_kind;
extern const LlamaPinnedKind llama_filter_pinned_kind;
extern const LlamaPinnedKind llama_filter_prob_pinned_kind;
extern const LlamaPinnedKind llama_classify_multi_pinned_kind;
extern const LlamaPinnedKind llama_score_pinned_kind;
extern const LlamaPinnedKind llama_rank_pinned_kind;
extern const LlamaPinnedKind llama_sentiment_pinned_kind;
extern const LlamaPinnedKind llama_extract_pinned_kind;
extern const LlamaPinnedKind llama_summarize_pinned_kind;
extern const LlamaPinnedKind llama_translate_pinned_kind;
extern const LlamaPinnedKind llama_redact_pinned_kind;
extern const LlamaPinnedKind llama_fix_grammar_pinned_kind;
extern const LlamaPinnedKind llama_embed_pinned_kind;
extern const LlamaPinnedKind llama_similarity_pinned_kind;

/* The kind with that symbol, or NULL. */
extern const LlamaCallKind *llama_call_kind(const char *symbol);

#endif							/* LLAMA3_CALL_H */
