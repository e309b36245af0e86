/*-------------------------------------------------------------------------
 *
 * rewrite.c
 *	  llama_summarize, llama_translate, llama_redact, llama_fix_grammar.
 *
 * Texts made of a row's text.  They are generated greedily (temperature 0), so
 * the answer is the model's most probable one, token by token, and come without
 * white space around them.
 *
 * How long an answer may be follows from what is asked, not from
 * llama3.max_tokens: an answer that is cut in the middle of the text is worth
 * less than none, and one that goes on for ever should not hold its place.
 *
 *		translate			EXTRA_TOKENS + 3 times the input's tokens
 *		redact, fix_grammar	EXTRA_TOKENS + 2 times the input's tokens
 *		summarize			EXTRA_TOKENS + 3 for each of max_words
 *
 * Some scripts take three times the tokens of English; a placeholder can be
 * longer than what it replaces; a word of a language other than English has
 * two or three tokens.
 *
 * A text of nothing but white space is answered by the empty string, without
 * asking the model, which would make something up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "choice.h"
#include "generate.h"
#include "options.h"
#include "prompt.h"

PG_FUNCTION_INFO_V1(llama_summarize);
PG_FUNCTION_INFO_V1(llama_translate);
PG_FUNCTION_INFO_V1(llama_redact);
PG_FUNCTION_INFO_V1(llama_fix_grammar);

#define EXTRA_TOKENS		32
#define TRANSLATE_GROWTH	3
#define REDACT_GROWTH		2
#define FIX_GRAMMAR_GROWTH	2
#define TOKENS_PER_WORD		3

#define MIN_MAX_WORDS		1
#define MAX_MAX_WORDS		10000
#define DEFAULT_MAX_WORDS	50

#define MIN_CATEGORIES		1

static const LlamaNoun noun_category = {"Category", "categories"};

/* Submit a chat that is answered with at most max_tokens. */
static void
submit_chat(LlamaCall *call, const LlamaModel *model, LlamaFunction function,
			const LlamaMessages *chat, int64 max_tokens)
{
	LlamaOptions options = llama_greedy;
	LlamaIds	prompt = {0};

	options.max_tokens = (int32) Min(max_tokens, LLAMA_MAX_MAX_TOKENS);
	if (llama_encode_chat(model, chat, &prompt))
		llama_generate_submit(call, function, model, &prompt, &options);
}

/* Tokens of an answer that is about growth times as long as the input. */
static int64
tokens_for(const LlamaModel *model, LlamaText input, int growth)
{
	size_t		n;

	/* One that is longer than the context will not be answered anyway. */
	(void) llama_encode(model->tok, input, false, model->max_context, NULL, &n);
	return EXTRA_TOKENS + (int64) growth * (int64) n;
}

/* The row's text; true, with the call answered, when it is blank. */
static bool
is_blank_input(FunctionCallInfo fcinfo, LlamaCall *call, LlamaText *input)
{
	*input = llama_text_utf8(PG_GETARG_DATUM(0));
	call->is_answered = llama_is_blank(*input);
	return call->is_answered;
}

static Datum
finish_rewrite(const LlamaCall *call)
{
	LlamaText	answer = {"", 0};

	if (!call->is_answered)
		answer = llama_text_trim(llama_generated(call));
	return PointerGetDatum(llama_text_make(answer.data, answer.len));
}

/* Read (input, max_words, model) and submit. */
static void
begin_summarize(FunctionCallInfo fcinfo, LlamaCall *call)
{
	int			max_words;
	const LlamaModel *model;
	LlamaText	input;
	LlamaMessages chat = {0};

	if (PG_ARGISNULL(0))
		return;
	max_words = llama_int_arg(fcinfo, 1, "max_words", false,
							  MIN_MAX_WORDS, MAX_MAX_WORDS, DEFAULT_MAX_WORDS);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	if (is_blank_input(fcinfo, call, &input))
		return;
	llama_summarize_prompt(&chat, max_words, input);
	submit_chat(call, model, LLAMA_FN_SUMMARIZE, &chat,
				EXTRA_TOKENS + TOKENS_PER_WORD * max_words);
}

/* Read (input, to_language, from_language, model) and submit. */
static void
begin_translate(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaText	to_language;
	LlamaText	from_language = {"", 0};
	const LlamaModel *model;
	LlamaText	input;
	LlamaMessages chat = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return;
	to_language = llama_instruction_arg(fcinfo, 1, "to_language");
	if (!PG_ARGISNULL(2))
		from_language = llama_instruction_arg(fcinfo, 2, "from_language");
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	if (is_blank_input(fcinfo, call, &input))
		return;
	llama_translate_prompt(&chat, to_language, from_language, input);
	submit_chat(call, model, LLAMA_FN_TRANSLATE, &chat,
				tokens_for(model, input, TRANSLATE_GROWTH));
}

/* Read (input, categories, model) and submit. */
static void
begin_redact(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaLabels categories = {0};
	const LlamaModel *model;
	LlamaText	input;
	LlamaMessages chat = {0};

	if (PG_ARGISNULL(0))
		return;
	if (!PG_ARGISNULL(1))
		llama_labels_arg(fcinfo, 1, &noun_category, MIN_CATEGORIES, &categories);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	if (is_blank_input(fcinfo, call, &input))
		return;
	llama_redact_prompt(&chat, categories.texts, categories.n, input);
	submit_chat(call, model, LLAMA_FN_REDACT, &chat, tokens_for(model, input, REDACT_GROWTH));
}

/* Read (input, model) and submit. */
static void
begin_fix_grammar(FunctionCallInfo fcinfo, LlamaCall *call)
{
	const LlamaModel *model;
	LlamaText	input;
	LlamaMessages chat = {0};

	if (PG_ARGISNULL(0))
		return;
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	if (is_blank_input(fcinfo, call, &input))
		return;
	llama_fix_grammar_prompt(&chat, input);
	submit_chat(call, model, LLAMA_FN_FIX_GRAMMAR, &chat,
				tokens_for(model, input, FIX_GRAMMAR_GROWTH));
}

const LlamaCallKind llama_summarize_kind = {"llama_summarize", 1, begin_summarize, finish_rewrite};
const LlamaCallKind llama_translate_kind = {"llama_translate", 1, begin_translate, finish_rewrite};
const LlamaCallKind llama_redact_kind = {"llama_redact", 1, begin_redact, finish_rewrite};
const LlamaCallKind llama_fix_grammar_kind = {
	"llama_fix_grammar", 1, begin_fix_grammar, finish_rewrite
};

/*
 * llama_summarize(input text, max_words int, model text) returns text
 */
Datum
llama_summarize(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_summarize_kind);
}

/*
 * llama_translate(input text, to_language text, from_language text,
 * model text) returns text
 */
Datum
llama_translate(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_translate_kind);
}

/*
 * llama_redact(input text, categories text[], model text) returns text
 */
Datum
llama_redact(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_redact_kind);
}

/*
 * llama_fix_grammar(input text, model text) returns text
 */
Datum
llama_fix_grammar(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_fix_grammar_kind);
}
