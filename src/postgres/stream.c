/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  llama_generate_stream: an answer in pieces, as they are made.
 *
 * A set-returning function in value-per-call mode gives the executor one piece
 * at a time, and the executor sends each row before it asks for the next.  The
 * row then waits in the server's send buffer, which is flushed when it is full
 * or the query ends; so before waiting for the engine we flush it ourselves.
 * That is what brings the rows to the client while generation goes on.
 *
 * In the select list (SELECT llama_generate_stream(...)) rows pass one by one.
 * In FROM the executor collects a function's whole result first.
 *
 * The request belongs to the resource owner of the portal that runs the
 * query, so it lives across FETCHes of a cursor and is given up on an error.
 * On an early end without an error (LIMIT, CLOSE) nobody calls us any more: a
 * callback on the expression context gives it up.  That callback is not run on
 * errors, so the two never meet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

/*
 * libpq.h brings the connection's struct with it, which wants the headers of
 * GSSAPI and OpenSSL where the server was built with them.  We use nothing of
 * that struct, and need not have those headers installed.
 */
#undef ENABLE_GSS
#undef USE_OPENSSL

#include "funcapi.h"
#include "libpq/libpq.h"
#include "nodes/execnodes.h"
#include "tcop/tcopprot.h"

#include "generate.h"

PG_FUNCTION_INFO_V1(llama_generate_stream);

typedef struct StreamState
{
	const LlamaModel *model;
	LlamaRequest *request;		/* NULL once it was given up */
	ExprContext *econtext;
	StringInfoData bytes;		/* of the first n_tokens tokens */
	int32		n_tokens;
	int64		n_sent;			/* bytes handed on as rows */
	bool		done;			/* the request has ended */
} StreamState;

static void
stream_end(Datum arg)
{
	StreamState *state = (StreamState *) DatumGetPointer(arg);

	if (state->request != NULL)
		llama_release(state->request);
	state->request = NULL;
}

/* Start a stream; NULL when the row has no answer. */
static StreamState *
stream_begin(FunctionCallInfo fcinfo)
{
	StreamState *state = palloc0(sizeof(StreamState));
	LlamaOptions options;
	LlamaIds	prompt = {0};
	L3Request	l3_request;

	if (PG_ARGISNULL(0) ||
		!llama_generate_args(fcinfo, NULL, &state->model, &options, &prompt))
		return NULL;
	llama_generate_request(&prompt, &options, &l3_request);
	initStringInfo(&state->bytes);
	state->request = llama_row_submit(state->model, LLAMA_FN_GENERATE_STREAM, &l3_request);
	if (state->request == NULL)
		return NULL;

	state->econtext = ((ReturnSetInfo *) fcinfo->resultinfo)->econtext;
	RegisterExprContextCallback(state->econtext, stream_end, PointerGetDatum(state));
	return state;
}

/* Send the client the rows that it was given so far. */
static void
flush_rows(void)
{
	if (whereToSendOutput == DestRemote)
		(void) pq_flush_if_writable();
}

/* Take over what the request has made; returns the bytes that can be sent. */
static int64
stream_collect(StreamState *state)
{
	const L3Result *result = llama_result(state->request);

	/* A request that failed has no tokens; llama_wait will raise. */
	if (result->status != L3_OK)
		return state->n_sent;
	llama_append_answer(state->model->tok, llama_out_tokens(state->request) + state->n_tokens,
						result->n_out - state->n_tokens, &state->bytes);
	state->n_tokens = result->n_out;
	return l3_utf8_complete(state->bytes.data, Min((int64) state->bytes.len, result->n_bytes));
}

/* The next piece, at least a character; NULL at the end. */
static text *
stream_next(StreamState *state, MemoryContext piece_context)
{
	while (state->request != NULL)
	{
		int64		n_ready = stream_collect(state);
		text	   *piece;

		if (n_ready > state->n_sent)
		{
			MemoryContext old = MemoryContextSwitchTo(piece_context);

			piece = llama_text_make(state->bytes.data + state->n_sent, n_ready - state->n_sent);
			MemoryContextSwitchTo(old);
			state->n_sent = n_ready;
			if (VARSIZE_ANY_EXHDR(piece) > 0)
				return piece;
			continue;			/* it was NUL bytes */
		}
		if (state->done)
			break;
		flush_rows();
		if (!llama_row_wait(state->request, llama_result(state->request)->n_bytes, &state->done))
			state->request = NULL;
	}
	return NULL;
}

/*
 * llama_generate_stream(prompt text, system text, <options>, model text)
 * returns setof text
 */
Datum
llama_generate_stream(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	StreamState *state;
	MemoryContext caller = CurrentMemoryContext;
	text	   *piece = NULL;

	if (SRF_IS_FIRSTCALL())
	{
		funcctx = SRF_FIRSTCALL_INIT();
		MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		funcctx->user_fctx = stream_begin(fcinfo);
		MemoryContextSwitchTo(caller);
	}

	funcctx = SRF_PERCALL_SETUP();
	state = funcctx->user_fctx;
	if (state != NULL)
	{
		/* The buffer of bytes grows, and must outlive this call. */
		MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		piece = stream_next(state, caller);
		MemoryContextSwitchTo(caller);
	}
	if (piece != NULL)
		SRF_RETURN_NEXT(funcctx, PointerGetDatum(piece));

	if (state != NULL && state->econtext != NULL)
	{
		UnregisterExprContextCallback(state->econtext, stream_end, PointerGetDatum(state));
		stream_end(PointerGetDatum(state));
	}
	SRF_RETURN_DONE(funcctx);
}
