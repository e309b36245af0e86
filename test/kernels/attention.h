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

static double
as_stored(L3KvType type, float f)
{
	return type == L3_KV_F16 ? l3_half_to_float(l3_float_to_half(f)) : f;
}

/* n_keys positions; all else in the blocks is NaN. */
static Cache
random_cache(const L3Kernels *kernels, L3KvType type, int head_dim, int value_dim, int n_keys)
{
	Cache		cache = {type, head_dim, value_dim, {0}, {0}, NULL, NULL};
	size_t		size = type == L3_KV_F16 ? 2 : 4;
	float	   *key = malloc((size_t) head_dim * sizeof(float));
	float	   *value = malloc((size_t) value_dim * sizeof(float));

	cache.keys = malloc((size_t) MAX_KEYS * head_dim * sizeof(double));
	cache.values = malloc((size_t) MAX_KEYS * value_dim * sizeof(double));
	for (int b = 0; b * L3_KV_BLOCK < n_keys; b++)
	{
		size_t		k_bytes = L3_KV_BLOCK * size * (size_t) head_dim;
		size_t		v_bytes = L3_KV_BLOCK * size * (size_t) value_dim;

		cache.k_blocks[b] = aligned_bytes(k_bytes);
		cache.v_blocks[b] = aligned_bytes(v_bytes);
		memset(cache.k_blocks[b], 0xFF, k_bytes);
		memset(cache.v_blocks[b], 0xFF, v_bytes);
	}
	for (int j = 0; j < n_keys; j++)
	{
		for (int d = 0; d < head_dim; d++)
		{
			key[d] = random_normal() * 2;
			cache.keys[(size_t) j * head_dim + d] = as_stored(type, key[d]);
		}
		for (int d = 0; d < value_dim; d++)
		{
			value[d] = random_normal();
			cache.values[(size_t) j * value_dim + d] = as_stored(type, value[d]);
		}
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
			const void *block = is_key ? cache->k_blocks[j / 16] : cache->v_blocks[j / 16];
			size_t		at = is_key ? (size_t) e * 16 + j % 16 :
				(size_t) (j % 16) * cache->value_dim + e;
			double		found = cache->type == L3_KV_F16 ?
				l3_half_to_float(((const uint16_t *) block)[at]) : ((const float *) block)[at];
			double		expected = is_key ? cache->keys[(size_t) j * cache->head_dim + e] :
				cache->values[(size_t) j * cache->value_dim + e];

			ok = ok && (j < n_keys ? found == expected : isnan(found));
		}
	return ok;
}

/*
 * One row in double.  Returns a bound on what rounding may do in float: each
 * score is off by no more than head_dim roundings of its magnitudes, each
 * weight by the exponential of twice that, and the sums over keys by one
 * rounding a key.
 */
static double
attend_double(const Cache *cache, const float *q, int n_keys, double *out)
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
		score_error = fmax(score_error, cache->head_dim * 0x1p-24 * magnitude);
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
	return max_value * (exp(2 * score_error) - 1 + (n_keys + 24) * 0x1p-23);
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
		   level, type == L3_KV_F16 ? "f16" : "f32", head_dim, value_dim, n_total);

	for (int n_rows = 1; n_rows <= L3_ATTN_MAX_ROWS; n_rows++)
	{
		L3AttendArgs args = {type, head_dim, value_dim, n_rows, {0}, {0}, {0},
			(const void *const *) cache.k_blocks, (const void *const *) cache.v_blocks};
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
			double		bound = attend_double(&cache, args.q[r], args.n_keys[r], expected);

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
			one.k_blocks = (const void *const *) blocks[0];
			one.v_blocks = (const void *const *) blocks[1];
			kernels->attend(&one);
			independent = independent && same_bits(alone, args.out[r], value_dim);
			inside = inside && is_poison(alone + value_dim);
		}
	}
	tap_ok(near, "%s attend %s %d/%d: near the double result", level,
		   type == L3_KV_F16 ? "f16" : "f32", head_dim, value_dim);
	tap_ok(independent, "%s attend %s %d/%d: a row hangs on itself and its keys alone", level,
		   type == L3_KV_F16 ? "f16" : "f32", head_dim, value_dim);
	tap_ok(inside, "%s attend %s %d/%d: writes its rows only", level,
		   type == L3_KV_F16 ? "f16" : "f32", head_dim, value_dim);
	free(expected);
	free(alone);
	free(out);
	free(q);
	free_cache(&cache);
}

static void
check_attention(const L3Kernels *kernels)
{
	static const int shapes[][2] = {
		{64, 64}, {128, 128}, {64, 64}, {128, 128}, {2, 1}, {6, 17}, {80, 80}, {96, 33}, {34, 66}, {512, 512}
	};

	for (int type = L3_KV_F16; type <= L3_KV_F32; type++)
		for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
			check_attend_shape(kernels, (L3KvType) type, shapes[i][0], shapes[i][1]);
}

#endif							/* ATTENTION_H */
