/*-------------------------------------------------------------------------
 *
 * vocab.c
 *	  Reading a vocabulary, its tokenizer, and the chat template.
 *
 * bpe_learn.c writes what is read here.
 *
 *-------------------------------------------------------------------------
 */
#include "alphabet.h"
#include "documents.h"
#include "intern.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

/* Places in tr_special_names of those with a role. */
#define SPECIAL_BOS		0
#define SPECIAL_EOS		1
#define SPECIAL_EOT		4
#define SPECIAL_EOM		5

/*
 * Meta's prompt format for Llama 3, as chat.c encodes it.  Other programs
 * render this text with a Jinja interpreter; ours looks for the header token.
 */
const char	tr_chat_template[] =
"{{- bos_token -}}\n"
"{%- for message in messages -%}\n"
"{%- set role = 'ipython' if message['role'] == 'tool' else message['role'] -%}\n"
"{{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' -}}\n"
"{{- (message['content'] | trim) + '<|eot_id|>' -}}\n"
"{%- endfor -%}\n"
"{%- if add_generation_prompt -%}\n"
"{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}\n"
"{%- endif -%}\n";

static char *
copy_text(const char *text, size_t len)
{
	char	   *copy = tr_alloc(len + 1);

	memcpy(copy, text, len);
	return copy;
}

/* ----------------------------------------------------------------
 *		Reading
 * ----------------------------------------------------------------
 */

static void
put_byte_tokens(TrVocab *vocab, TrIntern *set)
{
	uint8_t		byte_of_id[TR_N_BYTES];

	tr_byte_ids(byte_of_id);
	for (int id = 0; id < TR_N_BYTES; id++)
	{
		char		character[2];
		size_t		n = (size_t) tr_byte_character(byte_of_id[id], character);

		vocab->tokens[id] = copy_text(character, n);
		tr_intern(set, character, n, NULL);
	}
}

/* Number of lines; the last one must be ended. */
static int
count_lines(const char *path, const char *data, size_t size)
{
	size_t		n = 0;

	for (size_t i = 0; i < size; i++)
		n += data[i] == '\n';
	if (size > 0 && data[size - 1] != '\n')
		tr_fail("%s: last line does not end in a newline, the file may be cut", path);
	if (n + TR_N_BYTES + TR_N_SPECIALS > UINT16_MAX + 1)
		tr_fail("%s: %zu merges are too many, expected at most %d", path, n,
				UINT16_MAX + 1 - TR_N_BYTES - TR_N_SPECIALS);
	return (int) n;
}

/* Read merge rank from its line, which ends at end. */
static void
read_merge(TrVocab *vocab, TrIntern *set, const char *path, int rank,
		   const char *line, const char *end)
{
	const char *space = memchr(line, ' ', (size_t) (end - line));
	size_t		left_len;
	size_t		right_len;
	char	   *token;
	bool		added;

	if (space == NULL)
		tr_fail("%s:%d: line is not two tokens", path, rank + 1);
	left_len = (size_t) (space - line);
	right_len = (size_t) (end - space - 1);
	if (tr_intern_find(set, line, left_len) < 0 ||
		tr_intern_find(set, space + 1, right_len) < 0)
		tr_fail("%s:%d: merge of a token that no line before makes", path, rank + 1);
	vocab->merge_left[rank] = copy_text(line, left_len);
	vocab->merge_right[rank] = copy_text(space + 1, right_len);

	token = copy_text(line, left_len + right_len);
	memcpy(token + left_len, space + 1, right_len);
	tr_intern(set, token, left_len + right_len, &added);
	if (!added)
		tr_fail("%s:%d: token \"%s\" is there before", path, rank + 1, token);
	vocab->tokens[TR_N_BYTES + rank] = token;
}

TrVocab *
tr_vocab_read(const char *path)
{
	TrVocab    *vocab = tr_alloc(sizeof(*vocab));
	TrIntern	set = {0};
	size_t		size;
	char	   *data = tr_read_file(path, &size);
	const char *line = data;
	int			first_special;

	vocab->n_merges = count_lines(path, data, size);
	vocab->n_tokens = TR_N_BYTES + vocab->n_merges + TR_N_SPECIALS;
	vocab->tokens = tr_alloc((size_t) vocab->n_tokens * sizeof(char *));
	vocab->merge_left = tr_alloc((size_t) (vocab->n_merges + 1) * sizeof(char *));
	vocab->merge_right = tr_alloc((size_t) (vocab->n_merges + 1) * sizeof(char *));
	put_byte_tokens(vocab, &set);
	for (int i = 0; i < vocab->n_merges; i++)
	{
		const char *end = memchr(line, '\n', size - (size_t) (line - data));

		read_merge(vocab, &set, path, i, line, end);
		line = end + 1;
	}
	tr_intern_free(&set);
	free(data);

	first_special = vocab->n_tokens - TR_N_SPECIALS;
	for (int i = 0; i < TR_N_SPECIALS; i++)
		vocab->tokens[first_special + i] = copy_text(tr_special_names[i], strlen(tr_special_names[i]));
	vocab->bos = first_special + SPECIAL_BOS;
	vocab->eos = first_special + SPECIAL_EOS;
	vocab->eot = first_special + SPECIAL_EOT;
	vocab->eom = first_special + SPECIAL_EOM;
	return vocab;
}

void
tr_vocab_free(TrVocab *vocab)
{
	for (int i = 0; i < vocab->n_tokens; i++)
		free(vocab->tokens[i]);
	for (int i = 0; i < vocab->n_merges; i++)
	{
		free(vocab->merge_left[i]);
		free(vocab->merge_right[i]);
	}
	free(vocab->tokens);
	free(vocab->merge_left);
	free(vocab->merge_right);
	free(vocab);
}

/* ----------------------------------------------------------------
 *		The tokenizer
 * ----------------------------------------------------------------
 */

static L3Slice *
slices(char *const *texts, int n)
{
	L3Slice    *slices = tr_alloc((size_t) (n + 1) * sizeof(L3Slice));

	for (int i = 0; i < n; i++)
	{
		slices[i].data = texts[i];
		slices[i].len = (uint32_t) strlen(texts[i]);
	}
	return slices;
}

L3Tokenizer *
tr_vocab_tokenizer(const TrVocab *vocab)
{
	L3Slice    *tokens = slices(vocab->tokens, vocab->n_tokens);
	L3Slice    *left = slices(vocab->merge_left, vocab->n_merges);
	L3Slice    *right = slices(vocab->merge_right, vocab->n_merges);
	uint8_t    *types = tr_alloc((size_t) vocab->n_tokens);
	L3TokenizerSpec spec = {
		.where = "vocabulary",.pre = "llama-bpe",
		.n_tokens = (uint32_t) vocab->n_tokens,.tokens = tokens,.types = types,
		.n_merges = (uint32_t) vocab->n_merges,.merge_left = left,.merge_right = right,
		.bos = vocab->bos,.eos = vocab->eot,.eot = vocab->eot,.eom = vocab->eom,
		.add_bos = true,
		.chat_template = tr_chat_template,.chat_template_len = strlen(tr_chat_template)
	};
	uint64_t	size;
	L3Error		err;
	L3Tokenizer *tok;

	for (int i = 0; i < vocab->n_tokens; i++)
		types[i] = i < vocab->n_tokens - TR_N_SPECIALS ? L3_TOKEN_NORMAL : L3_TOKEN_CONTROL;
	if (l3_tokenizer_image_size(&spec, &size, &err) != L3_OK)
		tr_fail("%s", err.message);
	tok = tr_alloc(size);
	if (l3_tokenizer_build(&spec, tok, size, &err) != L3_OK)
		tr_fail("%s", err.message);
	free(tokens);
	free(left);
	free(right);
	free(types);
	return tok;
}
