/*-------------------------------------------------------------------------
 *
 * instructions.h
 *	  Instructions of x86-64 again and again on registers alone, to measure how
 *	  many a CPU does.
 *
 * They are written out, since compilers put what they compute in intrinsics'
 * loops into memory as they see fit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INSTRUCTIONS_H
#define INSTRUCTIONS_H

#include "kernels/amx.h"

#if defined(__x86_64__)

/* Ten independent accumulators: more than latency times units. */
#define STEPS		10
#define TEN(step)	step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9)
#define MADDUBS(i)	"vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n vpaddw %%ymm13, %%ymm" #i ", %%ymm" #i "\n"
#define MADD(i)		"vpmaddwd %%ymm14, %%ymm15, %%ymm13\n vpaddd %%ymm13, %%ymm" #i ", %%ymm" #i "\n"
#define DPBUSD256(i)	"%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
#define FMA256(i)	"vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n"
#define FMA512(i)	"vfmadd231ps %%zmm14, %%zmm15, %%zmm" #i "\n"
#define DPBUSD(i)	"vpdpbusd %%zmm14, %%zmm15, %%zmm" #i "\n"
#define DPBF16(i)	"vdpbf16ps %%zmm14, %%zmm15, %%zmm" #i "\n"

/* n times STEPS of a step. */
#define REPEAT_STEPS(step, n) \
	do { \
		for (int j_ = 0; j_ < (n); j_++) \
			__asm__ volatile(TEN(step) : : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", \
							 "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm13", "xmm14", "xmm15"); \
		__asm__ volatile("vzeroupper"); \
	} while (0)

#ifdef L3_HAVE_AMX

/* Four products of full tiles (l3_full_tiles) to sums of their own. */
#define TILE_STEPS	4
#define TILE_DOT_SIGNED(sum, a, b)	TILE_DOT_BYTES("ss", sum, a, b)

/* n times TILE_STEPS of them. */
#define REPEAT_TILE_STEPS(dot, n) \
	do { \
		for (int j_ = 0; j_ < (n); j_++) \
		{ \
			dot(0, 4, 6); \
			dot(1, 4, 7); \
			dot(2, 5, 6); \
			dot(3, 5, 7); \
		} \
	} while (0)

#endif							/* L3_HAVE_AMX */

#endif							/* __x86_64__ */

#endif							/* INSTRUCTIONS_H */
