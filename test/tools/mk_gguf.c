/*-------------------------------------------------------------------------
 *
 * mk_gguf.c
 *	  Write a generated model as GGUF, version 2 or 3, in one file or in parts.
 *
 * The header is built in memory, and the damage that the loader's tests ask
 * for is done while building it; tensor data are streamed row by row.
 *
 * Format: ggml's docs/gguf.md.
 *
 *-------------------------------------------------------------------------
 */
#include "mkmodel.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"

/* Types of metadata values. */
#define GGUF_UINT16		2
#define GGUF_UINT32		4
#define GGUF_INT32		5
#define GGUF_FLOAT32	6
#define GGUF_BOOL		7
#define GGUF_STRING		8
#define GGUF_ARRAY		9

#define ABSURD_COUNT	(UINT64_C(1) << 60)
#define ABSURD_LENGTH	(UINT64_C(1) << 62)
#define ABSURD_LAYERS	(UINT32_C(1) << 31)
#define ABSURD_TYPE		1000

#define WRITE_BUFFER	(4 << 20)

typedef struct Header
{
	const MkOptions *o;
	Bytes		bytes;
	uint64_t	n_keys;
} Header;

static void
put_string(Header *h, const char *s)
{
	bytes_put_text(&h->bytes, s, strlen(s));
}

/* Begin a key; false when the options leave it out. */
static bool
put_key(Header *h, const char *key, uint32_t type)
{
	if (h->o->omit_key && strcmp(h->o->omit_key, key) == 0)
		return false;
	h->n_keys++;
	if (h->o->corrupt == MK_ABSURD_STRING && h->n_keys == 1)
	{
		bytes_put_u64(&h->bytes, ABSURD_LENGTH);
		bytes_put(&h->bytes, key, strlen(key));
	}
	else
		put_string(h, key);
	bytes_put_u32(&h->bytes, type);
	return true;
}

static void
key_u32(Header *h, const char *key, uint32_t value)
{
	if (put_key(h, key, GGUF_UINT32))
		bytes_put_u32(&h->bytes, value);
}

static void
key_float(Header *h, const char *key, float value)
{
	if (put_key(h, key, GGUF_FLOAT32))
		bytes_put(&h->bytes, &value, sizeof(value));
}

static void
key_bool(Header *h, const char *key, bool value)
{
	uint8_t		byte = value;

	if (put_key(h, key, GGUF_BOOL))
		bytes_put(&h->bytes, &byte, 1);
}

static void
key_string(Header *h, const char *key, const char *value)
{
	if (put_key(h, key, GGUF_STRING))
		put_string(h, value);
}

/* Keys of the architecture: "llama.block_count". */
static const char *
arch_key(const MkOptions *o, const char *what)
{
	static char key[128];

	snprintf(key, sizeof(key), "%s.%s", o->arch, what);
	return key;
}

static void
put_hyperparameters(Header *h)
{
	const MkOptions *o = h->o;
	uint32_t	n_layers = o->corrupt == MK_ABSURD_LAYERS ? ABSURD_LAYERS : (uint32_t) o->n_layers;
	int			rope_dim = o->rope_dim ? o->rope_dim : o->head_dim;
	int			value_dim = o->value_dim ? o->value_dim : o->head_dim;

	key_u32(h, arch_key(o, "block_count"), n_layers);
	key_u32(h, arch_key(o, "context_length"), (uint32_t) o->n_ctx);
	key_u32(h, arch_key(o, "embedding_length"), (uint32_t) o->n_embd);
	key_u32(h, arch_key(o, "feed_forward_length"), (uint32_t) o->n_ff);
	key_u32(h, arch_key(o, "attention.head_count"), (uint32_t) o->n_heads);
	key_u32(h, arch_key(o, "attention.head_count_kv"), (uint32_t) o->n_kv_heads);
	key_float(h, arch_key(o, "rope.freq_base"), (float) o->rope_theta);
	key_float(h, arch_key(o, "attention.layer_norm_rms_epsilon"), (float) o->rms_eps);
	key_u32(h, arch_key(o, "vocab_size"), (uint32_t) o->n_vocab);
	key_u32(h, arch_key(o, "rope.dimension_count"), (uint32_t) rope_dim);
	/* files state head sizes only where they are not n_embd / n_heads */
	if (o->head_dim * o->n_heads != o->n_embd || value_dim != o->head_dim)
	{
		key_u32(h, arch_key(o, "attention.key_length"), (uint32_t) o->head_dim);
		key_u32(h, arch_key(o, "attention.value_length"), (uint32_t) value_dim);
	}
}

static void
put_tokenizer(Header *h)
{
	const MkOptions *o = h->o;
	MkVocab    *v = mk_vocab(o);

	key_string(h, "tokenizer.ggml.model", "gpt2");
	if (o->pre[0] != '\0')
		key_string(h, "tokenizer.ggml.pre", o->pre);
	if (put_key(h, "tokenizer.ggml.tokens", GGUF_ARRAY))
	{
		bytes_put_u32(&h->bytes, GGUF_STRING);
		bytes_put_u64(&h->bytes, o->corrupt == MK_ABSURD_ARRAY ? ABSURD_COUNT : (uint64_t) v->n_tokens);
		for (int i = 0; i < v->n_tokens; i++)
			put_string(h, v->tokens[i]);
	}
	if (put_key(h, "tokenizer.ggml.token_type", GGUF_ARRAY))
	{
		bytes_put_u32(&h->bytes, GGUF_INT32);
		bytes_put_u64(&h->bytes, (uint64_t) v->n_tokens);
		for (int i = 0; i < v->n_tokens; i++)
			bytes_put_u32(&h->bytes, (uint32_t) v->types[i]);
	}
	if (put_key(h, "tokenizer.ggml.merges", GGUF_ARRAY))
	{
		bytes_put_u32(&h->bytes, GGUF_STRING);
		bytes_put_u64(&h->bytes, (uint64_t) v->n_merges);
		for (int i = 0; i < v->n_merges; i++)
			put_string(h, v->merges[i]);
	}
	key_u32(h, "tokenizer.ggml.bos_token_id", (uint32_t) v->bos);
	key_u32(h, "tokenizer.ggml.eos_token_id", (uint32_t) v->eos);
	if (v->eot >= 0)
		key_u32(h, "tokenizer.ggml.eot_token_id", (uint32_t) v->eot);
	if (v->eom >= 0)
		key_u32(h, "tokenizer.ggml.eom_token_id", (uint32_t) v->eom);
	key_bool(h, "tokenizer.ggml.add_bos_token", true);
	if (v->chat_template)
		key_string(h, "tokenizer.chat_template", v->chat_template);
	mk_vocab_free(v);
}

/* Keys of a part: where it stands, and the model's in the first one. */
static void
put_metadata(Header *h, int part, int n_parts, int n_tensors)
{
	const MkOptions *o = h->o;
	uint16_t	number = (uint16_t) part;
	uint16_t	count = (uint16_t) n_parts;

	key_string(h, "general.architecture", o->arch);
	if (part == 0)
	{
		key_string(h, "general.name", o->name);
		key_u32(h, "general.alignment", (uint32_t) o->alignment);
		put_hyperparameters(h);
		put_tokenizer(h);
	}
	if (n_parts > 1)
	{
		if (put_key(h, "split.no", GGUF_UINT16))
			bytes_put(&h->bytes, &number, sizeof(number));
		if (put_key(h, "split.count", GGUF_UINT16))
			bytes_put(&h->bytes, &count, sizeof(count));
		if (put_key(h, "split.tensors.count", GGUF_INT32))
			bytes_put_u32(&h->bytes, (uint32_t) n_tensors);
	}
}

static uint64_t
align(uint64_t size, int alignment)
{
	return (size + (uint64_t) alignment - 1) / (uint64_t) alignment * (uint64_t) alignment;
}

/* The table of tensors, with the damage asked for. */
static void
put_tensors(Header *h, const MkTensor *tensors, int n)
{
	MkCorrupt	corrupt = h->o->corrupt;
	uint64_t	offset = 0;

	for (int i = 0; i < n; i++)
	{
		const MkTensor *t = &tensors[i];
		bool		victim = strcmp(t->name, "blk.0.attn_q.weight") == 0;
		const char *name = t->name;
		uint64_t	where = offset;
		uint32_t	type = mk_types[t->type].ggml_type;

		if (corrupt == MK_DUPLICATE_TENSOR && strcmp(t->name, "blk.0.attn_k.weight") == 0)
			name = "blk.0.attn_q.weight";
		if (corrupt == MK_BAD_TYPE && victim)
			type = ABSURD_TYPE;
		if (corrupt == MK_BAD_OFFSET && i == n - 1)
			where = (UINT64_C(1) << 40);
		if (corrupt == MK_OVERFLOW_OFFSET && i == n - 1)
			where = UINT64_MAX - UINT64_C(4095);

		put_string(h, name);
		bytes_put_u32(&h->bytes, t->fill == MK_FILL_MATRIX ? 2 : 1);
		bytes_put_u64(&h->bytes, t->n_in);
		if (t->fill == MK_FILL_MATRIX)
			bytes_put_u64(&h->bytes, (uint64_t) t->n_out - (corrupt == MK_WRONG_SHAPE && victim));
		bytes_put_u32(&h->bytes, type);
		bytes_put_u64(&h->bytes, where);
		offset = align(offset + mk_tensor_bytes(t), h->o->alignment);
	}
}

static void
write_data(FILE *f, const MkOptions *o, const MkTensor *t)
{
	static const char zeros[4096];
	uint64_t	row_bytes = mk_tensor_row_bytes(t);
	uint64_t	size = mk_tensor_bytes(t);
	uint64_t	rows_at_once = row_bytes < WRITE_BUFFER ? WRITE_BUFFER / row_bytes : 1;
	char	   *buffer = mk_alloc(row_bytes * rows_at_once);

	for (uint64_t row = 0; row < t->n_out; row += rows_at_once)
	{
		uint64_t	n = t->n_out - row < rows_at_once ? t->n_out - row : rows_at_once;

		for (uint64_t i = 0; i < n; i++)
			mk_tensor_row(o, t, (uint32_t) (row + i), buffer + i * row_bytes);
		mk_write(f, buffer, n * row_bytes);
	}
	mk_write(f, zeros, align(size, o->alignment) - size);
	free(buffer);
}

static void
write_part(const MkOptions *o, const char *path, const MkTensor *tensors, int n,
		   int part, int n_parts, int n_all)
{
	static const char zeros[4096];
	Header		h = {.o = o};
	bool		bad_magic = o->corrupt == MK_BAD_MAGIC;
	uint32_t	version = o->corrupt == MK_BAD_VERSION ? 99 : (uint32_t) o->gguf_version;
	uint64_t	n_tensors = o->corrupt == MK_ABSURD_TENSORS ? ABSURD_COUNT : (uint64_t) n;
	uint64_t	n_keys;
	FILE	   *f;

	bytes_put(&h.bytes, bad_magic ? "GGML" : "GGUF", 4);
	bytes_put_u32(&h.bytes, version);
	bytes_put_u64(&h.bytes, n_tensors);
	bytes_put_u64(&h.bytes, 0);
	put_metadata(&h, part, n_parts, n_all);
	n_keys = o->corrupt == MK_ABSURD_KEYS ? ABSURD_COUNT : h.n_keys;
	memcpy(h.bytes.data + 16, &n_keys, sizeof(n_keys));
	put_tensors(&h, tensors, n);

	f = mk_open(path);
	mk_write(f, h.bytes.data, h.bytes.n);
	mk_write(f, zeros, align(h.bytes.n, o->alignment) - h.bytes.n);
	for (int i = 0; i < n && !o->header_only; i++)
		write_data(f, o, &tensors[i]);
	mk_close(f, path);
	free(h.bytes.data);
}

/* Cut the last quarter off. */
static void
truncate_file(const char *path)
{
	FILE	   *f = fopen(path, "rb");
	char	   *data;
	long		size;

	if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0)
		mk_fail("could not measure \"%s\"", path);
	rewind(f);
	size = size / 4 * 3;
	data = mk_alloc((size_t) size);
	if (fread(data, 1, (size_t) size, f) != (size_t) size)
		mk_fail("could not read \"%s\"", path);
	fclose(f);
	f = mk_open(path);
	mk_write(f, data, (size_t) size);
	mk_close(f, path);
	free(data);
}

void
mk_write_gguf(const MkOptions *o, const char *path)
{
	size_t		stem = strlen(path);
	MkTensor   *tensors;
	int			n;

	mk_check(o);
	tensors = mk_tensors(o, &n);
	if (o->split <= 1)
		write_part(o, path, tensors, n, 0, 1, n);
	else
	{
		if (stem < 5 || strcmp(path + stem - 5, ".gguf") != 0)
			mk_fail("the name of a split file must end in .gguf: \"%s\"", path);
		stem -= 5;
		for (int part = 0; part < o->split; part++)
		{
			int			first = (int) ((int64_t) n * part / o->split);
			int			last = (int) ((int64_t) n * (part + 1) / o->split);
			char	   *name = mk_alloc(stem + 64);

			snprintf(name, stem + 64, "%.*s-%05d-of-%05d.gguf", (int) stem, path, part + 1, o->split);
			write_part(o, name, tensors + first, last - first, part, o->split, n);
			free(name);
		}
	}
	if (o->corrupt == MK_TRUNCATED)
		truncate_file(path);
	free(tensors);
}
