/*-------------------------------------------------------------------------
 *
 * generate.h
 *	  What the generating functions share: arguments to a request, and the
 *	  request's tokens to text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_GENERATE_H
#define LLAMA3_GENERATE_H

#include "call.h"
#include "options.h"

/*
 * llama_max_tokens_arg and llama_options_read for a call: in a pinned form, what
 * stands for a max_tokens that was not given is LLAMA_PINNED_MAX_TOKENS.
 */
extern int32 llama_call_max_tokens(FunctionCallInfo fcinfo, const LlamaCall *call, int arg);
extern void llama_call_options(FunctionCallInfo fcinfo, const LlamaCall *call, int first,
							   LlamaOptions *options);

/* Make the request for a prompt. */
extern void llama_generate_request(const LlamaIds *prompt, const LlamaOptions *options,
								   L3Request *request);

/*
 * Read (prompt text, system text, options ..., model text) and encode the
 * chat; false when the row cannot be answered, or the call is.  The model is in
 * *model.  call is NULL for a stream.
 */
extern bool llama_generate_args(FunctionCallInfo fcinfo, LlamaCall *call,
								const LlamaModel **model, LlamaOptions *options,
								LlamaIds *prompt);

/* For begin: make the request for a prompt and submit it. */
extern void llama_generate_submit(LlamaCall *call, LlamaFunction function,
								  const LlamaModel *model, const LlamaIds *prompt,
								  const LlamaOptions *options);

/* What a request that is done has generated, in whole characters; a call's first one. */
extern LlamaText llama_answer(const LlamaModel *model, LlamaRequest *request);
/*
 * The latter as text; raises when it cannot be cast to the format's type.
 */
extern LlamaText llama_generated(const LlamaCall *call);
extern text *llama_generated_text(const LlamaCall *call);

#endif							/* LLAMA3_GENERATE_H */
