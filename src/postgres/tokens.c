/*-------------------------------------------------------------------------
 *
 * tokens.c
 *	  llama_tokenize, llama_detokenize, llama_count_tokens, llama_truncate.
 *
 * The tokenizer lies in shared memory and these functions use it in the
 * backend: no request, no waiting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "options.h"
#include "row.h"

PG_FUNCTION_INFO_V1(llama_tokenize);
PG_FUNCTION_INFO_V1(llama_detokenize);
PG_FUNCTION_INFO_V1(llama_count_tokens);
PG_FUNCTION_INFO_V1(llama_truncate);

/*
 * llama_tokenize(input text, special boolean, model text) returns int[]
 */
Datum
llama_tokenize(PG_FUNCTION_ARGS)
{
	bool		special = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	const LlamaModel *model;
	LlamaIds	ids = {0};
	ArrayType  *result;
	size_t		size;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	model = llama_model_arg(fcinfo, 2);
	if (!llama_encode(model->tok, llama_text_utf8(PG_GETARG_DATUM(0)), special,
					  LLAMA_MAX_ARRAY_IDS, &ids, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text has too many tokens for an array")));
	if (ids.n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT4OID));

	/* Built by hand: construct_array wants a Datum for each element. */
	size = ARR_OVERHEAD_NONULLS(1) + ids.n * sizeof(int32);
	result = palloc0(size);
	SET_VARSIZE(result, size);
	result->ndim = 1;
	result->elemtype = INT4OID;
	ARR_DIMS(result)[0] = (int) ids.n;
	ARR_LBOUND(result)[0] = 1;
	memcpy(ARR_DATA_PTR(result), ids.ids, ids.n * sizeof(int32));
	PG_RETURN_ARRAYTYPE_P(result);
}

/*
 * llama_detokenize(tokens int[], model text) returns text
 */
Datum
llama_detokenize(PG_FUNCTION_ARGS)
{
	ArrayType  *array;
	const LlamaModel *model;
	StringInfoData bytes;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	array = PG_GETARG_ARRAYTYPE_P(0);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tokens must be an array of one dimension")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tokens must not contain NULL")));
	model = llama_model_arg(fcinfo, 1);

	initStringInfo(&bytes);
	llama_append_pieces(model->tok, (int32 *) ARR_DATA_PTR(array),
						ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)), &bytes);
	PG_RETURN_TEXT_P(llama_text_make(bytes.data, bytes.len));
}

/*
 * llama_count_tokens(input text, model text) returns int
 */
Datum
llama_count_tokens(PG_FUNCTION_ARGS)
{
	const LlamaModel *model;
	size_t		n;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	model = llama_model_arg(fcinfo, 1);
	(void) llama_encode(model->tok, llama_text_utf8(PG_GETARG_DATUM(0)), false,
						PG_INT32_MAX, NULL, &n);
	PG_RETURN_INT32((int32) n);
}

/*
 * Length in bytes of the longest beginning of the text that is made of whole
 * tokens (the first n at most) and whole characters, and has itself at most
 * max_tokens tokens.
 *
 * The last does not follow from the others: where a text ends decides how its
 * end is split ("\n\n  x" keeps one space for the x, "\n\n  " does not).  So
 * each candidate is counted; nearly always the first one will do.
 */
static size_t
truncated_length(const LlamaModel *model, LlamaText utf8, const LlamaIds *ids, size_t max_tokens)
{
	size_t		n_bytes = 0;

	for (size_t i = 0; i < ids->n; i++)
	{
		uint32		len = 0;

		(void) l3_tokenizer_piece(model->tok, ids->ids[i], &len);
		n_bytes += len;
	}
	n_bytes = Min(n_bytes, utf8.len);

	for (size_t n = ids->n; n > 0; n--)
	{
		LlamaText	candidate = {utf8.data, n_bytes};
		uint32		len = 0;

		if (l3_utf8_complete(utf8.data, n_bytes) == n_bytes &&
			llama_encode(model->tok, candidate, false, max_tokens, NULL, NULL))
			return n_bytes;
		(void) l3_tokenizer_piece(model->tok, ids->ids[n - 1], &len);
		n_bytes -= Min(n_bytes, len);
		CHECK_FOR_INTERRUPTS();
	}
	return 0;
}

/*
 * llama_truncate(input text, max_tokens int, model text) returns text
 */
Datum
llama_truncate(PG_FUNCTION_ARGS)
{
	LlamaText	utf8;
	int32		max_tokens;
	const LlamaModel *model;
	LlamaIds	ids = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	max_tokens = llama_int_arg(fcinfo, 1, "max_tokens", false, 0, PG_INT32_MAX, 0);
	model = llama_model_arg(fcinfo, 2);
	utf8 = llama_text_utf8(PG_GETARG_DATUM(0));

	if (llama_encode(model->tok, utf8, false, max_tokens, &ids, NULL))
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	PG_RETURN_TEXT_P(llama_text_make(utf8.data,
									 truncated_length(model, utf8, &ids, max_tokens)));
}
