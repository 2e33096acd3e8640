/* quant_fit.h - the scales that make the blocks nearest to given values; what quant_write's files
 * share.
 *
 * Work is done on a tile: sixteen sub-blocks, the stretches of values that have one scale, side by
 * side. A lane is a sub-block and keeps to itself, so that loops over lanes are vector code without
 * sums across a vector, and a block's bytes do not depend on what stands beside it in a tile.
 *
 * Values of a block are divided by a power of two that brings the largest to [1, 2): squares neither
 * overflow nor vanish. Scales here are of such values; `unit` brings them back.
 *
 * Errors are sums of weight × (value - what is stored)². */
#ifndef GGUFC_QUANT_FIT_H
#define GGUFC_QUANT_FIT_H

#include "quant.h"

enum { QUANT_LANES = 16, QUANT_TILE_LEN = 256 };

typedef float quant_lanes[QUANT_LANES];

/* A block's values and weights. Values that are no numbers count as 0, all of a block that holds an
   infinity do. Weights are importances, divided by their mean, and a quarter; or all 1 where there are
   none: NULL, or all zero. */
typedef struct quant_normal {
    float x[QUANT_TILE_LEN], w[QUANT_TILE_LEN];
    float unit, per_unit; /* a power of two and its inverse */
} quant_normal;

void quant_normalize(uint32_t n, const float *x, const float *importance, quant_normal *to);

typedef struct quant_tile {
    uint32_t    len;         /* values a lane: those of a sub-block */
    uint32_t    block_lanes; /* lanes a block, which share `unit`; block b's are from b × block_lanes */
    quant_lanes x[QUANT_TILE_LEN], w[QUANT_TILE_LEN];
    quant_lanes unit, per_unit;
} quant_tile;

/* The blocks at x, of block_len values in sub-blocks of `len`, as many as there are lanes for or
   less, each as quant_normalize has it; other lanes hold zeros. */
void quant_tile_load(quant_tile *t, uint32_t block_len, uint32_t len, const float *x,
                     const float *importance, uint64_t n_blocks);

/* How many of so many blocks the next tile takes. */
static inline uint64_t quant_tile_blocks(uint32_t block_len, uint32_t len, uint64_t n_blocks) {
    uint64_t most = QUANT_LANES * len / block_len;
    return n_blocks < most ? n_blocks : most;
}

/* Where the value of largest magnitude is put when a scale is looked for: n places from the first,
   `step` apart. */
typedef struct quant_tries {
    float    first, step;
    uint32_t n;
} quant_tries;

/* What a scale is multiplied by: all integers from the first level to the last, with codes that
   count from 0; or where there is a table of values by code, those that `codes` names, ascending. */
typedef struct quant_levels {
    uint32_t       n;
    float          first, last;
    const int8_t  *values;
    const uint8_t *codes;
    quant_tries    tries[2];
} quant_levels;

extern const uint8_t quant_ascending_codes[16]; /* 0, 1, 2, … */

/* The scale with the least error, or nearly, of each lane. */
void quant_fit_scale(const quant_tile *t, const quant_levels *levels, quant_lanes scale);

/* The error of each lane with such scales, each value at its nearest level. */
void quant_fit_error(const quant_tile *t, const quant_levels *levels, const quant_lanes scale,
                     quant_lanes error);

/* With the levels chosen so, the sums of weight × value × level and of weight × level². */
void quant_fit_sums(const quant_tile *t, const quant_levels *levels, const quant_lanes scale,
                    quant_lanes xl, quant_lanes ll);

/* The codes of the levels chosen so: of lane i from codes[i × len]. */
void quant_fit_codes(const quant_tile *t, const quant_levels *levels, const quant_lanes scale,
                     uint8_t *codes);

/* The block's scale is the product of one f16 and an integer low … high for each sub-block. */
typedef struct quant_ladder {
    int32_t     low, high;
    quant_tries tries; /* where the largest scale is put when the f16 is looked for */
} quant_ladder;

/* The f16 (as bits, by lane, the same within a block), the integers, and the scales they make, which
   have the least error, or nearly. `scale` holds what quant_fit_scale found. */
void quant_fit_ladder(const quant_tile *t, const quant_levels *levels, const quant_ladder *ladder,
                      quant_lanes scale, uint16_t half[QUANT_LANES], int8_t step[QUANT_LANES]);

/* The nearest f16, by bits, to scale × unit, and what it is in units: the largest there is instead of
   infinity. The second is for what integers will be multiplied by: never 0 unless the scale is. */
uint16_t quant_fit_half(float scale, float unit, float per_unit, float *rounded);
uint16_t quant_fit_factor(float scale, float unit, float per_unit, float *rounded);

/* ---- scale × code - minimum, codes 0 … top (quant_fit_affine.c) */

typedef struct quant_affine {
    float       top;
    bool        any_min; /* a minimum may be below 0: the least value above 0 */
    quant_tries tries;   /* how many steps the range of values is divided into */
} quant_affine;

void quant_affine_fit(const quant_tile *t, const quant_affine *a, quant_lanes scale, quant_lanes min);
void quant_affine_error(const quant_tile *t, const quant_affine *a, const quant_lanes scale,
                        const quant_lanes min, quant_lanes error);
void quant_affine_codes(const quant_tile *t, const quant_affine *a, const quant_lanes scale,
                        const quant_lanes min, uint8_t *codes);

/* Scales and minima are each an f16 times an integer 0 … top_step for each sub-block; as
   quant_fit_ladder. */
typedef struct quant_affine_steps {
    uint16_t half[QUANT_LANES], half_min[QUANT_LANES];
    int8_t   step[QUANT_LANES], step_min[QUANT_LANES];
} quant_affine_steps;

void quant_affine_ladder(const quant_tile *t, const quant_affine *a, int32_t top_step,
                         quant_lanes scale, quant_lanes min, quant_affine_steps *steps);

/* ---- packing */

/* `n` codes' lowest `bits` after `from`, packed in groups of bytes as quant_field has it. */
static inline void quant_pack(uint8_t *out, uint32_t n, uint32_t bits, uint32_t group, uint32_t from,
                              const uint8_t *codes) {
    const uint32_t mask = (1u << bits) - 1;
    for (uint32_t done = 0; done < n; out += group) {
        for (uint32_t i = 0; i < group; i++) out[i] = 0;
        for (uint32_t place = 0; place < 8; place += bits, done += group)
            for (uint32_t i = 0; i < group; i++)
                out[i] = (uint8_t)(out[i] | (codes[done + i] >> from & mask) << place);
    }
}

static inline void quant_store_u16(uint8_t *out, uint16_t bits) {
    out[0] = (uint8_t)bits;
    out[1] = (uint8_t)(bits >> 8);
}

/* ---- the rows of quant_write's table: as quant_write, which has checked n */

typedef void quant_writer(const float *x, uint64_t n, const float *importance, uint8_t *out);

quant_writer quant_write_q4_0, quant_write_q4_1, quant_write_q5_0, quant_write_q5_1, quant_write_q8_0,
    quant_write_q2_k, quant_write_q3_k, quant_write_q4_k, quant_write_q5_k, quant_write_q6_k,
    quant_write_iq4_nl, quant_write_iq4_xs, quant_write_tq1_0, quant_write_tq2_0, quant_write_mxfp4,
    quant_write_nvfp4, quant_write_q1_0, quant_write_q2_0, quant_write_iq3_xxs, quant_write_iq3_s,
    quant_write_iq2_xxs, quant_write_iq2_xs, quant_write_iq2_s, quant_write_iq1_s, quant_write_iq1_m;

#endif
