/*-------------------------------------------------------------------------
 *
 * reduce.c
 *	  Any number of texts to one answer: what the aggregates are made of.
 *
 * A tree.  Texts are gathered, in their order, into a leaf of as many as fit
 * into one request; a text that is longer is cut into pieces.  When the next text
 * does not fit, the leaf is submitted, and computed while more texts come.  The
 * answers of leaves are gathered in the same way, one level up, and so on.  So at
 * any time there is one unfinished run of items at each level, as in a binary
 * counter, and memory is in proportion to the number of levels.  To get the
 * answer the runs are submitted from the lowest up; the request over the topmost
 * is the last one, and its answer the whole's.
 *
 * Each item is a turn of the user: the tokens of a turn do not depend on those
 * before it, so turns can be counted and kept one by one, and no text can pass
 * for two.
 *
 * The shape of the tree depends on the number of tokens of the items, the task
 * and the model alone, never on the time at which an answer comes: answers are
 * taken in the order in which they were asked for.
 *
 *		W = min(context, WINDOW_TOKENS)		a request, with its answer
 *		N = min(W / 8, PART_TOKENS)			most tokens of a part's answer
 *		A = min(max(N, the last answer's limit), W / 4)		kept for the answer
 *		room = W - A - the prompt's tokens	for items
 *
 * WINDOW_TOKENS bounds what a leaf costs: the time for a prompt grows with the
 * square of its length, every request reserves its part of the KV cache, and
 * models overlook things in the middle of long prompts.
 *
 * Requests in flight are bounded for all reductions of a resource owner (that is,
 * of a query) together: at the bound, the oldest is waited for.  Those of another
 * owner are left alone: what their answers would lead to, in turn, must not
 * belong to an owner that ends earlier.
 *
 * The last requests of groups that are complete are sent ahead of their turn: a
 * hashed aggregation has read all rows before it asks for the first answer, and
 * would else wait for one group after the other.  That is done for groups of one
 * request, of which there can be many.
 *
 * A request may go in two ways: with its reduction's memory context (a query that
 * ends early, a rescan), or with its resource owner (an error), and either may
 * come first.  So the context has a callback, and the request has a holder.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "chunk.h"
#include "generate.h"
#include "options.h"
#include "prompt.h"
#include "reduce.h"
#include "row.h"

#define WINDOW_TOKENS		4096
#define PART_TOKENS			512

/* Shares of W, as above. */
#define PART_SHARE			8
#define ANSWER_SHARE		4

/* Most requests in flight, and no more than half of llama3.queue_size. */
#define MAX_IN_FLIGHT		16

/* Of a summary of so many words; see rewrite.c. */
#define EXTRA_TOKENS		32
#define TOKENS_PER_WORD		3

/* Items that wait for more, as the tokens of their turns. */
typedef struct Run
{
	LlamaIds	ids;
	LlamaIds	ends;			/* after each item, in ids */
} Run;

struct LlamaReduction
{
	MemoryContext context;
	MemoryContextCallback callback;
	LlamaReduceTask task;
	size_t		room;			/* tokens of the items of a request */
	size_t		turn_tokens;	/* of an item without text */
	int			part_tokens;	/* N */
	bool		failed;			/* there will be no answer */
	bool		answered;
	LlamaText	answer;			/* if answered, in context */
	bool		listed;
	dlist_node	node;			/* in waiting, if listed */
	int			n_levels;
	int			capacity;
	Run		   *runs;			/* (n_levels), the texts' first */
};

/* A request that is being answered. */
typedef struct Flight
{
	dlist_node	node;			/* in flights */
	LlamaReduction *reduction;
	ResourceOwner owner;
	int			level;			/* of its answer; LAST_ANSWER */
	LlamaRequest *request;		/* NULL: given up by its owner */
} Flight;

#define LAST_ANSWER		(-1)

/* Of all reductions, oldest first. */
static dlist_head flights = DLIST_STATIC_INIT(flights);

/* The reductions whose last request has not been sent, oldest first. */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);

/* ----------------------------------------------------------------
 *		Making one
 * ----------------------------------------------------------------
 */

static void
end_flight(Flight *flight)
{
	if (flight->request != NULL)
		llama_release(flight->request);
	dlist_delete(&flight->node);
	pfree(flight);
}

static void
end_flights(void *arg)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &flights)
	{
		Flight	   *flight = dlist_container(Flight, node, iter.cur);

		if (flight->reduction == arg)
			end_flight(flight);
	}
}

static void
unlist(LlamaReduction *reduction)
{
	if (reduction->listed)
		dlist_delete(&reduction->node);
	reduction->listed = false;
}

/* The reduction's memory goes. */
static void
end_reduction(void *arg)
{
	end_flights(arg);
	unlist(arg);
}

/* The row's error was told: no answer, and no more work. */
static void
fail(LlamaReduction *reduction)
{
	end_flights(reduction);
	reduction->failed = true;
	reduction->n_levels = 0;
}

/* Most tokens of the last answer. */
static int
answer_tokens(const LlamaReduceTask *task)
{
	if (task->function == LLAMA_FN_AGG)
		return task->limit;
	return EXTRA_TOKENS + TOKENS_PER_WORD * task->limit;
}

/* Words that a part's summary may have: as its tokens allow, but never fewer. */
static int
part_words(const LlamaReduction *reduction)
{
	return Max(reduction->task.limit,
			   (reduction->part_tokens - EXTRA_TOKENS) / TOKENS_PER_WORD);
}

/* What stands before the items; false when it is longer than the context. */
static bool
encode_prompt(const LlamaReduction *reduction, bool merging, bool last, LlamaIds *ids)
{
	const LlamaReduceTask *task = &reduction->task;
	LlamaMessages chat = {0};

	if (task->function == LLAMA_FN_AGG)
		llama_agg_prompt(&chat, task->task, merging);
	else
		llama_summarize_agg_prompt(&chat, last ? task->limit : part_words(reduction), merging);
	return llama_encode_opening(task->model, &chat, ids);
}

/* Tokens of the longest prompt without items; false as above. */
static bool
count_prompt(const LlamaReduction *reduction, size_t *n)
{
	LlamaIds	header = {0};

	*n = 0;
	for (int i = 0; i < 4; i++)
	{
		LlamaIds	ids = {0};

		if (!encode_prompt(reduction, i / 2, i % 2, &ids))
			return false;
		*n = Max(*n, ids.n);
	}
	llama_encode_answer_header(reduction->task.model, &header);
	*n += header.n;
	return true;
}

/*
 * Share the window out.  At least two answers of parts must fit, or merging
 * would come to no end.
 */
static void
plan_window(LlamaReduction *reduction)
{
	const LlamaModel *model = reduction->task.model;
	int			window = Min(model->max_context, WINDOW_TOKENS);
	int			n_answer;
	size_t		n_prompt;
	LlamaIds	turn = {0};

	reduction->part_tokens = Min(window / PART_SHARE, PART_TOKENS);
	n_answer = Min(Max(reduction->part_tokens, answer_tokens(&reduction->task)),
				   window / ANSWER_SHARE);
	if (!count_prompt(reduction, &n_prompt))
	{
		fail(reduction);
		return;
	}
	(void) llama_encode_turn(model, (LlamaText) {"", 0}, window, &turn);
	if (n_prompt + n_answer + 2 * (turn.n + reduction->part_tokens) > (size_t) window)
	{
		llama_row_too_long(model);
		fail(reduction);
		return;
	}
	reduction->turn_tokens = turn.n;
	reduction->room = window - n_prompt - n_answer;
}

static LlamaReduction *
make_reduction(MemoryContext parent, const LlamaReduceTask *task)
{
	MemoryContext context = AllocSetContextCreate(parent, "llama3 aggregate",
												  ALLOCSET_SMALL_SIZES);
	LlamaReduction *reduction = MemoryContextAllocZero(context, sizeof(LlamaReduction));
	char	   *copy = MemoryContextAlloc(context, Max(task->task.len, 1));

	memcpy(copy, task->task.data, task->task.len);
	reduction->context = context;
	reduction->task = *task;
	reduction->task.task.data = copy;
	reduction->callback.func = end_reduction;
	reduction->callback.arg = reduction;
	MemoryContextRegisterResetCallback(context, &reduction->callback);
	return reduction;
}

LlamaReduction *
llama_reduction_make(MemoryContext parent, const LlamaReduceTask *task)
{
	LlamaReduction *reduction = make_reduction(parent, task);

	plan_window(reduction);
	dlist_push_tail(&waiting, &reduction->node);
	reduction->listed = true;
	return reduction;
}

const LlamaReduceTask *
llama_reduction_task(const LlamaReduction *reduction)
{
	return &reduction->task;
}

/* ----------------------------------------------------------------
 *		Runs
 * ----------------------------------------------------------------
 */

static Run *
run_at(LlamaReduction *reduction, int level)
{
	if (level >= reduction->capacity)
	{
		int			capacity = level + 4;
		Run		   *runs = MemoryContextAllocZero(reduction->context, capacity * sizeof(Run));

		if (reduction->runs != NULL)
		{
			memcpy(runs, reduction->runs, reduction->n_levels * sizeof(Run));
			pfree(reduction->runs);
		}
		reduction->runs = runs;
		reduction->capacity = capacity;
	}
	reduction->n_levels = Max(reduction->n_levels, level + 1);
	return &reduction->runs[level];
}

static bool
has_room(LlamaReduction *reduction, int level, size_t n)
{
	return run_at(reduction, level)->ids.n + n <= reduction->room;
}

/* Append an item; there is room. */
static void
append_item(LlamaReduction *reduction, int level, const int32 *ids, size_t n)
{
	MemoryContext old = MemoryContextSwitchTo(reduction->context);
	Run		   *run = run_at(reduction, level);
	int32		end;

	llama_ids_append(&run->ids, ids, n);
	end = (int32) run->ids.n;
	llama_ids_append(&run->ends, &end, 1);
	MemoryContextSwitchTo(old);
}

/*
 * The longest piece of text from there on that makes a turn of at most limit
 * tokens, cut where llama_chunk would; returns where it ends.
 */
static size_t
encode_piece(const LlamaReduction *reduction, LlamaText text, size_t from, size_t limit,
			 LlamaIds *ids)
{
	const LlamaModel *model = reduction->task.model;

	for (size_t n = limit - reduction->turn_tokens;; n -= Max(n / 64, 1))
	{
		/* No token is empty. */
		size_t		end = text.len - from <= n ? text.len : llama_chunk_end(model, text, from, n);

		if (llama_encode_turn(model, (LlamaText) {text.data + from, end - from}, limit, ids))
			return end;
		if (n <= LLAMA_MIN_CHUNK_TOKENS)
			elog(ERROR, "a turn of %zu tokens has no room for a character", limit);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ----------------------------------------------------------------
 *		Requests
 * ----------------------------------------------------------------
 */

/* Submit a run for the last request, or for one whose answer goes on. */
static LlamaRequest *
submit_run(LlamaReduction *reduction, int level, bool last)
{
	const LlamaReduceTask *task = &reduction->task;
	Run		   *run = run_at(reduction, level);
	LlamaIds	ids = {0};
	L3Request	request;
	LlamaRequest *submitted = NULL;

	if (encode_prompt(reduction, level > 0, last, &ids))
	{
		llama_ids_append(&ids, run->ids.ids, run->ids.n);
		llama_encode_answer_header(task->model, &ids);
		request = (L3Request) {
			.kind = L3_REQ_GENERATE,
			.tokens = ids.ids,
			.n_tokens = (int32) ids.n,
			.max_tokens = last ? Min(answer_tokens(task), LLAMA_MAX_MAX_TOKENS) :
				reduction->part_tokens,
			.sampling = llama_greedy.sampling
		};
		submitted = llama_row_submit(task->model, task->function, &request);
		pfree(ids.ids);
	}
	return submitted;
}

static void
start_flight(LlamaReduction *reduction, int level, int answer_level)
{
	Flight	   *flight = MemoryContextAllocZero(reduction->context, sizeof(Flight));

	flight->reduction = reduction;
	flight->owner = CurrentResourceOwner;
	flight->level = answer_level;
	flight->request = submit_run(reduction, level, answer_level == LAST_ANSWER);
	if (flight->request == NULL)
	{
		pfree(flight);
		fail(reduction);
		return;
	}
	llama_set_holder(flight->request, &flight->request);
	dlist_push_tail(&flights, &flight->node);
}

/* Ask about a run, which is empty then; the answer will be an item of the next level. */
static void
send_run(LlamaReduction *reduction, int level)
{
	start_flight(reduction, level, level + 1);
	if (!reduction->failed)
		reduction->runs[level].ids.n = reduction->runs[level].ends.n = 0;
}

/* Ask about the topmost run, which is the only one that is not empty. */
static void
send_last(LlamaReduction *reduction)
{
	unlist(reduction);
	start_flight(reduction, reduction->n_levels - 1, LAST_ANSWER);
}

/* Keep the last answer. */
static void
keep_answer(LlamaReduction *reduction, LlamaText answer)
{
	char	   *copy = MemoryContextAlloc(reduction->context, Max(answer.len, 1));

	memcpy(copy, answer.data, answer.len);
	if (reduction->answer.data != NULL)
		pfree((char *) reduction->answer.data);
	reduction->answer = (LlamaText) {copy, answer.len};
	reduction->answered = true;
}

/* Make an answer an item. */
static void
add_answer(LlamaReduction *reduction, int level, LlamaText answer)
{
	LlamaIds	ids = {0};

	/* Half the room, so that each request over answers has two at least. */
	(void) encode_piece(reduction, answer, 0, reduction->room / 2, &ids);
	if (!has_room(reduction, level, ids.n))
		send_run(reduction, level);
	if (!reduction->failed)
		append_item(reduction, level, ids.ids, ids.n);
	pfree(ids.ids);
}

/* Wait for the answer, and take it. */
static void
land(Flight *flight)
{
	LlamaReduction *reduction = flight->reduction;
	int			level = flight->level;
	LlamaText	answer;

	if (flight->request == NULL)
		elog(ERROR, "a request of an aggregate was given up");
	if (!llama_row_wait(flight->request, PG_INT64_MAX, NULL))
	{
		fail(reduction);
		return;
	}

	answer = llama_text_clean(llama_answer(reduction->task.model, flight->request));
	answer = llama_text_trim(answer);
	end_flight(flight);
	if (level == LAST_ANSWER)
		keep_answer(reduction, answer);
	else
		add_answer(reduction, level, answer);
}

/* The oldest request of a reduction (NULL: of the current owner), and their number. */
static Flight *
oldest_flight(const LlamaReduction *reduction, int *n)
{
	Flight	   *oldest = NULL;
	dlist_iter	iter;

	*n = 0;
	dlist_foreach(iter, &flights)
	{
		Flight	   *flight = dlist_container(Flight, node, iter.cur);

		if (reduction != NULL ? flight->reduction != reduction :
			flight->owner != CurrentResourceOwner)
			continue;
		if ((*n)++ == 0)
			oldest = flight;
	}
	return oldest;
}

/* May one more request be sent? */
static bool
has_place(void)
{
	int			n;

	(void) oldest_flight(NULL, &n);
	return n < Max(1, Min(MAX_IN_FLIGHT, llama3_queue_size / 2));
}

/* Wait until one more request may be sent. */
static void
await_place(void)
{
	int			n;

	while (!has_place())
		land(oldest_flight(NULL, &n));
}

/* Wait for all answers of a reduction. */
static void
land_all(LlamaReduction *reduction)
{
	Flight	   *oldest;
	int			n;

	while ((oldest = oldest_flight(reduction, &n)) != NULL)
		land(oldest);
}

/* Add an item from outside, that is, not an answer. */
static void
add_item(LlamaReduction *reduction, int level, const int32 *ids, size_t n)
{
	reduction->answered = false;
	if (!has_room(reduction, level, n))
	{
		await_place();
		if (!reduction->failed)
			send_run(reduction, level);
	}
	if (!reduction->failed)
		append_item(reduction, level, ids, n);
}

/* ----------------------------------------------------------------
 *		The interface
 * ----------------------------------------------------------------
 */

void
llama_reduction_add(LlamaReduction *reduction, LlamaText text)
{
	MemoryContext scratch;
	MemoryContext old;
	size_t		from = 0;

	if (reduction->failed || llama_is_blank(text))
		return;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "llama3 aggregate row",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	while (from < text.len && !reduction->failed)
	{
		LlamaIds	ids = {0};

		from = encode_piece(reduction, text, from, reduction->room, &ids);
		add_item(reduction, 0, ids.ids, ids.n);
		MemoryContextReset(scratch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

void
llama_reduction_merge(LlamaReduction *reduction, LlamaReduction *other)
{
	land_all(other);
	land_all(reduction);
	if (other->failed && !reduction->failed)
		fail(reduction);
	for (int level = 0; level < other->n_levels && !reduction->failed; level++)
	{
		const Run  *run = &other->runs[level];
		int32		begin = 0;

		for (size_t i = 0; i < run->ends.n; i++)
		{
			add_item(reduction, level, run->ids.ids + begin, run->ends.ids[i] - begin);
			begin = run->ends.ids[i];
		}
		/* So that the order above does not hang on when answers are taken. */
		land_all(reduction);
	}
}

/* A copy, below CurrentMemoryContext, of a reduction with no request in flight. */
static LlamaReduction *
copy_reduction(const LlamaReduction *reduction)
{
	LlamaReduction *copy = make_reduction(CurrentMemoryContext, &reduction->task);
	MemoryContext old = MemoryContextSwitchTo(copy->context);

	copy->room = reduction->room;
	copy->turn_tokens = reduction->turn_tokens;
	copy->part_tokens = reduction->part_tokens;
	copy->failed = reduction->failed;
	for (int level = 0; level < reduction->n_levels; level++)
	{
		const Run  *from = &reduction->runs[level];
		Run		   *to = run_at(copy, level);

		llama_ids_append(&to->ids, from->ids.ids, from->ids.n);
		llama_ids_append(&to->ends, from->ends.ids, from->ends.n);
	}
	MemoryContextSwitchTo(old);
	return copy;
}

/* Has it one run, and none of its requests in flight? */
static bool
is_one_request(const LlamaReduction *reduction)
{
	int			n;

	return reduction->n_levels == 1 && oldest_flight(reduction, &n) == NULL;
}

/* Send the last requests of reductions below parent, as many as may be in flight. */
static void
send_ahead(MemoryContext parent)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &waiting)
	{
		LlamaReduction *reduction = dlist_container(LlamaReduction, node, iter.cur);

		if (MemoryContextGetParent(reduction->context) != parent)
			continue;
		if (!has_place())
			return;
		if (is_one_request(reduction))
			send_last(reduction);
		else
			unlist(reduction);
	}
}

/* From the runs that there are to the answer; the runs are empty then. */
static void
finish(LlamaReduction *reduction)
{
	for (int level = 0; !reduction->failed && !reduction->answered; level++)
	{
		await_place();
		if (level == reduction->n_levels - 1)
			send_last(reduction);
		else
			send_run(reduction, level);
		land_all(reduction);
	}
}

bool
llama_reduction_answer(LlamaReduction *reduction, bool all_complete, LlamaText *answer)
{
	LlamaReduction *rest = reduction;
	bool		failed;

	if (!reduction->answered && is_one_request(reduction))
	{
		await_place();
		send_last(reduction);
	}
	unlist(reduction);
	if (all_complete)
		send_ahead(MemoryContextGetParent(reduction->context));
	land_all(reduction);

	*answer = (LlamaText) {"", 0};
	if (!reduction->failed && !reduction->answered && reduction->n_levels > 0)
	{
		rest = copy_reduction(reduction);
		finish(rest);
	}
	if (rest->answered)
	{
		answer->len = rest->answer.len;
		answer->data = memcpy(palloc(Max(answer->len, 1)), rest->answer.data, answer->len);
	}
	failed = rest->failed;
	if (rest != reduction)
		MemoryContextDelete(rest->context);
	return !failed;
}

/* ----------------------------------------------------------------
 *		Between processes
 * ----------------------------------------------------------------
 */

static void
write_ids(const LlamaIds *ids, StringInfo out)
{
	pq_sendint32(out, (uint32) ids->n);
	pq_sendbytes(out, (const char *) ids->ids, (int) (ids->n * sizeof(int32)));
}

static void
read_ids(LlamaIds *ids, StringInfo in)
{
	size_t		n = pq_getmsgint(in, 4);
	int32	   *copy = palloc(n * sizeof(int32));

	pq_copymsgbytes(in, (char *) copy, (int) (n * sizeof(int32)));
	llama_ids_append(ids, copy, n);
	pfree(copy);
}

void
llama_reduction_write(LlamaReduction *reduction, StringInfo out)
{
	land_all(reduction);
	pq_sendbyte(out, reduction->failed);
	pq_sendint32(out, reduction->n_levels);
	for (int level = 0; level < reduction->n_levels; level++)
	{
		write_ids(&reduction->runs[level].ids, out);
		write_ids(&reduction->runs[level].ends, out);
	}
}

void
llama_reduction_read(LlamaReduction *reduction, StringInfo in)
{
	MemoryContext old = MemoryContextSwitchTo(reduction->context);
	bool		failed = pq_getmsgbyte(in);
	int			n_levels = pq_getmsgint(in, 4);

	for (int level = 0; level < n_levels; level++)
	{
		Run		   *run = run_at(reduction, level);

		read_ids(&run->ids, in);
		read_ids(&run->ends, in);
	}
	MemoryContextSwitchTo(old);
	if (failed)
		fail(reduction);
}
