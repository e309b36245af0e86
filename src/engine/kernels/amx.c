/*-------------------------------------------------------------------------
 *
 * amx.c
 *	  The AMX level of the kernels, and whether a process may use it.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/amx.h"

#ifdef L3_HAVE_AMX

#include <math.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/generic.h"

static size_t
scratch_bytes(const L3Matrix *w, int m_max)
{
	if (l3_type_quantised(w->type))
		return l3_amx_quant_scratch_bytes(w, m_max);
	return w->type == L3_BF16 ? l3_amx_bf16_scratch_bytes() : 0;
}

void
l3_kernels_amx(L3Kernels *kernels)
{
	l3_amx_quant(kernels);
	l3_amx_bf16(kernels);
	l3_amx_attend(kernels);
	kernels->matmul_scratch_bytes = scratch_bytes;
}

/* ----------------------------------------------------------------
 *		May this process use it, and does it work?
 * ----------------------------------------------------------------
 */

/* Linux, arch/x86/include/uapi/asm/prctl.h: the state of tiles is granted on demand. */
#define ARCH_REQ_XCOMP_PERM		0x1023
#define XFEATURE_XTILEDATA		18

#define TRIAL_K			L3_AMX_BF16_MIN_WIDTH
#define TRIAL_GROUPS	(TRIAL_K / L3_ACT_GROUP)
#define TRIAL_ROWS		L3_ACT_TILE

/* What a trial multiplies: one panel with a tile of rows. */
typedef struct Trial
{
	/* the largest is in BF16 */
	uint8_t		panel[TRIAL_K * L3_PANEL * 2] __attribute__((aligned(64)));
	int8_t		q[TRIAL_ROWS * TRIAL_K];
	float		x[TRIAL_ROWS * TRIAL_K];
	float		scale[TRIAL_ROWS * TRIAL_GROUPS];
	int32_t		sum16[TRIAL_ROWS * TRIAL_GROUPS * 2];
	float		expected[TRIAL_ROWS * L3_PANEL];
	float		out[TRIAL_ROWS * L3_PANEL];
	uint8_t		scratch[] __attribute__((aligned(64)));
} Trial;

/* Random bytes; those at odd places of the first n are 0x3C .. 0x3F: numbers around 1. */
static void
fill_panel(uint8_t *panel, size_t n, size_t bytes, uint32_t random)
{
	for (size_t i = 0; i < bytes; i++)
	{
		random = random * 1664525 + 1013904223;
		panel[i] = (uint8_t) (i < n && i % 2 == 1 ? 0x3C + (random >> 30) : random >> 24);
	}
}

/*
 * Has a product of 8-bit or BF16 weights the bits of the plain C, or is it near
 * where it adds in another order?
 */
static bool
trial_right(L3PackedType type)
{
	L3Matrix	w = {.type = type, .n_out = L3_PANEL, .n_in = TRIAL_K, .n_panels = 1,
	.panel_bytes = l3_panel_bytes(type, TRIAL_K)};
	size_t		bytes = sizeof(Trial) + scratch_bytes(&w, TRIAL_ROWS);
	Trial	   *trial = aligned_alloc(64, (bytes + 63) / 64 * 64);
	L3Act		x = {.k = TRIAL_K, .ldx = TRIAL_K};
	L3Kernels	kernels;
	double		error = 0;
	double		size = 0;
	bool		same;

	if (trial == NULL)
		return false;
	w.data = trial->panel;
	x.x = trial->x;
	x.q = trial->q;
	x.scale = trial->scale;
	x.sum16 = trial->sum16;
	fill_panel(trial->panel, type == L3_BF16 ? w.panel_bytes : l3_panel_scales_bytes(type, TRIAL_K),
			   w.panel_bytes, (uint32_t) type);
	for (int i = 0; i < TRIAL_ROWS * TRIAL_K; i++)
		trial->x[i] = sinf((float) i);
	l3_generic_quantize_rows(&x, 0, TRIAL_ROWS);
	l3_generic_matmul(&w, 0, 1, &x, TRIAL_ROWS, 0, trial->expected, L3_PANEL, false, NULL);
	l3_kernels_amx(&kernels);
	kernels.matmul[type] (&w, 0, 1, &x, TRIAL_ROWS, 0, trial->out, L3_PANEL, false, trial->scratch);
	for (int i = 0; i < TRIAL_ROWS * L3_PANEL; i++)
	{
		error = fmax(error, fabs((double) trial->out[i] - trial->expected[i]));
		size = fmax(size, fabs((double) trial->expected[i]));
	}
	same = memcmp(trial->out, trial->expected, sizeof(trial->out)) == 0;
	free(trial);
	return type == L3_BF16 ? error <= 1e-4 * size : same;
}

bool
l3_amx_works(void)
{
	return trial_right(L3_Q8_0) && trial_right(L3_Q8_1) && trial_right(L3_BF16);
}

bool
l3_amx_usable(void)
{
	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 && l3_amx_works();
}

#endif							/* L3_HAVE_AMX */
