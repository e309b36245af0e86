/*-------------------------------------------------------------------------
 *
 * tokenizer.c
 *	  Reading a tokenizer image, and encoding text with it.
 *
 * Encoding: special tokens are cut out of the text (only when the caller asks
 * for that), the rest is split into pre-tokens, and each pre-token is either a
 * token as it stands or is merged from its bytes.
 *
 * A pre-token that is a token may be taken at once in two cases: the
 * pre-tokenizer says so (Llama 3's ignore_merges), or the builder has seen
 * that merging gives that very token.  That saves most of the work on prose.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_image.h"

#include "bpe.h"

/* Ids are handed to the caller in runs of this many. */
#define EMIT_RUN	1024

uint32_t
l3_tokenizer_n_tokens(const L3Tokenizer *tok)
{
	return tok->header.n_tokens;
}

L3ChatForm
l3_tokenizer_chat_form(const L3Tokenizer *tok)
{
	return (L3ChatForm) tok->header.chat_form;
}

bool
l3_tokenizer_has_template(const L3Tokenizer *tok)
{
	return (tok->header.flags & L3_TOK_HAS_TEMPLATE) != 0;
}

int32_t
l3_tokenizer_bos(const L3Tokenizer *tok)
{
	return tok->header.bos;
}

bool
l3_tokenizer_add_bos(const L3Tokenizer *tok)
{
	return (tok->header.flags & L3_TOK_ADD_BOS) != 0;
}

int32_t
l3_tokenizer_eot(const L3Tokenizer *tok)
{
	return tok->header.eot;
}

static bool
in_vocabulary(const L3Tokenizer *tok, int32_t id)
{
	return id >= 0 && (uint32_t) id < tok->header.n_tokens;
}

bool
l3_tokenizer_is_stop(const L3Tokenizer *tok, int32_t id)
{
	const uint8_t *stops = L3_TOK_SECTION(tok, uint8_t, stops);

	return in_vocabulary(tok, id) && (stops[id / 8] >> (id % 8) & 1);
}

bool
l3_tokenizer_is_special(const L3Tokenizer *tok, int32_t id)
{
	const uint8_t *types = L3_TOK_SECTION(tok, uint8_t, types);

	return in_vocabulary(tok, id) && L3_TOKEN_TYPE(types[id]) == L3_TOKEN_CONTROL;
}

const char *
l3_tokenizer_piece(const L3Tokenizer *tok, int32_t id, uint32_t *len)
{
	if (!in_vocabulary(tok, id))
		return NULL;
	*len = l3_tok_piece_len(tok, (uint32_t) id);
	return (const char *) l3_tok_piece(tok, (uint32_t) id);
}

/*
 * First of the specials [low, high), which all agree with the searched text
 * before depth, whose byte at depth is >= byte (an ended piece is less than
 * any byte).
 */
static uint32_t
special_bound(const L3Tokenizer *tok, uint32_t low, uint32_t high,
			  uint32_t depth, unsigned byte)
{
	const uint32_t *specials = L3_TOK_SECTION(tok, uint32_t, specials);

	while (low < high)
	{
		uint32_t	middle = low + (high - low) / 2;
		uint32_t	id = specials[middle];

		if (l3_tok_piece_len(tok, id) <= depth ||
			l3_tok_piece(tok, id)[depth] < byte)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * The longest special token that the text (n >= 1) begins with, or -1.  The
 * specials are ordered by their bytes, so those that share the first depth
 * bytes are a range, narrowed byte by byte; one that ends at depth is first
 * in its range.
 */
static int32_t
longest_special(const L3Tokenizer *tok, const uint8_t *text, size_t n)
{
	const uint32_t *specials = L3_TOK_SECTION(tok, uint32_t, specials);
	uint32_t	low = 0;
	uint32_t	high = tok->header.n_specials;
	int32_t		found = -1;

	if (!(tok->header.special_first[text[0] / 8] >> (text[0] % 8) & 1))
		return -1;
	for (uint32_t depth = 0; depth < n && low < high; depth++)
	{
		low = special_bound(tok, low, high, depth, text[depth]);
		high = special_bound(tok, low, high, depth, text[depth] + 1u);
		if (low < high && l3_tok_piece_len(tok, specials[low]) == depth + 1)
			found = (int32_t) specials[low];
	}
	return found;
}

int32_t
l3_tokenizer_special(const L3Tokenizer *tok, const char *text)
{
	size_t		n = strlen(text);
	int32_t		id = n > 0 ? longest_special(tok, (const uint8_t *) text, n) : -1;

	return id >= 0 && l3_tok_piece_len(tok, (uint32_t) id) == n ? id : -1;
}

/* ----------------------------------------------------------------
 *		Encoding
 * ----------------------------------------------------------------
 */

typedef struct Encoder
{
	const L3Tokenizer *tok;
	L3EmitFn	emit;
	void	   *ctx;
	L3Error    *err;
	L3Bpe		bpe;
	uint64_t	steps;
	size_t		n;				/* ids waiting in run */
	int32_t		run[EMIT_RUN];
} Encoder;

static L3Status
flush_ids(Encoder *e)
{
	size_t		n = e->n;

	e->n = 0;
	if (n > 0 && e->emit(e->ctx, e->run, n))
		return l3_error(e->err, L3_ERR_CANCELLED, "tokenization was cancelled");
	return L3_OK;
}

static L3Status
put_id(Encoder *e, uint32_t id)
{
	e->run[e->n++] = (int32_t) id;
	return e->n == EMIT_RUN ? flush_ids(e) : L3_OK;
}

static L3Status
encode_pre_token(Encoder *e, const uint8_t *bytes, size_t n)
{
	const L3TokenizerHeader *header = &e->tok->header;
	const uint8_t *types = L3_TOK_SECTION(e->tok, uint8_t, types);
	const uint32_t *ids;
	size_t		n_ids;

	if (n == 1)
		return put_id(e, header->byte_ids[bytes[0]]);
	if (n <= header->max_piece)
	{
		int32_t		id = l3_tok_find_piece(e->tok, bytes, n);

		if (id >= 0 && ((header->flags & L3_TOK_IGNORE_MERGES) ||
						(types[id] & L3_TOKEN_WHOLE)))
			return put_id(e, (uint32_t) id);
	}
	if (!l3_bpe_merge(&e->bpe, e->tok, bytes, n, &ids, &n_ids))
		return l3_error(e->err, L3_ERR_MEMORY,
						"out of memory tokenizing a word of %zu bytes", n);
	for (size_t i = 0; i < n_ids; i++)
	{
		L3Status	status = put_id(e, ids[i]);

		if (status != L3_OK)
			return status;
	}
	return L3_OK;
}

/* Encode text that has no special tokens, or where they mean nothing. */
static L3Status
encode_plain(Encoder *e, const char *text, size_t len)
{
	L3Splitter	splitter;
	size_t		start;
	size_t		n;
	L3Status	status = L3_OK;

	l3_split_begin(&splitter, (L3PreTokenizer) e->tok->header.pre, text, len);
	while (status == L3_OK && l3_split_next(&splitter, &start, &n))
		status = encode_pre_token(e, (const uint8_t *) text + start, n);
	e->steps += splitter.steps;
	return status;
}

/* Encode text in which special tokens count: longest first, from the left. */
static L3Status
encode_with_specials(Encoder *e, const char *text, size_t len)
{
	size_t		plain = 0;		/* start of the text not yet encoded */
	size_t		pos = 0;
	L3Status	status = L3_OK;

	while (pos < len && status == L3_OK)
	{
		int32_t		id = longest_special(e->tok, (const uint8_t *) text + pos,
										 len - pos);

		if (id < 0)
		{
			pos++;
			continue;
		}
		status = encode_plain(e, text + plain, pos - plain);
		if (status == L3_OK)
			status = put_id(e, (uint32_t) id);
		pos += l3_tok_piece_len(e->tok, (uint32_t) id);
		plain = pos;
	}
	if (status == L3_OK)
		status = encode_plain(e, text + plain, len - plain);
	return status;
}

L3Status
l3_tok_encode_counted(const L3Tokenizer *tok, const char *text, size_t len,
					  bool special, L3EmitFn emit, void *ctx,
					  uint64_t *steps, L3Error *err)
{
	Encoder		e;
	L3Status	status;

	e.tok = tok;
	e.emit = emit;
	e.ctx = ctx;
	e.err = err;
	memset(&e.bpe, 0, sizeof(e.bpe));
	e.steps = 0;
	e.n = 0;
	if (special)
		status = encode_with_specials(&e, text, len);
	else
		status = encode_plain(&e, text, len);
	if (status == L3_OK)
		status = flush_ids(&e);
	*steps += e.steps + e.bpe.steps;
	l3_bpe_free(&e.bpe);
	return status;
}

L3Status
l3_tokenizer_encode(const L3Tokenizer *tok, const char *text, size_t len,
					bool special, L3EmitFn emit, void *ctx, L3Error *err)
{
	uint64_t	steps = 0;

	return l3_tok_encode_counted(tok, text, len, special, emit, ctx, &steps, err);
}
