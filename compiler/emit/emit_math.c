/* The evaluating part's own mathematics: it calls no library. Everything works on a scalar or a
 * vector of any length, and honours subnormals: no flush to zero, no fast-math (but for NEON of 32-bit Arm, which
 * knows none). */
#include "emit.h"

#include <math.h>

/* Constants of the shape of v. */
static val splat_i32(emit *e, uint64_t n, val v) {
    return emit_splat(e, emit_i32(e, n), emit_length(v));
}

static val splat_f32(emit *e, double x, val v) {
    return emit_splat_f32(e, x, emit_length(v));
}

static val bits_as(emit *e, val v, type t) {
    return LLVMBuildBitCast(e->builder, v, emit_vector(t, emit_length(v)), "");
}

static val choose(emit *e, val condition, val a, val b) {
    return LLVMBuildSelect(e->builder, condition, a, b, "");
}

static val shift_left(emit *e, val v, uint32_t bits) {
    return LLVMBuildShl(e->builder, v, splat_i32(e, bits, v), "");
}

static val shift_right(emit *e, val v, uint32_t bits) {
    return LLVMBuildLShr(e->builder, v, splat_i32(e, bits, v), "");
}

static val and_bits(emit *e, val v, uint64_t bits) {
    return LLVMBuildAnd(e->builder, v, splat_i32(e, bits, v), "");
}

static val or(emit *e, val a, val b) {
    return LLVMBuildOr(e->builder, a, b, "");
}

static val above(emit *e, val v, uint64_t bits) {
    return LLVMBuildICmp(e->builder, LLVMIntUGT, v, splat_i32(e, bits, v), "");
}

static val all_ones_where_equal(emit *e, val v, uint64_t bits) {
    return emit_cast(e, LLVMSExt, LLVMBuildICmp(e->builder, LLVMIntEQ, v, splat_i32(e, bits, v), ""), e->i32);
}

/* ---- f16 and bf16 */

/* An f16's sign, exponent and fraction in f32's place, which makes it too small by 2^112. */
static val half_in_place(emit *e, val half_bits) {
    val high = shift_left(e, emit_cast(e, LLVMZExt, half_bits, e->i32), 16);
    return and_bits(e, LLVMBuildAShr(e->builder, high, splat_i32(e, 3, high), ""), 0x8fffe000);
}

/* `bits` for infinity and NaN. */
static val where_special(emit *e, val in_place, uint64_t bits) {
    return and_bits(e, all_ones_where_equal(e, and_bits(e, in_place, 0x0f800000), 0x0f800000), bits);
}

/* Zeros and subnormals get the exponent of the smallest normal, and lose it again as f32s. */
val emit_raise_exponent(emit *e, val bits, uint32_t by) {
    val small = all_ones_where_equal(e, and_bits(e, bits, 0x7f800000), 0);
    val raised = emit_add(e, bits, splat_i32(e, (uint64_t)by << 23, bits));
    raised = emit_add(e, raised, and_bits(e, small, 1 << 23));
    val power = LLVMBuildAnd(e->builder, raised, and_bits(e, small, 0xff800000), ""); /* with the sign */
    return emit_fsub(e, bits_as(e, raised, e->f32), bits_as(e, power, e->f32));
}

static val half_to_f32_by_bits(emit *e, val half_bits) {
    val moved = half_in_place(e, half_bits);
    val number = emit_raise_exponent(e, emit_add(e, moved, where_special(e, moved, 112u << 23)), 112);
    return bits_as(e, or(e, bits_as(e, number, e->i32), and_bits(e, moved, 0x80000000)), e->f32); /* of -0, too */
}

/* In fewer steps, but a subnormal f32 may take a processor a hundred cycles, and is zero for NEON of 32-bit Arm. Of a
   matrix's numbers few are subnormal halves; of the scales of its blocks all may be. */
static val half_to_f32_by_product(emit *e, val half_bits) {
    val moved = half_in_place(e, half_bits);
    val number = emit_fmul(e, bits_as(e, moved, e->f32), splat_f32(e, 0x1p112, moved));
    return bits_as(e, or(e, bits_as(e, number, e->i32), where_special(e, moved, 0x7f800000)), e->f32);
}

static val native_half_to_f32(emit *e, val half_bits) {
    return emit_cast(e, LLVMFPExt, bits_as(e, half_bits, e->f16), e->f32);
}

val emit_half_to_f32(emit *e, val half_bits) {
    return e->isa->native_f16 ? native_half_to_f32(e, half_bits) : half_to_f32_by_bits(e, half_bits);
}

/* Normals: rebias the exponent and round the 13 bits that fall away by adding half of their unit
   (less one where the kept bit is even). Subnormals: adding 0.5 aligns the value so that the FPU
   rounds it at the right bit. */
static val f32_to_half_by_bits(emit *e, val v) {
    val bits = bits_as(e, v, e->i32);
    val sign = shift_right(e, and_bits(e, bits, 0x80000000), 16);
    val magnitude = and_bits(e, bits, 0x7fffffff);

    val odd = and_bits(e, shift_right(e, magnitude, 13), 1);
    val normal = emit_add(e, magnitude, splat_i32(e, 0xc8000fff, bits)); /* (15 - 127) << 23, 0xfff */
    normal = shift_right(e, emit_add(e, normal, odd), 13);

    val aligned = emit_fadd(e, bits_as(e, magnitude, e->f32), splat_f32(e, 0.5, bits));
    val small = emit_sub(e, bits_as(e, aligned, e->i32), splat_i32(e, 0x3f000000, bits));

    val half = choose(e, above(e, magnitude, 0x387fffff), normal, small);
    half = choose(e, above(e, magnitude, 0x477fefff), splat_i32(e, 0x7c00, bits), half);
    half = choose(e, above(e, magnitude, 0x7f800000), splat_i32(e, 0x7e00, bits), half);
    return emit_cast(e, LLVMTrunc, or(e, half, sign), e->i16);
}

val emit_f32_to_half(emit *e, val v) {
    if (!e->isa->native_f16) return f32_to_half_by_bits(e, v);
    return bits_as(e, emit_cast(e, LLVMFPTrunc, v, e->f16), e->i16);
}

val emit_bf16_to_f32(emit *e, val bits) {
    return bits_as(e, shift_left(e, emit_cast(e, LLVMZExt, bits, e->i32), 16), e->f32);
}

val emit_f32_to_bf16(emit *e, val v) {
    val bits = bits_as(e, v, e->i32);
    val odd = and_bits(e, shift_right(e, bits, 16), 1);
    val rounded = emit_add(e, emit_add(e, bits, splat_i32(e, 0x7fff, bits)), odd);
    val quiet = or(e, bits, splat_i32(e, 0x400000, bits));
    val nan = above(e, and_bits(e, bits, 0x7fffffff), 0x7f800000);
    return emit_cast(e, LLVMTrunc, shift_right(e, choose(e, nan, quiet, rounded), 16), e->i16);
}

static val load_halves(emit *e, val pointer, uint32_t n) {
    val bits = emit_load(e, emit_vector(e->i16, n), pointer, 2);
    return e->isa->native_f16 ? native_half_to_f32(e, bits) : half_to_f32_by_product(e, bits);
}

val emit_load_f32(emit *e, enum quant_type from, val pointer, uint32_t n) {
    switch (from) {
    case QUANT_F32: return emit_load(e, emit_vector(e->f32, n), pointer, 4);
    case QUANT_F16: return load_halves(e, pointer, n);
    case QUANT_BF16: return emit_bf16_to_f32(e, emit_load(e, emit_vector(e->i16, n), pointer, 2));
    default: bug("type %d is no plain number", from);
    }
}

/* ---- across a vector */

val emit_sum(emit *e, val v) {
    uint32_t n = emit_length(v);
    if (n == 1) return v;
    uint32_t half = n / 2;
    val sum = emit_fadd(e, emit_pick(e, v, NULL, 0, 1, half), emit_pick(e, v, NULL, half, 1, half));
    sum = emit_sum(e, sum);
    return n % 2 ? emit_fadd(e, sum, emit_pick(e, v, NULL, n - 1, 1, 1)) : sum;
}

val emit_max_element(emit *e, val v) {
    uint32_t n = emit_length(v);
    if (n == 1) return v;
    uint32_t half = n / 2;
    val most = emit_fmax(e, emit_pick(e, v, NULL, 0, 1, half), emit_pick(e, v, NULL, half, 1, half));
    most = emit_max_element(e, most);
    return n % 2 ? emit_fmax(e, most, emit_pick(e, v, NULL, n - 1, 1, 1)) : most;
}

/* The lower half of v plus its upper half, until `n` are left. */
static val fold_to(emit *e, val v, uint32_t n) {
    while (emit_length(v) > n) {
        uint32_t half = emit_length(v) / 2;
        v = emit_fadd(e, emit_pick(e, v, NULL, 0, 1, half), emit_pick(e, v, NULL, half, 1, half));
    }
    return v;
}

/* a and b hold groups of `group` values: the sum of each group's halves, in order. */
static val fold_groups(emit *e, val a, val b, uint32_t group) {
    return emit_fadd(e, emit_pick_groups(e, a, b, 0, group),
                     emit_pick_groups(e, a, b, group / 2, group));
}

val emit_sum_each(emit *e, val *vectors, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) vectors[i] = fold_to(e, vectors[i], n);
    if (n == 1) return vectors[0];
    uint32_t group = n; /* how many values a vector still has of each sum */
    for (uint32_t left = n; left > 1; left /= 2, group /= 2)
        for (uint32_t i = 0; i < left / 2; i++)
            vectors[i] = fold_groups(e, vectors[2 * i], vectors[2 * i + 1], group);
    return vectors[0];
}

/* ---- functions */

val emit_abs(emit *e, val v) {
    return bits_as(e, and_bits(e, bits_as(e, v, e->i32), 0x7fffffff), e->f32);
}

val emit_sqrt(emit *e, val v) {
    return emit_intrinsic(e, "llvm.sqrt", LLVMTypeOf(v), &v, 1);
}

/* 1.5 · 2^23 added pushes the fraction out of the significand, rounding it to nearest even, and
   leaves the integer in the low bits. */
val emit_round_i32(emit *e, val v) {
    val pushed = emit_fadd(e, v, splat_f32(e, 0x1.8p23, v));
    return emit_sub(e, bits_as(e, pushed, e->i32), splat_i32(e, 0x4b400000, v));
}

#define EXP_LEAST -87.0 /* where exp is a normal number */
#define EXP_MOST  88.0

/* exp(x) = 2^n · exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, for x from EXP_LEAST to EXP_MOST. exp(r) is
   1 + r + r² · q(r) with a relative error of 3.6e-9, the least of q's degree, found by iterated weighted least
   squares (Lawson 1961). The sum that rounds to n has it in its low bits, too. A NaN stays one if its own low
   bits are 0, as of those that processors make. */
static val exp_between(emit *e, val x) {
    val pushed = emit_fma(e, x, splat_f32(e, M_LOG2E, x), splat_f32(e, 0x1.8p23, x));
    val n = emit_fsub(e, pushed, splat_f32(e, 0x1.8p23, x));
    val r = emit_fma(e, n, splat_f32(e, -0x1.62e4p-1, x), x); /* ln 2 in two parts */
    r = emit_fma(e, n, splat_f32(e, -(M_LN2 - 0x1.62e4p-1), x), r);
    val square = emit_fmul(e, r, r);
    val low = emit_fma(e, r, splat_f32(e, 0x1.555492p-3, x), splat_f32(e, 0x1.fffffcp-2, x));
    val high = emit_fma(e, r, splat_f32(e, 0x1.123a2p-7, x), splat_f32(e, 0x1.5558f2p-5, x));
    high = emit_fma(e, square, splat_f32(e, 0x1.6a23dp-10, x), high);
    val q = emit_fma(e, square, high, low);
    val p = emit_fma(e, square, q, emit_fadd(e, r, splat_f32(e, 1, x)));
    val exponent = shift_left(e, bits_as(e, pushed, e->i32), 23);
    return bits_as(e, emit_add(e, bits_as(e, p, e->i32), exponent), e->f32);
}

/* Comparisons with NaN are false. */
val emit_exp(emit *e, val v) {
    val least = splat_f32(e, EXP_LEAST, v), most = splat_f32(e, EXP_MOST, v);
    val x = choose(e, LLVMBuildFCmp(e->builder, LLVMRealOLT, v, least, ""), least, v);
    return exp_between(e, choose(e, LLVMBuildFCmp(e->builder, LLVMRealOGT, x, most, ""), most, x));
}

val emit_softmax_weight(emit *e, val v) {
    val under = LLVMBuildFCmp(e->builder, LLVMRealOLT, v, splat_f32(e, EXP_LEAST, v), "");
    return choose(e, under, LLVMConstNull(LLVMTypeOf(v)), exp_between(e, v));
}

val emit_silu(emit *e, val v) {
    val one = splat_f32(e, 1, v);
    return emit_fdiv(e, v, emit_fadd(e, one, emit_exp(e, LLVMBuildFNeg(e->builder, v, ""))));
}

static val splat_f64(emit *e, double x, uint32_t n) {
    return emit_splat(e, LLVMConstReal(e->f64, x), n);
}

static val polynomial_f64(emit *e, val x, const double *coefficients, size_t n) {
    val p = splat_f64(e, coefficients[0], emit_length(x));
    for (size_t i = 1; i < n; i++)
        p = emit_fma(e, p, x, splat_f64(e, coefficients[i], emit_length(x)));
    return p;
}

/* angle = k · π/2 + r, |r| <= π/4, with π/2 in two parts; Taylor polynomials in r² (error below
   1e-11), then swapped and negated by k mod 4. For |angle| < 2^31. */
void emit_sincos(emit *e, val angle, val *sine, val *cosine) {
    static const double sin_c[] = {-1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1};
    static const double cos_c[] = {1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720,
                                   1.0 / 24,        -1.0 / 2,       1};
    uint32_t n = emit_length(angle);
    val pushed = emit_fadd(e, emit_fmul(e, angle, splat_f64(e, M_2_PI, n)), splat_f64(e, 0x1.8p52, n));
    val k = bits_as(e, pushed, e->i64);
    val k_f64 = emit_fsub(e, pushed, splat_f64(e, 0x1.8p52, n));
    val r = emit_fma(e, k_f64, splat_f64(e, -0x1.921fb544p0, n), angle);
    r = emit_fma(e, k_f64, splat_f64(e, -0x1.0b4611a626331p-34, n), r);
    val square = emit_fmul(e, r, r);
    val s = emit_fmul(e, r, polynomial_f64(e, square, sin_c, ARRAY_LEN(sin_c)));
    val c = polynomial_f64(e, square, cos_c, ARRAY_LEN(cos_c));

    val one = emit_splat(e, emit_i64(e, 1), n), two = emit_splat(e, emit_i64(e, 2), n);
    val zero = LLVMConstNull(LLVMTypeOf(k));
    val odd = LLVMBuildICmp(e->builder, LLVMIntNE, LLVMBuildAnd(e->builder, k, one, ""), zero, "");
    val quarter = LLVMBuildAnd(e->builder, emit_add(e, k, one), two, "");
    val sin_negative = LLVMBuildICmp(e->builder, LLVMIntNE, LLVMBuildAnd(e->builder, k, two, ""),
                                     zero, "");
    val cos_negative = LLVMBuildICmp(e->builder, LLVMIntNE, quarter, zero, "");
    val sin_magnitude = choose(e, odd, c, s), cos_magnitude = choose(e, odd, s, c);
    *sine = choose(e, sin_negative, LLVMBuildFNeg(e->builder, sin_magnitude, ""), sin_magnitude);
    *cosine = choose(e, cos_negative, LLVMBuildFNeg(e->builder, cos_magnitude, ""), cos_magnitude);
}
