/*-------------------------------------------------------------------------
 *
 * test_gguf.c
 *	  Opening and loading GGUF files, sound and wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <math.h>
#include <unistd.h>
#include <sys/stat.h>

#include "source.h"
#include "unit/tiny_gguf.h"

static TinyVocab vocab;

/* A model that was loaded. */
typedef struct Loaded
{
	const L3Arena *arena;		/* NULL: failed, err says why */
	void	   *mem;
	uint64_t	size;
	uint8_t		sum[16];
	char		warning[256];
	bool		late_warning;	/* after loading there was one */
	L3Hparams	hparams;
	L3Error		err;
} Loaded;

static void
finish(L3Source *source, L3ProgressFn progress, void *ctx, Loaded *out)
{
	uint64_t	tokenizer_size = l3_source_tokenizer_size(source);
	void	   *tokenizer = calloc(1, tokenizer_size);

	out->hparams = *l3_source_hparams(source);
	snprintf(out->warning, sizeof(out->warning), "%s", l3_source_warning(source));
	out->size = l3_source_arena_size(source);
	out->mem = aligned_alloc(64, out->size);
	memset(out->mem, 0, out->size);
	if (l3_source_build_tokenizer(source, tokenizer, tokenizer_size, &out->err) == L3_OK &&
		l3_source_load(source, out->mem, out->size, tokenizer, tokenizer_size,
					   progress, ctx, &out->err) == L3_OK)
		out->arena = l3_arena_check(out->mem, out->size, &out->err);
	if (out->arena != NULL)
		l3_arena_checksum(out->arena, out->sum);
	out->late_warning = strstr(l3_source_warning(source), "has only zeros") != NULL;
	free(tokenizer);
	l3_source_close(source);
}

static Loaded
load_bytes(const Bytes *file, const L3LoadOptions *options)
{
	Loaded		out = {0};
	L3Source   *source;

	if (l3_source_open_memory(file->data, file->n, false, options, &source, &out.err) == L3_OK)
		finish(source, NULL, NULL, &out);
	return out;
}

static Loaded
load_tiny(const TinyGguf *t)
{
	Bytes		file = tiny_gguf(t, &vocab);
	Loaded		out = load_bytes(&file, NULL);

	free(file.data);
	return out;
}

/* Value of output n, input k of a float matrix in the arena. */
static float
at(const L3Matrix *m, int n, int k)
{
	const uint8_t *panel = m->data + n / L3_PANEL * m->panel_bytes;
	int			c = n % L3_PANEL;
	uint32_t	bits = 0;
	float		value;

	if (m->type == L3_F32)
		memcpy(&bits, panel + ((size_t) k * L3_PANEL + c) * 4, 4);
	else						/* BF16 */
		memcpy((uint8_t *) &bits + 2, panel + ((size_t) k / 2 * L3_PANEL + c) * 4 + k % 2 * 2, 2);
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static bool
matrix_is(const Loaded *l, uint64_t tensor, const char *name)
{
	L3Matrix	m = l3_arena_matrix(l->arena, tensor);

	for (int n = 0; n < m.n_out; n++)
	{
		for (int k = 0; k < m.n_in; k++)
		{
			if (at(&m, n, k) != tiny_value(name, n, k))
				return false;
		}
	}
	return true;
}

static bool
vector_is(const Loaded *l, uint64_t tensor, const char *name, int n)
{
	const float *v = l3_arena_vector(l->arena, tensor);

	for (int k = 0; k < n; k++)
	{
		if (v[k] != tiny_value(name, 0, k))
			return false;
	}
	return true;
}

static bool
model_is_right(const Loaded *l)
{
	return l->arena != NULL &&
		matrix_is(l, L3_TOKEN_EMBD, "token_embd.weight") &&
		vector_is(l, L3_OUTPUT_NORM, "output_norm.weight", 64) &&
		matrix_is(l, L3_OUTPUT, l->hparams.tied ? "token_embd.weight" : "output.weight") &&
		vector_is(l, L3_LAYER_TENSOR(0, L3_ATTN_NORM), "blk.0.attn_norm.weight", 64) &&
		matrix_is(l, L3_LAYER_TENSOR(0, L3_WQ), "blk.0.attn_q.weight") &&
		matrix_is(l, L3_LAYER_TENSOR(0, L3_WK), "blk.0.attn_k.weight") &&
		matrix_is(l, L3_LAYER_TENSOR(0, L3_WV), "blk.0.attn_v.weight") &&
		matrix_is(l, L3_LAYER_TENSOR(1, L3_WO), "blk.1.attn_output.weight") &&
		vector_is(l, L3_LAYER_TENSOR(1, L3_FFN_NORM), "blk.1.ffn_norm.weight", 64) &&
		matrix_is(l, L3_LAYER_TENSOR(1, L3_W_GATE), "blk.1.ffn_gate.weight") &&
		matrix_is(l, L3_LAYER_TENSOR(1, L3_W_UP), "blk.1.ffn_up.weight") &&
		matrix_is(l, L3_LAYER_TENSOR(1, L3_W_DOWN), "blk.1.ffn_down.weight");
}

static void
test_sound(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Loaded		a = load_tiny(&t);
	Loaded		b;

	if (!tap_ok(model_is_right(&a), "every weight of an F32 model is in its place"))
		tap_note("%s %s", a.err.message, a.err.detail);
	tap_ok(a.hparams.n_layers == 2 && a.hparams.n_embd == 64 && a.hparams.n_heads == 4 &&
		   a.hparams.n_kv_heads == 2 && a.hparams.head_dim == 16 && a.hparams.value_dim == 16 &&
		   a.hparams.rope_dim == 16 && a.hparams.n_ff == 96 && a.hparams.n_vocab == 300 &&
		   a.hparams.n_ctx_train == 512 && a.hparams.tied == 0 &&
		   a.hparams.rope_theta == 500000.0 && a.hparams.rms_eps == 1e-5f,
		   "hyperparameters are the file's");
	tap_ok(l3_arena_vector(a.arena, L3_ROPE_FACTORS)[7] == 1, "an unscaled model has divisors of 1");

	b = load_tiny(&t);
	tap_ok(memcmp(a.sum, b.sum, 16) == 0 && memcmp(a.mem, b.mem, a.size) == 0,
		   "the same file gives the same arena and checksum");
	free(b.mem);

	t.version = 2;
	t.alignment = 64;
	t.kv_as_array = true;
	t.extra_tensor = "v.patch_embd.weight";
	b = load_tiny(&t);
	tap_ok(model_is_right(&b) && memcmp(a.sum, b.sum, 16) == 0,
		   "version 2, another alignment, per-layer head counts and an unknown tensor change nothing");
	free(b.mem);

	t = tiny_gguf_defaults();
	t.tied = true;
	t.type = 30;
	t.rope_freqs = true;
	b = load_tiny(&t);
	tap_ok(model_is_right(&b) && b.hparams.tied == 1, "a tied BF16 model loads");
	tap_ok(l3_arena_vector(b.arena, L3_ROPE_FACTORS)[7] == 1.875f, "rope_freqs.weight gives the divisors");
	tap_ok(memcmp(a.sum, b.sum, 16) != 0, "another model has another checksum");
	free(b.mem);

	t.rope_scaling = "linear";
	b = load_tiny(&t);
	tap_ok(l3_arena_vector(b.arena, L3_ROPE_FACTORS)[7] == 7.5f, "linear scaling multiplies the divisors");
	free(b.mem);
	free(a.mem);
}

/* The checksum sees the tokenizer and single weights. */
static void
test_checksum(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Bytes		file = tiny_gguf(&t, &vocab);
	Loaded		a = load_bytes(&file, NULL);
	Loaded		b;

	file.data[file.n - 3] ^= 1;
	b = load_bytes(&file, NULL);
	tap_ok(memcmp(a.sum, b.sum, 16) != 0, "one changed bit of one weight changes the checksum");
	free(b.mem);
	free(file.data);

	t.eos = 7;
	b = load_tiny(&t);
	tap_ok(b.arena != NULL && memcmp(a.sum, b.sum, 16) != 0, "another end token changes the checksum");
	free(b.mem);
	free(a.mem);
}

static void
test_quantize(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	L3LoadOptions options = {L3_QUANTIZE_Q8_0};
	Bytes		file = tiny_gguf(&t, &vocab);
	Loaded		a = load_bytes(&file, &options);

	tap_ok(a.arena != NULL && l3_arena_matrix(a.arena, L3_TOKEN_EMBD).type == L3_Q8_0 &&
		   vector_is(&a, L3_OUTPUT_NORM, "output_norm.weight", 64),
		   "quantising at load takes matrices and leaves vectors");
	free(a.mem);
	free(file.data);
}

/* Opening must fail, and the error must say all of these things. */
static void
refused(const TinyGguf *t, L3Status status, const char *a, const char *b, const char *behaviour)
{
	Loaded		l = load_tiny(t);
	char		all[sizeof(L3Error)];
	bool		ok;

	snprintf(all, sizeof(all), "%s|%s|%s", l.err.message, l.err.detail, l.err.hint);
	ok = l.arena == NULL && l.err.status == status && strstr(all, a) != NULL &&
		strstr(all, b) != NULL;
	if (!tap_ok(ok, "%s", behaviour))
		tap_note("status %d: %s", l.err.status, all);
	free(l.mem);
}

static void
test_refused(void)
{
	const TinyGguf sound = tiny_gguf_defaults();
	TinyGguf	t;

#define CASE(change, status, a, b, behaviour) \
	do { t = sound; change; refused(&t, status, a, b, behaviour); } while (0)

	CASE(t.arch = "falcon", L3_ERR_UNSUPPORTED, "falcon", "llama", "another architecture is named");
	CASE(t.version = 1, L3_ERR_UNSUPPORTED, "version 1", "2 or 3", "version 1 is refused");
	CASE(t.omit_tensor = "blk.1.ffn_up.weight", L3_ERR_FORMAT, "blk.1.ffn_up.weight", "missing",
		 "a missing tensor is named");
	CASE(t.omit_tensor = "token_embd.weight", L3_ERR_FORMAT, "token_embd.weight", "missing",
		 "a missing embedding is named");
	CASE(t.twice_tensor = "blk.0.attn_k.weight", L3_ERR_FORMAT, "blk.0.attn_k.weight", "twice",
		 "a duplicate tensor is named");
	CASE(t.shape_tensor = "blk.0.attn_v.weight", L3_ERR_FORMAT, "64 x 33", "64 x 32",
		 "a wrong shape is told with the right one");
	CASE((t.type_tensor = "blk.0.attn_v.weight", t.type_number = 19), L3_ERR_UNSUPPORTED, "IQ1_S", "Q4_K",
		 "an unsupported type is named with the supported");
	CASE((t.type_tensor = "output_norm.weight", t.type_number = 8), L3_ERR_UNSUPPORTED,
		 "output_norm.weight", "Q8_0", "a quantised vector is refused");
	CASE((t.type_tensor = "blk.0.attn_v.weight", t.type_number = 12), L3_ERR_FORMAT,
		 "64 values", "256", "rows that are no multiple of the block are refused");
	CASE((t.shift_tensor = "blk.0.attn_v.weight", t.shift = -128), L3_ERR_FORMAT, "overlap",
		 "blk.0.attn_v.weight", "overlapping tensors are named");
	CASE((t.shift_tensor = "blk.0.attn_v.weight", t.shift = 4), L3_ERR_FORMAT, "offset",
		 "multiple of 32", "a misaligned offset is refused");
	CASE((t.shift_tensor = "blk.0.attn_v.weight", t.shift = INT64_MAX & ~31), L3_ERR_FORMAT,
		 "truncated", "bytes", "an offset past the end is refused");
	CASE((t.shift_tensor = "token_embd.weight", t.shift = -32), L3_ERR_FORMAT, "token_embd.weight", "offset",
		 "an offset that overflows is refused");
	CASE(t.omit_key = "llama.block_count", L3_ERR_FORMAT, "llama.block_count", "missing",
		 "a missing key is named");
	CASE(t.twice_key = "llama.block_count", L3_ERR_FORMAT, "llama.block_count", "twice",
		 "a duplicate key is named");
	CASE(t.n_kv_heads = 3, L3_ERR_FORMAT, "4 heads", "3 key/value", "head counts must divide");
	CASE(t.n_ctx = 2000000, L3_ERR_FORMAT, "2000000", "1048576", "an absurd context is refused");
	CASE(t.n_rows = 200, L3_ERR_FORMAT, "200 rows", "tokens", "a tokenizer over the embedding is refused");
	CASE(t.pre = "tekken", L3_ERR_UNSUPPORTED, "tekken", "llama-bpe",
		 "an unknown pre-tokenizer is named with the known");
	CASE(t.omit_key = "tokenizer.ggml.merges", L3_ERR_FORMAT, "tokenizer.ggml.merges", "missing",
		 "a missing list of merges is named");
	CASE(t.omit_key = "tokenizer.ggml.model", L3_ERR_FORMAT, "tokenizer.ggml.model", "missing",
		 "a file without a tokenizer is refused");
	CASE(t.eos = 5000, L3_ERR_FORMAT, "5000", "tokens", "an end token outside the vocabulary is refused");
	CASE(t.rope_scaling = "yarn", L3_ERR_UNSUPPORTED, "yarn", "linear", "yarn scaling is refused");
	CASE(t.extra_tensor = "blk.0.attn_q.bias", L3_ERR_UNSUPPORTED, "bias", "blk.0.attn_q.bias",
		 "a model with biases is refused");
	CASE(t.alignment = 48, L3_ERR_FORMAT, "48", "power of two", "an absurd alignment is refused");
	CASE(t.nan_tensor = "blk.1.ffn_down.weight", L3_ERR_FORMAT, "tensor \"blk.1.ffn_down.weight\"",
		 "has a value that is not a finite number", "a matrix with a value that is no number is refused by name");
	CASE(t.nan_tensor = "blk.0.ffn_norm.weight", L3_ERR_FORMAT, "tensor \"blk.0.ffn_norm.weight\"",
		 "has a value that is not a finite number", "and so is a vector");
	CASE(t.zero_tensor = "blk.0.attn_norm.weight", L3_ERR_FORMAT, "tensor \"blk.0.attn_norm.weight\"",
		 "has only zeros", "a norm of zeros is refused by name");
	CASE((t.split_count = 2, t.split_tensors = 21), L3_ERR_FORMAT, "part 1 of 2", "name",
		 "a part that is given as a whole is refused");
#undef CASE
}

/* Every prefix of a file is an error, never a crash or a success. */
static void
test_truncated(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Bytes		file = tiny_gguf(&t, &vocab);
	size_t		full = file.n;
	size_t		accepted = 0;
	char		detail[96];
	L3Source   *source;
	L3Error		err;
	Loaded		l;

	for (size_t n = 0; n < full; n += n < 20000 ? 37 : 4001)
	{
		Bytes		cut = {malloc(n + 1), n, n};

		memcpy(cut.data, file.data, n);
		l = load_bytes(&cut, NULL);
		accepted += l.arena != NULL;
		free(l.mem);
		free(cut.data);
	}
	tap_ok(accepted == 0, "no prefix of a file is taken for the file");

	tap_ok(l3_source_open_memory(file.data, full - 1, false, NULL, &source, &err) == L3_ERR_FORMAT &&
		   strstr(err.message, "truncated") != NULL && strstr(err.hint, "download") != NULL,
		   "a file that lacks one byte does not open: truncated, perhaps still downloading");
	snprintf(detail, sizeof(detail), "Its header describes %zu bytes, the file has %zu.", full, full - 1);
	if (!tap_ok(strcmp(err.detail, detail) == 0, "and the detail has both sizes"))
		tap_note("%s", err.detail);
	free(file.data);
}

static void
test_not_gguf(void)
{
	static const struct
	{
		const char *text;
		const char *says;
	}			files[] = {
		{"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"},
		{"<!DOCTYPE html><html>", "page"},
		{"PK\003\004..............", "PyTorch"},
		{"tjgg............", "older files hold older models"},
		{"Access to model m is restricted.", "Accept the licence"},
		{"Entry not found", "by the name that the hub lists"},
		{"\037\213\b.", "gzip"},
		{"\001\002\003\004", "01 02 03 04"},
		{"", "empty"},
	};

	uint8_t		zeros[100] = {0};
	Bytes		reserved = {zeros, sizeof(zeros), 0};
	Loaded		l;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		Bytes		file = {(uint8_t *) files[i].text, strlen(files[i].text), 0};

		l = load_bytes(&file, NULL);
		tap_ok(l.arena == NULL && l.err.status == L3_ERR_FORMAT &&
			   (strstr(l.err.hint, files[i].says) != NULL || strstr(l.err.detail, files[i].says) != NULL),
			   "what is no GGUF file is recognised: %s", files[i].says);
	}
	l = load_bytes(&reserved, NULL);
	tap_ok(l.arena == NULL && strstr(l.err.detail, "has reserved and not filled") != NULL,
		   "what a download has only reserved is recognised");
}

static bool
stop_soon(void *ctx, uint64_t done, uint64_t total)
{
	int		   *calls = ctx;

	(void) done;
	(void) total;
	return ++*calls == 3;
}

static void
test_cancel(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Bytes		file = tiny_gguf(&t, &vocab);
	Loaded		out = {0};
	L3Source   *source;
	int			calls = 0;

	if (l3_source_open_memory(file.data, file.n, false, NULL, &source, &out.err) == L3_OK)
		finish(source, stop_soon, &calls, &out);
	tap_ok(out.arena == NULL && out.err.status == L3_ERR_CANCELLED && calls == 3,
		   "the progress callback can stop the load");
	free(out.mem);
	free(file.data);
}

static void
write_file(const char *path, const Bytes *bytes)
{
	FILE	   *f = fopen(path, "wb");

	fwrite(bytes->data, 1, bytes->n, f);
	fclose(f);
}

static Loaded
load_path(const char *path)
{
	Loaded		out = {0};
	L3Source   *source;

	if (l3_source_open(path, NULL, &source, &out.err) == L3_OK)
		finish(source, NULL, NULL, &out);
	return out;
}

static void
test_split(void)
{
	char		dir[] = "/tmp/test_gguf.XXXXXX";
	char		path[3][64];
	char		aside[64];
	TinyGguf	t = tiny_gguf_defaults();
	Loaded		whole = load_tiny(&t);
	Loaded		l;

	if (mkdtemp(dir) == NULL)
		exit(1);
	snprintf(aside, sizeof(aside), "%s/aside", dir);
	t.split_count = 3;
	t.split_tensors = 21;
	for (uint32_t i = 0; i < 3; i++)
	{
		Bytes		part;

		t.split_no = i;
		part = tiny_gguf(&t, &vocab);
		snprintf(path[i], sizeof(path[i]), "%s/m-%05u-of-00003.gguf", dir, i + 1);
		write_file(path[i], &part);
		free(part.data);
	}
	l = load_path(path[0]);
	if (!tap_ok(model_is_right(&l) && memcmp(l.sum, whole.sum, 16) == 0,
				"a model in three parts is the model in one"))
		tap_note("%s %s", l.err.message, l.err.detail);
	free(l.mem);

	l = load_path(path[1]);
	tap_ok(l.arena == NULL && strstr(l.err.hint, "00001-of-00003") != NULL &&
		   strcmp(l.err.detail, "It is part 2 of 3.") == 0,
		   "a later part leads to the first");
	snprintf(aside, sizeof(aside), "%s/m-00001-of-99999.gguf", dir);
	rename(path[1], aside);
	l = load_path(aside);
	rename(aside, path[1]);
	snprintf(aside, sizeof(aside), "%s/aside", dir);
	tap_ok(l.arena == NULL && l.err.status == L3_ERR_UNSUPPORTED &&
		   strstr(l.err.message, "99999") != NULL && strstr(l.err.detail, "1024") != NULL,
		   "too many parts are told with the limit");

	rename(path[1], aside);
	l = load_path(path[0]);
	tap_ok(l.arena == NULL && l.err.status == L3_ERR_IO && strstr(l.err.message, "00002-of-00003") != NULL &&
		   strcmp(l.err.detail, "The model has 3 files of weights, and 1 of them is missing.") == 0,
		   "a missing part is named");
	rename(aside, path[1]);

	rename(path[2], aside);
	rename(path[1], path[2]);
	rename(aside, path[1]);
	l = load_path(path[0]);
	tap_ok(l.arena == NULL && strstr(l.err.detail, "part 3 of 3") != NULL, "parts in the wrong order are refused");

	for (int i = 0; i < 3; i++)
		unlink(path[i]);
	rmdir(dir);
	free(whole.mem);
}

static void
test_paths(void)
{
	char		dir[] = "/tmp/test_gguf.XXXXXX";
	char		fifo[64];
	Loaded		l = load_path("/nonexistent/model.gguf");

	tap_ok(l.err.status == L3_ERR_IO && l.err.saved_errno == 2, "a missing file keeps its errno");
	if (mkdtemp(dir) == NULL)
		exit(1);
	l = load_path(dir);
	tap_ok(l.err.status == L3_ERR_FORMAT && strstr(l.err.hint, "config.json") != NULL,
		   "an empty directory is no model");
	snprintf(fifo, sizeof(fifo), "%s/m.gguf", dir);
	if (mkfifo(fifo, 0600) != 0)
		exit(1);
	l = load_path(fifo);
	tap_ok(l.err.status == L3_ERR_FORMAT, "a FIFO is refused without waiting");
	unlink(fifo);
	rmdir(dir);
}

static void
test_warning(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Loaded		l;

	t.n_ctx = 131072;
	l = load_tiny(&t);
	tap_ok(l.arena != NULL && strstr(l.warning, "rope_freqs") != NULL,
		   "a 3.1 file without divisors loads with a warning");
	free(l.mem);

	t = tiny_gguf_defaults();
	t.zero_tensor = "blk.1.ffn_up.weight";
	l = load_tiny(&t);
	tap_ok(l.arena != NULL && l.late_warning, "a matrix of zeros loads with a warning");
	free(l.mem);
	t.rope_freqs = true;
	l = load_tiny(&t);
	tap_ok(l.arena != NULL && l.warning[0] == '\0', "with divisors there is none");
	free(l.mem);
}

/* A vocabulary of Llama 3's size with its first special token in place. */
static void
test_llama3_vocabulary(void)
{
	enum
	{
		N = 128256, BOS = 128000
	};
	static const char *const pres[] = {NULL, "default", "smaug-bpe", "llama-bpe"};
	static TinyVocab big;
	L3Slice    *tokens = calloc(N, sizeof(*tokens));
	uint8_t    *types = malloc(N);
	char	   *texts = malloc((size_t) N * 16);

	big = vocab;
	for (int i = 0; i < N; i++)
	{
		snprintf(texts + (size_t) i * 16, 16, i < BOS ? "x%d" : "<|s%d|>", i);
		tokens[i] = (L3Slice) {texts + (size_t) i * 16, (uint32_t) strlen(texts + (size_t) i * 16)};
		types[i] = i < BOS ? L3_TOKEN_NORMAL : L3_TOKEN_CONTROL;
		if (i < vocab.begin_of_text && vocab.types[i] == L3_TOKEN_NORMAL)
			tokens[i] = vocab.tokens[i];
	}
	tokens[BOS] = (L3Slice) {"<|begin_of_text|>", 17};
	big.spec.tokens = tokens;
	big.spec.types = types;
	big.spec.n_tokens = N;
	big.spec.bos = BOS;
	big.spec.eos = BOS + 1;

	for (size_t i = 0; i < sizeof(pres) / sizeof(pres[0]); i++)
	{
		TinyGguf	t = tiny_gguf_defaults();
		Bytes		file;
		L3Source   *source = NULL;
		L3Error		err;
		bool		ok;

		t.n_rows = N;
		t.header_only = true;
		t.pre = pres[i];
		file = tiny_gguf(&t, &big);
		ok = l3_source_open_memory(file.data, file.n, true, NULL, &source, &err) == L3_OK &&
			source->has_tokenizer && strcmp(source->spec.pre, "llama-bpe") == 0 &&
			source->spec.add_bos && source->spec.n_stop_ids == 3 &&
			source->stop_ids[0] == 128001 && source->stop_ids[1] == 128008 && source->stop_ids[2] == 128009;
		tap_ok(ok, "Llama 3's vocabulary with pre-tokenizer \"%s\" is llama-bpe with its stop tokens",
			   pres[i] != NULL ? pres[i] : "(none)");
		l3_source_close(source);
		free(file.data);
	}
	free(tokens);
	free(types);
	free(texts);
}

/* Names in errors are cleaned. */
static void
test_hostile_names(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Loaded		l;

	t.arch = "ll\na\001\xff\xe2\x82";
	l = load_tiny(&t);
	tap_ok(strstr(l.err.detail, "ll?a????") != NULL, "control characters and broken UTF-8 do not reach messages");
}

/* An arena that was damaged is refused. */
static void
test_arena_check(void)
{
	TinyGguf	t = tiny_gguf_defaults();
	Loaded		l = load_tiny(&t);
	size_t		checked = sizeof(L3ArenaHeader) - 16 - 64;
	size_t		accepted = 0;
	uint8_t    *bytes = l.mem;
	L3Error		err;
	size_t		table = l.arena->header.tensors_offset;
	size_t		table_end = table + l.arena->header.n_tensors * sizeof(L3ArenaTensor);

	for (size_t i = 0; i < table_end; i++)
	{
		/* Fields that any value may have, within bounds. */
		size_t		hp = offsetof(L3ArenaHeader, hparams);
		bool		free_field = (i >= hp + offsetof(L3Hparams, n_ctx_train) && i < hp + offsetof(L3Hparams, tied)) ||
			(i >= hp + offsetof(L3Hparams, rms_eps) && i < hp + sizeof(L3Hparams)) ||
			(i >= hp + offsetof(L3Hparams, n_heads) && i < hp + offsetof(L3Hparams, rope_dim)) ||
			(i >= checked && i < table);

		if (free_field)
			continue;
		bytes[i] ^= 0x41;
		accepted += l3_arena_check(l.mem, l.size, &err) != NULL;
		bytes[i] ^= 0x41;
	}
	tap_ok(accepted == 0, "an arena with a damaged byte in header or table is refused");
	tap_ok(l3_arena_check(l.mem, l.size - 1, &err) == NULL &&
		   l3_arena_check(l.mem, 10, &err) == NULL, "an arena that was cut is refused");
	tap_ok(l3_arena_check(l.mem, l.size, &err) != NULL && l3_arena_size(l.arena) == l.size &&
		   l3_arena_n_params(l.arena) == 2 * 300 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96),
		   "a sound one tells its size and parameters");
	free(l.mem);
}

int
main(void)
{
	tiny_vocab(&vocab, "llama-bpe");
	test_sound();
	test_checksum();
	test_quantize();
	test_refused();
	test_truncated();
	test_not_gguf();
	test_cancel();
	test_split();
	test_paths();
	test_warning();
	test_llama3_vocabulary();
	test_hostile_names();
	test_arena_check();
	return tap_done();
}
