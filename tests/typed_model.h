/* typed_model.h - a model of make_model with its matrices in other types, as random blocks: types
 * that no tool of ours writes.
 *
 * Every byte of a block is random but for its scale and minimum, which are set so that weights are
 * about as large as in the model itself. Each tensor of two dimensions has another type: the next of
 * the list, where its rows are whole blocks, else F16. */
#ifndef GGUFC_TESTS_TYPED_MODEL_H
#define GGUFC_TESTS_TYPED_MODEL_H

#include "gguf_writer.h"
#include "odd_models.h"

#include <math.h>

static inline uint32_t typed_random(void) {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* ---- a block */

/* A number near `scale` as bits of the kind, a small one for integers. */
static inline uint64_t typed_bits(enum quant_field_kind kind, double scale) {
    uint64_t random = (uint64_t)typed_random() << 32 | typed_random();
    double   near = scale * (0.5 + (double)(random >> 40) * 0x1p-24);
    switch (kind) {
    case QUANT_FIELD_F16: return quant_f32_to_f16((float)near);
    case QUANT_FIELD_BF16: return quant_f32_to_bf16((float)near);
    case QUANT_FIELD_F32: return quant_f32_bits((float)near);
    case QUANT_FIELD_F64: memcpy(&random, &near, sizeof near); return random;
    case QUANT_FIELD_E8M0: return (uint64_t)(127 + lrint(log2(near)));
    case QUANT_FIELD_UE4M3: return near < 0.01 ? random % 8 : (uint64_t)(56 + 8 * lrint(log2(near))) + random % 8;
    case QUANT_FIELD_I8:
    case QUANT_FIELD_I16:
    case QUANT_FIELD_I32:
    case QUANT_FIELD_I64: return (random & 3) - 1;
    default: return random;
    }
}

static inline void typed_fill(const quant_info *info, uint8_t *block, double scale) {
    for (uint32_t i = 0; i < info->block_bytes; i++) block[i] = (uint8_t)typed_random();
    for (uint32_t k = 0; k < info->n_fields; k++) {
        const quant_field *f = &info->fields[k];
        uint32_t size = quant_field_bytes(f) / f->count;
        bool     plain = f->role == QUANT_ROLE_VALUE;
        if (!plain && f->role != QUANT_ROLE_SCALE && f->role != QUANT_ROLE_MIN) continue;
        for (uint32_t i = 0; i < f->count; i++) {
            uint64_t bits = typed_bits(f->kind, plain && typed_random() % 2 ? -scale : scale);
            memcpy(block + f->offset + i * size, &bits, size);
        }
    }
}

/* Random blocks of `n` values whose root mean square is about `size`, a block or two with a subnormal
   or no scale among them. */
static inline void typed_write(uint32_t type, uint8_t *to, uint64_t n, double size) {
    const quant_info *info = quant_find(type);
    float  values[256];
    double sum = 0;
    typed_fill(info, to, 1);
    quant_read(type, to, info->block_len, NULL, values);
    for (uint32_t i = 0; i < info->block_len; i++) sum += (double)values[i] * (double)values[i];
    double scale = size / sqrt(sum / info->block_len + 1e-9);
    for (uint64_t b = 0; b < n / info->block_len; b++, to += info->block_bytes)
        typed_fill(info, to, info->block_len == 1 ? size : b % 37 == 5 ? 2e-5 : b % 37 == 6 ? 1e-9 : scale);
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
