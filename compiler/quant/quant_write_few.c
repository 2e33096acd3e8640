/* Blocks with one scale: levels from a table, or a few integers. And 4-bit floats, whose scales are
 * floats of eight bits. */
#include "quant_fit.h"

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
        for (uint32_t i = 0; i < QUANT_LANES; i++) half[i] = quant_fit_half(&t, i, scale[i], &scale[i]);
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
    .levels = { .n = 16, .first = -8, .last = 7, .try_from = -9, .try_step = 0.1f, .n_tries = 20 },
    .block_len = 32,
    .block_bytes = 18,
    .pack = pack_q4_0,
};

static const single_type q5_0 = {
    .levels = { .n = 32, .first = -16, .last = 15, .try_from = -17, .try_step = 0.1f, .n_tries = 20 },
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
