/* Vectors of any target: nothing but LLVM's own operations, so that what has no row of its own is
 * still compiled to what its vector unit can do. */
#include "isa_generic.h"
#include "isa_rows.h"

/* Elements i and i + half of each `unit` of v, for i below half of it: one or the other. */
static val half_of_each(emit *e, val v, uint32_t unit, uint32_t which) {
    uint32_t half = unit / 2, n = emit_length(v) / 2, from[16];
    for (uint32_t i = 0; i < n; i++) from[i] = i / half * unit + which * half + i % half;
    return emit_permute(e, v, from, n);
}

/* An i16 holds the sum of two products of i8, as |x| <= 127. It is all the same which four of 16 a lane adds up:
   whole vectors take no shuffles. */
val generic_dot(emit *e, val weights, val activations, val sum) {
    val w = emit_cast(e, LLVMSExt, weights, e->i16), x = emit_cast(e, LLVMSExt, activations, e->i16);
    val products = emit_mul(e, w, x);
    val twos = emit_add(e, half_of_each(e, products, 16, 0), half_of_each(e, products, 16, 1));
    return emit_add(e, sum, emit_add(e, emit_cast(e, LLVMSExt, half_of_each(e, twos, 8, 0), e->i32),
                                     emit_cast(e, LLVMSExt, half_of_each(e, twos, 8, 1), e->i32)));
}

/* Even and odd i16 of both sides. */
static val generic_dot_rows(emit *e, val weights, val activations, val sum) {
    uint32_t n = emit_length(sum);
    type     words = emit_vector(e->i16, 2 * n);
    val      w = LLVMBuildBitCast(e->builder, weights, words, "");
    val      x = LLVMBuildBitCast(e->builder, activations, words, "");
    for (uint32_t i = 0; i < 2; i++) {
        val a = emit_cast(e, LLVMSExt, emit_pick(e, w, NULL, i, 2, n), e->i32);
        val b = emit_cast(e, LLVMSExt, emit_pick(e, x, NULL, i, 2, n), e->i32);
        sum = emit_add(e, sum, emit_mul(e, a, b));
    }
    return sum;
}

/* Neighbouring i16, multiplied and added as `wide`. */
static val pairs(emit *e, val a, val b, type wide) {
    uint32_t n = emit_length(a) / 2;
    val      even = emit_mul(e, emit_cast(e, LLVMSExt, emit_pick(e, a, NULL, 0, 2, n), wide),
                             emit_cast(e, LLVMSExt, emit_pick(e, b, NULL, 0, 2, n), wide));
    val      odd = emit_mul(e, emit_cast(e, LLVMSExt, emit_pick(e, a, NULL, 1, 2, n), wide),
                            emit_cast(e, LLVMSExt, emit_pick(e, b, NULL, 1, 2, n), wide));
    return emit_add(e, even, odd);
}

val generic_dot_pairs(emit *e, val weights, val activations) {
    return pairs(e, weights, activations, e->i16);
}

val generic_dot_words(emit *e, val a, val b, val sum) {
    val v = pairs(e, a, b, e->i32);
    return sum ? emit_add(e, sum, v) : v;
}

/* By halves: each bit of the index chooses between two of what the lower bits chose. */
static val generic_look_up(emit *e, const int8_t table[16], val index) {
    uint32_t n = emit_length(index);
    val      all[16];
    for (int i = 0; i < 16; i++) all[i] = emit_splat_int(e, e->i8, (uint64_t)table[i], n);
    for (uint32_t bit = 0; bit < 4; bit++) {
        val mask = LLVMBuildAnd(e->builder, index, emit_splat_int(e, e->i8, 1u << bit, n), "");
        val set = LLVMBuildICmp(e->builder, LLVMIntNE, mask, LLVMConstNull(LLVMTypeOf(mask)), "");
        for (int i = 0; i < 8 >> bit; i++)
            all[i] = LLVMBuildSelect(e->builder, set, all[2 * i + 1], all[2 * i], "");
    }
    return all[0];
}

const isa isa_generic = {
    .name = "generic",
    .lanes = 4,
    .registers = 16,
    .tokens = 2,
    .dot_length = 32,
    .dot = generic_dot,
    .tile_vectors = 2,
    .tile_tokens = 4,
    .plain_tokens = 4,
    .tile_columns = 2,
    .tile_steps = 2,
    .dot_rows = generic_dot_rows,
    .dot_pairs = generic_dot_pairs,
    .dot_words = generic_dot_words,
    .look_up = generic_look_up,
};
