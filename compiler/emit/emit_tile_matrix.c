/* Tiles multiplied by a matrix unit (isa_matrix).
 *
 * A tile as it is unpacked, words of neighbouring rows side by side, is what such a unit wants of one matrix; the
 * activations' rows are the other. Plain numbers are added up in the unit from a row's first to its last. Sums of
 * quantized ones leave it for each group of columns, by way of memory, to be scaled there by vectors: a few groups'
 * for all tokens, then these for a few tokens at a time, so that what they are added to stays in registers meanwhile.
 * Where sub-blocks have integers, these are multiplied into the quants beforehand (words_planes), and a group is a
 * whole block of 256: a quant of 14 bits costs two products of bytes, but leaving the unit eight or sixteen times as
 * often would cost more. */
#include "emit_tile.h"

#define TOGETHER 2  /* groups that are multiplied before they are scaled */
#define AT_ONCE  8  /* tokens that are scaled at a time */

_Static_assert(AT_ONCE <= EMIT_MAX_TILE_TOKENS, "a product has so many");

/* What the unit makes at a time of a product: sums of some vectors of its rows, and of all of its tokens,
   which are in bands for the unit's registers. */
typedef struct grid {
    const product *p;
    uint32_t       n_bands, band;  /* how many tokens one has */
    uint32_t       v, n_vectors;   /* of rows, from vector v on */
    uint32_t       n_sums;         /* of a band: vectors of all planes */
    uint32_t       words;          /* of a row that the unit takes in a step */
    val            memory;         /* for sums: [TOGETHER][n_sums][tokens][lanes] */
} grid;

static uint32_t step_words(const tile *t) {
    uint32_t words = tile_group_words(t), most = t->e->isa->matrix->words;
    return words < most ? words : most;
}

static uint64_t sum_at(const grid *s, uint32_t sum, uint32_t token) {
    return 4ull * s->p->t->e->isa->lanes * (sum * s->p->n_tokens + token);
}

static void zero_sums(const grid *s) {
    emit *e = s->p->t->e;
    for (uint32_t g = 0; g < s->n_bands; g++)
        for (uint32_t i = 0; i < s->n_sums; i++) e->isa->matrix->zero(e, g, i);
}

static void store_sums(const grid *s, val to) {
    emit *e = s->p->t->e;
    for (uint32_t g = 0; g < s->n_bands; g++)
        for (uint32_t i = 0; i < s->n_sums; i++)
            e->isa->matrix->store(e, g, i, emit_at_const(e, to, sum_at(s, i, g * s->band)),
                                  emit_i64(e, 4ull * e->isa->lanes));
}

/* Words from `tile_at` in the tile and `x_at` in the activations' words on. */
static void matrix_step(const grid *s, val tile_at, val x_at) {
    const product *p = s->p;
    const tile    *t = p->t;
    emit          *e = t->e;
    val            x[ISA_MAX_SUMS], w[ISA_MAX_SUMS];
    for (uint32_t g = 0; g < s->n_bands; g++) {
        val first = emit_at(e, p->x[0], emit_mul_const(e, p->x_stride, g * s->band));
        x[g] = emit_at(e, emit_at_const(e, first, t->kind->x(&p->layout)), x_at);
    }
    for (uint32_t i = 0; i < s->n_sums; i++) {
        uint64_t at = tile_word_at(t, 0, s->v + i % s->n_vectors) + tile_plane_at(t, i / s->n_vectors);
        w[i] = emit_at_const(e, emit_at(e, p->tile, tile_at), at);
    }
    e->isa->matrix->multiply(e, t->form ? MATRIX_I8 : MATRIX_BF16, s->n_bands, x, p->x_stride, s->n_sums, w,
                             tile_word_at(t, 1, 0));
}

/* ---- quantized numbers */

static void matrix_group(const grid *s, val number, val to) {
    const tile *t = s->p->t;
    emit       *e = t->e;
    uint32_t    words = tile_group_words(t);
    val         tile_at = emit_mul_const(e, number, tile_group_bytes(t, t->of->rows));
    val         x_at = emit_mul_const(e, number, 4ull * words);
    zero_sums(s);
    for (uint32_t j = 0; j < words; j += s->words)
        matrix_step(s, emit_add(e, tile_at, emit_i64(e, tile_word_at(t, j, 0))),
                    emit_add(e, x_at, emit_i64(e, 4 * j)));
    store_sums(s, to);
}

/* Sum i of the tokens from the first of `sums` on, with its high plane. */
static val load_sum(const grid *s, val sums, uint32_t i, uint32_t token) {
    emit    *e = s->p->t->e;
    uint32_t lanes = e->isa->lanes;
    type     vector = emit_vector(e->i32, lanes);
    val      sum = emit_load(e, vector, emit_at_const(e, sums, sum_at(s, i, token)), 4 * lanes);
    if (s->p->t->n_planes == 1) return sum;
    val high = emit_load(e, vector, emit_at_const(e, sums, sum_at(s, s->n_vectors + i, token)), 4 * lanes);
    return emit_add(e, sum, LLVMBuildShl(e->builder, high, emit_splat_int(e, e->i32, TILE_PLANE_BITS, lanes), ""));
}

/* The product of q->n_tokens of the tokens: their addresses, from token `first` (i64) on. */
static product of_tokens(const grid *s, val first, uint32_t n_tokens) {
    emit   *e = s->p->t->e;
    product q = *s->p;
    q.n_tokens = n_tokens;
    q.x[0] = emit_at(e, q.x[0], emit_mul(e, first, q.x_stride));
    for (uint32_t i = 1; i < n_tokens; i++) q.x[i] = emit_at(e, q.x[i - 1], q.x_stride);
    q.out = emit_at_const(e, emit_at(e, q.out, emit_mul(e, first, q.out_stride)), 4ull * e->isa->lanes * s->v);
    return q;
}

/* The sums of `count` groups from number `from` on, of all tokens, are scaled and added to those in q's place, a few
   tokens at a time. */
static void scale_groups(const grid *s, val from, uint32_t count) {
    const tile *t = s->p->t;
    emit       *e = t->e;
    uint32_t    n_tokens = s->p->n_tokens < AT_ONCE ? s->p->n_tokens : AT_ONCE, n = s->n_vectors;
    type        vector = emit_vector(e->f32, e->isa->lanes);
    val         acc[TILE_MAX_SUMS], x_scales[EMIT_MAX_TILE_TOKENS], sums[TILE_MAX_SUMS];
    loop        few = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, s->p->n_tokens), n_tokens);
    product     q = of_tokens(s, few.i, n_tokens);
    val         rows[EMIT_MAX_TILE_TOKENS] = {q.out};
    for (uint32_t i = 1; i < n_tokens; i++) rows[i] = emit_at(e, rows[i - 1], q.out_stride);
    for (uint32_t i = 0; i < n_tokens * n; i++)
        acc[i] = emit_load(e, vector, emit_at_const(e, rows[i / n], 4ull * e->isa->lanes * (i % n)), 4);
    for (uint32_t c = 0; c < count; c++) {
        val number = emit_add(e, from, emit_i64(e, c));
        val own = emit_at_const(e, s->memory, c * sum_at(s, s->n_sums, 0));
        own = emit_at(e, own, emit_mul_const(e, few.i, sum_at(s, 0, 1)));
        for (uint32_t i = 0; i < n_tokens * n; i++) sums[i] = load_sum(s, own, i % n, i / n);
        tile_x_scales(&q, LLVMBuildUDiv(e->builder, number, emit_i64(e, tile_x_block(t) / t->group), ""), x_scales);
        tile_add_scaled(&q, number, x_scales, s->v, n, sums, acc);
    }
    for (uint32_t i = 0; i < n_tokens * n; i++)
        emit_store(e, acc[i], emit_at_const(e, rows[i / n], 4ull * e->isa->lanes * (i % n)), 4);
    emit_loop_end(e, &few, NULL);
}

static void matrix_groups(const grid *s, val from, uint32_t count) {
    emit *e = s->p->t->e;
    loop  each = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, count), 1);
    val   to = emit_at(e, s->memory, emit_mul_const(e, each.i, sum_at(s, s->n_sums, 0)));
    matrix_group(s, emit_add(e, from, each.i), to);
    emit_loop_end(e, &each, NULL);
    scale_groups(s, from, count);
}

/* Groups [from, from + count) for all vectors of rows: so the activations' words are near for all but the first. */
static void matrix_all_rows(const grid *of, val from, uint32_t count) {
    const tile *t = of->p->t;
    uint32_t    most = t->e->isa->matrix->vectors / t->n_planes;
    for (grid s = *of; s.v < t->n_vectors; s.v += s.n_vectors) {
        s.n_vectors = t->n_vectors - s.v < most ? t->n_vectors - s.v : most;
        s.n_sums = s.n_vectors * t->n_planes;
        matrix_groups(&s, from, count);
    }
}

static void matrix_blocks(const grid *s) {
    const product *p = s->p;
    emit          *e = p->t->e;
    uint32_t       groups = (uint32_t)(p->t->of->k / p->t->group), n = p->t->kind->multiplied ? 1 : TOGETHER;
    val            none = LLVMConstNull(emit_vector(e->f32, e->isa->lanes));
    loop           token = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, p->n_tokens), 1);
    val            row = emit_at(e, p->out, emit_mul(e, token.i, p->out_stride));
    for (uint32_t v = 0; v < p->t->n_vectors; v++)
        emit_store(e, none, emit_at_const(e, row, 4ull * e->isa->lanes * v), 4);
    emit_loop_end(e, &token, NULL);
    if (groups >= n) {
        loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, groups - groups % n), n);
        matrix_all_rows(s, l.i, n);
        emit_loop_end(e, &l, NULL);
    }
    if (groups % n) matrix_all_rows(s, emit_i64(e, groups - groups % n), groups % n);
}

/* ---- plain numbers */

/* Words from number `first` on of a row are less than the unit takes at a time. */
static void add_rest(const grid *s, uint32_t first, uint32_t count) {
    const product *p = s->p;
    emit          *e = p->t->e;
    uint32_t       n = p->t->n_vectors;
    type           vector = emit_vector(e->f32, e->isa->lanes);
    val            sums[EMIT_MAX_TILE_VECTORS];
    loop           token = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, p->n_tokens), 1);
    product        q = of_tokens(s, token.i, 1);
    for (uint32_t v = 0; v < n; v++)
        sums[v] = emit_load(e, vector, emit_at_const(e, q.out, 4ull * e->isa->lanes * v), 4);
    tile_multiply_words(&q, emit_i64(e, tile_word_at(p->t, first, 0)), emit_i64(e, 4ull * first), count, sums);
    for (uint32_t v = 0; v < n; v++) emit_store(e, sums[v], emit_at_const(e, q.out, 4ull * e->isa->lanes * v), 4);
    emit_loop_end(e, &token, NULL);
}

static void matrix_plain(const grid *of) {
    const product *p = of->p;
    const tile    *t = p->t;
    emit          *e = t->e;
    uint32_t       words = (uint32_t)(t->of->k / t->kind->columns(e->isa)), rest = words % of->words;
    grid           s = *of;
    s.n_sums = s.n_vectors = t->n_vectors;
    zero_sums(&s);
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, words - rest), s.words);
    matrix_step(&s, emit_mul_const(e, l.i, tile_word_at(t, 1, 0)), emit_mul_const(e, l.i, 4));
    emit_loop_end(e, &l, NULL);
    for (uint32_t g = 0; g < s.n_bands; g++)
        for (uint32_t v = 0; v < s.n_vectors; v++) {
            val row = emit_at(e, p->out, emit_mul_const(e, p->out_stride, g * s.band));
            e->isa->matrix->store(e, g, v, emit_at_const(e, row, 4ull * e->isa->lanes * v), p->out_stride);
        }
    if (rest) add_rest(&s, words - rest, rest);
}

void tile_multiply_matrix(const product *p) {
    emit             *e = p->t->e;
    const isa_matrix *unit = e->isa->matrix;
    grid              s = {.p = p, .words = step_words(p->t)};
    s.n_bands = p->n_tokens > unit->tokens ? p->n_tokens / unit->tokens : 1;
    s.band = p->n_tokens / s.n_bands;
    if (p->t->form) s.memory = emit_local(e, TOGETHER * sum_at(&s, unit->vectors, 0));
    unit->begin(e, s.band, s.words);
    (p->t->form ? matrix_blocks : matrix_plain)(&s);
    unit->end(e);
}
