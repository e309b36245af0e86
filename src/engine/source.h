/*-------------------------------------------------------------------------
 *
 * source.h
 *	  A model that is being loaded, whatever format its files have.
 *
 * A format's reader (gguf_model.c, huggingface.c) fills the hyperparameters,
 * lists the tensors it found and describes the tokenizer; from there on
 * formats do not differ.  l3_source_bind (source.c) checks the list against
 * what the hyperparameters demand and lays out the arena; load.c reads and
 * packs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SOURCE_H
#define L3_SOURCE_H

#include "pack.h"
#include "reader.h"
#include "tokenizer.h"

/* A file of the model.  At most one is open at a time: 70B models have 30. */
typedef struct L3SourceFile
{
	char	   *path;
	const uint8_t *memory;		/* instead of a file on disk, or NULL */
	uint64_t	size;			/* when it was first opened */
} L3SourceFile;

/* A tensor that a file's header lists. */
typedef struct L3FoundTensor
{
	L3Slice		name;			/* the format's reader owns it */
	uint32_t	file;			/* index into files */
	int			type;			/* L3FileType, or -1: one we do not know */
	char		type_name[24];	/* for messages */
	uint32_t	n_dims;
	uint64_t	dims[4];		/* innermost first; 1 where not given */
	uint64_t	offset;			/* from the start of the file */
	uint64_t	bytes;			/* 0 when the type is unknown */
} L3FoundTensor;

/* How a format names the tensors: global[i], or prefix LAYER "." layer[i]. */
typedef struct L3TensorNames
{
	const char *global[L3_N_GLOBAL_TENSORS];	/* NULL: not in files */
	const char *layer_prefix;
	const char *layer[L3_N_LAYER_TENSORS];
} L3TensorNames;

/* Where the weights of an arena tensor stand. */
typedef struct L3SourceTensor
{
	bool		present;
	uint32_t	file;
	L3FileType	type;
	uint64_t	offset;
	/*
	 * Non-zero: rows come in heads of this many whose halves are to be
	 * interleaved (Hugging Face's order of query and key rows).
	 */
	uint32_t	interleave;
} L3SourceTensor;

struct L3Source
{
	char	   *path;
	L3LoadOptions options;
	bool		headers_only;

	L3SourceFile *files;		/* (n_files) */
	uint32_t	n_files;
	L3Reader	reader;			/* of files[open_file] */
	int64_t		open_file;		/* -1: none */

	char		architecture[64];
	char		name[128];
	char		warning[256];
	L3Hparams	hparams;

	/*
	 * RoPE divisors (rope_dim / 2), multiplied by those of the file when it
	 * has a tensor of them.
	 */
	float	   *rope_factors;

	const L3TensorNames *names;
	L3SourceTensor *tensors;	/* (layout.n_tensors) */
	L3ArenaTensor *table;		/* (layout.n_tensors) */
	L3ArenaHeader layout;

	bool		has_tokenizer;
	uint64_t	tokenizer_size;
	L3TokenizerSpec spec;		/* slices into what format owns */
	/* The arrays of the spec that are ours to free. */
	L3Slice    *tokens;
	uint8_t    *token_types;
	L3Slice    *merge_left;
	L3Slice    *merge_right;
	int32_t    *stop_ids;

	void	   *format;			/* the reader's own state */
	void		(*free_format) (void *format);
};

/* As l3_source_open, of a GGUF file in memory, which must outlive the source. */
L3Status	l3_source_open_memory(const void *memory, uint64_t size, bool headers_only,
								  const L3LoadOptions *options,
								  L3Source **source, L3Error *err);

/* For the formats' readers. */
L3Status	l3_source_add_file(L3Source *source, const char *path,
							   const uint8_t *memory, L3Error *err);
/* Open a file, closing the one that is open. */
L3Status	l3_source_reader(L3Source *source, uint32_t file,
							 const L3Reader **reader, L3Error *err);
/* l3_hparams_check with the model's path in the message. */
L3Status	l3_source_check_hparams(const L3Source *source, L3Error *err);
/* Name of tensor index in the files, or "" when files never have it. */
void		l3_source_tensor_name(const L3Source *source, uint64_t index,
								  char *text, size_t size);
/* Fill rope_factors with ones; hparams are known. */
L3Status	l3_source_init_rope(L3Source *source, L3Error *err);
/* The found tensor of that name, or NULL. */
const L3FoundTensor *l3_found_tensor(const L3FoundTensor *found, uint64_t n, const char *name);
/*
 * Check the found tensors against the hyperparameters and lay out the arena.
 * Reorders found.  interleave: query and key rows are in halves.
 */
L3Status	l3_source_bind(L3Source *source, L3FoundTensor *found, uint64_t n,
						   const L3TensorNames *names, bool interleave, L3Error *err);
/* Copy into source->name, cut at its size. */
void		l3_source_set_name(L3Source *source, const char *name, size_t len);
/* Is this the vocabulary of Llama 3 (128256 tokens, specials from 128000)? */
bool		l3_is_llama3_vocabulary(const L3Slice *tokens, uint32_t n_tokens);
/*
 * Complete the spec: ids of tokens that the file did not name but has, Llama
 * 3's stop tokens; then measure the image.
 */
L3Status	l3_source_finish_tokenizer(L3Source *source, L3Error *err);
/* Id of the token with that text, or -1. */
int32_t		l3_spec_token(const L3TokenizerSpec *spec, const char *text);

/* The formats. */
L3Status	l3_gguf_open(L3Source *source, L3Error *err);
L3Status	l3_huggingface_open(L3Source *source, L3Error *err);

#endif							/* L3_SOURCE_H */
