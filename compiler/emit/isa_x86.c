/* x86-64 with SSSE3, with AVX2, with AVX-VNNI, with AVX-512 VNNI, and with AMX. */
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

static val vnni_dot_bf16(emit *e, val weights, val activations, val sum) {
    uint32_t n = emit_length(sum);
    type     pairs = emit_vector(LLVMBFloatTypeInContext(e->context), 2 * n);
    val args[] = {sum, LLVMBuildBitCast(e->builder, weights, pairs, ""),
                  LLVMBuildBitCast(e->builder, activations, pairs, "")};
    return emit_intrinsic(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, args, 3);
}

/* The intrinsic for vectors of `bytes` bytes; of longer ones than registers are, for parts of them. */
static val by_width(emit *e, const char *const names[3], uint32_t bytes, val *args, uint32_t n) {
    const char *name = names[bytes == 64 ? 2 : bytes == 32 ? 1 : 0];
    if (bytes <= 4 * e->isa->lanes) return emit_intrinsic(e, name, NULL, args, n);
    val halves[2], part[3];
    for (uint32_t h = 0; h < 2; h++) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t length = emit_length(args[i]) / 2;
            part[i] = emit_pick(e, args[i], NULL, h * length, 1, length);
        }
        halves[h] = by_width(e, names, bytes / 2, part, n);
    }
    return emit_concat(e, halves[0], halves[1]);
}

static val x86_dot_pairs(emit *e, val weights, val activations) {
    static const char *const names[] = {"llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.avx2.pmadd.ub.sw",
                                        "llvm.x86.avx512.pmaddubs.w.512"};
    val args[] = {weights, activations};
    return by_width(e, names, emit_length(weights), args, 2);
}

static val x86_dot_words(emit *e, val a, val b, val sum) {
    static const char *const names[] = {"llvm.x86.sse2.pmadd.wd", "llvm.x86.avx2.pmadd.wd",
                                        "llvm.x86.avx512.pmaddw.d.512"};
    val args[] = {a, b}, v = by_width(e, names, emit_length(a) * 2, args, 2);
    return sum ? emit_add(e, sum, v) : v;
}

/* Pairs of i16: their products are added in i32. */
static val x86_dot_rows(emit *e, val weights, val activations, val sum) {
    type words = emit_vector(e->i16, 2 * emit_length(sum));
    return x86_dot_words(e, LLVMBuildBitCast(e->builder, weights, words, ""),
                         LLVMBuildBitCast(e->builder, activations, words, ""), sum);
}

/* |w| · (x with w's sign): pairs of products are added in i16, which holds them as |x| <= 127 and
   |w| <= 128. */
static val x86_dot_signed_pairs(emit *e, val weights, val activations) {
    static const char *const names[3] = {"llvm.x86.ssse3.psign.b.128", "llvm.x86.avx2.psign.b"}; /* no longer one */
    val abs_args[] = {weights, LLVMConstInt(e->i1, 0, false)};
    val magnitude = emit_intrinsic(e, "llvm.abs", LLVMTypeOf(weights), abs_args, 2);
    val args[] = {activations, weights};
    return x86_dot_pairs(e, magnitude, by_width(e, names, emit_length(weights), args, 2));
}

static val x86_dot(emit *e, val weights, val activations, val sum) {
    val pairs = x86_dot_signed_pairs(e, weights, activations);
    return x86_dot_words(e, pairs, emit_splat_int(e, e->i16, 1, emit_length(pairs)), sum);
}

static val x86_dot_bytes(emit *e, val weights, val activations, val sum) {
    type bytes = emit_vector(e->i8, 4 * emit_length(sum));
    return x86_dot(e, LLVMBuildBitCast(e->builder, weights, bytes, ""),
                   LLVMBuildBitCast(e->builder, activations, bytes, ""), sum);
}

static val vnni_dot_words(emit *e, val a, val b, val sum) {
    static const char *const names[] = {"llvm.x86.avx512.vpdpwssd.128", "llvm.x86.avx512.vpdpwssd.256",
                                        "llvm.x86.avx512.vpdpwssd.512"};
    if (!sum) return x86_dot_words(e, a, b, NULL);
    type lanes = LLVMTypeOf(sum);
    val  args[] = {sum, LLVMBuildBitCast(e->builder, a, lanes, ""), LLVMBuildBitCast(e->builder, b, lanes, "")};
    return by_width(e, names, emit_length(a) * 2, args, 3);
}

static val x86_narrow(emit *e, val a, val b) {
    static const char *const names[] = {"llvm.x86.sse2.packssdw.128", "llvm.x86.avx2.packssdw",
                                        "llvm.x86.avx512.packssdw.512"};
    val args[] = {a, b};
    return by_width(e, names, emit_length(a) * 4, args, 2);
}

static val x86_look_up(emit *e, const int8_t table[16], val index) {
    static const char *const names[] = {"llvm.x86.ssse3.pshuf.b.128", "llvm.x86.avx2.pshuf.b",
                                        "llvm.x86.avx512.pshuf.b.512"};
    uint32_t n = emit_length(index);
    val      all[64];
    for (uint32_t i = 0; i < n; i++) all[i] = LLVMConstInt(e->i8, (uint64_t)table[i % 16], true);
    val args[] = {LLVMConstVector(all, n), index};
    return by_width(e, names, n, args, 2);
}

/* All that a feature needs stands beside it: LLVM takes -avx to mean -avx2 and what follows. */
#define SSSE3 "sse3 ssse3"

#define AVX2 SSSE3 " sse4.1 sse4.2 avx avx2 fma f16c"

#define AVX512_VNNI AVX2 " avx512f avx512bw avx512vl avx512dq avx512vnni"

/* All rows with AVX-512 have this in common. */
#define AVX512_ROW                                                                         \
    .arch = "x86_64", .lanes = 16, .registers = 32, .tokens = 4, .native_f16 = true,       \
    .masks = true, .unsigned_weights = true, .dot_length = 64, .dot = vnni_dot,            \
    .tile_vectors = 2, .tile_tokens = 4, .plain_tokens = 8, .tile_columns = 4,             \
    .tile_steps = 8,                                                                       \
    .dot_rows = vnni_dot_rows, .dot_bytes = vnni_dot_rows, .dot_pairs = x86_dot_pairs,     \
    .dot_words = vnni_dot_words, .narrow = x86_narrow, .look_up = x86_look_up

/* ---- AMX: eight registers of 16 rows of 64 bytes, for sums, tokens' words and rows' words */

enum { AMX_ROWS = 16, AMX_X = 4, AMX_W = 6, AMX_REGISTERS = 8, AMX_BANDS = AMX_W - AMX_X,
       AMX_VECTORS = AMX_REGISTERS - AMX_W };
_Static_assert(AMX_BANDS * AMX_VECTORS == AMX_X && AMX_X <= ISA_MAX_SUMS, "sums are the first registers");

static val amx_register(emit *e, uint32_t n) {
    return LLVMConstInt(e->i8, n, false);
}

static val amx_sum(emit *e, uint32_t band, uint32_t vector) {
    return amx_register(e, band * AMX_VECTORS + vector);
}

/* The operand of ldtilecfg: palette 1, then from byte 16 on how many bytes a row has, from byte 48 on rows. */
static val amx_shapes(emit *e, uint32_t n_tokens, uint32_t words) {
    uint8_t shapes[64] = {1};
    for (uint32_t i = 0; i < AMX_REGISTERS; i++) {
        shapes[16 + 2 * i] = (uint8_t)(i >= AMX_X && i < AMX_W ? 4 * words : 64);
        shapes[48 + i] = (uint8_t)(i < AMX_W ? n_tokens : words);
    }
    val bytes = LLVMConstStringInContext(e->context, (const char *)shapes, sizeof shapes, true);
    return emit_constant(e, arena_printf(e->memory, "amx_x%u_w%u", n_tokens, words), bytes, 64);
}

static void amx_begin(emit *e, uint32_t n_tokens, uint32_t words) {
    val args[] = {amx_shapes(e, n_tokens, words)};
    emit_intrinsic(e, "llvm.x86.ldtilecfg", NULL, args, 1);
}

static void amx_end(emit *e) {
    emit_intrinsic(e, "llvm.x86.tilerelease", NULL, NULL, 0);
}

static void amx_zero(emit *e, uint32_t band, uint32_t vector) {
    val args[] = {amx_sum(e, band, vector)};
    emit_intrinsic(e, "llvm.x86.tilezero", NULL, args, 1);
}

static void amx_load(emit *e, uint32_t to, val from, val stride) {
    val args[] = {amx_register(e, to), from, stride};
    emit_intrinsic(e, "llvm.x86.tileloadd64", NULL, args, 3);
}

static void amx_multiply(emit *e, enum matrix_product kind, uint32_t n_bands, const val *x, val x_stride,
                         uint32_t n_vectors, const val *w, uint64_t w_stride) {
    static const char *const names[] = {[MATRIX_I8] = "llvm.x86.tdpbssd", [MATRIX_BF16] = "llvm.x86.tdpbf16ps"};
    for (uint32_t g = 0; g < n_bands; g++) amx_load(e, AMX_X + g, x[g], x_stride);
    for (uint32_t v = 0; v < n_vectors; v++) {
        amx_load(e, AMX_W + v, w[v], emit_i64(e, w_stride));
        for (uint32_t g = 0; g < n_bands; g++) {
            val args[] = {amx_sum(e, g, v), amx_register(e, AMX_X + g), amx_register(e, AMX_W + v)};
            emit_intrinsic(e, names[kind], NULL, args, 3);
        }
    }
}

static void amx_store(emit *e, uint32_t band, uint32_t vector, val to, val stride) {
    val args[] = {amx_sum(e, band, vector), to, stride};
    emit_intrinsic(e, "llvm.x86.tilestored64", NULL, args, 3);
}

static const isa_matrix amx = {
    .tokens = AMX_ROWS, .words = AMX_ROWS, .bands = AMX_BANDS, .vectors = AMX_VECTORS,
    .begin = amx_begin, .end = amx_end, .zero = amx_zero, .multiply = amx_multiply, .store = amx_store,
};

const isa isa_amx = {
    .name = "amx",
    .features = AVX512_VNNI " avx512bf16 amx-tile amx-int8 amx-bf16",
    AVX512_ROW,
    .dot_bf16 = vnni_dot_bf16,
    .matrix = &amx,
};

const isa isa_avx512_bf16 = {
    .name = "avx512-bf16",
    .features = AVX512_VNNI " avx512bf16",
    AVX512_ROW,
    .dot_bf16 = vnni_dot_bf16,
};

const isa isa_avx512_vnni = {
    .name = "avx512-vnni",
    .features = AVX512_VNNI,
    AVX512_ROW,
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
    .tile_tokens = 4,
    .plain_tokens = 4,
    .tile_columns = 4,
    .tile_steps = 2,
    .dot_rows = vnni_dot_rows,
    .dot_bytes = vnni_dot_rows,
    .dot_pairs = x86_dot_pairs,
    .dot_words = vnni_dot_words,
    .narrow = x86_narrow,
    .look_up = x86_look_up,
};

/* Rows without an instruction that adds four products have this in common. */
#define PAIRS_ROW                                                                                  \
    .arch = "x86_64", .registers = 16, .dot_length = 32, .dot = x86_dot,                           \
    .tile_vectors = 2, .tile_tokens = 4, .plain_tokens = 4, .tile_columns = 2, .tile_steps = 2,    \
    .pair_tokens = 4, .pair_steps = 4,                                                             \
    .dot_rows = x86_dot_rows, .dot_bytes = x86_dot_bytes, .dot_pairs = x86_dot_pairs,              \
    .dot_signed_pairs = x86_dot_signed_pairs, .dot_words = x86_dot_words, .look_up = x86_look_up

const isa isa_avx2 = {
    .name = "avx2",
    .features = AVX2,
    PAIRS_ROW,
    .lanes = 8,
    .tokens = 4,
    .native_f16 = true,
    .panel_rows = 4,
    .panel_tokens = 3,
};

const isa isa_ssse3 = {
    .name = "ssse3",
    .features = SSSE3,
    PAIRS_ROW,
    .lanes = 4,
    .tokens = 2,
    .spills_in_order = true,
};
