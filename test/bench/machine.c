/*-------------------------------------------------------------------------
 *
 * machine.c
 *	  Memory bandwidth and instruction rate, measured.
 *
 *-------------------------------------------------------------------------
 */
#include "machine.h"

#include <stdatomic.h>
#include <string.h>

#include "instructions.h"
#include "loaded.h"

#define ROUNDS			3
#define TASKS			8
#define BANDWIDTH_BYTES	(UINT64_C(1) << 30)
/* Iterations of a task of machine_int8_rate: some 10 ms. */
#define INT8_ITERATIONS	2000000
/* Independent accumulators: more than latency times units. */

/* ---------------------------------------------------------------- memory */

static uint64_t *memory;
static atomic_ullong sink;

static void
read_task(void *ctx, int task, int thread)
{
	size_t		n = BANDWIDTH_BYTES / 8 / TASKS;
	size_t		quarter = n / 4;
	const uint64_t *p = memory + (size_t) task * n;
	uint64_t	a = 0;
	uint64_t	b = 0;
	uint64_t	c = 0;
	uint64_t	d = 0;

	/* one word brings a cache line in; four streams keep the prefetchers busy */
	(void) ctx;
	(void) thread;
	for (size_t i = 0; i + 8 <= quarter; i += 8)
	{
		a += p[i];
		b += p[i + quarter];
		c += p[i + 2 * quarter];
		d += p[i + 3 * quarter];
	}
	atomic_fetch_add(&sink, a + b + c + d);
}

/* Work per second of a task done TASKS times, the best of some rounds. */
static double
best_rate(L3Pool *pool, void (*task) (void *, int, int), double work)
{
	double		best = 0;

	for (int i = 0; i < ROUNDS; i++)
	{
		double		start = bench_now();
		double		rate;

		l3_pool_run(pool, task, NULL, TASKS);
		rate = work / (bench_now() - start);
		best = rate > best ? rate : best;
	}
	return best;
}

double
machine_bandwidth(L3Pool *pool)
{
	if (memory == NULL)
	{
		memory = bench_map(BANDWIDTH_BYTES);
		memset(memory, 1, BANDWIDTH_BYTES);
	}
	return best_rate(pool, read_task, BANDWIDTH_BYTES);
}

/* ---------------------------------------------------------------- arithmetic */

#if defined(__x86_64__)

/* Operations of one step: lanes of 8 bits, two for each, or those of a product of tiles. */
#define OPS_512		(2 * 64)
#define OPS_256		(2 * 32)
#define OPS_TILE	(2 * 16 * 16 * 64)

#define STEPS_TASK(name, step) \
	static void \
	name##_task(void *ctx, int task, int thread) \
	{ \
		(void) ctx; \
		(void) task; \
		(void) thread; \
		REPEAT_STEPS(step, INT8_ITERATIONS); \
	}

STEPS_TASK(maddubs, MADDUBS)
STEPS_TASK(vnni512, DPBUSD)
#ifdef L3_HAVE_AVXVNNI
STEPS_TASK(vnni256, DPBUSD256)
#endif

#ifdef L3_HAVE_AMX

static void
amx_task(void *ctx, int task, int thread)
{
	L3TileConfig config = l3_full_tiles(L3_TILE_ROWS);

	(void) ctx;
	(void) task;
	(void) thread;
	l3_tile_configure(&config);
	REPEAT_TILE_STEPS(TILE_DOT_SIGNED, INT8_ITERATIONS / 8);
	l3_tile_release();
}

#endif

double
machine_int8_rate(L3Pool *pool, unsigned features, const char **instruction)
{
	double		n = (double) TASKS * INT8_ITERATIONS * STEPS;

#ifdef L3_HAVE_AMX
	if ((features & L3_CPU_AMX) && l3_amx_usable())
	{
		*instruction = "AMX";
		return best_rate(pool, amx_task, (double) TASKS * (INT8_ITERATIONS / 8) * TILE_STEPS * OPS_TILE);
	}
#endif
	if (features & L3_CPU_AVX512VNNI)
	{
		*instruction = "AVX-512 VNNI";
		return best_rate(pool, vnni512_task, n * OPS_512);
	}
#ifdef L3_HAVE_AVXVNNI
	if (features & L3_CPU_AVXVNNI)
	{
		*instruction = "AVX-VNNI";
		return best_rate(pool, vnni256_task, n * OPS_256);
	}
#endif
	if (features & L3_CPU_AVX2)
	{
		*instruction = "AVX2";
		return best_rate(pool, maddubs_task, n * OPS_256);
	}
	*instruction = "none";
	return 0;
}

#else

double
machine_int8_rate(L3Pool *pool, unsigned features, const char **instruction)
{
	(void) pool;
	(void) features;
	*instruction = "none";
	return 0;
}

#endif
