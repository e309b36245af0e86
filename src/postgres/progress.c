/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  Progress of running statements: llama_progress_statements.
 *
 * The server's own progress reports (pg_stat_progress_...) are a fixed list of
 * commands, so ours live in our shared memory: one entry for each backend, for
 * the outermost statement that has a batch node.  Statements that run inside
 * of it (a function's), and parallel workers, add their calls and tokens; only
 * the statement itself has rows.  A cursor has the entry until it is closed;
 * what its session runs meanwhile is added to it.
 *
 * An entry is given up when the memory of the statement's executor goes, which
 * happens at its end, after an error or a cancel, at a rollback to a savepoint
 * before it, and when the backend exits.  After a crash shared memory is set up
 * anew.
 *
 * An entry's identity is written and copied under its spinlock.  Counters are
 * atomic, and may be a little ahead of one another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "progress.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(llama_progress_statements);

struct LlamaProgress
{
	slock_t		mutex;			/* protects what follows, but for the counters */
	int			pid;			/* 0: no statement */
	Oid			database;
	Oid			role;
	TimestampTz started;
	double		rows;			/* expected; negative: unknown */
	pg_atomic_uint64 counts[LLAMA_N_COUNTS];	/* [A] */
};

/* What an entry tells. */
typedef struct Statement
{
	int			pid;
	Oid			database;
	Oid			role;
	TimestampTz started;
	double		rows;
	int64		counts[LLAMA_N_COUNTS];
} Statement;

/* The executor's memory of the statement that has our entry, or NULL. */
static MemoryContext owner = NULL;

Size
llama_progress_size(void)
{
	return MAXALIGN(mul_size(MaxBackends, sizeof(LlamaProgress)));
}

void
llama_progress_init(LlamaProgress *entries)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		SpinLockInit(&entries[i].mutex);
		for (int what = 0; what < LLAMA_N_COUNTS; what++)
			pg_atomic_init_u64(&entries[i].counts[what], 0);
	}
}

/* The entry of this backend, or of the leader of its parallel group. */
static LlamaProgress *
own_entry(void)
{
	PGPROC	   *leader = MyProc->lockGroupLeader != NULL ? MyProc->lockGroupLeader : MyProc;

	return &llama_shared->progress[llama_proc_number(leader)];
}

static void
release_entry(void *arg)
{
	LlamaProgress *entry = arg;

	SpinLockAcquire(&entry->mutex);
	entry->pid = 0;
	SpinLockRelease(&entry->mutex);
	owner = NULL;
}

static void
claim_entry(LlamaProgress *entry, MemoryContext query)
{
	MemoryContextCallback *callback = MemoryContextAlloc(query, sizeof(MemoryContextCallback));

	for (int what = 0; what < LLAMA_N_COUNTS; what++)
		pg_atomic_write_u64(&entry->counts[what], 0);
	SpinLockAcquire(&entry->mutex);
	entry->pid = MyProcPid;
	entry->database = MyDatabaseId;
	entry->role = GetUserId();
	entry->started = GetCurrentTimestamp();
	entry->rows = 0;
	SpinLockRelease(&entry->mutex);
	owner = query;
	callback->func = release_entry;
	callback->arg = entry;
	MemoryContextRegisterResetCallback(query, callback);
}

bool
llama_progress_begin(MemoryContext query, double rows)
{
	LlamaProgress *entry = own_entry();

	if (IsParallelWorker() || (owner != NULL && owner != query))
		return false;
	if (owner == NULL)
		claim_entry(entry, query);
	SpinLockAcquire(&entry->mutex);
	entry->rows = entry->rows < 0 || rows < 0 ? -1 : entry->rows + rows;
	SpinLockRelease(&entry->mutex);
	return true;
}

void
llama_progress_add(LlamaCount what, int64 n)
{
	if (n != 0)
		(void) pg_atomic_fetch_add_u64(&own_entry()->counts[what], n);
}

/* ----------------------------------------------------------------
 *		llama_progress_statements
 * ----------------------------------------------------------------
 */

/* False when no statement has it. */
static bool
copy_entry(LlamaProgress *entry, Statement *copy)
{
	SpinLockAcquire(&entry->mutex);
	copy->pid = entry->pid;
	copy->database = entry->database;
	copy->role = entry->role;
	copy->started = entry->started;
	copy->rows = entry->rows;
	SpinLockRelease(&entry->mutex);
	/* Those that are less than another are read first. */
	copy->counts[LLAMA_ROWS_FAILED] = pg_atomic_read_u64(&entry->counts[LLAMA_ROWS_FAILED]);
	pg_read_barrier();
	copy->counts[LLAMA_ROWS_DONE] = pg_atomic_read_u64(&entry->counts[LLAMA_ROWS_DONE]);
	copy->counts[LLAMA_CACHED_TOKENS] = pg_atomic_read_u64(&entry->counts[LLAMA_CACHED_TOKENS]);
	pg_read_barrier();
	for (int what = 0; what < LLAMA_N_COUNTS; what++)
	{
		if (what != LLAMA_ROWS_FAILED && what != LLAMA_ROWS_DONE && what != LLAMA_CACHED_TOKENS)
			copy->counts[what] = pg_atomic_read_u64(&entry->counts[what]);
	}
	return copy->pid != 0;
}

static void
put_statement(ReturnSetInfo *result, const Statement *statement, TimestampTz now)
{
	const int64 *counts = statement->counts;
	double		seconds = Max((double) (now - statement->started) / USECS_PER_SEC, 1e-6);
	double		done = (double) counts[LLAMA_ROWS_DONE];
	/* The planner's estimate, until there are more. */
	double		total = Max(statement->rows, (double) counts[LLAMA_ROWS_BEGUN]);
	double		tokens = (double) (counts[LLAMA_PROMPT_TOKENS] + counts[LLAMA_GENERATED_TOKENS]);
	bool		unknown = statement->rows < 0;
	Datum		values[17];
	bool		nulls[17] = {false};
	int			n = 0;

	values[n++] = Int32GetDatum(statement->pid);
	values[n++] = ObjectIdGetDatum(statement->database);
	values[n++] = ObjectIdGetDatum(statement->role);
	values[n++] = TimestampTzGetDatum(statement->started);
	nulls[n] = unknown;
	values[n++] = Int64GetDatum((int64) Min(total, 1e18));
	values[n++] = Int64GetDatum(counts[LLAMA_ROWS_BEGUN]);
	values[n++] = Int64GetDatum(counts[LLAMA_ROWS_DONE]);
	values[n++] = Int64GetDatum(counts[LLAMA_ROWS_FAILED]);
	values[n++] = Int64GetDatum(counts[LLAMA_CALLS_MADE]);
	values[n++] = Int64GetDatum(counts[LLAMA_CALLS_REUSED] + counts[LLAMA_CALLS_CACHED]);
	values[n++] = Int64GetDatum(counts[LLAMA_PROMPT_TOKENS]);
	values[n++] = Int64GetDatum(counts[LLAMA_CACHED_TOKENS]);
	values[n++] = Int64GetDatum(counts[LLAMA_GENERATED_TOKENS]);
	values[n++] = Float8GetDatum(done / seconds);
	values[n++] = Float8GetDatum(tokens / seconds);
	nulls[n] = unknown || total == 0;
	values[n++] = Float8GetDatum(100 * done / Max(total, 1));
	nulls[n] = unknown || done == 0;
	values[n++] = Float8GetDatum((total - done) * seconds / Max(done, 1));
	Assert(n == lengthof(values) && n == result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * llama_progress_statements() returns setof record: one row for each running
 * statement that has a batch node
 */
Datum
llama_progress_statements(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();

	llama_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < llama_shared->n_backends; i++)
	{
		Statement	statement;

		if (copy_entry(&llama_shared->progress[i], &statement))
			put_statement((ReturnSetInfo *) fcinfo->resultinfo, &statement, now);
	}
	return (Datum) 0;
}
