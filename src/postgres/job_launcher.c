/*-------------------------------------------------------------------------
 *
 * job_launcher.c
 *	  The background process that starts the workers of background jobs.
 *
 * "llama3 launcher" is connected to no database.  For each database in which
 * jobs may be due it starts a process, "llama3 job scan", which is connected
 * there as the bootstrap superuser, reads which jobs of llama_jobs are to run,
 * starts their workers, and ends.  It runs one query on the extension's own
 * tables and nothing that a user wrote.
 *
 * The launcher looks in all databases when it starts: after a crash or a restart
 * of the server, jobs that were running go on.  After that it sleeps until it is
 * told of a database (llama_jobs_due): by the commit of who started a job, by
 * a worker that ends, or by a scan that found a job which is to run later.
 *
 * It runs on primaries only, because jobs write.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "job.h"
#include "shmem.h"

PGDLLEXPORT void llama3_launcher_main(Datum arg);
PGDLLEXPORT void llama3_job_scan_main(Datum arg);

/* How soon to look again for what could not be started now. */
#define LLAMA_JOB_ROOM_MS		5000

/* ----------------------------------------------------------------
 *		The launcher
 * ----------------------------------------------------------------
 */

/* Databases that can be connected to, in the current context. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!database->datallowconn || database->datistemplate ||
			database_is_invalid_form(database))
			continue;
		old = MemoryContextSwitchTo(context);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

/*
 * Take the databases that are due; all: all of them are.  Returns when the next
 * one is, 0 for never.
 */
static TimestampTz
take_due(List **due, bool *all)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;

	*due = NIL;
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	*all = llama_shared->job_databases_due != 0 && llama_shared->job_databases_due <= now;
	if (*all)
		llama_shared->job_databases_due = 0;
	else
		next = llama_shared->job_databases_due;
	for (int i = 0; i < LLAMA_MAX_JOB_DATABASES; i++)
	{
		LlamaJobDatabase *entry = &llama_shared->job_databases[i];

		if (entry->database == InvalidOid)
			continue;
		if (entry->due <= now)
		{
			*due = lappend_oid(*due, entry->database);
			memset(entry, 0, sizeof(*entry));
		}
		else if (next == 0 || entry->due < next)
			next = entry->due;
	}
	LWLockRelease(llama_shared->jobs_lock);
	return next;
}

static void
scan_database(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "llama3", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "llama3_job_scan_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "llama3 job scan", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "llama3 job scan", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		llama_jobs_due(database, TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
															 LLAMA_JOB_ROOM_MS), true);
		return;
	}
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	pfree(handle);
}

static void
scan_due(List *due, bool all)
{
	List	   *existing = list_databases();
	ListCell   *cell;

	foreach(cell, existing)
	{
		if (all || list_member_oid(due, lfirst_oid(cell)))
			scan_database(lfirst_oid(cell));
		CHECK_FOR_INTERRUPTS();
	}
}

static void
launcher_at_exit(int code, Datum arg)
{
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	llama_shared->launcher_pid = 0;
	/* The next one begins with all, as this one did. */
	LWLockRelease(llama_shared->jobs_lock);
}

void
llama3_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* There is no statement to cancel. */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	before_shmem_exit(launcher_at_exit, 0);
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	llama_shared->launcher_pid = MyProcPid;
	llama_shared->launcher_proc_number = llama_proc_number(MyProc);
	llama_shared->job_databases_due = GetCurrentTimestamp();
	LWLockRelease(llama_shared->jobs_lock);

	context = AllocSetContextCreate(TopMemoryContext, "llama3 launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, "llama3 launcher: idle");
	for (;;)
	{
		List	   *due;
		bool		all;
		TimestampTz next = take_due(&due, &all);
		long		timeout = -1;

		if (all || due != NIL)
		{
			pgstat_report_activity(STATE_RUNNING, "llama3 launcher: looking for jobs");
			scan_due(due, all);
			pgstat_report_activity(STATE_IDLE, "llama3 launcher: idle");
			MemoryContextReset(context);
			continue;
		}
		if (next != 0)
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			/* llama3.max_jobs may be larger now. */
			LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
			llama_shared->job_databases_due = GetCurrentTimestamp();
			LWLockRelease(llama_shared->jobs_lock);
		}
	}
}

/* ----------------------------------------------------------------
 *		A scan of one database
 * ----------------------------------------------------------------
 */

typedef struct DueJob
{
	int64		job;
	Oid			role;
	TimestampTz at;
} DueJob;

/* Jobs that are to run, by their time.  In a transaction; the array is in context. */
static int
read_due_jobs(const char *schema, DueJob **jobs, MemoryContext context)
{
	char	   *query = psprintf("SELECT job, role, at FROM %s._llama_jobs_due()", schema);

	if (SPI_execute(query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the jobs over tables");
	*jobs = MemoryContextAlloc(context, Max(SPI_processed, 1) * sizeof(DueJob));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		(*jobs)[i].job = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		(*jobs)[i].role = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		(*jobs)[i].at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	return (int) SPI_processed;
}

/* Note in the job's row what was tried: counted, so that failures get rarer. */
static void
note_start(const char *schema, int64 job, bool started)
{
	char	   *query = psprintf("SELECT %s._llama_job_note_start(" INT64_FORMAT ", %s)",
								 schema, job, started ? "true" : "false");

	if (SPI_execute(query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note the start of a job");
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}

/* Start what can be started; tell the launcher when to look again for the rest. */
static void
start_due_jobs(const char *schema, const DueJob *jobs, int n_jobs)
{
	TimestampTz now = GetCurrentTimestamp();
	int			running = llama_jobs_in_background();

	for (int i = 0; i < n_jobs; i++)
	{
		bool		started;

		if (jobs[i].at > now)
		{
			llama_jobs_due(MyDatabaseId, jobs[i].at, false);
			continue;
		}
		if (running >= llama3_max_jobs)
		{
			llama_jobs_due(MyDatabaseId, TimestampTzPlusMilliseconds(now, LLAMA_JOB_ROOM_MS), true);
			break;
		}
		/* Before the worker can say that it is there. */
		begin_transaction();
		note_start(schema, jobs[i].job, true);
		end_transaction();
		started = llama_job_start(jobs[i].job, jobs[i].role);
		if (!started)
		{
			begin_transaction();
			note_start(schema, jobs[i].job, false);
			end_transaction();
			llama_jobs_due(MyDatabaseId, TimestampTzPlusMilliseconds(now, LLAMA_JOB_ROOM_MS), true);
			break;
		}
		running++;
	}
}

void
llama3_job_scan_main(Datum arg)
{
	MemoryContext context;
	DueJob	   *jobs = NULL;
	int			n_jobs = 0;
	char	   *schema;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);

	context = AllocSetContextCreate(TopMemoryContext, "llama3 job scan", ALLOCSET_DEFAULT_SIZES);
	begin_transaction();
	schema = llama_extension_schema();
	if (schema != NULL)
	{
		schema = MemoryContextStrdup(context, schema);
		n_jobs = read_due_jobs(schema, &jobs, context);
	}
	end_transaction();
	MemoryContextSwitchTo(context);
	start_due_jobs(schema, jobs, n_jobs);
	proc_exit(0);
}
