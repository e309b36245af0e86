/*-------------------------------------------------------------------------
 *
 * avx2_quant.c
 *	  Quantised matrix products and the activations' int8 form in AVX2.
 *
 * Sixteen registers do not hold the chains of a tile, so those live in the L1
 * cache, and a group is taken for four rows at a time, eight columns at a time,
 * with the integer sums in registers.  Packed nibbles are unpacked, group by
 * group, into a buffer in L1 that serves all rows of the tile.
 *
 * VPMADDUBSW adds pairs of byte products with saturation to 16 bits, which
 * must not happen: four-bit weights leave room for eight such pairs, six-bit
 * ones for two, and eight-bit weights go as two nibbles.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx2.h"

#define QUAD		4			/* rows whose sums are in registers together */

/* As in avx512_quant.h: a chunk of panels stays in half of L2. */
#define CHUNK_BYTES			(256 * 1024)
#define CHUNK_MAX_PANELS	8

/* ----------------------------------------------------------------
 *		Unpacking
 * ----------------------------------------------------------------
 */

/* The eight quad rows of group g, unpacked into buffer where they are packed. */
TARGET2 INLINE const uint8_t *
group_quads(L3PackedType type, const uint8_t *quants, int g, uint8_t *buffer)
{
	const __m256i nibble = _mm256_set1_epi8(15);

	if (type == L3_Q4_0)
	{
		const uint8_t *row = quants + (size_t) g * 256;

		for (int i = 0; i < 256; i += 32)
		{
			__m256i		b = _mm256_load_si256((const __m256i *) (row + i));

			_mm256_store_si256((__m256i *) (buffer + i), _mm256_and_si256(b, nibble));
			_mm256_store_si256((__m256i *) (buffer + 256 + i),
							   _mm256_and_si256(_mm256_srli_epi16(b, 4), nibble));
		}
		return buffer;
	}
	if (type == L3_Q4_K)
	{
		const uint8_t *row = quants + (size_t) (g / 2) * 512;
		__m128i		shift = _mm_cvtsi32_si128(g % 2 * 4);

		for (int i = 0; i < 512; i += 32)
		{
			__m256i		b = _mm256_load_si256((const __m256i *) (row + i));

			_mm256_store_si256((__m256i *) (buffer + i),
							   _mm256_and_si256(_mm256_srl_epi16(b, shift), nibble));
		}
		return buffer;
	}
	if (type == L3_Q6_K)
	{
		int			in_block = g % 8;
		const uint8_t *ql = quants + (size_t) (g / 8) * (48 * 64) + in_block % 4 * 512;
		const uint8_t *qh = quants + (size_t) (g / 8) * (48 * 64) + 32 * 64 + in_block % 2 * 512;
		__m128i		shift = _mm_cvtsi32_si128(in_block / 4 * 4);
		__m128i		shift_high = _mm_cvtsi32_si128(in_block / 2 * 2);
		__m256i		two = _mm256_set1_epi8(3);

		for (int i = 0; i < 512; i += 32)
		{
			__m256i		low = _mm256_srl_epi16(_mm256_load_si256((const __m256i *) (ql + i)), shift);
			__m256i		high = _mm256_srl_epi16(_mm256_load_si256((const __m256i *) (qh + i)), shift_high);

			high = _mm256_slli_epi16(_mm256_and_si256(high, two), 4);
			_mm256_store_si256((__m256i *) (buffer + i),
							   _mm256_or_si256(_mm256_and_si256(low, nibble), high));
		}
		return buffer;
	}
	return quants + (size_t) g * 512;
}

/* scale[16] = d[16] * integers[16] */
TARGET2 INLINE void
scale_products(const uint8_t *d, __m128i integers, bool is_signed, bool negate, float *scale)
{
	const __m256 sign = _mm256_set1_ps(negate ? -0.0f : 0.0f);

	UNROLL
	for (int h = 0; h < 2; h++)
	{
		__m128i		eight = h ? _mm_srli_si128(integers, 8) : integers;
		__m256i		wide = is_signed ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight);
		__m256		product = _mm256_mul_ps(load_halves8(d + 16 * h), _mm256_cvtepi32_ps(wide));

		_mm256_store_ps(scale + 8 * h, _mm256_xor_ps(product, sign));
	}
}

TARGET2 INLINE void
copy_halves(const uint8_t *src, float *dst)
{
	_mm256_store_ps(dst, load_halves8(src));
	_mm256_store_ps(dst + 8, load_halves8(src + 16));
}

TARGET2 static void
unpack_scales_q4_k(const uint8_t *block, float *scale, float *add)
{
	const __m128i *sm = (const __m128i *) (block + 64);
	const __m128i low6 = _mm_set1_epi8(63);
	const __m128i low4 = _mm_set1_epi8(15);
	const __m128i upper2 = _mm_set1_epi8(0x30);

	for (int g = 0; g < 8; g++, scale += L3_PANEL, add += L3_PANEL)
	{
		__m128i		sc,
					mn;

		if (g < 4)
		{
			sc = _mm_and_si128(_mm_load_si128(sm + g), low6);
			mn = _mm_and_si128(_mm_load_si128(sm + g + 4), low6);
		}
		else
		{
			__m128i		both = _mm_load_si128(sm + g + 4);

			sc = _mm_or_si128(_mm_and_si128(both, low4),
							  _mm_and_si128(_mm_srli_epi16(_mm_load_si128(sm + g - 4), 2), upper2));
			mn = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(both, 4), low4),
							  _mm_and_si128(_mm_srli_epi16(_mm_load_si128(sm + g), 2), upper2));
		}
		scale_products(block, sc, false, false, scale);
		scale_products(block + 32, mn, false, true, add);
	}
}

/* The scales of a whole panel as floats: [group][1 or 2][16]. */
TARGET2 static void
unpack_scales(L3PackedType type, const uint8_t *src, int n_groups, float *scale, float *add)
{
	switch (type)
	{
		case L3_Q8_0:
		case L3_Q4_0:
			for (int g = 0; g < n_groups; g++)
				copy_halves(src + (size_t) g * 32, scale + g * 16);
			break;
		case L3_Q8_1:
			for (int g = 0; g < n_groups; g++)
			{
				copy_halves(src + (size_t) g * 64, scale + g * 16);
				copy_halves(src + (size_t) g * 64 + 32, add + g * 16);
			}
			break;
		case L3_Q4_K:
			for (int g = 0; g < n_groups; g += 8)
				unpack_scales_q4_k(src + (size_t) (g / 8) * 256, scale + g * 16, add + g * 16);
			break;
		case L3_Q6_K:
			for (int b = 0; b < n_groups / 8; b++, src += 288)
				for (int h = 0; h < 16; h++, scale += 16)
					scale_products(src, _mm_loadu_si128((const __m128i *) (src + 32) + h), true, false, scale);
			break;
		default:				/* L3_Q8_K */
			for (int b = 0; b < n_groups / 8; b++, src += 576)
				for (int h = 0; h < 16; h++, scale += 16, add += 16)
				{
					scale_products(src, _mm_loadu_si128((const __m128i *) (src + 64) + h), true, false, scale);
					scale_products(src + 32, _mm_loadu_si128((const __m128i *) (src + 64 + 256) + h), false, true, add);
				}
			break;
	}
}

/* ----------------------------------------------------------------
 *		One tile
 * ----------------------------------------------------------------
 */

/* One tile of rows by one panel. */
typedef struct TileArgs
{
	const uint8_t *quants;
	const float *scale;
	const float *add;
	int			zero_point;
	int			n_groups;
	int			n_rows;
	const int8_t *xq;			/* the tile's, as in L3Act */
	const float *xscale;
	const int32_t *xsum16;
	float	   *acc;			/* (L3_ACT_TILE, 16), zero */
} TileArgs;

/* Sums of n quads of 8 columns for R rows, by pairs of bytes. */
TARGET2 INLINE void
dot_columns(int bits, const int R, const uint8_t *quads, const int8_t *xq, int n, __m256i sum[QUAD])
{
	const __m256i ones = _mm256_set1_epi16(1);
	const __m256i sixteens = _mm256_set1_epi16(16);
	const __m256i nibble = _mm256_set1_epi8(15);
	__m256i		low[QUAD];
	__m256i		high[QUAD];

	UNROLL
	for (int r = 0; r < R; r++)
		low[r] = high[r] = _mm256_setzero_si256();
	UNROLL
	for (int j = 0; j < n; j++)
	{
		__m256i		w = _mm256_load_si256((const __m256i *) (quads + j * 64));
		__m256i		w_low = bits == 8 ? _mm256_and_si256(w, nibble) : w;
		__m256i		w_high = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);

		UNROLL
		for (int r = 0; r < R; r++)
		{
			__m256i		four = _mm256_set1_epi32(load_int32(xq + r * L3_ACT_GROUP + 4 * j));

			low[r] = _mm256_add_epi16(low[r], _mm256_maddubs_epi16(w_low, four));
			if (bits == 8)
				high[r] = _mm256_add_epi16(high[r], _mm256_maddubs_epi16(w_high, four));
			if (bits == 6 && j % 2 == 1)
			{
				sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(low[r], ones));
				low[r] = _mm256_setzero_si256();
			}
		}
	}
	UNROLL
	for (int r = 0; r < R; r++)
	{
		if (bits != 6)
			sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(low[r], ones));
		if (bits == 8)
			sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(high[r], sixteens));
	}
}

/* Extend the chains of R rows from row0 on by group g. */
TARGET2 INLINE void
group_rows(const L3PackedType type, const int R, const TileArgs *args, const uint8_t *quads,
		   int g, int row0)
{
	const bool	halves = type == L3_Q6_K || type == L3_Q8_K;
	const bool	has_add = type == L3_Q8_1 || type == L3_Q4_K || type == L3_Q8_K;
	const int	bits = type == L3_Q4_0 || type == L3_Q4_K ? 4 : type == L3_Q6_K ? 6 : 8;
	const int	n_parts = halves ? 2 : 1;
	const int	n_quads = 8 / n_parts;
	size_t		at = (size_t) g * L3_ACT_TILE + row0;

	for (int h = 0; h < n_parts; h++)
	{
		const float *scale = args->scale + ((size_t) g * n_parts + h) * L3_PANEL;
		const float *add = args->add + ((size_t) g * n_parts + h) * L3_PANEL;
		int32_t		isum[QUAD];

		UNROLL
		for (int r = 0; r < R; r++)
		{
			const int32_t *sum16 = args->xsum16 + (at + r) * 2;

			isum[r] = halves ? sum16[h] : sum16[0] + sum16[1];
		}
		UNROLL
		for (int c = 0; c < L3_PANEL; c += 8)
		{
			__m256i		sum[QUAD];

			UNROLL
			for (int r = 0; r < R; r++)
				sum[r] = _mm256_set1_epi32(-args->zero_point * isum[r]);
			dot_columns(bits, R, quads + h * n_quads * 64 + c * 4,
						args->xq + at * L3_ACT_GROUP + h * 16, n_quads, sum);
			UNROLL
			for (int r = 0; r < R; r++)
			{
				float	   *chain = args->acc + (row0 + r) * L3_PANEL + c;
				__m256		sx = _mm256_set1_ps(args->xscale[at + r]);
				__m256		v = _mm256_load_ps(chain);

				v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r]),
									_mm256_mul_ps(sx, _mm256_load_ps(scale + c)), v);
				if (has_add)
					v = _mm256_fmadd_ps(_mm256_set1_ps((float) isum[r]),
										_mm256_mul_ps(sx, _mm256_load_ps(add + c)), v);
				_mm256_store_ps(chain, v);
			}
		}
	}
}

TARGET2 INLINE void
tile_rows(const L3PackedType type, const TileArgs *args)
{
	uint8_t		buffer[512] __attribute__((aligned(64)));

	for (int g = 0; g < args->n_groups; g++)
	{
		const uint8_t *quads = group_quads(type, args->quants, g, buffer);
		int			row = 0;

		for (; row + QUAD <= args->n_rows; row += QUAD)
			group_rows(type, QUAD, args, quads, g, row);
		for (; row < args->n_rows; row++)
			group_rows(type, 1, args, quads, g, row);
	}
}

#define TILE_FN(type) \
	TARGET2 static void \
	tile_##type(const TileArgs *args) \
	{ \
		tile_rows(L3_##type, args); \
	}

TILE_FN(Q8_0)
TILE_FN(Q4_0)
TILE_FN(Q8_1)
TILE_FN(Q4_K)
TILE_FN(Q6_K)
TILE_FN(Q8_K)

static void (*const tile_fns[L3_N_PACKED_TYPES]) (const TileArgs *args) = {
	[L3_Q8_0] = tile_Q8_0,
	[L3_Q4_0] = tile_Q4_0,
	[L3_Q8_1] = tile_Q8_1,
	[L3_Q4_K] = tile_Q4_K,
	[L3_Q6_K] = tile_Q6_K,
	[L3_Q8_K] = tile_Q8_K,
};

/* ----------------------------------------------------------------
 *		The matrix product
 * ----------------------------------------------------------------
 */

/* Floats of scratch that one panel's scales (and as many adds) take. */
static size_t
panel_scale_floats(const L3Matrix *w)
{
	return (size_t) w->n_in / L3_ACT_GROUP * (l3_type_halves(w->type) ? 2 : 1) * L3_PANEL;
}

static int
chunk_panels(const L3Matrix *w)
{
	size_t		n = CHUNK_BYTES / (w->panel_bytes + 2 * panel_scale_floats(w) * sizeof(float));

	return n < 1 ? 1 : n > CHUNK_MAX_PANELS ? CHUNK_MAX_PANELS : (int) n;
}

static size_t
scratch_bytes(const L3Matrix *w, int m_max)
{
	(void) m_max;
	if (!l3_type_quantised(w->type))
		return 0;
	return (size_t) chunk_panels(w) * 2 * panel_scale_floats(w) * sizeof(float);
}

static void
store_tile(const float *acc, int n_rows, int n_columns, float *out, size_t ldo, bool accumulate)
{
	for (int r = 0; r < n_rows; r++, out += ldo, acc += L3_PANEL)
		for (int c = 0; c < n_columns; c++)
			out[c] = accumulate ? out[c] + acc[c] : acc[c];
}

static void
matmul_quant(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
			 float *out, size_t ldo, bool accumulate, void *scratch)
{
	size_t		scales_bytes = l3_panel_scales_bytes(w->type, w->n_in);
	size_t		n_scales = panel_scale_floats(w);
	/* With one tile there is nothing to reuse: keep to one panel's scales. */
	int			chunk = m <= L3_ACT_TILE ? 1 : chunk_panels(w);
	float		acc[L3_ACT_TILE * L3_PANEL] __attribute__((aligned(64)));
	TileArgs	args;

	(void) m_prefill;			/* one arithmetic for both roles */
	args.n_groups = w->n_in / L3_ACT_GROUP;
	args.zero_point = w->type == L3_Q8_0 ? 128 : w->type == L3_Q4_0 ? 8 :
		w->type == L3_Q6_K ? 32 : w->zero_point;
	args.acc = acc;

	for (int first = panel0; first < panel1; first += chunk)
	{
		int			n_panels = panel1 - first < chunk ? panel1 - first : chunk;

		for (int p = 0; p < n_panels; p++)
		{
			float	   *scales = (float *) scratch + p * 2 * n_scales;

			unpack_scales(w->type, w->data + (size_t) (first + p) * w->panel_bytes,
						  args.n_groups, scales, scales + n_scales);
		}
		for (int row = 0; row < m; row += L3_ACT_TILE)
		{
			size_t		at = (size_t) row * args.n_groups;

			args.n_rows = m - row < L3_ACT_TILE ? m - row : L3_ACT_TILE;
			args.xq = x->q + at * L3_ACT_GROUP;
			args.xscale = x->scale + at;
			args.xsum16 = x->sum16 + at * 2;
			for (int p = 0; p < n_panels; p++)
			{
				int			column = (first + p) * L3_PANEL;
				int			n_columns = w->n_out - column < L3_PANEL ? w->n_out - column : L3_PANEL;

				args.quants = w->data + (size_t) (first + p) * w->panel_bytes + scales_bytes;
				args.scale = (float *) scratch + p * 2 * n_scales;
				args.add = args.scale + n_scales;
				memset(acc, 0, sizeof(acc));
				tile_fns[w->type] (&args);
				store_tile(acc, args.n_rows, n_columns, out + (size_t) row * ldo + column, ldo,
						   accumulate);
			}
		}
	}
}

/* ----------------------------------------------------------------
 *		Activations
 * ----------------------------------------------------------------
 */

/* One whole group of 32 values; as generic_matmul.c, which explains it. */
TARGET2 static void
quantize_group(const float *x, int8_t *q, float *scale, int32_t sum16[2])
{
	const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
	__m256		v[4];
	__m256i		amax = _mm256_setzero_si256();
	__m256i		rounded[4];
	__m128i		half;
	float		d;

	UNROLL
	for (int i = 0; i < 4; i++)
	{
		v[i] = _mm256_loadu_ps(x + 8 * i);
		amax = _mm256_max_epu32(amax, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
	}
	half = _mm_max_epu32(_mm256_castsi256_si128(amax), _mm256_extracti128_si256(amax, 1));
	half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4E));
	half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xB1));
	d = l3_bits_to_float((uint32_t) _mm_cvtsi128_si32(half)) / 127.0f;
	*scale = d;
	if (d == 0)
	{
		memset(q, 0, L3_ACT_GROUP);
		sum16[0] = sum16[1] = 0;
		return;
	}
	UNROLL
	for (int i = 0; i < 4; i++)
	{
		__m256		t = _mm256_div_ps(v[i], _mm256_set1_ps(d));

		t = _mm256_max_ps(_mm256_min_ps(t, _mm256_set1_ps(127.0f)), _mm256_set1_ps(-127.0f));
		rounded[i] = _mm256_cvtps_epi32(t);
	}
	for (int h = 0; h < 2; h++)
	{
		__m256i		words = _mm256_packs_epi32(rounded[2 * h], rounded[2 * h + 1]);
		__m256i		sums = _mm256_add_epi32(rounded[2 * h], rounded[2 * h + 1]);
		__m128i		sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));

		/* packs work within halves of 128 bits: put the quarters in order */
		words = _mm256_permute4x64_epi64(words, 0xD8);
		_mm_storeu_si128((__m128i *) (q + 16 * h),
						 _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
		sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
		sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
		sum16[h] = _mm_cvtsi128_si32(sum);
	}
}

static void
quantize_rows(L3Act *act, int row0, int n)
{
	int			n_groups = act->k / L3_ACT_GROUP;

	if (act->k % L3_ACT_GROUP != 0)
	{
		/* No quantised matrix has such a width. */
		l3_generic_quantize_rows(act, row0, n);
		return;
	}
	for (int row = row0; row < row0 + n; row++)
		for (int g = 0; g < n_groups; g++)
		{
			size_t		at = l3_act_index(n_groups, row, g);

			quantize_group(act->x + (size_t) row * act->ldx + g * L3_ACT_GROUP,
						   act->q + at * L3_ACT_GROUP, act->scale + at, act->sum16 + at * 2);
		}
}

void
l3_avx2_quant(L3Kernels *kernels)
{
	for (int type = L3_Q8_0; type < L3_N_PACKED_TYPES; type++)
		kernels->matmul[type] = matmul_quant;
	kernels->matmul_scratch_bytes = scratch_bytes;
	kernels->quantize_rows = quantize_rows;
}

#endif							/* __x86_64__ */
