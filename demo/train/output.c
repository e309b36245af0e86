/*-------------------------------------------------------------------------
 *
 * output.c
 *	  A file that appears under its name only when it is whole.
 *
 * Written under a temporary name, flushed to disk and renamed: whoever finds
 * the name finds a whole file, whatever happened in between.
 *
 *-------------------------------------------------------------------------
 */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
tr_output_begin(TrOutput *out, const char *path)
{
	size_t		size = strlen(path) + sizeof(".tmp");

	out->path = tr_alloc(size);
	out->temporary = tr_alloc(size);
	snprintf(out->path, size, "%s", path);
	snprintf(out->temporary, size, "%s.tmp", path);
	out->file = fopen(out->temporary, "wb");
	if (out->file == NULL)
		tr_fail("could not create file \"%s\": %s", out->temporary, strerror(errno));
}

static void
fail_write(TrOutput *out)
{
	int			saved_errno = errno;

	unlink(out->temporary);
	tr_fail("could not write file \"%s\": %s", out->temporary, strerror(saved_errno));
}

void
tr_output_write(TrOutput *out, const void *data, size_t size)
{
	if (fwrite(data, 1, size, out->file) != size)
		fail_write(out);
}

void
tr_output_commit(TrOutput *out)
{
	if (fflush(out->file) != 0 || fsync(fileno(out->file)) != 0 || fclose(out->file) != 0)
		fail_write(out);
	if (rename(out->temporary, out->path) != 0)
		tr_fail("could not rename file \"%s\" to \"%s\": %s",
				out->temporary, out->path, strerror(errno));
	free(out->path);
	free(out->temporary);
}
