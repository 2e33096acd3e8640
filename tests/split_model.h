/* split_model.h - splits a GGUF file into parts as llama.cpp's gguf-split does, for tests: all metadata in
 * the first part, an index of its own in each, keys split.*; or with one lie in one of the parts.
 *
 *     split_write("tests/models/x.gguf", "/tmp/x", &(split_recipe){ .each = 10 });
 *     char *second = split_path("/tmp/x", 2, 4);          /tmp/x-00002-of-00004.gguf, to be freed
 */
#ifndef GGUFC_TESTS_SPLIT_MODEL_H
#define GGUFC_TESTS_SPLIT_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf_writer.h"

enum split_lie {
    SPLIT_HONEST,
    SPLIT_NO,            /* split.no is `number` */
    SPLIT_NO_ABSENT,
    SPLIT_NO_TEXT,       /* … a string */
    SPLIT_COUNT,         /* split.count is `number` */
    SPLIT_COUNT_ABSENT,
    SPLIT_COUNT_TEXT,
    SPLIT_TENSORS,       /* split.tensors.count is `number` */
    SPLIT_TENSORS_ABSENT,
    SPLIT_TWIN,          /* a tensor of the first part once more */
    SPLIT_LACKS          /* without its last tensor */
};

typedef struct split_recipe {
    uint32_t       each;       /* tensors in a part */
    bool           bare_first; /* the first has none */
    enum split_lie lie;
    uint32_t       part;       /* that lies, from 0 */
    uint64_t       number;
} split_recipe;

static inline char *split_path(const char *stem, uint32_t number, uint32_t count) {
    char path[512];
    snprintf(path, sizeof path, "%s-%05u-of-%05u.gguf", stem, number, count);
    char *copy = strdup(path);
    assert_non_null(copy);
    return copy;
}

static inline void split_put_keys(gguf_writer *w, const split_recipe *r, uint32_t part, uint32_t count,
                                  uint64_t n_tensors) {
    enum split_lie lie = part == r->part ? r->lie : SPLIT_HONEST;
    uint16_t no = (uint16_t)(lie == SPLIT_NO ? r->number : part);
    uint16_t n = (uint16_t)(lie == SPLIT_COUNT ? r->number : count);
    if (lie == SPLIT_NO_TEXT)
        writer_kv_string(w, "split.no", "one");
    else if (lie != SPLIT_NO_ABSENT)
        writer_kv(w, "split.no", GGUF_U16, &no, sizeof no);
    if (lie != SPLIT_TENSORS_ABSENT)
        writer_kv_i32(w, "split.tensors.count", (int32_t)(lie == SPLIT_TENSORS ? r->number : n_tensors));
    if (lie == SPLIT_COUNT_TEXT)
        writer_kv_string(w, "split.count", "three");
    else if (lie != SPLIT_COUNT_ABSENT)
        writer_kv(w, "split.count", GGUF_U16, &n, sizeof n);
}

static inline void split_put_part(const gguf_file *f, const char *stem, const split_recipe *r, uint32_t part,
                                  uint32_t count) {
    uint32_t           skipped = r->bare_first, each = r->each, n = 0;
    const gguf_tensor *chosen[256];
    gguf_writer        w;
    enum split_lie     lie = part == r->part ? r->lie : SPLIT_HONEST;
    for (uint64_t i = 0; i < f->n_tensors && n < 255; i++)
        if (i / each + skipped == part) chosen[n++] = &f->tensors[i];
    if (lie == SPLIT_TWIN) chosen[n++] = &f->tensors[1];
    if (lie == SPLIT_LACKS) n--;
    writer_begin(&w);
    if (part == 0) writer_put(&w, f->data + 24, f->index_offset - 24); /* all keys */
    if (part == 0) w.n_kv = f->n_kv;
    split_put_keys(&w, r, part, count, f->n_tensors);
    for (uint32_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)chosen[i]->name.size, chosen[i]->name.data);
        writer_tensor(&w, name, chosen[i]->n_dims, chosen[i]->dims, chosen[i]->type);
    }
    uint8_t *to = writer_finish(&w);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(to, f->data + chosen[i]->offset, chosen[i]->bytes);
        to += round_up(chosen[i]->bytes, WRITER_ALIGNMENT);
    }
    char *path = split_path(stem, part + 1, count);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(w.data, 1, w.size, out) != w.size || fclose(out)) fail_msg("%s: not written", path);
    free(path);
    writer_free(&w);
}

/* The number of parts that were written. */
static inline uint32_t split_write(const char *gguf, const char *stem, const split_recipe *r) {
    arena     *memory = arena_new();
    diag       d = { 0 };
    gguf_file *f = gguf_open(memory, &d, gguf);
    assert_non_null(f);
    uint32_t count = (uint32_t)((f->n_tensors + r->each - 1) / r->each) + r->bare_first;
    for (uint32_t i = 0; i < count; i++) split_put_part(f, stem, r, i, count);
    gguf_close(f);
    arena_free(memory);
    return count;
}

#endif
