/*-------------------------------------------------------------------------
 *
 * mk_vocab.c
 *	  A small, consistent byte-level BPE vocabulary for generated models.
 *
 * Ids 0..255 are the bytes in the order of GPT-2's byte-to-unicode alphabet;
 * then come merges trained here on the text below; then, when the vocabulary
 * is larger than the text has pairs for, made-up words; the last n_specials
 * ids are Llama 3's control tokens in their published order.  With the real
 * size of 128256 and 256 control tokens these stand at 128000, as in the
 * published models.
 *
 * Byte-level BPE: Sennrich et al. 2016, Radford et al. 2019.
 *
 *-------------------------------------------------------------------------
 */
#include "mkmodel.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define N_BYTES			256
#define MAX_TRAINED		1200	/* more merges than the text can give */

/* Written for this purpose; in the public domain. */
static const char training_text[] =
"A table keeps its rows in pages, and every page keeps its own account of what is free. "
"When a row is written, the server looks for a page with enough room; when there is none, it makes the table longer. "
"Nothing is lost: the log is written first, then the page. If the power fails between the two, the log is read again "
"when the server starts, and the page is made whole.\n\n"
"A reader asks for the rows of a table. The planner thinks about the ways there are: it may read all the pages, "
"one after another, or it may ask an index where the wanted rows are. Each way has a cost, and the cheapest way wins. "
"The reader does not see any of this. The reader sees rows, in the order that was asked for.\n\n"
"The weather in the north was cold that year. The ships waited in the harbour until the ice was gone, and the sailors "
"told each other stories about the islands that they had seen: about the bright birds, the tall trees, and the people "
"who lived there and who were never in a hurry. In the evening they sang. When the wind turned at last, they were glad "
"to leave, and they were sorry to leave, as sailors always are.\n\n"
"What is the answer to the question? The answer is yes. What was the question? Nobody remembers. It's what we're told, "
"and I don't think they've checked; you'll see that he'd rather not say, and that she's sure. I'm not.\n\n"
"SELECT id, name, price FROM items WHERE price > 100 AND name LIKE 'a%' ORDER BY price DESC LIMIT 10;\n"
"INSERT INTO items (id, name, price) VALUES (1, 'chair', 49), (2, 'table', 199), (3, 'lamp', 25);\n"
"UPDATE items SET price = price * 2 WHERE id = 3;\n\n"
"int main(void)\n{\n    int i;\n    for (i = 0; i < 10; i++)\n        printf(\"%d\\n\", i);\n    return 0;\n}\n\n"
"The café in the old town opens at 7:30 and closes at 18:00; the crème brûlée is 4,50 and worth it. "
"Die Straße war naß, die Bäume waren grün, und über den Dächern flogen die Vögel nach Süden. "
"In 1999 there were 365 days, and in 2000 there were 366, which makes 731 days in the two years together.\n\n"
"The customer wrote that the parcel had arrived late, that the box was broken, and that the support was friendly and "
"quick. The review is positive about the support and negative about the delivery. The customer asks for a refund of the "
"price of the delivery, and will order again if the answer comes before the weekend. Thank you for the good work!\n\n"
"Water boils at one hundred degrees, unless you are on a mountain. Bread needs flour, water, salt and time; the best "
"bread needs more time. The first rule of the kitchen is to keep the knives sharp, and the second rule is to remember "
"the first rule. A good soup is made of what is there.\n";

/* ----------------------------------------------------------------
 *		The byte-to-unicode alphabet
 * ----------------------------------------------------------------
 */

static bool
is_visible_byte(int byte)
{
	return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/*
 * Visible bytes of Latin-1 stand for themselves, the others for U+0100 and
 * up in order.  Makes the tokens 0..255.
 */
static void
byte_tokens(MkVocab *v, int id_of_byte[N_BYTES])
{
	int			id = 0;
	int			hidden = 0;

	for (int pass = 0; pass < 2; pass++)
	{
		for (int byte = 0; byte < N_BYTES; byte++)
		{
			int			code;
			char	   *text;

			if (is_visible_byte(byte) != (pass == 0))
				continue;
			code = pass == 0 ? byte : 256 + hidden++;
			text = mk_alloc(3);
			if (code < 0x80)
				text[0] = (char) code;
			else
			{
				text[0] = (char) (0xc0 | (code >> 6));
				text[1] = (char) (0x80 | (code & 0x3f));
			}
			v->tokens[id] = text;
			v->types[id] = MK_TOKEN_NORMAL;
			id_of_byte[byte] = id++;
		}
	}
}

/* ----------------------------------------------------------------
 *		Training
 * ----------------------------------------------------------------
 */

/* Letters for the training split: ASCII letters, and bytes of UTF-8 sequences. */
static bool
is_letter_byte(unsigned char c)
{
	return isalpha(c) || c >= 0x80;
}

/* Length of the pre-token at p: the Llama 3 split, near enough for this text. */
static size_t
pretoken_length(const char *p)
{
	size_t		n = 0;

	if (isdigit((unsigned char) p[0]))
	{
		while (n < 3 && isdigit((unsigned char) p[n]))
			n++;
		return n;
	}
	if (p[0] == '\n' || (p[0] == ' ' && p[1] == ' '))
	{
		while (p[n] == p[0] && !(p[0] == ' ' && p[n + 1] != ' '))
			n++;
		return n;
	}
	if (!is_letter_byte((unsigned char) p[0]) && is_letter_byte((unsigned char) p[1]))
		n++;
	if (is_letter_byte((unsigned char) p[n]))
	{
		while (is_letter_byte((unsigned char) p[n]))
			n++;
		return n;
	}
	n = p[0] == ' ' ? 1 : 0;
	while (p[n] && p[n] != ' ' && p[n] != '\n' && !isalnum((unsigned char) p[n]) && (unsigned char) p[n] < 0x80)
		n++;
	return n > 0 ? n : 1;
}

/*
 * The text as ids; -1 ends each pre-token, so that no pair crosses it.
 * Returns the length.
 */
static int
split_text(const int id_of_byte[N_BYTES], int *ids)
{
	const char *p = training_text;
	int			n = 0;

	while (*p)
	{
		size_t		len = pretoken_length(p);

		for (size_t i = 0; i < len; i++)
			ids[n++] = id_of_byte[(unsigned char) p[i]];
		ids[n++] = -1;
		p += len;
	}
	return n;
}

/* The most frequent adjacent pair, the lowest ids on a tie; its count. */
static int
best_pair(const int *ids, int n, uint16_t *counts, int stride, int *left, int *right)
{
	int			best = 0;

	for (int i = 0; i + 1 < n; i++)
	{
		if (ids[i] >= 0 && ids[i + 1] >= 0)
			counts[ids[i] * stride + ids[i + 1]]++;
	}
	for (int i = 0; i + 1 < n; i++)
	{
		int			count;

		if (ids[i] < 0 || ids[i + 1] < 0)
			continue;
		count = counts[ids[i] * stride + ids[i + 1]];
		if (count > best ||
			(count == best && (ids[i] < *left || (ids[i] == *left && ids[i + 1] < *right))))
		{
			best = count;
			*left = ids[i];
			*right = ids[i + 1];
		}
	}
	for (int i = 0; i + 1 < n; i++)
	{
		if (ids[i] >= 0 && ids[i + 1] >= 0)
			counts[ids[i] * stride + ids[i + 1]] = 0;
	}
	return best;
}

static int
replace_pair(int *ids, int n, int left, int right, int merged)
{
	int			out = 0;

	for (int i = 0; i < n; i++)
	{
		if (i + 1 < n && ids[i] == left && ids[i + 1] == right)
		{
			ids[out++] = merged;
			i++;
		}
		else
			ids[out++] = ids[i];
	}
	return out;
}

static char *
join(const char *a, const char *between, const char *b)
{
	size_t		size = strlen(a) + strlen(between) + strlen(b) + 1;
	char	   *s = mk_alloc(size);

	snprintf(s, size, "%s%s%s", a, between, b);
	return s;
}

static bool
has_token(const MkVocab *v, int n, const char *text)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(v->tokens[i], text) == 0)
			return true;
	}
	return false;
}

/*
 * Train merges until the text has no repeated pair or the ids reach limit;
 * returns the first id not used.  Two pairs could give the same text; with
 * this training text none do.
 */
static int
train(MkVocab *v, const int id_of_byte[N_BYTES], int limit)
{
	int			stride = N_BYTES + MAX_TRAINED;
	int		   *ids = mk_alloc(sizeof(int) * 2 * sizeof(training_text));
	uint16_t   *counts = mk_alloc(sizeof(uint16_t) * (size_t) stride * (size_t) stride);
	int			n = split_text(id_of_byte, ids);
	int			next = N_BYTES;

	if (limit > stride)
		limit = stride;
	while (next < limit)
	{
		int			left = 0,
					right = 0;
		char	   *text;

		if (best_pair(ids, n, counts, stride, &left, &right) < 2)
			break;
		text = join(v->tokens[left], "", v->tokens[right]);
		if (has_token(v, next, text))
			mk_fail("the training text makes the token \"%s\" twice", text);
		v->tokens[next] = text;
		v->types[next] = MK_TOKEN_NORMAL;
		v->merges[v->n_merges++] = join(v->tokens[left], " ", v->tokens[right]);
		n = replace_pair(ids, n, left, right, next);
		next++;
	}
	free(counts);
	free(ids);
	return next;
}

/* ----------------------------------------------------------------
 *		Made-up words and control tokens
 * ----------------------------------------------------------------
 */

/* " zq" and five letters: a word that the training text does not make. */
static char *
made_up_word(int i)
{
	char	   *s = mk_alloc(16);

	snprintf(s, 16, "\xc4\xa0zq%c%c%c%c%c", 'a' + i / 456976 % 26, 'a' + i / 17576 % 26,
			 'a' + i / 676 % 26, 'a' + i / 26 % 26, 'a' + i % 26);
	return s;
}

/* Published names of the first control tokens; NULL: reserved. */
static const char *const specials30[] = {
	"begin_of_text", "end_of_text", NULL, NULL, NULL, NULL,
	"start_header_id", "end_header_id", NULL, "eot_id"
};
static const char *const specials31[] = {
	"begin_of_text", "end_of_text", NULL, NULL, "finetune_right_pad_id", NULL,
	"start_header_id", "end_header_id", "eom_id", "eot_id", "python_tag"
};

static void
control_tokens(MkVocab *v, const MkOptions *o)
{
	bool		v30 = o->chat == MK_CHAT_LLAMA30;
	const char *const *names = v30 ? specials30 : specials31;
	int			n_names = (int) (v30 ? sizeof(specials30) : sizeof(specials31)) / (int) sizeof(char *);
	int			first = o->n_vocab - o->n_specials;
	int			reserved = 0;

	for (int i = 0; i < o->n_specials; i++)
	{
		char	   *text = mk_alloc(48);

		if (i < n_names && names[i])
			snprintf(text, 48, "<|%s|>", names[i]);
		else
			snprintf(text, 48, "<|reserved_special_token_%d|>", reserved++);
		v->tokens[first + i] = text;
		v->types[first + i] = MK_TOKEN_CONTROL;
	}
	v->bos = first;
	v->eos = o->chat == MK_CHAT_LLAMA31 ? first + 9 : first + 1;
	v->eot = o->chat == MK_CHAT_NONE ? -1 : first + 9;
	v->eom = o->chat == MK_CHAT_LLAMA31 ? first + 8 : -1;
}

/* ----------------------------------------------------------------
 *		Chat templates, ours, in the published message form
 * ----------------------------------------------------------------
 */

static const char template30[] =
"{%- for m in messages -%}\n"
"{{- (bos_token if loop.first else '') + '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' -}}\n"
"{{- m['content'] | trim + '<|eot_id|>' -}}\n"
"{%- endfor -%}\n"
"{%- if add_generation_prompt -%}\n"
"{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}\n"
"{%- endif -%}\n";

static const char template31[] =
"{%- set today = date_string if date_string is defined else '26 Jul 2024' -%}\n"
"{%- set has_system = messages[0]['role'] == 'system' -%}\n"
"{{- bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\n' -}}\n"
"{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' + today + '\\n\\n' -}}\n"
"{{- (messages[0]['content'] | trim if has_system else '') + '<|eot_id|>' -}}\n"
"{%- for m in (messages[1:] if has_system else messages) -%}\n"
"{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' -}}\n"
"{%- endfor -%}\n"
"{%- if add_generation_prompt -%}\n"
"{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}\n"
"{%- endif -%}\n";

static const char template_unknown[] =
"{%- for m in messages -%}{{- '[' + m['role'] + '] ' + m['content'] + '\\n' -}}{%- endfor -%}\n";

static const char *
chat_template(MkChat chat)
{
	switch (chat)
	{
		case MK_CHAT_NONE:
			break;
		case MK_CHAT_LLAMA30:
			return template30;
		case MK_CHAT_LLAMA31:
			return template31;
		case MK_CHAT_UNKNOWN:
			return template_unknown;
	}
	return NULL;
}

/* ----------------------------------------------------------------
 *		The whole vocabulary
 * ----------------------------------------------------------------
 */

MkVocab *
mk_vocab(const MkOptions *o)
{
	MkVocab    *v = mk_alloc(sizeof(*v));
	int			id_of_byte[N_BYTES];
	int			first_special = o->n_vocab - o->n_specials;
	int			next;

	v->n_tokens = o->n_vocab;
	v->tokens = mk_alloc(sizeof(char *) * (size_t) o->n_vocab);
	v->types = mk_alloc(sizeof(int) * (size_t) o->n_vocab);
	v->merges = mk_alloc(sizeof(char *) * MAX_TRAINED);
	byte_tokens(v, id_of_byte);
	next = train(v, id_of_byte, first_special);
	for (int i = 0; next < first_special; i++, next++)
	{
		v->tokens[next] = made_up_word(i);
		v->types[next] = MK_TOKEN_NORMAL;
	}
	control_tokens(v, o);
	v->chat_template = chat_template(o->chat);
	return v;
}

void
mk_vocab_free(MkVocab *v)
{
	for (int i = 0; i < v->n_tokens; i++)
		free(v->tokens[i]);
	for (int i = 0; i < v->n_merges; i++)
		free(v->merges[i]);
	free(v->tokens);
	free(v->types);
	free(v->merges);
	free(v);
}
