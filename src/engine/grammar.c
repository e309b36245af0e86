/*-------------------------------------------------------------------------
 *
 * grammar.c
 *	  Checking the image of a grammar.
 *
 * An image has passed through shared memory when an engine worker sees it, so
 * the worker believes none of it.  All that is checked here is what following
 * it rests on: then every offset is sound, every walk from a rule comes to a
 * byte or to its end, and every beginning can be completed.
 *
 *-------------------------------------------------------------------------
 */
#include "grammar_graph.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CLASS_BYTES		32		/* of a bitmap */

/* ----------------------------------------------------------------
 *		Properties of nodes
 * ----------------------------------------------------------------
 */

/*
 * A property that spreads from the leaves: each node waits for a number of its
 * children, and tells its parents when it has them.  Rules are vertices behind
 * the nodes.
 */
typedef struct Spread
{
	const L3NodeGraph *g;
	L3NodeParents parents;
	uint32_t   *missing;		/* children to wait for (n_nodes) */
	uint32_t   *stack;			/* nodes to tell of (n_nodes) */
	uint32_t	n_stack;
} Spread;

static uint32_t
children_to_wait_for(const L3NodeGraph *g, const L3Node *node, L3NodeProperty property)
{
	static const uint8_t no_bytes[CLASS_BYTES];

	switch ((L3NodeKind) node->kind)
	{
		case L3_NODE_EMPTY:
			return 0;
		case L3_NODE_CLASS:
			return property == L3_CAN_END &&
				memcmp(g->base + node->first, no_bytes, CLASS_BYTES) != 0 ? 0 : UINT32_MAX;
		case L3_NODE_LITERAL:
			return property == L3_CAN_END ? 0 : UINT32_MAX;
		case L3_NODE_SEQ:
			return node->n;
		case L3_NODE_REPEAT:
			return node->min > 0;
		case L3_NODE_ALT:
		case L3_NODE_RULE:
			return 1;
	}
	return UINT32_MAX;
}

static L3Status
spread_begin(Spread *s, const L3NodeGraph *g, L3Error *err)
{
	memset(s, 0, sizeof(*s));
	s->g = g;
	s->missing = malloc(((size_t) g->n_nodes + 1) * sizeof(uint32_t));
	s->stack = malloc(((size_t) g->n_nodes + 1) * sizeof(uint32_t));
	if (s->missing == NULL || s->stack == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	return l3_node_parents_find(g, &s->parents, err);
}

static void
spread_end(Spread *s)
{
	l3_node_parents_free(&s->parents);
	free(s->missing);
	free(s->stack);
}

static void
spread_run(Spread *s, L3NodeProperty property)
{
	const L3NodeGraph *g = s->g;

	for (uint32_t v = 0; v < g->n_nodes; v++)
	{
		s->missing[v] = children_to_wait_for(g, &g->nodes[v], property);
		if (s->missing[v] == 0)
			s->stack[s->n_stack++] = v;
	}
	while (s->n_stack > 0)
	{
		uint32_t	v = s->stack[--s->n_stack];

		for (uint32_t i = s->parents.at[v]; i < s->parents.at[v + 1]; i++)
		{
			uint32_t	parent = s->parents.nodes[i];

			if (s->missing[parent] > 0 && --s->missing[parent] == 0)
				s->stack[s->n_stack++] = parent;
		}
	}
}

L3Status
l3_grammar_property(const L3NodeGraph *g, L3NodeProperty property, uint8_t *is, L3Error *err)
{
	Spread		s;
	L3Status	status = spread_begin(&s, g, err);

	if (status == L3_OK)
	{
		spread_run(&s, property);
		for (uint32_t v = 0; v < g->n_nodes; v++)
			is[v] = s.missing[v] == 0;
	}
	spread_end(&s);
	return status;
}

/* ----------------------------------------------------------------
 *		Left recursion
 * ----------------------------------------------------------------
 */

/* A walk over what can be entered without a byte. */
typedef struct Walk
{
	const L3NodeGraph *g;
	const uint8_t *can_be_empty;	/* (n_nodes) */
	uint8_t    *colour;			/* (n_nodes) */
	uint32_t   *path;			/* nodes being walked (n_nodes) */
	uint32_t   *next;			/* their next children (n_nodes) */
} Walk;

enum
{
	WHITE,						/* not seen */
	GREY,						/* on the path */
	BLACK						/* done */
};

/* Child i of those that can be entered first, or L3_GRAMMAR_NONE. */
static uint32_t
first_child(const Walk *w, const L3Node *node, uint32_t i)
{
	if (node->kind == L3_NODE_RULE)
		return i == 0 ? w->g->rules[node->first] : L3_GRAMMAR_NONE;
	if (i >= l3_node_n_children(node))
		return L3_GRAMMAR_NONE;
	if (node->kind == L3_NODE_SEQ && i > 0 &&
		!w->can_be_empty[l3_node_child(w->g, node, i - 1)])
		return L3_GRAMMAR_NONE;
	return l3_node_child(w->g, node, i);
}

static bool
comes_back(Walk *w, uint32_t start)
{
	uint32_t	depth = 0;

	if (w->colour[start] != WHITE)
		return false;
	w->colour[start] = GREY;
	w->path[depth] = start;
	w->next[depth++] = 0;
	while (depth > 0)
	{
		uint32_t	v = w->path[depth - 1];
		uint32_t	child = first_child(w, &w->g->nodes[v], w->next[depth - 1]++);

		if (child == L3_GRAMMAR_NONE)
		{
			w->colour[v] = BLACK;
			depth--;
			continue;
		}
		if (w->colour[child] == GREY)
			return true;
		if (w->colour[child] == WHITE)
		{
			w->colour[child] = GREY;
			w->path[depth] = child;
			w->next[depth++] = 0;
		}
	}
	return false;
}

static L3Status
check_left_recursion(const L3NodeGraph *g, const uint8_t *can_be_empty, L3Error *err)
{
	Walk		w = {.g = g, .can_be_empty = can_be_empty};
	L3Status	status = L3_OK;

	w.colour = calloc(g->n_nodes, 1);
	w.path = malloc(g->n_nodes * sizeof(uint32_t));
	w.next = malloc(g->n_nodes * sizeof(uint32_t));
	if (w.colour == NULL || w.path == NULL || w.next == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	for (uint32_t v = 0; v < g->n_nodes && status == L3_OK; v++)
		if (comes_back(&w, v))
			status = l3_error(err, L3_ERR_FORMAT,
							  "grammar has a rule that comes back to itself without a byte");
	free(w.colour);
	free(w.path);
	free(w.next);
	return status;
}

/* ----------------------------------------------------------------
 *		The image
 * ----------------------------------------------------------------
 */

void
l3_grammar_digest(const L3Grammar *grammar, uint8_t digest[32])
{
	for (uint64_t half = 0; half < 2; half++)
	{
		struct
		{
			uint8_t		header[offsetof(L3Grammar, digest)];
			XXH128_hash_t rest;
		}			all;
		XXH128_hash_t hash;

		memcpy(all.header, grammar, sizeof(all.header));
		all.rest = XXH3_128bits_withSeed(grammar + 1, grammar->size - sizeof(L3Grammar), half);
		hash = XXH3_128bits_withSeed(&all, sizeof(all), half);
		memcpy(digest + half * sizeof(hash), &hash, sizeof(hash));
	}
}

static bool
is_inside(const L3Grammar *grammar, uint32_t offset, uint64_t n_bytes)
{
	return offset >= sizeof(L3Grammar) && offset <= grammar->size &&
		n_bytes <= grammar->size - offset;
}

static L3Status
check_header(const L3Grammar *grammar, size_t size, L3Error *err)
{
	uint8_t		digest[32];

	if (size < sizeof(L3Grammar) || size > L3_GRAMMAR_MAX_BYTES || grammar->size != size ||
		grammar->magic != L3_GRAMMAR_MAGIC || grammar->reserved != 0)
		return l3_error(err, L3_ERR_FORMAT, "%zu bytes are not a grammar", size);
	if (grammar->n_nodes == 0 || grammar->n_nodes > L3_GRAMMAR_MAX_NODES ||
		grammar->nodes % sizeof(uint32_t) != 0 ||
		!is_inside(grammar, grammar->nodes, (uint64_t) grammar->n_nodes * sizeof(L3Node)))
		return l3_error(err, L3_ERR_FORMAT, "grammar has %u nodes outside its image",
						grammar->n_nodes);
	if (grammar->n_rules == 0 || grammar->n_rules > L3_GRAMMAR_MAX_RULES ||
		grammar->rules % sizeof(uint32_t) != 0 || grammar->root >= grammar->n_rules ||
		!is_inside(grammar, grammar->rules, (uint64_t) grammar->n_rules * sizeof(uint32_t)))
		return l3_error(err, L3_ERR_FORMAT, "grammar has %u rules outside its image",
						grammar->n_rules);
	l3_grammar_digest(grammar, digest);
	if (memcmp(digest, grammar->digest, sizeof(digest)) != 0)
		return l3_error(err, L3_ERR_FORMAT, "grammar does not have its digest");
	return L3_OK;
}

static bool
node_is_sound(const L3Grammar *grammar, const L3NodeGraph *g, uint32_t number)
{
	const L3Node *node = &g->nodes[number];

	switch (node->kind)
	{
		case L3_NODE_EMPTY:
			return true;
		case L3_NODE_CLASS:
			return is_inside(grammar, node->first, CLASS_BYTES);
		case L3_NODE_LITERAL:
			return node->n > 0 && is_inside(grammar, node->first, node->n);
		case L3_NODE_SEQ:
		case L3_NODE_ALT:
			if (node->n == 0 || node->first % sizeof(uint32_t) != 0 ||
				!is_inside(grammar, node->first, (uint64_t) node->n * sizeof(uint32_t)))
				return false;
			break;
		case L3_NODE_REPEAT:
			if (node->min > node->max)
				return false;
			break;
		case L3_NODE_RULE:
			return node->first < grammar->n_rules;
		default:
			return false;
	}
	for (uint32_t i = 0; i < l3_node_n_children(node); i++)
		if (l3_node_child(g, node, i) >= number)
			return false;
	return true;
}

/*
 * Lists of children may overlap, so that a small image could name very many.
 * The sum that an image without overlap can have is the bound.
 */
static L3Status
check_nodes(const L3Grammar *grammar, const L3NodeGraph *g, L3Error *err)
{
	uint64_t	n_children = 0;

	for (uint32_t v = 0; v < g->n_nodes; v++)
	{
		if (!node_is_sound(grammar, g, v))
			return l3_error(err, L3_ERR_FORMAT, "node %u of a grammar is damaged", v);
		if (g->nodes[v].kind == L3_NODE_SEQ || g->nodes[v].kind == L3_NODE_ALT)
			n_children += g->nodes[v].n;
	}
	if (n_children > grammar->size / sizeof(uint32_t))
		return l3_error(err, L3_ERR_FORMAT, "nodes of a grammar overlap");
	for (uint32_t r = 0; r < g->n_rules; r++)
		if (g->rules[r] >= g->n_nodes)
			return l3_error(err, L3_ERR_FORMAT, "rule %u of a grammar is damaged", r);
	return L3_OK;
}

static L3Status
check_can_end(const L3NodeGraph *g, const uint8_t *can_end, L3Error *err)
{
	for (uint32_t v = 0; v < g->n_nodes; v++)
		if (!can_end[v])
			return l3_error(err, L3_ERR_FORMAT, "node %u of a grammar cannot come to an end", v);
	return L3_OK;
}

const L3Grammar *
l3_grammar_check(const void *mem, size_t size, L3Error *err)
{
	const L3Grammar *grammar = mem;
	const uint8_t *base = mem;
	L3NodeGraph g;
	uint8_t    *is;
	L3Status	status = check_header(grammar, size, err);

	if (status != L3_OK)
		return NULL;
	g.base = base;
	g.nodes = (const L3Node *) (const void *) (base + grammar->nodes);
	g.rules = (const uint32_t *) (const void *) (base + grammar->rules);
	g.n_nodes = grammar->n_nodes;
	g.n_rules = grammar->n_rules;
	if (check_nodes(grammar, &g, err) != L3_OK)
		return NULL;

	is = malloc(g.n_nodes);
	if (is == NULL)
	{
		l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
		return NULL;
	}
	if ((status = l3_grammar_property(&g, L3_CAN_END, is, err)) == L3_OK &&
		(status = check_can_end(&g, is, err)) == L3_OK &&
		(status = l3_grammar_property(&g, L3_CAN_BE_EMPTY, is, err)) == L3_OK)
		status = check_left_recursion(&g, is, err);
	free(is);
	return status == L3_OK ? grammar : NULL;
}
