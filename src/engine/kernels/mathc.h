/*-------------------------------------------------------------------------
 *
 * mathc.h
 *	  Scalar arithmetic of the portable kernels.
 *
 * The exponentials are our own, so that results do not hang on the C library:
 * x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor polynomial of e^r, long
 * enough that its remainder is below a tenth of an ulp, then two exact
 * multiplications by powers of two (one could not reach subnormals).
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_MATHC_H
#define L3_MATHC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/*
 * The multiply-add of float chains: fused where that is one instruction.
 * A library call for each would be some tens of times slower.
 */
static inline float
l3_madd(float a, float b, float c)
{
#if defined(FP_FAST_FMAF)
	return __builtin_fmaf(a, b, c);
#else
	return a * b + c;
#endif
}

/*
 * fma(a, b, c) rounded once, as the hardware does it, on any machine: the
 * product is exact in double, the sum is rounded to odd, and rounding that to
 * float is then correct (Boldo and Melquiond, "Emulation of FMA and correctly
 * rounded sums: proved algorithms using rounding to odd", 2008).
 */
static inline float
l3_fma(float a, float b, float c)
{
#if defined(FP_FAST_FMAF)
	return __builtin_fmaf(a, b, c);
#else
	double		product = (double) a * b;
	double		sum = product + c;
	double		part = sum - product;
	double		error = (product - (sum - part)) + (c - part);
	uint64_t	bits;

	memcpy(&bits, &sum, sizeof(bits));
	/* A NaN error (something infinite) fails both comparisons. */
	if ((error > 0 || error < 0) && (bits & 1) == 0)
		bits += (error > 0) == (sum > 0) ? 1 : -1;
	memcpy(&sum, &bits, sizeof(sum));
	return (float) sum;
#endif
}

#define L3_EXPF_MIN		-104.0f /* e^x rounds to 0 below */
#define L3_EXPF_MAX		89.0f	/* overflows above */
#define L3_LOG2E_F		0x1.715476p+0f
#define L3_LN2_HI_F		0x1.62ep-1f /* n * this is exact */
#define L3_LN2_LO_F		0x1.0bfbe8p-15f

/* Adding and taking away 1.5 * 2^23 rounds to the nearest integer. */
#define L3_ROUND_MAGIC_F	0x1.8p23f

/* 2^n for -126 <= n <= 127 */
static inline float
l3_exp2i(int n)
{
	uint32_t	bits = (uint32_t) (n + 127) << 23;
	float		f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* e^x within 1 ulp; NaN gives NaN */
static inline float
l3_expf(float x)
{
	float		t,
				r,
				p;
	int			n;

	if (x != x)
		return x;
	x = x < L3_EXPF_MIN ? L3_EXPF_MIN : x;
	x = x > L3_EXPF_MAX ? L3_EXPF_MAX : x;
	t = l3_madd(x, L3_LOG2E_F, L3_ROUND_MAGIC_F) - L3_ROUND_MAGIC_F;
	n = (int) t;
	r = l3_madd(t, -L3_LN2_HI_F, x);
	r = l3_madd(t, -L3_LN2_LO_F, r);
	p = 1.0f / 5040;
	p = l3_madd(p, r, 1.0f / 720);
	p = l3_madd(p, r, 1.0f / 120);
	p = l3_madd(p, r, 1.0f / 24);
	p = l3_madd(p, r, 1.0f / 6);
	p = l3_madd(p, r, 0.5f);
	p = l3_madd(p, r, 1.0f);
	p = l3_madd(p, r, 1.0f);
	return p * l3_exp2i(n / 2) * l3_exp2i(n - n / 2);
}

#define L3_EXP_MIN		-708.0	/* taken as e^-708 = 3e-308 below */
#define L3_LOG2E		0x1.71547652b82fep+0
#define L3_LN2_HI		0x1.62e42feep-1
#define L3_LN2_LO		0x1.a39ef35793c76p-33
#define L3_ROUND_MAGIC	0x1.8p52

/*
 * e^x for x <= 0, in double, within 1 ulp down to L3_EXP_MIN; what is smaller
 * is as good as nothing in a sum that holds a 1.
 */
static inline double
l3_exp_negative(double x)
{
	/* 1/13! .. 1/0! */
	static const double c[14] = {
		1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
		1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24,
		1.0 / 6, 0.5, 1.0, 1.0
	};
	double		t,
				r,
				p,
				power;
	uint64_t	bits;

	if (x != x)
		return x;
	x = x < L3_EXP_MIN ? L3_EXP_MIN : x;
	t = (x * L3_LOG2E + L3_ROUND_MAGIC) - L3_ROUND_MAGIC;
	r = x - t * L3_LN2_HI;
	r = r - t * L3_LN2_LO;
	p = c[0];
	for (int i = 1; i < 14; i++)
		p = p * r + c[i];
	bits = (uint64_t) ((int64_t) t + 1023) << 52;
	memcpy(&power, &bits, sizeof(power));
	return p * power;
}

#endif							/* L3_MATHC_H */
