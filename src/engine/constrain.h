/*-------------------------------------------------------------------------
 *
 * constrain.h
 *	  An answer that keeps to a grammar, as the scheduler sees it.
 *
 * What is guaranteed:
 *	- the answer is a string of the grammar, whatever the model and the
 *	  sampling, and complete within the tokens that it may have;
 *	- sampling is that of an unconstrained answer over the tokens that may
 *	  come, and only those; the stop token may come where the text is whole;
 *	- text that the grammar forces is not sampled but spelled as the tokenizer
 *	  spells it together with the token that was sampled before it, up to the
 *	  last boundary of pre-tokens that nothing which may follow can move.  In the
 *	  rest, up to where the text is free again, a token that ends too early is
 *	  not sampled where a token that covers the rest may come.
 * All of this hangs on the grammar, the text so far and the tokens that remain,
 * never on what else runs or ran.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_CONSTRAIN_H
#define L3_CONSTRAIN_H

#include "mask.h"

/* Bytes of compiled grammars that are kept for a model, those in use included. */
#define L3_CONSTRAIN_CACHE_BYTES	((size_t) 64 << 20)
/* Bytes of one grammar's states that are kept. */
#define L3_CONSTRAIN_STATE_BYTES	((size_t) 32 << 20)

/* The grammars that a model's requests have used; zero-initialise. */
typedef struct L3Grammars
{
	const L3Tokenizer *tok;
	L3Vocabulary *vocabulary;	/* NULL: no request had a grammar yet */
	struct L3Compiled *first;	/* used last */
	size_t		max_bytes;		/* 0: L3_CONSTRAIN_CACHE_BYTES */
	size_t		max_state_bytes;	/* 0: L3_CONSTRAIN_STATE_BYTES */
	uint64_t	max_mask_effort;	/* 0: L3_MASK_EFFORT */
} L3Grammars;

typedef struct L3Constraint L3Constraint;

/* No constraint is left. */
void		l3_grammars_free(L3Grammars *grammars);
/* Bytes held by compiled grammars and the vocabulary's tree. */
size_t		l3_grammars_bytes(const L3Grammars *grammars);

/*
 * Begin an answer: check the image (grammar.h), compile it unless an equal one
 * is known, and stand at the empty text.  max_tokens: what the answer may have.
 * L3_ERR_LIMIT, with the number that suffices, when no answer is as short;
 * L3_ERR_FORMAT for a damaged image; L3_ERR_UNSUPPORTED when the vocabulary
 * has bytes without a token; L3_ERR_MEMORY.
 */
L3Status	l3_constraint_open(L3Grammars *grammars, const void *image, size_t size,
							   int32_t max_tokens, L3Constraint **constraint, L3Error *err);
void		l3_constraint_close(L3Constraint *constraint);

/*
 * The text goes on with a token that l3_constraint_allowed allowed and with what
 * that forces: append the tokens of both to ids.  Where the tokenizer would spell
 * them together otherwise, and there is room for it, the sampled token is not
 * among them: a quote that ends a string, and the comma behind it, are one token.
 * remaining: tokens that may come, this one included.
 */
L3Status	l3_constraint_accept(L3Constraint *constraint, int32_t token, int32_t remaining,
								 L3Ids *ids, L3Error *err);
/*
 * Append the tokens that are forced at the beginning to ids, going on over them;
 * none where the text is free.  remaining: tokens that may come.
 */
L3Status	l3_constraint_force(L3Constraint *constraint, int32_t remaining, L3Ids *ids,
								L3Error *err);
/* Is the text whole and nothing can follow? */
bool		l3_constraint_ended(const L3Constraint *constraint);
/*
 * Find the tokens that may come next, of remaining that may come in all.
 * stop: may the answer end by a stop token?
 */
L3Status	l3_constraint_prepare(L3Constraint *constraint, int32_t remaining, bool stop,
								  L3Error *err);
/* What l3_constraint_prepare found: bit id & 63 of word id >> 6 of as many as tokens. */
const uint64_t *l3_constraint_allowed(const L3Constraint *constraint);

#endif							/* L3_CONSTRAIN_H */
