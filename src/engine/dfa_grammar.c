/*-------------------------------------------------------------------------
 *
 * dfa_grammar.c
 *	  From an automaton over code points to a grammar over bytes.
 *
 * A state becomes the node of what can follow it.  Where the automaton has no
 * circles, nodes refer to nodes; a state that loops to itself is a REPEAT; a
 * state at which another circle closes is a rule.  Runs of states with one way
 * on are one literal.
 *
 *-------------------------------------------------------------------------
 */
#include "dfa.h"

#include <stdlib.h>
#include <string.h>

#include "numbering.h"

#define NONE		UINT32_MAX
#define CLASS_BYTES	32			/* of a bitmap */

/* ----------------------------------------------------------------
 *		Characters
 * ----------------------------------------------------------------
 */

static uint32_t
utf8_encode(uint32_t cp, uint8_t out[4])
{
	if (cp < 0x80)
	{
		out[0] = (uint8_t) cp;
		return 1;
	}
	if (cp < 0x800)
	{
		out[0] = (uint8_t) (0xC0 | cp >> 6);
		out[1] = (uint8_t) (0x80 | (cp & 0x3F));
		return 2;
	}
	if (cp < 0x10000)
	{
		out[0] = (uint8_t) (0xE0 | cp >> 12);
		out[1] = (uint8_t) (0x80 | (cp >> 6 & 0x3F));
		out[2] = (uint8_t) (0x80 | (cp & 0x3F));
		return 3;
	}
	out[0] = (uint8_t) (0xF0 | cp >> 18);
	out[1] = (uint8_t) (0x80 | (cp >> 12 & 0x3F));
	out[2] = (uint8_t) (0x80 | (cp >> 6 & 0x3F));
	out[3] = (uint8_t) (0x80 | (cp & 0x3F));
	return 4;
}

uint32_t
l3_json_char(uint32_t cp, char out[L3_JSON_CHAR_MAX])
{
	static const char short_escapes[] = "\bb\tt\nn\ff\rr\"\"\\\\";
	static const char hex[] = "0123456789abcdef";

	for (const char *p = short_escapes; *p != '\0'; p += 2)
		if (cp == (uint8_t) *p)
		{
			out[0] = '\\';
			out[1] = p[1];
			return 2;
		}
	if (cp < 0x20)
	{
		memcpy(out, "\\u00", 4);
		out[4] = hex[cp >> 4];
		out[5] = hex[cp & 15];
		return 6;
	}
	return utf8_encode(cp, (uint8_t *) out);
}

/* Alternatives that are being collected. */
typedef struct Nodes
{
	L3GrammarBuilder *b;
	uint32_t   *nodes;
	uint32_t	n;
	uint32_t	capacity;
} Nodes;

static void
add_node(Nodes *alternatives, uint32_t node)
{
	if (alternatives->n == alternatives->capacity)
	{
		uint32_t	capacity = alternatives->capacity == 0 ? 16 : alternatives->capacity * 2;
		uint32_t   *grown = realloc(alternatives->nodes, capacity * sizeof(uint32_t));

		if (grown == NULL)
		{
			l3_grammar_build_no_memory(alternatives->b);
			return;
		}
		alternatives->nodes = grown;
		alternatives->capacity = capacity;
	}
	alternatives->nodes[alternatives->n++] = node;
}

/*
 * The sequences of n bytes from low to high, which agree in the bytes before
 * from: where the first byte that differs is not followed by all continuations,
 * its ends are cut off.
 */
static void
add_utf8_range(Nodes *alternatives, uint32_t low, uint32_t high, uint32_t n)
{
	uint8_t		first[4];
	uint8_t		last[4];
	uint32_t	parts[4];

	for (uint32_t i = 1; i < n; i++)
	{
		uint32_t	below = ((uint32_t) 1 << (6 * i)) - 1;	/* bits of i bytes */

		if ((low & ~below) == (high & ~below))
			continue;
		if ((low & below) != 0)
		{
			add_utf8_range(alternatives, low, low | below, n);
			add_utf8_range(alternatives, (low | below) + 1, high, n);
			return;
		}
		if ((high & below) != below)
		{
			add_utf8_range(alternatives, low, (high & ~below) - 1, n);
			add_utf8_range(alternatives, high & ~below, high, n);
			return;
		}
	}
	utf8_encode(low, first);
	utf8_encode(high, last);
	for (uint32_t i = 0; i < n; i++)
		parts[i] = l3_grammar_range(alternatives->b, first[i], last[i]);
	add_node(alternatives, l3_grammar_seq(alternatives->b, parts, n));
}

/* The part of a range whose UTF-8 has n bytes. */
static void
add_multibyte(Nodes *alternatives, L3CharRange range)
{
	static const struct
	{
		uint32_t	low;
		uint32_t	high;
		uint32_t	n_bytes;
	}			parts[] = {
		{0x80, 0x7FF, 2}, {0x800, 0xD7FF, 3}, {0xE000, 0xFFFF, 3}, {0x10000, L3_CHAR_MAX, 4},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
	{
		uint32_t	low = range.low > parts[i].low ? range.low : parts[i].low;
		uint32_t	high = range.high < parts[i].high ? range.high : parts[i].high;

		if (low <= high)
			add_utf8_range(alternatives, low, high, parts[i].n_bytes);
	}
}

/* ASCII: what stands for itself becomes one class, the rest escapes. */
static void
add_ascii(Nodes *alternatives, L3CharRange range, uint8_t bitmap[CLASS_BYTES])
{
	for (uint32_t cp = range.low == 0 ? 1 : range.low; cp < 0x80 && cp <= range.high; cp++)
	{
		char		text[L3_JSON_CHAR_MAX];
		uint32_t	n = l3_json_char(cp, text);

		if (n == 1)
			bitmap[cp >> 3] |= (uint8_t) (1 << (cp & 7));
		else
			add_node(alternatives, l3_grammar_literal(alternatives->b, text, n));
	}
}

uint32_t
l3_char_grammar(L3GrammarBuilder *b, const L3CharRange *ranges, uint32_t n)
{
	Nodes		alternatives = {.b = b};
	uint8_t		bitmap[CLASS_BYTES] = {0};
	uint32_t	node;

	for (uint32_t i = 0; i < n; i++)
	{
		add_ascii(&alternatives, ranges[i], bitmap);
		add_multibyte(&alternatives, ranges[i]);
	}
	add_node(&alternatives, l3_grammar_class(b, bitmap));
	node = l3_grammar_alt(b, alternatives.nodes, alternatives.n);
	free(alternatives.nodes);
	return node;
}

/* ----------------------------------------------------------------
 *		States
 * ----------------------------------------------------------------
 */

typedef struct Emitter
{
	L3GrammarBuilder *b;
	const L3Dfa *dfa;
	uint32_t   *node;			/* of a state that is done (n_states) */
	uint32_t   *rule;			/* of a state where a circle closes, or NONE */
	uint8_t    *colour;			/* (n_states) */
	uint32_t   *path;			/* (n_states) */
	uint32_t   *next;			/* next edges of those on the path (n_states) */
	L3CharRange *ranges;		/* of the edges to one state (most edges of a state) */
	uint32_t   *targets;		/* of a state's edges, without repetition */
	char	   *literal;		/* of a run (n_states + 1 characters) */
} Emitter;

enum
{
	WHITE,						/* not seen */
	GREY,						/* on the path */
	BLACK						/* done */
};

/*
 * The one character that leads on from state, as bytes of JSON, when there is
 * nothing else that state could do; 0 bytes otherwise.
 */
static uint32_t
only_way(const Emitter *e, uint32_t state, char out[L3_JSON_CHAR_MAX])
{
	const L3DfaEdge *edge = &e->dfa->edges[e->dfa->first_edge[state]];

	if (e->dfa->accepts[state] || e->rule[state] != NONE ||
		e->dfa->first_edge[state + 1] - e->dfa->first_edge[state] != 1 ||
		edge->low != edge->high || edge->low == 0 || edge->to == state ||
		(edge->low >= 0xD800 && edge->low <= 0xDFFF))
		return 0;
	return l3_json_char(edge->low, out);
}

/* What state can become, with the literal of a run in front of it. */
static uint32_t
node_from(Emitter *e, uint32_t state)
{
	uint32_t	n = 0;
	uint32_t	length;
	uint32_t	parts[2];

	for (uint32_t steps = 0; steps < e->dfa->n_states; steps++)
	{
		length = only_way(e, state, e->literal + n);
		if (length == 0)
			break;
		n += length;
		state = e->dfa->edges[e->dfa->first_edge[state]].to;
	}
	parts[0] = l3_grammar_literal(e->b, e->literal, n);
	parts[1] = e->rule[state] != NONE ? l3_grammar_rule(e->b, e->rule[state]) : e->node[state];
	return l3_grammar_seq(e->b, parts, 2);
}

/* The characters that lead from state to target. */
static uint32_t
characters_between(Emitter *e, uint32_t state, uint32_t target)
{
	uint32_t	n = 0;

	for (uint32_t i = e->dfa->first_edge[state]; i < e->dfa->first_edge[state + 1]; i++)
		if (e->dfa->edges[i].to == target)
			e->ranges[n++] = (L3CharRange) {e->dfa->edges[i].low, e->dfa->edges[i].high};
	return l3_char_grammar(e->b, e->ranges, n);
}

/* The states that edges of state lead to, once each, in e->targets. */
static uint32_t
collect_targets(Emitter *e, uint32_t state)
{
	uint32_t	n = 0;

	for (uint32_t i = e->dfa->first_edge[state]; i < e->dfa->first_edge[state + 1]; i++)
		e->targets[n++] = e->dfa->edges[i].to;
	return l3_sort_unique(e->targets, n);
}

/*
 * All that can follow state, whose ways on are done or rules.  What is inside a
 * run needs no node: node_from passes over it.
 */
static void
emit_state(Emitter *e, uint32_t state)
{
	Nodes		alternatives = {.b = e->b};
	uint32_t	n_targets = collect_targets(e, state);
	uint32_t	parts[2] = {l3_grammar_empty(e->b), 0};

	if (only_way(e, state, e->literal) > 0)
		return;
	for (uint32_t i = 0; i < n_targets; i++)
	{
		uint32_t	characters = characters_between(e, state, e->targets[i]);
		uint32_t	way[2] = {characters, 0};

		if (e->targets[i] == state)
		{
			parts[0] = l3_grammar_repeat(e->b, characters, 0, L3_GRAMMAR_UNBOUNDED);
			continue;
		}
		way[1] = node_from(e, e->targets[i]);
		add_node(&alternatives, l3_grammar_seq(e->b, way, 2));
	}
	if (e->dfa->accepts[state])
		add_node(&alternatives, l3_grammar_empty(e->b));
	parts[1] = l3_grammar_alt(e->b, alternatives.nodes, alternatives.n);
	e->node[state] = l3_grammar_seq(e->b, parts, 2);
	if (e->rule[state] != NONE)
		l3_grammar_define(e->b, e->rule[state], e->node[state]);
	free(alternatives.nodes);
}

/* Depth first: a state is emitted when all that it leads to is. */
static void
emit_all(Emitter *e)
{
	uint32_t	depth = 0;

	e->colour[0] = GREY;
	e->path[depth] = 0;
	e->next[depth++] = e->dfa->first_edge[0];
	while (depth > 0 && !l3_grammar_build_failed(e->b))
	{
		uint32_t	state = e->path[depth - 1];
		uint32_t	to;

		if (e->next[depth - 1] == e->dfa->first_edge[state + 1])
		{
			e->colour[state] = BLACK;
			emit_state(e, state);
			depth--;
			continue;
		}
		to = e->dfa->edges[e->next[depth - 1]++].to;
		if (e->colour[to] == GREY && to != state && e->rule[to] == NONE)
			e->rule[to] = l3_grammar_new_rule(e->b);
		if (e->colour[to] == WHITE)
		{
			e->colour[to] = GREY;
			e->path[depth] = to;
			e->next[depth++] = e->dfa->first_edge[to];
		}
	}
}

static bool
emitter_begin(Emitter *e, L3GrammarBuilder *b, const L3Dfa *dfa)
{
	size_t		n = dfa->n_states;
	size_t		n_edges = dfa->first_edge[n];

	memset(e, 0, sizeof(*e));
	e->b = b;
	e->dfa = dfa;
	e->node = calloc(n, sizeof(uint32_t));
	e->rule = malloc(n * sizeof(uint32_t));
	e->colour = calloc(n, 1);
	e->path = malloc(n * sizeof(uint32_t));
	e->next = malloc(n * sizeof(uint32_t));
	e->ranges = malloc((n_edges + 1) * sizeof(L3CharRange));
	e->targets = malloc((n_edges + 1) * sizeof(uint32_t));
	e->literal = malloc((n + 1) * L3_JSON_CHAR_MAX);
	if (e->rule != NULL)
		memset(e->rule, 0xFF, n * sizeof(uint32_t));
	return e->node != NULL && e->rule != NULL && e->colour != NULL && e->path != NULL &&
		e->next != NULL && e->ranges != NULL && e->targets != NULL && e->literal != NULL;
}

static void
emitter_end(Emitter *e)
{
	free(e->node);
	free(e->rule);
	free(e->colour);
	free(e->path);
	free(e->next);
	free(e->ranges);
	free(e->targets);
	free(e->literal);
}

uint32_t
l3_dfa_grammar(L3GrammarBuilder *b, const L3Dfa *dfa)
{
	Emitter		e;
	uint32_t	node = 0;

	if (dfa->n_states == 0)
		return l3_grammar_alt(b, NULL, 0);
	if (!emitter_begin(&e, b, dfa))
		l3_grammar_build_no_memory(b);
	else
	{
		emit_all(&e);
		if (!l3_grammar_build_failed(b))
			node = node_from(&e, 0);
	}
	emitter_end(&e);
	return node;
}
