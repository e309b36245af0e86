/*-------------------------------------------------------------------------
 *
 * loaded.h
 *	  A model, loaded into an engine as an engine worker has it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_LOADED_H
#define BENCH_LOADED_H

#include "engine.h"

typedef struct Loaded
{
	L3Source   *source;
	L3Plan		plan;
	L3Engine   *engine;
	L3Model    *model;
	const L3Tokenizer *tok;
} Loaded;

/* Seconds of a clock that only rises. */
double		bench_now(void);
/* Print what failed, with err's detail, and exit. */
void		bench_die(const char *what, const L3Error *err);
/* size bytes of zeroed memory; prints and exits when there are none. */
void	   *bench_alloc(size_t size);
/* The same, in huge pages where there are such. */
void	   *bench_map(uint64_t size);

/* Load the model at path; exits on an error. */
void		bench_load(Loaded *loaded, const char *path, const L3EngineOptions *options);
void		bench_unload(Loaded *loaded);

#endif							/* BENCH_LOADED_H */
