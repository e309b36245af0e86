/*-------------------------------------------------------------------------
 *
 * model.h
 *	  A model's weights as the forward pass takes them: views into its arena.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_MODEL_H
#define L3_MODEL_H

#include "arena.h"

typedef struct L3Layer
{
	const float *attn_norm;		/* (n_embd) */
	L3Matrix	wq;				/* n_embd -> n_heads * head_dim */
	L3Matrix	wk;				/* n_embd -> n_kv_heads * head_dim */
	L3Matrix	wv;				/* n_embd -> n_kv_heads * value_dim */
	L3Matrix	wo;				/* n_heads * value_dim -> n_embd */
	const float *ffn_norm;		/* (n_embd) */
	L3Matrix	w_gate;			/* n_embd -> n_ff */
	L3Matrix	w_up;			/* n_embd -> n_ff */
	L3Matrix	w_down;			/* n_ff -> n_embd */
} L3Layer;

typedef struct L3Weights
{
	L3Hparams	hp;
	L3Matrix	token_embd;		/* n_embd -> n_vocab, rows used as a table */
	L3Matrix	output;			/* n_embd -> n_vocab; token_embd when tied */
	const float *output_norm;	/* (n_embd) */
	double	   *rope_freq;		/* (rope_dim / 2) radians per position */
	L3Layer    *layers;			/* (n_layers) */
} L3Weights;

/* The arena was checked and stays mapped until l3_weights_close. */
L3Status	l3_weights_open(const L3Arena *arena, L3Weights *weights, L3Error *err);
void		l3_weights_close(L3Weights *weights);

#endif							/* L3_MODEL_H */
