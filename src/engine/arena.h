/*-------------------------------------------------------------------------
 *
 * arena.h
 *	  The packed, position-independent image of a model's weights.
 *
 * An arena is one run of bytes: an L3ArenaHeader, a table of L3ArenaTensor,
 * then the data of each tensor on a 64-byte boundary.  All references are
 * offsets from the start, so that the image can live in shared memory or in a
 * mapped file, at different addresses in different processes.
 *
 * Vectors (norm weights, rope divisors) are plain float arrays.
 *
 * A matrix y = W x with N outputs and K inputs is stored for kernels that
 * produce 16 outputs at a time: ceil(N / 16) panels, panel p holding outputs
 * 16p .. 16p+15 for all k (missing outputs are zeros).  All panels of a matrix
 * have the same size, a multiple of 64 bytes.  Within a panel, c is the
 * column (output) 0..15:
 *
 *	F32		float	w[K][16]
 *	F16		half	w[K][16]
 *	BF16	bf16	w[ceil(K/2)][16][2]		pairs of k, as VNNI/AMX want them
 *
 * The quantised types have a scales part, padded to 64 bytes, and then a
 * quants part, so that quants are aligned to 64.  One "quad row" is 64 bytes
 * [16][4]: column c, then 4 consecutive k; quad j of a group holds k = 4j..4j+3.
 *
 *	Q8_0	K % 32 == 0.  scales: half d[K/32][16]
 *			quants: uint8 q[K/4][16][4], q = value + 128
 *			w = d * (q - 128)
 *	Q4_0	K % 32 == 0.  scales: half d[K/32][16]
 *			quants, per group of 32: uint8 b[4][16][4]; quad row j has the
 *			values of quad j in its low nibbles, quad j + 4 in its high ones
 *			w = d * (q - 8)
 *	Q8_1	K % 32 == 0.  scales: { half d[16]; half m[16]; } [K/32]
 *			quants: uint8 q[K/4][16][4]
 *			w = d * q + m
 *	Q4_K	K % 256 == 0.  scales: { half d[16]; half dmin[16];
 *			uint8 sm[12][16]; } [K/256], sm the file's 12 bytes of 6-bit scales
 *			and mins of each column
 *			quants, per 256: uint8 b[4][8][16][4]; b[p] has group 2p (32
 *			values) in its low nibbles and group 2p + 1 in its high ones
 *			w = (d * sc[g]) * q - (dmin * mn[g]),  g = k / 32 in the 256
 *	Q6_K	K % 256 == 0.  scales: { half d[16]; int8 sc[16][16]; } [K/256],
 *			sc[g][c], g = k / 16 in the 256
 *			quants, per 256: uint8 ql[32][16][4]; uint8 qh[16][16][4];
 *			ql row r: low nibbles of quad r in its low, of quad r + 32 in its
 *			high nibble; qh row r: bits 2i, 2i+1 are the upper two bits of
 *			quad r + 16 i
 *			w = (d * sc[g]) * (q - 32)
 *	Q8_K	K % 256 == 0.  scales: { half d[16]; half dmin[16];
 *			int8 sc[16][16]; uint8 mn[16][16]; } [K/256]
 *			quants: uint8 q[K/4][16][4]
 *			w = (d * sc[g]) * (q - zero_point) - (dmin * mn[g]),  g = k / 16;
 *			zero_point (0 or 128) stands in the tensor's entry
 *
 * Products in parentheses are rounded to float first, in every kernel.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_ARENA_H
#define L3_ARENA_H

#include "engine.h"

#define L3_ARENA_MAGIC		"L3ARENA"	/* with its NUL, 8 bytes */
#define L3_ARENA_VERSION	1
#define L3_ARENA_ALIGN		64
#define L3_PANEL			16	/* output columns in a panel */

/* Tensors of a layer, and of the whole model. */
typedef enum L3LayerTensor
{
	L3_ATTN_NORM = 0,			/* vector (n_embd) */
	L3_WQ,						/* n_embd -> n_heads * head_dim */
	L3_WK,						/* n_embd -> n_kv_heads * head_dim */
	L3_WV,						/* n_embd -> n_kv_heads * value_dim */
	L3_WO,						/* n_heads * value_dim -> n_embd */
	L3_FFN_NORM,				/* vector (n_embd) */
	L3_W_GATE,					/* n_embd -> n_ff */
	L3_W_UP,					/* n_embd -> n_ff */
	L3_W_DOWN,					/* n_ff -> n_embd */
	L3_N_LAYER_TENSORS
} L3LayerTensor;

typedef enum L3GlobalTensor
{
	L3_TOKEN_EMBD = 0,			/* n_embd -> n_vocab, used as a table and, when
								 * tied, as the output projection */
	L3_OUTPUT_NORM,				/* vector (n_embd) */
	L3_OUTPUT,					/* n_embd -> n_vocab; absent when tied */
	L3_ROPE_FACTORS,			/* vector (rope_dim / 2): divisors of the
								 * frequencies; all 1 when the model is unscaled */
	L3_N_GLOBAL_TENSORS
} L3GlobalTensor;

/* Index into the tensor table: globals first, then each layer's. */
#define L3_TENSOR_COUNT(n_layers) \
	(L3_N_GLOBAL_TENSORS + (uint64_t) (n_layers) * L3_N_LAYER_TENSORS)
#define L3_LAYER_TENSOR(layer, which) \
	(L3_N_GLOBAL_TENSORS + (uint64_t) (layer) * L3_N_LAYER_TENSORS + (which))

typedef struct L3ArenaTensor
{
	uint64_t	offset;			/* from the arena's start; 0 when absent */
	uint64_t	bytes;
	uint64_t	panel_bytes;	/* 0 for vectors */
	uint32_t	n_out;			/* N; 1 for vectors */
	uint32_t	n_in;			/* K; length of vectors */
	uint32_t	type;			/* L3PackedType; L3_F32 for vectors */
	uint32_t	zero_point;		/* Q8_K only */
} L3ArenaTensor;

typedef struct L3ArenaHeader
{
	char		magic[8];
	uint32_t	version;
	uint32_t	header_bytes;	/* sizeof(L3ArenaHeader) */
	uint64_t	total_bytes;
	uint64_t	n_tensors;		/* L3_TENSOR_COUNT */
	uint64_t	tensors_offset;
	uint64_t	weight_bytes;
	uint64_t	n_params;
	L3Hparams	hparams;
	uint8_t		checksum[16];
	uint8_t		reserved[64];
} L3ArenaHeader;

struct L3Arena
{
	L3ArenaHeader header;
};

/* A matrix as the kernels take it: a view into a mapped arena. */
typedef struct L3Matrix
{
	L3PackedType type;
	int			n_out;
	int			n_in;
	int			n_panels;
	int			zero_point;
	size_t		panel_bytes;
	const uint8_t *data;
} L3Matrix;

/* Values per block of scales along k: 1, 32 or 256. */
int			l3_packed_block(L3PackedType type);
/* Bytes of the scales part (padded to 64) and of a whole panel for K inputs. */
size_t		l3_panel_scales_bytes(L3PackedType type, int n_in);
size_t		l3_panel_bytes(L3PackedType type, int n_in);

/* Views; the arena was checked. l3_arena_matrix: L3_OUTPUT of a tied model gives the embedding. */
L3Matrix	l3_arena_matrix(const L3Arena *arena, uint64_t tensor);
const float *l3_arena_vector(const L3Arena *arena, uint64_t tensor);

/*
 * What hparams imply, for those who make and check arenas.
 */

/* Check hparams against the bounds of engine.h and each other. */
L3Status	l3_hparams_check(const L3Hparams *hparams, L3Error *err);

/* The shape that the hparams give to a tensor of the table. */
typedef struct L3TensorShape
{
	uint32_t	n_out;			/* N; 1 for vectors */
	uint32_t	n_in;			/* K; length of vectors */
	bool		vector;
	bool		absent;			/* L3_OUTPUT of a tied model */
} L3TensorShape;

L3TensorShape l3_tensor_shape(const L3Hparams *hparams, uint64_t tensor);

/*
 * Given shapes, types and zero points in the table, fill offset, bytes and
 * panel_bytes, and every field of the header but the checksum.
 */
void		l3_arena_layout(L3ArenaHeader *header, const L3Hparams *hparams,
							L3ArenaTensor *tensors);

#endif							/* L3_ARENA_H */
