/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  The batch node: begins the calls of many rows before it waits for one.
 *
 * Rows of the node below are read into a window, a ring.  When a row enters, the
 * arguments of its calls are evaluated and the calls are begun; when it leaves,
 * in the same order, they are finished.  In between the engine computes, and
 * batches what all backends have asked.
 *
 * How far it reads ahead, up to the window's size, is in batch_ahead.c.
 *
 * Equal calls (same function, same arguments) in the window are made once, and
 * one that was made before may be answered by the result cache (call.c).
 *
 * Errors are a row's own.  A row is begun before anybody asked for it, perhaps
 * in vain: an error of our functions about its arguments is kept, and thrown
 * when the row is taken.  This is sound without a subtransaction because the
 * code in between is ours: what it can hold are requests, which the resource
 * owner gives up, and lightweight locks, which are released here.  Errors in
 * the evaluation of the arguments are other people's, and are thrown at once.
 *
 * Answers come in batches: while one is waited for, the engine completes others
 * with it.  So the number of times that the node had to wait is told as that of
 * the batches.
 *
 * What a node counts is shown by EXPLAIN (ANALYZE), summed over the processes of
 * a parallel query, and, while the statement runs, by llama_progress_statements.
 *
 * Waiting is in llama_wait: interruptible, no lock held, woken by the engine,
 * and raising when the engine is gone.  Requests live in the portal's resource
 * owner; a cursor may keep them between FETCHes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "portability/instr_time.h"
#include "storage/lwlock.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

#include "batch.h"
#include "batch_ahead.h"
#include "compat.h"
#include "progress.h"
#include "row.h"
#include "shmem.h"

/* A call that the node makes for each row. */
typedef struct CallSite
{
	const LlamaCallKind *kind;
	const FuncExpr *expr;
	FmgrInfo	flinfo;
	int			n_args;
	ExprState **args;			/* (n_args) the model last; NULL: is NULL */
	const LlamaSignature *signature;
	FunctionCallInfo fcinfo;	/* with the arguments of the row being begun */
} CallSite;

/* The answer of a call, shared by the rows that ask the same. */
typedef struct Answer
{
	LlamaDigest digest;
	int			n_rows;			/* that hold it */
	MemoryContext context;		/* all that belongs to it */
	LlamaCall	call;
	ErrorData  *error;			/* that beginning it raised, or NULL */
	bool		is_finished;
	bool		is_given_up;	/* NULL, as llama3.on_error says */
	bool		isnull;
	Datum		value;
} Answer;

/* Entry of the table of answers. */
typedef struct AnswerEntry
{
	LlamaDigest digest;			/* key */
	Answer	   *answer;
} AnswerEntry;

typedef struct BatchRow
{
	MinimalTuple tuple;			/* of the node below */
	Answer	  **answers;		/* (n_sites) NULL: the row is not asked about, as it lacks a column */
} BatchRow;

/* What a node has counted. */
typedef struct Counts
{
	int64		n[LLAMA_N_COUNTS];
} Counts;

/* In a parallel query's shared memory: what each worker has counted. */
typedef struct SharedCounts
{
	bool		counts_rows;	/* of the leader's statement's progress */
	int			n_workers;
	Counts		workers[FLEXIBLE_ARRAY_MEMBER];	/* each written by its worker alone */
} SharedCounts;

typedef struct BatchState
{
	CustomScanState css;		/* must be first */
	MemoryContext context;		/* of rows and answers */
	int			n_columns;		/* of the node below */
	List	   *needed;			/* columns without which no calls are made */
	LlamaAhead	ahead;			/* how far it reads ahead */
	int			n_sites;
	CallSite   *sites;
	ExprContext *arg_econtext;	/* for the calls' arguments */
	TupleTableSlot *row_slot;	/* the columns of the row being taken */
	HTAB	   *answers;		/* of the rows in the window */

	/* The window: a ring of rows, the first of which is the next to be taken. */
	BatchRow   *rows;			/* (window) */
	int			window;
	int			first;
	int			n_rows;
	bool		at_end;			/* of the node below */
	BatchRow	taken;			/* what the node returned last */

	/* What was done, for EXPLAIN and for the statement's progress. */
	bool		counts_rows;	/* this node's rows are the progress */
	Counts	   *counts;			/* of this process: own, or in shared */
	Counts		own;
	Counts		others;			/* of workers that have ended */
	SharedCounts *shared;		/* in the leader, while there are workers */
} BatchState;

static const CustomExecMethods exec_methods;

/* ----------------------------------------------------------------
 *		Counting
 * ----------------------------------------------------------------
 */

static void
count(BatchState *state, LlamaCount what, int64 n)
{
	state->counts->n[what] += n;
	if (state->counts_rows || what > LLAMA_ROWS_FAILED)
		llama_progress_add(what, n);
}

static void
count_usage(BatchState *state, const LlamaUsage *usage)
{
	count(state, LLAMA_PROMPT_TOKENS, usage->prompt_tokens);
	count(state, LLAMA_CACHED_TOKENS, usage->cached_tokens);
	count(state, LLAMA_GENERATED_TOKENS, usage->generated_tokens);
}

/* Of all processes; those of running workers may be a little behind. */
static int64
counted(const BatchState *state, LlamaCount what)
{
	return state->own.n[what] + state->others.n[what];
}

/* ----------------------------------------------------------------
 *		Answers
 * ----------------------------------------------------------------
 */

/* Is this an error of the row, which is its own to raise? */
static bool
is_error_of_row(int sqlerrcode)
{
	static const int categories[] = {
		MAKE_SQLSTATE('0', 'A', '0', '0', '0'),	/* a format that is not supported */
		MAKE_SQLSTATE('2', '2', '0', '0', '0'),	/* data exception */
		MAKE_SQLSTATE('4', '2', '0', '0', '0'),	/* an unknown model */
		MAKE_SQLSTATE('5', '4', '0', '0', '0'),	/* program limit exceeded */
		MAKE_SQLSTATE('5', '5', '0', '0', '0')	/* object not in prerequisite state */
	};

	for (size_t i = 0; i < lengthof(categories); i++)
	{
		if (ERRCODE_TO_CATEGORY(sqlerrcode) == categories[i])
			return true;
	}
	return false;
}

static void
begin_answer(const CallSite *site, Answer *answer, const LlamaDigest *question)
{
	int64		given_up = llama_calls_given_up;

	PG_TRY();
	{
		llama_call_begin(&answer->call, site->kind, answer->context, site->fcinfo,
						 question);
	}
	PG_CATCH();
	{
		if (!is_error_of_row(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(answer->context);
		answer->error = CopyErrorData();
		FlushErrorState();
		LWLockReleaseAll();
		llama_call_give_up(&answer->call);
	}
	PG_END_TRY();
	answer->is_given_up = llama_calls_given_up > given_up;
}

/* The answer of the call whose arguments site has, begun now if need be. */
static Answer *
get_answer(BatchState *state, const CallSite *site)
{
	LlamaDigest question;
	LlamaDigest digest;
	AnswerEntry *entry;
	Answer	   *answer;
	MemoryContext context;
	MemoryContext old;
	int64		waited = llama_slot_wait_usec;

	llama_digest_question(site->fcinfo, site->signature, site->kind, &question);
	llama_digest_call(site->fcinfo, site->signature, site->kind, &question, &digest);
	entry = hash_search(state->answers, &digest, HASH_FIND, NULL);
	if (entry != NULL)
	{
		count(state, LLAMA_CALLS_REUSED, 1);
		entry->answer->n_rows++;
		return entry->answer;
	}

	context = AllocSetContextCreate(state->context, "llama3 answer", ALLOCSET_SMALL_SIZES);
	answer = MemoryContextAllocZero(context, sizeof(Answer));
	answer->context = context;
	answer->n_rows = 1;
	answer->digest = digest;
	/* What beginning leaves behind goes with the row's arguments. */
	old = MemoryContextSwitchTo(state->arg_econtext->ecxt_per_tuple_memory);
	begin_answer(site, answer, &question);
	MemoryContextSwitchTo(old);
	count(state, LLAMA_WAIT_USEC, llama_slot_wait_usec - waited);
	count(state, answer->call.is_cached ? LLAMA_CALLS_CACHED : LLAMA_CALLS_MADE, 1);
	entry = hash_search(state->answers, &digest, HASH_ENTER, NULL);
	entry->answer = answer;
	return answer;
}

static void
release_answer(BatchState *state, Answer *answer)
{
	if (answer == NULL || --answer->n_rows > 0)
		return;
	(void) hash_search(state->answers, &answer->digest, HASH_REMOVE, NULL);
	llama_call_give_up(&answer->call);
	MemoryContextDelete(answer->context);
}

/* Wait for an answer. */
static void
finish_answer(BatchState *state, Answer *answer)
{
	instr_time	start;
	instr_time	waited;
	int64		given_up = llama_calls_given_up;
	MemoryContext old;

	if (answer->error != NULL)
		ReThrowError(answer->error);
	if (answer->is_finished)
		return;
	if (!llama_call_is_done(&answer->call))
		count(state, LLAMA_BATCHES, 1);
	INSTR_TIME_SET_CURRENT(start);
	old = MemoryContextSwitchTo(answer->context);
	answer->value = llama_call_finish(&answer->call, &answer->isnull);
	MemoryContextSwitchTo(old);
	answer->is_finished = true;
	answer->is_given_up |= llama_calls_given_up > given_up;
	INSTR_TIME_SET_CURRENT(waited);
	INSTR_TIME_SUBTRACT(waited, start);
	count(state, LLAMA_WAIT_USEC, INSTR_TIME_GET_MICROSEC(waited));
	count_usage(state, &answer->call.usage);
}

/* ----------------------------------------------------------------
 *		Rows
 * ----------------------------------------------------------------
 */

/* Long values are fetched here, once, and live until the next row. */
static void
evaluate_arguments(const CallSite *site, ExprContext *econtext)
{
	MemoryContext old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);

	for (int i = 0; i < site->n_args; i++)
	{
		NullableDatum *arg = &site->fcinfo->args[i];

		if (site->args[i] == NULL)
		{
			arg->isnull = true;
			continue;
		}
		arg->value = ExecEvalExpr(site->args[i], econtext, &arg->isnull);
		if (!arg->isnull && site->signature->args[i].length == -1)
			arg->value = PointerGetDatum(PG_DETOAST_DATUM_PACKED(arg->value));
	}
	MemoryContextSwitchTo(old);
}

/* Are the calls to be made for this row? */
static bool
is_asked_about(const BatchState *state, TupleTableSlot *slot)
{
	ListCell   *cell;

	foreach(cell, state->needed)
	{
		if (slot_attisnull(slot, lfirst_int(cell)))
			return false;
	}
	return true;
}

/* Read a row into the window and begin its calls; false at the end. */
static bool
begin_row(BatchState *state)
{
	TupleTableSlot *slot = ExecProcNode(outerPlanState(&state->css.ss.ps));
	BatchRow   *row = &state->rows[(state->first + state->n_rows) % state->window];
	MemoryContext old;

	if (TupIsNull(slot))
		return false;
	old = MemoryContextSwitchTo(state->context);
	row->tuple = ExecCopySlotMinimalTuple(slot);
	row->answers = palloc0(state->n_sites * sizeof(Answer *));
	MemoryContextSwitchTo(old);

	ResetExprContext(state->arg_econtext);
	state->arg_econtext->ecxt_outertuple = slot;
	for (int i = 0; i < state->n_sites && is_asked_about(state, slot); i++)
	{
		evaluate_arguments(&state->sites[i], state->arg_econtext);
		row->answers[i] = get_answer(state, &state->sites[i]);
	}
	state->n_rows++;
	count(state, LLAMA_ROWS_BEGUN, 1);
	return true;
}

static void
release_row(BatchState *state, BatchRow *row)
{
	for (int i = 0; i < state->n_sites; i++)
		release_answer(state, row->answers[i]);
	pfree(row->answers);
	pfree(row->tuple);
	row->tuple = NULL;
}

static void
release_taken(BatchState *state)
{
	if (state->taken.tuple == NULL)
		return;
	ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
	ExecClearTuple(state->row_slot);
	release_row(state, &state->taken);
}

/* Tell the batch nodes whose rows are read how many of them there will be. */
static void
tell_ahead(PlanState *below, int64 rows, int64 grown)
{
	if (below == NULL)
		return;
	if (IsA(below, CustomScanState) && ((CustomScanState *) below)->methods == &exec_methods)
		llama_ahead_tell(&((BatchState *) below)->ahead, rows, grown);
	else if (IsA(below, SubqueryScanState) && below->qual == NULL)
		tell_ahead(((SubqueryScanState *) below)->subplan, rows, grown);
	else if (IsA(below, ResultState) && below->qual == NULL)
		tell_ahead(outerPlanState(below), rows, grown);
}

/* Read rows into the window, as many as may be in it when the next one is asked for. */
static void
begin_rows(BatchState *state)
{
	int64		grown;
	int64		rows;

	if (state->at_end)
		return;
	rows = llama_ahead_rows(&state->ahead, &grown);
	if (state->n_rows < Min(rows, state->window))
		tell_ahead(outerPlanState(&state->css.ss.ps), rows - state->n_rows, grown);
	while (!state->at_end && state->n_rows < Min(rows, state->window))
		state->at_end = !begin_row(state);
}

/* Take the first row and put it, with its answers, into the scan slot. */
static void
take_row(BatchState *state)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	BatchRow   *row = &state->rows[state->first];
	bool		failed = false;

	/* First wait: an error leaves the row in the window. */
	for (int i = 0; i < state->n_sites; i++)
	{
		if (row->answers[i] != NULL)
		{
			finish_answer(state, row->answers[i]);
			failed |= row->answers[i]->is_given_up;
		}
	}

	state->taken = *row;
	state->first = (state->first + 1) % state->window;
	state->n_rows--;
	count(state, LLAMA_ROWS_DONE, 1);
	if (failed)
		count(state, LLAMA_ROWS_FAILED, 1);

	ExecStoreMinimalTuple(state->taken.tuple, state->row_slot, false);
	slot_getallattrs(state->row_slot);
	memcpy(slot->tts_values, state->row_slot->tts_values, state->n_columns * sizeof(Datum));
	memcpy(slot->tts_isnull, state->row_slot->tts_isnull, state->n_columns * sizeof(bool));
	for (int i = 0; i < state->n_sites; i++)
	{
		const Answer *answer = state->taken.answers[i];

		slot->tts_values[state->n_columns + i] = answer == NULL ? 0 : answer->value;
		slot->tts_isnull[state->n_columns + i] = answer == NULL || answer->isnull;
	}
	ExecStoreVirtualTuple(slot);
}

static void
release_rows(BatchState *state)
{
	release_taken(state);
	while (state->n_rows > 0)
	{
		release_row(state, &state->rows[state->first]);
		state->first = (state->first + 1) % state->window;
		state->n_rows--;
	}
}

/* ----------------------------------------------------------------
 *		The node
 * ----------------------------------------------------------------
 */

static void
init_site(BatchState *state, CallSite *site, const FuncExpr *expr)
{
	PlanState  *ps = &state->css.ss.ps;
	int			n_args = list_length(expr->args);
	int			i = 0;
	ListCell   *cell;

	site->expr = expr;
	site->kind = llama_function_kind(expr->funcid);
	if (site->kind == NULL)
		elog(ERROR, "function %u is not a function of llama3", expr->funcid);
	if (llama_proc_aclcheck(expr->funcid, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(expr->funcid));
	InvokeFunctionExecuteHook(expr->funcid);

	fmgr_info(expr->funcid, &site->flinfo);
	fmgr_info_set_expr((Node *) expr, &site->flinfo);
	site->n_args = llama_call_n_arguments(site->kind, n_args);
	site->args = palloc0(site->n_args * sizeof(ExprState *));
	foreach(cell, expr->args)
		site->args[llama_call_argument(site->kind, i++, n_args)] = ExecInitExpr(lfirst(cell), ps);
	site->fcinfo = palloc0(SizeForFunctionCallInfo(site->n_args));
	InitFunctionCallInfoData(*site->fcinfo, &site->flinfo, site->n_args, expr->inputcollid, NULL, NULL);
	site->signature = llama_signature(site->fcinfo, site->kind);
	if (site->signature == NULL)
		elog(ERROR, "function %u has not %d arguments", expr->funcid, n_args);
}

/*
 * Rows in the window: as many as have the requests that fill the engine's
 * sequences twice, so that there is always a next one, but not more than half of
 * the queue, which is everybody's.
 */
static int
window_size(const BatchState *state)
{
	int			per_row = 0;

	for (int i = 0; i < state->n_sites; i++)
		per_row += llama_call_halves(state->sites[i].kind)->n_requests;
	return Max(1, Min(2 * llama3_max_sequences, llama3_queue_size / 2) / per_row);
}

static void
batch_begin(CustomScanState *css, EState *estate, int eflags)
{
	BatchState *state = (BatchState *) css;
	CustomScan *batch = (CustomScan *) css->ss.ps.plan;
	HASHCTL		control = {
		.keysize = sizeof(LlamaDigest),
		.entrysize = sizeof(AnswerEntry)
	};
	PlanState  *below = ExecInitNode(outerPlan(batch), estate, eflags);

	outerPlanState(css) = below;
	state->n_columns = intVal(linitial(batch->custom_private));
	state->needed = lsecond(batch->custom_private);
	llama_ahead_init(&state->ahead, &css->ss.ps, lthird(batch->custom_private));
	state->n_sites = list_length(batch->custom_scan_tlist) - state->n_columns;
	state->sites = palloc0(state->n_sites * sizeof(CallSite));
	for (int i = 0; i < state->n_sites; i++)
	{
		TargetEntry *entry = list_nth(batch->custom_scan_tlist, state->n_columns + i);

		init_site(state, &state->sites[i], castNode(FuncExpr, entry->expr));
	}
	state->counts = &state->own;
	state->arg_econtext = CreateExprContext(estate);
	state->row_slot = ExecInitExtraTupleSlot(estate, ExecGetResultType(below),
											 &TTSOpsMinimalTuple);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	if (list_length(batch->custom_private) > 3)
		state->counts_rows = llama_progress_begin(estate->es_query_cxt,
												  floatVal(lfourth(batch->custom_private)));

	state->context = AllocSetContextCreate(estate->es_query_cxt, "llama3 batch",
										   ALLOCSET_DEFAULT_SIZES);
	control.hcxt = state->context;
	state->answers = hash_create("llama3 answers", 256, &control,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	state->window = window_size(state);
	state->rows = MemoryContextAllocZero(state->context, state->window * sizeof(BatchRow));
}

static TupleTableSlot *
batch_exec(CustomScanState *css)
{
	BatchState *state = (BatchState *) css;
	ExprContext *econtext = css->ss.ps.ps_ExprContext;
	bool		passed;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		ResetExprContext(econtext);
		release_taken(state);
		begin_rows(state);
		if (state->n_rows == 0)
			return NULL;

		take_row(state);
		econtext->ecxt_scantuple = css->ss.ss_ScanTupleSlot;
		passed = ExecQual(css->ss.ps.qual, econtext);
		llama_ahead_taken(&state->ahead, passed);
		if (passed)
			break;
		InstrCountFiltered1(css, 1);
	}
	if (css->ss.ps.ps_ProjInfo == NULL)
		return css->ss.ss_ScanTupleSlot;
	return ExecProject(css->ss.ps.ps_ProjInfo);
}

static void
batch_end(CustomScanState *css)
{
	BatchState *state = (BatchState *) css;

	if (state->rows != NULL)
		release_rows(state);
	ExecEndNode(outerPlanState(css));
}

static void
batch_rescan(CustomScanState *css)
{
	BatchState *state = (BatchState *) css;
	PlanState  *below = outerPlanState(css);

	release_rows(state);
	state->at_end = false;
	llama_ahead_restart(&state->ahead);
	if (below->chgParam == NULL)
		ExecReScan(below);
}

static void
batch_explain(CustomScanState *css, List *ancestors, ExplainState *es)
{
	BatchState *state = (BatchState *) css;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, css->ss.ps.plan, ancestors);
	bool		use_prefix = es->verbose || list_length(es->rtable) > 1;
	List	   *calls = NIL;

	for (int i = 0; i < state->n_sites; i++)
		calls = lappend(calls, deparse_expression((Node *) state->sites[i].expr, context,
												  use_prefix, false));
	ExplainPropertyList("Calls", calls, es);
	if (!es->analyze)
		return;
	ExplainPropertyInteger("Calls Made", NULL, counted(state, LLAMA_CALLS_MADE), es);
	ExplainPropertyInteger("Calls Reused", NULL, counted(state, LLAMA_CALLS_REUSED), es);
	ExplainPropertyInteger("Calls Cached", NULL, counted(state, LLAMA_CALLS_CACHED), es);
	ExplainPropertyInteger("Prompt Tokens", NULL, counted(state, LLAMA_PROMPT_TOKENS), es);
	ExplainPropertyInteger("Cached Tokens", NULL, counted(state, LLAMA_CACHED_TOKENS), es);
	ExplainPropertyInteger("Generated Tokens", NULL, counted(state, LLAMA_GENERATED_TOKENS), es);
	if (!es->timing)
		return;
	ExplainPropertyInteger("Batches", NULL, counted(state, LLAMA_BATCHES), es);
	ExplainPropertyFloat("Wait Time", "ms",
						 (double) counted(state, LLAMA_WAIT_USEC) / 1000.0, 3, es);
}

/* ----------------------------------------------------------------
 *		Parallel queries
 * ----------------------------------------------------------------
 */

static Size
shared_size(int n_workers)
{
	return add_size(offsetof(SharedCounts, workers), mul_size(n_workers, sizeof(Counts)));
}

static Size
batch_estimate_dsm(CustomScanState *css, ParallelContext *pcxt)
{
	return shared_size(pcxt->nworkers);
}

static void
batch_init_dsm(CustomScanState *css, ParallelContext *pcxt, void *coordinate)
{
	BatchState *state = (BatchState *) css;

	memset(coordinate, 0, shared_size(pcxt->nworkers));
	state->shared = coordinate;
	state->shared->counts_rows = state->counts_rows;
	state->shared->n_workers = pcxt->nworkers;
}

/* Workers of the next run go on from what those of the last have counted. */
static void
batch_reinit_dsm(CustomScanState *css, ParallelContext *pcxt, void *coordinate)
{
}

static void
batch_init_worker(CustomScanState *css, shm_toc *toc, void *coordinate)
{
	BatchState *state = (BatchState *) css;
	SharedCounts *shared = coordinate;

	Assert(ParallelWorkerNumber < shared->n_workers);
	state->counts = &shared->workers[ParallelWorkerNumber];
	state->counts_rows = shared->counts_rows;
}

/* The shared memory goes.  Keep what the workers have counted in it. */
static void
batch_shutdown(CustomScanState *css)
{
	BatchState *state = (BatchState *) css;

	state->counts = &state->own;
	for (int i = 0; state->shared != NULL && i < state->shared->n_workers; i++)
	{
		for (int what = 0; what < LLAMA_N_COUNTS; what++)
			state->others.n[what] += state->shared->workers[i].n[what];
	}
	state->shared = NULL;
}

static const CustomExecMethods exec_methods = {
	.CustomName = LLAMA_BATCH_NAME,
	.BeginCustomScan = batch_begin,
	.ExecCustomScan = batch_exec,
	.EndCustomScan = batch_end,
	.ReScanCustomScan = batch_rescan,
	.EstimateDSMCustomScan = batch_estimate_dsm,
	.InitializeDSMCustomScan = batch_init_dsm,
	.ReInitializeDSMCustomScan = batch_reinit_dsm,
	.InitializeWorkerCustomScan = batch_init_worker,
	.ShutdownCustomScan = batch_shutdown,
	.ExplainCustomScan = batch_explain,
};

static Node *
create_state(CustomScan *batch)
{
	BatchState *state = (BatchState *) newNode(sizeof(BatchState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

const CustomScanMethods llama_batch_methods = {
	.CustomName = LLAMA_BATCH_NAME,
	.CreateCustomScanState = create_state,
};
