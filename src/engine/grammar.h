/*-------------------------------------------------------------------------
 *
 * grammar.h
 *	  Grammars over bytes: what an answer may be.
 *
 * A grammar is a position-independent image, built by a backend (from a JSON
 * Schema: schema.h), carried in the request, and followed by the engine while
 * it generates (constrain.h).  Its language is a set of byte strings, given by
 * rules that may be recursive: a context-free grammar whose right sides are
 * regular expressions.
 *
 *		EMPTY				the empty string
 *		CLASS bitmap		one byte of the set
 *		LITERAL bytes		these bytes
 *		SEQ a b ...			one after another
 *		ALT a b ...			one of them
 *		REPEAT a min max	a, min to max times
 *		RULE r				what rule r is defined as
 *
 * The image is hostile where it is read: l3_grammar_check.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_GRAMMAR_H
#define L3_GRAMMAR_H

#include "engine.h"

/* Bounds of one grammar. */
#define L3_GRAMMAR_MAX_NODES	(1 << 20)
#define L3_GRAMMAR_MAX_RULES	(1 << 16)
#define L3_GRAMMAR_MAX_BYTES	(16 << 20)	/* of the image */
#define L3_GRAMMAR_UNBOUNDED	UINT32_MAX	/* max of REPEAT */

typedef enum L3NodeKind
{
	L3_NODE_EMPTY = 0,
	L3_NODE_CLASS,
	L3_NODE_LITERAL,
	L3_NODE_SEQ,
	L3_NODE_ALT,
	L3_NODE_REPEAT,
	L3_NODE_RULE
} L3NodeKind;

/*
 * A node of the image.  CLASS: first is the offset of 32 bytes, bit b & 7 of
 * byte b >> 3 for byte value b; one bit at least is set.  LITERAL: n >= 1 bytes
 * at offset first.  SEQ, ALT: n >= 1 uint32 node numbers at offset first, which
 * is a multiple of 4.  REPEAT: first is the node, min and max.  RULE: first is
 * the rule.  Offsets count from the image's beginning.  The nodes that a node
 * names have lower numbers than itself, so only rules make circles.
 *
 * Rules that stand last in a SEQ are how automata are written: a state is a
 * rule, "a-z" then the next state.  Who follows a grammar leaves what is
 * finished before entering them, as with tail calls, or long strings become
 * deep stacks.
 */
typedef struct L3Node
{
	uint32_t	kind;			/* L3NodeKind */
	uint32_t	first;
	uint32_t	n;
	uint32_t	min;
	uint32_t	max;
} L3Node;

typedef struct L3Grammar
{
	uint32_t	magic;
	uint32_t	size;			/* of the image, in bytes */
	uint32_t	n_nodes;
	uint32_t	nodes;			/* offset of L3Node (n_nodes) */
	uint32_t	n_rules;
	uint32_t	rules;			/* offset of uint32 node numbers (n_rules) */
	uint32_t	root;			/* a rule */
	uint32_t	reserved;		/* 0 */
	uint8_t		digest[32];		/* XXH3 of all else, twice 128 bits: equal grammars
								 * have equal digests.  No proof against malice:
								 * what trusts a digest compares the bytes */
} L3Grammar;

/*
 * Check that the size bytes at mem (4-byte aligned) are a grammar: every
 * offset, kind and number in bounds, min <= max, the digest right, no rule that
 * can come back to itself without a byte (left recursion), which nothing could
 * follow, and no node that cannot come to an end.  Time is linear in size.
 * NULL and *err (L3_ERR_FORMAT, or L3_ERR_MEMORY) when not.
 */
const L3Grammar *l3_grammar_check(const void *mem, size_t size, L3Error *err);

/* ----------------------------------------------------------------
 *		Building
 * ----------------------------------------------------------------
 */

/*
 * Functions that make nodes return their number.  After a failure (memory, a
 * bound) they return 0 and l3_grammar_build_finish reports it, so callers need
 * not check each.  Nodes may be used many times; equal ones are made once.  A
 * class without bytes and an ALT of nothing are allowed: nothing can be them.
 */
typedef struct L3GrammarBuilder L3GrammarBuilder;

L3GrammarBuilder *l3_grammar_build_begin(void); /* NULL: out of memory */
uint32_t	l3_grammar_empty(L3GrammarBuilder *b);
uint32_t	l3_grammar_class(L3GrammarBuilder *b, const uint8_t bitmap[32]);
uint32_t	l3_grammar_range(L3GrammarBuilder *b, uint8_t low, uint8_t high);
uint32_t	l3_grammar_literal(L3GrammarBuilder *b, const void *bytes, size_t n);
uint32_t	l3_grammar_seq(L3GrammarBuilder *b, const uint32_t *nodes, size_t n);
uint32_t	l3_grammar_alt(L3GrammarBuilder *b, const uint32_t *nodes, size_t n);
uint32_t	l3_grammar_repeat(L3GrammarBuilder *b, uint32_t node, uint32_t min, uint32_t max);
/* A new rule, to be defined once, before or after it is used. */
uint32_t	l3_grammar_new_rule(L3GrammarBuilder *b);
void		l3_grammar_define(L3GrammarBuilder *b, uint32_t rule, uint32_t node);
uint32_t	l3_grammar_rule(L3GrammarBuilder *b, uint32_t rule);

/* Has making a node failed?  Then more work is wasted. */
bool		l3_grammar_build_failed(const L3GrammarBuilder *b);
/* What makes nodes has itself run out of memory. */
void		l3_grammar_build_no_memory(L3GrammarBuilder *b);

/*
 * End building: the image of the grammar with this root, to be freed with
 * free(), or an error.  The builder is freed in both cases.  What nothing can
 * be, and what cannot be reached, is left away, and only rules that come back
 * to themselves stay rules.  L3_ERR_ARG when nothing at all can be the root, or
 * a rule is used that is not defined; L3_ERR_LIMIT beyond the bounds above.
 */
L3Status	l3_grammar_build_finish(L3GrammarBuilder *b, uint32_t root_rule,
									void **image, size_t *size, L3Error *err);

#endif							/* L3_GRAMMAR_H */
