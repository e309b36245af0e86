/*-------------------------------------------------------------------------
 *
 * row.h
 *	  Requests as the SQL functions make them: one row, one answer, or what
 *	  llama3.on_error says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_ROW_H
#define LLAMA3_ROW_H

#include "llama3.h"
#include "text.h"

/* Calls of this process that were answered with NULL as llama3.on_error says. */
extern int64 llama_calls_given_up;

/* The model argument, which is the last of every function. */
extern const LlamaModel *llama_model_arg(FunctionCallInfo fcinfo, int arg);
/* That of a pinned form; raises 22023 when it is NULL. */
extern const LlamaModel *llama_pinned_model_arg(FunctionCallInfo fcinfo, int arg);

/*
 * A row's prompt is longer than the context.  Raises 54000; under
 * llama3.on_error = 'null' warns and returns, and the caller answers NULL.
 */
extern void llama_row_too_long(const LlamaModel *model);

/*
 * Append the model's begin-of-text, if its prompts have one, and then text;
 * false when the row is too long.  Raises 22023 when that is no token at all.
 */
extern bool llama_row_encode(const LlamaModel *model, LlamaText utf8, LlamaIds *ids);

/*
 * llama_submit and llama_wait, with what llama3.on_error = 'null' means: NULL
 * or false (after a warning, and with the request released) where the row
 * cannot be answered.  llama_row_wait sets *done (if given) when the request
 * has ended.
 */
extern LlamaRequest *llama_row_submit(const LlamaModel *model, LlamaFunction function,
									  const L3Request *request);
extern bool llama_row_wait(LlamaRequest *request, int64 n_bytes_seen, bool *done);

/* Submit and wait for the end; NULL where the row cannot be answered. */
extern LlamaRequest *llama_row_run(const LlamaModel *model, LlamaFunction function,
								   const L3Request *request);

#endif							/* LLAMA3_ROW_H */
