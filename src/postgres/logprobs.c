/*-------------------------------------------------------------------------
 *
 * logprobs.c
 *	  llama_logprobs: how probable a model finds a given text.
 *
 * The prompt and the completion are tokenised apart and then joined, so that
 * the same completion has the same tokens after every prompt.  Nothing is
 * generated: one pass gives all log-probabilities.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"

#include "row.h"

PG_FUNCTION_INFO_V1(llama_logprobs);

/* Columns: position, token, piece, logprob. */
#define N_COLUMNS	4

static void
put_rows(ReturnSetInfo *rsinfo, const LlamaModel *model, const int32 *completion, size_t n,
		 const double *logprobs)
{
	StringInfoData piece;

	initStringInfo(&piece);
	for (size_t i = 0; i < n; i++)
	{
		Datum		values[N_COLUMNS];
		bool		nulls[N_COLUMNS] = {false};
		text	   *piece_text;

		resetStringInfo(&piece);
		llama_append_pieces(model->tok, &completion[i], 1, &piece);
		piece_text = llama_text_make(piece.data, piece.len);

		values[0] = Int32GetDatum((int32) i + 1);
		values[1] = Int32GetDatum(completion[i]);
		values[2] = PointerGetDatum(piece_text);
		values[3] = Float8GetDatum(logprobs[i]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		pfree(piece_text);
	}
}

/*
 * llama_logprobs(prompt text, completion text, model text)
 * returns table (position int, token int, piece text, logprob float8)
 */
Datum
llama_logprobs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const LlamaModel *model;
	LlamaIds	ids = {0};
	L3Request	l3_request = {.kind = L3_REQ_LOGPROBS};
	LlamaRequest *request;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_VOID();
	model = llama_model_arg(fcinfo, 2);

	if (!llama_row_encode(model, llama_text_utf8(PG_GETARG_DATUM(0)), &ids))
		PG_RETURN_VOID();
	l3_request.first_scored = (int32) ids.n;
	if (!llama_encode(model->tok, llama_text_utf8(PG_GETARG_DATUM(1)), false,
					  model->max_context, &ids, NULL) ||
		ids.n > (size_t) model->max_context)
	{
		llama_row_too_long(model);
		PG_RETURN_VOID();
	}
	if (ids.n == (size_t) l3_request.first_scored)
		PG_RETURN_VOID();		/* an empty completion has no tokens */

	l3_request.tokens = ids.ids;
	l3_request.n_tokens = (int32) ids.n;
	request = llama_row_run(model, LLAMA_FN_LOGPROBS, &l3_request);
	if (request == NULL)
		PG_RETURN_VOID();
	put_rows(rsinfo, model, ids.ids + l3_request.first_scored,
			 ids.n - l3_request.first_scored, llama_out_logprobs(request));
	llama_release(request);
	PG_RETURN_VOID();
}
