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
	};
}

/* Run a request and return its answer as text, or NULL. */
static Datum
generate_answer(FunctionCallInfo fcinfo, LlamaFunction function, const LlamaModel *model,
				const LlamaIds *prompt, const LlamaOptions *options)
{
	L3Request	l3_request;
	LlamaRequest *request;
	const L3Result *result;
	StringInfoData bytes;
	size_t		n_bytes;

	llama_generate_request(prompt, options, &l3_request);
	request = llama_row_run(model, function, &l3_request);
	if (request == NULL)
		PG_RETURN_NULL();

	result = llama_result(request);
	initStringInfo(&bytes);
	llama_append_answer(model->tok, llama_out_tokens(request), result->n_out, &bytes);

	/* Cut before a stop string, and before half a character. */
	n_bytes = l3_utf8_complete(bytes.data, Min((int64) bytes.len, result->n_bytes));
	llama_release(request);
	PG_RETURN_TEXT_P(llama_text_make(bytes.data, n_bytes));
}

bool
llama_generate_args(FunctionCallInfo fcinfo, const LlamaModel **model,
					LlamaOptions *options, LlamaIds *prompt)
{
	LlamaMessages chat = {0};

	llama_options_read(fcinfo, 2, options);
	*model = llama_model_arg(fcinfo, 2 + LLAMA_N_OPTION_ARGS);
	if (!PG_ARGISNULL(1))
		llama_message_add(&chat, "system", llama_text_utf8(PG_GETARG_DATUM(1)));
	llama_message_add(&chat, "user", llama_text_utf8(PG_GETARG_DATUM(0)));
	return llama_encode_chat(*model, &chat, prompt);
}

/*
 * llama_generate(prompt text, system text, <options>, model text) returns text
 */
Datum
llama_generate(PG_FUNCTION_ARGS)
{
	LlamaOptions options;
	const LlamaModel *model;
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0) || !llama_generate_args(fcinfo, &model, &options, &prompt))
		PG_RETURN_NULL();
	return generate_answer(fcinfo, LLAMA_FN_GENERATE, model, &prompt, &options);
}

/*
 * llama_chat(messages jsonb, <options>, model text) returns text
 */
Datum
llama_chat(PG_FUNCTION_ARGS)
{
	LlamaOptions options;
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	llama_options_read(fcinfo, 1, &options);
	llama_messages_from_jsonb(PG_GETARG_JSONB_P(0), &chat);
	model = llama_model_arg(fcinfo, 1 + LLAMA_N_OPTION_ARGS);
	if (!llama_encode_chat(model, &chat, &prompt))
		PG_RETURN_NULL();
	return generate_answer(fcinfo, LLAMA_FN_CHAT, model, &prompt, &options);
}

/*
 * llama_complete(prefix text, <options>, model text) returns text
 */
Datum
llama_complete(PG_FUNCTION_ARGS)
{
	LlamaOptions options;
	const LlamaModel *model;
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	llama_options_read(fcinfo, 1, &options);
	model = llama_model_arg(fcinfo, 1 + LLAMA_N_OPTION_ARGS);
	if (!llama_row_encode(model, llama_text_utf8(PG_GETARG_DATUM(0)), &prompt))
		PG_RETURN_NULL();
	return generate_answer(fcinfo, LLAMA_FN_COMPLETE, model, &prompt, &options);
}
