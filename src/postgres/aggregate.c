/*-------------------------------------------------------------------------
 *
 * aggregate.c
 *	  The aggregates llama_agg and llama_summarize_agg, as the executor calls
 *	  them.  How many texts become one answer is in reduce.c.
 *
 * Rows with a NULL input (or task) are skipped, and a group without others has
 * no state, so its answer is NULL.  What is asked (task, limit, model) must be
 * the same for all rows of a group; it is read from the first.
 *
 * The final function leaves the state as good as it was, so the aggregates are
 * window functions too.
 *
 * In a parallel query the partial states are finished as far as their requests
 * go before they are sent, and hold tokens; the model of the process that reads
 * them must be the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"

#include "options.h"
#include "reduce.h"
#include "row.h"

PG_FUNCTION_INFO_V1(llama_agg_transfn);
PG_FUNCTION_INFO_V1(llama_summarize_agg_transfn);
PG_FUNCTION_INFO_V1(llama_agg_combinefn);
PG_FUNCTION_INFO_V1(llama_agg_serialfn);
PG_FUNCTION_INFO_V1(llama_agg_deserialfn);
PG_FUNCTION_INFO_V1(llama_agg_finalfn);

#define MIN_MAX_WORDS		1
#define MAX_MAX_WORDS		10000
#define DEFAULT_MAX_WORDS	100

typedef struct AggregateState
{
	LlamaReduction *reduction;
	text	   *task;			/* as given, or NULL */
	text	   *model;			/* as given, or NULL */
} AggregateState;

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "aggregate function called in non-aggregate context");
	return context;
}

/* A text argument, or NULL where there is none. */
static text *
optional_text(FunctionCallInfo fcinfo, int arg)
{
	return arg < PG_NARGS() && !PG_ARGISNULL(arg) ? PG_GETARG_TEXT_PP(arg) : NULL;
}

static bool
same_text(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static text *
copy_text(MemoryContext context, const text *t)
{
	text	   *copy = NULL;

	if (t != NULL)
	{
		copy = MemoryContextAlloc(context, VARSIZE_ANY(t));
		memcpy(copy, t, VARSIZE_ANY(t));
	}
	return copy;
}

static AggregateState *
make_state(MemoryContext context, const LlamaReduceTask *task, const text *task_text,
		   const text *model)
{
	AggregateState *state = MemoryContextAllocZero(context, sizeof(AggregateState));

	state->task = copy_text(context, task_text);
	state->model = copy_text(context, model);
	state->reduction = llama_reduction_make(context, task);
	return state;
}

static void
require_same(bool same, const char *name)
{
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be the same for all rows of a group", name)));
}

static const LlamaModel *
get_model(const text *model)
{
	return llama_model_get(model != NULL ? text_to_cstring(model) : NULL);
}

/*
 * Add the input (argument 1) to the state (argument 0), which is made if there
 * is none.  model_arg is that of the model.
 */
static Datum
add_row(FunctionCallInfo fcinfo, LlamaReduceTask *task, const text *task_text, int model_arg)
{
	MemoryContext context = aggregate_context(fcinfo);
	text	   *model = optional_text(fcinfo, model_arg);
	AggregateState *state;

	if (PG_ARGISNULL(0))
	{
		task->model = get_model(model);
		state = make_state(context, task, task_text, model);
	}
	else
	{
		state = (AggregateState *) PG_GETARG_POINTER(0);
		require_same(same_text(state->task, task_text), "task");
		require_same(llama_reduction_task(state->reduction)->limit == task->limit,
					 task->function == LLAMA_FN_AGG ? "max_tokens" : "max_words");
		require_same(same_text(state->model, model), "model");
	}
	llama_reduction_add(state->reduction, llama_text_utf8(PG_GETARG_DATUM(1)));
	PG_RETURN_POINTER(state);
}

/* The state as it was, for a row that is skipped. */
static Datum
skip_row(FunctionCallInfo fcinfo)
{
	(void) aggregate_context(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_POINTER(PG_GETARG_POINTER(0));
}

/*
 * llama_agg_transfn(state internal, input text, task text [, max_tokens int
 * [, model text]]) returns internal
 */
Datum
llama_agg_transfn(PG_FUNCTION_ARGS)
{
	LlamaReduceTask task = {.function = LLAMA_FN_AGG, .limit = llama3_max_tokens};

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return skip_row(fcinfo);
	task.task = llama_instruction_arg(fcinfo, 2, "task");
	if (PG_NARGS() > 3)
		task.limit = (int) llama_int_arg(fcinfo, 3, "max_tokens", false, LLAMA_MIN_MAX_TOKENS,
										 LLAMA_MAX_MAX_TOKENS, llama3_max_tokens);
	return add_row(fcinfo, &task, PG_GETARG_TEXT_PP(2), 4);
}

/*
 * llama_summarize_agg_transfn(state internal, input text [, max_words int
 * [, model text]]) returns internal
 */
Datum
llama_summarize_agg_transfn(PG_FUNCTION_ARGS)
{
	LlamaReduceTask task = {.function = LLAMA_FN_SUMMARIZE_AGG, .limit = DEFAULT_MAX_WORDS};

	if (PG_ARGISNULL(1))
		return skip_row(fcinfo);
	if (PG_NARGS() > 2)
		task.limit = (int) llama_int_arg(fcinfo, 2, "max_words", false, MIN_MAX_WORDS,
										 MAX_MAX_WORDS, DEFAULT_MAX_WORDS);
	return add_row(fcinfo, &task, NULL, 3);
}

/* Have all rows of all groups been read, when the first group is to be answered? */
static bool
is_hashed(FunctionCallInfo fcinfo)
{
	return IsA(fcinfo->context, AggState) &&
		((AggState *) fcinfo->context)->aggstrategy == AGG_HASHED;
}

/*
 * llama_agg_finalfn(state internal) returns text; strict
 */
Datum
llama_agg_finalfn(PG_FUNCTION_ARGS)
{
	AggregateState *state = (AggregateState *) PG_GETARG_POINTER(0);
	LlamaText	answer;

	(void) aggregate_context(fcinfo);
	if (!llama_reduction_answer(state->reduction, is_hashed(fcinfo), &answer))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(llama_text_make(answer.data, answer.len));
}

/*
 * llama_agg_combinefn(state internal, other internal) returns internal
 */
Datum
llama_agg_combinefn(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	AggregateState *state = PG_ARGISNULL(0) ? NULL : (AggregateState *) PG_GETARG_POINTER(0);
	AggregateState *other = PG_ARGISNULL(1) ? NULL : (AggregateState *) PG_GETARG_POINTER(1);

	if (other != NULL)
	{
		const LlamaReduceTask *task = llama_reduction_task(other->reduction);

		if (state == NULL)
			state = make_state(context, task, other->task, other->model);
		require_same(same_text(state->task, other->task), "task");
		require_same(llama_reduction_task(state->reduction)->limit == task->limit,
					 task->function == LLAMA_FN_AGG ? "max_tokens" : "max_words");
		require_same(same_text(state->model, other->model), "model");
		llama_reduction_merge(state->reduction, other->reduction);
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

/* ----------------------------------------------------------------
 *		Between processes
 * ----------------------------------------------------------------
 */

/* A text that may be NULL, in the database's encoding. */
static void
write_text(const text *t, StringInfo out)
{
	pq_sendint32(out, t != NULL ? (uint32) VARSIZE_ANY_EXHDR(t) : (uint32) -1);
	if (t != NULL)
		pq_sendbytes(out, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

static text *
read_text(StringInfo in)
{
	int32		len = (int32) pq_getmsgint(in, 4);

	return len < 0 ? NULL : cstring_to_text_with_len(pq_getmsgbytes(in, len), len);
}

/*
 * llama_agg_serialfn(state internal) returns bytea; strict
 */
Datum
llama_agg_serialfn(PG_FUNCTION_ARGS)
{
	AggregateState *state = (AggregateState *) PG_GETARG_POINTER(0);
	const LlamaReduceTask *task = llama_reduction_task(state->reduction);
	StringInfoData out;

	(void) aggregate_context(fcinfo);
	pq_begintypsend(&out);
	pq_sendint32(&out, task->function);
	pq_sendint32(&out, task->limit);
	pq_sendint64(&out, task->model->generation);
	write_text(state->task, &out);
	write_text(state->model, &out);
	llama_reduction_write(state->reduction, &out);
	PG_RETURN_BYTEA_P(pq_endtypsend(&out));
}

/*
 * llama_agg_deserialfn(partial bytea, internal) returns internal; strict
 */
Datum
llama_agg_deserialfn(PG_FUNCTION_ARGS)
{
	bytea	   *partial = PG_GETARG_BYTEA_PP(0);
	LlamaReduceTask task = {0};
	AggregateState *state;
	StringInfoData in;
	uint64		generation;
	text	   *task_text;
	text	   *model;

	(void) aggregate_context(fcinfo);
	initStringInfo(&in);
	appendBinaryStringInfo(&in, VARDATA_ANY(partial), VARSIZE_ANY_EXHDR(partial));
	task.function = (LlamaFunction) pq_getmsgint(&in, 4);
	task.limit = (int) pq_getmsgint(&in, 4);
	generation = (uint64) pq_getmsgint64(&in);
	task_text = read_text(&in);
	model = read_text(&in);
	task.model = get_model(model);
	if (task_text != NULL)
		task.task = llama_text_utf8(PointerGetDatum(task_text));
	if (task.model->generation != generation)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("model \"%s\" was loaded during the query", task.model->name),
				 errdetail("Its parallel workers asked another model."),
				 errhint("Run the query again.")));
	state = make_state(CurrentMemoryContext, &task, task_text, model);
	llama_reduction_read(state->reduction, &in);
	pq_getmsgend(&in);
	PG_RETURN_POINTER(state);
}
