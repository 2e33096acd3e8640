/* reference_graph.h - a whole graph in f64, as its template says and before any pass: every op one
 * after the other, all tokens from position 0. Keys and values are kept as f16 and activations
 * rounded before a product as its weight's type wants it, unless it is `exact`.
 *
 *     reference r = {.memory = a, .g = g, .tokens = tokens, .n_tokens = n};
 *     reference_run(&r);                                    … r.values …
 *
 * It can also be an engine of somebody else's, with a mistake. */
#ifndef GGUFC_TESTS_REFERENCE_GRAPH_H
#define GGUFC_TESTS_REFERENCE_GRAPH_H

#include "graph.h"
#include "reference_ops.h"

#include <fnmatch.h>

typedef struct reference {
    arena   *memory;
    const graph   *g;
    const int32_t *tokens;
    uint32_t n_tokens;
    bool     plain;      /* x is not quantized before it is multiplied */
    int      bits;       /* of an activation: 11 for f16, 8 for bf16, 0: as many as there are */
    const char *transposed; /* products so named ("Qcur-*") take their weights for transposed; or NULL */
    double **values; /* by id: [n_tokens][count], of a weight [count] */
    bool     exact;  /* nothing is rounded */

    /* How a row becomes what is multiplied; NULL: reference_activate. */
    void (*activate)(enum quant_type type, double *x, uint64_t n);

    /* Done wrong, for tests of mistakes: see mistake.h. */
    bool heads_by_modulo;
    int  mask_shift, first_position;
} reference;

static inline double *reference_row(const reference *r, const value *v, uint32_t t) {
    if (!v) return NULL;
    return r->values[v->id] + (v->kind == VALUE_WEIGHT ? 0 : value_count(v) * t);
}

/* The first n rows of v, as the cache keeps them. */
static inline double *reference_cached(const reference *r, const value *v, uint32_t n) {
    uint64_t count = value_count(v) * n;
    double  *x = arena_array(r->memory, count, sizeof *x), *all = r->values[v->id];
    for (uint64_t i = 0; i < count; i++) x[i] = r->exact ? all[i] : reference_round(all[i], 11, -24);
    return x;
}

static inline void reference_attention(const reference *r, const op *o, uint32_t t, double *out) {
    uint64_t d = o->params.head_dim, n_kv = value_count(o->in[1]) / d;
    uint64_t heads = value_count(o->in[0]) / d;
    int64_t  seen = (int64_t)t + 1 + r->mask_shift;
    uint32_t n = seen < r->n_tokens ? (uint32_t)seen : r->n_tokens;
    double  *k = reference_cached(r, o->in[1], n), *v = reference_cached(r, o->in[2], n);
    for (uint64_t h = 0; h < heads; h++) {
        uint64_t at = (r->heads_by_modulo ? h % n_kv : h / (heads / n_kv)) * d;
        reference_attend(reference_row(r, o->in[0], t) + h * d, k + at, v + at, n_kv * d, d, n,
                         (double)o->params.attn_scale, out + h * d);
    }
}

static inline void reference_matmul(const reference *r, const op *o, uint32_t t, double *out) {
    uint64_t k = o->in[0]->ne[0];
    double  *x = arena_array(r->memory, k, sizeof *x);
    memcpy(x, reference_row(r, o->in[1], t), k * sizeof *x);
    if (!r->exact && !r->plain)
        (r->activate ? r->activate : reference_activate)(quant_find(o->in[0]->type)->activation, x, k);
    bool wrong = r->transposed && !fnmatch(r->transposed, o->out->name, 0);
    const double *w = r->values[o->in[0]->id];
    uint64_t      n = o->in[0]->ne[1];
    if (wrong)
        reference_multiply_transposed(w, x, k, n, out);
    else
        reference_multiply(w, x, k, n, out);
}

static inline void reference_rope(const reference *r, const op *o, uint32_t t, double *out) {
    const op_params *p = &o->params;
    double *table = arena_array(r->memory, p->rope_dims, sizeof *table);
    memcpy(out, reference_row(r, o->in[0], t), value_count(o->out) * sizeof *out);
    reference_angles(table, p->rope_dims, p->rope_base, p->rope_scale,
                     o->n_in > 1 ? reference_row(r, o->in[1], t) : NULL,
                     (uint64_t)((int64_t)t + r->first_position));
    reference_rotate(out, value_count(o->out), table, p->head_dim, p->rope_dims,
                     p->rope_pairing == ROPE_HALVES);
}

static inline void reference_op(const reference *r, const op *o, uint32_t t, double *out) {
    uint64_t      n = value_count(o->out), k = o->in[0]->ne[0];
    const double *a = reference_row(r, o->in[0], t);
    const double *b = o->n_in > 1 && o->kind != OP_GET_ROWS ? reference_row(r, o->in[1], t) : NULL;
    switch (o->kind) {
    case OP_GET_ROWS: memcpy(out, a + k * (uint32_t)r->tokens[t], n * sizeof *out); return;
    case OP_RMS_NORM:
        for (uint64_t i = 0; i < n; i += k)
            reference_rms_norm(a + i, b, (double)o->params.eps, k, out + i);
        return;
    case OP_MATMUL: reference_matmul(r, o, t, out); return;
    case OP_ROPE: reference_rope(r, o, t, out); return;
    case OP_ATTENTION: reference_attention(r, o, t, out); return;
    case OP_ADD:
        for (uint64_t i = 0; i < n; i++) out[i] = a[i] + b[i];
        return;
    case OP_MUL:
        for (uint64_t i = 0; i < n; i++) out[i] = a[i] * b[i];
        return;
    case OP_SWIGLU:
        for (uint64_t i = 0; i < n; i++) out[i] = reference_silu(a[i]) * b[i];
        return;
    default: out[0] = NAN; /* no op of the language */
    }
}

/* Weights as numbers. Types that reference_weight does not know are read by the compiler's own reader,
   which tests/test_quant.c holds against a reading of its own. */
static inline void reference_read(const graph *g, const value *v, double *out) {
    const uint8_t    *data = g->file->data + v->tensor->offset;
    const quant_info *info = quant_find(v->type);
    float             block[256];
    for (uint64_t i = 0; i < value_count(v); i++) {
        out[i] = reference_weight(v->type, data, i);
        if (!isnan(out[i])) continue;
        quant_read(v->type, data + i / info->block_len * info->block_bytes, info->block_len, NULL, block);
        out[i] = (double)block[i % info->block_len];
    }
}

/* Room for every value in r->memory; weights are filled in. */
static inline void reference_begin(reference *r) {
    const graph *g = r->g;
    r->values = arena_array(r->memory, g->n_values, sizeof *r->values);
    for (uint32_t i = 0; i < g->n_values; i++) {
        const value *v = g->values[i];
        bool         weight = v->kind == VALUE_WEIGHT;
        if (v->kind == VALUE_TOKENS) continue;
        r->values[i] = arena_array(r->memory, value_count(v) * (weight ? 1 : r->n_tokens),
                                   sizeof(double));
        if (weight) reference_read(g, v, r->values[i]);
    }
}

static inline void reference_run(reference *r) {
    if (!r->values) reference_begin(r);
    const graph *g = r->g;
    for (uint32_t i = 0; i < g->n_ops; i++)
        for (uint32_t t = 0; t < r->n_tokens; t++) {
            double *row = reference_row(r, g->ops[i]->out, t);
            reference_op(r, g->ops[i], t, row);
            for (uint64_t k = 0; r->bits && k < value_count(g->ops[i]->out); k++)
                row[k] = reference_round(row[k], r->bits, r->bits == 11 ? -24 : -133);
        }
}

/* The logits of every token, [n_tokens][n_vocab], in `memory`. */
static inline double *reference_graph(arena *memory, const graph *g, const int32_t *tokens,
                                      uint32_t n_tokens) {
    reference r = {.memory = memory, .g = g, .tokens = tokens, .n_tokens = n_tokens};
    reference_run(&r);
    return r.values[g->output->id];
}

#endif
