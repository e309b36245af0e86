/*-------------------------------------------------------------------------
 *
 * regex.h
 *	  Regular expressions of JSON Schema's "pattern" to automata.
 *
 * The regular part of ECMA-262's expressions with the flag "u" (section 22.2):
 *
 *		characters, .		a literal, any but a line end
 *		\d \D \w \W \s \S	digits, word characters, white space, and not
 *		\t \n \v \f \r \0	\xHH \uHHHH \u{H...}, \ before punctuation
 *		[abc] [a-z] [^...]	classes, with the escapes above and \b
 *		(...) (?:...)		groups
 *		a|b  a* a+ a?		a{n} a{n,} a{n,m}, each also with ? (lazy, which
 *							does not change what matches)
 *		^ $					at the ends of the whole, or of its alternatives
 *
 * Without anchors a pattern is looked for anywhere in the text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_REGEX_H
#define L3_REGEX_H

#include "dfa.h"

#define L3_REGEX_MAX_BYTES	8192	/* of a pattern */
#define L3_REGEX_MAX_DEPTH	64		/* of groups */

/*
 * The automaton of the texts that a pattern (len bytes of UTF-8) matches.
 * L3_ERR_UNSUPPORTED for what is not in the list, which the message names (as
 * the end of a sentence: "a look-around \"(?=\" is not supported"), L3_ERR_ARG
 * for what is no expression, L3_ERR_LIMIT beyond the bounds of dfa.h.
 */
L3Status	l3_regex_compile(const char *pattern, size_t len, uint64_t *budget,
							 L3Dfa **dfa, L3Error *err);

#endif							/* L3_REGEX_H */
