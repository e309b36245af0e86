/*-------------------------------------------------------------------------
 *
 * cpu.c
 *	  The names of instruction sets, and lists of them.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "kernels/cpu.h"

/* A word of the feature list, lowest level first. */
typedef struct CpuLevel
{
	const char *name;
	unsigned	features;
} CpuLevel;

#define CPU_ALL \
	(L3_CPU_AVX2 | L3_CPU_AVXVNNI | L3_CPU_AVX512 | L3_CPU_AVX512VNNI | L3_CPU_AMX | L3_CPU_BLAS)

static const CpuLevel cpu_levels[] = {
	{"generic", 0},
	{"blas", L3_CPU_BLAS},
	{"avx2", L3_CPU_AVX2},
	{"avxvnni", L3_CPU_AVX2 | L3_CPU_AVXVNNI},
	{"avx512", L3_CPU_AVX2 | L3_CPU_AVX512},
	{"avx512vnni", L3_CPU_AVX2 | L3_CPU_AVX512 | L3_CPU_AVX512VNNI},
	{"amx", L3_CPU_AVX2 | L3_CPU_AVX512 | L3_CPU_AVX512VNNI | L3_CPU_AMX},
	{"all", CPU_ALL},
};

#define N_CPU_LEVELS	(sizeof(cpu_levels) / sizeof(cpu_levels[0]))

L3Status
l3_cpu_parse(const char *list, unsigned *features, L3Error *err)
{
	static const char separators[] = ", \t";
	unsigned	allowed = 0;
	bool		any = false;
	const char *word = list ? list : "";

	for (;;)
	{
		size_t		len;
		size_t		i;

		word += strspn(word, separators);
		len = strcspn(word, separators);
		if (len == 0)
			break;
		for (i = 0; i < N_CPU_LEVELS; i++)
		{
			if (strlen(cpu_levels[i].name) == len &&
				memcmp(cpu_levels[i].name, word, len) == 0)
				break;
		}
		if (i == N_CPU_LEVELS)
		{
			l3_error(err, L3_ERR_ARG, "unknown CPU feature \"%.*s\"",
					 len > 64 ? 64 : (int) len, word);
			l3_error_hint(err, "Known are \"generic\", \"blas\", \"avx2\", \"avxvnni\", \"avx512\", \"avx512vnni\", \"amx\" and \"all\".");
			return L3_ERR_ARG;
		}
		allowed |= cpu_levels[i].features;
		any = true;
		word += len;
	}
	if (!any)
		allowed = CPU_ALL;
	*features = allowed & l3_cpu_detect();
	return L3_OK;
}

const char *
l3_cpu_level(size_t i)
{
	return i < N_CPU_LEVELS - 1 ? cpu_levels[i].name : NULL;	/* without "all" */
}

const char *
l3_cpu_name(unsigned features)
{
	size_t		i = N_CPU_LEVELS - 2;

	while ((features & cpu_levels[i].features) != cpu_levels[i].features)
		i--;
	return cpu_levels[i].name;
}
