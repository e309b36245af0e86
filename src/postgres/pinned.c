/*-------------------------------------------------------------------------
 *
 * pinned.c
 *	  The pinned forms of the functions, and llama_pin.
 *
 * A pinned form names its model by name and checksum, or by checksum alone, and
 * so by what its answers are made of.  It is IMMUTABLE, honestly:
 *
 * - another model under the name is an error, never an answer (models.c);
 * - no setting decides an answer: max_tokens has a default of its own,
 *   llama3.on_error means nothing (row.c), and where llama3.context_limit would
 *   cut an answer there is none (client.c);
 * - the checksum is of weights, hyperparameters, tokenizer and chat form, and
 *   the rest are arguments.
 *
 * What remains is what remains for every function of floating-point numbers:
 * another CPU, build or llama3.kv_cache_type may give other last bits.
 *
 * A pinned form takes what the function of its name without "_pinned" takes,
 * with the model right after the arguments that must be given, because it must
 * be too.  It takes no type (format_type), whose meaning can change; a schema's
 * cannot.  It runs that function's halves (call.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "call.h"

PG_FUNCTION_INFO_V1(llama_pin);

#define NOTHING		(-1)

/*
 * A pinned form, with the number of its argument "model", from 0, and the number
 * of the other form's argument that it lacks: a type, whose meaning can change.
 */
#define PINNED(name, model_arg, lacks) \
	PG_FUNCTION_INFO_V1(name##_pinned); \
	const LlamaPinnedKind name##_pinned_kind = { \
		{#name "_pinned", 0, NULL, NULL}, &name##_kind, model_arg, lacks \
	}; \
	Datum \
	name##_pinned(PG_FUNCTION_ARGS) \
	{ \
		return llama_call(fcinfo, &name##_pinned_kind.kind); \
	} \
	extern int no_such_variable

PINNED(llama_generate, 1, 11);
PINNED(llama_chat, 1, 10);
PINNED(llama_complete, 1, 10);
PINNED(llama_classify, 2, NOTHING);
PINNED(llama_classify_prob, 2, NOTHING);
PINNED(llama_classify_multi, 2, NOTHING);
PINNED(llama_filter, 2, NOTHING);
PINNED(llama_filter_prob, 2, NOTHING);
PINNED(llama_score, 2, NOTHING);
PINNED(llama_rank, 2, NOTHING);
PINNED(llama_sentiment, 1, NOTHING);
PINNED(llama_extract, 2, 3);
PINNED(llama_summarize, 1, NOTHING);
PINNED(llama_translate, 2, NOTHING);
PINNED(llama_redact, 1, NOTHING);
PINNED(llama_fix_grammar, 1, NOTHING);
PINNED(llama_embed, 1, NOTHING);
PINNED(llama_similarity, 2, NOTHING);

/*
 * llama_pin(model text) returns text
 */
Datum
llama_pin(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(llama_pin_text(llama_model_arg(fcinfo, 0))));
}
