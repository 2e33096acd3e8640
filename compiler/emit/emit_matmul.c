/* Matrix products, and what fusion joined to them.
 *
 * A unit is a group of rows. Their dots go to a buffer in the frame; then bias, residual and
 * rotation are applied to the group as vectors, and the result goes to its sinks. Decoding is one
 * token. A prompt is taken a few tokens at a time: by tiles of rows (emit_tile.c) where the type and
 * the ISA have them and there are tokens enough, else row by row, so that a row is read once for them.
 */
#include "emit.h"

#define SHORT_ROW   1024
#define ROWS_A_CALL 4
#define TILE_LEAST  8 /* tokens for which unpacking pays */
#define TILES_MOST  (2u << 20) /* bytes in the frame: a quarter of a thread's usual stack */

typedef struct matmul {
    emit       *e;
    const op   *o;
    uint32_t    rows;
    sink        to;
    enum quant_type weight_type[2];
    val         weight[2], x, x_stride, bias, residual, residual_stride, angles, angles_stride;
    val         product, up, sum; /* operands, NULL where no trace is kept */
    val         product_stride, up_stride, sum_stride;
    val         tiles; /* of each weight's rows; NULL: row by row */
    val         buffer[2]; /* isa.tokens × rows f32, of each weight */
    uint32_t    n_weights;
    uint64_t    k;
} matmul;

static val group(const matmul *m, uint32_t w, val token) {
    emit *e = m->e;
    return emit_at(e, m->buffer[w], emit_mul_const(e, token, 4 * m->rows));
}

/* ---- the epilogue: vectors of one token's group */

static val at_row(const matmul *m, val base, val stride, val token, val row) {
    emit *e = m->e;
    val   start = emit_at(e, emit_at(e, e->arena, base), emit_mul(e, token, stride));
    return emit_at(e, start, emit_mul_const(e, row, 4));
}

static void keep(const matmul *m, val base, val stride, val token, val row, val v) {
    if (base) emit_store(m->e, v, at_row(m, base, stride, token, row), 4);
}

/* Values [i, i + n) of the group that begins at row `first`, before rotation. */
static val finish_part(const matmul *m, val slot, val token, val first, uint32_t i, uint32_t n) {
    emit *e = m->e;
    type  t = emit_vector(e->f32, n);
    val   v = emit_load(e, t, emit_at_const(e, group(m, 0, slot), 4 * i), 4);
    val   row = emit_add(e, first, emit_i64(e, i));
    keep(m, m->product, m->product_stride, token, row, v);
    if (m->n_weights == 2) {
        val up = emit_load(e, t, emit_at_const(e, group(m, 1, slot), 4 * i), 4);
        keep(m, m->up, m->up_stride, token, row, up);
        v = emit_fmul(e, emit_silu(e, v), up);
    }
    if (m->bias) {
        enum quant_type from = (enum quant_type)m->o->fused.bias->type;
        val at = emit_mul_const(e, row, quant_row_bytes(from, 1));
        v = emit_fadd(e, v, emit_load_f32(e, from, emit_at(e, emit_at(e, e->weights, m->bias), at), n));
        keep(m, m->sum, m->sum_stride, token, row, v);
    }
    if (m->residual)
        v = emit_fadd(e, v, emit_load(e, t, at_row(m, m->residual, m->residual_stride,
                                                   emit_input_token(e, m->o, m->o->fused.residual,
                                                                    token), row), 4));
    return v;
}

static void epilogue(const matmul *m, val slot, val token, val first) {
    emit    *e = m->e;
    uint32_t width = emit_sink_width(e, m->o);
    bool     rotated = m->angles != NULL;
    for (uint32_t i = 0; i < m->rows; i += width) {
        uint32_t n = m->rows - i < width ? m->rows - i : width;
        val v = finish_part(m, slot, token, first, i, n);
        if (rotated)
            emit_store(e, v, emit_at_const(e, group(m, 0, slot), 4 * i), 4);
        else
            emit_sink(e, &m->to, token, emit_add(e, first, emit_i64(e, i)), v);
    }
    if (!rotated) return;
    val head = group(m, 0, slot);
    emit_rotate(e, &m->o->params, head, at_row(m, m->angles, m->angles_stride, token, emit_i64(e, 0)));
    for (uint32_t i = 0; i < m->rows; i += width) {
        uint32_t n = m->rows - i < width ? m->rows - i : width;
        val v = emit_load(e, emit_vector(e->f32, n), emit_at_const(e, head, 4 * i), 4);
        emit_sink(e, &m->to, token, emit_add(e, first, emit_i64(e, i)), v);
    }
}

/* ---- dots */

/* Rows at a call of a dot: short rows would spend much of their time on the last sum. */
static uint32_t rows_a_call(const matmul *m, uint32_t n_tokens) {
    return n_tokens == 1 && m->k <= SHORT_ROW && m->rows % ROWS_A_CALL == 0 ? ROWS_A_CALL : 1;
}

/* The rows of a group times tokens token … token + n - 1, into the buffers' slots 0 … n - 1. */
static void dots(const matmul *m, val token, val first, uint32_t n) {
    emit    *e = m->e;
    uint32_t n_rows = rows_a_call(m, n);
    val   from = emit_input_token(e, m->o, m->o->in[m->n_weights], token);
    val   x = emit_at(e, emit_at(e, e->arena, m->x), emit_mul(e, from, m->x_stride));
    loop  l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, m->rows), n_rows);
    for (uint32_t w = 0; w < m->n_weights; w++) {
        val dot = emit_dot_function(e, m->weight_type[w], m->k, n, n_rows);
        val row = emit_mul_const(e, emit_add(e, first, l.i), quant_row_bytes(m->weight_type[w], m->k));
        val sums = emit_dot_call(e, dot, emit_at(e, emit_at(e, e->weights, m->weight[w]), row), x,
                                 m->x_stride);
        val at = emit_at(e, m->buffer[w], emit_mul_const(e, l.i, 4));
        if (n == 1) emit_store(e, sums, at, 4);
        for (uint32_t t = 0; n > 1 && t < n; t++)
            emit_store(e, emit_pick(e, sums, NULL, t, 1, 1), emit_at_const(e, at, 4ull * t * m->rows), 4);
    }
    emit_loop_end(e, &l, NULL);
}

static void one_token(const matmul *m, val token, val first) {
    dots(m, token, first, 1);
    epilogue(m, emit_i64(m->e, 0), token, first);
}

/* ---- tiles: a batch of TILE_LEAST or more */

static uint32_t n_tiles(const matmul *m) {
    return m->rows / emit_tile_rows(m->e);
}

static uint64_t tiles_bytes(const matmul *m) {
    return m->n_weights * n_tiles(m) * emit_tile_bytes(m->e, m->k);
}

static bool by_tiles(const matmul *m) {
    for (uint32_t w = 0; w < m->n_weights; w++)
        if (!emit_tile_fits(m->e, m->weight_type[w], m->rows)) return false;
    return tiles_bytes(m) <= TILES_MOST;
}

static val tile_at(const matmul *m, uint32_t w, uint32_t i) {
    return emit_at_const(m->e, m->tiles, (w * n_tiles(m) + i) * emit_tile_bytes(m->e, m->k));
}

static void unpack(const matmul *m, val first) {
    emit *e = m->e;
    for (uint32_t w = 0; w < m->n_weights; w++) {
        uint64_t row_bytes = quant_row_bytes(m->weight_type[w], m->k);
        val      rows = emit_at(e, emit_at(e, e->weights, m->weight[w]), emit_mul_const(e, first, row_bytes));
        for (uint32_t i = 0; i < n_tiles(m); i++)
            emit_tile_unpack(e, m->k, emit_at_const(e, rows, i * emit_tile_rows(e) * row_bytes), tile_at(m, w, i));
    }
}

/* Tokens [from, to), `n` at a time; `from` and `to` are a multiple of n apart. */
static void tile_tokens(const matmul *m, val first, val from, val to, uint32_t n) {
    emit  *e = m->e;
    branch any = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, from, to, ""));
    loop   l = emit_loop_begin(e, from, to, n);
    val    x = emit_at(e, emit_at(e, e->arena, m->x), emit_mul(e, l.i, m->x_stride));
    for (uint32_t w = 0; w < m->n_weights; w++)
        for (uint32_t i = 0; i < n_tiles(m); i++)
            emit_tile_multiply(e, m->k, n, tile_at(m, w, i), x, m->x_stride,
                               emit_at_const(e, m->buffer[w], i * emit_tile_rows(e) * 4ull),
                               emit_i64(e, 4ull * m->rows));
    loop each = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, n), 1);
    epilogue(m, each.i, emit_add(e, l.i, each.i), first);
    emit_loop_end(e, &each, NULL);
    emit_loop_end(e, &l, NULL);
    emit_if_end(e, &any);
}

static void all_by_tiles(const matmul *m, val first) {
    emit *e = m->e;
    val   done = emit_i64(e, 0);
    unpack(m, first);
    for (uint32_t n = e->isa->tile_tokens; n; n /= 2) {
        val whole = LLVMBuildAnd(e->builder, e->n_tokens, emit_i64(e, ~(uint64_t)(n - 1)), "");
        tile_tokens(m, first, done, whole, n);
        done = whole;
    }
}

/* Tokens [0, n_tokens): a few at a time, then one by one. */
static void all_by_rows(const matmul *m, val first) {
    emit *e = m->e;
    uint32_t few = e->isa->tokens;
    val   whole = LLVMBuildAnd(e->builder, e->n_tokens, emit_i64(e, ~(uint64_t)(few - 1)), "");
    val   zero = emit_i64(e, 0);
    branch many = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntNE, whole, zero, ""));
    loop  l = emit_loop_begin(e, zero, whole, few);
    dots(m, l.i, first, few);
    loop each = emit_loop_begin(e, zero, emit_i64(e, few), 1);
    epilogue(m, each.i, emit_add(e, l.i, each.i), first);
    emit_loop_end(e, &each, NULL);
    emit_loop_end(e, &l, NULL);
    emit_if_end(e, &many);
    branch rest = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, whole, e->n_tokens, ""));
    l = emit_loop_begin(e, whole, e->n_tokens, 1);
    one_token(m, l.i, first);
    emit_loop_end(e, &l, NULL);
    emit_if_end(e, &rest);
}

static void all_tokens(const matmul *m, val first) {
    emit *e = m->e;
    if (!m->tiles) {
        all_by_rows(m, first);
        return;
    }
    val    least = emit_i64(e, TILE_LEAST);
    branch many = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntUGE, e->n_tokens, least, ""));
    all_by_tiles(m, first);
    emit_if_end(e, &many);
    branch few = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, e->n_tokens, least, ""));
    all_by_rows(m, first);
    emit_if_end(e, &few);
}

/* ---- the kernel */

static const char *kernel_name(emit *e, const op *o, uint32_t rows, bool prefill) {
    uint32_t n_weights = o->kind == OP_GLU_MATMUL ? 2 : 1;
    const char *name = arena_printf(
        e->memory, "%s_%s_%s_k%llu_r%u", prefill ? "prefill" : "decode", op_infos[o->kind].name,
        quant_find(o->in[0]->type)->name, (unsigned long long)o->in[0]->ne[0], rows);
    if (emit_reads_body(o, o->in[n_weights])) name = arena_printf(e->memory, "%s_one", name);
    if (n_weights == 2) name = arena_printf(e->memory, "%s_%s", name, quant_find(o->in[1]->type)->name);
    if (o->fused.bias)
        name = arena_printf(e->memory, "%s_bias_%s", name, quant_find(o->fused.bias->type)->name);
    if (o->fused.residual)
        name = arena_printf(e->memory, "%s_residual%s", name,
                            emit_reads_body(o, o->fused.residual) ? "_one" : "");
    if (o->fused.rope)
        name = arena_printf(e->memory, "%s_rope%u%s", name, o->params.rope_dims,
                            o->params.rope_pairing == ROPE_HALVES ? "h" : "a");
    if (o->fused.product) name = arena_printf(e->memory, "%s_product", name);
    if (o->fused.up) name = arena_printf(e->memory, "%s_up", name);
    if (o->fused.sum) name = arena_printf(e->memory, "%s_sum", name);
    return arena_printf(e->memory, "%s%s", name, emit_sink_key(e, o));
}

static void place_kept(const matmul *m, const value *v, val *base, val *stride) {
    if (!v) return;
    *base = emit_operand(m->e, v->offset);
    *stride = emit_operand(m->e, v->stride);
}

static matmul begin(emit *e, const plan_call *c) {
    const op *o = c->op;
    matmul    m = {.e = e, .o = o, .rows = c->rows, .k = o->in[0]->ne[0]};
    m.n_weights = o->kind == OP_GLU_MATMUL ? 2 : 1;
    for (uint32_t w = 0; w < m.n_weights; w++) {
        m.weight_type[w] = (enum quant_type)o->in[w]->type;
        m.weight[w] = emit_operand(e, o->in[w]->offset);
    }
    m.x = emit_operand(e, o->in[m.n_weights]->offset);
    m.x_stride = emit_operand(e, o->in[m.n_weights]->stride);
    if (o->fused.bias) m.bias = emit_operand(e, o->fused.bias->offset);
    if (o->fused.residual) {
        m.residual = emit_operand(e, o->fused.residual->offset);
        m.residual_stride = emit_operand(e, o->fused.residual->stride);
    }
    if (o->fused.rope) {
        m.angles = emit_operand(e, o->fused.rope->offset);
        m.angles_stride = emit_operand(e, o->fused.rope->stride);
    }
    place_kept(&m, o->fused.product, &m.product, &m.product_stride);
    place_kept(&m, o->fused.up, &m.up, &m.up_stride);
    place_kept(&m, o->fused.sum, &m.sum, &m.sum_stride);
    m.to = emit_sink_begin(e, o);
    return m;
}

val emit_matmul(emit *e, const plan_call *c, bool prefill) {
    const char *name = kernel_name(e, c->op, c->rows, prefill);
    bool   fresh = emit_kernel_begin(e, name);
    matmul m = begin(e, c);
    if (fresh) {
        uint32_t slots = e->isa->tokens > e->isa->tile_tokens ? e->isa->tokens : e->isa->tile_tokens;
        for (uint32_t w = 0; w < m.n_weights; w++)
            m.buffer[w] = emit_local(e, (uint64_t)(prefill ? slots : 1) * m.rows * 4);
        if (prefill && by_tiles(&m))
            m.tiles = emit_local(e, tiles_bytes(&m));
        loop unit = emit_loop_begin(e, e->begin, e->end, 1);
        val  first = emit_mul_const(e, unit.i, m.rows);
        if (prefill)
            all_tokens(&m, first);
        else
            one_token(&m, emit_i64(e, 0), first);
        emit_loop_end(e, &unit, NULL);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}
