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
 * list and tries again what failed.  It unloads nothing, and what somebody has
 * unloaded since stays so.
 *
 * It is a process of its own because reading and packing many GB takes time in
 * which an engine worker could not answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
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

/* Names that were in the list before, in TopMemoryContext. */
static List *seen_names = NIL;

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

static bool
seen(const char *name)
{
	ListCell   *cell;

	foreach(cell, seen_names)
	{
		if (strcmp((char *) lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static void
remember(const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	seen_names = lappend(seen_names, pstrdup(name));
	MemoryContextSwitchTo(old);
}

/*
 * Is this model of the list to be loaded now?  Not when there is one of its
 * name, whoever loaded it, and when it was in the list before only if it
 * failed then.
 */
static bool
wanted(const char *name)
{
	int			index;
	LlamaModelState state = LLAMA_MODEL_FREE;

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	index = llama_registry_find(name);
	if (index >= 0)
		state = llama_shared->models[index].state;
	LWLockRelease(llama_shared->registry_lock);
	return state == LLAMA_MODEL_FAILED || (state == LLAMA_MODEL_FREE && !seen(name));
}

/* The loader has no transaction: what an abort would do is done here. */
static void
recover(void)
{
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
}

/*
 * Cut an option, a last word "key=value" after white space, off an item.  NULL
 * when there is none.
 */
static char *
cut_option(char *item)
{
	char	   *word = item + strlen(item);

	while (word > item && !isspace((unsigned char) word[-1]))
		word--;
	/* "=path" belongs to "name =path". */
	if (word == item || word[0] == '=' || strchr(word, '=') == NULL)
		return NULL;
	word[-1] = '\0';
	(void) trim(item);
	return word;
}

/* What an option says, NULL for none. */
static L3Quantize
read_option(char *option)
{
	char	   *equals;

	if (option == NULL)
		return L3_QUANTIZE_NONE;
	equals = strchr(option, '=');
	*equals = '\0';
	if (strcmp(option, "quantize") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown option \"%s\"", option),
				 errhint("The only one is \"quantize\", as in: name=path quantize=q8_0")));
	return llama_quantize(equals + 1);
}

/*
 * Load one item of the list, "path" or "name=path", perhaps with an option, if
 * it is wanted; load false: only remember its name.
 */
static void
load_item(char *item, bool load, MemoryContext context)
{
	char	   *volatile name = NULL;
	char	   *volatile path = NULL;

	PG_TRY();
	{
		char	   *option = cut_option(item);
		char	   *equals = strchr(item, '=');
		L3Quantize	quantize;

		path = llama_absolute_path(equals != NULL ? trim(equals + 1) : item);
		if (equals != NULL)
		{
			*equals = '\0';
			name = trim(item);
		}
		else
			name = llama_default_name(path);
		llama_check_name(name, equals == NULL ? "Give the model a name of its own: name=path" : NULL);
		quantize = read_option(option);
		load = load && wanted(name);
		if (!seen(name))
			remember(name);
		if (load)
		{
			char	   *activity = psprintf("llama3 loader: loading %s", name);

			pgstat_report_activity(STATE_RUNNING, activity);
			llama_load(name, path, quantize);
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
		{
			if (error->sqlerrcode == ERRCODE_UNDEFINED_FILE && llama_shipped_path(path))
				error->hint = "The installation of llama3 is incomplete. Install it again, or set llama3.models to your own models, or to '' for none.";
			llama_registry_fail(name, path, error);
		}
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
load_list(bool load)
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
			load_item(item, load, context);
		CHECK_FOR_INTERRUPTS();
	}
	pgstat_report_activity(STATE_IDLE, "llama3 loader: idle");
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
	bool		load;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* There is no statement to cancel. */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	before_shmem_exit(at_exit, 0);
	set_alive(MyProcPid);

	/* A loader that comes back after it was through has nothing to load. */
	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	load = !llama_shared->list_loaded;
	LWLockRelease(llama_shared->registry_lock);
	load_list(load);

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
			load_list(true);
		}
	}
}
