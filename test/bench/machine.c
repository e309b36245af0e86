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

#include "kernels/amx.h"
#include "kernels/simd.h"
#include "loaded.h"

#define ROUNDS			3
#define TASKS			8
#define BANDWIDTH_BYTES	(UINT64_C(1) << 30)
/* Iterations of a task of machine_int8_rate: some 10 ms. */
#define INT8_ITERATIONS	2000000
/* Independent accumulators: more than latency times units. */
#define ACCUMULATORS	12

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
#include <immintrin.h>

/* Operations of one instruction: lanes of 8 bits, two for each. */
#define OPS_512		(2 * 64)
#define OPS_256		(2 * 32)

__attribute__((target("avx512f,avx512bw,avx512vnni")))
static void
vnni512_task(void *ctx, int task, int thread)
{
	__m512i		acc[ACCUMULATORS];
	__m512i		x = _mm512_set1_epi8((char) (task + 1));
	__m512i		sum = _mm512_setzero_si512();

	(void) ctx;
	(void) thread;
	UNROLL
	for (int i = 0; i < ACCUMULATORS; i++)
		acc[i] = _mm512_set1_epi32(i);
	for (int n = 0; n < INT8_ITERATIONS; n++)
		UNROLL
		for (int i = 0; i < ACCUMULATORS; i++)
		{
			acc[i] = _mm512_dpbusd_epi32(acc[i], x, x);
			IN_REGISTER(acc[i]);
		}
	UNROLL
	for (int i = 0; i < ACCUMULATORS; i++)
		sum = _mm512_add_epi32(sum, acc[i]);
	atomic_fetch_add(&sink, (unsigned) _mm512_reduce_add_epi32(sum));
}

#ifdef L3_HAVE_AMX

/* Operations of four products: tiles of 16 by 16 over 64 bytes, two for each. */
#define OPS_TILES	(4 * 2 * 16 * 16 * 64)

static void
amx_task(void *ctx, int task, int thread)
{
	L3TileConfig config = l3_full_tiles(L3_TILE_ROWS);

	(void) ctx;
	(void) task;
	(void) thread;
	l3_tile_configure(&config);
	for (int n = 0; n < INT8_ITERATIONS / 8; n++)
	{
		TILE_DOT_BYTES("ss", 0, 4, 6);
		TILE_DOT_BYTES("ss", 1, 4, 7);
		TILE_DOT_BYTES("ss", 2, 5, 6);
		TILE_DOT_BYTES("ss", 3, 5, 7);
	}
	l3_tile_release();
}

#endif

#ifdef L3_HAVE_AVXVNNI

__attribute__((target("avx2,avxvnni")))
static void
vnni256_task(void *ctx, int task, int thread)
{
	__m256i		acc[ACCUMULATORS];
	__m256i		x = _mm256_set1_epi8((char) (task + 1));
	__m256i		sum = _mm256_setzero_si256();

	(void) ctx;
	(void) thread;
	UNROLL
	for (int i = 0; i < ACCUMULATORS; i++)
		acc[i] = _mm256_set1_epi32(i);
	for (int n = 0; n < INT8_ITERATIONS; n++)
		UNROLL
		for (int i = 0; i < ACCUMULATORS; i++)
		{
			acc[i] = _mm256_dpbusd_avx_epi32(acc[i], x, x);
			IN_REGISTER(acc[i]);
		}
	UNROLL
	for (int i = 0; i < ACCUMULATORS; i++)
		sum = _mm256_add_epi32(sum, acc[i]);
	atomic_fetch_add(&sink, (unsigned) _mm256_extract_epi32(sum, 0));
}

#endif

__attribute__((target("avx2")))
static void
maddubs256_task(void *ctx, int task, int thread)
{
	__m256i		acc[ACCUMULATORS];
	__m256i		x = _mm256_set1_epi8((char) (task + 1));
	__m256i		sum = _mm256_setzero_si256();

	(void) ctx;
	(void) thread;
	UNROLL
	for (int i = 0; i < ACCUMULATORS; i++)
		acc[i] = _mm256_set1_epi32(i);
	for (int n = 0; n < INT8_ITERATIONS; n++)
		UNROLL
		for (int i = 0; i < ACCUMULATORS; i++)
		{
			acc[i] = _mm256_add_epi16(acc[i], _mm256_maddubs_epi16(x, acc[i]));
			IN_REGISTER(acc[i]);
		}
	UNROLL
	for (int i = 0; i < ACCUMULATORS; i++)
		sum = _mm256_add_epi32(sum, acc[i]);
	atomic_fetch_add(&sink, (unsigned) _mm256_extract_epi32(sum, 0));
}

double
machine_int8_rate(L3Pool *pool, unsigned features, const char **instruction)
{
	double		n = (double) TASKS * INT8_ITERATIONS * ACCUMULATORS;

#ifdef L3_HAVE_AMX
	if ((features & L3_CPU_AMX) && l3_amx_usable())
	{
		*instruction = "AMX";
		return best_rate(pool, amx_task, (double) TASKS * (INT8_ITERATIONS / 8) * OPS_TILES);
	}
#endif
	if (features & L3_CPU_AVX512VNNI)
	{
		*instruction = "AVX-512 VNNI";
		return best_rate(pool, vnni512_task, n * OPS_512);
	}
#ifdef L3_HAVE_AVXVNNI
	if ((features & (L3_CPU_AVX512 | L3_CPU_AVXVNNI)) == L3_CPU_AVXVNNI)
	{
		*instruction = "AVX-VNNI";
		return best_rate(pool, vnni256_task, n * OPS_256);
	}
#endif
	if (features & L3_CPU_AVX2)
	{
		*instruction = "AVX2";
		return best_rate(pool, maddubs256_task, n * OPS_256);
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
