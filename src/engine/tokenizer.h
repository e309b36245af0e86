/*-------------------------------------------------------------------------
 *
 * tokenizer.h
 *	  What a model file says about its tokenizer, and the image built from it.
 *
 * The readers of GGUF and of tokenizer.json fill an L3TokenizerSpec; the
 * builder makes the position-independent image that engine.h describes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_TOKENIZER_H
#define L3_TOKENIZER_H

#include "engine.h"

/* Token types, as GGUF's tokenizer.ggml.token_type numbers them. */
#define L3_TOKEN_NORMAL			1
#define L3_TOKEN_UNKNOWN		2
#define L3_TOKEN_CONTROL		3
#define L3_TOKEN_USER_DEFINED	4
#define L3_TOKEN_UNUSED			5
#define L3_TOKEN_BYTE			6

/* A byte string inside memory that the spec's maker owns. */
typedef struct L3Slice
{
	const char *data;
	uint32_t	len;
} L3Slice;

typedef struct L3TokenizerSpec
{
	const char *where;			/* file name, for messages */
	const char *pre;			/* pre-tokenizer: "llama-bpe" (aliases "llama3",
								 * "llama-v3", "smaug-bpe"), "gpt-2", "smollm",
								 * "qwen2", "default" */
	uint32_t	n_tokens;
	const L3Slice *tokens;		/* normal tokens in GPT-2's byte-to-unicode
								 * alphabet; control and user-defined ones as
								 * plain text */
	const uint8_t *types;		/* (n_tokens) L3_TOKEN_* */
	uint32_t	n_merges;
	const L3Slice *merge_left;	/* (n_merges) same alphabet, rank = index */
	const L3Slice *merge_right;
	int32_t		bos;			/* -1: none */
	int32_t		eos;
	int32_t		eot;
	int32_t		eom;
	bool		add_bos;
	const int32_t *stop_ids;	/* more stop tokens that the file names */
	uint32_t	n_stop_ids;
	const char *chat_template;	/* NULL: none */
	size_t		chat_template_len;
} L3TokenizerSpec;

/*
 * Check the spec and compute the image's size.  L3_ERR_UNSUPPORTED for an
 * unknown pre-tokenizer (the message lists the known), L3_ERR_FORMAT for a
 * damaged vocabulary (no byte fallback, a merge of unknown tokens, ...).
 */
L3Status	l3_tokenizer_image_size(const L3TokenizerSpec *spec, uint64_t *size, L3Error *err);
/* Build the image in mem (8-byte aligned, zero-filled). */
L3Status	l3_tokenizer_build(const L3TokenizerSpec *spec, void *mem, uint64_t size, L3Error *err);

#endif							/* L3_TOKENIZER_H */
