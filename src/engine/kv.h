/*-------------------------------------------------------------------------
 *
 * kv.h
 *	  The paged KV cache: blocks of 16 positions, shared by reference.
 *
 * A block holds the keys and values of 16 consecutive positions for all
 * layers and KV heads of one model.  Sequences own tables of block numbers;
 * a block may stand in several tables (a shared prefix, forked label paths)
 * and counts its references.
 *
 * The prefix cache.  A block whose 16 positions are all computed can be
 * published under (parent block, salt, its 16 tokens).  Every publication
 * gets a serial number that is never used again, and a child names its parent
 * by that number, so a hit proves by comparison, not by hash, that the whole
 * prefix is the same.  A published block without references stays cached
 * until its memory is wanted; the least recently released goes first, and as
 * tables are released from their ends, children go before their parents.
 * Where a prefix ends within a block, its beginning is copied from a published
 * block with the same parent that begins with the same tokens.
 *
 * The bound.  All models together never hold more than the limit in blocks,
 * whatever their state.  A running request reserves what it may still need,
 * so (referenced + reserved) stays within the limit, and an allocation that a
 * reservation covers cannot fail: something cached or free can always give
 * way.
 *
 * Memory.  A model's pool reserves address space for as many blocks as the
 * limit allows, makes it accessible in steps as it grows (so that strict
 * overcommit accounting sees what is used, not the limit once per model) and
 * asks for huge pages.  Pages are touched when a block is first written.  When
 * another model needs the memory, free blocks' pages go back to the system.
 *
 * Everything here runs on the engine's main thread; compute threads only read
 * and write the contents of blocks that a step's tables name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_KV_H
#define L3_KV_H

#include "engine.h"
#include "kernels/kernels.h"

typedef struct L3Kv L3Kv;
typedef struct L3KvPool L3KvPool;

typedef enum L3KvState
{
	L3_KV_COLD = 0,				/* no memory behind it */
	L3_KV_FREE,					/* memory, no content */
	L3_KV_USED,					/* referenced */
	L3_KV_CACHED				/* published, not referenced */
} L3KvState;

typedef struct L3KvBlock
{
	L3KvState	state;
	int32_t		refs;
	int32_t		next;			/* in the pool's free or cold list; -1: end */
	int32_t		hash_next;		/* in its hash bucket; -1: end */
	int32_t		sibling_prev;	/* in its parent's bucket of children; -1: end */
	int32_t		sibling_next;
	uint64_t	hash;
	uint64_t	serial;			/* 0: not published */
	uint64_t	parent;			/* serial of the block before; 0: the first */
	uint64_t	salt;
	int32_t		tokens[L3_KV_BLOCK];
	L3KvPool   *pool;
	struct L3KvBlock *lru_prev; /* while cached */
	struct L3KvBlock *lru_next;
} L3KvBlock;

/* Blocks of one model. */
struct L3KvPool
{
	L3Kv	   *kv;
	L3KvPool   *next_pool;
	L3KvType	type;
	uint32_t	n_kv_heads;
	size_t		k_bytes;		/* of a key tile [head_dim][16] */
	size_t		v_bytes;		/* of a value tile [16][value_dim] */
	size_t		block_bytes;	/* whole pages */
	uint8_t    *base;			/* (n_blocks, block_bytes) address space */
	int32_t		n_blocks;
	int32_t		n_accessible;	/* blocks before this one are readable */
	int32_t		n_touched;		/* blocks before this one were used once */
	int32_t		free_list;
	int32_t		cold_list;
	int32_t		n_used;
	int32_t		n_cached;
	int32_t		n_reserved;
	L3KvBlock  *blocks;			/* (n_blocks) */
	int32_t    *buckets;		/* (bucket_mask + 1) block number + 1, or 0 */
	int32_t    *children;		/* (bucket_mask + 1) the same, by the parent */
	uint32_t	bucket_mask;
};

struct L3Kv
{
	uint64_t	limit;			/* bytes */
	uint64_t	resident;		/* bytes of blocks that have memory */
	uint64_t	next_serial;
	L3KvPool   *pools;
	L3KvBlock	lru;			/* ring of cached blocks; lru_next is the oldest */
	uint64_t	nodes;			/* to interleave the memory over, or 0 (placement.h) */
	bool		poison;			/* tests: fill blocks with NaN when taken */
};

void		l3_kv_init(L3Kv *kv, uint64_t limit);

/* Bytes of one block, in whole pages. */
size_t		l3_kv_block_bytes(const L3Hparams *hparams, L3KvType type);

L3Status	l3_kv_pool_create(L3Kv *kv, const L3Hparams *hparams, L3KvType type,
							  L3KvPool **pool, L3Error *err);
/* No block of the pool is referenced. */
void		l3_kv_pool_destroy(L3KvPool *pool);

/* Bytes referenced or reserved, and bytes cached, over all pools. */
uint64_t	l3_kv_committed_bytes(const L3Kv *kv);
uint64_t	l3_kv_used_bytes(const L3Kv *kv);
uint64_t	l3_kv_cached_bytes(const L3Kv *kv);

/*
 * Reserve n blocks for later l3_kv_alloc calls.  The caller has checked the
 * limit (l3_kv_committed_bytes); fails only when the system refuses memory.
 */
L3Status	l3_kv_reserve(L3KvPool *pool, int32_t n, L3Error *err);
void		l3_kv_unreserve(L3KvPool *pool, int32_t n);
/* Turn a block that was just freed into a reservation again. */
void		l3_kv_rereserve(L3KvPool *pool);

/* Take an empty block out of a reservation, with one reference. Never fails. */
int32_t		l3_kv_alloc(L3KvPool *pool);
void		l3_kv_ref(L3KvPool *pool, int32_t block);
/* Drop a reference; true when it was the last. */
bool		l3_kv_unref(L3KvPool *pool, int32_t block);

uint64_t	l3_kv_hash(uint64_t parent, uint64_t salt, const int32_t *tokens);
/* A published block with this parent, salt and 16 tokens, or -1. */
int32_t		l3_kv_find(const L3KvPool *pool, uint64_t parent, uint64_t salt,
					   const int32_t *tokens);
/*
 * The published block with this parent and salt that has most of the first n
 * tokens, n < L3_KV_BLOCK, at its beginning, of the latest few; or -1 when none
 * has one.  *n_equal is how many it has.
 */
int32_t		l3_kv_find_beginning(const L3KvPool *pool, uint64_t parent, uint64_t salt,
								 const int32_t *tokens, int32_t n, int32_t *n_equal);
/*
 * As l3_kv_alloc, with the content of a published block; -1 when the two have
 * no room beside all that is reserved.
 */
int32_t		l3_kv_alloc_copy(L3KvPool *pool, int32_t from);
/*
 * Publish a referenced, completely computed block.  When another block with
 * the same meaning is published already, its number is returned, with the
 * reference moved to it; else the block's own.
 */
int32_t		l3_kv_publish(L3KvPool *pool, int32_t block, uint64_t parent,
						  uint64_t salt, const int32_t *tokens);

/* Tiles of one layer and KV head. */
static inline void *
l3_kv_key_tile(const L3KvPool *pool, int32_t block, uint32_t layer, uint32_t head)
{
	return pool->base + (size_t) block * pool->block_bytes +
		((size_t) layer * pool->n_kv_heads + head) * (pool->k_bytes + pool->v_bytes);
}

static inline void *
l3_kv_value_tile(const L3KvPool *pool, int32_t block, uint32_t layer, uint32_t head)
{
	return (uint8_t *) l3_kv_key_tile(pool, block, layer, head) + pool->k_bytes;
}

/* Copy a block's content. */
void		l3_kv_copy(const L3KvPool *pool, int32_t to, int32_t from);

#endif							/* L3_KV_H */
