/*-------------------------------------------------------------------------
 *
 * lanes.c
 *	  Which documents a step's batches hold.
 *
 * An epoch is every document once, in an order drawn from the seed and the
 * epoch's number alone; so a training can go on from two numbers.
 *
 *-------------------------------------------------------------------------
 */
#include "training.h"

static void
shuffle(TrOrder *order, int64_t epoch)
{
	int			n = order->corpus->n_documents;
	TrRandom	mix = {(uint64_t) epoch};
	TrRandom	random = {order->seed ^ tr_random(&mix)};

	for (int i = 0; i < n; i++)
		order->index[i] = i;
	/* Fisher and Yates */
	for (int i = n - 1; i > 0; i--)
	{
		int			j = (int) (tr_uniform(&random) * (i + 1));
		int			swap = order->index[i];

		order->index[i] = order->index[j];
		order->index[j] = swap;
	}
	order->epoch = epoch;
}

void
tr_order_init(TrOrder *order, const TrCorpus *corpus, uint64_t seed)
{
	order->corpus = corpus;
	order->seed = seed;
	order->epoch = -1;
	order->index = tr_alloc(sizeof(int) * (size_t) corpus->n_documents);
}

static const TrDocument *
next_document(TrOrder *order, const TrProgress *progress)
{
	if (order->epoch != progress->epoch)
		shuffle(order, progress->epoch);
	return &order->corpus->documents[order->index[progress->position]];
}

static bool
put(TrLane *lane, const TrDocument *document, int lane_tokens)
{
	if (lane->n_documents == TR_LANE_DOCUMENTS ||
		document->n_tokens > lane_tokens - lane->n_tokens)
		return false;
	lane->documents[lane->n_documents++] = document;
	lane->n_tokens += document->n_tokens;
	return true;
}

void
tr_fill_lanes(TrOrder *order, TrProgress *progress, TrLane *lanes, int n_lanes, int lane_tokens)
{
	for (int i = 0; i < n_lanes; i++)
	{
		lanes[i].n_documents = 0;
		lanes[i].n_tokens = 0;
		while (put(&lanes[i], next_document(order, progress), lane_tokens))
			if (++progress->position == order->corpus->n_documents)
			{
				progress->position = 0;
				progress->epoch++;
			}
		progress->tokens += lanes[i].n_tokens;
	}
}

void
tr_fill_in_order(const TrCorpus *corpus, int *next, TrLane *lane, int lane_tokens)
{
	lane->n_documents = 0;
	lane->n_tokens = 0;
	while (*next < corpus->n_documents && put(lane, &corpus->documents[*next], lane_tokens))
		(*next)++;
}

void
tr_check_lengths(const TrCorpus *corpus, int lane_tokens, int n_ctx)
{
	for (int i = 0; i < corpus->n_documents; i++)
	{
		int			n = corpus->documents[i].n_tokens;

		if (n < 1)
			tr_fail("document %d is empty", i);
		if (n > lane_tokens)
			tr_fail("document %d has %d tokens, and a batch has %d", i, n, lane_tokens);
		if (n > n_ctx)
			tr_fail("document %d has %d tokens, and the model's context has %d", i, n, n_ctx);
	}
}
