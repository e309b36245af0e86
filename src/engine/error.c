/*-------------------------------------------------------------------------
 *
 * error.c
 *	  Filling an L3Error.
 *
 * Messages quote names that come out of hostile files (tensor names, keys,
 * paths), and they travel on to server logs and clients.  So whatever was
 * formatted is scrubbed here, once: one line, no control characters, valid
 * UTF-8, never cut inside a character.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * Length of the well-formed UTF-8 sequence at s, or 0 (the Unicode Standard,
 * table 3-7).  s ends with a NUL, which no continuation byte can be.
 */
static size_t
utf8_sequence(const unsigned char *s)
{
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	size_t		len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xC2 && s[0] <= 0xDF)
		len = 2;
	else if (s[0] >= 0xE0 && s[0] <= 0xEF)
		len = 3;
	else if (s[0] >= 0xF0 && s[0] <= 0xF4)
		len = 4;
	else
		return 0;

	if (s[0] == 0xE0)
		low = 0xA0;
	else if (s[0] == 0xED)
		high = 0x9F;
	else if (s[0] == 0xF0)
		low = 0x90;
	else if (s[0] == 0xF4)
		high = 0x8F;

	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
	{
		if (s[i] < 0x80 || s[i] > 0xBF)
			return 0;
	}
	return len;
}

/* Replace what must not stand in a message by question marks. */
static void
scrub(char *text)
{
	unsigned char *s = (unsigned char *) text;

	while (*s != '\0')
	{
		size_t		len = utf8_sequence(s);

		if (len == 0 || *s < 0x20 || *s == 0x7F)
		{
			*s++ = '?';
			continue;
		}
		s += len;
	}
}

L3Status
l3_error(L3Error *err, L3Status status, const char *fmt,...)
{
	int			saved_errno = errno;
	va_list		args;

	err->status = status;
	err->saved_errno = status == L3_ERR_IO ? saved_errno : 0;
	err->detail[0] = '\0';
	err->hint[0] = '\0';

	va_start(args, fmt);
	errno = saved_errno;		/* for %m */
	vsnprintf(err->message, sizeof(err->message), fmt, args);
	va_end(args);
	scrub(err->message);
	errno = saved_errno;
	return status;
}

void
l3_error_detail(L3Error *err, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(err->detail, sizeof(err->detail), fmt, args);
	va_end(args);
	scrub(err->detail);
}

void
l3_error_hint(L3Error *err, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, args);
	va_end(args);
	scrub(err->hint);
}
