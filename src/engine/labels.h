/*-------------------------------------------------------------------------
 *
 * labels.h
 *	  Label paths as a trie, and the runs of tokens that must be computed.
 *
 * Node 0 is the end of the prompt; every other node is a token after its
 * parent.  A label is a leaf.  Its log-probability is the sum of log P(token |
 * parent) along the path, added from the first token to the last: the same
 * additions in the same order whatever other labels there are.
 *
 * To know the children's probabilities, a node's token must be run through the
 * model: that is wanted for inner nodes only.  A maximal run of inner nodes
 * without a fork between them is a chain: it is computed like a chunk of a
 * prompt.  Nodes and chains are numbered in depth-first order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_LABELS_H
#define L3_LABELS_H

#include "engine.h"

typedef struct L3LabelNode
{
	int32_t		token;
	int32_t		parent;
	int32_t		depth;			/* the prompt's end has 0 */
	int32_t		first_child;	/* -1: a leaf */
	int32_t		last_child;
	int32_t		sibling;		/* -1: the last */
	int32_t		chain;			/* of an inner node; -1 for the root and leaves */
	double		logprob;		/* of the token after its parent; when all are
								 * known, of the path (l3_score_finish) */
} L3LabelNode;

typedef struct L3LabelChain
{
	int32_t		parent;			/* chain it forks from; -1: the prompt */
	int32_t		depth;			/* of its first node; its position is n_tokens + depth - 1 */
	int32_t		first;			/* index into inner_nodes and inner_tokens */
	int32_t		n;				/* nodes */
	int32_t		n_children;		/* chains that fork from it */
} L3LabelChain;

typedef struct L3Labels
{
	int32_t		n_labels;
	int32_t		n_nodes;
	int32_t		n_chains;
	L3LabelNode *nodes;			/* (n_nodes) */
	L3LabelChain *chains;		/* (n_chains) */
	int32_t    *inner_nodes;	/* inner nodes but the root, chain by chain */
	int32_t    *inner_tokens;	/* their tokens */
	int32_t    *leaf;			/* (n_labels) node of each label */
} L3Labels;

/*
 * Build the trie of n_labels paths; path i is tokens[end[i-1] .. end[i]).
 * L3_ERR_ARG when a path is empty or a proper prefix of another.
 */
L3Status	l3_labels_build(const int32_t *tokens, const int32_t *end, int32_t n_labels,
							L3Labels *labels, L3Error *err);
void		l3_labels_free(L3Labels *labels);

#endif							/* L3_LABELS_H */
