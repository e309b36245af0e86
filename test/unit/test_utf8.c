/*-------------------------------------------------------------------------
 *
 * test_utf8.c
 *	  The decoder, incomplete tails, and cleaning of invalid bytes.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "engine.h"
#include "tap.h"
#include "utf8.h"

/* Encode any number below 0x200000 by the bit pattern alone. */
static unsigned
put_bits(uint32_t cp, unsigned len, uint8_t *out)
{
	static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};

	if (len == 1)
	{
		out[0] = (uint8_t) cp;
		return 1;
	}
	for (unsigned i = len - 1; i > 0; i--, cp >>= 6)
		out[i] = (uint8_t) (0x80 | (cp & 0x3F));
	out[0] = (uint8_t) (lead[len] | cp);
	return len;
}

static void
test_decoder(void)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	static const uint32_t over[5] = {0, 0x80, 0x800, 0x10000, 0x200000};
	unsigned	wrong = 0;

	for (unsigned len = 1; len <= 4; len++)
	{
		for (uint32_t bits = 0; bits < over[len]; bits++)
		{
			uint8_t		bytes[4];
			uint32_t	cp;
			bool		valid = bits >= least[len] && bits <= 0x10FFFF &&
				!(bits >= 0xD800 && bits <= 0xDFFF);
			unsigned	n;

			put_bits(bits, len, bytes);
			n = l3_utf8_decode(bytes, len, &cp);
			if (valid ? (n != len || cp != bits) : (n != 1 || cp != L3_UTF8_INVALID))
				wrong++;
			if (len > 1 && (l3_utf8_decode(bytes, len - 1, &cp) != 1 ||
							cp != L3_UTF8_INVALID))
				wrong++;
		}
	}
	tap_ok(wrong == 0, "every 1 to 4 byte pattern decodes as Unicode's table 3-7 says");
}

static void
complete_is(const char *bytes, size_t n, size_t expected, const char *what)
{
	size_t		got = l3_utf8_complete(bytes, n);

	tap_ok(got == expected, "%s: %zu of %zu bytes are complete (got %zu)",
		   what, expected, n, got);
}

static void
test_complete(void)
{
	complete_is("", 0, 0, "nothing");
	complete_is("abc", 3, 3, "ASCII");
	complete_is("a\xC3", 2, 1, "lead of two");
	complete_is("a\xC3\xA9", 3, 3, "two bytes");
	complete_is("a\xE2\x82", 3, 1, "two of three");
	complete_is("a\xE2", 2, 1, "one of three");
	complete_is("\xF0\x9F\x8E", 3, 0, "three of four");
	complete_is("\xF0\x9F\x8E\x89", 4, 4, "four bytes");
	complete_is("\xF0\x9F\x8E\x89\xF0\x9F", 6, 4, "a character and a half");
	complete_is("a\x80", 2, 2, "lone continuation");
	complete_is("\x80\x80\x80\x80", 4, 4, "only continuations");
	complete_is("a\xFF", 2, 2, "byte that starts nothing");
	complete_is("a\xC0", 2, 2, "lead of an overlong form");
	complete_is("\xE0\x80", 2, 2, "overlong form in the making");
	complete_is("\xED\xA0", 2, 2, "surrogate in the making");
	complete_is("\xF4\x90\x80", 3, 3, "over U+10FFFF in the making");
}

static void
sanitize_is(const char *bytes, size_t n, const char *expected, const char *what)
{
	char		out[64];
	size_t		got = l3_utf8_sanitize(bytes, n, out);

	tap_ok(got == strlen(expected) && memcmp(out, expected, got) == 0, "sanitize: %s", what);
}

#define FFFD "\xEF\xBF\xBD"

static void
test_sanitize(void)
{
	sanitize_is("h\xC3\xA9!", 4, "h\xC3\xA9!", "valid text is kept");
	sanitize_is("a\0b", 3, "ab", "NUL is dropped");
	sanitize_is("\xFF\xFE", 2, FFFD FFFD, "each impossible byte is replaced");
	sanitize_is("a\xE2\x82z", 4, "a" FFFD "z", "a truncated sequence is one replacement");
	sanitize_is("\xED\xA0\x80", 3, FFFD FFFD FFFD, "a surrogate is three");
	sanitize_is("\xF0\x9F\x8E", 3, FFFD, "a truncated tail is one");
	sanitize_is("\xC0\x80", 2, FFFD FFFD, "an overlong NUL is two");
	/* Unicode 15, table 3-11. */
	sanitize_is("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 9,
				FFFD FFFD FFFD FFFD "A", "maximal subparts as in table 3-11");
}

int
main(void)
{
	test_decoder();
	test_complete();
	test_sanitize();
	return tap_done();
}
