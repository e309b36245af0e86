/*-------------------------------------------------------------------------
 *
 * schema.h
 *	  From a JSON Schema to the grammar of the texts that are valid for it.
 *
 * Keywords (https://json-schema.org/draft/2020-12):
 *
 *		any type	type, enum, const, anyOf, oneOf, allOf, $ref, $defs
 *		objects		properties, required, additionalProperties
 *		arrays		items, prefixItems, minItems, maxItems
 *		strings		minLength, maxLength, pattern (regex.h), format (date, time,
 *					date-time, uuid, email, ipv4)
 *		numbers		minimum, maximum, exclusiveMinimum, exclusiveMaximum
 *		ignored		title, description, default, examples, deprecated, readOnly,
 *					writeOnly, $comment, $schema, $id of the whole, and
 *					additionalItems without prefixItems: it spoke of items behind
 *					an array of items, which is an error
 *
 * Any other keyword is an error wherever in the text a schema has it, used or not.
 * $ref refers to places in the schema itself ("#/$defs/..."); "definitions" is
 * read like $defs.  oneOf is taken where its alternatives are certain to exclude
 * each other, by types, values, ranges, lengths, patterns, or a member that both
 * require.
 *
 * Of what is valid, the grammar has what an answer needs:
 *	- one layout: ", " and ": " between the parts of objects and arrays, no other
 *	  white space; members in the schema's order, then others;
 *	- without "type", the types that the schema's keywords are about;
 *	- members that are not declared only where additionalProperties says so, or
 *	  no member is declared; items behind prefixItems only where items says so or
 *	  minItems needs them.  A name that is not declared can come twice, when the
 *	  last one counts;
 *	- numbers in plain decimal notation, of 15 digits at most, 10 of them behind
 *	  the point; integers to 19 digits where a bound has more than 15;
 *	- strings without control characters but \n, \r and \t, except where a
 *	  pattern has them; never U+0000, which PostgreSQL does not store;
 *	- where anything is allowed, arrays and objects nested up to a depth;
 *	- of formats, the common forms: years 0001 to 9999, offsets up to 14 hours,
 *	  uuid in lower case, no quoted parts in email.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SCHEMA_H
#define L3_SCHEMA_H

#include "engine.h"

#define L3_SCHEMA_MAX_BYTES		(1 << 20)
/* Arrays and objects in one another, where a schema allows anything. */
#define L3_SCHEMA_ANY_DEPTH		8

/*
 * Compile len bytes of JSON, a JSON Schema, into a grammar image (grammar.h), to
 * be freed with free().  Every string of the grammar's language is a JSON text
 * that is valid for the schema.  The order of members is that of the text: jsonb
 * has sorted them by the length of their names, then their bytes.
 *
 * L3_ERR_UNSUPPORTED for a keyword, or a combination of keywords, that cannot be
 * kept; L3_ERR_ARG for what is no schema, or one that nothing can satisfy;
 * L3_ERR_LIMIT when the schema or what is made of it grows beyond its bounds.
 * The message says where, as a JSON Pointer: JSON Schema at
 * "/properties/a/pattern": ...
 */
L3Status	l3_schema_compile(const char *json, size_t len,
							  void **image, size_t *size, L3Error *err);

#endif							/* L3_SCHEMA_H */
