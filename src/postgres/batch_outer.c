/*-------------------------------------------------------------------------
 *
 * batch_outer.c
 *	  Batch nodes and outer joins whose conditions have calls.
 *
 * Conditions of an outer join decide which pairs are rows of the result, and
 * which rows are in no pair, and so come with NULLs: they cannot simply be
 * checked after it.  But they are evaluated for every pair that passes those
 * before.  So the join is told apart:
 *
 *		Left Join				completes the join: the calls' conditions
 *		  -> A			=>		  -> batch node: calls for pairs
 *		  -> B						   -> Left Join: the conditions before
 *											-> numbers rows
 *												 -> A
 *											-> numbers rows
 *												 -> B
 *
 * What outer_join.c makes of it is the rows of the join as they were.  There is
 * a batch node and one that completes the join for each condition with calls,
 * as the next is asked only for pairs that passed, and more batch nodes where
 * there are calls within calls.  WHERE and the select list come after them.
 *
 * Semi and anti joins stop at the first match: whether a pair is asked about
 * hangs on the answer before.  Of a hash table that processes share each of them
 * sees some of the pairs of an inner row, and none can tell that it has none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#include "outer_join.h"

bool
llama_can_complete(const Plan *plan)
{
	const Join *join = (const Join *) plan;

	if (!IsA(plan, NestLoop) && !IsA(plan, MergeJoin) && !IsA(plan, HashJoin))
		return false;
	if (join->jointype != JOIN_LEFT &&
		((join->jointype != JOIN_RIGHT && join->jointype != JOIN_FULL) || plan->parallel_aware))
		return false;
	return llama_has_calls((Node *) join->joinqual) && llama_may_find_more(plan);
}

/* Columns of the two inputs that expressions need. */
typedef struct Needed
{
	List	   *outer;
	List	   *inner;
} Needed;

/* Collect them: a walker. */
static bool
find_needed(Node *node, Needed *needed)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		if (((Var *) node)->varno == OUTER_VAR)
			needed->outer = list_append_unique(needed->outer, node);
		else
			needed->inner = list_append_unique(needed->inner, node);
		return false;
	}
	return expression_tree_walker(node, find_needed, needed);
}

/* A custom node over plan, which is run as often and as it is. */
static CustomScan *
make_node_over(LlamaRewrite *rewrite, Plan *plan, const CustomScanMethods *methods)
{
	CustomScan *scan = makeNode(CustomScan);

	scan->scan.plan.startup_cost = plan->startup_cost;
	scan->scan.plan.total_cost = plan->total_cost;
	scan->scan.plan.plan_rows = plan->plan_rows;
	scan->scan.plan.plan_width = plan->plan_width;
	scan->scan.plan.parallel_safe = plan->parallel_safe;
	scan->scan.plan.plan_node_id = rewrite->next_node_id++;
	scan->scan.plan.extParam = bms_copy(plan->extParam);
	scan->scan.plan.allParam = bms_copy(plan->allParam);
	scan->scan.plan.lefttree = plan;
	scan->methods = methods;
	return scan;
}

/* Number a plan's rows, in a column behind the others; it is put into number, as varno's. */
static Plan *
make_row_number(LlamaRewrite *rewrite, Plan *plan, int varno, Var **number)
{
	CustomScan *scan = make_node_over(rewrite, plan, &llama_row_number_methods);
	List	   *columns = llama_outer_vars(plan);

	/* No expression makes the number: what stands here is only its type. */
	columns = lappend(columns, makeNullConst(INT8OID, -1, InvalidOid));
	scan->custom_scan_tlist = llama_target_list(columns);
	scan->scan.plan.targetlist = llama_scan_target_list(scan->custom_scan_tlist);
	*number = makeVar(varno, list_length(columns), INT8OID, -1, InvalidOid, 0);
	return &scan->scan.plan;
}

/* Complete the join from the rows of plan, which has columns for the calls in the conditions. */
static Plan *
make_outer_join(LlamaRewrite *rewrite, Plan *plan, JoinType type, int n_outer, int n_columns, List *conditions)
{
	CustomScan *scan = make_node_over(rewrite, plan, &llama_outer_join_methods);

	scan->custom_private = list_make2(makeInteger(type), makeInteger(n_outer));
	scan->custom_scan_tlist = llama_target_list(list_truncate(llama_outer_vars(plan), n_columns));
	scan->scan.plan.targetlist = llama_scan_target_list(scan->custom_scan_tlist);
	scan->custom_exprs = conditions;
	return &scan->scan.plan;
}

/* Number the rows of both inputs of a join, and have it give the needed columns and the numbers. */
static void
number_inputs(LlamaRewrite *rewrite, Plan *plan, Needed *needed)
{
	Var		   *outer;
	Var		   *inner;

	plan->lefttree = make_row_number(rewrite, plan->lefttree, OUTER_VAR, &outer);
	if (IsA(plan, HashJoin))
	{
		Plan	   *hash = plan->righttree;

		hash->lefttree = make_row_number(rewrite, hash->lefttree, INNER_VAR, &inner);
		hash->targetlist = llama_target_list(llama_outer_vars(hash->lefttree));
	}
	else
		plan->righttree = make_row_number(rewrite, plan->righttree, INNER_VAR, &inner);
	needed->outer = lappend(needed->outer, outer);
	needed->inner = lappend(needed->inner, inner);
	plan->targetlist = llama_target_list(copyObject(list_concat_copy(needed->outer, needed->inner)));
}

Plan *
llama_batch_outer_join(LlamaRewrite *rewrite, Plan *plan, List **quals, List **target_list)
{
	Join	   *join = (Join *) plan;
	List	   *conditions = join->joinqual;
	Needed		needed = {NIL, NIL};
	List	   *columns;
	int			n_outer;
	int			n_columns;

	join->joinqual = NIL;
	while (!llama_has_calls(linitial(conditions)))
	{
		join->joinqual = lappend(join->joinqual, linitial(conditions));
		conditions = list_delete_first(conditions);
	}
	(void) find_needed((Node *) conditions, &needed);
	(void) find_needed((Node *) plan->qual, &needed);
	(void) find_needed((Node *) plan->targetlist, &needed);
	*quals = plan->qual;
	*target_list = plan->targetlist;
	number_inputs(rewrite, plan, &needed);
	plan->qual = NIL;
	join->inner_unique = false;

	columns = list_concat_copy(needed.outer, needed.inner);
	n_outer = list_length(needed.outer);
	n_columns = list_length(columns);
	conditions = (List *) llama_replace((Node *) conditions, columns, 1, OUTER_VAR);
	*quals = (List *) llama_replace((Node *) *quals, columns, 1, OUTER_VAR);
	*target_list = (List *) llama_replace((Node *) *target_list, columns, 1, OUTER_VAR);

	while (conditions != NIL)
	{
		List	   *checked = list_make1(linitial(conditions));
		List	   *calls;

		conditions = list_delete_first(conditions);
		for (int stage = 0; stage < LLAMA_MAX_STAGES && (calls = llama_ready_calls((Node *) checked)) != NIL; stage++)
		{
			int			first = list_length(plan->targetlist) + 1;
			CustomScan *batch = llama_make_batch(rewrite, plan, copyObject(calls));

			/* Rows that have only one side are not asked about. */
			llama_batch_only_with(batch, list_make2_int(n_outer, n_columns));
			checked = (List *) llama_replace((Node *) checked, calls, first, OUTER_VAR);
			plan = &batch->scan.plan;
		}
		while (conditions != NIL && !llama_has_calls(linitial(conditions)))
		{
			checked = lappend(checked, linitial(conditions));
			conditions = list_delete_first(conditions);
		}
		plan = make_outer_join(rewrite, plan, join->jointype, n_outer, n_columns, checked);
	}
	return plan;
}
