/*-------------------------------------------------------------------------
 *
 * avx512_emulation.h
 *	  The AVX-512 intrinsics that the AMX kernels use, in the compilers' own
 *	  vector operations, so that those can be compiled for AVX2 and tested there.
 *
 * Include before the source; each stands for Intel's function of that name.
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
#define TARGET_BF16	TARGET512
#define EMULATED	static inline __attribute__((unused, target("avx2,fma,f16c")))

/* Some compilers have these as macros. */
#undef _mm512_setr_epi32
#undef _mm512_extractf32x8_ps
#undef _mm512_extracti64x4_epi64
#undef _mm512_slli_epi32

typedef float Float16 __attribute__((vector_size(64)));
typedef int32_t Int16 __attribute__((vector_size(64)));
typedef uint32_t Uint16 __attribute__((vector_size(64)));
typedef uint16_t Ushort32 __attribute__((vector_size(64)));
typedef uint8_t Byte64 __attribute__((vector_size(64)));

/* ---------------------------------------------------------------- memory */

EMULATED Float16
emulated_load(const void *p)
{
	Float16		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

EMULATED void
emulated_store(void *p, Float16 v)
{
	memcpy(p, &v, sizeof(v));
}

EMULATED Float16
emulated_maskz_loadu(unsigned mask, const float *p)
{
	Float16		v = {0};

	for (int i = 0; i < 16; i++)
		if (mask >> i & 1)
			v[i] = p[i];
	return v;
}

EMULATED void
emulated_mask_storeu(float *p, unsigned mask, Float16 v)
{
	for (int i = 0; i < 16; i++)
		if (mask >> i & 1)
			p[i] = v[i];
}

#define _mm512_load_ps(p)			((__m512) emulated_load(p))
#define _mm512_load_si512(p)		((__m512i) emulated_load(p))
#define _mm512_loadu_ps(p)			((__m512) emulated_load(p))
#define _mm512_loadu_si512(p)		((__m512i) emulated_load(p))
#define _mm512_store_ps(p, v)		emulated_store(p, (Float16) (v))
#define _mm512_store_si512(p, v)	emulated_store(p, (Float16) (v))
#define _mm512_maskz_loadu_ps(mask, p)	((__m512) emulated_maskz_loadu(mask, p))
#define _mm512_mask_storeu_ps(p, mask, v)	emulated_mask_storeu(p, mask, (Float16) (v))

/* ---------------------------------------------------------------- constants */

/* less 0, which leaves even -0 as it is */
#define _mm512_set1_ps(x)			((__m512) ((float) (x) - (Float16) {0}))
#define _mm512_set1_epi32(x)		((__m512i) ((Int16) {0} + (int32_t) (x)))
#define _mm512_set1_epi16(x)		((__m512i) ((Ushort32) {0} + (uint16_t) (x)))
#define _mm512_set1_epi8(x)			((__m512i) ((Byte64) {0} + (uint8_t) (x)))
#define _mm512_setr_epi32(...)		((__m512i) (Int16) {__VA_ARGS__})

/* ---------------------------------------------------------------- floats */

#define EMULATED_FLOATS(name, expression) \
	EMULATED Float16 \
	emulated_##name(Float16 a, Float16 b, Float16 c) \
	{ \
		Float16		v; \
		(void) c; \
		for (int i = 0; i < 16; i++) \
			v[i] = expression; \
		return v; \
	}
#define EMULATED_CALL(name, a, b, c) \
	((__m512) emulated_##name((Float16) (a), (Float16) (b), (Float16) (c)))

EMULATED_FLOATS(fmadd, __builtin_fmaf(a[i], b[i], c[i]))
EMULATED_FLOATS(fnmadd, __builtin_fmaf(-a[i], b[i], c[i]))
EMULATED_FLOATS(max, a[i] > b[i] ? a[i] : b[i])
EMULATED_FLOATS(min, a[i] < b[i] ? a[i] : b[i])
EMULATED_FLOATS(scalef, ldexpf(a[i], (int) b[i]))

#define _mm512_fmadd_ps(a, b, c)	EMULATED_CALL(fmadd, a, b, c)
#define _mm512_fnmadd_ps(a, b, c)	EMULATED_CALL(fnmadd, a, b, c)
#define _mm512_max_ps(a, b)			EMULATED_CALL(max, a, b, a)
#define _mm512_min_ps(a, b)			EMULATED_CALL(min, a, b, a)
#define _mm512_scalef_ps(a, b)		EMULATED_CALL(scalef, a, b, a)
#define _mm512_add_ps(a, b)			((__m512) ((Float16) (a) + (Float16) (b)))
#define _mm512_sub_ps(a, b)			((__m512) ((Float16) (a) - (Float16) (b)))
#define _mm512_mul_ps(a, b)			((__m512) ((Float16) (a) * (Float16) (b)))
#define _mm512_xor_ps(a, b)			((__m512) ((Int16) (a) ^ (Int16) (b)))
#define _mm512_castsi512_ps(a)		((__m512) (a))

EMULATED __m256
emulated_half(Float16 v, int which)
{
	__m256		half;

	memcpy(&half, (const char *) &v + 32 * which, sizeof(half));
	return half;
}

#define _mm512_castps512_ps256(v)	emulated_half((Float16) (v), 0)
#define _mm512_extractf32x8_ps(v, which)	emulated_half((Float16) (v), which)

EMULATED Float16
emulated_cvtph(__m256i halves)
{
	Float16		v;
	__m256		low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
	__m256		high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));

	memcpy(&v, &low, sizeof(low));
	memcpy((char *) &v + 32, &high, sizeof(high));
	return v;
}

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

EMULATED Ushort32
emulated_cvtne2ps(Float16 upper, Float16 lower)
{
	Ushort32	v;

	for (int i = 0; i < 16; i++)
	{
		v[i] = emulated_bf16(lower[i]);
		v[16 + i] = emulated_bf16(upper[i]);
	}
	return v;
}

#define _mm512_cvtne2ps_pbh(a, b)	emulated_cvtne2ps((Float16) (a), (Float16) (b))
#define _mm512_cvtph_ps(halves)		((__m512) emulated_cvtph(halves))
#define _mm512_cvtepi32_ps(a)		((__m512) __builtin_convertvector((Int16) (a), Float16))

/* ---------------------------------------------------------------- integers */

#define _mm512_add_epi32(a, b)		((__m512i) ((Uint16) (a) + (Uint16) (b)))
#define _mm512_mullo_epi32(a, b)	((__m512i) ((Uint16) (a) * (Uint16) (b)))
#define _mm512_sub_epi8(a, b)		((__m512i) ((Byte64) (a) - (Byte64) (b)))
#define _mm512_and_si512(a, b)		((__m512i) ((Int16) (a) & (Int16) (b)))
#define _mm512_or_si512(a, b)		((__m512i) ((Int16) (a) | (Int16) (b)))
#define _mm512_slli_epi32(a, n)		((__m512i) ((Uint16) (a) << (n)))
#define _mm512_srli_epi16(a, n)		((__m512i) ((Ushort32) (a) >> (n)))
/* shifts by less than the width */
#define _mm512_srlv_epi16(a, n)		((__m512i) ((Ushort32) (a) >> (Ushort32) (n)))
#define _mm512_rolv_epi32(a, n) \
	((__m512i) ((Uint16) (a) << ((Uint16) (n) & 31) | (Uint16) (a) >> (-(Uint16) (n) & 31)))

#define EMULATED_WIDEN(name, type, vector) \
	EMULATED Int16 \
	emulated_##name(vector numbers) \
	{ \
		type		narrow[16]; \
		Int16		v; \
		memcpy(narrow, &numbers, sizeof(narrow)); \
		for (int i = 0; i < 16; i++) \
			v[i] = narrow[i]; \
		return v; \
	}

EMULATED_WIDEN(cvtepu8, uint8_t, __m128i)
EMULATED_WIDEN(cvtepi8, int8_t, __m128i)
EMULATED_WIDEN(cvtepu16, uint16_t, __m256i)

#define _mm512_cvtepu8_epi32(bytes)	((__m512i) emulated_cvtepu8(bytes))
#define _mm512_cvtepi8_epi32(bytes)	((__m512i) emulated_cvtepi8(bytes))
#define _mm512_cvtepu16_epi32(words)	((__m512i) emulated_cvtepu16(words))
#define _mm512_castsi512_si256(v)	((__m256i) emulated_half((Float16) (v), 0))
#define _mm512_extracti64x4_epi64(v, which)	((__m256i) emulated_half((Float16) (v), which))

EMULATED Int16
emulated_permutex2var(Int16 a, Int16 index, Int16 b)
{
	Int16		v;

	for (int i = 0; i < 16; i++)
		v[i] = index[i] & 16 ? b[index[i] & 15] : a[index[i] & 15];
	return v;
}

#define _mm512_permutex2var_epi32(a, index, b) \
	((__m512i) emulated_permutex2var((Int16) (a), (Int16) (index), (Int16) (b)))

#endif							/* AVX512_EMULATION_H */
