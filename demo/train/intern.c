/*-------------------------------------------------------------------------
 *
 * intern.c
 *	  A set of byte strings, numbered in the order in which they came.
 *
 * An open-addressing hash table over one array of bytes: a corpus has half a
 * million different words, and none is ever taken out.
 *
 *-------------------------------------------------------------------------
 */
#include "intern.h"

#include <stdlib.h>
#include <string.h>

#include "trainer.h"

#define MIN_SLOTS	1024

/* FNV-1a, 32 bits. */
static uint32_t
hash_bytes(const char *bytes, size_t len)
{
	uint32_t	hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t) bytes[i]) * 16777619u;
	return hash;
}

/* The slot of the string, or the empty one where it would be. */
static uint32_t
find_slot(const TrIntern *set, const char *bytes, size_t len, uint32_t hash)
{
	uint32_t	slot = hash & (set->n_slots - 1);

	while (set->slots[slot] != 0)
	{
		const TrString *string = &set->strings[set->slots[slot] - 1];

		if (string->hash == hash && string->len == len &&
			memcmp(set->bytes + string->offset, bytes, len) == 0)
			break;
		slot = (slot + 1) & (set->n_slots - 1);
	}
	return slot;
}

static void *
grow(void *array, size_t size)
{
	array = realloc(array, size);
	if (array == NULL)
		tr_fail("out of memory for a set of strings");
	return array;
}

static void
double_slots(TrIntern *set)
{
	set->n_slots = set->n_slots == 0 ? MIN_SLOTS : set->n_slots * 2;
	free(set->slots);
	set->slots = tr_alloc(set->n_slots * sizeof(*set->slots));
	for (uint32_t i = 0; i < set->n; i++)
	{
		uint32_t	slot = set->strings[i].hash & (set->n_slots - 1);

		while (set->slots[slot] != 0)
			slot = (slot + 1) & (set->n_slots - 1);
		set->slots[slot] = i + 1;
	}
}

uint32_t
tr_intern(TrIntern *set, const char *bytes, size_t len, bool *added)
{
	uint32_t	hash = hash_bytes(bytes, len);
	uint32_t	slot;

	if ((uint64_t) set->n * 2 >= set->n_slots)
		double_slots(set);
	slot = find_slot(set, bytes, len, hash);
	if (added != NULL)
		*added = set->slots[slot] == 0;
	if (set->slots[slot] != 0)
		return set->slots[slot] - 1;

	if (set->n_bytes + len > set->byte_capacity)
	{
		set->byte_capacity = (set->n_bytes + len) * 2;
		set->bytes = grow(set->bytes, set->byte_capacity);
	}
	if (set->n == set->capacity)
	{
		set->capacity = set->capacity * 2 + MIN_SLOTS / 2;
		set->strings = grow(set->strings, set->capacity * sizeof(*set->strings));
	}
	memcpy(set->bytes + set->n_bytes, bytes, len);
	set->strings[set->n] = (TrString)
	{
		.offset = set->n_bytes,.len = (uint32_t) len,.hash = hash
	};
	set->n_bytes += len;
	set->slots[slot] = ++set->n;
	return set->n - 1;
}

int64_t
tr_intern_find(const TrIntern *set, const char *bytes, size_t len)
{
	if (set->n == 0)
		return -1;
	return (int64_t) set->slots[find_slot(set, bytes, len, hash_bytes(bytes, len))] - 1;
}

void
tr_intern_free(TrIntern *set)
{
	free(set->bytes);
	free(set->strings);
	free(set->slots);
	memset(set, 0, sizeof(*set));
}
