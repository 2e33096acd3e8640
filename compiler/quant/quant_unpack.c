/* A block's packed bits as small integers. Orders of packed bits are those of the table in quant.c;
 * mistakes are made where something is read that they are about. */
#include "quant_grid.h"
#include "quant_unpack.h"

static float read_scale(const uint8_t *from, const quant_mistake *how) {
    return quant_scale(quant_load_u16(from), how);
}

/* Inlined always, so that all but pointers are constants. */
#define ALWAYS static inline __attribute__((always_inline))

/* Written as vectors: compilers unroll the loops below before they would vectorise them. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

ALWAYS void unpack_16(const uint8_t *from, uint32_t bits, uint32_t place, uint32_t to, int8_t *quant) {
    bytes16 high, low;
    memcpy(&high, from, sizeof high);
    high = high >> (uint8_t)place & (uint8_t)((1u << bits) - 1);
    if (to) {
        memcpy(&low, quant, sizeof low);
        high = (low & (uint8_t)((1u << to) - 1)) | high << (uint8_t)to;
    }
    memcpy(quant, &high, sizeof high);
}

ALWAYS void unpack_1(const uint8_t *from, uint32_t bits, uint32_t place, uint32_t to, int8_t *quant) {
    uint32_t low = (uint8_t)*quant & ((1u << to) - 1), high = *from >> place & ((1u << bits) - 1);
    *quant = (int8_t)((to ? low : 0) | high << to);
}

/* `n` elements of `bits` bits, in groups of bytes as quant_field has it, put at bit `to` of the
   quants, whose higher bits are lost. `flip` turns the order within bytes around. */
ALWAYS void unpack(const uint8_t *from, uint32_t n, uint32_t bits, uint32_t group, uint32_t flip, uint32_t to,
                   int8_t *quant) {
    for (uint32_t done = 0; done < n; from += group)
        for (uint32_t place = 0; place < 8; place += bits, done += group)
            for (uint32_t i = 0; i < group; i += group % 16 ? 1 : 16)
                if (group % 16)
                    unpack_1(from + i, bits, place ^ flip, to, quant + done + i);
                else
                    unpack_16(from + i, bits, place ^ flip, to, quant + done + i);
}

/* Ascending bits, 16 of 2 bytes: 0 or 1. */
ALWAYS bytes16 ascending_bits(const uint8_t *from) {
    const bytes16 place = { 1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128 };
    const uint8_t a = from[0], b = from[1];
    const bytes16 both = { a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b };
    return (bytes16)((both & place) != 0) & 1;
}

/* Q5's fifth bits. */
ALWAYS void unpack_fifth_bits(const uint8_t *from, int8_t *quant) {
    bytes16 x;
    for (uint32_t i = 0; i < 32; i += sizeof x) {
        memcpy(&x, quant + i, sizeof x);
        x |= ascending_bits(from + i / 8) << 4;
        memcpy(quant + i, &x, sizeof x);
    }
}

static void unpack_nibbles_wrongly(const uint8_t *from, uint32_t n, uint32_t group, const quant_mistake *how,
                                   int8_t *quant) {
    unpack(from, n, 4, how->nibbles_adjacent ? 1 : group, how->nibbles_swapped ? 4 : 0, 0, quant);
}

ALWAYS void unpack_nibbles(const uint8_t *from, uint32_t n, uint32_t group, const quant_mistake *how,
                           int8_t *quant) {
    if (how->nibbles_adjacent || how->nibbles_swapped)
        unpack_nibbles_wrongly(from, n, group, how, quant);
    else
        unpack(from, n, 4, group, 0, 0, quant);
}

/* Sixteen at a time as they were stored: wider loads would have to wait for the stores. */
ALWAYS void add(int8_t *quant, uint32_t n, int32_t offset) {
    bytes16 x;
    for (uint32_t i = 0; i < n; i += sizeof x) {
        memcpy(&x, quant + i, sizeof x);
        x += (uint8_t)offset;
        memcpy(quant + i, &x, sizeof x);
    }
}

ALWAYS void look_up(int8_t *quant, uint32_t n, const int8_t *table) {
    for (uint32_t i = 0; i < n; i++) quant[i] = table[quant[i]];
}

/* One scale for all of the block. */
static inline void put_scale(float d, quant_parts *p) {
    p->d = d;
    p->scale[0] = 1;
}

/* q × d + m: a minimum that is added. */
static inline void put_minimum(float m, quant_parts *p) {
    p->m = -m;
    p->min[0] = 1;
}

/* ---- blocks with one scale */

static void unpack_q4_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    unpack_nibbles(b + 2, 32, 16, how, p->quant);
    add(p->quant, 32, -8);
}

static void unpack_q4_1(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    put_minimum(read_scale(b + 2, how), p);
    unpack_nibbles(b + 4, 32, 16, how, p->quant);
}

static void unpack_q5_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    unpack_nibbles(b + 6, 32, 16, how, p->quant);
    unpack_fifth_bits(b + 2, p->quant);
    add(p->quant, 32, -16);
}

static void unpack_q5_1(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    put_minimum(read_scale(b + 2, how), p);
    unpack_nibbles(b + 8, 32, 16, how, p->quant);
    unpack_fifth_bits(b + 4, p->quant);
}

static void unpack_q8_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    memcpy(p->quant, b + 2, 32);
}

static void unpack_q8_1(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    memcpy(p->quant, b + 4, 32);
}

static void unpack_q8_k(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    (void)how;
    put_scale(quant_f32_from_bits(quant_load_u32(b)), p);
    memcpy(p->quant, b + 4, 256);
}

static void unpack_q1_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    for (uint32_t i = 0; i < 128; i += sizeof(bytes16)) {
        const bytes16 x = 2 * ascending_bits(b + 2 + i / 8) - 1;
        memcpy(p->quant + i, &x, sizeof x);
    }
}

static void unpack_q2_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    unpack(b + 2, 64, 2, 1, 0, 0, p->quant);
    add(p->quant, 64, -1);
}

/* Five (or four) digits in base 3 a byte, most significant first, of all bytes of a group the first
   ones, then the second ones. */
static int8_t *unpack_trits(const uint8_t *from, uint32_t group, uint32_t digits, int8_t *quant) {
    for (uint32_t k = 0, power = 1; k < digits; k++, power *= 3)
        for (uint32_t i = 0; i < group; i++)
            *quant++ = (int8_t)((uint8_t)(from[i] * power) * 3u >> 8);
    return quant;
}

static void unpack_tq1_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b + 52, how), p);
    int8_t *quant = unpack_trits(b, 32, 5, p->quant);
    quant = unpack_trits(b + 32, 16, 5, quant);
    unpack_trits(b + 48, 4, 4, quant);
    add(p->quant, 256, -1);
}

static void unpack_tq2_0(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b + 64, how), p);
    unpack(b, 256, 2, 32, 0, 0, p->quant);
    add(p->quant, 256, -1);
}

/* ---- K-quants: 256 values, sub-blocks with scales of their own */

static void unpack_q2_k(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    p->d = read_scale(b + 80, how);
    p->m = read_scale(b + 82, how);
    for (uint32_t i = 0; i < 16; i++) {
        p->scale[i] = b[i] & 15;
        p->min[i] = b[i] >> 4;
    }
    unpack(b + 16, 256, 2, 32, 0, 0, p->quant);
}

/* Of scale i the low nibble is in byte i % 8, the high two bits are in byte 8 + i % 4. The third bit
   of a quant is set where 4 is not to be subtracted. */
static void unpack_q3_k(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const uint8_t *scales = b + 96;
    p->d = read_scale(b + 108, how);
    for (uint32_t i = 0; i < 16; i++) {
        int32_t low = scales[i % 8] >> i / 8 * 4 & 15, high = scales[8 + i % 4] >> i / 4 * 2 & 3;
        p->scale[i] = (low | high << 4) - 32;
    }
    unpack(b + 32, 256, 2, 32, 0, 0, p->quant);
    unpack(b, 256, 1, 32, 0, 2, p->quant);
    add(p->quant, 256, -4);
}

/* The scales, then the twelve bytes of eight scales and eight minima in six bits: four scales, four
   minima, then the low nibbles of the other four scales and minima, whose high two bits are above the
   former. */
static inline void unpack_scales(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const uint8_t *from = b + 4;
    p->d = read_scale(b, how);
    p->m = read_scale(b + 2, how);
    for (uint32_t i = 0; i < 4; i++) {
        p->scale[i] = from[i] & 63;
        p->min[i] = from[4 + i] & 63;
        p->scale[4 + i] = (from[8 + i] & 15) | from[i] >> 6 << 4;
        p->min[4 + i] = from[8 + i] >> 4 | from[4 + i] >> 6 << 4;
    }
}

static void unpack_q4_k(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    unpack_scales(b, how, p);
    unpack_nibbles(b + 16, 256, 32, how, p->quant);
}

static void unpack_q5_k(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    unpack_scales(b, how, p);
    unpack_nibbles(b + 48, 256, 32, how, p->quant);
    unpack(b + 16, 256, 1, 32, 0, 4, p->quant);
}

static void unpack_q6_k(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    p->d = read_scale(b + 208, how);
    for (uint32_t i = 0; i < 16; i++) p->scale[i] = (int8_t)b[192 + i];
    unpack_nibbles(b, 256, 64, how, p->quant);
    unpack(b + 128, 256, 2, 32, 0, 4, p->quant);
    add(p->quant, 256, -32);
}

/* ---- quants that are positions in a table of 16 */

static void unpack_iq4_nl(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(read_scale(b, how), p);
    unpack_nibbles(b + 2, 32, 16, how, p->quant);
    look_up(p->quant, 32, quant_iq4_values);
}

static void unpack_iq4_xs(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    const uint32_t high = quant_load_u16(b + 2);
    p->d = read_scale(b, how);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t six_bits = (b[4 + i / 2] >> i % 2 * 4 & 15u) | (high >> 2 * i & 3) << 4;
        p->scale[i] = (int32_t)six_bits - 32;
    }
    unpack_nibbles(b + 8, 256, 16, how, p->quant);
    look_up(p->quant, 256, quant_iq4_values);
}

/* Half of 2^(e - 127), subnormal in f32 for the least two. */
static float half_of_e8m0(uint8_t e) {
    return quant_f32_from_bits(e < 2 ? UINT32_C(0x200000) << e : (e - UINT32_C(1)) << 23);
}

static void unpack_mxfp4(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    put_scale(half_of_e8m0(b[0]), p);
    unpack_nibbles(b + 1, 32, 16, how, p->quant);
    look_up(p->quant, 32, quant_fp4_values);
}

/* f8 e4m3 is a multiple of 2^-9, halved since quants are doubled. */
static void unpack_nvfp4(const uint8_t *b, const quant_mistake *how, quant_parts *p) {
    p->d = 0x1p-10f;
    for (uint32_t i = 0; i < 4; i++) p->scale[i] = (int32_t)(quant_ue4m3_to_f32(b[i]) * 0x1p9f);
    unpack_nibbles(b + 4, 64, 8, how, p->quant);
    look_up(p->quant, 64, quant_fp4_values);
}

/* ---- all types */

/* Values a sub-block, whether it has a minimum. */
static const quant_blocks blocks[QUANT_COUNT] = {
    [QUANT_Q4_0] = { 32, false, unpack_q4_0 },
    [QUANT_Q4_1] = { 32, true, unpack_q4_1 },
    [QUANT_Q5_0] = { 32, false, unpack_q5_0 },
    [QUANT_Q5_1] = { 32, true, unpack_q5_1 },
    [QUANT_Q8_0] = { 32, false, unpack_q8_0 },
    [QUANT_Q8_1] = { 32, false, unpack_q8_1 },
    [QUANT_Q8_K] = { 256, false, unpack_q8_k },
    [QUANT_Q1_0] = { 128, false, unpack_q1_0 },
    [QUANT_Q2_0] = { 64, false, unpack_q2_0 },

    [QUANT_Q2_K] = { 16, true, unpack_q2_k },
    [QUANT_Q3_K] = { 16, false, unpack_q3_k },
    [QUANT_Q4_K] = { 32, true, unpack_q4_k },
    [QUANT_Q5_K] = { 32, true, unpack_q5_k },
    [QUANT_Q6_K] = { 16, false, unpack_q6_k },

    [QUANT_IQ1_S] = { 32, false, quant_unpack_iq1_s },
    [QUANT_IQ1_M] = { 16, false, quant_unpack_iq1_m },
    [QUANT_IQ2_XXS] = { 32, false, quant_unpack_iq2_xxs },
    [QUANT_IQ2_XS] = { 16, false, quant_unpack_iq2_xs },
    [QUANT_IQ2_S] = { 16, false, quant_unpack_iq2_s },
    [QUANT_IQ3_XXS] = { 32, false, quant_unpack_iq3_xxs },
    [QUANT_IQ3_S] = { 32, false, quant_unpack_iq3_s },
    [QUANT_IQ4_NL] = { 32, false, unpack_iq4_nl },
    [QUANT_IQ4_XS] = { 32, false, unpack_iq4_xs },

    [QUANT_TQ1_0] = { 256, false, unpack_tq1_0 },
    [QUANT_TQ2_0] = { 256, false, unpack_tq2_0 },
    [QUANT_MXFP4] = { 32, false, unpack_mxfp4 },
    [QUANT_NVFP4] = { 16, false, unpack_nvfp4 },
};

const quant_blocks *quant_find_blocks(uint32_t type) {
    return type < QUANT_COUNT && blocks[type].unpack ? &blocks[type] : NULL;
}
