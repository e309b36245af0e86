/*-------------------------------------------------------------------------
 *
 * half.h
 *	  Conversions between the 16-bit float formats and float.
 *
 * In integer arithmetic and exact scaling, so that every compiler and machine
 * gives the same bits and no instruction set is assumed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_HALF_H
#define L3_HALF_H

#include <stdint.h>
#include <string.h>

static inline float
l3_bits_to_float(uint32_t bits)
{
	float		f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t
l3_float_to_bits(float f)
{
	uint32_t	bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

/* IEEE 754 binary16 to binary32; exact. */
static inline float
l3_half_to_float(uint16_t h)
{
	uint32_t	magnitude = h & 0x7FFF;
	uint32_t	sign = (uint32_t) (h & 0x8000) << 16;

	if (magnitude >= 0x7C00)	/* infinity, NaN */
		return l3_bits_to_float(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
	/* Move the exponent's bias from 15 to 127; subnormals become normal. */
	magnitude = l3_float_to_bits(l3_bits_to_float(magnitude << 13) * 0x1p112f);
	return l3_bits_to_float(sign | magnitude);
}

/* binary32 to binary16, to nearest, ties to even. */
static inline uint16_t
l3_float_to_half(float f)
{
	uint32_t	bits = l3_float_to_bits(f);
	uint16_t	sign = (uint16_t) (bits >> 16 & 0x8000);
	uint32_t	magnitude = bits & 0x7FFFFFFF;

	if (magnitude > 0x7F800000)
		return sign | 0x7E00;
	if (magnitude >= 0x477FF000)	/* rounds to 2^16 or more */
		return sign | 0x7C00;
	if (magnitude < 0x38800000) /* below 2^-14: the result is subnormal */
	{
		/* Adding 1/2 puts the unit of the sum's last place at 2^-24. */
		float		sum = l3_bits_to_float(magnitude) + 0.5f;

		return sign | (uint16_t) (l3_float_to_bits(sum) - 0x3F000000);
	}
	magnitude += 0xFFF + (magnitude >> 13 & 1);
	return sign | (uint16_t) ((magnitude - 0x38000000) >> 13);
}

static inline float
l3_bf16_to_float(uint16_t b)
{
	return l3_bits_to_float((uint32_t) b << 16);
}

#endif							/* L3_HALF_H */
