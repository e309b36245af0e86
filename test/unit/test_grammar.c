/*-------------------------------------------------------------------------
 *
 * test_grammar.c
 *	  Grammars: what the builder makes, and that damaged images are refused.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "grammar.h"
#include "grammar_graph.h"
#include "tap.h"

typedef struct Image
{
	void	   *bytes;
	size_t		size;
	L3Status	status;
	L3Error		err;
} Image;

static Image
finish(L3GrammarBuilder *b, uint32_t root)
{
	Image		image = {0};

	image.status = l3_grammar_build_finish(b, root, &image.bytes, &image.size, &image.err);
	return image;
}

static const L3Grammar *
grammar_of(const Image *image)
{
	return image->bytes;
}

static L3Node *
nodes_of(const Image *image)
{
	return (L3Node *) (void *) ((char *) image->bytes + grammar_of(image)->nodes);
}

static uint32_t *
rules_of(const Image *image)
{
	return (uint32_t *) (void *) ((char *) image->bytes + grammar_of(image)->rules);
}

/* list = "[" (item ("," item)*)? "]", item = "x" | list; and dead alternatives */
static Image
build_list(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	list = l3_grammar_new_rule(b);
	uint32_t	item = l3_grammar_new_rule(b);
	uint32_t	dead = l3_grammar_new_rule(b);
	uint32_t	unused = l3_grammar_new_rule(b);
	uint32_t	item_of[] = {l3_grammar_literal(b, "x", 1), l3_grammar_rule(b, list),
	l3_grammar_rule(b, dead)};
	uint32_t	dead_of[] = {l3_grammar_literal(b, "(", 1), l3_grammar_rule(b, dead)};
	uint32_t	more[] = {l3_grammar_literal(b, ",", 1), l3_grammar_rule(b, item)};
	uint32_t	items[] = {l3_grammar_rule(b, item),
	l3_grammar_repeat(b, l3_grammar_seq(b, more, 2), 0, L3_GRAMMAR_UNBOUNDED)};
	uint32_t	list_of[] = {l3_grammar_literal(b, "[", 1),
		l3_grammar_repeat(b, l3_grammar_seq(b, items, 2), 0, 1),
	l3_grammar_literal(b, "]", 1)};

	l3_grammar_define(b, unused, l3_grammar_literal(b, "unused", 6));
	l3_grammar_define(b, dead, l3_grammar_seq(b, dead_of, 2));
	l3_grammar_define(b, item, l3_grammar_alt(b, item_of, 3));
	l3_grammar_define(b, list, l3_grammar_seq(b, list_of, 3));
	return finish(b, list);
}

static void
test_building(void)
{
	Image		one = build_list();
	Image		two = build_list();
	bool		literal_unused = false;

	tap_ok(one.status == L3_OK && l3_grammar_check(one.bytes, one.size, &one.err) != NULL,
		   "a recursive grammar is built and checked");
	tap_ok(one.size == two.size && memcmp(one.bytes, two.bytes, one.size) == 0,
		   "the same calls make the same bytes");
	tap_ok(grammar_of(&one)->n_rules == 1, "a rule that is used in one place is put in its place");
	for (uint32_t v = 0; v < grammar_of(&one)->n_nodes; v++)
		literal_unused |= nodes_of(&one)[v].kind == L3_NODE_LITERAL && nodes_of(&one)[v].n == 6;
	tap_ok(!literal_unused, "what the root does not reach is left away");
	free(one.bytes);
	free(two.bytes);
}

static void
test_equal_nodes(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	ab[] = {l3_grammar_literal(b, "a", 1), l3_grammar_literal(b, "bc", 2)};
	uint32_t	ba[] = {ab[1], ab[0]};
	uint32_t	rule = l3_grammar_new_rule(b);
	Image		image;

	tap_ok(l3_grammar_seq(b, ab, 2) == l3_grammar_seq(b, ab, 2) &&
		   l3_grammar_seq(b, ab, 2) != l3_grammar_seq(b, ba, 2),
		   "equal sequences are one node, others are not");
	tap_ok(l3_grammar_alt(b, ab, 2) == l3_grammar_alt(b, ba, 2),
		   "the order of alternatives does not matter");
	tap_ok(l3_grammar_seq(b, NULL, 0) == l3_grammar_empty(b) &&
		   l3_grammar_seq(b, ab, 1) == ab[0] &&
		   l3_grammar_repeat(b, ab[0], 1, 1) == ab[0] &&
		   l3_grammar_repeat(b, ab[0], 0, 0) == l3_grammar_empty(b),
		   "what is trivial makes no node");
	l3_grammar_define(b, rule, ab[0]);
	image = finish(b, rule);
	tap_ok(image.status == L3_OK, "an unfinished builder is freed by finishing");
	free(image.bytes);
}

static void
test_single_bytes(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	bytes[] = {l3_grammar_literal(b, "a", 1), l3_grammar_range(b, 'c', 'e'),
	l3_grammar_range(b, 255, 255)};
	uint32_t	rule = l3_grammar_new_rule(b);
	uint8_t		expected[32] = {0};
	const L3Node *root;
	Image		image;

	for (const char *byte = "acde\xff"; *byte != '\0'; byte++)
		expected[(uint8_t) *byte >> 3] |= (uint8_t) (1 << ((uint8_t) *byte & 7));
	l3_grammar_define(b, rule, l3_grammar_alt(b, bytes, 3));
	image = finish(b, rule);
	root = &nodes_of(&image)[rules_of(&image)[grammar_of(&image)->root]];
	tap_ok(image.status == L3_OK && root->kind == L3_NODE_CLASS &&
		   memcmp((char *) image.bytes + root->first, expected, 32) == 0,
		   "alternatives of one byte are one class");
	free(image.bytes);
}

/* Two rules with one definition that names the second: no undefined rule. */
static void
test_equal_rules(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	first = l3_grammar_new_rule(b);
	uint32_t	second = l3_grammar_new_rule(b);
	uint32_t	rest[] = {l3_grammar_empty(b), l3_grammar_rule(b, second)};
	uint32_t	both[] = {l3_grammar_literal(b, "a", 1), l3_grammar_alt(b, rest, 2)};
	Image		image;

	l3_grammar_define(b, first, l3_grammar_seq(b, both, 2));
	l3_grammar_define(b, second, l3_grammar_seq(b, both, 2));
	image = finish(b, first);
	tap_ok(image.status == L3_OK && grammar_of(&image)->n_rules <= 2,
		   "two rules of one definition that comes back to one of them");
	free(image.bytes);
}

static void
test_refusals(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	rule = l3_grammar_new_rule(b);
	uint32_t	self[2];
	Image		image;

	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_ARG && image.bytes == NULL, "an undefined rule: %s",
		   image.err.message);

	b = l3_grammar_build_begin();
	rule = l3_grammar_new_rule(b);
	self[0] = l3_grammar_literal(b, "a", 1);
	self[1] = l3_grammar_rule(b, rule);
	l3_grammar_define(b, rule, l3_grammar_seq(b, self, 2));
	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_ARG, "a recursion without an end: %s", image.err.message);

	b = l3_grammar_build_begin();
	rule = l3_grammar_new_rule(b);
	self[0] = l3_grammar_literal(b, "a", 1);
	self[1] = l3_grammar_rule(b, rule);
	l3_grammar_define(b, rule, l3_grammar_alt(b, self, 2));
	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_ARG, "a rule that is itself: %s", image.err.message);

	b = l3_grammar_build_begin();
	rule = l3_grammar_new_rule(b);
	self[0] = l3_grammar_repeat(b, l3_grammar_literal(b, "a", 1), 0, 1);
	self[1] = l3_grammar_rule(b, rule);
	self[1] = l3_grammar_seq(b, self, 2);
	self[0] = l3_grammar_literal(b, "b", 1);
	l3_grammar_define(b, rule, l3_grammar_alt(b, self, 2));
	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_ARG, "left recursion behind what can be empty: %s",
		   image.err.message);

	b = l3_grammar_build_begin();
	rule = l3_grammar_new_rule(b);
	l3_grammar_define(b, rule, l3_grammar_alt(b, NULL, 0));
	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_ARG, "alternatives of nothing: %s", image.err.message);
}

static void
test_limits(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	rule = l3_grammar_new_rule(b);
	uint32_t	node = l3_grammar_literal(b, "a", 1);
	Image		image;

	for (uint32_t i = 0; i < L3_GRAMMAR_MAX_NODES + 10; i++)
		node = l3_grammar_repeat(b, node, 2, 3 + i);
	l3_grammar_define(b, rule, node);
	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_LIMIT, "too many nodes: %s", image.err.message);

	b = l3_grammar_build_begin();
	for (uint32_t i = 0; i < L3_GRAMMAR_MAX_RULES + 10; i++)
		rule = l3_grammar_new_rule(b);
	image = finish(b, rule);
	tap_ok(image.status == L3_ERR_LIMIT, "too many rules: %s", image.err.message);

	/* As deep as it goes: neither building nor checking recurses. */
	b = l3_grammar_build_begin();
	rule = l3_grammar_new_rule(b);
	node = l3_grammar_literal(b, "a", 1);
	for (uint32_t i = 0; i < 500000; i++)
		node = l3_grammar_repeat(b, node, 2, 3 + i);
	l3_grammar_define(b, rule, node);
	image = finish(b, rule);
	tap_ok(image.status == L3_OK, "half a million nodes one in the other");
	free(image.bytes);
}

/* Try a change of the image, with a right digest. */
static bool
refused(const Image *image, void (*damage) (Image *copy), const char *what)
{
	Image		copy = *image;
	bool		is_refused;

	copy.bytes = malloc(image->size);
	memcpy(copy.bytes, image->bytes, image->size);
	damage(&copy);
	if (copy.size >= sizeof(L3Grammar) && grammar_of(&copy)->size == copy.size)
		l3_grammar_digest(grammar_of(&copy), ((L3Grammar *) copy.bytes)->digest);
	is_refused = l3_grammar_check(copy.bytes, copy.size, &copy.err) == NULL &&
		copy.err.status == L3_ERR_FORMAT;
	tap_ok(is_refused, "an image with %s is refused: %s", what, copy.err.message);
	free(copy.bytes);
	return is_refused;
}

/* The first node of a kind. */
static L3Node *
node_of_kind(Image *image, L3NodeKind kind)
{
	for (uint32_t v = 0; v < grammar_of(image)->n_nodes; v++)
		if (nodes_of(image)[v].kind == kind)
			return &nodes_of(image)[v];
	abort();
}

static void damage_size(Image *i) { i->size = sizeof(L3Grammar) - 1; }
static void damage_length(Image *i) { ((L3Grammar *) i->bytes)->size--; }
static void damage_kind(Image *i) { nodes_of(i)[0].kind = 7; }
static void damage_literal(Image *i) { node_of_kind(i, L3_NODE_LITERAL)->n = 0x7FFFFFFF; }
static void damage_no_literal(Image *i) { node_of_kind(i, L3_NODE_LITERAL)->n = 0; }
static void damage_seq(Image *i) { node_of_kind(i, L3_NODE_SEQ)->first += 2; }
static void damage_seq_far(Image *i) { node_of_kind(i, L3_NODE_SEQ)->first = (uint32_t) i->size; }
static void damage_self(Image *i) { L3Node *n = node_of_kind(i, L3_NODE_REPEAT); n->first = (uint32_t) (n - nodes_of(i)); }
static void damage_repeat(Image *i) { L3Node *n = node_of_kind(i, L3_NODE_REPEAT); n->min = 9; n->max = 8; }
static void damage_rule(Image *i) { node_of_kind(i, L3_NODE_RULE)->first = 1; }
static void damage_rules(Image *i) { rules_of(i)[0] = grammar_of(i)->n_nodes; }
static void damage_root(Image *i) { ((L3Grammar *) i->bytes)->root = 1; }
static void damage_nodes(Image *i) { ((L3Grammar *) i->bytes)->n_nodes = 0x10000000; }
static void damage_recursion(Image *i) { rules_of(i)[0] = (uint32_t) (node_of_kind(i, L3_NODE_RULE) - nodes_of(i)); }

static void
test_damage(void)
{
	Image		image = build_list();
	L3Error		err;
	uint32_t	accepted = 0;

	refused(&image, damage_size, "too few bytes");
	refused(&image, damage_length, "another size than it has");
	refused(&image, damage_kind, "an unknown kind of node");
	refused(&image, damage_literal, "a literal beyond its end");
	refused(&image, damage_no_literal, "a literal of nothing");
	refused(&image, damage_seq, "children that are not aligned");
	refused(&image, damage_seq_far, "children beyond its end");
	refused(&image, damage_self, "a node in itself");
	refused(&image, damage_repeat, "less than at least");
	refused(&image, damage_rule, "a rule that is not there");
	refused(&image, damage_rules, "a rule of a node that is not there");
	refused(&image, damage_root, "a root that is not there");
	refused(&image, damage_nodes, "more nodes than bytes");
	refused(&image, damage_recursion, "a rule that is only itself");

	for (size_t i = 0; i < image.size; i++)
	{
		((uint8_t *) image.bytes)[i] ^= 0x10;
		accepted += l3_grammar_check(image.bytes, image.size, &err) != NULL;
		((uint8_t *) image.bytes)[i] ^= 0x10;
	}
	tap_ok(accepted == 0, "one flipped bit anywhere is seen");
	free(image.bytes);
}

/* Lists of children that share their bytes would make walks longer than images. */
static void
test_overlap(void)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	rule = l3_grammar_new_rule(b);
	uint32_t	words[100];
	uint32_t	lists[99];
	Image		image;
	const L3Node *longest;

	for (uint32_t i = 0; i < 100; i++)
		words[i] = l3_grammar_literal(b, &(uint32_t) {i + 1}, 4);
	lists[0] = l3_grammar_alt(b, words, 100);
	for (uint32_t i = 1; i < 99; i++)
		lists[i] = l3_grammar_seq(b, words + i, 2);
	l3_grammar_define(b, rule, l3_grammar_alt(b, lists, 99));
	image = finish(b, rule);
	longest = node_of_kind(&image, L3_NODE_ALT);
	for (uint32_t v = (uint32_t) (longest - nodes_of(&image)) + 1; v < grammar_of(&image)->n_nodes; v++)
		if (nodes_of(&image)[v].kind == L3_NODE_SEQ)
		{
			nodes_of(&image)[v].first = longest->first;
			nodes_of(&image)[v].n = longest->n;
		}
	l3_grammar_digest(grammar_of(&image), ((L3Grammar *) image.bytes)->digest);
	tap_ok(l3_grammar_check(image.bytes, image.size, &image.err) == NULL,
		   "lists that overlap are refused: %s", image.err.message);
	free(image.bytes);
}

int
main(void)
{
	test_building();
	test_equal_nodes();
	test_single_bytes();
	test_equal_rules();
	test_refusals();
	test_limits();
	test_damage();
	test_overlap();
	return tap_done();
}
