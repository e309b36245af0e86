/*-------------------------------------------------------------------------
 *
 * test_trainer_export.c
 *	  What the trainer writes: GGUF files, as the engine reads them.
 *
 * Also the test that trainer and engine are the same function: the engine's
 * log-probabilities and embeddings of an exported model against the losses of
 * the trainer's forward pass.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <math.h>

#include "arena.h"
#include "half.h"
#include "unit/trainer_fixture.h"

#define N_TOKENS	(256 + 60 + TR_N_SPECIALS)

/*
 * Largest difference of a log-probability (nats) and of a contrastive loss.
 * Both sides compute in float, in different orders; measured: 4e-6 and 1e-6.
 */
#define LOGPROB_TOLERANCE	2e-5
#define GROUP_TOLERANCE		5e-5

/* Heads wider than n_embd / n_heads, a vocabulary that is no multiple of 16. */
static const TrConfig config = {
	.n_layers = 2,.n_embd = 64,.n_heads = 4,.n_kv_heads = 2,.head_dim = 32,.n_ff = 96,
	.n_vocab = N_TOKENS,.n_ctx = 128,.rope_theta = 500000,.rms_eps = 1e-5f
};

/* Values so large that every part of the model shows in its output. */
static TrModel *
random_model(void)
{
	TrModel    *model = tr_model_create(&config);
	TrRandom	random = {7};

	tr_model_init(model, 7);
	for (int i = 0; i < model->n_tensors; i++)
	{
		const TrTensor *t = &model->tensors[i];
		float	   *w = model->params + t->offset;
		size_t		n = (size_t) t->n_out * (size_t) t->n_in;

		for (size_t k = 0; k < n; k++)
		{
			if (t->n_out == 1)
				w[k] = (float) (1 + 0.3 * tr_normal(&random));
			else
				w[k] = (float) (tr_normal(&random) * 1.5 / sqrt(t->n_in));
		}
	}
	return model;
}

/* ----------------------------------------------------------------
 *		An exported model in memory
 * ----------------------------------------------------------------
 */

typedef struct Loaded
{
	L3Source   *source;
	void	   *tokenizer;
	uint64_t	tokenizer_size;
	const L3Arena *arena;
} Loaded;

static void
must(L3Status status, const L3Error *err)
{
	if (status == L3_OK)
		return;
	printf("Bail out! %s %s\n", err->message, err->detail);
	exit(1);
}

static Loaded
load(const char *path)
{
	Loaded		loaded;
	uint64_t	size;
	void	   *mem;
	L3Error		err;

	must(l3_source_open(path, NULL, &loaded.source, &err), &err);
	loaded.tokenizer_size = l3_source_tokenizer_size(loaded.source);
	loaded.tokenizer = tr_alloc(loaded.tokenizer_size);
	must(l3_source_build_tokenizer(loaded.source, loaded.tokenizer, loaded.tokenizer_size, &err), &err);
	size = l3_source_arena_size(loaded.source);
	mem = tr_alloc(size);
	must(l3_source_load(loaded.source, mem, size, loaded.tokenizer, loaded.tokenizer_size,
						NULL, NULL, &err), &err);
	loaded.arena = l3_arena_check(mem, size, &err);
	if (loaded.arena == NULL)
		must(err.status, &err);
	return loaded;
}

static void
unload(Loaded *loaded)
{
	l3_source_close(loaded->source);
	free(loaded->tokenizer);
	free((void *) loaded->arena);
}

static Loaded
export_and_load(const TrModel *model, const TrVocab *vocab, bool q8_0)
{
	const char *path = fixture_path("model.gguf");

	tr_export(model, vocab, q8_0, "A test", "Random numbers.", "mit", path);
	return load(path);
}

/* The arena's tensor of that name: the trainer's names are those of the file. */
static uint64_t
arena_tensor(const char *name)
{
	static const char *const layer_names[L3_N_LAYER_TENSORS] = {
		[L3_ATTN_NORM] = "attn_norm.weight",[L3_WQ] = "attn_q.weight",
		[L3_WK] = "attn_k.weight",[L3_WV] = "attn_v.weight",
		[L3_WO] = "attn_output.weight",[L3_FFN_NORM] = "ffn_norm.weight",
		[L3_W_GATE] = "ffn_gate.weight",[L3_W_UP] = "ffn_up.weight",
		[L3_W_DOWN] = "ffn_down.weight"
	};
	unsigned	layer;
	char		rest[48];

	if (strcmp(name, "token_embd.weight") == 0)
		return L3_TOKEN_EMBD;
	if (strcmp(name, "output_norm.weight") == 0)
		return L3_OUTPUT_NORM;
	if (sscanf(name, "blk.%u.%47s", &layer, rest) == 2)
	{
		for (int i = 0; i < L3_N_LAYER_TENSORS; i++)
		{
			if (strcmp(rest, layer_names[i]) == 0)
				return L3_LAYER_TENSOR(layer, i);
		}
	}
	printf("Bail out! the trainer has a tensor \"%s\"\n", name);
	exit(1);
}

/* Output n, input k of a matrix: its value, and the step of a quantised one. */
static float
matrix_value(const L3Matrix *m, int n, int k, float *step)
{
	const uint8_t *panel = m->data + (size_t) (n / L3_PANEL) * m->panel_bytes;
	int			c = n % L3_PANEL;
	const uint16_t *scales = (const uint16_t *) panel;

	if (m->type == L3_F32)
	{
		*step = 0;
		return ((const float *) panel)[k * L3_PANEL + c];
	}
	*step = l3_half_to_float(scales[k / 32 * L3_PANEL + c]);
	panel += l3_panel_scales_bytes(L3_Q8_0, m->n_in);
	return *step * (float) (panel[(k / 4 * L3_PANEL + c) * 4 + k % 4] - 128);
}

/*
 * Is every value read back within half a step (of a float: equal)?  scales:
 * is every step the largest value of its block over 127, in half precision?
 */
static bool
tensor_is(const Loaded *loaded, const TrModel *model, const TrTensor *t, bool *scales)
{
	const float *x = model->params + t->offset;
	uint64_t	index = arena_tensor(t->name);
	L3Matrix	m;

	if (t->n_out == 1)
		return memcmp(l3_arena_vector(loaded->arena, index), x, (size_t) t->n_in * sizeof(float)) == 0;
	m = l3_arena_matrix(loaded->arena, index);
	if (m.n_out != t->n_out || m.n_in != t->n_in)
		return false;
	for (int n = 0; n < t->n_out; n++)
	{
		float		largest = 0;

		for (int k = 0; k < t->n_in; k++)
		{
			float		value = x[(size_t) n * (size_t) t->n_in + (size_t) k];
			float		step;
			float		read = matrix_value(&m, n, k, &step);

			if (m.type == L3_F32 ? read != value : fabs((double) read - value) > 0.5 * step)
				return false;
			largest = fmaxf(k % 32 == 0 ? 0 : largest, fabsf(value));
			if (m.type == L3_Q8_0 && k % 32 == 31 &&
				step != l3_half_to_float(l3_float_to_half(largest / 127)))
				*scales = false;
		}
	}
	return true;
}

static bool
model_is(const Loaded *loaded, const TrModel *model, bool *scales)
{
	*scales = true;
	for (int i = 0; i < model->n_tensors; i++)
	{
		if (!tensor_is(loaded, model, &model->tensors[i], scales))
		{
			tap_note("tensor %s differs", model->tensors[i].name);
			return false;
		}
	}
	return true;
}

static bool
hparams_are(const Loaded *loaded)
{
	const L3Hparams *h = l3_source_hparams(loaded->source);

	return h->n_layers == 2 && h->n_embd == 64 && h->n_heads == 4 && h->n_kv_heads == 2 &&
		h->head_dim == 32 && h->value_dim == 32 && h->rope_dim == 32 && h->n_ff == 96 &&
		h->n_vocab == N_TOKENS && h->n_ctx_train == 128 && h->tied == 1 &&
		h->rms_eps == 1e-5f && h->rope_theta == 500000.0;
}

/* ----------------------------------------------------------------
 *		The file
 * ----------------------------------------------------------------
 */

static void
test_weights(const TrModel *model, const TrVocab *vocab)
{
	Loaded		loaded = export_and_load(model, vocab, false);
	bool		scales;

	tap_ok(model_is(&loaded, model, &scales), "an F32 file has the very parameters");
	tap_ok(hparams_are(&loaded), "hyperparameters are those of the model");
	tap_ok(strcmp(l3_source_name(loaded.source), "A test") == 0 &&
		   strcmp(l3_source_warning(loaded.source), "") == 0,
		   "the file has its name, and nothing to warn of");
	unload(&loaded);

	loaded = export_and_load(model, vocab, true);
	tap_ok(model_is(&loaded, model, &scales), "values of a Q8_0 file are within half a step");
	tap_ok(scales, "scales of a Q8_0 file are the nearest half to the largest value over 127");
	tap_ok(hparams_are(&loaded) && l3_arena_matrix(loaded.arena, L3_TOKEN_EMBD).type == L3_Q8_0 &&
		   l3_arena_matrix(loaded.arena, L3_LAYER_TENSOR(1, L3_W_DOWN)).type == L3_Q8_0,
		   "matrices of a Q8_0 file are Q8_0");
	unload(&loaded);
	tap_ok(access(fixture_path("model.gguf.tmp"), F_OK) != 0, "no temporary file stays");
}

/* A row of zeros, one whose scale is no longer exact, one whose scale is 0. */
static void
test_tiny_values(const TrVocab *vocab)
{
	TrModel    *tiny = random_model();
	const TrTensor *t = &tiny->tensors[0];
	bool		small = true;
	bool		zero = true;
	Loaded		loaded;
	L3Matrix	m;

	for (int k = 0; k < t->n_in; k++)
	{
		tiny->params[t->offset + (size_t) k] = 0;
		tiny->params[t->offset + (size_t) (t->n_in + k)] = (k % 2 ? -1e-5f : 1e-5f);
		tiny->params[t->offset + (size_t) (2 * t->n_in + k)] = 1e-6f;
	}
	loaded = export_and_load(tiny, vocab, true);
	m = l3_arena_matrix(loaded.arena, L3_TOKEN_EMBD);
	for (int k = 0; k < t->n_in; k++)
	{
		float		step;

		zero = zero && matrix_value(&m, 0, k, &step) == 0 && matrix_value(&m, 2, k, &step) == 0;
		/* 1e-5 / 127 rounds to 2^-24, of which 127 are less than 1e-5. */
		small = small && matrix_value(&m, 1, k, &step) == (k % 2 ? -127 : 127) * 0x1p-24f;
	}
	tap_ok(zero, "values below any scale become 0");
	tap_ok(small, "values over 127 steps become 127 steps of their sign");
	unload(&loaded);
	tr_model_free(tiny);
}

static void
test_tokenizer(const TrModel *model, const TrVocab *vocab, const L3Tokenizer *tok)
{
	Loaded		loaded = export_and_load(model, vocab, true);
	L3Error		err;
	const L3Tokenizer *read = l3_tokenizer_check(loaded.tokenizer, loaded.tokenizer_size, &err);

	tap_ok(read != NULL && memcmp(read, tok, loaded.tokenizer_size) == 0,
		   "the file's tokenizer is the one that encoded the documents");
	tap_ok(l3_tokenizer_chat_form(read) == L3_CHAT_LLAMA30, "the chat form is that of Llama 3");
	tap_ok(l3_tokenizer_bos(read) == vocab->bos && l3_tokenizer_add_bos(read) &&
		   l3_tokenizer_eot(read) == vocab->eot && l3_tokenizer_is_stop(read, vocab->eot) &&
		   l3_tokenizer_is_stop(read, vocab->eos) && l3_tokenizer_is_stop(read, vocab->eom) &&
		   !l3_tokenizer_is_stop(read, vocab->bos), "control tokens have their roles");
	unload(&loaded);
}

typedef struct Bad
{
	const TrModel *model;
	const TrVocab *vocab;
	bool		q8_0;
} Bad;

static void
export_bad(const void *arg)
{
	const Bad  *bad = arg;

	tr_export(bad->model, bad->vocab, bad->q8_0, "", "", "", fixture_path("bad.gguf"));
}

static void
test_refused(TrModel *model, const TrVocab *vocab)
{
	TrVocab		longer = *vocab;
	TrConfig	ragged_config = config;
	TrModel    *ragged;
	float		saved = model->params[100];

	longer.n_tokens++;
	tap_ok(fixture_fails(export_bad, &(Bad) {model, &longer, true}, "model has 332 tokens, the vocabulary has 333"),
		   "a vocabulary of another size is refused");
	ragged_config.n_ff = 100;
	ragged = tr_model_create(&ragged_config);
	tap_ok(fixture_fails(export_bad, &(Bad) {ragged, vocab, true},
						 "rows of tensor \"blk.0.ffn_down.weight\" have 100 values, Q8_0 needs a multiple of 32"),
		   "rows of broken blocks are refused");
	tr_model_free(ragged);
	model->params[100] = NAN;
	tap_ok(fixture_fails(export_bad, &(Bad) {model, vocab, false},
						 "tensor \"token_embd.weight\" has a value that is not a finite number"),
		   "a diverged model is refused");
	model->params[100] = saved;
	tap_ok(access(fixture_path("bad.gguf"), F_OK) != 0 && access(fixture_path("bad.gguf.tmp"), F_OK) != 0,
		   "what is refused makes no file");
}

/* ----------------------------------------------------------------
 *		The same function
 * ----------------------------------------------------------------
 */

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	if (event != L3_EVENT_DONE)
		return;
	must(result->status, &result->error);
	*(bool *) user = true;
}

static void
run(L3Engine *engine, L3Model *model, const L3Request *request)
{
	bool		done = false;
	L3Sequence *sequence;
	L3Error		err;

	must(l3_engine_submit(engine, model, request, on_event, &done, &sequence, &err), &err);
	while (!done && l3_engine_step(engine))
		;
}

/* Widen a document's ids. */
static void
copy_ids(const TrDocument *document, int32_t *ids)
{
	for (int i = 0; i < document->n_tokens; i++)
		ids[i] = document->ids[i];
}

/* The trainer's log-probability of token i: the loss when only i has a weight. */
static double
trainer_logprob(const TrModel *model, TrWorkspace *ws, const TrDocument *document, int i)
{
	float		weights[128] = {0};
	TrDocument	one = *document;
	const TrDocument *list[] = {&one};
	TrBatch		batch = {1, list};
	TrLoss		loss = {0};

	one.weights = weights;
	one.group = -1;
	weights[i] = 1;
	tr_model_run(model, ws, &batch, 1, 0, NULL, &loss);
	return -loss.token_loss;
}

static void
test_logprobs(L3Engine *engine, L3Model *attached, const TrModel *model, TrWorkspace *ws,
			  const TrDocument *document)
{
	int32_t		ids[128];
	double		logprobs[128];
	L3Request	request = {
		.kind = L3_REQ_LOGPROBS,.tokens = ids,.n_tokens = document->n_tokens,
		.first_scored = 1,.out_logprobs = logprobs
	};
	double		worst = 0;
	double		least = 0;
	double		most = -1e9;

	copy_ids(document, ids);
	run(engine, attached, &request);
	for (int i = 1; i < document->n_tokens; i++)
	{
		double		ours = trainer_logprob(model, ws, document, i);

		worst = fmax(worst, fabs(ours - logprobs[i - 1]));
		least = fmin(least, ours);
		most = fmax(most, ours);
	}
	tap_note("%d tokens, log-probabilities %.3f to %.3f, largest difference %.2g",
			 document->n_tokens, least, most, worst);
	tap_ok(most - least > 5 && worst <= LOGPROB_TOLERANCE,
		   "the engine gives each token the probability that the trainer gives it");
}

/* The supervised contrastive loss of unit vectors z (n, n_embd), by its definition. */
static double
contrastive_loss(const float *z, const int *groups, int n)
{
	double		total = 0;

	for (int i = 0; i < n; i++)
	{
		double		similarity[8];
		double		sum = 0;
		double		positives = 0;
		int			n_positives = 0;

		for (int a = 0; a < n; a++)
		{
			similarity[a] = 0;
			for (int k = 0; k < config.n_embd; k++)
				similarity[a] += (double) z[i * config.n_embd + k] * z[a * config.n_embd + k] / TR_TEMPERATURE;
			sum += a == i ? 0 : exp(similarity[a]);
		}
		for (int p = 0; p < n; p++)
		{
			if (p != i && groups[p] == groups[i])
			{
				positives += log(sum) - similarity[p];
				n_positives++;
			}
		}
		total += n_positives > 0 ? positives / n_positives : 0;
	}
	return total;
}

static void
test_embeddings(L3Engine *engine, L3Model *attached, const TrModel *model, TrWorkspace *ws,
				const TrCorpus *corpus)
{
	float		z[8 * 64];
	int			groups[8];
	const TrDocument *list[8];
	int			n = 0;
	TrBatch		batch = {0, list};
	TrLoss		loss = {0};
	double		expected;

	for (int i = 0; i < corpus->n_documents; i++)
	{
		const TrDocument *document = &corpus->documents[i];
		int32_t		ids[128];
		L3Request	request = {
			.kind = L3_REQ_EMBED,.tokens = ids,.n_tokens = document->n_pooled,
			.pooling = L3_POOL_MEAN,.out_embedding = z + n * config.n_embd
		};

		if (document->group < 0)
			continue;
		copy_ids(document, ids);
		run(engine, attached, &request);
		groups[n] = document->group;
		list[n++] = document;
	}
	batch.n_documents = n;
	tr_model_run(model, ws, &batch, 0, 1, NULL, &loss);
	expected = contrastive_loss(z, groups, n);
	tap_note("%d documents, %d anchors, contrastive loss %.6f, by the engine's embeddings %.6f",
			 n, loss.n_anchors, loss.group_loss, expected);
	tap_ok(n == 5 && loss.n_anchors == 4 && expected > 0.1 &&
		   fabs(loss.group_loss - expected) <= GROUP_TOLERANCE * loss.n_anchors,
		   "the contrastive loss is that of the engine's embeddings");
}

static void
test_forward(const TrModel *model, const TrVocab *vocab, const L3Tokenizer *tok)
{
	static const char lines[] =
	"-1\t1\t<|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nHow many rows are in the table that "
	"the server keeps?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n42 rows.<|eot_id|>\n"
	"1\t1\t<|begin_of_text|>rows of a table<|end_of_text|>\n"
	"2\t1\t<|begin_of_text|>die Straße<|end_of_text|>\n"
	"1\t1\t<|begin_of_text|>the pages\n"
	"2\t1\t<|begin_of_text|>1999<|end_of_text|>\n"
	"3\t1\t<|begin_of_text|>alone in its group<|end_of_text|>\n";
	Loaded		loaded = export_and_load(model, vocab, false);
	TrCorpus   *corpus = tr_corpus_read(fixture_write("documents", lines, strlen(lines)), tok, config.n_ctx);
	TrWorkspace *ws = tr_workspace_create(model, 512, 8);
	L3EngineOptions options = {
		.n_threads = 1,.kv_cache_bytes = (uint64_t) 64 << 20,.kv_type = L3_KV_F32,
		.batch_tokens = 64,.max_sequences = 4,.prefix_cache = false
	};
	L3Engine   *engine;
	L3Model    *attached;
	L3Error		err;

	must(l3_engine_create(&options, &engine, &err), &err);
	must(l3_engine_attach(engine, loaded.arena, tok, &attached, &err), &err);
	test_logprobs(engine, attached, model, ws, &corpus->documents[0]);
	test_embeddings(engine, attached, model, ws, corpus);
	l3_engine_destroy(engine);
	tr_workspace_free(ws);
	tr_corpus_free(corpus);
	unload(&loaded);
}

int
main(void)
{
	static const char *const files[] = {"documents", "vocab", "model.gguf"};
	TrVocab    *vocab = fixture_vocab(N_TOKENS);
	L3Tokenizer *tok = tr_vocab_tokenizer(vocab);
	TrModel    *model = random_model();

	test_weights(model, vocab);
	test_tiny_values(vocab);
	test_tokenizer(model, vocab, tok);
	test_refused(model, vocab);
	test_forward(model, vocab, tok);

	tr_model_free(model);
	free(tok);
	tr_vocab_free(vocab);
	fixture_remove(files, sizeof(files) / sizeof(files[0]));
	return tap_done();
}
