/*-------------------------------------------------------------------------
 *
 * test_trainer_steps.c
 *	  The trainer's steps: optimizer, order of documents, threads, checkpoints.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tap.h"
#include "trainer_fixture.h"
#include "training.h"

#define N_VOCAB		40
#define N_DOCUMENTS	60
#define PATIENCE	120			/* seconds for a checkpoint of the tiny model */

static const TrConfig tiny = {
	.n_layers = 2, .n_embd = 16, .n_heads = 4, .n_kv_heads = 2, .head_dim = 4,
	.n_ff = 24, .n_vocab = N_VOCAB, .n_ctx = 48, .rope_theta = 500000, .rms_eps = 1e-5f
};

static TrTrainOptions
tiny_options(void)
{
	return (TrTrainOptions)
	{
		.steps = 12, .lanes = 3, .lane_tokens = 100, .threads = 1, .lr = 5e-3, .lr_floor = 0.1,
		.warmup = 3, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8,
		.clip = 1, .group_weight = 0.2, .seed = 11, .checkpoint_every = 5, .valid_every = 6
	};
}

/*
 * Documents of 1 to 40 tokens; each counts up from its first token, in steps
 * of its group's number and one.
 */
static TrCorpus *
make_corpus(int n_documents, uint64_t seed)
{
	TrCorpus   *corpus = tr_alloc(sizeof(TrCorpus));
	TrRandom	random = {seed};
	int			used = 0;

	corpus->n_documents = n_documents;
	corpus->documents = tr_alloc(sizeof(TrDocument) * (size_t) n_documents);
	corpus->ids = tr_alloc(sizeof(uint16_t) * 40 * (size_t) n_documents);
	corpus->weights = tr_alloc(sizeof(float) * 40 * (size_t) n_documents);
	for (int i = 0; i < n_documents; i++)
	{
		int			n = 1 + (int) (tr_uniform(&random) * 40);
		int			first = (int) (tr_uniform(&random) * N_VOCAB);
		int			group = (int) (tr_uniform(&random) * 4) - 1;

		for (int t = 0; t < n; t++)
		{
			corpus->ids[used + t] = (uint16_t) ((first + t * (group + 2)) % N_VOCAB);
			corpus->weights[used + t] = t > 1 ? 1 : 0;
		}
		corpus->documents[i] = (TrDocument)
		{
			.group = group, .n_tokens = n, .n_pooled = n > 1 ? n - 1 : n,
			.ids = corpus->ids + used, .weights = corpus->weights + used
		};
		used += n;
	}
	corpus->n_tokens = used;
	return corpus;
}

static void
free_corpus(TrCorpus *corpus)
{
	free(corpus->documents);
	free(corpus->ids);
	free(corpus->weights);
	free(corpus);
}

/* Train a fresh model; what is printed goes to the file "progress". */
static TrModel *
train(const TrCorpus *corpus, const TrCorpus *valid, const TrTrainOptions *options)
{
	TrModel    *model = tr_model_create(&tiny);
	int			out = dup(STDOUT_FILENO);
	int			file = open(fixture_path("progress"), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	fflush(stdout);
	dup2(file, STDOUT_FILENO);
	tr_model_init(model, 5);
	tr_train(model, corpus, valid, options);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	close(file);
	close(out);
	return model;
}

static bool
same_params(const TrModel *a, const TrModel *b)
{
	return a->n_params == b->n_params &&
		memcmp(a->params, b->params, sizeof(float) * a->n_params) == 0;
}

/* Losses of a corpus under a model, computed at once. */
static TrLoss
loss_of(const TrModel *model, const TrCorpus *corpus)
{
	TrWorkspace *ws = tr_workspace_create(model, (int) corpus->n_tokens, corpus->n_documents);
	const TrDocument **documents = tr_alloc(sizeof(TrDocument *) * (size_t) corpus->n_documents);
	TrBatch		batch = {.n_documents = corpus->n_documents, .documents = documents};
	TrLoss		loss;

	for (int i = 0; i < corpus->n_documents; i++)
		documents[i] = &corpus->documents[i];
	tr_model_run(model, ws, &batch, 0, 0, NULL, &loss);
	free(documents);
	tr_workspace_free(ws);
	return loss;
}

/* ----------------------------------------------------------------
 *		Randomness, schedule, AdamW
 * ----------------------------------------------------------------
 */

static void
test_random(void)
{
	/* of the authors' splitmix64.c, seed 1234567 */
	static const uint64_t expected[] = {
		UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
		UINT64_C(9817491932198370423), UINT64_C(4593380528125082431)
	};
	TrRandom	random = {1234567};
	bool		same = true;
	double		sum = 0;
	double		square = 0;
	int			n = 100000;

	for (int i = 0; i < 4; i++)
		same = same && tr_random(&random) == expected[i];
	tap_ok(same, "random numbers are SplitMix64's");
	for (int i = 0; i < n; i++)
	{
		double		x = tr_normal(&random);

		sum += x;
		square += x * x;
	}
	tap_ok(fabs(sum / n) < 0.015 && fabs(square / n - 1) < 0.02,
		   "normal values have mean 0 and variance 1 (%.4f, %.4f)", sum / n, square / n);
}

static void
test_init(void)
{
	TrConfig	config = tiny;
	TrModel    *model;

	config.n_embd = config.n_ff = 128;
	config.n_layers = 8;
	model = tr_model_create(&config);
	tr_model_init(model, 3);
	for (int i = 0; i < 2 + 9; i++)
	{
		const TrTensor *t = &model->tensors[i];
		int			n = t->n_out * t->n_in;
		bool		norm = strstr(t->name, "norm") != NULL;
		bool		residual = strstr(t->name, "attn_output") || strstr(t->name, "ffn_down");
		double		expected = residual ? 0.02 / 4 : 0.02;	/* sqrt(2 * 8) = 4 */
		double		square = 0;
		bool		ones = true;

		for (int j = 0; j < n; j++)
		{
			float		x = model->params[t->offset + (size_t) j];

			square += (double) x * x / n;
			ones = ones && x == 1.0f;
		}
		if (norm)
			tap_ok(ones, "%s begins with ones", t->name);
		else
			tap_ok(fabs(sqrt(square) / expected - 1) < 0.1, "%s begins with a deviation of %.3f (%.5f)",
				   t->name, expected, sqrt(square));
	}
	tr_model_free(model);
}

static bool
near(double a, double b)
{
	return fabs(a - b) <= 1e-12 * fabs(b);
}

static void
test_schedule(void)
{
	TrTrainOptions o = tiny_options();
	bool		falls = true;

	o.steps = 110;
	o.warmup = 10;
	tap_ok(near(tr_learning_rate(&o, 0), o.lr / 10) && near(tr_learning_rate(&o, 4), o.lr / 2) &&
		   near(tr_learning_rate(&o, 9), o.lr), "the learning rate warms up linearly");
	/* halfway of the cosine is halfway between the peak and the floor */
	tap_ok(near(tr_learning_rate(&o, 59), o.lr * 0.55), "halfway it is at the middle");
	tap_ok(near(tr_learning_rate(&o, 34), o.lr * (0.1 + 0.9 * (0.5 + sqrt(0.5) / 2))),
		   "at a quarter it is the cosine's");
	tap_ok(near(tr_learning_rate(&o, 109), o.lr * 0.1), "the last step is at the floor");
	for (int i = 10; i < 110; i++)
		falls = falls && tr_learning_rate(&o, i) < tr_learning_rate(&o, i - 1);
	tap_ok(falls, "it falls after the warm-up");
	o.warmup = 0;
	tap_ok(tr_learning_rate(&o, 0) < o.lr && tr_learning_rate(&o, 0) > o.lr * 0.999,
		   "without warm-up it begins at the peak");
	tap_ok(tr_clip_factor(0.5, 1) == 1 && tr_clip_factor(1, 1) == 1 && tr_clip_factor(0, 1) == 1,
		   "a small gradient is not clipped");
	tap_ok(near(tr_clip_factor(8, 2), 0.25), "a large gradient is clipped to the norm");
}

/* Loshchilov and Hutter 2019, algorithm 2, in double. */
static void
test_adamw(void)
{
	enum
	{
		N = 37
	};
	TrTrainOptions o = tiny_options();
	TrRandom	random = {9};
	float		w[N],
				mean[N] = {0},
				square[N] = {0},
				gradient[N];
	double		w_d[N],
				mean_d[N] = {0},
				square_d[N] = {0};
	double		worst = 0;

	o.epsilon = 1e-3;			/* large enough to matter */
	for (int i = 0; i < N; i++)
		w_d[i] = w[i] = (float) tr_normal(&random);
	for (int step = 1; step <= 6; step++)
	{
		double		lr = 0.01 * step;
		double		factor = step % 2 == 0 ? 0.3 : 1;
		double		decay = step > 3 ? 0.1 : 0.5;

		for (int i = 0; i < N; i++)
			gradient[i] = (float) (0.1 * tr_normal(&random));
		tr_adamw(&o, step, lr, factor, decay, w, mean, square, gradient, N);
		for (int i = 0; i < N; i++)
		{
			double		g = factor * gradient[i];

			mean_d[i] = o.beta1 * mean_d[i] + (1 - o.beta1) * g;
			square_d[i] = o.beta2 * square_d[i] + (1 - o.beta2) * g * g;
			w_d[i] = w_d[i] - lr * decay * w_d[i] -
				lr * (mean_d[i] / (1 - pow(o.beta1, step))) /
				(sqrt(square_d[i] / (1 - pow(o.beta2, step))) + o.epsilon);
		}
	}
	for (int i = 0; i < N; i++)
		worst = fmax(worst, fabs(w[i] - w_d[i]));
	tap_ok(worst < 1e-6, "AdamW is the paper's after 6 steps (largest difference %.1e)", worst);
}

/* ----------------------------------------------------------------
 *		Lanes
 * ----------------------------------------------------------------
 */

static void
test_lanes(void)
{
	TrCorpus   *corpus = make_corpus(N_DOCUMENTS, 1);
	TrOrder		order,
				resumed;
	TrProgress	progress = {0};
	TrLane	   *lanes = tr_alloc(sizeof(TrLane) * 3);
	TrLane	   *again = tr_alloc(sizeof(TrLane) * 3);
	const TrDocument *seen[3 * N_DOCUMENTS];
	int			n = 0;
	int64_t		tokens = 0;
	bool		fits = true;
	bool		once = true;
	bool		same = true;
	int			moved = 0;

	tr_order_init(&order, corpus, 77);
	tr_order_init(&resumed, corpus, 77);
	while (n < 2 * N_DOCUMENTS)
	{
		TrProgress	before = progress;

		tr_fill_lanes(&order, &progress, lanes, 3, 100);
		tr_fill_lanes(&resumed, &before, again, 3, 100);
		resumed.epoch = -1;		/* as after a start */
		same = same && memcmp(&before, &progress, sizeof(before)) == 0;
		for (int i = 0; i < 3; i++)
		{
			int			sum = 0;

			same = same && lanes[i].n_documents == again[i].n_documents;
			for (int j = 0; j < lanes[i].n_documents; j++)
			{
				sum += lanes[i].documents[j]->n_tokens;
				same = same && lanes[i].documents[j] == again[i].documents[j];
				if (n < 3 * N_DOCUMENTS)
					seen[n++] = lanes[i].documents[j];
			}
			/* a document of 40 at most is what did not fit any more */
			fits = fits && sum == lanes[i].n_tokens && sum <= 100 && sum > 60;
			tokens += sum;
		}
	}
	for (int epoch = 0; epoch < 2; epoch++)
		for (int i = 0; i < N_DOCUMENTS; i++)
		{
			int			count = 0;

			for (int j = 0; j < N_DOCUMENTS; j++)
				count += seen[epoch * N_DOCUMENTS + j] == &corpus->documents[i];
			once = once && count == 1;
			moved += seen[i] != seen[N_DOCUMENTS + i];
		}
	tap_ok(fits, "lanes are filled with whole documents up to their tokens");
	tap_ok(once, "an epoch holds every document once");
	tap_ok(moved > N_DOCUMENTS, "the next epoch has another order");
	tap_ok(tokens == progress.tokens, "progress counts the tokens");
	tap_ok(same, "the documents to come follow from the progress alone");
	free(order.index);
	free(resumed.index);
	free(lanes);
	free(again);
	free_corpus(corpus);
}

/* ----------------------------------------------------------------
 *		Training
 * ----------------------------------------------------------------
 */

static void
test_threads(const TrCorpus *corpus)
{
	TrTrainOptions o = tiny_options();
	TrModel    *one = train(corpus, NULL, &o);
	TrModel    *other;

	for (int threads = 2; threads <= 3; threads++)
	{
		o.threads = threads;
		other = train(corpus, NULL, &o);
		tap_ok(same_params(one, other), "%d threads train to the same bits as one", threads);
		tr_model_free(other);
	}
	o.seed++;
	other = train(corpus, NULL, &o);
	tap_ok(!same_params(one, other), "another seed trains to others");
	tr_model_free(other);
	tr_model_free(one);
}

static void
test_decay(void)
{
	TrCorpus   *corpus = make_corpus(N_DOCUMENTS, 2);
	TrTrainOptions o = tiny_options();
	TrModel    *before = tr_model_create(&tiny);
	TrModel    *after;
	double		shrink = 1;
	bool		norms = true;
	bool		matrices = true;

	/* nothing to learn: what moves is decay */
	o.group_weight = 0;
	o.weight_decay = 2;
	memset(corpus->weights, 0, sizeof(float) * (size_t) corpus->n_tokens);
	tr_model_init(before, 5);
	after = train(corpus, NULL, &o);
	for (int i = 0; i < o.steps; i++)
		shrink *= 1 - tr_learning_rate(&o, i) * o.weight_decay;
	for (int i = 0; i < after->n_tensors; i++)
		for (int j = 0; j < after->tensors[i].n_out * after->tensors[i].n_in; j++)
		{
			size_t		at = after->tensors[i].offset + (size_t) j;

			if (after->tensors[i].n_out == 1)
				norms = norms && after->params[at] == 1;
			else
				matrices = matrices && fabs(after->params[at] - shrink * before->params[at]) < 1e-7;
		}
	tap_ok(norms, "norms do not decay");
	tap_ok(matrices, "matrices decay by learning rate times weight decay");
	tr_model_free(before);
	tr_model_free(after);
	free_corpus(corpus);
}

static void
test_learning(const TrCorpus *corpus)
{
	TrTrainOptions o = tiny_options();
	TrModel    *fresh = tr_model_create(&tiny);
	TrModel    *trained;
	TrLoss		before,
				after;

	tr_model_init(fresh, 5);
	before = loss_of(fresh, corpus);
	o.steps = 300;
	o.lr = 2e-2;
	o.weight_decay = 0;
	o.checkpoint_every = o.valid_every = o.steps;
	trained = train(corpus, NULL, &o);
	after = loss_of(trained, corpus);
	tap_ok(fabs(before.token_loss / before.token_weight - log(N_VOCAB)) < 0.05,
		   "a fresh model guesses (%.4f nats, log %d)",
		   before.token_loss / before.token_weight, N_VOCAB);
	tap_ok(after.token_loss / after.token_weight < 0.1,
		   "after 300 steps it knows its documents by heart (%.4f nats)",
		   after.token_loss / after.token_weight);
	tap_ok(after.group_loss / after.n_anchors < 0.8 * before.group_loss / before.n_anchors,
		   "and the contrastive loss has fallen by a fifth (%.3f to %.3f)",
		   before.group_loss / before.n_anchors, after.group_loss / after.n_anchors);
	tr_model_free(fresh);
	tr_model_free(trained);
}

/* ----------------------------------------------------------------
 *		The log
 * ----------------------------------------------------------------
 */

/* The last line's step, losses and validation losses; returns the lines. */
static int
read_log(const char *path, double last[9], bool *rising)
{
	size_t		size;
	char	   *text = tr_read_file(path, &size);
	double		step = 0;
	int			n = 0;

	*rising = true;
	for (char *line = strchr(text, '\n') + 1; *line != '\0'; line = strchr(line, '\n') + 1, n++)
	{
		char	   *at = line;

		for (int i = 0; i < 9; i++)
		{
			last[i] = *at == '\t' || *at == '\n' ? NAN : strtod(at, &at);
			at++;
		}
		*rising = *rising && last[0] > step && at[-1] == '\n';
		step = last[0];
	}
	free(text);
	return n;
}

static void
test_log(const TrCorpus *corpus)
{
	TrCorpus   *valid = make_corpus(7, 99);
	TrTrainOptions o = tiny_options();
	TrModel    *model;
	TrLoss		loss;
	double		last[9];
	bool		rising;
	int			n;

	o.log = fixture_path("log");
	o.steps = 33;
	o.lane_tokens = (int) valid->n_tokens;	/* one batch of validation */
	model = train(corpus, valid, &o);
	loss = loss_of(model, valid);
	n = read_log(o.log, last, &rising);
	/* at 6, 10, 12, 18, 20, 24, 30 and the last */
	tap_ok(n == 8 && rising && last[0] == 33, "the log has a line for each report");
	tap_ok(fabs(last[7] - loss.token_loss / loss.token_weight) < 1e-6 &&
		   fabs(last[8] - loss.group_loss / loss.n_anchors) < 1e-5,
		   "its validation losses are the model's (%.6f, %.6f)", last[7], last[8]);
	tap_ok(fabs(last[2] / (o.lr * o.lr_floor) - 1) < 1e-6, "its learning rate is the schedule's");
	tr_model_free(model);
	free_corpus(valid);
}

/* ----------------------------------------------------------------
 *		Checkpoints
 * ----------------------------------------------------------------
 */

/*
 * Train in a process that is killed after its first checkpoint, when it has
 * logged steps past it.  Its progress goes to a pipe that nobody reads, which
 * stops it before the next one, whatever the speed of the machine.
 */
static bool
train_and_kill(const TrCorpus *corpus, const TrTrainOptions *options)
{
	double		deadline = tr_seconds() + PATIENCE;
	int			ends[2];
	struct stat st;
	double		last[9];
	bool		rising;
	bool		past = false;
	pid_t		child;
	int			status;

	fflush(stdout);
	if (pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0 || (child = fork()) < 0)
	{
		printf("Bail out! could not start a process: %s\n", strerror(errno));
		exit(1);
	}
	if (child == 0)
	{
		TrModel    *model = tr_model_create(&tiny);

		dup2(ends[1], STDOUT_FILENO);
		tr_model_init(model, 5);
		tr_train(model, corpus, NULL, options);
		_exit(0);
	}
	close(ends[1]);
	while (!past && tr_seconds() < deadline)
	{
		usleep(1000);
		past = stat(options->checkpoint, &st) == 0 && read_log(options->log, last, &rising) > 0 &&
			last[0] > options->checkpoint_every;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(ends[0]);
	return past && WIFSIGNALED(status);
}

static void
test_resume(const TrCorpus *corpus)
{
	TrTrainOptions o = tiny_options();
	TrModel    *whole;
	TrModel    *resumed;
	TrModel    *read;
	double		last[9];
	bool		rising;

	o.steps = 1200;
	o.checkpoint_every = 200;
	whole = train(corpus, NULL, &o);

	o.checkpoint = fixture_path("checkpoint");
	o.log = fixture_path("log");
	tap_ok(train_and_kill(corpus, &o), "a training is killed some steps after a checkpoint");
	o.threads = 2;
	resumed = train(corpus, NULL, &o);
	tap_ok(same_params(whole, resumed), "going on from it trains to the bits of the whole training");
	tap_ok(read_log(o.log, last, &rising) == 120 && rising,
		   "the log has each step's line once, the killed training's and the new one's");
	read = tr_checkpoint_model(o.checkpoint);
	tap_ok(same_params(whole, read) && memcmp(&read->config, &tiny, sizeof(tiny)) == 0,
		   "the last checkpoint holds the trained model");
	tr_model_free(read);
	tr_model_free(resumed);

	resumed = train(corpus, NULL, &o);
	tap_ok(same_params(whole, resumed), "a finished training is read, not trained on");
	tr_model_free(resumed);
	tr_model_free(whole);
}

/* A course that stops is the beginning of the one that does not. */
static void
test_stop(const TrCorpus *corpus)
{
	TrTrainOptions o = tiny_options();
	TrModel    *whole = train(corpus, NULL, &o);
	TrModel    *stopped;
	TrModel    *read;
	TrModel    *resumed;

	o.checkpoint = fixture_path("stopped");
	o.stop = 7;
	stopped = train(corpus, NULL, &o);
	read = tr_checkpoint_model(o.checkpoint);
	tap_ok(!same_params(whole, stopped) && same_params(stopped, read),
		   "a training that is to stop early leaves its checkpoint there");
	o.stop = 0;
	resumed = train(corpus, NULL, &o);
	tap_ok(same_params(whole, resumed), "and going on to the end gives the bits of the whole");
	o.stop = 99;
	tr_model_free(resumed);
	resumed = train(corpus, NULL, &o);
	tap_ok(same_params(whole, resumed), "a stop behind the end is the end");
	tr_model_free(whole);
	tr_model_free(stopped);
	tr_model_free(read);
	tr_model_free(resumed);
}

typedef struct Attempt
{
	const TrCorpus *corpus;
	TrConfig	config;
	TrTrainOptions options;
} Attempt;

static void
attempt(const void *arg)
{
	const Attempt *a = arg;
	TrModel    *model = tr_model_create(&a->config);

	if (freopen("/dev/null", "w", stdout) == NULL)
		_exit(2);
	tr_model_init(model, 5);
	tr_train(model, a->corpus, NULL, &a->options);
}

static void
read_model(const void *arg)
{
	tr_model_free(tr_checkpoint_model(arg));
}

/* The checkpoint that test_resume has left is refused by other trainings. */
static void
test_refusals(const TrCorpus *corpus)
{
	TrCorpus   *other = make_corpus(N_DOCUMENTS, 3);
	Attempt		same = {.corpus = corpus, .config = tiny, .options = tiny_options()};
	Attempt		a;
	size_t		size;
	char	   *data;

	same.options.steps = 1200;
	same.options.checkpoint_every = 200;
	same.options.checkpoint = fixture_path("checkpoint");
	a = same;
	a.options.seed = 12;
	tap_ok(fixture_fails(attempt, &a, "its seed is another"), "another seed is refused");
	a = same;
	a.options.lanes = 4;
	tap_ok(fixture_fails(attempt, &a, "number of batches a step is 3, here it is 4"),
		   "another number of lanes is refused");
	a = same;
	a.options.lr *= 2;
	tap_ok(fixture_fails(attempt, &a, "learning rate is 0.005, here it is 0.01"),
		   "another learning rate is refused");
	a = same;
	a.config.n_ff = 32;
	tap_ok(fixture_fails(attempt, &a, "feed-forward width is 24, here it is 32"),
		   "another model is refused");
	a = same;
	a.corpus = other;
	tap_ok(fixture_fails(attempt, &a, "documents or vocabulary are others"),
		   "other documents are refused");
	a = same;
	a.config.n_ctx = 20;
	tap_ok(fixture_fails(attempt, &a, "the model's context has 20"), "a document over the context is refused");
	a = same;
	a.options.lane_tokens = 20;
	tap_ok(fixture_fails(attempt, &a, "and a batch has 20"), "a document over a lane is refused");

	data = tr_read_file(same.options.checkpoint, &size);
	a = same;
	a.options.checkpoint = fixture_write("cut", data, size - 1);
	tap_ok(fixture_fails(attempt, &a, "is cut short"), "a checkpoint cut short is refused");
	fixture_write("cut", data, size / 2);
	tap_ok(fixture_fails(attempt, &a, "is cut short"), "one cut in the middle too");
	fixture_write("cut", data, 300);
	tap_ok(fixture_fails(read_model, a.options.checkpoint, "is cut short"), "and where only its model is read");
	data[0] = 'X';
	fixture_write("cut", data, size);
	tap_ok(fixture_fails(read_model, a.options.checkpoint, "is not a checkpoint of this trainer"),
		   "another file is refused");
	a.options.checkpoint = fixture_path("nowhere/checkpoint");
	tap_ok(fixture_fails(attempt, &a, "could not create file"), "a checkpoint that cannot be written is a failure");
	free(data);
	free_corpus(other);
}

int
main(void)
{
	static const char *const files[] = {"progress", "log", "checkpoint", "cut", "stopped"};
	TrCorpus   *corpus = make_corpus(N_DOCUMENTS, 1);

	test_random();
	test_init();
	test_schedule();
	test_adamw();
	test_lanes();
	test_threads(corpus);
	test_decay();
	test_learning(corpus);
	test_log(corpus);
	test_resume(corpus);
	test_stop(corpus);
	test_refusals(corpus);
	free_corpus(corpus);
	fixture_remove(files, sizeof(files) / sizeof(files[0]));
	return tap_done();
}
