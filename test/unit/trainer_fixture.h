/*-------------------------------------------------------------------------
 *
 * trainer_fixture.h
 *	  Files, texts and expected failures for the trainer's tests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRAINER_FIXTURE_H
#define TRAINER_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trainer.h"

/* Words of several scripts, numbers, code, contractions, runs of white space. */
static const char fixture_text[] =
"A table keeps its rows in pages, and every page keeps its own account of what is free. When a row is "
"written, the server looks for a page with enough room; when there is none, it makes the table longer.\n\n"
"It's what we're told, and I don't think they've checked: the rows of the table are in the pages of the "
"table. SELECT name, price FROM items WHERE price > 100 ORDER BY price DESC LIMIT 10;\n"
"\tfor (int i = 0; i < 1000; i++)\n\t\tprintf(\"%d\\n\", i);\n\n\n    indented    twice   \n"
"Die Straße war naß, und über den Dächern flogen die Vögel nach Süden; die Straße war lang.\n"
"Таблица хранит строки в страницах, и каждая страница хранит строки. 表は行をページに保存します。表は行。\n"
"1999, 2000, 2001, 20012002; 3.14159 and 2.71828; aaaaaaaa aaa aaaa; -------- ==== ----\n";

/* A path in a directory of this process, which is made at the first call. */
__attribute__((unused))
static const char *
fixture_path(const char *name)
{
	static char dir[64];
	static char paths[8][128];
	static int	next;
	char	   *path = paths[next++ % 8];

	if (dir[0] == '\0')
	{
		snprintf(dir, sizeof(dir), "/tmp/test_trainer.XXXXXX");
		if (mkdtemp(dir) == NULL)
		{
			printf("Bail out! could not make a directory in /tmp\n");
			exit(1);
		}
	}
	snprintf(path, 128, "%s/%s", dir, name);
	return path;
}

/* Remove what the tests have made. */
__attribute__((unused))
static void
fixture_remove(const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		unlink(fixture_path(names[i]));
	rmdir(fixture_path(""));
}

__attribute__((unused))
static const char *
fixture_write(const char *name, const char *data, size_t size)
{
	const char *path = fixture_path(name);
	FILE	   *f = fopen(path, "wb");

	if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
	{
		printf("Bail out! could not write %s\n", path);
		exit(1);
	}
	return path;
}

/* A documents file of one document with this text, escaped. */
__attribute__((unused))
static const char *
fixture_document(const char *name, const char *text, size_t len)
{
	char	   *line = malloc(len * 2 + 16);
	size_t		n = (size_t) sprintf(line, "-1\t1\t");
	const char *path;

	for (size_t i = 0; i < len; i++)
	{
		char		c = text[i];

		if (c == '\t' || c == '\n' || c == '\\')
		{
			line[n++] = '\\';
			c = c == '\t' ? 't' : c == '\n' ? 'n' : '\\';
		}
		line[n++] = c;
	}
	line[n++] = '\n';
	path = fixture_write(name, line, n);
	free(line);
	return path;
}

/* The vocabulary of fixture_text with this many tokens. */
__attribute__((unused))
static TrVocab *
fixture_vocab(int n_tokens)
{
	const char *out = fixture_path("vocab");

	tr_vocab_learn(fixture_document("documents", fixture_text, strlen(fixture_text)), n_tokens, out);
	return tr_vocab_read(out);
}

/*
 * Run fn in a child process.  True when it exits with 1 and its stderr is
 * "trainer: ", then something with the expected text in it.
 */
__attribute__((unused))
static bool
fixture_fails(void (*fn) (const void *arg), const void *arg, const char *expected)
{
	int			ends[2];
	char		message[1024];
	size_t		n = 0;
	ssize_t		got;
	pid_t		child;
	int			status;

	fflush(stdout);
	if (pipe(ends) != 0 || (child = fork()) < 0)
	{
		printf("Bail out! could not start a process\n");
		exit(1);
	}
	if (child == 0)
	{
		dup2(ends[1], STDERR_FILENO);
		fn(arg);
		_exit(0);
	}
	close(ends[1]);
	while ((got = read(ends[0], message + n, sizeof(message) - 1 - n)) > 0)
		n += (size_t) got;
	message[n] = '\0';
	close(ends[0]);
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1 &&
		strncmp(message, "trainer: ", 9) == 0 && strstr(message, expected) != NULL)
		return true;
	printf("# status %d, message: %s\n", status, message);
	return false;
}

#endif							/* TRAINER_FIXTURE_H */
