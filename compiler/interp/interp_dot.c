/* Products of weights and activations, a block's summed in integers.
 *
 * A block of weights is taken apart into quants and small integers (quant_unpack.h), once for all
 * tokens; what it is multiplied with decides on the loop. What is summed in integers, and that the sums
 * of blocks are added one after another in f32, is as in ggml's generic kernels. Two things are not:
 * K-quants have one integer sum a block here, where ggml keeps eight, and so has IQ4_XS, whose
 * sub-blocks ggml adds one by one; and a product of two scales is made first, which is exact for two
 * of f16. Powers of two are moved to where they round nothing.
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

static inline const void *row_of(const interp_rows *x, uint32_t t) {
    return x->first + t * x->stride;
}

/* ---- activations in Q8_0 and Q8_1 */

/* Q8_0 itself needs no unpacking. */
static void dot_q8_0(uint32_t type, const uint8_t *row, uint64_t n, const interp_rows *x, float *sums) {
    (void)type;
    for (uint32_t t = 0; t < x->count; t++) {
        const block_q8_0 *b = row_of(x, t);
        const uint8_t    *w = row;
        float sum = 0;
        for (uint64_t i = 0; i < n / BLOCK; i++, w += 34, b++)
            sum += (float)dot_i8((const int8_t *)w + 2, b->quants, BLOCK) *
                   (interp_widen(quant_load_u16(w)) * interp_widen(b->d));
        sums[t] = sum;
    }
}

static void dot_32(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    const weights of = weights_of(type);
    quant_parts   p;
    for (uint64_t i = 0; i < n / BLOCK; i++, w += of.bytes) {
        of.unpack(w, &none, &p);
        for (uint32_t t = 0; t < x->count; t++) {
            const block_q8_0 *b = (const block_q8_0 *)row_of(x, t) + i;
            sums[t] += p.d * interp_widen(b->d) * (float)dot_i8(p.quant, b->quants, BLOCK);
        }
    }
}

static void dot_32_min(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    const weights of = weights_of(type);
    quant_parts   p;
    for (uint64_t i = 0; i < n / BLOCK; i++, w += of.bytes) {
        of.unpack(w, &none, &p);
        for (uint32_t t = 0; t < x->count; t++) {
            const block_q8_1 *b = (const block_q8_1 *)row_of(x, t) + i;
            sums[t] += p.d * interp_widen(b->d) * (float)dot_i8(p.quant, b->quants, BLOCK) -
                       p.m * interp_widen(b->sum);
        }
    }
}

/* A scale for several blocks of activations. */
static void dot_long(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    const weights  of = weights_of(type);
    const uint64_t most = of.len / BLOCK;
    quant_parts    p;
    for (uint64_t i = 0; i < n / of.len; i++, w += of.bytes) {
        of.unpack(w, &none, &p);
        for (uint32_t t = 0; t < x->count; t++) {
            const block_q8_0 *b = (const block_q8_0 *)row_of(x, t) + i * most;
            float sum = 0;
            for (uint64_t k = 0; k < most; k++)
                sum += interp_widen(b[k].d) * (float)dot_i8(p.quant + k * BLOCK, b[k].quants, BLOCK);
            sums[t] += p.d * sum;
        }
    }
}

/* Two scales for a block of activations. */
static void dot_halves(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    const weights  of = weights_of(type);
    const uint64_t most = of.len / BLOCK;
    quant_parts    p;
    for (uint64_t i = 0; i < n / of.len; i++, w += of.bytes) {
        of.unpack(w, &none, &p);
        for (uint32_t t = 0; t < x->count; t++) {
            const block_q8_0 *b = (const block_q8_0 *)row_of(x, t) + i * most;
            for (uint64_t k = 0; k < 2 * most; k++)
                sums[t] += interp_widen(b[k / 2].d) * (p.d * (float)p.scale[k]) *
                           (float)dot_i8(p.quant + k * SUB, b[k / 2].quants + k % 2 * SUB, SUB);
        }
    }
}

/* ---- activations in Q8_K */

static inline void dot_subs(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums,
                            int sub, bool has_min) {
    const weights of = weights_of(type);
    quant_parts   p;
    for (uint64_t i = 0; i < n / SUPER; i++, w += of.bytes) {
        of.unpack(w, &none, &p);
        for (uint32_t t = 0; t < x->count; t++) {
            const block_q8_k *b = (const block_q8_k *)row_of(x, t) + i;
            int products = 0, mins = 0;
            for (int j = 0; j < SUPER / sub; j++)
                products += p.scale[j] * dot_i8(p.quant + j * sub, b->quants + j * sub, sub);
            for (int j = 0; has_min && j < SUPER / SUB; j++) mins += p.min[j * SUB / sub] * b->sums[j];
            sums[t] += p.d * b->d * (float)products;
            if (has_min) sums[t] -= p.m * b->d * (float)mins;
        }
    }
}

static void dot_256(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    dot_subs(type, w, n, x, sums, 256, false);
}

static void dot_subs_32(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    dot_subs(type, w, n, x, sums, 32, false);
}

static void dot_subs_32_min(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    dot_subs(type, w, n, x, sums, 32, true);
}

static void dot_subs_16(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    dot_subs(type, w, n, x, sums, 16, false);
}

static void dot_subs_16_min(uint32_t type, const uint8_t *w, uint64_t n, const interp_rows *x, float *sums) {
    dot_subs(type, w, n, x, sums, 16, true);
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
