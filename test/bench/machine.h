/*-------------------------------------------------------------------------
 *
 * machine.h
 *	  What the machine can do: the ceilings of prefill and decode.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "pool.h"

/* Bytes per second that all threads together read from memory, the best of three. */
double		machine_bandwidth(L3Pool *pool);

/*
 * 8-bit multiplications and additions per second (two operations for each) that
 * all threads together do in registers, with the widest instruction for them that
 * is among features (kernels/cpu.h), named in *instruction; 0 where it is none that
 * we know.  The best of three.
 */
double		machine_int8_rate(L3Pool *pool, unsigned features, const char **instruction);

#endif							/* BENCH_MACHINE_H */
