/*-------------------------------------------------------------------------
 *
 * train.c
 *	  The training loop.
 *
 * A step has lanes: batches that each have their own gradients.  Threads take
 * lanes, then ranges of parameters, as they come free; but a lane's result
 * depends on the lane alone, gradients are summed in the order of lanes, and
 * the norm in the order of ranges of a fixed size.  So the result depends on
 * the number of lanes, never on the number of threads.
 *
 *-------------------------------------------------------------------------
 */
#include "training.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "loops.h"
#include "transformer.h"

#define MAX_THREADS		256
#define RANGE_PARAMS	65536	/* parameters a task of the optimizer */
#define REPORT_STEPS	10
#define VALID_TOKENS	100000	/* of the validation corpus, from its beginning */

typedef struct Trainer
{
	TrModel    *model;
	const TrTrainOptions *options;
	uint64_t	corpus_hash;
	TrOrder		order;
	TrProgress	progress;
	TrMoments	moments;
	int			n_threads;
	TrWorkspace **workspaces;	/* (n_threads) */

	/* one step */
	TrLane	   *lanes;			/* (lanes) */
	TrLoss	   *losses;			/* (lanes) */
	float	   *gradients;		/* (lanes, n_params); the sum goes to the first */
	float		token_scale;
	float		group_scale;
	int			n_ranges;
	double	   *squares;		/* (n_ranges) sums of the gradient's squares */
	double		lr;
	double		clip_factor;

	/* validation */
	int			n_valid;
	TrLane	   *valid_lanes;	/* (n_valid) */
	TrLoss	   *valid_losses;	/* (n_valid) */
} Trainer;

/* ----------------------------------------------------------------
 *		Threads
 * ----------------------------------------------------------------
 */

typedef void (*TaskFn) (Trainer *trainer, int task, int thread);

typedef struct Crew
{
	Trainer    *trainer;
	TaskFn		fn;
	int			n_tasks;
	int			next;			/* task to take; atomic */
} Crew;

typedef struct Worker
{
	Crew	   *crew;
	int			thread;
	pthread_t	id;
} Worker;

static void *
work(void *arg)
{
	Worker	   *worker = arg;
	Crew	   *crew = worker->crew;
	int			task;

	while ((task = __atomic_fetch_add(&crew->next, 1, __ATOMIC_RELAXED)) < crew->n_tasks)
		crew->fn(crew->trainer, task, worker->thread);
	return NULL;
}

/* Run every task. */
static void
run_tasks(Trainer *trainer, TaskFn fn, int n_tasks)
{
	int			n = trainer->n_threads;
	Crew		crew = {.trainer = trainer, .fn = fn, .n_tasks = n_tasks};
	Worker		workers[MAX_THREADS];

	for (int i = 0; i < n; i++)
	{
		workers[i].crew = &crew;
		workers[i].thread = i;
		if (i > 0 && pthread_create(&workers[i].id, NULL, work, &workers[i]) != 0)
			tr_fail("could not start a thread");
	}
	work(&workers[0]);
	for (int i = 1; i < n; i++)
		pthread_join(workers[i].id, NULL);
}

/* ----------------------------------------------------------------
 *		A step
 * ----------------------------------------------------------------
 */

static TrBatch
batch_of(const TrLane *lane)
{
	return (TrBatch) {.n_documents = lane->n_documents, .documents = lane->documents};
}

static void
lane_task(Trainer *trainer, int task, int thread)
{
	size_t		n_params = trainer->model->n_params;
	float	   *gradients = trainer->gradients + (size_t) task * n_params;
	TrBatch		batch = batch_of(&trainer->lanes[task]);

	memset(gradients, 0, n_params * sizeof(float));
	tr_model_run(trainer->model, trainer->workspaces[thread], &batch, trainer->token_scale,
				 trainer->group_scale, gradients, &trainer->losses[task]);
}

static void
range_of(const Trainer *trainer, int task, size_t *from, size_t *to)
{
	*from = (size_t) task * RANGE_PARAMS;
	*to = *from + RANGE_PARAMS;
	if (*to > trainer->model->n_params)
		*to = trainer->model->n_params;
}

/* Sum the lanes' gradients over a range, and the squares of the sum. */
static void
sum_task(Trainer *trainer, int task, int thread)
{
	size_t		n_params = trainer->model->n_params;
	double		square = 0;
	size_t		from,
				to;

	(void) thread;
	range_of(trainer, task, &from, &to);
	for (int i = 1; i < trainer->options->lanes; i++)
		tr_add(trainer->gradients + from, trainer->gradients + (size_t) i * n_params + from,
			   to - from);
	for (size_t j = from; j < to; j++)
		square += (double) trainer->gradients[j] * trainer->gradients[j];
	trainer->squares[task] = square;
}

static void
update_task(Trainer *trainer, int task, int thread)
{
	const TrModel *model = trainer->model;
	size_t		range_from,
				range_to;

	(void) thread;
	range_of(trainer, task, &range_from, &range_to);
	for (int i = 0; i < model->n_tensors; i++)
	{
		const TrTensor *tensor = &model->tensors[i];
		size_t		from = tensor->offset;
		size_t		to = from + (size_t) tensor->n_out * tensor->n_in;
		bool		norm = tensor->n_out == 1;

		from = from > range_from ? from : range_from;
		to = to < range_to ? to : range_to;
		if (from < to)
			tr_adamw(trainer->options, trainer->progress.step + 1, trainer->lr,
					 trainer->clip_factor, norm ? 0 : trainer->options->weight_decay,
					 model->params + from, trainer->moments.mean + from,
					 trainer->moments.square + from, trainer->gradients + from, to - from);
	}
}

/* What makes the sums over the step's lanes means. */
static void
set_scales(Trainer *trainer)
{
	double		token_weight = 0;
	int			n_anchors = 0;

	for (int i = 0; i < trainer->options->lanes; i++)
	{
		const TrLane *lane = &trainer->lanes[i];
		TrBatch		batch = batch_of(lane);

		n_anchors += tr_count_anchors(&batch);
		for (int j = 0; j < lane->n_documents; j++)
			for (int t = 1; t < lane->documents[j]->n_tokens; t++)
				token_weight += lane->documents[j]->weights[t];
	}
	trainer->token_scale = token_weight > 0 ? (float) (1 / token_weight) : 0;
	trainer->group_scale = n_anchors > 0 ?
		(float) (trainer->options->group_weight / n_anchors) : 0;
}

/* One step; returns the gradient's norm, fills *loss. */
static double
run_step(Trainer *trainer, TrLoss *loss)
{
	const TrTrainOptions *options = trainer->options;
	double		square = 0;

	tr_fill_lanes(&trainer->order, &trainer->progress, trainer->lanes, options->lanes,
				  options->lane_tokens);
	set_scales(trainer);
	run_tasks(trainer, lane_task, options->lanes);
	memset(loss, 0, sizeof(*loss));
	for (int i = 0; i < options->lanes; i++)
		tr_loss_add(loss, &trainer->losses[i]);

	run_tasks(trainer, sum_task, trainer->n_ranges);
	for (int i = 0; i < trainer->n_ranges; i++)
		square += trainer->squares[i];
	if (!isfinite(square))
		tr_fail("the gradient of step %lld is not finite: try a lower learning rate",
				(long long) trainer->progress.step + 1);
	trainer->clip_factor = tr_clip_factor(sqrt(square), options->clip);
	trainer->lr = tr_learning_rate(options, (int) trainer->progress.step);
	run_tasks(trainer, update_task, trainer->n_ranges);
	trainer->progress.step++;
	return sqrt(square);
}

/* ----------------------------------------------------------------
 *		Validation
 * ----------------------------------------------------------------
 */

static void
prepare_validation(Trainer *trainer, const TrCorpus *valid)
{
	int64_t		n_tokens = 0;
	int			next = 0;
	int			room = 0;

	while (valid != NULL && next < valid->n_documents && n_tokens < VALID_TOKENS)
	{
		if (trainer->n_valid == room)
		{
			room = room * 2 + 8;
			trainer->valid_lanes = realloc(trainer->valid_lanes, sizeof(TrLane) * (size_t) room);
			if (trainer->valid_lanes == NULL)
				tr_fail("out of memory");
		}
		tr_fill_in_order(valid, &next, &trainer->valid_lanes[trainer->n_valid],
						 trainer->options->lane_tokens);
		n_tokens += trainer->valid_lanes[trainer->n_valid++].n_tokens;
	}
	trainer->valid_losses = tr_alloc(sizeof(TrLoss) * (size_t) trainer->n_valid);
}

static void
valid_task(Trainer *trainer, int task, int thread)
{
	TrBatch		batch = batch_of(&trainer->valid_lanes[task]);

	tr_model_run(trainer->model, trainer->workspaces[thread], &batch, 0, 0, NULL,
				 &trainer->valid_losses[task]);
}

static void
validate(Trainer *trainer, TrLoss *loss)
{
	run_tasks(trainer, valid_task, trainer->n_valid);
	memset(loss, 0, sizeof(*loss));
	for (int i = 0; i < trainer->n_valid; i++)
		tr_loss_add(loss, &trainer->valid_losses[i]);
}

/* ----------------------------------------------------------------
 *		The loop
 * ----------------------------------------------------------------
 */

static void
check_options(const TrTrainOptions *o, const TrCorpus *train)
{
	if (o->steps < 1 || o->stop < 0 || o->lanes < 1 || o->lane_tokens < 1 || o->warmup < 0 ||
		o->warmup > o->steps || o->checkpoint_every < 1 || o->valid_every < 1)
		tr_fail("a number of steps, batches or tokens is out of its range");
	if (o->threads < 1 || o->threads > MAX_THREADS)
		tr_fail("the number of threads must be between 1 and %d", MAX_THREADS);
	if (!(o->lr > 0) || !(o->lr_floor >= 0 && o->lr_floor <= 1) || !(o->weight_decay >= 0) ||
		!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1) ||
		!(o->epsilon > 0) || !(o->clip > 0) || !(o->group_weight >= 0))
		tr_fail("an option of the optimizer is out of its range");
	if (train->n_documents < 1)
		tr_fail("there are no documents to train on");
}

static void
start(Trainer *trainer, TrModel *model, const TrCorpus *train, const TrCorpus *valid,
	  const TrTrainOptions *options)
{
	size_t		n_lanes = (size_t) options->lanes;

	memset(trainer, 0, sizeof(*trainer));
	trainer->model = model;
	trainer->options = options;
	trainer->corpus_hash = tr_corpus_hash(train);
	tr_order_init(&trainer->order, train, options->seed);
	trainer->moments.mean = tr_alloc(model->n_params * sizeof(float));
	trainer->moments.square = tr_alloc(model->n_params * sizeof(float));
	/* More would find no lane, and a workspace is large. */
	trainer->n_threads = options->threads < options->lanes ? options->threads : options->lanes;
	trainer->workspaces = tr_alloc(sizeof(TrWorkspace *) * (size_t) trainer->n_threads);
	for (int i = 0; i < trainer->n_threads; i++)
		trainer->workspaces[i] = tr_workspace_create(model, options->lane_tokens,
													 TR_LANE_DOCUMENTS);
	trainer->lanes = tr_alloc(sizeof(TrLane) * n_lanes);
	trainer->losses = tr_alloc(sizeof(TrLoss) * n_lanes);
	trainer->gradients = tr_alloc(sizeof(float) * n_lanes * model->n_params);
	trainer->n_ranges = (int) ((model->n_params + RANGE_PARAMS - 1) / RANGE_PARAMS);
	trainer->squares = tr_alloc(sizeof(double) * (size_t) trainer->n_ranges);
	prepare_validation(trainer, valid);
}

static void
end(Trainer *trainer)
{
	for (int i = 0; i < trainer->n_threads; i++)
		tr_workspace_free(trainer->workspaces[i]);
	free(trainer->workspaces);
	free(trainer->order.index);
	free(trainer->moments.mean);
	free(trainer->moments.square);
	free(trainer->lanes);
	free(trainer->losses);
	free(trainer->gradients);
	free(trainer->squares);
	free(trainer->valid_lanes);
	free(trainer->valid_losses);
}

/* The last step of this run. */
static int
last_step(const TrTrainOptions *options)
{
	return options->stop > 0 && options->stop < options->steps ? options->stop : options->steps;
}

/* Is it time for what is done every so many steps, and at the end? */
static bool
is_due(const Trainer *trainer, int every)
{
	return trainer->progress.step % every == 0 ||
		trainer->progress.step == last_step(trainer->options);
}

void
tr_train(TrModel *model, const TrCorpus *train, const TrCorpus *valid,
		 const TrTrainOptions *options)
{
	Trainer		trainer;
	TrReport	report;

	check_options(options, train);
	tr_check_lengths(train, options->lane_tokens, model->config.n_ctx);
	if (valid != NULL)
		tr_check_lengths(valid, options->lane_tokens, model->config.n_ctx);
	start(&trainer, model, train, valid, options);
	if (options->checkpoint != NULL)
		tr_checkpoint_read(options->checkpoint, model, options, trainer.corpus_hash,
						   &trainer.moments, &trainer.progress);
	tr_report_start(&report, options, &trainer.progress);

	while (trainer.progress.step < last_step(options))
	{
		double		began = tr_seconds();
		int64_t		tokens = trainer.progress.tokens;
		TrLoss		loss;
		TrLoss		valid_loss;
		double		norm = run_step(&trainer, &loss);
		bool		validated = trainer.n_valid > 0 && is_due(&trainer, options->valid_every);

		tr_report_step(&report, &loss, trainer.progress.tokens - tokens, tr_seconds() - began);
		if (validated)
			validate(&trainer, &valid_loss);
		if (validated || is_due(&trainer, REPORT_STEPS))
			tr_report_line(&report, &trainer.progress, trainer.lr, norm,
						   validated ? &valid_loss : NULL);
		if (options->checkpoint != NULL && is_due(&trainer, options->checkpoint_every))
			tr_checkpoint_write(options->checkpoint, model, options, trainer.corpus_hash,
								&trainer.moments, &trainer.progress);
	}
	tr_report_end(&report);
	end(&trainer);
}
