/*-------------------------------------------------------------------------
 *
 * huggingface.c
 *	  A directory in the form of Hugging Face's transformers library:
 *	  configuration and weights.
 *
 * Query and key rows stand in the order of transformers, where RoPE turns
 * value i of a head with value i + head_dim / 2.  Everything else here expects
 * pairs side by side, as Meta's own files and GGUF have them, so these rows are
 * interleaved at load (L3SourceTensor.interleave).
 *
 *-------------------------------------------------------------------------
 */
#include "huggingface.h"
#include "advice.h"
#include "safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_SHARDS		1024
#define MAX_TEMPLATE	((uint64_t) 1 << 20)

/* What transformers assumes when config.json does not say. */
#define DEFAULT_ROPE_THETA	10000.0
#define DEFAULT_RMS_EPS		1e-6
#define DEFAULT_CONTEXT		2048

const L3TensorNames l3_hf_names =
{
	.global = {
		[L3_TOKEN_EMBD] = "model.embed_tokens.weight",
		[L3_OUTPUT_NORM] = "model.norm.weight",
		[L3_OUTPUT] = "lm_head.weight",
		[L3_ROPE_FACTORS] = NULL,
	},
	.layer_prefix = "model.layers.",
	.layer = {
		[L3_ATTN_NORM] = "input_layernorm.weight",
		[L3_WQ] = "self_attn.q_proj.weight",
		[L3_WK] = "self_attn.k_proj.weight",
		[L3_WV] = "self_attn.v_proj.weight",
		[L3_WO] = "self_attn.o_proj.weight",
		[L3_FFN_NORM] = "post_attention_layernorm.weight",
		[L3_W_GATE] = "mlp.gate_proj.weight",
		[L3_W_UP] = "mlp.up_proj.weight",
		[L3_W_DOWN] = "mlp.down_proj.weight",
	},
};

void
l3_hf_files_free(L3HfFiles *files)
{
	json_decref(files->config);
	json_decref(files->generation_config);
	json_decref(files->tokenizer);
	json_decref(files->tokenizer_config);
	free(files->chat_template);
	free(files->where);
	memset(files, 0, sizeof(*files));
}

static void
free_hf(void *format)
{
	l3_hf_files_free(format);
	free(format);
}

/* ----------------------------------------------------------------
 *		config.json
 * ----------------------------------------------------------------
 */

static L3Status
required_uint(const json_t *config, const char *where, const char *key,
			  uint32_t *value, L3Error *err)
{
	bool		found;
	L3Status	status = l3_json_uint(config, where, key, value, &found, err);

	if (status == L3_OK && !found)
		return l3_error(err, L3_ERR_FORMAT, "key \"%s\" is missing from file \"%s\"", key, where);
	return status;
}

static L3Status
optional_uint(const json_t *config, const char *where, const char *key,
			  uint32_t *value, L3Error *err)
{
	bool		found;

	return l3_json_uint(config, where, key, value, &found, err);
}

/* A value of config.json that we cannot honour. */
static L3Status
unsupported(const char *where, const char *key, const char *found_value,
			const char *expected, L3Error *err)
{
	l3_error(err, L3_ERR_UNSUPPORTED, "\"%s\" of file \"%s\" is not supported", key, where);
	l3_error_detail(err, "Found %.128s, expected %s.", found_value, expected);
	return L3_ERR_UNSUPPORTED;
}

static L3Status
check_architecture(L3Source *source, const json_t *config, const char *where, L3Error *err)
{
	const char *model_type = "nothing";
	bool		found;
	L3Status	status = l3_json_string(config, where, "model_type", &model_type, &found, err);

	if (status != L3_OK)
		return status;
	if (strcmp(model_type, "llama") != 0)
		return l3_wrong_architecture(source->path, "model_type", model_type, strlen(model_type), err);
	strcpy(source->architecture, "llama");
	return L3_OK;
}

/* What transformers' llama can have and we cannot. */
static L3Status
check_variants(const json_t *config, const char *where, L3Error *err)
{
	static const char *const biases[] = {"attention_bias", "mlp_bias"};
	const char *act = "silu";
	double		rotary = 1;
	bool		found;
	L3Status	status;

	for (int i = 0; i < 2; i++)
	{
		bool		bias = false;

		if ((status = l3_json_bool(config, where, biases[i], &bias, &found, err)) != L3_OK)
			return status;
		if (bias)
			return unsupported(where, biases[i], "true", "false", err);
	}
	if ((status = l3_json_string(config, where, "hidden_act", &act, &found, err)) != L3_OK)
		return status;
	if (strcmp(act, "silu") != 0)
		return unsupported(where, "hidden_act", act, "silu", err);
	if ((status = l3_json_number(config, where, "partial_rotary_factor", &rotary, &found, err)) != L3_OK)
		return status;
	if (rotary != 1)
		return unsupported(where, "partial_rotary_factor", "a partial rotation", "1", err);
	if (json_is_object(json_object_get(config, "quantization_config")))
	{
		unsupported(where, "quantization_config", "quantised weights", "weights in F32, F16 or BF16", err);
		l3_error_hint(err, "Use the unquantised model (it can be quantised while loading), or a GGUF file.");
		return L3_ERR_UNSUPPORTED;
	}
	return L3_OK;
}

/* A positive parameter of rope_scaling. */
static L3Status
rope_number(const json_t *scaling, const char *where, const char *key, double *value, L3Error *err)
{
	bool		found;
	L3Status	status = l3_json_number(scaling, where, key, value, &found, err);

	if (status != L3_OK)
		return status;
	if (!found || !(*value >= 1e-3 && *value <= 1e9))
	{
		l3_error(err, L3_ERR_FORMAT, "\"%s\" of RoPE scaling in file \"%s\" is missing or absurd", key, where);
		l3_error_detail(err, "Expected 0.001 to 1e9.");
		return L3_ERR_FORMAT;
	}
	return L3_OK;
}

/*
 * Llama 3.1's scaling: frequencies whose wavelength is over the original
 * context / low_freq_factor are divided by factor, those under the original
 * context / high_freq_factor are kept, and between the two the frequency is
 * blended linearly in original context / wavelength.
 * Source: transformers, rope_type "llama3"; Meta's llama-models, apply_scaling.
 */
static L3Status
llama3_scaling(L3Source *source, const json_t *scaling, const char *where, L3Error *err)
{
	const L3Hparams *hp = &source->hparams;
	double		factor;
	double		low;
	double		high;
	double		context;
	L3Status	status;

	if ((status = rope_number(scaling, where, "factor", &factor, err)) != L3_OK ||
		(status = rope_number(scaling, where, "low_freq_factor", &low, err)) != L3_OK ||
		(status = rope_number(scaling, where, "high_freq_factor", &high, err)) != L3_OK ||
		(status = rope_number(scaling, where, "original_max_position_embeddings", &context, err)) != L3_OK)
		return status;
	if (!(high > low))
	{
		l3_error(err, L3_ERR_FORMAT, "RoPE scaling in file \"%s\" is inconsistent", where);
		l3_error_detail(err, "Found low_freq_factor %g and high_freq_factor %g.", low, high);
		return L3_ERR_FORMAT;
	}
	for (uint32_t i = 0; i < hp->rope_dim / 2; i++)
	{
		double		frequency = pow(hp->rope_theta, -2.0 * i / hp->rope_dim);
		double		turns = context * frequency / (2 * 3.14159265358979323846);	/* in the context */
		double		blend;

		if (turns < low)
			source->rope_factors[i] = (float) factor;
		else if (turns <= high)
		{
			blend = (turns - low) / (high - low);
			source->rope_factors[i] = (float) (1 / ((1 - blend) / factor + blend));
		}
	}
	return L3_OK;
}

static L3Status
read_rope(L3Source *source, const json_t *config, const char *where, L3Error *err)
{
	/* transformers 5 has rope_parameters, with rope_theta inside. */
	const json_t *scaling = json_object_get(config, "rope_parameters");
	const char *type = "default";
	double		factor;
	bool		found;
	L3Status	status;

	source->hparams.rope_theta = DEFAULT_ROPE_THETA;
	if ((status = l3_json_number(config, where, "rope_theta", &source->hparams.rope_theta, &found, err)) != L3_OK)
		return status;
	if (!json_is_object(scaling))
		scaling = json_object_get(config, "rope_scaling");
	else if ((status = l3_json_number(scaling, where, "rope_theta", &source->hparams.rope_theta, &found, err)) != L3_OK)
		return status;
	if ((status = l3_source_check_hparams(source, err)) != L3_OK ||
		(status = l3_source_init_rope(source, err)) != L3_OK)
		return status;
	if (!json_is_object(scaling))
		return L3_OK;

	status = l3_json_string(scaling, where, "rope_type", &type, &found, err);
	if (status == L3_OK && !found)	/* its older name */
		status = l3_json_string(scaling, where, "type", &type, &found, err);
	if (status != L3_OK)
		return status;
	if (strcmp(type, "default") == 0)
		return L3_OK;
	if (strcmp(type, "llama3") == 0)
		return llama3_scaling(source, scaling, where, err);
	if (strcmp(type, "linear") != 0)
		return unsupported(where, "rope_scaling.rope_type", type, "llama3, linear or default", err);
	if ((status = rope_number(scaling, where, "factor", &factor, err)) != L3_OK)
		return status;
	for (uint32_t i = 0; i < source->hparams.rope_dim / 2; i++)
		source->rope_factors[i] = (float) factor;
	return L3_OK;
}

L3Status
l3_hf_read_config(L3Source *source, const json_t *config, const char *where, L3Error *err)
{
	L3Hparams  *hp = &source->hparams;
	double		eps = DEFAULT_RMS_EPS;
	bool		tied = false;
	bool		found;
	L3Status	status;

	hp->n_ctx_train = DEFAULT_CONTEXT;
	if ((status = check_architecture(source, config, where, err)) != L3_OK ||
		(status = check_variants(config, where, err)) != L3_OK ||
		(status = required_uint(config, where, "num_hidden_layers", &hp->n_layers, err)) != L3_OK ||
		(status = required_uint(config, where, "hidden_size", &hp->n_embd, err)) != L3_OK ||
		(status = required_uint(config, where, "intermediate_size", &hp->n_ff, err)) != L3_OK ||
		(status = required_uint(config, where, "vocab_size", &hp->n_vocab, err)) != L3_OK ||
		(status = required_uint(config, where, "num_attention_heads", &hp->n_heads, err)) != L3_OK ||
		(status = optional_uint(config, where, "max_position_embeddings", &hp->n_ctx_train, err)) != L3_OK)
		return status;

	hp->n_kv_heads = hp->n_heads;
	if (hp->n_heads > 0)
		hp->head_dim = hp->n_embd / hp->n_heads;
	if ((status = optional_uint(config, where, "num_key_value_heads", &hp->n_kv_heads, err)) != L3_OK ||
		(status = optional_uint(config, where, "head_dim", &hp->head_dim, err)) != L3_OK ||
		(status = l3_json_number(config, where, "rms_norm_eps", &eps, &found, err)) != L3_OK ||
		(status = l3_json_bool(config, where, "tie_word_embeddings", &tied, &found, err)) != L3_OK)
		return status;
	hp->value_dim = hp->head_dim;
	hp->rope_dim = hp->head_dim;
	hp->rms_eps = (float) eps;
	hp->tied = tied;
	return read_rope(source, config, where, err);
}

/* ----------------------------------------------------------------
 *		Files of the directory
 * ----------------------------------------------------------------
 */

static L3Status
path_of(const L3Source *source, const char *name, char **path, L3Error *err)
{
	size_t		size = strlen(source->path) + strlen(name) + 2;
	L3Status	status = l3_calloc((void **) path, size, 1, err);

	if (status == L3_OK)
		snprintf(*path, size, "%s/%s", source->path, name);
	return status;
}

static bool
file_exists(const L3Source *source, const char *name)
{
	struct stat st;
	L3Error		ignored;
	char	   *path;
	bool		exists;

	if (path_of(source, name, &path, &ignored) != L3_OK)
		return false;
	exists = stat(path, &st) == 0;
	free(path);
	return exists;
}

/* Parse a JSON file of the directory; one that is not there gives NULL when optional. */
static L3Status
read_json(const L3Source *source, const char *name, bool optional, json_t **object, L3Error *err)
{
	L3Reader	reader;
	char	   *path;
	L3Status	status;

	*object = NULL;
	if (optional && !file_exists(source, name))
		return L3_OK;
	status = path_of(source, name, &path, err);
	if (status != L3_OK)
		return status;
	status = l3_reader_open(&reader, path, err);
	if (status == L3_OK)
	{
		status = l3_json_read(&reader, object, err);
		l3_reader_close(&reader);
	}
	free(path);
	return status;
}

static L3Status
read_template(const L3Source *source, L3HfFiles *files, L3Error *err)
{
	L3Reader	reader;
	char	   *path;
	L3Status	status;

	if (!file_exists(source, "chat_template.jinja"))
		return L3_OK;
	status = path_of(source, "chat_template.jinja", &path, err);
	if (status != L3_OK)
		return status;
	status = l3_reader_open(&reader, path, err);
	if (status == L3_OK)
	{
		status = l3_reader_slurp(&reader, MAX_TEMPLATE, &files->chat_template,
								 &files->chat_template_len, err);
		l3_reader_close(&reader);
	}
	free(path);
	return status;
}

/* ----------------------------------------------------------------
 *		Weights
 * ----------------------------------------------------------------
 */

/* A file name of the index must stay in the directory. */
static bool
plain_name(const json_t *value)
{
	const char *name = json_string_value(value);

	return name != NULL && strlen(name) == json_string_length(value) &&
		name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

/* Index of the file of that name among the source's, or -1. */
static int64_t
find_file(const L3Source *source, const char *name)
{
	size_t		skip = strlen(source->path) + 1;

	for (uint32_t i = 0; i < source->n_files; i++)
	{
		if (strcmp(source->files[i].path + skip, name) == 0)
			return i;
	}
	return -1;
}

static L3Status
add_weights_file(L3Source *source, const char *name, L3Error *err)
{
	char	   *path;
	L3Status	status = path_of(source, name, &path, err);

	if (status != L3_OK)
		return status;
	status = l3_source_add_file(source, path, NULL, err);
	free(path);
	return status;
}

/* The files that the index names. */
static L3Status
list_shards(L3Source *source, const json_t *weight_map, L3Error *err)
{
	const char *tensor;
	json_t	   *file;

	if (!json_is_object(weight_map))
		return l3_error(err, L3_ERR_FORMAT,
						"key \"weight_map\" is missing from file \"%s/model.safetensors.index.json\"",
						source->path);
	json_object_foreach((json_t *) weight_map, tensor, file)
	{
		L3Status	status;

		if (!plain_name(file) || source->n_files >= MAX_SHARDS)
		{
			l3_error(err, L3_ERR_FORMAT, "index of model \"%s\" is damaged", source->path);
			l3_error_detail(err, "The file of tensor \"%.255s\" is no plain name, or there are more than %d files.",
							tensor, MAX_SHARDS);
			return L3_ERR_FORMAT;
		}
		if (find_file(source, json_string_value(file)) >= 0)
			continue;
		status = add_weights_file(source, json_string_value(file), err);
		if (status != L3_OK)
			return status;
	}
	return L3_OK;
}

/* Each tensor that the index places must be where it says. */
static L3Status
check_index(const L3Source *source, const json_t *weight_map, const L3FoundList *list, L3Error *err)
{
	for (uint64_t i = 0; i < list->n; i++)
	{
		const json_t *file = json_object_get(weight_map, list->found[i].name.data);

		if (file == NULL || find_file(source, json_string_value(file)) == list->found[i].file)
			continue;
		l3_error(err, L3_ERR_FORMAT, "tensor \"%.255s\" is not where the index of \"%s\" says",
				 list->found[i].name.data, source->path);
		l3_error_detail(err, "Found in \"%s\", expected in \"%.255s\".",
						source->files[list->found[i].file].path, json_string_value(file));
		return L3_ERR_FORMAT;
	}
	return L3_OK;
}

/* List the tensors of all files; headers own the names. */
static L3Status
list_tensors(L3Source *source, json_t **headers, L3FoundList *list, L3Error *err)
{
	L3Status	status = L3_OK;

	for (uint32_t i = 0; status == L3_OK && i < source->n_files; i++)
	{
		const L3Reader *reader;

		status = l3_source_reader(source, i, &reader, err);
		if (status == L3_OK)
			status = l3_safetensors_list(reader, i, &headers[i], list, err);
	}
	return status;
}

static L3Status
bind_weights(L3Source *source, const json_t *weight_map, L3Error *err)
{
	L3FoundList list = {0};
	json_t	  **headers;
	L3Status	status = l3_calloc((void **) &headers, source->n_files, sizeof(json_t *), err);

	if (status != L3_OK)
		return status;
	status = list_tensors(source, headers, &list, err);
	if (status == L3_OK && weight_map != NULL)
		status = check_index(source, weight_map, &list, err);
	if (status == L3_OK)
		status = l3_source_bind(source, list.found, list.n, &l3_hf_names, true, err);
	for (uint32_t i = 0; i < source->n_files; i++)
		json_decref(headers[i]);
	free(headers);
	free(list.found);
	return status;
}

static L3Status
read_weights(L3Source *source, L3Error *err)
{
	json_t	   *index;
	const json_t *weight_map = NULL;
	L3Status	status;

	if (file_exists(source, "model.safetensors"))
	{
		status = add_weights_file(source, "model.safetensors", err);
		return status == L3_OK ? bind_weights(source, NULL, err) : status;
	}
	status = read_json(source, "model.safetensors.index.json", true, &index, err);
	if (status != L3_OK)
		return status;
	if (index == NULL)
		return l3_no_weights_in(source->path, err);
	weight_map = json_object_get(index, "weight_map");
	status = list_shards(source, weight_map, err);
	if (status == L3_OK)
		status = bind_weights(source, weight_map, err);
	json_decref(index);
	return status;
}

/* ----------------------------------------------------------------
 *		Together
 * ----------------------------------------------------------------
 */

/* The name that config.json keeps, or the directory's own. */
static void
read_name(L3Source *source, const json_t *config)
{
	const json_t *stated = json_object_get(config, "_name_or_path");
	const char *path = source->path;
	size_t		end = strlen(path);
	size_t		start;

	if (json_string_length(stated) > 0)
	{
		l3_source_set_name(source, json_string_value(stated), json_string_length(stated));
		return;
	}
	while (end > 1 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	l3_source_set_name(source, path + start, end - start);
}

static L3Status
read_config(L3Source *source, L3HfFiles *files, L3Error *err)
{
	char	   *where;
	L3Status	status;

	if (!file_exists(source, "config.json"))
		return l3_no_model_in(source->path, err);
	status = read_json(source, "config.json", false, &files->config, err);
	if (status == L3_OK)
		status = path_of(source, "config.json", &where, err);
	if (status != L3_OK)
		return status;
	status = l3_hf_read_config(source, files->config, where, err);
	free(where);
	return status;
}

static L3Status
read_tokenizer(L3Source *source, L3HfFiles *files, L3Error *err)
{
	L3Status	status;

	if (!file_exists(source, "tokenizer.json"))
		return l3_no_tokenizer_in(source->path, err);
	if ((status = path_of(source, "tokenizer.json", &files->where, err)) != L3_OK ||
		(status = read_json(source, "tokenizer.json", false, &files->tokenizer, err)) != L3_OK ||
		(status = read_json(source, "tokenizer_config.json", true, &files->tokenizer_config, err)) != L3_OK ||
		(status = read_json(source, "generation_config.json", true, &files->generation_config, err)) != L3_OK ||
		(status = read_template(source, files, err)) != L3_OK)
		return status;
	return l3_hf_read_tokenizer(source, files, err);
}

L3Status
l3_huggingface_open(L3Source *source, L3Error *err)
{
	L3HfFiles  *files;
	L3Status	status = l3_calloc((void **) &files, 1, sizeof(*files), err);

	if (status != L3_OK)
		return status;
	source->format = files;
	source->free_format = free_hf;

	if ((status = read_config(source, files, err)) != L3_OK ||
		(status = read_weights(source, err)) != L3_OK)
		return status;
	read_name(source, files->config);
	status = read_tokenizer(source, files, err);
	if (status == L3_OK && files->tokenizer_config == NULL && files->chat_template == NULL)
		snprintf(source->warning, sizeof(source->warning),
				 "The directory has no tokenizer_config.json, in which the chat template would be; download it too.");
	if (status != L3_OK && source->headers_only && status != L3_ERR_MEMORY)
		return L3_OK;
	return status;
}
