/*-------------------------------------------------------------------------
 *
 * cpu.h
 *	  CPU features, in one place, maskable from outside for tests.
 *
 * Features come from CPUID bits and from what the operating system saves
 * (XGETBV), never from the CPU's model number.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_CPU_H
#define L3_CPU_H

#include "engine.h"

#define L3_CPU_AVX2			(1u << 0)	/* AVX2, FMA, F16C */
#define L3_CPU_AVX512		(1u << 1)	/* AVX-512 F, BW, VL, DQ */
#define L3_CPU_AVX512VNNI	(1u << 2)
#define L3_CPU_AVXVNNI		(1u << 5)	/* 256 bits, for CPUs without AVX-512 */
#define L3_CPU_AMX			(1u << 4)	/* AMX tiles of bytes and of BF16, AVX-512 BF16 */
#define L3_CPU_BLAS			(1u << 3)	/* OpenBLAS for prompt tokens where the
										 * kernels below AVX2 would be slow */

/* What this CPU has. */
unsigned	l3_cpu_detect(void);

/*
 * Features allowed by a list such as "avx2,avx512" or "all" (NULL, "": all),
 * intersected with what the CPU has.  "generic" alone is the portable C;
 * each level names itself and includes the lower ones' code: "avx512" means
 * avx2 and avx512 without any VNNI.  Unknown words: L3_ERR_ARG listing the known.
 */
L3Status	l3_cpu_parse(const char *list, unsigned *features, L3Error *err);

/* Name of the i-th level from "generic" up; NULL past the last. */
const char *l3_cpu_level(size_t i);

/* Name of the best level in features: "generic", "blas", "avx2", "avxvnni", "avx512", "avx512vnni", "amx". */
const char *l3_cpu_name(unsigned features);

#endif							/* L3_CPU_H */
