/*-------------------------------------------------------------------------
 *
 * labels.c
 *	  Label paths as a trie, and the runs of tokens that must be computed.
 *
 *-------------------------------------------------------------------------
 */
#include "labels.h"

#include <stdlib.h>
#include <string.h>

/* A path to sort. */
typedef struct Path
{
	const int32_t *tokens;
	int32_t		n;
	int32_t		label;
} Path;

/* Length of the common head of two paths. */
static int32_t
common_length(const Path *a, const Path *b)
{
	int32_t		n = a->n < b->n ? a->n : b->n;
	int32_t		i = 0;

	while (i < n && a->tokens[i] == b->tokens[i])
		i++;
	return i;
}

/* Lexicographic; a path comes before its extensions; equal ones by number. */
static int
compare_paths(const void *a, const void *b)
{
	const Path *x = a;
	const Path *y = b;
	int32_t		i = common_length(x, y);

	if (i < x->n && i < y->n)
		return x->tokens[i] < y->tokens[i] ? -1 : 1;
	if (x->n != y->n)
		return x->n < y->n ? -1 : 1;
	return x->label < y->label ? -1 : x->label > y->label;
}

static int32_t
add_node(L3Labels *labels, int32_t parent, int32_t token)
{
	int32_t		number = labels->n_nodes++;
	L3LabelNode *node = &labels->nodes[number];

	*node = (L3LabelNode)
	{
		.token = token, .parent = parent, .first_child = -1, .last_child = -1,
		.sibling = -1, .chain = -1
	};
	if (parent >= 0)
	{
		L3LabelNode *above = &labels->nodes[parent];

		node->depth = above->depth + 1;
		if (above->first_child < 0)
			above->first_child = number;
		else
			labels->nodes[above->last_child].sibling = number;
		above->last_child = number;
	}
	return number;
}

/* Add sorted paths; each shares with the one before what the two share. */
static L3Status
add_paths(L3Labels *labels, const Path *paths, L3Error *err)
{
	int32_t		node = add_node(labels, -1, -1);

	for (int32_t i = 0; i < labels->n_labels; i++)
	{
		const Path *path = &paths[i];
		int32_t		shared = i == 0 ? 0 : common_length(&paths[i - 1], path);

		if (i > 0 && shared == paths[i - 1].n && shared < path->n)
			return l3_error(err, L3_ERR_ARG, "label %d is a prefix of label %d",
							paths[i - 1].label + 1, path->label + 1);
		while (labels->nodes[node].depth > shared)
			node = labels->nodes[node].parent;
		for (int32_t j = shared; j < path->n; j++)
			node = add_node(labels, node, path->tokens[j]);
		labels->leaf[path->label] = node;
	}
	return L3_OK;
}

static bool
is_inner(const L3Labels *labels, int32_t node)
{
	return labels->nodes[node].first_child >= 0;
}

static int32_t
count_inner_children(const L3Labels *labels, int32_t node)
{
	int32_t		n = 0;

	for (int32_t i = labels->nodes[node].first_child; i >= 0; i = labels->nodes[i].sibling)
		n += is_inner(labels, i);
	return n;
}

/*
 * Cut the inner nodes into chains.  Depth-first numbering puts only leaves
 * between the nodes of a chain, so a chain is a run of inner_nodes.
 */
static void
find_chains(L3Labels *labels)
{
	int32_t		n_inner = 0;

	for (int32_t i = 1; i < labels->n_nodes; i++)
	{
		L3LabelNode *node = &labels->nodes[i];
		L3LabelChain *chain;

		if (!is_inner(labels, i))
			continue;
		labels->inner_nodes[n_inner] = i;
		labels->inner_tokens[n_inner] = node->token;
		if (node->parent > 0 && count_inner_children(labels, node->parent) == 1)
			node->chain = labels->nodes[node->parent].chain;
		else
		{
			node->chain = labels->n_chains++;
			chain = &labels->chains[node->chain];
			*chain = (L3LabelChain)
			{
				.parent = labels->nodes[node->parent].chain,
				.depth = node->depth, .first = n_inner
			};
			if (chain->parent >= 0)
				labels->chains[chain->parent].n_children++;
		}
		labels->chains[node->chain].n++;
		n_inner++;
	}
}

L3Status
l3_labels_build(const int32_t *tokens, const int32_t *end, int32_t n_labels,
				L3Labels *labels, L3Error *err)
{
	size_t		most_nodes;
	Path	   *paths;
	L3Status	status;

	memset(labels, 0, sizeof(*labels));
	if (n_labels < 1)
		return l3_error(err, L3_ERR_ARG, "there are no labels");
	for (int32_t i = 0; i < n_labels; i++)
		if (end[i] <= (i == 0 ? 0 : end[i - 1]))
			return l3_error(err, L3_ERR_ARG, "label %d is empty", i + 1);

	most_nodes = (size_t) end[n_labels - 1] + 1;
	paths = malloc((size_t) n_labels * sizeof(*paths));
	labels->nodes = calloc(most_nodes, sizeof(L3LabelNode));
	labels->chains = malloc(most_nodes * sizeof(L3LabelChain));
	labels->inner_nodes = malloc(most_nodes * sizeof(int32_t));
	labels->inner_tokens = malloc(most_nodes * sizeof(int32_t));
	labels->leaf = malloc((size_t) n_labels * sizeof(int32_t));
	labels->n_labels = n_labels;
	if (paths == NULL || labels->nodes == NULL || labels->chains == NULL ||
		labels->inner_nodes == NULL || labels->inner_tokens == NULL || labels->leaf == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory");
	else
	{
		for (int32_t i = 0; i < n_labels; i++)
		{
			int32_t		start = i == 0 ? 0 : end[i - 1];

			paths[i] = (Path)
			{
				tokens + start, end[i] - start, i
			};
		}
		qsort(paths, (size_t) n_labels, sizeof(*paths), compare_paths);
		status = add_paths(labels, paths, err);
	}
	free(paths);
	if (status != L3_OK)
	{
		l3_labels_free(labels);
		return status;
	}
	find_chains(labels);
	return L3_OK;
}

void
l3_labels_free(L3Labels *labels)
{
	free(labels->nodes);
	free(labels->chains);
	free(labels->inner_nodes);
	free(labels->inner_tokens);
	free(labels->leaf);
	memset(labels, 0, sizeof(*labels));
}
