/*-------------------------------------------------------------------------
 *
 * slabs.h
 *	  Products of quantised matrices with many rows, slab by slab: the loops
 *	  around the kernels of AVX2, AVX-512 and AMX.
 *
 * A slab is SLAB groups of k in PANELS panels.  It (with AVX-512, its scales) is
 * unpacked once and multiplied with all tiles of up to ROW_TILES * 16 rows, whose
 * chains wait in memory for the next one.
 *
 * Slabs of several panels are nothing that the hardware fetches ahead: the next
 * one's weights and scales are prefetched by the kernels beside their work.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SLABS_H
#define L3_SLABS_H

#include <string.h>

#include "kernels/quants.h"

#define SLAB		8			/* groups: a block of the K types */
#define PANELS		4			/* unpacked together */
#define ROW_TILES	16			/* tiles that an unpacked slab serves */

/*
 * How far ahead the kernels of few rows, which take one panel after the other,
 * fetch: the scales at a panel's start and its quants are two streams in turn, which
 * the hardware does not follow well.  Past a panel's end is the next one; past the
 * last a prefetch does no harm.
 */
#define PREFETCH_BYTES	8192

/* A panel's scales and adds in a slab, [group][1 or 2][16]. */
typedef struct SlabScales
{
	float		scale[SLAB * 2 * L3_PANEL] __attribute__((aligned(64)));
	float		add[SLAB * 2 * L3_PANEL];
} SlabScales;

/* Of a tile of rows in a panel: (16, 16). */
typedef float Chains[L3_ACT_TILE * L3_PANEL];

/* A slab and the rows it is multiplied with.  Its panels are panel_bytes apart. */
typedef struct SlabPlace
{
	int			n_panels;
	int			g0;				/* its first group */
	int			n_groups;
	int			row0;
	int			n_rows;
	const uint8_t *scales;		/* of the slab, in its first panel */
	const uint8_t *quants;		/* of the panel */
	const uint8_t *next_scales; /* of the slab that is unpacked after this one */
	const uint8_t *next_quants;
} SlabPlace;

/* What an instruction set does. */
typedef struct SlabKernel
{
	/* Extend the chains of place's rows by a slab. */
	void		(*multiply) (const L3Matrix *w, const SlabPlace *place, const L3Act *x, void *slab);
	/* n_rows rows and n_columns columns of a tile's chains, to out or added to it. */
	void		(*store) (const float *chains, int n_rows, int n_columns, float *out, size_t ldo,
						  bool accumulate);
} SlabKernel;

static inline SlabPlace
slab_place(const L3Matrix *w, int panel0, int n_panels, int g0, int row0, int n_rows)
{
	const int	n_groups = w->n_in / L3_ACT_GROUP;
	const size_t scales_bytes = l3_group_scales_bytes(w->type, SLAB);
	const size_t quants_bytes = SLAB * l3_group_quants_bytes(w->type);
	const size_t slab = (size_t) (g0 / SLAB);
	const uint8_t *panel = w->data + (size_t) panel0 * w->panel_bytes;
	SlabPlace	place = {.n_panels = n_panels, .g0 = g0, .row0 = row0, .n_rows = n_rows};

	place.n_groups = n_groups - g0 < SLAB ? n_groups - g0 : SLAB;
	place.scales = panel + slab * scales_bytes;
	place.quants = panel + l3_panel_scales_bytes(w->type, w->n_in);
	if (g0 + SLAB < n_groups)
	{
		place.next_scales = place.scales + scales_bytes;
		place.next_quants = place.quants + (slab + 1) * quants_bytes;
	}
	else
	{
		place.next_scales = panel + PANELS * w->panel_bytes;
		place.next_quants = place.quants + PANELS * w->panel_bytes;
	}
	return place;
}

/* L3Kernels.matmul of a quantised type; chains is in slab, which multiply works on. */
static inline void
multiply_slabs(const SlabKernel *kernel, const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m,
			   float *out, size_t ldo, bool accumulate, Chains chains[ROW_TILES][PANELS], void *slab)
{
	const int	max_rows = ROW_TILES * L3_ACT_TILE;

	for (int first = panel0; first < panel1; first += PANELS)
	{
		int			n_panels = panel1 - first < PANELS ? panel1 - first : PANELS;

		for (int row0 = 0; row0 < m; row0 += max_rows)
		{
			int			n_rows = m - row0 < max_rows ? m - row0 : max_rows;

			memset(chains, 0, sizeof(chains[0]) * (size_t) ((n_rows + L3_ACT_TILE - 1) / L3_ACT_TILE));
			for (int g0 = 0; g0 < w->n_in / L3_ACT_GROUP; g0 += SLAB)
			{
				SlabPlace	place = slab_place(w, first, n_panels, g0, row0, n_rows);

				kernel->multiply(w, &place, x, slab);
			}
			for (int row = 0; row < n_rows; row += L3_ACT_TILE)
				for (int p = 0; p < n_panels; p++)
				{
					int			column = (first + p) * L3_PANEL;

					kernel->store(chains[row / L3_ACT_TILE][p],
								  n_rows - row < L3_ACT_TILE ? n_rows - row : L3_ACT_TILE,
								  w->n_out - column < L3_PANEL ? w->n_out - column : L3_PANEL,
								  out + (size_t) (row0 + row) * ldo + column, ldo, accumulate);
				}
		}
	}
}

#endif							/* L3_SLABS_H */
