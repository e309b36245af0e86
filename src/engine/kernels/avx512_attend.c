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
 * in memory for the others, so that all rows share it.  Fewer rows repeat the
 * last one.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "engine.h"
#include "kernels/avx512_attend.h"

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
	finish_quads(args, quads, n_quads);
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
l3_avx512_attend_float(const L3AttendArgs *args)
{
	attend(args);
}

void
l3_avx512_attend(L3Kernels *kernels)
{
	kernels->attend = attend;
	kernels->kv_store = kv_store;
}

#endif							/* __x86_64__ */
