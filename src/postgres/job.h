/*-------------------------------------------------------------------------
 *
 * job.h
 *	  Jobs over tables: what its files and others may call.  Private to
 *	  src/postgres.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_JOB_H
#define LLAMA3_JOB_H

#include "postgres.h"

#include "utils/timestamp.h"

/* ----------------------------------------------------------------
 *		job.c
 * ----------------------------------------------------------------
 */

/* Is this process a background job's worker? */
extern bool llama_job_worker;

/* When this transaction commits, the launcher looks for jobs in this database. */
extern void llama_wake_jobs_at_commit(void);

/*
 * The launcher is to look for jobs in the database at that time, or before.
 * waiting: also when a job ends.
 */
extern void llama_jobs_due(Oid database, TimestampTz at, bool waiting);

/* Background jobs that run now, in all databases. */
extern int	llama_jobs_in_background(void);

/* ----------------------------------------------------------------
 *		job_worker.c
 * ----------------------------------------------------------------
 */

/* Quoted name of the extension's schema, NULL if it is not there; in SPI. */
extern char *llama_extension_schema(void);

/*
 * Call an internal function, by the types of its arguments: an overload that
 * somebody else has put beside it is never called instead, nor keeps it from being
 * called.  Returns 0 for NULL.
 */
extern Datum llama_call_internal(const char *schema, const char *signature, int n_args,
								 const Datum *args);

/* Start a worker; false when the server has no room for another process. */
extern bool llama_job_start(int64 job, Oid database, Oid role);

#endif							/* LLAMA3_JOB_H */
