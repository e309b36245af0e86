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

#include "call.h"
#include "options.h"

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

/* Submit the embedding of a text; false where the row cannot be answered. */
static bool
submit_embedding(LlamaCall *call, const LlamaModel *model, LlamaFunction function,
				 LlamaText utf8, L3Pooling pooling)
{
	LlamaIds	ids = {0};
	L3Request	request = {.kind = L3_REQ_EMBED, .pooling = pooling};

	if (!llama_row_encode(model, utf8, &ids))
	{
		llama_call_give_up(call);
		return false;
	}
	request.tokens = ids.ids;
	request.n_tokens = (int32) ids.n;
	return llama_call_submit(call, model, function, &request);
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

static void
begin_embed(FunctionCallInfo fcinfo, LlamaCall *call)
{
	const LlamaModel *model;
	L3Pooling	pooling;
	int			n_embd;
	int			dimensions;

	if (PG_ARGISNULL(0))
		return;
	pooling = pooling_arg(fcinfo, 2);
	(void) llama_int_arg(fcinfo, 1, "dimensions", false, 1, L3_MAX_EMBD, 1);
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	n_embd = (int) model->hparams.n_embd;
	dimensions = llama_int_arg(fcinfo, 1, "dimensions", false, 1, n_embd, n_embd);
	call->state = llama_call_keep(call, &dimensions, sizeof(dimensions));
	(void) submit_embedding(call, model, LLAMA_FN_EMBED, llama_text_utf8(PG_GETARG_DATUM(0)),
							pooling);
}

static Datum
finish_embed(const LlamaCall *call)
{
	const int  *dimensions = call->state;

	return PointerGetDatum(embedding_array(llama_out_embedding(call->requests[0]), *dimensions,
										   (int) call->model->hparams.n_embd));
}

static void
begin_similarity(FunctionCallInfo fcinfo, LlamaCall *call)
{
	const LlamaModel *model;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return;
	if ((model = llama_call_model(call, fcinfo)) == NULL)
		return;
	for (int i = 0; i < 2; i++)
	{
		if (!submit_embedding(call, model, LLAMA_FN_SIMILARITY,
							  llama_text_utf8(PG_GETARG_DATUM(i)), L3_POOL_MEAN))
			return;
	}
}

static Datum
finish_similarity(const LlamaCall *call)
{
	const float *a = llama_out_embedding(call->requests[0]);
	const float *b = llama_out_embedding(call->requests[1]);
	double		product = 0;

	/* Both are of unit length up to rounding. */
	for (uint32 i = 0; i < call->model->hparams.n_embd; i++)
		product += (double) a[i] * b[i];
	return Float8GetDatum(Max(-1.0, Min(1.0, product)));
}

const LlamaCallKind llama_embed_kind = {"llama_embed", 1, begin_embed, finish_embed};
const LlamaCallKind llama_similarity_kind = {"llama_similarity", 2, begin_similarity, finish_similarity};

/*
 * llama_embed(input text, dimensions int, pooling text, model text)
 * returns real[]
 */
Datum
llama_embed(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_embed_kind);
}

/*
 * llama_similarity(a text, b text, model text) returns float8
 */
Datum
llama_similarity(PG_FUNCTION_ARGS)
{
	return llama_call(fcinfo, &llama_similarity_kind);
}
