/*-------------------------------------------------------------------------
 *
 * ids.c
 *	  A growing array of token ids.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#define IDS_MIN_CAPACITY	64

L3Status
l3_ids_append(L3Ids *ids, const int32_t *more, size_t n, L3Error *err)
{
	if (n > ids->capacity - ids->n)
	{
		size_t		capacity = ids->capacity < IDS_MIN_CAPACITY ?
			IDS_MIN_CAPACITY : ids->capacity;
		int32_t    *grown;

		while (capacity - ids->n < n && capacity <= SIZE_MAX / (2 * sizeof(int32_t)))
			capacity *= 2;
		grown = capacity - ids->n < n ? NULL :
			realloc(ids->ids, capacity * sizeof(int32_t));
		if (grown == NULL)
			return l3_error(err, L3_ERR_MEMORY,
							"out of memory for %zu token ids", ids->n + n);
		ids->ids = grown;
		ids->capacity = capacity;
	}
	if (n > 0)
		memcpy(ids->ids + ids->n, more, n * sizeof(int32_t));
	ids->n += n;
	return L3_OK;
}

void
l3_ids_free(L3Ids *ids)
{
	free(ids->ids);
	ids->ids = NULL;
	ids->n = 0;
	ids->capacity = 0;
}

typedef struct AppendCtx
{
	L3Ids	   *ids;
	L3Error    *err;
	L3Status	status;
} AppendCtx;

static bool
append_run(void *ctx, const int32_t *run, size_t n)
{
	AppendCtx  *append = ctx;

	append->status = l3_ids_append(append->ids, run, n, append->err);
	return append->status != L3_OK;
}

L3Status
l3_tokenizer_encode_ids(const L3Tokenizer *tok, const char *text, size_t len,
						bool special, L3Ids *ids, L3Error *err)
{
	size_t		n_before = ids->n;
	L3Error		append_err;
	AppendCtx	append = {.ids = ids,.err = &append_err,.status = L3_OK};
	L3Status	status = l3_tokenizer_encode(tok, text, len, special,
											 append_run, &append, err);

	if (status != L3_OK)
		ids->n = n_before;
	if (append.status != L3_OK)
	{
		/* The reason is the append's, not the stop that it asked for. */
		*err = append_err;
		status = append.status;
	}
	return status;
}
