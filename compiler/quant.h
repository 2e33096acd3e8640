/* quant.h - the types a GGUF tensor can have, one row each, indexed by the file's type id.
 *
 * Block layouts are those of ggml (ggml-common.h). A type without `dot` support is known by name
 * and size, so that a file holding it is read and described, and refused by name when compiled. */
#ifndef GGUFC_QUANT_H
#define GGUFC_QUANT_H

#include "base.h"

enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q8_0 = 8,
    QUANT_BF16 = 30,
    QUANT_COUNT = 43 /* one past the largest id known */
};

typedef struct quant_info {
    const char *name;        /* as in llama.cpp: "Q8_0"; NULL where no type has this id */
    uint32_t    block_len;   /* values a block */
    uint32_t    block_bytes; /* bytes a block */
    bool        compiled;    /* weights of this type can be compiled */

    /* What activations are converted to before they are multiplied with such weights: what
       llama.cpp's CPU backend does (the vec_dot_type of its type traits). */
    enum quant_type activation;
} quant_info;

/* NULL where no type has this id: an unknown type, or one that was removed from the format. */
const quant_info *quant_find(uint32_t type);

/* The bytes of one row of `n` values; n must be a multiple of the block length. */
uint64_t quant_row_bytes(uint32_t type, uint64_t n);

#endif
