/*-------------------------------------------------------------------------
 *
 * forward.c
 *	  One forward pass of the transformer over a mixed batch.
 *
 * Reads top to bottom as the papers have it: embedding; per layer RMS norm,
 * Q K V, rotary positions, attention over the paged keys and values, output
 * projection into the residual stream, RMS norm, SwiGLU; then the final norm
 * and the logits of the rows that want them.
 *
 * What the last layer is for are these rows alone.  There the others give
 * their keys and values to the cache and go no further: the rows that are
 * wanted close up, and are the rows of the rest of the step.
 *
 *	Vaswani et al. 2017 (attention), Zhang and Sennrich 2019 (RMSNorm),
 *	Su et al. 2021 (RoPE), Shazeer 2020 (SwiGLU), Ainslie et al. 2023 (GQA),
 *	Llama Team 2024 (Llama 3)
 *
 * A row is one token at one position of some sequence.  Every phase is a set
 * of tasks for the threads; a task owns the rows or the outputs that it
 * writes, so that which thread runs it, and what else is in the batch, changes
 * no bit.  Between phases no compute thread runs, and the caller's poll is
 * called; phases that would take long are cut into pieces for it.
 *
 *-------------------------------------------------------------------------
 */
#include "attention.h"

#include <math.h>
#include <string.h>

/* How long a phase may keep poll waiting, in seconds. */
#define PIECE_SECONDS		0.008

/*
 * Rows of a task in phases that go row by row: a tile of the int8 form, or, so that all
 * threads have some, a part of one.
 */
#define ROWS_PER_TASK		L3_ACT_TILE
#define FEW_ROWS_PER_TASK	4

/* Tasks per thread of a matmul, so that threads end together. */
#define TASKS_PER_THREAD	8

#define MAX_PRODUCTS		3

/* One of the matmuls of a phase. */
typedef struct Product
{
	const L3Matrix *w;
	const L3Act *x;
	float	   *out;			/* (rows, ldo) */
	size_t		ldo;
	bool		accumulate;
	int			n_tasks;
} Product;

/* What the tasks of a phase see. */
typedef struct Step
{
	L3Runner   *runner;
	const L3Kernels *kernels;
	const L3Workspace *ws;
	const L3Weights *weights;
	const L3Hparams *hp;
	const L3KvPool *kv;
	const L3Batch *batch;

	int			first_task;		/* of the piece that runs */
	int			rows_per_task;	/* of a phase that goes row by row */
	uint32_t	layer;
	const float *norm;			/* (n_embd) weight of a norm phase */
	L3Act		act;

	Product		products[MAX_PRODUCTS];
	int			n_products;
	int			panels_per_task;
	int			m;				/* rows that the step goes on with */
	int			m_prefill;

	L3Attention attention;

	int			first_out;		/* of the group of logits rows */
} Step;

/* False when poll has cancelled everything. */
static bool
poll_caller(const Step *step)
{
	const L3Runner *runner = step->runner;

	if (runner->poll != NULL)
		runner->poll(runner->poll_ctx);
	return *runner->n_live > 0;
}

/* Run a short phase, then poll. */
static bool
run_phase(Step *step, L3TaskFn fn, int n_tasks)
{
	step->first_task = 0;
	l3_pool_run(step->runner->pool, fn, step, n_tasks);
	return poll_caller(step);
}

/* Pieces that a phase of so much work is cut into. */
static int
pieces_for(const L3Pace *pace, double work, int n_tasks)
{
	double		pieces = work / (pace->work_per_second * PIECE_SECONDS);

	if (pieces <= 1)
		return 1;
	return pieces < n_tasks ? (int) pieces + 1 : n_tasks;
}

/* Run a phase in pieces, polling after each, and note how fast it went. */
static bool
run_long_phase(Step *step, L3TaskFn fn, int n_tasks, int n_pieces, double work, L3Pace *pace)
{
	double		start = l3_seconds();

	for (int i = 0; i < n_pieces; i++)
	{
		int			first = (int) ((int64_t) n_tasks * i / n_pieces);
		int			next = (int) ((int64_t) n_tasks * (i + 1) / n_pieces);

		step->first_task = first;
		l3_pool_run(step->runner->pool, fn, step, next - first);
		if (!poll_caller(step))
			return false;
	}

	/* only the cutting depends on this, no result does */
	pace->work_per_second = 0.5 * pace->work_per_second + 0.5 * work / (l3_seconds() - start + 1e-9);
	return true;
}

/* ----------------------------------------------------------------
 *		Matmuls
 * ----------------------------------------------------------------
 */

static void
matmul_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	const Product *p = step->products;
	int			panel0;

	task += step->first_task;
	while (task >= p->n_tasks)
	{
		task -= p->n_tasks;
		p++;
	}
	panel0 = task * step->panels_per_task;
	step->kernels->matmul[p->w->type] (p->w, panel0,
									   l3_smaller(panel0 + step->panels_per_task, p->w->n_panels),
									   p->x, step->m, step->m_prefill, p->out, p->ldo, p->accumulate,
									   step->ws->scratch + (size_t) thread * step->ws->scratch_bytes);
}

static void
add_product(Step *step, const L3Matrix *w, const L3Act *x, float *out, size_t ldo, bool accumulate)
{
	step->products[step->n_products++] = (Product)
	{
		.w = w, .x = x, .out = out, .ldo = ldo, .accumulate = accumulate
	};
}

/* Run the products that were added, all as one phase. */
static bool
run_products(Step *step)
{
	L3Runner   *runner = step->runner;
	int			n_panels = 0;
	int			n_tasks = 0;
	int			n_pieces;
	double		work = 0;

	for (int i = 0; i < step->n_products; i++)
	{
		const L3Matrix *w = step->products[i].w;

		n_panels += w->n_panels;
		work += (double) step->m * w->n_in * w->n_out;
	}
	n_pieces = pieces_for(&runner->matmul_pace, work, n_panels);
	step->panels_per_task = n_panels /
		(l3_pool_threads(runner->pool) * TASKS_PER_THREAD * n_pieces);
	if (step->panels_per_task < 1)
		step->panels_per_task = 1;
	for (int i = 0; i < step->n_products; i++)
	{
		step->products[i].n_tasks = l3_tasks_for(step->products[i].w->n_panels, step->panels_per_task);
		n_tasks += step->products[i].n_tasks;
	}
	step->n_products = 0;
	return run_long_phase(step, matmul_task, n_tasks, l3_smaller(n_pieces, n_tasks), work,
						  &runner->matmul_pace);
}

/* ----------------------------------------------------------------
 *		Row by row: embedding, positions, norms, SwiGLU
 * ----------------------------------------------------------------
 */

/* x[row] = embedding of the row's token; cosines and sines of its position. */
static void
embed_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	const L3Workspace *ws = step->ws;
	const L3Hparams *hp = step->hp;
	size_t		n_pairs = hp->rope_dim / 2;
	int			end = l3_smaller((task + 1) * step->rows_per_task, step->m);

	(void) thread;
	for (int row = task * step->rows_per_task; row < end; row++)
	{
		step->kernels->matrix_row(&step->weights->token_embd, ws->row_tokens[row],
								  ws->x + (size_t) row * hp->n_embd);
		for (size_t i = 0; i < n_pairs; i++)
		{
			double		angle = ws->row_positions[row] * step->weights->rope_freq[i];

			ws->cosine[(size_t) row * n_pairs + i] = (float) cos(angle);
			ws->sine[(size_t) row * n_pairs + i] = (float) sin(angle);
		}
	}
}

/* normed = rms_norm(x) * norm, and its int8 form */
static void
norm_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	const L3Workspace *ws = step->ws;
	size_t		d = step->hp->n_embd;
	int			row0 = task * step->rows_per_task;
	int			n = l3_smaller(step->rows_per_task, step->m - row0);

	(void) thread;
	for (int row = row0; row < row0 + n; row++)
		step->kernels->rms_norm(ws->normed + (size_t) row * d, ws->x + (size_t) row * d,
								step->norm, (int) d, step->hp->rms_eps);
	step->kernels->quantize_rows(&step->act, row0, n);
}

/* Rotate and scale the queries of a row. */
static void
rotate_queries(const Step *step, int row)
{
	const L3Workspace *ws = step->ws;
	const L3Hparams *hp = step->hp;
	size_t		n_pairs = hp->rope_dim / 2;

	step->kernels->rope(ws->q + (size_t) row * hp->n_heads * hp->head_dim,
						(int) hp->n_heads, (int) hp->head_dim, (int) hp->rope_dim,
						ws->cosine + row * n_pairs, ws->sine + row * n_pairs,
						(float) (1.0 / sqrt((double) hp->head_dim)));
}

/* Rotate the keys of a row, and store them and the values in its KV block. */
static void
store_keys(const Step *step, int row, int32_t block)
{
	const L3Workspace *ws = step->ws;
	const L3Hparams *hp = step->hp;
	size_t		n_pairs = hp->rope_dim / 2;
	float	   *k = ws->k + (size_t) row * hp->n_kv_heads * hp->head_dim;
	float	   *v = ws->v + (size_t) row * hp->n_kv_heads * hp->value_dim;

	step->kernels->rope(k, (int) hp->n_kv_heads, (int) hp->head_dim, (int) hp->rope_dim,
						ws->cosine + row * n_pairs, ws->sine + row * n_pairs, 1.0f);
	for (uint32_t head = 0; head < hp->n_kv_heads; head++)
		step->kernels->kv_store(step->kv->type,
								l3_kv_key_tile(step->kv, block, step->layer, head),
								l3_kv_value_tile(step->kv, block, step->layer, head),
								ws->row_positions[row] % L3_KV_BLOCK,
								k + (size_t) head * hp->head_dim, (int) hp->head_dim,
								v + (size_t) head * hp->value_dim, (int) hp->value_dim);
}

static void
keys_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	const L3Span *span = step->batch->spans;
	int			row0 = task * step->rows_per_task;
	int			end = l3_smaller(row0 + step->rows_per_task, step->m);

	(void) thread;
	for (int row = row0; row < end; row++)
	{
		while (row >= span->row + span->n)
			span++;
		store_keys(step, row, span->blocks[step->ws->row_positions[row] / L3_KV_BLOCK]);
	}
}

static void
queries_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	int			end = l3_smaller((task + 1) * step->rows_per_task, step->m);

	(void) thread;
	for (int row = task * step->rows_per_task; row < end; row++)
		rotate_queries(step, row);
}

static void
queries_keys_task(void *ctx, int task, int thread)
{
	queries_task(ctx, task, thread);
	keys_task(ctx, task, thread);
}

/* The int8 form of rows that are complete. */
static void
quantize_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	int			row0 = task * step->rows_per_task;

	(void) thread;
	step->kernels->quantize_rows(&step->act, row0, l3_smaller(step->rows_per_task, step->m - row0));
}

/* gate = silu(gate) * up, and its int8 form */
static void
swiglu_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	const L3Workspace *ws = step->ws;
	size_t		n_ff = step->hp->n_ff;
	int			row0 = task * step->rows_per_task;
	int			n = l3_smaller(step->rows_per_task, step->m - row0);

	(void) thread;
	for (int row = row0; row < row0 + n; row++)
		step->kernels->swiglu(ws->gate + row * n_ff, ws->up + row * n_ff, (int) n_ff);
	step->kernels->quantize_rows(&step->act, row0, n);
}

/* ----------------------------------------------------------------
 *		Attention
 * ----------------------------------------------------------------
 */

/* attended = softmax(q k / sqrt(head_dim)) v */
static void
attend_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;

	l3_attention_task(&step->attention, step->layer, step->first_task + task, thread);
}

static bool
run_attention(Step *step)
{
	const L3Batch *batch = step->batch;
	L3Pace	   *pace = &step->runner->attend_pace;
	int			n_tasks = step->attention.n_tasks;
	double		work = 0;

	for (const L3Span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
		work += (double) span->n_kept * (span->position + span->n);
	work *= (double) step->hp->n_heads * step->hp->head_dim;
	return run_long_phase(step, attend_task, n_tasks, pieces_for(pace, work, n_tasks), work, pace);
}

/* ----------------------------------------------------------------
 *		The layers
 * ----------------------------------------------------------------
 */

/* Run a short phase over n rows, then poll. */
static bool
run_rows(Step *step, L3TaskFn fn, int n)
{
	bool		few = n < 2 * ROWS_PER_TASK * l3_pool_threads(step->runner->pool);

	step->rows_per_task = few ? FEW_ROWS_PER_TASK : ROWS_PER_TASK;
	return run_phase(step, fn, l3_tasks_for(n, step->rows_per_task));
}

/* normed = rms_norm(x) */
static bool
run_norm(Step *step, const float *weight)
{
	const L3Workspace *ws = step->ws;
	int			d = (int) step->hp->n_embd;

	step->norm = weight;
	l3_act_init(&step->act, ws->act, step->m, d, ws->normed, d);
	return run_rows(step, norm_task, step->m);
}

static void
add_queries(Step *step, const L3Layer *layer)
{
	add_product(step, &layer->wq, &step->act, step->ws->q,
				(size_t) step->hp->n_heads * step->hp->head_dim, false);
}

static void
add_keys_and_values(Step *step, const L3Layer *layer)
{
	const L3Hparams *hp = step->hp;

	add_product(step, &layer->wk, &step->act, step->ws->k, (size_t) hp->n_kv_heads * hp->head_dim, false);
	add_product(step, &layer->wv, &step->act, step->ws->v, (size_t) hp->n_kv_heads * hp->value_dim, false);
}

/* q, k, v = normed WQ, normed WK, normed WV of all rows, rotated; k and v go to the cache. */
static bool
run_projections(Step *step, const L3Layer *layer)
{
	if (!run_norm(step, layer->attn_norm))
		return false;
	add_queries(step, layer);
	add_keys_and_values(step, layer);
	return run_products(step) && run_rows(step, queries_keys_task, step->m);
}

/* The state, the position and its rotation of a row move to another place. */
static void
move_row(const Step *step, int32_t to, int32_t from)
{
	const L3Workspace *ws = step->ws;
	size_t		d = step->hp->n_embd;
	size_t		n_pairs = step->hp->rope_dim / 2;

	memcpy(ws->x + to * d, ws->x + from * d, d * sizeof(float));
	memcpy(ws->cosine + to * n_pairs, ws->cosine + from * n_pairs, n_pairs * sizeof(float));
	memcpy(ws->sine + to * n_pairs, ws->sine + from * n_pairs, n_pairs * sizeof(float));
	ws->row_positions[to] = ws->row_positions[from];
}

/* Is the row the next one of a list of wanted rows?  Then step over it. */
static bool
is_next(const L3OutRow *rows, int32_t n, int32_t *next, int32_t row)
{
	bool		is = *next < n && rows[*next].row == row;

	*next += is;
	return is;
}

/* Close the rows up to those whose final state is wanted. */
static void
keep_wanted_rows(Step *step)
{
	const L3Batch *batch = step->batch;
	int32_t		next_logits = 0;
	int32_t		next_hidden = 0;
	int32_t		n = 0;

	step->m_prefill = 0;
	for (L3Span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
	{
		span->first_kept = n;
		for (int32_t row = span->row; row < span->row + span->n; row++)
		{
			bool		logits = is_next(batch->logits_rows, batch->n_logits_rows, &next_logits, row);
			bool		hidden = is_next(batch->hidden_rows, batch->n_hidden_rows, &next_hidden, row);

			if (!logits && !hidden)
				continue;
			if (row != n)
				move_row(step, n, row);
			step->m_prefill += row < batch->n_prefill;
			step->ws->row_places[row] = n++;
		}
		span->n_kept = n - span->first_kept;
	}
	step->m = n;
	l3_attention_plan(&step->attention, l3_pool_threads(step->runner->pool));
}

/* The same where only wanted rows go on: k and v of all rows, q of these. */
static bool
run_last_projections(Step *step, const L3Layer *layer)
{
	if (!run_norm(step, layer->attn_norm))
		return false;
	add_keys_and_values(step, layer);
	if (!run_products(step) || !run_rows(step, keys_task, step->m))
		return false;

	keep_wanted_rows(step);
	if (step->m == 0)
		return true;
	if (!run_norm(step, layer->attn_norm))
		return false;
	add_queries(step, layer);
	return run_products(step) && run_rows(step, queries_task, step->m);
}

/* x += (softmax(q k) v) WO */
static bool
run_attention_block(Step *step, const L3Layer *layer)
{
	const L3Workspace *ws = step->ws;
	int			o_dim = (int) (step->hp->n_heads * step->hp->value_dim);

	if (!run_attention(step))
		return false;
	l3_act_init(&step->act, ws->act, step->m, o_dim, ws->attended, o_dim);
	if (!run_rows(step, quantize_task, step->m))
		return false;
	add_product(step, &layer->wo, &step->act, ws->x, step->hp->n_embd, true);
	return run_products(step);
}

/* x += (silu(normed W_gate) * (normed W_up)) W_down */
static bool
run_feed_forward(Step *step, const L3Layer *layer)
{
	const L3Workspace *ws = step->ws;
	int			n_ff = (int) step->hp->n_ff;

	if (!run_norm(step, layer->ffn_norm))
		return false;
	add_product(step, &layer->w_gate, &step->act, ws->gate, n_ff, false);
	add_product(step, &layer->w_up, &step->act, ws->up, n_ff, false);
	if (!run_products(step))
		return false;
	l3_act_init(&step->act, ws->act, step->m, n_ff, ws->gate, n_ff);
	if (!run_rows(step, swiglu_task, step->m))
		return false;
	add_product(step, &layer->w_down, &step->act, ws->x, step->hp->n_embd, true);
	return run_products(step);
}

static bool
run_layer(Step *step, const L3Layer *layer)
{
	const L3Batch *batch = step->batch;
	bool		last = step->layer + 1 == step->hp->n_layers;
	bool		all_wanted = batch->n_logits_rows + batch->n_hidden_rows >= batch->n_rows;

	if (last && !all_wanted)
	{
		if (!run_last_projections(step, layer))
			return false;
		if (step->m == 0)
			return true;
	}
	else if (!run_projections(step, layer))
		return false;
	return run_attention_block(step, layer) && run_feed_forward(step, layer);
}

/* ----------------------------------------------------------------
 *		Outputs
 * ----------------------------------------------------------------
 */

static void
hidden_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	size_t		d = step->hp->n_embd;
	int			end = l3_smaller((task + 1) * step->rows_per_task, step->batch->n_hidden_rows);

	(void) thread;
	for (int i = task * step->rows_per_task; i < end; i++)
	{
		size_t		row = (size_t) step->batch->hidden_rows[i].row;
		size_t		place = (size_t) step->ws->row_places[row];

		step->kernels->rms_norm(step->ws->normed + row * d, step->ws->x + place * d,
								step->weights->output_norm, (int) d, step->hp->rms_eps);
	}
}

/* Gather and norm one row of a group of logits rows, and its int8 form. */
static void
out_norm_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	size_t		d = step->hp->n_embd;
	int32_t		row = step->batch->logits_rows[step->first_out + task].row;
	size_t		place = (size_t) step->ws->row_places[row];

	(void) thread;
	step->kernels->rms_norm(step->ws->out_normed + (size_t) task * d, step->ws->x + place * d,
							step->weights->output_norm, (int) d, step->hp->rms_eps);
	step->kernels->quantize_rows(&step->act, task, 1);
}

static void
on_logits_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;

	step->batch->on_logits(step->batch->ctx, step->first_out + task,
						   step->ws->logits + (size_t) task * step->hp->n_vocab, thread);
}

/* Logits of the next group of rows, handed to the batch's owner. */
static bool
run_logits_group(Step *step, int n)
{
	const L3Workspace *ws = step->ws;
	const L3Hparams *hp = step->hp;
	int			d = (int) hp->n_embd;

	step->m = n;
	step->m_prefill = 0;
	while (step->m_prefill < n &&
		   step->batch->logits_rows[step->first_out + step->m_prefill].row < step->batch->n_prefill)
		step->m_prefill++;

	l3_act_init(&step->act, ws->out_act, L3_LOGITS_ROWS, d, ws->out_normed, d);
	if (!run_phase(step, out_norm_task, n))
		return false;
	add_product(step, &step->weights->output, &step->act, ws->logits, hp->n_vocab, false);
	if (!run_products(step))
		return false;
	return run_phase(step, on_logits_task, n);
}

static void
copy_task(void *ctx, int task, int thread)
{
	Step	   *step = ctx;
	const L3KvCopy *copy = &step->batch->copies[task];

	(void) thread;
	l3_kv_copy(step->kv, copy->to, copy->from);
}

/* Each row's token, position and place; no row is left out yet. */
static void
list_rows(Step *step)
{
	for (int s = 0; s < step->batch->n_spans; s++)
	{
		L3Span	   *span = &step->batch->spans[s];

		span->first_kept = span->row;
		span->n_kept = span->n;
		for (int i = 0; i < span->n; i++)
		{
			step->ws->row_tokens[span->row + i] = span->tokens[i];
			step->ws->row_positions[span->row + i] = span->position + i;
			step->ws->row_places[span->row + i] = span->row + i;
		}
	}
	l3_attention_plan(&step->attention, l3_pool_threads(step->runner->pool));
}

bool
l3_forward(L3Runner *runner, const L3Weights *weights, const L3KvPool *kv, const L3Batch *batch)
{
	Step		step = {
		.runner = runner,
		.kernels = runner->kernels,
		.ws = &runner->ws,
		.weights = weights,
		.hp = &weights->hp,
		.kv = kv,
		.batch = batch,
		.m = batch->n_rows,
		.m_prefill = batch->n_prefill,
		.attention = {
			.kernels = runner->kernels, .hp = &weights->hp, .ws = &runner->ws, .kv = kv, .batch = batch
		}
	};

	/* x = embedding of each row's token */
	list_rows(&step);
	if (batch->n_copies > 0 && !run_phase(&step, copy_task, batch->n_copies))
		return false;
	if (!run_rows(&step, embed_task, step.m))
		return false;

	for (step.layer = 0; step.layer < weights->hp.n_layers; step.layer++)
		if (!run_layer(&step, &weights->layers[step.layer]))
			return false;

	/* the rows that someone wants */
	if (batch->n_hidden_rows > 0 && !run_rows(&step, hidden_task, batch->n_hidden_rows))
		return false;
	while (step.first_out < batch->n_logits_rows)
	{
		int			n = l3_smaller(L3_LOGITS_ROWS, batch->n_logits_rows - step.first_out);

		if (!run_logits_group(&step, n))
			return false;
		step.first_out += n;
	}
	return true;
}

/* ----------------------------------------------------------------
 *		Scratch
 * ----------------------------------------------------------------
 */

static void
raise_to(size_t *most, const L3Kernels *kernels, const L3Matrix *w, int rows)
{
	size_t		bytes = kernels->matmul_scratch_bytes(w, rows);

	if (bytes > *most)
		*most = bytes;
}

size_t
l3_forward_scratch_bytes(const L3Kernels *kernels, const L3Weights *weights, int rows)
{
	size_t		most = 0;

	raise_to(&most, kernels, &weights->output, L3_LOGITS_ROWS);
	for (uint32_t i = 0; i < weights->hp.n_layers; i++)
	{
		const L3Layer *layer = &weights->layers[i];

		raise_to(&most, kernels, &layer->wq, rows);
		raise_to(&most, kernels, &layer->wk, rows);
		raise_to(&most, kernels, &layer->wv, rows);
		raise_to(&most, kernels, &layer->wo, rows);
		raise_to(&most, kernels, &layer->w_gate, rows);
		raise_to(&most, kernels, &layer->w_up, rows);
		raise_to(&most, kernels, &layer->w_down, rows);
	}
	return most;
}
