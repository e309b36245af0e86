/*-------------------------------------------------------------------------
 *
 * levels_in_avx2.h
 *	  Before each source of the kernels above AVX2: compile it for AVX2, under
 *	  names of its own, so that it is tested on CPUs that have no more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LEVELS_IN_AVX2_H
#define LEVELS_IN_AVX2_H

#if defined(__x86_64__)
#include "avx512_emulation.h"
#endif

/* Loops stay loops: whole, with each vector in two, they take minutes to compile. */
#define UNROLL

/* What the engine has under these names. */
#define l3_avx512_vector			l3_avx512_vector_in_avx2
#define l3_avx512_attend			l3_avx512_attend_in_avx2
#define l3_avx512_attend_float		l3_avx512_attend_float_in_avx2
#define l3_avx512_matmul_float		l3_avx512_matmul_float_in_avx2
#define l3_avx512vnni_matmul		l3_avx512vnni_matmul_in_avx2
#define l3_avx512vnni_matmul_scratch_bytes	l3_avx512vnni_matmul_scratch_bytes_in_avx2
#define l3_kernels_avxvnni			l3_kernels_avxvnni_in_avx2
#define l3_kernels_avx512			l3_kernels_avx512_in_avx2
#define l3_kernels_avx512vnni		l3_kernels_avx512vnni_in_avx2
#define l3_kernels_amx				l3_kernels_amx_in_avx2
#define l3_amx_usable				l3_amx_usable_in_avx2
#define l3_amx_works				l3_amx_works_in_avx2
#define l3_amx_quant				l3_amx_quant_in_avx2
#define l3_amx_quant_scratch_bytes	l3_amx_quant_scratch_bytes_in_avx2
#define l3_amx_bf16					l3_amx_bf16_in_avx2
#define l3_amx_attend				l3_amx_attend_in_avx2
#define l3_amx_bf16_scratch_bytes	l3_amx_bf16_scratch_bytes_in_avx2

#endif							/* LEVELS_IN_AVX2_H */
