/*-------------------------------------------------------------------------
 *
 * avx512_unpack.h
 *	  Packed weights, their scales and the sums of activations in AVX-512
 *	  registers, for the quantised matrix products of every level that has it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AVX512_UNPACK_H
#define L3_AVX512_UNPACK_H

#include "kernels/avx512.h"

/* ----------------------------------------------------------------
 *		Unpacking
 * ----------------------------------------------------------------
 */

/* The eight quad rows of group g as unsigned bytes, zero point still in. */
TARGET512 INLINE void
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

/* Groups g (even) and g + 1 of Q4_K, which share bytes. */
TARGET512 INLINE void
load_two_groups(const uint8_t *quants, int g, __m512i q[2][8])
{
	const __m512i nibble = _mm512_set1_epi8(15);
	const uint8_t *row = quants + (size_t) (g / 2) * 512;

	UNROLL
	for (int j = 0; j < 8; j++)
	{
		__m512i		b = _mm512_load_si512(row + j * 64);

		q[0][j] = _mm512_and_si512(b, nibble);
		q[1][j] = _mm512_and_si512(_mm512_srli_epi16(b, 4), nibble);
	}
}

TARGET512 INLINE __m512
load_halves(const uint8_t *src)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) src));
}

TARGET512 INLINE __m512
bytes_to_floats(__m128i bytes)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

TARGET512 INLINE __m512
signed_bytes_to_floats(__m128i bytes)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* -(dmin * min), as the arithmetic adds it */
TARGET512 INLINE __m512
negative_product(__m512 a, __m512 b)
{
	return _mm512_xor_ps(_mm512_mul_ps(a, b), _mm512_set1_ps(-0.0f));
}

TARGET512 INLINE void
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

/* The scales of n_groups groups, whole blocks, as floats: [group][1 or 2][16]. */
TARGET512 INLINE void
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
 *		Activations
 * ----------------------------------------------------------------
 */

/*
 * The sums of a group's activations for all rows of the tile, for the whole
 * group or per half, (1 or 2, 16): times -zero_point as the integer sums start,
 * and as floats for what is added.  NULL: not wanted.
 */
TARGET512 INLINE void
group_sums(bool halves, int zero_point, const int32_t *sum16, int32_t *start, float *sums)
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
		if (start != NULL)
			_mm512_store_si512(start + h * L3_ACT_TILE, _mm512_mullo_epi32(sum[h], factor));
		if (sums != NULL)
			_mm512_store_ps(sums + h * L3_ACT_TILE, _mm512_cvtepi32_ps(sum[h]));
	}
}

#endif							/* L3_AVX512_UNPACK_H */
