/*-------------------------------------------------------------------------
 *
 * training.h
 *	  What the files of the training loop share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TR_TRAINING_H
#define TR_TRAINING_H

#include <stdio.h>

#include "trainer.h"

/* How far a training is: with the corpus and the options all that a step needs. */
typedef struct TrProgress
{
	int64_t		step;			/* steps done */
	int64_t		tokens;			/* trained on */
	int64_t		epoch;			/* of the next document */
	int64_t		position;		/* of the next document in the epoch's order */
} TrProgress;

/* The optimizer's moving averages, each (n_params). */
typedef struct TrMoments
{
	float	   *mean;
	float	   *square;
} TrMoments;

/* ----------------------------------------------------------------
 *		Batches (lanes.c)
 * ----------------------------------------------------------------
 */

/* Documents in a batch, at most: the contrastive loss is quadratic in them. */
#define TR_LANE_DOCUMENTS	512

typedef struct TrLane
{
	int			n_documents;
	int			n_tokens;
	const TrDocument *documents[TR_LANE_DOCUMENTS];
} TrLane;

/* The documents of a corpus in the shuffled order of an epoch. */
typedef struct TrOrder
{
	const TrCorpus *corpus;
	uint64_t	seed;
	int64_t		epoch;			/* that index is the order of; -1: none yet */
	int		   *index;			/* (n_documents) */
} TrOrder;

void		tr_order_init(TrOrder *order, const TrCorpus *corpus, uint64_t seed);
/* Fill lanes one after the other with the next documents; progress moves on. */
void		tr_fill_lanes(TrOrder *order, TrProgress *progress, TrLane *lanes, int n_lanes,
						  int lane_tokens);
/* Fill lane from document *next on, in the corpus's order; *next moves on. */
void		tr_fill_in_order(const TrCorpus *corpus, int *next, TrLane *lane, int lane_tokens);
/* Exit where a document is longer than a lane or the context. */
void		tr_check_lengths(const TrCorpus *corpus, int lane_tokens, int n_ctx);

/* ----------------------------------------------------------------
 *		Checkpoints (checkpoint.c)
 * ----------------------------------------------------------------
 */

/* Replace the file, or leave the old one whole. */
void		tr_checkpoint_write(const char *path, const TrModel *model,
								const TrTrainOptions *options, uint64_t corpus_hash,
								const TrMoments *moments, const TrProgress *progress);
/*
 * Read the file into model, moments and progress; false when there is none;
 * exit when it is another training's.
 */
bool		tr_checkpoint_read(const char *path, TrModel *model,
							   const TrTrainOptions *options, uint64_t corpus_hash,
							   TrMoments *moments, TrProgress *progress);
uint64_t	tr_corpus_hash(const TrCorpus *corpus);

/* ----------------------------------------------------------------
 *		Reports (report.c)
 * ----------------------------------------------------------------
 */

typedef struct TrReport
{
	const TrTrainOptions *options;
	FILE	   *log;			/* NULL: none */
	double		started;		/* seconds; the steps before it were another run's */
	int64_t		started_step;
	/* since the last line */
	TrLoss		loss;
	int64_t		tokens;
	double		seconds;		/* of steps, without validation */
} TrReport;

void		tr_report_start(TrReport *report, const TrTrainOptions *options,
							const TrProgress *progress);
void		tr_report_step(TrReport *report, const TrLoss *loss, int64_t tokens, double seconds);
/* Print a line and log one; valid may be NULL. */
void		tr_report_line(TrReport *report, const TrProgress *progress, double lr,
						   double norm, const TrLoss *valid);
void		tr_report_end(TrReport *report);
void		tr_loss_add(TrLoss *sum, const TrLoss *loss);

#endif							/* TR_TRAINING_H */
