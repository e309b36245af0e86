/*-------------------------------------------------------------------------
 *
 * test_kv.c
 *	  KV blocks: references, the prefix cache, eviction, the bound.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "tap.h"

static const L3Hparams *
big_shape(void)
{
	static L3Hparams hp;

	hp = fixture_hparams();
	hp.n_layers = 7;
	return &hp;
}

static L3KvPool *
make_pool(L3Kv *kv, const L3Hparams *hp)
{
	L3KvPool   *pool;
	L3Error		err;

	fixture_check(l3_kv_pool_create(kv, hp, L3_KV_F32, &pool, &err), &err);
	return pool;
}

static int32_t
take(L3KvPool *pool)
{
	L3Error		err;

	fixture_check(l3_kv_reserve(pool, 1, &err), &err);
	return l3_kv_alloc(pool);
}

/* Take a block and publish it with 16 times this token. */
static int32_t
take_published(L3KvPool *pool, uint64_t parent, int32_t token)
{
	int32_t		tokens[L3_KV_BLOCK];

	for (int i = 0; i < L3_KV_BLOCK; i++)
		tokens[i] = token;
	return l3_kv_publish(pool, take(pool), parent, 1, tokens);
}

static int32_t
find(const L3KvPool *pool, uint64_t parent, uint64_t salt, int32_t token)
{
	int32_t		tokens[L3_KV_BLOCK];

	for (int i = 0; i < L3_KV_BLOCK; i++)
		tokens[i] = token;
	return l3_kv_find(pool, parent, salt, tokens);
}

static void
test_publication(void)
{
	L3Hparams	hp = fixture_hparams();
	L3KvPool   *pool;
	L3Kv		kv;
	int32_t		first;
	int32_t		second;
	int32_t		again;

	l3_kv_init(&kv, 8 * l3_kv_block_bytes(&hp, L3_KV_F32));
	pool = make_pool(&kv, &hp);
	first = take_published(pool, 0, 5);
	second = take_published(pool, pool->blocks[first].serial, 6);
	tap_ok(find(pool, 0, 1, 5) == first && find(pool, pool->blocks[first].serial, 1, 6) == second,
		   "a published block is found");
	tap_ok(find(pool, 0, 1, 6) < 0, "not under another parent");
	tap_ok(find(pool, 0, 2, 5) < 0, "not under another salt");
	again = take_published(pool, 0, 5);
	tap_ok(again == first && pool->blocks[first].refs == 2 && pool->n_used == 2,
		   "publishing the same again gives the first one and frees the second");
	l3_kv_unref(pool, again);
	tap_ok(l3_kv_unref(pool, first) && pool->n_cached == 1 && pool->n_used == 1,
		   "without references it stays cached");
	l3_kv_ref(pool, first);
	tap_ok(pool->n_cached == 0 && pool->n_used == 2 && l3_kv_cached_bytes(&kv) == 0,
		   "and can be taken up again");
	l3_kv_unref(pool, first);
	l3_kv_unref(pool, second);
	l3_kv_pool_destroy(pool);
	tap_ok(kv.resident == 0 && kv.lru.lru_next == &kv.lru, "a destroyed pool leaves nothing cached");
}

static void
test_eviction(void)
{
	L3Hparams	hp = fixture_hparams();
	L3KvPool   *pool;
	L3Kv		kv;
	int32_t		blocks[4];
	int32_t		extra;
	int32_t		evicting;

	l3_kv_init(&kv, 4 * l3_kv_block_bytes(&hp, L3_KV_F32));
	pool = make_pool(&kv, &hp);
	for (int i = 0; i < 4; i++)
		blocks[i] = take_published(pool, 0, i);
	for (int i = 0; i < 4; i++)
		l3_kv_unref(pool, blocks[(i + 2) % 4]);
	extra = take(pool);
	tap_ok(find(pool, 0, 1, 2) < 0 && find(pool, 0, 1, 3) >= 0 && find(pool, 0, 1, 0) >= 0,
		   "the block released first is evicted first");
	tap_ok(kv.resident <= kv.limit, "and the bound holds");
	l3_kv_ref(pool, blocks[3]);
	l3_kv_unref(pool, blocks[3]);
	evicting = take(pool);
	tap_ok(find(pool, 0, 1, 0) < 0 && find(pool, 0, 1, 3) >= 0, "a block in use again is young again");
	tap_ok(pool->blocks[extra].serial == 0, "an evicted block is not published any more");
	l3_kv_unref(pool, extra);
	l3_kv_unref(pool, evicting);
	l3_kv_pool_destroy(pool);
}

/* Two models take turns in filling the same limit. */
static void
test_two_pools(void)
{
	L3Hparams	hp = fixture_hparams();
	size_t		big_bytes = l3_kv_block_bytes(big_shape(), L3_KV_F32);
	L3KvPool   *small;
	L3KvPool   *big;
	L3Kv		kv;
	bool		bounded = true;
	bool		intact = true;

	l3_kv_init(&kv, 10 * big_bytes);
	small = make_pool(&kv, &hp);
	big = make_pool(&kv, big_shape());
	for (int round = 0; round < 6; round++)
	{
		L3KvPool   *pool = round % 2 ? big : small;
		int32_t		n = pool->n_blocks;
		int32_t    *held = malloc((size_t) n * sizeof(int32_t));

		for (int32_t i = 0; i < n; i++)
		{
			held[i] = take_published(pool, 0, round * 10000 + i);
			memset(l3_kv_key_tile(pool, held[i], 0, 0), i & 127, pool->block_bytes);
			bounded = bounded && kv.resident <= kv.limit;
		}
		for (int32_t i = 0; i < n; i++)
		{
			intact = intact && *(uint8_t *) l3_kv_key_tile(pool, held[i], 0, 0) == (i & 127);
			l3_kv_unref(pool, held[i]);
		}
		free(held);
	}
	tap_ok(bounded, "two models of different shapes stay within one bound");
	tap_ok(intact, "and blocks in use keep their content");
	tap_ok(l3_kv_used_bytes(&kv) == 0 && l3_kv_committed_bytes(&kv) == 0, "nothing is left in use");
	l3_kv_pool_destroy(small);
	l3_kv_pool_destroy(big);
	tap_ok(kv.resident == 0 && kv.pools == NULL, "and nothing is resident without pools");
}

static void
test_copy(void)
{
	L3Hparams	hp = fixture_hparams();
	L3KvPool   *pool;
	L3Kv		kv;
	int32_t		from;
	int32_t		to;

	l3_kv_init(&kv, 4 * l3_kv_block_bytes(&hp, L3_KV_F32));
	pool = make_pool(&kv, &hp);
	from = take(pool);
	to = take(pool);
	memset(l3_kv_key_tile(pool, from, 0, 0), 3, pool->block_bytes);
	memset(l3_kv_key_tile(pool, to, 0, 0), 4, pool->block_bytes);
	l3_kv_copy(pool, to, from);
	tap_ok(memcmp(l3_kv_key_tile(pool, to, 0, 0), l3_kv_key_tile(pool, from, 0, 0),
				  pool->block_bytes) == 0, "a fork's copy has all layers and heads");
	l3_kv_unref(pool, from);
	l3_kv_unref(pool, to);
	l3_kv_pool_destroy(pool);
}

/* Publish 16 times `most`, but for its last tokens, which are `last`. */
static int32_t
publish_mixed(L3KvPool *pool, uint64_t parent, int32_t most, int n_last, int32_t last)
{
	int32_t		tokens[L3_KV_BLOCK];

	for (int i = 0; i < L3_KV_BLOCK; i++)
		tokens[i] = i < L3_KV_BLOCK - n_last ? most : last;
	return l3_kv_publish(pool, take(pool), parent, 1, tokens);
}

static void
test_beginnings(void)
{
	L3Hparams	hp = fixture_hparams();
	int32_t		tokens[L3_KV_BLOCK];
	L3KvPool   *pool;
	L3Error		err;
	L3Kv		kv;
	int32_t		five;
	int32_t		eleven;
	int32_t		copy;
	int32_t		n;

	for (int i = 0; i < L3_KV_BLOCK; i++)
		tokens[i] = 7;
	l3_kv_init(&kv, 4 * l3_kv_block_bytes(&hp, L3_KV_F32));
	pool = make_pool(&kv, &hp);
	eleven = publish_mixed(pool, 0, 7, 5, 8);
	five = publish_mixed(pool, 0, 7, 11, 9);
	tap_ok(l3_kv_find_beginning(pool, 0, 1, tokens, 15, &n) == eleven && n == 11,
		   "the block with the longest common beginning is found");
	(void) l3_kv_find_beginning(pool, 0, 1, tokens, 4, &n);
	tap_ok(n == 4, "no more of it than was asked for");
	tokens[0] = 1;
	tap_ok(l3_kv_find_beginning(pool, 0, 1, tokens, 15, &n) < 0 && n == 0, "none that differs at once");
	tokens[0] = 7;
	tap_ok(l3_kv_find_beginning(pool, 0, 2, tokens, 15, &n) < 0, "none under another salt");
	tap_ok(l3_kv_find_beginning(pool, pool->blocks[five].serial, 1, tokens, 15, &n) < 0,
		   "none under another parent");

	memset(l3_kv_key_tile(pool, eleven, 0, 0), 3, pool->block_bytes);
	fixture_check(l3_kv_reserve(pool, 2, &err), &err);
	copy = l3_kv_alloc_copy(pool, eleven);
	tap_ok(copy >= 0 && copy != eleven && pool->blocks[copy].serial == 0 && pool->n_reserved == 1 &&
		   memcmp(l3_kv_key_tile(pool, copy, 0, 0), l3_kv_key_tile(pool, eleven, 0, 0),
				  pool->block_bytes) == 0, "a copy has its content, and is another block");

	/* three in use and one reserved is all there is: the cached one must give way */
	l3_kv_unref(pool, eleven);
	fixture_check(l3_kv_reserve(pool, 1, &err), &err);
	tap_ok(l3_kv_alloc_copy(pool, eleven) < 0 && pool->n_reserved == 2 && pool->n_cached == 1,
		   "there is no copy where block and copy have no room");
	l3_kv_unref(pool, copy);
	copy = take(pool);
	l3_kv_unref(pool, l3_kv_alloc(pool));
	l3_kv_unref(pool, l3_kv_alloc(pool));
	tap_ok(l3_kv_find_beginning(pool, 0, 1, tokens, 15, &n) == eleven && n == 11,
		   "a block that is still cached is found");
	l3_kv_unref(pool, five);
	tap_ok(l3_kv_find_beginning(pool, 0, 1, tokens, 15, &n) == eleven && n == 11, "also beside others");
	fixture_check(l3_kv_reserve(pool, 2, &err), &err);
	l3_kv_unref(pool, copy);
	for (int i = 0; i < 2; i++)
		(void) l3_kv_alloc(pool);
	(void) take(pool);
	tap_ok(l3_kv_find_beginning(pool, 0, 1, tokens, 15, &n) == five && n == 5,
		   "one that was evicted is found no more, but its siblings are");
	l3_kv_pool_destroy(pool);
}

int
main(void)
{
	test_beginnings();
	test_publication();
	test_eviction();
	test_two_pools();
	test_copy();
	return tap_done();
}
