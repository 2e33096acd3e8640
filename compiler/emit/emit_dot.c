/* A row of weights times a row of activations: where the time goes.
 *
 * A dot is a chain of equal steps: a step multiplies as many weights as its type's row below says,
 * and adds to one of a few accumulators in turn. Decoding, a row's steps stand straight-line
 * (--unroll=full): all addresses are constants. Short rows are taken four at a call, one after
 * another, so that their last sums are made together. For several tokens at once, a step's weights
 * are loaded and converted once and a loop runs over groups of steps. The order of additions is a
 * function of k alone, of rows one and of panels another, so that a token's result does not depend on others.
 *
 * A panel is a few rows times a few tokens, so many that one accumulator for each of their products is enough
 * to keep a core busy: what is loaded is multiplied several times, and nothing is unpacked as tiles are.
 */
#include "emit_block.h"
#include "emit_dot.h"

#define MAX_ACCUMULATORS 4  /* of one row and token */
#define UNROLL_TOKENS    4  /* steps in the body of the loop for several tokens */
#define UNROLL_PLAIN     16 /* … for types without blocks: rows from memory came a tenth faster than
                               with all of them straight-line, where each load stands alone */

#define BLOCK_MOST       256 /* … of which a step of blocks this long is one */

#define CACHED_BYTES   (16u << 20) /* of all weights: more does not stay in a cache between tokens */

bool emit_weights_are_far(const emit *e) {
    uint32_t least = e->options.tuning.prefetch.least;
    return e->plan->weight_bytes > (least ? least : CACHED_BYTES);
}

void emit_come_to(emit *e, val at, uint64_t from, uint64_t to, uint32_t ahead) {
    if (!emit_weights_are_far(e)) return;
    if (ahead)
        emit_prefetch_lines(e, at, from + ahead, to + ahead);
    else if (!e->isa->spills_in_order)
        emit_in_order(e);
}

static uint32_t bytes_ahead(const emit *e, enum quant_type weight) {
    if (weight == QUANT_BF16 && e->isa->dot_bf16) return e->options.tuning.prefetch.pairs;
    bool packed = quant_row_bytes(weight, quant_find(weight)->block_len) < quant_find(weight)->block_len;
    return packed ? e->options.tuning.prefetch.packed : e->options.tuning.prefetch.bytes;
}

static uint32_t n_sums(const dot *d) {
    return d->n_rows * d->n_tokens;
}

/* The same, of one row alone. */
static dot dot_of_row(const dot *d, uint32_t r) {
    dot one = *d;
    one.row = emit_at_const(d->e, d->row, r * quant_row_bytes(d->weight, d->k));
    one.n_rows = 1;
    return one;
}

/* The weights of step `number` from element `first` on are read next. */
static void come_to(const dot *d, const dot_kind *kind, val first, uint64_t number) {
    if (kind->chained) return;
    emit    *e = d->e;
    uint64_t bytes = quant_row_bytes(d->weight, kind->length(e->isa, d->weight));
    val      start = emit_at(e, d->row, emit_row_bytes(e, d->weight, first));
    if (d->distance)
        emit_prefetch_lines(e, emit_at(e, start, d->distance), number * bytes, (number + 1) * bytes);
    else
        emit_come_to(e, start, number * bytes, (number + 1) * bytes, d->ahead);
}

/* `count` steps from element `first` on, to the accumulators in turn: acc[(a · n_rows + r) · n_tokens + t]. LLVM
   moves no load over a prefetch: those of all rows come first, so that a step's activations are loaded once. */
static void steps(const dot *d, const dot_kind *kind, val first, uint64_t count, val *acc) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa, d->weight);
    for (uint64_t s = 0; s < count; s++) {
        val at = emit_add(e, first, emit_i64(e, s * length)), *sums = acc + s % d->n_accumulators * n_sums(d);
        for (uint32_t r = 0; r < d->n_rows; r++) {
            dot one = dot_of_row(d, r);
            come_to(&one, kind, first, s);
        }
        for (uint32_t r = 0; r < d->n_rows; r++) {
            dot one = dot_of_row(d, r);
            kind->step(&one, at, length, sums + r * d->n_tokens);
        }
    }
}

/* Likewise trips · unroll steps as a loop. Its accumulators move on by `unroll` with each trip, so that the
   order of additions is that of straight-line steps; the one whose turn it is comes first in the end. */
static void looped_steps(const dot *d, const dot_kind *kind, uint64_t trips, uint32_t unroll, val *acc) {
    emit    *e = d->e;
    uint32_t n = d->n_accumulators * n_sums(d), length = kind->length(e->isa, d->weight);
    uint32_t turn = unroll % d->n_accumulators * n_sums(d);
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

/* The accumulators' sums, one vector for each row and token: sums[r · n_tokens + t]. */
static void emit_body(const dot *d, const dot_kind *kind, uint32_t unroll, val *sums) {
    emit    *e = d->e;
    uint32_t length = kind->length(e->isa, d->weight), n = n_sums(d);
    uint64_t count = d->k / length;
    val      acc[MAX_ACCUMULATORS * DOT_MAX_SUMS];
    for (uint32_t a = 0; a < d->n_accumulators * n; a++)
        acc[a] = LLVMConstNull(emit_vector(e->f32, kind->width(e->isa, length)));
    uint64_t trips = unroll && count > unroll ? count / unroll : 0;
    if (trips) looped_steps(d, kind, trips, unroll, acc);
    steps(d, kind, emit_i64(e, trips * unroll * length), count - trips * unroll, acc);
    for (uint32_t left = d->n_accumulators; left > 1; left /= 2)
        for (uint32_t a = 0; a < left / 2 * n; a++) acc[a] = emit_fadd(e, acc[a], acc[left / 2 * n + a]);
    for (uint32_t i = 0; i < n; i++) sums[i] = acc[i];
    for (uint32_t r = 0; r < d->n_rows; r++) {
        dot one = dot_of_row(d, r);
        add_tail(&one, kind, sums + r * d->n_tokens);
    }
}

/* Steps in the body of the loop over a row; 0: all of them, without a loop. */
static uint32_t steps_unrolled(const dot *d, const dot_kind *kind) {
    uint32_t block = quant_find(d->weight)->block_len, length = kind->length(d->e->isa, d->weight);
    if (n_sums(d) > 1) return length < BLOCK_MOST ? UNROLL_TOKENS : 1;
    if (block == 1) return UNROLL_PLAIN;
    return d->e->options.unroll ? (d->e->options.unroll * block + length - 1) / length : 0;
}

/* Beside F16 from memory, half the bytes of a token's activations are worth a conversion: rows of 2048 were read a
   fifth faster. */
static dot dot_of(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens) {
    return (dot){
        .e = e, .weight = weight, .k = k, .n_tokens = n_tokens, .n_rows = 1,
        .n_accumulators = emit_dot_kind(e, weight, k)->n_accumulators, .ahead = bytes_ahead(e, weight),
        .x_as_halves = weight == QUANT_F16 && n_tokens == 1 && e->isa->native_f16 && emit_weights_are_streamed(e),
        .layout = isa_activation_layout(e->isa, quant_find(weight)->activation, k),
    };
}

/* The function's operands: rows, x, and of more tokens than one the stride of x. */
static void take_operands(dot *d) {
    emit *e = d->e;
    d->row = LLVMGetParam(e->fn, 0);
    d->x[0] = LLVMGetParam(e->fn, 1);
    for (uint32_t t = 1; t < d->n_tokens; t++) d->x[t] = emit_at(e, d->x[t - 1], LLVMGetParam(e->fn, 2));
}

static const char *dot_name(emit *e, const char *what, enum quant_type weight, uint64_t k, uint32_t n_tokens) {
    return arena_printf(e->memory, "%s_%s_k%llu_x%u", what, quant_find(weight)->name, (unsigned long long)k,
                        n_tokens);
}

val emit_dot_function(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens, uint32_t n_rows) {
    const dot_kind *kind = emit_dot_kind(e, weight, k);
    emit_spot       spot = emit_leave(e);
    uint32_t        n = n_tokens * n_rows, width = 1; /* sums are made of a power of two of vectors */
    const char     *name = dot_name(e, "dot", weight, k, n_tokens);
    if (n_rows > 1) name = arena_printf(e->memory, "%s_r%u", name, n_rows);
    if (n > DOT_MAX_SUMS || (n_tokens > 1 && n_rows > 1)) bug("%u tokens, %u rows", n_tokens, n_rows);
    type params[] = {e->ptr, e->ptr, e->i64};
    while (width < n) width *= 2;
    if (emit_function_begin(e, name, emit_vector(e->f32, width), params, n_tokens == 1 ? 2 : 3)) {
        dot d = dot_of(e, weight, k, n_tokens);
        val sums[DOT_MAX_SUMS];
        take_operands(&d);
        for (uint32_t r = 0; r < n_rows; r++) {
            dot one = dot_of_row(&d, r);
            emit_body(&one, kind, steps_unrolled(&one, kind), sums + r);
        }
        for (uint32_t i = n; i < width; i++) sums[i] = LLVMConstNull(LLVMTypeOf(sums[0]));
        LLVMBuildRet(e->builder, emit_sum_each(e, sums, width));
    }
    emit_return(e, spot);
    return LLVMGetNamedFunction(e->module, name);
}

val emit_dot_call(emit *e, val function, const emit_product *p) {
    val args[] = {p->rows, p->x, p->x_stride};
    return emit_function_call(e, function, args, LLVMCountParams(function));
}

/* ---- panels */

/* Of F16 alone, of which rows and activations are 16 bits each: with 256 tokens on Zen 3, BF16, whose activations are
   f32, was a tenth slower so than by tiles. */
uint32_t emit_panel_rows(const emit *e, enum quant_type weight) {
    return weight == QUANT_F16 && e->isa->native_f16 && !e->options.tuning.halves_cost ? e->isa->panel_rows : 0;
}

/* Rows that are read by turns are no streams that a processor foresees: the next panel is asked for whatever the CPU,
   where `fresh`, and else what is read anyway. */
static val panel_distance(const dot *d, val fresh) {
    emit    *e = d->e;
    uint64_t panel = round_up(d->n_rows * quant_row_bytes(d->weight, d->k), EMIT_LINE_BYTES);
    if (!emit_weights_are_far(e)) return NULL;
    return LLVMBuildSelect(e->builder, fresh, emit_i64(e, panel), emit_i64(e, 0), "");
}

/* void (rows, x, stride of x, out, stride of out, fresh) */
static val panel_function(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens) {
    const dot_kind *kind = emit_dot_kind(e, weight, k);
    emit_spot       spot = emit_leave(e);
    const char     *name = dot_name(e, "panel", weight, k, n_tokens);
    type            params[] = {e->ptr, e->ptr, e->i64, e->ptr, e->i64, e->i1};
    if (emit_function_begin(e, name, e->none, params, ARRAY_LEN(params))) {
        dot d = dot_of(e, weight, k, n_tokens);
        val sums[DOT_MAX_SUMS], rows[DOT_MAX_SUMS], out = LLVMGetParam(e->fn, 3);
        d.n_rows = emit_panel_rows(e, weight);
        d.n_accumulators = 1;
        d.x_as_halves = true;
        d.distance = panel_distance(&d, LLVMGetParam(e->fn, 5));
        if (n_sums(&d) > DOT_MAX_SUMS) bug("%u sums", n_sums(&d));
        take_operands(&d);
        emit_body(&d, kind, steps_unrolled(&d, kind), sums);
        for (uint32_t t = 0; t < n_tokens; t++) {
            for (uint32_t r = 0; r < d.n_rows; r++) rows[r] = sums[r * n_tokens + t];
            emit_store(e, emit_sum_each(e, rows, d.n_rows), out, 4);
            out = emit_at(e, out, LLVMGetParam(e->fn, 4));
        }
        LLVMBuildRetVoid(e->builder);
    }
    emit_return(e, spot);
    return LLVMGetNamedFunction(e->module, name);
}

void emit_panel_multiply(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens, const emit_product *p,
                         val fresh) {
    val args[] = {p->rows, p->x, p->x_stride, p->out, p->out_stride, fresh};
    emit_function_call(e, panel_function(e, weight, k, n_tokens), args, ARRAY_LEN(args));
}

bool emit_dot_is_chained(const emit *e, enum quant_type weight, uint64_t k) {
    return emit_dot_kind(e, weight, k)->chained;
}

bool emit_weights_are_streamed(const emit *e) {
    return e->plan->weight_bytes > CACHED_BYTES;
}

val emit_row_bytes(emit *e, enum quant_type weight, val at) {
    const quant_info *info = quant_find(weight);
    val number = LLVMBuildUDiv(e->builder, at, emit_i64(e, info->block_len), "");
    return emit_mul_const(e, number, info->block_bytes);
}
