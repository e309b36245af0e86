/*-------------------------------------------------------------------------
 *
 * checkpoint.c
 *	  The state of a training in a file, from which it goes on bit for bit.
 *
 * A header with everything that the result depends on, then the parameters
 * and the optimizer's moving averages as floats.  The file is written beside
 * its place, forced to disk and renamed: whenever the machine stops, there is
 * one whole checkpoint.
 *
 *-------------------------------------------------------------------------
 */
#include "training.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC	"llama3 training 1"

typedef struct Header
{
	char		magic[24];
	TrConfig	config;
	int32_t		steps;
	int32_t		lanes;
	int32_t		lane_tokens;
	int32_t		warmup;
	double		lr;
	double		lr_floor;
	double		weight_decay;
	double		beta1;
	double		beta2;
	double		epsilon;
	double		clip;
	double		group_weight;
	uint64_t	seed;
	uint64_t	corpus_hash;
	uint64_t	n_params;
	TrProgress	progress;
} Header;

/* Zero padding too: headers are written and compared as bytes. */
static void
make_header(Header *header, const TrModel *model, const TrTrainOptions *options,
			uint64_t corpus_hash)
{
	memset(header, 0, sizeof(*header));
	strcpy(header->magic, MAGIC);
	header->config = model->config;
	header->steps = options->steps;
	header->lanes = options->lanes;
	header->lane_tokens = options->lane_tokens;
	header->warmup = options->warmup;
	header->lr = options->lr;
	header->lr_floor = options->lr_floor;
	header->weight_decay = options->weight_decay;
	header->beta1 = options->beta1;
	header->beta2 = options->beta2;
	header->epsilon = options->epsilon;
	header->clip = options->clip;
	header->group_weight = options->group_weight;
	header->seed = options->seed;
	header->corpus_hash = corpus_hash;
	header->n_params = model->n_params;
}

/* FNV-1a (Fowler, Noll, Vo) */
static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t n)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
	return hash;
}

uint64_t
tr_corpus_hash(const TrCorpus *corpus)
{
	uint64_t	hash = UINT64_C(0xCBF29CE484222325);

	for (int i = 0; i < corpus->n_documents; i++)
	{
		const TrDocument *document = &corpus->documents[i];
		size_t		n = (size_t) document->n_tokens;

		hash = hash_bytes(hash, &document->group, sizeof(document->group));
		hash = hash_bytes(hash, &document->n_tokens, sizeof(document->n_tokens));
		hash = hash_bytes(hash, &document->n_pooled, sizeof(document->n_pooled));
		hash = hash_bytes(hash, document->ids, n * sizeof(document->ids[0]));
		hash = hash_bytes(hash, document->weights, n * sizeof(document->weights[0]));
	}
	return hash;
}

/* ----------------------------------------------------------------
 *		Writing
 * ----------------------------------------------------------------
 */

static void
write_all(FILE *file, const char *path, const void *data, size_t size)
{
	if (fwrite(data, 1, size, file) != size)
		tr_fail("could not write file \"%s\": %s", path, strerror(errno));
}

void
tr_checkpoint_write(const char *path, const TrModel *model, const TrTrainOptions *options,
					uint64_t corpus_hash, const TrMoments *moments, const TrProgress *progress)
{
	size_t		size = model->n_params * sizeof(float);
	char	   *temporary;
	Header		header;
	FILE	   *file;

	if (asprintf(&temporary, "%s.tmp", path) < 0)
		tr_fail("out of memory");
	file = fopen(temporary, "wb");
	if (file == NULL)
		tr_fail("could not create file \"%s\": %s", temporary, strerror(errno));
	make_header(&header, model, options, corpus_hash);
	header.progress = *progress;
	write_all(file, temporary, &header, sizeof(header));
	write_all(file, temporary, model->params, size);
	write_all(file, temporary, moments->mean, size);
	write_all(file, temporary, moments->square, size);
	if (fflush(file) != 0 || fsync(fileno(file)) != 0 || fclose(file) != 0)
		tr_fail("could not write file \"%s\": %s", temporary, strerror(errno));
	if (rename(temporary, path) != 0)
		tr_fail("could not rename file \"%s\" to \"%s\": %s", temporary, path, strerror(errno));
	free(temporary);
}

/* ----------------------------------------------------------------
 *		Reading
 * ----------------------------------------------------------------
 */

static void
read_all(FILE *file, const char *path, void *data, size_t size)
{
	if (fread(data, 1, size, file) != size)
	{
		if (ferror(file))
			tr_fail("could not read file \"%s\": %s", path, strerror(errno));
		tr_fail("checkpoint \"%s\" is cut short", path);
	}
}

static void
read_header(FILE *file, const char *path, Header *header)
{
	read_all(file, path, header, sizeof(*header));
	if (memcmp(header->magic, MAGIC, sizeof(MAGIC)) != 0)
		tr_fail("file \"%s\" is not a checkpoint of this trainer", path);
}

static void
check_number(const char *path, const char *name, double found, double wanted)
{
	if (found != wanted)
		tr_fail("checkpoint \"%s\" is of another training: its %s is %g, here it is %g",
				path, name, found, wanted);
}

static void
check_header(const char *path, const Header *found, const Header *wanted)
{
	const TrConfig *f = &found->config;
	const TrConfig *w = &wanted->config;

	check_number(path, "number of layers", f->n_layers, w->n_layers);
	check_number(path, "width", f->n_embd, w->n_embd);
	check_number(path, "number of heads", f->n_heads, w->n_heads);
	check_number(path, "number of key and value heads", f->n_kv_heads, w->n_kv_heads);
	check_number(path, "head width", f->head_dim, w->head_dim);
	check_number(path, "feed-forward width", f->n_ff, w->n_ff);
	check_number(path, "vocabulary size", f->n_vocab, w->n_vocab);
	check_number(path, "context length", f->n_ctx, w->n_ctx);
	check_number(path, "RoPE theta", f->rope_theta, w->rope_theta);
	check_number(path, "RMS epsilon", f->rms_eps, w->rms_eps);
	check_number(path, "number of steps", found->steps, wanted->steps);
	check_number(path, "number of batches a step", found->lanes, wanted->lanes);
	check_number(path, "tokens a batch", found->lane_tokens, wanted->lane_tokens);
	check_number(path, "warm-up", found->warmup, wanted->warmup);
	check_number(path, "learning rate", found->lr, wanted->lr);
	check_number(path, "learning rate's floor", found->lr_floor, wanted->lr_floor);
	check_number(path, "weight decay", found->weight_decay, wanted->weight_decay);
	check_number(path, "beta1", found->beta1, wanted->beta1);
	check_number(path, "beta2", found->beta2, wanted->beta2);
	check_number(path, "epsilon", found->epsilon, wanted->epsilon);
	check_number(path, "clipping norm", found->clip, wanted->clip);
	check_number(path, "contrastive loss's weight", found->group_weight, wanted->group_weight);
	if (found->seed != wanted->seed)
		tr_fail("checkpoint \"%s\" is of another training: its seed is another", path);
	if (found->corpus_hash != wanted->corpus_hash)
		tr_fail("checkpoint \"%s\" is of another training: its documents or vocabulary are others",
				path);
	if (found->n_params != wanted->n_params)
		tr_fail("checkpoint \"%s\" is damaged: it states %llu parameters for a model of %llu",
				path, (unsigned long long) found->n_params, (unsigned long long) wanted->n_params);
}

bool
tr_checkpoint_read(const char *path, TrModel *model, const TrTrainOptions *options,
				   uint64_t corpus_hash, TrMoments *moments, TrProgress *progress)
{
	FILE	   *file = fopen(path, "rb");
	size_t		size = model->n_params * sizeof(float);
	Header		found;
	Header		wanted;

	if (file == NULL && errno == ENOENT)
		return false;
	if (file == NULL)
		tr_fail("could not open file \"%s\": %s", path, strerror(errno));
	read_header(file, path, &found);
	make_header(&wanted, model, options, corpus_hash);
	check_header(path, &found, &wanted);
	*progress = found.progress;
	read_all(file, path, model->params, size);
	read_all(file, path, moments->mean, size);
	read_all(file, path, moments->square, size);
	fclose(file);
	return true;
}

TrModel *
tr_checkpoint_model(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	Header		header;
	TrModel    *model;

	if (file == NULL)
		tr_fail("could not open file \"%s\": %s", path, strerror(errno));
	read_header(file, path, &header);
	model = tr_model_create(&header.config);
	if (header.n_params != model->n_params)
		tr_fail("checkpoint \"%s\" is damaged: it states %llu parameters for a model of %zu",
				path, (unsigned long long) header.n_params, model->n_params);
	read_all(file, path, model->params, model->n_params * sizeof(float));
	fclose(file);
	return model;
}
