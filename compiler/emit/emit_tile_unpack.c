/* Rows of weights made a tile: blocks are taken apart row by row, and words that follow one another in a
 * row become words of neighbouring rows. */
#include "emit_tile.h"

static val half(emit *e, val v, uint32_t which) {
    uint32_t n = emit_length(v) / 2;
    return emit_pick(e, v, NULL, which * n, 1, n);
}

/* `lanes` rows of `steps` words become `steps` vectors of `lanes`: rows that differ in their number's
   highest bit are interleaved first, then by the next lower one, so that lane r ends up as row r. */
static void transpose(emit *e, val *rows, uint32_t steps) {
    uint32_t n = e->isa->lanes;
    while (emit_length(rows[0]) < e->isa->lanes) {
        n /= 2;
        for (uint32_t r = 0; r < n; r++) rows[r] = emit_interleave(e, rows[r], rows[r + n]);
    }
    /* Now each step halves the values a vector holds of a column's neighbours. */
    for (uint32_t groups = 1; n > 1; groups *= 2) {
        val next[EMIT_MAX_LANES];
        n /= 2;
        for (uint32_t g = 0; g < groups; g++)
            for (uint32_t r = 0; r < n; r++) {
                val a = rows[g * 2 * n + r], b = rows[g * 2 * n + r + n];
                next[(2 * g) * n + r] = emit_interleave(e, half(e, a, 0), half(e, b, 0));
                next[(2 * g + 1) * n + r] = emit_interleave(e, half(e, a, 1), half(e, b, 1));
            }
        for (uint32_t i = 0; i < steps; i++) rows[i] = next[i];
    }
}

/* One number of 32 bits of each row, `n` for each, to where they belong: row r of `numbers` has the r-th
   row's. */
static void store_columns(const tile *t, val *numbers, uint32_t n, val to, uint64_t (*at)(const tile *, uint32_t),
                          uint32_t first) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes, steps = n < lanes ? n : lanes;
    val      rows[EMIT_MAX_LANES];
    for (uint32_t done = 0; done < n; done += steps) {
        for (uint32_t r = 0; r < lanes; r++)
            rows[r] = n == steps ? numbers[r] : emit_pick(e, numbers[r], NULL, done, 1, steps);
        transpose(e, rows, steps);
        for (uint32_t j = 0; j < steps; j++)
            emit_store(e, rows[j], emit_at_const(e, to, at(t, first + done + j)), lanes * 4);
    }
}

/* Where word i of a span is, and the scale and the minimum of its group i. */
static uint64_t at_word(const tile *t, uint32_t i) {
    uint32_t words = tile_group_words(t);
    return i / words * tile_group_bytes(t, t->of->rows) + tile_word_at(t, i % words, 0);
}

static uint64_t at_scale(const tile *t, uint32_t i) {
    return i * tile_group_bytes(t, t->of->rows) + tile_word_at(t, tile_group_words(t), 0);
}

static uint64_t at_minimum(const tile *t, uint32_t i) {
    return i * tile_group_bytes(t, t->of->rows) + tile_word_at(t, tile_group_words(t) + 1, 0);
}

/* An f16 of each row, `at` bytes from its block. */
static val load_halves(const tile *t, val from, uint32_t at) {
    emit *e = t->e;
    val   halves = LLVMGetPoison(emit_vector(e->i16, e->isa->lanes));
    for (uint32_t r = 0; r < e->isa->lanes; r++) {
        val half_at = emit_at_const(e, from, r * t->row_bytes + at);
        halves = LLVMBuildInsertElement(e->builder, halves, emit_load(e, e->i16, half_at, 1), emit_i32(e, r), "");
    }
    return emit_half_to_f32(e, halves);
}

static val as_words(emit *e, val v) {
    if (LLVMGetElementType(LLVMTypeOf(v)) == e->i32) return v;
    return LLVMBuildBitCast(e->builder, v, emit_vector(e->i32, emit_length(v)), "");
}

/* Numbers of sub-blocks. */
static void unpack_numbers(const tile *t, val from, val to, val (*of_block)(emit *, const emit_block *, val),
                           uint64_t (*at)(const tile *, uint32_t), bool negative) {
    emit *e = t->e;
    val   rows[EMIT_MAX_LANES];
    for (uint32_t r = 0; r < e->isa->lanes; r++) {
        val v = of_block(e, t->form, emit_at_const(e, from, r * t->row_bytes));
        if (negative) v = LLVMBuildFNeg(e->builder, v, "");
        rows[r] = emit_length(v) == 1 ? emit_splat(e, v, 2) : v;
        rows[r] = as_words(e, rows[r]);
    }
    uint32_t n = t->span / t->group;
    if (n == 1) {
        val all = LLVMGetPoison(emit_vector(e->i32, e->isa->lanes));
        for (uint32_t r = 0; r < e->isa->lanes; r++)
            all = LLVMBuildInsertElement(e->builder, all, emit_pick(e, rows[r], NULL, 0, 1, 1), emit_i32(e, r), "");
        emit_store(e, all, emit_at_const(e, to, at(t, 0)), e->isa->lanes * 4);
        return;
    }
    store_columns(t, rows, n, to, at, 0);
}

static void unpack_scales(const tile *t, val from, val to) {
    uint32_t scale;
    int32_t  minimum;
    emit    *e = t->e;
    if (emit_block_halves(t->form, &scale, &minimum)) {
        emit_store(e, load_halves(t, from, scale), emit_at_const(e, to, at_scale(t, 0)), e->isa->lanes * 4);
        if (minimum >= 0) /* which is added, see emit_block.c */
            emit_store(e, load_halves(t, from, (uint32_t)minimum), emit_at_const(e, to, at_minimum(t, 0)),
                       e->isa->lanes * 4);
        return;
    }
    unpack_numbers(t, from, to, t->form->scales, at_scale, false);
    if (t->form->minima) unpack_numbers(t, from, to, t->form->minima, at_minimum, true);
}

/* A vector of rows, a span of columns; the first row's is at `from`. */
static void unpack_span(const tile *t, val from, val to) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes, columns = t->kind->columns(e->isa);
    uint32_t piece = t->form ? (lanes == 16 ? 64 : 32) : t->span;
    if (piece > t->span) piece = t->span;
    for (uint32_t first = 0; first < t->span; first += piece) {
        val rows[EMIT_MAX_LANES];
        for (uint32_t r = 0; r < lanes; r++)
            rows[r] = as_words(e, t->kind->words(t, emit_at_const(e, from, r * t->row_bytes), first, piece));
        store_columns(t, rows, piece / columns, to, at_word, first / columns);
    }
    if (t->form) unpack_scales(t, from, to);
}

val tile_unpack_function(const tile *t) {
    emit       *e = t->e;
    uint32_t    lanes = e->isa->lanes;
    const char *name = arena_printf(e->memory, "unpack_%s_k%llu_r%u", quant_find(t->of->weight)->name,
                                    (unsigned long long)t->of->k, t->of->rows);
    type        params[] = {e->ptr, e->ptr};
    if (!emit_function_begin(e, name, e->none, params, 2)) return LLVMGetNamedFunction(e->module, name);
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->of->k / t->span), 1);
    val  from = emit_at(e, LLVMGetParam(e->fn, 0), emit_mul_const(e, l.i, quant_row_bytes(t->of->weight, t->span)));
    val  to = emit_at(e, LLVMGetParam(e->fn, 1),
                      emit_mul_const(e, l.i, t->span / t->group * tile_group_bytes(t, t->of->rows)));
    loop vectors = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->n_vectors), 1);
    unpack_span(t, emit_at(e, from, emit_mul_const(e, vectors.i, lanes * t->row_bytes)),
                emit_at(e, to, emit_mul_const(e, vectors.i, 4ull * lanes)));
    emit_loop_end(e, &vectors, NULL);
    emit_loop_end(e, &l, NULL);
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}
