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
/* Rows that others have locked: at first, and then twice as long each time. */
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
 *		Starting a worker: a scan of the database wants it, the launcher does it
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
}

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

/* Is it to be filled in the background, and not before when? */
static bool
wants_worker(const LlamaSync *sync, TimestampTz *at)
{
	if (!sync->background || sync->paused)
		return false;
	*at = sync->sqlstate == NULL ? 0 :
		TimestampTzPlusMilliseconds(sync->run_ended, ERROR_RETRY_MS);
	return sync->fill != NULL || llama_sync_is_pending(sync);
}

/* When there is something to do: 0 for now, -1 for never. */
static TimestampTz
when_due(Oid registry)
{
	List	   *list = llama_sync_list(registry, InvalidOid, NULL);
	ListCell   *cell;
	TimestampTz due = -1;

	foreach(cell, list)
	{
		TimestampTz at;

		if (wants_worker(lfirst(cell), &at) && (due < 0 || at < due))
			due = at;
	}
	return due <= GetCurrentTimestamp() && due > 0 ? 0 : due;
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
	TimestampTz due = -1;

	if (!take_question() || llama3_max_jobs == 0)
		return;
	begin_transaction();
	registry = find_registry();
	if (OidIsValid(registry))
		due = when_due(registry);
	end_transaction();
	if (due == 0)
		want_worker(registry);
	else if (due > 0)
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
static MemoryContext work_memory;

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

/* Begin a run of every sync that has none; false when the registry is gone. */
static bool
begin_runs(void)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *list;
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
	list = exists ? llama_sync_list(arguments.registry, InvalidOid, NULL) : NIL;
	MemoryContextSwitchTo(work_memory);
	foreach(cell, list)
	{
		LlamaSync  *sync = lfirst(cell);
		Work	   *work = find_work(sync->id);
		TimestampTz at = 0;

		if (work->run != NULL || !wants_worker(sync, &at))
			continue;
		if (at > now)
			work->after_error = at;
		else if (work->after_locks == 0)
			work->run = llama_sync_begin(arguments.registry, sync->id);
	}
	end_transaction();
	MemoryContextSwitchTo(work_memory);
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

/* One batch.  An error that is raised is no batch's: the sync cannot be run now. */
static LlamaSyncStep
step(const Work *work)
{
	LlamaSyncRun *run = work->run;
	volatile LlamaSyncStep result = LLAMA_SYNC_FAILED;

	PG_TRY();
	{
		begin_transaction();
		result = llama_sync_step(run);
		end_transaction();
		MemoryContextSwitchTo(work_memory);
		if (result == LLAMA_SYNC_FAILED)
			report_error(run, llama_sync_error(run)->message);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(work_memory);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(work_memory);
		report_error(run, error->message);
		begin_transaction();
		llama_sync_note_error(arguments.registry, work->id, error);
		end_transaction();
		MemoryContextSwitchTo(work_memory);
		FreeErrorData(error);
		result = LLAMA_SYNC_FAILED;
	}
	PG_END_TRY();
	return result;
}

static void
end_run(Work *work, LlamaSyncStep result)
{
	if (llama_sync_n_locked(work->run) == 0)
		work->locked_retry_ms = 0;
	else
	{
		work->locked_retry_ms = work->locked_retry_ms == 0 ? LOCKED_RETRY_MS :
			Min(work->locked_retry_ms * 2, LOCKED_RETRY_MAX_MS);
		work->after_locks = from_now(work->locked_retry_ms);
	}
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

	work_memory = AllocSetContextCreate(TopMemoryContext, "llama3 sync worker",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work_memory);
	fill_until_idle();
	proc_exit(0);
}
