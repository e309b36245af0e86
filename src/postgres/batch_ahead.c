/*-------------------------------------------------------------------------
 *
 * batch_ahead.c
 *	  How far a batch node reads ahead.
 *
 * Full width, as far as the window goes, is what keeps the engine busy.  It is
 * wrong where the rows will not be wanted.  So a node reads ahead
 *
 * - at full width where all rows will be taken: below an aggregation, a sort or
 *   a ModifyTable (batch_place.c), and where a statement's result is, if the
 *   executor was told to run it to its end.  That is so for a SELECT of a
 *   client, CREATE TABLE AS, COPY and RETURN QUERY.  It is not for a cursor, a
 *   FOR loop of PL/pgSQL or a client that asks for a number of rows, which all
 *   come as a count (ExecutorRun).
 *
 * - below a Limit as far as it wants rows, and, if the node has a condition, by
 *   three rows more and by as many as did not pass so far; the latter in the
 *   ratio of the rows still wanted to those that have passed, once those are
 *   more.  So LIMIT n begins three rows more than it needs if all pass, and at
 *   most three and the number of those that did not otherwise.
 *
 * - below another batch node as that one says before it pulls: the rows that it
 *   will begin as things stand, and as many as did not pass there more.  Three
 *   rows that one node reads ahead so are not six in the node below.
 *
 * - else by three rows at first and then by as many as were taken.
 *
 * All of these are about work in vain: whatever is said here, a node that is
 * asked for a row reads until it has one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"

#include "batch_ahead.h"
#include "compat.h"

/* Rows that are read ahead before anything is known. */
#define SPARE_ROWS	3

/* The statement that is running, the innermost one. */
typedef struct Run
{
	EState	   *estate;
	bool		to_the_end;
} Run;

static Run	running = {NULL, false};
static ExecutorRun_hook_type previous_run = NULL;

/* ----------------------------------------------------------------
 *		Statements that are run to their end
 * ----------------------------------------------------------------
 */

static void
run_executor(LLAMA_EXECUTOR_RUN_PARAMS)
{
	Run			outer = running;

	running = (Run) {queryDesc->estate, count == 0};
	PG_TRY();
	{
		if (previous_run != NULL)
			previous_run(LLAMA_EXECUTOR_RUN_ARGS);
		else
			standard_ExecutorRun(LLAMA_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		running = outer;
	}
	PG_END_TRY();
}

void
llama_ahead_hook(void)
{
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = run_executor;
}

static bool
all_will_be_taken(const LlamaAhead *ahead)
{
	return ahead->reader == LLAMA_READS_ALL ||
		(ahead->reader == LLAMA_READS_AS_STATEMENT && running.to_the_end && running.estate == ahead->node->state);
}

/* ----------------------------------------------------------------
 *		Limits
 * ----------------------------------------------------------------
 */

/* The value of a Limit's expression; negative: NULL. */
static int64
evaluate_bound(ExprState *expr, ExprContext *econtext)
{
	bool		isnull;
	Datum		value = ExecEvalExprSwitchContext(expr, econtext, &isnull);

	return isnull ? -1 : Max(DatumGetInt64(value), 0);
}

/* The Limit has evaluated the same before it asked for a row. */
static void
look_at_limit(LlamaAhead *ahead)
{
	ExprContext *econtext = ahead->node->ps_ExprContext;

	ahead->is_known = true;
	ahead->wanted = ahead->count == NULL ? -1 : evaluate_bound(ahead->count, econtext);
	ahead->spare = ahead->has_condition ? SPARE_ROWS : 0;
	ahead->grown = 0;
	if (ahead->wanted >= 0 && ahead->offset != NULL)
	{
		int64		skipped = Max(evaluate_bound(ahead->offset, econtext), 0);

		ahead->wanted += Min(skipped, PG_INT64_MAX - ahead->wanted);
	}
}

/* The rows that the nodes of a Limit have given. */
static Datum *
given_by_all(const LlamaAhead *ahead)
{
	return &ahead->node->state->es_param_exec_vals[ahead->param].value;
}

void
llama_ahead_init(LlamaAhead *ahead, PlanState *node, const List *place)
{
	List	   *bounds = castNode(CustomScan, node->plan)->custom_exprs;

	ahead->node = node;
	ahead->reader = linitial_int(place);
	ahead->has_condition = node->plan->qual != NIL;
	ahead->count = bounds == NIL ? NULL : ExecInitExpr(linitial(bounds), node);
	ahead->offset = list_length(bounds) < 2 ? NULL : ExecInitExpr(lsecond(bounds), node);
	ahead->is_loose = lsecond_int(place);
	ahead->param = lthird_int(place);
	llama_ahead_restart(ahead);
}

void
llama_ahead_restart(LlamaAhead *ahead)
{
	ahead->is_known = false;
	ahead->n_given = 0;
	ahead->n_passed = 0;
	ahead->n_failed = 0;
	if (ahead->param >= 0)
		*given_by_all(ahead) = Int64GetDatum(0);
}

/* ----------------------------------------------------------------
 *		Rows
 * ----------------------------------------------------------------
 */

/* Where nothing is known: more and more. */
static int64
rows_of_ramp(const LlamaAhead *ahead, int64 *grown)
{
	*grown = Max(ahead->n_passed + ahead->n_failed + 1 - SPARE_ROWS, 0);
	return 1 + SPARE_ROWS + *grown;
}

int64
llama_ahead_rows(LlamaAhead *ahead, int64 *grown)
{
	int64		failed = ahead->n_failed;
	int64		left;
	int64		wanted;
	int64		beyond;
	int64		ramp;
	int64		rows;

	*grown = 0;
	if (all_will_be_taken(ahead))
		return PG_INT64_MAX;
	if (!ahead->is_known)
		look_at_limit(ahead);
	ramp = rows_of_ramp(ahead, grown);
	if (ahead->wanted < 0)
		return ramp;

	left = ahead->wanted - (ahead->param >= 0 ? DatumGetInt64(*given_by_all(ahead)) : ahead->n_given);
	/* Who asks for more than was wanted has dropped some. */
	wanted = Max(left, 1);
	beyond = Max(1 - left, 0);
	if (wanted <= ahead->n_passed)
		failed = (int64) ((double) failed * wanted / (ahead->n_passed + 1));
	*grown = ahead->grown + failed + beyond;
	rows = *grown + (beyond > 0 ? SPARE_ROWS : ahead->spare);
	rows += Min(wanted, PG_INT64_MAX - rows);
	return ahead->is_loose ? Min(rows, ramp) : rows;
}

void
llama_ahead_taken(LlamaAhead *ahead, bool passed)
{
	if (!passed)
	{
		ahead->n_failed++;
		return;
	}
	ahead->n_passed++;
	ahead->n_given++;
	if (ahead->param >= 0)
		*given_by_all(ahead) = Int64GetDatum(DatumGetInt64(*given_by_all(ahead)) + 1);
}

void
llama_ahead_tell(LlamaAhead *ahead, int64 wanted, int64 grown)
{
	ahead->is_known = true;
	ahead->wanted = wanted;
	ahead->spare = 0;
	ahead->grown = grown;
	ahead->n_given = 0;
}
