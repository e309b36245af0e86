/*-------------------------------------------------------------------------
 *
 * batch_ahead.h
 *	  How far a batch node reads ahead.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_BATCH_AHEAD_H
#define LLAMA3_BATCH_AHEAD_H

#include "nodes/execnodes.h"
#include "nodes/extensible.h"

/* Who takes the rows of a node: an Integer in the plan. */
typedef enum LlamaReader
{
	LLAMA_READS_SOME = 0,		/* it may stop at any row */
	LLAMA_READS_AS_STATEMENT,	/* all, if the statement is run to its end */
	LLAMA_READS_ALL				/* all, once it has begun */
} LlamaReader;

/* What a node knows of the rows that will still be taken. */
typedef struct LlamaAhead
{
	PlanState  *node;
	LlamaReader reader;
	bool		has_condition;	/* not each row that is read is given */
	ExprState  *count;			/* of the Limit above, or NULL: there is none */
	ExprState  *offset;
	bool		is_loose;		/* one of its rows may be many of the Limit's */
	int			param;			/* of the rows given by all nodes of the Limit; -1: this is the only one */

	bool		is_known;		/* wanted, since the last rescan */
	int64		wanted;			/* rows to be given; negative: unknown */
	int64		spare;			/* rows that may be begun beyond these */
	int64		grown;			/* and more, as rows did not pass above */
	int64		n_given;		/* rows since then */
	int64		n_passed;		/* since the last rescan */
	int64		n_failed;
} LlamaAhead;

/* How a node's plan tells its reader, is_loose and param: a list of integers. */
#define llama_ahead_place(reader, is_loose, param)	list_make3_int(reader, is_loose, param)

/* Set it up from that list, and the plan's custom_exprs, the Limit's count and offset. */
extern void llama_ahead_init(LlamaAhead *ahead, PlanState *node, const List *place);

/* The node is asked for its rows from the first one on again. */
extern void llama_ahead_restart(LlamaAhead *ahead);

/*
 * How many rows may be begun and not yet taken now, and how many of them only
 * because rows did not pass.
 */
extern int64 llama_ahead_rows(LlamaAhead *ahead, int64 *grown);

/* A row was taken, and did or did not pass the node's condition. */
extern void llama_ahead_taken(LlamaAhead *ahead, bool passed);

/*
 * Another batch node above will take that many rows, as things stand, and grown
 * more may be begun.
 */
extern void llama_ahead_tell(LlamaAhead *ahead, int64 wanted, int64 grown);

/* Set the executor's hook.  Called once, from _PG_init. */
extern void llama_ahead_hook(void);

#endif							/* LLAMA3_BATCH_AHEAD_H */
