/*-------------------------------------------------------------------------
 *
 * avx512_emulation.h
 *	  The AVX-512 and AVX-VNNI intrinsics that our kernels use, in AVX2, so that
 *	  those can be compiled and tested where there is neither.
 *
 * Include before the source; each stands for Intel's function of that name.
 * A vector of 512 bits is two of 256; what it holds is known by its uses alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AVX512_EMULATION_H
#define AVX512_EMULATION_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TARGET512	__attribute__((target("avx2,fma,f16c")))
#define TARGET_VNNI	TARGET512
#define TARGET_BF16	TARGET512
#define TARGET_AVXVNNI	TARGET512
#define EMULATED	static inline __attribute__((unused, target("avx2,fma,f16c")))

typedef struct Vector512
{
	__m256		half[2];
} Vector512;

#define __m512		Vector512
#define __m512d		Vector512
#define __m512i		Vector512
#define __m512bh	Vector512

/* Some compilers have these as macros. */
#undef _mm512_cvtps_ph
#undef _mm512_extractf32x8_ps
#undef _mm512_extracti64x4_epi64
#undef _mm512_mask_cmp_ps_mask
#undef _mm512_permute_ps
#undef _mm512_setr_epi32
#undef _mm512_slli_epi32
#undef _mm512_srli_epi16
#undef _mm512_srli_epi32
#undef _mm512_cmpeq_epi16_mask
#undef _mm256_dpbusd_avx_epi32

/* ---------------------------------------------------------------- halves */

#define FLOATS(v)	(v)
#define DOUBLES(v)	_mm256_castps_pd(v)
#define INTEGERS(v)	_mm256_castps_si256(v)
#define OF_FLOATS(v)	(v)
#define OF_DOUBLES(v)	_mm256_castpd_ps(v)
#define OF_INTEGERS(v)	_mm256_castsi256_ps(v)

/* Functions that do to each half what AVX2's do. */
#define EMULATED_2(name, numbers, avx2) \
	EMULATED Vector512 \
	emulated_##name(Vector512 a, Vector512 b) \
	{ \
		return (Vector512) {{OF_##numbers(avx2(numbers(a.half[0]), numbers(b.half[0]))), \
			OF_##numbers(avx2(numbers(a.half[1]), numbers(b.half[1])))}}; \
	}
#define EMULATED_3(name, numbers, avx2) \
	EMULATED Vector512 \
	emulated_##name(Vector512 a, Vector512 b, Vector512 c) \
	{ \
		return (Vector512) {{OF_##numbers(avx2(numbers(a.half[0]), numbers(b.half[0]), numbers(c.half[0]))), \
			OF_##numbers(avx2(numbers(a.half[1]), numbers(b.half[1]), numbers(c.half[1])))}}; \
	}
#define EMULATED_SET1(name, numbers, type, avx2) \
	EMULATED Vector512 \
	emulated_##name(type x) \
	{ \
		return (Vector512) {{OF_##numbers(avx2(x)), OF_##numbers(avx2(x))}}; \
	}
/* to 32 bits, from half as many in an argument of half the width */
#define EMULATED_WIDEN(name, type, low, high, numbers, avx2) \
	EMULATED Vector512 \
	emulated_##name(type v) \
	{ \
		return (Vector512) {{OF_##numbers(avx2(low)), OF_##numbers(avx2(high))}}; \
	}

/* ---------------------------------------------------------------- memory */

EMULATED Vector512
emulated_load(const void *p)
{
	return (Vector512) {{_mm256_loadu_ps(p), _mm256_loadu_ps((const float *) p + 8)}};
}

EMULATED void
emulated_store(void *p, Vector512 v)
{
	_mm256_storeu_ps(p, v.half[0]);
	_mm256_storeu_ps((float *) p + 8, v.half[1]);
}

/* All bits of the lanes of 32 whose bits are set. */
EMULATED __m256i
emulated_lanes(unsigned mask)
{
	const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);

	return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int) mask), bits), bits);
}

EMULATED Vector512
emulated_maskz_loadu(unsigned mask, const float *p)
{
	return (Vector512) {{_mm256_maskload_ps(p, emulated_lanes(mask)),
		_mm256_maskload_ps(p + 8, emulated_lanes(mask >> 8))}};
}

EMULATED void
emulated_mask_storeu(float *p, unsigned mask, Vector512 v)
{
	_mm256_maskstore_ps(p, emulated_lanes(mask), v.half[0]);
	_mm256_maskstore_ps(p + 8, emulated_lanes(mask >> 8), v.half[1]);
}

/* Of 16 elements of size bytes those whose bits are set. */
EMULATED void
emulated_copy(void *to, const void *from, size_t size, unsigned mask)
{
	for (size_t i = 0; i < 16; i++)
		if (mask >> i & 1)
			memcpy((char *) to + i * size, (const char *) from + i * size, size);
}

EMULATED __m256i
emulated_maskz_loadu_small(unsigned mask, const void *p, size_t size)
{
	__m256i		v = _mm256_setzero_si256();

	emulated_copy(&v, p, size, mask);
	return v;
}

EMULATED void
emulated_mask_storeu_epi16(void *p, unsigned mask, __m256i v)
{
	emulated_copy(p, &v, 2, mask);
}

#define _mm512_load_ps			emulated_load
#define _mm512_load_si512		emulated_load
#define _mm512_loadu_ps			emulated_load
#define _mm512_loadu_si512		emulated_load
#define _mm512_store_ps			emulated_store
#define _mm512_store_si512		emulated_store
#define _mm512_storeu_ps		emulated_store
#define _mm512_storeu_pd		emulated_store
#define _mm512_maskz_loadu_ps	emulated_maskz_loadu
#define _mm512_mask_storeu_ps	emulated_mask_storeu
#define _mm_maskz_loadu_epi8(mask, p)	_mm256_castsi256_si128(emulated_maskz_loadu_small(mask, p, 1))
#define _mm256_maskz_loadu_epi16(mask, p)	emulated_maskz_loadu_small(mask, p, 2)
#define _mm256_maskz_loadu_ps(mask, p)	_mm256_maskload_ps(p, emulated_lanes(mask))
#define _mm256_mask_storeu_epi16	emulated_mask_storeu_epi16

/* ---------------------------------------------------------------- constants */

EMULATED_SET1(set1_ps, FLOATS, float, _mm256_set1_ps)
EMULATED_SET1(set1_pd, DOUBLES, double, _mm256_set1_pd)
EMULATED_SET1(set1_epi32, INTEGERS, int32_t, _mm256_set1_epi32)
EMULATED_SET1(set1_epi16, INTEGERS, int16_t, _mm256_set1_epi16)
EMULATED_SET1(set1_epi8, INTEGERS, int8_t, _mm256_set1_epi8)

#define _mm512_setzero_ps()		emulated_set1_ps(0)
#define _mm512_setzero_pd()		emulated_set1_ps(0)
#define _mm512_setzero_si512()	emulated_set1_ps(0)
#define _mm512_set1_ps			emulated_set1_ps
#define _mm512_set1_pd			emulated_set1_pd
#define _mm512_set1_epi32		emulated_set1_epi32
#define _mm512_set1_epi16		emulated_set1_epi16
#define _mm512_set1_epi8		emulated_set1_epi8
#define _mm512_setr_epi32(...)	emulated_load((const int32_t[16]) {__VA_ARGS__})

/* ---------------------------------------------------------------- floats */

EMULATED_2(add_ps, FLOATS, _mm256_add_ps)
EMULATED_2(sub_ps, FLOATS, _mm256_sub_ps)
EMULATED_2(mul_ps, FLOATS, _mm256_mul_ps)
EMULATED_2(div_ps, FLOATS, _mm256_div_ps)
EMULATED_2(max_ps, FLOATS, _mm256_max_ps)
EMULATED_2(min_ps, FLOATS, _mm256_min_ps)
EMULATED_2(xor_ps, FLOATS, _mm256_xor_ps)
EMULATED_2(and_ps, FLOATS, _mm256_and_ps)
EMULATED_3(fmadd_ps, FLOATS, _mm256_fmadd_ps)
EMULATED_3(fnmadd_ps, FLOATS, _mm256_fnmadd_ps)
EMULATED_3(fmaddsub_ps, FLOATS, _mm256_fmaddsub_ps)
EMULATED_3(blendv_ps, FLOATS, _mm256_blendv_ps)
EMULATED_2(add_pd, DOUBLES, _mm256_add_pd)
EMULATED_2(sub_pd, DOUBLES, _mm256_sub_pd)
EMULATED_2(max_pd, DOUBLES, _mm256_max_pd)
EMULATED_3(fmadd_pd, DOUBLES, _mm256_fmadd_pd)
EMULATED_3(fnmadd_pd, DOUBLES, _mm256_fnmadd_pd)

EMULATED Vector512
emulated_mask(unsigned mask)
{
	return (Vector512) {{OF_INTEGERS(emulated_lanes(mask)), OF_INTEGERS(emulated_lanes(mask >> 8))}};
}

/* a 2^b for whole b; by libm, which rounds once however small the result */
#define EMULATED_SCALEF(name, type, n, libm) \
	EMULATED Vector512 \
	emulated_##name(Vector512 a, Vector512 b) \
	{ \
		type		x[n]; \
		type		power[n]; \
		emulated_store(x, a); \
		emulated_store(power, b); \
		for (int i = 0; i < n; i++) \
			x[i] = isnan(power[i]) ? power[i] : libm(x[i], (int) power[i]); \
		return emulated_load(x); \
	}

EMULATED_SCALEF(scalef_ps, float, 16, ldexpf)
EMULATED_SCALEF(scalef_pd, double, 8, ldexp)

EMULATED Vector512
emulated_mask_add_pd(Vector512 src, unsigned mask, Vector512 a, Vector512 b)
{
	double		sum[8];
	double		kept[8];

	emulated_store(sum, emulated_add_pd(a, b));
	emulated_store(kept, src);
	for (int i = 0; i < 8; i++)
		sum[i] = mask >> i & 1 ? sum[i] : kept[i];
	return emulated_load(sum);
}

EMULATED float
emulated_reduce_max_ps(Vector512 v)
{
	float		x[16];

	emulated_store(x, v);
	for (int half = 8; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
	return x[0];
}

EMULATED Vector512
emulated_permutexvar_ps(Vector512 index, Vector512 v)
{
	int32_t		at[16];
	float		x[16];
	float		y[16];

	emulated_store(at, index);
	emulated_store(x, v);
	for (int i = 0; i < 16; i++)
		y[i] = x[at[i] & 15];
	return emulated_load(y);
}

#define _mm512_add_ps			emulated_add_ps
#define _mm512_sub_ps			emulated_sub_ps
#define _mm512_mul_ps			emulated_mul_ps
#define _mm512_div_ps			emulated_div_ps
#define _mm512_max_ps			emulated_max_ps
#define _mm512_min_ps			emulated_min_ps
#define _mm512_xor_ps			emulated_xor_ps
#define _mm512_fmadd_ps			emulated_fmadd_ps
#define _mm512_fnmadd_ps		emulated_fnmadd_ps
#define _mm512_fmaddsub_ps		emulated_fmaddsub_ps
#define _mm512_scalef_ps		emulated_scalef_ps
#define _mm512_maskz_mov_ps(mask, a)	emulated_and_ps(emulated_mask(mask), a)
#define _mm512_maskz_div_ps(mask, a, b)	_mm512_maskz_mov_ps(mask, emulated_div_ps(a, b))
#define _mm512_mask_max_ps(src, mask, a, b) \
	emulated_blendv_ps(src, emulated_max_ps(a, b), emulated_mask(mask))
#define _mm512_reduce_max_ps	emulated_reduce_max_ps
#define _mm512_permutexvar_ps	emulated_permutexvar_ps
#define _mm512_permute_ps(a, how) \
	((Vector512) {{_mm256_permute_ps((a).half[0], how), _mm256_permute_ps((a).half[1], how)}})
#define _mm512_mask_cmp_ps_mask(mask, a, b, how) \
	((__mmask16) ((mask) & (unsigned) (_mm256_movemask_ps(_mm256_cmp_ps((a).half[0], (b).half[0], how)) | \
									   _mm256_movemask_ps(_mm256_cmp_ps((a).half[1], (b).half[1], how)) << 8)))
#define _mm512_castps512_ps256(v)	((v).half[0])
#define _mm512_extractf32x8_ps(v, which)	((v).half[which])
#define _mm512_castsi512_ps(v)	(v)
#define _mm512_castps_si512(v)	(v)

#define _mm512_sub_pd			emulated_sub_pd
#define _mm512_max_pd			emulated_max_pd
#define _mm512_fmadd_pd			emulated_fmadd_pd
#define _mm512_fnmadd_pd		emulated_fnmadd_pd
#define _mm512_scalef_pd		emulated_scalef_pd
#define _mm512_mask_add_pd		emulated_mask_add_pd

/* ---------------------------------------------------------------- conversions */

#define LOW_128(v)	_mm256_castsi256_si128(v)
#define HIGH_128(v)	_mm256_extracti128_si256(v, 1)

EMULATED_WIDEN(cvtph_ps, __m256i, LOW_128(v), HIGH_128(v), FLOATS, _mm256_cvtph_ps)
EMULATED_WIDEN(cvtepu16_epi32, __m256i, LOW_128(v), HIGH_128(v), INTEGERS, _mm256_cvtepu16_epi32)
EMULATED_WIDEN(cvtepu8_epi32, __m128i, v, _mm_srli_si128(v, 8), INTEGERS, _mm256_cvtepu8_epi32)
EMULATED_WIDEN(cvtepi8_epi32, __m128i, v, _mm_srli_si128(v, 8), INTEGERS, _mm256_cvtepi8_epi32)
EMULATED_WIDEN(cvtps_pd, __m256, _mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1), DOUBLES,
			   _mm256_cvtps_pd)
EMULATED_WIDEN(cvtepi32_ps, Vector512, INTEGERS(v.half[0]), INTEGERS(v.half[1]), FLOATS, _mm256_cvtepi32_ps)
EMULATED_WIDEN(cvtps_epi32, Vector512, v.half[0], v.half[1], INTEGERS, _mm256_cvtps_epi32)

/* To bfloat16: nearest even, subnormals to 0, a NaN stays one (Intel's manual, VCVTNEPS2BF16). */
EMULATED uint16_t
emulated_bf16(float x)
{
	uint32_t	bits;

	memcpy(&bits, &x, sizeof(bits));
	if ((bits & 0x7F800000) == 0)
		bits &= 0x80000000;
	else if (isnan(x))
		bits |= 0x400000;
	else
		bits += 0x7FFF + (bits >> 16 & 1);
	return (uint16_t) (bits >> 16);
}

EMULATED Vector512
emulated_cvtne2ps_pbh(Vector512 upper, Vector512 lower)
{
	float		x[32];
	uint16_t	rounded[32];

	emulated_store(x, lower);
	emulated_store(x + 16, upper);
	for (int i = 0; i < 32; i++)
		rounded[i] = emulated_bf16(x[i]);
	return emulated_load(rounded);
}

/* The lowest 8 bits of each. */
EMULATED __m128i
emulated_cvtepi32_epi8(Vector512 v)
{
	int32_t		x[16];
	int8_t		bytes[16];

	emulated_store(x, v);
	for (int i = 0; i < 16; i++)
		bytes[i] = (int8_t) x[i];
	return _mm_loadu_si128((const __m128i *) bytes);
}

#define _mm512_cvtph_ps			emulated_cvtph_ps
#define _mm512_cvtepu16_epi32	emulated_cvtepu16_epi32
#define _mm512_cvtepu8_epi32	emulated_cvtepu8_epi32
#define _mm512_cvtepi8_epi32	emulated_cvtepi8_epi32
#define _mm512_cvtps_pd			emulated_cvtps_pd
#define _mm512_cvtepi32_ps		emulated_cvtepi32_ps
#define _mm512_cvtps_epi32		emulated_cvtps_epi32
#define _mm512_cvtne2ps_pbh		emulated_cvtne2ps_pbh
#define _mm512_cvtepi32_epi8	emulated_cvtepi32_epi8
#define _mm512_cvtps_ph(v, how) \
	_mm256_set_m128i(_mm256_cvtps_ph((v).half[1], how), _mm256_cvtps_ph((v).half[0], how))

/* ---------------------------------------------------------------- integers */

EMULATED_2(and_si512, INTEGERS, _mm256_and_si256)
EMULATED_2(or_si512, INTEGERS, _mm256_or_si256)
EMULATED_2(add_epi32, INTEGERS, _mm256_add_epi32)
EMULATED_2(add_epi16, INTEGERS, _mm256_add_epi16)
EMULATED_2(sub_epi32, INTEGERS, _mm256_sub_epi32)
EMULATED_2(sub_epi8, INTEGERS, _mm256_sub_epi8)
EMULATED_2(mullo_epi32, INTEGERS, _mm256_mullo_epi32)
EMULATED_2(maddubs_epi16, INTEGERS, _mm256_maddubs_epi16)
EMULATED_2(madd_epi16, INTEGERS, _mm256_madd_epi16)
EMULATED_2(max_epu32, INTEGERS, _mm256_max_epu32)
EMULATED_2(sllv_epi32, INTEGERS, _mm256_sllv_epi32)
EMULATED_2(srlv_epi32, INTEGERS, _mm256_srlv_epi32)

/* sum + products of four bytes, of a without sign: AVX2's multiplier of bytes would saturate */
EMULATED __m256
emulated_dpbusd_half(__m256 sum, __m256 a, __m256 b)
{
	__m256i		even = _mm256_madd_epi16(_mm256_and_si256(INTEGERS(a), _mm256_set1_epi16(255)),
										 _mm256_srai_epi16(_mm256_slli_epi16(INTEGERS(b), 8), 8));
	__m256i		odd = _mm256_madd_epi16(_mm256_srli_epi16(INTEGERS(a), 8), _mm256_srai_epi16(INTEGERS(b), 8));

	return OF_INTEGERS(_mm256_add_epi32(INTEGERS(sum), _mm256_add_epi32(even, odd)));
}

EMULATED __m256i
emulated_dpbusd_256(__m256i sum, __m256i a, __m256i b)
{
	return INTEGERS(emulated_dpbusd_half(OF_INTEGERS(sum), OF_INTEGERS(a), OF_INTEGERS(b)));
}

EMULATED Vector512
emulated_dpbusd(Vector512 sum, Vector512 a, Vector512 b)
{
	return (Vector512) {{emulated_dpbusd_half(sum.half[0], a.half[0], b.half[0]),
		emulated_dpbusd_half(sum.half[1], a.half[1], b.half[1])}};
}

/* Each to the right by its own number of bits, less than 16. */
EMULATED Vector512
emulated_srlv_epi16(Vector512 a, Vector512 n)
{
	uint16_t	x[32];
	uint16_t	bits[32];

	emulated_store(x, a);
	emulated_store(bits, n);
	for (int i = 0; i < 32; i++)
		x[i] = (uint16_t) (x[i] >> bits[i]);
	return emulated_load(x);
}

EMULATED __mmask32
emulated_cmpeq_epi16_mask(Vector512 a, Vector512 b)
{
	uint16_t	x[32];
	uint16_t	y[32];
	__mmask32	equal = 0;

	emulated_store(x, a);
	emulated_store(y, b);
	for (int i = 0; i < 32; i++)
		equal |= (__mmask32) (x[i] == y[i]) << i;
	return equal;
}

EMULATED Vector512
emulated_rolv_epi32(Vector512 a, Vector512 n)
{
	const Vector512 width = emulated_set1_epi32(32);

	n = emulated_and_si512(n, emulated_set1_epi32(31));
	return emulated_or_si512(emulated_sllv_epi32(a, n), emulated_srlv_epi32(a, emulated_sub_epi32(width, n)));
}

EMULATED uint32_t
emulated_reduce_max_epu32(Vector512 v)
{
	uint32_t	x[16];
	uint32_t	max = 0;

	emulated_store(x, v);
	for (int i = 0; i < 16; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

EMULATED int32_t
emulated_reduce_add_epi32(Vector512 v)
{
	uint32_t	x[16];
	uint32_t	sum = 0;

	emulated_store(x, v);
	for (int i = 0; i < 16; i++)
		sum += x[i];
	return (int32_t) sum;
}

EMULATED Vector512
emulated_permutex2var_epi32(Vector512 a, Vector512 index, Vector512 b)
{
	uint32_t	at[16];
	uint32_t	x[32];
	uint32_t	y[16];

	emulated_store(at, index);
	emulated_store(x, a);
	emulated_store(x + 16, b);
	for (int i = 0; i < 16; i++)
		y[i] = x[at[i] & 31];
	return emulated_load(y);
}

#define _mm512_and_si512		emulated_and_si512
#define _mm512_or_si512			emulated_or_si512
#define _mm512_add_epi32		emulated_add_epi32
#define _mm512_add_epi16		emulated_add_epi16
#define _mm512_sub_epi8			emulated_sub_epi8
#define _mm512_mullo_epi32		emulated_mullo_epi32
#define _mm512_maddubs_epi16	emulated_maddubs_epi16
#define _mm512_madd_epi16		emulated_madd_epi16
#define _mm512_max_epu32		emulated_max_epu32
#define _mm512_dpbusd_epi32		emulated_dpbusd
#define _mm256_dpbusd_avx_epi32	emulated_dpbusd_256
#define _mm512_slli_epi32(a, n)	emulated_sllv_epi32(a, emulated_set1_epi32(n))
#define _mm512_srli_epi16(a, n) \
	((Vector512) {{OF_INTEGERS(_mm256_srli_epi16(INTEGERS((a).half[0]), n)), \
		OF_INTEGERS(_mm256_srli_epi16(INTEGERS((a).half[1]), n))}})
#define _mm512_srli_epi32(a, n) \
	((Vector512) {{OF_INTEGERS(_mm256_srli_epi32(INTEGERS((a).half[0]), n)), \
		OF_INTEGERS(_mm256_srli_epi32(INTEGERS((a).half[1]), n))}})
#define _mm512_cmpeq_epi16_mask	emulated_cmpeq_epi16_mask
#define _mm512_srlv_epi16		emulated_srlv_epi16
#define _mm512_rolv_epi32		emulated_rolv_epi32
#define _mm512_reduce_max_epu32	emulated_reduce_max_epu32
#define _mm512_reduce_add_epi32	emulated_reduce_add_epi32
#define _mm512_permutex2var_epi32	emulated_permutex2var_epi32
#define _mm512_castsi512_si256(v)	INTEGERS((v).half[0])
#define _mm512_extracti64x4_epi64(v, which)	INTEGERS((v).half[which])

#endif							/* AVX512_EMULATION_H */
