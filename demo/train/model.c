/*-------------------------------------------------------------------------
 *
 * model.c
 *	  The parameters: their names, shapes, places and first values.
 *
 * Within a layer query, key and value rows stand together, and so do gate and
 * up rows, so that each group is one matrix product.
 *
 *-------------------------------------------------------------------------
 */
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "transformer.h"

#define INIT_STD	0.02		/* of embeddings and matrices, as GPT-2's */

static void
add_tensor(TrModel *model, int layer, const char *name, int n_out, int n_in)
{
	TrTensor   *tensor = &model->tensors[model->n_tensors++];

	if (layer < 0)
		snprintf(tensor->name, sizeof(tensor->name), "%s.weight", name);
	else
		snprintf(tensor->name, sizeof(tensor->name), "blk.%d.%s.weight", layer, name);
	tensor->n_out = n_out;
	tensor->n_in = n_in;
	tensor->offset = model->n_params;
	model->n_params += (size_t) n_out * n_in;
}

static void
check_config(const TrConfig *c)
{
	if (c->n_layers < 1 || c->n_layers > L3_MAX_LAYERS ||
		c->n_embd < 1 || c->n_embd > L3_MAX_EMBD ||
		c->n_heads < 1 || c->n_heads > L3_MAX_HEADS ||
		c->head_dim < 2 || c->head_dim > L3_MAX_HEAD_DIM || c->head_dim % 2 != 0 ||
		c->n_ff < 1 || c->n_ff > L3_MAX_FF ||
		c->n_vocab < 1 || c->n_vocab > 65536 ||
		c->n_ctx < 1 || c->n_ctx > L3_MAX_CONTEXT)
		tr_fail("a size of the model is out of its range");
	if (c->n_kv_heads < 1 || c->n_heads % c->n_kv_heads != 0)
		tr_fail("%d key and value heads do not divide %d query heads",
				c->n_kv_heads, c->n_heads);
}

TrModel *
tr_model_create(const TrConfig *config)
{
	TrModel    *model = tr_alloc(sizeof(TrModel));
	const TrConfig *c = config;

	check_config(c);
	model->config = *c;
	model->tensors = tr_alloc(sizeof(TrTensor) * (size_t) (TR_GLOBAL_TENSORS +
														   c->n_layers * TR_LAYER_TENSORS));
	add_tensor(model, -1, "token_embd", c->n_vocab, c->n_embd);
	add_tensor(model, -1, "output_norm", 1, c->n_embd);
	for (int i = 0; i < c->n_layers; i++)
	{
		add_tensor(model, i, "attn_norm", 1, c->n_embd);
		add_tensor(model, i, "attn_q", c->n_heads * c->head_dim, c->n_embd);
		add_tensor(model, i, "attn_k", c->n_kv_heads * c->head_dim, c->n_embd);
		add_tensor(model, i, "attn_v", c->n_kv_heads * c->head_dim, c->n_embd);
		add_tensor(model, i, "attn_output", c->n_embd, c->n_heads * c->head_dim);
		add_tensor(model, i, "ffn_norm", 1, c->n_embd);
		add_tensor(model, i, "ffn_gate", c->n_ff, c->n_embd);
		add_tensor(model, i, "ffn_up", c->n_ff, c->n_embd);
		add_tensor(model, i, "ffn_down", c->n_embd, c->n_ff);
	}
	model->params = tr_alloc(sizeof(float) * model->n_params);
	return model;
}

/*
 * Normal values; those of the two matrices that write to the residual stream
 * are smaller, so that its variance does not grow with the layers (GPT-2).
 */
void
tr_model_init(TrModel *model, uint64_t seed)
{
	TrRandom	random = {seed};
	double		residual_std = INIT_STD / sqrt(2.0 * model->config.n_layers);

	for (int i = 0; i < model->n_tensors; i++)
	{
		const TrTensor *tensor = &model->tensors[i];
		float	   *w = model->params + tensor->offset;
		size_t		n = (size_t) tensor->n_out * tensor->n_in;
		int			kind = (i - TR_GLOBAL_TENSORS) % TR_LAYER_TENSORS;
		bool		residual = i >= TR_GLOBAL_TENSORS &&
			(kind == TR_ATTN_OUTPUT || kind == TR_FFN_DOWN);

		for (size_t j = 0; j < n; j++)
		{
			if (tensor->n_out == 1)
				w[j] = 1.0f;
			else
				w[j] = (float) (tr_normal(&random) * (residual ? residual_std : INIT_STD));
		}
	}
}

void
tr_model_free(TrModel *model)
{
	if (model == NULL)
		return;
	free(model->params);
	free(model->tensors);
	free(model);
}
