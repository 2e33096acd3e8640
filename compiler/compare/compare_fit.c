/* Mistakes whose number is in no table: it is worked out from what the suspect has.
 *
 *     rms_norm   y = w · x / sqrt(mean(x²) + eps), so that eps = Σ(w · x)² / Σy² - mean(x²)
 *     rope       pair 1 of the token at position 1 is turned by base^(-2 / dims)
 *
 * Only the op itself is looked at, from the suspect's own inputs. */
#include "comparison.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

double compare_round(double x, int digits) {
    char text[32];
    snprintf(text, sizeof text, "%.*g", digits, x);
    return atof(text);
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The suspect's rows of what the op reads and makes; false where it does not have them whole. */
static bool find_rows(comparison *c, uint32_t at, uint32_t token, const float **x, const float **y) {
    const side  *s = compare_suspect(c);
    const value *input = c->g->ops[at]->in[0];
    uint32_t     from = 0;
    if (input->kind != VALUE_ACTIVATION) return false;
    while (c->g->ops[from] != input->producer) from++;
    *x = side_full_row(s, from, token);
    *y = side_full_row(s, at, token);
    return *x && *y;
}

/* ---- the norm */

/* Of the first row of a token: that of a head, where there are several. */
static double find_eps(const comparison *c, const op *o, const float *x, const float *y) {
    uint64_t n = o->in[0]->ne[0];
    double   xx = 0, wx = 0, yy = 0;
    float   *w = o->in[1] ? ARENA_ARRAY(c->memory, float, n) : NULL;
    if (w) quant_read(o->in[1]->type, c->g->file->data + o->in[1]->tensor->offset, n, NULL, w);
    for (uint64_t i = 0; i < n; i++) {
        double weighted = (double)x[i] * (w ? (double)w[i] : 1);
        xx += (double)x[i] * (double)x[i];
        wx += weighted * weighted;
        yy += (double)y[i] * (double)y[i];
    }
    return wx / yy - xx / (double)n;
}

static bool fit_eps(comparison *c, uint32_t at, uint32_t n_tokens, int digits, mistake *m) {
    double  *all = ARENA_ARRAY(c->memory, double, n_tokens);
    uint32_t n = 0;
    const float *x, *y;
    for (uint32_t t = 0; t < n_tokens; t++)
        if (find_rows(c, at, t, &x, &y)) all[n++] = find_eps(c, c->g->ops[at], x, y);
    if (!n) return false;
    qsort(all, n, sizeof *all, compare_doubles);
    double eps = compare_round(all[n / 2], digits);
    if (!(eps > 0) || isinf(eps)) return false;
    *m = (mistake){ .name = "eps", .ops = 1u << OP_RMS_NORM, .other_eps = true, .eps = (float)eps,
                    .what = arena_printf(c->memory, "eps is %g instead of {eps}", eps) };
    return true;
}

/* ---- the rotation */

/* By how much pair 1 is turned, over all heads. */
static double find_turn(const op *o, const float *x, const float *y) {
    const op_params *p = &o->params;
    bool     halves = p->rope_pairing == ROPE_HALVES;
    uint32_t first = halves ? 1 : 2, second = halves ? 1 + p->rope_dims / 2 : 3;
    double   cosine = 0, sine = 0;
    for (uint64_t head = 0; head < value_count(o->out); head += p->head_dim) {
        double a = (double)x[head + first], b = (double)x[head + second];
        double u = (double)y[head + first], v = (double)y[head + second];
        cosine += a * u + b * v;
        sine += a * v - b * u;
    }
    return atan2(sine, cosine);
}

static bool fit_base(comparison *c, uint32_t at, uint32_t n_tokens, int digits, mistake *m) {
    const op        *o = c->g->ops[at];
    const op_params *p = &o->params;
    const float     *x, *y;
    bool factors = o->n_in > 1 && o->in[1];
    if (n_tokens < 2 || p->rope_dims < 4 || factors || !find_rows(c, at, 1, &x, &y)) return false;
    double base = compare_round(pow(find_turn(o, x, y) / p->rope_scale, p->rope_dims / -2.0), digits);
    if (!(base > 1) || isinf(base)) return false;
    *m = (mistake){ .name = "rope-base", .ops = 1u << OP_ROPE, .rope_base = base,
                    .what = arena_printf(c->memory, "the rope base is %g instead of {base}", base) };
    return true;
}

bool compare_fit(comparison *c, uint32_t at, int digits, mistake *m) {
    uint32_t n = c->n_tokens < c->n_batch ? c->n_tokens : c->n_batch;
    if (!compare_has_inputs(c, at) || !side_evaluate(compare_suspect(c), c->d, c->tokens, 0, n)) return false;
    switch (c->g->ops[at]->kind) {
    case OP_RMS_NORM: return fit_eps(c, at, n, digits, m);
    case OP_ROPE: return fit_base(c, at, n, digits, m);
    default: return false;
    }
}
