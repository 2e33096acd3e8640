/* A row of weights times a row of activations: where the time goes.
 *
 * A dot is a chain of equal steps: a step multiplies as many weights as its type's row below says,
 * and adds to one of a few accumulators in turn. Decoding, a row's steps stand straight-line
 * (--unroll=full): all addresses are constants. Short rows are taken four at a call, one after
 * another, so that their last sums are made together. For several tokens at once, a step's weights
 * are loaded and converted once and a loop runs over groups of steps. The order of additions is a
 * function of k alone, so that a token's result does not depend on the batch it came in.
 */
#include "emit.h"

#include <stdio.h>
#include <string.h>

#define MAX_SUMS         8  /* tokens or rows of one function */
#define MAX_ACCUMULATORS 4  /* of one row and token */
#define UNROLL_TOKENS    4  /* steps in the body of the loop for several tokens */
#define UNROLL_PLAIN     16 /* … for types without blocks: rows from memory came a tenth faster than
                               with all of them straight-line, where each load stands alone */

#define CACHED_BYTES   (16u << 20) /* of all weights: more does not stay in a cache between tokens */

/* A dot being written: of `n_tokens` activations with one row, or of one with each of some rows. */
typedef struct dot {
    emit             *e;
    enum quant_type   weight;
    uint64_t          k;
    uint32_t          n_tokens;
    bool              streamed; /* the weights come from memory, not from a cache */
    val               row, x[MAX_SUMS];
    activation_layout layout;
} dot;

/* How a type of weights is multiplied. `step` adds the products of `length` weights, from element
   `at` (i64) of the row on, to one accumulator for each token, acc[0 … n_tokens - 1]. A length of 0
   means that the ISA has no such step. */
typedef struct dot_kind {
    enum quant_type weight;
    uint32_t        n_accumulators; /* enough to hide the latency of an addition */
    uint32_t (*length)(const isa *target);
    uint32_t (*width)(uint32_t length); /* f32 values in the accumulator for a step of that length */
    void (*step)(const dot *d, val at, uint32_t length, val *acc);
} dot_kind;

/* The scales of the `n` (1 or 2) blocks at `block`, times those of the activations, eight lanes
   for each block. Two (of a little-endian target) are joined as integers: that keeps the vector
   units free. */
static val scales_q8_0(const dot *d, val block, uint32_t n, val x_scales) {
    emit *e = d->e;
    if (n == 1) {
        val bits = emit_load(e, e->i16, block, 2);
        val x = emit_splat(e, emit_load(e, e->f32, x_scales, 4), 8);
        return emit_fmul(e, emit_half_to_f32(e, emit_splat(e, bits, 8)), x);
    }
    val first = emit_load(e, e->i32, block, 2); /* its scale is the lower half */
    val second = emit_load(e, e->i32, emit_at_const(e, block, 32), 2); /* and the upper half here */
    val joined = LLVMBuildOr(e->builder, LLVMBuildAnd(e->builder, first, emit_i32(e, 0xffff), ""),
                             LLVMBuildAnd(e->builder, second, emit_i32(e, 0xffff0000), ""), "");
    val w = emit_half_to_f32(e, LLVMBuildBitCast(e->builder, joined, emit_vector(e->i16, 2), ""));
    val both = emit_fmul(e, w, emit_load(e, LLVMTypeOf(w), x_scales, 4));
    return emit_spread(e, both, 8);
}

/* Q8_0, "f16 scale, 32 × i8" (34 bytes), one or two blocks: products are summed as integers, four
   neighbours a lane, and scaled by both sides' scales. */
static void step_q8_0(const dot *d, val at, uint32_t length, val *acc) {
    emit    *e = d->e;
    uint32_t n = length / 32;
    val  number = LLVMBuildLShr(e->builder, at, emit_i64(e, 5), "");
    val  block = emit_at(e, d->row, emit_row_bytes(e, QUANT_Q8_0, at));
    type quants = emit_vector(e->i8, 32);
    val w = emit_load(e, quants, emit_at_const(e, block, 2), 2);
    if (n == 2) w = emit_concat(e, w, emit_load(e, quants, emit_at_const(e, block, 36), 2));
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x = emit_load(e, LLVMTypeOf(w), emit_at(e, d->x[t], at), 32);
        val sum = LLVMConstNull(emit_vector(e->i32, length / 4));
        val corrections = emit_at_const(e, d->x[t], d->layout.corrections);
        if (e->isa->unsigned_weights)
            sum = emit_load(e, LLVMTypeOf(sum), emit_at(e, corrections, at), 32);
        val products = emit_cast(e, LLVMSIToFP, e->isa->dot(e, w, x, sum), e->f32);
        val x_scales = emit_at(e, emit_at_const(e, d->x[t], d->layout.scales),
                               emit_mul_const(e, number, 4));
        acc[t] = emit_fma(e, products, scales_q8_0(d, block, n, x_scales), acc[t]);
    }
}

/* `length` activations of token t as f32. Beside weights from memory, half the bytes are worth a
   conversion: rows of 2048 F16 were read a fifth faster. */
static val load_x(const dot *d, uint32_t t, val at, uint32_t length) {
    emit *e = d->e;
    if (d->weight == QUANT_F16 && d->n_tokens == 1 && e->isa->native_f16 && emit_weights_are_streamed(e))
        return emit_load_f32(e, QUANT_F16, emit_at(e, emit_at_const(e, d->x[t], d->layout.halves),
                                                   emit_mul_const(e, at, 2)), length);
    return emit_load_f32(e, QUANT_F32, emit_at(e, d->x[t], emit_mul_const(e, at, 4)), length);
}

/* F32, F16, BF16: widened. */
static void step_plain(const dot *d, val at, uint32_t length, val *acc) {
    emit *e = d->e;
    val w = emit_dequantize(e, d->weight, d->row, at, length);
    for (uint32_t t = 0; t < d->n_tokens; t++) acc[t] = emit_fma(e, w, load_x(d, t, at, length), acc[t]);
}

/* BF16 by an instruction that multiplies pairs. */
static void step_bf16(const dot *d, val at, uint32_t length, val *acc) {
    emit *e = d->e;
    val  bytes = emit_mul_const(e, at, 2);
    type pairs = emit_vector(e->i32, length / 2);
    val  w = emit_load(e, pairs, emit_at(e, d->row, bytes), 2);
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x = emit_load(e, pairs, emit_at(e, emit_at_const(e, d->x[t], d->layout.halves), bytes), 2);
        acc[t] = e->isa->dot_bf16(e, w, x, acc[t]);
    }
}

static uint32_t length_dot(const isa *target) {
    return target->dot_length;
}

static uint32_t length_plain(const isa *target) {
    return target->lanes;
}

static uint32_t length_pairs(const isa *target) {
    return target->dot_bf16 ? 2 * target->lanes : 0;
}

static uint32_t width_half(uint32_t length) {
    return length / 2;
}

static uint32_t width_fourth(uint32_t length) {
    return length / 4;
}

static uint32_t width_same(uint32_t length) {
    return length;
}

static const dot_kind kinds[] = {
    {QUANT_Q8_0, 2, length_dot, width_fourth, step_q8_0},
    {QUANT_F16, 4, length_plain, width_same, step_plain},
    {QUANT_BF16, 4, length_pairs, width_half, step_bf16},
    {QUANT_BF16, 4, length_plain, width_same, step_plain},
    {QUANT_F32, 4, length_plain, width_same, step_plain},
};

/* The first one that the ISA has; one that no part of a row suits is passed over. */
static const dot_kind *find_kind(const dot *d) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        uint32_t length = kinds[i].length(d->e->isa);
        if (kinds[i].weight != d->weight || !length) continue;
        if (kinds[i].step != step_bf16 || d->k % length == 0) return &kinds[i];
    }
    bug("type %d has no dot", d->weight);
}

/* Asks for the cache lines that begin in bytes [from, to) of `at`, options.prefetch ahead. */
static void prefetch(emit *e, val at, uint64_t from, uint64_t to) {
    for (uint64_t line = round_up(from, EMIT_LINE_BYTES); line < to; line += EMIT_LINE_BYTES)
        emit_prefetch(e, emit_at_const(e, at, line + e->options.prefetch), EMIT_PREFETCH_L1);
}

/* `count` steps from element `first` on, to the accumulators in turn: acc[a · n_tokens + t]. */
static void steps(const dot *d, const dot_kind *kind, val first, uint64_t count, val *acc) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa);
    uint64_t bytes = quant_row_bytes(d->weight, length);
    val      start = d->streamed ? emit_at(e, d->row, emit_row_bytes(e, d->weight, first)) : NULL;
    for (uint64_t s = 0; s < count; s++) {
        if (d->streamed) prefetch(e, start, s * bytes, (s + 1) * bytes);
        kind->step(d, emit_add(e, first, emit_i64(e, s * length)), length,
                   acc + s % kind->n_accumulators * d->n_tokens);
    }
}

static void looped_steps(const dot *d, const dot_kind *kind, uint64_t trips, uint32_t unroll,
                         val *acc) {
    emit    *e = d->e;
    uint32_t n = kind->n_accumulators * d->n_tokens, length = kind->length(e->isa);
    val      next[MAX_ACCUMULATORS * MAX_SUMS];
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, trips * unroll * length), unroll * length);
    for (uint32_t a = 0; a < n; a++) next[a] = emit_loop_carry(e, &l, acc[a]);
    steps(d, kind, l.i, unroll, next);
    emit_loop_end(e, &l, next);
    for (uint32_t a = 0; a < n; a++) acc[a] = next[a];
}

/* The last k % length weights, added to `sums`, which may be wider. */
static void add_tail(const dot *d, const dot_kind *kind, val *sums) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa), rest = (uint32_t)(d->k % length);
    if (!rest) return;
    val tail[MAX_SUMS];
    for (uint32_t t = 0; t < d->n_tokens; t++)
        tail[t] = LLVMConstNull(emit_vector(e->f32, kind->width(rest)));
    kind->step(d, emit_i64(e, d->k - rest), rest, tail);
    for (uint32_t t = 0; t < d->n_tokens; t++)
        sums[t] = emit_fadd(e, sums[t], emit_widen(e, tail[t], emit_length(sums[t])));
}

/* The accumulators' sums, one vector for each token. */
static void emit_body(const dot *d, const dot_kind *kind, uint32_t unroll, val *sums) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa), n = kind->n_accumulators;
    uint64_t count = d->k / length;
    val      acc[MAX_ACCUMULATORS * MAX_SUMS];
    for (uint32_t a = 0; a < n * d->n_tokens; a++)
        acc[a] = LLVMConstNull(emit_vector(e->f32, kind->width(length)));
    uint64_t trips = unroll && count > unroll ? count / unroll : 0;
    if (trips) looped_steps(d, kind, trips, unroll, acc);
    steps(d, kind, emit_i64(e, trips * unroll * length), count - trips * unroll, acc);
    for (uint32_t left = n; left > 1; left /= 2)
        for (uint32_t a = 0; a < left / 2 * d->n_tokens; a++)
            acc[a] = emit_fadd(e, acc[a], acc[left / 2 * d->n_tokens + a]);
    for (uint32_t t = 0; t < d->n_tokens; t++) sums[t] = acc[t];
    add_tail(d, kind, sums);
}

/* Steps in the body of the loop over a row; 0: all of them, without a loop. */
static uint32_t steps_unrolled(const emit *e, const dot_kind *kind, uint32_t n_tokens) {
    if (n_tokens > 1) return UNROLL_TOKENS;
    uint32_t block = quant_find(kind->weight)->block_len;
    return block == 1 ? UNROLL_PLAIN : e->options.unroll / (kind->length(e->isa) / block);
}

static void emit_rows(dot *d, const dot_kind *kind, uint32_t n_rows, val *sums) {
    val first = d->row;
    for (uint32_t r = 0; r < n_rows; r++) {
        d->row = emit_at_const(d->e, first, r * quant_row_bytes(d->weight, d->k));
        emit_body(d, kind, steps_unrolled(d->e, kind, d->n_tokens), sums + r);
    }
}

val emit_dot_function(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens,
                      uint32_t n_rows) {
    val outer = e->fn;
    LLVMBasicBlockRef here = outer ? LLVMGetInsertBlock(e->builder) : NULL;
    uint32_t n = n_tokens * n_rows;
    char     name[64];
    snprintf(name, sizeof name, "dot_%s_k%llu_x%u", quant_find(weight)->name, (unsigned long long)k,
             n_tokens);
    if (n_rows > 1) snprintf(name + strlen(name), sizeof name - strlen(name), "_r%u", n_rows);
    if (n > MAX_SUMS || (n_tokens > 1 && n_rows > 1)) bug("%u tokens, %u rows", n_tokens, n_rows);
    type params[] = {e->ptr, e->ptr, e->i64};
    uint32_t width = 1; /* sums are made of a power of two of vectors */
    while (width < n) width *= 2;
    if (emit_function_begin(e, name, emit_vector(e->f32, width), params, n_tokens == 1 ? 2 : 3)) {
        dot d = {.e = e, .weight = weight, .k = k, .n_tokens = n_tokens};
        d.streamed = e->options.prefetch && n_tokens == 1 && emit_weights_are_streamed(e);
        d.layout = isa_activation_layout(e->isa, quant_find(weight)->activation, k);
        d.row = LLVMGetParam(e->fn, 0);
        for (uint32_t t = 0; t < n_tokens; t++)
            d.x[t] = t ? emit_at(e, d.x[t - 1], LLVMGetParam(e->fn, 2)) : LLVMGetParam(e->fn, 1);
        val sums[MAX_SUMS];
        emit_rows(&d, find_kind(&d), n_rows, sums);
        for (uint32_t i = n; i < width; i++) sums[i] = LLVMConstNull(LLVMTypeOf(sums[0]));
        LLVMBuildRet(e->builder, emit_sum_each(e, sums, width));
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

bool emit_weights_are_streamed(const emit *e) {
    return e->plan->weight_bytes > CACHED_BYTES;
}

val emit_row_bytes(emit *e, enum quant_type weight, val at) {
    const quant_info *info = quant_find(weight);
    val number = LLVMBuildUDiv(e->builder, at, emit_i64(e, info->block_len), "");
    return emit_mul_const(e, number, info->block_bytes);
}

val emit_dequantize(emit *e, enum quant_type weight, val row, val at, uint32_t n) {
    val block = emit_at(e, row, emit_row_bytes(e, weight, at));
    if (weight != QUANT_Q8_0) return emit_load_f32(e, weight, block, n);
    if (n != 32) bug("part of a block");
    val scale = emit_half_to_f32(e, emit_load(e, e->i16, block, 2));
    val w = emit_load(e, emit_vector(e->i8, 32), emit_at_const(e, block, 2), 2);
    return emit_fmul(e, emit_cast(e, LLVMSIToFP, w, e->f32), emit_splat(e, scale, 32));
}
