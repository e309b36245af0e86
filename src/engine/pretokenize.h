/*-------------------------------------------------------------------------
 *
 * pretokenize.h
 *	  The split of a text into pre-tokens, before byte-pair merging.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_PRETOKENIZE_H
#define L3_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stored in tokenizer images: numbers never change meaning. */
typedef enum L3PreTokenizer
{
	L3_PRE_LLAMA_BPE = 0,
	L3_PRE_GPT2,
	L3_PRE_SMOLLM,
	L3_PRE_QWEN2,
	L3_PRE_DEFAULT,
	L3_N_PRE_TOKENIZERS
} L3PreTokenizer;

/* Find a pre-tokenizer by its GGUF name or alias; false when unknown. */
bool		l3_pre_by_name(const char *name, L3PreTokenizer *pre);
/* All names that l3_pre_by_name knows, for messages. */
const char *l3_pre_names(void);

typedef struct L3Splitter
{
	const uint8_t *text;
	size_t		len;
	size_t		pos;			/* start of the next pre-token */
	size_t		segment_end;	/* two-stage splits: end of the outer segment */
	L3PreTokenizer pre;
	uint64_t	steps;			/* code points looked at, for scaling tests */
} L3Splitter;

void		l3_split_begin(L3Splitter *splitter, L3PreTokenizer pre,
						   const char *text, size_t len);
/*
 * The next pre-token, at text[*start .. *start + *len); false at the end.
 * Pre-tokens are never empty and together are the whole text.
 */
bool		l3_split_next(L3Splitter *splitter, size_t *start, size_t *len);

/* Texts are looked at this far. */
#define L3_SETTLED_TEXT		2048

/*
 * How much of the beginning of a text is settled: the longest prefix that is
 * split the same way by itself as in any text that begins with these len bytes,
 * with a boundary after it.
 */
size_t		l3_split_settled(L3PreTokenizer pre, const char *text, size_t len);

#endif							/* L3_PRETOKENIZE_H */
