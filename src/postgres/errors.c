/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  The engine's errors as PostgreSQL's.
 *
 * The engine reports a status and sentences; here each status gets its
 * SQLSTATE, in one place.  Messages of the engine can hold bytes of a model
 * file (a tensor's name, a key), so they are made valid in the database's
 * encoding before they travel to a client.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "llama3.h"
#include "shmem.h"

/*
 * The text with every byte outside printable ASCII shown as "?": file contents
 * are hostile, and an error message must never fail to convert.
 */
static char *
printable(const char *text)
{
	char	   *copy = pstrdup(text);

	for (char *c = copy; *c != '\0'; c++)
		if ((unsigned char) *c < 0x20 || (unsigned char) *c > 0x7e)
			*c = '?';
	return copy;
}

static int
status_errcode(const L3Error *err)
{
	switch (err->status)
	{
		case L3_ERR_ARG:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case L3_ERR_IO:
			return ERRCODE_IO_ERROR;	/* refined by errno below */
		case L3_ERR_FORMAT:
			return ERRCODE_DATA_CORRUPTED;
		case L3_ERR_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case L3_ERR_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case L3_ERR_LIMIT:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case L3_ERR_CANCELLED:
			return ERRCODE_QUERY_CANCELED;
		case L3_OK:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

/* errcode() for an error's status; the errno that ereport saved decides for IO. */
static int
set_errcode(const L3Error *err)
{
	if (err->status == L3_ERR_IO && err->saved_errno != 0)
		return errcode_for_file_access();
	return errcode(status_errcode(err));
}

void
llama_report(int elevel, const L3Error *err)
{
	char	   *message = printable(err->message);
	char	   *detail = printable(err->detail);
	char	   *hint = printable(err->hint);

	/* ereport keeps errno as it is at its start, for errcode_for_file_access. */
	errno = err->saved_errno;
	ereport(elevel,
			(set_errcode(err),
			 errmsg("%s", message),
			 detail[0] != '\0' ? errdetail("%s", detail) : 0,
			 hint[0] != '\0' ? errhint("%s", hint) : 0));
	pfree(message);
	pfree(detail);
	pfree(hint);
}

void
llama_raise(const L3Error *err)
{
	llama_report(ERROR, err);
	pg_unreachable();
}

void
llama_require_preload(void)
{
	if (llama_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("llama3 must be loaded via shared_preload_libraries"),
				 errhint("Add llama3 to shared_preload_libraries and restart the server.")));
}
