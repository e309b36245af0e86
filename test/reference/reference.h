/*-------------------------------------------------------------------------
 *
 * reference.h
 *	  A deliberately plain Llama 3 in double precision: what the engine is
 *	  compared with.
 *
 * Written from the papers and the formats' descriptions.  It shares no code
 * with the engine and includes none of its headers; where both agree, both
 * understood the model.  All weights become doubles, one token is computed at
 * a time, every sum is a plain loop.
 *
 * A tool for tests: a file that it cannot read ends the program with a
 * message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct RefLayer
{
	double	   *attn_norm;		/* (n_embd) */
	double	   *wq;				/* (n_heads * head_dim, n_embd) */
	double	   *wk;				/* (n_kv_heads * head_dim, n_embd) */
	double	   *wv;				/* (n_kv_heads * value_dim, n_embd) */
	double	   *wo;				/* (n_embd, n_heads * value_dim) */
	double	   *ffn_norm;		/* (n_embd) */
	double	   *w_gate;			/* (n_ff, n_embd) */
	double	   *w_up;			/* (n_ff, n_embd) */
	double	   *w_down;			/* (n_embd, n_ff) */
} RefLayer;

typedef struct RefModel
{
	int			n_layers;
	int			n_embd;
	int			n_heads;
	int			n_kv_heads;
	int			head_dim;
	int			value_dim;
	int			rope_dim;
	int			n_ff;
	int			n_vocab;
	bool		rope_halves;	/* pairs (i, i + rope_dim / 2), as Hugging Face
								 * orders them, not (2i, 2i + 1) */
	bool		quantised;		/* matrices are in a block format */
	bool		round_inputs;	/* for the caller to set: see ref_round_inputs */
	double		rms_eps;
	double		rope_theta;
	double	   *rope_divisors;	/* of the frequencies (rope_dim / 2) */
	double	   *token_embd;		/* (n_vocab, n_embd) */
	double	   *output_norm;	/* (n_embd) */
	double	   *output;			/* (n_vocab, n_embd); token_embd when tied */
	RefLayer   *layers;			/* (n_layers) */
} RefModel;

/* Read a .gguf file (the first of its parts), or a Hugging Face directory. */
RefModel   *ref_load(const char *path);
void		ref_free(RefModel *model);

/*
 * With model->round_inputs every matrix takes its input rounded to 8 bits, as
 * engines do that multiply quantised weights in integers: per group of 32
 * values one scale, max|x| / 127, and signed integers, nearest and even on a
 * tie.  Otherwise nothing is rounded.  This tells the accuracy of such an
 * engine's design from mistakes in its kernels.
 */
void		ref_round_inputs(const double *x, int n, double *rounded);

/* A running sequence: the keys and values so far. */
typedef struct RefState RefState;
RefState   *ref_state(const RefModel *model, int max_tokens);
void		ref_state_free(RefState *state);

/*
 * Compute the next token.  hidden (n_embd) is the output of the final norm;
 * logits (n_vocab); either may be NULL.
 */
void		ref_next(RefState *state, int token, double *hidden, double *logits);

/* Logits after the last of n tokens (n_vocab). */
void		ref_logits(const RefModel *model, const int *tokens, int n, double *logits);

/*
 * The greedy continuation: n_more ids in out.  Returns the smallest distance
 * between the best and the second-best logit on the way.
 */
double		ref_greedy(const RefModel *model, const int *tokens, int n, int n_more, int *out);

/* log P(tokens[i] | tokens[0 .. i)) for i = first .. n - 1, in out (n - first). */
void		ref_logprobs(const RefModel *model, const int *tokens, int n, int first, double *out);

/* Mean or last hidden state, scaled to unit length (n_embd). */
void		ref_embed(const RefModel *model, const int *tokens, int n, bool mean, double *out);

/* In place: logits to log-probabilities. */
void		ref_log_softmax(double *logits, int n);

/* ----------------------------------------------------------------
 *		Inside the reference
 * ----------------------------------------------------------------
 */

void		ref_fail(const char *fmt,...)
			__attribute__((format(printf, 1, 2), noreturn));
void	   *ref_alloc(size_t size); /* zero-filled, or exit */
/* A whole file in memory. */
uint8_t    *ref_read_file(const char *path, size_t *size);

RefModel   *ref_load_gguf(const char *path);
RefModel   *ref_load_hf(const char *dir);

/* Values and bytes in a block of a ggml type; false when it is not ours. */
bool		ref_type_layout(uint32_t ggml_type, int *block, int *bytes);
/* Expand n values (whole blocks) of a ggml type. */
void		ref_dequantise(uint32_t ggml_type, const uint8_t *data, size_t n, double *out);

/* Numbers of ggml types that safetensors files need too. */
#define REF_TYPE_F32	0
#define REF_TYPE_F16	1
#define REF_TYPE_BF16	30

#endif							/* REFERENCE_H */
