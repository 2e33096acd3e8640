/* fuse: an op takes over its result's only reader. Each rule below is tried on each op, in the
 * order of the table, and either joins the two or leaves them; what is joined disappears from the
 * list of ops, and the value it made is from then on made by the op that took it over. */
#include "pass.h"
#include "plan.h"

#include <string.h>

typedef struct fuser {
    graph *g;
    bool   trace;
} fuser;

static bool reads(const op *o, const value *v) {
    for (uint32_t i = 0; i < o->n_in; i++)
        if (o->in[i] == v) return true;
    return o->fused.bias == v || o->fused.residual == v || o->fused.rope == v;
}

/* The only op that reads v, or NULL. */
static op *sole_reader(const graph *g, const value *v) {
    op *found = NULL;
    if (v == g->output || v == g->head_input) return NULL;
    for (uint32_t i = 0; i < g->n_ops; i++) {
        if (!reads(g->ops[i], v)) continue;
        if (found) return NULL;
        found = g->ops[i];
    }
    return found;
}

static uint32_t position(const graph *g, const op *o) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (g->ops[i] == o) return i;
    bug("%s is not in the graph", o->name);
}

static void remove_op(graph *g, const op *o) {
    uint32_t at = position(g, o);
    memmove(g->ops + at, g->ops + at + 1, (g->n_ops - at - 1) * sizeof *g->ops);
    g->n_ops--;
}

/* `v`, so far made by the op that is joined to o, is from now on stored by o on the way. */
static void tap(const fuser *f, op *o, value *v, value **slot) {
    if (!f->trace) return;
    if (*slot) bug("%s: nowhere to store %s", o->name, v->name);
    *slot = v;
    v->producer = o;
}

/* `o` makes from now on what `next` made. */
static void take_over(const fuser *f, op *o, op *next) {
    tap(f, o, o->out, o->fused.bias ? &o->fused.sum : &o->fused.product);
    o->name = next->name;
    o->out = next->out;
    o->out->producer = o;
    remove_op(f->g, next);
}

static bool made_before(const graph *g, const value *v, const op *o) {
    return v->kind != VALUE_ACTIVATION || position(g, v->producer) < position(g, o);
}

/* swiglu(gate · x, up · x): both products row by row, so that neither is stored. */
static bool fuse_glu(const fuser *f, op *o) {
    graph *g = f->g;
    if (o->kind != OP_SWIGLU) return false;
    op *gate = o->in[0]->producer, *up = o->in[1]->producer;
    if (gate == up || gate->kind != OP_MATMUL || up->kind != OP_MATMUL) return false;
    if (gate->in[1] != up->in[1] || gate->fused.bias || up->fused.bias) return false;
    if (sole_reader(g, gate->out) != o || sole_reader(g, up->out) != o) return false;
    o->kind = OP_GLU_MATMUL;
    o->in[0] = gate->in[0];
    o->in[1] = up->in[0];
    o->in[2] = gate->in[1];
    o->n_in = 3;
    tap(f, o, gate->out, &o->fused.product);
    tap(f, o, up->out, &o->fused.up);
    remove_op(g, gate);
    remove_op(g, up);
    return true;
}

static bool fuse_bias(const fuser *f, op *o) {
    graph *g = f->g;
    if (o->kind != OP_MATMUL || o->fused.bias) return false;
    op *next = sole_reader(g, o->out);
    if (!next || next->kind != OP_ADD || next->in[0] != o->out) return false;
    if (next->in[1]->kind != VALUE_WEIGHT) return false;
    value *bias = next->in[1];
    take_over(f, o, next);
    o->fused.bias = bias;
    return true;
}

static bool fuse_residual(const fuser *f, op *o) {
    graph *g = f->g;
    if (o->kind != OP_MATMUL || o->fused.residual || o->fused.rope) return false;
    op *next = sole_reader(g, o->out);
    if (!next || next->kind != OP_ADD || next->head != o->head) return false;
    value *other = next->in[next->in[0] == o->out];
    if (other == o->out || other->kind != VALUE_ACTIVATION || !made_before(g, other, o))
        return false;
    o->fused.residual = other;
    take_over(f, o, next);
    return true;
}

static bool fuse_rope(const fuser *f, op *o) {
    graph *g = f->g;
    if (o->kind != OP_MATMUL || o->fused.residual || o->fused.rope) return false;
    op *next = sole_reader(g, o->out);
    if (!next || next->kind != OP_ROPE || !made_before(g, next->in[1], o)) return false;
    o->fused.rope = next->in[1];
    o->params = next->params;
    take_over(f, o, next);
    return true;
}

static bool fuse_cache(const fuser *f, op *o) {
    graph *g = f->g;
    if (o->kind != OP_MATMUL || o->fused.cache) return false;
    op *next = sole_reader(g, o->out);
    if (!next || next->kind != OP_KV_STORE) return false;
    if (o->fused.rope && o->params.head_dim != next->params.head_dim) return false;
    o->params.head_dim = next->params.head_dim;
    o->fused.cache = next->out;
    o->fused.drop_out = !f->trace;
    next->out->producer = o;
    remove_op(g, next);
    return true;
}

/* Whether a unit of the op makes whole blocks of `type`. */
static bool makes_blocks(const op *o, enum quant_type type) {
    uint32_t block = quant_find(type)->block_len;
    switch (o->kind) {
    case OP_RMS_NORM: return o->out->ne[0] % block == 0;
    case OP_ATTENTION: return o->params.head_dim % block == 0;
    case OP_GLU_MATMUL: /* units have PLAN_UNIT_ROWS where that divides the rows */
        return block == 1 || (value_count(o->out) % PLAN_UNIT_ROWS == 0 && PLAN_UNIT_ROWS % block == 0);
    default: return false;
    }
}

static op *find_quantize(const graph *g, const value *v) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (g->ops[i]->kind == OP_QUANTIZE && g->ops[i]->in[0] == v) return g->ops[i];
    return NULL;
}

static bool fuse_quantize(const fuser *f, op *o) {
    graph *g = f->g;
    op *next = o->fused.quantized ? NULL : find_quantize(g, o->out);
    if (!next || next->head != o->head || !makes_blocks(o, next->out->type)) return false;
    o->fused.quantized = next->out;
    o->fused.drop_out = !f->trace && sole_reader(g, o->out) == next;
    next->out->producer = o;
    remove_op(g, next);
    return true;
}

static bool (*const rules[])(const fuser *f, op *o) = {
    fuse_bias, fuse_glu, fuse_rope, fuse_residual, fuse_cache, fuse_quantize,
};

void pass_fuse(graph *g, bool trace) {
    fuser f = {g, trace};
    for (size_t r = 0; r < ARRAY_LEN(rules); r++)
        for (uint32_t i = 0; i < g->n_ops; i++) {
            op *o = g->ops[i];
            if (rules[r](&f, o)) i = position(g, o);
        }
}
