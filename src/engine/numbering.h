/*-------------------------------------------------------------------------
 *
 * numbering.h
 *	  Numbered things: sorted runs of their numbers, and a table that finds
 *	  them by their content.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_NUMBERING_H
#define L3_NUMBERING_H

#include <stdbool.h>
#include <stdint.h>

void		l3_sort_numbers(uint32_t *numbers, uint32_t n);
/* The same, each once; returns how many are left. */
uint32_t	l3_sort_unique(uint32_t *numbers, uint32_t n);

#define L3_SLOT_FREE	UINT32_MAX

/*
 * Open addressing: numbers of things, each at the slot of its content's hash or
 * behind it.  Zero-initialise; free() slots.
 */
typedef struct L3Slots
{
	uint32_t   *slots;			/* (n) numbers or L3_SLOT_FREE */
	uint32_t	n;				/* 0 or a power of 2 */
} L3Slots;

/*
 * Make room for one thing more than n_things.  When *emptied is set the table
 * has grown: all its slots are free, and all things are to be entered again.
 * False without memory.
 */
bool		l3_slots_reserve(L3Slots *table, uint32_t n_things, bool *emptied);

#endif							/* L3_NUMBERING_H */
