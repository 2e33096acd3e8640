/* make_model_file.h - a file that appears under its name only when it is complete.
 *
 * Everything goes to NAME.tmp-PID beside it, which is renamed at the end, and removed on an error
 * or a signal. Errors stick: after the first, writing does nothing, and the message is given once,
 * by file_finish. */
#ifndef MAKE_MODEL_FILE_H
#define MAKE_MODEL_FILE_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILE_BUFFER_BYTES ((size_t)1 << 20)

typedef struct file_out {
    const char *path;
    FILE       *stream;
    char       *buffer; /* of the stream */
    uint64_t    written, expected; /* bytes */
    int         error;             /* errno of what failed first */
    double      started, shown;    /* seconds */
} file_out;

/* What a signal has to remove: it cannot be told by an argument. Empty while there is nothing. */
static char file_temporary[4096];

static inline double file_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void file_on_signal(int number) {
    unlink(file_temporary);
    signal(number, SIG_DFL);
    raise(number);
}

static inline void file_catch_signals(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (signal(numbers[i], SIG_IGN) != SIG_IGN) /* nohup stays nohup */
            signal(numbers[i], file_on_signal);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is to be an error of write() */
}

static inline bool file_complain(file_out *f) {
    fprintf(stderr, "make_model: %s: %s\n", f->path, strerror(f->error));
    return false;
}

static inline bool file_begin(file_out *f, const char *path) {
    *f = (file_out){.path = path, .started = file_clock()};
    f->shown = f->started + 1;
    int size = snprintf(file_temporary, sizeof file_temporary, "%s.tmp-%ld", path, (long)getpid());
    if (size < 0 || (size_t)size >= sizeof file_temporary) {
        file_temporary[0] = 0;
        f->error = ENAMETOOLONG;
        return file_complain(f);
    }
    file_catch_signals();
    f->stream = fopen(file_temporary, "wbx");
    if (!f->stream) {
        f->error = errno;
        file_temporary[0] = 0;
        return file_complain(f);
    }
    f->buffer = malloc(FILE_BUFFER_BYTES); /* ours: a size alone is not heeded by glibc */
    if (f->buffer)
        setvbuf(f->stream, f->buffer, _IOFBF, FILE_BUFFER_BYTES);
    return true;
}

static inline void file_show_progress(file_out *f) {
    double now = file_clock();
    if (now < f->shown || !f->expected || !isatty(STDERR_FILENO))
        return;
    f->shown = now + 0.2;
    fprintf(stderr, "\rmake_model: %s: %3.0f%% of %.2f GB", f->path,
            100.0 * (double)f->written / (double)f->expected, 1e-9 * (double)f->expected);
}

static inline void file_write(file_out *f, const void *data, size_t size) {
    if (f->error || !size)
        return;
    if (fwrite(data, 1, size, f->stream) != size)
        f->error = errno ? errno : EIO;
    f->written += size;
    file_show_progress(f);
}

static inline void file_pad(file_out *f, uint64_t alignment) {
    static const char zeros[64];
    uint64_t          over = f->written % alignment;
    if (over)
        file_write(f, zeros, (size_t)(alignment - over));
}

static inline void file_report(const file_out *f) {
    double took = file_clock() - f->started;
    if (took < 1)
        return;
    fprintf(stderr, "%smake_model: %s: %.2f GB in %.1f s\n",
            isatty(STDERR_FILENO) ? "\r\x1b[K" : "", f->path, 1e-9 * (double)f->written, took);
}

/* Completes the file, or removes it and says why. */
static inline bool file_finish(file_out *f) {
    if (fclose(f->stream) && !f->error)
        f->error = errno;
    free(f->buffer);
    if (!f->error && rename(file_temporary, f->path))
        f->error = errno;
    if (f->error) {
        unlink(file_temporary);
        if (f->shown > f->started + 1) /* progress is on this line */
            fputc('\n', stderr);
        return file_complain(f);
    }
    file_temporary[0] = 0;
    file_report(f);
    return true;
}

#endif
