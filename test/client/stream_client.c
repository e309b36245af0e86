/*-------------------------------------------------------------------------
 *
 * stream_client.c
 *	  Do the rows of llama_generate_stream reach a client while generation
 *	  goes on?
 *
 *	  stream_client CONNECTION-STRING
 *
 * A client in libpq's single-row mode takes the first row and then asks,
 * through a second connection, whether the request still runs.  That is a
 * proof without a clock: a server that sends all rows at the end can never be
 * seen running by a client that has a row.  The answer must be long enough to
 * be looked at, so the prompt with the longest one is searched for first.
 *
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap.h"

#define MAX_TOKENS		3000
#define N_PROMPTS		40
#define N_TRIES			20		/* where an answer may end before we look */
#define OPTIONS			"max_tokens => %d, repeat_penalty => 0.5"	/* repeating is rewarded */
#define GONE_SECONDS	30		/* for a request to vanish, on any machine */

static PGconn *
open_connection(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(2);
	}
	return conn;
}

/* The single value of a query that must succeed; in a static buffer. */
static const char *
query_value(PGconn *conn, const char *query)
{
	static char *value;
	PGresult   *result = PQexec(conn, query);

	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "%s: %s", query, PQresultErrorMessage(result));
		exit(2);
	}
	free(value);
	value = strdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return value;
}

/* How many of the process's requests are in this state ("%": any)? */
static int
n_requests(PGconn *monitor, PGconn *client, const char *state)
{
	char		query[256];

	snprintf(query, sizeof(query),
			 "SELECT count(*) FROM llama_stat_requests WHERE pid = %d AND state LIKE '%s'",
			 PQbackendPID(client), state);
	return atoi(query_value(monitor, query));
}

static bool
requests_vanish(PGconn *monitor, PGconn *client)
{
	for (int i = 0; i < GONE_SECONDS * 100; i++)
	{
		if (n_requests(monitor, client, "%") == 0)
			return true;
		usleep(10000);
	}
	return false;
}

static void
send_stream(PGconn *client, int prompt)
{
	char		query[256];

	snprintf(query, sizeof(query),
			 "SELECT llama_generate_stream('Question number %d', " OPTIONS ")", prompt, MAX_TOKENS);
	if (!PQsendQuery(client, query) || !PQsetSingleRowMode(client))
	{
		fprintf(stderr, "%s", PQerrorMessage(client));
		exit(2);
	}
}

/* What was read of a stream. */
typedef struct Stream
{
	char	   *text;
	size_t		len;
	int			n_rows;
	bool		running_at_first_row;
	char		sqlstate[6];	/* "" when it ended well */
} Stream;

/* Read a stream to its end; with cancel, ask the server to stop at row 1. */
static void
read_stream(PGconn *client, PGconn *monitor, bool cancel, Stream *stream)
{
	PGresult   *result;

	*stream = (Stream) {.text = calloc(1, 1)};
	while ((result = PQgetResult(client)) != NULL)
	{
		const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		if (PQresultStatus(result) == PGRES_SINGLE_TUPLE)
		{
			size_t		n = PQgetlength(result, 0, 0);

			stream->text = realloc(stream->text, stream->len + n + 1);
			memcpy(stream->text + stream->len, PQgetvalue(result, 0, 0), n + 1);
			stream->len += n;
			if (stream->n_rows++ == 0)
				stream->running_at_first_row = n_requests(monitor, client, "running") == 1;
			if (cancel && stream->n_rows == 1)
			{
				PGcancel   *handle = PQgetCancel(client);
				char		message[256];

				if (!PQcancel(handle, message, sizeof(message)))
					fprintf(stderr, "%s", message);
				PQfreeCancel(handle);
			}
		}
		if (sqlstate != NULL)
			snprintf(stream->sqlstate, sizeof(stream->sqlstate), "%s", sqlstate);
		PQclear(result);
	}
}

/* The number of the prompt with the longest answer. */
static int
longest_prompt(PGconn *monitor)
{
	char		query[512];

	snprintf(query, sizeof(query),
			 "SELECT i FROM generate_series(1, %d) i "
			 "ORDER BY length(llama_generate('Question number ' || i, " OPTIONS ")) DESC LIMIT 1",
			 N_PROMPTS, MAX_TOKENS);
	return atoi(query_value(monitor, query));
}

static void
test_single_rows(PGconn *client, PGconn *monitor, int prompt)
{
	Stream		stream = {0};
	char		query[256];

	for (int i = 0; i < N_TRIES && !stream.running_at_first_row; i++)
	{
		free(stream.text);
		send_stream(client, prompt);
		read_stream(client, monitor, false, &stream);
	}

	tap_note("prompt %d: %d rows, %zu bytes", prompt, stream.n_rows, stream.len);
	tap_ok(stream.running_at_first_row, "the first row arrives while its request still runs");
	tap_ok(stream.n_rows > 1, "the answer comes in several rows");
	tap_ok(stream.sqlstate[0] == '\0', "the stream ends without an error");
	snprintf(query, sizeof(query), "SELECT llama_generate('Question number %d', " OPTIONS ")",
			 prompt, MAX_TOKENS);
	tap_ok(strcmp(stream.text, query_value(monitor, query)) == 0,
		   "the rows joined are the answer of llama_generate");
	free(stream.text);
}

static void
test_cancel(PGconn *client, PGconn *monitor, int prompt)
{
	Stream		stream;
	bool		cancelled = false;

	/* The cancel may come after the end of a fast answer: try again. */
	for (int i = 0; i < N_TRIES && !cancelled; i++)
	{
		send_stream(client, prompt);
		read_stream(client, monitor, true, &stream);
		cancelled = strcmp(stream.sqlstate, "57014") == 0;
		free(stream.text);
	}
	tap_ok(cancelled, "a cancel after the first row ends the stream");
	tap_ok(requests_vanish(monitor, client), "the cancelled request is gone");
}

static void
test_cursor(PGconn *client, PGconn *monitor, int prompt)
{
	char		query[256];
	bool		running = false;
	bool		fetched = true;

	for (int i = 0; i < N_TRIES && !running; i++)
	{
		query_value(client, "BEGIN");
		snprintf(query, sizeof(query), "DECLARE c CURSOR FOR "
				 "SELECT llama_generate_stream('Question number %d', " OPTIONS ")", prompt, MAX_TOKENS);
		query_value(client, query);
		for (int row = 0; row < 3; row++)
			fetched = query_value(client, "FETCH 1 FROM c")[0] != '\0' && fetched;
		running = n_requests(monitor, client, "running") == 1;
		query_value(client, "CLOSE c");
		if (i == 0)
		{
			tap_ok(fetched, "a cursor fetches row after row");
			tap_ok(requests_vanish(monitor, client), "a closed cursor gives its request up");
		}
		query_value(client, "COMMIT");
	}
	tap_ok(running, "the request runs on between two fetches");
}

int
main(int argc, char **argv)
{
	PGconn	   *client;
	PGconn	   *monitor;
	int			prompt;

	if (argc != 2)
	{
		fprintf(stderr, "usage: stream_client CONNECTION-STRING\n");
		return 2;
	}
	client = open_connection(argv[1]);
	monitor = open_connection(argv[1]);
	query_value(client, "SET client_min_messages = warning");
	query_value(client, "CREATE EXTENSION IF NOT EXISTS llama3");

	prompt = longest_prompt(monitor);
	test_single_rows(client, monitor, prompt);
	test_cancel(client, monitor, prompt);
	test_cursor(client, monitor, prompt);

	PQfinish(client);
	PQfinish(monitor);
	return tap_done();
}
