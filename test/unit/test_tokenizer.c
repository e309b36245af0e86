/*-------------------------------------------------------------------------
 *
 * test_tokenizer.c
 *	  Building, checking and using tokenizer images.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "tap.h"
#include "tokenizer_image.h"
#include "unit/tiny_vocab.h"

/* ----------------------------------------------------------------
 *		Memory that can fail, and the largest piece of it that was asked for
 * ----------------------------------------------------------------
 */
#ifndef L3_SANITIZED
extern void *__libc_malloc(size_t n);

static size_t malloc_limit = SIZE_MAX;
static size_t malloc_largest;

void *
malloc(size_t n)
{
	if (n > malloc_largest)
		malloc_largest = n;
	return n > malloc_limit ? NULL : __libc_malloc(n);
}
#endif

static void *
build(const char *pre, TinyVocab *v, uint64_t *size)
{
	L3Error		err;
	void	   *image;

	tiny_vocab(v, pre);
	image = tiny_build(v, size, &err);
	if (image == NULL)
	{
		printf("Bail out! %s %s\n", err.message, err.detail);
		exit(1);
	}
	return image;
}

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Is text encoded as these pieces (joined by \1)? */
static void
encodes_as(const L3Tokenizer *tok, const char *expected, bool special, const char *what)
{
	char		text[256];
	char		got[512];
	size_t		n = 0;
	size_t		g = 0;
	L3Ids		ids = {0};
	L3Error		err;

	for (const char *p = expected; *p != '\0'; p++)
		if (*p != '\1')
			text[n++] = *p;
	l3_tokenizer_encode_ids(tok, text, n, special, &ids, &err);
	for (size_t i = 0; i < ids.n; i++)
	{
		uint32_t	len;
		const char *piece = l3_tokenizer_piece(tok, ids.ids[i], &len);

		if (i > 0)
			got[g++] = '\1';
		memcpy(got + g, piece, len);
		g += len;
	}
	tap_ok(g == strlen(expected) && memcmp(got, expected, g) == 0, "%s", what);
	l3_ids_free(&ids);
}

#define _ "\1"

static void
test_encode(void)
{
	TinyVocab	v;
	uint64_t	size;
	L3Tokenizer *tok = build("llama-bpe", &v, &size);

	encodes_as(tok, "hello" _ " world", false, "merges make words");
	encodes_as(tok, "aa" _ "a", false, "of equal ranks the leftmost pair merges first");
	encodes_as(tok, "123" _ "12", false, "the pre-split keeps merges apart");
	encodes_as(tok, "zebra" _ "\n" _ "abc", false, "llama-bpe takes a whole pre-token without merges");
	encodes_as(tok, "\xC3" _ "\xFF", false, "bytes without merges are single tokens");
	free(tok);
	tok = build("gpt-2", &v, &size);
	encodes_as(tok, "z" _ "e" _ "b" _ "r" _ "a", false, "gpt-2 does not");
	encodes_as(tok, "a" _ "bc", false, "the lower rank merges first, wherever it stands");
	encodes_as(tok, "hello" _ " world", false, "gpt-2 merges alike");
	free(tok);
}

/* Merging as the papers write it: find the best pair, merge it, again. */
static size_t
merge_plainly(const L3Tokenizer *tok, const uint8_t *bytes, size_t n, uint32_t *ids)
{
	const uint32_t *products = L3_TOK_SECTION(tok, uint32_t, products);

	for (size_t i = 0; i < n; i++)
		ids[i] = tok->header.byte_ids[bytes[i]];
	for (;;)
	{
		uint32_t	best_rank = L3_NO_RANK;
		size_t		best = 0;

		for (size_t i = 0; i + 1 < n; i++)
		{
			uint32_t	rank = l3_tok_find_merge(tok, ids[i], ids[i + 1]);

			if (rank < best_rank)
			{
				best_rank = rank;
				best = i;
			}
		}
		if (best_rank == L3_NO_RANK)
			return n;
		ids[best] = products[best_rank];
		memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof(*ids));
		n--;
	}
}

static void
test_merging(void)
{
	static const char letters[] = "aaaabbccheloor  wd12-<|>_";
	TinyVocab	v;
	uint64_t	size;
	L3Tokenizer *tok = build("llama-bpe", &v, &size);
	uint64_t	state = 7;
	unsigned	wrong = 0;
	L3Bpe		bpe = {0};

	for (int round = 0; round < 20000; round++)
	{
		uint8_t		bytes[200];
		uint32_t	expected[200];
		const uint32_t *ids;
		size_t		n = 1 + next_random(&state) % (round % 2 ? 40 : 200);
		size_t		n_expected;
		size_t		n_ids;

		for (size_t i = 0; i < n; i++)
			bytes[i] = (uint8_t) letters[next_random(&state) % (sizeof(letters) - 1)];
		n_expected = merge_plainly(tok, bytes, n, expected);
		if (!l3_bpe_merge(&bpe, tok, bytes, n, &ids, &n_ids) || n_ids != n_expected ||
			memcmp(ids, expected, n_ids * sizeof(*ids)) != 0)
			wrong++;
	}
	tap_ok(wrong == 0, "20000 random words of 1 to 200 bytes merge as the plain algorithm merges");
	l3_bpe_free(&bpe);
	free(tok);
}

/* Does any id above the ordinary tokens come out of this text? */
static bool
yields_special(const L3Tokenizer *tok, const TinyVocab *v, const char *text, size_t len)
{
	L3Ids		ids = {0};
	L3Error		err;
	bool		found = false;

	l3_tokenizer_encode_ids(tok, text, len, false, &ids, &err);
	for (size_t i = 0; i < ids.n; i++)
		found |= ids.ids[i] >= v->user_defined || ids.ids[i] < 0;
	l3_ids_free(&ids);
	return found;
}

static void
test_injection(const char *pre)
{
	TinyVocab	v;
	uint64_t	size;
	L3Tokenizer *tok = build(pre, &v, &size);
	unsigned	in_text = 0;
	unsigned	not_found = 0;

	for (int32_t id = v.user_defined; id < (int32_t) v.spec.n_tokens; id++)
	{
		const char *name = v.tokens[id].data;
		size_t		n = v.tokens[id].len;
		char		text[128];
		L3Ids		ids = {0};
		L3Error		err;

		in_text += yields_special(tok, &v, name, n);
		/* Embedded, doubled, nested into itself, and cut short at each end. */
		snprintf(text, sizeof(text), "a %s\n%s%sb<|%s|>", name, name, name, name);
		in_text += yields_special(tok, &v, text, strlen(text));
		for (size_t cut = 1; cut < n; cut++)
		{
			snprintf(text, sizeof(text), "%.*s%s%s", (int) cut, name, name, name + cut);
			in_text += yields_special(tok, &v, text, strlen(text));
		}
		snprintf(text, sizeof(text), "a%s ", name);
		l3_tokenizer_encode_ids(tok, text, strlen(text), true, &ids, &err);
		not_found += ids.n != 3 || ids.ids[1] != id;
		l3_ids_free(&ids);
	}
	tap_ok(in_text == 0, "%s: no special token comes out of text that spells it", pre);
	tap_ok(not_found == 0, "%s: each is recognised when special tokens are asked for", pre);
	free(tok);
}

static void
test_special_texts(void)
{
	TinyVocab	v;
	uint64_t	size;
	L3Error		err;
	L3Tokenizer *tok;
	int32_t		shadow;
	int32_t		lone;

	tiny_vocab(&v, "llama-bpe");
	shadow = tiny_add(&v, "hello", L3_TOKEN_CONTROL);
	lone = tiny_add(&v, "quux", L3_TOKEN_CONTROL);
	tiny_add(&v, "<|eot_id|><|eot_id|>", L3_TOKEN_USER_DEFINED);
	tiny_add(&v, "<|eot", L3_TOKEN_USER_DEFINED);
	tok = tiny_build(&v, &size, &err);
	encodes_as(tok, "hello" _ "\n" _ "q" _ "u" _ "u" _ "x", false,
			   "a control token spelt like a word stays out of text");
	tap_ok(l3_tokenizer_special(tok, "hello") == shadow &&
		   l3_tokenizer_special(tok, "quux") == lone, "and is found by its text");
	encodes_as(tok, "<|eot_id|><|eot_id|>" _ "<|eot_id|>" _ "<|eot" _ "_id" _ "x", true,
			   "the longest special token wins at each position");
	encodes_as(tok, "aa" _ "<|eot_id|>" _ "a", true, "special tokens keep merges apart");
	tap_ok(l3_tokenizer_special(tok, "<|eot_id|") == -1 && l3_tokenizer_special(tok, "") == -1,
		   "half a special token is none");
	free(tok);

	/* Some converters give special tokens the ordinary type. */
	tiny_vocab(&v, "llama-bpe");
	for (int32_t id = v.begin_of_text; id < (int32_t) v.spec.n_tokens; id++)
		v.types[id] = L3_TOKEN_NORMAL;
	tok = tiny_build(&v, &size, &err);
	tap_ok(l3_tokenizer_is_special(tok, v.eot) && l3_tokenizer_special(tok, "<|eot_id|>") == v.eot &&
		   !yields_special(tok, &v, "<|eot_id|>", 10),
		   "Llama 3's special tokens are special whatever type the file gives");
	free(tok);
}

static void
test_roles(void)
{
	static const int32_t more[] = {65};
	TinyVocab	v;
	uint64_t	size;
	L3Error		err;
	L3Tokenizer *tok;

	tok = build("llama-bpe", &v, &size);
	tap_ok(l3_tokenizer_bos(tok) == v.begin_of_text && l3_tokenizer_add_bos(tok) &&
		   l3_tokenizer_eot(tok) == v.eot, "begin of text, and end of turn found by name");
	tap_ok(l3_tokenizer_is_stop(tok, v.eot) && l3_tokenizer_is_stop(tok, v.end_of_text) &&
		   !l3_tokenizer_is_stop(tok, v.begin_of_text) && !l3_tokenizer_is_stop(tok, 65) &&
		   !l3_tokenizer_is_stop(tok, -1) && !l3_tokenizer_is_stop(tok, 1 << 30),
		   "stop tokens by name");
	tap_ok(l3_tokenizer_chat_form(tok) == L3_CHAT_LLAMA31 && l3_tokenizer_has_template(tok),
		   "3.1's chat form is recognised");
	free(tok);

	tiny_vocab(&v, "llama-bpe");
	v.spec.bos = v.spec.eos = -1;
	v.spec.eot = 66;
	v.spec.eom = 67;
	v.spec.stop_ids = more;
	v.spec.n_stop_ids = 1;
	v.spec.chat_template = "<|start_header_id|>";
	v.spec.chat_template_len = strlen(v.spec.chat_template);
	tok = tiny_build(&v, &size, &err);
	tap_ok(l3_tokenizer_is_stop(tok, 65) && l3_tokenizer_is_stop(tok, 66) &&
		   l3_tokenizer_is_stop(tok, 67) && l3_tokenizer_eot(tok) == 66 &&
		   l3_tokenizer_bos(tok) == v.begin_of_text, "and those that the file names");
	tap_ok(l3_tokenizer_is_stop(tok, v.eot) && l3_tokenizer_is_stop(tok, v.end_of_text),
		   "those of the known names stay stop tokens");
	tap_ok(l3_tokenizer_chat_form(tok) == L3_CHAT_LLAMA30, "3.0's chat form is recognised");
	free(tok);

	tiny_vocab(&v, "llama-bpe");
	v.tokens[v.eot].data = "<|eot|>";
	v.tokens[v.eot].len = 7;
	tok = tiny_build(&v, &size, &err);
	tap_ok(l3_tokenizer_chat_form(tok) == L3_CHAT_NONE && l3_tokenizer_has_template(tok) &&
		   l3_tokenizer_eot(tok) == v.end_of_text,
		   "without its tokens there is no chat form, and end of text ends the turn");
	free(tok);
}

/* Does building fail with this status and these words? */
static void
refuses(const TinyVocab *v, L3Status status, const char *words, const char *what)
{
	L3Error		err = {0};
	uint64_t	size;
	void	   *image = tiny_build(v, &size, &err);
	bool		ok = image == NULL && err.status == status &&
		(strstr(err.message, words) != NULL || strstr(err.detail, words) != NULL);

	tap_ok(ok, "%s", what);
	if (!ok)
		tap_note("%s | %s", err.message, err.detail);
	free(image);
}

static void
test_damaged_specs(void)
{
	TinyVocab	v;
	int32_t		far_id = 100000;

	tiny_vocab(&v, "tekken");
	refuses(&v, L3_ERR_UNSUPPORTED, "llama-bpe", "an unknown pre-tokenizer is refused, the known listed");
	refuses(&v, L3_ERR_UNSUPPORTED, "\"tiny\"", "and the file named");
	tiny_vocab(&v, NULL);
	refuses(&v, L3_ERR_UNSUPPORTED, "pre-tokenizer", "so is none");
	tiny_vocab(&v, "gpt-2");
	v.types[0xC3] = L3_TOKEN_UNUSED;
	refuses(&v, L3_ERR_FORMAT, "0xC3", "a missing byte is named");
	tiny_vocab(&v, "gpt-2");
	v.spec.n_tokens = 200;
	refuses(&v, L3_ERR_FORMAT, "200 tokens", "too few tokens");
	tiny_vocab(&v, "gpt-2");
	v.spec.n_tokens = L3_MAX_VOCAB;
	refuses(&v, L3_ERR_FORMAT, "tokens", "too many tokens");
	tiny_vocab(&v, "gpt-2");
	v.spec.n_merges = 1u << 30;
	refuses(&v, L3_ERR_FORMAT, "merges", "too many merges");
	tiny_vocab(&v, "gpt-2");
	v.types[280] = 99;
	refuses(&v, L3_ERR_FORMAT, "token 280", "an unknown type");
	tiny_vocab(&v, "gpt-2");
	v.right[5] = v.tokens[v.zebra];
	refuses(&v, L3_ERR_FORMAT, "product of merge 5", "a merge whose product is no token");
	tiny_vocab(&v, "gpt-2");
	v.left[7] = (L3Slice) {"nix", 3};
	refuses(&v, L3_ERR_FORMAT, "left side of merge 7", "a merge of an unknown token");
	tiny_vocab(&v, "gpt-2");
	v.left[7] = v.tokens[v.eot];
	refuses(&v, L3_ERR_FORMAT, "merge 7", "a merge of a control token");
	tiny_vocab(&v, "gpt-2");
	v.spec.eos = far_id;
	refuses(&v, L3_ERR_FORMAT, "100000", "an end-of-text id outside the vocabulary");
	tiny_vocab(&v, "gpt-2");
	v.spec.stop_ids = &far_id;
	v.spec.n_stop_ids = 1;
	refuses(&v, L3_ERR_FORMAT, "100000", "a stop id outside the vocabulary");
	tiny_vocab(&v, "gpt-2");
	v.tokens[v.zebra].len = UINT32_MAX;
	v.types[v.zebra] = L3_TOKEN_CONTROL;
	refuses(&v, L3_ERR_FORMAT, "bytes", "an absurdly long token");
}

static void
test_odd_vocabularies(void)
{
	TinyVocab	v;
	uint64_t	size;
	L3Error		err;
	L3Tokenizer *tok;
	L3Ids		ids = {0};
	uint32_t	len;

	tiny_vocab(&v, "llama-bpe");
	tiny_add(&v, "zebra", L3_TOKEN_NORMAL);
	tiny_add(&v, "", L3_TOKEN_NORMAL);
	tiny_add(&v, "", L3_TOKEN_CONTROL);
	tiny_add(&v, "two words", L3_TOKEN_NORMAL); /* not of the alphabet */
	tok = tiny_build(&v, &size, &err);
	l3_tokenizer_encode_ids(tok, "zebra", 5, false, &ids, &err);
	tap_ok(ids.n == 1 && ids.ids[0] == v.zebra, "of equal tokens the first counts");
	tap_ok(l3_tokenizer_piece(tok, v.spec.n_tokens - 2, &len) != NULL && len == 0,
		   "an empty token has an empty piece");
	encodes_as(tok, "t" _ "w" _ "o" _ " wor" _ "d" _ "s", true,
			   "a token outside the alphabet is out of reach");
	tap_ok(l3_tokenizer_piece(tok, -1, &len) == NULL &&
		   l3_tokenizer_piece(tok, (int32_t) v.spec.n_tokens, &len) == NULL,
		   "no piece outside the vocabulary");
	l3_ids_free(&ids);
	free(tok);
}

/* ----------------------------------------------------------------
 *		Damaged images
 * ----------------------------------------------------------------
 */

static bool
ignore_ids(void *ctx, const int32_t *ids, size_t n)
{
	const L3Tokenizer *tok = ctx;

	for (size_t i = 0; i < n; i++)
		if (ids[i] < 0 || (uint32_t) ids[i] >= tok->header.n_tokens)
			abort();
	return false;
}

static volatile uint64_t bytes_read;

static void
use_image(const L3Tokenizer *tok)
{
	static const char text[] = "hello world<|eot_id|>  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"1234\n\n\xFF<tool>zebra --''s";
	L3Error		err;
	uint32_t	len;

	for (int special = 0; special < 2; special++)
		l3_tokenizer_encode(tok, text, sizeof(text) - 1, special, ignore_ids, (void *) tok, &err);
	for (int32_t id = -1; id <= (int32_t) tok->header.n_tokens; id++)
	{
		const char *piece = l3_tokenizer_piece(tok, id, &len);

		for (uint32_t i = 0; piece != NULL && i < len; i++)
			bytes_read += (uint8_t) piece[i];
		l3_tokenizer_is_special(tok, id);
		l3_tokenizer_is_stop(tok, id);
	}
}

static void
test_damaged_images(void)
{
	TinyVocab	v;
	uint64_t	size;
	L3Error		err;
	uint8_t    *image = build("llama-bpe", &v, &size);
	uint8_t    *copy = malloc(size);
	uint64_t	state = 99;
	unsigned	accepted = 0;

	tap_ok(l3_tokenizer_check(image, size, &err) != NULL, "a sound image passes the check");
	tap_ok(l3_tokenizer_check(image, size - 1, &err) == NULL && err.status == L3_ERR_FORMAT,
		   "a truncated one does not");
	tap_ok(l3_tokenizer_check(image, 100, &err) == NULL, "nor one shorter than its header");
	tap_ok(l3_tokenizer_check(image + 4, size - 4, &err) == NULL, "nor one off its alignment");

	/* The use of every image that passes stays inside it: ASan watches. */
	for (size_t byte = 0; byte < sizeof(L3TokenizerHeader); byte++)
	{
		memcpy(copy, image, size);
		copy[byte] ^= (uint8_t) (1 + next_random(&state) % 255);
		if (l3_tokenizer_check(copy, size, &err) != NULL)
		{
			accepted++;
			use_image((const L3Tokenizer *) copy);
		}
	}
	for (int round = 0; round < 5000; round++)
	{
		memcpy(copy, image, size);
		for (int i = 0; i < 1 + round % 4; i++)
			copy[next_random(&state) % size] = (uint8_t) next_random(&state);
		if (l3_tokenizer_check(copy, size, &err) != NULL)
		{
			accepted++;
			use_image((const L3Tokenizer *) copy);
		}
	}
	tap_ok(accepted > 0, "damaged images are refused or harmless (%u passed the check)", accepted);
	free(copy);
	free(image);
}

/* ----------------------------------------------------------------
 *		Long texts
 * ----------------------------------------------------------------
 */

#define LONG_TEXT	1000000

static uint64_t
count_steps(const L3Tokenizer *tok, const char *unit, size_t len, bool special)
{
	size_t		n = strlen(unit);
	char	   *text = malloc(len + n);
	uint64_t	steps = 0;
	L3Error		err;

	for (size_t i = 0; i < len; i += n)
		memcpy(text + i, unit, n);
	if (l3_tok_encode_counted(tok, text, len, special, ignore_ids, (void *) tok,
							  &steps, &err) != L3_OK)
		steps = 0;
	free(text);
	return steps;
}

/*
 * Steps for texts of one repeated unit, of len bytes and of a quarter of that.
 * n log n would take 4.6 times the steps at most, n^2 16 times.
 */
static void
test_scaling(const char *pre, size_t len)
{
	static const char *const units[] = {
		"<|", "<|eot_id|",		/* special tokens are looked for in these */
		"a", "x", " ", "\n", "\r\n", "\t", "1", "12", "-", "'", "'s", "\xE6\x97\xA5",
		"\xCC\x81", "\xFF", " \n", "\xC2\xA0", " a", "\xEF\xBC\x91", "1\xEF\xBC\x91", "$\n",
	};
	TinyVocab	v;
	uint64_t	size;
	L3Tokenizer *tok = build(pre, &v, &size);
	double		worst = 0;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		uint64_t	few = count_steps(tok, units[i], len / 4, i < 2);
		uint64_t	many = count_steps(tok, units[i], len, i < 2);

		if (few == 0 || many == 0)
			worst = 1e9;
		else if ((double) many / (double) few > worst)
			worst = (double) many / (double) few;
	}
	tap_ok(worst < 4.6, "%s: runs of one character take steps near-linear in their length "
		   "(%zu bytes: %.2f times those of a quarter)", pre, len, worst);
	free(tok);
}

static void
test_memory(void)
{
#ifdef L3_SANITIZED
	tap_skip("memory use is counted without sanitizers only");
#else
	TinyVocab	v;
	uint64_t	size;
	L3Error		err;
	L3Tokenizer *tok = build("llama-bpe", &v, &size);
	char	   *text = malloc(LONG_TEXT);
	L3Status	status;
	L3Ids		ids = {0};

	memset(text, 'a', LONG_TEXT);
	malloc_largest = 0;
	status = l3_tokenizer_encode(tok, text, LONG_TEXT, false, ignore_ids, tok, &err);
	tap_ok(status == L3_OK && malloc_largest <= 40 * (size_t) LONG_TEXT,
		   "a word of 1 MB takes %zu bytes a byte, at most 40", malloc_largest / LONG_TEXT);
	malloc_limit = 1000000;
	status = l3_tokenizer_encode_ids(tok, text, LONG_TEXT, false, &ids, &err);
	malloc_limit = SIZE_MAX;
	tap_ok(status == L3_ERR_MEMORY && ids.n == 0, "no memory: an error, and no ids");
	{
		L3Message	message = {"user", 4, text, LONG_TEXT};

		malloc_limit = 1000000;
		status = l3_chat_encode(tok, &message, 1, true, &ids, &err);
		malloc_limit = SIZE_MAX;
		tap_ok(status == L3_ERR_MEMORY && ids.n == 0,
			   "no memory in the middle of a chat: nothing of it is appended");
	}
	l3_ids_free(&ids);
	free(text);
	free(tok);
#endif
}

typedef struct Runs
{
	size_t		calls;
	size_t		longest;
	size_t		stop_after;
} Runs;

static bool
count_runs(void *ctx, const int32_t *ids, size_t n)
{
	Runs	   *runs = ctx;

	(void) ids;
	if (n > runs->longest)
		runs->longest = n;
	return ++runs->calls == runs->stop_after;
}

static void
test_emit(void)
{
	TinyVocab	v;
	uint64_t	size;
	L3Error		err;
	L3Tokenizer *tok = build("gpt-2", &v, &size);
	Runs		runs = {0};
	char		text[10000];
	L3Status	status;

	memset(text, 'x', sizeof(text));
	status = l3_tokenizer_encode(tok, text, sizeof(text), false, count_runs, &runs, &err);
	tap_ok(status == L3_OK && runs.longest == 1024 && runs.calls == 10, "ids come in runs of 1024");
	runs = (Runs) {.stop_after = 2};
	status = l3_tokenizer_encode(tok, text, sizeof(text), false, count_runs, &runs, &err);
	tap_ok(status == L3_ERR_CANCELLED && runs.calls == 2, "the caller can stop");
	runs = (Runs) {0};
	status = l3_tokenizer_encode(tok, "", 0, true, count_runs, &runs, &err);
	tap_ok(status == L3_OK && runs.calls == 0, "no text, no ids");
	free(tok);
}

int
main(void)
{
	test_encode();
	test_merging();
	test_injection("llama-bpe");
	test_injection("gpt-2");
	test_special_texts();
	test_roles();
	test_damaged_specs();
	test_odd_vocabularies();
	test_damaged_images();
	test_scaling("llama-bpe", LONG_TEXT);
	test_scaling("gpt-2", LONG_TEXT / 10);
	test_scaling("smollm", LONG_TEXT / 10);
	test_scaling("qwen2", LONG_TEXT / 10);
	test_scaling("default", LONG_TEXT / 10);
	test_memory();
	test_emit();
	return tap_done();
}
