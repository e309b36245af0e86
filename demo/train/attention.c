/*-------------------------------------------------------------------------
 *
 * attention.c
 *	  Causal grouped-query attention of a document, forward and backward.
 *
 * The query heads that share a key and value head are stacked, so that a
 * block of queries is one matrix product with the keys: (heads * queries,
 * head_dim) by (keys, head_dim).  Queries go in blocks, and a block sees only
 * the keys up to its last query: the half of the scores that the causal mask
 * throws away is mostly not computed.
 *
 * Probabilities are not kept.  The backward pass computes them again from the
 * queries, the keys and the logarithm of the softmax's sum, as in
 * FlashAttention (Dao et al. 2022).
 *
 *-------------------------------------------------------------------------
 */
#include "transformer.h"

#include <math.h>
#include <string.h>

#include "loops.h"

/* A block of queries of a document, for one key and value head. */
typedef struct Block
{
	int			kv_head;
	int			n_rep;			/* query heads of the group */
	int			first;			/* first token in the batch */
	int			position;		/* of that token in its document */
	int			n_queries;
	int			n_keys;			/* position + n_queries */
	int			n_rows;			/* n_rep * n_queries, head by head */
	const float *keys;			/* (n_keys, head_dim), rows n_qkv apart */
	const float *values;
} Block;

static Block
make_block(const TrWorkspace *ws, const float *qkv, int kv_head, int first, int n, int position)
{
	const TrConfig *c = &ws->config;
	Block		block = {.kv_head = kv_head, .n_rep = c->n_heads / c->n_kv_heads};
	const float *document = qkv + (size_t) first * ws->n_qkv;

	block.first = first + position;
	block.position = position;
	block.n_queries = n - position < TR_ATTENTION_ROWS ? n - position : TR_ATTENTION_ROWS;
	block.n_keys = position + block.n_queries;
	block.n_rows = block.n_rep * block.n_queries;
	block.keys = document + (size_t) (c->n_heads + kv_head) * c->head_dim;
	block.values = block.keys + (size_t) c->n_kv_heads * c->head_dim;
	return block;
}

/* rows (n_rows, head_dim) = the block's queries of a (tokens, ld) array. */
static void
gather(const TrWorkspace *ws, const Block *block, float *rows, const float *array, int ld)
{
	size_t		head_dim = (size_t) ws->config.head_dim;

	for (int h = 0; h < block->n_rep; h++)
		for (int i = 0; i < block->n_queries; i++, rows += head_dim)
			memcpy(rows, array + (size_t) (block->first + i) * ld +
				   (size_t) (block->kv_head * block->n_rep + h) * head_dim,
				   head_dim * sizeof(float));
}

static void
scatter(const TrWorkspace *ws, const Block *block, const float *rows, float *array, int ld)
{
	size_t		head_dim = (size_t) ws->config.head_dim;

	for (int h = 0; h < block->n_rep; h++)
		for (int i = 0; i < block->n_queries; i++, rows += head_dim)
			memcpy(array + (size_t) (block->first + i) * ld +
				   (size_t) (block->kv_head * block->n_rep + h) * head_dim,
				   rows, head_dim * sizeof(float));
}

/* ws->scores (n_rows, n_keys) = queries by keys, over sqrt(head_dim) */
static void
compute_scores(TrWorkspace *ws, const TrActivations *layer, const Block *block)
{
	int			head_dim = ws->config.head_dim;
	float		scale = 1.0f / sqrtf((float) head_dim);
	int			n = block->n_rows * head_dim;

	gather(ws, block, ws->group_q, layer->qkv, ws->n_qkv);
	for (int i = 0; i < n; i++)
		ws->group_q[i] *= scale;
	tr_multiply(ws->scores, block->n_keys, ws->group_q, head_dim, block->keys, ws->n_qkv,
				block->n_rows, block->n_keys, head_dim);
}

/* The keys that row i of the block does not see count nothing. */
static int
mask(const Block *block, float *row, int i)
{
	int			n_seen = block->position + i % block->n_queries + 1;

	memset(row + n_seen, 0, (size_t) (block->n_keys - n_seen) * sizeof(float));
	return n_seen;
}

static float *
logsum_of(const TrWorkspace *ws, const TrActivations *layer, const Block *block, int i)
{
	int			head = block->kv_head * block->n_rep + i / block->n_queries;
	int			token = block->first + i % block->n_queries;

	return layer->logsum + (size_t) token * ws->config.n_heads + head;
}

static void
attend_block(TrWorkspace *ws, TrActivations *layer, const Block *block)
{
	int			head_dim = ws->config.head_dim;

	compute_scores(ws, layer, block);
	for (int i = 0; i < block->n_rows; i++)
	{
		float	   *row = ws->scores + (size_t) i * block->n_keys;

		*logsum_of(ws, layer, block, i) = tr_softmax(row, mask(block, row, i), 1.0f);
	}
	tr_multiply_back(ws->group_out, head_dim, ws->scores, block->n_keys, block->values,
					 ws->n_qkv, block->n_rows, block->n_keys, head_dim, false);
	scatter(ws, block, ws->group_out, layer->attended, ws->config.n_heads * head_dim);
}

void
tr_attend(TrWorkspace *ws, TrActivations *layer, int first, int n)
{
	for (int kv_head = 0; kv_head < ws->config.n_kv_heads; kv_head++)
		for (int position = 0; position < n; position += TR_ATTENTION_ROWS)
		{
			Block		block = make_block(ws, layer->qkv, kv_head, first, n, position);

			attend_block(ws, layer, &block);
		}
}

/*
 * With P the probabilities, O = P V and S the scores:
 *	dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(dO * O)),
 *	dQ = dS K / sqrt(head_dim), dK = dS^T Q / sqrt(head_dim).
 */
static void
attend_block_backward(TrWorkspace *ws, const TrActivations *layer, const Block *block)
{
	int			head_dim = ws->config.head_dim;
	int			width = ws->config.n_heads * head_dim;
	float		scale = 1.0f / sqrtf((float) head_dim);
	float	   *dkeys = ws->dqkv + (block->keys - layer->qkv);
	float	   *dvalues = ws->dqkv + (block->values - layer->qkv);
	int			n = block->n_rows * head_dim;

	/* rowsum(dO * O); group_dq is free until the end */
	gather(ws, block, ws->group_dq, layer->attended, width);
	gather(ws, block, ws->group_out, ws->dattended, width);
	for (int i = 0; i < block->n_rows; i++)
		ws->group_delta[i] = tr_dot(ws->group_dq + (size_t) i * head_dim,
									ws->group_out + (size_t) i * head_dim, head_dim);

	compute_scores(ws, layer, block);
	for (int i = 0; i < block->n_rows; i++)
	{
		float	   *row = ws->scores + (size_t) i * block->n_keys;

		tr_exp_shifted(row, *logsum_of(ws, layer, block, i), mask(block, row, i));
	}
	tr_multiply_outer(dvalues, ws->n_qkv, ws->scores, block->n_keys, ws->group_out, head_dim,
					  block->n_rows, block->n_keys, head_dim);
	tr_multiply(ws->dscores, block->n_keys, ws->group_out, head_dim, block->values, ws->n_qkv,
				block->n_rows, block->n_keys, head_dim);
	for (int i = 0; i < block->n_rows; i++)
		tr_softmax_backward(ws->dscores + (size_t) i * block->n_keys,
							ws->scores + (size_t) i * block->n_keys,
							ws->group_delta[i], block->n_keys);

	/* group_q holds the scaled queries */
	tr_multiply_outer(dkeys, ws->n_qkv, ws->dscores, block->n_keys, ws->group_q, head_dim,
					  block->n_rows, block->n_keys, head_dim);
	tr_multiply_back(ws->group_dq, head_dim, ws->dscores, block->n_keys, block->keys, ws->n_qkv,
					 block->n_rows, block->n_keys, head_dim, false);
	for (int i = 0; i < n; i++)
		ws->group_dq[i] *= scale;
	scatter(ws, block, ws->group_dq, ws->dqkv, ws->n_qkv);
}

void
tr_attend_backward(TrWorkspace *ws, const TrActivations *layer, int first, int n)
{
	for (int kv_head = 0; kv_head < ws->config.n_kv_heads; kv_head++)
		for (int position = 0; position < n; position += TR_ATTENTION_ROWS)
		{
			Block		block = make_block(ws, layer->qkv, kv_head, first, n, position);

			attend_block_backward(ws, layer, &block);
		}
}
