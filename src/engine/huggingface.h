/*-------------------------------------------------------------------------
 *
 * huggingface.h
 *	  A directory in the form of Hugging Face's transformers library.
 *
 * huggingface.c reads config.json and the safetensors files, hf_tokenizer.c
 * the tokenizer.  The parts that take parsed JSON are declared here for tests
 * and fuzzers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_HUGGINGFACE_H
#define L3_HUGGINGFACE_H

#include "json.h"
#include "source.h"

/* The JSON files of a model; NULL where there is none. */
typedef struct L3HfFiles
{
	json_t	   *config;
	json_t	   *generation_config;
	json_t	   *tokenizer;
	json_t	   *tokenizer_config;
	char	   *chat_template;	/* chat_template.jinja, NUL-terminated */
	size_t		chat_template_len;
	char	   *where;			/* path of tokenizer.json, for messages */
} L3HfFiles;

void		l3_hf_files_free(L3HfFiles *files);

extern const L3TensorNames l3_hf_names;

/* Hyperparameters, architecture and RoPE divisors from config.json. */
L3Status	l3_hf_read_config(L3Source *source, const json_t *config,
							  const char *where, L3Error *err);
/*
 * The tokenizer's spec.  It points into files, which must outlive the source.
 * hparams are known.
 */
L3Status	l3_hf_read_tokenizer(L3Source *source, const L3HfFiles *files, L3Error *err);

#endif							/* L3_HUGGINGFACE_H */
