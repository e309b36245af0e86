/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between the server versions that llama3 is written for,
 *	  PostgreSQL 15 to 19.
 *
 * Code elsewhere tests no version number: what differs gets a name here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_COMPAT_H
#define LLAMA3_COMPAT_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#endif

/* 18 divided commands/explain.h.  (From its sources; not compiled.) */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

#if PG_VERSION_NUM < 150000
#error "llama3 needs PostgreSQL 15 or later"
#endif

/*
 * A process's index in ProcGlobal->allProcs.  17 dropped PGPROC.pgprocno and
 * made the index the process's one number.
 */
static inline int
llama_proc_number(PGPROC *proc)
{
#if PG_VERSION_NUM >= 170000
	return GetNumberFromPGProc(proc);
#else
	return proc->pgprocno;
#endif
}

/*
 * Name a wait event.  Before 17 extensions share one event, "Extension".
 * Callers keep the number in a static variable: names are allocated once per
 * server, but looking one up takes a lock.
 */
static inline uint32
llama_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}

/* May the role execute the function?  16 made one function of many. */
static inline AclResult
llama_proc_aclcheck(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

/* Run a portal to its end, without output. */
static inline void
llama_portal_run(Portal portal)
{
#if PG_VERSION_NUM >= 180000
	(void) PortalRun(portal, FETCH_ALL, true, None_Receiver, None_Receiver, NULL);
#else
	(void) PortalRun(portal, FETCH_ALL, true, true, None_Receiver, None_Receiver, NULL);
#endif
}

/* Has the parsed UPDATE a RETURNING clause?  18 made a node of it. */
static inline bool
llama_update_returns(const UpdateStmt *update)
{
#if PG_VERSION_NUM >= 180000
	return update->returningClause != NULL;
#else
	return update->returningList != NIL;
#endif
}

/* Does the role own the relation, or act for who does? */
static inline bool
llama_relation_ownercheck(Oid relation, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relation, role);
#else
	return pg_class_ownercheck(relation, role);
#endif
}

/*
 * What the planner's hook is called with, and how one is called.  19 tells it the
 * EXPLAIN that it plans for.  (From 19's sources; not compiled.)
 */
#if PG_VERSION_NUM >= 190000
#define LLAMA_PLANNER_PARAMS \
	Query *query, const char *query_string, int cursor_options, ParamListInfo params, struct ExplainState *explain
#define LLAMA_PLANNER_EXPLAIN	explain
#define llama_call_planner(planner, query, query_string, cursor_options, params, explain) \
	((planner) (query, query_string, cursor_options, params, explain))
#else
#define LLAMA_PLANNER_PARAMS \
	Query *query, const char *query_string, int cursor_options, ParamListInfo params
#define LLAMA_PLANNER_EXPLAIN	NULL
#define llama_call_planner(planner, query, query_string, cursor_options, params, explain) \
	((planner) (query, query_string, cursor_options, params))
#endif

/* What ExecutorRun's hook is called with.  18 dropped the last. */
#if PG_VERSION_NUM >= 180000
#define LLAMA_EXECUTOR_RUN_PARAMS	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define LLAMA_EXECUTOR_RUN_ARGS		queryDesc, direction, count
#else
#define LLAMA_EXECUTOR_RUN_PARAMS	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define LLAMA_EXECUTOR_RUN_ARGS		queryDesc, direction, count, execute_once
#endif

#endif							/* LLAMA3_COMPAT_H */
