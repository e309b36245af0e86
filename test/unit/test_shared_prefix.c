/*-------------------------------------------------------------------------
 *
 * test_shared_prefix.c
 *	  Sequences that begin in the same KV blocks change no bit of each other's
 *	  answers.
 *
 * Generated answers with their log probabilities, and labels' probabilities,
 * behind three beginnings, against each request alone without a prefix cache.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "tap.h"

#define N_JOBS		36
#define N_LABELS	3

static const int32_t labels[] = {5, 9, 7, 5, 9, 8, 11};
static const int32_t label_end[N_LABELS] = {3, 6, 7};

/*
 * A third of the jobs each behind 70, 200 and 300 tokens that they share, with up
 * to 180 of their own: ends in the same steps as others begin.
 */
static void
fill(Job *jobs)
{
	static const int common[] = {70, 200, 300};
	uint64_t	state = 3;

	for (int i = 0; i < N_JOBS; i++)
	{
		int			n_common = common[i % 3];
		int			own = 1 + (int) (fixture_random(&state) % 180);

		/* labels on either side of a split of the attention */
		if (i % 4 == 3 && n_common < 255)
			own = 255 - n_common;
		memset(&jobs[i], 0, sizeof(jobs[i]));
		job_prompt(&jobs[i], n_common + own, n_common, (uint64_t) i + 1);
		if (i % 4 == 3)
			job_score(&jobs[i], labels, label_end, N_LABELS);
		else
		{
			job_generate(&jobs[i], 24, i % 4 == 0 ? 0 : 1);
			jobs[i].request.prompt_lookup = i % 4 < 2;
			jobs[i].request.sampling.seed = (uint64_t) i;
		}
	}
}

static void
run_jobs(const L3Arena *arena, L3KvType kv_type, int n_threads, bool together, Job *jobs)
{
	L3EngineOptions options = fixture_options();
	Rig			rig;

	options.kv_type = kv_type;
	options.n_threads = n_threads;
	options.prefix_cache = together;
	if (!together)
	{
		options.max_sequences = 4;	/* labels are as many */
		options.batch_tokens = 50;	/* chunks that end in the middle of tiles */
	}
	rig_open(&rig, arena, options, NULL);
	fill(jobs);
	if (together)
		rig_run(&rig, jobs, N_JOBS);
	else
		for (int i = 0; i < N_JOBS; i++)
			rig_run(&rig, &jobs[i], 1);
	rig_close(&rig);
}

int
main(void)
{
	static const struct
	{
		const char *name;
		L3KvType	type;
	}			kv_types[] = {{"f32", L3_KV_F32}, {"f16", L3_KV_F16}, {"q8_0", L3_KV_Q8_0}};
	L3Hparams	hp = fixture_hparams();
	const L3Arena *arena = fixture_arena(&hp, L3_Q8_0, 21);
	Job		   *alone = calloc(N_JOBS, sizeof(Job));
	Job		   *together = calloc(N_JOBS, sizeof(Job));

	for (int t = 0; t < 3; t++)
	{
		run_jobs(arena, kv_types[t].type, 1, false, alone);
		for (int n_threads = 1; n_threads <= 2; n_threads++)
		{
			int			n_differ = 0;
			int			n_cached = 0;

			run_jobs(arena, kv_types[t].type, n_threads, true, together);
			for (int i = 0; i < N_JOBS; i++)
			{
				n_differ += !job_same(&alone[i], &together[i]);
				n_cached += together[i].result.n_cached;
			}
			tap_ok(n_differ == 0, "keys and values in %s, %d threads: answers as alone (%d differ)",
				   kv_types[t].name, n_threads, n_differ);
			tap_ok(n_cached > N_JOBS * 100, "and %d of their tokens' keys were shared", n_cached);
		}
	}
	free(together);
	free(alone);
	free((void *) arena);
	return tap_done();
}
