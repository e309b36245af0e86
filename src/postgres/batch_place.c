/*-------------------------------------------------------------------------
 *
 * batch_place.c
 *	  What a batch node must know of its place in the finished plan.
 *
 * Below a Gather each process runs its own copy of the node, and the executor
 * gives the copies shared memory only where a custom node is called parallel
 * aware.  Ours does not divide work among the copies, the scan below it does;
 * it needs the memory to add up what they count.  So it is with subplans that
 * expressions below the Gather run.
 *
 * A statement's progress is told in rows, and there may be many batch nodes:
 * those count that no other batch node stands above.  Where the plan itself has
 * none, its subplans' (common table expressions among them) do.
 *
 * How far a node reads ahead (batch_ahead.c) hangs on who takes its rows: an
 * aggregation, a sort or a ModifyTable all of them, whoever runs the statement
 * perhaps, a Limit not more than its count and offset.  Between the Limit and
 * the node there may be a join, which makes one row into many; then the rows
 * that are wanted may be fewer.  The partitions of an Append count together,
 * in a Param that no expression uses.  Processes of a Gather share rows out as
 * they ask for them, and do not know each other's.
 *
 * A condition that a batch node checks no longer filters the rows below it.  How
 * many rows come from there is known where the selectivity of the condition is
 * (cost.c), from what it lets pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "batch.h"
#include "batch_ahead.h"
#include "cost.h"

/* Where in a plan a node stands. */
typedef struct Place
{
	double		times;			/* that it is run, over all processes */
	bool		in_gather;
	bool		counts_rows;	/* no batch node is above it */
	LlamaReader reader;			/* of its rows */
	const Limit *limit;			/* that takes rows of it, or NULL */
	bool		is_loose;		/* a row may be many of the Limit's */
	int			param;			/* that counts the rows for the Limit, or -1 */
} Place;

/* How many processes' worth of rows come together in a Gather (see get_parallel_divisor). */
static double
processes(int workers, bool single_copy)
{
	double		leader = 1.0 - 0.3 * workers;

	if (single_copy)
		return 1;
	return workers + (parallel_leader_participation && leader > 0 ? leader : 0);
}

/* Are there Params that the executor sets?  A walker. */
static bool
has_exec_params(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param))
		return ((Param *) node)->paramkind == PARAM_EXEC;
	return expression_tree_walker(node, has_exec_params, context);
}

/* A place whose rows are taken by this reader, and no Limit above counts. */
static Place
read_by(Place place, LlamaReader reader)
{
	place.reader = reader;
	place.limit = NULL;
	place.is_loose = false;
	place.param = -1;
	return place;
}

/* Can a Limit's bounds be evaluated by another node, in any process if that is in a Gather? */
static bool
can_be_told(const Limit *limit, bool in_gather)
{
	Node	   *bounds = (Node *) list_make2(limit->limitCount, limit->limitOffset);

	return limit->limitCount != NULL && !contain_volatile_functions(bounds) && !contain_subplans(bounds) &&
		!(in_gather && has_exec_params(bounds, NULL));
}

/* Who takes the rows of a node's first child: see batch_ahead.c. */
static void
set_reader_below(const Plan *plan, Place *place)
{
	switch (nodeTag(plan))
	{
		case T_ModifyTable:
		case T_Sort:
		case T_Hash:
			*place = read_by(*place, LLAMA_READS_ALL);
			break;
		case T_Agg:
			if (((const Agg *) plan)->aggstrategy == AGG_PLAIN || ((const Agg *) plan)->aggstrategy == AGG_HASHED)
				*place = read_by(*place, LLAMA_READS_ALL);
			break;
		case T_Limit:
			*place = read_by(*place, LLAMA_READS_SOME);
			if (can_be_told((const Limit *) plan, place->in_gather))
				place->limit = (const Limit *) plan;
			break;
		case T_CustomScan:
			/* A batch node tells the one below itself. */
			*place = read_by(*place, llama_is_batch(plan) ? place->reader : LLAMA_READS_SOME);
			break;
		case T_Append:
		case T_MergeAppend:
		case T_Result:
		case T_SubqueryScan:
		case T_IncrementalSort:
		case T_Unique:
		case T_Group:
		case T_LockRows:
		case T_Material:
		case T_ProjectSet:
			break;
		case T_WindowAgg:
			if (((const WindowAgg *) plan)->runCondition != NIL)
				place->reader = LLAMA_READS_SOME;
			break;
		default:
			/* Joins, among others. */
			place->reader = LLAMA_READS_SOME;
			place->param = -1;
			break;
	}
	if (IsA(plan, ProjectSet) || IsA(plan, NestLoop) || IsA(plan, MergeJoin) || IsA(plan, HashJoin))
		place->is_loose = true;
}

/* The place of a node's first children; others differ in times only. */
static Place
place_below(const Plan *plan, Place place)
{
	set_reader_below(plan, &place);
	switch (nodeTag(plan))
	{
		case T_Gather:
			place.times *= processes(((const Gather *) plan)->num_workers,
									 ((const Gather *) plan)->single_copy);
			/* A Gather for tests, which nobody is to see, leaves the plan as it is. */
			place.in_gather = !((const Gather *) plan)->invisible;
			break;
		case T_GatherMerge:
			place.times *= processes(((const GatherMerge *) plan)->num_workers, false);
			place.in_gather = true;
			break;
		case T_CustomScan:
			place.counts_rows = place.counts_rows && !llama_is_batch(plan);
			break;
		default:
			break;
	}
	if (place.in_gather && place.limit != NULL && !can_be_told(place.limit, true))
		place.limit = NULL;
	return place;
}

/* How often a node runs its inner input for each time that it is run itself. */
static double
inner_times(const Plan *plan)
{
	return IsA(plan, NestLoop) ? Max(plan->lefttree->plan_rows, 1) : 1;
}

/* The expression that a node's scan tuple has in this column: a mutator. */
static Node *
from_scan_tuple(Node *node, void *scan_tlist)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR)
		return (Node *) list_nth_node(TargetEntry, (List *) scan_tlist,
									  ((Var *) node)->varattno - 1)->expr;
	return expression_tree_mutator(node, from_scan_tuple, scan_tlist);
}

/* What fraction of its rows a batch node lets pass; -1: unknown. */
static double
passed(const CustomScan *batch)
{
	double		fraction = 1;
	ListCell   *cell;

	foreach(cell, batch->scan.plan.qual)
	{
		double		part = llama_condition_selectivity(from_scan_tuple(lfirst(cell),
																	   batch->custom_scan_tlist));

		if (part <= 0)
			return -1;
		fraction *= part;
	}
	return fraction;
}

/* Set how many rows a batch node reads; -1: unknown. */
static double
set_rows_read(CustomScan *batch)
{
	Plan	   *plan = &batch->scan.plan;
	double		fraction = passed(batch);

	if (fraction < 0)
		return -1;
	if (plan->qual != NIL)
		plan->lefttree->plan_rows = clamp_row_est(plan->plan_rows / fraction);
	return plan->lefttree->plan_rows;
}

/* Tell a batch node who takes its rows. */
static void
set_reader(CustomScan *batch, Place place)
{
	LlamaReader reader = place.in_gather ? LLAMA_READS_SOME : place.reader;

	lthird(batch->custom_private) = llama_ahead_place(reader, place.is_loose, place.param);
	if (place.limit == NULL)
		return;
	batch->custom_exprs = list_make1(copyObject(place.limit->limitCount));
	if (place.limit->limitOffset != NULL)
		batch->custom_exprs = lappend(batch->custom_exprs, copyObject(place.limit->limitOffset));
}

/* A Param in which the nodes below an Append count the rows that they give. */
static int
make_count_param(PlannedStmt *statement)
{
	statement->paramExecTypes = lappend_oid(statement->paramExecTypes, INT8OID);
	return list_length(statement->paramExecTypes) - 1;
}

/* Place the batch nodes of a plan; was there one? */
static bool
place_batches(PlannedStmt *statement, Plan *plan, Place place)
{
	Place		below;
	bool		found;
	ListCell   *cell;

	if (plan == NULL)
		return false;
	found = llama_is_batch(plan);
	if (found)
	{
		CustomScan *batch = (CustomScan *) plan;
		double		rows = set_rows_read(batch);

		plan->parallel_aware = place.in_gather;
		set_reader(batch, place);
		/* The point makes it a Float also for whoever reads the plan as text. */
		if (place.counts_rows)
			batch->custom_private = lappend(batch->custom_private,
											makeFloat(psprintf("%.1f", Min(place.times, rows) < 0 ? -1 :
															   place.times * rows)));
	}
	below = place_below(plan, place);
	if (below.limit != NULL && below.param < 0 && (IsA(plan, Append) || IsA(plan, MergeAppend)))
		below.param = make_count_param(statement);
	foreach(cell, llama_other_children(plan))
		found = place_batches(statement, lfirst(cell), below) || found;
	found = place_batches(statement, plan->lefttree, below) || found;
	below.times *= inner_times(plan);
	return place_batches(statement, plan->righttree, below) || found;
}

/* Find the subplans that an expression runs: a walker. */
static bool
find_subplans(Node *node, Bitmapset **ids)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubPlan))
		*ids = bms_add_member(*ids, ((SubPlan *) node)->plan_id);
	return expression_tree_walker(node, find_subplans, ids);
}

/* Find the subplans that run in the processes of a Gather, by their numbers. */
static void
find_gathered(PlannedStmt *statement, Plan *plan, bool in_gather, Bitmapset **ids)
{
	Bitmapset  *own = NULL;
	int			id = -1;
	ListCell   *cell;

	if (plan == NULL)
		return;
	if (in_gather)
	{
		(void) find_subplans((Node *) plan->targetlist, &own);
		(void) find_subplans((Node *) plan->qual, &own);
		(void) find_subplans((Node *) llama_other_expressions(plan), &own);
	}
	while ((id = bms_next_member(own, id)) >= 0)
	{
		*ids = bms_add_member(*ids, id);
		find_gathered(statement, list_nth(statement->subplans, id - 1), true, ids);
	}
	in_gather = in_gather || IsA(plan, GatherMerge) || (IsA(plan, Gather) && !((Gather *) plan)->invisible);
	foreach(cell, llama_other_children(plan))
		find_gathered(statement, lfirst(cell), in_gather, ids);
	find_gathered(statement, plan->lefttree, in_gather, ids);
	find_gathered(statement, plan->righttree, in_gather, ids);
}

void
llama_batch_place(PlannedStmt *statement)
{
	Bitmapset  *gathered = NULL;
	bool		found = place_batches(statement, statement->planTree,
									  (Place) {1, false, true, LLAMA_READS_AS_STATEMENT, NULL, false, -1});
	ListCell   *cell;

	find_gathered(statement, statement->planTree, false, &gathered);
	foreach(cell, statement->subplans)
		find_gathered(statement, lfirst(cell), false, &gathered);
	foreach(cell, statement->subplans)
	{
		Plan	   *plan = lfirst(cell);
		bool		in_gather = bms_is_member(foreach_current_index(cell) + 1, gathered);
		/* How often a subplan with arguments is run is not known here. */
		double		times = plan == NULL || !bms_is_empty(plan->extParam) ? -1 : 1;

		(void) place_batches(statement, plan, (Place) {times, in_gather, !found, LLAMA_READS_SOME, NULL, false, -1});
	}
}
