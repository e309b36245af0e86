/*-------------------------------------------------------------------------
 *
 * bpe.h
 *	  Byte-pair merging of one pre-token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_BPE_H
#define L3_BPE_H

#include "tokenizer_image.h"

/* Pre-tokens up to this many bytes are merged by plain scans. */
#define L3_BPE_SHORT	32

/* Working memory, kept from one pre-token to the next; zero-initialise. */
typedef struct L3Bpe
{
	uint32_t   *memory;			/* (6 * capacity), for long pre-tokens */
	size_t		capacity;		/* bytes of the longest pre-token that fits */
	uint32_t	short_ids[L3_BPE_SHORT];
	uint64_t	steps;			/* pairs looked up and heap moves made */
} L3Bpe;

/*
 * Merge the n (>= 1) bytes: from single bytes, always the pair of the lowest
 * rank, the leftmost on ties.  *ids points into bpe until the next call.
 * False when memory ran out.
 */
bool		l3_bpe_merge(L3Bpe *bpe, const L3Tokenizer *tok,
						 const uint8_t *bytes, size_t n,
						 const uint32_t **ids, size_t *n_ids);
void		l3_bpe_free(L3Bpe *bpe);

#endif							/* L3_BPE_H */
