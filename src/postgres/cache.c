/*-------------------------------------------------------------------------
 *
 * cache.c
 *	  Packed weights kept as files in llama3.weights_cache.
 *
 * A file NAME-KEY.l3arena holds, one after another and each on a 64-byte
 * boundary: the arena, the tokenizer's image, and a trailer that tells from
 * which source it was made.  KEY is a hash of the source's path, of size and
 * modification time (ns) of each of its files, of the options and of the arena's
 * version: a changed source has another key, and the file is made anew.
 *
 * A file is filled under a temporary name, written through, and then renamed,
 * so that a file with a final name is always complete.  The temporary file is
 * locked while it is being filled; one that a crash left behind is not locked
 * and is taken over by the next load of the same model.
 *
 * Workers map the file shared and read-only.  It is never changed in place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "arena.h"
#include "shmem.h"

#define CACHE_MAGIC		"L3CACHE"	/* with its NUL, 8 bytes */
#define CACHE_VERSION	2
#define CACHE_ALIGN		64
#define CACHE_SUFFIX	".l3arena"

typedef struct CacheTrailer
{
	char		magic[8];
	uint32		version;
	uint32		quantize;
	uint64		identity;		/* of the source */
	uint64		weights_size;
	uint64		tokenizer_size;
	uint64		tokenizer_hash;
	char		packed_types[128];
	char		general_name[128];
	uint64		hash;			/* of everything before */
} CacheTrailer;

static uint64
align_up(uint64 size)
{
	return (size + CACHE_ALIGN - 1) / CACHE_ALIGN * CACHE_ALIGN;
}

uint64
llama_cache_tokenizer_offset(uint64 weights_size)
{
	return align_up(weights_size);
}

static uint64
trailer_offset(uint64 weights_size, uint64 tokenizer_size)
{
	return align_up(align_up(weights_size) + tokenizer_size);
}

static uint64
trailer_hash(const CacheTrailer *trailer)
{
	return hash_bytes_extended((const unsigned char *) trailer,
							   offsetof(CacheTrailer, hash), 0);
}

/* Mix a file's name, size and time into a hash; false when it is not there. */
static bool
mix_file(uint64 *hash, const char *path)
{
	struct stat st;
	uint64		facts[3];

	if (stat(path, &st) != 0)
		return false;
	facts[0] = st.st_size;
	facts[1] = st.st_mtim.tv_sec;
	facts[2] = st.st_mtim.tv_nsec;
	*hash = hash_bytes_extended((const unsigned char *) path, strlen(path), *hash);
	*hash = hash_bytes_extended((unsigned char *) facts, sizeof(facts), *hash);
	return true;
}

/* The files of a directory that a model is made of, in any order. */
static uint64
mix_directory(const char *path)
{
	DIR		   *dir = AllocateDir(path);
	struct dirent *de;
	uint64		sum = 0;

	while ((de = ReadDir(dir, path)) != NULL)
	{
		const char *dot = strrchr(de->d_name, '.');

		if (dot != NULL && (strcmp(dot, ".safetensors") == 0 || strcmp(dot, ".json") == 0))
		{
			char	   *file = psprintf("%s/%s", path, de->d_name);
			uint64		hash = 0;

			if (mix_file(&hash, file))
				sum += hash;	/* a sum does not depend on the order */
			pfree(file);
		}
	}
	FreeDir(dir);
	return sum;
}

/* All parts of a GGUF that is split into files name-00001-of-0000N.gguf. */
static void
mix_parts(uint64 *hash, const char *path)
{
	static const char suffix[] = "-00001-of-00000.gguf";
	Size		len = strlen(path);
	Size		stem;
	int			n_parts;

	if (len <= strlen(suffix))
		return;
	stem = len - strlen(suffix);
	if (strncmp(path + stem, "-00001-of-", 10) != 0 ||
		sscanf(path + stem + 10, "%5d.gguf", &n_parts) != 1)
		return;
	for (int i = 2; i <= n_parts; i++)
	{
		char	   *part = psprintf("%.*s-%05d-of-%05d.gguf", (int) stem, path, i, n_parts);

		(void) mix_file(hash, part);
		pfree(part);
	}
}

static uint64
source_identity(const char *path, L3Quantize quantize)
{
	struct stat st;
	uint64		hash = hash_bytes_extended((const unsigned char *) path, strlen(path),
										   (uint64) quantize << 32 | L3_ARENA_VERSION);

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		hash = hash_combine64(hash, mix_directory(path));
	else
	{
		(void) mix_file(&hash, path);
		mix_parts(&hash, path);
	}
	return hash;
}

static void
set_path(LlamaCacheFile *cache, const char *name, uint64 identity)
{
	if (snprintf(cache->path, sizeof(cache->path), "%s/%s-%016llx" CACHE_SUFFIX,
				 llama3_weights_cache, name, (unsigned long long) identity) >=
		(int) sizeof(cache->path) - 8)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path of the weights cache is too long")));
}

/* Map the file; it is as long as map_size says. */
static void
map_file(LlamaCacheFile *cache, int protection)
{
	cache->map = mmap(NULL, cache->map_size, protection, MAP_SHARED, cache->fd, 0);
	if (cache->map == MAP_FAILED)
	{
		cache->map = NULL;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not map file \"%s\": %m", cache->path)));
	}
}

/* Is the trailer that of a complete file for this source? */
static bool
trailer_fits(const CacheTrailer *trailer, uint64 identity, uint64 file_size)
{
	return memcmp(trailer->magic, CACHE_MAGIC, sizeof(trailer->magic)) == 0 &&
		trailer->version == CACHE_VERSION &&
		trailer->hash == trailer_hash(trailer) &&
		trailer->identity == identity &&
		trailer->weights_size < file_size &&
		trailer->tokenizer_size < file_size &&
		trailer_offset(trailer->weights_size, trailer->tokenizer_size) +
		sizeof(CacheTrailer) == file_size;
}

bool
llama_cache_usable(L3Error *err)
{
	const struct passwd *user = getpwuid(geteuid());
	struct stat st;

	if (stat(llama3_weights_cache, &st) == 0)
	{
		if (!S_ISDIR(st.st_mode))
			errno = ENOTDIR;
		else if (access(llama3_weights_cache, R_OK | W_OK | X_OK) == 0)
			return true;
	}
	l3_error(err, L3_ERR_IO, "could not use llama3.weights_cache \"%s\": %m", llama3_weights_cache);
	l3_error_detail(err, "It must be a directory that user \"%s\", as whom the server runs, may write.",
					user != NULL ? user->pw_name : "?");
	l3_error_hint(err, "As root: install -d -o %s -m 700 \"%s\"",
				  user != NULL ? user->pw_name : "postgres", llama3_weights_cache);
	return false;
}

bool
llama_cache_open(LlamaCacheFile *cache, const char *name, const char *source,
				 L3Quantize quantize)
{
	uint64		identity = source_identity(source, quantize);
	CacheTrailer trailer;
	struct stat st;
	const uint8 *tokenizer;

	set_path(cache, name, identity);
	cache->fd = BasicOpenFile(cache->path, O_RDONLY | PG_BINARY);
	if (cache->fd < 0)
	{
		/* Whether the directory can be used is looked at before a file is made. */
		if (errno == ENOENT || errno == ENOTDIR || errno == EACCES)
			return false;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", cache->path)));
	}
	cache->complete = true;
	if (fstat(cache->fd, &st) != 0 || st.st_size < (off_t) sizeof(trailer))
		goto damaged;
	cache->map_size = st.st_size;
	map_file(cache, PROT_READ);
	memcpy(&trailer, cache->map + cache->map_size - sizeof(trailer), sizeof(trailer));
	if (!trailer_fits(&trailer, identity, cache->map_size))
		goto damaged;
	tokenizer = cache->map + llama_cache_tokenizer_offset(trailer.weights_size);
	if (trailer.tokenizer_size > INT_MAX ||
		hash_bytes_extended(tokenizer, (int) trailer.tokenizer_size, 0) != trailer.tokenizer_hash)
		goto damaged;
	cache->weights_size = trailer.weights_size;
	cache->tokenizer_size = trailer.tokenizer_size;
	memcpy(cache->packed_types, trailer.packed_types, sizeof(cache->packed_types));
	cache->packed_types[sizeof(cache->packed_types) - 1] = '\0';
	memcpy(cache->general_name, trailer.general_name, sizeof(cache->general_name));
	cache->general_name[sizeof(cache->general_name) - 1] = '\0';
	return true;

damaged:
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("file \"%s\" is damaged and will be made anew", cache->path)));
	llama_cache_close(cache);
	return false;
}

bool
llama_cache_exists(const char *name, const char *source, L3Quantize quantize)
{
	LlamaCacheFile cache;
	struct stat st;

	set_path(&cache, name, source_identity(source, quantize));
	return stat(cache.path, &st) == 0;
}

static void
temporary_path(const LlamaCacheFile *cache, char *path, Size size)
{
	snprintf(path, size, "%s.tmp", cache->path);
}

void
llama_cache_create(LlamaCacheFile *cache, const char *name, const char *source,
				   L3Quantize quantize, uint64 weights_size, uint64 tokenizer_size,
				   const L3Plan *plan)
{
	uint64		identity = source_identity(source, quantize);
	char		path[MAXPGPATH + 8];
	CacheTrailer *trailer;
	int			rc;

	set_path(cache, name, identity);
	temporary_path(cache, path, sizeof(path));
	cache->complete = false;
	cache->weights_size = weights_size;
	cache->tokenizer_size = tokenizer_size;
	cache->map_size = trailer_offset(weights_size, tokenizer_size) + sizeof(CacheTrailer);

	cache->fd = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
	if (cache->fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path),
				 errhint("The directory llama3.weights_cache must exist and be writable by the server.")));
	if (flock(cache->fd, LOCK_EX | LOCK_NB) != 0)
	{
		/* Not ours to remove. */
		close(cache->fd);
		cache->fd = -1;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("file \"%s\" is being written by another process", path)));
	}

	/* All blocks now, since a full disk under a mapping would be a SIGBUS. */
	if (ftruncate(cache->fd, 0) != 0)
		rc = errno;
	else
	{
		do
		{
			CHECK_FOR_INTERRUPTS();
			rc = posix_fallocate(cache->fd, 0, cache->map_size);
		} while (rc == EINTR);
	}
	if (rc != 0)
	{
		errno = rc;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not reserve %llu bytes in file \"%s\": %m",
						(unsigned long long) cache->map_size, path)));
	}
	map_file(cache, PROT_READ | PROT_WRITE);

	trailer = (CacheTrailer *) (cache->map + cache->map_size - sizeof(CacheTrailer));
	memcpy(trailer->magic, CACHE_MAGIC, sizeof(trailer->magic));
	trailer->version = CACHE_VERSION;
	trailer->quantize = quantize;
	trailer->identity = identity;
	trailer->weights_size = weights_size;
	trailer->tokenizer_size = tokenizer_size;
	strlcpy(trailer->packed_types, plan->packed_types, sizeof(trailer->packed_types));
	strlcpy(trailer->general_name, plan->name, sizeof(trailer->general_name));
	strlcpy(cache->packed_types, plan->packed_types, sizeof(cache->packed_types));
	strlcpy(cache->general_name, plan->name, sizeof(cache->general_name));
}

void
llama_cache_finish(LlamaCacheFile *cache)
{
	CacheTrailer *trailer = (CacheTrailer *) (cache->map + cache->map_size - sizeof(CacheTrailer));
	char		path[MAXPGPATH + 8];

	trailer->tokenizer_hash =
		hash_bytes_extended(cache->map + llama_cache_tokenizer_offset(cache->weights_size),
							(int) cache->tokenizer_size, 0);
	trailer->hash = trailer_hash(trailer);
	if (msync(cache->map, cache->map_size, MS_SYNC) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", cache->path)));
	temporary_path(cache, path, sizeof(path));
	(void) durable_rename(path, cache->path, ERROR);
	cache->complete = true;
}

void
llama_cache_close(LlamaCacheFile *cache)
{
	if (cache->map != NULL)
		(void) munmap(cache->map, cache->map_size);
	cache->map = NULL;
	if (cache->fd >= 0)
	{
		if (!cache->complete)
		{
			char		path[MAXPGPATH + 8];

			temporary_path(cache, path, sizeof(path));
			(void) unlink(path);
		}
		close(cache->fd);
	}
	cache->fd = -1;
}

/* Fill *err with the errno of a call on path that failed. */
static void
io_error(L3Error *err, const char *what, const char *path)
{
	int			saved_errno = errno;

	l3_error(err, L3_ERR_IO, "could not %s file \"%s\": %s", what, path, strerror(saved_errno));
	err->saved_errno = saved_errno;
}

const void *
llama_cache_map(const char *path, uint64 weights_size, L3Error *err)
{
	struct stat st;
	void	   *map = NULL;
	int			fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);

	if (fd < 0)
	{
		io_error(err, "open", path);
		return NULL;
	}
	if (fstat(fd, &st) != 0 || (uint64) st.st_size < weights_size)
		l3_error(err, L3_ERR_FORMAT, "file \"%s\" has been cut short", path);
	else
	{
		map = mmap(NULL, weights_size, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
		{
			io_error(err, "map", path);
			map = NULL;
		}
	}
	close(fd);
	return map;
}
