/*-------------------------------------------------------------------------
 *
 * test_placement.c
 *	  Threads and memory on machines of several nodes, which are invented: the
 *	  policy on any, and its application with this machine's CPUs dealt out to
 *	  two nodes.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine_fixture.h"
#include "placement.h"
#include "tap.h"

#define MANY		64			/* threads, at most */

/* ----------------------------------------------------------------
 *		The policy
 * ----------------------------------------------------------------
 */

/* CPUs of nodes 0 to 3, numbered through; nodes with memory. */
static L3Machine
invent(int a, int b, int c, int d, uint64_t memory)
{
	const int	n_cpus[] = {a, b, c, d};
	L3Machine	machine = {.memory = memory};
	int			cpu = 0;

	for (int node = 0; node < 4; node++)
	{
		for (int i = 0; i < n_cpus[node]; i++)
			CPU_SET(cpu++, &machine.cpus[node]);
	}
	return machine;
}

/* "00011": the nodes of the threads in order, "-" for any; then those of the pages. */
static const char *
placed(L3Machine machine, int first, int n, int n_all)
{
	static char text[2 * MANY + 1];
	L3Team		team = {first, n, n_all};
	uint64_t	pages = l3_placement_pages(&machine, &team);
	int			used = 0;

	for (int t = 0; t < n; t++)
	{
		int			node = l3_placement_node(&machine, &team, t);

		text[used++] = node < 0 ? '-' : (char) ('0' + node);
	}
	text[used++] = ' ';
	for (int node = 0; node < L3_MAX_NODES; node++)
	{
		if (pages >> node & 1)
			text[used++] = (char) ('0' + node);
	}
	text[used] = '\0';
	return text;
}

static void
is(const char *got, const char *expected, const char *what)
{
	if (!tap_ok(strcmp(got, expected) == 0, "%s", what))
		tap_note("\"%s\", not \"%s\"", got, expected);
}

static void
test_machines(void)
{
	is(placed(invent(4, 0, 0, 0, 1), 0, 3, 3), "--- ", "one node: nothing is placed");
	is(placed(invent(8, 8, 0, 0, 3), 0, 8, 8), "00001111 01", "2 x 8 CPUs: half of 8 threads on each");
	is(placed(invent(8, 8, 0, 0, 3), 0, 20, 20), "00000000001111111111 01",
	   "2 x 8 CPUs: half of 20 threads on each");
	is(placed(invent(6, 2, 0, 0, 3), 0, 4, 4), "0001 01", "6 + 2 CPUs: 3 of 4 threads on the larger");
	is(placed(invent(6, 2, 0, 0, 3), 0, 12, 12), "000000000111 01",
	   "6 + 2 CPUs: 12 threads in the same proportion");
	is(placed(invent(4, 0, 4, 0, 15), 0, 4, 4), "0022 02", "nodes of memory alone get no threads and no pages");
	is(placed(invent(4, 4, 4, 0, 5), 0, 3, 3), "012 02", "a node without memory gets threads and no pages");
	is(placed(invent(0, 4, 0, 0, 15), 0, 4, 4), "---- ", "CPUs of one node alone may be used: nothing is placed");
	is(placed(invent(0, 0, 0, 0, 15), 0, 2, 2), "-- ", "no CPU may be used: nothing is placed");
	is(placed(invent(8, 8, 0, 0, 3), 0, 1, 1), "1 1", "one thread: its pages are with it");
	is(placed(invent(8, 8, 0, 0, 3), 0, 8, 16), "00000000 0", "the first of two workers has a node of its own");
	is(placed(invent(8, 8, 0, 0, 3), 8, 8, 16), "11111111 1", "and so has the second");
	is(placed(invent(8, 8, 0, 0, 3), 4, 4, 12), "0011 01", "the second of three has half of each");
	is(placed(invent(8, 8, 0, 0, 0), 0, 4, 4), "0011 ", "memory that may not be placed is not");
}

/* Every machine of 3 nodes with 0 to 4 CPUs, and every number of threads to 16. */
static void
test_spread(void)
{
	int			n_mixed = 0;
	int			n_unfair = 0;
	int			n_crowded = 0;

	for (int shape = 0; shape < 125; shape++)
	{
		int			cpus[3] = {shape % 5, shape / 5 % 5, shape / 25};
		int			n_cpus = cpus[0] + cpus[1] + cpus[2];
		L3Machine	machine = invent(cpus[0], cpus[1], cpus[2], 0, 7);

		for (int n = 1; n <= 16; n++)
		{
			L3Team		team = {0, n, n};
			int			threads[3] = {0};
			int			last = 0;
			bool		room = false;
			bool		crowd = false;

			if (l3_placement_node(&machine, &team, 0) < 0)
				continue;
			for (int t = 0; t < n; t++)
			{
				int			node = l3_placement_node(&machine, &team, t);

				n_mixed += node < last;
				last = node;
				threads[node]++;
			}
			for (int node = 0; node < 3; node++)
			{
				n_unfair += abs(threads[node] * n_cpus - n * cpus[node]) >= n_cpus;
				crowd = crowd || threads[node] > cpus[node];
				room = room || threads[node] < cpus[node];
			}
			n_crowded += crowd && room;
		}
	}
	tap_ok(n_mixed == 0, "threads of one node have numbers in a row");
	tap_ok(n_unfair == 0, "a node's threads are its share by CPUs, within less than one");
	tap_ok(n_crowded == 0, "no node has more threads than CPUs while another has room");
}

/* ----------------------------------------------------------------
 *		Reading a machine
 * ----------------------------------------------------------------
 */

static char directory[] = "/tmp/llama3-nodes-XXXXXX";
static cpu_set_t all_cpus;		/* that this process may use */
static cpu_set_t halves[2];

static void
write_file(const char *name, const char *text)
{
	char		path[256];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
		exit(1);
}

/* The directory says that the CPUs lie on two nodes; more: a list that node 1 has too. */
static void
write_machine(const char *online, const char *more)
{
	char		lists[2][8 * CPU_SETSIZE] = {"", ""};

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
	{
		for (int node = 0; node < 2; node++)
		{
			if (CPU_ISSET(cpu, &halves[node]))
				sprintf(lists[node] + strlen(lists[node]), "%s%d", lists[node][0] ? "," : "", cpu);
		}
	}
	write_file("online", online);
	write_file("has_memory", "0-1\n");
	write_file("node0/cpulist", strcat(lists[0], "\n"));
	write_file("node1/cpulist", strcat(strcat(lists[1], more), "\n"));
	write_file("node2/cpulist", "\n");
}

static bool
known(const char *from)
{
	static const L3Machine unknown;
	L3Machine	machine;

	l3_numa_read(from, &machine);
	return memcmp(&machine, &unknown, sizeof(machine)) != 0;
}

static void
test_reading(void)
{
	L3Machine	machine;

	write_machine("0-2\n", ",1000-1023");
	l3_numa_read(directory, &machine);
	tap_ok(CPU_EQUAL(&machine.cpus[0], &halves[0]) && CPU_EQUAL(&machine.cpus[1], &halves[1]) &&
		   CPU_COUNT(&machine.cpus[2]) == 0, "nodes are read with the CPUs that may be used");
	write_machine("1\n", ",0-1023");
	tap_ok(!known(directory), "one node needs no placement");
	write_machine("0,2\n", "");
	tap_ok(!known(directory), "a usable CPU on no node: the machine is not known");
	write_machine("0-1,64\n", "");
	tap_ok(known(directory), "nodes without CPUs may have any number");
	write_machine("0-1\n", ",x");
	tap_ok(!known(directory), "a list that is none: the machine is not known");
	write_machine("0-3\n", "");
	tap_ok(!known(directory), "a node that cannot be read: the machine is not known");
	tap_ok(!known("/nowhere") && !known(NULL), "no nodes are told of: the machine is not known");
}

/* ----------------------------------------------------------------
 *		Placing
 * ----------------------------------------------------------------
 */

/* Mode of the memory policy, of the thread or of a page; -1 where that is refused. */
static int
policy(void *page)
{
	int			mode;

	return syscall(SYS_get_mempolicy, &mode, NULL, 0, page, page ? MPOL_F_ADDR : 0) == 0 ? mode : -1;
}

static cpu_set_t
affinity(void)
{
	cpu_set_t	set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		exit(1);
	return set;
}

typedef struct Look
{
	_Atomic int n_here;
	int			n;
	cpu_set_t	seen[MANY];
} Look;

/* Every thread takes one task, since none ends before all have begun. */
static void
look(void *ctx, int task, int thread)
{
	Look	   *l = ctx;

	(void) task;
	l->seen[thread] = affinity();
	l->n_here++;
	while (l->n_here < l->n)
		sched_yield();
}

/* Pin a pool of 4; are its threads where expected, and the caller back where he was? */
static bool
pinned(const L3Machine *machine, int rc_expected, const cpu_set_t *first, const cpu_set_t *last)
{
	L3Team		team = {0, 4, 4};
	Look		l = {.n = 4};
	L3Pool	   *pool;
	L3Error		err;
	int			rc;

	fixture_check(l3_pool_create(4, &pool, &err), &err);
	rc = l3_pool_pin(pool, machine, &team);
	l3_pool_run(pool, look, &l, 4);
	l3_pool_destroy(pool);
	l.seen[MANY - 1] = affinity();
	return rc == rc_expected && CPU_EQUAL(&l.seen[0], first) && CPU_EQUAL(&l.seen[1], first) &&
		CPU_EQUAL(&l.seen[2], last) && CPU_EQUAL(&l.seen[3], last) &&
		CPU_EQUAL(&l.seen[MANY - 1], &all_cpus);
}

static void
test_pinning(void)
{
	L3Machine	machine;

	l3_numa_read(directory, &machine);
	tap_ok(pinned(&machine, 0, &halves[0], &halves[1]),
		   "threads are held to their nodes' CPUs, and the caller no longer than the pool lives");
	CPU_ZERO(&machine.cpus[1]);
	tap_ok(pinned(&machine, 0, &all_cpus, &all_cpus), "on one node no thread is held");
	for (int i = 0; i < CPU_COUNT(&halves[0]); i++)
		CPU_SET(CPU_SETSIZE - 1 - i, &machine.cpus[1]);
	tap_ok(pinned(&machine, EINVAL, &all_cpus, &all_cpus), "where one is refused none is held");
}

/* Does an engine on these nodes answer as without, its memory under this policy, and say so? */
static bool
engine_on(const char *nodes, int mode, const char *says)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *arena = fixture_arena(&hp, L3_F32, 1);
	L3EngineOptions options = fixture_options();
	Job		   *jobs = calloc(2, sizeof(Job));
	Rig			rig;
	bool		ok = true;

	options.n_threads = 4;
	for (int i = 0; i < 2; i++)
	{
		job_prompt(&jobs[i], 100, 100, 5);
		job_generate(&jobs[i], 10, 0);
		options.nodes = i == 0 ? NULL : nodes;
		rig_open(&rig, arena, options, NULL);
		rig_run(&rig, &jobs[i], 1);
		if (i == 1)
			ok = policy(rig.model->kv->base) == mode && policy(rig.engine->memory) == mode &&
				strcmp(l3_engine_placement(rig.engine), says) == 0;
		rig_close(&rig);
	}
	ok = ok && job_same(&jobs[0], &jobs[1]);
	free(jobs);
	free((void *) arena);
	return ok;
}

static void
test_memory(void)
{
	L3EngineOptions options = fixture_options();
	cpu_set_t	after;
	void	   *page;

	options.nodes = directory;
	options.n_threads = 2;
	if (posix_memalign(&page, 4096, 4096) != 0)
		exit(1);
	l3_numa_interleave(page, 4096, (uint64_t) 1 << 63);
	tap_ok(policy(page) == MPOL_DEFAULT, "memory on a node that is not there stays as it is");
	tap_ok(engine_on(directory, MPOL_INTERLEAVE, "NUMA nodes of threads: 2, of interleaved memory: 2"),
		   "keys, values and activations are interleaved, and answers are the same");
	tap_ok(l3_numa_begin_filling(&options) && policy(NULL) == MPOL_INTERLEAVE, "what is filled is interleaved");
	l3_numa_end_filling();
	tap_ok(policy(NULL) == MPOL_DEFAULT, "until it is filled");

	(void) syscall(SYS_set_mempolicy, MPOL_LOCAL, NULL, 0);
	tap_ok(!l3_numa_begin_filling(&options) && policy(NULL) == MPOL_LOCAL &&
		   engine_on(directory, MPOL_DEFAULT, "NUMA nodes of threads: 2, of interleaved memory: 0"),
		   "a policy that the process was started with stays");
	(void) syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);

	options.nodes = L3_NODES;
	if (known(L3_NODES))
		tap_skip("this machine has several nodes");
	else
		tap_ok(!l3_numa_begin_filling(&options) && policy(NULL) == MPOL_DEFAULT &&
			   engine_on(L3_NODES, MPOL_DEFAULT, ""), "on this machine of one node nothing is placed");
	after = affinity();
	tap_ok(CPU_EQUAL(&after, &all_cpus), "and affinity is as it was");
	free(page);
}

/* As containers do: from here on the system calls for placing fail with EPERM. */
static bool
refuse(void)
{
	static const int calls[] = {SYS_get_mempolicy, SYS_set_mempolicy, SYS_mbind, SYS_sched_setaffinity};
	struct sock_filter filter[10] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog program = {10, filter};

	for (int i = 0; i < 4; i++)
	{
		filter[1 + 2 * i] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
		filter[2 + 2 * i] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	filter[9] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void
test_refusal(void)
{
	L3EngineOptions options = fixture_options();

	options.nodes = directory;
	if (!refuse())
		tap_skip("system calls cannot be made to fail");
	else
		tap_ok(engine_on(directory, -1, "NUMA nodes of threads: 0, of interleaved memory: 0 "
						 "(Operation not permitted)") && !l3_numa_begin_filling(&options),
			   "where placing is not permitted the engine works as without, and says so");
}

int
main(void)
{
	int			n = 0;

	test_machines();
	test_spread();

	all_cpus = affinity();
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
	{
		if (CPU_ISSET(cpu, &all_cpus))
			CPU_SET(cpu, &halves[n++ >= CPU_COUNT(&all_cpus) / 2]);
	}
	if (CPU_COUNT(&all_cpus) < 2)
	{
		tap_skip("one CPU cannot be on two nodes");
		return tap_done();
	}
	if (mkdtemp(directory) == NULL || chdir(directory) != 0 ||
		mkdir("node0", 0700) != 0 || mkdir("node1", 0700) != 0 || mkdir("node2", 0700) != 0)
		return 1;
	test_reading();
	write_machine("0-1\n", "");
	test_pinning();
	if (policy(NULL) == MPOL_DEFAULT)
		test_memory();
	else
		tap_skip("memory policies cannot be seen, or this test was started under one");
	test_refusal();
	if (system("rm -r node0 node1 node2 online has_memory") != 0 || rmdir(directory) != 0)
		tap_note("could not remove %s", directory);
	return tap_done();
}
