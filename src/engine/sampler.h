/*-------------------------------------------------------------------------
 *
 * sampler.h
 *	  From logits to the next token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SAMPLER_H
#define L3_SAMPLER_H

#include "kernels/kernels.h"
#include "workspace.h"

/* Tokens that repeat_penalty looks back over. */
#define L3_REPEAT_WINDOW	64

/*
 * Choose the next token.  logits (n_vocab) are changed by the penalty.
 * allowed: the tokens to choose from (bit id & 63 of word id >> 6), at least
 * one; NULL: all.  It is as if there were no others.  history: the tokens so
 * far, n_history of them; position: where the new one will stand.
 * candidates: scratch of n_vocab entries.
 */
int32_t		l3_sample(const L3Kernels *kernels, const L3Sampling *sampling,
					  float *logits, int n_vocab, const uint64_t *allowed,
					  const int32_t *history, int n_history, uint64_t position,
					  L3Candidate *candidates);

/* The draw in [0, 1) that belongs to a seed and a position. */
double		l3_sample_draw(uint64_t seed, uint64_t position);

#endif							/* L3_SAMPLER_H */
