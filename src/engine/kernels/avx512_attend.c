/*-------------------------------------------------------------------------
 *
 * avx512_attend.c
 *	  Attention and the KV blocks in AVX-512.
 *
 * Four query rows go together: the heads that share a KV head, or consecutive
 * tokens of a prompt.  For a split of 64 positions their scores are a product
 * of 4 rows by 4 vectors of 16 positions, held in 16 registers over all of
 * head_dim; the values are added likewise, 4 rows by 4 vectors of 16 dimensions
 * over the positions.  What the first quad of a call converts to float it leaves
 * in memory for the others, so that all 32 rows share it.  Fewer rows repeat the
 * last one.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "engine.h"
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

/* sum[r] += x[r][i] * y, 64 numbers, for all r */
TARGET512 INLINE void
add_product(const int R, const float *const x[QUAD], int i, const __m512 y[4], __m512 sum[QUAD][4])
{
	UNROLL
	for (int v = 0; v < 4; v++)
	{
		UNROLL
		for (int r = 0; r < R; r++)
			sum[r][v] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][i]), y[v], sum[r][v]);
	}
}

/* The same over n times 64 numbers that another quad left in memory. */
TARGET512 INLINE void
add_kept(const int R, const float *const x[QUAD], const float *kept, int n, __m512 sum[QUAD][4])
{
	for (int i = 0; i < n; i++)
	{
		__m512		y[4];

		UNROLL
		for (int v = 0; v < 4; v++)
			y[v] = _mm512_load_ps(kept + i * 64 + v * 16);
		add_product(R, x, i, y, sum);
	}
}

TARGET512 INLINE void
keep(float *kept, int i, const __m512 y[4])
{
	UNROLL
	for (int v = 0; v < 4; v++)
		_mm512_store_ps(kept + i * 64 + v * 16, y[v]);
}

/*
 * Scores by the keys of a split's blocks, which are left in kept (head_dim, 64)
 * if that is not NULL.
 */
TARGET512 INLINE void
add_keys(const L3KvType type, const int R, const float *const q[QUAD], const void *const k[SPLIT_BLOCKS],
		 int head_dim, float *kept, __m512 sum[QUAD][4])
{
	for (int d0 = 0; d0 < head_dim; d0 += L3_KV_GROUP)
	{
		int			d1 = d0 + L3_KV_GROUP < head_dim ? d0 + L3_KV_GROUP : head_dim;
		__m512		scale[SPLIT_BLOCKS];

		UNROLL
		for (int b = 0; b < SPLIT_BLOCKS; b++)
			scale[b] = key_scales(type, k[b], head_dim, d0);
		for (int d = d0; d < d1; d++)
		{
			__m512		key[SPLIT_BLOCKS];

			UNROLL
			for (int b = 0; b < SPLIT_BLOCKS; b++)
				key[b] = kv_load(type, k[b], (size_t) d * L3_KV_BLOCK, 0xFFFF, scale[b]);
			if (kept != NULL)
				keep(kept, d, key);
			add_product(R, q, d, key, sum);
		}
	}
}

/*
 * Values of positions j0 .. j1 - 1 of the split that begins with block0, 64
 * dimensions from d on of which the masked are there, left in kept
 * (L3_ATTN_SPLIT, 64) if that is not NULL.
 */
TARGET512 INLINE void
add_values(const L3KvType type, const int R, const L3AttendArgs *args, const L3AttendPart *part,
		   const float *const p[QUAD], int block0, int j0, int j1, int d, const __mmask16 mask[4],
		   float *kept, __m512 sum[QUAD][4])
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
		__m512		value[4];

		UNROLL
		for (int i = 0; i < 4; i++)
			value[i] = kv_load(type, v, at + i * 16, mask[i], scale[i / 2]);
		if (kept != NULL)
			keep(kept, j, value);
		add_product(R, p, j, value, sum);
	}
}

/*
 * A quad's scores of a split of 64 positions; those past the last block mean
 * nothing.  several: the first of several quads leaves the keys in kept.
 */
TARGET512 INLINE void
split_scores(const L3KvType type, const int R, const bool several, const void *const k[SPLIT_BLOCKS],
			 int head_dim, bool is_first, float *kept, Quad *quad)
{
	__m512		score[QUAD][SPLIT_BLOCKS];

	UNROLL
	for (int r = 0; r < R; r++)
	{
		UNROLL
		for (int b = 0; b < SPLIT_BLOCKS; b++)
			score[r][b] = _mm512_setzero_ps();
	}
	if (!several || is_first)
		add_keys(type, R, quad->q, k, head_dim, several ? kept : NULL, score);
	else
		add_kept(R, quad->q, kept, head_dim, score);
	UNROLL
	for (int r = 0; r < R; r++)
	{
		UNROLL
		for (int b = 0; b < SPLIT_BLOCKS; b++)
			_mm512_store_ps(&quad->p[r][b * L3_KV_BLOCK], score[r][b]);
	}
}

/* A bit for each position of the split that a row sees. */
INLINE uint64_t
seen_bits(int n_seen)
{
	return n_seen >= L3_ATTN_SPLIT ? UINT64_MAX : (UINT64_C(1) << n_seen) - 1;
}

/*
 * Scores of the n[r] positions that each row sees to probabilities, 0 for the
 * others.  shrink: the factors for what was summed before.  A row whose keys
 * ended before sees none and keeps what it has.  The rows are interleaved, for
 * each alone is one long chain.
 */
TARGET512 INLINE void
split_softmax(const int R, Quad *quad, const int n[QUAD], float shrink[QUAD])
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
			max[r] = _mm512_mask_max_ps(max[r], (__mmask16) (seen[r] >> b * 16),
										_mm512_load_ps(&quad->p[r][b * L3_KV_BLOCK]), max[r]);
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

			_mm512_store_ps(at, _mm512_maskz_mov_ps((__mmask16) (seen[r] >> b * 16),
													exp16_negative(_mm512_sub_ps(_mm512_load_ps(at), max[r]))));
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
	split_softmax(R, quad, rows->n_seen, rows->shrink);
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

/*
 * Shrink what the quads have in n dimensions (up to 64) from d on, and add the
 * values of a split, of whose positions n_positions are there.
 */
TARGET512 INLINE void
split_values(const L3KvType type, const int R, const bool several, const L3AttendArgs *args,
			 const L3AttendPart *part, Quad *quads, int n_quads, const SplitRows *rows, int block0,
			 int n_positions, bool first, int d, int n, float *kept)
{
	__mmask16	mask[4];

	UNROLL
	for (int i = 0; i < 4; i++)
		mask[i] = first_lanes(n - i * 16);
	for (int i = 0; i < n_quads; i++)
	{
		Quad	   *quad = &quads[i];
		const int	common = rows[i].n_common;
		const float *p[QUAD];
		__m512		sum[QUAD][4];

		UNROLL
		for (int r = 0; r < R; r++)
		{
			p[r] = quad->p[r];
			UNROLL
			for (int v = 0; v < 4; v++)
				sum[r][v] = first ? _mm512_setzero_ps() :
					_mm512_mul_ps(_mm512_maskz_loadu_ps(mask[v], quad->out[r] + d + v * 16),
								  _mm512_set1_ps(rows[i].shrink[r]));
		}
		if (several && i > 0)
			add_kept(R, p, kept, common, sum);
		else
		{
			add_values(type, R, args, part, p, block0, 0, common, d, mask, several ? kept : NULL, sum);
			/* What other quads see. */
			if (several)
				add_values(type, 0, args, part, p, block0, common, n_positions, d, mask, kept, sum);
		}
		UNROLL
		for (int r = 0; r < R; r++)
		{
			const float *one[QUAD] = {p[r]};

			/* What only this row sees. */
			if (rows[i].n_seen[r] > common)
				add_values(type, 1, args, part, one, block0, common, rows[i].n_seen[r], d, mask, NULL, &sum[r]);
		}
		/* Copies of the last row were loaded before it is stored. */
		UNROLL
		for (int r = 0; r < R; r++)
		{
			UNROLL
			for (int v = 0; v < 4; v++)
				_mm512_mask_storeu_ps(quad->out[r] + d + v * 16, mask[v], sum[r][v]);
		}
	}
}

/* Converted keys and values that the first of several quads leaves to the others. */
typedef struct Kept
{
	float		keys[L3_MAX_HEAD_DIM * L3_ATTN_SPLIT] __attribute__((aligned(64)));
	float		values[L3_ATTN_SPLIT * 64] __attribute__((aligned(64)));
} Kept;

/* A split that begins at first, of n_keys positions of the part. */
TARGET512 INLINE void
attend_split(const L3KvType type, const int R, const bool several, const L3AttendArgs *args,
			 const L3AttendPart *part, Quad *quads, int n_quads, int first, int n_keys, Kept *kept)
{
	int			whole = args->value_dim / 64 * 64;
	int			block0 = first / L3_KV_BLOCK;
	int			n = n_keys - first < L3_ATTN_SPLIT ? n_keys - first : L3_ATTN_SPLIT;
	const void *k[SPLIT_BLOCKS];
	SplitRows	rows[MAX_QUADS];

	for (int b = 0; b < SPLIT_BLOCKS; b++)
		k[b] = part->k_blocks[block0 + (b * L3_KV_BLOCK < n ? b : 0)];
	for (int i = 0; i < n_quads; i++)
	{
		split_scores(type, R, several, k, args->head_dim, i == 0, kept->keys, &quads[i]);
		if (R == 1)
			row_softmax(&quads[i], first, &rows[i]);
		else
			quad_softmax(&quads[i], first, &rows[i]);
	}
	for (int d = 0; d < whole; d += 64)
		split_values(type, R, several, args, part, quads, n_quads, rows, block0, n, first == 0, d, 64,
					 kept->values);
	if (whole < args->value_dim)
		split_values(type, R, several, args, part, quads, n_quads, rows, block0, n, first == 0, whole,
					 args->value_dim - whole, kept->values);
}

/* several: there are several quads. */
TARGET512 INLINE void
attend_rows(const L3KvType type, const int R, const bool several, const L3AttendArgs *args, Quad *quads,
			int n_quads, int n_together)
{
	Kept		kept;

	for (int first = 0; first < n_together; first += L3_ATTN_SPLIT)
		attend_split(type, R, several, args, args->parts, quads, n_quads, first, n_together, &kept);
	for (int i = 0; several && i < n_quads; i++)
		for (int first = n_together; first < quads[i].longest; first += L3_ATTN_SPLIT)
			attend_split(type, R, false, args, quads[i].part, &quads[i], 1, first, quads[i].longest, &kept);
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

ATTEND(TARGET512)

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
