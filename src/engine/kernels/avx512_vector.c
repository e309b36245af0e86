/*-------------------------------------------------------------------------
 *
 * avx512_vector.c
 *	  Norms, rotation, activation function and reductions in AVX-512.
 *
 * The last, partial vector is a masked one, so that every element goes through
 * the same operations wherever it stands.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx512.h"

TARGET512 static void
rms_norm(float *y, const float *x, const float *weight, int n, float eps)
{
	__m512		chain = _mm512_setzero_ps();
	__m512		scale;

	for (int i = 0; i < n; i += 16)
	{
		__m512		v = _mm512_maskz_loadu_ps(first_lanes(n - i), x + i);

		chain = _mm512_fmadd_ps(v, v, chain);
	}
	scale = _mm512_set1_ps(1.0f / sqrtf(sum16_tree(chain) / (float) n + eps));
	for (int i = 0; i < n; i += 16)
	{
		__mmask16	mask = first_lanes(n - i);
		__m512		v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), scale);

		_mm512_mask_storeu_ps(y + i, mask,
							  _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + i)));
	}
}

TARGET512 static void
rope(float *x, int n_heads, int head_dim, int rope_dim, const float *cosine,
	 const float *sine, float scale)
{
	const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
	const __m512 factor = _mm512_set1_ps(scale);

	for (int h = 0; h < n_heads; h++, x += head_dim)
	{
		for (int i = 0; i < rope_dim; i += 16)
		{
			__mmask16	mask = first_lanes(rope_dim - i);
			__mmask16	pairs = first_lanes((rope_dim - i) / 2);
			__m512		v = _mm512_maskz_loadu_ps(mask, x + i);
			__m512		c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(pairs & 0xFF, cosine + i / 2));
			__m512		s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(pairs & 0xFF, sine + i / 2));

			/* even lanes: a c - b s; odd lanes: b c + a s */
			v = _mm512_fmaddsub_ps(v, c, _mm512_mul_ps(_mm512_permute_ps(v, 0xB1), s));
			_mm512_mask_storeu_ps(x + i, mask, _mm512_mul_ps(v, factor));
		}
		for (int i = rope_dim; i < head_dim; i += 16)
		{
			__mmask16	mask = first_lanes(head_dim - i);

			_mm512_mask_storeu_ps(x + i, mask,
								  _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor));
		}
	}
}

TARGET512 static void
swiglu(float *gate, const float *up, int n)
{
	const __m512 one = _mm512_set1_ps(1.0f);

	for (int i = 0; i < n; i += 16)
	{
		__mmask16	mask = first_lanes(n - i);
		__m512		g = _mm512_maskz_loadu_ps(mask, gate + i);
		__m512		e = exp16(_mm512_xor_ps(g, _mm512_set1_ps(-0.0f)));
		__m512		silu = _mm512_div_ps(g, _mm512_add_ps(one, e));

		_mm512_mask_storeu_ps(gate + i, mask,
							  _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i)));
	}
}

/* The largest of n values, -infinity when all are NaN. */
TARGET512 static float
largest(const float *x, int n)
{
	__m512		max = _mm512_set1_ps(-INFINITY);

	/* With a NaN the second operand is the result. */
	for (int i = 0; i < n; i += 16)
		max = _mm512_mask_max_ps(max, first_lanes(n - i),
								 _mm512_maskz_loadu_ps(first_lanes(n - i), x + i), max);
	return _mm512_reduce_max_ps(max);
}

TARGET512 static int
argmax(const float *x, int n)
{
	__m512		max = _mm512_set1_ps(largest(x, n));

	for (int i = 0; i < n; i += 16)
	{
		__mmask16	mask = first_lanes(n - i);
		__mmask16	equal = _mm512_mask_cmp_ps_mask(mask, _mm512_maskz_loadu_ps(mask, x + i),
													max, _CMP_EQ_OQ);

		if (equal)
			return i + __builtin_ctz(equal);
	}
	return 0;
}

/* l3_exp_negative in 8 lanes */
TARGET512 INLINE __m512d
exp_negative8(__m512d x)
{
	static const double c[14] = {
		1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
		1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24,
		1.0 / 6, 0.5, 1.0, 1.0
	};
	__m512d		magic = _mm512_set1_pd(L3_ROUND_MAGIC);
	__m512d		t,
				r,
				p;

	x = _mm512_max_pd(_mm512_set1_pd(L3_EXP_MIN), x);
	t = _mm512_sub_pd(_mm512_fmadd_pd(x, _mm512_set1_pd(L3_LOG2E), magic), magic);
	r = _mm512_fnmadd_pd(t, _mm512_set1_pd(L3_LN2_HI), x);
	r = _mm512_fnmadd_pd(t, _mm512_set1_pd(L3_LN2_LO), r);
	p = _mm512_set1_pd(c[0]);
	UNROLL
	for (int i = 1; i < 14; i++)
		p = _mm512_fmadd_pd(p, r, _mm512_set1_pd(c[i]));
	return _mm512_scalef_pd(p, t);
}

TARGET512 static double
logsumexp(const float *x, int n)
{
	__m512d		chain = _mm512_setzero_pd();
	float		max = largest(x, n);
	double		sum[8];

	if (max == -INFINITY || max == INFINITY)
	{
		/* Nothing to sum, but a NaN shows. */
		for (int i = 0; i < n; i++)
			if (x[i] != x[i])
				return (double) x[i];
		return (double) max;
	}
	for (int i = 0; i < n; i += 8)
	{
		__mmask8	mask = (__mmask8) first_lanes(n - i);
		__m512d		v = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, x + i));

		v = exp_negative8(_mm512_sub_pd(v, _mm512_set1_pd(max)));
		chain = _mm512_mask_add_pd(chain, mask, chain, v);
	}
	_mm512_storeu_pd(sum, chain);
	for (int half = 4; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			sum[i] += sum[i + half];
	return (double) max + log(sum[0]);
}

void
l3_avx512_vector(L3Kernels *kernels)
{
	kernels->rms_norm = rms_norm;
	kernels->rope = rope;
	kernels->swiglu = swiglu;
	kernels->argmax = argmax;
	kernels->logsumexp = logsumexp;
}

#endif							/* __x86_64__ */
