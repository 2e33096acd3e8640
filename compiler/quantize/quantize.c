#include "quantize_job.h"

#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool read_importance(quantize_job *job) {
    quantize_options *o = job->options;
    if (!o->imatrix) return true;
    job->importance = imatrix_read(job->memory, job->messages, o->imatrix);
    if (!job->importance) return false;
    if (o->include.n) imatrix_select(job->importance, o->include.items, o->include.n, false);
    if (o->exclude.n) imatrix_select(job->importance, o->exclude.items, o->exclude.n, true);
    if (job->importance->n_entries) return true;
    diag_warning(job->messages, "%s: no entry is left to be used", o->imatrix);
    job->importance = NULL;
    return true;
}

static bool read_input(quantize_job *job) {
    job->file = gguf_open(job->memory, job->messages, job->options->input);
    if (!job->file) return false;
    if (job->file->n_tensors) return true;
    return diag_error(job->messages, "%s: holds no tensors", job->file->path);
}

/* A disk without room, or a limit to a file's size, shows now rather than after hours. */
static bool reserve(quantize_job *job, int fd) {
    bool failed = fallocate(fd, 0, 0, (off_t)job->bytes) != 0 &&
                  (errno == ENOSPC || errno == EFBIG || errno == EDQUOT);
    if (!failed) failed = ftruncate(fd, (off_t)job->bytes) != 0;
    if (failed)
        return diag_error(job->messages, "%s: cannot be written: its %.1f MiB: %s", job->options->output,
                          (double)job->bytes / (1 << 20), strerror(errno));
    return true;
}

static bool write_file(quantize_job *job, const char *path) {
    const char *output = job->options->output;
    int         fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return diag_error(job->messages, "%s: cannot be written: %s", output, strerror(errno));
    bool ok = reserve(job, fd) && quantize_write_rows(job, fd);
    if (close(fd) && ok) ok = diag_error(job->messages, "%s: cannot be written: %s", output, strerror(errno));
    return ok;
}

static bool write_output(quantize_job *job) {
    const char *path = job->options->output, *temporary = output_temporary(job->memory, path);
    bool        ok = write_file(job, temporary) && output_commit(job->messages, temporary, path);
    if (!ok) output_discard(temporary);
    return ok;
}

static bool print_plan(const quantize_job *job) {
    for (uint64_t i = 0; i < job->n_tensors; i++) quantize_print_tensor(job, i, stdout);
    quantize_print_summary(job, stdout);
    if (fflush(stdout) || ferror(stdout))
        return diag_error(job->messages, "standard output: %s", strerror(errno));
    return true;
}

static bool check_output(const quantize_job *job) {
    const quantize_options *o = job->options;
    const char **inputs = ARENA_ARRAY(job->memory, const char *, o->pattern_files.n + 3);
    uint32_t     n = 0;
    inputs[n++] = o->input;
    for (uint32_t i = 0; i < o->pattern_files.n; i++) inputs[n++] = o->pattern_files.items[i];
    inputs[n++] = o->imatrix;
    inputs[n] = NULL;
    return o->dry_run || output_check(job->messages, o->output, inputs);
}

static bool run(quantize_job *job) {
    if (!check_output(job) || !read_input(job) || !read_importance(job)) return false;
    if (!quantize_choose(job) || !quantize_make_header(job)) return false;
    if (job->options->dry_run) return print_plan(job);
    if (!write_output(job)) return false;
    quantize_print_summary(job, stderr);
    return true;
}

bool quantize_file(quantize_options *o, diag *d) {
    quantize_job job = { .options = o, .memory = arena_new(), .messages = d };
    bool         ok = run(&job);
    gguf_header_free(&job.header);
    gguf_close(job.file);
    arena_free(job.memory);
    return ok;
}
