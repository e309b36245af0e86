/*-------------------------------------------------------------------------
 *
 * amx.h
 *	  Intel's Advanced Matrix Extensions: tiles of 16 rows by 64 bytes.
 *
 * The instructions are written here rather than taken from the compilers'
 * <amxtileintrin.h>: GCC 12's tileloadd does not say that it reads memory, and
 * its ldtilecfg names 8 of the 64 bytes that it reads, so that stores before
 * either may be dropped or moved behind it.
 *
 * Source of all semantics: Intel 64 and IA-32 Architectures Software Developer's
 * Manual, volume 2, and volume 1 chapter 18 for the configuration.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AMX_H
#define L3_AMX_H

#include "kernels/kernels.h"

/* Compilers that have the header come with assemblers that know the instructions. */
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<amxtileintrin.h>)
#define L3_HAVE_AMX
#endif
#endif

#ifdef L3_HAVE_AMX

#define L3_TILES		8
#define L3_TILE_ROWS	16
#define L3_TILE_ROW_BYTES	64

/* What ldtilecfg reads: the size of each tile. */
typedef struct L3TileConfig
{
	uint8_t		palette;		/* 1: the only one there is */
	uint8_t		start_row;
	uint8_t		reserved[14];
	uint16_t	row_bytes[16];	/* of the first L3_TILES */
	uint8_t		rows[16];
} L3TileConfig;

static inline void
l3_tile_configure(const L3TileConfig *config)
{
	__asm__ volatile("ldtilecfg %0" : : "m" (*config));
}

/* All tiles of rows by their full width; whoever needs other sizes sets those. */
static inline L3TileConfig
l3_full_tiles(int rows)
{
	L3TileConfig config = {.palette = 1};

	for (int i = 0; i < L3_TILES; i++)
	{
		config.rows[i] = (uint8_t) rows;
		config.row_bytes[i] = L3_TILE_ROW_BYTES;
	}
	return config;
}

/* Back to the state in which a switch of threads need not save tiles. */
static inline void
l3_tile_release(void)
{
	__asm__ volatile("tilerelease");
}

/*
 * Tiles are named by literals 0 .. 7.  Rows in memory are stride bytes apart; offset, a
 * constant, is in bytes.
 */
#define TILE_ZERO(tile) \
	__asm__ volatile("tilezero %%tmm" #tile : : )
#define TILE_LOAD_AT(tile, base, offset, stride) \
	__asm__ volatile("tileloadd %c2(%0,%1,1), %%tmm" #tile \
					 : : "r" (base), "r" ((long) (stride)), "i" (offset) : "memory")
#define TILE_STORE_AT(tile, base, offset, stride) \
	__asm__ volatile("tilestored %%tmm" #tile ", %c2(%0,%1,1)" \
					 : : "r" (base), "r" ((long) (stride)), "i" (offset) : "memory")
#define TILE_LOAD(tile, base, stride)	TILE_LOAD_AT(tile, base, 0, stride)
#define TILE_STORE(tile, base, stride)	TILE_STORE_AT(tile, base, 0, stride)

/*
 * sum[m][n] += a[m][4k + i] * b[k][4n + i], exact products of bytes in 32 bits:
 * signs "ss" or "su", those of a and b.
 */
#define TILE_DOT_BYTES(signs, sum, a, b) \
	__asm__ volatile("tdpb" signs "d %%tmm" #b ", %%tmm" #a ", %%tmm" #sum : : )

/* sum[m][n] += a[m][2k + i] * b[k][2n + i] of bfloat16 in float, subnormals taken as 0. */
#define TILE_DOT_BF16(sum, a, b) \
	__asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum : : )

/* Each enters its functions into the table. */
void		l3_amx_quant(L3Kernels *kernels);
void		l3_amx_bf16(L3Kernels *kernels);
void		l3_amx_attend(L3Kernels *kernels);
size_t		l3_amx_quant_scratch_bytes(const L3Matrix *w, int m_max);
size_t		l3_amx_bf16_scratch_bytes(void);

/* Narrower BF16 matrices, which gain nothing, stay with AVX-512 (amx_bf16.c). */
#define L3_AMX_BF16_MIN_WIDTH	512

/*
 * May this process use tiles, and do they work?  Asks Linux for the permission,
 * which threads and children then have.
 */
bool		l3_amx_usable(void);

/*
 * Do small products come out as in plain C?  What CPUID promises, a hypervisor
 * need not keep.
 */
bool		l3_amx_works(void);

#endif							/* L3_HAVE_AMX */

#endif							/* L3_AMX_H */
