/*-------------------------------------------------------------------------
 *
 * reference_main.c
 *	  The reference on the command line, for looking at a disagreement.
 *
 *	  reference MODEL logits TOKEN...		one logit per line
 *	  reference MODEL logprobs TOKEN...		of each token after the first
 *	  reference MODEL greedy N TOKEN...		N ids, and the smallest gap
 *	  reference MODEL mean|last TOKEN...	the embedding, one value per line
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
print_values(const double *values, int n)
{
	for (int i = 0; i < n; i++)
		printf("%d %.9g\n", i, values[i]);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	bool		greedy = strcmp(what, "greedy") == 0;
	int			first = greedy ? 4 : 3;
	int			n = argc - first;
	RefModel   *m;
	int		   *tokens;
	double	   *out;

	if (n < 1)
		ref_fail("usage: reference MODEL (logits|logprobs|greedy N|mean|last) TOKEN...");
	m = ref_load(argv[1]);
	tokens = ref_alloc(sizeof(int) * (size_t) n);
	out = ref_alloc(sizeof(double) * (size_t) (m->n_vocab + m->n_embd + n));
	for (int i = 0; i < n; i++)
		tokens[i] = atoi(argv[first + i]);

	if (greedy)
	{
		int			n_more = atoi(argv[3]);
		int		   *more = ref_alloc(sizeof(int) * (size_t) n_more);
		double		gap = ref_greedy(m, tokens, n, n_more, more);

		for (int i = 0; i < n_more; i++)
			printf("%d%c", more[i], i + 1 < n_more ? ' ' : '\n');
		printf("smallest gap %.9g\n", gap);
		free(more);
	}
	else if (strcmp(what, "logits") == 0)
	{
		ref_logits(m, tokens, n, out);
		print_values(out, m->n_vocab);
	}
	else if (strcmp(what, "logprobs") == 0)
	{
		ref_logprobs(m, tokens, n, 1, out);
		print_values(out, n - 1);
	}
	else if (strcmp(what, "mean") == 0 || strcmp(what, "last") == 0)
	{
		ref_embed(m, tokens, n, what[0] == 'm', out);
		print_values(out, m->n_embd);
	}
	else
		ref_fail("unknown command \"%s\"", what);
	free(tokens);
	free(out);
	ref_free(m);
	return 0;
}
