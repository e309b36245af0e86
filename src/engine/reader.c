/*-------------------------------------------------------------------------
 *
 * reader.c
 *	  Bounds-checked reading of model files.
 *
 *-------------------------------------------------------------------------
 */
#include "reader.h"
#include "advice.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Packed weights and GGUF headers are little-endian byte images. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian only");

/* First read of a cursor; later ones double. */
#define CURSOR_START	((uint64_t) 64 << 10)

static L3Status
out_of_memory(uint64_t bytes, L3Error *err)
{
	l3_error(err, L3_ERR_MEMORY, "out of memory");
	l3_error_detail(err, "Failed on request of size %" PRIu64 ".", bytes);
	return L3_ERR_MEMORY;
}

L3Status
l3_grow(void **array, uint64_t n, uint64_t *capacity, size_t element, L3Error *err)
{
	uint64_t	wanted;
	void	   *grown;

	if (n < *capacity)
		return L3_OK;
	wanted = *capacity == 0 ? 64 : *capacity * 2;
	if (wanted > SIZE_MAX / element || (grown = realloc(*array, wanted * element)) == NULL)
		return out_of_memory(wanted * element, err);
	*array = grown;
	*capacity = wanted;
	return L3_OK;
}

L3Status
l3_calloc(void **mem, uint64_t n, size_t element, L3Error *err)
{
	*mem = calloc(n == 0 ? 1 : n, element);
	if (*mem == NULL)
		return out_of_memory(n * element, err);
	return L3_OK;
}

L3Status
l3_reader_open(L3Reader *reader, const char *path, L3Error *err)
{
	struct stat st;

	memset(reader, 0, sizeof(*reader));
	/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
	reader->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (reader->fd < 0)
		return l3_could_not_open("file", path, err);
	if (fstat(reader->fd, &st) != 0)
	{
		l3_error(err, L3_ERR_IO, "could not stat file \"%s\": %m", path);
		l3_reader_close(reader);
		return L3_ERR_IO;
	}
	if (!S_ISREG(st.st_mode))
	{
		l3_reader_close(reader);
		return l3_error(err, L3_ERR_FORMAT, "\"%s\" is not a regular file", path);
	}
	reader->size = (uint64_t) st.st_size;
	reader->path = strdup(path);
	if (reader->path == NULL)
	{
		l3_reader_close(reader);
		return out_of_memory(strlen(path) + 1, err);
	}
	return L3_OK;
}

L3Status
l3_reader_open_memory(L3Reader *reader, const char *name,
					  const void *memory, uint64_t size, L3Error *err)
{
	memset(reader, 0, sizeof(*reader));
	reader->fd = -1;
	reader->memory = memory;
	reader->size = size;
	reader->path = strdup(name);
	if (reader->path == NULL)
		return out_of_memory(strlen(name) + 1, err);
	return L3_OK;
}

void
l3_reader_close(L3Reader *reader)
{
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader->path);
	memset(reader, 0, sizeof(*reader));
	reader->fd = -1;
}

L3Status
l3_reader_truncated(const L3Reader *reader, uint64_t needed, L3Error *err)
{
	l3_error(err, L3_ERR_FORMAT, "file \"%s\" is truncated", reader->path);
	l3_error_detail(err, "Its header describes %" PRIu64 " bytes, the file has %" PRIu64 ".",
					needed, reader->size);
	l3_error_hint(err, "The file is damaged or still being downloaded; complete the download and try again.");
	return L3_ERR_FORMAT;
}

L3Status
l3_reader_read(const L3Reader *reader, uint64_t offset, void *dst, uint64_t n, L3Error *err)
{
	uint8_t    *to = dst;
	uint64_t	end;

	if (__builtin_add_overflow(offset, n, &end))
		end = UINT64_MAX;
	if (end > reader->size)
		return l3_reader_truncated(reader, end, err);
	if (reader->fd < 0)
	{
		if (n > 0)
			memcpy(to, reader->memory + offset, n);
		return L3_OK;
	}
	while (n > 0)
	{
		ssize_t		got = pread(reader->fd, to, n, (off_t) offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return l3_error(err, L3_ERR_IO, "could not read file \"%s\": %m", reader->path);
		if (got == 0)
		{
			/* The file shrank since it was opened. */
			L3Reader	now = *reader;

			now.size = offset;
			return l3_reader_truncated(&now, end, err);
		}
		to += got;
		offset += (uint64_t) got;
		n -= (uint64_t) got;
	}
	return L3_OK;
}

L3Status
l3_reader_slurp(const L3Reader *reader, uint64_t max, char **data, size_t *len, L3Error *err)
{
	L3Status	status;
	char	   *bytes;

	if (reader->size > max)
	{
		l3_error(err, L3_ERR_FORMAT, "file \"%s\" is too large", reader->path);
		l3_error_detail(err, "The file has %" PRIu64 " bytes; at most %" PRIu64 " are read.",
						reader->size, max);
		return L3_ERR_FORMAT;
	}
	bytes = malloc(reader->size + 1);
	if (bytes == NULL)
		return out_of_memory(reader->size + 1, err);
	status = l3_reader_read(reader, 0, bytes, reader->size, err);
	if (status != L3_OK)
	{
		free(bytes);
		return status;
	}
	bytes[reader->size] = '\0';
	*data = bytes;
	*len = reader->size;
	return L3_OK;
}

/* Llama 3 is younger than GGUF. */
#define before_gguf	"Take a GGUF file of a Llama 3 model; older files hold older models."

/* What stands in model files that are not models: start of file, meaning, advice. */
static const struct
{
	const char *start;
	const char *meaning;
	const char *hint;
}			known_starts[] =
{
	{"version https://git-lfs", "a git-lfs pointer, not the model itself",
	"Run \"git lfs pull\" in the repository, or download the file itself."},
	{"<!DOCTYPE", "a web page", "Download the file itself, not the page that shows it."},
	{"<!doctype", "a web page", "Download the file itself, not the page that shows it."},
	{"<html", "a web page", "Download the file itself, not the page that shows it."},
	{"<?xml", "an XML document, perhaps a server's error message", "Download the file again."},
	{"{\"error", "a server's error message", "Download the file again."},
	{"Access to model", "the answer of a hub that keeps the model behind its licence",
	"Accept the licence on the model's page, and download the file again with your access token."},
	{"Invalid username", "the answer of a hub that refuses the download",
	"Download the file again with a valid access token."},
	{"Entry not found", "the answer of a hub that does not have the file",
	"Download the file again, by the name that the hub lists."},
	{"Repository not found", "the answer of a hub that does not have the model",
	"Download the file again, by the name that the hub lists."},
	{"GGUF", "a GGUF file", "Give the path of the .gguf file itself."},
	{"FUGG", "a big-endian GGUF file", "Convert the model to a little-endian GGUF file."},
	{"lmgg", "a GGML file of a time before GGUF", before_gguf},
	{"fmgg", "a GGML file of a time before GGUF", before_gguf},
	{"tjgg", "a GGML file of a time before GGUF", before_gguf},
	{"\037\213", "a gzip archive", "Unpack it."},
	{"(\265/\375", "a zstd archive", "Unpack it."},
	{"\3757zXZ", "an xz archive", "Unpack it."},
	{"PK\003\004", "a zip archive, perhaps a PyTorch checkpoint",
	"Use the model's safetensors directory or a GGUF file."},
	{"\200\002", "a Python pickle", "Use the model's safetensors directory or a GGUF file."},
};

L3Status
l3_reader_wrong_format(const L3Reader *reader, const char *what, L3Error *err)
{
	char		start[32] = {0};
	const char	zeros[32] = {0};
	L3Error		ignored;
	uint64_t	n = reader->size < sizeof(start) - 1 ? reader->size : sizeof(start) - 1;

	if (l3_reader_read(reader, 0, start, n, &ignored) != L3_OK)
		n = 0;
	l3_error(err, L3_ERR_FORMAT, "file \"%s\" is not a %s", reader->path, what);
	if (reader->size == 0)
	{
		l3_error_detail(err, "The file is empty.");
		l3_error_hint(err, "The download has failed or not begun; download the file again.");
		return L3_ERR_FORMAT;
	}
	if (n == sizeof(start) - 1 && memcmp(start, zeros, n) == 0)
	{
		l3_error_detail(err, "It starts with zeros, as a file that a download has reserved and not filled.");
		l3_error_hint(err, "Wait until the download is complete, or start it again if it was broken off.");
		return L3_ERR_FORMAT;
	}
	for (size_t i = 0; i < sizeof(known_starts) / sizeof(known_starts[0]); i++)
	{
		size_t		len = strlen(known_starts[i].start);

		if (n >= len && memcmp(start, known_starts[i].start, len) == 0)
		{
			l3_error_detail(err, "It looks like %s.", known_starts[i].meaning);
			l3_error_hint(err, "%s", known_starts[i].hint);
			return L3_ERR_FORMAT;
		}
	}
	l3_error_detail(err, "It starts with bytes %02x %02x %02x %02x.",
					(uint8_t) start[0], (uint8_t) start[1],
					(uint8_t) start[2], (uint8_t) start[3]);
	return L3_ERR_FORMAT;
}

void
l3_cursor_init(L3Cursor *cursor, const L3Reader *reader)
{
	memset(cursor, 0, sizeof(*cursor));
	cursor->reader = reader;
}

void
l3_cursor_free(L3Cursor *cursor)
{
	free(cursor->bytes);
	memset(cursor, 0, sizeof(*cursor));
}

L3Status
l3_cursor_need(L3Cursor *cursor, uint64_t n, L3Error *err)
{
	uint64_t	size = cursor->reader->size;
	uint64_t	end;
	uint64_t	target;
	L3Status	status;

	if (__builtin_add_overflow(cursor->at, n, &end))
		end = UINT64_MAX;
	if (end <= cursor->filled)
		return L3_OK;
	if (end > size)
		return l3_reader_truncated(cursor->reader, end, err);
	if (end > L3_MAX_HEADER_BYTES)
	{
		l3_error(err, L3_ERR_FORMAT, "header of file \"%s\" is too large", cursor->reader->path);
		l3_error_detail(err, "At most %" PRIu64 " bytes are read.", L3_MAX_HEADER_BYTES);
		return L3_ERR_FORMAT;
	}

	target = cursor->filled == 0 ? CURSOR_START : cursor->filled * 2;
	if (target < end)
		target = end;
	if (target > size)
		target = size;
	if (target > cursor->capacity)
	{
		uint8_t    *grown = realloc(cursor->bytes, target);

		if (grown == NULL)
			return out_of_memory(target, err);
		cursor->bytes = grown;
		cursor->capacity = target;
	}
	status = l3_reader_read(cursor->reader, cursor->filled, cursor->bytes + cursor->filled,
							target - cursor->filled, err);
	if (status != L3_OK)
		return status;
	cursor->filled = target;
	return L3_OK;
}

L3Status
l3_cursor_skip(L3Cursor *cursor, uint64_t n, L3Error *err)
{
	L3Status	status = l3_cursor_need(cursor, n, err);

	if (status == L3_OK)
		cursor->at += n;
	return status;
}

L3Status
l3_cursor_u32(L3Cursor *cursor, uint32_t *value, L3Error *err)
{
	L3Status	status = l3_cursor_need(cursor, sizeof(*value), err);

	if (status != L3_OK)
		return status;
	*value = l3_load_u32(cursor->bytes + cursor->at);
	cursor->at += sizeof(*value);
	return L3_OK;
}

L3Status
l3_cursor_u64(L3Cursor *cursor, uint64_t *value, L3Error *err)
{
	L3Status	status = l3_cursor_need(cursor, sizeof(*value), err);

	if (status != L3_OK)
		return status;
	*value = l3_load_u64(cursor->bytes + cursor->at);
	cursor->at += sizeof(*value);
	return L3_OK;
}

uint16_t
l3_load_u16(const void *p)
{
	uint16_t	value;

	memcpy(&value, p, sizeof(value));
	return value;
}

uint32_t
l3_load_u32(const void *p)
{
	uint32_t	value;

	memcpy(&value, p, sizeof(value));
	return value;
}

uint64_t
l3_load_u64(const void *p)
{
	uint64_t	value;

	memcpy(&value, p, sizeof(value));
	return value;
}
