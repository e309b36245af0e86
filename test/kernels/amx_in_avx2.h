/*-------------------------------------------------------------------------
 *
 * amx_in_avx2.h
 *	  Before each of the AMX kernels' sources: compile it for AVX2, under names
 *	  of its own, so that it is tested on CPUs without AVX-512.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AMX_IN_AVX2_H
#define AMX_IN_AVX2_H

#if defined(__x86_64__)
#include "avx512_emulation.h"
#endif

/* What they leave to the levels below. */
#define l3_avx512_matmul_float		l3_generic_matmul
#define l3_avx512vnni_matmul		l3_generic_matmul
#define l3_avx512vnni_matmul_scratch_bytes	l3_generic_matmul_scratch_bytes

/* What the engine has under these names. */
#define l3_kernels_amx				l3_kernels_amx_in_avx2
#define l3_amx_usable				l3_amx_usable_in_avx2
#define l3_amx_works				l3_amx_works_in_avx2
#define l3_amx_quant				l3_amx_quant_in_avx2
#define l3_amx_quant_scratch_bytes	l3_amx_quant_scratch_bytes_in_avx2
#define l3_amx_bf16					l3_amx_bf16_in_avx2
#define l3_amx_bf16_scratch_bytes	l3_amx_bf16_scratch_bytes_in_avx2

#endif							/* AMX_IN_AVX2_H */
