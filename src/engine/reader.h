/*-------------------------------------------------------------------------
 *
 * reader.h
 *	  Bounds-checked reading of model files.
 *
 * The only place where the engine reads a file.  A reader stands on a file
 * descriptor (pread, never mmap: a file that shrinks while we read must give
 * an error, not SIGBUS) or on a memory buffer, so that fuzzers go through the
 * same code.  A cursor walks a header of unknown length: it holds in memory
 * only bytes that the file really has, whatever lengths the header claims.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_READER_H
#define L3_READER_H

#include "engine.h"

/* Bounds of what is held in memory of one file. */
#define L3_MAX_HEADER_BYTES		((uint64_t) 256 << 20)
#define L3_MAX_JSON_BYTES		((uint64_t) 64 << 20)

typedef struct L3Reader
{
	char	   *path;			/* for messages; owned */
	int			fd;				/* -1: memory */
	const uint8_t *memory;		/* (size) */
	uint64_t	size;
} L3Reader;

/* Opens regular files only, without ever waiting. */
L3Status	l3_reader_open(L3Reader *reader, const char *path, L3Error *err);
L3Status	l3_reader_open_memory(L3Reader *reader, const char *name,
								  const void *memory, uint64_t size, L3Error *err);
void		l3_reader_close(L3Reader *reader);

/* Read n bytes at offset; L3_ERR_FORMAT ("truncated") when they are not there. */
L3Status	l3_reader_read(const L3Reader *reader, uint64_t offset,
						   void *dst, uint64_t n, L3Error *err);
/*
 * Read the whole file of at most max bytes into a malloc'ed buffer that ends
 * with an extra NUL.
 */
L3Status	l3_reader_slurp(const L3Reader *reader, uint64_t max,
							char **data, size_t *len, L3Error *err);
/* The error for a file that is shorter than its header says. */
L3Status	l3_reader_truncated(const L3Reader *reader, uint64_t needed, L3Error *err);
/*
 * The error for a file that does not start as a what ("GGUF file"); recognises
 * what people have instead: a git-lfs pointer, a web page, an older format.
 */
L3Status	l3_reader_wrong_format(const L3Reader *reader, const char *what, L3Error *err);

/* A cursor over the start of a file. */
typedef struct L3Cursor
{
	const L3Reader *reader;
	uint8_t    *bytes;			/* (filled), the file's first bytes */
	uint64_t	filled;
	uint64_t	capacity;
	uint64_t	at;				/* next byte to take */
} L3Cursor;

void		l3_cursor_init(L3Cursor *cursor, const L3Reader *reader);
void		l3_cursor_free(L3Cursor *cursor);
/* Have n more bytes in memory at cursor->at. */
L3Status	l3_cursor_need(L3Cursor *cursor, uint64_t n, L3Error *err);
L3Status	l3_cursor_skip(L3Cursor *cursor, uint64_t n, L3Error *err);
/* Little-endian integers. */
L3Status	l3_cursor_u32(L3Cursor *cursor, uint32_t *value, L3Error *err);
L3Status	l3_cursor_u64(L3Cursor *cursor, uint64_t *value, L3Error *err);

/* Unaligned little-endian loads from memory that was checked. */
uint16_t	l3_load_u16(const void *p);
uint32_t	l3_load_u32(const void *p);
uint64_t	l3_load_u64(const void *p);

/*
 * Make room for one more element of an array that grows by doubling, so that
 * memory follows what was really read and never a count that a file claims.
 */
L3Status	l3_grow(void **array, uint64_t n, uint64_t *capacity, size_t element,
					L3Error *err);
/* calloc with an L3Error; n may be 0 (gives a non-NULL pointer). */
L3Status	l3_calloc(void **mem, uint64_t n, size_t element, L3Error *err);

#endif							/* L3_READER_H */
