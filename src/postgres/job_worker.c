/*-------------------------------------------------------------------------
 *
 * job_worker.c
 *	  The background process that does one job over a table.
 *
 * It is connected to the job's database as the job's owner, takes over the
 * settings of the session that started the job, and runs
 * CALL _llama_job_run(job): what llama_enrich runs in a session.  Then it ends,
 * whatever came of the job.
 *
 *	cancelled (SIGINT)	the job is cancelled
 *	terminated (SIGTERM), killed, or the server goes down
 *						nothing is written: the job is still "running" in its
 *						table, nobody does it, and the launcher starts it again
 *	an error that may pass (no engine, no memory, a shutdown)
 *						noted; the launcher starts the job again, later and
 *						later while no batch is finished
 *	any other error		the job has failed
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "job.h"
#include "shmem.h"

PGDLLEXPORT void llama3_job_main(Datum arg);

/* After an end that was not the job's own it is looked at again so much later. */
#define LLAMA_JOB_AGAIN_MS		1000

/* What a worker is told, in bgw_extra. */
typedef struct JobArguments
{
	int64		job;
	Oid			database;
	Oid			role;
} JobArguments;

static JobArguments arguments;

bool
llama_job_start(int64 job, Oid database, Oid role)
{
	BackgroundWorker worker;
	JobArguments args = {.job = job, .database = database, .role = role};

	StaticAssertStmt(sizeof(args) <= BGW_EXTRALEN, "a worker's arguments fit");
	/* The launcher starts it again, and looks first whether the job is still wanted. */
	llama_background_worker(&worker, "llama3_job_main", "llama3 job");
	snprintf(worker.bgw_name, BGW_MAXLEN, "llama3 job " INT64_FORMAT, job);
	memcpy(worker.bgw_extra, &args, sizeof(args));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

char *
llama_extension_schema(void)
{
	if (SPI_execute("SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e, pg_catalog.pg_namespace n "
					"WHERE e.extname OPERATOR(pg_catalog.=) 'llama3' AND n.oid OPERATOR(pg_catalog.=) e.extnamespace",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the extension");
	if (SPI_processed == 0)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

Datum
llama_call_internal(const char *schema, const char *signature, int n_args, const Datum *args)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	FmgrInfo	function;
	Datum		result;

	fmgr_info(DatumGetObjectId(DirectFunctionCall1(regprocedurein,
												   CStringGetDatum(psprintf("%s.%s", schema, signature)))),
			  &function);
	InitFunctionCallInfoData(*fcinfo, &function, n_args, InvalidOid, NULL, NULL);
	for (int i = 0; i < n_args; i++)
		fcinfo->args[i] = (NullableDatum) {.value = args[i]};
	result = FunctionCallInvoke(fcinfo);
	return fcinfo->isnull ? (Datum) 0 : result;
}

/* Run one query about the job, which is its $1; in a transaction of its own. */
static void
run_query(const char *query, int n_args, Datum *values, Oid *types, const char *nulls)
{
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args(query, n_args, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not run a query on the jobs over tables");
	PopActiveSnapshot();
	SPI_finish();
}

/*
 * Run a CALL that may commit, as exec_simple_query does: such a statement needs a
 * portal of its own.  In a transaction; everything is in the current context,
 * which has to outlive the transactions.
 */
static void
run_call(const char *query)
{
	RawStmt    *statement = linitial_node(RawStmt, pg_parse_query(query));
	bool		snapshot = analyze_requires_snapshot(statement);
	List	   *plans;
	Portal		portal;

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(statement, query, NULL, 0, NULL),
							query, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, query, CMDTAG_CALL, plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	llama_portal_run(portal);
	PortalDrop(portal, false);
}

/* The job, from beginning to end; the context outlives its transactions. */
static void
do_job(MemoryContext context)
{
	Datum		values[1] = {Int64GetDatum(arguments.job)};
	Oid			types[1] = {INT8OID};
	char	   *schema;
	char	   *query;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	schema = llama_extension_schema();
	schema = schema == NULL ? NULL : MemoryContextStrdup(context, schema);
	PopActiveSnapshot();
	SPI_finish();
	if (schema == NULL)
	{
		CommitTransactionCommand();
		return;
	}
	MemoryContextSwitchTo(context);
	query = psprintf("SELECT pg_catalog.set_config(s.key, s.value, false) "
					 "FROM %s.llama_jobs j, pg_catalog.jsonb_each_text(j.settings) s "
					 "WHERE j.id OPERATOR(pg_catalog.=) $1", schema);
	run_query(query, 1, values, types, NULL);
	CommitTransactionCommand();

	MemoryContextSwitchTo(context);
	query = psprintf("CALL %s._llama_job_run('" INT64_FORMAT "'::pg_catalog.int8)", schema, arguments.job);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_RUNNING, query);
	run_call(query);
	CommitTransactionCommand();
}

/* Write into the job's row how it ended. */
static void
note_error(const ErrorData *error)
{
	Datum		args[3] = {Int64GetDatum(arguments.job), CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
	CStringGetTextDatum(error->message)};
	char	   *schema;

	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	schema = llama_extension_schema();
	if (schema != NULL)
		(void) llama_call_internal(schema, "_llama_job_note_error(bigint,pg_catalog.text,pg_catalog.text)", 3, args);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}

static void
at_exit(int code, Datum arg)
{
	llama_jobs_due(arguments.database,
				   TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LLAMA_JOB_AGAIN_MS), false);
}

void
llama3_job_main(Datum arg)
{
	MemoryContext context;

	memcpy(&arguments, MyBgworkerEntry->bgw_extra, sizeof(arguments));
	llama_job_worker = true;
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	before_shmem_exit(at_exit, 0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(arguments.database, arguments.role, 0);

	context = AllocSetContextCreate(TopMemoryContext, "llama3 job", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		do_job(context);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		note_error(error);
	}
	PG_END_TRY();
	proc_exit(0);
}
