/* weights.c - see weights.h. */
#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "path.h"

/* The file `name` in the directory of the running executable. */
static bool path_beside_executable(char *path, size_t size, const char *name) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash) return false;
    slash[1] = '\0';
    return (size_t)snprintf(path, size, "%s%s", self, name) < size;
}

static bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

static ggufc_status weights_find(weights *w, const ggufc_model *model, ggufc_error *error) {
    const char *name = path_base_name(model->path);
    bool beside = path_beside_executable(w->path, sizeof w->path, name);
    if (beside && file_exists(w->path)) return GGUFC_OK;
    if (file_exists(model->path)) {
        snprintf(w->path, sizeof w->path, "%s", model->path);
        return GGUFC_OK;
    }
    return error_set(error, GGUFC_ERROR_WEIGHTS,
                     "%s: weights not found, neither beside the executable nor at %s", name,
                     model->path);
}

static ggufc_status check_size(const weights *w, const ggufc_model *model, const struct stat *st,
                               ggufc_error *error) {
    if (!S_ISREG(st->st_mode))
        return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: not a regular file", w->path);
    if ((uint64_t)st->st_size != model->file_bytes)
        return error_set(error, GGUFC_ERROR_WEIGHTS,
                         "%s: not the file this was compiled from: it has %" PRIu64
                         " bytes, expected %" PRIu64,
                         w->path, (uint64_t)st->st_size, model->file_bytes);
    return GGUFC_OK;
}

static ggufc_status check_index(const weights *w, const ggufc_model *model, ggufc_error *error) {
    uint64_t hash = ggufc_index_hash(w->data + model->index_offset, model->index_bytes);
    if (hash == model->index_hash) return GGUFC_OK;
    return error_set(error, GGUFC_ERROR_WEIGHTS,
                     "%s: not the file this was compiled from: its index hashes to %016" PRIx64
                     ", expected %016" PRIx64,
                     w->path, hash, model->index_hash);
}

enum {
    HUGE_PAGE_BYTES = 2 << 20,
    HUGE_PAGES_LEAST = 32, /* weights of fewer are read from a cache in any case */
};

/* Asks for huge pages, which a system may not have: fewer misses of the TLB. A file gets them when the
   system reads it into its cache from then on. */
static void prefer_huge_pages(void *data, uint64_t bytes) {
    if (bytes >= (uint64_t)HUGE_PAGES_LEAST * HUGE_PAGE_BYTES) madvise(data, bytes, MADV_HUGEPAGE);
}

static ggufc_status fail_to(const char *what, const weights *w, ggufc_error *error) {
    return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: cannot %s: %s", w->path, what, strerror(errno));
}

static ggufc_status weights_map(weights *w, const ggufc_model *model, int fd, ggufc_error *error) {
    /* Without MAP_POPULATE: mapping pages one by one as they are read was measured to bring the
       first token sooner, by a fifth for a file of 1 GB. */
    void *data = mmap(NULL, model->file_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return fail_to("map", w, error);
    w->data = data;
    w->mapped_bytes = model->file_bytes;
    prefer_huge_pages(data, model->file_bytes);
    return GGUFC_OK;
}

static ggufc_status weights_read(weights *w, const ggufc_model *model, int fd, ggufc_error *error) {
    uint64_t bytes = model->file_bytes + HUGE_PAGE_BYTES; /* the end, too, lies in a whole huge page */
    uint8_t *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return fail_to("make room to read", w, error);
    w->data = data;
    w->mapped_bytes = bytes;
    prefer_huge_pages(data, bytes);
    for (uint64_t at = 0; at < model->file_bytes;) {
        ssize_t n = pread(fd, data + at, model->file_bytes - at, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_to("read", w, error);
        if (n == 0) return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: became shorter while it was read", w->path);
        at += (uint64_t)n;
    }
    mprotect(data, bytes, PROT_READ);
    return GGUFC_OK;
}

static ggufc_status weights_load(weights *w, const ggufc_model *model, bool copy, int fd, ggufc_error *error) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: %s", w->path, strerror(errno));
    ggufc_status status = check_size(w, model, &st, error);
    if (status == GGUFC_OK) status = copy ? weights_read(w, model, fd, error) : weights_map(w, model, fd, error);
    return status == GGUFC_OK ? check_index(w, model, error) : status;
}

ggufc_status weights_open(weights *w, const ggufc_model *model, const char *path, bool copy,
                          ggufc_error *error) {
    memset(w, 0, sizeof *w);
    if (!path && model->embedded) {
        w->data = model->embedded;
        snprintf(w->path, sizeof w->path, "(embedded)");
        return GGUFC_OK;
    }
    if (!path) {
        ggufc_status status = weights_find(w, model, error);
        if (status != GGUFC_OK) return status;
    } else if ((size_t)snprintf(w->path, sizeof w->path, "%s", path) >= sizeof w->path) {
        return error_set(error, GGUFC_ERROR_WEIGHTS, "the path of the weights is too long");
    }
    /* O_NONBLOCK: a pipe is refused, not waited for. */
    int fd = open(w->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: %s", w->path, strerror(errno));
    ggufc_status status = weights_load(w, model, copy, fd, error);
    close(fd);
    if (status != GGUFC_OK) weights_close(w);
    return status;
}

void weights_close(weights *w) {
    if (w->mapped_bytes) munmap((void *)w->data, w->mapped_bytes);
    w->data = NULL;
    w->mapped_bytes = 0;
}
