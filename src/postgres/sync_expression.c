/*-------------------------------------------------------------------------
 *
 * sync_expression.c
 *	  Checking what llama_sync was given: the table, the column, the expression.
 *
 * The expression is held to what UPDATE takes on the right of SET, and it may
 * read nothing but columns of its own row: other tables' changes are not seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parse_target.h"
#include "parser/parser.h"
#include "rewrite/rewriteManip.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "sync_expression.h"

#define PREFIX	"SELECT "

/* ----------------------------------------------------------------
 *		The table
 * ----------------------------------------------------------------
 */

static void
refuse_unseen(Relation rel, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot keep a column of table \"%s\" in step", RelationGetRelationName(rel)),
			 errdetail_internal("%s", detail)));
}

void
llama_sync_check_target(Relation rel)
{
	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel))));
	if (IsSystemRelation(rel))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied: \"%s\" is a system catalog", RelationGetRelationName(rel))));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_unseen(rel, "Other sessions cannot see a temporary table.");
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		refuse_unseen(rel, "It is partitioned: statements on its partitions do not run its triggers.");
	if (rel->rd_rel->relispartition)
		refuse_unseen(rel, "It is a partition: statements on the partitioned table do not run its triggers.");
	if (has_superclass(RelationGetRelid(rel)) ||
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		refuse_unseen(rel, "It inherits or is inherited: statements on the parent do not run its children's triggers.");
	if (rel->rd_rel->relforcerowsecurity)
		refuse_unseen(rel, "Row-level security is forced on its owner, who would not see all rows.");
}

/* Attribute numbers of the primary key; NIL if there is none. */
List *
llama_sync_primary_key(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	List	   *key = NIL;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(cell));
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisprimary)
			for (int i = 0; i < index->indnkeyatts; i++)
				key = lappend_int(key, index->indkey.values[i]);
		ReleaseSysCache(tuple);
	}
	return key;
}

/* ----------------------------------------------------------------
 *		Columns
 * ----------------------------------------------------------------
 */

AttrNumber
llama_sync_find_column(Relation rel, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						name, RelationGetRelationName(rel))));
	if (attnum < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is a system column", name)));
	return attnum;
}

AttrNumber
llama_sync_target_column(Relation rel, const char *name, List *key)
{
	AttrNumber	attnum = llama_sync_find_column(rel, name);
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
	const char *what = NULL;

	if (list_member_int(key, attnum))
		what = "It is part of the primary key.";
	else if (attribute->attgenerated != '\0')
		what = "It is a generated column.";
	else if (attribute->attidentity != '\0')
		what = "It is an identity column.";
	if (what != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot keep column \"%s\" of table \"%s\" in step",
						name, RelationGetRelationName(rel)),
				 errdetail_internal("%s", what)));
	return attnum;
}

/* ----------------------------------------------------------------
 *		The expression
 * ----------------------------------------------------------------
 */

/* Positions in the expression are not positions in the caller's statement. */
static void
expression_error(void *arg)
{
	const char *text = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position - strlen(PREFIX));
		internalerrquery(text);
	}
	errcontext("expression of llama_sync: %s", text);
}

/* The raw expression in the text, which must be one and nothing else. */
static Node *
parse_raw(const char *text)
{
	List	   *statements = raw_parser(psprintf(PREFIX "%s", text), RAW_PARSE_DEFAULT);
	SelectStmt *select;
	ResTarget  *result;

	if (list_length(statements) == 1 && IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
	{
		select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
		if (list_length(select->targetList) == 1 && select->distinctClause == NIL &&
			select->intoClause == NULL && select->fromClause == NIL &&
			select->whereClause == NULL && select->groupClause == NIL &&
			select->havingClause == NULL && select->windowClause == NIL &&
			select->sortClause == NIL && select->limitOffset == NULL &&
			select->limitCount == NULL && select->lockingClause == NIL &&
			select->withClause == NULL && select->op == SETOP_NONE)
		{
			result = linitial_node(ResTarget, select->targetList);
			if (result->name == NULL)
				return result->val;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("\"%s\" is not one expression", text)));
}

static void
check_sources(Relation rel, AttrNumber column, Node *expression)
{
	Bitmapset  *attributes = NULL;
	int			member = -1;

	pull_varattnos(expression, 1, &attributes);
	while ((member = bms_next_member(attributes, member)) >= 0)
	{
		int			attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("expression of llama_sync reads a system column")));
		if (attnum == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("expression of llama_sync reads the whole row"),
					 errdetail("The row contains the column itself.")));
		if (attnum == column)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("expression of llama_sync reads the column \"%s\" itself",
							get_attname(RelationGetRelid(rel), column, false))));
	}
}

char *
llama_sync_deparse(Oid target, Node *expression, int varno)
{
	int			nest = NewGUCNestLevel();
	char	   *text;

	/* Deparsing counts the table as the first. */
	expression = copyObject(expression);
	ChangeVarNodes(expression, varno, 1, 0);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	text = deparse_expression(expression, deparse_context_for("t", target), true, false);
	AtEOXact_GUC(true, nest);
	return text;
}

char *
llama_sync_parse(Relation rel, AttrNumber column, const char *text)
{
	ErrorContextCallback callback = {.callback = expression_error, .arg = unconstify(char *, text)};
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;
	Node	   *expression;

	callback.previous = error_context_stack;
	error_context_stack = &callback;

	expression = parse_raw(text);
	pstate->p_sourcetext = psprintf(PREFIX "%s", text);
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, true);
	addNSItemToQuery(pstate, item, false, true, true);
	pstate->p_target_relation = rel;
	pstate->p_target_nsitem = item;
	expression = transformExpr(pstate, expression, EXPR_KIND_UPDATE_SOURCE);
	expression = (Node *) transformAssignedExpr(pstate, (Expr *) expression, EXPR_KIND_UPDATE_SOURCE,
												get_attname(RelationGetRelid(rel), column, false),
												column, NIL, -1);
	assign_expr_collations(pstate, expression);
	if (pstate->p_hasSubLinks)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("expression of llama_sync cannot contain a subquery"),
				 errdetail("Changes of other rows and tables would not be seen.")));
	check_sources(rel, column, expression);
	pstate->p_target_relation = NULL;	/* the caller closes it */
	free_parsestate(pstate);

	error_context_stack = callback.previous;
	return llama_sync_deparse(RelationGetRelid(rel), expression, 1);
}
