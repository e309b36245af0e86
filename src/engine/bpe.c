/*-------------------------------------------------------------------------
 *
 * bpe.c
 *	  Byte-pair merging of one pre-token.
 *
 * Words are short, and a scan over at most 32 pairs beats any structure.  A
 * long pre-token (a megabyte of one letter is a legal text) is a doubly
 * linked list of symbols with a heap of their pairs, O(n log n).  The heap is
 * indexed: each symbol has at most one entry, for the pair that it begins,
 * and the entry is moved or removed when the pair changes.  So nothing in it
 * is stale and memory stays at 24 bytes a byte of text.
 *
 * Sennrich, Haddow, Birch, "Neural machine translation of rare words with
 * subword units", 2016; the order of merges as in GPT-2's encoder.py.
 *
 *-------------------------------------------------------------------------
 */
#include "bpe.h"

#include <stdlib.h>

#define NONE			UINT32_MAX

/* A long pre-token; all arrays have n entries, indexed by symbol. */
typedef struct LongMerge
{
	const L3Tokenizer *tok;
	uint32_t	n;
	uint32_t   *id;				/* token of the symbol */
	uint32_t   *prev;			/* neighbours, or NONE */
	uint32_t   *next;
	uint32_t   *rank;			/* of the pair (symbol, next), or L3_NO_RANK */
	uint32_t   *heap;			/* symbols, least (rank, symbol) first */
	uint32_t   *place;			/* of the symbol in heap, or NONE */
	uint32_t	heap_size;
	uint64_t	steps;
} LongMerge;

/* Symbols keep the order of the text, so ties go to the leftmost pair. */
static inline bool
before(const LongMerge *m, uint32_t a, uint32_t b)
{
	return m->rank[a] < m->rank[b] || (m->rank[a] == m->rank[b] && a < b);
}

static void
sift_up(LongMerge *m, uint32_t place, uint32_t symbol)
{
	while (place > 0)
	{
		uint32_t	parent = (place - 1) / 2;

		m->steps++;
		if (!before(m, symbol, m->heap[parent]))
			break;
		m->heap[place] = m->heap[parent];
		m->place[m->heap[place]] = place;
		place = parent;
	}
	m->heap[place] = symbol;
	m->place[symbol] = place;
}

static void
sift_down(LongMerge *m, uint32_t place, uint32_t symbol)
{
	for (;;)
	{
		uint64_t	child = (uint64_t) place * 2 + 1;

		m->steps++;
		if (child >= m->heap_size)
			break;
		if (child + 1 < m->heap_size &&
			before(m, m->heap[child + 1], m->heap[child]))
			child++;
		if (!before(m, m->heap[child], symbol))
			break;
		m->heap[place] = m->heap[child];
		m->place[m->heap[place]] = place;
		place = (uint32_t) child;
	}
	m->heap[place] = symbol;
	m->place[symbol] = place;
}

static void
heap_remove(LongMerge *m, uint32_t symbol)
{
	uint32_t	place = m->place[symbol];
	uint32_t	last;

	if (place == NONE)
		return;
	m->place[symbol] = NONE;
	last = m->heap[--m->heap_size];
	if (last == symbol)
		return;
	if (place > 0 && before(m, last, m->heap[(place - 1) / 2]))
		sift_up(m, place, last);
	else
		sift_down(m, place, last);
}

/* The pair that symbol begins has changed: look it up and place it anew. */
static void
update_pair(LongMerge *m, uint32_t symbol)
{
	uint32_t	next = m->next[symbol];

	heap_remove(m, symbol);
	m->steps++;
	m->rank[symbol] = next == NONE ? L3_NO_RANK :
		l3_tok_find_merge(m->tok, m->id[symbol], m->id[next]);
	if (m->rank[symbol] != L3_NO_RANK)
		sift_up(m, m->heap_size++, symbol);
}

static void
long_begin(LongMerge *m, const uint8_t *bytes)
{
	for (uint32_t i = 0; i < m->n; i++)
	{
		m->id[i] = m->tok->header.byte_ids[bytes[i]];
		m->prev[i] = i > 0 ? i - 1 : NONE;
		m->next[i] = i + 1 < m->n ? i + 1 : NONE;
		m->place[i] = NONE;
	}
	for (uint32_t i = 0; i < m->n; i++)
	{
		m->rank[i] = i + 1 == m->n ? L3_NO_RANK :
			l3_tok_find_merge(m->tok, m->id[i], m->id[i + 1]);
		if (m->rank[i] == L3_NO_RANK)
			continue;
		m->place[i] = m->heap_size;
		m->heap[m->heap_size++] = i;
	}
	m->steps += m->n;
	for (uint32_t i = m->heap_size / 2; i-- > 0;)
		sift_down(m, i, m->heap[i]);
}

/* Merge all there is; leaves the result at id[0 .. return value). */
static size_t
long_run(LongMerge *m)
{
	const uint32_t *products = L3_TOK_SECTION(m->tok, uint32_t, products);
	size_t		n_ids = 0;

	while (m->heap_size > 0)
	{
		uint32_t	left = m->heap[0];
		uint32_t	right = m->next[left];

		m->id[left] = products[m->rank[left]];
		heap_remove(m, right);
		m->next[left] = m->next[right];
		if (m->next[left] != NONE)
			m->prev[m->next[left]] = left;
		update_pair(m, left);
		if (m->prev[left] != NONE)
			update_pair(m, m->prev[left]);
	}
	for (uint32_t i = 0; i != NONE; i = m->next[i])
		m->id[n_ids++] = m->id[i];
	return n_ids;
}

static bool
merge_long(L3Bpe *bpe, const L3Tokenizer *tok, const uint8_t *bytes, size_t n,
		   const uint32_t **ids, size_t *n_ids)
{
	LongMerge	m = {.tok = tok,.n = (uint32_t) n};

	if (n > bpe->capacity)
	{
		if (n >= NONE || n > SIZE_MAX / (6 * sizeof(uint32_t)))
			return false;
		/* Nothing of the old contents is needed, so no realloc. */
		free(bpe->memory);
		bpe->capacity = 0;
		bpe->memory = malloc(n * 6 * sizeof(uint32_t));
		if (bpe->memory == NULL)
			return false;
		bpe->capacity = n;
	}
	m.id = bpe->memory;
	m.prev = m.id + n;
	m.next = m.prev + n;
	m.rank = m.next + n;
	m.heap = m.rank + n;
	m.place = m.heap + n;
	long_begin(&m, bytes);
	*n_ids = long_run(&m);
	*ids = m.id;
	bpe->steps += m.steps;
	return true;
}

static void
merge_short(L3Bpe *bpe, const L3Tokenizer *tok, const uint8_t *bytes, size_t n,
			const uint32_t **ids, size_t *n_ids)
{
	const uint32_t *products = L3_TOK_SECTION(tok, uint32_t, products);
	uint32_t	rank[L3_BPE_SHORT]; /* of the pair (i, i + 1) */
	uint32_t   *id = bpe->short_ids;

	for (size_t i = 0; i < n; i++)
		id[i] = tok->header.byte_ids[bytes[i]];
	for (size_t i = 0; i + 1 < n; i++)
		rank[i] = l3_tok_find_merge(tok, id[i], id[i + 1]);
	while (n > 1)
	{
		size_t		best = 0;

		for (size_t i = 1; i + 1 < n; i++)
			if (rank[i] < rank[best])
				best = i;
		bpe->steps += n;
		if (rank[best] == L3_NO_RANK)
			break;
		id[best] = products[rank[best]];
		memmove(id + best + 1, id + best + 2, (n - best - 2) * sizeof(id[0]));
		memmove(rank + best, rank + best + 1, (n - best - 2) * sizeof(rank[0]));
		n--;
		if (best + 1 < n)
			rank[best] = l3_tok_find_merge(tok, id[best], id[best + 1]);
		if (best > 0)
			rank[best - 1] = l3_tok_find_merge(tok, id[best - 1], id[best]);
	}
	*ids = id;
	*n_ids = n;
}

bool
l3_bpe_merge(L3Bpe *bpe, const L3Tokenizer *tok, const uint8_t *bytes, size_t n,
			 const uint32_t **ids, size_t *n_ids)
{
	if (n > L3_BPE_SHORT)
		return merge_long(bpe, tok, bytes, n, ids, n_ids);
	merge_short(bpe, tok, bytes, n, ids, n_ids);
	return true;
}

void
l3_bpe_free(L3Bpe *bpe)
{
	free(bpe->memory);
	bpe->memory = NULL;
	bpe->capacity = 0;
}
