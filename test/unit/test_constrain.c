/*-------------------------------------------------------------------------
 *
 * test_constrain.c
 *	  Following grammars, masks, forced text: against a slow matcher and brute
 *	  force.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "constrain.h"
#include "engine_fixture.h"
#include "grammar_match.h"
#include "pretokenize.h"
#include "tap.h"
#include "tokenizer.h"
#include "tokenizer_image.h"

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

#ifdef L3_SANITIZED
#define N_GRAMMARS	150
#else
#define N_GRAMMARS	600
#endif

static uint64_t seed = 20;

static uint32_t
draw(uint32_t below)
{
	return (uint32_t) (fixture_random(&seed) >> 33) % below;
}

static L3Automaton *
automaton_of(const L3Grammar *g, const L3Trie *trie)
{
	L3Automaton *a;
	L3Error		err;

	fixture_check(l3_automaton_create(g, trie, &a, &err), &err);
	return a;
}


/* state_after has met a limit. */
static bool too_ambiguous;

/* The state after a text; L3_STATE_DEAD when it is not possible. */
static uint32_t
state_after(L3Automaton *a, const char *text, size_t n)
{
	uint32_t	state;
	L3Error		err;
	L3Status	status = l3_automaton_start(a, &state, &err);

	for (size_t i = 0; i < n && status == L3_OK; i++)
		status = l3_automaton_step(a, state, (uint8_t) text[i], &state, &err);
	if (status == L3_ERR_LIMIT)
	{
		/* some random grammars can be read in very many ways */
		too_ambiguous = true;
		return L3_STATE_DEAD;
	}
	fixture_check(status, &err);
	return state;
}

/* ----------------------------------------------------------------
 *		The automaton
 * ----------------------------------------------------------------
 */

/* Does the automaton say of each beginning of text what the matcher says? */
static bool
agrees_on(L3Automaton *a, const L3Grammar *g, const char *text, size_t n)
{
	for (size_t i = 0; i <= n; i++)
	{
		uint32_t	state = state_after(a, text, i);
		bool		whole;
		bool		begins;

		match_grammar(g, text, i, &whole, &begins);
		if (too_ambiguous)
			return true;
		if (begins != (state != L3_STATE_DEAD) ||
			whole != (state != L3_STATE_DEAD && a->states[state].distance == 0))
		{
			tap_note("differs on \"%.*s\"", (int) i, text);
			print_grammar(g);
			return false;
		}
		if (!begins)
			break;
	}
	return true;
}

/* Random texts, mostly of bytes that can follow. */
static size_t
random_text(L3Automaton *a, int n_letters, size_t max, char *text)
{
	size_t		n = 0;

	while (n < max)
	{
		uint32_t	from = draw((uint32_t) n_letters);
		int			i = 0;

		text[n] = (char) ('a' + from);
		while (i < n_letters && draw(16) != 0 && state_after(a, text, n + 1) == L3_STATE_DEAD)
			text[n] = (char) ('a' + (from + (uint32_t) ++i) % (uint32_t) n_letters);
		n++;
		if (state_after(a, text, n) == L3_STATE_DEAD)
			break;
	}
	return n;
}

static void
test_automaton(void)
{
	bool		agrees = true;
	int			n_grammars = 0;
	int			n_texts = 0;

	for (int i = 0; i < N_GRAMMARS; i++)
	{
		L3Grammar  *g = random_grammar(&seed, 3);
		L3Automaton *a;
		char		text[14];

		if (g == NULL)
			continue;
		a = automaton_of(g, NULL);
		too_ambiguous = false;
		for (int j = 0; j < 25 && agrees; j++, n_texts++)
			agrees = agrees_on(a, g, text, random_text(a, 3, sizeof(text), text));
		n_grammars += !too_ambiguous;
		l3_automaton_free(a);
		free(g);
	}
	tap_ok(agrees && n_grammars > N_GRAMMARS / 2,
		   "random grammars are followed as a slow matcher reads them");
	tap_note("%d grammars, %d texts", n_grammars, n_texts);
}

/* Is a text of the grammar exactly n bytes longer than this one? */
static bool
completes(const L3Grammar *g, char *text, size_t at, uint32_t n)
{
	if (n == 0)
		return match_whole(g, text, at);
	if (!match_begins(g, text, at))
		return false;
	for (char byte = 'a'; byte < 'c'; byte++)
	{
		text[at] = byte;
		if (completes(g, text, at + 1, n - 1))
			return true;
	}
	return false;
}

/* The nearest whole text after text, searched; more than 6: 7. */
static uint32_t
search_distance(const L3Grammar *g, const char *text, size_t n)
{
	char		longer[64];

	memcpy(longer, text, n);
	for (uint32_t d = 0; d <= 6; d++)
		if (completes(g, longer, n, d))
			return d;
	return 7;
}

static void
test_distances(void)
{
	bool		agrees = true;
	int			n_far = 0;

	for (int i = 0; i < N_GRAMMARS / 2 && agrees; i++)
	{
		L3Grammar  *g = random_grammar(&seed, 2);
		L3Automaton *a;
		char		text[10];
		size_t		n;

		if (g == NULL)
			continue;
		a = automaton_of(g, NULL);
		too_ambiguous = false;
		n = random_text(a, 2, sizeof(text), text);
		for (size_t j = 0; j <= n && agrees && !too_ambiguous; j++)
		{
			uint32_t	state = state_after(a, text, j);
			uint32_t	found;

			if (state == L3_STATE_DEAD)
				break;
			found = search_distance(g, text, j);
			n_far += found > 2;
			agrees = found == (a->states[state].distance > 6 ? 7 : a->states[state].distance);
			if (!agrees)
			{
				tap_note("\"%.*s\": %u, not %u", (int) j, text, found, a->states[state].distance);
				print_grammar(g);
			}
		}
		l3_automaton_free(a);
		free(g);
	}
	tap_ok(agrees && n_far > 50, "distances are those that a search finds");
}

static uint32_t
nested_counters(L3GrammarBuilder *b)
{
	/* ((a{2,3}){0,4294967294}b){3}c? */
	uint32_t	inner = l3_grammar_repeat(b, l3_grammar_repeat(b, grammar_text(b, "a"), 2, 3), 0, UINT32_MAX - 1);
	uint32_t	outer[] = {inner, grammar_text(b, "b")};
	uint32_t	parts[] = {l3_grammar_repeat(b, l3_grammar_seq(b, outer, 2), 3, 3),
	l3_grammar_repeat(b, grammar_text(b, "c"), 0, 1)};

	return l3_grammar_seq(b, parts, 2);
}

static uint32_t
large_counter(L3GrammarBuilder *b)
{
	return l3_grammar_repeat(b, grammar_text(b, "a"), 4000000000u, UINT32_MAX - 1);
}

static uint32_t
ambiguous(L3GrammarBuilder *b)
{
	/* (a|aa|aaa){0,2000000000}: each length can be counted in many ways */
	uint32_t	ways[] = {grammar_text(b, "a"), grammar_text(b, "aa"), grammar_text(b, "aaa")};
	uint32_t	once = l3_grammar_repeat(b, l3_grammar_alt(b, ways, 3), 0, 2000000000u);
	uint32_t	parts[] = {l3_grammar_repeat(b, once, 0, 2000000000u), grammar_text(b, "b")};

	return l3_grammar_repeat(b, l3_grammar_seq(b, parts, 2), 0, 2000000000u);
}

static L3Grammar *
deep_grammar(void)
{
	/* r = a r? b? : each a leaves something behind that may come or not */
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	rule = l3_grammar_new_rule(b);
	uint32_t	parts[] = {grammar_text(b, "a"),
		l3_grammar_repeat(b, l3_grammar_rule(b, rule), 0, 1),
	l3_grammar_repeat(b, grammar_text(b, "b"), 0, 1)};
	void	   *image;
	size_t		size;
	L3Error		err;

	l3_grammar_define(b, rule, l3_grammar_seq(b, parts, 3));
	fixture_check(l3_grammar_build_finish(b, rule, &image, &size, &err), &err);
	return image;
}

static void
test_limits(void)
{
	L3Grammar  *g = grammar_of(nested_counters);
	L3Automaton *a = automaton_of(g, NULL);
	static const char *const texts[] = {"bbb", "aabaaabb", "aaaabbaaaaab", "bb", "abbb", "aabbbc", "bbbcc"};
	bool		ok = true;
	uint32_t	state;
	uint32_t	next = 1;
	L3Status	status = L3_OK;
	L3Error		err;
	int			n = 0;

	for (int i = 0; i < lengthof(texts); i++)
		ok = ok && agrees_on(a, g, texts[i], strlen(texts[i]));
	tap_ok(ok && a->states[state_after(a, "", 0)].distance == 3, "counters within counters are kept");
	l3_automaton_free(a);
	free(g);

	g = grammar_of(large_counter);
	a = automaton_of(g, NULL);
	state = state_after(a, "aaa", 3);
	tap_ok(a->states[state].distance == 3999999997u && a->n_states < 10,
		   "a counter of four thousand million is counted, not unrolled");
	l3_automaton_free(a);
	free(g);

	g = deep_grammar();
	a = automaton_of(g, NULL);
	fixture_check(l3_automaton_start(a, &state, &err), &err);
	while (status == L3_OK && next != L3_STATE_DEAD && n <= L3_AUTOMATON_MAX_DEPTH + 1)
	{
		status = l3_automaton_step(a, state, 'a', &next, &err);
		if (status == L3_OK && next != L3_STATE_DEAD)
			state = next;
		n++;
		/* states of n stacks each: start anew now and then */
		if (n % 64 == 0)
		{
			L3Cursor	cursor = {.automaton = a,.state = state};

			a->cursors = &cursor;
			l3_automaton_clear(a);
			fixture_check(l3_cursor_state(&cursor, &state, &err), &err);
			a->cursors = NULL;
		}
	}
	tap_ok(status == L3_OK && next == L3_STATE_DEAD && n == L3_AUTOMATON_MAX_DEPTH,
		   "a stack deeper than %d elements is no continuation", L3_AUTOMATON_MAX_DEPTH);
	tap_ok(a->states[state].distance == 0, "and before it the text can end");
	l3_automaton_free(a);
	free(g);
}

static void
test_ambiguity(void)
{
	L3Grammar  *g = grammar_of(ambiguous);
	L3Automaton *a = automaton_of(g, NULL);
	uint32_t	state;
	L3Status	status;
	L3Error		err;
	int			n = 0;

	status = l3_automaton_start(a, &state, &err);
	while (status == L3_OK && n < 2000)
	{
		status = l3_automaton_step(a, state, 'a', &state, &err);
		n++;
	}
	tap_ok(status == L3_ERR_LIMIT && n > 20, "a text that can be read in too many ways is an error");
	tap_note("after %d bytes: %s", n, err.message);
	l3_automaton_free(a);
	free(g);
}

/* A cursor says the same after the tables were cleared under it. */
static void
test_clearing(void)
{
	bool		same = true;

	for (int i = 0; i < 100 && same; i++)
	{
		L3Grammar  *g = random_grammar(&seed, 3);
		L3Automaton *a;
		L3Cursor	cursor;
		char		text[12];
		size_t		n;
		L3Error		err;

		if (g == NULL)
			continue;
		a = automaton_of(g, NULL);
		too_ambiguous = false;
		n = random_text(a, 3, sizeof(text), text);
		while (n > 0 && state_after(a, text, n) == L3_STATE_DEAD)
			n--;
		if (too_ambiguous)
			n = 0;
		fixture_check(l3_cursor_open(&cursor, a, &err), &err);
		for (size_t j = 0; j < n && same; j++)
		{
			uint32_t	state;
			uint32_t	distance = a->states[state_after(a, text, j + 1)].distance;

			l3_automaton_clear(a);
			fixture_check(l3_cursor_advance(&cursor, (const uint8_t *) text + j, 1, &err), &err);
			fixture_check(l3_cursor_state(&cursor, &state, &err), &err);
			same = state == state_after(a, text, j + 1) && a->states[state].distance == distance;
			if (!same)
			{
				tap_note("\"%.*s\": state %u of distance %u, not %u of %u", (int) j + 1, text, state,
						 a->states[state].distance, state_after(a, text, j + 1), distance);
				print_grammar(g);
			}
		}
		l3_cursor_close(&cursor);
		l3_automaton_free(a);
		free(g);
	}
	tap_ok(same, "a cursor keeps its place when the states are cleared");
}

/* ----------------------------------------------------------------
 *		Masks
 * ----------------------------------------------------------------
 */

#define MAX_TOKENS	3000

/*
 * A vocabulary of the 256 bytes, random tokens made of the parts given, and a
 * special token.  Bytes are those of the tokens, in place of the alphabet.
 */
static L3Tokenizer *
random_vocabulary(const char *const *parts, int n_parts, int n_tokens)
{
	static char texts[MAX_TOKENS][80];
	static L3Slice tokens[MAX_TOKENS];
	static uint8_t types[MAX_TOKENS];
	L3TokenizerSpec spec = {
		.where = "random", .pre = "llama-bpe", .tokens = tokens, .types = types,
		.bos = -1, .eos = -1, .eot = -1, .eom = -1
	};
	L3Error		err;
	uint64_t	size;
	void	   *mem;

	for (int i = 0; i < n_tokens; i++)
	{
		uint8_t		bytes[24];
		size_t		n = 0;
		int			n_chosen = 1 + (int) draw(5);

		if (i < 256)
			bytes[n++] = (uint8_t) i;
		for (int j = 0; i >= 256 && j < n_chosen; j++)
		{
			const char *part = parts[draw((uint32_t) n_parts)];

			if (n + strlen(part) > sizeof(bytes))
				break;
			memcpy(bytes + n, part, strlen(part));
			n += strlen(part);
		}
		/* GPT-2's alphabet */
		texts[i][0] = '\0';
		for (size_t j = 0; j < n; j++)
		{
			int			byte = bytes[j];
			int			other = 0;
			char		utf8[3] = {0};

			for (int k = 0; k < byte; k++)
				other += k < 0x21 || (k > 0x7E && k < 0xA1) || k == 0xAD;
			if (byte < 0x21 || (byte > 0x7E && byte < 0xA1) || byte == 0xAD)
				byte = 0x100 + other;
			utf8[0] = (char) (byte < 0x80 ? byte : 0xC0 | byte >> 6);
			utf8[1] = (char) (byte < 0x80 ? 0 : 0x80 | (byte & 0x3F));
			strcat(texts[i], utf8);
		}
		for (int j = 256; j < i; j++)
			if (strcmp(texts[j], texts[i]) == 0)
			{
				snprintf(texts[i], sizeof(texts[i]), "token%d", i);
				break;
			}
		tokens[i] = (L3Slice)
		{
			texts[i], (uint32_t) strlen(texts[i])
		};
		types[i] = L3_TOKEN_NORMAL;
	}
	tokens[n_tokens] = (L3Slice)
	{
		"<|end_of_text|>", 15
	};
	types[n_tokens] = L3_TOKEN_CONTROL;
	spec.eos = n_tokens;
	spec.n_tokens = (uint32_t) n_tokens + 1;
	fixture_check(l3_tokenizer_image_size(&spec, &size, &err), &err);
	mem = calloc(1, size);
	fixture_check(l3_tokenizer_build(&spec, mem, size, &err), &err);
	return mem;
}

static bool
in_set(const uint64_t *ids, uint32_t id)
{
	return ids[id >> 6] >> (id & 63) & 1;
}

/* How many bytes can only follow the text, at most 255. */
static uint32_t
forced_length(L3Automaton *a, uint32_t state, char *bytes)
{
	uint32_t	n = 0;
	int			byte;
	L3Error		err;

	while (n < 255 && (byte = l3_automaton_only_byte(a, state)) >= 0)
	{
		bytes[n++] = (char) byte;
		fixture_check(l3_automaton_step(a, state, (uint8_t) byte, &state, &err), &err);
	}
	return n;
}

/*
 * Try every token after the text byte by byte.  Distances are the automaton's
 * (they have their own test); what can follow is the matcher's when match is
 * true.
 */
static bool
mask_is_right(L3Masks *m, const L3Tokenizer *tok, const L3Grammar *g, const char *text, size_t n,
			  uint32_t left, bool match)
{
	L3Automaton *a = m->automaton;
	uint32_t	n_words = m->vocabulary->trie->n_words;
	uint32_t	state = state_after(a, text, n);
	uint64_t   *got = malloc(n_words * sizeof(uint64_t));
	uint64_t   *want = calloc(n_words, sizeof(uint64_t));
	char		forced[255];
	uint32_t	n_forced = forced_length(a, state, forced);
	bool		covered = false;
	bool		right;
	L3Error		err;

	if (l3_masks_tokens(m, state, left, got, &err) == L3_ERR_LIMIT)
	{
		too_ambiguous = true;
		free(got);
		free(want);
		return true;
	}
	for (uint32_t id = 0; id < l3_tokenizer_n_tokens(tok); id++)
	{
		uint32_t	len;
		const char *piece = l3_tokenizer_piece(tok, (int32_t) id, &len);
		char		longer[MATCH_MAX_TEXT + 1];
		uint32_t	after;

		if (l3_tokenizer_is_special(tok, (int32_t) id))
			continue;
		memcpy(longer, text, n);
		memcpy(longer + n, piece, len);
		after = state_after(a, longer, n + len);
		if (match && match_begins(g, longer, n + len) != (after != L3_STATE_DEAD))
			return false;
		if (after == L3_STATE_DEAD || a->states[after].distance > left)
			continue;
		want[id >> 6] |= UINT64_C(1) << (id & 63);
		covered = covered || (len >= n_forced && n_forced > 0);
	}
	/* tokens that end within what is forced, if one that covers it may come */
	for (uint32_t id = 0; id < l3_tokenizer_n_tokens(tok) && covered; id++)
	{
		uint32_t	len;

		l3_tokenizer_piece(tok, (int32_t) id, &len);
		if (in_set(want, id) && len < n_forced)
			want[id >> 6] &= ~(UINT64_C(1) << (id & 63));
	}
	right = memcmp(got, want, n_words * sizeof(uint64_t)) == 0;
	for (uint32_t id = 0; id < l3_tokenizer_n_tokens(tok) && !right; id++)
		if (in_set(got, id) != in_set(want, id))
		{
			uint32_t	len;
			const char *piece = l3_tokenizer_piece(tok, (int32_t) id, &len);

			tap_note("after \"%.*s\" with %u left: \"%.*s\" is %s", (int) n, text, left, (int) len,
					 piece, in_set(got, id) ? "allowed" : "not allowed");
			break;
		}
	free(got);
	free(want);
	return right;
}

static void
test_masks_of_random_grammars(void)
{
	static const char *const parts[] = {"a", "b", "c", "ab", "cc", "aaa", "ba"};
	L3Tokenizer *tok = random_vocabulary(parts, lengthof(parts), 700);
	L3Vocabulary *v;
	bool		right = true;
	L3Error		err;

	fixture_check(l3_vocabulary_create(tok, &v, &err), &err);
	for (int i = 0; i < N_GRAMMARS / 10 && right; i++)
	{
		L3Grammar  *g = random_grammar(&seed, 3);
		L3Automaton *a;
		L3Masks    *m;
		char		text[12];
		size_t		n;

		if (g == NULL)
			continue;
		a = automaton_of(g, v->trie);
		fixture_check(l3_masks_create(v, a, &m, &err), &err);
		too_ambiguous = false;
		n = random_text(a, 3, 8, text);
		for (size_t j = 0; j <= n && right && !too_ambiguous; j++)
		{
			uint32_t	state = state_after(a, text, j);
			uint32_t	distance;

			if (state == L3_STATE_DEAD)
				break;
			distance = a->states[state].distance;
			right = mask_is_right(m, tok, g, text, j, 1000, j % 4 == 0) &&
				mask_is_right(m, tok, g, text, j, distance + draw(4), false) &&
				(distance == 0 || mask_is_right(m, tok, g, text, j, distance - 1, false));
		}
		l3_masks_free(m);
		l3_automaton_free(a);
		free(g);
	}
	tap_ok(right, "masks of random grammars are what trying every token gives");
	l3_vocabulary_free(v);
	free(tok);
}

static const char *const json_parts[] = {
	"a", "b", "name", "the ", " is", "\"", "\": ", "\", \"", ", ", "}", "]", "\\", "n", "\\\"", "\n", "\t",
	"1", "23", "0", "true", "null", "\xC3\xA9", "\xC3", "\xA9", "\xE2\x82\xAC", "\xE2\x82", "\xF0\x9F\x98\x80",
	"\xF0\x9F", "\xED\xA0\x80", "\xC0\x80", "size", "{\"", "    ", "Zeit", "\xD0\xB4\xD0\xBE"
};

static void
test_masks_of_text(void)
{
	static const char *const texts[] = {
		"", "{\"na", "{\"name\": \"", "{\"name\": \"a", "{\"name\": \"\xE2", "{\"name\": \"\xF0\x9F",
		"{\"name\": \"abc\\", "{\"name\": \"the end\"", "{\"name\": \"\", \"size\": -",
		"{\"name\": \"\", \"size\": 12", "{\"name\": \"\", \"size\": 0, \"tags\": [",
		"{\"name\": \"\", \"size\": 0, \"tags\": [\"x\", tru", "{\"name\": \"\", \"size\": 0, \"tags\": [null], \"next\": ",
		"{\"name\": \"\", \"size\": 0, \"tags\": [\"a\", \"b\", \"c\", \"d", "{\"name\": \"x\", \"size\": 0, \"tags\": [], \"next\": {\"name\": \"y"
	};
	static const uint32_t lengths[] = {L3_GRAMMAR_UNBOUNDED, 1000, 20, 5, 3};
	L3Tokenizer *tok = random_vocabulary(json_parts, lengthof(json_parts), 2500);
	L3Vocabulary *v;
	bool		right = true;
	uint32_t	n_text;
	L3Error		err;

	fixture_check(l3_vocabulary_create(tok, &v, &err), &err);
	for (int i = 0; i < lengthof(lengths) && right; i++)
	{
		L3Grammar  *g = json_grammar(lengths[i]);
		L3Automaton *a = automaton_of(g, v->trie);
		L3Masks    *m;

		fixture_check(l3_masks_create(v, a, &m, &err), &err);
		for (int j = 0; j < lengthof(texts) && right; j++)
		{
			size_t		n = strlen(texts[j]);
			uint32_t	state = state_after(a, texts[j], n);
			uint32_t	distance;

			if (state == L3_STATE_DEAD)
				continue;
			distance = a->states[state].distance;
			right = mask_is_right(m, tok, g, texts[j], n, 10000, false);
			for (uint32_t left = distance > 0 ? distance - 1 : 0; left < distance + 6 && right; left++)
				right = mask_is_right(m, tok, g, texts[j], n, left, false);
		}
		l3_masks_free(m);
		l3_automaton_free(a);
		free(g);
	}
	n_text = v->n_text;
	tap_ok(right && n_text > 0, "masks where any text may stand are what trying every token gives");
	l3_vocabulary_free(v);
	free(tok);
}

static uint32_t
text_before_text(L3GrammarBuilder *b)
{
	/* at most five characters, then words of the same characters */
	uint32_t	parts[] = {l3_grammar_repeat(b, l3_grammar_range(b, ' ', '~'), 0, 5),
	grammar_text(b, "the name is a"), l3_grammar_repeat(b, l3_grammar_range(b, 'a', 'b'), 2, 4)};

	return l3_grammar_seq(b, parts, 3);
}

/* A bounded loop whose characters may also come after it. */
static void
test_masks_after_loops(void)
{
	static const char *const texts[] = {"", "a", "name", "the n", "ab the na", "the name is a", "the name is aab"};
	L3Tokenizer *tok = random_vocabulary(json_parts, lengthof(json_parts), 2500);
	L3Grammar  *g = grammar_of(text_before_text);
	L3Vocabulary *v;
	L3Automaton *a;
	L3Masks    *m;
	bool		right = true;
	L3Error		err;

	fixture_check(l3_vocabulary_create(tok, &v, &err), &err);
	a = automaton_of(g, v->trie);
	fixture_check(l3_masks_create(v, a, &m, &err), &err);
	for (int i = 0; i < lengthof(texts) && right; i++)
	{
		size_t		n = strlen(texts[i]);

		right = mask_is_right(m, tok, g, texts[i], n, 1000, true) &&
			mask_is_right(m, tok, g, texts[i], n, a->states[state_after(a, texts[i], n)].distance, false);
	}
	tap_ok(right, "masks of a loop whose characters may also come after it are right");
	l3_masks_free(m);
	l3_automaton_free(a);
	l3_vocabulary_free(v);
	free(g);
	free(tok);
}

int
main(void)
{
	test_automaton();
	test_distances();
	test_limits();
	test_ambiguity();
	test_clearing();
	test_masks_of_random_grammars();
	test_masks_of_text();
	test_masks_after_loops();
	return tap_done();
}
