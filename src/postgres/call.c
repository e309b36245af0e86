/*-------------------------------------------------------------------------
 *
 * call.c
 *	  Calls in two halves: beginning, finishing, giving up.
 *
 * The result cache is asked when the arguments that do not need a model were
 * checked, the model was found and whoever calls was allowed to: an answer from
 * there skips what is left, making the prompt and asking the engine.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "call.h"
#include "result_cache.h"

static const LlamaCallKind *const kinds[] = {
	&llama_generate_kind, &llama_chat_kind, &llama_complete_kind,
	&llama_classify_kind, &llama_classify_prob_kind,
	&llama_filter_kind, &llama_filter_prob_kind,
	&llama_classify_multi_kind, &llama_score_kind, &llama_rank_kind, &llama_sentiment_kind,
	&llama_extract_kind, &llama_summarize_kind, &llama_translate_kind, &llama_redact_kind, &llama_fix_grammar_kind,
	&llama_embed_kind, &llama_similarity_kind,

	&llama_generate_pinned_kind.kind, &llama_chat_pinned_kind.kind,
	&llama_complete_pinned_kind.kind,
	&llama_classify_pinned_kind.kind, &llama_classify_prob_pinned_kind.kind,
	&llama_filter_pinned_kind.kind, &llama_filter_prob_pinned_kind.kind,
	&llama_classify_multi_pinned_kind.kind, &llama_score_pinned_kind.kind,
	&llama_rank_pinned_kind.kind, &llama_sentiment_pinned_kind.kind,
	&llama_extract_pinned_kind.kind, &llama_summarize_pinned_kind.kind, &llama_translate_pinned_kind.kind,
	&llama_redact_pinned_kind.kind, &llama_fix_grammar_pinned_kind.kind,
	&llama_embed_pinned_kind.kind, &llama_similarity_pinned_kind.kind,
};

const LlamaCallKind *
llama_call_kind(const char *symbol)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i]->symbol, symbol) == 0)
			return kinds[i];
	}
	return NULL;
}

/* Is the call's answer known?  If not, it will be kept. */
static bool
look_up_answer(LlamaCall *call, FunctionCallInfo fcinfo, const LlamaModel *model)
{
	const LlamaSignature *signature;
	LlamaDigest question;
	MemoryContext old;

	if (!llama_result_cache_enabled() ||
		(signature = llama_signature(fcinfo, call->kind)) == NULL ||
		!llama_is_plain_call(fcinfo, signature))
		return false;
	if (call->question == NULL)
		llama_digest_question(fcinfo, signature, call->kind, &question);
	else
		question = *call->question;
	call->type = signature->result;
	call->has_key = true;
	llama_result_cache_key(model, &question, &call->key);

	old = MemoryContextSwitchTo(call->context);
	call->is_cached = llama_result_cache_get(&call->key, call->type, &call->cached);
	MemoryContextSwitchTo(old);
	return call->is_cached;
}

const LlamaModel *
llama_call_model(LlamaCall *call, FunctionCallInfo fcinfo)
{
	int			last = fcinfo->nargs - 1;
	const LlamaModel *model = llama_call_is_pinned(call) ?
		llama_pinned_model_arg(fcinfo, last) : llama_model_arg(fcinfo, last);

	return look_up_answer(call, fcinfo, model) ? NULL : model;
}

bool
llama_call_submit(LlamaCall *call, const LlamaModel *model, LlamaFunction function,
				  const L3Request *request)
{
	LlamaRequest *submitted = llama_row_submit(model, function, request);

	if (submitted == NULL)
	{
		llama_call_give_up(call);
		return false;
	}
	Assert(call->n_requests < LLAMA_MAX_CALL_REQUESTS);
	call->model = model;
	call->requests[call->n_requests++] = submitted;
	return true;
}

void
llama_call_give_up(LlamaCall *call)
{
	while (call->n_requests > 0)
		llama_release(call->requests[--call->n_requests]);
}

void *
llama_call_keep(LlamaCall *call, const void *bytes, Size n)
{
	void	   *copy = MemoryContextAlloc(call->context, n);

	memcpy(copy, bytes, n);
	return copy;
}

void
llama_call_begin(LlamaCall *call, const LlamaCallKind *kind, MemoryContext context,
				 FunctionCallInfo fcinfo, const LlamaDigest *question)
{
	memset(call, 0, sizeof(*call));
	call->kind = kind;
	call->context = context;
	call->question = question;
	llama_call_halves(kind)->begin(fcinfo, call);
	call->question = NULL;
}

void
llama_usage_add(LlamaUsage *sum, const LlamaUsage *more)
{
	sum->prompt_tokens += more->prompt_tokens;
	sum->cached_tokens += more->cached_tokens;
	sum->generated_tokens += more->generated_tokens;
}

/* Add up what the requests, which are done, have cost. */
static void
count_tokens(LlamaCall *call)
{
	for (int i = 0; i < call->n_requests; i++)
	{
		const L3Result *result = llama_result(call->requests[i]);

		llama_usage_add(&call->usage,
						&(LlamaUsage) {result->n_prompt_done, result->n_cached, result->n_out});
	}
}

bool
llama_call_is_done(const LlamaCall *call)
{
	for (int i = 0; i < call->n_requests; i++)
	{
		if (!llama_is_done(call->requests[i]))
			return false;
	}
	return true;
}

Datum
llama_call_finish(LlamaCall *call, bool *isnull)
{
	Datum		result;

	*isnull = false;
	if (call->is_cached)
		return call->cached;
	for (int i = 0; i < call->n_requests; i++)
	{
		if (llama_row_wait(call->requests[i], PG_INT64_MAX, NULL))
			continue;
		/* That request is released already. */
		call->requests[i] = call->requests[--call->n_requests];
		llama_call_give_up(call);
	}
	*isnull = call->n_requests == 0 && !call->is_answered;
	if (*isnull)
		return (Datum) 0;
	result = llama_call_halves(call->kind)->finish(call);
	if (call->has_key)
		llama_result_cache_put(&call->key, call->type, result);
	count_tokens(call);
	llama_call_give_up(call);
	return result;
}

int
llama_call_n_arguments(const LlamaCallKind *kind, int n)
{
	const LlamaPinnedKind *pinned = llama_pinned_kind(kind);

	return pinned != NULL && pinned->lacks >= 0 ? n + 1 : n;
}

int
llama_call_argument(const LlamaCallKind *kind, int i, int n)
{
	const LlamaPinnedKind *pinned = llama_pinned_kind(kind);

	if (pinned == NULL || i < pinned->model_arg)
		return i;
	if (i == pinned->model_arg)
		return llama_call_n_arguments(kind, n) - 1;
	return pinned->lacks < 0 || i - 1 < pinned->lacks ? i - 1 : i;
}

const LlamaCallKind *
llama_call_halves(const LlamaCallKind *kind)
{
	const LlamaPinnedKind *pinned = llama_pinned_kind(kind);

	return pinned != NULL ? pinned->form_of : kind;
}

/* A pinned form's arguments, in the order of the kind that it is a form of. */
static void
reorder(FunctionCallInfo ordered, FunctionCallInfo fcinfo, const LlamaCallKind *kind)
{
	int			n = llama_call_n_arguments(kind, fcinfo->nargs);

	InitFunctionCallInfoData(*ordered, fcinfo->flinfo, n, fcinfo->fncollation,
							 fcinfo->context, fcinfo->resultinfo);
	for (int i = 0; i < n; i++)
		ordered->args[i] = (NullableDatum) {.isnull = true};
	for (int i = 0; i < fcinfo->nargs; i++)
		ordered->args[llama_call_argument(kind, i, fcinfo->nargs)] = fcinfo->args[i];
}

Datum
llama_call(FunctionCallInfo fcinfo, const LlamaCallKind *kind)
{
	LOCAL_FCINFO(ordered, FUNC_MAX_ARGS);
	LlamaCall	call;

	if (llama_pinned_kind(kind) != NULL)
		reorder(ordered, fcinfo, kind);
	llama_call_begin(&call, kind, CurrentMemoryContext,
					 llama_pinned_kind(kind) != NULL ? ordered : fcinfo, NULL);
	return llama_call_finish(&call, &fcinfo->isnull);
}
