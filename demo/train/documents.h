/*-------------------------------------------------------------------------
 *
 * documents.h
 *	  Reading a documents file, and cutting control tokens out of texts.
 *
 * What the learner of the vocabulary and the encoder of the corpus share, so
 * that both see the same runs of text.  trainer.h describes the file.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCUMENTS_H
#define DOCUMENTS_H

#include "trainer.h"

/* Names of the control tokens, in the order of their ids. */
extern const char *const tr_special_names[TR_N_SPECIALS];

#define TR_MAX_WEIGHT	15.0

typedef struct TrField
{
	float		weight;
	const char *text;			/* escapes are replaced; no NUL ends it */
	size_t		len;
} TrField;

typedef struct TrDocuments
{
	const char *path;
	char	   *data;			/* the whole file */
	size_t		size;
	size_t		pos;			/* of the next line */
	int			line;			/* number of the present one, from 1 */

	/* The present document. */
	int32_t		group;
	int			n_fields;
	TrField    *fields;			/* (n_fields) */
	int			capacity;
} TrDocuments;

void		tr_documents_open(TrDocuments *docs, const char *path);
/* Go to the next document; false at the end of the file.  Exits on a malformed line. */
bool		tr_documents_next(TrDocuments *docs);
void		tr_documents_close(TrDocuments *docs);
/* Print "trainer: PATH:LINE: message" and exit(1). */
void		tr_documents_fail(const TrDocuments *docs, const char *fmt,...)
			__attribute__((format(printf, 2, 3), noreturn));

/* A control token, or a run of text between two of them. */
typedef struct TrRun
{
	int			special;		/* index into tr_special_names, or -1: text */
	const char *text;
	size_t		len;			/* >= 1 */
} TrRun;

/* The run at *pos, which moves behind it; false at the end of the text. */
bool		tr_next_run(const char *text, size_t len, size_t *pos, TrRun *run);

#endif							/* DOCUMENTS_H */
