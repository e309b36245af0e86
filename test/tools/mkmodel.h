/*-------------------------------------------------------------------------
 *
 * mkmodel.h
 *	  Generator of random-weight Llama 3 model files, as a small library.
 *
 * The command line (mkmodel.c) and the tests fill an MkOptions and call one
 * of the two writers.  Nothing here knows the engine: files are made from the
 * published descriptions of the formats alone, so that the engine's readers
 * are tested against a second understanding of them.
 *
 * The weights are a function of (seed, tensor name, row, shape, type) only.
 * A GGUF file and a Hugging Face directory made with the same options
 * therefore describe the same function, split or not, sharded or not.
 *
 * A tool: wrong options and failed writes print a message and exit(2).
 * The files are little-endian, and so must be the machine.
 *
 *-------------------------------------------------------------------------
 */
#ifndef MKMODEL_H
#define MKMODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Types of weights; the order is mk_types[]'s. */
typedef enum MkType
{
	MK_F32 = 0,
	MK_F16,
	MK_BF16,
	MK_Q8_0,
	MK_Q4_0,
	MK_Q4_1,
	MK_Q5_0,
	MK_Q5_1,
	MK_Q2_K,
	MK_Q3_K,
	MK_Q4_K,
	MK_Q5_K,
	MK_Q6_K,
	MK_IQ4_NL,
	MK_IQ4_XS,
	MK_N_TYPES
} MkType;

/*
 * What a random block needs: its size and where its half-precision scales
 * stand.  Every other bit pattern of a block is valid, so the rest is noise.
 */
typedef struct MkTypeInfo
{
	const char *name;
	uint32_t	ggml_type;		/* number in GGUF files */
	int			block;			/* values in a block */
	int			bytes;			/* bytes of a block */
	int			d_offset;		/* of the scale d; -1: a float type */
	int			m_offset;		/* of the offset's scale (m, dmin); -1: none */
	double		m_ratio;		/* m / d that centres the values at 0 */
	double		unit_std;		/* standard deviation of the values at d = 1 */
	bool		either_sign;	/* quantisers make negative d too */
} MkTypeInfo;

extern const MkTypeInfo mk_types[MK_N_TYPES];

typedef enum MkChat
{
	MK_CHAT_NONE = 0,
	MK_CHAT_LLAMA30,
	MK_CHAT_LLAMA31,
	MK_CHAT_UNKNOWN				/* a template of no form that is known */
} MkChat;

/* Ways to damage a GGUF file, for the loader's tests. */
typedef enum MkCorrupt
{
	MK_SOUND = 0,
	MK_BAD_MAGIC,
	MK_BAD_VERSION,
	MK_ABSURD_TENSORS,			/* 2^60 tensors */
	MK_ABSURD_KEYS,				/* 2^60 metadata keys */
	MK_ABSURD_STRING,			/* first key's length is 2^62 */
	MK_ABSURD_ARRAY,			/* the token list has 2^60 elements */
	MK_ABSURD_LAYERS,			/* llama.block_count = 2^31 */
	MK_WRONG_SHAPE,				/* blk.0.attn_q has one row less */
	MK_BAD_OFFSET,				/* the last tensor starts beyond the file */
	MK_OVERFLOW_OFFSET,			/* offset + size wraps around 64 bits */
	MK_BAD_TYPE,				/* blk.0.attn_q has type 1000 */
	MK_DUPLICATE_TENSOR,		/* blk.0.attn_k is named blk.0.attn_q too */
	MK_TRUNCATED,				/* the last quarter of the file is missing */
	MK_N_CORRUPT
} MkCorrupt;

extern const char *const mk_corrupt_names[MK_N_CORRUPT];

#define MK_MAX_OVERRIDES	8

typedef struct MkOptions
{
	/* Shape. */
	int			n_layers;
	int			n_embd;
	int			n_heads;
	int			n_kv_heads;
	int			head_dim;
	int			value_dim;		/* 0: head_dim */
	int			rope_dim;		/* 0: head_dim */
	int			n_ff;
	int			n_vocab;
	int			n_specials;		/* control tokens, at the end of the vocabulary */
	int			n_ctx;
	bool		tied;
	double		rms_eps;
	double		rope_theta;

	/* RoPE scaling of Llama 3.1 ("llama3"). */
	bool		rope_scaled;
	double		rope_factor;
	double		rope_low;
	double		rope_high;
	int			rope_orig_ctx;

	/* Weights. */
	MkType		type;			/* of matrices */
	bool		mix_q4_k_m;		/* Q4_K, with Q6_K where Q4_K_M files have it */
	uint64_t	seed;
	bool		echo;			/* layers add nothing: answers repeat the last token */
	int			n_overrides;	/* types of single tensors, by GGUF name */
	const char *override_name[MK_MAX_OVERRIDES];
	MkType		override_type[MK_MAX_OVERRIDES];

	/* Tokenizer. */
	const char *pre;			/* tokenizer.ggml.pre */
	MkChat		chat;

	/* The file. */
	const char *name;			/* general.name */
	const char *arch;			/* general.architecture, and prefix of the keys */
	int			gguf_version;	/* 2 or 3 */
	int			alignment;
	int			split;			/* parts (GGUF) or shards (Hugging Face); 1: none */
	bool		header_only;	/* end where the tensor data would start */
	bool		merge_pairs;	/* tokenizer.json: merges as pairs, not "a b" */
	const char *omit_tensor;	/* leave this tensor out; NULL: none */
	const char *omit_key;		/* leave this metadata key out; NULL: none */
	MkCorrupt	corrupt;
} MkOptions;

/* A small sound model: 2 layers, 256 wide, 8 heads over 2, vocabulary 512. */
void		mk_defaults(MkOptions *o);

/* Shapes: "tiny", "1b", "3b", "8b", "70b", "405b".  False when unknown. */
bool		mk_preset(MkOptions *o, const char *preset);

/* Exit with a message when the options do not fit together. */
void		mk_check(const MkOptions *o);

/*
 * Write path (a name that ends in .gguf), or with split > 1 its parts
 * STEM-00001-of-0000N.gguf.
 */
void		mk_write_gguf(const MkOptions *o, const char *path);

/*
 * Write a Hugging Face directory: config.json, generation_config.json,
 * tokenizer.json, tokenizer_config.json and model.safetensors, or with split
 * > 1 its shards and model.safetensors.index.json.  Float types only.
 */
void		mk_write_hf(const MkOptions *o, const char *dir);

/* ----------------------------------------------------------------
 *		Inside the generator
 * ----------------------------------------------------------------
 */

void		mk_fail(const char *fmt,...)
			__attribute__((format(printf, 1, 2), noreturn));
void	   *mk_alloc(size_t size);	/* zero-filled, or exit */
bool		mk_find_type(const char *name, MkType *type);

/* Output that must succeed. */
FILE	   *mk_open(const char *path);
void		mk_write(FILE *f, const void *data, size_t size);
void		mk_close(FILE *f, const char *path);

typedef enum MkFill
{
	MK_FILL_MATRIX,
	MK_FILL_NORM,				/* 0.75 .. 1.25 in steps that bf16 holds */
	MK_FILL_ROPE				/* divisors of the frequencies */
} MkFill;

typedef struct MkTensor
{
	char		name[64];		/* in GGUF */
	char		hf_name[96];	/* in safetensors; "" when it has no place there */
	MkFill		fill;
	MkType		type;
	uint32_t	n_in;			/* length of a row */
	uint32_t	n_out;			/* rows; 1 for vectors */
	int			hf_heads;		/* > 0: rows of this many heads to be reordered */
	double		std;			/* of the values */
	uint16_t	d[256];			/* block scales to draw from, half precision */
	uint16_t	m[256];
} MkTensor;

/* All tensors of the model, in file order; free() the result. */
MkTensor   *mk_tensors(const MkOptions *o, int *n);
uint64_t	mk_tensor_row_bytes(const MkTensor *t);
uint64_t	mk_tensor_bytes(const MkTensor *t);
/* Fill one row (mk_tensor_row_bytes) as it stands in a GGUF file. */
void		mk_tensor_row(const MkOptions *o, const MkTensor *t, uint32_t row, void *out);
/* The float values of a row of a vector or of a float matrix. */
void		mk_tensor_floats(const MkOptions *o, const MkTensor *t, uint32_t row, float *out);
/* Round n floats to a float type. */
void		mk_convert(MkType type, const float *in, size_t n, void *out);

/* Token types of tokenizer.ggml.token_type. */
#define MK_TOKEN_NORMAL		1
#define MK_TOKEN_CONTROL	3

typedef struct MkVocab
{
	int			n_tokens;
	char	  **tokens;			/* in GPT-2's alphabet; control tokens plain */
	int		   *types;
	int			n_merges;
	char	  **merges;			/* "left right" */
	int			bos;
	int			eos;
	int			eot;			/* -1: none */
	int			eom;			/* -1: none */
	const char *chat_template;	/* NULL: none */
} MkVocab;

MkVocab    *mk_vocab(const MkOptions *o);
void		mk_vocab_free(MkVocab *v);

#endif							/* MKMODEL_H */
