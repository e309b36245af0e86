/*-------------------------------------------------------------------------
 *
 * score.h
 *	  Label paths of a running request: forks of its prompt.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SCORE_H
#define L3_SCORE_H

#include "forward.h"
#include "labels.h"

/* A chain of the trie while it runs. */
typedef struct L3Fork
{
	int32_t    *blocks;			/* KV blocks of all positions up to its end */
	int32_t		n_blocks;		/* held; 0 before the fork and after the release */
	int32_t		n_done;			/* nodes computed */
	int32_t		n_waiting;		/* chains that will still fork from it */
	bool		started;
} L3Fork;

typedef struct L3Score
{
	L3Labels	labels;
	int32_t		n_tokens;		/* of the prompt */
	int32_t		n_blocks_all;	/* KV blocks if all chains ran at one time */
	int32_t		n_blocks_wanted;	/* what the request reserves */
	L3Fork	   *forks;			/* (n_chains) */
	int32_t    *tables;			/* the forks' block tables */
	int32_t		n_computed;		/* chains */
	int32_t		first_open;		/* chains before it are computed */
} L3Score;

/* Build the trie of a request and count its blocks. */
L3Status	l3_score_create(const L3Request *request, L3Score **score, L3Error *err);
/* Allocate what the chains need to run. */
L3Status	l3_score_start(L3Score *score, L3Error *err);
/* Its blocks were released. */
void		l3_score_free(L3Score *score);

/*
 * Note log P(child | node) of node's children, given the logits after it and
 * their logsumexp.  Node 0 stands for the prompt's last token.  Threads may do
 * this for different nodes at one time.
 */
void		l3_score_logits(L3Score *score, int32_t node, const float *logits, double logsumexp);

/*
 * Add spans (and block copies) of chains that can run now to the batch, at
 * most n_rows rows and max_spans spans in all.  blocks: the prompt's.
 * *n_reserved: blocks that may be taken, lowered by those taken.
 */
void		l3_score_schedule(L3Score *score, L3KvPool *pool, const int32_t *blocks,
							  int32_t *n_reserved, L3Batch *batch, int32_t max_spans,
							  int32_t n_rows, void *owner);

/* A span of a chain was computed: n more nodes. */
void		l3_score_advance(L3Score *score, L3KvPool *pool, int32_t chain, int32_t n,
							 int32_t *n_reserved);

static inline bool
l3_score_done(const L3Score *score)
{
	return score->n_computed == score->labels.n_chains;
}

/* When done: the labels' log-probabilities, each the sum along its path. */
void		l3_score_finish(const L3Score *score, double *label_logprobs);

/* Release the blocks of all forks; *n_reserved rises by those freed. */
void		l3_score_release(L3Score *score, L3KvPool *pool, int32_t *n_reserved);

#endif							/* L3_SCORE_H */
