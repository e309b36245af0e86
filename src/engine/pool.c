/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  Compute threads.
 *
 * A run is published by storing its task count in "remaining", the one word
 * that threads compete for: whoever lowers it by compare-and-swap owns a task.
 * Everything else about the run (fn, ctx, n_tasks) is written before that
 * store and may be read only by the owner of a task, and a run does not end
 * before all of its tasks are counted in "done".  So a thread that comes late
 * finds either nothing or a task of whatever run is current, and the caller
 * never waits for a thread that took no task: on a machine with fewer free
 * cores than threads, those who got a core do all the work.
 *
 * Idle threads spin for SPIN_NANOSECONDS, since the next run usually comes
 * within microseconds, and then sleep on a condition variable.  Nobody spins
 * when there are more threads than CPUs.  A sleeper announces itself before
 * it looks a last time, and a waker publishes before it looks for sleepers;
 * both orders are sequentially consistent, so one of the two sees the other.
 *
 *-------------------------------------------------------------------------
 */

#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define L3_MAX_THREADS		1024

/* About the cost of putting a thread to sleep and waking it. */
#define SPIN_NANOSECONDS	30000
#define SPINS_PER_CLOCK		32

struct L3Pool
{
	/* The current run; readable by the owner of a task. */
	L3TaskFn	fn;
	void	   *ctx;
	int			n_tasks;

	_Atomic int remaining __attribute__((aligned(64))); /* tasks not yet taken */
	_Atomic int done __attribute__((aligned(64)));	/* tasks finished */

	_Atomic int sleepers __attribute__((aligned(64)));	/* threads in wake */
	_Atomic bool caller_sleeps;
	_Atomic bool stop;
	pthread_mutex_t mutex;		/* only around the condition variables */
	pthread_cond_t wake;		/* work, or stop */
	pthread_cond_t finished;	/* done == n_tasks */

	bool		spin;			/* constant, as are all below */
	int			n_threads;		/* the caller's included */
	int			n_started;		/* pthreads to join */
	bool		pinned;
	cpu_set_t	unpinned;		/* the caller's affinity before */
	struct PoolThread *threads; /* (n_threads - 1) */
};

typedef struct PoolThread
{
	L3Pool	   *pool;
	int			index;			/* 1 .. n_threads - 1 */
	pthread_t	pthread;
} PoolThread;

static inline void
cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static int64_t
now_nanoseconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Take a task: its number, or -1 when none is left. */
static int
take_task(L3Pool *pool)
{
	int			remaining = atomic_load_explicit(&pool->remaining, memory_order_relaxed);

	while (remaining > 0)
	{
		if (atomic_compare_exchange_weak_explicit(&pool->remaining, &remaining, remaining - 1,
												  memory_order_acquire, memory_order_relaxed))
			return pool->n_tasks - remaining;
	}
	return -1;
}

/* Work until no task is left; wakes the caller after the last one. */
static void
work(L3Pool *pool, int thread)
{
	int			task;

	while ((task = take_task(pool)) >= 0)
	{
		int			n_tasks = pool->n_tasks;

		pool->fn(pool->ctx, task, thread);

		/* After the last task is counted the run is over for the caller. */
		if (atomic_fetch_add(&pool->done, 1) + 1 == n_tasks &&
			thread != 0 && atomic_load(&pool->caller_sleeps))
		{
			pthread_mutex_lock(&pool->mutex);
			pthread_cond_signal(&pool->finished);
			pthread_mutex_unlock(&pool->mutex);
		}
	}
}

static bool
has_work(L3Pool *pool)
{
	return atomic_load(&pool->remaining) > 0 || atomic_load(&pool->stop);
}

static bool
run_finished(L3Pool *pool)
{
	return atomic_load(&pool->done) == pool->n_tasks;
}

/* Spin until ready(pool) or for the longest time worth it. */
static bool
spin_until(L3Pool *pool, bool (*ready) (L3Pool *))
{
	int64_t		deadline;

	if (ready(pool))
		return true;
	if (!pool->spin)
		return false;
	deadline = now_nanoseconds() + SPIN_NANOSECONDS;
	do
	{
		for (int i = 0; i < SPINS_PER_CLOCK; i++)
		{
			cpu_pause();
			if (ready(pool))
				return true;
		}
	} while (now_nanoseconds() < deadline);
	return false;
}

static void
sleep_until_work(L3Pool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	atomic_fetch_add(&pool->sleepers, 1);
	while (!has_work(pool))
		pthread_cond_wait(&pool->wake, &pool->mutex);
	atomic_fetch_sub(&pool->sleepers, 1);
	pthread_mutex_unlock(&pool->mutex);
}

static void
sleep_until_finished(L3Pool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	atomic_store(&pool->caller_sleeps, true);
	while (!run_finished(pool))
		pthread_cond_wait(&pool->finished, &pool->mutex);
	atomic_store(&pool->caller_sleeps, false);
	pthread_mutex_unlock(&pool->mutex);
}

static void *
thread_main(void *arg)
{
	PoolThread *self = arg;
	L3Pool	   *pool = self->pool;

	while (!atomic_load(&pool->stop))
	{
		work(pool, self->index);
		if (!spin_until(pool, has_work))
			sleep_until_work(pool);
	}
	return NULL;
}

/* CPUs that this process may run on. */
static int
usable_cpus(void)
{
	cpu_set_t	set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return L3_MAX_THREADS;	/* more CPUs than the set can name */
	return CPU_COUNT(&set);
}

static int
start_threads(L3Pool *pool)
{
	sigset_t	all;
	sigset_t	saved;
	int			rc = 0;

	/*
	 * A signal must find the main thread: handlers use its state.  An instruction
	 * that this CPU has not got is the thread's own, and may be emulated.
	 */
	sigfillset(&all);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	for (int i = 1; i < pool->n_threads; i++)
	{
		PoolThread *thread = &pool->threads[i - 1];

		thread->pool = pool;
		thread->index = i;
		rc = pthread_create(&thread->pthread, NULL, thread_main, thread);
		if (rc != 0)
			break;
		pthread_setname_np(thread->pthread, "llama3 compute");
		pool->n_started++;
	}
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return rc;
}

L3Status
l3_pool_create(int n_threads, L3Pool **result, L3Error *err)
{
	L3Pool	   *pool;
	int			rc;

	*result = NULL;
	if (n_threads < 1 || n_threads > L3_MAX_THREADS)
		return l3_error(err, L3_ERR_ARG, "number of compute threads must be 1 to %d, not %d",
						L3_MAX_THREADS, n_threads);
	pool = aligned_alloc(64, sizeof(L3Pool));
	if (pool == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	memset(pool, 0, sizeof(*pool));
	atomic_init(&pool->remaining, 0);
	atomic_init(&pool->done, 0);
	atomic_init(&pool->sleepers, 0);
	atomic_init(&pool->caller_sleeps, false);
	atomic_init(&pool->stop, false);
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pthread_cond_init(&pool->finished, NULL);
	pool->n_threads = n_threads;
	pool->spin = n_threads <= usable_cpus();
	pool->threads = calloc((size_t) n_threads, sizeof(PoolThread));
	rc = pool->threads ? start_threads(pool) : 0;
	if (pool->threads == NULL || rc != 0)
	{
		l3_pool_destroy(pool);
		if (rc != 0)
			return l3_error(err, L3_ERR_MEMORY, "could not start a compute thread: %s",
							strerror(rc));
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	}
	*result = pool;
	return L3_OK;
}

void
l3_pool_destroy(L3Pool *pool)
{
	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->mutex);
	atomic_store(&pool->stop, true);
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->mutex);
	for (int i = 0; i < pool->n_started; i++)
		pthread_join(pool->threads[i].pthread, NULL);
	if (pool->pinned)
		(void) sched_setaffinity(0, sizeof(pool->unpinned), &pool->unpinned);
	pthread_cond_destroy(&pool->finished);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->mutex);
	free(pool->threads);
	free(pool);
}

int
l3_pool_threads(const L3Pool *pool)
{
	return pool->n_threads;
}

/* Hold the pool's thread t, called by thread 0. */
static int
set_affinity(L3Pool *pool, int t, const cpu_set_t *cpus)
{
	return pthread_setaffinity_np(t == 0 ? pthread_self() : pool->threads[t - 1].pthread,
								  sizeof(*cpus), cpus);
}

int
l3_pool_pin(L3Pool *pool, const L3Machine *machine, const L3Team *team)
{
	int			rc;

	if (l3_placement_node(machine, team, 0) < 0)
		return 0;
	rc = pthread_getaffinity_np(pthread_self(), sizeof(pool->unpinned), &pool->unpinned);
	for (int t = 0; t < pool->n_threads && rc == 0; t++)
		rc = set_affinity(pool, t, &machine->cpus[l3_placement_node(machine, team, t)]);
	pool->pinned = rc == 0;
	for (int t = 0; t < pool->n_threads && rc != 0; t++)
		(void) set_affinity(pool, t, &pool->unpinned);
	return rc;
}

void
l3_pool_run(L3Pool *pool, L3TaskFn fn, void *ctx, int n_tasks)
{
	if (n_tasks <= 1 || pool->n_threads == 1)
	{
		for (int task = 0; task < n_tasks; task++)
			fn(ctx, task, 0);
		return;
	}

	pool->fn = fn;
	pool->ctx = ctx;
	pool->n_tasks = n_tasks;
	atomic_store(&pool->done, 0);
	atomic_store(&pool->remaining, n_tasks);
	if (atomic_load(&pool->sleepers) > 0)
	{
		pthread_mutex_lock(&pool->mutex);
		pthread_cond_broadcast(&pool->wake);
		pthread_mutex_unlock(&pool->mutex);
	}
	work(pool, 0);
	if (!spin_until(pool, run_finished))
		sleep_until_finished(pool);
}
