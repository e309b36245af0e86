/*-------------------------------------------------------------------------
 *
 * unpack.c
 *	  Packed weights to the canonical form of quants.h, in portable C.
 *
 * The byte layouts are arena.h's.  These functions are the specification that
 * the vector code is tested against, and serve the embedding lookup and the
 * BLAS path everywhere.
 *
 *-------------------------------------------------------------------------
 */
#include "half.h"
#include "kernels/quants.h"

#define N		L3_PANEL

/* One quad row of 8-bit quants: columns, then 4 consecutive k. */
static void
unpack_quad(const uint8_t *src, int zero_point, int16_t dst[4][N])
{
	for (int c = 0; c < N; c++)
		for (int t = 0; t < 4; t++)
			dst[t][c] = (int16_t) (src[c * 4 + t] - zero_point);
}

/* The low (shift 0) or high (shift 4) nibbles of one quad row. */
static void
unpack_nibbles(const uint8_t *src, int shift, int zero_point, int16_t dst[4][N])
{
	for (int c = 0; c < N; c++)
		for (int t = 0; t < 4; t++)
			dst[t][c] = (int16_t) (((src[c * 4 + t] >> shift) & 15) - zero_point);
}

static void
halves_to_floats(const uint8_t *src, float dst[N])
{
	uint16_t	h[N];

	memcpy(h, src, sizeof(h));
	for (int c = 0; c < N; c++)
		dst[c] = l3_half_to_float(h[c]);
}

static void
unpack_q8_0(const uint8_t *scales, const uint8_t *quants, int g, L3Group *group)
{
	halves_to_floats(scales + (size_t) g * 32, group->scale[0]);
	for (int j = 0; j < 8; j++)
		unpack_quad(quants + ((size_t) g * 8 + j) * 64, 128, &group->q[4 * j]);
}

static void
unpack_q8_1(const uint8_t *scales, const uint8_t *quants, int g, L3Group *group)
{
	halves_to_floats(scales + (size_t) g * 64, group->scale[0]);
	halves_to_floats(scales + (size_t) g * 64 + 32, group->add[0]);
	for (int j = 0; j < 8; j++)
		unpack_quad(quants + ((size_t) g * 8 + j) * 64, 0, &group->q[4 * j]);
}

static void
unpack_q4_0(const uint8_t *scales, const uint8_t *quants, int g, L3Group *group)
{
	halves_to_floats(scales + (size_t) g * 32, group->scale[0]);
	for (int j = 0; j < 4; j++)
	{
		const uint8_t *row = quants + ((size_t) g * 4 + j) * 64;

		unpack_nibbles(row, 0, 8, &group->q[4 * j]);
		unpack_nibbles(row, 4, 8, &group->q[4 * (j + 4)]);
	}
}

/*
 * Scale and min of group g (0..7) of Q4_K's 12 bytes: groups 0..3 have six bits
 * in bytes g and g + 4; groups 4..7 have four bits each in byte g + 4 and the
 * upper two in bytes g - 4 and g.
 */
static void
q4_k_scale_min(const uint8_t *sm, int g, int c, int *scale, int *min)
{
	if (g < 4)
	{
		*scale = sm[g * N + c] & 63;
		*min = sm[(g + 4) * N + c] & 63;
	}
	else
	{
		*scale = (sm[(g + 4) * N + c] & 15) | (sm[(g - 4) * N + c] >> 6 << 4);
		*min = (sm[(g + 4) * N + c] >> 4) | (sm[g * N + c] >> 6 << 4);
	}
}

static void
unpack_q4_k(const uint8_t *scales, const uint8_t *quants, int g, L3Group *group)
{
	const uint8_t *block = scales + (size_t) (g / 8) * (32 + 32 + 12 * N);
	const uint8_t *rows = quants + (size_t) (g / 8) * 2048 + (size_t) (g % 8 / 2) * 512;
	float		d[N],
				dmin[N];

	halves_to_floats(block, d);
	halves_to_floats(block + 32, dmin);
	for (int c = 0; c < N; c++)
	{
		int			scale,
					min;

		q4_k_scale_min(block + 64, g % 8, c, &scale, &min);
		group->scale[0][c] = d[c] * (float) scale;
		group->add[0][c] = -(dmin[c] * (float) min);
	}
	for (int j = 0; j < 8; j++)
		unpack_nibbles(rows + j * 64, g % 2 * 4, 0, &group->q[4 * j]);
}

static void
unpack_q6_k(const uint8_t *scales, const uint8_t *quants, int g, L3Group *group)
{
	const uint8_t *block = scales + (size_t) (g / 8) * (32 + 16 * N);
	const int8_t *sc = (const int8_t *) block + 32;
	const uint8_t *ql = quants + (size_t) (g / 8) * (48 * 64);
	const uint8_t *qh = ql + 32 * 64;
	float		d[N];

	halves_to_floats(block, d);
	for (int h = 0; h < 2; h++)
		for (int c = 0; c < N; c++)
			group->scale[h][c] = d[c] * (float) sc[(g % 8 * 2 + h) * N + c];

	for (int j = 0; j < 8; j++)
	{
		int			quad = g % 8 * 8 + j;	/* 0..63 in the block */
		const uint8_t *low = ql + quad % 32 * 64;
		const uint8_t *high = qh + quad % 16 * 64;

		for (int i = 0; i < 64; i++)
		{
			int			lo = (low[i] >> (quad / 32 * 4)) & 15;
			int			hi = (high[i] >> (quad / 16 * 2)) & 3;

			group->q[4 * j + i % 4][i / 4] = (int16_t) ((lo | hi << 4) - 32);
		}
	}
}

static void
unpack_q8_k(const uint8_t *scales, const uint8_t *quants, int zero_point, int g,
			L3Group *group)
{
	const uint8_t *block = scales + (size_t) (g / 8) * (32 + 32 + 32 * N);
	const int8_t *sc = (const int8_t *) block + 64;
	const uint8_t *mn = block + 64 + 16 * N;
	float		d[N],
				dmin[N];

	halves_to_floats(block, d);
	halves_to_floats(block + 32, dmin);
	for (int h = 0; h < 2; h++)
		for (int c = 0; c < N; c++)
		{
			group->scale[h][c] = d[c] * (float) sc[(g % 8 * 2 + h) * N + c];
			group->add[h][c] = -(dmin[c] * (float) mn[(g % 8 * 2 + h) * N + c]);
		}
	for (int j = 0; j < 8; j++)
		unpack_quad(quants + ((size_t) g * 8 + j) * 64, zero_point, &group->q[4 * j]);
}

void
l3_unpack_group(const L3Matrix *w, const uint8_t *panel, int g, L3Group *group)
{
	const uint8_t *quants = panel + l3_panel_scales_bytes(w->type, w->n_in);

	switch (w->type)
	{
		case L3_Q8_0:
			unpack_q8_0(panel, quants, g, group);
			break;
		case L3_Q4_0:
			unpack_q4_0(panel, quants, g, group);
			break;
		case L3_Q8_1:
			unpack_q8_1(panel, quants, g, group);
			break;
		case L3_Q4_K:
			unpack_q4_k(panel, quants, g, group);
			break;
		case L3_Q6_K:
			unpack_q6_k(panel, quants, g, group);
			break;
		case L3_Q8_K:
			unpack_q8_k(panel, quants, l3_zero_point(w), g, group);
			break;
		case L3_F32:
		case L3_F16:
		case L3_BF16:
		case L3_N_PACKED_TYPES:
			break;
	}
}

/* The value is rounded product plus add, the sum rounded again. */
static void
group_to_floats(const L3Group *group, bool halves, bool has_add, float *dst)
{
	for (int k = 0; k < L3_ACT_GROUP; k++)
	{
		int			h = halves ? k / 16 : 0;

		for (int c = 0; c < N; c++)
		{
			float		product = group->scale[h][c] * (float) group->q[k][c];

			dst[k * N + c] = has_add ? product + group->add[h][c] : product;
		}
	}
}

void
l3_unpack_floats(const L3Matrix *w, const uint8_t *panel, int k0, int n, float *dst)
{
	if (l3_type_quantised(w->type))
	{
		bool		halves = l3_type_halves(w->type);
		bool		has_add = l3_type_has_add(w->type);
		L3Group		group;

		for (int k = 0; k < n; k += L3_ACT_GROUP)
		{
			l3_unpack_group(w, panel, (k0 + k) / L3_ACT_GROUP, &group);
			group_to_floats(&group, halves, has_add, dst + (size_t) k * N);
		}
		return;
	}
	for (int k = k0; k < k0 + n; k++, dst += N)
	{
		if (w->type == L3_F32)
			memcpy(dst, panel + (size_t) k * N * sizeof(float), N * sizeof(float));
		else if (w->type == L3_F16)
			halves_to_floats(panel + (size_t) k * N * 2, dst);
		else
		{
			const uint16_t *pair = (const uint16_t *) panel + (size_t) (k / 2) * N * 2;

			for (int c = 0; c < N; c++)
				dst[c] = l3_bf16_to_float(pair[c * 2 + k % 2]);
		}
	}
}
