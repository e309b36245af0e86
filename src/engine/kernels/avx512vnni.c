/*-------------------------------------------------------------------------
 *
 * avx512vnni.c
 *	  Quantised matrix products with AVX-512 VNNI.
 *
 * VPDPBUSD multiplies 64 unsigned weight bytes by the same four signed
 * activation bytes in each of 16 columns and adds into 16 sums.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx512.h"

#define TARGET	TARGET_VNNI

/* sum += products of n quad rows with 4n activations */
TARGET INLINE __m512i
dot_quads(int bits, const __m512i *q, const int8_t *x, int n, __m512i sum)
{
	(void) bits;
	UNROLL
	for (int j = 0; j < n; j++)
		sum = _mm512_dpbusd_epi32(sum, q[j], _mm512_set1_epi32(load_int32(x + 4 * j)));
	return sum;
}

#include "kernels/avx512_quant.h"

void
l3_avx512vnni_matmul(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
					 float *out, size_t ldo, bool accumulate, void *scratch)
{
	matmul_quant(w, panel0, panel1, x, m, m_prefill, out, ldo, accumulate, scratch);
}

size_t
l3_avx512vnni_matmul_scratch_bytes(const L3Matrix *w, int m_max)
{
	return quant_scratch_bytes(w, m_max);
}

void
l3_kernels_avx512vnni(L3Kernels *kernels)
{
	install_quant(kernels);
}

#endif							/* __x86_64__ */
