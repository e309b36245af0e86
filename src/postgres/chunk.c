/*-------------------------------------------------------------------------
 *
 * chunk.c
 *	  llama_chunk: a long text in pieces of at most so many tokens.
 *
 * The pieces are exact: each is a run of the input's characters, the first
 * starts at its beginning, each other starts where the one before ends (or, with
 * an overlap, before that), and the last ends at its end.  Nothing is trimmed.
 *
 * Where a chunk ends.  The tokens tell how far it can go.  In its last half
 * the last end of a paragraph is looked for, then of a sentence or a line, then
 * of a word; failing all, it ends after a character.  White space belongs to
 * what stands before it.  An overlap starts, likewise, at the first sentence or
 * word of its first half.
 *
 * How many tokens a piece has is known only when it is counted alone: where a
 * text ends decides how its end is split.  So every piece is counted before it
 * is taken, and one that turns out too long is made shorter.  That ends with a
 * single character at the latest, which has at most LLAMA_MIN_CHUNK_TOKENS
 * tokens, because it has at most so many bytes and no token is empty.
 *
 * The work for a chunk is in proportion to its length, whatever the length of
 * the text: the tokenizer is shown no more of it than that takes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "chunk.h"
#include "options.h"
#include "row.h"

PG_FUNCTION_INFO_V1(llama_chunk);

/* Columns: ordinal, chunk, start. */
#define N_COLUMNS				3

#define LLAMA_MAX_CHUNK_TOKENS	L3_MAX_CONTEXT

/* Bytes of text shown to the tokenizer at first, for each token wanted. */
#define BYTES_PER_TOKEN			8

/* What lies between two characters, from the worst place to cut to the best. */
typedef enum Boundary
{
	WITHIN_WORD,
	AFTER_WORD,
	AFTER_SENTENCE,
	AFTER_PARAGRAPH
} Boundary;

#define N_BOUNDARIES	(AFTER_PARAGRAPH + 1)

typedef struct Chunker
{
	const LlamaModel *model;
	LlamaText	text;
	size_t		chunk_tokens;
	size_t		overlap;		/* tokens */
} Chunker;

/* ----------------------------------------------------------------
 *		Characters and what lies between them
 * ----------------------------------------------------------------
 */

/*
 * Decode the character at pos and return its length.  Bytes that are no
 * character, which only a database without an encoding can have, count one by
 * one.
 */
static size_t
next_char(const LlamaText *text, size_t pos, pg_wchar *c)
{
	const unsigned char *p = (const unsigned char *) text->data + pos;
	int			len = pg_utf_mblen(p);

	if ((size_t) len > text->len - pos || !pg_utf8_islegal(p, len))
	{
		*c = 0xFFFD;
		return 1;
	}
	*c = utf8_to_unicode(p);
	return len;
}

/* The last position before pos, and not before first, that begins a character. */
static size_t
previous_char(const LlamaText *text, size_t pos, size_t first)
{
	do
		pos--;
	while (pos > first && ((uint8) text->data[pos] & 0xC0) == 0x80);
	return pos;
}

/* White space at which a line may be broken: Unicode's, without no-break spaces. */
static bool
is_space(pg_wchar c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0x1680 ||
		(c >= 0x2000 && c <= 0x200A && c != 0x2007) ||
		c == 0x2028 || c == 0x2029 || c == 0x205F || c == 0x3000;
}

/* Ends a line.  A carriage return, if there is one, stands before it. */
static bool
is_newline(pg_wchar c)
{
	return c == '\n' || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/* Ends a sentence when white space follows. */
static bool
is_stop(pg_wchar c)
{
	return c == '.' || c == '!' || c == '?' || c == 0x2026 ||	/* ellipsis */
		c == 0x061F || c == 0x06D4 ||	/* Arabic question mark, Urdu full stop */
		c == 0x0964 || c == 0x0965; /* danda, double danda */
}

/* Ends a sentence by itself: ideographic and full-width marks. */
static bool
is_wide_stop(pg_wchar c)
{
	return c == 0x3002 || c == 0xFF01 || c == 0xFF0E || c == 0xFF1F || c == 0xFF61;
}

/* May stand between a sentence's stop and its end: closing quotes and brackets. */
static bool
is_closing(pg_wchar c)
{
	return c == '"' || c == '\'' || c == ')' || c == ']' || c == 0xBB ||
		c == 0x2019 || c == 0x201D || c == 0x300D || c == 0x300F || c == 0xFF09;
}

/* What has been read of a text. */
typedef struct Reading
{
	bool		has_stop;		/* a sentence's stop, and perhaps closings */
	bool		has_wide_stop;	/* of these */
	bool		in_space;
	int			n_newlines;		/* in the white space */
} Reading;

static void
read_char(Reading *reading, pg_wchar c)
{
	if (is_space(c))
	{
		reading->in_space = true;
		reading->n_newlines += is_newline(c);
		return;
	}
	if (is_stop(c) || is_wide_stop(c))
	{
		reading->has_stop = true;
		reading->has_wide_stop = is_wide_stop(c);
	}
	else if (reading->in_space || !is_closing(c))
		reading->has_stop = reading->has_wide_stop = false;
	reading->in_space = false;
	reading->n_newlines = 0;
}

/* What lies between what has been read and the character after it? */
static Boundary
boundary_before(const Reading *reading, pg_wchar next)
{
	if (is_space(next))
		return WITHIN_WORD;		/* its white space still belongs to it */
	if (!reading->in_space)
		return reading->has_wide_stop && !is_closing(next) && !is_stop(next) &&
			!is_wide_stop(next) ? AFTER_SENTENCE : WITHIN_WORD;
	if (reading->n_newlines > 1)
		return AFTER_PARAGRAPH;
	return reading->has_stop || reading->n_newlines > 0 ? AFTER_SENTENCE : AFTER_WORD;
}

/* ----------------------------------------------------------------
 *		Counting
 * ----------------------------------------------------------------
 */

static bool
fits(const Chunker *chunker, size_t from, size_t to, size_t limit)
{
	LlamaText	piece = {chunker->text.data + from, to - from};

	return llama_encode(chunker->model->tok, piece, false, limit, NULL, NULL);
}

static size_t
piece_bytes(const Chunker *chunker, const int32 *ids, size_t n)
{
	size_t		n_bytes = 0;

	for (size_t i = 0; i < n; i++)
	{
		uint32		len = 0;

		(void) l3_tokenizer_piece(chunker->model->tok, ids[i], &len);
		n_bytes += len;
	}
	return n_bytes;
}

/*
 * How far a chunk that starts at from could reach: the end of the text if the
 * rest fits, else where its tokens end, be that within a character.
 */
static size_t
reach(const Chunker *chunker, size_t from)
{
	size_t		rest = chunker->text.len - from;
	size_t		shown = Min(rest, chunker->chunk_tokens * BYTES_PER_TOKEN);

	for (;;)
	{
		LlamaText	window = {chunker->text.data + from, shown};
		LlamaIds	ids = {0};
		bool		all = llama_encode(chunker->model->tok, window, false,
									   chunker->chunk_tokens, &ids, NULL);
		size_t		n_bytes = piece_bytes(chunker, ids.ids, ids.n);

		if (ids.ids != NULL)
			pfree(ids.ids);
		if (all && shown == rest)
			return chunker->text.len;
		if (!all)
			return from + Min(n_bytes, rest);
		shown = Min(rest, 2 * shown);
	}
}

/* ----------------------------------------------------------------
 *		Cutting
 * ----------------------------------------------------------------
 */

/* Where the chunk that starts at from ends; after the position after if it can. */
static size_t
chunk_end(const Chunker *chunker, size_t from, size_t after)
{
	const LlamaText *text = &chunker->text;
	size_t		limit = reach(chunker, from);
	size_t		least = Max(from + (limit - from) / 2, after);
	size_t		ends[N_BOUNDARIES] = {0};
	size_t		first = 0;		/* after the first character */
	Reading		reading = {0};
	pg_wchar	c;

	if (limit == text->len)
		return limit;
	for (size_t pos = from; pos < text->len;)
	{
		size_t		len = next_char(text, pos, &c);

		if (pos > limit)
			break;
		if (pos > from)
		{
			if (first == 0)
				first = pos;
			ends[WITHIN_WORD] = pos;
			if (pos > least)
				ends[boundary_before(&reading, c)] = pos;
		}
		read_char(&reading, c);
		pos += len;
	}

	for (int boundary = AFTER_PARAGRAPH; boundary > WITHIN_WORD; boundary--)
	{
		if (ends[boundary] != 0 && fits(chunker, from, ends[boundary], chunker->chunk_tokens))
			return ends[boundary];
	}
	for (size_t n_back = 1; ends[WITHIN_WORD] > first; n_back *= 2)
	{
		if (fits(chunker, from, ends[WITHIN_WORD], chunker->chunk_tokens))
			return ends[WITHIN_WORD];
		for (size_t i = 0; i < n_back && ends[WITHIN_WORD] > first; i++)
			ends[WITHIN_WORD] = previous_char(text, ends[WITHIN_WORD], first);
	}
	return first;
}

size_t
llama_chunk_end(const LlamaModel *model, LlamaText text, size_t from, size_t chunk_tokens)
{
	Chunker		chunker = {.model = model, .text = text, .chunk_tokens = chunk_tokens};

	return chunk_end(&chunker, from, from);
}

/*
 * Where the chunk after the one from .. to starts: at to, or earlier by at most
 * the overlap's tokens, but after from.
 */
static size_t
next_start(const Chunker *chunker, size_t from, size_t to)
{
	const LlamaText *text = &chunker->text;
	LlamaText	chunk = {text->data + from, to - from};
	LlamaIds	ids = {0};
	size_t		n;
	size_t		n_bytes;
	size_t		earliest;
	size_t		starts[N_BOUNDARIES] = {0};
	Reading		reading = {0};
	pg_wchar	c;

	if (chunker->overlap == 0)
		return to;
	(void) llama_encode(chunker->model->tok, chunk, false, chunker->chunk_tokens, &ids, NULL);
	n = Min(ids.n, chunker->overlap);
	n_bytes = Min(piece_bytes(chunker, ids.ids + ids.n - n, n), chunk.len);
	pfree(ids.ids);
	earliest = Max(to - n_bytes, from + 1);

	for (size_t pos = from; pos < to;)
	{
		size_t		len = next_char(text, pos, &c);
		Boundary	boundary = pos > from ? boundary_before(&reading, c) : WITHIN_WORD;

		if (pos >= earliest)
		{
			if (starts[WITHIN_WORD] == 0)
				starts[WITHIN_WORD] = pos;
			if (starts[boundary] == 0 && pos <= to - n_bytes / 2)
				starts[boundary] = pos;
		}
		read_char(&reading, c);
		pos += len;
	}

	for (int boundary = AFTER_PARAGRAPH; boundary >= WITHIN_WORD; boundary--)
	{
		if (starts[boundary] != 0 && fits(chunker, starts[boundary], to, chunker->overlap))
			return starts[boundary];
	}
	/* Shorten the overlap, to nothing in the end. */
	for (size_t n_on = 1; starts[WITHIN_WORD] != 0 && starts[WITHIN_WORD] < to; n_on *= 2)
	{
		for (size_t i = 0; i < n_on && starts[WITHIN_WORD] < to; i++)
			starts[WITHIN_WORD] += next_char(text, starts[WITHIN_WORD], &c);
		if (fits(chunker, starts[WITHIN_WORD], to, chunker->overlap))
			return starts[WITHIN_WORD];
	}
	return to;
}

/* ----------------------------------------------------------------
 *		The function
 * ----------------------------------------------------------------
 */

/* Characters of a piece of the input, as the database counts them. */
static int
count_chars(const Chunker *chunker, size_t from, size_t to)
{
	text	   *piece = llama_text_piece(chunker->text.data + from, to - from);
	int			n = pg_mbstrlen_with_len(VARDATA_ANY(piece), (int) VARSIZE_ANY_EXHDR(piece));

	pfree(piece);
	return n;
}

static void
put_chunk(ReturnSetInfo *rsinfo, const Chunker *chunker, int ordinal, int start,
		  size_t from, size_t to)
{
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};
	text	   *chunk = llama_text_piece(chunker->text.data + from, to - from);

	values[0] = Int32GetDatum(ordinal);
	values[1] = PointerGetDatum(chunk);
	values[2] = Int32GetDatum(start);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	pfree(chunk);
}

/*
 * llama_chunk(input text, chunk_tokens int, overlap int, model text)
 * returns table (ordinal int, chunk text, start int)
 */
Datum
llama_chunk(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Chunker		chunker;
	size_t		from = 0;
	size_t		to = 0;
	int			start = 1;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_VOID();
	chunker.chunk_tokens = llama_int_arg(fcinfo, 1, "chunk_tokens", false,
										 LLAMA_MIN_CHUNK_TOKENS, LLAMA_MAX_CHUNK_TOKENS, 0);
	/* So each chunk brings at least about half of it that is new. */
	chunker.overlap = llama_int_arg(fcinfo, 2, "overlap", false,
									0, (int64) chunker.chunk_tokens / 2, 0);
	chunker.model = llama_model_arg(fcinfo, 3);
	chunker.text = llama_text_utf8(PG_GETARG_DATUM(0));

	for (int ordinal = 1; to < chunker.text.len; ordinal++)
	{
		size_t		next = ordinal == 1 ? 0 : next_start(&chunker, from, to);
		size_t		end = chunk_end(&chunker, next, to);

		/* An overlap that leaves no room for anything new is none. */
		if (end <= to)
		{
			next = to;
			end = chunk_end(&chunker, next, to);
		}
		start += count_chars(&chunker, from, next);
		put_chunk(rsinfo, &chunker, ordinal, start, next, end);
		from = next;
		to = end;
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_VOID();
}
