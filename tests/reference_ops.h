/* reference_ops.h - the ops of graph.h in f64, straightforwardly, on rows of doubles: what emitted
 * kernels are measured by. Nothing here is shared with the compiler but, for types read by
 * quant_value.h, where fields are in a block and the grids. */
#ifndef GGUFC_TESTS_REFERENCE_OPS_H
#define GGUFC_TESTS_REFERENCE_OPS_H

#include "quant_value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline double reference_half(uint16_t bits) {
    double   sign = bits & 0x8000 ? -1 : 1;
    unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (!exponent) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, (int)exponent - 25);
}

/* The nearest of the numbers that have `bits` bits, ties to even, none below 2^least: f16 is
   (11, -24), bf16 (8, -133). */
static inline double reference_round(double x, int bits, int least) {
    int exponent;
    if (x == 0) return x;
    frexp(x, &exponent);
    int ulp = exponent - bits < least ? least : exponent - bits;
    return ldexp(rint(ldexp(x, -ulp)), ulp);
}

static inline uint16_t reference_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline double reference_f32(const uint8_t *p) {
    float f;
    memcpy(&f, p, 4);
    return (double)f;
}

/* Nibble i of 16 bytes: first all the low ones. */
static inline int reference_nibble(const uint8_t *bytes, uint64_t i) {
    return bytes[i % 16] >> (i < 16 ? 0 : 4) & 15;
}

static inline int reference_bit(const uint8_t *bytes, uint64_t i) {
    return bytes[i / 8] >> i % 8 & 1;
}

/* Value i of a block of Q4_K, or of Q5_K: `low` its nibbles, `high` its fifth bits or NULL. */
static inline double reference_k(const uint8_t *b, const uint8_t *low, const uint8_t *high, uint64_t i) {
    const uint8_t *s = b + 4;
    uint64_t j = i / 32;
    int      scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) + (s[j - 4] >> 6) * 16;
    int      min = j < 4 ? s[j + 4] & 63 : s[j + 4] / 16 + (s[j] >> 6) * 16;
    int      q = low[i / 64 * 32 + i % 32] >> (j % 2 ? 4 : 0) & 15;
    if (high) q += (high[i % 32] >> j & 1) * 16;
    return reference_half(reference_u16(b)) * scale * q - reference_half(reference_u16(b + 2)) * min;
}

static inline double reference_q6_k(const uint8_t *b, uint64_t i) {
    uint64_t half = i / 128, part = i % 128 / 32, k = i % 32;
    int low = b[half * 64 + part % 2 * 32 + k] >> (part < 2 ? 0 : 4) & 15;
    int high = b[128 + half * 32 + k] >> 2 * part & 3;
    return reference_half(reference_u16(b + 208)) * (int8_t)b[192 + i / 16] * (low + 16 * high - 32);
}

/* Value i of a row as stored in a file; not a number for integers and F64. */
static inline double reference_weight(uint32_t type, const uint8_t *row, uint64_t i) {
    uint8_t wide[4] = {0};
    double  d, m;
    switch (type) {
    case QUANT_F32: return reference_f32(row + 4 * i);
    case QUANT_F16: return reference_half(reference_u16(row + 2 * i));
    case QUANT_BF16:
        memcpy(wide + 2, row + 2 * i, 2);
        return reference_f32(wide);
    case QUANT_Q8_0:
        row += i / 32 * 34;
        return reference_half(reference_u16(row)) * (int8_t)row[2 + i % 32];
    case QUANT_Q4_0:
        row += i / 32 * 18;
        return reference_half(reference_u16(row)) * (reference_nibble(row + 2, i % 32) - 8);
    case QUANT_Q5_0:
        row += i / 32 * 22;
        return reference_half(reference_u16(row)) *
               (reference_nibble(row + 6, i % 32) + 16 * reference_bit(row + 2, i % 32) - 16);
    case QUANT_Q4_1:
        row += i / 32 * 20;
        d = reference_half(reference_u16(row)), m = reference_half(reference_u16(row + 2));
        return d * reference_nibble(row + 4, i % 32) + m;
    case QUANT_Q5_1:
        row += i / 32 * 24;
        d = reference_half(reference_u16(row)), m = reference_half(reference_u16(row + 2));
        return d * (reference_nibble(row + 8, i % 32) + 16 * reference_bit(row + 4, i % 32)) + m;
    case QUANT_Q4_K: row += i / 256 * 144; return reference_k(row, row + 16, NULL, i % 256);
    case QUANT_Q5_K: row += i / 256 * 176; return reference_k(row, row + 48, row + 16, i % 256);
    case QUANT_Q6_K: return reference_q6_k(row + i / 256 * 210, i % 256);
    default: {
        const quant_info *info = quant_find(type);
        row += i / info->block_len * info->block_bytes;
        return quant_value(type, row, (uint32_t)(i % info->block_len));
    }
    }
}

/* ---- ops */

/* x in place: what it becomes before it is multiplied with weights of `type`. */
static inline void reference_activate(enum quant_type type, double *x, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (type == QUANT_F16) x[i] = reference_round(x[i], 11, -24);
        if (type == QUANT_BF16) x[i] = reference_round(x[i], 8, -133);
    }
    for (uint64_t b = 0; (type == QUANT_Q8_0 || type == QUANT_Q8_1) && b < n; b += 32) {
        double most = 0;
        for (uint64_t i = 0; i < 32; i++) most = fmax(most, fabs(x[b + i]));
        double scale = reference_round(most / 127, 11, -24);
        for (uint64_t i = 0; i < 32; i++)
            x[b + i] = most > 0 ? rint(x[b + i] * 127 / most) * scale : 0;
    }
    for (uint64_t b = 0; type == QUANT_Q8_K && b < n; b += 256) {
        double most = 0;
        for (uint64_t i = 0; i < 256; i++)
            if (fabs(x[b + i]) > fabs(most)) most = x[b + i];
        for (uint64_t i = 0; i < 256; i++)
            x[b + i] = fabs(most) > 0 ? rint(x[b + i] * -127 / most) * (most / -127) : 0;
    }
}

static inline void reference_rms_norm(const double *x, const double *w, double eps, uint64_t n,
                                      double *out) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += x[i] * x[i];
    double factor = 1 / sqrt(sum / (double)n + eps);
    for (uint64_t i = 0; i < n; i++) out[i] = x[i] * factor * (w ? w[i] : 1);
}

static inline double reference_silu(double x) {
    return x / (1 + exp(-x));
}

/* Pair (a, b) of the head turned by the angle whose cosine and sine these are. */
static inline void reference_turn(double *a, double *b, double cosine, double sine) {
    double x = *a, y = *b;
    *a = x * cosine - y * sine;
    *b = x * sine + y * cosine;
}

/* softmax(scale · q·k) · v over `n` positions; those of k and v are `stride` apart. */
static inline void reference_attend(const double *q, const double *k, const double *v,
                                    uint64_t stride, uint64_t d, uint64_t n, double scale,
                                    double *out) {
    double *score = calloc(n, sizeof *score), most = -INFINITY, sum = 0;
    for (uint64_t j = 0; j < n; j++) {
        for (uint64_t i = 0; i < d; i++) score[j] += q[i] * k[j * stride + i];
        score[j] *= scale;
        most = fmax(most, score[j]);
    }
    for (uint64_t j = 0; j < n; j++) sum += score[j] = exp(score[j] - most);
    for (uint64_t i = 0; i < d; i++) {
        out[i] = 0;
        for (uint64_t j = 0; j < n; j++) out[i] += score[j] / sum * v[j * stride + i];
    }
    free(score);
}

/* Rotates the first `dims` of each head of `d` by the angles whose cosines, then sines are in
   `table`. */
static inline void reference_rotate(double *x, uint64_t n, const double *table, uint32_t d,
                                    uint32_t dims, bool halves) {
    uint32_t half = dims / 2;
    for (uint64_t h = 0; h < n; h += d)
        for (uint32_t i = 0; i < half; i++)
            reference_turn(&x[h + (halves ? i : 2 * i)], &x[h + (halves ? i + half : 2 * i + 1)],
                           table[i], table[half + i]);
}

/* Those angles of position `pos`. `factors` may be NULL. */
static inline void reference_angles(double *table, uint32_t dims, double base, double scale,
                                    const double *factors, uint64_t pos) {
    for (uint32_t i = 0; i < dims / 2; i++) {
        double angle = (double)pos * scale * pow(base, -2.0 * i / dims);
        if (factors) angle /= factors[i];
        table[i] = cos(angle);
        table[dims / 2 + i] = sin(angle);
    }
}

/* out = w · x, w of n rows of k. */
static inline void reference_multiply(const double *w, const double *x, uint64_t k, uint64_t n,
                                      double *out) {
    for (uint64_t r = 0; r < n; r++) {
        out[r] = 0;
        for (uint64_t i = 0; i < k; i++) out[r] += w[r * k + i] * x[i];
    }
}

/* The same by who takes w for k rows of n. */
static inline void reference_multiply_transposed(const double *w, const double *x, uint64_t k, uint64_t n,
                                                 double *out) {
    for (uint64_t r = 0; r < n; r++) {
        out[r] = 0;
        for (uint64_t i = 0; i < k; i++) out[r] += w[i * n + r] * x[i];
    }
}

#endif
