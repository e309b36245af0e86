/*-------------------------------------------------------------------------
 *
 * format.h
 *	  What an answer must be: a JSON Schema, or a type of the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_FORMAT_H
#define LLAMA3_FORMAT_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* type_schema.c: how much of a type its schema is to say. */
typedef enum LlamaTypeDetail
{
	LLAMA_TYPE_EXACT,			/* all that a value must satisfy */
	LLAMA_TYPE_BRIEF			/* what helps a model */
} LlamaTypeDetail;

/*
 * type_schema.c.  Append the JSON Schema of the type's values, as
 * jsonb_populate_record reads them, in the database's encoding.  Raises 42704
 * for an unknown type and 0A000 for one that is not supported.
 */
extern void llama_type_schema_text(Oid type, LlamaTypeDetail detail, StringInfo out);

#endif							/* LLAMA3_FORMAT_H */
