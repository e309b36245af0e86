/*-------------------------------------------------------------------------
 *
 * placement.c
 *	  The policy of placement on a machine with several nodes.
 *
 * Every thread reads all of the weights in the course of time, since whoever
 * is free takes the next task.  So no page has a thread that it should be
 * near, and what counts is that all memory channels work at all times: pages
 * are interleaved over the nodes whose CPUs compute, and threads are spread
 * over the nodes in proportion to their CPUs.  A thread is held to its node and
 * not to one CPU, which leaves the kernel room to make way for others.
 *
 *-------------------------------------------------------------------------
 */
#include "placement.h"

/*
 * The CPUs stand in a row, node after node, and all engines' threads at equal
 * distances along it.  So a node's share of them is its share of the CPUs,
 * rounded up or down: never more than it has CPUs while another has room.
 */
int
l3_placement_node(const L3Machine *machine, const L3Team *team, int t)
{
	int64_t		n_cpus = 0;
	int64_t		place;
	int			n_nodes = 0;
	int			node = 0;

	for (int i = 0; i < L3_MAX_NODES; i++)
	{
		n_cpus += CPU_COUNT(&machine->cpus[i]);
		n_nodes += CPU_COUNT(&machine->cpus[i]) > 0;
	}
	if (n_nodes < 2)
		return -1;
	place = (2 * ((int64_t) team->first + t) + 1) * n_cpus / (2 * (int64_t) team->n_all);
	while (place >= CPU_COUNT(&machine->cpus[node]))
		place -= CPU_COUNT(&machine->cpus[node++]);
	return node;
}

uint64_t
l3_placement_nodes(const L3Machine *machine, const L3Team *team)
{
	uint64_t	nodes = 0;

	for (int t = 0; t < team->n; t++)
	{
		int			node = l3_placement_node(machine, team, t);

		if (node >= 0)
			nodes |= (uint64_t) 1 << node;
	}
	return nodes;
}

uint64_t
l3_placement_pages(const L3Machine *machine, const L3Team *team)
{
	return l3_placement_nodes(machine, team) & machine->memory;
}

L3Team
l3_placement_team(const L3EngineOptions *options)
{
	int			n_workers = options->n_workers > 0 ? options->n_workers : 1;

	return (L3Team)
	{
		.first = options->worker * options->n_threads, .n = options->n_threads,
		.n_all = n_workers * options->n_threads
	};
}
