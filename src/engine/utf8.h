/*-------------------------------------------------------------------------
 *
 * utf8.h
 *	  One strict UTF-8 decoder for the whole engine.
 *
 * Text may hold anything, so the decoder never fails: a byte that does not
 * start a well-formed sequence (Unicode, table 3-7: no overlong forms, no
 * surrogates, nothing above U+10FFFF) is one unit of its own, L3_UTF8_INVALID.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_UTF8_H
#define L3_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define L3_UTF8_INVALID		UINT32_MAX

/*
 * How many bytes the sequence at p (n >= 1 bytes) could have, judged by its
 * first byte, and how many of them are there and well-formed.  *want is 1 for
 * ASCII and 0 for a byte that cannot start a sequence.
 */
static inline unsigned
l3_utf8_well_formed(const uint8_t *p, size_t n, unsigned *want)
{
	uint8_t		lead = p[0];
	uint8_t		low = 0x80;
	uint8_t		high = 0xBF;
	unsigned	got = 1;

	if (lead < 0x80)
		*want = 1;
	else if (lead >= 0xC2 && lead <= 0xDF)
		*want = 2;
	else if (lead >= 0xE0 && lead <= 0xEF)
		*want = 3;
	else if (lead >= 0xF0 && lead <= 0xF4)
		*want = 4;
	else
	{
		*want = 0;
		return 0;
	}
	/* Only the second byte has a range that depends on the first. */
	if (lead == 0xE0)
		low = 0xA0;
	else if (lead == 0xED)
		high = 0x9F;
	else if (lead == 0xF0)
		low = 0x90;
	else if (lead == 0xF4)
		high = 0x8F;
	while (got < *want && got < n && p[got] >= low && p[got] <= high)
	{
		got++;
		low = 0x80;
		high = 0xBF;
	}
	return got;
}

/*
 * Decode the code point at p (n >= 1 bytes); returns its length in bytes.  An
 * invalid byte has length 1 and the value L3_UTF8_INVALID.
 */
static inline unsigned
l3_utf8_decode(const uint8_t *p, size_t n, uint32_t *cp)
{
	unsigned	want;
	unsigned	got;

	if (p[0] < 0x80)
	{
		*cp = p[0];
		return 1;
	}
	got = l3_utf8_well_formed(p, n, &want);
	if (want == 0 || got < want)
	{
		*cp = L3_UTF8_INVALID;
		return 1;
	}
	*cp = p[0] & (0xFFu >> (want + 1));
	for (unsigned i = 1; i < want; i++)
		*cp = *cp << 6 | (p[i] & 0x3Fu);
	return want;
}

#endif							/* L3_UTF8_H */
