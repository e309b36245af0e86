/*-------------------------------------------------------------------------
 *
 * attention.c
 *	  The attention of a step, cut into tasks.
 *
 * A task is up to attend_rows pairs of a token and a query head that share a KV
 * head.  A span of many tokens, a prompt's chunk, makes several.  Sequences that
 * generate have one token each, too few to be worth reading all keys and values;
 * where they begin in the same blocks, as the rows of a query behind one
 * instruction do, several spans go together, which reads these blocks once for
 * all.  With 16 sequences behind 2,000 and 4,000 tokens a step takes
 * 4 to 9 % less time for it (1B shape, 2 threads, Zen 3); with two or four
 * spans together it was no faster, so nothing is gained by merging few.
 *
 *-------------------------------------------------------------------------
 */
#include "attention.h"

/* Tasks per thread that are not merged into fewer. */
#define TASKS_PER_THREAD	4

/* (token, query head) pairs of a span that share a KV head. */
static int
span_pairs(const L3Hparams *hp, const L3Span *span)
{
	return span->n_kept * (int) (hp->n_heads / hp->n_kv_heads);
}

/* Positions that two spans begin with, in the same blocks, which neither computes: whole splits. */
static int
shared_positions(const L3Span *a, const L3Span *b)
{
	int			limit = l3_smaller(a->position, b->position);
	int			n = 0;

	while (n + L3_KV_BLOCK <= limit && a->blocks[n / L3_KV_BLOCK] == b->blocks[n / L3_KV_BLOCK])
		n += L3_KV_BLOCK;
	return n / L3_ATTN_SPLIT * L3_ATTN_SPLIT;
}

/*
 * Of the spans before this one, that with whose tasks it has most positions in
 * common, half of its own at least, and which have room for its quads.
 * *n_shared: so many positions.
 */
static L3Span *
find_together(const L3Batch *batch, L3Span *span, int max_quads, int *n_shared)
{
	L3Span	   *best = NULL;

	*n_shared = span->position / 2 > L3_ATTN_SPLIT ? span->position / 2 : L3_ATTN_SPLIT;
	for (L3Span *other = batch->spans; other < span; other++)
	{
		bool		alone = other->next_together < 0;
		int			n;

		if (other->n_quads == 0 || other->n_quads + span->n_quads > max_quads)
			continue;
		n = shared_positions(other, span);
		if (alone ? n < other->position / 2 : n < other->n_shared)
			continue;
		n = alone ? n : other->n_shared;
		if (n >= *n_shared + (best != NULL))
		{
			best = other;
			*n_shared = n;
		}
	}
	return best;
}

/*
 * Spans of few rows behind the same blocks have their attention done together,
 * if that leaves enough tasks for all threads.
 */
static void
put_together(const L3Attention *attention, int n_threads)
{
	const L3Batch *batch = attention->batch;
	int			n_quads = 0;
	int			max_quads;

	for (L3Span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
	{
		span->n_quads = l3_tasks_for(span_pairs(attention->hp, span), L3_ATTN_QUAD);
		span->next_together = -1;
		span->n_shared = 0;
		n_quads += span->n_quads;
	}
	max_quads = l3_smaller(attention->kernels->attend_rows / L3_ATTN_QUAD,
						   n_quads * (int) attention->hp->n_kv_heads / (n_threads * TASKS_PER_THREAD));
	for (L3Span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
	{
		int			n_shared;
		L3Span	   *leader = span->n_quads == 0 ? NULL : find_together(batch, span, max_quads, &n_shared);

		if (leader == NULL)
			continue;
		leader->n_shared = n_shared;
		leader->n_quads += span->n_quads;
		span->n_quads = 0;
		span->next_together = leader->next_together;
		leader->next_together = (int32_t) (span - batch->spans);
	}
}

/* Tiles of up to attend_rows pairs. */
static int
span_tiles(const L3Attention *attention, const L3Span *span)
{
	return l3_tasks_for(span->n_quads, attention->kernels->attend_rows / L3_ATTN_QUAD);
}

/* Spans whose rows are in another's tasks have the same first task as the one after them. */
static const L3Span *
span_of_task(const L3Batch *batch, int task)
{
	int			low = 0;
	int			high = batch->n_spans - 1;

	while (low < high)
	{
		int			middle = (low + high + 1) / 2;

		if (batch->spans[middle].first_task <= task)
			low = middle;
		else
			high = middle - 1;
	}
	return &batch->spans[low];
}

/* A span's rows from its pair pair0 on, for one KV head, as the next part of a call. */
static void
add_part(const L3Attention *attention, const L3Span *span, uint32_t layer, int head, int pair0, int thread,
		 L3AttendArgs *args)
{
	const L3Workspace *ws = attention->ws;
	const L3Hparams *hp = attention->hp;
	int			group = (int) (hp->n_heads / hp->n_kv_heads);
	int			n_rows = l3_smaller(attention->kernels->attend_rows, span_pairs(hp, span) - pair0);
	size_t		list = ((size_t) thread * L3_ATTN_MAX_PARTS + (size_t) args->n_parts) * (size_t) ws->max_blocks;
	const void **k_blocks = ws->k_blocks + list;
	const void **v_blocks = ws->v_blocks + list;
	int			n_keys = 0;

	for (int i = 0; i < n_rows; i++)
	{
		size_t		row = (size_t) span->first_kept + (pair0 + i) / group;
		size_t		query_head = (size_t) head * group + (pair0 + i) % group;
		int			at = args->n_rows + i;

		n_keys = ws->row_positions[row] + 1;	/* rises with i */
		args->n_keys[at] = n_keys;
		args->q[at] = ws->q + (row * hp->n_heads + query_head) * hp->head_dim;
		args->out[at] = ws->attended + (row * hp->n_heads + query_head) * hp->value_dim;
	}
	for (int b = args->n_parts == 0 ? 0 : args->n_shared / L3_KV_BLOCK; b * L3_KV_BLOCK < n_keys; b++)
	{
		k_blocks[b] = l3_kv_key_tile(attention->kv, span->blocks[b], layer, head);
		v_blocks[b] = l3_kv_value_tile(attention->kv, span->blocks[b], layer, head);
	}
	args->parts[args->n_parts++] = (L3AttendPart)
	{
		n_rows, k_blocks, v_blocks
	};
	args->n_rows += n_rows;
}

void
l3_attention_plan(L3Attention *attention, int n_threads)
{
	const L3Batch *batch = attention->batch;

	put_together(attention, n_threads);
	attention->n_tasks = 0;
	for (L3Span *span = batch->spans; span < batch->spans + batch->n_spans; span++)
	{
		span->first_task = attention->n_tasks;
		attention->n_tasks += span_tiles(attention, span) * (int) attention->hp->n_kv_heads;
	}
}

void
l3_attention_task(const L3Attention *attention, uint32_t layer, int task, int thread)
{
	const L3Span *spans = attention->batch->spans;
	const L3Span *span = span_of_task(attention->batch, task);
	int			n_tiles = span_tiles(attention, span);
	int			head = (task - span->first_task) / n_tiles;
	int			pair0 = (task - span->first_task) % n_tiles * attention->kernels->attend_rows;
	L3AttendArgs args;

	args.kv_type = attention->kv->type;
	args.head_dim = (int) attention->hp->head_dim;
	args.value_dim = (int) attention->hp->value_dim;
	args.n_rows = 0;
	args.n_parts = 0;
	args.n_shared = span->n_shared;
	add_part(attention, span, layer, head, pair0, thread, &args);
	for (int next = span->next_together; next >= 0; next = spans[next].next_together)
		add_part(attention, &spans[next], layer, head, 0, thread, &args);
	attention->kernels->attend(&args);
}
