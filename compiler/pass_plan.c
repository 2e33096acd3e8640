/* plan: units, barriers, places. Requires a fused graph; changes nothing in it but the values'
 * offset and stride. */
#include "plan.h"

#include "pack.h"

#include <stdio.h>
#include <string.h>

#define ALIGN       PACK_ALIGN
#define MAX_HEADS   8 /* of attention in a unit */
#define MATMUL_ROWS PLAN_UNIT_ROWS /* of a unit at most, unless it is a head */

/* When a value is made and last used, in stages: what runs between two barriers. */
typedef struct life {
    value    *v;
    pack_item item;
} life;

typedef struct planner {
    graph     *g;
    const isa *target;
    plan      *p;
    life      *lives; /* by value id; v is NULL for what is not in the arena */
    uint32_t   stage;
    bool      *dirty; /* by value id: written since the last barrier */
} planner;

/* ---- units */

static uint32_t matmul_rows(const op *o) {
    uint64_t m = value_count(o->out);
    if (o->fused.rope || o->fused.cache) {
        uint32_t heads = 1, all = (uint32_t)(m / o->params.head_dim);
        while (heads * o->params.head_dim < MATMUL_ROWS && all % (2 * heads) == 0) heads *= 2;
        return heads * o->params.head_dim;
    }
    uint32_t rows = MATMUL_ROWS;
    while (m % rows) rows--;
    return rows;
}

/* Heads that share keys and values, as many as keep their queries and sums in registers. */
static uint32_t attention_heads(const isa *target, const op *o) {
    uint64_t d = o->params.head_dim, parts = (d + target->lanes - 1) / target->lanes;
    uint32_t group = (uint32_t)(value_count(o->in[0]) / d / o->in[1]->ne[1]);
    uint32_t heads = group < MAX_HEADS ? group : MAX_HEADS;
    while (heads > 1 && (group % heads || heads * parts > target->registers / 4)) heads--;
    return heads;
}

static plan_call plan_op(const isa *target, const op *o) {
    plan_call c = {.op = o, .units = 1, .per_token = true};
    if (o->kind == OP_MATMUL || o->kind == OP_GLU_MATMUL) {
        c.rows = matmul_rows(o);
        c.units = (uint32_t)(value_count(o->out) / c.rows);
        c.per_token = false;
    } else if (o->kind == OP_ATTENTION) {
        c.rows = attention_heads(target, o);
        c.units = (uint32_t)(value_count(o->in[0]) / o->params.head_dim / c.rows);
    }
    return c;
}

/* ---- stages */

static bool reads_dirty(const planner *pl, const op *o) {
    for (uint32_t i = 0; i < o->n_in; i++)
        if (o->in[i] && pl->dirty[o->in[i]->id]) return true;
    const value *others[] = {o->fused.residual, o->fused.rope};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i] && pl->dirty[others[i]->id]) return true;
    return false;
}

static void next_stage(planner *pl) {
    pl->stage++;
    memset(pl->dirty, 0, pl->g->n_values * sizeof *pl->dirty);
}

static void touch(planner *pl, value *v, bool made) {
    if (!v) return;
    if (made) pl->dirty[v->id] = true;
    if (v->kind != VALUE_ACTIVATION) return;
    life *l = &pl->lives[v->id];
    if (!l->v) {
        l->v = v;
        l->item.first = pl->stage;
    }
    l->item.last = pl->stage;
}

static void touch_all(planner *pl, const op *o) {
    for (uint32_t i = 0; i < o->n_in; i++) touch(pl, o->in[i], false);
    touch(pl, o->fused.residual, false);
    touch(pl, o->fused.rope, false);
    value   *outs[OP_MAX_OUTPUTS];
    uint32_t n = graph_op_outputs(o, outs);
    for (uint32_t i = 0; i < n; i++) touch(pl, outs[i], true);
}

static plan_call *plan_list(planner *pl, bool head, uint32_t *count) {
    plan_call *calls = ARENA_ARRAY(pl->g->memory, plan_call, pl->g->n_ops);
    uint32_t   n = 0;
    for (uint32_t i = 0; i < pl->g->n_ops; i++) {
        const op *o = pl->g->ops[i];
        if (o->head != head) continue;
        if (n && reads_dirty(pl, o)) {
            calls[n - 1].barrier = true;
            next_stage(pl);
        }
        calls[n++] = plan_op(pl->target, o);
        touch_all(pl, o);
    }
    next_stage(pl); /* whoever evaluates a list waits for all threads at its end */
    *count = n;
    return calls;
}

/* ---- places */

static uint64_t value_stride(const isa *target, const value *v) {
    uint64_t n = value_count(v);
    if (v->type == QUANT_F32) return round_up(n * sizeof(float), ALIGN);
    return round_up(isa_activation_layout(target, v->type, n).bytes, ALIGN);
}

static void place_activations(planner *pl) {
    graph      *g = pl->g;
    pack_item **items = ARENA_ARRAY(g->memory, pack_item *, g->n_values);
    uint32_t    n = 0;
    for (uint32_t i = 0; i < g->n_values; i++) {
        life *l = &pl->lives[i];
        if (!l->v) continue;
        l->v->stride = value_stride(pl->target, l->v);
        l->item.bytes = l->v->stride * (l->v->producer->head ? 1 : pl->p->n_batch);
        items[n++] = &l->item;
    }
    pl->p->arena_bytes = pack_place(items, n);
    for (uint32_t i = 0; i < g->n_values; i++)
        if (pl->lives[i].v) pl->lives[i].v->offset = pl->lives[i].item.offset;
}

static void place_weights_and_caches(planner *pl) {
    for (uint32_t i = 0; i < pl->g->n_values; i++) {
        value *v = pl->g->values[i];
        if (v->kind == VALUE_WEIGHT) {
            v->offset = v->tensor->offset;
            v->stride = quant_row_bytes(v->type, v->ne[0]);
            pl->p->weight_bytes += v->tensor->bytes;
        } else if (v->kind == VALUE_CACHE) {
            v->stride = v->ne[0] * 2; /* one position of one head, f16 */
            v->offset = pl->p->kv_bytes;
            pl->p->kv_bytes += round_up(v->stride * pl->p->n_ctx_padded * v->ne[1], ALIGN);
        }
    }
}

/* Somebody looks at every named value after the last stage. */
static void keep_for_trace(planner *pl) {
    for (uint32_t i = 0; i < pl->g->n_values; i++) {
        if (!pl->lives[i].v || !graph_is_named(pl->g, pl->lives[i].v)) continue;
        pl->lives[i].item.first = 0;
        pl->lives[i].item.last = pl->stage;
    }
}

/* The head runs again for another token of the same batch: what it reads of the body stays. */
static void keep_for_head(planner *pl) {
    for (uint32_t i = 0; i < pl->g->n_ops; i++) {
        const op *o = pl->g->ops[i];
        for (uint32_t k = 0; o->head && k < o->n_in; k++)
            if (o->in[k] && pl->lives[o->in[k]->id].v) pl->lives[o->in[k]->id].item.last = pl->stage;
    }
}

plan *pass_plan(graph *g, const isa *target, const plan_options *options) {
    planner pl = {.g = g, .target = target, .p = ARENA_NEW(g->memory, plan)};
    pl.lives = ARENA_ARRAY(g->memory, life, g->n_values);
    pl.dirty = ARENA_ARRAY(g->memory, bool, g->n_values);
    pl.p->n_ctx = options->n_ctx;
    pl.p->n_ctx_padded = (uint32_t)round_up(options->n_ctx, target->lanes);
    pl.p->n_batch = options->n_batch;
    pl.p->trace = options->trace;
    pl.p->body = plan_list(&pl, false, &pl.p->n_body);
    pl.p->head = plan_list(&pl, true, &pl.p->n_head);
    keep_for_head(&pl);
    if (options->trace) keep_for_trace(&pl);
    place_activations(&pl);
    place_weights_and_caches(&pl);
    return pl.p;
}

/* ---- printing */

static void print_calls(FILE *f, const char *title, const plan_call *calls, uint32_t n) {
    uint32_t stage = 0;
    fprintf(f, "%s\n", title);
    for (uint32_t i = 0; i < n; i++) {
        const plan_call *c = &calls[i];
        const op        *o = c->op;
        fprintf(f, "  stage %u  %-24s %-12s %6u units%s", stage, o->name, op_infos[o->kind].name,
                c->units, c->per_token ? " a token" : "");
        if (c->rows)
            fprintf(f, " of %u %s", c->rows, o->kind == OP_ATTENTION ? "heads" : "rows");
        value   *outs[OP_MAX_OUTPUTS];
        uint32_t n_outs = graph_op_outputs(o, outs);
        for (uint32_t k = 0; k < n_outs; k++)
            fprintf(f, "  %s at %llu", outs[k]->name, (unsigned long long)outs[k]->offset);
        fputs("\n", f);
        stage += c->barrier;
    }
}

void plan_print(const plan *p, void *stream) {
    FILE *f = stream;
    fprintf(f, "context %u, batch %u, arena %llu bytes, key-value cache %llu bytes\n", p->n_ctx,
            p->n_batch, (unsigned long long)p->arena_bytes, (unsigned long long)p->kv_bytes);
    print_calls(f, "body", p->body, p->n_body);
    print_calls(f, "head", p->head, p->n_head);
}
