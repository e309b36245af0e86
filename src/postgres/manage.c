/*-------------------------------------------------------------------------
 *
 * manage.c
 *	  SQL functions that load, unload and plan models.
 *
 * EXECUTE on them is revoked from PUBLIC.  Who was granted it may read model
 * files in llama3.model_directory and those installed with llama3 only, unless
 * he may read any file of the server anyway.  What they do is not undone by
 * ROLLBACK.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <stdlib.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "shmem.h"

/* How often a waiting unload looks again by itself, ms. */
#define LLAMA_UNLOAD_RECHECK_MS	1000

#define MEGABYTE				(1024 * 1024)

PG_FUNCTION_INFO_V1(llama_load_model);
PG_FUNCTION_INFO_V1(llama_unload_model);
PG_FUNCTION_INFO_V1(llama_model_plan);

/* ----------------------------------------------------------------
 *		Names and paths
 * ----------------------------------------------------------------
 */

/*
 * Names are shared by all databases and become part of file names, so they
 * are printable ASCII without what separates lists and paths.
 */
bool
llama_valid_name(const char *name)
{
	bool		valid = name[0] != '\0' && name[0] != '.' && strlen(name) < NAMEDATALEN;

	for (const char *c = name; *c != '\0'; c++)
		valid = valid && (unsigned char) *c > 0x20 && (unsigned char) *c < 0x7f &&
			strchr("/\\,='\"", *c) == NULL;
	return valid;
}

void
llama_check_name(const char *name, const char *hint)
{
	if (llama_valid_name(name))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("invalid model name \"%s\"", name),
			 errdetail("A name has 1 to %d printable ASCII characters, no spaces, quotes, commas, slashes or equals signs, and no leading dot.",
					   NAMEDATALEN - 1),
			 hint != NULL ? errhint("%s", hint) : 0));
}

char *
llama_default_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char	   *name = pstrdup(slash != NULL ? slash + 1 : path);
	Size		len = strlen(name);

	if (len > 5 && pg_strcasecmp(name + len - 5, ".gguf") == 0)
	{
		int			part;
		int			n_parts;

		name[len -= 5] = '\0';
		/* "-00001-of-00002" of a file in parts */
		if (len > 15 && sscanf(name + len - 15, "-%5d-of-%5d", &part, &n_parts) == 2)
			name[len - 15] = '\0';
	}
	return name;
}

/*
 * "$sharedir" at the start of a path stands for the installation's share
 * directory, as "$libdir" does for another in the paths of libraries.
 */
static char *
expand_share(const char *path)
{
	static const char macro[] = "$sharedir";
	char		share[MAXPGPATH];
	Size		len = strcspn(path, "/");

	if (len != strlen(macro) || strncmp(path, macro, len) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown macro \"%.*s\" in path \"%s\"", (int) len, path, path),
				 errhint("The only one is \"%s\", the share directory of the installation.", macro)));
	get_share_path(my_exec_path, share);
	return psprintf("%s%s", share, path + len);
}

bool
llama_shipped_path(const char *path)
{
	return path_is_prefix_of_path(expand_share(LLAMA_SHARE_DIRECTORY), path);
}

/* What a shell or a hub's tool would make a path of. */
static void
refuse_what_clients_expand(const char *path)
{
	if (strstr(path, "://") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a path", path),
				 errdetail("Models are not downloaded by the server."),
				 errhint("Download the model's files, put them into llama3.model_directory, and give their name.")));
	if (strncmp(path, "~/", 2) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" starts with \"~\"", path),
				 errhint("Write the directory in full; it must be one that the server's user can read.")));
}

char *
llama_absolute_path(const char *path)
{
	char	   *absolute;

	if (path[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path of a model must not be empty")));
	refuse_what_clients_expand(path);
	if (path[0] == '$')
		absolute = expand_share(path);
	else if (is_absolute_path(path))
		absolute = pstrdup(path);
	else if (llama3_model_directory[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("relative path \"%s\" needs llama3.model_directory", path),
				 errhint("Give an absolute path, or ALTER SYSTEM SET llama3.model_directory, then SELECT pg_reload_conf().")));
	else
		absolute = psprintf("%s/%s", llama3_model_directory, path);
	canonicalize_path(absolute);
	if (strlen(absolute) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path of a model is too long")));
	return absolute;
}

static void
raise_outside(const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to read \"%s\"", path),
			 errdetail("Only superusers and pg_read_server_files may read outside llama3.model_directory and %s.",
					   LLAMA_SHARE_DIRECTORY)));
}

/* Directories that whoever may load models may load them from. */
#define OPEN_DIRECTORIES	2

typedef struct OpenDirectory
{
	char		written[MAXPGPATH];	/* as the administrator has it; "": not there */
	char		resolved[PATH_MAX]; /* without symbolic links */
} OpenDirectory;

static void
open_directory(OpenDirectory *directory, const char *path)
{
	directory->written[0] = '\0';
	if (path[0] == '\0' || realpath(path, directory->resolved) == NULL)
		return;
	strlcpy(directory->written, path, sizeof(directory->written));
	canonicalize_path(directory->written);
}

/* Does the path begin as one of the directories, with or without their symbolic links? */
static bool
is_inside(const OpenDirectory *directories, const char *path, bool resolved)
{
	for (int i = 0; i < OPEN_DIRECTORIES; i++)
	{
		if (directories[i].written[0] == '\0')
			continue;
		if (path_is_prefix_of_path(directories[i].resolved, path) ||
			(!resolved && path_is_prefix_of_path(directories[i].written, path)))
			return true;
	}
	return false;
}

/*
 * The file or directory that the current user may load from; without symbolic
 * links for one who may not read everything.  Whether a file outside exists is not told.
 */
static char *
readable_path(const char *path)
{
	char	   *absolute = llama_absolute_path(path);
	char		resolved[PATH_MAX];
	OpenDirectory directories[OPEN_DIRECTORIES];
	bool		anywhere = superuser() ||
	has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES);

	open_directory(&directories[0], llama3_model_directory);
	open_directory(&directories[1], expand_share(LLAMA_SHARE_DIRECTORY));
	if (!anywhere &&
		(path_contains_parent_reference(absolute) || !is_inside(directories, absolute, false)))
		raise_outside(path);
	if (realpath(absolute, resolved) == NULL)
		llama_raise_path(absolute, anywhere);
	if (!anywhere && !is_inside(directories, resolved, true))
		raise_outside(path);
	if (strlen(resolved) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path of a model is too long")));
	/* Parts of a model are found by the names that stand beside each other. */
	return anywhere ? absolute : pstrdup(resolved);
}

L3Quantize
llama_quantize(const char *name)
{
	if (pg_strcasecmp(name, "q8_0") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown quantization \"%s\"", name),
				 errhint("The only one is \"q8_0\"; without one the types of the file are kept.")));
	return L3_QUANTIZE_Q8_0;
}

static L3Quantize
quantize_argument(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? L3_QUANTIZE_NONE :
		llama_quantize(text_to_cstring(PG_GETARG_TEXT_PP(arg)));
}

static char *
required_text(FunctionCallInfo fcinfo, int arg, const char *what)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* ----------------------------------------------------------------
 *		llama_load_model(path, name, quantize) returns text
 * ----------------------------------------------------------------
 */

Datum
llama_load_model(PG_FUNCTION_ARGS)
{
	char	   *given;
	char	   *path;
	char	   *name;

	llama_require_preload();
	given = required_text(fcinfo, 0, "path");
	path = readable_path(given);
	/* The name that was written counts, not that behind a symbolic link. */
	name = PG_ARGISNULL(1) ? llama_default_name(llama_absolute_path(given)) :
		text_to_cstring(PG_GETARG_TEXT_PP(1));
	llama_check_name(name, PG_ARGISNULL(1) ? "Give the model a name of its own with name => ..." : NULL);
	llama_load(name, path, quantize_argument(fcinfo, 2));
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* ----------------------------------------------------------------
 *		llama_unload_model(name, wait) returns void
 * ----------------------------------------------------------------
 */

/* An unload was given up: the model serves again. */
static void
restore_model(int code, Datum arg)
{
	LlamaModelEntry *entry = &llama_shared->models[DatumGetInt32(arg)];

	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	entry->state = LLAMA_MODEL_READY;
	LWLockRelease(llama_shared->registry_lock);
	ConditionVariableBroadcast(&llama_shared->registry_changed);
}

/*
 * Close the model to new requests.  Its index, or -1 when there was only a
 * failure to forget.
 */
static int
start_unloading(const char *name, bool wait)
{
	int			index;
	LlamaModelState state = LLAMA_MODEL_FREE;
	bool		busy = false;

	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	index = llama_registry_find(name);
	if (index >= 0)
	{
		LlamaModelEntry *entry = &llama_shared->models[index];

		state = entry->state;
		busy = pg_atomic_read_u32(&entry->pins) > 0 && (!wait || llama_uses_model(index));
		if (state == LLAMA_MODEL_FAILED)
			entry->state = LLAMA_MODEL_FREE;
		else if (state == LLAMA_MODEL_READY && !busy)
			entry->state = LLAMA_MODEL_UNLOADING;
	}
	LWLockRelease(llama_shared->registry_lock);

	switch (state)
	{
		case LLAMA_MODEL_FREE:
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("model \"%s\" does not exist", name)));
			break;
		case LLAMA_MODEL_LOADING:
		case LLAMA_MODEL_UNLOADING:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("model \"%s\" is being %s by another process", name,
							state == LLAMA_MODEL_LOADING ? "loaded" : "unloaded")));
			break;
		case LLAMA_MODEL_READY:
			if (busy)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_IN_USE),
						 errmsg("model \"%s\" is in use", name),
						 wait ? errdetail("This session has an unfinished request to it.") : 0));
			break;
		case LLAMA_MODEL_FAILED:
			return -1;
	}
	return index;
}

/* Wait until no request needs the model and no worker has it mapped. */
static void
wait_unused(LlamaModelEntry *entry)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = llama_wait_event("Llama3Unload");
	ConditionVariablePrepareToSleep(&llama_shared->registry_changed);
	while (pg_atomic_read_u32(&entry->pins) > 0 ||
		   pg_atomic_read_u32(&entry->attached) != 0)
	{
		if (pg_atomic_read_u32(&entry->pins) == 0)
			llama_wake_workers();	/* to let go of it */
		(void) ConditionVariableTimedSleep(&llama_shared->registry_changed,
										   LLAMA_UNLOAD_RECHECK_MS, wait_event);
	}
	ConditionVariableCancelSleep();
}

Datum
llama_unload_model(PG_FUNCTION_ARGS)
{
	char	   *name;
	int			index;
	LlamaModelEntry *entry;
	bool		in_segment;
	dsm_handle	weights;
	dsm_handle	tokenizer;

	llama_require_preload();
	name = required_text(fcinfo, 0, "name");
	index = start_unloading(name, PG_ARGISNULL(1) || PG_GETARG_BOOL(1));
	if (index < 0)
		PG_RETURN_VOID();
	entry = &llama_shared->models[index];

	PG_ENSURE_ERROR_CLEANUP(restore_model, Int32GetDatum(index));
	{
		wait_unused(entry);
	}
	PG_END_ENSURE_ERROR_CLEANUP(restore_model, Int32GetDatum(index));

	/* Nothing from here on can fail or be interrupted. */
	LWLockAcquire(llama_shared->registry_lock, LW_EXCLUSIVE);
	in_segment = entry->cache_file[0] == '\0';
	weights = entry->weights;
	tokenizer = entry->tokenizer;
	entry->state = LLAMA_MODEL_FREE;
	LWLockRelease(llama_shared->registry_lock);

	/* Freeing many GB takes a moment, hence without the lock. */
	if (in_segment)
		dsm_unpin_segment(weights);
	dsm_unpin_segment(tokenizer);
	ConditionVariableBroadcast(&llama_shared->registry_changed);
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 *		llama_model_plan(path, quantize) returns record
 * ----------------------------------------------------------------
 */

#define PLAN_COLUMNS	15

/* An error as a sentence's part. */
static char *
error_text(const L3Error *err)
{
	return psprintf("%s%s%s%s%s", err->message,
					err->detail[0] != '\0' ? ": " : "", err->detail,
					err->hint[0] != '\0' ? (err->detail[0] != '\0' ? " " : ": ") : "", err->hint);
}

/* In words: does it fit, and what else is to be said. */
static char *
plan_note(const L3Plan *plan, const char *name, const LlamaNeed *need, uint64 memory, bool *fits)
{
	StringInfoData note;
	L3Error		err;

	initStringInfo(&note);
	*fits = llama_has_room(name, need, &err);
	if (*fits)
	{
		uint64		room = memory - Min(memory, need->memory) +
		plan->kv_bytes_per_token * llama3_workers;
		uint64		kv_limit = (uint64) llama3_kv_cache_size * MEGABYTE;
		uint64		tokens = Min(room / llama3_workers, kv_limit) / Max(plan->kv_bytes_per_token, 1);

		appendStringInfo(&note, "fits with room for %llu tokens of KV cache",
						 (unsigned long long) tokens);
		if (llama3_workers > 1)
			appendStringInfo(&note, " in each of %d workers", llama3_workers);
		if (tokens < plan->hparams.n_ctx_train)
			appendStringInfo(&note, " (%s), less than the context of %u",
							 room / llama3_workers < kv_limit ? "free memory" : "llama3.kv_cache_size",
							 plan->hparams.n_ctx_train);
		if (llama3_weights_cache[0] != '\0' && plan->weight_bytes > memory - Min(memory, need->memory))
			appendStringInfoString(&note, "; the weights are more than the free memory, and would be read from their file again and again");
	}
	else
		appendStringInfoString(&note, error_text(&err));
	if (strcmp(plan->file_types, plan->packed_types) != 0)
		appendStringInfoString(&note, "; some tensors change their type in memory, see packed_types");
	return note.data;
}

/*
 * Read the headers; *problem is why the model could not be loaded, or "", and
 * *remark what else a load would say of the file, or "".
 */
static void
read_plan(const char *path, L3Quantize quantize, L3Plan *plan, L3Error *problem,
		  char *remark, Size remark_size)
{
	const L3LoadOptions load_options = {.quantize = quantize};
	L3EngineOptions engine_options;
	L3Source   *source;
	L3Error		err;
	L3Status	status;

	memset(problem, 0, sizeof(*problem));
	llama_engine_options(&engine_options);
	if (l3_source_open(path, &load_options, &source, problem) == L3_OK)
		problem->message[0] = '\0';
	else if (l3_source_open_headers(path, &load_options, &source, &err) != L3_OK)
		llama_raise(&err);
	/* Nothing between open and close raises. */
	status = l3_plan(source, &engine_options, plan, &err);
	strlcpy(remark, l3_source_warning(source), remark_size);
	if (remark[0] == '\0' && problem->message[0] == '\0' && !l3_source_has_template(source))
		strlcpy(remark, "the model cannot chat, its file has no chat template", remark_size);
	l3_source_close(source);
	if (status != L3_OK)
		llama_raise(&err);
}

Datum
llama_model_plan(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Datum		values[PLAN_COLUMNS];
	bool		nulls[PLAN_COLUMNS] = {0};
	char	   *given = required_text(fcinfo, 0, "path");
	char	   *path = readable_path(given);
	char	   *name = llama_default_name(llama_absolute_path(given));
	L3Quantize	quantize = quantize_argument(fcinfo, 1);
	uint64		memory = llama_memory_free();
	LlamaNeed	need;
	bool		cached;
	bool		fits;
	char	   *note;
	L3Plan		plan;
	L3Error		problem;
	char		remark[512];

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE ||
		tupdesc->natts != PLAN_COLUMNS)
		elog(ERROR, "unexpected result type of llama_model_plan");
	read_plan(path, quantize, &plan, &problem, remark, sizeof(remark));
	cached = llama3_weights_cache[0] != '\0' && llama_valid_name(name) &&
		llama_cache_exists(name, path, quantize);
	need = llama_load_need(&plan, cached);
	note = plan_note(&plan, name, &need, memory, &fits);
	if (remark[0] != '\0')
		note = psprintf("%s; %s", note, remark);
	if (problem.message[0] != '\0')
		note = psprintf("cannot be loaded: %s; apart from that: %s", error_text(&problem), note);

	values[0] = CStringGetTextDatum(name);
	nulls[0] = !llama_valid_name(name);
	values[1] = CStringGetTextDatum(plan.name);
	nulls[1] = plan.name[0] == '\0';
	values[2] = CStringGetTextDatum(plan.architecture);
	values[3] = Int64GetDatum(plan.n_params);
	values[4] = CStringGetTextDatum(plan.file_types);
	values[5] = CStringGetTextDatum(plan.packed_types);
	values[6] = Int64GetDatum(plan.file_bytes);
	values[7] = Int64GetDatum(plan.weight_bytes);
	values[8] = Int64GetDatum(plan.tokenizer_bytes);
	values[9] = Int64GetDatum(plan.kv_bytes_per_token);
	values[10] = Int64GetDatum(plan.workspace_bytes);
	values[11] = Int32GetDatum(plan.hparams.n_ctx_train);
	values[12] = Int64GetDatum(memory);
	nulls[12] = memory == PG_UINT64_MAX;
	values[13] = BoolGetDatum(fits && problem.message[0] == '\0');
	values[14] = CStringGetTextDatum(note);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
