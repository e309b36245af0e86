/*-------------------------------------------------------------------------
 *
 * schema_text.c
 *	  A JSON Schema from jsonb to text, with its properties in order.
 *
 * A model writes an object's properties in the order of the schema's text, and
 * the order matters: an answer that is reasoned before it is given is another
 * answer.  jsonb keeps an object's keys by their length, so what the author of
 * the schema wrote is lost there; but arrays keep their order, and "required"
 * is one.  So the properties that it names come first, in its order, and the
 * others after them, as jsonb has them.
 *
 * To do that one must know which objects are schemas: in {"properties":
 * {"required": ...}} the inner key is the name of a property, and what is in
 * "enum" or "const" is data.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "format.h"

/* What a value in a schema is. */
typedef enum Place
{
	PLACE_DATA,
	PLACE_SCHEMA,
	PLACE_SCHEMAS				/* an array or an object of schemas */
} Place;

typedef struct Keyword
{
	const char *name;
	Place		place;			/* of its value */
} Keyword;

/* The keywords whose values have schemas in them. */
static const Keyword keywords[] = {
	{"properties", PLACE_SCHEMAS},
	{"items", PLACE_SCHEMA},
	{"prefixItems", PLACE_SCHEMAS},
	{"additionalProperties", PLACE_SCHEMA},
	{"anyOf", PLACE_SCHEMAS},
	{"oneOf", PLACE_SCHEMAS},
	{"allOf", PLACE_SCHEMAS},
	{"$defs", PLACE_SCHEMAS},
	{"definitions", PLACE_SCHEMAS},
};

/* A key of an object, or a name in "required". */
typedef struct Key
{
	const char *name;
	int			len;
	int			rank;			/* in "required"; PG_INT32_MAX: not there */
	int			number;			/* in the object */
	JsonbValue	value;
} Key;

static void put_value(StringInfo out, const JsonbValue *value, Place place);
static void put_properties(StringInfo out, JsonbContainer *schema, JsonbContainer *properties);

static bool
is_key(const Key *key, const char *name)
{
	return strlen(name) == (size_t) key->len && memcmp(name, key->name, key->len) == 0;
}

/* What the value of this key of a schema is. */
static Place
place_of(const Key *key)
{
	for (size_t i = 0; i < lengthof(keywords); i++)
	{
		if (is_key(key, keywords[i].name))
			return keywords[i].place;
	}
	return PLACE_DATA;
}

/* By bytes; then by rank. */
static int
compare_names(const void *a, const void *b)
{
	const Key  *x = a;
	const Key  *y = b;
	int			order = memcmp(x->name, y->name, Min(x->len, y->len));

	if (order == 0)
		order = x->len - y->len;
	return order != 0 ? order : x->rank - y->rank;
}

static int
compare_ranks(const void *a, const void *b)
{
	const Key  *x = a;
	const Key  *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->number - y->number;
}

/* The strings of a schema's "required", sorted by compare_names. */
static Key *
required_names(JsonbContainer *schema, int *n)
{
	JsonbValue	name = {.type = jbvString, .val.string = {.val = "required", .len = 8}};
	JsonbValue *required = findJsonbValueFromContainer(schema, JB_FOBJECT, &name);
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	Key		   *names;

	*n = 0;
	if (required == NULL || required->type != jbvBinary ||
		!JsonContainerIsArray(required->val.binary.data))
		return NULL;
	names = palloc((JsonContainerSize(required->val.binary.data) + 1) * sizeof(Key));
	it = JsonbIteratorInit(required->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM || value.type != jbvString)
			continue;
		names[*n].name = value.val.string.val;
		names[*n].len = value.val.string.len;
		names[*n].rank = *n;
		(*n)++;
	}
	qsort(names, *n, sizeof(Key), compare_names);
	return names;
}

/* The first place of a name in "required". */
static int
rank_of(const Key *key, const Key *names, int n_names)
{
	int			low = 0;
	int			high = n_names;
	Key			first = *key;

	first.rank = -1;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (compare_names(&names[middle], &first) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n_names && names[low].len == key->len &&
		memcmp(names[low].name, key->name, key->len) == 0)
		return names[low].rank;
	return PG_INT32_MAX;
}

/* An object's keys and values, in jsonb's order. */
static Key *
object_keys(JsonbContainer *object, int *n)
{
	Key		   *keys = palloc((JsonContainerSize(object) + 1) * sizeof(Key));
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;

	*n = 0;
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			keys[*n].name = value.val.string.val;
			keys[*n].len = value.val.string.len;
			keys[*n].rank = PG_INT32_MAX;
			keys[*n].number = *n;
		}
		else if (token == WJB_VALUE)
			keys[(*n)++].value = value;
	}
	return keys;
}

static void
put_string(StringInfo out, const char *string, int len)
{
	char	   *terminated = pnstrdup(string, len);

	escape_json(out, terminated);
	pfree(terminated);
}

/*
 * jsonb expands 1e30 to its digits.  Readers take integers of 64 bits and beyond
 * them doubles, which must be written as such.
 */
static void
put_number(StringInfo out, Numeric number)
{
	char	   *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));

	appendStringInfoString(out, digits);
	errno = 0;
	(void) strtoll(digits, NULL, 10);
	if (errno == ERANGE && strchr(digits, '.') == NULL)
		appendStringInfoString(out, ".0");
	pfree(digits);
}

/* An object's members; schema is the object if it is one. */
static void
put_members(StringInfo out, const Key *keys, int n, Place place, JsonbContainer *schema)
{
	appendStringInfoChar(out, '{');
	for (int i = 0; i < n; i++)
	{
		const JsonbValue *value = &keys[i].value;

		CHECK_FOR_INTERRUPTS();
		if (i > 0)
			appendStringInfoString(out, ", ");
		put_string(out, keys[i].name, keys[i].len);
		appendStringInfoString(out, ": ");
		if (schema == NULL)
			put_value(out, value, place == PLACE_SCHEMAS ? PLACE_SCHEMA : PLACE_DATA);
		else if (is_key(&keys[i], "properties") && value->type == jbvBinary &&
				 JsonContainerIsObject(value->val.binary.data))
			put_properties(out, schema, value->val.binary.data);
		else
			put_value(out, value, place_of(&keys[i]));
	}
	appendStringInfoChar(out, '}');
}

/* The value of a schema's "properties", in the order of its "required". */
static void
put_properties(StringInfo out, JsonbContainer *schema, JsonbContainer *properties)
{
	int			n_names;
	int			n;
	Key		   *names = required_names(schema, &n_names);
	Key		   *keys = object_keys(properties, &n);

	for (int i = 0; i < n; i++)
		keys[i].rank = rank_of(&keys[i], names, n_names);
	qsort(keys, n, sizeof(Key), compare_ranks);
	put_members(out, keys, n, PLACE_SCHEMAS, NULL);
}

static void
put_object(StringInfo out, JsonbContainer *object, Place place)
{
	int			n;
	Key		   *keys = object_keys(object, &n);

	put_members(out, keys, n, place, place == PLACE_SCHEMA ? object : NULL);
}

/* Elements of an array of schemas are schemas; others are data. */
static void
put_array(StringInfo out, JsonbContainer *array, Place place)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		first = true;

	appendStringInfoChar(out, '[');
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (!first)
			appendStringInfoString(out, ", ");
		first = false;
		put_value(out, &value, place == PLACE_SCHEMAS ? PLACE_SCHEMA : PLACE_DATA);
	}
	appendStringInfoChar(out, ']');
}

static void
put_value(StringInfo out, const JsonbValue *value, Place place)
{
	check_stack_depth();
	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(out, "null");
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			put_number(out, value->val.numeric);
			break;
		case jbvString:
			put_string(out, value->val.string.val, value->val.string.len);
			break;
		case jbvBinary:
			if (JsonContainerIsObject(value->val.binary.data))
				put_object(out, value->val.binary.data, place);
			else
				put_array(out, value->val.binary.data, place);
			break;
		default:
			elog(ERROR, "unexpected type of a JSON value: %d", (int) value->type);
	}
}

void
llama_schema_text(Jsonb *schema, StringInfo out)
{
	JsonbValue	value;

	/* A schema that is true or false is kept as an array of one element. */
	if (!JsonbExtractScalar(&schema->root, &value))
	{
		value.type = jbvBinary;
		value.val.binary.data = &schema->root;
		value.val.binary.len = VARSIZE(schema) - VARHDRSZ;
	}
	put_value(out, &value, PLACE_SCHEMA);
}
