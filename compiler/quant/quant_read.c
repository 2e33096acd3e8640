/* Blocks of weights read as numbers, in two steps: a block is taken apart into small integers and
 * the scales and minima of its sub-blocks, then
 *
 *     value[i] = scale[i / sub] × quant[i] - min[i / sub]
 *
 * in f32. Scales are f16 times at most 8 bits and quants have at most 8 bits, so that a product is
 * exact and a fused multiply-subtract gives no other bits; whether one is used does not matter.
 *
 * Mistakes are made where the first step reads what they are about. Orders of packed bits are those
 * of the table in quant.c. */
#include "quant.h"
#include "quant_grid.h"

#include <inttypes.h>

enum { MAX_LEN = 256, MIN_SUB = 16 };

typedef struct parts {
    float  scale[MAX_LEN / MIN_SUB], min[MAX_LEN / MIN_SUB];
    int8_t quant[MAX_LEN];
} parts;

typedef void block_reader(const uint8_t *block, const quant_mistake *how, float *out);

/* ---- little-endian numbers */

static inline uint16_t load_u16(const uint8_t *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bits = __builtin_bswap16(bits);
#endif
    return bits;
}

static inline uint32_t load_u32(const uint8_t *from) {
    uint32_t bits;
    memcpy(&bits, from, sizeof bits);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bits = __builtin_bswap32(bits);
#endif
    return bits;
}

/* ---- first step: taking a block apart */

static float read_scale(const uint8_t *from, const quant_mistake *how) {
    uint16_t bits = load_u16(from);
    if (how->subnormal_scale_zero && !(bits & 0x7c00)) bits &= 0x8000;
    return how->scale_as_bf16 ? quant_bf16_to_f32(bits) : quant_f16_to_f32(bits);
}

/* `n` elements of `bits` bits, in groups of bytes as quant_field has it, put at bit `to` of the
   quants, whose higher bits are lost. `flip` turns the order within bytes around. */
static inline void unpack(const uint8_t *from, uint32_t n, uint32_t bits, uint32_t group,
                          uint32_t flip, uint32_t to, int8_t *quant) {
    const uint32_t mask = (1u << bits) - 1;
    for (uint32_t done = 0; done < n; from += group)
        for (uint32_t place = 0; place < 8; place += bits, done += group)
            for (uint32_t i = 0; i < group; i++) {
                uint32_t low = to ? (uint8_t)quant[done + i] & ((1u << to) - 1) : 0;
                uint32_t high = from[i] >> (place ^ flip) & mask;
                quant[done + i] = (int8_t)(low | high << to);
            }
}

static inline void unpack_nibbles(const uint8_t *from, uint32_t n, uint32_t group,
                                  const quant_mistake *how, int8_t *quant) {
    if (how->nibbles_adjacent)
        unpack(from, n, 4, 1, how->nibbles_swapped ? 4 : 0, 0, quant);
    else if (how->nibbles_swapped)
        unpack(from, n, 4, group, 4, 0, quant);
    else
        unpack(from, n, 4, group, 0, 0, quant);
}

static inline void add(int8_t *quant, uint32_t n, int32_t offset) {
    for (uint32_t i = 0; i < n; i++) quant[i] = (int8_t)(quant[i] + offset);
}

static inline void look_up(int8_t *quant, uint32_t n, const int8_t *table) {
    for (uint32_t i = 0; i < n; i++) quant[i] = table[quant[i]];
}

/* ---- second step */

static inline void combine(const parts *p, uint32_t n, uint32_t sub, float *out) {
    for (uint32_t s = 0; s < n / sub; s++)
        for (uint32_t j = s * sub; j < (s + 1) * sub; j++)
            out[j] = p->scale[s] * (float)p->quant[j];
}

static inline void combine_min(const parts *p, uint32_t n, uint32_t sub, float *out) {
    for (uint32_t s = 0; s < n / sub; s++)
        for (uint32_t j = s * sub; j < (s + 1) * sub; j++)
            out[j] = p->scale[s] * (float)p->quant[j] - p->min[s];
}

/* ---- blocks with one scale */

static void read_q4_0(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    unpack_nibbles(b + 2, 32, 16, how, p.quant);
    add(p.quant, 32, -8);
    combine(&p, 32, 32, out);
}

static void read_q4_1(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    p.min[0] = -read_scale(b + 2, how);
    unpack_nibbles(b + 4, 32, 16, how, p.quant);
    combine_min(&p, 32, 32, out);
}

static void read_q5_0(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    unpack_nibbles(b + 6, 32, 16, how, p.quant);
    unpack(b + 2, 32, 1, 1, 0, 4, p.quant);
    add(p.quant, 32, -16);
    combine(&p, 32, 32, out);
}

static void read_q5_1(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    p.min[0] = -read_scale(b + 2, how);
    unpack_nibbles(b + 8, 32, 16, how, p.quant);
    unpack(b + 4, 32, 1, 1, 0, 4, p.quant);
    combine_min(&p, 32, 32, out);
}

static void read_q8_0(const uint8_t *b, const quant_mistake *how, float *out) {
    const float scale = read_scale(b, how);
    for (uint32_t i = 0; i < 32; i++) out[i] = scale * (float)(int8_t)b[2 + i];
}

static void read_q1_0(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    unpack(b + 2, 128, 1, 1, 0, 0, p.quant);
    for (uint32_t i = 0; i < 128; i++) p.quant[i] = p.quant[i] ? 1 : -1;
    combine(&p, 128, 128, out);
}

static void read_q2_0(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    unpack(b + 2, 64, 2, 1, 0, 0, p.quant);
    add(p.quant, 64, -1);
    combine(&p, 64, 64, out);
}

/* Five (or four) digits in base 3 a byte, most significant first, of all bytes of a group the first
   ones, then the second ones. */
static int8_t *unpack_trits(const uint8_t *from, uint32_t group, uint32_t digits, int8_t *quant) {
    for (uint32_t k = 0, power = 1; k < digits; k++, power *= 3)
        for (uint32_t i = 0; i < group; i++)
            *quant++ = (int8_t)((uint8_t)(from[i] * power) * 3u >> 8);
    return quant;
}

static void read_tq1_0(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b + 52, how);
    int8_t *quant = unpack_trits(b, 32, 5, p.quant);
    quant = unpack_trits(b + 32, 16, 5, quant);
    unpack_trits(b + 48, 4, 4, quant);
    add(p.quant, 256, -1);
    combine(&p, 256, 256, out);
}

static void read_tq2_0(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b + 64, how);
    unpack(b, 256, 2, 32, 0, 0, p.quant);
    add(p.quant, 256, -1);
    combine(&p, 256, 256, out);
}

/* ---- K-quants: 256 values, sub-blocks with scales of their own */

static void read_q2_k(const uint8_t *b, const quant_mistake *how, float *out) {
    const float d = read_scale(b + 80, how), dmin = read_scale(b + 82, how);
    parts       p;
    for (uint32_t i = 0; i < 16; i++) {
        p.scale[i] = d * (float)(b[i] & 15);
        p.min[i] = dmin * (float)(b[i] >> 4);
    }
    unpack(b + 16, 256, 2, 32, 0, 0, p.quant);
    combine_min(&p, 256, 16, out);
}

/* Of scale i the low nibble is in byte i % 8, the high two bits are in byte 8 + i % 4. The third bit
   of a quant is set where 4 is not to be subtracted. */
static void read_q3_k(const uint8_t *b, const quant_mistake *how, float *out) {
    const uint8_t *scales = b + 96;
    const float    d = read_scale(b + 108, how);
    parts          p;
    for (uint32_t i = 0; i < 16; i++) {
        int32_t low = scales[i % 8] >> i / 8 * 4 & 15, high = scales[8 + i % 4] >> i / 4 * 2 & 3;
        p.scale[i] = d * (float)((low | high << 4) - 32);
    }
    unpack(b + 32, 256, 2, 32, 0, 0, p.quant);
    unpack(b, 256, 1, 32, 0, 2, p.quant);
    add(p.quant, 256, -4);
    combine(&p, 256, 16, out);
}

/* The twelve bytes of eight scales and eight minima in six bits: four scales, four minima, then the
   low nibbles of the other four scales and minima, whose high two bits are above the former. */
static inline void unpack_scales(const uint8_t *from, float d, float dmin, parts *p) {
    for (uint32_t i = 0; i < 4; i++) {
        p->scale[i] = d * (float)(from[i] & 63);
        p->min[i] = dmin * (float)(from[4 + i] & 63);
        p->scale[4 + i] = d * (float)((from[8 + i] & 15) | from[i] >> 6 << 4);
        p->min[4 + i] = dmin * (float)(from[8 + i] >> 4 | from[4 + i] >> 6 << 4);
    }
}

static void read_q4_k(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    unpack_scales(b + 4, read_scale(b, how), read_scale(b + 2, how), &p);
    unpack_nibbles(b + 16, 256, 32, how, p.quant);
    combine_min(&p, 256, 32, out);
}

static void read_q5_k(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    unpack_scales(b + 4, read_scale(b, how), read_scale(b + 2, how), &p);
    unpack_nibbles(b + 48, 256, 32, how, p.quant);
    unpack(b + 16, 256, 1, 32, 0, 4, p.quant);
    combine_min(&p, 256, 32, out);
}

static void read_q6_k(const uint8_t *b, const quant_mistake *how, float *out) {
    const float d = read_scale(b + 208, how);
    parts       p;
    for (uint32_t i = 0; i < 16; i++) p.scale[i] = d * (float)(int8_t)b[192 + i];
    unpack_nibbles(b, 256, 64, how, p.quant);
    unpack(b + 128, 256, 2, 32, 0, 4, p.quant);
    add(p.quant, 256, -32);
    combine(&p, 256, 16, out);
}

/* ---- quants that are positions in a table of 16 */

static void read_iq4_nl(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = read_scale(b, how);
    unpack_nibbles(b + 2, 32, 16, how, p.quant);
    look_up(p.quant, 32, quant_iq4_values);
    combine(&p, 32, 32, out);
}

static void read_iq4_xs(const uint8_t *b, const quant_mistake *how, float *out) {
    const uint32_t high = load_u16(b + 2);
    const float    d = read_scale(b, how);
    parts          p;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t six_bits = (b[4 + i / 2] >> i % 2 * 4 & 15u) | (high >> 2 * i & 3) << 4;
        p.scale[i] = d * (float)((int32_t)six_bits - 32);
    }
    unpack_nibbles(b + 8, 256, 16, how, p.quant);
    look_up(p.quant, 256, quant_iq4_values);
    combine(&p, 256, 32, out);
}

/* Half of 2^(e - 127), subnormal in f32 for the least two. */
static float half_of_e8m0(uint8_t e) {
    return quant_f32_from_bits(e < 2 ? UINT32_C(0x200000) << e : (e - UINT32_C(1)) << 23);
}

static void read_mxfp4(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    p.scale[0] = half_of_e8m0(b[0]);
    unpack_nibbles(b + 1, 32, 16, how, p.quant);
    look_up(p.quant, 32, quant_fp4_values);
    combine(&p, 32, 32, out);
}

static void read_nvfp4(const uint8_t *b, const quant_mistake *how, float *out) {
    parts p;
    for (uint32_t i = 0; i < 4; i++) p.scale[i] = quant_ue4m3_to_f32(b[i]) * 0.5f;
    unpack_nibbles(b + 4, 64, 8, how, p.quant);
    look_up(p.quant, 64, quant_fp4_values);
    combine(&p, 64, 16, out);
}

static block_reader *const readers[QUANT_COUNT] = {
    [QUANT_Q4_0] = read_q4_0,   [QUANT_Q4_1] = read_q4_1,     [QUANT_Q5_0] = read_q5_0,
    [QUANT_Q5_1] = read_q5_1,   [QUANT_Q8_0] = read_q8_0,     [QUANT_Q2_K] = read_q2_k,
    [QUANT_Q3_K] = read_q3_k,   [QUANT_Q4_K] = read_q4_k,     [QUANT_Q5_K] = read_q5_k,
    [QUANT_Q6_K] = read_q6_k,   [QUANT_IQ4_NL] = read_iq4_nl, [QUANT_IQ4_XS] = read_iq4_xs,
    [QUANT_TQ1_0] = read_tq1_0, [QUANT_TQ2_0] = read_tq2_0,   [QUANT_MXFP4] = read_mxfp4,
    [QUANT_NVFP4] = read_nvfp4, [QUANT_Q1_0] = read_q1_0,     [QUANT_Q2_0] = read_q2_0,
};

/* ---- plain numbers */

static void read_f16(const uint8_t *row, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = quant_f16_to_f32(load_u16(row + 2 * i));
}

static void read_bf16(const uint8_t *row, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = quant_bf16_to_f32(load_u16(row + 2 * i));
}

static void read_f32(const uint8_t *row, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = quant_f32_from_bits(load_u32(row + 4 * i));
}

/* F64 and integers, which hold no weights and need not be fast. */
static void read_rare(const quant_info *info, const uint8_t *row, uint64_t n, float *out) {
    const quant_field *f = &info->fields[0];
    for (uint64_t i = 0; i < n; i++, row += info->block_bytes) {
        const uint64_t bits = quant_field_bits(f, row, 0);
        if (f->kind == QUANT_FIELD_I64)
            out[i] = (float)(int64_t)bits; /* rounded once */
        else
            out[i] = (float)quant_field_number(f->kind, bits);
    }
}

static bool is_plain(const quant_info *info) {
    return info->block_len == 1;
}

static void read_plain(uint32_t type, const uint8_t *row, uint64_t n, float *out) {
    switch (type) {
    case QUANT_F32: read_f32(row, n, out); break;
    case QUANT_F16: read_f16(row, n, out); break;
    case QUANT_BF16: read_bf16(row, n, out); break;
    default: read_rare(quant_find(type), row, n, out); break;
    }
}

/* ---- all types */

bool quant_readable(uint32_t type) {
    const quant_info *info = quant_find(type);
    return info && (is_plain(info) || readers[type]);
}

bool quant_mistake_applies(uint32_t type, const quant_mistake *how) {
    if (!how || !quant_readable(type)) return false;
    const quant_info *info = quant_find(type);
    bool              half_scale = false, nibbles = false;
    for (uint32_t i = 0; i < info->n_fields; i++) {
        const quant_field *f = &info->fields[i];
        half_scale |= f->kind == QUANT_FIELD_F16 &&
                      (f->role == QUANT_ROLE_SCALE || f->role == QUANT_ROLE_MIN);
        nibbles |= f->kind == QUANT_FIELD_4BITS && f->role == QUANT_ROLE_QUANT && f->group > 1;
    }
    return (half_scale && (how->scale_as_bf16 || how->subnormal_scale_zero)) ||
           (nibbles && (how->nibbles_swapped || how->nibbles_adjacent));
}

void quant_read(uint32_t type, const uint8_t *row, uint64_t n, const quant_mistake *how,
                float *out) {
    static const quant_mistake none;
    const quant_info          *info = quant_find(type);
    if (!quant_readable(type)) bug("reading values of type %" PRIu32, type);
    if (n % info->block_len) bug("reading %" PRIu64 " values of %s", n, info->name);
    if (is_plain(info)) {
        read_plain(type, row, n, out);
        return;
    }
    for (uint64_t i = 0; i < n; i += info->block_len, row += info->block_bytes)
        readers[type](row, how ? how : &none, out + i);
}
