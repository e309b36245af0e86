/*-------------------------------------------------------------------------
 *
 * test_trainer_gradients.c
 *	  The trainer's losses and gradients against the formulas.
 *
 * The oracle is a forward pass in double precision, written down from the
 * papers token by token, that shares nothing with the trainer.  The trainer's
 * losses must be its losses, and the trainer's gradients the central
 * differences of its losses; in double precision these are good to far below
 * what float gradients can be.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "loops.h"
#include "tap.h"
#include "trainer.h"

#define LENGTH(array)	((int) (sizeof(array) / sizeof((array)[0])))

/* ----------------------------------------------------------------
 *		The oracle
 * ----------------------------------------------------------------
 */

typedef struct Oracle
{
	const TrModel *model;		/* names, shapes and places; not its parameters */
	double	   *params;			/* (n_params) */
} Oracle;

static const double *
tensor(const Oracle *o, int layer, const char *kind)
{
	char		name[64];

	if (layer < 0)
		snprintf(name, sizeof(name), "%s.weight", kind);
	else
		snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, kind);
	for (int i = 0; i < o->model->n_tensors; i++)
		if (strcmp(o->model->tensors[i].name, name) == 0)
			return o->params + o->model->tensors[i].offset;
	printf("Bail out! no tensor %s\n", name);
	exit(1);
}

static double *
doubles(int n)
{
	return tr_alloc(sizeof(double) * (size_t) n);
}

/* y = W x, W (n_out, n_in) */
static void
product(double *y, const double *w, const double *x, int n_out, int n_in)
{
	for (int i = 0; i < n_out; i++)
	{
		y[i] = 0;
		for (int j = 0; j < n_in; j++)
			y[i] += w[(size_t) i * n_in + j] * x[j];
	}
}

static void
rms_norm(double *y, const double *x, const double *weight, int n, double eps)
{
	double		square = 0;

	for (int i = 0; i < n; i++)
		square += x[i] * x[i] / n;
	for (int i = 0; i < n; i++)
		y[i] = x[i] / sqrt(square + eps) * weight[i];
}

static void
rotate(double *head, int head_dim, int position, double theta)
{
	for (int i = 0; i < head_dim / 2; i++)
	{
		double		angle = position * pow(theta, -2.0 * i / head_dim);
		double		a = head[2 * i];
		double		b = head[2 * i + 1];

		head[2 * i] = a * cos(angle) - b * sin(angle);
		head[2 * i + 1] = a * sin(angle) + b * cos(angle);
	}
}

/* out (head_dim) of one query head over the keys and values 0 .. t */
static void
attend(double *out, const double *q, const double *keys, const double *values, int stride,
	   int t, int head_dim)
{
	double	   *p = doubles(t + 1);
	double		sum = 0;

	memset(out, 0, sizeof(double) * (size_t) head_dim);
	for (int s = 0; s <= t; s++)
	{
		double		score = 0;

		for (int i = 0; i < head_dim; i++)
			score += q[i] * keys[s * stride + i];
		p[s] = exp(score / sqrt(head_dim));
		sum += p[s];
	}
	for (int s = 0; s <= t; s++)
		for (int i = 0; i < head_dim; i++)
			out[i] += p[s] / sum * values[s * stride + i];
	free(p);
}

/* x (n, n_embd): the residual stream of a document through one layer */
static void
oracle_layer(const Oracle *o, int layer, double *x, int n)
{
	const TrConfig *c = &o->model->config;
	int			d = c->n_embd;
	int			q_width = c->n_heads * c->head_dim;
	int			kv_width = c->n_kv_heads * c->head_dim;
	double	   *y = doubles(d);
	double	   *q = doubles(q_width);
	double	   *k = doubles(n * kv_width);
	double	   *v = doubles(n * kv_width);
	double	   *attended = doubles(q_width);
	double	   *gate = doubles(c->n_ff);
	double	   *up = doubles(c->n_ff);

	for (int t = 0; t < n; t++)
	{
		rms_norm(y, x + t * d, tensor(o, layer, "attn_norm"), d, c->rms_eps);
		product(q, tensor(o, layer, "attn_q"), y, q_width, d);
		product(k + t * kv_width, tensor(o, layer, "attn_k"), y, kv_width, d);
		product(v + t * kv_width, tensor(o, layer, "attn_v"), y, kv_width, d);
		for (int h = 0; h < c->n_heads; h++)
			rotate(q + h * c->head_dim, c->head_dim, t, c->rope_theta);
		for (int h = 0; h < c->n_kv_heads; h++)
			rotate(k + t * kv_width + h * c->head_dim, c->head_dim, t, c->rope_theta);
		for (int h = 0; h < c->n_heads; h++)
		{
			int			kv = h / (c->n_heads / c->n_kv_heads) * c->head_dim;

			attend(attended + h * c->head_dim, q + h * c->head_dim, k + kv, v + kv, kv_width,
				   t, c->head_dim);
		}
		product(y, tensor(o, layer, "attn_output"), attended, d, q_width);
		for (int i = 0; i < d; i++)
			x[t * d + i] += y[i];

		rms_norm(y, x + t * d, tensor(o, layer, "ffn_norm"), d, c->rms_eps);
		product(gate, tensor(o, layer, "ffn_gate"), y, c->n_ff, d);
		product(up, tensor(o, layer, "ffn_up"), y, c->n_ff, d);
		for (int i = 0; i < c->n_ff; i++)
			gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
		product(y, tensor(o, layer, "ffn_down"), gate, d, c->n_ff);
		for (int i = 0; i < d; i++)
			x[t * d + i] += y[i];
	}
	free(y);
	free(q);
	free(k);
	free(v);
	free(attended);
	free(gate);
	free(up);
}

/* Token loss of a document; its pooled unit vector goes to z (n_embd). */
static void
oracle_document(const Oracle *o, const TrDocument *document, double *z, TrLoss *loss)
{
	const TrConfig *c = &o->model->config;
	int			d = c->n_embd;
	int			n = document->n_tokens;
	const double *embedding = tensor(o, -1, "token_embd");
	double	   *x = doubles(n * d);
	double	   *hidden = doubles(d);
	double	   *logits = doubles(c->n_vocab);
	double		length = 0;

	for (int t = 0; t < n; t++)
		memcpy(x + t * d, embedding + document->ids[t] * d, sizeof(double) * (size_t) d);
	for (int i = 0; i < c->n_layers; i++)
		oracle_layer(o, i, x, n);
	memset(z, 0, sizeof(double) * (size_t) d);
	for (int t = 0; t < n; t++)
	{
		double		sum = 0;

		rms_norm(hidden, x + t * d, tensor(o, -1, "output_norm"), d, c->rms_eps);
		for (int i = 0; i < d && t < document->n_pooled; i++)
			z[i] += hidden[i];
		if (t + 1 == n)
			break;
		product(logits, embedding, hidden, c->n_vocab, d);
		for (int i = 0; i < c->n_vocab; i++)
			sum += exp(logits[i]);
		loss->token_loss += document->weights[t + 1] * (log(sum) - logits[document->ids[t + 1]]);
		loss->token_weight += document->weights[t + 1];
	}
	for (int i = 0; i < d; i++)
		length += z[i] * z[i];
	for (int i = 0; i < d; i++)
		z[i] /= sqrt(length);
	free(x);
	free(hidden);
	free(logits);
}

static double
similarity(const double *a, const double *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum / (double) TR_TEMPERATURE;
}

/* Khosla et al. 2020, equation 2, for document i; z (n_documents, d) */
static void
oracle_anchor(const TrBatch *batch, const double *z, int d, int i, TrLoss *loss)
{
	double		others = 0;
	double		positive_sum = 0;
	int			n_positives = 0;

	if (batch->documents[i]->group < 0 || batch->documents[i]->n_pooled == 0)
		return;
	for (int j = 0; j < batch->n_documents; j++)
	{
		double		s = similarity(z + i * d, z + j * d, d);

		if (j == i || batch->documents[j]->group < 0 || batch->documents[j]->n_pooled == 0)
			continue;
		others += exp(s);
		if (batch->documents[j]->group == batch->documents[i]->group)
		{
			positive_sum += s;
			n_positives++;
		}
	}
	if (n_positives == 0)
		return;
	loss->group_loss += log(others) - positive_sum / n_positives;
	loss->n_anchors++;
}

static void
oracle_run(const Oracle *o, const TrBatch *batch, TrLoss *loss)
{
	int			d = o->model->config.n_embd;
	double	   *z = doubles(batch->n_documents * d);

	memset(loss, 0, sizeof(*loss));
	for (int i = 0; i < batch->n_documents; i++)
		oracle_document(o, batch->documents[i], z + i * d, loss);
	for (int i = 0; i < batch->n_documents; i++)
		oracle_anchor(batch, z, d, i, loss);
	free(z);
}

/* ----------------------------------------------------------------
 *		Models and documents
 * ----------------------------------------------------------------
 */

#define MAX_DOCUMENTS	16

typedef struct Documents
{
	TrDocument	documents[MAX_DOCUMENTS];
	const TrDocument *pointers[MAX_DOCUMENTS];
	TrBatch		batch;
} Documents;

static void
make_documents(Documents *d, const int *lengths, const int *groups, int n, int n_vocab,
			   TrRandom *random)
{
	for (int i = 0; i < n; i++)
	{
		uint16_t   *ids = tr_alloc(sizeof(uint16_t) * (size_t) lengths[i]);
		float	   *weights = tr_alloc(sizeof(float) * (size_t) lengths[i]);

		for (int t = 0; t < lengths[i]; t++)
		{
			ids[t] = (uint16_t) (tr_uniform(random) * n_vocab);
			/* none, one or something else */
			if (t > 0)
				weights[t] = (float) (t % 3 == 0 ? 0 : t % 3 == 1 ? 1 : tr_uniform(random) * 3);
		}
		d->documents[i] = (TrDocument)
		{
			.group = groups[i], .n_tokens = lengths[i],
			.n_pooled = lengths[i] > 3 ? lengths[i] - 2 : lengths[i],
			.ids = ids, .weights = weights
		};
		d->pointers[i] = &d->documents[i];
	}
	d->batch = (TrBatch) {.n_documents = n, .documents = d->pointers};
}

static void
free_documents(Documents *d)
{
	for (int i = 0; i < d->batch.n_documents; i++)
	{
		free((void *) d->documents[i].ids);
		free((void *) d->documents[i].weights);
	}
}

/* Parameters large enough that nothing in the model is nearly linear. */
static void
make_lively(TrModel *model, TrRandom *random)
{
	for (int i = 0; i < model->n_tensors; i++)
	{
		const TrTensor *t = &model->tensors[i];
		float	   *w = model->params + t->offset;
		double		std = i == 0 ? 0.5 : 1.5 / sqrt(t->n_in);

		for (int j = 0; j < t->n_out * t->n_in; j++)
			w[j] = (float) (t->n_out == 1 ? 1 + 0.3 * tr_normal(random) :
							std * tr_normal(random));
	}
}

/* ----------------------------------------------------------------
 *		Gradients
 * ----------------------------------------------------------------
 */

#define N_DIRECTIONS	3
#define N_ELEMENTS		4		/* single ones, the largest gradient's first */
#define STEP			1e-4	/* of a central difference */

/*
 * How far off a float gradient may be, as a part of the tensor's largest or,
 * along a direction, of its length: some hundred roundings of 6e-8.
 */
#define TOLERANCE		1e-5

typedef struct Check
{
	Oracle		oracle;
	const TrBatch *batch;
	const float *token_gradient;	/* (n_params) */
	const float *group_gradient;
	double		token_error;	/* largest yet, in units of TOLERANCE */
	double		group_error;
} Check;

static void
note_error(double *worst, double difference, double gradient, double size)
{
	double		error = fabs(difference - gradient) / (size * TOLERANCE);

	/* NaN is the worst */
	if (!(error <= *worst))
		*worst = error;
}

/* Compare the derivatives along direction, over n parameters from offset on. */
static void
check_direction(Check *check, size_t offset, size_t n, const double *direction,
				double token_size, double group_size)
{
	double	   *at = check->oracle.params + offset;
	TrLoss		plus,
				minus;
	double		token = 0;
	double		group = 0;

	for (size_t i = 0; i < n; i++)
		at[i] += STEP * direction[i];
	oracle_run(&check->oracle, check->batch, &plus);
	for (size_t i = 0; i < n; i++)
		at[i] -= 2 * STEP * direction[i];
	oracle_run(&check->oracle, check->batch, &minus);
	for (size_t i = 0; i < n; i++)
	{
		at[i] += STEP * direction[i];
		token += direction[i] * check->token_gradient[offset + i];
		group += direction[i] * check->group_gradient[offset + i];
	}
	note_error(&check->token_error, (plus.token_loss - minus.token_loss) / (2 * STEP), token,
			   token_size);
	note_error(&check->group_error, (plus.group_loss - minus.group_loss) / (2 * STEP), group,
			   group_size);
}

static double
length_of(const float *x, size_t n)
{
	double		square = 0;

	for (size_t i = 0; i < n; i++)
		square += (double) x[i] * x[i];
	return sqrt(square);
}

static size_t
largest_of(const float *x, size_t n)
{
	size_t		best = 0;

	for (size_t i = 1; i < n; i++)
		if (fabsf(x[i]) > fabsf(x[best]))
			best = i;
	return best;
}

static void
check_tensor(Check *check, const TrTensor *t, const char *config, TrRandom *random)
{
	size_t		n = (size_t) t->n_out * t->n_in;
	const float *token = check->token_gradient + t->offset;
	const float *group = check->group_gradient + t->offset;
	double	   *direction = doubles((int) n);

	check->token_error = check->group_error = 0;
	for (int i = 0; i < N_DIRECTIONS; i++)
	{
		double		length = 0;

		for (size_t j = 0; j < n; j++)
		{
			direction[j] = tr_normal(random);
			length += direction[j] * direction[j];
		}
		for (size_t j = 0; j < n; j++)
			direction[j] /= sqrt(length);
		check_direction(check, t->offset, n, direction, length_of(token, n), length_of(group, n));
	}
	for (int i = 0; i < N_ELEMENTS; i++)
	{
		size_t		element = i == 0 ? largest_of(token, n) : i == 1 ? largest_of(group, n) :
			(size_t) (tr_uniform(random) * (double) n);

		memset(direction, 0, sizeof(double) * n);
		direction[element] = 1;
		check_direction(check, t->offset, n, direction, fabsf(token[largest_of(token, n)]),
						fabsf(group[largest_of(group, n)]));
	}
	free(direction);
	tap_ok(check->token_error <= 1, "%s: token loss by %s is its central differences (%.2f of the tolerance)",
		   config, t->name, check->token_error);
	tap_ok(check->group_error <= 1, "%s: contrastive loss by %s is its central differences (%.2f of the tolerance)",
		   config, t->name, check->group_error);
}

static bool
near(double a, double b)
{
	return fabs(a - b) <= 2e-6 * fabs(b);
}

static void
test_gradients(const char *name, const TrConfig *config)
{
	/* one key, one pair, odd ones, over a block of queries; -1 is no group */
	static const int lengths[] = {1, 2, 7, 33, 70, 64, 3, 65};
	static const int groups[] = {0, 1, 0, 1, -1, 2, 0, -1};
	TrRandom	random = {42};
	TrModel    *model = tr_model_create(config);
	TrWorkspace *ws = tr_workspace_create(model, 300, MAX_DOCUMENTS);
	float	   *token_gradient = tr_alloc(sizeof(float) * model->n_params);
	float	   *group_gradient = tr_alloc(sizeof(float) * model->n_params);
	double	   *params = doubles((int) model->n_params);
	Documents	d;
	Check		check = {.oracle = {.model = model, .params = params}, .batch = &d.batch,
		.token_gradient = token_gradient, .group_gradient = group_gradient};
	TrLoss		loss,
				expected;

	make_documents(&d, lengths, groups, LENGTH(lengths), config->n_vocab, &random);
	make_lively(model, &random);
	for (size_t i = 0; i < model->n_params; i++)
		params[i] = model->params[i];
	tr_model_run(model, ws, &d.batch, 1, 0, token_gradient, &loss);
	tr_model_run(model, ws, &d.batch, 0, 1, group_gradient, &loss);
	oracle_run(&check.oracle, &d.batch, &expected);
	tap_ok(near(loss.token_loss, expected.token_loss) &&
		   near(loss.token_weight, expected.token_weight),
		   "%s: the token loss is the formulas' (%.6f, %.6f)", name,
		   loss.token_loss, expected.token_loss);
	tap_ok(near(loss.group_loss, expected.group_loss) && loss.n_anchors == expected.n_anchors &&
		   loss.n_anchors == 5,
		   "%s: the contrastive loss is the formulas' (%.6f, %.6f), document 5 is alone in its group",
		   name, loss.group_loss, expected.group_loss);
	for (int i = 0; i < model->n_tensors; i++)
		check_tensor(&check, &model->tensors[i], name, &random);

	free_documents(&d);
	tr_workspace_free(ws);
	tr_model_free(model);
	free(token_gradient);
	free(group_gradient);
	free(params);
}

/* ----------------------------------------------------------------
 *		Batches
 * ----------------------------------------------------------------
 */

/* Are n values the same but for roundings, measured on their length? */
static bool
alike(const float *a, const float *b, size_t n)
{
	double		square = 0;

	for (size_t i = 0; i < n; i++)
		square += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
	return sqrt(square) <= TOLERANCE * length_of(b, n);
}

/* More logits than are computed at once; documents see only themselves. */
static void
test_batches(const TrConfig *config)
{
	int			lengths[MAX_DOCUMENTS];
	int			groups[MAX_DOCUMENTS];
	TrRandom	random = {7};
	TrModel    *model = tr_model_create(config);
	TrWorkspace *ws = tr_workspace_create(model, 80 * MAX_DOCUMENTS, MAX_DOCUMENTS);
	size_t		bytes = sizeof(float) * model->n_params;
	float	   *together = tr_alloc(bytes);
	float	   *again = tr_alloc(bytes);
	float	   *apart = tr_alloc(bytes);
	Documents	d;
	TrLoss		loss,
				loss_again,
				loss_apart,
				sum = {0};

	for (int i = 0; i < MAX_DOCUMENTS; i++)
	{
		lengths[i] = 65 + i;
		groups[i] = i % 3;
	}
	make_documents(&d, lengths, groups, MAX_DOCUMENTS, config->n_vocab, &random);
	make_lively(model, &random);
	tr_model_run(model, ws, &d.batch, 0.5f, 0, together, &loss);
	for (int i = 0; i < MAX_DOCUMENTS; i++)
	{
		TrBatch		one = {.n_documents = 1, .documents = &d.pointers[i]};

		tr_model_run(model, ws, &one, 0.5f, 0, apart, &loss_apart);
		sum.token_loss += loss_apart.token_loss;
	}
	tap_ok(near(loss.token_loss, sum.token_loss), "a batch's token loss is the sum of its documents'");
	tap_ok(alike(together, apart, model->n_params),
		   "a batch's gradients are the sum of its documents', added to what was there");

	/* the workspace has held other batches since */
	tr_model_run(model, ws, &d.batch, 0.5f, 0, again, &loss_again);
	tap_ok(memcmp(together, again, bytes) == 0 && memcmp(&loss, &loss_again, sizeof(loss)) == 0,
		   "the same batch gives the same bits, whatever the workspace held");
	tr_model_run(model, ws, &d.batch, 1, 1, NULL, &loss_again);
	tap_ok(memcmp(&loss, &loss_again, sizeof(loss)) == 0,
		   "without gradients the losses have the same bits");

	memset(again, 0, bytes);
	memset(apart, 0, bytes);
	tr_model_run(model, ws, &d.batch, 0.5f, 0.25f, again, &loss_again);
	tr_model_run(model, ws, &d.batch, 0.5f, 0, apart, &loss_again);
	tr_model_run(model, ws, &d.batch, 0, 0.25f, apart, &loss_again);
	tap_ok(alike(again, apart, model->n_params),
		   "the gradient of both losses is the sum of each one's");

	free_documents(&d);
	tr_workspace_free(ws);
	tr_model_free(model);
	free(together);
	free(again);
	free(apart);
}

/* ----------------------------------------------------------------
 *		The exponential
 * ----------------------------------------------------------------
 */

static void
test_exponential(void)
{
	enum
	{
		N = 1751				/* no multiple of a vector's length */
	};
	float		x[N];
	float		large[N];		/* e^x overflows */
	double		worst = 0;
	double		sum = 0;
	float		logsum;

	for (int i = 0; i < N; i++)
		x[i] = (float) i * 0.1f - 87.0f;
	tr_exp_shifted(x, 0, N);
	for (int i = 0; i < N; i++)
	{
		double		expected = exp((double) ((float) i * 0.1f - 87.0f));

		worst = fmax(worst, fabs(x[i] / expected - 1));
	}
	tap_ok(worst < 4e-7, "the exponential is the C library's (largest relative difference %.1e)", worst);

	for (int i = 0; i < N; i++)
	{
		x[i] = large[i] = (float) (i % 97) * 0.2f + 200.0f;
		sum += exp(large[i] - 220.0);
	}
	logsum = tr_softmax(x, N, 2.0f);
	worst = fabs(logsum / (log(sum) + 220) - 1);
	for (int i = 0; i < N; i++)
		worst = fmax(worst, fabs(x[i] / (2 * exp(large[i] - 220.0) / sum) - 1));
	tap_ok(worst < 1e-6, "a softmax of large values is finite and right (%.1e)", worst);
}

int
main(void)
{
	test_exponential();
	static const TrConfig even = {
		.n_layers = 2, .n_embd = 32, .n_heads = 4, .n_kv_heads = 2, .head_dim = 8,
		.n_ff = 48, .n_vocab = 50, .n_ctx = 80, .rope_theta = 500000, .rms_eps = 1e-5f
	};
	/* no vector's length, heads wider than the model, three to a key */
	static const TrConfig odd = {
		.n_layers = 2, .n_embd = 19, .n_heads = 3, .n_kv_heads = 1, .head_dim = 10,
		.n_ff = 29, .n_vocab = 37, .n_ctx = 71, .rope_theta = 10000, .rms_eps = 1e-2f
	};

	test_gradients("even", &even);
	test_gradients("odd", &odd);
	test_batches(&even);
	return tap_done();
}
