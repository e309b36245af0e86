/*-------------------------------------------------------------------------
 *
 * test_schema.c
 *	  JSON Schemas to grammars: what they accept, reject, and refuse.
 *
 * test/schema/cases.jsonl has schemas with values that are valid for them and
 * values that are not (test/schema/run asks another validator whether that is
 * so); errors.jsonl has schemas that are refused, and with which words.  The
 * examples that json-schema.org publishes have files of their own.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "grammar_walk.h"
#include "schema.h"
#include "tap.h"

#define CASES	"test/schema/cases.jsonl"
#define ERRORS	"test/schema/errors.jsonl"
#define PUBLISHED_CASES		"test/schema/cases-published.jsonl"
#define PUBLISHED_ERRORS	"test/schema/errors-published.jsonl"

/* Members in their order, ", " and ": ", reals of 15 digits as they are written. */
#define LAYOUT	(JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

static bool
matches(const void *image, const char *text)
{
	return walk_matches(image, text, strlen(text));
}

/* How many of an array's values the grammar accepts or not, against expected. */
static size_t
wrong_values(const void *image, const json_t *values, bool expected, const char *name)
{
	size_t		n_wrong = 0;

	for (size_t i = 0; i < json_array_size(values); i++)
	{
		char	   *text = json_dumps(json_array_get(values, i), LAYOUT);

		if (matches(image, text) != expected)
		{
			tap_note("%s: %s is %s", name, text, expected ? "rejected" : "accepted");
			n_wrong++;
		}
		free(text);
	}
	return n_wrong;
}

static L3Status
compile(const json_t *schema, void **image, L3Error *err)
{
	char	   *text = json_dumps(schema, LAYOUT);
	size_t		size;
	L3Status	status = l3_schema_compile(text, strlen(text), image, &size, err);

	free(text);
	return status;
}

static void
test_case(const json_t *line)
{
	const char *name = json_string_value(json_object_get(line, "name"));
	void	   *image;
	L3Error		err;
	size_t		n_wrong;

	if (compile(json_object_get(line, "schema"), &image, &err) != L3_OK)
	{
		tap_ok(false, "%s: %s", name, err.message);
		return;
	}
	n_wrong = wrong_values(image, json_object_get(line, "valid"), true, name) +
		wrong_values(image, json_object_get(line, "invalid"), false, name);
	tap_ok(n_wrong == 0, "%s: valid values are accepted, others are not", name);
	free(image);
}

static void
test_error(const json_t *line)
{
	static const char *const statuses[] = {
		[L3_ERR_ARG] = "argument", [L3_ERR_UNSUPPORTED] = "unsupported", [L3_ERR_LIMIT] = "limit",
	};
	const char *name = json_string_value(json_object_get(line, "name"));
	const char *status_name = json_string_value(json_object_get(line, "status"));
	const char *says = json_string_value(json_object_get(line, "says"));
	void	   *image;
	L3Error		err = {0};
	L3Status	status = compile(json_object_get(line, "schema"), &image, &err);

	tap_ok(status < sizeof(statuses) / sizeof(statuses[0]) && statuses[status] != NULL &&
		   strcmp(statuses[status], status_name) == 0 && image == NULL &&
		   (says == NULL || strcmp(err.message, says) == 0),
		   "%s is refused: %s", name, status == L3_OK ? "no" : err.message);
	free(image);
}

/* Call test for each line of a file. */
static void
each_line(const char *path, void (*test) (const json_t *line))
{
	FILE	   *file = fopen(path, "r");
	char	   *text = NULL;
	size_t		capacity = 0;
	size_t		n_read = 0;
	size_t		n_wrong = 0;

	while (file != NULL && getline(&text, &capacity, file) > 0)
	{
		json_error_t why;
		json_t	   *line = json_loads(text, JSON_REJECT_DUPLICATES, &why);

		n_read++;
		if (line != NULL)
			test(line);
		else
		{
			tap_note("%s: line %zu: %s", path, n_read, why.text);
			n_wrong++;
		}
		json_decref(line);
	}
	tap_ok(n_read > 0 && n_wrong == 0, "%s is read to its end (%zu lines)", path, n_read);
	if (file != NULL)
		fclose(file);
	free(text);
}

/* ----------------------------------------------------------------
 *		Texts, byte by byte
 * ----------------------------------------------------------------
 */

/* Compile a schema that must be sound. */
static void *
sound(const char *schema)
{
	void	   *image;
	size_t		size;
	L3Error		err;

	if (l3_schema_compile(schema, strlen(schema), &image, &size, &err) == L3_OK)
		return image;
	tap_ok(false, "%s: %s", schema, err.message);
	exit(tap_done());
}

/* Does the grammar of schema have all the texts (NULL-terminated), or none? */
static void
check_texts(const char *schema, bool expected, const char *const *texts, const char *what)
{
	void	   *image = sound(schema);
	size_t		n_wrong = 0;

	for (; *texts != NULL; texts++)
		if (matches(image, *texts) != expected)
		{
			tap_note("%s: %s is %s", schema, *texts, expected ? "rejected" : "accepted");
			n_wrong++;
		}
	tap_ok(n_wrong == 0, "%s", what);
	free(image);
}

#define TEXTS(...) ((const char *const[]) {__VA_ARGS__, NULL})

static void
test_layout(void)
{
	const char *object = "{\"properties\": {\"b\": {\"type\": \"integer\"}, \"a\": {\"type\": \"null\"}}}";

	check_texts(object, true, TEXTS("{}", "{\"b\": 1}", "{\"a\": null}", "{\"b\": 1, \"a\": null}"),
				"members come in the order in which the schema's text has them");
	check_texts(object, false, TEXTS("{\"a\": null, \"b\": 1}", "{\"b\": 1, \"b\": 1}",
									 "{\"b\":1}", "{\"b\": 1,\"a\": null}", "{ }", " {}", "{} ",
									 "{\"b\" : 1}", "{\"b\": 1, }", "{, \"b\": 1}", "{\"b\": 1",
									 "{\"b\": 1 }", "", "{\"\\u0062\": 1}", "{\"c\": 1}"),
				"other orders, other white space, and what is no JSON are not in the grammar");
	check_texts("{\"items\": {\"type\": \"boolean\"}}", false,
				TEXTS("[true,false]", "[ true]", "[true, ]", "[, true]", "[true false]", "[true",
					  "true", "[True]"),
				"the same of arrays");
	check_texts("{\"type\": \"integer\"}", false,
				TEXTS("-0", "+1", "01", "-01", "1.0", "1e2", "0x1", "", "-", "1 ", " 1", "1,000",
					  "1000000000000000"),
				"integers have one form, of 15 digits at most");
	check_texts("{\"type\": \"number\"}", false,
				TEXTS("-0", "-0.0", ".5", "1.", "1e2", "00.5", "1.12345678901", "12345678901.12345",
					  "NaN", "Infinity"),
				"numbers have no exponent, and 15 digits at most, 10 behind the point");
	check_texts("{\"type\": \"number\"}", true,
				TEXTS("0", "0.0", "-0.5", "1.50", "0.1234567890", "12345678901.1234",
					  "99999999999999.9", "999999999999999"),
				"numbers up to that are all there");
}

static void
test_large_integers(void)
{
	const char *int8 = "{\"type\": \"integer\", \"minimum\": -9223372036854775808,"
	" \"maximum\": 9223372036854775807}";

	check_texts(int8, true, TEXTS("9223372036854775807", "-9223372036854775808", "0",
								  "9223372036854775799", "-1000000000000000000"),
				"bounds of 64 bits are exact: inside");
	check_texts(int8, false, TEXTS("9223372036854775808", "-9223372036854775809",
								   "9999999999999999999", "10000000000000000000"),
				"bounds of 64 bits are exact: outside");
}

/*
 * Numbers that a reader of 64-bit integers and doubles would change are refused
 * where they are values or bounds, and only there.
 */
static void
test_inexact(void)
{
	static const struct
	{
		const char *schema;
		const char *at;			/* NULL: it is taken */
		const char *text;		/* that the grammar has */
	}			cases[] = {
		{"{\"const\": 12345678901234567891.0}", "/const", NULL},
		{"{\"const\": 3.14159265358979323846}", "/const", NULL},
		{"{\"const\": 9007199254740993.0}", "/const", NULL},
		{"{\"const\": -0.1000000000000000000000001}", "/const", NULL},
		{"{\"const\": 1e-400}", "/const", NULL},
		{"{\"enum\": [1, [{\"a\": [\"-5\", 0.30000000000000000001]}]]}", "/enum", NULL},
		{"{\"enum\": [\"\\\"7\", 0.3, 0.30000000000000000001]}", "/enum", NULL},
		{"{\"items\": {\"minimum\": 0.99999999999999999999}}", "/items/minimum", NULL},
		{"{\"type\": \"number\", \"exclusiveMaximum\": 9223372036854775809.0}", "/exclusiveMaximum", NULL},
		{"{\"$ref\": \"#/default/0\", \"default\": [{\"const\": 0.30000000000000000001}]}", "/default/0/const", NULL},
		{"{\"const\": 1000000000000000000000000000000.0}", NULL, "1e30"},
		{"{\"const\": 0012E+0}", "", NULL},
		{"{\"const\": 120.50E+1}", NULL, "1205"},
		{"{\"const\": -9223372036854775808}", NULL, "-9223372036854775808"},
		{"{\"const\": 9223372036854775807}", NULL, "9223372036854775807"},
		{"{\"const\": 0.1}", NULL, "0.1"},
		{"{\"const\": 3.141592653589793}", NULL, "3.141592653589793"},
		{"{\"const\": 1.0000000000000000000000000}", NULL, "1"},
		{"{\"const\": 5e-324}", NULL, "5e-324"},
		{"{\"const\": -0.000}", NULL, "0"},
		{"{\"const\": 1, \"default\": 3.14159265358979323846}", NULL, "1"},
		{"{\"default\": [3.14159265358979323846, \"2\"], \"const\": {\"7\": 1, \"b\\\\\": 2.5}}", NULL, "{\"7\": 1, \"b\\\\\": 2.5}"},
	};
	bool		right = true;
	void	   *image;
	size_t		size;
	L3Error		err;
	L3Status	status;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const char *schema = cases[i].schema;
		char		says[160];
		bool		as_expected;

		status = l3_schema_compile(schema, strlen(schema), &image, &size, &err);
		if (cases[i].at == NULL)
			as_expected = status == L3_OK && matches(image, cases[i].text);
		else if (cases[i].at[0] == '\0')
			as_expected = status == L3_ERR_ARG;
		else
		{
			snprintf(says, sizeof(says), "JSON Schema at \"%s\": a number has more digits than can be kept",
					 cases[i].at);
			as_expected = status == L3_ERR_UNSUPPORTED && strcmp(err.message, says) == 0;
		}
		if (!as_expected)
			tap_note("%s: %s", schema, status == L3_OK ? "taken" : err.message);
		right = right && as_expected;
		free(image);
	}
	tap_ok(right, "numbers that cannot be kept exactly are refused where they matter");
}

static void
test_strings(void)
{
	const char *string = "{\"type\": \"string\"}";

	check_texts(string, false,
				TEXTS("\"\x80\"", "\"\xC0\x80\"", "\"\xC1\xBF\"", "\"\xE0\x9F\xBF\"", "\"\xED\xA0\x80\"",
					  "\"\xED\xBF\xBF\"", "\"\xF0\x8F\xBF\xBF\"", "\"\xF4\x90\x80\x80\"",
					  "\"\xF5\x80\x80\x80\"", "\"\xC3\"", "\"\xE2\x82\"", "\"\xFF\""),
				"a string is well-formed UTF-8 (Unicode, table 3-7)");
	check_texts(string, true,
				TEXTS("\"\xC2\x80\"", "\"\xDF\xBF\"", "\"\xE0\xA0\x80\"", "\"\xED\x9F\xBF\"",
					  "\"\xEE\x80\x80\"", "\"\xEF\xBF\xBF\"", "\"\xF0\x90\x80\x80\"",
					  "\"\xF4\x8F\xBF\xBF\"", "\"\x7F\""),
				"the first and last of each length are there");
	check_texts(string, false,
				TEXTS("\"\\u0000\"", "\"\\u0041\"", "\"\\/\"", "\"\\x\"", "\"\\\"", "\"\n\"", "\"\t\"",
					  "\"\x01\"", "\"a\"b\"", "'a'", "\"\\ud83d\\ude00\"", "\"\\b\"", "\"\\u0001\""),
				"there is one way to write a character, and U+0000 is none");
	check_texts("{\"pattern\": \"^[\\\\x00-\\\\x1f]$\"}", true,
				TEXTS("\"\\u0001\"", "\"\\b\"", "\"\\t\"", "\"\\n\"", "\"\\u000b\"", "\"\\f\"", "\"\\r\"",
					  "\"\\u001f\""),
				"a pattern can have control characters");
	check_texts("{\"pattern\": \"^[\\\\x00-\\\\x1f]$\"}", false,
				TEXTS("\"\\u0000\"", "\"\\u001F\"", "\"\\u0009\"", "\"\x1f\"", "\"\\u0020\"", "\" \""),
				"but not U+0000, and each in one way");
	check_texts("{\"type\": \"string\", \"maxLength\": 2}", true,
				TEXTS("\"\\\"\\\\\"", "\"\\n\\n\"", "\"\xF0\x9F\x98\x80\xF0\x9F\x98\x80\""),
				"an escape, and a character of 4 bytes, count as one");
}

/* A quoted character by Unicode's table 3-6, or none for a surrogate. */
static void
quoted(uint32_t cp, char out[8])
{
	const char *format = cp < 0x80 ? "\"%c\"" : cp < 0x800 ? "\"%c%c\"" :
		cp < 0x10000 ? "\"%c%c%c\"" : "\"%c%c%c%c\"";
	int			n = cp < 0x80 ? 0 : cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
	static const uint32_t lead[] = {0, 0xC0, 0xE0, 0xF0};
	int			c[4] = {(int) (lead[n] | cp >> (6 * n))};

	for (int i = 1; i <= n; i++)
		c[i] = (int) (0x80 | (cp >> (6 * (n - i)) & 0x3F));
	snprintf(out, 8, format, c[0], c[1], c[2], c[3]);
}

/* Which of the characters in and around a range are in its class's grammar. */
static size_t
wrong_in_range(uint32_t low, uint32_t high)
{
	const uint32_t around[] = {low - 1, low, low + 1, low | 0x3F, (low | 0x3F) + 1, low | 0xFFF,
	(low | 0xFFF) + 1, (low + high) / 2, high & ~0x3Fu, (high & ~0x3Fu) - 1, high & ~0xFFFu, high - 1, high, high + 1};
	char		schema[80];
	void	   *image;
	size_t		n_wrong = 0;

	snprintf(schema, sizeof(schema), "{\"pattern\": \"^[\\\\u{%x}-\\\\u{%x}]$\"}", low, high);
	image = sound(schema);
	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++)
	{
		uint32_t	cp = around[i];
		char		text[8];

		if (cp < 0x80 || cp > 0x10FFFF)
			continue;			/* escapes are tested elsewhere */
		quoted(cp, text);
		if (matches(image, text) != (cp >= low && cp <= high && (cp < 0xD800 || cp > 0xDFFF)))
		{
			tap_note("%s: U+%04X", schema, cp);
			n_wrong++;
		}
	}
	free(image);
	return n_wrong;
}

static void
test_ranges(void)
{
	uint64_t	state = 20261123;
	size_t		n_wrong = 0;

	for (int i = 0; i < 500; i++)
	{
		uint32_t	bits = 8 + (uint32_t) (i % 13);
		uint32_t	low;
		uint32_t	high;

		state = state * 6364136223846793005 + 1442695040888963407;
		low = (uint32_t) (state >> 40) % (1u << bits);
		state = state * 6364136223846793005 + 1442695040888963407;
		high = low + (uint32_t) (state >> 40) % (1u << bits);
		if (high <= 0x10FFFF)
			n_wrong += wrong_in_range(low, high);
	}
	tap_ok(n_wrong == 0, "ranges of characters have their ends, and nothing around them");
}

/* n times before, middle, n times after. */
static char *
nested(int n, const char *before, const char *middle, const char *after)
{
	Bytes		text = {0};

	for (int i = 0; i < n; i++)
		bytes_put(&text, before, strlen(before));
	bytes_put(&text, middle, strlen(middle));
	for (int i = 0; i < n; i++)
		bytes_put(&text, after, strlen(after));
	bytes_put(&text, "", 1);
	return (char *) text.data;
}

static void
test_anything(void)
{
	void	   *image = sound("{}");
	char	   *deep_array = nested(L3_SCHEMA_ANY_DEPTH, "[", "1", "]");
	char	   *deeper_array = nested(L3_SCHEMA_ANY_DEPTH + 1, "[", "1", "]");
	char	   *deep_object = nested(L3_SCHEMA_ANY_DEPTH, "{\"a\": ", "1", "}");
	char	   *deeper_object = nested(L3_SCHEMA_ANY_DEPTH + 1, "{\"a\": ", "1", "}");

	tap_ok(matches(image, deep_array) && matches(image, deep_object) &&
		   !matches(image, deeper_array) && !matches(image, deeper_object),
		   "anything is nested to depth %d", L3_SCHEMA_ANY_DEPTH);
	free(deep_array);
	free(deeper_array);
	free(deep_object);
	free(deeper_object);
	free(image);
}

/* ----------------------------------------------------------------
 *		The schema's text
 * ----------------------------------------------------------------
 */

static void
check_refused(const char *text, size_t len, L3Status expected, const char *says, const char *what)
{
	void	   *image;
	size_t		size;
	L3Error		err = {0};
	L3Status	status = l3_schema_compile(text, len, &image, &size, &err);

	tap_ok(status == expected && image == NULL && size == 0 && strcmp(err.message, says) == 0,
		   "%s is refused: %s (%s)", what, err.message, err.detail);
	free(image);
}

static void
test_text(void)
{
	const char *not_json = "JSON Schema is not valid JSON";
	char	   *large = nested(L3_SCHEMA_MAX_BYTES, "", "{}", " ");
	char	   *containers = nested(60000, "[", "", "]");
	char	   *deep = nested(1000, "{\"items\": ", "{}", "}");
	void	   *one;
	void	   *two;

	check_refused("", 0, L3_ERR_ARG, not_json, "no text");
	check_refused("{", 1, L3_ERR_ARG, not_json, "half an object");
	check_refused("{\"type\": \"string\"}", 10, L3_ERR_ARG, not_json, "text that is cut off");
	check_refused("{\"a\": 1, \"a\": 2}", 16, L3_ERR_ARG, not_json, "a name that comes twice");
	check_refused("{\"\\u0000\": 1}", 13, L3_ERR_ARG, not_json, "a name with U+0000");
	check_refused("{\"title\": \"\xFF\"}", 14, L3_ERR_ARG, not_json, "invalid UTF-8");
	check_refused("{\"minimum\": 1e999}", 18, L3_ERR_UNSUPPORTED, "a number in the JSON Schema is too large",
				  "a number beyond doubles");
	check_refused("{\"const\": \"a\\u0000\"}", 20, L3_ERR_UNSUPPORTED,
				  "JSON Schema at \"\": a value has the character U+0000, which PostgreSQL does not store",
				  "a value with U+0000");
	check_refused(large, strlen(large), L3_ERR_LIMIT, "JSON Schema is too large", "a megabyte of spaces");
	check_refused(containers, strlen(containers), L3_ERR_ARG, not_json, "60,000 brackets");
	one = sound(deep);
	two = sound(deep);
	tap_ok(memcmp(one, two, ((L3Grammar *) one)->size) == 0,
		   "a thousand schemas in one another compile, to the same bytes each time");
	free(large);
	free(containers);
	free(deep);
	free(one);
	free(two);
}

int
main(void)
{
	each_line(CASES, test_case);
	each_line(ERRORS, test_error);
	each_line(PUBLISHED_CASES, test_case);
	each_line(PUBLISHED_ERRORS, test_error);
	test_layout();
	test_large_integers();
	test_inexact();
	test_strings();
	test_ranges();
	test_anything();
	test_text();
	return tap_done();
}
