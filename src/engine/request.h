/*-------------------------------------------------------------------------
 *
 * request.h
 *	  Is a request one that a model can answer?
 *
 *-------------------------------------------------------------------------
 */
#ifndef L3_REQUEST_H
#define L3_REQUEST_H

#include "engine.h"

/*
 * Check every field that its kind uses: token ids, lengths, ranges, outputs.
 * L3_ERR_LIMIT when it does not fit into max_context tokens, else L3_ERR_ARG.
 */
L3Status	l3_request_check(const L3Request *request, const L3Hparams *hparams,
							 int32_t max_context, L3Error *err);

#endif							/* L3_REQUEST_H */
