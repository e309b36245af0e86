/*-------------------------------------------------------------------------
 *
 * tokenizer_image.h
 *	  Layout of the tokenizer image (private to the tokenizer's files).
 *
 * The image is one run of bytes: L3TokenizerHeader, then sections that the
 * header names by offset, each 8-byte aligned.  No pointers, so that it can
 * stand in shared memory at different addresses.
 *
 *	piece_offsets	uint32 [n_tokens + 1]	start of each piece in pieces
 *	pieces			bytes					the tokens' own bytes, end to end
 *	types			uint8 [n_tokens]		L3_TOKEN_*, and L3_TOKEN_WHOLE
 *	stops			uint8 [ceil(n_tokens / 8)]	bitmap of stop tokens
 *	specials		uint32 [n_specials]		control and user-defined tokens,
 *											ordered by their bytes
 *	piece_table		uint32 [piece_slots]	bytes -> normal token
 *	merge_table		uint64 [merge_slots]	(left, right) -> rank
 *	products		uint32 [n_merges]		rank -> merged token
 *
 * Both tables use open addressing with linear probing.  A slot of the piece
 * table keeps 12 bits of the hash over 20 bits of id, so that a wrong piece
 * is mostly passed by without touching it; a slot of the merge table packs
 * left and right (20 bits each) and rank (24 bits) into one word.  The
 * builder refuses a vocabulary that would need more than L3_TOK_MAX_PROBE
 * probes, and lookups stop there, so neither a hostile vocabulary nor a
 * damaged image can make them long.
 *
 * Only normal tokens are in the piece table and among the products: a control
 * or user-defined token cannot come out of ordinary text, whatever it says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_TOKENIZER_IMAGE_H
#define L3_TOKENIZER_IMAGE_H

#include <string.h>

#include "pretokenize.h"
#include "tokenizer.h"

#define L3_TOK_MAGIC		"L3TOKEN"	/* with its NUL, 8 bytes */
#define L3_TOK_VERSION		1

/* Bounds; the largest public vocabularies are far below. */
#define L3_TOK_MAX_TOKENS	(L3_MAX_VOCAB - 1)	/* ids fit 20 bits, one spare */
#define L3_TOK_MAX_MERGES	(1u << 22)
#define L3_TOK_MAX_BYTES	(1u << 29)	/* of all pieces together */
#define L3_TOK_MAX_PROBE	512

/* In types: the merges turn the token's bytes into this very token. */
#define L3_TOKEN_WHOLE		0x80
#define L3_TOKEN_TYPE(t)	((t) & 0x7F)

#define L3_TOK_ADD_BOS		0x01
#define L3_TOK_HAS_TEMPLATE	0x02
/* Whole pre-tokens in the vocabulary are taken before any merge. */
#define L3_TOK_IGNORE_MERGES 0x04
#define L3_TOK_ALL_FLAGS	0x07

#define L3_PIECE_EMPTY		UINT32_MAX
#define L3_MERGE_EMPTY		UINT64_MAX
#define L3_NO_RANK			UINT32_MAX

typedef struct L3TokenizerHeader
{
	char		magic[8];
	uint32_t	version;
	uint32_t	header_bytes;	/* sizeof(L3TokenizerHeader) */
	uint64_t	total_bytes;
	uint32_t	flags;
	uint32_t	pre;			/* L3PreTokenizer */
	uint32_t	chat_form;		/* L3ChatForm */
	uint32_t	n_tokens;
	uint32_t	n_merges;
	uint32_t	n_specials;
	uint32_t	piece_slots;	/* power of two */
	uint32_t	merge_slots;	/* power of two */
	uint32_t	max_piece;		/* bytes of the longest normal token */
	int32_t		bos;			/* ids; -1: none */
	int32_t		eot;
	int32_t		start_header;	/* of the chat form */
	int32_t		end_header;
	int32_t		end_turn;
	uint64_t	pieces_bytes;
	/* Offsets from the image's start. */
	uint64_t	piece_offsets;
	uint64_t	pieces;
	uint64_t	types;
	uint64_t	stops;
	uint64_t	specials;
	uint64_t	piece_table;
	uint64_t	merge_table;
	uint64_t	products;
	uint32_t	byte_ids[256];	/* token of each single byte */
	uint8_t		special_first[32];	/* bitmap: first bytes of specials */
} L3TokenizerHeader;

struct L3Tokenizer
{
	L3TokenizerHeader header;
};

/* A section of a checked image. */
#define L3_TOK_SECTION(tok, type, name) \
	((const type *) ((const char *) (tok) + (tok)->header.name))

static inline uint32_t
l3_tok_piece_len(const L3Tokenizer *tok, uint32_t id)
{
	const uint32_t *offsets = L3_TOK_SECTION(tok, uint32_t, piece_offsets);

	return offsets[id + 1] - offsets[id];
}

static inline const uint8_t *
l3_tok_piece(const L3Tokenizer *tok, uint32_t id)
{
	return L3_TOK_SECTION(tok, uint8_t, pieces) +
		L3_TOK_SECTION(tok, uint32_t, piece_offsets)[id];
}

/* Multiply-and-fold over 8 bytes at a time; for tables in memory only. */
static inline uint64_t
l3_tok_hash(const uint8_t *p, size_t n)
{
	const uint64_t k = UINT64_C(0x9E3779B97F4A7C15);	/* 2^64 / golden ratio */
	uint64_t	h = n * k;
	uint64_t	w;

	for (; n >= 8; p += 8, n -= 8)
	{
		memcpy(&w, p, 8);
		h = (h ^ w) * k;
		h ^= h >> 32;
	}
	w = 0;
	memcpy(&w, p, n);
	h = (h ^ w) * k;
	h = (h ^ h >> 29) * k;
	return h ^ h >> 32;
}

static inline uint64_t
l3_tok_pair_hash(uint32_t left, uint32_t right)
{
	uint64_t	h = ((uint64_t) left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);

	h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
	return h ^ h >> 32;
}

/* The 12 bits of a hash that a piece slot keeps; never all ones. */
static inline uint32_t
l3_tok_tag(uint64_t hash)
{
	uint32_t	tag = (uint32_t) (hash >> 52);

	return tag == 0xFFF ? 0 : tag;
}

/* Normal token with these bytes, or -1. */
static inline int32_t
l3_tok_find_piece(const L3Tokenizer *tok, const uint8_t *bytes, size_t n)
{
	const uint32_t *table = L3_TOK_SECTION(tok, uint32_t, piece_table);
	uint64_t	hash = l3_tok_hash(bytes, n);
	uint32_t	mask = tok->header.piece_slots - 1;
	uint32_t	tag = l3_tok_tag(hash);

	for (uint32_t probe = 0; probe < L3_TOK_MAX_PROBE; probe++)
	{
		uint32_t	slot = table[(hash + probe) & mask];
		uint32_t	id = slot & 0xFFFFF;

		if (slot == L3_PIECE_EMPTY)
			return -1;
		if (slot >> 20 == tag && l3_tok_piece_len(tok, id) == n &&
			memcmp(l3_tok_piece(tok, id), bytes, n) == 0)
			return (int32_t) id;
	}
	return -1;
}

/* Rank of the merge of two tokens, or L3_NO_RANK. */
static inline uint32_t
l3_tok_find_merge(const L3Tokenizer *tok, uint32_t left, uint32_t right)
{
	const uint64_t *table = L3_TOK_SECTION(tok, uint64_t, merge_table);
	uint64_t	key = (uint64_t) left << 20 | right;
	uint64_t	hash = l3_tok_pair_hash(left, right);
	uint32_t	mask = tok->header.merge_slots - 1;

	for (uint32_t probe = 0; probe < L3_TOK_MAX_PROBE; probe++)
	{
		uint64_t	slot = table[(hash + probe) & mask];

		if (slot == L3_MERGE_EMPTY)
			return L3_NO_RANK;
		if (slot >> 24 == key)
			return (uint32_t) (slot & 0xFFFFFF);
	}
	return L3_NO_RANK;
}

/*
 * l3_tokenizer_encode, adding to *steps the code points looked at and the
 * merge steps taken: what tests of the growth with the length count.
 */
L3Status	l3_tok_encode_counted(const L3Tokenizer *tok, const char *text, size_t len,
								  bool special, L3EmitFn emit, void *ctx,
								  uint64_t *steps, L3Error *err);

#endif							/* L3_TOKENIZER_IMAGE_H */
