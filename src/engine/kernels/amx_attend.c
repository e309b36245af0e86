/*-------------------------------------------------------------------------
 *
 * amx_attend.c
 *	  Attention with AMX.
 *
 * For a split of 64 positions the scores of 16 query rows are a product of tiles,
 * queries by keys, and what they take from the values another, probabilities by
 * values: [16 rows][head_dim] [head_dim][64 positions], and [16 rows][64 positions]
 * [64 positions][64 dimensions].  The KV blocks have the order that the second
 * factor needs but for pairs of rows, which are interleaved as they are converted.
 *
 * TDPBF16PS multiplies bfloat16, which alone would lose bits that the cache has.
 * Every factor is taken as two of them, high and low part, and of their four
 * products all but that of the low parts are added, in the order high * low,
 * high * high, low * high for each 32 k.  A half (11 bits) is two bfloat16 (16
 * bits) exactly.  What else is lost of a product: 2^-18 for what is rounded from
 * float here, 2^-17 for a number of Q8_0, 2^-17 for the product that is left out.
 * That is far below what the cache lost when it was stored.  A float cache lost
 * nothing, and keeps its accuracy: it stays with AVX-512.
 *
 * A tile's row is the same with any number of others, so a row's result depends on
 * itself and the keys that it sees alone: one that it does not see has probability
 * 0 in it, and where that is not enough, because the value is not finite, each row
 * is multiplied with the values that it sees alone.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/amx.h"

#ifdef L3_HAVE_AMX

#include "kernels/amx_bf16.h"
#include "kernels/avx512_attend.h"

#define MAX_STEPS		(L3_MAX_HEAD_DIM / STEP)
#define SPLIT_STEPS		(L3_ATTN_SPLIT / STEP)
#define TILE_COLUMNS	16		/* positions of a block, or dimensions */
#define COLUMN_TILES	4		/* of a product */
#define COLUMNS			(COLUMN_TILES * TILE_COLUMNS)

enum
{
	HIGH, LOW, PARTS
};

_Static_assert(STEP == L3_KV_GROUP, "a step of keys has one scale");
_Static_assert(TILE_COLUMNS == L3_KV_BLOCK && COLUMN_TILES == SPLIT_BLOCKS, "a product has a split's positions");
_Static_assert(L3_TILE_ROWS % QUAD == 0 && L3_ATTN_MAX_ROWS % L3_TILE_ROWS == 0, "tiles hold whole quads");

#define TILE_BYTES		(L3_TILE_ROWS * L3_TILE_ROW_BYTES)

/* A step of a first factor: of queries or probabilities. */
typedef uint16_t RowStep[PARTS][L3_ATTN_MAX_ROWS][STEP];

/* A step of a second factor, of keys or values: tiles of columns, in them [pair of k][column][k % 2]. */
typedef uint16_t KvStep[PARTS][COLUMN_TILES][TILE_BYTES / sizeof(uint16_t)];

/* What a call works on.  Rows are those of the quads: row r of quad i is QUAD * i + r. */
typedef struct Work
{
	RowStep		q[MAX_STEPS];
	RowStep		p[SPLIT_STEPS];
	KvStep		kv[MAX_STEPS];	/* keys of a split, then values */
	float		scores[L3_ATTN_MAX_ROWS][L3_ATTN_SPLIT];
	float		taken[L3_ATTN_MAX_ROWS][COLUMNS];	/* from the values of a split */
} __attribute__((aligned(64))) Work;

/* Rows of a call that are worked on together, those of whole quads. */
typedef struct Rows
{
	int			first;
	int			n;
} Rows;

/* ----------------------------------------------------------------
 *		Factors
 * ----------------------------------------------------------------
 */

/* 16 columns of row k and of row k + 1 of a second factor: their upper halves in pairs. */
TARGET512 INLINE void
store_pair(__m512i even, __m512i odd, uint16_t *to)
{
	odd = _mm512_and_si512(odd, _mm512_set1_epi32((int) 0xFFFF0000));
	_mm512_store_si512(to, _mm512_or_si512(_mm512_srli_epi32(even, 16), odd));
}

/* What the upper half of each number leaves; rounded, half away from 0, to an upper half if that is to be. */
TARGET512 INLINE __m512i
low_part(__m512 x, bool exact)
{
	const __m512i upper = _mm512_set1_epi32((int) 0xFFFF0000);
	__m512		high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper));
	__m512i		low = _mm512_castps_si512(_mm512_sub_ps(x, high));

	return exact ? low : _mm512_add_epi32(low, _mm512_set1_epi32(0x8000));
}

/* Both parts of numbers of the cache. */
TARGET512 INLINE void
split_pair(L3KvType type, __m512 even, __m512 odd, uint16_t *high, uint16_t *low)
{
	bool		exact = type == L3_KV_F16;

	store_pair(_mm512_castps_si512(even), _mm512_castps_si512(odd), high);
	store_pair(low_part(even, exact), low_part(odd, exact), low);
}

/* One row's n numbers, zeros behind them, as row of a first factor. */
TARGET_BF16 static void
split_row(const float *x, int n, RowStep *to, int row)
{
	float		rest[STEP] = {0};
	int			whole = n / STEP;

	for (int s = 0; s < whole; s++)
		split_step(x + s * STEP, to[s][HIGH][row], to[s][LOW][row]);
	if (n % STEP == 0)
		return;
	memcpy(rest, x + whole * STEP, (size_t) (n % STEP) * sizeof(float));
	split_step(rest, to[whole][HIGH][row], to[whole][LOW][row]);
}

/* The queries of all rows; zeros in those of the last tile that belong to no quad. */
static void
split_queries(const L3AttendArgs *args, const Quad *quads, int n_quads, int n_per_quad, Work *work)
{
	int			n_steps = (args->head_dim + STEP - 1) / STEP;
	int			n_used = n_quads * QUAD;
	int			n_rows = (n_used + L3_TILE_ROWS - 1) / L3_TILE_ROWS * L3_TILE_ROWS;

	for (int i = 0; i < n_quads; i++)
		for (int r = 0; r < n_per_quad; r++)
			split_row(quads[i].q[r], args->head_dim, work->q, i * QUAD + r);
	for (int part = 0; part < PARTS; part++)
	{
		size_t		bytes = (size_t) (n_rows - n_used) * STEP * sizeof(uint16_t);

		for (int s = 0; s < n_steps; s++)
			memset(work->q[s][part][n_used], 0, bytes);
		for (int s = 0; s < SPLIT_STEPS; s++)
			memset(work->p[s][part][n_used], 0, bytes);
	}
}

/* n dimensions from d on of a block's 16 keys as a step of tiles, zeros behind them. */
TARGET512 INLINE void
split_keys_step(L3KvType type, const void *k, int n, int d, __m512 scale, uint16_t *high, uint16_t *low)
{
	for (int i = 0; i < STEP; i += 2)
	{
		size_t		at = (size_t) (d + i) * L3_KV_BLOCK;

		split_pair(type, kv_load(type, k, at, i < n ? 0xFFFF : 0, scale),
				   kv_load(type, k, at + L3_KV_BLOCK, i + 1 < n ? 0xFFFF : 0, scale),
				   high + i * TILE_COLUMNS, low + i * TILE_COLUMNS);
	}
}

TARGET512 INLINE void
split_typed_keys(const L3KvType type, const L3AttendPart *part, int head_dim, int block0, int n, Work *work)
{
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		const void *k = part->k_blocks[block0 + (b * L3_KV_BLOCK < n ? b : 0)];

		for (int s = 0; s * STEP < head_dim; s++)
		{
			__m512		scale = key_scales(type, k, head_dim, s * STEP);
			uint16_t   *high = work->kv[s][HIGH][b];
			uint16_t   *low = work->kv[s][LOW][b];

			if (head_dim - s * STEP >= STEP)
				split_keys_step(type, k, STEP, s * STEP, scale, high, low);
			else
				split_keys_step(type, k, head_dim - s * STEP, s * STEP, scale, high, low);
		}
	}
}

/*
 * The keys of a split that begins with block0.  Of its n positions are there;
 * what the scores of the others are does not matter.
 */
TARGET512 static void
split_keys(const L3AttendArgs *args, const L3AttendPart *part, int block0, int n, Work *work)
{
	if (args->kv_type == L3_KV_F16)
		split_typed_keys(L3_KV_F16, part, args->head_dim, block0, n, work);
	else
		split_typed_keys(L3_KV_Q8_0, part, args->head_dim, block0, n, work);
}

/*
 * 64 dimensions from d on of positions j and j + 1 of a block, to pair i of a step;
 * zeros for positions from n on and past value_dim.
 */
TARGET512 INLINE void
split_values_pair(L3KvType type, const void *v, int value_dim, int j, int n, int d, int n_dims, Work *work,
				  int s, int i)
{
	for (int c = 0; c < COLUMN_TILES; c++)
	{
		__m512		value[2];

		for (int r = 0; r < 2; r++)
			value[r] = j + r >= n ? _mm512_setzero_ps() :
				kv_load(type, v, (size_t) (j + r) * value_dim + d + c * TILE_COLUMNS, first_lanes(n_dims - c * TILE_COLUMNS),
						value_scale(type, v, value_dim, j + r, d + c * TILE_COLUMNS));
		split_pair(type, value[0], value[1], work->kv[s][HIGH][c] + i * TILE_COLUMNS * 2,
				   work->kv[s][LOW][c] + i * TILE_COLUMNS * 2);
	}
}

TARGET512 INLINE void
split_typed_values(const L3KvType type, const L3AttendPart *part, int value_dim, int block0, int n, int d,
				   Work *work)
{
	for (int b = 0; b < SPLIT_BLOCKS; b++)
	{
		int			there = n - b * L3_KV_BLOCK;
		const void *v = part->v_blocks[block0 + (there > 0 ? b : 0)];
		int			s = b * L3_KV_BLOCK / STEP;
		int			i = b * L3_KV_BLOCK % STEP / 2;

		if (there >= L3_KV_BLOCK && d + COLUMNS <= value_dim)
			for (int j = 0; j < L3_KV_BLOCK; j += 2)
				split_values_pair(type, v, value_dim, j, L3_KV_BLOCK, d, COLUMNS, work, s, i + j / 2);
		else
			for (int j = 0; j < L3_KV_BLOCK; j += 2)
				split_values_pair(type, v, value_dim, j, there, d, value_dim - d, work, s, i + j / 2);
	}
}

/* 64 dimensions from d on of the first n positions of a split, zeros for those behind and past value_dim. */
TARGET512 static void
split_values(const L3AttendArgs *args, const L3AttendPart *part, int block0, int n, int d, Work *work)
{
	if (args->kv_type == L3_KV_F16)
		split_typed_values(L3_KV_F16, part, args->value_dim, block0, n, d, work);
	else
		split_typed_values(L3_KV_Q8_0, part, args->value_dim, block0, n, d, work);
}

/* Are the split's values finite from position j on (or one before it)? */
TARGET512 static bool
finite_values(const Work *work, int j)
{
	const __m512i exponent = _mm512_set1_epi16(0x7F80);
	__mmask32	bad = 0;

	for (; j < L3_ATTN_SPLIT; j += 2)
		for (int c = 0; c < COLUMN_TILES; c++)
		{
			const uint16_t *pair = work->kv[j / STEP][HIGH][c] + j % STEP / 2 * 2 * TILE_COLUMNS;

			bad |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(_mm512_load_si512(pair), exponent), exponent);
		}
	return bad == 0;
}

/* ----------------------------------------------------------------
 *		Products
 * ----------------------------------------------------------------
 */

/* To chain c the product of the rows in tile x by a part of the keys or values; b: the tile to load them to. */
#define ADD_PRODUCT(c, x, part, b) \
	do { \
		TILE_LOAD_AT(b, kv, ((part) * COLUMN_TILES + (c)) * TILE_BYTES, L3_TILE_ROW_BYTES); \
		TILE_DOT_BF16(c, x, b); \
	} while (0)

/* To all chains; each waits three others' products, so that none waits for its last. */
#define ADD_PRODUCTS(x, part) \
	do { \
		ADD_PRODUCT(0, x, part, 6); \
		ADD_PRODUCT(1, x, part, 7); \
		ADD_PRODUCT(2, x, part, 6); \
		ADD_PRODUCT(3, x, part, 7); \
	} while (0)

#define STORE_COLUMN(c) \
	TILE_STORE_AT(c, out[row], (c) * L3_TILE_ROW_BYTES, COLUMNS * sizeof(float))

/* out = rows of the first factor by the second of a split, n_steps steps of k */
static void
multiply(const RowStep *rows_steps, const KvStep *kv_steps, int n_steps, Rows rows, float (*out)[COLUMNS])
{
	for (int row = rows.first; row < rows.first + rows.n; row += L3_TILE_ROWS)
	{
		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_ZERO(2);
		TILE_ZERO(3);
		for (int s = 0; s < n_steps; s++)
		{
			const void *x = rows_steps[s][HIGH][row];
			const void *kv = kv_steps[s];

			TILE_LOAD_AT(4, x, 0, L3_TILE_ROW_BYTES);
			TILE_LOAD_AT(5, x, sizeof(rows_steps[0][LOW]), L3_TILE_ROW_BYTES);
			ADD_PRODUCTS(4, LOW);
			ADD_PRODUCTS(4, HIGH);
			ADD_PRODUCTS(5, HIGH);
		}
		STORE_COLUMN(0);
		STORE_COLUMN(1);
		STORE_COLUMN(2);
		STORE_COLUMN(3);
	}
}

/* Tiles of so many rows of factors and chains; those of keys and values are whole. */
static void
configure_tiles(int n_rows)
{
	L3TileConfig config = l3_full_tiles(n_rows < L3_TILE_ROWS ? n_rows : L3_TILE_ROWS);

	config.rows[6] = config.rows[7] = STEP / 2;
	l3_tile_configure(&config);
}

/* ----------------------------------------------------------------
 *		Attention
 * ----------------------------------------------------------------
 */

/* out = out * shrink + taken, n dimensions; only taken in the first split */
TARGET512 INLINE void
add_taken(const float *taken, int n, float shrink, bool first, float *out)
{
	for (int d = 0; d < n; d += 16)
	{
		__mmask16	mask = first_lanes(n - d);
		__m512		sum = _mm512_load_ps(taken + d);

		if (!first)
			sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, out + d), _mm512_set1_ps(shrink), sum);
		_mm512_mask_storeu_ps(out + d, mask, sum);
	}
}

/* A split that begins at first, of n_keys positions of the part.  n_per_quad: 1 or QUAD. */
TARGET512 static void
attend_split(const L3AttendArgs *args, const L3AttendPart *part, Quad *quads, int n_quads, int n_per_quad,
			 Rows tile_rows, int first, int n_keys, Work *work)
{
	int			block0 = first / L3_KV_BLOCK;
	int			n = n_keys - first < L3_ATTN_SPLIT ? n_keys - first : L3_ATTN_SPLIT;
	int			n_common = n;
	SplitRows	rows[MAX_QUADS];

	split_keys(args, part, block0, n, work);
	multiply(work->q, work->kv, (args->head_dim + STEP - 1) / STEP, tile_rows, work->scores);
	for (int i = 0; i < n_quads; i++)
	{
		if (n_per_quad == 1)
			row_softmax(&quads[i], first, &rows[i]);
		else
			quad_softmax(&quads[i], first, &rows[i]);
		n_common = rows[i].n_common < n_common ? rows[i].n_common : n_common;
		for (int r = 0; r < n_per_quad; r++)
			split_row(quads[i].p[r], L3_ATTN_SPLIT, work->p, tile_rows.first + i * QUAD + r);
	}
	for (int d = 0; d < args->value_dim; d += COLUMNS)
	{
		int			n_dims = args->value_dim - d < COLUMNS ? args->value_dim - d : COLUMNS;
		bool		together;

		split_values(args, part, block0, n, d, work);
		together = n_common == n || finite_values(work, n_common);
		if (together)
			multiply(work->p, work->kv, SPLIT_STEPS, tile_rows, work->taken);
		for (int i = 0; i < n_quads; i++)
			for (int r = 0; r < n_per_quad; r++)
			{
				if (rows[i].n_seen[r] == 0 || r >= quads[i].n_rows)
					continue;	/* keeps what it has, or is a copy */
				if (!together)
				{
					split_values(args, part, block0, rows[i].n_seen[r], d, work);
					multiply(work->p, work->kv, SPLIT_STEPS, tile_rows, work->taken);
				}
				add_taken(work->taken[tile_rows.first + i * QUAD + r], n_dims, rows[i].shrink[r], first == 0,
						  quads[i].out[r] + d);
			}
	}
}

TARGET512 static void
attend_tiles(const L3AttendArgs *args)
{
	int			n_per_quad = args->n_rows > 1 ? QUAD : 1;
	Work		work;
	Quad		quads[MAX_QUADS];
	int			n_together;
	int			n_quads = form_quads(args, work.scores, quads, &n_together);

	split_queries(args, quads, n_quads, n_per_quad, &work);
	configure_tiles(n_quads * n_per_quad);
	for (int first = 0; first < n_together; first += L3_ATTN_SPLIT)
		attend_split(args, args->parts, quads, n_quads, n_per_quad, (Rows) {0, n_quads * n_per_quad},
					 first, n_together, &work);
	if (args->n_parts > 1)
		configure_tiles(n_per_quad);
	for (int i = 0; i < n_quads; i++)
		for (int first = n_together; first < quads[i].longest; first += L3_ATTN_SPLIT)
			attend_split(args, quads[i].part, &quads[i], 1, n_per_quad, (Rows) {i * QUAD, n_per_quad},
						 first, quads[i].longest, &work);
	l3_tile_release();
	finish_quads(args, quads, n_quads);
}

static void
attend(const L3AttendArgs *args)
{
	if (args->kv_type == L3_KV_F32)
		l3_avx512_attend_float(args);
	else
		attend_tiles(args);
}

void
l3_amx_attend(L3Kernels *kernels)
{
	kernels->attend = attend;
	kernels->attend_rows = L3_ATTN_MAX_ROWS;
}

#endif							/* L3_HAVE_AMX */
