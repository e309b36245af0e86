/*-------------------------------------------------------------------------
 *
 * sync_registry.c
 *	  The registry's rows.
 *
 * The registry is two tables of the extension that nobody else may write to;
 * they are read and written here with their owner's rights, with statements that
 * hold nothing of the caller's but values.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "sync.h"

#define REGISTRY	"llama_sync_registry"
#define RUNS		"llama_sync_runs"

Oid
llama_sync_registry(Oid function)
{
	Oid			registry = get_relname_relid(REGISTRY, get_func_namespace(function));

	if (!OidIsValid(registry))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of the extension llama3 does not exist", REGISTRY)));
	return registry;
}

/* ----------------------------------------------------------------
 *		The registry's rows
 * ----------------------------------------------------------------
 */

/* The statement with names for $registry and $runs. */
static char *
with_tables(const char *statement, Oid registry)
{
	char	   *schema = get_namespace_name(get_rel_namespace(registry));
	struct
	{
		const char *item;
		char	   *name;
	}			tables[] = {
		{"$registry", quote_qualified_identifier(schema, REGISTRY)},
		{"$runs", quote_qualified_identifier(schema, RUNS)}
	};
	StringInfoData buf;

	initStringInfo(&buf);
	while (*statement != '\0')
	{
		bool		found = false;

		for (int i = 0; i < (int) lengthof(tables) && !found; i++)
		{
			found = strncmp(statement, tables[i].item, strlen(tables[i].item)) == 0;
			if (found)
			{
				appendStringInfoString(&buf, tables[i].name);
				statement += strlen(tables[i].item);
			}
		}
		if (!found)
			appendStringInfoChar(&buf, *statement++);
	}
	return buf.data;
}

void
llama_sync_registry_execute(Oid registry, const char *statement, int n_values, Oid *types,
							Datum *values, const char *nulls)
{
	char	   *sql = with_tables(statement, registry);
	Oid			user;
	int			context;
	int			result;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(llama_sync_relation_owner(registry),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	result = SPI_execute_with_args(sql, n_values, types, values, nulls, false, 0);
	SetUserIdAndSecContext(user, context);
	if (result < 0)
		elog(ERROR, "statement on " REGISTRY " failed: %s", SPI_result_code_string(result));
}

static List *
text_list(Datum array)
{
	Datum	   *items;
	int			n;
	List	   *list = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &items, NULL, &n);
	for (int i = 0; i < n; i++)
		list = lappend(list, TextDatumGetCString(items[i]));
	return list;
}

/* A row of READ's columns. */
static LlamaSync *
read_row(Oid registry, HeapTuple row, TupleDesc tupdesc)
{
	LlamaSync  *sync = palloc0(sizeof(LlamaSync));
	bool		isnull;
	Datum		position;

	sync->schema = get_rel_namespace(registry);
	sync->id = SPI_getvalue(row, tupdesc, 1);
	sync->target = DatumGetObjectId(SPI_getbinval(row, tupdesc, 2, &isnull));
	sync->column_name = SPI_getvalue(row, tupdesc, 3);
	sync->view = DatumGetObjectId(SPI_getbinval(row, tupdesc, 4, &isnull));
	sync->queue = DatumGetObjectId(SPI_getbinval(row, tupdesc, 5, &isnull));
	sync->search_path = SPI_getvalue(row, tupdesc, 6);
	sync->batch_rows = DatumGetInt32(SPI_getbinval(row, tupdesc, 7, &isnull));
	sync->background = DatumGetBool(SPI_getbinval(row, tupdesc, 8, &isnull));
	sync->paused = DatumGetBool(SPI_getbinval(row, tupdesc, 9, &isnull));
	sync->fill = SPI_getvalue(row, tupdesc, 10);
	position = SPI_getbinval(row, tupdesc, 11, &isnull);
	if (!isnull)
		sync->position = text_list(position);
	sync->rows_filled = DatumGetInt64(SPI_getbinval(row, tupdesc, 12, &isnull));
	sync->run_rows = DatumGetInt64(SPI_getbinval(row, tupdesc, 13, &isnull));
	sync->run_started = DatumGetTimestampTz(SPI_getbinval(row, tupdesc, 14, &isnull));
	sync->run_ended = DatumGetTimestampTz(SPI_getbinval(row, tupdesc, 15, &isnull));
	sync->sqlstate = SPI_getvalue(row, tupdesc, 16);
	sync->message = SPI_getvalue(row, tupdesc, 17);
	sync->owner = llama_sync_relation_owner(sync->target);
	return sync;
}

#define READ \
	"SELECT r.id, r.target, r.column_name, r.definition, r.queue, r.search_path, r.batch_rows," \
	" r.background, r.paused, r.fill, p.position, p.rows_filled, p.run_rows, p.run_started," \
	" p.run_ended, p.sqlstate, p.message" \
	" FROM $registry r LEFT JOIN $runs p ON p.id OPERATOR(pg_catalog.=) r.id"

/* Rows of READ as syncs that are not described, in the caller's memory. */
static List *
read_rows(Oid registry, const char *statement, int n_values, Oid *types, Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *list = NIL;

	SPI_connect();
	llama_sync_registry_execute(registry, statement, n_values, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		list = lappend(list, read_row(registry, SPI_tuptable->vals[i], SPI_tuptable->tupdesc));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return list;
}

/*
 * Whose tables are not looked for is left out before anything of his is locked:
 * nobody waits for somebody else's ALTER TABLE.
 */
List *
llama_sync_list(Oid registry, Oid target, const char *column)
{
	List	   *all = read_rows(registry, READ " ORDER BY r.definition", 0, NULL, NULL);
	List	   *list = NIL;
	ListCell   *cell;

	foreach(cell, all)
	{
		LlamaSync  *sync = lfirst(cell);

		if (OidIsValid(target) ? sync->target != target :
			!llama_sync_is_owner(sync))
			continue;
		if (llama_sync_describe(sync) &&
			(column == NULL || strcmp(llama_sync_column(sync), column) == 0))
			list = lappend(list, sync);
	}
	return list;
}

LlamaSync *
llama_sync_read(Oid registry, const char *id)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(id)};
	List	   *list = read_rows(registry, READ " WHERE r.id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid",
								 1, types, values);

	return list == NIL ? NULL : linitial(list);
}

LlamaSync *
llama_sync_by_id(Oid registry, const char *id)
{
	LlamaSync  *sync = llama_sync_read(registry, id);

	return sync != NULL && llama_sync_describe(sync) ? sync : NULL;
}

List *
llama_sync_ids(Oid registry)
{
	List	   *ids = NIL;
	ListCell   *cell;

	foreach(cell, read_rows(registry, READ " ORDER BY r.definition", 0, NULL, NULL))
		ids = lappend(ids, ((LlamaSync *) lfirst(cell))->id);
	return ids;
}

/* ----------------------------------------------------------------
 *		What is noted of runs
 * ----------------------------------------------------------------
 */

void
llama_sync_note_run(Oid registry, const char *id, int64 rows, int64 run_rows, TimestampTz started,
					const ErrorData *error)
{
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	Datum		values[] = {
		CStringGetTextDatum(id), Int64GetDatum(rows), Int64GetDatum(run_rows),
		TimestampTzGetDatum(started),
		error != NULL ? CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)) : (Datum) 0,
		error != NULL ? CStringGetTextDatum(error->message) : (Datum) 0
	};
	char		nulls[] = {' ', ' ', ' ', ' ', error != NULL ? ' ' : 'n', error != NULL ? ' ' : 'n'};

	llama_sync_registry_execute(registry,
								"INSERT INTO $runs AS p (id, rows_filled, run_rows, run_started, run_ended, sqlstate, message)"
								" SELECT r.id, $2, $3, $4, pg_catalog.clock_timestamp(), $5, $6 FROM $registry r"
								" WHERE r.id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid"
								" ON CONFLICT (id) DO UPDATE SET"
								" rows_filled = p.rows_filled OPERATOR(pg_catalog.+) excluded.rows_filled,"
								" run_rows = excluded.run_rows, run_started = excluded.run_started,"
								" run_ended = excluded.run_ended, sqlstate = excluded.sqlstate,"
								" message = excluded.message",
								lengthof(types), types, values, nulls);
}

void
llama_sync_note_position(Oid registry, const char *id, List *position, bool finished)
{
	Oid			types[] = {TEXTOID, TEXTARRAYOID};
	Datum		values[2] = {CStringGetTextDatum(id)};
	char		nulls[] = {' ', finished ? 'n' : ' '};
	Datum	   *items = palloc(sizeof(Datum) * (list_length(position) + 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, position)
		items[n++] = CStringGetTextDatum(lfirst(cell));
	values[1] = PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
	llama_sync_registry_execute(registry,
								"INSERT INTO $runs AS p (id, position) SELECT r.id, $2 FROM $registry r"
								" WHERE r.id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid"
								" ON CONFLICT (id) DO UPDATE SET position = excluded.position",
								lengthof(types), types, values, nulls);
	if (finished)
		llama_sync_registry_execute(registry,
									"UPDATE $registry SET fill = NULL WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid",
									1, types, values, NULL);
}
