/* AArch64: all of it has NEON; with the dot product of Armv8.2, Cortex-A55 and A75 on, Neoverse, Apple. */
#include "emit.h"
#include "isa_generic.h"
#include "isa_rows.h"

/* Sixteen bytes: weights, activations, or what chooses among a table's. */
static val bytes(emit *e, val v) {
    return LLVMBuildBitCast(e->builder, v, emit_vector(e->i8, 16), "");
}

/* sdot: adds the products of four neighbouring i8 with as many to each of four i32 lanes. */
static val dotprod_rows(emit *e, val weights, val activations, val sum) {
    static const char name[] = "llvm.aarch64.neon.sdot";
    type types[] = {emit_vector(e->i32, 4), emit_vector(e->i8, 16)};
    val  args[] = {sum, bytes(e, weights), bytes(e, activations)};
    unsigned id = LLVMLookupIntrinsicID(name, sizeof name - 1);
    return LLVMBuildCall2(e->builder, LLVMIntrinsicGetType(e->context, id, types, 2),
                          LLVMGetIntrinsicDeclaration(e->module, id, types, 2), args, 3, "");
}

static val dotprod_dot(emit *e, val weights, val activations, val sum) {
    val halves[2];
    for (uint32_t i = 0; i < 2; i++)
        halves[i] = dotprod_rows(e, emit_pick(e, weights, NULL, 16 * i, 1, 16),
                                 emit_pick(e, activations, NULL, 16 * i, 1, 16),
                                 emit_pick(e, sum, NULL, 4 * i, 1, 4));
    return emit_concat(e, halves[0], halves[1]);
}

static val neon_look_up(emit *e, const int8_t table[16], val index) {
    uint32_t n = emit_length(index);
    if (n > 16)
        return emit_concat(e, neon_look_up(e, table, emit_pick(e, index, NULL, 0, 1, n / 2)),
                           neon_look_up(e, table, emit_pick(e, index, NULL, n / 2, 1, n / 2)));
    val all[16];
    for (uint32_t i = 0; i < 16; i++) all[i] = LLVMConstInt(e->i8, (uint64_t)table[i], true);
    val args[] = {LLVMConstVector(all, 16), n == 16 ? index : emit_widen(e, index, 16)};
    val found = emit_intrinsic(e, "llvm.aarch64.neon.tbl1", emit_vector(e->i8, 16), args, 2);
    return n == 16 ? found : emit_pick(e, found, NULL, 0, 1, n);
}

const isa isa_dotprod = {
    .name = "dotprod",
    .arch = "aarch64",
    .features = "fp-armv8 neon dotprod",
    .lanes = 4,
    .registers = 32,
    .tokens = 4,
    .native_f16 = true,
    .dot_length = 32,
    .dot = dotprod_dot,
    .tile_vectors = 2,
    .tile_tokens = 4,
    .plain_tokens = 8,
    .tile_columns = 4,
    .tile_steps = 8,
    .dot_rows = dotprod_rows,
    .dot_bytes = dotprod_rows,
    .look_up = neon_look_up,
};

/* The first or the second i16 of each i32 lane. */
static val half_of_lanes(emit *e, val lanes, uint32_t which) {
    if (which) lanes = LLVMBuildLShr(e->builder, lanes, emit_splat_int(e, e->i32, 16, emit_length(lanes)), "");
    return emit_cast(e, LLVMTrunc, lanes, e->i16);
}

/* smlal, four columns at a time: of generic code LLVM makes shifts, which widen them first. */
static val neon_dot_rows(emit *e, val weights, val activations, val sum) {
    for (uint32_t i = 0; i < 2; i++) {
        val args[] = {half_of_lanes(e, weights, i), half_of_lanes(e, activations, i)};
        sum = emit_add(e, sum, emit_intrinsic(e, "llvm.aarch64.neon.smull", LLVMTypeOf(sum), args, 2));
    }
    return sum;
}

/* LLVM makes of other generic operations what NEON has: multiplications that widen, and sums of neighbours. */
const isa isa_neon = {
    .name = "neon",
    .arch = "aarch64",
    .features = "fp-armv8 neon",
    .lanes = 4,
    .registers = 32,
    .tokens = 4,
    .native_f16 = true,
    .dot_length = 32,
    .dot = generic_dot,
    .tile_vectors = 2,
    .tile_tokens = 4,
    .plain_tokens = 8,
    .tile_columns = 2,
    .tile_steps = 2,
    .dot_rows = neon_dot_rows,
    .dot_pairs = generic_dot_pairs,
    .dot_words = generic_dot_words,
    .look_up = neon_look_up,
};
