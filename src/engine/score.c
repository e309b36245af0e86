/*-------------------------------------------------------------------------
 *
 * score.c
 *	  Label paths of a running request: forks of its prompt.
 *
 * When the prompt is computed, each chain of the label trie forks from it, or
 * from the chain that it continues: full blocks are shared by reference, the
 * partly filled one is copied, and the chain's tokens are computed like prompt
 * tokens, all chains in the same steps.
 *
 * A request with many labels must not need KV blocks for all of them at once.
 * It reserves enough for BLOCKS_AT_ONCE, or for the hungriest path from the
 * prompt to a leaf if that is more, and chains start in depth-first order as
 * blocks come back.  That cannot get stuck: when nothing runs, the only blocks
 * still held belong to ancestors of the next chain, and the reservation covers
 * every path with all its ancestors.
 *
 *-------------------------------------------------------------------------
 */
#include "score.h"

#include <stdlib.h>
#include <string.h>

/* KV blocks for label paths of one request, unless a single path needs more. */
#define BLOCKS_AT_ONCE		64

/* Position of a chain's first token. */
static int32_t
chain_position(const L3Score *score, const L3LabelChain *chain)
{
	return score->n_tokens + chain->depth - 1;
}

/* Blocks up to the chain's end. */
static int32_t
chain_table_length(const L3Score *score, const L3LabelChain *chain)
{
	return (chain_position(score, chain) + chain->n + L3_KV_BLOCK - 1) / L3_KV_BLOCK;
}

/* Blocks that the chain does not share: a copy of the partly filled one, and new ones. */
static int32_t
chain_own_blocks(const L3Score *score, const L3LabelChain *chain)
{
	return chain_table_length(score, chain) - chain_position(score, chain) / L3_KV_BLOCK;
}

static L3Status
count_blocks(L3Score *score, L3Error *err)
{
	const L3Labels *labels = &score->labels;
	size_t		n = labels->n_chains > 0 ? (size_t) labels->n_chains : 1;
	int32_t    *path = malloc(n * sizeof(int32_t));
	int32_t		longest = 0;

	if (path == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	for (int32_t i = 0; i < labels->n_chains; i++)
	{
		const L3LabelChain *chain = &labels->chains[i];
		int32_t		own = chain_own_blocks(score, chain);

		/* a parent is numbered before its children */
		path[i] = own + (chain->parent >= 0 ? path[chain->parent] : 0);
		if (path[i] > longest)
			longest = path[i];
		score->n_blocks_all += own;
	}
	free(path);
	score->n_blocks_wanted = longest > BLOCKS_AT_ONCE ? longest : BLOCKS_AT_ONCE;
	if (score->n_blocks_wanted > score->n_blocks_all)
		score->n_blocks_wanted = score->n_blocks_all;
	return L3_OK;
}

L3Status
l3_score_create(const L3Request *request, L3Score **score_out, L3Error *err)
{
	L3Score    *score = calloc(1, sizeof(*score));
	L3Status	status;

	if (score == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	score->n_tokens = request->n_tokens;
	status = l3_labels_build(request->label_tokens, request->label_end, request->n_labels,
							 &score->labels, err);
	if (status == L3_OK)
		status = count_blocks(score, err);
	if (status != L3_OK)
	{
		l3_score_free(score);
		return status;
	}
	*score_out = score;
	return L3_OK;
}

L3Status
l3_score_start(L3Score *score, L3Error *err)
{
	const L3Labels *labels = &score->labels;
	size_t		n_entries = 0;

	if (labels->n_chains == 0)
		return L3_OK;
	for (int32_t i = 0; i < labels->n_chains; i++)
		n_entries += (size_t) chain_table_length(score, &labels->chains[i]);
	score->forks = calloc((size_t) labels->n_chains, sizeof(L3Fork));
	score->tables = malloc(n_entries * sizeof(int32_t));
	if (score->forks == NULL || score->tables == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	n_entries = 0;
	for (int32_t i = 0; i < labels->n_chains; i++)
	{
		score->forks[i].blocks = score->tables + n_entries;
		score->forks[i].n_waiting = labels->chains[i].n_children;
		n_entries += (size_t) chain_table_length(score, &labels->chains[i]);
	}
	return L3_OK;
}

void
l3_score_free(L3Score *score)
{
	if (score == NULL)
		return;
	l3_labels_free(&score->labels);
	free(score->forks);
	free(score->tables);
	free(score);
}

void
l3_score_logits(L3Score *score, int32_t node, const float *logits, double logsumexp)
{
	L3LabelNode *nodes = score->labels.nodes;

	for (int32_t i = nodes[node].first_child; i >= 0; i = nodes[i].sibling)
		nodes[i].logprob = (double) logits[nodes[i].token] - logsumexp;
}

void
l3_score_finish(const L3Score *score, double *label_logprobs)
{
	L3LabelNode *nodes = score->labels.nodes;

	/* parents are numbered before their children; node 0 stays at 0 */
	for (int32_t i = 1; i < score->labels.n_nodes; i++)
		nodes[i].logprob = nodes[nodes[i].parent].logprob + nodes[i].logprob;
	for (int32_t i = 0; i < score->labels.n_labels; i++)
		label_logprobs[i] = nodes[score->labels.leaf[i]].logprob;
}

/* Drop a fork's references; what nobody else holds is reserved again. */
static void
release_fork(L3Fork *fork, L3KvPool *pool, int32_t *n_reserved)
{
	for (int32_t i = fork->n_blocks - 1; i >= 0; i--)
		if (l3_kv_unref(pool, fork->blocks[i]))
		{
			l3_kv_rereserve(pool);
			(*n_reserved)++;
		}
	fork->n_blocks = 0;
}

static bool
fork_computed(const L3Score *score, int32_t chain)
{
	return score->forks[chain].n_done == score->labels.chains[chain].n;
}

static void
release_if_over(L3Score *score, L3KvPool *pool, int32_t chain, int32_t *n_reserved)
{
	L3Fork	   *fork = &score->forks[chain];

	if (fork->n_waiting == 0 && fork_computed(score, chain))
		release_fork(fork, pool, n_reserved);
}

/* Give a chain its blocks. */
static void
start_fork(L3Score *score, L3KvPool *pool, const int32_t *prompt_blocks, int32_t number,
		   int32_t *n_reserved, L3Batch *batch)
{
	const L3LabelChain *chain = &score->labels.chains[number];
	L3Fork	   *fork = &score->forks[number];
	const int32_t *from = chain->parent < 0 ? prompt_blocks : score->forks[chain->parent].blocks;
	int32_t		position = chain_position(score, chain);
	int32_t		n_shared = position / L3_KV_BLOCK;
	int32_t		n = chain_table_length(score, chain);

	for (int32_t i = 0; i < n_shared; i++)
	{
		fork->blocks[i] = from[i];
		l3_kv_ref(pool, from[i]);
	}
	for (int32_t i = n_shared; i < n; i++)
		fork->blocks[i] = l3_kv_alloc(pool);
	*n_reserved -= n - n_shared;
	if (position % L3_KV_BLOCK != 0)
		batch->copies[batch->n_copies++] = (L3KvCopy)
	{
		.to = fork->blocks[n_shared], .from = from[n_shared]
	};
	fork->n_blocks = n;
	fork->started = true;
}

/* Can a chain that has not started start now? */
static bool
can_start(const L3Score *score, int32_t number, int32_t n_reserved)
{
	const L3LabelChain *chain = &score->labels.chains[number];

	return (chain->parent < 0 || fork_computed(score, chain->parent)) &&
		chain_own_blocks(score, chain) <= n_reserved;
}

void
l3_score_schedule(L3Score *score, L3KvPool *pool, const int32_t *blocks, int32_t *n_reserved,
				  L3Batch *batch, int32_t max_spans, int32_t n_rows, void *owner)
{
	const L3Labels *labels = &score->labels;
	bool		in_order = score->n_blocks_wanted < score->n_blocks_all;

	for (int32_t i = score->first_open; i < labels->n_chains; i++)
	{
		const L3LabelChain *chain = &labels->chains[i];
		L3Fork	   *fork = &score->forks[i];
		int32_t		n = chain->n - fork->n_done;

		if (n == 0)
			continue;
		if (batch->n_spans == max_spans || n_rows == 0)
			break;
		if (!fork->started)
		{
			if (!can_start(score, i, *n_reserved))
			{
				if (in_order)
					break;
				continue;
			}
			start_fork(score, pool, blocks, i, n_reserved, batch);
			if (chain->parent >= 0)
				score->forks[chain->parent].n_waiting--;
		}
		if (n > n_rows)
			n = n_rows;
		for (int32_t j = 0; j < n; j++)
			batch->logits_rows[batch->n_logits_rows++] = (L3OutRow)
		{
			.row = batch->n_rows + j, .span = batch->n_spans
		};
		batch->spans[batch->n_spans++] = (L3Span)
		{
			.tokens = labels->inner_tokens + chain->first + fork->n_done,
			.blocks = fork->blocks,
			.position = chain_position(score, chain) + fork->n_done,
			.n = n, .row = batch->n_rows, .owner = owner, .part = i
		};
		batch->n_rows += n;
		n_rows -= n;
	}
}

void
l3_score_advance(L3Score *score, L3KvPool *pool, int32_t chain, int32_t n, int32_t *n_reserved)
{
	int32_t		parent = score->labels.chains[chain].parent;

	score->forks[chain].n_done += n;

	/* the copy of the parent's last block was made in the step that is over */
	if (parent >= 0)
		release_if_over(score, pool, parent, n_reserved);
	if (!fork_computed(score, chain))
		return;
	score->n_computed++;
	release_if_over(score, pool, chain, n_reserved);
	while (score->first_open < score->labels.n_chains && fork_computed(score, score->first_open))
		score->first_open++;
}

void
l3_score_release(L3Score *score, L3KvPool *pool, int32_t *n_reserved)
{
	if (score->forks == NULL)
		return;
	for (int32_t i = 0; i < score->labels.n_chains; i++)
		release_fork(&score->forks[i], pool, n_reserved);
}
