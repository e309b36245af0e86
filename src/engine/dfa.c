/*-------------------------------------------------------------------------
 *
 * dfa.c
 *	  Making and combining finite automata.
 *
 * Determinizing (subset construction) and intersecting (product) are one loop:
 * a state of the new automaton is a set of numbers, found again by its content,
 * and what leads out of it is a list of edges to sets.
 *
 *-------------------------------------------------------------------------
 */
#include "dfa.h"

#include <stdlib.h>
#include <string.h>

#include "numbering.h"
#include "utf8.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define NONE			UINT32_MAX
#define MIN_CAPACITY	64

static L3Status
out_of_memory(L3Error *err)
{
	return l3_error(err, L3_ERR_MEMORY, "out of memory for an automaton");
}

static L3Status
too_large(L3Error *err)
{
	return l3_error(err, L3_ERR_LIMIT, "pattern, format or bounds need too large an automaton");
}

/* Room for one more of used elements. */
static bool
make_room(void *array, size_t element, uint32_t used, uint32_t *capacity)
{
	void	  **place = array;
	uint32_t	wanted = *capacity < MIN_CAPACITY ? MIN_CAPACITY : *capacity * 2;
	void	   *grown;

	if (used < *capacity)
		return true;
	grown = realloc(*place, wanted * element);
	if (grown == NULL)
		return false;
	*place = grown;
	*capacity = wanted;
	return true;
}

/* ----------------------------------------------------------------
 *		Nondeterministic
 * ----------------------------------------------------------------
 */

uint32_t
l3_nfa_state(L3Nfa *nfa)
{
	if (nfa->status != L3_OK)
		return 0;
	if (nfa->n_states == L3_NFA_MAX_STATES)
		nfa->status = L3_ERR_LIMIT;
	else if (!make_room(&nfa->first_edge, sizeof(uint32_t), nfa->n_states, &nfa->states_capacity))
		nfa->status = L3_ERR_MEMORY;
	if (nfa->status != L3_OK)
		return 0;
	nfa->first_edge[nfa->n_states] = NONE;
	return nfa->n_states++;
}

void
l3_nfa_edge(L3Nfa *nfa, uint32_t from, uint32_t low, uint32_t high, uint32_t to)
{
	if (nfa->status != L3_OK)
		return;
	if (nfa->n_edges == L3_DFA_MAX_EDGES)
		nfa->status = L3_ERR_LIMIT;
	else if (!make_room(&nfa->edges, sizeof(L3NfaEdge), nfa->n_edges, &nfa->edges_capacity))
		nfa->status = L3_ERR_MEMORY;
	if (nfa->status != L3_OK)
		return;
	nfa->edges[nfa->n_edges] = (L3NfaEdge) {low, high, to, nfa->first_edge[from]};
	nfa->first_edge[from] = nfa->n_edges++;
}

void
l3_nfa_skip(L3Nfa *nfa, uint32_t from, uint32_t to)
{
	l3_nfa_edge(nfa, from, 1, 0, to);
}

void
l3_nfa_free(L3Nfa *nfa)
{
	free(nfa->first_edge);
	free(nfa->edges);
	memset(nfa, 0, sizeof(*nfa));
}

/* ----------------------------------------------------------------
 *		States that are sets
 * ----------------------------------------------------------------
 */

/* An automaton that is being made: each state stands for a set of numbers. */
typedef struct Sets
{
	uint32_t   *numbers;		/* of all sets, one after another */
	uint32_t	n_numbers;
	uint32_t	numbers_capacity;
	uint32_t   *set_at;			/* set s: numbers[set_at[s] .. set_at[s + 1]) */
	uint32_t	n_sets;
	uint32_t	sets_capacity;
	L3Slots		table;			/* sets by content */
	L3DfaEdge  *edges;			/* of all sets in their order */
	uint32_t	n_edges;
	uint32_t	edges_capacity;
	uint32_t   *edges_at;		/* edges of set s begin here */
	uint32_t	n_done;			/* sets whose edges are known, or at hand */
	uint32_t	edges_at_capacity;
	uint64_t   *budget;			/* of work that may still be done */
	L3Status	status;
} Sets;

static void
sets_free(Sets *s)
{
	free(s->numbers);
	free(s->set_at);
	free(s->table.slots);
	free(s->edges);
	free(s->edges_at);
}

static L3Status
sets_error(const Sets *s, L3Error *err)
{
	return s->status == L3_ERR_MEMORY ? out_of_memory(err) : too_large(err);
}

static uint32_t
find_slot(const Sets *s, const uint32_t *set, uint32_t n)
{
	uint32_t	mask = s->table.n - 1;
	uint32_t	slot = (uint32_t) XXH3_64bits(set, n * sizeof(uint32_t)) & mask;

	for (; s->table.slots[slot] != L3_SLOT_FREE; slot = (slot + 1) & mask)
	{
		uint32_t	at = s->set_at[s->table.slots[slot]];

		if (s->set_at[s->table.slots[slot] + 1] - at == n &&
			memcmp(s->numbers + at, set, n * sizeof(uint32_t)) == 0)
			break;
	}
	return slot;
}

static bool
reserve_slot(Sets *s)
{
	bool		emptied;

	if (!l3_slots_reserve(&s->table, s->n_sets, &emptied))
		return false;
	for (uint32_t i = 0; emptied && i < s->n_sets; i++)
		s->table.slots[find_slot(s, s->numbers + s->set_at[i],
								 s->set_at[i + 1] - s->set_at[i])] = i;
	return true;
}

static bool
append_number(Sets *s, uint32_t number)
{
	if (!make_room(&s->numbers, sizeof(uint32_t), s->n_numbers, &s->numbers_capacity))
		return false;
	s->numbers[s->n_numbers++] = number;
	return true;
}

/* The state of a sorted set of n >= 1 numbers. */
static uint32_t
state_of_set(Sets *s, const uint32_t *set, uint32_t n)
{
	uint32_t	slot;

	if (s->status != L3_OK)
		return 0;
	s->status = L3_ERR_MEMORY;
	if (!reserve_slot(s) ||
		!make_room(&s->set_at, sizeof(uint32_t), s->n_sets + 1, &s->sets_capacity))
		return 0;
	s->set_at[0] = 0;
	slot = find_slot(s, set, n);
	if (s->table.slots[slot] == L3_SLOT_FREE)
	{
		if (s->n_sets == L3_DFA_MAX_STATES)
		{
			s->status = L3_ERR_LIMIT;
			return 0;
		}
		for (uint32_t i = 0; i < n; i++)
			if (!append_number(s, set[i]))
				return 0;
		s->table.slots[slot] = s->n_sets++;
		s->set_at[s->n_sets] = s->n_numbers;
	}
	s->status = L3_OK;
	return s->table.slots[slot];
}

/* The edges of the next state follow. */
static bool
begin_edges(Sets *s)
{
	if (!make_room(&s->edges_at, sizeof(uint32_t), s->n_done + 1, &s->edges_at_capacity))
		s->status = L3_ERR_MEMORY;
	else
		s->edges_at[s->n_done++] = s->n_edges;
	return s->status == L3_OK;
}

/* An edge of the state at hand; they come in the order of their code points. */
static void
add_edge(Sets *s, uint32_t low, uint32_t high, uint32_t to)
{
	L3DfaEdge  *last = s->n_edges > s->edges_at[s->n_done - 1] ? &s->edges[s->n_edges - 1] : NULL;

	if (s->status != L3_OK)
		return;
	if (last != NULL && last->to == to && last->high + 1 == low)
	{
		last->high = high;
		return;
	}
	if (s->n_edges == L3_DFA_MAX_EDGES)
		s->status = L3_ERR_LIMIT;
	else if (!make_room(&s->edges, sizeof(L3DfaEdge), s->n_edges, &s->edges_capacity))
		s->status = L3_ERR_MEMORY;
	else
		s->edges[s->n_edges++] = (L3DfaEdge) {low, high, to};
}

static void
work(Sets *s, uint64_t n)
{
	if (*s->budget >= n)
		*s->budget -= n;
	else
	{
		*s->budget = 0;
		if (s->status == L3_OK)
			s->status = L3_ERR_LIMIT;
	}
}

/* ----------------------------------------------------------------
 *		From sets to the automaton, without what leads nowhere
 * ----------------------------------------------------------------
 */

/* Mark the states that reach an accepting one; useful holds accepts at first. */
static L3Status
mark_useful(const Sets *s, uint8_t *useful)
{
	uint32_t   *from_at = calloc((size_t) s->n_sets + 2, sizeof(uint32_t));
	uint32_t   *from = malloc(((size_t) s->n_edges + 1) * sizeof(uint32_t));
	uint32_t   *stack = malloc(((size_t) s->n_sets + 1) * sizeof(uint32_t));
	uint32_t	depth = 0;
	L3Status	status = from_at != NULL && from != NULL && stack != NULL ? L3_OK : L3_ERR_MEMORY;

	if (status == L3_OK)
	{
		for (uint32_t e = 0; e < s->n_edges; e++)
			from_at[s->edges[e].to + 2]++;
		for (uint32_t q = 0; q < s->n_sets; q++)
			from_at[q + 2] += from_at[q + 1];
		for (uint32_t q = 0; q < s->n_sets; q++)
			for (uint32_t e = s->edges_at[q]; e < s->edges_at[q + 1]; e++)
				from[from_at[s->edges[e].to + 1]++] = q;
		for (uint32_t q = 0; q < s->n_sets; q++)
			if (useful[q])
				stack[depth++] = q;
		while (depth > 0)
		{
			uint32_t	q = stack[--depth];

			for (uint32_t i = from_at[q]; i < from_at[q + 1]; i++)
				if (!useful[from[i]])
				{
					useful[from[i]] = 1;
					stack[depth++] = from[i];
				}
		}
	}
	free(from_at);
	free(from);
	free(stack);
	return status;
}

void
l3_dfa_free(L3Dfa *dfa)
{
	if (dfa == NULL)
		return;
	free(dfa->first_edge);
	free(dfa->edges);
	free(dfa->accepts);
	free(dfa);
}

/* The useful states of s in their order, number (n_sets) being filled with it. */
static L3Dfa *
copy_useful(const Sets *s, const uint8_t *accepts, const uint8_t *useful, uint32_t *number)
{
	L3Dfa	   *dfa = calloc(1, sizeof(*dfa));
	uint32_t	n_edges = 0;

	if (dfa == NULL)
		return NULL;
	dfa->first_edge = malloc(((size_t) s->n_sets + 1) * sizeof(uint32_t));
	dfa->edges = malloc(((size_t) s->n_edges + 1) * sizeof(L3DfaEdge));
	dfa->accepts = malloc((size_t) s->n_sets + 1);
	if (dfa->first_edge == NULL || dfa->edges == NULL || dfa->accepts == NULL)
	{
		l3_dfa_free(dfa);
		return NULL;
	}
	for (uint32_t q = 0; q < s->n_sets; q++)
		number[q] = useful[q] ? dfa->n_states++ : NONE;
	for (uint32_t q = 0; q < s->n_sets; q++)
	{
		if (!useful[q])
			continue;
		dfa->first_edge[number[q]] = n_edges;
		dfa->accepts[number[q]] = accepts[q];
		for (uint32_t e = s->edges_at[q]; e < s->edges_at[q + 1]; e++)
			if (useful[s->edges[e].to])
				dfa->edges[n_edges++] = (L3DfaEdge) {s->edges[e].low, s->edges[e].high,
				number[s->edges[e].to]};
	}
	dfa->first_edge[dfa->n_states] = n_edges;
	return dfa;
}

/*
 * The automaton of s, whose state q accepts where accepts[q] is 1.  A start that
 * is not useful makes all others unreachable, hence the empty automaton.
 */
static L3Status
finish_sets(Sets *s, const uint8_t *accepts, L3Dfa **dfa, L3Error *err)
{
	uint8_t    *useful = calloc((size_t) s->n_sets + 1, 1);
	uint32_t   *number = malloc(((size_t) s->n_sets + 1) * sizeof(uint32_t));

	*dfa = NULL;
	if (useful != NULL && number != NULL)
	{
		memcpy(useful, accepts, s->n_sets);
		if (mark_useful(s, useful) == L3_OK)
		{
			if (!useful[0])
				memset(useful, 0, s->n_sets);
			*dfa = copy_useful(s, accepts, useful, number);
		}
	}
	free(useful);
	free(number);
	return *dfa != NULL ? L3_OK : out_of_memory(err);
}

/* ----------------------------------------------------------------
 *		Subset construction
 * ----------------------------------------------------------------
 */

typedef struct Subset
{
	Sets		sets;
	const L3Nfa *nfa;
	uint32_t	end;
	uint32_t   *seen;			/* round in which a state was met (n_states) */
	uint32_t	round;
	uint32_t   *stack;			/* (n_states) */
	uint32_t   *set;			/* being collected (n_states) */
	uint32_t	n_set;
	L3NfaEdge  *out;			/* edges that lead out of the set at hand (n_edges) */
	uint32_t	n_out;
	uint32_t   *cuts;			/* where the targets change (2 * n_edges) */
} Subset;

/* Add state and what it reaches without a code point to the set. */
static void
close_over(Subset *b, uint32_t state)
{
	uint32_t	depth = 0;

	if (b->seen[state] == b->round)
		return;
	b->seen[state] = b->round;
	b->stack[depth++] = state;
	while (depth > 0)
	{
		uint32_t	q = b->stack[--depth];
		bool		reads = q == b->end;

		for (uint32_t e = b->nfa->first_edge[q]; e != NONE; e = b->nfa->edges[e].next)
		{
			const L3NfaEdge *edge = &b->nfa->edges[e];

			work(&b->sets, 1);
			if (edge->low <= edge->high)
				reads = true;
			else if (b->seen[edge->to] != b->round)
			{
				b->seen[edge->to] = b->round;
				b->stack[depth++] = edge->to;
			}
		}
		if (reads)
			b->set[b->n_set++] = q;
	}
}

/* The edges out of set q, and the code points where what they reach changes. */
static uint32_t
collect_edges(Subset *b, uint32_t q)
{
	uint32_t	n_cuts = 0;

	b->n_out = 0;
	for (uint32_t i = b->sets.set_at[q]; i < b->sets.set_at[q + 1]; i++)
	{
		uint32_t	state = b->sets.numbers[i];

		for (uint32_t e = b->nfa->first_edge[state]; e != NONE; e = b->nfa->edges[e].next)
		{
			const L3NfaEdge *edge = &b->nfa->edges[e];

			if (edge->low > edge->high)
				continue;
			b->out[b->n_out++] = *edge;
			b->cuts[n_cuts++] = edge->low;
			b->cuts[n_cuts++] = edge->high + 1;
		}
	}
	return l3_sort_unique(b->cuts, n_cuts);
}

static void
expand_set(Subset *b, uint32_t q)
{
	uint32_t	n_cuts = collect_edges(b, q);

	for (uint32_t c = 0; c + 1 < n_cuts && b->sets.status == L3_OK; c++)
	{
		b->round++;
		b->n_set = 0;
		work(&b->sets, b->n_out);
		for (uint32_t i = 0; i < b->n_out; i++)
			if (b->out[i].low <= b->cuts[c] && b->out[i].high >= b->cuts[c])
				close_over(b, b->out[i].to);
		if (b->n_set > 0)
			add_edge(&b->sets, b->cuts[c], b->cuts[c + 1] - 1,
					 state_of_set(&b->sets, b->set, l3_sort_unique(b->set, b->n_set)));
	}
}

static bool
subset_begin(Subset *b, const L3Nfa *nfa, uint32_t end, uint64_t *budget)
{
	memset(b, 0, sizeof(*b));
	b->nfa = nfa;
	b->end = end;
	b->sets.budget = budget;
	b->seen = calloc((size_t) nfa->n_states + 1, sizeof(uint32_t));
	b->stack = malloc(((size_t) nfa->n_states + 1) * sizeof(uint32_t));
	b->set = malloc(((size_t) nfa->n_states + 1) * sizeof(uint32_t));
	b->out = malloc(((size_t) nfa->n_edges + 1) * sizeof(L3NfaEdge));
	b->cuts = malloc(((size_t) nfa->n_edges + 1) * 2 * sizeof(uint32_t));
	return b->seen != NULL && b->stack != NULL && b->set != NULL && b->out != NULL &&
		b->cuts != NULL;
}

static void
subset_end(Subset *b)
{
	free(b->seen);
	free(b->stack);
	free(b->set);
	free(b->out);
	free(b->cuts);
	sets_free(&b->sets);
}

static L3Status
subset_accepts(const Subset *b, L3Dfa **dfa, L3Error *err)
{
	uint8_t    *accepts = calloc((size_t) b->sets.n_sets + 1, 1);
	Sets		sets = b->sets;
	L3Status	status;

	if (accepts == NULL)
		return out_of_memory(err);
	for (uint32_t q = 0; q < sets.n_sets; q++)
		for (uint32_t i = sets.set_at[q]; i < sets.set_at[q + 1]; i++)
			accepts[q] |= sets.numbers[i] == b->end;
	status = finish_sets(&sets, accepts, dfa, err);
	free(accepts);
	return status;
}

L3Status
l3_nfa_determinize(const L3Nfa *nfa, uint32_t start, uint32_t end, uint64_t *budget,
				   L3Dfa **dfa, L3Error *err)
{
	Subset		b;
	L3Status	status;

	*dfa = NULL;
	if (nfa->status != L3_OK)
		return nfa->status == L3_ERR_MEMORY ? out_of_memory(err) : too_large(err);
	if (!subset_begin(&b, nfa, end, budget))
		b.sets.status = L3_ERR_MEMORY;
	else
	{
		b.round = 1;
		close_over(&b, start);
		/* A start that reads nothing is a set of itself. */
		if (b.n_set == 0)
			b.set[b.n_set++] = start;
		state_of_set(&b.sets, b.set, l3_sort_unique(b.set, b.n_set));
		while (b.sets.status == L3_OK && b.sets.n_done < b.sets.n_sets)
			if (begin_edges(&b.sets))
				expand_set(&b, b.sets.n_done - 1);
		if (b.sets.status == L3_OK)
			begin_edges(&b.sets);	/* the end of the last one's */
	}
	status = b.sets.status == L3_OK ? subset_accepts(&b, dfa, err) : sets_error(&b.sets, err);
	subset_end(&b);
	return status;
}

/* ----------------------------------------------------------------
 *		Lengths, and what is in both
 * ----------------------------------------------------------------
 */

L3Status
l3_dfa_of_length(uint32_t min, uint32_t max, uint64_t *budget, L3Dfa **dfa, L3Error *err)
{
	L3Nfa		nfa = {0};
	uint32_t	last = max == L3_GRAMMAR_UNBOUNDED ? min : max;
	uint32_t	start = l3_nfa_state(&nfa);
	uint32_t	end = l3_nfa_state(&nfa);
	uint32_t	state = start;
	L3Status	status;

	for (uint32_t length = 0; nfa.status == L3_OK; length++)
	{
		uint32_t	next;

		if (length >= min)
			l3_nfa_skip(&nfa, state, end);
		if (length == last)
			break;
		next = l3_nfa_state(&nfa);
		l3_nfa_edge(&nfa, state, 0, L3_CHAR_MAX, next);
		state = next;
	}
	if (max == L3_GRAMMAR_UNBOUNDED)
		l3_nfa_edge(&nfa, state, 0, L3_CHAR_MAX, state);
	status = l3_nfa_determinize(&nfa, start, end, budget, dfa, err);
	l3_nfa_free(&nfa);
	return status;
}

/* The state of a pair; order matters here, so the set is not sorted. */
static uint32_t
state_of_pair(Sets *s, uint32_t a, uint32_t b)
{
	uint32_t	pair[2] = {a, b};

	return state_of_set(s, pair, 2);
}

static void
expand_pair(Sets *s, const L3Dfa *a, const L3Dfa *b)
{
	uint32_t	q = s->n_done - 1;
	uint32_t	qa = s->numbers[s->set_at[q]];
	uint32_t	qb = s->numbers[s->set_at[q] + 1];
	uint32_t	i = a->first_edge[qa];
	uint32_t	j = b->first_edge[qb];

	while (i < a->first_edge[qa + 1] && j < b->first_edge[qb + 1] && s->status == L3_OK)
	{
		const L3DfaEdge *x = &a->edges[i];
		const L3DfaEdge *y = &b->edges[j];
		uint32_t	low = x->low > y->low ? x->low : y->low;
		uint32_t	high = x->high < y->high ? x->high : y->high;

		work(s, 1);
		if (low <= high)
			add_edge(s, low, high, state_of_pair(s, x->to, y->to));
		if (x->high <= y->high)
			i++;
		else
			j++;
	}
}

L3Status
l3_dfa_intersect(const L3Dfa *a, const L3Dfa *b, uint64_t *budget, L3Dfa **both, L3Error *err)
{
	Sets		s = {.budget = budget};
	uint8_t    *accepts = NULL;
	L3Status	status;

	*both = NULL;
	if (a->n_states > 0 && b->n_states > 0)
		state_of_pair(&s, 0, 0);
	while (s.status == L3_OK && s.n_done < s.n_sets)
		if (begin_edges(&s))
			expand_pair(&s, a, b);
	if (s.status == L3_OK)
		begin_edges(&s);
	accepts = calloc((size_t) s.n_sets + 1, 1);
	if (s.status != L3_OK)
		status = sets_error(&s, err);
	else if (accepts == NULL)
		status = out_of_memory(err);
	else
	{
		for (uint32_t q = 0; q < s.n_sets; q++)
			accepts[q] = a->accepts[s.numbers[s.set_at[q]]] &&
				b->accepts[s.numbers[s.set_at[q] + 1]];
		status = finish_sets(&s, accepts, both, err);
	}
	free(accepts);
	sets_free(&s);
	return status;
}

/* Breadth first, with room for all states in queue and length (0 at first). */
static uint32_t
shortest_text(const L3Dfa *dfa, uint32_t *queue, uint32_t *length)
{
	uint32_t	n_queue = dfa->n_states > 0;

	queue[0] = 0;
	for (uint32_t i = 0; i < n_queue; i++)
	{
		uint32_t	q = queue[i];

		if (dfa->accepts[q])
			return length[q];
		for (uint32_t e = dfa->first_edge[q]; e < dfa->first_edge[q + 1]; e++)
		{
			uint32_t	to = dfa->edges[e].to;

			if (to == 0 || length[to] > 0)
				continue;
			length[to] = length[q] + 1;
			queue[n_queue++] = to;
		}
	}
	return L3_GRAMMAR_UNBOUNDED;
}

/*
 * The longest, in topological order: a state is done when all that lead to it
 * are.  What is on a circle never is, and every state is on the way to an end.
 */
L3Status
l3_dfa_lengths(const L3Dfa *dfa, uint32_t *shortest, uint32_t *longest, L3Error *err)
{
	uint32_t   *n_before = calloc((size_t) dfa->n_states + 1, sizeof(uint32_t));
	uint32_t   *order = malloc(((size_t) dfa->n_states + 1) * sizeof(uint32_t));
	uint32_t   *length = calloc((size_t) dfa->n_states + 1, sizeof(uint32_t));
	uint32_t	n_done = 0;
	uint32_t	n_order = 0;

	if (n_before == NULL || order == NULL || length == NULL)
	{
		free(n_before);
		free(order);
		free(length);
		return out_of_memory(err);
	}
	*shortest = shortest_text(dfa, order, length);
	*longest = 0;
	memset(length, 0, dfa->n_states * sizeof(uint32_t));
	for (uint32_t e = 0; dfa->n_states > 0 && e < dfa->first_edge[dfa->n_states]; e++)
		n_before[dfa->edges[e].to]++;
	if (dfa->n_states > 0 && n_before[0] == 0)
		order[n_order++] = 0;
	for (; n_done < n_order; n_done++)
	{
		uint32_t	q = order[n_done];

		if (dfa->accepts[q] && length[q] > *longest)
			*longest = length[q];
		for (uint32_t e = dfa->first_edge[q]; e < dfa->first_edge[q + 1]; e++)
		{
			uint32_t	to = dfa->edges[e].to;

			if (length[q] + 1 > length[to])
				length[to] = length[q] + 1;
			if (--n_before[to] == 0)
				order[n_order++] = to;
		}
	}
	if (n_done < dfa->n_states)
		*longest = L3_GRAMMAR_UNBOUNDED;
	free(n_before);
	free(order);
	free(length);
	return L3_OK;
}

bool
l3_dfa_matches(const L3Dfa *dfa, const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *) text;
	uint32_t	state = 0;

	if (dfa->n_states == 0)
		return false;
	for (size_t i = 0; i < len;)
	{
		uint32_t	cp;
		uint32_t	to = NONE;

		i += l3_utf8_decode(p + i, len - i, &cp);
		for (uint32_t e = dfa->first_edge[state]; e < dfa->first_edge[state + 1]; e++)
			if (dfa->edges[e].low <= cp && cp <= dfa->edges[e].high)
				to = dfa->edges[e].to;
		if (to == NONE)
			return false;
		state = to;
	}
	return dfa->accepts[state];
}
