/*-------------------------------------------------------------------------
 *
 * sync_expression.h
 *	  Checking what llama_sync was given.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_SYNC_EXPRESSION_H
#define LLAMA3_SYNC_EXPRESSION_H

#include "postgres.h"

#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

/*
 * Raises unless statements on the table are seen by its triggers and its rows
 * by its owner: 42809 for what is no table, 42501 for a catalog, else 55000.
 */
extern void llama_sync_check_target(Relation rel);

/* Attribute numbers of the primary key; NIL if there is none. */
extern List *llama_sync_primary_key(Relation rel);

/* The column's number.  Raises 42703 if there is none, 0A000 for "ctid" and such. */
extern AttrNumber llama_sync_find_column(Relation rel, const char *name);

/* The same for the column to fill.  Raises 22023 for what nobody may set. */
extern AttrNumber llama_sync_target_column(Relation rel, const char *name, List *key);

/*
 * An expression that reads the table as number "varno", as text that means the
 * same under every search_path, with the table as "t".
 */
extern char *llama_sync_deparse(Oid target, Node *expression, int varno);

/*
 * The expression as text, with all names qualified and the table as "t".
 * Raises what UPDATE would for SET column = text, 0A000 for a subquery, and
 * 22023 for what reads the column itself or a system column.
 */
extern char *llama_sync_parse(Relation rel, AttrNumber column, const char *text);

#endif							/* LLAMA3_SYNC_EXPRESSION_H */
