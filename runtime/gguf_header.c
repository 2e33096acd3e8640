#include "gguf_header.h"

#include <stdlib.h>
#include <string.h>

enum { KIND_U32 = 4, KIND_I32 = 5, KIND_F32 = 6, KIND_BOOL = 7, KIND_TEXT = 8, KIND_ARRAY = 9 };
enum { GGUF_VERSION = 3, COUNTS_AT = 8, FIRST_ROOM = 4096 };

static void put(gguf_header *h, const void *data, size_t size) {
    if (!h->data) return;
    if (h->size + size > h->room) {
        size_t   room = 2 * (h->room + size);
        uint8_t *more = realloc(h->data, room);
        if (!more) free(h->data);
        h->data = more;
        h->room = room;
        if (!more) return;
    }
    if (size) memcpy(h->data + h->size, data, size);
    h->size += size;
}

static void put_u32(gguf_header *h, uint32_t n) {
    put(h, &n, sizeof n);
}

static void put_u64(gguf_header *h, uint64_t n) {
    put(h, &n, sizeof n);
}

static void put_string(gguf_header *h, const char *text, size_t bytes) {
    put_u64(h, bytes);
    put(h, text, bytes);
}

static uint64_t pad(const gguf_header *h, uint64_t n) {
    return (n + h->alignment - 1) / h->alignment * h->alignment;
}

void gguf_header_begin(gguf_header *h, uint64_t alignment) {
    *h = (gguf_header){ .data = malloc(FIRST_ROOM), .room = FIRST_ROOM, .alignment = alignment };
    put(h, "GGUF", 4);
    put_u32(h, GGUF_VERSION);
    put_u64(h, 0);
    put_u64(h, 0);
}

bool gguf_header_end(gguf_header *h) {
    static const uint8_t zeros[64];
    while (h->data && h->size != pad(h, h->size)) {
        size_t left = pad(h, h->size) - h->size;
        put(h, zeros, left < sizeof zeros ? left : sizeof zeros);
    }
    if (!h->data) return false;
    memcpy(h->data + COUNTS_AT, &h->n_tensors, sizeof h->n_tensors);
    memcpy(h->data + COUNTS_AT + 8, &h->n_kv, sizeof h->n_kv);
    return true;
}

void gguf_header_free(gguf_header *h) {
    free(h->data);
    h->data = NULL;
}

static void put_key(gguf_header *h, const char *key, uint32_t kind) {
    put_string(h, key, strlen(key));
    put_u32(h, kind);
    h->n_kv++;
}

void gguf_header_put_entry(gguf_header *h, const void *entry, size_t bytes) {
    put(h, entry, bytes);
    h->n_kv++;
}

void gguf_header_put_text(gguf_header *h, const char *key, const char *text, size_t bytes) {
    put_key(h, key, KIND_TEXT);
    put_string(h, text, bytes);
}

void gguf_header_put_u32(gguf_header *h, const char *key, uint32_t n) {
    put_key(h, key, KIND_U32);
    put_u32(h, n);
}

void gguf_header_put_f32(gguf_header *h, const char *key, float x) {
    put_key(h, key, KIND_F32);
    put(h, &x, sizeof x);
}

void gguf_header_put_bool(gguf_header *h, const char *key, bool truth) {
    uint8_t byte = truth;
    put_key(h, key, KIND_BOOL);
    put(h, &byte, 1);
}

void gguf_header_put_i32s(gguf_header *h, const char *key, const int32_t *numbers, uint64_t count) {
    put_key(h, key, KIND_ARRAY);
    put_u32(h, KIND_I32);
    put_u64(h, count);
    put(h, numbers, count * sizeof *numbers);
}

uint64_t gguf_header_put_tensor(gguf_header *h, const char *name, size_t name_bytes, uint32_t n_dims,
                                const uint64_t *dims, uint32_t tensor_type, uint64_t bytes) {
    uint64_t at = h->data_bytes;
    put_string(h, name, name_bytes);
    put_u32(h, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) put_u64(h, dims[i]);
    put_u32(h, tensor_type);
    put_u64(h, at);
    h->n_tensors++;
    h->data_bytes += pad(h, bytes);
    return at;
}
