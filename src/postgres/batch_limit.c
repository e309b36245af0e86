/*-------------------------------------------------------------------------
 *
 * batch_limit.c
 *	  Batch nodes and LIMIT.
 *
 * A Limit tells a Sort below it how many rows it wants, so that the sort keeps
 * no more (top-N), and stops asking when it has them.  With a batch node between
 * the two the sort is not told, as the server's executor does not know what a
 * custom node does with its rows (ExecSetTupleBound in execProcnode.c), and
 * the node reads ahead rows that will not be asked for.
 *
 * But a batch node without a condition gives a row for each one that it reads,
 * in the same order: the Limit may as well be below, also below the end of the
 * subquery that such a node is in.  Then calls are made for
 * the rows of the result and no others, also not for those that OFFSET skips.
 *
 *		Limit							batch node
 *		  -> batch node			=>		  -> Limit
 *			   -> Sort						   -> Sort
 *
 * Below a Gather the rows come from several processes, each of which may have
 * all that are wanted: the Limit stays, and each process gets another one.
 *
 *		Limit							Limit
 *		  -> Gather Merge		=>		  -> Gather Merge
 *			   -> batch node				   -> batch node
 *					-> Sort						 -> Limit
 *													  -> Sort
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"

#include "batch.h"

/* Does the node give a row for each one that it reads?  Batch nodes, and subqueries' ends. */
static bool
keeps_all_rows(const Plan *plan)
{
	return (llama_is_batch(plan) || IsA(plan, SubqueryScan)) && plan->qual == NIL;
}

/* Where such a node reads them. */
static Plan **
input_of(Plan *plan)
{
	return IsA(plan, SubqueryScan) ? &((SubqueryScan *) plan)->subplan : &plan->lefttree;
}

/* The column of its input that this one of its target list is, or 0. */
static AttrNumber
column_below(const Plan *plan, AttrNumber column)
{
	const TargetEntry *entry = list_nth_node(TargetEntry, plan->targetlist, column - 1);
	const Var  *var = (const Var *) entry->expr;

	if (!IsA(var, Var))
		return 0;
	if (llama_is_batch(plan) &&
		var->varattno > intVal(linitial(((const CustomScan *) plan)->custom_private)))
		return 0;
	return var->varattno;
}

/*
 * Can the Limit go below such a node, with its columns then in columns?
 * WITH TIES compares columns that the node below must have.  With OFFSET or
 * ties the Limit reads rows that it does not return; what is volatile in the
 * target list has been evaluated for those, too.
 */
static bool
can_lift(const Limit *limit, const Plan *plan, AttrNumber *columns)
{
	if ((limit->limitOffset != NULL || limit->limitOption == LIMIT_OPTION_WITH_TIES) &&
		contain_volatile_functions((Node *) plan->targetlist))
		return false;
	for (int i = 0; i < limit->uniqNumCols; i++)
	{
		columns[i] = column_below(plan, columns[i]);
		if (columns[i] == 0)
			return false;
	}
	return true;
}

/* Give a plan's columns the names and marks that another's have. */
static void
copy_labels(Plan *plan, const Plan *from)
{
	ListCell   *to_cell;
	ListCell   *from_cell;

	forboth(to_cell, plan->targetlist, from_cell, from->targetlist)
	{
		TargetEntry *to = lfirst(to_cell);
		const TargetEntry *entry = lfirst(from_cell);

		to->resname = entry->resname;
		to->ressortgroupref = entry->ressortgroupref;
		to->resorigtbl = entry->resorigtbl;
		to->resorigcol = entry->resorigcol;
		to->resjunk = entry->resjunk;
	}
}

/* Put the Limit below lowest, a batch node; all from top to there keep all rows. */
static Plan *
lift_batches(Limit *limit, Plan *top, Plan *lowest, const AttrNumber *columns)
{
	copy_labels(top, &limit->plan);
	top->initPlan = list_concat(limit->plan.initPlan, top->initPlan);
	limit->plan.initPlan = NIL;
	if (limit->uniqNumCols > 0)
		memcpy(limit->uniqColIdx, columns, limit->uniqNumCols * sizeof(AttrNumber));
	limit->plan.lefttree = lowest->lefttree;
	limit->plan.targetlist = llama_target_list(llama_outer_vars(lowest->lefttree));
	limit->plan.plan_width = lowest->lefttree->plan_width;
	lowest->lefttree = &limit->plan;
	for (Plan *plan = top; plan != &limit->plan; plan = *input_of(plan))
	{
		plan->startup_cost = limit->plan.startup_cost;
		plan->total_cost = limit->plan.total_cost;
		plan->plan_rows = limit->plan.plan_rows;
		plan->extParam = bms_union(plan->extParam, limit->plan.extParam);
		plan->allParam = bms_union(plan->allParam, limit->plan.allParam);
	}
	return top;
}

/*
 * How many rows the Limit reads at most, as an expression that can be evaluated
 * in any process, or NULL: it has no such bound.
 */
static Node *
rows_read(const Limit *limit)
{
	const Const *count = (const Const *) limit->limitCount;
	const Const *offset = (const Const *) limit->limitOffset;
	int64		sum;

	if (limit->limitOption != LIMIT_OPTION_COUNT || count == NULL || !IsA(count, Const) ||
		count->constisnull)
		return NULL;
	if (offset == NULL || (IsA(offset, Const) && offset->constisnull))
		return copyObject(limit->limitCount);
	if (!IsA(offset, Const) ||
		pg_add_s64_overflow(DatumGetInt64(count->constvalue), DatumGetInt64(offset->constvalue),
							&sum))
		return NULL;
	return (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(sum), false,
							  FLOAT8PASSBYVAL);
}

/* Put another Limit below the batch nodes of each process of a Gather. */
static void
limit_processes(const Limit *limit, const Plan *gather, int *next_node_id)
{
	Plan	   *lowest = NULL;
	Limit	   *inner;
	Node	   *rows = rows_read(limit);

	for (Plan *plan = gather->lefttree; keeps_all_rows(plan); plan = *input_of(plan))
	{
		if (llama_is_batch(plan))
			lowest = plan;
	}
	if (lowest == NULL || rows == NULL)
		return;
	inner = makeNode(Limit);
	inner->plan = *lowest->lefttree;
	inner->plan.type = T_Limit;
	inner->plan.parallel_aware = false;
	inner->plan.async_capable = false;
	inner->plan.plan_node_id = (*next_node_id)++;
	inner->plan.plan_rows = Min(inner->plan.plan_rows,
								(double) DatumGetInt64(((Const *) rows)->constvalue));
	inner->plan.targetlist = llama_target_list(llama_outer_vars(lowest->lefttree));
	inner->plan.qual = NIL;
	inner->plan.lefttree = lowest->lefttree;
	inner->plan.righttree = NULL;
	inner->plan.initPlan = NIL;
	inner->limitCount = rows;
	inner->limitOption = LIMIT_OPTION_COUNT;
	lowest->lefttree = &inner->plan;
}

Plan *
llama_batch_limit(Limit *limit, int *next_node_id)
{
	Plan	   *input = limit->plan.lefttree;
	Plan	   *lowest = NULL;
	AttrNumber *columns = palloc(Max(limit->uniqNumCols, 1) * sizeof(AttrNumber));
	AttrNumber *reached = palloc(Max(limit->uniqNumCols, 1) * sizeof(AttrNumber));

	if (IsA(input, Gather) || IsA(input, GatherMerge))
		limit_processes(limit, input, next_node_id);
	for (int i = 0; i < limit->uniqNumCols; i++)
		columns[i] = limit->uniqColIdx[i];
	for (Plan *plan = input; keeps_all_rows(plan) && can_lift(limit, plan, columns);
		 plan = *input_of(plan))
	{
		if (!llama_is_batch(plan))
			continue;
		lowest = plan;
		memcpy(reached, columns, limit->uniqNumCols * sizeof(AttrNumber));
	}
	return lowest == NULL ? &limit->plan : lift_batches(limit, input, lowest, reached);
}
