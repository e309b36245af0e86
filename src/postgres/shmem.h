/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory of llama3: the model registry, the request slots and the
 *	  workers' entries.  Private to src/postgres.
 *
 * Who protects what is said at each field:
 *	[R]	registry_lock		[Q]	queue_lock		[J]	jobs_lock		[A]	atomic
 *	[W]	written by the process that the entry stands for alone; others may
 *		read a stale value
 *	[C]	constant after the postmaster has set it up
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_SHMEM_H
#define LLAMA3_SHMEM_H

#include "llama3.h"

#include "lib/ilist.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "utils/timestamp.h"

#include "cost.h"

/* ----------------------------------------------------------------
 *		Models
 * ----------------------------------------------------------------
 */

typedef enum LlamaModelState
{
	LLAMA_MODEL_FREE = 0,
	LLAMA_MODEL_LOADING,		/* by loader_pid; contents invalid */
	LLAMA_MODEL_READY,
	LLAMA_MODEL_UNLOADING,		/* no new pins */
	LLAMA_MODEL_FAILED			/* of the server's list: name, path, error */
} LlamaModelState;

typedef struct LlamaModelEntry
{
	LlamaModelState state;		/* [R] */
	uint64		generation;		/* [R] differs for every load */
	char		name[NAMEDATALEN];	/* [R] */
	char		path[MAXPGPATH];	/* [R] source, absolute */
	int			loader_pid;		/* [R] while LOADING */

	/* [R]; unchanging from READY until FREE */
	char		cache_file[MAXPGPATH];	/* weights are this file; "": DSM */
	dsm_handle	weights;		/* pinned segment, when cache_file is "" */
	dsm_handle	tokenizer;		/* pinned segment */
	uint64		weights_size;
	uint64		tokenizer_size;
	L3Hparams	hparams;
	uint8		checksum[16];
	L3ChatForm	chat_form;
	bool		has_template;	/* known to us or not */
	bool		demonstration;	/* the demonstration model, by whatever name */
	uint64		n_params;
	char		packed_types[128];
	double		load_seconds;
	TimestampTz loaded_at;

	char		error[sizeof(((L3Error *) NULL)->message)];	/* [R] FAILED */
	char		detail[sizeof(((L3Error *) NULL)->detail)]; /* [R] FAILED */
	char		hint[sizeof(((L3Error *) NULL)->hint)]; /* [R] FAILED */

	pg_atomic_uint64 progress_done; /* [A] bytes while LOADING */
	pg_atomic_uint64 progress_total;
	/*
	 * [A] Requests that use the model.  Taken under registry_lock (shared)
	 * while READY, so that none can appear once the state is UNLOADING.
	 */
	pg_atomic_uint32 pins;
	pg_atomic_uint32 attached;	/* [A] bit i: worker i has it mapped */
} LlamaModelEntry;

/* ----------------------------------------------------------------
 *		Requests
 * ----------------------------------------------------------------
 */

typedef enum LlamaSlotState
{
	LLAMA_SLOT_FREE = 0,
	LLAMA_SLOT_FILLING,
	LLAMA_SLOT_QUEUED,
	LLAMA_SLOT_RUNNING
} LlamaSlotState;

#define LLAMA_N_SLOT_STATES		4

typedef struct LlamaSlot
{
	dlist_node	node;			/* [Q] in free_slots when FREE, queue when QUEUED */
	pg_atomic_uint32 state;		/* [A] LlamaSlotState; changed under queue_lock */
	pg_atomic_uint32 abandoned; /* [A] set under queue_lock while RUNNING */

	/* Set by the backend while FILLING, constant afterwards. */
	int			pid;
	int			proc_number;	/* whose latch to set */
	int			fair_number;	/* whose turn it takes: the leader of a parallel group */
	Oid			database;
	Oid			role;
	LlamaFunction function;
	bool		shareable;		/* an equal request's answer will do */
	int			model;			/* index in models, pinned if generation != 0 */
	uint64		generation;
	int32		n_tokens;
	dsa_pointer payload;
	TimestampTz submitted;

	int			worker;			/* [Q] while RUNNING */
	int			attempts;		/* [Q] workers that left while they had it */
	TimestampTz started;		/* [Q] first taken; 0: not yet */

	/*
	 * [A] Published by the worker while RUNNING.  They never fall: a request
	 * that is computed again gives the same bytes.
	 */
	pg_atomic_uint64 n_bytes;
	pg_atomic_uint32 n_out;
	pg_atomic_uint32 n_prompt_done;
	pg_atomic_uint32 n_cached;
} LlamaSlot;

/*
 * What a slot's payload points to: one allocation with the request's fields,
 * its inputs and the room for its outputs.  Places are offsets from the
 * start, 0 where the kind has none.
 */
typedef struct LlamaPayload
{
	Size		size;
	L3Request	request;		/* its pointers mean nothing here */
	/*
	 * [A] Set once, under queue_lock, when the result is complete: the payload
	 * is the backend's then, and the slot has gone to somebody else.
	 */
	pg_atomic_uint32 done;
	/* [A] The backend sleeps until n_bytes is more than this, or done. */
	pg_atomic_uint64 wanted_bytes;
	L3Result	result;
	int32		n_embd;
	Size		tokens;
	Size		stop;
	Size		stop_len;
	Size		grammar;
	Size		label_tokens;
	Size		label_end;
	Size		out_tokens;
	Size		out_logprobs;
	Size		out_embedding;
} LlamaPayload;

/* Per process that may ask, indexed by process number. */
typedef struct LlamaBackend
{
	dlist_node	node;			/* [Q] in waiters */
	bool		waiting;		/* [Q] for a free slot */
	uint64		last_served;	/* [Q] ticket of the last request taken */
} LlamaBackend;

/* ----------------------------------------------------------------
 *		Workers
 * ----------------------------------------------------------------
 */

typedef struct LlamaWorker
{
	int			pid;			/* [Q] 0: not alive */
	int			proc_number;	/* [Q] */
	int			starts;			/* [Q] since the server's start */
	TimestampTz started_at;		/* [Q] */
	char		cpu[32];		/* [Q] instruction sets in use */
	int			threads;		/* [Q] */

	/* [W] counters since the server's start, across restarts */
	pg_atomic_uint64 n_steps;
	pg_atomic_uint64 n_prefill;
	pg_atomic_uint64 n_decode;
	pg_atomic_uint64 n_cached;
	pg_atomic_uint64 n_drafted;
	pg_atomic_uint64 n_accepted;
	pg_atomic_uint64 busy_usec;
	pg_atomic_uint64 prefill_usec;	/* of those */
	/* [W] now */
	pg_atomic_uint64 kv_used;
	pg_atomic_uint64 kv_cached;
	pg_atomic_uint64 kv_limit;
	pg_atomic_uint32 n_running;
} LlamaWorker;

/* ----------------------------------------------------------------
 *		Jobs over tables
 * ----------------------------------------------------------------
 */

#define LLAMA_MAX_JOBS			64

/* A process that does a job. */
typedef struct LlamaJobSlot
{
	int			pid;			/* [J] 0: nobody */
	int64		job;			/* [J] llama_jobs.id in database */
	Oid			database;		/* [J] */
	Oid			role;			/* [J] whose job it is */
	bool		background;		/* [J] a worker does it */
} LlamaJobSlot;

/* A worker that the launcher is to start. */
typedef struct LlamaJobStart
{
	int64		job;
	Oid			role;
} LlamaJobStart;

#define LLAMA_MAX_JOB_DATABASES	64

/* A database in which the launcher is to look for jobs. */
typedef struct LlamaJobDatabase
{
	Oid			database;		/* [J] InvalidOid: the entry is free */
	TimestampTz due;			/* [J] when to look */
	bool		waiting;		/* [J] for another job to end */
} LlamaJobDatabase;

/* The process that fills the columns of a database, or is wanted to. */
typedef struct LlamaSyncWorker
{
	Oid			database;		/* [J] InvalidOid: the entry is free */
	int			pid;			/* [J] 0: not alive */
	int			proc_number;	/* [J] */
	bool		changed;		/* [J] there are changes since it looked */
	TimestampTz asked;			/* [J] when it was asked for; 0: answered */
	TimestampTz scanned;		/* [J] when a scan last looked whether it is wanted */
	Oid			registry;		/* [J] a scan wants one to be started for it */
} LlamaSyncWorker;

typedef struct LlamaShared
{
	LWLock	   *registry_lock;	/* [C] */
	LWLock	   *queue_lock;		/* [C] */
	LWLock	   *jobs_lock;		/* [C] */
	uint8		secret[32];		/* [C] what salts are made of */
	TimestampTz started_at;		/* [C] */
	int			n_slots;		/* [C] */
	int			n_backends;		/* [C] */
	int			n_workers;		/* [C] */

	/* [A] requests by outcome */
	pg_atomic_uint64 n_done;
	pg_atomic_uint64 n_failed;
	pg_atomic_uint64 n_cancelled;
	pg_atomic_uint64 payload_bytes; /* [A] allocated now */

	LlamaFilterShare filter_shares[LLAMA_MAX_SHARES];	/* [A] see cost.c */

	/* The registry.  The variable tells of every change of state. */
	uint64		last_generation;	/* [R] */
	bool		list_loaded;	/* [R] llama3.models was gone through once */
	int			loader_pid;		/* [R] the server's loader; 0: not alive */
	TimestampTz loader_seen;	/* [R] when it was last alive */
	ConditionVariable registry_changed;
	LlamaModelEntry models[LLAMA_MAX_MODELS];

	/* The queue. */
	dlist_head	free_slots;		/* [Q] */
	dlist_head	queue;			/* [Q] QUEUED, oldest first */
	dlist_head	waiters;		/* [Q] backends that wait for a slot, in turn */
	uint64		last_ticket;	/* [Q] */
	TimestampTz workers_seen;	/* [Q] when a worker was last alive */
	char		worker_error[256];	/* [Q] why the last one failed to start */
	LlamaWorker workers[LLAMA_MAX_WORKERS];

	LlamaJobSlot jobs[LLAMA_MAX_JOBS];
	LlamaJobDatabase job_databases[LLAMA_MAX_JOB_DATABASES];
	LlamaSyncWorker sync_workers[LLAMA_MAX_JOB_DATABASES];
	TimestampTz job_databases_due;	/* [J] when to look in all of them; 0: never */
	LlamaJobStart job_starts[LLAMA_MAX_JOBS];	/* [J] what the last scan found */
	int			n_job_starts;	/* [J] */
	bool		no_room_for_jobs;	/* [J] max_worker_processes is reached */
	int			launcher_pid;	/* [J] 0: not alive */
	int			launcher_proc_number;	/* [J] */

	LlamaBackend *backends;		/* [C] (n_backends) */
	struct LlamaProgress *progress; /* [C] (n_backends), see progress.c */
	LlamaSlot  *slots;			/* [C] (n_slots) */
	void	   *payloads;		/* [C] the DSA area's place */
} LlamaShared;

/* NULL in a process of a server that did not preload llama3. */
extern PGDLLEXPORT LlamaShared *llama_shared;

/* ----------------------------------------------------------------
 *		llama3.c
 * ----------------------------------------------------------------
 */

struct BackgroundWorker;

/*
 * A process with a database that runs a function of this library, once; type is
 * also its name.  Its arguments, and whom to notify, are the caller's to set.
 */
extern void llama_background_worker(struct BackgroundWorker *worker, const char *function,
									const char *type);

/* ----------------------------------------------------------------
 *		shmem.c
 * ----------------------------------------------------------------
 */

extern void llama_shmem_init(void); /* install the hooks */
/* The payloads' area, attached on first use and until the process exits. */
extern PGDLLEXPORT dsa_area *llama_payloads(void);

/* ----------------------------------------------------------------
 *		queue.c: the slots; queue_lock is taken inside unless said
 * ----------------------------------------------------------------
 */

/* Lay the request out; the payload's size, or 0 when it would be absurd. */
extern Size llama_payload_layout(const L3Request *request, int32 n_embd, LlamaPayload *payload);
/* The request with its pointers into the payload. */
extern PGDLLEXPORT void llama_payload_request(LlamaPayload *payload, L3Request *request);

/* Take a free slot (-> FILLING), waiting in turn. */
extern LlamaSlot *llama_slot_acquire(void);
/* Time that this process has waited for slots so far, in microseconds. */
extern int64 llama_slot_wait_usec;
/* Leave the line of waiters, at exit. */
extern void llama_slot_stop_waiting(void);
/* FILLING -> QUEUED, and wake the workers. */
extern void llama_slot_enqueue(LlamaSlot *slot);
/*
 * The backend gives its request up, in whatever state it is.  payload is what
 * slot->payload was, which may have parted from the slot.
 */
extern void llama_slot_release(LlamaSlot *slot, dsa_pointer payload);
/* Has the payload's request ended?  What was written before is seen then. */
extern bool llama_payload_done(dsa_pointer payload);
/* Free a payload that is done. */
extern void llama_payload_free(dsa_pointer payload);

/* Oldest queued slot of the backend that waits longest for its turn and for
 * which allowed() is true (NULL: none).  It stays QUEUED; hold queue_lock. */
extern PGDLLEXPORT LlamaSlot *llama_queue_next(bool (*allowed) (const LlamaSlot *slot, void *ctx),
											   void *ctx);
/* QUEUED -> RUNNING; hold queue_lock. */
extern PGDLLEXPORT void llama_slot_take(LlamaSlot *slot, int worker);
/*
 * RUNNING or QUEUED -> FREE: the payload with this result is the backend's now
 * (freed when abandoned).
 */
extern PGDLLEXPORT void llama_slot_finish(LlamaSlot *slot, const L3Result *result);
/*
 * RUNNING -> QUEUED, at the front (free when abandoned).  failed: the worker
 * did not survive it.
 */
extern PGDLLEXPORT void llama_slot_requeue(LlamaSlot *slot, bool failed);

extern PGDLLEXPORT void llama_wake_workers(void);
/* Raise 57P03 when no engine worker (or loader) has been alive for a while. */
extern void llama_require_workers(void);
extern void llama_require_loader(void);

/* ----------------------------------------------------------------
 *		models.c
 * ----------------------------------------------------------------
 */

/*
 * Like llama_model_get, but never waits and gives NULL when the model is not
 * ready.
 */
extern const LlamaModel *llama_model_lookup(const char *name);

/* Take and give a model's pin.  False when it is not READY in this generation. */
extern bool llama_model_pin(int index, uint64 generation);
extern void llama_model_unpin(int index);

/* ----------------------------------------------------------------
 *		client.c
 * ----------------------------------------------------------------
 */

/* Has this process a request in flight to the model? */
extern bool llama_uses_model(int index);
/* Tokens, of prompts and answers, of this process's requests so far. */
extern int64 llama_tokens_used;

/* ----------------------------------------------------------------
 *		load.c, manage.c, cache.c, host.c
 * ----------------------------------------------------------------
 */

/*
 * The demonstration model is installed with llama3 and loaded by a server that
 * is told of no other.  It is known by the name in its header: that is true of
 * the file wherever it lies and whatever it is loaded as, and of no other file
 * that somebody may keep in the directory; a checksum would have to follow
 * each training.  Who gives another model that name only makes it the default
 * of last resort.
 */
#define LLAMA_SHARE_DIRECTORY	"$sharedir/llama3"
#define LLAMA_DEMO_PATH			LLAMA_SHARE_DIRECTORY "/llama3-demo.gguf"
/* general.name, as demo/train/recipe gives it */
#define LLAMA_DEMO_NAME			"llama3 demonstration model"
#define LLAMA_DEMO_KNOWS		"descriptions of Debian packages and little else"

/*
 * Load a model from path (absolute) under name; the calling process does the
 * work.  Interruptible; on error nothing is left behind.
 */
extern void llama_load(const char *name, const char *path, L3Quantize quantize);

/* Entry of that name, or -1; hold registry_lock. */
extern int	llama_registry_find(const char *name);
/* Keep the reason why a model of the server's list is not there. */
extern void llama_registry_fail(const char *name, const char *path, const ErrorData *error);

/* Can it be a model's name? */
extern bool llama_valid_name(const char *name);
/* Raise 42602 unless name can be a model's; hint may be NULL. */
extern void llama_check_name(const char *name, const char *hint);
/* Name that a model without one gets, of its absolute path: the file's, without .gguf. */
extern char *llama_default_name(const char *path);
/* Is the absolute path, as written, in LLAMA_SHARE_DIRECTORY? */
extern bool llama_shipped_path(const char *path);
/* Raise 22023 unless it names a quantisation. */
extern L3Quantize llama_quantize(const char *name);
/* Path as given made absolute ($sharedir, llama3.model_directory); raises 22023. */
extern char *llama_absolute_path(const char *path);

/*
 * A packed arena kept as a file.  The file holds the arena, the tokenizer's
 * image and a trailer that says of what source.
 */
typedef struct LlamaCacheFile
{
	char		path[MAXPGPATH];
	int			fd;				/* -1: closed */
	bool		complete;		/* opened a finished file (else one to fill) */
	uint8	   *map;			/* whole file */
	uint64		map_size;
	uint64		weights_size;
	uint64		tokenizer_size;
	char		packed_types[128];
	char		general_name[128];
} LlamaCacheFile;

/* False and *err when llama3.weights_cache is no directory that we may write. */
extern bool llama_cache_usable(L3Error *err);
/* Find the finished file for this source; false when there is none. */
extern bool llama_cache_open(LlamaCacheFile *cache, const char *name, const char *source,
							 L3Quantize quantize);
/* Is there a file for this source? */
extern bool llama_cache_exists(const char *name, const char *source, L3Quantize quantize);
/* Make the file to fill; map is writable then. */
extern void llama_cache_create(LlamaCacheFile *cache, const char *name, const char *source,
							   L3Quantize quantize, uint64 weights_size,
							   uint64 tokenizer_size, const L3Plan *plan);
/* Filled: write it through and give it its name. */
extern void llama_cache_finish(LlamaCacheFile *cache);
/* Unmap, close, and remove it when it was not finished. */
extern void llama_cache_close(LlamaCacheFile *cache);
/* Where the tokenizer's image stands in the file. */
extern uint64 llama_cache_tokenizer_offset(uint64 weights_size);
/* Map a finished file's weights read-only (the engine worker does). */
extern PGDLLEXPORT const void *llama_cache_map(const char *path, uint64 weights_size,
														L3Error *err);

/*
 * nearby.c.  A path that is not there: add to *err what is there instead;
 * raise that for the errno of now, telling names of other files only when
 * may_see.
 */
extern void llama_suggest_path(const char *path, L3Error *err);
extern void llama_raise_path(const char *path, bool may_see) pg_attribute_noreturn();

/* What a load takes, in bytes. */
typedef struct LlamaNeed
{
	uint64		segments;		/* dynamic shared memory */
	uint64		file;			/* a new file in llama3.weights_cache */
	uint64		memory;			/* of the machine: segments, and what the
								 * workers need for the shortest request */
	bool		halves;			/* there are matrices of 16 bits */
} LlamaNeed;

/* As the settings are now.  cached: the file in llama3.weights_cache is there. */
extern LlamaNeed llama_load_need(const L3Plan *plan, bool cached);
/* False and *err (what is missing, what to do) when the host lacks that. */
extern bool llama_has_room(const char *name, const LlamaNeed *need, L3Error *err);

/* What the host has left for us, after control groups; bytes. */
extern uint64 llama_memory_free(void);
/* Free bytes of the file system that holds path; PG_UINT64_MAX when unknown. */
extern uint64 llama_disk_free(const char *path);
/* CPUs that this process may use, after affinity and control groups. */
extern int	llama_cpu_count(void);

#endif							/* LLAMA3_SHMEM_H */
