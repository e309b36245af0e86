/*-------------------------------------------------------------------------
 *
 * export.c
 *	  A trained model as a GGUF file.
 *
 * GGUF version 3, little-endian: a header, keys with values, the list of
 * tensors, and their data from the next multiple of the alignment on.
 * Source: the GGUF specification (docs/gguf.md of the ggml project), and the
 * keys that published Llama 3.2 files have.
 *
 * The header is built in memory, as the number of keys stands before them;
 * the tensors, which are the bulk, are converted and written row by row.
 *
 *-------------------------------------------------------------------------
 */
#include "documents.h"
#include "output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "half.h"
#include "tokenizer.h"

#define GGUF_VERSION	3
#define ALIGNMENT		32		/* of tensors: the default, not stated */

/* Types of values. */
#define GGUF_UINT32		4
#define GGUF_INT32		5
#define GGUF_FLOAT32	6
#define GGUF_BOOL		7
#define GGUF_STRING		8
#define GGUF_ARRAY		9

/* Types of tensors, and of files by what most tensors are. */
#define GGML_F32		0
#define GGML_Q8_0		8
#define FILE_ALL_F32	0
#define FILE_MOSTLY_Q8_0	7
#define QUANTIZATION_VERSION	2

/* Q8_0: blocks of a scale in half precision and 32 signed bytes. */
#define Q8_0_BLOCK		32
#define Q8_0_BYTES		34
#define Q8_0_MAX		127

typedef struct Header
{
	Bytes		bytes;
	uint64_t	n_keys;
} Header;

/* ----------------------------------------------------------------
 *		Keys and values
 * ----------------------------------------------------------------
 */

static void
put_string(Header *h, const char *text)
{
	bytes_put_text(&h->bytes, text, strlen(text));
}

static void
put_key(Header *h, const char *key, uint32_t type)
{
	put_string(h, key);
	bytes_put_u32(&h->bytes, type);
	h->n_keys++;
}

static void
key_u32(Header *h, const char *key, int value)
{
	put_key(h, key, GGUF_UINT32);
	bytes_put_u32(&h->bytes, (uint32_t) value);
}

static void
key_float(Header *h, const char *key, float value)
{
	put_key(h, key, GGUF_FLOAT32);
	bytes_put(&h->bytes, &value, sizeof(value));
}

static void
key_bool(Header *h, const char *key, bool value)
{
	uint8_t		byte = value;

	put_key(h, key, GGUF_BOOL);
	bytes_put(&h->bytes, &byte, 1);
}

static void
key_string(Header *h, const char *key, const char *value)
{
	put_key(h, key, GGUF_STRING);
	put_string(h, value);
}

static void
key_array(Header *h, const char *key, uint32_t type, int n)
{
	put_key(h, key, GGUF_ARRAY);
	bytes_put_u32(&h->bytes, type);
	bytes_put_u64(&h->bytes, (uint64_t) n);
}

static void
put_hyperparameters(Header *h, const TrConfig *c)
{
	key_u32(h, "llama.block_count", c->n_layers);
	key_u32(h, "llama.context_length", c->n_ctx);
	key_u32(h, "llama.embedding_length", c->n_embd);
	key_u32(h, "llama.feed_forward_length", c->n_ff);
	key_u32(h, "llama.attention.head_count", c->n_heads);
	key_u32(h, "llama.attention.head_count_kv", c->n_kv_heads);
	key_float(h, "llama.rope.freq_base", c->rope_theta);
	key_float(h, "llama.attention.layer_norm_rms_epsilon", c->rms_eps);
	key_u32(h, "llama.attention.key_length", c->head_dim);
	key_u32(h, "llama.attention.value_length", c->head_dim);
	key_u32(h, "llama.vocab_size", c->n_vocab);
	key_u32(h, "llama.rope.dimension_count", c->head_dim);
}

static void
put_merges(Header *h, const TrVocab *vocab)
{
	key_array(h, "tokenizer.ggml.merges", GGUF_STRING, vocab->n_merges);
	for (int i = 0; i < vocab->n_merges; i++)
	{
		const char *left = vocab->merge_left[i];
		const char *right = vocab->merge_right[i];

		bytes_put_u64(&h->bytes, strlen(left) + 1 + strlen(right));
		bytes_put(&h->bytes, left, strlen(left));
		bytes_put(&h->bytes, " ", 1);
		bytes_put(&h->bytes, right, strlen(right));
	}
}

static void
put_tokenizer(Header *h, const TrVocab *vocab)
{
	key_string(h, "tokenizer.ggml.model", "gpt2");
	key_string(h, "tokenizer.ggml.pre", "llama-bpe");
	key_array(h, "tokenizer.ggml.tokens", GGUF_STRING, vocab->n_tokens);
	for (int i = 0; i < vocab->n_tokens; i++)
		put_string(h, vocab->tokens[i]);
	key_array(h, "tokenizer.ggml.token_type", GGUF_INT32, vocab->n_tokens);
	for (int i = 0; i < vocab->n_tokens; i++)
		bytes_put_u32(&h->bytes, i < vocab->n_tokens - TR_N_SPECIALS ? L3_TOKEN_NORMAL : L3_TOKEN_CONTROL);
	put_merges(h, vocab);
	key_u32(h, "tokenizer.ggml.bos_token_id", vocab->bos);
	/* As instruct files have it: what ends an answer. */
	key_u32(h, "tokenizer.ggml.eos_token_id", vocab->eot);
	key_u32(h, "tokenizer.ggml.eot_token_id", vocab->eot);
	key_u32(h, "tokenizer.ggml.eom_token_id", vocab->eom);
	key_bool(h, "tokenizer.ggml.add_bos_token", true);
	key_string(h, "tokenizer.chat_template", tr_chat_template);
}

/* ----------------------------------------------------------------
 *		Tensors
 * ----------------------------------------------------------------
 */

static bool
is_matrix(const TrTensor *t)
{
	return t->n_out > 1;
}

static uint64_t
row_bytes(const TrTensor *t, bool q8_0)
{
	if (q8_0 && is_matrix(t))
		return (uint64_t) t->n_in / Q8_0_BLOCK * Q8_0_BYTES;
	return (uint64_t) t->n_in * sizeof(float);
}

/* Zero bytes from size to the next aligned place. */
static uint64_t
padding(uint64_t size)
{
	return (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
}

static void
put_tensor_list(Header *h, const TrModel *model, bool q8_0)
{
	uint64_t	offset = 0;

	for (int i = 0; i < model->n_tensors; i++)
	{
		const TrTensor *t = &model->tensors[i];
		uint64_t	size = row_bytes(t, q8_0) * (uint64_t) t->n_out;

		put_string(h, t->name);
		bytes_put_u32(&h->bytes, is_matrix(t) ? 2 : 1);
		bytes_put_u64(&h->bytes, (uint64_t) t->n_in);
		if (is_matrix(t))
			bytes_put_u64(&h->bytes, (uint64_t) t->n_out);
		bytes_put_u32(&h->bytes, q8_0 && is_matrix(t) ? GGML_Q8_0 : GGML_F32);
		bytes_put_u64(&h->bytes, offset);
		offset += size + padding(size);
	}
}

/*
 * The largest value becomes 127 steps.  The steps are of the scale as it is
 * stored, so that each value is within half a step of what is read back.
 */
static void
quantize_block(const float *x, uint8_t *out)
{
	float		largest = 0;
	uint16_t	half;
	float		step;

	for (int i = 0; i < Q8_0_BLOCK; i++)
		largest = fmaxf(largest, fabsf(x[i]));
	half = l3_float_to_half(largest / Q8_0_MAX);
	step = l3_half_to_float(half);
	memcpy(out, &half, sizeof(half));
	for (int i = 0; i < Q8_0_BLOCK; i++)
	{
		float		q = step > 0 ? roundf(x[i] / step) : 0;

		/* A scale that was rounded down far is tiny, and so is the loss. */
		q = fminf(fmaxf(q, -Q8_0_MAX), Q8_0_MAX);
		out[sizeof(half) + i] = (uint8_t) (int8_t) q;
	}
}

static void
write_tensor(TrOutput *out, const TrModel *model, const TrTensor *t, bool q8_0)
{
	static const char zeros[ALIGNMENT];
	uint64_t	bytes = row_bytes(t, q8_0);
	uint8_t    *row = tr_alloc(bytes);

	for (int n = 0; n < t->n_out; n++)
	{
		const float *x = model->params + t->offset + (size_t) n * (size_t) t->n_in;

		if (q8_0 && is_matrix(t))
			for (int k = 0; k < t->n_in; k += Q8_0_BLOCK)
				quantize_block(x + k, row + k / Q8_0_BLOCK * Q8_0_BYTES);
		else
			memcpy(row, x, bytes);
		tr_output_write(out, row, bytes);
	}
	tr_output_write(out, zeros, padding(bytes * (uint64_t) t->n_out));
	free(row);
}

/* ----------------------------------------------------------------
 *		The file
 * ----------------------------------------------------------------
 */

/* Every reason to refuse is found before the file is made. */
static void
check_model(const TrModel *model, const TrVocab *vocab, bool q8_0)
{
	if (model->config.n_vocab != vocab->n_tokens)
		tr_fail("model has %d tokens, the vocabulary has %d",
				model->config.n_vocab, vocab->n_tokens);
	for (int i = 0; i < model->n_tensors; i++)
	{
		const TrTensor *t = &model->tensors[i];
		size_t		n = (size_t) t->n_out * (size_t) t->n_in;

		if (q8_0 && is_matrix(t) && t->n_in % Q8_0_BLOCK != 0)
			tr_fail("rows of tensor \"%s\" have %d values, Q8_0 needs a multiple of %d",
					t->name, t->n_in, Q8_0_BLOCK);
		for (size_t k = 0; k < n; k++)
		{
			if (!isfinite(model->params[t->offset + k]))
				tr_fail("tensor \"%s\" has a value that is not a finite number", t->name);
		}
	}
}

static void
put_header(Header *h, const TrModel *model, const TrVocab *vocab, bool q8_0,
		   const char *name, const char *description, const char *license)
{
	size_t		n_keys_at;

	bytes_put(&h->bytes, "GGUF", 4);
	bytes_put_u32(&h->bytes, GGUF_VERSION);
	bytes_put_u64(&h->bytes, (uint64_t) model->n_tensors);
	n_keys_at = h->bytes.n;
	bytes_put_u64(&h->bytes, 0);
	key_string(h, "general.architecture", "llama");
	key_string(h, "general.type", "model");
	key_string(h, "general.name", name);
	key_string(h, "general.description", description);
	key_string(h, "general.license", license);
	key_u32(h, "general.file_type", q8_0 ? FILE_MOSTLY_Q8_0 : FILE_ALL_F32);
	key_u32(h, "general.quantization_version", QUANTIZATION_VERSION);
	put_hyperparameters(h, &model->config);
	put_tokenizer(h, vocab);
	memcpy(h->bytes.data + n_keys_at, &h->n_keys, sizeof(h->n_keys));
	put_tensor_list(h, model, q8_0);
}

void
tr_export(const TrModel *model, const TrVocab *vocab, bool q8_0,
		  const char *name, const char *description, const char *license,
		  const char *path)
{
	static const char zeros[ALIGNMENT];
	Header		h = {0};
	TrOutput	out;

	check_model(model, vocab, q8_0);
	put_header(&h, model, vocab, q8_0, name, description, license);
	tr_output_begin(&out, path);
	tr_output_write(&out, h.bytes.data, h.bytes.n);
	tr_output_write(&out, zeros, padding(h.bytes.n));
	for (int i = 0; i < model->n_tensors; i++)
		write_tensor(&out, model, &model->tensors[i], q8_0);
	tr_output_commit(&out);
	free(h.bytes.data);
}
