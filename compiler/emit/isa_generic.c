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

const isa isa_generic = {
    .name = "generic",
    .lanes = 4,
    .registers = 16,
    .tokens = 2,
    .dot_length = 32,
    .dot = generic_dot,
};
