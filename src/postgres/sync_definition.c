/*-------------------------------------------------------------------------
 *
 * sync_definition.c
 *	  What the view and the queue of a sync say, and whether they are still
 *	  what llama_sync made.
 *
 * Both are their owner's, who can replace the view by another, alter the queue,
 * or give them away.  What follows from them is taken on three conditions:
 *	- the view reads the sync's table and nothing else, and has the columns
 *	  that llama_sync gave it; the expression may be another;
 *	- the queue is a plain table with the columns that llama_sync gave it, whose
 *	  values are read as of their types;
 *	- to fill the column: table, view and queue belong to one role, which thus
 *	  runs only what is its own.
 * Otherwise the sync is broken, which is told and not raised: others go on.
 *
 * Locks on view and queue are held to the end of the transaction, so what has
 * been found is true as long; who fills the column holds one on the table too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "sync.h"

/* ----------------------------------------------------------------
 *		The view
 * ----------------------------------------------------------------
 */

/* Is it SELECT ... FROM target and nothing else?  Then its number is kept. */
static bool
reads_target_only(LlamaSync *sync, Query *query)
{
	RangeTblRef *from;
	RangeTblEntry *entry;

	if (query->commandType != CMD_SELECT || query->setOperations != NULL ||
		query->cteList != NIL || query->hasSubLinks || query->hasAggs ||
		query->hasWindowFuncs || query->hasTargetSRFs || query->groupClause != NIL ||
		query->groupingSets != NIL || query->havingQual != NULL ||
		query->distinctClause != NIL || query->sortClause != NIL ||
		query->limitOffset != NULL || query->limitCount != NULL || query->rowMarks != NIL ||
		query->jointree->quals != NULL || list_length(query->jointree->fromlist) != 1)
		return false;
	from = linitial(query->jointree->fromlist);
	if (!IsA(from, RangeTblRef) || from->rtindex < 1 || from->rtindex > list_length(query->rtable))
		return false;
	entry = rt_fetch(from->rtindex, query->rtable);
	sync->varno = from->rtindex;
	return entry->rtekind == RTE_RELATION && entry->relid == sync->target &&
		entry->relkind == RELKIND_RELATION && entry->tablesample == NULL;
}

/* The view's column at this place, if it has the name; else NULL. */
static Node *
column_named(Query *query, int place, const char *name)
{
	TargetEntry *entry;

	if (place >= list_length(query->targetList))
		return NULL;
	entry = list_nth(query->targetList, place);
	return entry->resname != NULL && strcmp(entry->resname, name) == 0 ? (Node *) entry->expr : NULL;
}

/* The number of the target's column that the node is; 0 if it is something else. */
static AttrNumber
column_of_target(const LlamaSync *sync, Node *node)
{
	Var		   *var = (Var *) node;

	if (node == NULL || !IsA(node, Var) || var->varno != sync->varno || var->varlevelsup != 0 ||
		var->varattno <= 0 || get_atttype(sync->target, var->varattno) != var->vartype)
		return 0;
	return var->varattno;
}

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

/* False for a type that has no order, which is no primary key's. */
static bool
describe_key(LlamaSync *sync, LlamaSyncKey *key, Node *node)
{
	TypeCacheEntry *type;
	Oid			at_least;

	key->attnum = column_of_target(sync, node);
	if (key->attnum == 0)
		return false;
	key->type = castNode(Var, node)->vartype;
	type = lookup_type_cache(key->type, TYPECACHE_EQ_OPR | TYPECACHE_GT_OPR |
							 TYPECACHE_BTREE_OPFAMILY);
	if (!OidIsValid(type->eq_opr) || !OidIsValid(type->gt_opr) || !OidIsValid(type->btree_opf))
		return false;
	at_least = get_opfamily_member(type->btree_opf, type->btree_opintype, type->btree_opintype,
								   BTGreaterEqualStrategyNumber);
	if (!OidIsValid(at_least))
		return false;
	key->equal = operator_name(type->eq_opr);
	key->greater = operator_name(type->gt_opr);
	key->greater_equal = operator_name(at_least);
	return true;
}

/* What the expression reads; false if that is more than other columns of the row. */
static bool
add_sources(LlamaSync *sync, Node *expression)
{
	Bitmapset  *attributes = NULL;
	int			member = -1;

	pull_varattnos(expression, sync->varno, &attributes);
	while ((member = bms_next_member(attributes, member)) >= 0)
	{
		int			attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum <= 0 || attnum == sync->column)
			return false;
		sync->sources = bms_add_member(sync->sources, attnum);
	}
	return true;
}

/* Columns in the order in which llama_sync makes them. */
static bool
describe_columns(LlamaSync *sync, Query *query)
{
	int			place = 0;
	Node	   *node;

	sync->keys = palloc0(sizeof(LlamaSyncKey) * INDEX_MAX_KEYS);
	while (place < INDEX_MAX_KEYS &&
		   (node = column_named(query, place, psprintf("key%d", place + 1))) != NULL)
		if (!describe_key(sync, &sync->keys[place++], node))
			return false;
	sync->n_keys = place;
	sync->column = column_of_target(sync, column_named(query, place++, "current"));
	sync->expression = copyObject(column_named(query, place++, "value"));
	if (sync->n_keys == 0 || sync->column == 0 || sync->expression == NULL ||
		!add_sources(sync, sync->expression))
		return false;
	for (int i = 1; place < list_length(query->targetList); i++)
	{
		node = column_named(query, place++, psprintf("source%d", i));
		if (column_of_target(sync, node) == 0 || !add_sources(sync, node))
			return false;
	}
	return true;
}

static bool
describe_view(LlamaSync *sync, Relation view)
{
	Query	   *query = get_view_query(view);

	if (reads_target_only(sync, query) && describe_columns(sync, query))
		return true;
	sync->n_keys = 0;
	sync->column = 0;
	sync->expression = NULL;
	sync->sources = NULL;
	return false;
}

/* ----------------------------------------------------------------
 *		The queue
 * ----------------------------------------------------------------
 */

static bool
has_column(Relation rel, const char *name, Oid type)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	return attnum > 0 && get_atttype(RelationGetRelid(rel), attnum) == type;
}

/* Row security that is forced, or heirs, would bring in what others wrote. */
static bool
is_queue(const LlamaSync *sync, Relation rel)
{
	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP ||
		rel->rd_rel->relispartition || rel->rd_rel->relforcerowsecurity ||
		has_superclass(RelationGetRelid(rel)) ||
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		return false;
	for (int i = 0; i < sync->n_keys; i++)
		if (!has_column(rel, psprintf("key%d", i + 1), sync->keys[i].type))
			return false;
	return has_column(rel, "version", XID8OID) && has_column(rel, "queued_at", TIMESTAMPTZOID) &&
		has_column(rel, "tried_at", TIMESTAMPTZOID) && has_column(rel, "sqlstate", TEXTOID) &&
		has_column(rel, "message", TEXTOID);
}

/* ----------------------------------------------------------------
 *		All of it
 * ----------------------------------------------------------------
 */

static char *
not_made(const char *kind, Relation rel)
{
	return psprintf("%s \"%s\" is not what llama_sync made", kind, RelationGetRelationName(rel));
}

/* NULL if the relation is the target's owner's. */
static char *
belongs_to_another(const LlamaSync *sync, Relation rel)
{
	if (rel->rd_rel->relowner == sync->owner)
		return NULL;
	return psprintf("\"%s\" belongs to role \"%s\", not to \"%s\"", RelationGetRelationName(rel),
					GetUserNameFromId(rel->rd_rel->relowner, false),
					GetUserNameFromId(sync->owner, false));
}

static void
describe_parts(LlamaSync *sync, Relation view)
{
	Relation	queue = try_relation_open(sync->queue, AccessShareLock);

	if (!describe_view(sync, view))
		sync->broken = not_made("view", view);
	else if (queue == NULL)
		sync->broken = "its queue does not exist";
	else if (!is_queue(sync, queue))
		sync->broken = not_made("table", queue);
	else
	{
		sync->described = true;
		sync->queue_owner = queue->rd_rel->relowner;
		sync->broken = belongs_to_another(sync, view);
		if (sync->broken == NULL)
			sync->broken = belongs_to_another(sync, queue);
	}
	if (queue != NULL)
		relation_close(queue, NoLock);
}

bool
llama_sync_describe(LlamaSync *sync)
{
	Relation	view = try_relation_open(sync->view, AccessShareLock);
	bool		exists;

	if (view == NULL)
		return false;
	/* Now that we have locks. */
	sync->owner = llama_sync_relation_owner(sync->target);
	exists = view->rd_rel->relkind == RELKIND_VIEW && OidIsValid(sync->owner);
	if (exists)
		describe_parts(sync, view);
	relation_close(view, NoLock);
	return exists;
}

void
llama_sync_check_whole(const LlamaSync *sync)
{
	if (sync->broken != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot keep column \"%s\" of table \"%s\" in step",
						llama_sync_column(sync), get_rel_name(sync->target)),
				 errdetail_internal("It is broken: %s.", sync->broken)));
}
