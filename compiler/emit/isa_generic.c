/* Vectors of any target: nothing but LLVM's own operations, so that what has no row of its own is
 * still compiled to what its vector unit can do. */
#include "emit.h"
#include "isa_rows.h"

/* Every product of two i8 fits an i16; four neighbours are then added as i32. */
static val generic_dot(emit *e, val weights, val activations, val sum) {
    val w = emit_cast(e, LLVMSExt, weights, e->i16), x = emit_cast(e, LLVMSExt, activations, e->i16);
    val products = emit_cast(e, LLVMSExt, emit_mul(e, w, x), e->i32);
    for (uint32_t i = 0; i < 4; i++)
        sum = emit_add(e, sum, emit_pick(e, products, NULL, i, 4, 8));
    return sum;
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

static val generic_dot_pairs(emit *e, val weights, val activations) {
    return pairs(e, weights, activations, e->i16);
}

static val generic_dot_words(emit *e, val a, val b, val sum) {
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
