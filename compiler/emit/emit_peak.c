/* What a machine can do at most, by the instructions that kernels are made of: sums of independent
 * products of registers, and a plain read. The products of the dot are written as a tile's are, so
 * that no two are alike: each of a few weights times each of a few activations. Activations are loaded
 * anew in each round, or else what does not change would be computed but once. */
#include "emit_block.h"

#define SUMS 8 /* of a read: as many loads are under way */

typedef struct grid {
    uint32_t n_weights, n_activations;
} grid;

/* As many sums as hide the latency of a product and still fit the registers. */
static grid choose_grid(const emit *e) {
    return e->isa->registers >= 32 ? (grid){4, 4} : (grid){2, 5};
}

static val fresh_load(emit *e, type t, val pointer) {
    val v = emit_load(e, t, pointer, 64);
    LLVMSetVolatile(v, true);
    return v;
}

/* ---- products */

typedef val product(emit *e, val weight, val activation, val sum);

static val product_fma(emit *e, val weight, val activation, val sum) {
    return emit_fma(e, weight, activation, sum);
}

static val product_dot(emit *e, val weight, val activation, val sum) {
    return (e->isa->dot_rows ? e->isa->dot_rows : e->isa->dot)(e, weight, activation, sum);
}

/* Products of few bits: two are added as i16 each. */
static val product_pairs(emit *e, val weight, val activation, val sum) {
    return emit_add(e, sum, e->isa->dot_pairs(e, weight, activation));
}

/* f (memory, rounds): `memory` holds the operands, a vector of `operand` after another, each at 64
   bytes; the sums are written there in the end. */
static val emit_products(emit *e, const char *name, type operand, type sum, product *multiply) {
    type params[] = {e->ptr, e->i64};
    grid g = choose_grid(e);
    val  weights[8], next[64];
    emit_function_begin(e, name, e->none, params, 2);
    val memory = LLVMGetParam(e->fn, 0);
    for (uint32_t w = 0; w < g.n_weights; w++)
        weights[w] = emit_load(e, operand, emit_at_const(e, memory, 64ull * w), 64);
    loop l = emit_loop_begin(e, emit_i64(e, 0), LLVMGetParam(e->fn, 1), 1);
    for (uint32_t i = 0; i < g.n_weights * g.n_activations; i++)
        next[i] = emit_loop_carry(e, &l, LLVMConstNull(sum));
    for (uint32_t x = 0; x < g.n_activations; x++) {
        val activation = fresh_load(e, operand, emit_at_const(e, memory, 64ull * (g.n_weights + x)));
        for (uint32_t w = 0; w < g.n_weights; w++) {
            val *s = &next[x * g.n_weights + w];
            *s = multiply(e, weights[w], activation, *s);
        }
    }
    emit_loop_end(e, &l, next);
    for (uint32_t i = 0; i < g.n_weights * g.n_activations; i++)
        emit_store(e, next[i], emit_at_const(e, memory, 64ull * i), 64);
    LLVMBuildRetVoid(e->builder);
    return e->fn;
}

/* The same of 8-bit products by a matrix unit: tokens' words, then rows' words, then sums are written over both. */
static val emit_matrix_products(emit *e, uint64_t *a_round) {
    const isa_matrix *unit = e->isa->matrix;
    type     params[] = {e->ptr, e->i64};
    uint32_t lanes = e->isa->lanes, line = 4 * unit->words;
    uint64_t vector = 4ull * lanes, band = (uint64_t)unit->tokens * line;
    val      x[ISA_MAX_SUMS], w[ISA_MAX_SUMS];
    emit_function_begin(e, "peak_dot", e->none, params, 2);
    val memory = LLVMGetParam(e->fn, 0), rows = emit_at_const(e, memory, unit->bands * band);
    for (uint32_t g = 0; g < unit->bands; g++) x[g] = emit_at_const(e, memory, g * band);
    for (uint32_t v = 0; v < unit->vectors; v++) w[v] = emit_at_const(e, rows, vector * unit->words * v);
    unit->begin(e, unit->tokens, unit->words);
    for (uint32_t i = 0; i < unit->bands * unit->vectors; i++) unit->zero(e, i / unit->vectors, i % unit->vectors);
    loop l = emit_loop_begin(e, emit_i64(e, 0), LLVMGetParam(e->fn, 1), 1);
    unit->multiply(e, MATRIX_I8, unit->bands, x, emit_i64(e, line), unit->vectors, w, vector);
    emit_loop_end(e, &l, NULL);
    for (uint32_t i = 0; i < unit->bands * unit->vectors; i++)
        unit->store(e, i / unit->vectors, i % unit->vectors, emit_at_const(e, memory, vector * unit->tokens * i),
                    emit_i64(e, vector));
    unit->end(e);
    LLVMBuildRetVoid(e->builder);
    *a_round = 4ull * unit->bands * unit->tokens * unit->vectors * lanes * unit->words;
    return e->fn;
}

static val emit_dot_products(emit *e, enum quant_type weight, uint64_t *a_round) {
    grid     g = choose_grid(e);
    uint32_t lanes = e->isa->lanes;
    if (e->isa->matrix) return emit_matrix_products(e, a_round);
    if (emit_block_in_pairs(emit_block_find(weight), e->isa) > 1) {
        *a_round = (uint64_t)g.n_weights * g.n_activations * 4 * lanes;
        return emit_products(e, "peak_dot", emit_vector(e->i8, 4 * lanes), emit_vector(e->i16, 2 * lanes),
                             product_pairs);
    }
    bool     rows = e->isa->dot_rows != NULL;
    uint32_t n = rows ? e->isa->tile_columns * lanes : e->isa->dot_length;
    type operand = rows ? emit_vector(e->i32, lanes) : emit_vector(e->i8, n);
    type sum = emit_vector(e->i32, rows ? lanes : n / 4);
    *a_round = (uint64_t)g.n_weights * g.n_activations * n;
    return emit_products(e, "peak_dot", operand, sum, product_dot);
}

static val emit_fma_products(emit *e, uint64_t *a_round) {
    grid g = choose_grid(e);
    type t = emit_vector(e->f32, e->isa->lanes);
    *a_round = (uint64_t)g.n_weights * g.n_activations * e->isa->lanes;
    return emit_products(e, "peak_fma", t, t, product_fma);
}

/* ---- reading */

/* f (memory, bytes) → a number that depends on all of them. */
static val emit_read(emit *e) {
    type params[] = {e->ptr, e->i64};
    type t = emit_vector(e->i32, e->isa->lanes);
    val  next[SUMS];
    uint64_t width = 4ull * e->isa->lanes;
    emit_function_begin(e, "peak_read", e->i32, params, 2);
    loop l = emit_loop_begin(e, emit_i64(e, 0), LLVMGetParam(e->fn, 1), EMIT_PEAK_STEP);
    for (uint32_t i = 0; i < SUMS; i++) next[i] = emit_loop_carry(e, &l, LLVMConstNull(t));
    val at = emit_at(e, LLVMGetParam(e->fn, 0), l.i);
    for (uint32_t from = 0; from < EMIT_PEAK_STEP; from += (uint32_t)width) {
        val *s = &next[from / width % SUMS];
        *s = LLVMBuildXor(e->builder, *s, emit_load(e, t, emit_at_const(e, at, from), 64), "");
    }
    emit_loop_end(e, &l, next);
    for (uint32_t i = 1; i < SUMS; i++) next[0] = LLVMBuildXor(e->builder, next[0], next[i], "");
    LLVMBuildRet(e->builder, emit_intrinsic(e, "llvm.vector.reduce.xor", t, next, 1));
    return e->fn;
}

/* ---- the table */

void emit_peak(arena *a, LLVMModuleRef module, const isa *target, enum quant_type weight) {
    emit     e = {.memory = a, .module = module, .isa = target};
    uint64_t dots, fmas;
    emit_begin(&e);
    val fields[] = {
        emit_read(&e), emit_dot_products(&e, weight, &dots), emit_fma_products(&e, &fmas),
        emit_i64(&e, dots), emit_i64(&e, fmas),
    };
    val initial = LLVMConstStructInContext(e.context, fields, ARRAY_LEN(fields), false);
    val symbol = LLVMAddGlobal(module, LLVMTypeOf(initial), EMIT_PEAK_SYMBOL);
    LLVMSetInitializer(symbol, initial);
    LLVMSetGlobalConstant(symbol, true);
    LLVMDisposeBuilder(e.builder);
}
