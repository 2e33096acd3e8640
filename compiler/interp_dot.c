/* Activations in blocks, and the products of a block summed in integers.
 *
 * Layouts of activations are ggml's, as are the orders of sums of its generic kernels: block after
 * block, one f32 accumulator. The loops are plain C that a compiler vectorises.
 *
 *     Q8_0   f16 d, i8 quants[32]                      d = max|x| / 127
 *     Q8_1   f16 d, f16 d · Σ quants, i8 quants[32]    the sum is what a weight's minimum is taken by
 *     Q8_K   f32 d, i8 quants[256], i16 sums[16]       d by the value of largest magnitude, / -127
 *     F16, BF16                                        rounded, one by one
 */
#include "interp_call.h"

#include <math.h>
#include <string.h>

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
static inline float widen(uint16_t half) {
#ifdef __F16C__
    return _cvtsh_ss(half);
#else
    return quant_f16_to_f32(half);
#endif
}

static float f16_at(const uint8_t *p) {
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return widen(bits);
}

/* ---- storing and loading activations */

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
        for (int i = 0; i < BLOCK; i++) *x++ = widen(b->d) * b->quants[i];
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
        for (int i = 0; i < BLOCK; i++) *x++ = widen(b->d) * b->quants[i];
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

/* ---- products */

static int dot_i8(const int8_t *a, const int8_t *b, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Q8_0: f16 d, i8 quants[32] */
static float dot_q8_0(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_0 *b = x;
    float sum = 0;
    for (; n; n -= BLOCK, w += 34, b++)
        sum += (float)dot_i8((const int8_t *)w + 2, b->quants, BLOCK) *
               (f16_at(w) * widen(b->d));
    return sum;
}

/* Quants of 4 bits, perhaps with a fifth: the low nibbles are values 0 … 15, the high ones 16 … 31. */
static void unpack_nibbles(const uint8_t *nibbles, int8_t *quants) {
    for (int i = 0; i < BLOCK / 2; i++) {
        quants[i] = (int8_t)(nibbles[i] & 15);
        quants[i + BLOCK / 2] = (int8_t)(nibbles[i] >> 4);
    }
}

static void add_fifth_bits(const uint8_t *bits, int8_t *quants) {
    for (int i = 0; i < BLOCK; i++) quants[i] = (int8_t)(quants[i] | (bits[i / 8] >> i % 8 & 1) << 4);
}

static void subtract(int8_t *quants, int offset) {
    for (int i = 0; i < BLOCK; i++) quants[i] = (int8_t)(quants[i] - offset);
}

/* Q4_0: f16 d, nibbles[16]: d · (q - 8) */
static float dot_q4_0(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_0 *b = x;
    float  sum = 0;
    int8_t q[BLOCK];
    for (; n; n -= BLOCK, w += 18, b++) {
        unpack_nibbles(w + 2, q);
        subtract(q, 8);
        sum += (float)dot_i8(q, b->quants, BLOCK) * f16_at(w) * widen(b->d);
    }
    return sum;
}

/* Q5_0: f16 d, fifth bits[4], nibbles[16]: d · (q - 16) */
static float dot_q5_0(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_0 *b = x;
    float  sum = 0;
    int8_t q[BLOCK];
    for (; n; n -= BLOCK, w += 22, b++) {
        unpack_nibbles(w + 6, q);
        add_fifth_bits(w + 2, q);
        subtract(q, 16);
        sum += f16_at(w) * widen(b->d) * (float)dot_i8(q, b->quants, BLOCK);
    }
    return sum;
}

/* Q4_1: f16 d, f16 m, nibbles[16]: d · q + m */
static float dot_q4_1(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_1 *b = x;
    float  sum = 0;
    int8_t q[BLOCK];
    for (; n; n -= BLOCK, w += 20, b++) {
        unpack_nibbles(w + 4, q);
        sum += f16_at(w) * widen(b->d) * (float)dot_i8(q, b->quants, BLOCK) +
               f16_at(w + 2) * widen(b->sum);
    }
    return sum;
}

/* Q5_1: f16 d, f16 m, fifth bits[4], nibbles[16]: d · q + m */
static float dot_q5_1(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_1 *b = x;
    float  sum = 0;
    int8_t q[BLOCK];
    for (; n; n -= BLOCK, w += 24, b++) {
        unpack_nibbles(w + 8, q);
        add_fifth_bits(w + 4, q);
        sum += f16_at(w) * widen(b->d) * (float)dot_i8(q, b->quants, BLOCK) +
               f16_at(w + 2) * widen(b->sum);
    }
    return sum;
}

/* Scale and minimum j of 8, 6 bits each in 12 bytes: the first four in the low bits of bytes 0 … 7,
   the others' low 4 bits in bytes 8 … 11 and their high 2 on top of bytes 0 … 7. */
static void scale_and_min(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *min = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

/* Σ over 8 sub-blocks of 32: scale · Σ q · x, and min · Σ x. */
static float dot_sub_blocks(const uint8_t *w, const uint8_t *scales, const int8_t *q, const block_q8_k *b) {
    int products = 0, mins = 0, scale, min;
    for (int j = 0; j < SUPER / BLOCK; j++) {
        scale_and_min(scales, j, &scale, &min);
        products += scale * dot_i8(q + j * BLOCK, b->quants + j * BLOCK, BLOCK);
        mins += min * (b->sums[2 * j] + b->sums[2 * j + 1]);
    }
    return b->d * f16_at(w) * (float)products - b->d * f16_at(w + 2) * (float)mins;
}

/* 64 values: the low nibbles of 32 bytes, then their high ones. */
static void unpack_nibbles_64(const uint8_t *nibbles, int8_t *q) {
    for (int i = 0; i < BLOCK; i++) {
        q[i] = (int8_t)(nibbles[i] & 15);
        q[i + BLOCK] = (int8_t)(nibbles[i] >> 4);
    }
}

/* Q4_K: f16 d, f16 dmin, scales[12], nibbles[128] */
static float dot_q4_k(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_k *b = x;
    float  sum = 0;
    int8_t q[SUPER];
    for (; n; n -= SUPER, w += 144, b++) {
        for (int j = 0; j < 4; j++) unpack_nibbles_64(w + 16 + j * BLOCK, q + j * 64);
        sum += dot_sub_blocks(w, w + 4, q, b);
    }
    return sum;
}

/* Q5_K: f16 d, f16 dmin, scales[12], fifth bits[32], nibbles[128]: bit j of byte i is value 32j + i's */
static float dot_q5_k(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_k *b = x;
    float  sum = 0;
    int8_t q[SUPER];
    for (; n; n -= SUPER, w += 176, b++) {
        for (int j = 0; j < 4; j++) unpack_nibbles_64(w + 48 + j * BLOCK, q + j * 64);
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < BLOCK; i++)
                q[j * BLOCK + i] = (int8_t)(q[j * BLOCK + i] | (w[16 + i] >> j & 1) << 4);
        sum += dot_sub_blocks(w, w + 4, q, b);
    }
    return sum;
}

/* Q6_K: low 4 bits[128], high 2 bits[64], i8 scales[16], f16 d: d · scale · (q - 32). In each half
   of 128 values, 64 bytes of nibbles (low ones, then high ones) and 32 of pairs of bits. */
static void unpack_q6_k(const uint8_t *w, int8_t *q) {
    for (int half = 0; half < 2; half++, w += 64, q += 128) {
        const uint8_t *high = w - half * 64 + 128 + half * 32;
        for (int i = 0; i < BLOCK; i++) {
            q[i] = (int8_t)(((w[i] & 15) | (high[i] & 3) << 4) - 32);
            q[i + 32] = (int8_t)(((w[i + 32] & 15) | (high[i] >> 2 & 3) << 4) - 32);
            q[i + 64] = (int8_t)((w[i] >> 4 | (high[i] >> 4 & 3) << 4) - 32);
            q[i + 96] = (int8_t)((w[i + 32] >> 4 | (high[i] >> 6) << 4) - 32);
        }
    }
}

static float dot_q6_k(const uint8_t *w, const void *x, uint64_t n) {
    const block_q8_k *b = x;
    float  sum = 0;
    int8_t q[SUPER];
    for (; n; n -= SUPER, w += 210, b++) {
        const int8_t *scales = (const int8_t *)w + 192;
        int products = 0;
        unpack_q6_k(w, q);
        for (int j = 0; j < SUPER / SUB; j++)
            products += scales[j] * dot_i8(q + j * SUB, b->quants + j * SUB, SUB);
        sum += f16_at(w + 208) * b->d * (float)products;
    }
    return sum;
}

interp_dot *interp_dot_find(uint32_t weight_type) {
    static interp_dot *const dots[QUANT_COUNT] = {
        [QUANT_Q8_0] = dot_q8_0, [QUANT_Q4_0] = dot_q4_0, [QUANT_Q4_1] = dot_q4_1,
        [QUANT_Q5_0] = dot_q5_0, [QUANT_Q5_1] = dot_q5_1, [QUANT_Q4_K] = dot_q4_k,
        [QUANT_Q5_K] = dot_q5_k, [QUANT_Q6_K] = dot_q6_k,
    };
    return dots[weight_type];
}
