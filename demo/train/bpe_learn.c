/*-------------------------------------------------------------------------
 *
 * bpe_learn.c
 *	  Learning a byte-level BPE vocabulary from documents.
 *
 * Sennrich, Haddow, Birch, "Neural machine translation of rare words with
 * subword units", 2016: again and again the most frequent pair of neighbours
 * becomes a token.  Neighbours are counted within pre-tokens, each different
 * pre-token once with its frequency.
 *
 * Counts are kept, not counted anew: a merge touches the words that have the
 * pair, and those are listed with it.  A heap orders the pairs.  It is lazy:
 * the count of a pair only falls once the step is over in which its newer
 * token was made, so what stands in the heap is never too low, and an entry
 * that is too high is put back with what the count is now.
 *
 * No two pairs give the same text: as long as no merge crosses the borders of
 * a stretch of text, what is merged inside depends on the stretch alone, and
 * so the last two parts of it are always the same.
 *
 *-------------------------------------------------------------------------
 */
#include "alphabet.h"
#include "documents.h"
#include "intern.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

#include "pretokenize.h"

/* A pair that occurs once is not worth a token. */
#define MIN_COUNT	2

/* A different pre-token. */
typedef struct Word
{
	int64_t		count;
	size_t		first;			/* of its symbols */
	uint32_t	n;				/* symbols now */
} Word;

typedef struct Pair
{
	int32_t		left;
	int32_t		right;
	int64_t		count;			/* of places in the documents */
	uint32_t   *words;			/* that have it or had it; ascending */
	uint32_t	n_words;
	uint32_t	capacity;
	bool		queued;			/* is in the heap, or was and is done */
} Pair;

typedef struct Entry
{
	int64_t		count;			/* the pair's count or more */
	uint32_t	pair;
} Entry;

typedef struct Learner
{
	Word	   *words;			/* (n_words) */
	uint32_t	n_words;
	int32_t    *symbols;		/* of all words, one after another */

	Pair	   *pairs;			/* (n_pairs) */
	uint32_t	n_pairs;
	uint32_t	pair_capacity;
	uint32_t   *slots;			/* (n_slots) pair + 1, 0: empty */
	uint32_t	n_slots;

	Entry	   *heap;
	uint32_t	heap_size;
	uint32_t	heap_capacity;

	TrIntern	tokens;			/* their bytes; number = id */
} Learner;

/* The array, with room for one more than n. */
static void *
reserve(void *array, uint32_t n, uint32_t *capacity, size_t size)
{
	if (n < *capacity)
		return array;
	*capacity = *capacity * 2 + 4;
	array = realloc(array, *capacity * size);
	if (array == NULL)
		tr_fail("out of memory for a vocabulary");
	return array;
}

/* ----------------------------------------------------------------
 *		Words
 * ----------------------------------------------------------------
 */

/* The different pre-tokens of all texts, and how often each is there. */
static void
count_words(const char *path, TrIntern *set, int64_t **counts)
{
	TrDocuments docs;
	uint32_t	capacity = 0;

	*counts = NULL;
	tr_documents_open(&docs, path);
	while (tr_documents_next(&docs))
	{
		for (int i = 0; i < docs.n_fields; i++)
		{
			size_t		pos = 0;
			TrRun		run;

			while (tr_next_run(docs.fields[i].text, docs.fields[i].len, &pos, &run))
			{
				L3Splitter	splitter;
				size_t		start;
				size_t		len;

				if (run.special >= 0)
					continue;
				l3_split_begin(&splitter, L3_PRE_LLAMA_BPE, run.text, run.len);
				while (l3_split_next(&splitter, &start, &len))
				{
					bool		added;
					uint32_t	word = tr_intern(set, run.text + start, len, &added);

					if (added)
					{
						*counts = reserve(*counts, word, &capacity, sizeof(**counts));
						(*counts)[word] = 0;
					}
					(*counts)[word]++;
				}
			}
		}
	}
	tr_documents_close(&docs);
}

static void
make_words(Learner *l, const TrIntern *set, const int64_t *counts)
{
	uint8_t		byte_of_id[TR_N_BYTES];
	int32_t		id_of_byte[TR_N_BYTES];

	tr_byte_ids(byte_of_id);
	for (int id = 0; id < TR_N_BYTES; id++)
	{
		id_of_byte[byte_of_id[id]] = id;
		tr_intern(&l->tokens, (const char *) &byte_of_id[id], 1, NULL);
	}
	l->n_words = set->n;
	l->words = tr_alloc((set->n + 1) * sizeof(Word));
	l->symbols = tr_alloc((set->n_bytes + 1) * sizeof(int32_t));
	for (uint32_t i = 0; i < set->n; i++)
		l->words[i] = (Word)
	{
		.count = counts[i],.first = set->strings[i].offset,.n = set->strings[i].len
	};
	for (size_t i = 0; i < set->n_bytes; i++)
		l->symbols[i] = id_of_byte[(uint8_t) set->bytes[i]];
}

/* ----------------------------------------------------------------
 *		Pairs
 * ----------------------------------------------------------------
 */

static uint32_t
pair_hash(int32_t left, int32_t right)
{
	return (uint32_t) (((uint64_t) left << 32 | (uint32_t) right) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

static void
place_pair(Learner *l, uint32_t pair)
{
	uint32_t	slot = pair_hash(l->pairs[pair].left, l->pairs[pair].right) & (l->n_slots - 1);

	while (l->slots[slot] != 0)
		slot = (slot + 1) & (l->n_slots - 1);
	l->slots[slot] = pair + 1;
}

/* Number of the pair, made when it is new. */
static uint32_t
find_pair(Learner *l, int32_t left, int32_t right)
{
	uint32_t	slot;

	if ((uint64_t) l->n_pairs * 2 >= l->n_slots)
	{
		l->n_slots = l->n_slots == 0 ? 1 << 16 : l->n_slots * 2;
		free(l->slots);
		l->slots = tr_alloc(l->n_slots * sizeof(*l->slots));
		for (uint32_t i = 0; i < l->n_pairs; i++)
			place_pair(l, i);
	}
	slot = pair_hash(left, right) & (l->n_slots - 1);
	while (l->slots[slot] != 0)
	{
		const Pair *pair = &l->pairs[l->slots[slot] - 1];

		if (pair->left == left && pair->right == right)
			return l->slots[slot] - 1;
		slot = (slot + 1) & (l->n_slots - 1);
	}
	l->pairs = reserve(l->pairs, l->n_pairs, &l->pair_capacity, sizeof(Pair));
	l->pairs[l->n_pairs] = (Pair)
	{
		.left = left,.right = right
	};
	l->slots[slot] = ++l->n_pairs;
	return l->n_pairs - 1;
}

/* Add the word's pairs to the counts, or with sign -1 take them away. */
static void
count_pairs(Learner *l, uint32_t word, int sign)
{
	const Word *w = &l->words[word];
	const int32_t *symbols = l->symbols + w->first;

	for (uint32_t i = 0; i + 1 < w->n; i++)
	{
		/* First the number: finding it may move the array. */
		uint32_t	number = find_pair(l, symbols[i], symbols[i + 1]);
		Pair	   *pair = &l->pairs[number];

		pair->count += sign * w->count;
		/* Later steps make no new places of a pair: its list is complete. */
		if (pair->queued || sign < 0 ||
			(pair->n_words > 0 && pair->words[pair->n_words - 1] == word))
			continue;
		pair->words = reserve(pair->words, pair->n_words, &pair->capacity, sizeof(*pair->words));
		pair->words[pair->n_words++] = word;
	}
}

/* ----------------------------------------------------------------
 *		The heap
 * ----------------------------------------------------------------
 */

/* Greatest count first; ties to the pair that is smaller by ids. */
static bool
before(const Learner *l, Entry a, Entry b)
{
	const Pair *x = &l->pairs[a.pair];
	const Pair *y = &l->pairs[b.pair];

	if (a.count != b.count)
		return a.count > b.count;
	return x->left < y->left || (x->left == y->left && x->right < y->right);
}

static void
heap_push(Learner *l, uint32_t pair)
{
	Entry		entry = {l->pairs[pair].count, pair};
	uint32_t	at;

	l->heap = reserve(l->heap, l->heap_size, &l->heap_capacity, sizeof(Entry));
	at = l->heap_size++;
	while (at > 0 && before(l, entry, l->heap[(at - 1) / 2]))
	{
		l->heap[at] = l->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	l->heap[at] = entry;
	l->pairs[pair].queued = true;
}

static Entry
heap_pop(Learner *l)
{
	Entry		top = l->heap[0];
	Entry		last = l->heap[--l->heap_size];
	uint32_t	at = 0;

	for (;;)
	{
		uint32_t	child = at * 2 + 1;

		if (child >= l->heap_size)
			break;
		if (child + 1 < l->heap_size && before(l, l->heap[child + 1], l->heap[child]))
			child++;
		if (!before(l, l->heap[child], last))
			break;
		l->heap[at] = l->heap[child];
		at = child;
	}
	l->heap[at] = last;
	return top;
}

/* ----------------------------------------------------------------
 *		Merging
 * ----------------------------------------------------------------
 */

/* Put the pair's bytes in as the next token. */
static void
make_token(Learner *l, const Pair *pair)
{
	TrString	left = l->tokens.strings[pair->left];
	TrString	right = l->tokens.strings[pair->right];
	char	   *bytes = tr_alloc(left.len + right.len);

	memcpy(bytes, l->tokens.bytes + left.offset, left.len);
	memcpy(bytes + left.len, l->tokens.bytes + right.offset, right.len);
	tr_intern(&l->tokens, bytes, left.len + right.len, NULL);
	free(bytes);
}

/* Take the best pair; false when none is left. */
static bool
next_merge(Learner *l, uint32_t *merged)
{
	while (l->heap_size > 0)
	{
		Entry		top = heap_pop(l);

		if (l->pairs[top.pair].count < MIN_COUNT)
			continue;
		if (l->pairs[top.pair].count < top.count)
		{
			heap_push(l, top.pair);
			continue;
		}
		*merged = top.pair;
		return true;
	}
	return false;
}

/* Replace the pair in one word, from the left. */
static void
merge_in_word(Learner *l, uint32_t word, int32_t left, int32_t right, int32_t id)
{
	Word	   *w = &l->words[word];
	int32_t    *symbols = l->symbols + w->first;
	uint32_t	n = 0;

	for (uint32_t i = 0; i < w->n; i++)
	{
		if (i + 1 < w->n && symbols[i] == left && symbols[i + 1] == right)
		{
			symbols[n++] = id;
			i++;
		}
		else
			symbols[n++] = symbols[i];
	}
	w->n = n;
}

static void
apply_merge(Learner *l, uint32_t merged, int32_t id)
{
	Pair		pair = l->pairs[merged];
	uint32_t	first_new = l->n_pairs;

	for (uint32_t i = 0; i < pair.n_words; i++)
	{
		count_pairs(l, pair.words[i], -1);
		merge_in_word(l, pair.words[i], pair.left, pair.right, id);
		count_pairs(l, pair.words[i], 1);
	}
	make_token(l, &pair);
	free(pair.words);
	l->pairs[merged].words = NULL;
	l->pairs[merged].n_words = 0;
	for (uint32_t i = first_new; i < l->n_pairs; i++)
		heap_push(l, i);
}

/* A token in GPT-2's alphabet. */
static void
write_token(TrOutput *out, const TrIntern *tokens, int32_t id)
{
	for (uint32_t i = 0; i < tokens->strings[id].len; i++)
	{
		char		character[2];
		int			n = tr_byte_character((uint8_t) tokens->bytes[tokens->strings[id].offset + i],
										  character);

		tr_output_write(out, character, (size_t) n);
	}
}

static void
free_learner(Learner *l)
{
	for (uint32_t i = 0; i < l->n_pairs; i++)
		free(l->pairs[i].words);
	free(l->words);
	free(l->symbols);
	free(l->pairs);
	free(l->slots);
	free(l->heap);
	tr_intern_free(&l->tokens);
}

/* The pairs in the order in which they are merged: merges (n_merges). */
static void
learn(Learner *l, const char *documents, uint32_t *merges, int n_merges)
{
	TrIntern	set = {0};
	int64_t    *counts;

	count_words(documents, &set, &counts);
	make_words(l, &set, counts);
	tr_intern_free(&set);
	free(counts);
	for (uint32_t i = 0; i < l->n_words; i++)
		count_pairs(l, i, 1);
	for (uint32_t i = 0; i < l->n_pairs; i++)
		heap_push(l, i);
	for (int i = 0; i < n_merges; i++)
	{
		if (!next_merge(l, &merges[i]))
			tr_fail("documents \"%s\" give only %d tokens", documents,
					TR_N_BYTES + i + TR_N_SPECIALS);
		apply_merge(l, merges[i], TR_N_BYTES + i);
	}
}

void
tr_vocab_learn(const char *documents, int n_tokens, const char *path)
{
	int			n_merges = n_tokens - TR_N_BYTES - TR_N_SPECIALS;
	Learner		l = {0};
	uint32_t   *merges;
	TrOutput	out;

	if (n_merges < 0 || n_tokens > UINT16_MAX + 1)
		tr_fail("invalid number of tokens %d, expected %d to %d",
				n_tokens, TR_N_BYTES + TR_N_SPECIALS, UINT16_MAX + 1);
	merges = tr_alloc((size_t) (n_merges + 1) * sizeof(*merges));
	learn(&l, documents, merges, n_merges);

	tr_output_begin(&out, path);
	for (int i = 0; i < n_merges; i++)
	{
		write_token(&out, &l.tokens, l.pairs[merges[i]].left);
		tr_output_write(&out, " ", 1);
		write_token(&out, &l.tokens, l.pairs[merges[i]].right);
		tr_output_write(&out, "\n", 1);
	}
	tr_output_commit(&out);
	free(merges);
	free_learner(&l);
}
