/*-------------------------------------------------------------------------
 *
 * type_schema.c
 *	  The JSON Schema of a type's values; llama_type_schema.
 *
 * What the schema allows is what jsonb_populate_record reads as a value of the
 * type:
 *
 *		smallint, integer, bigint	integer within the type's bounds
 *		numeric(p, s)				number of absolute value < 10^(p - s)
 *		numeric, real, float8		number
 *		boolean						boolean
 *		text and its like			string; of varchar(n), char(n): at most n
 *									characters
 *		date, time, timestamp,		string, in ISO 8601
 *		timestamptz
 *		uuid						string
 *		json, jsonb					anything; as elements of an array all but arrays,
 *									which would be read as a dimension more
 *		enum						one of its labels
 *		array						array of one dimension, without NULLs; not of
 *									domains over arrays: they would be dimensions
 *		composite, row of a table	object with all columns in their order
 *		domain						as what it is over
 *
 * A column may be null unless it, or its domain, is NOT NULL.  A domain's CHECK
 * is not expressed: whoever casts the value learns of it (llama_format_check).
 * Comments on types and columns become descriptions.
 *
 * Dates and times have patterns and not JSON Schema's formats, which allow more
 * than PostgreSQL (a year 0000, any offset from UTC) and for times less (they
 * must have an offset).
 *
 * An error may be kept by a batch node and never thrown (batch.c), so nothing
 * that needs releasing is held where one is raised.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "format.h"

PG_FUNCTION_INFO_V1(llama_type_schema);

/* Types may be nested so deep. */
#define MAX_TYPE_DEPTH		64

/* Decimals of so many digits are different doubles (IEEE 754). */
#define MAX_EXACT_DIGITS	15

/* Days that there are, in the years 0001 to 9999 of the Gregorian calendar. */
#define YEAR_PATTERN \
	"([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
#define LEAP_YEAR_PATTERN \
	"([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define DATE_PATTERN \
	"(" YEAR_PATTERN "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])" \
	"|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))" \
	"|" LEAP_YEAR_PATTERN "-02-29)"
#define TIME_PATTERN \
	"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
/* Offsets from UTC that PostgreSQL reads are below 16 hours. */
#define OFFSET_PATTERN \
	"(Z|[-+](0[0-9]|1[0-4]):[0-5][0-9])"

typedef struct Writer
{
	StringInfo	out;
	LlamaTypeDetail detail;
	int			depth;
} Writer;

/* Where a type stands. */
typedef struct Column
{
	const char *name;			/* NULL: it is the type that was asked for */
	Oid			of;				/* the composite type */
	bool		is_element;		/* of its array */
} Column;

static void put_type(Writer *writer, Oid type, int32 typmod, bool nullable, const Column *column,
					 const char *description);

static void
raise_unsupported(Oid type, const Column *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("type %s is not supported in structured output", format_type_be(type)),
			 column->name != NULL ?
			 errdetail("It is the type of column \"%s\" of type %s.", column->name,
					   format_type_be(column->of)) : 0));
}

/* ----------------------------------------------------------------
 *		Parts of a schema
 * ----------------------------------------------------------------
 */

static void
put_kind(Writer *writer, const char *kind, bool nullable)
{
	appendStringInfo(writer->out, nullable ? "\"type\": [\"%s\", \"null\"]" : "\"type\": \"%s\"", kind);
}

static void
put_integer(Writer *writer, bool nullable, const char *minimum, const char *maximum)
{
	put_kind(writer, "integer", nullable);
	if (writer->detail == LLAMA_TYPE_EXACT)
		appendStringInfo(writer->out, ", \"minimum\": %s, \"maximum\": %s", minimum, maximum);
}

/*
 * Of numeric(precision, scale) the greatest number is precision nines, the last
 * of which stands for 10^-scale.  Whoever reads a schema may read its numbers as
 * doubles, so it is cut off after MAX_EXACT_DIGITS; and a number of more digits
 * before the point than these is not written anyway (schema.h).
 */
static void
put_numeric(Writer *writer, bool nullable, int32 typmod)
{
	StringInfoData most;
	int			precision;
	int			scale;

	put_kind(writer, "number", nullable);
	if (typmod < (int32) VARHDRSZ || writer->detail != LLAMA_TYPE_EXACT)
		return;
	precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
	/* 11 bits with a sign: make_numeric_typmod in numeric.c */
	scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
	if (precision - scale > MAX_EXACT_DIGITS)
		return;

	initStringInfo(&most);
	if (scale >= precision)
	{
		appendStringInfoString(&most, "0.");
		for (int i = precision; i < scale; i++)
			appendStringInfoChar(&most, '0');
	}
	for (int i = 0; i < Min(precision, MAX_EXACT_DIGITS); i++)
	{
		if (i == precision - scale && i > 0)
			appendStringInfoChar(&most, '.');
		appendStringInfoChar(&most, '9');
	}
	for (int i = scale; i < 0; i++)
		appendStringInfoChar(&most, '0');
	appendStringInfo(writer->out, ", \"minimum\": -%s, \"maximum\": %s", most.data, most.data);
}

/* typmod as of varchar and char: VARHDRSZ more than the longest length. */
static void
put_string(Writer *writer, bool nullable, int32 typmod)
{
	put_kind(writer, "string", nullable);
	if (typmod >= (int32) VARHDRSZ)
		appendStringInfo(writer->out, ", \"maxLength\": %d", typmod - (int32) VARHDRSZ);
}

static void
put_time(Writer *writer, bool nullable, const char *format, const char *pattern)
{
	put_kind(writer, "string", nullable);
	if (writer->detail == LLAMA_TYPE_EXACT)
		appendStringInfo(writer->out, ", \"pattern\": \"^%s$\"", pattern);
	else
		appendStringInfo(writer->out, ", \"format\": \"%s\"", format);
}

/* The labels, in their order. */
static void
put_enum(Writer *writer, Oid type, bool nullable)
{
	Relation	rel = table_open(EnumRelationId, AccessShareLock);
	Relation	index = index_open(EnumTypIdSortOrderIndexId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	const char *separator = "";

	ScanKeyInit(&key, Anum_pg_enum_enumtypid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(type));
	scan = systable_beginscan_ordered(rel, index, NULL, 1, &key);
	appendStringInfoString(writer->out, "\"enum\": [");
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		appendStringInfoString(writer->out, separator);
		escape_json(writer->out, NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel));
		separator = ", ";
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	appendStringInfo(writer->out, "%s]", nullable ? ", null" : "");
}

/*
 * Anything but, unless it may be, null, which would be read as no value; and
 * within an array but an array (populate_array_dim_jsonb in jsonfuncs.c).
 */
static void
put_any(Writer *writer, bool nullable, bool is_element)
{
	appendStringInfo(writer->out, "\"type\": [\"object\", %s\"string\", \"number\", \"boolean\"%s]",
					 is_element ? "" : "\"array\", ", nullable ? ", \"null\"" : "");
}

/* The comment on a type that somebody made, or NULL. */
static char *
comment_on_type(Oid type)
{
	char	   *comment;

	if (get_typtype(type) == TYPTYPE_BASE)
		return NULL;
	comment = GetComment(type, TypeRelationId, 0);
	if (comment == NULL && get_typtype(type) == TYPTYPE_COMPOSITE)
		comment = GetComment(get_typ_typrelid(type), RelationRelationId, 0);
	return comment;
}

/* Is there a NOT NULL among the domain's constraints, or below? */
static bool
is_not_null_domain(Oid type)
{
	bool		not_null = false;

	while (!not_null && get_typtype(type) == TYPTYPE_DOMAIN)
	{
		HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for type %u", type);
		not_null = ((Form_pg_type) GETSTRUCT(tuple))->typnotnull;
		type = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
		ReleaseSysCache(tuple);
	}
	return not_null;
}

/* ----------------------------------------------------------------
 *		Types
 * ----------------------------------------------------------------
 */

static void
put_row(Writer *writer, Oid type, bool nullable)
{
	TupleDesc	columns = lookup_rowtype_tupdesc_copy(type, -1);
	Oid			relation = get_typ_typrelid(type);
	StringInfoData required;
	const char *separator = "";

	initStringInfo(&required);
	put_kind(writer, "object", nullable);
	appendStringInfoString(writer->out, ", \"properties\": {");
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(columns, i);
		const char *name = NameStr(attribute->attname);

		if (attribute->attisdropped)
			continue;
		appendStringInfoString(writer->out, separator);
		escape_json(writer->out, name);
		appendStringInfoString(writer->out, ": {");
		put_type(writer, attribute->atttypid, attribute->atttypmod,
				 !attribute->attnotnull && !is_not_null_domain(attribute->atttypid),
				 &(Column) {name, type, false}, GetComment(relation, RelationRelationId, i + 1));
		appendStringInfoChar(writer->out, '}');
		appendStringInfoString(&required, separator);
		escape_json(&required, name);
		separator = ", ";
	}
	appendStringInfo(writer->out, "}, \"required\": [%s], \"additionalProperties\": false",
					 required.data);
}

/* A type that is made of no other; false when it is not supported. */
static bool
put_base_type(Writer *writer, Oid type, int32 typmod, bool nullable, bool is_element)
{
	char		category;
	bool		preferred;

	switch (type)
	{
		case INT2OID:
			put_integer(writer, nullable, "-32768", "32767");
			return true;
		case INT4OID:
			put_integer(writer, nullable, "-2147483648", "2147483647");
			return true;
		case INT8OID:
			put_integer(writer, nullable, "-9223372036854775808", "9223372036854775807");
			return true;
		case FLOAT4OID:
		case FLOAT8OID:
			put_kind(writer, "number", nullable);
			return true;
		case NUMERICOID:
			put_numeric(writer, nullable, typmod);
			return true;
		case BOOLOID:
			put_kind(writer, "boolean", nullable);
			return true;
		case DATEOID:
			put_time(writer, nullable, "date", DATE_PATTERN);
			return true;
		case TIMEOID:
			put_time(writer, nullable, "time", TIME_PATTERN);
			return true;
		case TIMESTAMPOID:
			put_time(writer, nullable, "date-time", DATE_PATTERN "T" TIME_PATTERN);
			return true;
		case TIMESTAMPTZOID:
			put_time(writer, nullable, "date-time", DATE_PATTERN "T" TIME_PATTERN OFFSET_PATTERN);
			return true;
		case UUIDOID:
			put_kind(writer, "string", nullable);
			appendStringInfoString(writer->out, ", \"format\": \"uuid\"");
			return true;
		case JSONOID:
		case JSONBOID:
			put_any(writer, nullable, is_element);
			return true;
		default:
			get_type_category_preferred(type, &category, &preferred);
			if (category != TYPCATEGORY_STRING)
				return false;
			put_string(writer, nullable, type == VARCHAROID || type == BPCHAROID ? typmod : -1);
			return true;
	}
}

/* An array's type after its description, or any other. */
static void
put_array_or_base(Writer *writer, Oid type, int32 typmod, bool nullable, const Column *column)
{
	Oid			element = get_element_type(type);

	if (OidIsValid(element) && !OidIsValid(get_element_type(getBaseType(element))))
	{
		put_kind(writer, "array", nullable);
		appendStringInfoString(writer->out, ", \"items\": {");
		put_type(writer, element, typmod, false, &(Column) {column->name, column->of, true}, NULL);
		appendStringInfoChar(writer->out, '}');
	}
	else if (OidIsValid(element) ||
			 !put_base_type(writer, type, typmod, nullable, column->is_element))
		raise_unsupported(type, column);
}

/*
 * The members of the type's schema.  A description that is given goes before
 * the type's own.
 */
static void
put_type(Writer *writer, Oid type, int32 typmod, bool nullable, const Column *column,
		 const char *description)
{
	char		kind = get_typtype(type);

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (++writer->depth > MAX_TYPE_DEPTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("type %s is nested too deeply for structured output", format_type_be(type)),
				 errdetail("There may be %d levels.", MAX_TYPE_DEPTH)));

	if (description == NULL)
		description = comment_on_type(type);
	if (kind == TYPTYPE_DOMAIN)
	{
		Oid			base = getBaseTypeAndTypmod(type, &typmod);

		put_type(writer, base, typmod, nullable, column, description);
	}
	else
	{
		if (description != NULL)
		{
			appendStringInfoString(writer->out, "\"description\": ");
			escape_json(writer->out, description);
			appendStringInfoString(writer->out, ", ");
		}
		if (kind == TYPTYPE_ENUM)
			put_enum(writer, type, nullable);
		else if (kind == TYPTYPE_COMPOSITE)
			put_row(writer, type, nullable);
		else if (kind == TYPTYPE_BASE)
			put_array_or_base(writer, type, typmod, nullable, column);
		else
			raise_unsupported(type, column);
	}
	writer->depth--;
}

void
llama_type_schema_text(Oid type, LlamaTypeDetail detail, StringInfo out)
{
	Writer		writer = {out, detail, 0};

	if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type with OID %u does not exist", type)));
	appendStringInfoChar(out, '{');
	put_type(&writer, type, -1, false, &(Column) {NULL, InvalidOid, false}, NULL);
	appendStringInfoChar(out, '}');
}

/*
 * llama_type_schema(type regtype) returns jsonb
 */
Datum
llama_type_schema(PG_FUNCTION_ARGS)
{
	StringInfoData schema;

	initStringInfo(&schema);
	llama_type_schema_text(PG_GETARG_OID(0), LLAMA_TYPE_EXACT, &schema);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(schema.data)));
}
