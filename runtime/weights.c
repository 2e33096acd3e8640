/* weights.c - see weights.h. */
#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "path.h"
#include "split.h"

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

enum { HUGE_PAGE_BYTES = 2 << 20 };

/* One file that is to be loaded, the only one or a part. */
typedef struct source {
    char       path[PATH_MAX];
    ggufc_part part;  /* what is expected of it, and where it goes */
    char       is[48]; /* "the file", "part 2 of the 3" */
} source;

/* ---- which files */

static uint64_t count_files(const ggufc_model *model) {
    return model->n_parts ? model->n_parts : 1;
}

static uint64_t range_bytes(const ggufc_model *model) {
    if (!model->n_parts) return model->file_bytes;
    const ggufc_part *last = &model->parts[model->n_parts - 1];
    return last->offset + last->bytes;
}

/* What is known of file i, but for its path. */
static void expect_part(const ggufc_model *model, uint64_t i, source *s) {
    s->part = model->n_parts ? model->parts[i]
                             : (ggufc_part){ 0, model->file_bytes, model->index_offset, model->index_bytes,
                                             model->index_hash };
    if (model->n_parts)
        snprintf(s->is, sizeof s->is, "part %" PRIu64 " of the %" PRIu64, i + 1, model->n_parts);
    else
        snprintf(s->is, sizeof s->is, "the file");
}

/* The path was found to be a part's. */
static ggufc_status find_source(const weights *w, const ggufc_model *model, uint64_t i, source *s,
                                ggufc_error *error) {
    split_name name;
    expect_part(model, i, s);
    memcpy(s->path, w->path, sizeof s->path);
    if (!model->n_parts || (split_read_name(w->path, &name) &&
                            split_write_path(s->path, sizeof s->path, w->path, &name, (uint32_t)i + 1)))
        return GGUFC_OK;
    return error_set(error, GGUFC_ERROR_WEIGHTS, "the path of the weights is too long");
}

/* `w->path` may be any part: from here on it is the first. */
static ggufc_status go_to_first(weights *w, const ggufc_model *model, ggufc_error *error) {
    split_name name;
    if (!model->n_parts) return GGUFC_OK;
    if (!split_read_name(w->path, &name) || name.count != model->n_parts)
        return error_set(error, GGUFC_ERROR_WEIGHTS,
                         "%s: not a part of what this was compiled from: the name of its first part ends in "
                         "-00001-of-%05" PRIu64 ".gguf",
                         w->path, model->n_parts);
    char path[PATH_MAX];
    memcpy(path, w->path, sizeof path);
    split_write_path(w->path, sizeof w->path, path, &name, 1);
    return GGUFC_OK;
}

/* ---- whether it is the one */

static ggufc_status check_size(const source *s, const struct stat *st, ggufc_error *error) {
    if (!S_ISREG(st->st_mode))
        return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: not a regular file", s->path);
    if ((uint64_t)st->st_size != s->part.bytes)
        return error_set(error, GGUFC_ERROR_WEIGHTS,
                         "%s: not %s this was compiled from: it has %" PRIu64 " bytes, expected %" PRIu64,
                         s->path, s->is, (uint64_t)st->st_size, s->part.bytes);
    return GGUFC_OK;
}

static ggufc_status check_index(const weights *w, const source *s, ggufc_error *error) {
    uint64_t hash = ggufc_index_hash(w->data + s->part.offset + s->part.index_offset, s->part.index_bytes);
    if (hash == s->part.index_hash) return GGUFC_OK;
    return error_set(error, GGUFC_ERROR_WEIGHTS,
                     "%s: not %s this was compiled from: its index hashes to %016" PRIx64
                     ", expected %016" PRIx64,
                     s->path, s->is, hash, s->part.index_hash);
}

/* ---- memory */

/* Asks for huge pages, which a system may not have: fewer misses of the TLB. A file gets them when the
   system reads it into its cache from then on. */
static void prefer_huge_pages(void *data, uint64_t bytes) {
    if (bytes >= GGUFC_HUGE_LEAST) madvise(data, bytes, MADV_HUGEPAGE);
}

static ggufc_status fail_to(const char *what, const char *path, ggufc_error *error) {
    return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* Addresses for all files, in which the end, too, lies in a whole huge page. They begin at a huge page:
   the system may know of no reason to. */
static ggufc_status reserve(weights *w, const ggufc_model *model, bool copy, ggufc_error *error) {
    uint64_t size = HUGE_PAGE_BYTES, bytes = range_bytes(model) + 2 * size;
    int      protection = copy ? PROT_READ | PROT_WRITE : PROT_READ;
    int      flags = MAP_PRIVATE | MAP_ANONYMOUS | (copy ? 0 : MAP_NORESERVE);
    uint8_t *at = mmap(NULL, bytes, protection, flags, -1, 0);
    if (at == MAP_FAILED) return fail_to(copy ? "make room to read" : "map", w->path, error);
    uint64_t skipped = (size - (uintptr_t)at % size) % size;
    if (skipped) munmap(at, skipped);
    w->data = at + skipped;
    w->mapped_bytes = bytes - skipped;
    if (copy) prefer_huge_pages(at + skipped, w->mapped_bytes);
    return GGUFC_OK;
}

/* Without MAP_POPULATE: mapping pages one by one as they are read was measured to bring the first token
   sooner, by a fifth for a file of 1 GB. */
static ggufc_status map_file(weights *w, const source *s, int fd, ggufc_error *error) {
    bool  reserved = w->mapped_bytes != 0;
    void *at = reserved ? (uint8_t *)w->data + s->part.offset : NULL;
    void *data = mmap(at, s->part.bytes, PROT_READ, MAP_SHARED | (reserved ? MAP_FIXED : 0), fd, 0);
    if (data == MAP_FAILED) return fail_to("map", s->path, error);
    if (!reserved) {
        w->data = data;
        w->mapped_bytes = s->part.bytes;
    }
    prefer_huge_pages(data, s->part.bytes);
    return GGUFC_OK;
}

static ggufc_status read_file(weights *w, const source *s, int fd, ggufc_error *error) {
    uint8_t *to = (uint8_t *)w->data + s->part.offset;
    for (uint64_t at = 0; at < s->part.bytes;) {
        ssize_t n = pread(fd, to + at, s->part.bytes - at, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_to("read", s->path, error);
        if (n == 0)
            return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: became shorter while it was read", s->path);
        at += (uint64_t)n;
    }
    return GGUFC_OK;
}

/* ---- opening */

/* The first of several files, and one that is to be read, makes room for all. */
static ggufc_status load_file(weights *w, const ggufc_model *model, const source *s, bool copy, int fd,
                              ggufc_error *error) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: %s", s->path, strerror(errno));
    ggufc_status status = check_size(s, &st, error);
    if (status == GGUFC_OK && !w->mapped_bytes && (copy || model->n_parts))
        status = reserve(w, model, copy, error);
    if (status == GGUFC_OK) status = copy ? read_file(w, s, fd, error) : map_file(w, s, fd, error);
    return status == GGUFC_OK ? check_index(w, s, error) : status;
}

static ggufc_status open_file(weights *w, const ggufc_model *model, uint64_t i, bool copy,
                              ggufc_error *error) {
    source       s;
    ggufc_status status = find_source(w, model, i, &s, error);
    if (status != GGUFC_OK) return status;
    /* O_NONBLOCK: a pipe is refused, not waited for. */
    int fd = open(s.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && model->n_parts)
        return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: %s: %s this was compiled from", s.path,
                         strerror(errno), s.is);
    if (fd < 0) return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: %s", s.path, strerror(errno));
    status = load_file(w, model, &s, copy, fd, error);
    close(fd);
    return status;
}

static ggufc_status open_files(weights *w, const ggufc_model *model, bool copy, ggufc_error *error) {
    ggufc_status status = go_to_first(w, model, error);
    for (uint64_t i = 0; status == GGUFC_OK && i < count_files(model); i++)
        status = open_file(w, model, i, copy, error);
    if (copy && status == GGUFC_OK) mprotect((void *)w->data, w->mapped_bytes, PROT_READ);
    return status;
}

/* Their file's size was seen to when they were embedded. */
static ggufc_status use_embedded(weights *w, const ggufc_model *model, bool copy, ggufc_error *error) {
    ggufc_status status = GGUFC_OK;
    source       s;
    snprintf(w->path, sizeof w->path, "(embedded)");
    w->data = model->embedded;
    prefer_huge_pages((void *)w->data, range_bytes(model));
    for (uint64_t i = 0; status == GGUFC_OK && i < count_files(model); i++) {
        expect_part(model, i, &s);
        memcpy(s.path, w->path, sizeof s.path);
        status = check_index(w, &s, error);
    }
    if (status != GGUFC_OK || !copy) return status;
    status = reserve(w, model, copy, error);
    if (status != GGUFC_OK) return status;
    memcpy((void *)w->data, model->embedded, range_bytes(model));
    mprotect((void *)w->data, w->mapped_bytes, PROT_READ);
    return GGUFC_OK;
}

/* Reads all of it first: what is locked is in memory. */
static ggufc_status lock_in_memory(weights *w, const ggufc_model *model, ggufc_error *error) {
    uint64_t      bytes = range_bytes(model);
    struct rlimit most;
    if (mlock(w->data, bytes) == 0) {
        if (w->mapped_bytes) w->locked_bytes = bytes; /* embedded ones are all sessions' */
        return GGUFC_OK;
    }
    int why = errno;
    if (getrlimit(RLIMIT_MEMLOCK, &most) == 0 && most.rlim_cur < bytes)
        return error_set(error, GGUFC_ERROR_WEIGHTS,
                         "%s: cannot lock %" PRIu64 " KiB in memory, where %" PRIu64
                         " are allowed: `ulimit -l` raises that",
                         w->path, (bytes + 1023) / 1024, (uint64_t)most.rlim_cur / 1024);
    return error_set(error, GGUFC_ERROR_WEIGHTS, "%s: cannot lock %" PRIu64 " KiB in memory: %s", w->path,
                     (bytes + 1023) / 1024, strerror(why));
}

static ggufc_status find_and_load(weights *w, const ggufc_model *model, const weights_request *wanted,
                                  ggufc_error *error) {
    ggufc_status status = GGUFC_OK;
    if (!wanted->path && model->embedded) return use_embedded(w, model, wanted->copy, error);
    if (!wanted->path)
        status = weights_find(w, model, error);
    else if ((size_t)snprintf(w->path, sizeof w->path, "%s", wanted->path) >= sizeof w->path)
        status = error_set(error, GGUFC_ERROR_WEIGHTS, "the path of the weights is too long");
    return status == GGUFC_OK ? open_files(w, model, wanted->copy, error) : status;
}

ggufc_status weights_open(weights *w, const ggufc_model *model, const weights_request *wanted,
                          ggufc_error *error) {
    memset(w, 0, sizeof *w);
    ggufc_status status = find_and_load(w, model, wanted, error);
    if (status == GGUFC_OK && wanted->lock) status = lock_in_memory(w, model, error);
    if (status != GGUFC_OK) weights_close(w);
    return status;
}

void weights_close(weights *w) {
    if (w->locked_bytes) munlock(w->data, w->locked_bytes);
    if (w->mapped_bytes) munmap((void *)w->data, w->mapped_bytes);
    w->data = NULL;
    w->mapped_bytes = w->locked_bytes = 0;
}
