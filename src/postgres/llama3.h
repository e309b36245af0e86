/*-------------------------------------------------------------------------
 *
 * llama3.h
 *	  Private header of the extension: settings, shared memory, the request
 *	  queue and what its two sides may call.
 *
 * Shared memory holds three things, set up by the postmaster (shmem.c):
 *	- the model registry: which models are loaded, in which segments;
 *	- the slots: one per request in flight;
 *	- a DSA area for the requests' payloads (prompts, answers).
 *
 * A slot's payload has exactly one owner at any time, given by its state:
 *
 *	LLAMA_SLOT_FREE		nobody; the payload is invalid
 *	LLAMA_SLOT_FILLING	the backend that took it
 *	LLAMA_SLOT_QUEUED	the queue: under queue_lock a worker may take it (->
 *						RUNNING) or its backend may withdraw it (-> FILLING)
 *	LLAMA_SLOT_RUNNING	the worker.  The backend only reads the published
 *						counters and may set "abandoned"; then the worker frees
 *						payload and slot.  A worker that exits puts its running
 *						slots back to QUEUED: answers are pure functions, so
 *						another worker gives the same one
 *
 * When the answer is there the worker marks the payload done, which makes it the
 * backend's alone, and frees the slot: a backend may leave answers unread for
 * hours (a cursor, a client that does not read), and slots are everybody's.
 * So a backend looks at its slot only while its payload is not done.
 *
 * Lock order: registry_lock, then queue_lock.  No lock is held while waiting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_H
#define LLAMA3_H

#include "postgres.h"

#include "fmgr.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

#include "compat.h"
#include "engine.h"

/* ----------------------------------------------------------------
 *		settings.c
 * ----------------------------------------------------------------
 */

typedef enum LlamaOnError
{
	LLAMA_ON_ERROR_RAISE = 0,	/* llama3.on_error = 'error' */
	LLAMA_ON_ERROR_NULL
} LlamaOnError;

#define LLAMA_MAX_WORKERS		16
#define LLAMA_MAX_MODELS		16
#define LLAMA_MAX_LABELS		1000
#define LLAMA_MAX_STOPS			16

extern char *llama3_models;			/* "name=path, path, ..." */
extern char *llama3_default_model;
extern char *llama3_model_directory;
extern char *llama3_weights_cache;
extern char *llama3_cpu_features;
extern int	llama3_threads;			/* 0: one per CPU */
extern int	llama3_workers;
extern int	llama3_job_rows_per_second; /* 0: no limit */
extern int	llama3_max_jobs;
extern int	llama3_kv_cache_size;	/* MB, each worker */
extern int	llama3_kv_cache_type;	/* L3KvType */
extern bool llama3_prefix_cache;
extern int	llama3_queue_size;		/* slots */
extern int	llama3_batch_tokens;
extern int	llama3_max_sequences;
extern int	llama3_context_limit;	/* tokens; 0: the model's own */
extern int	llama3_max_tokens;
extern bool llama3_enable_batching;
extern bool llama3_enable_prompt_lookup;
extern bool llama3_enable_result_cache;
extern int	llama3_result_cache_size;	/* MB */
extern double llama3_filter_selectivity;	/* -1: as counted */
extern bool llama3_numa;
extern int	llama3_on_error;		/* LlamaOnError */

extern void llama_settings_init(void);
/* The first worker's engine options as the settings give them (no poll callback). */
extern PGDLLEXPORT void llama_engine_options(L3EngineOptions *options);

/* ----------------------------------------------------------------
 *		errors.c
 * ----------------------------------------------------------------
 */

/*
 * Raise what the engine reported: 22023 ARG, the errno's code IO, XX001
 * FORMAT, 0A000 UNSUPPORTED, 53200 MEMORY, 54000 LIMIT, 57014 CANCELLED.
 */
extern PGDLLEXPORT void llama_raise(const L3Error *err) pg_attribute_noreturn();
/* The same at another level (LOG, WARNING), and back. */
extern PGDLLEXPORT void llama_report(int elevel, const L3Error *err);

/* Raise 55000 with its hint unless llama3 is in shared_preload_libraries. */
extern void llama_require_preload(void);

/* ----------------------------------------------------------------
 *		models.c: the registry, seen from a backend
 * ----------------------------------------------------------------
 */

/*
 * A loaded model as a backend uses it.  Valid until the end of the
 * transaction (the tokenizer stays mapped so long).
 */
typedef struct LlamaModel
{
	int			index;			/* in the registry */
	uint64		generation;		/* differs for every load */
	char		name[NAMEDATALEN];
	L3Hparams	hparams;
	int			max_context;	/* tokens of a sequence, after context_limit */
	uint8		checksum[16];
	const L3Tokenizer *tok;
	bool		pinned;			/* no setting decides what becomes of a row */
} LlamaModel;

/*
 * Find a loaded model and attach its tokenizer.  name NULL or empty:
 * llama3.default_model, and if that is empty the one that was loaded first,
 * the demonstration model only if there is no other, nor one on its way.
 * While the model or the server's model list is still being loaded this
 * waits, interruptibly.
 *
 * Raises 55000 when llama3 is not preloaded or no model is loaded, 42704 for
 * an unknown name.
 */
extern const LlamaModel *llama_model_get(const char *name);

/*
 * Find a loaded model by a pin, name@checksum or @checksum, and attach its
 * tokenizer.  The checksum is 16 to 32 hexadecimal digits, the first ones that
 * the view llama_models shows.  Waits like llama_model_get.
 *
 * Raises 22023 when it is no pin, 42704 when no such model is loaded, and 55000
 * when the model of that name is another one.
 */
extern const LlamaModel *llama_model_get_pinned(const char *pin);

/* The pin of a model. */
extern char *llama_pin_text(const LlamaModel *model);

/* ----------------------------------------------------------------
 *		client.c: a backend's requests
 * ----------------------------------------------------------------
 */

/* What llama_stat_requests calls a request. */
typedef enum LlamaFunction
{
	LLAMA_FN_GENERATE = 0,
	LLAMA_FN_CHAT,
	LLAMA_FN_COMPLETE,
	LLAMA_FN_GENERATE_STREAM,
	LLAMA_FN_CLASSIFY,
	LLAMA_FN_FILTER,
	LLAMA_FN_EMBED,
	LLAMA_FN_SIMILARITY,
	LLAMA_FN_LOGPROBS,
	LLAMA_FN_CLASSIFY_MULTI,
	LLAMA_FN_SCORE,
	LLAMA_FN_RANK,
	LLAMA_FN_SENTIMENT,
	LLAMA_FN_SUMMARIZE,
	LLAMA_FN_TRANSLATE,
	LLAMA_FN_REDACT,
	LLAMA_FN_FIX_GRAMMAR,
	LLAMA_FN_AGG,
	LLAMA_FN_SUMMARIZE_AGG,
	LLAMA_FN_EXTRACT,
	LLAMA_N_FUNCTIONS
} LlamaFunction;

typedef struct LlamaRequest LlamaRequest;

/*
 * Copy a request (inputs only; its out_ pointers are ignored) into the queue
 * and return at once, or wait, interruptibly, while the queue is full.
 * request->salt is set here.  The request belongs to CurrentResourceOwner: an
 * error, a cancel, the end of a subtransaction or of the backend gives it up.
 *
 * Raises 54000 when the request is longer than the model's context, 53200
 * when there is no memory for the payload.
 */
extern LlamaRequest *llama_submit(const LlamaModel *model, LlamaFunction function,
								  const L3Request *request);

/*
 * Wait, interruptibly, until the request is done or more than n_bytes_seen
 * bytes of its answer are final.  True when done.  Pass PG_INT64_MAX to wait
 * for the end.  Raises what the engine reported, and 57P03 when no engine
 * worker comes to life.
 */
extern bool llama_wait(LlamaRequest *request, int64 n_bytes_seen);

/* Is it done, so that llama_wait would return at once? */
extern bool llama_is_done(const LlamaRequest *request);

/* Is the request to a pinned model? */
extern bool llama_is_pinned(const LlamaRequest *request);

/*
 * The published state (a snapshot taken by llama_wait), and the outputs, NULL
 * where the kind has none.  Ask again after each llama_wait: the outputs move
 * when the request is done.  Tokens up to llama_result()->n_out are final.
 */
extern const L3Result *llama_result(LlamaRequest *request);
extern const int32 *llama_out_tokens(LlamaRequest *request);
extern const double *llama_out_logprobs(LlamaRequest *request);
extern const float *llama_out_embedding(LlamaRequest *request);

/* Give the request up: cancels it when it still runs.  Frees the object. */
extern void llama_release(LlamaRequest *request);

/*
 * Set *holder to NULL when the request is released, by whomever.  For who keeps
 * requests in memory that may outlive their resource owner, or not.
 */
extern void llama_set_holder(LlamaRequest *request, LlamaRequest **holder);

#endif							/* LLAMA3_H */
