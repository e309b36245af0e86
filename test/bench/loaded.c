/*-------------------------------------------------------------------------
 *
 * loaded.c
 *	  Loading a model for the bench programs.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "loaded.h"

double
bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

void
bench_die(const char *what, const L3Error *err)
{
	fprintf(stderr, "bench: %s: %s\n", what, err->message);
	if (err->detail[0])
		fprintf(stderr, "bench: %s\n", err->detail);
	exit(1);
}

void *
bench_alloc(size_t size)
{
	void	   *mem = calloc(1, size);

	if (mem == NULL)
	{
		fprintf(stderr, "bench: out of memory\n");
		exit(1);
	}
	return mem;
}

void *
bench_map(uint64_t size)
{
	void	   *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
	{
		perror("bench: mmap");
		exit(1);
	}
	madvise(mem, size, MADV_HUGEPAGE);
	return mem;
}

void
bench_load(Loaded *loaded, const char *path, const L3EngineOptions *options)
{
	L3LoadOptions load = {0};
	L3Source   *source;
	void	   *arena;
	void	   *tok;
	uint64_t	arena_size;
	uint64_t	tok_size;
	L3Error		err;

	if (l3_source_open(path, &load, &source, &err) != L3_OK)
		bench_die(path, &err);
	if (l3_plan(source, options, &loaded->plan, &err) != L3_OK)
		bench_die("plan", &err);
	tok_size = l3_source_tokenizer_size(source);
	tok = bench_map(tok_size);
	if (l3_source_build_tokenizer(source, tok, tok_size, &err) != L3_OK)
		bench_die("tokenizer", &err);
	arena_size = l3_source_arena_size(source);
	arena = bench_map(arena_size);
	if (l3_source_load(source, arena, arena_size, tok, tok_size, NULL, NULL, &err) != L3_OK)
		bench_die("load", &err);
	if (l3_engine_create(options, &loaded->engine, &err) != L3_OK)
		bench_die("engine", &err);
	loaded->source = source;
	loaded->tok = l3_tokenizer_check(tok, tok_size, &err);
	if (loaded->tok == NULL ||
		l3_engine_attach(loaded->engine, l3_arena_check(arena, arena_size, &err), loaded->tok,
						 &loaded->model, &err) != L3_OK)
		bench_die("attach", &err);
}

void
bench_unload(Loaded *loaded)
{
	l3_engine_detach(loaded->engine, loaded->model);
	l3_engine_destroy(loaded->engine);
	l3_source_close(loaded->source);
}
