/*-------------------------------------------------------------------------
 *
 * mk_tensors.c
 *	  Shapes, types and random values of a generated model's tensors.
 *
 * Each row has its own generator, seeded from (seed, tensor name, row), so
 * that rows can be written in any order: Hugging Face files hold the query
 * and key rows of a head in another order than GGUF files.
 *
 * A quantised row is noise with sane scales put in: in all block formats
 * every bit pattern of quants and sub-block scales is valid.  This tests more
 * than a quantiser's output would (a quantiser never uses the ends of some
 * ranges), and is as fast as the generator.  The scale d of a block is drawn
 * from 256 values between half and one and a half of what gives the tensor
 * its standard deviation.
 *
 * Random transformers fall into short cycles when the residual stream is
 * mostly the last token's embedding, or when attention averages over
 * everything.  Hence the gains below: sharp attention, block outputs larger
 * than embeddings, and logits with a spread of about 4.
 *
 * Block layouts: ggml's public description of its types (ggml-common.h).
 *
 *-------------------------------------------------------------------------
 */
#include "mkmodel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Factors on 1 / sqrt(n_in). */
#define GAIN_QK			1.6
#define GAIN_BLOCK_OUT	4.0
#define GAIN_LOGITS		4.0

const MkTypeInfo mk_types[MK_N_TYPES] = {
	/* name, number, block, bytes, d, m, m/d, std at d = 1, either sign */
	[MK_F32] = {"f32", 0, 1, 4, -1, -1, 0, 1, false},
	[MK_F16] = {"f16", 1, 1, 2, -1, -1, 0, 1, false},
	[MK_BF16] = {"bf16", 30, 1, 2, -1, -1, 0, 1, false},
	[MK_Q8_0] = {"q8_0", 8, 32, 34, 0, -1, 0, 73.9, false},
	[MK_Q4_0] = {"q4_0", 2, 32, 18, 0, -1, 0, 4.64, true},
	[MK_Q4_1] = {"q4_1", 3, 32, 20, 0, 2, -7.5, 4.61, false},
	[MK_Q5_0] = {"q5_0", 6, 32, 22, 0, -1, 0, 9.25, true},
	[MK_Q5_1] = {"q5_1", 7, 32, 24, 0, 2, -15.5, 9.23, false},
	[MK_Q2_K] = {"q2_k", 10, 256, 84, 80, 82, 1.5, 13.9, false},
	[MK_Q3_K] = {"q3_k", 11, 256, 110, 108, -1, 0, 43.3, true},
	[MK_Q4_K] = {"q4_k", 12, 256, 144, 0, 2, 7.5, 258, false},
	[MK_Q5_K] = {"q5_k", 13, 256, 176, 0, 2, 15.5, 527, false},
	[MK_Q6_K] = {"q6_k", 14, 256, 210, 208, -1, 0, 1366, true},
	[MK_IQ4_NL] = {"iq4_nl", 20, 32, 18, 0, -1, 0, 67.4, true},
	[MK_IQ4_XS] = {"iq4_xs", 23, 256, 136, 0, -1, 0, 1246, true},
};

bool
mk_find_type(const char *name, MkType *type)
{
	for (int i = 0; i < MK_N_TYPES; i++)
	{
		if (strcmp(mk_types[i].name, name) == 0)
		{
			*type = (MkType) i;
			return true;
		}
	}
	return false;
}

/* ----------------------------------------------------------------
 *		Number formats
 * ----------------------------------------------------------------
 */

/* IEEE 754 single to half, round to nearest even.  Finite input. */
static uint16_t
half_from_float(float f)
{
	uint32_t	bits;
	uint32_t	sign,
				mantissa,
				half,
				rest;
	int			exponent,
				shift;

	memcpy(&bits, &f, sizeof(bits));
	sign = (bits >> 16) & 0x8000;
	exponent = (int) ((bits >> 23) & 0xff) - 127;
	mantissa = (bits & 0x7fffff) | 0x800000;
	if (exponent > 15)
		return (uint16_t) (sign | 0x7c00);
	if (exponent < -25)
		return (uint16_t) sign;
	/* 11 bits stay of a normal number, fewer of a subnormal one */
	shift = exponent >= -14 ? 13 : 13 + (-14 - exponent);
	half = mantissa >> shift;
	rest = mantissa & ((1u << shift) - 1);
	if (rest > (1u << (shift - 1)) ||
		(rest == (1u << (shift - 1)) && (half & 1)))
		half++;
	/* the hidden bit, or a carry into it, adds to the exponent field */
	if (exponent >= -14)
		half += (uint32_t) (exponent + 14) << 10;
	return (uint16_t) (sign | half);
}

/* IEEE 754 single to bfloat16, round to nearest even.  Finite input. */
static uint16_t
bf16_from_float(float f)
{
	uint32_t	bits;

	memcpy(&bits, &f, sizeof(bits));
	return (uint16_t) ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void
mk_convert(MkType type, const float *in, size_t n, void *out)
{
	uint16_t   *out16 = out;

	if (type == MK_F32)
		memcpy(out, in, n * sizeof(float));
	else if (type == MK_F16)
	{
		for (size_t i = 0; i < n; i++)
			out16[i] = half_from_float(in[i]);
	}
	else
	{
		for (size_t i = 0; i < n; i++)
			out16[i] = bf16_from_float(in[i]);
	}
}

/* ----------------------------------------------------------------
 *		The list of tensors
 * ----------------------------------------------------------------
 */

/* Does a Q4_K_M file spend Q6_K on this layer's attn_v and ffn_down? */
static bool
more_bits(int layer, int n_layers)
{
	int			eighth = n_layers / 8;

	return layer < eighth || layer >= 7 * n_layers / 8 ||
		(layer - eighth) % 3 == 2;
}

static MkType
matrix_type(const MkOptions *o, const char *name, int layer)
{
	for (int i = 0; i < o->n_overrides; i++)
	{
		if (strcmp(o->override_name[i], name) == 0)
			return o->override_type[i];
	}
	if (!o->mix_q4_k_m)
		return o->type;
	if (strcmp(name, "output.weight") == 0 ||
		(o->tied && strcmp(name, "token_embd.weight") == 0))
		return MK_Q6_K;
	if ((strstr(name, "attn_v") || strstr(name, "ffn_down")) &&
		more_bits(layer, o->n_layers))
		return MK_Q6_K;
	return MK_Q4_K;
}

/* The table of block scales that give a quantised tensor its spread. */
static void
draw_scales(MkTensor *t)
{
	const MkTypeInfo *info = &mk_types[t->type];
	double		d = t->std / info->unit_std;

	for (int i = 0; i < 256; i++)
	{
		double		scale = d * (0.5 + i / 255.0);

		if (info->either_sign && (i & 1))
			scale = -scale;
		t->d[i] = half_from_float((float) scale);
		t->m[i] = half_from_float((float) (scale * info->m_ratio));
	}
}

static MkTensor *
add_matrix(const MkOptions *o, MkTensor *t, int layer, const char *name,
		   const char *hf_name, int n_in, int n_out, double gain)
{
	memset(t, 0, sizeof(*t));
	if (layer >= 0)
	{
		snprintf(t->name, sizeof(t->name), "blk.%d.%s.weight", layer, name);
		snprintf(t->hf_name, sizeof(t->hf_name), "model.layers.%d.%s.weight", layer, hf_name);
	}
	else
	{
		snprintf(t->name, sizeof(t->name), "%s.weight", name);
		snprintf(t->hf_name, sizeof(t->hf_name), "%s.weight", hf_name);
	}
	t->fill = MK_FILL_MATRIX;
	t->type = matrix_type(o, t->name, layer);
	t->n_in = (uint32_t) n_in;
	t->n_out = (uint32_t) n_out;
	t->std = gain / sqrt(n_in);
	if (n_in % mk_types[t->type].block != 0)
		mk_fail("%s: %d inputs are not a multiple of the %d values of a %s block",
				t->name, n_in, mk_types[t->type].block, mk_types[t->type].name);
	if (mk_types[t->type].d_offset >= 0)
		draw_scales(t);
	return t + 1;
}

static MkTensor *
add_vector(MkTensor *t, int layer, const char *name, const char *hf_name, int n, MkFill fill)
{
	memset(t, 0, sizeof(*t));
	if (layer >= 0)
	{
		snprintf(t->name, sizeof(t->name), "blk.%d.%s.weight", layer, name);
		snprintf(t->hf_name, sizeof(t->hf_name), "model.layers.%d.%s.weight", layer, hf_name);
	}
	else
	{
		snprintf(t->name, sizeof(t->name), "%s.weight", name);
		if (hf_name[0] != '\0')
			snprintf(t->hf_name, sizeof(t->hf_name), "%s.weight", hf_name);
	}
	t->fill = fill;
	t->type = MK_F32;
	t->n_in = (uint32_t) n;
	t->n_out = 1;
	return t + 1;
}

MkTensor *
mk_tensors(const MkOptions *o, int *n)
{
	int			d = o->n_embd;
	int			value_dim = o->value_dim ? o->value_dim : o->head_dim;
	int			rope_dim = o->rope_dim ? o->rope_dim : o->head_dim;
	MkTensor   *tensors = mk_alloc(sizeof(MkTensor) * (size_t) (4 + 9 * o->n_layers));
	MkTensor   *t = tensors;

	if (o->rope_scaled)
		t = add_vector(t, -1, "rope_freqs", "", rope_dim / 2, MK_FILL_ROPE);
	t = add_matrix(o, t, -1, "token_embd", "model.embed_tokens", d, o->n_vocab, GAIN_LOGITS);
	for (int l = 0; l < o->n_layers; l++)
	{
		t = add_vector(t, l, "attn_norm", "input_layernorm", d, MK_FILL_NORM);
		t = add_matrix(o, t, l, "attn_q", "self_attn.q_proj", d, o->n_heads * o->head_dim, GAIN_QK);
		t[-1].hf_heads = o->n_heads;
		t = add_matrix(o, t, l, "attn_k", "self_attn.k_proj", d, o->n_kv_heads * o->head_dim, GAIN_QK);
		t[-1].hf_heads = o->n_kv_heads;
		t = add_matrix(o, t, l, "attn_v", "self_attn.v_proj", d, o->n_kv_heads * value_dim, 1);
		t = add_matrix(o, t, l, "attn_output", "self_attn.o_proj", o->n_heads * value_dim, d, GAIN_BLOCK_OUT);
		t = add_vector(t, l, "ffn_norm", "post_attention_layernorm", d, MK_FILL_NORM);
		t = add_matrix(o, t, l, "ffn_gate", "mlp.gate_proj", d, o->n_ff, 1);
		t = add_matrix(o, t, l, "ffn_up", "mlp.up_proj", d, o->n_ff, 1);
		t = add_matrix(o, t, l, "ffn_down", "mlp.down_proj", o->n_ff, d, GAIN_BLOCK_OUT);
	}
	t = add_vector(t, -1, "output_norm", "model.norm", d, MK_FILL_NORM);
	if (!o->tied)
		t = add_matrix(o, t, -1, "output", "lm_head", d, o->n_vocab, GAIN_LOGITS);

	*n = (int) (t - tensors);
	for (int i = 0; o->omit_tensor && i < *n; i++)
	{
		if (strcmp(tensors[i].name, o->omit_tensor) == 0 ||
			strcmp(tensors[i].hf_name, o->omit_tensor) == 0)
		{
			memmove(&tensors[i], &tensors[i + 1], sizeof(MkTensor) * (size_t) (*n - i - 1));
			(*n)--;
			break;
		}
	}
	return tensors;
}

uint64_t
mk_tensor_row_bytes(const MkTensor *t)
{
	return (uint64_t) t->n_in / (uint64_t) mk_types[t->type].block * (uint64_t) mk_types[t->type].bytes;
}

uint64_t
mk_tensor_bytes(const MkTensor *t)
{
	return mk_tensor_row_bytes(t) * t->n_out;
}

/* ----------------------------------------------------------------
 *		Random values
 * ----------------------------------------------------------------
 */

/* SplitMix64 (Steele, Lea, Flood 2014): one multiply chain, any seed is good. */
static inline uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t
row_seed(const MkOptions *o, const MkTensor *t, uint32_t row)
{
	uint64_t	state = o->seed;

	for (const char *c = t->name; *c; c++)
		state = next_random(&state) ^ (unsigned char) *c;
	state += (uint64_t) row << 32;
	return next_random(&state);
}

/*
 * Divisors of the rotation frequencies in Llama 3.1: long waves are slowed by
 * the factor, short ones kept, those between blended.  Source: the llama3
 * rope_type of Hugging Face transformers, from Meta's reference code.
 */
static void
rope_divisors(const MkOptions *o, int n, float *out)
{
	double		rope_dim = 2.0 * n;

	for (int i = 0; i < n; i++)
	{
		double		freq = pow(o->rope_theta, -2.0 * i / rope_dim);
		double		wavelen = 2 * M_PI / freq;
		double		blend = (o->rope_orig_ctx / wavelen - o->rope_low) / (o->rope_high - o->rope_low);

		if (blend >= 1)
			out[i] = 1;
		else if (blend <= 0)
			out[i] = (float) o->rope_factor;
		else
			out[i] = (float) (1 / ((1 - blend) / o->rope_factor + blend));
	}
}

void
mk_tensor_floats(const MkOptions *o, const MkTensor *t, uint32_t row, float *out)
{
	uint64_t	state = row_seed(o, t, row);
	float		unit = (float) (t->std * sqrt(3.0) / 2147483648.0);

	if (t->fill == MK_FILL_ROPE)
		rope_divisors(o, (int) t->n_in, out);
	else if (t->fill == MK_FILL_NORM)
	{
		for (uint32_t i = 0; i < t->n_in; i++)
			out[i] = 0.75f + (float) (next_random(&state) % 65) / 128.0f;
	}
	else
	{
		for (uint32_t i = 0; i < t->n_in; i += 2)
		{
			uint64_t	r = next_random(&state);

			out[i] = (float) (int32_t) r * unit;
			if (i + 1 < t->n_in)
				out[i + 1] = (float) (int32_t) (r >> 32) * unit;
		}
	}
}

/* Noise, with scales drawn from the tensor's table. */
static void
quantised_row(const MkOptions *o, const MkTensor *t, uint32_t row, uint8_t *out)
{
	const MkTypeInfo *info = &mk_types[t->type];
	uint64_t	bytes = mk_tensor_row_bytes(t);
	uint64_t	state = row_seed(o, t, row);
	uint64_t	noise;

	for (uint64_t i = 0; i + 8 <= bytes; i += 8)
	{
		noise = next_random(&state);
		memcpy(out + i, &noise, 8);
	}
	noise = next_random(&state);
	memcpy(out + bytes / 8 * 8, &noise, bytes % 8);

	for (uint64_t i = 0; i < bytes; i += (uint64_t) info->bytes)
	{
		uint8_t		pick = out[i + (uint64_t) info->d_offset];

		memcpy(out + i + info->d_offset, &t->d[pick], 2);
		if (info->m_offset >= 0)
			memcpy(out + i + info->m_offset, &t->m[pick], 2);
	}
}

void
mk_tensor_row(const MkOptions *o, const MkTensor *t, uint32_t row, void *out)
{
	/* what goes into the residual stream; all-zero bytes are zeros in every type */
	if (o->echo && (strstr(t->name, "attn_output") != NULL || strstr(t->name, "ffn_down") != NULL))
		memset(out, 0, mk_tensor_row_bytes(t));
	else if (mk_types[t->type].d_offset >= 0)
		quantised_row(o, t, row, out);
	else
	{
		float	   *values = t->type == MK_F32 ? out : mk_alloc(sizeof(float) * t->n_in);

		mk_tensor_floats(o, t, row, values);
		if (t->type != MK_F32)
		{
			mk_convert(t->type, values, t->n_in, out);
			free(values);
		}
	}
}
