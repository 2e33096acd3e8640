/* quant.h - the types a GGUF tensor can have, one row each, indexed by the file's type id.
 *
 * Block layouts are those of ggml (ggml-common.h). A type that is not `compiled` is known by name
 * and size, so that a file holding it is read and described, and refused by name when compiled. */
#ifndef GGUFC_QUANT_H
#define GGUFC_QUANT_H

#include "base.h"

enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q8_1 = 9,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_Q8_K = 15,
    QUANT_IQ2_XXS = 16,
    QUANT_IQ2_XS = 17,
    QUANT_IQ3_XXS = 18,
    QUANT_IQ1_S = 19,
    QUANT_IQ4_NL = 20,
    QUANT_IQ3_S = 21,
    QUANT_IQ2_S = 22,
    QUANT_IQ4_XS = 23,
    QUANT_I8 = 24,
    QUANT_I16 = 25,
    QUANT_I32 = 26,
    QUANT_I64 = 27,
    QUANT_F64 = 28,
    QUANT_IQ1_M = 29,
    QUANT_BF16 = 30,
    QUANT_TQ1_0 = 34,
    QUANT_TQ2_0 = 35,
    QUANT_MXFP4 = 39,
    QUANT_NVFP4 = 40,
    QUANT_Q1_0 = 41,
    QUANT_Q2_0 = 42,
    QUANT_COUNT = 43 /* one past the largest id known */
};

typedef struct quant_info {
    const char *name;        /* as in llama.cpp: "Q8_0"; NULL where no type has this id */
    uint32_t    block_len;   /* values a block */
    uint32_t    block_bytes; /* bytes a block */
    bool        compiled;    /* weights of this type can be compiled */

    /* What activations are converted to before they are multiplied with such weights: what
       llama.cpp's CPU backend does (the vec_dot_type of its type traits). F32 for types that
       hold no weights. */
    enum quant_type activation;
} quant_info;

/* NULL where no type has this id: an unknown type, or one that was removed from the format. */
const quant_info *quant_find(uint32_t type);

/* The bytes of one row of `n` values; n must be a multiple of the block length. */
uint64_t quant_row_bytes(uint32_t type, uint64_t n);

#endif
