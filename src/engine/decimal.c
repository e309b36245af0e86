/*-------------------------------------------------------------------------
 *
 * decimal.c
 *	  Numbers between bounds.
 *
 * Numbers with up to F digits behind the point are integers when they are
 * scaled by 10 ^ F, and so are the bounds, rounded inwards.  For each number n
 * of digits before the point, a chain of states reads digit by digit and
 * remembers whether what it has read is still the beginning of the lower bound,
 * and of the upper one.
 *
 *-------------------------------------------------------------------------
 */
#include "decimal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits of the largest scaled number, L3_DECIMAL_LONG_DIGITS + _DIGITS. */
#define MAX_SCALED_DIGITS	(L3_DECIMAL_LONG_DIGITS + L3_DECIMAL_DIGITS)

/* Exponents in texts are taken to be no larger: those of doubles are far smaller. */
#define MAX_TEXT_EXPONENT	1000000

typedef __int128 Scaled;

static Scaled
power_of_ten(uint32_t n)
{
	Scaled		power = 1;

	while (n-- > 0)
		power *= 10;
	return power;
}

/* ----------------------------------------------------------------
 *		Decimals
 * ----------------------------------------------------------------
 */

L3Decimal
l3_decimal_of_double(double value)
{
	char		text[40];
	L3Decimal	decimal = {0, 0};
	bool		behind_point = false;
	const char *p;

	/* 17 digits always suffice (IEEE 754, section 5.12.2). */
	for (int precision = 0; precision <= 16; precision++)
	{
		snprintf(text, sizeof(text), "%.*e", precision, value);
		if (strtod(text, NULL) == value)
			break;
	}
	for (p = text + (text[0] == '-'); *p != 'e' && *p != '\0'; p++)
	{
		if (*p < '0' || *p > '9')
		{
			behind_point = true;
			continue;
		}
		decimal.mantissa = decimal.mantissa * 10 + (*p - '0');
		decimal.exponent -= behind_point;
	}
	if (*p == 'e')
		decimal.exponent += (int32_t) strtol(p + 1, NULL, 10);
	if (text[0] == '-')
		decimal.mantissa = -decimal.mantissa;
	return decimal;
}

/* The exponent of a number's text, behind the "e"; cut off far beyond any double. */
static int32_t
exponent_of_text(const char *text, size_t len)
{
	size_t		i = len > 0 && (text[0] == '-' || text[0] == '+');
	int32_t		exponent = 0;

	for (; i < len && exponent < MAX_TEXT_EXPONENT; i++)
		exponent = exponent * 10 + (text[i] - '0');
	return len > 0 && text[0] == '-' ? -exponent : exponent;
}

bool
l3_decimal_of_text(const char *text, size_t len, L3Decimal *decimal)
{
	bool		negative = len > 0 && text[0] == '-';
	bool		behind_point = false;
	int32_t		n_zeros = 0;	/* which count if another digit follows */
	size_t		i;

	*decimal = (L3Decimal) {0, 0};
	for (i = negative; i < len && text[i] != 'e' && text[i] != 'E'; i++)
	{
		int64_t		digit = text[i] - '0';

		if (text[i] == '.')
		{
			behind_point = true;
			continue;
		}
		decimal->exponent -= behind_point;
		n_zeros++;
		if (digit == 0)
			continue;
		for (; n_zeros > 0; n_zeros--)
			if (__builtin_mul_overflow(decimal->mantissa, 10, &decimal->mantissa))
				return false;
		if (__builtin_add_overflow(decimal->mantissa, negative ? -digit : digit,
								   &decimal->mantissa))
			return false;
	}
	decimal->exponent += n_zeros;
	if (i < len)
		decimal->exponent += exponent_of_text(text + i + 1, len - i - 1);
	return true;
}

static Scaled
magnitude(L3Decimal value)
{
	return value.mantissa < 0 ? -(Scaled) value.mantissa : value.mantissa;
}

/* Digits before the point, or minus the zeros behind it, of a number not 0. */
static int32_t
order_of(L3Decimal value)
{
	int32_t		n_digits = 0;

	for (Scaled m = magnitude(value); m > 0; m /= 10)
		n_digits++;
	return n_digits + value.exponent;
}

static int
compare_magnitudes(L3Decimal a, L3Decimal b)
{
	Scaled		x = magnitude(a);
	Scaled		y = magnitude(b);

	if (order_of(a) != order_of(b))
		return order_of(a) < order_of(b) ? -1 : 1;
	/* Of one order, so the exponents differ by less than the digits of 64 bits. */
	if (a.exponent > b.exponent)
		x *= power_of_ten((uint32_t) (a.exponent - b.exponent));
	else
		y *= power_of_ten((uint32_t) (b.exponent - a.exponent));
	return (x > y) - (x < y);
}

int
l3_decimal_compare(L3Decimal a, L3Decimal b)
{
	int			sign_a = (a.mantissa > 0) - (a.mantissa < 0);
	int			sign_b = (b.mantissa > 0) - (b.mantissa < 0);

	if (sign_a != sign_b || sign_a == 0)
		return (sign_a > sign_b) - (sign_a < sign_b);
	return sign_a * compare_magnitudes(a, b);
}

bool
l3_decimal_is_integer(L3Decimal value)
{
	int64_t		mantissa = value.mantissa;
	int32_t		exponent = value.exponent;

	for (; exponent < 0 && mantissa % 10 == 0 && mantissa != 0; exponent++)
		mantissa /= 10;
	return exponent >= 0 || mantissa == 0;
}

/* ----------------------------------------------------------------
 *		Intervals
 * ----------------------------------------------------------------
 */

void
l3_interval_low(L3Interval *interval, L3Decimal bound, bool open)
{
	int			order = interval->has_low ? l3_decimal_compare(bound, interval->low) : 1;

	if (order > 0)
		interval->low_open = open;
	else if (order == 0)
		interval->low_open |= open;
	else
		return;
	interval->low = bound;
	interval->has_low = true;
}

void
l3_interval_high(L3Interval *interval, L3Decimal bound, bool open)
{
	int			order = interval->has_high ? l3_decimal_compare(bound, interval->high) : -1;

	if (order < 0)
		interval->high_open = open;
	else if (order == 0)
		interval->high_open |= open;
	else
		return;
	interval->high = bound;
	interval->has_high = true;
}

bool
l3_interval_contains(const L3Interval *interval, L3Decimal value)
{
	if (interval->has_low &&
		l3_decimal_compare(value, interval->low) < (interval->low_open ? 1 : 0))
		return false;
	return !interval->has_high ||
		l3_decimal_compare(value, interval->high) <= (interval->high_open ? -1 : 0);
}

bool
l3_interval_is_empty(const L3Interval *interval)
{
	int			order;

	if (!interval->has_low || !interval->has_high)
		return false;
	order = l3_decimal_compare(interval->low, interval->high);
	return order > 0 || (order == 0 && (interval->low_open || interval->high_open));
}

bool
l3_interval_disjoint(const L3Interval *a, const L3Interval *b)
{
	L3Interval	both = *a;

	if (b->has_low)
		l3_interval_low(&both, b->low, b->low_open);
	if (b->has_high)
		l3_interval_high(&both, b->high, b->high_open);
	return l3_interval_is_empty(&both);
}

/* ----------------------------------------------------------------
 *		Scaled bounds
 * ----------------------------------------------------------------
 */

/* The numbers that are written. */
typedef struct Format
{
	uint32_t	integer_digits;
	uint32_t	fraction_digits;
	Scaled		largest;		/* scaled, as many nines */
} Format;

static uint32_t
fraction_digits_of(L3Decimal value)
{
	int64_t		mantissa = value.mantissa;
	int32_t		exponent = value.exponent;

	for (; exponent < 0 && mantissa % 10 == 0 && mantissa != 0; exponent++)
		mantissa /= 10;
	return exponent < 0 && mantissa != 0 ? (uint32_t) -exponent : 0;
}

static bool
is_long(bool has, L3Decimal bound)
{
	return has && bound.mantissa != 0 && order_of(bound) > L3_DECIMAL_DIGITS &&
		order_of(bound) <= L3_DECIMAL_LONG_DIGITS;
}

static Format
choose_format(const L3Interval *interval, bool integers)
{
	Format		format = {.integer_digits = L3_DECIMAL_DIGITS};
	uint32_t	wanted = L3_DECIMAL_FRACTION;

	if (is_long(interval->has_low, interval->low) || is_long(interval->has_high, interval->high))
		format.integer_digits = L3_DECIMAL_LONG_DIGITS;
	if (interval->has_low && fraction_digits_of(interval->low) > wanted)
		wanted = fraction_digits_of(interval->low);
	if (interval->has_high && fraction_digits_of(interval->high) > wanted)
		wanted = fraction_digits_of(interval->high);
	/* One digit stands before the point. */
	if (wanted > L3_DECIMAL_DIGITS - 1)
		wanted = L3_DECIMAL_DIGITS - 1;
	format.fraction_digits = integers ? 0 : wanted;
	format.largest = power_of_ten(format.integer_digits + format.fraction_digits) - 1;
	return format;
}

/*
 * A bound, scaled: the least number at or above it, or with downwards the
 * greatest at or below; strictly so if it is open.  Cut off just beyond what is
 * written.
 */
static Scaled
scaled_bound(L3Decimal bound, const Format *format, bool downwards, bool open)
{
	int32_t		shift = bound.exponent + (int32_t) format->fraction_digits;
	Scaled		sign = bound.mantissa < 0 ? -1 : 1;
	Scaled		value = bound.mantissa;
	Scaled		rest = 0;

	if (bound.mantissa != 0 &&
		order_of(bound) + (int32_t) format->fraction_digits > MAX_SCALED_DIGITS)
		return sign * (format->largest + 1);
	if (shift >= 0 && bound.mantissa != 0)
		value *= power_of_ten((uint32_t) shift);
	else if (shift < -L3_DECIMAL_LONG_DIGITS)
	{
		rest = value;
		value = 0;
	}
	else if (shift < 0)
	{
		Scaled		divisor = power_of_ten((uint32_t) -shift);

		rest = value % divisor;
		value /= divisor;
	}
	/* Division has rounded towards 0. */
	if (rest == 0 && open)
		value += downwards ? -1 : 1;
	else if (rest < 0 && downwards)
		value--;
	else if (rest > 0 && !downwards)
		value++;
	if (value > format->largest)
		return format->largest + 1;
	return value < -format->largest ? -format->largest - 1 : value;
}

/* ----------------------------------------------------------------
 *		States that read digits
 * ----------------------------------------------------------------
 */

/* Numbers with n digits before the point, from low to high (scaled). */
typedef struct Chain
{
	L3Nfa	   *nfa;
	uint32_t	end;
	uint32_t	n_integer;
	uint32_t	n_fraction;		/* that may be written */
	uint32_t	n_scaled;		/* digits of low and high */
	uint8_t		low[MAX_SCALED_DIGITS];
	uint8_t		high[MAX_SCALED_DIGITS];
	/* States by what was read, and by at_low, at_high; 0: none yet */
	uint32_t	state[MAX_SCALED_DIGITS + 1][2][2];
} Chain;

static void
write_digits(Scaled value, uint32_t n, uint8_t *digits)
{
	while (n-- > 0)
	{
		digits[n] = (uint8_t) (value % 10);
		value /= 10;
	}
}

static uint32_t
chain_state(Chain *c, uint32_t n_read, bool at_low, bool at_high)
{
	uint32_t   *state = &c->state[n_read][at_low][at_high];

	if (*state == 0)
		*state = l3_nfa_state(c->nfa);
	return *state;
}

/* One more digit, after n_read of them in the state from. */
static void
read_digit(Chain *c, uint32_t from, uint32_t n_read, bool at_low, bool at_high)
{
	uint32_t	low = at_low ? c->low[n_read] : 0;
	uint32_t	high = at_high ? c->high[n_read] : 9;

	for (uint32_t digit = low; digit <= high; digit++)
		l3_nfa_edge(c->nfa, from, '0' + digit, '0' + digit,
					chain_state(c, n_read + 1, at_low && digit == low, at_high && digit == high));
}

/* May the number end here, all further digits being 0? */
static bool
may_end(const Chain *c, uint32_t n_read, bool at_low)
{
	for (uint32_t i = n_read; i < c->n_scaled && at_low; i++)
		if (c->low[i] != 0)
			return false;
	return true;
}

static void
write_state(Chain *c, uint32_t n_read, bool at_low, bool at_high)
{
	uint32_t	state = c->state[n_read][at_low][at_high];
	uint32_t	point;

	if (state == 0)
		return;
	if (n_read >= c->n_integer && may_end(c, n_read, at_low))
		l3_nfa_skip(c->nfa, state, c->end);
	if (n_read == c->n_integer && c->n_fraction > 0)
	{
		point = l3_nfa_state(c->nfa);
		l3_nfa_edge(c->nfa, state, '.', '.', point);
		read_digit(c, point, n_read, at_low, at_high);
	}
	else if (n_read < c->n_integer + c->n_fraction)
		read_digit(c, state, n_read, at_low, at_high);
}

static void
write_chain(Chain *c, uint32_t from, Scaled low, Scaled high)
{
	memset(c->state, 0, sizeof(c->state));
	write_digits(low, c->n_scaled, c->low);
	write_digits(high, c->n_scaled, c->high);
	l3_nfa_skip(c->nfa, from, chain_state(c, 0, true, true));
	for (uint32_t n_read = 0; n_read <= c->n_integer + c->n_fraction; n_read++)
		for (int at = 0; at < 4; at++)
			write_state(c, n_read, at & 1, at >> 1);
}

/* All magnitudes from low to high (scaled, 0 <= low). */
static void
write_magnitudes(L3Nfa *nfa, uint32_t from, uint32_t end, Scaled low, Scaled high,
				 const Format *format)
{
	Chain		c = {.nfa = nfa, .end = end};
	Scaled		one = power_of_ten(format->fraction_digits);

	for (uint32_t n = 1; n <= format->integer_digits; n++)
	{
		Scaled		least = n == 1 ? 0 : power_of_ten(n - 1) * one;
		Scaled		most = power_of_ten(n) * one - 1;
		uint32_t	left = n < L3_DECIMAL_DIGITS ? L3_DECIMAL_DIGITS - n : 0;

		if (least < low)
			least = low;
		if (most > high)
			most = high;
		if (least > most)
			continue;
		c.n_integer = n;
		c.n_fraction = left < format->fraction_digits ? left : format->fraction_digits;
		c.n_scaled = n + format->fraction_digits;
		write_chain(&c, from, least, most);
	}
}

L3Status
l3_interval_dfa(const L3Interval *interval, bool integers, uint64_t *budget, L3Dfa **dfa,
				L3Error *err)
{
	Format		format = choose_format(interval, integers);
	Scaled		low = -format.largest;
	Scaled		high = format.largest;
	L3Nfa		nfa = {0};
	uint32_t	start = l3_nfa_state(&nfa);
	uint32_t	end = l3_nfa_state(&nfa);
	L3Status	status;

	*dfa = NULL;
	if (interval->has_low)
		low = scaled_bound(interval->low, &format, false, interval->low_open);
	if (interval->has_high)
		high = scaled_bound(interval->high, &format, true, interval->high_open);
	low = low < -format.largest ? -format.largest : low;
	high = high > format.largest ? format.largest : high;
	if (low > format.largest || high < -format.largest)
		status = l3_error(err, L3_ERR_UNSUPPORTED, "numbers of more than %u digits are not supported",
						  format.integer_digits);
	else
	{
		if (high >= 0)
			write_magnitudes(&nfa, start, end, low < 0 ? 0 : low, high, &format);
		if (low < 0)
		{
			uint32_t	minus = l3_nfa_state(&nfa);

			l3_nfa_edge(&nfa, start, '-', '-', minus);
			write_magnitudes(&nfa, minus, end, high < 0 ? -high : 1, -low, &format);
		}
		status = l3_nfa_determinize(&nfa, start, end, budget, dfa, err);
	}
	l3_nfa_free(&nfa);
	return status;
}
