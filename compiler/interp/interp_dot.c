/* Products of weights and activations, a block's summed in integers.
 *
 * A block of weights is taken apart into quants and small integers (quant_unpack.h); what it is
 * multiplied with decides on the loop, as in ggml's generic kernels: what is summed in integers, and
 * that the sums of blocks are added one after another in f32, are theirs. Two things are not: K-quants
 * have one integer sum a block here, where ggml keeps eight, and so have the sub-blocks of IQ4_XS,
 * which ggml adds one by one; and a product of two scales is made first, which is exact for two of
 * f16. Powers of two are moved to where they round nothing.
 *
 *     Q8_0   Σ over runs of 32 (NVFP4: 16)   d · d_x · Σ q · x
 *            Q1_0, Q2_0                      d · Σ over 32 of d_x · Σ q · x
 *     Q8_1                                   d · d_x · Σ q · x + m · (d_x · Σ x as it is stored)
 *     Q8_K                                   d · d_x · Σ scale · Σ q · x - d_x · m · Σ min · Σ x
 */
#include "interp_activation.h"
#include "quant_unpack.h"

static const quant_mistake none;

static inline int dot_i8(const int8_t *a, const int8_t *b, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* What a loop knows of its weights. */
typedef struct weights {
    quant_unpack *unpack;
    uint32_t      len, bytes; /* of a block */
} weights;

static inline weights weights_of(uint32_t type) {
    const quant_info *info = quant_find(type);
    return (weights){quant_find_blocks(type)->unpack, info->block_len, info->block_bytes};
}

/* ---- activations in Q8_0 and Q8_1 */

/* Q8_0 itself needs no unpacking. */
static float dot_q8_0(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_0 *b = x;
    float sum = 0;
    (void)type;
    for (; n; n -= BLOCK, w += 34, b++)
        sum += (float)dot_i8((const int8_t *)w + 2, b->quants, BLOCK) *
               (interp_widen(quant_load_u16(w)) * interp_widen(b->d));
    return sum;
}

static float dot_32(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    const weights     of = weights_of(type);
    const block_q8_0 *b = x;
    quant_parts p;
    float       sum = 0;
    for (; n; n -= BLOCK, w += of.bytes, b++) {
        of.unpack(w, &none, &p);
        sum += p.d * interp_widen(b->d) * (float)dot_i8(p.quant, b->quants, BLOCK);
    }
    return sum;
}

static float dot_32_min(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    const weights     of = weights_of(type);
    const block_q8_1 *b = x;
    quant_parts p;
    float       sum = 0;
    for (; n; n -= BLOCK, w += of.bytes, b++) {
        of.unpack(w, &none, &p);
        sum += p.d * interp_widen(b->d) * (float)dot_i8(p.quant, b->quants, BLOCK) -
               p.m * interp_widen(b->sum);
    }
    return sum;
}

/* A scale for several blocks of activations. */
static float dot_long(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    const weights     of = weights_of(type);
    const block_q8_0 *b = x;
    quant_parts p;
    float       sum = 0;
    for (; n; n -= of.len, w += of.bytes) {
        float of_block = 0;
        of.unpack(w, &none, &p);
        for (const int8_t *q = p.quant; q < p.quant + of.len; q += BLOCK, b++)
            of_block += interp_widen(b->d) * (float)dot_i8(q, b->quants, BLOCK);
        sum += p.d * of_block;
    }
    return sum;
}

/* Two scales for a block of activations. */
static float dot_halves(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    const weights     of = weights_of(type);
    const block_q8_0 *b = x;
    quant_parts p;
    float       sum = 0;
    for (; n; n -= of.len, w += of.bytes, b += of.len / BLOCK) {
        of.unpack(w, &none, &p);
        for (uint32_t i = 0; i < of.len / SUB; i++)
            sum += interp_widen(b[i / 2].d) * (p.d * (float)p.scale[i]) *
                   (float)dot_i8(p.quant + i * SUB, b[i / 2].quants + i % 2 * SUB, SUB);
    }
    return sum;
}

/* ---- activations in Q8_K */

static inline float dot_subs(uint32_t type, const uint8_t *w, const block_q8_k *b, uint64_t n, int sub,
                             bool has_min) {
    const weights of = weights_of(type);
    quant_parts p;
    float       sum = 0;
    for (; n; n -= SUPER, w += of.bytes, b++) {
        int products = 0, mins = 0;
        of.unpack(w, &none, &p);
        for (int j = 0; j < SUPER / sub; j++)
            products += p.scale[j] * dot_i8(p.quant + j * sub, b->quants + j * sub, sub);
        for (int j = 0; has_min && j < SUPER / SUB; j++) mins += p.min[j * SUB / sub] * b->sums[j];
        sum += p.d * b->d * (float)products;
        if (has_min) sum -= p.m * b->d * (float)mins;
    }
    return sum;
}

static float dot_256(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    return dot_subs(type, w, x, n, 256, false);
}

static float dot_subs_32(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    return dot_subs(type, w, x, n, 32, false);
}

static float dot_subs_32_min(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    return dot_subs(type, w, x, n, 32, true);
}

static float dot_subs_16(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    return dot_subs(type, w, x, n, 16, false);
}

static float dot_subs_16_min(uint32_t type, const uint8_t *w, const void *x, uint64_t n) {
    return dot_subs(type, w, x, n, 16, true);
}

/* ---- all types */

interp_dot *interp_dot_find(uint32_t weight_type) {
    static interp_dot *const dots[QUANT_COUNT] = {
        [QUANT_Q8_0] = dot_q8_0,        [QUANT_Q4_0] = dot_32,           [QUANT_Q5_0] = dot_32,
        [QUANT_IQ4_NL] = dot_32,        [QUANT_MXFP4] = dot_32,          [QUANT_Q4_1] = dot_32_min,
        [QUANT_Q5_1] = dot_32_min,      [QUANT_Q1_0] = dot_long,         [QUANT_Q2_0] = dot_long,
        [QUANT_NVFP4] = dot_halves,

        [QUANT_Q2_K] = dot_subs_16_min, [QUANT_Q3_K] = dot_subs_16,      [QUANT_Q4_K] = dot_subs_32_min,
        [QUANT_Q5_K] = dot_subs_32_min, [QUANT_Q6_K] = dot_subs_16,      [QUANT_IQ1_S] = dot_subs_32,
        [QUANT_IQ1_M] = dot_subs_16,    [QUANT_IQ2_XXS] = dot_subs_32,   [QUANT_IQ2_XS] = dot_subs_16,
        [QUANT_IQ2_S] = dot_subs_16,    [QUANT_IQ3_XXS] = dot_subs_32,   [QUANT_IQ3_S] = dot_subs_32,
        [QUANT_IQ4_XS] = dot_subs_32,   [QUANT_TQ1_0] = dot_256,         [QUANT_TQ2_0] = dot_256,
    };
    return dots[weight_type];
}
