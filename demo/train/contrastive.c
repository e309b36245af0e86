/*-------------------------------------------------------------------------
 *
 * contrastive.c
 *	  The supervised contrastive loss over pooled hidden states.
 *
 * Khosla et al. 2020, equation 2: for a document i of a group (an anchor),
 * with unit vectors z, s[i][j] = z[i] . z[j] / temperature and P(i) the other
 * documents of its group,
 *	loss(i) = -1 / |P(i)| * sum over p in P(i) of
 *		log(e^s[i][p] / sum over a != i of e^s[i][a]).
 *
 * z is the mean of the final hidden states over a document's pooled tokens,
 * scaled to unit length.
 *
 *-------------------------------------------------------------------------
 */
#include "transformer.h"

#include <math.h>
#include <string.h>

#include "loops.h"

/* Against the zero vector, which has no direction. */
#define MIN_LENGTH	1e-12f

static bool
takes_part(const TrDocument *document)
{
	return document->group >= 0 && document->n_pooled > 0;
}

int
tr_count_anchors(const TrBatch *batch)
{
	int			n_anchors = 0;

	for (int i = 0; i < batch->n_documents; i++)
		for (int j = 0; j < batch->n_documents; j++)
			if (j != i && takes_part(batch->documents[i]) && takes_part(batch->documents[j]) &&
				batch->documents[i]->group == batch->documents[j]->group)
			{
				n_anchors++;
				break;
			}
	return n_anchors;
}

/* Pool the documents that take part; returns their number. */
static int
pool(TrWorkspace *ws, const TrBatch *batch)
{
	int			d = ws->config.n_embd;
	int			n_pooled = 0;
	int			first = 0;

	for (int i = 0; i < batch->n_documents; i++)
	{
		const TrDocument *document = batch->documents[i];
		float	   *mean = ws->pooled + (size_t) n_pooled * d;
		float		length;

		if (takes_part(document))
		{
			memset(mean, 0, (size_t) d * sizeof(float));
			for (int t = 0; t < document->n_pooled; t++)
				tr_add_scaled(mean, ws->normed + (size_t) (first + t) * d,
							  1.0f / (float) document->n_pooled, (size_t) d);
			length = sqrtf(tr_dot(mean, mean, d));
			length = length > MIN_LENGTH ? length : MIN_LENGTH;
			for (int j = 0; j < d; j++)
				mean[j] /= length;
			ws->pooled_document[n_pooled] = document;
			ws->pooled_first[n_pooled] = first;
			ws->pooled_scale[n_pooled] = 1.0f / length;
			n_pooled++;
		}
		first += document->n_tokens;
	}
	return n_pooled;
}

/*
 * Turn row i of the similarities into the gradient of anchor i's loss by them:
 * softmax over the others, less 1 / |P(i)| at each of P(i).  Zeros when there
 * is no other of its group.
 */
static void
anchor(TrWorkspace *ws, int i, int n, TrLoss *loss)
{
	float	   *row = ws->similarity + (size_t) i * n;
	int			group = ws->pooled_document[i]->group;
	int			n_positives = 0;
	double		positive_sum = 0;
	float		logsum;

	for (int j = 0; j < n; j++)
		if (j != i && ws->pooled_document[j]->group == group)
		{
			positive_sum += row[j];
			n_positives++;
		}
	if (n_positives == 0)
	{
		memset(row, 0, (size_t) n * sizeof(float));
		return;
	}
	row[i] = -INFINITY;			/* e^-87 in tr_softmax: nothing */
	logsum = tr_softmax(row, n, 1.0f);
	row[i] = 0;
	loss->group_loss += logsum - positive_sum / n_positives;
	loss->n_anchors++;
	for (int j = 0; j < n; j++)
		if (j != i && ws->pooled_document[j]->group == group)
			row[j] -= 1.0f / (float) n_positives;
}

/* From a unit vector's gradient to that of the tokens' hidden states. */
static void
unpool(TrWorkspace *ws, int i)
{
	int			d = ws->config.n_embd;
	const TrDocument *document = ws->pooled_document[i];
	const float *z = ws->pooled + (size_t) i * d;
	float	   *dz = ws->dpooled + (size_t) i * d;

	/* what is along z only changes the length */
	tr_add_scaled(dz, z, -tr_dot(dz, z, d), (size_t) d);
	for (int t = 0; t < document->n_pooled; t++)
		tr_add_scaled(ws->dnormed + (size_t) (ws->pooled_first[i] + t) * d, dz,
					  ws->pooled_scale[i] / (float) document->n_pooled, (size_t) d);
}

void
tr_contrastive(TrWorkspace *ws, const TrBatch *batch, float scale, bool with_gradients,
			   TrLoss *loss)
{
	int			d = ws->config.n_embd;
	int			n = pool(ws, batch);
	size_t		n_pairs = (size_t) n * n;

	if (n < 2)
		return;
	tr_multiply(ws->similarity, n, ws->pooled, d, ws->pooled, d, n, n, d);
	for (size_t i = 0; i < n_pairs; i++)
		ws->similarity[i] /= TR_TEMPERATURE;
	for (int i = 0; i < n; i++)
		anchor(ws, i, n, loss);
	if (!with_gradients || scale == 0 || loss->n_anchors == 0)
		return;

	/* A similarity is a product of two vectors: both get its gradient. */
	for (size_t i = 0; i < n_pairs; i++)
		ws->similarity[i] *= scale / TR_TEMPERATURE;
	tr_multiply_back(ws->dpooled, d, ws->similarity, n, ws->pooled, d, n, n, d, false);
	tr_multiply_outer(ws->dpooled, d, ws->similarity, n, ws->pooled, d, n, n, d);
	for (int i = 0; i < n; i++)
		unpool(ws, i);
}
