/*-------------------------------------------------------------------------
 *
 * avx2_quant.c
 *	  Quantised matrix products and the activations' int8 form in AVX2.
 *
 * VPMADDUBSW multiplies 32 unsigned weight bytes by the same four signed
 * activation bytes in each of 8 columns and adds pairs of products in 16 bits.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__x86_64__)

#include "kernels/avx2.h"

#define TARGET	TARGET2
#define PAIRS	1

TARGET INLINE __m256i
add_products(__m256i sum, __m256i weights, __m256i four)
{
	return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, four));
}

TARGET INLINE __m256i
whole_sums(__m256i sum)
{
	return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

#include "kernels/avx2_quant.h"

/* ----------------------------------------------------------------
 *		Activations
 * ----------------------------------------------------------------
 */

/* One whole group of 32 values; as generic_matmul.c, which explains it. */
TARGET static void
quantize_group(const float *x, int8_t *q, float *scale, int32_t sum16[2])
{
	const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
	__m256		v[4];
	__m256i		amax = _mm256_setzero_si256();
	__m256i		rounded[4];
	__m128i		half;
	float		d;

	UNROLL
	for (int i = 0; i < 4; i++)
	{
		v[i] = _mm256_loadu_ps(x + 8 * i);
		amax = _mm256_max_epu32(amax, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
	}
	half = _mm_max_epu32(_mm256_castsi256_si128(amax), _mm256_extracti128_si256(amax, 1));
	half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4E));
	half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xB1));
	d = l3_bits_to_float((uint32_t) _mm_cvtsi128_si32(half)) / 127.0f;
	*scale = d;
	if (d == 0)
	{
		memset(q, 0, L3_ACT_GROUP);
		sum16[0] = sum16[1] = 0;
		return;
	}
	UNROLL
	for (int i = 0; i < 4; i++)
	{
		__m256		t = _mm256_div_ps(v[i], _mm256_set1_ps(d));

		t = _mm256_max_ps(_mm256_min_ps(t, _mm256_set1_ps(127.0f)), _mm256_set1_ps(-127.0f));
		rounded[i] = _mm256_cvtps_epi32(t);
	}
	for (int h = 0; h < 2; h++)
	{
		__m256i		words = _mm256_packs_epi32(rounded[2 * h], rounded[2 * h + 1]);
		__m256i		sums = _mm256_add_epi32(rounded[2 * h], rounded[2 * h + 1]);
		__m128i		sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));

		/* packs work within halves of 128 bits: put the quarters in order */
		words = _mm256_permute4x64_epi64(words, 0xD8);
		_mm_storeu_si128((__m128i *) (q + 16 * h),
						 _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
		sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
		sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
		sum16[h] = _mm_cvtsi128_si32(sum);
	}
}

static void
quantize_rows(L3Act *act, int row0, int n)
{
	int			n_groups = act->k / L3_ACT_GROUP;

	if (act->k % L3_ACT_GROUP != 0)
	{
		/* No quantised matrix has such a width. */
		l3_generic_quantize_rows(act, row0, n);
		return;
	}
	for (int row = row0; row < row0 + n; row++)
		for (int g = 0; g < n_groups; g++)
		{
			size_t		at = l3_act_index(n_groups, row, g);

			quantize_group(act->x + (size_t) row * act->ldx + g * L3_ACT_GROUP,
						   act->q + at * L3_ACT_GROUP, act->scale + at, act->sum16 + at * 2);
		}
}

void
l3_avx2_quant(L3Kernels *kernels)
{
	install_quant(kernels);
	kernels->quantize_rows = quantize_rows;
}

#endif							/* __x86_64__ */
