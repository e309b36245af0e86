/*-------------------------------------------------------------------------
 *
 * digest.h
 *	  Digests of calls: are two calls the same?
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_DIGEST_H
#define LLAMA3_DIGEST_H

#include "postgres.h"

#include "common/sha2.h"
#include "fmgr.h"

struct LlamaCallKind;

/* SHA-256: a collision, which would be a wrong answer, is not to be found. */
typedef struct LlamaDigest
{
	uint8		bytes[PG_SHA256_DIGEST_LENGTH];
} LlamaDigest;

/* How values of a function's types are held. */
typedef struct LlamaValueType
{
	int16		length;			/* typlen */
	bool		by_value;		/* typbyval */
	bool		is_plain;		/* values mean the same in every session of the
								 * database */
} LlamaValueType;

typedef struct LlamaSignature
{
	LlamaValueType result;
	int			n_args;
	LlamaValueType args[FLEXIBLE_ARRAY_MEMBER];
} LlamaSignature;

/*
 * The signature of the function that is being called, kept in its fn_extra;
 * NULL when the call does not tell which function it is.  A pinned form's has
 * the model last, as its call's arguments.
 */
extern const LlamaSignature *llama_signature(FunctionCallInfo fcinfo,
											 const struct LlamaCallKind *kind);

/*
 * Are the arguments that are not NULL, and the result, plain?  Then equal
 * digests are equal questions, also of other sessions.
 */
extern bool llama_is_plain_call(FunctionCallInfo fcinfo, const LlamaSignature *signature);

/*
 * What is asked, of whichever model: the function, by its symbol in C, all
 * arguments but the model, which is the last, and what stands for arguments
 * that were not given.  A value has one digest, in whatever form it is stored.
 * A pinned form asks what the function asks that it is a form of.
 */
extern void llama_digest_question(FunctionCallInfo fcinfo, const LlamaSignature *signature,
								  const struct LlamaCallKind *kind, LlamaDigest *digest);

/*
 * The question and whom it is put to, by name: calls of one statement with this
 * in common have one answer, or one error.
 */
extern void llama_digest_call(FunctionCallInfo fcinfo, const LlamaSignature *signature,
							  const struct LlamaCallKind *kind, const LlamaDigest *question,
							  LlamaDigest *digest);

/* The digest of some bytes. */
extern void llama_digest_bytes(const void *bytes, Size n, LlamaDigest *digest);

#endif							/* LLAMA3_DIGEST_H */
