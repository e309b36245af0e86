/*-------------------------------------------------------------------------
 *
 * options.h
 *	  The options that generating functions have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_OPTIONS_H
#define LLAMA3_OPTIONS_H

#include "postgres.h"

#include "fmgr.h"

#include "engine.h"
#include "format.h"
#include "text.h"

/*
 * The options' arguments stand side by side in every function that has them:
 * max_tokens, temperature, top_p, top_k, min_p, seed, stop, repeat_penalty,
 * format, format_type.
 */
#define LLAMA_N_OPTION_ARGS			10

/* Ranges and defaults; max_tokens' default is llama3.max_tokens. */
#define LLAMA_MIN_MAX_TOKENS		1
#define LLAMA_MAX_MAX_TOKENS		L3_MAX_CONTEXT
#define LLAMA_PINNED_MAX_TOKENS		256		/* no setting decides a pinned form's answer */
#define LLAMA_MIN_TEMPERATURE		0.0
#define LLAMA_MAX_TEMPERATURE		2.0
#define LLAMA_DEFAULT_TEMPERATURE	0.0
#define LLAMA_MIN_TOP_P				0.0
#define LLAMA_MAX_TOP_P				1.0
#define LLAMA_DEFAULT_TOP_P			1.0		/* off */
#define LLAMA_MIN_TOP_K				0
#define LLAMA_MAX_TOP_K				L3_MAX_VOCAB
#define LLAMA_DEFAULT_TOP_K			0		/* off */
#define LLAMA_MIN_MIN_P				0.0
#define LLAMA_MAX_MIN_P				1.0
#define LLAMA_DEFAULT_MIN_P			0.0		/* off */
#define LLAMA_MIN_SEED				0
#define LLAMA_MAX_SEED				PG_INT64_MAX
#define LLAMA_DEFAULT_SEED			0
#define LLAMA_MIN_REPEAT_PENALTY	0.1
#define LLAMA_MAX_REPEAT_PENALTY	10.0
#define LLAMA_DEFAULT_REPEAT_PENALTY 1.0	/* off */
#define LLAMA_MAX_STOP_BYTES		1024	/* of one stop string */

typedef struct LlamaOptions
{
	int32		max_tokens;
	L3Sampling	sampling;
	char	   *stop;			/* as in L3Request */
	int32	   *stop_len;
	int32		n_stops;
	LlamaFormat format;
} LlamaOptions;

/* The most probable answer; max_tokens must be set. */
extern const LlamaOptions llama_greedy;

/*
 * Read and check the options that start at argument first.  NULL means the
 * default.  Raises 22023, and what llama_format_args raises.
 */
extern void llama_options_read(FunctionCallInfo fcinfo, int first, LlamaOptions *options);

/*
 * Read an array of text argument: one dimension at most, no NULL elements.
 * what names it in messages ("labels").  Raises 22023.
 */
extern LlamaText *llama_text_array_arg(FunctionCallInfo fcinfo, int arg,
									   const char *what, int *n);

/* Read max_tokens; raises 22023. */
extern int32 llama_max_tokens_arg(FunctionCallInfo fcinfo, int arg);

/* Read an optional integer; raises 22023 outside of min .. max. */
extern int64 llama_int_arg(FunctionCallInfo fcinfo, int arg, const char *name,
						   bool is_bigint, int64 min, int64 max, int64 default_value);
/* The same of a float8; NaN is in no range. */
extern double llama_float_arg(FunctionCallInfo fcinfo, int arg, const char *name,
							  double min, double max, double default_value);

/* Read a text argument, not NULL, that says what to do; raises 22023 when it is blank. */
extern LlamaText llama_instruction_arg(FunctionCallInfo fcinfo, int arg, const char *name);

#endif							/* LLAMA3_OPTIONS_H */
