/* quant_value.h - what each type means: value i of a block, put together from the fields of the table
 * in quant.c in f64, one value at a time, in the words of the format. */
#ifndef GGUFC_TESTS_QUANT_VALUE_H
#define GGUFC_TESTS_QUANT_VALUE_H

#include "quant.h"
#include "quant_grid.h"

#include <math.h>
#include <string.h>

/* A block with an index of a value in it. */
typedef struct quant_place {
    const quant_info *info;
    const uint8_t    *block;
} quant_place;

/* Element i of the field of this name. */
static inline double quant_value_field(const quant_place *p, const char *name, uint32_t i) {
    for (uint32_t k = 0; k < p->info->n_fields; k++) {
        const quant_field *f = &p->info->fields[k];
        if (strcmp(f->name, name) != 0) continue;
        if (i < f->count) return quant_field_number(f->kind, quant_field_bits(f, p->block, i));
        i -= f->count; /* TQ1_0 has two called "qs" */
    }
    bug("%s has no %s[%u]", p->info->name, name, i);
}

static inline uint32_t quant_value_bits(const quant_place *p, const char *name, uint32_t i) {
    return (uint32_t)(int32_t)quant_value_field(p, name, i);
}

/* Bytes 4i … 4i + 3 of a field of bytes, or words 2i and 2i + 1, as one number. */
static inline uint32_t quant_value_u32(const quant_place *p, const char *name, uint32_t i, uint32_t width) {
    uint32_t whole = 0;
    for (uint32_t k = 0; k < 32 / width; k++)
        whole |= quant_value_bits(p, name, i * 32 / width + k) << k * width;
    return whole;
}

/* Value i % 8 of point `at` of a grid of eight (i % 4 of one of four), negative if bit i % 8 is set. */
static inline double quant_value_point(enum quant_grid grid, uint32_t at, uint32_t i, uint32_t signs) {
    uint32_t width = quant_grid_find(grid)->width;
    int      size = quant_grid_values(grid)[at * width + i % width];
    return signs >> i % 8 & 1 ? -size : size;
}

static inline double quant_value_fp4(uint32_t position) {
    static const double size[] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6 };
    return position < 8 ? size[position] : -size[position - 8];
}

/* IQ1, IQ2, IQ3. */
static inline double quant_value_iq(uint32_t t, const quant_place *p, uint32_t i) {
    uint32_t g = i / 8, k = i / 8 % 4, rest, d = 0;
#define AT(name, n) quant_value_bits(p, name, n)
#define D           quant_value_field(p, "d", 0)
    switch (t) {
    case QUANT_IQ2_XXS:
        rest = quant_value_u32(p, "qs", i / 32 * 2 + 1, 16);
        return D * (0.5 + (rest >> 28)) * 0.25 *
               quant_value_point(QUANT_GRID_IQ2_XXS,
                                 quant_value_u32(p, "qs", i / 32 * 2, 16) >> 8 * k & 255, i,
                                 quant_grid_signs(rest >> 7 * k & 127));
    case QUANT_IQ2_XS:
        return D * (0.5 + AT("scales", i / 16)) * 0.25 *
               quant_value_point(QUANT_GRID_IQ2_XS, AT("qs", g) & 511, i, quant_grid_signs(AT("qs", g) >> 9));
    case QUANT_IQ2_S:
        return D * (0.5 + AT("scales", i / 16)) * 0.25 *
               quant_value_point(QUANT_GRID_IQ2_S, AT("qs", g) + (AT("qh", i / 32) >> 2 * k & 3) * 256, i,
                                 AT("signs", g));
    case QUANT_IQ3_XXS:
        rest = quant_value_u32(p, "scales_and_signs", i / 32, 8);
        return D * (0.5 + (rest >> 28)) * 0.5 *
               quant_value_point(QUANT_GRID_IQ3_XXS, AT("qs", i / 4), i,
                                 quant_grid_signs(rest >> 7 * k & 127));
    case QUANT_IQ3_S:
        return D * (1 + 2 * AT("scales", i / 32)) *
               quant_value_point(QUANT_GRID_IQ3_S,
                                 AT("qs", i / 4) + (AT("qh", i / 32) >> i / 4 % 8 & 1) * 256, i,
                                 AT("signs", g));
    case QUANT_IQ1_S:
        rest = AT("qh", i / 32);
        return D * (2 * (rest >> 12 & 7) + 1) *
               (quant_value_point(QUANT_GRID_IQ1, AT("qs", g) + (rest >> 3 * k & 7) * 256, i, 0) +
                (rest & 0x8000 ? -0.125 : 0.125));
    case QUANT_IQ1_M:
        rest = AT("qh", g / 2) >> 4 * (g % 2) & 15;
        for (uint32_t j = 0; j < 4; j++) d += AT("scales", j) >> 12 << 4 * j;
        return (double)quant_f16_to_f32((uint16_t)d) *
               (2 * (AT("scales", i / 64) >> 3 * (i / 16 % 4) & 7) + 1) *
               (quant_value_point(QUANT_GRID_IQ1, AT("qs", g) + (rest & 7) * 256, i, 0) +
                (rest & 8 ? -0.125 : 0.125));
    default: return NAN;
    }
#undef D
#undef AT
}

/* Value i of a block of any type with blocks; NAN for plain numbers. */
static inline double quant_value(uint32_t t, const uint8_t *block, uint32_t i) {
    static const int iq4[] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
    const quant_place place = { quant_find(t), block }, *p = &place;
#define F(name)   quant_value_field(p, name, i)
#define S(n)      quant_value_field(p, "scales", n)
#define ONE(name) quant_value_field(p, name, 0)
#define D         ONE("d")
    switch (t) {
    case QUANT_Q4_0: return D * (F("qs") - 8);
    case QUANT_Q4_1: return D * F("qs") + ONE("m");
    case QUANT_Q5_0: return D * (F("qs") + 16 * F("qh") - 16);
    case QUANT_Q5_1: return D * (F("qs") + 16 * F("qh")) + ONE("m");
    case QUANT_Q8_0:
    case QUANT_Q8_1:
    case QUANT_Q8_K: return D * F("qs");
    case QUANT_Q1_0: return D * (2 * F("qs") - 1);
    case QUANT_Q2_0: return D * (F("qs") - 1);
    case QUANT_Q2_K: return D * S(i / 16 * 2) * F("qs") - ONE("dmin") * S(i / 16 * 2 + 1);
    case QUANT_Q3_K: return D * (S(i / 16) - 32) * (F("qs") + 4 * F("hmask") - 4);
    case QUANT_Q4_K: return D * S(i / 32) * F("qs") - ONE("dmin") * S(8 + i / 32);
    case QUANT_Q5_K: return D * S(i / 32) * (F("qs") + 16 * F("qh")) - ONE("dmin") * S(8 + i / 32);
    case QUANT_Q6_K: return D * S(i / 16) * (F("ql") + 16 * F("qh") - 32);
    case QUANT_IQ4_NL: return D * iq4[quant_value_bits(p, "qs", i)];
    case QUANT_IQ4_XS:
        return D * iq4[quant_value_bits(p, "qs", i)] *
               (quant_value_field(p, "scales_l", i / 32) +
                16 * quant_value_field(p, "scales_h", i / 32) - 32);
    case QUANT_TQ1_0: return D * ((i < 240 ? F("qs") : quant_value_field(p, "qh", i - 240)) - 1);
    case QUANT_TQ2_0: return D * (F("qs") - 1);
    case QUANT_MXFP4: return ldexp(quant_value_fp4(quant_value_bits(p, "qs", i)), block[0] - 127);
    case QUANT_NVFP4:
        return quant_value_field(p, "d", i / 16) * quant_value_fp4(quant_value_bits(p, "qs", i));
    default: return quant_value_iq(t, p, i);
    }
#undef D
#undef ONE
#undef S
#undef F
}

#endif
