/*-------------------------------------------------------------------------
 *
 * safetensors.h
 *	  The safetensors container: a JSON header, then the tensors' bytes.
 *
 * Source: the format's description (safetensors, README).
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_SAFETENSORS_H
#define L3_SAFETENSORS_H

#include "json.h"
#include "source.h"

#define L3_SAFETENSORS_MAX_TENSORS	65536

typedef struct L3FoundList
{
	L3FoundTensor *found;		/* (n), malloc'ed */
	uint64_t	n;
	uint64_t	capacity;
} L3FoundList;

/*
 * Append the tensors of a file to the list.  Their names point into *header,
 * which the caller gets on success and frees when the list is done with.
 */
L3Status	l3_safetensors_list(const L3Reader *reader, uint32_t file,
								json_t **header, L3FoundList *list, L3Error *err);

#endif							/* L3_SAFETENSORS_H */
