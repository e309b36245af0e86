/*-------------------------------------------------------------------------
 *
 * mk_options.c
 *	  Defaults, presets and checks of the generator's options, and its
 *	  small helpers.
 *
 *-------------------------------------------------------------------------
 */
#include "mkmodel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *const mk_corrupt_names[MK_N_CORRUPT] = {
	[MK_SOUND] = "none",
	[MK_BAD_MAGIC] = "bad-magic",
	[MK_BAD_VERSION] = "bad-version",
	[MK_ABSURD_TENSORS] = "absurd-tensors",
	[MK_ABSURD_KEYS] = "absurd-keys",
	[MK_ABSURD_STRING] = "absurd-string",
	[MK_ABSURD_ARRAY] = "absurd-array",
	[MK_ABSURD_LAYERS] = "absurd-layers",
	[MK_WRONG_SHAPE] = "wrong-shape",
	[MK_BAD_OFFSET] = "bad-offset",
	[MK_OVERFLOW_OFFSET] = "overflow-offset",
	[MK_BAD_TYPE] = "bad-type",
	[MK_DUPLICATE_TENSOR] = "duplicate-tensor",
	[MK_TRUNCATED] = "truncated",
};

void
mk_defaults(MkOptions *o)
{
	*o = (MkOptions)
	{
		.n_layers = 2, .n_embd = 256, .n_heads = 8, .n_kv_heads = 2, .head_dim = 32,
		.n_ff = 512, .n_vocab = 512, .n_specials = 16, .n_ctx = 8192,
		.rms_eps = 1e-5, .rope_theta = 500000,
		.rope_factor = 8, .rope_low = 1, .rope_high = 4, .rope_orig_ctx = 8192,
		.type = MK_F32, .seed = 1, .pre = "llama-bpe", .chat = MK_CHAT_LLAMA31,
		.name = "generated", .arch = "llama", .gguf_version = 3, .alignment = 32, .split = 1,
	};
}

/* The published shapes of Llama 3, 3.1 and 3.2. */
typedef struct Preset
{
	const char *name;
	int			n_layers;
	int			n_embd;
	int			n_heads;
	int			n_kv_heads;
	int			head_dim;
	int			n_ff;
	bool		tied;
	double		rope_factor;
} Preset;

static const Preset presets[] = {
	{"1b", 16, 2048, 32, 8, 64, 8192, true, 32},
	{"3b", 28, 3072, 24, 8, 128, 8192, true, 32},
	{"8b", 32, 4096, 32, 8, 128, 14336, false, 8},
	{"70b", 80, 8192, 64, 8, 128, 28672, false, 8},
	{"405b", 126, 16384, 128, 8, 128, 53248, false, 8},
};

bool
mk_preset(MkOptions *o, const char *preset)
{
	if (strcmp(preset, "tiny") == 0)
	{
		mk_defaults(o);
		return true;
	}
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
	{
		const Preset *p = &presets[i];

		if (strcmp(p->name, preset) != 0)
			continue;
		o->n_layers = p->n_layers;
		o->n_embd = p->n_embd;
		o->n_heads = p->n_heads;
		o->n_kv_heads = p->n_kv_heads;
		o->head_dim = p->head_dim;
		o->n_ff = p->n_ff;
		o->tied = p->tied;
		o->rope_scaled = true;
		o->rope_factor = p->rope_factor;
		o->n_vocab = 128256;
		o->n_specials = 256;
		o->n_ctx = 131072;
		return true;
	}
	return false;
}

void
mk_check(const MkOptions *o)
{
	int			rope_dim = o->rope_dim ? o->rope_dim : o->head_dim;

	if (o->n_layers < 0 || o->n_embd < 1 || o->n_heads < 1 || o->n_kv_heads < 1 ||
		o->head_dim < 2 || o->value_dim < 0 || o->n_ff < 1 || o->n_ctx < 1)
		mk_fail("a dimension of the model is not positive");
	if (o->n_heads % o->n_kv_heads != 0)
		mk_fail("%d heads are not a multiple of %d key/value heads", o->n_heads, o->n_kv_heads);
	if (rope_dim % 2 != 0 || rope_dim > o->head_dim)
		mk_fail("a rotary width of %d does not fit a head of %d", rope_dim, o->head_dim);
	if (o->n_specials < 11 || o->n_vocab < 256 + o->n_specials)
		mk_fail("a vocabulary of %d has no room for 256 bytes and %d control tokens (at least 11)",
				o->n_vocab, o->n_specials);
	if (o->gguf_version != 2 && o->gguf_version != 3)
		mk_fail("GGUF version %d is not 2 or 3", o->gguf_version);
	if (o->alignment < 1 || o->alignment > 4096 || (o->alignment & (o->alignment - 1)) != 0)
		mk_fail("an alignment of %d is not a power of two up to 4096", o->alignment);
	if (o->split < 1 || o->split > 99999)
		mk_fail("%d parts are not 1 to 99999", o->split);
}

void
mk_fail(const char *fmt,...)
{
	va_list		args;

	fflush(stdout);
	fputs("mkmodel: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

void *
mk_alloc(size_t size)
{
	void	   *p = calloc(1, size > 0 ? size : 1);

	if (!p)
		mk_fail("out of memory");
	return p;
}

FILE *
mk_open(const char *path)
{
	FILE	   *f = fopen(path, "wb");

	if (!f)
		mk_fail("could not create \"%s\": %s", path, strerror(errno));
	return f;
}

void
mk_write(FILE *f, const void *data, size_t size)
{
	if (fwrite(data, 1, size, f) != size)
		mk_fail("could not write: %s", strerror(errno));
}

void
mk_close(FILE *f, const char *path)
{
	if (ferror(f) || fclose(f) != 0)
		mk_fail("could not write \"%s\": %s", path, strerror(errno));
}
