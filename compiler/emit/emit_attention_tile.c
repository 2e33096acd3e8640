/* Attention of many rows: two matrix products of f32s with a softmax between them.
 *
 * A chunk of the cache is converted once for all rows of a unit, the keys turned so that lanes are
 * positions and nothing is left to sum across a vector:
 *
 *     f32 keys[positions / step][head_dim][step]      step: the positions a tile takes at a time
 *     f32 values[positions][padded]                   padded: head_dim in whole vectors
 *
 * Rows are taken some at a time, a tile, whose sums fit the registers. For each tile of rows and chunk
 *
 *     scores[rows][positions]   q from memory to all lanes, times keys
 *     softmax                   the new maximum, weights exp(score - maximum) in the scores' place
 *     sums[rows][padded]        scaled down to the new maximum, plus weights times values
 *
 * positions that none of its rows sees being left out. A tile keeps its state in the unit's frame:
 *
 *     f32 totals[rows][lanes], most[rows, to a power of two], sums[rows][padded], q[rows][head_dim]
 *
 * with q already scaled. Where a block has no rows for the last tile its last row is repeated.
 */
#include "emit_attention.h"

#include <math.h>

#define MAX_ROWS    8
#define MAX_VECTORS 4
#define CHUNK_LEAST PLAN_CTX_STEP
#define CHUNK_MOST  256
#define CHUNK_BYTES (32 << 10) /* of keys, and as many of values: between them they fit L2 easily */
#define UNROLL      4          /* positions of a step of the second product */

/* What the function works on. */
typedef struct tile_pass {
    const attention *a;
    tiling           t;
    uint32_t         step;         /* positions that a tile takes at a time */
    uint32_t         square;       /* rows to a power of two */
    val              k, v;         /* the caches of the kv head */
    val              keys, values; /* of the chunk, converted */
    val              scores, most, shrink; /* most: the chunk's, a lane each, before they are joined */
    val              tile;  /* its state */
    val              chunk; /* the first position */
    val              count; /* of positions, that the tile sees of the chunk */
    val              whole; /* … that all of its rows see, in whole vectors */
} tile_pass;

/* ---- sizes */

static uint32_t power_below(uint32_t n) {
    uint32_t p = 1;
    while (2 * p <= n) p *= 2;
    return p;
}

static uint32_t power_above(uint32_t n) {
    return n > 1 ? 2 * power_below(n - 1) : 1;
}

tiling attention_tiling(const attention *a, uint32_t rows) {
    uint32_t lanes = a->e->isa->lanes, most = a->e->isa->registers / 4;
    tiling   t = {.vectors = 2, .chunk = CHUNK_MOST};
    if (most > MAX_ROWS) most = MAX_ROWS;
    if (most > lanes) most = lanes;
    uint32_t n_tiles = (rows + most - 1) / most;
    t.rows = (rows + n_tiles - 1) / n_tiles;
    t.width = a->d < lanes ? power_above(a->d) : lanes;
    t.padded = (a->d + t.width - 1) / t.width * t.width;
    t.ahead = n_tiles == 1;
    t.direct = n_tiles == 1 && a->e->isa->native_f16 && t.padded == a->d;
    while (t.chunk > CHUNK_LEAST && 4ull * t.chunk * t.padded > (t.ahead ? CHUNK_BYTES / 2 : CHUNK_BYTES))
        t.chunk /= 2;
    return t;
}

static uint64_t most_at(const attention *a, const tiling *t) {
    return 4ull * t->rows * a->e->isa->lanes;
}

static uint64_t sums_at(const attention *a, const tiling *t) {
    return most_at(a, t) + 4ull * power_above(t->rows);
}

static uint64_t q_at(const attention *a, const tiling *t) {
    return sums_at(a, t) + 4ull * t->rows * t->padded;
}

static uint64_t tile_bytes(const attention *a, const tiling *t) {
    return round_up(q_at(a, t) + 4ull * t->rows * a->d, 64);
}

uint64_t attention_frame_bytes(const attention *a, const tiling *t, uint32_t rows) {
    return (rows + t->rows - 1) / t->rows * tile_bytes(a, t);
}

/* ---- converting a chunk */

/* `lanes` positions from `at` of the chunk on; whatever stands behind the last is converted too, and
   masked later. A part that would reach over the end of the rows begins earlier instead. */
static void turn_keys(const tile_pass *p, val at) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes, d = p->a->d, n = d < lanes ? power_below(d) : lanes;
    val      within = attention_remainder(e, at, p->step);
    val      tile = emit_add(e, emit_mul_const(e, emit_sub(e, at, within), d), within);
    val      to = emit_at(e, p->keys, emit_mul_const(e, tile, 4));
    val      from = emit_at(e, p->k, emit_mul_const(e, emit_add(e, p->chunk, at), 2 * d));
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, d), n);
    val      over = LLVMBuildICmp(e->builder, LLVMIntUGT, l.i, emit_i64(e, d - n), "");
    val      first = LLVMBuildSelect(e->builder, over, emit_i64(e, d - n), l.i, "");
    val      vectors[EMIT_MAX_LANES];
    from = emit_at(e, from, emit_mul_const(e, first, 2));
    to = emit_at(e, to, emit_mul_const(e, first, 4 * p->step));
    for (uint32_t i = 0; i < lanes; i++)
        vectors[i] = emit_load_f32(e, QUANT_F16, emit_at_const(e, from, 2ull * i * d), n);
    emit_turn(e, vectors, n);
    for (uint32_t i = 0; i < n; i++)
        emit_store(e, vectors[i], emit_at_const(e, to, 4ull * i * p->step), 4 * lanes);
    emit_loop_end(e, &l, NULL);
}

static void store_value(const tile_pass *p, bool there, val at) {
    emit    *e = p->a->e;
    uint32_t width = p->t.width, d = p->a->d;
    val      to = emit_at(e, p->values, emit_mul_const(e, at, 4 * p->t.padded));
    val      from = emit_at(e, p->v, emit_mul_const(e, emit_add(e, p->chunk, at), 2 * d));
    for (uint32_t i = 0; i < d; i += width) {
        uint32_t n = d - i < width ? d - i : width;
        val v = there ? emit_load_f32(e, QUANT_F16, emit_at_const(e, from, 2 * i), n)
                      : LLVMConstNull(emit_vector(e->f32, width));
        emit_store(e, emit_widen(e, v, width), emit_at_const(e, to, 4 * i), 4 * width);
    }
}

/* The chunk's first `count` positions. Behind the last value stand zeros for UNROLL. */
static void convert_chunk(const tile_pass *p, val count) {
    emit *e = p->a->e;
    loop  keys = emit_loop_begin(e, emit_i64(e, 0), count, e->isa->lanes);
    turn_keys(p, keys.i);
    emit_loop_end(e, &keys, NULL);
    if (p->t.direct) return;
    loop values = emit_loop_begin(e, emit_i64(e, 0), count, 1);
    store_value(p, true, values.i);
    emit_loop_end(e, &values, NULL);
    val    whole = LLVMBuildAnd(e->builder, emit_add(e, count, emit_i64(e, UNROLL - 1)),
                                emit_i64(e, ~(uint64_t)(UNROLL - 1)), "");
    branch rest = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, count, whole, ""));
    loop   zeros = emit_loop_begin(e, count, whole, 1);
    store_value(p, false, zeros.i);
    emit_loop_end(e, &zeros, NULL);
    emit_if_end(e, &rest);
}

/* ---- asking ahead */

/* Asks for `bytes` bytes from `at` on (i64) of what the next chunk has in a cache. Processors fetch
   ahead by themselves, but not past a page. Both products ask for a part in every step: no more is
   under way at a time than can be. Behind the last chunk nothing is asked for that could do harm. */
static void ask_ahead(const tile_pass *p, val cache, val at, uint32_t bytes) {
    emit *e = p->a->e;
    val   next = emit_mul_const(e, emit_add(e, p->chunk, emit_i64(e, p->t.chunk)), 2 * p->a->d);
    val   from = emit_at(e, emit_at(e, cache, next), at);
    for (uint32_t i = 0; p->t.ahead && i < bytes; i += EMIT_LINE_BYTES)
        emit_prefetch(e, emit_at_const(e, from, i), EMIT_PREFETCH_L1);
}

/* ---- the first product */

static val all_lanes(emit *e, val at, uint32_t n) {
    return emit_splat(e, emit_load(e, e->f32, at, 4), n);
}

static void score_step(const tile_pass *p, val keys, val q, val *sums) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes, n = p->t.vectors;
    val      k[MAX_VECTORS];
    for (uint32_t v = 0; v < n; v++)
        k[v] = emit_load(e, emit_vector(e->f32, lanes), emit_at_const(e, keys, 4ull * v * lanes), 4 * lanes);
    for (uint32_t r = 0; r < p->t.rows; r++) {
        val x = all_lanes(e, emit_at_const(e, q, 4ull * r * p->a->d), lanes);
        for (uint32_t v = 0; v < n; v++) sums[r * n + v] = emit_fma(e, x, k[v], sums[r * n + v]);
    }
}

static void score_tile(const tile_pass *p) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes, n = p->t.vectors, d = p->a->d, unroll = d % 4 ? 1 + (d % 2 == 0) : 4;
    val      sums[MAX_ROWS * MAX_VECTORS];
    val      q = emit_at_const(e, p->tile, q_at(p->a, &p->t));
    loop     l = emit_loop_begin(e, emit_i64(e, 0), p->count, p->step);
    val      keys = emit_at(e, p->keys, emit_mul_const(e, l.i, 4 * d));
    loop     inner = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, d), unroll);
    for (uint32_t i = 0; i < p->t.rows * n; i++)
        sums[i] = emit_loop_carry(e, &inner, LLVMConstNull(emit_vector(e->f32, lanes)));
    val k = emit_at(e, keys, emit_mul_const(e, inner.i, 4 * p->step));
    val x = emit_at(e, q, emit_mul_const(e, inner.i, 4));
    val part = emit_add(e, emit_mul_const(e, l.i, 2 * d), emit_mul_const(e, inner.i, 2 * p->step));
    ask_ahead(p, p->k, part, 2 * unroll * p->step);
    for (uint32_t u = 0; u < unroll; u++)
        score_step(p, emit_at_const(e, k, 4ull * u * p->step), emit_at_const(e, x, 4 * u), sums);
    emit_loop_end(e, &inner, sums);
    val to = emit_at(e, p->scores, emit_mul_const(e, l.i, 4));
    for (uint32_t r = 0; r < p->t.rows; r++)
        for (uint32_t v = 0; v < n; v++) {
            val at = emit_at_const(e, to, 4ull * (r * p->t.chunk + v * lanes));
            emit_store(e, sums[r * n + v], at, 4 * lanes);
        }
    emit_loop_end(e, &l, NULL);
}

/* ---- softmax */

static val half(emit *e, val v, uint32_t which) {
    uint32_t n = emit_length(v) / 2;
    return emit_pick(e, v, NULL, which * n, 1, n);
}

/* The largest element of each of n vectors (a power of two, at most their length). */
static val max_each(emit *e, val *vectors, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        while (emit_length(vectors[i]) > n)
            vectors[i] = emit_fmax(e, half(e, vectors[i], 0), half(e, vectors[i], 1));
    uint32_t group = n;
    for (uint32_t left = n; left > 1; left /= 2, group /= 2)
        for (uint32_t i = 0; i < left / 2; i++)
            vectors[i] = emit_fmax(e, emit_pick_groups(e, vectors[2 * i], vectors[2 * i + 1], 0, group),
                                   emit_pick_groups(e, vectors[2 * i], vectors[2 * i + 1], group / 2, group));
    return vectors[0];
}

/* The scores of row r from `at` of the chunk on, -∞ for positions after limits[r] of it. */
static val row_scores(const tile_pass *p, uint32_t r, val at, const val *limits) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes;
    val from = emit_at(e, emit_at_const(e, p->scores, 4ull * r * p->t.chunk), emit_mul_const(e, at, 4));
    val s = emit_load(e, emit_vector(e->f32, lanes), from, 4 * lanes);
    if (!limits) return s;
    val first = LLVMBuildTrunc(e->builder, at, e->i32, "");
    val numbers = emit_add(e, emit_splat(e, first, lanes), emit_iota(e, e->i32, lanes));
    val seen = LLVMBuildICmp(e->builder, LLVMIntSLE, numbers, limits[r], "");
    return LLVMBuildSelect(e->builder, seen, s, emit_splat_f32(e, -INFINITY, lanes), "");
}

/* `lanes` numbers of each row, at `base`: totals, which a tile's state begins with, or the scratch of `most`. They
   stay in memory between two loops over positions, as each of these may have none to do. */
static val row_lanes(const tile_pass *p, val base, uint32_t r) {
    return emit_at_const(p->a->e, base, 4ull * r * p->a->e->isa->lanes);
}

static val load_row(const tile_pass *p, val base, uint32_t r) {
    emit *e = p->a->e;
    return emit_load(e, emit_vector(e->f32, e->isa->lanes), row_lanes(p, base, r), 4 * e->isa->lanes);
}

static void store_row(const tile_pass *p, val v, val base, uint32_t r) {
    emit_store(p->a->e, v, row_lanes(p, base, r), 4 * p->a->e->isa->lanes);
}

static branch if_any(emit *e, val from, val to) {
    return emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, from, to, ""));
}

/* The rows' largest scores so far, and of positions from … to - 1 of the chunk, lane by lane. */
static void grow_most(const tile_pass *p, val from, val to, const val *limits) {
    emit  *e = p->a->e;
    val    most[MAX_ROWS];
    branch any = if_any(e, from, to);
    for (uint32_t r = 0; r < p->t.rows; r++) most[r] = load_row(p, p->most, r);
    loop l = emit_loop_begin(e, from, to, e->isa->lanes);
    for (uint32_t r = 0; r < p->t.rows; r++) most[r] = emit_loop_carry(e, &l, most[r]);
    for (uint32_t r = 0; r < p->t.rows; r++) most[r] = emit_fmax(e, row_scores(p, r, l.i, limits), most[r]);
    emit_loop_end(e, &l, most);
    for (uint32_t r = 0; r < p->t.rows; r++) store_row(p, most[r], p->most, r);
    emit_if_end(e, &any);
}

/* Takes the rows' maxima of the chunk into `most`; leaves what older sums shrink by. */
static val new_most(const tile_pass *p, const val *limits) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes, rows = p->t.rows;
    val      all[MAX_ROWS];
    for (uint32_t r = 0; r < rows; r++) store_row(p, emit_splat_f32(e, -INFINITY, lanes), p->most, r);
    grow_most(p, emit_i64(e, 0), p->whole, NULL);
    grow_most(p, p->whole, p->count, limits);
    for (uint32_t r = 0; r < p->square; r++) all[r] = load_row(p, p->most, r < rows ? r : 0);
    if (p->square > lanes) bug("%u rows for %u lanes", rows, lanes);
    val at = emit_at_const(e, p->tile, most_at(p->a, &p->t));
    val before = emit_load(e, emit_vector(e->f32, p->square), at, 4);
    val now = emit_fmax(e, max_each(e, all, p->square), before);
    emit_store(e, now, at, 4);
    emit_store(e, emit_softmax_weight(e, emit_fsub(e, before, now)), p->shrink, 4);
    return now;
}

/* Weights of row r's positions from … to - 1 of the chunk in the place of their scores, and their total. */
static void weigh_row(const tile_pass *p, uint32_t r, val from, val to, const val *limits, val most) {
    emit  *e = p->a->e;
    branch any = if_any(e, from, to);
    val    total = load_row(p, p->tile, r);
    loop   l = emit_loop_begin(e, from, to, e->isa->lanes);
    total = emit_loop_carry(e, &l, total);
    val w = emit_softmax_weight(e, emit_fsub(e, row_scores(p, r, l.i, limits), most));
    val at = emit_at(e, emit_at_const(e, p->scores, 4ull * r * p->t.chunk), emit_mul_const(e, l.i, 4));
    emit_store(e, w, at, 4 * e->isa->lanes);
    total = emit_fadd(e, total, w);
    emit_loop_end(e, &l, &total);
    store_row(p, total, p->tile, r);
    emit_if_end(e, &any);
}

/* Row by row, so that the registers hold what exp needs. */
static void weigh(const tile_pass *p, const val *limits, val now) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes;
    for (uint32_t r = 0; r < p->t.rows; r++) {
        val most = emit_splat(e, emit_pick(e, now, NULL, r, 1, 1), lanes);
        val shrink = all_lanes(e, emit_at_const(e, p->shrink, 4 * r), lanes);
        store_row(p, emit_fmul(e, load_row(p, p->tile, r), shrink), p->tile, r);
        weigh_row(p, r, emit_i64(e, 0), p->whole, NULL, most);
        weigh_row(p, r, p->whole, p->count, limits, most);
    }
}

/* ---- the second product */

/* Vector i of the value of a position of the chunk. */
static val load_value(const tile_pass *p, val position, uint32_t i) {
    emit    *e = p->a->e;
    uint32_t width = p->t.width;
    if (p->t.direct) {
        val from = emit_at(e, p->v, emit_mul_const(e, emit_add(e, p->chunk, position), 2 * p->a->d));
        return emit_load_f32(e, QUANT_F16, emit_at_const(e, from, 2 * i * width), width);
    }
    val from = emit_at(e, p->values, emit_mul_const(e, position, 4 * p->t.padded));
    return emit_load(e, emit_vector(e->f32, width), emit_at_const(e, from, 4ull * i * width), 4 * width);
}

/* Adds `unroll` positions from `at` on to n vectors of each row's sums, from the first-th on. */
static void add_positions(const tile_pass *p, val at, uint32_t unroll, uint32_t first, uint32_t n,
                          val *sums) {
    emit *e = p->a->e;
    val   weights = emit_at(e, p->scores, emit_mul_const(e, at, 4));
    for (uint32_t u = 0; u < unroll; u++) {
        val v[MAX_VECTORS], position = emit_add(e, at, emit_i64(e, u));
        for (uint32_t i = 0; i < n; i++) v[i] = load_value(p, position, first + i);
        val part = emit_add(e, emit_mul_const(e, position, 2 * p->a->d), emit_i64(e, 2 * first * p->t.width));
        ask_ahead(p, p->v, part, 2 * n * p->t.width);
        for (uint32_t r = 0; r < p->t.rows; r++) {
            val w = all_lanes(e, emit_at_const(e, weights, 4ull * (r * p->t.chunk + u)), p->t.width);
            for (uint32_t i = 0; i < n; i++) sums[r * n + i] = emit_fma(e, w, v[i], sums[r * n + i]);
        }
    }
}

/* Positions from … to - 1, if there are any; `to` may be passed to a whole step. */
static void add_some(const tile_pass *p, val from, val to, uint32_t unroll, uint32_t first, uint32_t n) {
    emit    *e = p->a->e;
    uint32_t width = p->t.width, rows = p->t.rows;
    val      sums[MAX_ROWS * MAX_VECTORS], at[MAX_ROWS];
    branch   any = if_any(e, from, to);
    for (uint32_t r = 0; r < rows; r++) {
        at[r] = emit_at_const(e, p->tile, sums_at(p->a, &p->t) + 4ull * (r * p->t.padded + first * width));
        for (uint32_t v = 0; v < n; v++) {
            val place = emit_at_const(e, at[r], 4ull * v * width);
            sums[r * n + v] = emit_load(e, emit_vector(e->f32, width), place, 4);
        }
    }
    loop l = emit_loop_begin(e, from, to, unroll);
    for (uint32_t i = 0; i < rows * n; i++) sums[i] = emit_loop_carry(e, &l, sums[i]);
    add_positions(p, l.i, unroll, first, n, sums);
    emit_loop_end(e, &l, sums);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t v = 0; v < n; v++)
            emit_store(e, sums[r * n + v], emit_at_const(e, at[r], 4ull * v * width), 4);
    emit_if_end(e, &any);
}

/* `n` vectors of each row's sums, from the first-th on. What stands in the cache behind the last
   position is not read: it need not be a number. */
static void add_values(const tile_pass *p, uint32_t first, uint32_t n) {
    emit *e = p->a->e;
    val   zero = emit_i64(e, 0);
    if (!p->t.direct) {
        add_some(p, zero, p->count, UNROLL, first, n);
        return;
    }
    val whole = LLVMBuildAnd(e->builder, p->count, emit_i64(e, ~(uint64_t)(UNROLL - 1)), "");
    add_some(p, zero, whole, UNROLL, first, n);
    add_some(p, whole, p->count, 1, first, n);
}

/* Scales what was summed before. */
static void shrink_sums(const tile_pass *p) {
    emit    *e = p->a->e;
    uint32_t width = p->t.width;
    for (uint32_t r = 0; r < p->t.rows; r++) {
        val shrink = all_lanes(e, emit_at_const(e, p->shrink, 4 * r), width);
        val sums = emit_at_const(e, p->tile, sums_at(p->a, &p->t) + 4ull * r * p->t.padded);
        for (uint32_t i = 0; i < p->t.padded; i += width) {
            val at = emit_at_const(e, sums, 4 * i);
            emit_store(e, emit_fmul(e, emit_load(e, emit_vector(e->f32, width), at, 4), shrink), at, 4);
        }
    }
}

static void add_all_values(const tile_pass *p) {
    uint32_t n = p->t.padded / p->t.width;
    for (uint32_t first = 0; first < n; first += p->t.vectors)
        add_values(p, first, n - first < p->t.vectors ? n - first : p->t.vectors);
}

/* ---- a tile and a chunk */

/* The position of a row, the last one's for those that only fill a tile. */
static val row_position(const attention *a, val row, val n_rows, val pos) {
    emit *e = a->e;
    val   real = emit_min(e, row, emit_sub(e, n_rows, emit_i64(e, 1)));
    return emit_add(e, pos, attention_divide(e, real, a->group));
}

/* Positions of the chunk, in whole vectors, that all rows see: the first of them is at `first`. */
static val whole_vectors(const tile_pass *p, val first) {
    emit *e = p->a->e;
    val   sees = LLVMBuildICmp(e->builder, LLVMIntUGE, first, p->chunk, "");
    val   n = emit_add(e, emit_sub(e, first, p->chunk), emit_i64(e, 1));
    n = emit_min(e, LLVMBuildSelect(e->builder, sees, n, emit_i64(e, 0), ""), p->count);
    return LLVMBuildAnd(e->builder, n, emit_i64(e, ~(uint64_t)(e->isa->lanes - 1)), "");
}

/* The tile whose first row is `row` takes its part of the chunk's `count` positions. */
static void take_tile(tile_pass *p, val row, val n_rows, val pos, val count) {
    emit    *e = p->a->e;
    uint32_t lanes = e->isa->lanes;
    val      one = emit_i64(e, 1);
    val      last = row_position(p->a, emit_add(e, row, emit_i64(e, p->t.rows - 1)), n_rows, pos);
    val      first = row_position(p->a, row, n_rows, pos);
    branch   any = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntUGE, last, p->chunk, ""));
    p->count = emit_min(e, count, emit_add(e, emit_sub(e, last, p->chunk), one));
    score_tile(p);
    val end = emit_sub(e, emit_add(e, p->chunk, p->count), one), limits[MAX_ROWS];
    for (uint32_t r = 0; r < p->t.rows; r++) {
        val seen = row_position(p->a, emit_add(e, row, emit_i64(e, r)), n_rows, pos);
        seen = emit_sub(e, emit_min(e, seen, end), p->chunk);
        limits[r] = emit_splat(e, LLVMBuildTrunc(e->builder, seen, e->i32, ""), lanes);
    }
    p->whole = whole_vectors(p, first);
    weigh(p, limits, new_most(p, limits));
    shrink_sums(p);
    add_all_values(p);
    emit_if_end(e, &any);
}

/* void (tiles, k, v, rows, pos, from, to): the rows' states after positions from … to - 1 of the
   cache of their kv head; row r belongs to the token at pos + r / group. */
val attention_tile_function(const attention *a, const tiling *t) {
    emit       *e = a->e;
    const char *name = arena_printf(e->memory, "attention_tiles_d%u_g%u_r%u_c%u%s", a->d, a->group, t->rows,
                                  t->chunk, t->direct ? "_direct" : "");
    type        params[] = {e->ptr, e->ptr, e->ptr, e->i64, e->i64, e->i64, e->i64};
    if (!emit_function_begin(e, name, e->none, params, 7)) return LLVMGetNamedFunction(e->module, name);
    val       arg[7];
    tile_pass p = {.a = a, .t = *t, .step = t->vectors * e->isa->lanes, .square = power_above(t->rows)};
    for (uint32_t i = 0; i < 7; i++) arg[i] = LLVMGetParam(e->fn, i);
    p.keys = emit_local(e, 4ull * t->chunk * a->d);
    p.k = arg[1];
    p.v = arg[2];
    if (!t->direct) p.values = emit_local(e, 4ull * t->chunk * t->padded);
    p.scores = emit_local(e, 4ull * t->chunk * t->rows);
    p.most = emit_local(e, 4ull * t->rows * e->isa->lanes);
    p.shrink = emit_local(e, 4ull * p.square);
    loop chunk = emit_loop_begin(e, arg[5], arg[6], t->chunk);
    val  count = emit_min(e, emit_i64(e, t->chunk), emit_sub(e, arg[6], chunk.i));
    p.chunk = chunk.i;
    convert_chunk(&p, count);
    loop row = emit_loop_begin(e, emit_i64(e, 0), arg[3], t->rows);
    val  number = attention_divide(e, row.i, t->rows);
    p.tile = emit_at(e, arg[0], emit_mul_const(e, number, tile_bytes(a, t)));
    take_tile(&p, row.i, arg[3], arg[4], count);
    emit_loop_end(e, &row, NULL);
    emit_loop_end(e, &chunk, NULL);
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}

/* ---- a block of tokens */

typedef struct row_place {
    val tile, slot;  /* the state of its tile, its number there */
    val token, head; /* of the batch, of all */
} row_place;

static row_place place_row(const attention *a, const tiling *t, const attention_block *b, val row,
                           val n_rows) {
    emit *e = a->e;
    val   number = attention_divide(e, row, t->rows);
    val   real = emit_min(e, row, emit_sub(e, n_rows, emit_i64(e, 1)));
    row_place place = {
        .tile = emit_at(e, b->frame, emit_mul_const(e, number, tile_bytes(a, t))),
        .slot = attention_remainder(e, row, t->rows),
        .token = emit_add(e, b->token, attention_divide(e, real, a->group)),
        .head = emit_add(e, emit_mul_const(e, b->kv_head, a->group),
                         attention_remainder(e, real, a->group)),
    };
    return place;
}

static val row_sums(const attention *a, const tiling *t, const row_place *place) {
    val at = emit_at_const(a->e, place->tile, sums_at(a, t));
    return emit_at(a->e, at, emit_mul_const(a->e, place->slot, 4 * t->padded));
}

static val row_most(const attention *a, const tiling *t, const row_place *place) {
    val at = emit_at_const(a->e, place->tile, most_at(a, t));
    return emit_at(a->e, at, emit_mul_const(a->e, place->slot, 4));
}

static val row_totals(const attention *a, const row_place *place) {
    return emit_at(a->e, place->tile, emit_mul_const(a->e, place->slot, 4ull * a->e->isa->lanes));
}

/* Rows to a whole number of tiles. */
static void begin_rows(const attention *a, const tiling *t, const attention_block *b, val n_rows) {
    emit    *e = a->e;
    uint32_t lanes = e->isa->lanes;
    val      n = attention_divide(e, emit_add(e, n_rows, emit_i64(e, t->rows - 1)), t->rows);
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_mul_const(e, n, t->rows), 1);
    row_place place = place_row(a, t, b, l.i, n_rows);
    val       from = attention_query(a, place.token, place.head);
    val       to = emit_at_const(e, place.tile, q_at(a, t)), sums = row_sums(a, t, &place);
    to = emit_at(e, to, emit_mul_const(e, place.slot, 4 * a->d));
    for (uint32_t i = 0; i < a->d; i += lanes) {
        uint32_t length = a->d - i < lanes ? a->d - i : lanes;
        val q = emit_load(e, emit_vector(e->f32, length), emit_at_const(e, from, 4 * i), 4);
        q = emit_fmul(e, q, emit_splat_f32(e, a->o->params.attn_scale, length));
        emit_store(e, q, emit_at_const(e, to, 4 * i), 4);
    }
    for (uint32_t i = 0; i < t->padded; i += t->width)
        emit_store(e, LLVMConstNull(emit_vector(e->f32, t->width)), emit_at_const(e, sums, 4 * i), 4);
    emit_store(e, LLVMConstNull(emit_vector(e->f32, lanes)), row_totals(a, &place), 4 * lanes);
    emit_store(e, emit_f32(e, -INFINITY), row_most(a, t, &place), 4);
    emit_loop_end(e, &l, NULL);
}

static void finish_rows(const attention *a, const tiling *t, const attention_block *b, val n_rows) {
    emit    *e = a->e;
    loop     l = emit_loop_begin(e, emit_i64(e, 0), n_rows, 1);
    row_place place = place_row(a, t, b, l.i, n_rows);
    attention_row row = {.token = place.token, .head = place.head, .range = b->range};
    val totals = emit_load(e, emit_vector(e->f32, e->isa->lanes), row_totals(a, &place), 4 * e->isa->lanes);
    attention_finish(a, &row, row_sums(a, t, &place), emit_load(e, e->f32, row_most(a, t, &place), 4),
                     emit_sum(e, totals));
    emit_loop_end(e, &l, NULL);
}

void attention_tile_block(const attention *a, const tiling *t, const attention_block *b) {
    emit *e = a->e;
    val   pos = emit_add(e, e->pos, b->token), to = emit_add(e, pos, b->count), from = emit_i64(e, 0);
    val   n_rows = emit_mul_const(e, b->count, a->group);
    if (b->range) {
        from = emit_mul_const(e, b->range, a->range);
        to = emit_min(e, to, emit_add(e, from, emit_i64(e, a->range)));
    }
    branch any = if_any(e, from, to);
    begin_rows(a, t, b, n_rows);
    val args[] = {b->frame, attention_cache(a, a->k, b->kv_head), attention_cache(a, a->v, b->kv_head),
                  n_rows, pos, from, to};
    emit_function_call(e, b->function, args, 7);
    finish_rows(a, t, b, n_rows);
    emit_if_end(e, &any);
}
