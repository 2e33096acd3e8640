/* utf8.h - lets bytes through in whole UTF-8 sequences.
 *
 * Byte tokens give a character in pieces; a terminal, a pipe or a callback should see it whole. A
 * utf8_stream holds back up to three bytes at the end of what it was given, and only where they
 * may still become a character. Nothing is changed, added or lost: all output put together is all
 * input put together. Bytes that are no UTF-8 pass through as they are, like in llama.cpp's output,
 * so that two programs' output can be compared byte by byte and a prompt that is not UTF-8 comes
 * out as it went in; whoever needs valid UTF-8 replaces them behind this.
 */
#ifndef GGUFC_RUNTIME_UTF8_H
#define GGUFC_RUNTIME_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_MAX_HELD 3

/* All zero is the start. */
typedef struct utf8_stream {
    char held[UTF8_MAX_HELD];
    uint8_t n_held;
} utf8_stream;

/* Takes `size` bytes and writes what is complete to `out`, which has room for size + UTF8_MAX_HELD
   bytes and does not overlap `in`. Returns the number of bytes written. */
size_t utf8_feed(utf8_stream *s, const char *in, size_t size, char *out);

/* Writes the bytes held back, at most UTF8_MAX_HELD, and starts anew. Returns their number. */
size_t utf8_flush(utf8_stream *s, char *out);

/* How many of the last bytes of `text`, 0 … 3, begin a sequence that is not complete. */
size_t utf8_incomplete_tail(const char *text, size_t size);

#endif
