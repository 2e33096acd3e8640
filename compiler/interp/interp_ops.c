/* The ops whose unit is a token. Each is two loops of a few lines: faithful in f32 (with the sums
 * and angles that llama.cpp has, in its precision), and reference in f64. */
#include "interp_call.h"

#include <math.h>
#include <string.h>

#define MAX_PLAIN 4096 /* values of a weight that is read as plain numbers, at a time */

/* The number at `i` of a plain weight, an input of rms_norm, add, mul or rope. */
static void read_plain(const ggufc_state *s, const interp_call *c, uint32_t k, uint64_t at, uint64_t n,
                       float *to) {
    const value *v = c->in[k].v;
    quant_read(v->type, interp_weight(s, c, k) + quant_row_bytes(v->type, at), n, NULL, to);
}

/* Values [at, at + n) of input k, a row of `token` or a weight, which is copied to `room`. */
static const float *operand(const ggufc_state *s, const interp_call *c, uint32_t k, uint32_t token,
                            uint64_t at, uint64_t n, float *room) {
    if (c->in[k].v->kind == VALUE_ACTIVATION) return interp_in(s, c, k, token) + at;
    read_plain(s, c, k, at, n, room);
    return room;
}

static uint64_t part(uint64_t at, uint64_t n) {
    return n - at < MAX_PLAIN ? n - at : MAX_PLAIN;
}

/* ---- embedding */

/* Row `id` of the table: its element i is element i · rows + id, when read transposed. */
static void get_row_transposed(const ggufc_state *s, const interp_call *c, uint64_t id, float *out) {
    const value    *v = c->in[0].v;
    uint32_t        block = quant_find(v->type)->block_len;
    float           values[256];
    for (uint64_t i = 0; i < v->ne[0]; i++) {
        uint64_t at = i * v->ne[1] + id;
        quant_read(v->type, interp_weight(s, c, 0) + quant_row_bytes(v->type, at / block * block), block,
                   NULL, values);
        out[i] = values[at % block];
    }
}

void interp_get_rows(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    const quant_mistake *how = c->mistake ? &c->mistake->reading : NULL;
    for (uint32_t t = begin; t < end; t++) {
        uint64_t id = (uint32_t)s->tokens[t];
        if (c->mistake && c->mistake->transposed)
            get_row_transposed(s, c, id, interp_out(s, c, t));
        else
            quant_read(c->in[0].v->type, interp_weight(s, c, 0) + id * c->in[0].stride,
                       c->in[0].v->ne[0], how, interp_out(s, c, t));
    }
}

/* ---- norm */

/* 1 / sqrt(mean(x²) + eps): ggml sums f32 squares in f64, and has the root in f32. */
static double norm_factor(const interp_call *c, const float *x, uint64_t n) {
    const mistake *m = c->mistake;
    float  eps = m && m->other_eps ? m->eps : c->o->params.eps;
    double sum = 0;
    if (c->reference) {
        for (uint64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
        return 1 / sqrt(sum / (double)n + (double)eps);
    }
    for (uint64_t i = 0; i < n; i++) sum += (double)(x[i] * x[i]);
    return (double)(1.0f / sqrtf((float)(sum / (double)n) + eps));
}

static void norm_row(const ggufc_state *s, const interp_call *c, const float *x, uint64_t n, float *y) {
    const mistake *m = c->mistake;
    bool   weighted = c->in[1].v && !(m && m->no_norm_weight);
    float  more = m && m->norm_weight_plus_one ? 1 : 0;
    double factor = norm_factor(c, x, n);
    float  w[MAX_PLAIN];
    for (uint64_t at = 0; at < n; at += part(at, n)) {
        uint64_t count = part(at, n);
        if (weighted) read_plain(s, c, 1, at, count, w);
        for (uint64_t i = 0; i < count; i++) {
            double scale = weighted ? (double)(w[i] + more) : 1;
            if (c->reference)
                y[at + i] = (float)((double)x[at + i] * factor * scale);
            else
                y[at + i] = x[at + i] * (float)factor * (float)scale;
        }
    }
}

void interp_rms_norm(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    uint64_t n = c->o->in[0]->ne[0], all = value_count(c->o->in[0]);
    for (uint32_t t = begin; t < end; t++)
        for (uint64_t at = 0; at < all; at += n)
            norm_row(s, c, interp_in(s, c, 0, t) + at, n, interp_out(s, c, t) + at);
}

/* ---- rotation */

/* What rotating is done by; a mistake changes it. */
typedef struct rotation {
    uint32_t dims, head_dim;
    double   base, scale;
    bool     halves, factors;
    uint32_t position;
} rotation;

static rotation choose_rotation(const interp_call *c, uint32_t position) {
    const op_params *p = &c->o->params;
    const mistake   *m = c->mistake;
    rotation r = {
        .dims = p->rope_dims, .head_dim = p->head_dim, .base = p->rope_base, .scale = p->rope_scale,
        .halves = p->rope_pairing == ROPE_HALVES, .factors = c->in[1].v != NULL, .position = position,
    };
    if (!m) return r;
    if (m->rope_base > 0) r.base = m->rope_base;
    if (m->no_rope_scale) r.scale = 1;
    if (m->other_pairing) r.halves = !r.halves;
    if (m->no_rope_factors) r.factors = false;
    if (m->no_rotation) r.dims = 0;
    r.position += (uint32_t)m->first_position;
    return r;
}

/* The cosine and sine of pair i. Faithful: the angle is multiplied up from pair to pair in f32. */
typedef struct angles {
    float power, ratio;
} angles;

static void next_angle(const interp_call *c, const rotation *r, angles *a, uint32_t i, float factor,
                       double *cosine, double *sine) {
    if (c->reference) {
        double angle = (double)r->position * r->scale * pow(r->base, -2.0 * i / r->dims) / (double)factor;
        *cosine = cos(angle);
        *sine = sin(angle);
        return;
    }
    float angle = (float)r->scale * (a->power / factor);
    a->power *= a->ratio;
    *cosine = (double)cosf(angle);
    *sine = (double)sinf(angle);
}

static void rotate_pair(const interp_call *c, float *a, float *b, double cosine, double sine) {
    if (c->reference) {
        double x = (double)*a, y = (double)*b;
        *a = (float)(x * cosine - y * sine);
        *b = (float)(x * sine + y * cosine);
        return;
    }
    float x = *a, y = *b, cf = (float)cosine, sf = (float)sine;
    *a = x * cf - y * sf;
    *b = x * sf + y * cf;
}

static void rotate_row(const ggufc_state *s, const interp_call *c, const rotation *r, float *row) {
    uint32_t half = r->dims / 2;
    uint64_t n = value_count(c->o->out);
    angles   a = { (float)r->position, r->dims ? powf((float)r->base, -2.0f / (float)r->dims) : 0 };
    for (uint32_t i = 0; i < half; i++) {
        float  factor = 1;
        double cosine, sine;
        if (r->factors) read_plain(s, c, 1, i, 1, &factor);
        next_angle(c, r, &a, i, factor, &cosine, &sine);
        for (uint64_t head = 0; head < n; head += r->head_dim) {
            uint64_t first = head + (r->halves ? i : 2 * i);
            rotate_pair(c, row + first, row + first + (r->halves ? half : 1), cosine, sine);
        }
    }
}

void interp_rope(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    for (uint32_t t = begin; t < end; t++) {
        rotation r = choose_rotation(c, s->pos + interp_token(s, c, t));
        float   *out = interp_out(s, c, t);
        memcpy(out, interp_in(s, c, 0, t), value_count(c->o->out) * sizeof *out);
        rotate_row(s, c, &r, out);
    }
}

/* ---- one by one */

typedef void one_by_one(const interp_call *c, const float *a, const float *b, uint64_t n, float *out);

static void each_part(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end,
                      one_by_one *f) {
    const interp_call *c = interp_args(args);
    uint64_t n = value_count(c->o->out);
    float    room[MAX_PLAIN];
    for (uint32_t t = begin; t < end; t++)
        for (uint64_t at = 0; at < n; at += part(at, n)) {
            const float *b = operand(s, c, 1, t, at, part(at, n), room);
            f(c, interp_in(s, c, 0, t) + at, b, part(at, n), interp_out(s, c, t) + at);
        }
}

static void add(const interp_call *c, const float *a, const float *b, uint64_t n, float *out) {
    enum mistake_operand without = c->mistake ? c->mistake->left_out : MISTAKE_NO_OPERAND;
    for (uint64_t i = 0; i < n; i++)
        out[i] = (without == MISTAKE_FIRST_OPERAND ? 0 : a[i]) +
                 (without == MISTAKE_SECOND_OPERAND ? 0 : b[i]);
}

static void mul(const interp_call *c, const float *a, const float *b, uint64_t n, float *out) {
    (void)c;
    for (uint64_t i = 0; i < n; i++) out[i] = a[i] * b[i];
}

static void swiglu(const interp_call *c, const float *a, const float *b, uint64_t n, float *out) {
    bool exchanged = c->mistake && c->mistake->exchanged;
    const float *gate = exchanged ? b : a, *up = exchanged ? a : b;
    for (uint64_t i = 0; i < n; i++) {
        double x = (double)gate[i];
        if (c->reference)
            out[i] = (float)(x / (1 + exp(-x)) * (double)up[i]);
        else
            out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
}

void interp_add(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    each_part(s, args, begin, end, add);
}

void interp_mul(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    each_part(s, args, begin, end, mul);
}

void interp_swiglu(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    each_part(s, args, begin, end, swiglu);
}
