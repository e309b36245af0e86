/*-------------------------------------------------------------------------
 *
 * sync_sql.c
 *	  Statements about a sync, from templates.
 *
 * The statements run with the target's owner's rights and in the midst of
 * anybody's settings, so every name in them is qualified: relations here, and
 * the operators on keys, which can be of any type, by the operator that the
 * type's order is made of.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_proc.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "sync.h"
#include "sync_expression.h"

/* Longest argument of a template's item: an alias. */
#define ALIAS_SIZE	16

typedef enum Operand
{
	KEY,						/* alias.key1 */
	COLUMN						/* alias.id, a column of the target */
} Operand;

char *
llama_sync_relation(Oid relation)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									  get_rel_name(relation));
}

char *
llama_sync_column(const LlamaSync *sync)
{
	return sync->column == 0 ? sync->column_name : get_attname(sync->target, sync->column, false);
}

static void
append_column(StringInfo buf, Oid relation, const char *alias, AttrNumber attnum)
{
	if (alias[0] != '\0')
		appendStringInfo(buf, "%s.", alias);
	appendStringInfoString(buf, quote_identifier(get_attname(relation, attnum, false)));
}

static void
append_operand(StringInfo buf, const LlamaSync *sync, Operand operand, const char *alias, int key)
{
	if (operand == COLUMN)
		append_column(buf, sync->target, alias, sync->keys[key].attnum);
	else
		appendStringInfo(buf, "%s%skey%d", alias, alias[0] != '\0' ? "." : "", key + 1);
}

static void
append_operands(StringInfo buf, const LlamaSync *sync, Operand operand, const char *alias)
{
	for (int i = 0; i < sync->n_keys; i++)
	{
		appendStringInfoString(buf, i > 0 ? ", " : "");
		append_operand(buf, sync, operand, alias, i);
	}
}

static void
append_equal(StringInfo buf, const LlamaSync *sync, Operand operand, const char *alias,
			 Operand other_operand, const char *other)
{
	for (int i = 0; i < sync->n_keys; i++)
	{
		appendStringInfoString(buf, i > 0 ? " AND " : "");
		append_operand(buf, sync, operand, alias, i);
		appendStringInfo(buf, " %s ", sync->keys[i].equal);
		append_operand(buf, sync, other_operand, other, i);
	}
}

static void
append_sources(StringInfo buf, const LlamaSync *sync, const char *alias)
{
	int			attnum = -1;
	const char *separator = "";

	while ((attnum = bms_next_member(sync->sources, attnum)) >= 0)
	{
		appendStringInfoString(buf, separator);
		append_column(buf, sync->target, alias, attnum);
		separator = ", ";
	}
}

/* The key's text form as a literal of its type. */
static void
append_literal(StringInfo buf, const LlamaSync *sync, int key, const char *value)
{
	Oid			type;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(sync->target, sync->keys[key].attnum, &type, &typmod, &collation);
	appendStringInfo(buf, "%s::%s", quote_literal_cstr(value),
					 format_type_extended(type, typmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

/*
 * (a, b) > (x, y), written out because a comparison of rows takes one name for
 * the operators of all columns: a >= x AND (a > x OR (a = x AND (b > y))).
 * The first term is implied by the second; an index wants it.
 */
static void
append_after(StringInfo buf, const LlamaSync *sync, const char *alias)
{
	append_operand(buf, sync, COLUMN, alias, 0);
	appendStringInfo(buf, " %s ", sync->keys[0].greater_equal);
	append_literal(buf, sync, 0, linitial(sync->position));
	appendStringInfoString(buf, " AND (");
	for (int i = 0; i < sync->n_keys; i++)
	{
		const char *value = list_nth(sync->position, i);

		append_operand(buf, sync, COLUMN, alias, i);
		appendStringInfo(buf, " %s ", sync->keys[i].greater);
		append_literal(buf, sync, i, value);
		if (i == sync->n_keys - 1)
			break;
		appendStringInfoString(buf, " OR (");
		append_operand(buf, sync, COLUMN, alias, i);
		appendStringInfo(buf, " %s ", sync->keys[i].equal);
		append_literal(buf, sync, i, value);
		appendStringInfoString(buf, " AND (");
	}
	for (int i = 1; i < sync->n_keys; i++)
		appendStringInfoString(buf, "))");
	appendStringInfoChar(buf, ')');
}

static void
append_object(StringInfo buf, const LlamaSync *sync, const char *alias)
{
	for (int i = 0; i < sync->n_keys; i++)
	{
		char	   *name = get_attname(sync->target, sync->keys[i].attnum, false);

		appendStringInfo(buf, "%s%s, ", i > 0 ? ", " : "", quote_literal_cstr(name));
		append_operand(buf, sync, KEY, alias, i);
	}
}

/* "(a,b)", of aliases, or nothing; returns what follows. */
static const char *
scan_aliases(const char *at, char a[ALIAS_SIZE], char b[ALIAS_SIZE])
{
	int			len = 0;

	a[0] = b[0] = '\0';
	if (*at != '(')
		return at;
	if (sscanf(at, "(%15[a-z_],%15[a-z_])%n", a, b, &len) == 2 && len > 0)
		return at + len;
	b[0] = '\0';
	if (sscanf(at, "(%15[a-z_])%n", a, &len) == 1 && len > 0)
		return at + len;
	return at;
}

#define DIFFER_FUNCTION		"_llama_sync_differ"

/*
 * The function takes "any", and who may create functions in its schema could
 * make one that fits the arguments better, and would be called with the rights
 * of whoever changes a row: no call is made while there are two of the name.
 */
static void
append_differ(StringInfo buf, Oid schema)
{
	CatCList   *functions = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(DIFFER_FUNCTION));
	const char *name = quote_qualified_identifier(get_namespace_name(schema), DIFFER_FUNCTION);
	int			n = 0;

	for (int i = 0; i < functions->n_members; i++)
	{
		HeapTuple	function = &functions->members[i]->tuple;

		n += ((Form_pg_proc) GETSTRUCT(function))->pronamespace == schema;
	}
	ReleaseSysCacheList(functions);
	if (n > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
				 errmsg("there is more than one function %s", name),
				 errhint("Drop those that do not belong to the extension llama3, and revoke CREATE on its schema from whom you do not trust.")));
	appendStringInfoString(buf, name);
}

static void
append_item(StringInfo buf, const LlamaSync *sync, const char *name, const char *a, const char *b)
{
	if (strcmp(name, "queue") == 0)
		appendStringInfoString(buf, llama_sync_relation(sync->queue));
	else if (strcmp(name, "target") == 0)
		appendStringInfoString(buf, llama_sync_relation(sync->target));
	else if (strcmp(name, "view") == 0)
		appendStringInfoString(buf, llama_sync_relation(sync->view));
	else if (strcmp(name, "column") == 0)
		appendStringInfoString(buf, quote_identifier(llama_sync_column(sync)));
	else if (strcmp(name, "differ") == 0)
		append_differ(buf, sync->schema);
	else if (strcmp(name, "value") == 0)
		appendStringInfoString(buf, llama_sync_deparse(sync->target, sync->expression, sync->varno));
	else if (strcmp(name, "names") == 0)
		append_operands(buf, sync, KEY, "");
	else if (strcmp(name, "keys") == 0)
		append_operands(buf, sync, KEY, a);
	else if (strcmp(name, "columns") == 0)
		append_operands(buf, sync, COLUMN, a);
	else if (strcmp(name, "same") == 0)
		append_equal(buf, sync, KEY, a, KEY, b);
	else if (strcmp(name, "match") == 0)
		append_equal(buf, sync, COLUMN, a, KEY, b);
	else if (strcmp(name, "equal") == 0)
		append_equal(buf, sync, COLUMN, a, COLUMN, b);
	else if (strcmp(name, "sources") == 0)
		append_sources(buf, sync, a);
	else if (strcmp(name, "object") == 0)
		append_object(buf, sync, a);
	else if (strcmp(name, "after") == 0)
		append_after(buf, sync, a);
	else
		elog(ERROR, "unknown item \"%s\" in the template of a sync", name);
}

/* Names and values are put in as they are: they may contain a "$". */
char *
llama_sync_sql(const LlamaSync *sync, const char *template)
{
	StringInfoData buf;
	const char *at = template;

	initStringInfo(&buf);
	while (*at != '\0')
	{
		char		name[ALIAS_SIZE];
		char		a[ALIAS_SIZE];
		char		b[ALIAS_SIZE];
		int			len = 0;

		if (*at != '$' || sscanf(at, "$%15[a-z]%n", name, &len) != 1)
		{
			appendStringInfoChar(&buf, *at++);
			continue;
		}
		at = scan_aliases(at + len, a, b);
		append_item(&buf, sync, name, a, b);
	}
	return buf.data;
}
