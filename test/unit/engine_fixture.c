/*-------------------------------------------------------------------------
 *
 * engine_fixture.c
 *	  A small random model in memory, and helpers to run requests on it.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "tokenizer.h"

void
fixture_check(L3Status status, const L3Error *err)
{
	if (status == L3_OK)
		return;
	printf("Bail out! %s %s\n", err->message, err->detail);
	exit(1);
}

uint64_t
fixture_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* uniform in [-1, 1) */
static float
random_float(uint64_t *state)
{
	return (float) ((double) (fixture_random(state) >> 11) * 0x1p-52 - 1.0);
}

void
fixture_tokens(int32_t *tokens, int n, uint32_t n_vocab, uint64_t seed)
{
	uint64_t	state = seed * 2654435761u + 88172645463325252u;

	for (int i = 0; i < n; i++)
		tokens[i] = (int32_t) (fixture_random(&state) % n_vocab);
}

L3Hparams
fixture_hparams(void)
{
	return (L3Hparams)
	{
		.n_layers = 2, .n_embd = 64, .n_heads = 4, .n_kv_heads = 2, .head_dim = 32,
		.value_dim = 16, .rope_dim = 24, .n_ff = 96, .n_vocab = 277, .n_ctx_train = 512,
		.tied = 0, .rms_eps = 1e-5f, .rope_theta = 10000.0
	};
}

L3EngineOptions
fixture_options(void)
{
	return (L3EngineOptions)
	{
		.n_threads = 1, .kv_cache_bytes = (uint64_t) 64 << 20, .kv_type = L3_KV_F32,
		.batch_tokens = 64, .max_sequences = 40, .prefix_cache = true
	};
}

/* ----------------------------------------------------------------
 *		The arena
 * ----------------------------------------------------------------
 */

static void
fill_f32(uint8_t *panel, uint32_t k, float scale, uint64_t *state)
{
	float	   *w = (float *) panel;

	for (uint32_t i = 0; i < k * L3_PANEL; i++)
		w[i] = scale * random_float(state);
}

static void
fill_bf16(uint8_t *panel, uint32_t k, float scale, uint64_t *state)
{
	uint16_t   *w = (uint16_t *) panel;

	for (uint32_t i = 0; i < k * L3_PANEL; i++)
	{
		float		value = scale * random_float(state);
		uint32_t	bits;

		memcpy(&bits, &value, sizeof(bits));
		w[i] = (uint16_t) (bits >> 16);
	}
}

static void
fill_q8_0(uint8_t *panel, uint32_t k, float scale, uint64_t *state)
{
	uint16_t   *d = (uint16_t *) panel;
	uint8_t    *q = panel + l3_panel_scales_bytes(L3_Q8_0, (int) k);

	for (uint32_t i = 0; i < k / 32 * L3_PANEL; i++)
		d[i] = l3_float_to_half(scale / 127 * (1 + 0.5f * random_float(state)));
	for (uint32_t i = 0; i < k * L3_PANEL; i++)
		q[i] = (uint8_t) (fixture_random(state) >> 32);
}

static void
fill_tensor(uint8_t *mem, const L3ArenaTensor *t, uint64_t *state)
{
	float		scale = 2.0f / sqrtf((float) t->n_in);

	if (t->panel_bytes == 0)
	{
		for (uint32_t i = 0; i < t->n_in; i++)
			((float *) (mem + t->offset))[i] = 1 + 0.25f * random_float(state);
		return;
	}
	for (uint32_t p = 0; p < (t->n_out + L3_PANEL - 1) / L3_PANEL; p++)
	{
		uint8_t    *panel = mem + t->offset + p * t->panel_bytes;

		if (t->type == L3_F32)
			fill_f32(panel, t->n_in, scale, state);
		else if (t->type == L3_BF16)
			fill_bf16(panel, t->n_in, scale, state);
		else
			fill_q8_0(panel, t->n_in, scale, state);
	}
}

const L3Arena *
fixture_arena(const L3Hparams *hp, L3PackedType type, uint64_t seed)
{
	uint64_t	n_tensors = L3_TENSOR_COUNT(hp->n_layers);
	L3ArenaTensor *t = calloc(n_tensors, sizeof(*t));
	L3ArenaHeader header;
	uint64_t	state = seed * 0x9E3779B97F4A7C15u + 1;
	void	   *mem;
	const L3Arena *arena;
	L3Error		err;

	for (uint64_t i = 0; i < n_tensors; i++)
	{
		L3TensorShape shape = l3_tensor_shape(hp, i);

		t[i].n_out = shape.n_out;
		t[i].n_in = shape.n_in;
		t[i].type = shape.vector ? L3_F32 : type;
	}
	l3_arena_layout(&header, hp, t);
	if (posix_memalign(&mem, L3_ARENA_ALIGN, header.total_bytes) != 0)
		exit(1);
	memset(mem, 0, header.total_bytes);
	for (uint64_t i = 0; i < n_tensors; i++)
		if (t[i].offset != 0)
			fill_tensor(mem, &t[i], &state);
	memcpy(mem, &header, sizeof(header));
	memcpy((uint8_t *) mem + header.tensors_offset, t, n_tensors * sizeof(*t));
	free(t);
	arena = l3_arena_check(mem, header.total_bytes, &err);
	if (arena == NULL)
		fixture_check(err.status, &err);
	return arena;
}

/* ----------------------------------------------------------------
 *		The tokenizer
 * ----------------------------------------------------------------
 */

/* GPT-2's byte-to-unicode alphabet, in UTF-8. */
static uint32_t
byte_name(int byte, char *out)
{
	static const int first_spare = 256;
	int			code = byte;

	if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174))
	{
		code = first_spare;
		for (int b = 0; b < byte; b++)
			code += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
	}
	if (code < 128)
	{
		out[0] = (char) code;
		return 1;
	}
	out[0] = (char) (0xC0 | (code >> 6));
	out[1] = (char) (0x80 | (code & 63));
	return 2;
}

const L3Tokenizer *
fixture_tokenizer(void)
{
	static char names[256][2];
	static L3Slice tokens[FIXTURE_N_TOKENS];
	static uint8_t types[FIXTURE_N_TOKENS];
	static const L3Slice left[] = {{"a", 1}, {"c", 1}, {"ab", 2}};
	static const L3Slice right[] = {{"b", 1}, {"d", 1}, {"cd", 2}};
	static const char *const others[] = {
		"ab", "cd", "abcd", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
	};
	L3TokenizerSpec spec = {
		.where = "fixture", .pre = "llama-bpe", .n_tokens = FIXTURE_N_TOKENS,
		.tokens = tokens, .types = types, .n_merges = 3,
		.merge_left = left, .merge_right = right,
		.bos = FIXTURE_BOS, .eos = FIXTURE_EOS, .eot = FIXTURE_EOT, .eom = -1, .add_bos = true
	};
	const L3Tokenizer *tok;
	L3Error		err;
	uint64_t	size;
	void	   *mem;

	for (int i = 0; i < FIXTURE_N_TOKENS; i++)
	{
		types[i] = i < FIXTURE_BOS ? L3_TOKEN_NORMAL : L3_TOKEN_CONTROL;
		if (i < 256)
			tokens[i] = (L3Slice)
		{
			names[i], byte_name(i, names[i])
		};
		else
			tokens[i] = (L3Slice)
		{
			others[i - 256], (uint32_t) strlen(others[i - 256])
		};
	}
	fixture_check(l3_tokenizer_image_size(&spec, &size, &err), &err);
	mem = calloc(1, size);
	fixture_check(l3_tokenizer_build(&spec, mem, size, &err), &err);
	tok = l3_tokenizer_check(mem, size, &err);
	if (tok == NULL)
		fixture_check(err.status, &err);
	return tok;
}

/* ----------------------------------------------------------------
 *		Requests
 * ----------------------------------------------------------------
 */

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Job		   *job = user;

	job->result = *result;
	job->done = event == L3_EVENT_DONE;
	job->n_events++;
}

void
rig_open(Rig *rig, const L3Arena *arena, L3EngineOptions options, const L3Tokenizer *tok)
{
	L3Error		err;

	rig->options = options;
	fixture_check(l3_engine_create(&options, &rig->engine, &err), &err);
	fixture_check(l3_engine_attach(rig->engine, arena, tok, &rig->model, &err), &err);
	rig->engine->kv.poison = true;
	rig->model->draft_rows = L3_DRAFT_ROWS;
}

void
rig_close(Rig *rig)
{
	l3_engine_destroy(rig->engine);
}

void
rig_submit(Rig *rig, Job *job)
{
	L3Error		err;

	job->done = false;
	job->n_events = 0;
	fixture_check(l3_engine_submit(rig->engine, rig->model, &job->request, on_event, job,
								   &job->sequence, &err), &err);
}

void
rig_run(Rig *rig, Job *jobs, int n)
{
	int			next = 0;
	bool		never;
	L3Error		err;

	do
	{
		while (next < n &&
			   l3_engine_can_admit(rig->engine, rig->model, &jobs[next].request, &never, &err))
			rig_submit(rig, &jobs[next++]);
	} while (l3_engine_step(rig->engine));
}

bool
rig_idle(const Rig *rig)
{
	L3EngineStats stats;

	l3_engine_stats(rig->engine, &stats);
	return stats.kv_bytes_used == 0 && stats.n_sequences == 0 &&
		l3_kv_committed_bytes(&rig->engine->kv) == 0;
}

void
job_prompt(Job *job, int n, int n_common, uint64_t seed)
{
	memset(job, 0, sizeof(*job));
	fixture_tokens(job->prompt, n, 256, seed);
	fixture_tokens(job->prompt, n < n_common ? n : n_common, 256, 77);
	job->request.tokens = job->prompt;
	job->request.n_tokens = n;
	job->request.salt = 5;
}

void
job_generate(Job *job, int max_tokens, float temperature)
{
	job->request.kind = L3_REQ_GENERATE;
	job->request.max_tokens = max_tokens;
	job->request.sampling = (L3Sampling)
	{
		.temperature = temperature, .top_p = 0.95f, .min_p = 0, .repeat_penalty = 1.1f,
		.top_k = 0, .seed = 42
	};
	job->request.prompt_lookup = true;
	job->request.out_tokens = job->out_tokens;
}

void
job_score(Job *job, const int32_t *tokens, const int32_t *end, int n)
{
	job->request.kind = L3_REQ_SCORE;
	job->request.label_tokens = tokens;
	job->request.label_end = end;
	job->request.n_labels = n;
	job->request.out_logprobs = job->out_logprobs;
}

void
job_embed(Job *job, L3Pooling pooling)
{
	job->request.kind = L3_REQ_EMBED;
	job->request.pooling = pooling;
	job->request.out_embedding = job->out_embedding;
}

void
job_logprobs(Job *job, int first_scored)
{
	job->request.kind = L3_REQ_LOGPROBS;
	job->request.first_scored = first_scored;
	job->request.out_logprobs = job->out_logprobs;
}

bool
job_same(const Job *a, const Job *b)
{
	return a->done && b->done &&
		a->result.n_out == b->result.n_out && a->result.finish == b->result.finish &&
		a->result.n_bytes == b->result.n_bytes &&
		memcmp(a->out_tokens, b->out_tokens, sizeof(a->out_tokens)) == 0 &&
		memcmp(a->out_logprobs, b->out_logprobs, sizeof(a->out_logprobs)) == 0 &&
		memcmp(a->out_embedding, b->out_embedding, sizeof(a->out_embedding)) == 0;
}
