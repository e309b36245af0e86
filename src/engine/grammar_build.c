/*-------------------------------------------------------------------------
 *
 * grammar_build.c
 *	  Building a grammar, and writing its image.
 *
 * Equal nodes are made once (hash consing), so that the same part of a schema
 * costs its bytes once wherever it stands.  What is built at first may hold
 * alternatives that nothing can be and rules that are used once.  Finishing
 * builds it a second time from the root, with what can come to an end only, and
 * with a rule only where the grammar comes back to itself.
 *
 *-------------------------------------------------------------------------
 */
#include "grammar_graph.h"

#include <stdlib.h>
#include <string.h>

#include "numbering.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CLASS_BYTES		32		/* of a bitmap */
#define MIN_CAPACITY	64

struct L3GrammarBuilder
{
	L3Node     *nodes;			/* offsets count from data */
	uint32_t	n_nodes;
	uint32_t	nodes_capacity;
	uint8_t    *data;
	uint32_t	n_data;
	uint32_t	data_capacity;
	uint32_t   *rules;			/* node or L3_GRAMMAR_NONE */
	uint32_t	n_rules;
	uint32_t	rules_capacity;
	L3Slots		table;			/* nodes by content */
	L3Error		err;			/* the first failure; status L3_OK: none */
};

static uint32_t
fail_memory(L3GrammarBuilder *b)
{
	if (b->err.status == L3_OK)
		l3_error(&b->err, L3_ERR_MEMORY, "out of memory for a grammar");
	return 0;
}

static uint32_t
fail_limit(L3GrammarBuilder *b, const char *what, uint32_t limit)
{
	if (b->err.status == L3_OK)
	{
		l3_error(&b->err, L3_ERR_LIMIT, "grammar is too large");
		l3_error_detail(&b->err, "It would have more than %u %s.", limit, what);
	}
	return 0;
}

bool
l3_grammar_build_failed(const L3GrammarBuilder *b)
{
	return b->err.status != L3_OK;
}

void
l3_grammar_build_no_memory(L3GrammarBuilder *b)
{
	fail_memory(b);
}

static L3NodeGraph
graph_of(const L3GrammarBuilder *b)
{
	return (L3NodeGraph) {b->data, b->nodes, b->rules, b->n_nodes, b->n_rules};
}

/* Room for n more elements of *array; false when the builder has failed. */
static bool
make_room(L3GrammarBuilder *b, void *array, size_t element, uint32_t used, uint32_t n,
		  uint32_t *capacity)
{
	void	  **place = array;
	uint32_t	wanted = *capacity < MIN_CAPACITY ? MIN_CAPACITY : *capacity;
	void	   *grown;

	if (n <= *capacity - used)
		return true;
	while (wanted - used < n)
		wanted *= 2;
	grown = realloc(*place, wanted * element);
	if (grown == NULL)
	{
		fail_memory(b);
		return false;
	}
	*place = grown;
	*capacity = wanted;
	return true;
}

/* ----------------------------------------------------------------
 *		Nodes by their content
 * ----------------------------------------------------------------
 */

/* Bytes behind a node's offset. */
static size_t
payload_size(const L3Node *node)
{
	switch ((L3NodeKind) node->kind)
	{
		case L3_NODE_CLASS:
			return CLASS_BYTES;
		case L3_NODE_LITERAL:
			return node->n;
		case L3_NODE_SEQ:
		case L3_NODE_ALT:
			return (size_t) node->n * sizeof(uint32_t);
		case L3_NODE_EMPTY:
		case L3_NODE_REPEAT:
		case L3_NODE_RULE:
			break;
	}
	return 0;
}

/* For a node with a payload, the offset is no part of what it is. */
static L3Node
without_offset(const L3Node *node)
{
	L3Node		bare = *node;

	if (payload_size(node) > 0)
		bare.first = 0;
	return bare;
}

static uint64_t
hash_of(const L3Node *node, const void *payload)
{
	L3Node		bare = without_offset(node);

	return XXH3_64bits_withSeed(payload, payload_size(node), XXH3_64bits(&bare, sizeof(bare)));
}

static bool
is_equal(const L3GrammarBuilder *b, uint32_t number, const L3Node *node, const void *payload)
{
	L3Node		theirs = without_offset(&b->nodes[number]);
	L3Node		ours = without_offset(node);

	return memcmp(&theirs, &ours, sizeof(ours)) == 0 &&
		memcmp(b->data + b->nodes[number].first, payload, payload_size(node)) == 0;
}

/* The slot of an equal node, or the free one where it would go. */
static uint32_t
find_slot(const L3GrammarBuilder *b, const L3Node *node, const void *payload)
{
	uint32_t	mask = b->table.n - 1;
	uint32_t	slot = (uint32_t) hash_of(node, payload) & mask;

	while (b->table.slots[slot] != L3_SLOT_FREE && !is_equal(b, b->table.slots[slot], node, payload))
		slot = (slot + 1) & mask;
	return slot;
}

static bool
reserve_slot(L3GrammarBuilder *b)
{
	bool		emptied;

	if (!l3_slots_reserve(&b->table, b->n_nodes, &emptied))
	{
		fail_memory(b);
		return false;
	}
	for (uint32_t v = 0; emptied && v < b->n_nodes; v++)
	{
		const L3Node *node = &b->nodes[v];
		const uint8_t *payload = payload_size(node) > 0 ? b->data + node->first : b->data;

		b->table.slots[find_slot(b, node, payload)] = v;
	}
	return true;
}

/* The number of a node with this content; its offset is chosen here. */
static uint32_t
add_node(L3GrammarBuilder *b, L3Node node, const void *payload)
{
	size_t		size = payload_size(&node);
	uint32_t	padding = -b->n_data % sizeof(uint32_t);
	uint32_t	slot;

	if (b->err.status != L3_OK || !reserve_slot(b))
		return 0;
	slot = find_slot(b, &node, payload);
	if (b->table.slots[slot] != L3_SLOT_FREE)
		return b->table.slots[slot];

	if (b->n_nodes == L3_GRAMMAR_MAX_NODES)
		return fail_limit(b, "nodes", L3_GRAMMAR_MAX_NODES);
	if (size + padding > L3_GRAMMAR_MAX_BYTES - b->n_data)
		return fail_limit(b, "bytes", L3_GRAMMAR_MAX_BYTES);
	if (!make_room(b, &b->nodes, sizeof(L3Node), b->n_nodes, 1, &b->nodes_capacity) ||
		!make_room(b, &b->data, 1, b->n_data, (uint32_t) size + padding, &b->data_capacity))
		return 0;
	if (size > 0)
	{
		memset(b->data + b->n_data, 0, padding);
		node.first = b->n_data + padding;
		memcpy(b->data + node.first, payload, size);
		b->n_data = node.first + (uint32_t) size;
	}
	b->nodes[b->n_nodes] = node;
	b->table.slots[slot] = b->n_nodes;
	return b->n_nodes++;
}

/* ----------------------------------------------------------------
 *		The functions that make nodes
 * ----------------------------------------------------------------
 */

static void
builder_free(L3GrammarBuilder *b)
{
	if (b == NULL)
		return;
	free(b->nodes);
	free(b->data);
	free(b->rules);
	free(b->table.slots);
	free(b);
}

L3GrammarBuilder *
l3_grammar_build_begin(void)
{
	L3GrammarBuilder *b = calloc(1, sizeof(*b));

	/* Node 0, which failures return, is a sound one. */
	if (b == NULL || !make_room(b, &b->data, 1, 0, MIN_CAPACITY, &b->data_capacity) ||
		l3_grammar_empty(b) != 0 || l3_grammar_build_failed(b))
	{
		builder_free(b);
		return NULL;
	}
	return b;
}

uint32_t
l3_grammar_empty(L3GrammarBuilder *b)
{
	return add_node(b, (L3Node) {.kind = L3_NODE_EMPTY}, "");
}

uint32_t
l3_grammar_class(L3GrammarBuilder *b, const uint8_t bitmap[32])
{
	return add_node(b, (L3Node) {.kind = L3_NODE_CLASS}, bitmap);
}

uint32_t
l3_grammar_range(L3GrammarBuilder *b, uint8_t low, uint8_t high)
{
	uint8_t		bitmap[CLASS_BYTES] = {0};

	for (unsigned byte = low; byte <= high; byte++)
		bitmap[byte >> 3] |= (uint8_t) (1 << (byte & 7));
	return l3_grammar_class(b, bitmap);
}

uint32_t
l3_grammar_literal(L3GrammarBuilder *b, const void *bytes, size_t n)
{
	if (n == 0)
		return l3_grammar_empty(b);
	if (n > L3_GRAMMAR_MAX_BYTES)
		return fail_limit(b, "bytes", L3_GRAMMAR_MAX_BYTES);
	return add_node(b, (L3Node) {.kind = L3_NODE_LITERAL, .n = (uint32_t) n}, bytes);
}

uint32_t
l3_grammar_seq(L3GrammarBuilder *b, const uint32_t *nodes, size_t n)
{
	uint32_t	empty = l3_grammar_empty(b);
	uint32_t   *kept;
	uint32_t	n_kept = 0;
	uint32_t	seq;

	if (n > L3_GRAMMAR_MAX_NODES)
		return fail_limit(b, "nodes", L3_GRAMMAR_MAX_NODES);
	kept = malloc((n + 1) * sizeof(uint32_t));
	if (kept == NULL)
		return fail_memory(b);
	for (size_t i = 0; i < n; i++)
		if (nodes[i] != empty)
			kept[n_kept++] = nodes[i];
	seq = n_kept == 0 ? empty : n_kept == 1 ? kept[0] :
		add_node(b, (L3Node) {.kind = L3_NODE_SEQ, .n = n_kept}, kept);
	free(kept);
	return seq;
}

/* Add to bitmap what node stands for, if it is one byte. */
static bool
take_single_byte(const L3GrammarBuilder *b, uint32_t number, uint8_t bitmap[CLASS_BYTES])
{
	const L3Node *node = &b->nodes[number];

	if (node->kind == L3_NODE_CLASS)
	{
		for (uint32_t i = 0; i < CLASS_BYTES; i++)
			bitmap[i] |= b->data[node->first + i];
		return true;
	}
	if (node->kind == L3_NODE_LITERAL && node->n == 1)
	{
		uint8_t		byte = b->data[node->first];

		bitmap[byte >> 3] |= (uint8_t) (1 << (byte & 7));
		return true;
	}
	return false;
}

/* An ALT is a set: sorted, once each, and single bytes are one class. */
uint32_t
l3_grammar_alt(L3GrammarBuilder *b, const uint32_t *nodes, size_t n)
{
	uint8_t		bitmap[CLASS_BYTES] = {0};
	uint32_t	n_single = 0;
	uint32_t   *kept;
	uint32_t	n_kept = 0;
	uint32_t	alt;

	if (b->err.status != L3_OK)
		return 0;
	if (n > L3_GRAMMAR_MAX_NODES)
		return fail_limit(b, "nodes", L3_GRAMMAR_MAX_NODES);
	kept = malloc((n + 1) * sizeof(uint32_t));
	if (kept == NULL)
		return fail_memory(b);
	for (size_t i = 0; i < n; i++)
	{
		if (take_single_byte(b, nodes[i], bitmap))
			n_single++;
		else
			kept[n_kept++] = nodes[i];
	}
	if (n_single > 0)
		kept[n_kept++] = l3_grammar_class(b, bitmap);
	n_kept = l3_sort_unique(kept, n_kept);
	alt = n_kept == 1 ? kept[0] :
		add_node(b, (L3Node) {.kind = L3_NODE_ALT, .n = n_kept}, kept);
	free(kept);
	return alt;
}

uint32_t
l3_grammar_repeat(L3GrammarBuilder *b, uint32_t node, uint32_t min, uint32_t max)
{
	if (max == 0 || node == l3_grammar_empty(b))
		return l3_grammar_empty(b);
	if (min == 1 && max == 1)
		return node;
	return add_node(b, (L3Node) {.kind = L3_NODE_REPEAT, .first = node, .min = min, .max = max}, "");
}

uint32_t
l3_grammar_new_rule(L3GrammarBuilder *b)
{
	if (b->err.status != L3_OK)
		return 0;
	if (b->n_rules == L3_GRAMMAR_MAX_RULES)
		return fail_limit(b, "rules", L3_GRAMMAR_MAX_RULES);
	if (!make_room(b, &b->rules, sizeof(uint32_t), b->n_rules, 1, &b->rules_capacity))
		return 0;
	b->rules[b->n_rules] = L3_GRAMMAR_NONE;
	return b->n_rules++;
}

void
l3_grammar_define(L3GrammarBuilder *b, uint32_t rule, uint32_t node)
{
	if (b->err.status == L3_OK)
		b->rules[rule] = node;
}

uint32_t
l3_grammar_rule(L3GrammarBuilder *b, uint32_t rule)
{
	return add_node(b, (L3Node) {.kind = L3_NODE_RULE, .first = rule}, "");
}

/* ----------------------------------------------------------------
 *		Building a second time, from the root
 * ----------------------------------------------------------------
 */

typedef struct Rebuild
{
	L3NodeGraph g;				/* of the first build */
	const uint8_t *can_end;		/* (n_nodes) */
	L3GrammarBuilder *to;
	uint32_t   *made;			/* node in to, or L3_GRAMMAR_NONE (n_nodes) */
	uint32_t   *rule_of;		/* rule in to of a node that came back to itself,
								 * else L3_GRAMMAR_NONE (n_nodes) */
	uint8_t    *is_open;		/* on the path (n_nodes) */
	uint32_t   *path;			/* nodes being made (n_nodes) */
	uint32_t   *next;			/* their next children (n_nodes) */
} Rebuild;

/*
 * Child i that has to be made before node, or L3_GRAMMAR_NONE.  *skip: there is
 * an i-th child, but it is left away.
 */
static uint32_t
child_to_make(const Rebuild *r, const L3Node *node, uint32_t i, bool *skip)
{
	uint32_t	child;

	*skip = false;
	if (node->kind == L3_NODE_RULE)
		return i == 0 ? r->g.rules[node->first] : L3_GRAMMAR_NONE;
	if (i >= l3_node_n_children(node))
		return L3_GRAMMAR_NONE;
	child = l3_node_child(&r->g, node, i);
	*skip = !r->can_end[child];
	return child;
}

static uint32_t
make_children(Rebuild *r, const L3Node *node)
{
	uint32_t   *children = malloc(((size_t) node->n + 1) * sizeof(uint32_t));
	uint32_t	n = 0;
	uint32_t	made;

	if (children == NULL)
		return fail_memory(r->to);
	for (uint32_t i = 0; i < node->n; i++)
	{
		uint32_t	child = l3_node_child(&r->g, node, i);

		if (r->can_end[child])
			children[n++] = r->made[child];
	}
	made = node->kind == L3_NODE_SEQ ? l3_grammar_seq(r->to, children, n) :
		l3_grammar_alt(r->to, children, n);
	free(children);
	return made;
}

/* Make node number, whose children are made. */
static uint32_t
make_again(Rebuild *r, uint32_t number)
{
	const L3Node *node = &r->g.nodes[number];

	switch ((L3NodeKind) node->kind)
	{
		case L3_NODE_EMPTY:
			break;
		case L3_NODE_CLASS:
			return l3_grammar_class(r->to, r->g.base + node->first);
		case L3_NODE_LITERAL:
			return l3_grammar_literal(r->to, r->g.base + node->first, node->n);
		case L3_NODE_SEQ:
		case L3_NODE_ALT:
			return make_children(r, node);
		case L3_NODE_REPEAT:
			if (!r->can_end[node->first])
				break;			/* not once, which min allows */
			return l3_grammar_repeat(r->to, r->made[node->first], node->min, node->max);
		case L3_NODE_RULE:
			return r->made[r->g.rules[node->first]];
	}
	return l3_grammar_empty(r->to);
}

static void
open_node(Rebuild *r, uint32_t *depth, uint32_t number)
{
	r->is_open[number] = 1;
	r->path[*depth] = number;
	r->next[(*depth)++] = 0;
}

static void
close_node(Rebuild *r, uint32_t number)
{
	uint32_t	made = make_again(r, number);

	if (r->rule_of[number] != L3_GRAMMAR_NONE)
	{
		l3_grammar_define(r->to, r->rule_of[number], made);
		made = l3_grammar_rule(r->to, r->rule_of[number]);
	}
	r->made[number] = made;
	r->is_open[number] = 0;
}

/*
 * Make start and all below it, depth first without recursion.  What is met
 * again while it is open becomes a rule.
 */
static void
rebuild_from(Rebuild *r, uint32_t start)
{
	uint32_t	depth = 0;

	open_node(r, &depth, start);
	while (depth > 0 && !l3_grammar_build_failed(r->to))
	{
		uint32_t	number = r->path[depth - 1];
		bool		skip;
		uint32_t	child = child_to_make(r, &r->g.nodes[number], r->next[depth - 1]++, &skip);

		if (child == L3_GRAMMAR_NONE)
		{
			close_node(r, number);
			depth--;
		}
		else if (skip || r->made[child] != L3_GRAMMAR_NONE)
			continue;
		else if (r->is_open[child])
		{
			r->rule_of[child] = l3_grammar_new_rule(r->to);
			r->made[child] = l3_grammar_rule(r->to, r->rule_of[child]);
		}
		else
			open_node(r, &depth, child);
	}
}

/* Rebuild from root, a RULE node, into to; returns the new root. */
static uint32_t
rebuild(const L3GrammarBuilder *from, const uint8_t *can_end, uint32_t root, L3GrammarBuilder *to)
{
	size_t		bytes = from->n_nodes * sizeof(uint32_t);
	Rebuild		r = {.g = graph_of(from), .can_end = can_end, .to = to};
	uint32_t	new_root = 0;

	r.made = malloc(bytes);
	r.rule_of = malloc(bytes);
	r.is_open = calloc(from->n_nodes, 1);
	r.path = malloc(bytes);
	r.next = malloc(bytes);
	if (r.made == NULL || r.rule_of == NULL || r.is_open == NULL || r.path == NULL || r.next == NULL)
		fail_memory(to);
	else
	{
		memset(r.made, 0xFF, bytes);
		memset(r.rule_of, 0xFF, bytes);
		rebuild_from(&r, root);
		if (!l3_grammar_build_failed(to) && r.rule_of[root] != L3_GRAMMAR_NONE)
			new_root = r.rule_of[root];
		else
		{
			new_root = l3_grammar_new_rule(to);
			l3_grammar_define(to, new_root, r.made[root]);
		}
	}
	free(r.made);
	free(r.rule_of);
	free(r.is_open);
	free(r.path);
	free(r.next);
	return new_root;
}

/* ----------------------------------------------------------------
 *		Finishing
 * ----------------------------------------------------------------
 */

/* Header, nodes, rules, data. */
static L3Status
write_image(const L3GrammarBuilder *b, uint32_t root, void **image, size_t *size, L3Error *err)
{
	size_t		nodes = sizeof(L3Grammar);
	size_t		rules = nodes + b->n_nodes * sizeof(L3Node);
	size_t		data = rules + b->n_rules * sizeof(uint32_t);
	L3Grammar  *grammar;
	L3Node	   *node;

	*size = data + b->n_data;
	if (*size > L3_GRAMMAR_MAX_BYTES)
	{
		l3_error(err, L3_ERR_LIMIT, "grammar is too large");
		l3_error_detail(err, "It would have %zu bytes; the limit is %u.", *size,
						L3_GRAMMAR_MAX_BYTES);
		return L3_ERR_LIMIT;
	}
	*image = grammar = calloc(1, *size);
	if (grammar == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	grammar->magic = L3_GRAMMAR_MAGIC;
	grammar->size = (uint32_t) *size;
	grammar->n_nodes = b->n_nodes;
	grammar->nodes = (uint32_t) nodes;
	grammar->n_rules = b->n_rules;
	grammar->rules = (uint32_t) rules;
	grammar->root = root;
	node = memcpy((uint8_t *) *image + nodes, b->nodes, rules - nodes);
	for (uint32_t v = 0; v < b->n_nodes; v++)
		if (payload_size(&node[v]) > 0)
			node[v].first += (uint32_t) data;
	memcpy((uint8_t *) *image + rules, b->rules, data - rules);
	memcpy((uint8_t *) *image + data, b->data, b->n_data);
	l3_grammar_digest(grammar, grammar->digest);
	return L3_OK;
}

/* Every rule that is used must be defined. */
static L3Status
check_rules(const L3GrammarBuilder *b, L3Error *err)
{
	for (uint32_t v = 0; v < b->n_nodes; v++)
	{
		const L3Node *node = &b->nodes[v];

		if (node->kind == L3_NODE_RULE &&
			(node->first >= b->n_rules || b->rules[node->first] == L3_GRAMMAR_NONE))
			return l3_error(err, L3_ERR_ARG, "rule %u of a grammar is not defined", node->first);
	}
	return L3_OK;
}

/* The second build of b; the caller frees it when this is L3_OK. */
static L3Status
build_again(L3GrammarBuilder *b, uint32_t root_rule, L3GrammarBuilder **again,
			uint32_t *root, L3Error *err)
{
	uint32_t	root_node = l3_grammar_rule(b, root_rule);
	L3NodeGraph g = graph_of(b);
	uint8_t    *can_end;
	L3Status	status = b->err.status;

	if (status != L3_OK)
	{
		*err = b->err;
		return status;
	}
	if ((status = check_rules(b, err)) != L3_OK)
		return status;
	can_end = malloc(b->n_nodes);
	*again = l3_grammar_build_begin();
	if (can_end == NULL || *again == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	else if ((status = l3_grammar_property(&g, L3_CAN_END, can_end, err)) == L3_OK)
	{
		if (!can_end[root_node])
			status = l3_error(err, L3_ERR_ARG, "nothing can satisfy the grammar");
		else
			*root = rebuild(b, can_end, root_node, *again);
	}
	if (status == L3_OK && (status = (*again)->err.status) != L3_OK)
		*err = (*again)->err;
	if (status != L3_OK)
		builder_free(*again);
	free(can_end);
	return status;
}

L3Status
l3_grammar_build_finish(L3GrammarBuilder *b, uint32_t root_rule, void **image, size_t *size,
						L3Error *err)
{
	L3GrammarBuilder *again;
	uint32_t	root = 0;
	L3Status	status;

	*image = NULL;
	*size = 0;
	status = build_again(b, root_rule, &again, &root, err);
	builder_free(b);
	if (status != L3_OK)
		return status;
	status = write_image(again, root, image, size, err);
	builder_free(again);
	if (status == L3_OK && l3_grammar_check(*image, *size, err) == NULL)
	{
		status = err->status == L3_ERR_FORMAT ? L3_ERR_ARG : err->status;
		err->status = status;
		free(*image);
		*image = NULL;
	}
	return status;
}
