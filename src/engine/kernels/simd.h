/*-------------------------------------------------------------------------
 *
 * simd.h
 *	  What the vector kernels ask of the compiler.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SIMD_H
#define L3_SIMD_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/*
 * Before a loop of constant length: unroll it wholly, so that arrays indexed
 * by its variable become registers.  Not under sanitizers: they check every
 * copy of every access, and compiling that takes many minutes.
 */
#if defined(UNROLL)
/* A test that compiles kernels for what they are not made for has its own. */
#elif defined(L3_SANITIZED) && defined(__clang__)
#define UNROLL		_Pragma("clang loop unroll(disable)")
#elif defined(__clang__)
#define UNROLL		_Pragma("clang loop unroll(full)")
#else
#define UNROLL		_Pragma("GCC unroll 16")
#endif

#define INLINE		static inline __attribute__((always_inline))

/*
 * Have the vector in a register here.  In a long row of integer additions
 * GCC otherwise forms all the addends first, far more than registers hold.
 */
#define IN_REGISTER(vector)	__asm__("" : "+x" (vector))

/* Fetch whole cache lines; a macro, as compilers want the hint to be a literal. */
#define PREFETCH_LINES(from, bytes, hint) \
	do { \
		UNROLL \
		for (size_t line_ = 0; line_ < (bytes); line_ += 64) \
			_mm_prefetch((const char *) (from) + line_, (hint)); \
	} while (0)

/* Four bytes as one integer, whatever their alignment. */
INLINE int32_t
load_int32(const int8_t *p)
{
	int32_t		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#endif							/* L3_SIMD_H */
