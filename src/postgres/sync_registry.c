/*-------------------------------------------------------------------------
 *
 * sync_registry.c
 *	  Reading syncs: the registry's rows, and what their views say.
 *
 * The registry is a table of the extension that nobody is granted; it is read
 * and written here with its owner's rights, with statements that hold nothing
 * of the caller's but values.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "sync.h"

#define REGISTRY	"llama_sync_registry"

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

Oid
llama_sync_relation_owner(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* ----------------------------------------------------------------
 *		What a view says
 * ----------------------------------------------------------------
 */

/* The operator as it is written wherever its schema is not in the path. */
static char *
operator_name(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

static void
describe_key(LlamaSyncKey *key, Var *var)
{
	TypeCacheEntry *type = lookup_type_cache(var->vartype, TYPECACHE_EQ_OPR | TYPECACHE_GT_OPR |
											 TYPECACHE_BTREE_OPFAMILY);
	Oid			at_least = get_opfamily_member(type->btree_opf, type->btree_opintype,
											   type->btree_opintype,
											   BTGreaterEqualStrategyNumber);

	key->attnum = var->varattno;
	key->type = var->vartype;
	key->equal = operator_name(type->eq_opr);
	key->greater = operator_name(type->gt_opr);
	key->greater_equal = operator_name(at_least);
}

static void
add_sources(LlamaSync *sync, Node *expression)
{
	Bitmapset  *attributes = NULL;
	int			member = -1;

	pull_varattnos(expression, sync->varno, &attributes);
	while ((member = bms_next_member(attributes, member)) >= 0)
	{
		int			attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum > 0)
			sync->sources = bms_add_member(sync->sources, attnum);
	}
}

/* A column of the view; keys come first, then "current", which tells the table. */
static void
describe_column(LlamaSync *sync, Query *query, TargetEntry *entry)
{
	if (strncmp(entry->resname, "key", 3) == 0)
		describe_key(&sync->keys[sync->n_keys++], castNode(Var, entry->expr));
	else if (strcmp(entry->resname, "current") == 0)
	{
		Var		   *var = castNode(Var, entry->expr);

		sync->varno = var->varno;
		sync->target = rt_fetch(var->varno, query->rtable)->relid;
		sync->column = var->varattno;
	}
	else if (strcmp(entry->resname, "value") == 0)
	{
		sync->expression = (Node *) copyObject(entry->expr);
		add_sources(sync, sync->expression);
	}
	else
		add_sources(sync, (Node *) entry->expr);
}

/* False when the view is gone. */
static bool
describe(LlamaSync *sync)
{
	Relation	view = try_relation_open(sync->view, AccessShareLock);
	Query	   *query;
	ListCell   *cell;

	if (view == NULL)
		return false;
	if (view->rd_rel->relkind != RELKIND_VIEW ||
		get_rel_relkind(sync->queue) != RELKIND_RELATION)
	{
		relation_close(view, AccessShareLock);
		return false;
	}
	query = get_view_query(view);
	sync->keys = palloc0(sizeof(LlamaSyncKey) * list_length(query->targetList));
	foreach(cell, query->targetList)
		describe_column(sync, query, lfirst_node(TargetEntry, cell));
	sync->owner = llama_sync_relation_owner(sync->target);
	relation_close(view, NoLock);
	return true;
}

/* ----------------------------------------------------------------
 *		The registry's rows
 * ----------------------------------------------------------------
 */

void
llama_sync_registry_execute(Oid registry, const char *statement, int n_values, Oid *types,
							Datum *values, const char *nulls)
{
	char	   *sql = psprintf(statement, llama_sync_relation(registry));
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

/* A row of READ's columns; NULL when what it describes is gone. */
static LlamaSync *
read_row(Oid registry, HeapTuple row, TupleDesc tupdesc)
{
	LlamaSync  *sync = palloc0(sizeof(LlamaSync));
	bool		isnull;
	Datum		position;

	sync->schema = get_rel_namespace(registry);
	sync->id = SPI_getvalue(row, tupdesc, 1);
	sync->view = DatumGetObjectId(SPI_getbinval(row, tupdesc, 2, &isnull));
	sync->queue = DatumGetObjectId(SPI_getbinval(row, tupdesc, 3, &isnull));
	sync->search_path = SPI_getvalue(row, tupdesc, 4);
	sync->batch_rows = DatumGetInt32(SPI_getbinval(row, tupdesc, 5, &isnull));
	sync->background = DatumGetBool(SPI_getbinval(row, tupdesc, 6, &isnull));
	sync->paused = DatumGetBool(SPI_getbinval(row, tupdesc, 7, &isnull));
	sync->fill = SPI_getvalue(row, tupdesc, 8);
	position = SPI_getbinval(row, tupdesc, 9, &isnull);
	if (!isnull)
		sync->position = text_list(position);
	sync->rows_filled = DatumGetInt64(SPI_getbinval(row, tupdesc, 10, &isnull));
	sync->run_rows = DatumGetInt64(SPI_getbinval(row, tupdesc, 11, &isnull));
	sync->run_started = DatumGetTimestampTz(SPI_getbinval(row, tupdesc, 12, &isnull));
	sync->run_ended = DatumGetTimestampTz(SPI_getbinval(row, tupdesc, 13, &isnull));
	sync->sqlstate = SPI_getvalue(row, tupdesc, 14);
	sync->message = SPI_getvalue(row, tupdesc, 15);
	return describe(sync) ? sync : NULL;
}

#define READ \
	"SELECT id, definition, queue, search_path, batch_rows, background, paused, fill, position," \
	" rows_filled, run_rows, run_started, run_ended, sqlstate, message FROM %s"

/* Syncs are copied into the caller's memory by being read in it. */
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
		LlamaSync  *sync = read_row(registry, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		if (sync != NULL)
			list = lappend(list, sync);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return list;
}

List *
llama_sync_list(Oid registry, Oid target, const char *column)
{
	List	   *all = read_rows(registry, READ " ORDER BY definition", 0, NULL, NULL);
	List	   *list = NIL;
	ListCell   *cell;

	foreach(cell, all)
	{
		LlamaSync  *sync = lfirst(cell);

		if (OidIsValid(target) && sync->target != target)
			continue;
		if (column != NULL && strcmp(llama_sync_column(sync), column) != 0)
			continue;
		list = lappend(list, sync);
	}
	return list;
}

LlamaSync *
llama_sync_by_id(Oid registry, const char *id)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(id)};
	List	   *list = read_rows(registry, READ " WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid",
								 1, types, values);

	return list == NIL ? NULL : linitial(list);
}

/* ----------------------------------------------------------------
 *		Rights
 * ----------------------------------------------------------------
 */

bool
llama_sync_is_owner(const LlamaSync *sync)
{
	return has_privs_of_role(GetUserId(), sync->owner);
}

void
llama_sync_check_owner(const LlamaSync *sync)
{
	if (!llama_sync_is_owner(sync))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(sync->target));
}
