/*-------------------------------------------------------------------------
 *
 * bench.h
 *	  Timing of the matrix products and of attention, beside the measured
 *	  read bandwidth of the memory and rates of the instructions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdatomic.h>
#include <time.h>

#include "instructions.h"
#include "matrices.h"
#include "pool.h"

#define BENCH_N			8192
#define BENCH_K			2048
#define BENCH_MAX_M		512
#define BENCH_BYTES		(192u << 20)	/* far more than the caches hold */
#define BENCH_SECONDS	0.2
#define BENCH_PANELS	8		/* panels of one task */
#define BENCH_THREADS	2

typedef struct BenchRun
{
	const L3Kernels *kernels;
	L3Matrix	w;
	const L3Act *act;
	int			m;
	float	   *out;
	uint8_t    *scratch[BENCH_THREADS];
	const uint64_t *read_from;	/* of the bandwidth test */
	_Atomic uint64_t read_sum;
} BenchRun;

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec * 1e-9;
}

static void
matmul_task(void *ctx, int task, int thread)
{
	BenchRun   *run = ctx;
	int			panel0 = task * BENCH_PANELS;

	run->kernels->matmul[run->w.type] (&run->w, panel0, panel0 + BENCH_PANELS, run->act,
									   run->m, run->m, run->out, BENCH_N, false,
									   run->scratch[thread]);
}

/* Sums a mebibyte. */
static void
read_task(void *ctx, int task, int thread)
{
	BenchRun   *run = ctx;
	const uint64_t *p = run->read_from + (size_t) task * (1 << 17);
	uint64_t	sum[8] = {0};

	(void) thread;
	for (int i = 0; i < 1 << 17; i += 8)
		for (int j = 0; j < 8; j++)
			sum[j] += p[i + j];
	for (int j = 0; j < 8; j++)
		atomic_fetch_add(&run->read_sum, sum[j]);
}

static void
bench_bandwidth(L3Pool *const pools[BENCH_THREADS])
{
	BenchRun	run = {0};
	uint64_t   *memory = aligned_bytes(BENCH_BYTES);

	memset(memory, 1, BENCH_BYTES);
	run.read_from = memory;
	printf("memory read, GB/s:");
	for (int t = 0; t < BENCH_THREADS; t++)
	{
		double		best = 0;

		for (int i = 0; i < 4; i++)
		{
			double		start = seconds();

			l3_pool_run(pools[t], read_task, &run, BENCH_BYTES >> 20);
			best = fmax(best, BENCH_BYTES / (seconds() - start) * 1e-9);
		}
		printf("  %d threads %.1f", t + 1, best);
	}
	printf("\n");
	free(memory);
}

#if defined(__x86_64__)

#define RATE_STEPS		2000	/* of ten, some 10 us */
#define RATE_ROUNDS		2000

/* The best rate in G operations a second of work that does so many. */
#define PRINT_BEST(name, operations, ...) \
	do { \
		double		best = 1e9; \
		for (int i = 0; i < RATE_ROUNDS; i++) \
		{ \
			double		t = seconds(); \
			__VA_ARGS__ \
			t = seconds() - t; \
			best = t < best ? t : best; \
		} \
		printf("  %s %.0f", name, (double) (operations) / best * 1e-9); \
	} while (0)

/* Of vector instructions; each step does ops. */
#define PRINT_RATE(name, step, ops) \
	PRINT_BEST(name, 1.0 * STEPS * RATE_STEPS * (ops), REPEAT_STEPS(step, RATE_STEPS);)

#ifdef L3_HAVE_AMX

/* Of products of full tiles. */
#define PRINT_TILE_RATE(name, dot, ops) \
	PRINT_BEST(name, 1.0 * TILE_STEPS * RATE_STEPS * (ops), REPEAT_TILE_STEPS(dot, RATE_STEPS);)

static void
bench_tiles(void)
{
	L3TileConfig config = l3_full_tiles(L3_TILE_ROWS);

	if (!(native_features() & L3_CPU_AMX) || !l3_amx_usable())
		return;
	l3_tile_configure(&config);
	PRINT_TILE_RATE("TDPBSSD", TILE_DOT_SIGNED, 2 * 16 * 16 * 64);
	PRINT_TILE_RATE("TDPBF16PS", TILE_DOT_BF16, 2 * 16 * 16 * 32);
	l3_tile_release();
}

#else

static void
bench_tiles(void)
{
}

#endif

/* What the products could reach, on one thread. */
static void
bench_instructions(void)
{
	printf("instructions, GOPS of one thread:");
	if (__builtin_cpu_supports("avx2"))
	{
		PRINT_RATE("VPMADDUBSW + VPADDW", MADDUBS, 64);
		PRINT_RATE("VPMADDWD + VPADDD", MADD, 32);
		PRINT_RATE("VFMADD ymm", FMA256, 16);
	}
#ifdef L3_HAVE_AVXVNNI
	if (native_features() & L3_CPU_AVXVNNI)
		PRINT_RATE("VPDPBUSD ymm", DPBUSD256, 64);
#endif
	if (__builtin_cpu_supports("avx512f"))
		PRINT_RATE("VFMADD zmm", FMA512, 32);
	if (__builtin_cpu_supports("avx512vnni"))
		PRINT_RATE("VPDPBUSD zmm", DPBUSD, 128);
	if (__builtin_cpu_supports("avx512bf16"))
		PRINT_RATE("VDPBF16PS zmm", DPBF16, 64);
	bench_tiles();
	printf("\n");
}

#else

static void
bench_instructions(void)
{
}

#endif							/* __x86_64__ */

/* Seconds for one product of m rows, the matrices taken in turn. */
static double
time_matmul(BenchRun *run, L3Pool *pool, int m, const uint8_t *data, int n_copies, double *mean)
{
	size_t		bytes = run->w.panel_bytes * (size_t) run->w.n_panels;
	double		start = seconds();
	double		best = 1e9;
	int			n = 0;

	run->m = m;
	do
	{
		double		t = seconds();

		run->w.data = data + (size_t) (n % n_copies) * bytes;
		l3_pool_run(pool, matmul_task, run, run->w.n_panels / BENCH_PANELS);
		t = seconds() - t;
		best = t < best ? t : best;
		n++;
	} while (seconds() - start < BENCH_SECONDS || n < 2);
	*mean = (seconds() - start) / n;
	return best;
}

static void
bench_type(const L3Kernels *kernels, L3PackedType type, L3Pool *const pools[BENCH_THREADS])
{
	static const int ms[] = {1, 4, 16, 64, 512};
	L3Matrix	w = random_matrix(type, BENCH_N, BENCH_K, 0);
	size_t		bytes = w.panel_bytes * (size_t) w.n_panels;
	int			n_copies = (int) (BENCH_BYTES / bytes) + 1;
	uint8_t    *copies = aligned_bytes(bytes * (size_t) n_copies);
	BenchRun	run = {0};
	L3Act		act;
	float	   *x = aligned_bytes(sizeof(float) * BENCH_MAX_M * BENCH_K);
	void	   *act_mem = aligned_bytes(l3_act_bytes(BENCH_MAX_M, BENCH_K));

	for (int i = 0; i < n_copies; i++)
		memcpy(copies + (size_t) i * bytes, w.data, bytes);
	for (int i = 0; i < BENCH_MAX_M * BENCH_K; i++)
		x[i] = random_normal();
	l3_act_init(&act, act_mem, BENCH_MAX_M, BENCH_K, x, BENCH_K);
	kernels->quantize_rows(&act, 0, BENCH_MAX_M);
	run.kernels = kernels;
	run.w = w;
	run.act = &act;
	run.out = aligned_bytes(sizeof(float) * BENCH_MAX_M * BENCH_N);
	for (int t = 0; t < BENCH_THREADS; t++)
		run.scratch[t] = aligned_bytes(kernels->matmul_scratch_bytes(&w, BENCH_MAX_M) + 64);

	for (int t = 0; t < BENCH_THREADS; t++)
	{
		printf("%-10s %-5s %d thr", l3_cpu_name(kernels->features), l3_packed_type_name(type), t + 1);
		for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++)
		{
			double		mean;
			double		best = time_matmul(&run, pools[t], ms[i], copies, n_copies, &mean);

			if (ms[i] == 1)
				printf("  M=1 %5.1f GB/s (mean %5.1f)", (double) bytes / best * 1e-9,
					   (double) bytes / mean * 1e-9);
			else
				printf("  M=%d %5.0f", ms[i], 2.0 * ms[i] * BENCH_N * BENCH_K / best * 1e-9);
		}
		printf(" GOPS\n");
		fflush(stdout);
	}
	for (int t = 0; t < BENCH_THREADS; t++)
		free(run.scratch[t]);
	free(run.out);
	free(act_mem);
	free(x);
	free(copies);
	free((void *) w.data);
}

/*
 * One KV head's rows (4 heads of each token of each sequence) over 1024 positions,
 * which the sequences share but for the last 64.
 */
static void
bench_attend(const L3Kernels *kernels, L3KvType type, int n_sequences, int n_tokens)
{
	enum
	{
		HEADS = 4, DIM = 64, KEYS = 1024, BLOCKS = KEYS / L3_KV_BLOCK
	};
	size_t		tile = L3_KV_BLOCK * l3_kv_head_bytes(type, DIM);
	L3AttendArgs args = {.kv_type = type, .head_dim = DIM, .value_dim = DIM, .n_rows = HEADS * n_sequences * n_tokens,
		.n_parts = n_sequences, .n_shared = KEYS - L3_ATTN_SPLIT};
	const void *k_blocks[BLOCKS];
	const void *v_blocks[BLOCKS];
	uint8_t    *kv = aligned_bytes(2 * BLOCKS * tile);
	float	   *q = aligned_bytes(sizeof(float) * 2 * DIM * L3_ATTN_MAX_ROWS);
	double		best = 1e9;

	for (int i = 0; i < DIM * L3_ATTN_MAX_ROWS; i++)
		q[i] = random_normal() / 8;
	for (int b = 0; b < BLOCKS; b++)
	{
		float		head[2 * DIM];

		k_blocks[b] = kv + (size_t) b * 2 * tile;
		v_blocks[b] = kv + (size_t) b * 2 * tile + tile;
		for (int slot = 0; slot < L3_KV_BLOCK; slot++)
		{
			for (int d = 0; d < 2 * DIM; d++)
				head[d] = random_normal();
			kernels->kv_store(type, kv + (size_t) b * 2 * tile, kv + (size_t) b * 2 * tile + tile,
							  slot, head, DIM, head + DIM, DIM);
		}
	}
	for (int r = 0; r < args.n_rows; r++)
	{
		args.q[r] = q + r * DIM;
		args.out[r] = q + (L3_ATTN_MAX_ROWS + r) * DIM;
		args.n_keys[r] = KEYS - n_tokens + 1 + r / HEADS % n_tokens;
	}
	for (int p = 0; p < n_sequences; p++)
		args.parts[p] = (L3AttendPart) {HEADS * n_tokens, k_blocks, v_blocks};
	for (int i = 0; i < 200; i++)
	{
		double		t = seconds();

		kernels->attend(&args);
		t = seconds() - t;
		best = t < best ? t : best;
	}
	printf("%-10s attend %s 4 heads of %d, %d tokens of %d sequences, %d keys: %.1f us, %.1f GFLOPS\n",
		   l3_cpu_name(kernels->features), kv_type_names[type], DIM, n_tokens, n_sequences, KEYS, best * 1e6,
		   4.0 * args.n_rows * KEYS * DIM / best * 1e-9);
	free(q);
	free(kv);
}

static int
bench(const char *only)
{
	const char *level;
	L3Pool	   *pools[BENCH_THREADS];
	L3Error		err;

	for (int t = 0; t < BENCH_THREADS; t++)
		if (l3_pool_create(t + 1, &pools[t], &err) != L3_OK)
		{
			fprintf(stderr, "%s\n", err.message);
			return 2;
		}
	printf("N = %d, K = %d; best of %g s, one task is %d panels\n", BENCH_N, BENCH_K,
		   BENCH_SECONDS, BENCH_PANELS);
	bench_bandwidth(pools);
	bench_instructions();
	for (size_t i = 0; (level = l3_cpu_level(i)) != NULL; i++)
	{
		unsigned	features;
		L3Kernels	kernels;

		if ((only != NULL && strcmp(only, level) != 0) ||
			l3_cpu_parse(level, &features, &err) != L3_OK ||
			strcmp(l3_cpu_name(features), level) != 0 || (features & ~native_features()) != 0)
			continue;
		l3_kernels_init(&kernels, features);
		for (int type = 0; type < L3_N_PACKED_TYPES; type++)
			bench_type(&kernels, (L3PackedType) type, pools);
		for (int type = 0; type < L3_N_KV_TYPES; type++)
		{
			bench_attend(&kernels, (L3KvType) type, 1, 1);
			bench_attend(&kernels, (L3KvType) type, 1, 4);
			bench_attend(&kernels, (L3KvType) type, 8, 1);
			bench_attend(&kernels, (L3KvType) type, 1, kernels.attend_rows / 4);
		}
	}
	for (int t = 0; t < BENCH_THREADS; t++)
		l3_pool_destroy(pools[t]);
	return 0;
}

#endif							/* BENCH_H */
