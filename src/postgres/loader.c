/*-------------------------------------------------------------------------
 *
 * loader.c
 *	  The background process that loads what llama3.models names.
 *
 * At server start, and again after a crash, it goes through the list once;
 * until it is through, backends that ask for a model wait for it.  A model
 * that cannot be loaded is reported in the server log and stays in the registry
 * as failed, so that whoever asks for it is told why; the others are loaded
 * all the same.  After a reload of the configuration it loads what is new in the
 * list, tries again what failed, and unloads nothing.
 *
 * It is a process of its own because reading and packing many GB takes time in
 * which an engine worker could not answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "shmem.h"

PGDLLEXPORT void llama3_loader_main(Datum arg);

/* White space around an item of the list does not count. */
static char *
trim(char *text)
{
	char	   *end;

	while (isspace((unsigned char) *text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char) end[-1]))
		end--;
	*end = '\0';
	return text;
}

/* Is a model of this name there, or in somebody's hands? */
static bool
known(const char *name)
{
	int			index;
	bool		result;

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	index = llama_registry_find(name);
	result = index >= 0 && llama_shared->models[index].state != LLAMA_MODEL_FAILED;
	LWLockRelease(llama_shared->registry_lock);
	return result;
}

/* The loader has no transaction: what an abort would do is done here. */
static void
recover(void)
{
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
}

/* Load one item of the list, "path" or "name=path". */
static void
load_item(char *item, MemoryContext context)
{
	char	   *volatile name = NULL;
	char	   *volatile path = NULL;

	PG_TRY();
	{
		char	   *equals = strchr(item, '=');

		path = llama_absolute_path(equals != NULL ? trim(equals + 1) : item);
		if (equals != NULL)
		{
			*equals = '\0';
			name = trim(item);
		}
		else
			name = llama_default_name(path);
		llama_check_name(name);
		if (!known(name))
		{
			char	   *activity = psprintf("loading model %s", name);

			pgstat_report_activity(STATE_RUNNING, activity);
			llama_load(name, path, L3_QUANTIZE_NONE);
			ereport(LOG, (errmsg("model \"%s\" was loaded from \"%s\"", name, path)));
		}
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		recover();
		if (name != NULL && path != NULL)
			llama_registry_fail(name, path, error->message,
								error->detail != NULL ? error->detail : "");
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("could not load model \"%s\" of llama3.models: %s",
						name != NULL ? name : item, error->message),
				 error->detail != NULL ? errdetail_internal("%s", error->detail) : 0,
				 error->hint != NULL ? errhint("%s", error->hint) : 0));
	}
	PG_END_TRY();
}

static void
load_list(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llama3 loader",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	char	   *list = pstrdup(llama3_models);
	char	   *item;
	char	   *rest = list;

	while ((item = strsep(&rest, ",")) != NULL)
	{
		item = trim(item);
		if (item[0] != '\0')
			load_item(item, context);
		CHECK_FOR_INTERRUPTS();
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
set_alive(int pid)
{
	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	llama_shared->loader_pid = pid;
	llama_shared->loader_seen = GetCurrentTimestamp();
	LWLockRelease(llama_shared->registry_lock);
}

static void
at_exit(int code, Datum arg)
{
	set_alive(0);
	ConditionVariableBroadcast(&llama_shared->registry_changed);
}

void
llama3_loader_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* There is no statement to cancel. */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	before_shmem_exit(at_exit, 0);
	set_alive(MyProcPid);
	load_list();

	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	llama_shared->list_loaded = true;
	LWLockRelease(llama_shared->registry_lock);
	ConditionVariableBroadcast(&llama_shared->registry_changed);

	for (;;)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			load_list();
		}
	}
}
