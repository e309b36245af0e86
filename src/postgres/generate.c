/*-------------------------------------------------------------------------
 *
 * generate.c
 *	  llama_generate, llama_chat, llama_complete.
 *
 * The three differ in how the prompt's tokens are made; the rest is one path:
 * options to a request, wait for the end, tokens to text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "call.h"
#include "generate.h"
#include "prompt.h"

PG_FUNCTION_INFO_V1(llama_generate);
PG_FUNCTION_INFO_V1(llama_chat);
PG_FUNCTION_INFO_V1(llama_complete);

void
llama_generate_request(const LlamaIds *prompt, const LlamaOptions *options, L3Request *request)
{
	*request = (L3Request) {
		.kind = L3_REQ_GENERATE,
		.tokens = prompt->ids,
		.n_tokens = (int32) prompt->n,
		.max_tokens = options->max_tokens,
		.sampling = options->sampling,
		.stop = options->stop,
		.stop_len = options->stop_len,
		.n_stops = options->n_stops,
		.grammar = options->format.grammar,
		.grammar_size = options->format.grammar_size,
	};
}

void
llama_generate_submit(LlamaCall *call, LlamaFunction function, const LlamaModel *model,
					  const LlamaIds *prompt, const LlamaOptions *options)
{
	L3Request	request;

	if (OidIsValid(options->format.type))
		call->state = llama_call_keep(call, &options->format.type, sizeof(Oid));
	llama_generate_request(prompt, options, &request);
	(void) llama_call_submit(call, model, function, &request);
}

LlamaText
llama_answer(const LlamaModel *model, LlamaRequest *request)
{
	const L3Result *result = llama_result(request);
	StringInfoData bytes;

	initStringInfo(&bytes);
	llama_append_answer(model->tok, llama_out_tokens(request), result->n_out, &bytes);

	/* Cut before a stop string, and before half a character. */
	return (LlamaText) {
		bytes.data, l3_utf8_complete(bytes.data, Min((int64) bytes.len, result->n_bytes))
	};
}

LlamaText
llama_generated(const LlamaCall *call)
{
	return llama_answer(call->model, call->requests[0]);
}

text *
llama_generated_text(const LlamaCall *call)
{
	LlamaText	utf8 = llama_generated(call);
	text	   *answer = llama_text_make(utf8.data, utf8.len);
	const Oid  *format_type = call->state;

	if (format_type != NULL)
		llama_format_check(*format_type, answer);
	return answer;
}

static Datum
finish_answer(const LlamaCall *call)
{
	return PointerGetDatum(llama_generated_text(call));
}

int32
llama_call_max_tokens(FunctionCallInfo fcinfo, const LlamaCall *call, int arg)
{
	if (llama_call_is_pinned(call) && PG_ARGISNULL(arg))
		return LLAMA_PINNED_MAX_TOKENS;
	return llama_max_tokens_arg(fcinfo, arg);
}

void
llama_call_options(FunctionCallInfo fcinfo, const LlamaCall *call, int first,
				   LlamaOptions *options)
{
	llama_options_read(fcinfo, first, options);
	options->max_tokens = llama_call_max_tokens(fcinfo, call, first);
}

bool
llama_generate_args(FunctionCallInfo fcinfo, LlamaCall *call, const LlamaModel **model,
					LlamaOptions *options, LlamaIds *prompt)
{
	LlamaMessages chat = {0};

	if (call == NULL)
	{
		llama_options_read(fcinfo, 2, options);
		*model = llama_model_arg(fcinfo, 2 + LLAMA_N_OPTION_ARGS);
	}
	else
	{
		llama_call_options(fcinfo, call, 2, options);
		if ((*model = llama_call_model(call, fcinfo)) == NULL)
			return false;
	}
	if (!PG_ARGISNULL(1))
		llama_message_add(&chat, "system", llama_text_utf8(PG_GETARG_DATUM(1)));
	llama_message_add(&chat, "user", llama_text_utf8(PG_GETARG_DATUM(0)));
	llama_format_prompt(&chat, options->format.schema);
	return llama_encode_chat(*model, &chat, prompt);
}

static void
begin_generate(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaOptions options;
	const LlamaModel *model;
	LlamaIds	prompt = {0};

	if (!PG_ARGISNULL(0) && llama_generate_args(fcinfo, call, &model, &options, &prompt))
		llama_generate_submit(call, LLAMA_FN_GENERATE, model, &prompt, &options);
}

static void
begin_chat(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaOptions options;
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0))
		return;
	llama_call_options(fcinfo, call, 1, &options);
	llama_messages_from_jsonb(PG_GETARG_JSONB_P(0), &chat);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	llama_format_prompt(&chat, options.format.schema);
	if (llama_encode_chat(model, &chat, &prompt))
		llama_generate_submit(call, LLAMA_FN_CHAT, model, &prompt, &options);
}

static void
begin_complete(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaOptions options;
	const LlamaModel *model;
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0))
		return;
	llama_call_options(fcinfo, call, 1, &options);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	if (llama_row_encode(model, llama_text_utf8(PG_GETARG_DATUM(0)), &prompt))
		llama_generate_submit(call, LLAMA_FN_COMPLETE, model, &prompt, &options);
}

const LlamaCallKind llama_generate_kind = {"llama_generate", 1, begin_generate, finish_answer};
const LlamaCallKind llama_chat_kind = {"llama_chat", 1, begin_chat, finish_answer};
const LlamaCallKind llama_complete_kind = {"llama_complete", 1, begin_complete, finish_answer};

/*
 * llama_generate(prompt text, system text, <options>, model text) returns text
 */
Datum
llama_generate(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_generate_kind);
}

/*
 * llama_chat(messages jsonb, <options>, model text) returns text
 */
Datum
llama_chat(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_chat_kind);
}

/*
 * llama_complete(prefix text, <options>, model text) returns text
 */
Datum
llama_complete(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_complete_kind);
}
