/*-------------------------------------------------------------------------
 *
 * digest.c
 *	  Digests of calls: are two calls the same?
 *
 * Answers are pure functions of the model and of what is digested here.  A
 * setting that an answer comes to depend on belongs into
 * llama_digest_question, or calls under different values of it would share
 * one answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "call.h"
#include "options.h"

/*
 * A composite value, or the name of a type, means what the catalogs make of it,
 * which changes: such types are not here.
 */
static bool
is_plain(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case TEXTOID:
		case JSONBOID:
		case INT4ARRAYOID:
		case FLOAT4ARRAYOID:
		case FLOAT8ARRAYOID:
		case TEXTARRAYOID:
			return true;
		default:
			return false;
	}
}

static LlamaValueType
value_type(Oid type)
{
	LlamaValueType result = {.is_plain = is_plain(type)};

	get_typlenbyval(type, &result.length, &result.by_value);
	return result;
}

const LlamaSignature *
llama_signature(FunctionCallInfo fcinfo, const LlamaCallKind *kind)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	LlamaSignature *signature;
	Oid			result;
	Oid		   *types;
	int			n;

	if (flinfo == NULL || !OidIsValid(flinfo->fn_oid))
		return NULL;
	if (flinfo->fn_extra != NULL)
		return flinfo->fn_extra;

	result = get_func_signature(flinfo->fn_oid, &types, &n);
	if (llama_call_n_arguments(kind, n) != fcinfo->nargs)
		return NULL;
	signature = MemoryContextAllocZero(flinfo->fn_mcxt, offsetof(LlamaSignature, args) +
									   fcinfo->nargs * sizeof(LlamaValueType));
	signature->result = value_type(result);
	signature->n_args = fcinfo->nargs;
	for (int i = 0; i < n; i++)
		signature->args[llama_call_argument(kind, i, n)] = value_type(types[i]);
	flinfo->fn_extra = signature;
	return signature;
}

bool
llama_is_plain_call(FunctionCallInfo fcinfo, const LlamaSignature *signature)
{
	for (int i = 0; i < signature->n_args; i++)
	{
		if (!fcinfo->args[i].isnull && !signature->args[i].is_plain)
			return false;
	}
	return signature->result.is_plain;
}

/* ----------------------------------------------------------------
 *		Digesting
 * ----------------------------------------------------------------
 */

static void
raise_failed(pg_cryptohash_ctx *hash)
{
	elog(ERROR, "could not compute the digest of a call: %s", pg_cryptohash_error(hash));
}

static pg_cryptohash_ctx *
start(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		raise_failed(hash);
	return hash;
}

static void
add(pg_cryptohash_ctx *hash, const void *bytes, Size n)
{
	if (pg_cryptohash_update(hash, bytes, n) < 0)
		raise_failed(hash);
}

static void
finish(pg_cryptohash_ctx *hash, LlamaDigest *digest)
{
	if (pg_cryptohash_final(hash, digest->bytes, sizeof(digest->bytes)) < 0)
		raise_failed(hash);
	pg_cryptohash_free(hash);
}

/* Of a varlena what it holds, behind its length, not how it is stored. */
static void
add_varlena(pg_cryptohash_ctx *hash, Datum value)
{
	struct varlena *flat = PG_DETOAST_DATUM_PACKED(value);
	uint64		n = VARSIZE_ANY_EXHDR(flat);

	add(hash, &n, sizeof(n));
	add(hash, VARDATA_ANY(flat), n);
	if (PointerGetDatum(flat) != value)
		pfree(flat);
}

static void
add_argument(pg_cryptohash_ctx *hash, const NullableDatum *arg, const LlamaValueType *type)
{
	uint8		isnull = arg->isnull;

	add(hash, &isnull, sizeof(isnull));
	if (arg->isnull)
		return;
	if (type->by_value)
		add(hash, &arg->value, sizeof(arg->value));
	else if (type->length == -1)
		add_varlena(hash, arg->value);
	else
		add(hash, DatumGetPointer(arg->value),
			datumGetSize(arg->value, type->by_value, type->length));
}

void
llama_digest_question(FunctionCallInfo fcinfo, const LlamaSignature *signature,
					  const LlamaCallKind *kind, LlamaDigest *digest)
{
	pg_cryptohash_ctx *hash = start();
	const char *symbol = llama_call_halves(kind)->symbol;
	int			defaults[] = {
		llama_pinned_kind(kind) != NULL ? LLAMA_PINNED_MAX_TOKENS : llama3_max_tokens
	};

	add(hash, symbol, strlen(symbol) + 1);
	add(hash, defaults, sizeof(defaults));
	add(hash, &signature->n_args, sizeof(signature->n_args));
	for (int i = 0; i < signature->n_args - 1; i++)
		add_argument(hash, &fcinfo->args[i], &signature->args[i]);
	finish(hash, digest);
}

void
llama_digest_call(FunctionCallInfo fcinfo, const LlamaSignature *signature,
				  const LlamaCallKind *kind, const LlamaDigest *question, LlamaDigest *digest)
{
	pg_cryptohash_ctx *hash = start();
	int			model = signature->n_args - 1;

	add(hash, kind->symbol, strlen(kind->symbol) + 1);
	add(hash, question->bytes, sizeof(question->bytes));
	add(hash, &llama3_on_error, sizeof(llama3_on_error));
	add(hash, llama3_default_model, strlen(llama3_default_model) + 1);
	add_argument(hash, &fcinfo->args[model], &signature->args[model]);
	finish(hash, digest);
}

void
llama_digest_bytes(const void *bytes, Size n, LlamaDigest *digest)
{
	pg_cryptohash_ctx *hash = start();

	add(hash, bytes, n);
	finish(hash, digest);
}
