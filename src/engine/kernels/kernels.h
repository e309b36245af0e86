/*-------------------------------------------------------------------------
 *
 * kernels.h
 *	  The arithmetic of the transformer: one table of functions, filled with
 *	  the portable C first and then overwritten per instruction set.
 *
 * The contract that every entry keeps, in every instruction set:
 *
 *	- a row's result depends on that row's inputs alone.  The number of rows,
 *	  their order, the tiles and the threads never change a bit of it;
 *	- an output element is one chain of additions over k, in the order of k
 *	  (stated at each function), never split between threads;
 *	- matrices in quantised types give the same bits in every instruction set
 *	  (their inner sums are integers, the outer chain is fused multiply-adds in
 *	  a stated order); matrices in F32, F16, BF16, and the float functions, may
 *	  differ in the last bits between instruction sets, never within one.
 *
 * Role: a kernel set may use different arithmetic for prompt tokens and for
 * generated tokens (OpenBLAS does).  Callers put the prompt rows first and
 * say how many they are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_KERNELS_H
#define L3_KERNELS_H

#include "arena.h"
#include "kernels/cpu.h"

#define L3_ACT_GROUP		32	/* k values that share an activation scale */
#define L3_KV_BLOCK			16	/* positions in a KV block */
#define L3_KV_GROUP			32	/* dimensions of a head that share a scale in Q8_0 */
#define L3_ATTN_SPLIT		64	/* positions whose softmax is merged at once */
#define L3_ATTN_MAX_ROWS	64	/* query rows of one attend call */
#define L3_ATTN_QUAD		4	/* query rows that go together */
#define L3_ATTN_MAX_PARTS	(L3_ATTN_MAX_ROWS / L3_ATTN_QUAD)

/*
 * Activations of m rows by k columns, in the forms that matrices need.
 *
 * x is the float form, row-major with stride ldx.  The int8 form, for
 * quantised matrices: per group of 32, scale = max|x| / 127 (0 for a zero
 * group), q = x / scale rounded to nearest even; sum16 holds the sums of q over
 * halves of 16.  Rows stand in tiles of L3_ACT_TILE rows, within a tile group
 * by group, so that a kernel reads one stream:
 *	q		int8	[m / TILE][k / 32][TILE][32]
 *	scale	float	[m / TILE][k / 32][TILE]
 *	sum16	int32	[m / TILE][k / 32][TILE][2]
 * with m rounded up to TILE.  Rows past m hold anything.
 */
#define L3_ACT_TILE			16

typedef struct L3Act
{
	int			k;
	int			ldx;
	const float *x;				/* (m, ldx), the caller's buffer */
	int8_t	   *q;
	float	   *scale;
	int32_t    *sum16;
} L3Act;

/* Bytes for the int8 form of m rows by k columns (k rounded up to 32). */
size_t		l3_act_bytes(int m, int k);
/* Point act into mem (64-byte aligned, l3_act_bytes) and at x. */
void		l3_act_init(L3Act *act, void *mem, int m, int k, const float *x, int ldx);

static inline size_t
l3_kv_groups(size_t dim)
{
	return (dim + L3_KV_GROUP - 1) / L3_KV_GROUP;
}

/* Bytes of one position's key or value of one KV head, of dim dimensions. */
static inline size_t
l3_kv_head_bytes(L3KvType type, size_t dim)
{
	if (type == L3_KV_Q8_0)
		return dim + l3_kv_groups(dim) * sizeof(uint16_t);
	return dim * (type == L3_KV_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* What rows of one sequence attend to. */
typedef struct L3AttendPart
{
	int			n_rows;			/* of the call's, >= 1 */
	const void *const *k_blocks;
	const void *const *v_blocks;
} L3AttendPart;

/*
 * Attention of up to L3Kernels.attend_rows query rows for one KV head, over the KV blocks of one
 * sequence, or of several that begin with the same ones, which are then read once
 * for all.  Row r sees keys 0 .. n_keys[r] - 1 of its part's
 *	k_blocks[b]: keys 16b .. 16b+15, layout [head_dim][16]
 *	v_blocks[b]: values of the same, layout [16][value_dim]
 * in half or float as kv_type says.  For Q8_0 these are int8, and scales in
 * half stand behind them, [head_dim / 32][16] and [16][value_dim / 32] (rounded
 * up); int8 times scale is exact in float, and all else is done with it as if
 * that were stored (not so with AMX, which takes floats another way).  q rows are
 * scaled by 1/sqrt(head_dim) and rotated already.
 *
 * The parts' rows follow one another.  With several parts n_shared is a multiple
 * of L3_ATTN_SPLIT and no more than any n_keys; the blocks of so many positions are
 * taken from the first part's lists, and the others' need not hold them.  The
 * numbers of rows of the parts, each rounded up to 4, add up to attend_rows at most.
 *
 * score = chain over d of fused multiply-adds, with AMX of products of 32 d.
 * Softmax is the exact online form: positions are taken in splits of 64 from
 * position 0, each split's maximum and sum merged into the running ones in order
 * of position.
 */
typedef struct L3AttendArgs
{
	L3KvType	kv_type;
	int			head_dim;
	int			value_dim;
	int			n_rows;			/* 1 .. attend_rows */
	const float *q[L3_ATTN_MAX_ROWS];	/* each (head_dim) */
	int			n_keys[L3_ATTN_MAX_ROWS];	/* each >= 1 */
	float	   *out[L3_ATTN_MAX_ROWS];	/* each (value_dim) */
	int			n_parts;		/* 1 .. attend_rows / L3_ATTN_QUAD */
	int			n_shared;		/* of several parts */
	L3AttendPart parts[L3_ATTN_MAX_PARTS];
} L3AttendArgs;

typedef struct L3Kernels
{
	unsigned	features;

	/* Fill act's int8 form for rows row0 .. row0 + n - 1 from act->x. */
	void		(*quantize_rows) (L3Act *act, int row0, int n);

	/*
	 * out[r * ldo + c] for rows 0 .. m - 1 and the outputs c of panels panel0 ..
	 * panel1 - 1, c < n_out: W x, or out + W x when accumulate (the sum
	 * W x is complete before out is added).  The first m_prefill rows are prompt tokens.
	 * Quantised types, per group g of 32 (or halves of 16 where scales are
	 * per 16) in order: acc = fma((float) idot, sx * sw, acc), then where the
	 * type has a min: acc = fma((float) isum, sx * (-min), acc).
	 * scratch: matmul_scratch_bytes(w) bytes, 64-byte aligned, the thread's own.
	 */
	void		(*matmul[L3_N_PACKED_TYPES]) (const L3Matrix *w, int panel0, int panel1,
											  const L3Act *x, int m, int m_prefill,
											  float *out, size_t ldo,
											  bool accumulate, void *scratch);
	size_t		(*matmul_scratch_bytes) (const L3Matrix *w, int m_max);

	/* Float values of row n (an output column) of w: the embedding lookup. dst (n_in). */
	void		(*matrix_row) (const L3Matrix *w, int n, float *dst);

	/* y = x / sqrt(mean(x^2) + eps) * weight, n values; y may be x. */
	void		(*rms_norm) (float *y, const float *x, const float *weight, int n, float eps);

	/*
	 * Rotate interleaved pairs (x[2i], x[2i+1]) by cos[i], sin[i], i < rope_dim / 2,
	 * in each of n_heads heads that stand head_dim apart; then multiply the
	 * whole head by scale (1 for keys).
	 */
	void		(*rope) (float *x, int n_heads, int head_dim, int rope_dim,
						 const float *cosine, const float *sine, float scale);

	/* gate[i] = silu(gate[i]) * up[i] */
	void		(*swiglu) (float *gate, const float *up, int n);

	/*
	 * Store one position's key and value head (head_dim, value_dim floats) into
	 * slot (0..15) of its block, layouts as in L3AttendArgs.  Q8_0: per group of
	 * 32 dimensions, scale = max|x| / 127 rounded to half, and int8 = x / scale
	 * rounded to nearest even, within -127 .. 127.
	 */
	void		(*kv_store) (L3KvType type, void *k_block, void *v_block, int slot,
							 const float *key, int head_dim,
							 const float *value, int value_dim);

	void		(*attend) (const L3AttendArgs *args);
	/* Rows that it takes at once: more would not stay in its caches. <= L3_ATTN_MAX_ROWS */
	int			attend_rows;

	/* Index of the largest of n values; the lowest index wins a tie. */
	int			(*argmax) (const float *x, int n);
	/* log(sum(exp(x))) in double, fixed order. */
	double		(*logsumexp) (const float *x, int n);
} L3Kernels;

/*
 * Fill the table for a set of features (l3_cpu_parse).  kernels->features is
 * what is used of them: AMX is dropped where the process may not use it.
 */
void		l3_kernels_init(L3Kernels *kernels, unsigned features);

/* Compilers that have the header come with assemblers that know the instructions. */
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<avxvnniintrin.h>)
#define L3_HAVE_AVXVNNI
#endif
#endif

/* One init per file; each overwrites what it does better. */
void		l3_kernels_generic(L3Kernels *kernels);
#if defined(__x86_64__)
void		l3_kernels_avx2(L3Kernels *kernels);
void		l3_kernels_avxvnni(L3Kernels *kernels); /* with L3_HAVE_AVXVNNI */
void		l3_kernels_avx512(L3Kernels *kernels);
void		l3_kernels_avx512vnni(L3Kernels *kernels);
void		l3_kernels_amx(L3Kernels *kernels); /* with L3_HAVE_AMX (amx.h) */
#endif
void		l3_kernels_blas(L3Kernels *kernels);

/*
 * Scratch of a product that has k inputs, at most, with any kernel: the slab
 * of the x86 levels, and what grows with k, most of which is BLAS's, a
 * panel and a tile of rows in float.
 */
#define L3_SCRATCH_SLAB		((size_t) 128 * 1024)
#define L3_SCRATCH_INPUT	((L3_PANEL + L3_ACT_TILE) * sizeof(float))

static inline size_t
l3_scratch_bound(size_t k)
{
	return L3_SCRATCH_SLAB + k * L3_SCRATCH_INPUT;
}

#endif							/* L3_KERNELS_H */
