/* typed_model.h - a model of make_model with its matrices in other types, as random blocks: types
 * that no tool of ours writes.
 *
 * Blocks are those of tools/random_blocks.h, with weights about as large as in the model itself. Each
 * tensor of two dimensions has another type: the next of the list, where its rows are whole blocks,
 * else F16. */
#ifndef GGUFC_TESTS_TYPED_MODEL_H
#define GGUFC_TESTS_TYPED_MODEL_H

#include "gguf_writer.h"
#include "odd_models.h"
#include "tools/random_blocks.h"

#include <math.h>

static inline uint32_t typed_random(void) {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* Random blocks of `n` values whose root mean square is about `size`, a block or two with a subnormal
   or no scale among them. */
static inline void typed_write(uint32_t type, uint8_t *to, uint64_t n, double size) {
    const random_blocks usual = random_blocks_of_size(type, size);
    const random_blocks odd[] = {random_blocks_of_scale(type, 2e-5), random_blocks_of_scale(type, 1e-9)};
    const uint64_t      key = (uint64_t)typed_random() << 32 | typed_random();
    for (uint64_t b = 0; b < n / usual.info->block_len; b++, to += usual.info->block_bytes) {
        bool is_odd = usual.info->block_len > 1 && (b % 37 == 5 || b % 37 == 6);
        random_blocks_fill(is_odd ? &odd[b % 37 - 5] : &usual, key, b, 1, to);
    }
}

/* ---- the file */

typedef struct typed_list {
    const uint32_t *types;
    uint32_t        n, next; /* next: the one of the list that comes next */
} typed_list;

static inline uint32_t typed_choose(typed_list *list, const gguf_tensor *t) {
    if (t->n_dims < 2) return t->type;
    uint32_t type = list->types[list->next++ % list->n];
    return t->dims[0] % quant_find(type)->block_len ? (uint32_t)QUANT_F16 : type;
}

static inline void typed_copy(const gguf_file *f, typed_list *list, gguf_writer *w) {
    uint32_t *types = calloc(f->n_tensors, sizeof *types);
    char      name[64];
    assert_non_null(types);
    writer_begin(w);
    writer_put(w, f->data + 24, f->index_offset - 24); /* behind magic, version and counts: all keys */
    w->n_kv = f->n_kv;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        types[i] = typed_choose(list, t);
        snprintf(name, sizeof name, "%.*s", (int)t->name.size, t->name.data);
        writer_tensor(w, name, t->n_dims, t->dims, types[i]);
    }
    uint8_t *to = writer_finish(w);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        uint64_t rows = t->dims[1], bytes = rows * quant_row_bytes(types[i], t->dims[0]);
        if (t->n_dims < 2)
            memcpy(to, f->data + t->offset, t->bytes);
        else
            typed_write(types[i], to, rows * t->dims[0], 1 / sqrt((double)t->dims[0]));
        to += round_up(bytes, WRITER_ALIGNMENT);
    }
    free(types);
}

/* Makes the model of `m`, which is F32, again with those types, from list->next on; the path of the
   GGUF, good until the next call. The file is made once for each number. */
static inline const char *typed_model_make(const odd_model *m, size_t number, typed_list *list) {
    static char path[256];
    char        name[32];
    arena      *memory = arena_new();
    diag        d = {0};
    gguf_writer w;
    gguf_file  *f = gguf_open(memory, &d, odd_model_make(m, number));
    assert_non_null(f);
    snprintf(name, sizeof name, "typed%zu.gguf", number);
    snprintf(path, sizeof path, "%s", compiled_path(name));
    typed_copy(f, list, &w);
    FILE *to = fopen(path, "wb");
    assert_true(to && fwrite(w.data, 1, w.size, to) == w.size);
    assert_int_equal(fclose(to), 0);
    writer_free(&w);
    gguf_close(f);
    arena_free(memory);
    return path;
}

#endif
