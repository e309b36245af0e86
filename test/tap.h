/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  The few lines that a C test needs to speak TAP.
 *
 * A test calls tap_ok for each behaviour and returns tap_done().  The plan is
 * printed at the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int	tap_count;
static int	tap_failures;

/* Report one behaviour; returns ok. */
__attribute__((format(printf, 2, 3), unused))
static bool
tap_ok(bool ok, const char *fmt,...)
{
	va_list		args;

	tap_count++;
	if (!ok)
		tap_failures++;
	printf("%sok %d - ", ok ? "" : "not ", tap_count);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	return ok;
}

/* Say that a behaviour could not be tested here, and why. */
__attribute__((format(printf, 1, 2), unused))
static void
tap_skip(const char *fmt,...)
{
	va_list		args;

	tap_count++;
	printf("ok %d # SKIP ", tap_count);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* A line for the reader: a figure, a seed. */
__attribute__((format(printf, 1, 2), unused))
static void
tap_note(const char *fmt,...)
{
	va_list		args;

	fputs("# ", stdout);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* Print the plan; the value to return from main. */
__attribute__((unused))
static int
tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures > 0 ? 1 : 0;
}

#endif							/* TAP_H */
