/*-------------------------------------------------------------------------
 *
 * ref_hf.c
 *	  Read a Llama model from a Hugging Face directory.
 *
 * Query and key rows stay in the files' order; the transformer rotates the
 * pairs (i, i + head_dim / 2) then.  Jansson reads the JSON.
 *
 * Formats: safetensors' README; transformers' LlamaConfig and its "llama3"
 * rope_scaling.
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHARDS		64

typedef struct Shard
{
	uint8_t    *data;
	size_t		size;
	json_t	   *header;
	const uint8_t *tensors;		/* start of the data part */
} Shard;

typedef struct Checkpoint
{
	const char *dir;
	int			n_shards;
	Shard		shards[MAX_SHARDS];
} Checkpoint;

static json_t *
load_json(const char *dir, const char *name, bool required)
{
	char		path[4096];
	json_error_t error;
	json_t	   *json;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	json = json_load_file(path, 0, &error);
	if (!json && required)
		ref_fail("\"%s\": %s", path, error.text);
	return json;
}

static void
open_shard(Checkpoint *c, const char *name)
{
	Shard	   *s = &c->shards[c->n_shards++];
	char		path[4096];
	uint64_t	header_len;

	if (c->n_shards > MAX_SHARDS)
		ref_fail("\"%s\" has more than %d shards", c->dir, MAX_SHARDS);
	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	s->data = ref_read_file(path, &s->size);
	if (s->size < sizeof(header_len))
		ref_fail("\"%s\" is too short", path);
	memcpy(&header_len, s->data, sizeof(header_len));
	if (header_len > s->size - sizeof(header_len))
		ref_fail("\"%s\" ends in its header", path);
	s->header = json_loadb((const char *) s->data + sizeof(header_len), header_len, 0, NULL);
	if (!s->header)
		ref_fail("\"%s\" has a header that is not JSON", path);
	s->tensors = s->data + sizeof(header_len) + header_len;
}

/* Open model.safetensors, or the shards that the index names. */
static void
open_checkpoint(Checkpoint *c, const char *dir)
{
	json_t	   *index = load_json(dir, "model.safetensors.index.json", false);
	json_t	   *seen = json_object();
	const char *key;
	json_t	   *file;

	c->dir = dir;
	if (!index)
		open_shard(c, "model.safetensors");
	json_object_foreach(json_object_get(index, "weight_map"), key, file)
	{
		if (json_object_get(seen, json_string_value(file)))
			continue;
		json_object_set_new(seen, json_string_value(file), json_true());
		open_shard(c, json_string_value(file));
	}
	json_decref(seen);
	json_decref(index);
}

static uint32_t
type_of(const char *dtype)
{
	if (dtype && strcmp(dtype, "F32") == 0)
		return REF_TYPE_F32;
	if (dtype && strcmp(dtype, "F16") == 0)
		return REF_TYPE_F16;
	if (dtype && strcmp(dtype, "BF16") == 0)
		return REF_TYPE_BF16;
	ref_fail("safetensors type %s is not supported", dtype ? dtype : "(none)");
}

static double *
tensor(const Checkpoint *c, const char *name, int rows, int columns)
{
	for (int i = 0; i < c->n_shards; i++)
	{
		const Shard *s = &c->shards[i];
		json_t	   *entry = json_object_get(s->header, name);
		json_t	   *offsets = json_object_get(entry, "data_offsets");
		size_t		n = (size_t) rows * (size_t) columns;
		uint64_t	begin,
					end;
		uint32_t	type;
		double	   *values;

		if (!entry)
			continue;
		type = type_of(json_string_value(json_object_get(entry, "dtype")));
		begin = (uint64_t) json_integer_value(json_array_get(offsets, 0));
		end = (uint64_t) json_integer_value(json_array_get(offsets, 1));
		if (end - begin != n * (type == REF_TYPE_F32 ? 4 : 2) ||
			end > (uint64_t) (s->data + s->size - s->tensors))
			ref_fail("\"%s\": tensor %s is not %d by %d", c->dir, name, rows, columns);
		values = ref_alloc(sizeof(double) * n);
		ref_dequantise(type, s->tensors + begin, n, values);
		return values;
	}
	ref_fail("\"%s\" has no tensor %s", c->dir, name);
}

static double *
layer_tensor(const Checkpoint *c, int layer, const char *name, int rows, int columns)
{
	char		full[128];

	snprintf(full, sizeof(full), "model.layers.%d.%s.weight", layer, name);
	return tensor(c, full, rows, columns);
}

static double
number_or(const json_t *config, const char *name, double fallback)
{
	const json_t *value = json_object_get(config, name);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

/*
 * Wave lengths over the original context / low_freq_factor turn slower by
 * factor, those under the original context / high_freq_factor as before, and
 * in between the frequency is a blend of the two.
 */
static void
rope_divisors(RefModel *m, const json_t *scaling)
{
	double		factor = number_or(scaling, "factor", 1);
	double		low = number_or(scaling, "low_freq_factor", 1);
	double		high = number_or(scaling, "high_freq_factor", 4);
	double		context = number_or(scaling, "original_max_position_embeddings", 8192);

	m->rope_divisors = ref_alloc(sizeof(double) * (size_t) (m->rope_dim / 2));
	for (int i = 0; i < m->rope_dim / 2; i++)
	{
		double		frequency = pow(m->rope_theta, -2.0 * i / m->rope_dim);
		double		wavelength = 2 * M_PI / frequency;
		double		smooth = (context / wavelength - low) / (high - low);
		double		scaled = frequency;

		if (json_is_object(scaling) && wavelength > context / low)
			scaled = frequency / factor;
		else if (json_is_object(scaling) && wavelength >= context / high)
			scaled = (1 - smooth) * frequency / factor + smooth * frequency;
		m->rope_divisors[i] = frequency / scaled;
	}
}

static void
read_config(RefModel *m, const json_t *config)
{
	m->n_layers = (int) number_or(config, "num_hidden_layers", 0);
	m->n_embd = (int) number_or(config, "hidden_size", 0);
	m->n_ff = (int) number_or(config, "intermediate_size", 0);
	m->n_heads = (int) number_or(config, "num_attention_heads", 1);
	m->n_kv_heads = (int) number_or(config, "num_key_value_heads", m->n_heads);
	m->head_dim = (int) number_or(config, "head_dim", m->n_embd / m->n_heads);
	m->value_dim = m->rope_dim = m->head_dim;
	m->n_vocab = (int) number_or(config, "vocab_size", 0);
	m->rms_eps = number_or(config, "rms_norm_eps", 1e-6);
	m->rope_theta = number_or(config, "rope_theta", 10000);
	m->rope_halves = true;
	rope_divisors(m, json_object_get(config, "rope_scaling"));
}

static void
read_weights(const Checkpoint *c, RefModel *m, bool tied)
{
	int			d = m->n_embd;

	m->token_embd = tensor(c, "model.embed_tokens.weight", m->n_vocab, d);
	m->output_norm = tensor(c, "model.norm.weight", 1, d);
	m->output = tied ? m->token_embd : tensor(c, "lm_head.weight", m->n_vocab, d);
	m->layers = ref_alloc(sizeof(RefLayer) * (size_t) m->n_layers);
	for (int i = 0; i < m->n_layers; i++)
	{
		RefLayer   *l = &m->layers[i];

		l->attn_norm = layer_tensor(c, i, "input_layernorm", 1, d);
		l->wq = layer_tensor(c, i, "self_attn.q_proj", m->n_heads * m->head_dim, d);
		l->wk = layer_tensor(c, i, "self_attn.k_proj", m->n_kv_heads * m->head_dim, d);
		l->wv = layer_tensor(c, i, "self_attn.v_proj", m->n_kv_heads * m->value_dim, d);
		l->wo = layer_tensor(c, i, "self_attn.o_proj", d, m->n_heads * m->value_dim);
		l->ffn_norm = layer_tensor(c, i, "post_attention_layernorm", 1, d);
		l->w_gate = layer_tensor(c, i, "mlp.gate_proj", m->n_ff, d);
		l->w_up = layer_tensor(c, i, "mlp.up_proj", m->n_ff, d);
		l->w_down = layer_tensor(c, i, "mlp.down_proj", d, m->n_ff);
	}
}

RefModel *
ref_load_hf(const char *dir)
{
	Checkpoint *c = ref_alloc(sizeof(*c));
	RefModel   *m = ref_alloc(sizeof(*m));
	json_t	   *config = load_json(dir, "config.json", true);

	open_checkpoint(c, dir);
	read_config(m, config);
	read_weights(c, m, json_is_true(json_object_get(config, "tie_word_embeddings")));
	for (int i = 0; i < c->n_shards; i++)
	{
		json_decref(c->shards[i].header);
		free(c->shards[i].data);
	}
	json_decref(config);
	free(c);
	return m;
}
