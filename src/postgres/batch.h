/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Batching the rows of a query: between planner and executor.
 *
 * The planner's part (batch_find.c, batch_plan.c, batch_join.c, batch_outer.c)
 * takes calls of our functions out of a plan node's expressions and puts a
 * custom scan node above it; the executor's part (batch.c) runs that node.  A
 * node's scan tuple, described by its custom_scan_tlist, is the columns of the
 * node below (as OUTER_VARs) followed by the calls' results; custom_private holds
 * the number of columns (an Integer), the numbers of those without which a row's
 * calls are not made (a list), who takes the rows (a list, see batch_ahead.h)
 * and, in the nodes whose rows are the statement's progress, how many it is
 * expected to read (a Float; negative: unknown).  Below a Limit custom_exprs are
 * its count and its offset.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_BATCH_H
#define LLAMA3_BATCH_H

#include "nodes/extensible.h"
#include "nodes/plannodes.h"

#include "call.h"

#define LLAMA_BATCH_NAME	"Llama Batch"

/* How far calls within calls are taken apart; beyond they are simply called. */
#define LLAMA_MAX_STAGES	32

/* The work on a statement's plans. */
typedef struct LlamaRewrite
{
	PlannedStmt *statement;
	int			next_node_id;	/* for new plan nodes */
	bool		reads_all;		/* the node at hand is read to its end in any case */
	bool		runs_again;		/* and is run for each row of another */
} LlamaRewrite;

/*
 * batch_find.c.  Add to calls, each once, those in node (an expression or a
 * list) that are evaluated whenever node is and whose arguments have no calls.
 * A walker; always false at the end.
 */
extern bool llama_find_calls(Node *node, List **calls);
/* These calls alone, which can be made now; are there any? */
extern List *llama_ready_calls(Node *node);
extern bool llama_has_calls(Node *node);

/* planner.c: set the planner's hook.  Called once, from _PG_init. */
extern void llama_planner_init(void);

/* batch_plan.c: put batch nodes into a statement's plans. */
extern void llama_batch_statement(PlannedStmt *statement);
/* The columns of a plan node, as the node above sees them: a list of OUTER_VARs. */
extern List *llama_outer_vars(const Plan *plan);
/* A target list of these expressions. */
extern List *llama_target_list(List *exprs);
/* A plan's children beside lefttree and righttree. */
extern List *llama_other_children(const Plan *plan);
/* Replace those of exprs in node by columns of varno, the first of which is column first. */
extern Node *llama_replace(Node *node, List *exprs, int first, int varno);
/*
 * A batch node over plan that makes the calls, whose arguments are OUTER_VARs.
 * Its target list is what it has: plan's columns and the calls' results.
 */
extern CustomScan *llama_make_batch(LlamaRewrite *rewrite, Plan *plan, List *calls);
/* Make its calls only for rows in which none of these columns is NULL. */
extern void llama_batch_only_with(CustomScan *batch, List *columns);
/* The columns of a custom node's scan tuple, as its target list. */
extern List *llama_scan_target_list(List *custom_scan_tlist);
/* Does running a plan have effects that depend on how many of its rows are read? */
extern bool llama_plan_has_effects(LlamaRewrite *rewrite, const Plan *plan);
/* Does running any of the plans that it reads have? */
extern bool llama_children_have_effects(LlamaRewrite *rewrite, const Plan *plan);
/* What a plan node evaluates for its rows beside target list and qual. */
extern List *llama_other_expressions(const Plan *plan);
/* Is it a batch node? */
extern bool llama_is_batch(const Plan *plan);

/* batch_join.c.  Has a join conditions with calls that may as well be checked after it? */
extern bool llama_can_move_join_quals(const Plan *plan);
/* May it be told to go on after the first match, and asks no more for that? */
extern bool llama_may_find_more(const Plan *plan);
/* The calls that a join can be given as columns of its inputs, for its keys. */
extern List *llama_join_key_calls(const Plan *plan);
/* Put batch nodes below a hash or merge join for them, whose inputs have theirs. */
extern void llama_batch_join_keys(LlamaRewrite *rewrite, Plan *plan);
/* And below a nested loop, whose inner input has none yet. */
extern void llama_batch_loop_params(LlamaRewrite *rewrite, Plan *plan);

/* batch_place.c: tell a statement's batch nodes what they must know of their place. */
extern void llama_batch_place(PlannedStmt *statement);

/*
 * batch_limit.c.  A plan that gives the rows of limit, whose batch nodes (its
 * input, or below a Gather) make no calls for rows that it drops, where that
 * can be; next_node_id is for new plan nodes.
 */
extern Plan *llama_batch_limit(Limit *limit, int *next_node_id);

/*
 * The kind of a function by its OID, NULL when it is not one of ours that can
 * be begun and finished apart.
 */
extern const LlamaCallKind *llama_function_kind(Oid function);

/* batch.c */
extern const CustomScanMethods llama_batch_methods;

#endif							/* LLAMA3_BATCH_H */
