/*-------------------------------------------------------------------------
 *
 * fuzz_safetensors.c
 *	  Any bytes as a safetensors file of a small model.
 *
 * The input is the JSON text, so that the fuzzer need not guess its length.  A
 * first byte of 0 takes the rest as the whole file instead; one of 1 takes it
 * as changes (2 bytes of place, 1 of value) to the JSON of a sound file.  The
 * tensors that are listed are bound to a model's hyperparameters and, where
 * that succeeds, loaded.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "huggingface.h"
#include "safetensors.h"

#define DATA_BYTES	280			/* zeros after the JSON: what the sound one needs */
#define PLACE_BYTES	3

/* A sound header for hparams below; spaces leave room for larger numbers. */
static const char sound[] =
	"{\"model.embed_tokens.weight\":{\"dtype\":\"BF16\",\"shape\":[5,4],\"data_offsets\":[  0, 40]},"
	"\"model.norm.weight\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[ 40, 48]},"
	"\"model.layers.0.input_layernorm.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[ 48, 64]},"
	"\"model.layers.0.self_attn.q_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[ 64, 96]},"
	"\"model.layers.0.self_attn.k_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[2,4],\"data_offsets\":[ 96,112]},"
	"\"model.layers.0.self_attn.v_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[2,4],\"data_offsets\":[112,128]},"
	"\"model.layers.0.self_attn.o_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[128,160]},"
	"\"model.layers.0.post_attention_layernorm.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[160,176]},"
	"\"model.layers.0.mlp.gate_proj.weight\":{\"dtype\":\"F16\",\"shape\":[4,4],\"data_offsets\":[176,208]},"
	"\"model.layers.0.mlp.up_proj.weight\":{\"dtype\":\"F16\",\"shape\":[4,4],\"data_offsets\":[208,240]},"
	"\"model.layers.0.mlp.down_proj.weight\":{\"dtype\":\"F16\",\"shape\":[4,4],\"data_offsets\":[240,272]}}";

static const L3Hparams hparams =
{
	.n_layers = 1,.n_embd = 4,.n_heads = 2,.n_kv_heads = 1,.head_dim = 2,
	.value_dim = 2,.rope_dim = 2,.n_ff = 4,.n_vocab = 5,.n_ctx_train = 16,
	.tied = 1,.rms_eps = 1e-5f,.rope_theta = 10000.0
};

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
load(L3Source *source)
{
	uint64_t	size = l3_source_arena_size(source);
	void	   *arena = aligned_alloc(L3_ARENA_ALIGN, size);
	L3Error		err;

	memset(arena, 0, size);
	if (l3_source_load(source, arena, size, NULL, 0, NULL, NULL, &err) == L3_OK &&
		l3_arena_check(arena, size, &err) == NULL)
		abort();
	free(arena);
}

/* What huggingface.c does with a file, for one that is in memory. */
static void
try_file(const uint8_t *file, size_t size)
{
	L3Source   *source = calloc(1, sizeof(*source));
	L3FoundList list = {0};
	const L3Reader *reader;
	json_t	   *header = NULL;
	L3Error		err;

	source->path = strdup("memory");
	source->open_file = -1;
	source->reader.fd = -1;
	source->hparams = hparams;
	if (l3_source_add_file(source, "memory", file, &err) == L3_OK)
	{
		source->files[0].size = size;
		if (l3_source_init_rope(source, &err) == L3_OK &&
			l3_source_reader(source, 0, &reader, &err) == L3_OK &&
			l3_safetensors_list(reader, 0, &header, &list, &err) == L3_OK &&
			l3_source_bind(source, list.found, list.n, &l3_hf_names, true, &err) == L3_OK)
			load(source);
	}
	json_decref(header);
	free(list.found);
	l3_source_close(source);
}

/* A file of this JSON and some data. */
static void
try_json(const uint8_t *json, size_t size)
{
	uint64_t	len = size;
	uint8_t    *file = calloc(1, 8 + size + DATA_BYTES);

	memcpy(file, &len, sizeof(len));
	if (size > 0)
		memcpy(file + 8, json, size);
	try_file(file, 8 + size + DATA_BYTES);
	free(file);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t		json[sizeof(sound)];

	if (size > 0 && data[0] == 0)
	{
		uint8_t    *file = malloc(size);

		memcpy(file, data + 1, size - 1);
		try_file(file, size - 1);
		free(file);
		return 0;
	}
	if (size == 0 || data[0] != 1)
	{
		try_json(data, size);
		return 0;
	}
	memcpy(json, sound, sizeof(sound));
	for (size_t at = 1; at + PLACE_BYTES <= size; at += PLACE_BYTES)
		json[(data[at] | (size_t) data[at + 1] << 8) % (sizeof(sound) - 1)] = data[at + 2];
	try_json(json, sizeof(sound) - 1);
	return 0;
}
