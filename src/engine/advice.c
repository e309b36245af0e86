/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  Errors for what people have instead of a model: what it is, and what to
 *	  do.
 *
 * Whoever brings weights of his own meets these first: the directory instead
 * of the file in it, a download that is not complete, PyTorch's files, an
 * adapter, a model of another family.  Such a mistake is seen at once, and the
 * message says how to go on.
 *
 * Directories are looked at once, when an error is certain; what is named out
 * of several is the first by name, so that messages do not depend on the order
 * in which the file system lists them.
 *
 *-------------------------------------------------------------------------
 */
#include "advice.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* Entries of a directory that are looked at. */
#define MAX_ENTRIES		10000
#define MAX_PATH		4096

/* ----------------------------------------------------------------
 *		Permissions
 * ----------------------------------------------------------------
 */

/*
 * The directory above path that this process may not enter, or NULL when it
 * is the file itself that it may not read.
 */
static const char *
closed_directory(const char *path, char *directory, size_t size)
{
	for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		size_t		len = slash == path ? 1 : (size_t) (slash - path);

		if (len >= size)
			return NULL;
		memcpy(directory, path, len);
		directory[len] = '\0';
		if (faccessat(AT_FDCWD, directory, X_OK, AT_EACCESS) != 0 && errno == EACCES)
			return directory;
	}
	return NULL;
}

L3Status
l3_could_not_open(const char *what, const char *path, L3Error *err)
{
	int			saved_errno = errno;
	L3Status	status = l3_error(err, L3_ERR_IO, "could not open %s \"%s\": %m", what, path);
	char		directory[MAX_PATH];
	const struct passwd *user;
	const char *closed;

	if (saved_errno == EACCES)
	{
		closed = closed_directory(path, directory, sizeof(directory));
		user = getpwuid(geteuid());
		l3_error_detail(err, "The server runs as user \"%s\", who may not %s%s%s%s.",
						user != NULL ? user->pw_name : "?",
						closed != NULL ? "enter directory" : "read this file",
						closed != NULL ? " \"" : "", closed != NULL ? closed : "",
						closed != NULL ? "\"" : "");
		l3_error_hint(err, "Move the model to a directory that this user can read, or give him the permission.");
	}
	errno = saved_errno;
	return status;
}

/* ----------------------------------------------------------------
 *		Names of files
 * ----------------------------------------------------------------
 */

/* What browsers and download programs append until they are done. */
static const char *const unfinished[] = {
	".aria2", ".crdownload", ".download", ".incomplete", ".part", ".partial"
};

static bool
ends_with(const char *text, const char *end)
{
	size_t		text_len = strlen(text);
	size_t		end_len = strlen(end);

	return text_len > end_len && strcasecmp(text + text_len - end_len, end) == 0;
}

static const char *
unfinished_ending(const char *name)
{
	for (size_t i = 0; i < sizeof(unfinished) / sizeof(unfinished[0]); i++)
	{
		if (ends_with(name, unfinished[i]))
			return unfinished[i];
	}
	return NULL;
}

L3Status
l3_refuse_unfinished(const char *path, L3Error *err)
{
	const char *ending = unfinished_ending(path);
	char		control[MAX_PATH];
	struct stat st;

	if (ending != NULL)
	{
		l3_error(err, L3_ERR_ARG, "\"%s\" is a download that is not complete", path);
		l3_error_detail(err, "Its name ends in \"%s\".", ending);
		l3_error_hint(err, "Wait until the download is complete, then give the file's final name.");
		return L3_ERR_ARG;
	}
	/* aria2 reserves the whole file at once, so that its size tells nothing. */
	if (snprintf(control, sizeof(control), "%s.aria2", path) < (int) sizeof(control) &&
		stat(control, &st) == 0)
	{
		l3_error(err, L3_ERR_FORMAT, "file \"%s\" is still being downloaded", path);
		l3_error_detail(err, "The download's control file \"%s\" is beside it.", control);
		l3_error_hint(err, "Wait until the download is complete, or start it again if it was broken off.");
		return L3_ERR_FORMAT;
	}
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Directories
 * ----------------------------------------------------------------
 */

/* What a directory holds: of each kind the first name and, of some, the number. */
typedef struct Contents
{
	int			n;				/* entries */
	int			n_gguf;
	char		gguf[256];
	char		shard[256];		/* of safetensors */
	char		pickle[256];	/* PyTorch's form */
	char		adapter[256];
	char		unfinished[256];
	char		model[256];		/* subdirectory with config.json */
	bool		snapshots;		/* the download cache of the hub's own tool */
	bool		tokenizer_model;
} Contents;

/* Keep the name that comes first. */
static void
keep_first(char kept[256], const char *name)
{
	if (kept[0] == '\0' || strcmp(name, kept) < 0)
		snprintf(kept, 256, "%s", name);
}

/* One of the parts of a GGUF, -00002-of-N, ..., that is loaded by its first. */
static bool
is_later_part(const char *name)
{
	size_t		len = strlen(name);
	int			part;
	int			n_parts;

	return len > 20 && sscanf(name + len - 20, "-%5d-of-%5d.", &part, &n_parts) == 2 && part != 1;
}

static bool
holds(const char *directory, const char *entry, const char *name)
{
	char		path[MAX_PATH];
	struct stat st;

	return snprintf(path, sizeof(path), "%s/%s/%s", directory, entry, name) < (int) sizeof(path) &&
		stat(path, &st) == 0;
}

bool
l3_looks_like_model(const char *directory, const char *name)
{
	if (ends_with(name, ".gguf"))
		return !is_later_part(name);
	return holds(directory, name, "config.json");
}

static void
note_entry(Contents *contents, const char *directory, const char *name)
{
	if (unfinished_ending(name) != NULL)
		keep_first(contents->unfinished, name);
	else if (strncmp(name, "adapter_", 8) == 0)
		keep_first(contents->adapter, name);
	else if (ends_with(name, ".gguf"))
	{
		if (is_later_part(name))
			return;
		contents->n_gguf++;
		keep_first(contents->gguf, name);
	}
	else if (ends_with(name, ".safetensors"))
		keep_first(contents->shard, name);
	else if (ends_with(name, ".bin") || ends_with(name, ".pth") || ends_with(name, ".pt"))
		keep_first(contents->pickle, name);
	else if (strcmp(name, "snapshots") == 0)
		contents->snapshots = true;
	else if (strcmp(name, "tokenizer.model") == 0)
		contents->tokenizer_model = true;
	else if (holds(directory, name, "config.json"))
		keep_first(contents->model, name);
}

static void
look_into(const char *directory, Contents *contents)
{
	DIR		   *dir = opendir(directory);
	const struct dirent *entry;

	memset(contents, 0, sizeof(*contents));
	if (dir == NULL)
		return;
	while (contents->n < MAX_ENTRIES && (entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.')
			continue;
		contents->n++;
		note_entry(contents, directory, entry->d_name);
	}
	closedir(dir);
}

/* What explains both, no model and no weights; false: nothing of that. */
static bool
explain_contents(const char *directory, const Contents *contents, L3Error *err)
{
	if (contents->n_gguf > 0)
	{
		l3_error(err, L3_ERR_ARG, "\"%s\" is a directory of GGUF files", directory);
		if (contents->n_gguf == 1)
			l3_error_hint(err, "Give the path of the file, \"%.200s/%.200s\".", directory, contents->gguf);
		else
			l3_error_hint(err, "Give the path of one of them, such as \"%.200s/%.200s\".",
						  directory, contents->gguf);
		return true;
	}
	if (contents->unfinished[0] != '\0')
	{
		l3_error(err, L3_ERR_FORMAT, "directory \"%s\" is still being filled", directory);
		l3_error_detail(err, "File \"%s\" is a download that is not complete.", contents->unfinished);
		l3_error_hint(err, "Wait until the download is complete, or start it again if it was broken off.");
		return true;
	}
	if (contents->adapter[0] != '\0')
	{
		l3_error(err, L3_ERR_UNSUPPORTED, "directory \"%s\" holds an adapter, not a model", directory);
		l3_error_detail(err, "Found \"%s\".", contents->adapter);
		l3_error_hint(err, "Merge the adapter (LoRA) into the model that it was trained for, and load the result.");
		return true;
	}
	return false;
}

/* PyTorch's checkpoints, and Meta's own form, which consists of them. */
static void
explain_pickle(const Contents *contents, L3Error *err)
{
	l3_error_detail(err, "Found \"%s\", a checkpoint of PyTorch, which is not supported.", contents->pickle);
	if (strncmp(contents->pickle, "consolidated.", 13) == 0)
		l3_error_hint(err, "This is Meta's own form. Download the model in the form of transformers instead: config.json, tokenizer.json, tokenizer_config.json and the *.safetensors files, which are beside the directory \"original\"; or a GGUF file.");
	else
		l3_error_hint(err, "Download the model's *.safetensors files instead, or a GGUF file, or convert the checkpoint to safetensors.");
}

L3Status
l3_no_model_in(const char *directory, L3Error *err)
{
	Contents	contents;
	char		config[MAX_PATH];
	struct stat st;

	/* That it cannot be seen does not mean that it is not there. */
	if (snprintf(config, sizeof(config), "%s/config.json", directory) < (int) sizeof(config) &&
		stat(config, &st) != 0 && errno == EACCES)
		return l3_could_not_open("file", config, err);
	look_into(directory, &contents);
	if (explain_contents(directory, &contents, err))
		return err->status;

	l3_error(err, L3_ERR_FORMAT, "directory \"%s\" holds no model", directory);
	l3_error_detail(err, contents.n == 0 ? "It is empty, or cannot be listed." : "It has no config.json.");
	if (contents.pickle[0] != '\0')
		explain_pickle(&contents, err);
	else if (contents.shard[0] != '\0')
		l3_error_hint(err, "Download config.json, tokenizer.json and tokenizer_config.json too, from where the *.safetensors files are from.");
	else if (contents.snapshots)
		l3_error_hint(err, "Give the path of a directory in its \"snapshots\".");
	else if (contents.model[0] != '\0')
		l3_error_hint(err, "Give the path of a directory in it, such as \"%.200s/%.200s\".",
					  directory, contents.model);
	else
		l3_error_hint(err, "Give the path of a .gguf file, or of a directory with config.json, tokenizer.json and *.safetensors files.");
	return L3_ERR_FORMAT;
}

L3Status
l3_no_weights_in(const char *directory, L3Error *err)
{
	Contents	contents;

	look_into(directory, &contents);
	if (explain_contents(directory, &contents, err))
		return err->status;

	l3_error(err, L3_ERR_FORMAT, "directory \"%s\" has no weights", directory);
	if (contents.shard[0] != '\0')
	{
		l3_error_detail(err, "It has \"%s\", but neither model.safetensors nor model.safetensors.index.json.",
						contents.shard);
		l3_error_hint(err, "Download model.safetensors.index.json too, which tells which file holds what.");
		return L3_ERR_FORMAT;
	}
	if (contents.pickle[0] != '\0')
	{
		explain_pickle(&contents, err);
		return L3_ERR_FORMAT;
	}
	l3_error_detail(err, "Expected model.safetensors or model.safetensors.index.json.");
	l3_error_hint(err, "Download the model's *.safetensors files too.");
	return L3_ERR_FORMAT;
}

L3Status
l3_no_tokenizer_in(const char *directory, L3Error *err)
{
	Contents	contents;

	look_into(directory, &contents);
	l3_error(err, L3_ERR_FORMAT, "directory \"%s\" has no tokenizer.json", directory);
	if (contents.tokenizer_model)
		l3_error_detail(err, "Its tokenizer.model is of another form, which is not supported.");
	l3_error_hint(err, "Download tokenizer.json too, and tokenizer_config.json, which has the chat template, from where the weights are from.");
	return L3_ERR_FORMAT;
}

/* ----------------------------------------------------------------
 *		Other families of models
 * ----------------------------------------------------------------
 */

static const struct
{
	const char *found;			/* how the name starts */
	const char *hint;
}			families[] = {
	{"llama4", "Llama 4 is a mixture of experts; take a text model of Llama 3, 3.1, 3.2 (1B, 3B) or 3.3."},
	{"mllama", "Llama 3.2 11B and 90B read images; take a text model: Llama 3.2 1B or 3B, 3.1 8B, or 3.3 70B."},
	{"clip", "This is the part of a model that reads images; give the path of the model's own file."},
	{"bert", "Embedding models are not supported; llama_embed works with every Llama 3 model."},
	{"nomic-bert", "Embedding models are not supported; llama_embed works with every Llama 3 model."},
	{"xlm-roberta", "Embedding models are not supported; llama_embed works with every Llama 3 model."},
	{"modernbert", "Embedding models are not supported; llama_embed works with every Llama 3 model."},
};

L3Status
l3_wrong_architecture(const char *path, const char *key, const char *found, size_t len, L3Error *err)
{
	const char *hint = "Take a model of Llama 3, 3.1, 3.2 (1B, 3B) or 3.3, or one that was trained from these.";

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
	{
		size_t		n = strlen(families[i].found);

		if (len >= n && memcmp(found, families[i].found, n) == 0)
			hint = families[i].hint;
	}
	l3_error(err, L3_ERR_UNSUPPORTED, "architecture of model \"%s\" is not supported", path);
	l3_error_detail(err, "Found %s \"%.*s\", expected \"llama\".", key, len > 64 ? 64 : (int) len, found);
	l3_error_hint(err, "%s", hint);
	return L3_ERR_UNSUPPORTED;
}
