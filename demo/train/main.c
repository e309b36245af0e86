/*-------------------------------------------------------------------------
 *
 * main.c
 *	  The trainer's command line.
 *
 *-------------------------------------------------------------------------
 */
#include "documents.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_COUNT	1000000000

/* What train and export take. */
typedef struct Settings
{
	TrConfig	config;
	TrTrainOptions train;
	const char *init;			/* NULL: start at random */
	const char *vocab;
	const char *train_documents;
	const char *valid_documents;
	const char *name;
	const char *description;
	const char *license;
	const char *type;
} Settings;

typedef enum OptionKind
{
	OPTION_COUNT,				/* int, 1 and up */
	OPTION_SIZE,				/* int, 0 and up */
	OPTION_FLOAT,				/* float and double, 0 and up */
	OPTION_DOUBLE,
	OPTION_SEED,
	OPTION_TEXT
} OptionKind;

typedef struct Option
{
	const char *name;
	OptionKind	kind;
	void	   *value;
	bool		required;
} Option;

static void
usage(FILE *f)
{
	fputs(
		  "usage: trainer vocab DOCUMENTS N OUT\n"
		  "           learn a vocabulary of N tokens\n"
		  "       trainer count DOCUMENTS VOCAB\n"
		  "           count documents, tokens and bytes\n"
		  "       trainer train --vocab VOCAB --train DOCUMENTS --valid DOCUMENTS --checkpoint FILE\n"
		  "           [option ...]    train a model, or go on where the checkpoint ends\n"
		  "       trainer export --checkpoint FILE --vocab VOCAB --name TEXT --description TEXT\n"
		  "           --license TEXT [--type q8_0|f32] OUT    write a GGUF file\n"
		  "\n"
		  "Options of train, with their defaults:\n"
		  "  the model\n"
		  "    --layers 6               layers\n"
		  "    --width 256              values of a hidden state\n"
		  "    --heads 8                query heads\n"
		  "    --kv-heads 2             key and value heads\n"
		  "    --head-dim 32            width of a head\n"
		  "    --ff 704                 width of the feed-forward layer\n"
		  "    --context 1024           tokens of the longest document; longer ones are cut\n"
		  "    --rope-theta 500000      base of the rotary embedding\n"
		  "    --rms-eps 1e-5           epsilon of the norms\n"
		  "  the steps\n"
		  "    --steps 2000             steps of the schedule\n"
		  "    --stop 0                 step to end at; 0 is the last of the schedule\n"
		  "    --lanes 2                batches in a step\n"
		  "    --lane-tokens 4096       tokens in a batch, at most\n"
		  "    --threads CPUS           threads; the result does not depend on them\n"
		  "    --seed 1                 seed of the first parameters and the order\n"
		  "  the optimizer\n"
		  "    --lr 2e-3                highest learning rate\n"
		  "    --lr-floor 0.05          last learning rate, as a part of the highest\n"
		  "    --warmup 100             steps before the highest learning rate\n"
		  "    --weight-decay 0.1       of matrices\n"
		  "    --beta1 0.9 --beta2 0.95 --epsilon 1e-8    of AdamW\n"
		  "    --clip 1.0               largest norm of a gradient\n"
		  "    --group-weight 0.1       weight of the contrastive loss\n"
		  "  files\n"
		  "    --init FILE              checkpoint to take the first parameters from, and the shape\n"
		  "    --checkpoint-every 100   steps between checkpoints\n"
		  "    --valid-every 100        steps between validations\n"
		  "    --log FILE               a table of the steps\n", f);
}

__attribute__((format(printf, 1, 2), noreturn))
static void
fail_usage(const char *fmt,...)
{
	va_list		args;

	fputs("trainer: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("\n\n", stderr);
	usage(stderr);
	exit(1);
}

/* ----------------------------------------------------------------
 *		Options
 * ----------------------------------------------------------------
 */

static int
parse_count(const char *name, const char *text, int least)
{
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < least || value > MAX_COUNT)
		fail_usage("invalid %s \"%s\", expected an integer from %d to %d",
				   name, text, least, MAX_COUNT);
	return (int) value;
}

static double
parse_number(const char *name, const char *text)
{
	char	   *end;
	double		value = strtod(text, &end);

	/* The comparisons refuse NaN as well. */
	if (end == text || *end != '\0' || !(value >= 0) || !(value <= MAX_COUNT))
		fail_usage("invalid %s \"%s\", expected a number from 0 to %d", name, text, MAX_COUNT);
	return value;
}

static uint64_t
parse_seed(const char *name, const char *text)
{
	char	   *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-')
		fail_usage("invalid %s \"%s\", expected an integer from 0", name, text);
	return value;
}

static void
set_option(const Option *option, const char *text)
{
	switch (option->kind)
	{
		case OPTION_COUNT:
			*(int *) option->value = parse_count(option->name, text, 1);
			break;
		case OPTION_SIZE:
			*(int *) option->value = parse_count(option->name, text, 0);
			break;
		case OPTION_FLOAT:
			*(float *) option->value = (float) parse_number(option->name, text);
			break;
		case OPTION_DOUBLE:
			*(double *) option->value = parse_number(option->name, text);
			break;
		case OPTION_SEED:
			*(uint64_t *) option->value = parse_seed(option->name, text);
			break;
		case OPTION_TEXT:
			*(const char **) option->value = text;
			break;
	}
}

/*
 * Set the options of argv, and demand the required ones.  Returns the place
 * of the first argument that is not an option, n_arguments before argc.
 */
static int
parse_options(int argc, char **argv, const Option *options, int n_options, int n_arguments)
{
	struct option *longs = tr_alloc((size_t) (n_options + 1) * sizeof(*longs));
	bool	   *given = tr_alloc((size_t) n_options);
	int			found;

	for (int i = 0; i < n_options; i++)
		longs[i] = (struct option)
	{
		.name = options[i].name,.has_arg = required_argument
	};
	opterr = 0;
	for (;;)
	{
		int			index = -1;

		found = getopt_long(argc, argv, ":", longs, &index);
		if (found == -1)
			break;
		if (found != 0)
			fail_usage("unknown option or missing value: \"%s\"", argv[optind - 1]);
		given[index] = true;
		set_option(&options[index], optarg);
	}
	for (int i = 0; i < n_options; i++)
	{
		if (options[i].required && !given[i])
			fail_usage("option --%s is required", options[i].name);
	}
	if (argc - optind != n_arguments)
		fail_usage("wrong number of arguments");
	free(longs);
	free(given);
	return optind;
}

static Settings
default_settings(void)
{
	long		cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return (Settings)
	{
		.config = {
			.n_layers = 6,.n_embd = 256,.n_heads = 8,.n_kv_heads = 2,.head_dim = 32,
			.n_ff = 704,.n_ctx = 1024,.rope_theta = 500000,.rms_eps = 1e-5f
		},
		.train = {
			.steps = 2000,.lanes = 2,.lane_tokens = 4096,.threads = cpus > 0 ? (int) cpus : 1,
			.lr = 2e-3,.lr_floor = 0.05,.warmup = 100,.weight_decay = 0.1,
			.beta1 = 0.9,.beta2 = 0.95,.epsilon = 1e-8,.clip = 1.0,.group_weight = 0.1,
			.seed = 1,.checkpoint_every = 100,.valid_every = 100
		},
		.type = "q8_0"
	};
}

/* ----------------------------------------------------------------
 *		Commands
 * ----------------------------------------------------------------
 */

static void
command_vocab(int argc, char **argv)
{
	int			first = parse_options(argc, argv, NULL, 0, 3);

	tr_vocab_learn(argv[first], parse_count("number of tokens", argv[first + 1], 1), argv[first + 2]);
}

/* Bytes of the texts, control tokens' names and all. */
static int64_t
count_bytes(const char *path)
{
	TrDocuments docs;
	int64_t		bytes = 0;

	tr_documents_open(&docs, path);
	while (tr_documents_next(&docs))
	{
		for (int i = 0; i < docs.n_fields; i++)
			bytes += (int64_t) docs.fields[i].len;
	}
	tr_documents_close(&docs);
	return bytes;
}

static void
command_count(int argc, char **argv)
{
	int			first = parse_options(argc, argv, NULL, 0, 2);
	TrVocab    *vocab = tr_vocab_read(argv[first + 1]);
	L3Tokenizer *tok = tr_vocab_tokenizer(vocab);
	TrCorpus   *corpus = tr_corpus_read(argv[first], tok, INT_MAX);
	int64_t		bytes = count_bytes(argv[first]);
	int			longest = 0;

	for (int i = 0; i < corpus->n_documents; i++)
	{
		if (corpus->documents[i].n_tokens > longest)
			longest = corpus->documents[i].n_tokens;
	}
	printf("documents %d\ntokens %lld\nlongest document %d\nbytes %lld\ntokens per byte %.4f\n",
		   corpus->n_documents, (long long) corpus->n_tokens, longest, (long long) bytes,
		   bytes > 0 ? (double) corpus->n_tokens / (double) bytes : 0.0);
	tr_corpus_free(corpus);
	free(tok);
	tr_vocab_free(vocab);
}

/* The model to start from: random, or that of a checkpoint. */
static TrModel *
first_model(const Settings *s)
{
	TrModel    *model;

	if (s->init == NULL)
	{
		model = tr_model_create(&s->config);
		tr_model_init(model, s->train.seed);
		return model;
	}
	model = tr_checkpoint_model(s->init);
	if (model->config.n_vocab != s->config.n_vocab)
		tr_fail("checkpoint \"%s\" is of a vocabulary of %d tokens, \"%s\" has %d",
				s->init, model->config.n_vocab, s->vocab, s->config.n_vocab);
	return model;
}

static void
command_train(int argc, char **argv)
{
	Settings	s = default_settings();
	const Option options[] = {
		{"vocab", OPTION_TEXT, &s.vocab, true},
		{"train", OPTION_TEXT, &s.train_documents, true},
		{"valid", OPTION_TEXT, &s.valid_documents, true},
		{"checkpoint", OPTION_TEXT, &s.train.checkpoint, true},
		{"init", OPTION_TEXT, &s.init, false},
		{"layers", OPTION_COUNT, &s.config.n_layers, false},
		{"width", OPTION_COUNT, &s.config.n_embd, false},
		{"heads", OPTION_COUNT, &s.config.n_heads, false},
		{"kv-heads", OPTION_COUNT, &s.config.n_kv_heads, false},
		{"head-dim", OPTION_COUNT, &s.config.head_dim, false},
		{"ff", OPTION_COUNT, &s.config.n_ff, false},
		{"context", OPTION_COUNT, &s.config.n_ctx, false},
		{"rope-theta", OPTION_FLOAT, &s.config.rope_theta, false},
		{"rms-eps", OPTION_FLOAT, &s.config.rms_eps, false},
		{"steps", OPTION_COUNT, &s.train.steps, false},
		{"stop", OPTION_SIZE, &s.train.stop, false},
		{"lanes", OPTION_COUNT, &s.train.lanes, false},
		{"lane-tokens", OPTION_COUNT, &s.train.lane_tokens, false},
		{"threads", OPTION_COUNT, &s.train.threads, false},
		{"seed", OPTION_SEED, &s.train.seed, false},
		{"lr", OPTION_DOUBLE, &s.train.lr, false},
		{"lr-floor", OPTION_DOUBLE, &s.train.lr_floor, false},
		{"warmup", OPTION_SIZE, &s.train.warmup, false},
		{"weight-decay", OPTION_DOUBLE, &s.train.weight_decay, false},
		{"beta1", OPTION_DOUBLE, &s.train.beta1, false},
		{"beta2", OPTION_DOUBLE, &s.train.beta2, false},
		{"epsilon", OPTION_DOUBLE, &s.train.epsilon, false},
		{"clip", OPTION_DOUBLE, &s.train.clip, false},
		{"group-weight", OPTION_DOUBLE, &s.train.group_weight, false},
		{"checkpoint-every", OPTION_COUNT, &s.train.checkpoint_every, false},
		{"valid-every", OPTION_COUNT, &s.train.valid_every, false},
		{"log", OPTION_TEXT, &s.train.log, false},
	};
	TrVocab    *vocab;
	L3Tokenizer *tok;
	TrCorpus   *train;
	TrCorpus   *valid;
	TrModel    *model;

	parse_options(argc, argv, options, sizeof(options) / sizeof(options[0]), 0);
	if (s.config.n_heads % s.config.n_kv_heads != 0)
		fail_usage("--kv-heads must divide --heads");
	if (s.config.head_dim % 2 != 0)
		fail_usage("--head-dim must be even");
	if (s.train.lane_tokens < s.config.n_ctx)
		fail_usage("--lane-tokens must not be below --context");

	vocab = tr_vocab_read(s.vocab);
	tok = tr_vocab_tokenizer(vocab);
	s.config.n_vocab = vocab->n_tokens;
	model = first_model(&s);
	train = tr_corpus_read(s.train_documents, tok, model->config.n_ctx);
	valid = tr_corpus_read(s.valid_documents, tok, model->config.n_ctx);
	tr_train(model, train, valid, &s.train);
	tr_model_free(model);
	tr_corpus_free(train);
	tr_corpus_free(valid);
	free(tok);
	tr_vocab_free(vocab);
}

static void
command_export(int argc, char **argv)
{
	Settings	s = default_settings();
	const Option options[] = {
		{"checkpoint", OPTION_TEXT, &s.train.checkpoint, true},
		{"vocab", OPTION_TEXT, &s.vocab, true},
		{"name", OPTION_TEXT, &s.name, true},
		{"description", OPTION_TEXT, &s.description, true},
		{"license", OPTION_TEXT, &s.license, true},
		{"type", OPTION_TEXT, &s.type, false},
	};
	int			first = parse_options(argc, argv, options,
									  sizeof(options) / sizeof(options[0]), 1);
	bool		q8_0 = strcmp(s.type, "q8_0") == 0;
	TrModel    *model;
	TrVocab    *vocab;

	if (!q8_0 && strcmp(s.type, "f32") != 0)
		fail_usage("invalid type \"%s\", expected q8_0 or f32", s.type);
	model = tr_checkpoint_model(s.train.checkpoint);
	vocab = tr_vocab_read(s.vocab);
	tr_export(model, vocab, q8_0, s.name, s.description, s.license, argv[first]);
	tr_vocab_free(vocab);
	tr_model_free(model);
}

int
main(int argc, char **argv)
{
	static const struct
	{
		const char *name;
		void		(*run) (int argc, char **argv);
	}			commands[] =
	{
		{"vocab", command_vocab}, {"count", command_count},
		{"train", command_train}, {"export", command_export},
	};

	if (argc < 2)
		fail_usage("no command");
	if (strcmp(argv[1], "--help") == 0)
	{
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		if (strcmp(argv[1], commands[i].name) == 0)
		{
			commands[i].run(argc - 1, argv + 1);
			return 0;
		}
	}
	fail_usage("unknown command \"%s\"", argv[1]);
}
