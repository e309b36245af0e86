/*-------------------------------------------------------------------------
 *
 * options.c
 *	  The options that generating functions have in common.
 *
 * NULL means the default, so that a caller can pass through what it was not
 * given.  Everything is checked before any work is done: an option that is out
 * of its range is an error, never clamped, because a clamped option gives an
 * answer to a question that nobody asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "llama3.h"
#include "options.h"

const LlamaOptions llama_greedy = {
	.sampling = {
		.temperature = LLAMA_DEFAULT_TEMPERATURE,
		.top_p = LLAMA_DEFAULT_TOP_P,
		.min_p = LLAMA_DEFAULT_MIN_P,
		.repeat_penalty = LLAMA_DEFAULT_REPEAT_PENALTY,
		.top_k = LLAMA_DEFAULT_TOP_K,
		.seed = LLAMA_DEFAULT_SEED
	}
};

int64
llama_int_arg(FunctionCallInfo fcinfo, int arg, const char *name, bool is_bigint,
			  int64 min, int64 max, int64 default_value)
{
	int64		value;

	if (PG_ARGISNULL(arg))
		return default_value;
	value = is_bigint ? PG_GETARG_INT64(arg) : PG_GETARG_INT32(arg);
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between " INT64_FORMAT " and " INT64_FORMAT, name, min, max),
				 errdetail("It is " INT64_FORMAT ".", value)));
	return value;
}

double
llama_float_arg(FunctionCallInfo fcinfo, int arg, const char *name,
				double min, double max, double default_value)
{
	double		value;

	if (PG_ARGISNULL(arg))
		return default_value;
	value = PG_GETARG_FLOAT8(arg);
	if (isnan(value) || value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between %g and %g", name, min, max),
				 errdetail("It is %g.", value)));
	return value;
}

LlamaText
llama_instruction_arg(FunctionCallInfo fcinfo, int arg, const char *name)
{
	LlamaText	instruction = llama_text_utf8(PG_GETARG_DATUM(arg));

	if (llama_is_blank(instruction))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", name)));
	return instruction;
}

LlamaText *
llama_text_array_arg(FunctionCallInfo fcinfo, int arg, const char *what, int *n)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(arg);
	LlamaText  *texts;
	Datum	   *elements;
	bool	   *nulls;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be an array of one dimension", what)));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
	texts = palloc(Max(*n, 1) * sizeof(LlamaText));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain NULL", what)));
		texts[i] = llama_text_utf8(elements[i]);
	}
	return texts;
}

/* Stop strings, one after another in one buffer, as the engine takes them. */
static void
read_stops(FunctionCallInfo fcinfo, int arg, LlamaOptions *options)
{
	LlamaText  *stops;
	size_t		n_bytes = 0;

	options->n_stops = 0;
	options->stop = NULL;
	options->stop_len = NULL;
	if (PG_ARGISNULL(arg))
		return;

	stops = llama_text_array_arg(fcinfo, arg, "stop", &options->n_stops);
	if (options->n_stops > LLAMA_MAX_STOPS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stop must not have more than %d strings", LLAMA_MAX_STOPS),
				 errdetail("It has %d.", options->n_stops)));
	for (int i = 0; i < options->n_stops; i++)
	{
		if (stops[i].len == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("stop must not contain an empty string")));
		if (stops[i].len > LLAMA_MAX_STOP_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a stop string must not have more than %d bytes", LLAMA_MAX_STOP_BYTES),
					 errdetail("String %d has %zu.", i + 1, stops[i].len)));
		n_bytes += stops[i].len;
	}

	options->stop = palloc(n_bytes + 1);
	options->stop_len = palloc((options->n_stops + 1) * sizeof(int32));
	n_bytes = 0;
	for (int i = 0; i < options->n_stops; i++)
	{
		memcpy(options->stop + n_bytes, stops[i].data, stops[i].len);
		options->stop_len[i] = (int32) stops[i].len;
		n_bytes += stops[i].len;
	}
}

int32
llama_max_tokens_arg(FunctionCallInfo fcinfo, int arg)
{
	return llama_int_arg(fcinfo, arg, "max_tokens", false,
						 LLAMA_MIN_MAX_TOKENS, LLAMA_MAX_MAX_TOKENS, llama3_max_tokens);
}

void
llama_options_read(FunctionCallInfo fcinfo, int first, LlamaOptions *options)
{
	L3Sampling *sampling = &options->sampling;

	options->max_tokens = llama_max_tokens_arg(fcinfo, first);
	sampling->temperature = llama_float_arg(fcinfo, first + 1, "temperature",
									  LLAMA_MIN_TEMPERATURE, LLAMA_MAX_TEMPERATURE,
									  LLAMA_DEFAULT_TEMPERATURE);
	sampling->top_p = llama_float_arg(fcinfo, first + 2, "top_p",
								LLAMA_MIN_TOP_P, LLAMA_MAX_TOP_P, LLAMA_DEFAULT_TOP_P);
	sampling->top_k = llama_int_arg(fcinfo, first + 3, "top_k", false,
									LLAMA_MIN_TOP_K, LLAMA_MAX_TOP_K, LLAMA_DEFAULT_TOP_K);
	sampling->min_p = llama_float_arg(fcinfo, first + 4, "min_p",
								LLAMA_MIN_MIN_P, LLAMA_MAX_MIN_P, LLAMA_DEFAULT_MIN_P);
	sampling->seed = llama_int_arg(fcinfo, first + 5, "seed", true,
								   LLAMA_MIN_SEED, LLAMA_MAX_SEED, LLAMA_DEFAULT_SEED);
	read_stops(fcinfo, first + 6, options);
	sampling->repeat_penalty = llama_float_arg(fcinfo, first + 7, "repeat_penalty",
										 LLAMA_MIN_REPEAT_PENALTY, LLAMA_MAX_REPEAT_PENALTY,
										 LLAMA_DEFAULT_REPEAT_PENALTY);
	if (llama_format_args(fcinfo, first + 8, "format", first + 9, "format_type",
						  &options->format) && options->n_stops > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stop must not be given with a format"),
				 errdetail("An answer of a format ends where it is complete.")));
}
