/*-------------------------------------------------------------------------
 *
 * stops.c
 *	  Stop strings, found in an answer's bytes as they come.
 *
 * Tokens cut text anywhere, so a stop string may begin in one token and end in
 * another.  Each string keeps how many of its first bytes the answer ends with
 * (Knuth, Morris, Pratt 1977).  A full match stops; the longest partial match
 * is what must be held back.  No answer text is kept, and where the tokens are
 * cut makes no difference.
 *
 *-------------------------------------------------------------------------
 */
#include "stops.h"

#include <stdlib.h>
#include <string.h>

/* fail[i]: length of the longest proper prefix that ends at byte i. */
static void
fill_fail_table(const char *text, int32_t len, int32_t *fail)
{
	int32_t		k = 0;

	fail[0] = 0;
	for (int32_t i = 1; i < len; i++)
	{
		while (k > 0 && text[i] != text[k])
			k = fail[k - 1];
		if (text[i] == text[k])
			k++;
		fail[i] = k;
	}
}

L3Status
l3_stops_init(L3Stops *stops, const char *text, const int32_t *len, int32_t n, L3Error *err)
{
	int64_t		total = 0;
	int32_t		start = 0;

	memset(stops, 0, sizeof(*stops));
	if (n == 0)
		return L3_OK;
	for (int32_t i = 0; i < n; i++)
	{
		if (len[i] < 1)
			return l3_error(err, L3_ERR_ARG, "stop string %d is empty", i + 1);
		total += len[i];
	}
	if (total > INT32_MAX)
		return l3_error(err, L3_ERR_LIMIT, "stop strings are too long");

	stops->text = malloc((size_t) total);
	stops->fail = malloc((size_t) total * sizeof(int32_t));
	stops->end = malloc((size_t) n * sizeof(int32_t));
	stops->matched = calloc((size_t) n, sizeof(int32_t));
	if (stops->text == NULL || stops->fail == NULL || stops->end == NULL || stops->matched == NULL)
	{
		l3_stops_free(stops);
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	}
	stops->n = n;
	stops->total_len = (int32_t) total;
	memcpy(stops->text, text, (size_t) total);
	for (int32_t i = 0; i < n; i++)
	{
		fill_fail_table(stops->text + start, len[i], stops->fail + start);
		start += len[i];
		stops->end[i] = start;
	}
	return L3_OK;
}

void
l3_stops_free(L3Stops *stops)
{
	free(stops->text);
	free(stops->fail);
	free(stops->end);
	free(stops->matched);
	memset(stops, 0, sizeof(*stops));
}

/* Length of the longest stop string that ends with this byte, or 0. */
static int32_t
append_byte(L3Stops *stops, char byte)
{
	int32_t		start = 0;
	int32_t		longest = 0;

	for (int32_t i = 0; i < stops->n; i++)
	{
		const char *text = stops->text + start;
		const int32_t *fail = stops->fail + start;
		int32_t		len = stops->end[i] - start;
		int32_t		k = stops->matched[i];

		while (k > 0 && text[k] != byte)
			k = fail[k - 1];
		if (text[k] == byte)
			k++;
		stops->matched[i] = k;
		if (k == len && len > longest)
			longest = len;
		if (k == len)
			stops->matched[i] = fail[k - 1];
		start += len;
	}
	return longest;
}

bool
l3_stops_append(L3Stops *stops, const char *bytes, uint32_t n, int64_t *n_final)
{
	int32_t		held = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		int32_t		stop = stops->n > 0 ? append_byte(stops, bytes[i]) : 0;

		stops->n_bytes++;
		if (stop > 0)
		{
			*n_final = stops->n_bytes - stop;
			return true;
		}
	}
	for (int32_t i = 0; i < stops->n; i++)
		if (stops->matched[i] > held)
			held = stops->matched[i];
	*n_final = stops->n_bytes - held;
	return false;
}
