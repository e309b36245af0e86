/*-------------------------------------------------------------------------
 *
 * sync_run.c
 *	  Filling the column of a sync, batch by batch.
 *
 * A batch is one transaction:
 *	1. pick entries of the queue, oldest first;
 *	2. compute their values from the definition, without locking anything:
 *	   this is where the model works, and nobody waits for it;
 *	3. lock those rows of the target that nobody else has locked;
 *	4. with a fresh snapshot, delete the entries whose version is still the one
 *	   that was picked, and write the values of exactly those.
 * A row that has changed since step 1 has another version by step 4: whoever
 * changed it has committed, or else would hold its lock.  So a value is never
 * older than its row, and a change is never lost.  A crash undoes the batch.
 *
 * What a batch reads in step 1 and computes in step 2 is kept in tuple stores
 * that later statements see as relations, as triggers see transition tables;
 * so values may be of any type.
 *
 * When a batch fails it is halved until the row at fault is alone.  If the
 * error is the row's, it is written to its entry, which is then left alone
 * until the row changes; if it may be the server's (a model that is not loaded,
 * say), the entry goes to the end of the queue, and after a few of them the run
 * gives up with the error.
 *
 * Rows that were there before the sync are queued a batch at a time, whenever
 * the queue is empty, in the order of their keys.  They are older than every run,
 * whoever queues them: one that began before they were queued fills them too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/itemptr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "sync.h"
#include "sync_expression.h"

/* So many rows in a row with errors that may be the server's end a run. */
#define MAX_SERVER_ERRORS	3

/* Queueing a key can wait for who has queued it without committing. */
#define FILL_LOCK_TIMEOUT	"50ms"

PG_FUNCTION_INFO_V1(llama_sync_run);

/* A run, which goes over many transactions; in its own memory. */
struct LlamaSyncRun
{
	Oid			registry;
	char	   *id;
	const char *lock_timeout;	/* of the owner's statements; NULL: the session's */
	TimestampTz started;
	int			size;			/* rows of the next batch */
	bool		failed_before;	/* the run before ended with an error */
	bool		one_by_one;		/* queue one old row, not a batch of them */
	int			n_server_errors;	/* in a row */
	ErrorData  *server_error;	/* the last of them, whether in a row or not */
	Datum	   *locked;			/* places of entries whose rows are locked */
	int			n_locked;
	bool		old_locked;		/* an old row's key is being queued by another */
	int64		n_filled;
	int64		n_failed;
	ErrorData  *error;
	MemoryContext memory;
	MemoryContext step_memory;
};

/* The batch in work; in the memory of its transaction. */
typedef struct Batch
{
	LlamaSync  *sync;
	LlamaSyncRun *run;
	int64		n_picked;
	int64		n_filled;
	ItemPointerData place;		/* of the only entry, when n_picked is 1 */
	Datum		version;
} Batch;

/* ----------------------------------------------------------------
 *		Statements and what they leave
 * ----------------------------------------------------------------
 */

static SPIExecuteOptions
options_for(ParamListInfo params, DestReceiver *dest)
{
	SPIExecuteOptions options;

	memset(&options, 0, sizeof(options));
	options.params = params;
	options.dest = dest;
	return options;
}

static ParamListInfo
make_params(int n, const Oid *types, const Datum *values)
{
	ParamListInfo params = makeParamList(n);

	for (int i = 0; i < n; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = types[i];
	}
	return params;
}

/* Until the owner's rights are given up. */
static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
execute(const LlamaSync *sync, const char *template, ParamListInfo params)
{
	SPIExecuteOptions options = options_for(params, NULL);
	char	   *sql = llama_sync_sql(sync, template);
	int			result = SPI_execute_extended(sql, &options);

	if (result < 0)
		elog(ERROR, "statement of a sync failed: %s: %s", SPI_result_code_string(result), sql);
}

/* Keep the rows of a query as relation "name" of later statements; how many. */
static int64
keep(const LlamaSync *sync, const char *name, const char *template, ParamListInfo params)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));
	Tuplestorestate *rows = tuplestore_begin_heap(true, false, work_mem);
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	SPIExecuteOptions options = options_for(params, dest);
	SPIPrepareOptions prepare;
	char	   *sql = llama_sync_sql(sync, template);
	SPIPlanPtr	plan;
	CachedPlanSource *source;

	memset(&prepare, 0, sizeof(prepare));
	if (params != NULL)
	{
		prepare.parserSetup = params->parserSetup;
		prepare.parserSetupArg = params->parserSetupArg;
	}
	prepare.parseMode = RAW_PARSE_DEFAULT;
	plan = SPI_prepare_extended(sql, &prepare);
	if (plan == NULL)
		elog(ERROR, "query of a sync failed: %s", sql);
	source = linitial(SPI_plan_get_plan_sources(plan));
	relation->md.tupdesc = CreateTupleDescCopy(source->resultDesc);
	SetTuplestoreDestReceiverParams(dest, rows, CurrentMemoryContext, false, NULL, NULL);
	if (SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "query of a sync failed: %s", sql);
	dest->rDestroy(dest);

	relation->md.name = pstrdup(name);
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = tuplestore_tuple_count(rows);
	relation->reldata = rows;
	if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\"", name);
	return tuplestore_tuple_count(rows);
}

/* ----------------------------------------------------------------
 *		A batch
 * ----------------------------------------------------------------
 */

/*
 * In the order of the queue's index and no other: all rows of a statement have
 * the same time, and to sort a million of them for each batch of 200 would take
 * longer than to fill them.
 */
static const char pick_sql[] =
"SELECT $keys(q), q.version, q.ctid AS place FROM $queue q"
" WHERE q.sqlstate IS NULL AND q.queued_at OPERATOR(pg_catalog.<=) $1"
" AND (q.tried_at IS NULL OR q.tried_at OPERATOR(pg_catalog.<) $1)"
" AND q.ctid OPERATOR(pg_catalog.<>) ALL ($2)"
" ORDER BY q.tried_at NULLS FIRST, q.queued_at LIMIT $3";

/*
 * Not by way of the view: a view with a volatile function in it would compute
 * the whole table before the join.
 */
static const char compute_sql[] =
"SELECT $keys(p), p.version, p.place, $value AS value FROM picked p JOIN $target t ON $match(t,p)";

/* Entries whose rows were deleted by a statement that ran no triggers. */
static const char gone_sql[] =
"DELETE FROM $queue q WHERE q.ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
"SELECT s.ctid FROM $queue s JOIN picked p ON $same(s,p)"
" AND s.version OPERATOR(pg_catalog.=) p.version"
" WHERE NOT EXISTS (SELECT FROM $target t WHERE $match(t,p)) FOR UPDATE OF s SKIP LOCKED))";

static const char lock_sql[] =
"SELECT $keys(c), c.version, c.place, c.value FROM computed c JOIN $target t ON $match(t,c)"
" FOR NO KEY UPDATE OF t SKIP LOCKED";

static const char locked_sql[] =
"SELECT c.place FROM computed c WHERE NOT EXISTS"
" (SELECT FROM ready r WHERE r.place OPERATOR(pg_catalog.=) c.place)";

static const char write_sql[] =
"WITH done AS (DELETE FROM $queue q USING ready r WHERE $same(q,r)"
" AND q.version OPERATOR(pg_catalog.=) r.version RETURNING $keys(q))"
" UPDATE $target t SET $column = r.value FROM ready r JOIN done d ON $same(d,r) WHERE $match(t,r)";

static Datum
places_array(LlamaSyncRun *run)
{
	return PointerGetDatum(construct_array(run->locked, run->n_locked, TIDOID,
										   sizeof(ItemPointerData), false, TYPALIGN_SHORT));
}

static void
pick(Batch *batch)
{
	Oid			types[] = {TIMESTAMPTZOID, TIDARRAYOID, INT8OID};
	Datum		values[] = {
		TimestampTzGetDatum(batch->run->started), places_array(batch->run),
		Int64GetDatum(batch->run->size)
	};

	batch->n_picked = keep(batch->sync, "picked", pick_sql, make_params(3, types, values));
	if (batch->n_picked == 1)
	{
		bool		isnull;

		execute(batch->sync, "SELECT place, version FROM picked", NULL);
		batch->place = *(ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[0],
																	SPI_tuptable->tupdesc, 1,
																	&isnull));
		batch->version = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	}
}

/* They are not picked again in this run. */
static void
remember_locked(Batch *batch)
{
	LlamaSyncRun *run = batch->run;
	MemoryContext old;

	execute(batch->sync, locked_sql, NULL);
	old = MemoryContextSwitchTo(run->memory);
	run->locked = run->locked == NULL ? palloc(SPI_processed * sizeof(Datum)) :
		repalloc(run->locked, (run->n_locked + SPI_processed) * sizeof(Datum));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		place = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		run->locked[run->n_locked++] = datumCopy(place, false, sizeof(ItemPointerData));
	}
	MemoryContextSwitchTo(old);
}

static void
fill_batch(Batch *batch)
{
	int64		n_computed;
	int64		n_ready;

	pick(batch);
	if (batch->n_picked == 0)
		return;
	n_computed = keep(batch->sync, "computed", compute_sql, NULL);
	if (n_computed < batch->n_picked)
		execute(batch->sync, gone_sql, NULL);
	n_ready = keep(batch->sync, "ready", lock_sql, NULL);
	if (n_ready < n_computed)
		remember_locked(batch);
	execute(batch->sync, write_sql, NULL);
	batch->n_filled = SPI_processed;
}

/* ----------------------------------------------------------------
 *		Rows that were there before
 * ----------------------------------------------------------------
 */

/*
 * Queue the next rows and return how many they were, with the keys of the last
 * in "position".  The keys' text forms do not depend on the session's settings.
 */
static int
queue_old_rows(Batch *batch, int n_rows, List **position)
{
	LlamaSync  *sync = batch->sync;
	int			n;

	set("datestyle", "ISO");
	set("intervalstyle", "postgres");
	set("extra_float_digits", "1");
	set("lock_timeout", FILL_LOCK_TIMEOUT);
	n = keep(sync, "old", psprintf("SELECT * FROM (SELECT $columns(t) FROM $target t WHERE %s AND %s"
								   " ORDER BY $columns(t) LIMIT %d) o ($names)",
								   strcmp(sync->fill, "null") == 0 ? "t.$column IS NULL" : "true",
								   sync->position != NIL ? "$after(t)" : "true", n_rows), NULL);
	execute(sync, "INSERT INTO $queue AS q ($names, queued_at) SELECT $keys(o), '-infinity' FROM old o"
			" ON CONFLICT DO NOTHING", NULL);
	*position = NIL;
	if (n == 0)
		return 0;
	execute(sync, psprintf("SELECT $keys(o) FROM old o OFFSET %d", n - 1), NULL);
	for (int i = 0; i < sync->n_keys; i++)
		*position = lappend(*position, SPI_getvalue(SPI_tuptable->vals[0],
													SPI_tuptable->tupdesc, i + 1));
	return n;
}

/* ----------------------------------------------------------------
 *		In a subtransaction, as the owner
 * ----------------------------------------------------------------
 */

typedef void (*BatchWork) (Batch *batch, void *argument);

/*
 * Do the work in a subtransaction, as the owner and under the search_path of who
 * made the sync; false when it failed, with the error in the run.  A cancel is
 * not for us.  The price of having no way back from the owner's rights is that
 * constraints which are deferred fail, unless the owner himself is the caller.
 */
static bool
attempt(Batch *batch, BatchWork work, void *argument)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		LlamaSyncIdentity before = llama_sync_become(batch->sync->owner);

		set("search_path", batch->sync->search_path);
		set("row_security", "off");
		if (batch->run->lock_timeout != NULL)
			set("lock_timeout", batch->run->lock_timeout);
		SPI_connect();
		work(batch, argument);
		if (before.user == batch->sync->owner)
			execute(batch->sync, "SET CONSTRAINTS ALL IMMEDIATE", NULL);
		SPI_finish();
		llama_sync_become_again(before);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(batch->run->memory);
		batch->run->error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (!done && batch->run->error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(batch->run->error);
	return done;
}

static void
work_batch(Batch *batch, void *argument)
{
	fill_batch(batch);
}

typedef struct OldRows
{
	int			wanted;
	int			found;
	List	   *position;
} OldRows;

static void
work_old_rows(Batch *batch, void *argument)
{
	OldRows    *rows = argument;
	MemoryContext old;
	List	   *position;
	ListCell   *cell;

	rows->found = queue_old_rows(batch, rows->wanted, &position);
	old = MemoryContextSwitchTo(batch->run->memory);
	foreach(cell, position)
		rows->position = lappend(rows->position, pstrdup(lfirst(cell)));
	MemoryContextSwitchTo(old);
}

/* ----------------------------------------------------------------
 *		Errors
 * ----------------------------------------------------------------
 */

/*
 * Errors that say nothing about the row: of the connection, the transaction,
 * the statement's names and rights, resources, the server's state.
 */
static bool
may_be_servers(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_CONNECTION_EXCEPTION ||
		category == ERRCODE_INVALID_TRANSACTION_STATE ||
		category == ERRCODE_TRANSACTION_ROLLBACK ||
		category == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		category == ERRCODE_OPERATOR_INTERVENTION ||
		category == ERRCODE_SYSTEM_ERROR;
}

#define THIS_ENTRY \
	" WHERE q.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT s.ctid FROM $queue s" \
	" WHERE s.ctid OPERATOR(pg_catalog.=) $1 AND s.version OPERATOR(pg_catalog.=) $2" \
	" FOR UPDATE SKIP LOCKED))"

/* Mark the entry that was alone in its batch. */
static void
work_mark(Batch *batch, void *argument)
{
	ErrorData  *error = argument;
	Oid			types[] = {TIDOID, XID8OID, TEXTOID, TEXTOID};
	Datum		values[] = {
		PointerGetDatum(&batch->place), batch->version,
		CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
		CStringGetTextDatum(error->message)
	};

	if (may_be_servers(error->sqlerrcode))
		execute(batch->sync, "UPDATE $queue q SET tried_at = pg_catalog.clock_timestamp()" THIS_ENTRY,
				make_params(2, types, values));
	else
		execute(batch->sync, "UPDATE $queue q SET sqlstate = $3, message = $4,"
				" tried_at = pg_catalog.clock_timestamp()" THIS_ENTRY,
				make_params(4, types, values));
}

/* After a batch failed: fewer rows, or the row is found. */
static LlamaSyncStep
handle_failure(Batch *batch)
{
	LlamaSyncRun *run = batch->run;
	ErrorData  *error = run->error;

	if (batch->n_picked > 1)
	{
		run->size = batch->n_picked / 2;
		return LLAMA_SYNC_WORKED;
	}
	/* Nothing was picked: it is not about a row. */
	if (batch->n_picked == 0 || !attempt(batch, work_mark, error))
		return LLAMA_SYNC_FAILED;
	if (!may_be_servers(error->sqlerrcode))
	{
		run->n_failed++;
		return LLAMA_SYNC_WORKED;
	}
	run->server_error = error;
	return ++run->n_server_errors < MAX_SERVER_ERRORS ? LLAMA_SYNC_WORKED : LLAMA_SYNC_FAILED;
}

/* ----------------------------------------------------------------
 *		Steps and runs
 * ----------------------------------------------------------------
 */

/* The queue is empty: bring the next old rows into it. */
static LlamaSyncStep
step_old_rows(Batch *batch)
{
	LlamaSyncRun *run = batch->run;
	OldRows		rows = {.wanted = run->one_by_one ? 1 : batch->sync->batch_rows};

	if (batch->sync->fill == NULL)
		return LLAMA_SYNC_DONE;
	if (!attempt(batch, work_old_rows, &rows))
	{
		if (run->error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			return LLAMA_SYNC_FAILED;
		run->old_locked = run->one_by_one;
		if (run->old_locked)
			return LLAMA_SYNC_DONE;
		run->one_by_one = true;
		return LLAMA_SYNC_WORKED;
	}
	run->one_by_one = false;
	llama_sync_note_position(run->registry, run->id, rows.position, rows.found < rows.wanted);
	return LLAMA_SYNC_WORKED;
}

/* Nothing is left to do but what the server's errors kept from being done. */
static LlamaSyncStep
finish(LlamaSyncRun *run, LlamaSyncStep result)
{
	if (result != LLAMA_SYNC_DONE || run->server_error == NULL)
		return result;
	run->error = run->server_error;
	return LLAMA_SYNC_FAILED;
}

static LlamaSyncStep
step_in_transaction(LlamaSyncRun *run, LlamaSync *sync)
{
	Batch		batch = {.sync = sync, .run = run};
	LlamaSyncStep	result;

	if (!attempt(&batch, work_batch, NULL))
		result = handle_failure(&batch);
	else if (batch.n_picked == 0)
		result = finish(run, step_old_rows(&batch));
	else
	{
		run->n_server_errors = 0;
		run->n_filled += batch.n_filled;
		run->size = Min(sync->batch_rows, run->size * 2);
		result = LLAMA_SYNC_WORKED;
	}
	if (batch.n_filled > 0 || result == LLAMA_SYNC_FAILED ||
		(result == LLAMA_SYNC_DONE && sync->sqlstate != NULL))
		llama_sync_note_run(run->registry, run->id, batch.n_filled, run->n_filled, run->started,
							result == LLAMA_SYNC_FAILED ? run->error : NULL);
	return result;
}

LlamaSyncRun *
llama_sync_begin(Oid registry, const char *id, const char *lock_timeout)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "llama3 sync",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	LlamaSyncRun *run = palloc0(sizeof(LlamaSyncRun));

	run->registry = registry;
	run->id = pstrdup(id);
	run->lock_timeout = lock_timeout;
	run->started = GetCurrentTimestamp();
	run->memory = memory;
	run->step_memory = AllocSetContextCreate(memory, "llama3 sync batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	return run;
}

static LlamaSyncStep
step(LlamaSyncRun *run)
{
	LlamaSync  *sync = llama_sync_read(run->registry, run->id);
	Relation	rel;
	LlamaSyncStep result;

	if (sync == NULL || !OidIsValid(sync->owner))
		return LLAMA_SYNC_GONE;
	llama_sync_check_owner(sync);
	/* Who waits for this lock has no other that its holder could wait for. */
	LockRelationOid(sync->view, LLAMA_SYNC_LOCK);
	LockRelationOid(sync->target, AccessShareLock);
	/* It may have changed while we waited; from here on it cannot. */
	sync = llama_sync_by_id(run->registry, run->id);
	if (sync == NULL || sync->paused)
		return LLAMA_SYNC_GONE;
	llama_sync_check_whole(sync);
	if (run->size == 0)
	{
		run->size = sync->batch_rows;
		run->failed_before = sync->sqlstate != NULL;
		llama_sync_link(sync);
	}
	rel = table_open(sync->target, NoLock);
	llama_sync_check_target(rel);
	table_close(rel, NoLock);
	SPI_connect();
	result = step_in_transaction(run, sync);
	SPI_finish();
	return result;
}

LlamaSyncStep
llama_sync_step(LlamaSyncRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->step_memory);
	LlamaSyncStep result = step(run);

	MemoryContextSwitchTo(old);
	MemoryContextReset(run->step_memory);
	return result;
}

const ErrorData *
llama_sync_error(const LlamaSyncRun *run)
{
	return run->error;
}

bool
llama_sync_failed_before(const LlamaSyncRun *run)
{
	return run->failed_before;
}

int
llama_sync_n_locked(const LlamaSyncRun *run)
{
	return run->n_locked + (run->old_locked ? 1 : 0);
}

void
llama_sync_end(LlamaSyncRun *run)
{
	MemoryContextDelete(run->memory);
}

static void
run_sync(Oid registry, const char *id)
{
	LlamaSyncRun *run = llama_sync_begin(registry, id, NULL);
	LlamaSyncStep result;
	int			n_locked;

	do
	{
		CHECK_FOR_INTERRUPTS();
		result = llama_sync_step(run);
		SPI_commit();
	} while (result == LLAMA_SYNC_WORKED);

	if (result == LLAMA_SYNC_FAILED)
		ReThrowError(run->error);
	n_locked = llama_sync_n_locked(run);
	if (n_locked > 0)
		ereport(NOTICE,
				(errmsg_plural("%d row is locked by others and was left for the next run",
							   "%d rows are locked by others and were left for the next run",
							   n_locked, n_locked)));
	llama_sync_end(run);
}

Datum
llama_sync_run(PG_FUNCTION_ARGS)
{
	Oid			registry = llama_sync_registry(fcinfo->flinfo->fn_oid);
	Oid			target = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	char	   *column = PG_ARGISNULL(1) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(1)));
	List	   *list;
	ListCell   *cell;
	bool		atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;

	if (atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("llama_sync_run cannot run inside a transaction block"),
				 errdetail("It commits each batch.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("llama_sync_run needs the isolation level read committed")));
	list = llama_sync_list(registry, target, column);
	if (list == NIL && OidIsValid(target))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no column of table \"%s\" is kept in step",
						get_rel_name(target) ? get_rel_name(target) : "?")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	foreach(cell, list)
	{
		LlamaSync  *sync = lfirst(cell);

		/* One that is broken is no reason not to fill others. */
		if (sync->broken != NULL && !OidIsValid(target))
			ereport(WARNING,
					(errmsg("column \"%s\" of table \"%s\" is not filled: %s",
							llama_sync_column(sync), get_rel_name(sync->target), sync->broken)));
		else if (sync->paused)
			ereport(NOTICE,
					(errmsg("column \"%s\" of table \"%s\" is paused",
							llama_sync_column(sync), get_rel_name(sync->target))));
		else
			run_sync(registry, sync->id);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
