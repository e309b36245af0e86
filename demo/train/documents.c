/*-------------------------------------------------------------------------
 *
 * documents.c
 *	  Reading a documents file, and cutting control tokens out of texts.
 *
 * The file is read whole and each line is unescaped where it stands, as an
 * escape is never shorter than what it stands for.  A malformed line ends the
 * program: training on half of what was meant would show hours later.
 *
 *-------------------------------------------------------------------------
 */
#include "documents.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

/* Longest number in a file. */
#define MAX_NUMBER	31

const char *const tr_special_names[TR_N_SPECIALS] = {
	"<|begin_of_text|>", "<|end_of_text|>",
	"<|start_header_id|>", "<|end_header_id|>",
	"<|eot_id|>", "<|eom_id|>", "<|python_tag|>", "<|finetune_right_pad_id|>",
	"<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
	"<|reserved_special_token_2|>", "<|reserved_special_token_3|>",
	"<|reserved_special_token_4|>", "<|reserved_special_token_5|>",
	"<|reserved_special_token_6|>", "<|reserved_special_token_7|>",
};

void
tr_documents_fail(const TrDocuments *docs, const char *fmt,...)
{
	char		message[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	tr_fail("%s:%d: %s", docs->path, docs->line, message);
}

void
tr_documents_open(TrDocuments *docs, const char *path)
{
	memset(docs, 0, sizeof(*docs));
	docs->path = path;
	docs->data = tr_read_file(path, &docs->size);
}

void
tr_documents_close(TrDocuments *docs)
{
	free(docs->data);
	free(docs->fields);
	memset(docs, 0, sizeof(*docs));
}

/* ----------------------------------------------------------------
 *		Fields
 * ----------------------------------------------------------------
 */

/* Copy a field of the characters in allowed; false when it has others. */
static bool
copy_number(const char *field, size_t len, const char *allowed, char out[MAX_NUMBER + 1])
{
	if (len == 0 || len > MAX_NUMBER)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		/* strchr would find the NUL. */
		if (field[i] == '\0' || strchr(allowed, field[i]) == NULL)
			return false;
	}
	memcpy(out, field, len);
	out[len] = '\0';
	return true;
}

static int32_t
parse_group(const TrDocuments *docs, const char *field, size_t len)
{
	char		number[MAX_NUMBER + 1];
	char	   *end;
	long long	group;

	if (!copy_number(field, len, "-0123456789", number) ||
		(group = strtoll(number, &end, 10), *end != '\0') ||
		group < -1 || group > INT32_MAX)
		tr_documents_fail(docs, "invalid group \"%.*s\", expected an integer from -1",
						  len > MAX_NUMBER ? MAX_NUMBER : (int) len, field);
	return (int32_t) group;
}

static float
parse_weight(const TrDocuments *docs, const char *field, size_t len)
{
	char		number[MAX_NUMBER + 1];
	char	   *end;
	double		weight;

	/* Digits and a point only: no sign, exponent, infinity. */
	if (!copy_number(field, len, ".0123456789", number) ||
		(weight = strtod(number, &end), *end != '\0') ||
		weight > TR_MAX_WEIGHT)
		tr_documents_fail(docs, "invalid weight \"%.*s\", expected a number from 0 to %g",
						  len > MAX_NUMBER ? MAX_NUMBER : (int) len, field, TR_MAX_WEIGHT);
	return (float) weight;
}

/* Replace the escapes of a text where it stands; returns its new length. */
static size_t
unescape(const TrDocuments *docs, char *text, size_t len)
{
	size_t		n = 0;

	for (size_t i = 0; i < len; i++)
	{
		char		c = text[i];

		if (c == '\0')
			tr_documents_fail(docs, "text contains a NUL byte");
		if (c == '\\')
		{
			/* A backslash at the end of the text meets a tab or a newline. */
			switch (text[++i])
			{
				case 't':
					c = '\t';
					break;
				case 'n':
					c = '\n';
					break;
				case '\\':
					break;
				default:
					tr_documents_fail(docs, "invalid escape in a text, expected \\t, \\n or \\\\");
			}
		}
		text[n++] = c;
	}
	return n;
}

static void
check_utf8(const TrDocuments *docs, const char *text, size_t len)
{
	uint32_t	cp;

	for (size_t i = 0; i < len;)
	{
		i += l3_utf8_decode((const uint8_t *) text + i, len - i, &cp);
		if (cp == L3_UTF8_INVALID)
			tr_documents_fail(docs, "text is not valid UTF-8");
	}
}

static void
add_field(TrDocuments *docs, float weight, char *text, size_t len)
{
	TrField    *field;

	if (docs->n_fields == docs->capacity)
	{
		docs->capacity = docs->capacity * 2 + 16;
		docs->fields = realloc(docs->fields, (size_t) docs->capacity * sizeof(TrField));
		if (docs->fields == NULL)
			tr_fail("out of memory");
	}
	field = &docs->fields[docs->n_fields++];
	field->weight = weight;
	field->text = text;
	field->len = unescape(docs, text, len);
	check_utf8(docs, field->text, field->len);
}

/* ----------------------------------------------------------------
 *		Lines
 * ----------------------------------------------------------------
 */

/* Cut the field at *pos off the line; false when the line has no more. */
static bool
next_field(char *line, size_t len, size_t *pos, char **field, size_t *field_len)
{
	char	   *tab;

	if (*pos > len)
		return false;
	*field = line + *pos;
	tab = memchr(*field, '\t', len - *pos);
	*field_len = tab == NULL ? len - *pos : (size_t) (tab - *field);
	*pos += *field_len + 1;
	return true;
}

bool
tr_documents_next(TrDocuments *docs)
{
	char	   *line = docs->data + docs->pos;
	char	   *end;
	size_t		len;
	size_t		pos = 0;
	char	   *field;
	size_t		field_len;

	if (docs->pos == docs->size)
		return false;
	docs->line++;
	end = memchr(line, '\n', docs->size - docs->pos);
	if (end == NULL)
		tr_documents_fail(docs, "last line does not end in a newline, the file may be cut");
	len = (size_t) (end - line);
	docs->pos += len + 1;
	docs->n_fields = 0;

	next_field(line, len, &pos, &field, &field_len);
	docs->group = parse_group(docs, field, field_len);
	while (next_field(line, len, &pos, &field, &field_len))
	{
		float		weight = parse_weight(docs, field, field_len);

		if (!next_field(line, len, &pos, &field, &field_len))
			tr_documents_fail(docs, "weight without a text");
		add_field(docs, weight, field, field_len);
	}
	if (docs->n_fields == 0)
		tr_documents_fail(docs, "document has no fields");
	return true;
}

/* ----------------------------------------------------------------
 *		Control tokens
 * ----------------------------------------------------------------
 */

/* Index of the control token that the text begins with, or -1. */
static int
special_at(const char *text, size_t len)
{
	for (int i = 0; i < TR_N_SPECIALS; i++)
	{
		size_t		n = strlen(tr_special_names[i]);

		if (len >= n && memcmp(text, tr_special_names[i], n) == 0)
			return i;
	}
	return -1;
}

bool
tr_next_run(const char *text, size_t len, size_t *pos, TrRun *run)
{
	size_t		at = *pos;

	if (at >= len)
		return false;
	run->text = text + at;
	run->special = special_at(run->text, len - at);
	if (run->special >= 0)
		at += strlen(tr_special_names[run->special]);
	else
	{
		do
		{
			const char *next = memchr(text + at + 1, '<', len - at - 1);

			at = next == NULL ? len : (size_t) (next - text);
		} while (at < len && special_at(text + at, len - at) < 0);
	}
	run->len = at - *pos;
	*pos = at;
	return true;
}
