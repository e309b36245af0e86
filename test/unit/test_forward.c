/*-------------------------------------------------------------------------
 *
 * test_forward.c
 *	  A forward step computes of its last layer what is wanted, and what is
 *	  wanted does not depend on what else is.
 *
 * One mixed step (a whole prompt, later parts of two, generated rows one and
 * three at a time) runs with all rows wanted, then with other choices of
 * them.  Whatever is chosen, each wanted row's logits or normed state, and all
 * keys and values, must be bit for bit those of the first run: with every
 * instruction set of this CPU, for weights of each kind of arithmetic, with
 * one thread and with three.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "kernels/cpu.h"
#include "tap.h"

#define MAX_BLOCKS		3		/* of a sequence */
#define MAX_TOKENS		(MAX_BLOCKS * L3_KV_BLOCK)

/* Sequences: positions computed before the step, and those of the step. */
static const struct
{
	int32_t		before;
	int32_t		n;
	bool		generated;
}			parts[] = {
	{0, 37, false},
	{16, 21, false},
	{13, 5, false},
	{33, 1, true},
	{18, 3, true},
	{47, 1, true},
};

#define N_PARTS			((int) (sizeof(parts) / sizeof(parts[0])))
#define N_ROWS			68
#define N_PREFILL		63

/* What a row is wanted for. */
typedef enum Want
{
	NOTHING = 0,
	LOGITS,
	STATE
} Want;

typedef Want (*Choice) (int part, int offset);

/* What a step gave. */
typedef struct Outcome
{
	Want		wanted[N_ROWS];
	int			n_wanted;
	int			n_touched;		/* rows that came to the last layer's SwiGLU */
	float	   *logits;			/* (N_ROWS, n_vocab) of those wanted */
	float	   *states;			/* (N_ROWS, n_embd) of those wanted */
	uint8_t    *keys_values;	/* (N_PARTS * MAX_BLOCKS, block_bytes) */
	size_t		block_bytes;
} Outcome;

/* Everything that a step needs. */
typedef struct Bench
{
	L3Kernels	kernels;
	L3Runner	runner;
	L3Weights	weights;
	L3Kv		kv;
	L3KvPool   *pool;
	void	   *memory;
	int			n_live;
	int32_t		tokens[N_PARTS][MAX_TOKENS];
	int32_t		blocks[N_PARTS][MAX_BLOCKS];
	L3Span		spans[N_PARTS];
	L3OutRow	logits_rows[N_ROWS];
	L3OutRow	hidden_rows[N_ROWS];
	L3Batch		batch;
	Outcome    *outcome;
} Bench;

/* ----------------------------------------------------------------
 *		Running a step
 * ----------------------------------------------------------------
 */

static void
open_bench(Bench *b, const L3Arena *arena, L3KvType kv_type, unsigned features, int n_threads)
{
	L3EngineOptions options = fixture_options();
	L3Error		err;
	size_t		scratch;
	size_t		bytes;

	memset(b, 0, sizeof(*b));
	options.n_threads = n_threads;
	options.batch_tokens = N_ROWS;
	l3_kernels_init(&b->kernels, features);
	fixture_check(l3_weights_open(arena, &b->weights, &err), &err);
	scratch = l3_forward_scratch_bytes(&b->kernels, &b->weights, l3_workspace_rows(&options));
	bytes = l3_workspace_lay_out(&b->weights.hp, &options, scratch, NULL, &b->runner.ws);
	fixture_check(l3_workspace_alloc(bytes, 0, &b->memory, &err), &err);
	l3_workspace_lay_out(&b->weights.hp, &options, scratch, b->memory, &b->runner.ws);
	fixture_check(l3_pool_create(n_threads, &b->runner.pool, &err), &err);
	b->n_live = 1;
	b->runner.kernels = &b->kernels;
	b->runner.n_live = &b->n_live;
	b->runner.matmul_pace.work_per_second = b->runner.attend_pace.work_per_second = 1e9;

	l3_kv_init(&b->kv, options.kv_cache_bytes);
	b->kv.poison = true;
	fixture_check(l3_kv_pool_create(&b->kv, &b->weights.hp, kv_type, &b->pool, &err), &err);
	fixture_check(l3_kv_reserve(b->pool, N_PARTS * MAX_BLOCKS, &err), &err);
	for (int p = 0; p < N_PARTS; p++)
	{
		fixture_tokens(b->tokens[p], MAX_TOKENS, b->weights.hp.n_vocab, 100 + (uint64_t) p);
		for (int i = 0; i < MAX_BLOCKS; i++)
			b->blocks[p][i] = l3_kv_alloc(b->pool);
	}
}

static void
close_bench(Bench *b)
{
	for (int p = 0; p < N_PARTS; p++)
		for (int i = 0; i < MAX_BLOCKS; i++)
			(void) l3_kv_unref(b->pool, b->blocks[p][i]);
	l3_kv_pool_destroy(b->pool);
	l3_pool_destroy(b->runner.pool);
	l3_weights_close(&b->weights);
	free(b->memory);
}

static void
on_logits(void *ctx, int i, float *logits, int thread)
{
	Bench	   *b = ctx;
	size_t		n_vocab = b->weights.hp.n_vocab;

	(void) thread;
	memcpy(b->outcome->logits + (size_t) b->logits_rows[i].row * n_vocab, logits,
		   n_vocab * sizeof(float));
}

/* Add positions first .. first + n - 1 of a part to the batch. */
static void
add_part(Bench *b, int p, int32_t first, int32_t n, Choice choice)
{
	L3Batch    *batch = &b->batch;

	for (int32_t i = 0; i < n; i++)
	{
		L3OutRow	out = {.row = batch->n_rows + i, .span = batch->n_spans};
		Want		want = choice(p, (int) i);

		if (want == LOGITS)
			b->logits_rows[batch->n_logits_rows++] = out;
		if (want == STATE)
			b->hidden_rows[batch->n_hidden_rows++] = out;
		if (want != NOTHING)
			b->outcome->n_wanted++;
		b->outcome->wanted[out.row] = want;
	}
	b->spans[batch->n_spans++] = (L3Span)
	{
		.tokens = b->tokens[p] + first, .blocks = b->blocks[p], .position = first, .n = n,
		.row = batch->n_rows
	};
	batch->n_rows += n;
	batch->n_prefill += parts[p].generated ? 0 : n;
}

static void
clear_batch(Bench *b)
{
	b->batch = (L3Batch)
	{
		.spans = b->spans, .logits_rows = b->logits_rows, .hidden_rows = b->hidden_rows,
		.on_logits = on_logits, .ctx = b
	};
}

/* Rows of a buffer of n floats each that are not as memset to 0xFF left them. */
static int
count_touched(const float *rows, size_t n)
{
	int			touched = 0;

	for (int row = 0; row < N_ROWS; row++)
	{
		bool		is = false;

		for (size_t i = 0; i < n; i++)
			is = is || !isnan(rows[row * n + i]);
		touched += is;
	}
	return touched;
}

static Want
nothing(int part, int offset)
{
	(void) part;
	(void) offset;
	return NOTHING;
}

/* The step with the rows of this choice wanted. */
static Outcome
run(const L3Arena *arena, L3KvType kv_type, unsigned features, int n_threads, Choice choice)
{
	Bench		b;
	Outcome		o = {0};
	size_t		n_vocab;
	size_t		n_embd;
	size_t		n_ff;

	open_bench(&b, arena, kv_type, features, n_threads);
	n_vocab = b.weights.hp.n_vocab;
	n_embd = b.weights.hp.n_embd;
	n_ff = b.weights.hp.n_ff;
	b.outcome = &o;
	o.logits = calloc(N_ROWS * n_vocab, sizeof(float));
	o.states = calloc(N_ROWS * n_embd, sizeof(float));
	o.block_bytes = b.pool->block_bytes;
	o.keys_values = malloc(N_PARTS * MAX_BLOCKS * o.block_bytes);

	/* what comes before the step, each part in one of its own */
	for (int p = 0; p < N_PARTS; p++)
	{
		clear_batch(&b);
		if (parts[p].before > 0)
			add_part(&b, p, 0, parts[p].before, nothing);
		if (parts[p].before > 0 && !l3_forward(&b.runner, &b.weights, b.pool, &b.batch))
			printf("Bail out! a step was cancelled\n");
	}

	clear_batch(&b);
	for (int p = 0; p < N_PARTS; p++)
		add_part(&b, p, parts[p].before, parts[p].n, choice);
	memset(b.runner.ws.gate, 0xFF, N_ROWS * n_ff * sizeof(float));
	if (!l3_forward(&b.runner, &b.weights, b.pool, &b.batch))
		printf("Bail out! a step was cancelled\n");
	o.n_touched = count_touched(b.runner.ws.gate, n_ff);
	for (size_t row = 0; row < N_ROWS; row++)
		if (o.wanted[row] == STATE)
			memcpy(o.states + row * n_embd, b.runner.ws.normed + row * n_embd,
				   n_embd * sizeof(float));
	for (int i = 0; i < N_PARTS * MAX_BLOCKS; i++)
		memcpy(o.keys_values + (size_t) i * o.block_bytes,
			   l3_kv_key_tile(b.pool, b.blocks[i / MAX_BLOCKS][i % MAX_BLOCKS], 0, 0), o.block_bytes);
	close_bench(&b);
	return o;
}

static void
free_outcome(Outcome *o)
{
	free(o->logits);
	free(o->states);
	free(o->keys_values);
}

/* ----------------------------------------------------------------
 *		Choices of rows
 * ----------------------------------------------------------------
 */

static Want
all_logits(int part, int offset)
{
	(void) part;
	(void) offset;
	return LOGITS;
}

static Want
all_states(int part, int offset)
{
	(void) part;
	(void) offset;
	return STATE;
}

/* As generation asks. */
static Want
last_of_each(int part, int offset)
{
	return parts[part].generated || offset == parts[part].n - 1 ? LOGITS : NOTHING;
}

/* As a step of prompts' middle parts beside generation. */
static Want
generated_only(int part, int offset)
{
	(void) offset;
	return parts[part].generated ? LOGITS : NOTHING;
}

/* As teacher-forced log-probabilities ask of a prompt's later part. */
static Want
middle_of_one(int part, int offset)
{
	return part == 1 && offset >= 4 && offset < 20 ? LOGITS : NOTHING;
}

static Want
one_row(int part, int offset)
{
	return part == 2 && offset == 3 ? STATE : NOTHING;
}

static Want
all_but_the_first(int part, int offset)
{
	return part > 0 || offset > 0 ? LOGITS : NOTHING;
}

/* Gaps inside the parts, and both kinds of outputs. */
static Want
every_third(int part, int offset)
{
	(void) part;
	return offset % 3 != 1 ? NOTHING : offset % 2 ? STATE : LOGITS;
}

static Want
states_of_one_logits_of_others(int part, int offset)
{
	(void) offset;
	return part == 0 ? STATE : part == 3 || part == 4 ? LOGITS : NOTHING;
}

static const struct
{
	const char *name;
	Choice		choice;
}			choices[] = {
	{"all states", all_states},
	{"no row", nothing},
	{"the last row of each prompt", last_of_each},
	{"generated rows only", generated_only},
	{"some rows of one prompt", middle_of_one},
	{"one row", one_row},
	{"all rows but the first", all_but_the_first},
	{"every third row, for both", every_third},
	{"one prompt's states, others' logits", states_of_one_logits_of_others},
};

#define N_CHOICES		((int) (sizeof(choices) / sizeof(choices[0])))

/* ----------------------------------------------------------------
 *		Comparing
 * ----------------------------------------------------------------
 */

/* Rows whose wanted output is not that of the run with all. */
static int
count_differences(const Outcome *o, const Outcome *logits, const Outcome *states, const L3Hparams *hp)
{
	int			n = 0;

	for (size_t row = 0; row < N_ROWS; row++)
	{
		if (o->wanted[row] == LOGITS)
			n += memcmp(o->logits + row * hp->n_vocab, logits->logits + row * hp->n_vocab,
						hp->n_vocab * sizeof(float)) != 0;
		if (o->wanted[row] == STATE)
			n += memcmp(o->states + row * hp->n_embd, states->states + row * hp->n_embd,
						hp->n_embd * sizeof(float)) != 0;
	}
	return n;
}

static void
compare(const char *what, const L3Arena *arena, L3KvType kv_type, unsigned features)
{
	const L3Hparams *hp = l3_arena_hparams(arena);
	Outcome		logits = run(arena, kv_type, features, 1, all_logits);
	Outcome		states = run(arena, kv_type, features, 1, all_states);

	for (int c = 0; c < N_CHOICES; c++)
	{
		const char *name = choices[c].name;
		Outcome		o = run(arena, kv_type, features, c % 2 ? 1 : 3, choices[c].choice);
		int			n = count_differences(&o, &logits, &states, hp);

		tap_ok(n == 0, "%s, %s wanted: the same bits as with all wanted (%d of %d rows differ)",
			   what, name, n, o.n_wanted);
		tap_ok(memcmp(o.keys_values, logits.keys_values,
					  N_PARTS * MAX_BLOCKS * o.block_bytes) == 0,
			   "%s, %s wanted: the same keys and values", what, name);
		free_outcome(&o);
	}
	free_outcome(&logits);
	free_outcome(&states);
}

/* In a model of one layer, which is the last. */
static void
check_work(void)
{
	L3Hparams	hp = fixture_hparams();
	const L3Arena *arena;

	hp.n_layers = 1;
	arena = fixture_arena(&hp, L3_Q8_0, 5);
	for (int c = 0; c < N_CHOICES; c++)
	{
		Outcome		o = run(arena, L3_KV_F16, l3_cpu_detect(), 1, choices[c].choice);

		tap_ok(o.n_touched == o.n_wanted, "%s wanted: the last layer takes %d rows through its MLP (%d)",
			   choices[c].name, o.n_wanted, o.n_touched);
		free_outcome(&o);
	}
	free((void *) arena);
}

int
main(void)
{
	static const struct
	{
		const char *name;
		L3PackedType type;
		L3KvType	kv_type;
	}			types[] = {
		{"f32", L3_F32, L3_KV_F32}, {"bf16", L3_BF16, L3_KV_Q8_0}, {"q8_0", L3_Q8_0, L3_KV_F16}
	};
	L3Hparams	hp = fixture_hparams();
	const char *cpu;

	for (size_t c = 0; (cpu = l3_cpu_level(c)) != NULL; c++)
	{
		unsigned	features;
		L3Error		err;

		fixture_check(l3_cpu_parse(cpu, &features, &err), &err);
		if (strcmp(l3_cpu_name(features), cpu) != 0)
		{
			tap_skip("this CPU has no %s", cpu);
			continue;
		}
		for (int t = 0; t < (int) (sizeof(types) / sizeof(types[0])); t++)
		{
			const L3Arena *arena = fixture_arena(&hp, types[t].type, 11);
			char		what[64];

			snprintf(what, sizeof(what), "%s, %s", cpu, types[t].name);
			compare(what, arena, types[t].kv_type, features);
			free((void *) arena);
		}
	}
	check_work();
	return tap_done();
}
