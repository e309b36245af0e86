/*-------------------------------------------------------------------------
 *
 * schema_scalars.c
 *	  Strings, numbers, and the values of enum and const.
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "regex.h"
#include "utf8.h"

#define LENGTH(array)	((uint32_t) (sizeof(array) / sizeof((array)[0])))

/* ----------------------------------------------------------------
 *		Formats
 * ----------------------------------------------------------------
 */

#define YEAR		"(?:\\d{3}[1-9]|\\d{2}[1-9]0|\\d[1-9]00|[1-9]000)"
#define LEAP_CENTURY "(?:0[48]|[2468][048]|[13579][26])"
#define LEAP_YEAR	"(?:\\d\\d" LEAP_CENTURY "|" LEAP_CENTURY "00)"
#define DATE		"(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])" \
					"|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)" \
					"|02-(?:0[1-9]|1\\d|2[0-8]))" \
					"|" LEAP_YEAR "-02-29)"
#define CLOCK		"(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?"
#define OFFSET		"(?:Z|[+-](?:(?:0\\d|1[0-3]):[0-5]\\d|14:00))"
#define OCTET		"(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define ATOM		"[A-Za-z0-9]{1,20}"
#define LABEL		"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"

/*
 * Dates and times are RFC 3339's (section 5.6), within what PostgreSQL takes:
 * no year 0, no offset beyond 14 hours, microseconds.  RFC 4122, RFC 2673
 * (section 3.2), and of RFC 5321's mailboxes (section 4.1.2) the plain ones.
 */
static const struct
{
	const char *name;
	const char *pattern;
}			formats[] = {
	{"date", "^" DATE "$"},
	{"time", "^" CLOCK OFFSET "$"},
	{"date-time", "^" DATE "T" CLOCK OFFSET "$"},
	{"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
	{"ipv4", "^" OCTET "(?:\\." OCTET "){3}$"},
	{"email", "^" ATOM "(?:[._+-]" ATOM "){0,2}@" LABEL "(?:\\." LABEL "){0,2}\\.[A-Za-z]{2,10}$"},
};

static const char *
format_pattern(const char *name)
{
	for (uint32_t i = 0; i < LENGTH(formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			return formats[i].pattern;
	return NULL;
}

bool
schema_knows_format(const char *name)
{
	return format_pattern(name) != NULL;
}

/* ----------------------------------------------------------------
 *		Strings
 * ----------------------------------------------------------------
 */

uint32_t
schema_free_char(Compiler *c)
{
	static const L3CharRange ranges[] = {{'\t', '\n'}, {'\r', '\r'}, {' ', L3_CHAR_MAX}};

	return l3_char_grammar(c->b, ranges, LENGTH(ranges));
}

/* Narrow *all by one more pattern, found at keyword of part. */
static void
narrow(Compiler *c, uint32_t part, const char *keyword, const char *pattern, size_t len, L3Dfa **all)
{
	L3Dfa	   *one;
	L3Dfa	   *both;
	L3Error		err;
	L3Status	status = l3_regex_compile(pattern, len, &c->budget, &one, &err);

	if (status == L3_OK && *all != NULL)
	{
		status = l3_dfa_intersect(*all, one, &c->budget, &both, &err);
		l3_dfa_free(one);
		l3_dfa_free(*all);
		*all = both;
	}
	else if (status == L3_OK)
		*all = one;
	if (status != L3_OK)
		schema_fail(c, status, c->parts[part].pointer, keyword, "%s", err.message);
}

L3Dfa *
schema_text_dfa(Compiler *c, const Conj *conj)
{
	L3Dfa	   *all = NULL;

	for (uint32_t i = 0; i < conj->n_parts && c->status == L3_OK; i++)
	{
		const Part *part = &c->parts[conj->parts[i]];
		const json_t *pattern = part_get(part, "pattern");
		const json_t *format = part_get(part, "format");

		if (pattern != NULL)
			narrow(c, conj->parts[i], "pattern", json_string_value(pattern),
				   json_string_length(pattern), &all);
		if (format != NULL && c->status == L3_OK)
			narrow(c, conj->parts[i], "format", format_pattern(json_string_value(format)),
				   strlen(format_pattern(json_string_value(format))), &all);
	}
	if (c->status != L3_OK)
	{
		l3_dfa_free(all);
		return NULL;
	}
	return all;
}

/* The pointer of what a conjunction begins with. */
static const char *
pointer_of(const Compiler *c, const Conj *conj)
{
	return conj->n_parts > 0 ? c->parts[conj->parts[0]].pointer : "";
}

/* Narrow *text to the lengths of merged, unless it has them. */
static void
narrow_length(Compiler *c, const Conj *conj, const Merged *merged, L3Dfa **text)
{
	L3Dfa	   *length = NULL;
	L3Dfa	   *both = NULL;
	uint32_t	shortest;
	uint32_t	longest;
	L3Error		err;
	L3Status	status = l3_dfa_lengths(*text, &shortest, &longest, &err);

	if (status == L3_OK && shortest >= merged->min_length && longest <= merged->max_length)
		return;
	if (status == L3_OK)
		status = l3_dfa_of_length(merged->min_length, merged->max_length, &c->budget, &length, &err);
	if (status == L3_OK)
		status = l3_dfa_intersect(*text, length, &c->budget, &both, &err);
	l3_dfa_free(length);
	l3_dfa_free(*text);
	*text = both;
	if (status != L3_OK)
		schema_fail(c, status, pointer_of(c, conj), "",
					"pattern or format together with minLength or maxLength: %s", err.message);
}

uint32_t
schema_string(Compiler *c, const Conj *conj, const Merged *merged)
{
	uint32_t	parts[3] = {schema_text(c, "\""), 0, schema_text(c, "\"")};
	L3Dfa	   *text;

	if (merged->min_length > merged->max_length)
		return schema_never(c);
	if (!merged->has_text)
		parts[1] = l3_grammar_repeat(c->b, schema_free_char(c), merged->min_length,
									 merged->max_length);
	else
	{
		text = schema_text_dfa(c, conj);
		if (text != NULL)
			narrow_length(c, conj, merged, &text);
		if (text != NULL && schema_spend(c, text->n_states + text->first_edge[text->n_states]))
			parts[1] = l3_dfa_grammar(c->b, text);
		l3_dfa_free(text);
	}
	return l3_grammar_seq(c->b, parts, 3);
}

/* ----------------------------------------------------------------
 *		Numbers
 * ----------------------------------------------------------------
 */

L3Decimal
schema_decimal(const json_t *number)
{
	if (json_is_integer(number))
		return (L3Decimal) {json_integer_value(number), 0};
	return l3_decimal_of_double(json_real_value(number));
}

static bool
same_bound(bool has, L3Decimal bound, bool open, bool other_has, L3Decimal other, bool other_open)
{
	return has == other_has &&
		(!has || (open == other_open && l3_decimal_compare(bound, other) == 0));
}

static bool
same_interval(const L3Interval *a, const L3Interval *b)
{
	return same_bound(a->has_low, a->low, a->low_open, b->has_low, b->low, b->low_open) &&
		same_bound(a->has_high, a->high, a->high_open, b->has_high, b->high, b->high_open);
}

static uint32_t
new_number(Compiler *c, const Conj *conj, const L3Interval *interval, bool integers)
{
	L3Dfa	   *dfa;
	L3Error		err;
	L3Status	status = l3_interval_dfa(interval, integers, &c->budget, &dfa, &err);
	uint32_t	node = 0;

	if (status != L3_OK)
		schema_fail(c, status, pointer_of(c, conj), "", "%s", err.message);
	else if (schema_spend(c, dfa->n_states + dfa->first_edge[dfa->n_states]))
		node = l3_dfa_grammar(c->b, dfa);
	l3_dfa_free(dfa);
	return node;
}

uint32_t
schema_number(Compiler *c, const Conj *conj, const Merged *merged)
{
	bool		integers = (merged->types & TYPE_FRACTION) == 0;
	uint32_t	node;

	for (uint32_t i = 0; i < c->n_numbers && schema_spend(c, 1); i++)
		if (c->numbers[i].integers == integers &&
			same_interval(&c->numbers[i].interval, &merged->interval))
			return c->numbers[i].node;
	node = new_number(c, conj, &merged->interval, integers);
	if (schema_room(c, &c->numbers, sizeof(NumberNode), c->n_numbers, &c->numbers_capacity))
		c->numbers[c->n_numbers++] = (NumberNode) {merged->interval, integers, node};
	return node;
}

/* ----------------------------------------------------------------
 *		Values
 * ----------------------------------------------------------------
 */

unsigned
schema_type_of(const json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_OBJECT:
			return TYPE_OBJECT;
		case JSON_ARRAY:
			return TYPE_ARRAY;
		case JSON_STRING:
			return TYPE_STRING;
		case JSON_INTEGER:
			return TYPE_INTEGER;
		case JSON_REAL:
			return l3_decimal_is_integer(schema_decimal(value)) ? TYPE_INTEGER : TYPE_FRACTION;
		case JSON_TRUE:
		case JSON_FALSE:
			return TYPE_BOOLEAN;
		case JSON_NULL:
			break;
	}
	return TYPE_NULL;
}

static bool
equal_objects(json_t *a, const json_t *b)
{
	const char *name;
	json_t	   *value;

	if (json_object_size(a) != json_object_size(b))
		return false;
	json_object_foreach(a, name, value)
	{
		const json_t *other = json_object_get(b, name);

		if (other == NULL || !schema_equal(value, other))
			return false;
	}
	return true;
}

/* JSON Schema's equality: 1 and 1.0 are the same. */
bool
schema_equal(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return l3_decimal_compare(schema_decimal(a), schema_decimal(b)) == 0;
	if (json_typeof(a) != json_typeof(b))
		return false;
	if (json_is_object(a))
		return equal_objects((json_t *) a, b);
	if (!json_is_array(a))
		return json_equal(a, b);
	if (json_array_size(a) != json_array_size(b))
		return false;
	for (size_t i = 0; i < json_array_size(a); i++)
		if (!schema_equal(json_array_get(a, i), json_array_get(b, i)))
			return false;
	return true;
}

static uint32_t
code_points(const char *text, size_t len)
{
	uint32_t	n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((uint8_t) text[i] & 0xC0) != 0x80;
	return n;
}

bool
schema_keeps(Compiler *c, const Merged *merged, const L3Dfa *text, const json_t *value)
{
	unsigned	type = schema_type_of(value);

	if ((type & merged->types) == 0)
		return false;
	if (type & TYPE_NUMBER)
		return l3_interval_contains(&merged->interval, schema_decimal(value));
	if (type & TYPE_STRING)
	{
		const char *string = json_string_value(value);
		size_t		len = json_string_length(value);
		uint32_t	n = code_points(string, len);

		return schema_spend(c, len) && n >= merged->min_length && n <= merged->max_length &&
			(text == NULL || l3_dfa_matches(text, string, len));
	}
	return true;
}

/* Bytes that grow; put takes memory from the compiler's failure. */
typedef struct Text
{
	Compiler   *c;
	char	   *bytes;
	uint32_t	n;
	uint32_t	capacity;
} Text;

static void
put(Text *text, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (schema_room(text->c, &text->bytes, 1, text->n, &text->capacity))
			text->bytes[text->n++] = bytes[i];
}

static void
put_string(Text *text, const char *string, size_t len)
{
	for (size_t i = 0; i < len;)
	{
		char		out[L3_JSON_CHAR_MAX];
		uint32_t	cp;

		i += l3_utf8_decode((const uint8_t *) string + i, len - i, &cp);
		put(text, out, l3_json_char(cp, out));
	}
}

uint32_t
schema_escaped(Compiler *c, const char *before, const char *string, const char *after)
{
	Text		text = {.c = c};
	uint32_t	node;

	put(&text, before, strlen(before));
	put_string(&text, string, strlen(string));
	put(&text, after, strlen(after));
	node = l3_grammar_literal(c->b, text.bytes, text.n);
	free(text.bytes);
	return node;
}

/* A number in its shortest form, without an exponent if it is not far from 1. */
static void
put_number(Text *text, const json_t *number)
{
	L3Decimal	decimal = schema_decimal(number);
	char		digits[32];
	char		out[80];
	int			n;

	while (decimal.mantissa != 0 && decimal.mantissa % 10 == 0)
	{
		decimal.mantissa /= 10;
		decimal.exponent++;
	}
	if (decimal.mantissa == 0)
		decimal.exponent = 0;
	if (decimal.mantissa < 0)
		put(text, "-", 1);
	n = snprintf(digits, sizeof(digits), "%" PRIu64,
				 decimal.mantissa < 0 ? -(uint64_t) decimal.mantissa : (uint64_t) decimal.mantissa);
	if (decimal.exponent < -20 || decimal.exponent > 20)
		n = snprintf(out, sizeof(out), "%se%d", digits, decimal.exponent);
	else if (decimal.exponent >= 0)
		n = snprintf(out, sizeof(out), "%s%.*s", digits, decimal.exponent, "00000000000000000000");
	else if (-decimal.exponent < n)
		n = snprintf(out, sizeof(out), "%.*s.%s", n + decimal.exponent, digits,
					 digits + n + decimal.exponent);
	else
		n = snprintf(out, sizeof(out), "0.%.*s%s", -decimal.exponent - n, "00000000000000000000",
					 digits);
	put(text, out, (size_t) n);
}

static void put_value(Text *text, json_t *value);

static void
put_object(Text *text, json_t *object)
{
	const char *separator = "";
	const char *name;
	json_t	   *value;

	put(text, "{", 1);
	json_object_foreach(object, name, value)
	{
		put(text, separator, strlen(separator));
		put(text, "\"", 1);
		put_string(text, name, strlen(name));
		put(text, "\": ", 3);
		put_value(text, value);
		separator = ", ";
	}
	put(text, "}", 1);
}

static void
put_array(Text *text, const json_t *array)
{
	put(text, "[", 1);
	for (size_t i = 0; i < json_array_size(array); i++)
	{
		if (i > 0)
			put(text, ", ", 2);
		put_value(text, json_array_get(array, i));
	}
	put(text, "]", 1);
}

/* A value in the layout of the answers.  jansson bounds its nesting. */
static void
put_value(Text *text, json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_OBJECT:
			put_object(text, value);
			break;
		case JSON_ARRAY:
			put_array(text, value);
			break;
		case JSON_STRING:
			if (strlen(json_string_value(value)) != json_string_length(value))
				schema_fail(text->c, L3_ERR_UNSUPPORTED, "", "",
							"a value has the character U+0000, which PostgreSQL does not store");
			put(text, "\"", 1);
			put_string(text, json_string_value(value), json_string_length(value));
			put(text, "\"", 1);
			break;
		case JSON_INTEGER:
		case JSON_REAL:
			put_number(text, value);
			break;
		case JSON_TRUE:
			put(text, "true", 4);
			break;
		case JSON_FALSE:
			put(text, "false", 5);
			break;
		case JSON_NULL:
			put(text, "null", 4);
			break;
	}
}

static int
compare_texts(const void *a, const void *b)
{
	const Text *x = a;
	const Text *y = b;
	uint32_t	n = x->n < y->n ? x->n : y->n;
	int			order = n == 0 ? 0 : memcmp(x->bytes, y->bytes, n);

	return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

/* Bytes from at on that the first and the last of sorted texts share. */
static uint32_t
shared_bytes(const Text *first, const Text *last, uint32_t at)
{
	uint32_t	n = at;

	while (n < first->n && n < last->n && first->bytes[n] == last->bytes[n])
		n++;
	return n - at;
}

/*
 * The alternative of n sorted texts, all equal before byte at: what they share
 * first, so that each byte leaves one way only.
 */
static uint32_t
tree_of_texts(Compiler *c, const Text *texts, uint32_t n, uint32_t at)
{
	uint32_t	n_shared = shared_bytes(&texts[0], &texts[n - 1], at);
	uint32_t	ways[257];
	uint32_t	n_ways = 0;
	uint32_t	parts[2] = {l3_grammar_literal(c->b, texts[0].bytes + at, n_shared), 0};
	uint32_t	i = 0;

	at += n_shared;
	while (i < n && texts[i].n == at)
		i++;
	if (i > 0)
		ways[n_ways++] = l3_grammar_empty(c->b);
	while (i < n)
	{
		uint32_t	from = i;

		while (i < n && texts[i].bytes[at] == texts[from].bytes[at])
			i++;
		ways[n_ways++] = tree_of_texts(c, texts + from, i - from, at);
	}
	parts[1] = l3_grammar_alt(c->b, ways, n_ways);
	return l3_grammar_seq(c->b, parts, 2);
}

/* Keywords that say something of the inside of an array or object value. */
static void
check_inside(Compiler *c, const Merged *merged, const json_t *value)
{
	if (schema_type_of(value) & merged->meant & (TYPE_ARRAY | TYPE_OBJECT))
		schema_fail(c, L3_ERR_UNSUPPORTED, c->parts[merged->values_of].pointer, "",
					"enum or const of arrays or objects together with keywords about their inside");
}

uint32_t
schema_values(Compiler *c, const Conj *conj, const Merged *merged)
{
	size_t		n_values = json_array_size(merged->values);
	Text	   *texts = calloc(n_values + 1, sizeof(Text));
	L3Dfa	   *dfa = schema_text_dfa(c, conj);
	uint32_t	n = 0;
	uint32_t	node;

	if (texts == NULL)
		schema_no_memory(c);
	for (size_t i = 0; i < n_values && c->status == L3_OK; i++)
	{
		json_t	   *value = json_array_get(merged->values, i);

		check_inside(c, merged, value);
		if (!schema_keeps(c, merged, dfa, value))
			continue;
		texts[n].c = c;
		put_value(&texts[n++], value);
		schema_spend(c, texts[n - 1].n);
	}
	l3_dfa_free(dfa);
	if (n > 0)
		qsort(texts, n, sizeof(Text), compare_texts);
	node = n == 0 || c->status != L3_OK ? schema_never(c) : tree_of_texts(c, texts, n, 0);
	for (uint32_t i = 0; i < n; i++)
		free(texts[i].bytes);
	free(texts);
	return node;
}
