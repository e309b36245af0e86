/*-------------------------------------------------------------------------
 *
 * mk_hf.c
 *	  Write a generated model as a Hugging Face directory.
 *
 * Values are those of the GGUF file with the same options, in safetensors'
 * layout.  One thing differs: Llama's rotary embedding pairs dimension i of a
 * head with i + head_dim / 2 here, and 2i with 2i + 1 in GGUF, so the rows of
 * the query and key projections are written in another order.
 *
 * Formats: safetensors' README, the tokenizers library's JSON serialisation,
 * transformers' LlamaConfig.
 *
 *-------------------------------------------------------------------------
 */
#include "mkmodel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The pre-tokenizer split that Llama 3's tokenizer.json states (a fact of the format). */
static const char split_pattern[] =
"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static FILE *
open_in(const char *dir, const char *name)
{
	char		path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return mk_open(path);
}

/* A JSON string literal of UTF-8 text. */
static void
json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++)
	{
		unsigned char c = (unsigned char) *s;

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void
write_config(const MkOptions *o, const MkVocab *v, const char *dir)
{
	static const char *const dtype[] = {[MK_F32] = "float32", [MK_F16] = "float16", [MK_BF16] = "bfloat16"};
	FILE	   *f = open_in(dir, "config.json");

	fprintf(f, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n",
			strcmp(o->arch, "llama") == 0 ? "LlamaForCausalLM" : "OtherForCausalLM", o->arch);
	fprintf(f, "  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n", o->n_embd, o->n_ff);
	fprintf(f, "  \"num_hidden_layers\": %d,\n  \"num_attention_heads\": %d,\n", o->n_layers, o->n_heads);
	fprintf(f, "  \"num_key_value_heads\": %d,\n  \"head_dim\": %d,\n", o->n_kv_heads, o->head_dim);
	fprintf(f, "  \"vocab_size\": %d,\n  \"max_position_embeddings\": %d,\n", o->n_vocab, o->n_ctx);
	fprintf(f, "  \"rms_norm_eps\": %g,\n  \"rope_theta\": %.1f,\n", o->rms_eps, o->rope_theta);
	if (o->rope_scaled)
		fprintf(f, "  \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": %g, \"low_freq_factor\": %g,"
				" \"high_freq_factor\": %g, \"original_max_position_embeddings\": %d},\n",
				o->rope_factor, o->rope_low, o->rope_high, o->rope_orig_ctx);
	else
		fprintf(f, "  \"rope_scaling\": null,\n");
	fprintf(f, "  \"bos_token_id\": %d,\n  \"eos_token_id\": ", v->bos);
	if (v->eom >= 0)
		fprintf(f, "[%d, %d, %d],\n", v->bos + 1, v->eom, v->eot);
	else
		fprintf(f, "%d,\n", v->eos);
	fprintf(f, "  \"hidden_act\": \"silu\",\n  \"attention_bias\": false,\n  \"mlp_bias\": false,\n");
	fprintf(f, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\"\n}\n",
			o->tied ? "true" : "false", dtype[o->type]);
	mk_close(f, "config.json");

	f = open_in(dir, "generation_config.json");
	fprintf(f, "{\n  \"bos_token_id\": %d,\n  \"eos_token_id\": [%d", v->bos, v->bos + 1);
	if (v->eom >= 0)
		fprintf(f, ", %d", v->eom);
	if (v->eot >= 0)
		fprintf(f, ", %d", v->eot);
	fprintf(f, "]\n}\n");
	mk_close(f, "generation_config.json");
}

static void
write_vocabulary(const MkOptions *o, const MkVocab *v, FILE *f)
{
	int			first_special = v->n_tokens - o->n_specials;

	fprintf(f, "  \"model\": {\n    \"type\": \"BPE\", \"dropout\": null, \"unk_token\": null,\n"
			"    \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false,\n"
			"    \"byte_fallback\": false, \"ignore_merges\": true,\n    \"vocab\": {\n");
	for (int i = 0; i < first_special; i++)
	{
		fputs("      ", f);
		json_string(f, v->tokens[i]);
		fprintf(f, ": %d%s\n", i, i + 1 < first_special ? "," : "");
	}
	fprintf(f, "    },\n    \"merges\": [\n");
	for (int i = 0; i < v->n_merges; i++)
	{
		fputs("      ", f);
		if (o->merge_pairs)
		{
			char	   *space = strchr(v->merges[i], ' ');

			*space = '\0';
			fputc('[', f);
			json_string(f, v->merges[i]);
			fputs(", ", f);
			json_string(f, space + 1);
			fputc(']', f);
			*space = ' ';
		}
		else
			json_string(f, v->merges[i]);
		fprintf(f, "%s\n", i + 1 < v->n_merges ? "," : "");
	}
	fprintf(f, "    ]\n  }\n");
}

static void
write_tokenizer(const MkOptions *o, const MkVocab *v, const char *dir)
{
	FILE	   *f = open_in(dir, "tokenizer.json");

	fprintf(f, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [\n");
	for (int i = v->n_tokens - o->n_specials; i < v->n_tokens; i++)
	{
		fprintf(f, "    {\"id\": %d, \"content\": ", i);
		json_string(f, v->tokens[i]);
		fprintf(f, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false,"
				" \"normalized\": false, \"special\": true}%s\n", i + 1 < v->n_tokens ? "," : "");
	}
	fprintf(f, "  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
			"    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
	json_string(f, split_pattern);
	fprintf(f, "}, \"behavior\": \"Isolated\", \"invert\": false},\n"
			"    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}\n  ]},\n");
	fprintf(f, "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n"
			"    \"single\": [{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n"
			"    \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n"
			"    \"special_tokens\": {\"%s\": {\"id\": \"%s\", \"ids\": [%d], \"tokens\": [\"%s\"]}}},\n",
			v->tokens[v->bos], v->tokens[v->bos], v->tokens[v->bos], v->bos, v->tokens[v->bos]);
	fprintf(f, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n");
	write_vocabulary(o, v, f);
	fprintf(f, "}\n");
	mk_close(f, "tokenizer.json");

	f = open_in(dir, "tokenizer_config.json");
	fprintf(f, "{\n  \"bos_token\": \"%s\",\n  \"eos_token\": \"%s\",\n", v->tokens[v->bos], v->tokens[v->eos]);
	if (v->chat_template)
	{
		fputs("  \"chat_template\": ", f);
		json_string(f, v->chat_template);
		fputs(",\n", f);
	}
	fprintf(f, "  \"clean_up_tokenization_spaces\": true,\n  \"model_max_length\": 1000000000000000019884624838656,\n"
			"  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
	mk_close(f, "tokenizer_config.json");
}

/* ----------------------------------------------------------------
 *		safetensors
 * ----------------------------------------------------------------
 */

/* Row of the GGUF tensor that stands at a row of the Hugging Face one. */
static uint32_t
gguf_row(const MkTensor *t, uint32_t row)
{
	uint32_t	head_dim,
				in_head;

	if (t->hf_heads == 0)
		return row;
	head_dim = t->n_out / (uint32_t) t->hf_heads;
	in_head = row % head_dim;
	return row - in_head +
		(in_head < head_dim / 2 ? 2 * in_head : 2 * (in_head - head_dim / 2) + 1);
}

/* Append to a growing string. */
__attribute__((format(printf, 2, 3)))
static void
append(char **s, const char *fmt,...)
{
	size_t		len = *s ? strlen(*s) : 0;
	va_list		args;

	*s = realloc(*s, len + 512);
	if (!*s)
		mk_fail("out of memory");
	va_start(args, fmt);
	vsnprintf(*s + len, 512, fmt, args);
	va_end(args);
}

static void
write_shard(const MkOptions *o, const MkTensor *tensors, int n, const char *dir, const char *name)
{
	static const char *const dtype[] = {[MK_F32] = "F32", [MK_F16] = "F16", [MK_BF16] = "BF16"};
	uint64_t	width = o->type == MK_F32 ? 4 : 2;
	uint64_t	offset = 0;
	uint64_t	header_len;
	char	   *header = NULL;
	FILE	   *f = open_in(dir, name);

	append(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (int i = 0; i < n; i++)
	{
		const MkTensor *t = &tensors[i];
		uint64_t	bytes = (uint64_t) t->n_in * t->n_out * width;

		append(&header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->hf_name, dtype[o->type]);
		if (t->fill == MK_FILL_MATRIX)
			append(&header, "%u,", t->n_out);
		append(&header, "%u],\"data_offsets\":[%llu,%llu]}", t->n_in,
			   (unsigned long long) offset, (unsigned long long) (offset + bytes));
		offset += bytes;
	}
	append(&header, "}");
	while (strlen(header) % 8 != 0)
		append(&header, " ");
	header_len = strlen(header);
	mk_write(f, &header_len, sizeof(header_len));
	mk_write(f, header, header_len);
	free(header);

	for (int i = 0; i < n && !o->header_only; i++)
	{
		const MkTensor *t = &tensors[i];
		float	   *values = mk_alloc(sizeof(float) * t->n_in);
		char	   *row = mk_alloc(width * t->n_in);

		for (uint32_t r = 0; r < t->n_out; r++)
		{
			mk_tensor_floats(o, t, gguf_row(t, r), values);
			mk_convert(o->type, values, t->n_in, row);
			mk_write(f, row, width * t->n_in);
		}
		free(values);
		free(row);
	}
	mk_close(f, name);
}

void
mk_write_hf(const MkOptions *o, const char *dir)
{
	MkTensor   *tensors;
	MkVocab    *v;
	FILE	   *index = NULL;
	int			n;
	int			kept = 0;
	uint64_t	total = 0;

	mk_check(o);
	if (mk_types[o->type].d_offset >= 0 || o->mix_q4_k_m || o->n_overrides > 0)
		mk_fail("a Hugging Face directory holds one float type");
	if ((o->value_dim && o->value_dim != o->head_dim) || (o->rope_dim && o->rope_dim != o->head_dim))
		mk_fail("config.json cannot state a value or rotary width of its own");
	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		mk_fail("could not create directory \"%s\": %s", dir, strerror(errno));

	v = mk_vocab(o);
	write_config(o, v, dir);
	write_tokenizer(o, v, dir);
	mk_vocab_free(v);

	tensors = mk_tensors(o, &n);
	for (int i = 0; i < n; i++)
	{
		if (tensors[i].hf_name[0] == '\0')
			continue;
		total += (uint64_t) tensors[i].n_in * tensors[i].n_out * (o->type == MK_F32 ? 4 : 2);
		tensors[kept++] = tensors[i];
	}
	if (o->split <= 1)
		write_shard(o, tensors, kept, dir, "model.safetensors");
	else
	{
		index = open_in(dir, "model.safetensors.index.json");
		fprintf(index, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {\n", (unsigned long long) total);
	}
	for (int shard = 0; index && shard < o->split; shard++)
	{
		int			first = (int) ((int64_t) kept * shard / o->split);
		int			last = (int) ((int64_t) kept * (shard + 1) / o->split);
		char		name[64];

		snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors", shard + 1, o->split);
		write_shard(o, tensors + first, last - first, dir, name);
		for (int i = first; i < last; i++)
			fprintf(index, "    \"%s\": \"%s\"%s\n", tensors[i].hf_name, name, i + 1 < kept ? "," : "");
	}
	if (index)
	{
		fprintf(index, "  }\n}\n");
		mk_close(index, "model.safetensors.index.json");
	}
	free(tensors);
}
