/*-------------------------------------------------------------------------
 *
 * ref_gguf.c
 *	  Read a Llama model from GGUF files, version 2 or 3, whole or in parts.
 *
 * The files are read into memory; every read is checked against the end.
 *
 * Format: ggml's docs/gguf.md.
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS		64
#define MAX_KEYS		256

/* Types of metadata values, in the format's order. */
enum
{
	GGUF_UINT8, GGUF_INT8, GGUF_UINT16, GGUF_INT16, GGUF_UINT32, GGUF_INT32, GGUF_FLOAT32,
	GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_UINT64, GGUF_INT64, GGUF_FLOAT64, GGUF_N_TYPES
};

static const int value_bytes[GGUF_N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* A number of the metadata; strings and arrays are not kept. */
typedef struct Key
{
	char		name[128];
	double		value;
} Key;

typedef struct Tensor
{
	char		name[128];
	uint64_t	rows;
	uint64_t	columns;
	uint32_t	type;
	const uint8_t *data;
} Tensor;

typedef struct Gguf
{
	const char *path;
	int			n_parts;
	uint8_t    *parts[MAX_PARTS];
	int			n_keys;
	Key			keys[MAX_KEYS];
	int			n_tensors;
	Tensor	   *tensors;
} Gguf;

typedef struct Cursor
{
	const char *path;
	const uint8_t *start;
	const uint8_t *p;
	const uint8_t *end;
} Cursor;

static const uint8_t *
take(Cursor *c, uint64_t n)
{
	const uint8_t *p = c->p;

	if (n > (uint64_t) (c->end - c->p))
		ref_fail("\"%s\" ends too early", c->path);
	c->p += n;
	return p;
}

static uint32_t
take_u32(Cursor *c)
{
	uint32_t	value;

	memcpy(&value, take(c, sizeof(value)), sizeof(value));
	return value;
}

static uint64_t
take_u64(Cursor *c)
{
	uint64_t	value;

	memcpy(&value, take(c, sizeof(value)), sizeof(value));
	return value;
}

/* A string, cut to fit when it is longer than name. */
static void
take_string(Cursor *c, char *name, size_t size)
{
	uint64_t	len = take_u64(c);
	const uint8_t *text = take(c, len);
	size_t		kept = len < size - 1 ? (size_t) len : size - 1;

	memcpy(name, text, kept);
	name[kept] = '\0';
}

static double
number(uint32_t type, const uint8_t *p)
{
	union
	{
		uint8_t		u8;
		int8_t		i8;
		uint16_t	u16;
		int16_t		i16;
		uint32_t	u32;
		int32_t		i32;
		float		f32;
		uint64_t	u64;
		int64_t		i64;
		double		f64;
	}			v;

	memcpy(&v, p, (size_t) value_bytes[type]);
	switch (type)
	{
		case GGUF_UINT8:
		case GGUF_BOOL:
			return v.u8;
		case GGUF_INT8:
			return v.i8;
		case GGUF_UINT16:
			return v.u16;
		case GGUF_INT16:
			return v.i16;
		case GGUF_UINT32:
			return v.u32;
		case GGUF_INT32:
			return v.i32;
		case GGUF_FLOAT32:
			return v.f32;
		case GGUF_UINT64:
			return (double) v.u64;
		case GGUF_INT64:
			return (double) v.i64;
		default:
			return v.f64;
	}
}

static void
skip_array(Cursor *c)
{
	uint32_t	type = take_u32(c);
	uint64_t	n = take_u64(c);
	char		ignored[1];

	if (type >= GGUF_N_TYPES || type == GGUF_ARRAY)
		ref_fail("\"%s\" has an array of type %u", c->path, type);
	for (uint64_t i = 0; i < n; i++)
	{
		if (type == GGUF_STRING)
			take_string(c, ignored, sizeof(ignored));
		else
			take(c, (uint64_t) value_bytes[type]);
	}
}

static void
read_keys(Gguf *g, Cursor *c, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
	{
		char		name[128];
		char		text[128];
		uint32_t	type;

		take_string(c, name, sizeof(name));
		type = take_u32(c);
		if (type >= GGUF_N_TYPES)
			ref_fail("\"%s\": key %s has type %u", c->path, name, type);
		if (type == GGUF_ARRAY)
			skip_array(c);
		else if (type == GGUF_STRING)
		{
			take_string(c, text, sizeof(text));
			if (strcmp(name, "general.architecture") == 0 && strcmp(text, "llama") != 0)
				ref_fail("\"%s\" is of architecture %s", c->path, text);
		}
		else
		{
			if (g->n_keys == MAX_KEYS)
				ref_fail("\"%s\" has more than %d keys", c->path, MAX_KEYS);
			snprintf(g->keys[g->n_keys].name, sizeof(g->keys[0].name), "%s", name);
			g->keys[g->n_keys++].value = number(type, take(c, (uint64_t) value_bytes[type]));
		}
	}
}

/* The value of a key, the fallback when it is absent. */
static double
key_or(const Gguf *g, const char *name, double fallback)
{
	for (int i = 0; i < g->n_keys; i++)
	{
		if (strcmp(g->keys[i].name, name) == 0)
			return g->keys[i].value;
	}
	return fallback;
}

static int
key_int(const Gguf *g, const char *name)
{
	double		value = key_or(g, name, -1);

	if (value < 0 || value > 1e9)
		ref_fail("\"%s\": key %s is missing or absurd", g->path, name);
	return (int) value;
}

static void
read_tensors(Gguf *g, Cursor *c, uint64_t n)
{
	int			first = g->n_tensors;
	uint64_t	alignment;
	uint64_t	data_start;

	g->tensors = realloc(g->tensors, sizeof(Tensor) * ((size_t) first + (size_t) n));
	if (!g->tensors)
		ref_fail("out of memory");
	for (uint64_t i = 0; i < n; i++)
	{
		Tensor	   *t = &g->tensors[g->n_tensors++];
		uint32_t	n_dims;

		take_string(c, t->name, sizeof(t->name));
		n_dims = take_u32(c);
		if (n_dims < 1 || n_dims > 2)
			ref_fail("\"%s\": tensor %s has %u dimensions", c->path, t->name, n_dims);
		t->columns = take_u64(c);
		t->rows = n_dims == 2 ? take_u64(c) : 1;
		t->type = take_u32(c);
		/* from the start of the data, which is known after the table */
		t->data = (const uint8_t *) (uintptr_t) take_u64(c);
	}
	alignment = (uint64_t) key_or(g, "general.alignment", 32);
	data_start = ((uint64_t) (c->p - c->start) + alignment - 1) / alignment * alignment;
	for (int i = first; i < g->n_tensors; i++)
	{
		Tensor	   *t = &g->tensors[i];
		uint64_t	offset = data_start + (uint64_t) (uintptr_t) t->data;
		int			block,
					bytes;

		if (!ref_type_layout(t->type, &block, &bytes))
			ref_fail("\"%s\": tensor %s has type %u", c->path, t->name, t->type);
		if (offset + t->rows * t->columns / (uint64_t) block * (uint64_t) bytes > (uint64_t) (c->end - c->start))
			ref_fail("\"%s\": tensor %s ends beyond the file", c->path, t->name);
		t->data = c->start + offset;
	}
}

static void
read_part(Gguf *g, const char *path)
{
	Cursor		c = {.path = path};
	size_t		size;
	uint32_t	version;
	uint64_t	n_tensors,
				n_keys;

	c.start = c.p = g->parts[g->n_parts++] = ref_read_file(path, &size);
	c.end = c.start + size;
	if (memcmp(take(&c, 4), "GGUF", 4) != 0)
		ref_fail("\"%s\" is not a GGUF file", path);
	version = take_u32(&c);
	if (version != 2 && version != 3)
		ref_fail("\"%s\" has GGUF version %u", path, version);
	n_tensors = take_u64(&c);
	n_keys = take_u64(&c);
	if (n_tensors > size || n_keys > size)
		ref_fail("\"%s\" has absurd counts", path);
	read_keys(g, &c, n_keys);
	read_tensors(g, &c, n_tensors);
}

/* Find a tensor of this shape and give its values; NULL when absent. */
static double *
tensor_or_null(const Gguf *g, const char *name, int rows, int columns)
{
	for (int i = 0; i < g->n_tensors; i++)
	{
		const Tensor *t = &g->tensors[i];
		double	   *values;

		if (strcmp(t->name, name) != 0)
			continue;
		if (t->rows != (uint64_t) rows || t->columns != (uint64_t) columns)
			ref_fail("\"%s\": tensor %s is %llu by %llu, not %d by %d", g->path, name,
					 (unsigned long long) t->rows, (unsigned long long) t->columns, rows, columns);
		values = ref_alloc(sizeof(double) * (size_t) rows * (size_t) columns);
		ref_dequantise(t->type, t->data, (size_t) rows * (size_t) columns, values);
		return values;
	}
	return NULL;
}

static double *
tensor(const Gguf *g, const char *name, int rows, int columns)
{
	double	   *values = tensor_or_null(g, name, rows, columns);

	if (!values)
		ref_fail("\"%s\" has no tensor %s", g->path, name);
	return values;
}

static double *
layer_tensor(const Gguf *g, int layer, const char *name, int rows, int columns)
{
	char		full[128];

	snprintf(full, sizeof(full), "blk.%d.%s.weight", layer, name);
	return tensor(g, full, rows, columns);
}

/* The embedding says the vocabulary's size, and whether weights are blocks. */
static void
read_embedding_shape(const Gguf *g, RefModel *m)
{
	int			block = 1,
				bytes;

	for (int i = 0; i < g->n_tensors; i++)
	{
		if (strcmp(g->tensors[i].name, "token_embd.weight") != 0)
			continue;
		m->n_vocab = (int) g->tensors[i].rows;
		ref_type_layout(g->tensors[i].type, &block, &bytes);
	}
	m->quantised = block > 1;
}

static void
read_hyperparameters(const Gguf *g, RefModel *m)
{
	m->n_layers = key_int(g, "llama.block_count");
	m->n_embd = key_int(g, "llama.embedding_length");
	m->n_ff = key_int(g, "llama.feed_forward_length");
	m->n_heads = key_int(g, "llama.attention.head_count");
	m->n_kv_heads = (int) key_or(g, "llama.attention.head_count_kv", m->n_heads);
	m->head_dim = (int) key_or(g, "llama.attention.key_length", m->n_embd / m->n_heads);
	m->value_dim = (int) key_or(g, "llama.attention.value_length", m->n_embd / m->n_heads);
	m->rope_dim = (int) key_or(g, "llama.rope.dimension_count", m->head_dim);
	m->rms_eps = key_or(g, "llama.attention.layer_norm_rms_epsilon", 1e-5);
	m->rope_theta = key_or(g, "llama.rope.freq_base", 10000);
	read_embedding_shape(g, m);
}

static void
read_weights(const Gguf *g, RefModel *m)
{
	int			d = m->n_embd;

	m->token_embd = tensor(g, "token_embd.weight", m->n_vocab, d);
	m->output_norm = tensor(g, "output_norm.weight", 1, d);
	m->output = tensor_or_null(g, "output.weight", m->n_vocab, d);
	if (!m->output)
		m->output = m->token_embd;
	m->rope_divisors = tensor_or_null(g, "rope_freqs.weight", 1, m->rope_dim / 2);
	if (!m->rope_divisors)
	{
		m->rope_divisors = ref_alloc(sizeof(double) * (size_t) (m->rope_dim / 2));
		for (int i = 0; i < m->rope_dim / 2; i++)
			m->rope_divisors[i] = 1;
	}
	m->layers = ref_alloc(sizeof(RefLayer) * (size_t) m->n_layers);
	for (int i = 0; i < m->n_layers; i++)
	{
		RefLayer   *l = &m->layers[i];

		l->attn_norm = layer_tensor(g, i, "attn_norm", 1, d);
		l->wq = layer_tensor(g, i, "attn_q", m->n_heads * m->head_dim, d);
		l->wk = layer_tensor(g, i, "attn_k", m->n_kv_heads * m->head_dim, d);
		l->wv = layer_tensor(g, i, "attn_v", m->n_kv_heads * m->value_dim, d);
		l->wo = layer_tensor(g, i, "attn_output", d, m->n_heads * m->value_dim);
		l->ffn_norm = layer_tensor(g, i, "ffn_norm", 1, d);
		l->w_gate = layer_tensor(g, i, "ffn_gate", m->n_ff, d);
		l->w_up = layer_tensor(g, i, "ffn_up", m->n_ff, d);
		l->w_down = layer_tensor(g, i, "ffn_down", d, m->n_ff);
	}
}

RefModel *
ref_load_gguf(const char *path)
{
	static const char first_part[] = "-00001-of-";
	const char *mark = strstr(path, first_part);
	int			n_parts = mark ? atoi(mark + strlen(first_part)) : 1;
	Gguf	   *g = ref_alloc(sizeof(*g));
	RefModel   *m = ref_alloc(sizeof(*m));

	if (n_parts < 1 || n_parts > MAX_PARTS)
		ref_fail("\"%s\" names %d parts", path, n_parts);
	g->path = path;
	for (int i = 1; i <= n_parts; i++)
	{
		char		name[4096];

		if (mark)
			snprintf(name, sizeof(name), "%.*s-%05d-of-%05d.gguf", (int) (mark - path), path, i, n_parts);
		else
			snprintf(name, sizeof(name), "%s", path);
		read_part(g, name);
	}
	read_hyperparameters(g, m);
	read_weights(g, m);
	for (int i = 0; i < g->n_parts; i++)
		free(g->parts[i]);
	free(g->tensors);
	free(g);
	return m;
}
