/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  A generated answer: the tokens that are sampled, forced and guessed.
 *
 * Each token is sampled from the logits, the mask and the random number of its
 * own position, after those before it.  What a draft guessed changes only
 * where its logits come from: as long as the tokens are the draft's, the
 * step that verifies it has them already.
 *
 *-------------------------------------------------------------------------
 */
#include "sequence.h"

/* How long masks may keep poll waiting, in seconds. */
#define POLL_SECONDS	0.002

/* ----------------------------------------------------------------
 *		The next token
 * ----------------------------------------------------------------
 */

int32_t
l3_answer_draft(L3Sequence *seq, int32_t room)
{
	const L3Tokenizer *tok = seq->model->tok;
	int32_t		n;

	/* the last token that may come needs no row */
	room = l3_smaller(room, seq->max_new - seq->result.n_out - 1);
	if (!seq->request.prompt_lookup || room <= 0)
		return 0;
	/* a token before forced ones takes the prompt's role, a draft's does not */
	if (seq->constraint != NULL && seq->model->engine->roles_differ)
		return 0;
	n = l3_lookup_draft(&seq->lookup, seq->tokens, seq->n_known, room);
	/* nothing follows a stop token */
	if (tok != NULL && !seq->request.ignore_stop_tokens)
		for (int32_t i = 0; i < n; i++)
			if (l3_tokenizer_is_stop(tok, seq->tokens[seq->n_known + i]))
				return i;
	return n;
}

/* The request cannot be answered. */
static void
fail(L3Sequence *seq, const L3Error *err)
{
	seq->result.status = err->status;
	seq->result.error = *err;
	seq->ended = true;
}

void
l3_answer_mask(L3Sequence *seq, double *polled)
{
	const L3EngineOptions *options = &seq->model->engine->options;
	L3Error		err;

	if (seq->constraint == NULL)
		return;
	if (l3_constraint_prepare(seq->constraint, seq->max_new - seq->result.n_out,
							  !seq->request.ignore_stop_tokens, &err) != L3_OK)
		fail(seq, &err);
	if (options->poll != NULL && l3_seconds() - *polled > POLL_SECONDS)
	{
		options->poll(options->poll_ctx);
		*polled = l3_seconds();
	}
}

/*
 * How many tokens there are to choose from.  An embedding may have more rows
 * than the vocabulary has tokens, to be a round number; those have no text.
 */
static int
n_choices(const L3Model *model)
{
	return (int) (model->tok != NULL ? l3_tokenizer_n_tokens(model->tok) :
				  model->weights.hp.n_vocab);
}

void
l3_answer_sample(L3Sequence *seq, float *logits, int thread)
{
	const L3Engine *engine = seq->model->engine;
	size_t		n_vocab = seq->model->weights.hp.n_vocab;

	seq->next_token = l3_sample(&engine->kernels, &seq->request.sampling, logits,
								n_choices(seq->model),
								seq->constraint != NULL ?
								l3_constraint_allowed(seq->constraint) : NULL,
								seq->tokens, seq->n_known, (uint64_t) seq->n_known,
								engine->runner.ws.candidates + (size_t) thread * n_vocab);
}

/* ----------------------------------------------------------------
 *		The answer goes on
 * ----------------------------------------------------------------
 */

/* A token becomes part of the answer, which that may end. */
static void
append_token(L3Sequence *seq, int32_t token)
{
	const L3Tokenizer *tok = seq->model->tok;
	L3Result   *result = &seq->result;
	uint32_t	len = 0;
	const char *piece = NULL;

	/* what the draft says was computed in this step */
	if (seq->n_draft > 0 && seq->tokens[seq->n_known] == token)
	{
		seq->n_draft--;
		seq->n_done++;
		seq->logits_row++;
	}
	else
		seq->n_draft = 0;
	seq->tokens[seq->n_known++] = token;
	seq->request.out_tokens[result->n_out++] = token;
	if (tok != NULL && !l3_tokenizer_is_special(tok, token))
		piece = l3_tokenizer_piece(tok, token, &len);
	if (piece != NULL && l3_stops_append(&seq->stops, piece, len, &result->n_bytes))
		result->finish = L3_FINISH_STOP_STRING;
	else if (result->n_out == seq->max_new)
		result->finish = L3_FINISH_LENGTH;
}

/*
 * Append tokens that the grammar has gone over, of which at most the first
 * n_sampled were sampled; the others, with those before them, take the prompt's
 * role.
 */
static void
append_followed(L3Sequence *seq, const L3Ids *ids, size_t n_sampled)
{
	for (size_t i = 0; i < ids->n; i++)
		append_token(seq, ids->ids[i]);
	if (ids->n > n_sampled)
		seq->prefill_end = seq->n_known;
	if (l3_constraint_ended(seq->constraint))
		seq->result.finish = L3_FINISH_STOP;
}

/* The answer begins with what the grammar forces. */
static void
begin_grammar(L3Sequence *seq)
{
	L3Ids		ids = {0};
	L3Error		err;

	if (l3_constraint_force(seq->constraint, seq->max_new, &ids, &err) != L3_OK)
		fail(seq, &err);
	else
		append_followed(seq, &ids, 0);
	l3_ids_free(&ids);
}

/* The answer goes on with a sampled token and what it forces. */
static void
follow_grammar(L3Sequence *seq, int32_t token)
{
	L3Ids		ids = {0};
	L3Error		err;

	if (l3_constraint_accept(seq->constraint, token, seq->max_new - seq->result.n_out, &ids,
							 &err) != L3_OK)
		fail(seq, &err);
	else
		append_followed(seq, &ids, 1);
	l3_ids_free(&ids);
}

/* An ending that no stop string made releases what was held back. */
static void
end_answer(L3Sequence *seq)
{
	L3Result   *result = &seq->result;

	if (result->finish == L3_FINISH_STOP || result->finish == L3_FINISH_LENGTH)
		result->n_bytes = seq->stops.n_bytes;
	seq->ended = seq->ended || result->finish != L3_FINISH_NONE;
}

/* The sampled token becomes part of the answer, or ends it; then what it forces. */
static void
accept_token(L3Sequence *seq)
{
	const L3Tokenizer *tok = seq->model->tok;
	L3Result   *result = &seq->result;
	int32_t		token = seq->next_token;

	if (tok != NULL && !seq->request.ignore_stop_tokens && l3_tokenizer_is_stop(tok, token))
		result->finish = L3_FINISH_STOP;
	else if (seq->constraint != NULL)
		follow_grammar(seq, token);
	else
		append_token(seq, token);
	end_answer(seq);
}

void
l3_answer_begin(L3Sequence *seq)
{
	seq->begun = true;
	begin_grammar(seq);
	end_answer(seq);
}

void
l3_answer_accept(L3Sequence *seq)
{
	const L3Workspace *ws = &seq->model->engine->runner.ws;
	size_t		n_vocab = seq->model->weights.hp.n_vocab;
	L3EngineStats *stats = &seq->model->engine->stats;
	int32_t		n_drafted = seq->n_draft;
	int32_t		n_done = seq->n_done;
	double		polled = l3_seconds();

	accept_token(seq);
	while (seq->n_done == seq->n_known && !seq->ended && !seq->cancelled)
	{
		l3_answer_mask(seq, &polled);
		if (seq->ended || seq->cancelled)
			break;
		l3_answer_sample(seq, ws->logits + (size_t) seq->logits_row * n_vocab, 0);
		accept_token(seq);
	}
	if (n_drafted > 0)
	{
		int32_t		n_right = seq->n_done - n_done;

		l3_lookup_learn(&seq->lookup, n_drafted, n_right);
		stats->n_drafted_tokens += (uint64_t) n_drafted;
		stats->n_accepted_tokens += (uint64_t) n_right;
		stats->n_decode_tokens += (uint64_t) n_right;
	}
	seq->n_draft = 0;
}
