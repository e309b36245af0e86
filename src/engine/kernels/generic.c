/*-------------------------------------------------------------------------
 *
 * generic.c
 *	  The transformer's vector functions and attention in portable C, and
 *	  the table filled with it.
 *
 * Sums run in 16 chains (element i in chain i mod 16; 8 for sums in double)
 * that are then added pairwise in a fixed tree: the order that vector code of
 * any width can follow, so that one definition serves all.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/generic.h"

#define N		L3_PANEL

/* Sum of n (a power of two) values as a tree: x[i] + x[i + n/2], and so on. */
static float
tree_sum(float *x, int n)
{
	for (int half = n / 2; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			x[i] += x[i + half];
	return x[0];
}

static void
rms_norm(float *y, const float *x, const float *weight, int n, float eps)
{
	float		chain[N] = {0};
	float		scale;

	for (int i = 0; i < n; i++)
		chain[i % N] = l3_madd(x[i], x[i], chain[i % N]);
	scale = 1.0f / sqrtf(tree_sum(chain, N) / (float) n + eps);
	for (int i = 0; i < n; i++)
		y[i] = x[i] * scale * weight[i];
}

static void
rope(float *x, int n_heads, int head_dim, int rope_dim, const float *cosine,
	 const float *sine, float scale)
{
	for (int h = 0; h < n_heads; h++, x += head_dim)
	{
		for (int i = 0; i < rope_dim / 2; i++)
		{
			float		a = x[2 * i];
			float		b = x[2 * i + 1];

			x[2 * i] = (a * cosine[i] - b * sine[i]) * scale;
			x[2 * i + 1] = (b * cosine[i] + a * sine[i]) * scale;
		}
		for (int i = rope_dim; i < head_dim; i++)
			x[i] *= scale;
	}
}

/* silu(x) = x / (1 + e^-x) */
static void
swiglu(float *gate, const float *up, int n)
{
	for (int i = 0; i < n; i++)
		gate[i] = gate[i] / (1.0f + l3_expf(-gate[i])) * up[i];
}

void
l3_generic_kv_store(L3KvType type, void *k_block, void *v_block, int slot,
					const float *key, int head_dim, const float *value, int value_dim)
{
	if (type == L3_KV_F32)
	{
		float	   *k = (float *) k_block + slot;
		float	   *v = (float *) v_block + (size_t) slot * value_dim;

		for (int d = 0; d < head_dim; d++)
			k[(size_t) d * L3_KV_BLOCK] = key[d];
		memcpy(v, value, (size_t) value_dim * sizeof(float));
	}
	else
	{
		uint16_t   *k = (uint16_t *) k_block + slot;
		uint16_t   *v = (uint16_t *) v_block + (size_t) slot * value_dim;

		for (int d = 0; d < head_dim; d++)
			k[(size_t) d * L3_KV_BLOCK] = l3_float_to_half(key[d]);
		for (int d = 0; d < value_dim; d++)
			v[d] = l3_float_to_half(value[d]);
	}
}

static inline float
kv_load(L3KvType type, const void *block, size_t i)
{
	return type == L3_KV_F32 ? ((const float *) block)[i] :
		l3_half_to_float(((const uint16_t *) block)[i]);
}

/* scores of the 16 positions of one block against one query */
static void
block_scores(const L3AttendArgs *args, const float *q, const void *k_block,
			 float scores[L3_KV_BLOCK])
{
	for (int j = 0; j < L3_KV_BLOCK; j++)
		scores[j] = 0;
	for (int d = 0; d < args->head_dim; d++)
		for (int j = 0; j < L3_KV_BLOCK; j++)
			scores[j] = l3_madd(q[d], kv_load(args->kv_type, k_block,
											  (size_t) d * L3_KV_BLOCK + j), scores[j]);
}

/*
 * One split of up to 64 positions merged into a row: running maximum *max,
 * sum of exponentials *sum, and weighted values out.  Positions past n_keys
 * are neither read nor counted.
 */
static void
attend_split(const L3AttendArgs *args, int row, int first, float *max, float *sum)
{
	float		scores[L3_ATTN_SPLIT];
	int			n = args->n_keys[row] - first;
	float		new_max = *max;
	float		shrink;
	float	   *out = args->out[row];

	n = n < L3_ATTN_SPLIT ? n : L3_ATTN_SPLIT;
	for (int j = 0; j < n; j += L3_KV_BLOCK)
		block_scores(args, args->q[row], args->k_blocks[(first + j) / L3_KV_BLOCK],
					 scores + j);
	for (int j = 0; j < n; j++)
		new_max = scores[j] > new_max ? scores[j] : new_max;

	/* At the first split there is nothing to shrink. */
	shrink = first == 0 ? 0 : l3_expf(*max - new_max);
	for (int j = 0; j < L3_ATTN_SPLIT; j++)
		scores[j] = j < n ? l3_expf(scores[j] - new_max) : 0;

	for (int d = 0; d < args->value_dim; d++)
		out[d] = first == 0 ? 0 : out[d] * shrink;
	for (int j = 0; j < n; j++)
	{
		const void *v = args->v_blocks[(first + j) / L3_KV_BLOCK];
		size_t		at = (size_t) (j % L3_KV_BLOCK) * args->value_dim;

		for (int d = 0; d < args->value_dim; d++)
			out[d] = l3_madd(scores[j], kv_load(args->kv_type, v, at + d), out[d]);
	}
	*sum = (first == 0 ? 0 : *sum * shrink) + tree_sum(scores, L3_ATTN_SPLIT);
	*max = new_max;
}

static void
attend(const L3AttendArgs *args)
{
	for (int row = 0; row < args->n_rows; row++)
	{
		float		max = -INFINITY;
		float		sum = 0;

		for (int first = 0; first < args->n_keys[row]; first += L3_ATTN_SPLIT)
			attend_split(args, row, first, &max, &sum);
		for (int d = 0; d < args->value_dim; d++)
			args->out[row][d] /= sum;
	}
}

static int
argmax(const float *x, int n)
{
	int			best = -1;

	for (int i = 0; i < n; i++)
	{
		if (x[i] != x[i])
			continue;
		if (best < 0 || x[i] > x[best])
			best = i;
	}
	return best < 0 ? 0 : best;
}

static double
logsumexp(const float *x, int n)
{
	double		chain[8] = {0};
	float		max = -INFINITY;

	for (int i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	if (max == -INFINITY || max == INFINITY)
	{
		/* Nothing to sum, but a NaN shows. */
		for (int i = 0; i < n; i++)
			if (x[i] != x[i])
				return (double) x[i];
		return (double) max;
	}
	for (int i = 0; i < n; i++)
		chain[i % 8] += l3_exp_negative((double) x[i] - (double) max);
	for (int half = 4; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			chain[i] += chain[i + half];
	return (double) max + log(chain[0]);
}

void
l3_kernels_generic(L3Kernels *kernels)
{
	kernels->features = 0;
	kernels->quantize_rows = l3_generic_quantize_rows;
	for (int type = 0; type < L3_N_PACKED_TYPES; type++)
		kernels->matmul[type] = l3_generic_matmul;
	kernels->matmul_scratch_bytes = l3_generic_matmul_scratch_bytes;
	kernels->matrix_row = l3_generic_matrix_row;
	kernels->rms_norm = rms_norm;
	kernels->rope = rope;
	kernels->swiglu = swiglu;
	kernels->kv_store = l3_generic_kv_store;
	kernels->attend = attend;
	kernels->argmax = argmax;
	kernels->logsumexp = logsumexp;
}
