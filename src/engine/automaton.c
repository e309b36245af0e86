/*-------------------------------------------------------------------------
 *
 * automaton.c
 *	  Following a grammar byte by byte: stacks, states and steps.
 *
 * automaton.h has the idea.  A step takes the stacks of a state whose top
 * accepts the byte, and expands what is left of them until every top waits for
 * a byte again (expand_all).  An element that was expanded in a step is not
 * expanded again, which keeps shared nodes and empty loops from multiplying.
 *
 *-------------------------------------------------------------------------
 */
#include "automaton.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Elements that one step may expand. */
#define MAX_EXPANDED	((size_t) 1 << 20)

#define FIRST_ELEMENTS	1024
#define FIRST_STATES	256

/* What is below the last element of a stack. */
#define BOTTOM			0

/* ----------------------------------------------------------------
 *		Memory
 * ----------------------------------------------------------------
 */

static L3Status
out_of_memory(L3Error *err)
{
	return l3_error(err, L3_ERR_MEMORY, "out of memory for the states of a grammar");
}

/* Make *array of elements of size bytes hold at least n; false without memory. */
static bool
reserve(void *array, size_t *capacity, size_t n, size_t size)
{
	size_t		more = *capacity;
	void	   *grown;

	if (n <= more)
		return true;
	while (more < n)
		more = more < 64 ? 64 : more * 2;
	if (more > SIZE_MAX / size)
		return false;
	grown = realloc(*(void **) array, more * size);
	if (grown == NULL)
		return false;
	*(void **) array = grown;
	*capacity = more;
	return true;
}

/* Forget all elements and states. */
static void
empty_tables(L3Automaton *a)
{
	memset(a->element_table, 0, a->element_slots * sizeof(uint32_t));
	memset(a->state_table, 0, a->state_slots * sizeof(uint32_t));
	a->n_elements = 1;
	a->n_states = 1;
	a->n_stacks = 0;
	a->start = L3_STATE_UNKNOWN;
	a->effort = 0;
	a->epoch++;
}

L3Status
l3_automaton_prepare(L3Automaton *a, L3Error *err)
{
	a->cap_elements = FIRST_ELEMENTS;
	a->cap_states = FIRST_STATES;
	a->element_slots = FIRST_ELEMENTS * 2;
	a->state_slots = FIRST_STATES * 2;
	a->elements = malloc(a->cap_elements * sizeof(L3Element));
	a->stamps = malloc(a->cap_elements * sizeof(uint64_t));
	a->element_table = malloc(a->element_slots * sizeof(uint32_t));
	a->states = calloc(a->cap_states, sizeof(L3State));
	a->steps = calloc((size_t) a->cap_states * a->n_classes, sizeof(uint32_t));
	a->step_efforts = malloc((size_t) a->cap_states * a->n_classes);
	a->state_table = malloc(a->state_slots * sizeof(uint32_t));
	if (!a->elements || !a->stamps || !a->element_table || !a->states || !a->steps ||
		!a->step_efforts || !a->state_table || !reserve(&a->stacks, &a->cap_stacks, FIRST_STATES, sizeof(uint32_t)))
		return out_of_memory(err);
	empty_tables(a);
	return L3_OK;
}

size_t
l3_automaton_bytes(const L3Automaton *a)
{
	return sizeof(*a) + a->grammar->size +
		((size_t) a->grammar->n_nodes * 2 + a->n_costs) * sizeof(uint32_t) +
		(size_t) a->cap_elements * (sizeof(L3Element) + sizeof(uint64_t)) +
		(size_t) a->element_slots * sizeof(uint32_t) +
		(size_t) a->cap_states * (sizeof(L3State) + a->n_classes * (sizeof(uint32_t) + 1)) +
		(size_t) a->state_slots * sizeof(uint32_t) +
		(a->cap_stacks + a->cap_work) * sizeof(uint32_t);
}

size_t
l3_automaton_used(const L3Automaton *a)
{
	return (size_t) a->n_elements * (sizeof(L3Element) + sizeof(uint64_t)) +
		(size_t) a->n_states * (sizeof(L3State) + a->n_classes * (sizeof(uint32_t) + 1)) +
		a->n_stacks * sizeof(uint32_t);
}

/* ----------------------------------------------------------------
 *		Elements
 * ----------------------------------------------------------------
 */

static uint64_t
hash_element(const L3Automaton *a, const L3Element *e)
{
	uint32_t	key[4] = {e->node, e->a, e->b, 0};

	return XXH3_64bits_withSeed(key, sizeof(key), e->parent == BOTTOM ? 0 : a->elements[e->parent].hash);
}

static bool
grow_elements(L3Automaton *a)
{
	size_t		capacity = (size_t) a->cap_elements * 2;
	uint32_t	slots = a->element_slots * 2;
	L3Element  *elements;
	uint64_t   *stamps;
	uint32_t   *table;

	if (capacity >= UINT32_MAX / 4)
		return false;
	elements = realloc(a->elements, capacity * sizeof(*elements));
	if (elements != NULL)
		a->elements = elements;
	stamps = realloc(a->stamps, capacity * sizeof(*stamps));
	if (stamps != NULL)
		a->stamps = stamps;
	table = calloc(slots, sizeof(*table));
	if (elements == NULL || stamps == NULL || table == NULL)
	{
		free(table);
		return false;
	}
	for (uint32_t i = 1; i < a->n_elements; i++)
	{
		uint32_t	slot = (uint32_t) elements[i].hash & (slots - 1);

		while (table[slot] != 0)
			slot = (slot + 1) & (slots - 1);
		table[slot] = i;
	}
	free(a->element_table);
	a->element_table = table;
	a->element_slots = slots;
	a->cap_elements = (uint32_t) capacity;
	return true;
}

/* Number of the element like e, made now if there was none; 0: out of memory. */
static uint32_t
intern_element(L3Automaton *a, const L3Element *e)
{
	uint32_t	slot;
	uint32_t	number;

	if (a->n_elements == a->cap_elements && !grow_elements(a))
		return 0;
	slot = (uint32_t) e->hash & (a->element_slots - 1);
	while ((number = a->element_table[slot]) != 0)
	{
		const L3Element *other = &a->elements[number];

		if (other->node == e->node && other->a == e->a && other->b == e->b &&
			other->parent == e->parent)
			return number;
		slot = (slot + 1) & (a->element_slots - 1);
	}
	number = a->n_elements++;
	a->elements[number] = *e;
	a->stamps[number] = 0;
	a->element_table[slot] = number;
	return number;
}

static uint32_t
distance_sum(uint64_t x, uint64_t y)
{
	return x + y >= L3_FAR ? L3_FAR : (uint32_t) (x + y);
}

static uint32_t
distance_times(uint64_t n, uint64_t x)
{
	return x != 0 && n > L3_FAR / x ? L3_FAR : distance_sum(n * x, 0);
}

/* Tokens that suffice for a stack that has element e on top, or for the empty one. */
static uint32_t
distance_of(const L3Automaton *a, uint32_t e)
{
	return e == BOTTOM ? 0 : a->elements[e].distance;
}

/* ----------------------------------------------------------------
 *		Expanding a step
 * ----------------------------------------------------------------
 */

/* A step as it is made: elements to expand in a->work, results in a->stacks. */
typedef struct Expansion
{
	L3Automaton *a;
	L3Error    *err;
	L3Status	status;
	size_t		n_expanded;
	size_t		first;			/* of the new state's stacks */
	L3State		state;
} Expansion;

static void
begin(Expansion *x, L3Automaton *a, L3Error *err)
{
	*x = (Expansion)
	{
		.a = a, .err = err, .status = L3_OK, .first = a->n_stacks,
		.state = {.distance = L3_FAR}
	};
	a->stamp += 2;
	a->n_work = 0;
}

/* The text may go on with element e, or end where e is BOTTOM. */
static void
add_work(Expansion *x, uint32_t e)
{
	L3Automaton *a = x->a;

	if (e == BOTTOM)
		x->state.distance = 0;
	else if (!reserve(&a->work, &a->cap_work, a->n_work + 1, sizeof(uint32_t)))
		x->status = out_of_memory(x->err);
	else
		a->work[a->n_work++] = e;
}

/*
 * Number of the element (node, first, second) on parent, for which rest tokens
 * suffice.  0 when no number of tokens does, the stack would be too deep, or
 * memory is out.
 */
static uint32_t
stack_up(Expansion *x, uint32_t node, uint32_t first, uint32_t second, uint32_t parent,
		 uint32_t rest)
{
	L3Automaton *a = x->a;
	L3Element	e = {
		.node = node, .a = first, .b = second, .parent = parent,
		.distance = distance_sum(rest, distance_of(a, parent)),
		.depth = parent == BOTTOM ? 1 : a->elements[parent].depth + 1
	};
	uint32_t	number;

	if (e.distance == L3_FAR || e.depth > L3_AUTOMATON_MAX_DEPTH)
		return 0;
	e.hash = hash_element(a, &e);
	number = intern_element(a, &e);
	if (number == 0)
		x->status = out_of_memory(x->err);
	return number;
}

/* The text goes on with the whole of node, then parent. */
static void
add_node(Expansion *x, uint32_t node, uint32_t parent)
{
	const L3Node *n = &x->a->nodes[node];
	uint32_t	e;

	/* no rule leads back to itself without a byte, so this ends */
	while (n->kind == L3_NODE_RULE)
	{
		node = x->a->rules[n->first];
		n = &x->a->nodes[node];
	}
	if (n->kind == L3_NODE_EMPTY ||
		((n->kind == L3_NODE_LITERAL || n->kind == L3_NODE_SEQ) && n->n == 0))
	{
		add_work(x, parent);
		return;
	}
	e = stack_up(x, node, n->kind == L3_NODE_REPEAT ? n->min : 0,
				 n->kind == L3_NODE_REPEAT ? n->max : 0, parent, x->a->least[node]);
	if (e != 0)
		add_work(x, e);
}

static const uint32_t *
children_of(const L3Automaton *a, const L3Node *n)
{
	return (const uint32_t *) ((const char *) a->grammar + n->first);
}

static void
expand_seq(Expansion *x, uint32_t number)
{
	L3Automaton *a = x->a;
	L3Element	e = a->elements[number];
	const L3Node *n = &a->nodes[e.node];
	uint32_t	child = children_of(a, n)[e.a];
	uint32_t	rest = e.distance - distance_of(a, e.parent);
	uint32_t	parent = e.parent;

	if (e.a + 1 < n->n)
	{
		parent = stack_up(x, e.node, e.a + 1, 0, e.parent, rest - a->least[child]);
		if (parent == 0)
			return;
	}
	add_node(x, child, parent);
}

/* Note that the state stands at the head of a loop. */
static void
note_loop(Expansion *x, uint32_t number)
{
	const L3Element *e = &x->a->elements[number];
	L3State    *state = &x->state;

	if (state->n_loops < L3_STATE_LOOPS)
		state->loops[state->n_loops++] = (L3Loop)
	{
		.node = e->node, .max = e->b, .distance = e->distance
	};
}

/*
 * A body that may be empty makes min meaningless, and then fewer iterations
 * left are possible less: an element that this very step has put below the
 * body stands for an empty iteration when it comes up again, and what it
 * allows is allowed already.
 */
static void
expand_repeat(Expansion *x, uint32_t number)
{
	L3Automaton *a = x->a;
	L3Element	e = a->elements[number];
	uint32_t	body = a->nodes[e.node].first;
	bool		nullable = a->least[body] == 0;
	uint32_t	min = nullable || e.a == 0 ? 0 : e.a - 1;
	uint32_t	max = e.b == L3_GRAMMAR_UNBOUNDED ? e.b : e.b - 1;
	uint32_t	parent = e.parent;

	if (e.a == 0 || nullable)
		add_work(x, e.parent);
	if (e.b == 0 || a->least[body] == L3_FAR)
		return;
	note_loop(x, number);
	if (max > 0)
	{
		parent = stack_up(x, e.node, min, max, e.parent, distance_times(min, a->least[body]));
		if (parent == 0)
			return;
		if (nullable && a->stamps[parent] != a->stamp)
			a->stamps[parent] = a->stamp - 1;
	}
	add_node(x, body, parent);
}

static void
expand(Expansion *x, uint32_t number)
{
	L3Automaton *a = x->a;
	uint32_t	node = a->elements[number].node;
	uint32_t	parent = a->elements[number].parent;
	const L3Node *n = &a->nodes[node];

	switch ((L3NodeKind) n->kind)
	{
		case L3_NODE_CLASS:
		case L3_NODE_LITERAL:
			if (a->n_stacks - x->first >= L3_AUTOMATON_MAX_STACKS)
				x->status = l3_error(x->err, L3_ERR_LIMIT,
									 "grammar can be read in more than %d ways at one place",
									 L3_AUTOMATON_MAX_STACKS);
			else if (!reserve(&a->stacks, &a->cap_stacks, a->n_stacks + 1, sizeof(uint32_t)))
				x->status = out_of_memory(x->err);
			else
				a->stacks[a->n_stacks++] = number;
			break;
		case L3_NODE_SEQ:
			expand_seq(x, number);
			break;
		case L3_NODE_ALT:
			for (uint32_t i = 0; i < n->n && x->status == L3_OK; i++)
				add_node(x, children_of(a, n)[i], parent);
			break;
		case L3_NODE_REPEAT:
			expand_repeat(x, number);
			break;
		case L3_NODE_EMPTY:
		case L3_NODE_RULE:
			break;				/* add_node has gone through them */
	}
}

/*
 * Expand until all tops wait for a byte.  The stamp of an element that was
 * expanded is this step's; one less: not again if it comes up.
 */
static void
expand_all(Expansion *x)
{
	L3Automaton *a = x->a;

	while (a->n_work > 0 && x->status == L3_OK)
	{
		uint32_t	number = a->work[--a->n_work];

		if (a->stamps[number] >= a->stamp - 1)
			continue;
		a->stamps[number] = a->stamp;
		if (++x->n_expanded > MAX_EXPANDED)
			x->status = l3_error(x->err, L3_ERR_LIMIT,
								 "grammar needs more than %zu parts for one byte", MAX_EXPANDED);
		else
			expand(x, number);
	}
}

/* ----------------------------------------------------------------
 *		States
 * ----------------------------------------------------------------
 */

/* Does stack x come before stack y?  Of equal hashes, which never meet, any. */
static bool
comes_before(const L3Automaton *a, uint32_t x, uint32_t y)
{
	uint64_t	x_hash = a->elements[x].hash;
	uint64_t	y_hash = a->elements[y].hash;

	return x_hash < y_hash || (x_hash == y_hash && x < y);
}

/* Shellsort, with the gaps of Ciura 2001: most states have few stacks. */
static void
sort_stacks(const L3Automaton *a, uint32_t *stacks, size_t n)
{
	static const uint32_t gaps[] = {33936, 15082, 6703, 2979, 1324, 701, 301, 132, 57, 23, 10, 4, 1};

	for (size_t g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++)
		for (size_t i = gaps[g]; i < n; i++)
		{
			uint32_t	number = stacks[i];
			size_t		j = i;

			for (; j >= gaps[g] && comes_before(a, number, stacks[j - gaps[g]]); j -= gaps[g])
				stacks[j] = stacks[j - gaps[g]];
			stacks[j] = number;
		}
}

static uint64_t
hash_state(const L3Automaton *a, const L3State *state)
{
	return XXH3_64bits_withSeed(a->stacks + state->first, state->n * sizeof(uint32_t),
								state->distance == 0);
}

static bool
grow_states(L3Automaton *a)
{
	size_t		capacity = (size_t) a->cap_states * 2;
	uint32_t	slots = a->state_slots * 2;
	L3State    *states;
	uint32_t   *steps;
	uint8_t    *efforts;
	uint32_t   *table;

	if (capacity >= UINT32_MAX / 4)
		return false;
	states = realloc(a->states, capacity * sizeof(*states));
	if (states != NULL)
		a->states = states;
	steps = realloc(a->steps, capacity * a->n_classes * sizeof(*steps));
	if (steps != NULL)
		a->steps = steps;
	efforts = realloc(a->step_efforts, capacity * a->n_classes);
	if (efforts != NULL)
		a->step_efforts = efforts;
	table = calloc(slots, sizeof(*table));
	if (states == NULL || steps == NULL || efforts == NULL || table == NULL)
	{
		free(table);
		return false;
	}
	for (uint32_t i = 1; i < a->n_states; i++)
	{
		uint32_t	slot = (uint32_t) hash_state(a, &states[i]) & (slots - 1);

		while (table[slot] != 0)
			slot = (slot + 1) & (slots - 1);
		table[slot] = i;
	}
	free(a->state_table);
	a->state_table = table;
	a->state_slots = slots;
	a->cap_states = (uint32_t) capacity;
	return true;
}

static bool
same_state(const L3Automaton *a, const L3State *s, const L3State *t)
{
	return s->n == t->n && (s->distance == 0) == (t->distance == 0) &&
		memcmp(a->stacks + s->first, a->stacks + t->first, s->n * sizeof(uint32_t)) == 0;
}

/* End an expansion: the number of the state that it makes. */
static L3Status
finish(Expansion *x, uint32_t *number_out)
{
	L3Automaton *a = x->a;
	L3State    *state = &x->state;
	uint32_t	slot;
	uint32_t	number;

	expand_all(x);
	a->effort += x->n_expanded;
	state->first = (uint32_t) x->first;
	state->n = (uint32_t) (a->n_stacks - x->first);
	a->n_stacks = x->first;
	if (x->status != L3_OK)
		return x->status;
	*number_out = L3_STATE_DEAD;
	if (state->n == 0 && state->distance != 0)
		return L3_OK;
	if (x->first + state->n > UINT32_MAX ||
		(a->n_states == a->cap_states && !grow_states(a)))
		return out_of_memory(x->err);

	sort_stacks(a, a->stacks + x->first, state->n);
	for (uint32_t i = 0; i < state->n; i++)
		if (a->elements[a->stacks[x->first + i]].distance < state->distance)
			state->distance = a->elements[a->stacks[x->first + i]].distance;
	slot = (uint32_t) hash_state(a, state) & (a->state_slots - 1);
	while ((number = a->state_table[slot]) != 0)
	{
		if (same_state(a, &a->states[number], state))
		{
			*number_out = number;
			return L3_OK;
		}
		slot = (slot + 1) & (a->state_slots - 1);
	}
	number = a->n_states++;
	a->states[number] = *state;
	a->n_stacks = x->first + state->n;
	memset(a->steps + (size_t) number * a->n_classes, 0xff, a->n_classes * sizeof(uint32_t));
	a->state_table[slot] = number;
	*number_out = number;
	return L3_OK;
}

L3Status
l3_automaton_start(L3Automaton *a, uint32_t *state, L3Error *err)
{
	L3Status	status = L3_OK;

	if (a->start == L3_STATE_UNKNOWN)
	{
		Expansion	x;

		begin(&x, a, err);
		add_node(&x, a->rules[a->grammar->root], BOTTOM);
		status = finish(&x, &a->start);
	}
	*state = a->start;
	return status;
}

/* What is left of a stack whose top takes the byte. */
static void
take_byte(Expansion *x, uint32_t number, uint8_t byte)
{
	L3Automaton *a = x->a;
	L3Element	e = a->elements[number];
	const L3Node *n = &a->nodes[e.node];
	const uint8_t *bytes = (const uint8_t *) a->grammar + n->first;

	if (n->kind == L3_NODE_CLASS)
	{
		if (bytes[byte >> 3] >> (byte & 7) & 1)
			add_work(x, e.parent);
	}
	else if (bytes[e.a] == byte)
	{
		if (e.a + 1 < n->n)
		{
			uint32_t	rest = stack_up(x, e.node, e.a + 1, 0, e.parent,
										a->costs[a->cost_at[e.node] + e.a + 1]);

			if (rest != 0)
				add_work(x, rest);
		}
		else
			add_work(x, e.parent);
	}
}

/* An exponent, and three digits behind the first. */
static uint8_t
effort_code(uint64_t effort)
{
	uint8_t		exponent = 0;

	while (exponent < 31 && effort >> exponent > 1)
		exponent++;
	return (uint8_t) (exponent << 3 | (effort << 3 >> exponent & 7));
}

L3Status
l3_automaton_step(L3Automaton *a, uint32_t state, uint8_t byte, uint32_t *next, L3Error *err)
{
	size_t		place = (size_t) state * a->n_classes + a->class_of[byte];
	Expansion	x;
	L3State		s;
	uint64_t	effort = a->effort;
	L3Status	status;

	*next = a->steps[place];
	if (*next != L3_STATE_UNKNOWN)
		return L3_OK;
	begin(&x, a, err);
	s = a->states[state];
	a->effort += s.n;
	for (uint32_t i = 0; i < s.n && x.status == L3_OK; i++)
		take_byte(&x, a->stacks[s.first + i], byte);
	status = finish(&x, next);
	if (status == L3_OK)
	{
		a->steps[place] = *next;
		a->step_efforts[place] = effort_code(a->effort - effort);
	}
	return status;
}

int
l3_automaton_only_byte(const L3Automaton *a, uint32_t state)
{
	const L3State *s = &a->states[state];
	int			only = -1;

	if (s->distance == 0)
		return -1;
	for (uint32_t i = 0; i < s->n; i++)
	{
		const L3Element *e = &a->elements[a->stacks[s->first + i]];
		const L3Node *n = &a->nodes[e->node];
		const uint8_t *bytes = (const uint8_t *) a->grammar + n->first;
		int			byte = -1;

		if (n->kind == L3_NODE_LITERAL)
			byte = bytes[e->a];
		else
			for (int b = 0; b < 256; b++)
				if (bytes[b >> 3] >> (b & 7) & 1)
				{
					if (byte >= 0)
						return -1;
					byte = b;
				}
		if (only >= 0 && byte != only)
			return -1;
		only = byte;
	}
	return only;
}

/* ----------------------------------------------------------------
 *		States that others are compared with
 * ----------------------------------------------------------------
 */

/* The stack from element number on, wide, in x's automaton; 0 when that fails. */
static uint32_t
widen_stack(Expansion *x, uint32_t number, uint32_t limit)
{
	L3Automaton *a = x->a;
	uint32_t	path[L3_AUTOMATON_MAX_DEPTH];
	uint32_t	n = 0;
	uint32_t	parent = BOTTOM;
	bool		same = true;

	for (; number != BOTTOM; number = a->elements[number].parent)
		path[n++] = number;
	while (n > 0)
	{
		L3Element	e = a->elements[path[--n]];
		bool		wide = a->nodes[e.node].kind == L3_NODE_REPEAT &&
			e.b > limit && e.b != L3_GRAMMAR_UNBOUNDED;

		same = same && !wide;
		if (same)
		{
			parent = path[n];
			continue;
		}
		parent = stack_up(x, e.node, e.a, wide ? L3_GRAMMAR_UNBOUNDED : e.b, parent,
						  e.distance - distance_of(a, e.parent));
		if (parent == 0)
			return 0;
	}
	return parent;
}

L3Status
l3_automaton_widen(L3Automaton *a, uint32_t state, uint32_t limit, uint32_t *wide, L3Error *err)
{
	Expansion	x;
	L3State		s = a->states[state];

	begin(&x, a, err);
	for (uint32_t i = 0; i < s.n && x.status == L3_OK; i++)
	{
		uint32_t	number = widen_stack(&x, a->stacks[s.first + i], limit);

		if (number != 0)
			add_work(&x, number);
	}
	if (s.distance == 0)
		add_work(&x, BOTTOM);
	x.state.n_loops = s.n_loops;
	for (uint32_t i = 0; i < s.n_loops; i++)
	{
		x.state.loops[i] = s.loops[i];
		if (s.loops[i].max > limit)
			x.state.loops[i].max = L3_GRAMMAR_UNBOUNDED;
	}
	return finish(&x, wide);
}

L3Status
l3_automaton_once(L3Automaton *a, uint32_t node, uint32_t *state, L3Error *err)
{
	Expansion	x;
	uint32_t	number;

	begin(&x, a, err);
	number = stack_up(&x, node, 0, 1, BOTTOM, 0);
	if (number != 0)
		add_work(&x, number);
	return finish(&x, state);
}

bool
l3_automaton_covers(const L3Automaton *a, uint32_t state, uint32_t other)
{
	const L3State *s = &a->states[state];
	const L3State *t = &a->states[other];
	uint32_t	i = 0;

	if (t->distance == 0 && s->distance != 0)
		return false;
	for (uint32_t j = 0; j < t->n; j++)
	{
		while (i < s->n && comes_before(a, a->stacks[s->first + i], a->stacks[t->first + j]))
			i++;
		if (i == s->n || a->stacks[s->first + i] != a->stacks[t->first + j])
			return false;
	}
	return true;
}

/* ----------------------------------------------------------------
 *		Cursors
 * ----------------------------------------------------------------
 */

/*
 * A state written out: is it a whole text; the number of its stacks and loops;
 * the loops (node, max, distance); for each stack the number of its elements
 * and these from the bottom (node, a, b).
 */
#define SAVED_HEAD		3
#define SAVED_PART		3

static bool
save(L3Cursor *cursor)
{
	const L3Automaton *a = cursor->automaton;
	const L3State *s = &a->states[cursor->state];
	size_t		n = SAVED_HEAD + s->n_loops * SAVED_PART;
	uint32_t   *out;

	for (uint32_t i = 0; i < s->n; i++)
		n += 1 + (size_t) SAVED_PART * a->elements[a->stacks[s->first + i]].depth;
	out = malloc(n * sizeof(uint32_t));
	if (out == NULL)
		return false;
	cursor->saved = out;
	*out++ = s->distance == 0;
	*out++ = s->n;
	*out++ = s->n_loops;
	for (uint32_t i = 0; i < s->n_loops; i++)
	{
		*out++ = s->loops[i].node;
		*out++ = s->loops[i].max;
		*out++ = s->loops[i].distance;
	}
	for (uint32_t i = 0; i < s->n; i++)
	{
		uint32_t	e = a->stacks[s->first + i];
		uint32_t	depth = a->elements[e].depth;

		*out++ = depth;
		for (uint32_t d = depth; d-- > 0; e = a->elements[e].parent)
		{
			out[d * SAVED_PART] = a->elements[e].node;
			out[d * SAVED_PART + 1] = a->elements[e].a;
			out[d * SAVED_PART + 2] = a->elements[e].b;
		}
		out += (size_t) depth * SAVED_PART;
	}
	return true;
}

void
l3_automaton_clear(L3Automaton *a)
{
	for (L3Cursor *c = a->cursors; c != NULL; c = c->next)
		if (c->saved == NULL && !c->lost)
			c->lost = !save(c);
	empty_tables(a);
}

/* Tokens that suffice for the rest of an element, from what it is. */
static uint32_t
rest_of(const L3Automaton *a, const uint32_t *saved)
{
	const L3Node *n = &a->nodes[saved[0]];
	uint32_t	rest = a->least[saved[0]];

	switch ((L3NodeKind) n->kind)
	{
		case L3_NODE_LITERAL:
			return a->costs[a->cost_at[saved[0]] + saved[1]];
		case L3_NODE_SEQ:
			for (uint32_t i = 0; i < saved[1]; i++)
				rest -= a->least[children_of(a, n)[i]];
			return rest;
		case L3_NODE_REPEAT:
			return distance_times(saved[1], a->least[n->first]);
		default:
			return rest;
	}
}

L3Status
l3_cursor_state(L3Cursor *cursor, uint32_t *state, L3Error *err)
{
	const uint32_t *in = cursor->saved;
	Expansion	x;
	uint32_t	n;
	L3Status	status;

	if (cursor->lost)
		return out_of_memory(err);
	*state = cursor->state;
	if (in == NULL)
		return L3_OK;
	begin(&x, cursor->automaton, err);
	if (*in++)
		add_work(&x, BOTTOM);
	n = *in++;
	x.state.n_loops = *in++;
	for (uint32_t i = 0; i < x.state.n_loops; i++, in += SAVED_PART)
		x.state.loops[i] = (L3Loop)
	{
		.node = in[0], .max = in[1], .distance = in[2]
	};
	for (uint32_t i = 0; i < n && x.status == L3_OK; i++)
	{
		uint32_t	depth = *in++;
		uint32_t	parent = BOTTOM;

		for (uint32_t d = 0; d < depth && x.status == L3_OK; d++, in += SAVED_PART)
			parent = stack_up(&x, in[0], in[1], in[2], parent, rest_of(x.a, in));
		if (x.status == L3_OK)
			add_work(&x, parent);
	}
	status = finish(&x, state);
	if (status != L3_OK)
		return status;
	free(cursor->saved);
	cursor->saved = NULL;
	cursor->state = *state;
	return L3_OK;
}

L3Status
l3_cursor_open(L3Cursor *cursor, L3Automaton *a, L3Error *err)
{
	L3Status	status;

	memset(cursor, 0, sizeof(*cursor));
	status = l3_automaton_start(a, &cursor->state, err);
	if (status != L3_OK)
		return status;
	cursor->automaton = a;
	cursor->next = a->cursors;
	if (a->cursors != NULL)
		a->cursors->prev = cursor;
	a->cursors = cursor;
	return L3_OK;
}

void
l3_cursor_close(L3Cursor *cursor)
{
	if (cursor->automaton == NULL)
		return;
	if (cursor->prev != NULL)
		cursor->prev->next = cursor->next;
	else
		cursor->automaton->cursors = cursor->next;
	if (cursor->next != NULL)
		cursor->next->prev = cursor->prev;
	free(cursor->saved);
	cursor->saved = NULL;
	cursor->automaton = NULL;
}

L3Status
l3_cursor_advance(L3Cursor *cursor, const uint8_t *bytes, size_t n, L3Error *err)
{
	uint32_t	state;
	L3Status	status = l3_cursor_state(cursor, &state, err);

	for (size_t i = 0; i < n && status == L3_OK; i++)
		status = l3_automaton_step(cursor->automaton, state, bytes[i], &state, err);
	if (status == L3_OK)
		cursor->state = state;
	return status;
}
