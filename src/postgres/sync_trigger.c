/*-------------------------------------------------------------------------
 *
 * sync_trigger.c
 *	  The trigger that queues the keys of changed rows.
 *
 * Once per statement it writes all changed rows' keys with one INSERT from the
 * transition tables.  A row has changed when the bytes of a source column have:
 * that works for types without equality, tells 'a' from 'A' in citext, calls no
 * function of the user's, and need not read a toasted value that was not touched.
 *
 * It writes as the queue's owner, as foreign keys do as the table's, so whoever
 * may write to the target needs no rights on the queue.  That goes on when the
 * table has got another owner: the column is not filled then, but no change is
 * lost until view and queue follow it.
 *
 * A statement waits for nobody here whom it did not wait for at the row itself:
 * who has queued a row's key without committing has written to the row, and
 * who fills the column takes the row's lock before the queue entry's.
 *
 * Plans are kept per trigger, as in ri_triggers.c.  A kept plan was made for few
 * rows and would join many in a nested loop, so large transition tables are
 * planned each time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "sync.h"

/* From this many rows on, planning costs less than a poor plan. */
#define LARGE_STATEMENT		64

PG_FUNCTION_INFO_V1(llama_sync_changed);
PG_FUNCTION_INFO_V1(llama_sync_differ);

/* What a backend keeps of a trigger.  Stale when "queue" is invalid. */
typedef struct SyncTrigger
{
	Oid			trigger;		/* hash key */
	Oid			target;
	Oid			view;
	Oid			queue;
	Oid			owner;			/* of the queue */
	bool		background;
	char	   *sql;			/* in TopMemoryContext; NULL: not known */
	int			n_values;		/* key values, for the row trigger */
	AttrNumber	columns[INDEX_MAX_KEYS];
	Oid			types[INDEX_MAX_KEYS];
	SPIPlanPtr	plan;			/* NULL: not made */
} SyncTrigger;

static HTAB *triggers = NULL;

/* ----------------------------------------------------------------
 *		Whether a row has changed
 * ----------------------------------------------------------------
 */

/* As record_image_ne does for a column, but a toasted value is its pointer first. */
static bool
values_differ(Datum a, Datum b, int16 len, bool byval)
{
	if (len == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(a)) &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE_EXTERNAL(DatumGetPointer(a))) == 0)
		return false;
	return !datum_image_eq(a, b, byval, len);
}

/* Types of the arguments, for the calls of one statement. */
typedef struct ArgumentTypes
{
	int16		len;
	bool		byval;
} ArgumentTypes;

static ArgumentTypes *
argument_types(FunctionCallInfo fcinfo, int n)
{
	ArgumentTypes *types = fcinfo->flinfo->fn_extra;

	if (types != NULL)
		return types;
	types = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(ArgumentTypes) * n);
	for (int i = 0; i < n; i++)
	{
		Oid			type = get_fn_expr_argtype(fcinfo->flinfo, i);

		if (!OidIsValid(type) || type != get_fn_expr_argtype(fcinfo->flinfo, i + n))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("_llama_sync_differ takes two rows of the same types")));
		get_typlenbyval(type, &types[i].len, &types[i].byval);
	}
	fcinfo->flinfo->fn_extra = types;
	return types;
}

/* Takes the columns of one row, then those of another; NULL equals NULL. */
Datum
llama_sync_differ(PG_FUNCTION_ARGS)
{
	int			n = PG_NARGS() / 2;
	ArgumentTypes *types = argument_types(fcinfo, n);

	if (PG_NARGS() % 2 != 0 || get_fn_expr_variadic(fcinfo->flinfo))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("_llama_sync_differ takes two rows of the same types")));
	for (int i = 0; i < n; i++)
	{
		if (PG_ARGISNULL(i) != PG_ARGISNULL(i + n))
			PG_RETURN_BOOL(true);
		if (!PG_ARGISNULL(i) &&
			values_differ(PG_GETARG_DATUM(i), PG_GETARG_DATUM(i + n), types[i].len, types[i].byval))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/* ----------------------------------------------------------------
 *		Statements
 * ----------------------------------------------------------------
 */

/* An entry that has failed starts anew; one that waits keeps its place. */
#define ON_CONFLICT \
	" ON CONFLICT ($names) DO UPDATE SET version = excluded.version, tried_at = NULL," \
	" queued_at = CASE WHEN q.sqlstate IS NULL THEN q.queued_at ELSE excluded.queued_at END," \
	" sqlstate = NULL, message = NULL"

/* In the order of the keys, so that two statements never wait for each other. */
static const char insert_sql[] =
"INSERT INTO $queue AS q ($names)"
" SELECT DISTINCT $columns(n) FROM " LLAMA_SYNC_ROWS_AFTER " n ORDER BY $columns(n)" ON_CONFLICT;

static const char update_sql[] =
"INSERT INTO $queue AS q ($names)"
" SELECT DISTINCT $columns(n) FROM " LLAMA_SYNC_ROWS_AFTER " n JOIN llama_old o ON $equal(n,o)"
" WHERE $differ($sources(n), $sources(o))"
" ORDER BY $columns(n)" ON_CONFLICT;

static const char delete_sql[] =
"DELETE FROM $queue q USING " LLAMA_SYNC_ROWS_BEFORE " o WHERE $match(o,q)";

static const char truncate_sql[] = "DELETE FROM $queue";

/* Of one row whose key is another now: values are parameters. */
static char *
key_sql(const LlamaSync *sync)
{
	StringInfoData values;

	initStringInfo(&values);
	for (int i = 0; i < sync->n_keys; i++)
		appendStringInfo(&values, "%s$%d", i > 0 ? ", " : "", i + 1);
	return psprintf("%s VALUES (%s)%s",
					llama_sync_sql(sync, "INSERT INTO $queue AS q ($names)"),
					values.data, llama_sync_sql(sync, ON_CONFLICT));
}

static char *
statement_for(const LlamaSync *sync, TriggerEvent event)
{
	if (TRIGGER_FIRED_FOR_ROW(event))
		return key_sql(sync);
	if (TRIGGER_FIRED_BY_INSERT(event))
		return llama_sync_sql(sync, insert_sql);
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return llama_sync_sql(sync, update_sql);
	if (TRIGGER_FIRED_BY_DELETE(event))
		return llama_sync_sql(sync, delete_sql);
	return llama_sync_sql(sync, truncate_sql);
}

/* ----------------------------------------------------------------
 *		What is kept
 * ----------------------------------------------------------------
 */

static void
forget(SyncTrigger *entry)
{
	entry->queue = InvalidOid;
}

static void
relation_changed(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	SyncTrigger *entry;

	hash_seq_init(&scan, triggers);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (!OidIsValid(relation) || relation == entry->target || relation == entry->view ||
			relation == entry->queue)
			forget(entry);
}

/* Names of schemas and operators stand in the statements. */
static void
name_changed(Datum arg, int cache, uint32 hash)
{
	relation_changed(arg, InvalidOid);
}

static SyncTrigger *
lookup(Oid trigger)
{
	SyncTrigger *entry;
	bool		found;

	if (triggers == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(SyncTrigger)};

		triggers = hash_create("llama3 sync triggers", 16, &control, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(OPEROID, name_changed, (Datum) 0);
	}
	entry = hash_search(triggers, &trigger, HASH_ENTER, &found);
	if (!found)
	{
		memset(entry, 0, sizeof(*entry));
		entry->trigger = trigger;
	}
	return entry;
}

static void
fill_entry(SyncTrigger *entry, const LlamaSync *sync, TriggerEvent event)
{
	char	   *sql = MemoryContextStrdup(TopMemoryContext, statement_for(sync, event));

	if (entry->plan != NULL)
		SPI_freeplan(entry->plan);
	if (entry->sql != NULL)
		pfree(entry->sql);
	entry->plan = NULL;
	entry->sql = sql;
	entry->target = sync->target;
	entry->view = sync->view;
	entry->background = sync->background;
	entry->owner = sync->queue_owner;
	entry->n_values = TRIGGER_FIRED_FOR_ROW(event) ? sync->n_keys : 0;
	for (int i = 0; i < entry->n_values; i++)
	{
		entry->columns[i] = sync->keys[i].attnum;
		entry->types[i] = sync->keys[i].type;
	}
	entry->queue = sync->queue;
}

/* The table can be written to whatever has become of the sync. */
static void
warn_of(const TriggerData *data, const LlamaSync *sync)
{
	if (sync == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("trigger \"%s\" of table \"%s\" belongs to a sync that does not exist",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errhint("Drop the trigger, and call llama_sync again.")));
	else
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("trigger \"%s\" of table \"%s\" cannot queue changed rows",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errdetail_internal("The sync is broken: %s.", sync->broken),
				 errhint("Call llama_sync_remove, and llama_sync again.")));
}

/* NULL, with a warning, when there is no queue to write to. */
static SyncTrigger *
get_entry(FunctionCallInfo fcinfo, TriggerData *data)
{
	SyncTrigger *entry = lookup(data->tg_trigger->tgoid);
	LlamaSync  *sync;

	if (OidIsValid(entry->queue))
		return entry;
	sync = llama_sync_by_id(llama_sync_registry(fcinfo->flinfo->fn_oid), data->tg_trigger->tgargs[0]);
	if (sync != NULL && sync->target != RelationGetRelid(data->tg_relation))
		sync = NULL;
	if (sync == NULL || !sync->described)
	{
		warn_of(data, sync);
		return NULL;
	}
	fill_entry(entry, sync, data->tg_event);
	return entry;
}

/* ----------------------------------------------------------------
 *		Running
 * ----------------------------------------------------------------
 */

static int64
count_rows(Tuplestorestate *rows)
{
	return rows != NULL ? tuplestore_tuple_count(rows) : 0;
}

static void
run(SyncTrigger *entry, Datum *values, int64 n_rows)
{
	int			result;

	if (n_rows >= LARGE_STATEMENT)
		result = SPI_execute(entry->sql, false, 0);
	else
	{
		if (entry->plan == NULL)
		{
			SPIPlanPtr	plan = SPI_prepare(entry->sql, entry->n_values, entry->types);

			if (plan == NULL)
				elog(ERROR, "could not prepare the statement of a trigger: %s",
					 SPI_result_code_string(SPI_result));
			SPI_keepplan(plan);
			entry->plan = plan;
		}
		result = SPI_execute_plan(entry->plan, values, NULL, false, 0);
	}
	if (result < 0)
		elog(ERROR, "statement of a trigger failed: %s", SPI_result_code_string(result));
}

static void
run_as_owner(SyncTrigger *entry, TriggerData *data)
{
	int64		n_rows = Max(count_rows(data->tg_oldtable), count_rows(data->tg_newtable));
	Datum		values[INDEX_MAX_KEYS];
	LlamaSyncIdentity before;

	for (int i = 0; i < entry->n_values; i++)
	{
		bool		isnull;

		values[i] = slot_getattr(data->tg_newslot, entry->columns[i], &isnull);
	}
	SPI_connect();
	SPI_register_trigger_data(data);
	before = llama_sync_become(entry->owner);
	run(entry, values, n_rows);
	if (entry->background && SPI_processed > 0)
		llama_sync_wake_at_commit();
	llama_sync_become_again(before);
	SPI_finish();
}

/*
 * Is it one of the triggers that llama_sync makes?  Rows are read by the names
 * that these give them: under another name they would be looked for in the
 * schemas of who writes, with the owner's rights.
 */
static bool
is_as_made(const TriggerData *data)
{
	const Trigger *trigger = data->tg_trigger;
	TriggerEvent event = data->tg_event;

	if (trigger->tgnargs != 1 || !TRIGGER_FIRED_AFTER(event))
		return false;
	if (TRIGGER_FIRED_FOR_ROW(event))
		return TRIGGER_FIRED_BY_UPDATE(event);
	if ((TRIGGER_FIRED_BY_UPDATE(event) || TRIGGER_FIRED_BY_DELETE(event)) &&
		(trigger->tgoldtable == NULL || strcmp(trigger->tgoldtable, LLAMA_SYNC_ROWS_BEFORE) != 0))
		return false;
	if ((TRIGGER_FIRED_BY_UPDATE(event) || TRIGGER_FIRED_BY_INSERT(event)) &&
		(trigger->tgnewtable == NULL || strcmp(trigger->tgnewtable, LLAMA_SYNC_ROWS_AFTER) != 0))
		return false;
	return true;
}

Datum
llama_sync_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	SyncTrigger *entry;
	bool		statement;

	if (!CALLED_AS_TRIGGER(fcinfo) || !is_as_made(data))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("_llama_sync_changed must be called by the triggers that llama_sync makes")));
	statement = !TRIGGER_FIRED_FOR_ROW(data->tg_event);
	/* Nothing was written: nothing to look for. */
	if (statement && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) &&
		count_rows(data->tg_oldtable) + count_rows(data->tg_newtable) == 0)
		PG_RETURN_POINTER(NULL);

	entry = get_entry(fcinfo, data);
	if (entry != NULL)
		run_as_owner(entry, data);
	PG_RETURN_POINTER(NULL);
}
