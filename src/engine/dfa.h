/*-------------------------------------------------------------------------
 *
 * dfa.h
 *	  Finite automata over Unicode code points.
 *
 * What is said of a JSON string by a pattern, a format or a length, and of a
 * number by its bounds, is a regular language.  Each becomes an automaton;
 * several at once are their product; the result becomes part of a grammar.
 *
 * The schema decides how large they grow, and it is hostile, so states and work
 * are bounded: L3_ERR_LIMIT.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_DFA_H
#define L3_DFA_H

#include "grammar.h"

#define L3_NFA_MAX_STATES	32768
#define L3_DFA_MAX_STATES	32768
#define L3_DFA_MAX_EDGES	262144

#define L3_CHAR_MAX			0x10FFFF

/* Code points low to high, both included. */
typedef struct L3CharRange
{
	uint32_t	low;
	uint32_t	high;
} L3CharRange;

/* ----------------------------------------------------------------
 *		Nondeterministic: how they are written down
 * ----------------------------------------------------------------
 */

typedef struct L3NfaEdge
{
	uint32_t	low;			/* low > high: taken without a code point */
	uint32_t	high;
	uint32_t	to;
	uint32_t	next;			/* edge of the same state, or UINT32_MAX */
} L3NfaEdge;

/* Zero-initialise; l3_nfa_free. */
typedef struct L3Nfa
{
	uint32_t   *first_edge;		/* or UINT32_MAX (n_states) */
	uint32_t	n_states;
	uint32_t	states_capacity;
	L3NfaEdge  *edges;
	uint32_t	n_edges;
	uint32_t	edges_capacity;
	L3Status	status;			/* of the first failure: L3_ERR_MEMORY, _LIMIT */
} L3Nfa;

/* After a failure these do nothing and return 0; l3_nfa_determinize tells it. */
uint32_t	l3_nfa_state(L3Nfa *nfa);
void		l3_nfa_edge(L3Nfa *nfa, uint32_t from, uint32_t low, uint32_t high, uint32_t to);
void		l3_nfa_skip(L3Nfa *nfa, uint32_t from, uint32_t to);
void		l3_nfa_free(L3Nfa *nfa);

/* ----------------------------------------------------------------
 *		Deterministic
 * ----------------------------------------------------------------
 */

typedef struct L3DfaEdge
{
	uint32_t	low;
	uint32_t	high;
	uint32_t	to;
} L3DfaEdge;

/*
 * From every state an accepting one can be reached; with no state at all the
 * language is empty.  Begins in state 0.
 */
typedef struct L3Dfa
{
	uint32_t	n_states;
	uint32_t   *first_edge;		/* (n_states + 1) */
	L3DfaEdge  *edges;			/* of a state: sorted, apart from each other */
	uint8_t    *accepts;		/* (n_states) */
} L3Dfa;

void		l3_dfa_free(L3Dfa *dfa);	/* NULL is fine */

/*
 * The deterministic automaton of the texts that lead from start to end.  All of
 * these take what they do (edges looked at) from *budget; they return
 * L3_ERR_LIMIT when it is used up or a bound is reached, or L3_ERR_MEMORY.
 */
L3Status	l3_nfa_determinize(const L3Nfa *nfa, uint32_t start, uint32_t end,
							   uint64_t *budget, L3Dfa **dfa, L3Error *err);
/* Texts of min to max code points (L3_GRAMMAR_UNBOUNDED). */
L3Status	l3_dfa_of_length(uint32_t min, uint32_t max, uint64_t *budget,
							 L3Dfa **dfa, L3Error *err);
/* What is in both. */
L3Status	l3_dfa_intersect(const L3Dfa *a, const L3Dfa *b, uint64_t *budget,
							 L3Dfa **both, L3Error *err);

/* Code points of the shortest and the longest text (L3_GRAMMAR_UNBOUNDED). */
L3Status	l3_dfa_lengths(const L3Dfa *dfa, uint32_t *shortest, uint32_t *longest,
						   L3Error *err);
/* Is the UTF-8 text (len bytes) in the language?  Invalid bytes never are. */
bool		l3_dfa_matches(const L3Dfa *dfa, const char *text, size_t len);

/*
 * The node of the texts as they stand between the quotes of a JSON string: valid
 * UTF-8, escaped where JSON says they must be, each in one way: the short escape
 * where there is one, \u00xx otherwise.  U+0000 is left away, which PostgreSQL
 * does not store.
 */
uint32_t	l3_dfa_grammar(L3GrammarBuilder *b, const L3Dfa *dfa);
/* The same for one code point of ranges (n, apart from each other). */
uint32_t	l3_char_grammar(L3GrammarBuilder *b, const L3CharRange *ranges, uint32_t n);

/* A code point of a JSON string in that way; returns its 1 to 6 bytes. */
#define L3_JSON_CHAR_MAX	6
uint32_t	l3_json_char(uint32_t cp, char out[L3_JSON_CHAR_MAX]);

#endif							/* L3_DFA_H */
