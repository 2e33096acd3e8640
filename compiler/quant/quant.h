/* quant.h - the types a GGUF tensor can have, one row each, indexed by the file's type id.
 *
 * Block layouts are those of ggml (ggml-common.h). A type that is not `compiled` is known by name
 * and size, so that a file holding it is read and described, and refused by name when compiled. */
#ifndef GGUFC_QUANT_H
#define GGUFC_QUANT_H

#include "base.h"

#include <string.h>

enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q8_1 = 9,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_Q8_K = 15,
    QUANT_IQ2_XXS = 16,
    QUANT_IQ2_XS = 17,
    QUANT_IQ3_XXS = 18,
    QUANT_IQ1_S = 19,
    QUANT_IQ4_NL = 20,
    QUANT_IQ3_S = 21,
    QUANT_IQ2_S = 22,
    QUANT_IQ4_XS = 23,
    QUANT_I8 = 24,
    QUANT_I16 = 25,
    QUANT_I32 = 26,
    QUANT_I64 = 27,
    QUANT_F64 = 28,
    QUANT_IQ1_M = 29,
    QUANT_BF16 = 30,
    QUANT_TQ1_0 = 34,
    QUANT_TQ2_0 = 35,
    QUANT_MXFP4 = 39,
    QUANT_NVFP4 = 40,
    QUANT_Q1_0 = 41,
    QUANT_Q2_0 = 42,
    QUANT_COUNT = 43 /* one past the largest id known */
};

/* ---- what a block is made of */

/* How an element of a field is stored; all little-endian. */
enum quant_field_kind {
    QUANT_FIELD_F16,
    QUANT_FIELD_BF16,
    QUANT_FIELD_F32,
    QUANT_FIELD_F64,
    QUANT_FIELD_E8M0,  /* a byte e: 2^(e - 127) (OCP microscaling formats 1.0) */
    QUANT_FIELD_UE4M3, /* a byte: f8 e4m3 without its sign; 0x7f, which would be NaN, is 0 in ggml */
    QUANT_FIELD_I8,
    QUANT_FIELD_I16,
    QUANT_FIELD_I32,
    QUANT_FIELD_I64,
    QUANT_FIELD_U8,
    QUANT_FIELD_U16,
    QUANT_FIELD_BIT, /* packed, unsigned: in bytes of 8, 4 and 2 elements, see `group` */
    QUANT_FIELD_2BITS,
    QUANT_FIELD_4BITS,
    QUANT_FIELD_TRIT, /* up to five digits 0 … 2 a byte, see quant_field_bits */
    QUANT_FIELD_6BITS_Q3_K, /* 16 scales, biased by 32, spread over 12 bytes */
    QUANT_FIELD_6BITS_Q4_K, /* 8 scales, then 8 minima, spread over 12 bytes */
    QUANT_FIELD_KIND_COUNT
};

/* What a field is for. A weight is scale × quant, or scale × quant - minimum (+ in Q4_1 and Q5_1),
   where sub-blocks multiply the block's scale and minimum by small integers. */
enum quant_role {
    QUANT_ROLE_VALUE, /* plain numbers: no quantization */
    QUANT_ROLE_SCALE, /* of the block (in NVFP4, of a sub-block of 16) */
    QUANT_ROLE_MIN,   /* of the block */
    QUANT_ROLE_SUB,   /* scales and minima of sub-blocks */
    QUANT_ROLE_QUANT, /* the quants, or some bits of them */
    QUANT_ROLE_OTHER  /* indices into a grid, signs, sums */
};

/* Elements of less than a byte: in each `group` bytes the lowest bits of all bytes come first, then
   the next higher ones. So element e of a group is in byte e % group at bit e / group × bits:
   group 16 is Q4_0's order (the low nibbles are values 0 … 15, the high ones 16 … 31), and group 1
   is ascending order. */
typedef struct quant_field {
    const char           *name; /* as in ggml: "d", "qs" */
    enum quant_role       role;
    enum quant_field_kind kind;
    uint32_t              offset; /* bytes from the block's start */
    uint32_t              count;  /* elements */
    uint32_t              group;  /* bytes; 0 where an element is whole bytes */
} quant_field;

typedef struct quant_info {
    const char *name;        /* as in llama.cpp: "Q8_0"; NULL where no type has this id */
    uint32_t    block_len;   /* values a block */
    uint32_t    block_bytes; /* bytes a block */
    bool        compiled;    /* weights of this type can be compiled */

    /* What activations are converted to before they are multiplied with such weights: what
       llama.cpp's CPU backend does (the vec_dot_type of its type traits). F32 for types that
       hold no weights. */
    enum quant_type activation;

    const quant_field *fields; /* in order of their offset, without gaps */
    uint32_t           n_fields;
} quant_info;

/* NULL where no type has this id: an unknown type, or one that was removed from the format. */
const quant_info *quant_find(uint32_t type);

/* The bytes of one row of `n` values; n must be a multiple of the block length. */
uint64_t quant_row_bytes(uint32_t type, uint64_t n);

const char *quant_field_kind_name(enum quant_field_kind kind); /* "f16", "e8m0", "u4", "i8", … */

uint32_t quant_field_bytes(const quant_field *f); /* the whole field takes in a block */

/* Element i < count of a field as stored, from the block's start. A byte b of trits is
   ceil(v × 256 / 243), v being the number of five digits in base 3, the first digit the most
   significant: digit k is (b × 3^k mod 256) × 3 / 256. */
uint64_t quant_field_bits(const quant_field *f, const uint8_t *block, uint32_t i);

/* The number that such bits are. A quant is as it is stored, without the offset or the table that
   makes a weight of it; an I64 is rounded. */
double quant_field_number(enum quant_field_kind kind, uint64_t bits);

/* The block's scale (in NVFP4 the scales), which is one of f16, f32, e8m0, ue4m3; NULL where there
   is no such field: a type of plain numbers, or IQ1_M, whose scale is spread over others. */
const quant_field *quant_find_scale(uint32_t type);

/* ---- reading weights as numbers (quant_read.c) */

/* Mistakes that engines make when they read blocks; all false is the right way. Each applies only
   to types that have what it is about, see quant_mistake_applies. */
typedef struct quant_mistake {
    /* The bits of a block's f16 scale and minimum taken for bf16. */
    bool scale_as_bf16;
    /* A block's f16 scale or minimum that is subnormal taken for zero (of the same sign). */
    bool subnormal_scale_zero;
    /* Of two nibbles in a byte the high one taken for the first: exchanged are, in Q4_0, the quants
       i and i + 16. Fifth and sixth bits, scales and minima stay where they are; here as below. */
    bool nibbles_swapped;
    /* A byte's two nibbles taken for those of neighbours 2i and 2i + 1, where they belong to i and
       i + group (of the field; 16 in Q4_0). With nibbles_swapped the high one comes first. */
    bool nibbles_adjacent;
} quant_mistake;

/* Whether a mistake of these could make any difference to a type; false for NULL. */
bool quant_mistake_applies(uint32_t type, const quant_mistake *how);

/* The `n` values, whole blocks, that begin at `row` (of any alignment) as f32: the same bits as
   llama.cpp's, with `how` NULL. F64 and integers are rounded to nearest. */
void quant_read(uint32_t type, const uint8_t *row, uint64_t n, const quant_mistake *how, float *out);

/* ---- making blocks of numbers (quant_write.c) */

/* Whether quant_write makes blocks of this type: all that hold weights, but Q8_1 and Q8_K, which are
   for activations; plain F32, F16 and BF16 too. */
bool quant_writable(uint32_t type);

/* Whether it makes them only with an importance: IQ2_XXS, IQ2_XS, IQ1_S and IQ1_M, which llama.cpp
   does not make without one either (which in a model wants one for IQ2_S and IQ3_XXS too, but for
   embeddings and the output). */
bool quant_needs_importance(uint32_t type);

/* The `n` values at `x`, whole blocks, as blocks of `type` at `out`. `importance`: a weight >= 0 for
   each of the n values, or NULL for all alike. Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 without importance are
   the same bytes as llama.cpp's; the others minimise the squared error, each difference weighed by
   its importance. A block depends on nothing but its own values: same bytes however a row or a
   tensor is split among calls and threads. Nothing is allocated. What a scale cannot hold is made the
   largest it can; of NaN and infinity, which a caller had better refuse, anything finite may come. */
void quant_write(uint32_t type, const float *x, uint64_t n, const float *importance, void *out);

/* ---- f16 and bf16, by bits: the same on every machine. Narrowing rounds to nearest even, makes
   infinities of what is too large, and quiet NaNs of NaNs. */

static inline uint32_t quant_f32_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float quant_f32_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float quant_f16_to_f32(uint16_t half) {
    uint32_t size = half & 0x7fffu, sign = (half & 0x8000u) << 16;
    uint32_t rebias = size < 0x7c00 ? 112u << 23 : 224u << 23; /* 127 - 15; infinity to infinity */
    uint32_t normal = (size << 13) + rebias;
    uint32_t small = quant_f32_bits((float)(int32_t)size * 0x1p-24f);
    return quant_f32_from_bits(sign | (size < 0x400 ? small : normal));
}

static inline uint16_t quant_f32_to_f16(float f) {
    uint32_t bits = quant_f32_bits(f), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    uint32_t odd = size >> 13 & 1;
    uint32_t half = (size - (112u << 23) + 0xfff + odd) >> 13;
    /* Below 2^-14 the result is a multiple of 2^-24, the last place of numbers in [0.5, 1): the
       addition rounds there. */
    if (size < 0x38800000) half = quant_f32_bits(quant_f32_from_bits(size) + 0.5f) - 0x3f000000;
    if (size >= 0x47800000) half = 0x7c00;
    if (size > 0x7f800000) half = 0x7e00;
    return (uint16_t)(sign | half);
}

/* No NaN: 0x7f is 0, and the highest bit, which would be the sign, is ignored, as in ggml. */
static inline float quant_ue4m3_to_f32(uint8_t bits) {
    uint32_t exponent = bits >> 3 & 15, fraction = bits & 7;
    if (bits == 0x7f) return 0;
    if (!exponent) return (float)(int32_t)fraction * 0x1p-9f;
    return quant_f32_from_bits((exponent + 120) << 23 | fraction << 20);
}

static inline float quant_bf16_to_f32(uint16_t bits) {
    return quant_f32_from_bits((uint32_t)bits << 16);
}

static inline uint16_t quant_f32_to_bf16(float f) {
    uint32_t bits = quant_f32_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
