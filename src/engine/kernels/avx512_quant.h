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
#include "kernels/avx512_unpack.h"

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

/* ----------------------------------------------------------------
 *		One tile
 * ----------------------------------------------------------------
 */

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
				idot = dot_quads(l3_type_bits(type), q + h * quads,
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
	args.zero_point = l3_zero_point(w);
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
