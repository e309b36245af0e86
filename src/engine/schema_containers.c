/*-------------------------------------------------------------------------
 *
 * schema_containers.c
 *	  Objects and arrays.
 *
 * Members come in the order of the schema, and those that are not required may
 * be left out.  After the opening brace and after each member the rest is one of
 * two nodes for each place in that order, so the commas are right for every
 * subset and the grammar grows linearly:
 *
 *		from[i]		what follows a quote that opens the name of member i or of one
 *					after it
 *		after[i]	what follows a member before i: nothing, or , " from[i]
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

#define NONE		UINT32_MAX

/* ----------------------------------------------------------------
 *		Names that are not declared
 * ----------------------------------------------------------------
 */

/* A tree of the declared names' characters. */
typedef struct TrieNode
{
	uint32_t	cp;
	uint32_t	child;			/* or NONE */
	uint32_t	sibling;		/* with a greater cp, or NONE */
	bool		is_name;
} TrieNode;

typedef struct Trie
{
	TrieNode   *nodes;
	uint32_t	n_nodes;
	uint32_t	capacity;
} Trie;

static uint32_t
trie_node(Compiler *c, Trie *trie, uint32_t cp, uint32_t sibling)
{
	if (!schema_room(c, &trie->nodes, sizeof(TrieNode), trie->n_nodes, &trie->capacity))
		return 0;
	trie->nodes[trie->n_nodes] = (TrieNode) {cp, NONE, sibling, false};
	return trie->n_nodes++;
}

/* The child of a node by its character, made where it is missing. */
static uint32_t
trie_child(Compiler *c, Trie *trie, uint32_t parent, uint32_t cp)
{
	uint32_t	before = NONE;
	uint32_t	at = trie->nodes[parent].child;
	uint32_t	made;

	while (at != NONE && trie->nodes[at].cp < cp && schema_spend(c, 1))
	{
		before = at;
		at = trie->nodes[at].sibling;
	}
	if (at != NONE && trie->nodes[at].cp == cp)
		return at;
	made = trie_node(c, trie, cp, at);
	if (c->status != L3_OK)
		return 0;
	if (before == NONE)
		trie->nodes[parent].child = made;
	else
		trie->nodes[before].sibling = made;
	return made;
}

static void
trie_build(Compiler *c, Trie *trie, const json_t *names)
{
	const char *name;
	json_t	   *ignored;

	trie_node(c, trie, 0, NONE);
	json_object_foreach((json_t *) names, name, ignored)
	{
		size_t		len = strlen(name);
		uint32_t	at = 0;

		(void) ignored;
		for (size_t i = 0; i < len && c->status == L3_OK;)
		{
			uint32_t	cp;

			i += l3_utf8_decode((const uint8_t *) name + i, len - i, &cp);
			at = trie_child(c, trie, at, cp);
		}
		if (c->status == L3_OK)
			trie->nodes[at].is_name = true;
	}
}

/* Characters of a free name from low to high lead from one state to the other. */
static void
free_edges(L3Nfa *nfa, uint32_t from, uint32_t low, uint32_t high, uint32_t to)
{
	if (low < ' ')
		low = ' ';
	if (low <= high)
		l3_nfa_edge(nfa, from, low, high, to);
}

/*
 * The automaton of all names but those of the trie: its nodes are states, 0
 * being the start, and where it is left all is free.
 */
static L3Status
trie_complement(const Trie *trie, uint64_t *budget, L3Dfa **dfa, L3Error *err)
{
	L3Nfa		nfa = {0};
	uint32_t	is_free;
	uint32_t	end;
	L3Status	status;

	for (uint32_t i = 0; i < trie->n_nodes; i++)
		l3_nfa_state(&nfa);
	is_free = l3_nfa_state(&nfa);
	end = l3_nfa_state(&nfa);
	for (uint32_t i = 0; i < trie->n_nodes && nfa.status == L3_OK; i++)
	{
		uint32_t	next = 0;

		for (uint32_t child = trie->nodes[i].child; child != NONE;
			 child = trie->nodes[child].sibling)
		{
			uint32_t	cp = trie->nodes[child].cp;

			if (cp > next)
				free_edges(&nfa, i, next, cp - 1, is_free);
			l3_nfa_edge(&nfa, i, cp, cp, child);
			next = cp + 1;
		}
		free_edges(&nfa, i, next, L3_CHAR_MAX, is_free);
		if (i > 0 && !trie->nodes[i].is_name)
			l3_nfa_skip(&nfa, i, end);
	}
	if (nfa.status == L3_OK)
	{
		free_edges(&nfa, is_free, 0, L3_CHAR_MAX, is_free);
		l3_nfa_skip(&nfa, is_free, end);
	}
	status = l3_nfa_determinize(&nfa, 0, end, budget, dfa, err);
	l3_nfa_free(&nfa);
	return status;
}

static uint32_t
other_names(Compiler *c, const Conj *conj, const json_t *names)
{
	const char *pointer = c->parts[conj->parts[0]].pointer;
	Trie		trie = {0};
	L3Dfa	   *dfa = NULL;
	L3Error		err;
	uint32_t	node = 0;

	trie_build(c, &trie, names);
	if (c->status == L3_OK)
	{
		L3Status	status = trie_complement(&trie, &c->budget, &dfa, &err);

		if (status != L3_OK)
			schema_fail(c, status, pointer, "additionalProperties", "%s", err.message);
		else if (schema_spend(c, dfa->n_states + dfa->first_edge[dfa->n_states]))
			node = l3_dfa_grammar(c->b, dfa);
	}
	l3_dfa_free(dfa);
	free(trie.nodes);
	return node;
}

uint32_t
schema_free_name(Compiler *c, const Conj *conj, const json_t *names)
{
	static const L3CharRange any[] = {{' ', L3_CHAR_MAX}};
	uint32_t	parts[2];

	parts[0] = names != NULL && json_object_size(names) > 0 ? other_names(c, conj, names) :
		l3_grammar_repeat(c->b, l3_char_grammar(c->b, any, 1), 1, L3_GRAMMAR_UNBOUNDED);
	parts[1] = schema_text(c, "\"");
	return l3_grammar_seq(c->b, parts, 2);
}

/* ----------------------------------------------------------------
 *		Members
 * ----------------------------------------------------------------
 */

void
schema_member(Compiler *c, const Conj *conj, const char *name, Conj *member)
{
	for (uint32_t i = 0; i < conj->n_parts && schema_spend(c, 1); i++)
	{
		const Part *part = &c->parts[conj->parts[i]];
		json_t	   *properties = part_get(part, "properties");
		json_t	   *declared = name == NULL ? NULL : json_object_get(properties, name);
		json_t	   *others = part_get(part, "additionalProperties");
		char		pointer[MAX_POINTER];
		char		inner[MAX_POINTER];

		if (declared != NULL)
		{
			schema_pointer(pointer, part->pointer, "properties");
			schema_pointer(inner, pointer, name);
			schema_add(c, declared, inner, member);
		}
		else if (others != NULL)
		{
			schema_pointer(pointer, part->pointer, "additionalProperties");
			schema_add(c, others, pointer, member);
		}
	}
}

/* What the members of an object are. */
typedef struct Members
{
	json_t	   *names;			/* declared or required, in order: an object whose
								 * values say whether it is required */
	bool		has_others;		/* names that are not declared are allowed */
	uint32_t	other;			/* name, quote, and value of such a one */
} Members;

static void
collect_names(Compiler *c, const Conj *conj, Members *members)
{
	bool		declares = false;
	bool		says_others = false;

	for (uint32_t i = 0; i < conj->n_parts && c->status == L3_OK; i++)
	{
		const Part *part = &c->parts[conj->parts[i]];
		json_t	   *properties = part_get(part, "properties");
		const char *name;
		json_t	   *ignored;

		declares |= properties != NULL;
		says_others |= part_get(part, "additionalProperties") != NULL;
		json_object_foreach(properties, name, ignored)
		{
			(void) ignored;
			if (json_object_get(members->names, name) == NULL &&
				json_object_set_new(members->names, name, json_false()) != 0)
				schema_no_memory(c);
		}
	}
	for (uint32_t i = 0; i < conj->n_parts && c->status == L3_OK; i++)
	{
		const json_t *required = part_get(&c->parts[conj->parts[i]], "required");

		for (size_t j = 0; j < json_array_size(required); j++)
			if (json_object_set_new(members->names,
									json_string_value(json_array_get(required, j)),
									json_true()) != 0)
				schema_no_memory(c);
	}
	members->has_others = says_others || !declares;
}

/* name": value of a member that is declared. */
static uint32_t
declared_member(Compiler *c, const Conj *conj, const char *name)
{
	Conj		value = {0};
	uint32_t	parts[2];

	schema_member(c, conj, name, &value);
	parts[0] = schema_escaped(c, "", name, "\": ");
	parts[1] = schema_place(c, &value);
	return l3_grammar_seq(c->b, parts, 2);
}

static void
other_member(Compiler *c, const Conj *conj, Members *members)
{
	Conj		value = {0};
	uint32_t	parts[3];

	schema_member(c, conj, NULL, &value);
	if (value.never || c->status != L3_OK)
	{
		members->has_others = false;
		conj_free(&value);
		return;
	}
	parts[0] = schema_free_name(c, conj, members->names);
	parts[1] = schema_text(c, ": ");
	parts[2] = schema_place(c, &value);
	members->other = l3_grammar_seq(c->b, parts, 3);
}

/* nothing, or opener then from; only the second when a member has to come. */
static uint32_t
opened(Compiler *c, const char *opener, uint32_t from, bool must)
{
	uint32_t	parts[] = {schema_text(c, opener), from};
	uint32_t	ways[] = {l3_grammar_empty(c->b), l3_grammar_seq(c->b, parts, 2)};

	return must ? ways[1] : l3_grammar_alt(c->b, ways, 2);
}

/* What follows the opening brace, up to the closing one. */
static uint32_t
object_inside(Compiler *c, const Conj *conj, const Members *members)
{
	size_t		n = json_object_size(members->names);
	void	  **iters = malloc((n + 1) * sizeof(void *));
	uint32_t	from = schema_never(c);
	uint32_t	after = l3_grammar_empty(c->b);
	bool		must = false;
	size_t		i = 0;

	if (iters == NULL)
	{
		schema_no_memory(c);
		return 0;
	}
	for (void *iter = json_object_iter(members->names); iter != NULL;
		 iter = json_object_iter_next(members->names, iter))
		iters[i++] = iter;
	if (members->has_others)
	{
		uint32_t	parts[2] = {schema_text(c, ", \""), members->other};

		after = l3_grammar_repeat(c->b, l3_grammar_seq(c->b, parts, 2), 0, L3_GRAMMAR_UNBOUNDED);
		parts[0] = members->other;
		parts[1] = after;
		from = l3_grammar_seq(c->b, parts, 2);
	}
	while (i-- > 0 && c->status == L3_OK)
	{
		uint32_t	parts[] = {declared_member(c, conj, json_object_iter_key(iters[i])), after};
		uint32_t	ways[] = {l3_grammar_seq(c->b, parts, 2), from};
		bool		is_required = json_is_true(json_object_iter_value(iters[i]));

		must |= is_required;
		from = is_required ? ways[0] : l3_grammar_alt(c->b, ways, 2);
		after = opened(c, ", \"", from, must);
	}
	free(iters);
	return opened(c, "\"", from, must);
}

uint32_t
schema_object(Compiler *c, const Conj *conj)
{
	/* json_object() would be PostgreSQL's function of that name in its server. */
	Members		members = {.names = json_pack("{}")};
	uint32_t	parts[3] = {schema_text(c, "{"), 0, schema_text(c, "}")};

	if (members.names == NULL)
	{
		schema_no_memory(c);
		return 0;
	}
	collect_names(c, conj, &members);
	if (members.has_others)
		other_member(c, conj, &members);
	if (c->status == L3_OK)
		parts[1] = object_inside(c, conj, &members);
	json_decref(members.names);
	return l3_grammar_seq(c->b, parts, 3);
}

/* ----------------------------------------------------------------
 *		Items
 * ----------------------------------------------------------------
 */

void
schema_item(Compiler *c, const Conj *conj, size_t number, Conj *item)
{
	for (uint32_t i = 0; i < conj->n_parts && schema_spend(c, 1); i++)
	{
		const Part *part = &c->parts[conj->parts[i]];
		const json_t *prefix = part_get(part, "prefixItems");
		json_t	   *items = part_get(part, "items");
		char		pointer[MAX_POINTER];

		if (number < json_array_size(prefix))
		{
			schema_pointer_index(pointer, part->pointer, "prefixItems", number);
			schema_add(c, json_array_get(prefix, number), pointer, item);
		}
		else if (items != NULL)
		{
			schema_pointer(pointer, part->pointer, "items");
			schema_add(c, items, pointer, item);
		}
	}
}

/* The node of item number. */
static uint32_t
item_node(Compiler *c, const Conj *conj, size_t number)
{
	Conj		item = {0};

	schema_item(c, conj, number, &item);
	return schema_place(c, &item);
}

static uint32_t
less(uint32_t count, uint32_t n)
{
	return count == L3_GRAMMAR_UNBOUNDED ? count : count > n ? count - n : 0;
}

/* What follows n_prefix >= 1 items of their own: the others, each with a comma. */
static uint32_t
other_items(Compiler *c, const Conj *conj, uint32_t n_prefix, uint32_t min, uint32_t max)
{
	uint32_t	parts[2] = {schema_text(c, ", "), 0};

	if (max <= n_prefix)
		return l3_grammar_empty(c->b);
	parts[1] = item_node(c, conj, n_prefix);
	return l3_grammar_repeat(c->b, l3_grammar_seq(c->b, parts, 2), less(min, n_prefix),
							 less(max, n_prefix));
}

/* Items min to max, the first n_prefix of which have schemas of their own. */
static uint32_t
array_inside(Compiler *c, const Conj *conj, uint32_t n_prefix, uint32_t min, uint32_t max)
{
	uint32_t	node;

	if (max == 0)
		return l3_grammar_empty(c->b);
	if (n_prefix == 0)
		n_prefix = 1;			/* of the same schema as those behind it */
	if (n_prefix > max)
		n_prefix = max;
	node = other_items(c, conj, n_prefix, min, max);
	for (uint32_t i = n_prefix; i-- > 0 && c->status == L3_OK;)
	{
		uint32_t	parts[] = {i == 0 ? l3_grammar_empty(c->b) : schema_text(c, ", "),
		item_node(c, conj, i), node};

		node = l3_grammar_seq(c->b, parts, 3);
		if (i >= min)
			node = l3_grammar_repeat(c->b, node, 0, 1);
	}
	return node;
}

uint32_t
schema_array(Compiler *c, const Conj *conj, const Merged *merged)
{
	uint32_t	min = merged->min_items;
	uint32_t	max = merged->max_items;
	uint32_t	n_prefix = 0;
	bool		says_others = false;
	uint32_t	parts[3] = {schema_text(c, "["), 0, schema_text(c, "]")};

	for (uint32_t i = 0; i < conj->n_parts; i++)
	{
		const Part *part = &c->parts[conj->parts[i]];
		uint32_t	n = (uint32_t) json_array_size(part_get(part, "prefixItems"));

		if (n > n_prefix)
			n_prefix = n;
		says_others |= part_get(part, "items") != NULL;
	}
	if (n_prefix > 0 && !says_others)
	{
		uint32_t	enough = min > n_prefix ? min : n_prefix;

		max = max < enough ? max : enough;
	}
	if (min > max)
		return schema_never(c);
	parts[1] = array_inside(c, conj, n_prefix, min, max);
	return l3_grammar_seq(c->b, parts, 3);
}
