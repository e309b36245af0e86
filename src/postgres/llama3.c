/*-------------------------------------------------------------------------
 *
 * llama3.c
 *	  The module's entry: settings, shared memory, background processes.
 *
 * This library is preloaded and so lives in every process of the server.  It
 * is thin: it starts no thread and is not linked to OpenBLAS.  The engine is in
 * a second library, llama3_engine, which only an engine worker loads.
 *
 * Background processes, all registered here:
 *	- "llama3 engine N", llama3.workers of them: run the transformer (worker.c);
 *	- "llama3 loader": loads what llama3.models names, so that reading a file of
 *	  many GB never keeps a worker from answering (loader.c);
 *	- "llama3 launcher": starts the workers of background jobs (job_launcher.c).
 *
 * Not preloaded is no error: CREATE EXTENSION works, and the functions that
 * need shared memory raise 55000.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"

#include "batch.h"
#include "batch_ahead.h"
#include "job.h"
#include "shmem.h"

PG_MODULE_MAGIC;

/* A process that failed comes back after this many seconds. */
#define LLAMA_RESTART_SECONDS	1

typedef void (*EngineMain) (int worker);

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT void llama3_worker_main(Datum arg);

/* From loader.c; named to the postmaster by string. */
extern PGDLLEXPORT void llama3_loader_main(Datum arg);

void
llama_background_worker(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "llama3", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
}

static void
register_process(const char *name, const char *type, const char *function, int number,
				 BgWorkerStartTime start)
{
	BackgroundWorker worker;

	llama_background_worker(&worker, function, type);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	worker.bgw_start_time = start;
	worker.bgw_restart_time = LLAMA_RESTART_SECONDS;
	worker.bgw_main_arg = Int32GetDatum(number);
	RegisterBackgroundWorker(&worker);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	llama_settings_init();
	llama_shmem_init();
	llama_planner_init();
	llama_ahead_hook();

	/* pg_upgrade must not find anybody who reads files or keeps it waiting. */
	if (IsBinaryUpgrade)
		return;
	/* At consistency: standbys answer too.  Jobs write. */
	register_process("llama3 loader", "llama3 loader", "llama3_loader_main", 0,
					 BgWorkerStart_ConsistentState);
	register_process("llama3 launcher", "llama3 launcher", "llama3_launcher_main", 0,
					 BgWorkerStart_RecoveryFinished);
	for (int i = 0; i < llama3_workers; i++)
	{
		char		name[BGW_MAXLEN];

		snprintf(name, sizeof(name), "llama3 engine %d", i + 1);
		register_process(name, "llama3 engine", "llama3_worker_main", i,
						 BgWorkerStart_ConsistentState);
	}
}

/*
 * Main of an engine worker: load the engine's library and enter it.
 *
 * OpenBLAS starts its threads in its constructor, that is, while its library
 * is being loaded, and with whatever signal mask this process has then; a
 * thread that does not block SIGURG steals the latch's wake-ups.  We split
 * the work over threads of our own and want one BLAS thread per call, so the
 * environment says so before the library is loaded, in this process only.
 */
void
llama3_worker_main(Datum arg)
{
	EngineMain	engine_main;

	if (setenv("OPENBLAS_NUM_THREADS", "1", 1) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not set the environment of the llama3 engine: %m")));
	engine_main = (EngineMain) load_external_function("llama3_engine", "llama3_engine_main",
													  true, NULL);
	engine_main(DatumGetInt32(arg));

	/* Status 0 would mean "never start me again". */
	proc_exit(1);
}
