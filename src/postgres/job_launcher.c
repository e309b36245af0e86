/*-------------------------------------------------------------------------
 *
 * job_launcher.c
 *	  The background process that starts the workers of background jobs.
 *
 * "llama3 launcher" is connected to no database.  For each database in which
 * jobs may be due it starts a process, "llama3 job scan", which is connected
 * there as the bootstrap superuser, reads which jobs of llama_jobs are to run,
 * and ends; then the launcher starts their workers.  A scan reads the
 * extension's own tables and runs nothing that a user wrote.  It also looks
 * whether there are columns to fill (sync_worker.c).
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
#include "catalog/pg_type.h"
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
#include "sync.h"

PGDLLEXPORT void llama3_launcher_main(Datum arg);
PGDLLEXPORT void llama3_job_scan_main(Datum arg);

/*
 * How soon to look again for jobs for which there was no process, as nobody
 * tells us when somebody else's process ends; and for those that wait for their
 * turn, which they are told, to be sure.
 */
#define LLAMA_JOB_ROOM_MS		5000
#define LLAMA_JOB_TURN_MS		60000

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
set_no_room(bool no_room)
{
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	if (no_room && !llama_shared->no_room_for_jobs)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("jobs over tables wait for a free process"),
				 errhint("You might need to increase max_worker_processes.")));
	llama_shared->no_room_for_jobs = no_room;
	LWLockRelease(llama_shared->jobs_lock);
}

/* Look in the database again, when something has changed or after a while. */
static void
look_again(Oid database)
{
	llama_jobs_due(database, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LLAMA_JOB_ROOM_MS),
				   true);
}

/* Run a scan; false when there is no room for its process. */
static bool
run_scan(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	llama_background_worker(&worker, "llama3_job_scan_main", "llama3 job scan");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	pfree(handle);
	return true;
}

/* Look into one database, and start what is to run there. */
static void
scan_database(Oid database)
{
	LlamaJobStart starts[LLAMA_MAX_JOBS];
	int			n_starts;
	bool		room;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	llama_shared->n_job_starts = 0;
	LWLockRelease(llama_shared->jobs_lock);
	room = run_scan(database);
	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	n_starts = llama_shared->n_job_starts;
	memcpy(starts, llama_shared->job_starts, n_starts * sizeof(starts[0]));
	LWLockRelease(llama_shared->jobs_lock);

	/* By now the scan's own process is free for a worker. */
	for (int i = 0; i < n_starts && room; i++)
		room = llama_job_start(starts[i].job, database, starts[i].role);
	room = room && llama_sync_start_worker(database);
	if (!room)
		look_again(database);
	if (!room || n_starts > 0)
		set_no_room(!room);
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

/* Pass a job to the launcher; false when there is no room for more at once. */
static bool
pass_job(int64 job, Oid role, int room)
{
	bool		passed = false;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	if (llama_shared->n_job_starts < Min(room, LLAMA_MAX_JOBS))
	{
		llama_shared->job_starts[llama_shared->n_job_starts++] = (LlamaJobStart) {job, role};
		passed = true;
	}
	LWLockRelease(llama_shared->jobs_lock);
	return passed;
}

/* Pass the jobs that are to run now, and note in their rows that they were. */
static void
pass_due_jobs(const char *schema)
{
	TimestampTz now = GetCurrentTimestamp();
	int			room = llama3_max_jobs - llama_jobs_in_background();
	Oid			types[1] = {BOOLOID};
	Datum		values[1];
	SPITupleTable *due;
	uint64		n_due;

	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	values[0] = BoolGetDatum(llama_shared->no_room_for_jobs);
	LWLockRelease(llama_shared->jobs_lock);
	if (SPI_execute_with_args(psprintf("SELECT job, role, at FROM %s._llama_jobs_due($1)", schema),
							  1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the jobs over tables");
	due = SPI_tuptable;
	n_due = SPI_processed;
	for (uint64 i = 0; i < n_due; i++)
	{
		bool		isnull;
		int64		job = DatumGetInt64(SPI_getbinval(due->vals[i], due->tupdesc, 1, &isnull));
		Oid			role = DatumGetObjectId(SPI_getbinval(due->vals[i], due->tupdesc, 2, &isnull));
		TimestampTz at = DatumGetTimestampTz(SPI_getbinval(due->vals[i], due->tupdesc, 3, &isnull));

		if (at > now)
			llama_jobs_due(MyDatabaseId, at, false);
		else if (!pass_job(job, role, room))
		{
			llama_jobs_due(MyDatabaseId, TimestampTzPlusMilliseconds(now, LLAMA_JOB_TURN_MS), true);
			break;
		}
		else if (SPI_execute(psprintf("SELECT %s._llama_job_note_start(" INT64_FORMAT ")", schema, job),
							 false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not note the start of a job");
	}
}

void
llama3_job_scan_main(Datum arg)
{
	char	   *schema;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	schema = llama_extension_schema();
	if (schema != NULL)
		pass_due_jobs(schema);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	llama_sync_scan();
	proc_exit(0);
}
