/*-------------------------------------------------------------------------
 *
 * loops.c
 *	  The arithmetic between the matrix products, row by row.
 *
 * Plain loops that the compiler vectorises, compiled for three levels of
 * x86-64 and chosen at program start.  What a compiler may not do by itself,
 * reorder a sum, is written out: sums are kept in LANES parts.  The
 * exponential is our own, because a call of the C library's would keep the
 * loop around it scalar.
 *
 *-------------------------------------------------------------------------
 */
#include "loops.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES	16				/* parts of a sum: an AVX-512 vector */

#define INLINE	static inline __attribute__((always_inline))

/*
 * e^x, relative error below 3e-7, for x that is clamped to where the result is
 * a normal number: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor's polynomial of
 * e^r, times 2^n by way of the exponent's bits.
 */
#define EXP_MIN		-87.0f
#define EXP_MAX		88.0f

INLINE float
exp_clamped(float x)
{
	float		n,
				r,
				p,
				power;
	int32_t		bits;

	x = x > EXP_MIN ? x : EXP_MIN;
	x = x < EXP_MAX ? x : EXP_MAX;
	/* Adding and taking away 1.5 * 2^23 rounds to the nearest integer. */
	n = (x * 0x1.715476p+0f + 0x1.8p23f) - 0x1.8p23f;
	r = x - n * 0x1.62ep-1f;	/* ln 2 in two parts */
	r = r - n * 0x1.0bfbe8p-15f;
	p = 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	bits = ((int32_t) n + 127) << 23;
	memcpy(&power, &bits, sizeof(power));
	return p * power;
}

INLINE float
sum_parts(const float *part)
{
	float		sum = 0;

	for (int j = 0; j < LANES; j++)
		sum += part[j];
	return sum;
}

TR_CLONES float
tr_dot(const float *x, const float *y, int n)
{
	float		part[LANES] = {0};
	int			i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int j = 0; j < LANES; j++)
			part[j] += x[i + j] * y[i + j];
	for (int j = 0; i + j < n; j++)
		part[j] += x[i + j] * y[i + j];
	return sum_parts(part);
}

TR_CLONES void
tr_add(float *restrict y, const float *restrict x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

TR_CLONES void
tr_add_scaled(float *restrict y, const float *restrict x, float scale, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += scale * x[i];
}

TR_CLONES float
tr_softmax(float *x, int n, float scale)
{
	float		part[LANES];
	float		largest = x[0];
	float		sum;
	int			i = 0;

	for (int j = 0; j < LANES; j++)
		part[j] = x[0];
	for (; i + LANES <= n; i += LANES)
		for (int j = 0; j < LANES; j++)
			part[j] = x[i + j] > part[j] ? x[i + j] : part[j];
	for (int j = 0; i + j < n; j++)
		part[j] = x[i + j] > part[j] ? x[i + j] : part[j];
	for (int j = 0; j < LANES; j++)
		largest = part[j] > largest ? part[j] : largest;

	for (i = 0; i < n; i++)
		x[i] = exp_clamped(x[i] - largest);
	memset(part, 0, sizeof(part));
	for (i = 0; i + LANES <= n; i += LANES)
		for (int j = 0; j < LANES; j++)
			part[j] += x[i + j];
	for (int j = 0; i + j < n; j++)
		part[j] += x[i + j];
	sum = sum_parts(part);
	scale /= sum;
	for (i = 0; i < n; i++)
		x[i] *= scale;
	return largest + logf(sum);
}

TR_CLONES void
tr_exp_shifted(float *x, float shift, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = exp_clamped(x[i] - shift);
}

TR_CLONES void
tr_softmax_backward(float *restrict dx, const float *restrict p, float delta, int n)
{
	for (int i = 0; i < n; i++)
		dx[i] = p[i] * (dx[i] - delta);
}

TR_CLONES float
tr_rms_norm(float *restrict y, const float *restrict x, const float *restrict weight,
			int n, float eps)
{
	float		r = 1.0f / sqrtf(tr_dot(x, x, n) / (float) n + eps);

	for (int i = 0; i < n; i++)
		y[i] = x[i] * r * weight[i];
	return r;
}

TR_CLONES void
tr_rms_norm_backward(float *restrict dx, float *restrict dweight, const float *restrict dy,
					 const float *restrict x, const float *restrict weight, float r, int n)
{
	float		part[LANES] = {0};
	float		scale;
	int			i = 0;

	/* sum of dy * weight * x */
	for (; i + LANES <= n; i += LANES)
		for (int j = 0; j < LANES; j++)
			part[j] += dy[i + j] * weight[i + j] * x[i + j];
	for (int j = 0; i + j < n; j++)
		part[j] += dy[i + j] * weight[i + j] * x[i + j];
	scale = sum_parts(part) * r * r / (float) n;
	for (i = 0; i < n; i++)
	{
		dweight[i] += dy[i] * x[i] * r;
		dx[i] += r * (dy[i] * weight[i] - x[i] * scale);
	}
}

TR_CLONES void
tr_swiglu(float *restrict hidden, const float *restrict gate, const float *restrict up, int n)
{
	for (int i = 0; i < n; i++)
		hidden[i] = gate[i] / (1.0f + exp_clamped(-gate[i])) * up[i];
}

TR_CLONES void
tr_swiglu_backward(float *restrict dgate, float *restrict dup, const float *restrict dhidden,
				   const float *restrict gate, const float *restrict up, int n)
{
	for (int i = 0; i < n; i++)
	{
		float		sigmoid = 1.0f / (1.0f + exp_clamped(-gate[i]));
		float		silu = gate[i] * sigmoid;

		/* silu' = sigmoid + silu * (1 - sigmoid) */
		dgate[i] = dhidden[i] * up[i] * (sigmoid + silu * (1.0f - sigmoid));
		dup[i] = dhidden[i] * silu;
	}
}

TR_CLONES void
tr_rope(float *restrict x, const float *restrict turn, int n_heads, int head_dim,
		float direction)
{
	for (int h = 0; h < n_heads; h++, x += head_dim)
		for (int i = 0; i < head_dim; i += 2)
		{
			float		a = x[i];
			float		b = x[i + 1];
			float		cosine = turn[i];
			float		sine = direction * turn[i + 1];

			x[i] = a * cosine - b * sine;
			x[i + 1] = a * sine + b * cosine;
		}
}
