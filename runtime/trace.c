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
#include "path.h"
#include "session.h"
#include "split.h"

enum { GGUF_TYPE_I32 = 5, GGUF_TYPE_STRING = 8, GGUF_TYPE_ARRAY = 9, GGUF_VERSION = 3 };
enum { TENSOR_F32 = 0, ALIGNMENT = 32, MAX_PATH = 4096 };

typedef struct trace {
    const ggufc_model   *model;
    const trace_request *request;
    uint64_t *offsets; /* in the file, of each activation's first column; 0: left out */
    uint64_t  n_columns, end;
    uint8_t  *header; /* NULL once memory has run out */
    size_t    header_size, header_room;
    int       fd;
    int       failure; /* errno of the first write that failed */
} trace;

/* ---- the header */

static void put(trace *t, const void *data, size_t size) {
    if (!t->header) return;
    if (t->header_size + size > t->header_room) {
        size_t   room = 2 * (t->header_room + size);
        uint8_t *more = realloc(t->header, room);
        if (!more) free(t->header);
        t->header = more;
        t->header_room = room;
        if (!more) return;
    }
    memcpy(t->header + t->header_size, data, size);
    t->header_size += size;
}

static void put_u32(trace *t, uint32_t n) {
    put(t, &n, sizeof n);
}

static void put_u64(trace *t, uint64_t n) {
    put(t, &n, sizeof n);
}

static void put_string(trace *t, const char *text) {
    put_u64(t, strlen(text));
    put(t, text, strlen(text));
}

static void put_text(trace *t, const char *key, const char *text) {
    put_string(t, key);
    put_u32(t, GGUF_TYPE_STRING);
    put_string(t, text);
}

static void put_tokens(trace *t) {
    put_string(t, "activations.tokens");
    put_u32(t, GGUF_TYPE_ARRAY);
    put_u32(t, GGUF_TYPE_I32);
    put_u64(t, t->request->n_tokens);
    put(t, t->request->tokens, t->request->n_tokens * sizeof(int32_t));
}

static uint64_t row_bytes(const ggufc_activation *a) {
    return a->ne[0] * a->ne[1] * a->ne[2] * sizeof(float);
}

static bool is_wanted(const trace *t, const ggufc_activation *a) {
    return !t->request->filter || fnmatch(t->request->filter, a->name, 0) == 0;
}

/* The description of a tensor whose data stands `at` bytes into the data. */
static void put_tensor(trace *t, const ggufc_activation *a, uint64_t at) {
    uint32_t n_dims = a->ne[2] > 1 ? 3 : a->ne[1] > 1 ? 2 : 1;
    put_string(t, a->name);
    put_u32(t, n_dims + 1);
    for (uint32_t i = 0; i < n_dims; i++) put_u64(t, a->ne[i]);
    put_u64(t, t->n_columns);
    put_u32(t, TENSOR_F32);
    put_u64(t, at);
}

static uint64_t round_up(uint64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_header(trace *t, uint64_t n_tensors) {
    char producer[256];
    snprintf(producer, sizeof producer, "%s, %s", t->model->compiler, t->model->target);
    put(t, "GGUF", 4);
    put_u32(t, GGUF_VERSION);
    put_u64(t, n_tensors);
    put_u64(t, 4);
    put_text(t, "general.type", "activations");
    put_text(t, "activations.producer", producer);
    put_text(t, "activations.model", path_base_name(t->model->path));
    put_tokens(t);
    uint64_t at = 0;
    for (uint64_t i = 0; i < t->model->n_activations; i++) {
        const ggufc_activation *a = &t->model->activations[i];
        if (!is_wanted(t, a)) continue;
        put_tensor(t, a, at);
        t->offsets[i] = at;
        at += round_up(row_bytes(a) * t->n_columns);
    }
    static const uint8_t zeros[ALIGNMENT];
    put(t, zeros, round_up(t->header_size) - t->header_size);
    for (uint64_t i = 0; i < t->model->n_activations; i++)
        if (is_wanted(t, &t->model->activations[i])) t->offsets[i] += t->header_size;
    t->end = t->header_size + at;
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
    write_at(t, t->header, t->header_size, 0);
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
    trace t = { .model = session_model(session), .request = request };
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
    t.header = malloc(t.header_room = 4096);
    if (t.offsets && t.header) put_header(&t, n);
    if (t.offsets && t.header)
        status = write_all(&t, session, temporary, error);
    else
        status = error_set(error, GGUFC_ERROR_MEMORY, "out of memory");
    *report = (trace_report){ n, t.end };
    free(t.offsets);
    free(t.header);
    return status;
}
