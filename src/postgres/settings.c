/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings of llama3.
 *
 * What sizes shared memory or the engine's own memory is fixed at server start;
 * paths can be changed by a reload and are shown to superusers only; what is
 * a matter of taste can be set by anybody.
 *
 * The variables start with their defaults, which hold in a server that did
 * not preload llama3, where the settings are not defined.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "kernels/cpu.h"
#include "result_cache.h"
#include "shmem.h"

#define BATCH_TOKENS_MIN		16
#define BATCH_TOKENS_MAX		8192
/* Enough rows to be bound by arithmetic, few enough to answer a cancel soon. */
#define BATCH_TOKENS_DEFAULT	256
#define CONTEXT_LIMIT_MIN		0
#define CONTEXT_LIMIT_DEFAULT	0
#define FILTER_SELECTIVITY_MIN	-1
#define FILTER_SELECTIVITY_MAX	1
#define FILTER_SELECTIVITY_DEFAULT	-1
#define JOB_ROWS_PER_SECOND_MIN	0
#define JOB_ROWS_PER_SECOND_MAX	1000000
#define JOB_ROWS_PER_SECOND_DEFAULT	0
#define KV_CACHE_SIZE_MIN		16	/* MB */
#define KV_CACHE_SIZE_MAX		(16 * 1024 * 1024)
/* 32,000 tokens of a 1B model, 8,000 of an 8B one. */
#define KV_CACHE_SIZE_DEFAULT	1024
#define MAX_JOBS_MIN			0
#define MAX_JOBS_MAX			32	/* leaves room among LLAMA_MAX_JOBS for calls */
/* One keeps the engine full; a second so that a long one does not hold up others. */
#define MAX_JOBS_DEFAULT		2
#define MAX_SEQUENCES_MIN		1
#define MAX_SEQUENCES_MAX		1024
#define MAX_SEQUENCES_DEFAULT	64
#define MAX_TOKENS_MIN			1
#define MAX_TOKENS_DEFAULT		256
#define QUEUE_SIZE_MIN			1
#define QUEUE_SIZE_MAX			65536
/* More than a step takes, so that the engine finds work while clients come back. */
#define QUEUE_SIZE_DEFAULT		256
#define THREADS_MIN				0
#define THREADS_MAX				1024
#define THREADS_DEFAULT			0
#define WORKERS_MIN				1
#define WORKERS_DEFAULT			1

int			llama3_batch_tokens = BATCH_TOKENS_DEFAULT;
int			llama3_context_limit = CONTEXT_LIMIT_DEFAULT;
char	   *llama3_cpu_features = "";
char	   *llama3_default_model = "";
bool		llama3_enable_batching = true;
bool		llama3_enable_prompt_lookup = true;
bool		llama3_enable_result_cache = true;
double		llama3_filter_selectivity = FILTER_SELECTIVITY_DEFAULT;
int			llama3_job_rows_per_second = JOB_ROWS_PER_SECOND_DEFAULT;
int			llama3_kv_cache_size = KV_CACHE_SIZE_DEFAULT;
int			llama3_kv_cache_type = L3_KV_F16;
int			llama3_max_jobs = MAX_JOBS_DEFAULT;
int			llama3_max_sequences = MAX_SEQUENCES_DEFAULT;
int			llama3_max_tokens = MAX_TOKENS_DEFAULT;
char	   *llama3_model_directory = "";
char	   *llama3_models = LLAMA_DEMO_PATH;
bool		llama3_numa = true;
int			llama3_on_error = LLAMA_ON_ERROR_RAISE;
bool		llama3_prefix_cache = true;
int			llama3_queue_size = QUEUE_SIZE_DEFAULT;
int			llama3_result_cache_size = LLAMA_RESULT_CACHE_SIZE_DEFAULT;
int			llama3_threads = THREADS_DEFAULT;
char	   *llama3_weights_cache = "";
int			llama3_workers = WORKERS_DEFAULT;

static const struct config_enum_entry kv_types[] = {
	{"f16", L3_KV_F16, false},
	{"f32", L3_KV_F32, false},
	{"q8_0", L3_KV_Q8_0, false},
	{NULL, 0, false}
};

static const struct config_enum_entry on_error_choices[] = {
	{"error", LLAMA_ON_ERROR_RAISE, false},
	{"null", LLAMA_ON_ERROR_NULL, false},
	{NULL, 0, false}
};

static bool
check_cpu_features(char **newval, void **extra, GucSource source)
{
	unsigned	features;
	L3Error		err;

	if (l3_cpu_parse(*newval, &features, &err) == L3_OK)
		return true;
	/* A message becomes a sentence. */
	err.message[0] = pg_toupper((unsigned char) err.message[0]);
	GUC_check_errdetail("%s.", err.message);
	GUC_check_errhint("%s", err.hint);
	return false;
}

/* A directory must be absolute: processes differ in where they stand. */
static bool
check_directory(char **newval, void **extra, GucSource source)
{
	if (*newval != NULL && (*newval)[0] != '\0' && !is_absolute_path(*newval))
	{
		GUC_check_errdetail("The path must be absolute.");
		return false;
	}
	return true;
}

void
llama_settings_init(void)
{
	DefineCustomIntVariable("llama3.batch_tokens",
							"Sets the most tokens that the engine computes in one step.",
							"Larger steps read prompts faster; smaller ones answer a cancel sooner and keep running answers flowing.",
							&llama3_batch_tokens,
							BATCH_TOKENS_DEFAULT, BATCH_TOKENS_MIN, BATCH_TOKENS_MAX,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.context_limit",
							"Limits the tokens of one request, prompt and answer together.",
							"0 means the model's own context.",
							&llama3_context_limit,
							CONTEXT_LIMIT_DEFAULT, CONTEXT_LIMIT_MIN, L3_MAX_CONTEXT,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("llama3.cpu_features",
							   "Limits the instruction sets that the engine uses.",
							   "Empty means all that the CPU has.",
							   &llama3_cpu_features, "",
							   PGC_POSTMASTER, 0, check_cpu_features, NULL, NULL);
	DefineCustomStringVariable("llama3.default_model",
							   "Sets the model that functions use when none is named.",
							   "Empty means the model that was loaded first, and the demonstration model if there is no other.",
							   &llama3_default_model, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("llama3.enable_batching",
							 "Enables the planner's use of batch nodes, which ask the engine for many rows at once.",
							 "Results are the same without; queries over many rows are slower.",
							 &llama3_enable_batching, true,
							 PGC_USERSET, GUC_EXPLAIN, NULL, NULL, NULL);
	DefineCustomBoolVariable("llama3.enable_prompt_lookup",
							 "Enables guesses of the next tokens of an answer from those before.",
							 "Results are the same without; answers that copy their prompt are slower.",
							 &llama3_enable_prompt_lookup, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("llama3.enable_result_cache",
							 "Enables the use of answers that were computed before.",
							 "Results are the same without; repeated calls are slower.",
							 &llama3_enable_result_cache, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("llama3.filter_selectivity",
							 "Sets the fraction of rows that the planner expects llama_filter to let pass.",
							 "Below 0 means the share of true answers in this database so far.",
							 &llama3_filter_selectivity,
							 FILTER_SELECTIVITY_DEFAULT, FILTER_SELECTIVITY_MIN, FILTER_SELECTIVITY_MAX,
							 PGC_USERSET, GUC_EXPLAIN, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.job_rows_per_second",
							"Limits how many rows a job over a table does in a second.",
							"0 means no limit.  Each job has this limit and its own.",
							&llama3_job_rows_per_second,
							JOB_ROWS_PER_SECOND_DEFAULT, JOB_ROWS_PER_SECOND_MIN, JOB_ROWS_PER_SECOND_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.kv_cache_size",
							"Sets the memory for keys and values of each engine worker.",
							"It bounds how many tokens can be in work at once; what they leave free keeps earlier prompts for reuse.",
							&llama3_kv_cache_size,
							KV_CACHE_SIZE_DEFAULT, KV_CACHE_SIZE_MIN, KV_CACHE_SIZE_MAX,
							PGC_POSTMASTER, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomEnumVariable("llama3.kv_cache_type",
							 "Sets the number format of cached keys and values.",
							 NULL,
							 &llama3_kv_cache_type, L3_KV_F16, kv_types,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.max_jobs",
							"Sets how many jobs over tables run in the background at once.",
							"Others wait.  Each takes one of max_worker_processes.",
							&llama3_max_jobs,
							MAX_JOBS_DEFAULT, MAX_JOBS_MIN, MAX_JOBS_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.max_sequences",
							"Sets the most requests that an engine worker computes at once.",
							"Each label that is being scored counts as one.",
							&llama3_max_sequences,
							MAX_SEQUENCES_DEFAULT, MAX_SEQUENCES_MIN, MAX_SEQUENCES_MAX,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.max_tokens",
							"Sets the longest answer in tokens when the call does not say.",
							NULL,
							&llama3_max_tokens,
							MAX_TOKENS_DEFAULT, MAX_TOKENS_MIN, L3_MAX_CONTEXT,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("llama3.model_directory",
							   "Sets the directory that model files are read from.",
							   "Only superusers and members of pg_read_server_files may load from elsewhere.",
							   &llama3_model_directory, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_directory, NULL, NULL);
	DefineCustomStringVariable("llama3.models",
							   "Lists the models to load at server start.",
							   "A list of path or name=path, separated by commas, each perhaps followed by quantize=q8_0; relative paths start at llama3.model_directory.",
							   &llama3_models, LLAMA_DEMO_PATH,
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomBoolVariable("llama3.numa",
							 "Places compute threads and memory by the machine's NUMA nodes.",
							 "Results are the same without.  Nothing is done on a machine of one node.",
							 &llama3_numa, true,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("llama3.on_error",
							 "Sets what happens to a row that cannot be answered.",
							 "\"error\" raises an error; \"null\" gives NULL and a warning.",
							 &llama3_on_error, LLAMA_ON_ERROR_RAISE, on_error_choices,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("llama3.prefix_cache",
							 "Keeps computed prompts for requests that begin alike.",
							 NULL,
							 &llama3_prefix_cache, true,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.queue_size",
							"Sets how many requests can be in flight at once.",
							"Further callers wait for their turn.",
							&llama3_queue_size,
							QUEUE_SIZE_DEFAULT, QUEUE_SIZE_MIN, QUEUE_SIZE_MAX,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.result_cache_size",
							"Sets the shared memory for answers that were computed before.",
							"0 means that none are kept.",
							&llama3_result_cache_size,
							LLAMA_RESULT_CACHE_SIZE_DEFAULT, LLAMA_RESULT_CACHE_SIZE_MIN,
							LLAMA_RESULT_CACHE_SIZE_MAX,
							PGC_POSTMASTER, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("llama3.threads",
							"Sets the compute threads of each engine worker.",
							"0 means the server's CPUs, shared evenly among the workers.",
							&llama3_threads,
							THREADS_DEFAULT, THREADS_MIN, THREADS_MAX,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("llama3.weights_cache",
							   "Sets the directory that keeps packed weights as files.",
							   "Empty means that weights live in dynamic shared memory.  Files make restarts fast and need no large /dev/shm.",
							   &llama3_weights_cache, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_directory, NULL, NULL);
	DefineCustomIntVariable("llama3.workers",
							"Sets the number of engine workers.",
							"They share the weights; each has its own threads and KV cache.",
							&llama3_workers,
							WORKERS_DEFAULT, WORKERS_MIN, LLAMA_MAX_WORKERS,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	MarkGUCPrefixReserved("llama3");
}

void
llama_engine_options(L3EngineOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->n_threads = llama3_threads > 0 ? llama3_threads :
		Max(llama_cpu_count() / llama3_workers, 1);
	options->kv_cache_bytes = (uint64) llama3_kv_cache_size * 1024 * 1024;
	options->kv_type = llama3_kv_cache_type;
	options->batch_tokens = llama3_batch_tokens;
	options->max_sequences = llama3_max_sequences;
	options->max_context = llama3_context_limit;
	options->prefix_cache = llama3_prefix_cache;
	options->cpu_features = llama3_cpu_features;
	options->nodes = llama3_numa ? L3_NODES : NULL;
	options->n_workers = llama3_workers;
}
