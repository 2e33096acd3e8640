/* Scales with a minimum: a value is scale × code - minimum. Where minima may not be negative, the
 * range of a sub-block begins at 0 or below. */
#include "quant_fit.h"

#include <float.h>
#include <math.h>

static inline float nearest_code(float v, float top) {
    float q = (v + 12582912.0f) - 12582912.0f;
    q = q < 0 ? 0 : q;
    return q > top ? top : q;
}

static inline void invert(const quant_lanes scale, quant_lanes inverse) {
    for (uint32_t i = 0; i < QUANT_LANES; i++) inverse[i] = scale[i] > 1e-30f ? 1 / scale[i] : 0;
}

/* Sums over a lane of weights times …; `one` and `x` do not depend on the codes q. */
typedef struct affine_sums {
    quant_lanes one, x, q, qq, xq;
} affine_sums;

static void sum_values(const quant_tile *t, affine_sums *s) {
    quant_lanes one = { 0 }, x = { 0 };
    for (uint32_t j = 0; j < t->len; j++)
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            one[i] += t->w[j][i];
            x[i] += t->w[j][i] * t->x[j][i];
        }
    memcpy(s->one, one, sizeof one);
    memcpy(s->x, x, sizeof x);
}

static void sum_codes(const quant_tile *t, float top, const quant_lanes inverse, const quant_lanes min,
                      affine_sums *s) {
    quant_lanes q1 = { 0 }, qq = { 0 }, xq = { 0 };
    for (uint32_t j = 0; j < t->len; j++)
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            const float q = nearest_code((t->x[j][i] + min[i]) * inverse[i], top);
            const float wq = t->w[j][i] * q;
            q1[i] += wq;
            qq[i] += wq * q;
            xq[i] += wq * t->x[j][i];
        }
    memcpy(s->q, q1, sizeof q1);
    memcpy(s->qq, qq, sizeof qq);
    memcpy(s->xq, xq, sizeof xq);
}

typedef struct affine_best {
    quant_lanes scale, min, gain; /* gain: how much smaller the error is than that of zeros */
} affine_best;

/* With the codes given, scale and minimum are a least-squares line; where its minimum may not be,
   the best line through 0. The error is Σwx² - gain. */
static void keep_better(const affine_sums *s, bool any_min, affine_best *best) {
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        const float det = s->one[i] * s->qq[i] - s->q[i] * s->q[i];
        const float per_det = det > 1e-20f ? 1 / det : 0;
        float       scale = (s->one[i] * s->xq[i] - s->q[i] * s->x[i]) * per_det;
        float       min = (s->q[i] * s->xq[i] - s->qq[i] * s->x[i]) * per_det;
        const float through_0 = s->qq[i] > 0 ? s->xq[i] / s->qq[i] : 0;
        const bool  bad = !any_min && (min < 0 || det <= 1e-20f);
        scale = bad ? through_0 : scale;
        min = bad ? 0 : min;
        const float gain = 2 * (scale * s->xq[i] - min * s->x[i]) - scale * scale * s->qq[i] +
                           2 * scale * min * s->q[i] - min * min * s->one[i];
        const bool better = scale > 0 && gain > best->gain[i];
        best->scale[i] = better ? scale : best->scale[i];
        best->min[i] = better ? min : best->min[i];
        best->gain[i] = better ? gain : best->gain[i];
    }
}

enum { N_REFINED = 4 };

/* Starts from what has no codes: scale 0, and the mean for the minimum if that is allowed. */
static void begin(const affine_sums *s, bool any_min, affine_best *best) {
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        const float mean = s->x[i] / s->one[i];
        const bool  use = any_min || mean < 0;
        best->scale[i] = 0;
        best->min[i] = use ? -mean : 0;
        best->gain[i] = use ? mean * s->x[i] : 0;
    }
}

void quant_affine_fit(const quant_tile *t, const quant_affine *a, quant_lanes scale, quant_lanes min) {
    quant_lanes low, high, inverse, off;
    affine_sums s;
    affine_best best;
    for (uint32_t i = 0; i < QUANT_LANES; i++) low[i] = high[i] = a->any_min ? t->x[0][i] : 0;
    for (uint32_t j = 0; j < t->len; j++)
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            low[i] = t->x[j][i] < low[i] ? t->x[j][i] : low[i];
            high[i] = t->x[j][i] > high[i] ? t->x[j][i] : high[i];
        }
    sum_values(t, &s);
    begin(&s, a->any_min, &best);
    for (uint32_t i = 0; i < QUANT_LANES; i++) off[i] = -low[i];
    for (uint32_t k = 0; k < a->tries.n; k++) {
        const float steps = a->tries.first + a->tries.step * (float)k;
        for (uint32_t i = 0; i < QUANT_LANES; i++)
            inverse[i] = high[i] > low[i] ? steps / (high[i] - low[i]) : 0;
        sum_codes(t, a->top, inverse, off, &s);
        keep_better(&s, a->any_min, &best);
    }
    for (uint32_t k = 0; k < N_REFINED; k++) {
        invert(best.scale, inverse);
        sum_codes(t, a->top, inverse, best.min, &s);
        keep_better(&s, a->any_min, &best);
    }
    memcpy(scale, best.scale, sizeof best.scale);
    memcpy(min, best.min, sizeof best.min);
}

void quant_affine_error(const quant_tile *t, const quant_affine *a, const quant_lanes scale,
                        const quant_lanes min, quant_lanes error) {
    quant_lanes inverse, sum = { 0 }, by, off;
    invert(scale, inverse);
    memcpy(by, scale, sizeof by);
    memcpy(off, min, sizeof off);
    const float top = a->top;
    for (uint32_t j = 0; j < t->len; j++)
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            const float x = t->x[j][i] + off[i];
            const float e = x - by[i] * nearest_code(x * inverse[i], top);
            sum[i] += t->w[j][i] * e * e;
        }
    memcpy(error, sum, sizeof sum);
}

void quant_affine_codes(const quant_tile *t, const quant_affine *a, const quant_lanes scale,
                        const quant_lanes min, uint8_t *codes) {
    quant_lanes inverse;
    invert(scale, inverse);
    for (uint32_t j = 0; j < t->len; j++) {
        quant_lanes q;
        for (uint32_t i = 0; i < QUANT_LANES; i++)
            q[i] = nearest_code((t->x[j][i] + min[i]) * inverse[i], a->top);
        for (uint32_t i = 0; i < QUANT_LANES; i++) codes[i * t->len + j] = (uint8_t)q[i];
    }
}

/* ---- f16 times integers */

typedef struct affine_choice {
    quant_affine_steps steps;
    quant_lanes        step, step_min, scale, min, error; /* the error is the block's */
} affine_choice;

static void of_block(const quant_tile *t, quant_lanes sum) {
    for (uint32_t b = 0; b < QUANT_LANES; b += t->block_lanes) {
        float all = 0;
        for (uint32_t i = b; i < b + t->block_lanes; i++) all += sum[i];
        for (uint32_t i = b; i < b + t->block_lanes; i++) sum[i] = all;
    }
}

/* The integers of scale and minimum next to what would be ideal, nine pairs: the best of each lane. */
static void choose_steps(const quant_tile *t, const quant_affine *a, float top_step,
                         const quant_lanes ideal, const quant_lanes ideal_min, const quant_lanes d,
                         const quant_lanes dmin, affine_choice *c) {
    quant_lanes by, by_min, inverse, inverse_min, step, step_min, scale, min, error;
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        c->steps.half[i] = quant_fit_factor(d[i], t->unit[i], t->per_unit[i], &by[i]);
        c->steps.half_min[i] = quant_fit_factor(dmin[i], t->unit[i], t->per_unit[i], &by_min[i]);
        c->error[i] = FLT_MAX;
        c->step[i] = c->step_min[i] = c->scale[i] = c->min[i] = 0;
    }
    invert(by, inverse);
    invert(by_min, inverse_min);
    for (uint32_t k = 0; k < 9; k++) {
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            step[i] = nearest_code(ideal[i] * inverse[i], top_step) + (float)(k % 3) - 1;
            step_min[i] = nearest_code(ideal_min[i] * inverse_min[i], top_step) + (float)(k / 3) - 1;
            step[i] = step[i] < 0 ? 0 : step[i] > top_step ? top_step : step[i];
            step_min[i] = step_min[i] < 0 ? 0 : step_min[i] > top_step ? top_step : step_min[i];
            scale[i] = step[i] * by[i];
            min[i] = step_min[i] * by_min[i];
        }
        quant_affine_error(t, a, scale, min, error);
        for (uint32_t i = 0; i < QUANT_LANES; i++) {
            const bool better = error[i] < c->error[i];
            c->step[i] = better ? step[i] : c->step[i];
            c->step_min[i] = better ? step_min[i] : c->step_min[i];
            c->scale[i] = better ? scale[i] : c->scale[i];
            c->min[i] = better ? min[i] : c->min[i];
            c->error[i] = better ? error[i] : c->error[i];
        }
    }
    of_block(t, c->error);
}

static void keep_better_choice(const affine_choice *c, affine_choice *best) {
    for (uint32_t i = 0; i < QUANT_LANES; i++)
        if (c->error[i] < best->error[i]) {
            best->steps.half[i] = c->steps.half[i];
            best->steps.half_min[i] = c->steps.half_min[i];
            best->step[i] = c->step[i];
            best->step_min[i] = c->step_min[i];
            best->scale[i] = c->scale[i];
            best->min[i] = c->min[i];
            best->error[i] = c->error[i];
        }
}

/* With codes and integers as they are, the two f16 that have the least error. Over a block, with
   s and m the integers: Σw (x - d s q + dmin m)². */
static void refit(const quant_tile *t, const quant_affine *a, const affine_choice *c,
                  const affine_sums *values, quant_lanes d, quant_lanes dmin) {
    affine_sums s;
    quant_lanes inverse, ss, sm, mm, xs, xm;
    invert(c->scale, inverse);
    sum_codes(t, a->top, inverse, c->min, &s);
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        ss[i] = c->step[i] * c->step[i] * s.qq[i];
        sm[i] = c->step[i] * c->step_min[i] * s.q[i];
        mm[i] = c->step_min[i] * c->step_min[i] * values->one[i];
        xs[i] = c->step[i] * s.xq[i];
        xm[i] = c->step_min[i] * values->x[i];
    }
    of_block(t, ss), of_block(t, sm), of_block(t, mm), of_block(t, xs), of_block(t, xm);
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        const float det = ss[i] * mm[i] - sm[i] * sm[i];
        const bool  both = det > 1e-6f * ss[i] * mm[i];
        const float per_det = both ? 1 / det : 0;
        d[i] = both ? (xs[i] * mm[i] - sm[i] * xm[i]) * per_det : ss[i] > 0 ? xs[i] / ss[i] : 0;
        dmin[i] = both ? (sm[i] * xs[i] - ss[i] * xm[i]) * per_det : 0;
        d[i] = d[i] > 0 ? d[i] : 0;
        dmin[i] = dmin[i] > 0 ? dmin[i] : 0;
    }
}

static void find_most(const quant_tile *t, const quant_lanes of, quant_lanes most) {
    for (uint32_t b = 0; b < QUANT_LANES; b += t->block_lanes) {
        float m = 0;
        for (uint32_t i = b; i < b + t->block_lanes; i++) m = of[i] > m ? of[i] : m;
        for (uint32_t i = b; i < b + t->block_lanes; i++) most[i] = m;
    }
}

void quant_affine_ladder(const quant_tile *t, const quant_affine *a, int32_t top_step,
                         quant_lanes scale, quant_lanes min, quant_affine_steps *steps) {
    affine_choice best = { .steps = { .half = { 0 } } }, c;
    affine_sums   values;
    quant_lanes   most, most_min, d, dmin;
    const float   top = (float)top_step;
    sum_values(t, &values);
    find_most(t, scale, most);
    find_most(t, min, most_min);
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        best.error[i] = INFINITY;
        d[i] = most[i] / top;
        dmin[i] = most_min[i] / top;
    }
    for (uint32_t k = 0; k < 3; k++) {
        choose_steps(t, a, top, scale, min, d, dmin, &c);
        keep_better_choice(&c, &best);
        refit(t, a, &best, &values, d, dmin);
    }
    *steps = best.steps;
    for (uint32_t i = 0; i < QUANT_LANES; i++) {
        steps->step[i] = (int8_t)best.step[i];
        steps->step_min[i] = (int8_t)best.step_min[i];
        scale[i] = best.scale[i];
        min[i] = best.min[i];
    }
}
