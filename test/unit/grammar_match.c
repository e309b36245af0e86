/*-------------------------------------------------------------------------
 *
 * grammar_match.c
 *	  A slow matcher of grammars that shares nothing with the automaton, and
 *	  random grammars, for tests.
 *
 * The matcher computes for each node and each place in the text the set of
 * places where a match may end, and whether the text may end within one.
 *
 *-------------------------------------------------------------------------
 */
#include "grammar_match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

/* ----------------------------------------------------------------
 *		Matching
 * ----------------------------------------------------------------
 */

#define PLACE_WORDS		((MATCH_MAX_TEXT + 1) / 64)

typedef struct Places
{
	uint64_t	ends[PLACE_WORDS];
	bool		cut;			/* the text may end within */
} Places;

typedef struct Match
{
	const L3Grammar *g;
	const uint8_t *text;
	size_t		n;
	Places	  **known;			/* (n_nodes, n + 1) or NULL */
} Match;

static const Places *match_node(Match *m, uint32_t node, size_t at);

static bool
has(const Places *p, size_t at)
{
	return p->ends[at / 64] >> (at % 64) & 1;
}

static void
put(Places *p, size_t at)
{
	p->ends[at / 64] |= UINT64_C(1) << (at % 64);
}

/* Matches of node from every place of from, added to to. */
static void
match_from_each(Match *m, uint32_t node, const Places *from, Places *to)
{
	for (size_t at = 0; at <= m->n; at++)
		if (has(from, at))
		{
			const Places *p = match_node(m, node, at);

			for (size_t i = 0; i < PLACE_WORDS; i++)
				to->ends[i] |= p->ends[i];
			to->cut |= p->cut;
		}
}

static void
match_repeat(Match *m, const L3Node *n, size_t at, Places *result)
{
	Places		now = {0};

	put(&now, at);
	if (n->min == 0)
		put(result, at);
	for (uint64_t i = 1; i <= n->max; i++)
	{
		Places		next = {0};

		match_from_each(m, n->first, &now, &next);
		result->cut |= next.cut;
		next.cut = false;
		if (i >= n->min)
			for (size_t w = 0; w < PLACE_WORDS; w++)
				result->ends[w] |= next.ends[w];
		if (memcmp(&next, &now, sizeof(now)) == 0)
		{
			/* each further iteration gives the same */
			for (size_t w = 0; w < PLACE_WORDS; w++)
				result->ends[w] |= next.ends[w];
			return;
		}
		now = next;
		/* what a body that may be empty can reach it has reached by now */
		if (i > 2 * m->n + 2 && i < n->min)
			i = n->min - 1;
		else if (i > 2 * m->n + 2)
			return;
	}
}

static void
match_now(Match *m, const L3Node *n, size_t at, Places *result)
{
	const uint8_t *bytes = (const uint8_t *) m->g + n->first;
	const uint32_t *children = (const uint32_t *) (const void *) bytes;
	const uint32_t *rules = (const uint32_t *) (const void *) ((const char *) m->g + m->g->rules);
	size_t		i = 0;

	switch ((L3NodeKind) n->kind)
	{
		case L3_NODE_EMPTY:
			put(result, at);
			break;
		case L3_NODE_CLASS:
			if (at == m->n)
				result->cut = true;
			else if (bytes[m->text[at] >> 3] >> (m->text[at] & 7) & 1)
				put(result, at + 1);
			break;
		case L3_NODE_LITERAL:
			while (i < n->n && at + i < m->n && m->text[at + i] == bytes[i])
				i++;
			if (i == n->n)
				put(result, at + i);
			else
				result->cut = at + i == m->n;
			break;
		case L3_NODE_SEQ:
			put(result, at);
			for (; i < n->n; i++)
			{
				Places		next = {.cut = result->cut};

				match_from_each(m, children[i], result, &next);
				*result = next;
			}
			break;
		case L3_NODE_ALT:
			for (; i < n->n; i++)
			{
				const Places *p = match_node(m, children[i], at);

				for (size_t w = 0; w < PLACE_WORDS; w++)
					result->ends[w] |= p->ends[w];
				result->cut |= p->cut;
			}
			break;
		case L3_NODE_REPEAT:
			match_repeat(m, n, at, result);
			break;
		case L3_NODE_RULE:
			*result = *match_node(m, rules[n->first], at);
			break;
	}
}

static const Places *
match_node(Match *m, uint32_t node, size_t at)
{
	const L3Node *nodes = (const L3Node *) (const void *) ((const char *) m->g + m->g->nodes);
	size_t		place = node * (m->n + 1) + at;

	if (m->known[place] == NULL)
	{
		Places	   *p = calloc(1, sizeof(*p));

		match_now(m, &nodes[node], at, p);
		m->known[place] = p;
	}
	return m->known[place];
}

void
match_grammar(const L3Grammar *g, const char *text, size_t n, bool *whole, bool *begins)
{
	const uint32_t *rules = (const uint32_t *) (const void *) ((const char *) g + g->rules);
	Match		m = {.g = g, .text = (const uint8_t *) text, .n = n};
	const Places *p;

	if (n > MATCH_MAX_TEXT)
		abort();
	m.known = calloc((size_t) g->n_nodes * (n + 1), sizeof(Places *));
	p = match_node(&m, rules[g->root], 0);
	*whole = has(p, n);
	*begins = *whole || p->cut;
	for (size_t i = 0; i < (size_t) g->n_nodes * (n + 1); i++)
		free(m.known[i]);
	free(m.known);
}

bool
match_whole(const L3Grammar *g, const char *text, size_t n)
{
	bool		whole;
	bool		begins;

	match_grammar(g, text, n, &whole, &begins);
	return whole;
}

bool
match_begins(const L3Grammar *g, const char *text, size_t n)
{
	bool		whole;
	bool		begins;

	match_grammar(g, text, n, &whole, &begins);
	return begins;
}

/* ----------------------------------------------------------------
 *		Grammars
 * ----------------------------------------------------------------
 */

static L3Grammar *
finish(L3GrammarBuilder *b, uint32_t root)
{
	void	   *image;
	size_t		size;
	L3Error		err;

	if (l3_grammar_build_finish(b, root, &image, &size, &err) != L3_OK)
		return NULL;
	if (l3_grammar_check(image, size, &err) == NULL)
		fixture_check(err.status, &err);
	return image;
}

/* What a random grammar is drawn with. */
typedef struct Drawing
{
	L3GrammarBuilder *b;
	uint64_t   *state;
	int			n_letters;
	uint32_t	rules[3];
} Drawing;

static uint32_t
draw(Drawing *d, uint32_t below)
{
	return (uint32_t) (fixture_random(d->state) >> 33) % below;
}

static uint32_t draw_node(Drawing *d, int depth);

static uint32_t
draw_repeat(Drawing *d, int depth)
{
	static const uint32_t mins[] = {0, 0, 0, 1, 2, 5};
	static const uint32_t maxes[] = {0, 1, 2, 6, 1000000, UINT32_MAX - 1};
	uint32_t	body = draw_node(d, depth);
	uint32_t	min = mins[draw(d, 6)];
	uint32_t	max = maxes[draw(d, 6)];

	if (draw(d, 2) == 0)
		max = L3_GRAMMAR_UNBOUNDED;
	return l3_grammar_repeat(d->b, body, min, max < min ? min : max);
}

static uint32_t
draw_node(Drawing *d, int depth)
{
	uint32_t	children[4];
	uint32_t	n = 1 + draw(d, 3);
	char		text[4];
	uint32_t	kind = depth > 0 ? draw(d, 10) : draw(d, 3);

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char) ('a' + draw(d, (uint32_t) d->n_letters));
	switch (kind)
	{
		case 0:
			return l3_grammar_literal(d->b, text, n);
		case 1:
			return l3_grammar_range(d->b, (uint8_t) 'a', (uint8_t) text[0]);
		case 2:
			return draw(d, 4) == 0 ? l3_grammar_empty(d->b) : l3_grammar_literal(d->b, text, 1);
		case 3:
		case 4:
		case 5:
			for (uint32_t i = 0; i < n; i++)
				children[i] = draw_node(d, depth - 1);
			return l3_grammar_seq(d->b, children, n);
		case 6:
			for (uint32_t i = 0; i < n; i++)
				children[i] = draw_node(d, depth - 1);
			return l3_grammar_alt(d->b, children, n);
		case 7:
		case 8:
			return draw_repeat(d, depth - 1);
		default:
			/* a byte first, or it might come back to itself without one */
			children[0] = l3_grammar_literal(d->b, text, 1);
			children[1] = l3_grammar_rule(d->b, d->rules[draw(d, 3)]);
			children[2] = draw_node(d, depth - 1);
			return l3_grammar_seq(d->b, children, 2 + draw(d, 2));
	}
}

L3Grammar *
random_grammar(uint64_t *state, int n_letters)
{
	Drawing		d = {.b = l3_grammar_build_begin(),.state = state,.n_letters = n_letters};

	for (int i = 0; i < 3; i++)
		d.rules[i] = l3_grammar_new_rule(d.b);
	for (int i = 0; i < 3; i++)
		l3_grammar_define(d.b, d.rules[i], draw_node(&d, 4));
	return finish(d.b, d.rules[0]);
}

uint32_t
grammar_text(L3GrammarBuilder *b, const char *text)
{
	return l3_grammar_literal(b, text, strlen(text));
}

L3Grammar *
grammar_of(uint32_t (*f) (L3GrammarBuilder *b))
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	rule = l3_grammar_new_rule(b);

	l3_grammar_define(b, rule, f(b));
	return finish(b, rule);
}

/* One of these ranges of bytes after another. */
static uint32_t
ranges(L3GrammarBuilder *b, const uint8_t *low, const uint8_t *high, uint32_t n)
{
	uint32_t	bytes[4];

	for (uint32_t i = 0; i < n; i++)
		bytes[i] = l3_grammar_range(b, low[i], high[i]);
	return l3_grammar_seq(b, bytes, n);
}

static uint32_t
json_character(L3GrammarBuilder *b)
{
	static const uint8_t low[][4] = {
		{0xC2, 0x80}, {0xE0, 0xA0, 0x80}, {0xE1, 0x80, 0x80}, {0xED, 0x80, 0x80},
		{0xEE, 0x80, 0x80}, {0xF0, 0x90, 0x80, 0x80}, {0xF1, 0x80, 0x80, 0x80}, {0xF4, 0x80, 0x80, 0x80}
	};
	static const uint8_t high[][4] = {
		{0xDF, 0xBF}, {0xE0, 0xBF, 0xBF}, {0xEC, 0xBF, 0xBF}, {0xED, 0x9F, 0xBF},
		{0xEF, 0xBF, 0xBF}, {0xF0, 0xBF, 0xBF, 0xBF}, {0xF3, 0xBF, 0xBF, 0xBF}, {0xF4, 0x8F, 0xBF, 0xBF}
	};
	uint32_t	escape[2] = {grammar_text(b, "\\"), 0};
	uint32_t	escaped[] = {grammar_text(b, "\""), grammar_text(b, "\\"), grammar_text(b, "n")};
	uint32_t	all[12];
	uint32_t	n = 0;

	escape[1] = l3_grammar_alt(b, escaped, 3);
	all[n++] = l3_grammar_range(b, 0x20, 0x21);
	all[n++] = l3_grammar_range(b, 0x23, 0x5B);
	all[n++] = l3_grammar_range(b, 0x5D, 0x7E);
	all[n++] = l3_grammar_seq(b, escape, 2);
	for (uint32_t i = 0; i < 8; i++)
		all[n++] = ranges(b, low[i], high[i], i == 0 ? 2 : i < 5 ? 3 : 4);
	return l3_grammar_alt(b, all, n);
}

L3Grammar *
json_grammar(uint32_t max_length)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	object = l3_grammar_new_rule(b);
	uint32_t	quote = grammar_text(b, "\"");
	uint32_t	string[] = {quote, l3_grammar_repeat(b, json_character(b), 0, max_length), quote};
	uint32_t	digits[] = {l3_grammar_range(b, '1', '9'),
	l3_grammar_repeat(b, l3_grammar_range(b, '0', '9'), 0, 8)};
	uint32_t	numbers[] = {grammar_text(b, "0"), l3_grammar_seq(b, digits, 2)};
	uint32_t	number[] = {l3_grammar_repeat(b, grammar_text(b, "-"), 0, 1), l3_grammar_alt(b, numbers, 2)};
	uint32_t	tag[] = {l3_grammar_seq(b, string, 3), grammar_text(b, "true"), grammar_text(b, "null")};
	uint32_t	more[] = {grammar_text(b, ", "), l3_grammar_alt(b, tag, 3)};
	uint32_t	tags[] = {more[1], l3_grammar_repeat(b, l3_grammar_seq(b, more, 2), 0, 3)};
	uint32_t	next[] = {grammar_text(b, "null"), l3_grammar_rule(b, object)};
	uint32_t	parts[] = {
		grammar_text(b, "{\"name\": "), tag[0],
		grammar_text(b, ", \"size\": "), l3_grammar_seq(b, number, 2),
		grammar_text(b, ", \"tags\": ["), l3_grammar_repeat(b, l3_grammar_seq(b, tags, 2), 0, 1),
		grammar_text(b, "], \"next\": "), l3_grammar_alt(b, next, 2), grammar_text(b, "}")
	};

	l3_grammar_define(b, object, l3_grammar_seq(b, parts, 9));
	return finish(b, object);
}

static void
print_node(const L3Grammar *g, uint32_t node)
{
	const L3Node *n = (const L3Node *) (const void *) ((const char *) g + g->nodes) + node;
	const uint8_t *bytes = (const uint8_t *) g + n->first;
	const uint32_t *children = (const uint32_t *) (const void *) bytes;

	switch ((L3NodeKind) n->kind)
	{
		case L3_NODE_EMPTY:
			printf("()");
			break;
		case L3_NODE_CLASS:
			printf("[");
			for (int b = 0; b < 256; b++)
				if (bytes[b >> 3] >> (b & 7) & 1)
					printf(b > 32 && b < 127 ? "%c" : "<%02x>", b);
			printf("]");
			break;
		case L3_NODE_LITERAL:
			printf("%.*s", (int) n->n, (const char *) bytes);
			break;
		case L3_NODE_SEQ:
		case L3_NODE_ALT:
			printf("(");
			for (uint32_t i = 0; i < n->n; i++)
			{
				printf(i == 0 ? "" : n->kind == L3_NODE_SEQ ? " " : "|");
				print_node(g, children[i]);
			}
			printf(")");
			break;
		case L3_NODE_REPEAT:
			print_node(g, n->first);
			printf("{%u,%u}", n->min, n->max);
			break;
		case L3_NODE_RULE:
			printf("<%u>", n->first);
			break;
	}
}

void
print_grammar(const L3Grammar *g)
{
	const uint32_t *rules = (const uint32_t *) (const void *) ((const char *) g + g->rules);

	for (uint32_t r = 0; r < g->n_rules; r++)
	{
		printf("# <%u>%s = ", r, r == g->root ? " (root)" : "");
		print_node(g, rules[r]);
		printf("\n");
	}
}
