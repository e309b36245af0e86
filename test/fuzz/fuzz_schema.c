/*-------------------------------------------------------------------------
 *
 * fuzz_schema.c
 *	  Anything as a JSON Schema.
 *
 * With a first byte of 0 the input is the schema's text.  Otherwise its bytes
 * are the choices of a writer of schemas, which writes JSON whatever they are,
 * so that the fuzzer reaches what lies behind the parser; where they end, chance
 * goes on.  What compiles must be a sound grammar whose texts are JSON, which
 * jansson decides.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bytes.h"
#include "schema.h"
#include "unit/grammar_walk.h"

#define MAX_DEPTH	6			/* of schemas in the writer's schemas */
#define MAX_TEXT	3000		/* bytes after which it comes to an end */
#define MAX_WALKED	20000		/* nodes of a grammar that is sampled, which recurses */
#define N_SAMPLES	4
#define ENOUGH		200			/* bytes of a sample, more or less */

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Writer
{
	const uint8_t *choices;
	size_t		n_choices;
	uint32_t	state;			/* of chance */
	Bytes		text;
} Writer;

static uint32_t
choose(Writer *w, uint32_t n)
{
	/* The generator of Numerical Recipes, mixed with what was chosen. */
	w->state = (w->state ^ (w->n_choices > 0 ? *w->choices : 0)) * 1664525 + 1013904223;
	if (w->n_choices == 0)
		return (w->state >> 16) % n;
	w->n_choices--;
	return *w->choices++ % n;
}

static void
put(Writer *w, const char *text)
{
	bytes_put(&w->text, text, strlen(text));
}

#define PUT_ONE_OF(w, list) put(w, (list)[choose(w, sizeof(list) / sizeof((list)[0]))])

static void
put_value(Writer *w)
{
	static const char *const values[] = {
		"0", "1", "\"a\"", "null", "true", "-1", "1.0", "0.5", "10", "99", "1e20", "1e308", "1e-300",
		"\"\"", "\"ab\"", "\"\\u0000\"", "\"\\ud83d\\ude00\\n\"", "[1, \"a\"]", "{\"a\": 1}",
		"-9223372036854775808", "9223372036854775807", "0.1", "100000", "4294967295",
	};

	PUT_ONE_OF(w, values);
}

static void
put_pattern(Writer *w)
{
	static const char *const pieces[] = {
		"a", "b", "^", "$", "(", "(?:", ")", "|", "*", "+", "?", "{2,3}", "{3,}", "{40}", "[a-z]",
		"[^ab]", "\\\\d", "\\\\W", "\\\\s", ".", "\\\\u00e9", "\xC3\xA9", "[\xF0\x9F\x98\x80-\xF4\x8F\xBF\xBF]",
		"\\\\", "[", "]", "-", "\\\\.", "(?=", "\\\\b", "\\n", "{", "0", ",", "}",
	};

	put(w, "\"");
	for (uint32_t n = choose(w, 24); n > 0; n--)
		PUT_ONE_OF(w, pieces);
	put(w, "\"");
}

static void put_schema(Writer *w, uint32_t depth);

/* 1 to 3 schemas, each with a name of its own in front if they are named. */
static void
put_schemas(Writer *w, uint32_t depth, bool named)
{
	static const char *const names[] = {"\"a\": ", "\"b\": ", "\"ab\": ", "\"\": ", "\"\\\"\xC3\xA9\": "};
	uint32_t	first = choose(w, 3);
	uint32_t	n = 1 + choose(w, 3);

	for (uint32_t i = 0; i < n; i++)
	{
		if (i > 0)
			put(w, ", ");
		if (named)
			put(w, names[first + i]);
		put_schema(w, depth);
	}
}

static void
put_keyword(Writer *w, uint32_t depth)
{
	static const char *const counts[] = {
		"\"minLength\": ", "\"maxLength\": ", "\"minItems\": ", "\"maxItems\": ",
	};
	static const char *const bounds[] = {
		"\"minimum\": ", "\"maximum\": ", "\"exclusiveMinimum\": ", "\"exclusiveMaximum\": ",
	};
	static const char *const numbers[] = {"0", "1", "2", "5", "17", "3.0", "300", "1e9", "-1"};
	static const char *const formats[] = {
		"\"date\"", "\"time\"", "\"date-time\"", "\"uuid\"", "\"email\"", "\"ipv4\"", "\"x\"",
	};
	static const char *const types[] = {
		"\"object\"", "\"array\"", "\"string\"", "\"integer\"", "\"number\"", "\"boolean\"",
		"\"null\"", "[\"string\", \"null\"]", "[\"object\", \"array\", \"number\"]",
	};
	static const char *const refs[] = {
		"\"#\"", "\"#/$defs/a\"", "\"#/$defs/b\"", "\"#/$defs/ab\"", "\"#/properties/a\"",
		"\"#/anyOf/0\"", "\"#/items\"", "\"#/%24defs/a\"", "\"#/$defs/\"", "\"x\"",
	};
	static const char *const others[] = {
		"\"title\": \"t\"", "\"not\": {}", "\"uniqueItems\": false", "\"$id\": \"x\"", "\"default\": 1",
	};

	switch (choose(w, 16))
	{
		case 0:
			put(w, "\"type\": ");
			PUT_ONE_OF(w, types);
			break;
		case 1:
			put(w, "\"properties\": {");
			put_schemas(w, depth, true);
			put(w, "}");
			break;
		case 2:
			put(w, choose(w, 2) ? "\"required\": [\"a\"]" : "\"required\": [\"ab\", \"a\"]");
			break;
		case 3:
			put(w, "\"additionalProperties\": ");
			put_schema(w, depth);
			break;
		case 4:
			put(w, "\"items\": ");
			put_schema(w, depth);
			break;
		case 5:
			put(w, "\"prefixItems\": [");
			put_schemas(w, depth, false);
			put(w, "]");
			break;
		case 6:
			PUT_ONE_OF(w, counts);
			PUT_ONE_OF(w, numbers);
			break;
		case 7:
			PUT_ONE_OF(w, bounds);
			put_value(w);
			break;
		case 8:
			put(w, "\"pattern\": ");
			put_pattern(w);
			break;
		case 9:
			put(w, "\"format\": ");
			PUT_ONE_OF(w, formats);
			break;
		case 10:
			put(w, "\"enum\": [");
			for (uint32_t n = choose(w, 4); n > 0; n--)
			{
				put_value(w);
				put(w, ", ");
			}
			put_value(w);
			put(w, "]");
			break;
		case 11:
			put(w, "\"const\": ");
			put_value(w);
			break;
		case 12:
			put(w, choose(w, 2) ? "\"anyOf\": [" : "\"oneOf\": [");
			put_schemas(w, depth, false);
			put(w, "]");
			break;
		case 13:
			put(w, "\"allOf\": [");
			put_schemas(w, depth, false);
			put(w, "]");
			break;
		case 14:
			put(w, "\"$ref\": ");
			PUT_ONE_OF(w, refs);
			break;
		case 15:
			PUT_ONE_OF(w, others);
			break;
	}
}

static void
put_schema(Writer *w, uint32_t depth)
{
	uint32_t	n_keywords = choose(w, 5);

	if (depth == 0 || w->text.n > MAX_TEXT)
	{
		put(w, n_keywords == 0 ? "false" : n_keywords == 1 ? "true" : "{\"type\": \"null\"}");
		return;
	}
	put(w, "{");
	for (uint32_t i = 0; i < n_keywords; i++)
	{
		if (i > 0)
			put(w, ", ");
		put_keyword(w, depth - 1);
	}
	if (depth == MAX_DEPTH)
	{
		put(w, n_keywords > 0 ? ", \"$defs\": {" : "\"$defs\": {");
		put_schemas(w, depth - 1, true);
		put(w, "}");
	}
	put(w, "}");
}

static void
check_samples(const L3Grammar *grammar)
{
	WalkSampler sampler;

	walk_sampler_begin(&sampler, grammar, grammar->size);
	for (int i = 0; i < N_SAMPLES &&
		 sampler.least[walk_rule(grammar, grammar->root)] < WALK_LONG; i++)
	{
		json_t	   *value;

		walk_sample(&sampler, (size_t) ENOUGH * i);
		value = json_loadb((const char *) sampler.text.data, sampler.text.n,
						   JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
		if (value == NULL)
			abort();
		json_decref(value);
	}
	walk_sampler_end(&sampler);
}

static void
try_text(const char *text, size_t len)
{
	void	   *image;
	size_t		size;
	L3Error		err;
	L3Status	status = l3_schema_compile(text, len, &image, &size, &err);

	if (status == L3_OK)
	{
		if (l3_grammar_check(image, size, &err) == NULL)
			abort();
		if (((const L3Grammar *) image)->n_nodes <= MAX_WALKED)
			check_samples(image);
	}
	else if (image != NULL || err.status != status || err.message[0] == '\0')
		abort();
	free(image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Writer		w = {.choices = data, .n_choices = size};

	if (size > 0 && data[0] == 0)
	{
		try_text((const char *) data + 1, size - 1);
		return 0;
	}
	put_schema(&w, MAX_DEPTH);
	try_text((const char *) w.text.data, w.text.n);
	free(w.text.data);
	return 0;
}
