/* The table of tensor types, and what their blocks are made of, as ggml-common.h gives it: an f16
 * (or, for the 4-bit floats, an 8-bit) scale, perhaps a minimum and scales of sub-blocks, then the
 * packed quants. tests/test_quant.c adds the fields up.
 *
 * Ids 4, 5, 31 to 33 and 36 to 38 once had types and were removed from the format: their rows stay
 * empty, so that they are refused as any unknown id is. */
#include "quant.h"

#include <inttypes.h>
#include <math.h>

/* ---- fields: name, role, kind, offset, elements, group */

static const quant_field fields_f32[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_F32, 0, 1, 0 },
};
static const quant_field fields_f16[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_F16, 0, 1, 0 },
};
static const quant_field fields_bf16[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_BF16, 0, 1, 0 },
};
static const quant_field fields_f64[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_F64, 0, 1, 0 },
};
static const quant_field fields_i8[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_I8, 0, 1, 0 },
};
static const quant_field fields_i16[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_I16, 0, 1, 0 },
};
static const quant_field fields_i32[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_I32, 0, 1, 0 },
};
static const quant_field fields_i64[] = {
    { "value", QUANT_ROLE_VALUE, QUANT_FIELD_I64, 0, 1, 0 },
};
static const quant_field fields_q4_0[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 2, 32, 16 },
};
static const quant_field fields_q4_1[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "m", QUANT_ROLE_MIN, QUANT_FIELD_F16, 2, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 4, 32, 16 },
};
static const quant_field fields_q5_0[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qh", QUANT_ROLE_QUANT, QUANT_FIELD_BIT, 2, 32, 1 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 6, 32, 16 },
};
static const quant_field fields_q5_1[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "m", QUANT_ROLE_MIN, QUANT_FIELD_F16, 2, 1, 0 },
    { "qh", QUANT_ROLE_QUANT, QUANT_FIELD_BIT, 4, 32, 1 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 8, 32, 16 },
};
static const quant_field fields_q8_0[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_I8, 2, 32, 0 },
};
static const quant_field fields_q8_1[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "s", QUANT_ROLE_OTHER, QUANT_FIELD_F16, 2, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_I8, 4, 32, 0 },
};
static const quant_field fields_q1_0[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_BIT, 2, 128, 1 },
};
static const quant_field fields_q2_0[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_2BITS, 2, 64, 1 },
};
static const quant_field fields_q2_k[] = {
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_4BITS, 0, 32, 1 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_2BITS, 16, 256, 32 },
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 80, 1, 0 },
    { "dmin", QUANT_ROLE_MIN, QUANT_FIELD_F16, 82, 1, 0 },
};
static const quant_field fields_q3_k[] = {
    { "hmask", QUANT_ROLE_QUANT, QUANT_FIELD_BIT, 0, 256, 32 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_2BITS, 32, 256, 32 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_6BITS_Q3_K, 96, 16, 0 },
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 108, 1, 0 },
};
static const quant_field fields_q4_k[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "dmin", QUANT_ROLE_MIN, QUANT_FIELD_F16, 2, 1, 0 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_6BITS_Q4_K, 4, 16, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 16, 256, 32 },
};
static const quant_field fields_q5_k[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "dmin", QUANT_ROLE_MIN, QUANT_FIELD_F16, 2, 1, 0 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_6BITS_Q4_K, 4, 16, 0 },
    { "qh", QUANT_ROLE_QUANT, QUANT_FIELD_BIT, 16, 256, 32 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 48, 256, 32 },
};
static const quant_field fields_q6_k[] = {
    { "ql", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 0, 256, 64 },
    { "qh", QUANT_ROLE_QUANT, QUANT_FIELD_2BITS, 128, 256, 32 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_I8, 192, 16, 0 },
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 208, 1, 0 },
};
static const quant_field fields_q8_k[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F32, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_I8, 4, 256, 0 },
    { "bsums", QUANT_ROLE_OTHER, QUANT_FIELD_I16, 260, 16, 0 },
};
static const quant_field fields_iq1_s[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 2, 32, 0 },
    { "qh", QUANT_ROLE_OTHER, QUANT_FIELD_U16, 34, 8, 0 },
};
static const quant_field fields_iq1_m[] = {
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 0, 32, 0 },
    { "qh", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 32, 16, 0 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_U16, 48, 4, 0 },
};
static const quant_field fields_iq2_xxs[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U16, 2, 32, 0 },
};
static const quant_field fields_iq2_xs[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U16, 2, 32, 0 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_4BITS, 66, 16, 1 },
};
static const quant_field fields_iq2_s[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 2, 32, 0 },
    { "signs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 34, 32, 0 },
    { "qh", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 66, 8, 0 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_4BITS, 74, 16, 1 },
};
static const quant_field fields_iq3_xxs[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 2, 64, 0 },
    { "scales_and_signs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 66, 32, 0 },
};
static const quant_field fields_iq3_s[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 2, 64, 0 },
    { "qh", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 66, 8, 0 },
    { "signs", QUANT_ROLE_OTHER, QUANT_FIELD_U8, 74, 32, 0 },
    { "scales", QUANT_ROLE_SUB, QUANT_FIELD_4BITS, 106, 8, 1 },
};
static const quant_field fields_iq4_nl[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 2, 32, 16 },
};
static const quant_field fields_iq4_xs[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 0, 1, 0 },
    { "scales_h", QUANT_ROLE_SUB, QUANT_FIELD_2BITS, 2, 8, 1 },
    { "scales_l", QUANT_ROLE_SUB, QUANT_FIELD_4BITS, 4, 8, 1 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 8, 256, 16 },
};
static const quant_field fields_tq1_0[] = {
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_TRIT, 0, 160, 32 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_TRIT, 32, 80, 16 },
    { "qh", QUANT_ROLE_QUANT, QUANT_FIELD_TRIT, 48, 16, 4 },
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 52, 1, 0 },
};
static const quant_field fields_tq2_0[] = {
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_2BITS, 0, 256, 32 },
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_F16, 64, 1, 0 },
};
static const quant_field fields_mxfp4[] = {
    { "e", QUANT_ROLE_SCALE, QUANT_FIELD_E8M0, 0, 1, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 1, 32, 16 },
};
static const quant_field fields_nvfp4[] = {
    { "d", QUANT_ROLE_SCALE, QUANT_FIELD_UE4M3, 0, 4, 0 },
    { "qs", QUANT_ROLE_QUANT, QUANT_FIELD_4BITS, 4, 64, 8 },
};

/* ---- types */

#define FIELDS(f) (f), ARRAY_LEN(f)

/* Name, values and bytes a block, whether it is compiled, what activations become, its fields. */
static const quant_info infos[QUANT_COUNT] = {
    [QUANT_F32] = { "F32", 1, 4, true, QUANT_F32, FIELDS(fields_f32) },
    [QUANT_F16] = { "F16", 1, 2, true, QUANT_F16, FIELDS(fields_f16) },
    [QUANT_BF16] = { "BF16", 1, 2, true, QUANT_BF16, FIELDS(fields_bf16) },
    [QUANT_F64] = { "F64", 1, 8, false, QUANT_F32, FIELDS(fields_f64) },

    [QUANT_I8] = { "I8", 1, 1, false, QUANT_F32, FIELDS(fields_i8) },
    [QUANT_I16] = { "I16", 1, 2, false, QUANT_F32, FIELDS(fields_i16) },
    [QUANT_I32] = { "I32", 1, 4, false, QUANT_F32, FIELDS(fields_i32) },
    [QUANT_I64] = { "I64", 1, 8, false, QUANT_F32, FIELDS(fields_i64) },

    [QUANT_Q4_0] = { "Q4_0", 32, 18, true, QUANT_Q8_0, FIELDS(fields_q4_0) },
    [QUANT_Q4_1] = { "Q4_1", 32, 20, true, QUANT_Q8_1, FIELDS(fields_q4_1) },
    [QUANT_Q5_0] = { "Q5_0", 32, 22, true, QUANT_Q8_0, FIELDS(fields_q5_0) },
    [QUANT_Q5_1] = { "Q5_1", 32, 24, true, QUANT_Q8_1, FIELDS(fields_q5_1) },
    [QUANT_Q8_0] = { "Q8_0", 32, 34, true, QUANT_Q8_0, FIELDS(fields_q8_0) },
    [QUANT_Q8_1] = { "Q8_1", 32, 36, false, QUANT_Q8_1, FIELDS(fields_q8_1) },
    [QUANT_Q1_0] = { "Q1_0", 128, 18, true, QUANT_Q8_0, FIELDS(fields_q1_0) },
    [QUANT_Q2_0] = { "Q2_0", 64, 18, true, QUANT_Q8_0, FIELDS(fields_q2_0) },

    [QUANT_Q2_K] = { "Q2_K", 256, 84, true, QUANT_Q8_K, FIELDS(fields_q2_k) },
    [QUANT_Q3_K] = { "Q3_K", 256, 110, true, QUANT_Q8_K, FIELDS(fields_q3_k) },
    [QUANT_Q4_K] = { "Q4_K", 256, 144, true, QUANT_Q8_K, FIELDS(fields_q4_k) },
    [QUANT_Q5_K] = { "Q5_K", 256, 176, true, QUANT_Q8_K, FIELDS(fields_q5_k) },
    [QUANT_Q6_K] = { "Q6_K", 256, 210, true, QUANT_Q8_K, FIELDS(fields_q6_k) },
    [QUANT_Q8_K] = { "Q8_K", 256, 292, false, QUANT_F32, FIELDS(fields_q8_k) },

    [QUANT_IQ1_S] = { "IQ1_S", 256, 50, false, QUANT_Q8_K, FIELDS(fields_iq1_s) },
    [QUANT_IQ1_M] = { "IQ1_M", 256, 56, false, QUANT_Q8_K, FIELDS(fields_iq1_m) },
    [QUANT_IQ2_XXS] = { "IQ2_XXS", 256, 66, false, QUANT_Q8_K, FIELDS(fields_iq2_xxs) },
    [QUANT_IQ2_XS] = { "IQ2_XS", 256, 74, false, QUANT_Q8_K, FIELDS(fields_iq2_xs) },
    [QUANT_IQ2_S] = { "IQ2_S", 256, 82, false, QUANT_Q8_K, FIELDS(fields_iq2_s) },
    [QUANT_IQ3_XXS] = { "IQ3_XXS", 256, 98, false, QUANT_Q8_K, FIELDS(fields_iq3_xxs) },
    [QUANT_IQ3_S] = { "IQ3_S", 256, 110, false, QUANT_Q8_K, FIELDS(fields_iq3_s) },
    [QUANT_IQ4_NL] = { "IQ4_NL", 32, 18, true, QUANT_Q8_0, FIELDS(fields_iq4_nl) },
    [QUANT_IQ4_XS] = { "IQ4_XS", 256, 136, true, QUANT_Q8_K, FIELDS(fields_iq4_xs) },

    [QUANT_TQ1_0] = { "TQ1_0", 256, 54, true, QUANT_Q8_K, FIELDS(fields_tq1_0) },
    [QUANT_TQ2_0] = { "TQ2_0", 256, 66, true, QUANT_Q8_K, FIELDS(fields_tq2_0) },
    [QUANT_MXFP4] = { "MXFP4", 32, 17, true, QUANT_Q8_0, FIELDS(fields_mxfp4) },
    [QUANT_NVFP4] = { "NVFP4", 64, 36, true, QUANT_Q8_0, FIELDS(fields_nvfp4) },
};

const quant_info *quant_find(uint32_t type) {
    return type < QUANT_COUNT && infos[type].name ? &infos[type] : NULL;
}

uint64_t quant_row_bytes(uint32_t type, uint64_t n) {
    const quant_info *info = quant_find(type);
    if (!info) bug("no tensor type %" PRIu32, type);
    if (n % info->block_len) bug("a %s row of %" PRIu64 " values", info->name, n);
    return n / info->block_len * info->block_bytes;
}

const quant_field *quant_find_scale(uint32_t type) {
    const quant_info *info = quant_find(type);
    for (uint32_t i = 0; info && i < info->n_fields; i++)
        if (info->fields[i].role == QUANT_ROLE_SCALE) return &info->fields[i];
    return NULL;
}

/* ---- the elements of a field */

typedef struct kind_info {
    const char *name;
    uint32_t    bits; /* an element takes; 0 for trits, of which five share a byte */
} kind_info;

static const kind_info kinds[QUANT_FIELD_KIND_COUNT] = {
    [QUANT_FIELD_F16] = { "f16", 16 },
    [QUANT_FIELD_BF16] = { "bf16", 16 },
    [QUANT_FIELD_F32] = { "f32", 32 },
    [QUANT_FIELD_F64] = { "f64", 64 },
    [QUANT_FIELD_E8M0] = { "e8m0", 8 },
    [QUANT_FIELD_UE4M3] = { "ue4m3", 8 },
    [QUANT_FIELD_I8] = { "i8", 8 },
    [QUANT_FIELD_I16] = { "i16", 16 },
    [QUANT_FIELD_I32] = { "i32", 32 },
    [QUANT_FIELD_I64] = { "i64", 64 },
    [QUANT_FIELD_U8] = { "u8", 8 },
    [QUANT_FIELD_U16] = { "u16", 16 },
    [QUANT_FIELD_BIT] = { "u1", 1 },
    [QUANT_FIELD_2BITS] = { "u2", 2 },
    [QUANT_FIELD_4BITS] = { "u4", 4 },
    [QUANT_FIELD_TRIT] = { "trit", 0 },
    [QUANT_FIELD_6BITS_Q3_K] = { "u6", 6 },
    [QUANT_FIELD_6BITS_Q4_K] = { "u6", 6 },
};

const char *quant_field_kind_name(enum quant_field_kind kind) {
    return kinds[kind].name;
}

uint32_t quant_field_bytes(const quant_field *f) {
    return f->kind == QUANT_FIELD_TRIT ? (f->count + 4) / 5 : f->count * kinds[f->kind].bits / 8;
}

static uint64_t load(const uint8_t *from, uint32_t bytes) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) value |= (uint64_t)from[i] << 8 * i;
    return value;
}

/* The low four bits of scales 0 … 7, of 8 … 15 in the high nibbles, then the high two bits of four
   scales a byte. */
static uint32_t six_bits_q3(const uint8_t *from, uint32_t i) {
    uint32_t low = from[i % 8] >> (i < 8 ? 0 : 4) & 15;
    return low | (from[8 + i % 4] >> i / 4 * 2 & 3u) << 4;
}

/* Scales 0 … 3, minima 0 … 3 in six bits; of 4 … 7 the low four bits in bytes 8 … 11, scales in the
   low nibble, and the high two where the former leave room. */
static uint32_t six_bits_q4(const uint8_t *from, uint32_t i) {
    uint32_t j = i % 8, minimum = i / 8;
    if (j < 4) return from[j + 4 * minimum] & 63u;
    return (from[j + 4] >> 4 * minimum & 15u) | (uint32_t)(from[j - 4 + 4 * minimum] >> 6) << 4;
}

/* Where element i of a packed field of `per_byte` elements a byte is. */
static uint8_t packed_byte(const quant_field *f, const uint8_t *from, uint32_t per_byte, uint32_t i,
                           uint32_t *place) {
    uint32_t in_group = i % (f->group * per_byte);
    *place = in_group / f->group;
    return from[i / (f->group * per_byte) * f->group + in_group % f->group];
}

static uint32_t trit(const quant_field *f, const uint8_t *from, uint32_t i) {
    static const uint8_t power[] = { 1, 3, 9, 27, 81 };
    uint32_t k, byte = packed_byte(f, from, f->count / quant_field_bytes(f), i, &k);
    return (uint8_t)(byte * power[k]) * 3u >> 8;
}

uint64_t quant_field_bits(const quant_field *f, const uint8_t *block, uint32_t i) {
    const uint8_t *from = block + f->offset;
    uint32_t bits = kinds[f->kind].bits, place;
    switch (f->kind) {
    case QUANT_FIELD_TRIT: return trit(f, from, i);
    case QUANT_FIELD_6BITS_Q3_K: return six_bits_q3(from, i);
    case QUANT_FIELD_6BITS_Q4_K: return six_bits_q4(from, i);
    case QUANT_FIELD_BIT:
    case QUANT_FIELD_2BITS:
    case QUANT_FIELD_4BITS: {
        uint8_t byte = packed_byte(f, from, 8 / bits, i, &place);
        return byte >> place * bits & ((1u << bits) - 1);
    }
    default: return load(from + (uint64_t)i * (bits / 8), bits / 8);
    }
}

double quant_field_number(enum quant_field_kind kind, uint64_t bits) {
    double whole;
    switch (kind) {
    case QUANT_FIELD_F16: return (double)quant_f16_to_f32((uint16_t)bits);
    case QUANT_FIELD_BF16: return (double)quant_bf16_to_f32((uint16_t)bits);
    case QUANT_FIELD_F32: return (double)quant_f32_from_bits((uint32_t)bits);
    case QUANT_FIELD_F64: memcpy(&whole, &bits, sizeof whole); return whole;
    case QUANT_FIELD_E8M0: return ldexp(1, (int)bits - 127);
    case QUANT_FIELD_UE4M3: return (double)quant_ue4m3_to_f32((uint8_t)bits);
    case QUANT_FIELD_I8: return (int8_t)bits;
    case QUANT_FIELD_I16: return (int16_t)bits;
    case QUANT_FIELD_I32: return (int32_t)bits;
    case QUANT_FIELD_I64: return (double)(int64_t)bits;
    default: return (double)bits;
    }
}
