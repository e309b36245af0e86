/*-------------------------------------------------------------------------
 *
 * tiny_vocab.h
 *	  A vocabulary of some 300 tokens for tests of the tokenizer.
 *
 * 256 single bytes, the products of a few merges, a word that no merge makes,
 * and Llama 3's special tokens.  tiny_vocab fills a spec that may be changed
 * before it is built.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TINY_VOCAB_H
#define TINY_VOCAB_H

#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

#define TINY_MAX_TOKENS	400
#define TINY_MAX_MERGES	64
#define TINY_TEXT		16		/* room for one token in the alphabet */

typedef struct TinyVocab
{
	L3TokenizerSpec spec;
	L3Slice		tokens[TINY_MAX_TOKENS];
	uint8_t		types[TINY_MAX_TOKENS];
	L3Slice		left[TINY_MAX_MERGES];
	L3Slice		right[TINY_MAX_MERGES];
	char		bytes[256][3];	/* the alphabet: UTF-8 of each byte's character */
	char		products[TINY_MAX_MERGES][TINY_TEXT];
	int32_t		zebra;			/* the word that no merge makes */
	int32_t		user_defined;	/* "<tool>" */
	int32_t		begin_of_text;
	int32_t		end_of_text;
	int32_t		start_header;
	int32_t		end_header;
	int32_t		eot;
} TinyVocab;

/* By rank.  G stands for the alphabet's space, N for its newline. */
static const char *const tiny_merges[][2] = {
	{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"a", "a"},
	{"aa", "aa"}, {"G", "G"}, {"GG", "GG"}, {"G", "w"}, {"o", "r"}, {"Gw", "or"},
	{"l", "d"}, {"Gwor", "ld"}, {"N", "N"}, {"NN", "NN"}, {"1", "2"},
	{"12", "3"}, {"-", "-"}, {"'", "s"}, {"b", "c"}, {"a", "b"}, {"ab", "c"},
	{"e", "o"}, {"<", "|"}, {"|", ">"}, {"_", "i"}, {"_i", "d"}, {"e", "ot"},
	{"o", "t"}, {".", "NN"}, {"aaaa", "aaaa"}, {"GGGG", "GGGG"},
};
#define TINY_N_MERGES	(sizeof(tiny_merges) / sizeof(tiny_merges[0]))

static void
tiny_alphabet(TinyVocab *v)
{
	int			other = 0;

	for (int byte = 0; byte < 256; byte++)
	{
		int			cp = byte;

		if (byte < 0x21 || (byte > 0x7E && byte < 0xA1) || byte == 0xAD)
			cp = 0x100 + other++;
		memset(v->bytes[byte], 0, 3);
		if (cp < 0x80)
			v->bytes[byte][0] = (char) cp;
		else
		{
			v->bytes[byte][0] = (char) (0xC0 | cp >> 6);
			v->bytes[byte][1] = (char) (0x80 | (cp & 0x3F));
		}
	}
}

/* Append word to out in the alphabet. */
static void
tiny_spell(const TinyVocab *v, const char *word, char *out)
{
	for (; *word != '\0'; word++)
		strcat(out, v->bytes[*word == 'G' ? ' ' : *word == 'N' ? '\n' :
							 (unsigned char) *word]);
}

static int32_t
tiny_add(TinyVocab *v, const char *text, uint8_t type)
{
	uint32_t	id = v->spec.n_tokens++;

	v->tokens[id].data = text;
	v->tokens[id].len = (uint32_t) strlen(text);
	v->types[id] = type;
	return (int32_t) id;
}

static L3Slice
tiny_side(const TinyVocab *v, const char *word)
{
	char		spelled[TINY_TEXT * 2] = "";
	L3Slice		none = {"", 0};

	tiny_spell(v, word, spelled);
	for (uint32_t id = 0; id < v->spec.n_tokens; id++)
		if (v->tokens[id].len == strlen(spelled) &&
			memcmp(v->tokens[id].data, spelled, strlen(spelled)) == 0)
			return v->tokens[id];
	return none;
}

static void
tiny_vocab(TinyVocab *v, const char *pre)
{
	static const char template[] = "{{ bos }}<|start_header_id|> Cutting Knowledge Date";

	memset(v, 0, sizeof(*v));
	tiny_alphabet(v);
	for (int byte = 0; byte < 256; byte++)
		tiny_add(v, v->bytes[byte], L3_TOKEN_NORMAL);
	/* Products first: a merge may use a product of a later one. */
	for (size_t i = 0; i < TINY_N_MERGES; i++)
	{
		tiny_spell(v, tiny_merges[i][0], v->products[i]);
		tiny_spell(v, tiny_merges[i][1], v->products[i]);
		tiny_add(v, v->products[i], L3_TOKEN_NORMAL);
	}
	for (size_t i = 0; i < TINY_N_MERGES; i++)
	{
		v->left[i] = tiny_side(v, tiny_merges[i][0]);
		v->right[i] = tiny_side(v, tiny_merges[i][1]);
	}
	v->zebra = tiny_add(v, "zebra", L3_TOKEN_NORMAL);
	v->user_defined = tiny_add(v, "<tool>", L3_TOKEN_USER_DEFINED);
	v->begin_of_text = tiny_add(v, "<|begin_of_text|>", L3_TOKEN_CONTROL);
	v->end_of_text = tiny_add(v, "<|end_of_text|>", L3_TOKEN_CONTROL);
	v->start_header = tiny_add(v, "<|start_header_id|>", L3_TOKEN_CONTROL);
	v->end_header = tiny_add(v, "<|end_header_id|>", L3_TOKEN_CONTROL);
	v->eot = tiny_add(v, "<|eot_id|>", L3_TOKEN_CONTROL);
	v->spec.where = "tiny";
	v->spec.pre = pre;
	v->spec.tokens = v->tokens;
	v->spec.types = v->types;
	v->spec.n_merges = TINY_N_MERGES;
	v->spec.merge_left = v->left;
	v->spec.merge_right = v->right;
	v->spec.bos = v->begin_of_text;
	v->spec.eos = v->end_of_text;
	v->spec.eot = -1;
	v->spec.eom = -1;
	v->spec.add_bos = true;
	v->spec.chat_template = template;
	v->spec.chat_template_len = sizeof(template) - 1;
}

/* Build the image in fresh memory; NULL with *err set when that fails. */
__attribute__((unused))
static void *
tiny_build(const TinyVocab *v, uint64_t *size, L3Error *err)
{
	void	   *image;

	if (l3_tokenizer_image_size(&v->spec, size, err) != L3_OK)
		return NULL;
	image = calloc(1, *size);
	if (l3_tokenizer_build(&v->spec, image, *size, err) != L3_OK)
	{
		free(image);
		return NULL;
	}
	return image;
}

#endif							/* TINY_VOCAB_H */
