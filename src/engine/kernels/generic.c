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

/* The dim numbers of a head to int8, q_step apart, and scales, scale_step apart. */
static void
store_q8_0(const float *x, int dim, int8_t *q, int q_step, uint16_t *scale, int scale_step)
{
	for (int first = 0; first < dim; first += L3_KV_GROUP, scale += scale_step)
	{
		int			end = first + L3_KV_GROUP < dim ? first + L3_KV_GROUP : dim;
		uint32_t	max_bits = 0;
		float		step;

		/* Magnitudes compare as integers do, and a NaN is larger than all, so that it shows. */
		for (int d = first; d < end; d++)
		{
			uint32_t	bits = l3_float_to_bits(x[d]) & 0x7FFFFFFF;

			max_bits = bits > max_bits ? bits : max_bits;
		}
		*scale = l3_float_to_half(l3_bits_to_float(max_bits) / 127.0f);
		step = l3_half_to_float(*scale);
		for (int d = first; d < end; d++)
		{
			float		v = step != 0 ? x[d] / step : 0;

			/* Scales below 2^-14 are coarse; NaN becomes 127. */
			v = v < 127.0f ? v : 127.0f;
			v = v > -127.0f ? v : -127.0f;
			q[(size_t) d * q_step] = (int8_t) ((v + L3_ROUND_MAGIC_F) - L3_ROUND_MAGIC_F);
		}
	}
}

void
l3_generic_kv_store(L3KvType type, void *k_block, void *v_block, int slot,
					const float *key, int head_dim, const float *value, int value_dim)
{
	if (type == L3_KV_Q8_0)
	{
		int8_t	   *k = k_block;
		int8_t	   *v = v_block;
		size_t		v_groups = l3_kv_groups((size_t) value_dim);

		store_q8_0(key, head_dim, k + slot, L3_KV_BLOCK,
				   (uint16_t *) (k + (size_t) head_dim * L3_KV_BLOCK) + slot, L3_KV_BLOCK);
		store_q8_0(value, value_dim, v + (size_t) slot * value_dim, 1,
				   (uint16_t *) (v + (size_t) value_dim * L3_KV_BLOCK) + slot * v_groups, 1);
	}
	else if (type == L3_KV_F32)
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

/* Number i of a block of n, whose scale is number group of the block's. */
static inline float
kv_load(L3KvType type, const void *block, size_t i, size_t n, size_t group)
{
	if (type == L3_KV_Q8_0)
	{
		const uint16_t *scales = (const uint16_t *) ((const int8_t *) block + n);

		return (float) ((const int8_t *) block)[i] * l3_half_to_float(scales[group]);
	}
	return type == L3_KV_F32 ? ((const float *) block)[i] :
		l3_half_to_float(((const uint16_t *) block)[i]);
}

/* scores of the 16 positions of one block against one query */
static void
block_scores(const L3AttendArgs *args, const float *q, const void *k_block,
			 float scores[L3_KV_BLOCK])
{
	size_t		n = (size_t) args->head_dim * L3_KV_BLOCK;

	for (int j = 0; j < L3_KV_BLOCK; j++)
		scores[j] = 0;
	for (int d = 0; d < args->head_dim; d++)
		for (int j = 0; j < L3_KV_BLOCK; j++)
			scores[j] = l3_madd(q[d], kv_load(args->kv_type, k_block, (size_t) d * L3_KV_BLOCK + j, n,
											  (size_t) (d / L3_KV_GROUP) * L3_KV_BLOCK + j),
								scores[j]);
}

/*
 * One split of up to 64 positions merged into a row: running maximum *max,
 * sum of exponentials *sum, and weighted values out.  Positions past n_keys
 * are neither read nor counted.
 */
static void
attend_split(const L3AttendArgs *args, const L3AttendPart *part, int row, int first, float *max,
			 float *sum)
{
	float		scores[L3_ATTN_SPLIT];
	int			n = args->n_keys[row] - first;
	float		new_max = *max;
	float		shrink;
	float	   *out = args->out[row];

	n = n < L3_ATTN_SPLIT ? n : L3_ATTN_SPLIT;
	for (int j = 0; j < n; j += L3_KV_BLOCK)
		block_scores(args, args->q[row], part->k_blocks[(first + j) / L3_KV_BLOCK],
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
		const void *v = part->v_blocks[(first + j) / L3_KV_BLOCK];
		size_t		at = (size_t) (j % L3_KV_BLOCK) * args->value_dim;
		size_t		group = (size_t) (j % L3_KV_BLOCK) * l3_kv_groups((size_t) args->value_dim);

		for (int d = 0; d < args->value_dim; d++)
			out[d] = l3_madd(scores[j], kv_load(args->kv_type, v, at + d,
												(size_t) args->value_dim * L3_KV_BLOCK,
												group + d / L3_KV_GROUP), out[d]);
	}
	*sum = (first == 0 ? 0 : *sum * shrink) + tree_sum(scores, L3_ATTN_SPLIT);
	*max = new_max;
}

static void
attend(const L3AttendArgs *args)
{
	const L3AttendPart *part = args->parts;
	int			part_end = part->n_rows;

	for (int row = 0; row < args->n_rows; row++)
	{
		float		max = -INFINITY;
		float		sum = 0;

		if (row == part_end)
			part_end += (++part)->n_rows;
		for (int first = 0; first < args->n_keys[row]; first += L3_ATTN_SPLIT)
			attend_split(args, args->n_parts > 1 && first < args->n_shared ? args->parts : part,
						 row, first, &max, &sum);
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
	kernels->attend_rows = 32;
	kernels->argmax = argmax;
	kernels->logsumexp = logsumexp;
}
