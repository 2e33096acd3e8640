/* error.h - how the runtime says what went wrong: a status and one line. */
#ifndef GGUFC_ERROR_H
#define GGUFC_ERROR_H

#include "ggufc/runtime.h"

/* Fills *error, unless it is NULL, and returns `status`, so that a check reads
   `return error_set(error, …)`. Control characters, which a path may hold, become '?'. */
ggufc_status error_set(ggufc_error *error, ggufc_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
