/*-------------------------------------------------------------------------
 *
 * test_pack.c
 *	  Every block type of files against its packed panels.
 *
 * Two decoders in double, each written from its own description and sharing
 * nothing with pack.c: one of the file's blocks (the definitions of ggml's
 * types), one of the panels (arena.h).  Packing loses nothing, so they must
 * agree exactly, on random bytes as on chosen ones.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "pack.h"

/* ----------------------------------------------------------------
 *		Random bytes
 * ----------------------------------------------------------------
 */

static uint64_t seed = 1;

static uint32_t
random32(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (seed >> 32);
}

/* IEEE binary16, by its definition. */
static double
half_value(const uint8_t *p)
{
	int			bits = p[0] | p[1] << 8;
	int			exponent = bits >> 10 & 31;
	double		mantissa = bits & 1023;
	double		magnitude;

	if (exponent == 0)
		magnitude = ldexp(mantissa, -24);
	else if (exponent == 31)
		magnitude = mantissa == 0 ? INFINITY : NAN;
	else
		magnitude = ldexp(1024 + mantissa, exponent - 25);
	return bits & 0x8000 ? -magnitude : magnitude;
}

static double
float_value(const uint8_t *p)
{
	float		f;

	memcpy(&f, p, sizeof(f));
	return f;
}

static double
bf16_value(const uint8_t *p)
{
	uint8_t		bytes[4] = {0, 0, p[0], p[1]};

	return float_value(bytes);
}

/* ----------------------------------------------------------------
 *		Blocks of files
 * ----------------------------------------------------------------
 */

static const int nonlinear[16] = {
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};

/* 4-bit value i of 32 in 16 bytes. */
static int
nibble(const uint8_t *b, int i)
{
	return i < 16 ? b[i] & 15 : b[i - 16] >> 4;
}

static int
bit(const uint8_t *b, int i)
{
	return b[i / 8] >> (i % 8) & 1;
}

/* Scale (and min) j of 8 in the 12 bytes of Q4_K and Q5_K. */
static void
scale_and_min(const uint8_t *s, int j, int *scale, int *min)
{
	if (j < 4)
	{
		*scale = s[j] & 63;
		*min = s[j + 4] & 63;
		return;
	}
	*scale = (s[j + 4] & 15) + ((s[j - 4] >> 6) << 4);
	*min = (s[j + 4] >> 4) + ((s[j] >> 6) << 4);
}

/* Scale j of 16 in the 12 bytes of Q3_K, -32 .. 31. */
static int
q3_scale(const uint8_t *s, int j)
{
	int			low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
	int			high = s[8 + j % 4] >> (2 * (j / 4)) & 3;

	return low + 16 * high - 32;
}

/* Value i of block p; groups of products as the arena rounds them. */
static double
file_value(L3FileType type, const uint8_t *p, int i)
{
	int			sc;
	int			mn;
	int			q;

	switch (type)
	{
		case L3_FILE_F32:
			return float_value(p);
		case L3_FILE_F16:
			return half_value(p);
		case L3_FILE_BF16:
			return bf16_value(p);
		case L3_FILE_Q8_0:
			return half_value(p) * (int8_t) p[2 + i];
		case L3_FILE_Q4_0:
			return half_value(p) * (nibble(p + 2, i) - 8);
		case L3_FILE_Q4_1:
			return half_value(p) * nibble(p + 4, i) + half_value(p + 2);
		case L3_FILE_Q5_0:
			return half_value(p) * (nibble(p + 6, i) + 16 * bit(p + 2, i) - 16);
		case L3_FILE_Q5_1:
			return half_value(p) * (nibble(p + 8, i) + 16 * bit(p + 4, i)) + half_value(p + 2);
		case L3_FILE_IQ4_NL:
			return half_value(p) * nonlinear[nibble(p + 2, i)];
		case L3_FILE_Q2_K:
			q = p[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
			return half_value(p + 80) * (p[i / 16] & 15) * q - half_value(p + 82) * (p[i / 16] >> 4);
		case L3_FILE_Q3_K:
			q = (p[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) -
				(p[i % 32] >> (i / 32) & 1 ? 0 : 4);
			return half_value(p + 108) * q3_scale(p + 96, i / 16) * q;
		case L3_FILE_Q4_K:
			scale_and_min(p + 4, i / 32, &sc, &mn);
			q = p[16 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
			return half_value(p) * sc * q - half_value(p + 2) * mn;
		case L3_FILE_Q5_K:
			scale_and_min(p + 4, i / 32, &sc, &mn);
			q = (p[48 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15) +
				16 * (p[16 + i % 32] >> (i / 32) & 1);
			return half_value(p) * sc * q - half_value(p + 2) * mn;
		case L3_FILE_Q6_K:
			q = (p[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15) +
				16 * (p[128 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - 32;
			return half_value(p + 208) * (int8_t) p[192 + i / 16] * q;
		case L3_FILE_IQ4_XS:
			sc = (p[4 + i / 64] >> (i / 32 % 2 * 4) & 15) +
				16 * ((p[2] | p[3] << 8) >> (i / 32 * 2) & 3) - 32;
			return half_value(p) * sc * nonlinear[nibble(p + 8 + i / 32 * 16, i % 32)];
		case L3_N_FILE_TYPES:
			break;
	}
	abort();
}

/* ----------------------------------------------------------------
 *		Panels (arena.h)
 * ----------------------------------------------------------------
 */

static double
panel_value(const uint8_t *panel, L3PackedType type, int zero_point, int n_in, int k, int c)
{
	const uint8_t *quants = panel + l3_panel_scales_bytes(type, n_in);
	const uint8_t *s;
	int			quad = k / 4 * 64 + c * 4 + k % 4;	/* place of a byte per value */
	int			r;
	int			sc;
	int			mn;
	int			q;

	switch (type)
	{
		case L3_F32:
			return float_value(panel + (k * 16 + c) * 4);
		case L3_F16:
			return half_value(panel + (k * 16 + c) * 2);
		case L3_BF16:
			return bf16_value(panel + (k / 2 * 32 + c * 2 + k % 2) * 2);
		case L3_Q8_0:
			return half_value(panel + (k / 32 * 16 + c) * 2) * (quants[quad] - 128);
		case L3_Q4_0:
			r = k % 32 / 4;
			q = quants[k / 32 * 256 + r % 4 * 64 + c * 4 + k % 4] >> (r / 4 * 4) & 15;
			return half_value(panel + (k / 32 * 16 + c) * 2) * (q - 8);
		case L3_Q8_1:
			s = panel + k / 32 * 64 + c * 2;
			return half_value(s) * quants[quad] + half_value(s + 32);
		case L3_Q4_K:
			s = panel + k / 256 * 256;
			{
				uint8_t		sm[12];

				for (int i = 0; i < 12; i++)
					sm[i] = s[64 + i * 16 + c];
				scale_and_min(sm, k % 256 / 32, &sc, &mn);
			}
			r = k % 256 / 32;
			q = quants[k / 256 * 2048 + r / 2 * 512 + k % 32 / 4 * 64 + c * 4 + k % 4] >> (r % 2 * 4) & 15;
			return half_value(s + c * 2) * sc * q - half_value(s + 32 + c * 2) * mn;
		case L3_Q6_K:
			s = panel + k / 256 * 288;
			r = k % 256 / 4;
			q = quants[k / 256 * 3072 + r % 32 * 64 + c * 4 + k % 4] >> (r / 32 * 4) & 15;
			q += 16 * (quants[k / 256 * 3072 + 2048 + r % 16 * 64 + c * 4 + k % 4] >> (r / 16 * 2) & 3);
			return half_value(s + c * 2) * (int8_t) s[32 + k % 256 / 16 * 16 + c] * (q - 32);
		case L3_Q8_K:
			s = panel + k / 256 * 576;
			sc = (int8_t) s[64 + k % 256 / 16 * 16 + c];
			mn = s[320 + k % 256 / 16 * 16 + c];
			return half_value(s + c * 2) * sc * (quants[quad] - zero_point) -
				half_value(s + 32 + c * 2) * mn;
		case L3_N_PACKED_TYPES:
			break;
	}
	abort();
}

/* ----------------------------------------------------------------
 *		Tests
 * ----------------------------------------------------------------
 */

/* Same number, or both not one. */
static bool
same(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

static void
fill(uint8_t *bytes, size_t n, int fill_byte)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t) (fill_byte >= 0 ? (uint32_t) fill_byte : random32() >> 11);
}

/*
 * Pack n_out rows (the rest of the panel is missing) of random or constant
 * bytes, into memory that was dirty, and compare every value.
 */
static bool
packs_exactly(L3FileType type, int n_in, int n_out, int fill_byte)
{
	const L3FileTypeInfo *info = l3_file_type(type);
	size_t		row_bytes = l3_file_row_bytes(type, (uint32_t) n_in);
	size_t		panel_bytes = l3_panel_bytes(info->packed, n_in);
	uint8_t    *file = malloc(row_bytes * 16 + 1);
	uint8_t    *zeros = calloc(1, row_bytes);
	uint8_t    *panel = aligned_alloc(64, panel_bytes);
	const uint8_t *rows[L3_PANEL];
	bool		ok = true;

	fill(file, row_bytes * 16 + 1, fill_byte);
	memset(panel, 0xA5, panel_bytes);
	/* One byte off: rows of files stand at any address. */
	for (int c = 0; c < 16; c++)
		rows[c] = c < n_out ? file + 1 + c * row_bytes : zeros;
	l3_pack_panel(type, info->packed, (uint32_t) n_in, rows, panel);

	for (int c = 0; c < 16 && ok; c++)
	{
		for (int k = 0; k < n_in && ok; k++)
		{
			double		expected = file_value(type, rows[c] + k / (int) info->block * (int) info->bytes,
											  k % (int) info->block);
			double		found = panel_value(panel, info->packed, (int) info->zero_point, n_in, k, c);

			ok = same(expected, found) && (c < n_out || found == 0);
			if (!ok)
				tap_note("%s, column %d, k %d: expected %g, found %g", info->name, c, k, expected, found);
		}
	}
	free(file);
	free(zeros);
	free(panel);
	return ok;
}

static void
test_types(void)
{
	for (int type = 0; type < L3_N_FILE_TYPES; type++)
	{
		const L3FileTypeInfo *info = l3_file_type((L3FileType) type);
		int			block = (int) info->block;
		bool		ok = true;

		for (int n_blocks = 1; n_blocks <= 5; n_blocks++)
			ok = ok && packs_exactly((L3FileType) type, block * n_blocks, 16, -1);
		ok = ok && packs_exactly((L3FileType) type, block * 3, 1, -1);
		ok = ok && packs_exactly((L3FileType) type, block * 2, 11, -1);
		tap_ok(ok, "%s packs to %s without loss", info->name, l3_packed_type_name(info->packed));
		ok = packs_exactly((L3FileType) type, block, 16, 0xFF) &&
			packs_exactly((L3FileType) type, block, 16, 0x00) &&
			packs_exactly((L3FileType) type, block, 16, 0x7B) &&
			packs_exactly((L3FileType) type, block, 16, 0x80);
		tap_ok(ok, "%s packs extreme scales and values", info->name);
	}
}

/* Padding is written, so that equal weights give equal bytes. */
static void
test_padding(void)
{
	bool		ok = true;

	for (int type = 0; type < L3_N_FILE_TYPES; type++)
	{
		const L3FileTypeInfo *info = l3_file_type((L3FileType) type);
		int			n_in = (int) info->block * 3;
		size_t		panel_bytes = l3_panel_bytes(info->packed, n_in);
		size_t		row_bytes = l3_file_row_bytes((L3FileType) type, (uint32_t) n_in);
		uint8_t    *row = malloc(row_bytes);
		uint8_t    *one = malloc(panel_bytes);
		uint8_t    *two = malloc(panel_bytes);
		const uint8_t *rows[L3_PANEL];

		fill(row, row_bytes, -1);
		for (int c = 0; c < 16; c++)
			rows[c] = row;
		memset(one, 0x00, panel_bytes);
		memset(two, 0xFF, panel_bytes);
		l3_pack_panel((L3FileType) type, info->packed, (uint32_t) n_in, rows, one);
		l3_pack_panel((L3FileType) type, info->packed, (uint32_t) n_in, rows, two);
		ok = ok && panel_bytes % 64 == 0 && memcmp(one, two, panel_bytes) == 0;
		free(row);
		free(one);
		free(two);
	}
	tap_ok(ok, "a panel is a multiple of 64 bytes and written wholly");
}

/* What Q8_0 at load must be, value by value, from the formula in double. */
static bool
quantizes(L3FileType type, const float *x, int n_in)
{
	size_t		value_bytes = l3_file_type(type)->bytes;
	uint8_t    *row = malloc((size_t) n_in * value_bytes);
	uint8_t    *panel = malloc(l3_panel_bytes(L3_Q8_0, n_in));
	const uint8_t *quants = panel + l3_panel_scales_bytes(L3_Q8_0, n_in);
	const uint8_t *rows[L3_PANEL];
	bool		ok = true;

	for (int k = 0; k < n_in; k++)
	{
		uint32_t	bits = l3_float_to_bits(x[k]);
		uint16_t	half = l3_float_to_half(x[k]);

		if (type == L3_FILE_F32)
			memcpy(row + k * 4, &bits, 4);
		else if (type == L3_FILE_F16)
			memcpy(row + k * 2, &half, 2);
		else
			memcpy(row + k * 2, (uint8_t *) &bits + 2, 2);
	}
	for (int c = 0; c < 16; c++)
		rows[c] = row;
	l3_pack_panel(type, L3_Q8_0, (uint32_t) n_in, rows, panel);

	for (int k = 0; k < n_in && ok; k++)
	{
		int			first = k / 32 * 32;
		double		max = 0;
		double		d;
		double		value = file_value(type, row + (size_t) k * value_bytes, 0);
		double		stored = half_value(panel + (k / 32 * 16 + 5) * 2);
		int			q = quants[k / 4 * 64 + 5 * 4 + k % 4] - 128;

		for (int i = first; i < first + 32; i++)
			max = fmax(max, fabs(file_value(type, row + (size_t) i * value_bytes, 0)));
		d = max / 127;
		/* A half has 11 bits, or steps of 2^-24; q is within rounding. */
		ok = fabs(stored - d) <= fmax(d / 2048, ldexp(1, -25)) &&
			(max == 0 ? q == 0 : fabs(value / d - q) <= 0.5 + 1e-4) && q >= -127;
		if (!ok)
			tap_note("k %d: value %g, d %g, stored %g, q %d", k, value, d, stored, q);
	}
	free(row);
	free(panel);
	return ok;
}

static void
test_quantize(void)
{
	float		x[96];

	for (int i = 0; i < 96; i++)
		x[i] = (float) ((int) (random32() % 2001) - 1000) / 256;
	tap_ok(quantizes(L3_FILE_F32, x, 96), "F32 quantises to Q8_0 by the formula");
	tap_ok(quantizes(L3_FILE_F16, x, 96), "F16 quantises to Q8_0 by the formula");
	tap_ok(quantizes(L3_FILE_BF16, x, 96), "BF16 quantises to Q8_0 by the formula");
	for (int i = 0; i < 96; i++)
		x[i] = i < 32 ? 0 : i == 40 ? -6e4f : i < 64 ? 1e-3f : (float) i * 1e-6f;
	tap_ok(quantizes(L3_FILE_F32, x, 96), "groups that are zero, uneven or tiny quantise by the formula");
}

/* All 65536 halves, and the way back. */
static void
test_half(void)
{
	bool		widens = true;
	bool		narrows = true;

	for (uint32_t h = 0; h < 65536; h++)
	{
		uint8_t		bytes[2] = {(uint8_t) h, (uint8_t) (h >> 8)};
		float		f = l3_half_to_float((uint16_t) h);

		widens = widens && same(half_value(bytes), f) && (signbit(f) != 0) == (h >> 15 != 0);
		narrows = narrows && (isnan(f) ? isnan(l3_half_to_float(l3_float_to_half(f))) :
							  l3_float_to_half(f) == h);
	}
	tap_ok(widens, "every half widens exactly");
	tap_ok(narrows, "every half comes back from float");
	tap_ok(l3_float_to_half(1.0f + 0x1p-11f) == 0x3C00 && l3_float_to_half(1.0f + 0x3p-11f) == 0x3C02 &&
		   l3_float_to_half(0x1p-25f) == 0 && l3_float_to_half(0x1.8p-24f) == 2 &&
		   l3_float_to_half(65519.0f) == 0x7BFF && l3_float_to_half(65520.0f) == 0x7C00 &&
		   l3_float_to_half(-0x1p-15f) == 0x8200,
		   "float to half rounds to nearest, ties to even");
}

/* Where the halves of a file's block stand; -1: there is no second. */
static const int half_places[L3_N_FILE_TYPES][2] = {
	[L3_FILE_Q8_0] = {0, -1},
	[L3_FILE_Q4_0] = {0, -1},
	[L3_FILE_Q4_1] = {0, 2},
	[L3_FILE_Q5_0] = {0, -1},
	[L3_FILE_Q5_1] = {0, 2},
	[L3_FILE_Q2_K] = {80, 82},
	[L3_FILE_Q3_K] = {108, -1},
	[L3_FILE_Q4_K] = {0, 2},
	[L3_FILE_Q5_K] = {0, 2},
	[L3_FILE_Q6_K] = {208, -1},
	[L3_FILE_IQ4_NL] = {0, -1},
	[L3_FILE_IQ4_XS] = {0, -1},
};

/* Pack 16 rows of n_in values and look at the panel. */
static bool
is_finite(L3FileType type, L3PackedType to, int n_in, const uint8_t *file)
{
	uint8_t    *panel = aligned_alloc(64, l3_panel_bytes(to, n_in));
	const uint8_t *rows[L3_PANEL];
	bool		finite;

	for (int c = 0; c < 16; c++)
		rows[c] = file + (size_t) c * l3_file_row_bytes(type, (uint32_t) n_in);
	finite = l3_pack_panel(type, to, (uint32_t) n_in, rows, panel);
	free(panel);
	return finite;
}

/*
 * All bits set but in the halves: finite.  One half (float) after another made
 * infinite or not a number, in any block and column: not finite.
 */
static bool
finds_every_bad_half(L3FileType type, int n_blocks)
{
	const L3FileTypeInfo *info = l3_file_type(type);
	int			n_in = n_blocks * (int) info->block;
	int			all = n_blocks * 16;
	uint8_t    *file = malloc((size_t) all * info->bytes);
	bool		ok;

	memset(file, 0xFF, (size_t) all * info->bytes);
	for (int b = 0; b < all; b++)
	{
		for (int i = 0; i < 2 && half_places[type][i] >= 0; i++)
			memcpy(file + b * (int) info->bytes + half_places[type][i], "\xFF\x7B", 2);
	}
	ok = is_finite(type, info->packed, n_in, file);
	for (int b = 0; b < all && ok; b++)
	{
		for (int i = 0; i < 2 && half_places[type][i] >= 0; i++)
		{
			uint8_t    *half = file + b * (int) info->bytes + half_places[type][i];

			memcpy(half, b % 2 ? "\x00\xFC" : "\x01\x7C", 2);
			ok = ok && !is_finite(type, info->packed, n_in, file);
			memcpy(half, "\xFF\x7B", 2);
		}
	}
	free(file);
	return ok;
}

/* The same for a float type; bad[0] and bad[1] are its values. */
static bool
finds_every_bad_float(L3FileType type, L3PackedType to, int n_in, const void *good, const void *bad)
{
	size_t		bytes = l3_file_type(type)->bytes;
	uint8_t    *file = malloc((size_t) n_in * 16 * bytes);
	bool		ok;

	for (int i = 0; i < n_in * 16; i++)
		memcpy(file + (size_t) i * bytes, good, bytes);
	ok = is_finite(type, to, n_in, file);
	for (int i = 0; i < n_in * 16 && ok; i++)
	{
		memcpy(file + (size_t) i * bytes, (const uint8_t *) bad + (size_t) (i % 2) * bytes, bytes);
		ok = !is_finite(type, to, n_in, file);
		memcpy(file + (size_t) i * bytes, good, bytes);
	}
	free(file);
	return ok;
}

static void
test_finite(void)
{
	const float large = -3e38f;
	const float bad[2] = {INFINITY, -NAN};
	const float out_of_half[2] = {-9e6f, NAN};	/* its scale is more than 65504 */
	const float small = 1;

	for (int type = 0; type < L3_N_FILE_TYPES; type++)
	{
		if (!l3_file_type((L3FileType) type)->is_float)
			tap_ok(finds_every_bad_half((L3FileType) type, 1) && finds_every_bad_half((L3FileType) type, 3),
				   "%s: every scale that is not finite is found", l3_file_type((L3FileType) type)->name);
	}
	tap_ok(finds_every_bad_float(L3_FILE_F32, L3_F32, 3, &large, bad), "F32: every value that is not finite is found");
	tap_ok(finds_every_bad_float(L3_FILE_F16, L3_F16, 3, "\xFF\xFB", "\x00\x7C\xFF\xFF"),
		   "F16: every value that is not finite is found");
	tap_ok(finds_every_bad_float(L3_FILE_BF16, L3_BF16, 3, "\x7F\xFF", "\x80\x7F\xFF\xFF"),
		   "BF16: every value that is not finite is found");
	tap_ok(finds_every_bad_float(L3_FILE_F32, L3_Q8_0, 32, &small, out_of_half),
		   "quantised: every group that has no finite scale is found");
}

int
main(void)
{
	test_finite();
	test_types();
	test_padding();
	test_quantize();
	test_half();
	return tap_done();
}
