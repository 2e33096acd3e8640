/* error.c - see error.h. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

ggufc_status error_set(ggufc_error *error, ggufc_status status, const char *format, ...) {
    if (!error) return status;
    error->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    for (char *c = error->text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return status;
}

const char *ggufc_status_name(ggufc_status status) {
    static const char *const names[] = {
        [GGUFC_OK] = "ok",
        [GGUFC_ERROR_OPTIONS] = "options",
        [GGUFC_ERROR_WEIGHTS] = "weights",
        [GGUFC_ERROR_MEMORY] = "memory",
        [GGUFC_ERROR_TOKEN] = "token",
        [GGUFC_ERROR_CONTEXT] = "context",
        [GGUFC_STOPPED] = "stopped",
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown";
}
