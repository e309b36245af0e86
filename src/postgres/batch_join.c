/*-------------------------------------------------------------------------
 *
 * batch_join.c
 *	  Batch nodes and joins: what may be checked after a join, and the calls in
 *	  a join's keys.
 *
 * Conditions of an inner join may as well be checked after it, in batch nodes
 * (batch_plan.c), and so those of a join that is known to find at most one inner
 * row: that it stops there saves the search for more, and nothing else.
 *
 * A key of a hash or merge join is a part of one input's rows, computed for each
 * row that is read.  The batch node for calls in it goes below the join, and its
 * results are further columns of the join's input:
 *
 *		Hash Join (f(a.x) = f(b.x))		Hash Join (c = d)
 *		  -> scan of a			=>		  -> batch node: c = f(a.x)
 *		  -> Hash								-> scan of a
 *			   -> scan of b				  -> Hash
 *											   -> batch node: d = f(b.x)
 *													-> scan of b
 *
 * A merge join sets marks in its inner input, which a batch node does not know;
 * mostly there is a Sort, and the key is a column of what it sorts.
 *
 * A nested loop may hand a column of its outer row to an index scan, which calls
 * the function with it to know what to look for, once for each outer row.  Then
 * the call is made above the outer input, and the loop hands over the result.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "utils/lsyscache.h"

#include "batch.h"

/* ----------------------------------------------------------------
 *		Conditions that may be checked after the join
 * ----------------------------------------------------------------
 */

/* Has an expression columns of this input?  A walker. */
static bool
has_columns_of(Node *node, const int *varno)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == *varno;
	return expression_tree_walker(node, has_columns_of, (void *) varno);
}

static bool
is_of_one_input(Node *node, int varno, int other)
{
	return has_columns_of(node, &varno) && !has_columns_of(node, &other);
}

/* May it be by this condition that a join finds at most one inner row? */
static bool
may_make_unique(Node *condition)
{
	OpExpr	   *expr = (OpExpr *) condition;
	Node	   *left;
	Node	   *right;

	if (!IsA(expr, OpExpr) || list_length(expr->args) != 2)
		return false;
	left = linitial(expr->args);
	right = lsecond(expr->args);
	return (op_mergejoinable(expr->opno, exprType(left)) ||
			op_hashjoinable(expr->opno, exprType(left))) &&
		((is_of_one_input(left, OUTER_VAR, INNER_VAR) && is_of_one_input(right, INNER_VAR, OUTER_VAR)) ||
		 (is_of_one_input(left, INNER_VAR, OUTER_VAR) && is_of_one_input(right, OUTER_VAR, INNER_VAR)));
}

/*
 * A join that stops at the first match asks no more about the inner rows behind
 * it.  Does it find at most one also by what is checked before and with the
 * first condition that has calls, so that no more is asked when it goes on?
 */
static bool
is_unique_before_calls(const Join *join)
{
	bool		after_calls = false;
	ListCell   *cell;

	foreach(cell, join->joinqual)
	{
		if (after_calls && may_make_unique(lfirst(cell)))
			return false;
		after_calls = after_calls || llama_has_calls(lfirst(cell));
	}
	return true;
}

/*
 * Can the join go on after the first match?  Some have been told that they need
 * not keep what that takes, which is only where no conditions but the keys are.
 */
static bool
can_go_on(const Plan *plan)
{
	const Plan *inner = plan->righttree;

	return !(IsA(plan, MergeJoin) && ((const MergeJoin *) plan)->skip_mark_restore) &&
		!(IsA(inner, Memoize) && ((const Memoize *) inner)->singlerow);
}

bool
llama_may_find_more(const Plan *plan)
{
	const Join *join = (const Join *) plan;

	return !join->inner_unique || (can_go_on(plan) && is_unique_before_calls(join));
}

bool
llama_can_move_join_quals(const Plan *plan)
{
	const Join *join = (const Join *) plan;

	return (IsA(plan, NestLoop) || IsA(plan, MergeJoin) || IsA(plan, HashJoin)) &&
		join->jointype == JOIN_INNER && llama_has_calls((Node *) join->joinqual) &&
		llama_may_find_more(plan);
}

/* ----------------------------------------------------------------
 *		Keys
 * ----------------------------------------------------------------
 */

/*
 * Those of some calls that can be made in another plan node: a subquery is run
 * by the node that it was planned for.
 */
static List *
without_subplans(List *calls)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, calls)
	{
		if (!contain_subplans(lfirst(cell)))
			result = lappend(result, lfirst(cell));
	}
	return result;
}

/* Does a hash join keep the rows of an input that have NULL in a key? */
static bool
keeps_null_keys(JoinType type, int varno)
{
	if (varno == OUTER_VAR)
		return type != JOIN_INNER && type != JOIN_RIGHT && type != JOIN_SEMI;
	return type != JOIN_INNER && type != JOIN_LEFT && type != JOIN_SEMI && type != JOIN_ANTI;
}

/*
 * Calls in the first of the keys that has some.  A hash join that need not keep
 * a row looks at no key behind one that is NULL: so the call is made only for
 * rows that have all columns in needed, and none is found behind a key that is
 * no column.
 */
static List *
hash_key_calls(const HashJoin *join, List *keys, int varno, List **needed)
{
	bool		keeps_nulls = keeps_null_keys(join->join.jointype, varno);
	ListCell   *key_cell;
	ListCell   *operator_cell;

	*needed = NIL;
	forboth(key_cell, keys, operator_cell, join->hashoperators)
	{
		Node	   *key = lfirst(key_cell);
		List	   *calls = without_subplans(llama_ready_calls(key));

		if (calls != NIL)
			return calls;
		if (keeps_nulls || !op_strict(lfirst_oid(operator_cell)))
			continue;
		while (IsA(key, RelabelType))
			key = (Node *) ((RelabelType *) key)->arg;
		if (!IsA(key, Var))
			return NIL;
		*needed = lappend_int(*needed, ((Var *) key)->varattno);
	}
	return NIL;
}

/*
 * Calls in the keys of the outer input, as expressions over OUTER_VARs, and the
 * columns without which they are not made.
 */
static List *
outer_key_calls(const Plan *plan, List **needed)
{
	List	   *calls = NIL;
	ListCell   *cell;

	*needed = NIL;
	if (IsA(plan, HashJoin))
		return hash_key_calls((const HashJoin *) plan, ((const HashJoin *) plan)->hashkeys, OUTER_VAR, needed);
	if (IsA(plan, MergeJoin))
	{
		/* All keys are looked at.  The planner has put the outer one to the left. */
		foreach(cell, ((const MergeJoin *) plan)->mergeclauses)
			(void) llama_find_calls(linitial(lfirst_node(OpExpr, cell)->args), &calls);
	}
	return without_subplans(calls);
}

/* The same of the inner input, as expressions over the OUTER_VARs of the Hash. */
static List *
inner_key_calls(const Plan *plan, List **needed)
{
	*needed = NIL;
	return IsA(plan, HashJoin) && IsA(plan->righttree, Hash) ?
		hash_key_calls((const HashJoin *) plan, ((const Hash *) plan->righttree)->hashkeys, INNER_VAR, needed) : NIL;
}

/* Does the join give rows without one of this input? */
static bool
is_nullable(const Plan *join, int varno)
{
	JoinType	type = ((const Join *) join)->jointype;

	if (varno == OUTER_VAR)
		return type != JOIN_INNER && type != JOIN_LEFT && type != JOIN_SEMI && type != JOIN_ANTI;
	return type != JOIN_INNER && type != JOIN_RIGHT;
}

/* Replace calls by columns of an input wherever the join has a row of it. */
static void
replace_in_join(Plan *plan, List *calls, int first, int varno)
{
	Join	   *join = (Join *) plan;

	if (IsA(plan, HashJoin))
	{
		HashJoin   *hash_join = (HashJoin *) plan;

		hash_join->hashclauses = (List *) llama_replace((Node *) hash_join->hashclauses, calls, first, varno);
		if (varno == OUTER_VAR)
			hash_join->hashkeys = (List *) llama_replace((Node *) hash_join->hashkeys, calls, first, varno);
	}
	if (IsA(plan, MergeJoin))
	{
		MergeJoin  *merge_join = (MergeJoin *) plan;

		merge_join->mergeclauses = (List *) llama_replace((Node *) merge_join->mergeclauses, calls, first, varno);
	}
	join->joinqual = (List *) llama_replace((Node *) join->joinqual, calls, first, varno);
	if (is_nullable(plan, varno))
		return;
	plan->qual = (List *) llama_replace((Node *) plan->qual, calls, first, varno);
	plan->targetlist = (List *) llama_replace((Node *) plan->targetlist, calls, first, varno);
}

/* Add the Params in an expression that the executor sets: a walker. */
static bool
find_params(Node *node, Bitmapset **params)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		*params = bms_add_member(*params, ((Param *) node)->paramid);
	return expression_tree_walker(node, find_params, params);
}

/* A batch node over a join's input, which may so depend on Params that only the join did. */
static Plan *
batch_input(LlamaRewrite *rewrite, Plan *input, List *calls, List *needed)
{
	CustomScan *batch = llama_make_batch(rewrite, input, copyObject(calls));

	(void) find_params((Node *) calls, &batch->scan.plan.extParam);
	(void) find_params((Node *) calls, &batch->scan.plan.allParam);
	llama_batch_only_with(batch, needed);
	return &batch->scan.plan;
}

/* Have the calls made for each row of the outer input. */
static void
batch_outer_input(LlamaRewrite *rewrite, Plan *plan, List *calls, List *needed)
{
	int			first = list_length(plan->lefttree->targetlist) + 1;

	plan->lefttree = batch_input(rewrite, plan->lefttree, calls, needed);
	replace_in_join(plan, calls, first, OUTER_VAR);
}

/* The columns that a Hash reads are those that its join sees. */
static Node *
to_inner_vars(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)
	{
		Var		   *var = copyObject((Var *) node);

		var->varno = INNER_VAR;
		return (Node *) var;
	}
	return expression_tree_mutator(node, to_inner_vars, context);
}

/* Have the calls made for each row that goes into the hash table. */
static void
batch_hashed_input(LlamaRewrite *rewrite, Plan *plan, List *calls, List *needed)
{
	Hash	   *hash = (Hash *) plan->righttree;
	int			first = list_length(hash->plan.lefttree->targetlist) + 1;

	hash->plan.lefttree = batch_input(rewrite, hash->plan.lefttree, calls, needed);
	hash->plan.targetlist = llama_target_list(llama_outer_vars(hash->plan.lefttree));
	hash->hashkeys = (List *) llama_replace((Node *) hash->hashkeys, calls, first, OUTER_VAR);
	replace_in_join(plan, (List *) to_inner_vars((Node *) calls, NULL), first, INNER_VAR);
}

/* ----------------------------------------------------------------
 *		What a nested loop hands to an index scan
 * ----------------------------------------------------------------
 */

/* The index scan below a nested loop that looks for a value once for each outer row. */
static Plan *
looped_scan(const Plan *plan)
{
	Plan	   *inner = plan->righttree;

	if (!IsA(plan, NestLoop))
		return NULL;
	while (IsA(inner, Memoize) || IsA(inner, BitmapHeapScan))
		inner = inner->lefttree;
	return IsA(inner, IndexScan) || IsA(inner, IndexOnlyScan) || IsA(inner, BitmapIndexScan) ? inner : NULL;
}

static List *
index_conditions(const Plan *scan)
{
	switch (nodeTag(scan))
	{
		case T_IndexScan:
			return ((const IndexScan *) scan)->indexqual;
		case T_IndexOnlyScan:
			return ((const IndexOnlyScan *) scan)->indexqual;
		default:
			return castNode(BitmapIndexScan, scan)->indexqual;
	}
}

/* Params that a nested loop sets, as the columns of its outer row. */
typedef struct LoopParams
{
	List	   *params;			/* of NestLoopParams */
	int			n_found;
} LoopParams;

static Node *
to_outer_vars(Node *node, LoopParams *params)
{
	ListCell   *cell;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Param))
		return expression_tree_mutator(node, to_outer_vars, params);
	foreach(cell, params->params)
	{
		NestLoopParam *param = lfirst(cell);

		if (((Param *) node)->paramkind == PARAM_EXEC && param->paramno == ((Param *) node)->paramid)
		{
			params->n_found++;
			return copyObject((Node *) param->paramval);
		}
	}
	return copyObject(node);
}

/* A call that an index scan makes, over the outer row of the loop around it, or NULL. */
static Node *
call_over_outer_row(const NestLoop *loop, Node *call)
{
	LoopParams	params = {.params = loop->nestParams};
	Node	   *result = to_outer_vars(call, &params);

	return params.n_found > 0 ? result : NULL;
}

/* The first such call that an index scan makes to know what to look for, or NULL. */
static Node *
looked_for_call(const Plan *plan)
{
	const Plan *scan = looped_scan(plan);
	ListCell   *cell;

	if (scan == NULL)
		return NULL;
	foreach(cell, without_subplans(llama_ready_calls((Node *) index_conditions(scan))))
	{
		if (call_over_outer_row((const NestLoop *) plan, lfirst(cell)) != NULL)
			return lfirst(cell);
	}
	return NULL;
}

/* Replace an expression by another: a mutator. */
typedef struct Replacement
{
	Node	   *from;
	Node	   *to;
} Replacement;

static Node *
replace_one(Node *node, Replacement *replacement)
{
	if (node == NULL)
		return NULL;
	if (equal(node, replacement->from))
		return copyObject(replacement->to);
	return expression_tree_mutator(node, replace_one, replacement);
}

#define REPLACE(list)	((list) = (List *) replace_one((Node *) (list), replacement))

/* Replace a call by a Param in a node between a nested loop and the index it looks into. */
static void
replace_in_looped(Plan *plan, Replacement *replacement)
{
	int			param = castNode(Param, replacement->to)->paramid;

	plan->extParam = bms_add_member(plan->extParam, param);
	plan->allParam = bms_add_member(plan->allParam, param);
	REPLACE(plan->targetlist);
	REPLACE(plan->qual);
	switch (nodeTag(plan))
	{
		case T_Memoize:
			/* It changes with those that it is made of, never alone. */
			((Memoize *) plan)->keyparamids = bms_add_member(((Memoize *) plan)->keyparamids, param);
			REPLACE(((Memoize *) plan)->param_exprs);
			break;
		case T_BitmapHeapScan:
			REPLACE(((BitmapHeapScan *) plan)->bitmapqualorig);
			break;
		case T_BitmapIndexScan:
			REPLACE(((BitmapIndexScan *) plan)->indexqual);
			REPLACE(((BitmapIndexScan *) plan)->indexqualorig);
			break;
		case T_IndexScan:
			REPLACE(((IndexScan *) plan)->indexqual);
			REPLACE(((IndexScan *) plan)->indexqualorig);
			break;
		case T_IndexOnlyScan:
			REPLACE(((IndexOnlyScan *) plan)->indexqual);
			REPLACE(((IndexOnlyScan *) plan)->recheckqual);
			break;
		default:
			break;
	}
}

/*
 * Have the call made above the outer input, and its result handed to the inner
 * one, where the planner may have left the same condition also as a filter.
 */
static void
batch_looked_for(LlamaRewrite *rewrite, Plan *plan, Node *call)
{
	NestLoop   *loop = (NestLoop *) plan;
	Plan	   *scan = looped_scan(plan);
	int			column = list_length(plan->lefttree->targetlist) + 1;
	NestLoopParam *handed = makeNode(NestLoopParam);
	Param	   *param = makeNode(Param);
	Replacement replacement = {copyObject(call), (Node *) param};

	param->paramkind = PARAM_EXEC;
	param->paramid = list_length(rewrite->statement->paramExecTypes);
	param->paramtype = exprType(call);
	param->paramtypmod = exprTypmod(call);
	param->paramcollid = exprCollation(call);
	param->location = -1;
	rewrite->statement->paramExecTypes = lappend_oid(rewrite->statement->paramExecTypes, param->paramtype);

	batch_outer_input(rewrite, plan, list_make1(call_over_outer_row(loop, call)), NIL);
	handed->paramno = param->paramid;
	handed->paramval = makeVar(OUTER_VAR, column, param->paramtype, param->paramtypmod, param->paramcollid, 0);
	loop->nestParams = lappend(loop->nestParams, handed);
	for (Plan *inner = plan->righttree;; inner = inner->lefttree)
	{
		replace_in_looped(inner, &replacement);
		if (inner == scan)
			break;
	}
}

/* ----------------------------------------------------------------
 *		All of them
 * ----------------------------------------------------------------
 */

List *
llama_join_key_calls(const Plan *plan)
{
	Node	   *call = looked_for_call(plan);
	List	   *needed;
	List	   *calls = list_concat(outer_key_calls(plan, &needed), inner_key_calls(plan, &needed));

	return call == NULL ? calls : lappend(calls, call);
}

/* Does reading ahead in an input have effects?  A join may end before its inputs do. */
static bool
input_has_effects(LlamaRewrite *rewrite, const Plan *input)
{
	bool		reads_all = rewrite->reads_all;
	bool		result;

	rewrite->reads_all = false;
	result = llama_plan_has_effects(rewrite, input);
	rewrite->reads_all = reads_all;
	return result;
}

void
llama_batch_loop_params(LlamaRewrite *rewrite, Plan *plan)
{
	Node	   *call;

	if (looked_for_call(plan) == NULL || input_has_effects(rewrite, plan->lefttree))
		return;
	for (int stage = 0; stage < LLAMA_MAX_STAGES && (call = looked_for_call(plan)) != NULL; stage++)
		batch_looked_for(rewrite, plan, call);
}

void
llama_batch_join_keys(LlamaRewrite *rewrite, Plan *plan)
{
	List	   *calls;
	List	   *needed;

	if (outer_key_calls(plan, &needed) != NIL && !input_has_effects(rewrite, plan->lefttree))
	{
		for (int stage = 0; stage < LLAMA_MAX_STAGES && (calls = outer_key_calls(plan, &needed)) != NIL; stage++)
			batch_outer_input(rewrite, plan, calls, needed);
	}
	if (inner_key_calls(plan, &needed) != NIL && !input_has_effects(rewrite, plan->righttree->lefttree))
	{
		for (int stage = 0; stage < LLAMA_MAX_STAGES && (calls = inner_key_calls(plan, &needed)) != NIL; stage++)
			batch_hashed_input(rewrite, plan, calls, needed);
	}
}
