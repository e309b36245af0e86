/*-------------------------------------------------------------------------
 *
 * tiny_gguf.h
 *	  Small GGUF files in memory, sound or wrong in one chosen way.
 *
 * A model of one or two layers with the vocabulary of tiny_vocab.h.  Each
 * field of TinyGguf changes one thing; tiny_gguf_defaults gives a sound model.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TINY_GGUF_H
#define TINY_GGUF_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "unit/tiny_vocab.h"

static void
tiny_pad(Bytes *b, size_t alignment)
{
	static const uint8_t zeros[65536];

	bytes_put(b, zeros, (alignment - b->n % alignment) % alignment);
}

/* Numbers of value and tensor types in the format. */
enum
{
	TINY_U16 = 2, TINY_U32 = 4, TINY_I32 = 5, TINY_F32 = 6, TINY_BOOL = 7,
	TINY_STRING = 8, TINY_ARRAY = 9, TINY_U64 = 10
};

typedef struct TinyGguf
{
	uint32_t	version;
	uint32_t	alignment;		/* 32: the key is left out */
	const char *arch;
	uint32_t	n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_rows;
	uint32_t	n_ctx;
	uint32_t	type;			/* of matrices: 0 F32, 1 F16, 30 BF16 */
	bool		tied;
	bool		rope_freqs;
	bool		kv_as_array;	/* head_count_kv one by one */
	const char *pre;			/* NULL: no key */
	const char *name;
	const char *rope_scaling;	/* type, factor 4; NULL: no key */
	const char *omit_key;
	const char *omit_tensor;
	const char *twice_tensor;
	const char *twice_key;
	const char *shape_tensor;	/* gets one row too many */
	const char *shift_tensor;	/* its offset moves by shift */
	int64_t		shift;
	const char *type_tensor;	/* gets type_number */
	uint32_t	type_number;
	const char *nan_tensor;		/* its last value is no number; F32 only */
	const char *zero_tensor;	/* has only zeros */
	const char *extra_tensor;
	uint32_t	split_no, split_count;	/* tensors i with i % count == no; 0: whole */
	uint32_t	split_tensors;	/* what split.tensors.count says */
	uint32_t	eos;			/* 0: the vocabulary's */
	bool		header_only;
} TinyGguf;

__attribute__((unused))
static TinyGguf
tiny_gguf_defaults(void)
{
	TinyGguf	t = {0};

	t.version = 3;
	t.alignment = 32;
	t.arch = "llama";
	t.n_layers = 2;
	t.n_embd = 64;
	t.n_heads = 4;
	t.n_kv_heads = 2;
	t.head_dim = 16;
	t.n_ff = 96;
	t.n_rows = 300;
	t.n_ctx = 512;
	t.pre = "llama-bpe";
	t.name = "tiny";
	return t;
}

typedef struct TinyWriter
{
	const TinyGguf *t;
	Bytes		keys;
	Bytes		infos;
	Bytes		data;
	uint64_t	data_bytes;		/* of data, also when it is not made */
	uint64_t	n_keys;
	uint64_t	n_tensors;
	uint32_t	index;			/* of the tensor among all parts' */
} TinyWriter;

/* Start a key; false when it is to be left out. */
static bool
tiny_key(TinyWriter *w, const char *name, uint32_t type)
{
	if (w->t->omit_key != NULL && strcmp(w->t->omit_key, name) == 0)
		return false;
	bytes_put_text(&w->keys, name, strlen(name));
	bytes_put_u32(&w->keys, type);
	w->n_keys++;
	return true;
}

static void
tiny_key_u32(TinyWriter *w, const char *name, uint32_t value)
{
	int			times = w->t->twice_key != NULL && strcmp(w->t->twice_key, name) == 0 ? 2 : 1;

	while (times-- > 0)
	{
		if (tiny_key(w, name, TINY_U32))
			bytes_put_u32(&w->keys, value);
	}
}

static void
tiny_key_f32(TinyWriter *w, const char *name, float value)
{
	if (tiny_key(w, name, TINY_F32))
		bytes_put(&w->keys, &value, sizeof(value));
}

static void
tiny_key_text(TinyWriter *w, const char *name, const char *value)
{
	if (value != NULL && tiny_key(w, name, TINY_STRING))
		bytes_put_text(&w->keys, value, strlen(value));
}

static bool
tiny_key_array(TinyWriter *w, const char *name, uint32_t type, uint64_t n)
{
	if (!tiny_key(w, name, TINY_ARRAY))
		return false;
	bytes_put_u32(&w->keys, type);
	bytes_put_u64(&w->keys, n);
	return true;
}

static void
tiny_tokenizer_keys(TinyWriter *w, const TinyVocab *v)
{
	const L3TokenizerSpec *spec = &v->spec;

	tiny_key_text(w, "tokenizer.ggml.model", "gpt2");
	tiny_key_text(w, "tokenizer.ggml.pre", w->t->pre);
	if (tiny_key_array(w, "tokenizer.ggml.tokens", TINY_STRING, spec->n_tokens))
	{
		for (uint32_t i = 0; i < spec->n_tokens; i++)
			bytes_put_text(&w->keys, spec->tokens[i].data, spec->tokens[i].len);
	}
	if (tiny_key_array(w, "tokenizer.ggml.token_type", TINY_I32, spec->n_tokens))
	{
		for (uint32_t i = 0; i < spec->n_tokens; i++)
			bytes_put_u32(&w->keys, spec->types[i]);
	}
	if (tiny_key_array(w, "tokenizer.ggml.merges", TINY_STRING, spec->n_merges))
	{
		for (uint32_t i = 0; i < spec->n_merges; i++)
		{
			bytes_put_u64(&w->keys, spec->merge_left[i].len + 1 + spec->merge_right[i].len);
			bytes_put(&w->keys, spec->merge_left[i].data, spec->merge_left[i].len);
			bytes_put(&w->keys, " ", 1);
			bytes_put(&w->keys, spec->merge_right[i].data, spec->merge_right[i].len);
		}
	}
	tiny_key_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t) spec->bos);
	tiny_key_u32(w, "tokenizer.ggml.eos_token_id", w->t->eos != 0 ? w->t->eos : (uint32_t) spec->eos);
	if (tiny_key(w, "tokenizer.chat_template", TINY_STRING))
		bytes_put_text(&w->keys, spec->chat_template, spec->chat_template_len);
}

static void
tiny_model_keys(TinyWriter *w)
{
	const TinyGguf *t = w->t;

	tiny_key_text(w, "general.architecture", t->arch);
	tiny_key_text(w, "general.name", t->name);
	if (t->alignment != 32)
		tiny_key_u32(w, "general.alignment", t->alignment);
	tiny_key_u32(w, "llama.block_count", t->n_layers);
	tiny_key_u32(w, "llama.embedding_length", t->n_embd);
	tiny_key_u32(w, "llama.feed_forward_length", t->n_ff);
	tiny_key_u32(w, "llama.context_length", t->n_ctx);
	tiny_key_u32(w, "llama.attention.head_count", t->n_heads);
	if (!t->kv_as_array)
		tiny_key_u32(w, "llama.attention.head_count_kv", t->n_kv_heads);
	else if (tiny_key_array(w, "llama.attention.head_count_kv", TINY_I32, t->n_layers))
	{
		for (uint32_t i = 0; i < t->n_layers; i++)
			bytes_put_u32(&w->keys, t->n_kv_heads);
	}
	tiny_key_u32(w, "llama.attention.key_length", t->head_dim);
	tiny_key_u32(w, "llama.attention.value_length", t->head_dim);
	tiny_key_u32(w, "llama.rope.dimension_count", t->head_dim);
	tiny_key_f32(w, "llama.rope.freq_base", 500000.0f);
	tiny_key_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	if (t->rope_scaling != NULL)
	{
		tiny_key_text(w, "llama.rope.scaling.type", t->rope_scaling);
		tiny_key_f32(w, "llama.rope.scaling.factor", 4);
	}
}

/* Value k of row n of the tensor that is called name; exact in BF16. */
static float
tiny_value(const char *name, uint32_t n, uint32_t k)
{
	uint32_t	hash = 2166136261u;

	for (; *name != '\0'; name++)
		hash = (hash ^ (uint8_t) *name) * 16777619u;
	hash = (hash ^ n) * 16777619u;
	hash = (hash ^ k) * 16777619u;
	return (float) ((int) (hash >> 13 & 127) - 63) / 32;
}

static bool
tiny_same(const char *chosen, const char *name)
{
	return chosen != NULL && strcmp(chosen, name) == 0;
}

static void
tiny_tensor_data(TinyWriter *w, const char *name, uint32_t n_out, uint32_t n_in, uint32_t type)
{
	w->data_bytes += (uint64_t) n_out * n_in * (type == 0 ? 4 : 2);
	if (w->t->header_only)
		return;
	for (uint32_t n = 0; n < n_out; n++)
	{
		for (uint32_t k = 0; k < n_in; k++)
		{
			float		value = tiny_value(name, n, k);
			uint32_t	bits;

			if (strcmp(name, "rope_freqs.weight") == 0)
				value = 1 + (float) k / 8;
			if (tiny_same(w->t->zero_tensor, name))
				value = 0;
			if (tiny_same(w->t->nan_tensor, name) && n + 1 == n_out && k + 1 == n_in)
				value = NAN;
			memcpy(&bits, &value, sizeof(bits));
			if (type == 30)
				bytes_put(&w->data, (uint8_t *) &bits + 2, 2);
			else if (type == 1)
			{
				/* Sound for these values only: normal halves, and zero. */
				uint16_t	half = (bits & 0x7FFFFFFF) == 0 ? 0 :
					(uint16_t) ((bits >> 16 & 0x8000) | (((bits & 0x7FFFFFFF) - 0x38000000) >> 13));

				bytes_put(&w->data, &half, 2);
			}
			else
				bytes_put(&w->data, &value, 4);
		}
	}
}

/* One tensor; vectors have n_out 1 and one dimension. */
static void
tiny_tensor(TinyWriter *w, const char *name, uint32_t n_in, uint32_t n_out)
{
	const TinyGguf *t = w->t;
	uint32_t	type = n_out == 1 ? 0 : t->type;
	int			times = tiny_same(t->twice_tensor, name) ? 2 : 1;
	uint32_t	index = w->index++;

	if (tiny_same(t->omit_tensor, name))
		return;
	if (t->split_count > 0 && index % t->split_count != t->split_no)
		return;
	while (times-- > 0)
	{
		w->data_bytes = (w->data_bytes + t->alignment - 1) / t->alignment * t->alignment;
		if (!t->header_only)
			tiny_pad(&w->data, t->alignment);
		bytes_put_text(&w->infos, name, strlen(name));
		bytes_put_u32(&w->infos, n_out == 1 ? 1 : 2);
		bytes_put_u64(&w->infos, n_in);
		if (n_out != 1)
			bytes_put_u64(&w->infos, n_out + (tiny_same(t->shape_tensor, name) ? 1 : 0));
		bytes_put_u32(&w->infos, tiny_same(t->type_tensor, name) ? t->type_number : type);
		bytes_put_u64(&w->infos, w->data_bytes + (tiny_same(t->shift_tensor, name) ? (uint64_t) t->shift : 0));
		tiny_tensor_data(w, name, n_out, n_in, type);
		w->n_tensors++;
	}
}

static void
tiny_layer(TinyWriter *w, uint32_t layer)
{
	const TinyGguf *t = w->t;
	uint32_t	q = t->n_heads * t->head_dim;
	uint32_t	kv = t->n_kv_heads * t->head_dim;
	const struct
	{
		const char *name;
		uint32_t	n_in,
					n_out;
	}			tensors[] = {
		{"attn_norm", t->n_embd, 1}, {"attn_q", t->n_embd, q}, {"attn_k", t->n_embd, kv},
		{"attn_v", t->n_embd, kv}, {"attn_output", q, t->n_embd}, {"ffn_norm", t->n_embd, 1},
		{"ffn_gate", t->n_embd, t->n_ff}, {"ffn_up", t->n_embd, t->n_ff},
		{"ffn_down", t->n_ff, t->n_embd},
	};

	for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++)
	{
		char		name[64];

		snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, tensors[i].name);
		tiny_tensor(w, name, tensors[i].n_in, tensors[i].n_out);
	}
}

/* The file's bytes; free data. */
__attribute__((unused))
static Bytes
tiny_gguf(const TinyGguf *t, const TinyVocab *v)
{
	TinyWriter	w = {.t = t};
	Bytes		file = {0};

	tiny_model_keys(&w);
	tiny_tokenizer_keys(&w, v);
	if (t->split_count > 0)
	{
		tiny_key_u32(&w, "split.no", t->split_no);
		tiny_key_u32(&w, "split.count", t->split_count);
		tiny_key_u32(&w, "split.tensors.count", t->split_tensors);
	}
	tiny_tensor(&w, "token_embd.weight", t->n_embd, t->n_rows);
	tiny_tensor(&w, "output_norm.weight", t->n_embd, 1);
	if (!t->tied)
		tiny_tensor(&w, "output.weight", t->n_embd, t->n_rows);
	if (t->rope_freqs)
		tiny_tensor(&w, "rope_freqs.weight", t->head_dim / 2, 1);
	for (uint32_t layer = 0; layer < t->n_layers; layer++)
		tiny_layer(&w, layer);
	if (t->extra_tensor != NULL)
		tiny_tensor(&w, t->extra_tensor, 32, 1);

	bytes_put(&file, "GGUF", 4);
	bytes_put_u32(&file, t->version);
	bytes_put_u64(&file, w.n_tensors);
	bytes_put_u64(&file, w.n_keys);
	bytes_put(&file, w.keys.data, w.keys.n);
	bytes_put(&file, w.infos.data, w.infos.n);
	if (!t->header_only)
	{
		tiny_pad(&file, t->alignment);
		bytes_put(&file, w.data.data, w.data.n);
	}
	free(w.keys.data);
	free(w.infos.data);
	free(w.data.data);
	return file;
}

#endif							/* TINY_GGUF_H */
