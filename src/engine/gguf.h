/*-------------------------------------------------------------------------
 *
 * gguf.h
 *	  The GGUF container, versions 2 and 3: keys with values, and tensors.
 *
 * Source: the GGUF specification (ggml's docs/gguf.md).  This layer knows the
 * container only; gguf_model.c knows what the keys of a llama model mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_GGUF_H
#define L3_GGUF_H

#include "reader.h"
#include "tokenizer.h"

/* Value types. */
typedef enum L3GgufType
{
	L3_GGUF_U8 = 0,
	L3_GGUF_I8,
	L3_GGUF_U16,
	L3_GGUF_I16,
	L3_GGUF_U32,
	L3_GGUF_I32,
	L3_GGUF_F32,
	L3_GGUF_BOOL,
	L3_GGUF_STRING,
	L3_GGUF_ARRAY,
	L3_GGUF_U64,
	L3_GGUF_I64,
	L3_GGUF_F64,
	L3_GGUF_N_TYPES
} L3GgufType;

#define L3_GGUF_MAX_KEYS		65536
#define L3_GGUF_MAX_TENSORS		65536
#define L3_GGUF_MAX_NAME		255	/* bytes of a key or a tensor's name */
#define L3_GGUF_MAX_DIMS		4
#define L3_GGUF_MAX_ALIGNMENT	65536

/* A key; offsets count from the start of the file. */
typedef struct L3GgufKey
{
	uint64_t	name_at;
	const uint8_t *name;		/* set once the header is read */
	uint32_t	name_len;
	uint32_t	type;			/* L3GgufType; of an array, its elements' */
	bool		is_array;
	uint64_t	n;				/* elements; 1 unless an array */
	uint64_t	at;				/* first element */
} L3GgufKey;

typedef struct L3GgufTensor
{
	uint64_t	name_at;
	uint32_t	name_len;
	uint32_t	type;			/* ggml's number of the type */
	uint32_t	n_dims;
	uint64_t	dims[L3_GGUF_MAX_DIMS]; /* innermost first; 1 where not given */
	uint64_t	offset;			/* from the start of the file */
} L3GgufTensor;

typedef struct L3Gguf
{
	const char *path;			/* the reader's */
	uint8_t    *bytes;			/* the header, as in the file */
	L3GgufKey  *keys;			/* sorted by name (n_keys) */
	uint64_t	n_keys;
	L3GgufTensor *tensors;		/* in the file's order (n_tensors) */
	uint64_t	n_tensors;
	uint64_t	data_at;		/* where tensor data starts */
} L3Gguf;

/* Read and check the header.  Free gguf in any case. */
L3Status	l3_gguf_parse(const L3Reader *reader, L3Gguf *gguf, L3Error *err);
void		l3_gguf_free(L3Gguf *gguf);

L3Slice		l3_gguf_tensor_name(const L3Gguf *gguf, const L3GgufTensor *tensor);

/* The key of that name, or NULL. */
const L3GgufKey *l3_gguf_find(const L3Gguf *gguf, const char *name);

/*
 * Values of optional keys: found tells whether it is there; a key of another
 * type is an error.  Integers of any width are taken when they are in the range.
 */
L3Status	l3_gguf_uint(const L3Gguf *gguf, const char *name, uint32_t *value,
						 bool *found, L3Error *err);
/* As above; an array whose elements are all equal counts as that number. */
L3Status	l3_gguf_uniform_uint(const L3Gguf *gguf, const char *name, uint32_t *value,
								 bool *found, L3Error *err);
L3Status	l3_gguf_float(const L3Gguf *gguf, const char *name, double *value,
						  bool *found, L3Error *err);
L3Status	l3_gguf_bool(const L3Gguf *gguf, const char *name, bool *value,
						 bool *found, L3Error *err);
L3Status	l3_gguf_string(const L3Gguf *gguf, const char *name, L3Slice *value,
						   bool *found, L3Error *err);
/* An array of strings as slices into the header (malloc'ed). */
L3Status	l3_gguf_strings(const L3Gguf *gguf, const char *name, L3Slice **values,
							uint32_t *n, bool *found, L3Error *err);
/* An array of 32-bit integers: pointer to its (unaligned) bytes. */
L3Status	l3_gguf_i32s(const L3Gguf *gguf, const char *name, const uint8_t **values,
						 uint32_t *n, bool *found, L3Error *err);

#endif							/* L3_GGUF_H */
