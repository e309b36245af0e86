/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  llama_classify, llama_classify_prob, llama_filter, llama_filter_prob.
 *
 * How a decision is read from probabilities is in choice.c.
 *
 * Calibration.  A model prefers some labels before it has read anything: the
 * common words, the last of the list.  With calibrate => true each label's
 * probability is divided by the one that it has for a text without content
 * ("N/A") under the same task, labels and examples, and what comes out is
 * normalised again: contextual calibration (Zhao et al., "Calibrate Before
 * Use", 2021), with the weight matrix 1 / P(label | "N/A").  It is a second
 * request, whose prompt is the same for all rows and so is computed once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"

#include "choice.h"
#include "cost.h"
#include "options.h"
#include "prompt.h"

PG_FUNCTION_INFO_V1(llama_classify);
PG_FUNCTION_INFO_V1(llama_classify_prob);
PG_FUNCTION_INFO_V1(llama_filter);
PG_FUNCTION_INFO_V1(llama_filter_prob);

#define MIN_LABELS			2

/* Above this probability a condition holds. */
#define FILTER_THRESHOLD	0.5

/* ----------------------------------------------------------------
 *		Classify
 * ----------------------------------------------------------------
 */

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
read_examples(FunctionCallInfo fcinfo, int arg, const LlamaLabels *labels, int *n)
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
		if (!llama_labels_have(labels, examples[i].label))
			raise_bad_example(i + 1, psprintf("Its label \"%s\" is not one of the labels.",
											  llama_label_name(examples[i].label)));
	}
	return examples;
}

/* What the requests are made of. */
typedef struct ClassifyArgs
{
	LlamaText	task;
	LlamaLabels labels;
	LlamaExample *examples;
	int			n_examples;
} ClassifyArgs;

/* What is left of the labels argument when the answer is there. */
typedef struct ClassifyState
{
	int			n;
	int		   *given;			/* (n) as in LlamaLabels */
	ArrayType  *array;			/* as the caller gave it */
} ClassifyState;

/* Submit the labels after one text; false where the row cannot be answered. */
static bool
submit_text(LlamaCall *call, const LlamaModel *model, const ClassifyArgs *args, LlamaText input)
{
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	llama_classify_prompt(&chat, args->task, args->labels.texts, args->labels.n,
						  args->examples, args->n_examples, input);
	if (llama_encode_chat(model, &chat, &prompt))
		return llama_choice_submit(call, model, LLAMA_FN_CLASSIFY, &prompt,
								   LLAMA_CLOSE_PREFIXES, args->labels.texts, args->labels.n);
	llama_call_give_up(call);
	return false;
}

/* Read (input, labels, task, examples, calibrate, model) and submit. */
static void
begin_classify(FunctionCallInfo fcinfo, LlamaCall *call)
{
	ClassifyState state;
	ArrayType  *array;
	ClassifyArgs args = {.task = {"", 0}};
	bool		calibrate = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	const LlamaModel *model;

	if (PG_ARGISNULL(0))
		return;
	llama_labels_arg(fcinfo, 1, &llama_noun_label, MIN_LABELS, &args.labels);
	if (!PG_ARGISNULL(2))
		args.task = llama_text_utf8(PG_GETARG_DATUM(2));
	args.examples = read_examples(fcinfo, 3, &args.labels, &args.n_examples);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	array = PG_GETARG_ARRAYTYPE_P(1);
	state.n = args.labels.n;
	state.given = llama_call_keep(call, args.labels.given, state.n * sizeof(int));
	state.array = llama_call_keep(call, array, VARSIZE(array));
	call->state = llama_call_keep(call, &state, sizeof(state));
	if (submit_text(call, model, &args, llama_text_utf8(PG_GETARG_DATUM(0))) && calibrate)
		(void) submit_text(call, model, &args, llama_no_content_v1);
}

/* The labels' probabilities, in the order of their submission. */
static double *
classify_probabilities(const LlamaCall *call, int n)
{
	double	   *logprobs;

	if (call->n_requests == 1)
		return llama_choice_probabilities(call, n);
	logprobs = palloc(n * sizeof(double));
	for (int i = 0; i < n; i++)
		logprobs[i] = llama_out_logprobs(call->requests[0])[i] -
			llama_out_logprobs(call->requests[1])[i];
	return llama_normalise(call, logprobs, n);
}

static Datum
finish_classify(const LlamaCall *call)
{
	const ClassifyState *state = call->state;
	double	   *probs = classify_probabilities(call, state->n);
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
	double	   *probs = classify_probabilities(call, state->n);
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
	condition = llama_instruction_arg(fcinfo, 1, "condition");
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	llama_filter_prompt(&chat, condition, llama_text_utf8(PG_GETARG_DATUM(0)));
	if (llama_encode_chat(model, &chat, &prompt))
		(void) llama_yes_submit(call, model, LLAMA_FN_FILTER, &prompt);
}

static Datum
finish_filter(const LlamaCall *call)
{
	bool		answer = llama_yes_probability(call) > FILTER_THRESHOLD;

	llama_count_filter(answer);
	return BoolGetDatum(answer);
}

static Datum
finish_filter_prob(const LlamaCall *call)
{
	return Float8GetDatum(llama_yes_probability(call));
}

/* ----------------------------------------------------------------
 *		The functions
 * ----------------------------------------------------------------
 */

const LlamaCallKind llama_classify_kind = {
	"llama_classify", 1, begin_classify, finish_classify
};
const LlamaCallKind llama_classify_prob_kind = {
	"llama_classify_prob", 1, begin_classify, finish_classify_prob
};
const LlamaCallKind llama_filter_kind = {"llama_filter", 1, begin_filter, finish_filter};
const LlamaCallKind llama_filter_prob_kind = {
	"llama_filter_prob", 1, begin_filter, finish_filter_prob
};

/*
 * llama_classify(input text, labels text[], task text, examples jsonb,
 * calibrate boolean, model text) returns text
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
