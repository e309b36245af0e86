/*-------------------------------------------------------------------------
 *
 * format.c
 *	  What an answer must be: the arguments that say it, the grammars made of
 *	  them, and the check of what no grammar can express.
 *
 * A format is a JSON Schema or a type, which has one (type_schema.c).  The
 * schema does two things.  It is told to the model, as a part of its
 * instructions (prompt.c), so that it knows what is wanted; of a type in brief,
 * since what a date looks like it knows.  And it is compiled to a grammar, which
 * the engine follows: what the model would rather say does not matter then.
 *
 * Compiling takes up to milliseconds, and all rows of a query have the same
 * schema.  So each backend keeps the grammars that it used last, by the
 * schema's text.  A changed type has another text.  A query with a few calls has
 * a few schemas in turn, which must not drive each other out, however large.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#include "format.h"
#include "llama3.h"
#include "schema.h"

/*
 * Grammars are kept up to the first sum, so that a connection stays small; those
 * of a few schemas up to the second.  The one in use is kept in any case.
 */
#define MAX_KEPT_BYTES		(256 * 1024)
#define FEW_GRAMMARS		8
#define MAX_FEW_BYTES		(8 * 1024 * 1024)

/* Each lies in a memory context of its own, "llama3 grammar". */
typedef struct KeptGrammar
{
	dlist_node	node;
	MemoryContext context;
	void	   *image;
	size_t		image_size;
	size_t		schema_len;
	char		schema[FLEXIBLE_ARRAY_MEMBER];
} KeptGrammar;

/* The most recently used first. */
static dlist_head kept = DLIST_STATIC_INIT(kept);
static int	n_kept = 0;
static Size kept_bytes = 0;

/* ----------------------------------------------------------------
 *		Grammars
 * ----------------------------------------------------------------
 */

static Size
size_of(const KeptGrammar *grammar)
{
	return offsetof(KeptGrammar, schema) + grammar->schema_len + grammar->image_size;
}

/* Forget the grammars that were not used for longest, but not the first. */
static void
forget_some(void)
{
	while (kept_bytes > (n_kept > FEW_GRAMMARS ? MAX_KEPT_BYTES : MAX_FEW_BYTES) && n_kept > 1)
	{
		KeptGrammar *last = dlist_tail_element(KeptGrammar, node, &kept);

		dlist_delete(&last->node);
		n_kept--;
		kept_bytes -= size_of(last);
		MemoryContextDelete(last->context);
	}
}

static KeptGrammar *
find_kept(LlamaText schema)
{
	dlist_iter	iter;

	dlist_foreach(iter, &kept)
	{
		KeptGrammar *grammar = dlist_container(KeptGrammar, node, iter.cur);

		if (grammar->schema_len == schema.len &&
			memcmp(grammar->schema, schema.data, schema.len) == 0)
			return grammar;
	}
	return NULL;
}

static KeptGrammar *
compile(LlamaText schema)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llama3 grammar",
												  ALLOCSET_SMALL_SIZES);
	Size		image_at = MAXALIGN(offsetof(KeptGrammar, schema) + schema.len);
	KeptGrammar *grammar = NULL;
	void	   *image;				/* of malloc */
	size_t		image_size;
	L3Error		err;

	if (l3_schema_compile(schema.data, schema.len, &image, &image_size, &err) != L3_OK)
	{
		MemoryContextDelete(context);
		llama_raise(&err);
	}
	grammar = MemoryContextAllocExtended(context, image_at + image_size, MCXT_ALLOC_NO_OOM);
	if (grammar != NULL)
	{
		grammar->context = context;
		grammar->image = (char *) grammar + image_at;
		grammar->image_size = image_size;
		grammar->schema_len = schema.len;
		memcpy(grammar->schema, schema.data, schema.len);
		memcpy(grammar->image, image, image_size);
	}
	free(image);
	if (grammar == NULL)
	{
		MemoryContextDelete(context);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for a grammar")));
	}
	return grammar;
}

/* The grammar of a schema, which is UTF-8. */
static void
set_grammar(LlamaText schema, LlamaFormat *format)
{
	KeptGrammar *grammar = find_kept(schema);

	if (grammar != NULL)
		dlist_move_head(&kept, &grammar->node);
	else
	{
		grammar = compile(schema);
		dlist_push_head(&kept, &grammar->node);
		n_kept++;
		kept_bytes += size_of(grammar);
		forget_some();
	}
	format->grammar = grammar->image;
	format->grammar_size = grammar->image_size;
}

/* ----------------------------------------------------------------
 *		Arguments
 * ----------------------------------------------------------------
 */

static LlamaText
type_text(Oid type, LlamaTypeDetail detail)
{
	StringInfoData text;

	initStringInfo(&text);
	llama_type_schema_text(type, detail, &text);
	return llama_utf8(text.data, text.len);
}

bool
llama_format_args(FunctionCallInfo fcinfo, int schema_arg, const char *schema_name,
				  int type_arg, const char *type_name, LlamaFormat *format)
{
	bool		has_schema = !PG_ARGISNULL(schema_arg);
	bool		has_type = !PG_ARGISNULL(type_arg);

	*format = (LlamaFormat) {0};
	if (has_schema && has_type)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s and %s must not both be given", schema_name, type_name)));
	if (has_schema)
	{
		StringInfoData text;

		initStringInfo(&text);
		llama_schema_text(PG_GETARG_JSONB_P(schema_arg), &text);
		format->schema = llama_utf8(text.data, text.len);
		set_grammar(format->schema, format);
	}
	else if (has_type)
	{
		format->type = PG_GETARG_OID(type_arg);
		format->schema = type_text(format->type, LLAMA_TYPE_BRIEF);
		set_grammar(type_text(format->type, LLAMA_TYPE_EXACT), format);
	}
	return has_schema || has_type;
}

/* ----------------------------------------------------------------
 *		Checking an answer
 * ----------------------------------------------------------------
 */

/*
 * Casting is done by jsonb_to_record, to a record whose one column has the
 * type: that is the server's own reading of JSON as a value, for every kind of
 * type.
 */
void
llama_format_check(Oid type, text *answer)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	ReturnSetInfo rsinfo = {.type = T_ReturnSetInfo};
	TupleDesc	record = CreateTemplateTupleDesc(1);
	char	   *object = psprintf("{\"value\": %s}", text_to_cstring(answer));

	TupleDescInitEntry(record, 1, "value", type, -1, 0);
	rsinfo.expectedDesc = BlessTupleDesc(record);
	fmgr_info(F_JSONB_TO_RECORD, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, (Node *) &rsinfo);
	fcinfo->args[0].value = DirectFunctionCall1(jsonb_in, CStringGetDatum(object));
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
}
