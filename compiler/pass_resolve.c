/* resolve: the template speaks of mathematics; from here on the graph speaks of what is stored.
 * Requires the ops of the .arch language; keeps every one of them and its name. */
#include "pass.h"

#include <string.h>

typedef struct resolver {
    graph   *g;
    op     **ops;
    uint32_t n_ops, cap_ops;
} resolver;

static void place(resolver *r, op *o) {
    op **slot = arena_push(r->g->memory, (void **)&r->ops, &r->n_ops, &r->cap_ops, sizeof *slot);
    *slot = o;
}

/* What depends on nothing but the position can be made before everything else. */
static void place_first(resolver *r, op *o) {
    place(r, o);
    memmove(r->ops + 1, r->ops, (r->n_ops - 1) * sizeof *r->ops);
    r->ops[0] = o;
}

static op *new_op(resolver *r, enum op_kind kind, const char *name, const op *like, value *in) {
    char why[GRAPH_WHY_BYTES];
    op *o = graph_new_op(r->g, kind, name, like->layer, &in, 1, &like->params, why);
    if (!o) bug("%s for %s: %s", op_infos[kind].name, like->name, why);
    o->head = like->head;
    return o;
}

static bool same_rotation(const op *table, const op *rope) {
    return table->in[0] == rope->in[1] && table->params.rope_dims == rope->params.rope_dims &&
           table->params.rope_base == rope->params.rope_base &&
           table->params.rope_scale == rope->params.rope_scale;
}

static void resolve_rope(resolver *r, op *o) {
    uint32_t n_tables = 0;
    for (uint32_t i = 0; i < r->n_ops; i++) {
        if (r->ops[i]->kind != OP_ROPE_TABLE) continue;
        n_tables++;
        if (same_rotation(r->ops[i], o)) {
            o->in[1] = r->ops[i]->out;
            return;
        }
    }
    op *table = new_op(r, OP_ROPE_TABLE, arena_printf(r->g->memory, "rope_table.%u", n_tables), o,
                       o->in[1]);
    table->layer = -1;
    place_first(r, table);
    o->in[1] = table->out;
    o->n_in = 2;
}

static void resolve_attention(resolver *r, op *o) {
    for (int i = 1; i <= 2; i++) {
        op *store = new_op(r, OP_KV_STORE,
                           arena_printf(r->g->memory, "cache_%c-%d", i == 1 ? 'k' : 'v', o->layer),
                           o, o->in[i]);
        place(r, store);
        o->in[i] = store->out;
    }
}

static void resolve_matmul(resolver *r, op *o) {
    enum quant_type type = quant_find(o->in[0]->type)->activation;
    value *x = o->in[1];
    if (type == QUANT_F32) return;
    for (uint32_t i = r->n_ops; i-- > 0;) {
        if (r->ops[i]->kind == OP_QUANTIZE && r->ops[i]->in[0] == x &&
            r->ops[i]->out->type == type) {
            o->in[1] = r->ops[i]->out;
            return;
        }
    }
    op *quantize = new_op(r, OP_QUANTIZE,
                          arena_printf(r->g->memory, "%s.%s", x->name, quant_find(type)->name), o,
                          x);
    quantize->out->type = type;
    place(r, quantize);
    o->in[1] = quantize->out;
}

void pass_resolve(graph *g) {
    resolver r = {.g = g};
    for (uint32_t i = 0; i < g->n_ops; i++) {
        op *o = g->ops[i];
        if (o->kind == OP_ROPE) resolve_rope(&r, o);
        if (o->kind == OP_ATTENTION) resolve_attention(&r, o);
        if (o->kind == OP_MATMUL) resolve_matmul(&r, o);
        place(&r, o);
    }
    g->ops = r.ops;
    g->n_ops = r.n_ops;
    g->cap_ops = r.cap_ops;
}
