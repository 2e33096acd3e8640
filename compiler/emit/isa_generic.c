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
};
