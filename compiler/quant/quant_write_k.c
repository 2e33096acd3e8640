/* Blocks of 256 whose sub-blocks have scales of their own: an f16 times an integer each, in some
 * types with a minimum beside. */
#include "quant_fit.h"
#include "quant_grid.h"

/* ---- without minima */

typedef struct scaled_type {
    quant_levels levels;
    quant_ladder ladder;
    uint32_t     sub, block_bytes; /* sub: values a sub-block */
    void (*pack)(uint16_t half, const int8_t *step, const uint8_t *codes, uint8_t *out);
} scaled_type;

static void write_scaled(const scaled_type *s, const float *x, uint64_t n, const float *importance,
                         uint8_t *out) {
    quant_tile t;
    for (uint64_t left = n / 256, m; left; left -= m, x += m * 256) {
        quant_lanes scale;
        uint16_t    half[QUANT_LANES];
        int8_t      step[QUANT_LANES];
        uint8_t     codes[QUANT_LANES * 32];
        m = quant_tile_blocks(256, s->sub, left);
        quant_tile_load(&t, 256, s->sub, x, importance, m);
        quant_fit_scale(&t, &s->levels, scale);
        quant_fit_ladder(&t, &s->levels, &s->ladder, scale, half, step);
        quant_fit_codes(&t, &s->levels, scale, codes);
        for (uint32_t b = 0; b < m; b++, out += s->block_bytes)
            s->pack(half[b * t.block_lanes], step + b * t.block_lanes, codes + b * 256, out);
        importance = importance ? importance + m * 256 : NULL;
    }
}

/* Scale i: its low nibble in byte i % 8, its high two bits in byte 8 + i % 4. */
static void pack_q3_k(uint16_t half, const int8_t *step, const uint8_t *codes, uint8_t *out) {
    uint8_t *scales = out + 96;
    quant_pack(out, 256, 1, 32, 2, codes);
    quant_pack(out + 32, 256, 2, 32, 0, codes);
    memset(scales, 0, 12);
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t bits = (uint32_t)(step[i] + 32);
        scales[i % 8] = (uint8_t)(scales[i % 8] | (bits & 15) << i / 8 * 4);
        scales[8 + i % 4] = (uint8_t)(scales[8 + i % 4] | bits >> 4 << i / 4 * 2);
    }
    quant_store_u16(out + 108, half);
}

static void pack_q6_k(uint16_t half, const int8_t *step, const uint8_t *codes, uint8_t *out) {
    quant_pack(out, 256, 4, 64, 0, codes);
    quant_pack(out + 128, 256, 2, 32, 4, codes);
    memcpy(out + 192, step, 16);
    quant_store_u16(out + 208, half);
}

static const scaled_type q3_k = {
    .levels = { .n = 8, .first = -4, .last = 3, .tries = { { -5, 0.1f, 20 } } },
    .ladder = { .low = -32, .high = 31, .tries = { -32, 1, 4 } },
    .sub = 16,
    .block_bytes = 110,
    .pack = pack_q3_k,
};

static const scaled_type q6_k = {
    .levels = { .n = 64, .first = -32, .last = 31, .tries = { { -33, 0.1f, 20 } } },
    .ladder = { .low = -128, .high = 127, .tries = { -128, 1, 3 } },
    .sub = 16,
    .block_bytes = 210,
    .pack = pack_q6_k,
};

void quant_write_q3_k(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_scaled(&q3_k, x, n, importance, out);
}

void quant_write_q6_k(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_scaled(&q6_k, x, n, importance, out);
}

/* Scale i: low nibbles, then high two bits, in ascending order. */
static void pack_iq4_xs(uint16_t half, const int8_t *step, const uint8_t *codes, uint8_t *out) {
    uint8_t bits[8];
    for (uint32_t i = 0; i < 8; i++) bits[i] = (uint8_t)(step[i] + 32);
    quant_store_u16(out, half);
    quant_pack(out + 2, 8, 2, 1, 4, bits);
    quant_pack(out + 4, 8, 4, 1, 0, bits);
    quant_pack(out + 8, 256, 4, 16, 0, codes);
}

static const scaled_type iq4_xs = {
    .levels = { .n = 16,
                .values = quant_iq4_values,
                .codes = quant_ascending_codes,
                .tries = { { -134, 1, 15 }, { 106, 1, 15 } } },
    .ladder = { .low = -32, .high = 31, .tries = { -32, 1, 4 } },
    .sub = 32,
    .block_bytes = 136,
    .pack = pack_iq4_xs,
};

void quant_write_iq4_xs(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_scaled(&iq4_xs, x, n, importance, out);
}

/* ---- with minima */

typedef struct affine_type {
    quant_affine affine;
    uint32_t     sub, block_bytes;
    int32_t      top_step;
    void (*pack)(const quant_affine_steps *steps, uint32_t at, const uint8_t *codes, uint8_t *out);
} affine_type;

static void write_affine(const affine_type *a, const float *x, uint64_t n, const float *importance,
                         uint8_t *out) {
    quant_tile t;
    for (uint64_t left = n / 256, m; left; left -= m, x += m * 256) {
        quant_lanes        scale, min;
        quant_affine_steps steps;
        uint8_t            codes[QUANT_LANES * 32];
        m = quant_tile_blocks(256, a->sub, left);
        quant_tile_load(&t, 256, a->sub, x, importance, m);
        quant_affine_fit(&t, &a->affine, scale, min);
        quant_affine_ladder(&t, &a->affine, a->top_step, scale, min, &steps);
        quant_affine_codes(&t, &a->affine, scale, min, codes);
        for (uint32_t b = 0; b < m; b++, out += a->block_bytes)
            a->pack(&steps, b * t.block_lanes, codes + b * 256, out);
        importance = importance ? importance + m * 256 : NULL;
    }
}

static void pack_q2_k(const quant_affine_steps *steps, uint32_t at, const uint8_t *codes,
                      uint8_t *out) {
    for (uint32_t i = 0; i < 16; i++)
        out[i] = (uint8_t)(steps->step[at + i] | steps->step_min[at + i] << 4);
    quant_pack(out + 16, 256, 2, 32, 0, codes);
    quant_store_u16(out + 80, steps->half[at]);
    quant_store_u16(out + 82, steps->half_min[at]);
}

/* Six bits each: four scales, four minima, then the low nibbles of the other four scales and minima,
   whose high two bits are above the former. */
static void pack_halves_and_steps(const quant_affine_steps *steps, uint32_t at, uint8_t *out) {
    quant_store_u16(out, steps->half[at]);
    quant_store_u16(out + 2, steps->half_min[at]);
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t scale = (uint8_t)steps->step[at + i], scale4 = (uint8_t)steps->step[at + 4 + i];
        const uint32_t min = (uint8_t)steps->step_min[at + i];
        const uint32_t min4 = (uint8_t)steps->step_min[at + 4 + i];
        out[4 + i] = (uint8_t)(scale | scale4 >> 4 << 6);
        out[8 + i] = (uint8_t)(min | min4 >> 4 << 6);
        out[12 + i] = (uint8_t)((scale4 & 15) | (min4 & 15) << 4);
    }
}

static void pack_q4_k(const quant_affine_steps *steps, uint32_t at, const uint8_t *codes,
                      uint8_t *out) {
    pack_halves_and_steps(steps, at, out);
    quant_pack(out + 16, 256, 4, 32, 0, codes);
}

static void pack_q5_k(const quant_affine_steps *steps, uint32_t at, const uint8_t *codes,
                      uint8_t *out) {
    pack_halves_and_steps(steps, at, out);
    quant_pack(out + 16, 256, 1, 32, 4, codes);
    quant_pack(out + 48, 256, 4, 32, 0, codes);
}

static const affine_type q2_k = {
    .affine = { .top = 3, .tries = { 2.0f, 0.1f, 21 } },
    .sub = 16,
    .block_bytes = 84,
    .top_step = 15,
    .pack = pack_q2_k,
};

static const affine_type q4_k = {
    .affine = { .top = 15, .tries = { 13.9f, 0.1f, 22 } },
    .sub = 32,
    .block_bytes = 144,
    .top_step = 63,
    .pack = pack_q4_k,
};

static const affine_type q5_k = {
    .affine = { .top = 31, .tries = { 30.4f, 0.1f, 16 } },
    .sub = 32,
    .block_bytes = 176,
    .top_step = 63,
    .pack = pack_q5_k,
};

void quant_write_q2_k(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_affine(&q2_k, x, n, importance, out);
}

void quant_write_q4_k(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_affine(&q4_k, x, n, importance, out);
}

void quant_write_q5_k(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_affine(&q5_k, x, n, importance, out);
}

/* ---- blocks of 32 where values are weighed */

static void write_affine_32(float top, const float *x, uint64_t n, const float *importance,
                            uint8_t *out) {
    const quant_affine a = {
        .top = top, .any_min = true, .tries = { top - 1.2f, 0.1f, 22 }
    };
    const uint32_t high = top > 15 ? 4 : 0, block_bytes = 20 + high;
    quant_tile     t;
    for (uint64_t left = n / 32, m; left; left -= m, x += m * 32, importance += m * 32) {
        quant_lanes scale, min;
        uint8_t     codes[QUANT_LANES * 32];
        m = quant_tile_blocks(32, 32, left);
        quant_tile_load(&t, 32, 32, x, importance, m);
        quant_affine_fit(&t, &a, scale, min);
        for (uint32_t b = 0; b < m; b++) {
            uint8_t *to = out + b * block_bytes;
            quant_store_u16(to, quant_fit_half(scale[b], t.unit[b], t.per_unit[b], &scale[b]));
            quant_store_u16(to + 2, quant_fit_half(-min[b], t.unit[b], t.per_unit[b], &min[b]));
            min[b] = -min[b];
        }
        quant_affine_codes(&t, &a, scale, min, codes);
        for (uint32_t b = 0; b < m; b++, out += block_bytes) {
            if (high) quant_pack(out + 4, 32, 1, 1, 4, codes + 32 * b);
            quant_pack(out + 4 + high, 32, 4, 16, 0, codes + 32 * b);
        }
    }
}

void quant_write_q4_1(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_affine_32(15, x, n, importance, out);
}

void quant_write_q5_1(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_affine_32(31, x, n, importance, out);
}
