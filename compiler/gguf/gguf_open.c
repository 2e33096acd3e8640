/* From a path to a gguf_file: mapping one file, or all parts of a split model.
 *
 * The file that was named is mapped and parsed alone first. If its keys say that it is a part of
 * several, it is let go, and all parts are mapped into one reserved range, the first at its start, so
 * that one address and one kind of offset are enough for everybody behind. Each part is then parsed
 * where it stands, by the same code as any file: what is wrong inside a part is told as of a file of
 * its own. What is left is to see that the parts belong together, and to join their tensors. */
#include "gguf.h"
#include "gguf_read.h"

#include "ggufc/model.h"
#include "split.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_NO      "split.no"
#define KEY_COUNT   "split.count"
#define KEY_TENSORS "split.tensors.count"

/* ---- files ---- */

/* What of the open file keeps it from being mapped, or NULL. */
static const char *find_obstacle(int fd, struct stat *st) {
    if (fstat(fd, st)) return strerror(errno);
    if (S_ISDIR(st->st_mode)) return "this is a directory, expected a GGUF file";
    if (!S_ISREG(st->st_mode)) return "this is no regular file, which a GGUF must be";
    if (!st->st_size) return "the file is empty, expected a GGUF";
    return NULL;
}

/* Opens the file and finds how long it is; -1 after an error, which ends with `whose`, was reported. */
static int open_regular(diag *d, const char *path, const char *whose, uint64_t *bytes) {
    /* Without O_NONBLOCK a named pipe would wait for its writer before it can be refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        diag_error(d, "%s: cannot open: %s%s", path, strerror(errno), whose);
        return -1;
    }
    struct stat st;
    const char *obstacle = find_obstacle(fd, &st);
    if (!obstacle) {
        *bytes = (uint64_t)st.st_size;
        return fd;
    }
    diag_error(d, "%s: %s%s", path, obstacle, whose);
    close(fd);
    return -1;
}

static gguf_file *open_alone(arena *a, diag *d, const char *path) {
    uint64_t bytes;
    int      fd = open_regular(d, path, "", &bytes);
    if (fd < 0) return NULL;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    int   why = errno;
    close(fd);
    if (map == MAP_FAILED) {
        diag_error(d, "%s: %s", path, strerror(why));
        return NULL;
    }
    gguf_file *f = gguf_parse(a, d, path, map, bytes);
    if (f)
        f->map = map;
    else
        munmap(map, bytes);
    return f;
}

void gguf_close(gguf_file *f) {
    if (!f || !f->map) return;
    munmap(f->map, (size_t)f->size);
    f->map = NULL;
}

/* ---- what a part says of itself ---- */

typedef struct split_keys {
    uint64_t no, count, tensors;
    bool     has_tensors;
} split_keys;

/* A count of 1 where the file is no part of several. */
static bool read_keys(const gguf_file *f, diag *d, split_keys *k) {
    *k = (split_keys){ .count = 0 };
    if (gguf_get_u64(f, d, KEY_COUNT, &k->count) == GGUF_MISTYPED) return false;
    if (k->count <= 1) {
        k->count = 1;
        return true;
    }
    if (k->count > SPLIT_MAX_PARTS)
        return diag_error(d, "%s: key '" KEY_COUNT "': %" PRIu64 " parts, at most %d can be", f->path,
                          k->count, SPLIT_MAX_PARTS);
    switch (gguf_get_u64(f, d, KEY_NO, &k->no)) {
    case GGUF_MISTYPED: return false;
    case GGUF_ABSENT:
        return diag_error(d, "%s: one of %" PRIu64 " parts, but key '" KEY_NO "' is missing", f->path,
                          k->count);
    case GGUF_PRESENT: break;
    }
    if (k->no >= k->count)
        return diag_error(d, "%s: key '" KEY_NO "' is %" PRIu64 ", expected less than the %" PRIu64
                          " of '" KEY_COUNT "'", f->path, k->no, k->count);
    enum gguf_found found = gguf_get_u64(f, d, KEY_TENSORS, &k->tensors);
    k->has_tensors = found == GGUF_PRESENT;
    return found != GGUF_MISTYPED;
}

/* The name must say what the keys say: the other parts are found by it. */
static bool read_name(const gguf_file *f, diag *d, const split_keys *k, split_name *name) {
    if (!split_read_name(f->path, name))
        return diag_error(d, "%s: is part %" PRIu64 " of %" PRIu64 ", so its name must end in "
                          "-%05" PRIu64 "-of-%05" PRIu64 ".gguf for the others to be found", f->path,
                          k->no + 1, k->count, k->no + 1, k->count);
    if (name->number == k->no + 1 && name->count == k->count) return true;
    return diag_error(d, "%s: is part %" PRIu64 " of %" PRIu64 " by its keys '" KEY_NO "' and '" KEY_COUNT
                      "', but part %" PRIu32 " of %" PRIu32 " by its name", f->path, k->no + 1, k->count,
                      name->number, name->count);
}

/* ---- all parts ---- */

typedef struct joiner {
    arena     *a;
    diag      *d;
    gguf_part *parts;
    uint32_t   n_parts;
    uint64_t   size; /* of the range */
    uint8_t   *base;
} joiner;

static int open_part(const joiner *j, uint32_t i, uint64_t *bytes) {
    const char *first = base_name(j->parts[0].path);
    const char *whose = arena_printf(j->a, " (part %" PRIu32 " of the %" PRIu32 " of %s)", i + 1, j->n_parts,
                                     first);
    return open_regular(j->d, j->parts[i].path, whose, bytes);
}

static bool place_parts(joiner *j, const char *path, const split_name *name) {
    size_t size = strlen(path) + 1;
    for (uint32_t i = 0; i < j->n_parts; i++) {
        char *to = arena_alloc(j->a, size);
        if (!split_write_path(to, size, path, name, i + 1)) bug("the names of parts differ in length");
        j->parts[i].path = to;
    }
    for (uint32_t i = 0; i < j->n_parts; i++) {
        gguf_part *p = &j->parts[i];
        int        fd = open_part(j, i, &p->bytes);
        if (fd < 0) return false;
        close(fd);
        p->offset = round_up(j->size, GGUFC_PART_ALIGNMENT);
        if (p->bytes > INT64_MAX - p->offset)
            return diag_error(j->d, "%s: the parts are too large to be mapped", p->path);
        j->size = p->offset + p->bytes;
    }
    return true;
}

static bool map_part(const joiner *j, uint32_t i) {
    const gguf_part *p = &j->parts[i];
    uint64_t         bytes;
    int              fd = open_part(j, i, &bytes);
    if (fd < 0) return false;
    void *map = MAP_FAILED;
    bool  same = bytes == p->bytes;
    if (same) map = mmap(j->base + p->offset, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    int why = errno;
    close(fd);
    if (map != MAP_FAILED) return true;
    return diag_error(j->d, "%s: %s", p->path, same ? strerror(why) : "changed while it was read");
}

/* Whether part `i`, which was parsed, is what the first part makes expect. */
static bool check_part(const joiner *j, const gguf_file *f, uint32_t i, split_keys *first) {
    split_keys  k;
    const char *other = j->parts[0].path;
    if (!read_keys(f, j->d, &k)) return false;
    if (k.count != j->n_parts)
        return diag_error(j->d, "%s: is of a model of %" PRIu64 " part%s by its key '" KEY_COUNT
                          "', %s of one of %" PRIu32, f->path, k.count, k.count == 1 ? "" : "s",
                          base_name(other), j->n_parts);
    if (k.no != i)
        return diag_error(j->d, "%s: is part %" PRIu64 " by its key '" KEY_NO "', but part %" PRIu32
                          " by its name", f->path, k.no + 1, i + 1);
    if (i == 0) *first = k;
    if (k.has_tensors && first->has_tensors && k.tensors != first->tensors)
        return diag_error(j->d, "%s: is a part of another model: key '" KEY_TENSORS "' is %" PRIu64
                          ", that of %s is %" PRIu64, f->path, k.tensors, base_name(other), first->tensors);
    return true;
}

static void add_tensors(const gguf_tensor *from, uint64_t n, uint64_t offset, gguf_tensor *to) {
    for (uint64_t t = 0; t < n; t++) {
        to[t] = from[t];
        to[t].offset += offset;
    }
}

/* Makes the first of the parsed parts the whole model. */
static gguf_file *join(joiner *j, gguf_file **files, const split_keys *keys) {
    gguf_file *f = files[0];
    uint64_t   n = 0;
    for (uint32_t i = 0; i < j->n_parts; i++) n += files[i]->n_tensors;
    if (keys->has_tensors && n != keys->tensors) {
        diag_error(j->d, "%s: key '" KEY_TENSORS "' is %" PRIu64 ", but its %" PRIu32 " parts have %" PRIu64
                   " tensors", f->path, keys->tensors, j->n_parts, n);
        return NULL;
    }
    gguf_tensor *all = ARENA_ARRAY(j->a, gguf_tensor, n);
    uint64_t     done = 0;
    for (uint32_t i = 0; i < j->n_parts; i++) {
        const gguf_file *part = files[i];
        gguf_part       *p = &j->parts[i];
        p->index_offset = p->offset + part->index_offset;
        p->index_bytes = part->index_bytes;
        if (part->alignment < f->alignment) f->alignment = part->alignment;
        add_tensors(part->tensors, part->n_tensors, p->offset, all + done);
        done += part->n_tensors;
    }
    f->tensors = all;
    f->n_tensors = n;
    f->size = j->size;
    f->parts = j->parts;
    f->n_parts = j->n_parts;
    return gguf_index_tensors(f, j->a, j->d) ? f : NULL;
}

static gguf_file *read_parts(joiner *j) {
    gguf_file **files = ARENA_ARRAY(j->a, gguf_file *, j->n_parts);
    split_keys  first = { .count = 0 };
    for (uint32_t i = 0; i < j->n_parts; i++) {
        const gguf_part *p = &j->parts[i];
        if (!map_part(j, i)) return NULL;
        files[i] = gguf_parse(j->a, j->d, p->path, j->base + p->offset, p->bytes);
        if (!files[i] || !check_part(j, files[i], i, &first)) return NULL;
    }
    return join(j, files, &first);
}

static gguf_file *open_parts(arena *a, diag *d, const char *path, const split_name *name) {
    joiner j = { .a = a, .d = d, .n_parts = name->count };
    j.parts = ARENA_ARRAY(a, gguf_part, j.n_parts);
    if (!place_parts(&j, path, name)) return NULL;
    void *range = mmap(NULL, j.size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        diag_error(d, "%s: %s", path, strerror(errno));
        return NULL;
    }
    j.base = range;
    gguf_file *f = read_parts(&j);
    if (f)
        f->map = range;
    else
        munmap(range, j.size);
    return f;
}

gguf_file *gguf_open(arena *a, diag *d, const char *path) {
    gguf_file *f = open_alone(a, d, path);
    split_keys keys;
    split_name name = { .stem = 0 };
    if (!f) return NULL;
    bool ok = read_keys(f, d, &keys);
    if (ok && keys.count == 1) return f;
    ok = ok && read_name(f, d, &keys, &name);
    gguf_close(f);
    return ok ? open_parts(a, d, path, &name) : NULL;
}

uint64_t gguf_hash_index(const gguf_file *f) {
    uint64_t h = GGUFC_HASH_BASIS;
    for (uint32_t i = 0; i < f->n_parts; i++)
        h = ggufc_hash(h, f->data + f->parts[i].index_offset, f->parts[i].index_bytes);
    return h;
}
