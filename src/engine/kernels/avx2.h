/*-------------------------------------------------------------------------
 *
 * avx2.h
 *	  The parts of the AVX2 level, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AVX2_H
#define L3_AVX2_H

#include "kernels/generic.h"
#include "kernels/simd.h"

#define TARGET2		__attribute__((target("avx2,fma,f16c")))
#ifndef TARGET_AVXVNNI			/* a test compiles these kernels for less */
#define TARGET_AVXVNNI \
	__attribute__((target("avx2,fma,f16c,avxvnni")))
#endif

/* Each enters its functions into the table. */
void		l3_avx2_quant(L3Kernels *kernels);
void		l3_avx2_vector(L3Kernels *kernels);
void		l3_avx2_attend(L3Kernels *kernels);

/* The lowest n of 8 lanes, for masked loads and stores; n may be any number. */
TARGET2 INLINE __m256i
first_lanes(int n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The n lowest lanes, or all.  Masked stores take AMD's CPUs tens of cycles. */
TARGET2 INLINE __m256
load_lanes(const float *src, int n)
{
	return n >= 8 ? _mm256_loadu_ps(src) : _mm256_maskload_ps(src, first_lanes(n));
}

TARGET2 INLINE void
store_lanes(float *dst, __m256 v, int n)
{
	if (n >= 8)
		_mm256_storeu_ps(dst, v);
	else
		_mm256_maskstore_ps(dst, first_lanes(n), v);
}

/* SlabKernel.store: the chains (n_rows, 16) of a panel to its n_columns columns of out. */
TARGET2 static inline void
store_chains(const float *acc, int n_rows, int n_columns, float *out, size_t ldo, bool accumulate)
{
	for (int r = 0; r < n_rows; r++, out += ldo, acc += L3_PANEL)
		for (int c = 0; c < n_columns; c += 8)
		{
			__m256		v = _mm256_load_ps(acc + c);

			if (accumulate)
				v = _mm256_add_ps(load_lanes(out + c, n_columns - c), v);
			store_lanes(out + c, v, n_columns - c);
		}
}

TARGET2 INLINE __m256
load_halves8(const void *src)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) src));
}

/* Halves added until one is left, as generic.c's tree ends. */
TARGET2 INLINE float
sum8_tree(__m256 v)
{
	__m128		half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	half = _mm_add_ps(half, _mm_movehl_ps(half, half));
	half = _mm_add_ss(half, _mm_movehdup_ps(half));
	return _mm_cvtss_f32(half);
}

TARGET2 INLINE float
max8(__m256 v)
{
	__m128		half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	half = _mm_max_ps(half, _mm_movehl_ps(half, half));
	half = _mm_max_ss(half, _mm_movehdup_ps(half));
	return _mm_cvtss_f32(half);
}

/* 2^n for -126 <= n <= 127 */
TARGET2 INLINE __m256
exp2i8(__m256i n)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* e^(x - t ln 2) for an integer t near x / ln 2, in 8 lanes */
TARGET2 INLINE __m256
exp8_remainder(__m256 x, __m256 t)
{
	__m256		r = _mm256_fnmadd_ps(t, _mm256_set1_ps(L3_LN2_HI_F), x);
	__m256		p = _mm256_set1_ps(1.0f / 5040);

	r = _mm256_fnmadd_ps(t, _mm256_set1_ps(L3_LN2_LO_F), r);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	return _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
}

/* l3_expf in 8 lanes; a NaN stays one */
TARGET2 INLINE __m256
exp8(__m256 x)
{
	const __m256 magic = _mm256_set1_ps(L3_ROUND_MAGIC_F);
	__m256		t,
				p;
	__m256i		n,
				n1;

	/* With a NaN these give the second operand. */
	x = _mm256_max_ps(_mm256_set1_ps(L3_EXPF_MIN), x);
	x = _mm256_min_ps(_mm256_set1_ps(L3_EXPF_MAX), x);
	t = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(L3_LOG2E_F), magic), magic);
	p = exp8_remainder(x, t);
	n = _mm256_cvtps_epi32(t);
	n1 = _mm256_srai_epi32(n, 1);
	return _mm256_mul_ps(_mm256_mul_ps(p, exp2i8(n1)), exp2i8(_mm256_sub_epi32(n, n1)));
}

#endif							/* L3_AVX2_H */
