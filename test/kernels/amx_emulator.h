/*-------------------------------------------------------------------------
 *
 * amx_emulator.h
 *	  AMX instructions on CPUs that have none, for tests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AMX_EMULATOR_H
#define AMX_EMULATOR_H

#include <stdbool.h>

/*
 * From here on carry out this process's AMX instructions in software, at the
 * signal that the CPU raises for them (a microsecond or two).  What is an error
 * for the CPU (tiles whose sizes do not fit, tiles not configured) ends the
 * program with a message.  Faulty: the last row of a product is not added to.
 */
void		emulate_amx(bool faulty);

#endif							/* AMX_EMULATOR_H */
