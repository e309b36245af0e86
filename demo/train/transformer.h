/*-------------------------------------------------------------------------
 *
 * transformer.h
 *	  What the files of the forward and backward pass share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TR_TRANSFORMER_H
#define TR_TRANSFORMER_H

#include "trainer.h"

/* Order of the tensors in TrModel. */
enum
{
	TR_TOKEN_EMBD,
	TR_OUTPUT_NORM,
	TR_GLOBAL_TENSORS			/* then those of layer 0, layer 1, ... */
};

enum
{
	TR_ATTN_NORM,
	TR_ATTN_Q,					/* k and v follow: one matrix of n_qkv rows */
	TR_ATTN_K,
	TR_ATTN_V,
	TR_ATTN_OUTPUT,
	TR_FFN_NORM,
	TR_FFN_GATE,				/* up follows: one matrix of 2 n_ff rows */
	TR_FFN_UP,
	TR_FFN_DOWN,
	TR_LAYER_TENSORS
};

/* What the forward pass leaves for the backward pass; n tokens. */
typedef struct TrActivations
{
	float	   *x;				/* (n, n_embd) residual stream into the layer */
	float	   *attn_normed;	/* (n, n_embd) */
	float	   *attn_r;			/* (n) the norm's 1 / root mean square */
	float	   *qkv;			/* (n, n_qkv) queries and keys rotated */
	float	   *logsum;			/* (n, n_heads) log of the softmax's sum */
	float	   *attended;		/* (n, n_heads * head_dim) */
	float	   *middle;			/* (n, n_embd) residual stream after attention */
	float	   *ffn_normed;		/* (n, n_embd) */
	float	   *ffn_r;			/* (n) */
	float	   *gate_up;		/* (n, 2 n_ff) gate, then up */
	float	   *hidden;			/* (n, n_ff) */
} TrActivations;

struct TrWorkspace
{
	TrConfig	config;
	int			max_tokens;
	int			max_documents;
	int			n_qkv;			/* (n_heads + 2 n_kv_heads) * head_dim */
	float	   *turn;			/* (n_ctx, head_dim) cos and sin of position and pair */

	TrActivations *layers;		/* (n_layers) */
	float	   *x;				/* (n, n_embd) residual stream after the last layer */
	float	   *normed;			/* (n, n_embd) the final hidden states */
	float	   *r;				/* (n) */

	/* gradients of the same */
	float	   *dx;				/* (n, n_embd) residual stream */
	float	   *dnormed;		/* (n, n_embd) */
	float	   *dqkv;			/* (n, n_qkv) */
	float	   *dattended;		/* (n, n_heads * head_dim) */
	float	   *dgate_up;		/* (n, 2 n_ff) */
	float	   *dhidden;		/* (n, n_ff) */

	/* the vocabulary's logits, TR_LOGIT_ROWS rows at a time */
	int		   *logit_token;	/* (n) tokens of the batch whose next one has a weight */
	int		   *logit_target;	/* (n) that next one */
	float	   *logit_weight;	/* (n) */
	float	   *logits;			/* (TR_LOGIT_ROWS, n_vocab) */
	float	   *logit_x;		/* (TR_LOGIT_ROWS, n_embd) */
	float	   *logit_dx;		/* (TR_LOGIT_ROWS, n_embd) */

	/* attention of one group of query heads, TR_ATTENTION_ROWS queries at a time */
	float	   *scores;			/* (heads of a group * TR_ATTENTION_ROWS, n_ctx) */
	float	   *dscores;		/* the same */
	float	   *group_q;		/* (heads of a group * TR_ATTENTION_ROWS, head_dim) */
	float	   *group_out;		/* the same, attended values or their gradients */
	float	   *group_dq;		/* the same */
	float	   *group_delta;	/* (heads of a group * TR_ATTENTION_ROWS) */

	/* the contrastive loss; g documents of a group */
	int		   *pooled_first;	/* (g) first token in the batch */
	const TrDocument **pooled_document; /* (g) */
	float	   *pooled;			/* (g, n_embd) unit vectors */
	float	   *pooled_scale;	/* (g) 1 / length of the mean */
	float	   *dpooled;		/* (g, n_embd) */
	float	   *similarity;		/* (g, g) over the temperature, then its gradient */
};

#define TR_LOGIT_ROWS		512
#define TR_ATTENTION_ROWS	64

/* c (m, n) = a (m, k) b (n, k)^T: a layer's forward pass; b is the matrix. */
void		tr_multiply(float *c, int ldc, const float *a, int lda, const float *b, int ldb,
						int m, int n, int k);
/* c (m, k) = a (m, n) b (n, k), or c + that: the gradient of a layer's input. */
void		tr_multiply_back(float *c, int ldc, const float *a, int lda,
							 const float *b, int ldb, int m, int n, int k, bool add);
/* c (n, k) += a (m, n)^T b (m, k): the gradient of a matrix. */
void		tr_multiply_outer(float *c, int ldc, const float *a, int lda,
							  const float *b, int ldb, int m, int n, int k);

/*
 * Causal attention of one document, tokens first .. first + n - 1 of the batch:
 * layer->qkv to layer->attended, and ws->dattended to ws->dqkv, where keys' and
 * values' gradients must be zero before.
 */
void		tr_attend(TrWorkspace *ws, TrActivations *layer, int first, int n);
void		tr_attend_backward(TrWorkspace *ws, const TrActivations *layer, int first, int n);

/* Documents of the batch that have another of their group in it. */
int			tr_count_anchors(const TrBatch *batch);
/*
 * The contrastive loss of the batch's hidden states (ws->normed); with
 * gradients adds scale times its gradient to ws->dnormed.
 */
void		tr_contrastive(TrWorkspace *ws, const TrBatch *batch, float scale,
						   bool with_gradients, TrLoss *loss);

#endif							/* TR_TRANSFORMER_H */
