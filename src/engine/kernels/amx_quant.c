/*-------------------------------------------------------------------------
 *
 * amx_quant.c
 *	  Quantised matrix products with AMX, for more than a few rows.
 *
 * A packed panel already is what the second operand of TDPBxxD must be: rows of
 * four k by 16 columns; and a tile of activations is its first.  One instruction
 * multiplies 16 rows with 16 columns over a group's 32 k (over 16 where scales
 * are per 16), which uses half (a quarter) of its width; but the sums are the
 * integers that every other level forms, so the bits of a row are the same, and
 * decode and prefill may take different ways.  More k to an instruction would
 * need the scales in the weights, and with that other roundings.
 *
 * A slab, eight groups of k of a few panels, is unpacked into the L1 cache once
 * and multiplied with all tiles of up to ROW_TILES * 16 rows.  The integers go by
 * memory from the tiles to the vector registers, where a tile's chains are; the
 * vectors work on those of LAG parts ago, so that neither unit waits.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/amx.h"

#ifdef L3_HAVE_AMX

#include "kernels/avx512_unpack.h"
#include "kernels/slabs.h"

#define FEW_ROWS	8			/* of which the level below reads weights once */
#define LAG			2			/* parts between a product and its scaling */
#define DOTS		4			/* integer tiles in memory; a power of two above LAG */

#define GROUP_BYTES	(L3_ACT_GROUP * L3_PANEL)	/* of unpacked weights */

/* What a thread works on. */
typedef struct Slab
{
	uint8_t		weights[PANELS][SLAB * GROUP_BYTES];
	SlabScales	scales[PANELS];
	/* one tile's sums of activations, [group][1 or 2][16] */
	float		sum[SLAB * 2][L3_ACT_TILE];
	int32_t		dot[DOTS][L3_ACT_TILE * L3_PANEL];
	Chains		chains[ROW_TILES][PANELS];
} Slab;

_Static_assert(sizeof(Slab) <= L3_SCRATCH_SLAB, "it fits the bound on scratch");

/* ----------------------------------------------------------------
 *		One tile of rows by one panel, over a slab
 * ----------------------------------------------------------------
 */

/* A part is a group, or a half of one where scales are per 16. */
typedef struct TileArgs
{
	int			n_parts;
	bool		is_signed;		/* the weights: their zero point is subtracted */
	const uint8_t *weights;
	const float *scale;
	const float *add;
	const int8_t *xq;			/* the tile's, as in L3Act */
	const float *xscale;
	const float *sum;
	int32_t    *dot;			/* (DOTS, 16, 16) */
	float	   *acc;			/* (16, 16) */
	/* fetched beside the work, so many bytes a part: the slab unpacked next and its scales; NULL: nothing */
	const uint8_t *weights_ahead;
	size_t		weights_step;
	const uint8_t *scales_ahead;
	size_t		scales_step;
} TileArgs;

/* Products of a part to memory.  Two sets of tiles in turn: nothing waits for a name. */
#define MULTIPLY_PART(sum, a, b) \
	do { \
		TILE_ZERO(sum); \
		TILE_LOAD(a, x, L3_ACT_GROUP); \
		TILE_LOAD(b, weights, L3_TILE_ROW_BYTES); \
		if (args->is_signed) \
			TILE_DOT_BYTES("ss", sum, a, b); \
		else \
			TILE_DOT_BYTES("su", sum, a, b); \
		TILE_STORE(sum, dot, L3_TILE_ROW_BYTES); \
	} while (0)

TARGET512 INLINE void
multiply_part(bool halves, const TileArgs *args, int part)
{
	int			k = part * (halves ? 16 : 32);
	const uint8_t *weights = args->weights + (size_t) k * L3_PANEL;
	const int8_t *x = args->xq + (size_t) (k / L3_ACT_GROUP) * (L3_ACT_TILE * L3_ACT_GROUP) +
	k % L3_ACT_GROUP;
	int32_t    *dot = args->dot + part % DOTS * (L3_ACT_TILE * L3_PANEL);

	if (part % 2 == 0)
		MULTIPLY_PART(0, 2, 4);
	else
		MULTIPLY_PART(1, 3, 5);
}

TARGET512 INLINE void
fetch_part(const TileArgs *args, int part)
{
	const char *weights = (const char *) args->weights_ahead + (size_t) part * args->weights_step;

	for (size_t line = 0; line < args->weights_step; line += 64)
		_mm_prefetch(weights + line, _MM_HINT_T1);
	_mm_prefetch((const char *) args->scales_ahead + (size_t) part * args->scales_step, _MM_HINT_T1);
}

/* Extend the chains of all rows by a part (those past the last by anything). */
TARGET512 INLINE void
extend_chains(bool halves, bool has_add, const TileArgs *args, int part, __m512 acc[L3_ACT_TILE])
{
	const int32_t *dot = args->dot + part % DOTS * (L3_ACT_TILE * L3_PANEL);
	const float *xscale = args->xscale + part / (halves ? 2 : 1) * L3_ACT_TILE;
	const float *sum = args->sum + part * L3_ACT_TILE;
	__m512		scale = _mm512_load_ps(args->scale + part * L3_PANEL);
	__m512		add = has_add ? _mm512_load_ps(args->add + part * L3_PANEL) : scale;

	UNROLL
	for (int r = 0; r < L3_ACT_TILE; r++)
	{
		__m512		sx = _mm512_set1_ps(xscale[r]);
		__m512		idot = _mm512_cvtepi32_ps(_mm512_load_si512(dot + r * L3_PANEL));

		acc[r] = _mm512_fmadd_ps(idot, _mm512_mul_ps(sx, scale), acc[r]);
		if (has_add)
			acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(sum[r]), _mm512_mul_ps(sx, add), acc[r]);
	}
}

TARGET512 INLINE void
tile_slab(bool halves, bool has_add, const TileArgs *given)
{
	/* a copy, of which the compiler knows that no store changes it */
	const TileArgs args = *given;
	__m512		acc[L3_ACT_TILE];

	UNROLL
	for (int r = 0; r < L3_ACT_TILE; r++)
		acc[r] = _mm512_load_ps(args.acc + r * L3_PANEL);
	for (int part = 0; part < args.n_parts + LAG; part++)
	{
		if (part < args.n_parts)
		{
			if (args.weights_ahead != NULL)
				fetch_part(&args, part);
			multiply_part(halves, &args, part);
		}
		if (part >= LAG)
			extend_chains(halves, has_add, &args, part - LAG, acc);
	}
	UNROLL
	for (int r = 0; r < L3_ACT_TILE; r++)
		_mm512_store_ps(args.acc + r * L3_PANEL, acc[r]);
}

#define TILE_FN(name, halves, has_add) \
	TARGET512 static void \
	tile_##name(const TileArgs *args) \
	{ \
		tile_slab(halves, has_add, args); \
	}

TILE_FN(groups, false, false)
TILE_FN(groups_add, false, true)
TILE_FN(halves, true, false)
TILE_FN(halves_add, true, true)

/* By what the type has: scales per 16, an add. */
static void (*const tile_fns[2][2]) (const TileArgs *args) = {
	{tile_groups, tile_groups_add}, {tile_halves, tile_halves_add}
};

/* ----------------------------------------------------------------
 *		The matrix product
 * ----------------------------------------------------------------
 */

/* Sizes of the tiles: 0, 1 sums of 32 bits; 2, 3 activations; 4, 5 weights. */
static void
configure_tiles(bool halves)
{
	const int	k = halves ? 16 : 32;
	L3TileConfig config = l3_full_tiles(L3_ACT_TILE);

	config.row_bytes[2] = config.row_bytes[3] = (uint16_t) k;
	config.rows[4] = config.rows[5] = (uint8_t) (k / 4);
	l3_tile_configure(&config);
}

/* Groups g0 .. g0 + n - 1 of a panel as bytes, the zero point subtracted. */
TARGET512 static void
unpack_weights(const L3Matrix *w, const uint8_t *quants, int g0, int n, uint8_t *dst)
{
	const __m512i zero = _mm512_set1_epi8((char) l3_zero_point(w));

	for (int g = g0; g < g0 + n; g++, dst += GROUP_BYTES)
	{
		__m512i		q[8];

		load_quads(w->type, quants, g, q);
		UNROLL
		for (int j = 0; j < 8; j++)
			_mm512_store_si512(dst + j * L3_TILE_ROW_BYTES, _mm512_sub_epi8(q[j], zero));
	}
}

/*
 * SlabKernel.multiply.  The first tile fetches the weights that are unpacked next
 * and their scales (measured where avx2_quant.c does the same, not with AMX).
 */
TARGET512 static void
multiply_slab(const L3Matrix *w, const SlabPlace *place, const L3Act *x, void *work)
{
	const bool	halves = l3_type_halves(w->type);
	const bool	has_add = l3_type_has_add(w->type);
	const int	n_parts = halves ? 2 : 1;
	const int	all_groups = w->n_in / L3_ACT_GROUP;
	Slab	   *slab = work;
	TileArgs	args = {0};

	for (int p = 0; p < place->n_panels; p++)
	{
		unpack_scales(w->type, place->scales + p * w->panel_bytes, place->n_groups, slab->scales[p].scale,
					  slab->scales[p].add);
		unpack_weights(w, place->quants + p * w->panel_bytes, place->g0, place->n_groups, slab->weights[p]);
	}
	args.n_parts = place->n_groups * n_parts;
	args.weights_step = l3_group_quants_bytes(w->type) / (size_t) n_parts;
	args.scales_step = l3_group_scales_bytes(w->type, SLAB) / (size_t) (SLAB * n_parts);
	args.is_signed = l3_zero_point(w) != 0;
	args.sum = slab->sum[0];
	args.dot = slab->dot[0];
	for (int row = 0; row < place->n_rows; row += L3_ACT_TILE)
	{
		size_t		at = (size_t) (place->row0 + row) * (size_t) all_groups + (size_t) place->g0 * L3_ACT_TILE;

		args.xq = x->q + at * L3_ACT_GROUP;
		args.xscale = x->scale + at;
		if (has_add)
			for (int g = 0; g < place->n_groups; g++)
				group_sums(halves, 0, x->sum16 + (at + (size_t) g * L3_ACT_TILE) * 2, NULL,
						   slab->sum[g * n_parts]);
		for (int p = 0; p < place->n_panels; p++)
		{
			args.weights = slab->weights[p];
			args.scale = slab->scales[p].scale;
			args.add = slab->scales[p].add;
			args.acc = slab->chains[row / L3_ACT_TILE][p];
			args.weights_ahead = row > 0 ? NULL : place->next_quants + p * w->panel_bytes;
			args.scales_ahead = place->next_scales + p * w->panel_bytes;
			tile_fns[halves][has_add] (&args);
		}
	}
}

static void
matmul_quant(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
			 float *out, size_t ldo, bool accumulate, void *scratch)
{
	static const SlabKernel kernel = {multiply_slab, store_chains};
	Slab	   *slab = scratch;

	if (m <= FEW_ROWS)
	{
		l3_avx512vnni_matmul(w, panel0, panel1, x, m, m_prefill, out, ldo, accumulate, scratch);
		return;
	}
	configure_tiles(l3_type_halves(w->type));
	multiply_slabs(&kernel, w, panel0, panel1, x, m, out, ldo, accumulate, slab->chains, slab);
	l3_tile_release();
}

size_t
l3_amx_quant_scratch_bytes(const L3Matrix *w, int m_max)
{
	size_t		few = l3_avx512vnni_matmul_scratch_bytes(w, m_max);

	return sizeof(Slab) > few ? sizeof(Slab) : few;
}

void
l3_amx_quant(L3Kernels *kernels)
{
	for (int type = L3_Q8_0; type < L3_N_PACKED_TYPES; type++)
		kernels->matmul[type] = matmul_quant;
}

#endif							/* L3_HAVE_AMX */
