/*-------------------------------------------------------------------------
 *
 * kernels.c
 *	  Filling the kernel table, and the memory of activations.
 *
 * The portable C fills every entry first; each instruction set then
 * overwrites what it does better, lowest level first.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/kernels.h"
#include "kernels/amx.h"

void
l3_kernels_init(L3Kernels *kernels, unsigned features)
{
	l3_kernels_generic(kernels);
	kernels->features = features;

	/* OpenBLAS is the stopgap of CPUs that have no vector code of ours. */
	if ((features & L3_CPU_BLAS) && !(features & L3_CPU_AVX2))
		l3_kernels_blas(kernels);

#if defined(__x86_64__)
	if (features & L3_CPU_AVX2)
		l3_kernels_avx2(kernels);
#ifdef L3_HAVE_AVXVNNI
	if (features & L3_CPU_AVXVNNI)
		l3_kernels_avxvnni(kernels);
#else
	kernels->features &= ~L3_CPU_AVXVNNI;
#endif
	if (features & L3_CPU_AVX512)
		l3_kernels_avx512(kernels);
	if (features & L3_CPU_AVX512VNNI)
		l3_kernels_avx512vnni(kernels);
#endif

#ifdef L3_HAVE_AMX
	if ((features & L3_CPU_AMX) && l3_amx_usable())
	{
		l3_kernels_amx(kernels);
		return;
	}
#endif
	kernels->features &= ~L3_CPU_AMX;
}

/* Whole tiles of rows and whole groups of columns. */
static size_t
act_tiles(int m)
{
	return ((size_t) m + L3_ACT_TILE - 1) / L3_ACT_TILE;
}

static size_t
act_groups(int k)
{
	return ((size_t) k + L3_ACT_GROUP - 1) / L3_ACT_GROUP;
}

/* The int8 part of l3_act_bytes; a multiple of 64, as are the others. */
static size_t
act_q_bytes(int m, int k)
{
	return act_tiles(m) * act_groups(k) * L3_ACT_TILE * L3_ACT_GROUP;
}

static size_t
act_scale_bytes(int m, int k)
{
	return act_tiles(m) * act_groups(k) * L3_ACT_TILE * sizeof(float);
}

size_t
l3_act_bytes(int m, int k)
{
	return act_q_bytes(m, k) + 3 * act_scale_bytes(m, k);
}

void
l3_act_init(L3Act *act, void *mem, int m, int k, const float *x, int ldx)
{
	uint8_t    *p = mem;

	act->k = k;
	act->x = x;
	act->ldx = ldx;
	act->q = (int8_t *) p;
	p += act_q_bytes(m, k);
	act->scale = (float *) p;
	p += act_scale_bytes(m, k);
	act->sum16 = (int32_t *) p;
}
