/* Making blocks: the table of what makes which, plain numbers, and the blocks of 32 with one scale,
 * which without importance are llama.cpp's to the bit (quantize_row_q4_0_ref and the like in
 * ggml-quants.c): what is rounded when, and that the quants are of the scale before it is an f16. */
#include "quant_fit.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>

/* ---- blocks of 32 */

static void store_half(uint8_t *out, float f) {
    uint16_t half = quant_f32_to_f16(f);
    if ((half & 0x7fff) >= 0x7c00) half = (half & 0x8000) | 0x7bff;
    quant_store_u16(out, half);
}

static float inverse(float d) {
    const float id = d != 0 ? 1 / d : 0;
    return fabsf(id) <= FLT_MAX ? id : 0;
}

/* The first value of the largest magnitude, with its sign. */
static float find_extreme(const float *x) {
    float most = 0, extreme = 0;
    for (uint32_t i = 0; i < 32; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    for (uint32_t i = 32; i-- > 0;)
        if (fabsf(x[i]) == most) extreme = x[i];
    return extreme;
}

/* floor(x × by + half a step) in 0 … top; by way of comparisons that turn what is no number to 0. */
static void quantize(const float *x, float offset, float by, float plus, float top, uint8_t *codes) {
    for (uint32_t i = 0; i < 32; i++) {
        float q = (x[i] - offset) * by + plus;
        q = q > 0 ? q : 0;
        codes[i] = (uint8_t)(int32_t)(q < top ? q : top);
    }
}

/* Codes 0 … 2 middle - 1, with the extreme at 0. */
static void code_symmetric(const float *x, float middle, uint8_t *half, uint8_t *codes) {
    const float d = find_extreme(x) / -middle;
    store_half(half, d);
    quantize(x, 0, inverse(d), middle + 0.5f, 2 * middle - 1, codes);
}

static void code_affine(const float *x, float top, uint8_t *half, uint8_t *half_min, uint8_t *codes) {
    float low = FLT_MAX, high = -FLT_MAX;
    for (uint32_t i = 0; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float d = (high - low) / top;
    store_half(half, d);
    store_half(half_min, low);
    quantize(x, low, inverse(d), 0.5f, top, codes);
}

static void write_q4_0(const float *x, uint8_t *out) {
    uint8_t codes[32];
    code_symmetric(x, 8, out, codes);
    quant_pack(out + 2, 32, 4, 16, 0, codes);
}

static void write_q4_1(const float *x, uint8_t *out) {
    uint8_t codes[32];
    code_affine(x, 15, out, out + 2, codes);
    quant_pack(out + 4, 32, 4, 16, 0, codes);
}

static void write_q5_0(const float *x, uint8_t *out) {
    uint8_t codes[32];
    code_symmetric(x, 16, out, codes);
    quant_pack(out + 2, 32, 1, 1, 4, codes);
    quant_pack(out + 6, 32, 4, 16, 0, codes);
}

static void write_q5_1(const float *x, uint8_t *out) {
    uint8_t codes[32];
    code_affine(x, 31, out, out + 2, codes);
    quant_pack(out + 4, 32, 1, 1, 4, codes);
    quant_pack(out + 8, 32, 4, 16, 0, codes);
}

/* Rounded to the nearest, half way away from 0. */
static void write_q8_0(const float *x, uint8_t *out) {
    const float d = fabsf(find_extreme(x)) / 127, id = inverse(d);
    store_half(out, d);
    for (uint32_t i = 0; i < 32; i++) {
        const float v = x[i] * id, size = fabsf(v) < 127 ? fabsf(v) : fabsf(v) >= 127 ? 127 : 0;
        int32_t     q = (int32_t)size;
        q += size - (float)q >= 0.5f;
        out[2 + i] = (uint8_t)(int8_t)(v < 0 ? -q : q);
    }
}

/* ---- plain numbers */

static void write_f32(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    (void)importance;
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t bits = quant_f32_bits(x[i]);
        quant_store_u16(out + 4 * i, (uint16_t)bits);
        quant_store_u16(out + 4 * i + 2, (uint16_t)(bits >> 16));
    }
}

static void write_f16(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    (void)importance;
    for (uint64_t i = 0; i < n; i++) quant_store_u16(out + 2 * i, quant_f32_to_f16(x[i]));
}

static void write_bf16(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    (void)importance;
    for (uint64_t i = 0; i < n; i++) quant_store_u16(out + 2 * i, quant_f32_to_bf16(x[i]));
}

/* ---- all types */

typedef struct write_info {
    /* As llama.cpp, block by block, where nothing is weighed; else, or where NULL, `fit`. */
    void (*exact)(const float *x, uint8_t *out);
    quant_writer *fit; /* NULL: `exact` for all */
    bool          needs_importance;
} write_info;

static const write_info writers[QUANT_COUNT] = {
    [QUANT_F32] = { NULL, write_f32, false },
    [QUANT_F16] = { NULL, write_f16, false },
    [QUANT_BF16] = { NULL, write_bf16, false },
    [QUANT_Q4_0] = { write_q4_0, quant_write_q4_0, false },
    [QUANT_Q4_1] = { write_q4_1, quant_write_q4_1, false },
    [QUANT_Q5_0] = { write_q5_0, quant_write_q5_0, false },
    [QUANT_Q5_1] = { write_q5_1, quant_write_q5_1, false },
    [QUANT_Q8_0] = { write_q8_0, NULL, false },
    [QUANT_Q2_K] = { NULL, quant_write_q2_k, false },
    [QUANT_Q3_K] = { NULL, quant_write_q3_k, false },
    [QUANT_Q4_K] = { NULL, quant_write_q4_k, false },
    [QUANT_Q5_K] = { NULL, quant_write_q5_k, false },
    [QUANT_Q6_K] = { NULL, quant_write_q6_k, false },
    [QUANT_IQ4_NL] = { NULL, quant_write_iq4_nl, false },
    [QUANT_IQ4_XS] = { NULL, quant_write_iq4_xs, false },
    [QUANT_TQ1_0] = { NULL, quant_write_tq1_0, false },
    [QUANT_TQ2_0] = { NULL, quant_write_tq2_0, false },
    [QUANT_MXFP4] = { NULL, quant_write_mxfp4, false },
    [QUANT_NVFP4] = { NULL, quant_write_nvfp4, false },
    [QUANT_Q1_0] = { NULL, quant_write_q1_0, false },
    [QUANT_Q2_0] = { NULL, quant_write_q2_0, false },
    [QUANT_IQ3_XXS] = { NULL, quant_write_iq3_xxs, false },
    [QUANT_IQ3_S] = { NULL, quant_write_iq3_s, false },
    [QUANT_IQ2_XXS] = { NULL, quant_write_iq2_xxs, true },
    [QUANT_IQ2_XS] = { NULL, quant_write_iq2_xs, true },
    [QUANT_IQ2_S] = { NULL, quant_write_iq2_s, false },
    [QUANT_IQ1_S] = { NULL, quant_write_iq1_s, true },
    [QUANT_IQ1_M] = { NULL, quant_write_iq1_m, true },
};

bool quant_writable(uint32_t type) {
    return type < QUANT_COUNT && (writers[type].exact || writers[type].fit);
}

bool quant_needs_importance(uint32_t type) {
    return type < QUANT_COUNT && writers[type].needs_importance;
}

void quant_write(uint32_t type, const float *x, uint64_t n, const float *importance, void *out) {
    if (!quant_writable(type)) bug("writing values of type %" PRIu32, type);
    const quant_info *info = quant_find(type);
    const write_info *w = &writers[type];
    if (n % info->block_len) bug("writing %" PRIu64 " values of %s", n, info->name);
    if (w->fit && (importance || !w->exact)) {
        w->fit(x, n, importance, out);
        return;
    }
    uint8_t *to = out;
    for (uint64_t i = 0; i < n; i += info->block_len, to += info->block_bytes) w->exact(x + i, to);
}
