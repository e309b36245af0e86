/*-------------------------------------------------------------------------
 *
 * avx2_attend.c
 *	  Attention and the KV blocks in AVX2.
 *
 * As avx512_attend.c, with four rows by one block of 16 positions, and four
 * rows by 16 dimensions of the values, in registers.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx2.h"
#include "kernels/quad.h"

/* 8 int8 as floats. */
TARGET2 INLINE __m256
load_bytes8(const void *src)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(src)));
}

/* 8 elements of a block from element i on, of which n are there; scale is only of Q8_0. */
TARGET2 INLINE __m256
kv_load(L3KvType type, const void *block, size_t i, int n, __m256 scale)
{
	if (type == L3_KV_Q8_0)
	{
		int8_t		part[8] = {0};

		if (n >= 8)
			return _mm256_mul_ps(load_bytes8((const int8_t *) block + i), scale);
		for (int j = 0; j < n; j++)
			part[j] = ((const int8_t *) block)[i + j];
		return _mm256_mul_ps(load_bytes8(part), scale);
	}
	if (type == L3_KV_F32)
		return n >= 8 ? _mm256_loadu_ps((const float *) block + i) :
			_mm256_maskload_ps((const float *) block + i, first_lanes(n));
	if (n < 8)
	{
		uint16_t	part[8] = {0};

		for (int j = 0; j < n; j++)
			part[j] = ((const uint16_t *) block)[i + j];
		return load_halves8(part);
	}
	return load_halves8((const uint16_t *) block + i);
}

/* Scales of 8 of a key block's positions from slot on, for the group of dimensions that begins at d. */
TARGET2 INLINE __m256
key_scales(L3KvType type, const void *k_block, int head_dim, int d, int slot)
{
	const uint16_t *scales = (const uint16_t *) ((const int8_t *) k_block + (size_t) head_dim * L3_KV_BLOCK);

	if (type != L3_KV_Q8_0)
		return _mm256_setzero_ps();
	return load_halves8(scales + d / L3_KV_GROUP * L3_KV_BLOCK + slot);
}

/* The scale of a value's group of dimensions, in all lanes. */
TARGET2 INLINE __m256
value_scale(L3KvType type, const void *v_block, int value_dim, int slot, int d)
{
	const uint16_t *scales = (const uint16_t *) ((const int8_t *) v_block + (size_t) value_dim * L3_KV_BLOCK);

	if (type != L3_KV_Q8_0)
		return _mm256_setzero_ps();
	return _mm256_cvtph_ps(_mm_set1_epi16((short) scales[slot * l3_kv_groups((size_t) value_dim) + d / L3_KV_GROUP]));
}

TARGET2 INLINE void
block_scores(const L3KvType type, const int R, const L3AttendArgs *args, int block, int at, Quad *quad)
{
	const void *k = args->k_blocks[block];
	__m256		score[QUAD][2];

	UNROLL
	for (int r = 0; r < R; r++)
		score[r][0] = score[r][1] = _mm256_setzero_ps();
	for (int d0 = 0; d0 < args->head_dim; d0 += L3_KV_GROUP)
	{
		int			d1 = d0 + L3_KV_GROUP < args->head_dim ? d0 + L3_KV_GROUP : args->head_dim;
		__m256		scale_a = key_scales(type, k, args->head_dim, d0, 0);
		__m256		scale_b = key_scales(type, k, args->head_dim, d0, 8);

		for (int d = d0; d < d1; d++)
		{
			__m256		a = kv_load(type, k, (size_t) d * L3_KV_BLOCK, 8, scale_a);
			__m256		b = kv_load(type, k, (size_t) d * L3_KV_BLOCK + 8, 8, scale_b);

			UNROLL
			for (int r = 0; r < R; r++)
			{
				__m256		q = _mm256_set1_ps(quad->q[r][d]);

				score[r][0] = _mm256_fmadd_ps(q, a, score[r][0]);
				score[r][1] = _mm256_fmadd_ps(q, b, score[r][1]);
			}
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		_mm256_store_ps(&quad->p[r][at], score[r][0]);
		_mm256_store_ps(&quad->p[r][at + 8], score[r][1]);
	}
}

/*
 * Scores of the n positions that the row sees to probabilities, 0 for the
 * others.  Returns the factor for what was summed before.
 */
TARGET2 static float
split_softmax(Quad *quad, int r, int n, bool first)
{
	const __m256 lowest = _mm256_set1_ps(-INFINITY);
	__m256		max = _mm256_set1_ps(quad->max[r]);
	__m256		sum[8];
	float		new_max;
	float		shrink;

	for (int j = 0; j < n; j += 8)
	{
		__m256		v = _mm256_load_ps(&quad->p[r][j]);

		v = _mm256_blendv_ps(lowest, v, _mm256_castsi256_ps(first_lanes(n - j)));
		max = _mm256_max_ps(v, max);
	}
	new_max = max8(max);
	max = _mm256_set1_ps(new_max);
	shrink = first ? 0 : l3_expf(quad->max[r] - new_max);
	for (int i = 0; i < 8; i++)
	{
		float	   *p = &quad->p[r][8 * i];

		sum[i] = _mm256_setzero_ps();
		if (8 * i < n)
			sum[i] = _mm256_and_ps(exp8(_mm256_sub_ps(_mm256_load_ps(p), max)),
								   _mm256_castsi256_ps(first_lanes(n - 8 * i)));
		_mm256_store_ps(p, sum[i]);
	}
	for (int half = 4; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			sum[i] = _mm256_add_ps(sum[i], sum[i + half]);
	quad->sum[r] = (first ? 0 : quad->sum[r] * shrink) + sum8_tree(sum[0]);
	quad->max[r] = new_max;
	return shrink;
}

/* Positions j0 .. j1 - 1 of the split, n dimensions (up to 16) from d on. */
TARGET2 INLINE void
add_values(const L3KvType type, const int R, const L3AttendArgs *args, const Quad *quad, int r0,
		   int block0, int j0, int j1, int d, int n, __m256 sum[QUAD][2])
{
	for (int j = j0; j < j1; j++)
	{
		const void *v = args->v_blocks[block0 + j / L3_KV_BLOCK];
		size_t		at = (size_t) (j % L3_KV_BLOCK) * args->value_dim + d;
		__m256		scale = value_scale(type, v, args->value_dim, j % L3_KV_BLOCK, d);
		__m256		a = kv_load(type, v, at, n, scale);
		__m256		b = kv_load(type, v, at + 8, n - 8, scale);

		UNROLL
		for (int r = 0; r < R; r++)
		{
			__m256		p = _mm256_set1_ps(quad->p[r0 + r][j]);

			sum[r][0] = _mm256_fmadd_ps(p, a, sum[r][0]);
			sum[r][1] = _mm256_fmadd_ps(p, b, sum[r][1]);
		}
	}
}

/* Shrink what the rows have in n dimensions from d on and add the split's values. */
TARGET2 INLINE void
split_values(const L3KvType type, const int R, const L3AttendArgs *args, const Quad *quad,
			 int block0, const int n_seen[QUAD], const float shrink[QUAD], bool first, int d, int n)
{
	__m256i		mask[2] = {first_lanes(n), first_lanes(n - 8)};
	__m256		sum[QUAD][2];
	int			common = n_seen[0];

	for (int r = 1; r < R; r++)
		common = n_seen[r] < common ? n_seen[r] : common;
	UNROLL
	for (int r = 0; r < R; r++)
	{
		UNROLL
		for (int i = 0; i < 2; i++)
			sum[r][i] = first ? _mm256_setzero_ps() :
				_mm256_mul_ps(_mm256_maskload_ps(quad->out[r] + d + i * 8, mask[i]),
							  _mm256_set1_ps(shrink[r]));
	}
	add_values(type, R, args, quad, 0, block0, 0, common, d, n, sum);
	UNROLL
	for (int r = 0; r < R; r++)
	{
		/* What only this row sees. */
		if (n_seen[r] > common)
			add_values(type, 1, args, quad, r, block0, common, n_seen[r], d, n, &sum[r]);
	}
	/* Copies of the last row hold the same as it. */
	UNROLL
	for (int r = 0; r < R; r++)
	{
		UNROLL
		for (int i = 0; i < 2; i++)
			if (r < quad->n_rows)
				_mm256_maskstore_ps(quad->out[r] + d + i * 8, mask[i], sum[r][i]);
	}
}

TARGET2 INLINE void
attend_rows(const L3KvType type, const int R, const L3AttendArgs *args, Quad *quad)
{
	int			n_keys = 0;

	for (int r = 0; r < R; r++)
		n_keys = quad->n_keys[r] > n_keys ? quad->n_keys[r] : n_keys;

	for (int first = 0; first < n_keys; first += L3_ATTN_SPLIT)
	{
		int			block0 = first / L3_KV_BLOCK;
		int			n[QUAD];
		float		shrink[QUAD];

		for (int j = 0; j < L3_ATTN_SPLIT && first + j < n_keys; j += L3_KV_BLOCK)
			block_scores(type, R, args, block0 + j / L3_KV_BLOCK, j, quad);
		for (int r = 0; r < R; r++)
		{
			n[r] = quad->n_keys[r] - first;
			n[r] = n[r] < L3_ATTN_SPLIT ? n[r] : L3_ATTN_SPLIT;
			/* A row whose keys ended before keeps what it has. */
			shrink[r] = 1;
			if (n[r] > 0)
				shrink[r] = split_softmax(quad, r, n[r], first == 0);
			else
				n[r] = 0;
		}
		for (int d = 0; d + 16 <= args->value_dim; d += 16)
			split_values(type, R, args, quad, block0, n, shrink, first == 0, d, 16);
		if (args->value_dim % 16 != 0)
			split_values(type, R, args, quad, block0, n, shrink, first == 0,
						 args->value_dim / 16 * 16, args->value_dim % 16);
	}
	for (int r = 0; r < quad->n_rows; r++)
		for (int d = 0; d < args->value_dim; d++)
			quad->out[r][d] /= quad->sum[r];
}

TARGET2 static void
attend_f16_1(const L3AttendArgs *args, Quad *quad)
{
	attend_rows(L3_KV_F16, 1, args, quad);
}

TARGET2 static void
attend_f16_4(const L3AttendArgs *args, Quad *quad)
{
	attend_rows(L3_KV_F16, QUAD, args, quad);
}

TARGET2 static void
attend_f32_1(const L3AttendArgs *args, Quad *quad)
{
	attend_rows(L3_KV_F32, 1, args, quad);
}

TARGET2 static void
attend_f32_4(const L3AttendArgs *args, Quad *quad)
{
	attend_rows(L3_KV_F32, QUAD, args, quad);
}

TARGET2 static void
attend_q8_0_1(const L3AttendArgs *args, Quad *quad)
{
	attend_rows(L3_KV_Q8_0, 1, args, quad);
}

TARGET2 static void
attend_q8_0_4(const L3AttendArgs *args, Quad *quad)
{
	attend_rows(L3_KV_Q8_0, QUAD, args, quad);
}

static void
attend(const L3AttendArgs *args)
{
	static const AttendQuadFn fns[L3_N_KV_TYPES][2] = {
		[L3_KV_F16] = {attend_f16_1, attend_f16_4},
		[L3_KV_F32] = {attend_f32_1, attend_f32_4},
		[L3_KV_Q8_0] = {attend_q8_0_1, attend_q8_0_4}
	};

	attend_by_quads(args, fns);
}

void
l3_avx2_attend(L3Kernels *kernels)
{
	kernels->attend = attend;
}

#endif							/* __x86_64__ */
