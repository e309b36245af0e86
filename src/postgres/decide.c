/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  llama_classify, llama_classify_prob, llama_filter, llama_filter_prob.
 *
 * A decision is not generated and then parsed.  The prompt ends where the
 * assistant's answer would begin; each label is a path of tokens from there,
 * and the engine gives every path's exact log-probability.  So there is no
 * answer that is not a label, and the cost is one prefill.
 *
 * What the probability means.  P(label) is the probability that the model's
 * answer begins with the label's tokens, normalised over the labels given.
 * These events must not overlap: where one label's path is a beginning of
 * another's ("cat" and "category"), the shorter gets end-of-turn as its last
 * token and means "the answer is exactly this".
 *
 * The labels' order must not matter.  They are sorted by their bytes before
 * anything is done with them, so that the prompt, the paths and the order of
 * summation are the same for every order the caller may choose.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"

#include "call.h"
#include "options.h"
#include "prompt.h"

PG_FUNCTION_INFO_V1(llama_classify);
PG_FUNCTION_INFO_V1(llama_classify_prob);
PG_FUNCTION_INFO_V1(llama_filter);
PG_FUNCTION_INFO_V1(llama_filter_prob);

#define LLAMA_MIN_LABELS	2

/* Above this probability a condition holds. */
#define FILTER_THRESHOLD	0.5

/* Labels in canonical order. */
typedef struct Labels
{
	int			n;
	LlamaText  *texts;			/* (n) sorted by bytes */
	int		   *given;			/* (n) position in the caller's array, from 0 */
} Labels;

/* A label's path: n tokens from first on in a shared array. */
typedef struct LabelPath
{
	const int32 *tokens;
	size_t		n;
	int			label;			/* index in Labels */
	bool		closed;			/* ends with end-of-turn */
} LabelPath;

/* ----------------------------------------------------------------
 *		Arguments
 * ----------------------------------------------------------------
 */

static int
compare_texts(const LlamaText *a, const LlamaText *b)
{
	int			order = memcmp(a->data, b->data, Min(a->len, b->len));

	if (order != 0)
		return order;
	return a->len < b->len ? -1 : a->len > b->len;
}

static int
compare_given(const void *a, const void *b, void *texts)
{
	return compare_texts((LlamaText *) texts + *(const int *) a,
						 (LlamaText *) texts + *(const int *) b);
}

/* A label in a message, in the database's encoding. */
static char *
label_name(LlamaText label)
{
	return text_to_cstring(llama_text_make(label.data, label.len));
}

static bool
is_blank(LlamaText t)
{
	for (size_t i = 0; i < t.len; i++)
	{
		if (strchr(" \t\r\n\f\v", t.data[i]) == NULL)
			return false;
	}
	return true;
}

/* Read and check the labels argument. */
static void
read_labels(FunctionCallInfo fcinfo, int arg, Labels *labels)
{
	LlamaText  *given;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("labels must not be NULL")));
	given = llama_text_array_arg(fcinfo, arg, "labels", &labels->n);
	if (labels->n < LLAMA_MIN_LABELS || labels->n > LLAMA_MAX_LABELS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there must be between %d and %d labels",
						LLAMA_MIN_LABELS, LLAMA_MAX_LABELS),
				 errdetail("There are %d.", labels->n)));

	labels->given = palloc(labels->n * sizeof(int));
	labels->texts = palloc(labels->n * sizeof(LlamaText));
	for (int i = 0; i < labels->n; i++)
		labels->given[i] = i;
	qsort_arg(labels->given, labels->n, sizeof(int), compare_given, given);
	for (int i = 0; i < labels->n; i++)
	{
		labels->texts[i] = given[labels->given[i]];
		if (is_blank(labels->texts[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("labels must not contain an empty string")));
		if (i > 0 && compare_texts(&labels->texts[i - 1], &labels->texts[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("labels must be distinct"),
					 errdetail("Label \"%s\" is there twice.", label_name(labels->texts[i]))));
	}
}

static bool
is_label(const Labels *labels, LlamaText t)
{
	int			low = 0;
	int			high = labels->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_texts(&labels->texts[middle], &t);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static void
raise_bad_example(int number, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 number > 0 ? errmsg("example %d is not valid", number) :
			 errmsg("examples are not valid"),
			 errdetail("%s", detail),
			 errhint("Examples are a JSON array of objects {\"input\": ..., \"label\": ...}.")));
}

/* A string of an example. */
static LlamaText
example_field(JsonbContainer *object, const char *key, int number)
{
	JsonbValue	buffer;
	JsonbValue *value = getKeyJsonValueFromContainer(object, key, strlen(key), &buffer);

	if (value == NULL || value->type != jbvString)
		raise_bad_example(number, psprintf("It has no string \"%s\".", key));
	return llama_utf8(value->val.string.val, value->val.string.len);
}

/* Read and check the examples argument; NULL is none. */
static LlamaExample *
read_examples(FunctionCallInfo fcinfo, int arg, const Labels *labels, int *n)
{
	Jsonb	   *jsonb;
	LlamaExample *examples;

	*n = 0;
	if (PG_ARGISNULL(arg))
		return NULL;
	jsonb = PG_GETARG_JSONB_P(arg);
	if (!JB_ROOT_IS_ARRAY(jsonb) || JB_ROOT_IS_SCALAR(jsonb))
		raise_bad_example(0, "They are not a JSON array.");
	*n = JB_ROOT_COUNT(jsonb);
	examples = palloc(Max(*n, 1) * sizeof(LlamaExample));
	for (int i = 0; i < *n; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&jsonb->root, i);
		JsonbContainer *object;

		if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
			raise_bad_example(i + 1, "It is not a JSON object.");
		object = element->val.binary.data;
		examples[i].input = example_field(object, "input", i + 1);
		examples[i].label = example_field(object, "label", i + 1);
		if (JsonContainerSize(object) != 2)
			raise_bad_example(i + 1, "It has more keys than \"input\" and \"label\".");
		if (!is_label(labels, examples[i].label))
			raise_bad_example(i + 1, psprintf("Its label \"%s\" is not one of the labels.",
											  label_name(examples[i].label)));
	}
	return examples;
}

/* ----------------------------------------------------------------
 *		Scoring
 * ----------------------------------------------------------------
 */

/* Lexicographic by tokens: a path comes right before those it begins. */
static int
compare_paths(const void *a, const void *b)
{
	const LabelPath *pa = a;
	const LabelPath *pb = b;

	for (size_t i = 0; i < Min(pa->n, pb->n); i++)
	{
		if (pa->tokens[i] != pb->tokens[i])
			return pa->tokens[i] < pb->tokens[i] ? -1 : 1;
	}
	return pa->n < pb->n ? -1 : pa->n > pb->n;
}

/* Mark the paths that begin another one: they will end with end-of-turn. */
static void
close_prefixes(LabelPath *paths, int n)
{
	qsort(paths, n, sizeof(LabelPath), compare_paths);
	for (int i = 0; i + 1 < n; i++)
	{
		const LabelPath *next = &paths[i + 1];

		if (paths[i].n > next->n ||
			memcmp(paths[i].tokens, next->tokens, paths[i].n * sizeof(int32)) != 0)
			continue;
		if (paths[i].n == next->n)
			elog(ERROR, "two labels have the same tokens");
		paths[i].closed = true;
	}
}

/*
 * Fill request's label_tokens and label_end.  A label's tokens are those of
 * its text alone: the prompt ends in two newlines, which the tokenizer always
 * splits from what follows.
 */
static void
label_paths(const LlamaModel *model, const LlamaText *texts, int n, L3Request *request)
{
	LlamaIds	all = {0};
	LlamaIds	paths_ids = {0};
	LabelPath  *paths = palloc0(n * sizeof(LabelPath));
	size_t	   *start = palloc((n + 1) * sizeof(size_t));
	bool	   *closed = palloc0(n * sizeof(bool));
	int32	   *ends = palloc(n * sizeof(int32));
	int32		eot = l3_tokenizer_eot(model->tok);

	for (int i = 0; i < n; i++)
	{
		start[i] = all.n;
		llama_encode(model->tok, texts[i], false, SIZE_MAX, &all, NULL);
	}
	start[n] = all.n;
	for (int i = 0; i < n; i++)
		paths[i] = (LabelPath) {.tokens = all.ids + start[i], .n = start[i + 1] - start[i], .label = i};
	close_prefixes(paths, n);
	for (int i = 0; i < n; i++)
		closed[paths[i].label] = paths[i].closed;

	for (int i = 0; i < n; i++)
	{
		llama_ids_append(&paths_ids, all.ids + start[i], start[i + 1] - start[i]);
		if (closed[i])
		{
			if (eot < 0)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("model \"%s\" cannot tell label \"%s\" from a longer one",
								model->name, label_name(texts[i])),
						 errdetail("It has no end-of-turn token.")));
			llama_ids_append(&paths_ids, &eot, 1);
		}
		ends[i] = (int32) paths_ids.n;
	}
	request->label_tokens = paths_ids.ids;
	request->label_end = ends;
	request->n_labels = n;
}

/* Submit the scoring of n labels after a prompt. */
static void
submit_labels(LlamaCall *call, const LlamaModel *model, LlamaFunction function,
			  const LlamaIds *prompt, const LlamaText *texts, int n)
{
	L3Request	request = {
		.kind = L3_REQ_SCORE,
		.tokens = prompt->ids,
		.n_tokens = (int32) prompt->n
	};

	label_paths(model, texts, n, &request);
	(void) llama_call_submit(call, model, function, &request);
}

/* Probabilities of n labels, normalised, in the order of their submission. */
static double *
label_probabilities(const LlamaCall *call, int n)
{
	const double *logprobs = llama_out_logprobs(call->requests[0]);
	double	   *probs = palloc(n * sizeof(double));
	double		max = -INFINITY;
	double		sum = 0;

	for (int i = 0; i < n; i++)
		max = Max(max, logprobs[i]);
	for (int i = 0; i < n; i++)
	{
		probs[i] = exp(logprobs[i] - max);
		sum += probs[i];
	}
	if (!isfinite(sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("model \"%s\" gave no finite probabilities", call->model->name),
				 errhint("The model's weights may be damaged.")));
	for (int i = 0; i < n; i++)
		probs[i] /= sum;
	return probs;
}

/* ----------------------------------------------------------------
 *		Classify
 * ----------------------------------------------------------------
 */

/* What is left of the labels argument when the answer is there. */
typedef struct ClassifyState
{
	int			n;
	int		   *given;			/* (n) as in Labels */
	ArrayType  *array;			/* as the caller gave it */
} ClassifyState;

/* Read (input, labels, task, examples, model) and submit. */
static void
begin_classify(FunctionCallInfo fcinfo, LlamaCall *call)
{
	ClassifyState *state = palloc(sizeof(ClassifyState));
	Labels		labels;
	LlamaExample *examples;
	int			n_examples;
	LlamaText	task = {"", 0};
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0))
		return;
	read_labels(fcinfo, 1, &labels);
	if (!PG_ARGISNULL(2))
		task = llama_text_utf8(PG_GETARG_DATUM(2));
	examples = read_examples(fcinfo, 3, &labels, &n_examples);
	model = llama_model_arg(fcinfo, 4);

	state->n = labels.n;
	state->given = labels.given;
	state->array = PG_GETARG_ARRAYTYPE_P_COPY(1);
	call->state = state;
	llama_classify_prompt(&chat, task, labels.texts, labels.n, examples, n_examples,
						  llama_text_utf8(PG_GETARG_DATUM(0)));
	if (llama_encode_chat(model, &chat, &prompt))
		submit_labels(call, model, LLAMA_FN_CLASSIFY, &prompt, labels.texts, labels.n);
}

static Datum
finish_classify(const LlamaCall *call)
{
	const ClassifyState *state = call->state;
	double	   *probs = label_probabilities(call, state->n);
	int			best = 0;
	bool		isnull;

	/* Among equals, the first as the caller has them. */
	for (int i = 1; i < state->n; i++)
	{
		if (probs[i] > probs[best] ||
			(probs[i] == probs[best] && state->given[i] < state->given[best]))
			best = i;
	}
	/* Labels are not NULL. */
	return datumCopy(array_get_element(PointerGetDatum(state->array), 1,
									   (int[]) {ARR_LBOUND(state->array)[0] + state->given[best]},
									   -1, -1, false, TYPALIGN_INT, &isnull),
					 false, -1);
}

static Datum
finish_classify_prob(const LlamaCall *call)
{
	const ClassifyState *state = call->state;
	double	   *probs = label_probabilities(call, state->n);
	Datum	   *elements = palloc(state->n * sizeof(Datum));

	for (int i = 0; i < state->n; i++)
		elements[state->given[i]] = Float8GetDatum(probs[i]);
	return PointerGetDatum(construct_array(elements, state->n, FLOAT8OID, sizeof(float8),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ----------------------------------------------------------------
 *		Filter
 * ----------------------------------------------------------------
 */

/* Sorted, as labels are. */
static const LlamaText filter_answers[] = {{"No", 2}, {"Yes", 3}};

#define FILTER_YES	1

/* Read (input, condition, model) and submit. */
static void
begin_filter(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaText	condition;
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return;
	condition = llama_text_utf8(PG_GETARG_DATUM(1));
	if (is_blank(condition))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("condition must not be empty")));
	model = llama_model_arg(fcinfo, 2);

	llama_filter_prompt(&chat, condition, llama_text_utf8(PG_GETARG_DATUM(0)));
	if (llama_encode_chat(model, &chat, &prompt))
		submit_labels(call, model, LLAMA_FN_FILTER, &prompt, filter_answers,
					  lengthof(filter_answers));
}

/* P(Yes) / (P(Yes) + P(No)) */
static double
filter_probability(const LlamaCall *call)
{
	return label_probabilities(call, lengthof(filter_answers))[FILTER_YES];
}

static Datum
finish_filter(const LlamaCall *call)
{
	return BoolGetDatum(filter_probability(call) > FILTER_THRESHOLD);
}

static Datum
finish_filter_prob(const LlamaCall *call)
{
	return Float8GetDatum(filter_probability(call));
}

/* ----------------------------------------------------------------
 *		The functions
 * ----------------------------------------------------------------
 */

const LlamaCallKind llama_classify_kind = {
	"llama_classify", begin_classify, finish_classify
};
const LlamaCallKind llama_classify_prob_kind = {
	"llama_classify_prob", begin_classify, finish_classify_prob
};
const LlamaCallKind llama_filter_kind = {"llama_filter", begin_filter, finish_filter};
const LlamaCallKind llama_filter_prob_kind = {
	"llama_filter_prob", begin_filter, finish_filter_prob
};

/*
 * llama_classify(input text, labels text[], task text, examples jsonb,
 * model text) returns text
 */
Datum
llama_classify(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_classify_kind);
}

/*
 * llama_classify_prob(same) returns float8[]
 */
Datum
llama_classify_prob(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_classify_prob_kind);
}

/*
 * llama_filter(input text, condition text, model text) returns boolean
 */
Datum
llama_filter(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_filter_kind);
}

/*
 * llama_filter_prob(same) returns float8
 */
Datum
llama_filter_prob(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_filter_prob_kind);
}
