/*-------------------------------------------------------------------------
 *
 * pool.h
 *	  Compute threads: run a function over numbered tasks, then meet.
 *
 * The threads block all signals but SIGILL and never call anything of PostgreSQL's.
 * Which thread takes which task is left to chance; results may not depend on
 * it.  Waiting threads spin for a short time and then sleep on a futex (or a
 * condition variable), so an idle engine uses no CPU.
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_POOL_H
#define L3_POOL_H

#include "engine.h"
#include "placement.h"

typedef struct L3Pool L3Pool;

/* thread: 0 (the caller) .. n_threads - 1 */
typedef void (*L3TaskFn) (void *ctx, int task, int thread);

L3Status	l3_pool_create(int n_threads, L3Pool **pool, L3Error *err);
void		l3_pool_destroy(L3Pool *pool);
int			l3_pool_threads(const L3Pool *pool);

/*
 * Hold each thread to the CPUs of its node.  The caller's own affinity comes
 * back when it destroys the pool.  Returns 0, or the errno of who refuses: then
 * nothing is held.
 */
int			l3_pool_pin(L3Pool *pool, const L3Machine *machine, const L3Team *team);

/* Run fn for tasks 0 .. n_tasks - 1 on all threads; return when all are done. */
void		l3_pool_run(L3Pool *pool, L3TaskFn fn, void *ctx, int n_tasks);

#endif							/* L3_POOL_H */
