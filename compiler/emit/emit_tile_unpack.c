/* Rows of weights made a tile: blocks are taken apart row by row, and words that follow one another in a
 * row become words of neighbouring rows. */
#include "emit_tile.h"

/* Numbers of 32 bits in memory, `n` of a row after another. */
typedef struct columns {
    val      from;
    uint32_t n;
} columns;

/* Numbers [first, first + steps) of each row, which become vectors. */
static void load_columns(const tile *t, const columns *c, val first, uint32_t steps, val *vectors) {
    emit *e = t->e;
    type  numbers = emit_vector(e->i32, steps);
    val   at = emit_at(e, c->from, emit_mul_const(e, first, 4));
    for (uint32_t r = 0; r < e->isa->lanes; r++)
        vectors[r] = emit_load(e, numbers, emit_at_const(e, at, 4ull * r * c->n), 4);
    emit_turn(e, vectors, steps);
}

/* The words of a span. Groups of words and steps of them divide one another. */
static void store_words(const tile *t, const columns *c, val to) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes, steps = c->n < lanes ? c->n : lanes, words = tile_group_words(t);
    uint64_t group = tile_group_bytes(t, t->of->rows);
    val      vectors[EMIT_MAX_LANES];
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, c->n), steps);
    val      group_at = emit_mul_const(e, LLVMBuildUDiv(e->builder, l.i, emit_i64(e, words), ""), group);
    val      word = LLVMBuildURem(e->builder, l.i, emit_i64(e, words), "");
    val      at = emit_at(e, emit_at(e, to, group_at), emit_mul_const(e, word, tile_word_at(t, 1, 0)));
    load_columns(t, c, l.i, steps, vectors);
    for (uint32_t j = 0; j < steps; j++)
        emit_store(e, vectors[j], emit_at_const(e, at, j / words * group + tile_word_at(t, j % words, 0)), lanes * 4);
    emit_loop_end(e, &l, NULL);
}

/* The scales of a span's groups, or (`which` = 1) the minima. */
static void store_numbers(const tile *t, const columns *c, val to, uint32_t which) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes, steps = c->n < lanes ? c->n : lanes;
    val      vectors[EMIT_MAX_LANES];
    for (uint32_t i = 0; i < c->n; i += steps) {
        if (c->n == 1)
            vectors[0] = emit_load(e, emit_vector(e->i32, lanes), c->from, 4);
        else
            load_columns(t, c, emit_i64(e, i), steps, vectors);
        for (uint32_t j = 0; j < steps; j++)
            emit_store(e, vectors[j],
                       emit_at_const(e, to, (i + j) * tile_group_bytes(t, t->of->rows) +
                                                tile_word_at(t, tile_group_words(t) + which, 0)), lanes * 4);
    }
}

/* ---- from memory */

#define BYTES_AHEAD 256 /* of each row of the tile; with twice as many, a prompt of 8 tokens took a tenth longer */

/* How far behind span `number` of a row those bytes are that should be asked for by then: some spans on, or
   in the next tile. */
static val bytes_ahead(const tile *t, val number) {
    emit    *e = t->e;
    uint64_t bytes = quant_row_bytes(t->of->weight, t->span), count = t->of->k / t->span;
    uint64_t spans = (BYTES_AHEAD + bytes - 1) / bytes;
    if (spans > count) spans = count;
    val same = LLVMBuildICmp(e->builder, LLVMIntULT, number, emit_i64(e, count - spans), "");
    val next = emit_i64(e, t->of->rows * t->row_bytes - (count - spans) * bytes);
    return LLVMBuildSelect(e->builder, same, emit_i64(e, spans * bytes), next, "");
}

/* Asks for them: no processor foresees that all rows of a tile are read a span at a time. */
static void ask_ahead(const tile *t, val span, val ahead) {
    emit    *e = t->e;
    uint64_t bytes = quant_row_bytes(t->of->weight, t->span);
    if (!emit_weights_are_far(e)) return;
    for (uint64_t at = 0; at < bytes; at += EMIT_LINE_BYTES)
        emit_prefetch(e, emit_at(e, emit_at_const(e, span, at), ahead), EMIT_PREFETCH_L1);
}

/* What a row's blocks are taken apart to, before rows become lanes. */
typedef struct aside {
    columns words, scales, minima;
} aside;

static aside aside_begin(const tile *t) {
    emit    *e = t->e;
    uint32_t words = t->span / t->kind->columns(e->isa), groups = t->span / t->group;
    aside    a = {{NULL, words}, {NULL, groups}, {NULL, groups}};
    a.words.from = emit_local(e, 4ull * e->isa->lanes * words);
    a.scales.from = emit_local(e, 4ull * e->isa->lanes * groups);
    if (t->form->minima) a.minima.from = emit_local(e, 4ull * e->isa->lanes * groups);
    return a;
}

static void take_apart(const tile *t, const aside *a, val block, val row) {
    emit    *e = t->e;
    uint32_t n = t->span / quant_find(t->of->weight)->block_len, piece = e->isa->lanes == 16 ? 64 : 32;
    val      words_at = emit_at(e, a->words.from, emit_mul_const(e, row, 4ull * a->words.n));
    val      numbers_at = emit_mul_const(e, row, 4ull * a->scales.n);
    if (piece > t->span) piece = t->span;
    for (uint32_t first = 0; first < t->span; first += piece)
        emit_store(e, t->kind->words(t, block, first, piece),
                   emit_at_const(e, words_at, 4ull * (first / t->kind->columns(e->isa))), 4);
    emit_store(e, emit_block_scales(e, t->form, block, n), emit_at(e, a->scales.from, numbers_at), 4);
    if (t->form->minima)
        emit_store(e, LLVMBuildFNeg(e->builder, emit_block_minima(e, t->form, block, n), ""),
                   emit_at(e, a->minima.from, numbers_at), 4);
}

/* A vector of rows, a span of columns; the first row's is at `from`. */
static void unpack_blocks(const tile *t, const aside *a, val from, val ahead, val to) {
    emit *e = t->e;
    loop  l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, e->isa->lanes), 1);
    val   block = emit_at(e, from, emit_mul_const(e, l.i, t->row_bytes));
    ask_ahead(t, block, ahead);
    take_apart(t, a, block, l.i);
    emit_loop_end(e, &l, NULL);
    store_words(t, &a->words, to);
    store_numbers(t, &a->scales, to, 0);
    if (t->form->minima) store_numbers(t, &a->minima, to, 1);
}

/* The same of plain numbers, straight from the rows, of which words from `skip` on are stored. */
static void unpack_plain(const tile *t, val from, val ahead, uint32_t skip, val to) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes;
    val      vectors[EMIT_MAX_LANES];
    for (uint32_t r = 0; r < lanes; r++) {
        val row = emit_at_const(e, from, r * t->row_bytes);
        if (ahead) ask_ahead(t, row, ahead);
        vectors[r] = t->kind->words(t, row, 0, t->span);
    }
    emit_turn(e, vectors, lanes);
    for (uint32_t j = skip; j < lanes; j++)
        emit_store(e, vectors[j], emit_at_const(e, to, tile_word_at(t, j - skip, 0)), lanes * 4);
}

/* A span of all rows, from the first row's at `from`. */
static void unpack_span(const tile *t, const aside *a, val from, val ahead, uint32_t skip, val to) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes;
    loop vectors = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->n_vectors), 1);
    val  rows = emit_at(e, from, emit_mul_const(e, vectors.i, lanes * t->row_bytes));
    val  own = emit_at(e, to, emit_mul_const(e, vectors.i, 4ull * lanes));
    if (t->form)
        unpack_blocks(t, a, rows, ahead, own);
    else
        unpack_plain(t, rows, ahead, skip, own);
    emit_loop_end(e, &vectors, NULL);
}

/* Columns of plain numbers that are no whole span: those before them are loaded once more. */
static void unpack_rest(const tile *t, val rows, val to) {
    emit    *e = t->e;
    uint32_t each = t->kind->columns(e->isa), rest = (uint32_t)(t->of->k % t->span);
    if (!rest) return;
    val from = emit_at_const(e, rows, quant_row_bytes(t->of->weight, t->of->k - t->span));
    unpack_span(t, NULL, from, NULL, (t->span - rest) / each,
                emit_at_const(e, to, tile_word_at(t, (uint32_t)((t->of->k - rest) / each), 0)));
}

val tile_unpack_function(const tile *t) {
    emit       *e = t->e;
    const char *name = arena_printf(e->memory, "unpack_%s_k%llu_r%u", quant_find(t->of->weight)->name,
                                    (unsigned long long)t->of->k, t->of->rows);
    type        params[] = {e->ptr, e->ptr};
    if (!emit_function_begin(e, name, e->none, params, 2)) return LLVMGetNamedFunction(e->module, name);
    aside a = {0};
    if (t->form) a = aside_begin(t);
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->of->k / t->span), 1);
    val  from = emit_at(e, LLVMGetParam(e->fn, 0), emit_mul_const(e, l.i, quant_row_bytes(t->of->weight, t->span)));
    val  ahead = bytes_ahead(t, l.i);
    val  to = emit_at(e, LLVMGetParam(e->fn, 1),
                      emit_mul_const(e, l.i, t->span / t->group * tile_group_bytes(t, t->of->rows)));
    unpack_span(t, &a, from, ahead, 0, to);
    emit_loop_end(e, &l, NULL);
    unpack_rest(t, LLVMGetParam(e->fn, 0), LLVMGetParam(e->fn, 1));
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}
