/*-------------------------------------------------------------------------
 *
 * schema.h
 *	  From a JSON Schema to the grammar of the texts that are valid for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SCHEMA_H
#define L3_SCHEMA_H

#include "engine.h"

/*
 * Compile len bytes of JSON, a JSON Schema (2020-12), into a grammar image
 * (grammar.h), to be freed with free().  Every string of the grammar's language
 * is a JSON text that is valid for the schema; one layout of white space is
 * chosen: ", " and ": " between the parts of objects and arrays, none
 * elsewhere.
 *
 * L3_ERR_UNSUPPORTED for a keyword, or a combination of keywords, that cannot be
 * kept, naming it and where it stands as a JSON Pointer ("/properties/a/pattern");
 * L3_ERR_ARG for what is no schema, or one that nothing can satisfy;
 * L3_ERR_LIMIT when the grammar grows beyond its bounds.
 */
L3Status	l3_schema_compile(const char *json, size_t len,
							  void **image, size_t *size, L3Error *err);

#endif							/* L3_SCHEMA_H */
