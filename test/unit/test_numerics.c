/*-------------------------------------------------------------------------
 *
 * test_numerics.c
 *	  The engine's answers against the double-precision reference: every
 *	  weight type, every shape variant, every instruction set of this CPU.
 *
 * Models are made by mkmodel, which stands beside this program.  Compared per
 * model and instruction set:
 *
 *	distribution	log-probabilities of the whole vocabulary after a prompt
 *					(scored as one-token labels), the mean taken off: what is
 *					left are the logits without the constant that softmax
 *					ignores.  Prompt arithmetic.
 *	log-probs		of the prompt's own tokens, teacher-forced
 *	decode			40 greedy tokens: how far below the reference's best
 *					logit, given the same tokens before, the chosen one is at
 *					most.  Generation's arithmetic.
 *
 * NMSE = sum((engine - reference)^2) / sum(reference^2).
 *
 * The engine multiplies quantised weights with inputs that it rounds to 8
 * bits, which costs far more accuracy than a mistake in a rare case would.  A
 * reference that rounds the same way agrees to float accuracy, until one value
 * that stands between two integers is rounded the other way, after which the
 * two differ as any two roundings do.  Over prompts of one token that is rare,
 * so most of them must agree to float accuracy; this catches what the limits
 * of the exact comparison let through.
 *
 * Limits are about three times the largest value measured over all models and
 * instruction sets, so that a loss of accuracy shows; they stand below, beside
 * what was measured.  The logits' standard deviation is about 4 here: a decode
 * gap of 0.4 is a tenth of it.  A generated token may differ from the
 * reference's best one only where two are that close.
 *
 *-------------------------------------------------------------------------
 */
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"
#include "kernels/cpu.h"

#include "../reference/reference.h"
#include "../tap.h"

#define MAX_ARGS		64
#define N_PROMPT		75		/* not a multiple of KV blocks or chunks */
#define N_DECODE		40
#define N_GREEDY		200
#define MAX_CONTEXT		512
#define MAX_CPUS		8
#define BATCH_TOKENS	32		/* a prompt is several chunks */

static char work_dir[PATH_MAX];
static char mkmodel_path[PATH_MAX];

__attribute__((noreturn))
static void
bail_out(const char *what, const L3Error *err)
{
	tap_ok(false, "%s: %s; %s", what, err ? err->message : "", err ? err->detail : "");
	exit(1);
}

/* ----------------------------------------------------------------
 *		Model files
 * ----------------------------------------------------------------
 */

/* Run mkmodel with options separated by single spaces, and where to write. */
static void
make_model(const char *options, const char *out_option, const char *path)
{
	char	   *words = strdup(options);
	char	   *argv[MAX_ARGS];
	int			argc = 0;
	int			status;
	pid_t		pid;

	argv[argc++] = mkmodel_path;
	for (char *word = strtok(words, " "); word && argc < MAX_ARGS - 3; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc++] = (char *) out_option;
	argv[argc++] = (char *) path;
	argv[argc] = NULL;
	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		execv(mkmodel_path, argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
	{
		tap_ok(false, "mkmodel %s %s %s", options, out_option, path);
		exit(1);
	}
	free(words);
}

static const char *
in_work_dir(const char *name)
{
	static char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", work_dir, name);
	return path;
}

static int
remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void) st;
	(void) flag;
	(void) ftw;
	return remove(path);
}

static void
remove_work_dir(void)
{
	nftw(work_dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* ----------------------------------------------------------------
 *		The engine
 * ----------------------------------------------------------------
 */

typedef struct Loaded
{
	void	   *arena_memory;
	void	   *tokenizer_memory;
	const L3Arena *arena;
	const L3Tokenizer *tokenizer;
} Loaded;

typedef struct Runner
{
	L3Engine   *engine;
	L3Model    *model;
	int			n_vocab;
} Runner;

static void *
aligned_zeros(uint64_t size)
{
	uint64_t	rounded = (size + 63) / 64 * 64;
	void	   *memory = aligned_alloc(64, rounded);

	if (!memory)
		bail_out("out of memory", NULL);
	return memset(memory, 0, rounded);
}

static Loaded
load(const char *path, L3Quantize quantize)
{
	L3LoadOptions options = {.quantize = quantize};
	Loaded		l;
	L3Source   *source;
	L3Error		err;
	uint64_t	arena_size,
				tokenizer_size;

	if (l3_source_open(path, &options, &source, &err) != L3_OK)
		bail_out("open", &err);
	arena_size = l3_source_arena_size(source);
	tokenizer_size = l3_source_tokenizer_size(source);
	l.tokenizer_memory = aligned_zeros(tokenizer_size);
	l.arena_memory = aligned_zeros(arena_size);
	if (l3_source_build_tokenizer(source, l.tokenizer_memory, tokenizer_size, &err) != L3_OK)
		bail_out("build tokenizer", &err);
	if (l3_source_load(source, l.arena_memory, arena_size, l.tokenizer_memory, tokenizer_size,
					   NULL, NULL, &err) != L3_OK)
		bail_out("load", &err);
	l3_source_close(source);
	l.arena = l3_arena_check(l.arena_memory, arena_size, &err);
	if (!l.arena)
		bail_out("check arena", &err);
	l.tokenizer = l3_tokenizer_check(l.tokenizer_memory, tokenizer_size, &err);
	if (!l.tokenizer)
		bail_out("check tokenizer", &err);
	return l;
}

static void
unload(Loaded *l)
{
	free(l->arena_memory);
	free(l->tokenizer_memory);
}

static Runner
start(const Loaded *l, const char *cpu, L3KvType kv_type)
{
	L3EngineOptions options = {
		.n_threads = 2,
		.kv_cache_bytes = UINT64_C(64) << 20,
		.kv_type = kv_type,
		.batch_tokens = BATCH_TOKENS,
		.max_sequences = 16,
		.max_context = MAX_CONTEXT,
		.prefix_cache = true,
		.cpu_features = cpu,
	};
	Runner		r;
	L3Error		err;

	if (l3_engine_create(&options, &r.engine, &err) != L3_OK)
		bail_out("create engine", &err);
	if (l3_engine_attach(r.engine, l->arena, l->tokenizer, &r.model, &err) != L3_OK)
		bail_out("attach", &err);
	r.n_vocab = (int) l3_arena_hparams(l->arena)->n_vocab;
	return r;
}

static void
stop(Runner *r)
{
	l3_engine_detach(r->engine, r->model);
	l3_engine_destroy(r->engine);
}

typedef struct Outcome
{
	bool		done;
	L3Result	result;
} Outcome;

static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Outcome    *outcome = user;

	outcome->result = *result;
	if (event == L3_EVENT_DONE)
		outcome->done = true;
}

/* Run one request alone to its end. */
static L3Result
run(Runner *r, L3Request *request)
{
	Outcome		outcome = {0};
	L3Sequence *sequence;
	L3Error		err;

	if (l3_engine_submit(r->engine, r->model, request, on_event, &outcome, &sequence, &err) != L3_OK)
		bail_out("submit", &err);
	while (!outcome.done && l3_engine_step(r->engine))
		continue;
	if (!outcome.done || outcome.result.status != L3_OK)
		bail_out("request", &outcome.result.error);
	return outcome.result;
}

/* Log-probabilities of every token of the vocabulary after the prompt. */
static void
engine_distribution(Runner *r, const int32_t *tokens, int n, double *out)
{
	int32_t    *labels = ref_alloc(sizeof(int32_t) * (size_t) r->n_vocab);
	int32_t    *ends = ref_alloc(sizeof(int32_t) * (size_t) r->n_vocab);
	L3Request	request = {
		.kind = L3_REQ_SCORE, .tokens = tokens, .n_tokens = n,
		.label_tokens = labels, .label_end = ends, .n_labels = r->n_vocab, .out_logprobs = out,
	};

	for (int i = 0; i < r->n_vocab; i++)
	{
		labels[i] = i;
		ends[i] = i + 1;
	}
	run(r, &request);
	free(labels);
	free(ends);
}

static void
engine_logprobs(Runner *r, const int32_t *tokens, int n, int first, double *out)
{
	L3Request	request = {
		.kind = L3_REQ_LOGPROBS, .tokens = tokens, .n_tokens = n,
		.first_scored = first, .out_logprobs = out,
	};

	run(r, &request);
}

static void
engine_greedy(Runner *r, const int32_t *tokens, int n, int n_more, int32_t *out)
{
	L3Request	request = {
		.kind = L3_REQ_GENERATE, .tokens = tokens, .n_tokens = n, .max_tokens = n_more,
		.sampling = {.top_p = 1, .repeat_penalty = 1}, .ignore_stop_tokens = true, .prompt_lookup = true,
		.out_tokens = out,
	};

	if (run(r, &request).n_out != n_more)
		bail_out("generation ended early", NULL);
}

static void
engine_embedding(Runner *r, const int32_t *tokens, int n, L3Pooling pooling, float *out)
{
	L3Request	request = {
		.kind = L3_REQ_EMBED, .tokens = tokens, .n_tokens = n,
		.pooling = pooling, .out_embedding = out,
	};

	run(r, &request);
}

/* ----------------------------------------------------------------
 *		Measures
 * ----------------------------------------------------------------
 */

static void
take_mean_off(double *x, int n)
{
	double		mean = 0;

	for (int i = 0; i < n; i++)
		mean += x[i] / n;
	for (int i = 0; i < n; i++)
		x[i] -= mean;
}

static double
nmse(const double *x, const double *reference, int n)
{
	double		error = 0;
	double		power = 0;

	for (int i = 0; i < n; i++)
	{
		error += (x[i] - reference[i]) * (x[i] - reference[i]);
		power += reference[i] * reference[i];
	}
	return error / power;
}

/* 1 - cosine of the angle between two vectors */
static double
cosine_distance(const float *x, const double *reference, int n)
{
	double		dot = 0,
				xx = 0,
				rr = 0;

	for (int i = 0; i < n; i++)
	{
		dot += x[i] * reference[i];
		xx += (double) x[i] * x[i];
		rr += reference[i] * reference[i];
	}
	return 1 - dot / sqrt(xx * rr);
}

/*
 * How far the reference's logit of each generated token is below its best
 * one, at most, when the reference is given the tokens before it.
 */
static double
worst_gap(const RefModel *m, const int32_t *tokens, int n, const int32_t *generated, int n_generated)
{
	RefState   *s = ref_state(m, n + n_generated);
	double	   *logits = ref_alloc(sizeof(double) * (size_t) m->n_vocab);
	double		worst = 0;

	for (int i = 0; i < n; i++)
		ref_next(s, tokens[i], NULL, logits);
	for (int i = 0; i < n_generated; i++)
	{
		double		best = -INFINITY;

		for (int t = 0; t < m->n_vocab; t++)
			best = fmax(best, logits[t]);
		worst = fmax(worst, best - logits[generated[i]]);
		ref_next(s, generated[i], NULL, logits);
	}
	free(logits);
	ref_state_free(s);
	return worst;
}

/* A prompt that depends on the seed only (n_tokens). */
static void
random_prompt(uint32_t seed, int n_vocab, int32_t *tokens, int n)
{
	for (int i = 0; i < n; i++)
	{
		seed = seed * 1664525u + 1013904223u;
		tokens[i] = (int32_t) ((seed >> 8) % (uint32_t) n_vocab);
	}
}

/* ----------------------------------------------------------------
 *		Every type and shape
 * ----------------------------------------------------------------
 */

typedef struct Limits
{
	double		distribution;	/* NMSE */
	double		logprobs;		/* NMSE */
	double		decode;			/* gap */
} Limits;

/*
 *											measured, largest:	distr.		log-pr.		gap
 */
static const Limits float_limits = {4e-11, 4e-12, 1e-4};	/* 1.2e-11	1.2e-12		0 */
static const Limits float_f16_kv_limits = {3e-6, 3e-7, 0.02};	/* 1.1e-6	7.9e-8		0 */
static const Limits float_q8_0_kv_limits = {5e-3, 2e-4, 1.5};	/* 1.5e-3	6.8e-5		0.48 */
static const Limits quantised_limits = {6e-3, 5e-4, 2};		/* 2.5e-3	1.9e-4		0.70 */

/* OpenBLAS takes the prompt's tokens as floats, generated ones are rounded. */
static const Limits quantised_blas_limits = {4e-11, 4e-12, 2};	/* 1.1e-11	1.2e-12		0.40 */
static const Limits quantised_blas_f16_kv_limits = {5e-6, 3e-7, 2}; /* 1.5e-6	8.6e-8	0.08 */

/* Prompts of one token, and what those without a chance rounding stay within. */
#define N_SINGLE			24
#define SINGLE_LIMIT		1e-10
#define SINGLE_AT_LEAST		12

typedef struct Case
{
	const char *name;
	const char *options;
	L3KvType	kv_type;
	L3Quantize	quantize;
	bool		hugging_face;
} Case;

#define F32_KV	.kv_type = L3_KV_F32
#define F16_KV	.kv_type = L3_KV_F16
#define Q8_0_KV	.kv_type = L3_KV_Q8_0

static const Case cases[] = {
	/* Types, on the generator's default shape: GQA 4, untied. */
	{"f32", "--type f32", F32_KV},
	{"f16", "--type f16", F32_KV},
	{"bf16", "--type bf16", F32_KV},
	{"q8_0", "--type q8_0", F32_KV},
	{"q4_0", "--type q4_0", F32_KV},
	{"q4_1", "--type q4_1", F32_KV},
	{"q5_0", "--type q5_0", F32_KV},
	{"q5_1", "--type q5_1", F32_KV},
	{"q2_k", "--type q2_k", F32_KV},
	{"q3_k", "--type q3_k", F32_KV},
	{"q4_k", "--type q4_k", F32_KV},
	{"q5_k", "--type q5_k", F32_KV},
	{"q6_k", "--type q6_k", F32_KV},
	{"iq4_nl", "--type iq4_nl", F32_KV},
	{"iq4_xs", "--type iq4_xs", F32_KV},
	{"q4_k_m tied", "--type q4_k_m --tied", F32_KV},
	{"f32, f16 KV", "--type f32", F16_KV},
	{"q8_0, f16 KV", "--type q8_0", F16_KV},
	{"f32, q8_0 KV", "--type f32", Q8_0_KV},
	{"q8_0, q8_0 KV", "--type q8_0", Q8_0_KV},
	{"head_dim 128, q8_0 KV", "--heads 4 --kv-heads 1 --head-dim 128", Q8_0_KV},
	{"ragged widths, q8_0 KV", "--embd 200 --heads 5 --kv-heads 1 --head-dim 26 --value-dim 80 --ff 331", Q8_0_KV},

	/* Shapes, in F32 weights where an error cannot hide in rounding. */
	{"GQA 1, head_dim 64", "--heads 4 --kv-heads 4 --head-dim 64", F32_KV},
	{"GQA 8, tied", "--heads 8 --kv-heads 1 --tied", F32_KV},
	{"head_dim 128", "--heads 4 --kv-heads 1 --head-dim 128", F32_KV},
	{"value_dim 48 of 64", "--heads 4 --kv-heads 2 --head-dim 64 --value-dim 48", F32_KV},
	{"value_dim over head_dim", "--heads 4 --kv-heads 2 --head-dim 32 --value-dim 80", F32_KV},
	{"rope scaled, tied, vocabulary 517", "--rope-freqs --rope-orig-ctx 64 --tied --vocab 517", F32_KV},
	{"rotary part 16 of 32, theta 10000", "--rope-dim 16 --rope-theta 10000", F32_KV},
	{"ragged widths", "--embd 200 --heads 5 --kv-heads 5 --head-dim 40 --ff 331 --vocab 301", F32_KV},
	{"ragged widths in f16", "--type f16 --embd 200 --heads 5 --kv-heads 1 --head-dim 26 --ff 331 --vocab 301", F32_KV},
	{"ragged widths in bf16", "--type bf16 --embd 202 --heads 5 --kv-heads 1 --head-dim 26 --ff 331 --vocab 301", F32_KV},
	{"q8_0, widths of odd blocks", "--type q8_0 --embd 224 --heads 7 --kv-heads 1 --ff 352 --vocab 301", F32_KV},
	{"q4_0, widths of odd blocks", "--type q4_0 --embd 224 --heads 7 --kv-heads 1 --ff 352 --vocab 301", F32_KV},
	{"q6_k, rope scaled, tied, vocabulary 517", "--type q6_k --rope-freqs --rope-orig-ctx 64 --tied --vocab 517 --ff 768", F32_KV},
	{"one layer", "--layers 1", F32_KV},

	/* Other files. */
	{"GGUF version 2 in 3 parts", "--gguf-version 2 --split 3", F32_KV},
	{"alignment 256", "--alignment 256 --type q3_k", F32_KV},
	{"Hugging Face f32", "--rope-freqs --rope-orig-ctx 64", F32_KV, .hugging_face = true},
	{"Hugging Face bf16 in 3 shards, tied", "--type bf16 --tied --split 3 --merge-pairs", F32_KV, .hugging_face = true},
	{"Hugging Face f16, head_dim 128", "--type f16 --heads 4 --kv-heads 1 --head-dim 128", F32_KV, .hugging_face = true},
	{"Hugging Face bf16 quantised at load", "--type bf16", F32_KV, .quantize = L3_QUANTIZE_Q8_0, .hugging_face = true},
};

/* What the reference says, computed once for all instruction sets. */
typedef struct Expected
{
	double		logprobs[N_PROMPT - 1];
	double	   *distribution;	/* (n_vocab), the mean taken off */
	int32_t		generated[N_DECODE];	/* tokens that gap is of */
	double		gap;			/* -1: not computed yet */
} Expected;

static Expected
expect(const RefModel *m, const int32_t *tokens)
{
	Expected	e = {.gap = -1};
	RefState   *s = ref_state(m, N_PROMPT);
	double	   *logits = ref_alloc(sizeof(double) * (size_t) m->n_vocab);

	for (int i = 0; i < N_PROMPT; i++)
	{
		ref_next(s, tokens[i], NULL, logits);
		ref_log_softmax(logits, m->n_vocab);
		if (i + 1 < N_PROMPT)
			e.logprobs[i] = logits[tokens[i + 1]];
	}
	take_mean_off(logits, m->n_vocab);
	e.distribution = logits;
	ref_state_free(s);
	return e;
}

/* worst_gap, computed again only when the tokens are others. */
static double
expected_gap(Expected *e, const RefModel *m, const int32_t *tokens, const int32_t *generated)
{
	if (e->gap < 0 || memcmp(e->generated, generated, sizeof(e->generated)) != 0)
	{
		memcpy(e->generated, generated, sizeof(e->generated));
		e->gap = worst_gap(m, tokens, N_PROMPT, generated, N_DECODE);
	}
	return e->gap;
}

/* An engine's answers for one model. */
typedef struct Answers
{
	double	   *distribution;	/* (n_vocab), the mean taken off */
	double		logprobs[N_PROMPT - 1];
	int32_t		generated[N_DECODE];
} Answers;

static Answers
answer(const Loaded *l, const char *cpu, L3KvType kv_type, const int32_t *tokens)
{
	Runner		r = start(l, cpu, kv_type);
	Answers		a;

	a.distribution = ref_alloc(sizeof(double) * (size_t) r.n_vocab);
	engine_distribution(&r, tokens, N_PROMPT, a.distribution);
	take_mean_off(a.distribution, r.n_vocab);
	engine_logprobs(&r, tokens, N_PROMPT, 1, a.logprobs);
	engine_greedy(&r, tokens, N_PROMPT, N_DECODE, a.generated);
	stop(&r);
	return a;
}

static void
compare(const char *name, const Answers *a, const RefModel *m, const int32_t *tokens,
		Expected *e, const Limits *limits)
{
	double		d = nmse(a->distribution, e->distribution, m->n_vocab);
	double		p = nmse(a->logprobs, e->logprobs, N_PROMPT - 1);
	double		g = expected_gap(e, m, tokens, a->generated);

	tap_note("%s: distribution %.2e, log-probs %.2e, decode gap %.2e", name, d, p, g);
	tap_ok(d <= limits->distribution, "%s: distribution within NMSE %g", name, limits->distribution);
	tap_ok(p <= limits->logprobs, "%s: log-probabilities within NMSE %g", name, limits->logprobs);
	tap_ok(g <= limits->decode, "%s: decoded tokens within %g of the best", name, limits->decode);
}

/* The instruction sets that this CPU has, by the names that cap them. */
static int
instruction_sets(const char *names[MAX_CPUS])
{
	const char *name;
	int			n = 0;

	for (size_t i = 0; (name = l3_cpu_level(i)) != NULL; i++)
	{
		unsigned	features;
		L3Error		err;

		if (l3_cpu_parse(name, &features, &err) == L3_OK && strcmp(l3_cpu_name(features), name) == 0)
			names[n++] = name;
	}
	return n;
}

/* One-token prompts against the reference that rounds as the engine does. */
static void
compare_rounding(const char *name, const char *cpu, const Case *c, RefModel *m, const Loaded *l)
{
	Runner		r = start(l, cpu, c->kv_type);
	double	   *expected = ref_alloc(sizeof(double) * (size_t) m->n_vocab);
	double	   *distribution = ref_alloc(sizeof(double) * (size_t) m->n_vocab);
	int32_t		tokens[N_SINGLE];
	int			agree = 0;

	random_prompt(77, m->n_vocab, tokens, N_SINGLE);
	m->round_inputs = true;
	for (int i = 0; i < N_SINGLE; i++)
	{
		ref_logits(m, &tokens[i], 1, expected);
		take_mean_off(expected, m->n_vocab);
		engine_distribution(&r, &tokens[i], 1, distribution);
		take_mean_off(distribution, m->n_vocab);
		agree += nmse(distribution, expected, m->n_vocab) <= SINGLE_LIMIT;
	}
	m->round_inputs = false;
	tap_note("%s: %d of %d single tokens within NMSE %g of the rounding reference", name, agree, N_SINGLE, SINGLE_LIMIT);
	tap_ok(agree >= SINGLE_AT_LEAST, "%s: single tokens agree with the rounding reference", name);
	free(expected);
	free(distribution);
	stop(&r);
}

static const Limits *
limits_of(const Case *c, const char *cpu, const RefModel *m)
{
	bool		blas = strcmp(cpu, "blas") == 0;

	/* quantised at load: the reference has the weights before that */
	if (c->quantize != L3_QUANTIZE_NONE || (m->quantised && !blas))
		return &quantised_limits;
	switch (c->kv_type)
	{
		case L3_KV_F16:
			return blas && m->quantised ? &quantised_blas_f16_kv_limits : &float_f16_kv_limits;
		case L3_KV_Q8_0:
			return &float_q8_0_kv_limits;
		default:
			return blas && m->quantised ? &quantised_blas_limits : &float_limits;
	}
}

static void
check_model(const Case *c, RefModel *m, const Loaded *l)
{
	const char *cpus[MAX_CPUS];
	int			n_cpus = instruction_sets(cpus);
	int32_t		tokens[N_PROMPT];
	Expected	exact;

	random_prompt((uint32_t) (c - cases) + 1, m->n_vocab, tokens, N_PROMPT);
	exact = expect(m, tokens);
	for (int i = 0; i < n_cpus; i++)
	{
		Answers		a = answer(l, cpus[i], c->kv_type, tokens);
		char		name[256];

		snprintf(name, sizeof(name), "%s, %s", c->name, cpus[i]);
		compare(name, &a, m, tokens, &exact, limits_of(c, cpus[i], m));
		free(a.distribution);
		/* OpenBLAS takes prompt tokens as floats; an F16 cache rounds the value once more */
		if (m->quantised && c->kv_type == L3_KV_F32 && strcmp(cpus[i], "blas") != 0)
			compare_rounding(name, cpus[i], c, m, l);
	}
	free(exact.distribution);
}

static void
check_case(const Case *c)
{
	bool		split = strstr(c->options, "--split") != NULL;
	char	   *path;
	RefModel   *m;
	Loaded		l;

	make_model(c->options, c->hugging_face ? "--hf" : "--out", in_work_dir(c->hugging_face ? "hf" : "model.gguf"));
	path = strdup(in_work_dir(c->hugging_face ? "hf" : split ? "model-00001-of-00003.gguf" : "model.gguf"));
	m = ref_load(path);
	l = load(path, c->quantize);
	check_model(c, m, &l);
	unload(&l);
	ref_free(m);
	nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(path);
}

/* ----------------------------------------------------------------
 *		Greedy continuations, exactly
 * ----------------------------------------------------------------
 */

/* Best and second-best logits closer than this would make equality luck. */
#define LEAST_GAP	1e-3

static void
check_greedy(const char *options)
{
	const char *cpus[MAX_CPUS];
	int			n_cpus = instruction_sets(cpus);
	int32_t		prompt[20];
	int32_t		expected[N_GREEDY];
	int32_t		generated[N_GREEDY];
	RefModel   *m;
	Loaded		l;
	double		gap;

	make_model(options, "--out", in_work_dir("greedy.gguf"));
	m = ref_load(in_work_dir("greedy.gguf"));
	l = load(in_work_dir("greedy.gguf"), L3_QUANTIZE_NONE);
	random_prompt(5, m->n_vocab, prompt, 20);
	gap = ref_greedy(m, prompt, 20, N_GREEDY, expected);
	tap_ok(gap > LEAST_GAP, "greedy %s: no two best logits closer than %g (%.2e)", options, LEAST_GAP, gap);
	for (int i = 0; i < n_cpus; i++)
	{
		Runner		r = start(&l, cpus[i], L3_KV_F32);
		int			same = 0;

		engine_greedy(&r, prompt, 20, N_GREEDY, generated);
		while (same < N_GREEDY && generated[same] == expected[same])
			same++;
		tap_ok(same == N_GREEDY, "greedy %s, %s: %d tokens as the reference's%s", options, cpus[i], N_GREEDY,
			   same == N_GREEDY ? "" : " (differs)");
		if (same < N_GREEDY)
			tap_note("token %d is %d, expected %d", same, generated[same], expected[same]);
		stop(&r);
	}
	unload(&l);
	ref_free(m);
}

/* ----------------------------------------------------------------
 *		Embeddings
 * ----------------------------------------------------------------
 */

static void
check_embedding(const char *options, L3KvType kv_type, double limit)
{
	const char *cpus[MAX_CPUS];
	int			n_cpus = instruction_sets(cpus);
	int32_t		prompt[N_PROMPT];
	RefModel   *m;
	Loaded		l;

	make_model(options, "--out", in_work_dir("embed.gguf"));
	m = ref_load(in_work_dir("embed.gguf"));
	l = load(in_work_dir("embed.gguf"), L3_QUANTIZE_NONE);
	random_prompt(9, m->n_vocab, prompt, N_PROMPT);
	for (int pooling = L3_POOL_MEAN; pooling <= L3_POOL_LAST; pooling++)
	{
		double	   *expected = ref_alloc(sizeof(double) * (size_t) m->n_embd);
		float	   *embedding = ref_alloc(sizeof(float) * (size_t) m->n_embd);
		const char *name = pooling == L3_POOL_MEAN ? "mean" : "last token";

		ref_embed(m, prompt, N_PROMPT, pooling == L3_POOL_MEAN, expected);
		for (int i = 0; i < n_cpus; i++)
		{
			Runner		r = start(&l, cpus[i], kv_type);
			double		distance,
						square = 0;

			engine_embedding(&r, prompt, N_PROMPT, (L3Pooling) pooling, embedding);
			distance = cosine_distance(embedding, expected, m->n_embd);
			for (int k = 0; k < m->n_embd; k++)
				square += (double) embedding[k] * embedding[k];
			tap_note("embedding %s, %s, %s: 1 - cosine %.2e", options, name, cpus[i], distance);
			tap_ok(distance <= limit, "embedding %s, %s, %s: 1 - cosine at most %g", options, name, cpus[i], limit);
			tap_ok(fabs(square - 1) < 1e-6, "embedding %s, %s, %s: of unit length", options, name, cpus[i]);
			stop(&r);
		}
		free(expected);
		free(embedding);
	}
	unload(&l);
	ref_free(m);
}

/* ----------------------------------------------------------------
 *		One function, two formats
 * ----------------------------------------------------------------
 */

/*
 * A Hugging Face directory and a GGUF file of one seed.  Their rope divisors
 * are rounded to float in one and computed in the other, so that only models
 * without scaling agree bit for bit.
 */
static void
check_formats(const char *options)
{
	double	   *out[2];
	double	   *expected[2];
	int32_t		prompt[N_PROMPT];
	int			n_vocab = 0;

	make_model(options, "--out", in_work_dir("same.gguf"));
	make_model(options, "--hf", in_work_dir("same"));
	for (int i = 0; i < 2; i++)
	{
		const char *path = in_work_dir(i == 0 ? "same.gguf" : "same");
		RefModel   *m = ref_load(path);
		Loaded		l = load(path, L3_QUANTIZE_NONE);
		Runner		r = start(&l, "", L3_KV_F32);

		n_vocab = r.n_vocab;
		random_prompt(3, n_vocab, prompt, N_PROMPT);
		out[i] = ref_alloc(sizeof(double) * (size_t) n_vocab);
		engine_distribution(&r, prompt, N_PROMPT, out[i]);
		expected[i] = ref_alloc(sizeof(double) * (size_t) n_vocab);
		ref_logits(m, prompt, N_PROMPT, expected[i]);
		stop(&r);
		unload(&l);
		ref_free(m);
	}
	/* the order in which the pairs of a head are summed is all that differs */
	tap_ok(nmse(expected[1], expected[0], n_vocab) < 1e-20,
		   "%s: the reference reads the same function from both formats", options);
	free(expected[0]);
	free(expected[1]);
	tap_ok(memcmp(out[0], out[1], sizeof(double) * (size_t) n_vocab) == 0,
		   "%s: Hugging Face directory and GGUF file give the same bits", options);
	free(out[0]);
	free(out[1]);
}

int
main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	const char *slash = strrchr(argv[0], '/');

	(void) argc;
	snprintf(mkmodel_path, sizeof(mkmodel_path), "%.*smkmodel", slash ? (int) (slash - argv[0]) + 1 : 0, argv[0]);
	snprintf(work_dir, sizeof(work_dir), "%s/llama3-numerics.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(work_dir))
	{
		tap_ok(false, "temporary directory %s", work_dir);
		return tap_done();
	}
	atexit(remove_work_dir);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_case(&cases[i]);

	check_greedy("--seed 17");
	check_greedy("--seed 12 --tied --rope-freqs --rope-orig-ctx 64 --vocab 517");
	check_greedy("--seed 13 --heads 4 --kv-heads 1 --head-dim 128 --layers 3");
	check_greedy("--seed 18 --heads 4 --kv-heads 4 --head-dim 64 --value-dim 48");
	check_greedy("--seed 20 --embd 200 --heads 5 --kv-heads 1 --head-dim 40 --ff 331 --vocab 301");

	check_embedding("--seed 21", L3_KV_F32, 1e-11);
	check_embedding("--seed 22 --type q8_0", L3_KV_F16, 1e-3);

	check_formats("--type f32 --seed 31");
	check_formats("--type bf16 --tied --seed 32");
	return tap_done();
}
