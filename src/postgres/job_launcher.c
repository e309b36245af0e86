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
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "job.h"
#include "shmem.h"
#include "sync.h"

PGDLLEXPORT void llama3_launcher_main(Datum arg);
PGDLLEXPORT void llama3_job_scan_main(Datum arg);

/*
 * How soon to look again for jobs for which there was no process or whose rows
 * were locked, as nobody tells us when that ends; and for those that wait for their
 * turn, which they are told, to be sure.
 */
#define LLAMA_JOB_ROOM_MS		5000
#define LLAMA_JOB_TURN_MS		60000

/* The launcher sleeps no longer at once, which is within the range of a timeout. */
#define LLAMA_LAUNCHER_NAP_MS	3600000

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
			timeout = Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), LLAMA_LAUNCHER_NAP_MS);
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

/* What a scan looks with. */
typedef struct JobScan
{
	const char *schema;
	TimestampTz now;
	int			room;			/* so many jobs can be started at once */
	bool		no_room;		/* last time there was no process for one */
} JobScan;

/* A job that is due, as in _llama_jobs_due. */
typedef struct DueJob
{
	int64		job;
	Oid			role;
	TimestampTz at;
} DueJob;

/* Jobs that were passed to the launcher; nobody else passes it some meanwhile. */
static int
jobs_passed(void)
{
	int			n;

	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	n = llama_shared->n_job_starts;
	LWLockRelease(llama_shared->jobs_lock);
	return n;
}

static void
pass_job(const DueJob *due)
{
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	llama_shared->job_starts[llama_shared->n_job_starts++] = (LlamaJobStart) {due->job, due->role};
	LWLockRelease(llama_shared->jobs_lock);
}

/* Pass the job if it is to run now, and note that in its row; false when it has to wait for its turn. */
static bool
pass_if_due(const JobScan *scan, const DueJob *due)
{
	Datum		args[2] = {Int64GetDatum(due->job), BoolGetDatum(scan->no_room)};

	if (!DatumGetBool(llama_call_internal(scan->schema, "_llama_job_look(bigint,boolean)", 2, args)))
		return true;
	if (due->at > scan->now && !scan->no_room)
	{
		llama_jobs_due(MyDatabaseId, due->at, false);
		return true;
	}
	if (jobs_passed() >= scan->room)
		return false;
	(void) llama_call_internal(scan->schema, "_llama_job_note_start(bigint)", 1, args);
	pass_job(due);
	return true;
}

/*
 * The same in a subtransaction: whatever a user has made of his job's row, the
 * jobs of others are looked at, and his again after a while.
 */
static bool
look_at_job(const JobScan *scan, const DueJob *due)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool had_its_turn = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		had_its_turn = pass_if_due(scan, due);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		look_again(MyDatabaseId);
		/* Its owner is changing it. */
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("could not look at job " INT64_FORMAT ": %s", due->job, error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return had_its_turn;
}

/* Pass the jobs that are to run now, and note in their rows that they were. */
static void
pass_due_jobs(const char *schema)
{
	JobScan		scan = {.schema = schema, .now = GetCurrentTimestamp()};
	int			room = llama3_max_jobs - llama_jobs_in_background();
	SPITupleTable *due;
	uint64		n_due;
	bool		all_had_their_turn = true;

	scan.room = Min(room, LLAMA_MAX_JOBS);
	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	scan.no_room = llama_shared->no_room_for_jobs;
	LWLockRelease(llama_shared->jobs_lock);

	if (SPI_execute(psprintf("SELECT job, role, at FROM %s._llama_jobs_due", schema), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the jobs over tables");
	due = SPI_tuptable;
	n_due = SPI_processed;
	for (uint64 i = 0; i < n_due; i++)
	{
		bool		isnull;
		DueJob		job = {
			.job = DatumGetInt64(SPI_getbinval(due->vals[i], due->tupdesc, 1, &isnull)),
			.role = DatumGetObjectId(SPI_getbinval(due->vals[i], due->tupdesc, 2, &isnull)),
			.at = DatumGetTimestampTz(SPI_getbinval(due->vals[i], due->tupdesc, 3, &isnull))
		};

		all_had_their_turn &= look_at_job(&scan, &job);
		CHECK_FOR_INTERRUPTS();
	}
	if (!all_had_their_turn)
		llama_jobs_due(MyDatabaseId, TimestampTzPlusMilliseconds(scan.now, LLAMA_JOB_TURN_MS), true);
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
