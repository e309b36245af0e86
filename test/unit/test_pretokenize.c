/*-------------------------------------------------------------------------
 *
 * test_pretokenize.c
 *	  The pre-splits against hand-made expectations and against a plain
 *	  interpreter of the same patterns.
 *
 * The interpreter below knows nothing of scanning: it is a backtracking
 * matcher over alternatives that are written down as data, as the regular
 * expressions are.  Random strings over the characters that matter must split
 * alike.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "pretokenize.h"
#include "tap.h"

/* ----------------------------------------------------------------
 *		A tiny backtracking matcher
 * ----------------------------------------------------------------
 */

typedef bool (*Class) (int32_t cp); /* cp < 0: an invalid byte */

/* One quantified class: from min to max code points, greedy. */
typedef struct Atom
{
	Class		class;
	int			min;
	int			max;
} Atom;

#define MANY		1000000
#define LOOK_AHEAD	(-1)		/* as max: (?!\S), takes nothing */

typedef struct Alternative
{
	Atom		atoms[4];		/* ended by a NULL class */
} Alternative;

static bool
is_category(int32_t cp, const char *first)
{
	return cp >= 0 && strchr(first, utf8proc_category_string(cp)[0]) != NULL;
}

static bool
letter(int32_t cp)
{
	return is_category(cp, "L");
}

static bool
number(int32_t cp)
{
	return is_category(cp, "N");
}

static bool
space(int32_t cp)
{
	return is_category(cp, "Z") || (cp >= 9 && cp <= 13) || cp == 0x85;
}

static bool
newline(int32_t cp)
{
	return cp == '\r' || cp == '\n';
}

static bool
blank(int32_t cp)
{
	return cp == ' ';
}

static bool
symbol(int32_t cp)
{
	return !space(cp) && !letter(cp) && !number(cp);
}

static bool
before_word(int32_t cp)
{
	return !newline(cp) && !letter(cp) && !number(cp);
}

static bool
punctuation(int32_t cp)
{
	return is_category(cp, "P") || (cp > 0 && cp < 128 && strchr("$+<=>^~|", cp) != NULL);
}

static bool
digit(int32_t cp)
{
	return cp >= '0' && cp <= '9';
}

static bool
quote(int32_t cp)
{
	return cp == '\'';
}

/* Letters of the contractions, with and without case. */
#define LETTER_CLASS(name, test) \
	static bool name(int32_t cp) { return test; }
LETTER_CLASS(any_stmd, cp > 0 && (cp == 0x17F || (cp < 128 && strchr("sStTmMdD", cp) != NULL)))
LETTER_CLASS(any_r, cp == 'r' || cp == 'R')
LETTER_CLASS(any_v, cp == 'v' || cp == 'V')
LETTER_CLASS(any_e, cp == 'e' || cp == 'E')
LETTER_CLASS(any_l, cp == 'l' || cp == 'L')
LETTER_CLASS(low_stmd, cp > 0 && cp < 128 && strchr("stmd", cp) != NULL)
LETTER_CLASS(low_r, cp == 'r')
LETTER_CLASS(low_v, cp == 'v')
LETTER_CLASS(low_e, cp == 'e')
LETTER_CLASS(low_l, cp == 'l')

#define CONTRACTIONS(c) \
	{{{quote, 1, 1}, {c##_stmd, 1, 1}}}, \
	{{{quote, 1, 1}, {c##_r, 1, 1}, {c##_e, 1, 1}}}, \
	{{{quote, 1, 1}, {c##_v, 1, 1}, {c##_e, 1, 1}}}, \
	{{{quote, 1, 1}, {c##_l, 2, 2}}}

#define LLAMA(digits) \
	CONTRACTIONS(any), \
	{{{before_word, 0, 1}, {letter, 1, MANY}}}, \
	{{{number, 1, digits}}}, \
	{{{blank, 0, 1}, {symbol, 1, MANY}, {newline, 0, MANY}}}, \
	{{{space, 0, MANY}, {newline, 1, MANY}}}, \
	{{{space, 1, MANY}, {space, 0, LOOK_AHEAD}}}, \
	{{{space, 1, MANY}}}

static const Alternative llama[] = {LLAMA(3), {{{0}}}};
static const Alternative qwen2[] = {LLAMA(1), {{{0}}}};
static const Alternative gpt2[] = {
	CONTRACTIONS(low),
	{{{blank, 0, 1}, {letter, 1, MANY}}},
	{{{blank, 0, 1}, {number, 1, MANY}}},
	{{{blank, 0, 1}, {symbol, 1, MANY}}},
	{{{space, 1, MANY}, {space, 0, LOOK_AHEAD}}},
	{{{space, 1, MANY}}},
	{{{0}}}
};
static const Alternative one_number[] = {{{{number, 1, 1}}}, {{{0}}}};
static const Alternative punctuations[] = {{{{punctuation, 1, MANY}}}, {{{0}}}};
static const Alternative numbers[] = {{{{number, 1, MANY}}}, {{{0}}}};
static const Alternative triples[] = {{{{digit, 3, 3}}}, {{{0}}}};

/* Patterns of each pre-tokenizer: each splits what the one before left. */
static const Alternative *const stages[L3_N_PRE_TOKENIZERS][5] = {
	[L3_PRE_LLAMA_BPE] = {llama},
	[L3_PRE_GPT2] = {gpt2},
	[L3_PRE_SMOLLM] = {one_number, gpt2},
	[L3_PRE_QWEN2] = {qwen2},
	[L3_PRE_DEFAULT] = {punctuations, gpt2, numbers, triples},
};

#define MAX_CPS 64

/* A text as code points; invalid bytes are -1. */
typedef struct Text
{
	int32_t		cp[MAX_CPS];
	int			byte_at[MAX_CPS + 1];
	int			n;
} Text;

/* End of the match of atoms at pos within [pos, end), or -1. */
static int
match_atoms(const Text *t, int pos, int end, const Atom *atom)
{
	int			n = 0;

	if (atom->class == NULL)
		return pos;
	if (atom->max == LOOK_AHEAD)
		return pos == end || atom->class(t->cp[pos]) ? pos : -1;
	while (n < atom->max && pos + n < end && atom->class(t->cp[pos + n]))
		n++;
	for (; n >= atom->min; n--)
	{
		int			stop = match_atoms(t, pos + n, end, atom + 1);

		if (stop >= 0)
			return stop;
	}
	return -1;
}

/* Split [start, end) by the stages; each part's end is marked in cut. */
static void
split_stage(const Text *t, int start, int end, const Alternative *const *stage, bool *cut)
{
	int			unmatched = start;
	int			pos = start;

	if (start == end)
		return;
	if (*stage == NULL)
	{
		cut[end] = true;
		return;
	}
	while (pos < end)
	{
		int			stop = -1;

		for (const Alternative *a = *stage; a->atoms[0].class != NULL && stop < 0; a++)
			stop = match_atoms(t, pos, end, a->atoms);
		if (stop <= pos)
		{
			pos++;
			continue;
		}
		split_stage(t, unmatched, pos, stage + 1, cut);
		split_stage(t, pos, stop, stage + 1, cut);
		unmatched = pos = stop;
	}
	split_stage(t, unmatched, end, stage + 1, cut);
}

/* ----------------------------------------------------------------
 *		Tests
 * ----------------------------------------------------------------
 */

/* Split text and join the pre-tokens by U+241F's stand-in, a 0x01 byte. */
static void
split_joined(L3PreTokenizer pre, const char *text, size_t len, char *out)
{
	L3Splitter	s;
	size_t		start;
	size_t		n;
	bool		first = true;

	l3_split_begin(&s, pre, text, len);
	while (l3_split_next(&s, &start, &n))
	{
		if (!first)
			*out++ = '\1';
		first = false;
		memcpy(out, text + start, n);
		out += n;
	}
	*out = '\0';
}

static void
splits_as(L3PreTokenizer pre, const char *expected, const char *what)
{
	char		text[256];
	char		got[512];
	size_t		n = 0;

	for (const char *p = expected; *p != '\0'; p++)
		if (*p != '\1')
			text[n++] = *p;
	split_joined(pre, text, n, got);
	tap_ok(strcmp(got, expected) == 0, "%s", what);
}

#define _ "\1"

static void
test_llama(void)
{
	L3PreTokenizer p = L3_PRE_LLAMA_BPE;

	splits_as(p, "Hello" _ " world" _ "!", "llama-bpe: a space goes with its word");
	splits_as(p, "123" _ "456" _ "7", "llama-bpe: digits in threes from the left");
	splits_as(p, " " _ "12", "llama-bpe: no space goes with digits");
	splits_as(p, "it" _ "'s" _ " I" _ "'LL" _ " they" _ "'Re", "llama-bpe: contractions in any case");
	splits_as(p, "it" _ "'\xC5\xBF" _ "o", "llama-bpe: the long s folds to s");
	splits_as(p, "'x" _ "'", "llama-bpe: a symbol goes with the letters after it");
	splits_as(p, "a" _ "  " _ " b", "llama-bpe: the last of several spaces goes with the word");
	splits_as(p, "a" _ "   ", "llama-bpe: spaces at the end are one");
	splits_as(p, "a" _ " \n \n" _ "  " _ " b", "llama-bpe: white space up to the last newline");
	splits_as(p, "a" _ ";\n\n" _ "b", "llama-bpe: newlines go with the punctuation before");
	splits_as(p, "a" _ " ;;" _ "\tb", "llama-bpe: a tab goes with the letters after it");
	splits_as(p, "\n" _ "b", "llama-bpe: no newline goes with letters");
	splits_as(p, "a" _ "\xCC\x81" "b", "llama-bpe: a combining mark is no letter");
	splits_as(p, "a" _ "\xC2\x85" "b", "llama-bpe: U+0085 is white space that goes with a word");
	splits_as(p, "1" _ " " _ "\xC2\x85" _ "1", "llama-bpe: U+0085 is white space");
	splits_as(p, "1" _ " \xEF\xBB\xBF" _ "1", "llama-bpe: U+FEFF is a symbol");
	splits_as(p, "1" _ " \xE1\xA0\x8E" _ "1", "llama-bpe: U+180E is a symbol");
	splits_as(p, "1" _ " \xFF\xFE" _ "1", "llama-bpe: invalid bytes are symbols");
	splits_as(p, "\xE0\xA5\xA7\xE0\xA5\xA8\xE0\xA5\xA9" _ "\xE0\xA5\xAA",
			  "llama-bpe: digits of any script in threes");
	splits_as(p, "", "llama-bpe: nothing gives nothing");
}

static void
test_others(void)
{
	splits_as(L3_PRE_QWEN2, "a" _ "1" _ "2" _ "'S" _ " " _ "3", "qwen2: digits one by one");
	splits_as(L3_PRE_GPT2, "it" _ "'s" _ " '" _ "S" _ " 123456" _ "!\"" _ "x",
			  "gpt-2: lower-case contractions, digits in one run with their space");
	splits_as(L3_PRE_GPT2, "a" _ "\n" _ "\n" _ "b" _ "  " _ " c" _ " \n", "gpt-2: white space");
	splits_as(L3_PRE_SMOLLM, "a" _ "  " _ "1" _ "2" _ " b" _ " ", "smollm: each digit ends a segment");
	splits_as(L3_PRE_DEFAULT, "it" _ "'" _ "s" _ " " _ "123" _ "45" _ " a" _ " " _ "=>" _ " ",
			  "default: punctuation first, then GPT-2's split, then digits in threes");
	splits_as(L3_PRE_DEFAULT, "\xEF\xBC\x91" _ "123" _ "\xEF\xBC\x92",
			  "default: only ASCII digits go in threes");
}

static const char *const samples[] = {
	" ", " ", " ", "\n", "\r", "\t", "\xC2\x85", "\xC2\xA0", "\xE3\x80\x80", "\xE2\x80\xA8",
	"a", "S", "s", "t", "r", "e", "E", "l", "L", "v", "\xC5\xBF", "\xC3\xA9", "\xE6\x97\xA5",
	"'", "'", "'", "1", "2", "3", "\xEF\xBC\x91", "\xC2\xBD", "!", "$", "`", "-", "\xE2\x82\xAC",
	"\xE2\x80\x9C", "\xCC\x81", "\xF0\x9F\x8E\x89", "\xEF\xBB\xBF", "\xFF", "\xE2\x82", "\x80", "\0",
};
#define N_SAMPLES (sizeof(samples) / sizeof(samples[0]))

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A random text: its bytes, and its code points as the matcher wants them. */
static int
random_text(uint64_t *state, char *bytes, Text *t)
{
	int			wanted = 1 + (int) (next_random(state) % 14);
	int			len = 0;

	t->n = 0;
	for (int i = 0; i < wanted; i++)
	{
		const char *s = samples[next_random(state) % N_SAMPLES];
		size_t		n = *s == '\0' ? 1 : strlen(s);
		utf8proc_int32_t cp;

		/* An incomplete or impossible sequence counts byte by byte. */
		if (utf8proc_iterate((const utf8proc_uint8_t *) s, (utf8proc_ssize_t) n, &cp) > 0)
		{
			t->byte_at[t->n] = len;
			t->cp[t->n++] = cp;
		}
		else
		{
			for (size_t k = 0; k < n; k++)
			{
				t->byte_at[t->n] = len + (int) k;
				t->cp[t->n++] = -1;
			}
		}
		memcpy(bytes + len, s, n);
		len += (int) n;
	}
	t->byte_at[t->n] = len;
	return len;
}

/*
 * "\xE2\x82" before "\x80" would be a character that the pieces do not show;
 * such a text is drawn again.
 */
static bool
joins_into_character(const char *bytes, int len)
{
	for (int i = 0; i + 2 < len; i++)
		if (memcmp(bytes + i, "\xE2\x82\x80", 3) == 0)
			return true;
	return false;
}

static void
test_random(L3PreTokenizer pre, const char *name)
{
	uint64_t	state = 20240726;
	unsigned	wrong = 0;

	for (int round = 0; round < 100000; round++)
	{
		char		bytes[128];
		bool		cut[MAX_CPS + 1] = {false};
		bool		expected[129] = {false};
		bool		got[129] = {false};
		Text		t;
		int			len = random_text(&state, bytes, &t);
		L3Splitter	s;
		size_t		start;
		size_t		n;

		if (joins_into_character(bytes, len))
			continue;
		split_stage(&t, 0, t.n, stages[pre], cut);
		for (int i = 0; i <= t.n; i++)
			if (cut[i])
				expected[t.byte_at[i]] = true;
		l3_split_begin(&s, pre, bytes, (size_t) len);
		while (l3_split_next(&s, &start, &n))
			got[start + n] = true;
		if (memcmp(expected, got, sizeof(got)) != 0 && wrong++ == 0)
		{
			printf("# first difference in:");
			for (int i = 0; i < len; i++)
				printf(" %02X%s%s", (uint8_t) bytes[i], expected[i + 1] ? "|" : "",
					   got[i + 1] ? "/" : "");
			printf("\n");
		}
	}
	tap_ok(wrong == 0, "%s: 100000 random texts split as a backtracking matcher splits them", name);
}

/* The boundaries of the split of n bytes, as a bit for each place. */
static void
boundaries(L3PreTokenizer pre, const char *bytes, size_t n, bool *at)
{
	L3Splitter	s;
	size_t		start;
	size_t		len;

	l3_split_begin(&s, pre, bytes, n);
	while (l3_split_next(&s, &start, &len))
		at[start + len] = true;
}

/*
 * Of random texts, what is settled must be split alike by itself and with
 * anything behind the text; and it must not be less than it could be by much.
 */
static void
test_settled(L3PreTokenizer pre, const char *name)
{
	uint64_t	state = 77;
	unsigned	wrong = 0;
	unsigned	settled = 0;
	unsigned	n_bytes = 0;

	for (int round = 0; round < 40000; round++)
	{
		char		bytes[128];
		bool		alone[129] = {false};
		Text		t;
		size_t		len = (size_t) random_text(&state, bytes, &t);
		size_t		n = l3_split_settled(pre, bytes, len);

		boundaries(pre, bytes, n, alone);
		settled += (unsigned) n;
		n_bytes += (unsigned) len;
		wrong += n > 0 && !alone[n];
		for (int i = 0; i < 12; i++)
		{
			char		longer[256];
			bool		got[257] = {false};
			size_t		more = (size_t) random_text(&state, longer + len, &t);

			memcpy(longer, bytes, len);
			boundaries(pre, longer, len + more, got);
			wrong += memcmp(alone, got, n + 1) != 0;
		}
	}
	tap_ok(wrong == 0 && settled > n_bytes / 2,
		   "%s: what is settled of a text is split alike whatever follows", name);
	tap_note("%u of %u bytes are settled", settled, n_bytes);
}

static void
test_names(void)
{
	L3PreTokenizer pre;

	tap_ok(l3_pre_by_name("smaug-bpe", &pre) && pre == L3_PRE_LLAMA_BPE,
		   "smaug-bpe is llama-bpe");
	tap_ok(!l3_pre_by_name("tekken", &pre) && !l3_pre_by_name("", &pre),
		   "other names are unknown");
}

int
main(void)
{
	test_llama();
	test_others();
	test_random(L3_PRE_LLAMA_BPE, "llama-bpe");
	test_random(L3_PRE_QWEN2, "qwen2");
	test_random(L3_PRE_GPT2, "gpt-2");
	test_random(L3_PRE_SMOLLM, "smollm");
	test_random(L3_PRE_DEFAULT, "default");
	test_settled(L3_PRE_LLAMA_BPE, "llama-bpe");
	test_settled(L3_PRE_QWEN2, "qwen2");
	test_settled(L3_PRE_GPT2, "gpt-2");
	test_settled(L3_PRE_SMOLLM, "smollm");
	test_settled(L3_PRE_DEFAULT, "default");
	test_names();
	return tap_done();
}
