/*-------------------------------------------------------------------------
 *
 * avx2_vector.c
 *	  Norms, rotation, activation function and reductions in AVX2.
 *
 * The last, partial vector is a masked one, so that every element goes through
 * the same operations wherever it stands.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx2.h"

TARGET2 static void
rms_norm(float *y, const float *x, const float *weight, int n, float eps)
{
	__m256		chain[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
	__m256		scale;

	for (int i = 0; i < n; i += 16)
	{
		__m256		a = load_lanes(x + i, n - i);

		chain[0] = _mm256_fmadd_ps(a, a, chain[0]);
		if (i + 8 < n)
		{
			__m256		b = load_lanes(x + i + 8, n - i - 8);

			chain[1] = _mm256_fmadd_ps(b, b, chain[1]);
		}
	}
	scale = _mm256_set1_ps(1.0f / sqrtf(sum8_tree(_mm256_add_ps(chain[0], chain[1])) / (float) n + eps));
	for (int i = 0; i < n; i += 8)
	{
		__m256		v = _mm256_mul_ps(load_lanes(x + i, n - i), scale);

		store_lanes(y + i, _mm256_mul_ps(v, load_lanes(weight + i, n - i)), n - i);
	}
}

TARGET2 static void
rope(float *x, int n_heads, int head_dim, int rope_dim, const float *cosine,
	 const float *sine, float scale)
{
	const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
	const __m256 factor = _mm256_set1_ps(scale);

	for (int h = 0; h < n_heads; h++, x += head_dim)
	{
		for (int i = 0; i < rope_dim; i += 8)
		{
			int			n_pairs = (rope_dim - i) / 2 < 4 ? (rope_dim - i) / 2 : 4;
			__m256i		pairs = first_lanes(n_pairs);
			__m256		v = load_lanes(x + i, rope_dim - i);
			__m256		c = _mm256_permutevar8x32_ps(_mm256_maskload_ps(cosine + i / 2, pairs), twice);
			__m256		s = _mm256_permutevar8x32_ps(_mm256_maskload_ps(sine + i / 2, pairs), twice);

			/* even lanes: a c - b s; odd lanes: b c + a s */
			v = _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(_mm256_permute_ps(v, 0xB1), s));
			store_lanes(x + i, _mm256_mul_ps(v, factor), rope_dim - i);
		}
		for (int i = rope_dim; i < head_dim; i += 8)
			store_lanes(x + i, _mm256_mul_ps(load_lanes(x + i, head_dim - i), factor), head_dim - i);
	}
}

TARGET2 static void
swiglu(float *gate, const float *up, int n)
{
	const __m256 one = _mm256_set1_ps(1.0f);

	for (int i = 0; i < n; i += 8)
	{
		__m256		g = load_lanes(gate + i, n - i);
		__m256		e = exp8(_mm256_xor_ps(g, _mm256_set1_ps(-0.0f)));
		__m256		silu = _mm256_div_ps(g, _mm256_add_ps(one, e));

		store_lanes(gate + i, _mm256_mul_ps(silu, load_lanes(up + i, n - i)), n - i);
	}
}

/* The largest of n values, -infinity when all are NaN. */
TARGET2 static float
largest(const float *x, int n)
{
	__m256		max = _mm256_set1_ps(-INFINITY);
	float		best;
	int			i;

	/* With a NaN the second operand is the result. */
	for (i = 0; i + 8 <= n; i += 8)
		max = _mm256_max_ps(_mm256_loadu_ps(x + i), max);
	best = max8(max);
	for (; i < n; i++)
		best = x[i] > best ? x[i] : best;
	return best;
}

TARGET2 static int
argmax(const float *x, int n)
{
	float		max = largest(x, n);
	int			i;

	for (i = 0; i + 8 <= n; i += 8)
	{
		int			equal = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i),
															 _mm256_set1_ps(max), _CMP_EQ_OQ));

		if (equal)
			return i + __builtin_ctz((unsigned) equal);
	}
	for (; i < n; i++)
		if (x[i] == max)
			return i;
	return 0;
}

/* l3_exp_negative in 4 lanes */
TARGET2 INLINE __m256d
exp_negative4(__m256d x)
{
	static const double c[14] = {
		1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
		1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24,
		1.0 / 6, 0.5, 1.0, 1.0
	};
	__m256d		magic = _mm256_set1_pd(L3_ROUND_MAGIC);
	__m256d		t,
				r,
				p;
	__m256i		n;

	x = _mm256_max_pd(_mm256_set1_pd(L3_EXP_MIN), x);
	t = _mm256_sub_pd(_mm256_fmadd_pd(x, _mm256_set1_pd(L3_LOG2E), magic), magic);
	r = _mm256_fnmadd_pd(t, _mm256_set1_pd(L3_LN2_HI), x);
	r = _mm256_fnmadd_pd(t, _mm256_set1_pd(L3_LN2_LO), r);
	p = _mm256_set1_pd(c[0]);
	UNROLL
	for (int i = 1; i < 14; i++)
		p = _mm256_fmadd_pd(p, r, _mm256_set1_pd(c[i]));
	n = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(t));
	n = _mm256_slli_epi64(_mm256_add_epi64(n, _mm256_set1_epi64x(1023)), 52);
	return _mm256_mul_pd(p, _mm256_castsi256_pd(n));
}

TARGET2 static double
logsumexp(const float *x, int n)
{
	__m256d		chain[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
	float		max = largest(x, n);
	__m256d		shift = _mm256_set1_pd(max);
	double		sum[4];

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
		/* What is past the end is cleared after the exponential. */
		__m256i		mask = first_lanes(n - i);
		__m256		v = _mm256_maskload_ps(x + i, mask);

		for (int h = 0; h < 2; h++)
		{
			__m128		four = h ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v);
			__m128i		live = h ? _mm256_extracti128_si256(mask, 1) : _mm256_castsi256_si128(mask);
			__m256d		e = exp_negative4(_mm256_sub_pd(_mm256_cvtps_pd(four), shift));

			e = _mm256_and_pd(e, _mm256_castsi256_pd(_mm256_cvtepi32_epi64(live)));
			chain[h] = _mm256_add_pd(chain[h], e);
		}
	}
	_mm256_storeu_pd(sum, _mm256_add_pd(chain[0], chain[1]));
	return (double) max + log((sum[0] + sum[2]) + (sum[1] + sum[3]));
}

void
l3_avx2_vector(L3Kernels *kernels)
{
	kernels->rms_norm = rms_norm;
	kernels->rope = rope;
	kernels->swiglu = swiglu;
	kernels->argmax = argmax;
	kernels->logsumexp = logsumexp;
}

#endif							/* __x86_64__ */
