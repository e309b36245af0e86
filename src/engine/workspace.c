/*-------------------------------------------------------------------------
 *
 * workspace.c
 *	  The buffers of a forward step, laid out once for the largest step.
 *
 *-------------------------------------------------------------------------
 */
#include "workspace.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/kernels.h"
#include "placement.h"

#define CACHE_LINE			((size_t) 64)
#define HUGE_PAGE_BYTES		((size_t) 2 << 20)

static size_t
round_up(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static size_t
larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

int
l3_workspace_rows(const L3EngineOptions *options)
{
	size_t		rows = larger((size_t) options->batch_tokens,
							  (size_t) options->max_sequences + L3_MIN_PREFILL_ROWS);

	return (int) round_up(rows, L3_ACT_TILE);
}

int
l3_max_context(const L3Hparams *hparams, const L3EngineOptions *options)
{
	int			n = (int) hparams->n_ctx_train;

	if (options->max_context > 0 && options->max_context < n)
		n = options->max_context;
	return n;
}

/* Per row and group of 32: 32 int8, a float and two int32. */
size_t
l3_workspace_act_bytes(size_t rows, size_t k)
{
	return round_up(rows, L3_ACT_TILE) * (round_up(k, L3_ACT_GROUP) / L3_ACT_GROUP) *
		(L3_ACT_GROUP + sizeof(float) + 2 * sizeof(int32_t));
}

/* Widest input of any matrix. */
static size_t
widest_input(const L3Hparams *hp)
{
	return larger(larger(hp->n_embd, hp->n_ff), (size_t) hp->n_heads * hp->value_dim);
}

/* Hand out the next part of the memory; without memory only count. */
static void *
take(L3Workspace *ws, size_t bytes)
{
	void	   *part = ws->memory == NULL ? NULL : (uint8_t *) ws->memory + ws->bytes;

	ws->bytes += round_up(bytes, CACHE_LINE);
	return part;
}

size_t
l3_workspace_lay_out(const L3Hparams *hp, const L3EngineOptions *options, size_t scratch_bytes,
					 void *memory, L3Workspace *ws)
{
	size_t		rows = (size_t) l3_workspace_rows(options);
	size_t		threads = (size_t) options->n_threads;
	size_t		blocks = ((size_t) l3_max_context(hp, options) + L3_KV_BLOCK - 1) / L3_KV_BLOCK;
	size_t		f = sizeof(float);

	memset(ws, 0, sizeof(*ws));
	ws->memory = memory;
	ws->max_rows = (int) rows;
	ws->max_blocks = (int) blocks;
	ws->scratch_bytes = round_up(scratch_bytes, CACHE_LINE);

	ws->row_tokens = take(ws, rows * sizeof(int32_t));
	ws->row_positions = take(ws, rows * sizeof(int32_t));
	ws->row_places = take(ws, rows * sizeof(int32_t));
	ws->x = take(ws, rows * hp->n_embd * f);
	ws->normed = take(ws, rows * hp->n_embd * f);
	ws->q = take(ws, rows * hp->n_heads * hp->head_dim * f);
	ws->k = take(ws, rows * hp->n_kv_heads * hp->head_dim * f);
	ws->v = take(ws, rows * hp->n_kv_heads * hp->value_dim * f);
	ws->attended = take(ws, rows * hp->n_heads * hp->value_dim * f);
	ws->gate = take(ws, rows * hp->n_ff * f);
	ws->up = take(ws, rows * hp->n_ff * f);
	ws->cosine = take(ws, rows * (hp->rope_dim / 2) * f);
	ws->sine = take(ws, rows * (hp->rope_dim / 2) * f);
	ws->act = take(ws, l3_workspace_act_bytes(rows, widest_input(hp)));

	ws->out_normed = take(ws, (size_t) L3_LOGITS_ROWS * hp->n_embd * f);
	ws->out_act = take(ws, l3_workspace_act_bytes(L3_LOGITS_ROWS, hp->n_embd));
	ws->logits = take(ws, (size_t) L3_LOGITS_ROWS * hp->n_vocab * f);

	ws->scratch = take(ws, threads * ws->scratch_bytes);
	ws->k_blocks = take(ws, threads * L3_ATTN_MAX_PARTS * blocks * sizeof(void *));
	ws->v_blocks = take(ws, threads * L3_ATTN_MAX_PARTS * blocks * sizeof(void *));
	ws->candidates = take(ws, threads * hp->n_vocab * sizeof(L3Candidate));
	return ws->bytes;
}

uint64_t
l3_workspace_bytes(const L3Hparams *hparams, const L3EngineOptions *options)
{
	L3Workspace ws;

	return round_up(l3_workspace_lay_out(hparams, options, l3_scratch_bound(widest_input(hparams)),
										 NULL, &ws),
					HUGE_PAGE_BYTES);
}

L3Status
l3_workspace_alloc(size_t bytes, uint64_t nodes, void **memory, L3Error *err)
{
	bytes = round_up(bytes, HUGE_PAGE_BYTES);
	if (posix_memalign(memory, HUGE_PAGE_BYTES, bytes) != 0)
		return l3_error(err, L3_ERR_MEMORY, "could not get %zu bytes of working memory", bytes);
#ifdef MADV_HUGEPAGE
	/* without huge pages it is only slower */
	(void) madvise(*memory, bytes, MADV_HUGEPAGE);
#endif
	l3_numa_interleave(*memory, bytes, nodes);
	memset(*memory, 0, bytes);
	return L3_OK;
}
