/*-------------------------------------------------------------------------
 *
 * adamw.c
 *	  The optimizer: learning rate, clipping, AdamW.
 *
 *-------------------------------------------------------------------------
 */
#include "trainer.h"

#include <math.h>

#include "loops.h"

double
tr_learning_rate(const TrTrainOptions *options, int step)
{
	double		done;

	if (step < options->warmup)
		return options->lr * (step + 1) / options->warmup;
	done = (double) (step + 1 - options->warmup) / (options->steps - options->warmup);
	return options->lr * (options->lr_floor +
						  (1 - options->lr_floor) * 0.5 * (1 + cos(M_PI * done)));
}

double
tr_clip_factor(double norm, double clip)
{
	return norm > clip ? clip / norm : 1.0;
}

/*
 * w -= rate * mean / (sqrt(square) + epsilon) + shrink * w, where the factors
 * that correct the averages' start at zero are in rate and correction.
 */
TR_CLONES static void
update(float *restrict w, float *restrict mean, float *restrict square,
	   const float *restrict gradient, size_t n, float factor, float beta1, float beta2,
	   float rate, float correction, float epsilon, float shrink)
{
	for (size_t i = 0; i < n; i++)
	{
		float		g = gradient[i] * factor;

		mean[i] = mean[i] * beta1 + (1.0f - beta1) * g;
		square[i] = square[i] * beta2 + (1.0f - beta2) * g * g;
		w[i] -= rate * mean[i] / (sqrtf(square[i]) * correction + epsilon) + shrink * w[i];
	}
}

void
tr_adamw(const TrTrainOptions *options, int64_t step, double lr, double factor,
		 double weight_decay, float *params, float *mean, float *square,
		 const float *gradient, size_t n)
{
	double		mean_weight = 1 - pow(options->beta1, (double) step);
	double		square_weight = 1 - pow(options->beta2, (double) step);

	update(params, mean, square, gradient, n, (float) factor,
		   (float) options->beta1, (float) options->beta2, (float) (lr / mean_weight),
		   (float) (1 / sqrt(square_weight)), (float) options->epsilon,
		   (float) (lr * weight_decay));
}
