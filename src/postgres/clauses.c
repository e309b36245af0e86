/*-------------------------------------------------------------------------
 *
 * clauses.c
 *	  Parts of statements that users give as text.
 *
 * llama_enrich puts them into statements of its own.  The server's grammar says
 * whether a text is the part that it is meant to be and nothing more, so that
 * "x = 1 WHERE false; DELETE ..." is no list of assignments.  The text runs with
 * the rights of who gave it, so this is about clear errors, not about safety.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(llama_assigned_columns);
PG_FUNCTION_INFO_V1(llama_check_condition);

/* What stands before the user's text in the statement that is parsed. */
#define ASSIGNMENTS_PREFIX		"UPDATE t SET "

typedef struct PartContext
{
	const char *text;			/* as the user gave it */
	int			prefix;			/* characters before it in what is parsed */
} PartContext;

/* The place of a syntax error is in the user's text, not in his query. */
static void
move_error_position(void *arg)
{
	const PartContext *context = arg;
	int			position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(Max(position - context->prefix, 1));
	internalerrquery(context->text);
}

/* The one statement, or NULL when there is none or several. */
static Node *
parse(const char *text, const char *prefix, RawParseMode mode)
{
	PartContext context = {text, strlen(prefix)};
	ErrorContextCallback callback;
	List	   *statements;

	callback.callback = move_error_position;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	/* A comment at its end must not hide what follows. */
	statements = raw_parser(psprintf("%s%s\n", prefix, text), mode);
	error_context_stack = callback.previous;
	return list_length(statements) == 1 ? linitial_node(RawStmt, statements)->stmt : NULL;
}

/* text[]: each column once */
Datum
llama_assigned_columns(PG_FUNCTION_ARGS)
{
	char	   *given = text_to_cstring(PG_GETARG_TEXT_PP(0));
	UpdateStmt *update = (UpdateStmt *) parse(given, ASSIGNMENTS_PREFIX, RAW_PARSE_DEFAULT);
	ListCell   *cell;
	Datum	   *names;
	int			n_names = 0;

	if (update == NULL || !IsA(update, UpdateStmt) || update->fromClause != NIL ||
		update->whereClause != NULL || llama_update_returns(update))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("invalid assignments"),
				 errdetail("They must be what can stand between SET and WHERE in UPDATE."),
				 errhint("An example: label = llama_classify(body, ARRAY['bug', 'praise']), summary = llama_summarize(body)")));

	names = palloc(list_length(update->targetList) * sizeof(Datum));
	foreach(cell, update->targetList)
	{
		const char *name = lfirst_node(ResTarget, cell)->name;
		bool		seen = false;

		for (int i = 0; i < n_names; i++)
			seen |= strcmp(TextDatumGetCString(names[i]), name) == 0;
		if (!seen)
			names[n_names++] = CStringGetTextDatum(name);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(names, n_names, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Is the parsed SELECT of RAW_PARSE_PLPGSQL_EXPR nothing but one expression? */
static bool
is_expression(const SelectStmt *select)
{
	const ResTarget *target;

	if (select == NULL || !IsA(select, SelectStmt) || select->op != SETOP_NONE ||
		list_length(select->targetList) != 1 || select->distinctClause != NIL ||
		select->fromClause != NIL || select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL || select->sortClause != NIL ||
		select->limitOffset != NULL || select->limitCount != NULL || select->lockingClause != NIL)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	return target->name == NULL;
}

Datum
llama_check_condition(PG_FUNCTION_ARGS)
{
	char	   *given = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!is_expression((SelectStmt *) parse(given, "", RAW_PARSE_PLPGSQL_EXPR)))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("invalid condition \"%s\"", given),
				 errdetail("It must be what can stand after WHERE.")));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("(%s\n)", given)));
}
