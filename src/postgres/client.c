/*-------------------------------------------------------------------------
 *
 * client.c
 *	  A backend's requests: submitting, waiting, giving up.
 *
 * A request belongs to the resource owner that was current when it was
 * submitted.  That covers every way out: an error, a cancel, the end of a
 * subtransaction, a portal closed early.  Resource owners are not released
 * when a backend ends by FATAL outside a transaction, so a before_shmem_exit
 * callback gives up what is left.
 *
 * As soon as a request is seen to be done its outputs are copied to local
 * memory and its payload is freed.  Its slot was freed by the worker: a cursor
 * may leave finished answers unread for hours, and slots are everybody's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "shmem.h"

/* How often a waiting backend looks whether a worker is alive, ms. */
#define LLAMA_LIVENESS_MS		1000

struct LlamaRequest
{
	dlist_node	node;			/* in requests */
	ResourceOwner owner;
	LlamaRequest **holder;		/* told when the request goes, or NULL */
	LlamaSlot  *slot;			/* NULL once done and copied; ours while the
								 * payload is not done */
	dsa_pointer payload;
	int			model;			/* pinned by the slot; -1: not yet */
	bool		is_pinned;		/* LlamaModel's pinned: another matter */
	L3RequestKind kind;
	L3Result	result;			/* as of the last llama_wait */

	/* Where the outputs are: in the payload, then in context. */
	MemoryContext context;		/* the request and its copies */
	int32	   *out_tokens;
	double	   *out_logprobs;
	float	   *out_embedding;
};

int64		llama_tokens_used = 0;

static dlist_head requests = DLIST_STATIC_INIT(requests);
static bool callbacks_registered = false;

/* ----------------------------------------------------------------
 *		Giving up
 * ----------------------------------------------------------------
 */

void
llama_release(LlamaRequest *request)
{
	dlist_delete(&request->node);
	if (request->holder != NULL)
		*request->holder = NULL;
	if (request->slot != NULL)
		llama_slot_release(request->slot, request->payload);
	MemoryContextDelete(request->context);
}

void
llama_set_holder(LlamaRequest *request, LlamaRequest **holder)
{
	request->holder = holder;
}

static void
release_owned(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	dlist_mutable_iter iter;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS)
		return;
	dlist_foreach_modify(iter, &requests)
	{
		LlamaRequest *request = dlist_container(LlamaRequest, node, iter.cur);

		if (request->owner == CurrentResourceOwner)
			llama_release(request);
	}
}

static void
release_all(int code, Datum arg)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &requests)
		llama_release(dlist_container(LlamaRequest, node, iter.cur));
	llama_slot_stop_waiting();
}

/* ----------------------------------------------------------------
 *		Submitting
 * ----------------------------------------------------------------
 */

/* The prefix cache's domain: nobody can tell what another database asked. */
static uint64
database_salt(void)
{
	struct
	{
		uint8		secret[sizeof(llama_shared->secret)];
		Oid			database;
	}			key;

	memset(&key, 0, sizeof(key));
	memcpy(key.secret, llama_shared->secret, sizeof(key.secret));
	key.database = MyDatabaseId;
	return hash_bytes_extended((unsigned char *) &key, sizeof(key), 0);
}

/* Tokens of the longest label path. */
static int64
longest_path(const L3Request *request)
{
	int64		longest = 0;
	int32		begin = 0;

	for (int i = 0; i < request->n_labels; i++)
	{
		longest = Max(longest, request->label_end[i] - begin);
		begin = request->label_end[i];
	}
	return longest;
}

/*
 * Raise when the request does not fit into the model's context.  An answer
 * that would run out of it is shortened instead.
 */
static void
fit_context(const LlamaModel *model, L3Request *request)
{
	int64		need = request->n_tokens;

	if (request->kind == L3_REQ_GENERATE)
		need += 1;				/* at least one token of answer */
	else if (request->kind == L3_REQ_SCORE)
		need += longest_path(request);
	if (need > model->max_context)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("prompt of %d tokens is too long for model \"%s\"",
						request->n_tokens, model->name),
				 errdetail("The model's context is %d tokens, and the request needs " INT64_FORMAT ".",
						   model->max_context, need),
				 errhint("Shorten the text, for example with llama_truncate().")));
	if (request->kind == L3_REQ_GENERATE)
		request->max_tokens = Min(request->max_tokens,
								  model->max_context - request->n_tokens);
}

/*
 * The same for a pinned model, whose answer ends where the model's own context
 * does, and is none where llama3.context_limit would end it earlier.
 */
static void
refuse_limit(const LlamaModel *model, const L3Request *request)
{
	int64		own = (int64) model->hparams.n_ctx_train - request->n_tokens;

	if (model->pinned && request->kind == L3_REQ_GENERATE &&
		Min(request->max_tokens, own) > model->max_context - request->n_tokens)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("prompt of %d tokens and answer of %d do not fit into \"llama3.context_limit\"",
						request->n_tokens, request->max_tokens),
				 errdetail("It is %d tokens, less than the context of model \"%s\", which is pinned.",
						   model->max_context, model->name),
				 errhint("Raise \"llama3.context_limit\", or ask for fewer tokens.")));
}

/* Copy the inputs behind the payload's head. */
static void
fill_payload(LlamaPayload *payload, const LlamaPayload *layout, const L3Request *request)
{
	char	   *base = (char *) payload;

	*payload = *layout;
	pg_atomic_init_u32(&payload->done, 0);
	pg_atomic_init_u64(&payload->wanted_bytes, PG_INT64_MAX);
	memcpy(base + layout->tokens, request->tokens, request->n_tokens * sizeof(int32));
	if (layout->stop != 0 && request->n_stops > 0)
	{
		Size		stop_bytes = 0;

		for (int i = 0; i < request->n_stops; i++)
			stop_bytes += request->stop_len[i];
		memcpy(base + layout->stop, request->stop, stop_bytes);
		memcpy(base + layout->stop_len, request->stop_len, request->n_stops * sizeof(int32));
	}
	if (layout->grammar != 0)
		memcpy(base + layout->grammar, request->grammar, request->grammar_size);
	if (layout->label_end != 0 && request->n_labels > 0)
	{
		memcpy(base + layout->label_tokens, request->label_tokens,
			   request->label_end[request->n_labels - 1] * sizeof(int32));
		memcpy(base + layout->label_end, request->label_end,
			   request->n_labels * sizeof(int32));
	}
}

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	/* The area's own callback is registered first, hence called last. */
	(void) llama_payloads();
	RegisterResourceReleaseCallback(release_owned, NULL);
	before_shmem_exit(release_all, 0);
	callbacks_registered = true;
}

LlamaRequest *
llama_submit(const LlamaModel *model, LlamaFunction function, const L3Request *input)
{
	L3Request	fitted = *input;
	LlamaPayload layout;
	LlamaPayload *payload;
	LlamaRequest *request;
	LlamaSlot  *slot;
	MemoryContext context;
	Size		size;

	Assert(CurrentResourceOwner != NULL);
	llama_require_preload();
	fitted.salt = database_salt();
	fitted.prompt_lookup = llama3_enable_prompt_lookup;
	refuse_limit(model, &fitted);
	fit_context(model, &fitted);
	size = llama_payload_layout(&fitted, model->hparams.n_embd, &layout);
	if (size == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("request is too large")));
	register_callbacks();

	context = AllocSetContextCreate(TopMemoryContext, "llama3 request", ALLOCSET_SMALL_SIZES);
	request = MemoryContextAllocZero(context, sizeof(LlamaRequest));
	request->context = context;
	request->owner = CurrentResourceOwner;
	request->kind = fitted.kind;
	request->model = -1;
	request->is_pinned = model->pinned;
	dlist_push_tail(&requests, &request->node);

	/* From here the resource owner cleans up. */
	slot = llama_slot_acquire();
	request->slot = slot;
	slot->database = MyDatabaseId;
	slot->role = GetUserId();
	slot->function = function;
	slot->n_tokens = fitted.n_tokens;
	/* who streams an answer wants each token as it is made */
	slot->shareable = llama3_enable_result_cache && function != LLAMA_FN_GENERATE_STREAM;
	slot->submitted = GetCurrentTimestamp();
	if (!llama_model_pin(model->index, model->generation))
	{
		/* A batch node keeps this error until its row's turn: leave nothing. */
		llama_release(request);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("model \"%s\" is being unloaded", model->name)));
	}
	slot->model = model->index;
	slot->generation = model->generation;
	request->model = model->index;

	slot->payload = dsa_allocate_extended(llama_payloads(), size,
										  DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
	if (!DsaPointerIsValid(slot->payload))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not allocate %zu bytes of shared memory for a request", size)));
	payload = dsa_get_address(llama_payloads(), slot->payload);
	fill_payload(payload, &layout, &fitted);
	pg_atomic_fetch_add_u64(&llama_shared->payload_bytes, size);
	request->payload = slot->payload;

	llama_slot_enqueue(slot);
	return request;
}

/* ----------------------------------------------------------------
 *		Waiting
 * ----------------------------------------------------------------
 */

static void *
copy_out(LlamaRequest *request, const void *from, Size size)
{
	void	   *copy = MemoryContextAllocHuge(request->context, Max(size, 1));

	memcpy(copy, from, size);
	return copy;
}

/* The request is done: copy the outputs and free the payload. */
static void
collect(LlamaRequest *request)
{
	LlamaPayload *payload = dsa_get_address(llama_payloads(), request->payload);
	L3Request	shared;

	llama_payload_request(payload, &shared);
	request->result = payload->result;
	llama_tokens_used += request->result.n_prompt_done + request->result.n_out;
	if (request->result.status == L3_OK)
	{
		if (shared.out_tokens != NULL)
			request->out_tokens = copy_out(request, shared.out_tokens,
										   sizeof(int32) * request->result.n_out);
		if (shared.out_logprobs != NULL)
			request->out_logprobs =
				copy_out(request, shared.out_logprobs,
						 sizeof(double) * (shared.kind == L3_REQ_SCORE ? shared.n_labels :
										   shared.n_tokens - shared.first_scored));
		if (shared.out_embedding != NULL)
			request->out_embedding = copy_out(request, shared.out_embedding,
											  sizeof(float) * payload->n_embd);
	}
	request->slot = NULL;
	llama_payload_free(request->payload);
}

bool
llama_is_done(const LlamaRequest *request)
{
	return request->slot == NULL || llama_payload_done(request->payload);
}

bool
llama_is_pinned(const LlamaRequest *request)
{
	return request->is_pinned;
}

bool
llama_uses_model(int index)
{
	dlist_iter	iter;

	dlist_foreach(iter, &requests)
	{
		LlamaRequest *request = dlist_container(LlamaRequest, node, iter.cur);

		if (request->slot != NULL && request->model == index &&
			!(DsaPointerIsValid(request->payload) && llama_payload_done(request->payload)))
			return true;
	}
	return false;
}

/* Take the published counters into the request's result. */
static void
snapshot(LlamaRequest *request)
{
	LlamaSlot  *slot = request->slot;

	request->result.n_bytes = pg_atomic_read_u64(&slot->n_bytes);
	/* The tokens behind the bytes that were seen are all written. */
	pg_read_barrier();
	request->result.n_out = pg_atomic_read_u32(&slot->n_out);
	request->result.n_prompt_done = pg_atomic_read_u32(&slot->n_prompt_done);
	request->result.n_cached = pg_atomic_read_u32(&slot->n_cached);
}

bool
llama_wait(LlamaRequest *request, int64 n_bytes_seen)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = llama_wait_event("Llama3Engine");
	while (request->slot != NULL)
	{
		LlamaPayload *payload = dsa_get_address(llama_payloads(), request->payload);

		ResetLatch(MyLatch);
		pg_atomic_write_u64(&payload->wanted_bytes, n_bytes_seen);
		/* The worker publishes first and then reads what is wanted. */
		pg_memory_barrier();
		snapshot(request);
		/* Only if it is not done after that, the snapshot was of our slot. */
		pg_read_barrier();
		if (llama_payload_done(request->payload))
		{
			collect(request);
			break;
		}
		if (request->result.n_bytes > n_bytes_seen)
			return false;

		/* Before the sleep: in an outage that is known nobody waits. */
		llama_require_workers();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LLAMA_LIVENESS_MS, wait_event);
		CHECK_FOR_INTERRUPTS();
	}
	if (request->result.status != L3_OK)
		llama_raise(&request->result.error);
	return true;
}

/* ----------------------------------------------------------------
 *		Results
 * ----------------------------------------------------------------
 */

/* The request with its pointers into the payload, while it is not done. */
static L3Request
payload_view(const LlamaRequest *request)
{
	L3Request	view;

	llama_payload_request(dsa_get_address(llama_payloads(), request->payload), &view);
	return view;
}

const L3Result *
llama_result(LlamaRequest *request)
{
	return &request->result;
}

const int32 *
llama_out_tokens(LlamaRequest *request)
{
	return request->slot != NULL ? payload_view(request).out_tokens : request->out_tokens;
}

const double *
llama_out_logprobs(LlamaRequest *request)
{
	return request->slot != NULL ? payload_view(request).out_logprobs : request->out_logprobs;
}

const float *
llama_out_embedding(LlamaRequest *request)
{
	return request->slot != NULL ? payload_view(request).out_embedding : request->out_embedding;
}
