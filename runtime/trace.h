/* trace.h - every named activation of a text, written to a file.
 *
 * The file is a GGUF: general.type is "activations", activations.tokens (i32) the ids,
 * activations.model and activations.producer say what made it; then an F32 tensor for each
 * activation, in order of execution, a column for each token. Of the last token alone with
 * `last_token`: a tensor of fewer columns than there are tokens holds the last ones.
 *
 * Only a model compiled with --trace has activations. The file appears whole or not at all.
 */
#ifndef GGUFC_TRACE_H
#define GGUFC_TRACE_H

#include <signal.h>
#include <stdbool.h>

#include "ggufc/runtime.h"

typedef struct trace_request {
    const char    *path;
    const int32_t *tokens; /* from position 0 on: the session's context is empty */
    size_t         n_tokens;
    const char    *filter; /* a pattern as the shell's, "Qcur-*"; NULL: all */
    bool           last_token;
    const volatile sig_atomic_t *stop; /* ends it with GGUFC_STOPPED; may be NULL */
} trace_request;

typedef struct trace_report {
    uint64_t n_activations, bytes; /* in the file */
} trace_report;

/* Errors: no activation fits the filter; the path is a folder, a link, a device or the weights; the
   file cannot be written; those of ggufc_session_trace. */
ggufc_status trace_write(ggufc_session *session, const trace_request *request,
                         trace_report *report, ggufc_error *error);

#endif
