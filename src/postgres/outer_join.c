/*-------------------------------------------------------------------------
 *
 * outer_join.c
 *	  The node that completes an outer join, after calls in its conditions.
 *
 * The join below has checked the conditions before the first one with a call.
 * Of the pairs that it gives, those that pass the others are rows of the result,
 * and then each row of an outer-joined input that is in none of them is one,
 * with NULLs for the other side.  What came without a partner from the join
 * itself is one already.
 *
 * All pairs of an outer row come together, whichever way the join is made: a
 * nested loop, a merge join and each batch of a hash join go from one outer row
 * to the next.  So the first pair of an outer row is held until another passes
 * or the next outer row comes, and the order of rows is as it was.
 *
 * Pairs of an inner row are anywhere.  Two bits for each of its rows say whether
 * a pair has passed, and whether one that has not is kept, in a tuplestore that
 * is read at the end.  Joins that fill their inner side promise no order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "outer_join.h"

/* What is known of an inner row. */
#define INNER_KEPT		1		/* a pair of it is in the tuplestore */
#define INNER_PASSED	2		/* a pair of it has passed */
#define INNER_BITS		2
#define INNER_PER_BYTE	4
#define INNER_FIRST_BYTES	1024

/* No row has this number. */
#define NO_ROW	(-1)

typedef struct OuterJoinState
{
	CustomScanState css;		/* must be first */
	bool		fills_outer;	/* rows without the inner side are wanted */
	bool		fills_inner;	/* and those without the outer side */
	int			n_outer;		/* columns, the last one the row's number */
	int			n_columns;		/* of both sides */
	ExprState  *conditions;
	TupleTableSlot *row;		/* of the node below, which is yet to be taken, or NULL */
	bool		at_end;			/* of the node below */

	/* The outer row at hand. */
	int64		outer_row;		/* its number */
	bool		passed;			/* a pair of it has */
	bool		is_held;		/* it is in held, with no inner side */
	TupleTableSlot *held;

	/* The inner rows. */
	uint8	   *inner_rows;		/* (n_bytes) INNER_BITS for each number */
	Size		n_bytes;
	Tuplestorestate *kept;		/* without an outer side; NULL: none */
	TupleTableSlot *kept_slot;
} OuterJoinState;

/* ----------------------------------------------------------------
 *		Inner rows
 * ----------------------------------------------------------------
 */

/* Where the bits of an inner row are.  Row numbers of one process begin anywhere. */
static uint8 *
inner_byte(OuterJoinState *state, int64 number, int *shift)
{
	int64		row = number & LLAMA_ROW_NUMBER_MASK;
	Size		byte = row / INNER_PER_BYTE;

	if (byte >= state->n_bytes)
	{
		Size		n_bytes = Max(Max(2 * state->n_bytes, byte + 1), INNER_FIRST_BYTES);

		if (state->inner_rows == NULL)
			state->inner_rows = MemoryContextAllocHuge(state->css.ss.ps.state->es_query_cxt, n_bytes);
		else
			state->inner_rows = repalloc_huge(state->inner_rows, n_bytes);
		memset(state->inner_rows + state->n_bytes, 0, n_bytes - state->n_bytes);
		state->n_bytes = n_bytes;
	}
	*shift = row % INNER_PER_BYTE * INNER_BITS;
	return &state->inner_rows[byte];
}

static int
inner_flags(OuterJoinState *state, int64 number)
{
	int			shift;
	uint8	   *byte = inner_byte(state, number, &shift);

	return *byte >> shift & (INNER_KEPT | INNER_PASSED);
}

static void
set_inner_flag(OuterJoinState *state, int64 number, int flag)
{
	int			shift;
	uint8	   *byte = inner_byte(state, number, &shift);

	*byte |= flag << shift;
}

static void
forget_inner_rows(OuterJoinState *state)
{
	if (state->kept != NULL)
		tuplestore_end(state->kept);
	state->kept = NULL;
	if (state->inner_rows != NULL)
		memset(state->inner_rows, 0, state->n_bytes);
}

/* ----------------------------------------------------------------
 *		Rows
 * ----------------------------------------------------------------
 */

/* The number of one side of a row, or NO_ROW: there is none. */
static int64
row_number(TupleTableSlot *row, int column)
{
	bool		isnull;
	Datum		number = slot_getattr(row, column, &isnull);

	return isnull ? NO_ROW : DatumGetInt64(number);
}

/* Put a row into the scan slot, with n_nulls NULLs from column first (from 0) on. */
static TupleTableSlot *
store_row(OuterJoinState *state, TupleTableSlot *row, int first, int n_nulls)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	slot_getsomeattrs(row, state->n_columns);
	memcpy(slot->tts_values, row->tts_values, state->n_columns * sizeof(Datum));
	memcpy(slot->tts_isnull, row->tts_isnull, state->n_columns * sizeof(bool));
	memset(slot->tts_isnull + first, true, n_nulls * sizeof(bool));
	return ExecStoreVirtualTuple(slot);
}

static void
hold_outer_row(OuterJoinState *state, TupleTableSlot *pair)
{
	ExecCopySlot(state->held, store_row(state, pair, state->n_outer, state->n_columns - state->n_outer));
	state->is_held = true;
}

static void
keep_inner_row(OuterJoinState *state, TupleTableSlot *pair, int64 number)
{
	if (state->kept == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);

		state->kept = tuplestore_begin_heap(false, false, work_mem);
		MemoryContextSwitchTo(old);
	}
	tuplestore_puttupleslot(state->kept, store_row(state, pair, 0, state->n_outer));
	set_inner_flag(state, number, INNER_KEPT);
}

/* Take a row from below: the row of the result that it is, or NULL. */
static TupleTableSlot *
take_row(OuterJoinState *state, TupleTableSlot *row)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	int64		outer = row_number(row, state->n_outer);
	int64		inner = row_number(row, state->n_columns);

	if (outer == NO_ROW || inner == NO_ROW)
		return store_row(state, row, 0, 0);
	if (outer != state->outer_row)
	{
		state->outer_row = outer;
		state->passed = false;
	}
	econtext->ecxt_outertuple = row;
	if (ExecQual(state->conditions, econtext))
	{
		state->passed = true;
		state->is_held = false;
		if (state->fills_inner)
			set_inner_flag(state, inner, INNER_PASSED);
		return store_row(state, row, 0, 0);
	}
	if (state->fills_outer && !state->passed && !state->is_held)
		hold_outer_row(state, row);
	if (state->fills_inner && inner_flags(state, inner) == 0)
		keep_inner_row(state, row, inner);
	return NULL;
}

/* At the end: the next inner row of which no pair has passed, or NULL. */
static TupleTableSlot *
next_inner_row(OuterJoinState *state)
{
	while (state->kept != NULL &&
		   tuplestore_gettupleslot(state->kept, true, false, state->kept_slot))
	{
		int64		number = row_number(state->kept_slot, state->n_columns);

		CHECK_FOR_INTERRUPTS();
		if ((inner_flags(state, number) & INNER_PASSED) == 0)
			return store_row(state, state->kept_slot, 0, 0);
	}
	return NULL;
}

/* The next row of the join, in the scan slot, or NULL. */
static TupleTableSlot *
next_row(OuterJoinState *state)
{
	for (;;)
	{
		TupleTableSlot *row;
		TupleTableSlot *result;

		CHECK_FOR_INTERRUPTS();
		ResetExprContext(state->css.ss.ps.ps_ExprContext);
		if (state->row == NULL && !state->at_end)
		{
			state->row = ExecProcNode(outerPlanState(&state->css.ss.ps));
			if (TupIsNull(state->row))
			{
				state->row = NULL;
				state->at_end = true;
			}
		}
		if (state->is_held &&
			(state->at_end || row_number(state->row, state->n_outer) != state->outer_row))
		{
			state->is_held = false;
			return store_row(state, state->held, 0, 0);
		}
		if (state->at_end)
			return next_inner_row(state);
		row = state->row;
		state->row = NULL;
		result = take_row(state, row);
		if (result != NULL)
			return result;
	}
}

/* ----------------------------------------------------------------
 *		The node
 * ----------------------------------------------------------------
 */

static JoinType
join_type(const CustomScan *scan)
{
	return (JoinType) intVal(linitial(scan->custom_private));
}

static void
outer_join_begin(CustomScanState *css, EState *estate, int eflags)
{
	OuterJoinState *state = (OuterJoinState *) css;
	CustomScan *scan = (CustomScan *) css->ss.ps.plan;
	TupleDesc	columns = css->ss.ss_ScanTupleSlot->tts_tupleDescriptor;
	JoinType	type = join_type(scan);

	outerPlanState(css) = ExecInitNode(outerPlan(scan), estate, eflags);
	state->fills_outer = type == JOIN_LEFT || type == JOIN_FULL;
	state->fills_inner = type == JOIN_RIGHT || type == JOIN_FULL;
	state->n_outer = intVal(lsecond(scan->custom_private));
	state->n_columns = list_length(scan->custom_scan_tlist);
	state->conditions = ExecInitQual(scan->custom_exprs, &css->ss.ps);
	state->outer_row = NO_ROW;
	state->held = ExecInitExtraTupleSlot(estate, columns, &TTSOpsMinimalTuple);
	state->kept_slot = ExecInitExtraTupleSlot(estate, columns, &TTSOpsMinimalTuple);
}

static TupleTableSlot *
outer_join_exec(CustomScanState *css)
{
	OuterJoinState *state = (OuterJoinState *) css;
	ExprContext *econtext = css->ss.ps.ps_ExprContext;
	TupleTableSlot *row;

	while ((row = next_row(state)) != NULL)
	{
		econtext->ecxt_scantuple = row;
		if (ExecQual(css->ss.ps.qual, econtext))
			return css->ss.ps.ps_ProjInfo == NULL ? row : ExecProject(css->ss.ps.ps_ProjInfo);
		InstrCountFiltered1(css, 1);
	}
	return NULL;
}

static void
outer_join_end(CustomScanState *css)
{
	forget_inner_rows((OuterJoinState *) css);
	ExecEndNode(outerPlanState(css));
}

static void
outer_join_rescan(CustomScanState *css)
{
	OuterJoinState *state = (OuterJoinState *) css;

	forget_inner_rows(state);
	state->row = NULL;
	state->at_end = false;
	state->outer_row = NO_ROW;
	state->is_held = false;
	if (outerPlanState(css)->chgParam == NULL)
		ExecReScan(outerPlanState(css));
}

static void
outer_join_explain(CustomScanState *css, List *ancestors, ExplainState *es)
{
	CustomScan *scan = (CustomScan *) css->ss.ps.plan;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, css->ss.ps.plan, ancestors);
	Node	   *condition = (Node *) make_ands_explicit(scan->custom_exprs);
	JoinType	type = join_type(scan);

	ExplainPropertyText("Join Type", type == JOIN_LEFT ? "Left" : type == JOIN_RIGHT ? "Right" : "Full", es);
	ExplainPropertyText("Join Filter",
						deparse_expression(condition, context, es->verbose || list_length(es->rtable) > 1, false),
						es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = LLAMA_OUTER_JOIN_NAME,
	.BeginCustomScan = outer_join_begin,
	.ExecCustomScan = outer_join_exec,
	.EndCustomScan = outer_join_end,
	.ReScanCustomScan = outer_join_rescan,
	.ExplainCustomScan = outer_join_explain,
};

static Node *
create_state(CustomScan *scan)
{
	OuterJoinState *state = (OuterJoinState *) newNode(sizeof(OuterJoinState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

const CustomScanMethods llama_outer_join_methods = {
	.CustomName = LLAMA_OUTER_JOIN_NAME,
	.CreateCustomScanState = create_state,
};
