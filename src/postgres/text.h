/*-------------------------------------------------------------------------
 *
 * text.h
 *	  Between a database's text and the model's tokens.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_TEXT_H
#define LLAMA3_TEXT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "engine.h"

/* Text in UTF-8, not NUL-terminated; may point into the datum it came from. */
typedef struct LlamaText
{
	const char *data;
	size_t		len;
} LlamaText;

/* Token ids in the caller's memory context; zero-initialise. */
typedef struct LlamaIds
{
	int32	   *ids;
	size_t		n;
	size_t		capacity;
} LlamaIds;

/* Most ids that an int[] can hold. */
#define LLAMA_MAX_ARRAY_IDS		((MaxAllocSize - 1024) / sizeof(int32))

/*
 * From the database's encoding to UTF-8.  In a SQL_ASCII database the bytes
 * are taken as they are.  llama_utf8 reads len bytes at data; llama_text_utf8
 * reads a text datum, detoasting it.
 */
extern LlamaText llama_utf8(const char *data, size_t len);
extern LlamaText llama_text_utf8(Datum datum);

/* Without the white space (of ASCII) around it; is anything left? */
extern LlamaText llama_text_trim(LlamaText utf8);
extern bool llama_is_blank(LlamaText utf8);

/*
 * Make text of the database from len bytes that a model produced.  Always
 * valid and free of NUL: invalid sequences become U+FFFD, and characters that
 * the database's encoding lacks become a question mark.
 */
extern text *llama_text_make(const char *bytes, size_t len);

/* The same in UTF-8, whatever the database's encoding is. */
extern LlamaText llama_text_clean(LlamaText answer);

/*
 * Make text of len bytes, whole characters, of what llama_utf8 returned: the
 * same characters of the database, unchanged.
 */
extern text *llama_text_piece(const char *utf8, size_t len);

/*
 * Append the bytes of n tokens to out.  llama_append_answer is for what a model
 * has generated: special tokens contribute nothing, nor do those of a padded
 * vocabulary (the engine counts their bytes likewise).  llama_append_pieces is
 * for tokens that a user gave: special tokens contribute their text, and an id
 * that is not in the vocabulary raises 22023.
 */
extern void llama_append_answer(const L3Tokenizer *tok, const int32 *ids, size_t n,
								StringInfo out);
extern void llama_append_pieces(const L3Tokenizer *tok, const int32 *ids, size_t n,
								StringInfo out);

/* Append n ids. */
extern void llama_ids_append(LlamaIds *ids, const int32 *more, size_t n);

/*
 * Encode text and append at most limit ids; false when there would be more.
 * With ids NULL the ids are only counted.  *n (if given) gets the number of
 * ids of this text, or a number above limit.  Interruptible.
 */
extern bool llama_encode(const L3Tokenizer *tok, LlamaText utf8, bool special,
						 size_t limit, LlamaIds *ids, size_t *n);

#endif							/* LLAMA3_TEXT_H */
