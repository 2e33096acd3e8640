/* trace.c - see trace.h.
 *
 * Sizes are known before anything is evaluated, so the header is written first and each row goes
 * straight to its place: a long text takes no more memory than a short one. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "gguf_header.h"
#include "path.h"
#include "session.h"
#include "split.h"

enum { TENSOR_F32 = 0, ALIGNMENT = 32, MAX_PATH = 4096 };

typedef struct trace {
    const ggufc_model   *model;
    const trace_request *request;
    uint64_t *offsets; /* in the file, of each activation's first column; 0: left out */
    uint64_t  n_columns, end;
    gguf_header header;
    int       fd;
    int       failure; /* errno of the first write that failed */
} trace;

/* ---- the header */

static uint64_t row_bytes(const ggufc_activation *a) {
    return a->ne[0] * a->ne[1] * a->ne[2] * sizeof(float);
}

static bool is_wanted(const trace *t, const ggufc_activation *a) {
    return !t->request->filter || fnmatch(t->request->filter, a->name, 0) == 0;
}

/* Returns where its data stands behind the header. */
static uint64_t put_tensor(trace *t, const ggufc_activation *a) {
    uint32_t n_dims = a->ne[2] > 1 ? 3 : a->ne[1] > 1 ? 2 : 1;
    uint64_t dims[4] = { a->ne[0], a->ne[1], a->ne[2] };
    dims[n_dims] = t->n_columns;
    return gguf_header_put_tensor(&t->header, a->name, strlen(a->name), n_dims + 1, dims, TENSOR_F32,
                                  row_bytes(a) * t->n_columns);
}

static void put_text(trace *t, const char *key, const char *text) {
    gguf_header_put_text(&t->header, key, text, strlen(text));
}

/* False: out of memory. */
static bool put_header(trace *t) {
    char producer[256];
    snprintf(producer, sizeof producer, "%s, %s", t->model->compiler, t->model->target);
    gguf_header_begin(&t->header, ALIGNMENT);
    put_text(t, "general.type", "activations");
    put_text(t, "activations.producer", producer);
    put_text(t, "activations.model", path_base_name(t->model->path));
    gguf_header_put_i32s(&t->header, "activations.tokens", t->request->tokens, t->request->n_tokens);
    for (uint64_t i = 0; i < t->model->n_activations; i++)
        if (is_wanted(t, &t->model->activations[i])) t->offsets[i] = put_tensor(t, &t->model->activations[i]);
    if (!gguf_header_end(&t->header)) return false;
    for (uint64_t i = 0; i < t->model->n_activations; i++)
        if (is_wanted(t, &t->model->activations[i])) t->offsets[i] += t->header.size;
    t->end = t->header.size + t->header.data_bytes;
    return true;
}

/* ---- data */

static bool write_at(trace *t, const void *data, uint64_t size, uint64_t at) {
    const uint8_t *from = data;
    while (size && !t->failure) {
        ssize_t n = pwrite(t->fd, from, size, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            t->failure = n ? errno : EIO;
            break;
        }
        from += n;
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return !t->failure;
}

static int keep_rows(void *context, uint32_t activation, uint32_t position, uint32_t count,
                     const float *values, uint64_t stride) {
    trace *t = context;
    uint64_t bytes = row_bytes(&t->model->activations[activation]);
    uint64_t skipped = t->request->n_tokens - t->n_columns; /* columns that are not kept */
    if (t->request->stop && *t->request->stop) return 1;
    for (uint32_t i = 0; t->offsets[activation] && i < count; i++) {
        if (position + i < skipped) continue;
        uint64_t at = t->offsets[activation] + (position + i - skipped) * bytes;
        if (!write_at(t, (const uint8_t *)values + i * stride, bytes, at)) return 1;
    }
    return 0;
}

/* ---- the file */

static ggufc_status check_path(const ggufc_session *session, const char *path, ggufc_error *error) {
    struct stat out;
    if (lstat(path, &out) != 0) return GGUFC_OK; /* what else is wrong shows when it is written */
    if (!S_ISREG(out.st_mode))
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s: is no regular file to be replaced", path);
    if (split_has_file(ggufc_session_weights_path(session), &out))
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s: is the weights file", path);
    return GGUFC_OK;
}

static ggufc_status write_all(trace *t, ggufc_session *session, const char *temporary,
                              ggufc_error *error) {
    const trace_request *r = t->request;
    t->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (t->fd < 0)
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s: cannot be written: %s", r->path,
                         strerror(errno));
    ggufc_status status = GGUFC_OK;
    write_at(t, t->header.data, t->header.size, 0);
    if (!t->failure && ftruncate(t->fd, (off_t)t->end) != 0) t->failure = errno;
    if (!t->failure)
        status = ggufc_session_trace(session, r->tokens, r->n_tokens, keep_rows, t, error);
    if (close(t->fd) != 0 && !t->failure) t->failure = errno;
    if (!t->failure && status == GGUFC_OK && rename(temporary, r->path) != 0) t->failure = errno;
    if (t->failure)
        status = error_set(error, GGUFC_ERROR_OPTIONS, "%s: cannot be written: %s", r->path,
                           strerror(t->failure));
    if (status != GGUFC_OK) unlink(temporary);
    return status;
}

static uint64_t count_wanted(const trace *t) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < t->model->n_activations; i++) n += is_wanted(t, &t->model->activations[i]);
    return n;
}

ggufc_status trace_write(ggufc_session *session, const trace_request *request,
                         trace_report *report, ggufc_error *error) {
    trace t = { .model = ggufc_session_model(session), .request = request };
    char  temporary[MAX_PATH];
    t.n_columns = request->last_token ? 1 : request->n_tokens;
    uint64_t n = count_wanted(&t);
    if (!t.model->activations)
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         "compiled without --trace: its activations are not kept");
    if (!n)
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         "no activation is called '%s'; they have names like %s", request->filter,
                         t.model->activations[t.model->n_activations / 2].name);
    ggufc_status status = check_path(session, request->path, error);
    if (status != GGUFC_OK) return status;
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.tmp%ld", request->path, (long)getpid()) >=
        sizeof temporary)
        return error_set(error, GGUFC_ERROR_OPTIONS, "the path of the trace is too long");
    t.offsets = calloc(t.model->n_activations + 1, sizeof *t.offsets);
    if (t.offsets && put_header(&t))
        status = write_all(&t, session, temporary, error);
    else
        status = error_set(error, GGUFC_ERROR_MEMORY, "out of memory");
    *report = (trace_report){ n, t.end };
    free(t.offsets);
    gguf_header_free(&t.header);
    return status;
}
