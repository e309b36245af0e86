/*-------------------------------------------------------------------------
 *
 * encode_stdin.c
 *	  Encode texts from standard input, for comparison with another encoder.
 *
 * Usage: encode_stdin SPEC.  Builds the tokenizer image of SPEC, then reads
 * requests: a kind (1 byte), a length (uint32, little-endian) and that many
 * bytes.  Kinds:
 *	't'	encode the text
 *	's'	encode the text, special tokens recognised
 *	'n'	encode the text, and answer with the number of steps that it took in
 *		place of the ids (two of them: low and high half)
 *	'c'	encode a chat: '0' or '1' (add the assistant's header), then messages
 *		as "role<TAB>content<NUL>"
 * The answer is the number of ids and the ids, uint32 each.  Of texts it is
 * checked here that the ids' pieces are the text again.
 * Standard error gets the size of the image and the seconds of its making.
 *
 *-------------------------------------------------------------------------
 */
#include "spec_file.h"

#include <time.h>

#include "tokenizer_image.h"

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void
must(L3Status status, const L3Error *err)
{
	if (status == L3_OK)
		return;
	fprintf(stderr, "%s\n%s\n", err->message, err->detail);
	exit(2);
}

static void
check_round_trip(const L3Tokenizer *tok, const L3Ids *ids, const char *text, size_t len)
{
	size_t		at = 0;

	for (size_t i = 0; i < ids->n; i++)
	{
		uint32_t	n;
		const char *piece = l3_tokenizer_piece(tok, ids->ids[i], &n);

		if (piece == NULL || n > len - at || memcmp(text + at, piece, n) != 0)
		{
			fprintf(stderr, "token %zu of %zu does not give the text back\n", i, ids->n);
			exit(3);
		}
		at += n;
	}
	if (at != len)
	{
		fprintf(stderr, "tokens give %zu of %zu bytes back\n", at, len);
		exit(3);
	}
}

#define MAX_MESSAGES	16

static void
encode_chat(const L3Tokenizer *tok, const char *data, size_t len, L3Ids *ids)
{
	L3Message	messages[MAX_MESSAGES];
	size_t		n = 0;
	const char *p = data + 1;
	const char *end = data + len;
	L3Error		err;

	while (p < end && n < MAX_MESSAGES)
	{
		const char *tab = memchr(p, '\t', (size_t) (end - p));
		const char *nul = memchr(p, '\0', (size_t) (end - p));

		if (tab == NULL || nul == NULL || tab > nul)
			exit(2);
		messages[n].role = p;
		messages[n].role_len = (size_t) (tab - p);
		messages[n].content = tab + 1;
		messages[n].content_len = (size_t) (nul - tab - 1);
		n++;
		p = nul + 1;
	}
	must(l3_chat_encode(tok, messages, n, data[0] == '1', ids, &err), &err);
}

static bool
ignore_ids(void *ctx, const int32_t *ids, size_t n)
{
	(void) ctx;
	(void) ids;
	(void) n;
	return false;
}

static void
count_steps(const L3Tokenizer *tok, const char *text, size_t len, L3Ids *ids)
{
	L3Error		err;
	uint64_t	steps = 0;
	int32_t		halves[2];

	must(l3_tok_encode_counted(tok, text, len, false, ignore_ids, NULL, &steps, &err), &err);
	memcpy(halves, &steps, sizeof(halves));
	must(l3_ids_append(ids, halves, 2, &err), &err);
}

/* Answer one request of this kind. */
static void
answer(const L3Tokenizer *tok, uint8_t kind, const char *text, size_t len)
{
	L3Ids		ids = {0};
	L3Error		err;
	uint32_t	n;

	if (kind == 'c')
		encode_chat(tok, text, len, &ids);
	else if (kind == 'n')
		count_steps(tok, text, len, &ids);
	else
	{
		must(l3_tokenizer_encode_ids(tok, text, len, kind == 's', &ids, &err), &err);
		check_round_trip(tok, &ids, text, len);
	}
	n = (uint32_t) ids.n;
	fwrite(&n, 4, 1, stdout);
	fwrite(ids.ids, 4, n, stdout);
	l3_ids_free(&ids);
}

int
main(int argc, char **argv)
{
	SpecFile	file;
	L3Error		err;
	uint64_t	size;
	double		start;
	void	   *image;
	const L3Tokenizer *tok;
	uint8_t		head[5];

	if (argc != 2)
		return 2;
	spec_read(&file, argv[1]);
	must(l3_tokenizer_image_size(&file.spec, &size, &err), &err);
	image = calloc(1, size);
	start = seconds();
	must(l3_tokenizer_build(&file.spec, image, size, &err), &err);
	fprintf(stderr, "image of %llu bytes built in %.3f s", (unsigned long long) size,
			seconds() - start);
	start = seconds();
	tok = l3_tokenizer_check(image, size, &err);
	if (tok == NULL)
		must(err.status, &err);
	fprintf(stderr, ", checked in %.4f s\n", seconds() - start);

	while (fread(head, 1, 5, stdin) == 5)
	{
		uint32_t	len;
		char	   *text;

		memcpy(&len, head + 1, 4);
		text = malloc((size_t) len + 1);
		if (text == NULL || fread(text, 1, len, stdin) != len)
			return 2;
		answer(tok, head[0], text, len);
		free(text);
	}
	free(image);
	spec_free(&file);
	return 0;
}
