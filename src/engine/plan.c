/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  What a model would cost, from its headers alone.
 *
 *-------------------------------------------------------------------------
 */
#include "kernels/kernels.h"
#include "source.h"
#include "workspace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*
 * "F32 66, Q4_K 193, Q6_K 33": names with their counts, in the order of the
 * types.
 */
static void
format_counts(char *text, size_t size, const uint32_t *counts, int n_types,
			  const char *(*name) (int type))
{
	size_t		at = 0;

	text[0] = '\0';
	for (int type = 0; type < n_types && at < size; type++)
	{
		if (counts[type] > 0)
			at += (size_t) snprintf(text + at, size - at, "%s%s %" PRIu32,
									at > 0 ? ", " : "", name(type), counts[type]);
	}
}

static const char *
file_type_name(int type)
{
	return l3_file_type((L3FileType) type)->name;
}

static const char *
packed_type_name(int type)
{
	return l3_packed_type_name((L3PackedType) type);
}

L3Status
l3_plan(L3Source *source, const L3EngineOptions *options, L3Plan *plan, L3Error *err)
{
	const L3Hparams *hp = &source->hparams;
	uint32_t	file_counts[L3_N_FILE_TYPES] = {0};
	uint32_t	packed_counts[L3_N_PACKED_TYPES] = {0};

	memset(plan, 0, sizeof(*plan));
	plan->hparams = *hp;
	memcpy(plan->architecture, source->architecture, sizeof(plan->architecture));
	memcpy(plan->name, source->name, sizeof(plan->name));
	for (uint64_t i = 0; i < source->layout.n_tensors; i++)
	{
		/* The file's view: without the divisors that we add where it has none. */
		if (!source->tensors[i].present)
			continue;
		file_counts[source->tensors[i].type]++;
		packed_counts[source->table[i].type]++;
	}
	format_counts(plan->file_types, sizeof(plan->file_types), file_counts,
				  L3_N_FILE_TYPES, file_type_name);
	format_counts(plan->packed_types, sizeof(plan->packed_types), packed_counts,
				  L3_N_PACKED_TYPES, packed_type_name);

	plan->n_files = source->n_files;
	for (uint32_t i = 0; i < source->n_files; i++)
	{
		const L3Reader *reader;
		L3Status	status;

		if (source->files[i].size == UINT64_MAX &&
			(status = l3_source_reader(source, i, &reader, err)) != L3_OK)
			return status;
		plan->file_bytes += source->files[i].size;
	}
	plan->n_params = source->layout.n_params;
	plan->weight_bytes = source->layout.total_bytes;
	plan->tokenizer_bytes = l3_source_tokenizer_size(source);
	plan->kv_bytes_per_token = (uint64_t) hp->n_layers * hp->n_kv_heads *
		(l3_kv_head_bytes(options->kv_type, hp->head_dim) +
		 l3_kv_head_bytes(options->kv_type, hp->value_dim));
	plan->workspace_bytes = l3_workspace_bytes(hp, options);
	return L3_OK;
}
