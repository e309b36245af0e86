/*-------------------------------------------------------------------------
 *
 * embed.c
 *	  llama_embed and llama_similarity.
 *
 * An embedding is the pooled last hidden state, scaled to unit length by the
 * engine.  With fewer dimensions the leading ones are kept and scaled to unit
 * length again, as models trained for that (Matryoshka representation
 * learning, Kusupati et al. 2022) expect.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "options.h"
#include "row.h"

PG_FUNCTION_INFO_V1(llama_embed);
PG_FUNCTION_INFO_V1(llama_similarity);

static L3Pooling
pooling_arg(FunctionCallInfo fcinfo, int arg)
{
	char	   *name;

	if (PG_ARGISNULL(arg))
		return L3_POOL_MEAN;
	name = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (strcmp(name, "mean") == 0)
		return L3_POOL_MEAN;
	if (strcmp(name, "last") == 0)
		return L3_POOL_LAST;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("pooling \"%s\" is not known", name),
			 errhint("Poolings are \"mean\" and \"last\".")));
}

/* Submit the embedding of a text; NULL where the row cannot be answered. */
static LlamaRequest *
submit_embedding(const LlamaModel *model, LlamaFunction function, LlamaText utf8,
				 L3Pooling pooling)
{
	LlamaIds	ids = {0};
	L3Request	request = {.kind = L3_REQ_EMBED, .pooling = pooling};

	if (!llama_row_encode(model, utf8, &ids))
		return NULL;
	request.tokens = ids.ids;
	request.n_tokens = (int32) ids.n;
	return llama_row_submit(model, function, &request);
}

/* An array of the first n of an embedding's numbers, of unit length. */
static ArrayType *
embedding_array(const float *embedding, int n, int n_embd)
{
	double		scale = 1;
	Datum	   *elements = palloc(n * sizeof(Datum));

	if (n < n_embd)
	{
		double		square = 0;

		for (int i = 0; i < n; i++)
			square += (double) embedding[i] * embedding[i];
		if (square > 0)
			scale = 1 / sqrt(square);
	}
	for (int i = 0; i < n; i++)
		elements[i] = Float4GetDatum((float4) (embedding[i] * scale));
	return construct_array(elements, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT);
}

/*
 * llama_embed(input text, dimensions int, pooling text, model text)
 * returns real[]
 */
Datum
llama_embed(PG_FUNCTION_ARGS)
{
	const LlamaModel *model;
	L3Pooling	pooling;
	int			n_embd;
	int			dimensions;
	LlamaRequest *request;
	ArrayType  *result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	pooling = pooling_arg(fcinfo, 2);
	(void) llama_int_arg(fcinfo, 1, "dimensions", false, 1, L3_MAX_EMBD, 1);
	model = llama_model_arg(fcinfo, 3);
	n_embd = (int) model->hparams.n_embd;
	dimensions = llama_int_arg(fcinfo, 1, "dimensions", false, 1, n_embd, n_embd);

	request = submit_embedding(model, LLAMA_FN_EMBED, llama_text_utf8(PG_GETARG_DATUM(0)), pooling);
	if (request == NULL || !llama_row_wait(request, PG_INT64_MAX, NULL))
		PG_RETURN_NULL();
	result = embedding_array(llama_out_embedding(request), dimensions, n_embd);
	llama_release(request);
	PG_RETURN_ARRAYTYPE_P(result);
}

/*
 * llama_similarity(a text, b text, model text) returns float8
 */
Datum
llama_similarity(PG_FUNCTION_ARGS)
{
	const LlamaModel *model;
	LlamaRequest *a;
	LlamaRequest *b;
	const float *va;
	const float *vb;
	double		product = 0;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	model = llama_model_arg(fcinfo, 2);

	a = submit_embedding(model, LLAMA_FN_SIMILARITY, llama_text_utf8(PG_GETARG_DATUM(0)),
						 L3_POOL_MEAN);
	if (a == NULL)
		PG_RETURN_NULL();
	b = submit_embedding(model, LLAMA_FN_SIMILARITY, llama_text_utf8(PG_GETARG_DATUM(1)),
						 L3_POOL_MEAN);
	if (b == NULL)
	{
		llama_release(a);
		PG_RETURN_NULL();
	}
	if (!llama_row_wait(a, PG_INT64_MAX, NULL))
	{
		llama_release(b);
		PG_RETURN_NULL();
	}
	if (!llama_row_wait(b, PG_INT64_MAX, NULL))
	{
		llama_release(a);
		PG_RETURN_NULL();
	}

	/* Both are of unit length up to rounding. */
	va = llama_out_embedding(a);
	vb = llama_out_embedding(b);
	for (uint32 i = 0; i < model->hparams.n_embd; i++)
		product += (double) va[i] * vb[i];
	llama_release(a);
	llama_release(b);
	PG_RETURN_FLOAT8(Max(-1.0, Min(1.0, product)));
}
