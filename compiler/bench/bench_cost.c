/* What work there is in an op, and how long it takes at least. */
#include "bench.h"

#include <stdlib.h>

const char *const bench_bound_names[] = {
    [BENCH_UNBOUND] = "", [BENCH_BOUND_READ] = "read", [BENCH_BOUND_DOTS] = "dot", [BENCH_BOUND_FMAS] = "fma",
};

void bench_cost_add(bench_cost *to, const bench_cost *c, double times) {
    to->bytes += times * c->bytes;
    to->dots += times * c->dots;
    to->fmas += times * c->fmas;
}

static void add_weight(bench_cost *c, const value *w, uint32_t n_tokens) {
    uint32_t form = (uint32_t)quant_find(w->type)->activation;
    double   products = (double)value_count(w) * n_tokens;
    bool     floats = form == QUANT_F32 || form == QUANT_F16 || form == QUANT_BF16;
    c->bytes += (double)w->tensor->bytes;
    *(floats ? &c->fmas : &c->dots) += products;
}

/* Of a token at position p: queries times p + 1 keys, and weights times as many values. Keys and values
   are f16. */
static void add_attention(bench_cost *c, const op *o, uint32_t n_tokens, uint32_t position) {
    double last = (double)position + n_tokens;
    double seen = n_tokens * (position + (n_tokens + 1) / 2.0);
    double d = o->params.head_dim;
    c->fmas += 2 * (double)value_count(o->in[0]) * seen;
    c->bytes += 2 * 2 * d * (double)o->in[1]->ne[1] * last;
}

bench_cost bench_cost_of_op(const op *o, uint32_t n_tokens, uint32_t position) {
    bench_cost c = { 0 };
    uint32_t   n = o->head ? 1 : n_tokens;
    switch (o->kind) {
    case OP_MATMUL:
    case OP_GLU_MATMUL:
        for (uint32_t i = 0; i < o->n_in; i++)
            if (o->in[i]->kind == VALUE_WEIGHT) add_weight(&c, o->in[i], n);
        break;
    case OP_ATTENTION: add_attention(&c, o, n, position); break;
    default: break;
    }
    return c;
}

bench_cost bench_cost_of_graph(const graph *g, uint32_t n_tokens, uint32_t position) {
    bench_cost sum = { 0 };
    for (uint32_t i = 0; i < g->n_ops; i++) {
        bench_cost c = bench_cost_of_op(g->ops[i], n_tokens, position);
        bench_cost_add(&sum, &c, 1);
    }
    return sum;
}

double bench_limit_ns(const bench_cost *cost, const bench_limits *limits, enum bench_bound *bound) {
    double read = 1e9 * cost->bytes / limits->weights;
    double dots = 1e9 * cost->dots / limits->dots, fmas = 1e9 * cost->fmas / limits->fmas;
    double products = dots + fmas; /* they have the same units of the processor to themselves */
    if (bound)
        *bound = read == 0 && products == 0 ? BENCH_UNBOUND : read >= products ? BENCH_BOUND_READ
               : dots >= fmas ? BENCH_BOUND_DOTS : BENCH_BOUND_FMAS;
    return read > products ? read : products;
}

double bench_kernel_ratio(const bench_kernel *k) {
    double work = k->cost.dots + k->cost.fmas, interpreted = k->interpreted.dots + k->interpreted.fmas;
    if (!(k->interpreted_ns > 0) || !(k->ns > 0)) return 0;
    if (work == 0 || interpreted == 0) {
        work = k->head ? 1 : k->n_tokens;
        interpreted = k->head ? 1 : k->interpreted_tokens;
    }
    return k->interpreted_ns / interpreted / (k->ns / work);
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *x, uint32_t n) {
    qsort(x, n, sizeof *x, compare_numbers);
    return (x[(n - 1) / 2] + x[n / 2]) / 2;
}
