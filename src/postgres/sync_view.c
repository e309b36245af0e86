/*-------------------------------------------------------------------------
 *
 * sync_view.c
 *	  What syncs there are, how far behind they are, and which rows failed.
 *
 * A role sees the syncs of the tables that it owns or may act for the owner of.
 * The queues are read with the owner's rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "rewrite/rewriteManip.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "sync.h"

/* Of the widest of the three. */
#define MAX_COLUMNS		12

PG_FUNCTION_INFO_V1(llama_syncs);
PG_FUNCTION_INFO_V1(llama_sync_lag);
PG_FUNCTION_INFO_V1(llama_sync_errors);

/* Collects one row's columns from the left. */
typedef struct Row
{
	int			n;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} Row;

static void
put(Row *row, Datum value, bool isnull)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n] = isnull;
	row->n++;
}

static void
put_null(Row *row)
{
	put(row, (Datum) 0, true);
}

static void
put_text(Row *row, const char *text)
{
	put(row, text == NULL ? (Datum) 0 : CStringGetTextDatum(text), text == NULL);
}

static void
put_name(Row *row, const char *name)
{
	Name		copy = palloc0(sizeof(NameData));

	namestrcpy(copy, name);
	put(row, NameGetDatum(copy), false);
}

static void
put_row(FunctionCallInfo fcinfo, Row *row)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	Assert(row->n == result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
}

/* Run a query on the sync's queue with its owner's rights. */
static void
query_queue(const LlamaSync *sync, const char *template)
{
	LlamaSyncIdentity before = llama_sync_become(sync->queue_owner);
	int			result = SPI_execute(llama_sync_sql(sync, template), false, 0);

	llama_sync_become_again(before);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "query of a sync failed: %s", SPI_result_code_string(result));
}

bool
llama_sync_is_pending(const LlamaSync *sync)
{
	bool		isnull;
	bool		pending;

	if (!sync->described)
		return false;
	SPI_connect();
	query_queue(sync, "SELECT EXISTS (SELECT FROM $queue q WHERE q.sqlstate IS NULL)");
	pending = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return pending;
}

typedef void (*PutSync) (FunctionCallInfo fcinfo, const LlamaSync *sync);

/* Rows of every sync that the caller may see, which are those of his tables. */
static void
each_sync(FunctionCallInfo fcinfo, PutSync put_sync)
{
	List	   *list = llama_sync_list(llama_sync_registry(fcinfo->flinfo->fn_oid), InvalidOid, NULL);
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, list)
		put_sync(fcinfo, lfirst(cell));
}

/* ----------------------------------------------------------------
 *		llama_syncs
 * ----------------------------------------------------------------
 */

static void
put_names(Row *row, const LlamaSync *sync, const AttrNumber *attnums, int n)
{
	Datum	   *names = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
	{
		Name		name = palloc0(sizeof(NameData));

		namestrcpy(name, get_attname(sync->target, attnums[i], false));
		names[i] = NameGetDatum(name);
	}
	put(row, PointerGetDatum(construct_array(names, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR)),
		false);
}

static void
put_key_columns(Row *row, const LlamaSync *sync)
{
	AttrNumber *attnums = palloc(sizeof(AttrNumber) * sync->n_keys);

	for (int i = 0; i < sync->n_keys; i++)
		attnums[i] = sync->keys[i].attnum;
	put_names(row, sync, attnums, sync->n_keys);
}

static void
put_source_columns(Row *row, const LlamaSync *sync)
{
	AttrNumber *attnums = palloc(sizeof(AttrNumber) * (bms_num_members(sync->sources) + 1));
	int			n = 0;
	int			attnum = -1;

	while ((attnum = bms_next_member(sync->sources, attnum)) >= 0)
		attnums[n++] = attnum;
	put_names(row, sync, attnums, n);
}

static char *
expression_text(const LlamaSync *sync)
{
	Node	   *expression = copyObject(sync->expression);

	/* The table's number in the view is not the one that deparsing counts. */
	ChangeVarNodes(expression, sync->varno, 1, 0);
	return deparse_expression(expression,
							  deparse_context_for(get_rel_name(sync->target), sync->target),
							  false, false);
}

static const char *
state(const LlamaSync *sync)
{
	if (sync->broken != NULL)
		return "broken";
	if (sync->paused)
		return "paused";
	return sync->fill != NULL ? "filling" : "active";
}

static void
put_definition(FunctionCallInfo fcinfo, const LlamaSync *sync)
{
	Row			row = {0};

	put(&row, ObjectIdGetDatum(sync->target), false);
	put_name(&row, llama_sync_column(sync));
	if (sync->expression != NULL)
	{
		put_text(&row, expression_text(sync));
		put_source_columns(&row, sync);
		put_key_columns(&row, sync);
	}
	else
		for (int i = 0; i < 3; i++)
			put_null(&row);
	put(&row, Int32GetDatum(sync->batch_rows), false);
	put(&row, BoolGetDatum(sync->background), false);
	put_text(&row, state(sync));
	put(&row, ObjectIdGetDatum(sync->owner), false);
	put(&row, ObjectIdGetDatum(sync->view), false);
	put(&row, ObjectIdGetDatum(sync->queue), false);
	put_row(fcinfo, &row);
}

Datum
llama_syncs(PG_FUNCTION_ARGS)
{
	each_sync(fcinfo, put_definition);
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 *		llama_sync_lag
 * ----------------------------------------------------------------
 */

/* What waits and what failed; unknown when the queue cannot be read. */
static void
put_counts(Row *row, const LlamaSync *sync)
{
	if (sync->described)
		query_queue(sync,
					"SELECT pg_catalog.count(*) FILTER (WHERE q.sqlstate IS NULL),"
					" pg_catalog.min(q.queued_at) FILTER (WHERE q.sqlstate IS NULL AND pg_catalog.isfinite(q.queued_at)),"
					" pg_catalog.count(*) FILTER (WHERE q.sqlstate IS NOT NULL) FROM $queue q");
	for (int i = 1; i <= 3; i++)
	{
		bool		isnull = true;
		Datum		value = sync->described ?
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i, &isnull) : (Datum) 0;

		put(row, value, isnull);
	}
}

static void
put_lag(FunctionCallInfo fcinfo, const LlamaSync *sync)
{
	Row			row = {0};

	put(&row, ObjectIdGetDatum(sync->target), false);
	put_name(&row, llama_sync_column(sync));
	SPI_connect();
	put_counts(&row, sync);
	put(&row, BoolGetDatum(sync->fill != NULL), false);
	put(&row, Int64GetDatum(sync->rows_filled), false);
	put(&row, TimestampTzGetDatum(sync->run_ended), sync->run_ended == 0);
	put(&row, Float8GetDatum((double) sync->run_rows * USECS_PER_SEC /
							 (double) Max(sync->run_ended - sync->run_started, 1)),
		sync->run_ended == 0);
	if (sync->broken != NULL)
	{
		put_text(&row, unpack_sql_state(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE));
		put_text(&row, sync->broken);
	}
	else
	{
		put_text(&row, sync->sqlstate);
		put_text(&row, sync->message);
	}
	put_row(fcinfo, &row);
	SPI_finish();
}

Datum
llama_sync_lag(PG_FUNCTION_ARGS)
{
	each_sync(fcinfo, put_lag);
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 *		llama_sync_errors
 * ----------------------------------------------------------------
 */

static void
put_errors(FunctionCallInfo fcinfo, const LlamaSync *sync)
{
	if (!sync->described)
		return;
	SPI_connect();
	query_queue(sync, "SELECT pg_catalog.jsonb_build_object($object(q)), q.sqlstate, q.message, q.tried_at"
				" FROM $queue q WHERE q.sqlstate IS NOT NULL ORDER BY q.tried_at, $keys(q)");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Row			row = {0};

		put(&row, ObjectIdGetDatum(sync->target), false);
		put_name(&row, llama_sync_column(sync));
		for (int column = 1; column <= 4; column++)
		{
			bool		isnull;
			Datum		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
											  column, &isnull);

			put(&row, value, isnull);
		}
		put_row(fcinfo, &row);
	}
	SPI_finish();
}

Datum
llama_sync_errors(PG_FUNCTION_ARGS)
{
	each_sync(fcinfo, put_errors);
	return (Datum) 0;
}
