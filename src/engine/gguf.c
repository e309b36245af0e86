/*-------------------------------------------------------------------------
 *
 * gguf.c
 *	  The GGUF container, versions 2 and 3.
 *
 * The header is read once into memory and walked with a cursor that checks
 * each length against the file.  No memory is taken from a count that the file
 * claims: tables grow as entries are really found.  Every offset that is kept
 * was checked, so that the accessors below need no further checks.
 *
 *-------------------------------------------------------------------------
 */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct
{
	const char *name;
	uint32_t	bytes;			/* 0: variable */
}			value_types[L3_GGUF_N_TYPES] =
{
	[L3_GGUF_U8] = {"uint8", 1},
	[L3_GGUF_I8] = {"int8", 1},
	[L3_GGUF_U16] = {"uint16", 2},
	[L3_GGUF_I16] = {"int16", 2},
	[L3_GGUF_U32] = {"uint32", 4},
	[L3_GGUF_I32] = {"int32", 4},
	[L3_GGUF_F32] = {"float32", 4},
	[L3_GGUF_BOOL] = {"bool", 1},
	[L3_GGUF_STRING] = {"string", 0},
	[L3_GGUF_ARRAY] = {"array", 0},
	[L3_GGUF_U64] = {"uint64", 8},
	[L3_GGUF_I64] = {"int64", 8},
	[L3_GGUF_F64] = {"float64", 8},
};

static const char *
type_name(uint32_t type)
{
	return type < L3_GGUF_N_TYPES ? value_types[type].name : "unknown";
}

/* ----------------------------------------------------------------
 *		Parsing
 * ----------------------------------------------------------------
 */

/* A name: its length is bounded, its bytes are left to the caller. */
static L3Status
take_name(L3Cursor *cursor, const char *what, uint64_t *at, uint32_t *len, L3Error *err)
{
	uint64_t	length;
	L3Status	status = l3_cursor_u64(cursor, &length, err);

	if (status != L3_OK)
		return status;
	if (length == 0 || length > L3_GGUF_MAX_NAME)
	{
		l3_error(err, L3_ERR_FORMAT, "name of a %s in file \"%s\" has an absurd length",
				 what, cursor->reader->path);
		l3_error_detail(err, "Found %" PRIu64 " at byte %" PRIu64 ", expected 1 to %d.",
						length, cursor->at - 8, L3_GGUF_MAX_NAME);
		return L3_ERR_FORMAT;
	}
	*at = cursor->at;
	*len = (uint32_t) length;
	return l3_cursor_skip(cursor, length, err);
}

/* Skip n values of a type that is no array. */
static L3Status
skip_values(L3Cursor *cursor, uint32_t type, uint64_t n, L3Error *err)
{
	uint64_t	bytes;

	if (type == L3_GGUF_STRING)
	{
		for (uint64_t i = 0; i < n; i++)
		{
			uint64_t	length;
			L3Status	status = l3_cursor_u64(cursor, &length, err);

			if (status == L3_OK)
				status = l3_cursor_skip(cursor, length, err);
			if (status != L3_OK)
				return status;
		}
		return L3_OK;
	}
	if (__builtin_mul_overflow(n, (uint64_t) value_types[type].bytes, &bytes))
		bytes = UINT64_MAX;
	return l3_cursor_skip(cursor, bytes, err);
}

static L3Status
parse_key(L3Cursor *cursor, L3GgufKey *key, L3Error *err)
{
	L3Status	status = take_name(cursor, "key", &key->name_at, &key->name_len, err);

	if (status == L3_OK)
		status = l3_cursor_u32(cursor, &key->type, err);
	if (status != L3_OK)
		return status;
	key->is_array = key->type == L3_GGUF_ARRAY;
	key->n = 1;
	if (key->is_array)
	{
		status = l3_cursor_u32(cursor, &key->type, err);
		if (status == L3_OK)
			status = l3_cursor_u64(cursor, &key->n, err);
		if (status != L3_OK)
			return status;
	}
	if (key->type >= L3_GGUF_N_TYPES || key->type == L3_GGUF_ARRAY)
	{
		l3_error(err, L3_ERR_FORMAT, "key \"%.*s\" in file \"%s\" has an unknown value type",
				 (int) key->name_len, cursor->bytes + key->name_at, cursor->reader->path);
		l3_error_detail(err, "Found type number %" PRIu32 ".", key->type);
		return L3_ERR_FORMAT;
	}
	key->at = cursor->at;
	return skip_values(cursor, key->type, key->n, err);
}

static L3Status
parse_tensor(L3Cursor *cursor, L3GgufTensor *tensor, L3Error *err)
{
	L3Status	status = take_name(cursor, "tensor", &tensor->name_at, &tensor->name_len, err);

	if (status == L3_OK)
		status = l3_cursor_u32(cursor, &tensor->n_dims, err);
	if (status != L3_OK)
		return status;
	if (tensor->n_dims == 0 || tensor->n_dims > L3_GGUF_MAX_DIMS)
	{
		l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" in file \"%s\" has an absurd number of dimensions",
				 (int) tensor->name_len, cursor->bytes + tensor->name_at, cursor->reader->path);
		l3_error_detail(err, "Found %" PRIu32 ", expected 1 to %d.",
						tensor->n_dims, L3_GGUF_MAX_DIMS);
		return L3_ERR_FORMAT;
	}
	for (uint32_t i = 0; i < L3_GGUF_MAX_DIMS; i++)
	{
		tensor->dims[i] = 1;
		if (i < tensor->n_dims)
			status = l3_cursor_u64(cursor, &tensor->dims[i], err);
		if (status != L3_OK)
			return status;
	}
	status = l3_cursor_u32(cursor, &tensor->type, err);
	if (status == L3_OK)
		status = l3_cursor_u64(cursor, &tensor->offset, err);
	return status;
}

static int
compare_names(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len)
{
	int			order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order != 0)
		return order;
	return (a_len > b_len) - (a_len < b_len);
}

static int
compare_keys(const void *a, const void *b)
{
	const L3GgufKey *ka = a;
	const L3GgufKey *kb = b;

	return compare_names(ka->name, ka->name_len, kb->name, kb->name_len);
}

/* Magic, version and the two counts. */
static L3Status
parse_start(L3Cursor *cursor, uint64_t *n_keys, uint64_t *n_tensors, L3Error *err)
{
	const char *path = cursor->reader->path;
	uint32_t	version;
	L3Status	status;

	if (cursor->reader->size < 4)
		return l3_reader_wrong_format(cursor->reader, "GGUF file", err);
	status = l3_cursor_skip(cursor, 4, err);
	if (status != L3_OK)
		return status;
	if (memcmp(cursor->bytes, "GGUF", 4) != 0)
		return l3_reader_wrong_format(cursor->reader, "GGUF file", err);

	status = l3_cursor_u32(cursor, &version, err);
	if (status != L3_OK)
		return status;
	if (version != 2 && version != 3)
	{
		bool		swapped = version == 0x02000000 || version == 0x03000000;

		l3_error(err, L3_ERR_UNSUPPORTED, "GGUF version of file \"%s\" is not supported", path);
		if (swapped)
			l3_error_detail(err, "The file is big-endian.");
		else
			l3_error_detail(err, "Found version %" PRIu32 ", expected 2 or 3.", version);
		l3_error_hint(err, "Convert the model again, to a little-endian GGUF file of version 3.");
		return L3_ERR_UNSUPPORTED;
	}

	status = l3_cursor_u64(cursor, n_tensors, err);
	if (status == L3_OK)
		status = l3_cursor_u64(cursor, n_keys, err);
	if (status != L3_OK)
		return status;
	if (*n_tensors > L3_GGUF_MAX_TENSORS || *n_keys > L3_GGUF_MAX_KEYS)
	{
		l3_error(err, L3_ERR_FORMAT, "file \"%s\" has absurd counts", path);
		l3_error_detail(err, "Found %" PRIu64 " tensors and %" PRIu64 " keys, expected at most %d and %d.",
						*n_tensors, *n_keys, L3_GGUF_MAX_TENSORS, L3_GGUF_MAX_KEYS);
		return L3_ERR_FORMAT;
	}
	return L3_OK;
}

/* Sort the keys and refuse duplicates. */
static L3Status
sort_keys(L3Gguf *gguf, L3Error *err)
{
	for (uint64_t i = 0; i < gguf->n_keys; i++)
		gguf->keys[i].name = gguf->bytes + gguf->keys[i].name_at;
	if (gguf->n_keys > 1)
		qsort(gguf->keys, gguf->n_keys, sizeof(L3GgufKey), compare_keys);
	for (uint64_t i = 1; i < gguf->n_keys; i++)
	{
		if (compare_keys(&gguf->keys[i - 1], &gguf->keys[i]) == 0)
			return l3_error(err, L3_ERR_FORMAT, "key \"%.*s\" appears twice in file \"%s\"",
							(int) gguf->keys[i].name_len, gguf->keys[i].name, gguf->path);
	}
	return L3_OK;
}

/* Make the tensors' offsets relative to the file's start. */
static L3Status
place_tensors(L3Gguf *gguf, uint64_t header_end, L3Error *err)
{
	uint32_t	alignment = 32;
	bool		found;
	L3Status	status = l3_gguf_uint(gguf, "general.alignment", &alignment, &found, err);

	if (status != L3_OK)
		return status;
	if (alignment == 0 || alignment > L3_GGUF_MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0)
	{
		l3_error(err, L3_ERR_FORMAT, "general.alignment in file \"%s\" is absurd", gguf->path);
		l3_error_detail(err, "Found %" PRIu32 ", expected a power of two up to %d.",
						alignment, L3_GGUF_MAX_ALIGNMENT);
		return L3_ERR_FORMAT;
	}
	gguf->data_at = (header_end + alignment - 1) / alignment * alignment;
	for (uint64_t i = 0; i < gguf->n_tensors; i++)
	{
		L3GgufTensor *tensor = &gguf->tensors[i];
		uint64_t	offset = tensor->offset;

		if (offset % alignment != 0 ||
			__builtin_add_overflow(offset, gguf->data_at, &tensor->offset))
		{
			l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" in file \"%s\" has a wrong offset",
					 (int) tensor->name_len, gguf->bytes + tensor->name_at, gguf->path);
			l3_error_detail(err, "Found %" PRIu64 ", expected a multiple of %" PRIu32 " inside the file.",
							offset, alignment);
			return L3_ERR_FORMAT;
		}
	}
	return L3_OK;
}

L3Status
l3_gguf_parse(const L3Reader *reader, L3Gguf *gguf, L3Error *err)
{
	L3Cursor	cursor;
	uint64_t	n_keys;
	uint64_t	n_tensors;
	uint64_t	capacity = 0;
	L3Status	status;

	memset(gguf, 0, sizeof(*gguf));
	gguf->path = reader->path;
	l3_cursor_init(&cursor, reader);

	status = parse_start(&cursor, &n_keys, &n_tensors, err);
	while (status == L3_OK && gguf->n_keys < n_keys)
	{
		status = l3_grow((void **) &gguf->keys, gguf->n_keys, &capacity, sizeof(L3GgufKey), err);
		if (status == L3_OK)
			status = parse_key(&cursor, &gguf->keys[gguf->n_keys], err);
		if (status == L3_OK)
			gguf->n_keys++;
	}
	capacity = 0;
	while (status == L3_OK && gguf->n_tensors < n_tensors)
	{
		status = l3_grow((void **) &gguf->tensors, gguf->n_tensors, &capacity,
						 sizeof(L3GgufTensor), err);
		if (status == L3_OK)
			status = parse_tensor(&cursor, &gguf->tensors[gguf->n_tensors], err);
		if (status == L3_OK)
			gguf->n_tensors++;
	}

	/* The slices that accessors give out point into the cursor's bytes. */
	gguf->bytes = cursor.bytes;
	cursor.bytes = NULL;
	if (status == L3_OK)
		status = sort_keys(gguf, err);
	if (status == L3_OK)
		status = place_tensors(gguf, cursor.at, err);
	return status;
}

void
l3_gguf_free(L3Gguf *gguf)
{
	free(gguf->bytes);
	free(gguf->keys);
	free(gguf->tensors);
	memset(gguf, 0, sizeof(*gguf));
}

/* ----------------------------------------------------------------
 *		Access
 * ----------------------------------------------------------------
 */

L3Slice
l3_gguf_tensor_name(const L3Gguf *gguf, const L3GgufTensor *tensor)
{
	return (L3Slice) {(const char *) gguf->bytes + tensor->name_at, tensor->name_len};
}

const L3GgufKey *
l3_gguf_find(const L3Gguf *gguf, const char *name)
{
	uint64_t	low = 0;
	uint64_t	high = gguf->n_keys;
	uint32_t	len = (uint32_t) strlen(name);

	while (low < high)
	{
		uint64_t	middle = low + (high - low) / 2;
		const L3GgufKey *key = &gguf->keys[middle];
		int			order = compare_names((const uint8_t *) name, len,
										  key->name, key->name_len);

		if (order == 0)
			return key;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static L3Status
wrong_type(const L3Gguf *gguf, const char *name, const L3GgufKey *key,
		   const char *expected, L3Error *err)
{
	l3_error(err, L3_ERR_FORMAT, "key \"%s\" in file \"%s\" has the wrong type", name, gguf->path);
	l3_error_detail(err, "Found %s%s, expected %s.", key->is_array ? "array of " : "",
					type_name(key->type), expected);
	return L3_ERR_FORMAT;
}

/* Element i of an integer key; false when it is no integer of 0 .. 2^32 - 1. */
static bool
integer_at(const L3Gguf *gguf, const L3GgufKey *key, uint64_t i, uint32_t *value)
{
	const uint8_t *p = gguf->bytes + key->at + i * value_types[key->type].bytes;
	int64_t		n;

	switch ((L3GgufType) key->type)
	{
		case L3_GGUF_U8:
			n = *p;
			break;
		case L3_GGUF_I8:
			n = (int8_t) *p;
			break;
		case L3_GGUF_U16:
			n = l3_load_u16(p);
			break;
		case L3_GGUF_I16:
			n = (int16_t) l3_load_u16(p);
			break;
		case L3_GGUF_U32:
			n = l3_load_u32(p);
			break;
		case L3_GGUF_I32:
			n = (int32_t) l3_load_u32(p);
			break;
		case L3_GGUF_U64:
		case L3_GGUF_I64:
			n = (int64_t) l3_load_u64(p);
			break;
		default:
			return false;
	}
	if (n < 0 || n > UINT32_MAX)
		return false;
	*value = (uint32_t) n;
	return true;
}

L3Status
l3_gguf_uint(const L3Gguf *gguf, const char *name, uint32_t *value, bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);

	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (key->is_array || !integer_at(gguf, key, 0, value))
		return wrong_type(gguf, name, key, "an integer from 0 to 4294967295", err);
	return L3_OK;
}

L3Status
l3_gguf_uniform_uint(const L3Gguf *gguf, const char *name, uint32_t *value,
					 bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);

	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (key->n == 0 || !integer_at(gguf, key, 0, value))
		return wrong_type(gguf, name, key, "an integer from 0 to 4294967295", err);
	for (uint64_t i = 1; i < key->n; i++)
	{
		uint32_t	other;

		if (!integer_at(gguf, key, i, &other) || other != *value)
		{
			l3_error(err, L3_ERR_UNSUPPORTED, "key \"%s\" in file \"%s\" differs between layers",
					 name, gguf->path);
			l3_error_detail(err, "Found %" PRIu32 " for layer 0 and another value for layer %" PRIu64 "; models of uniform layers are supported.",
							*value, i);
			return L3_ERR_UNSUPPORTED;
		}
	}
	return L3_OK;
}

L3Status
l3_gguf_float(const L3Gguf *gguf, const char *name, double *value, bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);
	float		single;

	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (!key->is_array && key->type == L3_GGUF_F32)
	{
		memcpy(&single, gguf->bytes + key->at, sizeof(single));
		*value = single;
		return L3_OK;
	}
	if (!key->is_array && key->type == L3_GGUF_F64)
	{
		memcpy(value, gguf->bytes + key->at, sizeof(*value));
		return L3_OK;
	}
	return wrong_type(gguf, name, key, "float32", err);
}

L3Status
l3_gguf_bool(const L3Gguf *gguf, const char *name, bool *value, bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);

	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (key->is_array || key->type != L3_GGUF_BOOL)
		return wrong_type(gguf, name, key, "bool", err);
	*value = gguf->bytes[key->at] != 0;
	return L3_OK;
}

/* The string at *at; moves *at past it.  The lengths were checked. */
static L3Slice
string_at(const L3Gguf *gguf, uint64_t *at)
{
	uint64_t	len = l3_load_u64(gguf->bytes + *at);
	L3Slice		slice = {(const char *) gguf->bytes + *at + 8, (uint32_t) len};

	*at += 8 + len;
	return slice;
}

L3Status
l3_gguf_string(const L3Gguf *gguf, const char *name, L3Slice *value, bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);
	uint64_t	at;

	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (key->is_array || key->type != L3_GGUF_STRING)
		return wrong_type(gguf, name, key, "string", err);
	at = key->at;
	*value = string_at(gguf, &at);
	return L3_OK;
}

L3Status
l3_gguf_strings(const L3Gguf *gguf, const char *name, L3Slice **values, uint32_t *n,
				bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);
	uint64_t	at;
	L3Status	status;

	*values = NULL;
	*n = 0;
	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (!key->is_array || key->type != L3_GGUF_STRING)
		return wrong_type(gguf, name, key, "array of strings", err);
	/* Each string takes 8 bytes of the header at least, so n is bounded. */
	status = l3_calloc((void **) values, key->n, sizeof(L3Slice), err);
	if (status != L3_OK)
		return status;
	at = key->at;
	for (uint64_t i = 0; i < key->n; i++)
		(*values)[i] = string_at(gguf, &at);
	*n = (uint32_t) key->n;
	return L3_OK;
}

L3Status
l3_gguf_i32s(const L3Gguf *gguf, const char *name, const uint8_t **values, uint32_t *n,
			 bool *found, L3Error *err)
{
	const L3GgufKey *key = l3_gguf_find(gguf, name);

	*values = NULL;
	*n = 0;
	*found = key != NULL;
	if (key == NULL)
		return L3_OK;
	if (!key->is_array || (key->type != L3_GGUF_I32 && key->type != L3_GGUF_U32))
		return wrong_type(gguf, name, key, "array of int32", err);
	*values = gguf->bytes + key->at;
	*n = (uint32_t) key->n;
	return L3_OK;
}
