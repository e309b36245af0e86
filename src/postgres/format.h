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

#include "fmgr.h"
#include "utils/jsonb.h"

#include "text.h"

typedef struct LlamaFormat
{
	LlamaText	schema;			/* what the model is told, in UTF-8 */
	const void *grammar;		/* as in L3Request; NULL: any text */
	size_t		grammar_size;
	Oid			type;			/* InvalidOid unless a type was given */
} LlamaFormat;

/*
 * format.c.  Read two arguments of which at most one may be given: a schema
 * (jsonb) and a type (regtype), which messages call by these names.  False,
 * and a format without a grammar, when both are NULL.  The grammar lives until
 * the next call of this function.
 *
 * Raises 22023 for both or for what is no schema, 0A000 for a keyword or a
 * type that is not supported, 42704 for an unknown type, 54000 for a schema
 * that is too large.
 */
extern bool llama_format_args(FunctionCallInfo fcinfo, int schema_arg, const char *schema_name,
							  int type_arg, const char *type_name, LlamaFormat *format);

/*
 * format.c.  Raise what casting the answer, which is valid JSON, to the type
 * raises: a domain's CHECK is not part of a grammar.
 */
extern void llama_format_check(Oid type, text *answer);

/*
 * schema_text.c.  Append a JSON Schema as text, in the database's encoding.
 * The properties of an object that "required" names come first, in the order
 * that they have there.
 */
extern void llama_schema_text(Jsonb *schema, StringInfo out);

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
