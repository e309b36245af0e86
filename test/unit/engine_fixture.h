/*-------------------------------------------------------------------------
 *
 * engine_fixture.h
 *	  A small random model in memory, and helpers to run requests on it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include "arena.h"

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

#endif							/* ENGINE_FIXTURE_H */
