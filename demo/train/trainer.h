/*-------------------------------------------------------------------------
 *
 * trainer.h
 *	  Training a small Llama 3 on the CPU: what the trainer's files share.
 *
 * The way of the data:
 *	documents (text, made by documents.pl)
 *	  -> bpe_learn.c, vocab.c   byte-level BPE vocabulary, a list of merges
 *	  -> corpus.c  documents as token ids with a loss weight each
 *	  -> train.c   parameters, a checkpoint file
 *	  -> export.c  a GGUF file
 *
 * It is a tool: wrong input and failed writes print a message and exit(1).
 * The same documents, options and seed give the same file, bit for bit, on
 * one machine, whatever the number of threads.  Files are little-endian, and
 * so must be the machine.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRAINER_H
#define TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"

/* ----------------------------------------------------------------
 *		Tools (tools.c)
 * ----------------------------------------------------------------
 */

/* Print "trainer: message" to stderr and exit(1). */
void		tr_fail(const char *fmt,...) __attribute__((format(printf, 1, 2), noreturn));
void	   *tr_alloc(size_t size);	/* zero-filled, 64-byte aligned, free() it; or exit */
/* The whole file, with a NUL behind; free() it; or exit. */
char	   *tr_read_file(const char *path, size_t *size);
double		tr_seconds(void);	/* of a monotonic clock */

/* SplitMix64 (Steele et al. 2014): the only source of randomness. */
typedef struct TrRandom
{
	uint64_t	state;
} TrRandom;

uint64_t	tr_random(TrRandom *random);
double		tr_uniform(TrRandom *random);	/* in [0, 1) */
double		tr_normal(TrRandom *random);	/* mean 0, variance 1 (Box-Muller) */

/* ----------------------------------------------------------------
 *		Vocabulary (bpe_learn.c, vocab.c)
 *
 * Ids 0..255 are the bytes in the order of GPT-2's byte-to-unicode alphabet,
 * then the merges in rank order, then the TR_N_SPECIALS control tokens: those
 * that Llama 3 files have by their names, filled up with reserved ones.
 * ----------------------------------------------------------------
 */

#define TR_N_SPECIALS	16

typedef struct TrVocab
{
	int			n_tokens;		/* at most 65536 */
	int			n_merges;		/* n_tokens - 256 - TR_N_SPECIALS */
	char	  **tokens;			/* in GPT-2's alphabet; control tokens plain */
	char	  **merge_left;		/* (n_merges) same alphabet */
	char	  **merge_right;
	int			bos;			/* <|begin_of_text|> */
	int			eos;			/* <|end_of_text|> */
	int			eot;			/* <|eot_id|> */
	int			eom;			/* <|eom_id|> */
} TrVocab;

/* Llama 3's message form as a chat template, one that src/engine knows as "llama 3". */
extern const char tr_chat_template[];

/*
 * Learn a vocabulary of n_tokens from a documents file and write it: a text
 * file, one merge "left right" a line, in rank order.  Pre-tokens are those
 * of Llama 3 (pretokenize.h); ties go to the pair that is smaller by ids.
 */
void		tr_vocab_learn(const char *documents, int n_tokens, const char *out);
TrVocab    *tr_vocab_read(const char *path);
void		tr_vocab_free(TrVocab *vocab);
/* The engine's tokenizer for it; free() it. */
L3Tokenizer *tr_vocab_tokenizer(const TrVocab *vocab);

/* ----------------------------------------------------------------
 *		Corpus (documents.c, corpus.c)
 *
 * A documents file has one document a line, fields separated by tabs:
 * first the group, an integer (-1: none); then one or more pairs of weight
 * (a decimal number from 0 to 15) and text.  In texts \t, \n and \\ stand for
 * tab, newline and backslash.  Names of control tokens are control tokens.
 * Each text is encoded by itself: fields may meet only at a control token or
 * where a prompt ends and its answer begins.  Every line ends in a newline.
 * The weight counts in the loss of predicting the text's tokens.
 *
 * Documents of one group (>= 0) mean alike: the pooled hidden states of
 * their tokens are drawn together by a contrastive loss.
 * ----------------------------------------------------------------
 */

typedef struct TrDocument
{
	int32_t		group;			/* -1: none */
	int32_t		n_tokens;
	int32_t		n_pooled;		/* tokens before the trailing control tokens:
								 * what llama_embed would see of the text */
	const uint16_t *ids;		/* (n_tokens) */
	const float *weights;		/* (n_tokens) of predicting this token from those
								 * before it; [0] is 0 */
} TrDocument;

typedef struct TrCorpus
{
	int			n_documents;
	int64_t		n_tokens;		/* in all */
	TrDocument *documents;
	uint16_t   *ids;
	float	   *weights;
} TrCorpus;

/* Encode a documents file; documents longer than max_tokens are cut. */
TrCorpus   *tr_corpus_read(const char *documents, const L3Tokenizer *tok, int max_tokens);
void		tr_corpus_free(TrCorpus *corpus);

/* ----------------------------------------------------------------
 *		Model (model.c, transformer.c, attention.c, contrastive.c)
 * ----------------------------------------------------------------
 */

typedef struct TrConfig
{
	int			n_layers;
	int			n_embd;
	int			n_heads;
	int			n_kv_heads;		/* divides n_heads */
	int			head_dim;		/* n_heads * head_dim may differ from n_embd */
	int			n_ff;
	int			n_vocab;
	int			n_ctx;			/* longest document */
	float		rope_theta;		/* 500000 */
	float		rms_eps;		/* 1e-5 */
} TrConfig;

/*
 * The parameters are one array, so that the optimizer, the checkpoint and the
 * sum of gradients are loops over it.  Matrices are (n_out, n_in), row-major,
 * as in GGUF files; query and key rows are in GGUF's order (RoPE turns
 * neighbours 2i, 2i + 1).
 */
typedef struct TrTensor
{
	char		name[48];		/* in GGUF: "blk.0.attn_q.weight" */
	int			n_out;			/* 1 for norms */
	int			n_in;
	size_t		offset;			/* into the parameters */
} TrTensor;

typedef struct TrModel
{
	TrConfig	config;
	int			n_tensors;
	TrTensor   *tensors;		/* token_embd, output_norm, then layer by layer */
	size_t		n_params;
	float	   *params;			/* (n_params) */
} TrModel;

TrModel    *tr_model_create(const TrConfig *config);
void		tr_model_init(TrModel *model, uint64_t seed);
void		tr_model_free(TrModel *model);

/* Documents that are computed together; each attends to itself only. */
typedef struct TrBatch
{
	int			n_documents;
	const TrDocument *const *documents;
} TrBatch;

typedef struct TrLoss
{
	double		token_loss;		/* sum of weight * -log P(token), nats */
	double		token_weight;	/* sum of weights */
	double		group_loss;		/* sum over anchors of the contrastive loss */
	int			n_anchors;		/* pooled documents with another of their group */
} TrLoss;

/* Buffers of one thread for batches of up to max_tokens and max_documents. */
typedef struct TrWorkspace TrWorkspace;

TrWorkspace *tr_workspace_create(const TrModel *model, int max_tokens, int max_documents);
void		tr_workspace_free(TrWorkspace *ws);

/*
 * Forward, and with gradients != NULL also backward: adds to gradients
 * (n_params) those of
 *		token_scale * loss.token_loss + group_scale * loss.group_loss.
 * The caller chooses the scales, so that a step's batches sum to a mean.
 * Uses the calling thread only.
 *
 * The contrastive loss is the supervised one (Khosla et al. 2020) over the
 * batch's documents with a group >= 0: unit-length means of the final normed
 * hidden states over their n_pooled tokens, which is what llama_embed gives;
 * temperature TR_TEMPERATURE.
 */
#define TR_TEMPERATURE	0.07f
void		tr_model_run(const TrModel *model, TrWorkspace *ws, const TrBatch *batch,
						 float token_scale, float group_scale,
						 float *gradients, TrLoss *loss);

/* ----------------------------------------------------------------
 *		Training (adamw.c, lanes.c, checkpoint.c, report.c, train.c)
 * ----------------------------------------------------------------
 */

typedef struct TrTrainOptions
{
	int			steps;			/* of the schedule */
	int			stop;			/* step to end at, for a second course from there; 0: steps */
	int			lanes;			/* batches a step; each has its own gradients, which
								 * are summed in order: the result does not depend on
								 * the threads */
	int			lane_tokens;	/* tokens a batch, at most */
	int			threads;
	double		lr;				/* peak; cosine to lr * lr_floor after warmup */
	double		lr_floor;
	int			warmup;			/* steps, linear */
	double		weight_decay;	/* of matrices, not of norms (decoupled) */
	double		beta1,
				beta2,
				epsilon;
	double		clip;			/* largest norm of a step's gradient */
	double		group_weight;	/* of the mean contrastive loss */
	uint64_t	seed;
	const char *checkpoint;		/* file; resumed from when it is there */
	int			checkpoint_every;	/* steps */
	int			valid_every;	/* steps */
	const char *log;			/* TSV: step, tokens, lr, loss, group loss, gradient norm,
								 * tokens/s, validation loss, validation group loss */
} TrTrainOptions;

/* The rate of a step, counted from 0: linear to lr, then a cosine to the floor. */
double		tr_learning_rate(const TrTrainOptions *options, int step);
/* What to multiply a gradient of this norm with, so that it is at most clip. */
double		tr_clip_factor(double norm, double clip);
/*
 * AdamW (Loshchilov and Hutter 2019) on n parameters: step counts from 1; the
 * gradient is multiplied with factor first; mean and square are the moving
 * averages of the gradient and its square.
 */
void		tr_adamw(const TrTrainOptions *options, int64_t step, double lr, double factor,
					 double weight_decay, float *params, float *mean, float *square,
					 const float *gradient, size_t n);

/*
 * Train model on train; progress goes to stdout a line at a time.  Validation
 * is on the documents of valid that hold its first 100,000 tokens; valid may
 * be NULL.
 */
void		tr_train(TrModel *model, const TrCorpus *train, const TrCorpus *valid,
					 const TrTrainOptions *options);
/* Read the parameters of a checkpoint (its config is in it). */
TrModel    *tr_checkpoint_model(const char *path);

/* ----------------------------------------------------------------
 *		Export (export.c)
 * ----------------------------------------------------------------
 */

/*
 * Write a GGUF v3 file: architecture llama, tied embeddings, matrices in Q8_0
 * (or F32), norms in F32; tokenizer "llama-bpe" with the control tokens and
 * the chat template.  name, description and license become general.*.
 */
void		tr_export(const TrModel *model, const TrVocab *vocab, bool q8_0,
					  const char *name, const char *description, const char *license,
					  const char *path);

#endif							/* TRAINER_H */
