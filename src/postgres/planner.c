/*-------------------------------------------------------------------------
 *
 * planner.c
 *	  The planner's hook: what is done about a query that calls the model.
 *
 * The query is planned by the server, and by whoever's hook was there before
 * ours.  Then:
 *
 * Batch nodes are put into the plan (batch_plan.c).
 *
 * JIT is switched off.  The server compiles expressions when the plan's cost
 * passes jit_above_cost, which it does with a few calls: but that is time that
 * the engine takes, and what is left to compile is not worth the 24 MB and the
 * 100 ms that loading the compiler takes in each backend.
 *
 * Parallel plans.  The engine is shared, and one process keeps it busy, so that
 * more of them make no call come sooner; they only begin more calls than a LIMIT
 * needs.  But the planner divides all costs among the workers.  Where it chose
 * a parallel plan, the query is planned once more with the calls' costs hidden:
 * if the rest of it is not worth workers, it is planned without them.  Those
 * other plannings are done on copies that have no query id, so that neighbours
 * that count plans by it see one.
 *
 * A query without our functions costs the walks that find that out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "jit/jit.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/planner.h"

#include "batch.h"
#include "compat.h"
#include "cost.h"
#include "outer_join.h"

static planner_hook_type previous_planner = NULL;

/* What the hook was called with, but for the query. */
typedef struct Request
{
	const char *query_string;
	int			cursor_options;
	ParamListInfo params;
	struct ExplainState *explain;	/* always NULL before 19 */
} Request;

static PlannedStmt *
plan_query(Query *query, const Request *request, int cursor_options)
{
	return llama_call_planner(previous_planner != NULL ? previous_planner : standard_planner,
							  query, request->query_string, cursor_options, request->params, request->explain);
}

/* Is there a call of one of our functions?  A walker, also of queries. */
static bool
has_calls(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && llama_function_kind(((FuncExpr *) node)->funcid) != NULL)
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_calls, context, 0);
	return expression_tree_walker(node, has_calls, context);
}

/*
 * Is it a parallel plan?  One that the server was told to make of any plan, for
 * tests, has a single worker at the top.
 */
static bool
is_parallel(const PlannedStmt *statement)
{
	return statement->parallelModeNeeded &&
		!(IsA(statement->planTree, Gather) && ((Gather *) statement->planTree)->single_copy);
}

/* Would the query get a parallel plan if its calls cost nothing? */
static bool
is_worth_workers(Query *query, const Request *request)
{
	bool		hidden = llama_hide_costs(true);
	PlannedStmt *statement = NULL;

	PG_TRY();
	{
		statement = plan_query(query, request, request->cursor_options);
	}
	PG_FINALLY();
	{
		(void) llama_hide_costs(hidden);
	}
	PG_END_TRY();
	return is_parallel(statement);
}

static PlannedStmt *
plan_with_calls(Query *query, const Request *request)
{
	uint64		query_id = query->queryId;
	Query	   *first = copyObject(query);
	Query	   *second = copyObject(query);
	PlannedStmt *statement = plan_query(query, request, request->cursor_options);

	if (!is_parallel(statement))
		return statement;
	first->queryId = 0;
	if (is_worth_workers(first, request))
		return statement;
	second->queryId = 0;
	statement = plan_query(second, request, request->cursor_options & ~CURSOR_OPT_PARALLEL_OK);
	statement->queryId = query_id;
	return statement;
}

static PlannedStmt *
llama_planner(LLAMA_PLANNER_PARAMS)
{
	Request		request = {query_string, cursor_options, params, LLAMA_PLANNER_EXPLAIN};
	uint64		asked = llama_costs_asked();
	PlannedStmt *statement;

	if ((cursor_options & CURSOR_OPT_PARALLEL_OK) != 0 && max_parallel_workers_per_gather > 0 &&
		has_calls((Node *) query, NULL))
		statement = plan_with_calls(query, &request);
	else
		statement = plan_query(query, &request, cursor_options);

	if (llama_costs_asked() != asked)
		statement->jitFlags = PGJIT_NONE;
	/* A scrollable cursor goes back over rows, which a batch node cannot. */
	if (llama3_enable_batching && (cursor_options & CURSOR_OPT_SCROLL) == 0)
		llama_batch_statement(statement);
	return statement;
}

void
llama_planner_init(void)
{
	previous_planner = planner_hook;
	planner_hook = llama_planner;
	RegisterCustomScanMethods(&llama_batch_methods);
	RegisterCustomScanMethods(&llama_row_number_methods);
	RegisterCustomScanMethods(&llama_outer_join_methods);
}
