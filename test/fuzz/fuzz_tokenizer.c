/*-------------------------------------------------------------------------
 *
 * fuzz_tokenizer.c
 *	  Any text through the tokenizer, and any damage to its image.
 *
 * The first byte chooses the pre-tokenizer, the second whether special tokens
 * are recognised and whether the image is damaged; then, for a damaged one, a
 * count and that many places with their new byte; the rest is text.  What must
 * hold:
 *	- a sound image: the ids are in the vocabulary, their pieces are the text
 *	  again, no special token comes out unless asked for, and what is cut at
 *	  l3_utf8_complete and cleaned is valid UTF-8;
 *	- a damaged image that passes the check: the ids are in the vocabulary
 *	  and nothing outside the image is read (the sanitizer watches).
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unit/tiny_vocab.h"
#include "utf8.h"

#define N_PRE			5
#define PLACE_BYTES		4		/* 3 of offset, 1 of value */

static void *images[N_PRE];
static uint64_t image_sizes[N_PRE];
static TinyVocab vocabularies[N_PRE];

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
build_images(void)
{
	static const char *const names[N_PRE] = {
		"llama-bpe", "gpt-2", "smollm", "qwen2", "default"
	};
	L3Error		err;

	for (int i = 0; i < N_PRE; i++)
	{
		tiny_vocab(&vocabularies[i], names[i]);
		images[i] = tiny_build(&vocabularies[i], &image_sizes[i], &err);
		require(images[i] != NULL);
	}
}

/* A copy of the image with the damage that the input asks for. */
static uint8_t *
damaged_image(int which, const uint8_t **data, size_t *size)
{
	uint64_t	n = image_sizes[which];
	uint8_t    *copy = malloc(n);
	unsigned	places = *size > 0 ? **data % 8 : 0;

	require(copy != NULL);
	memcpy(copy, images[which], n);
	if (*size > 0)
	{
		++*data;
		--*size;
	}
	for (; places > 0 && *size >= PLACE_BYTES; places--)
	{
		const uint8_t *p = *data;
		uint32_t	at = p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16;

		copy[at % n] = p[3];
		*data += PLACE_BYTES;
		*size -= PLACE_BYTES;
	}
	return copy;
}

static void
check_ids(const L3Tokenizer *tok, const TinyVocab *v, const L3Ids *ids,
		  const char *text, size_t len, bool special)
{
	size_t		at = 0;

	for (size_t i = 0; i < ids->n; i++)
	{
		uint32_t	n;
		const char *piece = l3_tokenizer_piece(tok, ids->ids[i], &n);

		require(piece != NULL && n > 0 && n <= len - at && memcmp(text + at, piece, n) == 0);
		require(special || ids->ids[i] < v->user_defined);
		at += n;
	}
	require(at == len);
}

static void
check_cleaning(const char *text, size_t len)
{
	char	   *clean = malloc(3 * len + 1);
	size_t		complete = l3_utf8_complete(text, len);
	size_t		n;

	require(clean != NULL && complete <= len && len - complete < 4);
	n = l3_utf8_sanitize(text, complete, clean);
	require(n <= 3 * complete && l3_utf8_complete(clean, n) == n);
	for (size_t i = 0; i < n;)
	{
		uint32_t	cp;

		i += l3_utf8_decode((const uint8_t *) clean + i, n - i, &cp);
		require(cp != L3_UTF8_INVALID && cp != 0);
	}
	free(clean);
}

/* Touch every byte of every piece. */
static void
read_pieces(const L3Tokenizer *tok)
{
	volatile char sink;

	for (uint32_t id = 0; id < l3_tokenizer_n_tokens(tok); id++)
	{
		uint32_t	n;
		const char *piece = l3_tokenizer_piece(tok, (int32_t) id, &n);

		require(piece != NULL);
		for (uint32_t i = 0; i < n; i++)
			sink = piece[i];
	}
	(void) sink;
}

static void
use_damaged(int which, const uint8_t *data, size_t size, bool special)
{
	uint8_t    *copy = damaged_image(which, &data, &size);
	L3Error		err;
	const L3Tokenizer *tok = l3_tokenizer_check(copy, image_sizes[which], &err);
	L3Ids		ids = {0};

	if (tok != NULL)
	{
		read_pieces(tok);
		require(l3_tokenizer_encode_ids(tok, (const char *) data, size, special,
										&ids, &err) == L3_OK);
		for (size_t i = 0; i < ids.n; i++)
			require(ids.ids[i] >= 0 &&
					(uint32_t) ids.ids[i] < l3_tokenizer_n_tokens(tok));
	}
	l3_ids_free(&ids);
	free(copy);
}

static void
use_sound(int which, const char *text, size_t len, bool special)
{
	L3Ids		ids = {0};
	L3Error		err;

	require(l3_tokenizer_encode_ids(images[which], text, len, special, &ids, &err) == L3_OK);
	check_ids(images[which], &vocabularies[which], &ids, text, len, special);
	check_cleaning(text, len);
	l3_ids_free(&ids);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (images[0] == NULL)
		build_images();
	if (size < 2)
		return 0;
	if (data[1] & 2)
		use_damaged(data[0] % N_PRE, data + 2, size - 2, data[1] & 1);
	else
		use_sound(data[0] % N_PRE, (const char *) data + 2, size - 2, data[1] & 1);
	return 0;
}
