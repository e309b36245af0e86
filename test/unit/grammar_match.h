/*-------------------------------------------------------------------------
 *
 * grammar_match.h
 *	  A slow matcher of grammars that shares nothing with the automaton, and
 *	  random grammars, for tests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GRAMMAR_MATCH_H
#define GRAMMAR_MATCH_H

#include "grammar.h"

/* Longest text that is matched. */
#define MATCH_MAX_TEXT	1023

/*
 * Is the text (n bytes) one of the grammar (*whole), and does one of the
 * grammar begin with it (*begins)?
 */
void		match_grammar(const L3Grammar *grammar, const char *text, size_t n,
						  bool *whole, bool *begins);
bool		match_whole(const L3Grammar *grammar, const char *text, size_t n);
bool		match_begins(const L3Grammar *grammar, const char *text, size_t n);

/*
 * A random grammar over the first letters of the alphabet: sequences,
 * alternatives, repetition nested in repetition, empty loops, counters up to
 * 2^32 - 1, and rules that come back to themselves.  NULL when nothing matches
 * what was drawn.  Free it with free.
 */
L3Grammar  *random_grammar(uint64_t *state, int n_letters);

/*
 * A grammar of JSON's look: {"name": string, "size": number, "tags": [string
 * or true or null, ...], "next": null or the same again}, with strings of at
 * most max_length characters of UTF-8.
 */
L3Grammar  *json_grammar(uint32_t max_length);

/* A grammar of one rule made by f, which gets the builder. */
L3Grammar  *grammar_of(uint32_t (*f) (L3GrammarBuilder *b));
/* Print it, for the reader of a failure. */
void		print_grammar(const L3Grammar *grammar);
/* One string. */
uint32_t	grammar_text(L3GrammarBuilder *b, const char *text);

#endif							/* GRAMMAR_MATCH_H */
