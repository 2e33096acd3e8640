/* The kernels of attention, and the units of groups whose queries and sums fit the registers: there
 * the heads of a group are taken together, one token at a time. First a chunk's scores scale · q·k,
 * masked to positions up to the token's own, and their maximum; then what was summed before is scaled
 * down to the new maximum and the chunk's weights and weighted values are added. Within a chunk, a
 * step takes as many positions as a vector has lanes. Larger groups, and all of a long batch, go by
 * tiles. emit_attention.h says what units there are.
 */
#include "emit_attention.h"

#include <math.h>

#define MAX_HEADS  8   /* of a group by heads */
#define MAX_PARTS  256 /* of all of them */
#define TURN_LEAST 5   /* heads of a group for which keys are turned */
#define CHUNK      256 /* positions; a multiple of every ISA's lanes, and ranges of it */
#define TILE_ROWS  128 /* of a block of tokens, about */
#define TILE_BLOCK 64  /* tokens of a block at most */
#define TILE_LEAST 8   /* and at least, where it has no more than TILE_BYTES of queries */
#define TILE_BYTES (128 << 10)
#define TILE_UNITS 16  /* that a batch is split into, where its blocks would be larger than TILE_LEAST */

/* ---- operands of units */

val attention_cache(const attention *a, val cache, val kv_head) {
    emit *e = a->e;
    val   at = emit_mul_const(e, kv_head, 2ull * a->d * e->plan->n_ctx_padded);
    return emit_at(e, emit_at(e, e->kv, cache), at);
}

val attention_query(const attention *a, val token, val head) {
    emit *e = a->e;
    val   q = emit_at(e, emit_at(e, e->arena, a->q), emit_mul(e, token, a->q_stride));
    return emit_at(e, q, emit_mul_const(e, head, 4 * a->d));
}

val attention_ranges(const attention *a, val position) {
    emit *e = a->e;
    if (a->n_ranges == 1) return emit_i64(e, 1);
    return emit_add(e, attention_divide(e, position, a->range), emit_i64(e, 1));
}

val attention_divide(emit *e, val n, uint32_t by) {
    val narrow = LLVMBuildTrunc(e->builder, n, e->i32, "");
    return emit_wide(e, LLVMBuildUDiv(e->builder, narrow, emit_i32(e, by), ""));
}

val attention_remainder(emit *e, val n, uint32_t by) {
    return emit_sub(e, n, emit_mul_const(e, attention_divide(e, n, by), by));
}

static val smaller(emit *e, val a, val b) {
    return LLVMBuildSelect(e->builder, LLVMBuildICmp(e->builder, LLVMIntULT, a, b, ""), a, b, "");
}

/* ---- a group by heads */

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
    val   shrink = emit_exp(e, emit_fsub(e, head->most, most));
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

/* The weights of `lanes` positions, from their scores. */
static val emit_weights(const by_heads *u, const running *head, val scores, val seen) {
    emit *e = u->a->e;
    val   weights = emit_exp(e, emit_fsub(e, scores, emit_splat(e, head->most, e->isa->lanes)));
    return LLVMBuildSelect(e->builder, seen, weights, LLVMConstNull(LLVMTypeOf(weights)), "");
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

static void sum_chunk(const by_heads *u, running *heads, val start, val end, val last) {
    emit    *e = u->a->e;
    val      next[EMIT_MAX_CARRIES];
    uint32_t n = 0;
    loop     l = emit_loop_begin(e, start, end, e->isa->lanes);
    for (uint32_t h = 0; h < u->n_heads; h++) carry_in(u, &l, &heads[h]);
    val seen = visible(u, l.i, last);
    for (uint32_t h = 0; h < u->n_heads; h++) {
        val place = score_at(u, h, start, l.i);
        val scores = emit_load(e, LLVMTypeOf(heads[h].total), place, 4 * e->isa->lanes);
        val weights = emit_weights(u, &heads[h], scores, seen);
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
    val chunk_end = smaller(e, emit_add(e, chunk.i, emit_i64(e, CHUNK)), end);
    score_chunk(u, heads, chunk.i, chunk_end, last);
    for (uint32_t h = 0; h < u->n_heads; h++) rescale(u, &heads[h]);
    sum_chunk(u, heads, chunk.i, chunk_end, last);
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
        end = smaller(e, end, emit_add(e, from, emit_i64(e, u->a->range)));
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
static bool goes_by_heads(const attention *a) {
    if (heads_at_a_time(a) * count_parts(a) > MAX_PARTS) return false;
    return heads_at_a_time(a) == a->group || (a->group < TURN_LEAST && a->e->isa->native_f16);
}

/* ---- units */

/* n / by, not known before. Processors without such an instruction, which the generic ISA must expect,
   would call a library for it: there it is done bit by bit. */
static val divide(const attention *a, val n, val by) {
    emit *e = a->e;
    val   args[] = {n, by};
    if (!a->divide) return LLVMBuildUDiv(e->builder, n, by, "");
    return LLVMBuildCall2(e->builder, LLVMGlobalGetValueType(a->divide), a->divide, args, 2, "");
}

static val divide_function(emit *e) {
    type params[] = {e->i64, e->i64};
    if (e->isa->arch) return NULL;
    if (!emit_function_begin(e, "divide", e->i64, params, 2)) return LLVMGetNamedFunction(e->module, "divide");
    val  zero = emit_i64(e, 0), one = emit_i64(e, 1), by = LLVMGetParam(e->fn, 1), next[3];
    loop l = emit_loop_begin(e, zero, emit_i64(e, 64), 1);
    val  n = emit_loop_carry(e, &l, LLVMGetParam(e->fn, 0));
    val  rest = emit_loop_carry(e, &l, zero), quotient = emit_loop_carry(e, &l, zero);
    val  top = LLVMBuildLShr(e->builder, n, emit_i64(e, 63), "");
    rest = emit_add(e, emit_add(e, rest, rest), top);
    val fits = LLVMBuildICmp(e->builder, LLVMIntUGE, rest, by, "");
    next[0] = emit_add(e, n, n);
    next[1] = LLVMBuildSelect(e->builder, fits, emit_sub(e, rest, by), rest, "");
    next[2] = emit_add(e, emit_add(e, quotient, quotient), LLVMBuildSelect(e->builder, fits, one, zero, ""));
    emit_loop_end(e, &l, next);
    LLVMBuildRet(e->builder, next[2]);
    return LLVMGetNamedFunction(e->module, "divide");
}

/* How units are counted in one kind of batch. */
typedef struct units {
    val block;           /* tokens of a block */
    val n_blocks;
    val n_ranges;
    val first, end;      /* what this kernel does of them */
} units;

/* The part of n_kv · n_blocks · n_ranges units that begin … end are of all that there could be. */
static void share_units(const attention *a, units *u) {
    emit *e = a->e;
    val   all = emit_mul_const(e, e->n_tokens, a->n_kv * a->n_ranges);
    val   used = emit_mul_const(e, emit_mul(e, u->n_blocks, u->n_ranges), a->n_kv);
    u->first = divide(a, emit_mul(e, e->begin, used), all);
    u->end = divide(a, emit_mul(e, e->end, used), all);
}

static val count_blocks(const attention *a, val block) {
    emit *e = a->e;
    return divide(a, emit_sub(e, emit_add(e, e->n_tokens, block), emit_i64(e, 1)), block);
}

/* Tokens of a block of at most TILE_ROWS rows, whose queries take at most TILE_BYTES. */
static uint32_t block_tokens(const attention *a) {
    uint32_t n = TILE_ROWS / a->group, least = TILE_BYTES / 4 / (a->group * a->d);
    if (n < TILE_LEAST) n = TILE_LEAST;
    if (n > TILE_BLOCK) n = TILE_BLOCK;
    if (n > least) n = least;
    return n ? n : 1;
}

/* ---- a few tokens */

static void few_by_heads(const attention *a, val kv_head, val token, val range) {
    emit    *e = a->e;
    by_heads u = {.a = a, .n_heads = heads_at_a_time(a), .n_parts = count_parts(a)};
    u.scores = emit_local(e, 4ull * CHUNK * u.n_heads);
    u.buffer = emit_local(e, 4ull * a->d);
    emit_heads(&u, kv_head, token, range);
}

static uint32_t few_block(const attention *a) {
    uint32_t most = block_tokens(a);
    return goes_by_heads(a) ? 1 : most < PLAN_FEW_TOKENS ? most : PLAN_FEW_TOKENS;
}

static void emit_few(const attention *a, const tiling *t, val function) {
    emit *e = a->e;
    units u = {.block = emit_i64(e, few_block(a)), .n_ranges = emit_i64(e, 1)};
    val   last = emit_sub(e, emit_add(e, e->pos, e->n_tokens), emit_i64(e, 1));
    val   rounded = emit_add(e, e->n_tokens, emit_i64(e, few_block(a) - 1));
    u.n_blocks = attention_divide(e, rounded, few_block(a));
    if (a->n_ranges > 1) u.n_ranges = attention_ranges(a, last);
    u.first = e->begin;
    u.end = e->end;
    if (few_block(a) > 1 || a->n_ranges > 1) share_units(a, &u); /* else they are as planned */
    branch any = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, u.first, u.end, ""));
    loop   l = emit_loop_begin(e, u.first, u.end, 1);
    val    rest = a->n_ranges > 1 ? divide(a, l.i, u.n_ranges) : l.i;
    val    range = a->n_ranges > 1 ? emit_sub(e, l.i, emit_mul(e, rest, u.n_ranges)) : NULL;
    val    kv_head = attention_remainder(e, rest, a->n_kv);
    val    token = emit_mul(e, attention_divide(e, rest, a->n_kv), u.block);
    if (function) {
        attention_block b = {.function = function, .kv_head = kv_head, .token = token, .range = range};
        b.count = smaller(e, emit_sub(e, e->n_tokens, token), u.block);
        b.frame = emit_local(e, attention_frame_bytes(a, t, few_block(a) * a->group));
        attention_tile_block(a, t, &b);
    } else {
        few_by_heads(a, kv_head, token, range);
    }
    emit_loop_end(e, &l, NULL);
    emit_if_end(e, &any);
}

/* ---- many tokens */

/* Blocks get smaller where there would be few of them. */
static val choose_block(const attention *a) {
    emit    *e = a->e;
    uint32_t most = block_tokens(a), least = most < TILE_LEAST ? most : TILE_LEAST;
    val      even = attention_divide(e, emit_mul_const(e, e->n_tokens, a->n_kv), TILE_UNITS);
    val      low = LLVMBuildICmp(e->builder, LLVMIntULT, even, emit_i64(e, least), "");
    even = LLVMBuildSelect(e->builder, low, emit_i64(e, least), even, "");
    return smaller(e, even, emit_i64(e, most));
}

/* The last block has most positions to see: first, last, second, second last, … so that any half of
   a kv head's blocks has about half of the work. */
static val fold(emit *e, val i, val n) {
    val half = attention_divide(e, i, 2), one = emit_i64(e, 1);
    val back = emit_sub(e, emit_sub(e, n, one), half);
    val odd = LLVMBuildTrunc(e->builder, i, e->i1, "");
    return LLVMBuildSelect(e->builder, odd, back, half, "");
}

static void emit_many(const attention *a, const tiling *t, val function) {
    emit *e = a->e;
    units u = {.block = choose_block(a), .n_ranges = emit_i64(e, 1)};
    u.n_blocks = count_blocks(a, u.block);
    share_units(a, &u);
    branch any = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, u.first, u.end, ""));
    loop   l = emit_loop_begin(e, u.first, u.end, 1);
    attention_block b = {.function = function, .kv_head = divide(a, l.i, u.n_blocks)};
    val    number = emit_sub(e, l.i, emit_mul(e, b.kv_head, u.n_blocks));
    b.token = emit_mul(e, fold(e, number, u.n_blocks), u.block);
    b.count = smaller(e, emit_sub(e, e->n_tokens, b.token), u.block);
    b.frame = emit_local(e, attention_frame_bytes(a, t, block_tokens(a) * a->group));
    attention_tile_block(a, t, &b);
    emit_loop_end(e, &l, NULL);
    emit_if_end(e, &any);
}

/* ---- the kernels */

static attention begin(emit *e, const plan_call *c) {
    const op *o = c->op;
    attention a = {.e = e, .o = o, .d = o->params.head_dim, .range = c->range};
    a.n_kv = (uint32_t)o->in[1]->ne[1];
    a.n_heads = (uint32_t)(value_count(o->in[0]) / a.d);
    a.group = a.n_heads / a.n_kv;
    a.divide = divide_function(e);
    a.n_ranges = a.range ? (e->plan->n_ctx + a.range - 1) / a.range : 1;
    return a;
}

static void ask_operands(attention *a, const plan_call *c) {
    emit     *e = a->e;
    const op *o = a->o;
    a->q = emit_operand(e, o->in[0]->offset);
    a->q_stride = emit_operand(e, o->in[0]->stride);
    a->k = emit_operand(e, o->in[1]->offset);
    a->v = emit_operand(e, o->in[2]->offset);
    if (c->range) a->scratch = emit_operand(e, c->scratch);
    a->to = emit_sink_begin(e, o);
}

static const char *kernel_name(const attention *a, const char *what) {
    return arena_printf(a->e->memory, "attention_%s_d%u_h%u_kv%u_s%.9g_p%u%s", what, a->d, a->n_heads, a->n_kv,
                        (double)a->o->params.attn_scale, a->range, emit_sink_key(a->e, a->o));
}

static val few_kernel(emit *e, const plan_call *c) {
    attention   a = begin(e, c);
    tiling      t = attention_tiling(&a, a.group);
    val         function = goes_by_heads(&a) ? NULL : attention_tile_function(&a, &t);
    const char *name = kernel_name(&a, "few");
    bool        fresh = emit_kernel_begin(e, name);
    ask_operands(&a, c);
    if (fresh) {
        emit_few(&a, &t, function);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}

/* A batch that is not long is left to the other kernel, which is given what this one was. */
static void pass_on(emit *e, val kernel) {
    val args[4];
    for (uint32_t i = 0; i < 4; i++) args[i] = LLVMGetParam(e->fn, i);
    LLVMBuildCall2(e->builder, LLVMGlobalGetValueType(kernel), kernel, args, 4, "");
}

static val many_kernel(emit *e, const plan_call *c) {
    val         few = few_kernel(e, c);
    attention   a = begin(e, c);
    tiling      t = attention_tiling(&a, block_tokens(&a) * a.group);
    val         function = attention_tile_function(&a, &t);
    const char *name = kernel_name(&a, "many");
    bool        fresh = emit_kernel_begin(e, name);
    ask_operands(&a, c);
    if (fresh) {
        val    most = emit_i64(e, PLAN_FEW_TOKENS);
        branch is_few = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULE, e->n_tokens, most, ""));
        pass_on(e, few);
        emit_if_end(e, &is_few);
        branch is_many = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntUGT, e->n_tokens, most, ""));
        emit_many(&a, &t, function);
        emit_if_end(e, &is_many);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}

/* Units are heads of tokens; after a long batch nothing is left to do. */
static val merge_kernel(emit *e, const plan_call *c) {
    attention   a = begin(e, c);
    const char *name = kernel_name(&a, "merge");
    bool        fresh = emit_kernel_begin(e, name);
    ask_operands(&a, c);
    if (fresh) {
        val    most = emit_i64(e, PLAN_FEW_TOKENS);
        branch is_few = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULE, e->n_tokens, most, ""));
        loop   l = emit_loop_begin(e, e->begin, e->end, 1);
        attention_merge(&a, attention_divide(e, l.i, a.n_heads), attention_remainder(e, l.i, a.n_heads));
        emit_loop_end(e, &l, NULL);
        emit_if_end(e, &is_few);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}

val emit_attention(emit *e, const plan_call *c, bool prefill) {
    if (c->step == PLAN_MERGE) return merge_kernel(e, c);
    return prefill ? many_kernel(e, c) : few_kernel(e, c);
}
