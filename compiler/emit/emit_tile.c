/* Weights times many tokens: a matrix product by tiles.
 *
 * A tile is a few rows of the weight, all of their columns, in the form that the ISA's dot wants: a
 * lane of 32 bits belongs to a row and holds as many neighbouring columns as the kind below says.
 * For each block of columns
 *
 *     lanes  words[columns of a block / columns of a lane][vectors][lanes]
 *     f32    scales[vectors][lanes]         Q8_0 only; f16 where the weights are packed (packed.h)
 *
 * so that a few columns of one token, broadcast, meet that many rows at once, and no sum across a
 * vector is left to do. A tile is unpacked once for all tokens of a batch; then a few tokens at a
 * time are multiplied with it, their sums in registers. A token's result does not depend on which
 * tokens it is taken with.
 *
 * Q8_0 is summed as integers within a block, and both scales are applied once. Where the dot takes
 * unsigned weights, Σ (q + 128) · x - 128 · Σ x is Σ q · x: the sums begin with the latter (`totals`
 * of isa.h).
 */
#include "emit.h"

#define BLOCK 32 /* of Q8_0 */

/* How a type is multiplied by tiles: by the first of these that the ISA has. */
typedef struct tile_kind {
    const char *name;
    enum quant_type weight;
    bool (*has)(const isa *target);
    uint32_t (*columns)(const isa *target); /* in a lane */
    uint32_t (*block)(const isa *target);   /* columns of a block */
    uint32_t (*tokens)(const isa *target);  /* at a time */
    uint32_t (*steps)(const isa *target);   /* words that stand straight-line: with more, LLVM would
                                               load too far ahead and run out of registers */
    bool     scaled;
    /* The words of the `block` columns of a row that begin at `at`. */
    val (*words)(emit *e, const struct tile_kind *kind, val at);
    /* Where a token's words begin in its row of activations. */
    uint64_t (*x)(const activation_layout *layout);
    val (*dot)(emit *e, val weights, val x, val sum);
} tile_kind;

/* ---- kinds */

static bool has_dot_rows(const isa *target) {
    return target->dot_rows != NULL;
}

static bool has_dot_bf16(const isa *target) {
    return target->dot_bf16 != NULL;
}

static bool has_any(const isa *target) {
    return target->plain_tokens > 0;
}

static uint32_t columns_of_isa(const isa *target) {
    return target->tile_columns;
}

static uint32_t columns_one(const isa *target) {
    (void)target;
    return 1;
}

static uint32_t columns_two(const isa *target) {
    (void)target;
    return 2;
}

static uint32_t block_q8_0(const isa *target) {
    (void)target;
    return BLOCK;
}

static uint32_t block_lanes(const isa *target) {
    return target->lanes;
}

static uint32_t block_pairs(const isa *target) {
    return 2 * target->lanes;
}

static uint32_t steps_quantized(const isa *target) {
    return target->tile_steps;
}

static uint32_t steps_plain(const isa *target) {
    (void)target;
    return 2;
}

static uint32_t tokens_quantized(const isa *target) {
    return target->tile_tokens;
}

static uint32_t tokens_plain(const isa *target) {
    return target->plain_tokens;
}

/* Bytes, with 128 added where the dot takes them as unsigned, or widened to 16 bits. */
static val words_q8_0(emit *e, const tile_kind *kind, val at) {
    uint32_t columns = kind->columns(e->isa);
    type     words = emit_vector(e->i32, BLOCK / columns);
    val      quants_at = emit_at_const(e, at, 2);
    if (columns == 2) {
        val quants = emit_load(e, emit_vector(e->i8, BLOCK), quants_at, 2);
        return LLVMBuildBitCast(e->builder, emit_cast(e, LLVMSExt, quants, e->i16), words, "");
    }
    val quants = emit_load(e, words, quants_at, 2);
    if (!e->isa->unsigned_weights) return quants;
    return LLVMBuildXor(e->builder, quants, emit_splat(e, emit_i32(e, 0x80808080), BLOCK / columns), "");
}

static val words_as_f32(emit *e, const tile_kind *kind, val at) {
    return emit_load_f32(e, kind->weight, at, kind->block(e->isa));
}

static val words_as_stored(emit *e, const tile_kind *kind, val at) {
    return emit_load(e, emit_vector(e->i32, kind->block(e->isa) / 2), at, quant_find(kind->weight)->block_bytes);
}

static uint64_t x_quants(const activation_layout *layout) {
    return layout->tile;
}

static uint64_t x_first(const activation_layout *layout) {
    (void)layout;
    return 0;
}

static val dot_quants(emit *e, val weights, val x, val sum) {
    return e->isa->dot_rows(e, weights, x, sum);
}

static val dot_f32(emit *e, val weights, val x, val sum) {
    return emit_fma(e, weights, x, sum);
}

static val dot_bf16(emit *e, val weights, val x, val sum) {
    return e->isa->dot_bf16(e, weights, x, sum);
}

static const tile_kind kinds[] = {
    {"q8", QUANT_Q8_0, has_dot_rows, columns_of_isa, block_q8_0, tokens_quantized, steps_quantized, true, words_q8_0,
     x_quants, dot_quants},
    {"bf16", QUANT_BF16, has_dot_bf16, columns_two, block_pairs, tokens_plain, steps_plain, false, words_as_stored,
     x_quants, dot_bf16},
    {"f32", QUANT_BF16, has_any, columns_one, block_lanes, tokens_plain, steps_plain, false, words_as_f32, x_first,
     dot_f32},
    {"f32", QUANT_F16, has_any, columns_one, block_lanes, tokens_plain, steps_plain, false, words_as_f32, x_first,
     dot_f32},
    {"f32", QUANT_F32, has_any, columns_one, block_lanes, tokens_plain, steps_plain, false, words_as_f32, x_first,
     dot_f32},
};

static const tile_kind *find_kind(const isa *target, enum quant_type weight) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].weight == weight && kinds[i].has(target)) return &kinds[i];
    return NULL;
}

/* ---- sizes */

/* 32-bit lanes that a row takes for one block. */
static uint32_t block_words(const emit *e, const tile_kind *kind) {
    return kind->block(e->isa) / kind->columns(e->isa);
}

static uint64_t block_bytes(const emit *e, const tile_kind *kind, const emit_tiles *t, uint32_t rows) {
    uint32_t scale = !kind->scaled ? 0 : t->packed ? 2 : 4;
    return (block_words(e, kind) * 4ull + scale) * rows;
}

bool emit_tile_fits(const emit *e, const emit_tiles *t) {
    const tile_kind *kind = find_kind(e->isa, t->weight);
    return kind && t->k % kind->block(e->isa) == 0 && t->rows % e->isa->lanes == 0;
}

uint32_t emit_tile_rows(const emit *e) {
    return e->isa->lanes * e->isa->tile_vectors;
}

uint32_t emit_tile_tokens(const emit *e, enum quant_type weight) {
    return find_kind(e->isa, weight)->tokens(e->isa);
}

uint64_t emit_tile_bytes(const emit *e, const emit_tiles *t, uint32_t rows) {
    const tile_kind *kind = find_kind(e->isa, t->weight);
    return t->k / kind->block(e->isa) * block_bytes(e, kind, t, rows);
}

/* ---- unpacking */

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

/* A tile being unpacked or multiplied. */
typedef struct tile {
    emit             *e;
    const tile_kind  *kind;
    const emit_tiles *of;
    uint32_t          n_vectors; /* of rows */
    uint64_t          row_bytes; /* as stored */
} tile;

static tile tile_of(emit *e, const emit_tiles *of) {
    return (tile){e, find_kind(e->isa, of->weight), of, of->rows / e->isa->lanes,
                  quant_row_bytes(of->weight, of->k)};
}

static uint64_t word_at(const tile *t, uint32_t word, uint32_t vector) {
    return 4ull * t->e->isa->lanes * (word * t->n_vectors + vector);
}

/* The scales of a vector of rows, each in its row's block: rows from `from` on. */
static val load_scales(const tile *t, val from) {
    emit *e = t->e;
    val   scales = LLVMGetPoison(emit_vector(e->i16, e->isa->lanes));
    for (uint32_t r = 0; r < e->isa->lanes; r++) {
        val scale = emit_load(e, e->i16, emit_at_const(e, from, r * t->row_bytes), 2);
        scales = LLVMBuildInsertElement(e->builder, scales, scale, emit_i32(e, r), "");
    }
    return emit_half_to_f32(e, scales);
}

/* One vector of rows of one block: `from` is the block of the first. */
static void unpack_block(const tile *t, val from, val to, uint32_t vector) {
    emit    *e = t->e;
    uint32_t lanes = e->isa->lanes, words = block_words(e, t->kind);
    uint32_t steps = words < lanes ? words : lanes;
    val      whole[EMIT_MAX_LANES], rows[EMIT_MAX_LANES];
    for (uint32_t r = 0; r < lanes; r++)
        whole[r] = t->kind->words(e, t->kind, emit_at_const(e, from, r * t->row_bytes));
    for (uint32_t first = 0; first < words; first += steps) {
        for (uint32_t r = 0; r < lanes; r++)
            rows[r] = words == steps ? whole[r] : emit_pick(e, whole[r], NULL, first, 1, steps);
        transpose(e, rows, steps);
        for (uint32_t j = 0; j < steps; j++)
            emit_store(e, rows[j], emit_at_const(e, to, word_at(t, first + j, vector)), lanes * 4);
    }
    if (t->kind->scaled)
        emit_store(e, load_scales(t, from), emit_at_const(e, to, word_at(t, words, vector)), lanes * 4);
}

static val unpack_function(const tile *t) {
    emit       *e = t->e;
    uint32_t    block = t->kind->block(e->isa), lanes = e->isa->lanes;
    const char *name = arena_printf(e->memory, "unpack_%s_k%llu_r%u", quant_find(t->of->weight)->name,
                                    (unsigned long long)t->of->k, t->of->rows);
    type        params[] = {e->ptr, e->ptr};
    if (!emit_function_begin(e, name, e->none, params, 2)) return LLVMGetNamedFunction(e->module, name);
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, t->of->k / block), 1);
    val  from = emit_mul_const(e, l.i, quant_row_bytes(t->kind->weight, block));
    val  to = emit_mul_const(e, l.i, block_bytes(e, t->kind, t->of, t->of->rows));
    for (uint32_t v = 0; v < t->n_vectors; v++)
        unpack_block(t, emit_at_const(e, emit_at(e, LLVMGetParam(e->fn, 0), from), v * lanes * t->row_bytes),
                     emit_at(e, LLVMGetParam(e->fn, 1), to), v);
    emit_loop_end(e, &l, NULL);
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}

/* ---- multiplying */

#define MAX_SUMS (EMIT_MAX_TILE_TOKENS * EMIT_MAX_TILE_VECTORS)

/* A tile and a few tokens. Sums and accumulators are [token][vector]. */
typedef struct product {
    const tile       *t;
    uint32_t          n_tokens;
    activation_layout layout;
    val               tile, x[EMIT_MAX_TILE_TOKENS]; /* addresses */
} product;

/* `number`s in memory: a vector of rows at `at` of the tile, or one of token t in all lanes. */
static val of_rows(const product *p, type number, val at, uint64_t offset) {
    emit *e = p->t->e;
    val   from = emit_at_const(e, emit_at(e, p->tile, at), offset);
    /* A packed block of one vector of rows takes 34 bytes a row. */
    return emit_load(e, emit_vector(number, e->isa->lanes), from, e->isa->lanes * (p->t->of->packed ? 2 : 4));
}

static val of_token(const product *p, uint32_t t, type number, val at, uint64_t offset) {
    emit *e = p->t->e;
    val   from = emit_at(e, emit_at_const(e, p->x[t], offset), at);
    return emit_splat(e, emit_load(e, number, from, 4), e->isa->lanes);
}

/* Adds the products of `steps` words, which begin at `tile_at` in the tile and at `x_at` in the
   activations' words, to the sums. */
static void multiply_steps(const product *p, val tile_at, val x_at, uint32_t steps, val *sums) {
    emit            *e = p->t->e;
    const tile_kind *kind = p->t->kind;
    uint32_t         n = p->t->n_vectors;
    type             lane = kind->columns(e->isa) == 1 ? e->f32 : e->i32;
    for (uint32_t j = 0; j < steps; j++) {
        val w[EMIT_MAX_TILE_VECTORS];
        for (uint32_t v = 0; v < n; v++) w[v] = of_rows(p, lane, tile_at, word_at(p->t, j, v));
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            val x = of_token(p, t, lane, x_at, kind->x(&p->layout) + 4 * j);
            for (uint32_t v = 0; v < n; v++) sums[t * n + v] = kind->dot(e, w[v], x, sums[t * n + v]);
        }
    }
}

/* The same of `count` words, with a loop where they are more than a few steps. */
static void multiply_words(const product *p, val tile_at, val x_at, uint64_t count, val *sums) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors, steps = p->t->kind->steps(e->isa);
    if (count <= steps) {
        multiply_steps(p, tile_at, x_at, (uint32_t)count, sums);
        return;
    }
    val  next[MAX_SUMS];
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, count), steps);
    for (uint32_t i = 0; i < n; i++) next[i] = emit_loop_carry(e, &l, sums[i]);
    multiply_steps(p, emit_add(e, tile_at, emit_mul_const(e, l.i, word_at(p->t, 1, 0))),
                   emit_add(e, x_at, emit_mul_const(e, l.i, 4)), steps, next);
    emit_loop_end(e, &l, next);
    for (uint32_t i = 0; i < n; i++) sums[i] = next[i];
}

/* The scales of vector v of a block's rows. */
static val block_scales(const product *p, val tile_at, uint32_t v) {
    emit    *e = p->t->e;
    uint64_t at = word_at(p->t, block_words(e, p->t->kind), 0);
    uint32_t lanes = e->isa->lanes;
    if (!p->t->of->packed) return of_rows(p, e->f32, tile_at, at + 4ull * lanes * v);
    val from = emit_at_const(e, emit_at(e, p->tile, tile_at), at + 2ull * lanes * v);
    return emit_half_to_f32(e, emit_load(e, emit_vector(e->i16, lanes), from, 2 * lanes));
}

/* A block's sum is made in integers, from -128 · Σ x or zero on, and scaled. */
static void multiply_scaled(const product *p, val block, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->t->n_vectors, words = block_words(e, p->t->kind);
    val      sums[MAX_SUMS], scales[EMIT_MAX_TILE_VECTORS], number = emit_mul_const(e, block, 4);
    val      tile_at = emit_mul_const(e, block, block_bytes(e, p->t->kind, p->t->of, p->t->of->rows));
    for (uint32_t t = 0; t < p->n_tokens; t++)
        for (uint32_t v = 0; v < n; v++)
            sums[t * n + v] = e->isa->unsigned_weights ? of_token(p, t, e->i32, number, p->layout.totals)
                                                       : LLVMConstNull(emit_vector(e->i32, e->isa->lanes));
    multiply_words(p, tile_at, emit_mul_const(e, block, 4ull * words), words, sums);
    for (uint32_t v = 0; v < n; v++) scales[v] = block_scales(p, tile_at, v);
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        val x_scale = of_token(p, t, e->f32, number, p->layout.scales);
        for (uint32_t v = 0; v < n; v++) {
            val scale = emit_fmul(e, scales[v], x_scale);
            val summed = emit_cast(e, LLVMSIToFP, sums[t * n + v], e->f32);
            acc[t * n + v] = emit_fma(e, summed, scale, acc[t * n + v]);
        }
    }
}

static void multiply_blocks(const product *p, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors;
    val      next[MAX_SUMS];
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, p->t->of->k / BLOCK), 1);
    for (uint32_t i = 0; i < n; i++) next[i] = emit_loop_carry(e, &l, acc[i]);
    multiply_scaled(p, l.i, next);
    emit_loop_end(e, &l, next);
    for (uint32_t i = 0; i < n; i++) acc[i] = next[i];
}

/* void (tile, x, stride of x, out, stride of out): out holds a row of f32 sums for each token. */
static val product_function(const tile *t, uint32_t n_tokens) {
    emit       *e = t->e;
    uint32_t    n = n_tokens * t->n_vectors;
    const char *name = arena_printf(e->memory, "tile_%s_%s%s_k%llu_r%u_x%u", quant_find(t->of->weight)->name,
                                    t->kind->name, t->of->packed ? "_packed" : "",
                                    (unsigned long long)t->of->k, t->of->rows, n_tokens);
    type        params[] = {e->ptr, e->ptr, e->i64, e->ptr, e->i64};
    if (!emit_function_begin(e, name, e->none, params, 5)) return LLVMGetNamedFunction(e->module, name);
    product p = {.t = t, .n_tokens = n_tokens, .tile = LLVMGetParam(e->fn, 0)};
    p.layout = isa_activation_layout(e->isa, quant_find(t->of->weight)->activation, t->of->k);
    p.x[0] = LLVMGetParam(e->fn, 1);
    for (uint32_t i = 1; i < n_tokens; i++) p.x[i] = emit_at(e, p.x[i - 1], LLVMGetParam(e->fn, 2));
    val acc[MAX_SUMS], zero = emit_i64(e, 0);
    for (uint32_t i = 0; i < n; i++) acc[i] = LLVMConstNull(emit_vector(e->f32, e->isa->lanes));
    if (t->kind->scaled)
        multiply_blocks(&p, acc);
    else
        multiply_words(&p, zero, zero, t->of->k / t->kind->columns(e->isa), acc);
    val out = LLVMGetParam(e->fn, 3);
    for (uint32_t i = 0; i < n; i++) {
        if (i && i % t->n_vectors == 0) out = emit_at(e, out, LLVMGetParam(e->fn, 4));
        emit_store(e, acc[i], emit_at_const(e, out, i % t->n_vectors * e->isa->lanes * 4ull), 4);
    }
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}

/* ---- calling them from a kernel */

static void call(emit *e, val function, val *args, uint32_t n) {
    LLVMBuildCall2(e->builder, LLVMGlobalGetValueType(function), function, args, n, "");
}

/* Makes a function in the middle of a kernel; n_tokens = 0: the one that unpacks. */
static val aside(const tile *t, uint32_t n_tokens) {
    emit             *e = t->e;
    val               outer = e->fn;
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->builder);
    val               function = n_tokens ? product_function(t, n_tokens) : unpack_function(t);
    e->fn = outer;
    LLVMPositionBuilderAtEnd(e->builder, here);
    return function;
}

void emit_tile_unpack(emit *e, const emit_tiles *of, val rows, val to) {
    tile t = tile_of(e, of);
    val  args[] = {rows, to};
    call(e, aside(&t, 0), args, 2);
}

void emit_tile_multiply(emit *e, const emit_tiles *of, uint32_t n_tokens, const emit_tile_operands *o) {
    tile t = tile_of(e, of);
    val  args[] = {o->tile, o->x, o->x_stride, o->out, o->out_stride};
    call(e, aside(&t, n_tokens), args, 5);
}
