/* Attention of a few heads of one token: a unit. They read the same keys and values, which are
 * loaded and converted once for them (plan_call.rows of plan.h says how many heads).
 *
 * Positions are taken in blocks of as many as a vector has lanes. For each block: the scores
 * scale · q·k, masked to positions up to the token's own; the running maximum and sum of the
 * softmax (Milakov and Gimelshein 2018), so that nothing of the context's length is stored; and
 * the weighted sum of the values. Caches are [kv head][position][head_dim] f16.
 */
#include "emit.h"

#include <math.h>

#define MAX_HEADS 8
#define MAX_PARTS 64 /* of all heads of a unit */
#define MAX_LANES 16

typedef struct attention {
    emit     *e;
    const op *o;
    uint32_t  d, n_heads, n_kv, unit_heads;
    uint32_t  n_parts; /* vectors of a head: of `lanes` values, the last of what is left */
    val       q, q_stride, k, v;
    sink      to;
} attention;

/* What a head carries over the blocks of positions. */
typedef struct running {
    val q[MAX_PARTS], sum[MAX_PARTS];
    val most, total; /* the maximum score; the sum of weights, a partial sum a lane */
} running;

static uint32_t part_at(const attention *a, uint32_t p) {
    return p * a->e->isa->lanes;
}

static uint32_t part_length(const attention *a, uint32_t p) {
    uint32_t left = a->d - part_at(a, p), lanes = a->e->isa->lanes;
    return left < lanes ? left : lanes;
}

/* Part p of the row of `position` in a cache's head at `base`. */
static val cached(const attention *a, val base, val position, uint32_t p) {
    emit *e = a->e;
    val   row = emit_at(e, base, emit_mul_const(e, position, 2 * a->d));
    return emit_load_f32(e, QUANT_F16, emit_at_const(e, row, 2 * part_at(a, p)), part_length(a, p));
}

/* scale · q·k of `lanes` positions from `first` on, a vector for each head. */
static void emit_scores(const attention *a, const running *heads, val k_head, val first, val *scores) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val      sums[MAX_HEADS][MAX_LANES];
    for (uint32_t j = 0; j < lanes; j++) {
        val position = emit_add(e, first, emit_i64(e, j));
        for (uint32_t p = 0; p < a->n_parts; p++) {
            val k = cached(a, k_head, position, p);
            for (uint32_t h = 0; h < a->unit_heads; h++) {
                val q = heads[h].q[p];
                if (p == 0)
                    sums[h][j] = emit_widen(e, emit_fmul(e, q, k), lanes);
                else if (emit_length(k) == lanes)
                    sums[h][j] = emit_fma(e, q, k, sums[h][j]);
                else
                    sums[h][j] = emit_fadd(e, sums[h][j], emit_widen(e, emit_fmul(e, q, k), lanes));
            }
        }
    }
    val scale = emit_splat_f32(e, a->o->params.attn_scale, lanes);
    for (uint32_t h = 0; h < a->unit_heads; h++)
        scores[h] = emit_fmul(e, emit_sum_each(e, sums[h], lanes), scale);
}

/* Which of the block's positions are at most `last`. */
static val visible(const attention *a, val first, val last) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val left = LLVMBuildTrunc(e->builder, emit_sub(e, last, first), e->i32, "");
    return LLVMBuildICmp(e->builder, LLVMIntULE, emit_iota(e, e->i32, lanes),
                         emit_splat(e, left, lanes), "");
}

/* Takes a block's scores into a head's running softmax; returns the positions' weights and scales
   what was summed so far down to the new maximum. */
static val emit_weights(const attention *a, running *head, val scores, val seen) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    scores = LLVMBuildSelect(e->builder, seen, scores, emit_splat_f32(e, -INFINITY, lanes), "");
    val most = emit_fmax(e, emit_max_element(e, scores), head->most);
    val shrink = emit_exp(e, emit_fsub(e, head->most, most));
    val weights = emit_exp(e, emit_fsub(e, scores, emit_splat(e, most, lanes)));
    weights = LLVMBuildSelect(e->builder, seen, weights, LLVMConstNull(LLVMTypeOf(weights)), "");
    head->most = most;
    head->total = emit_fma(e, head->total, emit_splat(e, shrink, lanes), weights);
    for (uint32_t p = 0; p < a->n_parts; p++)
        head->sum[p] = emit_fmul(e, head->sum[p], emit_splat(e, shrink, part_length(a, p)));
    return weights;
}

static void add_values(const attention *a, running *heads, val v_head, val first, const val *weights) {
    emit *e = a->e;
    for (uint32_t j = 0; j < e->isa->lanes; j++) {
        val position = emit_add(e, first, emit_i64(e, j)), w[MAX_HEADS];
        for (uint32_t h = 0; h < a->unit_heads; h++) w[h] = emit_pick(e, weights[h], NULL, j, 1, 1);
        for (uint32_t p = 0; p < a->n_parts; p++) {
            val v = cached(a, v_head, position, p);
            for (uint32_t h = 0; h < a->unit_heads; h++)
                heads[h].sum[p] = emit_fma(e, emit_splat(e, w[h], emit_length(v)), v, heads[h].sum[p]);
        }
    }
}

static void carry_in(const attention *a, loop *l, running *head) {
    emit *e = a->e;
    head->most = emit_loop_carry(e, l, emit_f32(e, -INFINITY));
    head->total = emit_loop_carry(e, l, LLVMConstNull(emit_vector(e->f32, e->isa->lanes)));
    for (uint32_t p = 0; p < a->n_parts; p++)
        head->sum[p] = emit_loop_carry(e, l, LLVMConstNull(emit_vector(e->f32, part_length(a, p))));
}

static uint32_t carry_out(const attention *a, const running *head, val *next) {
    next[0] = head->most;
    next[1] = head->total;
    for (uint32_t p = 0; p < a->n_parts; p++) next[2 + p] = head->sum[p];
    return 2 + a->n_parts;
}

/* Positions 0 … last, for all heads of the unit. */
static void attend(const attention *a, running *heads, val k_head, val v_head, val last) {
    emit *e = a->e;
    val   next[EMIT_MAX_CARRIES], scores[MAX_HEADS], weights[MAX_HEADS];
    loop  l = emit_loop_begin(e, emit_i64(e, 0), emit_add(e, last, emit_i64(e, 1)), e->isa->lanes);
    for (uint32_t h = 0; h < a->unit_heads; h++) carry_in(a, &l, &heads[h]);
    val seen = visible(a, l.i, last);
    emit_scores(a, heads, k_head, l.i, scores);
    for (uint32_t h = 0; h < a->unit_heads; h++)
        weights[h] = emit_weights(a, &heads[h], scores[h], seen);
    add_values(a, heads, v_head, l.i, weights);
    uint32_t n = 0;
    for (uint32_t h = 0; h < a->unit_heads; h++) n += carry_out(a, &heads[h], next + n);
    emit_loop_end(e, &l, next);
}

/* The sums divided by the weights' total, to memory and from there to the sinks in their width. */
static void finish_head(const attention *a, const running *head, val token, val first, val buffer) {
    emit    *e = a->e;
    uint32_t width = emit_sink_width(e, a->o);
    val      inverse = emit_fdiv(e, emit_f32(e, 1), emit_sum(e, head->total));
    for (uint32_t p = 0; p < a->n_parts; p++) {
        val part = emit_fmul(e, head->sum[p], emit_splat(e, inverse, part_length(a, p)));
        emit_store(e, part, emit_at_const(e, buffer, 4 * part_at(a, p)), 4);
    }
    for (uint32_t i = 0; i < a->d; i += width) {
        uint32_t n = a->d - i < width ? a->d - i : width;
        val part = emit_load(e, emit_vector(e->f32, n), emit_at_const(e, buffer, 4 * i), 4);
        emit_sink(e, &a->to, token, emit_add(e, first, emit_i64(e, i)), part);
    }
}

static void emit_unit(const attention *a, val unit, val buffer) {
    emit    *e = a->e;
    running *heads = ARENA_ARRAY(e->memory, running, a->unit_heads);
    val units = emit_i64(e, a->n_heads / a->unit_heads);
    val token = LLVMBuildUDiv(e->builder, unit, units, "");
    val head = emit_mul_const(e, LLVMBuildURem(e->builder, unit, units, ""), a->unit_heads);
    val kv_head = LLVMBuildUDiv(e->builder, head, emit_i64(e, a->n_heads / a->n_kv), "");
    val cache_at = emit_mul_const(e, kv_head, 2ull * a->d * e->plan->n_ctx_padded);
    val first = emit_mul_const(e, head, a->d);

    val q = emit_at(e, emit_at(e, e->arena, a->q), emit_mul(e, token, a->q_stride));
    q = emit_at(e, q, emit_mul_const(e, first, 4));
    for (uint32_t h = 0; h < a->unit_heads; h++)
        for (uint32_t p = 0; p < a->n_parts; p++)
            heads[h].q[p] = emit_load(e, emit_vector(e->f32, part_length(a, p)),
                                      emit_at_const(e, q, 4 * (h * a->d + part_at(a, p))), 4);
    attend(a, heads, emit_at(e, emit_at(e, e->kv, a->k), cache_at),
           emit_at(e, emit_at(e, e->kv, a->v), cache_at), emit_add(e, e->pos, token));
    for (uint32_t h = 0; h < a->unit_heads; h++)
        finish_head(a, &heads[h], token, emit_add(e, first, emit_i64(e, (uint64_t)h * a->d)), buffer);
}

val emit_attention(emit *e, const plan_call *c) {
    const op *o = c->op;
    attention a = {.e = e, .o = o, .d = o->params.head_dim, .unit_heads = c->rows};
    a.n_heads = (uint32_t)(value_count(o->in[0]) / a.d);
    a.n_kv = (uint32_t)o->in[1]->ne[1];
    a.n_parts = (a.d + e->isa->lanes - 1) / e->isa->lanes;
    if (a.n_parts * a.unit_heads > MAX_PARTS) bug("%u heads of %u", a.unit_heads, a.d);
    const char *name = arena_printf(e->memory, "attention_d%u_h%u_kv%u_s%g_u%u%s", a.d, a.n_heads,
                                    a.n_kv, (double)o->params.attn_scale, a.unit_heads,
                                    emit_sink_key(e, o));
    bool fresh = emit_kernel_begin(e, name);
    a.q = emit_operand(e, o->in[0]->offset);
    a.q_stride = emit_operand(e, o->in[0]->stride);
    a.k = emit_operand(e, o->in[1]->offset);
    a.v = emit_operand(e, o->in[2]->offset);
    a.to = emit_sink_begin(e, o);
    if (fresh) {
        val  buffer = emit_local(e, 4ull * a.d);
        loop unit = emit_loop_begin(e, e->begin, e->end, 1);
        emit_unit(&a, unit.i, buffer);
        emit_loop_end(e, &unit, NULL);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}
