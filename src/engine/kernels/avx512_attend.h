/*-------------------------------------------------------------------------
 *
 * avx512_attend.h
 *	  What the attention of AVX-512 and that of AMX share: numbers from the KV
 *	  blocks, and the online softmax of a quad.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AVX512_ATTEND_H
#define L3_AVX512_ATTEND_H

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

/* A bit for each position of the split that a row sees. */
INLINE uint64_t
seen_bits(int n_seen)
{
	return n_seen >= L3_ATTN_SPLIT ? UINT64_MAX : (UINT64_C(1) << n_seen) - 1;
}

/*
 * Scores of the n[r] positions that each row sees to probabilities, 0 for the
 * others; whole: each sees all 64.  shrink: the factors for what was summed
 * before.  A row whose keys ended before sees none and keeps what it has.
 * The rows are interleaved, for each alone is one long chain.
 */
TARGET512 INLINE void
split_softmax(const int R, const bool whole, Quad *quad, const int n[QUAD], float shrink[QUAD])
{
	__m512		max[QUAD];
	uint64_t	seen[QUAD];
	float		change[16] = {0};

	UNROLL
	for (int r = 0; r < R; r++)
	{
		max[r] = _mm512_set1_ps(quad->max[r]);
		seen[r] = seen_bits(n[r]);
	}
	UNROLL
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		UNROLL
		for (int r = 0; r < R; r++)
		{
			__m512		v = _mm512_load_ps(&quad->p[r][b * L3_KV_BLOCK]);

			max[r] = whole ? _mm512_max_ps(v, max[r]) :
				_mm512_mask_max_ps(max[r], (__mmask16) (seen[r] >> b * 16), v, max[r]);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		float		new_max = _mm512_reduce_max_ps(max[r]);

		change[r] = quad->max[r] - new_max;
		quad->max[r] = new_max;
		max[r] = _mm512_set1_ps(new_max);
	}
	_mm512_storeu_ps(change, exp16_negative(_mm512_loadu_ps(change)));
	UNROLL
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		UNROLL
		for (int r = 0; r < R; r++)
		{
			float	   *at = &quad->p[r][b * L3_KV_BLOCK];

			__m512		p = exp16_negative(_mm512_sub_ps(_mm512_load_ps(at), max[r]));

			_mm512_store_ps(at, whole ? p : _mm512_maskz_mov_ps((__mmask16) (seen[r] >> b * 16), p));
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		const float *p = quad->p[r];

		shrink[r] = change[r];
		quad->sum[r] = quad->sum[r] * shrink[r] +
			sum16_tree(_mm512_add_ps(_mm512_add_ps(_mm512_load_ps(p), _mm512_load_ps(p + 32)),
									 _mm512_add_ps(_mm512_load_ps(p + 16), _mm512_load_ps(p + 48))));
	}
}

TARGET512 INLINE void
rows_softmax(const int R, Quad *quad, int first, SplitRows *rows)
{
	see_split(R, quad, first, rows);
	if (rows->n_common == L3_ATTN_SPLIT)
		split_softmax(R, true, quad, rows->n_seen, rows->shrink);
	else
		split_softmax(R, false, quad, rows->n_seen, rows->shrink);
}

/* Functions of their own, so that their constants take no registers of the products' loops. */
TARGET512 __attribute__((noinline)) static void
row_softmax(Quad *quad, int first, SplitRows *rows)
{
	rows_softmax(1, quad, first, rows);
}

TARGET512 __attribute__((noinline)) static void
quad_softmax(Quad *quad, int first, SplitRows *rows)
{
	rows_softmax(QUAD, quad, first, rows);
}

/* What was summed over all splits, by the sum of its probabilities. */
TARGET512 INLINE void
finish_quads(const L3AttendArgs *args, Quad *quads, int n_quads)
{
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

#endif							/* L3_AVX512_ATTEND_H */
