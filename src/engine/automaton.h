/*-------------------------------------------------------------------------
 *
 * automaton.h
 *	  Following a grammar byte by byte.
 *
 * The grammar is context-free, so what may follow a text is a set of stacks.
 * Stacks are linked lists of elements, each "the rest of this node, and then
 * what is below", and equal stacks are the same element: they are interned.  A
 * state is a set of stacks whose tops each wait for a byte, and is interned
 * too.  So the automaton is made deterministic as far as it is used: a step
 * that was made once is one load from a table.
 *
 * REPEAT counts down in its element and is never unrolled; empty iterations
 * are not made.
 *
 * Each state knows how many tokens suffice to complete the text: its distance.
 * A literal is spelled with the fewest tokens of the vocabulary, any other byte
 * with one of its own, and of alternatives the nearest counts (Knuth 1977).  So
 * there is always a token that brings the end nearer by one, and no byte brings
 * it nearer by more than one.
 *
 * What is possible after a text depends on the grammar and the text alone, also
 * where a limit is met: limits bound one state, never what was interned before,
 * and a state's stacks are worked on in the order of their contents' hashes,
 * never of their numbers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_AUTOMATON_H
#define L3_AUTOMATON_H

#include "grammar.h"
#include "trie.h"

/* Bounds of one state: its stacks, the elements of one stack. */
#define L3_AUTOMATON_MAX_STACKS	65536
#define L3_AUTOMATON_MAX_DEPTH	4096

/* A distance that nothing covers. */
#define L3_FAR				UINT32_MAX

/* Of no state of a text: no text of the grammar begins so. */
#define L3_STATE_DEAD		0
/* In the table of steps: not made yet. */
#define L3_STATE_UNKNOWN	UINT32_MAX

/* Loops that a state remembers. */
#define L3_STATE_LOOPS		4

/* A REPEAT at whose head a state stands, with room for max more iterations. */
typedef struct L3Loop
{
	uint32_t	node;
	uint32_t	max;			/* L3_GRAMMAR_UNBOUNDED */
	uint32_t	distance;		/* of a text by way of it */
} L3Loop;

typedef struct L3State
{
	uint32_t	first;			/* of its stacks, in stacks */
	uint32_t	n;				/* 0: the text cannot go on */
	uint32_t	distance;		/* 0: the text is whole */
	uint32_t	n_loops;
	L3Loop		loops[L3_STATE_LOOPS];
} L3State;

typedef struct L3Element
{
	uint32_t	node;
	uint32_t	a;				/* LITERAL: next byte; SEQ: next child; REPEAT: min left */
	uint32_t	b;				/* REPEAT: max left */
	uint32_t	parent;			/* 0: the bottom */
	uint32_t	distance;		/* tokens that suffice for the stack */
	uint32_t	depth;
	uint64_t	hash;			/* of the stack: the order of a state's stacks */
} L3Element;

typedef struct L3Cursor L3Cursor;

typedef struct L3Automaton
{
	L3Grammar  *grammar;		/* own copy of the image */
	const L3Node *nodes;
	const uint32_t *rules;
	uint32_t   *least;			/* (n_nodes) tokens that suffice for the node */
	uint32_t   *cost_at;		/* (n_nodes) of LITERAL: where its costs begin */
	uint32_t	n_costs;
	uint32_t   *costs;			/* (n_costs) tokens from each byte of a literal to its end */
	uint8_t		class_of[256];	/* bytes that no node tells apart are one class */
	uint32_t	n_classes;
	uint8_t		byte_of[256];	/* a byte of each class */

	L3Element  *elements;		/* (n_elements) number 0 is not used */
	uint32_t	n_elements;
	uint32_t	cap_elements;
	uint32_t   *element_table;	/* (element_slots) number, or 0 */
	uint32_t	element_slots;
	uint64_t   *stamps;			/* (cap_elements) last closure that had it */
	uint64_t	stamp;

	L3State    *states;			/* (n_states) number 0 is L3_STATE_DEAD */
	uint32_t	n_states;
	uint32_t	cap_states;
	uint32_t   *steps;			/* (cap_states, n_classes) */
	uint8_t    *step_efforts;	/* (cap_states, n_classes) of known steps */
	uint32_t   *state_table;	/* (state_slots) number, or 0 */
	uint32_t	state_slots;
	uint32_t   *stacks;			/* (n_stacks) elements of all states */
	size_t		n_stacks;
	size_t		cap_stacks;

	uint32_t   *work;			/* (cap_work) elements to expand */
	size_t		n_work;
	size_t		cap_work;

	uint64_t	effort;			/* stacks and elements gone through since the
								 * tables were empty */
	uint32_t	start;			/* L3_STATE_UNKNOWN: not interned now */
	uint64_t	epoch;			/* rises whenever states get new numbers */
	L3Cursor   *cursors;
} L3Automaton;

/* A place in a text, which outlives the clearing of the tables. */
struct L3Cursor
{
	L3Automaton *automaton;
	L3Cursor   *prev;
	L3Cursor   *next;
	uint32_t	state;			/* valid while saved is NULL */
	uint32_t   *saved;			/* the state's stacks, written out */
	bool		lost;			/* there was no memory to write it out */
};

/*
 * Make the automaton of a checked grammar, which is copied.  trie: the
 * vocabulary, or NULL where each byte is a token.  L3_ERR_LIMIT when its rules
 * are nested too deeply, L3_ERR_MEMORY.
 */
L3Status	l3_automaton_create(const L3Grammar *grammar, const L3Trie *trie,
								L3Automaton **automaton, L3Error *err);
/* Of creation: empty tables, once the classes are known. */
L3Status	l3_automaton_prepare(L3Automaton *a, L3Error *err);
/* There is no cursor on it. */
void		l3_automaton_free(L3Automaton *a);
/* Bytes that it holds, and those of states and what they consist of. */
size_t		l3_automaton_bytes(const L3Automaton *a);
size_t		l3_automaton_used(const L3Automaton *a);
/* Forget all states but those of cursors, which are written out. */
void		l3_automaton_clear(L3Automaton *a);

/* The state of the empty text.  L3_ERR_LIMIT, L3_ERR_MEMORY. */
L3Status	l3_automaton_start(L3Automaton *a, uint32_t *state, L3Error *err);
/*
 * The state after one more byte; L3_STATE_DEAD when it is not possible.
 * L3_ERR_LIMIT when that has too many stacks; L3_ERR_MEMORY.
 */
L3Status	l3_automaton_step(L3Automaton *a, uint32_t state, uint8_t byte, uint32_t *next,
							  L3Error *err);
/*
 * What finding a known step took, stacks and elements, rounded down to four
 * binary digits: the same whenever it is found.
 */
static inline uint64_t
l3_automaton_step_effort(const L3Automaton *a, uint32_t state, uint8_t byte)
{
	uint8_t		code = a->step_efforts[(size_t) state * a->n_classes + a->class_of[byte]];

	return (UINT64_C(8) + (code & 7)) << (code >> 3) >> 3;
}
/* The only byte that can follow, or -1: there are several, or the text may end here. */
int			l3_automaton_only_byte(const L3Automaton *a, uint32_t state);
/*
 * The same state but that bounded loops of more than limit iterations are
 * unbounded: equal for every text of at most limit bytes.
 */
L3Status	l3_automaton_widen(L3Automaton *a, uint32_t state, uint32_t limit, uint32_t *wide,
							   L3Error *err);
/* The state before at most one iteration of REPEAT node node, with nothing below. */
L3Status	l3_automaton_once(L3Automaton *a, uint32_t node, uint32_t *state, L3Error *err);
/* Can everything that follows in state b follow in state a, by the same stacks? */
bool		l3_automaton_covers(const L3Automaton *a, uint32_t state, uint32_t other);

/* Put a cursor on the empty text, move it, take it away. */
L3Status	l3_cursor_open(L3Cursor *cursor, L3Automaton *a, L3Error *err);
void		l3_cursor_close(L3Cursor *cursor);
/* The cursor's state by its present number. */
L3Status	l3_cursor_state(L3Cursor *cursor, uint32_t *state, L3Error *err);
/* Over n bytes, which must be possible. */
L3Status	l3_cursor_advance(L3Cursor *cursor, const uint8_t *bytes, size_t n, L3Error *err);

#endif							/* L3_AUTOMATON_H */
