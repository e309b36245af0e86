/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The engine worker: takes requests from the queue and runs the engine.
 *
 * This is the one file of src/postgres in llama3_engine.so.  What it needs of
 * the server's side (shared memory, the queue, settings) is in llama3.so,
 * which is preloaded and whose symbols are global.
 *
 * The main thread is compute thread 0 and the only one that talks to
 * PostgreSQL.  Its loop: take what the engine can admit, run one step, hand
 * on what is done.  Inside a step the engine calls poll() every few
 * milliseconds; there interrupts are served (a worker that is connected must
 * answer ProcSignalBarriers, or DROP DATABASE would wait for it) and requests
 * that were given up are dropped.
 *
 * Equal requests that are in work at the same time are computed once.  The
 * first leads: the engine computes it.  The others follow: they take a place
 * and no memory, and get a copy of its outputs.  A leader that was given up
 * goes on as long as somebody follows.  Equal means the same answer by right
 * (l3_request_equal), and only within a database, so that nobody can tell by
 * the time it takes what another database asks.
 *
 * Clients that ask for one thing after another come back within a moment of
 * their answer.  So that they find the next step and not the one after it, a
 * step waits for them for a small part of the time that it takes.
 *
 * When the worker leaves, whatever the reason, before_shmem_exit stops the
 * compute threads before memory is unmapped under them, and puts the
 * running requests back into the queue.  Answers are pure functions of
 * request and weights, so whoever takes them up gives the same ones, and what
 * was streamed so far stays true.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <signal.h>
#include <sys/mman.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "shmem.h"

PG_MODULE_MAGIC;

/* A request that so many workers took and did not survive is given up. */
#define LLAMA_MAX_ATTEMPTS		8

/*
 * What a worker keeps from one backend for others that may come: places for
 * sequences and KV memory, as a fraction.  It keeps a single prompt from waiting
 * for the end of somebody's long answers, and costs the one backend the
 * throughput of as many rows.  Who finds no room is the next when a place is
 * free, since the backend that was served longest ago goes first.
 */
#define LLAMA_KEPT_PLACES		16	/* one of so many */
#define LLAMA_KEPT_MEMORY		8	/* one part of so many */

/*
 * How long a step waits for those who got answers to ask again: a part of the
 * last step's time, and not at all where that is below the millisecond that
 * WaitLatch counts in.  Where few come back in time, only now and then.
 */
#define LLAMA_RETURN_PART		50	/* one of so many */
#define LLAMA_RETURN_MAX_MS		10
#define LLAMA_RETURN_WEIGHT		0.1 /* of the last wait in the average of those who come */
#define LLAMA_RETURN_FEW		0.25
#define LLAMA_RETURN_TRIES		8	/* then one step of so many waits */

PGDLLEXPORT void llama3_engine_main(int number);

/* A model that this worker has mapped. */
typedef struct Attached
{
	uint64		generation;		/* 0: none */
	dsm_segment *weights_segment;	/* NULL: a mapped file */
	dsm_segment *tokenizer_segment;
	const void *weights;
	Size		weights_size;
	L3Model    *model;
	int			n_running;
} Attached;

/* A request in work. */
typedef struct Running
{
	LlamaSlot  *slot;			/* NULL: the place is free */
	Attached   *attached;
	L3Request	request;		/* points into the payload */
	struct Running *leader;		/* whose answer it gets; NULL: the engine computes it */
	int			n_followers;	/* that it leads */
	L3Sequence *sequence;
	bool		done;
	L3Result	result;			/* when done */
} Running;

typedef struct Worker
{
	int			number;			/* from 0 */
	LlamaWorker *shared;
	L3Engine   *engine;
	int			n_threads;		/* of the engine's, this one included */
	int			max_running;
	int			n_running;
	Running    *running;		/* (max_running) */
	Attached	attached[LLAMA_MAX_MODELS];
	double		return_ms;		/* how long the next step waits; 0: not, or no more */
	TimestampTz answered_at;	/* for whom the last step had answers, */
	int			n_answered;		/* so many, */
	int			n_asked;		/* of whom so many asked since */
	instr_time	waiting_since;	/* 0: not yet */
	double		returning;		/* of those answered, how many ask in time: an average */
	uint32		n_waits;
	L3EngineStats base;			/* counters of earlier lives */
	int			shown_running;	/* what pg_stat_activity says */
	uint64		shown_generation;
} Worker;

static Worker self;

/* ----------------------------------------------------------------
 *		Attaching models
 * ----------------------------------------------------------------
 */

static void
unmap(Attached *attached)
{
	if (attached->weights_segment != NULL)
		dsm_detach(attached->weights_segment);
	else if (attached->weights != NULL)
		(void) munmap(unconstify(void *, attached->weights), attached->weights_size);
	if (attached->tokenizer_segment != NULL)
		dsm_detach(attached->tokenizer_segment);
	memset(attached, 0, sizeof(*attached));
}

/* Tell unloaders that this worker has let go of the model. */
static void
clear_attached(int index)
{
	pg_atomic_fetch_and_u32(&llama_shared->models[index].attached,
							~((uint32) 1 << self.number));
	ConditionVariableBroadcast(&llama_shared->registry_changed);
}

static void
detach_model(int index)
{
	Attached   *attached = &self.attached[index];

	if (attached->model != NULL)
		l3_engine_detach(self.engine, attached->model);
	unmap(attached);
	clear_attached(index);
}

/* Attach a segment until it is detached, whatever resource owner there is. */
static dsm_segment *
attach_segment(dsm_handle handle, L3Error *err)
{
	dsm_segment *segment = dsm_attach(handle);

	if (segment == NULL)
		l3_error(err, L3_ERR_IO, "could not attach a model's shared memory");
	else
		dsm_pin_mapping(segment);
	return segment;
}

/* Map weights and tokenizer of an entry; the fields come from shared memory. */
static L3Status
map_model(Attached *attached, const char *cache_file, dsm_handle weights,
		  dsm_handle tokenizer, Size tokenizer_size, L3Error *err)
{
	const L3Arena *arena;
	const L3Tokenizer *tok;

	if (cache_file[0] != '\0')
		attached->weights = llama_cache_map(cache_file, attached->weights_size, err);
	else
	{
		attached->weights_segment = attach_segment(weights, err);
		if (attached->weights_segment != NULL)
			attached->weights = dsm_segment_address(attached->weights_segment);
	}
	if (attached->weights == NULL)
		return err->status;
	attached->tokenizer_segment = attach_segment(tokenizer, err);
	if (attached->tokenizer_segment == NULL)
		return err->status;

	arena = l3_arena_check(attached->weights, attached->weights_size, err);
	if (arena == NULL)
		return err->status;
	tok = l3_tokenizer_check(dsm_segment_address(attached->tokenizer_segment),
							 tokenizer_size, err);
	if (tok == NULL)
		return err->status;
	return l3_engine_attach(self.engine, arena, tok, &attached->model, err);
}

/*
 * The model of a request that this worker took; mapped now if it was not.
 * The request's pin keeps the entry in place.  NULL and *err on failure.
 */
static Attached *
attach_model(const LlamaSlot *slot, L3Error *err)
{
	LlamaModelEntry *entry = &llama_shared->models[slot->model];
	Attached   *attached = &self.attached[slot->model];
	char		cache_file[MAXPGPATH];
	dsm_handle	weights;
	dsm_handle	tokenizer;
	Size		tokenizer_size;

	if (attached->generation == slot->generation)
		return attached;
	if (attached->generation != 0)
		detach_model(slot->model);

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	pg_atomic_fetch_or_u32(&entry->attached, (uint32) 1 << self.number);
	strlcpy(cache_file, entry->cache_file, sizeof(cache_file));
	weights = entry->weights;
	tokenizer = entry->tokenizer;
	attached->weights_size = entry->weights_size;
	tokenizer_size = entry->tokenizer_size;
	LWLockRelease(llama_shared->registry_lock);

	if (map_model(attached, cache_file, weights, tokenizer, tokenizer_size, err) != L3_OK)
	{
		unmap(attached);
		clear_attached(slot->model);
		return NULL;
	}
	attached->generation = slot->generation;
	return attached;
}

/* Let go of models that nobody needs and somebody wants to unload. */
static void
detach_unloading(void)
{
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		LlamaModelEntry *entry = &llama_shared->models[i];
		bool		unloading;

		if (self.attached[i].generation == 0 || self.attached[i].n_running > 0)
			continue;
		LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
		unloading = entry->generation != self.attached[i].generation ||
			entry->state == LLAMA_MODEL_FREE ||
			(entry->state == LLAMA_MODEL_UNLOADING && pg_atomic_read_u32(&entry->pins) == 0);
		LWLockRelease(llama_shared->registry_lock);
		if (unloading)
			detach_model(i);
	}
}

/* ----------------------------------------------------------------
 *		Requests
 * ----------------------------------------------------------------
 */

static void publish_stats(void);
static void report_activity(void);

/* The engine computes the request no more. */
static void
leave_engine(Running *running)
{
	running->sequence = NULL;
	running->attached->n_running--;
	self.n_running--;
}

/* Hand the slot on; the place is free again. */
static void
finish(Running *running)
{
	llama_slot_finish(running->slot, &running->result);
	running->slot = NULL;
}

static LlamaPayload *
slot_payload(const LlamaSlot *slot)
{
	return dsa_get_address(llama_payloads(), slot->payload);
}

/* Publish how far a request is, and wake its backend if it waits for that. */
static void
publish(LlamaSlot *slot, const L3Result *result)
{
	pg_atomic_write_u32(&slot->n_prompt_done, result->n_prompt_done);
	pg_atomic_write_u32(&slot->n_cached, result->n_cached);

	/* A request computed for the second time catches up first. */
	if ((uint32) result->n_out > pg_atomic_read_u32(&slot->n_out))
	{
		/* First the tokens, then how many, then how many bytes are final. */
		pg_write_barrier();
		pg_atomic_write_u32(&slot->n_out, result->n_out);
	}
	if ((uint64) result->n_bytes > pg_atomic_read_u64(&slot->n_bytes))
	{
		pg_write_barrier();
		pg_atomic_write_u64(&slot->n_bytes, result->n_bytes);
		/* Pairs with llama_wait, which writes what it wants and then reads. */
		pg_memory_barrier();
		if ((uint64) result->n_bytes > pg_atomic_read_u64(&slot_payload(slot)->wanted_bytes))
			SetLatch(&ProcGlobal->allProcs[slot->proc_number].procLatch);
	}
}

/* The engine's event callback; called within a step. */
static void
on_event(void *user, L3Event event, const L3Result *result)
{
	Running    *running = user;

	if (event == L3_EVENT_PROGRESS)
		publish(running->slot, result);
	else
	{
		/* Handed on after the step: here the engine is in the midst of it. */
		running->done = true;
		running->result = *result;
		running->sequence = NULL;
	}
}

/* Drop what backends have given up and nobody else waits for. */
static void
drop_abandoned(void)
{
	for (int i = 0; i < self.max_running; i++)
	{
		Running    *running = &self.running[i];

		if (running->slot == NULL || pg_atomic_read_u32(&running->slot->abandoned) == 0 ||
			running->n_followers > 0)
			continue;
		if (running->leader != NULL)
			running->leader->n_followers--;
		else if (running->sequence != NULL)
			l3_engine_cancel(self.engine, running->sequence);
		leave_engine(running);
		finish(running);
	}
}

/* A follower has what its leader has. */
static void
copy_answer(Running *follower)
{
	Running    *leader = follower->leader;
	const L3Request *from = &leader->request;
	const L3Request *to = &follower->request;

	follower->result = leader->result;
	/* nothing was computed for it */
	follower->result.n_cached = follower->result.n_prompt_done;
	if (leader->result.status == L3_OK)
	{
		switch (from->kind)
		{
			case L3_REQ_GENERATE:
				memcpy(to->out_tokens, from->out_tokens, sizeof(int32) * leader->result.n_out);
				break;
			case L3_REQ_SCORE:
				memcpy(to->out_logprobs, from->out_logprobs, sizeof(double) * from->n_labels);
				break;
			case L3_REQ_EMBED:
				memcpy(to->out_embedding, from->out_embedding,
					   sizeof(float) * slot_payload(leader->slot)->n_embd);
				break;
			case L3_REQ_LOGPROBS:
				memcpy(to->out_logprobs, from->out_logprobs,
					   sizeof(double) * (from->n_tokens - from->first_scored));
				break;
		}
	}
	follower->done = true;
	follower->leader = NULL;
	leader->n_followers--;
}

/*
 * Hand on what the last step finished, and say how many.  The views are brought
 * up to date first: who has his answer does not find the worker still at it.
 */
static int
finish_done(void)
{
	int			n = 0;

	for (int i = 0; i < self.max_running; i++)
	{
		Running    *running = &self.running[i];

		if (running->slot != NULL && running->leader != NULL && running->leader->done)
			copy_answer(running);
	}
	for (int i = 0; i < self.max_running; i++)
	{
		Running    *running = &self.running[i];

		if (running->slot == NULL || !running->done)
			continue;
		publish(running->slot, &running->result);
		leave_engine(running);
		n++;
	}
	publish_stats();
	if (n == 0)
		return 0;
	report_activity();
	for (int i = 0; i < self.max_running; i++)
	{
		if (self.running[i].slot != NULL && self.running[i].done)
			finish(&self.running[i]);
	}
	return n;
}

/* The engine's poll callback: between the phases of a step. */
static void
poll_interrupts(void *ctx)
{
	CHECK_FOR_INTERRUPTS();
	if (!PostmasterIsAlive())
		proc_exit(1);
	drop_abandoned();
}

/* ----------------------------------------------------------------
 *		Those who come back
 * ----------------------------------------------------------------
 */

/* A step of so many milliseconds, which ended then, gave n answers. */
static void
expect_return(int n, TimestampTz ended, double step_ms)
{
	double		wait_ms = Min(step_ms / LLAMA_RETURN_PART, LLAMA_RETURN_MAX_MS);

	self.return_ms = 0;
	if (n == 0 || wait_ms < 1 ||
		(self.returning < LLAMA_RETURN_FEW && self.n_waits++ % LLAMA_RETURN_TRIES != 0))
		return;
	self.return_ms = wait_ms;
	self.answered_at = ended;
	self.n_answered = n;
	self.n_asked = 0;
	INSTR_TIME_SET_ZERO(self.waiting_since);
}

static bool
some_queued(void)
{
	bool		some;

	LWLockAcquire(llama_shared->queue_lock, LW_SHARED);
	some = !dlist_is_empty(&llama_shared->queue);
	LWLockRelease(llama_shared->queue_lock);
	return some;
}

/*
 * When all is taken that can be: wait for one who got an answer.  False when all
 * came, when more would not be taken, or when the time is over.
 */
static bool
wait_for_return(void)
{
	instr_time	waited;
	long		left;

	if (self.return_ms == 0)
		return false;
	INSTR_TIME_SET_CURRENT(waited);
	if (INSTR_TIME_IS_ZERO(self.waiting_since))
		self.waiting_since = waited;
	INSTR_TIME_SUBTRACT(waited, self.waiting_since);
	left = (long) ceil(self.return_ms - INSTR_TIME_GET_MILLISEC(waited));
	if (self.n_running == self.max_running || some_queued())
		self.return_ms = 0;
	else if (left <= 0 || self.n_asked >= self.n_answered)
	{
		double		part = (double) Min(self.n_asked, self.n_answered) / self.n_answered;

		self.returning += LLAMA_RETURN_WEIGHT * (part - self.returning);
		self.return_ms = 0;
	}
	if (self.return_ms == 0)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
					 PG_WAIT_EXTENSION);
	return true;
}

/* ----------------------------------------------------------------
 *		Taking requests
 * ----------------------------------------------------------------
 */

static int
running_of(int fair_number)
{
	int			n = 0;

	for (int i = 0; i < self.max_running; i++)
		n += self.running[i].slot != NULL && self.running[i].slot->fair_number == fair_number;
	return n;
}

/* May this backend have another request in work here? */
static bool
within_share(const LlamaSlot *slot, void *ctx)
{
	const L3EngineStats *stats = ctx;
	int			n = running_of(slot->fair_number);
	int			kept_places = Max(self.max_running / LLAMA_KEPT_PLACES, 1);
	uint64		kept_bytes = stats->kv_bytes_limit / LLAMA_KEPT_MEMORY;

	if (n == 0)
		return true;
	return n < self.max_running - kept_places &&
		stats->kv_bytes_used < stats->kv_bytes_limit - kept_bytes;
}

static void
fail_slot(LlamaSlot *slot, const L3Error *err)
{
	L3Result	result;

	memset(&result, 0, sizeof(result));
	result.error = *err;
	result.status = err->status != L3_OK ? err->status : L3_ERR_MEMORY;
	result.error.status = result.status;
	if (result.error.message[0] == '\0')
		strlcpy(result.error.message, "the request does not fit into the engine's memory",
				sizeof(result.error.message));
	llama_slot_finish(slot, &result);
}

/* Can the engine take the request at once?  Its model is attached. */
static bool
admissible(const LlamaSlot *slot, const Attached *attached, bool *never, L3Error *err)
{
	L3Request	request;

	memset(err, 0, sizeof(*err));
	*never = false;
	llama_payload_request(slot_payload(slot), &request);
	return l3_engine_can_admit(self.engine, attached->model, &request, never, err);
}

/* The request in work that this one can follow, or NULL. */
static Running *
find_leader(const LlamaSlot *slot, const Attached *attached)
{
	L3Request	request;

	if (!slot->shareable)
		return NULL;
	llama_payload_request(slot_payload(slot), &request);
	for (int i = 0; i < self.max_running; i++)
	{
		Running    *running = &self.running[i];

		if (running->slot != NULL && running->slot->shareable && running->leader == NULL &&
			running->attached == attached && !running->done &&
			l3_request_equal(&running->request, &request))
			return running;
	}
	return NULL;
}

/* Put a taken request to work: behind its leader, or else into the engine, which can admit it. */
static void
start_request(LlamaSlot *slot, Attached *attached, Running *leader)
{
	Running    *running = self.running;
	L3Error		err;

	while (running->slot != NULL)
		running++;
	memset(running, 0, sizeof(*running));
	llama_payload_request(slot_payload(slot), &running->request);
	running->leader = leader;
	if (leader != NULL)
		leader->n_followers++;
	else if (l3_engine_submit(self.engine, attached->model, &running->request,
							  on_event, running, &running->sequence, &err) != L3_OK)
	{
		fail_slot(slot, &err);
		return;
	}
	running->slot = slot;
	running->attached = attached;
	attached->n_running++;
	self.n_running++;
}

/*
 * Take the request whose turn it is.  False when there is none, or when it
 * has to wait for others to end: no later one overtakes it, or a long prompt
 * would never find room.
 */
static bool
take_one(void)
{
	L3EngineStats stats;
	LlamaSlot  *slot;
	Attached   *attached;
	Running    *leader = NULL;
	bool		never = false;
	bool		admit = true;
	L3Error		err;

	l3_engine_stats(self.engine, &stats);
	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	slot = llama_queue_next(within_share, &stats);
	if (slot != NULL)
	{
		attached = &self.attached[slot->model];
		if (attached->generation == slot->generation)
		{
			leader = find_leader(slot, attached);
			if (leader == NULL)
				admit = admissible(slot, attached, &never, &err);
		}
		if (admit || never)
			llama_slot_take(slot, self.number);
		else
			slot = NULL;
	}
	LWLockRelease(llama_shared->queue_lock);
	if (slot == NULL)
		return false;

	if (slot->attempts >= LLAMA_MAX_ATTEMPTS)
	{
		memset(&err, 0, sizeof(err));
		l3_error(&err, L3_ERR_LIMIT, "the engine failed %d times while answering this request",
				 slot->attempts);
		never = true;
	}
	else if (!never && attached->generation != slot->generation)
	{
		/* The first request to a model maps it, which is not done under a lock. */
		attached = attach_model(slot, &err);
		if (attached == NULL)
			never = true;
		else if (!admissible(slot, attached, &never, &err) && !never)
		{
			llama_slot_requeue(slot, false);
			return false;
		}
	}
	if (never)
		fail_slot(slot, &err);
	else
		start_request(slot, attached, leader);
	if (slot->submitted >= self.answered_at)
		self.n_asked++;
	return true;
}

/* ----------------------------------------------------------------
 *		What others see
 * ----------------------------------------------------------------
 */

static void
publish_stats(void)
{
	LlamaWorker *shared = self.shared;
	const L3EngineStats *base = &self.base;
	L3EngineStats stats;

	l3_engine_stats(self.engine, &stats);
	pg_atomic_write_u64(&shared->n_steps, base->n_steps + stats.n_steps);
	pg_atomic_write_u64(&shared->n_prefill, base->n_prefill_tokens + stats.n_prefill_tokens);
	pg_atomic_write_u64(&shared->n_decode, base->n_decode_tokens + stats.n_decode_tokens);
	pg_atomic_write_u64(&shared->n_cached, base->n_cached_tokens + stats.n_cached_tokens);
	pg_atomic_write_u64(&shared->n_drafted, base->n_drafted_tokens + stats.n_drafted_tokens);
	pg_atomic_write_u64(&shared->n_accepted, base->n_accepted_tokens + stats.n_accepted_tokens);
	pg_atomic_write_u64(&shared->busy_usec,
						(uint64) ((base->busy_seconds + stats.busy_seconds) * USECS_PER_SEC));
	pg_atomic_write_u64(&shared->prefill_usec,
						(uint64) ((base->prefill_seconds + stats.prefill_seconds) * USECS_PER_SEC));
	pg_atomic_write_u64(&shared->kv_used, stats.kv_bytes_used);
	pg_atomic_write_u64(&shared->kv_cached, stats.kv_bytes_cached);
	pg_atomic_write_u64(&shared->kv_limit, stats.kv_bytes_limit);
	pg_atomic_write_u32(&shared->n_running, self.n_running);
}

/* The counters go on where the worker's last life ended. */
static void
read_base(void)
{
	LlamaWorker *shared = self.shared;

	self.base.n_steps = pg_atomic_read_u64(&shared->n_steps);
	self.base.n_prefill_tokens = pg_atomic_read_u64(&shared->n_prefill);
	self.base.n_decode_tokens = pg_atomic_read_u64(&shared->n_decode);
	self.base.n_cached_tokens = pg_atomic_read_u64(&shared->n_cached);
	self.base.n_drafted_tokens = pg_atomic_read_u64(&shared->n_drafted);
	self.base.n_accepted_tokens = pg_atomic_read_u64(&shared->n_accepted);
	self.base.busy_seconds = (double) pg_atomic_read_u64(&shared->busy_usec) / USECS_PER_SEC;
	self.base.prefill_seconds = (double) pg_atomic_read_u64(&shared->prefill_usec) / USECS_PER_SEC;
}

/* Say in pg_stat_activity what is being served, when that has changed. */
static void
report_activity(void)
{
	uint64		generation = 0;
	int			index = 0;
	char		activity[NAMEDATALEN + 64];

	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		if (self.attached[i].n_running > 0)
		{
			index = i;
			generation = self.attached[i].generation;
		}
	}
	if (self.n_running == self.shown_running && generation == self.shown_generation)
		return;
	self.shown_running = self.n_running;
	self.shown_generation = generation;
	if (self.n_running == 0)
	{
		snprintf(activity, sizeof(activity), "llama3 engine %d: idle", self.number + 1);
		pgstat_report_activity(STATE_IDLE, activity);
		return;
	}
	/* A request's pin keeps the name in place. */
	snprintf(activity, sizeof(activity), "llama3 engine %d: serving %s, %d request%s",
			 self.number + 1, llama_shared->models[index].name,
			 self.n_running, self.n_running == 1 ? "" : "s");
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
set_alive(bool alive)
{
	LlamaWorker *shared = self.shared;

	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	/* One that never got to work was not alive: its callers wait in vain. */
	if (alive || shared->pid != 0)
		llama_shared->workers_seen = GetCurrentTimestamp();
	shared->pid = alive ? MyProcPid : 0;
	shared->proc_number = llama_proc_number(MyProc);
	if (alive)
	{
		shared->threads = self.n_threads;
		strlcpy(shared->cpu, l3_engine_cpu(self.engine), sizeof(shared->cpu));
		shared->starts++;
		shared->started_at = llama_shared->workers_seen;
		llama_shared->worker_error[0] = '\0';
	}
	LWLockRelease(llama_shared->queue_lock);
}

/* ----------------------------------------------------------------
 *		Beginning and end
 * ----------------------------------------------------------------
 */

/* before_shmem_exit: see the top of the file. */
static void
leave(int code, Datum arg)
{
	if (self.engine != NULL)
		l3_engine_destroy(self.engine);
	self.engine = NULL;

	/* The oldest last, so that it stands first in the queue. */
	for (int i = self.max_running - 1; i >= 0; i--)
	{
		Running    *running = &self.running[i];

		if (running->slot == NULL)
			continue;
		if (running->done)
			llama_slot_finish(running->slot, &running->result);
		else
			llama_slot_requeue(running->slot, true);
		running->slot = NULL;
	}
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		if (self.attached[i].generation != 0)
		{
			unmap(&self.attached[i]);
			clear_attached(i);
		}
	}
	pg_atomic_write_u32(&self.shared->n_running, 0);
	pg_atomic_write_u64(&self.shared->kv_used, 0);
	pg_atomic_write_u64(&self.shared->kv_cached, 0);
	set_alive(false);
	llama_wake_workers();
}

static void
start_engine(void)
{
	L3EngineOptions options;
	L3Error		err;

	llama_engine_options(&options);
	options.poll = poll_interrupts;
	options.worker = self.number;
	self.n_threads = options.n_threads;
	self.max_running = options.max_sequences;
	self.running = MemoryContextAllocZero(TopMemoryContext,
										  self.max_running * sizeof(Running));
	if (l3_engine_create(&options, &self.engine, &err) != L3_OK)
	{
		/* Callers that wait for a worker are told. */
		LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
		strlcpy(llama_shared->worker_error, err.message, sizeof(llama_shared->worker_error));
		LWLockRelease(llama_shared->queue_lock);
		llama_raise(&err);
	}
	if (l3_engine_placement(self.engine)[0] != '\0')
		ereport(LOG, (errmsg("llama3 engine %d: %s", self.number + 1,
							 l3_engine_placement(self.engine))));
}

static void
idle(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, PG_WAIT_EXTENSION);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Never returns: 0 as exit status would switch the worker off for good. */
void
llama3_engine_main(int number)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* There is no statement to cancel. */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	self.number = number;
	self.shared = &llama_shared->workers[number];
	/* Attached first, so that it is let go of last. */
	(void) llama_payloads();
	read_base();
	before_shmem_exit(leave, 0);
	start_engine();
	set_alive(true);
	publish_stats();
	self.shown_running = -1;
	self.returning = 1;

	for (;;)
	{
		instr_time	start;
		instr_time	end;
		TimestampTz ended;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		while (self.n_running < self.max_running && take_one())
			 /* until nothing is left or admissible */ ;
		detach_unloading();
		report_activity();
		if (self.n_running == 0)
		{
			publish_stats();
			idle();
			continue;
		}
		if (wait_for_return())
			continue;
		INSTR_TIME_SET_CURRENT(start);
		(void) l3_engine_step(self.engine);
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);
		ended = GetCurrentTimestamp();
		drop_abandoned();
		expect_return(finish_done(), ended, INSTR_TIME_GET_MILLISEC(end));
	}
}
