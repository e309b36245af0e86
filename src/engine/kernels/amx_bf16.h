/*-------------------------------------------------------------------------
 *
 * amx_bf16.h
 *	  Floats as two bfloat16 each, for AMX.
 *
 * The high part is the number rounded to bfloat16, the low part what that
 * leaves, rounded likewise: together 16 of a float's 24 bits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AMX_BF16_H
#define L3_AMX_BF16_H

#include "kernels/avx512.h"

#define STEP		32			/* k of one TDPBF16PS */

/* 16 bfloat16 to float. */
TARGET512 INLINE __m512
widen(const uint16_t *bf16)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *) bf16)), 16));
}

/* 32 values in two parts. */
TARGET_BF16 INLINE void
split_step(const float *x, uint16_t *high, uint16_t *low)
{
	__m512		a = _mm512_loadu_ps(x);
	__m512		b = _mm512_loadu_ps(x + 16);
	__m512bh	rounded = _mm512_cvtne2ps_pbh(b, a);

	memcpy(high, &rounded, sizeof(rounded));
	a = _mm512_sub_ps(a, widen(high));
	b = _mm512_sub_ps(b, widen(high + 16));
	rounded = _mm512_cvtne2ps_pbh(b, a);
	memcpy(low, &rounded, sizeof(rounded));
}

#endif							/* L3_AMX_BF16_H */
