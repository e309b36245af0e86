/*-------------------------------------------------------------------------
 *
 * foreign_node.c
 *	  A plan node of another extension, for test/t/031_foreign_node.pl.
 *
 * Scans of tables whose name begins with "foreign_" become a custom scan over a
 * sequential scan, which it demands to find as it was planned.  Where the
 * setting foreign_node.projects is off the node does not compute expressions.
 * Its planner hook counts the statements that it has seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/extensible.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "optimizer/restrictinfo.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

PG_MODULE_MAGIC;

void		_PG_init(void);
PG_FUNCTION_INFO_V1(foreign_node_planned);

static set_rel_pathlist_hook_type next_pathlist_hook;
static planner_hook_type next_planner_hook;
static bool projects = true;
static int64 planned;

static const CustomScanMethods scan_methods;

/* ----------------------------------------------------------------
 *		Execution
 * ----------------------------------------------------------------
 */

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	Plan	   *child = linitial(scan->custom_plans);

	if (!IsA(child, SeqScan) || scan->custom_private == NIL ||
		strcmp(strVal(linitial(scan->custom_private)), "as planned") != 0)
		elog(ERROR, "the node's child is not what was planned");
	node->custom_ps = list_make1(ExecInitNode(child, estate, eflags));
}

static TupleTableSlot *
next_row(ScanState *node)
{
	TupleTableSlot *row = ExecProcNode(linitial(((CustomScanState *) node)->custom_ps));

	if (TupIsNull(row))
		return ExecClearTuple(node->ss_ScanTupleSlot);
	return ExecCopySlot(node->ss_ScanTupleSlot, row);
}

static bool
recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
execute(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck);
}

static void
end(CustomScanState *node)
{
	ExecEndNode(linitial(node->custom_ps));
}

static void
rescan(CustomScanState *node)
{
	ExecReScan(linitial(node->custom_ps));
	ExecScanReScan(&node->ss);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "ForeignNode",
	.BeginCustomScan = begin,
	.ExecCustomScan = execute,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan,
};

static Node *
create_state(CustomScan *scan)
{
	CustomScanState *state = makeNode(CustomScanState);

	state->methods = &exec_methods;
	return (Node *) state;
}

static const CustomScanMethods scan_methods = {
	.CustomName = "ForeignNode",
	.CreateCustomScanState = create_state,
};

/* ----------------------------------------------------------------
 *		Planning
 * ----------------------------------------------------------------
 */

static Plan *
plan_path(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *targets, List *clauses,
		  List *plans)
{
	CustomScan *scan = makeNode(CustomScan);
	Plan	   *child = linitial(plans);

	/* whole rows of the table, which the node then filters and chooses from */
	child->targetlist = build_physical_tlist(root, rel);
	child->qual = NIL;
	scan->scan.plan.targetlist = targets;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->custom_plans = plans;
	scan->custom_private = list_make1(makeString(pstrdup("as planned")));
	scan->methods = &scan_methods;
	return (Plan *) scan;
}

static const CustomPathMethods path_methods = {
	.CustomName = "ForeignNode",
	.PlanCustomPath = plan_path,
};

static void
add_paths(PlannerInfo *root, RelOptInfo *rel, Index index, RangeTblEntry *rte)
{
	if (next_pathlist_hook)
		next_pathlist_hook(root, rel, index, rte);
	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_RELATION &&
		strncmp(get_rel_name(rte->relid), "foreign_", 8) == 0)
	{
		CustomPath *path = makeNode(CustomPath);

		path->path.pathtype = T_CustomScan;
		path->path.parent = rel;
		path->path.pathtarget = rel->reltarget;
		path->path.rows = rel->rows;
		path->flags = projects ? CUSTOMPATH_SUPPORT_PROJECTION : 0;
		path->custom_paths = list_make1(create_seqscan_path(root, rel, NULL, 0));
		path->methods = &path_methods;
		rel->pathlist = NIL;
		rel->partial_pathlist = NIL;
		add_path(rel, &path->path);
	}
}

static PlannedStmt *
plan_statement(Query *query, const char *text, int options, ParamListInfo params)
{
	planned++;
	return next_planner_hook ? next_planner_hook(query, text, options, params) :
		standard_planner(query, text, options, params);
}

/* Statements that this session's planner hook has seen. */
Datum
foreign_node_planned(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(planned);
}

void
_PG_init(void)
{
	DefineCustomBoolVariable("foreign_node.projects", "Whether the node computes expressions.", NULL,
							 &projects, true, PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterCustomScanMethods(&scan_methods);
	next_pathlist_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_paths;
	next_planner_hook = planner_hook;
	planner_hook = plan_statement;
}
