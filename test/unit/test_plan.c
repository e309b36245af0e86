/*-------------------------------------------------------------------------
 *
 * test_plan.c
 *	  What a model would cost, from files that have headers only.
 *
 * The shapes of 8B, 70B and 405B cannot be loaded on every machine; their
 * headers are a few kilobytes.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <inttypes.h>

#include "source.h"
#include "workspace.h"
#include "unit/tiny_gguf.h"

static TinyVocab vocab;

static const L3EngineOptions engine_options =
{
	.n_threads = 2,.kv_cache_bytes = 64 << 20,.kv_type = L3_KV_F16,
	.batch_tokens = 256,.max_sequences = 16
};

/* Plan a header-only file; false with a note when that fails. */
static bool
plan_of(const TinyGguf *t, L3Quantize quantize, L3KvType kv_type, L3Plan *plan)
{
	Bytes		file = tiny_gguf(t, &vocab);
	L3LoadOptions options = {quantize};
	L3EngineOptions engine = engine_options;
	L3Source   *source = NULL;
	L3Error		err;
	bool		ok;

	engine.kv_type = kv_type;
	ok = l3_source_open_memory(file.data, file.n, true, &options, &source, &err) == L3_OK &&
		l3_plan(source, &engine, plan, &err) == L3_OK;
	if (!ok)
		tap_note("%s %s", err.message, err.detail);
	ok = ok && plan->file_bytes == file.n;
	l3_source_close(source);
	free(file.data);
	return ok;
}

/* A Llama 3 shape, header only. */
static TinyGguf
shape(uint32_t layers, uint32_t embd, uint32_t heads, uint32_t kv_heads, uint32_t head_dim,
	  uint32_t ff, bool tied)
{
	TinyGguf	t = tiny_gguf_defaults();

	t.n_layers = layers;
	t.n_embd = embd;
	t.n_heads = heads;
	t.n_kv_heads = kv_heads;
	t.head_dim = head_dim;
	t.n_ff = ff;
	t.n_rows = 128256;
	t.n_ctx = 131072;
	t.tied = tied;
	t.rope_freqs = true;
	t.header_only = true;
	return t;
}

static void
test_shapes(void)
{
	/* Parameters as Meta's model cards round them: 1.24, 3.21, 8.03, 70.6, 405.9 billion. */
	const struct
	{
		const char *name;
		TinyGguf	t;
		uint64_t	n_params;
		uint64_t	kv_bytes;	/* 2 * layers * kv heads * head_dim * 2 bytes */
	}			models[] = {
		{"1B", shape(16, 2048, 32, 8, 64, 8192, true), 1235814400, 32768},
		{"3B", shape(28, 3072, 24, 8, 128, 8192, true), 3212749824, 114688},
		{"8B", shape(32, 4096, 32, 8, 128, 14336, false), 8030261248, 131072},
		{"70B", shape(80, 8192, 64, 8, 128, 28672, false), 70553706496, 327680},
		{"405B", shape(126, 16384, 128, 8, 128, 53248, false), 405853388800, 516096},
	};

	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
	{
		L3Plan		plan = {0};
		bool		ok = plan_of(&models[i].t, L3_QUANTIZE_NONE, L3_KV_F16, &plan);

		tap_ok(ok && plan.n_params == models[i].n_params,
			   "%s has %" PRIu64 " parameters", models[i].name, models[i].n_params);
		tap_ok(ok && plan.kv_bytes_per_token == models[i].kv_bytes,
			   "%s takes %" PRIu64 " bytes of KV a token", models[i].name, models[i].kv_bytes);
		/* All F32 here, and some padding. */
		tap_ok(ok && plan.weight_bytes >= plan.n_params * 4 &&
			   plan.weight_bytes < plan.n_params * 4 + (1 << 20), "%s in F32 takes 4 bytes a parameter", models[i].name);
	}
}

static void
test_options(void)
{
	TinyGguf	t = shape(32, 4096, 32, 8, 128, 14336, false);
	L3Plan		plan = {0};
	L3Plan		other = {0};

	t.type = 30;
	plan_of(&t, L3_QUANTIZE_NONE, L3_KV_F16, &plan);
	tap_ok(strcmp(plan.file_types, "F32 66, BF16 226") == 0 && strcmp(plan.packed_types, "F32 66, BF16 226") == 0,
		   "types are counted: %s", plan.file_types);
	tap_ok(strcmp(plan.architecture, "llama") == 0 && strcmp(plan.name, "tiny") == 0 && plan.n_files == 1 &&
		   plan.hparams.n_ctx_train == 131072, "architecture, name and hyperparameters are the file's");
	tap_ok(plan.tokenizer_bytes > 0, "the tokenizer is counted");
	tap_ok(plan.workspace_bytes == l3_workspace_bytes(&plan.hparams, &engine_options),
		   "the workspace is the engine's own figure");

	plan_of(&t, L3_QUANTIZE_Q8_0, L3_KV_F32, &other);
	tap_ok(strcmp(other.packed_types, "F32 66, Q8_0 226") == 0 && strcmp(other.file_types, plan.file_types) == 0,
		   "quantising at load shows in the packed types");
	tap_ok(other.weight_bytes < plan.weight_bytes * 17 / 32 + (1 << 20), "and in the size: 8.5 of 16 bits");
	tap_ok(other.kv_bytes_per_token == 2 * plan.kv_bytes_per_token, "KV in F32 takes twice as much");
	plan_of(&t, L3_QUANTIZE_NONE, L3_KV_Q8_0, &other);
	tap_ok(other.kv_bytes_per_token == plan.kv_bytes_per_token * 17 / 32, "KV in Q8_0 takes 8.5 of 16 bits");

	/* Q5_K has no kernels of its own. */
	t.type_tensor = "blk.0.attn_q.weight";
	t.type_number = 13;
	plan_of(&t, L3_QUANTIZE_NONE, L3_KV_F16, &other);
	tap_ok(strstr(other.file_types, "Q5_K 1") != NULL && strstr(other.packed_types, "Q8_K 1") != NULL,
		   "a widened type shows in the packed types");
}

static void
test_headers(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	L3Plan		plan = {0};
	Bytes		file;
	L3Source   *source;
	L3Error		err;

	t.header_only = true;
	t.omit_key = "tokenizer.ggml.tokens";
	tap_ok(plan_of(&t, L3_QUANTIZE_NONE, L3_KV_F16, &plan) && plan.tokenizer_bytes == 0,
		   "a file without a tokenizer has a plan");

	t.omit_key = NULL;
	file = tiny_gguf(&t, &vocab);
	tap_ok(l3_source_open_memory(file.data, file.n, false, NULL, &source, &err) != L3_OK &&
		   strstr(err.message, "truncated") != NULL, "a header-only file does not open for loading");
	free(file.data);

	t.omit_tensor = "output_norm.weight";
	file = tiny_gguf(&t, &vocab);
	tap_ok(l3_source_open_memory(file.data, file.n, true, NULL, &source, &err) == L3_ERR_FORMAT,
		   "a plan still needs every tensor");
	free(file.data);
}

int
main(void)
{
	tiny_vocab(&vocab, "llama-bpe");
	test_shapes();
	test_options();
	test_headers();
	return tap_done();
}
