/*-------------------------------------------------------------------------
 *
 * json.h
 *	  JSON of model files, on top of jansson.
 *
 * jansson is the smallest of the readers that Debian has which refuses
 * duplicate keys, bounds nesting and counts its references.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_JSON_H
#define L3_JSON_H

#include <jansson.h>

#include "reader.h"
#include "tokenizer.h"

/*
 * Objects and arrays in one text.  Each takes some 100 bytes of memory for as
 * little as 2 bytes of text, so they are bounded before parsing.
 */
#define L3_JSON_MAX_CONTAINERS	(4 * 1024 * 1024)

/* Parse len bytes, which must be an object; where names the file in messages. */
L3Status	l3_json_parse(const char *text, size_t len, const char *where,
						  json_t **object, L3Error *err);
/* Parse a whole file. */
L3Status	l3_json_read(const L3Reader *reader, json_t **object, L3Error *err);

/*
 * Members of an object.  Absent and null are the same: *found is false and
 * *value untouched.  A member of another type is an error that names it.
 */
L3Status	l3_json_uint(const json_t *object, const char *where, const char *key,
						 uint32_t *value, bool *found, L3Error *err);
L3Status	l3_json_number(const json_t *object, const char *where, const char *key,
						   double *value, bool *found, L3Error *err);
L3Status	l3_json_bool(const json_t *object, const char *where, const char *key,
						 bool *value, bool *found, L3Error *err);
L3Status	l3_json_string(const json_t *object, const char *where, const char *key,
						   const char **value, bool *found, L3Error *err);

/* The bytes of a JSON string. */
L3Slice		l3_json_slice(const json_t *string);
/* Is value the string text? */
bool		l3_json_is(const json_t *value, const char *text);

#endif							/* L3_JSON_H */
