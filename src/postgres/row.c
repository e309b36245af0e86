/*-------------------------------------------------------------------------
 *
 * row.c
 *	  Requests as the SQL functions make them: one row, one answer, or what
 *	  llama3.on_error says.
 *
 * There are two kinds of errors.  A wrong argument is wrong for every row; it
 * raises, always.  A row that cannot be answered (its prompt is longer than
 * the context) would stop a query over a million rows at the last one; so
 * under llama3.on_error = 'null' it gives NULL and a warning.  The second kind
 * has one SQLSTATE, 54000, and is decided here and nowhere else.  A row of a
 * pinned model always raises: no setting may decide its answer.
 *
 * 54000 may also come from llama_submit and llama_wait (the request is longer
 * than this server's KV cache allows).  It is caught here without a
 * subtransaction, which is sound only because of where it is thrown: in our
 * own functions, which hold no lock then, have no change to the database to
 * undo, and leave nothing behind but the request, which we release.  Every
 * other error is thrown on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "row.h"

int64		llama_calls_given_up = 0;

const LlamaModel *
llama_model_arg(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return llama_model_get(NULL);
	return llama_model_get(text_to_cstring(PG_GETARG_TEXT_PP(arg)));
}

const LlamaModel *
llama_pinned_model_arg(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model must not be NULL"),
				 errhint("llama_pin() gives the pin of a loaded model.")));
	return llama_model_get_pinned(text_to_cstring(PG_GETARG_TEXT_PP(arg)));
}

static bool
gives_null(bool pinned)
{
	return llama3_on_error == LLAMA_ON_ERROR_NULL && !pinned;
}

void
llama_row_too_long(const LlamaModel *model)
{
	if (gives_null(model->pinned))
		llama_calls_given_up++;
	ereport(gives_null(model->pinned) ? WARNING : ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("prompt is too long for model \"%s\"", model->name),
			 errdetail("The model's context is %d tokens.", model->max_context),
			 errhint("Shorten the text, for example with llama_truncate().")));
}

bool
llama_row_encode(const LlamaModel *model, LlamaText utf8, LlamaIds *ids)
{
	if (l3_tokenizer_add_bos(model->tok) && l3_tokenizer_bos(model->tok) >= 0)
	{
		int32		bos = l3_tokenizer_bos(model->tok);

		llama_ids_append(ids, &bos, 1);
	}
	if (!llama_encode(model->tok, utf8, false, model->max_context, ids, NULL))
	{
		llama_row_too_long(model);
		return false;
	}
	if (ids->n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("text must not be empty"),
				 errdetail("Model \"%s\" has no begin-of-text token to start from.", model->name)));
	return true;
}

/*
 * In a PG_CATCH: if the error is a row's and on_error says NULL, turn it into
 * a warning; else throw it on.
 */
static void
row_error_to_warning(MemoryContext context)
{
	ErrorData  *error;

	if (geterrcode() != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	llama_calls_given_up++;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal("%s", error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
	FreeErrorData(error);
}

LlamaRequest *
llama_row_submit(const LlamaModel *model, LlamaFunction function, const L3Request *request)
{
	MemoryContext context = CurrentMemoryContext;
	LlamaRequest *volatile submitted = NULL;

	if (!gives_null(model->pinned))
		return llama_submit(model, function, request);

	PG_TRY();
	{
		submitted = llama_submit(model, function, request);
	}
	PG_CATCH();
	{
		row_error_to_warning(context);
	}
	PG_END_TRY();
	return submitted;
}

bool
llama_row_wait(LlamaRequest *request, int64 n_bytes_seen, bool *done)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool answered = true;
	volatile bool ended = false;

	if (!gives_null(llama_is_pinned(request)))
		ended = llama_wait(request, n_bytes_seen);
	else
	{
		PG_TRY();
		{
			ended = llama_wait(request, n_bytes_seen);
		}
		PG_CATCH();
		{
			row_error_to_warning(context);
			answered = false;
		}
		PG_END_TRY();
	}
	if (!answered)
		llama_release(request);
	if (done != NULL)
		*done = ended;
	return answered;
}

LlamaRequest *
llama_row_run(const LlamaModel *model, LlamaFunction function, const L3Request *l3_request)
{
	LlamaRequest *request = llama_row_submit(model, function, l3_request);

	if (request == NULL || !llama_row_wait(request, PG_INT64_MAX, NULL))
		return NULL;
	return request;
}
