/* quant_unpack.h - blocks of weights taken apart into small integers: the part that reading them as
 * numbers (quant_read.c) and multiplying them in integers have in common.
 *
 *     value[i] = d × scale[i / sub] × quant[i] - m × min[i / sub]
 *
 * d is the block's scale, times the power of two that makes the other factors whole: IQ2 has
 * (scale + 1/2) × quant / 4, which is d / 8 × (2 scale + 1) × quant here, IQ1's shift by an eighth
 * makes 8 quant ± 1 of its quants. d × scale is exact in f32, as is m × min. */
#ifndef GGUFC_QUANT_UNPACK_H
#define GGUFC_QUANT_UNPACK_H

#include "quant.h"

enum { QUANT_MAX_LEN = 256, QUANT_MAX_SUBS = 16 };

typedef struct quant_parts {
    float   d, m;
    int32_t scale[QUANT_MAX_SUBS], min[QUANT_MAX_SUBS];
    int8_t  quant[QUANT_MAX_LEN];
} quant_parts;

/* Fills in what a type has: all quants and d, scales of the sub-blocks, minima where it has minima. */
typedef void quant_unpack(const uint8_t *block, const quant_mistake *how, quant_parts *p);

typedef struct quant_blocks {
    uint32_t sub;      /* values a sub-block; scale[0] is 1 where it is the whole block */
    bool     has_min;  /* else m and min are not set */
    quant_unpack *unpack; /* mistakes are made where it reads what they are about */
} quant_blocks;

/* NULL for types of plain numbers. */
const quant_blocks *quant_find_blocks(uint32_t type);

/* ---- quant_unpack_iq.c: indices into grids */

quant_unpack quant_unpack_iq1_s, quant_unpack_iq1_m, quant_unpack_iq2_xxs, quant_unpack_iq2_xs,
    quant_unpack_iq2_s, quant_unpack_iq3_xxs, quant_unpack_iq3_s;

/* ---- little-endian numbers, of any alignment */

static inline uint16_t quant_load_u16(const uint8_t *from) {
    return (uint16_t)(from[0] | from[1] << 8);
}

static inline uint32_t quant_load_u32(const uint8_t *from) {
    return quant_load_u16(from) | (uint32_t)quant_load_u16(from + 2) << 16;
}

/* An f16 scale by its bits. */
static inline float quant_scale(uint16_t bits, const quant_mistake *how) {
    if (how->subnormal_scale_zero && !(bits & 0x7c00)) bits &= 0x8000;
    return how->scale_as_bf16 ? quant_bf16_to_f32(bits) : quant_f16_to_f32(bits);
}

#endif
