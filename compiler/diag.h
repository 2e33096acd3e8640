/* diag.h - how the compiler speaks of bad input: one clear line per problem. */
#ifndef GGUFC_DIAG_H
#define GGUFC_DIAG_H

#include "base.h"

enum diag_level { DIAG_NOTE, DIAG_WARNING, DIAG_ERROR };

/* Receives each message: one line of UTF-8 without its newline, control characters of the input
   already escaped. */
typedef void diag_sink(void *user, enum diag_level level, const char *line);

typedef struct diag {
    diag_sink *sink; /* NULL: standard error, as "ggufc: error: LINE" */
    void      *user;
    unsigned   n_errors;
} diag;

/* Reports an error and returns false, so that a check reads `return diag_error(d, …)`. A message
   names the file, the offset or key, what was found and what was expected. */
bool diag_error(diag *d, const char *format, ...) PRINTF_LIKE(2, 3);
void diag_warning(diag *d, const char *format, ...) PRINTF_LIKE(2, 3);
void diag_note(diag *d, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
