/* utf8.c - see utf8.h.
 *
 * Whether a tail may still become a character is read from the lead byte's length and from the
 * bytes after it being continuations; overlong forms and surrogates are thus held back one byte
 * longer than they need to be, and then pass like everything else.
 */
#include "utf8.h"

#include <string.h>

static size_t sequence_size(unsigned char lead) {
    if (lead >= 0xc2 && lead <= 0xdf) return 2;
    if (lead >= 0xe0 && lead <= 0xef) return 3;
    if (lead >= 0xf0 && lead <= 0xf4) return 4;
    return 1;
}

size_t utf8_incomplete_tail(const char *text, size_t size) {
    for (size_t n = 1; n <= UTF8_MAX_HELD && n <= size; n++) {
        unsigned char c = (unsigned char)text[size - n];
        if ((c & 0xc0) != 0x80) return sequence_size(c) > n ? n : 0;
    }
    return 0;
}

size_t utf8_feed(utf8_stream *s, const char *in, size_t size, char *out) {
    size_t n = s->n_held;
    memcpy(out, s->held, n);
    if (size) memcpy(out + n, in, size);
    n += size;
    s->n_held = (uint8_t)utf8_incomplete_tail(out, n);
    n -= s->n_held;
    memcpy(s->held, out + n, s->n_held);
    return n;
}

size_t utf8_flush(utf8_stream *s, char *out) {
    size_t n = s->n_held;
    memcpy(out, s->held, n);
    s->n_held = 0;
    return n;
}
