/*-------------------------------------------------------------------------
 *
 * outer_join.h
 *	  Conditions with calls in outer joins: plan nodes that number a join's
 *	  inputs, and that complete it after the calls.
 *
 * A numbering node's scan tuple is the columns of the node below and the row's
 * number, an int8.  A completing node's input has the columns of the outer input
 * that are needed, the last of which is its number, then those of the inner one
 * in the same way, and then results of calls; its scan tuple is the former two.
 * Its custom_private holds the type of the join and the number of outer columns
 * (Integers), and custom_exprs the conditions, over OUTER_VARs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_OUTER_JOIN_H
#define LLAMA3_OUTER_JOIN_H

#include "batch.h"

#define LLAMA_ROW_NUMBER_NAME	"Llama Row Number"
#define LLAMA_OUTER_JOIN_NAME	"Llama Outer Join"

/* Of a row's number, the bits that count rows; those above are the process's. */
#define LLAMA_ROW_NUMBER_BITS	48
#define LLAMA_ROW_NUMBER_MASK	((INT64CONST(1) << LLAMA_ROW_NUMBER_BITS) - 1)

/* row_number.c, outer_join.c */
extern const CustomScanMethods llama_row_number_methods;
extern const CustomScanMethods llama_outer_join_methods;

/*
 * batch_outer.c.  Has an outer join conditions with calls that can be made after
 * it, when the join is completed by a node above?
 */
extern bool llama_can_complete(const Plan *plan);
/*
 * Have it so.  The result gives the rows of the join, without the conditions and
 * the target list of the node, which are made ones over the result's columns, as
 * OUTER_VARs.
 */
extern Plan *llama_batch_outer_join(LlamaRewrite *rewrite, Plan *plan, List **quals,
									List **target_list);

#endif							/* LLAMA3_OUTER_JOIN_H */
