/* What a user sees of it: a line for each tensor, a line that tells how far it is, a summary. */
#include "quantize_job.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define ERASE "\r\033[K"

static bool shown; /* a line of progress stands on the terminal */

static const char *size_text(char *to, size_t room, uint64_t bytes) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1024 && unit + 1 < ARRAY_LEN(units)) n /= 1024, unit++;
    snprintf(to, room, unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
    return to;
}

static const char *shape_text(char *to, size_t room, const gguf_tensor *t) {
    size_t n = 0;
    for (uint32_t i = 0; i < t->n_dims && n < room; i++)
        n += (size_t)snprintf(to + n, room - n, "%s%" PRIu64, i ? " x " : "", t->dims[i]);
    return to;
}

/* ---- a tensor */

void quantize_print_tensor(const quantize_job *job, uint64_t index, FILE *to) {
    const quantize_tensor *t = &job->tensors[index];
    char before[32], after[32], shape[96];
    bool is_copy = t->quant == t->in->type;
    quantize_clear_progress();
    fprintf(to, "[%4" PRIu64 "/%4" PRIu64 "] %-28s %-14s %-4s", index + 1, job->n_tensors, t->shown,
            shape_text(shape, sizeof shape, t->in), quant_find(t->in->type)->name);
    size_text(before, sizeof before, t->in->bytes);
    if (is_copy)
        fprintf(to, " %20s", before);
    else
        fprintf(to, " -> %-7s %9s -> %9s", quant_find(t->quant)->name, before,
                size_text(after, sizeof after, t->bytes));
    double n = (double)(t->n_rows * t->in->dims[0]);
    if (!is_copy && t->n_done)
        fprintf(to, "  RMSE %.3g", sqrt(t->square_error / n));
    if (t->quant != t->wanted)
        fprintf(to, "  (rows of %" PRIu64 " are no whole blocks of %s)", t->in->dims[0],
                quant_find(t->wanted)->name);
    fputc('\n', to);
}

/* ---- progress */

void quantize_clear_progress(void) {
    if (shown) fputs(ERASE, stderr);
    shown = false;
}

void quantize_print_progress(const quantize_job *job, uint64_t index, uint64_t done, double seconds) {
    uint64_t all = 0;
    if (!isatty(STDERR_FILENO)) return;
    for (uint64_t i = 0; i < job->n_tensors; i++) all += job->tensors[i].n_rows * job->tensors[i].in->dims[0];
    double share = all ? (double)done / (double)all : 0;
    fprintf(stderr, ERASE "[%4" PRIu64 "/%4" PRIu64 "] %3.0f %%", index + 1, job->n_tensors, 100 * share);
    if (seconds > 1 && share > 0.01) fprintf(stderr, ", %.0f s left", seconds * (1 - share) / share);
    fprintf(stderr, "  %.40s", job->tensors[index].shown);
    fflush(stderr);
    shown = true;
}

/* ---- the summary */

typedef struct totals {
    uint64_t before, after, values;
    uint64_t of_type[QUANT_COUNT];
    double   square_error, square_sum;
} totals;

static totals add_up(const quantize_job *job) {
    totals s = { 0 };
    for (uint64_t i = 0; i < job->n_tensors; i++) {
        const quantize_tensor *t = &job->tensors[i];
        s.before += t->in->bytes;
        s.after += t->bytes;
        s.values += t->n_rows * t->in->dims[0];
        s.of_type[t->quant]++;
        s.square_error += t->square_error;
        s.square_sum += t->square_sum;
    }
    return s;
}

static void print_types(const totals *s, FILE *to) {
    uint64_t    left[QUANT_COUNT];
    const char *between = "  ";
    memcpy(left, s->of_type, sizeof left);
    for (;;) { /* the most frequent first */
        uint32_t most = 0;
        for (uint32_t i = 1; i < QUANT_COUNT; i++)
            if (left[i] > left[most]) most = i;
        if (!left[most]) break;
        fprintf(to, "%s%" PRIu64 " x %s", between, left[most], quant_find(most)->name);
        left[most] = 0;
        between = ", ";
    }
    fputc('\n', to);
}

void quantize_print_summary(const quantize_job *job, FILE *to) {
    const quantize_options *o = job->options;
    totals s = add_up(job);
    char   before[32], after[32];
    double bits = 8 / (double)s.values;
    fprintf(to, "%s: %s (%.2f bits per weight) -> %s (%.2f)", o->dry_run ? o->input : o->output,
            size_text(before, sizeof before, s.before), (double)s.before * bits,
            size_text(after, sizeof after, s.after), (double)s.after * bits);
    if (s.square_sum > 0)
        fprintf(to, ", relative RMSE %.3g %%", 100 * sqrt(s.square_error / s.square_sum));
    fputc('\n', to);
    print_types(&s, to);
    if (job->n_fallbacks)
        fprintf(to, "  %" PRIu64 " of %" PRIu64 " tensors are in another type than %s has for them: their "
                "rows are no whole blocks%s\n", job->n_fallbacks, job->n_tensors, o->mix->name,
                o->verbose || o->dry_run ? "" : " (-v lists them)");
    if (job->unprepared)
        fprintf(to, "  '%s' and perhaps others need an importance matrix: --imatrix FILE\n", job->unprepared);
}
