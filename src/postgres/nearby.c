/*-------------------------------------------------------------------------
 *
 * nearby.c
 *	  A model's path that is not there: what is there instead.
 *
 * Most such paths are a name with a slip in it, or a file that lies in another
 * directory than the one that was looked into.  So the models in the path's
 * directory and in llama3.model_directory are listed, and the one whose name
 * is most like the wanted one is told.
 *
 * Names of files are told to those only who may list directories of the
 * server anyway; the caller decides.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "storage/fd.h"

#include "shmem.h"

/* Entries of a directory that are looked at, and bytes of names compared. */
#define MAX_ENTRIES		1000
#define MAX_NAME		127
/* Bytes of a name that are enough to tell it by. */
#define MIN_BEGINNING	4
/* What a byte that differs counts against the longest difference in length. */
#define SLIP			(MAX_NAME + 1)

static const char server_side[] =
"The path is one of the server's machine. Put the model's files into a directory that the server can read, such as llama3.model_directory.";

/* The models that were found so far. */
typedef struct Nearby
{
	const char *wanted;			/* name, without directory and .gguf */
	int			n;
	char		first[MAXPGPATH];	/* by name */
	int			difference;		/* of the most similar */
	char		similar[MAXPGPATH];
} Nearby;

/* Without the ending that is the same in all names. */
static void
stem_of(const char *name, char stem[MAX_NAME + 1])
{
	Size		len = strlen(name);

	if (len > 5 && pg_strcasecmp(name + len - 5, ".gguf") == 0)
		len -= 5;
	len = Min(len, MAX_NAME);
	for (Size i = 0; i < len; i++)
		stem[i] = pg_tolower((unsigned char) name[i]);
	stem[len] = '\0';
}

/*
 * How much two names differ: Levenshtein's distance in bytes, and among equals
 * the difference in length.  A forgotten rest of a name is no slip.
 */
static int
difference(const char *a_name, const char *b_name)
{
	char		a[MAX_NAME + 1];
	char		b[MAX_NAME + 1];
	int			row[MAX_NAME + 1];
	Size		n;
	int			length;

	stem_of(a_name, a);
	stem_of(b_name, b);
	n = strlen(b);
	length = abs((int) strlen(a) - (int) n);
	if (Min(strlen(a), n) >= MIN_BEGINNING && strncmp(a, b, Min(strlen(a), n)) == 0)
		return length;
	for (Size j = 0; j <= n; j++)
		row[j] = j;
	for (int i = 0; a[i] != '\0'; i++)
	{
		int			diagonal = row[0];

		row[0] = i + 1;
		for (Size j = 0; j < n; j++)
		{
			int			replace = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			row[j + 1] = Min(replace, Min(row[j], diagonal) + 1);
		}
	}
	return row[n] * SLIP + length;
}

static void
add_models(Nearby *nearby, const char *directory, bool relative)
{
	DIR		   *dir = AllocateDir(directory);
	struct dirent *de;
	int			n = 0;

	if (dir == NULL)
		return;
	while (n++ < MAX_ENTRIES && (de = ReadDirExtended(dir, directory, DEBUG1)) != NULL)
	{
		char		path[MAXPGPATH];
		int			d;

		if (de->d_name[0] == '.' || !l3_looks_like_model(directory, de->d_name) ||
			snprintf(path, sizeof(path), "%s%s%s", relative ? "" : directory,
					 relative ? "" : "/", de->d_name) >= (int) sizeof(path))
			continue;
		d = difference(nearby->wanted, de->d_name);
		if (nearby->n == 0 || strcmp(path, nearby->first) < 0)
			strlcpy(nearby->first, path, sizeof(nearby->first));
		if (nearby->n == 0 || d < nearby->difference ||
			(d == nearby->difference && strcmp(path, nearby->similar) < 0))
		{
			nearby->difference = d;
			strlcpy(nearby->similar, path, sizeof(nearby->similar));
		}
		nearby->n++;
	}
	FreeDir(dir);
}

/* The uppermost directory of the path that does not exist, or NULL. */
static char *
missing_directory(const char *path)
{
	char	   *copy = pstrdup(path);
	struct stat st;

	for (char *slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		if (stat(copy, &st) != 0 && errno == ENOENT)
			return copy;
		*slash = '/';
	}
	return NULL;
}

void
llama_suggest_path(const char *path, L3Error *err)
{
	Nearby		nearby = {0};
	char		stem[MAX_NAME + 1];
	char		parent[MAXPGPATH];
	char		model_directory[MAXPGPATH];
	char	   *missing = missing_directory(path);
	const char *slash = strrchr(path, '/');

	nearby.wanted = slash != NULL ? slash + 1 : path;
	strlcpy(parent, path, sizeof(parent));
	get_parent_directory(parent);
	strlcpy(model_directory, llama3_model_directory, sizeof(model_directory));
	canonicalize_path(model_directory);
	if (model_directory[0] != '\0')
		add_models(&nearby, model_directory, true);
	if (missing == NULL && strcmp(parent, model_directory) != 0)
		add_models(&nearby, parent, false);

	if (missing != NULL)
		l3_error_detail(err, "There is no directory \"%s\".", missing);
	stem_of(nearby.wanted, stem);
	if (nearby.n > 0 && nearby.difference / SLIP <= (int) strlen(stem) / 3)
		l3_error_hint(err, "Perhaps you meant \"%s\".", nearby.similar);
	else if (nearby.n == 1)
		l3_error_hint(err, "The only model nearby is \"%s\".", nearby.first);
	else if (nearby.n > 1)
		l3_error_hint(err, "There are %d models nearby, such as \"%s\".", nearby.n, nearby.first);
	else
		l3_error_hint(err, "%s", server_side);
}

void
llama_raise_path(const char *path, bool may_see)
{
	int			saved_errno = errno;
	L3Error		err;

	l3_could_not_open("model", path, &err);
	if (saved_errno == ENOENT && may_see)
		llama_suggest_path(path, &err);
	else if (saved_errno == ENOENT)
		l3_error_hint(&err, "%s", server_side);
	llama_raise(&err);
}
