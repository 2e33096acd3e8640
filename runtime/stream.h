/* stream.h - bytes to a file descriptor, at once and whole.
 *
 * A token is written as it is made, so there is no buffer. A stream remembers that it failed:
 * after that nothing more is written, and one look at the end is enough.
 */
#ifndef GGUFC_STREAM_H
#define GGUFC_STREAM_H

#include <stdbool.h>
#include <stddef.h>

typedef struct stream {
    int fd;
    int failure; /* errno of the first write that failed; 0: none */
} stream;

/* Writes all of it; false when that, or something before it, failed. */
bool stream_write(stream *o, const char *data, size_t size);

/* The same for formatted text of less than 8 KiB. */
bool stream_printf(stream *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The reader has gone away (EPIPE), which is its right and no error of ours. */
bool stream_is_closed(const stream *o);

#endif
