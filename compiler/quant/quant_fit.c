#include "quant_fit.h"

#include <float.h>
#include <math.h>

/* Below this a block is zeros. */
#define LEAST 0x1p-120f

/* What every weight has beside its importance, whose mean is 1. With importance alone, values in
   columns that were quiet when it was recorded are left to chance. */
#define EVEN 0.25f

/* ---- tiles */

static float largest(const float *x, uint32_t n) {
    float most = 0;
    for (uint32_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* 1 / mean, or 0 where that makes no weights. */
static float weight_factor(const float *importance, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; importance && i < n; i++) sum += (double)importance[i];
    double factor = n / sum;
    return sum > 0 && factor < FLT_MAX ? (float)factor : 0;
}

void quant_normalize(uint32_t n, const float *x, const float *importance, quant_normal *to) {
    const float   most = largest(x, n), factor = weight_factor(importance, n);
    const bool    zero = !(most >= LEAST && most <= FLT_MAX);
    const int32_t exponent = zero ? 0 : (int32_t)(quant_f32_bits(most) >> 23) - 127;
    to->unit = ldexpf(1, exponent);
    to->per_unit = ldexpf(1, -exponent);
    for (uint32_t i = 0; i < n; i++) {
        const float v = x[i] * to->per_unit, w = factor > 0 ? importance[i] * factor : 1;
        to->x[i] = zero || !(fabsf(v) < 2) ? 0 : v;
        to->w[i] = factor > 0 ? EVEN + (w < 1e6f ? w : 1e6f) : 1;
    }
}

static void load_block(quant_tile *t, uint32_t first, uint32_t block_len, const float *x,
                       const float *importance) {
    quant_normal normal;
    quant_normalize(block_len, x, importance, &normal);
    for (uint32_t k = 0; k < t->block_lanes; k++) {
        const uint32_t lane = first + k;
        for (uint32_t j = 0; j < t->len; j++) {
            t->x[j][lane] = normal.x[k * t->len + j];
            t->w[j][lane] = normal.w[k * t->len + j];
        }
        t->unit[lane] = normal.unit;
        t->per_unit[lane] = normal.per_unit;
    }
}

void quant_tile_load(quant_tile *t, uint32_t block_len, uint32_t len, const float *x,
                     const float *importance, uint64_t n_blocks) {
    t->len = len;
    t->block_lanes = block_len / len;
    uint32_t lane = 0;
    for (uint64_t i = 0; i < n_blocks; i++, lane += t->block_lanes)
        load_block(t, lane, block_len, x + i * block_len,
                   importance ? importance + i * block_len : NULL);
    for (; lane < QUANT_LANES; lane++) {
        for (uint32_t j = 0; j < len; j++) t->x[j][lane] = 0, t->w[j][lane] = 1;
        t->unit[lane] = t->per_unit[lane] = 1;
    }
}

uint16_t quant_fit_half(float scale, float unit, float per_unit, float *rounded) {
    uint16_t half = quant_f32_to_f16(scale * unit), sign = half & 0x8000;
    if ((half & 0x7fff) >= 0x7c00) half = sign | 0x7bff;
    *rounded = quant_f16_to_f32(half) * per_unit;
    return half;
}

uint16_t quant_fit_factor(float scale, float unit, float per_unit, float *rounded) {
    const uint16_t half = quant_fit_half(scale, unit, per_unit, rounded);
    if (half & 0x7fff || scale == 0) return half;
    *rounded = 0x1p-24f * per_unit;
    return 1;
}

/* ---- levels */

/* 1 / scale; 0 for what is as good as 0, so that all products are numbers. */
static inline void invert(const quant_lanes scale, quant_lanes inverse) {
    for (uint32_t i = 0; i < QUANT_LANES; i++)
        inverse[i] = fabsf(scale[i]) > 1e-30f ? 1 / scale[i] : 0;
}

/* The nearest integer within first … last. Adding and taking away 1.5 × 2^23 rounds to integers. */
static inline float nearest_integer(float v, float first, float last) {
    float q = (v + 12582912.0f) - 12582912.0f;
    q = q < first ? first : q;
    return q > last ? last : q;
}

typedef float level_table[16];

const uint8_t quant_ascending_codes[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

/* Ascending, and half way between each and the one before; one beyond n is never reached. */
static inline void find_table(const quant_levels *levels, level_table bounds, level_table table) {
    for (uint32_t k = 0; k < 16; k++) {
        table[k] = k < levels->n ? levels->values[levels->codes[k]] : 0;
        bounds[k] = k && k < levels->n ? (table[k - 1] + table[k]) / 2 : FLT_MAX;
    }
}

static inline float look_up(float v, const level_table bounds, const level_table of) {
    float q = of[0];
    for (uint32_t k = 1; k < 16; k++) q = v > bounds[k] ? of[k] : q;
    return q;
}

/* Runs a loop over all values of a tile with `q`, the level of a value divided by its lane's scale. */
#define FOR_EACH_LEVEL(t, levels, inverse, ...)                                                      \
    if (levels->values) {                                                                            \
        level_table bounds, table;                                                                   \
        find_table(levels, bounds, table);                                                           \
        for (uint32_t j = 0; j < t->len; j++)                                                        \
            for (uint32_t i = 0; i < QUANT_LANES; i++) {                                             \
                const float q = look_up(t->x[j][i] * inverse[i], bounds, table);                     \
                __VA_ARGS__                                                                          \
            }                                                                                        \
    } else {                                                                                         \
        const float first = levels->first, last = levels->last;                                      \
        for (uint32_t j = 0; j < t->len; j++)                                                        \
            for (uint32_t i = 0; i < QUANT_LANES; i++) {                                             \
                const float q = nearest_integer(t->x[j][i] * inverse[i], first, last);               \
                __VA_ARGS__                                                                          \
            }                                                                                        \
    }

static void sums_of(const quant_tile *t, const quant_levels *levels, const quant_lanes inverse,
                    quant_lanes xl, quant_lanes ll) {
    quant_lanes xq = { 0 }, qq = { 0 };
    FOR_EACH_LEVEL(t, levels, inverse, {
        const float wq = t->w[j][i] * q;
        xq[i] += wq * t->x[j][i];
        qq[i] += wq * q;
    })
    memcpy(xl, xq, sizeof xq);
    memcpy(ll, qq, sizeof qq);
}

void quant_fit_sums(const quant_tile *t, const quant_levels *levels, const quant_lanes scale,
                    quant_lanes xl, quant_lanes ll) {
    quant_lanes inverse;
    invert(scale, inverse);
    sums_of(t, levels, inverse, xl, ll);
}

void quant_fit_error(const quant_tile *t, const quant_levels *levels, const quant_lanes scale,
                     quant_lanes error) {
    quant_lanes inverse, sum = { 0 }, by;
    invert(scale, inverse);
    memcpy(by, scale, sizeof by);
    FOR_EACH_LEVEL(t, levels, inverse, {
        const float off = t->x[j][i] - by[i] * q;
        sum[i] += t->w[j][i] * off * off;
    })
    memcpy(error, sum, sizeof sum);
}

void quant_fit_codes(const quant_tile *t, const quant_levels *levels, const quant_lanes scale,
                     uint8_t *codes) {
    quant_lanes inverse;
    invert(scale, inverse);
    level_table bounds, table;
    if (levels->values) {
        find_table(levels, bounds, table);
        for (uint32_t k = 0; k < levels->n; k++) table[k] = levels->codes[k];
    }
    for (uint32_t j = 0; j < t->len; j++) {
        quant_lanes q;
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            const float v = t->x[j][i] * inverse[i];
            q[i] = levels->values ? look_up(v, bounds, table)
                                  : nearest_integer(v, levels->first, levels->last) - levels->first;
        }
        for (uint32_t i = 0; i < QUANT_LANES; i++) codes[i * t->len + j] = (uint8_t)q[i];
    }
}

/* ---- one scale */

static void find_extremes(const quant_tile *t, quant_lanes extreme) {
    quant_lanes low = { 0 }, high = { 0 };
    for (uint32_t j = 0; j < t->len; j++)
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            low[i] = t->x[j][i] < low[i] ? t->x[j][i] : low[i];
            high[i] = t->x[j][i] > high[i] ? t->x[j][i] : high[i];
        }
    for (uint32_t i = 0; i < QUANT_LANES; i++) extreme[i] = -low[i] > high[i] ? low[i] : high[i];
}

/* Given the levels, the best scale is xl / ll, and it takes xl² / ll off the error. */
static void keep_better(const quant_lanes xl, const quant_lanes ll, quant_lanes best,
                        quant_lanes scale) {
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        const float s = ll[i] > 0 ? xl[i] / ll[i] : 0, gain = s * xl[i];
        scale[i] = gain > best[i] ? s : scale[i];
        best[i] = gain > best[i] ? gain : best[i];
    }
}

enum { N_REFINED = 3 };

void quant_fit_scale(const quant_tile *t, const quant_levels *levels, quant_lanes scale) {
    quant_lanes extreme, per_extreme, best = { 0 }, xl, ll, inverse;
    find_extremes(t, extreme);
    invert(extreme, per_extreme);
    for (uint32_t i = 0; i < QUANT_LANES; i++) scale[i] = 0;
    for (uint32_t k = 0; k < levels->tries[0].n + levels->tries[1].n; k++) {
        const bool         second = k >= levels->tries[0].n;
        const quant_tries *tries = &levels->tries[second];
        const float        place = tries->first + tries->step * (float)(second ? k - tries[-1].n : k);
        for (uint32_t i = 0; i < QUANT_LANES; i++) inverse[i] = place * per_extreme[i];
        sums_of(t, levels, inverse, xl, ll);
        keep_better(xl, ll, best, scale);
    }
    for (uint32_t k = 0; k < N_REFINED; k++) {
        quant_fit_sums(t, levels, scale, xl, ll);
        keep_better(xl, ll, best, scale);
    }
}

/* ---- scales that are an f16 times an integer */

static void of_block(const quant_tile *t, quant_lanes sum) {
    for (uint32_t b = 0; b < QUANT_LANES; b += t->block_lanes) {
        float all = 0;
        for (uint32_t i = b; i < b + t->block_lanes; i++) all += sum[i];
        for (uint32_t i = b; i < b + t->block_lanes; i++) sum[i] = all;
    }
}

typedef struct ladder_choice {
    uint16_t    half[QUANT_LANES];
    quant_lanes step, scale, error; /* the error is the block's */
} ladder_choice;

/* The integers next to scale / d, one below and one above: of these the best. */
static void choose_steps(const quant_tile *t, const quant_levels *levels, const quant_ladder *ladder,
                         const quant_lanes ideal, const quant_lanes d, ladder_choice *c) {
    quant_lanes rounded, inverse, error, step, scale;
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        c->half[i] = quant_fit_factor(d[i], t->unit[i], t->per_unit[i], &rounded[i]);
        c->error[i] = FLT_MAX;
        c->step[i] = c->scale[i] = 0;
    }
    invert(rounded, inverse);
    const float low = (float)ladder->low, high = (float)ladder->high;
    for (int32_t k = -1; k <= 1; k++) {
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            step[i] = nearest_integer(ideal[i] * inverse[i], low, high) + (float)k;
            step[i] = step[i] < low ? low : step[i] > high ? high : step[i];
            scale[i] = step[i] * rounded[i];
        }
        quant_fit_error(t, levels, scale, error);
        for (uint32_t i = 0; i < QUANT_LANES; i++)
            if (error[i] < c->error[i]) {
                c->error[i] = error[i];
                c->step[i] = step[i];
                c->scale[i] = scale[i];
            }
    }
    of_block(t, c->error);
}

static void keep_better_choice(const ladder_choice *c, ladder_choice *best) {
    for (uint32_t i = 0; i < QUANT_LANES; i++)
        if (c->error[i] < best->error[i]) {
            best->error[i] = c->error[i];
            best->half[i] = c->half[i];
            best->step[i] = c->step[i];
            best->scale[i] = c->scale[i];
        }
}

/* Of each block the scale of largest magnitude. */
static void find_largest_scales(const quant_tile *t, const quant_lanes scale, quant_lanes most) {
    for (uint32_t b = 0; b < QUANT_LANES; b += t->block_lanes) {
        float m = 0;
        for (uint32_t i = b; i < b + t->block_lanes; i++) m = fabsf(scale[i]) > fabsf(m) ? scale[i] : m;
        for (uint32_t i = b; i < b + t->block_lanes; i++) most[i] = m;
    }
}

void quant_fit_ladder(const quant_tile *t, const quant_levels *levels, const quant_ladder *ladder,
                      quant_lanes scale, uint16_t half[QUANT_LANES], int8_t step[QUANT_LANES]) {
    ladder_choice best = { .half = { 0 } }, c;
    quant_lanes   most, d, xl, ll;
    find_largest_scales(t, scale, most);
    for (uint32_t i = 0; i < QUANT_LANES; i++) best.error[i] = INFINITY;
    for (uint32_t k = 0; k < ladder->tries.n; k++) {
        const float top = ladder->tries.first + ladder->tries.step * (float)k;
        for (uint32_t i = 0; i < QUANT_LANES; i++) d[i] = most[i] / top;
        choose_steps(t, levels, ladder, scale, d, &c);
        keep_better_choice(&c, &best);
    }
    for (uint32_t k = 0; k < 2; k++) {
        quant_fit_sums(t, levels, best.scale, xl, ll);
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            xl[i] *= best.step[i];
            ll[i] *= best.step[i] * best.step[i];
        }
        of_block(t, xl);
        of_block(t, ll);
        for (uint32_t i = 0; i < QUANT_LANES; i++) d[i] = ll[i] > 0 ? xl[i] / ll[i] : 0;
        choose_steps(t, levels, ladder, scale, d, &c);
        keep_better_choice(&c, &best);
    }
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        half[i] = best.half[i];
        step[i] = (int8_t)best.step[i];
        scale[i] = best.scale[i];
    }
}
