/*-------------------------------------------------------------------------
 *
 * avx512.h
 *	  The parts of the AVX-512 level, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AVX512_H
#define L3_AVX512_H

#include "kernels/generic.h"
#include "kernels/simd.h"

#ifndef TARGET512				/* a test compiles these kernels for less */
#define TARGET512 \
	__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")))
#define TARGET_VNNI \
	__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define TARGET_BF16 \
	__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#endif

/* Each enters its functions into the table. */
void		l3_avx512_vector(L3Kernels *kernels);
void		l3_avx512_attend(L3Kernels *kernels);

/* L3Kernels.matmul of the float types, and of the quantised ones with VNNI, for the level above. */
void		l3_avx512_matmul_float(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m,
								   int m_prefill, float *out, size_t ldo, bool accumulate,
								   void *scratch);
void		l3_avx512vnni_matmul(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m,
								 int m_prefill, float *out, size_t ldo, bool accumulate,
								 void *scratch);
/* L3Kernels.attend, likewise for a float cache. */
void		l3_avx512_attend_float(const L3AttendArgs *args);
size_t		l3_avx512vnni_matmul_scratch_bytes(const L3Matrix *w, int m_max);

/* The lowest n of 16 lanes; n may be less than 0 or more than 16. */
INLINE __mmask16
first_lanes(int n)
{
	return n >= 16 ? 0xFFFF : n <= 0 ? 0 : (__mmask16) ((1u << n) - 1);
}

/* SlabKernel.store: the chains (n_rows, 16) of a panel to its n_columns columns of out. */
TARGET512 static inline void
store_chains(const float *acc, int n_rows, int n_columns, float *out, size_t ldo, bool accumulate)
{
	__mmask16	mask = first_lanes(n_columns);

	for (int r = 0; r < n_rows; r++, out += ldo, acc += L3_PANEL)
	{
		__m512		v = _mm512_load_ps(acc);

		if (accumulate)
			v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), v);
		_mm512_mask_storeu_ps(out, mask, v);
	}
}

/* The tree of generic.c: halves added until one is left. */
TARGET512 INLINE float
sum16_tree(__m512 v)
{
	__m256		half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128		quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));

	quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
	quarter = _mm_add_ss(quarter, _mm_movehdup_ps(quarter));
	return _mm_cvtss_f32(quarter);
}

/* e^x for x <= 0 in 16 lanes, the bits of exp16; a NaN stays one */
TARGET512 INLINE __m512
exp16_negative(__m512 x)
{
	__m512		magic = _mm512_set1_ps(L3_ROUND_MAGIC_F);
	__m512		t,
				r,
				p;

	/* With a NaN this gives the second operand. */
	x = _mm512_max_ps(_mm512_set1_ps(L3_EXPF_MIN), x);
	t = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(L3_LOG2E_F), magic), magic);
	r = _mm512_fnmadd_ps(t, _mm512_set1_ps(L3_LN2_HI_F), x);
	r = _mm512_fnmadd_ps(t, _mm512_set1_ps(L3_LN2_LO_F), r);
	p = _mm512_set1_ps(1.0f / 5040);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	return _mm512_scalef_ps(p, t);
}

/* l3_expf in 16 lanes; a NaN stays one */
TARGET512 INLINE __m512
exp16(__m512 x)
{
	/* With a NaN this gives the second operand. */
	return exp16_negative(_mm512_min_ps(_mm512_set1_ps(L3_EXPF_MAX), x));
}

#endif							/* L3_AVX512_H */
