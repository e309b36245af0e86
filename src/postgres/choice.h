/*-------------------------------------------------------------------------
 *
 * choice.h
 *	  Choosing among given answers: labels, their paths, their probabilities.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_CHOICE_H
#define LLAMA3_CHOICE_H

#include "call.h"
#include "text.h"

/* Labels in canonical order. */
typedef struct LlamaLabels
{
	int			n;
	LlamaText  *texts;			/* (n) sorted by bytes */
	int		   *given;			/* (n) position in the caller's array, from 0 */
} LlamaLabels;

/* What messages call the elements of an array. */
typedef struct LlamaNoun
{
	const char *one;			/* "Label" */
	const char *many;			/* "labels": the argument's name */
} LlamaNoun;

extern const LlamaNoun llama_noun_label;

/*
 * Read an array of at least min distinct texts that are not blank, and at most
 * LLAMA_MAX_LABELS.  Raises 22023.
 */
extern void llama_labels_arg(FunctionCallInfo fcinfo, int arg, const LlamaNoun *noun, int min,
							 LlamaLabels *labels);
extern bool llama_labels_have(const LlamaLabels *labels, LlamaText t);
/* A label in a message, in the database's encoding. */
extern char *llama_label_name(LlamaText label);

/* How answers are told from longer ones: which paths end with end-of-turn. */
typedef enum LlamaClosing
{
	LLAMA_CLOSE_PREFIXES,		/* those that begin another one */
	LLAMA_CLOSE_ALIKE			/* if there are such, all of them */
} LlamaClosing;

/*
 * Submit the scoring of n distinct answers to a prompt; false, with the call's
 * result NULL, where the row cannot be answered.
 */
extern bool llama_choice_submit(LlamaCall *call, const LlamaModel *model, LlamaFunction function,
								const LlamaIds *prompt, LlamaClosing closing,
								const LlamaText *answers, int n);

/*
 * From n log-probabilities to probabilities that sum to 1.  Raises 22003 when
 * they are not finite.
 */
extern double *llama_normalise(const LlamaCall *call, const double *logprobs, int n);
/* The same of the call's first request. */
extern double *llama_choice_probabilities(const LlamaCall *call, int n);

/*
 * Yes/no questions.  llama_questions_submit asks n of them after one prompt,
 * each a run of tokens up to where the answer begins, independently of each
 * other; llama_yes_submit asks the one that the prompt ends with.  The
 * probability is P(Yes) / (P(Yes) + P(No)).
 */
extern bool llama_questions_submit(LlamaCall *call, const LlamaModel *model,
								   LlamaFunction function, const LlamaIds *prompt,
								   const LlamaIds *questions, int n);
extern double llama_question_probability(const LlamaCall *call, int question);
extern bool llama_yes_submit(LlamaCall *call, const LlamaModel *model, LlamaFunction function,
							 const LlamaIds *prompt);
extern double llama_yes_probability(const LlamaCall *call);

#endif							/* LLAMA3_CHOICE_H */
