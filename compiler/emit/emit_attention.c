/* Attention of a few heads of one token: a unit. They read the same keys and values, which are
 * loaded and converted once for them (plan_call.rows of plan.h says how many heads).
 *
 * Positions are taken in chunks, so that nothing of the context's length is stored: first a chunk's
 * scores scale · q·k, masked to positions up to the token's own, and their maximum; then what was
 * summed before is scaled down to the new maximum (the running softmax of Milakov and Gimelshein
 * 2018) and the chunk's weights and weighted values are added. Within a chunk, a step takes as many
 * positions as a vector has lanes. Caches are [kv head][position][head_dim] f16.
 */
#include "emit.h"

#include <math.h>

#define MAX_HEADS 8
#define MAX_PARTS 256 /* of all heads of a unit */
#define MAX_LANES 16
#define CHUNK     256 /* positions; a multiple of every ISA's lanes */

typedef struct attention {
    emit     *e;
    const op *o;
    uint32_t  d, n_heads, n_kv, unit_heads;
    uint32_t  n_parts; /* vectors of a head: of `lanes` values, the last of what is left */
    val       q, q_stride, k, v;
    val       scores; /* of a chunk: CHUNK f32 for each head of the unit */
    sink      to;
} attention;

/* What a head carries from chunk to chunk. */
typedef struct running {
    val q[MAX_PARTS], sum[MAX_PARTS];
    val most, chunk_most; /* the maximum score */
    val total;            /* the sum of weights, a partial sum a lane */
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

static val score_at(const attention *a, uint32_t head, val start, val position) {
    emit *e = a->e;
    val   at = emit_mul_const(e, emit_sub(e, position, start), 4);
    return emit_at(e, emit_at_const(e, a->scores, 4ull * CHUNK * head), at);
}

/* Writes the scores of positions start … end - 1 and takes their maximum into the heads'. */
static void score_chunk(const attention *a, running *heads, val k_head, val start, val end, val last) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val      least = emit_splat_f32(e, -INFINITY, lanes);
    val      most[MAX_HEADS], scores[MAX_HEADS];
    loop     l = emit_loop_begin(e, start, end, lanes);
    for (uint32_t h = 0; h < a->unit_heads; h++) most[h] = emit_loop_carry(e, &l, least);
    val seen = visible(a, l.i, last);
    emit_scores(a, heads, k_head, l.i, scores);
    for (uint32_t h = 0; h < a->unit_heads; h++) {
        val s = LLVMBuildSelect(e->builder, seen, scores[h], least, "");
        emit_store(e, s, score_at(a, h, start, l.i), 4 * lanes);
        most[h] = emit_fmax(e, s, most[h]);
    }
    emit_loop_end(e, &l, most);
    for (uint32_t h = 0; h < a->unit_heads; h++) heads[h].chunk_most = emit_max_element(e, most[h]);
}

/* Scales what was summed so far down to the maximum that now includes the chunk. */
static void rescale(const attention *a, running *head) {
    emit *e = a->e;
    val   most = emit_fmax(e, head->chunk_most, head->most);
    val   shrink = emit_exp(e, emit_fsub(e, head->most, most));
    head->most = most;
    head->total = emit_fmul(e, head->total, emit_splat(e, shrink, e->isa->lanes));
    for (uint32_t p = 0; p < a->n_parts; p++)
        head->sum[p] = emit_fmul(e, head->sum[p], emit_splat(e, shrink, part_length(a, p)));
}

static void carry_in(const attention *a, loop *l, running *head) {
    emit *e = a->e;
    head->total = emit_loop_carry(e, l, head->total);
    for (uint32_t p = 0; p < a->n_parts; p++) head->sum[p] = emit_loop_carry(e, l, head->sum[p]);
}

static uint32_t carry_out(const attention *a, const running *head, val *next) {
    next[0] = head->total;
    for (uint32_t p = 0; p < a->n_parts; p++) next[1 + p] = head->sum[p];
    return 1 + a->n_parts;
}

/* The weights of `lanes` positions, from their scores. */
static val emit_weights(const attention *a, const running *head, val scores, val seen) {
    emit *e = a->e;
    val   weights = emit_exp(e, emit_fsub(e, scores, emit_splat(e, head->most, e->isa->lanes)));
    return LLVMBuildSelect(e->builder, seen, weights, LLVMConstNull(LLVMTypeOf(weights)), "");
}

/* Adds the values of `lanes` positions, each with its weight from the place of its score: a number
   in memory multiplies a vector without a shuffle. */
static void add_values(const attention *a, running *heads, val v_head, val start, val first) {
    emit *e = a->e;
    for (uint32_t j = 0; j < e->isa->lanes; j++) {
        val position = emit_add(e, first, emit_i64(e, j)), w[MAX_HEADS];
        for (uint32_t h = 0; h < a->unit_heads; h++)
            w[h] = emit_load(e, e->f32, score_at(a, h, start, position), 4);
        for (uint32_t p = 0; p < a->n_parts; p++) {
            val v = cached(a, v_head, position, p);
            for (uint32_t h = 0; h < a->unit_heads; h++)
                heads[h].sum[p] = emit_fma(e, emit_splat(e, w[h], emit_length(v)), v, heads[h].sum[p]);
        }
    }
}

static void sum_chunk(const attention *a, running *heads, val v_head, val start, val end, val last) {
    emit    *e = a->e;
    val      next[EMIT_MAX_CARRIES];
    uint32_t n = 0;
    loop     l = emit_loop_begin(e, start, end, e->isa->lanes);
    for (uint32_t h = 0; h < a->unit_heads; h++) carry_in(a, &l, &heads[h]);
    val seen = visible(a, l.i, last);
    for (uint32_t h = 0; h < a->unit_heads; h++) {
        val place = score_at(a, h, start, l.i);
        val scores = emit_load(e, LLVMTypeOf(heads[h].total), place, 4 * e->isa->lanes);
        val weights = emit_weights(a, &heads[h], scores, seen);
        emit_store(e, weights, place, 4 * e->isa->lanes);
        heads[h].total = emit_fadd(e, heads[h].total, weights);
    }
    add_values(a, heads, v_head, start, l.i);
    for (uint32_t h = 0; h < a->unit_heads; h++) n += carry_out(a, &heads[h], next + n);
    emit_loop_end(e, &l, next);
}

/* Positions 0 … last, for all heads of the unit. */
static void attend(const attention *a, running *heads, val k_head, val v_head, val last) {
    emit    *e = a->e;
    val      next[EMIT_MAX_CARRIES];
    uint32_t n = 0;
    val      end = emit_add(e, last, emit_i64(e, 1));
    loop     chunk = emit_loop_begin(e, emit_i64(e, 0), end, CHUNK);
    for (uint32_t h = 0; h < a->unit_heads; h++) {
        heads[h].most = emit_loop_carry(e, &chunk, emit_f32(e, -INFINITY));
        carry_in(a, &chunk, &heads[h]);
    }
    val full = emit_add(e, chunk.i, emit_i64(e, CHUNK));
    val more = LLVMBuildICmp(e->builder, LLVMIntULT, full, end, "");
    val chunk_end = LLVMBuildSelect(e->builder, more, full, end, "");
    score_chunk(a, heads, k_head, chunk.i, chunk_end, last);
    for (uint32_t h = 0; h < a->unit_heads; h++) rescale(a, &heads[h]);
    sum_chunk(a, heads, v_head, chunk.i, chunk_end, last);
    for (uint32_t h = 0; h < a->unit_heads; h++) {
        next[n++] = heads[h].most;
        n += carry_out(a, &heads[h], next + n);
    }
    emit_loop_end(e, &chunk, next);
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
    for (uint32_t h = 0; h < a->unit_heads; h++) {
        heads[h].total = LLVMConstNull(emit_vector(e->f32, e->isa->lanes));
        for (uint32_t p = 0; p < a->n_parts; p++) {
            type t = emit_vector(e->f32, part_length(a, p));
            heads[h].q[p] = emit_load(e, t, emit_at_const(e, q, 4 * (h * a->d + part_at(a, p))), 4);
            heads[h].sum[p] = LLVMConstNull(t);
        }
    }
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
    const char *name = arena_printf(e->memory, "attention_d%u_h%u_kv%u_s%.9g_u%u%s", a.d, a.n_heads,
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
        a.scores = emit_local(e, 4ull * CHUNK * a.unit_heads);
        loop unit = emit_loop_begin(e, e->begin, e->end, 1);
        emit_unit(&a, unit.i, buffer);
        emit_loop_end(e, &unit, NULL);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}
