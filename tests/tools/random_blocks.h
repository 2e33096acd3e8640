/* random_blocks.h - random weights of any type, as blocks that no quantizer made.
 *
 * Every bit of a block is random but for its scale and minimum. Those are such that weights are about
 * as large as asked for and have no bias: which scale that takes is measured on some blocks first, and
 * a minimum is as far from zero as the quants it belongs to are on average. Where quants lean to one
 * side by themselves (Q4_0, Q2_0, TQ2_0), half of the scales are negative. A scale is one of sixteen
 * around the right one, in what precision the type has: a power of two in MXFP4.
 *
 * A block is a pure function of a key and its number, see make_model_values.h. */
#ifndef RANDOM_BLOCKS_H
#define RANDOM_BLOCKS_H

#include "make_model_values.h"
#include "quant.h"

#include <math.h>

#define RANDOM_CHOICES    16
#define RANDOM_TRIALS     64
#define RANDOM_MOST_LEN   256
#define RANDOM_MOST_BYTES 512

typedef struct random_blocks {
    uint32_t          type;
    const quant_info *info;
    bool              either_sign;
    uint32_t          scales[RANDOM_CHOICES], minima[RANDOM_CHOICES]; /* bits of the field's kind */
    double            size; /* of plain numbers */
} random_blocks;

/* ---- scales in bits */

static inline uint32_t random_nearest_ue4m3(double x) {
    uint32_t best = 0;
    for (uint32_t bits = 0; bits < 0x7f; bits++) {
        double here = quant_field_number(QUANT_FIELD_UE4M3, bits);
        double least = quant_field_number(QUANT_FIELD_UE4M3, best);
        if (fabs(here - x) < fabs(least - x)) best = bits;
    }
    return best;
}

static inline uint32_t random_scale_bits(enum quant_field_kind kind, double x) {
    switch (kind) {
    case QUANT_FIELD_E8M0: return (uint32_t)(127 + lrint(log2(x < 1e-30 ? 1e-30 : x)));
    case QUANT_FIELD_UE4M3: return random_nearest_ue4m3(x);
    case QUANT_FIELD_F32: return quant_f32_bits((float)x);
    default: return quant_f32_to_f16((float)x);
    }
}

/* What the block's own scale is stored as. */
static inline enum quant_field_kind random_scale_kind(uint32_t type) {
    const quant_field *f = quant_find_scale(type);
    return f ? f->kind : QUANT_FIELD_F16; /* IQ1_M's is no field */
}

static inline void random_put_scales(const quant_info *info, uint8_t *block, uint32_t scale,
                                     uint32_t minimum) {
    for (uint32_t k = 0; k < info->n_fields; k++) {
        const quant_field *f = &info->fields[k];
        uint32_t           size = quant_field_bytes(f) / f->count;
        uint8_t           *at = block + f->offset;
        for (uint32_t i = 0; f->role == QUANT_ROLE_SCALE && i < f->count; i++)
            memcpy(at + i * size, &scale, size);
        if (f->role == QUANT_ROLE_MIN) memcpy(at, &minimum, size);
        if (f->kind != QUANT_FIELD_U16 || f->role != QUANT_ROLE_SUB) continue;
        for (uint32_t i = 0; i < 4; i++) /* IQ1_M: four bits on top of each word of scales */
            at[2 * i + 1] = (uint8_t)((at[2 * i + 1] & 15) | (scale >> 4 * i & 15) << 4);
    }
}

/* ---- random bits */

static inline void random_bytes(uint8_t *to, uint32_t n, uint64_t key, uint64_t first) {
    for (uint32_t i = 0; i < n; i += 8) {
        uint64_t bits = random_at(key, first + i / 8);
        memcpy(to + i, &bits, n - i < 8 ? n - i : 8);
    }
}

/* The sums that Q8_1 and Q8_K keep of their quants. */
static inline void random_put_sums(uint32_t type, uint8_t *block) {
    const int8_t *q = (const int8_t *)block + 4;
    for (int i = 0; type == QUANT_Q8_K && i < 16; i++) {
        int16_t sum = 0;
        for (int k = 0; k < 16; k++) sum = (int16_t)(sum + q[16 * i + k]);
        memcpy(block + 260 + 2 * i, &sum, 2);
    }
    if (type != QUANT_Q8_1) return;
    int      sum = 0;
    uint16_t d;
    for (int i = 0; i < 32; i++) sum += q[i];
    memcpy(&d, block, 2);
    d = quant_f32_to_f16(quant_f16_to_f32(d) * (float)sum);
    memcpy(block + 2, &d, 2);
}

/* ---- how large weights are */

/* The mean, or the mean square, of weights with these scales. */
static inline double random_measure(uint32_t type, double scale, double minimum, bool square) {
    const quant_info     *info = quant_find(type);
    enum quant_field_kind kind = random_scale_kind(type);
    uint8_t block[RANDOM_MOST_BYTES];
    float   values[RANDOM_MOST_LEN];
    double  sum = 0;
    for (uint32_t b = 0; b < RANDOM_TRIALS; b++) {
        random_bytes(block, info->block_bytes, 1, (uint64_t)b * RANDOM_MOST_BYTES);
        random_put_scales(info, block, random_scale_bits(kind, scale), random_scale_bits(kind, minimum));
        quant_read(type, block, info->block_len, NULL, values);
        for (uint32_t i = 0; i < info->block_len; i++)
            sum += square ? (double)values[i] * (double)values[i] : (double)values[i];
    }
    return sum / (RANDOM_TRIALS * info->block_len);
}

static inline bool random_has_minimum(const quant_info *info) {
    for (uint32_t k = 0; k < info->n_fields; k++)
        if (info->fields[k].role == QUANT_ROLE_MIN) return true;
    return false;
}

/* Blocks of this scale, up to a half more or less of it. */
static inline random_blocks random_blocks_of_scale(uint32_t type, double scale) {
    const quant_info *info = quant_find(type);
    random_blocks     r = {.type = type, .info = info, .size = scale};
    if (info->block_len == 1) return r;
    enum quant_field_kind kind = random_scale_kind(type);
    double mean = random_measure(type, 1, 0, false), ratio = 0;
    if (random_has_minimum(info))
        ratio = -mean / random_measure(type, 0, 1, false);
    else if (kind == QUANT_FIELD_F16)
        r.either_sign = fabs(mean) > sqrt(random_measure(type, 1, 0, true)) / 20;
    for (int i = 0; i < RANDOM_CHOICES; i++) {
        double d = scale * (0.5 + (i + 0.5) / RANDOM_CHOICES);
        r.scales[i] = random_scale_bits(kind, d);
        r.minima[i] = random_scale_bits(kind, ratio * d);
    }
    return r;
}

/* Blocks of weights whose root mean square is about `size`: of what integers are it is no matter. */
static inline random_blocks random_blocks_of_size(uint32_t type, double size) {
    const quant_info *info = quant_find(type);
    if (info->block_len == 1) return random_blocks_of_scale(type, size);
    double ratio = 0;
    if (random_has_minimum(info))
        ratio = -random_measure(type, 1, 0, false) / random_measure(type, 0, 1, false);
    return random_blocks_of_scale(type, size / sqrt(random_measure(type, 1, ratio, true)));
}

/* ---- filling */

/* A plain number of up to half more or less, of either sign; an integer from -1 to 2. */
static inline uint64_t random_plain_bits(const random_blocks *r, uint64_t random) {
    double x = r->size * (0.5 + (double)(random >> 40) * 0x1p-24);
    if (random & 1) x = -x;
    switch (r->info->fields[0].kind) {
    case QUANT_FIELD_F16: return quant_f32_to_f16((float)x);
    case QUANT_FIELD_BF16: return quant_f32_to_bf16((float)x);
    case QUANT_FIELD_F32: return quant_f32_bits((float)x);
    case QUANT_FIELD_F64: memcpy(&random, &x, sizeof x); return random;
    default: return (random & 3) - 1;
    }
}

/* Blocks first … first + n - 1 of the tensor with this key. */
static inline void random_blocks_fill(const random_blocks *r, uint64_t key, uint64_t first, uint64_t n,
                                      uint8_t *to) {
    const uint32_t bytes = r->info->block_bytes, words = (bytes + 7) / 8 + 1;
    const uint32_t sign = !r->either_sign ? 0 : 0x8000;
    for (uint64_t b = first; b < first + n; b++, to += bytes) {
        uint64_t random = random_at(key, b * words);
        if (r->info->block_len == 1) {
            random = random_plain_bits(r, random);
            memcpy(to, &random, bytes);
            continue;
        }
        uint32_t choice = random >> 32 & (RANDOM_CHOICES - 1);
        random_bytes(to, bytes, key, b * words + 1);
        random_put_scales(r->info, to, r->scales[choice] ^ (random & 1 ? sign : 0), r->minima[choice]);
        random_put_sums(r->type, to);
    }
}

#endif
