/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Setting up llama3's shared memory.
 *
 * One allocation in the main segment holds LlamaShared, the backends' entries
 * (two kinds), the slots and the first part of the payloads' DSA area.  Its size is a
 * function of PGC_POSTMASTER settings alone, as ShmemInitStruct demands.  The
 * area lives in place because the postmaster may not create dynamic shared
 * memory; it grows into segments of its own when the first part is full, and
 * shrinks again.
 *
 * After the crash of a backend the postmaster sets everything up anew: no
 * slot, model or segment survives (the server removes pinned segments
 * itself), and the loader reads llama3.models again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "progress.h"
#include "result_cache.h"
#include "shmem.h"

#define LLAMA_TRANCHE			"llama3"
#define LLAMA_N_LOCKS			3

/* First part of the payloads' area: a common request needs a few kB. */
#define LLAMA_PAYLOAD_MIN_BYTES		((Size) 1024 * 1024)
#define LLAMA_PAYLOAD_BYTES_PER_SLOT ((Size) 8 * 1024)

LlamaShared *llama_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
static dsa_area *payload_area = NULL;

/* Processes that can ask have the first MaxBackends numbers. */
static Size
backends_size(void)
{
	return MAXALIGN(mul_size(MaxBackends, sizeof(LlamaBackend)));
}

static Size
slots_size(void)
{
	return MAXALIGN(mul_size(llama3_queue_size, sizeof(LlamaSlot)));
}

static Size
payloads_size(void)
{
	Size		size = mul_size(llama3_queue_size, LLAMA_PAYLOAD_BYTES_PER_SLOT);

	return MAXALIGN(Max(size, LLAMA_PAYLOAD_MIN_BYTES));
}

static Size
shared_size(void)
{
	Size		size = MAXALIGN(sizeof(LlamaShared));

	size = add_size(size, backends_size());
	size = add_size(size, llama_progress_size());
	size = add_size(size, slots_size());
	return add_size(size, payloads_size());
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(LLAMA_TRANCHE, LLAMA_N_LOCKS);
	llama_result_cache_request();
}

static void
init_models(LlamaShared *shared)
{
	ConditionVariableInit(&shared->registry_changed);
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		LlamaModelEntry *entry = &shared->models[i];

		pg_atomic_init_u64(&entry->progress_done, 0);
		pg_atomic_init_u64(&entry->progress_total, 0);
		pg_atomic_init_u32(&entry->pins, 0);
		pg_atomic_init_u32(&entry->attached, 0);
	}
}

static void
init_queue(LlamaShared *shared)
{
	dlist_init(&shared->free_slots);
	dlist_init(&shared->queue);
	dlist_init(&shared->waiters);
	for (int i = 0; i < shared->n_slots; i++)
	{
		LlamaSlot  *slot = &shared->slots[i];

		pg_atomic_init_u32(&slot->state, LLAMA_SLOT_FREE);
		pg_atomic_init_u32(&slot->abandoned, 0);
		pg_atomic_init_u64(&slot->n_bytes, 0);
		pg_atomic_init_u32(&slot->n_out, 0);
		pg_atomic_init_u32(&slot->n_prompt_done, 0);
		pg_atomic_init_u32(&slot->n_cached, 0);
		dlist_push_tail(&shared->free_slots, &slot->node);
	}
}

static void
init_workers(LlamaShared *shared)
{
	for (int i = 0; i < LLAMA_MAX_WORKERS; i++)
	{
		LlamaWorker *worker = &shared->workers[i];

		pg_atomic_init_u64(&worker->n_steps, 0);
		pg_atomic_init_u64(&worker->n_prefill, 0);
		pg_atomic_init_u64(&worker->n_decode, 0);
		pg_atomic_init_u64(&worker->n_cached, 0);
		pg_atomic_init_u64(&worker->n_drafted, 0);
		pg_atomic_init_u64(&worker->n_accepted, 0);
		pg_atomic_init_u64(&worker->busy_usec, 0);
		pg_atomic_init_u64(&worker->prefill_usec, 0);
		pg_atomic_init_u64(&worker->kv_used, 0);
		pg_atomic_init_u64(&worker->kv_cached, 0);
		pg_atomic_init_u64(&worker->kv_limit, 0);
		pg_atomic_init_u32(&worker->n_running, 0);
	}
	pg_atomic_init_u64(&shared->n_done, 0);
	pg_atomic_init_u64(&shared->n_failed, 0);
	pg_atomic_init_u64(&shared->n_cancelled, 0);
	pg_atomic_init_u64(&shared->payload_bytes, 0);
}

/* As StatsShmemInit: the postmaster creates the area and lets go of it. */
static void
init_payloads(LlamaShared *shared)
{
	dsa_area   *area = dsa_create_in_place(shared->payloads, payloads_size(),
										   shared->queue_lock->tranche, NULL);

	dsa_pin(area);
	dsa_detach(area);
}

static void
startup_shmem(void)
{
	bool		found;
	char	   *place;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	place = ShmemInitStruct("llama3", shared_size(), &found);
	llama_shared = (LlamaShared *) place;
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche(LLAMA_TRANCHE);
		LlamaShared *shared = llama_shared;

		memset(place, 0, shared_size() - payloads_size());
		shared->registry_lock = &locks[0].lock;
		shared->queue_lock = &locks[1].lock;
		shared->jobs_lock = &locks[2].lock;
		shared->n_slots = llama3_queue_size;
		shared->n_backends = MaxBackends;
		shared->n_workers = llama3_workers;
		shared->started_at = GetCurrentTimestamp();
		shared->loader_seen = shared->started_at;
		shared->workers_seen = shared->started_at;
		if (!pg_strong_random(shared->secret, sizeof(shared->secret)))
			ereport(FATAL,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random secret for llama3")));

		place += MAXALIGN(sizeof(LlamaShared));
		shared->backends = (LlamaBackend *) place;
		place += backends_size();
		shared->progress = (LlamaProgress *) place;
		place += llama_progress_size();
		shared->slots = (LlamaSlot *) place;
		place += slots_size();
		shared->payloads = place;

		llama_progress_init(shared->progress);
		llama_shares_init(shared->filter_shares);
		init_models(shared);
		init_queue(shared);
		init_workers(shared);
		init_payloads(shared);
	}
	llama_result_cache_startup();
	LWLockRelease(AddinShmemInitLock);
}

void
llama_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/* The area counts its users itself, as no segment tells it of their end. */
static void
release_payloads(int code, Datum arg)
{
	dsa_detach(payload_area);
	payload_area = NULL;
	dsa_release_in_place(llama_shared->payloads);
}

dsa_area *
llama_payloads(void)
{
	if (payload_area == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		payload_area = dsa_attach_in_place(llama_shared->payloads, NULL);
		dsa_pin_mapping(payload_area);
		MemoryContextSwitchTo(old);
		before_shmem_exit(release_payloads, 0);
	}
	return payload_area;
}
