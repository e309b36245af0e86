/*-------------------------------------------------------------------------
 *
 * numbering.c
 *	  Numbered things: sorting their numbers, a table to find them.
 *
 *-------------------------------------------------------------------------
 */
#include "numbering.h"

#include <stdlib.h>
#include <string.h>

#define MIN_SLOTS	64

static int
compare_numbers(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

void
l3_sort_numbers(uint32_t *numbers, uint32_t n)
{
	qsort(numbers, n, sizeof(uint32_t), compare_numbers);
}

uint32_t
l3_sort_unique(uint32_t *numbers, uint32_t n)
{
	uint32_t	n_unique = 0;

	l3_sort_numbers(numbers, n);
	for (uint32_t i = 0; i < n; i++)
		if (n_unique == 0 || numbers[n_unique - 1] != numbers[i])
			numbers[n_unique++] = numbers[i];
	return n_unique;
}

bool
l3_slots_reserve(L3Slots *table, uint32_t n_things, bool *emptied)
{
	uint32_t	n = table->n == 0 ? MIN_SLOTS : table->n * 2;
	uint32_t   *slots;

	*emptied = false;
	if (n_things < table->n / 2)
		return true;
	slots = malloc(n * sizeof(uint32_t));
	if (slots == NULL)
		return false;
	memset(slots, 0xFF, n * sizeof(uint32_t));	/* L3_SLOT_FREE */
	free(table->slots);
	table->slots = slots;
	table->n = n;
	*emptied = true;
	return true;
}
