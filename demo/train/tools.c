/*-------------------------------------------------------------------------
 *
 * tools.c
 *	  What every file of the trainer needs: failure, memory, files, time,
 *	  randomness.
 *
 *-------------------------------------------------------------------------
 */
#include "trainer.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TR_ALIGNMENT	64		/* bytes: a cache line, the widest vector */

void
tr_fail(const char *fmt,...)
{
	va_list		args;

	fflush(stdout);
	fputs("trainer: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void *
tr_alloc(size_t size)
{
	size_t		rounded = (size + TR_ALIGNMENT - 1) / TR_ALIGNMENT * TR_ALIGNMENT;
	void	   *p;

	if (rounded < size)
		tr_fail("out of memory: %zu bytes asked for", size);
	if (rounded == 0)
		rounded = TR_ALIGNMENT;
	p = aligned_alloc(TR_ALIGNMENT, rounded);
	if (p == NULL)
		tr_fail("out of memory: %zu bytes asked for", size);
	memset(p, 0, rounded);
	return p;
}

char *
tr_read_file(const char *path, size_t *size)
{
	FILE	   *file = fopen(path, "rb");
	size_t		room = 1 << 16;
	size_t		used = 0;
	char	   *data;

	if (file == NULL)
		tr_fail("could not open file \"%s\": %s", path, strerror(errno));
	if (fseeko(file, 0, SEEK_END) == 0 && ftello(file) > 0)
		room = (size_t) ftello(file) + 1;
	rewind(file);
	data = malloc(room);
	for (;;)
	{
		size_t		n;

		if (data == NULL)
			tr_fail("out of memory: %zu bytes asked for file \"%s\"", room, path);
		/* One byte stays free for the NUL. */
		n = fread(data + used, 1, room - 1 - used, file);
		used += n;
		if (used < room - 1)
			break;
		room *= 2;
		data = realloc(data, room);
	}
	if (ferror(file))
		tr_fail("could not read file \"%s\": %s", path, strerror(errno));
	fclose(file);
	data[used] = '\0';
	*size = used;
	return data;
}

double
tr_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

uint64_t
tr_random(TrRandom *random)
{
	uint64_t	z = (random->state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

double
tr_uniform(TrRandom *random)
{
	return (double) (tr_random(random) >> 11) * 0x1p-53;
}

double
tr_normal(TrRandom *random)
{
	/* 1 - u is in (0, 1]: its logarithm is finite. */
	double		radius = sqrt(-2.0 * log(1.0 - tr_uniform(random)));

	return radius * cos(2.0 * M_PI * tr_uniform(random));
}
