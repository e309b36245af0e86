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
 * float chains of all rows stay in registers over a slab (slabs.h); the eight
 * quad rows of a group are unpacked into registers once and used for every
 * row of the tile.  Unpacking costs logic operations that run beside the
 * multiplications, so nothing but the scales is ever unpacked into memory: few
 * rows stream the packed bytes from DRAM, and a long prompt the same bytes
 * from L1.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/avx512_unpack.h"
#include "kernels/slabs.h"

/*
 * Up to so many rows take one panel after the other, which is one stream of memory.
 * Fetched ahead, on Zen 5, a model in Q8_0 decodes one sequence at 1.08 and four at
 * 1.5 times the speed of without, one in Q4_K_M at 1.3 and 2.2 times.
 */
#define FEW_ROWS			4

/* What a thread works on. */
typedef struct Slab
{
	SlabScales	scales[PANELS];
	/* a tile's sums of activations, [group][1 or 2][16]: where integer sums start, and what is added */
	int32_t		start[SLAB * 2 * L3_ACT_TILE];
	float		sum[SLAB * 2 * L3_ACT_TILE];
	Chains		chains[ROW_TILES][PANELS];
} Slab;

/*
 * The same with few rows, whose chains stay in registers.  In memory it is followed
 * by what is prepared of them for all groups, [group][row] without the rows
 * between: bytes, scales, start, sum.
 */
typedef struct FewRows
{
	SlabScales	scales;
	float		acc[FEW_ROWS * L3_PANEL];
} FewRows;

#define FEW_ROWS_BYTES	(FEW_ROWS * (L3_ACT_GROUP + 5 * sizeof(float)))	/* of a group */

/* ----------------------------------------------------------------
 *		A tile of rows by one panel
 * ----------------------------------------------------------------
 */

typedef struct TileArgs
{
	const uint8_t *quants;		/* the panel's */
	int			g0;				/* first group */
	int			n_groups;		/* of a slab, or with few rows all */
	const uint8_t *packed_scales;	/* with few rows */
	float	   *scale;			/* of a slab, [group][1 or 2][16] */
	float	   *add;			/* the same, where the type has it */
	/* the rows' from the first group on, [group][row]; sums [group][1 or 2][row] */
	const int8_t *xq;
	const float *xscale;
	const int32_t *start;
	const float *sum;
	float	   *acc;			/* (rows, 16) */
	/* fetched beside the work, a group's bytes for each: the slab unpacked next; NULL: nothing */
	const uint8_t *quants_ahead;
	const uint8_t *scales_ahead;
	size_t		scales_step;
} TileArgs;

typedef void (*TileFn) (const TileArgs *args);

/* Extend the chains of R rows by group i, whose quad rows are q; stride rows are from group to group. */
TARGET INLINE void
extend_chains(const L3PackedType type, const int R, const int stride, const TileArgs *args, int i,
			  const __m512i q[8], __m512 acc[L3_ACT_TILE])
{
	const bool	has_add = l3_type_has_add(type);
	const bool	has_zero = l3_type_has_zero(type);
	const int	n_parts = l3_type_halves(type) ? 2 : 1;
	const int	quads = 8 / n_parts;
	const int8_t *xq = args->xq + (size_t) i * (size_t) (stride * L3_ACT_GROUP);
	const float *xscale = args->xscale + (size_t) i * (size_t) stride;
	__m512		scale[2];
	__m512		add[2];

	UNROLL
	for (int h = 0; h < n_parts; h++)
	{
		scale[h] = _mm512_load_ps(args->scale + (i * n_parts + h) * L3_PANEL);
		add[h] = has_add ? _mm512_load_ps(args->add + (i * n_parts + h) * L3_PANEL) : scale[h];
	}
	/* both halves of a row in turn: its scale is loaded once and needs no register for long */
	UNROLL
	for (int r = 0; r < R; r++)
	{
		__m512		sx = _mm512_set1_ps(xscale[r]);

		UNROLL
		for (int h = 0; h < n_parts; h++)
		{
			size_t		at = (size_t) ((i * n_parts + h) * stride + r);
			__m512i		idot = has_zero ? _mm512_set1_epi32(args->start[at]) : _mm512_setzero_si512();

			idot = dot_quads(l3_type_bits(type), q + h * quads, xq + r * L3_ACT_GROUP + h * 16, quads, idot);
			acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(idot), _mm512_mul_ps(sx, scale[h]), acc[r]);
			if (has_add)
				acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(args->sum[at]), _mm512_mul_ps(sx, add[h]), acc[r]);
		}
	}
}

/*
 * Extend the chains of R rows by a slab (those past the last are computed on
 * whatever is there, not stored).
 */
TARGET INLINE void
tile_rows(const L3PackedType type, const int R, const TileArgs *given)
{
	const size_t bytes = l3_group_quants_bytes(type);
	/* a copy, of which the compiler knows that no store changes it */
	const TileArgs args = *given;
	__m512		acc[L3_ACT_TILE];

	UNROLL
	for (int r = 0; r < R; r++)
		acc[r] = _mm512_load_ps(args.acc + r * L3_PANEL);
	for (int i = 0; i < args.n_groups; i++)
	{
		__m512i		q[8];

		if (args.quants_ahead != NULL)
		{
			PREFETCH_LINES(args.quants_ahead + (size_t) i * bytes, bytes, _MM_HINT_T0);
			_mm_prefetch((const char *) args.scales_ahead + (size_t) i * args.scales_step, _MM_HINT_T0);
		}
		load_quads(type, args.quants, args.g0 + i, q);
		extend_chains(type, R, L3_ACT_TILE, &args, i, q, acc);
	}
	UNROLL
	for (int r = 0; r < R; r++)
		_mm512_store_ps(args.acc + r * L3_PANEL, acc[r]);
}

/* The chains of R rows, which stand side by side, over a panel's whole k. */
TARGET INLINE void
few_rows(const L3PackedType type, const int R, const TileArgs *given)
{
	const int	n_parts = l3_type_halves(type) ? 2 : 1;
	const int	step = type == L3_Q4_K ? 2 : 1; /* groups unpacked together */
	const size_t bytes = l3_group_quants_bytes(type);
	TileArgs	args = *given;
	__m512		acc[L3_ACT_TILE];

	UNROLL
	for (int r = 0; r < R; r++)
		acc[r] = _mm512_setzero_ps();
	for (int g0 = 0; g0 < args.n_groups; g0 += SLAB)
	{
		int			n = args.n_groups - g0 < SLAB ? args.n_groups - g0 : SLAB;

		unpack_scales(type, args.packed_scales, n, args.scale, args.add);
		for (int i = 0; i < n; i += step)
		{
			__m512i		q[2][8];

			PREFETCH_LINES(args.quants + (size_t) (g0 + i) * bytes + PREFETCH_BYTES, (size_t) step * bytes,
						   _MM_HINT_T0);
			if (type == L3_Q4_K)
				load_two_groups(args.quants, g0 + i, q);
			else
				load_quads(type, args.quants, g0 + i, q[0]);
			UNROLL
			for (int j = 0; j < step; j++)
				extend_chains(type, R, R, &args, i + j, q[j], acc);
		}
		args.packed_scales += l3_group_scales_bytes(type, SLAB);
		args.xq += SLAB * R * L3_ACT_GROUP;
		args.xscale += SLAB * R;
		args.start += SLAB * n_parts * R;
		args.sum += SLAB * n_parts * R;
	}
	UNROLL
	for (int r = 0; r < R; r++)
		_mm512_store_ps(args.acc + r * L3_PANEL, acc[r]);
}

#define TILE_FN(type, rows, R) \
	TARGET static void \
	rows##_##type##_##R(const TileArgs *args) \
	{ \
		rows(L3_##type, R, args); \
	}
#define TILE_FNS(type) \
	TILE_FN(type, tile_rows, 2) TILE_FN(type, tile_rows, 4) TILE_FN(type, tile_rows, 6) \
	TILE_FN(type, tile_rows, 8) TILE_FN(type, tile_rows, 12) TILE_FN(type, tile_rows, 16) \
	TILE_FN(type, few_rows, 1) TILE_FN(type, few_rows, 2) TILE_FN(type, few_rows, 3) TILE_FN(type, few_rows, 4)

TILE_FNS(Q8_0)
TILE_FNS(Q4_0)
TILE_FNS(Q8_1)
TILE_FNS(Q4_K)
TILE_FNS(Q6_K)
TILE_FNS(Q8_K)

/* By type and number of rows of a tile. */
#define TILE_TABLE(type) \
	[L3_##type] = {NULL, tile_rows_##type##_2, tile_rows_##type##_2, tile_rows_##type##_4, tile_rows_##type##_4, \
		tile_rows_##type##_6, tile_rows_##type##_6, tile_rows_##type##_8, tile_rows_##type##_8, \
		tile_rows_##type##_12, tile_rows_##type##_12, tile_rows_##type##_12, tile_rows_##type##_12, \
		tile_rows_##type##_16, tile_rows_##type##_16, tile_rows_##type##_16, tile_rows_##type##_16}

static const TileFn tile_fns[L3_N_PACKED_TYPES][L3_ACT_TILE + 1] = {
	TILE_TABLE(Q8_0),
	TILE_TABLE(Q4_0),
	TILE_TABLE(Q8_1),
	TILE_TABLE(Q4_K),
	TILE_TABLE(Q6_K),
	TILE_TABLE(Q8_K),
};

/* By type and number of rows, of few. */
#define FEW_TABLE(type) \
	[L3_##type] = {NULL, few_rows_##type##_1, few_rows_##type##_2, few_rows_##type##_3, few_rows_##type##_4}

static const TileFn few_fns[L3_N_PACKED_TYPES][FEW_ROWS + 1] = {
	FEW_TABLE(Q8_0),
	FEW_TABLE(Q4_0),
	FEW_TABLE(Q8_1),
	FEW_TABLE(Q4_K),
	FEW_TABLE(Q6_K),
	FEW_TABLE(Q8_K),
};

/* ----------------------------------------------------------------
 *		The matrix product
 * ----------------------------------------------------------------
 */

/* SlabKernel.multiply; the first tile fetches the weights and scales of the next slab. */
TARGET static void
multiply_slab(const L3Matrix *w, const SlabPlace *place, const L3Act *x, void *work)
{
	const bool	halves = l3_type_halves(w->type);
	const bool	has_add = l3_type_has_add(w->type);
	const int	zero_point = l3_zero_point(w);
	const int	n_parts = halves ? 2 : 1;
	const int	all_groups = w->n_in / L3_ACT_GROUP;
	Slab	   *slab = work;
	TileArgs	args = {0};

	for (int p = 0; p < place->n_panels; p++)
		unpack_scales(w->type, place->scales + p * w->panel_bytes, place->n_groups, slab->scales[p].scale,
					  slab->scales[p].add);
	args.g0 = place->g0;
	args.n_groups = place->n_groups;
	args.start = slab->start;
	args.sum = slab->sum;
	args.scales_step = l3_group_scales_bytes(w->type, SLAB) / SLAB;
	for (int row = 0; row < place->n_rows; row += L3_ACT_TILE)
	{
		const int	n_rows = place->n_rows - row < L3_ACT_TILE ? place->n_rows - row : L3_ACT_TILE;
		size_t		at = (size_t) (place->row0 + row) * (size_t) all_groups + (size_t) place->g0 * L3_ACT_TILE;

		args.xq = x->q + at * L3_ACT_GROUP;
		args.xscale = x->scale + at;
		for (int g = 0; g < place->n_groups; g++)
		{
			int			in_slab = g * n_parts * L3_ACT_TILE;

			group_sums(halves, zero_point, x->sum16 + (at + (size_t) g * L3_ACT_TILE) * 2,
					   slab->start + in_slab, has_add ? slab->sum + in_slab : NULL);
		}
		for (int p = 0; p < place->n_panels; p++)
		{
			args.quants = place->quants + p * w->panel_bytes;
			args.scale = slab->scales[p].scale;
			args.add = slab->scales[p].add;
			args.acc = slab->chains[row / L3_ACT_TILE][p];
			args.quants_ahead = row > 0 ? NULL : place->next_quants + p * w->panel_bytes;
			args.scales_ahead = place->next_scales + p * w->panel_bytes;
			tile_fns[w->type][n_rows] (&args);
		}
	}
}

/* The activations of m <= FEW_ROWS rows over all groups, behind few; where they are, in args. */
static void
prepare_few(const L3Matrix *w, const L3Act *x, int m, FewRows *few, TileArgs *args)
{
	const int	n_groups = w->n_in / L3_ACT_GROUP;
	const int	n_parts = l3_type_halves(w->type) ? 2 : 1;
	const int	zero_point = l3_zero_point(w);
	const size_t n = (size_t) n_groups * FEW_ROWS;
	int8_t	   *bytes = (int8_t *) (few + 1);
	float	   *scale = (float *) (bytes + n * L3_ACT_GROUP);
	int32_t    *start = (int32_t *) (scale + n);
	float	   *sum = (float *) (start + 2 * n);

	args->xq = bytes;
	args->xscale = scale;
	args->start = start;
	args->sum = sum;
	for (int g = 0; g < n_groups; g++)
	{
		for (int row = 0; row < m; row++, bytes += L3_ACT_GROUP)
		{
			size_t		at = (size_t) g * L3_ACT_TILE + (size_t) row;
			const int32_t *sum16 = x->sum16 + at * 2;

			memcpy(bytes, x->q + at * L3_ACT_GROUP, L3_ACT_GROUP);
			*scale++ = x->scale[at];
			for (int h = 0; h < n_parts; h++)
			{
				int32_t		part = n_parts == 2 ? sum16[h] : sum16[0] + sum16[1];

				start[h * m + row] = part * -zero_point;
				sum[h * m + row] = (float) part;
			}
		}
		start += n_parts * m;
		sum += n_parts * m;
	}
}

/* The product of m <= FEW_ROWS rows, panel by panel. */
TARGET static void
multiply_few(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, float *out, size_t ldo,
			 bool accumulate, FewRows *few)
{
	TileArgs	args = {.n_groups = w->n_in / L3_ACT_GROUP, .acc = few->acc, .scale = few->scales.scale,
		.add = few->scales.add};

	prepare_few(w, x, m, few, &args);
	for (int p = panel0; p < panel1; p++)
	{
		int			n_columns = w->n_out - p * L3_PANEL < L3_PANEL ? w->n_out - p * L3_PANEL : L3_PANEL;

		args.packed_scales = w->data + (size_t) p * w->panel_bytes;
		args.quants = args.packed_scales + l3_panel_scales_bytes(w->type, w->n_in);
		few_fns[w->type][m] (&args);
		store_chains(few->acc, m, n_columns, out + (size_t) p * L3_PANEL, ldo, accumulate);
	}
}

#include "kernels/quant_matmul.h"
