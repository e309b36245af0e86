/*-------------------------------------------------------------------------
 *
 * schema_disjoint.c
 *	  Proof that nothing satisfies two conjunctions at once.
 *
 * A "no" means that no proof was found.  What has to be proved is that no text
 * which the grammar of one makes is valid for the other.  Validity has its full
 * meaning here: without additionalProperties, for instance, all names are.  Of
 * what the grammar makes only the types are taken into account, which without
 * "type" are those that the keywords are about.
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <stdlib.h>

#define NONE		UINT32_MAX
#define MAX_DEPTH	8			/* of members and items that are compared */
#define DISJOINT_WORK	16		/* of comparing two, besides what it spends */

static bool disjoint(Compiler *c, const Conj *a, const Conj *b, uint32_t depth);

/* Every way to satisfy a, through its part number choice, excludes b. */
static bool
all_ways_disjoint(Compiler *c, const Conj *a, uint32_t choice, const Conj *b, uint32_t depth)
{
	const char *keyword = c->parts[choice].kind == PART_ONE_OF ? "oneOf" : "anyOf";
	json_t	   *list = json_object_get(c->parts[choice].schema, keyword);
	bool		all = true;

	for (size_t i = 0; i < json_array_size(list) && all; i++)
	{
		char		pointer[MAX_POINTER];
		Conj		way = {0};

		schema_pointer_index(pointer, c->parts[choice].pointer, keyword, i);
		conj_copy(c, &way, a, choice);
		schema_add(c, json_array_get(list, i), pointer, &way);
		all = schema_spend(c, 1) && disjoint(c, &way, b, depth + 1);
		conj_free(&way);
	}
	return all;
}

/* None of the values of a satisfies b. */
static bool
values_disjoint(Compiler *c, const Merged *a, const Conj *conj_b, const Merged *b)
{
	L3Dfa	   *text = schema_text_dfa(c, conj_b);
	bool		none = true;

	for (size_t i = 0; i < json_array_size(a->values) && none; i++)
	{
		const json_t *value = json_array_get(a->values, i);
		bool		is_in = b->values == NULL;

		for (size_t j = 0; !is_in && j < json_array_size(b->values) && schema_spend(c, 1); j++)
			is_in = schema_equal(value, json_array_get(b->values, j));
		none = c->status == L3_OK && !(is_in && schema_keeps(c, b, text, value));
	}
	l3_dfa_free(text);
	return none;
}

static bool
strings_disjoint(Compiler *c, const Conj *conj_a, const Merged *a, const Conj *conj_b,
				 const Merged *b)
{
	L3Dfa	   *text_a;
	L3Dfa	   *text_b;
	L3Dfa	   *both = NULL;
	L3Error		err;
	bool		none = false;

	if (a->min_length > b->max_length || b->min_length > a->max_length)
		return true;
	if (!a->has_text || !b->has_text)
		return false;
	text_a = schema_text_dfa(c, conj_a);
	text_b = schema_text_dfa(c, conj_b);
	if (text_a != NULL && text_b != NULL &&
		l3_dfa_intersect(text_a, text_b, &c->budget, &both, &err) == L3_OK)
		none = both->n_states == 0;
	l3_dfa_free(text_a);
	l3_dfa_free(text_b);
	l3_dfa_free(both);
	return none;
}

/* Can a member of this name not satisfy both? */
static bool
member_disjoint(Compiler *c, const Conj *a, const Conj *b, const char *name, uint32_t depth)
{
	Conj		in_a = {0};
	Conj		in_b = {0};
	bool		none;

	schema_member(c, a, name, &in_a);
	schema_member(c, b, name, &in_b);
	none = c->status == L3_OK && disjoint(c, &in_a, &in_b, depth + 1);
	conj_free(&in_a);
	conj_free(&in_b);
	return none;
}

/* A member that a requires, and that b has other values for or forbids. */
static bool
objects_disjoint(Compiler *c, const Conj *a, const Conj *b, uint32_t depth)
{
	for (uint32_t i = 0; i < a->n_parts; i++)
	{
		const json_t *required = part_get(&c->parts[a->parts[i]], "required");

		for (size_t j = 0; j < json_array_size(required) && schema_spend(c, 1); j++)
			if (member_disjoint(c, a, b, json_string_value(json_array_get(required, j)), depth))
				return true;
	}
	return false;
}

static bool
arrays_disjoint(Compiler *c, const Conj *conj_a, const Merged *a, const Conj *conj_b,
				const Merged *b, uint32_t depth)
{
	uint32_t	n_common = a->min_items > b->min_items ? a->min_items : b->min_items;
	bool		none = false;

	if (a->min_items > b->max_items || b->min_items > a->max_items)
		return true;
	for (uint32_t i = 0; i < n_common && i < MAX_DEPTH && !none && c->status == L3_OK; i++)
	{
		Conj		in_a = {0};
		Conj		in_b = {0};

		schema_item(c, conj_a, i, &in_a);
		schema_item(c, conj_b, i, &in_b);
		none = disjoint(c, &in_a, &in_b, depth + 1);
		conj_free(&in_a);
		conj_free(&in_b);
	}
	return none;
}

/* Types of the texts that the grammar makes. */
static unsigned
types_made(const Merged *merged)
{
	return merged->has_type || merged->meant == 0 ? merged->types :
		merged->types & merged->meant;
}

/* Both without anyOf. */
static bool
merged_disjoint(Compiler *c, const Conj *conj_a, const Merged *a, const Conj *conj_b,
				const Merged *b, uint32_t depth)
{
	unsigned	common = (types_made(a) & b->types) | (a->types & types_made(b));

	if (a->values != NULL)
		return values_disjoint(c, a, conj_b, b);
	if (b->values != NULL)
		return values_disjoint(c, b, conj_a, a);
	if (common & (TYPE_NULL | TYPE_BOOLEAN))
		return false;
	if ((common & TYPE_NUMBER) && !l3_interval_disjoint(&a->interval, &b->interval))
		return false;
	if ((common & TYPE_STRING) && !strings_disjoint(c, conj_a, a, conj_b, b))
		return false;
	if ((common & TYPE_ARRAY) && !arrays_disjoint(c, conj_a, a, conj_b, b, depth))
		return false;
	return !(common & TYPE_OBJECT) || objects_disjoint(c, conj_a, conj_b, depth) ||
		objects_disjoint(c, conj_b, conj_a, depth);
}

static bool
disjoint(Compiler *c, const Conj *a, const Conj *b, uint32_t depth)
{
	uint32_t	choice_a = conj_choice(c, a);
	uint32_t	choice_b = conj_choice(c, b);
	Merged		merged_a;
	Merged		merged_b;
	bool		none;

	if (a->never || b->never)
		return true;
	if (depth > MAX_DEPTH || !schema_spend(c, DISJOINT_WORK))
		return false;
	if (choice_a != NONE)
		return all_ways_disjoint(c, a, choice_a, b, depth);
	if (choice_b != NONE)
		return all_ways_disjoint(c, b, choice_b, a, depth);
	schema_merge(c, a, &merged_a);
	schema_merge(c, b, &merged_b);
	none = c->status == L3_OK && merged_disjoint(c, a, &merged_a, b, &merged_b, depth);
	merged_free(&merged_a);
	merged_free(&merged_b);
	return none && c->status == L3_OK;
}

bool
schema_disjoint(Compiler *c, const Conj *a, const Conj *b)
{
	return disjoint(c, a, b, 0);
}
