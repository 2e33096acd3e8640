/* Blocks of IQ1, IQ2 and IQ3: 256 values as points of a grid, times a scale for each 16 or 32 of them
 * that is an f16 times an odd number. What the bytes mean is in quant_unpack_iq.c.
 *
 * For a scale the best points are found exactly; for points, the best scale is a quotient of sums. So
 * each sub-block tries a few scales, and has its ideal one; the f16 is what these are nearest to the
 * odd multiples of; then each sub-block takes the best of the multiples around, with the points that
 * suit it, and the f16 is adjusted to these. */
#include "quant_fit.h"
#include "quant_search.h"

#include <float.h>
#include <math.h>

enum { LEN = 256, GROUP = 8, N_GROUPS = LEN / GROUP, MOST_SUBS = 16 };

/* Eight values: a point or two, and what is beside it. */
typedef struct group {
    uint32_t point[2];
    uint8_t  signs;
    bool     less; /* the shift is down */
} group;

typedef struct codes {
    group    groups[N_GROUPS];
    uint32_t step[MOST_SUBS]; /* the odd number is 2 × step + 1 */
    uint16_t half;
} codes;

typedef struct grid_type {
    enum quant_grid grid;
    bool            even_signs; /* the number of negative values in a group must be even */
    uint32_t        shared;     /* groups that share a shift; 0: no shifts, but signs */
    uint32_t        sub, top_step, block_bytes;
    float           unit; /* a weight is f16 × unit × odd number × value of a point */
    float           mean; /* of a point's values, as root of squares, for where to look first */
    void (*pack)(const codes *c, uint8_t *out);
} grid_type;

/* What a choice of points for some values comes to: its error, and the sums of weight × value × point
   and weight × point². */
typedef struct sums {
    float error, xq, qq;
} sums;

/* ---- the points for a scale */

static void find_costs(const grid_type *g, const quant_search *s, const float *size, const float *w,
                       float scale, float shift, quant_costs costs) {
    const float by = scale * (g->shared ? 8 : 1), off = scale * shift;
    for (uint32_t l = 0; l < s->n_levels; l++) {
        const float level = by * (float)s->levels[l] + off;
        for (uint32_t i = 0; i < g->sub; i++) {
            const float e = size[i] - level;
            costs[l][i] = w[i] * e * e;
        }
    }
}

/* Where the number of negative values must be even and is odd, one gets the wrong sign: where that
   costs least, with the lowest level then. */
static void flip_one(const quant_search *s, float *size, const float *w, float scale, uint32_t at,
                     quant_costs costs, group *to) {
    const float lowest = scale * (float)s->levels[0];
    float       more[GROUP];
    uint32_t    flip = 0;
    for (uint32_t i = 0; i < GROUP; i++) {
        const float e = size[at + i] + lowest;
        float       best = costs[0][at + i];
        for (uint32_t l = 1; l < s->n_levels; l++)
            best = costs[l][at + i] < best ? costs[l][at + i] : best;
        more[i] = w[at + i] * e * e - best;
    }
    for (uint32_t i = 1; i < GROUP; i++) flip = more[i] < more[flip] ? i : flip;
    to->signs ^= (uint8_t)(1u << flip);
    size[at + flip] = -size[at + flip];
    for (uint32_t l = 0; l < s->n_levels; l++) {
        const float e = size[at + flip] - scale * (float)s->levels[l];
        costs[l][at + flip] = w[at + flip] * e * e;
    }
}

enum { MOST_SUB = 32, MOST_GROUPS = MOST_SUB / GROUP };

/* The best points with one shift: of each group, and its error. */
typedef struct choice {
    group groups[MOST_GROUPS];
    float size[MOST_SUB], error[MOST_GROUPS];
} choice;

static void choose_points(const grid_type *g, const quant_search *s, const float *x, const float *w,
                          float scale, bool less, const group *near, choice *c) {
    quant_costs costs;
    for (uint32_t i = 0; i < g->sub; i++) c->size[i] = g->shared ? x[i] : fabsf(x[i]);
    find_costs(g, s, c->size, w, scale, g->shared ? less ? -1 : 1 : 0, costs);
    for (uint32_t k = 0; k < g->sub / GROUP; k++) {
        const uint32_t at = k * GROUP;
        group         *to = &c->groups[k];
        *to = near[k];
        to->signs = 0;
        to->less = less;
        for (uint32_t i = 0; i < GROUP && !g->shared; i++)
            to->signs |= (uint8_t)((x[at + i] < 0) << i);
        if (g->even_signs && __builtin_parity(to->signs))
            flip_one(s, c->size, w, scale, at, costs, to);
        c->error[k] = 0;
        for (uint32_t i = 0; i < GROUP / s->width; i++)
            c->error[k] += quant_search_point(s, costs, at + i * s->width, &to->point[i]);
    }
}

/* The group's share of the sums. */
static void add_group(const grid_type *g, const quant_search *s, const choice *c, const float *w,
                      uint32_t k, sums *sum) {
    const group *of = &c->groups[k];
    const float  by = g->shared ? 8 : 1, shift = g->shared ? of->less ? -1 : 1 : 0;
    for (uint32_t i = 0; i < GROUP; i++) {
        const int8_t  *point = s->points + of->point[i / s->width] * s->width;
        const uint32_t at = k * GROUP + i;
        const float    q = (float)point[i % s->width] * by + shift, wq = w[at] * q;
        sum->xq += wq * c->size[at];
        sum->qq += wq * q;
    }
    sum->error += c->error[k];
}

/* The sub-block's groups; those that share a shift get the better one. `to` has points near before. */
static sums choose_sub(const grid_type *g, const quant_search *s, const float *x, const float *w,
                       float scale, group *to) {
    const uint32_t n = g->sub / GROUP, shared = g->shared ? g->shared : n;
    choice         choices[2];
    sums           sum = { 0, 0, 0 };
    choose_points(g, s, x, w, scale, false, to, &choices[0]);
    if (g->shared) choose_points(g, s, x, w, scale, true, to, &choices[1]);
    for (uint32_t at = 0; at < n; at += shared) {
        float more = 0; /* error with the shift up than down */
        for (uint32_t k = at; k < at + shared && g->shared; k++)
            more += choices[0].error[k] - choices[1].error[k];
        const choice *best = &choices[more > 0];
        for (uint32_t k = at; k < at + shared; k++) {
            add_group(g, s, best, w, k, &sum);
            to[k] = best->groups[k];
        }
    }
    return sum;
}

/* ---- scales */

typedef struct ideal {
    float scale[MOST_SUBS], qq[MOST_SUBS];
} ideal;

/* Of a sub-block: scales around the quotient of roots of mean squares, then those that suit the points
   found best. Points are left near those for the scale. */
static void find_ideal(const grid_type *g, const quant_search *s, const float *x, const float *w,
                       group *to, float *scale, float *qq) {
    static const float around[] = { 0.85f, 1, 1.15f };
    enum { N_AROUND = ARRAY_LEN(around), N_REFINED = 1 };
    float xx = 0, ww = 0, gain = 0;
    for (uint32_t i = 0; i < g->sub; i++) {
        xx += w[i] * x[i] * x[i];
        ww += w[i];
    }
    *scale = *qq = 0;
    if (!(xx > 0)) return;
    const float middle = sqrtf(xx / ww) / g->mean;
    for (uint32_t k = 0; k < N_AROUND + N_REFINED; k++) {
        const float try = k < N_AROUND ? middle * around[k] : *scale;
        const sums  sum = choose_sub(g, s, x, w, try, to);
        if (!(sum.qq > 0 && sum.xq > 0 && sum.xq * sum.xq / sum.qq > gain)) continue;
        gain = sum.xq * sum.xq / sum.qq;
        *scale = sum.xq / sum.qq;
        *qq = sum.qq;
    }
}

static uint32_t nearest_step(const grid_type *g, float multiple) {
    const float step = (multiple - 1) / 2 + 0.5f;
    if (!(step > 0)) return 0;
    return step < (float)g->top_step ? (uint32_t)step : g->top_step;
}

/* The d whose odd multiples are nearest to the ideal scales: of those that make the largest one an odd
   multiple near the last, each adjusted to the multiples it has. */
static float find_factor(const grid_type *g, const ideal *of) {
    const uint32_t n = LEN / g->sub;
    float          most = 0, best_d = 0, best = FLT_MAX;
    for (uint32_t i = 0; i < n; i++) most = of->scale[i] > most ? of->scale[i] : most;
    for (uint32_t k = 0; k < 48; k++) {
        float d = most / ((float)(2 * g->top_step + 1) * (1.2f - 0.0125f * (float)k));
        float xq = 0, qq = 0, error = 0;
        for (uint32_t i = 0; i < n && d > 0; i++) {
            const float odd = (float)(2 * nearest_step(g, of->scale[i] / d) + 1);
            xq += of->qq[i] * of->scale[i] * odd;
            qq += of->qq[i] * odd * odd;
        }
        if (!(qq > 0)) continue;
        d = xq / qq;
        for (uint32_t i = 0; i < n; i++) {
            const float e = of->scale[i] - d * (float)(2 * nearest_step(g, of->scale[i] / d) + 1);
            error += of->qq[i] * e * e;
        }
        if (error < best) best = error, best_d = d;
    }
    return best_d;
}

/* Steps and points for d, f16 × unit: the steps that are nearest, and `around` more on both sides.
   Returns what these come to, the sums for d. */
static sums choose_block(const grid_type *g, const quant_search *s, const quant_normal *b,
                         const ideal *of, float d, uint32_t around, codes *c) {
    const uint32_t n_groups = g->sub / GROUP;
    sums           all = { 0, 0, 0 };
    for (uint32_t i = 0; i < LEN / g->sub; i++) {
        const uint32_t near = nearest_step(g, of->scale[i] / d);
        const uint32_t from = near > around ? near - around : 0;
        sums           best = { FLT_MAX, 0, 0 };
        for (uint32_t step = from; step <= near + around && step <= g->top_step; step++) {
            group       *to = c->groups + i * n_groups, tried[4];
            const float odd = (float)(2 * step + 1);
            memcpy(tried, to, n_groups * sizeof *to);
            const sums sum = choose_sub(g, s, b->x + i * g->sub, b->w + i * g->sub, d * odd, tried);
            if (sum.error >= best.error) continue;
            best = (sums){ sum.error, odd * sum.xq, odd * odd * sum.qq };
            c->step[i] = step;
            memcpy(to, tried, n_groups * sizeof *to);
        }
        all.error += best.error;
        all.xq += best.xq;
        all.qq += best.qq;
    }
    return all;
}

static void write_block(const grid_type *g, const quant_search *s, const float *x,
                        const float *importance, uint8_t *out) {
    quant_normal b;
    ideal        of;
    codes        best, c;
    float        least = 0; /* with zeros; a scale of the least f16 may be worse */
    memset(&best, 0, sizeof best);
    memset(&c, 0, sizeof c);
    quant_normalize(LEN, x, importance, &b);
    for (uint32_t i = 0, at = 0; at < LEN; i++, at += g->sub)
        find_ideal(g, s, b.x + at, b.w + at, c.groups + at / GROUP, &of.scale[i], &of.qq[i]);
    for (uint32_t i = 0; i < LEN; i++) least += b.w[i] * b.x[i] * b.x[i];
    float d = find_factor(g, &of);
    for (uint32_t k = 0; k < 2 && d > 0; k++) {
        float rounded;
        c.half = quant_fit_factor(d / g->unit, b.unit, b.per_unit, &rounded);
        const sums sum = choose_block(g, s, &b, &of, rounded * g->unit, !k, &c);
        if (sum.error < least) {
            least = sum.error;
            best = c;
            for (uint32_t i = 0; i < LEN / g->sub; i++)
                of.scale[i] = rounded * g->unit * (float)(2 * c.step[i] + 1);
        }
        d = sum.qq > 0 ? sum.xq / sum.qq : 0;
    }
    g->pack(&best, out);
}

static void write_grid(const grid_type *g, const float *x, uint64_t n, const float *importance,
                       uint8_t *out) {
    const quant_search *s = quant_search_find(g->grid);
    for (uint64_t i = 0; i < n; i += LEN, out += g->block_bytes)
        write_block(g, s, x + i, importance ? importance + i : NULL, out);
}

/* ---- bytes */

static void store_u32(uint8_t *out, uint32_t bits) {
    quant_store_u16(out, (uint16_t)bits);
    quant_store_u16(out + 2, (uint16_t)(bits >> 16));
}

/* `n` steps of four bits, two a byte. */
static void pack_steps(const codes *c, uint32_t n, uint8_t *out) {
    for (uint32_t i = 0; i < n; i += 2) out[i / 2] = (uint8_t)(c->step[i] | c->step[i + 1] << 4);
}

/* Seven signs of each of four groups, and the step of their 32 values. */
static void pack_signs_and_step(const codes *c, uint32_t i, uint8_t *out) {
    uint32_t bits = c->step[i] << 28;
    for (uint32_t k = 0; k < 4; k++) bits |= (c->groups[4 * i + k].signs & 127u) << 7 * k;
    store_u32(out, bits);
}

static void pack_iq2_xxs(const codes *c, uint8_t *out) {
    quant_store_u16(out, c->half);
    out += 2;
    for (uint32_t i = 0; i < LEN / 32; i++, out += 8) {
        for (uint32_t k = 0; k < 4; k++) out[k] = (uint8_t)c->groups[4 * i + k].point[0];
        pack_signs_and_step(c, i, out + 4);
    }
}

static void pack_iq2_xs(const codes *c, uint8_t *out) {
    quant_store_u16(out, c->half);
    for (uint32_t i = 0; i < N_GROUPS; i++)
        quant_store_u16(out + 2 + 2 * i,
                        (uint16_t)(c->groups[i].point[0] | (c->groups[i].signs & 127u) << 9));
    pack_steps(c, 16, out + 66);
}

static void pack_iq2_s(const codes *c, uint8_t *out) {
    quant_store_u16(out, c->half);
    uint8_t *high = out + 66;
    memset(high, 0, 8);
    for (uint32_t i = 0; i < N_GROUPS; i++) {
        out[2 + i] = (uint8_t)c->groups[i].point[0];
        out[34 + i] = c->groups[i].signs;
        high[i / 4] = (uint8_t)(high[i / 4] | c->groups[i].point[0] >> 8 << i % 4 * 2);
    }
    pack_steps(c, 16, out + 74);
}

static void pack_iq3_xxs(const codes *c, uint8_t *out) {
    quant_store_u16(out, c->half);
    for (uint32_t i = 0; i < LEN / 4; i++) out[2 + i] = (uint8_t)c->groups[i / 2].point[i % 2];
    for (uint32_t i = 0; i < LEN / 32; i++) pack_signs_and_step(c, i, out + 66 + 4 * i);
}

static void pack_iq3_s(const codes *c, uint8_t *out) {
    quant_store_u16(out, c->half);
    uint8_t *high = out + 66;
    memset(high, 0, 8);
    for (uint32_t i = 0; i < LEN / 4; i++) {
        const uint32_t point = c->groups[i / 2].point[i % 2];
        out[2 + i] = (uint8_t)point;
        high[i / 8] = (uint8_t)(high[i / 8] | point >> 8 << i % 8);
    }
    for (uint32_t i = 0; i < N_GROUPS; i++) out[74 + i] = c->groups[i].signs;
    pack_steps(c, 8, out + 106);
}

static void pack_iq1_s(const codes *c, uint8_t *out) {
    quant_store_u16(out, c->half);
    for (uint32_t i = 0; i < LEN / 32; i++) {
        uint32_t bits = c->step[i] << 12 | (uint32_t)c->groups[4 * i].less << 15;
        for (uint32_t k = 0; k < 4; k++) {
            const uint32_t point = c->groups[4 * i + k].point[0];
            out[2 + 4 * i + k] = (uint8_t)point;
            bits |= point >> 8 << 3 * k;
        }
        quant_store_u16(out + 34 + 2 * i, (uint16_t)bits);
    }
}

/* Four bits of the f16 above four steps of three bits each. */
static void pack_iq1_m(const codes *c, uint8_t *out) {
    for (uint32_t i = 0; i < N_GROUPS; i++) out[i] = (uint8_t)c->groups[i].point[0];
    for (uint32_t i = 0; i < N_GROUPS; i += 2) {
        const group *g = &c->groups[i];
        const uint32_t low = g[0].point[0] >> 8 | (uint32_t)g[0].less << 3;
        const uint32_t high = g[1].point[0] >> 8 | (uint32_t)g[1].less << 3;
        out[32 + i / 2] = (uint8_t)(low | high << 4);
    }
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t bits = (c->half >> 4 * i & 15u) << 12;
        for (uint32_t k = 0; k < 4; k++) bits |= c->step[4 * i + k] << 3 * k;
        quant_store_u16(out + 48 + 2 * i, (uint16_t)bits);
    }
}

/* ---- types: grid, signs even, groups to a shift, sub-block, last step, bytes, unit, mean, packing */

static const grid_type iq2_xxs = {
    QUANT_GRID_IQ2_XXS, true, 0, 32, 15, 66, 0.125f, 20, pack_iq2_xxs
};
static const grid_type iq2_xs = {
    QUANT_GRID_IQ2_XS, true, 0, 16, 15, 74, 0.125f, 22, pack_iq2_xs
};
static const grid_type iq2_s = {
    QUANT_GRID_IQ2_S, false, 0, 16, 15, 82, 0.125f, 23, pack_iq2_s
};
static const grid_type iq3_xxs = {
    QUANT_GRID_IQ3_XXS, true, 0, 32, 15, 98, 0.25f, 27, pack_iq3_xxs
};
static const grid_type iq3_s = {
    QUANT_GRID_IQ3_S, false, 0, 32, 15, 110, 1, 7, pack_iq3_s
};
static const grid_type iq1_s = {
    QUANT_GRID_IQ1, false, 4, 32, 7, 50, 0.125f, 6, pack_iq1_s
};
static const grid_type iq1_m = {
    QUANT_GRID_IQ1, false, 1, 16, 7, 56, 0.125f, 6, pack_iq1_m
};

void quant_write_iq2_xxs(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq2_xxs, x, n, importance, out);
}

void quant_write_iq2_xs(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq2_xs, x, n, importance, out);
}

void quant_write_iq2_s(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq2_s, x, n, importance, out);
}

void quant_write_iq3_xxs(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq3_xxs, x, n, importance, out);
}

void quant_write_iq3_s(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq3_s, x, n, importance, out);
}

void quant_write_iq1_s(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq1_s, x, n, importance, out);
}

void quant_write_iq1_m(const float *x, uint64_t n, const float *importance, uint8_t *out) {
    write_grid(&iq1_m, x, n, importance, out);
}
