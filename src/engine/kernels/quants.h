/*-------------------------------------------------------------------------
 *
 * quants.h
 *	  Reading packed weights one group at a time, in portable C.
 *
 * A group is 32 k by the 16 columns of a panel.  Whatever its type, it is
 * brought to one canonical form, for which the arithmetic is written once:
 *
 *		w = scale * q + add		q an integer, the zero point subtracted
 *
 * with one scale (and add) per column and per 32 k, or per half of 16 k for
 * the types whose scales are per 16 (Q6_K, Q8_K).
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_QUANTS_H
#define L3_QUANTS_H

#include "kernels/kernels.h"

typedef struct L3Group
{
	int16_t		q[L3_ACT_GROUP][L3_PANEL];
	float		scale[2][L3_PANEL]; /* [1] only where l3_type_halves */
	float		add[2][L3_PANEL];	/* only where l3_type_has_add */
} L3Group;

static inline bool
l3_type_quantised(L3PackedType type)
{
	return type >= L3_Q8_0;
}

/* Bits of a packed quant. */
static inline int
l3_type_bits(L3PackedType type)
{
	return type == L3_Q4_0 || type == L3_Q4_K ? 4 : type == L3_Q6_K ? 6 : 8;
}

/* Bytes of one k in a panel of a float type. */
static inline size_t
l3_float_k_bytes(L3PackedType type)
{
	return L3_PANEL * (type == L3_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* Bytes of a group's packed quants in a panel, on the average of a block. */
static inline size_t
l3_group_quants_bytes(L3PackedType type)
{
	return L3_ACT_GROUP * L3_PANEL / 8 * (size_t) l3_type_bits(type);
}

/* Scales per 16 k rather than per 32? */
static inline bool
l3_type_halves(L3PackedType type)
{
	return type == L3_Q6_K || type == L3_Q8_K;
}

static inline bool
l3_type_has_add(L3PackedType type)
{
	return type == L3_Q8_1 || type == L3_Q4_K || type == L3_Q8_K;
}

/* Is anything? */
static inline bool
l3_type_has_zero(L3PackedType type)
{
	return type == L3_Q8_0 || type == L3_Q4_0 || l3_type_halves(type);
}

/* What is subtracted from the packed quants of w. */
static inline int
l3_zero_point(const L3Matrix *w)
{
	switch (w->type)
	{
		case L3_Q8_0:
			return 128;
		case L3_Q4_0:
			return 8;
		case L3_Q6_K:
			return 32;
		default:
			return w->zero_point;
	}
}

/*
 * Packed scales of n_groups groups of a panel, whole blocks; those of twice as
 * many are whole cache lines, so that nothing is rounded up.
 */
static inline size_t
l3_group_scales_bytes(L3PackedType type, int n_groups)
{
	return l3_panel_scales_bytes(type, 2 * n_groups * L3_ACT_GROUP) / 2;
}

/* Unpack group g (k = 32g ..) of a panel of quantised matrix w. */
void		l3_unpack_group(const L3Matrix *w, const uint8_t *panel, int g,
							L3Group *group);

/*
 * Float values of 16 columns for k = k0 .. k0 + n - 1 of a panel of any type,
 * dst (n, 16).  For quantised types k0 and n are multiples of 32.
 */
void		l3_unpack_floats(const L3Matrix *w, const uint8_t *panel, int k0,
							 int n, float *dst);

#endif							/* L3_QUANTS_H */
