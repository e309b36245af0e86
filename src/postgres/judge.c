/*-------------------------------------------------------------------------
 *
 * judge.c
 *	  llama_classify_multi, llama_score, llama_rank, llama_sentiment.
 *
 * Further decisions read from probabilities, as choice.c explains.
 *
 * classify_multi is one request for all labels.  Its prompt is instruction and
 * text; each label is a turn of the user after it, and the paths that are
 * scored are that turn with Yes and with No at its end.  So a row costs its
 * text once and a few tokens for each label; the other order, the label in the
 * instruction and the text behind it, would cost the text once for each label.
 * It is also one slot of the queue, whatever the number of labels.
 *
 * score is the expected value over the levels,
 *
 *		sum of k * P(k) for k = low .. high,  P(k) = p(k) / sum of p
 *
 * with p(k) the probability that the model's answer is the number k.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "choice.h"
#include "options.h"
#include "prompt.h"

PG_FUNCTION_INFO_V1(llama_classify_multi);
PG_FUNCTION_INFO_V1(llama_score);
PG_FUNCTION_INFO_V1(llama_rank);
PG_FUNCTION_INFO_V1(llama_sentiment);

#define MIN_MULTI_LABELS	1
#define DEFAULT_THRESHOLD	0.5

#define MIN_LEVELS			2
#define MAX_LEVELS			101
#define DEFAULT_LOW			1
#define DEFAULT_HIGH		5

/* ----------------------------------------------------------------
 *		Every label that applies
 * ----------------------------------------------------------------
 */

typedef struct MultiState
{
	int			n;
	int		   *given;			/* (n) as in LlamaLabels */
	double		threshold;
	ArrayType  *array;			/* as the caller gave it */
} MultiState;

/* The question for each label; false when one is too long. */
static bool
encode_questions(const LlamaModel *model, const LlamaLabels *labels, LlamaIds *questions)
{
	for (int i = 0; i < labels->n; i++)
	{
		if (!llama_encode_next_turn(model, llama_multi_question(labels->texts[i]), &questions[i]))
			return false;
	}
	return true;
}

/* Read (input, labels, task, threshold, model) and submit. */
static void
begin_classify_multi(FunctionCallInfo fcinfo, LlamaCall *call)
{
	MultiState	state;
	ArrayType  *array;
	LlamaLabels labels;
	LlamaText	task = {"", 0};
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};
	LlamaIds   *questions;

	if (PG_ARGISNULL(0))
		return;
	llama_labels_arg(fcinfo, 1, &llama_noun_label, MIN_MULTI_LABELS, &labels);
	if (!PG_ARGISNULL(2))
		task = llama_text_utf8(PG_GETARG_DATUM(2));
	state.threshold = llama_float_arg(fcinfo, 3, "threshold", 0, 1, DEFAULT_THRESHOLD);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	array = PG_GETARG_ARRAYTYPE_P(1);
	state.n = labels.n;
	state.given = llama_call_keep(call, labels.given, state.n * sizeof(int));
	state.array = llama_call_keep(call, array, VARSIZE(array));
	call->state = llama_call_keep(call, &state, sizeof(state));
	questions = palloc0(labels.n * sizeof(LlamaIds));
	llama_multi_prompt(&chat, task, llama_text_utf8(PG_GETARG_DATUM(0)));
	if (llama_encode_opening(model, &chat, &prompt) &&
		encode_questions(model, &labels, questions))
		(void) llama_questions_submit(call, model, LLAMA_FN_CLASSIFY_MULTI, &prompt,
									  questions, labels.n);
}

static Datum
finish_classify_multi(const LlamaCall *call)
{
	const MultiState *state = call->state;
	bool	   *applies = palloc(state->n * sizeof(bool));
	Datum	   *labels;
	int			n_labels;
	int			n = 0;

	for (int i = 0; i < state->n; i++)
		applies[state->given[i]] = llama_question_probability(call, i) > state->threshold;

	/* Labels are not NULL. */
	deconstruct_array(state->array, TEXTOID, -1, false, TYPALIGN_INT, &labels, NULL, &n_labels);
	for (int i = 0; i < state->n; i++)
	{
		if (applies[i])
			labels[n++] = labels[i];
	}
	return PointerGetDatum(construct_array(labels, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ----------------------------------------------------------------
 *		Score
 * ----------------------------------------------------------------
 */

typedef struct ScoreState
{
	int			low;
	int			n_levels;
} ScoreState;

/* Read and check low and high. */
static void
read_levels(FunctionCallInfo fcinfo, int first, ScoreState *state)
{
	int64		low = llama_int_arg(fcinfo, first, "low", false,
									PG_INT32_MIN, PG_INT32_MAX, DEFAULT_LOW);
	int64		high = llama_int_arg(fcinfo, first + 1, "high", false,
									 PG_INT32_MIN, PG_INT32_MAX, DEFAULT_HIGH);
	int64		n_levels = high - low + 1;

	if (n_levels < MIN_LEVELS || n_levels > MAX_LEVELS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there must be between %d and %d levels", MIN_LEVELS, MAX_LEVELS),
				 errdetail("From " INT64_FORMAT " to " INT64_FORMAT " there are " INT64_FORMAT ".",
						   low, high, Max(n_levels, 0))));
	state->low = (int) low;
	state->n_levels = (int) n_levels;
}

/* Read (input, criterion, low, high, model) and submit. */
static void
begin_score(FunctionCallInfo fcinfo, LlamaCall *call)
{
	ScoreState	state;
	LlamaText	criterion;
	LlamaText  *levels;
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return;
	criterion = llama_instruction_arg(fcinfo, 1, "criterion");
	read_levels(fcinfo, 2, &state);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	call->state = llama_call_keep(call, &state, sizeof(state));
	levels = palloc(state.n_levels * sizeof(LlamaText));
	for (int i = 0; i < state.n_levels; i++)
	{
		char	   *digits = psprintf("%d", state.low + i);

		levels[i] = (LlamaText) {digits, strlen(digits)};
	}
	llama_score_prompt(&chat, criterion, state.low, state.low + state.n_levels - 1,
					   llama_text_utf8(PG_GETARG_DATUM(0)));
	if (llama_encode_chat(model, &chat, &prompt))
		(void) llama_choice_submit(call, model, LLAMA_FN_SCORE, &prompt, LLAMA_CLOSE_ALIKE,
								   levels, state.n_levels);
}

static Datum
finish_score(const LlamaCall *call)
{
	const ScoreState *state = call->state;
	double	   *probs = llama_choice_probabilities(call, state->n_levels);
	double		above = 0;		/* expected distance from low */

	for (int i = 1; i < state->n_levels; i++)
		above += i * probs[i];
	/* The probabilities sum to 1 up to rounding. */
	return Float8GetDatum(state->low + Min(above, state->n_levels - 1));
}

/* ----------------------------------------------------------------
 *		Rank
 * ----------------------------------------------------------------
 */

/* Read (query, document, model) and submit. */
static void
begin_rank(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaText	query;
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return;
	query = llama_instruction_arg(fcinfo, 0, "query");
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	llama_rank_prompt(&chat, query, llama_text_utf8(PG_GETARG_DATUM(1)));
	if (llama_encode_chat(model, &chat, &prompt))
		(void) llama_yes_submit(call, model, LLAMA_FN_RANK, &prompt);
}

static Datum
finish_rank(const LlamaCall *call)
{
	return Float8GetDatum(llama_yes_probability(call));
}

/* ----------------------------------------------------------------
 *		Sentiment
 * ----------------------------------------------------------------
 */

/* Read (input, aspect, model) and submit. */
static void
begin_sentiment(FunctionCallInfo fcinfo, LlamaCall *call)
{
	LlamaText	aspect = {"", 0};
	const LlamaModel *model;
	LlamaMessages chat = {0};
	LlamaIds	prompt = {0};

	if (PG_ARGISNULL(0))
		return;
	if (!PG_ARGISNULL(1))
		aspect = llama_instruction_arg(fcinfo, 1, "aspect");
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;

	llama_sentiment_prompt(&chat, aspect, llama_text_utf8(PG_GETARG_DATUM(0)));
	if (llama_encode_chat(model, &chat, &prompt))
		(void) llama_choice_submit(call, model, LLAMA_FN_SENTIMENT, &prompt,
								   LLAMA_CLOSE_PREFIXES, llama_sentiments_v1, LLAMA_N_SENTIMENTS);
}

static Datum
finish_sentiment(const LlamaCall *call)
{
	double	   *probs = llama_choice_probabilities(call, LLAMA_N_SENTIMENTS);
	size_t		best = 0;

	for (size_t i = 1; i < LLAMA_N_SENTIMENTS; i++)
	{
		if (probs[i] > probs[best])
			best = i;
	}
	return PointerGetDatum(cstring_to_text_with_len(llama_sentiments_v1[best].data,
													(int) llama_sentiments_v1[best].len));
}

/* ----------------------------------------------------------------
 *		The functions
 * ----------------------------------------------------------------
 */

const LlamaCallKind llama_classify_multi_kind = {
	"llama_classify_multi", 1, begin_classify_multi, finish_classify_multi
};
const LlamaCallKind llama_score_kind = {"llama_score", 1, begin_score, finish_score};
const LlamaCallKind llama_rank_kind = {"llama_rank", 1, begin_rank, finish_rank};
const LlamaCallKind llama_sentiment_kind = {"llama_sentiment", 1, begin_sentiment, finish_sentiment};

/*
 * llama_classify_multi(input text, labels text[], task text, threshold float8,
 * model text) returns text[]
 */
Datum
llama_classify_multi(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_classify_multi_kind);
}

/*
 * llama_score(input text, criterion text, low int, high int, model text)
 * returns float8
 */
Datum
llama_score(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_score_kind);
}

/*
 * llama_rank(query text, document text, model text) returns float8
 */
Datum
llama_rank(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_rank_kind);
}

/*
 * llama_sentiment(input text, aspect text, model text) returns text
 */
Datum
llama_sentiment(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_sentiment_kind);
}
