/* Blocks of IQ1, IQ2 and IQ3: 256 values as positions in a grid (quant_grid.h), eight or four values a
 * position, with signs beside them (IQ2, IQ3) or a shift of all eight (IQ1). Scales of sub-blocks are
 * 3 or 4 bits, odd numbers 2s + 1.
 *
 * For the first 32 values (the others follow likewise, field by field as quant.c has it):
 *
 *     IQ2_XXS  u8 positions[4], u32: 4 × 7 signs, a scale in the highest 4 bits
 *     IQ2_XS   u16[4]: 9 bits position, 7 signs; a byte with two scales
 *     IQ2_S    u8 positions[4], u8 signs[4], a byte with bits 8 and 9 of each position, one with two scales
 *     IQ3_XXS  u8 positions[8], u32: as in IQ2_XXS
 *     IQ3_S    u8 positions[8], u8 signs[4], a byte with bit 8 of each position, half a byte of scale
 *     IQ1_S    u8 positions[4], u16: bits 8 … 10 of each, a scale, the shift's sign
 *     IQ1_M    u8 positions[4], a nibble for each: bits 8 … 10, the shift's sign; two scales of 3 bits
 */
#include "quant_grid.h"
#include "quant_unpack.h"

enum { LEN = 256, GROUP = 8 /* values that share a byte of signs */ };

static inline int32_t nibble(const uint8_t *from, uint32_t i) {
    return from[i / 2] >> i % 2 * 4 & 15;
}

static inline void unpack_scales(const uint8_t *from, uint32_t n, quant_parts *p) {
    for (uint32_t i = 0; i < n; i++) p->scale[i] = 2 * nibble(from, i) + 1;
}

typedef int8_t eight __attribute__((vector_size(GROUP)));

/* Values of one byte of signs, negative where their bit is set. */
static inline void put_signed(eight size, uint32_t signs, int8_t *quant) {
    const eight place = { 1, 2, 4, 8, 16, 32, 64, INT8_MIN };
    const int8_t byte = (int8_t)signs;
    const eight same = { byte, byte, byte, byte, byte, byte, byte, byte };
    const eight negative = (eight)((same & place) != 0); /* -1 or 0 */
    size = (size ^ negative) - negative;
    memcpy(quant, &size, sizeof size);
}

/* ---- IQ2: points of eight */

static inline void put_eight(const int8_t *grid, uint32_t at, uint32_t signs, int8_t *quant) {
    eight size;
    memcpy(&size, grid + GROUP * at, sizeof size);
    put_signed(size, signs, quant);
}

void quant_unpack_iq2_xxs(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t *grid = quant_grid_values(QUANT_GRID_IQ2_XXS);
    int8_t       *quant = p->quant;
    p->d = 0.125f * quant_scale(quant_load_u16(b), how);
    b += 2;
    for (uint32_t i = 0; i < LEN / 32; i++, b += 8) {
        const uint32_t rest = quant_load_u32(b + 4);
        p->scale[i] = (int32_t)(2 * (rest >> 28) + 1);
        for (uint32_t k = 0; k < 4; k++, quant += GROUP)
            put_eight(grid, b[k], quant_grid_signs(rest >> 7 * k & 127), quant);
    }
}

void quant_unpack_iq2_xs(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t *grid = quant_grid_values(QUANT_GRID_IQ2_XS);
    p->d = 0.125f * quant_scale(quant_load_u16(b), how);
    unpack_scales(b + 66, 16, p);
    for (uint32_t i = 0; i < LEN / GROUP; i++) {
        const uint32_t word = quant_load_u16(b + 2 + 2 * i);
        put_eight(grid, word & 511, quant_grid_signs(word >> 9), p->quant + GROUP * i);
    }
}

void quant_unpack_iq2_s(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t  *grid = quant_grid_values(QUANT_GRID_IQ2_S);
    const uint8_t *low = b + 2, *signs = b + 34, *high = b + 66;
    p->d = 0.125f * quant_scale(quant_load_u16(b), how);
    unpack_scales(b + 74, 16, p);
    for (uint32_t i = 0; i < LEN / GROUP; i++)
        put_eight(grid, low[i] | (high[i / 4] >> i % 4 * 2 & 3u) << 8, signs[i], p->quant + GROUP * i);
}

/* ---- IQ3: points of four, two for each byte of signs */

static inline void put_fours(const int8_t *grid, uint32_t first, uint32_t second, uint32_t signs,
                             int8_t *quant) {
    eight size;
    memcpy(&size, grid + 4 * first, 4);
    memcpy((int8_t *)&size + 4, grid + 4 * second, 4);
    put_signed(size, signs, quant);
}

void quant_unpack_iq3_xxs(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t  *grid = quant_grid_values(QUANT_GRID_IQ3_XXS);
    const uint8_t *at = b + 2;
    int8_t        *quant = p->quant;
    p->d = 0.25f * quant_scale(quant_load_u16(b), how);
    for (uint32_t i = 0; i < LEN / 32; i++) {
        const uint32_t rest = quant_load_u32(b + 66 + 4 * i);
        p->scale[i] = (int32_t)(2 * (rest >> 28) + 1);
        for (uint32_t k = 0; k < 4; k++, quant += GROUP, at += 2)
            put_fours(grid, at[0], at[1], quant_grid_signs(rest >> 7 * k & 127), quant);
    }
}

void quant_unpack_iq3_s(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t  *grid = quant_grid_values(QUANT_GRID_IQ3_S);
    const uint8_t *low = b + 2, *high = b + 66, *signs = b + 74;
    p->d = quant_scale(quant_load_u16(b), how);
    unpack_scales(b + 106, 8, p);
    for (uint32_t i = 0; i < LEN / GROUP; i++, low += 2) {
        const uint32_t ninth = high[i / 4] >> i % 4 * 2;
        put_fours(grid, low[0] | (ninth & 1) << 8, low[1] | (ninth & 2) << 7, signs[i], p->quant + GROUP * i);
    }
}

/* ---- IQ1: points of eight, each value an eighth more or less */

static inline void put_shifted(const int8_t *point, bool less, int8_t *quant) {
    eight x;
    memcpy(&x, point, sizeof x);
    x = 8 * x + (int8_t)(less ? -1 : 1);
    memcpy(quant, &x, sizeof x);
}

void quant_unpack_iq1_s(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t  *grid = quant_grid_values(QUANT_GRID_IQ1);
    const uint8_t *low = b + 2;
    int8_t        *quant = p->quant;
    p->d = 0.125f * quant_scale(quant_load_u16(b), how);
    for (uint32_t i = 0; i < LEN / 32; i++) {
        const uint32_t rest = quant_load_u16(b + 34 + 2 * i);
        p->scale[i] = (int32_t)(2 * (rest >> 12 & 7) + 1);
        for (uint32_t k = 0; k < 4; k++, quant += GROUP) {
            const uint32_t at = *low++ | (rest >> 3 * k & 7) << 8;
            put_shifted(grid + GROUP * at, rest >> 15, quant);
        }
    }
}

/* The block's scale is in the highest four bits of the four words of scales, the lowest ones first. */
void quant_unpack_iq1_m(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const int8_t  *grid = quant_grid_values(QUANT_GRID_IQ1);
    const uint8_t *scales = b + 48;
    uint32_t       d = 0;
    for (uint32_t i = 0; i < 4; i++) d |= (uint32_t)(scales[2 * i + 1] >> 4) << 4 * i;
    p->d = 0.125f * quant_scale((uint16_t)d, how);
    for (uint32_t i = 0; i < LEN / 16; i++)
        p->scale[i] = 2 * (quant_load_u16(scales + i / 4 * 2) >> i % 4 * 3 & 7) + 1;
    for (uint32_t i = 0; i < LEN / GROUP; i++) {
        const uint32_t rest = (uint32_t)nibble(b + 32, i), at = b[i] | (rest & 7) << 8;
        put_shifted(grid + GROUP * at, rest >> 3, p->quant + GROUP * i);
    }
}
