/*-------------------------------------------------------------------------
 *
 * avx2_quant.h
 *	  Quantised matrix products in AVX2, included once per way of multiplying
 *	  bytes (with AVX-VNNI and without).
 *
 * The including file defines
 *	TARGET			the target attribute of every function here
 *	PAIRS			1: sums of byte products are of pairs in 16 bits; 0: of quads in 32
 *	add_products()	adds the products of a vector of weights with four activations
 *	whole_sums()	such sums as 32 bits
 *
 * A slab, eight groups of k of a few panels, is unpacked into the L1 cache once
 * and multiplied with all tiles of up to ROW_TILES * 16 rows.  Sixteen registers
 * do not hold the chains of a tile, so those wait in memory, and a group is
 * taken for four rows by 16 columns at a time with the integer sums in registers.
 * Up to four rows have nothing to share: for them weights are unpacked in
 * registers and never stored, and all of a panel is taken before the next, so
 * that memory is read as one stream.
 *
 * Nothing may saturate in 16 bits.  With PAIRS eight-bit weights, whose pairs do
 * not fit, are unpacked to words, as are their activations, for VPMADDWD.  Pairs of
 * fewer bits are added up in 16 bits: 16 products of four bits fit, and 8 of six
 * bits when the chain starts with what the zero point takes off, for then it stays
 * within 8 * 32 * 127 < 2^15 from its first step to its last.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/avx2.h"
#include "kernels/slabs.h"

#define QUAD		4			/* rows whose sums are in registers together */
#define FEW_ROWS	QUAD		/* up to so many take one panel after the other */

/* A group's unpacked weights in vectors: half of 16 columns each. */
#define N_HALVES	2
#define BYTE_VECTORS	(8 * N_HALVES)	/* by quads of k */
#define WORD_VECTORS	(16 * N_HALVES) /* by quads, then even and odd k */
#define WORDS_BYTES		64		/* a row of a group in 16 bits: even k, then odd k */

/* Rows that a tile's groups are apart in what is prepared: few lie close. */
#define ROW_STRIDE(packed, n_rows)	((size_t) ((packed) ? (n_rows) : L3_ACT_TILE))

/* What a thread works on, with more than a few rows. */
typedef struct Slab
{
	__m256i		weights[PANELS][SLAB * WORD_VECTORS];
	SlabScales	scales[PANELS];
	/* one tile's activations in 16 bits, [group][row] */
	__m256i		words[SLAB * L3_ACT_TILE][WORDS_BYTES / 32];
	/* their sums, [group][1 or 2][row]: where integer sums start, and as floats */
	int32_t		start[SLAB * 2 * L3_ACT_TILE];
	float		sum[SLAB * 2 * L3_ACT_TILE];
	Chains		chains[ROW_TILES][PANELS];
} Slab;

/*
 * The same with up to FEW_ROWS rows.  In memory it is followed by what is prepared
 * of them for all groups, as in Slab but with n_rows for L3_ACT_TILE: words,
 * bytes, start, sum and scales.
 */
typedef struct FewRows
{
	SlabScales	scales;
	float		acc[FEW_ROWS * L3_PANEL];
} FewRows;

#define FEW_ROWS_BYTES	(FEW_ROWS * (WORDS_BYTES + L3_ACT_GROUP + 5 * sizeof(float)))	/* of a group */

/* Are weights and activations multiplied as words? */
TARGET INLINE bool
in_words(L3PackedType type)
{
	return PAIRS && l3_type_bits(type) == 8;
}

/* Do sums of byte products start with what the zero point takes off? */
TARGET INLINE bool
starts_bytes(L3PackedType type)
{
	return l3_type_has_zero(type) && !in_words(type);
}

/* By pairs? */
TARGET INLINE bool
starts_by_pairs(L3PackedType type)
{
	return PAIRS && starts_bytes(type);
}

/* ----------------------------------------------------------------
 *		Unpacking
 * ----------------------------------------------------------------
 */

/* Bytes of quad j of group g, of 8 columns from 8 c on; the zero point still in. */
TARGET INLINE __m256i
load_quad(L3PackedType type, const uint8_t *quants, int g, int j, int c)
{
	const __m256i nibble = _mm256_set1_epi8(15);
	size_t		at = (size_t) j * 64 + (size_t) c * 32;

	if (type == L3_Q4_0)
	{
		__m256i		b = _mm256_load_si256((const __m256i *) (quants + (size_t) g * 256 + at % 256));

		return _mm256_and_si256(j < 4 ? b : _mm256_srli_epi16(b, 4), nibble);
	}
	if (type == L3_Q4_K)
	{
		__m256i		b = _mm256_load_si256((const __m256i *) (quants + (size_t) (g / 2) * 512 + at));

		return _mm256_and_si256(_mm256_srl_epi16(b, _mm_cvtsi32_si128(g % 2 * 4)), nibble);
	}
	if (type == L3_Q6_K)
	{
		int			in_block = g % 8;
		const uint8_t *ql = quants + (size_t) (g / 8) * (48 * 64) + in_block % 4 * 512;
		const uint8_t *qh = quants + (size_t) (g / 8) * (48 * 64) + 32 * 64 + in_block % 2 * 512;
		__m256i		low = _mm256_srl_epi16(_mm256_load_si256((const __m256i *) (ql + at)),
										   _mm_cvtsi32_si128(in_block / 4 * 4));
		__m256i		high = _mm256_srl_epi16(_mm256_load_si256((const __m256i *) (qh + at)),
											_mm_cvtsi32_si128(in_block / 2 * 2));

		high = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4);
		return _mm256_or_si256(_mm256_and_si256(low, nibble), high);
	}
	return _mm256_load_si256((const __m256i *) (quants + (size_t) g * 512 + at));
}

/* Bytes of even k (odd = 0) or of odd k in 16 bits. */
TARGET INLINE __m256i
quad_words(__m256i bytes, int odd)
{
	return odd ? _mm256_srli_epi16(bytes, 8) : _mm256_and_si256(bytes, _mm256_set1_epi16(255));
}

/*
 * Groups g0 .. g0 + n - 1 of a panel in the form that weight_bytes and weight_words
 * read: unpacked to dst, or where they are if they have it.
 */
TARGET INLINE const __m256i *
unpack_weights(L3PackedType type, int zero_point, const uint8_t *quants, int g0, int n,
			   __m256i *dst)
{
	const __m256i zero = _mm256_set1_epi16((short) zero_point);
	const __m256i *unpacked = dst;

	if (l3_type_bits(type) == 8 && !in_words(type))
		return (const __m256i *) (quants + (size_t) g0 * l3_group_quants_bytes(type));
	for (int g = g0; g < g0 + n; g++)
		UNROLL
		for (int i = 0; i < BYTE_VECTORS; i++)
		{
			__m256i		bytes = load_quad(type, quants, g, i / 2, i % 2);

			if (!in_words(type))
				*dst++ = bytes;
			else
			{
				dst[0] = _mm256_sub_epi16(quad_words(bytes, 0), zero);
				dst[N_HALVES] = _mm256_sub_epi16(quad_words(bytes, 1), zero);
				dst += i % 2 ? N_HALVES + 1 : 1;
			}
		}
	return unpacked;
}

/* A block's d of 16 columns; negated where an add is a minimum taken off. */
typedef struct Factors
{
	__m256		v[2];
} Factors;

TARGET INLINE Factors
load_factors(const uint8_t *halves, bool negate)
{
	const __m256 sign = _mm256_set1_ps(negate ? -0.0f : 0.0f);

	return (Factors)
	{
		{
			_mm256_xor_ps(load_halves8(halves), sign), _mm256_xor_ps(load_halves8(halves + 16), sign)
		}
	};
}

/* scale[16] = d[16] * integers[16] */
TARGET INLINE void
scale_products(Factors d, __m128i integers, bool is_signed, float *scale)
{
	UNROLL
	for (int h = 0; h < 2; h++)
	{
		__m128i		eight = h ? _mm_srli_si128(integers, 8) : integers;
		__m256i		wide = is_signed ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight);

		_mm256_store_ps(scale + 8 * h, _mm256_mul_ps(d.v[h], _mm256_cvtepi32_ps(wide)));
	}
}

TARGET INLINE void
copy_halves(const uint8_t *src, float *dst)
{
	_mm256_store_ps(dst, load_halves8(src));
	_mm256_store_ps(dst + 8, load_halves8(src + 16));
}

TARGET static void
unpack_scales_q4_k(const uint8_t *block, float *scale, float *add)
{
	const __m128i *sm = (const __m128i *) (block + 64);
	const __m128i low6 = _mm_set1_epi8(63);
	const __m128i low4 = _mm_set1_epi8(15);
	const __m128i upper2 = _mm_set1_epi8(0x30);
	const Factors d = load_factors(block, false);
	const Factors dmin = load_factors(block + 32, true);

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
		scale_products(d, sc, false, scale);
		scale_products(dmin, mn, false, add);
	}
}

/* Of the 16 halves of a block; add where the type has it. */
TARGET INLINE void
unpack_scales_halves(const uint8_t *block, bool has_add, float *scale, float *add)
{
	const __m128i *scales = (const __m128i *) (block + (has_add ? 64 : 32));
	const Factors d = load_factors(block, false);
	const Factors dmin = load_factors(block + (has_add ? 32 : 0), true);

	for (int h = 0; h < 16; h++, scales++, scale += L3_PANEL, add += L3_PANEL)
	{
		scale_products(d, _mm_loadu_si128(scales), true, scale);
		if (has_add)
			scale_products(dmin, _mm_loadu_si128(scales + 16), false, add);
	}
}

/* The scales of n groups as floats: [group][1 or 2][16]. */
TARGET static void
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
			for (int g = 0; g < n_groups; g += 8)
				unpack_scales_halves(src + (size_t) (g / 8) * 288, false, scale + g * 32, add);
			break;
		default:				/* L3_Q8_K */
			for (int g = 0; g < n_groups; g += 8)
				unpack_scales_halves(src + (size_t) (g / 8) * 576, true, scale + g * 32, add + g * 32);
			break;
	}
}

/* ----------------------------------------------------------------
 *		One tile of rows by one panel, over a slab
 * ----------------------------------------------------------------
 */

/* What stands per group advances from one to the next. */
typedef struct TileArgs
{
	int			n_groups;		/* of the slab, from here on */
	int			n_rows;
	const uint8_t *quants;		/* the panel's, packed, */
	int			g;				/* and the group in it */
	const __m256i *weights;		/* or as tiles of rows take them; this and the rest as in Slab */
	const float *scale;
	const float *add;
	const int8_t *words;
	const int32_t *start;
	const float *sum;
	const int8_t *xq;			/* the tile's, as in L3Act */
	const float *xscale;
	float	   *acc;			/* (ROW_STRIDE, 16) */
	/* fetched beside the work: the slab unpacked next and its scales, so many bytes a group, */
	const uint8_t *weights_ahead;
	const uint8_t *scales_ahead;
	size_t		scales_step;
	const int8_t *rows_ahead;	/* and a panel's part of the next tile; NULL: nothing */
} TileArgs;

/* Quad j of the group, 8 columns from 8 c on, as bytes. */
TARGET INLINE __m256i
weight_bytes(L3PackedType type, bool packed, const TileArgs *args, int j, int c)
{
	if (packed)
		return load_quad(type, args->quants, args->g, j, c);
	return args->weights[j * N_HALVES + c];
}

/* The same as even (odd = 0) or odd words; unpacked they are without the zero point. */
TARGET INLINE __m256i
weight_words(L3PackedType type, bool packed, const TileArgs *args, int j, int odd, int c)
{
	if (packed)
		return quad_words(load_quad(type, args->quants, args->g, j, c), odd);
	return args->weights[(j * 2 + odd) * N_HALVES + c];
}

/*
 * sum[r][c] = products of R rows from row on with n quads from j0 on of a group's
 * weights as bytes, less the zero point's share, which is in start[r] (with PAIRS,
 * in its halves).
 */
TARGET INLINE void
dot_bytes(L3PackedType type, bool packed, const int R, const TileArgs *args, size_t row,
		  int j0, int n, const int32_t *start, __m256i sum[QUAD][N_HALVES])
{
	const int8_t *x = args->xq + row * L3_ACT_GROUP;

	UNROLL
	for (int j = j0; j < j0 + n; j++)
	{
		__m256i		w[N_HALVES];

		w[0] = weight_bytes(type, packed, args, j, 0);
		w[1] = weight_bytes(type, packed, args, j, 1);
		UNROLL
		for (int r = 0; r < R; r++)
		{
			__m256i		four = _mm256_set1_epi32(load_int32(x + r * L3_ACT_GROUP + 4 * j));

			UNROLL
			for (int c = 0; c < N_HALVES; c++)
			{
				if (j == j0)
					sum[r][c] = starts_bytes(type) ? _mm256_set1_epi32(start[r]) : _mm256_setzero_si256();
				sum[r][c] = add_products(sum[r][c], w[c], four);
				IN_REGISTER(sum[r][c]);
			}
		}
	}
	UNROLL
	for (int i = 0; i < R * N_HALVES; i++)
		sum[i / 2][i % 2] = whole_sums(sum[i / 2][i % 2]);
}

/* The same of weights as words, the zero point as they have it. */
TARGET INLINE void
dot_words(L3PackedType type, bool packed, const int R, const TileArgs *args, size_t row,
		  int j0, int n, __m256i sum[QUAD][N_HALVES])
{
	const int8_t *x = args->words + row * WORDS_BYTES;

	UNROLL
	for (int i = 0; i < 2 * n; i++)
	{
		int			j = j0 + i / 2;
		int			odd = i % 2;
		__m256i		w[N_HALVES];

		w[0] = weight_words(type, packed, args, j, odd, 0);
		w[1] = weight_words(type, packed, args, j, odd, 1);
		UNROLL
		for (int r = 0; r < R; r++)
		{
			const int8_t *words = x + r * WORDS_BYTES + odd * (WORDS_BYTES / 2);
			__m256i		two = _mm256_set1_epi32(load_int32(words + 4 * j));

			UNROLL
			for (int c = 0; c < N_HALVES; c++)
			{
				__m256i		pairs = _mm256_madd_epi16(w[c], two);

				sum[r][c] = i == 0 ? pairs : _mm256_add_epi32(sum[r][c], pairs);
				IN_REGISTER(sum[r][c]);
			}
		}
	}
}

/* Extend a row's chains by the group, or by its half h; its sum of activations is xsum. */
TARGET INLINE void
extend_chains(bool has_add, const TileArgs *args, int h, size_t row, __m256 sx,
			  const float *xsum, const __m256i idot[N_HALVES])
{
	UNROLL
	for (int c = 0; c < N_HALVES; c++)
	{
		float	   *chain = args->acc + row * L3_PANEL + 8 * c;
		int			at = h * L3_PANEL + c * 8;
		__m256		v = _mm256_load_ps(chain);

		v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(idot[c]),
							_mm256_mul_ps(sx, _mm256_load_ps(args->scale + at)), v);
		if (has_add)
			v = _mm256_fmadd_ps(_mm256_broadcast_ss(xsum),
								_mm256_mul_ps(sx, _mm256_load_ps(args->add + at)), v);
		_mm256_store_ps(chain, v);
	}
}

/* A group for R rows from row on. */
TARGET INLINE void
group_rows(const L3PackedType type, const bool packed, const int R, const TileArgs *args,
		   size_t row)
{
	const bool	has_add = l3_type_has_add(type);
	const int	n_parts = l3_type_halves(type) ? 2 : 1;
	const size_t stride = ROW_STRIDE(packed, R);
	const bool	zero_in = packed && in_words(type) && l3_type_has_zero(type);

	UNROLL
	for (int h = 0; h < n_parts; h++)
	{
		const int	j0 = h * 8 / n_parts;
		const int	n = 8 / n_parts;
		const int32_t *starts = args->start + (size_t) h * stride + row;
		__m256i		sum[QUAD][N_HALVES];

		if (in_words(type))
			dot_words(type, packed, R, args, row, j0, n, sum);
		else
			dot_bytes(type, packed, R, args, row, j0, n, starts, sum);
		UNROLL
		for (int r = 0; r < R; r++)
		{
			size_t		at = (size_t) h * stride + row + (size_t) r;
			__m256i		start = _mm256_set1_epi32(starts[r]);

			UNROLL
			for (int c = 0; c < N_HALVES && zero_in; c++)
				sum[r][c] = _mm256_add_epi32(sum[r][c], start);
			extend_chains(has_add, args, h, row + r, _mm256_broadcast_ss(args->xscale + row + r),
						  args->sum + at, sum[r]);
		}
	}
}

/* On to the next group. */
TARGET INLINE void
advance(const L3PackedType type, const bool packed, const int n_rows, TileArgs *args)
{
	const size_t stride = ROW_STRIDE(packed, n_rows);
	const size_t n_parts = l3_type_halves(type) ? 2 : 1;

	args->g++;
	if (!packed)
		args->weights += in_words(type) ? WORD_VECTORS : BYTE_VECTORS;
	args->scale += n_parts * L3_PANEL;
	args->add += n_parts * L3_PANEL;
	args->words += stride * WORDS_BYTES;
	args->start += n_parts * stride;
	args->sum += n_parts * stride;
	args->xq += stride * L3_ACT_GROUP;
	args->xscale += stride;
}

/* Of the next tile's bytes in a slab, what one group of one of PANELS panels fetches. */
#define ROWS_AHEAD		(L3_ACT_TILE * L3_ACT_GROUP / PANELS)

/* A slab of an unpacked panel for all rows of a tile. */
TARGET INLINE void
tile_rows(const L3PackedType type, const TileArgs *given)
{
	/* a copy, of which the compiler knows that no store changes it */
	TileArgs	args = *given;
	size_t		n_rows = (size_t) args.n_rows;

	for (int i = 0; i < args.n_groups; i++, advance(type, false, L3_ACT_TILE, &args))
	{
		size_t		row = 0;

		if (args.weights_ahead != NULL)
		{
			PREFETCH_LINES(args.weights_ahead, l3_group_quants_bytes(type), _MM_HINT_T0);
			args.weights_ahead += l3_group_quants_bytes(type);
			_mm_prefetch((const char *) args.scales_ahead, _MM_HINT_T0);
			args.scales_ahead += args.scales_step;
		}
		if (args.rows_ahead != NULL)
		{
			PREFETCH_LINES(args.rows_ahead, ROWS_AHEAD, _MM_HINT_T0);
			args.rows_ahead += ROWS_AHEAD;
		}
		for (; row + QUAD <= n_rows; row += QUAD)
			group_rows(type, false, QUAD, &args, row);
		switch (n_rows - row)
		{
			case 3:
				group_rows(type, false, 3, &args, row);
				break;
			case 2:
				group_rows(type, false, 2, &args, row);
				break;
			case 1:
				group_rows(type, false, 1, &args, row);
				break;
		}
	}
}

/* A slab of a packed panel for R rows; given is advanced by it. */
TARGET INLINE void
few_rows(const L3PackedType type, const int R, TileArgs *given)
{
	TileArgs	args = *given;

	args.n_rows = R;
	for (int i = 0; i < args.n_groups; i++, advance(type, true, R, &args))
	{
		PREFETCH_LINES(args.quants + (size_t) args.g * l3_group_quants_bytes(type) + PREFETCH_BYTES,
					   l3_group_quants_bytes(type), _MM_HINT_T1);
		group_rows(type, true, R, &args, 0);
	}
	*given = args;
}

typedef struct SlabFns
{
	const __m256i *(*unpack) (int zero_point, const uint8_t *quants, int g0, int n, __m256i *dst);
	void		(*unpacked) (const TileArgs *args);
	void		(*packed) (TileArgs *args);
} SlabFns;

#define SLAB_FNS(type) \
	TARGET static const __m256i * \
	unpack_##type(int zero_point, const uint8_t *quants, int g0, int n, __m256i *dst) \
	{ \
		return unpack_weights(L3_##type, zero_point, quants, g0, n, dst); \
	} \
	TARGET static void \
	unpacked_##type(const TileArgs *args) \
	{ \
		tile_rows(L3_##type, args); \
	} \
	TARGET static void \
	packed_##type(TileArgs *args) \
	{ \
		switch (args->n_rows) \
		{ \
			case 1: \
				few_rows(L3_##type, 1, args); \
				break; \
			case 2: \
				few_rows(L3_##type, 2, args); \
				break; \
			case 3: \
				few_rows(L3_##type, 3, args); \
				break; \
			default: \
				few_rows(L3_##type, QUAD, args); \
				break; \
		} \
	}

SLAB_FNS(Q8_0)
SLAB_FNS(Q4_0)
SLAB_FNS(Q8_1)
SLAB_FNS(Q4_K)
SLAB_FNS(Q6_K)
SLAB_FNS(Q8_K)

static const SlabFns slab_fns[L3_N_PACKED_TYPES] = {
	[L3_Q8_0] = {unpack_Q8_0, unpacked_Q8_0, packed_Q8_0},
	[L3_Q4_0] = {unpack_Q4_0, unpacked_Q4_0, packed_Q4_0},
	[L3_Q8_1] = {unpack_Q8_1, unpacked_Q8_1, packed_Q8_1},
	[L3_Q4_K] = {unpack_Q4_K, unpacked_Q4_K, packed_Q4_K},
	[L3_Q6_K] = {unpack_Q6_K, unpacked_Q6_K, packed_Q6_K},
	[L3_Q8_K] = {unpack_Q8_K, unpacked_Q8_K, packed_Q8_K},
};

/* ----------------------------------------------------------------
 *		The matrix product
 * ----------------------------------------------------------------
 */

/* Sums of activations of 8 rows from sum16 on: of halves, or of groups in [0]. */
TARGET INLINE void
sums_of_rows(bool halves, const int32_t *sum16, __m256i sum[2])
{
	__m256		a = _mm256_loadu_ps((const float *) sum16);
	__m256		b = _mm256_loadu_ps((const float *) (sum16 + 8));

	/* shuffles work within halves of 128 bits: put the quarters in order */
	sum[0] = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)), 0xD8);
	sum[1] = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD)), 0xD8);
	if (!halves)
		sum[0] = _mm256_add_epi32(sum[0], sum[1]);
}

/*
 * What the zero point takes off the two sums of pairs that share 32 bits, of four
 * rows of a group: of halves, or of the group in [0].
 */
TARGET INLINE void
starts_of_rows(bool halves, int zero_point, const int8_t *q, __m128i start[2])
{
	__m256i		pairs[QUAD];
	__m256i		sum;

	UNROLL
	for (int r = 0; r < QUAD; r++)
		pairs[r] = _mm256_maddubs_epi16(_mm256_set1_epi8(1),
										_mm256_loadu_si256((const __m256i *) (q + r * L3_ACT_GROUP)));
	/* each half of 128 bits holds half a group: to four rows' sums of its quads */
	for (int r = 0; r < QUAD; r += 2)
		pairs[r] = _mm256_add_epi16(_mm256_unpacklo_epi32(pairs[r], pairs[r + 1]),
									_mm256_unpackhi_epi32(pairs[r], pairs[r + 1]));
	sum = _mm256_add_epi16(_mm256_unpacklo_epi64(pairs[0], pairs[2]),
						   _mm256_unpackhi_epi64(pairs[0], pairs[2]));
	sum = _mm256_mullo_epi16(sum, _mm256_set1_epi16((short) -zero_point));
	start[0] = _mm256_castsi256_si128(sum);
	start[1] = _mm256_extracti128_si256(sum, 1);
	if (!halves)
		start[0] = _mm_add_epi16(start[0], start[1]);
}

/* A group's bytes of a row to words: of even k, then of odd k. */
TARGET INLINE void
store_words(__m256i bytes, __m256i words[WORDS_BYTES / 32])
{
	words[0] = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
	words[1] = _mm256_srai_epi16(bytes, 8);
}

/* Of a tile's activations over a slab, what the type needs: starts, sums, words. */
TARGET static void
prepare_rows(L3PackedType type, int zero_point, const TileArgs *args, const int32_t *sum16,
			 Slab *slab)
{
	const bool	halves = l3_type_halves(type);
	const bool	has_add = l3_type_has_add(type);
	const bool	starts_by_sums = starts_bytes(type) && !PAIRS;
	const int	n_parts = halves ? 2 : 1;

	for (int g = 0; g < args->n_groups; g++)
	{
		const int	in_slab = g * n_parts * L3_ACT_TILE;
		const int8_t *q = args->xq + (size_t) g * L3_ACT_TILE * L3_ACT_GROUP;

		if (starts_by_pairs(type))
			for (int row = 0; row < args->n_rows; row += QUAD)
			{
				__m128i		start[2];

				starts_of_rows(halves, zero_point, q + row * L3_ACT_GROUP, start);
				for (int h = 0; h < n_parts; h++)
					_mm_store_si128((__m128i *) (slab->start + in_slab + h * L3_ACT_TILE + row), start[h]);
			}
		if (has_add || starts_by_sums)
			for (int row = 0; row < args->n_rows; row += 8)
			{
				__m256i		sum[2];

				sums_of_rows(halves, sum16 + (g * L3_ACT_TILE + row) * 2, sum);
				for (int h = 0; h < n_parts; h++)
				{
					int			at = in_slab + h * L3_ACT_TILE + row;

					if (has_add)
						_mm256_store_ps(slab->sum + at, _mm256_cvtepi32_ps(sum[h]));
					if (starts_by_sums)
						_mm256_store_si256((__m256i *) (slab->start + at),
										   _mm256_mullo_epi32(sum[h], _mm256_set1_epi32(-zero_point)));
				}
			}
		if (in_words(type))
			for (int row = 0; row < args->n_rows; row++)
				store_words(_mm256_loadu_si256((const __m256i *) (q + row * L3_ACT_GROUP)),
							slab->words[g * L3_ACT_TILE + row]);
	}
}

/*
 * SlabKernel.multiply.  The first tile fetches the next slab's weights and scales,
 * and each the activations of the one after it, which are a whole k apart.  Of the
 * products from memory with 16 rows that makes 1.2 times the speed on Zen 3, with
 * 8 rows of Q4_K 1.4, with 512 1.03; the scales' part in it is 1.06 to 1.09 with 16
 * rows.
 */
TARGET static void
multiply_slab(const L3Matrix *w, const SlabPlace *place, const L3Act *x, void *work)
{
	const SlabFns *fns = &slab_fns[w->type];
	const int	zero_point = l3_zero_point(w);
	const int	all_groups = w->n_in / L3_ACT_GROUP;
	const size_t next_tile = (size_t) L3_ACT_TILE * (size_t) w->n_in;
	Slab	   *slab = work;
	const __m256i *weights[PANELS];
	TileArgs	args = {0};

	for (int p = 0; p < place->n_panels; p++)
	{
		unpack_scales(w->type, place->scales + p * w->panel_bytes, place->n_groups,
					  slab->scales[p].scale, slab->scales[p].add);
		weights[p] = fns->unpack(zero_point, place->quants + p * w->panel_bytes, place->g0, place->n_groups,
								 slab->weights[p]);
	}
	args.n_groups = place->n_groups;
	args.words = (const int8_t *) slab->words;
	args.start = slab->start;
	args.sum = slab->sum;
	args.scales_step = l3_group_scales_bytes(w->type, SLAB) / SLAB;
	for (int row = 0; row < place->n_rows; row += L3_ACT_TILE)
	{
		size_t		at = (size_t) (place->row0 + row) * all_groups + (size_t) place->g0 * L3_ACT_TILE;

		args.n_rows = place->n_rows - row < L3_ACT_TILE ? place->n_rows - row : L3_ACT_TILE;
		args.xq = x->q + at * L3_ACT_GROUP;
		args.xscale = x->scale + at;
		prepare_rows(w->type, zero_point, &args, x->sum16 + at * 2, slab);
		for (int p = 0; p < place->n_panels; p++)
		{
			args.weights = weights[p];
			args.scale = slab->scales[p].scale;
			args.add = slab->scales[p].add;
			args.acc = slab->chains[row / L3_ACT_TILE][p];
			args.weights_ahead = row > 0 ? NULL : place->next_quants + p * w->panel_bytes;
			args.scales_ahead = place->next_scales + p * w->panel_bytes;
			args.rows_ahead = row + L3_ACT_TILE >= place->n_rows ? NULL :
				args.xq + next_tile + p * (SLAB * ROWS_AHEAD);
			fns->unpacked(&args);
		}
	}
}

/* The activations of m <= FEW_ROWS rows over all groups, behind few; where they are, in args. */
TARGET static void
prepare_few(const L3Matrix *w, const L3Act *x, int m, FewRows *few, TileArgs *args)
{
	const int	n_groups = w->n_in / L3_ACT_GROUP;
	const bool	halves = l3_type_halves(w->type);
	const int	n_parts = halves ? 2 : 1;
	const int	zero_point = l3_zero_point(w);
	size_t		n = (size_t) n_groups * FEW_ROWS;
	__m256i    *words = (__m256i *) (few + 1);
	__m256i    *bytes = words + n * (WORDS_BYTES / sizeof(__m256i));
	int32_t    *start = (int32_t *) (bytes + n);
	float	   *sum = (float *) (start + 2 * n);
	float	   *scale = sum + 2 * n;

	args->n_rows = m;
	args->words = (const int8_t *) words;
	args->xq = (const int8_t *) bytes;
	args->start = start;
	args->sum = sum;
	args->xscale = scale;
	for (int g = 0; g < n_groups; g++)
	{
		__m128i		pairs[2] = {_mm_setzero_si128(), _mm_setzero_si128()};

		if (starts_by_pairs(w->type))
			starts_of_rows(halves, zero_point, x->q + (size_t) g * L3_ACT_TILE * L3_ACT_GROUP, pairs);
		for (int row = 0; row < m; row++)
		{
			size_t		at = (size_t) g * L3_ACT_TILE + (size_t) row;
			__m256i		q = _mm256_loadu_si256((const __m256i *) (x->q + at * L3_ACT_GROUP));
			const int32_t *sum16 = x->sum16 + at * 2;

			if (in_words(w->type))
			{
				store_words(q, words);
				words += WORDS_BYTES / sizeof(__m256i);
			}
			else
				*bytes++ = q;
			*scale++ = x->scale[at];
			for (int h = 0; h < n_parts; h++)
			{
				int32_t		part = n_parts == 2 ? sum16[h] : sum16[0] + sum16[1];

				start[h * m + row] = starts_by_pairs(w->type) ? _mm_cvtsi128_si32(pairs[h]) : part * -zero_point;
				sum[h * m + row] = (float) part;
				pairs[h] = _mm_srli_si128(pairs[h], sizeof(int32_t));
			}
		}
		start += n_parts * m;
		sum += n_parts * m;
	}
}

/* The product of m <= FEW_ROWS rows, panel by panel. */
TARGET static void
multiply_few(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m,
			 float *out, size_t ldo, bool accumulate, FewRows *few)
{
	const int	all_groups = w->n_in / L3_ACT_GROUP;
	TileArgs	prepared = {0};

	prepare_few(w, x, m, few, &prepared);
	for (int p = panel0; p < panel1; p++)
	{
		const uint8_t *panel = w->data + (size_t) p * w->panel_bytes;
		TileArgs	args = prepared;
		int			n_columns = w->n_out - p * L3_PANEL < L3_PANEL ? w->n_out - p * L3_PANEL : L3_PANEL;

		args.quants = panel + l3_panel_scales_bytes(w->type, w->n_in);
		args.acc = few->acc;
		memset(few->acc, 0, sizeof(few->acc));
		while (args.g < all_groups)
		{
			args.n_groups = all_groups - args.g < SLAB ? all_groups - args.g : SLAB;
			args.scale = few->scales.scale;
			args.add = few->scales.add;
			unpack_scales(w->type, panel + (size_t) (args.g / SLAB) * l3_group_scales_bytes(w->type, SLAB),
						  args.n_groups, few->scales.scale, few->scales.add);
			slab_fns[w->type].packed(&args);
		}
		store_chains(few->acc, m, n_columns, out + (size_t) p * L3_PANEL, ldo, accumulate);
	}
}

#include "kernels/quant_matmul.h"
