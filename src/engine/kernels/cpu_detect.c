/*-------------------------------------------------------------------------
 *
 * cpu_detect.c
 *	  Which instruction sets this CPU and its operating system offer.
 *
 * A feature counts only when CPUID reports every instruction group that the
 * level's code uses and XGETBV says that the operating system saves the
 * registers.  Model numbers are never looked at: hypervisors make them up.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/cpu.h"

#if defined(__x86_64__)

/* Bits of XCR0: SSE and AVX state; opmask and both halves of ZMM state; tiles. */
#define XCR0_AVX		0x06u
#define XCR0_AVX512		0xe6u
#define XCR0_AMX		0x60000u

/* CPUID leaf 7, EDX; not every <cpuid.h> has a name for them. */
#define AMX_TILE		(1u << 24)
#define AMX_INT8		(1u << 25)
#define AMX_BF16		(1u << 22)
/* and of its subleaf 1, EAX */
#define AVX_VNNI		(1u << 4)
#define AVX512_BF16		(1u << 5)

static unsigned
xgetbv0(void)
{
	unsigned	eax,
				edx;

	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

static unsigned
detect_x86(void)
{
	unsigned	eax,
				ebx,
				ecx,
				edx;
	unsigned	leaf1_ecx;
	unsigned	leaf7_1_eax;
	unsigned	xcr0;
	unsigned	features = 0;

	if (!__get_cpuid(1, &eax, &ebx, &leaf1_ecx, &edx) ||
		(leaf1_ecx & bit_OSXSAVE) == 0)
		return 0;
	xcr0 = xgetbv0();
	/* a subleaf that the CPU has not got is all zeros */
	if (!__get_cpuid_count(7, 1, &leaf7_1_eax, &ebx, &ecx, &edx) ||
		!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
		return 0;

	if ((xcr0 & XCR0_AVX) != XCR0_AVX ||
		(leaf1_ecx & bit_AVX) == 0 ||
		(leaf1_ecx & bit_FMA) == 0 ||
		(leaf1_ecx & bit_F16C) == 0 ||
		(ebx & bit_AVX2) == 0)
		return features;
	features |= L3_CPU_AVX2;
	if (leaf7_1_eax & AVX_VNNI)
		features |= L3_CPU_AVXVNNI;

	if ((xcr0 & XCR0_AVX512) != XCR0_AVX512 ||
		(ebx & bit_AVX512F) == 0 ||
		(ebx & bit_AVX512BW) == 0 ||
		(ebx & bit_AVX512VL) == 0 ||
		(ebx & bit_AVX512DQ) == 0)
		return features;
	features |= L3_CPU_AVX512;

	if ((ecx & bit_AVX512VNNI) == 0)
		return features;
	features |= L3_CPU_AVX512VNNI;

	if ((xcr0 & XCR0_AMX) != XCR0_AMX ||
		(edx & AMX_TILE) == 0 ||
		(edx & AMX_INT8) == 0 ||
		(edx & AMX_BF16) == 0 ||
		(leaf7_1_eax & AVX512_BF16) == 0)
		return features;
	return features | L3_CPU_AMX;
}

#endif							/* __x86_64__ */

unsigned
l3_cpu_detect(void)
{
	unsigned	features = L3_CPU_BLAS;

#if defined(__x86_64__)
	features |= detect_x86();
#endif
	return features;
}
