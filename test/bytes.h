/*-------------------------------------------------------------------------
 *
 * bytes.h
 *	  A growing run of bytes, for tools and tests that write binary files.
 *
 * Numbers are little-endian, and so must be the machine.  Without memory the
 * program ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BYTES_H
#define BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Zero-initialise; free() data. */
typedef struct Bytes
{
	uint8_t    *data;
	size_t		n;
	size_t		capacity;
} Bytes;

static inline void
bytes_put(Bytes *b, const void *bytes, size_t n)
{
	if (b->n + n > b->capacity)
	{
		b->capacity = (b->n + n) * 2;
		b->data = realloc(b->data, b->capacity);
		if (b->data == NULL)
		{
			fputs("out of memory\n", stderr);
			exit(1);
		}
	}
	if (n > 0)
		memcpy(b->data + b->n, bytes, n);
	b->n += n;
}

static inline void
bytes_put_u32(Bytes *b, uint32_t value)
{
	bytes_put(b, &value, sizeof(value));
}

static inline void
bytes_put_u64(Bytes *b, uint64_t value)
{
	bytes_put(b, &value, sizeof(value));
}

/* A string as GGUF has it: the length in 64 bits, then the bytes. */
static inline void
bytes_put_text(Bytes *b, const char *text, size_t n)
{
	bytes_put_u64(b, n);
	bytes_put(b, text, n);
}

#endif							/* BYTES_H */
