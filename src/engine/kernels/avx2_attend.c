/*-------------------------------------------------------------------------
 *
 * avx2_attend.c
 *	  Attention and the KV blocks in AVX2.
 *
 * Four rows by one block of 16 positions, and four rows by 16 dimensions of
 * the values, in registers.  What the first quad of a call converts to float
 * it leaves in memory for the others, so that all rows share it.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "engine.h"
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

/*
 * sum[r] += x[r][i] * (a, b) for all r, a and b being 16 numbers y[i]: eight
 * chains over i, as two FMA units of four cycles need.
 */
TARGET2 INLINE void
add_product(const int R, const float *const x[QUAD], int i, __m256 a, __m256 b, __m256 sum[QUAD][2])
{
	UNROLL
	for (int r = 0; r < R; r++)
	{
		__m256		f = _mm256_broadcast_ss(&x[r][i]);

		sum[r][0] = _mm256_fmadd_ps(f, a, sum[r][0]);
		sum[r][1] = _mm256_fmadd_ps(f, b, sum[r][1]);
	}
}

/* The same over n numbers that another quad left in memory. */
TARGET2 INLINE void
add_kept(const int R, const float *const x[QUAD], const float *y, int n, __m256 sum[QUAD][2])
{
	for (int i = 0; i < n; i++)
		add_product(R, x, i, _mm256_load_ps(y + i * 16), _mm256_load_ps(y + i * 16 + 8), sum);
}

/* Scores of a key block, whose numbers are left in kept (head_dim, 16) if that is not NULL. */
TARGET2 INLINE void
add_keys(const L3KvType type, const int R, const float *const q[QUAD], const void *k, int head_dim,
		 float *kept, __m256 sum[QUAD][2])
{
	for (int d0 = 0; d0 < head_dim; d0 += L3_KV_GROUP)
	{
		int			d1 = d0 + L3_KV_GROUP < head_dim ? d0 + L3_KV_GROUP : head_dim;
		__m256		scale_a = key_scales(type, k, head_dim, d0, 0);
		__m256		scale_b = key_scales(type, k, head_dim, d0, 8);

		for (int d = d0; d < d1; d++)
		{
			__m256		a = kv_load(type, k, (size_t) d * L3_KV_BLOCK, 8, scale_a);
			__m256		b = kv_load(type, k, (size_t) d * L3_KV_BLOCK + 8, 8, scale_b);

			if (kept != NULL)
			{
				_mm256_store_ps(kept + d * 16, a);
				_mm256_store_ps(kept + d * 16 + 8, b);
			}
			add_product(R, q, d, a, b, sum);
		}
	}
}

/*
 * Values of positions j0 .. j1 - 1 of the split that begins with block0, n
 * dimensions (up to 16) from d on, left in kept (L3_ATTN_SPLIT, 16) if that is
 * not NULL.
 */
TARGET2 INLINE void
add_values(const L3KvType type, const int R, const L3AttendArgs *args, const L3AttendPart *part,
		   const float *const p[QUAD], int block0, int j0, int j1, int d, int n, float *kept,
		   __m256 sum[QUAD][2])
{
	for (int j = j0; j < j1; j++)
	{
		const void *v = part->v_blocks[block0 + j / L3_KV_BLOCK];
		size_t		at = (size_t) (j % L3_KV_BLOCK) * args->value_dim + d;
		__m256		scale = value_scale(type, v, args->value_dim, j % L3_KV_BLOCK, d);
		__m256		a = kv_load(type, v, at, n, scale);
		__m256		b = kv_load(type, v, at + 8, n - 8, scale);

		if (kept != NULL)
		{
			_mm256_store_ps(kept + j * 16, a);
			_mm256_store_ps(kept + j * 16 + 8, b);
		}
		add_product(R, p, j, a, b, sum);
	}
}

TARGET2 INLINE void
block_scores(const L3KvType type, const int R, const bool several, const void *k, int head_dim,
			 bool is_first, float *kept, Quad *quad, int at)
{
	__m256		score[QUAD][2];

	UNROLL
	for (int r = 0; r < R; r++)
		score[r][0] = score[r][1] = _mm256_setzero_ps();
	if (!several || is_first)
		add_keys(type, R, quad->q, k, head_dim, several ? kept : NULL, score);
	else
		add_kept(R, quad->q, kept, head_dim, score);
	UNROLL
	for (int r = 0; r < R; r++)
	{
		_mm256_store_ps(&quad->p[r][at], score[r][0]);
		_mm256_store_ps(&quad->p[r][at + 8], score[r][1]);
	}
}

/* e^x for x <= 0 in 8 lanes, the bits of exp8; a NaN stays one */
TARGET2 INLINE __m256
exp8_negative(__m256 x)
{
	const __m256 magic = _mm256_set1_ps(L3_ROUND_MAGIC_F);
	__m256		shifted,
				t,
				power;

	/* With a NaN this gives the second operand. */
	x = _mm256_max_ps(_mm256_set1_ps(L3_EXPF_MIN), x);
	shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(L3_LOG2E_F), magic);
	t = _mm256_sub_ps(shifted, magic);
	/* The lowest bits of shifted are t as an integer >= -150; 2^t itself may be subnormal. */
	power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23),
												 _mm256_set1_epi32((127 + 64) << 23)));
	return _mm256_mul_ps(_mm256_mul_ps(exp8_remainder(x, t), power), _mm256_set1_ps(0x1p-64f));
}

/*
 * Scores of the n[r] positions that each row sees to probabilities, 0 for the
 * others; whole: each sees all 64.  shrink: the factors for what was summed
 * before.  A row whose keys ended before sees none and keeps what it has.
 * The rows are interleaved, for each alone is one long chain.
 */
TARGET2 INLINE void
split_softmax(const int R, const bool whole, Quad *quad, const int n[QUAD], float shrink[QUAD])
{
	const __m256 lowest = _mm256_set1_ps(-INFINITY);
	__m256		max[QUAD];
	float		change[8] = {0};

	UNROLL
	for (int r = 0; r < R; r++)
		max[r] = _mm256_set1_ps(quad->max[r]);
	for (int j = 0; j < L3_ATTN_SPLIT; j += 8)
	{
		UNROLL
		for (int r = 0; r < R; r++)
		{
			__m256		v = _mm256_load_ps(&quad->p[r][j]);

			if (!whole)
				v = _mm256_blendv_ps(lowest, v, _mm256_castsi256_ps(first_lanes(n[r] - j)));
			max[r] = _mm256_max_ps(v, max[r]);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		float		new_max = max8(max[r]);

		change[r] = quad->max[r] - new_max;
		quad->max[r] = new_max;
		max[r] = _mm256_set1_ps(new_max);
	}
	_mm256_storeu_ps(change, exp8_negative(_mm256_loadu_ps(change)));
	for (int j = 0; j < L3_ATTN_SPLIT; j += 8)
	{
		UNROLL
		for (int r = 0; r < R; r++)
		{
			__m256		p = exp8_negative(_mm256_sub_ps(_mm256_load_ps(&quad->p[r][j]), max[r]));

			if (!whole)
				p = _mm256_and_ps(p, _mm256_castsi256_ps(first_lanes(n[r] - j)));
			_mm256_store_ps(&quad->p[r][j], p);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		__m256		sum[4];

		UNROLL
		for (int i = 0; i < 4; i++)
			sum[i] = _mm256_add_ps(_mm256_load_ps(&quad->p[r][8 * i]), _mm256_load_ps(&quad->p[r][8 * i + 32]));
		sum[0] = _mm256_add_ps(_mm256_add_ps(sum[0], sum[2]), _mm256_add_ps(sum[1], sum[3]));
		shrink[r] = change[r];
		quad->sum[r] = quad->sum[r] * shrink[r] + sum8_tree(sum[0]);
	}
}

TARGET2 INLINE void
quad_softmax(const int R, Quad *quad, int first, SplitRows *rows)
{
	see_split(R, quad, first, rows);
	if (rows->n_common == L3_ATTN_SPLIT)
		split_softmax(R, true, quad, rows->n_seen, rows->shrink);
	else
		split_softmax(R, false, quad, rows->n_seen, rows->shrink);
}

/*
 * Shrink what the quads have in n dimensions (up to 16) from d on, and add the
 * values of a split, of whose positions n_positions are there.
 */
TARGET2 INLINE void
split_values(const L3KvType type, const int R, const bool several, const L3AttendArgs *args,
			 const L3AttendPart *part, Quad *quads, int n_quads, const SplitRows *rows, int block0,
			 int n_positions, bool first, int d, int n, float *kept)
{
	for (int i = 0; i < n_quads; i++)
	{
		Quad	   *quad = &quads[i];
		const int	common = rows[i].n_common;
		const float *p[QUAD];
		__m256		sum[QUAD][2];

		UNROLL
		for (int r = 0; r < R; r++)
		{
			p[r] = quad->p[r];
			UNROLL
			for (int h = 0; h < 2; h++)
				sum[r][h] = first ? _mm256_setzero_ps() :
					_mm256_mul_ps(load_lanes(quad->out[r] + d + h * 8, n - h * 8),
								  _mm256_set1_ps(rows[i].shrink[r]));
		}
		if (several && i > 0)
			add_kept(R, p, kept, common, sum);
		else
		{
			add_values(type, R, args, part, p, block0, 0, common, d, n, several ? kept : NULL, sum);
			/* What other quads see. */
			if (several)
				add_values(type, 0, args, part, p, block0, common, n_positions, d, n, kept, sum);
		}
		UNROLL
		for (int r = 0; r < R; r++)
		{
			const float *one[QUAD] = {p[r]};

			/* What only this row sees. */
			if (rows[i].n_seen[r] > common)
				add_values(type, 1, args, part, one, block0, common, rows[i].n_seen[r], d, n, NULL, &sum[r]);
		}
		/* Copies of the last row were loaded before it is stored. */
		UNROLL
		for (int r = 0; r < R; r++)
		{
			UNROLL
			for (int h = 0; h < 2; h++)
				store_lanes(quad->out[r] + d + h * 8, sum[r][h], n - h * 8);
		}
	}
}

/* Converted keys and values that the first of several quads leaves to the others. */
typedef struct Kept
{
	float		keys[L3_MAX_HEAD_DIM * L3_KV_BLOCK] __attribute__((aligned(64)));
	float		values[L3_ATTN_SPLIT * 16] __attribute__((aligned(64)));
} Kept;

/* A split that begins at first, of n_keys positions of the part. */
TARGET2 INLINE void
attend_split(const L3KvType type, const int R, const bool several, const L3AttendArgs *args,
			 const L3AttendPart *part, Quad *quads, int n_quads, int first, int n_keys, Kept *kept)
{
	int			whole = args->value_dim / 16 * 16;
	int			block0 = first / L3_KV_BLOCK;
	int			n = n_keys - first < L3_ATTN_SPLIT ? n_keys - first : L3_ATTN_SPLIT;
	SplitRows	rows[MAX_QUADS] = {0};

	for (int j = 0; j < n; j += L3_KV_BLOCK)
		for (int i = 0; i < n_quads; i++)
			block_scores(type, R, several, part->k_blocks[block0 + j / L3_KV_BLOCK], args->head_dim,
						 i == 0, kept->keys, &quads[i], j);
	for (int i = 0; i < n_quads; i++)
		quad_softmax(R, &quads[i], first, &rows[i]);
	for (int d = 0; d < whole; d += 16)
		split_values(type, R, several, args, part, quads, n_quads, rows, block0, n, first == 0, d, 16,
					 kept->values);
	if (whole < args->value_dim)
		split_values(type, R, several, args, part, quads, n_quads, rows, block0, n, first == 0, whole,
					 args->value_dim - whole, kept->values);
}

/* several: there are several quads. */
TARGET2 INLINE void
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
			for (int d = 0; d < args->value_dim; d += 8)
			{
				float	   *out = quads[i].out[r] + d;
				int			n = args->value_dim - d;

				store_lanes(out, _mm256_div_ps(load_lanes(out, n), _mm256_set1_ps(quads[i].sum[r])), n);
			}
}

ATTEND(TARGET2)

void
l3_avx2_attend(L3Kernels *kernels)
{
	kernels->attend = attend;
}

#endif							/* __x86_64__ */
