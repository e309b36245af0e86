/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  The functions behind the views llama_models, llama_stat_requests,
 *	  llama_stat_workers and llama_stat.
 *
 * Each takes a snapshot under the lock and builds its rows afterwards, so that
 * looking never keeps the queue waiting for memory or conversion.  Prompts of
 * others are shown to members of pg_read_all_stats only, as queries are in
 * pg_stat_activity; paths of the server to members of pg_read_all_settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "result_cache.h"
#include "shmem.h"
#include "text.h"

/* How much of a prompt is shown, as track_activity_query_size would. */
#define LLAMA_PROMPT_BYTES		200

/*
 * How many of its last tokens that takes: one has at least a byte, and those
 * that end the prompt, the header of the answer's turn, are not shown.
 */
#define LLAMA_PROMPT_TOKENS		(LLAMA_PROMPT_BYTES + 16)

PG_FUNCTION_INFO_V1(llama_models);
PG_FUNCTION_INFO_V1(llama_stat_requests);
PG_FUNCTION_INFO_V1(llama_stat_workers);
PG_FUNCTION_INFO_V1(llama_stat);
PG_FUNCTION_INFO_V1(llama_stat_result_cache);
PG_FUNCTION_INFO_V1(llama_result_cache_reset);

/* Collects one row's columns from the left. */
typedef struct Row
{
	int			n;
	Datum		values[20];
	bool		nulls[20];
} Row;

static void
put(Row *row, Datum value, bool isnull)
{
	Assert(row->n < (int) lengthof(row->values));
	row->values[row->n] = value;
	row->nulls[row->n] = isnull;
	row->n++;
}

/* NULL for NULL or "" */
static void
put_text(Row *row, const char *text)
{
	bool		isnull = text == NULL || text[0] == '\0';

	put(row, isnull ? (Datum) 0 : CStringGetTextDatum(text), isnull);
}

static void
put_row(FunctionCallInfo fcinfo, Row *row)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	Assert(row->n == result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
}

/* ----------------------------------------------------------------
 *		llama_models
 * ----------------------------------------------------------------
 */

static const char *const model_states[] = {
	[LLAMA_MODEL_FREE] = "free",
	[LLAMA_MODEL_LOADING] = "loading",
	[LLAMA_MODEL_READY] = "ready",
	[LLAMA_MODEL_UNLOADING] = "unloading",
	[LLAMA_MODEL_FAILED] = "failed",
};

#define LLAMA_DEMO_NOTE \
	"demonstration model: knows " LLAMA_DEMO_KNOWS "; load a Llama 3 model for real work"

static const char *const chat_forms[] = {
	[L3_CHAT_NONE] = "none",
	[L3_CHAT_LLAMA30] = "llama 3.0",
	[L3_CHAT_LLAMA31] = "llama 3.1",
};

static void
put_model(FunctionCallInfo fcinfo, LlamaModelEntry *entry, bool show_path)
{
	Row			row = {0};
	bool		loaded = entry->state == LLAMA_MODEL_READY ||
	entry->state == LLAMA_MODEL_UNLOADING;
	uint64		total = pg_atomic_read_u64(&entry->progress_total);
	double		progress = loaded ? 1.0 : total == 0 ? 0.0 :
	(double) pg_atomic_read_u64(&entry->progress_done) / (double) total;
	char		hex[2 * sizeof(entry->checksum) + 1];
	char	   *error = entry->detail[0] == '\0' ? entry->error :
	psprintf("%s: %s", entry->error, entry->detail);

	hex_encode((char *) entry->checksum, sizeof(entry->checksum), hex);
	hex[sizeof(hex) - 1] = '\0';

	put_text(&row, entry->name);
	put_text(&row, model_states[entry->state]);
	put_text(&row, show_path ? entry->path : NULL);
	put(&row, Int64GetDatum(entry->n_params), !loaded);
	put(&row, Int64GetDatum(entry->weights_size), !loaded);
	put(&row, Int64GetDatum(entry->tokenizer_size), !loaded);
	put_text(&row, !loaded ? NULL : entry->cache_file[0] != '\0' ? "file" : "shared memory");
	put_text(&row, entry->packed_types);
	put(&row, Int32GetDatum(entry->hparams.n_ctx_train), !loaded);
	put_text(&row, !loaded ? NULL :
			 entry->chat_form == L3_CHAT_NONE && entry->has_template ? "unknown" :
			 chat_forms[entry->chat_form]);
	put_text(&row, loaded ? hex : NULL);
	put(&row, Int32GetDatum(pg_atomic_read_u32(&entry->pins)), !loaded);
	put(&row, Float8GetDatum(progress), entry->state == LLAMA_MODEL_FAILED);
	put(&row, Float8GetDatum(entry->load_seconds), !loaded);
	put(&row, TimestampTzGetDatum(entry->loaded_at), !loaded);
	put_text(&row, error);
	put_text(&row, loaded && entry->demonstration ? LLAMA_DEMO_NOTE : NULL);
	put_row(fcinfo, &row);
}

Datum
llama_models(PG_FUNCTION_ARGS)
{
	LlamaModelEntry *copy;
	bool		show_path = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS);

	llama_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	copy = palloc(sizeof(llama_shared->models));
	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	memcpy(copy, llama_shared->models, sizeof(llama_shared->models));
	LWLockRelease(llama_shared->registry_lock);

	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		if (copy[i].state != LLAMA_MODEL_FREE)
			put_model(fcinfo, &copy[i], show_path);
	}
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 *		llama_stat_requests
 * ----------------------------------------------------------------
 */

static const char *const slot_states[] = {
	[LLAMA_SLOT_FREE] = "free",
	[LLAMA_SLOT_FILLING] = "filling",
	[LLAMA_SLOT_QUEUED] = "queued",
	[LLAMA_SLOT_RUNNING] = "running",
};

static const char *const function_names[] = {
	[LLAMA_FN_GENERATE] = "llama_generate",
	[LLAMA_FN_CHAT] = "llama_chat",
	[LLAMA_FN_COMPLETE] = "llama_complete",
	[LLAMA_FN_GENERATE_STREAM] = "llama_generate_stream",
	[LLAMA_FN_CLASSIFY] = "llama_classify",
	[LLAMA_FN_FILTER] = "llama_filter",
	[LLAMA_FN_EMBED] = "llama_embed",
	[LLAMA_FN_SIMILARITY] = "llama_similarity",
	[LLAMA_FN_LOGPROBS] = "llama_logprobs",
	[LLAMA_FN_CLASSIFY_MULTI] = "llama_classify_multi",
	[LLAMA_FN_SCORE] = "llama_score",
	[LLAMA_FN_RANK] = "llama_rank",
	[LLAMA_FN_SENTIMENT] = "llama_sentiment",
	[LLAMA_FN_SUMMARIZE] = "llama_summarize",
	[LLAMA_FN_TRANSLATE] = "llama_translate",
	[LLAMA_FN_REDACT] = "llama_redact",
	[LLAMA_FN_FIX_GRAMMAR] = "llama_fix_grammar",
	[LLAMA_FN_AGG] = "llama_agg",
	[LLAMA_FN_SUMMARIZE_AGG] = "llama_summarize_agg",
	[LLAMA_FN_EXTRACT] = "llama_extract",
};

StaticAssertDecl(lengthof(function_names) == LLAMA_N_FUNCTIONS,
				 "every function has its name");

/* What is shown of a slot; the prompt's tokens are copied apart. */
typedef struct RequestCopy
{
	LlamaSlot	slot;
	LlamaSlotState state;
	bool		abandoned;
	char		model[NAMEDATALEN];
	int			n_shown;
	int32		shown[LLAMA_PROMPT_TOKENS];	/* the last ones */
} RequestCopy;

/* Copy the slots in use; queue_lock keeps their payloads in place. */
static int
copy_requests(RequestCopy *copies, bool see_all)
{
	int			n = 0;
	dsa_area   *area = llama_payloads();

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	LWLockAcquire(llama_shared->queue_lock, LW_SHARED);
	for (int i = 0; i < llama_shared->n_slots; i++)
	{
		LlamaSlot  *slot = &llama_shared->slots[i];
		RequestCopy *copy = &copies[n];

		copy->state = pg_atomic_read_u32(&slot->state);
		/* One that is being filled holds nothing to look at yet. */
		if (copy->state == LLAMA_SLOT_FREE || copy->state == LLAMA_SLOT_FILLING)
			continue;
		copy->slot = *slot;
		copy->abandoned = pg_atomic_read_u32(&slot->abandoned) != 0;
		copy->n_shown = 0;
		strlcpy(copy->model, llama_shared->models[slot->model].name, NAMEDATALEN);
		if (see_all || slot->role == GetUserId())
		{
			LlamaPayload *payload = dsa_get_address(area, slot->payload);

			copy->n_shown = Min(slot->n_tokens, (int) lengthof(copy->shown));
			memcpy(copy->shown, (int32 *) ((char *) payload + payload->tokens) +
				   slot->n_tokens - copy->n_shown,
				   copy->n_shown * sizeof(int32));
		}
		n++;
	}
	LWLockRelease(llama_shared->queue_lock);
	LWLockRelease(llama_shared->registry_lock);
	return n;
}

/*
 * Collect what somebody wrote of these tokens: the last message without its
 * header, or, where there is no chat, all but special tokens.
 */
static void
append_last_message(StringInfo out, const L3Tokenizer *tok, const int32 *ids, int n)
{
	int32		start_header = l3_tokenizer_special(tok, "<|start_header_id|>");
	int32		end_header = l3_tokenizer_special(tok, "<|end_header_id|>");
	bool		in_header = false;
	bool		begins = false;

	for (int i = 0; i < n; i++)
	{
		uint32		len;
		const char *piece = l3_tokenizer_piece(tok, ids[i], &len);

		if (l3_tokenizer_is_special(tok, ids[i]))
		{
			in_header = ids[i] == start_header;
			begins |= ids[i] == end_header;
			continue;
		}
		if (piece == NULL || in_header)
			continue;
		/* A message begins with its first byte: the answer's turn has none. */
		while (begins && len > 0 && *piece == '\n')
			piece++, len--;
		if (len == 0)
			continue;
		if (begins)
			resetStringInfo(out);
		begins = false;
		appendBinaryStringInfo(out, piece, (int) len);
	}
}

/*
 * The end of the prompt.  NULL when its model has gone, or when this
 * database's encoding has no conversion.
 */
static text *
prompt_text(const RequestCopy *copy, const LlamaModel *model)
{
	StringInfoData bytes;
	int			start;

	if (copy->n_shown == 0 || model == NULL || model->generation != copy->slot.generation)
		return NULL;
	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII &&
		!OidIsValid(FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding())))
		return NULL;

	initStringInfo(&bytes);
	append_last_message(&bytes, model->tok, copy->shown, copy->n_shown);
	start = Max(bytes.len - LLAMA_PROMPT_BYTES, 0);
	/* Not from within a character: continuation bytes are 10xxxxxx. */
	while (start > 0 && start < bytes.len && ((uint8) bytes.data[start] & 0xC0) == 0x80)
		start++;
	return llama_text_make(bytes.data + start, bytes.len - start);
}

static double
elapsed_ms(TimestampTz from, TimestampTz to)
{
	return (double) (to - from) / 1000.0;
}

static void
put_request(FunctionCallInfo fcinfo, RequestCopy *copy, TimestampTz now)
{
	Row			row = {0};
	LlamaSlot  *slot = &copy->slot;
	bool		taken = slot->started != 0;
	const LlamaModel *model = NULL;
	text	   *prompt;

	/* The pin may be gone by now; then the prompt is not shown. */
	if (copy->n_shown > 0)
		model = llama_model_lookup(copy->model);

	put(&row, Int32GetDatum(slot->pid), false);
	put(&row, ObjectIdGetDatum(slot->database), false);
	put(&row, ObjectIdGetDatum(slot->role), false);
	put_text(&row, function_names[slot->function]);
	put_text(&row, copy->model);
	put_text(&row, copy->abandoned ? "cancelled" : slot_states[copy->state]);
	put(&row, Int32GetDatum(slot->worker + 1), copy->state != LLAMA_SLOT_RUNNING);
	put(&row, Int32GetDatum(slot->n_tokens), false);
	put(&row, Int32GetDatum(pg_atomic_read_u32(&slot->n_prompt_done)), false);
	put(&row, Int32GetDatum(pg_atomic_read_u32(&slot->n_cached)), false);
	put(&row, Int32GetDatum(pg_atomic_read_u32(&slot->n_out)), false);
	put(&row, Float8GetDatum(elapsed_ms(slot->submitted, taken ? slot->started : now)), false);
	put(&row, Float8GetDatum(elapsed_ms(slot->started, now)), !taken);
	prompt = prompt_text(copy, model);
	put(&row, PointerGetDatum(prompt), prompt == NULL);
	put_row(fcinfo, &row);
}

Datum
llama_stat_requests(PG_FUNCTION_ARGS)
{
	RequestCopy *copies;
	TimestampTz now = GetCurrentTimestamp();
	bool		see_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	int			n;

	llama_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	copies = MemoryContextAllocHuge(CurrentMemoryContext,
									llama_shared->n_slots * sizeof(RequestCopy));
	n = copy_requests(copies, see_all);
	for (int i = 0; i < n; i++)
		put_request(fcinfo, &copies[i], now);
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 *		llama_stat_workers
 * ----------------------------------------------------------------
 */

static void
put_worker(FunctionCallInfo fcinfo, int number, LlamaWorker *worker)
{
	Row			row = {0};
	bool		alive = worker->pid != 0;
	uint32		running = pg_atomic_read_u32(&worker->n_running);
	uint64		prefill = pg_atomic_read_u64(&worker->n_prefill);
	uint64		decode = pg_atomic_read_u64(&worker->n_decode);
	double		busy = (double) pg_atomic_read_u64(&worker->busy_usec) / USECS_PER_SEC;

	put(&row, Int32GetDatum(number + 1), false);
	put(&row, Int32GetDatum(worker->pid), !alive);
	put_text(&row, !alive ? "stopped" : running > 0 ? "running" : "idle");
	put_text(&row, worker->cpu);
	put(&row, Int32GetDatum(worker->threads), worker->starts == 0);
	put(&row, Int32GetDatum(running), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->n_steps)), false);
	put(&row, Int64GetDatum(prefill), false);
	put(&row, Int64GetDatum(decode), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->n_cached)), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->n_drafted)), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->n_accepted)), false);
	put(&row, Float8GetDatum((double) (prefill + decode) / (busy > 0 ? busy : 1)), busy <= 0);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->kv_used)), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->kv_cached)), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&worker->kv_limit)), false);
	put(&row, TimestampTzGetDatum(worker->started_at), !alive);
	put(&row, Int32GetDatum(Max(worker->starts - 1, 0)), false);
	put_row(fcinfo, &row);
}

Datum
llama_stat_workers(PG_FUNCTION_ARGS)
{
	LlamaWorker *copy;

	llama_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	copy = palloc(sizeof(llama_shared->workers));
	LWLockAcquire(llama_shared->queue_lock, LW_SHARED);
	memcpy(copy, llama_shared->workers, sizeof(llama_shared->workers));
	LWLockRelease(llama_shared->queue_lock);

	for (int i = 0; i < llama_shared->n_workers; i++)
		put_worker(fcinfo, i, &copy[i]);
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 *		llama_stat
 * ----------------------------------------------------------------
 */

/* How many slots are in a state, and how many backends wait for one. */
static void
count_slots(int counts[LLAMA_N_SLOT_STATES], int *waiting)
{
	dlist_iter	iter;

	LWLockAcquire(llama_shared->queue_lock, LW_SHARED);
	for (int i = 0; i < llama_shared->n_slots; i++)
		counts[pg_atomic_read_u32(&llama_shared->slots[i].state)]++;
	*waiting = 0;
	dlist_foreach(iter, &llama_shared->waiters)
		(*waiting)++;
	LWLockRelease(llama_shared->queue_lock);
}

Datum
llama_stat(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Row			row = {0};
	int			counts[LLAMA_N_SLOT_STATES] = {0};
	int			waiting;
	uint64		prefill = 0;
	uint64		cached = 0;
	uint64		decode = 0;
	uint64		drafted = 0;
	uint64		accepted = 0;

	llama_require_preload();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "unexpected result type of llama_stat");
	count_slots(counts, &waiting);
	for (int i = 0; i < llama_shared->n_workers; i++)
	{
		prefill += pg_atomic_read_u64(&llama_shared->workers[i].n_prefill);
		cached += pg_atomic_read_u64(&llama_shared->workers[i].n_cached);
		decode += pg_atomic_read_u64(&llama_shared->workers[i].n_decode);
		drafted += pg_atomic_read_u64(&llama_shared->workers[i].n_drafted);
		accepted += pg_atomic_read_u64(&llama_shared->workers[i].n_accepted);
	}

	put(&row, Int64GetDatum(pg_atomic_read_u64(&llama_shared->n_done)), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&llama_shared->n_failed)), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&llama_shared->n_cancelled)), false);
	put(&row, Int64GetDatum(prefill), false);
	put(&row, Int64GetDatum(cached), false);
	put(&row, Int64GetDatum(decode), false);
	put(&row, Int64GetDatum(drafted), false);
	put(&row, Int64GetDatum(accepted), false);
	put(&row, Int32GetDatum(llama_shared->n_slots), false);
	put(&row, Int32GetDatum(llama_shared->n_slots - counts[LLAMA_SLOT_FREE]), false);
	put(&row, Int32GetDatum(counts[LLAMA_SLOT_QUEUED]), false);
	put(&row, Int32GetDatum(counts[LLAMA_SLOT_RUNNING]), false);
	put(&row, Int32GetDatum(waiting), false);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&llama_shared->payload_bytes)), false);
	put(&row, TimestampTzGetDatum(llama_shared->started_at), false);
	Assert(row.n == tupdesc->natts);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  row.values, row.nulls)));
}

/* ----------------------------------------------------------------
 *		llama_stat_result_cache
 * ----------------------------------------------------------------
 */

Datum
llama_stat_result_cache(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Row			row = {0};
	LlamaResultCacheStat stat;

	llama_require_preload();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "unexpected result type of llama_stat_result_cache");
	llama_result_cache_stat(&stat);
	put(&row, Int64GetDatum(stat.size), false);
	put(&row, Int64GetDatum(stat.used), false);
	put(&row, Int64GetDatum(stat.n_entries), false);
	put(&row, Int64GetDatum(stat.n_hits), false);
	put(&row, Int64GetDatum(stat.n_misses), false);
	put(&row, Int64GetDatum(stat.n_stored), false);
	put(&row, Int64GetDatum(stat.n_too_large), false);
	put(&row, Int64GetDatum(stat.n_evicted), false);
	Assert(row.n == tupdesc->natts);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  row.values, row.nulls)));
}

/*
 * llama_result_cache_reset() returns void
 */
Datum
llama_result_cache_reset(PG_FUNCTION_ARGS)
{
	llama_require_preload();
	llama_result_cache_clear();
	PG_RETURN_VOID();
}
