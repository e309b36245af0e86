/*-------------------------------------------------------------------------
 *
 * mask.h
 *	  Which tokens may come next.
 *
 * A token may come when its bytes can follow and the text can still be
 * completed with the tokens that remain.  The automaton goes through the
 * vocabulary's tree; branches that die are left at once, and where any text
 * of some set of characters may follow, subtrees that consist of it are not
 * entered at all: their tokens are in a set that was made before.
 *
 * Masks are kept by state.  How many tokens remain matters only near the end,
 * so a mask is made without that, and notes from what number on it is right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_MASK_H
#define L3_MASK_H

#include "automaton.h"

/* Bytes of masks kept for one grammar. */
#define L3_MASK_BYTES		((size_t) 16 << 20)
/*
 * What one mask may need: bytes of states, and effort to find its steps, which is
 * some 0.3 s.  Steps that are known already count: whether an answer can go on
 * does not hang on others before it.
 */
#define L3_MASK_STATE_BYTES	((size_t) 128 << 20)
#define L3_MASK_EFFORT		((uint64_t) 20 << 20)
/* Sets of characters whose tokens are kept for one vocabulary. */
#define L3_MASK_TEXT_SETS	16

/* The tokens that consist of the characters of a set. */
typedef struct L3TextSet
{
	L3ByteSet	set;
	uint32_t   *ids;			/* as l3_trie_spelled_with gives them */
	uint32_t	ends[L3_TRIE_MAX_PIECE + 1];
	uint64_t   *at_most[L3_TRIE_MAX_PIECE + 1]; /* (n_words) those of so many
												 * characters, or NULL */
	uint64_t	used;			/* when, to drop the one unused for longest */
} L3TextSet;

/* A vocabulary and what is known of it whatever the grammar; one for a model. */
typedef struct L3Vocabulary
{
	L3Trie	   *trie;
	L3TextSet	text[L3_MASK_TEXT_SETS];
	uint32_t	n_text;
	uint64_t	clock;
} L3Vocabulary;

typedef struct L3Mask
{
	uint32_t   *few;			/* token ids (n), or NULL */
	uint64_t   *many;			/* (n_words) when few is NULL */
	uint32_t	n;
	uint32_t	distance;		/* with this many tokens after it any of its
								 * tokens is completed */
} L3Mask;

/* What is known of a state: numbers are one more than what they mean, 0: not yet. */
typedef struct L3StateNotes
{
	uint32_t	wide;			/* the state that has its mask */
	uint32_t	mask;
	uint32_t	back;			/* set: characters that lead back to it */
	uint32_t	whole;			/* set: characters that make a whole text of it */
} L3StateNotes;

/* The masks of one grammar with one vocabulary. */
typedef struct L3Masks
{
	L3Vocabulary *vocabulary;
	L3Automaton *automaton;
	uint64_t	epoch;			/* of the automaton's numbers */
	L3StateNotes *notes;		/* (cap_notes) by state */
	uint32_t	cap_notes;
	L3Mask	   *masks;			/* (n_masks) */
	uint32_t	n_masks;
	uint32_t	cap_masks;
	size_t		mask_bytes;
	L3ByteSet  *sets;			/* (n_sets) */
	uint32_t	n_sets;
	uint32_t	cap_sets;
	uint64_t   *scratch;		/* (n_words) */
	uint64_t	max_effort;		/* L3_MASK_EFFORT; less in tests */
} L3Masks;

L3Status	l3_vocabulary_create(const L3Tokenizer *tok, L3Vocabulary **vocabulary, L3Error *err);
void		l3_vocabulary_free(L3Vocabulary *vocabulary);
size_t		l3_vocabulary_bytes(const L3Vocabulary *vocabulary);

L3Status	l3_masks_create(L3Vocabulary *vocabulary, L3Automaton *automaton, L3Masks **masks,
							L3Error *err);
void		l3_masks_free(L3Masks *masks);
size_t		l3_masks_bytes(const L3Masks *masks);

/*
 * The tokens that may come in state when after it left tokens may come: a set
 * of ids (the trie's n_words).  Where only one text can follow, tokens that
 * end within it are left out if one that covers it may come.
 * L3_ERR_LIMIT when that needs too many states at one time; L3_ERR_MEMORY.
 */
L3Status	l3_masks_tokens(L3Masks *masks, uint32_t state, uint32_t left, uint64_t *ids,
							L3Error *err);

#endif							/* L3_MASK_H */
