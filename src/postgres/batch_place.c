/*-------------------------------------------------------------------------
 *
 * batch_place.c
 *	  What a batch node must know of its place in the finished plan.
 *
 * Below a Gather each process runs its own copy of the node, and the executor
 * gives the copies shared memory only where a custom node is called parallel
 * aware.  Ours does not divide work among the copies, the scan below it does;
 * it needs the memory to add up what they count.
 *
 * A statement's progress is told in rows, and there may be many batch nodes:
 * those count that no other batch node stands above.  Where the plan itself has
 * none, its subplans' (common table expressions among them) do.
 *
 * A node whose rows will all be read, if any is, can begin as many calls as it
 * ever has at once: so it is below an aggregation, a sort or a ModifyTable.
 *
 * A condition that a batch node checks no longer filters the rows below it.  How
 * many rows come from there is known where the selectivity of the condition is
 * (cost.c), from what it lets pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"

#include "batch.h"
#include "cost.h"

/* Where in a plan a node stands. */
typedef struct Place
{
	double		times;			/* that it is run, over all processes */
	bool		in_gather;
	bool		counts_rows;	/* no batch node is above it */
	bool		reads_all;		/* once begun it is read to its end */
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

/* Is the input of a node read to its end once it is begun, where the node is or is not? */
static bool
reads_all_input(const Plan *plan, bool reads_all)
{
	switch (nodeTag(plan))
	{
		case T_ModifyTable:
		case T_Sort:
		case T_Hash:
			return true;
		case T_Agg:
			return reads_all || ((const Agg *) plan)->aggstrategy == AGG_PLAIN ||
				((const Agg *) plan)->aggstrategy == AGG_HASHED;
		case T_Result:
		case T_SubqueryScan:
		case T_Append:
		case T_MergeAppend:
			return reads_all;
		case T_CustomScan:
			return reads_all && llama_is_batch(plan);
		default:
			return false;
	}
}

/* The place of a node's first children; others differ in times only. */
static Place
place_below(const Plan *plan, Place place)
{
	place.reads_all = reads_all_input(plan, place.reads_all);
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

/* Place the batch nodes of a plan; was there one? */
static bool
place_batches(Plan *plan, Place place)
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
		/* Processes of a Gather share the rows out as they ask for them. */
		lthird(batch->custom_private) = makeInteger(place.reads_all && !place.in_gather);
		/* The point makes it a Float also for whoever reads the plan as text. */
		if (place.counts_rows)
			batch->custom_private = lappend(batch->custom_private,
											makeFloat(psprintf("%.1f", Min(place.times, rows) < 0 ? -1 :
															   place.times * rows)));
	}
	below = place_below(plan, place);
	foreach(cell, llama_other_children(plan))
		found = place_batches(lfirst(cell), below) || found;
	found = place_batches(plan->lefttree, below) || found;
	below.times *= inner_times(plan);
	return place_batches(plan->righttree, below) || found;
}

void
llama_batch_place(PlannedStmt *statement)
{
	bool		found = place_batches(statement->planTree, (Place) {1, false, true, false});
	ListCell   *cell;

	foreach(cell, statement->subplans)
	{
		Plan	   *plan = lfirst(cell);
		/* How often a subplan with arguments is run is not known here. */
		double		times = plan == NULL || !bms_is_empty(plan->extParam) ? -1 : 1;

		(void) place_batches(plan, (Place) {times, false, !found, false});
	}
}
