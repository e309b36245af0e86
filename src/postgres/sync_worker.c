/*-------------------------------------------------------------------------
 *
 * sync_worker.c
 *	  The background process that fills the columns of a database.
 *
 * "llama3 sync" does so for all syncs of its database, batch by batch in turn,
 * so that one that fills a large table does not keep the others waiting.  It is
 * connected as the bootstrap superuser, because owners of tables need not be
 * able to log in; each batch runs with its owner's rights and no way back
 * (sync_run.c).
 *
 * Who queues rows tells the worker when he commits, and sets its latch.  (The
 * latch alone would not do: requests to the engine wait on it too.)  Where there
 * is no worker he asks the launcher (job_launcher.c), whose scan of the database
 * starts one; so does the launcher's first look after a start of the server.
 * A worker that has nothing to do ends after a short while: it would stand in
 * the way of DROP DATABASE.  Nothing polls.
 *
 * One sync does not keep the others from their work.  Each is looked at and run
 * in transactions of its own, whose errors are its own; and we wait for nobody's
 * lock for long, but come back later.  The owner's statements wait as long as
 * lock_timeout says.
 *
 * Shared memory, under jobs_lock, knows the databases' workers, and when one was
 * asked for, so that many commits do not ask many times.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "job.h"
#include "shmem.h"
#include "sync.h"

PGDLLEXPORT void llama3_sync_main(Datum arg);

/* How long a worker stays for more work.  DROP DATABASE waits for 5 s. */
#define LINGER_MS			3000
/* Changes that come so close together are looked at together. */
#define GATHER_MS			100
/* After an error that was not a row's. */
#define ERROR_RETRY_MS		10000
/* How long we wait for a lock on a table of somebody's. */
#define LOCK_TIMEOUT		"100ms"
/* Rows and tables that others have locked: at first, and then twice as long each time. */
#define LOCKED_RETRY_MS		1000
#define LOCKED_RETRY_MAX_MS	60000
/* A scan that finds nothing (paused) is not asked for more often. */
#define SCAN_INTERVAL_MS	1000
/* A worker that was asked for must be there by then, or is asked for again. */
#define START_MS			5000

/* What a worker is told, in bgw_extra. */
typedef struct SyncArguments
{
	Oid			database;
	Oid			registry;
} SyncArguments;

static SyncArguments arguments;
static MemoryContext work_memory;
static const char *owners_lock_timeout;

static bool wake_at_commit = false;
static bool callback_registered = false;

/* ----------------------------------------------------------------
 *		Waking and asking
 * ----------------------------------------------------------------
 */

/* The database's entry, or a new one; NULL when all are taken.  Hold jobs_lock. */
static LlamaSyncWorker *
find_entry(Oid database)
{
	LlamaSyncWorker *free = NULL;

	for (int i = 0; i < LLAMA_MAX_JOB_DATABASES; i++)
	{
		LlamaSyncWorker *entry = &llama_shared->sync_workers[i];

		if (entry->database == database)
			return entry;
		if (free == NULL && entry->pid == 0 && entry->asked == 0)
			free = entry;
	}
	if (free != NULL)
	{
		memset(free, 0, sizeof(*free));
		free->database = database;
	}
	return free;
}

static TimestampTz
from_now(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* There is something to fill in this database. */
static void
wake(void)
{
	LlamaSyncWorker *entry;
	TimestampTz at = GetCurrentTimestamp();
	bool		ask = true;

	if (llama3_max_jobs == 0)
		return;
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	entry = find_entry(MyDatabaseId);
	if (entry != NULL && entry->pid != 0)
	{
		entry->changed = true;
		SetLatch(&ProcGlobal->allProcs[entry->proc_number].procLatch);
		ask = false;
	}
	else if (entry != NULL)
	{
		ask = entry->asked == 0 || entry->asked < from_now(-START_MS);
		if (ask)
			entry->asked = at;
		at = Max(at, TimestampTzPlusMilliseconds(entry->scanned, SCAN_INTERVAL_MS));
	}
	LWLockRelease(llama_shared->jobs_lock);
	if (ask)
		llama_jobs_due(MyDatabaseId, at, false);
}

/*
 * Rows of a prepared transaction are found when somebody wakes the worker next:
 * who commits it does not know of them.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (wake_at_commit && event == XACT_EVENT_COMMIT)
		wake();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wake_at_commit = false;
}

void
llama_sync_wake_at_commit(void)
{
	/* Not preloaded: there is no background. */
	if (llama_shared == NULL)
		return;
	if (!callback_registered)
		RegisterXactCallback(at_transaction_end, NULL);
	callback_registered = true;
	wake_at_commit = true;
}

/* ----------------------------------------------------------------
 *		Transactions
 * ----------------------------------------------------------------
 */

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(work_memory);
}

/* Work about one sync, in a transaction; returns the error that ended it or NULL. */
static ErrorData *
attempt(void (*work) (void *argument), void *argument)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		begin_transaction();
		work(argument);
		end_transaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(work_memory);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(work_memory);
	}
	PG_END_TRY();
	return error;
}

/* For a scan or a worker, which wait for nobody. */
static void
prepare_session(void)
{
	work_memory = AllocSetContextCreate(TopMemoryContext, "llama3 sync worker",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work_memory);
	owners_lock_timeout = pstrdup(GetConfigOption("lock_timeout", false, false));
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
}

/* ----------------------------------------------------------------
 *		When a sync is to be filled
 * ----------------------------------------------------------------
 */

#define NEVER	(-1)
#define NOW		0

typedef struct Look
{
	Oid			registry;
	const char *id;
	TimestampTz due;			/* or NEVER, or NOW */
	bool		locked;			/* it could not be looked at */
} Look;

static void
work_look(void *argument)
{
	Look	   *look = argument;
	LlamaSync  *sync = llama_sync_by_id(look->registry, look->id);

	look->due = NEVER;
	if (sync == NULL || sync->broken != NULL || !sync->background || sync->paused ||
		(sync->fill == NULL && !llama_sync_is_pending(sync)))
		return;
	look->due = sync->sqlstate == NULL ? NOW :
		TimestampTzPlusMilliseconds(sync->run_ended, ERROR_RETRY_MS);
	if (look->due <= GetCurrentTimestamp())
		look->due = NOW;
}

typedef struct Note
{
	Oid			registry;
	const char *id;
	const ErrorData *error;
} Note;

static void
work_note(void *argument)
{
	Note	   *note = argument;

	SPI_connect();
	llama_sync_note_run(note->registry, note->id, 0, 0, GetCurrentTimestamp(), note->error);
	SPI_finish();
}

/* What llama_sync_lag is to show; what cannot be written now is shown later. */
static void
note_error(Oid registry, const char *id, const ErrorData *error)
{
	Note		note = {.registry = registry, .id = id, .error = error};
	ErrorData  *again = attempt(work_note, &note);

	if (again != NULL)
		FreeErrorData(again);
}

static Look
look_at(Oid registry, const char *id)
{
	Look		look = {.registry = registry, .id = id};
	ErrorData  *error = attempt(work_look, &look);

	if (error == NULL)
		return look;
	look.due = from_now(ERROR_RETRY_MS);
	look.locked = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	if (!look.locked)
		note_error(registry, id, error);
	FreeErrorData(error);
	return look;
}

/* Ids of the registry's syncs, in work_memory; the registry exists. */
static List *
list_ids(Oid registry)
{
	MemoryContext old = MemoryContextSwitchTo(work_memory);
	List	   *ids = llama_sync_ids(registry);

	MemoryContextSwitchTo(old);
	return ids;
}

/* ----------------------------------------------------------------
 *		Starting a worker: a scan of the database wants it, the launcher does it
 * ----------------------------------------------------------------
 */

/* The registry of this database, InvalidOid if the extension is not there. */
static Oid
find_registry(void)
{
	Oid			registry = InvalidOid;
	bool		isnull;

	SPI_connect();
	if (SPI_execute("SELECT c.oid FROM pg_catalog.pg_extension e, pg_catalog.pg_class c"
					" WHERE e.extname OPERATOR(pg_catalog.=) 'llama3'"
					" AND c.relnamespace OPERATOR(pg_catalog.=) e.extnamespace"
					" AND c.relname OPERATOR(pg_catalog.=) 'llama_sync_registry'",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the registry of syncs");
	if (SPI_processed > 0)
		registry = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
												  1, &isnull));
	SPI_finish();
	return registry;
}

/* When there is something to do. */
static TimestampTz
when_due(Oid registry, List *ids)
{
	ListCell   *cell;
	TimestampTz due = NEVER;

	foreach(cell, ids)
	{
		TimestampTz at = look_at(registry, lfirst(cell)).due;

		if (at == NOW)
			return NOW;
		if (at != NEVER && (due == NEVER || at < due))
			due = at;
	}
	return due;
}

/* What is asked from here on is not answered by what we see.  False: there is one. */
static bool
take_question(void)
{
	LlamaSyncWorker *entry;
	bool		alive;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	entry = find_entry(MyDatabaseId);
	alive = entry != NULL && entry->pid != 0;
	if (entry != NULL)
	{
		entry->asked = 0;
		entry->scanned = GetCurrentTimestamp();
	}
	LWLockRelease(llama_shared->jobs_lock);
	return !alive;
}

static void
want_worker(Oid registry)
{
	LlamaSyncWorker *entry;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	entry = find_entry(MyDatabaseId);
	if (entry != NULL)
	{
		entry->registry = registry;
		entry->asked = GetCurrentTimestamp();
	}
	LWLockRelease(llama_shared->jobs_lock);
}

void
llama_sync_scan(void)
{
	Oid			registry;
	List	   *ids = NIL;
	TimestampTz due;

	if (!take_question() || llama3_max_jobs == 0)
		return;
	prepare_session();
	begin_transaction();
	registry = find_registry();
	if (OidIsValid(registry))
		ids = list_ids(registry);
	end_transaction();
	due = when_due(registry, ids);
	if (due == NOW)
		want_worker(registry);
	else if (due != NEVER)
		llama_jobs_due(MyDatabaseId, due, false);
}

bool
llama_sync_start_worker(Oid database)
{
	BackgroundWorker worker;
	SyncArguments args = {.database = database};
	LlamaSyncWorker *entry;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	entry = find_entry(database);
	if (entry != NULL && entry->pid == 0)
		args.registry = entry->registry;
	if (entry != NULL)
		entry->registry = InvalidOid;
	LWLockRelease(llama_shared->jobs_lock);
	if (!OidIsValid(args.registry))
		return true;

	StaticAssertStmt(sizeof(args) <= BGW_EXTRALEN, "a worker's arguments fit");
	llama_background_worker(&worker, "llama3_sync_main", "llama3 sync");
	memcpy(worker.bgw_extra, &args, sizeof(args));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* ----------------------------------------------------------------
 *		The worker
 * ----------------------------------------------------------------
 */

/* A sync that this worker has seen. */
typedef struct Work
{
	char	   *id;
	LlamaSyncRun *run;			/* NULL: no run is going on */
	/* No other is begun before these times; 0: it is when there are changes. */
	TimestampTz after_error;
	TimestampTz after_locks;
	int			locked_retry_ms;
} Work;

static List *works = NIL;

static Work *
find_work(const char *id)
{
	ListCell   *cell;
	Work	   *work;

	foreach(cell, works)
	{
		work = lfirst(cell);
		if (strcmp(work->id, id) == 0)
			return work;
	}
	work = palloc0(sizeof(Work));
	work->id = pstrdup(id);
	works = lappend(works, work);
	return work;
}

/* Others hold locks: come back later, and later each time. */
static void
wait_for_locks(Work *work)
{
	work->locked_retry_ms = work->locked_retry_ms == 0 ? LOCKED_RETRY_MS :
		Min(work->locked_retry_ms * 2, LOCKED_RETRY_MAX_MS);
	work->after_locks = from_now(work->locked_retry_ms);
}

static void
begin_run(Work *work)
{
	Look		look;

	if (work->run != NULL || work->after_locks != 0)
		return;
	look = look_at(arguments.registry, work->id);
	if (look.locked)
		wait_for_locks(work);
	else if (look.due == NOW)
		work->run = llama_sync_begin(arguments.registry, work->id, owners_lock_timeout);
	else if (look.due != NEVER)
		work->after_error = look.due;
}

/* Begin a run of every sync that has none; false when the registry is gone. */
static bool
begin_runs(void)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *ids = NIL;
	ListCell   *cell;
	bool		exists;

	foreach(cell, works)
	{
		Work	   *work = lfirst(cell);

		/* Unless the registry still says so. */
		work->after_error = 0;
		if (work->after_locks <= now)
			work->after_locks = 0;
	}
	begin_transaction();
	exists = get_rel_name(arguments.registry) != NULL;
	if (exists)
		ids = list_ids(arguments.registry);
	end_transaction();
	foreach(cell, ids)
		begin_run(find_work(lfirst(cell)));
	list_free_deep(ids);
	return exists;
}

/* Once, and not at each attempt. */
static void
report_error(const LlamaSyncRun *run, const char *message)
{
	if (llama_sync_failed_before(run))
		return;
	ereport(LOG,
			(errmsg("could not fill a column that is kept in step: %s", message),
			 errdetail("It is tried again every %d seconds.", ERROR_RETRY_MS / 1000)));
}

typedef struct Batch
{
	LlamaSyncRun *run;
	LlamaSyncStep result;
} Batch;

static void
work_step(void *argument)
{
	Batch	   *batch = argument;

	batch->result = llama_sync_step(batch->run);
}

/* One batch.  An error that is raised is no batch's: the sync cannot be run now. */
static LlamaSyncStep
step(const Work *work)
{
	Batch		batch = {.run = work->run};
	ErrorData  *error = attempt(work_step, &batch);

	if (error == NULL)
	{
		if (batch.result == LLAMA_SYNC_FAILED)
			report_error(work->run, llama_sync_error(work->run)->message);
		return batch.result;
	}
	batch.result = LLAMA_SYNC_LOCKED;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
	{
		report_error(work->run, error->message);
		note_error(arguments.registry, work->id, error);
		batch.result = LLAMA_SYNC_FAILED;
	}
	FreeErrorData(error);
	return batch.result;
}

static void
end_run(Work *work, LlamaSyncStep result)
{
	if (result == LLAMA_SYNC_LOCKED || llama_sync_n_locked(work->run) > 0)
		wait_for_locks(work);
	else
		work->locked_retry_ms = 0;
	if (result == LLAMA_SYNC_FAILED)
		work->after_error = from_now(ERROR_RETRY_MS);
	llama_sync_end(work->run);
	work->run = NULL;
}

/*
 * A batch of every run; false when there was no run.  *ended is set when one
 * has come to its end: changes since its beginning are not in it.
 */
static bool
step_runs(bool *ended)
{
	ListCell   *cell;
	bool		busy = false;

	*ended = false;

	foreach(cell, works)
	{
		Work	   *work = lfirst(cell);
		LlamaSyncStep result;

		if (work->run == NULL)
			continue;
		busy = true;
		result = step(work);
		if (result != LLAMA_SYNC_WORKED)
		{
			end_run(work, result);
			*ended = true;
		}
		CHECK_FOR_INTERRUPTS();
	}
	return busy;
}

/* When the first run is to be begun without being woken; 0: never. */
static TimestampTz
next_run(void)
{
	ListCell   *cell;
	TimestampTz next = 0;

	foreach(cell, works)
	{
		Work	   *work = lfirst(cell);
		TimestampTz at = Max(work->after_error, work->after_locks);

		if (work->run == NULL && at != 0 && (next == 0 || at < next))
			next = at;
	}
	return next;
}

/* Are there changes since this was asked?  Then we look now. */
static bool
take_changes(void)
{
	bool		changed = false;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	for (int i = 0; i < LLAMA_MAX_JOB_DATABASES; i++)
	{
		LlamaSyncWorker *entry = &llama_shared->sync_workers[i];

		if (entry->pid == MyProcPid)
		{
			changed = entry->changed;
			entry->changed = false;
		}
	}
	LWLockRelease(llama_shared->jobs_lock);
	return changed;
}

/* Nothing to do: wait for more.  False when it is time to end. */
static bool
wait_for_work(void)
{
	TimestampTz next = next_run();
	long		timeout = LINGER_MS;
	bool		at_next = false;
	int			events;

	if (next != 0)
	{
		long		until = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);

		at_next = until <= timeout;
		timeout = Min(timeout, until);
	}
	pgstat_report_activity(STATE_IDLE, "llama3 sync: idle");
	events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return at_next || (events & WL_LATCH_SET) != 0;
}

static bool
enter_shared(void)
{
	LlamaSyncWorker *entry;
	bool		entered;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	entry = find_entry(arguments.database);
	entered = entry != NULL && entry->pid == 0;
	if (entered)
	{
		entry->pid = MyProcPid;
		entry->proc_number = llama_proc_number(MyProc);
		entry->asked = 0;
	}
	LWLockRelease(llama_shared->jobs_lock);
	return entered;
}

/*
 * Who has told us of changes thinks that we look.  Whoever comes now finds no
 * worker and asks for one.
 */
static void
leave_shared(int code, Datum arg)
{
	TimestampTz next = next_run();
	bool		changed = take_changes();

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	for (int i = 0; i < LLAMA_MAX_JOB_DATABASES; i++)
	{
		LlamaSyncWorker *entry = &llama_shared->sync_workers[i];

		if (entry->pid == MyProcPid)
			memset(entry, 0, sizeof(*entry));
	}
	LWLockRelease(llama_shared->jobs_lock);
	if (code != 0 || changed)
		llama_jobs_due(arguments.database, from_now(code == 0 ? 0 : LOCKED_RETRY_MS), false);
	else if (next != 0)
		llama_jobs_due(arguments.database, next, false);
}

static void
fill_until_idle(void)
{
	TimestampTz looked = 0;
	bool		look = true;

	for (;;)
	{
		if (take_changes() || look)
		{
			looked = GetCurrentTimestamp();
			pgstat_report_activity(STATE_RUNNING, "llama3 sync: filling columns");
			if (!begin_runs())
				return;
		}
		if (step_runs(&look))
		{
			pgstat_report_stat(false);
			continue;
		}
		pgstat_report_stat(true);
		if (!take_changes() && !wait_for_work())
			return;
		look = true;
		while (!TimestampDifferenceExceeds(looked, GetCurrentTimestamp(), GATHER_MS))
		{
			pg_usleep(GATHER_MS * 1000 / 4);
			CHECK_FOR_INTERRUPTS();
		}
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

void
llama3_sync_main(Datum arg)
{
	memcpy(&arguments, MyBgworkerEntry->bgw_extra, sizeof(arguments));
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!enter_shared())
		proc_exit(0);
	before_shmem_exit(leave_shared, 0);
	BackgroundWorkerInitializeConnectionByOid(arguments.database, InvalidOid, 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
	prepare_session();
	fill_until_idle();
	proc_exit(0);
}
