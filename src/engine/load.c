/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Reading, packing and summing the weights of a source into an arena.
 *
 * One pass in the order of the arena: a band of rows is read, packed panel by
 * panel, and what was packed enters the checksum while it is still in the
 * cache.  No more than one band of the file is ever held.  This runs in
 * whatever thread the caller has and starts none: it is used inside server
 * processes.
 *
 *-------------------------------------------------------------------------
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a file that are read at once; also the pace of progress reports. */
#define BAND_BYTES	((uint64_t) 1 << 20)

typedef struct Loader
{
	L3Source   *source;
	uint8_t    *arena;
	XXH3_state_t *sum;
	L3ProgressFn progress;
	void	   *ctx;
	uint64_t	done;			/* bytes of weights packed */
	uint8_t    *band;			/* (band_bytes) rows as read */
	uint64_t	band_bytes;
	uint8_t    *zero_row;		/* (zero_bytes) stands for missing columns */
	uint64_t	zero_bytes;
} Loader;

/* Count n bytes as packed: checksum, progress, cancellation. */
static L3Status
packed(Loader *loader, const uint8_t *bytes, uint64_t n, L3Error *err)
{
	XXH3_128bits_update(loader->sum, bytes, n);
	loader->done += n;
	if (loader->progress != NULL &&
		loader->progress(loader->ctx, loader->done, loader->source->layout.weight_bytes))
		return l3_error(err, L3_ERR_CANCELLED, "loading of model \"%s\" was cancelled",
						loader->source->path);
	return L3_OK;
}

/* The largest buffers that any tensor needs. */
static L3Status
allocate_buffers(Loader *loader, L3Error *err)
{
	const L3Source *source = loader->source;
	L3Status	status;

	loader->band_bytes = BAND_BYTES;
	for (uint64_t i = 0; i < source->layout.n_tensors; i++)
	{
		uint64_t	row_bytes;

		if (!source->tensors[i].present)
			continue;
		row_bytes = l3_file_row_bytes(source->tensors[i].type, source->table[i].n_in);
		if (row_bytes > loader->zero_bytes)
			loader->zero_bytes = row_bytes;
		if (row_bytes * L3_PANEL > loader->band_bytes)
			loader->band_bytes = row_bytes * L3_PANEL;
	}
	status = l3_calloc((void **) &loader->band, loader->band_bytes, 1, err);
	if (status == L3_OK)
		status = l3_calloc((void **) &loader->zero_row, loader->zero_bytes, 1, err);
	return status;
}

/* A value that is infinite or no number would spread over every answer. */
static L3Status
not_finite(const Loader *loader, uint64_t index, L3Error *err)
{
	char		name[128];

	l3_source_tensor_name(loader->source, index, name, sizeof(name));
	l3_error(err, L3_ERR_FORMAT, "tensor \"%s\" of model \"%s\" has a value that is not a finite number",
			 name, loader->source->path);
	l3_error_hint(err, "The file is damaged, or was made by a program with an error; get it anew.");
	return L3_ERR_FORMAT;
}

static bool
is_zero(const uint8_t *bytes, uint64_t n)
{
	return n > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

/*
 * Downloaders reserve a file's whole size at first, so a download that was
 * broken off can have the right size and end in zeros.  The gain of a norm is
 * never zero throughout, as nothing would come out of its layer.
 */
static L3Status
only_zeros(const Loader *loader, uint64_t index, L3Error *err)
{
	char		name[128];

	l3_source_tensor_name(loader->source, index, name, sizeof(name));
	l3_error(err, L3_ERR_FORMAT, "tensor \"%s\" of model \"%s\" has only zeros",
			 name, loader->source->path);
	l3_error_detail(err, "A download that is not complete looks like this where the file's size was reserved at first.");
	l3_error_hint(err, "Complete the download, or get the file anew, and compare its checksum with the published one.");
	return L3_ERR_FORMAT;
}

/* A matrix of zeros could be somebody's intention. */
static void
warn_about_zeros(const Loader *loader, uint64_t index)
{
	L3Source   *source = loader->source;
	char		name[128];

	l3_source_tensor_name(source, index, name, sizeof(name));
	snprintf(source->warning, sizeof(source->warning),
			 "Tensor \"%s\" has only zeros; if the download was not complete, get the file anew.", name);
}

static L3Status
load_vector(Loader *loader, uint64_t index, L3Error *err)
{
	L3Source   *source = loader->source;
	const L3SourceTensor *tensor = &source->tensors[index];
	const L3ArenaTensor *entry = &source->table[index];
	float	   *vector = (float *) (loader->arena + entry->offset);
	L3Status	status;

	if (tensor->present)
	{
		const L3Reader *reader;

		status = l3_source_reader(source, tensor->file, &reader, err);
		if (status == L3_OK)
			status = l3_reader_read(reader, tensor->offset, loader->band,
									l3_file_row_bytes(tensor->type, entry->n_in), err);
		if (status != L3_OK)
			return status;
		if (is_zero(loader->band, l3_file_row_bytes(tensor->type, entry->n_in)))
			return only_zeros(loader, index, err);
		l3_widen_vector(tensor->type, loader->band, entry->n_in, vector);
	}
	for (uint32_t i = 0; i < entry->n_in; i++)
	{
		bool		good;

		if (index == L3_ROPE_FACTORS)
		{
			vector[i] = tensor->present ? vector[i] * source->rope_factors[i] : source->rope_factors[i];
			good = vector[i] > 0 && isfinite(vector[i]);
		}
		else
			good = isfinite(vector[i]);
		if (!good && index == L3_ROPE_FACTORS)
		{
			l3_error(err, L3_ERR_FORMAT, "model \"%s\" is damaged", source->path);
			l3_error_detail(err, "Value %" PRIu32 " of the RoPE divisors is %g.", i, vector[i]);
			return L3_ERR_FORMAT;
		}
		if (!good)
		{
			status = not_finite(loader, index, err);
			l3_error_detail(err, "Value %" PRIu32 " is %g.", i, vector[i]);
			return status;
		}
	}
	return packed(loader, (uint8_t *) vector, entry->bytes, err);
}

/* Row of the file that is output n of the matrix. */
static uint64_t
file_row(const L3SourceTensor *tensor, uint64_t n)
{
	uint64_t	head_dim = tensor->interleave;
	uint64_t	i;

	if (head_dim == 0)
		return n;
	i = n % head_dim;
	return n - i + i % 2 * (head_dim / 2) + i / 2;
}

/* Read outputs n .. n + count - 1 into the band, in the order of outputs. */
static L3Status
read_rows(Loader *loader, const L3SourceTensor *tensor, uint64_t row_bytes,
		  uint64_t n, uint64_t count, L3Error *err)
{
	const L3Reader *reader;
	L3Status	status = l3_source_reader(loader->source, tensor->file, &reader, err);

	if (status != L3_OK)
		return status;
	if (tensor->interleave == 0)
		return l3_reader_read(reader, tensor->offset + n * row_bytes, loader->band,
							  count * row_bytes, err);
	for (uint64_t i = 0; i < count; i++)
	{
		status = l3_reader_read(reader, tensor->offset + file_row(tensor, n + i) * row_bytes,
								loader->band + i * row_bytes, row_bytes, err);
		if (status != L3_OK)
			return status;
	}
	return L3_OK;
}

static L3Status
load_matrix(Loader *loader, uint64_t index, L3Error *err)
{
	const L3SourceTensor *tensor = &loader->source->tensors[index];
	const L3ArenaTensor *entry = &loader->source->table[index];
	uint64_t	row_bytes = l3_file_row_bytes(tensor->type, entry->n_in);
	uint64_t	band_rows = loader->band_bytes / row_bytes / L3_PANEL * L3_PANEL;
	uint8_t    *panel = loader->arena + entry->offset;
	bool		zero = true;

	for (uint64_t n = 0; n < entry->n_out; n += band_rows)
	{
		uint64_t	count = entry->n_out - n < band_rows ? entry->n_out - n : band_rows;
		const uint8_t *first = panel;
		L3Status	status = read_rows(loader, tensor, row_bytes, n, count, err);

		if (status != L3_OK)
			return status;
		zero = zero && is_zero(loader->band, count * row_bytes);
		for (uint64_t row = 0; row < count; row += L3_PANEL)
		{
			const uint8_t *rows[L3_PANEL];

			for (uint64_t c = 0; c < L3_PANEL; c++)
				rows[c] = row + c < count ? loader->band + (row + c) * row_bytes : loader->zero_row;
			if (!l3_pack_panel(tensor->type, (L3PackedType) entry->type, entry->n_in, rows, panel))
			{
				status = not_finite(loader, index, err);
				l3_error_detail(err, "It belongs to one of the outputs %" PRIu64 " to %" PRIu64 ".",
								n + row, n + row + L3_PANEL - 1);
				return status;
			}
			panel += entry->panel_bytes;
		}
		status = packed(loader, first, (uint64_t) (panel - first), err);
		if (status != L3_OK)
			return status;
	}
	if (zero)
		warn_about_zeros(loader, index);
	return L3_OK;
}

static L3Status
load_all(Loader *loader, const void *tokenizer, uint64_t tokenizer_size, L3Error *err)
{
	const L3Source *source = loader->source;
	uint64_t	table_bytes = source->layout.n_tensors * sizeof(L3ArenaTensor);
	XXH128_canonical_t canonical;
	L3ArenaHeader header = source->layout;
	L3Status	status = allocate_buffers(loader, err);

	if (status != L3_OK)
		return status;

	XXH3_128bits_reset(loader->sum);
	XXH3_128bits_update(loader->sum, &header.hparams, sizeof(header.hparams));
	XXH3_128bits_update(loader->sum, tokenizer, tokenizer_size);
	XXH3_128bits_update(loader->sum, source->table, table_bytes);
	for (uint64_t i = 0; status == L3_OK && i < header.n_tensors; i++)
	{
		if (source->table[i].offset == 0)
			continue;
		if (l3_tensor_shape(&header.hparams, i).vector)
			status = load_vector(loader, i, err);
		else
			status = load_matrix(loader, i, err);
	}
	if (status != L3_OK)
		return status;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(loader->sum));
	memcpy(header.checksum, canonical.digest, sizeof(header.checksum));
	memcpy(loader->arena + header.tensors_offset, source->table, table_bytes);
	memcpy(loader->arena, &header, sizeof(header));
	return L3_OK;
}

L3Status
l3_source_load(L3Source *source, void *mem, uint64_t size,
			   const void *tokenizer, uint64_t tokenizer_size,
			   L3ProgressFn progress, void *ctx, L3Error *err)
{
	Loader		loader = {.source = source,.arena = mem,.progress = progress,.ctx = ctx};
	L3Status	status;

	if (size < source->layout.total_bytes || (uintptr_t) mem % L3_ARENA_ALIGN != 0)
		return l3_error(err, L3_ERR_ARG, "memory for the weights is too small or misaligned");
	loader.sum = XXH3_createState();
	if (loader.sum == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	status = load_all(&loader, tokenizer, tokenizer_size, err);
	XXH3_freeState(loader.sum);
	free(loader.band);
	free(loader.zero_row);
	return status;
}
