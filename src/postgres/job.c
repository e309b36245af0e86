/*-------------------------------------------------------------------------
 *
 * job.c
 *	  Which process does which job over a table.
 *
 * A job's state is in the tables llama_jobs and llama_job_rows, and the logic is
 * PL/pgSQL (llama3--1.0.sql).  What a table cannot tell is whether the process
 * that does a job is alive: that is here, in shared memory, so that it is right
 * after every way in which a process can end.
 *
 * A process does one job at a time.  It holds the job's slot over the many
 * transactions of the job, and lets go of it when one of them aborts, or when
 * the process exits; after a crash shared memory is new.
 *
 * Background jobs are started by the launcher (job_launcher.c), which is told
 * here in which databases to look.
 *
 * A slot is found by database, job and role.  The role is part of it because
 * anybody may call llama_job_attach: with a number that is not one of his jobs
 * he keeps nobody from his own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "job.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(llama_refuse_transaction_block);
PG_FUNCTION_INFO_V1(llama_job_attach);
PG_FUNCTION_INFO_V1(llama_job_detach);
PG_FUNCTION_INFO_V1(llama_job_tokens);
PG_FUNCTION_INFO_V1(llama_job_rate);
PG_FUNCTION_INFO_V1(llama_job_wake);
PG_FUNCTION_INFO_V1(llama_jobs_attached);
PG_FUNCTION_INFO_V1(llama_job_signal);
PG_FUNCTION_INFO_V1(llama_job_target);

/* This process's slot; NULL while it does no job. */
static LlamaJobSlot *attached = NULL;
static int64 tokens_before;		/* llama_tokens_used when it began */
static bool wake_at_commit = false;
static bool callbacks_registered = false;

bool		llama_job_worker = false;

/* ----------------------------------------------------------------
 *		Telling the launcher
 * ----------------------------------------------------------------
 */

/* Wake the launcher; hold jobs_lock. */
static void
wake_launcher(void)
{
	if (llama_shared->launcher_pid != 0)
		SetLatch(&ProcGlobal->allProcs[llama_shared->launcher_proc_number].procLatch);
}

void
llama_jobs_due(Oid database, TimestampTz at, bool waiting)
{
	LlamaJobDatabase *entry = NULL;

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	for (int i = 0; i < LLAMA_MAX_JOB_DATABASES; i++)
	{
		LlamaJobDatabase *other = &llama_shared->job_databases[i];

		if (other->database == database)
		{
			entry = other;
			break;
		}
		if (entry == NULL && other->database == InvalidOid)
			entry = other;
	}
	if (entry == NULL)
	{
		/* Too many to remember which. */
		if (llama_shared->job_databases_due == 0 || at < llama_shared->job_databases_due)
			llama_shared->job_databases_due = at;
	}
	else if (entry->database == InvalidOid)
		*entry = (LlamaJobDatabase) {database, at, waiting};
	else
	{
		entry->due = Min(entry->due, at);
		entry->waiting |= waiting;
	}
	wake_launcher();
	LWLockRelease(llama_shared->jobs_lock);
}

/* There is room for another job: those that wait for it are due. */
static void
end_waiting(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < LLAMA_MAX_JOB_DATABASES; i++)
	{
		LlamaJobDatabase *entry = &llama_shared->job_databases[i];

		if (entry->database != InvalidOid && entry->waiting)
			entry->due = Min(entry->due, now);
	}
	wake_launcher();
}

int
llama_jobs_in_background(void)
{
	int			n = 0;

	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	for (int i = 0; i < LLAMA_MAX_JOBS; i++)
		n += llama_shared->jobs[i].pid != 0 && llama_shared->jobs[i].background;
	LWLockRelease(llama_shared->jobs_lock);
	return n;
}

/* ----------------------------------------------------------------
 *		A process and its job
 * ----------------------------------------------------------------
 */

static void
detach(void)
{
	if (attached == NULL)
		return;
	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	if (attached->background)
		end_waiting();
	memset(attached, 0, sizeof(*attached));
	LWLockRelease(llama_shared->jobs_lock);
	attached = NULL;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		detach();
	/* A prepared transaction's job is found when somebody wakes the launcher next. */
	if (wake_at_commit && event == XACT_EVENT_COMMIT)
		llama_jobs_due(MyDatabaseId, GetCurrentTimestamp(), false);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wake_at_commit = false;
}

static void
at_exit(int code, Datum arg)
{
	detach();
}

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	RegisterXactCallback(at_transaction_end, NULL);
	before_shmem_exit(at_exit, 0);
	callbacks_registered = true;
}

void
llama_wake_jobs_at_commit(void)
{
	llama_require_preload();
	register_callbacks();
	wake_at_commit = true;
}

/* The slot of a job of this database, or NULL; hold jobs_lock. */
static LlamaJobSlot *
find_slot(int64 job, Oid role)
{
	for (int i = 0; i < LLAMA_MAX_JOBS; i++)
	{
		LlamaJobSlot *slot = &llama_shared->jobs[i];

		if (slot->pid != 0 && slot->job == job && slot->database == MyDatabaseId &&
			(slot->role == role || role == InvalidOid))
			return slot;
	}
	return NULL;
}

/* A free slot, or NULL; hold jobs_lock. */
static LlamaJobSlot *
free_slot(void)
{
	for (int i = 0; i < LLAMA_MAX_JOBS; i++)
	{
		if (llama_shared->jobs[i].pid == 0)
			return &llama_shared->jobs[i];
	}
	return NULL;
}

/* As PreventInTransactionBlock, for a procedure that begins with COMMIT. */
Datum
llama_refuse_transaction_block(PG_FUNCTION_ARGS)
{
	if (IsTransactionBlock())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block",
						text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	PG_RETURN_VOID();
}

Datum
llama_job_attach(PG_FUNCTION_ARGS)
{
	int64		job = PG_GETARG_INT64(0);
	LlamaJobSlot *slot;
	int			pid = 0;

	llama_require_preload();
	register_callbacks();
	detach();

	LWLockAcquire(llama_shared->jobs_lock, LW_EXCLUSIVE);
	slot = find_slot(job, GetUserId());
	if (slot != NULL)
		pid = slot->pid;
	else
	{
		slot = free_slot();
		if (slot != NULL)
		{
			slot->pid = MyProcPid;
			slot->job = job;
			slot->database = MyDatabaseId;
			slot->role = GetUserId();
			slot->background = llama_job_worker;
			attached = slot;
		}
	}
	LWLockRelease(llama_shared->jobs_lock);

	if (pid != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " is being done already", job),
				 errdetail("It is being done by process %d.", pid)));
	if (slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many jobs over tables at once"),
				 errdetail("There can be %d in the server.", LLAMA_MAX_JOBS)));
	tokens_before = llama_tokens_used;
	PG_RETURN_VOID();
}

Datum
llama_job_detach(PG_FUNCTION_ARGS)
{
	detach();
	PG_RETURN_VOID();
}

Datum
llama_job_tokens(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(llama_tokens_used - tokens_before);
}

/*
 * The server's limit of rows in a second, NULL if there is none.  A worker
 * takes a new one over here; a session does between its statements.
 */
Datum
llama_job_rate(PG_FUNCTION_ARGS)
{
	if (llama_job_worker && ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (llama3_job_rows_per_second == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(llama3_job_rows_per_second);
}

Datum
llama_job_wake(PG_FUNCTION_ARGS)
{
	llama_wake_jobs_at_commit();
	PG_RETURN_VOID();
}

/* (job, role, pid) of this database's slots. */
Datum
llama_jobs_attached(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LlamaJobSlot slots[LLAMA_MAX_JOBS];

	llama_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	memcpy(slots, llama_shared->jobs, sizeof(slots));
	LWLockRelease(llama_shared->jobs_lock);

	for (int i = 0; i < LLAMA_MAX_JOBS; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		if (slots[i].pid == 0 || slots[i].database != MyDatabaseId)
			continue;
		values[0] = Int64GetDatum(slots[i].job);
		values[1] = ObjectIdGetDatum(slots[i].role);
		values[2] = Int32GetDatum(slots[i].pid);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * The signal is sent under the lock: a process that lets go of the job
 * afterwards gets the cancel before it goes on to other work.
 */
Datum
llama_job_signal(PG_FUNCTION_ARGS)
{
	int64		job = PG_GETARG_INT64(0);
	LlamaJobSlot *slot;
	bool		found;

	llama_require_preload();
	LWLockAcquire(llama_shared->jobs_lock, LW_SHARED);
	slot = find_slot(job, superuser() ? InvalidOid : GetUserId());
	found = slot != NULL;
	if (found)
		(void) kill(slot->pid, SIGINT);
	LWLockRelease(llama_shared->jobs_lock);
	PG_RETURN_BOOL(found);
}

/*
 * A job names its table by OID.  Between the making of a statement with its name
 * and the statement's own lock another table could take that name, so it is
 * locked first, as UPDATE does, by who may UPDATE something of it.
 */
Datum
llama_job_target(PG_FUNCTION_ARGS)
{
	Oid			table = PG_GETARG_OID(0);
	char	   *name = get_rel_name(table);

	if (name != NULL &&
		pg_class_aclcheck(table, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(table, GetUserId(), ACL_UPDATE, ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
	if (name != NULL)
	{
		LockRelationOid(table, RowExclusiveLock);
		name = get_rel_name(table);
	}
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table does not exist any more")));
	PG_RETURN_TEXT_P(cstring_to_text(quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
																name)));
}
