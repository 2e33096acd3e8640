/* reference_graph.h - a whole graph in f64, as its template says and before any pass: every op one
 * after the other, all tokens from position 0, keys and values kept as f16.
 *
 *     reference r = {.memory = a, .g = g, .tokens = tokens, .n_tokens = n};
 *     reference_run(&r);                                    … r.values …
 *
 * It can also be an engine of somebody else's, with the mistake that is made most often. */
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
} reference;

static inline double *reference_row(const reference *r, const value *v, uint32_t t) {
    if (!v) return NULL;
    return r->values[v->id] + (v->kind == VALUE_WEIGHT ? 0 : value_count(v) * t);
}

/* Rows 0 … t of v, as the cache keeps them. */
static inline double *reference_cached(const reference *r, const value *v, uint32_t t) {
    uint64_t n = value_count(v) * (t + 1);
    double  *x = arena_array(r->memory, n, sizeof *x);
    for (uint64_t i = 0; i < n; i++) x[i] = reference_round(r->values[v->id][i], 11, -24);
    return x;
}

static inline void reference_attention(const reference *r, const op *o, uint32_t t, double *out) {
    uint64_t d = o->params.head_dim, n_kv = value_count(o->in[1]) / d;
    uint64_t heads = value_count(o->in[0]) / d;
    double  *k = reference_cached(r, o->in[1], t), *v = reference_cached(r, o->in[2], t);
    for (uint64_t h = 0; h < heads; h++) {
        uint64_t at = h / (heads / n_kv) * d;
        reference_attend(reference_row(r, o->in[0], t) + h * d, k + at, v + at, n_kv * d, d, t + 1,
                         (double)o->params.attn_scale, out + h * d);
    }
}

static inline void reference_matmul(const reference *r, const op *o, uint32_t t, double *out) {
    uint64_t k = o->in[0]->ne[0];
    double  *x = arena_array(r->memory, k, sizeof *x);
    memcpy(x, reference_row(r, o->in[1], t), k * sizeof *x);
    if (!r->plain) reference_activate(quant_find(o->in[0]->type)->activation, x, k);
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
                     o->n_in > 1 ? reference_row(r, o->in[1], t) : NULL, t);
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

/* Makes r->values, in r->memory. */
static inline void reference_run(reference *r) {
    const graph *g = r->g;
    r->values = arena_array(r->memory, g->n_values, sizeof(double *));
    for (uint32_t i = 0; i < g->n_values; i++) {
        const value *v = g->values[i];
        uint64_t     n = value_count(v);
        if (v->kind == VALUE_TOKENS) continue;
        r->values[i] = arena_array(r->memory, v->kind == VALUE_WEIGHT ? n : n * r->n_tokens,
                                   sizeof(double));
        for (uint64_t k = 0; v->kind == VALUE_WEIGHT && k < n; k++)
            r->values[i][k] = reference_weight(v->type, g->file->data + v->tensor->offset, k);
    }
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
