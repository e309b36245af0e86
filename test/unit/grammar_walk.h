/*-------------------------------------------------------------------------
 *
 * grammar_walk.h
 *	  The meaning of a grammar image in a few lines, for tests.
 *
 * A matcher that tries all ways by backtracking, and a sampler that takes one at
 * random.  Both follow grammar.h's definition and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GRAMMAR_WALK_H
#define GRAMMAR_WALK_H

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "grammar.h"

static inline const L3Node *
walk_node(const L3Grammar *g, uint32_t number)
{
	return (const L3Node *) (const void *) ((const char *) g + g->nodes) + number;
}

static inline uint32_t
walk_child(const L3Grammar *g, const L3Node *node, uint32_t i)
{
	return ((const uint32_t *) (const void *) ((const char *) g + node->first))[i];
}

static inline uint32_t
walk_rule(const L3Grammar *g, uint32_t rule)
{
	return ((const uint32_t *) (const void *) ((const char *) g + g->rules))[rule];
}

static inline bool
walk_in_class(const L3Grammar *g, const L3Node *node, uint8_t byte)
{
	return ((const uint8_t *) g)[node->first + (byte >> 3)] >> (byte & 7) & 1;
}

/* ----------------------------------------------------------------
 *		Matching
 * ----------------------------------------------------------------
 */

/* What is still to be matched, innermost first. */
typedef struct WalkTodo
{
	uint32_t	node;
	uint32_t	child;			/* SEQ: next one; REPEAT: times so far */
	const char *began;			/* REPEAT: where the last time began */
	const struct WalkTodo *then;
} WalkTodo;

static bool walk_match(const L3Grammar *g, const WalkTodo *todo, const char *at, const char *end);

static inline bool
walk_match_repeat(const L3Grammar *g, const WalkTodo *todo, const char *at, const char *end)
{
	const L3Node *node = walk_node(g, todo->node);
	WalkTodo	again = {todo->node, todo->child + 1, at, todo->then};
	WalkTodo	once = {node->first, 0, NULL, &again};

	/* A time that took nothing need not be taken again. */
	if (todo->child < node->max && (todo->child < node->min || todo->began != at) &&
		walk_match(g, &once, at, end))
		return true;
	return todo->child >= node->min && walk_match(g, todo->then, at, end);
}

static bool
walk_match(const L3Grammar *g, const WalkTodo *todo, const char *at, const char *end)
{
	const L3Node *node;
	WalkTodo	rest;
	WalkTodo	inner;

	if (todo == NULL)
		return at == end;
	node = walk_node(g, todo->node);
	switch ((L3NodeKind) node->kind)
	{
		case L3_NODE_EMPTY:
			return walk_match(g, todo->then, at, end);
		case L3_NODE_CLASS:
			return at < end && walk_in_class(g, node, (uint8_t) *at) &&
				walk_match(g, todo->then, at + 1, end);
		case L3_NODE_LITERAL:
			return (size_t) (end - at) >= node->n &&
				memcmp((const char *) g + node->first, at, node->n) == 0 &&
				walk_match(g, todo->then, at + node->n, end);
		case L3_NODE_SEQ:
			rest = (WalkTodo) {todo->node, todo->child + 1, NULL, todo->then};
			inner = (WalkTodo) {walk_child(g, node, todo->child), 0, NULL,
			todo->child + 1 < node->n ? &rest : todo->then};
			return walk_match(g, &inner, at, end);
		case L3_NODE_ALT:
			for (uint32_t i = 0; i < node->n; i++)
			{
				inner = (WalkTodo) {walk_child(g, node, i), 0, NULL, todo->then};
				if (walk_match(g, &inner, at, end))
					return true;
			}
			return false;
		case L3_NODE_REPEAT:
			return walk_match_repeat(g, todo, at, end);
		case L3_NODE_RULE:
			inner = (WalkTodo) {walk_rule(g, node->first), 0, NULL, todo->then};
			return walk_match(g, &inner, at, end);
	}
	return false;
}

/* Is the text one of the grammar? */
static inline bool
walk_matches(const L3Grammar *g, const char *text, size_t n)
{
	WalkTodo	root = {walk_rule(g, g->root), 0, NULL, NULL};

	return walk_match(g, &root, text, text + n);
}

/* ----------------------------------------------------------------
 *		Sampling
 * ----------------------------------------------------------------
 */

#define WALK_FAR	1e18
#define WALK_LONG	1e5			/* bytes of a part that is not taken by choice */

typedef struct WalkSampler
{
	const L3Grammar *g;
	double	   *least;			/* bytes of each node's shortest text (n_nodes) */
	uint64_t	state;			/* of the random numbers */
	size_t		enough;			/* bytes after which the shortest way is taken */
	Bytes		text;
} WalkSampler;

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t
walk_random(WalkSampler *s, uint64_t n)
{
	uint64_t	z = s->state += 0x9E3779B97F4A7C15;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
	z = (z ^ z >> 27) * 0x94D049BB133111EB;
	return (z ^ z >> 31) % n;
}

static inline double
walk_least(const WalkSampler *s, const L3Node *node)
{
	double		least = 0;

	switch ((L3NodeKind) node->kind)
	{
		case L3_NODE_EMPTY:
			return 0;
		case L3_NODE_CLASS:
			return 1;
		case L3_NODE_LITERAL:
			return node->n;
		case L3_NODE_SEQ:
			for (uint32_t i = 0; i < node->n; i++)
				least += s->least[walk_child(s->g, node, i)];
			return least;
		case L3_NODE_ALT:
			least = WALK_FAR;
			for (uint32_t i = 0; i < node->n; i++)
				if (s->least[walk_child(s->g, node, i)] < least)
					least = s->least[walk_child(s->g, node, i)];
			return least;
		case L3_NODE_REPEAT:
			return node->min * s->least[node->first];
		case L3_NODE_RULE:
			return s->least[walk_rule(s->g, node->first)];
	}
	return 0;
}

static inline void
walk_sampler_begin(WalkSampler *s, const L3Grammar *g, uint64_t seed)
{
	bool		changed = true;

	memset(s, 0, sizeof(*s));
	s->g = g;
	s->state = seed;
	s->least = malloc(g->n_nodes * sizeof(double));
	for (uint32_t v = 0; v < g->n_nodes; v++)
		s->least[v] = WALK_FAR;
	while (changed)
	{
		changed = false;
		for (uint32_t v = 0; v < g->n_nodes; v++)
		{
			double		least = walk_least(s, walk_node(g, v));

			changed |= least < s->least[v];
			s->least[v] = least < s->least[v] ? least : s->least[v];
		}
	}
}

static inline void
walk_sampler_end(WalkSampler *s)
{
	free(s->least);
	free(s->text.data);
}

static inline uint32_t
walk_choose(WalkSampler *s, const L3Node *node)
{
	uint32_t	best = walk_child(s->g, node, 0);

	if (s->text.n < s->enough)
	{
		uint32_t	any = walk_child(s->g, node, (uint32_t) walk_random(s, node->n));

		if (s->least[any] < WALK_LONG)
			return any;
	}
	for (uint32_t i = 1; i < node->n; i++)
		if (s->least[walk_child(s->g, node, i)] < s->least[best])
			best = walk_child(s->g, node, i);
	return best;
}

static inline void
walk_put_class(WalkSampler *s, const L3Node *node)
{
	uint8_t		bytes[256];
	uint32_t	n = 0;

	for (uint32_t byte = 0; byte < 256; byte++)
		if (walk_in_class(s->g, node, (uint8_t) byte))
			bytes[n++] = (uint8_t) byte;
	bytes_put(&s->text, &bytes[walk_random(s, n)], 1);
}

static inline void
walk_put(WalkSampler *s, uint32_t number)
{
	const L3Node *node = walk_node(s->g, number);
	uint64_t	times;

	switch ((L3NodeKind) node->kind)
	{
		case L3_NODE_EMPTY:
			break;
		case L3_NODE_CLASS:
			walk_put_class(s, node);
			break;
		case L3_NODE_LITERAL:
			bytes_put(&s->text, (const char *) s->g + node->first, node->n);
			break;
		case L3_NODE_SEQ:
			for (uint32_t i = 0; i < node->n; i++)
				walk_put(s, walk_child(s->g, node, i));
			break;
		case L3_NODE_ALT:
			walk_put(s, walk_choose(s, node));
			break;
		case L3_NODE_REPEAT:
			times = node->min;
			/* The ends of the range are as likely as all between. */
			if (s->text.n < s->enough && s->least[node->first] < WALK_LONG)
			{
				if (walk_random(s, 4) == 0 && node->max < 1000)
					times = node->max;
				else
					while (times < node->max && walk_random(s, 3) > 0)
						times++;
			}
			while (times-- > 0)
				walk_put(s, node->first);
			break;
		case L3_NODE_RULE:
			walk_put(s, walk_rule(s->g, node->first));
			break;
	}
}

/* A random text of the grammar, in s->text until the next one. */
static inline void
walk_sample(WalkSampler *s, size_t enough)
{
	s->text.n = 0;
	s->enough = enough;
	walk_put(s, walk_rule(s->g, s->g->root));
}

#endif							/* GRAMMAR_WALK_H */
