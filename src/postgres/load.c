/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Loading a model into shared memory.
 *
 * The process that wants a model does the work: a backend in
 * llama_load_model(), or the loader for what llama3.models names.  The
 * registry's entry is reserved first, so that two processes never load under
 * one name, and published last, when weights and tokenizer are complete.
 *
 * Weights live either in a dynamic shared memory segment, or, when
 * llama3.weights_cache is set, in a file that workers map (cache.c).  The
 * tokenizer is always a segment, since backends attach it too.
 *
 * Until they are published, segments have one user, this process, and its
 * mappings are held by the Loading object rather than by a resource owner
 * (the loader has none).  PG_ENSURE_ERROR_CLEANUP covers errors and FATAL
 * exits: the entry is freed, the segments vanish with their only mapping, an
 * unfinished file is removed.  A kill -9 resets shared memory as a whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "prompt.h"
#include "shmem.h"

typedef struct Loading
{
	int			index;			/* of the reserved entry */
	const char *name;
	L3Source   *source;			/* open, or NULL */
	dsm_segment *weights;		/* or NULL: in the cache file */
	dsm_segment *tokenizer;
	LlamaCacheFile cache;
	MemoryContext context;		/* the caller's */
	ErrorData  *interrupt;		/* what CHECK_FOR_INTERRUPTS raised */
	bool		interleaving;	/* this process's new pages, over the engine's nodes */

	/* What is published. */
	const L3Arena *arena;
	const L3Tokenizer *tok;
	char		packed_types[128];
	bool		demonstration;

	char		twin[NAMEDATALEN];	/* a model with the same weights, or "" */
} Loading;

/* ----------------------------------------------------------------
 *		The registry's entry
 * ----------------------------------------------------------------
 */

/* Find the entry of that name, or -1.  Hold registry_lock. */
int
llama_registry_find(const char *name)
{
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		if (llama_shared->models[i].state != LLAMA_MODEL_FREE &&
			strcmp(llama_shared->models[i].name, name) == 0)
			return i;
	}
	return -1;
}

/*
 * Entry to use for a new name: the name's own that failed, a free one, or
 * any that failed; -1 when all are in use.  Hold registry_lock.
 */
static int
usable_entry(const char *name)
{
	int			failed = -1;
	int			existing = llama_registry_find(name);

	if (existing >= 0)
		return existing;
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		if (llama_shared->models[i].state == LLAMA_MODEL_FREE)
			return i;
		if (llama_shared->models[i].state == LLAMA_MODEL_FAILED)
			failed = i;
	}
	return failed;
}

/* Give an entry its name and a new generation.  Hold registry_lock. */
static void
start_entry(LlamaModelEntry *entry, LlamaModelState state, const char *name, const char *path)
{
	entry->state = state;
	entry->generation = ++llama_shared->last_generation;
	entry->loader_pid = MyProcPid;
	strlcpy(entry->name, name, sizeof(entry->name));
	strlcpy(entry->path, path, sizeof(entry->path));
	entry->cache_file[0] = '\0';
	entry->weights_size = 0;
	entry->tokenizer_size = 0;
	entry->n_params = 0;
	entry->packed_types[0] = '\0';
	entry->demonstration = false;
	entry->error[0] = '\0';
	entry->detail[0] = '\0';
	entry->hint[0] = '\0';
	memset(&entry->hparams, 0, sizeof(entry->hparams));
	pg_atomic_write_u64(&entry->progress_done, 0);
	pg_atomic_write_u64(&entry->progress_total, 0);
}

static int
reserve_entry(const char *name, const char *path)
{
	int			index;
	LlamaModelState state = LLAMA_MODEL_FREE;

	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	index = usable_entry(name);
	if (index >= 0)
	{
		LlamaModelEntry *entry = &llama_shared->models[index];

		state = entry->state;
		if (state == LLAMA_MODEL_FREE || state == LLAMA_MODEL_FAILED)
			start_entry(entry, LLAMA_MODEL_LOADING, name, path);
	}
	LWLockRelease(llama_shared->registry_lock);

	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("cannot load more than %d models", LLAMA_MAX_MODELS),
				 errhint("Unload one with llama_unload_model().")));
	switch (state)
	{
		case LLAMA_MODEL_LOADING:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("model \"%s\" is being loaded by another process", name),
					 errhint("Wait for it, or choose another name; llama_models shows the progress.")));
			break;
		case LLAMA_MODEL_READY:
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("model \"%s\" already exists", name),
					 errhint("Unload it with llama_unload_model(), or choose another name.")));
			break;
		case LLAMA_MODEL_UNLOADING:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("model \"%s\" is being unloaded", name)));
			break;
		default:
			break;
	}
	return index;
}

/* A model that is loaded and has the same weights.  Hold registry_lock. */
static void
find_twin(Loading *loading)
{
	uint8		checksum[16];

	l3_arena_checksum(loading->arena, checksum);
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		const LlamaModelEntry *entry = &llama_shared->models[i];

		if (entry->state == LLAMA_MODEL_READY &&
			memcmp(entry->checksum, checksum, sizeof(checksum)) == 0)
			strlcpy(loading->twin, entry->name, sizeof(loading->twin));
	}
}

/* Make the model known: from here on it is used. */
static void
publish(Loading *loading, TimestampTz start)
{
	LlamaModelEntry *entry = &llama_shared->models[loading->index];
	TimestampTz now = GetCurrentTimestamp();

	/* Interrupts wait, so that pins and state change together. */
	HOLD_INTERRUPTS();
	dsm_pin_segment(loading->tokenizer);
	if (loading->weights != NULL)
		dsm_pin_segment(loading->weights);

	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	find_twin(loading);
	if (loading->weights != NULL)
		entry->weights = dsm_segment_handle(loading->weights);
	else
		strlcpy(entry->cache_file, loading->cache.path, sizeof(entry->cache_file));
	entry->tokenizer = dsm_segment_handle(loading->tokenizer);
	entry->weights_size = l3_arena_size(loading->arena);
	entry->tokenizer_size = loading->cache.tokenizer_size;
	entry->hparams = *l3_arena_hparams(loading->arena);
	l3_arena_checksum(loading->arena, entry->checksum);
	entry->chat_form = l3_tokenizer_chat_form(loading->tok);
	entry->has_template = l3_tokenizer_has_template(loading->tok);
	entry->demonstration = loading->demonstration;
	entry->n_params = l3_arena_n_params(loading->arena);
	strlcpy(entry->packed_types, loading->packed_types, sizeof(entry->packed_types));
	entry->load_seconds = (double) (now - start) / USECS_PER_SEC;
	entry->loaded_at = now;
	entry->loader_pid = 0;
	entry->state = LLAMA_MODEL_READY;
	loading->index = -1;
	LWLockRelease(llama_shared->registry_lock);
	RESUME_INTERRUPTS();

	ConditionVariableBroadcast(&llama_shared->registry_changed);
}

void
llama_registry_fail(const char *name, const char *path, const ErrorData *error)
{
	int			index;

	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	index = usable_entry(name);
	if (index >= 0 &&
		(llama_shared->models[index].state == LLAMA_MODEL_FREE ||
		 llama_shared->models[index].state == LLAMA_MODEL_FAILED))
	{
		LlamaModelEntry *entry = &llama_shared->models[index];

		start_entry(entry, LLAMA_MODEL_FAILED, name, path);
		strlcpy(entry->error, error->message, sizeof(entry->error));
		strlcpy(entry->detail, error->detail != NULL ? error->detail : "", sizeof(entry->detail));
		strlcpy(entry->hint, error->hint != NULL ? error->hint : "", sizeof(entry->hint));
	}
	LWLockRelease(llama_shared->registry_lock);
	ConditionVariableBroadcast(&llama_shared->registry_changed);
}

/* ----------------------------------------------------------------
 *		Memory
 * ----------------------------------------------------------------
 */

/* Let go of everything that this process holds for the load. */
static void
let_go(Loading *loading)
{
	if (loading->source != NULL)
		l3_source_close(loading->source);
	loading->source = NULL;
	if (loading->weights != NULL)
		dsm_detach(loading->weights);
	loading->weights = NULL;
	if (loading->tokenizer != NULL)
		dsm_detach(loading->tokenizer);
	loading->tokenizer = NULL;
	llama_cache_close(&loading->cache);
	if (loading->interleaving)
		l3_numa_end_filling();
	loading->interleaving = false;
}

/* On error or exit: also free the entry, unless it was published. */
static void
abort_loading(int code, Datum arg)
{
	Loading    *loading = (Loading *) DatumGetPointer(arg);

	let_go(loading);
	if (loading->index >= 0)
	{
		LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
		llama_shared->models[loading->index].state = LLAMA_MODEL_FREE;
		LWLockRelease(llama_shared->registry_lock);
		loading->index = -1;
		ConditionVariableBroadcast(&llama_shared->registry_changed);
	}
}

static dsm_segment *
create_segment(uint64 size)
{
	dsm_segment *segment = dsm_create(size, 0);

	/* The Loading object holds it, not the resource owner. */
	dsm_pin_mapping(segment);
	return segment;
}

/* Raise when there is no room for the load. */
static void
require_room(const char *name, const LlamaNeed *need)
{
	L3Error		err;

	if (!llama_has_room(name, need, &err))
		llama_raise(&err);
}

/* ----------------------------------------------------------------
 *		The work
 * ----------------------------------------------------------------
 */

/*
 * The engine's progress callback.  It runs inside C code that must unwind by
 * itself, so an error that CHECK_FOR_INTERRUPTS raises is kept and raised
 * again when that code has returned.  A FATAL exit leaves from here, which the
 * cleanup covers.
 */
static bool
on_progress(void *ctx, uint64_t done, uint64_t total)
{
	Loading    *loading = ctx;
	LlamaModelEntry *entry = &llama_shared->models[loading->index];

	pg_atomic_write_u64(&entry->progress_total, total);
	pg_atomic_write_u64(&entry->progress_done, done);
	if (!INTERRUPTS_PENDING_CONDITION())
		return false;

	PG_TRY();
	{
		CHECK_FOR_INTERRUPTS();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(loading->context);
		loading->interrupt = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	return loading->interrupt != NULL;
}

/* Raise for a failed step of the engine's, preferring the interrupt. */
static void
raise_step(Loading *loading, const L3Error *err)
{
	if (loading->interrupt != NULL)
		ReThrowError(loading->interrupt);
	llama_raise(err);
}

/* Weights and tokenizer come from a finished cache file. */
static void
use_cached(Loading *loading)
{
	LlamaCacheFile *cache = &loading->cache;
	uint8	   *image = cache->map + llama_cache_tokenizer_offset(cache->weights_size);
	L3Plan		plan;
	LlamaNeed	need;
	L3Error		err;

	memset(&plan, 0, sizeof(plan));
	plan.tokenizer_bytes = cache->tokenizer_size;
	need = llama_load_need(&plan, true);
	require_room(loading->name, &need);
	loading->tokenizer = create_segment(cache->tokenizer_size);
	memcpy(dsm_segment_address(loading->tokenizer), image, cache->tokenizer_size);
	loading->tok = l3_tokenizer_check(dsm_segment_address(loading->tokenizer),
									  cache->tokenizer_size, &err);
	if (loading->tok == NULL)
		llama_raise(&err);
	loading->arena = l3_arena_check(cache->map, cache->weights_size, &err);
	if (loading->arena == NULL)
		llama_raise(&err);
	strlcpy(loading->packed_types, cache->packed_types, sizeof(loading->packed_types));
	loading->demonstration = strcmp(cache->general_name, LLAMA_DEMO_NAME) == 0;
}

/* Weights and tokenizer are read from the source and packed. */
static void
pack(Loading *loading, const char *path, L3Quantize quantize)
{
	const L3LoadOptions load_options = {.quantize = quantize};
	L3EngineOptions engine_options;
	L3Plan		plan;
	LlamaNeed	need;
	L3Error		err;
	uint64		weights_size;
	uint64		tokenizer_size;
	void	   *weights;
	void	   *tokenizer;
	bool		use_file = llama3_weights_cache[0] != '\0';

	if (l3_source_open(path, &load_options, &loading->source, &err) != L3_OK)
	{
		if (err.saved_errno == ENOENT && err.hint[0] == '\0')
			llama_suggest_path(path, &err);
		llama_raise(&err);
	}
	llama_engine_options(&engine_options);
	if (l3_plan(loading->source, &engine_options, &plan, &err) != L3_OK)
		llama_raise(&err);
	strlcpy(loading->packed_types, plan.packed_types, sizeof(loading->packed_types));
	loading->demonstration = strcmp(plan.name, LLAMA_DEMO_NAME) == 0;
	weights_size = l3_source_arena_size(loading->source);
	tokenizer_size = l3_source_tokenizer_size(loading->source);
	loading->cache.tokenizer_size = tokenizer_size;

	need = llama_load_need(&plan, false);
	require_room(loading->name, &need);
	loading->tokenizer = create_segment(tokenizer_size);
	tokenizer = dsm_segment_address(loading->tokenizer);
	if (l3_source_build_tokenizer(loading->source, tokenizer, tokenizer_size, &err) != L3_OK)
		llama_raise(&err);
	loading->tok = l3_tokenizer_check(tokenizer, tokenizer_size, &err);
	if (loading->tok == NULL)
		llama_raise(&err);
	CHECK_FOR_INTERRUPTS();

	if (use_file)
	{
		llama_cache_create(&loading->cache, loading->name, path, quantize,
						   weights_size, tokenizer_size, &plan);
		weights = loading->cache.map;
		memcpy(loading->cache.map + llama_cache_tokenizer_offset(weights_size),
			   tokenizer, tokenizer_size);
	}
	else
	{
		loading->weights = create_segment(weights_size);
		weights = dsm_segment_address(loading->weights);
	}
	CHECK_FOR_INTERRUPTS();

	if (l3_source_load(loading->source, weights, weights_size, tokenizer, tokenizer_size,
					   on_progress, loading, &err) != L3_OK)
		raise_step(loading, &err);
	loading->arena = l3_arena_check(weights, weights_size, &err);
	if (loading->arena == NULL)
		llama_raise(&err);
	if (use_file)
		llama_cache_finish(&loading->cache);
}

/*
 * Who loads a model wants to know at once that most functions will refuse it.
 * That of a base model is no surprise; that of a template which llama3 does not
 * know is.
 */
static void
report_chat(const Loading *loading)
{
	int			elevel = l3_tokenizer_has_template(loading->tok) ? WARNING : NOTICE;

	llama_report_chat(MyBackendType == B_BACKEND ? elevel : LOG, loading->name, loading->tok);
}

/* Nor is the demonstration model to be taken for more than it is. */
static void
report_demonstration(const Loading *loading)
{
	if (loading->demonstration)
		ereport(MyBackendType == B_BACKEND ? NOTICE : LOG,
				(errmsg("model \"%s\" is the demonstration model", loading->name),
				 errdetail("It knows %s.", LLAMA_DEMO_KNOWS),
				 errhint("Load a Llama 3 model for real work.")));
}

/* What the engine found doubtful; a model from the weights cache was told of when it was made. */
static void
report_doubt(const Loading *loading)
{
	if (loading->source != NULL && l3_source_warning(loading->source)[0] != '\0')
		ereport(MyBackendType == B_BACKEND ? WARNING : LOG,
				(errcode(ERRCODE_WARNING),
				 errmsg("model \"%s\" may answer poorly", loading->name),
				 errdetail("%s", l3_source_warning(loading->source))));
}

/* The same weights under two names take their memory twice. */
static void
report_twin(const Loading *loading)
{
	if (loading->twin[0] != '\0')
		ereport(MyBackendType == B_BACKEND ? NOTICE : LOG,
				(errmsg("model \"%s\" has the same weights as model \"%s\"",
						loading->name, loading->twin),
				 errdetail("Each of them takes %llu MB.",
						   (unsigned long long) (l3_arena_size(loading->arena) / (1024 * 1024) + 1)),
				 errhint("Unload one of them with llama_unload_model(), unless both are wanted.")));
}

void
llama_load(const char *name, const char *path, L3Quantize quantize)
{
	TimestampTz start = GetCurrentTimestamp();
	L3EngineOptions engine_options;
	Loading		loading;

	memset(&loading, 0, sizeof(loading));
	loading.cache.fd = -1;
	loading.name = name;
	loading.context = CurrentMemoryContext;
	loading.index = reserve_entry(name, path);
	llama_engine_options(&engine_options);

	PG_ENSURE_ERROR_CLEANUP(abort_loading, PointerGetDatum(&loading));
	{
		/* dsm_create and posix_fallocate take pages before anybody writes to them. */
		loading.interleaving = l3_numa_begin_filling(&engine_options);
		if (llama3_weights_cache[0] != '\0' &&
			llama_cache_open(&loading.cache, name, path, quantize))
			use_cached(&loading);
		else
			pack(&loading, path, quantize);
		publish(&loading, start);
		report_doubt(&loading);
		report_twin(&loading);
		report_chat(&loading);
		report_demonstration(&loading);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abort_loading, PointerGetDatum(&loading));

	let_go(&loading);
}
