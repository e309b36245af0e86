/*-------------------------------------------------------------------------
 *
 * test_pool.c
 *	  The compute threads: every task once, nothing lost, no signal taken.
 *
 *-------------------------------------------------------------------------
 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"

#include "../tap.h"

#define MAX_TASKS	5000

/* What the tasks of a run leave behind. */
typedef struct Run
{
	_Atomic int seen[MAX_TASKS];	/* times that a task was run */
	_Atomic int bad_thread;		/* tasks that got an impossible thread number */
	_Atomic int unblocked;		/* tasks off the main thread that take signals */
	int			n_threads;
	int			plain[MAX_TASKS];	/* written by tasks, read after the run */
	pthread_t	main_thread;
} Run;

static Run run;

static void
count_task(void *ctx, int task, int thread)
{
	Run		   *r = ctx;
	sigset_t	mask;

	atomic_fetch_add(&r->seen[task], 1);
	r->plain[task] = task + 1;
	if (thread < 0 || thread >= r->n_threads ||
		(thread == 0) != (pthread_equal(pthread_self(), r->main_thread) != 0))
		atomic_fetch_add(&r->bad_thread, 1);
	if (thread != 0)
	{
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		if (!sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGINT) ||
			!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGSEGV))
			atomic_fetch_add(&r->unblocked, 1);
	}
}

static L3Pool *
create(int n_threads)
{
	L3Pool	   *pool;
	L3Error		err;

	if (l3_pool_create(n_threads, &pool, &err) != L3_OK)
	{
		tap_note("%s", err.message);
		exit(1);
	}
	return pool;
}

static bool
each_task_once(L3Pool *pool, int n_tasks)
{
	memset(&run, 0, sizeof(run));
	run.n_threads = l3_pool_threads(pool);
	run.main_thread = pthread_self();
	l3_pool_run(pool, count_task, &run, n_tasks);
	for (int i = 0; i < MAX_TASKS; i++)
	{
		int			expected = i < n_tasks ? 1 : 0;

		if (run.seen[i] != expected || run.plain[i] != expected * (i + 1))
			return false;
	}
	return run.bad_thread == 0;
}

static void
test_tasks(void)
{
	static const int sizes[] = {0, 1, 2, 3, 7, 8, 9, 63, 64, 1000, MAX_TASKS};

	for (int n_threads = 1; n_threads <= 8; n_threads++)
	{
		L3Pool	   *pool = create(n_threads);
		bool		ok = l3_pool_threads(pool) == n_threads;
		int			unblocked = 0;

		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		{
			ok = each_task_once(pool, sizes[i]) && ok;
			unblocked += run.unblocked;
		}
		tap_ok(ok, "%d threads run every task exactly once", n_threads);
		tap_ok(unblocked == 0, "%d threads: compute threads block signals", n_threads);
		l3_pool_destroy(pool);
	}
}

/* Tiny runs one after another: a thread that comes late must do no harm. */
static void
sum_task(void *ctx, int task, int thread)
{
	(void) thread;
	((int *) ctx)[task]++;
}

static void
test_many_runs(int n_threads, int n_runs, int pause_every)
{
	L3Pool	   *pool = create(n_threads);
	int			slots[16] = {0};
	bool		ok = true;
	struct timespec pause = {0, 200000};	/* long enough to fall asleep */

	for (int i = 0; i < n_runs; i++)
	{
		l3_pool_run(pool, sum_task, slots, 1 + i % 16);
		if (pause_every && i % pause_every == 0)
			nanosleep(&pause, NULL);
	}
	for (int s = 0; s < 16; s++)
	{
		int			expected = 0;

		for (int i = 0; i < n_runs; i++)
			expected += s <= i % 16;
		ok = ok && slots[s] == expected;
	}
	tap_ok(ok, "%d threads: %d short runs%s lose no task", n_threads, n_runs,
		   pause_every ? " with pauses" : "");
	l3_pool_destroy(pool);
}

/* A task that outlasts the spinning, so that the caller sleeps. */
static void
slow_task(void *ctx, int task, int thread)
{
	struct timespec pause = {0, 300000};

	(void) ctx;
	(void) task;
	if (thread != 0)
		nanosleep(&pause, NULL);
}

static void
test_sleeping_caller(void)
{
	L3Pool	   *pool = create(3);

	for (int i = 0; i < 200; i++)
		l3_pool_run(pool, slow_task, NULL, 6);
	tap_ok(true, "a caller that sleeps is woken by the last task");
	l3_pool_destroy(pool);
}

static void
test_create_destroy(void)
{
	for (int i = 0; i < 200; i++)
	{
		L3Pool	   *pool = create(1 + i % 8);
		int			slots[4] = {0};

		if (i % 2)
			l3_pool_run(pool, sum_task, slots, 4);
		l3_pool_destroy(pool);
	}
	l3_pool_destroy(NULL);
	tap_ok(true, "pools can be made and destroyed at once, used or not");
}

static void
test_arguments(void)
{
	L3Pool	   *pool = (L3Pool *) &run;
	L3Error		err;

	tap_ok(l3_pool_create(0, &pool, &err) == L3_ERR_ARG && pool == NULL, "no threads is an error");
	tap_ok(l3_pool_create(100000, &pool, &err) == L3_ERR_ARG && pool == NULL,
		   "an absurd number of threads is an error");
}

/* The caller's own mask is as before, and an idle pool uses no CPU time. */
static void
test_idle(void)
{
	sigset_t	before,
				after;
	L3Pool	   *pool;
	struct timespec pause = {0, 300000000};
	clock_t		start;

	memset(&before, 0, sizeof(before));	/* the calls fill only the kernel's part */
	memset(&after, 0, sizeof(after));
	pthread_sigmask(SIG_SETMASK, &before, NULL);	/* none blocked */
	pool = create(4);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	tap_ok(memcmp(&before, &after, sizeof(before)) == 0, "the caller's signal mask is restored");
	each_task_once(pool, 100);
	start = clock();
	nanosleep(&pause, NULL);
	/* Three spinning threads would use up to 0.9 s. */
	tap_ok(clock() - start < CLOCKS_PER_SEC / 20, "idle threads sleep");
	l3_pool_destroy(pool);
}

int
main(void)
{
	alarm(120);					/* a lost wake-up must fail, not hang */
	test_arguments();
	test_tasks();
	for (int n_threads = 1; n_threads <= 8; n_threads++)
		test_many_runs(n_threads, 5000, 0);
	test_many_runs(2, 2000, 7);
	test_many_runs(4, 2000, 7);
	test_sleeping_caller();
	test_create_destroy();
	test_idle();
	return tap_done();
}
