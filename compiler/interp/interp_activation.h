/* interp_activation.h - activations in blocks, as they lie in an interpreted model's scratch: ggml's
 * layouts. Private to interp*.c.
 *
 *     Q8_0   f16 d, i8 quants[32]                      d = max|x| / 127
 *     Q8_1   f16 d, f16 d · Σ quants, i8 quants[32]    the sum is what a weight's minimum is taken by
 *     Q8_K   f32 d, i8 quants[256], i16 sums[16]       d by the value of largest magnitude, / -127
 *     F16, BF16                                        rounded, one by one
 */
#ifndef GGUFC_INTERP_ACTIVATION_H
#define GGUFC_INTERP_ACTIVATION_H

#include "interp_call.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

enum { BLOCK = 32, SUPER = 256, SUB = 16 };

typedef struct block_q8_0 {
    uint16_t d;
    int8_t   quants[BLOCK];
} block_q8_0;

typedef struct block_q8_1 {
    uint16_t d, sum;
    int8_t   quants[BLOCK];
} block_q8_1;

typedef struct block_q8_k {
    float   d;
    int8_t  quants[SUPER];
    int16_t sums[SUPER / SUB];
} block_q8_k;

/* By the processor where it can, as ggml does: two are widened for each block. */
static inline float interp_widen(uint16_t half) {
#ifdef __F16C__
    return _cvtsh_ss(half);
#else
    return quant_f16_to_f32(half);
#endif
}

#endif
