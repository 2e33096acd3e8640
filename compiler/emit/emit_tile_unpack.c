/* Rows of weights made a tile: blocks are taken apart row by row, and words that follow one another in a
 * row become words of neighbouring rows. */
#include "emit_tile.h"

#define LEAST_PIECE 32 /* columns taken apart at once */

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

/* The words of a span, of one plane. Groups of words and steps of them divide one another. */
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

/* The numbers of a span's groups, `each` of a group, from `which` on. */
static void store_numbers(const tile *t, const columns *c, val to, uint32_t which, uint32_t each) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes, steps = c->n < lanes ? c->n : lanes;
    val      vectors[EMIT_MAX_LANES];
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t j = i % steps, group = i / each;
        if (c->n == 1)
            vectors[0] = emit_load(e, emit_vector(e->i32, lanes), c->from, 4);
        else if (!j)
            load_columns(t, c, emit_i64(e, i), steps, vectors);
        uint64_t at = group * tile_group_bytes(t, t->of->rows) + tile_number_at(t, which + i % each, 0);
        emit_store(e, vectors[j], emit_at_const(e, to, at), lanes * 4);
    }
}

/* ---- from memory */

static uint64_t span_bytes(const tile *t) {
    return quant_row_bytes(t->of->weight, t->span);
}

/* Asks for so many bytes of the rows that come next. A vector of rows is taken apart span by span, which no
   processor foresees, and which memory is slow at: meanwhile the next ones are brought to the second-level cache
   from the first byte to the last. With Q8_0 of a 1.1B shape, a Zen 4 took 88 ms for four tokens in place of 165,
   where each row had been asked for a span ahead. */
static void ask_for(const tile *t, val next) {
    if (emit_weights_are_far(t->e)) emit_prefetch_lines(t->e, next, 0, span_bytes(t));
}

/* What a row's blocks are taken apart to, before rows become lanes. */
typedef struct aside {
    columns words[2], scales, minima, integers;
} aside;

/* Memory for `n` numbers of each of a vector's rows. */
static columns columns_begin(const tile *t, uint32_t n) {
    return (columns){emit_local(t->e, 4ull * t->e->isa->lanes * n), n};
}

static aside aside_begin(const tile *t) {
    uint32_t groups = t->span / t->group;
    aside    a = {0};
    for (uint32_t i = 0; i < t->n_planes; i++) a.words[i] = columns_begin(t, t->span / t->kind->columns(t->e->isa));
    a.scales = columns_begin(t, groups);
    if (t->form->minima) a.minima = columns_begin(t, groups);
    if (tile_integers(t)) a.integers = columns_begin(t, groups * tile_integers(t));
    return a;
}

static void set_aside(const tile *t, const columns *c, val row, uint32_t first, val v) {
    emit *e = t->e;
    emit_store(e, v, emit_at_const(e, emit_at(e, c->from, emit_mul_const(e, row, 4ull * c->n)), 4ull * first), 4);
}

static void set_planes_aside(const tile *t, const aside *a, val row, uint32_t first, const val *planes) {
    for (uint32_t i = 0; i < t->n_planes; i++)
        set_aside(t, &a->words[i], row, first / t->kind->columns(t->e->isa), planes[i]);
}

static uint32_t piece_of(const tile *t) {
    uint32_t piece = t->e->isa->lanes == 16 ? 64 : LEAST_PIECE;
    return piece < t->span ? piece : t->span;
}

static void take_words_apart(const tile *t, const aside *a, val block, val row) {
    uint32_t piece = piece_of(t);
    for (uint32_t first = 0; first < t->span; first += piece) {
        val planes[2];
        t->kind->words(t, block, first, piece, planes);
        set_planes_aside(t, a, row, first, planes);
    }
}

/* The same of a block whose sub-blocks' integers are in the words. Nothing is stored before all is loaded, so that
   LLVM takes these integers apart but once. */
static void take_multiplied_apart(const tile *t, const aside *a, val block, val row) {
    emit    *e = t->e;
    uint32_t piece = piece_of(t);
    val      planes[TILE_SPAN_MOST / LEAST_PIECE][2], minima = NULL, factors = t->form->factors(e, t->form, block);
    for (uint32_t i = 0; i < t->span / piece; i++) t->kind->words(t, block, i * piece, piece, planes[i]);
    if (t->form->minima) t->form->integers(e, t->form, block, &minima);
    for (uint32_t i = 0; i < t->span / piece; i++) set_planes_aside(t, a, row, i * piece, planes[i]);
    set_aside(t, &a->scales, row, 0, emit_pick(e, factors, NULL, 0, 1, 1));
    if (!minima) return;
    set_aside(t, &a->minima, row, 0, emit_pick(e, factors, NULL, 1, 1, 1));
    set_aside(t, &a->integers, row, 0, minima);
}

static void take_scales_apart(const tile *t, const aside *a, val block, val row) {
    emit    *e = t->e;
    uint32_t n = t->span / quant_find(t->of->weight)->block_len;
    set_aside(t, &a->scales, row, 0, emit_block_scales(e, t->form, block, n));
    if (t->form->minima)
        set_aside(t, &a->minima, row, 0, LLVMBuildFNeg(e->builder, emit_block_minima(e, t->form, block, n), ""));
}

/* A span of a vector of rows, the first of which is at `from`. As many bytes from `next` on are asked for. */
static void unpack_blocks(const tile *t, const aside *a, val from, val next, val to) {
    emit *e = t->e;
    loop  l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, e->isa->lanes), 1);
    ask_for(t, emit_at(e, next, emit_mul_const(e, l.i, span_bytes(t))));
    val block = emit_at(e, from, emit_mul_const(e, l.i, t->row_bytes));
    if (t->kind->multiplied) {
        take_multiplied_apart(t, a, block, l.i);
    } else {
        take_words_apart(t, a, block, l.i);
        take_scales_apart(t, a, block, l.i);
    }
    emit_loop_end(e, &l, NULL);
    for (uint32_t i = 0; i < t->n_planes; i++)
        store_words(t, &a->words[i], emit_at_const(e, to, tile_plane_at(t, i)));
    store_numbers(t, &a->scales, to, TILE_SCALES, 1);
    if (t->form->minima) store_numbers(t, &a->minima, to, TILE_MINIMA, 1);
    if (tile_integers(t)) store_numbers(t, &a->integers, to, TILE_INTEGERS, tile_integers(t));
}

/* The same of plain numbers, straight from the rows, of which words from `skip` on are stored; `next` may be NULL. */
static void unpack_plain(const tile *t, val from, val next, uint32_t skip, val to) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes;
    val      vectors[EMIT_MAX_LANES];
    for (uint32_t r = 0; r < lanes; r++) {
        if (next) ask_for(t, emit_at_const(e, next, r * span_bytes(t)));
        t->kind->words(t, emit_at_const(e, from, r * t->row_bytes), 0, t->span, &vectors[r]);
    }
    emit_turn(e, vectors, lanes);
    for (uint32_t j = skip; j < lanes; j++)
        emit_store(e, vectors[j], emit_at_const(e, to, tile_word_at(t, j - skip, 0)), lanes * 4);
}

/* Columns of plain numbers that are no whole span: those before them are loaded once more. */
static void unpack_rest(const tile *t, val rows, val to) {
    emit    *e = t->e;
    uint32_t each = t->kind->columns(e->isa), rest = (uint32_t)(t->of->k % t->span);
    if (!rest) return;
    val from = emit_at_const(e, rows, quant_row_bytes(t->of->weight, t->of->k - t->span));
    val own = emit_at_const(e, to, tile_word_at(t, (uint32_t)((t->of->k - rest) / each), 0));
    unpack_plain(t, from, NULL, (t->span - rest) / each, own);
}

/* A vector of rows, the first of which is at `rows`. */
static void unpack_rows(const tile *t, const aside *a, val rows, val to) {
    emit *e = t->e;
    loop  l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->of->k / t->span), 1);
    val   from = emit_at(e, rows, emit_mul_const(e, l.i, span_bytes(t)));
    val   next = emit_at(e, emit_at_const(e, rows, e->isa->lanes * t->row_bytes),
                         emit_mul_const(e, l.i, e->isa->lanes * span_bytes(t)));
    val   own = emit_at(e, to, emit_mul_const(e, l.i, t->span / t->group * tile_group_bytes(t, t->of->rows)));
    if (t->form)
        unpack_blocks(t, a, from, next, own);
    else
        unpack_plain(t, from, next, 0, own);
    emit_loop_end(e, &l, NULL);
    unpack_rest(t, rows, to);
}

val tile_unpack_function(const tile *t) {
    emit       *e = t->e;
    const char *name = arena_printf(e->memory, "unpack_%s_%s_k%llu_r%u", quant_find(t->of->weight)->name,
                                    t->kind->name, (unsigned long long)t->of->k, t->of->rows);
    type        params[] = {e->ptr, e->ptr};
    if (!emit_function_begin(e, name, e->none, params, 2)) return LLVMGetNamedFunction(e->module, name);
    aside a = {0};
    if (t->form) a = aside_begin(t);
    loop vectors = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->n_vectors), 1);
    unpack_rows(t, &a, emit_at(e, LLVMGetParam(e->fn, 0), emit_mul_const(e, vectors.i, e->isa->lanes * t->row_bytes)),
                emit_at(e, LLVMGetParam(e->fn, 1), emit_mul_const(e, vectors.i, 4ull * e->isa->lanes)));
    emit_loop_end(e, &vectors, NULL);
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}
