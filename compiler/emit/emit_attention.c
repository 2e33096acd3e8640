/* The kernels of attention and the units they make of a batch: emit_attention.h says what units there
 * are. A few tokens are split over heads and ranges of the cache, many over heads and blocks of tokens.
 */
#include "emit_attention.h"

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

/* ---- units */

/* n / by, not known before. Processors without such an instruction, which the generic ISA must expect,
   would call a library for it: there it is done bit by bit. */
static val divide(const attention *a, val n, val by) {
    emit *e = a->e;
    val   args[] = {n, by};
    if (!a->divide) return LLVMBuildUDiv(e->builder, n, by, "");
    return emit_function_call(e, a->divide, args, 2);
}

static val divide_function(emit *e) {
    type params[] = {e->i64, e->i64};
    if (e->isa->arch) return NULL;
    if (!emit_function_begin(e, "divide", e->i64, params, 2))
        return LLVMGetNamedFunction(e->module, "divide");
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

static uint32_t few_block(const attention *a) {
    uint32_t most = block_tokens(a);
    return attention_goes_by_heads(a) ? 1 : most < PLAN_FEW_TOKENS ? most : PLAN_FEW_TOKENS;
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
        b.count = emit_min(e, emit_sub(e, e->n_tokens, token), u.block);
        b.frame = emit_local(e, attention_frame_bytes(a, t, few_block(a) * a->group));
        attention_tile_block(a, t, &b);
    } else {
        attention_by_heads(a, kv_head, token, range);
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
    return emit_min(e, even, emit_i64(e, most));
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
    b.count = emit_min(e, emit_sub(e, e->n_tokens, b.token), u.block);
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
    return arena_printf(a->e->memory, "attention_%s_d%u_h%u_kv%u_s%.9g_p%u%s", what, a->d, a->n_heads,
                        a->n_kv, (double)a->o->params.attn_scale, a->range, emit_sink_key(a->e, a->o));
}

static val few_kernel(emit *e, const plan_call *c) {
    attention   a = begin(e, c);
    tiling      t = attention_tiling(&a, a.group);
    val         function = attention_goes_by_heads(&a) ? NULL : attention_tile_function(&a, &t);
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
    emit_function_call(e, kernel, args, 4);
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

val emit_attention(emit *e, const plan_call *c) {
    if (c->step == PLAN_MERGE) return merge_kernel(e, c);
    return e->form == EMIT_ONE ? few_kernel(e, c) : many_kernel(e, c);
}
