/*-------------------------------------------------------------------------
 *
 * schema_exact.c
 *	  Which numbers of a JSON Schema were not read as they are written.
 *
 * jansson reads a number as an integer of 64 bits or a double, and forgets its
 * text.  {"const": 3.14159265358979323846} would become another number, and be
 * answered.  So the text is gone through once more: its numbers come in the
 * order of those in the tree, and where one has more digits than are kept, the
 * tree's is noted.
 *
 *-------------------------------------------------------------------------
 */
#include "schema_compile.h"

#include <stdlib.h>
#include <string.h>

/* What is left of a text that is valid JSON. */
typedef struct Rest
{
	const char *at;
	const char *end;
} Rest;

/* Go behind a string, from its first quote. */
static void
skip_string(Rest *rest)
{
	for (rest->at++; rest->at < rest->end && *rest->at != '"'; rest->at++)
		rest->at += *rest->at == '\\';
	rest->at++;
}

static size_t
length_of_number(const Rest *rest)
{
	size_t		n = 0;

	while (rest->at + n < rest->end && rest->at[n] != '\0' &&
		   strchr("+-.0123456789eE", rest->at[n]) != NULL)
		n++;
	return n;
}

/* Go behind the next number; was it read as this one? */
static bool
next_is(Rest *rest, const json_t *number)
{
	L3Decimal	written;
	size_t		n;
	bool		same;

	while (rest->at < rest->end && *rest->at != '-' && (*rest->at < '0' || *rest->at > '9'))
	{
		if (*rest->at == '"')
			skip_string(rest);
		else
			rest->at++;
	}
	if (rest->at >= rest->end)
		return false;
	n = length_of_number(rest);
	same = l3_decimal_of_text(rest->at, n, &written) &&
		l3_decimal_compare(written, schema_decimal(number)) == 0;
	rest->at += n;
	return same;
}

/* jansson keeps members in their order, and bounds the nesting. */
static void
note_inexact(Compiler *c, Rest *rest, const json_t *value)
{
	const char *name;
	json_t	   *member;

	if (json_is_number(value) && !next_is(rest, value) &&
		schema_room(c, &c->inexact, sizeof(*c->inexact), c->n_inexact, &c->inexact_capacity))
		c->inexact[c->n_inexact++] = value;
	for (size_t i = 0; i < json_array_size(value) && c->status == L3_OK; i++)
		note_inexact(c, rest, json_array_get(value, i));
	if (json_is_object(value))
		json_object_foreach((json_t *) value, name, member)
			note_inexact(c, rest, member);
}

static int
compare_addresses(const void *a, const void *b)
{
	uintptr_t	x = (uintptr_t) *(const json_t *const *) a;
	uintptr_t	y = (uintptr_t) *(const json_t *const *) b;

	return (x > y) - (x < y);
}

void
schema_note_inexact(Compiler *c, const char *json, size_t len)
{
	Rest		rest = {json, json + len};

	note_inexact(c, &rest, c->root);
	if (c->n_inexact > 0)
		qsort(c->inexact, c->n_inexact, sizeof(*c->inexact), compare_addresses);
}

bool
schema_is_exact(const Compiler *c, const json_t *value)
{
	const char *name;
	json_t	   *member;

	if (c->n_inexact == 0)
		return true;
	if (json_is_number(value))
		return bsearch(&value, c->inexact, c->n_inexact, sizeof(*c->inexact),
					   compare_addresses) == NULL;
	for (size_t i = 0; i < json_array_size(value); i++)
		if (!schema_is_exact(c, json_array_get(value, i)))
			return false;
	if (json_is_object(value))
		json_object_foreach((json_t *) value, name, member)
		{
			if (!schema_is_exact(c, member))
				return false;
		}
	return true;
}
