/*-------------------------------------------------------------------------
 *
 * attention.h
 *	  Tests of attend and kv_store: near double, and a row hangs on itself
 *	  and on the keys it sees alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "../tap.h"
#include "matrices.h"

#define MAX_KEYS	208			/* whole blocks */
#define MAX_BLOCKS	(MAX_KEYS / L3_KV_BLOCK)

/* Keys and values of a sequence, as stored and as numbers. */
typedef struct Cache
{
	L3KvType	type;
	int			head_dim;
	int			value_dim;
	void	   *k_blocks[MAX_BLOCKS];
	void	   *v_blocks[MAX_BLOCKS];
	double	   *keys;			/* (MAX_KEYS, head_dim), rounded as stored */
	double	   *values;			/* (MAX_KEYS, value_dim) */
} Cache;

static const char *const kv_type_names[L3_N_KV_TYPES] = {
	[L3_KV_F16] = "f16", [L3_KV_F32] = "f32", [L3_KV_Q8_0] = "q8_0"
};

/* What is to be stored for the dim numbers of a head. */
static void
as_stored(L3KvType type, const float *x, int dim, double *stored)
{
	double		scale = 0;

	for (int d = 0; d < dim; d++)
	{
		if (type == L3_KV_Q8_0 && d % 32 == 0)
		{
			double		max = 0;

			for (int i = d; i < dim && i < d + 32; i++)
				max = fmax(max, fabs(x[i]));
			scale = l3_half_to_float(l3_float_to_half((float) max / 127));
		}
		stored[d] = type == L3_KV_F32 ? x[d] :
			type == L3_KV_F16 ? l3_half_to_float(l3_float_to_half(x[d])) :
			scale == 0 ? 0 : fmax(-127, fmin(127, rint(x[d] / (float) scale))) * scale;
	}
}

/* Number e of a head of dim as a kernel left it: of a key block, or of a value block. */
static double
found_in(L3KvType type, const void *block, bool is_key, int slot, int dim, int e)
{
	size_t		at = is_key ? (size_t) e * 16 + slot : (size_t) slot * dim + e;
	size_t		scale_at = is_key ? (size_t) (e / 32) * 16 + slot : (size_t) slot * ((dim + 31) / 32) + e / 32;

	if (type == L3_KV_Q8_0)
		return ((const int8_t *) block)[at] *
			(double) l3_half_to_float(((const uint16_t *) block)[8 * dim + scale_at]);
	return type == L3_KV_F16 ? l3_half_to_float(((const uint16_t *) block)[at]) : ((const float *) block)[at];
}

/* n_keys positions; all else in the blocks is NaN. */
static Cache
random_cache(const L3Kernels *kernels, L3KvType type, int head_dim, int value_dim, int n_keys)
{
	Cache		cache = {type, head_dim, value_dim, {0}, {0}, NULL, NULL};
	float	   *key = malloc((size_t) head_dim * sizeof(float));
	float	   *value = malloc((size_t) value_dim * sizeof(float));

	cache.keys = malloc((size_t) MAX_KEYS * head_dim * sizeof(double));
	cache.values = malloc((size_t) MAX_KEYS * value_dim * sizeof(double));
	for (int b = 0; b * L3_KV_BLOCK < n_keys; b++)
	{
		size_t		k_bytes = L3_KV_BLOCK * l3_kv_head_bytes(type, (size_t) head_dim);
		size_t		v_bytes = L3_KV_BLOCK * l3_kv_head_bytes(type, (size_t) value_dim);

		cache.k_blocks[b] = aligned_bytes(k_bytes);
		cache.v_blocks[b] = aligned_bytes(v_bytes);
		memset(cache.k_blocks[b], 0xFF, k_bytes);
		memset(cache.v_blocks[b], 0xFF, v_bytes);
	}
	for (int j = 0; j < n_keys; j++)
	{
		for (int d = 0; d < head_dim; d++)
			key[d] = random_normal() * (j % 5 == 3 && d < 32 ? 0 : 2);
		/* some so small that their scale is a subnormal half, or none */
		for (int d = 0; d < value_dim; d++)
			value[d] = random_normal() * (j % 7 == 2 ? 1e-5f : j % 7 == 4 ? 1e-8f : 1);
		as_stored(type, key, head_dim, cache.keys + (size_t) j * head_dim);
		as_stored(type, value, value_dim, cache.values + (size_t) j * value_dim);
		kernels->kv_store(type, cache.k_blocks[j / 16], cache.v_blocks[j / 16], j % 16,
						  key, head_dim, value, value_dim);
	}
	free(value);
	free(key);
	return cache;
}

static void
free_cache(Cache *cache)
{
	for (int b = 0; b < MAX_BLOCKS; b++)
	{
		free(cache->k_blocks[b]);
		free(cache->v_blocks[b]);
	}
	free(cache->keys);
	free(cache->values);
}

/* Are all stored numbers where the layout says, and nothing else written? */
static bool
stored_right(const Cache *cache, int n_keys)
{
	bool		ok = true;

	for (int j = 0; j < (n_keys + 15) / 16 * 16; j++)
		for (int d = 0; d < cache->head_dim + cache->value_dim; d++)
		{
			bool		is_key = d < cache->head_dim;
			int			e = is_key ? d : d - cache->head_dim;
			double		found = found_in(cache->type, is_key ? cache->k_blocks[j / 16] : cache->v_blocks[j / 16],
										 is_key, j % 16, is_key ? cache->head_dim : cache->value_dim, e);
			double		expected = is_key ? cache->keys[(size_t) j * cache->head_dim + e] :
				cache->values[(size_t) j * cache->value_dim + e];

			ok = ok && (j < n_keys ? found == expected : isnan(found));
		}
	return ok;
}

/*
 * How far a product of two factors may be off, relative to it, before it is added.
 * AMX, unless the cache is float: a factor rounded to two bfloat16 and the cache's,
 * which is exact of a half, and the product of the low parts left out.
 */
static double
product_error(const L3Kernels *kernels, L3KvType type)
{
	if (!(kernels->features & L3_CPU_AMX) || type == L3_KV_F32)
		return 0;
	return 0x1p-18 + (type == L3_KV_Q8_0 ? 0x1p-17 : 0) + 0x1p-17;
}

/*
 * One row in double.  Returns a bound on what rounding may do in float: each
 * score is off by no more than head_dim roundings of its magnitudes, each
 * weight by the exponential of twice that, and the sums over keys by one
 * rounding a key; all products by product_error.
 */
static double
attend_double(const Cache *cache, const float *q, int n_keys, double product_error, double *out)
{
	double	   *score = malloc((size_t) n_keys * sizeof(double));
	double		max = -INFINITY;
	double		sum = 0;
	double		score_error = 0;
	double		max_value = 0;

	for (int j = 0; j < n_keys; j++)
	{
		double		magnitude = 0;

		score[j] = 0;
		for (int d = 0; d < cache->head_dim; d++)
		{
			double		product = q[d] * cache->keys[(size_t) j * cache->head_dim + d];

			score[j] += product;
			magnitude += fabs(product);
		}
		max = fmax(max, score[j]);
		score_error = fmax(score_error, (cache->head_dim * 0x1p-24 + product_error) * magnitude);
	}
	for (int d = 0; d < cache->value_dim; d++)
		out[d] = 0;
	for (int j = 0; j < n_keys; j++)
	{
		double		p = exp(score[j] - max);

		sum += p;
		for (int d = 0; d < cache->value_dim; d++)
		{
			double		value = cache->values[(size_t) j * cache->value_dim + d];

			out[d] += p * value;
			max_value = fmax(max_value, fabs(value));
		}
	}
	for (int d = 0; d < cache->value_dim; d++)
		out[d] /= sum;
	free(score);
	return max_value * (exp(2 * score_error) - 1 + (n_keys + 24) * 0x1p-23 + product_error);
}

static L3AttendPart
part_of(int n_rows, void *const *k_blocks, void *const *v_blocks)
{
	return (L3AttendPart)
	{
		n_rows, (const void *const *) k_blocks, (const void *const *) v_blocks
	};
}

/* Every number of rows up to 9, then every fifth, and the most; 0 after that. */
static int
next_n_rows(const L3Kernels *kernels, int n_rows)
{
	int			next = n_rows + (n_rows < 9 ? 1 : 5);

	if (n_rows == kernels->attend_rows)
		return 0;
	return next < kernels->attend_rows ? next : kernels->attend_rows;
}

static void
check_attend_shape(const L3Kernels *kernels, L3KvType type, int head_dim, int value_dim)
{
	const char *level = l3_cpu_name(kernels->features);
	int			n_total = 1 + (int) (random_u32() % (MAX_KEYS - 1));
	Cache		cache = random_cache(kernels, type, head_dim, value_dim, n_total);
	float	   *q = malloc((size_t) L3_ATTN_MAX_ROWS * head_dim * sizeof(float));
	float	   *out = malloc((size_t) (L3_ATTN_MAX_ROWS * value_dim + 1) * sizeof(float));
	float	   *alone = malloc((size_t) (value_dim + 1) * sizeof(float));
	double	   *expected = malloc((size_t) value_dim * sizeof(double));
	bool		near = true;
	bool		independent = true;
	bool		inside = true;

	tap_ok(stored_right(&cache, n_total), "%s kv_store %s %d/%d: %d positions in their places",
		   level, kv_type_names[type], head_dim, value_dim, n_total);

	for (int n_rows = 1; n_rows > 0; n_rows = next_n_rows(kernels, n_rows))
	{
		L3AttendArgs args = {.kv_type = type, .head_dim = head_dim, .value_dim = value_dim,
			.n_rows = n_rows, .n_parts = 1, .parts = {part_of(n_rows, cache.k_blocks, cache.v_blocks)}};
		/* Consecutive tokens, as in a prompt, or any lengths. */
		int			start = (int) (random_u32() % (unsigned) n_total);

		poison(out, (size_t) L3_ATTN_MAX_ROWS * value_dim + 1);
		for (int r = 0; r < n_rows; r++)
		{
			args.q[r] = q + (size_t) r * head_dim;
			args.out[r] = out + (size_t) r * value_dim;
			args.n_keys[r] = n_rows % 2 ? 1 + (start + r / 2) % n_total :
				1 + (int) (random_u32() % (unsigned) n_total);
			for (int d = 0; d < head_dim; d++)
				q[(size_t) r * head_dim + d] = random_normal() * 3 / sqrtf((float) head_dim);
		}
		kernels->attend(&args);
		inside = inside && is_poison(out + (size_t) n_rows * value_dim);

		for (int r = 0; r < n_rows; r++)
		{
			L3AttendArgs one = args;
			int			last = (args.n_keys[r] - 1) / L3_KV_BLOCK;
			void	   *blocks[2][MAX_BLOCKS] = {{0}};
			double		bound = attend_double(&cache, args.q[r], args.n_keys[r],
												   product_error(kernels, type), expected);

			for (int d = 0; d < value_dim; d++)
				near = near && fabs(args.out[r][d] - expected[d]) <= bound;

			/* Alone, with no block past its last. */
			memcpy(blocks[0], cache.k_blocks, (size_t) (last + 1) * sizeof(void *));
			memcpy(blocks[1], cache.v_blocks, (size_t) (last + 1) * sizeof(void *));
			poison(alone, (size_t) value_dim + 1);
			one.n_rows = 1;
			one.q[0] = args.q[r];
			one.n_keys[0] = args.n_keys[r];
			one.out[0] = alone;
			one.parts[0] = part_of(1, blocks[0], blocks[1]);
			kernels->attend(&one);
			independent = independent && same_bits(alone, args.out[r], value_dim);
			inside = inside && is_poison(alone + value_dim);
		}
	}
	tap_ok(near, "%s attend %s %d/%d: near the double result", level,
		   kv_type_names[type], head_dim, value_dim);
	tap_ok(independent, "%s attend %s %d/%d: a row hangs on itself and its keys alone", level,
		   kv_type_names[type], head_dim, value_dim);
	tap_ok(inside, "%s attend %s %d/%d: writes its rows only", level,
		   kv_type_names[type], head_dim, value_dim);
	free(expected);
	free(alone);
	free(out);
	free(q);
	free_cache(&cache);
}

/*
 * Rows of several sequences that begin with the same blocks: each as alone, and no
 * block of theirs touched that another sequence has, too.
 */
static void
check_attend_parts(const L3Kernels *kernels, L3KvType type, int head_dim, int value_dim)
{
	Cache		caches[L3_ATTN_MAX_PARTS];
	float	   *q = malloc((size_t) L3_ATTN_MAX_ROWS * head_dim * sizeof(float));
	float	   *out = malloc((size_t) (L3_ATTN_MAX_ROWS * value_dim + 1) * sizeof(float));
	float	   *alone = malloc((size_t) value_dim * sizeof(float));
	bool		same = true;
	bool		inside = true;

	for (int p = 0; p < L3_ATTN_MAX_PARTS; p++)
		caches[p] = random_cache(kernels, type, head_dim, value_dim, MAX_KEYS);
	for (int i = 0; i < L3_ATTN_MAX_ROWS * head_dim; i++)
		q[i] = random_normal() * 3 / sqrtf((float) head_dim);

	for (int trial = 0; trial < 24; trial++)
	{
		int			n_shared = trial % 4 * L3_ATTN_SPLIT;
		int			n_shared_blocks = n_shared / L3_KV_BLOCK;
		void	   *blocks[L3_ATTN_MAX_PARTS][2][MAX_BLOCKS];
		int			part_of_row[L3_ATTN_MAX_ROWS];
		int			room = kernels->attend_rows / L3_ATTN_QUAD;
		L3AttendArgs args = {.kv_type = type, .head_dim = head_dim, .value_dim = value_dim,
		.n_shared = n_shared};

		while (room > 0 && (args.n_parts < 2 || random_u32() % 8 > 0))
		{
			int			p = args.n_parts++;
			/* the second part must find room */
			int			n_quads = 1 + (int) (random_u32() % (unsigned) (p == 0 ? room - 1 : room));
			int			n_rows = n_quads * L3_ATTN_QUAD - (int) (random_u32() % L3_ATTN_QUAD);

			room -= n_quads;
			for (int b = 0; b < MAX_BLOCKS; b++)
			{
				bool		others = p > 0 && b < n_shared_blocks;

				blocks[p][0][b] = others ? NULL : caches[p].k_blocks[b];
				blocks[p][1][b] = others ? NULL : caches[p].v_blocks[b];
			}
			args.parts[p] = part_of(n_rows, blocks[p][0], blocks[p][1]);
			for (int r = args.n_rows; r < args.n_rows + n_rows; r++)
			{
				int			least = n_shared > 0 ? n_shared : 1;

				part_of_row[r] = p;
				args.n_keys[r] = least + (int) (random_u32() % (unsigned) (MAX_KEYS - least + 1));
				args.q[r] = q + r * head_dim;
				args.out[r] = out + r * value_dim;
			}
			args.n_rows += n_rows;
		}
		poison(out, (size_t) L3_ATTN_MAX_ROWS * value_dim + 1);
		kernels->attend(&args);
		inside = inside && is_poison(out + args.n_rows * value_dim);

		for (int r = 0; r < args.n_rows; r++)
		{
			void	   *whole[2][MAX_BLOCKS];
			L3AttendArgs one = {.kv_type = type, .head_dim = head_dim, .value_dim = value_dim,
				.n_rows = 1, .q = {args.q[r]}, .n_keys = {args.n_keys[r]}, .out = {alone}, .n_parts = 1,
			.parts = {part_of(1, whole[0], whole[1])}};

			for (int b = 0; b < MAX_BLOCKS; b++)
			{
				const Cache *cache = &caches[b < n_shared_blocks ? 0 : part_of_row[r]];

				whole[0][b] = cache->k_blocks[b];
				whole[1][b] = cache->v_blocks[b];
			}
			kernels->attend(&one);
			same = same && same_bits(alone, args.out[r], value_dim);
		}
	}
	tap_ok(same, "%s attend %s %d/%d: rows of several sequences as alone", l3_cpu_name(kernels->features),
		   kv_type_names[type], head_dim, value_dim);
	tap_ok(inside, "%s attend %s %d/%d: writes the rows of several sequences only",
		   l3_cpu_name(kernels->features), kv_type_names[type], head_dim, value_dim);
	free(alone);
	free(out);
	free(q);
	for (int p = 0; p < L3_ATTN_MAX_PARTS; p++)
		free_cache(&caches[p]);
}

/*
 * Rows of many lengths over Q8_0 blocks, and over the same numbers as floats.  Not with
 * AMX, which takes floats another way (amx_attend.c).
 */
static void
check_q8_0_as_float(const L3Kernels *kernels, int head_dim, int value_dim)
{
	Cache		cache = random_cache(kernels, L3_KV_Q8_0, head_dim, value_dim, MAX_KEYS);
	void	   *k_blocks[MAX_BLOCKS];
	void	   *v_blocks[MAX_BLOCKS];
	float	   *q = malloc((size_t) L3_ATTN_MAX_ROWS * head_dim * sizeof(float));
	float	   *out = malloc((size_t) L3_ATTN_MAX_ROWS * value_dim * 2 * sizeof(float));
	L3AttendArgs args = {.kv_type = L3_KV_Q8_0, .head_dim = head_dim, .value_dim = value_dim,
		.n_rows = kernels->attend_rows, .n_parts = 1,
	.parts = {part_of(kernels->attend_rows, cache.k_blocks, cache.v_blocks)}};
	L3AttendArgs floats = args;

	for (int b = 0; b < MAX_BLOCKS; b++)
	{
		float	   *k = k_blocks[b] = aligned_bytes(L3_KV_BLOCK * sizeof(float) * (size_t) head_dim);
		float	   *v = v_blocks[b] = aligned_bytes(L3_KV_BLOCK * sizeof(float) * (size_t) value_dim);

		for (int j = 0; j < L3_KV_BLOCK; j++)
		{
			for (int d = 0; d < head_dim; d++)
				k[d * L3_KV_BLOCK + j] = (float) cache.keys[((size_t) b * L3_KV_BLOCK + j) * head_dim + d];
			for (int d = 0; d < value_dim; d++)
				v[j * value_dim + d] = (float) cache.values[((size_t) b * L3_KV_BLOCK + j) * value_dim + d];
		}
	}
	for (int r = 0; r < kernels->attend_rows; r++)
	{
		for (int d = 0; d < head_dim; d++)
			q[r * head_dim + d] = random_normal() * 3 / sqrtf((float) head_dim);
		args.q[r] = floats.q[r] = q + (size_t) r * head_dim;
		args.n_keys[r] = floats.n_keys[r] = 1 + (int) (random_u32() % MAX_KEYS);
		args.out[r] = out + (size_t) r * value_dim;
		floats.out[r] = out + (size_t) (L3_ATTN_MAX_ROWS + r) * value_dim;
	}
	floats.kv_type = L3_KV_F32;
	floats.parts[0] = part_of(kernels->attend_rows, k_blocks, v_blocks);
	kernels->attend(&args);
	kernels->attend(&floats);
	tap_ok(same_bits(args.out[0], floats.out[0], kernels->attend_rows * value_dim),
		   "%s attend q8_0 %d/%d: bit for bit as if the numbers were stored as floats",
		   l3_cpu_name(kernels->features), head_dim, value_dim);
	for (int b = 0; b < MAX_BLOCKS; b++)
	{
		free(k_blocks[b]);
		free(v_blocks[b]);
	}
	free(out);
	free(q);
	free_cache(&cache);
}

/*
 * A position whose key and value are not finite: rows that end before it, in the
 * same split or not, are as if it were not there, and those that see it show it.
 */
static void
check_attend_not_finite(const L3Kernels *kernels, L3KvType type, int head_dim, int value_dim)
{
	Cache		cache = random_cache(kernels, type, head_dim, value_dim, MAX_KEYS);
	float	   *head = malloc((size_t) (head_dim + value_dim) * sizeof(float));
	float	   *q = malloc((size_t) L3_ATTN_MAX_ROWS * head_dim * sizeof(float));
	float	   *out = malloc((size_t) L3_ATTN_MAX_ROWS * value_dim * sizeof(float));
	float	   *expected = malloc((size_t) L3_ATTN_MAX_ROWS * value_dim * sizeof(float));
	bool		same = true;
	bool		shown = true;

	for (int i = 0; i < L3_ATTN_MAX_ROWS * head_dim; i++)
		q[i] = random_normal() * 3 / sqrtf((float) head_dim);
	for (int at = 80; at < 96; at++)
	{
		int			n_rows = 1 + (int) (random_u32() % (unsigned) kernels->attend_rows);
		L3AttendArgs args = {.kv_type = type, .head_dim = head_dim, .value_dim = value_dim,
			.n_rows = n_rows, .n_parts = 1, .parts = {part_of(n_rows, cache.k_blocks, cache.v_blocks)}};

		for (int r = 0; r < n_rows; r++)
		{
			args.q[r] = q + (size_t) r * head_dim;
			args.n_keys[r] = at - 20 + (int) (random_u32() % 50);
		}
		/* First without it: rows that will see it end before. */
		for (int bad = 0; bad < 2; bad++)
		{
			L3AttendArgs call = args;

			for (int d = 0; bad && d < head_dim + value_dim; d++)
				head[d] = random_u32() % 3 == 0 ? NAN : d % 2 ? INFINITY : -INFINITY;
			if (bad)
				kernels->kv_store(type, cache.k_blocks[at / 16], cache.v_blocks[at / 16], at % 16,
								  head, head_dim, head + head_dim, value_dim);
			for (int r = 0; r < n_rows; r++)
			{
				call.out[r] = (bad ? out : expected) + (size_t) r * value_dim;
				if (!bad && call.n_keys[r] > at)
					call.n_keys[r] = at;
			}
			kernels->attend(&call);
		}
		for (int r = 0; r < n_rows; r++)
		{
			if (args.n_keys[r] <= at)
				same = same && same_bits(out + (size_t) r * value_dim, expected + (size_t) r * value_dim, value_dim);
			for (int d = 0; args.n_keys[r] > at && d < value_dim; d++)
				shown = shown && !isfinite(out[(size_t) r * value_dim + d]);
		}
		/* Well again before the next one. */
		for (int d = 0; d < head_dim + value_dim; d++)
			head[d] = random_normal();
		kernels->kv_store(type, cache.k_blocks[at / 16], cache.v_blocks[at / 16], at % 16,
						  head, head_dim, head + head_dim, value_dim);
	}
	tap_ok(same, "%s attend %s %d/%d: rows that do not see a number that is not finite have their bits",
		   l3_cpu_name(kernels->features), kv_type_names[type], head_dim, value_dim);
	tap_ok(shown, "%s attend %s %d/%d: rows that see one show it",
		   l3_cpu_name(kernels->features), kv_type_names[type], head_dim, value_dim);
	free(expected);
	free(out);
	free(q);
	free(head);
	free_cache(&cache);
}

/* What has no finite scale must show, as it does where keys are floats. */
static void
check_q8_0_not_finite(const L3Kernels *kernels)
{
	uint8_t		k_block[L3_KV_BLOCK * (32 + 2)] __attribute__((aligned(64)));
	uint8_t		v_block[L3_KV_BLOCK * (32 + 2)] __attribute__((aligned(64)));
	const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f};
	bool		shows = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		float		head[32] = {1, 2, 3, bad[i], 5};
		bool		shown = false;

		kernels->kv_store(L3_KV_Q8_0, k_block, v_block, 7, head, 32, head, 32);
		for (int d = 0; d < 32; d++)
			shown = shown || !isfinite(found_in(L3_KV_Q8_0, v_block, false, 7, 32, d));
		shows = shows && shown;
	}
	tap_ok(shows, "%s kv_store q8_0: numbers that are not finite do not become such",
		   l3_cpu_name(kernels->features));
}

static void
check_attention(const L3Kernels *kernels)
{
	static const int shapes[][2] = {
		{64, 64}, {128, 128}, {64, 64}, {128, 128}, {2, 1}, {7, 3}, {6, 17}, {80, 80}, {96, 33}, {34, 66}, {512, 512}
	};

	for (int type = 0; type < L3_N_KV_TYPES; type++)
		for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		{
			check_attend_shape(kernels, (L3KvType) type, shapes[i][0], shapes[i][1]);
			check_attend_parts(kernels, (L3KvType) type, shapes[i][0], shapes[i][1]);
			check_attend_not_finite(kernels, (L3KvType) type, shapes[i][0], shapes[i][1]);
		}
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]) && !(kernels->features & L3_CPU_AMX); i++)
		check_q8_0_as_float(kernels, shapes[i][0], shapes[i][1]);
	check_q8_0_not_finite(kernels);
}

#endif							/* ATTENTION_H */
