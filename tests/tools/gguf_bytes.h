/* gguf_bytes.h - writes GGUF field by field into memory, for tests that need a file with exactly
 * these bytes, right or wrong. Nothing is checked: what is put is what stands in the file.
 *
 *     bytes b = { 0 };
 *     bytes_put_header(&b, 3, 1, 1);
 *     bytes_put_key(&b, "general.alignment", GGUF_U32), bytes_put_u32(&b, 64);
 *     bytes_put_tensor(&b, "t", 1, (uint64_t[]){ 32 }, QUANT_F32, 0);
 *     bytes_pad(&b, 64);
 *     …
 *     bytes_free(&b);
 */
#ifndef TESTS_GGUF_BYTES_H
#define TESTS_GGUF_BYTES_H

#include "gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    uint8_t *data;
    size_t size, capacity;
} bytes;

static inline void bytes_free(bytes *b) {
    free(b->data);
    *b = (bytes){ 0 };
}

static inline void bytes_put(bytes *b, const void *data, size_t size) {
    if (b->size + size > b->capacity) {
        b->capacity = (b->size + size) * 2;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) abort();
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

/* Overwrites `width` bytes at `at` with the little-endian `value`. */
static inline void bytes_set(bytes *b, size_t at, unsigned width, uint64_t value) {
    for (unsigned i = 0; i < width; i++) b->data[at + i] = (uint8_t)(value >> 8 * i);
}

static inline void bytes_put_number(bytes *b, unsigned width, uint64_t value) {
    bytes_put(b, (uint8_t[8]){ 0 }, width);
    bytes_set(b, b->size - width, width, value);
}

static inline void bytes_put_u32(bytes *b, uint32_t value) {
    bytes_put_number(b, 4, value);
}

static inline void bytes_put_u64(bytes *b, uint64_t value) {
    bytes_put_number(b, 8, value);
}

static inline void bytes_put_string(bytes *b, const char *text) {
    bytes_put_u64(b, strlen(text));
    bytes_put(b, text, strlen(text));
}

static inline void bytes_put_zeros(bytes *b, size_t count) {
    while (count--) bytes_put(b, "", 1);
}

static inline void bytes_pad(bytes *b, size_t alignment) {
    bytes_put_zeros(b, round_up(b->size, alignment) - b->size);
}

static inline void bytes_put_header(bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    bytes_put(b, "GGUF", 4);
    bytes_put_u32(b, version);
    bytes_put_u64(b, n_tensors);
    bytes_put_u64(b, n_kv);
}

static inline void bytes_put_key(bytes *b, const char *key, enum gguf_type type) {
    bytes_put_string(b, key);
    bytes_put_u32(b, (uint32_t)type);
}

static inline void bytes_put_array(bytes *b, enum gguf_type element, uint64_t count) {
    bytes_put_u32(b, (uint32_t)element);
    bytes_put_u64(b, count);
}

static inline void bytes_put_tensor(bytes *b, const char *name, uint32_t n_dims,
                                    const uint64_t *dims, uint32_t type, uint64_t offset) {
    bytes_put_string(b, name);
    bytes_put_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) bytes_put_u64(b, dims[i]);
    bytes_put_u32(b, type);
    bytes_put_u64(b, offset);
}

#endif
