/* Attention of one head of one token: a unit.
 *
 * Positions are taken in blocks of as many as a vector has lanes. For each block: the scores
 * scale · q·k, masked to positions up to the token's own; the running maximum and sum of the
 * softmax (Milakov and Gimelshein 2018), so that nothing of the context's length is stored; and
 * the weighted sum of the values. Caches are [kv head][position][head_dim] f16.
 */
#include "emit.h"

#include <math.h>

#define MAX_PARTS 64 /* of a head: heads up to 64 × 4 wide even without vectors */

typedef struct attention {
    emit      *e;
    const op  *o;
    uint32_t   d, n_heads, n_kv, n_parts;
    val        q, q_stride, k, v;
    sink       to;
    val        q_part[MAX_PARTS];
} attention;

static uint32_t part_at(const attention *a, uint32_t p) {
    return p * a->e->isa->lanes;
}

static uint32_t part_length(const attention *a, uint32_t p) {
    uint32_t left = a->d - part_at(a, p), lanes = a->e->isa->lanes;
    return left < lanes ? left : lanes;
}

/* Part p of row `position` of a cache's head at `base`. */
static val cached(const attention *a, val base, val position, uint32_t p) {
    emit *e = a->e;
    val   row = emit_at(e, base, emit_mul_const(e, position, 2 * a->d));
    return emit_load_f32(e, QUANT_F16, emit_at_const(e, row, 2 * part_at(a, p)), part_length(a, p));
}

/* q·k of `lanes` positions from `first` on, as a vector. */
static val scores(const attention *a, val k_head, val first) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val      sums[64], tails = NULL;
    for (uint32_t j = 0; j < lanes; j++) {
        val position = emit_add(e, first, emit_i64(e, j));
        val sum = LLVMConstNull(emit_vector(e->f32, lanes));
        for (uint32_t p = 0; p < a->n_parts; p++) {
            val k = cached(a, k_head, position, p);
            if (part_length(a, p) == lanes) {
                sum = emit_fma(e, a->q_part[p], k, sum);
                continue;
            }
            val tail = emit_sum(e, emit_fmul(e, a->q_part[p], k));
            if (!tails) tails = LLVMConstNull(emit_vector(e->f32, lanes));
            tails = LLVMBuildInsertElement(e->builder, tails, tail, emit_i32(e, j), "");
        }
        sums[j] = sum;
    }
    val all = emit_sum_each(e, sums, lanes);
    if (tails) all = emit_fadd(e, all, tails);
    return emit_fmul(e, all, emit_splat_f32(e, a->o->params.attn_scale, lanes));
}

/* The block's positions up to `last`. */
static val visible(const attention *a, val first, val last) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val left = LLVMBuildTrunc(e->builder, emit_sub(e, last, first), e->i32, "");
    return LLVMBuildICmp(e->builder, LLVMIntULE, emit_iota(e, e->i32, lanes),
                         emit_splat(e, left, lanes), "");
}

/* Leaves the head's result in `out`, d f32. */
static void attend(attention *a, val k_head, val v_head, val last, val out) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val      next[MAX_PARTS + 2];
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_add(e, last, emit_i64(e, 1)), lanes);
    val      most = emit_loop_carry(e, &l, emit_f32(e, -INFINITY));
    val      total = emit_loop_carry(e, &l, LLVMConstNull(emit_vector(e->f32, lanes)));
    val      sum[MAX_PARTS];
    for (uint32_t p = 0; p < a->n_parts; p++)
        sum[p] = emit_loop_carry(e, &l, LLVMConstNull(emit_vector(e->f32, part_length(a, p))));

    val seen = visible(a, l.i, last);
    val s = LLVMBuildSelect(e->builder, seen, scores(a, k_head, l.i),
                            emit_splat_f32(e, -INFINITY, lanes), "");
    val new_most = emit_fmax(e, emit_max_element(e, s), most);
    val shrink = emit_exp(e, emit_fsub(e, most, new_most));
    val weight = emit_exp(e, emit_fsub(e, s, emit_splat(e, new_most, lanes)));
    weight = LLVMBuildSelect(e->builder, seen, weight, LLVMConstNull(LLVMTypeOf(weight)), "");
    next[0] = new_most;
    next[1] = emit_fma(e, total, emit_splat(e, shrink, lanes), weight);
    for (uint32_t p = 0; p < a->n_parts; p++) {
        uint32_t n = part_length(a, p);
        val part = emit_fmul(e, sum[p], emit_splat(e, shrink, n));
        for (uint32_t j = 0; j < lanes; j++) {
            val position = emit_add(e, l.i, emit_i64(e, j));
            val w = emit_splat(e, emit_pick(e, weight, NULL, j, 1, 1), n);
            part = emit_fma(e, w, cached(a, v_head, position, p), part);
        }
        next[2 + p] = part;
    }
    emit_loop_end(e, &l, next);

    val inverse = emit_fdiv(e, emit_f32(e, 1), emit_sum(e, next[1]));
    for (uint32_t p = 0; p < a->n_parts; p++) {
        val part = emit_fmul(e, next[2 + p], emit_splat(e, inverse, part_length(a, p)));
        emit_store(e, part, emit_at_const(e, out, 4 * part_at(a, p)), 4);
    }
}

static void emit_head(attention *a, val unit, val out) {
    emit *e = a->e;
    val   token = LLVMBuildUDiv(e->builder, unit, emit_i64(e, a->n_heads), "");
    val   head = LLVMBuildURem(e->builder, unit, emit_i64(e, a->n_heads), "");
    val   kv_head = LLVMBuildUDiv(e->builder, head, emit_i64(e, a->n_heads / a->n_kv), "");
    val   cache_at = emit_mul_const(e, kv_head, 2ull * a->d * e->plan->n_ctx_padded);
    val   first = emit_mul_const(e, head, a->d);

    val q = emit_at(e, emit_at(e, e->arena, a->q), emit_mul(e, token, a->q_stride));
    q = emit_at(e, q, emit_mul_const(e, first, 4));
    for (uint32_t p = 0; p < a->n_parts; p++)
        a->q_part[p] = emit_load(e, emit_vector(e->f32, part_length(a, p)),
                                 emit_at_const(e, q, 4 * part_at(a, p)), 4);
    attend(a, emit_at(e, emit_at(e, e->kv, a->k), cache_at),
           emit_at(e, emit_at(e, e->kv, a->v), cache_at), emit_add(e, e->pos, token), out);

    uint32_t width = emit_sink_width(e, a->o);
    for (uint32_t i = 0; i < a->d; i += width) {
        uint32_t n = a->d - i < width ? a->d - i : width;
        val part = emit_load(e, emit_vector(e->f32, n), emit_at_const(e, out, 4 * i), 4);
        emit_sink(e, &a->to, token, emit_add(e, first, emit_i64(e, i)), part);
    }
}

val emit_attention(emit *e, const plan_call *c) {
    const op *o = c->op;
    attention a = {.e = e, .o = o, .d = o->params.head_dim};
    a.n_heads = (uint32_t)(value_count(o->in[0]) / a.d);
    a.n_kv = (uint32_t)o->in[1]->ne[1];
    a.n_parts = (a.d + e->isa->lanes - 1) / e->isa->lanes;
    if (a.n_parts > MAX_PARTS) bug("heads of %u", a.d);
    const char *name = arena_printf(e->memory, "attention_d%u_h%u_kv%u_s%g%s", a.d, a.n_heads, a.n_kv,
                                    (double)o->params.attn_scale, emit_sink_key(e, o));
    bool fresh = emit_kernel_begin(e, name);
    a.q = emit_operand(e, o->in[0]->offset);
    a.q_stride = emit_operand(e, o->in[0]->stride);
    a.k = emit_operand(e, o->in[1]->offset);
    a.v = emit_operand(e, o->in[2]->offset);
    a.to = emit_sink_begin(e, o);
    if (fresh) {
        val  out = emit_local(e, 4ull * a.d);
        loop unit = emit_loop_begin(e, e->begin, e->end, 1);
        emit_head(&a, unit.i, out);
        emit_loop_end(e, &unit, NULL);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}
