/*-------------------------------------------------------------------------
 *
 * json.c
 *	  JSON of model files, on top of jansson.
 *
 *-------------------------------------------------------------------------
 */
#include "json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Refuse what would take far more memory than its text. */
static bool
too_many_containers(const char *text, size_t len)
{
	size_t		n = 0;

	for (size_t i = 0; i < len; i++)
		n += (text[i] == '[') | (text[i] == '{');
	return n > L3_JSON_MAX_CONTAINERS;
}

L3Status
l3_json_parse(const char *text, size_t len, const char *where, json_t **object, L3Error *err)
{
	json_error_t why;

	*object = NULL;
	if (len > L3_MAX_JSON_BYTES || too_many_containers(text, len))
		return l3_error(err, L3_ERR_FORMAT, "JSON of \"%s\" is too large", where);
	*object = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	/* Tokenizers without a longest text say 10^30; nobody reads it here. */
	if (*object == NULL && json_error_code(&why) == json_error_numeric_overflow)
		*object = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL |
							 JSON_DECODE_INT_AS_REAL, &why);
	if (*object == NULL)
	{
		if (json_error_code(&why) == json_error_out_of_memory)
			return l3_error(err, L3_ERR_MEMORY, "out of memory");
		l3_error(err, L3_ERR_FORMAT, "file \"%s\" is not valid JSON", where);
		l3_error_detail(err, "Line %d, column %d: %s.", why.line, why.column, why.text);
		l3_error_hint(err, "The file is damaged or still being downloaded.");
		return L3_ERR_FORMAT;
	}
	if (!json_is_object(*object))
	{
		json_decref(*object);
		*object = NULL;
		return l3_error(err, L3_ERR_FORMAT, "file \"%s\" is not a JSON object", where);
	}
	return L3_OK;
}

L3Status
l3_json_read(const L3Reader *reader, json_t **object, L3Error *err)
{
	char	   *text;
	size_t		len;
	L3Status	status;

	*object = NULL;
	status = l3_reader_slurp(reader, L3_MAX_JSON_BYTES, &text, &len, err);
	if (status != L3_OK)
		return status;
	if (len == 0 || strncmp(text, "version https://git-lfs", 23) == 0 || text[0] == '<' ||
		strncmp(text, "{\"error", 7) == 0)
		status = l3_reader_wrong_format(reader, "JSON file", err);
	else
		status = l3_json_parse(text, len, reader->path, object, err);
	free(text);
	return status;
}

static L3Status
wrong_type(const char *where, const char *key, const char *expected, L3Error *err)
{
	l3_error(err, L3_ERR_FORMAT, "key \"%s\" in file \"%s\" has the wrong type", key, where);
	l3_error_detail(err, "Expected %s.", expected);
	return L3_ERR_FORMAT;
}

/* The member, or NULL when it is absent or null. */
static const json_t *
member(const json_t *object, const char *key, bool *found)
{
	const json_t *value = json_object_get(object, key);

	*found = value != NULL && !json_is_null(value);
	return *found ? value : NULL;
}

L3Status
l3_json_uint(const json_t *object, const char *where, const char *key,
			 uint32_t *value, bool *found, L3Error *err)
{
	const json_t *number = member(object, key, found);

	if (number == NULL)
		return L3_OK;
	if (!json_is_integer(number) || json_integer_value(number) < 0 ||
		json_integer_value(number) > UINT32_MAX)
		return wrong_type(where, key, "an integer from 0 to 4294967295", err);
	*value = (uint32_t) json_integer_value(number);
	return L3_OK;
}

L3Status
l3_json_number(const json_t *object, const char *where, const char *key,
			   double *value, bool *found, L3Error *err)
{
	const json_t *number = member(object, key, found);

	if (number == NULL)
		return L3_OK;
	if (!json_is_number(number))
		return wrong_type(where, key, "a number", err);
	*value = json_number_value(number);
	return L3_OK;
}

L3Status
l3_json_bool(const json_t *object, const char *where, const char *key,
			 bool *value, bool *found, L3Error *err)
{
	const json_t *truth = member(object, key, found);

	if (truth == NULL)
		return L3_OK;
	if (!json_is_boolean(truth))
		return wrong_type(where, key, "true or false", err);
	*value = json_is_true(truth);
	return L3_OK;
}

L3Status
l3_json_string(const json_t *object, const char *where, const char *key,
			   const char **value, bool *found, L3Error *err)
{
	const json_t *string = member(object, key, found);

	if (string == NULL)
		return L3_OK;
	if (!json_is_string(string) || strlen(json_string_value(string)) != json_string_length(string))
		return wrong_type(where, key, "a string", err);
	*value = json_string_value(string);
	return L3_OK;
}

L3Slice
l3_json_slice(const json_t *string)
{
	return (L3Slice) {json_string_value(string), (uint32_t) json_string_length(string)};
}

bool
l3_json_is(const json_t *value, const char *text)
{
	return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}
