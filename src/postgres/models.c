/*-------------------------------------------------------------------------
 *
 * models.c
 *	  The model registry as a backend sees it: finding a model by name, and
 *	  keeping its tokenizer mapped for the transaction.
 *
 * A backend never maps weights.  It maps a tokenizer at the first use in a
 * transaction and lets go at the transaction's end, so that a session that sits
 * idle keeps no segment of an unloaded model alive.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "shmem.h"

/* How often a waiting process looks whether the loader is alive, ms. */
#define LLAMA_LIVENESS_MS		1000

/* Digits of the checksum in a pin: 64 bits tell the models of a server apart. */
#define LLAMA_PIN_MIN_DIGITS	16
#define LLAMA_CHECKSUM_DIGITS	32

/* What a pin says. */
typedef struct Pin
{
	char		name[NAMEDATALEN];	/* "": whichever has the checksum */
	char		digits[LLAMA_CHECKSUM_DIGITS + 1];	/* its first ones, in lower case */
} Pin;

/* A model in use by this transaction. */
typedef struct Attachment
{
	slist_node	node;
	LlamaModel	model;
	LlamaModel	pinned;			/* the same as who named it by a pin has it */
	dsm_segment *segment;
} Attachment;

static slist_head attachments = SLIST_STATIC_INIT(attachments);
static bool callback_registered = false;

/* What a look at the registry says about a name. */
typedef enum Lookup
{
	LOOKUP_FOUND,
	LOOKUP_WAIT,				/* being loaded, or may yet be */
	LOOKUP_UNLOADING,
	LOOKUP_FAILED,
	LOOKUP_UNKNOWN
} Lookup;

/* Let go of the tokenizers at the end of the transaction. */
static void
detach_all(XactEvent event, void *arg)
{
	slist_mutable_iter iter;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	slist_foreach_modify(iter, &attachments)
	{
		Attachment *attachment = slist_container(Attachment, node, iter.cur);

		slist_delete_current(&iter);
		if (attachment->segment != NULL)
			dsm_detach(attachment->segment);
		pfree(attachment);
	}
}

/* Copy what a backend needs of an entry.  Hold registry_lock. */
static void
fill_model(LlamaModel *model, int index, const LlamaModelEntry *entry)
{
	memset(model, 0, sizeof(*model));
	model->index = index;
	model->generation = entry->generation;
	strlcpy(model->name, entry->name, sizeof(model->name));
	model->hparams = entry->hparams;
	model->max_context = entry->hparams.n_ctx_train;
	if (llama3_context_limit > 0)
		model->max_context = Min(model->max_context, llama3_context_limit);
	memcpy(model->checksum, entry->checksum, sizeof(model->checksum));
}

/*
 * Look a name up once.  *index is set when FOUND or FAILED.  Hold
 * registry_lock.
 */
static Lookup
look_up_name(const char *name, int *index)
{
	*index = llama_registry_find(name);
	if (*index < 0)
		return llama_shared->list_loaded ? LOOKUP_UNKNOWN : LOOKUP_WAIT;
	switch (llama_shared->models[*index].state)
	{
		case LLAMA_MODEL_READY:
			return LOOKUP_FOUND;
		case LLAMA_MODEL_LOADING:
			return LOOKUP_WAIT;
		case LLAMA_MODEL_UNLOADING:
			return LOOKUP_UNLOADING;
		default:
			return LOOKUP_FAILED;
	}
}

/* The entry of that state that was loaded first, or -1.  Hold registry_lock. */
static int
first_entry(LlamaModelState state, bool demonstration)
{
	int			first = -1;

	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		const LlamaModelEntry *entry = &llama_shared->models[i];

		if (entry->state == state && entry->demonstration == demonstration &&
			(first < 0 || entry->generation < llama_shared->models[first].generation))
			first = i;
	}
	return first;
}

/*
 * The default once: the model that was loaded first.  The demonstration model
 * counts as none: it answers only if there is no other, nor one on its way, so
 * that who loads a model is not answered by it meanwhile.  *index as above.
 * Hold registry_lock.
 */
static Lookup
look_up_default(int *index)
{
	/* Which one is the first is known when the server's list is through. */
	if (!llama_shared->list_loaded)
		return LOOKUP_WAIT;
	if ((*index = first_entry(LLAMA_MODEL_READY, false)) >= 0)
		return LOOKUP_FOUND;
	if (first_entry(LLAMA_MODEL_LOADING, false) >= 0)
		return LOOKUP_WAIT;
	if ((*index = first_entry(LLAMA_MODEL_READY, true)) >= 0)
		return LOOKUP_FOUND;
	if ((*index = first_entry(LLAMA_MODEL_FAILED, false)) >= 0)
		return LOOKUP_FAILED;
	return LOOKUP_UNKNOWN;
}

/* ----------------------------------------------------------------
 *		Pins
 * ----------------------------------------------------------------
 */

/* A checksum as the view llama_models shows it. */
static void
checksum_digits(const uint8 *checksum, char *digits)
{
	hex_encode((const char *) checksum, LLAMA_CHECKSUM_DIGITS / 2, digits);
	digits[LLAMA_CHECKSUM_DIGITS] = '\0';
}

static bool
has_checksum(const uint8 *checksum, const Pin *pin)
{
	char		digits[LLAMA_CHECKSUM_DIGITS + 1];

	checksum_digits(checksum, digits);
	return strncmp(digits, pin->digits, strlen(pin->digits)) == 0;
}

/* Read name@checksum; raises 22023. */
static void
read_pin(const char *text, Pin *pin)
{
	/* A name may have an @ in it. */
	const char *at = strrchr(text, '@');
	size_t		n_digits = at != NULL ? strlen(at + 1) : 0;

	if (at == NULL || at - text >= NAMEDATALEN ||
		n_digits < LLAMA_PIN_MIN_DIGITS || n_digits > LLAMA_CHECKSUM_DIGITS ||
		strspn(at + 1, "0123456789abcdefABCDEF") != n_digits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" does not pin a model", text),
				 errdetail("A pin is name@checksum or @checksum, with the first %d to %d hexadecimal digits of the checksum.",
						   LLAMA_PIN_MIN_DIGITS, LLAMA_CHECKSUM_DIGITS),
				 errhint("llama_pin() gives the pin of a loaded model.")));
	strlcpy(pin->name, text, at - text + 1);
	for (size_t i = 0; i <= n_digits; i++)
		pin->digits[i] = pg_tolower((unsigned char) at[1 + i]);
}

/* The READY entry of that checksum that was loaded first.  Hold registry_lock. */
static Lookup
look_up_checksum(const Pin *pin, int *index)
{
	bool		loading = !llama_shared->list_loaded;

	*index = -1;
	for (int i = 0; i < LLAMA_MAX_MODELS; i++)
	{
		const LlamaModelEntry *entry = &llama_shared->models[i];

		loading |= entry->state == LLAMA_MODEL_LOADING;
		if (entry->state == LLAMA_MODEL_READY && has_checksum(entry->checksum, pin) &&
			(*index < 0 || entry->generation < llama_shared->models[*index].generation))
			*index = i;
	}
	if (*index >= 0)
		return LOOKUP_FOUND;
	/* What is being loaded may have it. */
	return loading ? LOOKUP_WAIT : LOOKUP_UNKNOWN;
}

char *
llama_pin_text(const LlamaModel *model)
{
	char		digits[LLAMA_CHECKSUM_DIGITS + 1];

	checksum_digits(model->checksum, digits);
	return psprintf("%s@%s", model->name, digits);
}

/* ----------------------------------------------------------------
 *		Finding a model
 * ----------------------------------------------------------------
 */

static void
raise_failed(const char *name, const char *failed, const char *error, const char *detail,
			 const char *hint)
{
	/* A hint can tell what lies beside a file that is not there. */
	bool		show_hint = hint[0] != '\0' &&
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS);

	if (name[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("model \"%s\" could not be loaded", name),
				 errdetail("%s%s%s", error, detail[0] != '\0' ? ": " : "", detail),
				 show_hint ? errhint("%s", hint) : 0));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no model is loaded"),
			 errdetail("Model \"%s\" could not be loaded: %s", failed, error),
			 errhint("Load one with llama_load_model(), or name it in llama3.models.")));
}

static void
raise_unknown(const char *name, const Pin *pin)
{
	if (name[0] == '\0' && pin != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no loaded model has the checksum \"%s\"", pin->digits),
				 errhint("Load the model that is pinned, or pin another one with llama_pin().")));
	if (name[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" does not exist", name),
				 errhint("The view llama_models lists the loaded models.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no model is loaded"),
			 errhint("Load one with llama_load_model(), or name it in llama3.models.")));
}

/*
 * Find the name, or without one what the pin says, or the default, waiting while
 * it is being loaded; fills *model and the tokenizer's segment.
 */
static void
find_model(const char *name, const Pin *pin, LlamaModel *model, dsm_handle *tokenizer,
		   Size *tokenizer_size)
{
	static uint32 wait_event = 0;
	char		failed[NAMEDATALEN] = "";
	char		error[sizeof(llama_shared->models[0].error)] = "";
	char		detail[sizeof(llama_shared->models[0].detail)] = "";
	char		hint[sizeof(llama_shared->models[0].hint)] = "";

	for (bool prepared = false;; prepared = true)
	{
		int			index = -1;
		Lookup		found;

		LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
		found = name[0] != '\0' ? look_up_name(name, &index) :
			pin != NULL ? look_up_checksum(pin, &index) : look_up_default(&index);
		if (found == LOOKUP_FOUND)
		{
			const LlamaModelEntry *entry = &llama_shared->models[index];

			fill_model(model, index, entry);
			*tokenizer = entry->tokenizer;
			*tokenizer_size = entry->tokenizer_size;
		}
		else if (found == LOOKUP_FAILED)
		{
			strlcpy(failed, llama_shared->models[index].name, sizeof(failed));
			strlcpy(error, llama_shared->models[index].error, sizeof(error));
			strlcpy(detail, llama_shared->models[index].detail, sizeof(detail));
			strlcpy(hint, llama_shared->models[index].hint, sizeof(hint));
		}
		LWLockRelease(llama_shared->registry_lock);

		if (found != LOOKUP_WAIT)
		{
			if (prepared)
				ConditionVariableCancelSleep();
			switch (found)
			{
				case LOOKUP_FAILED:
					raise_failed(name, failed, error, detail, hint);
					break;
				case LOOKUP_UNLOADING:
					ereport(ERROR,
							(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							 errmsg("model \"%s\" is being unloaded", name)));
					break;
				case LOOKUP_UNKNOWN:
					raise_unknown(name, pin);
					break;
				default:
					break;
			}
			return;
		}

		/* The first round only lines up, so that no change is missed. */
		if (!prepared)
		{
			if (wait_event == 0)
				wait_event = llama_wait_event("Llama3Model");
			ConditionVariablePrepareToSleep(&llama_shared->registry_changed);
			continue;
		}
		llama_require_loader();
		(void) ConditionVariableTimedSleep(&llama_shared->registry_changed,
										   LLAMA_LIVENESS_MS, wait_event);
	}
}

/* The attachment of a generation, if this transaction has one. */
static Attachment *
find_attachment(uint64 generation)
{
	slist_iter	iter;

	slist_foreach(iter, &attachments)
	{
		Attachment *attachment = slist_container(Attachment, node, iter.cur);

		if (attachment->model.generation == generation)
			return attachment;
	}
	return NULL;
}

/*
 * The model with its tokenizer mapped until the transaction ends.  If it was
 * unloaded meanwhile: NULL when missing_ok, else an error.
 */
static const LlamaModel *
attach(const LlamaModel *model, dsm_handle tokenizer, Size tokenizer_size, bool missing_ok)
{
	Attachment *attachment = find_attachment(model->generation);
	L3Error		err;

	if (attachment != NULL)
		return &attachment->model;
	if (!callback_registered)
	{
		RegisterXactCallback(detach_all, NULL);
		callback_registered = true;
	}

	/*
	 * Listed first, so that it is let go of whatever fails, but under no
	 * generation that could be found before it is complete.
	 */
	attachment = MemoryContextAllocZero(TopMemoryContext, sizeof(Attachment));
	slist_push_head(&attachments, &attachment->node);
	attachment->segment = dsm_attach(tokenizer);
	if (attachment->segment == NULL)
	{
		if (missing_ok)
			return NULL;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("model \"%s\" was unloaded", model->name)));
	}
	dsm_pin_mapping(attachment->segment);
	attachment->model = *model;
	attachment->model.generation = 0;
	attachment->model.tok = l3_tokenizer_check(dsm_segment_address(attachment->segment),
											   tokenizer_size, &err);
	if (attachment->model.tok == NULL)
		llama_raise(&err);
	attachment->pinned = attachment->model;
	attachment->pinned.pinned = true;
	attachment->pinned.generation = model->generation;
	attachment->model.generation = model->generation;
	return &attachment->model;
}

const LlamaModel *
llama_model_get(const char *name)
{
	LlamaModel	model;
	dsm_handle	tokenizer = 0;
	Size		tokenizer_size = 0;

	llama_require_preload();
	if (name == NULL || name[0] == '\0')
		name = llama3_default_model;
	find_model(name, NULL, &model, &tokenizer, &tokenizer_size);
	return attach(&model, tokenizer, tokenizer_size, false);
}

const LlamaModel *
llama_model_get_pinned(const char *text)
{
	Pin			pin;
	LlamaModel	model;
	dsm_handle	tokenizer = 0;
	Size		tokenizer_size = 0;

	llama_require_preload();
	read_pin(text, &pin);
	find_model(pin.name, &pin, &model, &tokenizer, &tokenizer_size);
	if (!has_checksum(model.checksum, &pin))
	{
		char		digits[LLAMA_CHECKSUM_DIGITS + 1];

		checksum_digits(model.checksum, digits);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("model \"%s\" is not the one that is pinned", model.name),
				 errdetail("Its checksum is %s, and the pin's is %s.", digits, pin.digits),
				 errhint("Load the pinned model under this name, or, where another model's answers will do, pin that with llama_pin().")));
	}
	(void) attach(&model, tokenizer, tokenizer_size, false);
	return &find_attachment(model.generation)->pinned;
}

const LlamaModel *
llama_model_lookup(const char *name)
{
	LlamaModel	model;
	dsm_handle	tokenizer = 0;
	Size		tokenizer_size = 0;
	int			index;
	bool		ready;

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	index = llama_registry_find(name);
	ready = index >= 0 && llama_shared->models[index].state == LLAMA_MODEL_READY;
	if (ready)
	{
		fill_model(&model, index, &llama_shared->models[index]);
		tokenizer = llama_shared->models[index].tokenizer;
		tokenizer_size = llama_shared->models[index].tokenizer_size;
	}
	LWLockRelease(llama_shared->registry_lock);
	return ready ? attach(&model, tokenizer, tokenizer_size, true) : NULL;
}

bool
llama_model_pin(int index, uint64 generation)
{
	LlamaModelEntry *entry = &llama_shared->models[index];
	bool		ready;

	LWLockAcquire(llama_shared->registry_lock, LW_SHARED);
	ready = entry->state == LLAMA_MODEL_READY && entry->generation == generation;
	if (ready)
		pg_atomic_fetch_add_u32(&entry->pins, 1);
	LWLockRelease(llama_shared->registry_lock);
	return ready;
}

void
llama_model_unpin(int index)
{
	LlamaModelEntry *entry = &llama_shared->models[index];

	/*
	 * Whoever unloads the model waits for the last pin.  The state is read
	 * without registry_lock, which orders before queue_lock that callers
	 * hold; should the wake-up be missed, the unloader looks again itself.
	 */
	if (pg_atomic_sub_fetch_u32(&entry->pins, 1) == 0 &&
		entry->state == LLAMA_MODEL_UNLOADING)
		ConditionVariableBroadcast(&llama_shared->registry_changed);
}
