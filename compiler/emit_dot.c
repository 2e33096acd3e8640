/* A row of weights times a row of activations: where the time goes.
 *
 * A dot is a chain of equal steps: a step multiplies as many weights as its type's row below says,
 * and adds to one of DOT_ACCUMULATORS in turn. Decoding, a row's steps stand straight-line
 * (--unroll=full): all addresses are constants. For several tokens at once, a step's weights are
 * loaded and converted once and a loop runs over groups of steps. The order of additions is a
 * function of k alone, so that a token's result does not depend on the batch it came in.
 */
#include "emit.h"

#include <stdio.h>

#define ACCUMULATORS  4
#define MAX_TOKENS    4
#define UNROLL_TOKENS 4 /* steps in the body of the loop for several tokens */

/* One step in the middle of a dot: weights at `w`, step number `i` (i64) of the activations' rows.
   `acc` are n_tokens sums to add to, each of the ISA's width. */
typedef struct dot {
    emit           *e;
    enum quant_type weight;
    uint64_t        k;
    uint32_t        n_tokens;
    val             row, x[MAX_TOKENS];
    activation_layout layout;
} dot;

typedef struct dot_kind {
    enum quant_type weight;
    uint32_t (*length)(const isa *target);   /* weights a step */
    uint32_t (*width)(const isa *target);    /* f32 values in an accumulator */
    void (*step)(const dot *d, val i, uint32_t length, val *acc);
} dot_kind;

/* Q8_0, "d, 32 × i8" (34 bytes): the products are summed as integers, eight lanes of four, and
   scaled by both blocks' scales. */
static void step_q8_0(const dot *d, val i, uint32_t length, val *acc) {
    emit *e = d->e;
    (void)length;
    val block = emit_at(e, d->row, emit_mul_const(e, i, 34));
    val bits = emit_load(e, e->i16, block, 2);
    val scale = emit_half_to_f32(e, emit_splat(e, bits, 8));
    val w = emit_load(e, emit_vector(e->i8, 32), emit_at_const(e, block, 2), 2);
    val block_at = emit_mul_const(e, i, 32), scale_at = emit_mul_const(e, i, 4);
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x = emit_load(e, emit_vector(e->i8, 32), emit_at(e, d->x[t], block_at), 32);
        val sum = LLVMConstNull(emit_vector(e->i32, 8));
        if (e->isa->unsigned_weights)
            sum = emit_load(e, LLVMTypeOf(sum),
                            emit_at(e, emit_at_const(e, d->x[t], d->layout.corrections), block_at),
                            32);
        val products = emit_cast(e, LLVMSIToFP, e->isa->dot32(e, w, x, sum), e->f32);
        val x_scale = emit_load(e, e->f32,
                                emit_at(e, emit_at_const(e, d->x[t], d->layout.scales), scale_at), 4);
        val both = emit_fmul(e, scale, emit_splat(e, x_scale, 8));
        acc[t] = emit_fma(e, products, both, acc[t]);
    }
}

/* F32, F16, BF16: `length` numbers, widened. Activations are held as f32 (emit_sink.c). */
static void step_plain(const dot *d, val i, uint32_t length, val *acc) {
    emit *e = d->e;
    uint32_t step = e->isa->lanes;
    val w = emit_load_f32(e, d->weight,
                          emit_at(e, d->row, emit_mul_const(e, i, quant_row_bytes(d->weight, step))),
                          length);
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x = emit_load(e, LLVMTypeOf(w), emit_at(e, d->x[t], emit_mul_const(e, i, 4 * step)), 4);
        acc[t] = emit_fma(e, w, x, acc[t]);
    }
}

static uint32_t block_of_32(const isa *target) {
    (void)target;
    return 32;
}

static uint32_t eight(const isa *target) {
    (void)target;
    return 8;
}

static uint32_t lanes(const isa *target) {
    return target->lanes;
}

static const dot_kind kinds[] = {
    {.weight = QUANT_Q8_0, .length = block_of_32, .width = eight, .step = step_q8_0},
    {.weight = QUANT_F16, .length = lanes, .width = lanes, .step = step_plain},
    {.weight = QUANT_BF16, .length = lanes, .width = lanes, .step = step_plain},
    {.weight = QUANT_F32, .length = lanes, .width = lanes, .step = step_plain},
};

static const dot_kind *find_kind(enum quant_type weight) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].weight == weight) return &kinds[i];
    bug("type %d has no dot", weight);
}

/* Steps [at, at + count), each to the next accumulator: acc[a · n_tokens + t]. */
static void steps(const dot *d, const dot_kind *kind, val first, uint64_t count, val *acc) {
    emit *e = d->e;
    for (uint64_t s = 0; s < count; s++)
        kind->step(d, emit_add(e, first, emit_i64(e, s)), kind->length(e->isa),
                   acc + s % ACCUMULATORS * d->n_tokens);
}

static void looped_steps(const dot *d, const dot_kind *kind, uint64_t trips, uint32_t unroll,
                         val *acc) {
    emit *e = d->e;
    uint32_t n = ACCUMULATORS * d->n_tokens;
    val next[ACCUMULATORS * MAX_TOKENS];
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, trips * unroll), unroll);
    for (uint32_t a = 0; a < n; a++) next[a] = emit_loop_carry(e, &l, acc[a]);
    steps(d, kind, l.i, unroll, next);
    emit_loop_end(e, &l, next);
    for (uint32_t a = 0; a < n; a++) acc[a] = next[a];
}

/* The last k % step values of a row of plain numbers, into the first accumulator's sum. */
static void add_tail(const dot *d, const dot_kind *kind, val *sums) {
    emit *e = d->e;
    uint32_t step = kind->length(e->isa), rest = (uint32_t)(d->k % step);
    if (!rest) return;
    val tail[MAX_TOKENS];
    for (uint32_t t = 0; t < d->n_tokens; t++)
        tail[t] = LLVMConstNull(emit_vector(e->f32, rest));
    kind->step(d, emit_i64(e, d->k / step), rest, tail);
    for (uint32_t t = 0; t < d->n_tokens; t++) sums[t] = emit_fadd(e, sums[t], emit_sum(e, tail[t]));
}

static void emit_body(const dot *d, const dot_kind *kind, val *sums) {
    emit *e = d->e;
    uint32_t n = ACCUMULATORS * d->n_tokens;
    uint64_t count = d->k / kind->length(e->isa);
    val acc[ACCUMULATORS * MAX_TOKENS];
    for (uint32_t a = 0; a < n; a++) acc[a] = LLVMConstNull(emit_vector(e->f32, kind->width(e->isa)));

    uint32_t unroll = d->n_tokens > 1 ? UNROLL_TOKENS : e->options.unroll;
    uint64_t trips = unroll && count > unroll ? count / unroll : 0;
    if (trips) looped_steps(d, kind, trips, unroll, acc);
    steps(d, kind, emit_i64(e, trips * unroll), count - trips * unroll, acc);

    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val low = emit_fadd(e, acc[t], acc[d->n_tokens + t]);
        val high = emit_fadd(e, acc[2 * d->n_tokens + t], acc[3 * d->n_tokens + t]);
        sums[t] = emit_sum(e, emit_fadd(e, low, high));
    }
    add_tail(d, kind, sums);
}

static val vector_of(emit *e, const val *scalars, uint32_t n) {
    val v = LLVMGetPoison(emit_vector(e->f32, n));
    for (uint32_t i = 0; i < n; i++)
        v = LLVMBuildInsertElement(e->builder, v, scalars[i], emit_i32(e, i), "");
    return v;
}

val emit_dot_function(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens) {
    val outer = e->fn;
    LLVMBasicBlockRef here = outer ? LLVMGetInsertBlock(e->builder) : NULL;
    char name[64];
    snprintf(name, sizeof name, "dot_%s_k%llu_x%u", quant_find(weight)->name, (unsigned long long)k,
             n_tokens);
    type params[] = {e->ptr, e->ptr, e->i64};
    if (n_tokens > MAX_TOKENS) bug("%u tokens at once", n_tokens);
    if (emit_function_begin(e, name, emit_vector(e->f32, n_tokens), params, n_tokens == 1 ? 2 : 3)) {
        dot d = {.e = e, .weight = weight, .k = k, .n_tokens = n_tokens};
        d.layout = isa_activation_layout(e->isa, quant_find(weight)->activation, k);
        d.row = LLVMGetParam(e->fn, 0);
        for (uint32_t t = 0; t < n_tokens; t++)
            d.x[t] = t ? emit_at(e, d.x[t - 1], LLVMGetParam(e->fn, 2)) : LLVMGetParam(e->fn, 1);
        val sums[MAX_TOKENS];
        emit_body(&d, find_kind(weight), sums);
        LLVMBuildRet(e->builder, n_tokens == 1 ? sums[0] : vector_of(e, sums, n_tokens));
    }
    e->fn = outer;
    if (outer) LLVMPositionBuilderAtEnd(e->builder, here);
    return LLVMGetNamedFunction(e->module, name);
}

val emit_dot_call(emit *e, val function, val row, val x, val x_stride) {
    val args[] = {row, x, x_stride};
    return LLVMBuildCall2(e->builder, LLVMGlobalGetValueType(function), function, args,
                          LLVMCountParams(function), "");
}

val emit_dequantize(emit *e, enum quant_type weight, val row, val at, uint32_t n) {
    if (weight != QUANT_Q8_0) {
        val bytes = emit_mul_const(e, at, quant_row_bytes(weight, 1));
        return emit_load_f32(e, weight, emit_at(e, row, bytes), n);
    }
    if (n != 32) bug("part of a block");
    val block = emit_at(e, row, emit_mul_const(e, LLVMBuildLShr(e->builder, at, emit_i64(e, 5), ""), 34));
    val scale = emit_half_to_f32(e, emit_load(e, e->i16, block, 2));
    val w = emit_load(e, emit_vector(e->i8, 32), emit_at_const(e, block, 2), 2);
    return emit_fmul(e, emit_cast(e, LLVMSIToFP, w, e->f32), emit_splat(e, scale, 32));
}
