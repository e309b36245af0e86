/*-------------------------------------------------------------------------
 *
 * schema_parts.c
 *	  Schema objects: references, and conjunctions of them.
 *
 * A schema object is looked at when a place first needs it, and so are the
 * schemas that stand at the same place: if one of them comes back to it without
 * having entered a member or an item, nothing could ever decide it.
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define NONE		UINT32_MAX

/* ----------------------------------------------------------------
 *		JSON Pointers (RFC 6901)
 * ----------------------------------------------------------------
 */

/* They serve messages, so a long one is cut off. */
void
schema_pointer_add(char pointer[MAX_POINTER], const char *token)
{
	size_t		n = strlen(pointer);

	if (n + 1 < MAX_POINTER)
		pointer[n++] = '/';
	for (; *token != '\0' && n + 3 < MAX_POINTER; token++)
	{
		if (*token == '~' || *token == '/')
		{
			pointer[n++] = '~';
			pointer[n++] = *token == '~' ? '0' : '1';
		}
		else
			pointer[n++] = *token;
	}
	if (n < MAX_POINTER)
		pointer[n] = '\0';
}

void
schema_pointer(char out[MAX_POINTER], const char *parent, const char *token)
{
	snprintf(out, MAX_POINTER, "%s", parent);
	schema_pointer_add(out, token);
}

void
schema_pointer_index(char out[MAX_POINTER], const char *parent, const char *keyword, size_t index)
{
	snprintf(out, MAX_POINTER, "%s/%s/%zu", parent, keyword, index);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Undo the percent encoding of a URI's fragment, in place; false: damaged. */
static bool
percent_decode(char *text)
{
	char	   *out = text;

	for (; *text != '\0'; text++)
	{
		if (*text == '%')
		{
			int			high = hex_digit(text[1]);
			int			low = high < 0 ? -1 : hex_digit(text[2]);

			if (low < 0 || high * 16 + low == 0)
				return false;
			*out++ = (char) (high * 16 + low);
			text += 2;
		}
		else
			*out++ = *text;
	}
	*out = '\0';
	return true;
}

/* Undo ~0 and ~1, in place. */
static void
unescape_token(char *token)
{
	char	   *out = token;

	for (; *token != '\0'; token++)
	{
		if (*token == '~' && (token[1] == '0' || token[1] == '1'))
			*out++ = *++token == '0' ? '~' : '/';
		else
			*out++ = *token;
	}
	*out = '\0';
}

static json_t *
step(json_t *at, const char *token)
{
	char	   *end;
	unsigned long index;

	if (json_is_object(at))
		return json_object_get(at, token);
	if (!json_is_array(at) || token[0] < '0' || token[0] > '9')
		return NULL;
	index = strtoul(token, &end, 10);
	return *end == '\0' ? json_array_get(at, index) : NULL;
}

/* What a pointer names below root, or NULL; the text is used up. */
static json_t *
follow_pointer(json_t *root, char *pointer)
{
	json_t	   *at = root;

	while (at != NULL && *pointer == '/')
	{
		char	   *token = ++pointer;

		pointer += strcspn(pointer, "/");
		if (*pointer == '/')
		{
			*pointer = '\0';
			unescape_token(token);
			at = step(at, token);
			*pointer = '/';
		}
		else
		{
			unescape_token(token);
			return step(at, token);
		}
	}
	return at;
}

json_t *
schema_resolve(Compiler *c, const char *ref, const char *pointer, char target[MAX_POINTER])
{
	char	   *text;
	json_t	   *schema = NULL;

	if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/'))
	{
		schema_fail(c, L3_ERR_UNSUPPORTED, pointer, "$ref",
					"only references into the schema itself (\"#/...\") are supported");
		return NULL;
	}
	text = strdup(ref + 1);
	if (text == NULL)
	{
		schema_no_memory(c);
		return NULL;
	}
	if (percent_decode(text))
	{
		snprintf(target, MAX_POINTER, "%s", text);
		schema = follow_pointer(c->root, text);
	}
	free(text);
	if (schema == NULL)
		schema_fail(c, L3_ERR_ARG, pointer, "$ref", "there is no \"%.100s\" in the schema", ref);
	return schema;
}

/* ----------------------------------------------------------------
 *		Parts
 * ----------------------------------------------------------------
 */

json_t *
part_get(const Part *part, const char *keyword)
{
	return part->kind == PART_OBJECT ? json_object_get(part->schema, keyword) : NULL;
}

static uint32_t
part_slot(const Compiler *c, const json_t *schema, PartKind kind)
{
	uint32_t	mask = c->part_table.n - 1;
	uint32_t	slot = (uint32_t) XXH3_64bits_withSeed(&schema, sizeof(schema), kind) & mask;

	while (c->part_table.slots[slot] != L3_SLOT_FREE &&
		   (c->parts[c->part_table.slots[slot]].schema != schema ||
			c->parts[c->part_table.slots[slot]].kind != kind))
		slot = (slot + 1) & mask;
	return slot;
}

static bool
reserve_part_slot(Compiler *c)
{
	bool		emptied;

	if (!l3_slots_reserve(&c->part_table, c->n_parts, &emptied))
	{
		schema_no_memory(c);
		return false;
	}
	for (uint32_t i = 0; emptied && i < c->n_parts; i++)
		c->part_table.slots[part_slot(c, c->parts[i].schema, c->parts[i].kind)] = i;
	return true;
}

static void look_at(Compiler *c, uint32_t part);

/* The number of a part, which is looked at when it is new. */
static uint32_t
find_part(Compiler *c, json_t *schema, const char *pointer, PartKind kind)
{
	uint32_t	slot;
	uint32_t	number;

	if (c->status != L3_OK || !reserve_part_slot(c))
		return 0;
	slot = part_slot(c, schema, kind);
	number = c->part_table.slots[slot];
	if (number == L3_SLOT_FREE)
	{
		if (!schema_room(c, &c->parts, sizeof(Part), c->n_parts, &c->parts_capacity))
			return 0;
		number = c->n_parts;
		c->parts[number] = (Part) {.schema = schema, .kind = kind, .pointer = strdup(pointer)};
		c->n_parts++;
		c->part_table.slots[slot] = number;
		if (c->parts[number].pointer == NULL)
			schema_no_memory(c);
		else if (kind == PART_OBJECT)
			look_at(c, number);
	}
	else if (c->parts[number].is_open)
		schema_fail(c, L3_ERR_ARG, c->parts[number].pointer, "",
					"it refers back to itself without a member or item in between");
	return number;
}

/* Call visit for each schema that stands at the same place as an object. */
static void
each_beside(Compiler *c, json_t *schema, const char *pointer,
			void (*visit) (Compiler *c, json_t *schema, const char *pointer, Conj *conj),
			bool alternatives, Conj *conj)
{
	static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
	const json_t *ref = json_object_get(schema, "$ref");
	char		child[MAX_POINTER];

	if (++c->nesting > MAX_NESTING)
		schema_fail(c, L3_ERR_LIMIT, pointer, "", "references are nested deeper than %d",
					MAX_NESTING);
	if (ref != NULL && c->status == L3_OK)
	{
		json_t	   *target = schema_resolve(c, json_string_value(ref), pointer, child);

		if (target != NULL)
			visit(c, target, child, conj);
	}
	for (int l = 0; l < (alternatives ? 3 : 1); l++)
	{
		const json_t *list = json_object_get(schema, lists[l]);

		for (size_t i = 0; i < json_array_size(list) && c->status == L3_OK; i++)
		{
			schema_pointer_index(child, pointer, lists[l], i);
			visit(c, json_array_get(list, i), child, conj);
		}
	}
	c->nesting--;
}

static void
look_at_beside(Compiler *c, json_t *schema, const char *pointer, Conj *conj)
{
	(void) conj;
	if (json_is_object(schema))
		find_part(c, schema, pointer, PART_OBJECT);
	else if (!json_is_boolean(schema))
		schema_fail(c, L3_ERR_ARG, pointer, "", "a schema is an object, true or false");
}

static void
look_at(Compiler *c, uint32_t part)
{
	json_t	   *schema = c->parts[part].schema;
	const char *pointer = c->parts[part].pointer;

	schema_check_keywords(c, schema, pointer);
	c->parts[part].is_open = true;
	if (c->status == L3_OK)
		each_beside(c, schema, pointer, look_at_beside, true, NULL);
	c->parts[part].is_open = false;
}

/* ----------------------------------------------------------------
 *		Conjunctions
 * ----------------------------------------------------------------
 */

void
conj_free(Conj *conj)
{
	free(conj->parts);
	memset(conj, 0, sizeof(*conj));
}

static bool
conj_has(const Conj *conj, uint32_t part)
{
	for (uint32_t i = 0; i < conj->n_parts; i++)
		if (conj->parts[i] == part)
			return true;
	return false;
}

void
conj_add(Compiler *c, Conj *conj, uint32_t part)
{
	if (schema_spend(c, conj->n_parts + 1) && !conj_has(conj, part) &&
		schema_room(c, &conj->parts, sizeof(uint32_t), conj->n_parts, &conj->capacity))
		conj->parts[conj->n_parts++] = part;
}

void
conj_copy(Compiler *c, Conj *to, const Conj *from, uint32_t without)
{
	for (uint32_t i = 0; i < from->n_parts; i++)
		if (from->parts[i] != without)
			conj_add(c, to, from->parts[i]);
	to->never |= from->never;
}

uint32_t
conj_choice(const Compiler *c, const Conj *conj)
{
	for (uint32_t i = 0; i < conj->n_parts; i++)
		if (c->parts[conj->parts[i]].kind != PART_OBJECT)
			return conj->parts[i];
	return NONE;
}

void
schema_add(Compiler *c, json_t *schema, const char *pointer, Conj *conj)
{
	uint32_t	part;

	if (c->status != L3_OK || json_is_true(schema))
		return;
	if (json_is_false(schema))
	{
		conj->never = true;
		return;
	}
	if (!json_is_object(schema))
	{
		schema_fail(c, L3_ERR_ARG, pointer, "", "a schema is an object, true or false");
		return;
	}
	part = find_part(c, schema, pointer, PART_OBJECT);
	if (c->status != L3_OK || conj_has(conj, part))
		return;
	conj_add(c, conj, part);
	each_beside(c, schema, pointer, schema_add, false, conj);
	if (json_object_get(schema, "anyOf") != NULL)
		conj_add(c, conj, find_part(c, schema, pointer, PART_ANY_OF));
	if (json_object_get(schema, "oneOf") != NULL)
		conj_add(c, conj, find_part(c, schema, pointer, PART_ONE_OF));
}

/* ----------------------------------------------------------------
 *		Merging
 * ----------------------------------------------------------------
 */

/* Leave in merged only the values that are in the array too. */
static void
merge_values(Compiler *c, Merged *merged, uint32_t part, json_t *array)
{
	json_t	   *kept = json_array();

	merged->values_of = part;
	for (size_t i = 0; i < json_array_size(array) && schema_spend(c, 1); i++)
	{
		json_t	   *value = json_array_get(array, i);
		bool		is_in = merged->values == NULL;

		for (size_t j = 0; !is_in && j < json_array_size(merged->values) && schema_spend(c, 1); j++)
			is_in = schema_equal(json_array_get(merged->values, j), value);
		if (is_in && json_array_append(kept, value) != 0)
			schema_no_memory(c);
	}
	json_decref(merged->values);
	merged->values = kept;
	if (kept == NULL)
		schema_no_memory(c);
}

static void
merge_numbers(Merged *merged, const json_t *schema)
{
	const json_t *value;

	if ((value = json_object_get(schema, "minimum")) != NULL)
		l3_interval_low(&merged->interval, schema_decimal(value), false);
	if ((value = json_object_get(schema, "exclusiveMinimum")) != NULL)
		l3_interval_low(&merged->interval, schema_decimal(value), true);
	if ((value = json_object_get(schema, "maximum")) != NULL)
		l3_interval_high(&merged->interval, schema_decimal(value), false);
	if ((value = json_object_get(schema, "exclusiveMaximum")) != NULL)
		l3_interval_high(&merged->interval, schema_decimal(value), true);
}

static void
merge_counts(const json_t *schema, const char *least, const char *most, uint32_t *min, uint32_t *max)
{
	const json_t *value;

	if ((value = json_object_get(schema, least)) != NULL && schema_count_of(value) > *min)
		*min = schema_count_of(value);
	if ((value = json_object_get(schema, most)) != NULL && schema_count_of(value) < *max)
		*max = schema_count_of(value);
}

static void
merge_part(Compiler *c, Merged *merged, uint32_t part)
{
	json_t	   *schema = c->parts[part].schema;
	const json_t *type = json_object_get(schema, "type");
	json_t	   *value;
	const char *name;

	if (type != NULL)
	{
		merged->types &= schema_types_of(type);
		merged->has_type = true;
	}
	json_object_foreach(schema, name, value)
		merged->meant |= schema_keyword_about(name);
	if ((value = json_object_get(schema, "enum")) != NULL)
		merge_values(c, merged, part, value);
	if ((value = json_object_get(schema, "const")) != NULL)
	{
		json_t	   *one = json_array();

		if (json_array_append(one, value) != 0)
			schema_no_memory(c);
		merge_values(c, merged, part, one);
		json_decref(one);
	}
	merge_numbers(merged, schema);
	merge_counts(schema, "minLength", "maxLength", &merged->min_length, &merged->max_length);
	merge_counts(schema, "minItems", "maxItems", &merged->min_items, &merged->max_items);
	merged->has_text |= json_object_get(schema, "pattern") != NULL ||
		json_object_get(schema, "format") != NULL;
}

void
schema_merge(Compiler *c, const Conj *conj, Merged *merged)
{
	*merged = (Merged) {.types = TYPE_ALL, .max_length = L3_GRAMMAR_UNBOUNDED,
		.max_items = L3_GRAMMAR_UNBOUNDED};
	for (uint32_t i = 0; i < conj->n_parts && c->status == L3_OK; i++)
		if (c->parts[conj->parts[i]].kind == PART_OBJECT)
			merge_part(c, merged, conj->parts[i]);
}

void
merged_free(Merged *merged)
{
	json_decref(merged->values);
	merged->values = NULL;
}
