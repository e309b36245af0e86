/*-------------------------------------------------------------------------
 *
 * output.h
 *	  A file that appears under its name only when it is whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdio.h>

#include "trainer.h"

typedef struct TrOutput
{
	FILE	   *file;
	char	   *path;
	char	   *temporary;		/* path with ".tmp" behind */
} TrOutput;

/* All of these exit(1) with a message when the system refuses. */
void		tr_output_begin(TrOutput *out, const char *path);
void		tr_output_write(TrOutput *out, const void *data, size_t size);
/* Flush to disk and give the file its name. */
void		tr_output_commit(TrOutput *out);

#endif							/* OUTPUT_H */
