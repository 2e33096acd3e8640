/* x86-64 with AVX2, with AVX-VNNI, and with AVX-512 VNNI. */
#include "emit.h"
#include "isa_rows.h"

/* vpdpbusd multiplies unsigned by signed bytes: w xor 0x80 is w + 128 as an unsigned byte, and the
   sum begins with -128 · Σ x. */
static val vnni_dot(emit *e, val weights, val activations, val sum) {
    uint32_t n = emit_length(weights);
    type     lanes = emit_vector(e->i32, n / 4);
    val      sign = emit_splat(e, LLVMConstInt(e->i8, 0x80, false), n);
    val args[] = {
        sum,
        LLVMBuildBitCast(e->builder, LLVMBuildXor(e->builder, weights, sign, ""), lanes, ""),
        LLVMBuildBitCast(e->builder, activations, lanes, ""),
    };
    const char *name = n == 64 ? "llvm.x86.avx512.vpdpbusd.512" : "llvm.x86.avx512.vpdpbusd.256";
    return emit_intrinsic(e, name, NULL, args, 3);
}

static val vnni_dot_rows(emit *e, val weights, val activations, val sum) {
    val args[] = {sum, weights, activations};
    const char *name = emit_length(sum) == 16 ? "llvm.x86.avx512.vpdpbusd.512" : "llvm.x86.avx512.vpdpbusd.256";
    return emit_intrinsic(e, name, NULL, args, 3);
}

/* |w| · (x with w's sign): pairs of products are added in i16, which holds them as |x| <= 127 and
   |w| <= 128. */
static val avx2_dot(emit *e, val weights, val activations, val sum) {
    val abs_args[] = {weights, LLVMConstInt(e->i1, 0, false)};
    val magnitude = emit_intrinsic(e, "llvm.abs", LLVMTypeOf(weights), abs_args, 2);
    val signed_args[] = {activations, weights};
    val x = emit_intrinsic(e, "llvm.x86.avx2.psign.b", NULL, signed_args, 2);
    val byte_args[] = {magnitude, x};
    val pairs = emit_intrinsic(e, "llvm.x86.avx2.pmadd.ub.sw", NULL, byte_args, 2);
    val word_args[] = {pairs, emit_splat(e, LLVMConstInt(e->i16, 1, false), 16)};
    return emit_add(e, sum, emit_intrinsic(e, "llvm.x86.avx2.pmadd.wd", NULL, word_args, 2));
}

/* All that a feature needs stands beside it: LLVM takes -avx to mean -avx2 and what follows. */
#define AVX2 "sse3 ssse3 sse4.1 sse4.2 avx avx2 fma f16c"

const isa isa_avx512_vnni = {
    .name = "avx512-vnni",
    .arch = "x86_64",
    .features = AVX2 " avx512f avx512bw avx512vl avx512dq avx512vnni",
    .lanes = 16,
    .registers = 32,
    .tokens = 4,
    .native_f16 = true,
    .unsigned_weights = true,
    .dot_length = 64,
    .dot = vnni_dot,
    .tile_vectors = 2,
    .tile_tokens = 4,
    .dot_rows = vnni_dot_rows,
};

const isa isa_avx_vnni = {
    .name = "avx-vnni",
    .arch = "x86_64",
    .features = AVX2 " avxvnni",
    .lanes = 8,
    .registers = 16,
    .tokens = 2,
    .native_f16 = true,
    .unsigned_weights = true,
    .dot_length = 32,
    .dot = vnni_dot,
    .tile_vectors = 2,
    .tile_tokens = 2,
    .dot_rows = vnni_dot_rows,
};

const isa isa_avx2 = {
    .name = "avx2",
    .arch = "x86_64",
    .features = AVX2,
    .lanes = 8,
    .registers = 16,
    .tokens = 2,
    .native_f16 = true,
    .dot_length = 32,
    .dot = avx2_dot,
};
