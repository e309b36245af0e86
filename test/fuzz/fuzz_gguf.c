/*-------------------------------------------------------------------------
 *
 * fuzz_gguf.c
 *	  Any bytes as a GGUF file, and any damage to a sound one.
 *
 * An odd first byte: the rest is the file.  An even one: the rest is a list of
 * changes (3 bytes of place, 1 of value) to the header of a sound file, so that
 * the checks behind the header's syntax are reached in seconds.  Whatever
 * opens is loaded too when it is small, and what was loaded must pass
 * l3_arena_check.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"
#include "unit/tiny_gguf.h"

#define PLACE_BYTES		4
#define MAX_ARENA		((uint64_t) 4 << 20)

static Bytes sound;
static size_t sound_header;

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
build_sound(void)
{
	static TinyVocab v;
	TinyGguf	t = tiny_gguf_defaults();
	Bytes		header;

	tiny_vocab(&v, "llama-bpe");
	t.n_layers = 1;
	t.n_embd = 32;
	t.n_heads = 2;
	t.n_kv_heads = 1;
	t.n_ff = 32;
	t.type = 30;
	t.tied = true;
	t.rope_freqs = true;
	sound = tiny_gguf(&t, &v);
	t.header_only = true;
	header = tiny_gguf(&t, &v);
	sound_header = header.n;
	free(header.data);
}

static void
load(L3Source *source)
{
	uint64_t	size = l3_source_arena_size(source);
	uint64_t	tokenizer_size = l3_source_tokenizer_size(source);
	void	   *tokenizer;
	void	   *arena;
	L3Error		err;

	if (size > MAX_ARENA || tokenizer_size == 0 || tokenizer_size > MAX_ARENA)
		return;
	tokenizer = calloc(1, tokenizer_size);
	arena = aligned_alloc(L3_ARENA_ALIGN, size);
	memset(arena, 0, size);
	if (l3_source_build_tokenizer(source, tokenizer, tokenizer_size, &err) == L3_OK &&
		l3_source_load(source, arena, size, tokenizer, tokenizer_size, NULL, NULL, &err) == L3_OK &&
		l3_arena_check(arena, size, &err) == NULL)
		abort();
	free(arena);
	free(tokenizer);
}

static void
try_file(const uint8_t *data, size_t size, bool headers_only)
{
	/* On the heap and of the exact size, so that the sanitizer sees overruns. */
	uint8_t    *file = malloc(size == 0 ? 1 : size);
	L3LoadOptions options = {size % 2 == 0 ? L3_QUANTIZE_NONE : L3_QUANTIZE_Q8_0};
	L3Source   *source;
	L3Error		err;

	if (size > 0)
		memcpy(file, data, size);
	if (l3_source_open_memory(file, size, headers_only, &options, &source, &err) == L3_OK)
	{
		load(source);
		l3_source_close(source);
	}
	free(file);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t    *copy;

	if (sound.data == NULL)
		build_sound();
	if (size == 0)
		return 0;
	if (data[0] % 2 == 1)
	{
		try_file(data + 1, size - 1, data[0] & 2);
		return 0;
	}
	copy = malloc(sound.n);
	memcpy(copy, sound.data, sound.n);
	for (size_t at = 1; at + PLACE_BYTES <= size; at += PLACE_BYTES)
	{
		size_t		place = data[at] | (size_t) data[at + 1] << 8 | (size_t) data[at + 2] << 16;

		copy[place % sound_header] = data[at + 3];
	}
	try_file(copy, sound.n, data[0] & 2);
	free(copy);
	return 0;
}
