/*-------------------------------------------------------------------------
 *
 * tokenizer_build.c
 *	  From a model file's vocabulary to a tokenizer image.
 *
 * The vocabulary is hostile input.  l3_tokenizer_image_size builds the whole
 * image once into scratch memory, so that everything that can be wrong is
 * reported before anything is reserved, by the same code that builds it for
 * good; it takes a fraction of a second for 128,000 tokens.
 *
 * Tokens that are special by name are made control tokens whatever type the
 * file gives them: some converters marked Llama 3's as ordinary, and then
 * neither the chat form nor the end of an answer would be recognised.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_image.h"

#include <stdio.h>
#include <stdlib.h>

#include "bpe.h"
#include "utf8.h"

/* Tables are at most this full when they are sized. */
#define MAX_LOAD_NUM	9
#define MAX_LOAD_DEN	16
#define MIN_SLOTS		16

#define BEGIN_OF_TEXT	"<|begin_of_text|>"
#define START_HEADER	"<|start_header_id|>"
#define END_HEADER		"<|end_header_id|>"
#define END_OF_TURN		"<|eot_id|>"

static const char *const control_names[] = {
	BEGIN_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN, "<|end_of_text|>",
	"<|eom_id|>", "<|python_tag|>", "<|im_start|>", "<|im_end|>",
	"<|endoftext|>",
};

/* Control tokens of these names end a generation in any model. */
static const char *const stop_names[] = {
	"<|end_of_text|>", "<|eom_id|>", END_OF_TURN, "<|im_end|>", "<|endoftext|>",
};

typedef struct Builder
{
	const L3TokenizerSpec *spec;
	L3Error    *err;
	L3TokenizerHeader header;
	L3Tokenizer *tok;			/* the image being built */
} Builder;

static bool
slice_is(L3Slice slice, const char *text)
{
	return slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

static bool
slice_in(L3Slice slice, const char *const *names, size_t n_names)
{
	for (size_t i = 0; i < n_names; i++)
		if (slice_is(slice, names[i]))
			return true;
	return false;
}

static bool
contains(const char *text, size_t len, const char *word)
{
	size_t		n = strlen(word);

	for (; len >= n; text++, len--)
		if (*text == *word && memcmp(text, word, n) == 0)
			return true;
	return false;
}

static uint8_t
token_type(const L3TokenizerSpec *spec, uint32_t id)
{
	if (slice_in(spec->tokens[id], control_names,
				 sizeof(control_names) / sizeof(control_names[0])))
		return L3_TOKEN_CONTROL;
	return spec->types == NULL ? L3_TOKEN_NORMAL : spec->types[id];
}

/* ----------------------------------------------------------------
 *		GPT-2's alphabet
 * ----------------------------------------------------------------
 */

/*
 * The byte that a character of GPT-2's alphabet stands for, or -1
 * (bytes_to_unicode in encoder.py): printable Latin-1 stands for itself, the
 * other 68 bytes in order for U+0100 and up.
 */
static int
alphabet_byte(uint32_t cp)
{
	uint32_t	n = cp - 0x100;

	if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) ||
		(cp >= 0xAE && cp <= 0xFF))
		return (int) cp;
	if (cp < 0x100 || n >= 68)
		return -1;
	if (n < 33)
		return (int) n;			/* 0x00 .. 0x20 */
	if (n < 67)
		return (int) (0x7F + n - 33);	/* 0x7F .. 0xA0 */
	return 0xAD;
}

/*
 * Decode a string of the alphabet into out (room for slice.len bytes, or NULL
 * to measure).  Returns the number of bytes, or -1 when a character is not of
 * the alphabet.
 */
static int64_t
alphabet_decode(L3Slice slice, uint8_t *out)
{
	const uint8_t *p = (const uint8_t *) slice.data;
	int64_t		n = 0;

	for (uint32_t i = 0; i < slice.len;)
	{
		uint32_t	cp;
		int			byte;

		i += l3_utf8_decode(p + i, slice.len - i, &cp);
		byte = alphabet_byte(cp);
		if (byte < 0)
			return -1;
		if (out != NULL)
			out[n] = (uint8_t) byte;
		n++;
	}
	return n;
}

/*
 * Is the token made of the alphabet, so that text can become it?  An ordinary
 * token that is not keeps its text as its piece and is out of reach.
 */
static bool
is_ordinary(const L3TokenizerSpec *spec, uint32_t id)
{
	return token_type(spec, id) == L3_TOKEN_NORMAL &&
		alphabet_decode(spec->tokens[id], NULL) > 0;
}

/* ----------------------------------------------------------------
 *		Counting and layout
 * ----------------------------------------------------------------
 */

static L3Status
check_id(Builder *b, const char *what, int32_t id)
{
	if (id >= -1 && (id < 0 || (uint32_t) id < b->spec->n_tokens))
		return L3_OK;
	return l3_error(b->err, L3_ERR_FORMAT,
					"%s token %d is outside the vocabulary of %u tokens in \"%s\"",
					what, id, b->spec->n_tokens, b->spec->where);
}

static L3Status
check_counts(Builder *b)
{
	const L3TokenizerSpec *spec = b->spec;
	L3Status	status;

	if (spec->n_tokens < 256 || spec->n_tokens > L3_TOK_MAX_TOKENS)
		return l3_error(b->err, L3_ERR_FORMAT,
						"vocabulary of \"%s\" has %u tokens, expected 256 to %u",
						spec->where, spec->n_tokens, L3_TOK_MAX_TOKENS);
	if (spec->n_merges > L3_TOK_MAX_MERGES)
		return l3_error(b->err, L3_ERR_FORMAT,
						"tokenizer of \"%s\" has %u merges, expected at most %u",
						spec->where, spec->n_merges, L3_TOK_MAX_MERGES);
	if ((status = check_id(b, "begin-of-text", spec->bos)) != L3_OK ||
		(status = check_id(b, "end-of-text", spec->eos)) != L3_OK ||
		(status = check_id(b, "end-of-turn", spec->eot)) != L3_OK ||
		(status = check_id(b, "end-of-message", spec->eom)) != L3_OK)
		return status;
	for (uint32_t i = 0; i < spec->n_stop_ids; i++)
		if ((status = check_id(b, "stop", spec->stop_ids[i])) != L3_OK)
			return status;
	return L3_OK;
}

static L3Status
find_pre_tokenizer(Builder *b)
{
	const L3TokenizerSpec *spec = b->spec;
	L3PreTokenizer pre;

	if (spec->pre == NULL || !l3_pre_by_name(spec->pre, &pre))
	{
		l3_error(b->err, L3_ERR_UNSUPPORTED,
				 "unknown pre-tokenizer \"%s\" in \"%s\"",
				 spec->pre == NULL ? "" : spec->pre, spec->where);
		l3_error_detail(b->err, "Known pre-tokenizers are %s.", l3_pre_names());
		return L3_ERR_UNSUPPORTED;
	}
	b->header.pre = pre;
	if (pre == L3_PRE_LLAMA_BPE)
		b->header.flags |= L3_TOK_IGNORE_MERGES;
	return L3_OK;
}

/* Types, number of specials, and bytes of all pieces. */
static L3Status
measure_pieces(Builder *b)
{
	const L3TokenizerSpec *spec = b->spec;
	uint64_t	bytes = 0;

	for (uint32_t id = 0; id < spec->n_tokens; id++)
	{
		uint8_t		type = token_type(spec, id);
		int64_t		len = spec->tokens[id].len;

		if (type < L3_TOKEN_NORMAL || type > L3_TOKEN_BYTE)
			return l3_error(b->err, L3_ERR_FORMAT,
							"token %u of \"%s\" has the unknown type %u",
							id, spec->where, type);
		if (is_ordinary(spec, id))
		{
			len = alphabet_decode(spec->tokens[id], NULL);
			if (len > b->header.max_piece)
				b->header.max_piece = (uint32_t) len;
		}
		else if ((type == L3_TOKEN_CONTROL || type == L3_TOKEN_USER_DEFINED) && len > 0)
			b->header.n_specials++;
		bytes += (uint64_t) len;
		if (bytes > L3_TOK_MAX_BYTES)
			return l3_error(b->err, L3_ERR_FORMAT,
							"tokens of \"%s\" have more than %u bytes",
							spec->where, L3_TOK_MAX_BYTES);
	}
	b->header.pieces_bytes = bytes;
	return L3_OK;
}

static uint32_t
table_slots(uint32_t n)
{
	uint64_t	slots = MIN_SLOTS;

	while (slots * MAX_LOAD_NUM / MAX_LOAD_DEN < n)
		slots *= 2;
	return (uint32_t) slots;
}

/* Bytes of each section, in the order of the layout, by the header's counts. */
typedef struct Section
{
	uint64_t	bytes;
	size_t		field;			/* of its offset in the header */
} Section;

#define N_SECTIONS	8

static void
list_sections(const L3TokenizerHeader *h, Section sections[N_SECTIONS])
{
	const Section list[N_SECTIONS] = {
		{((uint64_t) h->n_tokens + 1) * 4, offsetof(L3TokenizerHeader, piece_offsets)},
		{h->pieces_bytes, offsetof(L3TokenizerHeader, pieces)},
		{h->n_tokens, offsetof(L3TokenizerHeader, types)},
		{((uint64_t) h->n_tokens + 7) / 8, offsetof(L3TokenizerHeader, stops)},
		{(uint64_t) h->n_specials * 4, offsetof(L3TokenizerHeader, specials)},
		{(uint64_t) h->piece_slots * 4, offsetof(L3TokenizerHeader, piece_table)},
		{(uint64_t) h->merge_slots * 8, offsetof(L3TokenizerHeader, merge_table)},
		{(uint64_t) h->n_merges * 4, offsetof(L3TokenizerHeader, products)},
	};

	memcpy(sections, list, sizeof(list));
}

/* Check the spec's counts and lay out the image in b->header. */
static L3Status
lay_out(Builder *b)
{
	L3TokenizerHeader *h = &b->header;
	Section		sections[N_SECTIONS];
	uint64_t	offset = (sizeof(*h) + 7) & ~UINT64_C(7);
	L3Status	status;

	if ((status = check_counts(b)) != L3_OK ||
		(status = find_pre_tokenizer(b)) != L3_OK ||
		(status = measure_pieces(b)) != L3_OK)
		return status;
	memcpy(h->magic, L3_TOK_MAGIC, sizeof(h->magic));
	h->version = L3_TOK_VERSION;
	h->header_bytes = sizeof(*h);
	h->n_tokens = b->spec->n_tokens;
	h->n_merges = b->spec->n_merges;
	h->piece_slots = table_slots(h->n_tokens);
	h->merge_slots = table_slots(h->n_merges);
	list_sections(h, sections);
	for (int i = 0; i < N_SECTIONS; i++)
	{
		memcpy((char *) h + sections[i].field, &offset, sizeof(offset));
		offset += (sections[i].bytes + 7) & ~UINT64_C(7);
	}
	h->total_bytes = offset;
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Filling the sections
 * ----------------------------------------------------------------
 */

/* A section of the image being built. */
#define BUILD_SECTION(b, type, name) \
	((type *) ((char *) (b)->tok + (b)->header.name))

static void
fill_pieces(Builder *b)
{
	const L3TokenizerSpec *spec = b->spec;
	uint32_t   *offsets = BUILD_SECTION(b, uint32_t, piece_offsets);
	uint8_t    *pieces = BUILD_SECTION(b, uint8_t, pieces);
	uint8_t    *types = BUILD_SECTION(b, uint8_t, types);
	uint32_t	at = 0;

	for (uint32_t id = 0; id < spec->n_tokens; id++)
	{
		offsets[id] = at;
		types[id] = token_type(spec, id);
		if (is_ordinary(spec, id))
			at += (uint32_t) alphabet_decode(spec->tokens[id], pieces + at);
		else
		{
			if (spec->tokens[id].len > 0)
				memcpy(pieces + at, spec->tokens[id].data, spec->tokens[id].len);
			at += spec->tokens[id].len;
			/* Out of reach for text, so not normal for us. */
			if (types[id] == L3_TOKEN_NORMAL)
				types[id] = L3_TOKEN_UNUSED;
		}
	}
	offsets[spec->n_tokens] = at;
}

static L3Status
crowded_table(Builder *b, const char *what)
{
	return l3_error(b->err, L3_ERR_FORMAT,
					"%s of \"%s\" collide beyond %d probes",
					what, b->spec->where, L3_TOK_MAX_PROBE);
}

/* The piece table: of equal tokens the first one counts. */
static L3Status
fill_piece_table(Builder *b)
{
	uint32_t   *table = BUILD_SECTION(b, uint32_t, piece_table);
	const uint8_t *types = BUILD_SECTION(b, uint8_t, types);
	uint32_t	mask = b->header.piece_slots - 1;

	memset(table, 0xFF, (size_t) b->header.piece_slots * sizeof(*table));
	for (uint32_t id = 0; id < b->header.n_tokens; id++)
	{
		const uint8_t *piece = l3_tok_piece(b->tok, id);
		uint32_t	len = l3_tok_piece_len(b->tok, id);
		uint64_t	hash;
		uint32_t	probe = 0;

		if (types[id] != L3_TOKEN_NORMAL || l3_tok_find_piece(b->tok, piece, len) >= 0)
			continue;
		hash = l3_tok_hash(piece, len);
		while (table[(hash + probe) & mask] != L3_PIECE_EMPTY)
			if (++probe == L3_TOK_MAX_PROBE)
				return crowded_table(b, "tokens");
		table[(hash + probe) & mask] = l3_tok_tag(hash) << 20 | id;
	}
	return L3_OK;
}

static L3Status
fill_byte_ids(Builder *b)
{
	char		missing[200] = "";
	size_t		used = 0;
	int			n_missing = 0;

	for (int byte = 0; byte < 256; byte++)
	{
		uint8_t		c = (uint8_t) byte;
		int32_t		id = l3_tok_find_piece(b->tok, &c, 1);

		if (id >= 0)
			b->tok->header.byte_ids[byte] = (uint32_t) id;
		else
		{
			n_missing++;
			if (used + 8 < sizeof(missing))
				used += (size_t) snprintf(missing + used, sizeof(missing) - used,
										  "%s0x%02X", used > 0 ? ", " : "", byte);
		}
	}
	if (n_missing == 0)
		return L3_OK;
	l3_error(b->err, L3_ERR_FORMAT,
			 "vocabulary of \"%s\" has no token for %d of the 256 bytes",
			 b->spec->where, n_missing);
	l3_error_detail(b->err, "Missing: %s%s.", missing,
					n_missing > 33 ? ", ..." : "");
	return L3_ERR_FORMAT;
}

/*
 * Find the two tokens and the product of a merge.  scratch has room for both
 * sides.
 */
static L3Status
resolve_merge(Builder *b, uint32_t rank, uint8_t *scratch,
			  int32_t *left, int32_t *right, int32_t *product)
{
	L3Slice		l = b->spec->merge_left[rank];
	L3Slice		r = b->spec->merge_right[rank];
	int64_t		l_len = -1;
	int64_t		r_len = -1;
	const char *what;

	*left = *right = *product = -1;
	/* No token, so no merge, is longer than the longest piece. */
	if (l.len <= 2 * b->header.max_piece && r.len <= 2 * b->header.max_piece &&
		(l_len = alphabet_decode(l, scratch)) > 0 &&
		(r_len = alphabet_decode(r, scratch + l_len)) > 0)
	{
		*left = l3_tok_find_piece(b->tok, scratch, (size_t) l_len);
		*right = l3_tok_find_piece(b->tok, scratch + l_len, (size_t) r_len);
		*product = l3_tok_find_piece(b->tok, scratch, (size_t) (l_len + r_len));
	}
	if (*left >= 0 && *right >= 0 && *product >= 0)
		return L3_OK;
	what = *left < 0 ? "left side" : *right < 0 ? "right side" : "product";
	l3_error(b->err, L3_ERR_FORMAT,
			 "%s of merge %u in \"%s\" is not an ordinary token of the vocabulary",
			 what, rank, b->spec->where);
	l3_error_detail(b->err, "The merge is \"%.*s\" + \"%.*s\".",
					(int) (l.len > 64 ? 64 : l.len), l.data,
					(int) (r.len > 64 ? 64 : r.len), r.data);
	return L3_ERR_FORMAT;
}

/* The merge table: of equal pairs the first, lowest rank counts. */
static L3Status
fill_merges(Builder *b)
{
	uint64_t   *table = BUILD_SECTION(b, uint64_t, merge_table);
	uint32_t   *products = BUILD_SECTION(b, uint32_t, products);
	uint32_t	mask = b->header.merge_slots - 1;
	uint8_t    *scratch = malloc((size_t) b->header.max_piece * 4 + 1);
	L3Status	status = L3_OK;

	if (scratch == NULL)
		return l3_error(b->err, L3_ERR_MEMORY, "out of memory building a tokenizer");
	memset(table, 0xFF, (size_t) b->header.merge_slots * sizeof(*table));
	for (uint32_t rank = 0; rank < b->header.n_merges && status == L3_OK; rank++)
	{
		int32_t		left;
		int32_t		right;
		int32_t		product;
		uint64_t	hash;
		uint32_t	probe = 0;

		status = resolve_merge(b, rank, scratch, &left, &right, &product);
		if (status != L3_OK)
			break;
		products[rank] = (uint32_t) product;
		if (l3_tok_find_merge(b->tok, (uint32_t) left, (uint32_t) right) != L3_NO_RANK)
			continue;
		hash = l3_tok_pair_hash((uint32_t) left, (uint32_t) right);
		while (table[(hash + probe) & mask] != L3_MERGE_EMPTY && status == L3_OK)
			if (++probe == L3_TOK_MAX_PROBE)
				status = crowded_table(b, "merges");
		if (status == L3_OK)
			table[(hash + probe) & mask] =
				(uint64_t) left << 44 | (uint64_t) right << 24 | rank;
	}
	free(scratch);
	return status;
}

/*
 * Mark the tokens that merging their own bytes gives, so that a pre-token
 * found in the vocabulary need not be merged.  With ignore_merges every token
 * is taken anyway.
 */
static L3Status
mark_whole_tokens(Builder *b)
{
	uint8_t    *types = BUILD_SECTION(b, uint8_t, types);
	L3Bpe		bpe = {0};
	L3Status	status = L3_OK;

	if (b->header.flags & L3_TOK_IGNORE_MERGES)
		return L3_OK;
	for (uint32_t id = 0; id < b->header.n_tokens; id++)
	{
		const uint32_t *ids;
		size_t		n_ids;

		if (types[id] != L3_TOKEN_NORMAL)
			continue;
		if (!l3_bpe_merge(&bpe, b->tok, l3_tok_piece(b->tok, id),
						  l3_tok_piece_len(b->tok, id), &ids, &n_ids))
		{
			status = l3_error(b->err, L3_ERR_MEMORY, "out of memory building a tokenizer");
			break;
		}
		if (n_ids == 1 && ids[0] == id)
			types[id] |= L3_TOKEN_WHOLE;
	}
	l3_bpe_free(&bpe);
	return status;
}

/* Order of specials: by bytes, of equal ones control first, then by id. */
static int
compare_specials(const void *a, const void *b, void *tok_)
{
	const L3Tokenizer *tok = tok_;
	const uint8_t *types = L3_TOK_SECTION(tok, uint8_t, types);
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;
	uint32_t	x_len = l3_tok_piece_len(tok, x);
	uint32_t	y_len = l3_tok_piece_len(tok, y);
	int			order = memcmp(l3_tok_piece(tok, x), l3_tok_piece(tok, y),
							   x_len < y_len ? x_len : y_len);

	if (order != 0)
		return order;
	if (x_len != y_len)
		return x_len < y_len ? -1 : 1;
	if (types[x] != types[y])
		return types[x] == L3_TOKEN_CONTROL ? -1 : 1;
	return x < y ? -1 : 1;
}

static void
fill_specials(Builder *b)
{
	uint32_t   *specials = BUILD_SECTION(b, uint32_t, specials);
	const uint8_t *types = BUILD_SECTION(b, uint8_t, types);
	uint32_t	n = 0;

	for (uint32_t id = 0; id < b->header.n_tokens; id++)
	{
		uint8_t		first;

		if ((types[id] != L3_TOKEN_CONTROL && types[id] != L3_TOKEN_USER_DEFINED) ||
			l3_tok_piece_len(b->tok, id) == 0)
			continue;
		specials[n++] = id;
		first = *l3_tok_piece(b->tok, id);
		b->tok->header.special_first[first / 8] |= (uint8_t) (1 << first % 8);
	}
	qsort_r(specials, n, sizeof(*specials), compare_specials, b->tok);
}

static int32_t
control_token(const Builder *b, const char *name)
{
	int32_t		id = l3_tokenizer_special(b->tok, name);

	return l3_tokenizer_is_special(b->tok, id) ? id : -1;
}

static void
mark_stop(Builder *b, int32_t id)
{
	if (id >= 0)
		BUILD_SECTION(b, uint8_t, stops)[id / 8] |= (uint8_t) (1 << id % 8);
}

/* Begin of text, end of turn, stop tokens. */
static void
choose_roles(Builder *b)
{
	const L3TokenizerSpec *spec = b->spec;
	L3TokenizerHeader *h = &b->tok->header;

	h->bos = spec->bos >= 0 ? spec->bos : control_token(b, BEGIN_OF_TEXT);
	h->eot = spec->eot >= 0 ? spec->eot : control_token(b, END_OF_TURN);
	if (h->eot < 0)
		h->eot = spec->eos;
	if (spec->add_bos && h->bos >= 0)
		h->flags |= L3_TOK_ADD_BOS;
	mark_stop(b, spec->eos);
	mark_stop(b, h->eot);
	mark_stop(b, spec->eom);
	for (uint32_t i = 0; i < spec->n_stop_ids; i++)
		mark_stop(b, spec->stop_ids[i]);
	for (size_t i = 0; i < sizeof(stop_names) / sizeof(stop_names[0]); i++)
		mark_stop(b, control_token(b, stop_names[i]));
}

/*
 * Recognise the chat form by what only its template contains, if the
 * vocabulary has the tokens that it needs.
 */
static void
choose_chat_form(Builder *b)
{
	const char *text = b->spec->chat_template;
	size_t		len = b->spec->chat_template_len;
	L3TokenizerHeader *h = &b->tok->header;

	h->start_header = control_token(b, START_HEADER);
	h->end_header = control_token(b, END_HEADER);
	h->end_turn = control_token(b, END_OF_TURN);
	h->chat_form = L3_CHAT_NONE;
	if (text == NULL)
		return;
	h->flags |= L3_TOK_HAS_TEMPLATE;
	if (h->bos >= 0 && h->start_header >= 0 && h->end_header >= 0 &&
		h->end_turn >= 0 && contains(text, len, START_HEADER))
		h->chat_form = contains(text, len, "Cutting Knowledge Date") ?
			L3_CHAT_LLAMA31 : L3_CHAT_LLAMA30;
}

L3Status
l3_tokenizer_build(const L3TokenizerSpec *spec, void *mem, uint64_t size, L3Error *err)
{
	Builder		b = {.spec = spec,.err = err,.tok = mem};
	L3Status	status = lay_out(&b);

	if (status != L3_OK)
		return status;
	if (size < b.header.total_bytes || ((uintptr_t) mem & 7) != 0)
		return l3_error(err, L3_ERR_ARG,
						"tokenizer image needs %llu aligned bytes, not %llu",
						(unsigned long long) b.header.total_bytes,
						(unsigned long long) size);
	b.tok->header = b.header;
	fill_pieces(&b);
	if ((status = fill_piece_table(&b)) != L3_OK ||
		(status = fill_byte_ids(&b)) != L3_OK ||
		(status = fill_merges(&b)) != L3_OK ||
		(status = mark_whole_tokens(&b)) != L3_OK)
		return status;
	fill_specials(&b);
	choose_roles(&b);
	choose_chat_form(&b);
	return L3_OK;
}

L3Status
l3_tokenizer_image_size(const L3TokenizerSpec *spec, uint64_t *size, L3Error *err)
{
	Builder		b = {.spec = spec,.err = err};
	L3Status	status = lay_out(&b);
	void	   *scratch;

	if (status != L3_OK)
		return status;
	scratch = calloc(1, b.header.total_bytes);
	if (scratch == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory building a tokenizer");
	status = l3_tokenizer_build(spec, scratch, b.header.total_bytes, err);
	free(scratch);
	*size = b.header.total_bytes;
	return status;
}

/* ----------------------------------------------------------------
 *		Checking an image
 * ----------------------------------------------------------------
 */

static bool
check_header(const L3TokenizerHeader *h, uint64_t size)
{
	return memcmp(h->magic, L3_TOK_MAGIC, sizeof(h->magic)) == 0 &&
		h->version == L3_TOK_VERSION &&
		h->header_bytes == sizeof(*h) &&
		h->total_bytes <= size &&
		(h->flags & ~(uint32_t) L3_TOK_ALL_FLAGS) == 0 &&
		h->pre < L3_N_PRE_TOKENIZERS &&
		h->chat_form <= L3_CHAT_LLAMA31 &&
		h->n_tokens >= 256 && h->n_tokens <= L3_TOK_MAX_TOKENS &&
		h->n_merges <= L3_TOK_MAX_MERGES &&
		h->n_specials <= h->n_tokens &&
		h->pieces_bytes <= L3_TOK_MAX_BYTES &&
		h->piece_slots == table_slots(h->n_tokens) &&
		h->merge_slots == table_slots(h->n_merges);
}

static bool
check_sections(const L3TokenizerHeader *h)
{
	Section		sections[N_SECTIONS];

	list_sections(h, sections);
	for (int i = 0; i < N_SECTIONS; i++)
	{
		uint64_t	offset;

		memcpy(&offset, (const char *) h + sections[i].field, sizeof(offset));
		if (offset % 8 != 0 || offset < sizeof(*h) || offset > h->total_bytes ||
			sections[i].bytes > h->total_bytes - offset)
			return false;
	}
	return true;
}

static bool
check_role(const L3TokenizerHeader *h, int32_t id)
{
	return id == -1 || (id >= 0 && (uint32_t) id < h->n_tokens);
}

static bool
check_roles(const L3TokenizerHeader *h)
{
	if (!check_role(h, h->bos) || !check_role(h, h->eot) ||
		!check_role(h, h->start_header) || !check_role(h, h->end_header) ||
		!check_role(h, h->end_turn))
		return false;
	if ((h->flags & L3_TOK_ADD_BOS) && h->bos < 0)
		return false;
	return h->chat_form == L3_CHAT_NONE ||
		(h->bos >= 0 && h->start_header >= 0 && h->end_header >= 0 &&
		 h->end_turn >= 0);
}

/* All ids below n_tokens? */
static bool
check_ids(const L3Tokenizer *tok, const uint32_t *ids, uint32_t n)
{
	uint32_t	over = 0;

	for (uint32_t i = 0; i < n; i++)
		over |= ids[i] >= tok->header.n_tokens;
	return over == 0;
}

static bool
check_pieces(const L3Tokenizer *tok)
{
	const L3TokenizerHeader *h = &tok->header;
	const uint32_t *offsets = L3_TOK_SECTION(tok, uint32_t, piece_offsets);
	const uint32_t *specials = L3_TOK_SECTION(tok, uint32_t, specials);

	for (uint32_t id = 0; id < h->n_tokens; id++)
		if (offsets[id] > offsets[id + 1])
			return false;
	if (offsets[h->n_tokens] > h->pieces_bytes)
		return false;
	if (!check_ids(tok, specials, h->n_specials))
		return false;
	/* An empty special would be found for ever. */
	for (uint32_t i = 0; i < h->n_specials; i++)
		if (l3_tok_piece_len(tok, specials[i]) == 0)
			return false;
	return true;
}

static bool
check_tables(const L3Tokenizer *tok)
{
	const L3TokenizerHeader *h = &tok->header;
	const uint32_t *pieces = L3_TOK_SECTION(tok, uint32_t, piece_table);
	const uint64_t *merges = L3_TOK_SECTION(tok, uint64_t, merge_table);

	for (uint32_t i = 0; i < h->piece_slots; i++)
		if (pieces[i] != L3_PIECE_EMPTY && (pieces[i] & 0xFFFFF) >= h->n_tokens)
			return false;
	for (uint32_t i = 0; i < h->merge_slots; i++)
		if (merges[i] != L3_MERGE_EMPTY && (merges[i] & 0xFFFFFF) >= h->n_merges)
			return false;
	return check_ids(tok, L3_TOK_SECTION(tok, uint32_t, products), h->n_merges) &&
		check_ids(tok, h->byte_ids, 256);
}

const L3Tokenizer *
l3_tokenizer_check(const void *mem, uint64_t size, L3Error *err)
{
	const L3Tokenizer *tok = mem;
	const char *what = NULL;

	if (size < sizeof(L3TokenizerHeader) || ((uintptr_t) mem & 7) != 0 ||
		!check_header(&tok->header, size))
		what = "header";
	else if (!check_sections(&tok->header))
		what = "section table";
	else if (!check_roles(&tok->header))
		what = "token roles";
	else if (!check_pieces(tok))
		what = "pieces";
	else if (!check_tables(tok))
		what = "lookup tables";
	if (what == NULL)
		return tok;
	l3_error(err, L3_ERR_FORMAT, "tokenizer image has damaged %s", what);
	return NULL;
}
