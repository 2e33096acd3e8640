/* gguf_read.h - walking a GGUF file from its first byte to the layout of its data. Private to
 * gguf.c, which makes the lookup tables and the accessors of what was read here, and to gguf_open.c,
 * which maps the files. */
#ifndef GGUFC_GGUF_READ_H
#define GGUFC_GGUF_READ_H

#include "gguf.h"

enum gguf_kind { GGUF_UNSIGNED, GGUF_SIGNED, GGUF_FLOAT, GGUF_TRUTH, GGUF_TEXT, GGUF_LIST };

typedef struct gguf_type_info {
    const char *name;
    enum gguf_kind kind;
    uint32_t bytes; /* a value takes; of a string or array, the least it can take */
} gguf_type_info;

/* NULL where no value type has this id. */
const gguf_type_info *gguf_type_find(uint32_t type);

/* Reads and checks everything in `f`, whose path, data and size are set; fills in the rest but for
   the lookup tables and the map. False after an error was reported. That names are there only once
   is left to the lookup tables. */
bool gguf_read(gguf_file *f, arena *a, diag *d);

/* Makes the lookup table of f's tensors; false, reported, where two have one name. */
bool gguf_index_tensors(gguf_file *f, arena *a, diag *d);

/* The little-endian number in `bytes` bytes, at most 8. */
static inline uint64_t gguf_load(const uint8_t *from, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* The number or bool of kv's type at `from`, into its value. */
void gguf_load_value(gguf_kv *kv, const uint8_t *from);

double gguf_load_float(const uint8_t *from, unsigned bytes); /* 4 or 8 */

#endif
