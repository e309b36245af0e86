/*-------------------------------------------------------------------------
 *
 * automaton_build.c
 *	  What an automaton knows of its grammar before the first byte: classes of
 *	  bytes, and how many tokens suffice for each node.
 *
 *-------------------------------------------------------------------------
 */
#include "automaton.h"

#include <stdlib.h>
#include <string.h>

#include "grammar_graph.h"

/* Nodes that finding the distances may look at, with repetition. */
#define MAX_VISITS		((uint64_t) 1 << 26)

#define MAX_LITERAL_BYTES	(1 << 23)

static const uint8_t *
bytes_of(const L3Grammar *g, const L3Node *n)
{
	return (const uint8_t *) g + n->first;
}

/* ----------------------------------------------------------------
 *		Classes of bytes
 * ----------------------------------------------------------------
 */

/* Tell the bytes of the set from the others of their class. */
static void
split_classes(L3Automaton *a, const uint8_t *bitmap)
{
	int			inside[256];
	int			outside[256];

	memset(inside, -1, sizeof(inside));
	memset(outside, -1, sizeof(outside));
	for (int byte = 0; byte < 256; byte++)
	{
		int			class = a->class_of[byte];
		int		   *half = bitmap[byte >> 3] >> (byte & 7) & 1 ? inside : outside;

		/* the half that is met first keeps the class's number */
		if (half[class] < 0)
			half[class] = (half == inside ? outside : inside)[class] < 0 ?
				class : (int) a->n_classes++;
		a->class_of[byte] = (uint8_t) half[class];
	}
}

static void
find_classes(L3Automaton *a)
{
	bool		split_off[256] = {false};

	a->n_classes = 1;
	for (uint32_t i = 0; i < a->grammar->n_nodes && a->n_classes < 256; i++)
	{
		const L3Node *n = &a->nodes[i];

		if (n->kind == L3_NODE_CLASS)
			split_classes(a, bytes_of(a->grammar, n));
		for (uint32_t j = 0; n->kind == L3_NODE_LITERAL && j < n->n; j++)
		{
			uint8_t		byte = bytes_of(a->grammar, n)[j];
			uint8_t		alone[32] = {0};

			if (split_off[byte])
				continue;
			split_off[byte] = true;
			alone[byte >> 3] = (uint8_t) (1 << (byte & 7));
			split_classes(a, alone);
		}
	}
	for (int byte = 0; byte < 256; byte++)
		a->byte_of[a->class_of[byte]] = (uint8_t) byte;
}

/* ----------------------------------------------------------------
 *		Distances
 * ----------------------------------------------------------------
 */

/* Tokens for each literal, from each of its bytes on. */
static L3Status
find_costs(L3Automaton *a, const L3Trie *trie, L3Error *err)
{
	const L3Grammar *g = a->grammar;
	uint64_t	n_costs = 0;

	for (uint32_t i = 0; i < g->n_nodes; i++)
		if (a->nodes[i].kind == L3_NODE_LITERAL)
		{
			a->cost_at[i] = (uint32_t) n_costs;
			n_costs += a->nodes[i].n;
			/* literals may share their bytes */
			if (n_costs > MAX_LITERAL_BYTES)
				return l3_error(err, L3_ERR_LIMIT, "grammar's literals are longer than %d bytes",
								MAX_LITERAL_BYTES);
		}
	a->n_costs = (uint32_t) n_costs;
	a->costs = malloc((n_costs + 1) * sizeof(uint32_t));
	if (a->costs == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	for (uint32_t i = 0; i < g->n_nodes; i++)
	{
		const L3Node *n = &a->nodes[i];

		if (n->kind != L3_NODE_LITERAL)
			continue;
		if (trie != NULL)
			l3_trie_costs(trie, bytes_of(g, n), n->n, a->costs + a->cost_at[i]);
		for (uint32_t j = 0; j < n->n && trie == NULL; j++)
			a->costs[a->cost_at[i] + j] = n->n - j;
	}
	return L3_OK;
}

static uint32_t
sum(uint64_t x, uint64_t y)
{
	return x + y >= L3_FAR ? L3_FAR : (uint32_t) (x + y);
}

/* From what is known of its children; L3_FAR where nothing is known yet. */
static uint32_t
distance_through(const L3Automaton *a, uint32_t node)
{
	const L3Node *n = &a->nodes[node];
	const uint32_t *children = (const uint32_t *) bytes_of(a->grammar, n);
	uint32_t	least = L3_FAR;
	uint32_t	total = 0;

	switch ((L3NodeKind) n->kind)
	{
		case L3_NODE_EMPTY:
			return 0;
		case L3_NODE_CLASS:
			return 1;
		case L3_NODE_LITERAL:
			return a->costs[a->cost_at[node]];
		case L3_NODE_SEQ:
			for (uint32_t i = 0; i < n->n; i++)
				total = sum(total, a->least[children[i]]);
			return total;
		case L3_NODE_ALT:
			for (uint32_t i = 0; i < n->n; i++)
				if (a->least[children[i]] < least)
					least = a->least[children[i]];
			return least;
		case L3_NODE_REPEAT:
			least = a->least[n->first];
			if (n->min == 0)
				return 0;
			return least != 0 && n->min > L3_FAR / least ? L3_FAR :
				sum((uint64_t) n->min * least, 0);
		case L3_NODE_RULE:
			return a->least[a->rules[n->first]];
	}
	return L3_FAR;
}

/* Which nodes a node's distance matters to, and the nodes to look at again. */
typedef struct Spread
{
	L3NodeParents parents;
	uint32_t	n_nodes;
	uint32_t   *queue;			/* (n_nodes) a ring */
	uint32_t	head;
	uint32_t	n;
	uint8_t    *queued;			/* (n_nodes) */
} Spread;

static void
enqueue(Spread *s, uint32_t node)
{
	if (s->queued[node])
		return;
	s->queued[node] = 1;
	s->queue[(s->head + s->n++) % s->n_nodes] = node;
}

static L3Status
spread_begin(Spread *s, const L3Automaton *a, L3Error *err)
{
	L3NodeGraph graph = {
		.base = (const uint8_t *) a->grammar,
		.nodes = a->nodes,
		.rules = a->rules,
		.n_nodes = a->grammar->n_nodes,
		.n_rules = a->grammar->n_rules
	};

	*s = (Spread) {.n_nodes = graph.n_nodes};
	s->queue = malloc((size_t) s->n_nodes * sizeof(uint32_t));
	s->queued = calloc(s->n_nodes, 1);
	if (s->queue == NULL || s->queued == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	for (uint32_t i = 0; i < s->n_nodes; i++)
		enqueue(s, i);
	return l3_node_parents_find(&graph, &s->parents, err);
}

/*
 * Distances only fall, from L3_FAR, until none falls any more (Bellman and
 * Ford).  All nodes are in the queue at first, children before who contains
 * them.
 */
static L3Status
find_distances(L3Automaton *a, L3Error *err)
{
	Spread		s;
	uint64_t	visits = 0;
	L3Status	status = spread_begin(&s, a, err);

	memset(a->least, 0xff, a->grammar->n_nodes * sizeof(uint32_t));
	while (status == L3_OK && s.n > 0)
	{
		uint32_t	node = s.queue[s.head];
		uint32_t	distance = distance_through(a, node);

		s.head = (s.head + 1) % s.n_nodes;
		s.n--;
		s.queued[node] = 0;
		visits += 1 + a->nodes[node].n;
		if (visits > MAX_VISITS)
			status = l3_error(err, L3_ERR_LIMIT, "grammar's rules are nested too deeply");
		if (distance >= a->least[node])
			continue;
		a->least[node] = distance;
		for (uint32_t i = s.parents.at[node]; i < s.parents.at[node + 1]; i++)
			enqueue(&s, s.parents.nodes[i]);
	}
	l3_node_parents_free(&s.parents);
	free(s.queue);
	free(s.queued);
	return status;
}

/* ----------------------------------------------------------------
 *		The automaton
 * ----------------------------------------------------------------
 */

L3Status
l3_automaton_create(const L3Grammar *grammar, const L3Trie *trie, L3Automaton **automaton,
					L3Error *err)
{
	L3Automaton *a = calloc(1, sizeof(*a));
	L3Status	status;

	if (a == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	a->grammar = malloc(grammar->size);
	a->least = malloc((size_t) grammar->n_nodes * sizeof(uint32_t));
	a->cost_at = calloc(grammar->n_nodes, sizeof(uint32_t));
	if (a->grammar == NULL || a->least == NULL || a->cost_at == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	else
	{
		memcpy(a->grammar, grammar, grammar->size);
		a->nodes = (const L3Node *) ((const char *) a->grammar + grammar->nodes);
		a->rules = (const uint32_t *) ((const char *) a->grammar + grammar->rules);
		status = find_costs(a, trie, err);
	}
	if (status == L3_OK)
		status = find_distances(a, err);
	if (status == L3_OK)
	{
		find_classes(a);
		status = l3_automaton_prepare(a, err);
	}
	if (status != L3_OK)
	{
		l3_automaton_free(a);
		return status;
	}
	*automaton = a;
	return L3_OK;
}

void
l3_automaton_free(L3Automaton *a)
{
	if (a == NULL)
		return;
	free(a->grammar);
	free(a->least);
	free(a->cost_at);
	free(a->costs);
	free(a->elements);
	free(a->stamps);
	free(a->element_table);
	free(a->states);
	free(a->steps);
	free(a->step_efforts);
	free(a->state_table);
	free(a->stacks);
	free(a->work);
	free(a);
}
