/* cli_bench.c - see cli_bench.h. */
#include "cli_bench.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "clock.h"
#include "error.h"
#include "generate.h"
#include "session.h"

enum { BENCH_PROMPT = 512, BENCH_GENERATE = 128 };

typedef struct bench {
    ggufc_session       *session;
    const cli_bench_request *request;
    int32_t             *tokens;
    uint64_t            *ns; /* of each run */
    int64_t              n_read; /* from the disk while it was measured: faults, each of some pages */
} bench;

static uint32_t size_or(uint32_t wanted, uint32_t otherwise, uint32_t limit) {
    if (wanted) return wanted;
    return otherwise < limit ? otherwise : limit;
}

static int compare_ns(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double median_seconds(uint64_t *ns, uint32_t count) {
    qsort(ns, count, sizeof *ns, compare_ns);
    uint64_t twice = ns[(count - 1) / 2] + ns[count / 2];
    return (double)twice / 2e9;
}

/* How often this process had to wait for the disk to bring a page. */
static int64_t count_disk_reads(void) {
    struct rusage used;
    return getrusage(RUSAGE_SELF, &used) == 0 ? used.ru_majflt : 0;
}

/* Evaluates `count` tokens in pieces, with the logits after each piece, behind the first `depth` of
   the context. */
static ggufc_status bench_pass(bench *b, uint32_t depth, uint32_t count, uint32_t piece,
                               ggufc_error *error) {
    ggufc_status status = ggufc_session_truncate(b->session, depth, error);
    for (uint32_t i = 0; i < count && status == GGUFC_OK; i += piece) {
        if (b->request->stop && *b->request->stop)
            return error_set(error, GGUFC_STOPPED, "interrupted");
        uint32_t n = count - i < piece ? count - i : piece;
        status = ggufc_session_evaluate(b->session, b->tokens + i, n, error);
        if (status == GGUFC_OK && (piece == 1 || i + n == count)) ggufc_session_logits(b->session);
    }
    return status;
}

static ggufc_status bench_measure(bench *b, const char *name, uint32_t count, uint32_t piece,
                                  stream *out, ggufc_error *error) {
    uint32_t depth = b->request->depth;
    ggufc_status status = bench_pass(b, depth, count, piece, error);
    int64_t n_read_before = count_disk_reads();
    for (uint32_t run = 0; run < b->request->n_runs && status == GGUFC_OK; run++) {
        uint64_t start = clock_ns();
        status = bench_pass(b, depth, count, piece, error);
        b->ns[run] = clock_ns() - start;
    }
    b->n_read += count_disk_reads() - n_read_before;
    if (status != GGUFC_OK) return status;
    double seconds = median_seconds(b->ns, b->request->n_runs);
    stream_printf(out,
                  "%-8s %5" PRIu32 " tokens  %10.3f ms  %10.2f tokens/s  (median of %" PRIu32
                  ", %" PRIu32 " threads)\n",
                  name, count, seconds * 1e3, count / seconds, b->request->n_runs,
                  ggufc_session_n_threads(b->session));
    return GGUFC_OK;
}

static ggufc_status bench_both(bench *b, uint32_t n_prompt, uint32_t n_generate, stream *out,
                               ggufc_error *error) {
    uint32_t most = n_prompt > n_generate ? n_prompt : n_generate;
    uint32_t depth = b->request->depth;
    const ggufc_model *model = ggufc_session_model(b->session);
    if (depth > most) most = depth;
    b->tokens = malloc(most * sizeof *b->tokens);
    b->ns = malloc(b->request->n_runs * sizeof *b->ns);
    if (!b->tokens || !b->ns) return error_set(error, GGUFC_ERROR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < most; i++)
        b->tokens[i] = (int32_t)((i + 1) * UINT64_C(2654435761) % model->n_vocab);

    ggufc_status status = bench_pass(b, 0, depth, model->n_batch, error);
    if (status == GGUFC_OK) status = bench_measure(b, "prefill", n_prompt, model->n_batch, out, error);
    if (status == GGUFC_OK) status = bench_measure(b, "decode", n_generate, 1, out, error);
    if (status == GGUFC_OK && b->n_read)
        stream_printf(out,
                      "%" PRId64 " times weights were read from the disk meanwhile: something pushes them out "
                      "of memory, see --mlock\n",
                      b->n_read);
    ggufc_session_truncate(b->session, 0, NULL);
    return status;
}

static ggufc_status bench_refuse(const cli_bench_request *request, uint32_t count, uint32_t n_ctx,
                                 ggufc_error *error) {
    char behind[48] = "";
    if (request->depth) snprintf(behind, sizeof behind, " behind %" PRIu32, request->depth);
    return error_set(error, GGUFC_ERROR_CONTEXT,
                     "%" PRIu32 " tokens%s cannot be measured, the context has room for %" PRIu32,
                     count ? count : 1, behind, n_ctx);
}

ggufc_status cli_bench_run(ggufc_session *session, const cli_bench_request *request, stream *out,
                           ggufc_error *error) {
    uint32_t n_ctx = ggufc_session_n_ctx(session);
    uint32_t room = request->depth < n_ctx ? n_ctx - request->depth : 0;
    uint32_t n_prompt = size_or(request->n_prompt, BENCH_PROMPT, room);
    uint32_t n_generate = size_or(request->n_generate, BENCH_GENERATE, room);
    if (room == 0 || n_prompt > room || n_generate > room)
        return bench_refuse(request, n_prompt > room ? n_prompt : n_generate, n_ctx, error);
    bench b = { .session = session, .request = request };
    ggufc_status status = bench_both(&b, n_prompt, n_generate, out, error);
    free(b.tokens);
    free(b.ns);
    return status;
}
