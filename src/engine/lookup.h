/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  Prompt lookup: the next tokens of an answer, guessed from those before.
 *
 * Answers that copy their input (what is extracted, redacted, corrected) or
 * repeat themselves go on as an earlier place did.  The tokens that followed
 * there are a draft: a step computes them together with the last token, whose
 * logits, and theirs, tell how many were right (scheduler.c).
 *
 *	Saxena 2023 (prompt lookup decoding); Leviathan, Kalman and Matias 2023
 *	(speculative decoding)
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_LOOKUP_H
#define L3_LOOKUP_H

#include "engine.h"

/*
 * Tokens of a draft, at most.  With the last token they are 16 rows: where the
 * time of a step begins to grow as fast as its rows (L3_DRAFT_ROWS).
 */
#define L3_LOOKUP_MAX_DRAFT	15

/* How drafts have fared in one answer; zero-initialise. */
typedef struct L3Lookup
{
	int32_t		most;			/* tokens of the next draft, at most; 0: none yet */
	int32_t		pause;			/* tokens that come before it */
	int32_t		next_pause;		/* after the next draft that is wrong from its start */
} L3Lookup;

/*
 * Guess at most `room` tokens that may follow tokens (n), and write them behind
 * these; the number of them.  Reads each token about once: next to the keys and
 * values that the same step reads for each of them, nothing.
 */
int32_t		l3_lookup_draft(L3Lookup *lookup, int32_t *tokens, int32_t n, int32_t room);
/* Of a draft of so many tokens these were right, from its start. */
void		l3_lookup_learn(L3Lookup *lookup, int32_t n_drafted, int32_t n_right);

#endif							/* L3_LOOKUP_H */
