/*-------------------------------------------------------------------------
 *
 * pack.c
 *	  From the block types of model files to the packed panels of arena.h.
 *
 * One function per file type.  Each walks the panel block by block along k,
 * and within a block column by column, so that what it writes stays in the
 * first-level cache while it reads 16 sequential streams.  Nearly all of the
 * work is moving 4-byte words (4 consecutive k of one column), sometimes with
 * masks and shifts that stay inside each byte of the word; that is fast enough
 * in plain C to keep up with memory.
 *
 * Notation: a word is 4 consecutive bytes of a block; quad j of a block stands
 * for its values 4j .. 4j + 3.
 *
 *-------------------------------------------------------------------------
 */
#include "pack.h"
#include "half.h"

/* Bytes of one quad row: 16 columns of 4 values. */
#define QUAD_ROW	(L3_PANEL * 4)

static const L3FileTypeInfo file_types[L3_N_FILE_TYPES] =
{
	[L3_FILE_F32] = {"F32", 1, 4, L3_F32, 0, true},
	[L3_FILE_F16] = {"F16", 1, 2, L3_F16, 0, true},
	[L3_FILE_BF16] = {"BF16", 1, 2, L3_BF16, 0, true},
	[L3_FILE_Q8_0] = {"Q8_0", 32, 34, L3_Q8_0, 0, false},
	[L3_FILE_Q4_0] = {"Q4_0", 32, 18, L3_Q4_0, 0, false},
	[L3_FILE_Q4_1] = {"Q4_1", 32, 20, L3_Q8_1, 0, false},
	[L3_FILE_Q5_0] = {"Q5_0", 32, 22, L3_Q8_0, 0, false},
	[L3_FILE_Q5_1] = {"Q5_1", 32, 24, L3_Q8_1, 0, false},
	[L3_FILE_Q2_K] = {"Q2_K", 256, 84, L3_Q8_K, 0, false},
	[L3_FILE_Q3_K] = {"Q3_K", 256, 110, L3_Q6_K, 0, false},
	[L3_FILE_Q4_K] = {"Q4_K", 256, 144, L3_Q4_K, 0, false},
	[L3_FILE_Q5_K] = {"Q5_K", 256, 176, L3_Q8_K, 0, false},
	[L3_FILE_Q6_K] = {"Q6_K", 256, 210, L3_Q6_K, 0, false},
	[L3_FILE_IQ4_NL] = {"IQ4_NL", 32, 18, L3_Q8_0, 0, false},
	[L3_FILE_IQ4_XS] = {"IQ4_XS", 256, 136, L3_Q8_K, 128, false},
};

/* The 16 values of the non-linear 4-bit types IQ4_NL and IQ4_XS. */
static const int8_t iq4_values[16] =
{
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};

typedef const uint8_t *const *Rows;

const L3FileTypeInfo *
l3_file_type(L3FileType type)
{
	return &file_types[type];
}

uint64_t
l3_file_row_bytes(L3FileType type, uint32_t n_in)
{
	return (uint64_t) (n_in / file_types[type].block) * file_types[type].bytes;
}

static inline uint32_t
load_word(const uint8_t *p)
{
	uint32_t	word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline void
store_word(uint8_t *p, uint32_t word)
{
	memcpy(p, &word, sizeof(word));
}

/* Put the n values of one column, a byte each, into quad rows. */
static inline void
store_quads(uint8_t *quads, int column, const uint8_t *values, int n)
{
	for (int j = 0; j < n / 4; j++)
		store_word(quads + j * QUAD_ROW + column * 4, load_word(values + j * 4));
}

/* Copy a half (2 bytes) of column c into a row of 16 halves. */
static inline void
store_half(uint8_t *halves, int column, const uint8_t *half)
{
	memcpy(halves + column * 2, half, 2);
}

/* Exponents of infinity and of what is no number: all bits set. */
#define F32_EXPONENT	0x7F800000u
#define BF16_EXPONENT	0x7F807F80u /* of a pair */
#define F16_EXPONENT	0x7C007C00u

/* Vectors of the compilers' own: four words, or eight halves. */
typedef uint32_t Word4 __attribute__((vector_size(16)));
typedef uint16_t Half8 __attribute__((vector_size(16)));

static inline bool
any_set(Word4 v)
{
	return (v[0] | v[1] | v[2] | v[3]) != 0;
}

/* Do n rows of 16 words hold a float with that exponent? */
static bool
any_word(const uint8_t *p, size_t n, uint32_t exponent)
{
	Word4		found = {0};

	for (const uint8_t *end = p + n * QUAD_ROW; p < end; p += sizeof(Word4))
	{
		Word4		v;

		memcpy(&v, p, sizeof(v));
		found |= (Word4) ((v & exponent) == exponent);
	}
	return any_set(found);
}

/* Do n rows of 16 halves hold one with that exponent (given twice)? */
static bool
any_half(const uint8_t *p, size_t n, uint32_t exponent)
{
	const Half8 mask = (Half8) ((Word4) {0} + exponent);
	Half8		found = {0};

	for (const uint8_t *end = p + n * QUAD_ROW / 2; p < end; p += 2 * sizeof(Half8))
	{
		Half8		a;
		Half8		b;

		memcpy(&a, p, sizeof(a));
		memcpy(&b, p + sizeof(a), sizeof(b));
		found |= (Half8) ((a & mask) == mask) | (Half8) ((b & mask) == mask);
	}
	return any_set((Word4) found);
}

/* Words transposed at a time: then they are looked at while in the first-level cache. */
#define WORDS_AT_ONCE	128

static inline void
transpose_words(uint32_t n_words, uint32_t first, Rows rows, uint8_t *panel)
{
	for (uint32_t j = first; j < first + n_words; j++)
	{
		for (int c = 0; c < L3_PANEL; c++)
			store_word(panel + (size_t) j * QUAD_ROW + c * 4, load_word(rows[c] + (size_t) j * 4));
	}
}

/*
 * F32, and BF16 as pairs of k: words, transposed.  True when all are finite,
 * as the other functions for float types.
 */
static bool
pack_words(L3FileType from, uint32_t n_words, Rows rows, uint8_t *panel)
{
	bool		found = false;

	for (uint32_t j = 0; j < n_words; j += WORDS_AT_ONCE)
	{
		uint32_t	n = n_words - j < WORDS_AT_ONCE ? n_words - j : WORDS_AT_ONCE;
		const uint8_t *done = panel + (size_t) j * QUAD_ROW;

		transpose_words(n, j, rows, panel);
		found |= from == L3_FILE_F32 ? any_word(done, n, F32_EXPONENT) :
			any_half(done, 2 * n, BF16_EXPONENT);
	}
	return !found;
}

static bool
pack_bf16(uint32_t n_in, Rows rows, uint8_t *panel)
{
	uint8_t    *last = panel + (size_t) (n_in / 2) * QUAD_ROW;
	bool		finite = pack_words(L3_FILE_BF16, n_in / 2, rows, panel);

	if (n_in % 2 == 0)
		return finite;
	memset(last, 0, QUAD_ROW);
	for (int c = 0; c < L3_PANEL; c++)
		memcpy(last + c * 4, rows[c] + (size_t) (n_in - 1) * 2, 2);
	return finite && !any_half(last, 2, BF16_EXPONENT);
}

static bool
pack_f16(uint32_t n_in, Rows rows, uint8_t *panel)
{
	for (uint32_t k = 0; k < n_in; k++)
	{
		for (int c = 0; c < L3_PANEL; c++)
			store_half(panel + (size_t) k * L3_PANEL * 2, c, rows[c] + (size_t) k * 2);
	}
	return !any_half(panel, n_in, F16_EXPONENT);
}

/*
 * Q8_0: half d; int8 q[32].  Adding 128 to each byte is flipping its top bit.
 */
static void
pack_q8_0(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 32; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * 34;

			store_half(scales, c, block);
			for (int j = 0; j < 8; j++)
				store_word(quants + j * QUAD_ROW + c * 4,
						   load_word(block + 2 + j * 4) ^ 0x80808080u);
		}
		scales += L3_PANEL * 2;
		quants += 8 * QUAD_ROW;
	}
}

/*
 * Q4_0: half d; uint8 b[16], value j in the low nibble of b[j], value j + 16
 * in its high one: word j is what the packed quad row j holds.
 */
static void
pack_q4_0(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 32; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * 18;

			store_half(scales, c, block);
			store_quads(quants, c, block + 2, 16);
		}
		scales += L3_PANEL * 2;
		quants += 4 * QUAD_ROW;
	}
}

/*
 * Q5_0: half d; uint8 h[4]; uint8 b[16] as Q4_0, the fifth bit of value j
 * being bit j of h; w = d * (q - 16).  Stored as Q8_0: q - 16 + 128.
 */
static void
pack_q5_0(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 32; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * 22;
			uint32_t	high = load_word(block + 2);
			uint8_t		values[32];

			for (int j = 0; j < 16; j++)
			{
				values[j] = (block[6 + j] & 15) + (high >> j & 1) * 16 + 112;
				values[j + 16] = (block[6 + j] >> 4) + (high >> (j + 16) & 1) * 16 + 112;
			}
			store_half(scales, c, block);
			store_quads(quants, c, values, 32);
		}
		scales += L3_PANEL * 2;
		quants += 8 * QUAD_ROW;
	}
}

/* IQ4_NL: half d; uint8 b[16] as Q4_0, nibbles index iq4_values. */
static void
pack_iq4_nl(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 32; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * 18;
			uint8_t		values[32];

			for (int j = 0; j < 16; j++)
			{
				values[j] = (uint8_t) (iq4_values[block[2 + j] & 15] + 128);
				values[j + 16] = (uint8_t) (iq4_values[block[2 + j] >> 4] + 128);
			}
			store_half(scales, c, block);
			store_quads(quants, c, values, 32);
		}
		scales += L3_PANEL * 2;
		quants += 8 * QUAD_ROW;
	}
}

/*
 * Q4_1: half d, m; uint8 b[16] as Q4_0.  Q5_1: half d, m; uint8 h[4];
 * uint8 b[16] as Q5_0.  w = d * q + m.
 */
static void
pack_q8_1(L3FileType from, uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	bool		five = from == L3_FILE_Q5_1;
	uint32_t	block_bytes = file_types[from].bytes;

	for (uint32_t b = 0; b < n_in / 32; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * block_bytes;
			const uint8_t *nibbles = block + (five ? 8 : 4);
			uint32_t	high = five ? load_word(block + 4) : 0;
			uint8_t		values[32];

			for (int j = 0; j < 16; j++)
			{
				values[j] = (nibbles[j] & 15) + (high >> j & 1) * 16;
				values[j + 16] = (nibbles[j] >> 4) + (high >> (j + 16) & 1) * 16;
			}
			store_half(scales, c, block);
			store_half(scales + L3_PANEL * 2, c, block + 2);
			store_quads(quants, c, values, 32);
		}
		scales += L3_PANEL * 4;
		quants += 8 * QUAD_ROW;
	}
}

/*
 * Q4_K: half d, dmin; uint8 sm[12]; uint8 b[128], for p = 0..3 values
 * 64p + l in the low nibbles of b[32p + l], values 64p + 32 + l in the high
 * ones (l < 32): again what the packed quad rows hold.
 */
static void
pack_q4_k(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 256; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * 144;

			store_half(scales, c, block);
			store_half(scales + L3_PANEL * 2, c, block + 2);
			for (int i = 0; i < 12; i++)
				scales[L3_PANEL * (4 + i) + c] = block[4 + i];
			store_quads(quants, c, block + 16, 128);
		}
		scales += L3_PANEL * 16;
		quants += 32 * QUAD_ROW;
	}
}

/*
 * Q6_K: uint8 ql[128]; uint8 qh[64]; int8 sc[16]; half d.  For n = 0, 1 and
 * l < 64: value 128n + l has its low bits in the low nibble of ql[64n + l],
 * value 128n + 64 + l in the high one; for l < 32 bits 2i, 2i + 1 of
 * qh[32n + l] are the upper bits of value 128n + 32i + l.
 *
 * The packed form pairs quad r with quad r + 32 (the same place of the second
 * half), so a word of each half gives two packed words.
 */
static void
pack_q6_k_quants(const uint8_t *ql, const uint8_t *qh, int c, uint8_t *quants)
{
	const uint32_t low = 0x0F0F0F0Fu;
	const uint32_t two = 0x03030303u;
	uint8_t    *packed_low = quants + c * 4;
	uint8_t    *packed_high = quants + 32 * QUAD_ROW + c * 4;

	for (int r = 0; r < 16; r++)
	{
		uint32_t	first = load_word(ql + 4 * r);
		uint32_t	second = load_word(ql + 64 + 4 * r);

		store_word(packed_low + r * QUAD_ROW, (first & low) | (second & low) << 4);
		store_word(packed_low + (r + 16) * QUAD_ROW, (first >> 4 & low) | (second & ~low));
	}
	for (int r = 0; r < 8; r++)
	{
		uint32_t	first = load_word(qh + 4 * r);
		uint32_t	second = load_word(qh + 32 + 4 * r);

		store_word(packed_high + r * QUAD_ROW,
				   (first & two) | (first >> 4 & two) << 2 |
				   (second & two) << 4 | (second >> 4 & two) << 6);
		store_word(packed_high + (r + 8) * QUAD_ROW,
				   (first >> 2 & two) | (first >> 6 & two) << 2 |
				   (second >> 2 & two) << 4 | (second >> 6 & two) << 6);
	}
}

static void
pack_q6_k(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 256; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * 210;

			store_half(scales, c, block + 208);
			for (int g = 0; g < 16; g++)
				scales[L3_PANEL * (2 + g) + c] = block[192 + g];
			pack_q6_k_quants(block, block + 128, c, quants);
		}
		scales += L3_PANEL * 18;
		quants += 48 * QUAD_ROW;
	}
}

/*
 * Q3_K: uint8 h[32]; uint8 b[64]; uint8 s[12]; half d.  For n = 0, 1, i < 4,
 * l < 32: value 128n + 32i + l has its low two bits at bits 2i, 2i + 1 of
 * b[32n + l] and its third bit at bit 4n + i of h[l]; w = d * (sc - 32) *
 * (q - 4).  Scale g < 16 has its low 4 bits in a nibble of s[g % 8] (low for
 * g < 8) and its upper two at bit 2 (g / 4) of s[8 + g % 4].
 *
 * Stored as Q6_K: q - 4 + 32 in 6 bits, sc - 32 as int8.
 */
static void
pack_q3_k_column(const uint8_t *block, int c, uint8_t *scales, uint8_t *quants)
{
	const uint8_t *high = block;
	const uint8_t *low = block + 32;
	const uint8_t *packed_scales = block + 96;
	uint8_t		ql[128];
	uint8_t		qh[64];

	/* Make the Q6_K block of the same values, then pack that. */
	memset(ql, 0, sizeof(ql));
	memset(qh, 0, sizeof(qh));
	for (int n = 0; n < 2; n++)
	{
		for (int i = 0; i < 4; i++)
		{
			for (int l = 0; l < 32; l++)
			{
				int			q = (low[32 * n + l] >> (2 * i) & 3) +
					(high[l] >> (4 * n + i) & 1) * 4 + 28;

				ql[64 * n + 32 * (i & 1) + l] |= (uint8_t) ((q & 15) << (i >= 2 ? 4 : 0));
				qh[32 * n + l] |= (uint8_t) (q >> 4 << (2 * i));
			}
		}
	}
	pack_q6_k_quants(ql, qh, c, quants);

	store_half(scales, c, block + 108);
	for (int g = 0; g < 16; g++)
	{
		int			sc = (packed_scales[g % 8] >> (g < 8 ? 0 : 4) & 15) |
			(packed_scales[8 + g % 4] >> (2 * (g / 4)) & 3) << 4;

		scales[L3_PANEL * (2 + g) + c] = (uint8_t) (sc - 32);
	}
}

static void
pack_q3_k(uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 256; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
			pack_q3_k_column(rows[c] + (size_t) b * 110, c, scales, quants);
		scales += L3_PANEL * 18;
		quants += 48 * QUAD_ROW;
	}
}

/* A block of 256 on its way to Q8_K. */
typedef struct Q8KBlock
{
	uint8_t		d[2];			/* half */
	uint8_t		dmin[2];		/* half */
	uint8_t		sc[16];			/* int8 bits */
	uint8_t		mn[16];
	uint8_t		q[256];
} Q8KBlock;

/*
 * Q2_K: uint8 s[16]; uint8 b[64]; half d, dmin.  Values as the low bits of
 * Q3_K; low nibble of s[g] is the scale, high nibble the min of values
 * 16g .. 16g + 15.
 */
static void
unpack_q2_k(const uint8_t *block, Q8KBlock *out)
{
	memcpy(out->d, block + 80, 2);
	memcpy(out->dmin, block + 82, 2);
	for (int g = 0; g < 16; g++)
	{
		out->sc[g] = block[g] & 15;
		out->mn[g] = block[g] >> 4;
	}
	for (int n = 0; n < 2; n++)
	{
		for (int i = 0; i < 4; i++)
		{
			for (int l = 0; l < 32; l++)
				out->q[128 * n + 32 * i + l] = block[16 + 32 * n + l] >> (2 * i) & 3;
		}
	}
}

/*
 * Q5_K: half d, dmin; uint8 sm[12]; uint8 h[32]; uint8 b[128].  Nibbles as
 * Q4_K; the fifth bit of value 32g + l is bit g of h[l].  Scale and min of
 * group g < 4 are the low 6 bits of sm[g] and sm[g + 4]; those of g >= 4 have
 * their low 4 bits in the nibbles of sm[g + 4] and their upper two in the top
 * bits of sm[g - 4] and sm[g].
 */
static void
unpack_q5_k(const uint8_t *block, Q8KBlock *out)
{
	const uint8_t *sm = block + 4;
	const uint8_t *high = block + 16;
	const uint8_t *nibbles = block + 48;

	memcpy(out->d, block, 2);
	memcpy(out->dmin, block + 2, 2);
	for (int g = 0; g < 8; g++)
	{
		uint8_t		sc;
		uint8_t		mn;

		if (g < 4)
		{
			sc = sm[g] & 63;
			mn = sm[g + 4] & 63;
		}
		else
		{
			sc = (sm[g + 4] & 15) | (sm[g - 4] >> 6) << 4;
			mn = sm[g + 4] >> 4 | (sm[g] >> 6) << 4;
		}
		out->sc[2 * g] = out->sc[2 * g + 1] = sc;
		out->mn[2 * g] = out->mn[2 * g + 1] = mn;
		for (int l = 0; l < 32; l++)
			out->q[32 * g + l] = (nibbles[g / 2 * 32 + l] >> (g % 2 * 4) & 15) +
				(high[l] >> g & 1) * 16;
	}
}

/*
 * IQ4_XS: half d; uint16 sh; uint8 sl[4]; uint8 b[128].  Groups of 32 as
 * IQ4_NL; scale of group g - 32: low 4 bits in a nibble of sl[g / 2], upper
 * two at bit 2g of sh.  w = d * (sc - 32) * value.
 */
static void
unpack_iq4_xs(const uint8_t *block, Q8KBlock *out)
{
	uint32_t	high = (uint32_t) block[2] | (uint32_t) block[3] << 8;
	const uint8_t *low = block + 4;
	const uint8_t *nibbles = block + 8;

	memcpy(out->d, block, 2);
	memset(out->dmin, 0, 2);
	memset(out->mn, 0, sizeof(out->mn));
	for (int g = 0; g < 8; g++)
	{
		int			sc = (low[g / 2] >> (g % 2 * 4) & 15) | (int) (high >> (2 * g) & 3) << 4;

		out->sc[2 * g] = out->sc[2 * g + 1] = (uint8_t) (sc - 32);
		for (int l = 0; l < 16; l++)
		{
			uint8_t		byte = nibbles[16 * g + l];

			out->q[32 * g + l] = (uint8_t) (iq4_values[byte & 15] + 128);
			out->q[32 * g + 16 + l] = (uint8_t) (iq4_values[byte >> 4] + 128);
		}
	}
}

static void
pack_q8_k(L3FileType from, uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	for (uint32_t b = 0; b < n_in / 256; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			const uint8_t *block = rows[c] + (size_t) b * file_types[from].bytes;
			Q8KBlock	unpacked;

			if (from == L3_FILE_Q2_K)
				unpack_q2_k(block, &unpacked);
			else if (from == L3_FILE_Q5_K)
				unpack_q5_k(block, &unpacked);
			else
				unpack_iq4_xs(block, &unpacked);

			store_half(scales, c, unpacked.d);
			store_half(scales + L3_PANEL * 2, c, unpacked.dmin);
			for (int g = 0; g < 16; g++)
			{
				scales[L3_PANEL * (4 + g) + c] = unpacked.sc[g];
				scales[L3_PANEL * (20 + g) + c] = unpacked.mn[g];
			}
			store_quads(quants, c, unpacked.q, 256);
		}
		scales += L3_PANEL * 36;
		quants += 64 * QUAD_ROW;
	}
}

/*
 * Four values at a time in the compilers' own vector types: quantising at load
 * is the one conversion that is bound by arithmetic.
 */
typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

static inline int32_t
max4(Int4 v)
{
	int32_t		a = v[0] > v[1] ? v[0] : v[1];
	int32_t		b = v[2] > v[3] ? v[2] : v[3];

	return a > b ? a : b;
}

/*
 * Quantise 32 values of column c to Q8_0: d = max|x| / 127 as a half, q = x / d
 * to nearest.  The quotient is taken with the unrounded d, as files in Q8_0 are
 * made.  Adding 1.5 * 2^23 leaves the rounded integer in the low bits.
 */
static inline void
quantize_block(const Float4 x[8], int c, uint8_t *scales, uint8_t *quants)
{
	const float magic = 12582912.0f;	/* its low byte is 0 */
	Int4		max = {0};
	float		scale;
	float		inverse;
	uint16_t	half;

	for (int j = 0; j < 8; j++)
	{
		/* Floats without their sign are in the order of their bits. */
		Int4		magnitude = (Int4) x[j] & 0x7FFFFFFF;
		Int4		greater = magnitude > max;

		max = (magnitude & greater) | (max & ~greater);
	}
	scale = l3_bits_to_float((uint32_t) max4(max)) / 127.0f;
	half = l3_float_to_half(scale);
	memcpy(scales + c * 2, &half, 2);
	inverse = scale > 0 ? 1.0f / scale : 0;
	for (int j = 0; j < 8; j++)
	{
		Int4		q = ((Int4) (x[j] * inverse + magic) + 128) & 255;

		store_word(quants + j * QUAD_ROW + c * 4,
				   (uint32_t) q[0] | (uint32_t) q[1] << 8 |
				   (uint32_t) q[2] << 16 | (uint32_t) q[3] << 24);
	}
}

/* 32 values of a float type. */
static inline void
widen_block(L3FileType from, const uint8_t *src, Float4 x[8])
{
	uint16_t	bits[32];
	uint32_t	wide[32];

	if (from == L3_FILE_F32)
	{
		memcpy(x, src, 32 * sizeof(float));
		return;
	}
	memcpy(bits, src, sizeof(bits));
	if (from == L3_FILE_BF16)
	{
		for (int i = 0; i < 32; i++)
			wide[i] = (uint32_t) bits[i] << 16;
	}
	else
	{
		for (int i = 0; i < 32; i++)
			wide[i] = l3_float_to_bits(l3_half_to_float(bits[i]));
	}
	memcpy(x, wide, sizeof(wide));
}

static void
quantize_q8_0(L3FileType from, uint32_t n_in, Rows rows, uint8_t *scales, uint8_t *quants)
{
	uint32_t	value_bytes = file_types[from].bytes;

	for (uint32_t b = 0; b < n_in / 32; b++)
	{
		for (int c = 0; c < L3_PANEL; c++)
		{
			Float4		x[8];

			widen_block(from, rows[c] + (size_t) b * 32 * value_bytes, x);
			quantize_block(x, c, scales, quants);
		}
		scales += L3_PANEL * 2;
		quants += 8 * QUAD_ROW;
	}
}

void
l3_widen_vector(L3FileType from, const uint8_t *src, uint32_t n, float *dst)
{
	if (from == L3_FILE_F32)
	{
		memcpy(dst, src, (size_t) n * sizeof(float));
		return;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		uint16_t	bits;

		memcpy(&bits, src + (size_t) i * 2, 2);
		dst[i] = from == L3_FILE_F16 ? l3_half_to_float(bits) : l3_bf16_to_float(bits);
	}
}

/*
 * The scales of a block in a panel: bytes, and how many halves they begin
 * with.  What follows are integers.
 */
static const struct
{
	uint32_t	bytes;
	uint32_t	n_halves;
}			packed_scales[L3_N_PACKED_TYPES] =
{
	[L3_Q8_0] = {L3_PANEL * 2, L3_PANEL},
	[L3_Q4_0] = {L3_PANEL * 2, L3_PANEL},
	[L3_Q8_1] = {L3_PANEL * 4, L3_PANEL * 2},
	[L3_Q4_K] = {L3_PANEL * 16, L3_PANEL * 2},
	[L3_Q6_K] = {L3_PANEL * 18, L3_PANEL},
	[L3_Q8_K] = {L3_PANEL * 36, L3_PANEL * 2},
};

/* Are all scales of a packed panel finite?  So are its values then. */
static bool
scales_finite(L3PackedType type, uint32_t n_in, const uint8_t *scales)
{
	uint32_t	n_blocks = n_in / (uint32_t) l3_packed_block(type);
	bool		found = false;

	for (uint32_t b = 0; b < n_blocks; b++)
	{
		found |= any_half(scales, packed_scales[type].n_halves / L3_PANEL, F16_EXPONENT);
		scales += packed_scales[type].bytes;
	}
	return !found;
}

bool
l3_pack_panel(L3FileType from, L3PackedType to, uint32_t n_in,
			  const uint8_t *const rows[L3_PANEL], uint8_t *panel)
{
	size_t		scales_bytes = l3_panel_scales_bytes(to, (int) n_in);
	size_t		panel_bytes = l3_panel_bytes(to, (int) n_in);
	uint8_t    *quants = panel + scales_bytes;

	/* Padding of the two parts, at most 63 bytes each, is at their ends. */
	if (scales_bytes > 0)
		memset(quants - L3_ARENA_ALIGN, 0, L3_ARENA_ALIGN);
	memset(panel + panel_bytes - L3_ARENA_ALIGN, 0, L3_ARENA_ALIGN);

	if (file_types[from].is_float && to == L3_Q8_0)
	{
		quantize_q8_0(from, n_in, rows, panel, quants);
		return scales_finite(to, n_in, panel);
	}
	switch (from)
	{
		case L3_FILE_F32:
			return pack_words(from, n_in, rows, panel);
		case L3_FILE_F16:
			return pack_f16(n_in, rows, panel);
		case L3_FILE_BF16:
			return pack_bf16(n_in, rows, panel);
		case L3_FILE_Q8_0:
			pack_q8_0(n_in, rows, panel, quants);
			break;
		case L3_FILE_Q4_0:
			pack_q4_0(n_in, rows, panel, quants);
			break;
		case L3_FILE_Q5_0:
			pack_q5_0(n_in, rows, panel, quants);
			break;
		case L3_FILE_IQ4_NL:
			pack_iq4_nl(n_in, rows, panel, quants);
			break;
		case L3_FILE_Q4_1:
		case L3_FILE_Q5_1:
			pack_q8_1(from, n_in, rows, panel, quants);
			break;
		case L3_FILE_Q4_K:
			pack_q4_k(n_in, rows, panel, quants);
			break;
		case L3_FILE_Q6_K:
			pack_q6_k(n_in, rows, panel, quants);
			break;
		case L3_FILE_Q3_K:
			pack_q3_k(n_in, rows, panel, quants);
			break;
		case L3_FILE_Q2_K:
		case L3_FILE_Q5_K:
		case L3_FILE_IQ4_XS:
			pack_q8_k(from, n_in, rows, panel, quants);
			break;
		case L3_N_FILE_TYPES:
			break;
	}
	return scales_finite(to, n_in, panel);
}
