/*-------------------------------------------------------------------------
 *
 * arena.c
 *	  Sizes, layout and checking of the packed image of a model's weights.
 *
 * An arena may come out of a cache file, so it is checked as any other input:
 * l3_arena_check recomputes the layout that the hyperparameters and the types
 * give and accepts only that.  What passes can be used without further checks.
 *
 *-------------------------------------------------------------------------
 */
#include "arena.h"

#include <inttypes.h>
#include <string.h>

/* Hyperparameters enter checksums and cache files as bytes: no padding. */
_Static_assert(sizeof(L3Hparams) == 11 * 4 + sizeof(float) + sizeof(double), "padding");
_Static_assert(sizeof(L3ArenaTensor) == 3 * 8 + 4 * 4, "padding");
_Static_assert(sizeof(L3ArenaHeader) % 8 == 0, "the tensor table follows");

static const struct
{
	const char *name;
	int			block;			/* values per block of scales along k */
	int			scale_bytes;	/* of one block, 16 columns */
	int			quant_bytes;	/* of one block, 16 columns */
}			packed_types[L3_N_PACKED_TYPES] =
{
	[L3_F32] = {"F32", 1, 0, 64},
	[L3_F16] = {"F16", 1, 0, 32},
	[L3_BF16] = {"BF16", 1, 0, 32},
	[L3_Q8_0] = {"Q8_0", 32, 32, 512},
	[L3_Q4_0] = {"Q4_0", 32, 32, 256},
	[L3_Q8_1] = {"Q8_1", 32, 64, 512},
	[L3_Q4_K] = {"Q4_K", 256, 256, 2048},
	[L3_Q6_K] = {"Q6_K", 256, 288, 3072},
	[L3_Q8_K] = {"Q8_K", 256, 576, 4096},
};

static uint64_t
align64(uint64_t n)
{
	return (n + L3_ARENA_ALIGN - 1) / L3_ARENA_ALIGN * L3_ARENA_ALIGN;
}

const char *
l3_packed_type_name(L3PackedType type)
{
	return (unsigned) type < L3_N_PACKED_TYPES ? packed_types[type].name : "unknown";
}

int
l3_packed_block(L3PackedType type)
{
	return packed_types[type].block;
}

size_t
l3_panel_scales_bytes(L3PackedType type, int n_in)
{
	size_t		n_blocks = (size_t) n_in / packed_types[type].block;

	return align64(n_blocks * packed_types[type].scale_bytes);
}

size_t
l3_panel_bytes(L3PackedType type, int n_in)
{
	size_t		n_blocks = (size_t) n_in / packed_types[type].block;

	return l3_panel_scales_bytes(type, n_in) +
		align64(n_blocks * packed_types[type].quant_bytes);
}

/* One hyperparameter against its bounds. */
static bool
in_range(const char *name, uint32_t value, uint32_t min, uint32_t max, L3Error *err)
{
	if (value >= min && value <= max)
		return true;
	l3_error(err, L3_ERR_FORMAT, "%s is out of range", name);
	l3_error_detail(err, "Found %" PRIu32 ", expected %" PRIu32 " to %" PRIu32 ".",
					value, min, max);
	return false;
}

L3Status
l3_hparams_check(const L3Hparams *hp, L3Error *err)
{
	/* in parentheses, the file's own names: GGUF keys after "llama.", config.json */
	if (!in_range("number of layers (block_count, num_hidden_layers)", hp->n_layers, 1, L3_MAX_LAYERS, err) ||
		!in_range("embedding length (embedding_length, hidden_size)", hp->n_embd, 1, L3_MAX_EMBD, err) ||
		!in_range("number of attention heads (head_count, num_attention_heads)", hp->n_heads, 1, L3_MAX_HEADS, err) ||
		!in_range("number of key/value heads (head_count_kv, num_key_value_heads)", hp->n_kv_heads, 1, L3_MAX_HEADS, err) ||
		!in_range("key length (key_length, head_dim)", hp->head_dim, 2, L3_MAX_HEAD_DIM, err) ||
		!in_range("value length (value_length, head_dim)", hp->value_dim, 1, L3_MAX_HEAD_DIM, err) ||
		!in_range("RoPE dimension count (rope.dimension_count)", hp->rope_dim, 2, hp->head_dim, err) ||
		!in_range("feed-forward length (feed_forward_length, intermediate_size)", hp->n_ff, 1, L3_MAX_FF, err) ||
		!in_range("vocabulary size (vocab_size)", hp->n_vocab, 1, L3_MAX_VOCAB, err) ||
		!in_range("context length (context_length, max_position_embeddings)", hp->n_ctx_train, 1, L3_MAX_CONTEXT, err) ||
		!in_range("tied flag", hp->tied, 0, 1, err))
		return L3_ERR_FORMAT;

	if (hp->n_heads % hp->n_kv_heads != 0)
	{
		l3_error(err, L3_ERR_FORMAT,
				 "number of attention heads is not a multiple of the number of key/value heads");
		l3_error_detail(err, "Found %" PRIu32 " heads and %" PRIu32 " key/value heads.",
						hp->n_heads, hp->n_kv_heads);
		return L3_ERR_FORMAT;
	}
	if (hp->head_dim % 2 != 0 || hp->rope_dim % 2 != 0)
	{
		l3_error(err, L3_ERR_FORMAT, "key length or RoPE dimension count is odd");
		l3_error_detail(err, "Found key length %" PRIu32 " and RoPE dimension count %" PRIu32 ".",
						hp->head_dim, hp->rope_dim);
		return L3_ERR_FORMAT;
	}
	if (!(hp->rms_eps >= 0 && hp->rms_eps < 1))
	{
		l3_error(err, L3_ERR_FORMAT, "RMS norm epsilon is out of range");
		l3_error_detail(err, "Found %g, expected 0 to 1.", hp->rms_eps);
		return L3_ERR_FORMAT;
	}
	if (!(hp->rope_theta >= 1 && hp->rope_theta <= 1e12))
	{
		l3_error(err, L3_ERR_FORMAT, "RoPE frequency base is out of range");
		l3_error_detail(err, "Found %g, expected 1 to 1e12.", hp->rope_theta);
		return L3_ERR_FORMAT;
	}
	return L3_OK;
}

static L3TensorShape
matrix_shape(uint32_t n_in, uint32_t n_out)
{
	return (L3TensorShape) {.n_out = n_out, .n_in = n_in};
}

static L3TensorShape
vector_shape(uint32_t n)
{
	return (L3TensorShape) {.n_out = 1, .n_in = n, .vector = true};
}

L3TensorShape
l3_tensor_shape(const L3Hparams *hp, uint64_t tensor)
{
	if (tensor < L3_N_GLOBAL_TENSORS)
	{
		switch ((L3GlobalTensor) tensor)
		{
			case L3_OUTPUT_NORM:
				return vector_shape(hp->n_embd);
			case L3_ROPE_FACTORS:
				return vector_shape(hp->rope_dim / 2);
			case L3_OUTPUT:
				if (hp->tied)
					return (L3TensorShape) {.absent = true};
				return matrix_shape(hp->n_embd, hp->n_vocab);
			case L3_TOKEN_EMBD:
			case L3_N_GLOBAL_TENSORS:
				break;
		}
		return matrix_shape(hp->n_embd, hp->n_vocab);
	}

	switch ((L3LayerTensor) ((tensor - L3_N_GLOBAL_TENSORS) % L3_N_LAYER_TENSORS))
	{
		case L3_WQ:
			return matrix_shape(hp->n_embd, hp->n_heads * hp->head_dim);
		case L3_WK:
			return matrix_shape(hp->n_embd, hp->n_kv_heads * hp->head_dim);
		case L3_WV:
			return matrix_shape(hp->n_embd, hp->n_kv_heads * hp->value_dim);
		case L3_WO:
			return matrix_shape(hp->n_heads * hp->value_dim, hp->n_embd);
		case L3_W_GATE:
		case L3_W_UP:
			return matrix_shape(hp->n_embd, hp->n_ff);
		case L3_W_DOWN:
			return matrix_shape(hp->n_ff, hp->n_embd);
		case L3_ATTN_NORM:
		case L3_FFN_NORM:
		case L3_N_LAYER_TENSORS:
			break;
	}
	return vector_shape(hp->n_embd);
}

void
l3_arena_layout(L3ArenaHeader *header, const L3Hparams *hp, L3ArenaTensor *tensors)
{
	uint64_t	n_tensors = L3_TENSOR_COUNT(hp->n_layers);
	uint64_t	end;

	memset(header, 0, sizeof(*header));
	memcpy(header->magic, L3_ARENA_MAGIC, sizeof(header->magic));
	header->version = L3_ARENA_VERSION;
	header->header_bytes = sizeof(*header);
	header->n_tensors = n_tensors;
	header->tensors_offset = align64(sizeof(*header));
	header->hparams = *hp;

	end = align64(header->tensors_offset + n_tensors * sizeof(*tensors));
	for (uint64_t i = 0; i < n_tensors; i++)
	{
		L3ArenaTensor *tensor = &tensors[i];
		L3TensorShape shape = l3_tensor_shape(hp, i);

		if (shape.absent)
		{
			memset(tensor, 0, sizeof(*tensor));
			continue;
		}
		if (shape.vector)
		{
			tensor->panel_bytes = 0;
			tensor->bytes = (uint64_t) tensor->n_in * sizeof(float);
		}
		else
		{
			uint64_t	n_panels = (tensor->n_out + L3_PANEL - 1) / L3_PANEL;

			tensor->panel_bytes = l3_panel_bytes((L3PackedType) tensor->type,
												 (int) tensor->n_in);
			tensor->bytes = n_panels * tensor->panel_bytes;
		}
		tensor->offset = end;
		end = align64(end + tensor->bytes);
		header->weight_bytes += tensor->bytes;
		/* RoPE divisors are constants of the architecture, not parameters. */
		if (i != L3_ROPE_FACTORS)
			header->n_params += (uint64_t) tensor->n_out * tensor->n_in;
	}
	header->total_bytes = end;
}

static const L3ArenaTensor *
tensor_table(const L3Arena *arena)
{
	return (const L3ArenaTensor *) ((const uint8_t *) arena + arena->header.tensors_offset);
}

/* An arena that is not sound: say where. */
static const L3Arena *
damaged(L3Error *err, const char *what)
{
	l3_error(err, L3_ERR_FORMAT, "packed model is damaged");
	l3_error_detail(err, "Its %s is wrong.", what);
	l3_error_hint(err, "Remove the cached file, so that it is made again from the model's own file.");
	return NULL;
}

/* One entry of the table; *end is where the tensors so far end. */
static bool
tensor_sound(const L3Hparams *hp, const L3ArenaTensor *tensor, uint64_t index, uint64_t *end)
{
	static const L3ArenaTensor nothing;
	L3TensorShape shape = l3_tensor_shape(hp, index);
	uint64_t	panel_bytes = 0;
	uint64_t	bytes;

	if (shape.absent)
		return memcmp(tensor, &nothing, sizeof(nothing)) == 0;
	if (tensor->n_in != shape.n_in || tensor->n_out != shape.n_out ||
		tensor->type >= L3_N_PACKED_TYPES)
		return false;
	if (tensor->zero_point != 0 &&
		!(tensor->type == L3_Q8_K && tensor->zero_point == 128))
		return false;
	if (shape.vector)
	{
		if (tensor->type != L3_F32)
			return false;
		bytes = (uint64_t) shape.n_in * sizeof(float);
	}
	else
	{
		if (shape.n_in % (uint32_t) packed_types[tensor->type].block != 0)
			return false;
		panel_bytes = l3_panel_bytes((L3PackedType) tensor->type, (int) shape.n_in);
		bytes = (shape.n_out + L3_PANEL - 1) / L3_PANEL * panel_bytes;
	}
	if (tensor->panel_bytes != panel_bytes || tensor->bytes != bytes ||
		tensor->offset != *end)
		return false;
	*end = align64(*end + bytes);
	return true;
}

const L3Arena *
l3_arena_check(const void *mem, uint64_t size, L3Error *err)
{
	const L3Arena *arena = mem;
	const L3ArenaHeader *header = mem;
	const L3ArenaTensor *tensors;
	L3Error		ignored;
	uint64_t	end;
	uint64_t	weight_bytes = 0;
	uint64_t	n_params = 0;

	if (size < sizeof(*header) ||
		memcmp(header->magic, L3_ARENA_MAGIC, sizeof(header->magic)) != 0)
		return damaged(err, "magic");
	if (header->version != L3_ARENA_VERSION || header->header_bytes != sizeof(*header))
		return damaged(err, "version");
	if (l3_hparams_check(&header->hparams, &ignored) != L3_OK)
		return damaged(err, "set of hyperparameters");
	if (header->n_tensors != L3_TENSOR_COUNT(header->hparams.n_layers) ||
		header->tensors_offset != align64(sizeof(*header)))
		return damaged(err, "tensor count");
	end = align64(header->tensors_offset + header->n_tensors * sizeof(*tensors));
	if (header->total_bytes > size || end > header->total_bytes)
		return damaged(err, "size");

	tensors = tensor_table(arena);
	for (uint64_t i = 0; i < header->n_tensors; i++)
	{
		if (!tensor_sound(&header->hparams, &tensors[i], i, &end))
			return damaged(err, "tensor table");
		weight_bytes += tensors[i].bytes;
		if (i != L3_ROPE_FACTORS)
			n_params += (uint64_t) tensors[i].n_out * tensors[i].n_in;
	}
	if (end != header->total_bytes || weight_bytes != header->weight_bytes ||
		n_params != header->n_params)
		return damaged(err, "size");
	return arena;
}

const L3Hparams *
l3_arena_hparams(const L3Arena *arena)
{
	return &arena->header.hparams;
}

uint64_t
l3_arena_size(const L3Arena *arena)
{
	return arena->header.total_bytes;
}

uint64_t
l3_arena_weight_bytes(const L3Arena *arena)
{
	return arena->header.weight_bytes;
}

uint64_t
l3_arena_n_params(const L3Arena *arena)
{
	return arena->header.n_params;
}

void
l3_arena_checksum(const L3Arena *arena, uint8_t checksum[16])
{
	memcpy(checksum, arena->header.checksum, sizeof(arena->header.checksum));
}

L3Matrix
l3_arena_matrix(const L3Arena *arena, uint64_t tensor)
{
	const L3ArenaTensor *entry;
	L3Matrix	matrix;

	if (tensor == L3_OUTPUT && arena->header.hparams.tied)
		tensor = L3_TOKEN_EMBD;
	entry = &tensor_table(arena)[tensor];
	matrix.type = (L3PackedType) entry->type;
	matrix.n_out = (int) entry->n_out;
	matrix.n_in = (int) entry->n_in;
	matrix.n_panels = (int) ((entry->n_out + L3_PANEL - 1) / L3_PANEL);
	matrix.zero_point = (int) entry->zero_point;
	matrix.panel_bytes = entry->panel_bytes;
	matrix.data = (const uint8_t *) arena + entry->offset;
	return matrix;
}

const float *
l3_arena_vector(const L3Arena *arena, uint64_t tensor)
{
	return (const float *) ((const uint8_t *) arena + tensor_table(arena)[tensor].offset);
}
