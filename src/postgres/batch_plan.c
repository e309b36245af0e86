/*-------------------------------------------------------------------------
 *
 * batch_plan.c
 *	  Putting batch nodes into finished plans, above the plan nodes that would
 *	  have evaluated the calls.
 *
 * This works on the finished plan, after the planner and after every hook that
 * was there before us: so it sees what will really be executed, in subqueries,
 * under ModifyTable, Append and Gather, and no path that another extension
 * makes gets in its way.
 *
 * A plan node N with calls in its target list or its qual becomes
 *
 *		batch node		target list and qual of N, calls replaced by columns
 *		  -> N			target list: what those expressions need of N's input
 *
 * with N keeping the conditions that stood before the first one with a call.
 * The order of conditions is never changed, so neither security levels nor the
 * planner's "cheap ones first" are touched.  Where expressions depend on each
 * other there is a stack of batch nodes: one for each condition with calls (the
 * next is asked only for rows that passed), one for the target list, and one
 * more for each level of calls within calls.
 *
 * Which calls are taken out is said in batch_find.c.  Arguments of aggregates
 * belong to their input rows, so the batch node for them goes below the
 * aggregation, unless a FILTER chooses among the rows.  So it is with aggregates
 * over windows, where each row is in a frame, and with arguments of functions in
 * the select list that return sets.  What is special about joins is in
 * batch_join.c and batch_outer.c.
 *
 * A batch node reads ahead.  Nothing below it may therefore have side effects
 * that depend on how many rows are read: where a volatile function or a FOR
 * UPDATE stands below, the node is left as it is, unless another in between,
 * such as a Sort, reads all rows first.  Volatile functions beside a
 * call stay in the batch node's target list and are evaluated as late as before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "batch.h"
#include "batch_ahead.h"
#include "outer_join.h"

/* ----------------------------------------------------------------
 *		Splitting a plan node
 * ----------------------------------------------------------------
 */

/* What can be taken as one column from a node's output. */
static bool
is_atom(Node *node)
{
	return IsA(node, Var) || IsA(node, Aggref) || IsA(node, WindowFunc) ||
		IsA(node, GroupingFunc);
}

/* Collect the distinct atoms of an expression: a walker. */
static bool
find_atoms(Node *node, List **atoms)
{
	if (node == NULL)
		return false;
	if (is_atom(node))
	{
		*atoms = list_append_unique(*atoms, node);
		return false;
	}
	return expression_tree_walker(node, find_atoms, atoms);
}

/* Replace expressions by columns. */
typedef struct Columns
{
	List	   *list;			/* of expressions; the first is column first */
	int			first;
	int			varno;
} Columns;

static Node *
to_columns(Node *node, Columns *columns)
{
	ListCell   *cell;
	int			number = columns->first;

	if (node == NULL)
		return NULL;
	foreach(cell, columns->list)
	{
		Node	   *expr = lfirst(cell);

		if (equal(node, expr))
			return (Node *) makeVar(columns->varno, number, exprType(expr), exprTypmod(expr),
									exprCollation(expr), 0);
		number++;
	}
	return expression_tree_mutator(node, to_columns, columns);
}

Node *
llama_replace(Node *node, List *exprs, int first, int varno)
{
	Columns		columns = {exprs, first, varno};

	return to_columns(node, &columns);
}

/* The opposite: replace Vars by the expressions that they are the numbers of. */
static Node *
from_columns(Node *node, void *exprs)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
		return copyObject(list_nth(exprs, ((Var *) node)->varattno - 1));
	return expression_tree_mutator(node, from_columns, exprs);
}

/* Vars of the node below, in a batch node's own expressions. */
static Node *
to_scan_vars(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)
	{
		Var		   *var = copyObject((Var *) node);

		var->varno = INDEX_VAR;
		return (Node *) var;
	}
	return expression_tree_mutator(node, to_scan_vars, context);
}

List *
llama_target_list(List *exprs)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, exprs)
		result = lappend(result, makeTargetEntry(lfirst(cell), list_length(result) + 1,
												 NULL, false));
	return result;
}

List *
llama_outer_vars(const Plan *plan)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, plan->targetlist)
	{
		TargetEntry *entry = lfirst(cell);

		result = lappend(result, makeVar(OUTER_VAR, entry->resno, exprType((Node *) entry->expr),
										 exprTypmod((Node *) entry->expr),
										 exprCollation((Node *) entry->expr), 0));
	}
	return result;
}

List *
llama_scan_target_list(List *custom_scan_tlist)
{
	const Plan	scan = {.targetlist = custom_scan_tlist};

	return (List *) to_scan_vars((Node *) llama_target_list(llama_outer_vars(&scan)), NULL);
}

bool
llama_is_batch(const Plan *plan)
{
	return IsA(plan, CustomScan) && ((const CustomScan *) plan)->methods == &llama_batch_methods;
}

List *
llama_other_children(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			return ((const Append *) plan)->appendplans;
		case T_MergeAppend:
			return ((const MergeAppend *) plan)->mergeplans;
		case T_BitmapAnd:
			return ((const BitmapAnd *) plan)->bitmapplans;
		case T_BitmapOr:
			return ((const BitmapOr *) plan)->bitmapplans;
		case T_SubqueryScan:
			return list_make1(((const SubqueryScan *) plan)->subplan);
		case T_CustomScan:
			return ((const CustomScan *) plan)->custom_plans;
		default:
			return NIL;
	}
}

CustomScan *
llama_make_batch(LlamaRewrite *rewrite, Plan *plan, List *calls)
{
	CustomScan *batch = makeNode(CustomScan);
	List	   *columns = llama_outer_vars(plan);

	batch->scan.plan.startup_cost = plan->startup_cost;
	batch->scan.plan.total_cost = plan->total_cost;
	batch->scan.plan.plan_rows = plan->plan_rows;
	batch->scan.plan.plan_width = plan->plan_width;
	batch->scan.plan.parallel_safe = plan->parallel_safe;
	batch->scan.plan.plan_node_id = rewrite->next_node_id++;
	batch->scan.plan.extParam = bms_copy(plan->extParam);
	batch->scan.plan.allParam = bms_copy(plan->allParam);
	batch->scan.plan.lefttree = plan;
	batch->methods = &llama_batch_methods;
	batch->custom_private = list_make3(makeInteger(list_length(columns)), NIL,
									   llama_ahead_place(LLAMA_READS_SOME, false, -1));
	batch->custom_scan_tlist = llama_target_list(list_concat(columns, calls));
	batch->scan.plan.targetlist = llama_scan_target_list(batch->custom_scan_tlist);
	return batch;
}

void
llama_batch_only_with(CustomScan *batch, List *columns)
{
	lsecond(batch->custom_private) = columns;
}

/*
 * Put batch nodes over plan until all of the conditions and the target list
 * are evaluated.  Their Vars are OUTER_VARs that mean plan's columns.
 */
static Plan *
stack_batches(LlamaRewrite *rewrite, Plan *plan, List *quals, List *target_list)
{
	for (int stage = 0; stage < LLAMA_MAX_STAGES; stage++)
	{
		Node	   *source = quals != NIL ? linitial(quals) : (Node *) target_list;
		List	   *calls = llama_ready_calls(source);
		int			n_columns = list_length(plan->targetlist);
		CustomScan *batch = llama_make_batch(rewrite, plan, copyObject(calls));

		quals = (List *) llama_replace((Node *) quals, calls, n_columns + 1, OUTER_VAR);
		target_list = (List *) llama_replace((Node *) target_list, calls, n_columns + 1, OUTER_VAR);

		/* Check what can be checked here. */
		while (quals != NIL && !llama_has_calls(linitial(quals)))
		{
			batch->scan.plan.qual = lappend(batch->scan.plan.qual,
											to_scan_vars(linitial(quals), NULL));
			quals = list_delete_first(quals);
		}
		plan = &batch->scan.plan;
		if (quals == NIL && !llama_has_calls((Node *) target_list))
			break;
	}

	/* Deeper than that: plain function calls, in the top node. */
	plan->qual = list_concat(plan->qual, (List *) to_scan_vars((Node *) quals, NULL));
	plan->targetlist = (List *) to_scan_vars((Node *) target_list, NULL);
	return plan;
}

/* The effects of a plan that is run as often as the rows of another are read. */
static bool
plan_has_effects_again(LlamaRewrite *rewrite, const Plan *plan)
{
	bool		runs_again = rewrite->runs_again;
	bool		result;

	rewrite->runs_again = true;
	result = llama_plan_has_effects(rewrite, plan);
	rewrite->runs_again = runs_again;
	return result;
}

/* Is there a subplan with effects?  A walker. */
static bool
subplan_has_effects(Node *node, LlamaRewrite *rewrite)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubPlan) &&
		plan_has_effects_again(rewrite, list_nth(rewrite->statement->subplans,
												 ((SubPlan *) node)->plan_id - 1)))
		return true;
	return expression_tree_walker(node, subplan_has_effects, rewrite);
}

/* Does evaluating this expression have effects, or depend on those of others? */
static bool
expr_has_effects(LlamaRewrite *rewrite, void *expr)
{
	return contain_volatile_functions(expr) || subplan_has_effects(expr, rewrite);
}

/* Do the arguments of our functions have?  Those are evaluated ahead: a walker. */
static bool
arguments_have_effects(Node *node, LlamaRewrite *rewrite)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && llama_function_kind(((FuncExpr *) node)->funcid) != NULL &&
		subplan_has_effects((Node *) ((FuncExpr *) node)->args, rewrite))
		return true;
	return expression_tree_walker(node, arguments_have_effects, rewrite);
}

List *
llama_other_expressions(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
			return ((const Join *) plan)->joinqual;
		case T_FunctionScan:
			return ((const FunctionScan *) plan)->functions;
		case T_TableFuncScan:
			return list_make1(((const TableFuncScan *) plan)->tablefunc);
		case T_ValuesScan:
			return ((const ValuesScan *) plan)->values_lists;
		case T_ForeignScan:
			return ((const ForeignScan *) plan)->fdw_exprs;
		case T_CustomScan:
			return ((const CustomScan *) plan)->custom_exprs;
		default:
			return NIL;
	}
}

/*
 * Does a common table expression have effects?  One that modifies a table is run
 * to its end in any case, and the order in which that and the statement around
 * it do things is promised to nobody; but what volatile functions in it return
 * may depend on it.
 */
static bool
cte_has_effects(LlamaRewrite *rewrite, const Plan *plan)
{
	const ModifyTable *modify = (const ModifyTable *) plan;
	bool		reads_all = rewrite->reads_all;
	bool		result;

	if (!IsA(plan, ModifyTable))
		return llama_plan_has_effects(rewrite, plan);
	rewrite->reads_all = true;
	result = expr_has_effects(rewrite, modify->returningLists) || expr_has_effects(rewrite, modify->onConflictSet) ||
		expr_has_effects(rewrite, modify->mergeActionLists) || llama_children_have_effects(rewrite, plan);
	rewrite->reads_all = reads_all;
	return result;
}

bool
llama_children_have_effects(LlamaRewrite *rewrite, const Plan *plan)
{
	ListCell   *cell;

	foreach(cell, llama_other_children(plan))
	{
		if (llama_plan_has_effects(rewrite, lfirst(cell)))
			return true;
	}
	if (IsA(plan, CteScan) &&
		cte_has_effects(rewrite, list_nth(rewrite->statement->subplans, ((const CteScan *) plan)->ctePlanId - 1)))
		return true;
	if (llama_plan_has_effects(rewrite, plan->lefttree))
		return true;
	return IsA(plan, NestLoop) || IsA(plan, RecursiveUnion) ?
		plan_has_effects_again(rewrite, plan->righttree) : llama_plan_has_effects(rewrite, plan->righttree);
}

/* Has a node read all of its input when it gives its first row, and does so once? */
static bool
reads_all_first(const Plan *plan)
{
	return IsA(plan, Sort) || IsA(plan, Hash) ||
		(IsA(plan, Agg) && (((const Agg *) plan)->aggstrategy == AGG_PLAIN ||
							((const Agg *) plan)->aggstrategy == AGG_HASHED));
}

/* Does anything that this plan reads have effects that depend on how many of its rows are read? */
static bool
inputs_have_effects(LlamaRewrite *rewrite, const Plan *plan)
{
	return (rewrite->runs_again || !reads_all_first(plan)) && llama_children_have_effects(rewrite, plan);
}

/*
 * Does running this plan have effects that depend on how many of its rows are
 * read?  Locks on rows do not where all of them will be.
 */
bool
llama_plan_has_effects(LlamaRewrite *rewrite, const Plan *plan)
{
	return plan != NULL &&
		(IsA(plan, ModifyTable) || (IsA(plan, LockRows) && !rewrite->reads_all) ||
		 expr_has_effects(rewrite, plan->targetlist) ||
		 expr_has_effects(rewrite, plan->qual) ||
		 expr_has_effects(rewrite, llama_other_expressions(plan)) ||
		 inputs_have_effects(rewrite, plan));
}

/*
 * The same of what a node does itself, with these conditions and columns.  A
 * function in FROM has run to its end when its first row is there, and so has
 * XMLTABLE.
 */
static bool
node_has_effects(LlamaRewrite *rewrite, const Plan *plan, List *below, List *atoms)
{
	return expr_has_effects(rewrite, below) || expr_has_effects(rewrite, atoms) ||
		(!IsA(plan, FunctionScan) && !IsA(plan, TableFuncScan) && expr_has_effects(rewrite, llama_other_expressions(plan)));
}

/* Is this a node that evaluates any target list over the rows that it makes? */
static bool
can_be_split(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_TableFuncScan:
		case T_ValuesScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_WorkTableScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
		case T_Agg:
		case T_Group:
		case T_WindowAgg:
		case T_Gather:
		case T_GatherMerge:
		case T_Result:
			return true;
		case T_ForeignScan:
			return ((const ForeignScan *) plan)->operation == CMD_SELECT;
		default:
			return false;
	}
}

/*
 * Is it worth a batch?  One row with one call is not.  Nor is one row of one
 * column, which may be an expression of PL/pgSQL's: it evaluates those without
 * the executor and takes them out of a plan that must be this node alone.
 */
static bool
is_worth(const Plan *plan)
{
	return !IsA(plan, Result) || plan->lefttree != NULL ||
		(list_length(plan->targetlist) > 1 &&
		 list_length(llama_ready_calls((Node *) plan->targetlist)) > 1);
}

/*
 * Give a node another target list, of exprs.  The Vars in the run condition of
 * a WindowAgg are columns that the node itself puts out: window functions, which
 * are among exprs.
 */
static void
set_target_list(Plan *plan, List *exprs)
{
	if (IsA(plan, WindowAgg))
	{
		WindowAgg  *agg = (WindowAgg *) plan;
		List	   *old = NIL;
		ListCell   *cell;

		foreach(cell, plan->targetlist)
			old = lappend(old, lfirst_node(TargetEntry, cell)->expr);
		agg->runCondition = (List *) from_columns((Node *) agg->runCondition, old);
		agg->runCondition = (List *) llama_replace((Node *) agg->runCondition, exprs, 1, 0);
	}
	plan->targetlist = llama_target_list(copyObject(exprs));
}

/*
 * Find calls in the arguments of aggregates that every input row is an argument
 * of: a walker.  Those that combine take the states of other aggregates.
 */
static bool
find_aggregate_calls(Node *node, List **calls)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Aggref	   *aggregate = (Aggref *) node;

		if (aggregate->aggfilter == NULL && !DO_AGGSPLIT_COMBINE(aggregate->aggsplit))
			(void) llama_find_calls((Node *) aggregate->args, calls);
		return false;
	}
	if (IsA(node, WindowFunc))
	{
		WindowFunc *function = (WindowFunc *) node;

		if (function->winagg && function->aggfilter == NULL)
			(void) llama_find_calls((Node *) function->args, calls);
		return false;
	}
	return expression_tree_walker(node, find_aggregate_calls, calls);
}

/*
 * Is every input row of a WindowAgg in the frame of some row?  Then aggregates
 * over its windows take each of them, unless a run condition ends it early.
 * Other window functions choose their rows themselves.
 */
static bool
frames_have_all_rows(const WindowAgg *agg)
{
	return (agg->frameOptions & FRAMEOPTION_START_UNBOUNDED_PRECEDING) != 0 &&
		(agg->frameOptions & (FRAMEOPTION_END_CURRENT_ROW | FRAMEOPTION_END_UNBOUNDED_FOLLOWING)) != 0 &&
		(agg->frameOptions & FRAMEOPTION_EXCLUSION) == 0 && agg->runCondition == NIL;
}

static List *
aggregate_calls(const Plan *plan)
{
	List	   *calls = NIL;

	if (IsA(plan, WindowAgg) && frames_have_all_rows((const WindowAgg *) plan))
		(void) find_aggregate_calls((Node *) plan->targetlist, &calls);
	if (IsA(plan, Agg))
	{
		(void) find_aggregate_calls((Node *) plan->targetlist, &calls);
		(void) find_aggregate_calls((Node *) plan->qual, &calls);
	}
	return calls;
}

/* Replace expressions by columns, in aggregates only. */
static Node *
to_columns_in_aggregates(Node *node, Columns *columns)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref) || IsA(node, WindowFunc))
		return expression_tree_mutator(node, to_columns, columns);
	return expression_tree_mutator(node, to_columns_in_aggregates, columns);
}

/*
 * Put batch nodes below an aggregation for calls in its aggregates' arguments.
 * Their results are further columns behind those that it groups by.
 */
static void
batch_aggregate_inputs(LlamaRewrite *rewrite, Plan *plan)
{
	List	   *calls = aggregate_calls(plan);

	if (calls == NIL || llama_children_have_effects(rewrite, plan) ||
		arguments_have_effects((Node *) plan->targetlist, rewrite) ||
		arguments_have_effects((Node *) plan->qual, rewrite))
		return;
	for (int stage = 0; calls != NIL && stage < LLAMA_MAX_STAGES; stage++)
	{
		Columns		columns = {calls, list_length(plan->lefttree->targetlist) + 1, OUTER_VAR};

		plan->lefttree = &llama_make_batch(rewrite, plan->lefttree, copyObject(calls))->scan.plan;
		plan->targetlist = (List *) to_columns_in_aggregates((Node *) plan->targetlist, &columns);
		plan->qual = (List *) to_columns_in_aggregates((Node *) plan->qual, &columns);
		calls = aggregate_calls(plan);
	}
}

/*
 * Calls in the arguments of set-returning functions, which are evaluated once for
 * each input row.  What stands beside them in the select list is evaluated for
 * each row of the result, of which there may be none.
 */
static List *
set_function_calls(const Plan *plan)
{
	List	   *calls = NIL;
	ListCell   *cell;

	if (!IsA(plan, ProjectSet))
		return NIL;
	foreach(cell, plan->targetlist)
	{
		FuncExpr   *function = (FuncExpr *) lfirst_node(TargetEntry, cell)->expr;

		if (IsA(function, FuncExpr) && function->funcretset)
			(void) llama_find_calls((Node *) function->args, &calls);
	}
	return calls;
}

/* Put batch nodes below a ProjectSet for them. */
static void
batch_set_functions(LlamaRewrite *rewrite, Plan *plan)
{
	List	   *calls = set_function_calls(plan);

	if (calls == NIL || plan->lefttree == NULL || llama_children_have_effects(rewrite, plan) ||
		arguments_have_effects((Node *) plan->targetlist, rewrite))
		return;
	for (int stage = 0; calls != NIL && stage < LLAMA_MAX_STAGES; stage++)
	{
		int			first = list_length(plan->lefttree->targetlist) + 1;
		ListCell   *cell;

		plan->lefttree = &llama_make_batch(rewrite, plan->lefttree, copyObject(calls))->scan.plan;
		foreach(cell, plan->targetlist)
		{
			FuncExpr   *function = (FuncExpr *) lfirst_node(TargetEntry, cell)->expr;

			if (IsA(function, FuncExpr) && function->funcretset)
				function->args = (List *) llama_replace((Node *) function->args, calls, first, OUTER_VAR);
		}
		calls = set_function_calls(plan);
	}
}

/*
 * The same for an outer join with calls in its conditions, where nothing has
 * effects: its conditions and target list go above the node that completes it.
 */
static Plan *
batch_outer_join(LlamaRewrite *rewrite, Plan *plan)
{
	List	   *quals;
	List	   *target_list;

	plan = llama_batch_outer_join(rewrite, plan, &quals, &target_list);
	while (quals != NIL && !llama_has_calls(linitial(quals)))
	{
		plan->qual = lappend(plan->qual, to_scan_vars(linitial(quals), NULL));
		quals = list_delete_first(quals);
	}
	if (quals != NIL || llama_has_calls((Node *) target_list))
		return stack_batches(rewrite, plan, quals, target_list);
	plan->targetlist = (List *) to_scan_vars((Node *) target_list, NULL);
	return plan;
}

/* Put batch nodes above this node if its expressions have calls. */
static Plan *
batch_node(LlamaRewrite *rewrite, Plan *plan)
{
	List	   *below = NIL;
	List	   *above;
	List	   *target_list = plan->targetlist;
	List	   *atoms = NIL;

	if (!can_be_split(plan) || !is_worth(plan))
		return plan;
	if (llama_can_complete(plan) && !expr_has_effects(rewrite, llama_other_expressions(plan)) &&
		!arguments_have_effects((Node *) plan->qual, rewrite) &&
		!arguments_have_effects((Node *) target_list, rewrite) && !inputs_have_effects(rewrite, plan))
		return batch_outer_join(rewrite, plan);
	if (llama_can_move_join_quals(plan))
		above = list_concat_copy(((Join *) plan)->joinqual, plan->qual);
	else
		above = list_copy(plan->qual);
	while (above != NIL && !llama_has_calls(linitial(above)))
	{
		below = lappend(below, linitial(above));
		above = list_delete_first(above);
	}
	if (above == NIL && !llama_has_calls((Node *) target_list))
		return plan;

	(void) find_atoms((Node *) above, &atoms);
	(void) find_atoms((Node *) target_list, &atoms);
	if (expression_returns_set((Node *) target_list) ||
		arguments_have_effects((Node *) above, rewrite) ||
		arguments_have_effects((Node *) target_list, rewrite) ||
		node_has_effects(rewrite, plan, below, atoms) || inputs_have_effects(rewrite, plan))
		return plan;

	if (llama_can_move_join_quals(plan))
	{
		((Join *) plan)->joinqual = NIL;
		((Join *) plan)->inner_unique = false;
	}
	set_target_list(plan, atoms);
	plan->qual = below;
	/* An Append that waits for several at once would have to see them itself. */
	plan->async_capable = false;
	return stack_batches(rewrite, plan,
						 (List *) llama_replace((Node *) above, atoms, 1, OUTER_VAR),
						 (List *) llama_replace((Node *) target_list, atoms, 1, OUTER_VAR));
}

/* Is the input of this node read to its end if the node is? */
static bool
reads_all_input(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_ModifyTable:
		case T_Result:
		case T_SubqueryScan:
		case T_Append:
		case T_Sort:
			return true;
		default:
			return false;
	}
}

/* Rewrite a plan from its leaves up.  alone: the node itself must stay. */
static Plan *
batch_plan(LlamaRewrite *rewrite, Plan *plan, bool alone)
{
	bool		reads_all = rewrite->reads_all;
	ListCell   *cell;

	if (plan == NULL)
		return NULL;
	rewrite->reads_all = (reads_all || IsA(plan, ModifyTable)) && reads_all_input(plan);
	switch (nodeTag(plan))
	{
		case T_Append:
			foreach(cell, ((Append *) plan)->appendplans)
				lfirst(cell) = batch_plan(rewrite, lfirst(cell), false);
			break;
		case T_MergeAppend:
			foreach(cell, ((MergeAppend *) plan)->mergeplans)
				lfirst(cell) = batch_plan(rewrite, lfirst(cell), false);
			break;
		case T_SubqueryScan:
			{
				SubqueryScan *scan = (SubqueryScan *) plan;

				scan->subplan = batch_plan(rewrite, scan->subplan, false);
				break;
			}
		default:
			break;
	}
	/* Another extension's node: what it demands of its children is unknown. */
	if (!IsA(plan, CustomScan))
	{
		/* A merge join sets marks in its inner input; a Result hands them down. */
		plan->lefttree = batch_plan(rewrite, plan->lefttree, alone && IsA(plan, Result));
		llama_batch_loop_params(rewrite, plan);
		plan->righttree = batch_plan(rewrite, plan->righttree, IsA(plan, MergeJoin));
	}
	rewrite->reads_all = reads_all;
	batch_aggregate_inputs(rewrite, plan);
	batch_set_functions(rewrite, plan);
	llama_batch_join_keys(rewrite, plan);
	if (alone)
		return plan;
	return IsA(plan, Limit) ? llama_batch_limit((Limit *) plan, &rewrite->next_node_id) :
		batch_node(rewrite, plan);
}

/* ----------------------------------------------------------------
 *		Statements
 * ----------------------------------------------------------------
 */

/* Are there calls at all?  And which is the largest node id? */
static bool
plan_has_calls(Plan *plan, int *largest_id)
{
	ListCell   *cell;
	bool		found;

	if (plan == NULL)
		return false;
	*largest_id = Max(*largest_id, plan->plan_node_id);
	found = llama_has_calls((Node *) plan->targetlist) || llama_has_calls((Node *) plan->qual) ||
		llama_can_move_join_quals(plan) || llama_can_complete(plan) ||
		llama_join_key_calls(plan) != NIL || aggregate_calls(plan) != NIL || set_function_calls(plan) != NIL;
	foreach(cell, llama_other_children(plan))
		found = plan_has_calls(lfirst(cell), largest_id) || found;
	found = plan_has_calls(plan->lefttree, largest_id) || found;
	return plan_has_calls(plan->righttree, largest_id) || found;
}

void
llama_batch_statement(PlannedStmt *statement)
{
	LlamaRewrite rewrite;
	int			largest_id = 0;
	bool		found = plan_has_calls(statement->planTree, &largest_id);
	ListCell   *cell;

	foreach(cell, statement->subplans)
		found = plan_has_calls(lfirst(cell), &largest_id) || found;
	if (!found)
		return;

	rewrite = (LlamaRewrite) {.next_node_id = largest_id + 1, .statement = statement};
	statement->planTree = batch_plan(&rewrite, statement->planTree, false);
	foreach(cell, statement->subplans)
		lfirst(cell) = batch_plan(&rewrite, lfirst(cell), false);
	llama_batch_place(statement);
}
