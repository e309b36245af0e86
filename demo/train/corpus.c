/*-------------------------------------------------------------------------
 *
 * corpus.c
 *	  Documents as token ids with a loss weight each.
 *
 * A text is encoded as the engine encodes a prompt (src/engine/chat.c):
 * control tokens by their names, and each run of text between them with
 * special tokens off.  Fields are encoded one by one.  So that the ids are
 * those that the engine will see, a border between fields has to be at a
 * control token, or where the engine has a border between a prompt and its
 * answer, which it also encodes apart.
 *
 *-------------------------------------------------------------------------
 */
#include "documents.h"

#include <stdlib.h>
#include <string.h>

/* Arrays that grow; the documents' pointers are set at the end. */
typedef struct Builder
{
	const L3Tokenizer *tok;
	int32_t		special_ids[TR_N_SPECIALS];
	TrCorpus   *corpus;
	int			document_capacity;
	int64_t		token_capacity;
	L3Ids		run_ids;		/* of one run of text */
} Builder;

static void *
grow(void *array, size_t n, size_t size)
{
	array = realloc(array, n * size);
	if (array == NULL)
		tr_fail("out of memory for a corpus");
	return array;
}

static void
add_token(Builder *b, int32_t id, float weight)
{
	TrCorpus   *corpus = b->corpus;

	if (corpus->n_tokens == b->token_capacity)
	{
		b->token_capacity = b->token_capacity * 2 + 65536;
		corpus->ids = grow(corpus->ids, (size_t) b->token_capacity, sizeof(*corpus->ids));
		corpus->weights = grow(corpus->weights, (size_t) b->token_capacity, sizeof(*corpus->weights));
	}
	corpus->ids[corpus->n_tokens] = (uint16_t) id;
	corpus->weights[corpus->n_tokens] = weight;
	corpus->n_tokens++;
}

static void
add_field(Builder *b, const TrField *field)
{
	size_t		pos = 0;
	TrRun		run;
	L3Error		err;

	while (tr_next_run(field->text, field->len, &pos, &run))
	{
		if (run.special >= 0)
		{
			add_token(b, b->special_ids[run.special], field->weight);
			continue;
		}
		b->run_ids.n = 0;
		if (l3_tokenizer_encode_ids(b->tok, run.text, run.len, false, &b->run_ids, &err) != L3_OK)
			tr_fail("%s", err.message);
		for (size_t i = 0; i < b->run_ids.n; i++)
			add_token(b, b->run_ids.ids[i], field->weight);
	}
}

/* Tokens before the trailing control tokens. */
static int32_t
count_pooled(const Builder *b, int64_t first, int32_t n)
{
	while (n > 0 && l3_tokenizer_is_special(b->tok, b->corpus->ids[first + n - 1]))
		n--;
	return n;
}

static void
add_document(Builder *b, const TrDocuments *docs, int max_tokens)
{
	TrCorpus   *corpus = b->corpus;
	int64_t		first = corpus->n_tokens;
	TrDocument *document;

	if (corpus->n_documents == b->document_capacity)
	{
		b->document_capacity = b->document_capacity * 2 + 1024;
		corpus->documents = grow(corpus->documents, (size_t) b->document_capacity,
								 sizeof(*corpus->documents));
	}
	for (int i = 0; i < docs->n_fields; i++)
		add_field(b, &docs->fields[i]);
	if (corpus->n_tokens == first)
		tr_documents_fail(docs, "document has no text");
	if (corpus->n_tokens - first > max_tokens)
		corpus->n_tokens = first + max_tokens;
	corpus->weights[first] = 0;

	document = &corpus->documents[corpus->n_documents++];
	document->group = docs->group;
	document->n_tokens = (int32_t) (corpus->n_tokens - first);
	document->n_pooled = count_pooled(b, first, document->n_tokens);
	if (document->group >= 0 && document->n_pooled == 0)
		tr_documents_fail(docs, "document has a group but only control tokens");
}

TrCorpus *
tr_corpus_read(const char *path, const L3Tokenizer *tok, int max_tokens)
{
	Builder		b = {.tok = tok,.corpus = tr_alloc(sizeof(TrCorpus))};
	TrDocuments docs;
	int64_t		first = 0;

	if (l3_tokenizer_n_tokens(tok) > UINT16_MAX + 1)
		tr_fail("vocabulary of %u tokens is too large for a corpus", l3_tokenizer_n_tokens(tok));
	for (int i = 0; i < TR_N_SPECIALS; i++)
	{
		b.special_ids[i] = l3_tokenizer_special(tok, tr_special_names[i]);
		if (b.special_ids[i] < 0)
			tr_fail("vocabulary has no token \"%s\"", tr_special_names[i]);
	}
	tr_documents_open(&docs, path);
	while (tr_documents_next(&docs))
		add_document(&b, &docs, max_tokens);
	tr_documents_close(&docs);
	l3_ids_free(&b.run_ids);

	for (int i = 0; i < b.corpus->n_documents; i++)
	{
		TrDocument *document = &b.corpus->documents[i];

		document->ids = b.corpus->ids + first;
		document->weights = b.corpus->weights + first;
		first += document->n_tokens;
	}
	return b.corpus;
}

void
tr_corpus_free(TrCorpus *corpus)
{
	free(corpus->documents);
	free(corpus->ids);
	free(corpus->weights);
	free(corpus);
}
