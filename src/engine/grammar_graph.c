/*-------------------------------------------------------------------------
 *
 * grammar_graph.c
 *	  The nodes of a grammar as a graph: who holds whom.
 *
 *-------------------------------------------------------------------------
 */
#include "grammar_graph.h"

#include <stdlib.h>

typedef void (*EdgeFn) (L3NodeParents *parents, uint32_t child, uint32_t parent);

/* Call visit for each edge, from a node to one that holds it. */
static void
each_edge(const L3NodeGraph *g, L3NodeParents *parents, EdgeFn visit)
{
	for (uint32_t v = 0; v < g->n_nodes; v++)
	{
		const L3Node *node = &g->nodes[v];

		for (uint32_t i = 0; i < l3_node_n_children(node); i++)
			visit(parents, l3_node_child(g, node, i), v);
		if (node->kind == L3_NODE_RULE && g->rules[node->first] != L3_GRAMMAR_NONE)
			visit(parents, g->rules[node->first], v);
	}
}

static void
count_parent(L3NodeParents *parents, uint32_t child, uint32_t parent)
{
	(void) parent;
	parents->at[child]++;
}

/* Fills from the end, so that the ends become beginnings. */
static void
put_parent(L3NodeParents *parents, uint32_t child, uint32_t parent)
{
	parents->nodes[--parents->at[child]] = parent;
}

L3Status
l3_node_parents_find(const L3NodeGraph *g, L3NodeParents *parents, L3Error *err)
{
	uint32_t	n_edges = 0;

	parents->nodes = NULL;
	parents->at = calloc((size_t) g->n_nodes + 1, sizeof(uint32_t));
	if (parents->at == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	each_edge(g, parents, count_parent);
	for (uint32_t v = 0; v < g->n_nodes; v++)
	{
		n_edges += parents->at[v];
		parents->at[v] = n_edges;
	}
	parents->at[g->n_nodes] = n_edges;
	parents->nodes = malloc(((size_t) n_edges + 1) * sizeof(uint32_t));
	if (parents->nodes == NULL)
	{
		l3_node_parents_free(parents);
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	}
	each_edge(g, parents, put_parent);
	return L3_OK;
}

void
l3_node_parents_free(L3NodeParents *parents)
{
	free(parents->at);
	free(parents->nodes);
	parents->at = NULL;
	parents->nodes = NULL;
}
