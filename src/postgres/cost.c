/*-------------------------------------------------------------------------
 *
 * cost.c
 *	  What the planner is told of our functions: costs and selectivities.
 *
 * Cost.  A call costs the time that the engine computes for it: the tokens
 * that are the row's own, at the measured speed of prompts, and those of the
 * answer, at the measured speed of generation.  What is the same for all rows
 * (instruction, labels, examples) is computed once and not counted.  Speeds are
 * those of all engine workers together since the server started, over all
 * models and batches as they came; before there are enough tokens, defaults
 * stand for them.  They are rounded to powers of two, so that a plan does not
 * change with every query.
 *
 * Time becomes cost by COST_PER_SECOND.  The planner's unit is a page read in
 * sequence, which takes about 10 microseconds where tables are partly cached.
 *
 * Texts: a token of Llama 3's is about four bytes.  A column's width is the
 * statistics' average; values that are stored out of line count there with what
 * is left in the row.
 *
 * Selectivity.  llama3.filter_selectivity says what fraction of rows llama_filter
 * lets pass; by default it is the share of true answers in the database so far,
 * rounded to a tenth (or 0.01 or 0.99, as nothing is never or always), and
 * PostgreSQL's own default for a condition before there are enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "batch.h"
#include "cost.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(llama_support);

/* The planner's unit of cost is 10 microseconds. */
#define COST_PER_SECOND			100000.0

/* Until this many tokens of a kind were computed, the defaults hold. */
#define MIN_TOKENS_MEASURED		1000
/* Tokens per second: a model of 1B parameters on a small machine. */
#define DEFAULT_PREFILL_SPEED	512.0
#define DEFAULT_DECODE_SPEED	64.0

#define BYTES_PER_TOKEN			4.0
/* A word is about one and a half tokens. */
#define TOKENS_PER_WORD			1.5
/* After the row's text: the end of its turn, and the header of the answer's. */
#define TOKENS_AFTER_TEXT		16.0

/* Until this many answers were given, the default holds. */
#define MIN_ANSWERS_COUNTED		100
#define DEFAULT_SELECTIVITY		0.3333333
#define LEAST_SELECTIVITY		0.01

/*
 * What a call costs while costs are hidden, in cpu_operator_cost: little, but
 * still so much that it is postponed beyond a sort with LIMIT (more than 10,
 * see make_sort_input_target in planner.c).
 */
#define HIDDEN_OPERATORS		11

static uint64 costs_asked = 0;
static bool costs_hidden = false;

uint64
llama_costs_asked(void)
{
	return costs_asked;
}

bool
llama_hide_costs(bool hidden)
{
	bool		before = costs_hidden;

	costs_hidden = hidden;
	return before;
}

/* ----------------------------------------------------------------
 *		Speed
 * ----------------------------------------------------------------
 */

typedef struct Speeds
{
	double		prefill;		/* tokens per second */
	double		decode;
} Speeds;

static double
round_speed(double tokens, double seconds, double fallback)
{
	if (tokens < MIN_TOKENS_MEASURED || seconds <= 0)
		return fallback;
	return exp2(rint(log2(tokens / seconds)));
}

/* Of all workers together. */
static Speeds
measured_speeds(void)
{
	double		prefill = 0;
	double		decode = 0;
	double		prefill_usec = 0;
	double		busy_usec = 0;
	double		scale;

	if (llama_shared == NULL)
		return (Speeds) {DEFAULT_PREFILL_SPEED, DEFAULT_DECODE_SPEED};
	for (int i = 0; i < llama_shared->n_workers; i++)
	{
		LlamaWorker *worker = &llama_shared->workers[i];

		prefill += (double) pg_atomic_read_u64(&worker->n_prefill);
		decode += (double) pg_atomic_read_u64(&worker->n_decode);
		prefill_usec += (double) pg_atomic_read_u64(&worker->prefill_usec);
		busy_usec += (double) pg_atomic_read_u64(&worker->busy_usec);
	}
	scale = USECS_PER_SEC * (double) llama_shared->n_workers;
	return (Speeds)
	{
		round_speed(prefill, prefill_usec / scale, DEFAULT_PREFILL_SPEED),
			round_speed(decode, (busy_usec - prefill_usec) / scale, DEFAULT_DECODE_SPEED)
	};
}

/* ----------------------------------------------------------------
 *		How long texts and answers are
 * ----------------------------------------------------------------
 */

/* How long an answer is said to be. */
typedef enum AnswerLength
{
	ANSWER_NONE = 0,			/* read from probabilities */
	ANSWER_MAX_TOKENS,			/* by an argument, in tokens */
	ANSWER_MAX_WORDS,			/* by an argument, in words */
	ANSWER_AS_INPUT				/* as the text */
} AnswerLength;

typedef struct CallShape
{
	const char *symbol;
	AnswerLength length;
	int			arg;			/* that says it */
} CallShape;

/* What is not here generates llama3.max_tokens. */
static const CallShape shapes[] = {
	{"llama_generate", ANSWER_MAX_TOKENS, 2},
	{"llama_chat", ANSWER_MAX_TOKENS, 1},
	{"llama_complete", ANSWER_MAX_TOKENS, 1},
	{"llama_extract", ANSWER_MAX_TOKENS, 4},
	{"llama_summarize", ANSWER_MAX_WORDS, 1},
	{"llama_translate", ANSWER_AS_INPUT, 0},
	{"llama_redact", ANSWER_AS_INPUT, 0},
	{"llama_fix_grammar", ANSWER_AS_INPUT, 0},
	{"llama_classify", ANSWER_NONE, 0},
	{"llama_classify_prob", ANSWER_NONE, 0},
	{"llama_classify_multi", ANSWER_NONE, 0},
	{"llama_filter", ANSWER_NONE, 0},
	{"llama_filter_prob", ANSWER_NONE, 0},
	{"llama_score", ANSWER_NONE, 0},
	{"llama_rank", ANSWER_NONE, 0},
	{"llama_sentiment", ANSWER_NONE, 0},
	{"llama_embed", ANSWER_NONE, 0},
	{"llama_similarity", ANSWER_NONE, 0},
};

/* The average bytes of a column. */
static double
column_width(PlannerInfo *root, const Var *var)
{
	int32		width = 0;

	if (root != NULL && root->simple_rel_array != NULL && var->varlevelsup == 0 &&
		var->varno > 0 && var->varno < root->simple_rel_array_size)
	{
		RelOptInfo *rel = root->simple_rel_array[var->varno];
		RangeTblEntry *rte = root->simple_rte_array[var->varno];

		if (rel != NULL && rel->attr_widths != NULL &&
			var->varattno >= rel->min_attr && var->varattno <= rel->max_attr)
			width = rel->attr_widths[var->varattno - rel->min_attr];
		if (width <= 0 && rte != NULL && rte->rtekind == RTE_RELATION && var->varattno > 0)
			width = get_attavgwidth(rte->relid, var->varattno);
	}
	return width > 0 ? width : get_typavgwidth(var->vartype, var->vartypmod);
}

typedef struct Width
{
	PlannerInfo *root;
	double		bytes;
} Width;

/* Add up the widths of the columns and constants of an expression: a walker. */
static bool
add_width(Node *node, Width *width)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		width->bytes += column_width(width->root, (Var *) node);
		return false;
	}
	if (IsA(node, Const))
	{
		const Const *constant = (const Const *) node;

		if (!constant->constisnull && constant->constlen == -1)
			width->bytes += VARSIZE_ANY_EXHDR(DatumGetPointer(constant->constvalue));
		return false;
	}
	return expression_tree_walker(node, add_width, width);
}

/* The tokens of a text that is not known yet. */
static double
tokens_of(PlannerInfo *root, Node *expr)
{
	Width		width = {root, 0};

	(void) add_width(expr, &width);
	if (width.bytes == 0 && !IsA(expr, Const))
		width.bytes = get_typavgwidth(exprType(expr), exprTypmod(expr));
	return width.bytes / BYTES_PER_TOKEN;
}

/* The tokens that the engine reads for a row: of all texts that are not the same for all. */
static double
prompt_tokens(PlannerInfo *root, const List *args)
{
	double		tokens = TOKENS_AFTER_TEXT;
	ListCell   *cell;

	foreach(cell, args)
	{
		Node	   *arg = lfirst(cell);

		if (get_typlen(exprType(arg)) == -1 &&
			(!IsA(arg, Const) || foreach_current_index(cell) == 0))
			tokens += tokens_of(root, arg);
	}
	return tokens;
}

/* An argument's value when it is known, otherwise or for NULL the default. */
static double
int_arg(const List *args, int n, double fallback)
{
	const Const *arg = n < list_length(args) ? (const Const *) list_nth(args, n) : NULL;

	if (arg == NULL || !IsA(arg, Const) || arg->constisnull || arg->constlen != sizeof(int32))
		return fallback;
	return Max(DatumGetInt32(arg->constvalue), 0);
}

static double
answer_tokens(PlannerInfo *root, const char *symbol, const List *args)
{
	for (size_t i = 0; i < lengthof(shapes); i++)
	{
		if (strcmp(shapes[i].symbol, symbol) != 0)
			continue;
		switch (shapes[i].length)
		{
			case ANSWER_NONE:
				return 0;
			case ANSWER_MAX_TOKENS:
				return int_arg(args, shapes[i].arg, llama3_max_tokens);
			case ANSWER_MAX_WORDS:
				return TOKENS_PER_WORD *
					int_arg(args, shapes[i].arg, llama3_max_tokens / TOKENS_PER_WORD);
			case ANSWER_AS_INPUT:
				return tokens_of(root, list_nth(args, shapes[i].arg));
		}
	}
	return llama3_max_tokens;
}

/* A call's arguments in the order of the kind whose halves it has, the model last. */
static List *
ordered_arguments(const LlamaCallKind *kind, const List *args)
{
	List	   *ordered = NIL;
	int			n = list_length(args);

	for (int i = 0; i < llama_call_n_arguments(kind, n); i++)
		ordered = lappend(ordered, makeNullConst(TEXTOID, -1, InvalidOid));
	for (int i = 0; i < n; i++)
		list_nth_cell(ordered, llama_call_argument(kind, i, n))->ptr_value = list_nth(args, i);
	return ordered;
}

/* Set the cost of a call; false when it is none. */
static bool
set_cost(SupportRequestCost *request)
{
	const FuncExpr *call = (const FuncExpr *) request->node;
	const LlamaCallKind *kind;
	List	   *args;
	Speeds		speeds;

	if (call == NULL || !IsA(call, FuncExpr) || call->args == NIL)
		return false;
	kind = llama_function_kind(call->funcid);
	if (kind == NULL)
		return false;
	request->startup = 0;
	if (costs_hidden)
	{
		request->per_tuple = HIDDEN_OPERATORS * cpu_operator_cost;
		return true;
	}
	speeds = measured_speeds();
	args = ordered_arguments(kind, call->args);
	kind = llama_call_halves(kind);
	request->per_tuple = COST_PER_SECOND *
		(prompt_tokens(request->root, args) / speeds.prefill +
		 answer_tokens(request->root, kind->symbol, args) / speeds.decode);
	/* Not so cheap that it is evaluated for rows that a sort with LIMIT drops. */
	request->per_tuple = Max(request->per_tuple, HIDDEN_OPERATORS * cpu_operator_cost);
	return true;
}

/* ----------------------------------------------------------------
 *		Selectivity
 * ----------------------------------------------------------------
 */

void
llama_shares_init(LlamaFilterShare *shares)
{
	for (int i = 0; i < LLAMA_MAX_SHARES; i++)
	{
		pg_atomic_init_u32(&shares[i].database, InvalidOid);
		pg_atomic_init_u64(&shares[i].n, 0);
		pg_atomic_init_u64(&shares[i].n_true, 0);
	}
}

/* This database's share, made if need be, or NULL: others have all places. */
static LlamaFilterShare *
own_share(void)
{
	static LlamaFilterShare *own = NULL;

	for (int i = 0; own == NULL && llama_shared != NULL && i < LLAMA_MAX_SHARES; i++)
	{
		LlamaFilterShare *share = &llama_shared->filter_shares[i];
		uint32		database = InvalidOid;

		/* Places are never given up, so the first free one ends the search. */
		if (pg_atomic_compare_exchange_u32(&share->database, &database, MyDatabaseId) ||
			database == MyDatabaseId)
			own = share;
	}
	return own;
}

void
llama_count_filter(bool answer)
{
	LlamaFilterShare *share = own_share();

	if (share == NULL)
		return;
	(void) pg_atomic_fetch_add_u64(&share->n, 1);
	if (answer)
		(void) pg_atomic_fetch_add_u64(&share->n_true, 1);
}

static double
filter_selectivity(void)
{
	LlamaFilterShare *share = own_share();
	double		n;
	double		part;

	if (llama3_filter_selectivity >= 0)
		return llama3_filter_selectivity;
	n = share == NULL ? 0 : (double) pg_atomic_read_u64(&share->n);
	if (n < MIN_ANSWERS_COUNTED)
		return DEFAULT_SELECTIVITY;
	part = rint(10 * (double) pg_atomic_read_u64(&share->n_true) / n) / 10;
	return Min(Max(part, LEAST_SELECTIVITY), 1 - LEAST_SELECTIVITY);
}

static bool
is_filter(Oid function)
{
	const LlamaCallKind *kind = llama_function_kind(function);

	return kind != NULL && llama_call_halves(kind) == &llama_filter_kind;
}

double
llama_condition_selectivity(const Node *condition)
{
	double		part;

	if (IsA(condition, FuncExpr) && is_filter(((const FuncExpr *) condition)->funcid))
		return filter_selectivity();
	if (is_notclause(condition))
	{
		part = llama_condition_selectivity((const Node *) get_notclausearg(condition));
		return part < 0 ? -1 : 1 - part;
	}
	return -1;
}

/* ----------------------------------------------------------------
 *		The planner's questions
 * ----------------------------------------------------------------
 */

/*
 * llama_support(internal) returns internal: planner support function of the
 * functions that run the model
 */
Datum
llama_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestCost))
	{
		costs_asked++;
		if (set_cost((SupportRequestCost *) request))
			PG_RETURN_POINTER(request);
	}
	else if (IsA(request, SupportRequestSelectivity) &&
			 is_filter(((SupportRequestSelectivity *) request)->funcid))
	{
		((SupportRequestSelectivity *) request)->selectivity = filter_selectivity();
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}
