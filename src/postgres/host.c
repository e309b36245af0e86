/*-------------------------------------------------------------------------
 *
 * host.c
 *	  What the host has left for us: memory, room in a file system, CPUs.
 *
 * The kernel's own figures count the whole machine; a container is told less
 * by its control group (version 2).  Both are asked, and the smaller answer
 * counts.  What cannot be found out is no limit: these figures turn an OOM
 * kill into an error message, they are not a promise.
 *
 * Sources: proc(5), the kernel's Documentation/admin-guide/cgroup-v2.rst.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/dsm_impl.h"
#include "storage/fd.h"

#include "shmem.h"

#define CGROUP_ROOT		"/sys/fs/cgroup"
#define MEGABYTE		(1024 * 1024)
#define GIGABYTE		(1024 * MEGABYTE)

/*
 * Value of a line "key value" (or "key: value kB") in a small text file, in
 * the file's unit; key NULL: the first word.  False when there is none, or
 * it is the word "max".
 */
static bool
read_value(const char *path, const char *key, uint64 *value)
{
	char		line[256];
	bool		found = false;
	FILE	   *file = AllocateFile(path, "r");

	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
	{
		char	   *rest = line;
		char	   *end;

		if (key != NULL)
		{
			Size		len = strlen(key);

			if (strncmp(line, key, len) != 0 || (line[len] != ' ' && line[len] != ':'))
				continue;
			rest = line + len + 1;
		}
		*value = strtou64(rest, &end, 10);
		found = end != rest;
		if (key == NULL)
			break;
	}
	FreeFile(file);
	return found;
}

/* Directory of this process's control group, "" when there is none. */
static void
control_group(char *path, Size size)
{
	char		line[MAXPGPATH];
	FILE	   *file = AllocateFile("/proc/self/cgroup", "r");

	path[0] = '\0';
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		if (strncmp(line, "0::", 3) == 0)
		{
			line[strcspn(line, "\n")] = '\0';
			snprintf(path, size, "%s%s", CGROUP_ROOT, strcmp(line + 3, "/") == 0 ? "" : line + 3);
			break;
		}
	}
	FreeFile(file);
}

/* To the parent group; false at the root. */
static bool
to_parent(char *path)
{
	char	   *slash = strrchr(path, '/');

	if (strlen(path) <= strlen(CGROUP_ROOT) || slash == NULL)
		return false;
	*slash = '\0';
	return true;
}

/*
 * Bytes that one group may still take: its limit less its use, where page
 * cache does not count as used, since it is given back on demand.
 */
static uint64
group_memory_free(const char *group)
{
	char		path[MAXPGPATH + 32];
	uint64		limit;
	uint64		used;
	uint64		cache;
	uint64		reclaimable = 0;

	snprintf(path, sizeof(path), "%s/memory.max", group);
	if (!read_value(path, NULL, &limit))
		return PG_UINT64_MAX;
	snprintf(path, sizeof(path), "%s/memory.current", group);
	if (!read_value(path, NULL, &used))
		return PG_UINT64_MAX;
	snprintf(path, sizeof(path), "%s/memory.stat", group);
	if (read_value(path, "inactive_file", &cache))
		reclaimable += cache;
	if (read_value(path, "active_file", &cache))
		reclaimable += cache;
	used -= Min(used, reclaimable);
	return limit - Min(limit, used);
}

uint64
llama_memory_free(void)
{
	char		group[MAXPGPATH];
	uint64		available = PG_UINT64_MAX;
	uint64		kilobytes;

	if (read_value("/proc/meminfo", "MemAvailable", &kilobytes))
		available = kilobytes * 1024;
	control_group(group, sizeof(group));
	if (group[0] != '\0')
	{
		do
			available = Min(available, group_memory_free(group));
		while (to_parent(group));
	}
	return available;
}

uint64
llama_disk_free(const char *path)
{
	struct statvfs fs;

	if (statvfs(path, &fs) != 0)
		return PG_UINT64_MAX;
	return (uint64) fs.f_bavail * fs.f_frsize;
}

/* ----------------------------------------------------------------
 *		Room for a model: one answer for llama_model_plan and for the load
 * ----------------------------------------------------------------
 */

LlamaNeed
llama_load_need(const L3Plan *plan, bool cached)
{
	bool		in_file = llama3_weights_cache[0] != '\0';
	LlamaNeed	need;

	need.segments = plan->tokenizer_bytes + (in_file ? 0 : plan->weight_bytes);
	need.file = in_file && !cached ? plan->weight_bytes + plan->tokenizer_bytes : 0;
	need.halves = strstr(plan->packed_types, "F16") != NULL;
	need.memory = need.segments +
		(plan->workspace_bytes + plan->kv_bytes_per_token) * llama3_workers;
	return need;
}

/* Where dynamic shared memory takes file space, or NULL. */
static const char *
segments_directory(void)
{
	switch (dynamic_shared_memory_type)
	{
		case DSM_IMPL_POSIX:
			return "/dev/shm";
		case DSM_IMPL_MMAP:
			return PG_DYNSHMEM_DIR;
		default:
			return NULL;
	}
}

/* A shortage's detail: what is needed, what is free, and where. */
static void
tell_shortage(L3Error *err, uint64 need, uint64 free, const char *where)
{
	l3_error_detail(err, "It needs %llu MB, and %llu MB are free%s%s.",
					(unsigned long long) (need / MEGABYTE + 1),
					(unsigned long long) (free / MEGABYTE),
					where[0] != '\0' ? " in " : "", where);
}

/*
 * The kernel would rather kill a process later than refuse memory now, and
 * what PostgreSQL says of a full /dev/shm helps nobody.
 */
bool
llama_has_room(const char *name, const LlamaNeed *need, L3Error *err)
{
	const char *directory = segments_directory();
	uint64		prepared = (uint64) min_dynamic_shared_memory * MEGABYTE;
	uint64		free;

	if (directory != NULL && need->segments > prepared &&
		need->segments > (free = llama_disk_free(directory)))
	{
		l3_error(err, L3_ERR_MEMORY, "not enough shared memory to load model \"%s\"", name);
		tell_shortage(err, need->segments, free, directory);
		l3_error_hint(err, "Enlarge it (for a container with the option --shm-size=%llug)%s.",
					  (unsigned long long) (need->segments / GIGABYTE + 1),
					  llama3_weights_cache[0] != '\0' ? "" :
					  ", or set llama3.weights_cache to a directory that the server may write, to keep weights in files");
		return false;
	}
	if (need->file > 0 && !llama_cache_usable(err))
		return false;
	if (need->file > 0 && need->file > (free = llama_disk_free(llama3_weights_cache)))
	{
		l3_error(err, L3_ERR_IO, "not enough disk space to load model \"%s\"", name);
		err->saved_errno = ENOSPC;
		tell_shortage(err, need->file, free, llama3_weights_cache);
		l3_error_hint(err, "Make room there (*.l3arena files of models that are not used any more can be deleted), or have llama3.weights_cache name another directory.");
		return false;
	}
	if (need->memory > (free = llama_memory_free()))
	{
		l3_error(err, L3_ERR_MEMORY, "not enough memory to load model \"%s\"", name);
		tell_shortage(err, need->memory, free, "");
		l3_error_hint(err, "%sake a file in a smaller quantisation, such as Q4_K_M, or a smaller model, or unload another one.",
					  need->halves ? "Load it with quantize => 'q8_0', which takes about half, or t" : "T");
		return false;
	}
	return true;
}

/* CPUs that a group's quota is worth, rounded up; INT_MAX without one. */
static int
group_cpus(const char *group)
{
	char		path[MAXPGPATH + 32];
	char		line[64] = "";
	unsigned long quota;
	unsigned long period;
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/cpu.max", group);
	file = AllocateFile(path, "r");
	if (file == NULL)
		return INT_MAX;
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	FreeFile(file);
	if (sscanf(line, "%lu %lu", &quota, &period) != 2 || period == 0)
		return INT_MAX;
	return (int) Min((quota + period - 1) / period, INT_MAX);
}

int
llama_cpu_count(void)
{
	char		group[MAXPGPATH];
	cpu_set_t	set;
	long		count;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		count = CPU_COUNT(&set);
	else
		count = sysconf(_SC_NPROCESSORS_ONLN);
	control_group(group, sizeof(group));
	if (group[0] != '\0')
	{
		do
			count = Min(count, group_cpus(group));
		while (to_parent(group));
	}
	return (int) Max(count, 1);
}
