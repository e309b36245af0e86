/*-------------------------------------------------------------------------
 *
 * sample_schemas.c
 *	  Random texts of the grammars of schemas.
 *
 *	  sample_schemas N < cases.jsonl
 *
 * For each line, an object with a member "schema", prints a line with an array
 * of N texts that the schema's grammar allows, or a string that says why there
 * is none.
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

int
main(int argc, char **argv)
{
	int			n_samples = argc > 1 ? atoi(argv[1]) : 1;
	char	   *line = NULL;
	size_t		capacity = 0;

	for (uint64_t seed = 1; getline(&line, &capacity, stdin) > 0; seed++)
	{
		json_error_t why;
		json_t	   *test = json_loads(line, 0, &why);
		char	   *schema = json_dumps(json_object_get(test, "schema"), JSON_ENCODE_ANY);
		void	   *image;
		size_t		size;
		L3Error		err;
		json_t	   *out;

		if (schema == NULL)
			return 1;
		if (l3_schema_compile(schema, strlen(schema), &image, &size, &err) == L3_OK)
			out = samples_of(image, n_samples, seed);
		else
			out = json_string(err.message);
		json_dumpf(out, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
		putchar('\n');
		json_decref(out);
		json_decref(test);
		free(image);
		free(schema);
	}
	free(line);
	return 0;
}
