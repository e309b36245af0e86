/*-------------------------------------------------------------------------
 *
 * batch_find.c
 *	  Finding the calls of our functions that a batch node can make.
 *
 * A function is known by its library and symbol, not by its name, which anybody
 * may give, and a call is left alone where the server would do more than call
 * our code.
 *
 * Only a call that is evaluated for every row is taken out.  CASE, COALESCE,
 * AND and OR evaluate some of their arguments only sometimes, and CASE is the
 * documented way to say so; of those we look into the part that is always
 * evaluated.  Window functions and subplans are left alone, and so is every kind
 * of expression that is not known here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "batch.h"

/* ----------------------------------------------------------------
 *		Which functions are ours
 * ----------------------------------------------------------------
 */

typedef struct FunctionEntry
{
	Oid			function;		/* key */
	const LlamaCallKind *kind;	/* NULL: not ours */
} FunctionEntry;

static HTAB *functions = NULL;

/* Some function changed: forget all. */
static void
forget_functions(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS status;
	FunctionEntry *entry;

	hash_seq_init(&status, functions);
	while ((entry = hash_seq_search(&status)) != NULL)
		(void) hash_search(functions, &entry->function, HASH_REMOVE, NULL);
}

/* Is probin a way to name this library: llama3 or .../llama3, perhaps .so? */
static bool
names_our_library(const char *probin)
{
	const char *slash = strrchr(probin, '/');
	const char *name = slash != NULL ? slash + 1 : probin;

	return strcmp(name, "llama3") == 0 || strcmp(name, "llama3" DLSUFFIX) == 0;
}

/*
 * Is a call of this function a call of its C code and nothing else?  Whoever
 * altered it to run with settings, as its owner, or not for NULLs gets that,
 * from the server's function manager.
 */
static bool
is_called_directly(HeapTuple tuple, Form_pg_proc form)
{
	return !form->proretset && !form->prosecdef && !form->proisstrict &&
		form->provolatile != PROVOLATILE_VOLATILE &&
		heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) &&
		!FmgrHookIsNeeded(form->oid);
}

static const LlamaCallKind *
look_up_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	const LlamaCallKind *kind = NULL;
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prolang == ClanguageId && is_called_directly(tuple, form))
	{
		bool		no_library;
		bool		no_symbol;
		Datum		probin = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &no_library);
		Datum		prosrc = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &no_symbol);

		if (!no_library && !no_symbol && names_our_library(TextDatumGetCString(probin)))
			kind = llama_call_kind(TextDatumGetCString(prosrc));
	}
	ReleaseSysCache(tuple);
	return kind;
}

const LlamaCallKind *
llama_function_kind(Oid function)
{
	FunctionEntry *entry;
	const LlamaCallKind *kind;

	/* Extensions' functions have ordinary OIDs: most end here. */
	if (function < FirstNormalObjectId)
		return NULL;
	if (functions == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(FunctionEntry)};

		functions = hash_create("llama3 functions", 64, &control, HASH_ELEM | HASH_BLOBS);
		CacheRegisterSyscacheCallback(PROCOID, forget_functions, (Datum) 0);
	}
	entry = hash_search(functions, &function, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->kind;

	/* The lookup may process invalidations: enter what it found after it. */
	kind = look_up_function(function);
	entry = hash_search(functions, &function, HASH_ENTER, NULL);
	entry->kind = kind;
	return kind;
}

/* ----------------------------------------------------------------
 *		Calls in an expression
 * ----------------------------------------------------------------
 */

/* Does a node stand for a value that only an expression around it provides? */
static bool
has_placeholder(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_CaseTestExpr:
		case T_CoerceToDomainValue:
			return true;
		case T_CaseExpr:
			/* With a test expression it provides the value itself. */
			if (((CaseExpr *) node)->arg != NULL)
				return has_placeholder((Node *) ((CaseExpr *) node)->arg, context);
			break;
		case T_ArrayCoerceExpr:
			return has_placeholder((Node *) ((ArrayCoerceExpr *) node)->arg, context);
		default:
			break;
	}
	return expression_tree_walker(node, has_placeholder, context);
}

/* Can this call be begun ahead of its row? */
static bool
is_call(const FuncExpr *func)
{
	return llama_function_kind(func->funcid) != NULL && !func->funcretset &&
		!contain_volatile_functions((Node *) func->args) &&
		!has_placeholder((Node *) func->args, NULL);
}

/* Find in the first element of a list only. */
static bool
find_in_first(List *list, List **calls)
{
	return list != NIL && llama_find_calls(linitial(list), calls);
}

bool
llama_find_calls(Node *node, List **calls)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_FuncExpr:
			if (is_call((FuncExpr *) node))
			{
				List	   *inner = NIL;

				(void) llama_find_calls((Node *) ((FuncExpr *) node)->args, &inner);
				if (inner == NIL)
					*calls = list_append_unique(*calls, node);
				else
					*calls = list_concat_unique(*calls, inner);
				return false;
			}
			break;
		case T_CaseExpr:
			{
				CaseExpr   *expr = (CaseExpr *) node;

				/* With a test expression the first comparison is made too. */
				if (expr->arg != NULL)
					(void) llama_find_calls((Node *) expr->arg, calls);
				if (expr->args != NIL)
					(void) llama_find_calls((Node *) linitial_node(CaseWhen, expr->args)->expr, calls);
				return false;
			}
		case T_CoalesceExpr:
			return find_in_first(((CoalesceExpr *) node)->args, calls);
		case T_BoolExpr:
			if (((BoolExpr *) node)->boolop != NOT_EXPR)
				return find_in_first(((BoolExpr *) node)->args, calls);
			break;
		case T_ArrayCoerceExpr:
			return llama_find_calls((Node *) ((ArrayCoerceExpr *) node)->arg, calls);
		case T_SubscriptingRef:
			/* Subscripts are not evaluated for a NULL array. */
			return llama_find_calls((Node *) ((SubscriptingRef *) node)->refexpr, calls);
		case T_List:
		case T_TargetEntry:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_CollateExpr:
		case T_ConvertRowtypeExpr:
		case T_CoerceToDomain:
		case T_FieldSelect:
		case T_FieldStore:
		case T_RowExpr:
		case T_ArrayExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
			/* All parts of these are always evaluated. */
			break;
		default:
			return false;
	}
	return expression_tree_walker(node, llama_find_calls, calls);
}

List *
llama_ready_calls(Node *node)
{
	List	   *calls = NIL;

	(void) llama_find_calls(node, &calls);
	return calls;
}

bool
llama_has_calls(Node *node)
{
	return llama_ready_calls(node) != NIL;
}
