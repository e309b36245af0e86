/*-------------------------------------------------------------------------
 *
 * stops.h
 *	  Stop strings, found in an answer's bytes as they come.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_STOPS_H
#define L3_STOPS_H

#include "engine.h"

typedef struct L3Stops
{
	int32_t		n;
	int32_t		total_len;
	char	   *text;			/* (total_len) all strings, one after another */
	int32_t    *fail;			/* (total_len) Knuth, Morris and Pratt's table */
	int32_t    *end;			/* (n) end of each string in text */
	int32_t    *matched;		/* (n) bytes of each that the answer's end matches */
	int64_t		n_bytes;		/* of the answer so far */
} L3Stops;

/* n stop strings, none empty; zero strings are fine. */
L3Status	l3_stops_init(L3Stops *stops, const char *text, const int32_t *len, int32_t n,
						  L3Error *err);
void		l3_stops_free(L3Stops *stops);

/*
 * Append bytes.  True when a stop string is complete: *n_final is then the
 * length of the answer before it.  Of strings that end at the same byte the
 * longest counts.  Else *n_final is the length that no later byte can take
 * back.
 */
bool		l3_stops_append(L3Stops *stops, const char *bytes, uint32_t n, int64_t *n_final);

#endif							/* L3_STOPS_H */
