/*-------------------------------------------------------------------------
 *
 * sync.c
 *	  SQL functions that make, pause, resume and remove syncs.
 *
 * Everything that a sync is made of belongs to the target's owner and is made
 * with his rights, also when a superuser asks: the expression and the triggers
 * of the target run for whoever fills the column, and must not gain by it.
 *
 * Locks.  Making a sync takes ShareRowExclusiveLock on the target, as CREATE
 * TRIGGER does: writers wait, readers do not.  Removing one takes the lock of
 * who fills first (sync_run.c), so that AccessExclusiveLock is not waited for
 * while the batch in work keeps its own lock; then the target's, as writers have
 * it when the triggers come to view and queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "compat.h"
#include "sync.h"
#include "sync_expression.h"

#define BATCH_ROWS_MIN		1
#define BATCH_ROWS_MAX		100000
/* Keeps the engine full, and a batch of short answers under a minute. */
#define BATCH_ROWS_DEFAULT	200

PG_FUNCTION_INFO_V1(llama_sync);
PG_FUNCTION_INFO_V1(llama_sync_remove);
PG_FUNCTION_INFO_V1(llama_sync_pause);
PG_FUNCTION_INFO_V1(llama_sync_resume);
PG_FUNCTION_INFO_V1(llama_sync_retry);

/* A trigger of a sync: the end of its name, its event, and what it is shown. */
typedef struct TriggerForm
{
	const char *label;
	const char *form;			/* "%s" stands for the key's comparison */
} TriggerForm;

static const TriggerForm trigger_forms[] = {
	{"insert", "INSERT ON $target REFERENCING NEW TABLE AS " LLAMA_SYNC_ROWS_AFTER " FOR EACH STATEMENT"},
	{"update", "UPDATE ON $target REFERENCING OLD TABLE AS " LLAMA_SYNC_ROWS_BEFORE
	" NEW TABLE AS " LLAMA_SYNC_ROWS_AFTER " FOR EACH STATEMENT"},
	{"delete", "DELETE ON $target REFERENCING OLD TABLE AS " LLAMA_SYNC_ROWS_BEFORE " FOR EACH STATEMENT"},
	{"truncate", "TRUNCATE ON $target FOR EACH STATEMENT"},
	/* Rows of the two transition tables are told apart by their keys alone. */
	{"key", "UPDATE ON $target FOR EACH ROW"
	" WHEN ($differ($columns(old), $columns(new)))"}
};

static void
execute(const char *sql)
{
	int			result = SPI_execute(sql, false, 0);

	if (result < 0)
		elog(ERROR, "statement of a sync failed: %s: %s", SPI_result_code_string(result), sql);
}

/* ----------------------------------------------------------------
 *		Making one
 * ----------------------------------------------------------------
 */

/* What llama_sync was asked for. */
typedef struct Wish
{
	Oid			target;
	const char *column;
	const char *expression;
	const char *fill;			/* NULL: nothing */
	int			batch_rows;
	bool		background;
	List	   *sources;		/* column names, besides those it reads */
} Wish;

static char *
required_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static List *
name_list(ArrayType *array)
{
	Datum	   *items;
	bool	   *nulls;
	int			n;
	List	   *list = NIL;

	deconstruct_array(array, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &items, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("source_columns must not contain NULL")));
		list = lappend(list, pstrdup(NameStr(*DatumGetName(items[i]))));
	}
	return list;
}

static const char *
initial_rows(FunctionCallInfo fcinfo, int number)
{
	char	   *initial = PG_ARGISNULL(number) ? "null" : text_to_cstring(PG_GETARG_TEXT_PP(number));

	if (strcmp(initial, "none") == 0)
		return NULL;
	if (strcmp(initial, "null") != 0 && strcmp(initial, "all") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("initial must be \"null\", \"all\" or \"none\", not \"%s\"", initial)));
	return initial;
}

static void
read_wish(FunctionCallInfo fcinfo, Wish *wish)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", PG_ARGISNULL(0) ? "target" : "column_name")));
	wish->target = PG_GETARG_OID(0);
	wish->column = NameStr(*PG_GETARG_NAME(1));
	wish->expression = required_text(fcinfo, 2, "expression");
	wish->fill = initial_rows(fcinfo, 3);
	wish->batch_rows = PG_ARGISNULL(4) ? BATCH_ROWS_DEFAULT : PG_GETARG_INT32(4);
	if (wish->batch_rows < BATCH_ROWS_MIN || wish->batch_rows > BATCH_ROWS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_rows must be between %d and %d", BATCH_ROWS_MIN, BATCH_ROWS_MAX)));
	wish->sources = PG_ARGISNULL(5) ? NIL : name_list(PG_GETARG_ARRAYTYPE_P(5));
	wish->background = PG_ARGISNULL(6) || PG_GETARG_BOOL(6);
}

/* Only its owner may: the triggers stay when other rights are taken away. */
static Relation
open_target(Oid target)
{
	Relation	rel;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(target)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", target)));
	if (!llama_relation_ownercheck(target, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(target));
	rel = table_open(target, ShareRowExclusiveLock);
	llama_sync_check_target(rel);
	return rel;
}

static char *
make_view(Relation rel, const Wish *wish, List *key, AttrNumber column, const char *expression)
{
	Oid			schema = RelationGetNamespace(rel);
	char	   *name = ChooseRelationName(RelationGetRelationName(rel), wish->column, "sync",
										  schema, false);
	char	   *qualified = quote_qualified_identifier(get_namespace_name(schema), name);
	StringInfoData sql;
	ListCell   *cell;
	int			n = 0;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE VIEW %s AS SELECT ", qualified);
	foreach(cell, key)
		appendStringInfo(&sql, "t.%s AS key%d, ",
						 quote_identifier(get_attname(wish->target, lfirst_int(cell), false)), ++n);
	appendStringInfo(&sql, "t.%s AS current, %s AS value",
					 quote_identifier(get_attname(wish->target, column, false)), expression);
	n = 0;
	foreach(cell, wish->sources)
		appendStringInfo(&sql, ", t.%s AS source%d", quote_identifier(lfirst(cell)), ++n);
	appendStringInfo(&sql, " FROM %s t", llama_sync_relation(wish->target));
	execute(sql.data);
	execute(psprintf("COMMENT ON VIEW %s IS %s", qualified,
					 quote_literal_cstr(psprintf("llama_sync: what column %s of table %s is kept in step with; removed by llama_sync_remove",
												 wish->column, RelationGetRelationName(rel)))));
	return name;
}

static Oid
make_queue(Relation rel, const Wish *wish, int n_keys, const char *view)
{
	Oid			schema = RelationGetNamespace(rel);
	char	   *name = ChooseRelationName(RelationGetRelationName(rel), wish->column, "queue",
										  schema, false);
	char	   *qualified = quote_qualified_identifier(get_namespace_name(schema), name);
	StringInfoData keys;

	initStringInfo(&keys);
	for (int i = 1; i <= n_keys; i++)
		appendStringInfo(&keys, "%skey%d", i > 1 ? ", " : "", i);
	execute(psprintf("CREATE %sTABLE %s AS SELECT %s FROM %s WITH NO DATA",
					 rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED ? "UNLOGGED " : "",
					 qualified, keys.data,
					 quote_qualified_identifier(get_namespace_name(schema), view)));
	execute(psprintf("ALTER TABLE %s"
					 " ADD version pg_catalog.xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),"
					 " ADD queued_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),"
					 " ADD tried_at pg_catalog.timestamptz,"
					 " ADD sqlstate pg_catalog.text,"
					 " ADD message pg_catalog.text,"
					 " ADD PRIMARY KEY (%s)", qualified, keys.data));
	/* In the order in which who fills the column picks them (sync_run.c). */
	execute(psprintf("CREATE INDEX ON %s (tried_at NULLS FIRST, queued_at) WHERE sqlstate IS NULL",
					 qualified));
	execute(psprintf("COMMENT ON TABLE %s IS %s", qualified,
					 quote_literal_cstr(psprintf("llama_sync: keys of rows whose column %s is to be filled; removed by llama_sync_remove",
												 wish->column))));
	return get_relname_relid(name, schema);
}

static char *
trigger_name(const LlamaSync *sync, const TriggerForm *form)
{
	return makeObjectName(get_rel_name(sync->view), NULL, form->label);
}

static void
make_triggers(const LlamaSync *sync, Oid function)
{
	char	   *schema = get_namespace_name(get_func_namespace(function));

	for (int i = 0; i < (int) lengthof(trigger_forms); i++)
		execute(psprintf("CREATE TRIGGER %s AFTER %s EXECUTE FUNCTION %s(%s)",
						 quote_identifier(trigger_name(sync, &trigger_forms[i])),
						 llama_sync_sql(sync, trigger_forms[i].form),
						 quote_qualified_identifier(schema, "_llama_sync_changed"),
						 quote_literal_cstr(sync->id)));
}

/* The triggers, which have the sync's id as their argument. */
static List *
find_triggers(const LlamaSync *sync)
{
	Relation	rel = table_open(sync->target, AccessShareLock);
	List	   *list = NIL;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgnargs == 1 && strcmp(trigger->tgargs[0], sync->id) == 0)
			list = lappend_oid(list, trigger->tgoid);
	}
	table_close(rel, NoLock);
	return list;
}

/* Does a relation go with another? */
static bool
is_linked(Oid relation, Oid to)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		linked = false;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while (!linked && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		linked = form->refclassid == RelationRelationId && form->refobjid == to;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return linked;
}

void
llama_sync_link(const LlamaSync *sync)
{
	ObjectAddress target;
	ObjectAddress view;
	ObjectAddress part;
	ListCell   *cell;

	if (is_linked(sync->queue, sync->view))
		return;
	ObjectAddressSet(target, RelationRelationId, sync->target);
	ObjectAddressSet(view, RelationRelationId, sync->view);
	recordDependencyOn(&view, &target, DEPENDENCY_AUTO);
	ObjectAddressSet(part, RelationRelationId, sync->queue);
	recordDependencyOn(&part, &view, DEPENDENCY_AUTO);
	foreach(cell, find_triggers(sync))
	{
		ObjectAddressSet(part, TriggerRelationId, lfirst_oid(cell));
		recordDependencyOn(&part, &view, DEPENDENCY_AUTO);
	}
}

static void
enter_registry(Oid registry, const Wish *wish, Oid view, Oid queue, const char *id)
{
	Oid			types[] = {TEXTOID, OIDOID, TEXTOID, OIDOID, OIDOID, TEXTOID, INT4OID, BOOLOID, TEXTOID};
	Datum		values[] = {
		CStringGetTextDatum(id), ObjectIdGetDatum(wish->target), CStringGetTextDatum(wish->column),
		ObjectIdGetDatum(view), ObjectIdGetDatum(queue),
		CStringGetTextDatum(GetConfigOption("search_path", false, false)),
		Int32GetDatum(wish->batch_rows), BoolGetDatum(wish->background),
		wish->fill != NULL ? CStringGetTextDatum(wish->fill) : (Datum) 0
	};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', wish->fill != NULL ? ' ' : 'n'};

	llama_sync_registry_execute(registry,
								"DELETE FROM $registry r WHERE NOT EXISTS"
								" (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) r.definition)",
								0, NULL, NULL, NULL);
	llama_sync_registry_execute(registry,
								"INSERT INTO $registry (id, target, column_name, definition, queue, search_path,"
								" batch_rows, background, fill)"
								" VALUES ($1::pg_catalog.uuid, $2, $3, $4, $5, $6, $7, $8, $9)",
								lengthof(types), types, values, nulls);
}

/* Each would change the source of the next, without end. */
static void
check_cycle(Oid registry, const LlamaSync *sync)
{
	List	   *list = llama_sync_list(registry, sync->target, NULL);
	Bitmapset  *read = bms_copy(sync->sources);
	int			n_read;
	ListCell   *cell;

	do
	{
		n_read = bms_num_members(read);
		foreach(cell, list)
		{
			LlamaSync  *other = lfirst(cell);

			if (bms_is_member(other->column, read))
				read = bms_add_members(read, other->sources);
		}
	} while (bms_num_members(read) > n_read);
	if (bms_is_member(sync->column, read))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" would be its own source by way of other columns that are kept in step",
						llama_sync_column(sync))));
}

static char *
new_id(void)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, DirectFunctionCall1(gen_random_uuid, (Datum) 0)));
}

Datum
llama_sync(PG_FUNCTION_ARGS)
{
	Oid			registry = llama_sync_registry(fcinfo->flinfo->fn_oid);
	Wish		wish;
	Relation	rel;
	List	   *key;
	ListCell   *cell;
	AttrNumber	column;
	char	   *expression;
	char	   *id = new_id();
	char	   *view;
	Oid			queue;
	LlamaSyncIdentity before;
	LlamaSync  *sync;

	read_wish(fcinfo, &wish);
	rel = open_target(wish.target);
	key = llama_sync_primary_key(rel);
	if (key == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errhint("A sync knows rows by their primary key. Add one with ALTER TABLE.")));
	column = llama_sync_target_column(rel, wish.column, key);
	foreach(cell, wish.sources)
		if (llama_sync_find_column(rel, lfirst(cell)) == column)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" cannot be its own source", wish.column)));
	expression = llama_sync_parse(rel, column, wish.expression);
	if (llama_sync_list(registry, wish.target, wish.column) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("column \"%s\" of table \"%s\" is kept in step already",
						wish.column, RelationGetRelationName(rel)),
				 errhint("Call llama_sync_remove first.")));

	SPI_connect();
	before = llama_sync_become(rel->rd_rel->relowner);
	view = make_view(rel, &wish, key, column, expression);
	queue = make_queue(rel, &wish, list_length(key), view);
	enter_registry(registry, &wish, get_relname_relid(view, RelationGetNamespace(rel)), queue, id);
	CommandCounterIncrement();
	sync = llama_sync_by_id(registry, id);
	if (sync == NULL || bms_is_empty(sync->sources))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expression of llama_sync reads no column"),
				 errhint("Name the columns whose changes count as source_columns.")));
	check_cycle(registry, sync);
	make_triggers(sync, fcinfo->flinfo->fn_oid);
	CommandCounterIncrement();
	llama_sync_link(sync);
	llama_sync_become_again(before);
	SPI_finish();
	table_close(rel, NoLock);
	if (wish.background && wish.fill != NULL)
		llama_sync_wake_at_commit();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 *		What is done with one
 * ----------------------------------------------------------------
 */

/* The sync of the first two arguments; raises 42704 when there is none. */
static LlamaSync *
get_sync(FunctionCallInfo fcinfo)
{
	Oid			registry = llama_sync_registry(fcinfo->flinfo->fn_oid);
	Oid			target;
	const char *column;
	List	   *list;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", PG_ARGISNULL(0) ? "target" : "column_name")));
	target = PG_GETARG_OID(0);
	column = NameStr(*PG_GETARG_NAME(1));
	list = llama_sync_list(registry, target, column);
	if (list == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("column \"%s\" of table \"%s\" is not kept in step",
						column, get_rel_name(target) ? get_rel_name(target) : "?")));
	llama_sync_check_owner(linitial(list));
	return linitial(list);
}

static void
update_registry(FunctionCallInfo fcinfo, const char *statement, const LlamaSync *sync)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(sync->id)};

	SPI_connect();
	llama_sync_registry_execute(llama_sync_registry(fcinfo->flinfo->fn_oid), statement,
								1, types, values, NULL);
	SPI_finish();
}

#define THE_ROW " WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid"

Datum
llama_sync_pause(PG_FUNCTION_ARGS)
{
	update_registry(fcinfo, "UPDATE $registry SET paused = true" THE_ROW, get_sync(fcinfo));
	PG_RETURN_VOID();
}

Datum
llama_sync_resume(PG_FUNCTION_ARGS)
{
	LlamaSync  *sync = get_sync(fcinfo);

	update_registry(fcinfo, "UPDATE $registry SET paused = false" THE_ROW, sync);
	update_registry(fcinfo, "UPDATE $runs SET sqlstate = NULL, message = NULL" THE_ROW, sync);
	llama_sync_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * A part that has changed hands goes too, if it is known to be one: the registry
 * of a restored database has nothing but names.
 */
static void
add_part(ObjectAddresses *parts, const LlamaSync *sync, Oid relation, char kind, Oid linked_to)
{
	ObjectAddress address;

	if (get_rel_relkind(relation) != kind ||
		(llama_sync_relation_owner(relation) != sync->owner && !is_linked(relation, linked_to)))
		return;
	ObjectAddressSet(address, RelationRelationId, relation);
	add_exact_object_address(&address, parts);
}

/* Whoever owns the parts, and whatever they are now: so no statements with names. */
Datum
llama_sync_remove(PG_FUNCTION_ARGS)
{
	LlamaSync  *sync = get_sync(fcinfo);
	ObjectAddresses *parts = new_object_addresses();
	ObjectAddress trigger;
	ListCell   *cell;

	LockRelationOid(sync->view, LLAMA_SYNC_LOCK);
	LockRelationOid(sync->target, AccessExclusiveLock);
	update_registry(fcinfo, "DELETE FROM $registry" THE_ROW, sync);
	foreach(cell, find_triggers(sync))
	{
		ObjectAddressSet(trigger, TriggerRelationId, lfirst_oid(cell));
		add_exact_object_address(&trigger, parts);
	}
	add_part(parts, sync, sync->queue, RELKIND_RELATION, sync->view);
	add_part(parts, sync, sync->view, RELKIND_VIEW, sync->target);
	performMultipleDeletions(parts, DROP_RESTRICT, 0);
	free_object_addresses(parts);
	PG_RETURN_VOID();
}

Datum
llama_sync_retry(PG_FUNCTION_ARGS)
{
	LlamaSync  *sync = get_sync(fcinfo);
	LlamaSyncIdentity before;
	int64		n;

	llama_sync_check_whole(sync);
	SPI_connect();
	before = llama_sync_become(sync->owner);
	execute(llama_sync_sql(sync,
						   "UPDATE $queue q SET sqlstate = NULL, message = NULL, tried_at = NULL,"
						   " queued_at = DEFAULT, version = DEFAULT WHERE q.sqlstate IS NOT NULL"));
	n = SPI_processed;
	llama_sync_become_again(before);
	SPI_finish();
	llama_sync_wake_at_commit();
	PG_RETURN_INT64(n);
}
