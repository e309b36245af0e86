/*-------------------------------------------------------------------------
 *
 * matrices.h
 *	  Random packed matrices for the kernels' tests, and a decoder of them
 *	  that shares no code with the kernels.
 *
 *-------------------------------------------------------------------------
 */
#ifndef MATRICES_H
#define MATRICES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "kernels/kernels.h"

#define CANARY		0x7FBADBADu	/* a NaN that no kernel makes */

/* ----------------------------------------------------------------
 *		Random numbers and memory
 * ----------------------------------------------------------------
 */

static uint64_t random_state = 0x9E3779B97F4A7C15u;

static uint32_t
random_u32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t) (random_state >> 32);
}

/* Roughly normal, so that groups have outliers as activations do. */
static float
random_normal(void)
{
	float		sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (float) random_u32() * 0x1p-32f - 0.5f;
	return sum * 1.7f;
}

static void *
aligned_bytes(size_t bytes)
{
	void	   *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (p == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(2);
	}
	return p;
}

/* ----------------------------------------------------------------
 *		Random matrices, and their values in double
 * ----------------------------------------------------------------
 */

static void
random_half(uint8_t *dst, bool negative)
{
	float		f = (0.5f + (float) random_u32() * 0x1p-32f) * 0.01f;
	uint16_t	h;

	if (random_u32() % 64 == 0)
		f *= 1e-4f;				/* a subnormal half */
	h = l3_float_to_half(negative && random_u32() % 2 ? -f : f);
	memcpy(dst, &h, 2);
}

/* Random contents: any byte is a sound quant or integer scale. */
static L3Matrix
random_matrix(L3PackedType type, int n_out, int n_in, int zero_point)
{
	L3Matrix	w;
	uint8_t    *data;
	size_t		bytes;

	w.type = type;
	w.n_out = n_out;
	w.n_in = n_in;
	w.n_panels = (n_out + L3_PANEL - 1) / L3_PANEL;
	w.zero_point = zero_point;
	w.panel_bytes = l3_panel_bytes(type, n_in);
	bytes = w.panel_bytes * (size_t) w.n_panels;
	data = aligned_bytes(bytes);
	for (size_t i = 0; i + 4 <= bytes; i += 4)
	{
		uint32_t	r = random_u32();

		memcpy(data + i, &r, 4);
	}
	for (int p = 0; p < w.n_panels; p++)
	{
		uint8_t    *panel = data + (size_t) p * w.panel_bytes;
		int			n_blocks = n_in / l3_packed_block(type);

		for (int b = 0; b < n_blocks; b++)
			for (int c = 0; c < L3_PANEL; c++)
				switch (type)
				{
					case L3_F32:
						{
							float		f = random_normal();

							memcpy(panel + ((size_t) b * 16 + c) * 4, &f, 4);
							break;
						}
					case L3_F16:
						random_half(panel + ((size_t) b * 16 + c) * 2, true);
						break;
					case L3_BF16:
						{
							float		f = random_normal();

							memcpy(panel + ((size_t) (b / 2 * 16 + c) * 2 + b % 2) * 2,
								   (uint8_t *) &f + 2, 2);
							break;
						}
					case L3_Q8_0:
					case L3_Q4_0:
						random_half(panel + (size_t) b * 32 + c * 2, true);
						break;
					case L3_Q8_1:
						random_half(panel + (size_t) b * 64 + c * 2, true);
						random_half(panel + (size_t) b * 64 + 32 + c * 2, true);
						break;
					case L3_Q4_K:
						random_half(panel + (size_t) b * 256 + c * 2, false);
						random_half(panel + (size_t) b * 256 + 32 + c * 2, false);
						break;
					case L3_Q6_K:
						random_half(panel + (size_t) b * 288 + c * 2, true);
						break;
					case L3_Q8_K:
						random_half(panel + (size_t) b * 576 + c * 2, true);
						random_half(panel + (size_t) b * 576 + 32 + c * 2, true);
						break;
					case L3_N_PACKED_TYPES:
						break;
				}
	}
	w.data = data;
	return w;
}

static double
half_at(const uint8_t *p, int i)
{
	uint16_t	h;

	memcpy(&h, p + 2 * i, 2);
	return l3_half_to_float(h);
}

/* Byte of quant (k, c) in an array of quad rows. */
static uint8_t
quad_byte(const uint8_t *quads, int quad, int c, int t)
{
	return quads[((size_t) quad * 16 + c) * 4 + t];
}

/* Weight (n, k), straight from arena.h's text. */
static double
weight_value(const L3Matrix *w, int n, int k)
{
	const uint8_t *s = w->data + (size_t) (n / 16) * w->panel_bytes;
	const uint8_t *q = s + l3_panel_scales_bytes(w->type, w->n_in);
	int			c = n % 16;
	int			t = k % 4;
	int			g = k % 256 / 32;	/* in a block of 256 */

	switch (w->type)
	{
		case L3_F32:
			return ((const float *) s)[(size_t) k * 16 + c];
		case L3_F16:
			return half_at(s, k * 16 + c);
		case L3_BF16:
			{
				uint16_t	b;

				memcpy(&b, s + ((size_t) (k / 2 * 16 + c) * 2 + k % 2) * 2, 2);
				return l3_bits_to_float((uint32_t) b << 16);
			}
		case L3_Q8_0:
			return half_at(s, k / 32 * 16 + c) * (quad_byte(q, k / 4, c, t) - 128);
		case L3_Q4_0:
			{
				int			quad = k % 32 / 4;
				int			b = quad_byte(q + (size_t) (k / 32) * 256, quad % 4, c, t);

				return half_at(s, k / 32 * 16 + c) * ((quad < 4 ? b & 15 : b >> 4) - 8);
			}
		case L3_Q8_1:
			return half_at(s, k / 32 * 32 + c) * quad_byte(q, k / 4, c, t) +
				half_at(s, k / 32 * 32 + 16 + c);
		case L3_Q4_K:
			{
				const uint8_t *block = s + (size_t) (k / 256) * 256;
				const uint8_t *sm = block + 64;
				int			b = quad_byte(q + (size_t) (k / 256) * 2048 + g / 2 * 512,
										  k % 32 / 4, c, t);
				int			sc,
							mn;

				if (g < 4)
				{
					sc = sm[g * 16 + c] % 64;
					mn = sm[(g + 4) * 16 + c] % 64;
				}
				else
				{
					sc = sm[(g + 4) * 16 + c] % 16 + sm[(g - 4) * 16 + c] / 64 * 16;
					mn = sm[(g + 4) * 16 + c] / 16 + sm[g * 16 + c] / 64 * 16;
				}
				return half_at(block, c) * sc * (g % 2 ? b / 16 : b % 16) -
					half_at(block, 16 + c) * mn;
			}
		case L3_Q6_K:
			{
				const uint8_t *block = s + (size_t) (k / 256) * 288;
				const uint8_t *ql = q + (size_t) (k / 256) * 3072;
				const uint8_t *qh = ql + 2048;
				int			quad = k % 256 / 4;
				int			low = quad_byte(ql, quad % 32, c, t);
				int			high = quad_byte(qh, quad % 16, c, t);
				int			v = (quad < 32 ? low % 16 : low / 16) +
					(high >> (2 * (quad / 16))) % 4 * 16;

				return half_at(block, c) * (int8_t) block[32 + k % 256 / 16 * 16 + c] * (v - 32);
			}
		case L3_Q8_K:
			{
				const uint8_t *block = s + (size_t) (k / 256) * 576;
				int			half = k % 256 / 16;

				return half_at(block, c) * (int8_t) block[64 + half * 16 + c] *
					(quad_byte(q, k / 4, c, t) - w->zero_point) -
					half_at(block, 16 + c) * block[64 + 256 + half * 16 + c];
			}
		case L3_N_PACKED_TYPES:
			break;
	}
	return NAN;
}

/* ----------------------------------------------------------------
 *		Comparing bits
 * ----------------------------------------------------------------
 */

static void
poison(float *out, size_t n)
{
	uint32_t	canary = CANARY;

	for (size_t i = 0; i < n; i++)
		memcpy(&out[i], &canary, 4);
}

static bool
is_poison(const float *out)
{
	return l3_float_to_bits(*out) == CANARY;
}

static bool
same_bits(const float *a, const float *b, int n)
{
	return memcmp(a, b, (size_t) n * sizeof(float)) == 0;
}

#endif							/* MATRICES_H */
