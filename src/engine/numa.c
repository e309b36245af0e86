/*-------------------------------------------------------------------------
 *
 * numa.c
 *	  The machine's nodes, read; a memory's pages, placed.
 *
 * This is in llama3.so, too, since who loads a model fills its weights.  There
 * it would be the only use of libnuma, whose constructor would then run in the
 * postmaster of every machine for the few that have several nodes, and whose
 * functions print to stderr what a container refuses.  What is needed of it is
 * a reader for lists of numbers, which takes a directory so that tests can
 * invent machines, and three system calls.
 *
 * Sources: the kernel's Documentation/ABI/stable/sysfs-devices-node and
 * Documentation/admin-guide/mm/numa_memory_policy.rst; set_mempolicy(2),
 * mbind(2), get_mempolicy(2).
 *
 *-------------------------------------------------------------------------
 */
#include "placement.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel takes one from the number of bits that it is told. */
#define NODE_BITS		((unsigned long) L3_MAX_NODES + 1)

/* A list like "0-3,8-11", or nothing; false when it cannot be read. */
static bool
read_list(const char *directory, const char *name, cpu_set_t *set)
{
	char		path[512];
	FILE	   *file;
	int			next = ',';
	bool		ok = true;
	int			low;
	int			high;

	CPU_ZERO(set);
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int) sizeof(path))
		return false;
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (ok && next == ',' && fscanf(file, "%5d", &low) == 1)
	{
		high = low;
		next = fgetc(file);
		if (next == '-')
		{
			ok = fscanf(file, "%5d", &high) == 1;
			next = fgetc(file);
		}
		ok = ok && low >= 0 && high < CPU_SETSIZE;
		for (int i = low; ok && i <= high; i++)
			CPU_SET(i, set);
	}
	ok = ok && (next == '\n' || feof(file));
	fclose(file);
	return ok;
}

/* The nodes' usable CPUs; false unless all of those are on nodes that fit. */
static bool
read_nodes(const char *directory, cpu_set_t *cpus)
{
	cpu_set_t	usable;
	cpu_set_t	nodes;
	cpu_set_t	found;

	if (directory == NULL || sched_getaffinity(0, sizeof(usable), &usable) != 0 ||
		!read_list(directory, "online", &nodes) || CPU_COUNT(&nodes) < 2)
		return false;
	CPU_ZERO(&found);
	for (int node = 0; node < L3_MAX_NODES; node++)
	{
		char		name[32];

		if (!CPU_ISSET(node, &nodes))
			continue;
		snprintf(name, sizeof(name), "node%d/cpulist", node);
		if (!read_list(directory, name, &cpus[node]))
			return false;
		CPU_AND(&cpus[node], &cpus[node], &usable);
		CPU_OR(&found, &found, &cpus[node]);
	}
	return CPU_EQUAL(&found, &usable);
}

void
l3_numa_read(const char *directory, L3Machine *machine)
{
	cpu_set_t	with_memory;
	int			mode;

	memset(machine, 0, sizeof(*machine));
	if (!read_nodes(directory, machine->cpus) ||
		!read_list(directory, "has_memory", &with_memory))
	{
		memset(machine, 0, sizeof(*machine));
		return;
	}
	/* the second call only finds out whether it is allowed */
	if (syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) != 0 ||
		(mode == MPOL_DEFAULT && syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0) != 0))
		machine->memory_errno = errno;
	/* who has started the server under numactl has decided */
	else if (mode == MPOL_DEFAULT)
	{
		for (int node = 0; node < L3_MAX_NODES; node++)
			machine->memory |= (uint64_t) (CPU_ISSET(node, &with_memory) != 0) << node;
	}
}

void
l3_numa_interleave(void *memory, size_t bytes, uint64_t nodes)
{
	unsigned long mask = nodes;

	if (nodes != 0)
		(void) syscall(SYS_mbind, memory, bytes, MPOL_INTERLEAVE, &mask, NODE_BITS, 0);
}

bool
l3_numa_begin_filling(const L3EngineOptions *options)
{
	L3Machine	machine;
	L3Team		all = l3_placement_team(options);
	unsigned long mask;

	all.first = 0;
	all.n = all.n_all;
	l3_numa_read(options->nodes, &machine);
	mask = l3_placement_pages(&machine, &all);
	return mask != 0 && syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &mask, NODE_BITS) == 0;
}

void
l3_numa_end_filling(void)
{
	(void) syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
}
