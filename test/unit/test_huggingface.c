/*-------------------------------------------------------------------------
 *
 * test_huggingface.c
 *	  Opening and loading Hugging Face directories, sound and wrong.
 *
 * Directories are written here from JSON texts in which single members are
 * replaced.  The weights' values tell name, row and column, so that the
 * interleaving of query and key rows is seen value by value.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "huggingface.h"
#include "unit/tiny_gguf.h"

#define HEADS		4
#define KV_HEADS	2
#define HEAD_DIM	16
#define EMBD		64
#define FF			96
#define ROWS		300

static TinyVocab vocab;
static char dir[] = "/tmp/test_huggingface.XXXXXX";

static const char llama3_split[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
	" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* The files of a directory; NULL: not written. */
typedef struct Directory
{
	json_t	   *config;
	json_t	   *tokenizer;
	json_t	   *tokenizer_config;
	json_t	   *generation_config;
	const char *dtype;			/* "F32" or "BF16"; "F16" is a lie, data is F32 */
	bool		lm_head;
	bool		sharded;
	bool		swapped_index;	/* the index names the wrong shard */
	const char *index_name;		/* file name in the index instead */
	const char *omit_tensor;
	const char *zero_tensor;
	size_t		cut;			/* bytes missing at the end of the weights */
} Directory;

static json_t *
make_tokenizer(void)
{
	json_t	   *ids = json_object();
	json_t	   *merges = json_array();
	json_t	   *added = json_array();

	for (uint32_t i = 0; i < vocab.spec.n_tokens; i++)
	{
		if (vocab.spec.types[i] == L3_TOKEN_NORMAL)
			json_object_set_new(ids, vocab.spec.tokens[i].data, json_integer(i));
		else
			json_array_append_new(added, json_pack("{s:i,s:s,s:b}", "id", (int) i,
												   "content", vocab.spec.tokens[i].data,
												   "special", vocab.spec.types[i] == L3_TOKEN_CONTROL));
	}
	for (uint32_t i = 0; i < vocab.spec.n_merges; i++)
	{
		char		text[64];
		L3Slice		left = vocab.spec.merge_left[i];
		L3Slice		right = vocab.spec.merge_right[i];

		/* Both forms, by turns. */
		snprintf(text, sizeof(text), "%.*s %.*s", (int) left.len, left.data, (int) right.len, right.data);
		json_array_append_new(merges, i % 2 == 0 ? json_string(text) :
							  json_pack("[s%,s%]", left.data, (size_t) left.len,
										right.data, (size_t) right.len));
	}
	return json_pack("{s:o,s:n,s:{s:s,s:[{s:s,s:{s:s},s:s,s:b},{s:s,s:b,s:b}]},"
					 "s:{s:s,s:[{s:{s:s}},{s:{s:s}}]},s:{s:s,s:o,s:o}}",
					 "added_tokens", added, "normalizer",
					 "pre_tokenizer", "type", "Sequence", "pretokenizers",
					 "type", "Split", "pattern", "Regex", llama3_split, "behavior", "Isolated", "invert", 0,
					 "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 0,
					 "post_processor", "type", "TemplateProcessing", "single",
					 "SpecialToken", "id", "<|begin_of_text|>", "Sequence", "id", "A",
					 "model", "type", "BPE", "vocab", ids, "merges", merges);
}

static Directory
sound_directory(void)
{
	Directory	d = {0};

	d.config = json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:b,s:i}",
						 "model_type", "llama", "num_hidden_layers", 1, "hidden_size", EMBD,
						 "intermediate_size", FF, "num_attention_heads", HEADS,
						 "num_key_value_heads", KV_HEADS, "head_dim", HEAD_DIM, "vocab_size", ROWS,
						 "max_position_embeddings", 512, "rms_norm_eps", 1e-5, "rope_theta", 500000.0,
						 "tie_word_embeddings", 0, "eos_token_id", (int) vocab.end_of_text);
	d.tokenizer = make_tokenizer();
	d.tokenizer_config = json_pack("{s:s,s:s}", "bos_token", "<|begin_of_text|>",
								   "chat_template", "{{ x }}<|start_header_id|>");
	d.dtype = "F32";
	d.lm_head = true;
	return d;
}

static void
write_bytes(const char *name, const void *data, size_t n)
{
	char		path[128];
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0)
		exit(1);
}

static void
write_json(const char *name, const json_t *object)
{
	char	   *text;

	if (object == NULL)
		return;
	text = json_dumps(object, 0);
	write_bytes(name, text, strlen(text));
	free(text);
}

typedef struct Shard
{
	json_t	   *header;
	Bytes		data;
} Shard;

static void
add_tensor(Shard *shard, const Directory *d, const char *name, uint32_t n_out, uint32_t n_in)
{
	size_t		begin = shard->data.n;
	json_t	   *shape = n_out == 1 ? json_pack("[i]", (int) n_in) :
		json_pack("[i,i]", (int) n_out, (int) n_in);

	for (uint32_t n = 0; n < n_out; n++)
	{
		for (uint32_t k = 0; k < n_in; k++)
		{
			float		value = tiny_same(d->zero_tensor, name) ? 0 : tiny_value(name, n, k);

			if (d->dtype[0] == 'F')
				bytes_put(&shard->data, &value, 4);
			else
				bytes_put(&shard->data, (uint8_t *) &value + 2, 2);
		}
	}
	json_object_set_new(shard->header, name,
						json_pack("{s:s,s:o,s:[I,I]}", "dtype", d->dtype, "shape", shape,
								  "data_offsets", (json_int_t) begin, (json_int_t) shard->data.n));
}

static void
write_shard(const char *name, Shard *shard, size_t cut)
{
	char	   *text = json_dumps(shard->header, 0);
	Bytes		file = {0};

	bytes_put_u64(&file, strlen(text));
	bytes_put(&file, text, strlen(text));
	bytes_put(&file, shard->data.data, shard->data.n);
	write_bytes(name, file.data, file.n - cut);
	free(text);
	free(file.data);
	free(shard->data.data);
	json_decref(shard->header);
}

static void
write_weights(const Directory *d)
{
	static const struct
	{
		const char *name;
		uint32_t	n_out,
					n_in;
	}			tensors[] = {
		{"model.embed_tokens.weight", ROWS, EMBD}, {"model.norm.weight", 1, EMBD},
		{"lm_head.weight", ROWS, EMBD},
		{"model.layers.0.input_layernorm.weight", 1, EMBD},
		{"model.layers.0.self_attn.q_proj.weight", HEADS * HEAD_DIM, EMBD},
		{"model.layers.0.self_attn.k_proj.weight", KV_HEADS * HEAD_DIM, EMBD},
		{"model.layers.0.self_attn.v_proj.weight", KV_HEADS * HEAD_DIM, EMBD},
		{"model.layers.0.self_attn.o_proj.weight", EMBD, HEADS * HEAD_DIM},
		{"model.layers.0.post_attention_layernorm.weight", 1, EMBD},
		{"model.layers.0.mlp.gate_proj.weight", FF, EMBD},
		{"model.layers.0.mlp.up_proj.weight", FF, EMBD},
		{"model.layers.0.mlp.down_proj.weight", EMBD, FF},
		{"model.layers.0.self_attn.rotary_emb.inv_freq", 1, HEAD_DIM / 2},
	};
	static const char *const names[2] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
	Shard		shards[2] = {{json_object(), {0}}, {json_object(), {0}}};
	json_t	   *map = json_object();

	json_object_set_new(shards[0].header, "__metadata__", json_pack("{s:s}", "format", "pt"));
	for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++)
	{
		int			which = d->sharded ? (int) (i % 2) : 0;

		if (tiny_same(d->omit_tensor, tensors[i].name) ||
			(!d->lm_head && strcmp(tensors[i].name, "lm_head.weight") == 0))
			continue;
		add_tensor(&shards[which], d, tensors[i].name, tensors[i].n_out, tensors[i].n_in);
		json_object_set_new(map, tensors[i].name,
							json_string(d->index_name != NULL ? d->index_name :
										names[d->swapped_index ? 1 - which : which]));
	}
	if (!d->sharded)
	{
		write_shard("model.safetensors", &shards[0], d->cut);
		json_decref(shards[1].header);
		json_decref(map);
		return;
	}
	write_shard(names[0], &shards[0], d->cut);
	write_shard(names[1], &shards[1], 0);
	map = json_pack("{s:o}", "weight_map", map);
	write_json("model.safetensors.index.json", map);
	json_decref(map);
}

static const char *const all_files[] = {
	"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
	"chat_template.jinja", "model.safetensors", "model.safetensors.index.json",
	"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
};

static void
remove_files(void)
{
	for (size_t i = 0; i < sizeof(all_files) / sizeof(all_files[0]); i++)
	{
		char		path[128];

		snprintf(path, sizeof(path), "%s/%s", dir, all_files[i]);
		unlink(path);
	}
}

/* Write the directory anew; takes d's JSON. */
static void
write_directory(Directory *d)
{
	remove_files();
	write_json("config.json", d->config);
	write_json("tokenizer.json", d->tokenizer);
	write_json("tokenizer_config.json", d->tokenizer_config);
	write_json("generation_config.json", d->generation_config);
	write_weights(d);
	json_decref(d->config);
	json_decref(d->tokenizer);
	json_decref(d->tokenizer_config);
	json_decref(d->generation_config);
}

/* A model that was loaded, or why not. */
typedef struct Loaded
{
	L3Source   *source;			/* open while the test looks at it */
	const L3Arena *arena;
	void	   *mem;
	void	   *tokenizer;
	L3Error		err;
} Loaded;

static Loaded
load(L3Quantize quantize)
{
	Loaded		l = {0};
	L3LoadOptions options = {quantize};

	if (l3_source_open(dir, &options, &l.source, &l.err) == L3_OK)
	{
		uint64_t	size = l3_source_arena_size(l.source);
		uint64_t	tokenizer_size = l3_source_tokenizer_size(l.source);

		l.mem = aligned_alloc(64, size);
		memset(l.mem, 0, size);
		l.tokenizer = calloc(1, tokenizer_size);
		if (l3_source_build_tokenizer(l.source, l.tokenizer, tokenizer_size, &l.err) == L3_OK &&
			l3_source_load(l.source, l.mem, size, l.tokenizer, tokenizer_size, NULL, NULL, &l.err) == L3_OK)
			l.arena = l3_arena_check(l.mem, size, &l.err);
	}
	return l;
}

static Loaded
load_directory(Directory *d)
{
	write_directory(d);
	return load(L3_QUANTIZE_NONE);
}

static void
done(Loaded *l)
{
	l3_source_close(l->source);
	free(l->mem);
	free(l->tokenizer);
	memset(l, 0, sizeof(*l));
}

/* Does output n of the matrix hold row(n) of the file's tensor? */
static bool
matrix_is(const Loaded *l, uint64_t tensor, const char *name, int (*row) (int))
{
	L3Matrix	m = l3_arena_matrix(l->arena, tensor);

	for (int n = 0; n < m.n_out; n++)
	{
		for (int k = 0; k < m.n_in; k++)
		{
			float		found;

			memcpy(&found, m.data + n / 16 * m.panel_bytes + ((size_t) k * 16 + n % 16) * 4, 4);
			if (found != tiny_value(name, (uint32_t) row(n), (uint32_t) k))
				return false;
		}
	}
	return true;
}

static int
same_row(int n)
{
	return n;
}

/* Pair i of a head is values i and i + head_dim / 2 of the file. */
static int
paired_row(int n)
{
	int			head = n / HEAD_DIM;
	int			pair = n % HEAD_DIM / 2;

	return head * HEAD_DIM + (n % 2 == 0 ? pair : pair + HEAD_DIM / 2);
}

static void
test_weights(void)
{
	Directory	d = sound_directory();
	Loaded		l = load_directory(&d);
	uint8_t		whole[16];
	uint8_t		again[16];

	if (!tap_ok(l.arena != NULL, "a sound directory loads"))
	{
		tap_note("%s %s", l.err.message, l.err.detail);
		exit(1);
	}
	tap_ok(matrix_is(&l, L3_TOKEN_EMBD, "model.embed_tokens.weight", same_row) &&
		   matrix_is(&l, L3_OUTPUT, "lm_head.weight", same_row) &&
		   matrix_is(&l, L3_LAYER_TENSOR(0, L3_WV), "model.layers.0.self_attn.v_proj.weight", same_row) &&
		   matrix_is(&l, L3_LAYER_TENSOR(0, L3_WO), "model.layers.0.self_attn.o_proj.weight", same_row) &&
		   matrix_is(&l, L3_LAYER_TENSOR(0, L3_W_GATE), "model.layers.0.mlp.gate_proj.weight", same_row) &&
		   matrix_is(&l, L3_LAYER_TENSOR(0, L3_W_UP), "model.layers.0.mlp.up_proj.weight", same_row) &&
		   matrix_is(&l, L3_LAYER_TENSOR(0, L3_W_DOWN), "model.layers.0.mlp.down_proj.weight", same_row),
		   "matrices keep the order of their rows");
	tap_ok(matrix_is(&l, L3_LAYER_TENSOR(0, L3_WQ), "model.layers.0.self_attn.q_proj.weight", paired_row) &&
		   matrix_is(&l, L3_LAYER_TENSOR(0, L3_WK), "model.layers.0.self_attn.k_proj.weight", paired_row),
		   "query and key rows are interleaved within each head");
	tap_ok(strncmp(l3_source_name(l.source), "test_huggingface.", 17) == 0, "the name is the directory's");
	l3_arena_checksum(l.arena, whole);
	done(&l);

	d = sound_directory();
	d.sharded = true;
	l = load_directory(&d);
	memset(again, 0, sizeof(again));
	if (l.arena != NULL)
		l3_arena_checksum(l.arena, again);
	tap_ok(memcmp(whole, again, 16) == 0, "a sharded model is the model in one file");
	done(&l);

	d = sound_directory();
	d.dtype = "BF16";
	l = load_directory(&d);
	tap_ok(l.arena != NULL && l3_arena_matrix(l.arena, L3_WQ).data != NULL &&
		   l3_arena_matrix(l.arena, L3_TOKEN_EMBD).type == L3_BF16 &&
		   l3_arena_vector(l.arena, L3_OUTPUT_NORM)[5] == tiny_value("model.norm.weight", 0, 5),
		   "BF16 matrices stay, vectors are widened");
	done(&l);

	l = load(L3_QUANTIZE_Q8_0);
	tap_ok(l.arena != NULL && l3_arena_matrix(l.arena, L3_TOKEN_EMBD).type == L3_Q8_0,
		   "matrices can be quantised at load");
	done(&l);

	d = sound_directory();
	d.lm_head = false;
	json_object_set_new(d.config, "tie_word_embeddings", json_true());
	l = load_directory(&d);
	tap_ok(l.arena != NULL && l3_arena_hparams(l.arena)->tied == 1, "tied embeddings need no lm_head");
	done(&l);
}

/* Divisors of a config's rope_scaling. */
static void
test_rope(void)
{
	Directory	d = sound_directory();
	Loaded		l;
	bool		right = true;

	json_object_set_new(d.config, "rope_scaling",
						json_pack("{s:s,s:f,s:f,s:f,s:i}", "rope_type", "llama3", "factor", 8.0,
								  "low_freq_factor", 1.0, "high_freq_factor", 4.0,
								  "original_max_position_embeddings", 8192));
	l = load_directory(&d);
	for (int i = 0; i < HEAD_DIM / 2 && l.arena != NULL; i++)
	{
		/* By the paper's wavelengths. */
		double		frequency = pow(500000.0, -2.0 * i / HEAD_DIM);
		double		wavelength = 2 * M_PI / frequency;
		double		smooth = (8192 / wavelength - 1) / 3;
		double		scaled = wavelength < 2048 ? frequency : wavelength > 8192 ? frequency / 8 :
			(1 - smooth) * frequency / 8 + smooth * frequency;

		right = right && fabs(l3_arena_vector(l.arena, L3_ROPE_FACTORS)[i] * scaled / frequency - 1) < 1e-6;
	}
	tap_ok(l.arena != NULL && right && l3_arena_vector(l.arena, L3_ROPE_FACTORS)[7] == 8 &&
		   l3_arena_vector(l.arena, L3_ROPE_FACTORS)[0] == 1, "rope_type llama3 gives its divisors");
	done(&l);

	d = sound_directory();
	json_object_set_new(d.config, "rope_scaling", json_pack("{s:s,s:f}", "type", "linear", "factor", 2.0));
	l = load_directory(&d);
	tap_ok(l.arena != NULL && l3_arena_vector(l.arena, L3_ROPE_FACTORS)[3] == 2, "linear scaling divides all");
	done(&l);

	d = sound_directory();
	json_object_del(d.config, "rope_theta");
	json_object_set_new(d.config, "rope_parameters", json_pack("{s:s,s:f}", "rope_type", "default", "rope_theta", 20000.0));
	l = load_directory(&d);
	tap_ok(l.arena != NULL && l3_arena_hparams(l.arena)->rope_theta == 20000.0, "rope_parameters gives rope_theta");
	done(&l);
}

static const L3Tokenizer *
tokenizer_of(const Loaded *l)
{
	return (const L3Tokenizer *) l->tokenizer;
}

static const char unbounded_tokenizer[] =
"{\"chat_template\": \"{{ x }}\", \"model_max_length\": 1000000000000000019884624838656}";

static void
test_tokenizer(void)
{
	Directory	d = sound_directory();
	Loaded		l;
	L3Ids		ids = {0};
	L3Error		err;

	json_object_set_new(d.config, "eos_token_id", json_pack("[i,i]", (int) vocab.zebra, (int) vocab.eot));
	d.generation_config = json_pack("{s:[i]}", "eos_token_id", (int) vocab.end_header);
	l = load_directory(&d);
	if (l.arena == NULL)
	{
		tap_ok(false, "a list of end tokens loads: %s %s", l.err.message, l.err.detail);
		return;
	}
	tap_ok(l3_tokenizer_bos(tokenizer_of(&l)) == vocab.begin_of_text && l3_tokenizer_add_bos(tokenizer_of(&l)),
		   "the post-processor names begin-of-text");
	tap_ok(l3_tokenizer_is_stop(tokenizer_of(&l), vocab.zebra) &&
		   l3_tokenizer_is_stop(tokenizer_of(&l), vocab.eot) &&
		   l3_tokenizer_is_stop(tokenizer_of(&l), vocab.end_header) &&
		   l3_tokenizer_is_stop(tokenizer_of(&l), vocab.end_of_text) &&
		   !l3_tokenizer_is_stop(tokenizer_of(&l), 'a'),
		   "generation stops on what config.json, generation_config.json and the vocabulary say");
	tap_ok(l3_tokenizer_has_template(tokenizer_of(&l)), "tokenizer_config.json gives the chat template");
	tap_ok(l3_tokenizer_encode_ids(tokenizer_of(&l), "hello", 5, false, &ids, &err) == L3_OK && ids.n == 1,
		   "merges of both forms are read");
	tap_ok(l3_tokenizer_is_special(tokenizer_of(&l), vocab.eot) &&
		   !l3_tokenizer_is_special(tokenizer_of(&l), vocab.zebra), "special added tokens are control tokens");
	l3_ids_free(&ids);
	done(&l);

	d = sound_directory();
	json_object_del(d.tokenizer_config, "chat_template");
	write_directory(&d);
	write_bytes("chat_template.jinja", "{{ x }}", 7);
	l = load(L3_QUANTIZE_NONE);
	tap_ok(l.arena != NULL && l3_tokenizer_has_template(tokenizer_of(&l)), "chat_template.jinja gives the chat template");
	tap_ok(l.arena != NULL && l3_source_warning(l.source)[0] == '\0', "and nothing is missed");
	done(&l);

	/* What published tokenizers say that know of no longest text. */
	d = sound_directory();
	write_directory(&d);
	write_bytes("tokenizer_config.json", unbounded_tokenizer, sizeof(unbounded_tokenizer) - 1);
	l = load(L3_QUANTIZE_NONE);
	tap_ok(l.arena != NULL && l3_tokenizer_has_template(tokenizer_of(&l)),
		   "a model_max_length beyond all integers is read over");
	done(&l);

	d = sound_directory();
	json_decref(d.tokenizer_config);
	d.tokenizer_config = NULL;
	l = load_directory(&d);
	tap_ok(l.arena != NULL && strstr(l3_source_warning(l.source), "tokenizer_config.json") != NULL,
		   "without tokenizer_config.json a model loads with a warning");
	done(&l);
}

/* Pipelines of pre-tokenizers that are known. */
static void
test_pre(void)
{
	static const struct
	{
		const char *pre_tokenizer;
		const char *name;
	}			known[] = {
		{"{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "gpt-2"},
		{"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
			"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}", "smollm"},
		{"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
			"\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*"
			"|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}},{\"type\":\"ByteLevel\",\"use_regex\":false}]}", "qwen2"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		Directory	d = sound_directory();
		Loaded		l;

		json_object_set_new(d.tokenizer, "pre_tokenizer", json_loads(known[i].pre_tokenizer, 0, NULL));
		l = load_directory(&d);
		tap_ok(l.arena != NULL && strcmp(l.source->spec.pre, known[i].name) == 0,
			   "the pipeline of %s is recognised", known[i].name);
		done(&l);
	}
}

/* Loading must fail, and the error must say both things. */
static void
refused(Directory *d, L3Status status, const char *a, const char *b, const char *behaviour)
{
	Loaded		l = load_directory(d);
	char		all[sizeof(L3Error)];

	snprintf(all, sizeof(all), "%s|%s|%s", l.err.message, l.err.detail, l.err.hint);
	if (!tap_ok(l.arena == NULL && l.err.status == status && strstr(all, a) != NULL && strstr(all, b) != NULL,
				"%s", behaviour))
		tap_note("status %d: %s", l.err.status, all);
	done(&l);
}

static void
test_refused(void)
{
	Directory	d;

#define CASE(change, status, a, b, behaviour) \
	do { d = sound_directory(); change; refused(&d, status, a, b, behaviour); } while (0)
#define CONFIG(key, value) json_object_set_new(d.config, key, value)
#define MODEL(key, value) json_object_set_new(json_object_get(d.tokenizer, "model"), key, value)

	CASE(CONFIG("model_type", json_string("mistral")), L3_ERR_UNSUPPORTED, "mistral", "llama",
		 "another architecture is named");
	CASE(CONFIG("attention_bias", json_true()), L3_ERR_UNSUPPORTED, "attention_bias", "false", "biases are refused");
	CASE(CONFIG("mlp_bias", json_true()), L3_ERR_UNSUPPORTED, "mlp_bias", "false", "biases of the MLP are refused");
	CASE(CONFIG("hidden_act", json_string("gelu")), L3_ERR_UNSUPPORTED, "gelu", "silu",
		 "another activation is refused");
	CASE(CONFIG("partial_rotary_factor", json_real(0.5)), L3_ERR_UNSUPPORTED, "partial_rotary_factor", "1",
		 "partial rotation is refused");
	CASE(CONFIG("quantization_config", json_object()), L3_ERR_UNSUPPORTED, "quantization_config", "GGUF",
		 "quantised checkpoints are refused with advice");
	CASE(CONFIG("rope_scaling", json_pack("{s:s,s:f}", "rope_type", "yarn", "factor", 4.0)),
		 L3_ERR_UNSUPPORTED, "yarn", "llama3", "another RoPE scaling is named");
	CASE(CONFIG("rope_scaling", json_pack("{s:s,s:f}", "rope_type", "llama3", "factor", 4.0)),
		 L3_ERR_FORMAT, "low_freq_factor", "missing", "an incomplete RoPE scaling is refused");
	CASE(json_object_del(d.config, "hidden_size"), L3_ERR_FORMAT, "hidden_size", "missing", "a missing key is named");
	CASE(CONFIG("hidden_size", json_string("64")), L3_ERR_FORMAT, "hidden_size", "integer", "a wrong type is named");
	CASE(CONFIG("num_hidden_layers", json_integer(5000)), L3_ERR_FORMAT, "5000", "1024", "absurd layers are refused");
	CASE(CONFIG("num_hidden_layers", json_integer(2)), L3_ERR_FORMAT, "model.layers.1.input_layernorm.weight",
		 "missing", "a missing layer is named");
	CASE(CONFIG("head_dim", json_integer(32)), L3_ERR_FORMAT, "64 x 64", "64 x 128", "a wrong shape is told with the right one");
	CASE(d.lm_head = false, L3_ERR_FORMAT, "lm_head.weight", "missing", "an untied model needs its output projection");
	CASE(d.dtype = "F16", L3_ERR_FORMAT, "model.embed_tokens.weight", "values of F16",
		 "data of another size than the shape's is refused");
	CASE(d.cut = 100, L3_ERR_FORMAT, "truncated", "download", "truncated weights are recognised");
	CASE((d.sharded = true, d.swapped_index = true), L3_ERR_FORMAT, "index", "expected in",
		 "an index that points to the wrong file is refused");
	CASE((d.sharded = true, d.index_name = "../secret"), L3_ERR_FORMAT, "index", "plain name",
		 "an index cannot leave the directory");
	CASE((d.sharded = true, d.index_name = "absent.safetensors"), L3_ERR_IO, "absent.safetensors", "Complete the download",
		 "a missing shard is named");
	CASE(d.zero_tensor = "model.norm.weight", L3_ERR_FORMAT, "\"model.norm.weight\"", "has only zeros",
		 "a norm of zeros is refused");
	CASE((json_decref(d.tokenizer), d.tokenizer = NULL), L3_ERR_FORMAT, "has no tokenizer.json", "Download",
		 "a missing tokenizer.json is named");
	CASE((json_decref(d.config), d.config = NULL), L3_ERR_FORMAT, "config.json", "directory",
		 "a directory without config.json is no model");
	CASE(MODEL("byte_fallback", json_true()), L3_ERR_UNSUPPORTED, "byte_fallback", "byte-level",
		 "a SentencePiece tokenizer is refused");
	CASE(MODEL("type", json_string("Unigram")), L3_ERR_UNSUPPORTED, "Unigram", "BPE", "another tokenizer model is named");
	CASE(MODEL("merges", json_pack("[s]", "nothing")), L3_ERR_FORMAT, "merges", "Merge 0", "a broken merge is told");
	CASE(MODEL("vocab", json_pack("{s:i,s:i}", "a", 1, "b", 1)), L3_ERR_FORMAT, "id 1", "Two tokens",
		 "a vocabulary with an id twice is refused");
	CASE(MODEL("vocab", json_pack("{s:i}", "a", 1)), L3_ERR_FORMAT, "id 0", "No token",
		 "a vocabulary with a gap is refused");
	CASE(MODEL("vocab", json_pack("{s:I}", "a", (json_int_t) 1 << 40)), L3_ERR_FORMAT, "vocabulary", "damaged",
		 "an absurd id is refused");
	CASE(json_object_set_new(d.tokenizer, "normalizer", json_pack("{s:s}", "type", "Lowercase")),
		 L3_ERR_UNSUPPORTED, "Lowercase", "normalizer", "a normalizer is refused");
	CASE(json_object_set_new(d.tokenizer, "pre_tokenizer", json_pack("{s:s}", "type", "Metaspace")),
		 L3_ERR_UNSUPPORTED, "Metaspace", "llama-bpe", "an unknown pre-tokenizer is named with the known");
	CASE(CONFIG("eos_token_id", json_integer(100000)), L3_ERR_FORMAT, "eos_token_id", "vocabulary",
		 "an end token outside the vocabulary is refused");
#undef MODEL
#undef CONFIG
#undef CASE
}

/* Files that are not what their names say. */
static void
test_damaged_files(void)
{
	static const struct
	{
		const char *name;
		const char *content;
		const char *says;
		const char *behaviour;
	}			files[] = {
		{"config.json", "{\"model_type\": \"llama\", ", "Line 1", "broken JSON is told with its place"},
		{"config.json", "{\"a\": 1, \"a\": 2}", "duplicate", "a duplicate key is refused"},
		{"config.json", "[1]", "object", "JSON that is no object is refused"},
		{"config.json", "<html>", "web page", "a web page is recognised"},
		{"config.json", "{\"error\":\"Repository is gated\"}", "a server's error message", "a hub's refusal in JSON is recognised"},
		{"model.safetensors", "Access to model x is restricted.", "Accept the licence", "a hub's refusal is recognised"},
		{"tokenizer.json", "version https://git-lfs.github.com/spec/v1\n", "git-lfs", "a git-lfs pointer is recognised"},
		{"model.safetensors", "version https://git-lfs.github.com/spec/v1\n", "git-lfs",
		"weights that are a git-lfs pointer are recognised"},
		{"model.safetensors", "\377\377\377\377\377\377\377\177{}", "not a safetensors file", "an absurd header length is refused"},
		{"model.safetensors", "", "empty", "empty weights are refused"},
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		Directory	d = sound_directory();
		Loaded		l;
		char		all[sizeof(L3Error)];

		write_directory(&d);
		write_bytes(files[i].name, files[i].content, strlen(files[i].content));
		l = load(L3_QUANTIZE_NONE);
		snprintf(all, sizeof(all), "%s|%s|%s", l.err.message, l.err.detail, l.err.hint);
		if (!tap_ok(l.arena == NULL && l.err.status == L3_ERR_FORMAT && strstr(all, files[i].says) != NULL,
					"%s", files[i].behaviour))
			tap_note("%s", all);
		done(&l);
	}
}

int
main(void)
{
	tiny_vocab(&vocab, "llama-bpe");
	if (mkdtemp(dir) == NULL)
		return 1;
	test_weights();
	test_rope();
	test_tokenizer();
	test_pre();
	test_refused();
	test_damaged_files();
	remove_files();
	rmdir(dir);
	return tap_done();
}
