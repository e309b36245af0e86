/*-------------------------------------------------------------------------
 *
 * result_cache.h
 *	  Answers that were computed before, for all backends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_RESULT_CACHE_H
#define LLAMA3_RESULT_CACHE_H

#include "digest.h"
#include "llama3.h"
#include "utils/timestamp.h"

#define LLAMA_RESULT_CACHE_SIZE_MIN		0	/* MB; 0: none */
/* A partition's places are offsets of 32 bits. */
#define LLAMA_RESULT_CACHE_SIZE_MAX		16384
/* 280,000 decisions, 60,000 texts of 200 bytes, or 1,900 embeddings of 2,048 numbers. */
#define LLAMA_RESULT_CACHE_SIZE_DEFAULT	16

/* Shared memory: how much, what is asked of the server, and setting it up. */
extern Size llama_result_cache_bytes(void);
extern void llama_result_cache_request(void);	/* in shmem_request_hook */
extern void llama_result_cache_startup(void);	/* under AddinShmemInitLock */

/* Is there a cache, and does this session use it? */
extern bool llama_result_cache_enabled(void);

/* The key of a question's answer by a model, in this database. */
extern void llama_result_cache_key(const LlamaModel *model, const LlamaDigest *question,
								   LlamaDigest *key);

/*
 * Get a copy of an answer, in CurrentMemoryContext; false when there is none.
 * Put one, which may throw out others; it is not kept when it is large.
 */
extern bool llama_result_cache_get(const LlamaDigest *key, LlamaValueType type, Datum *answer);
extern void llama_result_cache_put(const LlamaDigest *key, LlamaValueType type, Datum answer);

/* Throw out all. */
extern void llama_result_cache_clear(void);

typedef struct LlamaResultCacheStat
{
	uint64		size;			/* bytes for answers and what goes with them */
	uint64		used;			/* bytes */
	uint64		n_entries;
	uint64		n_hits;
	uint64		n_misses;
	uint64		n_stored;
	uint64		n_too_large;	/* not kept */
	uint64		n_evicted;		/* thrown out for others */
} LlamaResultCacheStat;

/* All zeros where there is no cache. */
extern void llama_result_cache_stat(LlamaResultCacheStat *stat);

#endif							/* LLAMA3_RESULT_CACHE_H */
