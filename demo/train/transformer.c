/*-------------------------------------------------------------------------
 *
 * transformer.c
 *	  The forward and the backward pass over a batch of documents.
 *
 * Reads top to bottom as the papers have it.  All of a batch's tokens go
 * through each matrix in one product; only attention goes document by
 * document.  The batch's activations are all kept: at the sizes that a CPU
 * can train they are some hundred megabytes.
 *
 * The calling thread computes; OpenBLAS is told to start none of its own, so
 * that the result of a product does not depend on how many there are.
 *
 *-------------------------------------------------------------------------
 */
#include "transformer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "loops.h"

/* ----------------------------------------------------------------
 *		Matrix products
 * ----------------------------------------------------------------
 */

void
tr_multiply(float *c, int ldc, const float *a, int lda, const float *b, int ldb,
			int m, int n, int k)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, a, lda, b, ldb,
				0.0f, c, ldc);
}

void
tr_multiply_back(float *c, int ldc, const float *a, int lda, const float *b, int ldb,
				 int m, int n, int k, bool add)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, n, 1.0f, a, lda, b, ldb,
				add ? 1.0f : 0.0f, c, ldc);
}

void
tr_multiply_outer(float *c, int ldc, const float *a, int lda, const float *b, int ldb,
				  int m, int n, int k)
{
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, m, 1.0f, a, lda, b, ldb,
				1.0f, c, ldc);
}

/* ----------------------------------------------------------------
 *		The workspace
 * ----------------------------------------------------------------
 */

static float *
floats(int rows, int columns)
{
	return tr_alloc(sizeof(float) * (size_t) rows * (size_t) columns);
}

/* Angle of position p and pair i: p * theta^(-2i / head_dim) (Su et al. 2021). */
static void
fill_turns(TrWorkspace *ws)
{
	const TrConfig *c = &ws->config;

	ws->turn = floats(c->n_ctx, c->head_dim);
	for (int p = 0; p < c->n_ctx; p++)
		for (int i = 0; i < c->head_dim; i += 2)
		{
			double		angle = p * pow((double) c->rope_theta, -(double) i / c->head_dim);

			ws->turn[(size_t) p * c->head_dim + i] = (float) cos(angle);
			ws->turn[(size_t) p * c->head_dim + i + 1] = (float) sin(angle);
		}
}

static void
make_activations(TrWorkspace *ws, int n)
{
	const TrConfig *c = &ws->config;

	ws->layers = tr_alloc(sizeof(TrActivations) * (size_t) c->n_layers);
	for (int i = 0; i < c->n_layers; i++)
	{
		TrActivations *layer = &ws->layers[i];

		layer->x = floats(n, c->n_embd);
		layer->attn_normed = floats(n, c->n_embd);
		layer->attn_r = floats(n, 1);
		layer->qkv = floats(n, ws->n_qkv);
		layer->logsum = floats(n, c->n_heads);
		layer->attended = floats(n, c->n_heads * c->head_dim);
		layer->middle = floats(n, c->n_embd);
		layer->ffn_normed = floats(n, c->n_embd);
		layer->ffn_r = floats(n, 1);
		layer->gate_up = floats(n, 2 * c->n_ff);
		layer->hidden = floats(n, c->n_ff);
	}
	ws->x = floats(n, c->n_embd);
	ws->normed = floats(n, c->n_embd);
	ws->r = floats(n, 1);
}

static void
free_activations(TrWorkspace *ws)
{
	for (int i = 0; i < ws->config.n_layers; i++)
	{
		TrActivations *layer = &ws->layers[i];

		free(layer->x);
		free(layer->attn_normed);
		free(layer->attn_r);
		free(layer->qkv);
		free(layer->logsum);
		free(layer->attended);
		free(layer->middle);
		free(layer->ffn_normed);
		free(layer->ffn_r);
		free(layer->gate_up);
		free(layer->hidden);
	}
	free(ws->layers);
	free(ws->x);
	free(ws->normed);
	free(ws->r);
}

TrWorkspace *
tr_workspace_create(const TrModel *model, int max_tokens, int max_documents)
{
	TrWorkspace *ws = tr_alloc(sizeof(TrWorkspace));
	const TrConfig *c = &model->config;
	int			width = c->n_heads * c->head_dim;
	int			group_rows = c->n_heads / c->n_kv_heads * TR_ATTENTION_ROWS;
	int			n = max_tokens;

	openblas_set_num_threads(1);
	ws->config = *c;
	ws->max_tokens = max_tokens;
	ws->max_documents = max_documents;
	ws->n_qkv = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
	fill_turns(ws);
	make_activations(ws, n);

	ws->dx = floats(n, c->n_embd);
	ws->dnormed = floats(n, c->n_embd);
	ws->dqkv = floats(n, ws->n_qkv);
	ws->dattended = floats(n, width);
	ws->dgate_up = floats(n, 2 * c->n_ff);
	ws->dhidden = floats(n, c->n_ff);

	ws->logit_token = tr_alloc(sizeof(int) * (size_t) n);
	ws->logit_target = tr_alloc(sizeof(int) * (size_t) n);
	ws->logit_weight = floats(n, 1);
	ws->logits = floats(TR_LOGIT_ROWS, c->n_vocab);
	ws->logit_x = floats(TR_LOGIT_ROWS, c->n_embd);
	ws->logit_dx = floats(TR_LOGIT_ROWS, c->n_embd);

	ws->scores = floats(group_rows, c->n_ctx);
	ws->dscores = floats(group_rows, c->n_ctx);
	ws->group_q = floats(group_rows, c->head_dim);
	ws->group_out = floats(group_rows, c->head_dim);
	ws->group_dq = floats(group_rows, c->head_dim);
	ws->group_delta = floats(group_rows, 1);

	ws->pooled_first = tr_alloc(sizeof(int) * (size_t) max_documents);
	ws->pooled_document = tr_alloc(sizeof(TrDocument *) * (size_t) max_documents);
	ws->pooled = floats(max_documents, c->n_embd);
	ws->pooled_scale = floats(max_documents, 1);
	ws->dpooled = floats(max_documents, c->n_embd);
	ws->similarity = floats(max_documents, max_documents);
	return ws;
}

void
tr_workspace_free(TrWorkspace *ws)
{
	if (ws == NULL)
		return;
	free_activations(ws);
	free(ws->turn);
	free(ws->dx);
	free(ws->dnormed);
	free(ws->dqkv);
	free(ws->dattended);
	free(ws->dgate_up);
	free(ws->dhidden);
	free(ws->logit_token);
	free(ws->logit_target);
	free(ws->logit_weight);
	free(ws->logits);
	free(ws->logit_x);
	free(ws->logit_dx);
	free(ws->scores);
	free(ws->dscores);
	free(ws->group_q);
	free(ws->group_out);
	free(ws->group_dq);
	free(ws->group_delta);
	free(ws->pooled_first);
	free(ws->pooled_document);
	free(ws->pooled);
	free(ws->pooled_scale);
	free(ws->dpooled);
	free(ws->similarity);
	free(ws);
}

/* ----------------------------------------------------------------
 *		Parts of a layer
 * ----------------------------------------------------------------
 */

/* Where a layer's tensor begins in an array of the parameters' length. */
static size_t
offset_of(const TrModel *model, int layer, int kind)
{
	return model->tensors[TR_GLOBAL_TENSORS + layer * TR_LAYER_TENSORS + kind].offset;
}

static void
norm_rows(const TrConfig *c, float *y, float *r, const float *x, const float *weight, int n)
{
	for (int t = 0; t < n; t++)
	{
		size_t		row = (size_t) t * c->n_embd;

		r[t] = tr_rms_norm(y + row, x + row, weight, c->n_embd, c->rms_eps);
	}
}

static void
norm_rows_backward(const TrConfig *c, float *dx, float *dweight, const float *dy,
				   const float *x, const float *weight, const float *r, int n)
{
	for (int t = 0; t < n; t++)
	{
		size_t		row = (size_t) t * c->n_embd;

		tr_rms_norm_backward(dx + row, dweight, dy + row, x + row, weight, r[t], c->n_embd);
	}
}

/* Queries and keys stand side by side; positions begin at 0 in each document. */
static void
rotate_rows(const TrWorkspace *ws, const TrBatch *batch, float *qkv, float direction)
{
	const TrConfig *c = &ws->config;

	for (int i = 0; i < batch->n_documents; i++)
		for (int p = 0; p < batch->documents[i]->n_tokens; p++, qkv += ws->n_qkv)
			tr_rope(qkv, ws->turn + (size_t) p * c->head_dim,
					c->n_heads + c->n_kv_heads, c->head_dim, direction);
}

/* ----------------------------------------------------------------
 *		Forward
 * ----------------------------------------------------------------
 */

static void
embed(const TrModel *model, const TrBatch *batch, float *x)
{
	size_t		d = (size_t) model->config.n_embd;

	for (int i = 0; i < batch->n_documents; i++)
		for (int t = 0; t < batch->documents[i]->n_tokens; t++, x += d)
			memcpy(x, model->params + batch->documents[i]->ids[t] * d, d * sizeof(float));
}

/* out = the residual stream behind the layer */
static void
layer_forward(const TrModel *model, TrWorkspace *ws, const TrBatch *batch, int n,
			  int index, float *out)
{
	const TrConfig *c = &model->config;
	const float *w = model->params;
	TrActivations *layer = &ws->layers[index];
	int			d = c->n_embd;
	int			width = c->n_heads * c->head_dim;
	size_t		n_stream = (size_t) n * d;
	int			first = 0;

	norm_rows(c, layer->attn_normed, layer->attn_r, layer->x,
			  w + offset_of(model, index, TR_ATTN_NORM), n);
	tr_multiply(layer->qkv, ws->n_qkv, layer->attn_normed, d,
				w + offset_of(model, index, TR_ATTN_Q), d, n, ws->n_qkv, d);
	rotate_rows(ws, batch, layer->qkv, 1.0f);
	for (int i = 0; i < batch->n_documents; i++)
	{
		tr_attend(ws, layer, first, batch->documents[i]->n_tokens);
		first += batch->documents[i]->n_tokens;
	}
	tr_multiply(layer->middle, d, layer->attended, width,
				w + offset_of(model, index, TR_ATTN_OUTPUT), width, n, d, width);
	tr_add(layer->middle, layer->x, n_stream);

	norm_rows(c, layer->ffn_normed, layer->ffn_r, layer->middle,
			  w + offset_of(model, index, TR_FFN_NORM), n);
	tr_multiply(layer->gate_up, 2 * c->n_ff, layer->ffn_normed, d,
				w + offset_of(model, index, TR_FFN_GATE), d, n, 2 * c->n_ff, d);
	for (int t = 0; t < n; t++)
	{
		const float *gate = layer->gate_up + (size_t) t * 2 * c->n_ff;

		tr_swiglu(layer->hidden + (size_t) t * c->n_ff, gate, gate + c->n_ff, c->n_ff);
	}
	tr_multiply(out, d, layer->hidden, c->n_ff,
				w + offset_of(model, index, TR_FFN_DOWN), c->n_ff, n, d, c->n_ff);
	tr_add(out, layer->middle, n_stream);
}

/* List the tokens whose next one has a weight; returns their number. */
static int
list_logits(TrWorkspace *ws, const TrBatch *batch)
{
	int			n = 0;
	int			first = 0;

	for (int i = 0; i < batch->n_documents; i++)
	{
		const TrDocument *document = batch->documents[i];

		for (int t = 1; t < document->n_tokens; t++)
			if (document->weights[t] != 0)
			{
				ws->logit_token[n] = first + t - 1;
				ws->logit_target[n] = document->ids[t];
				ws->logit_weight[n] = document->weights[t];
				n++;
			}
		first += document->n_tokens;
	}
	return n;
}

/*
 * The loss of n listed tokens from the given one on; leaves in ws->logits the
 * gradient by the logits: (softmax - 1 at the target) * weight * scale.
 */
static void
logits_loss(const TrModel *model, TrWorkspace *ws, int from, int n, float scale, TrLoss *loss)
{
	int			d = ws->config.n_embd;
	int			n_vocab = ws->config.n_vocab;

	for (int i = 0; i < n; i++)
		memcpy(ws->logit_x + (size_t) i * d,
			   ws->normed + (size_t) ws->logit_token[from + i] * d, (size_t) d * sizeof(float));
	tr_multiply(ws->logits, n_vocab, ws->logit_x, d, model->params, d, n, n_vocab, d);
	for (int i = 0; i < n; i++)
	{
		float	   *row = ws->logits + (size_t) i * n_vocab;
		float		weight = ws->logit_weight[from + i];
		float		target = row[ws->logit_target[from + i]];
		float		logsum = tr_softmax(row, n_vocab, weight * scale);

		row[ws->logit_target[from + i]] -= weight * scale;
		loss->token_loss += (double) weight * ((double) logsum - target);
		loss->token_weight += weight;
	}
}

/*
 * The token loss, in pieces because logits are many; with gradients also those
 * of the hidden states and of the embedding as the output's matrix.
 */
static void
token_loss(const TrModel *model, TrWorkspace *ws, int n, float scale, float *gradients,
		   TrLoss *loss)
{
	int			d = ws->config.n_embd;
	int			n_vocab = ws->config.n_vocab;

	for (int from = 0; from < n; from += TR_LOGIT_ROWS)
	{
		int			rows = n - from < TR_LOGIT_ROWS ? n - from : TR_LOGIT_ROWS;

		logits_loss(model, ws, from, rows, scale, loss);
		if (gradients == NULL)
			continue;
		tr_multiply_outer(gradients, d, ws->logits, n_vocab, ws->logit_x, d, rows, n_vocab, d);
		tr_multiply_back(ws->logit_dx, d, ws->logits, n_vocab, model->params, d,
						 rows, n_vocab, d, false);
		for (int i = 0; i < rows; i++)
			memcpy(ws->dnormed + (size_t) ws->logit_token[from + i] * d,
				   ws->logit_dx + (size_t) i * d, (size_t) d * sizeof(float));
	}
}

/* ----------------------------------------------------------------
 *		Backward
 * ----------------------------------------------------------------
 */

/* ws->dx: from the gradient behind the layer to the one before it. */
static void
ffn_backward(const TrModel *model, TrWorkspace *ws, int n, int index, float *gradients)
{
	const TrConfig *c = &model->config;
	const float *w = model->params;
	const TrActivations *layer = &ws->layers[index];
	int			d = c->n_embd;
	size_t		down = offset_of(model, index, TR_FFN_DOWN);
	size_t		gate_up = offset_of(model, index, TR_FFN_GATE);
	size_t		norm = offset_of(model, index, TR_FFN_NORM);

	tr_multiply_outer(gradients + down, c->n_ff, ws->dx, d, layer->hidden, c->n_ff, n, d, c->n_ff);
	tr_multiply_back(ws->dhidden, c->n_ff, ws->dx, d, w + down, c->n_ff, n, d, c->n_ff, false);
	for (int t = 0; t < n; t++)
	{
		const float *gate = layer->gate_up + (size_t) t * 2 * c->n_ff;
		float	   *dgate = ws->dgate_up + (size_t) t * 2 * c->n_ff;

		tr_swiglu_backward(dgate, dgate + c->n_ff, ws->dhidden + (size_t) t * c->n_ff,
						   gate, gate + c->n_ff, c->n_ff);
	}
	tr_multiply_outer(gradients + gate_up, d, ws->dgate_up, 2 * c->n_ff, layer->ffn_normed, d,
					  n, 2 * c->n_ff, d);
	tr_multiply_back(ws->dnormed, d, ws->dgate_up, 2 * c->n_ff, w + gate_up, d,
					 n, 2 * c->n_ff, d, false);
	norm_rows_backward(c, ws->dx, gradients + norm, ws->dnormed, layer->middle, w + norm,
					   layer->ffn_r, n);
}

static void
attention_backward(const TrModel *model, TrWorkspace *ws, const TrBatch *batch, int n,
				   int index, float *gradients)
{
	const TrConfig *c = &model->config;
	const float *w = model->params;
	const TrActivations *layer = &ws->layers[index];
	int			d = c->n_embd;
	int			width = c->n_heads * c->head_dim;
	size_t		output = offset_of(model, index, TR_ATTN_OUTPUT);
	size_t		qkv = offset_of(model, index, TR_ATTN_Q);
	size_t		norm = offset_of(model, index, TR_ATTN_NORM);
	int			first = 0;

	tr_multiply_outer(gradients + output, width, ws->dx, d, layer->attended, width, n, d, width);
	tr_multiply_back(ws->dattended, width, ws->dx, d, w + output, width, n, d, width, false);
	memset(ws->dqkv, 0, (size_t) n * ws->n_qkv * sizeof(float));
	for (int i = 0; i < batch->n_documents; i++)
	{
		tr_attend_backward(ws, layer, first, batch->documents[i]->n_tokens);
		first += batch->documents[i]->n_tokens;
	}
	rotate_rows(ws, batch, ws->dqkv, -1.0f);
	tr_multiply_outer(gradients + qkv, d, ws->dqkv, ws->n_qkv, layer->attn_normed, d,
					  n, ws->n_qkv, d);
	tr_multiply_back(ws->dnormed, d, ws->dqkv, ws->n_qkv, w + qkv, d, n, ws->n_qkv, d, false);
	norm_rows_backward(c, ws->dx, gradients + norm, ws->dnormed, layer->x, w + norm,
					   layer->attn_r, n);
}

static void
embed_backward(const TrModel *model, const TrBatch *batch, const float *dx, float *gradients)
{
	size_t		d = (size_t) model->config.n_embd;

	for (int i = 0; i < batch->n_documents; i++)
		for (int t = 0; t < batch->documents[i]->n_tokens; t++, dx += d)
			tr_add(gradients + batch->documents[i]->ids[t] * d, dx, d);
}

/* ----------------------------------------------------------------
 *		The whole
 * ----------------------------------------------------------------
 */

/* The batch's tokens, all within the model's and the workspace's bounds. */
static int
count_tokens(const TrModel *model, const TrWorkspace *ws, const TrBatch *batch)
{
	int			n = 0;

	if (batch->n_documents > ws->max_documents)
		tr_fail("a batch has %d documents, and at most %d fit",
				batch->n_documents, ws->max_documents);
	for (int i = 0; i < batch->n_documents; i++)
	{
		const TrDocument *document = batch->documents[i];

		if (document->n_tokens < 1 || document->n_tokens > model->config.n_ctx)
			tr_fail("a document has %d tokens, and the model takes 1 to %d",
					document->n_tokens, model->config.n_ctx);
		if (document->n_pooled > document->n_tokens)
			tr_fail("a document has %d tokens and %d to pool",
					document->n_tokens, document->n_pooled);
		if (document->n_tokens > ws->max_tokens - n)
			tr_fail("a batch has more than %d tokens", ws->max_tokens);
		for (int t = 0; t < document->n_tokens; t++)
			if (document->ids[t] >= model->config.n_vocab)
				tr_fail("token %d is not one of %d", document->ids[t], model->config.n_vocab);
		n += document->n_tokens;
	}
	return n;
}

void
tr_model_run(const TrModel *model, TrWorkspace *ws, const TrBatch *batch,
			 float token_scale, float group_scale, float *gradients, TrLoss *loss)
{
	const TrConfig *c = &model->config;
	const float *output_norm = model->params + model->tensors[TR_OUTPUT_NORM].offset;
	int			n = count_tokens(model, ws, batch);

	memset(loss, 0, sizeof(*loss));
	embed(model, batch, ws->layers[0].x);
	for (int i = 0; i < c->n_layers; i++)
		layer_forward(model, ws, batch, n, i, i + 1 < c->n_layers ? ws->layers[i + 1].x : ws->x);
	norm_rows(c, ws->normed, ws->r, ws->x, output_norm, n);

	memset(ws->dnormed, 0, (size_t) n * c->n_embd * sizeof(float));
	token_loss(model, ws, list_logits(ws, batch), token_scale, gradients, loss);
	tr_contrastive(ws, batch, group_scale, gradients != NULL, loss);
	if (gradients == NULL)
		return;

	memset(ws->dx, 0, (size_t) n * c->n_embd * sizeof(float));
	norm_rows_backward(c, ws->dx, gradients + model->tensors[TR_OUTPUT_NORM].offset,
					   ws->dnormed, ws->x, output_norm, ws->r, n);
	for (int i = c->n_layers - 1; i >= 0; i--)
	{
		ffn_backward(model, ws, n, i, gradients);
		attention_backward(model, ws, batch, n, i, gradients);
	}
	embed_backward(model, batch, ws->dx, gradients);
}
