/*-------------------------------------------------------------------------
 *
 * avx512_quant.h
 *	  Quantised matrix products in AVX-512, included once per way of forming
 *	  the integer dot products (with VNNI and without).
 *
 * The including file defines
 *	TARGET			the target attribute of every function here
 *	dot_quads()		adds the products of n quads of a group to a sum
 *
 * One vector holds the 16 columns of a panel.  For a tile of up to 16 rows the
 * float chains of all rows stay in registers over the whole of k; the eight
 * quad rows of a group are unpacked into registers once and used for every
 * row of the tile.  Unpacking costs logic operations that run beside the
 * multiplications, so nothing but the scales is ever unpacked into memory: a
 * single row streams the packed bytes from DRAM, and a long prompt the
 * same bytes from L2.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/generic.h"
#include "kernels/simd.h"

/*
 * Panels are taken in chunks whose packed bytes and scales fill about half of
 * a 1 MiB L2; each tile of activations then serves the whole chunk.
 */
#define CHUNK_BYTES			(512 * 1024)
#define CHUNK_MAX_PANELS	8

/*
 * Up to so many rows take their sums of activations one by one; more take
 * them from a vector through memory, which for few rows would make the next
 * group wait for the store.
 */
#define FEW_ROWS			4

/* One tile of rows by one panel. */
typedef struct TileArgs
{
	const uint8_t *quants;		/* the panel's */
	const float *scale;			/* [group][1 or 2][16] */
	const float *add;			/* the same, where the type has it */
	int			zero_point;
	int			n_groups;
	const int8_t *xq;			/* the tile's, as in L3Act */
	const float *xscale;
	const int32_t *xsum16;
	float	   *out;			/* row 0 of the tile, column 0 of the panel */
	size_t		ldo;
	int			n_rows;			/* to store */
	__mmask16	columns;		/* to store */
	bool		accumulate;
} TileArgs;

typedef void (*TileFn) (const TileArgs *args);

INLINE int
type_bits(L3PackedType type)
{
	return type == L3_Q4_0 || type == L3_Q4_K ? 4 : type == L3_Q6_K ? 6 : 8;
}

/* ----------------------------------------------------------------
 *		Unpacking
 * ----------------------------------------------------------------
 */

/* The eight quad rows of group g as unsigned bytes, zero point still in. */
TARGET INLINE void
load_quads(L3PackedType type, const uint8_t *quants, int g, __m512i q[8])
{
	const __m512i nibble = _mm512_set1_epi8(15);

	if (type == L3_Q4_0)
	{
		const uint8_t *row = quants + (size_t) g * 256;

		UNROLL
		for (int j = 0; j < 4; j++)
		{
			__m512i		b = _mm512_load_si512(row + j * 64);

			q[j] = _mm512_and_si512(b, nibble);
			q[j + 4] = _mm512_and_si512(_mm512_srli_epi16(b, 4), nibble);
		}
	}
	else if (type == L3_Q4_K)
	{
		const uint8_t *row = quants + (size_t) (g / 2) * 512;
		__m512i		shift = _mm512_set1_epi16((short) (g % 2 * 4));

		UNROLL
		for (int j = 0; j < 8; j++)
			q[j] = _mm512_and_si512(_mm512_srlv_epi16(_mm512_load_si512(row + j * 64), shift),
									nibble);
	}
	else if (type == L3_Q6_K)
	{
		int			in_block = g % 8;
		const uint8_t *ql = quants + (size_t) (g / 8) * (48 * 64) + in_block % 4 * 512;
		const uint8_t *qh = quants + (size_t) (g / 8) * (48 * 64) + 32 * 64 + in_block % 2 * 512;
		__m512i		shift = _mm512_set1_epi16((short) (in_block / 4 * 4));
		/* brings bits 2i, 2i + 1 of each byte to its bits 4, 5 */
		__m512i		turn = _mm512_set1_epi32((4 - in_block / 2 * 2) & 31);
		__m512i		upper = _mm512_set1_epi8(0x30);

		UNROLL
		for (int j = 0; j < 8; j++)
		{
			__m512i		low = _mm512_srlv_epi16(_mm512_load_si512(ql + j * 64), shift);
			__m512i		high = _mm512_rolv_epi32(_mm512_load_si512(qh + j * 64), turn);

			q[j] = _mm512_or_si512(_mm512_and_si512(low, nibble),
								   _mm512_and_si512(high, upper));
		}
	}
	else
	{
		UNROLL
		for (int j = 0; j < 8; j++)
			q[j] = _mm512_load_si512(quants + (size_t) g * 512 + j * 64);
	}
}

/*
 * While a single row works on the scales of the K types and on unpacking, the
 * memory would idle: the hardware's own prefetch takes up a stream too slowly.
 * Measured at M = 1 on Zen 4 with one thread: Q4_K 12 to 19 GB/s, Q6_K 11.6 to
 * 18.  The other types lose by it.
 */
#define PREFETCH_BYTES		8192

TARGET INLINE void
prefetch_quads(L3PackedType type, const uint8_t *quants, int g)
{
	int			bytes = 64 * type_bits(type);	/* of a group */

	if (type != L3_Q4_K && type != L3_Q6_K)
		return;
	/* The next panel follows; past the last one a prefetch does no harm. */
	for (int i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *) quants + (size_t) g * bytes + PREFETCH_BYTES + i, _MM_HINT_T1);
}

TARGET INLINE __m512
load_halves(const uint8_t *src)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) src));
}

TARGET INLINE __m512
bytes_to_floats(__m128i bytes)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

TARGET INLINE __m512
signed_bytes_to_floats(__m128i bytes)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* -(dmin * min), as the arithmetic adds it */
TARGET INLINE __m512
negative_product(__m512 a, __m512 b)
{
	return _mm512_xor_ps(_mm512_mul_ps(a, b), _mm512_set1_ps(-0.0f));
}

TARGET static void
unpack_scales_q4_k(const uint8_t *src, int n_blocks, float *scale, float *add)
{
	const __m128i low6 = _mm_set1_epi8(63);
	const __m128i low4 = _mm_set1_epi8(15);
	const __m128i upper2 = _mm_set1_epi8(0x30);

	for (int b = 0; b < n_blocks; b++, src += 256)
	{
		__m512		d = load_halves(src);
		__m512		dmin = load_halves(src + 32);
		__m128i		sm[12];

		UNROLL
		for (int i = 0; i < 12; i++)
			sm[i] = _mm_load_si128((const __m128i *) (src + 64) + i);
		UNROLL
		for (int g = 0; g < 8; g++, scale += L3_PANEL, add += L3_PANEL)
		{
			__m128i		sc,
						mn;

			if (g < 4)
			{
				sc = _mm_and_si128(sm[g], low6);
				mn = _mm_and_si128(sm[g + 4], low6);
			}
			else
			{
				sc = _mm_or_si128(_mm_and_si128(sm[g + 4], low4),
								  _mm_and_si128(_mm_srli_epi16(sm[g - 4], 2), upper2));
				mn = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(sm[g + 4], 4), low4),
								  _mm_and_si128(_mm_srli_epi16(sm[g], 2), upper2));
			}
			_mm512_store_ps(scale, _mm512_mul_ps(d, bytes_to_floats(sc)));
			_mm512_store_ps(add, negative_product(dmin, bytes_to_floats(mn)));
		}
	}
}

/* The scales of a whole panel as floats: [group][1 or 2][16]. */
TARGET static void
unpack_scales(L3PackedType type, const uint8_t *src, int n_groups, float *scale, float *add)
{
	switch (type)
	{
		case L3_Q8_0:
		case L3_Q4_0:
			for (int g = 0; g < n_groups; g++)
				_mm512_store_ps(scale + g * 16, load_halves(src + (size_t) g * 32));
			break;
		case L3_Q8_1:
			for (int g = 0; g < n_groups; g++)
			{
				_mm512_store_ps(scale + g * 16, load_halves(src + (size_t) g * 64));
				_mm512_store_ps(add + g * 16, load_halves(src + (size_t) g * 64 + 32));
			}
			break;
		case L3_Q4_K:
			unpack_scales_q4_k(src, n_groups / 8, scale, add);
			break;
		case L3_Q6_K:
			for (int b = 0; b < n_groups / 8; b++, src += 288)
			{
				__m512		d = load_halves(src);
				const __m128i *sc = (const __m128i *) (src + 32);

				for (int h = 0; h < 16; h++, scale += 16)
					_mm512_store_ps(scale, _mm512_mul_ps(d, signed_bytes_to_floats(_mm_loadu_si128(sc + h))));
			}
			break;
		default:				/* L3_Q8_K */
			for (int b = 0; b < n_groups / 8; b++, src += 576)
			{
				__m512		d = load_halves(src);
				__m512		dmin = load_halves(src + 32);
				const __m128i *sc = (const __m128i *) (src + 64);
				const __m128i *mn = (const __m128i *) (src + 64 + 256);

				for (int h = 0; h < 16; h++, scale += 16, add += 16)
				{
					_mm512_store_ps(scale, _mm512_mul_ps(d, signed_bytes_to_floats(_mm_loadu_si128(sc + h))));
					_mm512_store_ps(add, negative_product(dmin, bytes_to_floats(_mm_loadu_si128(mn + h))));
				}
			}
			break;
	}
}

/* ----------------------------------------------------------------
 *		One tile
 * ----------------------------------------------------------------
 */

/*
 * The sums of a group's activations for all rows of the tile, for the whole
 * group or per half: times -zero_point as the integer sums start, and as
 * floats for what is added.
 */
TARGET INLINE void
group_sums(bool halves, bool has_add, bool has_zero, int zero_point, const int32_t *sum16,
		   int32_t start[2][L3_ACT_TILE], float sums[2][L3_ACT_TILE])
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14,
										   16, 18, 20, 22, 24, 26, 28, 30);
	const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15,
										  17, 19, 21, 23, 25, 27, 29, 31);
	__m512i		a = _mm512_loadu_si512(sum16);
	__m512i		b = _mm512_loadu_si512(sum16 + 16);
	__m512i		factor = _mm512_set1_epi32(-zero_point);
	__m512i		sum[2];

	sum[0] = _mm512_permutex2var_epi32(a, even, b);
	sum[1] = _mm512_permutex2var_epi32(a, odd, b);
	if (!halves)
		sum[0] = _mm512_add_epi32(sum[0], sum[1]);
	for (int h = 0; h < (halves ? 2 : 1); h++)
	{
		if (has_zero)
			_mm512_store_si512(start[h], _mm512_mullo_epi32(sum[h], factor));
		if (has_add)
			_mm512_store_ps(sums[h], _mm512_cvtepi32_ps(sum[h]));
	}
}

/* R rows (those past n_rows are computed on whatever is there, not stored). */
TARGET INLINE void
tile_rows(const L3PackedType type, const int R, const TileArgs *args)
{
	const bool	halves = type == L3_Q6_K || type == L3_Q8_K;
	const bool	has_add = type == L3_Q8_1 || type == L3_Q4_K || type == L3_Q8_K;
	const bool	has_zero = type == L3_Q8_0 || type == L3_Q4_0 || halves;
	const int	n_parts = halves ? 2 : 1;
	const int	quads = 8 / n_parts;
	__m512		acc[L3_ACT_TILE];

	UNROLL
	for (int r = 0; r < R; r++)
		acc[r] = _mm512_setzero_ps();

	for (int g = 0; g < args->n_groups; g++)
	{
		const int8_t *xq = args->xq + (size_t) g * (L3_ACT_TILE * L3_ACT_GROUP);
		const float *xscale = args->xscale + (size_t) g * L3_ACT_TILE;
		const int32_t *sum16 = args->xsum16 + (size_t) g * (2 * L3_ACT_TILE);
		int32_t		start[2][L3_ACT_TILE] __attribute__((aligned(64)));
		float		sums[2][L3_ACT_TILE] __attribute__((aligned(64)));
		__m512i		q[8];

		if (R <= FEW_ROWS)
			prefetch_quads(type, args->quants, g);
		if (R > FEW_ROWS)
		{
			group_sums(halves, has_add, has_zero, args->zero_point, sum16, start, sums);
			IN_MEMORY(start);
			IN_MEMORY(sums);
		}
		load_quads(type, args->quants, g, q);
		UNROLL
		for (int h = 0; h < n_parts; h++)
		{
			size_t		at = ((size_t) g * n_parts + h) * L3_PANEL;
			__m512		scale = _mm512_load_ps(args->scale + at);
			__m512		add = has_add ? _mm512_load_ps(args->add + at) : scale;

			UNROLL
			for (int r = 0; r < R; r++)
			{
				/* with many rows, some may be past m and hold anything */
				int			isum = R > FEW_ROWS ? 0 :
				halves ? sum16[2 * r + h] : sum16[2 * r] + sum16[2 * r + 1];
				__m512i		idot = _mm512_setzero_si512();
				__m512		sx = _mm512_set1_ps(xscale[r]);

				if (has_zero)
					idot = _mm512_set1_epi32(R > FEW_ROWS ? start[h][r] : -args->zero_point * isum);
				idot = dot_quads(type_bits(type), q + h * quads,
								 xq + r * L3_ACT_GROUP + h * 16, quads, idot);
				acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(idot),
										 _mm512_mul_ps(sx, scale), acc[r]);
				if (has_add)
					acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(R > FEW_ROWS ? sums[h][r] : (float) isum),
											 _mm512_mul_ps(sx, add), acc[r]);
			}
		}
	}

	UNROLL
	for (int r = 0; r < R; r++)
	{
		float	   *dst = args->out + (size_t) r * args->ldo;

		if (r >= args->n_rows)
			break;
		if (args->accumulate)
			acc[r] = _mm512_add_ps(_mm512_maskz_loadu_ps(args->columns, dst), acc[r]);
		_mm512_mask_storeu_ps(dst, args->columns, acc[r]);
	}
}

#define TILE_FN(type, R) \
	TARGET static void \
	tile_##type##_##R(const TileArgs *args) \
	{ \
		tile_rows(L3_##type, R, args); \
	}
#define TILE_FNS(type) \
	TILE_FN(type, 1) TILE_FN(type, 2) TILE_FN(type, 3) TILE_FN(type, 4) \
	TILE_FN(type, 6) TILE_FN(type, 8) TILE_FN(type, 12) TILE_FN(type, 16)
#define TILE_TABLE(type) \
	[L3_##type] = {NULL, tile_##type##_1, tile_##type##_2, tile_##type##_3, tile_##type##_4, \
		tile_##type##_6, tile_##type##_6, tile_##type##_8, tile_##type##_8, \
		tile_##type##_12, tile_##type##_12, tile_##type##_12, tile_##type##_12, \
		tile_##type##_16, tile_##type##_16, tile_##type##_16, tile_##type##_16}

TILE_FNS(Q8_0)
TILE_FNS(Q4_0)
TILE_FNS(Q8_1)
TILE_FNS(Q4_K)
TILE_FNS(Q6_K)
TILE_FNS(Q8_K)

/* By type and number of rows. */
static const TileFn tile_fns[L3_N_PACKED_TYPES][L3_ACT_TILE + 1] = {
	TILE_TABLE(Q8_0),
	TILE_TABLE(Q4_0),
	TILE_TABLE(Q8_1),
	TILE_TABLE(Q4_K),
	TILE_TABLE(Q6_K),
	TILE_TABLE(Q8_K),
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
quant_scratch_bytes(const L3Matrix *w, int m_max)
{
	(void) m_max;
	if (!l3_type_quantised(w->type))
		return 0;
	return (size_t) chunk_panels(w) * 2 * panel_scale_floats(w) * sizeof(float);
}

TARGET static void
matmul_quant(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
			 float *out, size_t ldo, bool accumulate, void *scratch)
{
	int			n_groups = w->n_in / L3_ACT_GROUP;
	size_t		scales_bytes = l3_panel_scales_bytes(w->type, w->n_in);
	size_t		n_scales = panel_scale_floats(w);
	/* With one tile there is nothing to reuse: keep to one panel's scales. */
	int			chunk = m <= L3_ACT_TILE ? 1 : chunk_panels(w);
	TileArgs	args;

	(void) m_prefill;			/* one arithmetic for both roles */
	args.n_groups = n_groups;
	args.zero_point = w->type == L3_Q8_0 ? 128 : w->type == L3_Q4_0 ? 8 :
		w->type == L3_Q6_K ? 32 : w->zero_point;
	args.ldo = ldo;
	args.accumulate = accumulate;

	for (int first = panel0; first < panel1; first += chunk)
	{
		int			n_panels = panel1 - first < chunk ? panel1 - first : chunk;

		for (int p = 0; p < n_panels; p++)
		{
			float	   *scales = (float *) scratch + p * 2 * n_scales;

			unpack_scales(w->type, w->data + (size_t) (first + p) * w->panel_bytes,
						  n_groups, scales, scales + n_scales);
		}
		for (int row = 0; row < m; row += L3_ACT_TILE)
		{
			size_t		at = (size_t) row * n_groups;

			args.n_rows = m - row < L3_ACT_TILE ? m - row : L3_ACT_TILE;
			args.xq = x->q + at * L3_ACT_GROUP;
			args.xscale = x->scale + at;
			args.xsum16 = x->sum16 + at * 2;
			for (int p = 0; p < n_panels; p++)
			{
				int			column = (first + p) * L3_PANEL;
				int			n_columns = w->n_out - column;

				args.quants = w->data + (size_t) (first + p) * w->panel_bytes + scales_bytes;
				args.scale = (float *) scratch + p * 2 * n_scales;
				args.add = args.scale + n_scales;
				args.columns = n_columns >= L3_PANEL ? 0xFFFF : (__mmask16) ((1u << n_columns) - 1);
				args.out = out + (size_t) row * ldo + column;
				tile_fns[w->type][args.n_rows] (&args);
			}
		}
	}
}

/* Enter the quantised types into the table. */
static void
install_quant(L3Kernels *kernels)
{
	kernels->matmul[L3_Q8_0] = matmul_quant;
	kernels->matmul[L3_Q4_0] = matmul_quant;
	kernels->matmul[L3_Q8_1] = matmul_quant;
	kernels->matmul[L3_Q4_K] = matmul_quant;
	kernels->matmul[L3_Q6_K] = matmul_quant;
	kernels->matmul[L3_Q8_K] = matmul_quant;
	kernels->matmul_scratch_bytes = quant_scratch_bytes;
}
