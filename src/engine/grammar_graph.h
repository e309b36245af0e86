/*-------------------------------------------------------------------------
 *
 * grammar_graph.h
 *	  The nodes of a grammar as a graph, for who builds, checks and follows one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_GRAMMAR_GRAPH_H
#define L3_GRAMMAR_GRAPH_H

#include "grammar.h"

#define L3_GRAMMAR_MAGIC	0x314D4752	/* "RGM1" */
#define L3_GRAMMAR_NONE		UINT32_MAX	/* no node, no rule */

/* Nodes of an image or of a builder: offsets count from base. */
typedef struct L3NodeGraph
{
	const uint8_t *base;
	const L3Node *nodes;		/* (n_nodes) */
	const uint32_t *rules;		/* node or L3_GRAMMAR_NONE (n_rules) */
	uint32_t	n_nodes;
	uint32_t	n_rules;
} L3NodeGraph;

/* Nodes that a node names, not through rules: 0 for a leaf and a RULE. */
static inline uint32_t
l3_node_n_children(const L3Node *node)
{
	if (node->kind == L3_NODE_SEQ || node->kind == L3_NODE_ALT)
		return node->n;
	return node->kind == L3_NODE_REPEAT;
}

static inline uint32_t
l3_node_child(const L3NodeGraph *g, const L3Node *node, uint32_t i)
{
	if (node->kind == L3_NODE_REPEAT)
		return node->first;
	return ((const uint32_t *) (const void *) (g->base + node->first))[i];
}

/*
 * The nodes that hold a node, where a RULE holds what it is defined as: those of
 * v are nodes[at[v]] .. nodes[at[v + 1]].  L3_ERR_MEMORY is the only error.
 */
typedef struct L3NodeParents
{
	uint32_t   *at;				/* (n_nodes + 1) */
	uint32_t   *nodes;
} L3NodeParents;

L3Status	l3_node_parents_find(const L3NodeGraph *g, L3NodeParents *parents, L3Error *err);
void		l3_node_parents_free(L3NodeParents *parents);

typedef enum L3NodeProperty
{
	L3_CAN_BE_EMPTY,			/* the empty string is among what it can be */
	L3_CAN_END					/* any string is */
} L3NodeProperty;

/*
 * Which nodes have the property: is (n_nodes) becomes 1 or 0.  L3_ERR_MEMORY is
 * the only error.
 */
L3Status	l3_grammar_property(const L3NodeGraph *g, L3NodeProperty property,
								uint8_t *is, L3Error *err);

/* The digest of an image whose header is filled but for it. */
void		l3_grammar_digest(const L3Grammar *grammar, uint8_t digest[32]);

#endif							/* L3_GRAMMAR_GRAPH_H */
