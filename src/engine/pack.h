/*-------------------------------------------------------------------------
 *
 * pack.h
 *	  From the block types of model files to the packed panels of arena.h.
 *
 * The block layouts of files are those of the GGUF format (ggml's quantised
 * types); pack.c states each beside its code.  Types without kernels of their
 * own are widened to a packed type that represents every value exactly.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_PACK_H
#define L3_PACK_H

#include "arena.h"

/* Types that a matrix or vector can have in a file. */
typedef enum L3FileType
{
	L3_FILE_F32 = 0,
	L3_FILE_F16,
	L3_FILE_BF16,
	L3_FILE_Q8_0,
	L3_FILE_Q4_0,
	L3_FILE_Q4_1,
	L3_FILE_Q5_0,
	L3_FILE_Q5_1,
	L3_FILE_Q2_K,
	L3_FILE_Q3_K,
	L3_FILE_Q4_K,
	L3_FILE_Q5_K,
	L3_FILE_Q6_K,
	L3_FILE_IQ4_NL,
	L3_FILE_IQ4_XS,
	L3_N_FILE_TYPES
} L3FileType;

typedef struct L3FileTypeInfo
{
	const char *name;
	uint32_t	block;			/* values in a block */
	uint32_t	bytes;			/* of a block */
	L3PackedType packed;		/* what it becomes, unless quantised at load */
	uint32_t	zero_point;		/* of L3_Q8_K */
	bool		is_float;		/* F32, F16, BF16: can be quantised, can be a vector */
} L3FileTypeInfo;

const L3FileTypeInfo *l3_file_type(L3FileType type);

/* Bytes of a row of n_in values, a multiple of the block. */
uint64_t	l3_file_row_bytes(L3FileType type, uint32_t n_in);

/*
 * Pack one panel of 16 outputs.  rows[c] (l3_file_row_bytes) is the file's row
 * of column c, at any alignment; a row of zero bytes stands for a column past
 * the matrix's end.  to is the type's own packed type, or L3_Q8_0 for a float
 * type.  panel (l3_panel_bytes) is written wholly, padding included.
 *
 * False when a value is infinite or not a number; the panel is written all the
 * same.
 */
bool		l3_pack_panel(L3FileType from, L3PackedType to, uint32_t n_in,
						  const uint8_t *const rows[L3_PANEL], uint8_t *panel);

/* Widen n values of a float type to dst. */
void		l3_widen_vector(L3FileType from, const uint8_t *src, uint32_t n, float *dst);

#endif							/* L3_PACK_H */
