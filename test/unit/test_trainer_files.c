/*-------------------------------------------------------------------------
 *
 * test_trainer_files.c
 *	  What the trainer reads: vocabularies and documents.
 *
 * The learner is compared with one that counts all pairs anew at each merge,
 * and the engine's tokenizer with merging in order of rank.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "pretokenize.h"
#include "unit/trainer_fixture.h"

#define N_CONTROL	TR_N_SPECIALS
#define MAX_IDS		1024
#define MAX_PIECE	1024

/* ----------------------------------------------------------------
 *		A learner that counts everything each time
 * ----------------------------------------------------------------
 */

typedef struct Naive
{
	char	   *piece[MAX_IDS]; /* bytes of each token */
	int			piece_len[MAX_IDS];
	int			left[MAX_IDS];	/* of the token, by id */
	int			right[MAX_IDS];
	int			n;				/* tokens */
} Naive;

static int
naive_find(const Naive *naive, const char *bytes, int len)
{
	for (int id = 0; id < naive->n; id++)
	{
		if (naive->piece_len[id] == len && memcmp(naive->piece[id], bytes, (size_t) len) == 0)
			return id;
	}
	return -1;
}

static void
naive_add(Naive *naive, const char *bytes, int len)
{
	naive->piece[naive->n] = malloc((size_t) len);
	memcpy(naive->piece[naive->n], bytes, (size_t) len);
	naive->piece_len[naive->n++] = len;
}

/* Printable Latin-1 first, then the others: the ids of bytes. */
static void
naive_bytes(Naive *naive)
{
	for (int hidden = 0; hidden < 2; hidden++)
	{
		for (int byte = 0; byte < 256; byte++)
		{
			bool		visible = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
			char		c = (char) byte;

			if (visible != hidden)
				naive_add(naive, &c, 1);
		}
	}
}

/* Replace left, right by id; returns the new length. */
static int
naive_replace(int *ids, int n, int left, int right, int id)
{
	int			out = 0;

	for (int i = 0; i < n; i++)
	{
		bool		here = i + 1 < n && ids[i] == left && ids[i + 1] == right;

		ids[out++] = here ? id : ids[i];
		i += here;
	}
	return out;
}

/* The text as ids of bytes, -1 between pre-tokens; (2 * len). */
static int
naive_split(const Naive *naive, const char *text, size_t len, int *ids)
{
	L3Splitter	splitter;
	size_t		start;
	size_t		n;
	int			out = 0;

	l3_split_begin(&splitter, L3_PRE_LLAMA_BPE, text, len);
	while (l3_split_next(&splitter, &start, &n))
	{
		for (size_t i = 0; i < n; i++)
			ids[out++] = naive_find(naive, text + start + i, 1);
		ids[out++] = -1;
	}
	return out;
}

static int
naive_join(const Naive *naive, int left, int right, char *bytes)
{
	memcpy(bytes, naive->piece[left], (size_t) naive->piece_len[left]);
	memcpy(bytes + naive->piece_len[left], naive->piece[right], (size_t) naive->piece_len[right]);
	return naive->piece_len[left] + naive->piece_len[right];
}

/* Learn up to n_merges, until no pair is there twice; returns how many. */
static int
naive_learn(Naive *naive, const char *text, size_t len, int n_merges)
{
	int		   *ids = malloc(sizeof(int) * 2 * (len + 1));
	int		   *counts = malloc(sizeof(int) * MAX_IDS * MAX_IDS);
	char		bytes[2 * MAX_PIECE];
	int			n;

	naive_bytes(naive);
	n = naive_split(naive, text, len, ids);
	while (naive->n < 256 + n_merges)
	{
		int			stride = naive->n;
		int			best = 0;

		memset(counts, 0, sizeof(int) * (size_t) (stride * stride));
		for (int i = 0; i + 1 < n; i++)
		{
			if (ids[i] >= 0 && ids[i + 1] >= 0)
				counts[ids[i] * stride + ids[i + 1]]++;
		}
		for (int pair = 1; pair < stride * stride; pair++)
			best = counts[pair] > counts[best] ? pair : best;
		if (counts[best] < 2)
			break;
		naive->left[naive->n] = best / stride;
		naive->right[naive->n] = best % stride;
		naive_add(naive, bytes, naive_join(naive, best / stride, best % stride, bytes));
		n = naive_replace(ids, n, best / stride, best % stride, naive->n - 1);
	}
	free(ids);
	free(counts);
	return naive->n - 256;
}

static void
naive_free(Naive *naive)
{
	for (int id = 0; id < naive->n; id++)
		free(naive->piece[id]);
	memset(naive, 0, sizeof(*naive));
}

/* Each pre-token: a token as it stands, or all merges in order of rank. */
static int
naive_encode(const Naive *naive, const char *text, size_t len, int *ids)
{
	L3Splitter	splitter;
	size_t		start;
	size_t		word;
	int			out = 0;

	l3_split_begin(&splitter, L3_PRE_LLAMA_BPE, text, len);
	while (l3_split_next(&splitter, &start, &word))
	{
		int			whole = naive_find(naive, text + start, (int) word);
		int			n = (int) word;

		if (whole >= 0)
		{
			ids[out++] = whole;
			continue;
		}
		for (int i = 0; i < n; i++)
			ids[out + i] = naive_find(naive, text + start + i, 1);
		for (int id = 256; id < naive->n; id++)
			n = naive_replace(ids + out, n, naive->left[id], naive->right[id], id);
		out += n;
	}
	return out;
}

/* ----------------------------------------------------------------
 *		The vocabulary
 * ----------------------------------------------------------------
 */

/* Do the vocabulary's tokens spell the naive learner's pieces? */
static bool
same_tokens(const TrVocab *vocab, const L3Tokenizer *tok, const Naive *naive)
{
	if (vocab->n_tokens != naive->n + N_CONTROL || vocab->n_merges != naive->n - 256)
		return false;
	for (int id = 0; id < naive->n; id++)
	{
		uint32_t	len;
		const char *piece = l3_tokenizer_piece(tok, id, &len);

		if ((int) len != naive->piece_len[id] || memcmp(piece, naive->piece[id], len) != 0)
			return false;
		if (id >= 256 && (strcmp(vocab->merge_left[id - 256], vocab->tokens[naive->left[id]]) != 0 ||
						  strcmp(vocab->merge_right[id - 256], vocab->tokens[naive->right[id]]) != 0))
			return false;
	}
	return true;
}

static bool
same_encoding(const L3Tokenizer *tok, const Naive *naive, const char *text, size_t len)
{
	int		   *expected = malloc(sizeof(int) * (len + 1));
	int			n = naive_encode(naive, text, len, expected);
	L3Ids		ids = {0};
	L3Error		err;
	bool		same = l3_tokenizer_encode_ids(tok, text, len, false, &ids, &err) == L3_OK &&
		ids.n == (size_t) n && memcmp(ids.ids, expected, sizeof(int) * ids.n) == 0;
	size_t		at = 0;

	/* And back. */
	for (size_t i = 0; same && i < ids.n; i++)
	{
		uint32_t	piece_len;
		const char *piece = l3_tokenizer_piece(tok, ids.ids[i], &piece_len);

		same = at + piece_len <= len && memcmp(piece, text + at, piece_len) == 0;
		at += piece_len;
	}
	l3_ids_free(&ids);
	free(expected);
	return same && at == len;
}

typedef struct Verdict
{
	bool		merges;
	bool		encoding;
} Verdict;

/* Learn from the text both ways; encode it and another text. */
static Verdict
compare(const char *text, size_t len, const char *other, size_t other_len, int n_merges)
{
	Naive		naive = {0};
	int			n = naive_learn(&naive, text, len, n_merges);
	const char *out = fixture_path("vocab");
	TrVocab    *vocab;
	L3Tokenizer *tok;
	Verdict		verdict;

	tr_vocab_learn(fixture_document("documents", text, len), 256 + n + N_CONTROL, out);
	vocab = tr_vocab_read(out);
	tok = tr_vocab_tokenizer(vocab);
	verdict.merges = same_tokens(vocab, tok, &naive);
	verdict.encoding = verdict.merges && same_encoding(tok, &naive, text, len) &&
		same_encoding(tok, &naive, other, other_len);
	naive_free(&naive);
	tr_vocab_free(vocab);
	free(tok);
	return verdict;
}

static void
test_learner(void)
{
	size_t		len = strlen(fixture_text);
	Verdict		real = compare(fixture_text, len, "an unseen Straße, 123456", 25, 220);
	bool		merges = true;
	bool		encoding = true;
	TrRandom	random = {42};

	tap_ok(real.merges, "merges of real text are those of counting anew each time");
	tap_ok(real.encoding, "real text is encoded as by merging in order of rank, and decodes to itself");

	/* Few letters: many ties and overlaps. */
	for (int round = 0; round < 60; round++)
	{
		char		text[500];
		char		other[200];
		unsigned	letters = 2 + round % 3;
		Verdict		verdict;

		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = tr_random(&random) % 12 == 0 ? ' ' : (char) ('a' + tr_random(&random) % letters);
		for (size_t i = 0; i < sizeof(other); i++)
			other[i] = tr_random(&random) % 9 == 0 ? '\n' : (char) ('a' + tr_random(&random) % letters);
		verdict = compare(text, sizeof(text), other, sizeof(other), 40 + round);
		merges = merges && verdict.merges;
		encoding = encoding && verdict.encoding;
	}
	tap_ok(merges, "merges of random text are those of counting anew each time");
	tap_ok(encoding, "random text is encoded as by merging in order of rank, and decodes to itself");
}

/* A file of many lines is learned as the sum of its fields. */
static void
test_learner_fields(void)
{
	static const char lines[] = "3\t0\tabab<|eot_id|>\t15\t abab\n-1\t1\tab<|begin_of_text|>ab\n-1\t1\tab<|eot_i\n";
	TrVocab    *vocab;

	tr_vocab_learn(fixture_write("documents", lines, strlen(lines)), 256 + 2 + N_CONTROL, fixture_path("vocab"));
	vocab = tr_vocab_read(fixture_path("vocab"));
	tap_ok(strcmp(vocab->tokens[256], "ab") == 0 && strcmp(vocab->tokens[257], "abab") == 0,
		   "all fields are counted, and control tokens are not text");
	tap_ok(strcmp(vocab->tokens[vocab->bos], "<|begin_of_text|>") == 0 && vocab->bos == 258 &&
		   strcmp(vocab->tokens[vocab->eos], "<|end_of_text|>") == 0 &&
		   strcmp(vocab->tokens[vocab->eot], "<|eot_id|>") == 0 &&
		   strcmp(vocab->tokens[vocab->eom], "<|eom_id|>") == 0 &&
		   strcmp(vocab->tokens[vocab->n_tokens - 1], "<|reserved_special_token_7|>") == 0,
		   "control tokens stand at the end");
	tr_vocab_free(vocab);
}

static void
learn_too_many(const void *arg)
{
	tr_vocab_learn(fixture_document("documents", "abab", 4), *(const int *) arg, fixture_path("vocab"));
}

static void
read_vocab(const void *arg)
{
	tr_vocab_read(fixture_write("bad", arg, strlen(arg)));
}

static void
test_bad_vocabularies(void)
{
	static const struct
	{
		const char *file;
		const char *message;
	}			bad[] =
	{
		{"a b\nab\n", "/bad:2: line is not two tokens"},
		{"a b\nab \n", "/bad:2: merge of a token that no line before makes"},
		{"a b\nb c\nab cd\n", "/bad:3: merge of a token that no line before makes"},
		{"a b\nb c\nab c\na bc\n", "/bad:4: token \"abc\" is there before"},
		{"a b\nb c", "last line does not end in a newline"},
	};
	int			n_tokens = 300;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		tap_ok(fixture_fails(read_vocab, bad[i].file, bad[i].message),
			   "refused vocabulary: %s", bad[i].message);
	unlink(fixture_path("vocab"));
	tap_ok(fixture_fails(learn_too_many, &n_tokens, "give only 273 tokens") &&
		   access(fixture_path("vocab"), F_OK) != 0,
		   "documents that are too few for a vocabulary are refused, and no file is made");
	n_tokens = 65537;
	tap_ok(fixture_fails(learn_too_many, &n_tokens, "invalid number of tokens 65537"),
		   "ids have 16 bits");
}

/* ----------------------------------------------------------------
 *		The corpus
 * ----------------------------------------------------------------
 */

/* Append text to ids as the engine encodes it. */
static void
encode(const L3Tokenizer *tok, const char *text, L3Ids *ids)
{
	L3Error		err;

	l3_tokenizer_encode_ids(tok, text, strlen(text), false, ids, &err);
}

static void
append(L3Ids *ids, int32_t id)
{
	L3Error		err;

	l3_ids_append(ids, &id, 1, &err);
}

static bool
ids_are(const TrDocument *document, const L3Ids *ids)
{
	if ((size_t) document->n_tokens != ids->n)
		return false;
	for (size_t i = 0; i < ids->n; i++)
	{
		if (document->ids[i] != ids->ids[i])
			return false;
	}
	return true;
}

/* Are the weights w up to token border and x behind, the first one 0? */
static bool
weights_are(const TrDocument *document, size_t border, float w, float x)
{
	for (int i = 1; i < document->n_tokens; i++)
	{
		if (document->weights[i] != ((size_t) i < border ? w : x))
			return false;
	}
	return document->weights[0] == 0;
}

static TrCorpus *
read_lines(const char *lines, const L3Tokenizer *tok, int max_tokens)
{
	return tr_corpus_read(fixture_write("documents", lines, strlen(lines)), tok, max_tokens);
}

static void
test_chat_document(const TrVocab *vocab, const L3Tokenizer *tok)
{
	static const char line[] =
	"-1\t0\t<|begin_of_text|><|start_header_id|>system<|end_header_id|>\\n\\nYou count rows.<|eot_id|>"
	"<|start_header_id|>user<|end_header_id|>\\n\\nHow many\\trows\\\\pages?<|eot_id|>"
	"<|start_header_id|>assistant<|end_header_id|>\\n\\n\t0.25\tForty-two.<|eot_id|>\n";
	static const L3Message messages[] = {
		{"system", 6, "You count rows.", 15}, {"user", 4, "How many\trows\\pages?", 20}
	};
	TrCorpus   *corpus = read_lines(line, tok, 1000);
	const TrDocument *document = &corpus->documents[0];
	L3Ids		ids = {0};
	L3Error		err;
	size_t		border;

	l3_chat_encode(tok, messages, 2, true, &ids, &err);
	border = ids.n;
	encode(tok, "Forty-two.", &ids);
	append(&ids, vocab->eot);
	tap_ok(corpus->n_documents == 1 && ids_are(document, &ids),
		   "a conversation has the ids of the engine's prompt and of the answer");
	tap_ok(weights_are(document, border, 0, 0.25f), "weights are those of the fields");
	tap_ok(document->group == -1 && document->n_pooled == document->n_tokens - 1,
		   "the trailing control token is not pooled");
	l3_ids_free(&ids);
	tr_corpus_free(corpus);
}

static void
test_documents(const TrVocab *vocab, const L3Tokenizer *tok)
{
	static const char lines[] =
	"7\t1\t<|begin_of_text|>the rows <|eot_id of a table<|end_of_text|><|end_of_text|>\n"
	"-1\t0\tpages\t1.5\tpages\n"
	"0\t15\tpage\n";
	TrCorpus   *corpus = read_lines(lines, tok, 1000);
	const TrDocument *d = corpus->documents;
	L3Ids		ids = {0};
	size_t		border;

	append(&ids, vocab->bos);
	encode(tok, "the rows <|eot_id of a table", &ids);
	append(&ids, vocab->eos);
	append(&ids, vocab->eos);
	tap_ok(corpus->n_documents == 3 && ids_are(&d[0], &ids) && weights_are(&d[0], 0, 1, 1),
		   "what only looks like a control token is text");
	tap_ok(d[0].group == 7 && d[0].n_pooled == d[0].n_tokens - 2 && d[2].group == 0 &&
		   d[2].n_pooled == d[2].n_tokens, "groups, and tokens to pool");
	ids.n = 0;
	encode(tok, "pages", &ids);
	border = ids.n;
	encode(tok, "pages", &ids);
	tap_ok(ids_are(&d[1], &ids) && weights_are(&d[1], border, 0, 1.5f), "fields are encoded one by one");
	tap_ok(corpus->n_tokens == d[0].n_tokens + d[1].n_tokens + d[2].n_tokens, "tokens are counted");
	tr_corpus_free(corpus);

	corpus = read_lines(lines, tok, 3);
	d = corpus->documents;
	ids.n = 0;
	encode(tok, "the rows", &ids);
	tap_ok(d[0].n_tokens == 3 && d[0].n_pooled == 3 && d[0].ids[0] == vocab->bos &&
		   d[0].ids[1] == ids.ids[0] && d[2].n_tokens <= 3 && d[2].group == 0 &&
		   corpus->n_tokens == d[0].n_tokens + d[1].n_tokens + d[2].n_tokens,
		   "long documents are cut");
	l3_ids_free(&ids);
	tr_corpus_free(corpus);
}

static const L3Tokenizer *bad_tok;

static void
read_bad(const void *arg)
{
	char		lines[512];
	size_t		n = (size_t) snprintf(lines, sizeof(lines), "-1\t1\ta sound line\n%s", (const char *) arg);

	/* '@' stands for a NUL. */
	for (size_t i = 0; i < n; i++)
		lines[i] = lines[i] == '@' ? '\0' : lines[i];
	tr_corpus_read(fixture_write("bad", lines, n), bad_tok, 1000);
}

static void
test_bad_documents(const L3Tokenizer *tok)
{
	static const struct
	{
		const char *line;
		const char *message;
	}			bad[] =
	{
		{"\n", "invalid group \"\", expected an integer from -1"},
		{"x\t1\ttext\n", "invalid group \"x\""},
		{"-2\t1\ttext\n", "invalid group \"-2\""},
		{"1-\t1\ttext\n", "invalid group \"1-\""},
		{"2147483648\t1\ttext\n", "invalid group \"2147483648\""},
		{"-1\n", "document has no fields"},
		{"-1\t1\n", "weight without a text"},
		{"-1\t1\ttext\t1\n", "weight without a text"},
		{"-1\t\ttext\n", "invalid weight \"\", expected a number from 0 to 15"},
		{"-1\t15.5\ttext\n", "invalid weight \"15.5\""},
		{"-1\t-1\ttext\n", "invalid weight \"-1\""},
		{"-1\tnan\ttext\n", "invalid weight \"nan\""},
		{"-1\t1e1\ttext\n", "invalid weight \"1e1\""},
		{"-1\t1.2.3\ttext\n", "invalid weight \"1.2.3\""},
		{"-1\t.\ttext\n", "invalid weight \".\""},
		{"-1\t1\ttext\t\t\n", "invalid weight \"\""},
		{"-1\t1\tback\\slash\n", "invalid escape in a text"},
		{"-1\t1\tback\\\n", "invalid escape in a text"},
		{"-1\t1\tback\\\t1\ttext\n", "invalid escape in a text"},
		{"-1\t1\tnu@l\n", "text contains a NUL byte"},
		{"-1\t1\tgr\xFCn\n", "text is not valid UTF-8"},
		{"-1\t1\t\n", "document has no text"},
		{"3\t1\t<|begin_of_text|><|eot_id|>\n", "document has a group but only control tokens"},
		{"-1\t1\ttext", "last line does not end in a newline"},
	};

	bad_tok = tok;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		char		expected[128];

		snprintf(expected, sizeof(expected), "/bad:2: %s", bad[i].message);
		tap_ok(fixture_fails(read_bad, bad[i].line, expected), "refused line: %s", bad[i].message);
	}
}

int
main(void)
{
	static const char *const files[] = {"documents", "vocab", "bad"};
	TrVocab    *vocab;
	L3Tokenizer *tok;

	test_learner();
	test_learner_fields();
	test_bad_vocabularies();

	vocab = fixture_vocab(256 + 100 + N_CONTROL);
	tok = tr_vocab_tokenizer(vocab);
	test_chat_document(vocab, tok);
	test_documents(vocab, tok);
	test_bad_documents(tok);
	free(tok);
	tr_vocab_free(vocab);
	fixture_remove(files, sizeof(files) / sizeof(files[0]));
	return tap_done();
}
