#include "diag.h"

#include <stdio.h>

static const char *const level_names[] = {
    [DIAG_NOTE] = "note",
    [DIAG_WARNING] = "warning",
    [DIAG_ERROR] = "error",
};

/* Input may hold anything; a terminal must not be driven by it, and a message is one line. */
static void escape(char *to, size_t size, const char *from) {
    size_t n = 0;
    for (; *from && n + 5 < size; from++) {
        unsigned char c = (unsigned char)*from;
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(to + n, size - n, "\\x%02x", c);
        else
            to[n++] = (char)c;
    }
    to[n] = 0;
}

static void report(diag *d, enum diag_level level, const char *format, va_list args) {
    char raw[1024], line[1400];
    vsnprintf(raw, sizeof raw, format, args);
    escape(line, sizeof line, raw);
    if (level == DIAG_ERROR) d->n_errors++;
    if (d->sink)
        d->sink(d->user, level, line);
    else
        fprintf(stderr, "ggufc: %s: %s\n", level_names[level], line);
}

bool diag_error(diag *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(d, DIAG_ERROR, format, args);
    va_end(args);
    return false;
}

void diag_warning(diag *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(d, DIAG_WARNING, format, args);
    va_end(args);
}

void diag_note(diag *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(d, DIAG_NOTE, format, args);
    va_end(args);
}
