/* Matrix products, and what fusion joined to them.
 *
 * A unit is a group of rows. Their dots go to a buffer in the frame; then bias, residual and
 * rotation are applied to the group as vectors, and the result goes to its sinks. Decoding is one
 * token. A prompt is taken a few tokens at a time: by tiles of rows (emit_tile.c) or panels (emit_dot.c) where the
 * type and the ISA have them and there are tokens enough, else row by row, so that a row is read once for them.
 */
#include "emit.h"

#include "ggufc/model.h"
#include "packed.h"

#define SHORT_ROW   1024
#define ROWS_A_CALL 4
#define TILE_LEAST  8 /* tokens from which on panels are better than rows, and unpacking pays */
#define CHAIN_LEAST 3 /* … it pays where dots are chained */
_Static_assert(TILE_LEAST > GGUFC_BATCH_EXACT, "drafts are verified by the sums of single tokens");

#define PANEL_MANY 12 /* tokens that a panel is multiplied with before the next one; 3 and 48 were as fast */

#define TILES_MOST  (2u << 20) /* bytes in the frame: a quarter of a thread's usual stack */

typedef struct matmul {
    emit       *e;
    const op   *o;
    uint32_t    rows;
    sink        to;
    enum quant_type weight_type[2];
    val         weight[2], x, x_stride, bias, residual, residual_stride, angles, angles_stride;
    val         last; /* where the last unit begins; NULL: where `rows` divide the product's */
    val         product, up, sum; /* operands, NULL where no trace is kept */
    val         product_stride, up_stride, sum_stride;
    bool        packed; /* the weights are tiles in memory */
    val         tiles; /* of each weight's rows, in the frame */
    val         buffer[2]; /* tokens × rows f32, of each weight */
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

/* Rows [from, from + count) of the group, as vectors: no vector reaches over a head's end, where a
   cache has another. */
static void finish_rows(const matmul *m, val slot, val token, val first, uint32_t from, uint32_t count) {
    emit    *e = m->e;
    uint32_t width = emit_sink_width(e, m->o), end = from + count;
    val      part_of_group = group(m, 0, slot);
    for (uint32_t i = from; i < end; i += width) {
        uint32_t n = end - i < width ? end - i : width;
        val      v = finish_part(m, slot, token, first, i, n);
        if (m->angles)
            emit_store(e, v, emit_at_const(e, part_of_group, 4 * i), 4);
        else
            emit_sink(e, &m->to, token, emit_add(e, first, emit_i64(e, i)), v);
    }
    if (!m->angles) return;
    emit_rotate(e, &m->o->params, emit_at_const(e, part_of_group, 4 * from),
                at_row(m, m->angles, m->angles_stride, token, emit_i64(e, 0)));
    for (uint32_t i = from; i < end; i += width) {
        uint32_t n = end - i < width ? end - i : width;
        val      v = emit_load(e, emit_vector(e->f32, n), emit_at_const(e, part_of_group, 4 * i), 4);
        emit_sink(e, &m->to, token, emit_add(e, first, emit_i64(e, i)), v);
    }
}

static void epilogue(const matmul *m, val slot, val token, val first) {
    bool     by_heads = m->o->fused.rope || m->o->fused.cache;
    uint32_t count = by_heads ? m->o->params.head_dim : m->rows;
    for (uint32_t from = 0; from < m->rows; from += count) finish_rows(m, slot, token, first, from, count);
}

/* ---- a few tokens at a time */

/* How they are multiplied: by rows or panels (emit_dot.c), or by tiles, which are the last. Only the sums of chained
   tiles are in the order of rows. */
enum way { BY_ROWS, BY_PANELS, BY_TILES, BY_CHAINED_TILES, BY_MATRIX };

static bool is_by_tiles(enum way way) {
    return way >= BY_TILES;
}

/* Rows at a call of a dot: short rows would spend much of their time on the last sum. */
static uint32_t rows_a_call(const matmul *m, uint32_t n_tokens) {
    return n_tokens == 1 && m->k <= SHORT_ROW && m->rows % ROWS_A_CALL == 0 ? ROWS_A_CALL : 1;
}

static val weight_rows(const matmul *m, uint32_t w, val first) {
    emit *e = m->e;
    val   at = emit_at(e, e->weights, m->weight[w]);
    return emit_at(e, at, emit_mul_const(e, first, quant_row_bytes(m->weight_type[w], m->k)));
}

static val activations(const matmul *m, val token) {
    emit *e = m->e;
    val   from = emit_input_token(e, m->o, m->o->in[m->n_weights], token);
    return emit_at(e, emit_at(e, e->arena, m->x), emit_mul(e, from, m->x_stride));
}

/* A unit's rows of weight w times n tokens, whose sums go to rows of m->rows from p.out on. A weight's rows are one
   stream: two that alternate were measured to come from memory at half the speed. */
static void multiply_rows(const matmul *m, uint32_t w, val first, uint32_t n, emit_product p) {
    emit    *e = m->e;
    uint32_t n_rows = rows_a_call(m, n);
    val      dot = emit_dot_function(e, m->weight_type[w], m->k, n, n_rows), rows = weight_rows(m, w, first);
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, m->rows), n_rows);
    p.rows = emit_at(e, rows, emit_mul_const(e, l.i, quant_row_bytes(m->weight_type[w], m->k)));
    val sums = emit_dot_call(e, dot, &p), at = emit_at(e, p.out, emit_mul_const(e, l.i, 4));
    if (n == 1) emit_store(e, sums, at, 4);
    for (uint32_t t = 0; n > 1 && t < n; t++)
        emit_store(e, emit_pick(e, sums, NULL, t, 1, 1), emit_at_const(e, at, 4ull * t * m->rows), 4);
    emit_loop_end(e, &l, NULL);
}

/* Weight w's rows of a unit as tiles. */
static emit_tiles tiles_of(const matmul *m, uint32_t w, enum way way) {
    return (emit_tiles){
        .weight = m->weight_type[w], .k = m->k, .rows = m->rows, .packed = m->packed,
        .chained = way == BY_CHAINED_TILES, .matrix = way == BY_MATRIX,
    };
}

static uint32_t tile_tokens(const matmul *m, uint32_t w, enum way way) {
    emit_tiles t = tiles_of(m, w, way);
    return emit_tile_tokens(m->e, &t);
}

/* What the tiles of the unit's weights before w take. */
static uint64_t tiles_bytes(const matmul *m, uint32_t w, enum way way) {
    uint64_t bytes = 0;
    while (w--) {
        emit_tiles t = tiles_of(m, w, way);
        bytes += emit_tile_bytes(m->e, &t, (uint32_t)round_up(m->rows, m->e->isa->lanes));
    }
    return bytes;
}

static bool can_by_panels(const matmul *m) {
    for (uint32_t w = 0; w < m->n_weights; w++) {
        uint32_t rows = emit_panel_rows(m->e, m->weight_type[w]);
        if (!rows || m->rows % rows) return false;
    }
    return true;
}

/* Whether all weights can be multiplied that way, which is one of tiles. */
static bool can(const matmul *m, enum way way) {
    for (uint32_t w = 0; w < m->n_weights; w++) {
        emit_tiles t = tiles_of(m, w, way);
        if (!emit_tile_fits(m->e, &t)) return false;
        if (tile_tokens(m, w, way) != tile_tokens(m, 0, way)) return false;
    }
    return m->packed || tiles_bytes(m, m->n_weights, way) <= TILES_MOST;
}

/* A tile of a unit: its first row there, and where it is. */
typedef struct tile_place {
    emit_tiles of;
    uint32_t   row;
    val        at;
} tile_place;

/* The tile of weight w whose turn is at row r of the unit that begins at row `first`. A unit's last tile ends with
   it: rows that are no whole vector are taken with some of those before them. */
static tile_place tile_at(const matmul *m, uint32_t w, enum way way, val first, uint32_t r) {
    emit      *e = m->e;
    tile_place p = {.of = tiles_of(m, w, way), .row = r};
    uint64_t   before = emit_tile_bytes(e, &p.of, r);
    p.at = m->packed ? emit_at_const(e, weight_rows(m, w, first), before)
                     : emit_at_const(e, m->tiles, tiles_bytes(m, w, way) + before);
    uint32_t left = m->rows - r, lanes = e->isa->lanes;
    p.of.rows = left < lanes ? lanes : left < emit_tile_rows(e) ? left / lanes * lanes : emit_tile_rows(e);
    if (left < lanes) p.row = m->rows - lanes;
    return p;
}

static void unpack(const matmul *m, enum way way, val first) {
    emit *e = m->e;
    for (uint32_t w = 0; w < m->n_weights; w++) {
        val      rows = weight_rows(m, w, first);
        uint64_t row_bytes = quant_row_bytes(m->weight_type[w], m->k);
        for (uint32_t r = 0; r < m->rows;) {
            tile_place p = tile_at(m, w, way, first, r);
            emit_tile_unpack(e, &p.of, emit_at_const(e, rows, p.row * row_bytes), p.at);
            r = p.row + p.of.rows;
        }
    }
}

static void multiply_tiles(const matmul *m, uint32_t w, enum way way, val first, uint32_t n, emit_product p) {
    emit *e = m->e;
    val   out = p.out;
    for (uint32_t r = 0; r < m->rows;) {
        tile_place t = tile_at(m, w, way, first, r);
        p.rows = t.at;
        p.out = emit_at_const(e, out, 4ull * t.row);
        emit_tile_multiply(e, &t.of, n, &p);
        r = t.row + t.of.rows;
    }
}

/* The rows of a group times tokens token … token + n - 1, into the buffers from `slot` on: by rows or tiles. */
static void multiply(const matmul *m, enum way way, val first, val token, val slot, uint32_t n) {
    emit        *e = m->e;
    emit_product p = {.x = activations(m, token), .x_stride = m->x_stride, .out_stride = emit_i64(e, 4ull * m->rows)};
    for (uint32_t w = 0; w < m->n_weights; w++) {
        p.out = group(m, w, slot);
        if (way == BY_ROWS)
            multiply_rows(m, w, first, n, p);
        else
            multiply_tiles(m, w, way, first, n, p);
    }
}

/* Whether tiles can multiply few tokens as well. */
static bool is_chained(const matmul *m) {
    for (uint32_t w = 0; w < m->n_weights; w++)
        if (!emit_dot_is_chained(m->e, m->weight_type[w], m->k)) return false;
    return true;
}

/* How a kernel for so many tokens takes TILE_LEAST and more, or whatever it takes of packed weights. */
static enum way choose_way(const matmul *m) {
    enum emit_form form = m->e->form;
    if (form == EMIT_ANY && !m->packed && can(m, BY_MATRIX)) return BY_MATRIX;
    if (form == EMIT_ANY && !m->packed && can_by_panels(m)) return BY_PANELS;
    if (form == EMIT_ANY || m->packed) return can(m, BY_TILES) ? BY_TILES : BY_ROWS;
    return form == EMIT_FEW && is_chained(m) && can(m, BY_CHAINED_TILES) ? BY_CHAINED_TILES : BY_ROWS;
}

/* ---- all tokens */

static branch if_of(emit *e, val n, LLVMIntPredicate compare, uint64_t than) {
    return emit_if(e, LLVMBuildICmp(e->builder, compare, n, emit_i64(e, than), ""));
}

/* What is left when fewer than `few` tokens are: each number has a function of its own, or (tiles,
   whose functions are long) its powers of two have. */
static void rest(const matmul *m, enum way way, val first, val token, val n, uint32_t few) {
    emit *e = m->e;
    bool  powers = way == BY_TILES;
    for (uint32_t size = powers ? few / 2 : few - 1; size; size = powers ? size / 2 : size - 1) {
        val    part = powers ? LLVMBuildAnd(e->builder, n, emit_i64(e, size), "") : n;
        branch one = if_of(e, part, LLVMIntEQ, size);
        val    done = powers ? LLVMBuildAnd(e->builder, n, emit_i64(e, ~(2ull * size - 1)), "") : emit_i64(e, 0);
        multiply(m, way, first, emit_add(e, token, done), done, size);
        emit_if_end(e, &one);
    }
}

/* The same by a matrix unit, which takes 16 tokens in the time of one: the last 32, 16 or 8 tokens, of which some may
   have been multiplied before; or twice half as many, the first and the last, where there are less in all. The first
   slots are left to those before. */
static void rest_by_matrix(const matmul *m, val first, val token, val n, uint32_t few) {
    emit *e = m->e;
    val   base = emit_i64(e, few), end = emit_add(e, base, n);
    for (uint32_t size = TILE_LEAST; size <= few; size *= 2) {
        bool   least = size == TILE_LEAST;
        branch up_to = if_of(e, n, LLVMIntULE, size), above = if_of(e, n, LLVMIntUGT, least ? 0 : size / 2);
        val    all = emit_i64(e, size), half = emit_i64(e, size / 2);
        branch enough = if_of(e, e->n_tokens, LLVMIntUGE, size);
        multiply(m, BY_MATRIX, first, emit_sub(e, e->n_tokens, all), emit_sub(e, end, all), size);
        emit_if_end(e, &enough);
        if (!least) {
            branch less = if_of(e, e->n_tokens, LLVMIntULT, size);
            multiply(m, BY_MATRIX, first, token, base, size / 2);
            multiply(m, BY_MATRIX, first, emit_sub(e, e->n_tokens, half), emit_sub(e, end, half), size / 2);
            emit_if_end(e, &less);
        }
        emit_if_end(e, &above);
        emit_if_end(e, &up_to);
    }
}

/* How many tokens' sums the buffers are for, of `few` at a time. */
static uint32_t n_slots(enum way way, uint32_t few) {
    return way == BY_MATRIX ? 2 * few : few;
}

static uint32_t tokens_at_once(const matmul *m, enum way way) {
    if (way == BY_ROWS) return m->e->isa->tokens;
    return way == BY_PANELS ? PANEL_MANY : tile_tokens(m, 0, way);
}

static void finish_tokens(const matmul *m, val slot, val token, val first, val n) {
    emit *e = m->e;
    loop  each = emit_loop_begin(e, emit_i64(e, 0), n, 1);
    epilogue(m, emit_add(e, slot, each.i), emit_add(e, token, each.i), first);
    emit_loop_end(e, &each, NULL);
}

/* All tokens, `few` at a time: of tiles, a power of two. */
static void each_few(const matmul *m, enum way way, val first, uint32_t few) {
    emit *e = m->e;
    val   base = emit_i64(e, n_slots(way, few) - few);
    loop  l = emit_loop_begin(e, emit_i64(e, 0), e->n_tokens, few);
    val   left = emit_sub(e, e->n_tokens, l.i), all = emit_i64(e, few);
    val   whole = LLVMBuildICmp(e->builder, LLVMIntUGE, left, all, "");
    val   n = LLVMBuildSelect(e->builder, whole, all, left, "");
    branch many = emit_if(e, whole);
    multiply(m, way, first, l.i, base, few);
    emit_if_end(e, &many);
    branch less = emit_if(e, LLVMBuildNot(e->builder, whole, ""));
    if (way == BY_MATRIX)
        rest_by_matrix(m, first, l.i, n, few);
    else
        rest(m, way, first, l.i, n, few);
    emit_if_end(e, &less);
    finish_tokens(m, base, l.i, first, n);
    emit_loop_end(e, &l, NULL);
}

/* A panel times tokens token … token + n - 1, whose sums go to p.out and on. */
static void multiply_panel(const matmul *m, uint32_t w, val token, val n, emit_product p) {
    emit    *e = m->e;
    uint32_t most = e->isa->panel_tokens;
    val      out = p.out;
    loop     l = emit_loop_begin(e, emit_i64(e, 0), n, most);
    val      left = emit_sub(e, n, l.i), own = emit_add(e, token, l.i);
    val      fresh = LLVMBuildICmp(e->builder, LLVMIntEQ, own, emit_i64(e, 0), "");
    p.x = activations(m, own);
    p.out = emit_at(e, out, emit_mul(e, l.i, p.out_stride));
    for (uint32_t size = most; size; size--) {
        branch one = if_of(e, left, size == most ? LLVMIntUGE : LLVMIntEQ, size);
        emit_panel_multiply(e, m->weight_type[w], m->k, size, &p, fresh);
        emit_if_end(e, &one);
    }
    emit_loop_end(e, &l, NULL);
}

/* All tokens, many at a time: a panel, which the first-level cache holds, is multiplied with these before the next. */
static void by_panels(const matmul *m, val first) {
    emit        *e = m->e;
    emit_product p = {.x_stride = m->x_stride, .out_stride = emit_i64(e, 4ull * m->rows)};
    loop         l = emit_loop_begin(e, emit_i64(e, 0), e->n_tokens, PANEL_MANY);
    val          n = emit_min(e, emit_sub(e, e->n_tokens, l.i), emit_i64(e, PANEL_MANY));
    for (uint32_t w = 0; w < m->n_weights; w++) {
        val  rows = weight_rows(m, w, first), out = group(m, w, emit_i64(e, 0));
        loop r = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, m->rows), emit_panel_rows(e, m->weight_type[w]));
        p.rows = emit_at(e, rows, emit_mul_const(e, r.i, quant_row_bytes(m->weight_type[w], m->k)));
        p.out = emit_at(e, out, emit_mul_const(e, r.i, 4));
        multiply_panel(m, w, l.i, n, p);
        emit_loop_end(e, &r, NULL);
    }
    finish_tokens(m, emit_i64(e, 0), l.i, first, n);
    emit_loop_end(e, &l, NULL);
}

static void many_tokens(const matmul *m, enum way way, val first) {
    if (way == BY_PANELS) {
        by_panels(m, first);
        return;
    }
    if (is_by_tiles(way) && !m->packed) unpack(m, way, first);
    each_few(m, way, first, tokens_at_once(m, way));
}

static void few_tokens(const matmul *m, val first) {
    emit *e = m->e;
    if (!is_chained(m)) {
        many_tokens(m, BY_ROWS, first);
        return;
    }
    branch some = if_of(e, e->n_tokens, LLVMIntUGE, CHAIN_LEAST);
    many_tokens(m, BY_CHAINED_TILES, first);
    emit_if_end(e, &some);
    branch fewer = if_of(e, e->n_tokens, LLVMIntULT, CHAIN_LEAST);
    each_few(m, BY_ROWS, first, 2);
    emit_if_end(e, &fewer);
}

static void all_tokens(const matmul *m, enum way way, val first) {
    emit *e = m->e;
    if (m->packed || way == BY_ROWS) {
        many_tokens(m, way, first);
        return;
    }
    if (way == BY_CHAINED_TILES) {
        few_tokens(m, first);
        return;
    }
    branch many = if_of(e, e->n_tokens, LLVMIntUGE, TILE_LEAST);
    many_tokens(m, way, first);
    emit_if_end(e, &many);
    branch few = if_of(e, e->n_tokens, LLVMIntULT, TILE_LEAST);
    few_tokens(m, first);
    emit_if_end(e, &few);
}

static void one_token(const matmul *m, enum way way, val first) {
    val zero = emit_i64(m->e, 0);
    multiply(m, way, first, zero, zero, 1);
    epilogue(m, zero, zero, first);
}

/* ---- the kernel */

static val first_row(const matmul *m, val unit) {
    emit *e = m->e;
    val   first = emit_mul_const(e, unit, m->rows);
    return m->last ? emit_min(e, first, m->last) : first;
}

static const char *kernel_name(emit *e, const op *o, uint32_t rows) {
    static const char *const forms[] = {[EMIT_ONE] = "decode", [EMIT_ANY] = "prefill", [EMIT_FEW] = "few"};
    uint32_t n_weights = graph_op_weights(o);
    const char *name = arena_printf(
        e->memory, "%s_%s_%s_k%llu_r%u", forms[e->form], op_infos[o->kind].name,
        quant_find(o->in[0]->type)->name, (unsigned long long)o->in[0]->ne[0], rows);
    if (value_count(o->out) % rows) name = arena_printf(e->memory, "%s_ragged", name);
    if (packed_for(o, rows)) name = arena_printf(e->memory, "%s_packed", name);
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
    m.n_weights = graph_op_weights(o);
    m.packed = packed_for(o, c->rows);
    for (uint32_t w = 0; w < m.n_weights; w++) {
        m.weight_type[w] = (enum quant_type)o->in[w]->type;
        m.weight[w] = emit_operand(e, m.packed ? o->in[w]->packed_offset : o->in[w]->offset);
    }
    if (value_count(o->out) % c->rows) m.last = emit_operand(e, value_count(o->out) - c->rows);
    m.x = emit_place(e, o, o->in[m.n_weights]);
    m.x_stride = emit_operand(e, o->in[m.n_weights]->stride);
    if (o->fused.bias) m.bias = emit_operand(e, o->fused.bias->offset);
    if (o->fused.residual) {
        m.residual = emit_place(e, o, o->fused.residual);
        m.residual_stride = emit_operand(e, o->fused.residual->stride);
    }
    if (o->fused.rope) {
        m.angles = emit_place(e, o, o->fused.rope);
        m.angles_stride = emit_operand(e, o->fused.rope->stride);
    }
    place_kept(&m, o->fused.product, &m.product, &m.product_stride);
    place_kept(&m, o->fused.up, &m.up, &m.up_stride);
    place_kept(&m, o->fused.sum, &m.sum, &m.sum_stride);
    m.to = emit_sink_begin(e, o);
    return m;
}

val emit_matmul(emit *e, const plan_call *c) {
    const char *name = kernel_name(e, c->op, c->rows);
    bool   fresh = emit_kernel_begin(e, name);
    matmul m = begin(e, c);
    if (fresh) {
        enum way way = choose_way(&m);
        uint32_t slots = e->form != EMIT_ONE ? e->isa->tokens : 1;
        uint32_t many = n_slots(way, tokens_at_once(&m, way));
        if (way != BY_ROWS && many > slots) slots = many;
        for (uint32_t w = 0; w < m.n_weights; w++) m.buffer[w] = emit_local(e, 4ull * slots * m.rows);
        if (is_by_tiles(way) && !m.packed) m.tiles = emit_local(e, tiles_bytes(&m, m.n_weights, way));
        loop unit = emit_loop_begin(e, e->begin, e->end, 1);
        val  first = first_row(&m, unit.i);
        if (e->form != EMIT_ONE)
            all_tokens(&m, way, first);
        else
            one_token(&m, way, first);
        emit_loop_end(e, &unit, NULL);
        emit_kernel_end(e);
    }
    return LLVMGetNamedFunction(e->module, name);
}
