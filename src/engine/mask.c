/*-------------------------------------------------------------------------
 *
 * mask.c
 *	  Which tokens may come next.
 *
 *-------------------------------------------------------------------------
 */
#include "mask.h"

#include <stdlib.h>
#include <string.h>

/* Sets of fewer ASCII characters are not worth a set of tokens. */
#define MIN_SET_CHARACTERS	16

/* Steps to find out whether all of UTF-8 leads back to a state. */
#define MAX_WIDE_STEPS		4096

/* Loops of at most so many iterations are followed to their end. */
#define SHORT_LOOP			24

/* Bytes that a partial character may still need. */
#define MAX_CONTINUATION	3

/* Loops that a walk knows: those of the state, and the state itself. */
#define MAX_WALK_LOOPS		(L3_STATE_LOOPS + 1)

static L3Status
out_of_memory(L3Error *err)
{
	return l3_error(err, L3_ERR_MEMORY, "out of memory for the tokens that a grammar allows");
}

/* ----------------------------------------------------------------
 *		The vocabulary
 * ----------------------------------------------------------------
 */

L3Status
l3_vocabulary_create(const L3Tokenizer *tok, L3Vocabulary **vocabulary, L3Error *err)
{
	L3Vocabulary *v = calloc(1, sizeof(*v));
	L3Status	status;

	if (v == NULL)
		return out_of_memory(err);
	status = l3_trie_create(tok, &v->trie, err);
	if (status != L3_OK)
	{
		free(v);
		return status;
	}
	*vocabulary = v;
	return L3_OK;
}

static void
empty_text_set(L3TextSet *t)
{
	free(t->ids);
	for (int n = 0; n <= L3_TRIE_MAX_PIECE; n++)
		free(t->at_most[n]);
	memset(t, 0, sizeof(*t));
}

void
l3_vocabulary_free(L3Vocabulary *v)
{
	if (v == NULL)
		return;
	for (uint32_t i = 0; i < v->n_text; i++)
		empty_text_set(&v->text[i]);
	l3_trie_free(v->trie);
	free(v);
}

size_t
l3_vocabulary_bytes(const L3Vocabulary *v)
{
	size_t		bytes = sizeof(*v) + l3_trie_bytes(v->trie);

	for (uint32_t i = 0; i < v->n_text; i++)
	{
		bytes += v->text[i].ends[L3_TRIE_MAX_PIECE] * sizeof(uint32_t);
		for (int n = 0; n <= L3_TRIE_MAX_PIECE; n++)
			bytes += v->text[i].at_most[n] != NULL ? v->trie->n_words * sizeof(uint64_t) : 0;
	}
	return bytes;
}

static bool
same_set(const L3ByteSet *a, const L3ByteSet *b)
{
	return a->ascii[0] == b->ascii[0] && a->ascii[1] == b->ascii[1] && a->wide == b->wide;
}

/* A place for a new set of characters: a free one, or the one unused for longest. */
static L3TextSet *
text_set_place(L3Vocabulary *v)
{
	L3TextSet  *oldest = &v->text[0];

	if (v->n_text < L3_MASK_TEXT_SETS)
		return &v->text[v->n_text++];
	for (uint32_t i = 1; i < v->n_text; i++)
		if (v->text[i].used < oldest->used)
			oldest = &v->text[i];
	empty_text_set(oldest);
	return oldest;
}

/* What is known of a set of characters; NULL without memory. */
static L3TextSet *
text_set(L3Vocabulary *v, const L3ByteSet *set)
{
	L3TextSet  *t = NULL;

	for (uint32_t i = 0; i < v->n_text && t == NULL; i++)
		if (v->text[i].ids != NULL && same_set(&v->text[i].set, set))
			t = &v->text[i];
	if (t == NULL)
	{
		uint32_t   *ids = malloc((size_t) v->trie->n_tokens * sizeof(uint32_t));
		uint32_t   *fitting;
		uint32_t	n;

		if (ids == NULL)
			return NULL;
		t = text_set_place(v);
		t->set = *set;
		n = l3_trie_spelled_with(v->trie, set, ids, t->ends);
		fitting = realloc(ids, (n + 1) * sizeof(uint32_t));
		t->ids = fitting != NULL ? fitting : ids;
	}
	t->used = ++v->clock;
	return t;
}

/* The tokens of at most max of its characters, as a set of ids; NULL without memory. */
static const uint64_t *
text_of_length(L3Vocabulary *v, L3TextSet *t, uint32_t max)
{
	uint64_t   *ids = t->at_most[max];

	if (ids != NULL)
		return ids;
	ids = calloc(v->trie->n_words, sizeof(uint64_t));
	if (ids == NULL)
		return NULL;
	for (uint32_t i = 0; i < t->ends[max]; i++)
		ids[t->ids[i] >> 6] |= UINT64_C(1) << (t->ids[i] & 63);
	t->at_most[max] = ids;
	return ids;
}

/* ----------------------------------------------------------------
 *		Notes on states
 * ----------------------------------------------------------------
 */

L3Status
l3_masks_create(L3Vocabulary *vocabulary, L3Automaton *automaton, L3Masks **masks, L3Error *err)
{
	L3Masks    *m = calloc(1, sizeof(*m));

	if (m != NULL)
		m->scratch = malloc(vocabulary->trie->n_words * sizeof(uint64_t));
	if (m == NULL || m->scratch == NULL)
	{
		free(m);
		return out_of_memory(err);
	}
	m->vocabulary = vocabulary;
	m->automaton = automaton;
	m->epoch = automaton->epoch;
	m->max_effort = L3_MASK_EFFORT;
	*masks = m;
	return L3_OK;
}

/* Forget the masks; states keep their other notes. */
static void
drop_masks(L3Masks *m)
{
	for (uint32_t i = 0; i < m->n_masks; i++)
	{
		free(m->masks[i].few);
		free(m->masks[i].many);
	}
	m->n_masks = 0;
	m->mask_bytes = 0;
	for (uint32_t i = 0; i < m->cap_notes; i++)
		m->notes[i].mask = 0;
}

void
l3_masks_free(L3Masks *m)
{
	if (m == NULL)
		return;
	drop_masks(m);
	free(m->notes);
	free(m->masks);
	free(m->sets);
	free(m->scratch);
	free(m);
}

size_t
l3_masks_bytes(const L3Masks *m)
{
	return sizeof(*m) + m->mask_bytes + m->cap_notes * sizeof(L3StateNotes) +
		m->cap_masks * sizeof(L3Mask) + m->cap_sets * sizeof(L3ByteSet) +
		m->vocabulary->trie->n_words * sizeof(uint64_t);
}

/* The notes on a state; NULL without memory.  Valid until the next call. */
static L3StateNotes *
notes_of(L3Masks *m, uint32_t state)
{
	if (m->epoch != m->automaton->epoch)
	{
		drop_masks(m);
		if (m->notes != NULL)
			memset(m->notes, 0, m->cap_notes * sizeof(*m->notes));
		m->epoch = m->automaton->epoch;
	}
	if (state >= m->cap_notes)
	{
		uint32_t	capacity = m->automaton->cap_states;
		L3StateNotes *notes = realloc(m->notes, capacity * sizeof(*notes));

		if (notes == NULL)
			return NULL;
		memset(notes + m->cap_notes, 0, (capacity - m->cap_notes) * sizeof(*notes));
		m->notes = notes;
		m->cap_notes = capacity;
	}
	return &m->notes[state];
}

/* ----------------------------------------------------------------
 *		Characters that lead back to a state
 * ----------------------------------------------------------------
 */

/* Well-formed sequences of UTF-8 beyond ASCII (the Unicode Standard, table 3-7). */
static const struct
{
	uint8_t		n;
	uint8_t		low[4];
	uint8_t		high[4];
}			utf8_forms[] =
{
	{2, {0xC2, 0x80}, {0xDF, 0xBF}},
	{3, {0xE0, 0xA0, 0x80}, {0xE0, 0xBF, 0xBF}},
	{3, {0xE1, 0x80, 0x80}, {0xEC, 0xBF, 0xBF}},
	{3, {0xED, 0x80, 0x80}, {0xED, 0x9F, 0xBF}},
	{3, {0xEE, 0x80, 0x80}, {0xEF, 0xBF, 0xBF}},
	{4, {0xF0, 0x90, 0x80, 0x80}, {0xF0, 0xBF, 0xBF, 0xBF}},
	{4, {0xF1, 0x80, 0x80, 0x80}, {0xF3, 0xBF, 0xBF, 0xBF}},
	{4, {0xF4, 0x80, 0x80, 0x80}, {0xF4, 0x8F, 0xBF, 0xBF}},
};

#define N_UTF8_FORMS	((int) (sizeof(utf8_forms) / sizeof(utf8_forms[0])))

/*
 * What characters are looked for: those after which the text is whole, all can
 * follow that could before them, or there is one state.
 */
typedef enum Aim
{
	AIM_WHOLE,
	AIM_BACK,
	AIM_SAME
} Aim;

static bool
is_reached(const L3Automaton *a, uint32_t home, uint32_t state, Aim aim)
{
	if (state == L3_STATE_DEAD)
		return false;
	if (aim == AIM_WHOLE)
		return a->states[state].distance == 0;
	return aim == AIM_BACK ? l3_automaton_covers(a, state, home) : state == home;
}

/* Does every sequence of a form, from byte i on, lead from state to the aim? */
static bool
form_leads(L3Automaton *a, uint32_t home, uint32_t state, int form, int i, Aim aim,
		   uint32_t *steps)
{
	int			last_class = -1;
	uint32_t	next;
	L3Error		err;

	for (int byte = utf8_forms[form].low[i]; byte <= utf8_forms[form].high[i]; byte++)
	{
		if (a->class_of[byte] == last_class)
			continue;
		last_class = a->class_of[byte];
		if (++*steps > MAX_WIDE_STEPS ||
			l3_automaton_step(a, state, (uint8_t) byte, &next, &err) != L3_OK ||
			next == L3_STATE_DEAD)
			return false;
		if (i + 1 < utf8_forms[form].n ?
			!form_leads(a, home, next, form, i + 1, aim, steps) :
			!is_reached(a, home, next, aim))
			return false;
	}
	return true;
}

/*
 * The characters after each of which the aim is reached.  What cannot be found
 * out is not in the set: masks do not depend on it.
 */
static L3ByteSet
find_set(L3Automaton *a, uint32_t state, Aim aim)
{
	L3ByteSet	set = {.wide = true};
	uint32_t	steps = 0;
	uint32_t	next;
	L3Error		err;

	for (int byte = 0; byte < 0x80; byte++)
		if (l3_automaton_step(a, state, (uint8_t) byte, &next, &err) == L3_OK &&
			is_reached(a, state, next, aim))
			set.ascii[byte >> 6] |= UINT64_C(1) << (byte & 63);
	for (int form = 0; form < N_UTF8_FORMS && set.wide; form++)
		set.wide = form_leads(a, state, state, form, 0, aim, &steps);
	return set;
}

/* The same, found once; NULL without memory. */
static const L3ByteSet *
set_of(L3Masks *m, uint32_t state, Aim aim)
{
	L3StateNotes *notes = notes_of(m, state);
	uint32_t	number;
	L3ByteSet	set;
	uint32_t	i = 0;

	if (notes == NULL)
		return NULL;
	number = aim == AIM_WHOLE ? notes->whole : notes->back;
	if (number != 0)
		return &m->sets[number - 1];
	set = find_set(m->automaton, state, aim);
	while (i < m->n_sets && !same_set(&m->sets[i], &set))
		i++;
	if (i == m->cap_sets)
	{
		uint32_t	capacity = m->cap_sets < 8 ? 8 : m->cap_sets * 2;
		L3ByteSet  *sets = realloc(m->sets, capacity * sizeof(*sets));

		if (sets == NULL)
			return NULL;
		m->sets = sets;
		m->cap_sets = capacity;
	}
	if (i == m->n_sets)
		m->sets[m->n_sets++] = set;
	notes = notes_of(m, state);
	*(aim == AIM_WHOLE ? &notes->whole : &notes->back) = i + 1;
	return &m->sets[i];
}

/* Do all characters beyond ASCII lead from state to after, or to no state if that is dead? */
static bool
wide_lead_to(L3Automaton *a, uint32_t state, uint32_t after)
{
	uint32_t	steps = 0;
	uint32_t	next;
	L3Error		err;

	for (int byte = 0xC2; byte <= 0xF4 && after == L3_STATE_DEAD; byte++)
		if (l3_automaton_step(a, state, (uint8_t) byte, &next, &err) != L3_OK ||
			next != L3_STATE_DEAD)
			return false;
	for (int form = 0; form < N_UTF8_FORMS && after != L3_STATE_DEAD; form++)
		if (!form_leads(a, after, state, form, 0, AIM_SAME, &steps))
			return false;
	return true;
}

/*
 * Can no text of more than max of the set's characters follow?  Follows them
 * one by one as long as all lead to one state, which is what they do in a
 * bounded loop.  False when that cannot be found out.
 */
static bool
ends_after(L3Automaton *a, uint32_t state, const L3ByteSet *set, uint32_t max)
{
	L3Error		err;

	for (uint32_t i = 0; state != L3_STATE_DEAD; i++)
	{
		uint32_t	after = L3_STATE_UNKNOWN;
		uint32_t	next;

		for (int byte = 0; byte < 0x80; byte++)
		{
			if (!l3_byte_set_has(set, (uint8_t) byte))
				continue;
			if (l3_automaton_step(a, state, (uint8_t) byte, &next, &err) != L3_OK ||
				(after != L3_STATE_UNKNOWN && next != after))
				return false;
			after = next;
		}
		if (i > max || !(set->wide ? wide_lead_to(a, state, after) : true))
			return false;
		state = after;
	}
	return true;
}

/* ----------------------------------------------------------------
 *		The walk
 * ----------------------------------------------------------------
 */

/* Subtrees that need not be entered: tokens of at most max characters of a set. */
typedef struct WalkLoop
{
	L3ByteSet	set;
	uint32_t	max;
	bool		ends;			/* no longer ones can come either */
} WalkLoop;

typedef struct MaskWalk
{
	L3Masks    *m;
	uint32_t	state;
	uint32_t	left;			/* tokens after the next; L3_FAR: never mind */
	WalkLoop	loops[MAX_WALK_LOOPS];
	int			n_loops;
	uint64_t   *ids;			/* result */
	uint32_t	distance;		/* largest of the tokens in it */
	uint64_t   *counted;		/* (n_counted_words) steps whose effort counts, a bit
								 * each; NULL: there is no need to count */
	size_t		n_counted_words;
	uint64_t	effort;			/* of these */
} MaskWalk;

/* Lengths for which sets of tokens are made: the next below serves. */
static uint32_t
round_length(uint32_t max)
{
	static const uint8_t lengths[] = {SHORT_LOOP, 32, 48, 64, 96, 128, 192};
	uint32_t	rounded = max;

	if (max >= L3_TRIE_MAX_PIECE)
		return L3_TRIE_MAX_PIECE;
	for (size_t i = 0; i < sizeof(lengths) && lengths[i] <= max; i++)
		rounded = lengths[i];
	return rounded;
}

/*
 * Any text of the set, of at most max characters, may follow; after it the
 * distance is at most this, or that of completing a character more.
 */
static L3Status
add_loop(MaskWalk *w, const L3ByteSet *set, uint32_t max, uint32_t distance, L3Error *err)
{
	L3Vocabulary *v = w->m->vocabulary;
	uint64_t	most = (uint64_t) distance + (set->wide ? MAX_CONTINUATION : 0);
	WalkLoop   *loop = &w->loops[w->n_loops];
	L3TextSet  *text;
	const uint64_t *ids;

	if (max == 0 || most > w->left || most >= L3_FAR ||
		__builtin_popcountll(set->ascii[0]) + __builtin_popcountll(set->ascii[1]) < MIN_SET_CHARACTERS)
		return L3_OK;
	*loop = (WalkLoop)
	{
		.set = *set, .max = round_length(max),
		.ends = max <= SHORT_LOOP && ends_after(w->m->automaton, w->state, set, max)
	};
	for (int i = 0; i < w->n_loops; i++)
		if (w->loops[i].max >= loop->max && same_set(&w->loops[i].set, set))
			return L3_OK;
	text = text_set(v, set);
	ids = text != NULL ? text_of_length(v, text, loop->max) : NULL;
	if (ids == NULL)
		return out_of_memory(err);
	for (uint32_t i = 0; i < v->trie->n_words; i++)
		w->ids[i] |= ids[i];
	w->n_loops++;
	if (w->distance < most)
		w->distance = (uint32_t) most;
	return L3_OK;
}

/*
 * Which loops there are: characters that lead back to the state itself, and
 * bounded loops at whose head it stands, whose iterations may be one character.
 */
static L3Status
find_loops(MaskWalk *w, L3Error *err)
{
	L3Automaton *a = w->m->automaton;
	L3State		s = a->states[w->state];
	const L3ByteSet *set = set_of(w->m, w->state, AIM_BACK);
	L3ByteSet	copy;
	L3Status	status;

	if (set == NULL)
		return out_of_memory(err);
	copy = *set;
	status = add_loop(w, &copy, L3_TRIE_MAX_PIECE, s.distance, err);
	for (uint32_t i = 0; i < s.n_loops && status == L3_OK; i++)
	{
		uint32_t	once;

		if (s.loops[i].max == L3_GRAMMAR_UNBOUNDED)
			continue;
		status = l3_automaton_once(a, s.loops[i].node, &once, err);
		if (status != L3_OK)
			break;
		set = set_of(w->m, once, AIM_WHOLE);
		if (set == NULL)
			return out_of_memory(err);
		copy = *set;
		status = add_loop(w, &copy, s.loops[i].max, s.loops[i].distance, err);
	}
	return status;
}

/* Loops of those in which, one bit each, whose set has the byte. */
static unsigned
loops_with(const MaskWalk *w, unsigned which, uint8_t byte)
{
	for (int i = 0; i < w->n_loops; i++)
		if ((which >> i & 1) && !l3_byte_set_has(&w->loops[i].set, byte))
			which &= ~(1u << i);
	return which;
}

/* Are all tokens of the subtree decided by a loop?  which: loops for the bytes above. */
static bool
in_a_loop(const MaskWalk *w, unsigned which, const L3TrieNode *node)
{
	for (int i = 0; i < w->n_loops; i++)
		if ((which >> i & 1) && l3_trie_all_of(node, &w->loops[i].set) &&
			(w->loops[i].ends ||
			 (uint32_t) node->n_chars + node->more_chars <= w->loops[i].max))
			return true;
	return false;
}

/* ----------------------------------------------------------------
 *		Effort
 *
 * A mask is refused by what its steps take to find, also of those that others
 * have found before.  As long as all steps together since the tables were empty
 * took no more than one mask may, there is nothing to count, which is nearly
 * always.
 * ----------------------------------------------------------------
 */

static L3Status
begin_counting(MaskWalk *w, L3Error *err)
{
	const L3Automaton *a = w->m->automaton;

	w->n_counted_words = (size_t) a->cap_states * a->n_classes / 64 + 1;
	w->counted = calloc(w->n_counted_words, sizeof(uint64_t));
	return w->counted != NULL ? L3_OK : out_of_memory(err);
}

/* Count a step that is known now, once. */
static L3Status
count_step(MaskWalk *w, uint32_t from, uint8_t byte, L3Error *err)
{
	const L3Automaton *a = w->m->automaton;
	size_t		place = (size_t) from * a->n_classes + a->class_of[byte];
	uint64_t	bit = UINT64_C(1) << (place & 63);

	if (place / 64 >= w->n_counted_words)
	{
		size_t		n = (size_t) a->cap_states * a->n_classes / 64 + 1;
		uint64_t   *counted = realloc(w->counted, n * sizeof(uint64_t));

		if (counted == NULL)
			return out_of_memory(err);
		memset(counted + w->n_counted_words, 0, (n - w->n_counted_words) * sizeof(uint64_t));
		w->counted = counted;
		w->n_counted_words = n;
	}
	if ((w->counted[place / 64] & bit) == 0)
	{
		w->counted[place / 64] |= bit;
		w->effort += l3_automaton_step_effort(a, from, byte);
	}
	return w->effort <= w->m->max_effort ? L3_OK :
		l3_error(err, L3_ERR_LIMIT, "grammar can be read in too many ways");
}

/* ----------------------------------------------------------------
 *		Going through the vocabulary
 * ----------------------------------------------------------------
 */

static L3Status
walk(MaskWalk *w, L3Error *err)
{
	L3Automaton *a = w->m->automaton;
	const L3Trie *t = w->m->vocabulary->trie;
	uint32_t	states[L3_TRIE_MAX_PIECE + 1];	/* by depth */
	unsigned	which[L3_TRIE_MAX_PIECE + 1];
	uint32_t	i = 0;
	L3Status	status = L3_OK;

	states[0] = w->state;
	which[0] = (1u << w->n_loops) - 1;
	if (a->effort > w->m->max_effort)
		status = begin_counting(w, err);
	if (status != L3_OK)
		return status;
	while (i < t->n_nodes)
	{
		const L3TrieNode *node = &t->nodes[i];
		uint32_t	depth = node->depth;
		uint32_t	from = states[depth - 1];
		uint32_t	next = a->steps[(size_t) from * a->n_classes + a->class_of[node->byte]];
		uint32_t	distance;

		if (w->counted != NULL && next != L3_STATE_UNKNOWN &&
			!in_a_loop(w, which[depth - 1], node) &&
			(status = count_step(w, from, node->byte, err)) != L3_OK)
			return status;
		if (next == L3_STATE_DEAD || in_a_loop(w, which[depth - 1], node))
		{
			i = node->end;
			continue;
		}
		if (next == L3_STATE_UNKNOWN)
		{
			status = l3_automaton_step(a, from, node->byte, &next, err);
			if (status != L3_OK)
				return status;
			if (l3_automaton_used(a) > L3_MASK_STATE_BYTES)
				return l3_error(err, L3_ERR_LIMIT, "grammar can be read in too many ways");
			if (w->counted == NULL && a->effort > w->m->max_effort)
			{
				/* from the beginning, counting */
				status = begin_counting(w, err);
				if (status != L3_OK)
					return status;
				i = 0;
			}
			continue;			/* now known */
		}
		distance = a->states[next].distance;
		/* no byte brings the end nearer by more than one */
		if (w->left != L3_FAR && distance > (uint64_t) w->left + node->height)
		{
			i = node->end;
			continue;
		}
		if (node->n_here > 0 && distance <= w->left)
		{
			l3_trie_add_here(t, node, w->ids);
			if (w->distance < distance)
				w->distance = distance;
		}
		states[depth] = next;
		which[depth] = loops_with(w, which[depth - 1], node->byte);
		i++;
	}
	return L3_OK;
}

/*
 * Where only one text can follow, leave out tokens that end within it if one
 * that covers it may come: its beginning alone is not how the text is spelled.
 */
static L3Status
prefer_covering(MaskWalk *w, L3Error *err)
{
	L3Automaton *a = w->m->automaton;
	const L3Trie *t = w->m->vocabulary->trie;
	uint32_t	path[L3_TRIE_MAX_PIECE];
	uint32_t	n = 0;
	uint32_t	state = w->state;
	uint32_t	node = 0;
	uint32_t	end = t->n_nodes;
	bool		covered = false;
	int			byte;

	/* node, and its siblings until end, have the next byte */
	while ((byte = l3_automaton_only_byte(a, state)) >= 0)
	{
		L3Status	status;

		while (node < end && t->nodes[node].byte != byte)
			node = t->nodes[node].end;
		if (node >= end)
			return L3_OK;		/* no token is as long */
		path[n++] = node;
		end = t->nodes[node].end;
		status = l3_automaton_step(a, state, (uint8_t) byte, &state, err);
		if (status != L3_OK)
			return status;
		node++;
	}
	if (n < 2)
		return L3_OK;
	for (uint32_t rank = t->nodes[path[n - 1]].first_rank;
		 rank < t->nodes[t->nodes[path[n - 1]].end].first_rank && !covered; rank++)
		covered = w->ids[t->ids[rank] >> 6] >> (t->ids[rank] & 63) & 1;
	for (uint32_t i = 0; i + 1 < n && covered; i++)
		for (uint32_t j = 0; j < t->nodes[path[i]].n_here; j++)
		{
			uint32_t	id = t->ids[t->nodes[path[i]].first_rank + j];

			w->ids[id >> 6] &= ~(UINT64_C(1) << (id & 63));
		}
	return L3_OK;
}

/* Make the mask of a state with so many tokens left after it. */
static L3Status
make(MaskWalk *w, L3Masks *m, uint32_t state, uint32_t left, uint64_t *ids, L3Error *err)
{
	L3Status	status;

	*w = (MaskWalk)
	{
		.m = m, .state = state, .left = left, .ids = ids
	};
	memset(ids, 0, m->vocabulary->trie->n_words * sizeof(uint64_t));
	status = find_loops(w, err);
	if (status == L3_OK)
		status = walk(w, err);
	free(w->counted);
	w->counted = NULL;
	if (status == L3_OK)
		status = prefer_covering(w, err);
	return status;
}

/* ----------------------------------------------------------------
 *		Keeping masks
 * ----------------------------------------------------------------
 */

static uint32_t
count_ids(const uint64_t *ids, uint32_t n_words)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < n_words; i++)
		n += (uint32_t) __builtin_popcountll(ids[i]);
	return n;
}

/* Copy a set of tokens in the smaller of two forms. */
static bool
copy_mask(const uint64_t *ids, uint32_t n_words, L3Mask *mask)
{
	uint32_t	at = 0;

	mask->few = NULL;
	mask->many = NULL;
	mask->n = count_ids(ids, n_words);
	if (mask->n >= n_words * 2)
	{
		mask->many = malloc(n_words * sizeof(uint64_t));
		if (mask->many != NULL)
			memcpy(mask->many, ids, n_words * sizeof(uint64_t));
		return mask->many != NULL;
	}
	mask->few = malloc((mask->n + 1) * sizeof(uint32_t));
	for (uint32_t i = 0; i < n_words && mask->few != NULL; i++)
		for (uint64_t word = ids[i]; word != 0; word &= word - 1)
			mask->few[at++] = i * 64 + (uint32_t) __builtin_ctzll(word);
	return mask->few != NULL;
}

static L3Status
keep(L3Masks *m, uint32_t state, const uint64_t *ids, uint32_t distance, L3Error *err)
{
	uint32_t	n_words = m->vocabulary->trie->n_words;
	L3StateNotes *notes;

	if (m->mask_bytes > L3_MASK_BYTES)
		drop_masks(m);
	if (m->n_masks == m->cap_masks)
	{
		uint32_t	capacity = m->cap_masks < 16 ? 16 : m->cap_masks * 2;
		L3Mask	   *masks = realloc(m->masks, capacity * sizeof(*masks));

		if (masks == NULL)
			return out_of_memory(err);
		m->masks = masks;
		m->cap_masks = capacity;
	}
	notes = notes_of(m, state);
	if (notes == NULL || !copy_mask(ids, n_words, &m->masks[m->n_masks]))
		return out_of_memory(err);
	m->masks[m->n_masks].distance = distance;
	m->mask_bytes += m->masks[m->n_masks].many != NULL ? n_words * sizeof(uint64_t) :
		(m->masks[m->n_masks].n + 1) * sizeof(uint32_t);
	notes->mask = ++m->n_masks;
	return L3_OK;
}

/* The state whose mask a state's is. */
static L3Status
wide_of(L3Masks *m, uint32_t state, uint32_t *wide, L3Error *err)
{
	L3StateNotes *notes = notes_of(m, state);
	L3Status	status;

	if (notes == NULL)
		return out_of_memory(err);
	if (notes->wide == 0)
	{
		status = l3_automaton_widen(m->automaton, state, m->vocabulary->trie->max_piece, wide, err);
		if (status != L3_OK)
			return status;
		notes->wide = *wide + 1;
	}
	*wide = notes->wide - 1;
	return L3_OK;
}

L3Status
l3_masks_tokens(L3Masks *m, uint32_t state, uint32_t left, uint64_t *ids, L3Error *err)
{
	uint32_t	n_words = m->vocabulary->trie->n_words;
	MaskWalk	w;
	L3StateNotes *notes;
	const L3Mask *mask;
	L3Status	status = wide_of(m, state, &state, err);

	if (status != L3_OK)
		return status;
	notes = notes_of(m, state);
	if (notes == NULL)
		return out_of_memory(err);
	if (notes->mask == 0)
	{
		status = make(&w, m, state, L3_FAR, m->scratch, err);
		if (status == L3_OK)
			status = keep(m, state, m->scratch, w.distance, err);
		if (status != L3_OK)
			return status;
		notes = notes_of(m, state);
	}
	mask = &m->masks[notes->mask - 1];
	if (left < mask->distance)
		return make(&w, m, state, left, ids, err);
	if (mask->many != NULL)
		memcpy(ids, mask->many, n_words * sizeof(uint64_t));
	else
	{
		memset(ids, 0, n_words * sizeof(uint64_t));
		for (uint32_t i = 0; i < mask->n; i++)
			ids[mask->few[i] >> 6] |= UINT64_C(1) << (mask->few[i] & 63);
	}
	return L3_OK;
}
