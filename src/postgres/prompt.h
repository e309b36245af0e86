/*-------------------------------------------------------------------------
 *
 * prompt.h
 *	  The prompts behind the SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_PROMPT_H
#define LLAMA3_PROMPT_H

#include "llama3.h"
#include "text.h"
#include "utils/jsonb.h"

/* An example for classify: a text and its label. */
typedef struct LlamaExample
{
	LlamaText	input;
	LlamaText	label;
} LlamaExample;

/* Messages of a chat, in the order they will be encoded. */
typedef struct LlamaMessages
{
	L3Message  *messages;
	size_t		n;
	size_t		capacity;
} LlamaMessages;

/*
 * Words that are scored, sorted as labels are, and the text without content by
 * which classify calibrates.
 */
#define LLAMA_N_YES_NO		2
#define LLAMA_YES			1
#define LLAMA_N_SENTIMENTS	4

extern const LlamaText llama_yes_no_v1[LLAMA_N_YES_NO];
extern const LlamaText llama_sentiments_v1[LLAMA_N_SENTIMENTS];
extern const LlamaText llama_no_content_v1;

extern void llama_message_add(LlamaMessages *chat, const char *role, LlamaText content);

/* Raise 55000 unless the model has a chat form that we know. */
extern void llama_require_chat(const LlamaModel *model);
/* Say at this level that the model cannot chat, if so, and what it can. */
extern void llama_report_chat(int elevel, const char *name, const L3Tokenizer *tok);

/*
 * Encode a chat with the assistant's header at the end; false when the row is
 * too long (see llama_row_too_long).
 */
extern bool llama_encode_chat(const LlamaModel *model, const LlamaMessages *chat,
							  LlamaIds *ids);

/*
 * The same in two parts: a chat that ends with its last message, and the next
 * turn of the user, up to where the assistant's answer begins.  The next turn
 * has the same tokens whatever stood before it.
 */
extern bool llama_encode_opening(const LlamaModel *model, const LlamaMessages *chat,
								 LlamaIds *ids);
extern bool llama_encode_next_turn(const LlamaModel *model, LlamaText content, LlamaIds *ids);

/*
 * A chat of any number of turns, part by part: an opening, as above, turns of
 * the user, and the beginning of the assistant's answer.  A turn of more than
 * limit tokens is not appended, and false returned.
 */
extern bool llama_encode_turn(const LlamaModel *model, LlamaText content, size_t limit,
							  LlamaIds *ids);
extern void llama_encode_answer_header(const LlamaModel *model, LlamaIds *ids);

/* Check and read messages of llama_chat.  Raises 22023. */
extern void llama_messages_from_jsonb(Jsonb *jsonb, LlamaMessages *chat);

/*
 * The chats behind the functions: what is the same for every row of a query
 * comes first, so that it is computed once, and the row's text last.  Lists
 * (labels, categories) must be in an order that does not depend on the caller's.
 * An optional text is left out when it is empty.
 */
extern void llama_classify_prompt(LlamaMessages *chat, LlamaText task,
								  const LlamaText *labels, int n_labels,
								  const LlamaExample *examples, int n_examples,
								  LlamaText input);
extern void llama_filter_prompt(LlamaMessages *chat, LlamaText condition, LlamaText input);
extern void llama_score_prompt(LlamaMessages *chat, LlamaText criterion, int low, int high,
							   LlamaText input);
extern void llama_rank_prompt(LlamaMessages *chat, LlamaText query, LlamaText document);
extern void llama_sentiment_prompt(LlamaMessages *chat, LlamaText aspect, LlamaText input);
extern void llama_summarize_prompt(LlamaMessages *chat, int max_words, LlamaText input);
extern void llama_translate_prompt(LlamaMessages *chat, LlamaText to_language,
								   LlamaText from_language, LlamaText input);
/* With no categories, those of personal data. */
extern void llama_redact_prompt(LlamaMessages *chat, const LlamaText *categories,
								int n_categories, LlamaText input);
extern void llama_fix_grammar_prompt(LlamaMessages *chat, LlamaText input);
extern void llama_extract_prompt(LlamaMessages *chat, LlamaText instructions, LlamaText schema,
								 LlamaText input);

/* Tell in the chat's system message of what form the answer is to be, unless schema is empty. */
extern void llama_format_prompt(LlamaMessages *chat, LlamaText schema);

/*
 * The aggregates' chats begin with these, and each text, or where parts are
 * merged each part's answer, is a turn of the user behind them.
 */
extern void llama_agg_prompt(LlamaMessages *chat, LlamaText task, bool merging);
extern void llama_summarize_agg_prompt(LlamaMessages *chat, int max_words, bool merging);

/*
 * classify_multi asks many questions about one text, so here the text is what
 * they have in common: an opening with the text, and the user's next turn for
 * each label.
 */
extern void llama_multi_prompt(LlamaMessages *chat, LlamaText task, LlamaText input);
extern LlamaText llama_multi_question(LlamaText label);

#endif							/* LLAMA3_PROMPT_H */
