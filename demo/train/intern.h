/*-------------------------------------------------------------------------
 *
 * intern.h
 *	  A set of byte strings, numbered in the order in which they came.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INTERN_H
#define INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TrString
{
	size_t		offset;			/* into bytes */
	uint32_t	len;
	uint32_t	hash;
} TrString;

typedef struct TrIntern
{
	char	   *bytes;
	size_t		n_bytes;
	size_t		byte_capacity;
	TrString   *strings;		/* (n) */
	uint32_t	n;
	uint32_t	capacity;
	uint32_t   *slots;			/* (n_slots) number + 1, 0: empty; linear probing */
	uint32_t	n_slots;		/* a power of two, at least 2 * n */
} TrIntern;

/*
 * The number of the string, which is put in when it is new (*added, if given,
 * says so).  Zero-initialise the set.
 */
uint32_t	tr_intern(TrIntern *set, const char *bytes, size_t len, bool *added);
/* The number of the string, or -1. */
int64_t		tr_intern_find(const TrIntern *set, const char *bytes, size_t len);
void		tr_intern_free(TrIntern *set);

#endif							/* INTERN_H */
