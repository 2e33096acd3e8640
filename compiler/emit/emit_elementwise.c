/* All ops whose unit is a token: embedding, norms, sums, products, rotation, and those that only
 * convert. Each is a function that makes values [at, at + n) of a token's row; a frame around them
 * walks the row in parts and gives the parts to the sinks. */
#include "emit_block.h"

typedef struct tokenwise {
    emit    *e;
    const op *o;
    val      in[OP_MAX_INPUTS], stride[OP_MAX_INPUTS];
    sink     to;
    val      token;
    val      buffer; /* of a row, OP_ROPE and OP_ROPE_TABLE */
    val      row;    /* OP_GET_ROWS: the weights' row; OP_RMS_NORM: the factor */
} tokenwise;

static val input_row(const tokenwise *w, uint32_t k) {
    emit *e = w->e;
    if (w->o->in[k]->kind == VALUE_WEIGHT) return emit_at(e, e->weights, w->in[k]);
    val token = emit_input_token(e, w->o, w->o->in[k], w->token);
    return emit_at(e, emit_at(e, e->arena, w->in[k]), emit_mul(e, token, w->stride[k]));
}

/* Values [at, at + n) of input k. */
static val input(const tokenwise *w, uint32_t k, val at, uint32_t n) {
    enum quant_type from = (enum quant_type)w->o->in[k]->type;
    val bytes = emit_mul_const(w->e, at, quant_row_bytes(from, 1));
    return emit_load_f32(w->e, from, emit_at(w->e, input_row(w, k), bytes), n);
}

/* ---- parts: what an op's result is at [at, at + n) */

typedef val part(const tokenwise *w, val at, uint32_t n);

static val part_copy(const tokenwise *w, val at, uint32_t n) {
    return input(w, 0, at, n);
}

static val part_add(const tokenwise *w, val at, uint32_t n) {
    return emit_fadd(w->e, input(w, 0, at, n), input(w, 1, at, n));
}

static val part_mul(const tokenwise *w, val at, uint32_t n) {
    return emit_fmul(w->e, input(w, 0, at, n), input(w, 1, at, n));
}

static val part_swiglu(const tokenwise *w, val at, uint32_t n) {
    return emit_fmul(w->e, emit_silu(w->e, input(w, 0, at, n)), input(w, 1, at, n));
}

static val part_get_rows(const tokenwise *w, val at, uint32_t n) {
    enum quant_type from = (enum quant_type)w->o->in[0]->type;
    return emit_load_f32(w->e, from, emit_at(w->e, w->row, emit_row_bytes(w->e, from, at)), n);
}

static val part_buffer(const tokenwise *w, val at, uint32_t n) {
    emit *e = w->e;
    return emit_load(e, emit_vector(e->f32, n), emit_at(e, w->buffer, emit_mul_const(e, at, 4)), 4);
}

/* `at` counts over all rows of x; the weight is as long as one. */
static val part_rms_norm(const tokenwise *w, val at, uint32_t n) {
    emit *e = w->e;
    val   y = emit_fmul(e, input(w, 0, at, n), emit_splat(e, w->row, n));
    if (!w->o->in[1]) return y;
    val within = LLVMBuildURem(e->builder, at, emit_i64(e, w->o->in[0]->ne[0]), "");
    return emit_fmul(e, y, input(w, 1, within, n));
}

/* ---- walking a row */

/* Gives values [from, from + count) to the sinks, `width` at a time. */
static void walk(const tokenwise *w, part *make, val from, uint64_t count, uint32_t width) {
    emit    *e = w->e;
    uint64_t whole = count / width * width;
    if (whole) {
        loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, whole), width);
        val  at = emit_add(e, from, l.i);
        emit_sink(e, &w->to, w->token, at, make(w, at, width));
        emit_loop_end(e, &l, NULL);
    }
    if (whole == count) return;
    val at = emit_add(e, from, emit_i64(e, whole));
    emit_sink(e, &w->to, w->token, at, make(w, at, (uint32_t)(count - whole)));
}

/* ---- ops */

/* 1 / sqrt(mean(x²) + eps) of the row of `n` at `from`. */
static val norm_factor(const tokenwise *w, val from, uint64_t n) {
    enum { SUMS = 4 };
    emit    *e = w->e;
    uint32_t lanes = e->isa->lanes;
    uint64_t whole = n / (SUMS * lanes) * SUMS * lanes;
    val      sums[SUMS];
    for (int s = 0; s < SUMS; s++) sums[s] = LLVMConstNull(emit_vector(e->f32, lanes));
    if (whole) {
        loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, whole), SUMS * lanes);
        for (int s = 0; s < SUMS; s++) sums[s] = emit_loop_carry(e, &l, sums[s]);
        for (uint32_t s = 0; s < SUMS; s++) {
            val at = emit_add(e, from, emit_add(e, l.i, emit_i64(e, (uint64_t)s * lanes)));
            val x = input(w, 0, at, lanes);
            sums[s] = emit_fma(e, x, x, sums[s]);
        }
        emit_loop_end(e, &l, sums);
    }
    val sum = emit_sum(e, emit_fadd(e, emit_fadd(e, sums[0], sums[1]), emit_fadd(e, sums[2], sums[3])));
    for (uint64_t at = whole; at < n; at += lanes) {
        val x = input(w, 0, emit_add(e, from, emit_i64(e, at)),
                      n - at < lanes ? (uint32_t)(n - at) : lanes);
        sum = emit_fadd(e, sum, emit_sum(e, emit_fmul(e, x, x)));
    }
    val mean = emit_fdiv(e, sum, emit_f32(e, (double)n));
    val root = emit_sqrt(e, emit_fadd(e, mean, emit_f32(e, (double)w->o->params.eps)));
    return emit_fdiv(e, emit_f32(e, 1), root);
}

static void rms_norm(tokenwise *w) {
    emit    *e = w->e;
    uint64_t n = w->o->in[0]->ne[0], rows = value_count(w->o->in[0]) / n;
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, rows), 1);
    val      from = emit_mul_const(e, l.i, n);
    w->row = norm_factor(w, from, n);
    walk(w, part_rms_norm, from, n, emit_sink_width(e, w->o));
    emit_loop_end(e, &l, NULL);
}

/* Only the rows that are asked for are taken apart. */
static void get_blocks(const tokenwise *w, const value *table) {
    emit             *e = w->e;
    const emit_block *b = emit_block_find((enum quant_type)table->type);
    uint32_t          length = quant_find(table->type)->block_len, piece = 32;
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, table->ne[0]), length);
    val  block = emit_at(e, w->row, emit_row_bytes(e, b->weight, l.i));
    for (uint32_t i = 0; i < length; i += piece)
        emit_sink(e, &w->to, w->token, emit_add(e, l.i, emit_i64(e, i)), emit_block_values(e, b, block, i, piece));
    emit_loop_end(e, &l, NULL);
}

static void get_rows(tokenwise *w) {
    emit *e = w->e;
    const value *table = w->o->in[0];
    val at = emit_at(e, e->tokens, emit_mul_const(e, w->token, 4));
    val id = LLVMBuildSExt(e->builder, emit_load(e, e->i32, at, 4), e->i64, "");
    w->row = emit_at(e, emit_at(e, e->weights, w->in[0]),
                     emit_mul_const(e, id, quant_row_bytes(table->type, table->ne[0])));
    if (emit_block_find((enum quant_type)table->type))
        get_blocks(w, table);
    else
        walk(w, part_get_rows, emit_i64(e, 0), table->ne[0], emit_sink_width(e, w->o));
}

/* A cache row must not be written across the end of a head. */
static void kv_store(tokenwise *w) {
    emit    *e = w->e;
    uint64_t d = w->o->out->ne[0];
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, w->o->out->ne[1]), 1);
    walk(w, part_copy, emit_mul_const(e, l.i, d), d, e->isa->lanes);
    emit_loop_end(e, &l, NULL);
}

static void rope(tokenwise *w) {
    emit    *e = w->e;
    uint64_t d = w->o->params.head_dim, heads = value_count(w->o->out) / d;
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, heads), 1);
    val      from = emit_mul_const(e, l.i, d);
    for (uint32_t i = 0; i < d; i += e->isa->lanes) {
        uint32_t n = d - i < e->isa->lanes ? (uint32_t)(d - i) : e->isa->lanes;
        emit_store(e, input(w, 0, emit_add(e, from, emit_i64(e, i)), n),
                   emit_at_const(e, w->buffer, 4 * i), 4);
    }
    emit_rotate(e, &w->o->params, w->buffer, input_row(w, 1));
    for (uint32_t i = 0; i < d; i += e->isa->lanes) {
        uint32_t n = d - i < e->isa->lanes ? (uint32_t)(d - i) : e->isa->lanes;
        emit_sink(e, &w->to, w->token, emit_add(e, from, emit_i64(e, i)),
                  part_buffer(w, emit_i64(e, i), n));
    }
    emit_loop_end(e, &l, NULL);
}

static void rope_table(tokenwise *w) {
    emit    *e = w->e;
    uint32_t pairs = w->o->params.rope_dims / 2, width = e->isa->lanes / 2;
    val      table = emit_rope_frequencies(e, &w->o->params);
    val      number = LLVMBuildTrunc(e->builder, emit_add(e, e->pos, w->token), e->i32, "");
    val      position = emit_cast(e, LLVMUIToFP, number, e->f64); /* of i64, ARM would call a library */
    for (uint32_t i = 0; i < pairs; i += width) {
        uint32_t n = pairs - i < width ? pairs - i : width;
        val f = emit_load(e, emit_vector(e->f64, n), emit_at_const(e, table, 8 * i), 8);
        val angle = emit_fmul(e, f, emit_splat(e, position, n)), s, c;
        if (w->o->in[0]) {
            val factor = input(w, 0, emit_i64(e, i), n);
            angle = emit_fdiv(e, angle, emit_cast(e, LLVMFPExt, factor, e->f64));
        }
        emit_sincos(e, angle, &s, &c);
        emit_sink(e, &w->to, w->token, emit_i64(e, i), emit_cast(e, LLVMFPTrunc, c, e->f32));
        emit_sink(e, &w->to, w->token, emit_i64(e, pairs + i), emit_cast(e, LLVMFPTrunc, s, e->f32));
    }
}

static void each_part(tokenwise *w) {
    static part *const parts[OP_KIND_COUNT] = {
        [OP_ADD] = part_add,
        [OP_MUL] = part_mul,
        [OP_SWIGLU] = part_swiglu,
        [OP_QUANTIZE] = part_copy,
    };
    walk(w, parts[w->o->kind], emit_i64(w->e, 0), value_count(w->o->out),
         emit_sink_width(w->e, w->o));
}

static void (*const emitters[OP_KIND_COUNT])(tokenwise *w) = {
    [OP_GET_ROWS] = get_rows,     [OP_RMS_NORM] = rms_norm, [OP_ADD] = each_part,
    [OP_MUL] = each_part,         [OP_SWIGLU] = each_part,  [OP_QUANTIZE] = each_part,
    [OP_ROPE] = rope,             [OP_KV_STORE] = kv_store, [OP_ROPE_TABLE] = rope_table,
};

/* What the code depends on besides the operands. */
static const char *kernel_name(emit *e, const op *o) {
    const char *name = arena_printf(e->memory, "%s_n%llu", op_infos[o->kind].name,
                                    (unsigned long long)value_count(o->out));
    for (uint32_t k = 0; k < o->n_in; k++) {
        if (!o->in[k] || o->in[k]->kind == VALUE_TOKENS) continue;
        name = arena_printf(e->memory, "%s_%s%s%llu", name,
                            o->in[k]->kind == VALUE_WEIGHT ? "w" : "", quant_find(o->in[k]->type)->name,
                            (unsigned long long)o->in[k]->ne[0]);
        if (emit_reads_body(o, o->in[k])) name = arena_printf(e->memory, "%s_one", name);
    }
    return arena_printf(e->memory, "%s%s%s%s", name, graph_params_text(e->memory, o, "_", ""),
                        emit_sink_key(e, o), o->head ? "_head" : "");
}

static void operands(tokenwise *w) {
    for (uint32_t k = 0; k < w->o->n_in; k++) {
        const value *v = w->o->in[k];
        if (!v || v->kind == VALUE_TOKENS) continue;
        bool made = v->kind == VALUE_ACTIVATION;
        w->in[k] = made ? emit_place(w->e, w->o, v) : emit_operand(w->e, v->offset);
        if (made) w->stride[k] = emit_operand(w->e, v->stride);
    }
    w->to = emit_sink_begin(w->e, w->o);
}

val emit_elementwise(emit *e, const plan_call *c) {
    const char *name = kernel_name(e, c->op);
    bool        fresh = emit_kernel_begin(e, name);
    tokenwise   w = {.e = e, .o = c->op};
    operands(&w);
    if (fresh) {
        if (!emitters[c->op->kind]) bug("%s has no emitter", op_infos[c->op->kind].name);
        if (c->op->kind == OP_ROPE) w.buffer = emit_local(e, 4ull * c->op->params.head_dim);
        loop unit = emit_loop_begin(e, e->begin, e->end, 1);
        w.token = unit.i;
        emitters[c->op->kind](&w);
        emit_loop_end(e, &unit, NULL);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}
