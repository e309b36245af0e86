/*-------------------------------------------------------------------------
 *
 * pretokenize.c
 *	  Hand-written scanners for the pre-tokenizers' regular expressions.
 *
 * Each pattern is a list of alternatives tried in order at every position.
 * A regular-expression engine would do, but the patterns need Unicode
 * properties, a look-ahead and, on hostile text (a megabyte of spaces), a
 * guarantee of linear time; each alternative is a few lines of scanning.
 * Properties come from utf8proc: small, in Debian, and only tables; its
 * two-stage lookup is one load or two a code point.
 *
 * Conventions, as in the engines that the models were trained with (Rust's
 * regex, Oniguruma):
 *	- \s is Unicode's White_Space: U+0085 is in, U+FEFF and U+180E are not;
 *	- (?i:'s) folds case, so it takes U+017F (long s) too; no other letter of
 *	  the contractions has a third case form;
 *	- an invalid byte is a symbol: no letter, number or space.
 *
 *-------------------------------------------------------------------------
 */
#include "pretokenize.h"

#include <string.h>
#include <utf8proc.h>

#include "engine.h"
#include "utf8.h"

/* Classes of a code point, as bits; 0 is any other symbol. */
#define LETTER		0x01		/* \p{L} */
#define NUMBER		0x02		/* \p{N} */
#define SPACE		0x04		/* \s */
#define NEWLINE		0x08		/* [\r\n], with SPACE */
#define PUNCT		0x10		/* [\p{P}$+<=>^~|], for "default" only */
#define WORDISH		(LETTER | NUMBER | SPACE)

#define LONG_S		0x017F

static const struct
{
	const char *name;
	L3PreTokenizer pre;
}			pre_names[] =
{
	{"llama-bpe", L3_PRE_LLAMA_BPE},
	{"llama3", L3_PRE_LLAMA_BPE},
	{"llama-v3", L3_PRE_LLAMA_BPE},
	{"smaug-bpe", L3_PRE_LLAMA_BPE},
	{"gpt-2", L3_PRE_GPT2},
	{"smollm", L3_PRE_SMOLLM},
	{"qwen2", L3_PRE_QWEN2},
	{"default", L3_PRE_DEFAULT},
};

bool
l3_pre_by_name(const char *name, L3PreTokenizer *pre)
{
	for (size_t i = 0; i < sizeof(pre_names) / sizeof(pre_names[0]); i++)
	{
		if (strcmp(name, pre_names[i].name) == 0)
		{
			*pre = pre_names[i].pre;
			return true;
		}
	}
	return false;
}

const char *
l3_pre_names(void)
{
	return "llama-bpe (llama3, llama-v3, smaug-bpe), gpt-2, smollm, qwen2, default";
}

static unsigned
classify_ascii(uint8_t c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return LETTER;
	if (c >= '0' && c <= '9')
		return NUMBER;
	if (c == '\r' || c == '\n')
		return SPACE | NEWLINE;
	if (c == ' ' || (c >= '\t' && c <= '\r'))
		return SPACE;
	/* All of ASCII's punctuation and symbols but the grave accent. */
	if (c > ' ' && c < 0x7F && c != '`')
		return PUNCT;
	return 0;
}

static unsigned
classify_unicode(uint32_t cp)
{
	switch (utf8proc_category((utf8proc_int32_t) cp))
	{
		case UTF8PROC_CATEGORY_LU:
		case UTF8PROC_CATEGORY_LL:
		case UTF8PROC_CATEGORY_LT:
		case UTF8PROC_CATEGORY_LM:
		case UTF8PROC_CATEGORY_LO:
			return LETTER;
		case UTF8PROC_CATEGORY_ND:
		case UTF8PROC_CATEGORY_NL:
		case UTF8PROC_CATEGORY_NO:
			return NUMBER;
		case UTF8PROC_CATEGORY_ZS:
		case UTF8PROC_CATEGORY_ZL:
		case UTF8PROC_CATEGORY_ZP:
			return SPACE;
		case UTF8PROC_CATEGORY_PC:
		case UTF8PROC_CATEGORY_PD:
		case UTF8PROC_CATEGORY_PS:
		case UTF8PROC_CATEGORY_PE:
		case UTF8PROC_CATEGORY_PI:
		case UTF8PROC_CATEGORY_PF:
		case UTF8PROC_CATEGORY_PO:
			return PUNCT;
		case UTF8PROC_CATEGORY_CC:
			/* White_Space is Z* and these controls; above ASCII only NEL. */
			return cp == 0x85 ? SPACE : 0;
		default:
			return 0;
	}
}

/* Class and length of the code point at pos; length 0 at the end. */
static inline unsigned
class_at(L3Splitter *s, size_t pos, size_t end, unsigned *len)
{
	uint32_t	cp;

	if (pos >= end)
	{
		*len = 0;
		return 0;
	}
	s->steps++;
	if (s->text[pos] < 0x80)
	{
		*len = 1;
		return classify_ascii(s->text[pos]);
	}
	*len = l3_utf8_decode(s->text + pos, end - pos, &cp);
	return cp == L3_UTF8_INVALID ? 0 : classify_unicode(cp);
}

/* End of the run of code points from pos whose class meets mask. */
static size_t
run_of(L3Splitter *s, size_t pos, size_t end, unsigned mask)
{
	unsigned	len;

	while ((class_at(s, pos, end, &len) & mask) != 0)
		pos += len;
	return pos;
}

/* End of the run from pos whose class has nothing of mask. */
static size_t
run_without(L3Splitter *s, size_t pos, size_t end, unsigned mask)
{
	unsigned	len;

	while ((class_at(s, pos, end, &len) & mask) == 0 && len > 0)
		pos += len;
	return pos;
}

/*
 * Length of the contraction 's 't 're 've 'm 'll 'd at pos, or 0.  any_case:
 * under (?i:).
 */
static size_t
contraction(const L3Splitter *s, size_t pos, size_t end, bool any_case)
{
	const uint8_t *p = s->text + pos;
	size_t		n = end - pos;
	uint8_t		fold = any_case ? 0x20 : 0;
	uint8_t		a;
	uint8_t		b;

	if (n < 2 || p[0] != '\'')
		return 0;
	if (any_case && p[1] >= 0x80)
	{
		uint32_t	cp;
		unsigned	len = l3_utf8_decode(p + 1, n - 1, &cp);

		return cp == LONG_S ? 1 + len : 0;
	}
	a = p[1] | fold;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if (n < 3)
		return 0;
	b = p[2] | fold;
	if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l'))
		return 3;
	return 0;
}

/*
 * \s+(?!\S)|\s+ at pos, where a white-space run begins: all of it when it
 * reaches the end, else all but its last code point, which may begin the next
 * pre-token; a run of one is taken whole.
 */
static size_t
white_space(L3Splitter *s, size_t pos, size_t end)
{
	size_t		last = pos;
	size_t		stop = pos;
	unsigned	len;

	while ((class_at(s, stop, end, &len) & SPACE) != 0)
	{
		last = stop;
		stop += len;
	}
	return stop < end && last > pos ? last : stop;
}

/*
 * \s*[\r\n]+ at pos: the end of the last newline in the white-space run; pos
 * when it has none.
 */
static size_t
newline_end(L3Splitter *s, size_t pos, size_t end)
{
	size_t		last = pos;
	unsigned	len;
	unsigned	class;

	while ((class = class_at(s, pos, end, &len)) & SPACE)
	{
		pos += len;
		if (class & NEWLINE)
			last = pos;
	}
	return last;
}

/*
 * The pattern of Llama 3 (Meta's tokenizer.py) and, with digits one by one,
 * of Qwen 2 (its tokenizer.json):
 *
 *	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
 *	| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *
 * Qwen 2 has \p{N} in place of \p{N}{1,3}.  Returns the match's end.
 */
static size_t
match_llama(L3Splitter *s, size_t pos, size_t end, int max_digits)
{
	unsigned	len;
	unsigned	next_len;
	unsigned	next;
	unsigned	class = class_at(s, pos, end, &len);
	size_t		n = contraction(s, pos, end, true);

	if (n > 0)
		return pos + n;
	if (class & LETTER)
		return run_of(s, pos, end, LETTER);
	if (class & NUMBER)
	{
		for (int i = 0; i < max_digits && (class & NUMBER); i++)
		{
			pos += len;
			class = class_at(s, pos, end, &len);
		}
		return pos;
	}
	next = class_at(s, pos + len, end, &next_len);
	if (!(class & NEWLINE) && (next & LETTER))
		return run_of(s, pos + len, end, LETTER);
	if (!(class & SPACE) ||
		(s->text[pos] == ' ' && next_len > 0 && !(next & WORDISH)))
		return run_of(s, run_without(s, pos + len, end, WORDISH), end, NEWLINE);

	n = newline_end(s, pos, end);
	if (n > pos)
		return n;
	return white_space(s, pos, end);
}

/*
 * The pattern of GPT-2 (encoder.py):
 *
 *	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
 *	|\s+(?!\S)|\s+
 */
static size_t
match_gpt2(L3Splitter *s, size_t pos, size_t end)
{
	unsigned	len;
	unsigned	next_len;
	unsigned	class = class_at(s, pos, end, &len);
	size_t		n = contraction(s, pos, end, false);

	if (n > 0)
		return pos + n;
	if (s->text[pos] == ' ')
	{
		unsigned	next = class_at(s, pos + len, end, &next_len);

		if (next_len > 0 && !(next & SPACE))
		{
			pos += len;
			class = next;
		}
	}
	if (class & LETTER)
		return run_of(s, pos, end, LETTER);
	if (class & NUMBER)
		return run_of(s, pos, end, NUMBER);
	if (!(class & SPACE))
		return run_without(s, pos, end, WORDISH);
	return white_space(s, pos, end);
}

/*
 * SmolLM (its tokenizer.json): a Digits pre-tokenizer isolates each \p{N},
 * then GPT-2's pattern splits what lies between, each part on its own.
 */
static size_t
match_smollm(L3Splitter *s)
{
	unsigned	len;

	if (class_at(s, s->pos, s->len, &len) & NUMBER)
		return s->pos + len;
	if (s->pos >= s->segment_end)
		s->segment_end = run_without(s, s->pos, s->len, NUMBER);
	return match_gpt2(s, s->pos, s->segment_end);
}

/* Are the three bytes at pos ASCII digits? */
static bool
three_digits(const L3Splitter *s, size_t pos, size_t end)
{
	if (end - pos < 3)
		return false;
	for (size_t i = pos; i < pos + 3; i++)
		if (s->text[i] < '0' || s->text[i] > '9')
			return false;
	return true;
}

/*
 * [0-9][0-9][0-9] within a run of \p{N} at pos: a triple, or what comes
 * before the next triple or the run's end.
 */
static size_t
match_digit_triples(L3Splitter *s, size_t pos, size_t end)
{
	unsigned	len;

	if (three_digits(s, pos, end))
		return pos + 3;
	while (class_at(s, pos, end, &len) & NUMBER)
	{
		pos += len;
		if (three_digits(s, pos, end))
			break;
	}
	return pos;
}

/*
 * What llama.cpp does with a GPT-2-style vocabulary whose file names no split
 * of its own; converters wrote "default" meaning that.  Four patterns, each
 * splitting the parts that the one before left:
 *
 *	[\p{P}\$\+<=>\^~\|]+
 *	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)
 *	\p{N}+
 *	[0-9][0-9][0-9]
 *
 * The apostrophe is \p{P}, so no contraction survives the first pattern.
 */
static size_t
match_default(L3Splitter *s)
{
	unsigned	len;
	unsigned	class = class_at(s, s->pos, s->len, &len);

	if (class & PUNCT)
		return run_of(s, s->pos, s->len, PUNCT);
	if (s->pos >= s->segment_end)
		s->segment_end = run_without(s, s->pos, s->len, PUNCT);
	if (class & NUMBER)
		return match_digit_triples(s, s->pos, s->segment_end);
	if (s->text[s->pos] == ' ' &&
		(class_at(s, s->pos + 1, s->segment_end, &len) & NUMBER))
		return s->pos + 1;		/* " ?\p{N}+" cut again by \p{N}+ */
	return match_gpt2(s, s->pos, s->segment_end);
}

void
l3_split_begin(L3Splitter *s, L3PreTokenizer pre, const char *text, size_t len)
{
	s->text = (const uint8_t *) text;
	s->len = len;
	s->pos = 0;
	s->segment_end = 0;
	s->pre = pre;
	s->steps = 0;
}

bool
l3_split_next(L3Splitter *s, size_t *start, size_t *len)
{
	size_t		end = s->len;

	if (s->pos >= s->len)
		return false;
	switch (s->pre)
	{
		case L3_PRE_GPT2:
			end = match_gpt2(s, s->pos, s->len);
			break;
		case L3_PRE_SMOLLM:
			end = match_smollm(s);
			break;
		case L3_PRE_QWEN2:
			end = match_llama(s, s->pos, s->len, 1);
			break;
		case L3_PRE_DEFAULT:
			end = match_default(s);
			break;
		case L3_PRE_LLAMA_BPE:
		case L3_N_PRE_TOKENIZERS:
			end = match_llama(s, s->pos, s->len, 3);
			break;
	}
	*start = s->pos;
	*len = end - s->pos;
	s->pos = end;
	return true;
}

/* ----------------------------------------------------------------
 *		What is settled before the text's end is known
 * ----------------------------------------------------------------
 */

/*
 * A match ends by what stands after it, and the patterns tell apart letters,
 * numbers, newlines, other white space, punctuation, other symbols, and the
 * letters of contractions; white space also by what follows it.
 */
static const char *const continuations[] = {
	"", "a", "s", "t", "e", "l", "m", "d", "\xC5\xBF", "\xC3\xA9", "1", "12", "123", "\xC2\xB2",
	" ", "  ", " a", " 1", " !", " \n", "\t", "\n", "\n\n", "\r\n", "\n a", "\xE2\x80\x89",
	"!", "!\n", "'", "'s", "`", "\xCC\x81", "\xE2\x82\xAC", "\xFF"
};

#define N_CONTINUATIONS		(sizeof(continuations) / sizeof(continuations[0]))
#define MAX_CONTINUATION	4

/*
 * Where the split of text, which is len bytes and something after them, first
 * differs from what ends, n boundaries of it, says: the number of those that
 * agree.
 */
static size_t
agreeing(L3PreTokenizer pre, const char *text, size_t len, const size_t *ends, size_t n)
{
	L3Splitter	s;
	size_t		start;
	size_t		length;
	size_t		i = 0;

	l3_split_begin(&s, pre, text, len);
	while (i < n && l3_split_next(&s, &start, &length) && start + length == ends[i])
		i++;
	return i;
}

size_t
l3_split_settled(L3PreTokenizer pre, const char *text, size_t len)
{
	char		probe[L3_SETTLED_TEXT + MAX_CONTINUATION];
	size_t		ends[L3_SETTLED_TEXT];
	size_t		n = 0;
	size_t		start;
	size_t		length;
	L3Splitter	s;

	if (len > L3_SETTLED_TEXT)
		len = L3_SETTLED_TEXT;
	len = l3_utf8_complete(text, len);
	l3_split_begin(&s, pre, text, len);
	while (l3_split_next(&s, &start, &length))
		ends[n++] = start + length;
	memcpy(probe, text, len);
	for (size_t i = 0; i < N_CONTINUATIONS; i++)
	{
		size_t		more = strlen(continuations[i]);

		memcpy(probe + len, continuations[i], more);
		n = agreeing(pre, probe, len + more, ends, n);
	}
	/* cut off there it must still be split so */
	while (n > 0 && agreeing(pre, text, ends[n - 1], ends, n) < n)
		n--;
	return n > 0 ? ends[n - 1] : 0;
}
