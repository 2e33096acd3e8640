/* plan: units, barriers, places. Requires a fused graph; changes nothing in it but what a value says of
 * its place. */
#include "plan.h"

#include "pack.h"
#include "packed.h"

#include <stdio.h>
#include <string.h>

#define ALIGN       PACK_ALIGN
#define SPLIT_LEAST 2048 /* positions of a context worth splitting */
#define SPLIT_MOST  256  /* units of a token: enough for any number of threads */
#define EACH_MOST   16384 /* values of one token that are quickly made */
#define VALUE_WORK  16   /* multiply-adds that take as long as a value of what is no product */
#define UNIT_COST   2    /* what a unit costs beyond its rows, in rows: a guess, nothing was measured */

/* When a value is made and last used, in stages: what runs between two barriers of both kinds of lists. */
typedef struct life {
    value    *v;
    pack_item item;
} life;

typedef struct planner {
    graph     *g;
    const isa *target;
    bool       pack; /* plan_options.pack */
    plan      *p;
    life      *lives; /* by value id; v is NULL for what is not in the arena */
    uint32_t   stage;
    bool      *dirty, *dirty_one; /* by value id: written since the last barrier, since that of one token */
    pack_item *scratch; /* by number of the body's call; 0 bytes where there is none */
} planner;

/* ---- units */

/* Whole heads, as many as do not have more rows than other units. */
static uint32_t rows_of_heads(const op *o) {
    uint32_t heads = 1, all = (uint32_t)(value_count(o->out) / o->params.head_dim);
    while (heads * o->params.head_dim < PLAN_UNIT_ROWS && all % (2 * heads) == 0) heads *= 2;
    return heads * o->params.head_dim;
}

/* Whole vectors of rows, so many that units take the least time together: PLAN_UNIT_ROWS where the product has
   a multiple of that. `even`: they divide the rows where they can, as weights to be packed must. */
static uint32_t matmul_rows(const op *o, const isa *target, bool even) {
    uint64_t m = value_count(o->out), least = UINT64_MAX;
    uint32_t best = 0;
    if (o->fused.rope || o->fused.cache) return rows_of_heads(o);
    if (m <= target->lanes) return (uint32_t)m;
    for (uint32_t rows = target->lanes; rows <= PLAN_UNIT_ROWS && rows <= m; rows += target->lanes) {
        uint64_t cost = (m + rows - 1) / rows * (rows + UNIT_COST);
        if (cost > least || (even && m % target->lanes == 0 && m % rows)) continue;
        least = cost;
        best = rows;
    }
    return best;
}

static uint32_t n_ranges(const plan_call *c, uint32_t n_ctx) {
    return c->range ? (n_ctx + c->range - 1) / c->range : 1;
}

uint64_t plan_range_bytes(const op *attention) {
    return round_up((attention->params.head_dim + 2ull) * sizeof(float), ALIGN);
}

static void plan_attention(plan_call *c, uint32_t n_ctx) {
    uint32_t n_kv = (uint32_t)c->op->in[1]->ne[1];
    c->rows = (uint32_t)(value_count(c->op->in[0]) / c->op->params.head_dim) / n_kv;
    if (n_ctx >= SPLIT_LEAST && n_kv < SPLIT_MOST) {
        c->step = PLAN_RANGES;
        c->range = PLAN_RANGE_LEAST;
        while (n_kv * n_ranges(c, n_ctx) > SPLIT_MOST) c->range *= 2;
    }
    c->units = n_kv * n_ranges(c, n_ctx);
}

/* Attention as in the middle of a full context. */
static uint64_t work_of(const op *o, uint32_t n_ctx) {
    uint64_t products = 0;
    for (uint32_t i = 0; i < graph_op_weights(o); i++) products += value_count(o->in[i]);
    if (products) return products;
    return o->kind == OP_ATTENTION ? value_count(o->in[0]) * n_ctx : VALUE_WORK * value_count(o->out);
}

/* ---- what each thread does for itself */

static bool attention_reads(const graph *g, const value *v) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        for (uint32_t k = 0; g->ops[i]->kind == OP_ATTENTION && k < g->ops[i]->n_in; k++)
            if (g->ops[i]->in[k] == v) return true;
    return false;
}

/* Whatever is for one token a single unit, not a large one, and is read by ops that may find it in a row of the
   thread's. */
static bool is_each(const planner *pl, const op *o) {
    bool large = o->kind == OP_MATMUL || o->kind == OP_GLU_MATMUL || o->kind == OP_ATTENTION;
    if (large || pl->p->n_batch == 1) return false;
    value   *outs[OP_MAX_OUTPUTS];
    uint32_t n = graph_op_outputs(o, outs);
    for (uint32_t i = 0; i < n; i++)
        if (outs[i]->kind != VALUE_ACTIVATION || outs[i] == pl->g->output || value_count(outs[i]) > EACH_MOST ||
            attention_reads(pl->g, outs[i]))
            return false;
    return true;
}

static plan_call plan_op(const planner *pl, const op *o) {
    plan_call c = {.op = o, .units = 1, .per_token = true, .each = is_each(pl, o), .work = work_of(o, pl->p->n_ctx)};
    if (o->kind == OP_MATMUL || o->kind == OP_GLU_MATMUL) {
        c.rows = matmul_rows(o, pl->target, pl->pack);
        c.units = (uint32_t)((value_count(o->out) + c.rows - 1) / c.rows);
        c.per_token = false;
    } else if (o->kind == OP_ATTENTION) {
        plan_attention(&c, pl->p->n_ctx);
    }
    return c;
}

/* ---- stages */

static bool reads_any(const op *o, const bool *dirty) {
    for (uint32_t i = 0; i < o->n_in; i++)
        if (o->in[i] && dirty[o->in[i]->id]) return true;
    const value *others[] = {o->fused.residual, o->fused.rope};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i] && dirty[others[i]->id]) return true;
    return false;
}

static void set_barrier(planner *pl, plan_call *c, bool one) {
    c->barrier = true;
    memset(pl->dirty, 0, pl->g->n_values * sizeof *pl->dirty);
    if (!one) return;
    c->barrier_one = true;
    pl->stage++;
    memset(pl->dirty_one, 0, pl->g->n_values * sizeof *pl->dirty_one);
}

static void touch(planner *pl, value *v, bool made) {
    if (!v) return;
    if (made) pl->dirty[v->id] = true;
    if (made) pl->dirty_one[v->id] = !v->each;
    if (v->kind != VALUE_ACTIVATION) return;
    life *l = &pl->lives[v->id];
    if (!l->v) {
        l->v = v;
        l->item.first = pl->stage;
    }
    l->item.last = pl->stage;
}

static void touch_all(planner *pl, const plan_call *c) {
    const op *o = c->op;
    for (uint32_t i = 0; i < o->n_in; i++) touch(pl, o->in[i], false);
    touch(pl, o->fused.residual, false);
    touch(pl, o->fused.rope, false);
    value   *outs[OP_MAX_OUTPUTS];
    uint32_t n = graph_op_outputs(o, outs);
    for (uint32_t i = 0; i < n; i++) {
        outs[i]->each = c->each;
        touch(pl, outs[i], true);
    }
}

static uint32_t few_tokens(const plan *p) {
    return p->n_batch < PLAN_FEW_TOKENS ? p->n_batch : PLAN_FEW_TOKENS;
}

/* What ranges leave lives until it is merged, a head at a time. */
static void add_merge(planner *pl, plan_call *calls, uint32_t n) {
    plan_call *c = &calls[n], *merge = &calls[n + 1];
    uint64_t   heads = value_count(c->op->in[0]) / c->op->params.head_dim;
    pl->scratch[n] = (pack_item){
        .first = pl->stage, .last = pl->stage + 1,
        .bytes = few_tokens(pl->p) * heads * n_ranges(c, pl->p->n_ctx) * plan_range_bytes(c->op),
    };
    *merge = *c;
    merge->step = PLAN_MERGE;
    merge->rows = 1;
    merge->units = (uint32_t)heads;
    merge->work = VALUE_WORK * value_count(c->op->out) * n_ranges(c, pl->p->n_ctx);
    set_barrier(pl, c, true);
    touch_all(pl, merge);
}

/* Whether their units take as long: as many rows of as many weights of one type, or as many values. */
static bool are_alike(const plan_call *a, const plan_call *b) {
    uint32_t n = graph_op_weights(a->op);
    if (a->op->kind != b->op->kind || a->each != b->each || a->per_token != b->per_token || a->rows != b->rows)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (a->op->in[i]->type != b->op->in[i]->type || a->op->in[i]->ne[0] != b->op->in[i]->ne[0]) return false;
    return n || value_count(a->op->out) == value_count(b->op->out);
}

/* Calls that are shared out together, from `first` on. */
static uint32_t count_together(const plan_call *calls, uint32_t first, uint32_t n) {
    uint32_t end = first;
    while (end < n && are_alike(&calls[first], &calls[end]))
        if (calls[end++].barrier) break;
    return end - first;
}

static void share_out(plan_call *calls, uint32_t n) {
    for (uint32_t first = 0, count; first < n; first += count) {
        uint32_t all = 0, before = 0;
        uint64_t work = 0;
        count = count_together(calls, first, n);
        for (uint32_t i = 0; i < count; i++) {
            all += calls[first + i].units;
            work += calls[first + i].work;
        }
        for (uint32_t i = 0; i < count; i++) {
            plan_call *c = &calls[first + i];
            c->before = before;
            before += c->units;
            c->after = all - before;
            c->work = work;
        }
    }
}

static plan_call *plan_list(planner *pl, bool head, uint32_t *count) {
    plan_call *calls = ARENA_ARRAY(pl->g->memory, plan_call, 2 * pl->g->n_ops);
    uint32_t   n = 0;
    for (uint32_t i = 0; i < pl->g->n_ops; i++) {
        const op *o = pl->g->ops[i];
        if (o->head != head) continue;
        bool one = reads_any(o, pl->dirty_one);
        if (n && (one || reads_any(o, pl->dirty))) set_barrier(pl, &calls[n - 1], one);
        calls[n] = plan_op(pl, o);
        touch_all(pl, &calls[n]);
        if (calls[n].step == PLAN_RANGES) add_merge(pl, calls, n++);
        n++;
    }
    plan_call end; /* whoever evaluates a list waits for all threads at its end */
    set_barrier(pl, &end, true);
    share_out(calls, n);
    *count = n;
    return calls;
}

/* ---- places */

static uint64_t value_stride(const isa *target, const value *v) {
    uint64_t n = value_count(v);
    if (v->type == QUANT_F32) return round_up(n * sizeof(float), ALIGN);
    return round_up(isa_activation_layout(target, v->type, n).bytes, ALIGN);
}

uint32_t plan_value_tokens(const plan *p, const value *v) {
    return v->producer->head && !v->each ? few_tokens(p) : p->n_batch;
}

static void place_activations(planner *pl) {
    graph      *g = pl->g;
    pack_item **items = ARENA_ARRAY(g->memory, pack_item *, g->n_values + pl->p->n_body);
    uint32_t    n = 0;
    for (uint32_t i = 0; i < g->n_values; i++) {
        life *l = &pl->lives[i];
        if (!l->v) continue;
        l->v->stride = value_stride(pl->target, l->v);
        l->item.bytes = l->v->stride * plan_value_tokens(pl->p, l->v);
        items[n++] = &l->item;
    }
    for (uint32_t i = 0; i < pl->p->n_body; i++)
        if (pl->scratch[i].bytes) items[n++] = &pl->scratch[i];
    pl->p->arena_bytes = pack_place(items, n);
    for (uint32_t i = 0; i < pl->p->n_body; i++)
        if (pl->scratch[i].bytes)
            pl->p->body[i].scratch = pl->p->body[i + 1].scratch = pl->scratch[i].offset;
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

static void keep_value(planner *pl, const value *v) {
    if (v && pl->lives[v->id].v) pl->lives[v->id].item.last = pl->stage;
}

/* The head runs again for another token of the same batch: what it reads of the body stays. */
static void keep_for_head(planner *pl) {
    for (uint32_t i = 0; i < pl->g->n_ops; i++) {
        const op *o = pl->g->ops[i];
        if (!o->head) continue;
        for (uint32_t k = 0; k < o->n_in; k++) keep_value(pl, o->in[k]);
        keep_value(pl, o->fused.residual);
    }
}

plan *pass_plan(graph *g, const isa *target, const plan_options *options) {
    planner pl = {.g = g, .target = target, .pack = options->pack, .p = ARENA_NEW(g->memory, plan)};
    pl.lives = ARENA_ARRAY(g->memory, life, g->n_values);
    pl.dirty = ARENA_ARRAY(g->memory, bool, g->n_values);
    pl.dirty_one = ARENA_ARRAY(g->memory, bool, g->n_values);
    pl.scratch = ARENA_ARRAY(g->memory, pack_item, 2 * g->n_ops);
    pl.p->n_ctx = options->n_ctx;
    pl.p->n_ctx_padded = (uint32_t)round_up(options->n_ctx, PLAN_CTX_STEP);
    pl.p->n_batch = options->n_batch;
    pl.p->trace = options->trace;
    pl.p->body = plan_list(&pl, false, &pl.p->n_body);
    pl.p->head = plan_list(&pl, true, &pl.p->n_head);
    keep_for_head(&pl);
    if (options->trace) keep_for_trace(&pl);
    place_activations(&pl);
    place_weights_and_caches(&pl);
    if (options->pack) packed_place(g, pl.p, target);
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
                c->units, c->each ? " a token (one: each thread)" : c->per_token ? " a token" : "");
        if (c->rows)
            fprintf(f, " of %u %s", c->rows, o->kind == OP_ATTENTION ? "heads" : "rows");
        if (c->step == PLAN_RANGES) fprintf(f, ", ranges of %u positions", c->range);
        if (c->step == PLAN_MERGE) fputs(", merged", f);
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
