/*-------------------------------------------------------------------------
 *
 * regex.c
 *	  Regular expressions: parsing, and Thompson's construction.
 *
 * A pattern is first parsed into a tree, since {n,m} writes its operand down
 * many times, then written as a nondeterministic automaton (K. Thompson,
 * Regular Expression Search Algorithm, CACM 11:6, 1968).
 *
 *-------------------------------------------------------------------------
 */
#include "regex.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

#define END			UINT32_MAX	/* no more characters */
#define MAX_NODES	(4 * L3_REGEX_MAX_BYTES)
#define MAX_RANGES	(8 * L3_REGEX_MAX_BYTES)
#define MAX_COUNT	100000		/* in braces */

typedef enum NodeKind
{
	NODE_EMPTY,
	NODE_SET,					/* a character of ranges a .. a + b */
	NODE_SEQ,					/* node a, then node b */
	NODE_ALT,					/* node a or node b */
	NODE_REPEAT					/* node a, min to max times */
} NodeKind;

typedef struct Node
{
	NodeKind	kind;
	uint32_t	a;
	uint32_t	b;
	uint32_t	min;
	uint32_t	max;
} Node;

typedef struct Parser
{
	const uint8_t *text;
	size_t		len;
	size_t		at;
	uint32_t	depth;			/* of groups */
	Node	   *nodes;			/* (MAX_NODES) */
	uint32_t	n_nodes;
	L3CharRange *ranges;		/* (MAX_RANGES) */
	uint32_t	n_ranges;
	L3Error    *err;
	L3Status	status;
} Parser;

static const L3CharRange digits[] = {{'0', '9'}};
static const L3CharRange word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
/* ECMA-262, WhiteSpace and LineTerminator. */
static const L3CharRange space[] = {
	{0x09, 0x0D}, {0x20, 0x20}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A},
	{0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF},
};
static const L3CharRange line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

#define LENGTH(array)	((uint32_t) (sizeof(array) / sizeof((array)[0])))

/* ----------------------------------------------------------------
 *		Errors and characters
 * ----------------------------------------------------------------
 */

static void
fail(Parser *p, L3Status status, const char *what)
{
	if (p->status == L3_OK)
		p->status = l3_error(p->err, status, "%s at character %zu of the pattern", what, p->at);
}

static void
fail_unsupported(Parser *p, const char *what)
{
	if (p->status == L3_OK)
		p->status = l3_error(p->err, L3_ERR_UNSUPPORTED, "%s is not supported in a pattern", what);
}

/* The code point at the place, or END; *length in bytes. */
static uint32_t
peek(const Parser *p, unsigned *length)
{
	uint32_t	cp;

	*length = 0;
	if (p->at >= p->len || p->status != L3_OK)
		return END;
	*length = l3_utf8_decode(p->text + p->at, p->len - p->at, &cp);
	return cp;
}

static uint32_t
next(Parser *p)
{
	unsigned	length;
	uint32_t	cp = peek(p, &length);

	p->at += length;
	return cp;
}

static bool
looking_at(const Parser *p, const char *what)
{
	size_t		n = strlen(what);

	return p->status == L3_OK && p->len - p->at >= n && memcmp(p->text + p->at, what, n) == 0;
}

static bool
take(Parser *p, const char *what)
{
	if (!looking_at(p, what))
		return false;
	p->at += strlen(what);
	return true;
}

static uint32_t
add_node(Parser *p, Node node)
{
	if (p->n_nodes == MAX_NODES)
	{
		if (p->status == L3_OK)
			p->status = l3_error(p->err, L3_ERR_LIMIT, "pattern is too long");
		return 0;
	}
	p->nodes[p->n_nodes] = node;
	return p->n_nodes++;
}

static void
add_range(Parser *p, uint32_t low, uint32_t high)
{
	if (p->n_ranges == MAX_RANGES)
	{
		if (p->status == L3_OK)
			p->status = l3_error(p->err, L3_ERR_LIMIT, "pattern is too long");
	}
	else
		p->ranges[p->n_ranges++] = (L3CharRange) {low, high};
}

/* ----------------------------------------------------------------
 *		Sets of characters
 * ----------------------------------------------------------------
 */

static int
compare_ranges(const void *a, const void *b)
{
	uint32_t	x = ((const L3CharRange *) a)->low;
	uint32_t	y = ((const L3CharRange *) b)->low;

	return (x > y) - (x < y);
}

/* Replace the ranges from first on by what is in none of them. */
static void
complement(Parser *p, uint32_t first)
{
	uint32_t	n = p->n_ranges - first;
	uint32_t	from = 0;
	uint32_t	n_gaps = 0;

	/* Sorted and merged in place, each gap fits where a range was; one more. */
	qsort(p->ranges + first, n, sizeof(L3CharRange), compare_ranges);
	for (uint32_t i = first; i < first + n; i++)
	{
		L3CharRange range = p->ranges[i];

		if (range.low > from)
			p->ranges[first + n_gaps++] = (L3CharRange) {from, range.low - 1};
		if (range.high + 1 > from)
			from = range.high + 1;
	}
	p->n_ranges = first + n_gaps;
	if (from <= L3_CHAR_MAX)
		add_range(p, from, L3_CHAR_MAX);
}

static void
add_set(Parser *p, const L3CharRange *ranges, uint32_t n, bool negated)
{
	uint32_t	first = p->n_ranges;

	for (uint32_t i = 0; i < n; i++)
		add_range(p, ranges[i].low, ranges[i].high);
	if (negated && p->status == L3_OK)
		complement(p, first);
}

/* \d and the like; false when letter is none of them. */
static bool
add_named_set(Parser *p, uint32_t letter)
{
	switch (letter)
	{
		case 'd':
		case 'D':
			add_set(p, digits, LENGTH(digits), letter == 'D');
			return true;
		case 'w':
		case 'W':
			add_set(p, word, LENGTH(word), letter == 'W');
			return true;
		case 's':
		case 'S':
			add_set(p, space, LENGTH(space), letter == 'S');
			return true;
		default:
			return false;
	}
}

static uint32_t
hex_digit(uint32_t cp)
{
	if (cp >= '0' && cp <= '9')
		return cp - '0';
	if (cp >= 'a' && cp <= 'f')
		return cp - 'a' + 10;
	if (cp >= 'A' && cp <= 'F')
		return cp - 'A' + 10;
	return END;
}

static uint32_t
hex_number(Parser *p, unsigned n_digits)
{
	uint32_t	value = 0;

	for (unsigned i = 0; i < n_digits; i++)
	{
		uint32_t	digit = hex_digit(next(p));

		if (digit == END)
		{
			fail(p, L3_ERR_ARG, "incomplete escape");
			return 0;
		}
		value = value << 4 | digit;
	}
	return value;
}

/* What follows \u: four digits, a pair of surrogates, or braces. */
static uint32_t
unicode_escape(Parser *p)
{
	uint32_t	value = 0;

	if (!take(p, "{"))
	{
		value = hex_number(p, 4);
		if (value >= 0xD800 && value <= 0xDBFF && take(p, "\\u"))
		{
			uint32_t	low = hex_number(p, 4);

			if (low >= 0xDC00 && low <= 0xDFFF)
				return 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
			fail(p, L3_ERR_ARG, "half of a surrogate pair");
		}
		return value;
	}
	for (;;)
	{
		uint32_t	digit;

		if (take(p, "}"))
			return value;
		digit = hex_digit(next(p));
		value = value << 4 | digit;
		if (digit == END || value > L3_CHAR_MAX)
		{
			fail(p, L3_ERR_ARG, "wrong escape");
			return 0;
		}
	}
}

/* The character that an escape, whose backslash is taken, stands for. */
static uint32_t
character_escape(Parser *p, bool in_class)
{
	uint32_t	cp = next(p);

	switch (cp)
	{
		case 't':
			return '\t';
		case 'n':
			return '\n';
		case 'v':
			return '\v';
		case 'f':
			return '\f';
		case 'r':
			return '\r';
		case 'x':
			return hex_number(p, 2);
		case 'u':
			return unicode_escape(p);
		case 'b':
			if (in_class)
				return '\b';
			break;
		default:
			break;
	}
	if ((cp >= 0x21 && cp <= 0x2F) || (cp >= 0x3A && cp <= 0x40) ||
		(cp >= 0x5B && cp <= 0x60 && cp != '_') || (cp >= 0x7B && cp <= 0x7E))
		return cp;
	if (cp == END)
		fail(p, L3_ERR_ARG, "a backslash without a character");
	else if (cp >= '0' && cp <= '9')
		fail_unsupported(p, "a reference to a group (\"\\1\")");
	else if (cp == 'p' || cp == 'P')
		fail_unsupported(p, "a Unicode property (\"\\p\")");
	else if (cp == 'b' || cp == 'B')
		fail_unsupported(p, "a word boundary (\"\\b\")");
	else if (cp == 'k')
		fail_unsupported(p, "a reference to a group (\"\\k\")");
	else
		fail(p, L3_ERR_ARG, "unknown escape");
	return 0;
}

static uint32_t
set_node(Parser *p, uint32_t first)
{
	return add_node(p, (Node) {.kind = NODE_SET, .a = first, .b = p->n_ranges - first});
}

static uint32_t
character_node(Parser *p, uint32_t cp)
{
	uint32_t	first = p->n_ranges;

	add_range(p, cp, cp);
	return set_node(p, first);
}

/* One end of a range in a class; *is_set when it was \d or the like. */
static uint32_t
class_atom(Parser *p, bool *is_set)
{
	unsigned	length;

	*is_set = false;
	if (!take(p, "\\"))
	{
		uint32_t	cp = next(p);

		if (cp == END)
			fail(p, L3_ERR_ARG, "class without an end");
		return cp;
	}
	if (add_named_set(p, peek(p, &length)))
	{
		p->at += length;
		*is_set = true;
		return 0;
	}
	return character_escape(p, true);
}

/* A class, whose bracket is taken. */
static uint32_t
parse_class(Parser *p)
{
	uint32_t	first = p->n_ranges;
	bool		negated = take(p, "^");

	while (p->status == L3_OK && !take(p, "]"))
	{
		bool		is_set;
		uint32_t	low = class_atom(p, &is_set);
		uint32_t	high = low;

		if (looking_at(p, "-") && !looking_at(p, "-]"))
		{
			bool		high_is_set;

			take(p, "-");
			high = class_atom(p, &high_is_set);
			if (is_set || high_is_set || high < low)
				fail(p, L3_ERR_ARG, "wrong range");
		}
		if (!is_set && p->status == L3_OK)
			add_range(p, low, high);
	}
	if (negated && p->status == L3_OK)
		complement(p, first);
	return set_node(p, first);
}

/* ----------------------------------------------------------------
 *		Expressions
 * ----------------------------------------------------------------
 */

static uint32_t parse_alternatives(Parser *p);

static uint32_t
parse_group(Parser *p)
{
	uint32_t	node;

	if (take(p, "?:"))
		;
	else if (looking_at(p, "?=") || looking_at(p, "?!") || looking_at(p, "?<=") ||
			 looking_at(p, "?<!"))
		fail_unsupported(p, "looking around (\"(?=\")");
	else if (looking_at(p, "?"))
		fail_unsupported(p, "a group that begins with \"(?\"");
	if (++p->depth > L3_REGEX_MAX_DEPTH && p->status == L3_OK)
		p->status = l3_error(p->err, L3_ERR_LIMIT, "groups of the pattern are nested deeper than %d",
							 L3_REGEX_MAX_DEPTH);
	if (p->status != L3_OK)
		return 0;
	node = parse_alternatives(p);
	if (p->status == L3_OK && !take(p, ")"))
		fail(p, L3_ERR_ARG, "group without an end");
	p->depth--;
	return node;
}

static uint32_t
parse_escape(Parser *p)
{
	uint32_t	first = p->n_ranges;
	unsigned	length;

	if (add_named_set(p, peek(p, &length)))
	{
		p->at += length;
		return set_node(p, first);
	}
	return character_node(p, character_escape(p, false));
}

static uint32_t
parse_atom(Parser *p)
{
	uint32_t	first = p->n_ranges;
	uint32_t	cp = next(p);

	switch (cp)
	{
		case '(':
			return parse_group(p);
		case '[':
			return parse_class(p);
		case '\\':
			return parse_escape(p);
		case '.':
			add_set(p, line_ends, LENGTH(line_ends), true);
			return set_node(p, first);
		case '^':
		case '$':
			fail_unsupported(p, "\"^\" or \"$\" elsewhere than at the ends");
			return 0;
		case '*':
		case '+':
		case '?':
		case '{':
			fail(p, L3_ERR_ARG, "nothing to repeat");
			return 0;
		case '}':
		case ']':
			fail(p, L3_ERR_ARG, "unexpected bracket");
			return 0;
		default:
			return character_node(p, cp);
	}
}

/* A number of braces, or END when there is none. */
static uint32_t
parse_count(Parser *p)
{
	uint32_t	value = 0;
	bool		any = false;

	while (p->at < p->len && p->text[p->at] >= '0' && p->text[p->at] <= '9')
	{
		any = true;
		if (value <= MAX_COUNT)
			value = value * 10 + (p->text[p->at] - '0');
		p->at++;
	}
	if (value > MAX_COUNT && p->status == L3_OK)
		p->status = l3_error(p->err, L3_ERR_LIMIT,
							 "pattern repeats more than %d times", MAX_COUNT);
	return any ? value : END;
}

static uint32_t
repeat_node(Parser *p, uint32_t node, uint32_t min, uint32_t max)
{
	return add_node(p, (Node) {.kind = NODE_REPEAT, .a = node, .min = min, .max = max});
}

static uint32_t
parse_braces(Parser *p, uint32_t node)
{
	uint32_t	min = parse_count(p);
	uint32_t	max = min;

	if (min != END && take(p, ","))
		max = looking_at(p, "}") ? L3_GRAMMAR_UNBOUNDED : parse_count(p);
	if (min == END || !take(p, "}") || max < min)
		fail(p, L3_ERR_ARG, "wrong number of times");
	return repeat_node(p, node, min, max);
}

/* An atom with what says how often. */
static uint32_t
parse_term(Parser *p)
{
	uint32_t	node = parse_atom(p);

	if (take(p, "*"))
		node = repeat_node(p, node, 0, L3_GRAMMAR_UNBOUNDED);
	else if (take(p, "+"))
		node = repeat_node(p, node, 1, L3_GRAMMAR_UNBOUNDED);
	else if (take(p, "?"))
		node = repeat_node(p, node, 0, 1);
	else if (take(p, "{"))
		node = parse_braces(p, node);
	else
		return node;
	take(p, "?");
	return node;
}

/* Any text, where an alternative has no anchor. */
static uint32_t
anything(Parser *p)
{
	uint32_t	first = p->n_ranges;

	add_range(p, 0, L3_CHAR_MAX);
	return repeat_node(p, set_node(p, first), 0, L3_GRAMMAR_UNBOUNDED);
}

static uint32_t
parse_sequence(Parser *p)
{
	bool		at_top = p->depth == 0;
	uint32_t	node = add_node(p, (Node) {.kind = NODE_EMPTY});
	bool		ended = false;
	unsigned	length;

	if (at_top && !take(p, "^"))
		node = anything(p);
	while (p->status == L3_OK && peek(p, &length) != END && !looking_at(p, "|") &&
		   !looking_at(p, ")"))
	{
		uint32_t	term;

		if (at_top && (looking_at(p, "$|") || (looking_at(p, "$") && p->at + 1 == p->len)))
		{
			take(p, "$");
			ended = true;
			break;
		}
		term = parse_term(p);
		node = add_node(p, (Node) {.kind = NODE_SEQ, .a = node, .b = term});
	}
	if (at_top && !ended)
	{
		uint32_t	rest = anything(p);

		node = add_node(p, (Node) {.kind = NODE_SEQ, .a = node, .b = rest});
	}
	return node;
}

static uint32_t
parse_alternatives(Parser *p)
{
	uint32_t	node = parse_sequence(p);

	while (p->status == L3_OK && take(p, "|"))
	{
		uint32_t	other = parse_sequence(p);

		node = add_node(p, (Node) {.kind = NODE_ALT, .a = node, .b = other});
	}
	return node;
}

/* ----------------------------------------------------------------
 *		Thompson's construction
 * ----------------------------------------------------------------
 */

static uint32_t write_node(const Parser *p, L3Nfa *nfa, uint32_t number, uint32_t from);

static uint32_t
write_repeat(const Parser *p, L3Nfa *nfa, const Node *node, uint32_t from)
{
	uint32_t	end;

	for (uint32_t i = 0; i < node->min && nfa->status == L3_OK; i++)
		from = write_node(p, nfa, node->a, from);
	end = l3_nfa_state(nfa);
	if (node->max == L3_GRAMMAR_UNBOUNDED)
	{
		uint32_t	again = l3_nfa_state(nfa);

		l3_nfa_skip(nfa, from, again);
		l3_nfa_skip(nfa, write_node(p, nfa, node->a, again), again);
		l3_nfa_skip(nfa, again, end);
		return end;
	}
	for (uint32_t i = node->min; i < node->max && nfa->status == L3_OK; i++)
	{
		l3_nfa_skip(nfa, from, end);
		from = write_node(p, nfa, node->a, from);
	}
	l3_nfa_skip(nfa, from, end);
	return end;
}

/*
 * Write what node number matches, from a state on; returns where it ends.  Each
 * node makes one state at least, so that the bound of states bounds the work.
 */
static uint32_t
write_node(const Parser *p, L3Nfa *nfa, uint32_t number, uint32_t from)
{
	const Node *node = &p->nodes[number];
	uint32_t	end;
	uint32_t	branch;

	switch (node->kind)
	{
		case NODE_SEQ:
			/* Sequences lean to the left, as deep as they are long. */
			return write_node(p, nfa, node->b, write_node(p, nfa, node->a, from));
		case NODE_REPEAT:
			return write_repeat(p, nfa, node, from);
		case NODE_EMPTY:
			end = l3_nfa_state(nfa);
			l3_nfa_skip(nfa, from, end);
			return end;
		case NODE_SET:
			end = l3_nfa_state(nfa);
			for (uint32_t i = 0; i < node->b; i++)
				l3_nfa_edge(nfa, from, p->ranges[node->a + i].low, p->ranges[node->a + i].high, end);
			return end;
		case NODE_ALT:
			end = l3_nfa_state(nfa);
			branch = l3_nfa_state(nfa);
			l3_nfa_skip(nfa, from, branch);
			l3_nfa_skip(nfa, write_node(p, nfa, node->a, branch), end);
			branch = l3_nfa_state(nfa);
			l3_nfa_skip(nfa, from, branch);
			l3_nfa_skip(nfa, write_node(p, nfa, node->b, branch), end);
			return end;
	}
	return from;
}

static L3Status
compile_tree(const Parser *p, uint32_t root, uint64_t *budget, L3Dfa **dfa, L3Error *err)
{
	L3Nfa		nfa = {0};
	uint32_t	start = l3_nfa_state(&nfa);
	uint32_t	end = write_node(p, &nfa, root, start);
	L3Status	status = l3_nfa_determinize(&nfa, start, end, budget, dfa, err);

	l3_nfa_free(&nfa);
	return status;
}

L3Status
l3_regex_compile(const char *pattern, size_t len, uint64_t *budget, L3Dfa **dfa, L3Error *err)
{
	Parser		p = {.text = (const uint8_t *) pattern, .len = len, .err = err};
	L3Status	status;

	*dfa = NULL;
	if (len > L3_REGEX_MAX_BYTES)
		return l3_error(err, L3_ERR_LIMIT, "pattern is longer than %d bytes", L3_REGEX_MAX_BYTES);
	p.nodes = malloc(MAX_NODES * sizeof(Node));
	p.ranges = malloc(MAX_RANGES * sizeof(L3CharRange));
	if (p.nodes == NULL || p.ranges == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory for a pattern");
	else
	{
		uint32_t	root = parse_alternatives(&p);

		if (p.status == L3_OK && p.at < len)
			fail(&p, L3_ERR_ARG, "unexpected bracket");
		status = p.status == L3_OK ? compile_tree(&p, root, budget, dfa, err) : p.status;
	}
	free(p.nodes);
	free(p.ranges);
	return status;
}
