/*-------------------------------------------------------------------------
 *
 * kv.c
 *	  The paged KV cache: blocks of 16 positions, shared by reference.
 *
 * kv.h describes the design.  A block moves between four states:
 *
 *	COLD -> USED			memory is there, within the limit
 *	FREE -> USED			the common case of a new block
 *	USED -> CACHED			last reference dropped, published
 *	USED -> FREE			last reference dropped, not published
 *	CACHED -> USED			found again
 *	CACHED -> FREE			evicted
 *	FREE -> COLD			pages given back, because another model needs them
 *
 *-------------------------------------------------------------------------
 */
#include "kv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "placement.h"

/* Huge pages of x86-64 and of arm64 with 4 KiB pages. */
#define HUGE_PAGE_BYTES		((size_t) 2 << 20)

/* A pool becomes accessible in steps of at least this much. */
#define GROW_BYTES			((size_t) 16 << 20)

/* Children of a block to look at for a common beginning. */
#define MAX_CHILDREN_SEEN	8

/* Bounds the block numbers and the bookkeeping of absurd limits. */
#define MAX_POOL_BLOCKS		(1 << 24)

static size_t
round_up(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

void
l3_kv_init(L3Kv *kv, uint64_t limit)
{
	memset(kv, 0, sizeof(*kv));
	kv->limit = limit;
	kv->next_serial = 1;
	kv->lru.lru_next = &kv->lru;
	kv->lru.lru_prev = &kv->lru;
}

static void
tile_bytes(const L3Hparams *hp, L3KvType type, size_t *k_bytes, size_t *v_bytes)
{
	/* keep every tile on a cache line, whatever the dimensions are */
	*k_bytes = round_up(L3_KV_BLOCK * l3_kv_head_bytes(type, hp->head_dim), 64);
	*v_bytes = round_up(L3_KV_BLOCK * l3_kv_head_bytes(type, hp->value_dim), 64);
}

size_t
l3_kv_block_bytes(const L3Hparams *hparams, L3KvType type)
{
	size_t		k_bytes;
	size_t		v_bytes;

	tile_bytes(hparams, type, &k_bytes, &v_bytes);
	return round_up((size_t) hparams->n_layers * hparams->n_kv_heads * (k_bytes + v_bytes),
					(size_t) sysconf(_SC_PAGESIZE));
}

/* ----------------------------------------------------------------
 *		Pools
 * ----------------------------------------------------------------
 */

L3Status
l3_kv_pool_create(L3Kv *kv, const L3Hparams *hparams, L3KvType type,
				  L3KvPool **pool_out, L3Error *err)
{
	L3KvPool   *pool = calloc(1, sizeof(*pool));
	uint64_t	n_blocks;
	uint32_t	n_buckets = 16;

	if (pool == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	pool->kv = kv;
	pool->type = type;
	pool->n_kv_heads = hparams->n_kv_heads;
	tile_bytes(hparams, type, &pool->k_bytes, &pool->v_bytes);
	pool->block_bytes = l3_kv_block_bytes(hparams, type);
	pool->free_list = -1;
	pool->cold_list = -1;

	n_blocks = kv->limit / pool->block_bytes;
	if (n_blocks > MAX_POOL_BLOCKS)
		n_blocks = MAX_POOL_BLOCKS;
	pool->n_blocks = (int32_t) n_blocks;
	while (n_buckets < n_blocks)
		n_buckets *= 2;
	pool->bucket_mask = n_buckets - 1;

	/* calloc leaves large tables untouched until they are used */
	pool->blocks = calloc(n_blocks > 0 ? n_blocks : 1, sizeof(L3KvBlock));
	pool->buckets = calloc(n_buckets, sizeof(int32_t));
	pool->children = calloc(n_buckets, sizeof(int32_t));
	if (pool->blocks == NULL || pool->buckets == NULL || pool->children == NULL)
	{
		free(pool->blocks);
		free(pool->buckets);
		free(pool->children);
		free(pool);
		return l3_error(err, L3_ERR_MEMORY, "out of memory for the tables of %llu KV blocks",
						(unsigned long long) n_blocks);
	}
	pool->next_pool = kv->pools;
	kv->pools = pool;
	*pool_out = pool;
	return L3_OK;
}

static void
lru_unlink(L3KvBlock *block)
{
	block->lru_prev->lru_next = block->lru_next;
	block->lru_next->lru_prev = block->lru_prev;
	block->lru_prev = NULL;
	block->lru_next = NULL;
}

/* Append as the most recently used. */
static void
lru_append(L3Kv *kv, L3KvBlock *block)
{
	block->lru_next = &kv->lru;
	block->lru_prev = kv->lru.lru_prev;
	block->lru_prev->lru_next = block;
	kv->lru.lru_prev = block;
}

void
l3_kv_pool_destroy(L3KvPool *pool)
{
	L3Kv	   *kv = pool->kv;
	L3KvPool  **link = &kv->pools;

	for (int32_t i = 0; i < pool->n_touched; i++)
	{
		if (pool->blocks[i].state == L3_KV_CACHED)
			lru_unlink(&pool->blocks[i]);
		if (pool->blocks[i].state != L3_KV_COLD)
			kv->resident -= pool->block_bytes;
	}
	while (*link != pool)
		link = &(*link)->next_pool;
	*link = pool->next_pool;
	if (pool->base != NULL)
		munmap(pool->base, (size_t) pool->n_blocks * pool->block_bytes);
	free(pool->blocks);
	free(pool->buckets);
	free(pool->children);
	free(pool);
}

/*
 * Make the first n blocks accessible.  The address space is taken at the first
 * call, so that a pool that is never used costs nothing.
 */
static L3Status
make_accessible(L3KvPool *pool, int32_t n, L3Error *err)
{
	size_t		step = GROW_BYTES / pool->block_bytes + 1;
	size_t		bytes;

	if (n > pool->n_blocks)
		n = pool->n_blocks;
	if (n <= pool->n_accessible)
		return L3_OK;
	if ((size_t) (pool->n_blocks - n) < step)
		n = pool->n_blocks;
	else if ((size_t) (n - pool->n_accessible) < step)
		n = pool->n_accessible + (int32_t) step;

	if (pool->base == NULL)
	{
		size_t		total = (size_t) pool->n_blocks * pool->block_bytes;
		uint8_t    *mem = mmap(NULL, total + HUGE_PAGE_BYTES, PROT_NONE,
							   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		size_t		skip;

		if (mem == MAP_FAILED)
			return l3_error(err, L3_ERR_MEMORY,
							"could not reserve %zu bytes of address space for the KV cache: %s",
							total, strerror(errno));
		/* keep a 2 MiB aligned part, so that huge pages fit */
		skip = round_up((size_t) mem, HUGE_PAGE_BYTES) - (size_t) mem;
		if (skip > 0)
			munmap(mem, skip);
		munmap(mem + skip + total, HUGE_PAGE_BYTES - skip);
		pool->base = mem + skip;
#ifdef MADV_HUGEPAGE
		/* without huge pages it is only slower */
		(void) madvise(pool->base, total, MADV_HUGEPAGE);
#endif
		l3_numa_interleave(pool->base, total, pool->kv->nodes);
	}
	bytes = (size_t) (n - pool->n_accessible) * pool->block_bytes;
	if (mprotect(pool->base + (size_t) pool->n_accessible * pool->block_bytes, bytes,
				 PROT_READ | PROT_WRITE) != 0)
		return l3_error(err, L3_ERR_MEMORY, "could not get %zu bytes for the KV cache: %s",
						bytes, strerror(errno));
	pool->n_accessible = n;
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Accounting
 * ----------------------------------------------------------------
 */

uint64_t
l3_kv_committed_bytes(const L3Kv *kv)
{
	uint64_t	bytes = 0;

	for (const L3KvPool *pool = kv->pools; pool != NULL; pool = pool->next_pool)
		bytes += (uint64_t) (pool->n_used + pool->n_reserved) * pool->block_bytes;
	return bytes;
}

uint64_t
l3_kv_used_bytes(const L3Kv *kv)
{
	uint64_t	bytes = 0;

	for (const L3KvPool *pool = kv->pools; pool != NULL; pool = pool->next_pool)
		bytes += (uint64_t) pool->n_used * pool->block_bytes;
	return bytes;
}

uint64_t
l3_kv_cached_bytes(const L3Kv *kv)
{
	uint64_t	bytes = 0;

	for (const L3KvPool *pool = kv->pools; pool != NULL; pool = pool->next_pool)
		bytes += (uint64_t) pool->n_cached * pool->block_bytes;
	return bytes;
}

L3Status
l3_kv_reserve(L3KvPool *pool, int32_t n, L3Error *err)
{
	L3Status	status;

	/* every reserved block may have to be one that was never touched */
	status = make_accessible(pool, pool->n_touched + pool->n_reserved + n, err);
	if (status != L3_OK)
		return status;
	pool->n_reserved += n;
	return L3_OK;
}

void
l3_kv_unreserve(L3KvPool *pool, int32_t n)
{
	pool->n_reserved -= n;
}

void
l3_kv_rereserve(L3KvPool *pool)
{
	/* the freed block is there for it, or for who took that block's place */
	pool->n_reserved++;
}

/* ----------------------------------------------------------------
 *		The table of published blocks
 * ----------------------------------------------------------------
 */

static uint64_t
hash_parent(uint64_t parent, uint64_t salt)
{
	return XXH3_64bits(&parent, sizeof(parent)) ^ salt;
}

uint64_t
l3_kv_hash(uint64_t parent, uint64_t salt, const int32_t *tokens)
{
	return XXH3_64bits_withSeed(tokens, L3_KV_BLOCK * sizeof(int32_t), hash_parent(parent, salt));
}

static bool
block_matches(const L3KvBlock *block, uint64_t parent, uint64_t salt, const int32_t *tokens)
{
	return block->parent == parent && block->salt == salt &&
		memcmp(block->tokens, tokens, sizeof(block->tokens)) == 0;
}

static int32_t
find_hashed(const L3KvPool *pool, uint64_t hash, uint64_t parent, uint64_t salt,
			const int32_t *tokens)
{
	int32_t		i = pool->buckets[hash & pool->bucket_mask] - 1;

	while (i >= 0)
	{
		const L3KvBlock *block = &pool->blocks[i];

		if (block->hash == hash && block_matches(block, parent, salt, tokens))
			return i;
		i = block->hash_next;
	}
	return -1;
}

int32_t
l3_kv_find(const L3KvPool *pool, uint64_t parent, uint64_t salt, const int32_t *tokens)
{
	return find_hashed(pool, l3_kv_hash(parent, salt, tokens), parent, salt, tokens);
}

int32_t
l3_kv_find_beginning(const L3KvPool *pool, uint64_t parent, uint64_t salt,
					 const int32_t *tokens, int32_t n, int32_t *n_equal)
{
	int32_t		i = pool->children[hash_parent(parent, salt) & pool->bucket_mask] - 1;
	int32_t		best = -1;

	*n_equal = 0;
	for (int seen = 0; i >= 0 && seen < MAX_CHILDREN_SEEN; seen++)
	{
		const L3KvBlock *block = &pool->blocks[i];
		int32_t		equal = 0;

		while (block->parent == parent && block->salt == salt && equal < n &&
			   block->tokens[equal] == tokens[equal])
			equal++;
		if (equal > *n_equal)
		{
			*n_equal = equal;
			best = i;
		}
		i = block->sibling_next;
	}
	return best;
}

/* Put a block first among the children of its parent. */
static void
link_child(L3KvPool *pool, int32_t number)
{
	L3KvBlock  *block = &pool->blocks[number];
	int32_t    *first = &pool->children[hash_parent(block->parent, block->salt) & pool->bucket_mask];

	block->sibling_prev = -1;
	block->sibling_next = *first - 1;
	if (block->sibling_next >= 0)
		pool->blocks[block->sibling_next].sibling_prev = number;
	*first = number + 1;
}

static void
unlink_child(L3KvPool *pool, int32_t number)
{
	const L3KvBlock *block = &pool->blocks[number];

	if (block->sibling_next >= 0)
		pool->blocks[block->sibling_next].sibling_prev = block->sibling_prev;
	if (block->sibling_prev >= 0)
		pool->blocks[block->sibling_prev].sibling_next = block->sibling_next;
	else
		pool->children[hash_parent(block->parent, block->salt) & pool->bucket_mask] =
			block->sibling_next + 1;
}

static void
unpublish(L3KvPool *pool, int32_t number)
{
	L3KvBlock  *block = &pool->blocks[number];
	int32_t    *bucket = &pool->buckets[block->hash & pool->bucket_mask];

	if (*bucket - 1 == number)
		*bucket = block->hash_next + 1;
	else
	{
		int32_t		i = *bucket - 1;

		while (pool->blocks[i].hash_next != number)
			i = pool->blocks[i].hash_next;
		pool->blocks[i].hash_next = block->hash_next;
	}
	unlink_child(pool, number);
	block->serial = 0;
}

int32_t
l3_kv_publish(L3KvPool *pool, int32_t number, uint64_t parent, uint64_t salt,
			  const int32_t *tokens)
{
	L3KvBlock  *block = &pool->blocks[number];
	uint64_t	hash = l3_kv_hash(parent, salt, tokens);
	int32_t    *bucket = &pool->buckets[hash & pool->bucket_mask];
	int32_t		known = find_hashed(pool, hash, parent, salt, tokens);

	if (known == number)
		return number;
	if (known >= 0)
	{
		l3_kv_ref(pool, known);
		l3_kv_unref(pool, number);
		return known;
	}
	block->hash = hash;
	block->serial = pool->kv->next_serial++;
	block->parent = parent;
	block->salt = salt;
	memcpy(block->tokens, tokens, sizeof(block->tokens));
	block->hash_next = *bucket - 1;
	*bucket = number + 1;
	link_child(pool, number);
	return number;
}

/* ----------------------------------------------------------------
 *		References
 * ----------------------------------------------------------------
 */

static void
push_free(L3KvPool *pool, int32_t number)
{
	pool->blocks[number].state = L3_KV_FREE;
	pool->blocks[number].next = pool->free_list;
	pool->free_list = number;
}

/* Evict the block that was released longest ago. */
static void
evict_oldest(L3Kv *kv)
{
	L3KvBlock  *block = kv->lru.lru_next;
	L3KvPool   *pool = block->pool;
	int32_t		number = (int32_t) (block - pool->blocks);

	lru_unlink(block);
	unpublish(pool, number);
	pool->n_cached--;
	push_free(pool, number);
}

/* Give the pages of one free block of another pool back; false: there is none. */
static bool
release_elsewhere(L3Kv *kv, const L3KvPool *wanting)
{
	for (L3KvPool *pool = kv->pools; pool != NULL; pool = pool->next_pool)
	{
		int32_t		number = pool->free_list;

		if (pool == wanting || number < 0)
			continue;
		pool->free_list = pool->blocks[number].next;
		pool->blocks[number].state = L3_KV_COLD;
		pool->blocks[number].next = pool->cold_list;
		pool->cold_list = number;
		(void) madvise(pool->base + (size_t) number * pool->block_bytes,
					   pool->block_bytes, MADV_DONTNEED);
		kv->resident -= pool->block_bytes;
		return true;
	}
	return false;
}

/* A block with memory behind it, in no list. */
static int32_t
take_block(L3KvPool *pool)
{
	L3Kv	   *kv = pool->kv;

	for (;;)
	{
		int32_t		number = pool->free_list;

		if (number >= 0)
		{
			pool->free_list = pool->blocks[number].next;
			return number;
		}
		if (kv->resident + pool->block_bytes <= kv->limit)
		{
			kv->resident += pool->block_bytes;
			number = pool->cold_list;
			if (number >= 0)
				pool->cold_list = pool->blocks[number].next;
			else
				number = pool->n_touched++;
			return number;
		}

		/*
		 * The reservation says that referenced blocks alone leave room, so
		 * when nothing is free elsewhere, something is cached.
		 */
		if (!release_elsewhere(kv, pool))
			evict_oldest(kv);
	}
}

int32_t
l3_kv_alloc(L3KvPool *pool)
{
	int32_t		number = take_block(pool);
	L3KvBlock  *block = &pool->blocks[number];

	pool->n_reserved--;
	pool->n_used++;
	block->pool = pool;
	block->state = L3_KV_USED;
	block->refs = 1;
	block->serial = 0;
	if (pool->kv->poison)
		memset(l3_kv_key_tile(pool, number, 0, 0), 0xff, pool->block_bytes);
	return number;
}

void
l3_kv_ref(L3KvPool *pool, int32_t number)
{
	L3KvBlock  *block = &pool->blocks[number];

	if (block->refs++ == 0)
	{
		lru_unlink(block);
		block->state = L3_KV_USED;
		pool->n_cached--;
		pool->n_used++;
	}
}

int32_t
l3_kv_alloc_copy(L3KvPool *pool, int32_t from)
{
	const L3Kv *kv = pool->kv;
	int32_t		number;

	/* taken out of the cache it is one more than was reserved */
	if (pool->blocks[from].refs == 0 &&
		l3_kv_committed_bytes(kv) + pool->block_bytes > kv->limit)
		return -1;
	l3_kv_ref(pool, from);
	number = l3_kv_alloc(pool);
	l3_kv_copy(pool, number, from);
	l3_kv_unref(pool, from);
	return number;
}

bool
l3_kv_unref(L3KvPool *pool, int32_t number)
{
	L3KvBlock  *block = &pool->blocks[number];

	if (--block->refs > 0)
		return false;
	pool->n_used--;
	if (block->serial != 0)
	{
		block->state = L3_KV_CACHED;
		pool->n_cached++;
		lru_append(pool->kv, block);
	}
	else
		push_free(pool, number);
	return true;
}

void
l3_kv_copy(const L3KvPool *pool, int32_t to, int32_t from)
{
	memcpy(l3_kv_key_tile(pool, to, 0, 0), l3_kv_key_tile(pool, from, 0, 0),
		   pool->block_bytes);
}
