/*-------------------------------------------------------------------------
 *
 * engine_fixture.h
 *	  A small random model in memory, and helpers to run requests on it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include "sequence.h"

/* A shape with grouped heads, a ragged vocabulary and a partial rotation. */
L3Hparams	fixture_hparams(void);

/*
 * A random arena of this shape, its matrices in type (L3_F32, L3_BF16 or
 * L3_Q8_0).  The same seed gives the same bytes.  Free it with free.
 */
const L3Arena *fixture_arena(const L3Hparams *hp, L3PackedType type, uint64_t seed);

/*
 * A byte-level tokenizer of 256 bytes and the merges "ab" "cd" "abcd", then
 * the special tokens <|begin_of_text|>, <|end_of_text|> (stop) and <|eot_id|>
 * (stop).  Free it with free.
 */
#define FIXTURE_AB			256
#define FIXTURE_CD			257
#define FIXTURE_ABCD		258
#define FIXTURE_BOS			259
#define FIXTURE_EOS			260
#define FIXTURE_EOT			261
#define FIXTURE_N_TOKENS	262
const L3Tokenizer *fixture_tokenizer(void);

/* xorshift64* numbers for tests */
uint64_t	fixture_random(uint64_t *state);
/* n random token ids below n_vocab */
void		fixture_tokens(int32_t *tokens, int n, uint32_t n_vocab, uint64_t seed);

/* Options with 1 thread, 64 rows, 40 sequences, 64 MiB of KV in float. */
L3EngineOptions fixture_options(void);

/* Stop the test program with a message when status is not L3_OK. */
void		fixture_check(L3Status status, const L3Error *err);

/* ----------------------------------------------------------------
 *		Requests with room for their answers
 * ----------------------------------------------------------------
 */

#define FIXTURE_MAX_OUT		64
#define FIXTURE_MAX_PROMPT	512
#define FIXTURE_MAX_EMBD	128

typedef struct Job
{
	L3Request	request;
	int32_t		prompt[FIXTURE_MAX_PROMPT];
	int32_t		out_tokens[FIXTURE_MAX_OUT];
	double		out_logprobs[FIXTURE_MAX_PROMPT];
	float		out_embedding[FIXTURE_MAX_EMBD];
	L3Result	result;			/* of the last event */
	L3Sequence *sequence;
	bool		done;
	int			n_events;
} Job;

/* An engine with one model. */
typedef struct Rig
{
	L3EngineOptions options;
	L3Engine   *engine;
	L3Model    *model;
} Rig;

/*
 * tok may be NULL.  New KV blocks are filled with NaN, so that reading what was
 * not written shows; drafts are as long as those of large models.
 */
void		rig_open(Rig *rig, const L3Arena *arena, L3EngineOptions options,
					 const L3Tokenizer *tok);
void		rig_close(Rig *rig);
/* Submit; the job must be admissible. */
void		rig_submit(Rig *rig, Job *job);
/* Run jobs as fast as they are admitted, until all are done. */
void		rig_run(Rig *rig, Job *jobs, int n);
/* Is no KV block held or reserved, and no sequence running? */
bool		rig_idle(const Rig *rig);

/* n random tokens, the first n_common of which are the same in every job. */
void		job_prompt(Job *job, int n, int n_common, uint64_t seed);
void		job_generate(Job *job, int max_tokens, float temperature);
void		job_score(Job *job, const int32_t *tokens, const int32_t *end, int n);
void		job_embed(Job *job, L3Pooling pooling);
void		job_logprobs(Job *job, int first_scored);
/* Bit for bit the same answer. */
bool		job_same(const Job *a, const Job *b);

#endif							/* ENGINE_FIXTURE_H */
