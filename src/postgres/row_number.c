/*-------------------------------------------------------------------------
 *
 * row_number.c
 *	  The node that numbers the rows of an outer join's input.
 *
 * Numbers tell which of the rows that come out of the join are of one input row,
 * and by NULL that there is none.  They are of a scan: the next one may give the
 * same numbers to other rows.  Processes of a parallel query may hand rows to
 * each other in a shared hash join, so each has numbers of its own.
 *
 * Marks are handed down, as the inner input of a merge join needs them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "executor/executor.h"

#include "outer_join.h"

typedef struct RowNumberState
{
	CustomScanState css;		/* must be first */
	int			n_columns;		/* of the node below */
	int64		number;			/* of the last row */
	int64		marked;
} RowNumberState;

static void
row_number_begin(CustomScanState *css, EState *estate, int eflags)
{
	RowNumberState *state = (RowNumberState *) css;
	CustomScan *scan = (CustomScan *) css->ss.ps.plan;

	outerPlanState(css) = ExecInitNode(outerPlan(scan), estate, eflags);
	state->n_columns = list_length(scan->custom_scan_tlist) - 1;
	state->number = (int64) (ParallelWorkerNumber + 1) << LLAMA_ROW_NUMBER_BITS;
}

static TupleTableSlot *
row_number_exec(CustomScanState *css)
{
	RowNumberState *state = (RowNumberState *) css;
	TupleTableSlot *row = ExecProcNode(outerPlanState(css));
	TupleTableSlot *slot = css->ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (TupIsNull(row))
		return NULL;
	slot_getallattrs(row);
	memcpy(slot->tts_values, row->tts_values, state->n_columns * sizeof(Datum));
	memcpy(slot->tts_isnull, row->tts_isnull, state->n_columns * sizeof(bool));
	slot->tts_values[state->n_columns] = Int64GetDatum(++state->number);
	slot->tts_isnull[state->n_columns] = false;
	return ExecStoreVirtualTuple(slot);
}

static void
row_number_end(CustomScanState *css)
{
	ExecEndNode(outerPlanState(css));
}

static void
row_number_rescan(CustomScanState *css)
{
	RowNumberState *state = (RowNumberState *) css;

	state->number = (int64) (ParallelWorkerNumber + 1) << LLAMA_ROW_NUMBER_BITS;
	if (outerPlanState(css)->chgParam == NULL)
		ExecReScan(outerPlanState(css));
}

static void
row_number_mark(CustomScanState *css)
{
	RowNumberState *state = (RowNumberState *) css;

	ExecMarkPos(outerPlanState(css));
	state->marked = state->number;
}

static void
row_number_restore(CustomScanState *css)
{
	RowNumberState *state = (RowNumberState *) css;

	ExecRestrPos(outerPlanState(css));
	state->number = state->marked;
}

static const CustomExecMethods exec_methods = {
	.CustomName = LLAMA_ROW_NUMBER_NAME,
	.BeginCustomScan = row_number_begin,
	.ExecCustomScan = row_number_exec,
	.EndCustomScan = row_number_end,
	.ReScanCustomScan = row_number_rescan,
	.MarkPosCustomScan = row_number_mark,
	.RestrPosCustomScan = row_number_restore,
};

static Node *
create_state(CustomScan *scan)
{
	RowNumberState *state = (RowNumberState *) newNode(sizeof(RowNumberState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

const CustomScanMethods llama_row_number_methods = {
	.CustomName = LLAMA_ROW_NUMBER_NAME,
	.CreateCustomScanState = create_state,
};
