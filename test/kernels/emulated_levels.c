/*-------------------------------------------------------------------------
 *
 * emulated_levels.c
 *	  The levels above AVX2 for tests on CPUs that have no more.
 *
 * The linker calls __wrap_NAME where another file calls NAME, and calls NAME
 * where __real_NAME is called (ld's --wrap).
 *
 *-------------------------------------------------------------------------
 */
#include "emulated_levels.h"

#if defined(__x86_64__)

#include "amx_emulator.h"

unsigned	__real_l3_cpu_detect(void);
unsigned	__wrap_l3_cpu_detect(void);

unsigned
native_features(void)
{
	return __real_l3_cpu_detect();
}

unsigned
__wrap_l3_cpu_detect(void)
{
	unsigned	features = native_features();

	if (!(features & L3_CPU_AVX2))
		return features;
#ifdef L3_HAVE_AVXVNNI
	features |= L3_CPU_AVXVNNI;
#endif
#ifdef L3_HAVE_AMX
	features |= L3_CPU_AMX;
#endif
	return features | L3_CPU_AVX512 | L3_CPU_AVX512VNNI;
}

/* A level's own functions where the CPU has feature, elsewhere the same compiled for AVX2. */
#define WRAP_LEVEL(level, feature) \
	void		__real_l3_kernels_##level(L3Kernels *kernels); \
	void		__wrap_l3_kernels_##level(L3Kernels *kernels); \
	void		l3_kernels_##level##_in_avx2(L3Kernels *kernels); \
	void \
	__wrap_l3_kernels_##level(L3Kernels *kernels) \
	{ \
		if (native_features() & (feature)) \
			__real_l3_kernels_##level(kernels); \
		else \
			l3_kernels_##level##_in_avx2(kernels); \
	}

#ifdef L3_HAVE_AVXVNNI
WRAP_LEVEL(avxvnni, L3_CPU_AVXVNNI)
#endif
WRAP_LEVEL(avx512, L3_CPU_AVX512)
WRAP_LEVEL(avx512vnni, L3_CPU_AVX512VNNI)

#ifdef L3_HAVE_AMX

void		__real_l3_kernels_amx(L3Kernels *kernels);
bool		__real_l3_amx_usable(void);
void		__wrap_l3_kernels_amx(L3Kernels *kernels);
bool		__wrap_l3_amx_usable(void);

void		l3_kernels_amx_in_avx2(L3Kernels *kernels);
bool		l3_amx_works_in_avx2(void);

/* Is all there but the tiles? */
static bool
native_around_tiles(void)
{
	return (native_features() & L3_CPU_AVX512VNNI) && __builtin_cpu_supports("avx512bf16");
}

void
__wrap_l3_kernels_amx(L3Kernels *kernels)
{
	if (native_around_tiles())
		__real_l3_kernels_amx(kernels);
	else
		l3_kernels_amx_in_avx2(kernels);
}

bool
emulated_amx_works(void)
{
	return native_around_tiles() ? l3_amx_works() : l3_amx_works_in_avx2();
}

bool
__wrap_l3_amx_usable(void)
{
	if (native_features() & L3_CPU_AMX)
		return __real_l3_amx_usable();
	emulate_amx(false);
	return emulated_amx_works();
}

#endif							/* L3_HAVE_AMX */

#endif							/* __x86_64__ */
