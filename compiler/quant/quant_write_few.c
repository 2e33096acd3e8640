/* Blocks with one scale: levels from a table, or a few integers. And 4-bit floats, whose scales are
 * floats of eight bits. */
#include "quant_fit.h"
#include "quant_grid.h"

#include <float.h>
#include <math.h>

typedef struct single_type {
    quant_levels levels;
    uint32_t     block_len, block_bytes;
    void (*pack)(uint16_t half, const uint8_t *codes, uint8_t *out);
} single_type;

static void write_single(const single_type *s, const float *x, uint64_t n, const float *importance,
                         uint8_t *out) {
    const uint32_t len = s->block_len;
    quant_tile     t;
    uint8_t        codes[QUANT_LANES * QUANT_TILE_LEN];
    for (uint64_t left = n / len, m; left; left -= m, x += m * len) {
        quant_lanes scale;
        uint16_t    half[QUANT_LANES];
        m = quant_tile_blocks(len, len, left);
        quant_tile_load(&t, len, len, x, importance, m);
        quant_fit_scale(&t, &s->levels, scale);
        for (uint32_t i = 0; i < QUANT_LANES; i++)
            half[i] = quant_fit_half(scale[i], t.unit[i], t.per_unit[i], &scale[i]);
        quant_fit_codes(&t, &s->levels, scale, codes);
        for (uint32_t b = 0; b < m; b++, out += s->block_bytes) s->pack(half[b], codes + b * len, out);
        importance = importance ? importance + m * len : NULL;
    }
}

static void pack_q4_0(uint16_t half, const uint8_t *codes, uint8_t *out) {
    quant_store_u16(out, half);
    quant_pack(out + 2, 32, 4, 16, 0, codes);
}

static void pack_q5_0(uint16_t half, const uint8_t *codes, uint8_t *out) {
    quant_store_u16(out, half);
    quant_pack(out + 2, 32, 1, 1, 4, codes);
    quant_pack(out + 6, 32, 4, 16, 0, codes);
}

static const single_type q4_0 = {
    .levels = { .n = 16, .first = -8, .last = 7, .tries = { { -9, 0.1f, 20 } } },
    .block_len = 32,
    .block_bytes = 18,
    .pack = pack_q4_0,
};

static const single_type q5_0 = {
    .levels = { .n = 32, .first = -16, .last = 15, .tries = { { -17, 0.1f, 20 } } },
    .block_len = 32,
    .block_bytes = 22,
    .pack = pack_q5_0,
};

void quant_write_q4_0(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&q4_0, x, n, importance, out);
}

void quant_write_q5_0(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&q5_0, x, n, importance, out);
}

/* ---- 4 bits from a table, 1 and 2 bits, ternary */

static void pack_q1_0(uint16_t half, const uint8_t *codes, uint8_t *out) {
    quant_store_u16(out, half);
    quant_pack(out + 2, 128, 1, 1, 0, codes);
}

static void pack_q2_0(uint16_t half, const uint8_t *codes, uint8_t *out) {
    quant_store_u16(out, half);
    quant_pack(out + 2, 64, 2, 1, 0, codes);
}

static void pack_tq2_0(uint16_t half, const uint8_t *codes, uint8_t *out) {
    quant_pack(out, 256, 2, 32, 0, codes);
    quant_store_u16(out + 64, half);
}

/* A byte of five digits, or of four and a 0, is ceil(number × 256 / 243). */
static void pack_trits(const uint8_t *codes, uint32_t group, uint32_t digits, uint8_t *out) {
    for (uint32_t i = 0; i < group; i++) {
        uint32_t number = 0;
        for (uint32_t k = 0; k < 5; k++) number = number * 3 + (k < digits ? codes[k * group + i] : 0);
        out[i] = (uint8_t)((number * 256 + 242) / 243);
    }
}

static void pack_tq1_0(uint16_t half, const uint8_t *codes, uint8_t *out) {
    pack_trits(codes, 32, 5, out);
    pack_trits(codes + 160, 16, 5, out + 32);
    pack_trits(codes + 240, 4, 4, out + 48);
    quant_store_u16(out + 52, half);
}

static const single_type iq4_nl = {
    .levels = { .n = 16,
                .values = quant_iq4_values,
                .codes = quant_ascending_codes,
                .tries = { { -134, 1, 15 }, { 106, 1, 15 } } },
    .block_len = 32,
    .block_bytes = 18,
    .pack = pack_q4_0,
};

static const int8_t signs[2] = { -1, 1 };

static const single_type q1_0 = {
    .levels = { .n = 2, .values = signs, .codes = quant_ascending_codes, .tries = { { 1, 0, 1 } } },
    .block_len = 128,
    .block_bytes = 18,
    .pack = pack_q1_0,
};

static const single_type q2_0 = {
    .levels = { .n = 4, .first = -1, .last = 2, .tries = { { 0.6f, 0.1f, 30 }, { -0.6f, -0.1f, 30 } } },
    .block_len = 64,
    .block_bytes = 18,
    .pack = pack_q2_0,
};

static const single_type tq1_0 = {
    .levels = { .n = 3, .first = -1, .last = 1, .tries = { { 0.6f, 0.1f, 40 } } },
    .block_len = 256,
    .block_bytes = 54,
    .pack = pack_tq1_0,
};

static const single_type tq2_0 = {
    .levels = { .n = 3, .first = -1, .last = 1, .tries = { { 0.6f, 0.1f, 40 } } },
    .block_len = 256,
    .block_bytes = 66,
    .pack = pack_tq2_0,
};

void quant_write_iq4_nl(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&iq4_nl, x, n, importance, out);
}

void quant_write_q1_0(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&q1_0, x, n, importance, out);
}

void quant_write_q2_0(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&q2_0, x, n, importance, out);
}

void quant_write_tq1_0(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&tq1_0, x, n, importance, out);
}

void quant_write_tq2_0(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_single(&tq2_0, x, n, importance, out);
}

/* ---- 4-bit floats: the scale is one of few, of which those near are tried */

static const uint8_t fp4_ascending[15] = { 15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7 };

/* Twice the floats. */
static const quant_levels fp4_levels = {
    .n = 15, .values = quant_fp4_values, .codes = fp4_ascending, .tries = { { 8, 0.25f, 25 } }
};

/* Keeps code and scale of each lane where the error is less. */
static void try_scale(const quant_tile *t, const uint8_t code[QUANT_LANES], const quant_lanes scale,
                      quant_lanes best, uint8_t best_code[QUANT_LANES], quant_lanes best_scale) {
    quant_lanes error;
    quant_fit_error(t, &fp4_levels, scale, error);
    for (uint32_t i = 0; i < QUANT_LANES; i++)
        if (error[i] < best[i]) {
            best[i] = error[i];
            best_code[i] = code[i];
            best_scale[i] = scale[i];
        }
}

/* Values of a tile are below 2 and the largest level is 12: scales from the one with which the largest
   is 0.75 on, but for those that make infinities. A scale with code e is half of 2^(e - 127). */
void quant_write_mxfp4(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    quant_tile t;
    for (uint64_t left = n / 32, m; left; left -= m, x += m * 32) {
        quant_lanes best, scale, best_scale = { 0 };
        uint8_t     code[QUANT_LANES], best_code[QUANT_LANES] = { 0 }, codes[QUANT_LANES * 32];
        m = quant_tile_blocks(32, 32, left);
        quant_tile_load(&t, 32, 32, x, importance, m);
        for (uint32_t i = 0; i < QUANT_LANES; i++) best[i] = FLT_MAX;
        for (int32_t k = -4; k <= -1; k++) {
            for (uint32_t i = 0; i < QUANT_LANES; i++) {
                const int exponent = ilogbf(t.unit[i]), near = exponent == 127 && k > -3 ? -3 : k;
                code[i] = (uint8_t)(128 + near + exponent);
                scale[i] = ldexpf(1, near);
            }
            try_scale(&t, code, scale, best, best_code, best_scale);
        }
        quant_fit_codes(&t, &fp4_levels, best_scale, codes);
        for (uint32_t b = 0; b < m; b++, out += 17) {
            out[0] = best_code[b];
            quant_pack(out + 1, 32, 4, 16, 0, codes + b * 32);
        }
        importance = importance ? importance + m * 32 : NULL;
    }
}

/* The code of a number near f >= 0: the nearest, but where halves are. Below 2^-6 numbers are 2^-9
   apart. */
static int32_t code_of_ue4m3(float f) {
    if (!(f < 448)) return 0x7e;
    if (f < 0x1p-6f) return (int32_t)(f * 0x1p9f + 0.5f);
    return (int32_t)((quant_f32_bits(f) + (1u << 19)) >> 20) - (120 << 3);
}

void quant_write_nvfp4(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    quant_tile t;
    for (uint64_t left = n / 64, m; left; left -= m, x += m * 64) {
        quant_lanes ideal, best, scale, best_scale = { 0 };
        uint8_t     code[QUANT_LANES], best_code[QUANT_LANES] = { 0 }, codes[QUANT_LANES * 16];
        m = quant_tile_blocks(64, 16, left);
        quant_tile_load(&t, 64, 16, x, importance, m);
        quant_fit_scale(&t, &fp4_levels, ideal);
        for (uint32_t i = 0; i < QUANT_LANES; i++) best[i] = FLT_MAX;
        for (int32_t k = -3; k <= 3; k++) {
            for (uint32_t i = 0; i < QUANT_LANES; i++) {
                /* As good without its sign, which there is no room for: levels come in pairs. */
                int32_t near = code_of_ue4m3(2 * fabsf(ideal[i]) * t.unit[i]) + k;
                code[i] = (uint8_t)(near < 0 ? 0 : near > 0x7e ? 0x7e : near);
                scale[i] = quant_ue4m3_to_f32(code[i]) * 0.5f * t.per_unit[i];
            }
            try_scale(&t, code, scale, best, best_code, best_scale);
        }
        quant_fit_codes(&t, &fp4_levels, best_scale, codes);
        for (uint32_t b = 0; b < m; b++, out += 36) {
            memcpy(out, best_code + 4 * b, 4);
            quant_pack(out + 4, 64, 4, 8, 0, codes + b * 64);
        }
        importance = importance ? importance + m * 64 : NULL;
    }
}
