/*-------------------------------------------------------------------------
 *
 * emulated_levels.h
 *	  The levels above AVX2 for tests on CPUs that have no more.
 *
 * A program that is linked with emulated_levels.c and EMULATED_LEVELS_LINK (the
 * Makefile's) sees a CPU with all levels.  Those that this one has are its own.
 * The kernels of the others are the same sources with the intrinsics in AVX2, and
 * with AMX's instructions in software, at the signal that each raises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EMULATED_LEVELS_H
#define EMULATED_LEVELS_H

#include "kernels/amx.h"

#if defined(__x86_64__)

/* What this CPU has itself. */
unsigned	native_features(void);

#ifdef L3_HAVE_AMX
/* l3_amx_works of the emulated level, with the emulator as it is set. */
bool		emulated_amx_works(void);
#endif

#else

static inline unsigned
native_features(void)
{
	return l3_cpu_detect();
}

#endif							/* __x86_64__ */

#endif							/* EMULATED_LEVELS_H */
