/*-------------------------------------------------------------------------
 *
 * avx512_attend.c
 *	  Attention and the KV blocks in AVX-512.
 *
 * Four query rows go together: the heads that share a KV head, or consecutive
 * tokens of a prompt.  For a split of 64 positions their scores are a product
 * of 4 rows by 4 vectors of 16 positions, held in 16 registers over all of
 * head_dim; the values are added likewise, 4 rows by 4 vectors of 16 dimensions
 * over the positions.  So each key and value is converted once per four
 * rows.  Fewer rows repeat the last one, whose copies are not stored.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx512.h"
#include "kernels/quad.h"

#define SPLIT_BLOCKS	(L3_ATTN_SPLIT / L3_KV_BLOCK)

/* Up to 16 elements of a block from element i on; scale is only of Q8_0. */
TARGET512 INLINE __m512
kv_load(L3KvType type, const void *block, size_t i, __mmask16 mask, __m512 scale)
{
	if (type == L3_KV_F32)
		return _mm512_maskz_loadu_ps(mask, (const float *) block + i);
	if (type == L3_KV_Q8_0)
	{
		__m128i		q = _mm_maskz_loadu_epi8(mask, (const int8_t *) block + i);

		return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), scale);
	}
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *) block + i));
}

/* Scales of a key block's 16 positions for the group of dimensions that begins at d. */
TARGET512 INLINE __m512
key_scales(L3KvType type, const void *k_block, int head_dim, int d)
{
	const int8_t *scales = (const int8_t *) k_block + (size_t) head_dim * L3_KV_BLOCK;

	if (type != L3_KV_Q8_0)
		return _mm512_setzero_ps();
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) scales + d / L3_KV_GROUP));
}

/* The scale of a value's group of dimensions, in all lanes. */
TARGET512 INLINE __m512
value_scale(L3KvType type, const void *v_block, int value_dim, int slot, int d)
{
	const uint16_t *scales = (const uint16_t *) ((const int8_t *) v_block + (size_t) value_dim * L3_KV_BLOCK);
	size_t		group = slot * l3_kv_groups((size_t) value_dim) + d / L3_KV_GROUP;

	if (type != L3_KV_Q8_0 || d >= value_dim)
		return _mm512_setzero_ps();
	return _mm512_cvtph_ps(_mm256_set1_epi16((short) scales[group]));
}

/* Scores of a split of 64 positions; those past the last block mean nothing. */
TARGET512 INLINE void
split_scores(const L3KvType type, const int R, const L3AttendArgs *args, const L3AttendPart *part,
			 int block0, int n_blocks, Quad *quad)
{
	const void *k[SPLIT_BLOCKS];
	__m512		score[QUAD][SPLIT_BLOCKS];

	UNROLL
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		k[b] = part->k_blocks[block0 + (b < n_blocks ? b : 0)];
		UNROLL
		for (int r = 0; r < R; r++)
			score[r][b] = _mm512_setzero_ps();
	}
	for (int d0 = 0; d0 < args->head_dim; d0 += L3_KV_GROUP)
	{
		int			d1 = d0 + L3_KV_GROUP < args->head_dim ? d0 + L3_KV_GROUP : args->head_dim;
		__m512		scale[SPLIT_BLOCKS];

		UNROLL
		for (int b = 0; b < SPLIT_BLOCKS; b++)
			scale[b] = key_scales(type, k[b], args->head_dim, d0);
		for (int d = d0; d < d1; d++)
		{
			UNROLL
			for (int b = 0; b < SPLIT_BLOCKS; b++)
			{
				__m512		key = kv_load(type, k[b], (size_t) d * L3_KV_BLOCK, 0xFFFF, scale[b]);

				UNROLL
				for (int r = 0; r < R; r++)
					score[r][b] = _mm512_fmadd_ps(_mm512_set1_ps(quad->q[r][d]), key, score[r][b]);
			}
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		UNROLL
		for (int b = 0; b < SPLIT_BLOCKS; b++)
			_mm512_store_ps(&quad->p[r][b * L3_KV_BLOCK], score[r][b]);
	}
}

/*
 * Scores of the n positions that the row sees to probabilities, 0 for the
 * others.  Returns the factor for what was summed before.
 */
TARGET512 INLINE float
split_softmax(Quad *quad, int r, int n, bool first)
{
	__m512		v[SPLIT_BLOCKS];
	__m512		max = _mm512_set1_ps(quad->max[r]);
	float		new_max;
	float		shrink;

	UNROLL
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		v[b] = _mm512_load_ps(&quad->p[r][b * L3_KV_BLOCK]);
		max = _mm512_mask_max_ps(max, first_lanes(n - b * 16), v[b], max);
	}
	new_max = _mm512_reduce_max_ps(max);
	max = _mm512_set1_ps(new_max);
	shrink = first ? 0 : l3_expf(quad->max[r] - new_max);
	UNROLL
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		v[b] = _mm512_maskz_mov_ps(first_lanes(n - b * 16), exp16(_mm512_sub_ps(v[b], max)));
		_mm512_store_ps(&quad->p[r][b * L3_KV_BLOCK], v[b]);
	}
	v[0] = _mm512_add_ps(_mm512_add_ps(v[0], v[2]), _mm512_add_ps(v[1], v[3]));
	quad->sum[r] = (first ? 0 : quad->sum[r] * shrink) + sum16_tree(v[0]);
	quad->max[r] = new_max;
	return shrink;
}

/* Positions j0 .. j1 - 1 of the split, 64 dimensions from d on, rows r0 .. r0 + R - 1. */
TARGET512 INLINE void
add_values(const L3KvType type, const int R, const L3AttendArgs *args, const L3AttendPart *part,
		   const Quad *quad, int r0, int block0, int j0, int j1, int d, const __mmask16 mask[4],
		   __m512 sum[QUAD][4])
{
	for (int j = j0; j < j1; j++)
	{
		const void *v = part->v_blocks[block0 + j / L3_KV_BLOCK];
		int			slot = j % L3_KV_BLOCK;
		size_t		at = (size_t) slot * args->value_dim + d;
		__m512		scale[2] = {
			value_scale(type, v, args->value_dim, slot, d),
			value_scale(type, v, args->value_dim, slot, d + L3_KV_GROUP)
		};

		UNROLL
		for (int i = 0; i < 4; i++)
		{
			__m512		value = kv_load(type, v, at + i * 16, mask[i], scale[i / 2]);

			UNROLL
			for (int r = 0; r < R; r++)
				sum[r][i] = _mm512_fmadd_ps(_mm512_set1_ps(quad->p[r0 + r][j]), value, sum[r][i]);
		}
	}
}

/* Shrink what the rows have and add the split's values. */
TARGET512 INLINE void
split_values(const L3KvType type, const int R, const L3AttendArgs *args, const L3AttendPart *part,
			 const Quad *quad, int block0, const int n[QUAD], const float shrink[QUAD], bool first)
{
	int			common = n[0];

	for (int r = 1; r < R; r++)
		common = n[r] < common ? n[r] : common;

	for (int d = 0; d < args->value_dim; d += 64)
	{
		__mmask16	mask[4];
		__m512		sum[QUAD][4];

		UNROLL
		for (int i = 0; i < 4; i++)
			mask[i] = first_lanes(args->value_dim - d - i * 16);
		UNROLL
		for (int r = 0; r < R; r++)
		{
			UNROLL
			for (int i = 0; i < 4; i++)
				sum[r][i] = first ? _mm512_setzero_ps() :
					_mm512_mul_ps(_mm512_maskz_loadu_ps(mask[i], quad->out[r] + d + i * 16),
								  _mm512_set1_ps(shrink[r]));
		}
		add_values(type, R, args, part, quad, 0, block0, 0, common, d, mask, sum);
		UNROLL
		for (int r = 0; r < R; r++)
		{
			/* What only this row sees. */
			if (n[r] > common)
				add_values(type, 1, args, part, quad, r, block0, common, n[r], d, mask, &sum[r]);
		}
		/* Copies of the last row hold the same as it. */
		UNROLL
		for (int r = 0; r < R; r++)
		{
			UNROLL
			for (int i = 0; i < 4; i++)
				if (r < quad->n_rows)
					_mm512_mask_storeu_ps(quad->out[r] + d + i * 16, mask[i], sum[r][i]);
		}
	}
}

/* A split that begins at first, of n_keys positions of the part. */
TARGET512 INLINE void
attend_split(const L3KvType type, const int R, const L3AttendArgs *args, const L3AttendPart *part,
			 Quad *quad, int first, int n_keys)
{
	int			block0 = first / L3_KV_BLOCK;
	int			n_blocks = (n_keys - first + L3_KV_BLOCK - 1) / L3_KV_BLOCK;
	int			n[QUAD];
	float		shrink[QUAD];

	split_scores(type, R, args, part, block0, n_blocks, quad);
	for (int r = 0; r < R; r++)
	{
		n[r] = seen_in_split(quad, r, first);
		/* A row whose keys ended before keeps what it has. */
		shrink[r] = n[r] > 0 ? split_softmax(quad, r, n[r], first == 0) : 1;
	}
	split_values(type, R, args, part, quad, block0, n, shrink, first == 0);
}

TARGET512 INLINE void
attend_rows(const L3KvType type, const int R, const L3AttendArgs *args, Quad *quads, int n_quads,
			int n_together)
{
	for (int first = 0; first < n_together; first += L3_ATTN_SPLIT)
		for (int i = 0; i < n_quads; i++)
			attend_split(type, R, args, args->parts, &quads[i], first, n_together);
	for (int i = 0; i < n_quads; i++)
		for (int first = n_together; first < quads[i].longest; first += L3_ATTN_SPLIT)
			attend_split(type, R, args, quads[i].part, &quads[i], first, quads[i].longest);
	for (int i = 0; i < n_quads; i++)
		for (int r = 0; r < quads[i].n_rows; r++)
			for (int d = 0; d < args->value_dim; d += 16)
			{
				__mmask16	mask = first_lanes(args->value_dim - d);
				float	   *out = quads[i].out[r] + d;
				__m512		v = _mm512_maskz_loadu_ps(mask, out);

				_mm512_mask_storeu_ps(out, mask, _mm512_div_ps(v, _mm512_set1_ps(quads[i].sum[r])));
			}
}

TARGET512 static void
attend_f16_1(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together)
{
	attend_rows(L3_KV_F16, 1, args, quads, n_quads, n_together);
}

TARGET512 static void
attend_f16_4(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together)
{
	attend_rows(L3_KV_F16, QUAD, args, quads, n_quads, n_together);
}

TARGET512 static void
attend_f32_1(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together)
{
	attend_rows(L3_KV_F32, 1, args, quads, n_quads, n_together);
}

TARGET512 static void
attend_f32_4(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together)
{
	attend_rows(L3_KV_F32, QUAD, args, quads, n_quads, n_together);
}

TARGET512 static void
attend_q8_0_1(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together)
{
	attend_rows(L3_KV_Q8_0, 1, args, quads, n_quads, n_together);
}

TARGET512 static void
attend_q8_0_4(const L3AttendArgs *args, Quad *quads, int n_quads, int n_together)
{
	attend_rows(L3_KV_Q8_0, QUAD, args, quads, n_quads, n_together);
}

static void
attend(const L3AttendArgs *args)
{
	static const AttendQuadsFn fns[L3_N_KV_TYPES][2] = {
		[L3_KV_F16] = {attend_f16_1, attend_f16_4},
		[L3_KV_F32] = {attend_f32_1, attend_f32_4},
		[L3_KV_Q8_0] = {attend_q8_0_1, attend_q8_0_4}
	};

	attend_by_quads(args, fns);
}

TARGET512 static void
kv_store_f16(uint16_t *k, uint16_t *v, const float *key, int head_dim,
			 const float *value, int value_dim)
{
	for (int d = 0; d < head_dim; d += 16)
	{
		__mmask16	mask = first_lanes(head_dim - d);
		uint16_t	h[16];

		_mm256_storeu_si256((__m256i *) h,
							_mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, key + d),
											_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
		for (int i = 0; i < 16 && d + i < head_dim; i++)
			k[(size_t) (d + i) * L3_KV_BLOCK] = h[i];
	}
	for (int d = 0; d < value_dim; d += 16)
	{
		__mmask16	mask = first_lanes(value_dim - d);

		_mm256_mask_storeu_epi16(v + d, mask,
								 _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, value + d),
												 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
	}
}

static void
kv_store(L3KvType type, void *k_block, void *v_block, int slot,
		 const float *key, int head_dim, const float *value, int value_dim)
{
	if (type == L3_KV_F16)
		kv_store_f16((uint16_t *) k_block + slot, (uint16_t *) v_block + (size_t) slot * value_dim,
					 key, head_dim, value, value_dim);
	else
		l3_generic_kv_store(type, k_block, v_block, slot, key, head_dim, value, value_dim);
}

void
l3_avx512_attend(L3Kernels *kernels)
{
	kernels->attend = attend;
	kernels->kv_store = kv_store;
}

#endif							/* __x86_64__ */
