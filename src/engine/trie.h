/*-------------------------------------------------------------------------
 *
 * trie.h
 *	  A vocabulary as a tree of its tokens' bytes.
 *
 * To find the tokens that may follow a text, an automaton goes through the
 * tree once, in place of each token's bytes anew.  Nodes stand in the order of
 * a walk from the root (a node before its children), so a subtree is a run of
 * nodes, and its tokens, which are sorted by their bytes, a run of ranks.
 *
 * Most of a vocabulary is plain words, and most grammars have places where any
 * text may stand.  So each node tells what its subtree is made of, and a run of
 * text that may be anything of some set (L3ByteSet) is taken subtree by subtree.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_TRIE_H
#define L3_TRIE_H

#include "engine.h"

/* Longer tokens are never sampled under a grammar. */
#define L3_TRIE_MAX_PIECE	255

/* Flags of a node. */
#define L3_TRIE_WIDE		0x01	/* a token of the subtree is not ASCII */
#define L3_TRIE_ILL			0x02	/* a token of the subtree is no beginning of UTF-8 */
#define L3_TRIE_ILL_HERE	0x04	/* the token that ends here is none */

typedef struct L3TrieNode
{
	uint64_t	ascii[2];		/* ASCII bytes at the node and below */
	uint32_t	end;			/* node after the subtree */
	uint32_t	first_rank;		/* of the subtree's tokens, those that end here first */
	uint16_t	n_here;			/* tokens that end here: mostly 0 or 1 */
	uint8_t		n_chars;		/* characters begun from the root on, all of UTF-8 */
	uint8_t		more_chars;		/* and at most begun below */
	uint8_t		byte;
	uint8_t		depth;			/* bytes from the root, this one's included */
	uint8_t		height;			/* bytes to the deepest node below */
	uint8_t		flags;
} L3TrieNode;

/* A set of characters: some of ASCII, and all others or none of them. */
typedef struct L3ByteSet
{
	uint64_t	ascii[2];
	bool		wide;			/* all well-formed UTF-8 beyond ASCII */
} L3ByteSet;

typedef struct L3Trie
{
	L3TrieNode *nodes;			/* (n_nodes + 1): the last has only a first_rank */
	uint32_t	n_nodes;
	uint32_t   *ids;			/* (n_tokens) token of each rank */
	uint32_t	n_tokens;
	uint32_t	max_piece;		/* bytes of the longest token */
	uint32_t	roots[256];		/* node of each first byte */
	uint32_t	n_words;		/* 64-bit words of a set of token ids */
} L3Trie;

/*
 * Build the tree of a tokenizer's normal tokens (no special ones, no stop
 * tokens).  Every byte must be a token: L3_ERR_UNSUPPORTED if not.
 */
L3Status	l3_trie_create(const L3Tokenizer *tok, L3Trie **trie, L3Error *err);
void		l3_trie_free(L3Trie *trie);
size_t		l3_trie_bytes(const L3Trie *trie);

/*
 * The least number of tokens that spell bytes[i ..] (n bytes), for each i:
 * cost (n).
 */
void		l3_trie_costs(const L3Trie *trie, const uint8_t *bytes, uint32_t n, uint32_t *cost);

static inline bool
l3_byte_set_has(const L3ByteSet *set, uint8_t byte)
{
	return byte >= 0x80 ? set->wide : set->ascii[byte >> 6] >> (byte & 63) & 1;
}

/*
 * Does every token of a node's subtree consist of the set's characters (the
 * last of which may be cut short), given that the bytes above the node do?
 */
static inline bool
l3_trie_all_of(const L3TrieNode *node, const L3ByteSet *set)
{
	return (node->ascii[0] & ~set->ascii[0]) == 0 && (node->ascii[1] & ~set->ascii[1]) == 0 &&
		(node->flags & L3_TRIE_ILL) == 0 && (set->wide || (node->flags & L3_TRIE_WIDE) == 0);
}

/*
 * The tokens that consist of the set's characters, by their number, one that is
 * cut short counted too: of n characters are ids[ends[n - 1]] .. ids[ends[n]].
 * ids has room for n_tokens, ends for L3_TRIE_MAX_PIECE + 1; returns how many
 * there are.
 */
uint32_t	l3_trie_spelled_with(const L3Trie *trie, const L3ByteSet *set, uint32_t *ids,
								 uint32_t *ends);

/* Add the tokens that end at a node. */
static inline void
l3_trie_add_here(const L3Trie *trie, const L3TrieNode *node, uint64_t *ids)
{
	for (uint32_t i = 0; i < node->n_here; i++)
	{
		uint32_t	id = trie->ids[node->first_rank + i];

		ids[id >> 6] |= UINT64_C(1) << (id & 63);
	}
}

#endif							/* L3_TRIE_H */
