/*-------------------------------------------------------------------------
 *
 * decimal.h
 *	  Numbers between bounds, as automata over their decimal notation.
 *
 * Bounds are taken as the decimals that stand in the schema, not as the binary
 * fractions near them.  Numbers are written plainly: no exponent, no plus, no
 * leading zeros, no "-0".
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_DECIMAL_H
#define L3_DECIMAL_H

#include "dfa.h"

/*
 * Digits of a number that is written.  With 15 in all, different decimals are
 * different doubles (IEEE 754), so that a reader that knows only doubles finds
 * the bounds kept.  Integers have more, up to 19, where a bound of 16 digits or
 * more asks for them.
 */
#define L3_DECIMAL_DIGITS		15
#define L3_DECIMAL_LONG_DIGITS	19
/* Digits behind the point, where no bound has more. */
#define L3_DECIMAL_FRACTION		10

/* mantissa * 10 ^ exponent */
typedef struct L3Decimal
{
	int64_t		mantissa;
	int32_t		exponent;
} L3Decimal;

/* Zero-initialise: no bounds. */
typedef struct L3Interval
{
	bool		has_low;
	bool		has_high;
	bool		low_open;		/* the bound itself is outside */
	bool		high_open;
	L3Decimal	low;
	L3Decimal	high;
} L3Interval;

/* The shortest decimal that reads as this double; it must be finite. */
L3Decimal	l3_decimal_of_double(double value);
/* A JSON number as it is written; false: it has more digits than there is room for. */
bool		l3_decimal_of_text(const char *text, size_t len, L3Decimal *decimal);
/* -1, 0 or 1. */
int			l3_decimal_compare(L3Decimal a, L3Decimal b);
bool		l3_decimal_is_integer(L3Decimal value);

/* Narrow an interval by one more bound. */
void		l3_interval_low(L3Interval *interval, L3Decimal bound, bool open);
void		l3_interval_high(L3Interval *interval, L3Decimal bound, bool open);
bool		l3_interval_contains(const L3Interval *interval, L3Decimal value);
/* Is no number in both? */
bool		l3_interval_disjoint(const L3Interval *a, const L3Interval *b);
/* Is there no number in it? */
bool		l3_interval_is_empty(const L3Interval *interval);

/*
 * The automaton of the numbers in interval; integers only, or with a fraction
 * too.  L3_ERR_UNSUPPORTED when all of them have more digits than are written.
 */
L3Status	l3_interval_dfa(const L3Interval *interval, bool integers, uint64_t *budget,
							L3Dfa **dfa, L3Error *err);

#endif							/* L3_DECIMAL_H */
