/*-------------------------------------------------------------------------
 *
 * fuzz_json.c
 *	  Any JSON as the files of a Hugging Face directory.
 *
 * The input is one object with members "config", "tokenizer",
 * "tokenizer_config" and "generation_config", each what the file of that name
 * would hold.  Where a member is missing a sound one is used, so that the
 * fuzzer reaches the others.  A first byte of 1 takes the rest as changes (2
 * bytes of place, 1 of value) to the text of a sound object.  What is accepted
 * is built into a tokenizer.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "huggingface.h"
#include "unit/tiny_vocab.h"

#define MAX_IMAGE	((uint64_t) 16 << 20)
#define PLACE_BYTES	3

static json_t *sound_config;
static json_t *sound_tokenizer;
static char *sound_text;		/* of an object with both */

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *
build_tokenizer(void)
{
	static TinyVocab v;
	json_t	   *vocab = json_object();
	json_t	   *merges = json_array();
	json_t	   *added = json_array();

	tiny_vocab(&v, "gpt-2");
	for (uint32_t i = 0; i < v.spec.n_tokens; i++)
	{
		if (v.spec.types[i] == L3_TOKEN_NORMAL)
			json_object_set_new(vocab, v.spec.tokens[i].data, json_integer(i));
		else
			json_array_append_new(added, json_pack("{s:i,s:s,s:b}", "id", (int) i, "content",
												   v.spec.tokens[i].data, "special", 1));
	}
	for (uint32_t i = 0; i < v.spec.n_merges; i++)
		json_array_append_new(merges, json_pack("[s%,s%]", v.spec.merge_left[i].data,
												(size_t) v.spec.merge_left[i].len,
												v.spec.merge_right[i].data,
												(size_t) v.spec.merge_right[i].len));
	return json_pack("{s:o,s:{s:s,s:b},s:{s:s,s:o,s:o}}", "added_tokens", added,
					 "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
					 "model", "type", "BPE", "vocab", vocab, "merges", merges);
}

static void
build_sound(void)
{
	json_t	   *both;

	sound_config = json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "model_type", "llama",
							 "num_hidden_layers", 1, "hidden_size", 32, "intermediate_size", 32,
							 "vocab_size", 400, "num_attention_heads", 2,
							 "num_key_value_heads", 1, "eos_token_id", 3);
	sound_tokenizer = build_tokenizer();
	both = json_pack("{s:O,s:O}", "config", sound_config, "tokenizer", sound_tokenizer);
	sound_text = json_dumps(both, JSON_COMPACT);
	json_decref(both);
	if (sound_text == NULL)
		abort();
}

static json_t *
member_or(const json_t *object, const char *key, json_t *otherwise)
{
	json_t	   *value = json_object_get(object, key);

	return json_incref(json_is_object(value) ? value : otherwise);
}

static void
try_text(const char *text, size_t size)
{
	L3Source   *source;
	L3HfFiles	files = {0};
	json_t	   *object;
	L3Error		err;

	if (l3_json_parse(text, size, "memory", &object, &err) != L3_OK)
		return;
	files.config = member_or(object, "config", sound_config);
	files.tokenizer = member_or(object, "tokenizer", sound_tokenizer);
	files.tokenizer_config = member_or(object, "tokenizer_config", NULL);
	files.generation_config = member_or(object, "generation_config", NULL);
	files.where = strdup("memory");

	source = calloc(1, sizeof(*source));
	source->path = strdup("memory");
	source->open_file = -1;
	source->reader.fd = -1;
	if (l3_hf_read_config(source, files.config, "memory", &err) == L3_OK &&
		l3_hf_read_tokenizer(source, &files, &err) == L3_OK &&
		l3_source_tokenizer_size(source) <= MAX_IMAGE)
	{
		uint64_t	image_size = l3_source_tokenizer_size(source);
		void	   *image = calloc(1, image_size);

		if (l3_source_build_tokenizer(source, image, image_size, &err) == L3_OK &&
			l3_tokenizer_check(image, image_size, &err) == NULL)
			abort();
		free(image);
	}
	l3_source_close(source);
	l3_hf_files_free(&files);
	json_decref(object);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text;
	size_t		len;

	if (sound_text == NULL)
		build_sound();
	if (size == 0 || data[0] != 1)
	{
		try_text((const char *) data, size);
		return 0;
	}
	text = strdup(sound_text);
	len = strlen(text);
	for (size_t at = 1; at + PLACE_BYTES <= size; at += PLACE_BYTES)
		text[(data[at] | (size_t) data[at + 1] << 8) % len] = (char) data[at + 2];
	try_text(text, len);
	free(text);
	return 0;
}
