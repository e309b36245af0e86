/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The request slots: taking, queueing, serving in turn, freeing.
 *
 * llama3.h says who owns a slot's payload in each state.  Every change of
 * state is made here, under queue_lock; state itself is an atomic so that a
 * backend can look at its own slot without the lock.
 *
 * Two lines form, and both are fair:
 *	- backends that find no free slot stand in "waiters" and take slots in the
 *	  order they came.  A freed slot wakes the first of them;
 *	- queued requests are taken in turn of their backends, the one served
 *	  longest ago first, so that one backend's thousand rows do not keep
 *	  another's single prompt waiting.  Parallel workers share their leader's
 *	  turn.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "shmem.h"

int64		llama_slot_wait_usec = 0;

/* How long everybody waits for a dead worker to come back, ms. */
#define LLAMA_WORKER_GRACE_MS	30000
/* How often a waiting process looks whether a worker is alive, ms. */
#define LLAMA_LIVENESS_MS		1000

/* ----------------------------------------------------------------
 *		Payloads
 * ----------------------------------------------------------------
 */

/* Reserve n elements of the given size; false when the sum overflows. */
static bool
reserve(Size *end, Size n, Size element, Size *place)
{
	*place = *end;
	if (n > (MaxAllocHugeSize / 4) / element)
		return false;
	*end += MAXALIGN(n * element);
	return *end <= MaxAllocHugeSize / 2;
}

Size
llama_payload_layout(const L3Request *request, int32 n_embd, LlamaPayload *payload)
{
	Size		end = MAXALIGN(sizeof(LlamaPayload));
	bool		fits;

	memset(payload, 0, sizeof(*payload));
	payload->request = *request;
	payload->n_embd = n_embd;
	fits = reserve(&end, request->n_tokens, sizeof(int32), &payload->tokens);

	switch (request->kind)
	{
		case L3_REQ_GENERATE:
			{
				Size		stop_bytes = 0;

				for (int i = 0; i < request->n_stops; i++)
					stop_bytes += request->stop_len[i];
				fits = fits &&
					reserve(&end, stop_bytes, 1, &payload->stop) &&
					reserve(&end, request->n_stops, sizeof(int32), &payload->stop_len) &&
					(request->grammar == NULL ||
					 reserve(&end, request->grammar_size, 1, &payload->grammar)) &&
					reserve(&end, request->max_tokens, sizeof(int32), &payload->out_tokens);
				break;
			}
		case L3_REQ_SCORE:
			{
				Size		n_path_tokens = request->n_labels > 0 ?
				request->label_end[request->n_labels - 1] : 0;

				fits = fits &&
					reserve(&end, n_path_tokens, sizeof(int32), &payload->label_tokens) &&
					reserve(&end, request->n_labels, sizeof(int32), &payload->label_end) &&
					reserve(&end, request->n_labels, sizeof(double), &payload->out_logprobs);
				break;
			}
		case L3_REQ_EMBED:
			fits = fits && reserve(&end, n_embd, sizeof(float), &payload->out_embedding);
			break;
		case L3_REQ_LOGPROBS:
			fits = fits && reserve(&end, request->n_tokens - request->first_scored,
								   sizeof(double), &payload->out_logprobs);
			break;
	}
	payload->size = end;
	return fits ? end : 0;
}

/* Pointer to a place in the payload, NULL where there is none. */
static void *
at(LlamaPayload *payload, Size place)
{
	return place == 0 ? NULL : (char *) payload + place;
}

void
llama_payload_request(LlamaPayload *payload, L3Request *request)
{
	*request = payload->request;
	request->tokens = at(payload, payload->tokens);
	request->stop = at(payload, payload->stop);
	request->stop_len = at(payload, payload->stop_len);
	request->grammar = at(payload, payload->grammar);
	request->label_tokens = at(payload, payload->label_tokens);
	request->label_end = at(payload, payload->label_end);
	request->out_tokens = at(payload, payload->out_tokens);
	request->out_logprobs = at(payload, payload->out_logprobs);
	request->out_embedding = at(payload, payload->out_embedding);
}

bool
llama_payload_done(dsa_pointer pointer)
{
	LlamaPayload *payload = dsa_get_address(llama_payloads(), pointer);
	bool		done = pg_atomic_read_u32(&payload->done) != 0;

	/* Pairs with the barriers in llama_slot_finish. */
	pg_read_barrier();
	return done;
}

/* ----------------------------------------------------------------
 *		Free slots and the line before them
 * ----------------------------------------------------------------
 */

static void
set_state(LlamaSlot *slot, LlamaSlotState state)
{
	/* What was written before must be seen by who sees the state. */
	pg_write_barrier();
	pg_atomic_write_u32(&slot->state, state);
}

static void
wake(int proc_number)
{
	SetLatch(&ProcGlobal->allProcs[proc_number].procLatch);
}

/* Wake the first waiter if there is a slot for it.  Hold queue_lock. */
static void
wake_first_waiter(void)
{
	if (!dlist_is_empty(&llama_shared->waiters) &&
		!dlist_is_empty(&llama_shared->free_slots))
	{
		LlamaBackend *first = dlist_head_element(LlamaBackend, node, &llama_shared->waiters);

		wake(first - llama_shared->backends);
	}
}

void
llama_payload_free(dsa_pointer pointer)
{
	LlamaPayload *payload = dsa_get_address(llama_payloads(), pointer);

	pg_atomic_fetch_sub_u64(&llama_shared->payload_bytes, payload->size);
	dsa_free(llama_payloads(), pointer);
}

/* Free payload, pin and slot.  Hold queue_lock; the slot is in no list. */
static void
free_slot(LlamaSlot *slot)
{
	if (DsaPointerIsValid(slot->payload))
		llama_payload_free(slot->payload);
	slot->payload = InvalidDsaPointer;
	if (slot->generation != 0)
	{
		llama_model_unpin(slot->model);
		slot->generation = 0;
	}
	slot->pid = 0;
	set_state(slot, LLAMA_SLOT_FREE);
	dlist_push_tail(&llama_shared->free_slots, &slot->node);
	wake_first_waiter();
}

/* Take the first free slot if it is this process's turn.  Hold queue_lock. */
static LlamaSlot *
try_acquire(LlamaBackend *self)
{
	LlamaSlot  *slot;
	PGPROC	   *leader = MyProc->lockGroupLeader ? MyProc->lockGroupLeader : MyProc;

	if (dlist_is_empty(&llama_shared->free_slots))
		return NULL;
	if (!dlist_is_empty(&llama_shared->waiters) &&
		dlist_head_element(LlamaBackend, node, &llama_shared->waiters) != self)
		return NULL;
	if (self->waiting)
	{
		dlist_delete(&self->node);
		self->waiting = false;
	}

	slot = dlist_container(LlamaSlot, node, dlist_pop_head_node(&llama_shared->free_slots));
	slot->pid = MyProcPid;
	slot->proc_number = llama_proc_number(MyProc);
	slot->fair_number = llama_proc_number(leader);
	slot->generation = 0;
	slot->payload = InvalidDsaPointer;
	slot->attempts = 0;
	slot->started = 0;
	slot->n_tokens = 0;
	pg_atomic_write_u32(&slot->abandoned, 0);
	pg_atomic_write_u64(&slot->n_bytes, 0);
	pg_atomic_write_u32(&slot->n_out, 0);
	pg_atomic_write_u32(&slot->n_prompt_done, 0);
	pg_atomic_write_u32(&slot->n_cached, 0);
	set_state(slot, LLAMA_SLOT_FILLING);

	/* Two slots may have been freed for one wake-up. */
	wake_first_waiter();
	return slot;
}

void
llama_slot_stop_waiting(void)
{
	LlamaBackend *self = &llama_shared->backends[llama_proc_number(MyProc)];

	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	if (self->waiting)
	{
		dlist_delete(&self->node);
		self->waiting = false;
		/* The wake-up that this process will not use goes on. */
		wake_first_waiter();
	}
	LWLockRelease(llama_shared->queue_lock);
}

LlamaSlot *
llama_slot_acquire(void)
{
	static uint32 wait_event = 0;
	LlamaBackend *self = &llama_shared->backends[llama_proc_number(MyProc)];
	LlamaSlot  *slot;
	instr_time	start;
	instr_time	waited;

	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	slot = try_acquire(self);
	LWLockRelease(llama_shared->queue_lock);
	if (slot != NULL)
		return slot;

	if (wait_event == 0)
		wait_event = llama_wait_event("Llama3Slot");
	INSTR_TIME_SET_CURRENT(start);
	PG_TRY();
	{
		for (;;)
		{
			ResetLatch(MyLatch);
			LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
			slot = try_acquire(self);
			if (slot == NULL && !self->waiting)
			{
				dlist_push_tail(&llama_shared->waiters, &self->node);
				self->waiting = true;
			}
			LWLockRelease(llama_shared->queue_lock);
			if (slot != NULL)
				break;
			llama_require_workers();
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 LLAMA_LIVENESS_MS, wait_event);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_CATCH();
	{
		llama_slot_stop_waiting();
		PG_RE_THROW();
	}
	PG_END_TRY();
	INSTR_TIME_SET_CURRENT(waited);
	INSTR_TIME_SUBTRACT(waited, start);
	llama_slot_wait_usec += INSTR_TIME_GET_MICROSEC(waited);
	return slot;
}

/* ----------------------------------------------------------------
 *		The backend's side
 * ----------------------------------------------------------------
 */

void
llama_slot_enqueue(LlamaSlot *slot)
{
	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	set_state(slot, LLAMA_SLOT_QUEUED);
	dlist_push_tail(&llama_shared->queue, &slot->node);
	LWLockRelease(llama_shared->queue_lock);
	llama_wake_workers();
}

void
llama_slot_release(LlamaSlot *slot, dsa_pointer payload)
{
	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	if (DsaPointerIsValid(payload) && llama_payload_done(payload))
	{
		LWLockRelease(llama_shared->queue_lock);
		llama_payload_free(payload);
		return;
	}
	switch ((LlamaSlotState) pg_atomic_read_u32(&slot->state))
	{
		case LLAMA_SLOT_RUNNING:
			/* The worker frees it, at the latest after the step's next phase. */
			pg_atomic_write_u32(&slot->abandoned, 1);
			pg_atomic_fetch_add_u64(&llama_shared->n_cancelled, 1);
			break;
		case LLAMA_SLOT_QUEUED:
			dlist_delete(&slot->node);
			pg_atomic_fetch_add_u64(&llama_shared->n_cancelled, 1);
			free_slot(slot);
			break;
		case LLAMA_SLOT_FILLING:
			free_slot(slot);
			break;
		case LLAMA_SLOT_FREE:
			break;
	}
	LWLockRelease(llama_shared->queue_lock);
}

/* ----------------------------------------------------------------
 *		The worker's side
 * ----------------------------------------------------------------
 */

LlamaSlot *
llama_queue_next(bool (*allowed) (const LlamaSlot *slot, void *ctx), void *ctx)
{
	LlamaSlot  *best = NULL;
	uint64		best_served = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &llama_shared->queue)
	{
		LlamaSlot  *slot = dlist_container(LlamaSlot, node, iter.cur);
		uint64		served = llama_shared->backends[slot->fair_number].last_served;

		/* The first of a backend is its oldest. */
		if ((best == NULL || served < best_served) && allowed(slot, ctx))
		{
			best = slot;
			best_served = served;
		}
	}
	return best;
}

void
llama_slot_take(LlamaSlot *slot, int worker)
{
	dlist_delete(&slot->node);
	llama_shared->backends[slot->fair_number].last_served = ++llama_shared->last_ticket;
	slot->worker = worker;
	if (slot->started == 0)
		slot->started = GetCurrentTimestamp();
	set_state(slot, LLAMA_SLOT_RUNNING);
}

void
llama_slot_finish(LlamaSlot *slot, const L3Result *result)
{
	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&slot->state) == LLAMA_SLOT_QUEUED)
		dlist_delete(&slot->node);
	if (pg_atomic_read_u32(&slot->abandoned))
		free_slot(slot);
	else
	{
		LlamaPayload *payload = dsa_get_address(llama_payloads(), slot->payload);
		int			proc_number = slot->proc_number;

		payload->result = *result;
		pg_atomic_fetch_add_u64(result->status == L3_OK ? &llama_shared->n_done :
								&llama_shared->n_failed, 1);
		slot->payload = InvalidDsaPointer;
		/* The result before the mark, and the mark before the slot is reused. */
		pg_write_barrier();
		pg_atomic_write_u32(&payload->done, 1);
		pg_write_barrier();
		free_slot(slot);
		wake(proc_number);
	}
	LWLockRelease(llama_shared->queue_lock);
}

void
llama_slot_requeue(LlamaSlot *slot, bool failed)
{
	LWLockAcquire(llama_shared->queue_lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&slot->abandoned))
		free_slot(slot);
	else
	{
		slot->attempts += failed;
		dlist_push_head(&llama_shared->queue, &slot->node);
		set_state(slot, LLAMA_SLOT_QUEUED);
	}
	LWLockRelease(llama_shared->queue_lock);
}

void
llama_wake_workers(void)
{
	for (int i = 0; i < llama_shared->n_workers; i++)
	{
		LlamaWorker *worker = &llama_shared->workers[i];

		/* A latch set in vain does no harm. */
		if (worker->pid != 0)
			wake(worker->proc_number);
	}
}

/* ----------------------------------------------------------------
 *		Is anybody there?
 * ----------------------------------------------------------------
 */

void
llama_require_workers(void)
{
	bool		alive = false;
	TimestampTz seen;
	char		reason[sizeof(llama_shared->worker_error)];

	LWLockAcquire(llama_shared->queue_lock, LW_SHARED);
	for (int i = 0; i < llama_shared->n_workers; i++)
		alive |= llama_shared->workers[i].pid != 0;
	seen = llama_shared->workers_seen;
	strlcpy(reason, llama_shared->worker_error, sizeof(reason));
	LWLockRelease(llama_shared->queue_lock);

	if (!alive &&
		TimestampDifferenceExceeds(seen, GetCurrentTimestamp(), LLAMA_WORKER_GRACE_MS))
		ereport(ERROR,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("no llama3 engine worker is running"),
				 reason[0] != '\0' ? errdetail("The last one said: %s", reason) : 0,
				 errhint("Look in the server log for why it could not start.")));
}

void
llama_require_loader(void)
{
	int			pid;
	TimestampTz seen;

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	pid = llama_shared->loader_pid;
	seen = llama_shared->loader_seen;
	LWLockRelease(llama_shared->registry_lock);

	if (pid == 0 &&
		TimestampDifferenceExceeds(seen, GetCurrentTimestamp(), LLAMA_WORKER_GRACE_MS))
		ereport(ERROR,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("the llama3 model loader is not running"),
				 errhint("Look in the server log for why it could not start; max_worker_processes may be too small.")));
}
