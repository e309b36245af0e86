/*-------------------------------------------------------------------------
 *
 * schema_compile.h
 *	  What the files of the JSON Schema compiler share.
 *
 * A place in an answer has to satisfy several schemas at once: the one that is
 * written there, what its $ref names, the members of its allOf, and of its
 * anyOf one.  So the compiler's unit is a conjunction: a set of schema objects,
 * all of which hold.  A conjunction with an anyOf is the alternative of
 * conjunctions without it; one without becomes the grammar of its types; and the
 * places inside it (members, items) have conjunctions of their own, each of
 * which is a rule of the grammar, made once.  There are finitely many, so
 * recursion through $ref comes to its end by itself.
 *
 *		schema.c			the loop over conjunctions; alternatives
 *		schema_keywords.c	the keywords, and the check that there are no others
 *		schema_exact.c		numbers that were not read as they are written
 *		schema_parts.c		schema objects: references, conjunctions
 *		schema_scalars.c	strings and numbers; values of enum and const
 *		schema_containers.c objects and arrays
 *		schema_disjoint.c	proof that two conjunctions exclude each other
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SCHEMA_COMPILE_H
#define L3_SCHEMA_COMPILE_H

#include <jansson.h>

#include "decimal.h"
#include "dfa.h"
#include "grammar.h"
#include "numbering.h"
#include "schema.h"

/* Bounds of a schema, besides those of the grammar. */
#define MAX_CONTAINERS		100000	/* objects and arrays in it */
#define MAX_NESTING			200 /* of schemas at one place: $ref, allOf, anyOf */
#define MAX_ALTERNATIVES	10000	/* after multiplying out, over the whole schema */
#define MAX_POINTER			300 /* bytes of a JSON Pointer in a message */
/* Work over all: edges of automata, members of objects looked at. */
#define COMPILE_BUDGET		((uint64_t) 16 << 20)

/* Types of JSON; a number is an integer or has a fraction. */
enum
{
	TYPE_NULL = 1 << 0,
	TYPE_BOOLEAN = 1 << 1,
	TYPE_INTEGER = 1 << 2,
	TYPE_FRACTION = 1 << 3,
	TYPE_STRING = 1 << 4,
	TYPE_ARRAY = 1 << 5,
	TYPE_OBJECT = 1 << 6,
	TYPE_NUMBER = TYPE_INTEGER | TYPE_FRACTION,
	TYPE_ALL = (1 << 7) - 1
};

/* What a conjunction is made of. */
typedef enum PartKind
{
	PART_OBJECT,				/* a schema object: its own keywords but for $ref,
								 * allOf, anyOf, oneOf */
	PART_ANY_OF,				/* the anyOf of a schema object */
	PART_ONE_OF
} PartKind;

typedef struct Part
{
	json_t	   *schema;			/* the schema object */
	PartKind	kind;
	bool		is_open;		/* being looked at: what comes back to it is a loop */
	char	   *pointer;		/* JSON Pointer of the object */
} Part;

/* Zero-initialise; conj_free. */
typedef struct Conj
{
	uint32_t   *parts;			/* numbers, in the order they were met */
	uint32_t	n_parts;
	uint32_t	capacity;
	bool		never;			/* one of them is the schema false */
} Conj;

/* A conjunction that has a rule, to be defined in turn. */
typedef struct Place
{
	Conj		conj;
	uint32_t   *key;			/* its parts, sorted (n_parts) */
	uint32_t	rule;
} Place;

/* Numbers with these bounds have this node. */
typedef struct NumberNode
{
	L3Interval	interval;
	bool		integers;
	uint32_t	node;
} NumberNode;

typedef struct Compiler
{
	json_t	   *root;
	L3GrammarBuilder *b;
	L3Error    *err;
	L3Status	status;			/* the first failure; then nothing matters any more */
	uint64_t	budget;			/* of work */
	uint32_t	n_alternatives;
	uint32_t	nesting;

	Part	   *parts;
	uint32_t	n_parts;
	uint32_t	parts_capacity;
	L3Slots		part_table;

	Place	   *places;
	uint32_t	n_places;
	uint32_t	places_capacity;
	L3Slots		place_table;	/* by key */

	NumberNode *numbers;
	uint32_t	n_numbers;
	uint32_t	numbers_capacity;

	const json_t **inexact;		/* numbers, sorted by address */
	uint32_t	n_inexact;
	uint32_t	inexact_capacity;

	uint32_t	any[L3_SCHEMA_ANY_DEPTH + 1];	/* nodes of any JSON, or 0 */
} Compiler;

/* Constraints of a conjunction without anyOf, but for members and items. */
typedef struct Merged
{
	unsigned	types;			/* that "type" allows; TYPE_ALL without it */
	unsigned	meant;			/* types that its keywords are about; 0: none */
	bool		has_type;
	json_t	   *values;			/* of enum and const: array, or NULL */
	uint32_t	values_of;		/* the part that has them */
	L3Interval	interval;
	uint32_t	min_length;		/* code points */
	uint32_t	max_length;
	uint32_t	min_items;
	uint32_t	max_items;
	bool		has_text;		/* a pattern or a format */
} Merged;

/* ---- schema.c ---- */

/* The node of a place: a reference to the rule of conj, whose parts it takes. */
uint32_t	schema_place(Compiler *c, Conj *conj);
/* Any JSON, nested to a depth. */
uint32_t	schema_any(Compiler *c, uint32_t depth);
/* Spend work; false when there is none left. */
bool		schema_spend(Compiler *c, uint64_t work);
/* Fail at keyword (or "") of the schema at pointer. */
void		schema_fail(Compiler *c, L3Status status, const char *pointer, const char *keyword,
						const char *fmt,...) __attribute__((format(printf, 5, 6)));
void		schema_no_memory(Compiler *c);
/* Room for one more of used elements of *array; false after failing. */
bool		schema_room(Compiler *c, void *array, size_t element, uint32_t used,
						uint32_t *capacity);
uint32_t	schema_never(Compiler *c);
uint32_t	schema_text(Compiler *c, const char *text);

/* ---- schema_keywords.c ---- */

/* Check all schemas in the text; those of one object. */
void		schema_check_all(Compiler *c);
void		schema_check_keywords(Compiler *c, json_t *schema, const char *pointer);
/* Types that a keyword says something of; 0: all, or none. */
unsigned	schema_keyword_about(const char *name);
/* Types of a name or of an array of names; 0 when it is neither. */
unsigned	schema_types_of(const json_t *type);
/* A count, cut off where nothing is so long. */
uint32_t	schema_count_of(const json_t *value);

/* ---- schema_exact.c ---- */

/* Note the numbers of c->root that the text it was read from has otherwise. */
void		schema_note_inexact(Compiler *c, const char *json, size_t len);
/* Has a value none of these? */
bool		schema_is_exact(const Compiler *c, const json_t *value);

/* ---- schema_parts.c ---- */

/* Add a schema, found at pointer (parent, token, and index if token is NULL). */
void		schema_add(Compiler *c, json_t *schema, const char *pointer, Conj *conj);
/* Append a token; pointer has room for MAX_POINTER. */
void		schema_pointer_add(char pointer[MAX_POINTER], const char *token);
void		schema_pointer(char out[MAX_POINTER], const char *parent, const char *token);
void		schema_pointer_index(char out[MAX_POINTER], const char *parent, const char *keyword,
								 size_t index);
/* The schema that the $ref of the object at pointer names; target: its pointer. */
json_t	   *schema_resolve(Compiler *c, const char *ref, const char *pointer,
						   char target[MAX_POINTER]);
void		conj_add(Compiler *c, Conj *conj, uint32_t part);
void		conj_copy(Compiler *c, Conj *to, const Conj *from, uint32_t without);
void		conj_free(Conj *conj);
/* The first part of conj that is an anyOf or oneOf, or UINT32_MAX. */
uint32_t	conj_choice(const Compiler *c, const Conj *conj);
/* Constraints of conj; merged_free. */
void		schema_merge(Compiler *c, const Conj *conj, Merged *merged);
void		merged_free(Merged *merged);
/* A keyword of a part, or NULL. */
json_t	   *part_get(const Part *part, const char *keyword);

/* ---- schema_scalars.c ---- */

uint32_t	schema_string(Compiler *c, const Conj *conj, const Merged *merged);
uint32_t	schema_number(Compiler *c, const Conj *conj, const Merged *merged);
uint32_t	schema_values(Compiler *c, const Conj *conj, const Merged *merged);
/* Any one character that a free string may have. */
uint32_t	schema_free_char(Compiler *c);
bool		schema_knows_format(const char *name);
/* The automaton of patterns and formats, or NULL without any. */
L3Dfa	   *schema_text_dfa(Compiler *c, const Conj *conj);
/* Does value satisfy what merged says?  Containers are not looked into. */
bool		schema_keeps(Compiler *c, const Merged *merged, const L3Dfa *text,
						 const json_t *value);
bool		schema_equal(const json_t *a, const json_t *b);
L3Decimal	schema_decimal(const json_t *number);
unsigned	schema_type_of(const json_t *value);
/* A string as JSON has it, between before and after: one literal. */
uint32_t	schema_escaped(Compiler *c, const char *before, const char *text, const char *after);

/* ---- schema_containers.c ---- */

uint32_t	schema_object(Compiler *c, const Conj *conj);
uint32_t	schema_array(Compiler *c, const Conj *conj, const Merged *merged);
/* The rest of a name after its first quote, which is none of the names (a set). */
uint32_t	schema_free_name(Compiler *c, const Conj *conj, const json_t *names);
/*
 * The conjunction that member name, or item number, has to satisfy; a name of
 * NULL is one that is not declared.
 */
void		schema_member(Compiler *c, const Conj *conj, const char *name, Conj *member);
void		schema_item(Compiler *c, const Conj *conj, size_t number, Conj *item);

/* ---- schema_disjoint.c ---- */

/* Is it certain that nothing satisfies both? */
bool		schema_disjoint(Compiler *c, const Conj *a, const Conj *b);

#endif							/* L3_SCHEMA_COMPILE_H */
