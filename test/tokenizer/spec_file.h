/*-------------------------------------------------------------------------
 *
 * spec_file.h
 *	  Read a vocabulary that export_spec.mjs wrote into an L3TokenizerSpec.
 *
 * A plain file of the test's own, little-endian: "L3SPEC1\n"; the name of the
 * pre-tokenizer; bos, eos, eot, eom (int32); the chat template; the number of
 * tokens and for each its type (1 byte) and text; the number of merges and for
 * each its left and right side.  A string is its length (uint32) and bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SPEC_FILE_H
#define SPEC_FILE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

typedef struct SpecFile
{
	char	   *data;			/* the whole file; slices point into it */
	size_t		size;
	size_t		at;
	char		pre[64];
	L3TokenizerSpec spec;
} SpecFile;

static void
spec_fail(const char *what)
{
	fprintf(stderr, "spec file: %s\n", what);
	exit(2);
}

static const char *
spec_take(SpecFile *f, size_t n)
{
	const char *p = f->data + f->at;

	if (n > f->size - f->at)
		spec_fail("truncated");
	f->at += n;
	return p;
}

static uint32_t
spec_u32(SpecFile *f)
{
	uint32_t	v;

	memcpy(&v, spec_take(f, 4), 4);
	return v;
}

static L3Slice
spec_string(SpecFile *f)
{
	L3Slice		s;

	s.len = spec_u32(f);
	s.data = spec_take(f, s.len);
	return s;
}

static void
spec_slurp(SpecFile *f, const char *path)
{
	FILE	   *in = fopen(path, "rb");
	long		size;

	if (in == NULL || fseek(in, 0, SEEK_END) != 0 || (size = ftell(in)) < 0)
		spec_fail(path);
	rewind(in);
	f->size = (size_t) size;
	f->data = malloc(f->size + 1);
	if (f->data == NULL || fread(f->data, 1, f->size, in) != f->size)
		spec_fail(path);
	fclose(in);
}

/* Read path; the spec stays valid as long as f does. */
static L3TokenizerSpec *
spec_read(SpecFile *f, const char *path)
{
	L3TokenizerSpec *spec = &f->spec;
	L3Slice		pre;
	L3Slice    *strings;
	uint8_t    *types;

	memset(f, 0, sizeof(*f));
	spec_slurp(f, path);
	if (memcmp(spec_take(f, 8), "L3SPEC1\n", 8) != 0)
		spec_fail("not a spec file");
	pre = spec_string(f);
	if (pre.len >= sizeof(f->pre))
		spec_fail("long name");
	memcpy(f->pre, pre.data, pre.len);
	spec->where = path;
	spec->pre = f->pre;
	spec->bos = (int32_t) spec_u32(f);
	spec->eos = (int32_t) spec_u32(f);
	spec->eot = (int32_t) spec_u32(f);
	spec->eom = (int32_t) spec_u32(f);
	spec->add_bos = true;
	{
		L3Slice		template = spec_string(f);

		spec->chat_template = template.len > 0 ? template.data : NULL;
		spec->chat_template_len = template.len;
	}
	spec->n_tokens = spec_u32(f);
	strings = malloc(sizeof(*strings) * ((size_t) spec->n_tokens + 1));
	types = malloc((size_t) spec->n_tokens + 1);
	for (uint32_t i = 0; i < spec->n_tokens; i++)
	{
		types[i] = (uint8_t) *spec_take(f, 1);
		strings[i] = spec_string(f);
	}
	spec->tokens = strings;
	spec->types = types;
	spec->n_merges = spec_u32(f);
	strings = malloc(sizeof(*strings) * 2 * ((size_t) spec->n_merges + 1));
	for (uint32_t i = 0; i < spec->n_merges; i++)
	{
		strings[i] = spec_string(f);
		strings[spec->n_merges + i] = spec_string(f);
	}
	spec->merge_left = strings;
	spec->merge_right = strings + spec->n_merges;
	return spec;
}

static void
spec_free(SpecFile *f)
{
	free((void *) f->spec.tokens);
	free((void *) f->spec.types);
	free((void *) f->spec.merge_left);
	free(f->data);
}

#endif							/* SPEC_FILE_H */
