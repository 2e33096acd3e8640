/* Q8_0 weights times many tokens: a matrix product by tiles.
 *
 * A tile is a few rows of the weight, all of their columns, in the form that the ISA's dot wants:
 * lanes are rows. For each block of 32 columns
 *
 *     u8  quants[8][vectors][lanes][4]   q + 128; four neighbouring columns of a row are one lane
 *     f32 scales[vectors][lanes]
 *
 * so that four columns of one token, broadcast, meet that many rows at once, and no sum across a
 * vector is left to do. A tile is unpacked once for all tokens of a batch; then a few tokens at a time
 * are multiplied with it, their sums in registers. Σ (q + 128) · x - 128 · Σ x is Σ q · x: the sums
 * begin with the latter (`totals` of isa.h). Both scales are applied once for each block. A token's
 * result does not depend on which tokens it is taken with.
 */
#include "emit.h"

#define BLOCK 32
#define STEPS (BLOCK / 4) /* dots of a block */

static uint32_t tile_rows(const emit *e) {
    return e->isa->lanes * e->isa->tile_vectors;
}

static uint64_t block_bytes(const emit *e) {
    return (STEPS + 1) * 4ull * tile_rows(e);
}

bool emit_tile_fits(const emit *e, enum quant_type weight, uint32_t rows) {
    return weight == QUANT_Q8_0 && e->isa->dot_rows && rows % tile_rows(e) == 0;
}

uint32_t emit_tile_rows(const emit *e) {
    return tile_rows(e);
}

uint64_t emit_tile_bytes(const emit *e, uint64_t k) {
    return k / BLOCK * block_bytes(e);
}

/* ---- unpacking */

static val half(emit *e, val v, uint32_t which) {
    uint32_t n = emit_length(v) / 2;
    return emit_pick(e, v, NULL, which * n, 1, n);
}

/* `lanes` rows of STEPS values become STEPS vectors of `lanes`: rows that differ in their number's
   highest bit are interleaved first, then by the next lower one, so that lane r ends up as row r. */
static void transpose(emit *e, val *rows) {
    uint32_t n = e->isa->lanes;
    while (emit_length(rows[0]) < e->isa->lanes) {
        n /= 2;
        for (uint32_t r = 0; r < n; r++) rows[r] = emit_interleave(e, rows[r], rows[r + n]);
    }
    /* Now each step halves the values a vector holds of a column's neighbours. */
    for (uint32_t groups = 1; n > 1; groups *= 2) {
        val next[EMIT_MAX_LANES];
        n /= 2;
        for (uint32_t g = 0; g < groups; g++)
            for (uint32_t r = 0; r < n; r++) {
                val a = rows[g * 2 * n + r], b = rows[g * 2 * n + r + n];
                next[(2 * g) * n + r] = emit_interleave(e, half(e, a, 0), half(e, b, 0));
                next[(2 * g + 1) * n + r] = emit_interleave(e, half(e, a, 1), half(e, b, 1));
            }
        for (uint32_t i = 0; i < STEPS; i++) rows[i] = next[i];
    }
}

/* One vector of rows of one block: `from` is the block of the first. */
static void unpack_block(emit *e, val from, val to, uint32_t vector, uint64_t row_bytes) {
    uint32_t lanes = e->isa->lanes, width = 4 * tile_rows(e);
    type     step = emit_vector(e->i32, STEPS);
    val      rows[EMIT_MAX_LANES], scales = LLVMGetPoison(emit_vector(e->i16, lanes));
    for (uint32_t r = 0; r < lanes; r++) {
        val block = emit_at_const(e, from, r * row_bytes);
        val scale = emit_load(e, e->i16, block, 2);
        scales = LLVMBuildInsertElement(e->builder, scales, scale, emit_i32(e, r), "");
        val quants = emit_load(e, step, emit_at_const(e, block, 2), 2);
        rows[r] = LLVMBuildXor(e->builder, quants, emit_splat(e, emit_i32(e, 0x80808080), STEPS), "");
    }
    transpose(e, rows);
    for (uint32_t j = 0; j < STEPS; j++)
        emit_store(e, rows[j], emit_at_const(e, to, j * width + vector * lanes * 4), lanes * 4);
    emit_store(e, emit_half_to_f32(e, scales), emit_at_const(e, to, STEPS * width + vector * lanes * 4),
               lanes * 4);
}

static val unpack_function(emit *e, uint64_t k) {
    const char *name = arena_printf(e->memory, "unpack_Q8_0_k%llu", (unsigned long long)k);
    type        params[] = {e->ptr, e->ptr};
    uint64_t    row_bytes = quant_row_bytes(QUANT_Q8_0, k);
    if (!emit_function_begin(e, name, e->none, params, 2)) return LLVMGetNamedFunction(e->module, name);
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, k / BLOCK), 1);
    val  from = emit_at(e, LLVMGetParam(e->fn, 0), emit_mul_const(e, l.i, quant_row_bytes(QUANT_Q8_0, BLOCK)));
    val  to = emit_at(e, LLVMGetParam(e->fn, 1), emit_mul_const(e, l.i, block_bytes(e)));
    for (uint32_t v = 0; v < e->isa->tile_vectors; v++)
        unpack_block(e, emit_at_const(e, from, v * e->isa->lanes * row_bytes), to, v, row_bytes);
    emit_loop_end(e, &l, NULL);
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}

/* ---- multiplying */

typedef struct product {
    emit             *e;
    uint32_t          n_tokens, n_vectors;
    activation_layout layout;
    val               tile, x[EMIT_MAX_TILE_TOKENS];
    val               block; /* number, i64 */
} product;

static val tile_vector(const product *p, uint32_t row, uint32_t v) {
    emit    *e = p->e;
    uint32_t lanes = e->isa->lanes;
    val      at = emit_at(e, p->tile, emit_mul_const(e, p->block, block_bytes(e)));
    return emit_load(e, emit_vector(row == STEPS ? e->f32 : e->i32, lanes),
                     emit_at_const(e, at, (row * p->n_vectors + v) * 4ull * lanes), lanes * 4);
}

/* A number of the block's, in all lanes. */
static val broadcast(const product *p, uint32_t t, type number, uint64_t part, uint64_t stride,
                     uint64_t offset) {
    emit *e = p->e;
    val   at = emit_at(e, emit_at_const(e, p->x[t], part + offset), emit_mul_const(e, p->block, stride));
    return emit_splat(e, emit_load(e, number, at, 4), e->isa->lanes);
}

static void multiply_block(const product *p, val *acc) {
    emit    *e = p->e;
    uint32_t n = p->n_vectors;
    val      sums[EMIT_MAX_TILE_TOKENS * EMIT_MAX_TILE_VECTORS];
    for (uint32_t t = 0; t < p->n_tokens; t++)
        for (uint32_t v = 0; v < n; v++) sums[t * n + v] = broadcast(p, t, e->i32, p->layout.totals, 4, 0);
    for (uint32_t j = 0; j < STEPS; j++) {
        val w[EMIT_MAX_TILE_VECTORS];
        for (uint32_t v = 0; v < n; v++) w[v] = tile_vector(p, j, v);
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            val x = broadcast(p, t, e->i32, 0, BLOCK, 4 * j);
            for (uint32_t v = 0; v < n; v++)
                sums[t * n + v] = e->isa->dot_rows(e, w[v], x, sums[t * n + v]);
        }
    }
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        val x_scale = broadcast(p, t, e->f32, p->layout.scales, 4, 0);
        for (uint32_t v = 0; v < n; v++) {
            val scale = emit_fmul(e, tile_vector(p, STEPS, v), x_scale);
            val summed = emit_cast(e, LLVMSIToFP, sums[t * n + v], e->f32);
            acc[t * n + v] = emit_fma(e, summed, scale, acc[t * n + v]);
        }
    }
}

/* void (tile, x, stride of x, out, stride of out): out holds a row of f32 sums for each token. */
static val product_function(emit *e, uint64_t k, uint32_t n_tokens) {
    const char *name = arena_printf(e->memory, "tile_Q8_0_k%llu_x%u", (unsigned long long)k, n_tokens);
    type        params[] = {e->ptr, e->ptr, e->i64, e->ptr, e->i64};
    if (!emit_function_begin(e, name, e->none, params, 5)) return LLVMGetNamedFunction(e->module, name);
    product p = {.e = e, .n_tokens = n_tokens, .n_vectors = e->isa->tile_vectors};
    p.layout = isa_activation_layout(e->isa, QUANT_Q8_0, k);
    p.tile = LLVMGetParam(e->fn, 0);
    p.x[0] = LLVMGetParam(e->fn, 1);
    for (uint32_t t = 1; t < n_tokens; t++) p.x[t] = emit_at(e, p.x[t - 1], LLVMGetParam(e->fn, 2));
    val      acc[EMIT_MAX_TILE_TOKENS * EMIT_MAX_TILE_VECTORS];
    uint32_t n = n_tokens * p.n_vectors;
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, k / BLOCK), 1);
    for (uint32_t i = 0; i < n; i++)
        acc[i] = emit_loop_carry(e, &l, LLVMConstNull(emit_vector(e->f32, e->isa->lanes)));
    p.block = l.i;
    multiply_block(&p, acc);
    emit_loop_end(e, &l, acc);
    val out = LLVMGetParam(e->fn, 3);
    for (uint32_t t = 0; t < n_tokens; t++) {
        for (uint32_t v = 0; v < p.n_vectors; v++)
            emit_store(e, acc[t * p.n_vectors + v], emit_at_const(e, out, v * e->isa->lanes * 4ull), 4);
        out = emit_at(e, out, LLVMGetParam(e->fn, 4));
    }
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}

/* ---- calling them from a kernel */

static val call(emit *e, val function, val *args, uint32_t n) {
    return LLVMBuildCall2(e->builder, LLVMGlobalGetValueType(function), function, args, n, "");
}

/* Makes a function in the middle of a kernel. */
typedef val maker(emit *e, uint64_t k, uint32_t n_tokens);

static val aside(emit *e, maker *make, uint64_t k, uint32_t n_tokens) {
    val               outer = e->fn;
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->builder);
    val               function = make(e, k, n_tokens);
    e->fn = outer;
    LLVMPositionBuilderAtEnd(e->builder, here);
    return function;
}

static val make_unpack(emit *e, uint64_t k, uint32_t n_tokens) {
    (void)n_tokens;
    return unpack_function(e, k);
}

void emit_tile_unpack(emit *e, uint64_t k, val rows, val tile) {
    val args[] = {rows, tile};
    call(e, aside(e, make_unpack, k, 0), args, 2);
}

void emit_tile_multiply(emit *e, uint64_t k, uint32_t n_tokens, val tile, val x, val x_stride, val out,
                        val out_stride) {
    val args[] = {tile, x, x_stride, out, out_stride};
    call(e, aside(e, product_function, k, n_tokens), args, 5);
}
