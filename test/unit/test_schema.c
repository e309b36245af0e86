/*-------------------------------------------------------------------------
 *
 * test_schema.c
 *	  JSON Schemas to grammars: what they accept, reject, and refuse.
 *
 * test/schema/cases.jsonl has schemas with values that are valid for them and
 * values that are not (test/schema/run asks another validator whether that is
 * so); errors.jsonl has schemas that are refused, and with which words.
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

/* Members in their order, ", " and ": ", shortest reals. */
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
	char	   *text = json_dumps(schema, JSON_ENCODE_ANY);
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

int
main(void)
{
	each_line(CASES, test_case);
	each_line(ERRORS, test_error);
	return tap_done();
}
