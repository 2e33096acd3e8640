/* stream.c - see stream.h. */
#include "stream.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

bool stream_write(stream *o, const char *data, size_t size) {
    while (size > 0 && !o->failure) {
        ssize_t n = write(o->fd, data, size);
        if (n >= 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            poll(&(struct pollfd){ .fd = o->fd, .events = POLLOUT }, 1, -1);
        } else if (errno != EINTR) {
            o->failure = errno;
        }
    }
    return !o->failure;
}

bool stream_printf(stream *o, const char *format, ...) {
    char text[8192];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) n = 0;
    return stream_write(o, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

bool stream_is_closed(const stream *o) {
    return o->failure == EPIPE;
}
