/*-------------------------------------------------------------------------
 *
 * source.c
 *	  A model that is being loaded: opening, checking, laying out.
 *
 *-------------------------------------------------------------------------
 */
#include "source.h"
#include "advice.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ----------------------------------------------------------------
 *		Files
 * ----------------------------------------------------------------
 */

L3Status
l3_source_add_file(L3Source *source, const char *path, const uint8_t *memory, L3Error *err)
{
	L3SourceFile *grown = realloc(source->files, (source->n_files + 1) * sizeof(*grown));
	char	   *copy = strdup(path);

	if (grown != NULL)
		source->files = grown;
	if (grown == NULL || copy == NULL)
	{
		free(copy);
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	}
	grown[source->n_files].path = copy;
	grown[source->n_files].memory = memory;
	grown[source->n_files].size = UINT64_MAX;
	source->n_files++;
	return L3_OK;
}

/* A file of a model in several is not there: how many are not. */
static void
explain_missing(const L3Source *source, L3Error *err)
{
	struct stat st;
	uint32_t	n_missing = 0;

	for (uint32_t i = 0; i < source->n_files; i++)
		n_missing += stat(source->files[i].path, &st) != 0;
	if (source->n_files > 1)
		l3_error_detail(err, "The model has %" PRIu32 " files of weights, and %" PRIu32 " of them %s missing.",
						source->n_files, n_missing, n_missing == 1 ? "is" : "are");
	l3_error_hint(err, "Complete the download; all files of a model belong into one directory, under the names that they were published with.");
}

L3Status
l3_source_reader(L3Source *source, uint32_t file, const L3Reader **reader, L3Error *err)
{
	L3SourceFile *wanted = &source->files[file];
	L3Status	status;

	*reader = &source->reader;
	if (source->open_file == file)
		return L3_OK;
	if (source->open_file >= 0)
	{
		l3_reader_close(&source->reader);
		source->open_file = -1;
	}
	if (wanted->memory != NULL)
		status = l3_reader_open_memory(&source->reader, wanted->path, wanted->memory,
									   wanted->size, err);
	else
	{
		status = l3_refuse_unfinished(wanted->path, err);
		if (status == L3_OK)
			status = l3_reader_open(&source->reader, wanted->path, err);
		if (status == L3_ERR_IO && err->saved_errno == ENOENT)
			explain_missing(source, err);
	}
	if (status != L3_OK)
		return status;
	if (wanted->size == UINT64_MAX)
		wanted->size = source->reader.size;
	if (wanted->size != source->reader.size)
	{
		l3_error(err, L3_ERR_FORMAT, "file \"%s\" changed while it was being read", wanted->path);
		l3_error_detail(err, "It had %" PRIu64 " bytes, now it has %" PRIu64 ".",
						wanted->size, source->reader.size);
		l3_reader_close(&source->reader);
		return L3_ERR_FORMAT;
	}
	source->open_file = file;
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Opening and closing
 * ----------------------------------------------------------------
 */

static L3Source *
new_source(const char *path, bool headers_only, const L3LoadOptions *options, L3Error *err)
{
	L3Source   *source = calloc(1, sizeof(*source));

	if (source != NULL)
		source->path = strdup(path);
	if (source == NULL || source->path == NULL)
	{
		free(source);
		l3_error(err, L3_ERR_MEMORY, "out of memory");
		return NULL;
	}
	source->open_file = -1;
	source->reader.fd = -1;
	source->headers_only = headers_only;
	if (options != NULL)
		source->options = *options;
	return source;
}

void
l3_source_close(L3Source *source)
{
	if (source == NULL)
		return;
	if (source->open_file >= 0)
		l3_reader_close(&source->reader);
	for (uint32_t i = 0; i < source->n_files; i++)
		free(source->files[i].path);
	if (source->free_format != NULL)
		source->free_format(source->format);
	free(source->files);
	free(source->rope_factors);
	free(source->tensors);
	free(source->table);
	free(source->tokens);
	free(source->token_types);
	free(source->merge_left);
	free(source->merge_right);
	free(source->stop_ids);
	free(source->path);
	free(source);
}

static bool
ends_with(const char *text, const char *end)
{
	size_t		text_len = strlen(text);
	size_t		end_len = strlen(end);

	return text_len >= end_len && strcmp(text + text_len - end_len, end) == 0;
}

static L3Status
open_path(L3Source *source, L3Error *err)
{
	struct stat st;

	if (stat(source->path, &st) != 0)
		return l3_could_not_open("model", source->path, err);
	if (S_ISDIR(st.st_mode))
		return l3_huggingface_open(source, err);
	if (l3_refuse_unfinished(source->path, err) != L3_OK)
		return err->status;
	if (ends_with(source->path, ".safetensors") || ends_with(source->path, ".json"))
	{
		l3_error(err, L3_ERR_ARG, "\"%s\" is one file of a model", source->path);
		l3_error_hint(err, "Give the path of the directory that holds config.json, tokenizer.json and the safetensors files.");
		return L3_ERR_ARG;
	}
	return l3_gguf_open(source, err);
}

static L3Status
open_source(const char *path, bool headers_only, const L3LoadOptions *options,
			L3Source **result, L3Error *err)
{
	L3Source   *source = new_source(path, headers_only, options, err);
	L3Status	status;

	*result = NULL;
	if (source == NULL)
		return L3_ERR_MEMORY;
	status = open_path(source, err);
	if (status != L3_OK)
	{
		l3_source_close(source);
		return status;
	}
	*result = source;
	return L3_OK;
}

L3Status
l3_source_open(const char *path, const L3LoadOptions *options, L3Source **source, L3Error *err)
{
	return open_source(path, false, options, source, err);
}

L3Status
l3_source_open_headers(const char *path, const L3LoadOptions *options,
					   L3Source **source, L3Error *err)
{
	return open_source(path, true, options, source, err);
}

L3Status
l3_source_open_memory(const void *memory, uint64_t size, bool headers_only,
					  const L3LoadOptions *options, L3Source **result, L3Error *err)
{
	L3Source   *source = new_source("memory", headers_only, options, err);
	L3Status	status;

	*result = NULL;
	if (source == NULL)
		return L3_ERR_MEMORY;
	status = l3_source_add_file(source, source->path, memory, err);
	if (status == L3_OK)
	{
		source->files[0].size = size;
		status = l3_gguf_open(source, err);
	}
	if (status != L3_OK)
	{
		l3_source_close(source);
		return status;
	}
	*result = source;
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Checking what was found
 * ----------------------------------------------------------------
 */

L3Status
l3_source_check_hparams(const L3Source *source, L3Error *err)
{
	L3Error		inner;
	L3Status	status = l3_hparams_check(&source->hparams, &inner);

	if (status == L3_OK)
		return L3_OK;
	l3_error(err, status, "%s in model \"%s\"", inner.message, source->path);
	l3_error_detail(err, "%s", inner.detail);
	return status;
}

L3Status
l3_source_init_rope(L3Source *source, L3Error *err)
{
	uint32_t	n = source->hparams.rope_dim / 2;
	L3Status	status = l3_calloc((void **) &source->rope_factors, n, sizeof(float), err);

	if (status != L3_OK)
		return status;
	for (uint32_t i = 0; i < n; i++)
		source->rope_factors[i] = 1;
	return L3_OK;
}

void
l3_source_set_name(L3Source *source, const char *name, size_t len)
{
	if (len > sizeof(source->name) - 1)
		len = sizeof(source->name) - 1;
	/* Cutting must not leave half a character. */
	len = l3_utf8_complete(name, len);
	memcpy(source->name, name, len);
	source->name[len] = '\0';
}

static int
compare_slice(L3Slice a, const char *b, size_t b_len)
{
	int			order = memcmp(a.data, b, a.len < b_len ? a.len : b_len);

	if (order != 0)
		return order;
	return (a.len > b_len) - (a.len < b_len);
}

static int
compare_by_name(const void *a, const void *b)
{
	const L3FoundTensor *ta = a;
	const L3FoundTensor *tb = b;

	return compare_slice(ta->name, tb->name.data, tb->name.len);
}

static int
compare_by_place(const void *a, const void *b)
{
	const L3FoundTensor *ta = a;
	const L3FoundTensor *tb = b;

	if (ta->file != tb->file)
		return ta->file < tb->file ? -1 : 1;
	if (ta->offset != tb->offset)
		return ta->offset < tb->offset ? -1 : 1;
	return (ta->bytes > tb->bytes) - (ta->bytes < tb->bytes);
}

const L3FoundTensor *
l3_found_tensor(const L3FoundTensor *found, uint64_t n, const char *name)
{
	size_t		len = strlen(name);

	for (uint64_t i = 0; i < n; i++)
	{
		if (compare_slice(found[i].name, name, len) == 0)
			return &found[i];
	}
	return NULL;
}

/* As l3_found_tensor, of a list sorted by name. */
static const L3FoundTensor *
find_sorted(const L3FoundTensor *found, uint64_t n, const char *name)
{
	size_t		len = strlen(name);
	uint64_t	low = 0;
	uint64_t	high = n;

	while (low < high)
	{
		uint64_t	middle = low + (high - low) / 2;
		int			order = compare_slice(found[middle].name, name, len);

		if (order == 0)
			return &found[middle];
		if (order > 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* Data inside its file, and no two tensors on the same bytes. */
static L3Status
check_places(L3Source *source, L3FoundTensor *found, uint64_t n, L3Error *err)
{
	const L3FoundTensor *before = NULL;

	qsort(found, n, sizeof(*found), compare_by_place);
	for (uint64_t i = 0; i < n; i++)
	{
		const L3SourceFile *file = &source->files[found[i].file];
		uint64_t	end;

		if (found[i].bytes == 0)
			continue;
		if (__builtin_add_overflow(found[i].offset, found[i].bytes, &end))
			return l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" in file \"%s\" has an absurd size",
							(int) found[i].name.len, found[i].name.data, file->path);
		if (before != NULL && before->file == found[i].file &&
			before->offset + before->bytes > found[i].offset)
			return l3_error(err, L3_ERR_FORMAT, "tensors \"%.*s\" and \"%.*s\" overlap in file \"%s\"",
							(int) before->name.len, before->name.data,
							(int) found[i].name.len, found[i].name.data, file->path);
		before = &found[i];
		/* Ends rise, so the last tensor of the file tells what it needs. */
		if ((i + 1 == n || found[i + 1].file != found[i].file) &&
			end > file->size && !source->headers_only)
		{
			L3Reader	shorter = {.path = file->path, .fd = -1, .size = file->size};

			return l3_reader_truncated(&shorter, end, err);
		}
	}
	return L3_OK;
}

/* Names: none twice, none that would change the arithmetic. */
static L3Status
check_names(L3Source *source, L3FoundTensor *found, uint64_t n,
			const L3TensorNames *names, L3Error *err)
{
	size_t		prefix_len = strlen(names->layer_prefix);

	qsort(found, n, sizeof(*found), compare_by_name);
	for (uint64_t i = 0; i < n; i++)
	{
		L3Slice		name = found[i].name;

		if (i > 0 && compare_by_name(&found[i - 1], &found[i]) == 0)
			return l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" appears twice in \"%s\"",
							(int) name.len, name.data, source->path);
		if (name.len > prefix_len + 5 &&
			memcmp(name.data, names->layer_prefix, prefix_len) == 0 &&
			memcmp(name.data + name.len - 5, ".bias", 5) == 0)
		{
			l3_error(err, L3_ERR_UNSUPPORTED, "model \"%s\" has biases, which are not supported",
					 source->path);
			l3_error_detail(err, "Found tensor \"%.*s\".", (int) name.len, name.data);
			return L3_ERR_UNSUPPORTED;
		}
	}
	return L3_OK;
}

/* "2048 x 512" */
static void
format_dims(char *text, size_t size, const uint64_t *dims, uint32_t n_dims)
{
	size_t		at = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < n_dims && at < size; i++)
		at += (size_t) snprintf(text + at, size - at, "%s%" PRIu64, i > 0 ? " x " : "", dims[i]);
}

static L3Status
check_shape(const L3Source *source, const L3FoundTensor *found,
			const L3TensorShape *shape, L3Error *err)
{
	uint64_t	expected[2] = {shape->n_in, shape->n_out};
	char		found_text[96];
	char		expected_text[48];

	if (found->dims[0] == shape->n_in && found->dims[1] == shape->n_out &&
		found->dims[2] == 1 && found->dims[3] == 1)
		return L3_OK;
	format_dims(found_text, sizeof(found_text), found->dims, found->n_dims);
	format_dims(expected_text, sizeof(expected_text), expected, shape->vector ? 1 : 2);
	l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" in file \"%s\" has the wrong shape",
			 (int) found->name.len, found->name.data, source->files[found->file].path);
	l3_error_detail(err, "Found %s, expected %s (inputs x outputs).", found_text, expected_text);
	return L3_ERR_FORMAT;
}

/* The type in the file, and the one it gets in the arena. */
static L3Status
choose_type(const L3Source *source, const L3FoundTensor *found,
			const L3TensorShape *shape, L3ArenaTensor *entry, L3Error *err)
{
	const L3FileTypeInfo *info;
	int			len = (int) found->name.len;
	uint32_t	block;

	if (found->type < 0)
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "tensor \"%.*s\" in file \"%s\" has an unsupported type",
				 len, found->name.data, source->files[found->file].path);
		l3_error_detail(err, "Found %s; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS.",
						found->type_name);
		l3_error_hint(err, "Use a file in another quantisation, such as Q4_K_M or Q8_0.");
		return L3_ERR_UNSUPPORTED;
	}
	info = l3_file_type((L3FileType) found->type);
	if (shape->vector)
	{
		entry->type = L3_F32;
		if (info->is_float)
			return L3_OK;
		l3_error(err, L3_ERR_UNSUPPORTED, "vector \"%.*s\" in file \"%s\" is quantised",
				 len, found->name.data, source->files[found->file].path);
		l3_error_detail(err, "Found %s, expected F32, F16 or BF16.", info->name);
		return L3_ERR_UNSUPPORTED;
	}
	entry->type = info->packed;
	entry->zero_point = info->zero_point;
	if (info->is_float && source->options.quantize == L3_QUANTIZE_Q8_0)
		entry->type = L3_Q8_0;
	block = (uint32_t) l3_packed_block((L3PackedType) entry->type);
	if (shape->n_in % block != 0)
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "tensor \"%.*s\" in file \"%s\" cannot be stored as %s",
				 len, found->name.data, source->files[found->file].path,
				 l3_packed_type_name((L3PackedType) entry->type));
		l3_error_detail(err, "Its rows have %" PRIu32 " values, which is no multiple of %" PRIu32 ".",
						shape->n_in, block);
		return L3_ERR_UNSUPPORTED;
	}
	return L3_OK;
}

void
l3_source_tensor_name(const L3Source *source, uint64_t index, char *text, size_t size)
{
	const L3TensorNames *names = source->names;

	if (index < L3_N_GLOBAL_TENSORS)
		snprintf(text, size, "%s", names->global[index] != NULL ? names->global[index] : "");
	else
		snprintf(text, size, "%s%" PRIu64 ".%s", names->layer_prefix,
				 (index - L3_N_GLOBAL_TENSORS) / L3_N_LAYER_TENSORS,
				 names->layer[(index - L3_N_GLOBAL_TENSORS) % L3_N_LAYER_TENSORS]);
}

/* One tensor of the arena: found, of the right shape, of a type we take. */
static L3Status
bind_tensor(L3Source *source, uint64_t index, const L3FoundTensor *found, uint64_t n,
			L3Error *err)
{
	L3TensorShape shape = l3_tensor_shape(&source->hparams, index);
	L3SourceTensor *tensor = &source->tensors[index];
	L3ArenaTensor *entry = &source->table[index];
	const L3FoundTensor *match;
	char		name[128];
	L3Status	status;

	if (shape.absent)
		return L3_OK;
	entry->n_in = shape.n_in;
	entry->n_out = shape.n_out;
	entry->type = L3_F32;

	l3_source_tensor_name(source, index, name, sizeof(name));
	match = find_sorted(found, n, name);
	if (match == NULL && index == L3_ROPE_FACTORS)
		return L3_OK;
	if (match == NULL)
	{
		l3_error(err, L3_ERR_FORMAT, "tensor \"%s\" is missing from \"%s\"", name, source->path);
		l3_error_detail(err, "The model has %" PRIu32 " layers; %" PRIu64 " tensors were found.",
						source->hparams.n_layers, n);
		return L3_ERR_FORMAT;
	}
	status = check_shape(source, match, &shape, err);
	if (status == L3_OK)
		status = choose_type(source, match, &shape, entry, err);
	if (status != L3_OK)
		return status;
	tensor->present = true;
	tensor->file = match->file;
	tensor->type = (L3FileType) match->type;
	tensor->offset = match->offset;
	return L3_OK;
}

L3Status
l3_source_bind(L3Source *source, L3FoundTensor *found, uint64_t n,
			   const L3TensorNames *names, bool interleave, L3Error *err)
{
	uint64_t	n_tensors;
	L3Status	status = l3_source_check_hparams(source, err);

	source->names = names;
	if (status == L3_OK && n == 0)
		status = l3_error(err, L3_ERR_FORMAT, "model \"%s\" has no tensors", source->path);
	if (status == L3_OK)
		status = check_names(source, found, n, names, err);
	if (status != L3_OK)
		return status;

	n_tensors = L3_TENSOR_COUNT(source->hparams.n_layers);
	status = l3_calloc((void **) &source->tensors, n_tensors, sizeof(L3SourceTensor), err);
	if (status == L3_OK)
		status = l3_calloc((void **) &source->table, n_tensors, sizeof(L3ArenaTensor), err);
	for (uint64_t i = 0; status == L3_OK && i < n_tensors; i++)
		status = bind_tensor(source, i, found, n, err);
	/* Last: a wrong shape also looks like an overlap. */
	if (status == L3_OK)
		status = check_places(source, found, n, err);
	if (status != L3_OK)
		return status;

	if (interleave)
	{
		for (uint32_t layer = 0; layer < source->hparams.n_layers; layer++)
		{
			source->tensors[L3_LAYER_TENSOR(layer, L3_WQ)].interleave = source->hparams.head_dim;
			source->tensors[L3_LAYER_TENSOR(layer, L3_WK)].interleave = source->hparams.head_dim;
		}
	}
	l3_arena_layout(&source->layout, &source->hparams, source->table);
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		The tokenizer
 * ----------------------------------------------------------------
 */

int32_t
l3_spec_token(const L3TokenizerSpec *spec, const char *text)
{
	size_t		len = strlen(text);

	for (uint32_t i = 0; i < spec->n_tokens; i++)
	{
		if (compare_slice(spec->tokens[i], text, len) == 0)
			return (int32_t) i;
	}
	return -1;
}

#define LLAMA3_VOCABULARY		128256
#define LLAMA3_BEGIN_OF_TEXT	128000
#define LLAMA3_END_OF_TEXT		128001
#define LLAMA3_END_OF_MESSAGE	128008
#define LLAMA3_END_OF_TURN		128009

bool
l3_is_llama3_vocabulary(const L3Slice *tokens, uint32_t n_tokens)
{
	static const char bos[] = "<|begin_of_text|>";

	return n_tokens >= LLAMA3_VOCABULARY &&
		compare_slice(tokens[LLAMA3_BEGIN_OF_TEXT], bos, sizeof(bos) - 1) == 0;
}

/* An id that the file named must be in the vocabulary. */
static L3Status
check_id(const L3TokenizerSpec *spec, const char *what, int32_t id, L3Error *err)
{
	if (id >= -1 && (id < 0 || (uint32_t) id < spec->n_tokens))
		return L3_OK;
	l3_error(err, L3_ERR_FORMAT, "%s token of \"%s\" is not in its vocabulary", what, spec->where);
	l3_error_detail(err, "Found id %" PRId32 "; the vocabulary has %" PRIu32 " tokens.",
					id, spec->n_tokens);
	return L3_ERR_FORMAT;
}

L3Status
l3_source_finish_tokenizer(L3Source *source, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	int32_t		extra[4];
	uint32_t	n_extra = 0;
	int32_t    *grown;
	L3Status	status;

	if (spec->n_tokens > source->hparams.n_vocab)
	{
		l3_error(err, L3_ERR_FORMAT, "tokenizer of \"%s\" does not fit its weights", spec->where);
		l3_error_detail(err, "The tokenizer has %" PRIu32 " tokens, the embedding has %" PRIu32 " rows.",
						spec->n_tokens, source->hparams.n_vocab);
		return L3_ERR_FORMAT;
	}
	if (spec->eot < 0)
		spec->eot = l3_spec_token(spec, "<|eot_id|>");
	if (spec->eom < 0)
		spec->eom = l3_spec_token(spec, "<|eom_id|>");
	if ((status = check_id(spec, "begin-of-text", spec->bos, err)) != L3_OK ||
		(status = check_id(spec, "end-of-text", spec->eos, err)) != L3_OK ||
		(status = check_id(spec, "end-of-turn", spec->eot, err)) != L3_OK ||
		(status = check_id(spec, "end-of-message", spec->eom, err)) != L3_OK)
		return status;

	/*
	 * Early Instruct files name only end-of-text as their end, others only
	 * end-of-turn; Meta's code stops on all three.
	 */
	if (l3_is_llama3_vocabulary(spec->tokens, spec->n_tokens))
	{
		extra[n_extra++] = LLAMA3_END_OF_TEXT;
		extra[n_extra++] = LLAMA3_END_OF_MESSAGE;
		extra[n_extra++] = LLAMA3_END_OF_TURN;
	}
	else if ((extra[n_extra] = l3_spec_token(spec, "<|end_of_text|>")) >= 0)
		n_extra++;
	grown = realloc(source->stop_ids, (spec->n_stop_ids + n_extra + 1) * sizeof(int32_t));
	if (grown == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	source->stop_ids = grown;
	spec->stop_ids = grown;
	for (uint32_t i = 0; i < n_extra; i++)
		grown[spec->n_stop_ids++] = extra[i];
	for (uint32_t i = 0; i < spec->n_stop_ids; i++)
	{
		if ((status = check_id(spec, "stop", grown[i], err)) != L3_OK)
			return status;
	}

	status = l3_tokenizer_image_size(spec, &source->tokenizer_size, err);
	source->has_tokenizer = status == L3_OK;
	return status;
}

L3Status
l3_source_build_tokenizer(L3Source *source, void *mem, uint64_t size, L3Error *err)
{
	if (!source->has_tokenizer)
		return l3_error(err, L3_ERR_FORMAT, "model \"%s\" has no tokenizer", source->path);
	return l3_tokenizer_build(&source->spec, mem, size, err);
}

/* ----------------------------------------------------------------
 *		Access
 * ----------------------------------------------------------------
 */

const L3Hparams *
l3_source_hparams(const L3Source *source)
{
	return &source->hparams;
}

const char *
l3_source_name(const L3Source *source)
{
	return source->name;
}

const char *
l3_source_warning(const L3Source *source)
{
	return source->warning;
}

bool
l3_source_has_template(const L3Source *source)
{
	return source->spec.chat_template_len > 0;
}

uint64_t
l3_source_arena_size(const L3Source *source)
{
	return source->layout.total_bytes;
}

uint64_t
l3_source_tokenizer_size(const L3Source *source)
{
	return source->has_tokenizer ? source->tokenizer_size : 0;
}
