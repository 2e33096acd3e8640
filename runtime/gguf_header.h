/* gguf_header.h - the part of a GGUF file before its data, made in memory: the one writer of GGUF, of
 * traces and of `ggufc quantize`. It is here because executables write traces and have only libc.
 *
 *     gguf_header h;
 *     gguf_header_begin(&h, 32);
 *     gguf_header_put_text(&h, "general.type", "activations", 11);  … all metadata
 *     offset = gguf_header_put_tensor(&h, …);                       … then all tensors
 *     if (!gguf_header_end(&h)) …                                   out of memory
 *     h.data, h.size: the file's first bytes; data of a tensor goes to h.size + offset
 *     gguf_header_free(&h);
 *
 * What is put is what stands in the file: names twice and such are the caller's care. Counts are
 * counted here. Running out of memory shows at the end only. */
#ifndef GGUFC_GGUF_HEADER_H
#define GGUFC_GGUF_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gguf_header {
    uint8_t *data; /* NULL once memory has run out */
    size_t   size, room;
    uint64_t alignment, n_kv, n_tensors;
    uint64_t data_bytes; /* of the tensors so far, each rounded up to the alignment */
} gguf_header;

void gguf_header_begin(gguf_header *h, uint64_t alignment); /* a power of two from 8 */
bool gguf_header_end(gguf_header *h);                       /* sets the counts, pads */
void gguf_header_free(gguf_header *h);

/* ---- metadata: a key with its value, or an entry as it stands in another file. */

void gguf_header_put_entry(gguf_header *h, const void *entry, size_t bytes);
void gguf_header_put_text(gguf_header *h, const char *key, const char *text, size_t bytes);
void gguf_header_put_u32(gguf_header *h, const char *key, uint32_t n);
void gguf_header_put_f32(gguf_header *h, const char *key, float x);
void gguf_header_put_bool(gguf_header *h, const char *key, bool truth);
void gguf_header_put_i32s(gguf_header *h, const char *key, const int32_t *numbers, uint64_t count);

/* ---- a tensor of `bytes` bytes; returns where its data stands behind the header. */

uint64_t gguf_header_put_tensor(gguf_header *h, const char *name, size_t name_bytes, uint32_t n_dims,
                                const uint64_t *dims, uint32_t tensor_type, uint64_t bytes);

#endif
