/*-------------------------------------------------------------------------
 *
 * reference.c
 *	  The transformer, read top to bottom in the papers' order.
 *
 * Sources: Vaswani et al. 2017 (attention), Zhang and Sennrich 2019
 * (RMSNorm), Su et al. 2021 (rotary embedding), Shazeer 2020 (SwiGLU),
 * Ainslie et al. 2023 (grouped queries), The Llama 3 Herd of Models 2024.
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct RefState
{
	const RefModel *model;
	int			max_tokens;
	int			n_tokens;
	double	   *keys;			/* (n_layers, max_tokens, n_kv_heads, head_dim) */
	double	   *values;			/* (n_layers, max_tokens, n_kv_heads, value_dim) */
	/* Activations of the token being computed. */
	double	   *x;				/* residual stream (n_embd) */
	double	   *normed;			/* (n_embd) */
	double	   *q;				/* (n_heads, head_dim) */
	double	   *heads;			/* (n_heads, value_dim) */
	double	   *scores;			/* (max_tokens) */
	double	   *gate;			/* (n_ff) */
	double	   *up;				/* (n_ff) */
	double	   *delta;			/* (n_embd) */
	double	   *rounded;		/* a matrix's input, at least its width */
};

/* ----------------------------------------------------------------
 *		Parts
 * ----------------------------------------------------------------
 */

void
ref_round_inputs(const double *x, int n, double *rounded)
{
	for (int first = 0; first < n; first += 32)
	{
		int			last = first + 32 < n ? first + 32 : n;
		double		largest = 0;

		for (int i = first; i < last; i++)
			largest = fmax(largest, fabs(x[i]));
		for (int i = first; i < last; i++)
			rounded[i] = largest == 0 ? 0 : nearbyint(x[i] / (largest / 127)) * (largest / 127);
	}
}

/* y = W x; W (n_out, n_in) */
static void
matrix_vector(RefState *s, const double *w, int n_out, int n_in, const double *x, double *y)
{
	if (s->model->round_inputs)
	{
		ref_round_inputs(x, n_in, s->rounded);
		x = s->rounded;
	}
	for (int i = 0; i < n_out; i++)
	{
		double		sum = 0;

		for (int k = 0; k < n_in; k++)
			sum += w[(size_t) i * (size_t) n_in + (size_t) k] * x[k];
		y[i] = sum;
	}
}

static void
rms_norm(const double *x, const double *weight, int n, double eps, double *y)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (int i = 0; i < n; i++)
		y[i] = x[i] / sqrt(sum / n + eps) * weight[i];
}

/* Rotate one head's pair i by position * theta^(-2i / rope_dim) / divisor. */
static void
rotate(const RefModel *m, double *head, int position)
{
	for (int i = 0; i < m->rope_dim / 2; i++)
	{
		double		frequency = pow(m->rope_theta, -2.0 * i / m->rope_dim) / m->rope_divisors[i];
		double		angle = position * frequency;
		double	   *a = m->rope_halves ? &head[i] : &head[2 * i];
		double	   *b = m->rope_halves ? &head[i + m->rope_dim / 2] : &head[2 * i + 1];
		double		turned = *a * cos(angle) - *b * sin(angle);

		*b = *a * sin(angle) + *b * cos(angle);
		*a = turned;
	}
}

static void
softmax(double *x, int n)
{
	double		largest = x[0];
	double		sum = 0;

	for (int i = 1; i < n; i++)
		largest = fmax(largest, x[i]);
	for (int i = 0; i < n; i++)
		sum += x[i] = exp(x[i] - largest);
	for (int i = 0; i < n; i++)
		x[i] /= sum;
}

/* Causal attention of the token at position over itself and all before. */
static void
attention(RefState *s, int layer, int position)
{
	const RefModel *m = s->model;
	const RefLayer *l = &m->layers[layer];
	int			key_width = m->n_kv_heads * m->head_dim;
	int			value_width = m->n_kv_heads * m->value_dim;
	double	   *keys = s->keys + (size_t) layer * (size_t) s->max_tokens * (size_t) key_width;
	double	   *values = s->values + (size_t) layer * (size_t) s->max_tokens * (size_t) value_width;
	double	   *new_key = keys + (size_t) position * (size_t) key_width;
	double	   *new_value = values + (size_t) position * (size_t) value_width;

	matrix_vector(s, l->wq, m->n_heads * m->head_dim, m->n_embd, s->normed, s->q);
	matrix_vector(s, l->wk, key_width, m->n_embd, s->normed, new_key);
	matrix_vector(s, l->wv, value_width, m->n_embd, s->normed, new_value);
	for (int h = 0; h < m->n_heads; h++)
		rotate(m, s->q + h * m->head_dim, position);
	for (int h = 0; h < m->n_kv_heads; h++)
		rotate(m, new_key + h * m->head_dim, position);

	for (int h = 0; h < m->n_heads; h++)
	{
		int			kv_head = h / (m->n_heads / m->n_kv_heads);
		double	   *out = s->heads + h * m->value_dim;

		for (int t = 0; t <= position; t++)
		{
			const double *key = keys + (size_t) t * (size_t) key_width + kv_head * m->head_dim;
			double		dot = 0;

			for (int i = 0; i < m->head_dim; i++)
				dot += s->q[h * m->head_dim + i] * key[i];
			s->scores[t] = dot / sqrt(m->head_dim);
		}
		softmax(s->scores, position + 1);
		for (int i = 0; i < m->value_dim; i++)
		{
			out[i] = 0;
			for (int t = 0; t <= position; t++)
				out[i] += s->scores[t] * values[(size_t) t * (size_t) value_width + (size_t) (kv_head * m->value_dim + i)];
		}
	}
	matrix_vector(s, l->wo, m->n_embd, m->n_heads * m->value_dim, s->heads, s->delta);
}

/* SwiGLU: W_down (silu(W_gate x) * W_up x) */
static void
feed_forward(RefState *s, int layer)
{
	const RefModel *m = s->model;
	const RefLayer *l = &m->layers[layer];

	matrix_vector(s, l->w_gate, m->n_ff, m->n_embd, s->normed, s->gate);
	matrix_vector(s, l->w_up, m->n_ff, m->n_embd, s->normed, s->up);
	for (int i = 0; i < m->n_ff; i++)
		s->gate[i] = s->gate[i] / (1 + exp(-s->gate[i])) * s->up[i];
	matrix_vector(s, l->w_down, m->n_embd, m->n_ff, s->gate, s->delta);
}

void
ref_next(RefState *s, int token, double *hidden, double *logits)
{
	const RefModel *m = s->model;
	int			position = s->n_tokens++;

	if (position >= s->max_tokens)
		ref_fail("a sequence of %d tokens is full", s->max_tokens);
	if (token < 0 || token >= m->n_vocab)
		ref_fail("token %d is not in the vocabulary of %d", token, m->n_vocab);

	memcpy(s->x, m->token_embd + (size_t) token * (size_t) m->n_embd, sizeof(double) * (size_t) m->n_embd);
	for (int layer = 0; layer < m->n_layers; layer++)
	{
		rms_norm(s->x, m->layers[layer].attn_norm, m->n_embd, m->rms_eps, s->normed);
		attention(s, layer, position);
		for (int i = 0; i < m->n_embd; i++)
			s->x[i] += s->delta[i];

		rms_norm(s->x, m->layers[layer].ffn_norm, m->n_embd, m->rms_eps, s->normed);
		feed_forward(s, layer);
		for (int i = 0; i < m->n_embd; i++)
			s->x[i] += s->delta[i];
	}
	rms_norm(s->x, m->output_norm, m->n_embd, m->rms_eps, s->normed);
	if (hidden)
		memcpy(hidden, s->normed, sizeof(double) * (size_t) m->n_embd);
	if (logits)
		matrix_vector(s, m->output, m->n_vocab, m->n_embd, s->normed, logits);
}

/* ----------------------------------------------------------------
 *		Whole answers
 * ----------------------------------------------------------------
 */

void
ref_log_softmax(double *logits, int n)
{
	double		largest = logits[0];
	double		sum = 0;

	for (int i = 1; i < n; i++)
		largest = fmax(largest, logits[i]);
	for (int i = 0; i < n; i++)
		sum += exp(logits[i] - largest);
	for (int i = 0; i < n; i++)
		logits[i] -= largest + log(sum);
}

void
ref_logits(const RefModel *model, const int *tokens, int n, double *logits)
{
	RefState   *s = ref_state(model, n);

	for (int i = 0; i < n; i++)
		ref_next(s, tokens[i], NULL, i == n - 1 ? logits : NULL);
	ref_state_free(s);
}

/* The largest element, the first one on a tie; the distance to the second. */
static int
best_logit(const double *logits, int n, double *gap)
{
	int			best = 0;
	double		second = -INFINITY;

	for (int i = 1; i < n; i++)
	{
		if (logits[i] > logits[best])
			best = i;
	}
	for (int i = 0; i < n; i++)
	{
		if (i != best)
			second = fmax(second, logits[i]);
	}
	*gap = logits[best] - second;
	return best;
}

double
ref_greedy(const RefModel *model, const int *tokens, int n, int n_more, int *out)
{
	RefState   *s = ref_state(model, n + n_more);
	double	   *logits = ref_alloc(sizeof(double) * (size_t) model->n_vocab);
	double		least = INFINITY;

	for (int i = 0; i < n; i++)
		ref_next(s, tokens[i], NULL, logits);
	for (int i = 0; i < n_more; i++)
	{
		double		gap;

		out[i] = best_logit(logits, model->n_vocab, &gap);
		least = fmin(least, gap);
		ref_next(s, out[i], NULL, logits);
	}
	free(logits);
	ref_state_free(s);
	return least;
}

void
ref_logprobs(const RefModel *model, const int *tokens, int n, int first, double *out)
{
	RefState   *s = ref_state(model, n);
	double	   *logits = ref_alloc(sizeof(double) * (size_t) model->n_vocab);

	for (int i = 0; i + 1 < n; i++)
	{
		ref_next(s, tokens[i], NULL, logits);
		if (i + 1 < first)
			continue;
		ref_log_softmax(logits, model->n_vocab);
		out[i + 1 - first] = logits[tokens[i + 1]];
	}
	free(logits);
	ref_state_free(s);
}

void
ref_embed(const RefModel *model, const int *tokens, int n, bool mean, double *out)
{
	RefState   *s = ref_state(model, n);
	double	   *hidden = ref_alloc(sizeof(double) * (size_t) model->n_embd);
	double		sum = 0;

	memset(out, 0, sizeof(double) * (size_t) model->n_embd);
	for (int t = 0; t < n; t++)
	{
		ref_next(s, tokens[t], hidden, NULL);
		for (int i = 0; i < model->n_embd; i++)
		{
			if (mean || t == n - 1)
				out[i] += hidden[i];
		}
	}
	for (int i = 0; i < model->n_embd; i++)
		sum += out[i] * out[i];
	for (int i = 0; i < model->n_embd; i++)
		out[i] /= sqrt(sum);
	free(hidden);
	ref_state_free(s);
}

/* ----------------------------------------------------------------
 *		Memory and files
 * ----------------------------------------------------------------
 */

static double *
doubles(int a, int b, int c)
{
	return ref_alloc(sizeof(double) * (size_t) a * (size_t) b * (size_t) c);
}

RefState *
ref_state(const RefModel *m, int max_tokens)
{
	RefState   *s = ref_alloc(sizeof(*s));

	s->model = m;
	s->max_tokens = max_tokens;
	s->keys = doubles(m->n_layers, max_tokens, m->n_kv_heads * m->head_dim);
	s->values = doubles(m->n_layers, max_tokens, m->n_kv_heads * m->value_dim);
	s->x = doubles(m->n_embd, 1, 1);
	s->normed = doubles(m->n_embd, 1, 1);
	s->q = doubles(m->n_heads, m->head_dim, 1);
	s->heads = doubles(m->n_heads, m->value_dim, 1);
	s->scores = doubles(max_tokens, 1, 1);
	s->gate = doubles(m->n_ff, 1, 1);
	s->up = doubles(m->n_ff, 1, 1);
	s->delta = doubles(m->n_embd, 1, 1);
	s->rounded = doubles(m->n_embd + m->n_ff + m->n_heads * m->value_dim, 1, 1);
	return s;
}

void
ref_state_free(RefState *s)
{
	free(s->keys);
	free(s->values);
	free(s->x);
	free(s->normed);
	free(s->q);
	free(s->heads);
	free(s->scores);
	free(s->gate);
	free(s->up);
	free(s->delta);
	free(s->rounded);
	free(s);
}

RefModel *
ref_load(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		ref_fail("could not find \"%s\": %s", path, strerror(errno));
	return S_ISDIR(st.st_mode) ? ref_load_hf(path) : ref_load_gguf(path);
}

void
ref_free(RefModel *m)
{
	for (int i = 0; i < m->n_layers; i++)
	{
		RefLayer   *l = &m->layers[i];

		free(l->attn_norm);
		free(l->wq);
		free(l->wk);
		free(l->wv);
		free(l->wo);
		free(l->ffn_norm);
		free(l->w_gate);
		free(l->w_up);
		free(l->w_down);
	}
	free(m->layers);
	free(m->rope_divisors);
	if (m->output != m->token_embd)
		free(m->output);
	free(m->token_embd);
	free(m->output_norm);
	free(m);
}

void
ref_fail(const char *fmt,...)
{
	va_list		args;

	fflush(stdout);
	fputs("reference: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

void *
ref_alloc(size_t size)
{
	void	   *p = calloc(1, size > 0 ? size : 1);

	if (!p)
		ref_fail("out of memory");
	return p;
}

uint8_t *
ref_read_file(const char *path, size_t *size)
{
	FILE	   *f = fopen(path, "rb");
	uint8_t    *data;
	long		end;

	if (!f || fseek(f, 0, SEEK_END) != 0 || (end = ftell(f)) < 0)
		ref_fail("could not open \"%s\": %s", path, strerror(errno));
	rewind(f);
	*size = (size_t) end;
	data = ref_alloc(*size);
	if (fread(data, 1, *size, f) != *size)
		ref_fail("could not read \"%s\"", path);
	fclose(f);
	return data;
}
