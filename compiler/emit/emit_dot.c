/* A row of weights times a row of activations: where the time goes.
 *
 * A dot is a chain of equal steps: a step multiplies as many weights as its type's row below says,
 * and adds to one of a few accumulators in turn. Decoding, a row's steps stand straight-line
 * (--unroll=full): all addresses are constants. Short rows are taken four at a call, one after
 * another, so that their last sums are made together. For several tokens at once, a step's weights
 * are loaded and converted once and a loop runs over groups of steps. The order of additions is a
 * function of k alone, so that a token's result does not depend on the batch it came in.
 */
#include "emit_dot.h"

#include <stdio.h>
#include <string.h>

#define MAX_ACCUMULATORS 4  /* of one row and token */
#define UNROLL_TOKENS    4  /* steps in the body of the loop for several tokens */
#define UNROLL_PLAIN     16 /* … for types without blocks: rows from memory came a tenth faster than
                               with all of them straight-line, where each load stands alone */

#define BLOCK_MOST       256 /* … of which a step of blocks this long is one */

#define CACHED_BYTES   (16u << 20) /* of all weights: more does not stay in a cache between tokens */

bool emit_weights_are_far(const emit *e) {
    uint32_t least = e->options.prefetch.least;
    return e->plan->weight_bytes > (least ? least : CACHED_BYTES);
}

void emit_come_to(emit *e, val at, uint64_t from, uint64_t to, uint32_t ahead) {
    if (!emit_weights_are_far(e)) return;
    if (ahead)
        emit_prefetch_lines(e, at, from + ahead, to + ahead);
    else
        emit_in_order(e);
}

static uint32_t bytes_ahead(const emit *e, enum quant_type weight) {
    if (weight == QUANT_BF16 && e->isa->dot_bf16) return e->options.prefetch.pairs;
    bool packed = quant_row_bytes(weight, quant_find(weight)->block_len) < quant_find(weight)->block_len;
    return packed ? e->options.prefetch.packed : e->options.prefetch.bytes;
}

/* `count` steps from element `first` on, to the accumulators in turn: acc[a · n_tokens + t]. */
static void steps(const dot *d, const dot_kind *kind, val first, uint64_t count, val *acc) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa, d->weight);
    uint64_t bytes = quant_row_bytes(d->weight, length);
    val      start = emit_at(e, d->row, emit_row_bytes(e, d->weight, first));
    for (uint64_t s = 0; s < count; s++) {
        if (!kind->chained) emit_come_to(e, start, s * bytes, (s + 1) * bytes, d->ahead);
        kind->step(d, emit_add(e, first, emit_i64(e, s * length)), length,
                   acc + s % kind->n_accumulators * d->n_tokens);
    }
}

/* Likewise trips · unroll steps as a loop. Its accumulators move on by `unroll` with each trip, so that the
   order of additions is that of straight-line steps; the one whose turn it is comes first in the end. */
static void looped_steps(const dot *d, const dot_kind *kind, uint64_t trips, uint32_t unroll, val *acc) {
    emit    *e = d->e;
    uint32_t n = kind->n_accumulators * d->n_tokens, length = kind->length(e->isa, d->weight);
    uint32_t turn = unroll % kind->n_accumulators * d->n_tokens;
    val      next[MAX_ACCUMULATORS * DOT_MAX_SUMS], turned[MAX_ACCUMULATORS * DOT_MAX_SUMS];
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, trips * unroll * length), unroll * length);
    for (uint32_t a = 0; a < n; a++) next[a] = emit_loop_carry(e, &l, acc[a]);
    steps(d, kind, l.i, unroll, next);
    for (uint32_t a = 0; a < n; a++) turned[a] = next[(a + turn) % n];
    emit_loop_end(e, &l, turned);
    for (uint32_t a = 0; a < n; a++) acc[a] = turned[a];
}

/* The last k % length weights, added to `sums`, which may be wider: a power of two of them, then what is
   left. Where they are all of the row, the first takes the place of `sums`, which are zeros. */
static void add_tail(dot *d, const dot_kind *kind, val *sums) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa, d->weight), rest = (uint32_t)(d->k % length), part = length;
    for (; rest; rest -= part) {
        val tail[DOT_MAX_SUMS];
        while (quant_find(d->weight)->block_len > 1 && part > rest) part /= 2;
        if (part > rest) part = rest;
        if (kind->chained) {
            kind->step(d, emit_i64(e, d->k - rest), part, sums);
            d->chain += part / quant_find(d->weight)->block_len;
            continue;
        }
        for (uint32_t t = 0; t < d->n_tokens; t++)
            tail[t] = LLVMConstNull(emit_vector(e->f32, kind->width(e->isa, part)));
        kind->step(d, emit_i64(e, d->k - rest), part, tail);
        for (uint32_t t = 0; t < d->n_tokens; t++) {
            val more = emit_widen(e, tail[t], emit_length(sums[t]));
            sums[t] = rest == d->k ? more : emit_fadd(e, sums[t], more);
        }
    }
}

/* The accumulators' sums, one vector for each token; whichever comes first, their sum is the same. */
static void emit_body(dot *d, const dot_kind *kind, uint32_t unroll, val *sums) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa, d->weight), n = kind->n_accumulators;
    uint64_t count = d->k / length;
    val      acc[MAX_ACCUMULATORS * DOT_MAX_SUMS];
    for (uint32_t a = 0; a < n * d->n_tokens; a++)
        acc[a] = LLVMConstNull(emit_vector(e->f32, kind->width(e->isa, length)));
    uint64_t trips = unroll && count > unroll ? count / unroll : 0;
    if (trips) looped_steps(d, kind, trips, unroll, acc);
    steps(d, kind, emit_i64(e, trips * unroll * length), count - trips * unroll, acc);
    for (uint32_t left = n; left > 1; left /= 2)
        for (uint32_t a = 0; a < left / 2 * d->n_tokens; a++)
            acc[a] = emit_fadd(e, acc[a], acc[left / 2 * d->n_tokens + a]);
    for (uint32_t t = 0; t < d->n_tokens; t++) sums[t] = acc[t];
    add_tail(d, kind, sums);
    d->chain = 0;
}

/* Steps in the body of the loop over a row; 0: all of them, without a loop. */
static uint32_t steps_unrolled(const dot *d, const dot_kind *kind) {
    uint32_t block = quant_find(d->weight)->block_len, length = kind->length(d->e->isa, d->weight);
    if (d->n_tokens > 1) return length < BLOCK_MOST ? UNROLL_TOKENS : 1;
    if (block == 1) return UNROLL_PLAIN;
    return d->e->options.unroll ? (d->e->options.unroll * block + length - 1) / length : 0;
}

static void emit_rows(dot *d, const dot_kind *kind, uint32_t n_rows, val *sums) {
    val first = d->row;
    for (uint32_t r = 0; r < n_rows; r++) {
        d->row = emit_at_const(d->e, first, r * quant_row_bytes(d->weight, d->k));
        emit_body(d, kind, steps_unrolled(d, kind), sums + r);
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
    if (n > DOT_MAX_SUMS || (n_tokens > 1 && n_rows > 1)) bug("%u tokens, %u rows", n_tokens, n_rows);
    type params[] = {e->ptr, e->ptr, e->i64};
    uint32_t width = 1; /* sums are made of a power of two of vectors */
    while (width < n) width *= 2;
    if (emit_function_begin(e, name, emit_vector(e->f32, width), params, n_tokens == 1 ? 2 : 3)) {
        dot d = {.e = e, .weight = weight, .k = k, .n_tokens = n_tokens, .ahead = bytes_ahead(e, weight)};
        d.layout = isa_activation_layout(e->isa, quant_find(weight)->activation, k);
        d.row = LLVMGetParam(e->fn, 0);
        for (uint32_t t = 0; t < n_tokens; t++)
            d.x[t] = t ? emit_at(e, d.x[t - 1], LLVMGetParam(e->fn, 2)) : LLVMGetParam(e->fn, 1);
        val sums[DOT_MAX_SUMS];
        emit_rows(&d, emit_dot_kind(e, weight, k), n_rows, sums);
        for (uint32_t i = n; i < width; i++) sums[i] = LLVMConstNull(LLVMTypeOf(sums[0]));
        LLVMBuildRet(e->builder, emit_sum_each(e, sums, width));
    }
    e->fn = outer;
    if (outer) LLVMPositionBuilderAtEnd(e->builder, here);
    return LLVMGetNamedFunction(e->module, name);
}

bool emit_dot_is_chained(const emit *e, enum quant_type weight, uint64_t k) {
    return emit_dot_kind(e, weight, k)->chained;
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
