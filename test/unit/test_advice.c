/*-------------------------------------------------------------------------
 *
 * test_advice.c
 *	  What people have instead of a model is recognised, and the error says
 *	  what to do.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "advice.h"

#define MAX_FILES	4

static char dir[] = "/tmp/test_advice.XXXXXX";

static void
make(const char *name)
{
	char		path[128];
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (name[strlen(name) - 1] == '/')
	{
		if (mkdir(path, 0700) != 0)
			exit(1);
		return;
	}
	f = fopen(path, "w");
	if (f == NULL || fclose(f) != 0)
		exit(1);
}

static void
drop(const char *name)
{
	char		path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (remove(path) != 0)
		exit(1);
}

/* The error for a directory of these files: message and detail or hint say so. */
static void
directory_is(const char *files[MAX_FILES], L3Status (*advise) (const char *, L3Error *),
			 L3Status status, const char *message, const char *says, const char *behaviour)
{
	L3Error		err;
	int			n = 0;

	while (n < MAX_FILES && files[n] != NULL)
		make(files[n++]);
	err.status = L3_OK;
	if (!tap_ok(advise(dir, &err) == status && err.status == status &&
				strstr(err.message, message) != NULL &&
				(strstr(err.detail, says) != NULL || strstr(err.hint, says) != NULL), "%s", behaviour))
		tap_note("%d %s | %s | %s", err.status, err.message, err.detail, err.hint);
	while (n > 0)
		drop(files[--n]);
}

#define FILES(...) ((const char *[MAX_FILES]) {__VA_ARGS__})

static void
test_no_model(void)
{
	directory_is(FILES(NULL), l3_no_model_in, L3_ERR_FORMAT, "holds no model", "It is empty",
				 "an empty directory");
	directory_is(FILES("b.gguf"), l3_no_model_in, L3_ERR_ARG, "is a directory of GGUF files", "/b.gguf\".",
				 "the one GGUF file of a directory is named");
	directory_is(FILES("b.gguf", "a.GGUF", "c.txt"), l3_no_model_in, L3_ERR_ARG, "is a directory of GGUF files",
				 "/a.GGUF\".", "of several the first is named");
	directory_is(FILES("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"), l3_no_model_in, L3_ERR_ARG,
				 "is a directory of GGUF files", "the path of the file, \"", "parts count as one, the first");
	directory_is(FILES("consolidated.00.pth", "params.json"), l3_no_model_in, L3_ERR_FORMAT, "holds no model",
				 "beside the directory \"original\"", "Meta's own form");
	directory_is(FILES("pytorch_model.bin"), l3_no_model_in, L3_ERR_FORMAT, "holds no model",
				 "a checkpoint of PyTorch", "a checkpoint of PyTorch");
	directory_is(FILES("adapter_config.json", "adapter_model.safetensors"), l3_no_model_in, L3_ERR_UNSUPPORTED,
				 "holds an adapter, not a model", "Merge the adapter", "an adapter");
	directory_is(FILES("model.safetensors"), l3_no_model_in, L3_ERR_FORMAT, "holds no model",
				 "Download config.json", "weights without config.json");
	directory_is(FILES("model.safetensors.part"), l3_no_model_in, L3_ERR_FORMAT, "is still being filled",
				 "\"model.safetensors.part\"", "a download that is not complete");
	directory_is(FILES("snapshots/"), l3_no_model_in, L3_ERR_FORMAT, "holds no model", "\"snapshots\"",
				 "the download cache of a hub's tool");
	directory_is(FILES("b/", "b/config.json", "a/"), l3_no_model_in, L3_ERR_FORMAT, "holds no model", "/b\".",
				 "a model one directory deeper");
	directory_is(FILES("notes.txt"), l3_no_model_in, L3_ERR_FORMAT, "holds no model", "It has no config.json.",
				 "anything else");
}

static void
test_incomplete_model(void)
{
	directory_is(FILES("config.json", "model-00001-of-00002.safetensors"), l3_no_weights_in, L3_ERR_FORMAT,
				 "has no weights", "Download model.safetensors.index.json", "parts without their index");
	directory_is(FILES("config.json", "pytorch_model.bin"), l3_no_weights_in, L3_ERR_FORMAT,
				 "has no weights", "*.safetensors files instead", "weights of PyTorch only");
	directory_is(FILES("config.json", "m.gguf"), l3_no_weights_in, L3_ERR_ARG, "is a directory of GGUF files",
				 "/m.gguf\".", "a repository of GGUF files");
	directory_is(FILES("config.json"), l3_no_weights_in, L3_ERR_FORMAT, "has no weights",
				 "Download the model's *.safetensors files too.", "no weights at all");
	directory_is(FILES("tokenizer.model"), l3_no_tokenizer_in, L3_ERR_FORMAT, "has no tokenizer.json",
				 "Its tokenizer.model is of another form", "a tokenizer of another form");
}

static void
test_unfinished(void)
{
	char		path[128];
	L3Error		err;

	tap_ok(l3_refuse_unfinished("/m/x.gguf.crdownload", &err) == L3_ERR_ARG &&
		   strcmp(err.detail, "Its name ends in \".crdownload\".") == 0, "a browser's name of a download");
	snprintf(path, sizeof(path), "%s/x.gguf", dir);
	tap_ok(l3_refuse_unfinished(path, &err) == L3_OK, "a final name");
	make("x.gguf.aria2");
	tap_ok(l3_refuse_unfinished(path, &err) == L3_ERR_FORMAT && strstr(err.message, "is still being downloaded") != NULL &&
		   strstr(err.detail, "x.gguf.aria2\"") != NULL, "a final name beside a control file");
	drop("x.gguf.aria2");
}

static void
test_families(void)
{
	static const struct
	{
		const char *found;
		const char *says;
	}			families[] = {
		{"llama4", "Llama 4 is a mixture of experts"}, {"mllama", "read images"},
		{"bert", "llama_embed works"}, {"qwen2", "Take a model of Llama 3"}, {"", "Take a model of Llama 3"},
	};

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
	{
		L3Error		err;

		tap_ok(l3_wrong_architecture("p", "model_type", families[i].found, strlen(families[i].found), &err) ==
			   L3_ERR_UNSUPPORTED && strstr(err.hint, families[i].says) != NULL,
			   "architecture \"%s\": what to take instead", families[i].found);
	}
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	test_no_model();
	test_incomplete_model();
	test_unfinished();
	test_families();
	rmdir(dir);
	return tap_done();
}
