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
 * Choose the next token, of n_tokens.  logits are changed by the penalty, which
 * looks up those of the history too.  allowed: the tokens to choose from (bit
 * id & 63 of word id >> 6 of n_tokens bits), at least one; NULL: all.  It is as
 * if there were no others.  history: the tokens so far, n_history of them;
 * position: where the new one will stand.  candidates: scratch of n_tokens
 * entries.
 */
int32_t		l3_sample(const L3Kernels *kernels, const L3Sampling *sampling,
					  float *logits, int n_tokens, const uint64_t *allowed,
					  const int32_t *history, int n_history, uint64_t position,
					  L3Candidate *candidates);

/* The draw in [0, 1) that belongs to a seed and a position. */
double		l3_sample_draw(uint64_t seed, uint64_t position);

#endif							/* L3_SAMPLER_H */
