/*-------------------------------------------------------------------------
 *
 * hf_tokenizer.c
 *	  tokenizer.json and its companions of a Hugging Face directory.
 *
 * tokenizer.json describes a pipeline of general parts (normalizer,
 * pre_tokenizer, model, post_processor).  We recognise the pipelines that
 * byte-level BPE models of Llama's kind use, and refuse others by saying what
 * they have: a tokenizer that is nearly right gives answers that are quietly
 * wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "huggingface.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The split patterns of tokenizer.json, and our names of them. */
static const struct
{
	const char *regex;
	const char *pre;
}			known_splits[] =
{
	{"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
		" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", "llama-bpe"},
	{"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
		" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", "qwen2"},
	{"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt-2"},
	{"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt-2"},
};

/* Something in tokenizer.json that we cannot honour. */
static L3Status
unsupported(const L3Source *source, const char *what, const char *found,
			const char *expected, L3Error *err)
{
	l3_error(err, L3_ERR_UNSUPPORTED, "%s of file \"%s\" is not supported", what, source->spec.where);
	l3_error_detail(err, "Found %.200s; expected %s.", found, expected);
	return L3_ERR_UNSUPPORTED;
}

static L3Status
damaged(const L3Source *source, const char *what, L3Error *err)
{
	return l3_error(err, L3_ERR_FORMAT, "%s in file \"%s\" is damaged", what, source->spec.where);
}

/* ----------------------------------------------------------------
 *		Vocabulary
 * ----------------------------------------------------------------
 */

/* Highest id of the vocabulary and of the added tokens, plus one; 0 when one is bad. */
static uint32_t
count_tokens(const json_t *vocab, const json_t *added)
{
	const char *text;
	json_t	   *value;
	size_t		i;
	json_int_t	highest = -1;

	json_object_foreach((json_t *) vocab, text, value)
	{
		if (!json_is_integer(value) || json_integer_value(value) < 0 ||
			json_integer_value(value) >= L3_MAX_VOCAB)
			return 0;
		if (json_integer_value(value) > highest)
			highest = json_integer_value(value);
	}
	json_array_foreach(added, i, value)
	{
		const json_t *id = json_object_get(value, "id");

		if (!json_is_integer(id) || json_integer_value(id) < 0 ||
			json_integer_value(id) >= L3_MAX_VOCAB ||
			!json_is_string(json_object_get(value, "content")))
			return 0;
		if (json_integer_value(id) > highest)
			highest = json_integer_value(id);
	}
	return (uint32_t) (highest + 1);
}

/* Every id must have exactly one text. */
static L3Status
check_dense(const L3Source *source, L3Error *err)
{
	for (uint32_t i = 0; i < source->spec.n_tokens; i++)
	{
		if (source->token_types[i] == 0)
		{
			damaged(source, "vocabulary", err);
			l3_error_detail(err, "No token has id %" PRIu32 ".", i);
			return L3_ERR_FORMAT;
		}
	}
	return L3_OK;
}

static L3Status
read_tokens(L3Source *source, const json_t *tokenizer, const json_t *model, L3Error *err)
{
	const json_t *vocab = json_object_get(model, "vocab");
	const json_t *added = json_object_get(tokenizer, "added_tokens");
	L3TokenizerSpec *spec = &source->spec;
	const char *text;
	json_t	   *value;
	size_t		i;
	L3Status	status;

	spec->n_tokens = json_is_object(vocab) ? count_tokens(vocab, added) : 0;
	if (spec->n_tokens == 0)
		return damaged(source, "vocabulary", err);
	if ((status = l3_calloc((void **) &source->tokens, spec->n_tokens, sizeof(L3Slice), err)) != L3_OK ||
		(status = l3_calloc((void **) &source->token_types, spec->n_tokens, 1, err)) != L3_OK)
		return status;
	spec->tokens = source->tokens;
	spec->types = source->token_types;

	json_object_foreach((json_t *) vocab, text, value)
	{
		json_int_t	id = json_integer_value(value);

		if (source->token_types[id] != 0)
		{
			damaged(source, "vocabulary", err);
			l3_error_detail(err, "Two tokens have id %" JSON_INTEGER_FORMAT ".", id);
			return L3_ERR_FORMAT;
		}
		source->tokens[id] = (L3Slice) {text, (uint32_t) strlen(text)};
		source->token_types[id] = L3_TOKEN_NORMAL;
	}
	json_array_foreach(added, i, value)
	{
		json_int_t	id = json_integer_value(json_object_get(value, "id"));

		source->tokens[id] = l3_json_slice(json_object_get(value, "content"));
		source->token_types[id] = json_is_true(json_object_get(value, "special")) ?
			L3_TOKEN_CONTROL : L3_TOKEN_USER_DEFINED;
	}
	return check_dense(source, err);
}

/* A merge is "left right" or ["left", "right"]. */
static bool
split_merge(const json_t *merge, L3Slice *left, L3Slice *right)
{
	const char *space;

	if (json_array_size(merge) == 2)
	{
		const json_t *first = json_array_get(merge, 0);
		const json_t *second = json_array_get(merge, 1);

		if (json_string_length(first) == 0 || json_string_length(second) == 0)
			return false;
		*left = l3_json_slice(first);
		*right = l3_json_slice(second);
		return true;
	}
	if (!json_is_string(merge) || json_string_length(merge) < 3)
		return false;
	*left = l3_json_slice(merge);
	space = memchr(left->data + 1, ' ', left->len - 2);
	if (space == NULL)
		return false;
	right->data = space + 1;
	right->len = (uint32_t) (left->data + left->len - right->data);
	left->len = (uint32_t) (space - left->data);
	return true;
}

static L3Status
read_merges(L3Source *source, const json_t *model, L3Error *err)
{
	const json_t *merges = json_object_get(model, "merges");
	L3TokenizerSpec *spec = &source->spec;
	size_t		n = json_array_size(merges);
	L3Status	status;

	if (!json_is_array(merges))
		return damaged(source, "list of merges", err);
	if ((status = l3_calloc((void **) &source->merge_left, n, sizeof(L3Slice), err)) != L3_OK ||
		(status = l3_calloc((void **) &source->merge_right, n, sizeof(L3Slice), err)) != L3_OK)
		return status;
	for (size_t i = 0; i < n; i++)
	{
		if (!split_merge(json_array_get(merges, i), &source->merge_left[i], &source->merge_right[i]))
		{
			damaged(source, "list of merges", err);
			l3_error_detail(err, "Merge %zu is not two tokens.", i);
			return L3_ERR_FORMAT;
		}
	}
	spec->n_merges = (uint32_t) n;
	spec->merge_left = source->merge_left;
	spec->merge_right = source->merge_right;
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Pipeline
 * ----------------------------------------------------------------
 */

static const char *
type_of(const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));

	return type != NULL ? type : "nothing";
}

/* The BPE model itself: of bytes, without decorations. */
static L3Status
check_model(const L3Source *source, const json_t *model, L3Error *err)
{
	static const char *const decorations[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	const json_t *type = json_object_get(model, "type");

	if (!json_is_object(model))
		return damaged(source, "tokenizer model", err);
	if (type != NULL && !l3_json_is(type, "BPE"))
		return unsupported(source, "tokenizer model", type_of(model), "BPE", err);
	if (json_is_true(json_object_get(model, "byte_fallback")))
		return unsupported(source, "tokenizer model", "byte_fallback (SentencePiece, as Llama 2)",
						   "byte-level BPE", err);
	for (int i = 0; i < 2; i++)
	{
		if (json_string_length(json_object_get(model, decorations[i])) > 0)
			return unsupported(source, "tokenizer model", decorations[i], "none", err);
	}
	return L3_OK;
}

static L3Status
check_normalizer(L3Source *source, const json_t *tokenizer, L3Error *err)
{
	const json_t *normalizer = json_object_get(tokenizer, "normalizer");

	if (normalizer == NULL || json_is_null(normalizer))
		return L3_OK;
	if (strcmp(type_of(normalizer), "NFC") != 0)
		return unsupported(source, "normalizer", type_of(normalizer), "none", err);
	snprintf(source->warning, sizeof(source->warning),
			 "The tokenizer asks for texts in Unicode form NFC; texts are taken as they are, normalize them where it matters.");
	return L3_OK;
}

/* A Split part: the regular expression tells which. */
static L3Status
read_split(L3Source *source, const json_t *split, L3Error *err)
{
	const json_t *pattern = json_object_get(split, "pattern");
	const json_t *regex = json_object_get(pattern, "Regex");

	if (!l3_json_is(json_object_get(split, "behavior"), "Isolated") ||
		json_is_true(json_object_get(split, "invert")))
		return unsupported(source, "pre-tokenizer", "another behavior of Split", "\"Isolated\"", err);
	for (size_t i = 0; i < sizeof(known_splits) / sizeof(known_splits[0]); i++)
	{
		if (l3_json_is(regex, known_splits[i].regex))
		{
			source->spec.pre = known_splits[i].pre;
			return L3_OK;
		}
	}
	return unsupported(source, "pre-tokenizer",
					   json_is_string(regex) ? json_string_value(regex) : "no regular expression",
					   "the pattern of llama-bpe, gpt-2, smollm or qwen2", err);
}

static L3Status
check_byte_level(const L3Source *source, const json_t *part, L3Error *err)
{
	if (strcmp(type_of(part), "ByteLevel") != 0)
		return unsupported(source, "pre-tokenizer", type_of(part),
						   "ByteLevel, alone or after Split or Digits (llama-bpe, gpt-2, smollm, qwen2)", err);
	if (json_is_true(json_object_get(part, "add_prefix_space")))
		return unsupported(source, "pre-tokenizer", "add_prefix_space", "none", err);
	return L3_OK;
}

/*
 * Known pipelines: Split, then ByteLevel without its own pattern; Digits one
 * by one, then ByteLevel with it (smollm); ByteLevel with it (gpt-2).
 */
static L3Status
read_pre_tokenizer(L3Source *source, const json_t *tokenizer, L3Error *err)
{
	const json_t *pre = json_object_get(tokenizer, "pre_tokenizer");
	const json_t *parts = json_object_get(pre, "pretokenizers");
	const json_t *first;
	const json_t *last;
	bool		own_pattern;
	L3Status	status;

	if (strcmp(type_of(pre), "Sequence") != 0)
		first = last = pre;
	else if (json_array_size(parts) == 1 || json_array_size(parts) == 2)
	{
		first = json_array_get(parts, 0);
		last = json_array_get(parts, json_array_size(parts) - 1);
	}
	else
		return unsupported(source, "pre-tokenizer", "a sequence of another length", "1 or 2 parts", err);

	if ((status = check_byte_level(source, last, err)) != L3_OK)
		return status;
	own_pattern = !json_is_false(json_object_get(last, "use_regex"));
	if (first == last)
	{
		source->spec.pre = "gpt-2";
		if (!own_pattern)
			return unsupported(source, "pre-tokenizer", "ByteLevel without a pattern", "a pattern", err);
		return L3_OK;
	}
	if (strcmp(type_of(first), "Split") == 0 && !own_pattern)
		return read_split(source, first, err);
	if (strcmp(type_of(first), "Digits") == 0 && own_pattern &&
		json_is_true(json_object_get(first, "individual_digits")))
	{
		source->spec.pre = "smollm";
		return L3_OK;
	}
	return unsupported(source, "pre-tokenizer", type_of(first),
					   "Split or individual Digits before ByteLevel (llama-bpe, smollm, qwen2)", err);
}

/* ----------------------------------------------------------------
 *		Special tokens
 * ----------------------------------------------------------------
 */

/* The text that a post-processor puts first, or NULL. */
static const char *
template_start(const json_t *post)
{
	const json_t *processors = json_object_get(post, "processors");
	const json_t *part;
	size_t		i;

	json_array_foreach(processors, i, part)
	{
		/* A sequence does not nest in sound files; one level is enough. */
		if (strcmp(type_of(part), "TemplateProcessing") == 0)
			post = part;
	}
	if (strcmp(type_of(post), "TemplateProcessing") != 0)
		return NULL;
	part = json_array_get(json_object_get(post, "single"), 0);
	return json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
}

/* "text", or {"content": "text"} as older files have it; or NULL. */
static const char *
token_text(const json_t *config, const char *key)
{
	const json_t *value = json_object_get(config, key);

	if (json_is_object(value))
		value = json_object_get(value, "content");
	return json_string_value(value);
}

static bool
valid_id(const L3Source *source, const json_t *id)
{
	return json_is_integer(id) && json_integer_value(id) >= 0 &&
		json_integer_value(id) < source->spec.n_tokens;
}

static L3Status
read_bos(L3Source *source, const L3HfFiles *files, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	const char *start = template_start(json_object_get(files->tokenizer, "post_processor"));
	const char *text = token_text(files->tokenizer_config, "bos_token");
	const json_t *id = json_object_get(files->config, "bos_token_id");
	bool		found;

	if (start != NULL)
		spec->bos = l3_spec_token(spec, start);
	if (spec->bos < 0 && text != NULL)
		spec->bos = l3_spec_token(spec, text);
	if (spec->bos < 0 && valid_id(source, id))
		spec->bos = (int32_t) json_integer_value(id);
	spec->add_bos = spec->bos >= 0 && (start != NULL || strcmp(spec->pre, "llama-bpe") == 0);
	return l3_json_bool(files->tokenizer_config, "tokenizer_config.json", "add_bos_token",
						&spec->add_bos, &found, err);
}

/* Append the ids of an eos_token_id: a number or a list of them. */
static L3Status
add_stops(L3Source *source, const json_t *ids, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	size_t		n = json_is_array(ids) ? json_array_size(ids) : 1;
	int32_t    *grown;

	if (ids == NULL || json_is_null(ids) || n == 0)
		return L3_OK;
	if (n > spec->n_tokens)
		return damaged(source, "list of eos_token_id beside the vocabulary", err);
	grown = realloc(source->stop_ids, (spec->n_stop_ids + n) * sizeof(int32_t));
	if (grown == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory");
	source->stop_ids = grown;
	for (size_t i = 0; i < n; i++)
	{
		const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;

		if (!valid_id(source, id))
		{
			l3_error(err, L3_ERR_FORMAT, "eos_token_id of model \"%s\" is not in its vocabulary", source->path);
			l3_error_detail(err, "The vocabulary has %" PRIu32 " tokens.", spec->n_tokens);
			return L3_ERR_FORMAT;
		}
		grown[spec->n_stop_ids++] = (int32_t) json_integer_value(id);
	}
	return L3_OK;
}

static L3Status
read_stops(L3Source *source, const L3HfFiles *files, L3Error *err)
{
	L3TokenizerSpec *spec = &source->spec;
	const char *text = token_text(files->tokenizer_config, "eos_token");
	L3Status	status;

	if ((status = add_stops(source, json_object_get(files->config, "eos_token_id"), err)) != L3_OK ||
		(status = add_stops(source, json_object_get(files->generation_config, "eos_token_id"), err)) != L3_OK)
		return status;
	if (text != NULL)
		spec->eos = l3_spec_token(spec, text);
	if (spec->eos < 0 && spec->n_stop_ids > 0)
		spec->eos = source->stop_ids[0];
	return L3_OK;
}

/* chat_template: a string, or a list of {"name", "template"}. */
static void
read_chat_template(L3Source *source, const L3HfFiles *files)
{
	const json_t *template = json_object_get(files->tokenizer_config, "chat_template");
	const json_t *choice;
	size_t		i;

	if (files->chat_template != NULL)
	{
		source->spec.chat_template = files->chat_template;
		source->spec.chat_template_len = files->chat_template_len;
		return;
	}
	json_array_foreach(template, i, choice)
	{
		if (l3_json_is(json_object_get(choice, "name"), "default"))
			template = json_object_get(choice, "template");
	}
	if (json_is_string(template))
	{
		source->spec.chat_template = json_string_value(template);
		source->spec.chat_template_len = json_string_length(template);
	}
}

L3Status
l3_hf_read_tokenizer(L3Source *source, const L3HfFiles *files, L3Error *err)
{
	const json_t *model = json_object_get(files->tokenizer, "model");
	L3TokenizerSpec *spec = &source->spec;
	L3Status	status;

	memset(spec, 0, sizeof(*spec));
	spec->where = files->where;
	spec->bos = spec->eos = spec->eot = spec->eom = -1;
	if ((status = check_model(source, model, err)) != L3_OK ||
		(status = check_normalizer(source, files->tokenizer, err)) != L3_OK ||
		(status = read_pre_tokenizer(source, files->tokenizer, err)) != L3_OK ||
		(status = read_tokens(source, files->tokenizer, model, err)) != L3_OK ||
		(status = read_merges(source, model, err)) != L3_OK ||
		(status = read_bos(source, files, err)) != L3_OK ||
		(status = read_stops(source, files, err)) != L3_OK)
		return status;
	read_chat_template(source, files);
	return l3_source_finish_tokenizer(source, err);
}
