/*-------------------------------------------------------------------------
 *
 * avxvnni.c
 *	  Quantised matrix products with AVX-VNNI, for CPUs without AVX-512.
 *
 * VPDPBUSD multiplies 32 unsigned weight bytes by the same four signed
 * activation bytes in each of 8 columns and adds into 8 sums.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/avx2.h"

#ifdef L3_HAVE_AVXVNNI

#define TARGET	TARGET_AVXVNNI
#define PAIRS	0

TARGET INLINE __m256i
add_products(__m256i sum, __m256i weights, __m256i four)
{
	return _mm256_dpbusd_avx_epi32(sum, weights, four);
}

TARGET INLINE __m256i
whole_sums(__m256i sum)
{
	return sum;
}

#include "kernels/avx2_quant.h"

void
l3_kernels_avxvnni(L3Kernels *kernels)
{
	install_quant(kernels);
}

#endif							/* L3_HAVE_AVXVNNI */
