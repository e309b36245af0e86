/*-------------------------------------------------------------------------
 *
 * extract.c
 *	  llama_extract: what a text says, as JSON of a given form.
 *
 * The most probable answer (temperature 0) among those that are valid for the
 * schema: the engine lets no other be generated (format.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "format.h"
#include "generate.h"
#include "options.h"
#include "prompt.h"

PG_FUNCTION_INFO_V1(llama_extract);

/* Arguments. */
enum
{
	ARG_INPUT,
	ARG_SCHEMA,
	ARG_INSTRUCTIONS,
	ARG_SCHEMA_TYPE,
	ARG_MAX_TOKENS
};

/* Read (input, schema, instructions, schema_type, max_tokens, model) and submit. */
static void
begin_extract(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaOptions options = llama_greedy;
	LlamaText	instructions = {"", 0};
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(ARG_INPUT))
		return;
	if (!llama_format_args(fcinfo, ARG_SCHEMA, "schema", ARG_SCHEMA_TYPE, "schema_type",
						   &options.format))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema or schema_type must be given")));
	if (!PG_ARGISNULL(ARG_INSTRUCTIONS))
		instructions = llama_text_utf8(PG_GETARG_DATUM(ARG_INSTRUCTIONS));
	options.max_tokens = llama_call_max_tokens(fcinfo, call, ARG_MAX_TOKENS);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	llama_extract_prompt(&chat, instructions, options.format.schema,
						 llama_text_utf8(PG_GETARG_DATUM(ARG_INPUT)));
	if (llama_encode_chat(model, &chat, &prompt))
		llama_generate_submit(call, LLAMA_FN_EXTRACT, model, &prompt, &options);
}

static Datum
finish_extract(const LlamaCall *call)
{
	text	   *answer = llama_generated_text(call);

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(answer)));
}

const LlamaCallKind llama_extract_kind = {"llama_extract", 1, begin_extract, finish_extract};

/*
 * llama_extract(input text, schema jsonb, instructions text, schema_type regtype,
 * max_tokens int, model text) returns jsonb
 */
Datum
llama_extract(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_extract_kind);
}
