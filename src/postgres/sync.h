/*-------------------------------------------------------------------------
 *
 * sync.h
 *	  Columns that are kept in step with their source.
 *
 * What a sync is made of, all owned by the target's owner:
 *	- the definition, a view: the key of every row as key1, key2, ..., the
 *	  column as "current", and the expression as "value".  Being a view it
 *	  follows renames, pins names, is dumped and restored, and keeps what the
 *	  expression needs from being dropped;
 *	- the queue, a table: keys of rows to fill.  "version" is the transaction
 *	  that changed the row last; an entry with a sqlstate has failed and waits
 *	  for the next change of its row, or for llama_sync_retry;
 *	- triggers on the target, which write keys into the queue
 *	  (sync_trigger.c);
 *	- a row of the extension's table llama_sync_registry, which only these
 *	  functions write: they check that the caller may, and write as its owner.
 *	  It says which table, view and queue they are, and is in dumps; so
 *	  everybody may read it, or nobody else could dump the database;
 *	- a row of llama_sync_runs: how far filling is, which holds keys and
 *	  messages, so that nobody may read it, and is in no dump.
 *
 * View, queue and triggers depend on each other and on the target so that they
 * go together.  The registry's row of a sync whose view is gone is passed over,
 * and deleted by the next llama_sync.
 *
 * View and queue are the owner's, who can change them: sync_definition.c tells
 * which of it all that leaves usable, and sync_owner.c with whose rights.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_SYNC_H
#define LLAMA3_SYNC_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"
#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/*
 * Who fills the column holds this on the sync's view for a batch's transaction.
 * It conflicts with itself, and with nothing that readers and writers take.
 * (On the queue it would keep autovacuum away.)
 */
#define LLAMA_SYNC_LOCK		ShareUpdateExclusiveLock

/* The triggers' names for the rows of a statement. */
#define LLAMA_SYNC_ROWS_BEFORE	"llama_old"
#define LLAMA_SYNC_ROWS_AFTER	"llama_new"

typedef struct LlamaSyncKey
{
	AttrNumber	attnum;			/* in the target */
	Oid			type;
	char	   *equal;			/* operators, as OPERATOR(schema.=) */
	char	   *greater;
	char	   *greater_equal;
} LlamaSyncKey;

/* A sync, as of the moment it was read.  Lives in the memory it was read in. */
typedef struct LlamaSync
{
	/* of the registry's row */
	char	   *id;				/* a UUID; the triggers' argument */
	Oid			target;
	Oid			view;
	Oid			queue;
	char	   *column_name;	/* as it was when the sync was made */
	Oid			schema;			/* of the registry and the functions */
	char	   *search_path;	/* of who made the sync */
	int			batch_rows;
	bool		background;		/* filled by a background worker */
	bool		paused;
	char	   *fill;			/* rows that are still to be queued, "null" or
								 * "all"; NULL when there are none */

	/* of the row of llama_sync_runs */
	List	   *position;		/* keys of the last old row that was queued, as
								 * char *; NIL */
	int64		rows_filled;
	int64		run_rows;		/* of the last run; */
	TimestampTz run_started;	/* 0: there was none; */
	TimestampTz run_ended;		/* until its last commit */
	char	   *sqlstate;		/* the error that ended it; NULL */
	char	   *message;

	/* of the catalogs */
	Oid			owner;			/* of the target */
	char	   *broken;			/* why the column cannot be filled; NULL */
	bool		described;		/* the view's and the queue's shape are known, so
								 * that the queue can be read and written */
	Oid			queue_owner;	/* if described */

	/* of the view; nothing when it is not what llama_sync made */
	AttrNumber	column;			/* 0: unknown */
	int			n_keys;
	LlamaSyncKey *keys;
	Bitmapset  *sources;		/* attribute numbers of the target */
	Node	   *expression;		/* NULL: unknown */
	int			varno;			/* the target's number in it */
} LlamaSync;

/* ----------------------------------------------------------------
 *		sync.c
 * ----------------------------------------------------------------
 */

/*
 * Let queue and triggers go with the view, and the view with the target, unless
 * they do: a dump does not hold these dependencies.
 */
extern void llama_sync_link(const LlamaSync *sync);

/* ----------------------------------------------------------------
 *		sync_registry.c
 * ----------------------------------------------------------------
 */

/*
 * The registry's table: it is in the same schema as the calling function, which
 * is the extension's, wherever that was moved.
 */
extern Oid	llama_sync_registry(Oid function);

/*
 * Syncs of one table, or of its column (NULL: all), whoever owns it; without a
 * table those that the current user may do things with.  What may be done with
 * the others is checked by llama_sync_check_owner.
 */
extern List *llama_sync_list(Oid registry, Oid target, const char *column);
/* NULL if there is none. */
extern LlamaSync *llama_sync_by_id(Oid registry, const char *id);
/* The same without looking at view and queue, and without locking them. */
extern LlamaSync *llama_sync_read(Oid registry, const char *id);
/* All of them, as char *. */
extern List *llama_sync_ids(Oid registry);

/*
 * Run a statement on the registry as its owner.  $registry in it stands for the
 * table, $runs for llama_sync_runs; $1, $2, ... are values of the types.  Needs
 * an SPI connection.
 */
extern void llama_sync_registry_execute(Oid registry, const char *statement, int n_values,
										Oid *types, Datum *values, const char *nulls);

/*
 * What is noted of a run: rows of the batch and of the run, and the error that
 * ended it or NULL; and where queueing old rows stands.  Both need an SPI
 * connection.
 */
extern void llama_sync_note_run(Oid registry, const char *id, int64 rows, int64 run_rows,
								TimestampTz started, const ErrorData *error);
extern void llama_sync_note_position(Oid registry, const char *id, List *position, bool finished);

/* ----------------------------------------------------------------
 *		sync_definition.c
 * ----------------------------------------------------------------
 */

/* Fill in what the catalogs say; false when view or table are gone. */
extern bool llama_sync_describe(LlamaSync *sync);

/* Raises 55000 for a sync that is broken. */
extern void llama_sync_check_whole(const LlamaSync *sync);

/* ----------------------------------------------------------------
 *		sync_owner.c
 * ----------------------------------------------------------------
 */

/* InvalidOid when there is no such relation. */
extern Oid	llama_sync_relation_owner(Oid relation);

/* May the current user act for the target's owner?  The other raises 42501. */
extern bool llama_sync_is_owner(const LlamaSync *sync);
extern void llama_sync_check_owner(const LlamaSync *sync);

/* Who we were, and which settings were ours. */
typedef struct LlamaSyncIdentity
{
	Oid			user;
	int			context;
	int			nest;
} LlamaSyncIdentity;

/*
 * Run what follows as the owner.  Settings that are made meanwhile are undone
 * at the end.  An error undoes all of it with the (sub)transaction.
 */
extern LlamaSyncIdentity llama_sync_become(Oid owner);
extern void llama_sync_become_again(LlamaSyncIdentity before);

/* ----------------------------------------------------------------
 *		sync_sql.c
 * ----------------------------------------------------------------
 */

/*
 * A statement about a sync.  In the template
 *	$queue $target $view	are the relations, $column the column's name;
 *	$differ					is the function that tells whether two rows differ
 *	$value					is the expression, on the target as "t"
 *	$names					is key1, key2, ...
 *	$keys(a)				is a.key1, a.key2, ...
 *	$same(a,b)				says that a.key1, ... equal b.key1, ...
 *	$columns(t)				is the key's columns in the target, t.id, ...
 *	$match(t,a)				says that t.id, ... equal a.key1, ...
 *	$equal(t,u)				says that t.id, ... equal u.id, ...
 *	$sources(t)				is the columns that the expression reads
 *	$object(a)				is 'id', a.key1, ..., the key's names and values
 *	$after(t)				says that t.id, ... come after the sync's position
 * and $1 is a parameter.  Everything is qualified, so that the statement means
 * the same under every search_path; templates do so with operators.
 */
extern char *llama_sync_sql(const LlamaSync *sync, const char *template);

/* Names for messages and statements. */
extern char *llama_sync_relation(Oid relation);
extern char *llama_sync_column(const LlamaSync *sync);

/* ----------------------------------------------------------------
 *		sync_run.c
 * ----------------------------------------------------------------
 */

typedef struct LlamaSyncRun LlamaSyncRun;

typedef enum LlamaSyncStep
{
	LLAMA_SYNC_WORKED,			/* there may be more to do */
	LLAMA_SYNC_DONE,			/* what was queued when the run began is done */
	LLAMA_SYNC_GONE,			/* the sync is removed or paused */
	LLAMA_SYNC_LOCKED,			/* it cannot be done while others hold locks */
	LLAMA_SYNC_FAILED			/* the run's error says why */
} LlamaSyncStep;

/*
 * A run of a sync is steps, each a transaction's work, which the caller commits.
 * The run's memory is a child of the current context.  A step that raises
 * ends the run.
 */
/*
 * lock_timeout: how long the owner's statements wait for locks; NULL: as long as
 * the caller's.
 */
extern LlamaSyncRun *llama_sync_begin(Oid registry, const char *id, const char *lock_timeout);
extern LlamaSyncStep llama_sync_step(LlamaSyncRun *run);
/* After LLAMA_SYNC_FAILED. */
extern const ErrorData *llama_sync_error(const LlamaSyncRun *run);
/* Had the run before ended with an error? */
extern bool llama_sync_failed_before(const LlamaSyncRun *run);
/* Rows that were left because others have locked them. */
extern int	llama_sync_n_locked(const LlamaSyncRun *run);
extern void llama_sync_end(LlamaSyncRun *run);

/* ----------------------------------------------------------------
 *		sync_view.c
 * ----------------------------------------------------------------
 */

/* Does the queue hold rows to fill? */
extern bool llama_sync_is_pending(const LlamaSync *sync);

/* ----------------------------------------------------------------
 *		sync_worker.c
 * ----------------------------------------------------------------
 */

/* When this transaction commits, a worker fills what it has queued. */
extern void llama_sync_wake_at_commit(void);

/* In a scan of a database, outside of a transaction: is a worker wanted? */
extern void llama_sync_scan(void);
/* In the launcher, after the scan: start it; false when there is no room. */
extern bool llama_sync_start_worker(Oid database);

#endif							/* LLAMA3_SYNC_H */
