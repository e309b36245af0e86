/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Prompt lookup: the next tokens of an answer, guessed from those before.
 *
 * The earlier place is the one whose tokens agree with the last ones for the
 * longest, up to MAX_AGREE of them; of several the latest.  Less than MIN_AGREE
 * is chance.
 *
 * How long drafts are follows how they fare: as many tokens as the last one had
 * right, and more when that was right to its end, rounded up to 3, 7 or 15, so
 * that with the last token the step has 4, 8 or 16 rows.  When not even the
 * first token was right, the next draft is a single one, after a pause that
 * doubles each time: an answer that repeats nothing pays for few rows.
 *
 *-------------------------------------------------------------------------
 */
#include "lookup.h"

#define MIN_AGREE		2
#define MAX_AGREE		4

#define FIRST_DRAFT		3
#define MAX_PAUSE		64

/* How many tokens before and at i agree with those before and at the end. */
static int32_t
agreement(const int32_t *tokens, int32_t n, int32_t i)
{
	int32_t		k = 0;

	while (k < MAX_AGREE && k <= i && tokens[i - k] == tokens[n - 1 - k])
		k++;
	return k;
}

int32_t
l3_lookup_draft(L3Lookup *lookup, int32_t *tokens, int32_t n, int32_t room)
{
	int32_t		best = MIN_AGREE - 1;
	int32_t		from = -1;
	int32_t		n_draft;

	if (lookup->pause > 0)
	{
		lookup->pause--;
		return 0;
	}
	if (lookup->most == 0)
		lookup->most = FIRST_DRAFT;
	for (int32_t i = n - 2; i >= 0 && best < MAX_AGREE; i--)
	{
		int32_t		k = agreement(tokens, n, i);

		if (k > best)
		{
			best = k;
			from = i + 1;
		}
	}
	if (from < 0)
		return 0;
	n_draft = lookup->most < room ? lookup->most : room;
	/* where the place is so near that its tokens run out, the draft repeats itself */
	for (int32_t i = 0; i < n_draft; i++)
		tokens[n + i] = tokens[from + i];
	return n_draft;
}

void
l3_lookup_learn(L3Lookup *lookup, int32_t n_drafted, int32_t n_right)
{
	if (n_right == 0)
	{
		lookup->pause = lookup->next_pause;
		lookup->next_pause = lookup->next_pause == 0 ? 1 : 2 * lookup->next_pause;
		if (lookup->next_pause > MAX_PAUSE)
			lookup->next_pause = MAX_PAUSE;
		lookup->most = 1;
		return;
	}
	lookup->next_pause = 0;
	lookup->most = FIRST_DRAFT;
	while (lookup->most < n_right + (n_right == n_drafted) && lookup->most < L3_LOOKUP_MAX_DRAFT)
		lookup->most = 2 * lookup->most + 1;
}
