/*-------------------------------------------------------------------------
 *
 * schema_keywords.c
 *	  The keywords of JSON Schema, and the check that a schema has no others.
 *
 * A keyword that is not known may be one that changes what is valid.  So all
 * schemas in the text are checked before any is compiled: also definitions that
 * nothing refers to, and members of what can be no object.  What a reference
 * names may stand where no schema does ("#/examples/0"); that is checked when a
 * place first needs it.
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <stdio.h>
#include <string.h>

typedef enum Shape
{
	IS_ANYTHING,				/* ignored, or checked where it is used */
	IS_TYPE,
	IS_VALUE,					/* of const */
	IS_VALUES,					/* of enum */
	IS_OBJECT,
	IS_NAMES,
	IS_COUNT,
	IS_NUMBER,
	IS_STRING,
	IS_SCHEMAS					/* of anyOf and the like */
} Shape;

/* Which schemas a keyword's value has in it. */
typedef enum Holds
{
	NO_SCHEMA,
	A_SCHEMA,
	SCHEMAS						/* an array of them, or an object */
} Holds;

static const struct
{
	const char *name;
	Shape		shape;
	unsigned	about;			/* types that it says something of; 0: all */
	Holds		holds;
}			keywords[] = {
	{"type", IS_TYPE, 0, NO_SCHEMA},
	{"enum", IS_VALUES, 0, NO_SCHEMA},
	{"const", IS_VALUE, 0, NO_SCHEMA},
	{"properties", IS_OBJECT, TYPE_OBJECT, SCHEMAS},
	{"required", IS_NAMES, TYPE_OBJECT, NO_SCHEMA},
	{"additionalProperties", IS_ANYTHING, TYPE_OBJECT, A_SCHEMA},
	{"items", IS_ANYTHING, TYPE_ARRAY, A_SCHEMA},
	{"prefixItems", IS_SCHEMAS, TYPE_ARRAY, SCHEMAS},
	{"minItems", IS_COUNT, TYPE_ARRAY, NO_SCHEMA},
	{"maxItems", IS_COUNT, TYPE_ARRAY, NO_SCHEMA},
	{"minLength", IS_COUNT, TYPE_STRING, NO_SCHEMA},
	{"maxLength", IS_COUNT, TYPE_STRING, NO_SCHEMA},
	{"pattern", IS_STRING, TYPE_STRING, NO_SCHEMA},
	{"format", IS_STRING, TYPE_STRING, NO_SCHEMA},
	{"minimum", IS_NUMBER, TYPE_NUMBER, NO_SCHEMA},
	{"maximum", IS_NUMBER, TYPE_NUMBER, NO_SCHEMA},
	{"exclusiveMinimum", IS_NUMBER, TYPE_NUMBER, NO_SCHEMA},
	{"exclusiveMaximum", IS_NUMBER, TYPE_NUMBER, NO_SCHEMA},
	{"anyOf", IS_SCHEMAS, 0, SCHEMAS},
	{"oneOf", IS_SCHEMAS, 0, SCHEMAS},
	{"allOf", IS_SCHEMAS, 0, SCHEMAS},
	{"$ref", IS_STRING, 0, NO_SCHEMA},
	{"$defs", IS_OBJECT, 0, SCHEMAS},
	{"definitions", IS_OBJECT, 0, SCHEMAS},
	{"additionalItems", IS_ANYTHING, 0, NO_SCHEMA},
	{"title", IS_ANYTHING, 0, NO_SCHEMA},
	{"description", IS_ANYTHING, 0, NO_SCHEMA},
	{"default", IS_ANYTHING, 0, NO_SCHEMA},
	{"examples", IS_ANYTHING, 0, NO_SCHEMA},
	{"deprecated", IS_ANYTHING, 0, NO_SCHEMA},
	{"readOnly", IS_ANYTHING, 0, NO_SCHEMA},
	{"writeOnly", IS_ANYTHING, 0, NO_SCHEMA},
	{"$comment", IS_ANYTHING, 0, NO_SCHEMA},
	{"$schema", IS_ANYTHING, 0, NO_SCHEMA},
	{"$id", IS_ANYTHING, 0, NO_SCHEMA},
};

#define N_KEYWORDS	(sizeof(keywords) / sizeof(keywords[0]))

static size_t
find_keyword(const char *name)
{
	size_t		k = 0;

	while (k < N_KEYWORDS && strcmp(keywords[k].name, name) != 0)
		k++;
	return k;
}

unsigned
schema_keyword_about(const char *name)
{
	size_t		k = find_keyword(name);

	return k < N_KEYWORDS ? keywords[k].about : 0;
}

static const struct
{
	const char *name;
	unsigned	types;
}			type_names[] = {
	{"null", TYPE_NULL}, {"boolean", TYPE_BOOLEAN}, {"integer", TYPE_INTEGER},
	{"number", TYPE_NUMBER}, {"string", TYPE_STRING}, {"array", TYPE_ARRAY},
	{"object", TYPE_OBJECT},
};

/* Types of one name; 0 when there is none of that name. */
static unsigned
types_of_name(const json_t *name)
{
	for (size_t i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++)
		if (json_is_string(name) && strcmp(type_names[i].name, json_string_value(name)) == 0)
			return type_names[i].types;
	return 0;
}

unsigned
schema_types_of(const json_t *type)
{
	unsigned	types = 0;

	if (!json_is_array(type))
		return types_of_name(type);
	for (size_t i = 0; i < json_array_size(type); i++)
	{
		unsigned	one = types_of_name(json_array_get(type, i));

		if (one == 0)
			return 0;
		types |= one;
	}
	return types;
}

static bool
are_names(const json_t *array)
{
	for (size_t i = 0; i < json_array_size(array); i++)
	{
		const json_t *name = json_array_get(array, i);

		if (!json_is_string(name) ||
			strlen(json_string_value(name)) != json_string_length(name))
			return false;
	}
	return json_is_array(array);
}

static bool
is_count(const json_t *value)
{
	if (json_is_integer(value))
		return json_integer_value(value) >= 0;
	return json_is_real(value) && json_real_value(value) >= 0 &&
		l3_decimal_is_integer(schema_decimal(value));
}

/* What a keyword's value should have been, or NULL when it is that. */
static const char *
wrong_shape(Shape shape, const json_t *value)
{
	switch (shape)
	{
		case IS_ANYTHING:
		case IS_VALUE:
			break;
		case IS_TYPE:
			return schema_types_of(value) != 0 ? NULL :
				"expected null, boolean, integer, number, string, array, object, or an array of these";
		case IS_VALUES:
			return json_array_size(value) > 0 ? NULL : "expected an array that is not empty";
		case IS_OBJECT:
			return json_is_object(value) ? NULL : "expected an object";
		case IS_NAMES:
			return are_names(value) ? NULL : "expected an array of names";
		case IS_COUNT:
			return is_count(value) ? NULL : "expected a non-negative integer";
		case IS_NUMBER:
			return json_is_number(value) ? NULL : "expected a number";
		case IS_STRING:
			return json_is_string(value) ? NULL : "expected a string";
		case IS_SCHEMAS:
			return json_array_size(value) > 0 ? NULL :
				"expected an array of schemas that is not empty";
	}
	return NULL;
}

uint32_t
schema_count_of(const json_t *value)
{
	double		count = json_number_value(value);

	return count >= L3_GRAMMAR_UNBOUNDED ? L3_GRAMMAR_UNBOUNDED : (uint32_t) count;
}

/* Does what is valid hang on the exact numbers in a keyword's value? */
static bool
keeps_numbers(Shape shape)
{
	return shape == IS_VALUE || shape == IS_VALUES || shape == IS_NUMBER;
}

/* Two keywords of one object that contradict each other. */
static void
check_order(Compiler *c, const json_t *schema, const char *pointer, const char *least, const char *most)
{
	const json_t *low = json_object_get(schema, least);
	const json_t *high = json_object_get(schema, most);

	if (low != NULL && high != NULL &&
		l3_decimal_compare(schema_decimal(low), schema_decimal(high)) > 0)
		schema_fail(c, L3_ERR_ARG, pointer, least, "it is greater than \"%s\"", most);
}

/* A name that is required and forbidden. */
static void
check_required(Compiler *c, const json_t *schema, const char *pointer)
{
	const json_t *required = json_object_get(schema, "required");
	const json_t *properties = json_object_get(schema, "properties");

	if (!json_is_false(json_object_get(schema, "additionalProperties")))
		return;
	for (size_t i = 0; i < json_array_size(required); i++)
	{
		const char *name = json_string_value(json_array_get(required, i));

		if (json_object_get(properties, name) == NULL)
			schema_fail(c, L3_ERR_ARG, pointer, "required",
						"\"%.100s\" is not among the properties, and additionalProperties is false",
						name);
	}
}

void
schema_check_keywords(Compiler *c, json_t *schema, const char *pointer)
{
	const char *name;
	json_t	   *value;

	json_object_foreach(schema, name, value)
	{
		size_t		k = find_keyword(name);
		const char *expected;

		if (c->status != L3_OK)
			return;
		if (strcmp(name, "uniqueItems") == 0 && json_is_false(value))
			continue;
		if (k == N_KEYWORDS || (strcmp(name, "$id") == 0 && schema != c->root) ||
			(strcmp(name, "additionalItems") == 0 && json_object_get(schema, "prefixItems") != NULL))
		{
			schema_fail(c, L3_ERR_UNSUPPORTED, pointer, name,
						"keyword \"%.100s\" is not supported", name);
			return;
		}
		expected = wrong_shape(keywords[k].shape, value);
		if (expected != NULL)
			schema_fail(c, L3_ERR_ARG, pointer, name, "%s", expected);
		else if (keeps_numbers(keywords[k].shape) && !schema_is_exact(c, value))
		{
			schema_fail(c, L3_ERR_UNSUPPORTED, pointer, name,
						"a number has more digits than can be kept");
			l3_error_detail(c->err, "Numbers are read as integers of 64 bits or as double precision.");
		}
		else if (strcmp(name, "format") == 0 && !schema_knows_format(json_string_value(value)))
			schema_fail(c, L3_ERR_UNSUPPORTED, pointer, name,
						"format \"%.100s\" is not supported", json_string_value(value));
	}
	if (c->status != L3_OK)
		return;
	check_order(c, schema, pointer, "minimum", "maximum");
	check_order(c, schema, pointer, "minLength", "maxLength");
	check_order(c, schema, pointer, "minItems", "maxItems");
	check_required(c, schema, pointer);
}

/* ----------------------------------------------------------------
 *		All schemas in a text
 * ----------------------------------------------------------------
 */

static void check_schemas(Compiler *c, json_t *schemas, char pointer[MAX_POINTER]);

/* Does it name something? */
static void
check_reference(Compiler *c, const json_t *ref, const char *pointer)
{
	char		target[MAX_POINTER];

	if (ref != NULL && c->status == L3_OK)
		(void) schema_resolve(c, json_string_value(ref), pointer, target);
}

/* pointer is longer only while what is below is checked. */
static void
check_schema(Compiler *c, json_t *schema, char pointer[MAX_POINTER])
{
	size_t		len = strlen(pointer);
	const char *name;
	json_t	   *value;

	if (json_is_boolean(schema))
		return;
	if (!json_is_object(schema))
	{
		schema_fail(c, L3_ERR_ARG, pointer, "", "a schema is an object, true or false");
		return;
	}
	schema_check_keywords(c, schema, pointer);
	check_reference(c, json_object_get(schema, "$ref"), pointer);
	json_object_foreach(schema, name, value)
	{
		size_t		k = find_keyword(name);

		if (c->status != L3_OK)
			return;
		schema_pointer_add(pointer, name);
		if (k < N_KEYWORDS && keywords[k].holds == A_SCHEMA)
			check_schema(c, value, pointer);
		else if (k < N_KEYWORDS && keywords[k].holds == SCHEMAS)
			check_schemas(c, value, pointer);
		pointer[len] = '\0';
	}
}

/* The elements of an array or the members of an object. */
static void
check_schemas(Compiler *c, json_t *schemas, char pointer[MAX_POINTER])
{
	size_t		len = strlen(pointer);
	char		number[32];
	const char *name;
	json_t	   *value;

	for (size_t i = 0; i < json_array_size(schemas) && c->status == L3_OK; i++)
	{
		snprintf(number, sizeof(number), "%zu", i);
		schema_pointer_add(pointer, number);
		check_schema(c, json_array_get(schemas, i), pointer);
		pointer[len] = '\0';
	}
	if (json_is_object(schemas))
		json_object_foreach(schemas, name, value)
		{
			if (c->status != L3_OK)
				return;
			schema_pointer_add(pointer, name);
			check_schema(c, value, pointer);
			pointer[len] = '\0';
		}
}

void
schema_check_all(Compiler *c)
{
	char		pointer[MAX_POINTER] = "";

	check_schema(c, c->root, pointer);
}
