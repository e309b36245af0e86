/*-------------------------------------------------------------------------
 *
 * placement.h
 *	  Which node of a machine each compute thread runs on, and which nodes
 *	  hold the pages that the threads share.
 *
 * placement.c decides, by its arguments alone; numa.c knows the machine.  What
 * the kernel or a container refuses is left undone: it is only slower.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_PLACEMENT_H
#define L3_PLACEMENT_H

#include <sched.h>

#include "engine.h"

/* Node numbers that fit a set of nodes; a machine with CPUs on others is left alone. */
#define L3_MAX_NODES	64

/* Of a machine that is not known, or of which nothing may be used, all is 0. */
typedef struct L3Machine
{
	cpu_set_t	cpus[L3_MAX_NODES];	/* of each node, that this process may use */
	uint64_t	memory;			/* nodes that may be given pages: bit n, node n */
	int			memory_errno;	/* why none, or 0 */
} L3Machine;

/*
 * An engine's compute threads, among those of all engines on the machine.  Its
 * thread t is number first + t of n_all.
 */
typedef struct L3Team
{
	int			first;
	int			n;
	int			n_all;
} L3Team;

/* Node that thread t of the team runs on; -1: any, the machine has no two. */
int			l3_placement_node(const L3Machine *machine, const L3Team *team, int t);

/* Nodes that the team's threads run on; 0: any. */
uint64_t	l3_placement_nodes(const L3Machine *machine, const L3Team *team);

/* Nodes to interleave the pages over that the team shares; 0: as it comes. */
uint64_t	l3_placement_pages(const L3Machine *machine, const L3Team *team);

/* The compute threads of the engine that has these options. */
L3Team		l3_placement_team(const L3EngineOptions *options);

/*
 * Read the nodes under a directory like L3_NODES with their CPUs that the
 * calling thread may use.  All 0 when there are not two, or they are not
 * understood, or directory is NULL.
 */
void		l3_numa_read(const char *directory, L3Machine *machine);

/*
 * Interleave the pages of a private mapping, whole pages that nobody has
 * touched yet, over the nodes; 0 leaves it alone.
 */
void		l3_numa_interleave(void *memory, size_t bytes, uint64_t nodes);

#endif							/* L3_PLACEMENT_H */
