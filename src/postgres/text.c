/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Between a database's text and the model's tokens.
 *
 * The engine knows UTF-8 only, and no database's encoding; so text is
 * converted here, in the backend, on the way in and on the way out.
 *
 * What a model produces is bytes: a token may hold half a character, or a
 * sequence that is no UTF-8 at all.  A text datum must be valid whatever the
 * model says, or indexes, dumps and clients break.  Hence the rules for
 * answers: invalid sequences become U+FFFD, NUL is dropped, and a character
 * that the database's encoding lacks becomes '?'.  Raising an error there, as
 * the server does for a client's input, would lose a whole answer for one
 * curly quotation mark.
 *
 * Memory that outlives a call of the engine is palloc'd, so that an error
 * frees it.  Inside the engine's callbacks nothing may be raised (the engine
 * would be left by longjmp), so they allocate with NO_OOM and report.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "llama3.h"
#include "text.h"

/* Bytes converted in one go; bounds the scratch buffer, nothing else. */
#define CONVERT_CHUNK		8192

/* l3_utf8_sanitize replaces one bad byte by the three of U+FFFD. */
#define SANITIZE_GROWTH		3

/* What the bytes of a UTF-8 database or of one without an encoding are. */
static bool
bytes_are_utf8(void)
{
	int			encoding = GetDatabaseEncoding();

	return encoding == PG_UTF8 || encoding == PG_SQL_ASCII;
}

LlamaText
llama_utf8(const char *data, size_t len)
{
	LlamaText	utf8 = {data, len};

	if (!bytes_are_utf8() && len > 0)
	{
		char	   *converted = pg_server_to_any(data, (int) len, PG_UTF8);

		/* The server returns its argument when there is nothing to convert. */
		if (converted != data)
		{
			utf8.data = converted;
			utf8.len = strlen(converted);
		}
	}
	return utf8;
}

LlamaText
llama_text_utf8(Datum datum)
{
	text	   *t = DatumGetTextPP(datum);

	return llama_utf8(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/* White space, and NUL, which llama_text_make will drop. */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0';
}

LlamaText
llama_text_trim(LlamaText utf8)
{
	while (utf8.len > 0 && is_space(utf8.data[0]))
		utf8.data++, utf8.len--;
	while (utf8.len > 0 && is_space(utf8.data[utf8.len - 1]))
		utf8.len--;
	return utf8;
}

bool
llama_is_blank(LlamaText utf8)
{
	return llama_text_trim(utf8).len == 0;
}

/*
 * Append UTF-8 to out in the database's encoding, '?' for what it lacks.
 */
static void
append_converted(StringInfo out, const char *utf8, size_t len)
{
	int			encoding = GetDatabaseEncoding();
	Oid			proc = FindDefaultConversionProc(PG_UTF8, encoding);
	size_t		chunk_size = Min(len, CONVERT_CHUNK);
	size_t		room = chunk_size * MAX_CONVERSION_GROWTH + MAX_CONVERSION_INPUT_LENGTH;
	unsigned char *chunk;
	size_t		done = 0;

	if (!OidIsValid(proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("default conversion function for encoding \"%s\" to \"%s\" does not exist",
						pg_encoding_to_char(PG_UTF8), pg_encoding_to_char(encoding))));

	chunk = palloc(room + 1);
	while (done < len)
	{
		size_t		n = pg_encoding_mbcliplen(PG_UTF8, utf8 + done, (int) (len - done),
											  (int) Min(len - done, chunk_size));
		int			converted;

		if (n == 0)				/* the chunk is less than a character */
			n = Min(len - done, (size_t) pg_utf_mblen((const unsigned char *) utf8 + done));
		converted = pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding,
												  (unsigned char *) utf8 + done, (int) n,
												  chunk, (int) room + 1, true);
		appendStringInfoString(out, (char *) chunk);
		done += converted;
		if ((size_t) converted < n)
		{
			/* It stopped at a character that the encoding lacks. */
			appendStringInfoChar(out, '?');
			done += pg_utf_mblen((const unsigned char *) utf8 + done);
		}
	}
	pfree(chunk);
}

LlamaText
llama_text_clean(LlamaText answer)
{
	char	   *clean;

	if (answer.len > (MaxAllocSize - VARHDRSZ) / SANITIZE_GROWTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text of %zu bytes is too long", answer.len)));

	clean = palloc(answer.len * SANITIZE_GROWTH + 1);
	return (LlamaText) {clean, l3_utf8_sanitize(answer.data, answer.len, clean)};
}

text *
llama_text_make(const char *bytes, size_t len)
{
	LlamaText	clean = llama_text_clean((LlamaText) {bytes, len});
	text	   *result;

	if (bytes_are_utf8())
		result = cstring_to_text_with_len(clean.data, (int) clean.len);
	else
	{
		StringInfoData converted;

		initStringInfo(&converted);
		append_converted(&converted, clean.data, clean.len);
		result = cstring_to_text_with_len(converted.data, converted.len);
		pfree(converted.data);
	}
	pfree((char *) clean.data);
	return result;
}

text *
llama_text_piece(const char *utf8, size_t len)
{
	return bytes_are_utf8() ? cstring_to_text_with_len(utf8, (int) len) :
		llama_text_make(utf8, len);
}

void
llama_append_answer(const L3Tokenizer *tok, const int32 *ids, size_t n, StringInfo out)
{
	for (size_t i = 0; i < n; i++)
	{
		uint32		len;
		const char *piece = l3_tokenizer_piece(tok, ids[i], &len);

		if (piece != NULL && !l3_tokenizer_is_special(tok, ids[i]))
			appendBinaryStringInfo(out, piece, (int) len);
	}
}

void
llama_append_pieces(const L3Tokenizer *tok, const int32 *ids, size_t n, StringInfo out)
{
	for (size_t i = 0; i < n; i++)
	{
		uint32		len;
		const char *piece = l3_tokenizer_piece(tok, ids[i], &len);

		if (piece == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("token %d is not in the model's vocabulary", ids[i]),
					 errdetail("Tokens are numbered from 0 to %u.",
							   l3_tokenizer_n_tokens(tok) - 1)));
		appendBinaryStringInfo(out, piece, (int) len);
	}
}

/* Make room for more ids; false when there is no memory. */
static bool
ids_reserve(LlamaIds *ids, size_t more)
{
	size_t		capacity = Max(ids->capacity, 256);
	int32	   *grown;

	if (ids->n + more <= ids->capacity)
		return true;
	while (capacity < ids->n + more)
		capacity *= 2;
	grown = MemoryContextAllocExtended(CurrentMemoryContext, capacity * sizeof(int32),
									   MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (grown == NULL)
		return false;
	if (ids->ids != NULL)
	{
		memcpy(grown, ids->ids, ids->n * sizeof(int32));
		pfree(ids->ids);
	}
	ids->ids = grown;
	ids->capacity = capacity;
	return true;
}

static void
raise_out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("Failed while making tokens of a text.")));
}

void
llama_ids_append(LlamaIds *ids, const int32 *more, size_t n)
{
	if (!ids_reserve(ids, n))
		raise_out_of_memory();
	memcpy(ids->ids + ids->n, more, n * sizeof(int32));
	ids->n += n;
}

/* Where an encoding run has got to. */
typedef struct EncodeState
{
	LlamaIds   *ids;			/* NULL: only count */
	size_t		limit;
	size_t		n;
	bool		interruptible;
	bool		out_of_memory;
	bool		over_limit;
} EncodeState;

/* L3EmitFn: true stops the tokenizer. */
static bool
collect_ids(void *ctx, const int32_t *ids, size_t n)
{
	EncodeState *state = ctx;

	if (state->interruptible && (QueryCancelPending || ProcDiePending))
		return true;
	state->over_limit = n > state->limit - state->n;
	if (state->ids != NULL)
	{
		size_t		n_kept = Min(n, state->limit - state->n);

		if (!ids_reserve(state->ids, n_kept))
		{
			state->out_of_memory = true;
			return true;
		}
		memcpy(state->ids->ids + state->ids->n, ids, n_kept * sizeof(int32));
		state->ids->n += n_kept;
	}
	state->n += n;
	return state->over_limit;
}

bool
llama_encode(const L3Tokenizer *tok, LlamaText utf8, bool special,
			 size_t limit, LlamaIds *ids, size_t *n)
{
	EncodeState state = {.ids = ids, .limit = limit, .interruptible = true};
	size_t		n_before = ids != NULL ? ids->n : 0;
	L3Status	status;
	L3Error		err;

	status = l3_tokenizer_encode(tok, utf8.data, utf8.len, special, collect_ids, &state, &err);
	if (status == L3_ERR_CANCELLED && !state.over_limit && !state.out_of_memory)
	{
		CHECK_FOR_INTERRUPTS();

		/* Whoever wanted to cancel is held off: finish the work. */
		if (ids != NULL)
			ids->n = n_before;
		state.n = 0;
		state.interruptible = false;
		status = l3_tokenizer_encode(tok, utf8.data, utf8.len, special, collect_ids, &state, &err);
	}
	if (state.out_of_memory)
		raise_out_of_memory();
	if (status != L3_OK && !state.over_limit)
		llama_raise(&err);
	if (n != NULL)
		*n = state.n;
	return !state.over_limit;
}
