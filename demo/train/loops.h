/*-------------------------------------------------------------------------
 *
 * loops.h
 *	  The arithmetic between the matrix products, row by row.
 *
 * Each function's result depends on its arguments alone: no state, no
 * threads, sums in a fixed order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TR_LOOPS_H
#define TR_LOOPS_H

#include <stddef.h>

/*
 * Compile the function for three levels of x86-64 and choose at program start.
 * Only with GCC: Clang builds the trainer for its sanitizers, where a choice
 * before the sanitizer is set up would crash.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TR_CLONES	__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TR_CLONES
#endif

/* sum of x[i] * y[i] */
float		tr_dot(const float *x, const float *y, int n);
/* y[i] += x[i] */
void		tr_add(float *restrict y, const float *restrict x, size_t n);
/* y[i] += scale * x[i] */
void		tr_add_scaled(float *restrict y, const float *restrict x, float scale, size_t n);

/*
 * x[i] = scale * e^(x[i] - m) / sum over j of e^(x[j] - m), m the largest;
 * returns the logarithm of the sum of e^x[j].
 */
float		tr_softmax(float *x, int n, float scale);
/* x[i] = e^(x[i] - shift) */
void		tr_exp_shifted(float *x, float shift, int n);
/* dx[i] = p[i] * (dx[i] - delta): the gradient of scores from probabilities' */
void		tr_softmax_backward(float *restrict dx, const float *restrict p, float delta, int n);

/* y = x * r * weight with r = 1 / sqrt(mean(x^2) + eps), which is returned. */
float		tr_rms_norm(float *restrict y, const float *restrict x,
						const float *restrict weight, int n, float eps);
/* Adds to dx and dweight, given dy, x and the r of the forward pass. */
void		tr_rms_norm_backward(float *restrict dx, float *restrict dweight,
								 const float *restrict dy, const float *restrict x,
								 const float *restrict weight, float r, int n);

/* hidden = silu(gate) * up */
void		tr_swiglu(float *restrict hidden, const float *restrict gate,
					  const float *restrict up, int n);
void		tr_swiglu_backward(float *restrict dgate, float *restrict dup,
							   const float *restrict dhidden, const float *restrict gate,
							   const float *restrict up, int n);

/*
 * Turn the pairs (x[2i], x[2i + 1]) of n_heads heads by the angle whose
 * (cos, sin) is turn[2i], turn[2i + 1]; direction -1 turns back.
 */
void		tr_rope(float *restrict x, const float *restrict turn, int n_heads,
					int head_dim, float direction);

#endif							/* TR_LOOPS_H */
