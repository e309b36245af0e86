/*-------------------------------------------------------------------------
 *
 * schema.c
 *	  Compiling a JSON Schema: places, alternatives, and types.
 *
 * The design is told in schema_compile.h.
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define NONE		UINT32_MAX

/* ----------------------------------------------------------------
 *		Failing, and what all files use
 * ----------------------------------------------------------------
 */

void
schema_fail(Compiler *c, L3Status status, const char *pointer, const char *keyword,
			const char *fmt,...)
{
	char		what[256];
	va_list		args;

	if (c->status != L3_OK)
		return;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	c->status = l3_error(c->err, status, "JSON Schema at \"%.200s%s%.50s\": %s", pointer,
						 keyword[0] == '\0' ? "" : "/", keyword, what);
}

void
schema_no_memory(Compiler *c)
{
	if (c->status == L3_OK)
		c->status = l3_error(c->err, L3_ERR_MEMORY, "out of memory for a JSON Schema");
}

bool
schema_spend(Compiler *c, uint64_t work)
{
	if (c->status == L3_OK && c->budget < work)
		c->status = l3_error(c->err, L3_ERR_LIMIT, "JSON Schema is too complex");
	if (c->status != L3_OK)
		return false;
	c->budget -= work;
	return true;
}

bool
schema_room(Compiler *c, void *array, size_t element, uint32_t used, uint32_t *capacity)
{
	void	  **place = array;
	uint32_t	wanted = *capacity == 0 ? 8 : *capacity * 2;
	void	   *grown;

	if (used < *capacity)
		return true;
	grown = realloc(*place, wanted * element);
	if (grown == NULL)
	{
		schema_no_memory(c);
		return false;
	}
	*place = grown;
	*capacity = wanted;
	return true;
}

uint32_t
schema_never(Compiler *c)
{
	return l3_grammar_alt(c->b, NULL, 0);
}

uint32_t
schema_text(Compiler *c, const char *text)
{
	return l3_grammar_literal(c->b, text, strlen(text));
}

/* ----------------------------------------------------------------
 *		Any JSON
 * ----------------------------------------------------------------
 */

/* open (one (", " one)*)? close */
static uint32_t
any_container(Compiler *c, const char *open, uint32_t one, const char *close)
{
	uint32_t	more[] = {schema_text(c, ", "), one};
	uint32_t	list[] = {one, l3_grammar_repeat(c->b, l3_grammar_seq(c->b, more, 2), 0,
												 L3_GRAMMAR_UNBOUNDED)};
	uint32_t	parts[] = {schema_text(c, open),
		l3_grammar_repeat(c->b, l3_grammar_seq(c->b, list, 2), 0, 1),
	schema_text(c, close)};

	return l3_grammar_seq(c->b, parts, 3);
}

uint32_t
schema_any(Compiler *c, uint32_t depth)
{
	static const Conj nothing;
	Merged		free_text;
	uint32_t	ways[7];
	uint32_t	n = 0;

	if (c->any[depth] != 0)
		return c->any[depth];
	schema_merge(c, &nothing, &free_text);
	ways[n++] = schema_text(c, "null");
	ways[n++] = schema_text(c, "true");
	ways[n++] = schema_text(c, "false");
	ways[n++] = schema_number(c, &nothing, &free_text);
	ways[n++] = schema_string(c, &nothing, &free_text);
	if (depth > 0)
	{
		uint32_t	value = schema_any(c, depth - 1);
		uint32_t	member[] = {schema_text(c, "\""), schema_free_name(c, &nothing, NULL),
		schema_text(c, ": "), value};

		ways[n++] = any_container(c, "[", value, "]");
		ways[n++] = any_container(c, "{", l3_grammar_seq(c->b, member, 4), "}");
	}
	c->any[depth] = l3_grammar_alt(c->b, ways, n);
	return c->any[depth];
}

/* ----------------------------------------------------------------
 *		Places
 * ----------------------------------------------------------------
 */

static uint32_t
place_slot(const Compiler *c, const uint32_t *key, uint32_t n)
{
	uint32_t	mask = c->place_table.n - 1;
	uint32_t	slot = (uint32_t) XXH3_64bits(key, n * sizeof(uint32_t)) & mask;

	for (; c->place_table.slots[slot] != L3_SLOT_FREE; slot = (slot + 1) & mask)
	{
		const Place *place = &c->places[c->place_table.slots[slot]];

		if (place->conj.n_parts == n && memcmp(place->key, key, n * sizeof(uint32_t)) == 0)
			break;
	}
	return slot;
}

static bool
reserve_place_slot(Compiler *c)
{
	bool		emptied;

	if (!l3_slots_reserve(&c->place_table, c->n_places, &emptied))
	{
		schema_no_memory(c);
		return false;
	}
	for (uint32_t i = 0; emptied && i < c->n_places; i++)
		c->place_table.slots[place_slot(c, c->places[i].key, c->places[i].conj.n_parts)] = i;
	return true;
}

uint32_t
schema_place(Compiler *c, Conj *conj)
{
	uint32_t	n = conj->n_parts;
	uint32_t   *key;
	uint32_t	slot;

	if (conj->never || c->status != L3_OK || !reserve_place_slot(c) ||
		!schema_room(c, &c->places, sizeof(Place), c->n_places, &c->places_capacity))
	{
		conj_free(conj);
		return schema_never(c);
	}
	key = malloc((n + 1) * sizeof(uint32_t));
	if (key == NULL)
	{
		schema_no_memory(c);
		conj_free(conj);
		return 0;
	}
	if (n > 0)
		memcpy(key, conj->parts, n * sizeof(uint32_t));
	l3_sort_numbers(key, n);
	slot = place_slot(c, key, n);
	if (c->place_table.slots[slot] == L3_SLOT_FREE)
	{
		c->places[c->n_places] = (Place) {*conj, key, l3_grammar_new_rule(c->b)};
		c->place_table.slots[slot] = c->n_places++;
	}
	else
	{
		free(key);
		conj_free(conj);
	}
	return l3_grammar_rule(c->b, c->places[c->place_table.slots[slot]].rule);
}

/* ----------------------------------------------------------------
 *		One conjunction
 * ----------------------------------------------------------------
 */

static uint32_t compile_conj(Compiler *c, const Conj *conj);

/* Without anyOf: the alternative of its types, or of its values. */
static uint32_t
compile_types(Compiler *c, const Conj *conj)
{
	Merged		merged;
	uint32_t	ways[8];
	uint32_t	n = 0;
	unsigned	types;
	uint32_t	node;

	schema_merge(c, conj, &merged);
	types = merged.types;
	if (!merged.has_type && merged.meant != 0)
		types &= merged.meant;
	if (merged.values != NULL)
		node = schema_values(c, conj, &merged);
	else if (!merged.has_type && merged.meant == 0)
		node = schema_any(c, L3_SCHEMA_ANY_DEPTH);
	else
	{
		if (types & TYPE_NULL)
			ways[n++] = schema_text(c, "null");
		if (types & TYPE_BOOLEAN)
		{
			ways[n++] = schema_text(c, "true");
			ways[n++] = schema_text(c, "false");
		}
		if (types & TYPE_NUMBER)
		{
			merged.types = types;
			ways[n++] = schema_number(c, conj, &merged);
		}
		if (types & TYPE_STRING)
			ways[n++] = schema_string(c, conj, &merged);
		if (types & TYPE_ARRAY)
			ways[n++] = schema_array(c, conj, &merged);
		if (types & TYPE_OBJECT)
			ways[n++] = schema_object(c, conj);
		node = l3_grammar_alt(c->b, ways, n);
	}
	merged_free(&merged);
	return node;
}

/* oneOf is anyOf where no two of its alternatives can hold at once. */
static void
check_exclusive(Compiler *c, uint32_t choice, const Conj *ways, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n && schema_spend(c, 1); j++)
			if (!schema_disjoint(c, &ways[i], &ways[j]))
			{
				schema_fail(c, L3_ERR_UNSUPPORTED, c->parts[choice].pointer, "oneOf",
							"it is not certain that alternatives %zu and %zu exclude each other",
							i, j);
				if (c->status == L3_ERR_UNSUPPORTED)
					l3_error_hint(c->err, "Use anyOf, or give the alternatives a required member with different const values.");
				return;
			}
}

/* Multiply conj out over the anyOf or oneOf that is its part number choice. */
static uint32_t
compile_choice(Compiler *c, const Conj *conj, uint32_t choice)
{
	PartKind	kind = c->parts[choice].kind;
	const char *keyword = kind == PART_ONE_OF ? "oneOf" : "anyOf";
	json_t	   *list = json_object_get(c->parts[choice].schema, keyword);
	size_t		n = json_array_size(list);
	Conj	   *ways = calloc(n, sizeof(Conj));
	uint32_t   *nodes = calloc(n, sizeof(uint32_t));
	uint32_t	node = 0;

	if (ways == NULL || nodes == NULL)
		schema_no_memory(c);
	else if (c->n_alternatives + n > MAX_ALTERNATIVES || ++c->nesting > MAX_NESTING)
		schema_fail(c, L3_ERR_LIMIT, c->parts[choice].pointer, keyword,
					"there are more than %d alternatives when all are multiplied out",
					MAX_ALTERNATIVES);
	c->n_alternatives += (uint32_t) n;
	for (size_t i = 0; i < n && c->status == L3_OK; i++)
	{
		char		pointer[MAX_POINTER];

		schema_pointer_index(pointer, c->parts[choice].pointer, keyword, i);
		conj_copy(c, &ways[i], conj, choice);
		schema_add(c, json_array_get(list, i), pointer, &ways[i]);
	}
	if (kind == PART_ONE_OF && c->status == L3_OK)
		check_exclusive(c, choice, ways, n);
	for (size_t i = 0; i < n && c->status == L3_OK; i++)
		nodes[i] = compile_conj(c, &ways[i]);
	if (c->status == L3_OK)
		node = l3_grammar_alt(c->b, nodes, n);
	c->nesting--;
	for (size_t i = 0; i < n && ways != NULL; i++)
		conj_free(&ways[i]);
	free(ways);
	free(nodes);
	return node;
}

static uint32_t
compile_conj(Compiler *c, const Conj *conj)
{
	uint32_t	choice = conj_choice(c, conj);

	if (conj->never || !schema_spend(c, 1))
		return schema_never(c);
	return choice == NONE ? compile_types(c, conj) : compile_choice(c, conj, choice);
}

/* ----------------------------------------------------------------
 *		The whole
 * ----------------------------------------------------------------
 */

static L3Status
parse(Compiler *c, const char *json, size_t len)
{
	json_error_t why;
	size_t		n_containers = 0;

	for (size_t i = 0; i < len; i++)
		n_containers += (json[i] == '[') | (json[i] == '{');
	if (len > L3_SCHEMA_MAX_BYTES || n_containers > MAX_CONTAINERS)
	{
		l3_error(c->err, L3_ERR_LIMIT, "JSON Schema is too large");
		l3_error_detail(c->err, "At most %d bytes and %d arrays and objects are taken.",
						L3_SCHEMA_MAX_BYTES, MAX_CONTAINERS);
		return L3_ERR_LIMIT;
	}
	c->root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
	if (c->root != NULL)
		return L3_OK;
	if (json_error_code(&why) == json_error_out_of_memory)
		return l3_error(c->err, L3_ERR_MEMORY, "out of memory for a JSON Schema");
	if (json_error_code(&why) == json_error_numeric_overflow)
		l3_error(c->err, L3_ERR_UNSUPPORTED, "a number in the JSON Schema is too large");
	else
		l3_error(c->err, L3_ERR_ARG, "JSON Schema is not valid JSON");
	l3_error_detail(c->err, "Line %d, column %d: %s.", why.line, why.column, why.text);
	return c->err->status;
}

/* Define all places, each of which may add more. */
static void
compile_places(Compiler *c)
{
	for (uint32_t i = 0; i < c->n_places && c->status == L3_OK; i++)
	{
		Conj		conj = c->places[i].conj;	/* places may move, its parts do not */
		uint32_t	node;

		c->nesting = 0;
		node = compile_conj(c, &conj);
		l3_grammar_define(c->b, c->places[i].rule, node);
		if (l3_grammar_build_failed(c->b))
			return;
	}
}

static void
compiler_free(Compiler *c)
{
	for (uint32_t i = 0; i < c->n_parts; i++)
		free(c->parts[i].pointer);
	for (uint32_t i = 0; i < c->n_places; i++)
	{
		conj_free(&c->places[i].conj);
		free(c->places[i].key);
	}
	free(c->parts);
	free(c->part_table.slots);
	free(c->places);
	free(c->place_table.slots);
	free(c->numbers);
	free(c->inexact);
	json_decref(c->root);
}

/*
 * The builder frees itself in finishing only, so it is finished after an error
 * too.
 */
static L3Status
finish(Compiler *c, uint32_t root_rule, void **image, size_t *size)
{
	L3Error		err;
	L3Status	status = l3_grammar_build_finish(c->b, root_rule, image, size, &err);

	if (c->status != L3_OK)
	{
		free(*image);
		*image = NULL;
		*size = 0;
		return c->status;
	}
	*c->err = err;
	if (status == L3_ERR_ARG)
		schema_fail(c, L3_ERR_ARG, "", "", "nothing can satisfy it");
	else if (status == L3_ERR_LIMIT)
		schema_fail(c, L3_ERR_LIMIT, "", "", "its grammar is too large");
	return status;
}

L3Status
l3_schema_compile(const char *json, size_t len, void **image, size_t *size, L3Error *err)
{
	Compiler	c = {.err = err, .budget = COMPILE_BUDGET};
	Conj		root = {0};
	uint32_t	root_rule;
	L3Status	status;

	*image = NULL;
	*size = 0;
	if ((status = parse(&c, json, len)) != L3_OK)
		return status;
	c.b = l3_grammar_build_begin();
	if (c.b == NULL)
	{
		json_decref(c.root);
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a JSON Schema");
	}
	schema_note_inexact(&c, json, len);
	schema_check_all(&c);
	root_rule = l3_grammar_new_rule(c.b);
	schema_add(&c, c.root, "", &root);
	l3_grammar_define(c.b, root_rule, schema_place(&c, &root));
	compile_places(&c);
	status = finish(&c, root_rule, image, size);
	compiler_free(&c);
	return status;
}
