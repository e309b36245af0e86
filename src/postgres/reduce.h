/*-------------------------------------------------------------------------
 *
 * reduce.h
 *	  Any number of texts to one answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_REDUCE_H
#define LLAMA3_REDUCE_H

#include "llama3.h"
#include "text.h"

/* What is asked of the model about the texts. */
typedef struct LlamaReduceTask
{
	LlamaFunction function;		/* LLAMA_FN_AGG or LLAMA_FN_SUMMARIZE_AGG */
	LlamaText	task;			/* UTF-8; of llama_agg alone */
	int			limit;			/* of the answer: max_tokens, or max_words */
	const LlamaModel *model;
} LlamaReduceTask;

typedef struct LlamaReduction LlamaReduction;

/*
 * A reduction of no texts yet, in a memory context of its own below parent;
 * when that is reset or deleted its requests are given up.  The task is copied,
 * but for the model.  Raises 54000 when the task leaves no room for texts
 * (under llama3.on_error = 'null' that makes a reduction without an answer).
 */
extern LlamaReduction *llama_reduction_make(MemoryContext parent, const LlamaReduceTask *task);
extern const LlamaReduceTask *llama_reduction_task(const LlamaReduction *reduction);

/* Add a text behind those that are there.  Blank ones count for nothing. */
extern void llama_reduction_add(LlamaReduction *reduction, LlamaText text);

/* Add the texts of another reduction with the same task. */
extern void llama_reduction_merge(LlamaReduction *reduction, LlamaReduction *other);

/*
 * The answer, in CurrentMemoryContext, without white space around it; the empty
 * text when all texts were blank.  False where there is none, under
 * llama3.on_error = 'null'.  More texts can be added afterwards.  all_complete:
 * those of the same parent get no more texts either, and will be asked for.
 */
extern bool llama_reduction_answer(LlamaReduction *reduction, bool all_complete,
								   LlamaText *answer);

/* Between processes: all but the task. */
extern void llama_reduction_write(LlamaReduction *reduction, StringInfo out);
extern void llama_reduction_read(LlamaReduction *reduction, StringInfo in);

#endif							/* LLAMA3_REDUCE_H */
