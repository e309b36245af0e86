/*-------------------------------------------------------------------------
 *
 * cost.h
 *	  What the planner is told of our functions: costs and selectivities.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_COST_H
#define LLAMA3_COST_H

#include "postgres.h"

#include "nodes/primnodes.h"
#include "port/atomics.h"

/* How often llama_filter was true in a database. */
typedef struct LlamaFilterShare
{
	pg_atomic_uint32 database;	/* [A] OID; 0: nobody's yet */
	pg_atomic_uint64 n;			/* [A] answers */
	pg_atomic_uint64 n_true;	/* [A] of those */
} LlamaFilterShare;

/* Databases that are counted; those that come later have the default. */
#define LLAMA_MAX_SHARES	64

/* For shmem.c. */
extern void llama_shares_init(LlamaFilterShare *shares);

/* llama_filter gave this answer. */
extern void llama_count_filter(bool answer);

/*
 * The fraction (0 .. 1) of rows that a condition lets pass, -1 when it is
 * none of ours.
 */
extern double llama_condition_selectivity(const Node *condition);

/*
 * How often this process's planner has asked for a cost of ours: more than
 * before means that the plan has calls.
 */
extern uint64 llama_costs_asked(void);

/* While hidden, calls cost next to nothing.  Returns what was before. */
extern bool llama_hide_costs(bool hidden);

#endif							/* LLAMA3_COST_H */
