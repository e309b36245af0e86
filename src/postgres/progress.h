/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  What a running statement has done so far, for others to see.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_PROGRESS_H
#define LLAMA3_PROGRESS_H

#include "postgres.h"

/* What batch nodes count. */
typedef enum LlamaCount
{
	LLAMA_ROWS_BEGUN = 0,		/* rows whose calls were begun */
	LLAMA_ROWS_DONE,			/* rows whose calls were finished */
	LLAMA_ROWS_FAILED,			/* of these, rows with a NULL that llama3.on_error gave */
	LLAMA_CALLS_MADE,
	LLAMA_CALLS_REUSED,			/* calls equal to one in flight */
	LLAMA_CALLS_CACHED,			/* calls that the result cache answered */
	LLAMA_BATCHES,				/* times that answers had to be waited for */
	LLAMA_PROMPT_TOKENS,
	LLAMA_CACHED_TOKENS,		/* of those, found computed */
	LLAMA_GENERATED_TOKENS,
	LLAMA_WAIT_USEC,			/* time waited for answers */
	LLAMA_N_COUNTS
} LlamaCount;

typedef struct LlamaProgress LlamaProgress;

/* For shmem.c: room for one entry for each backend, and its first contents. */
extern Size llama_progress_size(void);
extern void llama_progress_init(LlamaProgress *entries);

/*
 * A batch node of the statement whose executor state is in query begins, and
 * expects to read that many rows (negative: unknown).  The statement gets this
 * backend's entry, until query goes, unless another statement has it or this is
 * a parallel worker.  Has it the entry now, so that its rows are to be counted?
 */
extern bool llama_progress_begin(MemoryContext query, double rows);

/* Count for the backend's statement, or for the leader's in a parallel worker. */
extern void llama_progress_add(LlamaCount what, int64 n);

#endif							/* LLAMA3_PROGRESS_H */
