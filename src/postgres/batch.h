/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Batching the rows of a query: between planner and executor.
 *
 * The planner's part (batch_find.c, batch_plan.c) takes calls of our functions
 * out of a plan node's expressions and puts a custom scan node above it; the
 * executor's part (batch.c) runs that node.  A node's scan tuple, described by
 * its custom_scan_tlist, is the columns of the node below (as OUTER_VARs)
 * followed by the calls' results; custom_private holds the number of columns
 * (an Integer) and, in the nodes whose rows are the statement's progress, how
 * many it is expected to read (a Float; negative: unknown).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_BATCH_H
#define LLAMA3_BATCH_H

#include "nodes/extensible.h"
#include "nodes/plannodes.h"

#include "call.h"

#define LLAMA_BATCH_NAME	"Llama Batch"

/*
 * batch_find.c.  Add to calls, each once, those in node (an expression or a
 * list) that are evaluated whenever node is and whose arguments have no calls.
 * A walker; always false at the end.
 */
extern bool llama_find_calls(Node *node, List **calls);

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
/* Is it a batch node? */
extern bool llama_is_batch(const Plan *plan);

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
