/* gguf_writer.h - GGUF bytes in memory, for tests.
 *
 * A test says what a file should hold, in order: writer_begin, then every key, then every tensor,
 * then writer_finish, which writes the counts, the padding and zeroed (or given) data. Nothing is
 * checked on purpose: a test of a reader wants wrong files too. Everything is static inline, so
 * that a test that needs half of it compiles without warnings. Little-endian hosts only, as the
 * tests are. writer_free releases the bytes.
 */
#ifndef GGUFC_TESTS_GGUF_WRITER_H
#define GGUFC_TESTS_GGUF_WRITER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"

#define WRITER_ALIGNMENT 32

typedef struct gguf_writer {
    uint8_t *data;
    size_t   size, capacity;
    uint64_t n_kv, n_tensors;
    uint64_t data_bytes; /* of the tensors so far, each aligned */
} gguf_writer;

static inline void writer_put(gguf_writer *w, const void *bytes, size_t size) {
    if (w->size + size > w->capacity) {
        w->capacity = (w->size + size) * 2 + 256;
        w->data = realloc(w->data, w->capacity);
        if (!w->data) abort();
    }
    if (size) memcpy(w->data + w->size, bytes, size);
    w->size += size;
}

static inline void writer_put_u32(gguf_writer *w, uint32_t n) {
    writer_put(w, &n, sizeof n);
}

static inline void writer_put_u64(gguf_writer *w, uint64_t n) {
    writer_put(w, &n, sizeof n);
}

static inline void writer_put_string(gguf_writer *w, const char *text) {
    writer_put_u64(w, strlen(text));
    writer_put(w, text, strlen(text));
}

static inline void writer_begin(gguf_writer *w) {
    *w = (gguf_writer){ 0 };
    writer_put(w, "GGUF", 4);
    writer_put_u32(w, 3);
    writer_put_u64(w, 0); /* counts: writer_finish */
    writer_put_u64(w, 0);
}

/* ---- metadata */

static inline void writer_kv(gguf_writer *w, const char *key, enum gguf_type type,
                             const void *bytes, size_t size) {
    writer_put_string(w, key);
    writer_put_u32(w, type);
    writer_put(w, bytes, size);
    w->n_kv++;
}

static inline void writer_kv_u32(gguf_writer *w, const char *key, uint32_t n) {
    writer_kv(w, key, GGUF_U32, &n, sizeof n);
}

static inline void writer_kv_i32(gguf_writer *w, const char *key, int32_t n) {
    writer_kv(w, key, GGUF_I32, &n, sizeof n);
}

static inline void writer_kv_u64(gguf_writer *w, const char *key, uint64_t n) {
    writer_kv(w, key, GGUF_U64, &n, sizeof n);
}

static inline void writer_kv_f32(gguf_writer *w, const char *key, float n) {
    writer_kv(w, key, GGUF_F32, &n, sizeof n);
}

static inline void writer_kv_bool(gguf_writer *w, const char *key, bool b) {
    uint8_t byte = b;
    writer_kv(w, key, GGUF_BOOL, &byte, 1);
}

static inline void writer_kv_string(gguf_writer *w, const char *key, const char *text) {
    writer_kv(w, key, GGUF_STRING, NULL, 0);
    writer_put_string(w, text);
}

/* `count` elements of `size` bytes each, as stored; not for strings. */
static inline void writer_kv_array(gguf_writer *w, const char *key, enum gguf_type element,
                                   const void *elements, uint64_t count, size_t size) {
    writer_kv(w, key, GGUF_ARRAY, NULL, 0);
    writer_put_u32(w, element);
    writer_put_u64(w, count);
    writer_put(w, elements, count * size);
}

static inline void writer_kv_strings(gguf_writer *w, const char *key, const char *const *texts,
                                     uint64_t count) {
    writer_kv_array(w, key, GGUF_STRING, NULL, count, 0);
    for (uint64_t i = 0; i < count; i++) writer_put_string(w, texts[i]);
}

/* ---- tensors: their descriptions; the data is zeros until writer_finish returned */

static inline void writer_tensor(gguf_writer *w, const char *name, uint32_t n_dims,
                                 const uint64_t *dims, uint32_t type) {
    uint64_t n = 1;
    for (uint32_t i = 1; i < n_dims; i++) n *= dims[i];
    writer_put_string(w, name);
    writer_put_u32(w, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) writer_put_u64(w, dims[i]);
    writer_put_u32(w, type);
    writer_put_u64(w, w->data_bytes);
    const quant_info *info = quant_find(type);
    uint64_t bytes = info && n_dims ? dims[0] / info->block_len * info->block_bytes * n : 0;
    w->data_bytes += round_up(bytes, WRITER_ALIGNMENT);
    w->n_tensors++;
}

/* Completes the file: w->data, w->size. Returns where the tensors' data begins, to be filled. */
static inline uint8_t *writer_finish(gguf_writer *w) {
    static const uint8_t zeros[4096];
    writer_put(w, zeros, round_up(w->size, WRITER_ALIGNMENT) - w->size);
    size_t start = w->size;
    for (uint64_t left = w->data_bytes, n; left; left -= n) {
        n = left < sizeof zeros ? left : sizeof zeros;
        writer_put(w, zeros, n);
    }
    memcpy(w->data + 8, &w->n_tensors, 8);
    memcpy(w->data + 16, &w->n_kv, 8);
    return w->data + start;
}

static inline void writer_free(gguf_writer *w) {
    free(w->data);
    *w = (gguf_writer){ 0 };
}

#endif
