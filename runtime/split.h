/* split.h - what the parts of a split model are called: NAME-00001-of-00003.gguf and so on, as
 * llama.cpp's gguf-split names them. Both the compiler and the runtime find a part by its name. */
#ifndef GGUFC_SPLIT_H
#define GGUFC_SPLIT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SPLIT_MAX_PARTS 65535 /* the key split.count is a u16 */
#define SPLIT_END       "-00001-of-00001.gguf"

typedef struct split_name {
    size_t   stem;          /* bytes of the path before "-00001-of-…" */
    uint32_t number, count; /* the number is 1 for the first part */
} split_name;

static inline bool split_read_number(const char *digits, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (digits[i] < '0' || digits[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(digits[i] - '0');
    }
    return true;
}

/* What `path` says of itself; false where it is no name of a part. */
static inline bool split_read_name(const char *path, split_name *out) {
    size_t size = strlen(path), end = strlen(SPLIT_END);
    if (size < end) return false;
    const char *at = path + size - end;
    out->stem = size - end;
    return at[0] == '-' && split_read_number(at + 1, &out->number) && !strncmp(at + 6, "-of-", 4) &&
           split_read_number(at + 10, &out->count) && !strcmp(at + 15, ".gguf") && out->number &&
           out->number <= out->count;
}

/* Writes the path of part `number` of the model that `path`, whose name is `name`, is a part of.
   False where it does not fit into `size` bytes. */
static inline bool split_write_path(char *to, size_t size, const char *path, const split_name *name,
                                    uint32_t number) {
    int n = snprintf(to, size, "%.*s-%05u-of-%05u.gguf", (int)name->stem, path, number, name->count);
    return n > 0 && (size_t)n < size;
}

static inline bool split_is_file(const char *path, const struct stat *st) {
    struct stat at;
    return !stat(path, &at) && at.st_dev == st->st_dev && at.st_ino == st->st_ino;
}

/* Whether `st` is the file at `path` or, where that is a part by its name, another part. */
static inline bool split_has_file(const char *path, const struct stat *st) {
    split_name name;
    char       part[4096];
    if (split_is_file(path, st)) return true;
    if (!split_read_name(path, &name)) return false;
    for (uint32_t i = 1; i <= name.count; i++)
        if (split_write_path(part, sizeof part, path, &name, i) && split_is_file(part, st)) return true;
    return false;
}

#endif
