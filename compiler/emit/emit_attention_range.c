/* Results of attention: divided by their weights' total and given to the sinks; or, where the cache is
 * taken in ranges, left in memory as they are and merged by another call. What is left for
 * [token][head][range]:
 *
 *     f32 sums[head_dim], most, total      plan_range_bytes
 *
 * most is the largest score of the range, total the sum of exp(score - most), sums that of the values
 * so weighted. Ranges are merged in their order.
 */
#include "emit_attention.h"

#include <math.h>

/* Values are taken a vector at a time; the last of what is left. */
static uint32_t part_at(const attention *a, uint32_t p) {
    return p * a->e->isa->lanes;
}

static uint32_t part_length(const attention *a, uint32_t p) {
    uint32_t left = a->d - part_at(a, p), lanes = a->e->isa->lanes;
    return left < lanes ? left : lanes;
}

static uint32_t n_parts(const attention *a) {
    return (a->d + a->e->isa->lanes - 1) / a->e->isa->lanes;
}

static val load_part(const attention *a, val from, uint32_t p) {
    emit *e = a->e;
    return emit_load(e, emit_vector(e->f32, part_length(a, p)), emit_at_const(e, from, 4 * part_at(a, p)), 4);
}

/* What a range left, or the first of a token's head. */
static val left_at(const attention *a, val token, val head, val range) {
    emit *e = a->e;
    val   at = emit_add(e, emit_mul_const(e, token, a->n_heads), head);
    at = emit_mul_const(e, at, a->n_ranges);
    if (range) at = emit_add(e, at, range);
    return emit_at(e, emit_at(e, e->arena, a->scratch), emit_mul_const(e, at, plan_range_bytes(a->o)));
}

static void store_range(const attention *a, const attention_row *row, val sums, val most, val total) {
    emit *e = a->e;
    val   to = left_at(a, row->token, row->head, row->range);
    for (uint32_t p = 0; p < n_parts(a); p++)
        emit_store(e, load_part(a, sums, p), emit_at_const(e, to, 4 * part_at(a, p)), 4);
    emit_store(e, most, emit_at_const(e, to, 4ull * a->d), 4);
    emit_store(e, total, emit_at_const(e, to, 4ull * a->d + 4), 4);
}

/* The sinks want parts of their own width. */
static void store_result(const attention *a, val token, val head, val sums, val total) {
    emit    *e = a->e;
    uint32_t width = emit_sink_width(e, a->o);
    val      inverse = emit_fdiv(e, emit_f32(e, 1), total);
    val      first = emit_mul_const(e, head, a->d);
    for (uint32_t i = 0; i < a->d; i += width) {
        uint32_t n = a->d - i < width ? a->d - i : width;
        val part = emit_load(e, emit_vector(e->f32, n), emit_at_const(e, sums, 4 * i), 4);
        part = emit_fmul(e, part, emit_splat(e, inverse, n));
        emit_sink(e, &a->to, token, emit_add(e, first, emit_i64(e, i)), part);
    }
}

void attention_finish(const attention *a, const attention_row *row, val sums, val most, val total) {
    if (row->range)
        store_range(a, row, sums, most, total);
    else
        store_result(a, row->token, row->head, sums, total);
}

static val most_of_ranges(const attention *a, val left, val n) {
    emit *e = a->e;
    loop  l = emit_loop_begin(e, emit_i64(e, 0), n, 1);
    val   most = emit_loop_carry(e, &l, emit_f32(e, -INFINITY));
    val   at = emit_at(e, left, emit_mul_const(e, l.i, plan_range_bytes(a->o)));
    most = emit_fmax(e, emit_load(e, e->f32, emit_at_const(e, at, 4ull * a->d), 4), most);
    emit_loop_end(e, &l, &most);
    return most;
}

/* Adds range by range to `sums` in memory; the total. */
static val sum_ranges(const attention *a, val left, val n, val sums) {
    emit *e = a->e;
    val   most = most_of_ranges(a, left, n);
    for (uint32_t p = 0; p < n_parts(a); p++)
        emit_store(e, LLVMConstNull(emit_vector(e->f32, part_length(a, p))),
                   emit_at_const(e, sums, 4 * part_at(a, p)), 4);
    loop l = emit_loop_begin(e, emit_i64(e, 0), n, 1);
    val  total = emit_loop_carry(e, &l, emit_f32(e, 0));
    val  at = emit_at(e, left, emit_mul_const(e, l.i, plan_range_bytes(a->o)));
    val  its_most = emit_load(e, e->f32, emit_at_const(e, at, 4ull * a->d), 4);
    val  its_total = emit_load(e, e->f32, emit_at_const(e, at, 4ull * a->d + 4), 4);
    val  shrink = emit_softmax_weight(e, emit_fsub(e, its_most, most));
    total = emit_fma(e, its_total, shrink, total);
    for (uint32_t p = 0; p < n_parts(a); p++) {
        val sum = load_part(a, sums, p);
        sum = emit_fma(e, load_part(a, at, p), emit_splat(e, shrink, part_length(a, p)), sum);
        emit_store(e, sum, emit_at_const(e, sums, 4 * part_at(a, p)), 4);
    }
    emit_loop_end(e, &l, &total);
    return total;
}

void attention_merge(const attention *a, val token, val head) {
    emit *e = a->e;
    val   sums = emit_local(e, 4ull * a->d);
    val   n = attention_ranges(a, emit_add(e, e->pos, token));
    val   total = sum_ranges(a, left_at(a, token, head, NULL), n, sums);
    store_result(a, token, head, sums, total);
}
