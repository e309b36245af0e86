/*-------------------------------------------------------------------------
 *
 * ref_dequant.c
 *	  The values of ggml's block formats, one value at a time.
 *
 * Each function takes the block and the number n of the value in it, and
 * reads off the format's description where its bits stand.  Slow, and easy to
 * hold beside the description.
 *
 * Source: ggml's public definition of the block types (ggml-common.h) and the
 * wiki's description of tensor encodings.
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"

#include <math.h>
#include <string.h>

static double
half(const uint8_t *p)
{
	int			bits = p[0] | p[1] << 8;
	double		sign = bits & 0x8000 ? -1 : 1;
	int			exponent = bits >> 10 & 31;
	int			mantissa = bits & 1023;

	if (exponent == 31)
		return mantissa ? NAN : sign * INFINITY;
	if (exponent == 0)
		return sign * ldexp(mantissa, -24);
	return sign * ldexp(1024 + mantissa, exponent - 25);
}

static double
value_f32(const uint8_t *b, int n)
{
	float		f;

	memcpy(&f, b + 4 * n, sizeof(f));
	return f;
}

static double
value_f16(const uint8_t *b, int n)
{
	return half(b + 2 * n);
}

/* The upper half of a float. */
static double
value_bf16(const uint8_t *b, int n)
{
	const uint8_t widened[4] = {0, 0, b[2 * n], b[2 * n + 1]};

	return value_f32(widened, 0);
}

/* ----------------------------------------------------------------
 *		Blocks of 32
 * ----------------------------------------------------------------
 */

/* 16 bytes: values 0..15 in the low nibbles, 16..31 in the high ones. */
static int
nibble32(const uint8_t *qs, int n)
{
	return n < 16 ? qs[n] & 15 : qs[n - 16] >> 4;
}

/* Bit n of a 32-bit word, as the fifth bit of a value. */
static int
fifth_bit(const uint8_t *qh, int n)
{
	return (qh[n / 8] >> (n % 8) & 1) << 4;
}

static double
value_q8_0(const uint8_t *b, int n)
{
	return half(b) * (int8_t) b[2 + n];
}

static double
value_q4_0(const uint8_t *b, int n)
{
	return half(b) * (nibble32(b + 2, n) - 8);
}

static double
value_q4_1(const uint8_t *b, int n)
{
	return half(b) * nibble32(b + 4, n) + half(b + 2);
}

static double
value_q5_0(const uint8_t *b, int n)
{
	return half(b) * ((nibble32(b + 6, n) | fifth_bit(b + 2, n)) - 16);
}

static double
value_q5_1(const uint8_t *b, int n)
{
	return half(b) * (nibble32(b + 8, n) | fifth_bit(b + 4, n)) + half(b + 2);
}

/* The 16 levels of the non-linear 4-bit types. */
static const int levels[16] = {
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};

static double
value_iq4_nl(const uint8_t *b, int n)
{
	return half(b) * levels[nibble32(b + 2, n)];
}

/* ----------------------------------------------------------------
 *		Superblocks of 256
 * ----------------------------------------------------------------
 */

/* 64 bytes: each half of 128 values in 32 bytes, its four rows of 32 in two bits each. */
static int
two_bits(const uint8_t *qs, int n)
{
	return qs[n / 128 * 32 + n % 32] >> (n / 32 % 4 * 2) & 3;
}

/* 128 bytes: groups of 32 in pairs, the even one in the low nibbles. */
static int
nibble256(const uint8_t *qs, int n)
{
	return qs[n / 64 * 32 + n % 32] >> (n / 32 % 2 * 4) & 15;
}

/* scales[16] (4 bit scale, 4 bit min), qs[64], d, dmin */
static double
value_q2_k(const uint8_t *b, int n)
{
	int			scale = b[n / 16];

	return half(b + 80) * (scale & 15) * two_bits(b + 16, n) - half(b + 82) * (scale >> 4);
}

/* hmask[32], qs[64], scales[12], d; a mask bit that is not set subtracts 4 */
static double
value_q3_k(const uint8_t *b, int n)
{
	const uint8_t *scales = b + 96;
	int			group = n / 16;
	int			low = scales[group % 8] >> (group / 8 * 4) & 15;
	int			high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
	int			q = two_bits(b + 32, n) - (b[n % 32] >> (n / 32) & 1 ? 0 : 4);

	return half(b + 108) * ((low | high << 4) - 32) * q;
}

/*
 * 12 bytes with eight 6-bit scales and eight 6-bit mins: the first four of
 * each in the low six bits of bytes 0..3 and 4..7; of the last four, the low
 * nibbles in bytes 8..11 (scale low, min high), the rest in the upper bits of
 * bytes 0..3 and 4..7.
 */
static void
scale_and_min(const uint8_t *s, int group, int *scale, int *min)
{
	if (group < 4)
	{
		*scale = s[group] & 63;
		*min = s[group + 4] & 63;
	}
	else
	{
		*scale = (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
		*min = s[group + 4] >> 4 | s[group] >> 6 << 4;
	}
}

/* d, dmin, scales[12], qs[128] */
static double
value_q4_k(const uint8_t *b, int n)
{
	int			scale,
				min;

	scale_and_min(b + 4, n / 32, &scale, &min);
	return half(b) * scale * nibble256(b + 16, n) - half(b + 2) * min;
}

/* d, dmin, scales[12], qh[32], qs[128] */
static double
value_q5_k(const uint8_t *b, int n)
{
	int			scale,
				min;
	int			high = b[16 + n % 32] >> (n / 32) & 1;

	scale_and_min(b + 4, n / 32, &scale, &min);
	return half(b) * scale * (nibble256(b + 48, n) | high << 4) - half(b + 2) * min;
}

/*
 * ql[128], qh[64], int8 scales[16], d.  In each half of 128: rows 0 and 1 of
 * 32 values in the low nibbles of its 64 bytes of ql, rows 2 and 3 in the
 * high nibbles; two more bits of each row in its 32 bytes of qh.
 */
static double
value_q6_k(const uint8_t *b, int n)
{
	int			row = n / 32 % 4;
	int			low = b[n / 128 * 64 + row % 2 * 32 + n % 32] >> (row / 2 * 4) & 15;
	int			high = two_bits(b + 128, n);

	return half(b + 208) * (int8_t) b[192 + n / 16] * ((low | high << 4) - 32);
}

/* d, scales_h (16 bit), scales_l[4], qs[128] as eight groups like IQ4_NL's */
static double
value_iq4_xs(const uint8_t *b, int n)
{
	int			group = n / 32;
	int			low = b[4 + group / 2] >> (group % 2 * 4) & 15;
	int			high = (b[2] | b[3] << 8) >> (2 * group) & 3;

	return half(b) * ((low | high << 4) - 32) * levels[nibble32(b + 8 + 16 * group, n % 32)];
}

/* ----------------------------------------------------------------
 *		By type
 * ----------------------------------------------------------------
 */

typedef struct RefType
{
	uint32_t	ggml_type;
	int			block;
	int			bytes;
	double		(*value) (const uint8_t *block, int n);
} RefType;

static const RefType types[] = {
	{REF_TYPE_F32, 1, 4, value_f32},
	{REF_TYPE_F16, 1, 2, value_f16},
	{2, 32, 18, value_q4_0},
	{3, 32, 20, value_q4_1},
	{6, 32, 22, value_q5_0},
	{7, 32, 24, value_q5_1},
	{8, 32, 34, value_q8_0},
	{10, 256, 84, value_q2_k},
	{11, 256, 110, value_q3_k},
	{12, 256, 144, value_q4_k},
	{13, 256, 176, value_q5_k},
	{14, 256, 210, value_q6_k},
	{20, 32, 18, value_iq4_nl},
	{23, 256, 136, value_iq4_xs},
	{REF_TYPE_BF16, 1, 2, value_bf16},
};

static const RefType *
find_type(uint32_t ggml_type)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
	{
		if (types[i].ggml_type == ggml_type)
			return &types[i];
	}
	return NULL;
}

bool
ref_type_layout(uint32_t ggml_type, int *block, int *bytes)
{
	const RefType *t = find_type(ggml_type);

	if (!t)
		return false;
	*block = t->block;
	*bytes = t->bytes;
	return true;
}

void
ref_dequantise(uint32_t ggml_type, const uint8_t *data, size_t n, double *out)
{
	const RefType *t = find_type(ggml_type);

	if (!t || n % (size_t) t->block != 0)
		ref_fail("%zu values are not blocks of type %u", n, ggml_type);
	for (size_t i = 0; i < n; i++)
		out[i] = t->value(data + i / (size_t) t->block * (size_t) t->bytes, (int) (i % (size_t) t->block));
}
