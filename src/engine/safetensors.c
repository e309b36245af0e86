/*-------------------------------------------------------------------------
 *
 * safetensors.c
 *	  The safetensors container.
 *
 *	uint64 n; char json[n]; then data.  The JSON maps each tensor's name to
 *	{"dtype", "shape", "data_offsets": [begin, end]}, offsets counting from the
 *	end of the JSON, and "__metadata__" to strings.
 *
 *-------------------------------------------------------------------------
 */
#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static L3Status
bad_entry(const L3Reader *reader, const char *name, const char *what, L3Error *err)
{
	l3_error(err, L3_ERR_FORMAT, "entry of tensor \"%.255s\" in file \"%s\" is damaged",
			 name, reader->path);
	l3_error_detail(err, "Its %s is missing or wrong.", what);
	return L3_ERR_FORMAT;
}

static int
file_type(const char *dtype)
{
	if (strcmp(dtype, "F32") == 0)
		return L3_FILE_F32;
	if (strcmp(dtype, "F16") == 0)
		return L3_FILE_F16;
	if (strcmp(dtype, "BF16") == 0)
		return L3_FILE_BF16;
	return -1;
}

/* An integer of 0 .. 2^63 - 1. */
static bool
get_size(const json_t *value, uint64_t *size)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*size = (uint64_t) json_integer_value(value);
	return true;
}

/* The shape, outermost first in the file; its number of values. */
static bool
get_shape(const json_t *shape, L3FoundTensor *found, uint64_t *n_values)
{
	size_t		n_dims = json_array_size(shape);

	if (!json_is_array(shape) || n_dims > 4)
		return false;
	*n_values = 1;
	for (size_t i = 0; i < 4; i++)
	{
		found->dims[i] = 1;
		if (i < n_dims && !get_size(json_array_get(shape, n_dims - 1 - i), &found->dims[i]))
			return false;
		if (__builtin_mul_overflow(*n_values, found->dims[i], n_values))
			return false;
	}
	found->n_dims = (uint32_t) n_dims;
	return true;
}

static L3Status
list_tensor(const L3Reader *reader, uint64_t data_at, const char *name, const json_t *entry,
			L3FoundTensor *found, L3Error *err)
{
	const json_t *dtype = json_object_get(entry, "dtype");
	const json_t *shape = json_object_get(entry, "shape");
	const json_t *offsets = json_object_get(entry, "data_offsets");
	uint64_t	n_values;
	uint64_t	begin;
	uint64_t	end;

	found->name.data = name;
	found->name.len = (uint32_t) strlen(name);
	if (!json_is_string(dtype))
		return bad_entry(reader, name, "dtype", err);
	found->type = file_type(json_string_value(dtype));
	snprintf(found->type_name, sizeof(found->type_name), "%s", json_string_value(dtype));

	if (json_array_size(offsets) != 2 ||
		!get_size(json_array_get(offsets, 0), &begin) ||
		!get_size(json_array_get(offsets, 1), &end) || begin > end ||
		__builtin_add_overflow(begin, data_at, &found->offset))
		return bad_entry(reader, name, "data_offsets", err);
	found->bytes = end - begin;

	if (found->type < 0 && json_array_size(shape) > 4)
		return L3_OK;			/* not ours: only its place matters */
	if (!get_shape(shape, found, &n_values))
		return bad_entry(reader, name, "shape", err);
	if (found->type >= 0)
	{
		uint64_t	bytes;

		if (__builtin_mul_overflow(n_values, (uint64_t) l3_file_type((L3FileType) found->type)->bytes, &bytes) ||
			bytes != found->bytes)
		{
			bad_entry(reader, name, "size", err);
			l3_error_detail(err, "Found %" PRIu64 " bytes of data for %" PRIu64 " values of %s.",
							found->bytes, n_values, found->type_name);
			return L3_ERR_FORMAT;
		}
	}
	return L3_OK;
}

/* Read the JSON; *data_at is where data starts. */
static L3Status
read_header(const L3Reader *reader, json_t **header, uint64_t *data_at, L3Error *err)
{
	uint8_t		start[9];
	uint64_t	len;
	char	   *text;
	L3Status	status;

	if (reader->size < sizeof(start))
		return l3_reader_wrong_format(reader, "safetensors file", err);
	status = l3_reader_read(reader, 0, start, sizeof(start), err);
	if (status != L3_OK)
		return status;
	len = l3_load_u64(start);
	if (start[8] != '{' || len > L3_MAX_JSON_BYTES)
		return l3_reader_wrong_format(reader, "safetensors file", err);
	*data_at = 8 + len;
	if (*data_at > reader->size)
		return l3_reader_truncated(reader, *data_at, err);

	status = l3_calloc((void **) &text, len, 1, err);
	if (status == L3_OK)
	{
		status = l3_reader_read(reader, 8, text, len, err);
		if (status == L3_OK)
			status = l3_json_parse(text, len, reader->path, header, err);
		free(text);
	}
	return status;
}

L3Status
l3_safetensors_list(const L3Reader *reader, uint32_t file, json_t **header,
					L3FoundList *list, L3Error *err)
{
	uint64_t	data_at = 0;
	const char *name;
	json_t	   *entry;
	L3Status	status;

	*header = NULL;
	status = read_header(reader, header, &data_at, err);
	if (status != L3_OK)
		return status;
	json_object_foreach(*header, name, entry)
	{
		L3FoundTensor *found;

		if (strcmp(name, "__metadata__") == 0)
			continue;
		if (list->n >= L3_SAFETENSORS_MAX_TENSORS)
			status = l3_error(err, L3_ERR_FORMAT, "file \"%s\" has too many tensors", reader->path);
		if (status == L3_OK)
			status = l3_grow((void **) &list->found, list->n, &list->capacity,
							 sizeof(L3FoundTensor), err);
		if (status != L3_OK)
			break;
		found = &list->found[list->n];
		memset(found, 0, sizeof(*found));
		found->file = file;
		status = list_tensor(reader, data_at, name, entry, found, err);
		if (status != L3_OK)
			break;
		list->n++;
	}
	if (status != L3_OK)
	{
		json_decref(*header);
		*header = NULL;
	}
	return status;
}
