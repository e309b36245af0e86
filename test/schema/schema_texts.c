/*-------------------------------------------------------------------------
 *
 * schema_texts.c
 *	  Random texts of the grammars of schemas, and which texts are of them.
 *
 *	  schema_texts [N] < lines
 *
 * Each line is an object with a member "schema".  With a member "texts", an
 * array, it is answered by an array of which of them the schema's grammar has;
 * without, by an array of N random texts that it has; and by a string that says
 * why where the schema is refused.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "schema.h"
#include "unit/grammar_walk.h"

/* Bytes after which the sampler goes for the end: from 0 on, growing. */
#define ENOUGH_STEP	7

static json_t *
samples_of(const void *image, int n_samples, uint64_t seed)
{
	json_t	   *samples = json_array();
	WalkSampler sampler;

	walk_sampler_begin(&sampler, image, seed);
	for (int i = 0; i < n_samples; i++)
	{
		walk_sample(&sampler, (size_t) i * ENOUGH_STEP);
		json_array_append_new(samples, json_stringn((const char *) sampler.text.data,
													sampler.text.n));
	}
	walk_sampler_end(&sampler);
	return samples;
}

static json_t *
verdicts_on(const void *image, const json_t *texts)
{
	json_t	   *verdicts = json_array();

	for (size_t i = 0; i < json_array_size(texts); i++)
	{
		const json_t *text = json_array_get(texts, i);

		json_array_append_new(verdicts, json_boolean(walk_matches(image, json_string_value(text),
																  json_string_length(text))));
	}
	return verdicts;
}

static json_t *
answer(const json_t *line, int n_samples, uint64_t seed)
{
	char	   *schema = json_dumps(json_object_get(line, "schema"), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	const json_t *texts = json_object_get(line, "texts");
	void	   *image;
	size_t		size;
	L3Error		err;
	json_t	   *out;

	if (schema == NULL)
		return json_string("no schema");
	if (l3_schema_compile(schema, strlen(schema), &image, &size, &err) != L3_OK)
		out = json_string(err.message);
	else
		out = texts != NULL ? verdicts_on(image, texts) : samples_of(image, n_samples, seed);
	free(schema);
	free(image);
	return out;
}

int
main(int argc, char **argv)
{
	int			n_samples = argc > 1 ? atoi(argv[1]) : 1;
	char	   *text = NULL;
	size_t		capacity = 0;

	for (uint64_t seed = 1; getline(&text, &capacity, stdin) > 0; seed++)
	{
		json_t	   *line = json_loads(text, 0, NULL);
		json_t	   *out = answer(line, n_samples, seed);

		json_dumpf(out, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
		putchar('\n');
		json_decref(out);
		json_decref(line);
	}
	free(text);
	return 0;
}
