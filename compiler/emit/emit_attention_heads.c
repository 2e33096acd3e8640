/* Attention of one token by heads that are taken a few at a time, as many as keep their queries and
 * sums in registers; the rest of their group follows, over the same range of the cache. First a chunk's
 * scores scale · q·k, masked to positions up to the token's own, and their maximum; then what was summed
 * before is scaled down to the new maximum and the chunk's weights and weighted values are added. Within
 * a chunk, a step takes as many positions as a vector has lanes.
 */
#include "emit_attention.h"

#include <math.h>

#define MAX_HEADS  8   /* of a group by heads */
#define MAX_PARTS  256 /* of all of them */
#define TURN_LEAST 5   /* heads of a group for which keys are turned */
#define CHUNK      256 /* positions; a multiple of every ISA's lanes, and ranges of it */

/* The heads of a unit, and where they are in the cache. */
typedef struct by_heads {
    const attention *a;
    uint32_t         n_heads, n_parts; /* vectors of a head: of `lanes` values, the last of what is left */
    val              k, v;             /* of position 0 */
    val              scores;           /* of a chunk: CHUNK f32 for each head */
    val              buffer;           /* a head's values */
} by_heads;

/* What a head carries from chunk to chunk. */
typedef struct running {
    val q[MAX_PARTS], sum[MAX_PARTS];
    val most, chunk_most; /* the maximum score */
    val total;            /* the sum of weights, a partial sum a lane */
} running;

static uint32_t part_at(const by_heads *u, uint32_t p) {
    return p * u->a->e->isa->lanes;
}

static uint32_t part_length(const by_heads *u, uint32_t p) {
    uint32_t left = u->a->d - part_at(u, p), lanes = u->a->e->isa->lanes;
    return left < lanes ? left : lanes;
}

/* Part p of the row of `position` in a cache's head at `base`. */
static val cached(const by_heads *u, val base, val position, uint32_t p) {
    emit *e = u->a->e;
    val   row = emit_at(e, base, emit_mul_const(e, position, 2 * u->a->d));
    return emit_load_f32(e, QUANT_F16, emit_at_const(e, row, 2 * part_at(u, p)), part_length(u, p));
}

/* scale · q·k of `lanes` positions from `first` on, a vector for each head. */
static void emit_scores(const by_heads *u, const running *heads, val first, val *scores) {
    emit    *e = u->a->e;
    uint32_t lanes = e->isa->lanes;
    val      sums[MAX_HEADS][EMIT_MAX_LANES];
    for (uint32_t j = 0; j < lanes; j++) {
        val position = emit_add(e, first, emit_i64(e, j));
        for (uint32_t p = 0; p < u->n_parts; p++) {
            val k = cached(u, u->k, position, p);
            for (uint32_t h = 0; h < u->n_heads; h++) {
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
    val scale = emit_splat_f32(e, u->a->o->params.attn_scale, lanes);
    for (uint32_t h = 0; h < u->n_heads; h++)
        scores[h] = emit_fmul(e, emit_sum_each(e, sums[h], lanes), scale);
}

/* Which of the block's positions are at most `last`. */
static val visible(const by_heads *u, val first, val last) {
    emit    *e = u->a->e;
    uint32_t lanes = e->isa->lanes;
    val left = LLVMBuildTrunc(e->builder, emit_sub(e, last, first), e->i32, "");
    return LLVMBuildICmp(e->builder, LLVMIntULE, emit_iota(e, e->i32, lanes),
                         emit_splat(e, left, lanes), "");
}

static val score_at(const by_heads *u, uint32_t head, val start, val position) {
    emit *e = u->a->e;
    val   at = emit_mul_const(e, emit_sub(e, position, start), 4);
    return emit_at(e, emit_at_const(e, u->scores, 4ull * CHUNK * head), at);
}

/* Writes the scores of positions start … end - 1 and takes their maximum into the heads'. */
static void score_chunk(const by_heads *u, running *heads, val start, val end, val last) {
    emit    *e = u->a->e;
    uint32_t lanes = e->isa->lanes;
    val      least = emit_splat_f32(e, -INFINITY, lanes);
    val      most[MAX_HEADS], scores[MAX_HEADS];
    loop     l = emit_loop_begin(e, start, end, lanes);
    for (uint32_t h = 0; h < u->n_heads; h++) most[h] = emit_loop_carry(e, &l, least);
    val seen = visible(u, l.i, last);
    emit_scores(u, heads, l.i, scores);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        val s = LLVMBuildSelect(e->builder, seen, scores[h], least, "");
        emit_store(e, s, score_at(u, h, start, l.i), 4 * lanes);
        most[h] = emit_fmax(e, s, most[h]);
    }
    emit_loop_end(e, &l, most);
    for (uint32_t h = 0; h < u->n_heads; h++) heads[h].chunk_most = emit_max_element(e, most[h]);
}

/* Scales what was summed so far down to the maximum that now includes the chunk. */
static void rescale(const by_heads *u, running *head) {
    emit *e = u->a->e;
    val   most = emit_fmax(e, head->chunk_most, head->most);
    val   shrink = emit_softmax_weight(e, emit_fsub(e, head->most, most));
    head->most = most;
    head->total = emit_fmul(e, head->total, emit_splat(e, shrink, e->isa->lanes));
    for (uint32_t p = 0; p < u->n_parts; p++)
        head->sum[p] = emit_fmul(e, head->sum[p], emit_splat(e, shrink, part_length(u, p)));
}

static void carry_in(const by_heads *u, loop *l, running *head) {
    emit *e = u->a->e;
    head->total = emit_loop_carry(e, l, head->total);
    for (uint32_t p = 0; p < u->n_parts; p++) head->sum[p] = emit_loop_carry(e, l, head->sum[p]);
}

static uint32_t carry_out(const by_heads *u, const running *head, val *next) {
    next[0] = head->total;
    for (uint32_t p = 0; p < u->n_parts; p++) next[1 + p] = head->sum[p];
    return 1 + u->n_parts;
}

/* Adds the values of `lanes` positions, each with its weight from the place of its score: a number
   in memory multiplies a vector without a shuffle. */
static void add_values(const by_heads *u, running *heads, val start, val first) {
    emit *e = u->a->e;
    for (uint32_t j = 0; j < e->isa->lanes; j++) {
        val position = emit_add(e, first, emit_i64(e, j)), w[MAX_HEADS];
        for (uint32_t h = 0; h < u->n_heads; h++)
            w[h] = emit_load(e, e->f32, score_at(u, h, start, position), 4);
        for (uint32_t p = 0; p < u->n_parts; p++) {
            val v = cached(u, u->v, position, p);
            for (uint32_t h = 0; h < u->n_heads; h++)
                heads[h].sum[p] = emit_fma(e, emit_splat(e, w[h], emit_length(v)), v, heads[h].sum[p]);
        }
    }
}

static void sum_chunk(const by_heads *u, running *heads, val start, val end) {
    emit    *e = u->a->e;
    val      next[EMIT_MAX_CARRIES];
    uint32_t n = 0;
    loop     l = emit_loop_begin(e, start, end, e->isa->lanes);
    for (uint32_t h = 0; h < u->n_heads; h++) carry_in(u, &l, &heads[h]);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        val place = score_at(u, h, start, l.i);
        val scores = emit_load(e, LLVMTypeOf(heads[h].total), place, 4 * e->isa->lanes);
        val weights = emit_softmax_weight(e, emit_fsub(e, scores, emit_splat(e, heads[h].most, e->isa->lanes)));
        emit_store(e, weights, place, 4 * e->isa->lanes);
        heads[h].total = emit_fadd(e, heads[h].total, weights);
    }
    add_values(u, heads, start, l.i);
    for (uint32_t h = 0; h < u->n_heads; h++) n += carry_out(u, &heads[h], next + n);
    emit_loop_end(e, &l, next);
}

/* Positions from … end - 1, for all heads of the unit; its token stands at `last`. */
static void attend(const by_heads *u, running *heads, val from, val end, val last) {
    emit    *e = u->a->e;
    val      next[EMIT_MAX_CARRIES];
    uint32_t n = 0;
    loop     chunk = emit_loop_begin(e, from, end, CHUNK);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        heads[h].most = emit_loop_carry(e, &chunk, emit_f32(e, -INFINITY));
        carry_in(u, &chunk, &heads[h]);
    }
    val chunk_end = emit_min(e, emit_add(e, chunk.i, emit_i64(e, CHUNK)), end);
    score_chunk(u, heads, chunk.i, chunk_end, last);
    for (uint32_t h = 0; h < u->n_heads; h++) rescale(u, &heads[h]);
    sum_chunk(u, heads, chunk.i, chunk_end);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        next[n++] = heads[h].most;
        n += carry_out(u, &heads[h], next + n);
    }
    emit_loop_end(e, &chunk, next);
}

static void load_heads(const by_heads *u, running *heads, val token, val first) {
    emit *e = u->a->e;
    val   q = attention_query(u->a, token, first);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        heads[h].total = LLVMConstNull(emit_vector(e->f32, e->isa->lanes));
        for (uint32_t p = 0; p < u->n_parts; p++) {
            type t = emit_vector(e->f32, part_length(u, p));
            heads[h].q[p] = emit_load(e, t, emit_at_const(e, q, 4 * (h * u->a->d + part_at(u, p))), 4);
            heads[h].sum[p] = LLVMConstNull(t);
        }
    }
}

static void finish_head(const by_heads *u, const running *head, const attention_row *row) {
    emit *e = u->a->e;
    for (uint32_t p = 0; p < u->n_parts; p++)
        emit_store(e, head->sum[p], emit_at_const(e, u->buffer, 4 * part_at(u, p)), 4);
    attention_finish(u->a, row, u->buffer, head->most, emit_sum(e, head->total));
}

static void emit_heads(by_heads *u, val kv_head, val token, val range) {
    emit    *e = u->a->e;
    running *heads = ARENA_ARRAY(e->memory, running, u->n_heads);
    val      last = emit_add(e, e->pos, token), end = emit_add(e, last, emit_i64(e, 1));
    val      from = emit_i64(e, 0), first = emit_mul_const(e, kv_head, u->a->group);
    if (range) {
        from = emit_mul_const(e, range, u->a->range);
        end = emit_min(e, end, emit_add(e, from, emit_i64(e, u->a->range)));
    }
    branch any = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, from, end, ""));
    u->k = attention_cache(u->a, u->a->k, kv_head);
    u->v = attention_cache(u->a, u->a->v, kv_head);
    loop l = emit_loop_begin(e, first, emit_add(e, first, emit_i64(e, u->a->group)), u->n_heads);
    load_heads(u, heads, token, l.i);
    attend(u, heads, from, end, last);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        attention_row row = {.token = token, .head = emit_add(e, l.i, emit_i64(e, h)), .range = range};
        finish_head(u, &heads[h], &row);
    }
    emit_loop_end(e, &l, NULL);
    emit_if_end(e, &any);
}

static uint32_t count_parts(const attention *a) {
    return (a->d + a->e->isa->lanes - 1) / a->e->isa->lanes;
}

/* As many heads at a time as keep their queries and sums in registers. */
static uint32_t heads_at_a_time(const attention *a) {
    uint32_t n = a->group < MAX_HEADS ? a->group : MAX_HEADS;
    while (n > 1 && (a->group % n || n * count_parts(a) > a->e->isa->registers / 4)) n--;
    return n;
}

/* Whether a group goes by heads. Turning the keys pays where many heads share them, or where it is dear
   to convert them more than once; a single head shares them with none. */
bool attention_goes_by_heads(const attention *a) {
    if (heads_at_a_time(a) * count_parts(a) > MAX_PARTS) return false;
    return heads_at_a_time(a) == a->group || (a->group < TURN_LEAST && a->e->isa->native_f16);
}

void attention_by_heads(const attention *a, val kv_head, val token, val range) {
    emit    *e = a->e;
    by_heads u = {.a = a, .n_heads = heads_at_a_time(a), .n_parts = count_parts(a)};
    u.scores = emit_local(e, 4ull * CHUNK * u.n_heads);
    u.buffer = emit_local(e, 4ull * a->d);
    emit_heads(&u, kv_head, token, range);
}
