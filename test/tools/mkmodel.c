/*-------------------------------------------------------------------------
 *
 * mkmodel.c
 *	  Command line of the generator of random-weight Llama 3 model files.
 *
 *	  mkmodel --out small.gguf --type q4_k --layers 4 --seed 7
 *	  mkmodel --out 1b.gguf --preset 1b --type q8_0
 *	  mkmodel --out 405b.gguf --preset 405b --type q4_k_m --header-only
 *	  mkmodel --hf DIRECTORY --type bf16 --split 2
 *
 * Options are read from left to right, so a preset comes before what changes
 * it.
 *
 *-------------------------------------------------------------------------
 */
#include "mkmodel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
"usage: mkmodel (--out FILE.gguf | --hf DIRECTORY)... [options]\n"
"shape:      --preset tiny|1b|3b|8b|70b|405b --layers N --embd N --heads N --kv-heads N\n"
"            --head-dim N --value-dim N --rope-dim N --ff N --vocab N --specials N --ctx N\n"
"            --tied --untied --rope-theta X --rms-eps X\n"
"            --rope-freqs --rope-factor X --rope-orig-ctx N (Llama 3.1 scaling)\n"
"weights:    --type f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|q2_k|q3_k|q4_k|q5_k|q6_k|\n"
"            iq4_nl|iq4_xs|q4_k_m --tensor-type NAME=TYPE --seed N\n"
"            --echo (layers that add nothing: with --tied it repeats its last token)\n"
"tokenizer:  --pre NAME --chat none|llama30|llama31|unknown --merge-pairs\n"
"file:       --name TEXT --arch NAME --gguf-version 2|3 --alignment N --split N --header-only\n"
"            --omit TENSOR --omit-key KEY\n"
"            --corrupt bad-magic|bad-version|absurd-tensors|absurd-keys|absurd-string|\n"
"            absurd-array|absurd-layers|wrong-shape|bad-offset|overflow-offset|bad-type|\n"
"            duplicate-tensor|truncated\n";

typedef struct IntOption
{
	const char *name;
	int		   *value;
} IntOption;

typedef struct StringOption
{
	const char *name;
	const char **value;
} StringOption;

static const char *out_path;
static const char *hf_path;

static long long
parse_integer(const char *name, const char *text)
{
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0')
		mk_fail("%s: \"%s\" is not an integer", name, text);
	return value;
}

static double
parse_number(const char *name, const char *text)
{
	char	   *end;
	double		value = strtod(text, &end);

	if (end == text || *end != '\0')
		mk_fail("%s: \"%s\" is not a number", name, text);
	return value;
}

/* Options without a value; false when name is none of them. */
static bool
set_flag(MkOptions *o, const char *name)
{
	if (strcmp(name, "--tied") == 0)
		o->tied = true;
	else if (strcmp(name, "--untied") == 0)
		o->tied = false;
	else if (strcmp(name, "--rope-freqs") == 0)
		o->rope_scaled = true;
	else if (strcmp(name, "--echo") == 0)
		o->echo = true;
	else if (strcmp(name, "--header-only") == 0)
		o->header_only = true;
	else if (strcmp(name, "--merge-pairs") == 0)
		o->merge_pairs = true;
	else
		return false;
	return true;
}

static bool
set_integer(MkOptions *o, const char *name, const char *text)
{
	const IntOption options[] = {
		{"--layers", &o->n_layers}, {"--embd", &o->n_embd}, {"--heads", &o->n_heads},
		{"--kv-heads", &o->n_kv_heads}, {"--head-dim", &o->head_dim}, {"--value-dim", &o->value_dim},
		{"--rope-dim", &o->rope_dim}, {"--ff", &o->n_ff}, {"--vocab", &o->n_vocab},
		{"--specials", &o->n_specials}, {"--ctx", &o->n_ctx}, {"--rope-orig-ctx", &o->rope_orig_ctx},
		{"--gguf-version", &o->gguf_version}, {"--alignment", &o->alignment}, {"--split", &o->split},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
	{
		if (strcmp(options[i].name, name) == 0)
		{
			long long	value = parse_integer(name, text);

			if (value < 0 || value > INT32_MAX)
				mk_fail("%s: %lld is out of range", name, value);
			*options[i].value = (int) value;
			return true;
		}
	}
	return false;
}

static bool
set_string(MkOptions *o, const char *name, const char *text)
{
	const StringOption options[] = {
		{"--out", &out_path}, {"--hf", &hf_path}, {"--pre", &o->pre}, {"--name", &o->name},
		{"--arch", &o->arch}, {"--omit", &o->omit_tensor}, {"--omit-key", &o->omit_key},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
	{
		if (strcmp(options[i].name, name) == 0)
		{
			*options[i].value = text;
			return true;
		}
	}
	return false;
}

static void
set_type(MkOptions *o, const char *text)
{
	o->mix_q4_k_m = strcmp(text, "q4_k_m") == 0;
	if (!mk_find_type(o->mix_q4_k_m ? "q4_k" : text, &o->type))
		mk_fail("--type: unknown type \"%s\"", text);
}

/* --tensor-type NAME=TYPE */
static void
set_tensor_type(MkOptions *o, char *text)
{
	char	   *equals = strchr(text, '=');

	if (!equals || o->n_overrides == MK_MAX_OVERRIDES ||
		!mk_find_type(equals + 1, &o->override_type[o->n_overrides]))
		mk_fail("--tensor-type: \"%s\" is not NAME=TYPE, or there are more than %d", text, MK_MAX_OVERRIDES);
	*equals = '\0';
	o->override_name[o->n_overrides++] = text;
}

static void
set_chat(MkOptions *o, const char *text)
{
	static const char *const names[] = {"none", "llama30", "llama31", "unknown"};

	for (int i = 0; i < 4; i++)
	{
		if (strcmp(names[i], text) == 0)
		{
			o->chat = (MkChat) i;
			return;
		}
	}
	mk_fail("--chat: unknown form \"%s\"", text);
}

static void
set_corrupt(MkOptions *o, const char *text)
{
	for (int i = 0; i < MK_N_CORRUPT; i++)
	{
		if (strcmp(mk_corrupt_names[i], text) == 0)
		{
			o->corrupt = (MkCorrupt) i;
			return;
		}
	}
	mk_fail("--corrupt: unknown kind \"%s\"", text);
}

static void
set_value(MkOptions *o, const char *name, char *text)
{
	if (set_integer(o, name, text) || set_string(o, name, text))
		return;
	if (strcmp(name, "--preset") == 0)
	{
		if (!mk_preset(o, text))
			mk_fail("--preset: unknown preset \"%s\"", text);
	}
	else if (strcmp(name, "--type") == 0)
		set_type(o, text);
	else if (strcmp(name, "--tensor-type") == 0)
		set_tensor_type(o, text);
	else if (strcmp(name, "--chat") == 0)
		set_chat(o, text);
	else if (strcmp(name, "--corrupt") == 0)
		set_corrupt(o, text);
	else if (strcmp(name, "--seed") == 0)
		o->seed = (uint64_t) parse_integer(name, text);
	else if (strcmp(name, "--rope-theta") == 0)
		o->rope_theta = parse_number(name, text);
	else if (strcmp(name, "--rope-factor") == 0)
		o->rope_factor = parse_number(name, text);
	else if (strcmp(name, "--rms-eps") == 0)
		o->rms_eps = parse_number(name, text);
	else
		mk_fail("unknown option \"%s\"\n%s", name, usage);
}

int
main(int argc, char **argv)
{
	MkOptions	o;

	mk_defaults(&o);
	for (int i = 1; i < argc; i++)
	{
		if (set_flag(&o, argv[i]))
			continue;
		if (i + 1 == argc)
			mk_fail("%s: unknown option, or its value is missing\n%s", argv[i], usage);
		set_value(&o, argv[i], argv[i + 1]);
		i++;
	}
	if (!out_path && !hf_path)
		mk_fail("nothing to write\n%s", usage);
	if (out_path)
		mk_write_gguf(&o, out_path);
	if (hf_path)
		mk_write_hf(&o, hf_path);
	return 0;
}
