/*-------------------------------------------------------------------------
 *
 * engine.h
 *	  The one public header of the llama3 inference engine.
 *
 * The engine is a plain C11 library: no PostgreSQL header, no globals that
 * outlive an object.  It is used in two places:
 *
 *	- in every backend (llama3.so): reading model files, building and using
 *	  tokenizers, chat forms, plans.  None of this starts a thread or needs
 *	  OpenBLAS;
 *	- in the engine worker (llama3_engine.so): the same, and L3Engine, which
 *	  runs the transformer.
 *
 * Ownership rules that hold everywhere:
 *	- a function that can fail returns L3Status and fills *err (never NULL);
 *	  on failure it has freed whatever it took;
 *	- an arena and a tokenizer are position-independent byte images in memory
 *	  that the caller owns (shared memory, a mapped file, malloc).  They hold
 *	  offsets, never pointers;
 *	- file contents and prompts are hostile: every length and offset is
 *	  checked before use.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_ENGINE_H
#define L3_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ----------------------------------------------------------------
 *		Errors
 * ----------------------------------------------------------------
 */

typedef enum L3Status
{
	L3_OK = 0,
	L3_ERR_ARG,					/* an argument is out of its range */
	L3_ERR_IO,					/* the operating system refused; errno kept */
	L3_ERR_FORMAT,				/* a damaged or inconsistent model file */
	L3_ERR_UNSUPPORTED,			/* a sound file that we do not support */
	L3_ERR_MEMORY,				/* not enough memory */
	L3_ERR_LIMIT,				/* a prompt over the context, and the like */
	L3_ERR_CANCELLED			/* a callback asked to stop */
} L3Status;

typedef struct L3Error
{
	L3Status	status;
	int			saved_errno;	/* with L3_ERR_IO, else 0 */
	char		message[512];	/* lower case, one line, no period */
	char		detail[512];	/* sentences: what was found and expected; or "" */
	char		hint[512];		/* a sentence: what to do; or "" */
} L3Error;

/*
 * Fill *err (printf style) and return status, so that a failing function can
 * end with "return l3_error(err, L3_ERR_FORMAT, ...)".  detail and hint are
 * cleared; l3_error_detail and l3_error_hint set them afterwards.
 */
L3Status	l3_error(L3Error *err, L3Status status, const char *fmt,...)
			__attribute__((format(printf, 3, 4)));
void		l3_error_detail(L3Error *err, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
void		l3_error_hint(L3Error *err, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));

/*
 * The error of a file or directory ("model", "file") that could not be opened,
 * from errno.  When permission was denied: to whom, and by which directory.
 */
L3Status	l3_could_not_open(const char *what, const char *path, L3Error *err);

/*
 * Is the entry of a directory, by its name or by a config.json in it, a model
 * that one may mean to load?  Parts of a GGUF but the first are not.
 */
bool		l3_looks_like_model(const char *directory, const char *name);

/*
 * Called often during long work (loading) with the bytes done and in total.
 * Returning true stops the work with L3_ERR_CANCELLED.
 */
typedef bool (*L3ProgressFn) (void *ctx, uint64_t done, uint64_t total);

/* ----------------------------------------------------------------
 *		Models: hyperparameters and the arena
 * ----------------------------------------------------------------
 */

/* Bounds against absurd files; every Llama 3 shape is far below. */
#define L3_MAX_LAYERS		1024
#define L3_MAX_EMBD			65536
#define L3_MAX_FF			262144
#define L3_MAX_HEADS		1024
#define L3_MAX_HEAD_DIM		512
#define L3_MAX_VOCAB		1048576
#define L3_MAX_CONTEXT		1048576

typedef struct L3Hparams
{
	uint32_t	n_layers;
	uint32_t	n_embd;			/* model width, d */
	uint32_t	n_heads;		/* query heads */
	uint32_t	n_kv_heads;		/* divides n_heads */
	uint32_t	head_dim;		/* width of a query and a key head, even */
	uint32_t	value_dim;		/* width of a value head; mostly head_dim */
	uint32_t	rope_dim;		/* even, <= head_dim: leading part that rotates */
	uint32_t	n_ff;			/* width of the SwiGLU hidden layer */
	uint32_t	n_vocab;		/* rows of the embedding; >= tokens */
	uint32_t	n_ctx_train;	/* context length that the file states */
	uint32_t	tied;			/* 1: output projection is the embedding */
	float		rms_eps;
	double		rope_theta;
} L3Hparams;

/*
 * Types of a packed matrix in the arena.  A matrix with N outputs and K
 * inputs is stored in ceil(N / 16) panels of 16 output columns, each panel
 * K deep, padded with zero columns; arena.h gives the byte layouts.
 */
typedef enum L3PackedType
{
	L3_F32 = 0,
	L3_F16,
	L3_BF16,
	L3_Q8_0,					/* 32: f16 d; int8.  Also Q5_0, IQ4_NL widened */
	L3_Q4_0,					/* 32: f16 d; 4 bit */
	L3_Q8_1,					/* 32: f16 d, m; uint8.  Q4_1, Q5_1 widened */
	L3_Q4_K,					/* 256: as the file's Q4_K */
	L3_Q6_K,					/* 256: as the file's Q6_K; Q3_K widened */
	L3_Q8_K,					/* 256: Q2_K, Q5_K, IQ4_XS widened; see arena.h */
	L3_N_PACKED_TYPES
} L3PackedType;

const char *l3_packed_type_name(L3PackedType type);

typedef struct L3Arena L3Arena; /* opaque image, starts with its header */

/*
 * Check that the size bytes at mem are an arena of this version whose header,
 * tensor table and every offset are sound; returns it, or NULL with *err set.
 * The weights themselves are not read.
 */
const L3Arena *l3_arena_check(const void *mem, uint64_t size, L3Error *err);
const L3Hparams *l3_arena_hparams(const L3Arena *arena);
uint64_t	l3_arena_size(const L3Arena *arena);
/* Bytes of weight tensors, and number of parameters (scalars). */
uint64_t	l3_arena_weight_bytes(const L3Arena *arena);
uint64_t	l3_arena_n_params(const L3Arena *arena);
/*
 * 128-bit checksum (XXH3) of everything that determines the model's
 * arithmetic: hyperparameters, packed weights, and the tokenizer image.  The
 * same source file gives the same checksum on every load.
 */
void		l3_arena_checksum(const L3Arena *arena, uint8_t checksum[16]);

/* ----------------------------------------------------------------
 *		Model sources: GGUF files and Hugging Face directories
 * ----------------------------------------------------------------
 */

typedef enum L3Quantize
{
	L3_QUANTIZE_NONE = 0,		/* keep the file's types */
	L3_QUANTIZE_Q8_0			/* matrices in F32/F16/BF16 become Q8_0 */
} L3Quantize;

typedef struct L3LoadOptions
{
	L3Quantize	quantize;
} L3LoadOptions;

typedef struct L3Source L3Source;

/*
 * Open a model for loading: a .gguf file (v2 or v3; with a name that ends in
 * -00001-of-0000N.gguf all its parts), or a directory with config.json,
 * tokenizer.json and model.safetensors or model.safetensors.index.json.
 * Reads headers only.  Everything that makes the model unusable (another
 * architecture, a missing tensor, a wrong shape, a truncated file, an unknown
 * pre-tokenizer) is reported here, naming file, key or tensor, what was found
 * and what was expected.
 */
L3Status	l3_source_open(const char *path, const L3LoadOptions *options,
						   L3Source **source, L3Error *err);
/* As above, but a tokenizer problem is not an error (for plans of header-only files). */
L3Status	l3_source_open_headers(const char *path, const L3LoadOptions *options,
								   L3Source **source, L3Error *err);
void		l3_source_close(L3Source *source);

const L3Hparams *l3_source_hparams(const L3Source *source);
const char *l3_source_name(const L3Source *source); /* general.name, or "" */
/* One sentence about a doubtful but usable file (for a WARNING), or ""; loading may add one. */
const char *l3_source_warning(const L3Source *source);
/* Is there a chat template, known to us or not? */
bool		l3_source_has_template(const L3Source *source);
uint64_t	l3_source_arena_size(const L3Source *source);
uint64_t	l3_source_tokenizer_size(const L3Source *source);

/* Build the tokenizer image in mem (size = l3_source_tokenizer_size). */
L3Status	l3_source_build_tokenizer(L3Source *source, void *mem,
									  uint64_t size, L3Error *err);
/*
 * Read, check, convert and pack all weights into mem (64-byte aligned, size =
 * l3_source_arena_size, zero-filled).  tokenizer is the image built before; it
 * enters the checksum.
 */
L3Status	l3_source_load(L3Source *source, void *mem, uint64_t size,
						   const void *tokenizer, uint64_t tokenizer_size,
						   L3ProgressFn progress, void *ctx, L3Error *err);

/*
 * What a model would cost.  Sizes in bytes.
 */
typedef struct L3Plan
{
	L3Hparams	hparams;
	char		architecture[64];
	char		name[128];
	char		file_types[128];	/* "Q4_K 193, Q6_K 33, F32 66" (tensors) */
	char		packed_types[128];	/* the same after packing; differs where widened */
	uint32_t	n_files;
	uint64_t	n_params;
	uint64_t	file_bytes;
	uint64_t	weight_bytes;	/* the arena */
	uint64_t	tokenizer_bytes;
	uint64_t	kv_bytes_per_token; /* with kv_type below */
	uint64_t	workspace_bytes;	/* the worker's other memory: activations,
									 * logits, scratch, for the options */
} L3Plan;

/* How keys and values are cached. */
typedef enum L3KvType
{
	L3_KV_F16 = 0,
	L3_KV_F32,
	L3_KV_Q8_0,					/* int8, and a half as scale per 32 of a head */
	L3_N_KV_TYPES
} L3KvType;

/* Options that a worker's memory depends on. */
typedef struct L3EngineOptions
{
	int			n_threads;		/* compute threads, the caller's included; >= 1 */
	uint64_t	kv_cache_bytes; /* bound on KV blocks of all models */
	L3KvType	kv_type;
	int			batch_tokens;	/* rows of one step (token budget), >= 16 */
	int			max_sequences;	/* sequences (label paths included) in a step */
	int			max_context;	/* tokens of one sequence; 0: as the model says */
	bool		prefix_cache;	/* keep full blocks of ended sequences */
	const char *nodes;			/* NULL, or L3_NODES: place threads and memory
								 * by the machine's nodes */
	int			worker;			/* of n_workers engines like this on the */
	int			n_workers;		/* machine, from 0; 0 of 0: the only one */
	const char *cpu_features;	/* NULL or "": all the CPU has; else a list that
								 * caps it: "generic", "blas", "avx2", "avxvnni",
								 * "avx512", "avx512vnni", "amx" (see
								 * kernels/cpu.h) */
	/*
	 * Called by the thread that runs l3_engine_step, between the phases of a
	 * step (every few milliseconds), while no compute thread runs.  It may
	 * call l3_engine_cancel, and may leave by longjmp only if the engine is
	 * destroyed next.
	 */
	void		(*poll) (void *ctx);
	void	   *poll_ctx;
} L3EngineOptions;

/* Where Linux describes the machine's nodes (NUMA). */
#define L3_NODES			"/sys/devices/system/node"

L3Status	l3_plan(L3Source *source, const L3EngineOptions *options,
					L3Plan *plan, L3Error *err);

/*
 * What the calling thread fills from now on is for the compute threads of all
 * engines with these options: its pages, also those of files and of shared
 * memory that it makes, are interleaved over their nodes.  False when nothing
 * was changed; else undo it by l3_numa_end_filling.
 */
bool		l3_numa_begin_filling(const L3EngineOptions *options);
void		l3_numa_end_filling(void);

/* ----------------------------------------------------------------
 *		Tokenizer
 * ----------------------------------------------------------------
 */

typedef struct L3Tokenizer L3Tokenizer; /* opaque position-independent image */

typedef enum L3ChatForm
{
	L3_CHAT_NONE = 0,			/* no chat template, or one we do not know */
	L3_CHAT_LLAMA30,			/* Llama 3.0: no dates */
	L3_CHAT_LLAMA31				/* 3.1 and later: knowledge and today dates,
								 * pinned to 26 Jul 2024 */
} L3ChatForm;

/* Check an image (as l3_arena_check does); NULL and *err when unsound. */
const L3Tokenizer *l3_tokenizer_check(const void *mem, uint64_t size, L3Error *err);

uint32_t	l3_tokenizer_n_tokens(const L3Tokenizer *tok);
L3ChatForm	l3_tokenizer_chat_form(const L3Tokenizer *tok);
/* True when the file had a chat template, known to us or not. */
bool		l3_tokenizer_has_template(const L3Tokenizer *tok);
/* Id of begin-of-text, or -1.  add_bos: whether prompts start with it. */
int32_t		l3_tokenizer_bos(const L3Tokenizer *tok);
bool		l3_tokenizer_add_bos(const L3Tokenizer *tok);
/* End-of-turn: the token that ends a chat answer; -1 when there is none. */
int32_t		l3_tokenizer_eot(const L3Tokenizer *tok);
/* Is id one of the tokens that end a generation? */
bool		l3_tokenizer_is_stop(const L3Tokenizer *tok, int32_t id);
bool		l3_tokenizer_is_special(const L3Tokenizer *tok, int32_t id);
/* Id of a special token by its text ("<|eot_id|>"), or -1. */
int32_t		l3_tokenizer_special(const L3Tokenizer *tok, const char *text);

/*
 * Bytes of one token; special tokens give their text.  NULL when id is out of
 * range.  Not NUL-terminated.
 */
const char *l3_tokenizer_piece(const L3Tokenizer *tok, int32_t id, uint32_t *len);

/*
 * Encode len bytes (UTF-8; invalid bytes are kept and tokenised as
 * non-letters).  No begin-of-text is added.  Special tokens are recognised in
 * the text only when special is true.  Calls emit for runs of ids; emit
 * returns true to stop (L3_ERR_CANCELLED).  Near-linear in len whatever the
 * text.  Fails with L3_ERR_MEMORY only.
 */
typedef bool (*L3EmitFn) (void *ctx, const int32_t *ids, size_t n);
L3Status	l3_tokenizer_encode(const L3Tokenizer *tok, const char *text, size_t len,
								bool special, L3EmitFn emit, void *ctx, L3Error *err);

/* A growing array of ids; zero-initialise, free with l3_ids_free. */
typedef struct L3Ids
{
	int32_t    *ids;
	size_t		n;
	size_t		capacity;
} L3Ids;
L3Status	l3_ids_append(L3Ids *ids, const int32_t *more, size_t n, L3Error *err);
void		l3_ids_free(L3Ids *ids);
/* Encode and append to ids. */
L3Status	l3_tokenizer_encode_ids(const L3Tokenizer *tok, const char *text, size_t len,
									bool special, L3Ids *ids, L3Error *err);

/*
 * Length of the longest prefix of the n bytes that does not end inside a
 * UTF-8 sequence that more bytes could complete.  Invalid bytes count as
 * complete.  Used to hold back incomplete tails.
 */
size_t		l3_utf8_complete(const char *bytes, size_t n);
/*
 * Copy n bytes to out (room for 3 * n), replacing each maximal invalid
 * sequence by U+FFFD and dropping NUL; returns the bytes written.
 */
size_t		l3_utf8_sanitize(const char *bytes, size_t n, char *out);

/* ----------------------------------------------------------------
 *		Chat form
 * ----------------------------------------------------------------
 */

typedef struct L3Message
{
	const char *role;			/* "system", "user", "assistant", "ipython" */
	size_t		role_len;
	const char *content;
	size_t		content_len;
} L3Message;

/*
 * Append the prompt for these messages: exactly one begin-of-text, the
 * system block of 3.1+ with its pinned dates, each message trimmed of white
 * space and ended by end-of-turn, then, if add_assistant, the assistant's
 * header.  Contents are encoded without special tokens.
 * L3_ERR_UNSUPPORTED when the model has no chat form we know; L3_ERR_ARG for
 * an unknown role.
 * Source: Meta's prompt format pages for Llama 3 and 3.1.
 */
L3Status	l3_chat_encode(const L3Tokenizer *tok, const L3Message *messages,
						   size_t n_messages, bool add_assistant,
						   L3Ids *ids, L3Error *err);

/* ----------------------------------------------------------------
 *		The engine: mixed batches over paged KV, continuous batching
 * ----------------------------------------------------------------
 */

typedef struct L3Engine L3Engine;
typedef struct L3Model L3Model; /* an arena attached to an engine */
typedef struct L3Sequence L3Sequence;	/* a running request */

/*
 * Create an engine and its compute threads (all signals blocked in them).
 * The calling thread is compute thread 0 during l3_engine_step; its affinity may
 * be narrowed until it destroys the engine.
 */
L3Status	l3_engine_create(const L3EngineOptions *options, L3Engine **engine, L3Error *err);
/* Stop and join the threads, free everything.  Running requests are dropped. */
void		l3_engine_destroy(L3Engine *engine);
/* Instruction sets in use, for views: "avx512vnni". */
const char *l3_engine_cpu(const L3Engine *engine);
/* Where threads and memory were placed, for a log; "" on a machine of one node. */
const char *l3_engine_placement(const L3Engine *engine);

/* The arena and the tokenizer must stay mapped until l3_engine_detach. */
L3Status	l3_engine_attach(L3Engine *engine, const L3Arena *arena,
							 const L3Tokenizer *tok, L3Model **model, L3Error *err);
/* No sequence of the model may be running. */
void		l3_engine_detach(L3Engine *engine, L3Model *model);

typedef enum L3RequestKind
{
	L3_REQ_GENERATE,
	L3_REQ_SCORE,				/* probabilities of labels after a prompt */
	L3_REQ_EMBED,				/* pooled hidden state */
	L3_REQ_LOGPROBS				/* teacher-forced log-probabilities */
} L3RequestKind;

typedef enum L3Pooling
{
	L3_POOL_MEAN = 0,
	L3_POOL_LAST
} L3Pooling;

typedef enum L3FinishReason
{
	L3_FINISH_NONE = 0,
	L3_FINISH_STOP,				/* a stop token */
	L3_FINISH_STOP_STRING,
	L3_FINISH_LENGTH			/* max_tokens, or the context is full */
} L3FinishReason;

/*
 * temperature 0 is greedy (lowest id wins a tie).  Order of the sampler:
 * repeat_penalty over the last 64 tokens of prompt and answer, temperature,
 * top_k (0: off), top_p (1: off), min_p (0: off), then one draw from
 * hash(seed, position) by inverse CDF in order of falling probability.
 */
typedef struct L3Sampling
{
	float		temperature;
	float		top_p;
	float		min_p;
	float		repeat_penalty; /* 1: off */
	int32_t		top_k;
	uint64_t	seed;
} L3Sampling;

/*
 * A request.  The caller keeps every pointer valid and its outputs untouched
 * until the engine reports it done or l3_engine_cancel returned; the engine
 * only reads inputs and writes outputs inside l3_engine_step.
 */
typedef struct L3Request
{
	L3RequestKind kind;
	uint64_t	salt;			/* prefix-cache domain (a database's secret) */
	const int32_t *tokens;		/* prompt (n_tokens), each in the vocabulary */
	int32_t		n_tokens;		/* >= 1 */

	/* GENERATE */
	int32_t		max_tokens;		/* >= 1 */
	L3Sampling	sampling;
	bool		ignore_stop_tokens;
	const char *stop;			/* stop strings, one after another */
	const int32_t *stop_len;	/* their lengths in bytes (n_stops) */
	int32_t		n_stops;
	/*
	 * The answer is one of this grammar (grammar.h), or NULL: an image of
	 * grammar_size bytes, 8-byte aligned.  It is checked.  Then stop strings
	 * do not apply, and max_tokens suffices for the shortest answer or the
	 * request fails with L3_ERR_LIMIT; an answer is complete whatever
	 * max_tokens is.
	 */
	const void *grammar;
	size_t		grammar_size;
	/*
	 * Guess tokens from those before and verify several in one step, where
	 * that is faster.  It changes nothing but the time.
	 */
	bool		prompt_lookup;

	/*
	 * SCORE: path i is label_tokens[label_end[i-1] .. label_end[i]).  No path
	 * is empty or a proper prefix of another (the caller appends end-of-turn
	 * to make it so); equal paths are allowed.
	 */
	const int32_t *label_tokens;
	const int32_t *label_end;	/* (n_labels) */
	int32_t		n_labels;

	/* EMBED */
	L3Pooling	pooling;

	/* LOGPROBS: tokens[first_scored ..] are scored, first_scored >= 1 */
	int32_t		first_scored;

	/* Outputs, by kind; NULL where the kind has none. */
	int32_t    *out_tokens;		/* GENERATE: (max_tokens) */
	double	   *out_logprobs;	/* SCORE: log P(path | prompt) (n_labels);
								 * LOGPROBS: (n_tokens - first_scored) */
	float	   *out_embedding;	/* EMBED: (n_embd), unit length */
} L3Request;

/*
 * Do both ask for the same answer, in the same prefix-cache domain?  Of one
 * model they then have it, bit for bit.  Outputs, and what changes only the
 * time (prompt_lookup), are not looked at.
 */
bool		l3_request_equal(const L3Request *a, const L3Request *b);

/* State of a request, in the events. */
typedef struct L3Result
{
	L3Status	status;			/* when done: L3_OK, or why not; see error */
	L3FinishReason finish;
	int32_t		n_out;			/* GENERATE: tokens in out_tokens; the stop token
								 * is not among them */
	/*
	 * GENERATE: bytes of the answer that are final: tokens' pieces
	 * concatenated, minus a tail that could become a stop string.  When done:
	 * the answer's whole length, cut before the stop string.  Special tokens
	 * (l3_tokenizer_is_special) and ids without a piece have no bytes.
	 */
	int64_t		n_bytes;
	int32_t		n_prompt_done;	/* prompt tokens computed or found so far */
	int32_t		n_cached;		/* prompt tokens taken from the prefix cache */
	L3Error		error;			/* valid when status is not L3_OK */
} L3Result;

typedef enum L3Event
{
	L3_EVENT_PROGRESS,			/* n_out, n_bytes or n_prompt_done moved */
	L3_EVENT_DONE				/* the sequence is gone after this call */
} L3Event;

typedef void (*L3EventFn) (void *user, L3Event event, const L3Result *result);

/*
 * Can a request of n_tokens prompt tokens that may grow by n_more (max_tokens,
 * or the longest label paths together) be taken now: are there free sequence
 * places and KV blocks, counting what cached blocks could give back?
 * Sets *never (if given) when it could not even run alone: the caller raises.
 */
bool		l3_engine_can_admit(L3Engine *engine, const L3Model *model,
								const L3Request *request, bool *never, L3Error *err);
/*
 * Take a request.  KV blocks for its whole possible length are reserved, so a
 * running request never fails for lack of memory.  event is called from
 * l3_engine_step.
 */
L3Status	l3_engine_submit(L3Engine *engine, L3Model *model,
							 const L3Request *request, L3EventFn event, void *user,
							 L3Sequence **sequence, L3Error *err);
/*
 * Drop a running request without an event.  Callable between steps and from
 * poll; outputs are not written any more once it returned.
 */
void		l3_engine_cancel(L3Engine *engine, L3Sequence *sequence);

/*
 * Run one forward pass over a mixed batch: all decoding sequences and prefill
 * chunks up to batch_tokens, oldest first with a fair share for each.  False
 * when there was nothing to do.
 */
bool		l3_engine_step(L3Engine *engine);

typedef struct L3EngineStats
{
	uint64_t	n_steps;
	uint64_t	n_prefill_tokens;	/* computed */
	uint64_t	n_cached_tokens;	/* found in the prefix cache */
	uint64_t	n_decode_tokens;
	uint64_t	n_drafted_tokens;	/* guessed by prompt lookup */
	uint64_t	n_accepted_tokens;	/* of these, right */
	double		busy_seconds;
	double		prefill_seconds;	/* of those; a step's time is its tokens', evenly */
	uint64_t	kv_bytes_used;	/* blocks held by running sequences */
	uint64_t	kv_bytes_cached;	/* blocks kept for reuse */
	uint64_t	kv_bytes_limit;
	int32_t		n_sequences;	/* running now */
} L3EngineStats;
void		l3_engine_stats(const L3Engine *engine, L3EngineStats *stats);

#endif							/* L3_ENGINE_H */
