/*-------------------------------------------------------------------------
 *
 * report.c
 *	  What a training says: lines on stdout and a log to draw curves from.
 *
 *-------------------------------------------------------------------------
 */
#include "training.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_HEADER	"step\ttokens\tlr\tloss\tgroup_loss\tgradient_norm\ttokens_per_second\t" \
					"valid_loss\tvalid_group_loss\n"

/*
 * Open the log to append behind the lines of the steps up to the given one:
 * later ones are of a run that went on past its last checkpoint.
 */
static FILE *
open_log(const char *path, int64_t step)
{
	char	   *old = NULL;
	size_t		size;
	FILE	   *file;

	if (step > 0 && (file = fopen(path, "rb")) != NULL)
	{
		fclose(file);
		old = tr_read_file(path, &size);
	}
	file = fopen(path, "wb");
	if (file == NULL)
		tr_fail("could not create file \"%s\": %s", path, strerror(errno));
	fputs(LOG_HEADER, file);
	for (char *line = old; line != NULL && *line != '\0';)
	{
		char	   *end = strchr(line, '\n');
		char	   *next = end != NULL ? end + 1 : NULL;
		char	   *digits;
		int64_t		line_step = strtoll(line, &digits, 10);

		if (next != NULL && digits != line && line_step <= step)
			fwrite(line, 1, (size_t) (next - line), file);
		line = next;
	}
	free(old);
	fflush(file);
	return file;
}

void
tr_report_start(TrReport *report, const TrTrainOptions *options, const TrProgress *progress)
{
	memset(report, 0, sizeof(*report));
	report->options = options;
	report->started = tr_seconds();
	report->started_step = progress->step;
	if (options->log != NULL)
		report->log = open_log(options->log, progress->step);
	if (progress->step > 0)
		printf("going on from checkpoint \"%s\" at step %lld of %d\n", options->checkpoint,
			   (long long) progress->step, options->steps);
	fflush(stdout);
}

void
tr_loss_add(TrLoss *sum, const TrLoss *loss)
{
	sum->token_loss += loss->token_loss;
	sum->token_weight += loss->token_weight;
	sum->group_loss += loss->group_loss;
	sum->n_anchors += loss->n_anchors;
}

void
tr_report_step(TrReport *report, const TrLoss *loss, int64_t tokens, double seconds)
{
	tr_loss_add(&report->loss, loss);
	report->tokens += tokens;
	report->seconds += seconds;
}

static double
mean(double sum, double weight)
{
	return weight > 0 ? sum / weight : 0;
}

static void
print_time(double seconds, const char *what)
{
	long		s = lround(seconds);

	printf("  %ld:%02ld:%02ld %s", s / 3600, s / 60 % 60, s % 60, what);
}

void
tr_report_line(TrReport *report, const TrProgress *progress, double lr, double norm,
			   const TrLoss *valid)
{
	double		loss = mean(report->loss.token_loss, report->loss.token_weight);
	double		group_loss = mean(report->loss.group_loss, report->loss.n_anchors);
	double		speed = mean((double) report->tokens, report->seconds);
	double		elapsed = tr_seconds() - report->started;
	int64_t		here = progress->step - report->started_step;

	printf("step %lld/%d  loss %.4f  perplexity %.2f  group loss %.4f  norm %.3f  lr %.2e  %.0f tokens/s",
		   (long long) progress->step, report->options->steps, loss, exp(loss), group_loss,
		   norm, lr, speed);
	print_time(elapsed, "elapsed");
	print_time(elapsed / (double) here *
			   (double) (report->options->steps - progress->step), "left");
	putchar('\n');
	if (valid != NULL)
		printf("validation at step %lld: loss %.4f  perplexity %.2f  group loss %.4f\n",
			   (long long) progress->step, mean(valid->token_loss, valid->token_weight),
			   exp(mean(valid->token_loss, valid->token_weight)),
			   mean(valid->group_loss, valid->n_anchors));
	fflush(stdout);

	if (report->log != NULL)
	{
		fprintf(report->log, "%lld\t%lld\t%.6e\t%.6f\t%.6f\t%.6f\t%.0f\t",
				(long long) progress->step, (long long) progress->tokens, lr, loss,
				group_loss, norm, speed);
		if (valid != NULL)
			fprintf(report->log, "%.6f\t%.6f\n", mean(valid->token_loss, valid->token_weight),
					mean(valid->group_loss, valid->n_anchors));
		else
			fputs("\t\n", report->log);
		if (fflush(report->log) != 0)
			tr_fail("could not write file \"%s\": %s", report->options->log, strerror(errno));
	}
	memset(&report->loss, 0, sizeof(report->loss));
	report->tokens = 0;
	report->seconds = 0;
}

void
tr_report_end(TrReport *report)
{
	if (report->log != NULL && fclose(report->log) != 0)
		tr_fail("could not write file \"%s\": %s", report->options->log, strerror(errno));
}
