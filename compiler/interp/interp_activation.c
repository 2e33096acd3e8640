/* Rows of activations stored in blocks, and read back. The loops are plain C that a compiler
 * vectorises. */
#include "interp_activation.h"

#include <math.h>
#include <string.h>

/* The quants of 32 values; returns d, not rounded yet. */
static float quantize_32(const float *x, int8_t *quants) {
    float most = 0;
    for (int i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, inverse = most > 0 ? 127 / most : 0;
    for (int i = 0; i < BLOCK; i++) quants[i] = (int8_t)lrintf(x[i] * inverse);
    return d;
}

static void store_q8_0(const float *x, uint64_t n, void *to) {
    block_q8_0 *b = to;
    for (; n; n -= BLOCK, x += BLOCK, b++) b->d = quant_f32_to_f16(quantize_32(x, b->quants));
}

static void load_q8_0(const void *from, uint64_t n, float *x) {
    const block_q8_0 *b = from;
    for (; n; n -= BLOCK, b++)
        for (int i = 0; i < BLOCK; i++) *x++ = interp_widen(b->d) * b->quants[i];
}

static void store_q8_1(const float *x, uint64_t n, void *to) {
    block_q8_1 *b = to;
    for (; n; n -= BLOCK, x += BLOCK, b++) {
        float d = quantize_32(x, b->quants);
        int   sum = 0;
        for (int i = 0; i < BLOCK; i++) sum += b->quants[i];
        b->d = quant_f32_to_f16(d);
        b->sum = quant_f32_to_f16((float)sum * d);
    }
}

static void load_q8_1(const void *from, uint64_t n, float *x) {
    const block_q8_1 *b = from;
    for (; n; n -= BLOCK, b++)
        for (int i = 0; i < BLOCK; i++) *x++ = interp_widen(b->d) * b->quants[i];
}

static void store_q8_k(const float *x, uint64_t n, void *to) {
    block_q8_k *b = to;
    for (; n; n -= SUPER, x += SUPER, b++) {
        float most = 0;
        for (int i = 0; i < SUPER; i++)
            if (fabsf(x[i]) > fabsf(most)) most = x[i];
        float inverse = fabsf(most) > 0 ? -127 / most : 0;
        for (int i = 0; i < SUPER; i++) {
            int q = (int)lrintf(x[i] * inverse);
            b->quants[i] = (int8_t)(q < 127 ? q : 127);
        }
        b->d = fabsf(most) > 0 ? 1 / inverse : 0;
        memset(b->sums, 0, sizeof b->sums);
        for (int i = 0; i < SUPER; i++) b->sums[i / SUB] = (int16_t)(b->sums[i / SUB] + b->quants[i]);
    }
}

static void load_q8_k(const void *from, uint64_t n, float *x) {
    const block_q8_k *b = from;
    for (; n; n -= SUPER, b++)
        for (int i = 0; i < SUPER; i++) *x++ = b->d * b->quants[i];
}

static void store_f16(const float *x, uint64_t n, void *to) {
    uint16_t *half = to;
    for (uint64_t i = 0; i < n; i++) half[i] = quant_f32_to_f16(x[i]);
}

static void load_f16(const void *from, uint64_t n, float *x) {
    quant_read(QUANT_F16, from, n, NULL, x);
}

static void store_bf16(const float *x, uint64_t n, void *to) {
    uint16_t *half = to;
    for (uint64_t i = 0; i < n; i++) half[i] = quant_f32_to_bf16(x[i]);
}

static void load_bf16(const void *from, uint64_t n, float *x) {
    quant_read(QUANT_BF16, from, n, NULL, x);
}

static const interp_activation forms[QUANT_COUNT] = {
    [QUANT_Q8_0] = { BLOCK, sizeof(block_q8_0), store_q8_0, load_q8_0 },
    [QUANT_Q8_1] = { BLOCK, sizeof(block_q8_1), store_q8_1, load_q8_1 },
    [QUANT_Q8_K] = { SUPER, sizeof(block_q8_k), store_q8_k, load_q8_k },
    [QUANT_F16] = { 1, sizeof(uint16_t), store_f16, load_f16 },
    [QUANT_BF16] = { 1, sizeof(uint16_t), store_bf16, load_bf16 },
};

const interp_activation *interp_activation_find(enum quant_type type) {
    return forms[type].store ? &forms[type] : NULL;
}
