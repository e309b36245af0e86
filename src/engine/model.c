/*-------------------------------------------------------------------------
 *
 * model.c
 *	  A model's weights as the forward pass takes them: views into its arena.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void
open_layer(const L3Arena *arena, uint32_t n, L3Layer *layer)
{
	layer->attn_norm = l3_arena_vector(arena, L3_LAYER_TENSOR(n, L3_ATTN_NORM));
	layer->wq = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_WQ));
	layer->wk = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_WK));
	layer->wv = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_WV));
	layer->wo = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_WO));
	layer->ffn_norm = l3_arena_vector(arena, L3_LAYER_TENSOR(n, L3_FFN_NORM));
	layer->w_gate = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_W_GATE));
	layer->w_up = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_W_UP));
	layer->w_down = l3_arena_matrix(arena, L3_LAYER_TENSOR(n, L3_W_DOWN));
}

L3Status
l3_weights_open(const L3Arena *arena, L3Weights *weights, L3Error *err)
{
	const float *factors = l3_arena_vector(arena, L3_ROPE_FACTORS);
	uint32_t	n_pairs;

	memset(weights, 0, sizeof(*weights));
	weights->hp = *l3_arena_hparams(arena);
	n_pairs = weights->hp.rope_dim / 2;
	weights->layers = calloc(weights->hp.n_layers, sizeof(L3Layer));
	weights->rope_freq = calloc(n_pairs > 0 ? n_pairs : 1, sizeof(double));
	if (weights->layers == NULL || weights->rope_freq == NULL)
	{
		l3_weights_close(weights);
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	}
	weights->token_embd = l3_arena_matrix(arena, L3_TOKEN_EMBD);
	weights->output = l3_arena_matrix(arena, L3_OUTPUT);
	weights->output_norm = l3_arena_vector(arena, L3_OUTPUT_NORM);
	for (uint32_t i = 0; i < weights->hp.n_layers; i++)
		open_layer(arena, i, &weights->layers[i]);

	/*
	 * RoFormer's theta^(-2i/d), divided by Llama 3.1's factors.  In double:
	 * at position 100,000 a float angle is off by a hundredth of a radian.
	 */
	for (uint32_t i = 0; i < n_pairs; i++)
		weights->rope_freq[i] = pow(weights->hp.rope_theta,
									-2.0 * i / weights->hp.rope_dim) / (double) factors[i];
	return L3_OK;
}

void
l3_weights_close(L3Weights *weights)
{
	free(weights->layers);
	free(weights->rope_freq);
	memset(weights, 0, sizeof(*weights));
}
