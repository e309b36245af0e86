/*-------------------------------------------------------------------------
 *
 * chunk.h
 *	  Long texts in pieces.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_CHUNK_H
#define LLAMA3_CHUNK_H

#include "llama3.h"
#include "text.h"

/* A character has at most so many tokens. */
#define LLAMA_MIN_CHUNK_TOKENS	4

/*
 * Where the piece of text ends that starts at from, before the text's end, and
 * has at most chunk_tokens (LLAMA_MIN_CHUNK_TOKENS or more) tokens: after a
 * paragraph, a sentence, a word or a character, as llama_chunk cuts.
 */
extern size_t llama_chunk_end(const LlamaModel *model, LlamaText text, size_t from,
							  size_t chunk_tokens);

#endif							/* LLAMA3_CHUNK_H */
