/*-------------------------------------------------------------------------
 *
 * utf8.c
 *	  Making tokens' bytes fit for a database: tails and invalid bytes.
 *
 * A token may end inside a character, so a stream of pieces is handed on only
 * up to the last complete one; and a model may produce any bytes, so what
 * becomes a text value is cleaned first.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <string.h>

#include "utf8.h"

/* Bytes of the longest sequence. */
#define UTF8_MAX	4

size_t
l3_utf8_complete(const char *bytes, size_t n)
{
	const uint8_t *p = (const uint8_t *) bytes;

	/* Only a sequence that begins in the last three bytes can be open. */
	for (size_t back = 1; back < UTF8_MAX && back <= n; back++)
	{
		unsigned	want;
		unsigned	got;

		if ((p[n - back] & 0xC0) == 0x80)
			continue;			/* a continuation: look for its lead */
		got = l3_utf8_well_formed(p + n - back, back, &want);
		return got == back && got < want ? n - back : n;
	}
	return n;
}

size_t
l3_utf8_sanitize(const char *bytes, size_t n, char *out)
{
	static const char replacement[] = "\xEF\xBF\xBD";	/* U+FFFD */
	const uint8_t *p = (const uint8_t *) bytes;
	size_t		written = 0;

	for (size_t i = 0; i < n;)
	{
		unsigned	want;
		unsigned	got = l3_utf8_well_formed(p + i, n - i, &want);

		if (want > 0 && got == want)
		{
			if (p[i] != 0)
			{
				memcpy(out + written, p + i, got);
				written += got;
			}
			i += got;
		}
		else
		{
			/* The maximal subpart (Unicode, section 3.9) is one U+FFFD. */
			memcpy(out + written, replacement, 3);
			written += 3;
			i += got > 0 ? got : 1;
		}
	}
	return written;
}
