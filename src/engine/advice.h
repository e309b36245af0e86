/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  Errors for what people have instead of a model: what it is, and what to
 *	  do.
 *
 * Nothing here decides whether something is a model.  The readers of formats
 * do, and call this when it is not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_ADVICE_H
#define L3_ADVICE_H

#include "engine.h"

/* Refuse a name or a neighbour that a downloader gives an unfinished file. */
L3Status	l3_refuse_unfinished(const char *path, L3Error *err);

/* A directory without config.json. */
L3Status	l3_no_model_in(const char *directory, L3Error *err);
/* A directory with config.json and without weights. */
L3Status	l3_no_weights_in(const char *directory, L3Error *err);
/* A directory without tokenizer.json. */
L3Status	l3_no_tokenizer_in(const char *directory, L3Error *err);

/* An architecture other than llama; key is where it stands. */
L3Status	l3_wrong_architecture(const char *path, const char *key,
								  const char *found, size_t len, L3Error *err);

#endif							/* L3_ADVICE_H */
