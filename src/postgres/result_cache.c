/*-------------------------------------------------------------------------
 *
 * result_cache.c
 *	  Answers that were computed before, for all backends.
 *
 * An answer is a pure function of the model's weights and the call's arguments,
 * bit for bit, whoever asks and whatever else the engine computes (README,
 * Determinism).  So an answer from here is the one that would be computed, and
 * there is nothing that could make an entry stale: an entry is found by what
 * its answer was computed from.  The key is a SHA-256 digest of
 *
 *		a secret of this server and the database: what one database asked
 *		cannot be found from another
 *		the database's encoding, which answers are in
 *		the model's checksum, over weights, hyperparameters and tokenizer, and
 *		its context, where an answer ends at the latest: never its name
 *		the function, its arguments, and the settings that stand for arguments
 *		that were not given (digest.c)
 *
 * What else an answer depends on (llama3.kv_cache_type, llama3.cpu_features, the
 * build) changes with a restart only, which empties the cache.  Errors and the
 * NULLs that stand for them under llama3.on_error are not kept: they hang on
 * settings, and on what the engine has room for.
 *
 * Memory.  A fixed part of shared memory, cut into partitions by the key, each
 * under a lock of its own.  A partition is a table of hash chains and a ring of
 * entries of any length.  New entries go to the ring's head.  When there is no
 * room, the oldest go; but one that was used since it was put there gets a second
 * chance and is moved to the head (CLOCK, in the form that suits entries of
 * different lengths: nothing is ever fragmented).  How much one new entry may move
 * is limited, so that the lock is held for microseconds.
 *
 * Lookups take the lock shared, and copy.  No code under a lock waits or raises,
 * but for lack of memory for the copy, so what a lock protects is always sound;
 * the server resets it all when a backend crashes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"

#include "result_cache.h"
#include "shmem.h"

#define TRANCHE				"llama3_result_cache"

/* Few enough that the largest answer is a small part of a partition. */
#define N_PARTITIONS		8

/* Answers over this share of a partition, 1/32 of the cache, are not kept. */
#define LARGEST_SHARE		4

/* Bytes of ring for which there is a hash chain: about an entry. */
#define BYTES_PER_CHAIN		128

/* Most bytes of entries that are moved to the head for one new entry. */
#define SECOND_CHANCE_BYTES	(64 * 1024)

/* No entry. */
#define NOWHERE				PG_UINT32_MAX

/* An answer; the value's bytes follow.  Protected by the partition's lock. */
typedef struct Entry
{
	LlamaDigest key;
	uint32		next;			/* in its hash chain */
	uint32		length;			/* of the value, bytes */
	pg_atomic_uint32 used;		/* since it was put here; set under a shared lock */
} Entry;

/*
 * Entries lie in [tail, head), or, when the ring is wrapped, in [tail, end) and
 * [0, head).  Chains and ring follow this header.
 */
typedef struct Partition
{
	LWLock	   *lock;			/* constant */
	uint32		n_chains;		/* constant; a power of 2 */
	uint32		capacity;		/* constant; bytes of the ring */

	/* Protected by lock. */
	uint32		head;
	uint32		tail;
	uint32		end;
	bool		wrapped;
	uint32		used;			/* bytes of entries */
	uint64		n_entries;
	uint64		n_stored;
	uint64		n_evicted;

	/* Atomic. */
	pg_atomic_uint64 n_hits;
	pg_atomic_uint64 n_misses;
	pg_atomic_uint64 n_too_large;
} Partition;

static char *partitions = NULL;

/* ----------------------------------------------------------------
 *		Layout
 * ----------------------------------------------------------------
 */

Size
llama_result_cache_bytes(void)
{
	return (Size) llama3_result_cache_size * 1024 * 1024;
}

static Size
partition_bytes(void)
{
	return llama_result_cache_bytes() / N_PARTITIONS;
}

static Partition *
partition_at(int i)
{
	return (Partition *) (partitions + i * partition_bytes());
}

static Partition *
partition_of(const LlamaDigest *key)
{
	return partition_at(key->bytes[0] % N_PARTITIONS);
}

static uint32 *
chains_of(Partition *partition)
{
	return (uint32 *) ((char *) partition + MAXALIGN(sizeof(Partition)));
}

static uint32 *
chain_of(Partition *partition, const LlamaDigest *key)
{
	uint32		hash;

	/* Any bytes of a digest are a good hash; the first chose the partition. */
	memcpy(&hash, key->bytes + 1, sizeof(hash));
	return &chains_of(partition)[hash & (partition->n_chains - 1)];
}

static Entry *
entry_at(Partition *partition, uint32 place)
{
	return (Entry *) ((char *) chains_of(partition) +
					  MAXALIGN(partition->n_chains * sizeof(uint32)) + place);
}

static char *
value_of(Entry *entry)
{
	return (char *) entry + MAXALIGN(sizeof(Entry));
}

static Size
entry_bytes(Size length)
{
	return MAXALIGN(sizeof(Entry)) + MAXALIGN(length);
}

void
llama_result_cache_request(void)
{
	RequestAddinShmemSpace(llama_result_cache_bytes());
	if (llama3_result_cache_size > 0)
		RequestNamedLWLockTranche(TRANCHE, N_PARTITIONS);
}

/* Empty; its statistics stay.  Hold the lock, or be the only one. */
static void
clear_partition(Partition *partition)
{
	partition->head = 0;
	partition->tail = 0;
	partition->end = 0;
	partition->wrapped = false;
	partition->used = 0;
	partition->n_entries = 0;
	for (uint32 i = 0; i < partition->n_chains; i++)
		chains_of(partition)[i] = NOWHERE;
}

void
llama_result_cache_startup(void)
{
	LWLockPadded *locks;
	bool		found;

	if (llama3_result_cache_size == 0)
		return;
	partitions = ShmemInitStruct("llama3 result cache", llama_result_cache_bytes(), &found);
	if (found)
		return;
	locks = GetNamedLWLockTranche(TRANCHE);
	for (int i = 0; i < N_PARTITIONS; i++)
	{
		Partition  *partition = partition_at(i);

		memset(partition, 0, sizeof(*partition));
		partition->lock = &locks[i].lock;
		partition->n_chains = pg_prevpower2_32(partition_bytes() / BYTES_PER_CHAIN);
		partition->capacity = partition_bytes() - MAXALIGN(sizeof(Partition)) -
			MAXALIGN(partition->n_chains * sizeof(uint32));
		pg_atomic_init_u64(&partition->n_hits, 0);
		pg_atomic_init_u64(&partition->n_misses, 0);
		pg_atomic_init_u64(&partition->n_too_large, 0);
		clear_partition(partition);
	}
}

bool
llama_result_cache_enabled(void)
{
	return llama3_enable_result_cache && partitions != NULL;
}

/* ----------------------------------------------------------------
 *		Keys
 * ----------------------------------------------------------------
 */

void
llama_result_cache_key(const LlamaModel *model, const LlamaDigest *question, LlamaDigest *key)
{
	struct
	{
		uint8		secret[sizeof(llama_shared->secret)];
		Oid			database;
		int32		encoding;
		uint8		checksum[sizeof(model->checksum)];
		int32		max_context;
		bool		refuses_limit;
		LlamaDigest question;
	}			asked;

	memset(&asked, 0, sizeof(asked));
	memcpy(asked.secret, llama_shared->secret, sizeof(asked.secret));
	asked.database = MyDatabaseId;
	asked.encoding = GetDatabaseEncoding();
	memcpy(asked.checksum, model->checksum, sizeof(asked.checksum));
	asked.max_context = model->max_context;
	/* For a pinned model another error, where the limit ends an answer. */
	asked.refuses_limit = model->pinned && model->max_context < (int64) model->hparams.n_ctx_train;
	asked.question = *question;
	llama_digest_bytes(&asked, sizeof(asked), key);
}

/* The entry of a key, or NULL.  Hold the lock. */
static Entry *
find(Partition *partition, const LlamaDigest *key)
{
	uint32		place = *chain_of(partition, key);

	while (place != NOWHERE)
	{
		Entry	   *entry = entry_at(partition, place);

		if (memcmp(&entry->key, key, sizeof(*key)) == 0)
			return entry;
		place = entry->next;
	}
	return NULL;
}

/* Make the chain that leads to the entry at one place lead to another. */
static void
relink(Partition *partition, const Entry *entry, uint32 from, uint32 to)
{
	uint32	   *link = chain_of(partition, &entry->key);

	while (*link != from)
		link = &entry_at(partition, *link)->next;
	*link = to;
}

/* ----------------------------------------------------------------
 *		The ring.  Hold the lock exclusively.
 * ----------------------------------------------------------------
 */

/* Step over the oldest entry, of n bytes. */
static void
advance_tail(Partition *partition, uint32 n)
{
	partition->tail += n;
	if (partition->wrapped && partition->tail == partition->end)
	{
		partition->tail = 0;
		partition->wrapped = false;
	}
}

/* Take away the oldest entry. */
static void
evict(Partition *partition)
{
	Entry	   *entry = entry_at(partition, partition->tail);
	uint32		n = entry_bytes(entry->length);

	relink(partition, entry, partition->tail, entry->next);
	partition->n_entries--;
	partition->n_evicted++;
	partition->used -= n;
	advance_tail(partition, n);
}

/* Move the oldest entry to the head, of a wrapped ring: its own room is enough. */
static void
renew(Partition *partition)
{
	Entry	   *entry = entry_at(partition, partition->tail);
	uint32		n = entry_bytes(entry->length);

	relink(partition, entry, partition->tail, partition->head);
	pg_atomic_write_u32(&entry->used, 0);
	memmove(entry_at(partition, partition->head), entry, n);
	partition->head += n;
	advance_tail(partition, n);
}

/* Make room for n bytes at the head. */
static void
make_room(Partition *partition, uint32 n)
{
	uint32		movable = SECOND_CHANCE_BYTES;

	for (;;)
	{
		Entry	   *oldest;
		Size		oldest_bytes;

		if (partition->n_entries == 0)
			clear_partition(partition);
		if (!partition->wrapped)
		{
			if (partition->capacity - partition->head >= n)
				return;
			/* Go on at the beginning, in front of the oldest. */
			partition->end = partition->head;
			partition->head = 0;
			partition->wrapped = true;
		}
		if (partition->tail - partition->head >= n)
			return;
		oldest = entry_at(partition, partition->tail);
		oldest_bytes = entry_bytes(oldest->length);
		if (pg_atomic_read_u32(&oldest->used) != 0 && oldest_bytes <= movable)
		{
			renew(partition);
			movable -= oldest_bytes;
		}
		else
			evict(partition);
	}
}

/* ----------------------------------------------------------------
 *		Answers
 * ----------------------------------------------------------------
 */

bool
llama_result_cache_get(const LlamaDigest *key, LlamaValueType type, Datum *answer)
{
	Partition  *partition = partition_of(key);
	Entry	   *entry;

	LWLockAcquire(partition->lock, LW_SHARED);
	entry = find(partition, key);
	if (entry != NULL)
	{
		if (type.by_value)
			memcpy(answer, value_of(entry), sizeof(*answer));
		else
		{
			*answer = PointerGetDatum(palloc(entry->length));
			memcpy(DatumGetPointer(*answer), value_of(entry), entry->length);
		}
		/* Written once, not to take the cache line from other readers. */
		if (pg_atomic_read_u32(&entry->used) == 0)
			pg_atomic_write_u32(&entry->used, 1);
	}
	LWLockRelease(partition->lock);

	pg_atomic_fetch_add_u64(entry != NULL ? &partition->n_hits : &partition->n_misses, 1);
	return entry != NULL;
}

/* Put an entry at the head, where there is room. */
static void
append(Partition *partition, const LlamaDigest *key, const void *bytes, Size length)
{
	uint32	   *chain = chain_of(partition, key);
	Entry	   *entry = entry_at(partition, partition->head);

	entry->key = *key;
	entry->next = *chain;
	entry->length = length;
	pg_atomic_init_u32(&entry->used, 0);
	memcpy(value_of(entry), bytes, length);
	*chain = partition->head;
	partition->head += entry_bytes(length);
	partition->used += entry_bytes(length);
	partition->n_entries++;
	partition->n_stored++;
}

void
llama_result_cache_put(const LlamaDigest *key, LlamaValueType type, Datum answer)
{
	Partition  *partition = partition_of(key);
	const void *bytes = &answer;
	Size		length = sizeof(answer);

	if (!type.by_value)
	{
		/* What functions return is flat already. */
		bytes = PG_DETOAST_DATUM_PACKED(answer);
		length = VARSIZE_ANY(bytes);
	}
	if (entry_bytes(length) > partition->capacity / LARGEST_SHARE)
	{
		pg_atomic_fetch_add_u64(&partition->n_too_large, 1);
		return;
	}

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	/* Somebody else may have computed it too. */
	if (find(partition, key) == NULL)
	{
		make_room(partition, entry_bytes(length));
		append(partition, key, bytes, length);
	}
	LWLockRelease(partition->lock);
}

void
llama_result_cache_clear(void)
{
	for (int i = 0; partitions != NULL && i < N_PARTITIONS; i++)
	{
		Partition  *partition = partition_at(i);

		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		clear_partition(partition);
		LWLockRelease(partition->lock);
	}
}

void
llama_result_cache_stat(LlamaResultCacheStat *stat)
{
	memset(stat, 0, sizeof(*stat));
	stat->size = llama_result_cache_bytes();
	for (int i = 0; partitions != NULL && i < N_PARTITIONS; i++)
	{
		Partition  *partition = partition_at(i);

		LWLockAcquire(partition->lock, LW_SHARED);
		stat->used += partition->used;
		stat->n_entries += partition->n_entries;
		stat->n_stored += partition->n_stored;
		stat->n_evicted += partition->n_evicted;
		LWLockRelease(partition->lock);
		stat->n_hits += pg_atomic_read_u64(&partition->n_hits);
		stat->n_misses += pg_atomic_read_u64(&partition->n_misses);
		stat->n_too_large += pg_atomic_read_u64(&partition->n_too_large);
	}
}
