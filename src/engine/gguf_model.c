/*-------------------------------------------------------------------------
 *
 * gguf_model.c
 *	  What the keys and tensors of a GGUF file of a llama model mean.
 *
 * Fills an L3Source from one file or from the parts of a split model.
 * Sources: the GGUF specification and the key names that its converters
 * write (general.*, llama.*, tokenizer.ggml.*, split.*).
 *
 *-------------------------------------------------------------------------
 */
#include "gguf.h"
#include "advice.h"
#include "source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS		1024
/* What stands between the stem and the end of a part's name. */
#define PART_SUFFIX		"-00001-of-00001.gguf"
#define PART_SUFFIX_LEN (sizeof(PART_SUFFIX) - 1)

/* RoPE frequency base of files that do not state it. */
#define DEFAULT_FREQ_BASE	10000.0

/* Headers of the parts; the first has the keys. */
typedef struct GgufModel
{
	L3Gguf	   *parts;			/* (n_parts) */
	uint32_t	n_parts;
	char	   *chat_template;
	char	   *pre;
} GgufModel;

static const L3TensorNames gguf_names =
{
	.global = {
		[L3_TOKEN_EMBD] = "token_embd.weight",
		[L3_OUTPUT_NORM] = "output_norm.weight",
		[L3_OUTPUT] = "output.weight",
		[L3_ROPE_FACTORS] = "rope_freqs.weight",
	},
	.layer_prefix = "blk.",
	.layer = {
		[L3_ATTN_NORM] = "attn_norm.weight",
		[L3_WQ] = "attn_q.weight",
		[L3_WK] = "attn_k.weight",
		[L3_WV] = "attn_v.weight",
		[L3_WO] = "attn_output.weight",
		[L3_FFN_NORM] = "ffn_norm.weight",
		[L3_W_GATE] = "ffn_gate.weight",
		[L3_W_UP] = "ffn_up.weight",
		[L3_W_DOWN] = "ffn_down.weight",
	},
};

/* ggml's numbers of tensor types; type -1 are those that we do not take. */
static const struct
{
	uint32_t	number;
	int			type;
	const char *name;
}			ggml_types[] =
{
	{0, L3_FILE_F32, "F32"}, {1, L3_FILE_F16, "F16"},
	{2, L3_FILE_Q4_0, "Q4_0"}, {3, L3_FILE_Q4_1, "Q4_1"},
	{6, L3_FILE_Q5_0, "Q5_0"}, {7, L3_FILE_Q5_1, "Q5_1"},
	{8, L3_FILE_Q8_0, "Q8_0"}, {9, -1, "Q8_1"},
	{10, L3_FILE_Q2_K, "Q2_K"}, {11, L3_FILE_Q3_K, "Q3_K"},
	{12, L3_FILE_Q4_K, "Q4_K"}, {13, L3_FILE_Q5_K, "Q5_K"},
	{14, L3_FILE_Q6_K, "Q6_K"}, {15, -1, "Q8_K"},
	{16, -1, "IQ2_XXS"}, {17, -1, "IQ2_XS"}, {18, -1, "IQ3_XXS"},
	{19, -1, "IQ1_S"}, {20, L3_FILE_IQ4_NL, "IQ4_NL"},
	{21, -1, "IQ3_S"}, {22, -1, "IQ2_S"}, {23, L3_FILE_IQ4_XS, "IQ4_XS"},
	{24, -1, "I8"}, {25, -1, "I16"}, {26, -1, "I32"}, {27, -1, "I64"},
	{28, -1, "F64"}, {29, -1, "IQ1_M"}, {30, L3_FILE_BF16, "BF16"},
	{31, -1, "Q4_0_4_4"}, {32, -1, "Q4_0_4_8"}, {33, -1, "Q4_0_8_8"},
	{34, -1, "TQ1_0"}, {35, -1, "TQ2_0"}, {39, -1, "MXFP4"},
};

static void
free_gguf_model(void *format)
{
	GgufModel  *model = format;

	for (uint32_t i = 0; i < model->n_parts; i++)
		l3_gguf_free(&model->parts[i]);
	free(model->parts);
	free(model->chat_template);
	free(model->pre);
	free(model);
}

/* ----------------------------------------------------------------
 *		Files and parts
 * ----------------------------------------------------------------
 */

/* The number of five digits at text, or -1. */
static int
five_digits(const char *text)
{
	int			n = 0;

	for (int i = 0; i < 5; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return -1;
		n = n * 10 + (text[i] - '0');
	}
	return n;
}

/* Does path end in -NNNNN-of-NNNNN.gguf? */
static bool
part_of(const char *path, int *part, int *n_parts)
{
	size_t		len = strlen(path);
	const char *suffix;

	if (len < PART_SUFFIX_LEN)
		return false;
	suffix = path + len - PART_SUFFIX_LEN;
	if (suffix[0] != '-' || memcmp(suffix + 6, "-of-", 4) != 0 ||
		memcmp(suffix + 15, ".gguf", 5) != 0)
		return false;
	*part = five_digits(suffix + 1);
	*n_parts = five_digits(suffix + 10);
	return *part >= 0 && *n_parts >= 0;
}

/* List the files of the model: source->path, or all the parts of which it is the first. */
static L3Status
list_files(L3Source *source, L3Error *err)
{
	size_t		stem;
	int			part;
	int			n_parts;

	if (source->n_files > 0)	/* in memory */
		return L3_OK;
	if (!part_of(source->path, &part, &n_parts) || n_parts == 1)
		return l3_source_add_file(source, source->path, NULL, err);
	if (n_parts > MAX_PARTS)
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "model \"%s\" has %d parts", source->path, n_parts);
		l3_error_detail(err, "At most %d are supported.", MAX_PARTS);
		return L3_ERR_UNSUPPORTED;
	}
	if (part != 1 || n_parts < 1)
	{
		l3_error(err, L3_ERR_ARG, "\"%s\" is not the first part of a model", source->path);
		l3_error_detail(err, "It is part %d of %d.", part, n_parts);
		l3_error_hint(err, "Give the path of the part that ends in -00001-of-%05d.gguf.", n_parts);
		return L3_ERR_ARG;
	}
	stem = strlen(source->path) - PART_SUFFIX_LEN;
	for (part = 1; part <= n_parts; part++)
	{
		char	   *path;
		L3Status	status = l3_calloc((void **) &path, strlen(source->path) + 1, 1, err);

		if (status != L3_OK)
			return status;
		snprintf(path, strlen(source->path) + 1, "%.*s-%05d-of-%05d.gguf",
				 (int) stem, source->path, part, n_parts);
		status = l3_source_add_file(source, path, NULL, err);
		free(path);
		if (status != L3_OK)
			return status;
	}
	return L3_OK;
}

/* split.no and split.count of one part against its name. */
static L3Status
check_part(const L3Source *source, const GgufModel *model, uint32_t part, L3Error *err)
{
	const L3Gguf *gguf = &model->parts[part];
	uint32_t	no = 0;
	uint32_t	count = 1;
	bool		found_no;
	bool		found_count;
	L3Status	status = l3_gguf_uint(gguf, "split.no", &no, &found_no, err);

	if (status == L3_OK)
		status = l3_gguf_uint(gguf, "split.count", &count, &found_count, err);
	if (status != L3_OK)
		return status;
	/* Files that were never split may say 0 or nothing. */
	if (source->n_files == 1 && count <= 1)
		return L3_OK;
	if (found_no && found_count && no == part && count == source->n_files)
		return L3_OK;

	l3_error(err, L3_ERR_FORMAT, "file \"%s\" is not the part of a model that its name says", gguf->path);
	l3_error_detail(err, "Its header says part %" PRIu32 " of %" PRIu32 ", its name part %" PRIu32 " of %" PRIu32 ".",
					no + 1, count, part + 1, source->n_files);
	l3_error_hint(err, "Keep the names that the parts were published with, all in one directory.");
	return L3_ERR_FORMAT;
}

/* The sum of the parts' tensors against split.tensors.count. */
static L3Status
check_split_total(const L3Source *source, const GgufModel *model, uint64_t n_tensors, L3Error *err)
{
	uint32_t	total;
	bool		found;
	L3Status	status = l3_gguf_uint(&model->parts[0], "split.tensors.count", &total, &found, err);

	if (status != L3_OK)
		return status;
	if (source->n_files > 1 && found && total != n_tensors)
	{
		l3_error(err, L3_ERR_FORMAT, "parts of model \"%s\" do not belong together", source->path);
		l3_error_detail(err, "They have %" PRIu64 " tensors together, split.tensors.count says %" PRIu32 ".",
						n_tensors, total);
		return L3_ERR_FORMAT;
	}
	return L3_OK;
}

static L3Status
parse_parts(L3Source *source, GgufModel *model, L3Error *err)
{
	L3Status	status = l3_calloc((void **) &model->parts, source->n_files, sizeof(L3Gguf), err);
	uint64_t	n_tensors = 0;

	for (uint32_t i = 0; status == L3_OK && i < source->n_files; i++)
	{
		const L3Reader *reader;

		status = l3_source_reader(source, i, &reader, err);
		if (status != L3_OK)
			return status;
		model->n_parts = i + 1;
		status = l3_gguf_parse(reader, &model->parts[i], err);
		/* The reader goes away when the next file is opened. */
		model->parts[i].path = source->files[i].path;
		if (status == L3_OK)
			status = check_part(source, model, i, err);
		n_tensors += model->parts[i].n_tensors;
	}
	if (status == L3_OK)
		status = check_split_total(source, model, n_tensors, err);
	return status;
}

/* ----------------------------------------------------------------
 *		Tensors
 * ----------------------------------------------------------------
 */

/* Bytes of a tensor of a known type; 0 with an error when absurd. */
static L3Status
tensor_bytes(const L3Gguf *gguf, const L3GgufTensor *tensor, L3FileType type,
			 uint64_t *bytes, L3Error *err)
{
	const L3FileTypeInfo *info = l3_file_type(type);
	uint64_t	n = tensor->dims[0] / info->block;

	if (tensor->dims[0] % info->block != 0)
	{
		l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" in file \"%s\" has rows of broken blocks",
				 (int) tensor->name_len, gguf->bytes + tensor->name_at, gguf->path);
		l3_error_detail(err, "Its rows have %" PRIu64 " values; %s needs a multiple of %" PRIu32 ".",
						tensor->dims[0], info->name, info->block);
		return L3_ERR_FORMAT;
	}
	if (__builtin_mul_overflow(n, tensor->dims[1], &n) ||
		__builtin_mul_overflow(n, tensor->dims[2], &n) ||
		__builtin_mul_overflow(n, tensor->dims[3], &n) ||
		__builtin_mul_overflow(n, (uint64_t) info->bytes, &n) || n == 0)
		return l3_error(err, L3_ERR_FORMAT, "tensor \"%.*s\" in file \"%s\" has an absurd size",
						(int) tensor->name_len, gguf->bytes + tensor->name_at, gguf->path);
	*bytes = n;
	return L3_OK;
}

static L3Status
list_tensor(const L3Gguf *gguf, uint32_t file, const L3GgufTensor *tensor,
			L3FoundTensor *found, L3Error *err)
{
	found->name = l3_gguf_tensor_name(gguf, tensor);
	found->file = file;
	found->type = -1;
	found->n_dims = tensor->n_dims;
	memcpy(found->dims, tensor->dims, sizeof(found->dims));
	found->offset = tensor->offset;
	found->bytes = 0;
	snprintf(found->type_name, sizeof(found->type_name), "type number %" PRIu32, tensor->type);
	for (size_t i = 0; i < sizeof(ggml_types) / sizeof(ggml_types[0]); i++)
	{
		if (ggml_types[i].number == tensor->type)
		{
			found->type = ggml_types[i].type;
			snprintf(found->type_name, sizeof(found->type_name), "%s", ggml_types[i].name);
		}
	}
	if (found->type < 0)
		return L3_OK;
	return tensor_bytes(gguf, tensor, (L3FileType) found->type, &found->bytes, err);
}

static L3Status
list_tensors(const GgufModel *model, L3FoundTensor **found, uint64_t *n, L3Error *err)
{
	uint64_t	total = 0;
	L3Status	status;

	for (uint32_t i = 0; i < model->n_parts; i++)
		total += model->parts[i].n_tensors;
	status = l3_calloc((void **) found, total, sizeof(L3FoundTensor), err);
	*n = 0;
	for (uint32_t i = 0; status == L3_OK && i < model->n_parts; i++)
	{
		const L3Gguf *gguf = &model->parts[i];

		for (uint64_t t = 0; status == L3_OK && t < gguf->n_tensors; t++)
			status = list_tensor(gguf, i, &gguf->tensors[t], &(*found)[(*n)++], err);
	}
	return status;
}

/* ----------------------------------------------------------------
 *		Hyperparameters
 * ----------------------------------------------------------------
 */

static L3Status
missing_key(const L3Gguf *gguf, const char *name, L3Error *err)
{
	return l3_error(err, L3_ERR_FORMAT, "key \"%s\" is missing from file \"%s\"", name, gguf->path);
}

static L3Status
required_uint(const L3Gguf *gguf, const char *name, uint32_t *value, L3Error *err)
{
	bool		found;
	L3Status	status = l3_gguf_uniform_uint(gguf, name, value, &found, err);

	if (status == L3_OK && !found)
		return missing_key(gguf, name, err);
	return status;
}

static L3Status
optional_uint(const L3Gguf *gguf, const char *name, uint32_t *value, L3Error *err)
{
	bool		found;

	return l3_gguf_uniform_uint(gguf, name, value, &found, err);
}

/* Adapters, and what else is kept in GGUF files, say so. */
static L3Status
check_kind(const L3Gguf *gguf, L3Error *err)
{
	L3Slice		kind = {"model", 5};
	bool		found;
	L3Status	status = l3_gguf_string(gguf, "general.type", &kind, &found, err);

	if (status != L3_OK || (kind.len == 5 && memcmp(kind.data, "model", 5) == 0))
		return status;
	l3_error(err, L3_ERR_UNSUPPORTED, "file \"%s\" holds no model", gguf->path);
	l3_error_detail(err, "Found general.type \"%.*s\", expected \"model\".",
					kind.len > 64 ? 64 : (int) kind.len, kind.data);
	if (kind.len == 7 && memcmp(kind.data, "adapter", 7) == 0)
		l3_error_hint(err, "Merge the adapter (LoRA) into the model that it was trained for, and load the result.");
	else
		l3_error_hint(err, "Give the path of the model's own file.");
	return L3_ERR_UNSUPPORTED;
}

static L3Status
check_architecture(L3Source *source, const L3Gguf *gguf, L3Error *err)
{
	L3Slice		text = {"", 0};
	bool		found;
	uint32_t	n_experts = 0;
	L3Status	status = l3_gguf_string(gguf, "general.architecture", &text, &found, err);

	if (status != L3_OK)
		return status;
	if (!found)
		return missing_key(gguf, "general.architecture", err);
	if (text.len != 5 || memcmp(text.data, "llama", 5) != 0)
		return l3_wrong_architecture(gguf->path, "general.architecture", text.data, text.len, err);
	strcpy(source->architecture, "llama");
	status = optional_uint(gguf, "llama.expert_count", &n_experts, err);
	if (status == L3_OK && n_experts > 0)
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "model \"%s\" is a mixture of experts, which is not supported",
				 gguf->path);
		l3_error_detail(err, "Found llama.expert_count = %" PRIu32 ".", n_experts);
		l3_error_hint(err, "Take a model of Llama 3, 3.1, 3.2 (1B, 3B) or 3.3, or one that was trained from these.");
		return L3_ERR_UNSUPPORTED;
	}
	return status;
}

/* Widths of heads: stated, or the model's width shared among the heads. */
static L3Status
read_head_widths(const L3Gguf *gguf, L3Hparams *hp, L3Error *err)
{
	L3Status	status = L3_OK;

	if (hp->n_heads > 0 && hp->n_embd % hp->n_heads == 0)
		hp->head_dim = hp->n_embd / hp->n_heads;
	hp->value_dim = hp->head_dim;
	if ((status = optional_uint(gguf, "llama.attention.key_length", &hp->head_dim, err)) != L3_OK ||
		(status = optional_uint(gguf, "llama.attention.value_length", &hp->value_dim, err)) != L3_OK)
		return status;
	if (hp->head_dim == 0 || hp->value_dim == 0)
	{
		l3_error(err, L3_ERR_FORMAT, "embedding length in file \"%s\" is not a multiple of the number of heads",
				 gguf->path);
		l3_error_detail(err, "Found embedding length %" PRIu32 " and %" PRIu32 " heads, and no key and value lengths.",
						hp->n_embd, hp->n_heads);
		return L3_ERR_FORMAT;
	}
	hp->rope_dim = hp->head_dim;
	return optional_uint(gguf, "llama.rope.dimension_count", &hp->rope_dim, err);
}

static L3Status
read_hparams(const L3Gguf *gguf, L3Hparams *hp, L3Error *err)
{
	double		eps = 0;
	bool		found;
	L3Status	status;

	if ((status = required_uint(gguf, "llama.block_count", &hp->n_layers, err)) != L3_OK ||
		(status = required_uint(gguf, "llama.embedding_length", &hp->n_embd, err)) != L3_OK ||
		(status = required_uint(gguf, "llama.feed_forward_length", &hp->n_ff, err)) != L3_OK ||
		(status = required_uint(gguf, "llama.context_length", &hp->n_ctx_train, err)) != L3_OK ||
		(status = required_uint(gguf, "llama.attention.head_count", &hp->n_heads, err)) != L3_OK)
		return status;
	hp->n_kv_heads = hp->n_heads;
	if ((status = optional_uint(gguf, "llama.attention.head_count_kv", &hp->n_kv_heads, err)) != L3_OK ||
		(status = read_head_widths(gguf, hp, err)) != L3_OK)
		return status;

	status = l3_gguf_float(gguf, "llama.attention.layer_norm_rms_epsilon", &eps, &found, err);
	if (status != L3_OK)
		return status;
	if (!found)
		return missing_key(gguf, "llama.attention.layer_norm_rms_epsilon", err);
	hp->rms_eps = (float) eps;

	hp->rope_theta = DEFAULT_FREQ_BASE;
	return l3_gguf_float(gguf, "llama.rope.freq_base", &hp->rope_theta, &found, err);
}

/* The vocabulary: rows of the embedding; the output projection, if it is another. */
static L3Status
read_vocabulary_size(const GgufModel *model, const L3FoundTensor *found, uint64_t n,
					 L3Hparams *hp, L3Error *err)
{
	const L3FoundTensor *embedding = l3_found_tensor(found, n, gguf_names.global[L3_TOKEN_EMBD]);
	uint32_t	n_vocab;
	bool		stated;
	L3Status	status = l3_gguf_uint(&model->parts[0], "llama.vocab_size", &n_vocab, &stated, err);

	if (status != L3_OK)
		return status;
	if (stated)
		hp->n_vocab = n_vocab;
	else if (embedding != NULL && embedding->dims[1] <= L3_MAX_VOCAB)
		hp->n_vocab = (uint32_t) embedding->dims[1];
	else if (embedding != NULL)
		hp->n_vocab = L3_MAX_VOCAB + 1; /* refused with the other bounds */
	else
	{
		l3_error(err, L3_ERR_FORMAT, "tensor \"%s\" is missing from \"%s\"",
				 gguf_names.global[L3_TOKEN_EMBD], model->parts[0].path);
		if (n == 0)
		{
			l3_error_detail(err, "The file has no tensors, only keys, such as those of a vocabulary.");
			l3_error_hint(err, "Give the path of the model's own file.");
		}
		return L3_ERR_FORMAT;
	}
	hp->tied = l3_found_tensor(found, n, gguf_names.global[L3_OUTPUT]) == NULL;
	return L3_OK;
}

/*
 * RoPE scaling by metadata.  Llama 3.1's own comes as a tensor of divisors and
 * is not announced by any key.
 */
static L3Status
read_rope_scaling(L3Source *source, const L3Gguf *gguf, L3Error *err)
{
	L3Slice		type = {"none", 4};
	double		factor = 1;
	bool		has_type;
	bool		has_factor;
	L3Status	status = l3_source_init_rope(source, err);

	if (status == L3_OK)
		status = l3_gguf_string(gguf, "llama.rope.scaling.type", &type, &has_type, err);
	if (status == L3_OK)
		status = l3_gguf_float(gguf, "llama.rope.scaling.factor", &factor, &has_factor, err);
	if (status == L3_OK && !has_type && !has_factor)
	{
		/* The older way to say linear. */
		status = l3_gguf_float(gguf, "llama.rope.scale_linear", &factor, &has_factor, err);
	}
	if (status != L3_OK)
		return status;
	if (has_type && type.len == 4 && memcmp(type.data, "none", 4) == 0)
		return L3_OK;
	if (has_type && (type.len != 6 || memcmp(type.data, "linear", 6) != 0))
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "RoPE scaling of file \"%s\" is not supported", gguf->path);
		l3_error_detail(err, "Found llama.rope.scaling.type = \"%.*s\", expected \"none\" or \"linear\".",
						type.len > 64 ? 64 : (int) type.len, type.data);
		return L3_ERR_UNSUPPORTED;
	}
	if (factor == 0)			/* converters' way to say none */
		factor = 1;
	if (!(factor >= 1e-3 && factor <= 1e6))
	{
		l3_error(err, L3_ERR_FORMAT, "RoPE scaling factor of file \"%s\" is absurd", gguf->path);
		l3_error_detail(err, "Found %g, expected 0.001 to 1e6.", factor);
		return L3_ERR_FORMAT;
	}
	for (uint32_t i = 0; i < source->hparams.rope_dim / 2; i++)
		source->rope_factors[i] = (float) factor;
	return L3_OK;
}

/*
 * Files of 3.1 and later made before its scaling was understood lack the
 * divisors: short prompts look right, long ones degrade.
 */
static void
warn_about_rope(L3Source *source)
{
	const L3Hparams *hp = &source->hparams;
	bool		later = hp->n_ctx_train >= 131072 ||
		strstr(source->name, "3.1") != NULL || strstr(source->name, "3.2") != NULL ||
		strstr(source->name, "3.3") != NULL;

	if (later && hp->rope_theta == 500000.0 &&
		!source->tensors[L3_ROPE_FACTORS].present && source->rope_factors[0] == 1)
		snprintf(source->warning, sizeof(source->warning),
				 "The file looks like Llama 3.1 or later, but lacks the tensor rope_freqs.weight; answers to long prompts will be poor, convert the model again.");
}

/* ----------------------------------------------------------------
 *		Tokenizer
 * ----------------------------------------------------------------
 */

static L3Status
copy_string(L3Slice slice, char **copy, L3Error *err)
{
	*copy = malloc((size_t) slice.len + 1);
	if (*copy == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	memcpy(*copy, slice.data, slice.len);
	(*copy)[slice.len] = '\0';
	return L3_OK;
}

static L3Status
read_tokens(L3Source *source, const L3Gguf *gguf, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	const uint8_t *types;
	uint32_t	n_types;
	bool		found;
	L3Status	status = l3_gguf_strings(gguf, "tokenizer.ggml.tokens", &source->tokens,
										 &spec->n_tokens, &found, err);

	if (status != L3_OK)
		return status;
	if (!found)
		return missing_key(gguf, "tokenizer.ggml.tokens", err);
	spec->tokens = source->tokens;
	status = l3_calloc((void **) &source->token_types, spec->n_tokens, 1, err);
	if (status == L3_OK)
		status = l3_gguf_i32s(gguf, "tokenizer.ggml.token_type", &types, &n_types, &found, err);
	if (status != L3_OK)
		return status;
	if (!found)
		return missing_key(gguf, "tokenizer.ggml.token_type", err);
	if (n_types != spec->n_tokens)
	{
		l3_error(err, L3_ERR_FORMAT, "key \"tokenizer.ggml.token_type\" in file \"%s\" has the wrong length",
				 gguf->path);
		l3_error_detail(err, "Found %" PRIu32 " types for %" PRIu32 " tokens.", n_types, spec->n_tokens);
		return L3_ERR_FORMAT;
	}
	for (uint32_t i = 0; i < n_types; i++)
	{
		uint32_t	type = l3_load_u32(types + (size_t) i * 4);

		if (type < L3_TOKEN_NORMAL || type > L3_TOKEN_BYTE)
		{
			l3_error(err, L3_ERR_FORMAT, "token %" PRIu32 " in file \"%s\" has an unknown type", i, gguf->path);
			l3_error_detail(err, "Found %" PRIu32 ", expected 1 to 6.", type);
			return L3_ERR_FORMAT;
		}
		source->token_types[i] = (uint8_t) type;
	}
	spec->types = source->token_types;
	return L3_OK;
}

/* A merge is "left right"; a token of the byte alphabet has no space. */
static L3Status
read_merges(L3Source *source, const L3Gguf *gguf, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	bool		found;
	L3Status	status = l3_gguf_strings(gguf, "tokenizer.ggml.merges", &source->merge_left,
										 &spec->n_merges, &found, err);

	if (status != L3_OK)
		return status;
	if (!found)
		return missing_key(gguf, "tokenizer.ggml.merges", err);
	status = l3_calloc((void **) &source->merge_right, spec->n_merges, sizeof(L3Slice), err);
	if (status != L3_OK)
		return status;
	for (uint32_t i = 0; i < spec->n_merges; i++)
	{
		L3Slice		merge = source->merge_left[i];
		const char *space = merge.len < 3 ? NULL : memchr(merge.data + 1, ' ', merge.len - 2);

		if (space == NULL)
		{
			l3_error(err, L3_ERR_FORMAT, "merge %" PRIu32 " in file \"%s\" is not two tokens", i, gguf->path);
			l3_error_detail(err, "Found \"%.*s\".", merge.len > 64 ? 64 : (int) merge.len, merge.data);
			return L3_ERR_FORMAT;
		}
		source->merge_left[i].len = (uint32_t) (space - merge.data);
		source->merge_right[i].data = space + 1;
		source->merge_right[i].len = merge.len - source->merge_left[i].len - 1;
	}
	spec->merge_left = source->merge_left;
	spec->merge_right = source->merge_right;
	return L3_OK;
}

static L3Status
read_token_id(const L3Gguf *gguf, const char *name, int32_t *id, L3Error *err)
{
	uint32_t	value;
	bool		found;
	L3Status	status = l3_gguf_uint(gguf, name, &value, &found, err);

	*id = -1;
	if (status != L3_OK || !found)
		return status;
	if (value >= L3_MAX_VOCAB)
	{
		l3_error(err, L3_ERR_FORMAT, "key \"%s\" in file \"%s\" is out of range", name, gguf->path);
		l3_error_detail(err, "Found %" PRIu32 ".", value);
		return L3_ERR_FORMAT;
	}
	*id = (int32_t) value;
	return L3_OK;
}

/*
 * The pre-tokenizer.  Early converters left the key out or wrote another name
 * of the same pattern; Llama 3's vocabulary tells.
 */
static L3Status
read_pre(L3Source *source, GgufModel *model, bool *llama3, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	L3Slice		pre = {"default", 7};
	bool		found;
	L3Status	status = l3_gguf_string(&model->parts[0], "tokenizer.ggml.pre", &pre, &found, err);

	if (status == L3_OK)
		status = copy_string(pre, &model->pre, err);
	if (status != L3_OK)
		return status;
	spec->pre = model->pre;
	if ((strcmp(spec->pre, "default") == 0 || strcmp(spec->pre, "smaug-bpe") == 0) &&
		l3_is_llama3_vocabulary(spec->tokens, spec->n_tokens))
		spec->pre = "llama-bpe";
	*llama3 = strcmp(spec->pre, "llama-bpe") == 0 || strcmp(spec->pre, "llama3") == 0 ||
		strcmp(spec->pre, "llama-v3") == 0;
	return L3_OK;
}

static L3Status
read_template(L3Source *source, GgufModel *model, L3Error *err)
{
	L3Slice		text;
	bool		found;
	L3Status	status = l3_gguf_string(&model->parts[0], "tokenizer.chat_template", &text, &found, err);

	if (status != L3_OK || !found)
		return status;
	status = copy_string(text, &model->chat_template, err);
	source->spec.chat_template = model->chat_template;
	source->spec.chat_template_len = text.len;
	return status;
}

static L3Status
read_tokenizer(L3Source *source, GgufModel *model, L3Error *err)
{
	const L3Gguf *gguf = &model->parts[0];
	L3TokenizerSpec *spec = &source->spec;
	L3Slice		kind;
	bool		found;
	bool		llama3 = false;
	L3Status	status = l3_gguf_string(gguf, "tokenizer.ggml.model", &kind, &found, err);

	if (status != L3_OK)
		return status;
	if (!found)
		return missing_key(gguf, "tokenizer.ggml.model", err);
	if (kind.len != 4 || memcmp(kind.data, "gpt2", 4) != 0)
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "tokenizer of file \"%s\" is not supported", gguf->path);
		l3_error_detail(err, "Found tokenizer.ggml.model = \"%.*s\", expected \"gpt2\" (byte-level BPE).",
						kind.len > 64 ? 64 : (int) kind.len, kind.data);
		l3_error_hint(err, "Llama 1, Llama 2 and Mistral have another tokenizer; take a Llama 3 model.");
		return L3_ERR_UNSUPPORTED;
	}
	spec->where = gguf->path;
	if ((status = read_tokens(source, gguf, err)) != L3_OK ||
		(status = read_merges(source, gguf, err)) != L3_OK ||
		(status = read_pre(source, model, &llama3, err)) != L3_OK ||
		(status = read_template(source, model, err)) != L3_OK ||
		(status = read_token_id(gguf, "tokenizer.ggml.bos_token_id", &spec->bos, err)) != L3_OK ||
		(status = read_token_id(gguf, "tokenizer.ggml.eos_token_id", &spec->eos, err)) != L3_OK ||
		(status = read_token_id(gguf, "tokenizer.ggml.eot_token_id", &spec->eot, err)) != L3_OK ||
		(status = read_token_id(gguf, "tokenizer.ggml.eom_token_id", &spec->eom, err)) != L3_OK)
		return status;
	if (llama3 && spec->bos < 0)
		spec->bos = l3_spec_token(spec, "<|begin_of_text|>");
	spec->add_bos = llama3;
	status = l3_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &spec->add_bos, &found, err);
	if (status != L3_OK)
		return status;
	return l3_source_finish_tokenizer(source, err);
}

/* ----------------------------------------------------------------
 *		Together
 * ----------------------------------------------------------------
 */

static L3Status
read_model(L3Source *source, GgufModel *model, L3FoundTensor *found, uint64_t n, L3Error *err)
{
	const L3Gguf *gguf = &model->parts[0];
	L3Slice		name;
	bool		has_name;
	L3Status	status = l3_gguf_string(gguf, "general.name", &name, &has_name, err);

	if (status != L3_OK)
		return status;
	if (has_name)
		l3_source_set_name(source, name.data, name.len);
	if ((status = read_hparams(gguf, &source->hparams, err)) != L3_OK ||
		(status = read_vocabulary_size(model, found, n, &source->hparams, err)) != L3_OK ||
		(status = l3_source_check_hparams(source, err)) != L3_OK ||
		(status = read_rope_scaling(source, gguf, err)) != L3_OK ||
		(status = l3_source_bind(source, found, n, &gguf_names, false, err)) != L3_OK)
		return status;
	warn_about_rope(source);
	return L3_OK;
}

L3Status
l3_gguf_open(L3Source *source, L3Error *err)
{
	GgufModel  *model;
	L3FoundTensor *found = NULL;
	uint64_t	n = 0;
	L3Status	status = l3_calloc((void **) &model, 1, sizeof(*model), err);

	if (status != L3_OK)
		return status;
	source->format = model;
	source->free_format = free_gguf_model;

	if ((status = list_files(source, err)) == L3_OK &&
		(status = parse_parts(source, model, err)) == L3_OK &&
		(status = check_kind(&model->parts[0], err)) == L3_OK &&
		(status = check_architecture(source, &model->parts[0], err)) == L3_OK &&
		(status = list_tensors(model, &found, &n, err)) == L3_OK)
		status = read_model(source, model, found, n, err);
	free(found);
	if (status != L3_OK)
		return status;

	status = read_tokenizer(source, model, err);
	if (status != L3_OK && source->headers_only && status != L3_ERR_MEMORY)
		return L3_OK;
	return status;
}
