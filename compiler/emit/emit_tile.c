/* Weights times many tokens: a matrix product by tiles.
 *
 * A tile is a few rows of the weight, all of their columns, in the form that the ISA's dot wants: a
 * lane of 32 bits belongs to a row and holds as many neighbouring columns as the kind below says.
 * For each group of columns, which is a sub-block where weights are quantized,
 *
 *     lanes  words[columns of a group / columns of a lane][vectors][lanes]
 *     f32    scales[vectors][lanes]         of quantized types; f16 where they are packed (packed.h)
 *     f32    minima[vectors][lanes]         of those that have them, negative
 *
 * (plain numbers may end with less than a group) so that a few columns of one token, broadcast, meet
 * that many rows at once, and no sum across a vector is left to do. A tile is unpacked once for all
 * tokens of a batch (emit_tile_unpack.c); then a few tokens at a time are multiplied with it, their sums
 * in registers. A token's result does not depend on which tokens it is taken with.
 *
 * Quants become signed bytes whatever their type, are summed as integers within a sub-block (a whole block, below),
 * and scaled; where activations have one scale for 256, sub-blocks are added up before that is applied.
 * Where the dot takes unsigned weights, Σ (q + 128) · x - 128 · Σ x is Σ q · x: the sums begin with
 * the latter (`totals` of isa.h). So it is, with less than 128, where products of few bits are added in
 * pairs (isa.dot_pairs): as many of them as an i16 holds, before they are added to the rest.
 *
 * A matrix unit multiplies such tiles as they are (emit_tile_matrix.c). For one, quants of blocks of 256 whose
 * sub-blocks have integers, as K-quants, are multiplied by these when they are unpacked, and a group is a block:
 *
 *     i8     words[256 / 4][planes][vectors][lanes][4]   w mod 128, then w div 128
 *     f32    scales[vectors][lanes]                      the block's
 *     f32    minima[vectors][lanes]                      the block's factor of these, and
 *     i16    integers[sub-blocks / 2][vectors][lanes][2]
 *
 * So they are, for vectors, where the ISA's lanes hold two columns: i16 has room for the product, there are no
 * planes, and the rest is as above (words_multiplied).
 */
#include "emit_tile.h"

/* ---- kinds */

static bool has_planes(const isa *target, enum quant_type weight) {
    const emit_block *form = emit_block_find(weight);
    return target->matrix && target->dot_words && form && form->integers;
}

static bool has_multiplied(const isa *target, enum quant_type weight) {
    const emit_block *form = emit_block_find(weight);
    return target->dot_rows && target->tile_columns == 2 && target->dot_words && form && form->integers;
}

static bool has_matrix(const isa *target, enum quant_type weight) {
    return target->matrix && emit_block_find(weight);
}

static bool has_pairs(const isa *target, enum quant_type weight) {
    return emit_block_in_pairs(emit_block_find(weight), target) > 1;
}

static bool has_dot_rows(const isa *target, enum quant_type weight) {
    return target->dot_rows && emit_block_find(weight);
}

static bool has_dot_bytes(const isa *target, enum quant_type weight) {
    return target->dot_bytes && weight == QUANT_Q8_0;
}

static bool has_dot_bf16(const isa *target, enum quant_type weight) {
    return target->dot_bf16 && weight == QUANT_BF16;
}

static bool has_matrix_bf16(const isa *target, enum quant_type weight) {
    return target->matrix && has_dot_bf16(target, weight);
}

static bool has_plain(const isa *target, enum quant_type weight) {
    return target->plain_tokens && (weight == QUANT_F32 || weight == QUANT_F16 || weight == QUANT_BF16);
}

static uint32_t columns_of_isa(const isa *target) {
    return target->tile_columns;
}

static uint32_t columns_four(const isa *target) {
    (void)target;
    return 4;
}

static uint32_t columns_one(const isa *target) {
    (void)target;
    return 1;
}

static uint32_t columns_two(const isa *target) {
    (void)target;
    return 2;
}

static uint32_t steps_quantized(const isa *target) {
    return target->tile_steps;
}

static uint32_t steps_pairs(const isa *target) {
    return target->pair_steps;
}

static uint32_t steps_plain(const isa *target) {
    (void)target;
    return 2;
}

static uint32_t tokens_quantized(const isa *target) {
    return target->tile_tokens;
}

static uint32_t tokens_matrix(const isa *target) {
    return target->matrix->tokens * target->matrix->bands;
}

static uint32_t tokens_pairs(const isa *target) {
    return target->pair_tokens;
}

static uint32_t tokens_plain(const isa *target) {
    return target->plain_tokens;
}

static uint32_t bias_of_isa(const isa *target, enum quant_type weight) {
    (void)weight;
    return target->unsigned_weights ? 128 : 0;
}

static uint32_t bias_of_type(const isa *target, enum quant_type weight) {
    (void)target;
    return emit_block_bias(emit_block_find(weight));
}

static uint32_t tile_bias(const tile *t) {
    return t->kind->bias ? t->kind->bias(t->e->isa, t->of->weight) : 0;
}

/* As bytes, or widened to 16 bits. */
static void words_quants(const tile *t, val block, uint32_t first, uint32_t n, val *planes) {
    emit    *e = t->e;
    uint32_t columns = t->kind->columns(e->isa);
    emit_span s = emit_span_of(first, n);
    val      quants = t->form->quants(e, t->form, block, &s, tile_bias(t));
    if (columns == 2) quants = emit_cast(e, LLVMSExt, quants, e->i16);
    planes[0] = LLVMBuildBitCast(e->builder, quants, emit_vector(e->i32, n / columns), "");
}

/* What is left of each i16 of v, moved up by `up` bits, or down where that is negative. */
static val moved_bits(emit *e, val v, int32_t up, uint64_t mask) {
    val by = emit_splat_int(e, e->i16, (uint64_t)(up < 0 ? -up : up), emit_length(v));
    v = up < 0 ? LLVMBuildAShr(e->builder, v, by, "") : LLVMBuildShl(e->builder, v, by, "");
    return LLVMBuildAnd(e->builder, v, emit_splat_int(e, e->i16, mask, emit_length(v)), "");
}

/* The integers of columns [first, first + n), spread over `count` of them. */
static val integers_of(const tile *t, val block, uint32_t first, uint32_t n, uint32_t count) {
    emit    *e = t->e;
    uint32_t sub = t->form->sub, own = n > sub ? n / sub : 1;
    val      minima, integers = t->form->integers(e, t->form, block, &minima);
    return emit_spread(e, emit_pick(e, integers, NULL, first / sub, 1, own), count / own);
}

/* Quants times their sub-blocks' integers: at most 32 · 128 (Q6_K), so that 256 of them times activations are a sum
   below 2^28. */
static void words_multiplied(const tile *t, val block, uint32_t first, uint32_t n, val *planes) {
    emit     *e = t->e;
    emit_span s = emit_span_of(first, n);
    val       quants = emit_cast(e, LLVMSExt, t->form->quants(e, t->form, block, &s, 0), e->i16);
    val       products = emit_mul(e, quants, integers_of(t, block, first, n, n));
    planes[0] = LLVMBuildBitCast(e->builder, products, emit_vector(e->i32, n / 2), "");
}

/* The same in planes: as i16 those of the even quants, the low bytes of a little-endian i16, and of the odd ones. */
static void words_planes(const tile *t, val block, uint32_t first, uint32_t n, val *planes) {
    emit     *e = t->e;
    uint32_t  pairs = n / 2, low = (1u << TILE_PLANE_BITS) - 1;
    emit_span s = emit_span_of(first, n);
    val       integers = integers_of(t, block, first, n, pairs);
    val both = t->form->quants(e, t->form, block, &s, 0), eight = emit_splat_int(e, e->i16, 8, pairs);
    both = LLVMBuildBitCast(e->builder, both, emit_vector(e->i16, pairs), "");
    val even = LLVMBuildAShr(e->builder, LLVMBuildShl(e->builder, both, eight, ""), eight, "");
    val odd = LLVMBuildAShr(e->builder, both, eight, "");
    even = emit_mul(e, even, integers);
    odd = emit_mul(e, odd, integers);
    planes[0] = LLVMBuildOr(e->builder, moved_bits(e, even, 0, low), moved_bits(e, odd, 8, low << 8), "");
    planes[1] = LLVMBuildOr(e->builder, moved_bits(e, even, -TILE_PLANE_BITS, 0xff),
                            moved_bits(e, odd, 8 - TILE_PLANE_BITS, 0xff00), "");
    for (uint32_t i = 0; i < 2; i++)
        planes[i] = LLVMBuildBitCast(e->builder, planes[i], emit_vector(e->i32, n / 4), "");
}

static void words_as_f32(const tile *t, val at, uint32_t first, uint32_t n, val *planes) {
    (void)first;
    planes[0] = emit_load_f32(t->e, t->of->weight, at, n);
}

static void words_as_stored(const tile *t, val at, uint32_t first, uint32_t n, val *planes) {
    (void)first;
    planes[0] = emit_load(t->e, emit_vector(t->e->i32, n / 2), at, quant_find(t->of->weight)->block_bytes);
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

static val dot_bytes(emit *e, val weights, val x, val sum) {
    return e->isa->dot_bytes(e, weights, x, sum);
}

static val dot_pairs(emit *e, val weights, val x, val sum) {
    type bytes = emit_vector(e->i8, 2 * emit_length(sum));
    return emit_add(e, sum, e->isa->dot_pairs(e, LLVMBuildBitCast(e->builder, weights, bytes, ""),
                                              LLVMBuildBitCast(e->builder, x, bytes, "")));
}

static val dot_f32(emit *e, val weights, val x, val sum) {
    return emit_fma(e, weights, x, sum);
}

static val dot_bf16(emit *e, val weights, val x, val sum) {
    return e->isa->dot_bf16(e, weights, x, sum);
}

static const tile_kind kinds[] = {
    {
        .name = "bytes", .has = has_dot_bytes, .bias = bias_of_isa, .columns = columns_four, .tokens = tokens_quantized,
        .steps = steps_quantized, .x = x_first, .dot = dot_bytes, .packed = true,
    },
    {
        .name = "planes", .has = has_planes, .columns = columns_four, .tokens = tokens_matrix,
        .words = words_planes, .x = x_first, .matrix = true, .multiplied = true,
    },
    {
        .name = "matrix", .has = has_matrix, .columns = columns_four, .tokens = tokens_matrix,
        .words = words_quants, .x = x_first, .matrix = true,
    },
    {
        .name = "matrix_bf16", .has = has_matrix_bf16, .columns = columns_two, .tokens = tokens_matrix,
        .steps = steps_plain, .words = words_as_stored, .x = x_quants, .dot = dot_bf16, .matrix = true,
    },
    {
        .name = "pairs", .has = has_pairs, .bias = bias_of_type, .columns = columns_four, .tokens = tokens_pairs,
        .steps = steps_pairs, .words = words_quants, .x = x_first, .dot = dot_pairs, .in_pairs = true,
    },
    {
        .name = "multiplied", .has = has_multiplied, .columns = columns_two, .tokens = tokens_quantized,
        .steps = steps_quantized, .words = words_multiplied, .x = x_quants, .dot = dot_quants, .multiplied = true,
    },
    {
        .name = "q8", .has = has_dot_rows, .bias = bias_of_isa, .columns = columns_of_isa, .tokens = tokens_quantized,
        .steps = steps_quantized, .words = words_quants, .x = x_quants, .dot = dot_quants,
    },
    {
        .name = "bf16", .has = has_dot_bf16, .columns = columns_two, .tokens = tokens_plain,
        .steps = steps_plain, .words = words_as_stored, .x = x_quants, .dot = dot_bf16,
    },
    {
        .name = "f32", .has = has_plain, .columns = columns_one, .tokens = tokens_plain,
        .steps = steps_plain, .words = words_as_f32, .x = x_first, .dot = dot_f32,
    },
};

static const tile_kind *find_kind(const isa *target, const emit_tiles *of) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].packed == of->packed && kinds[i].matrix == of->matrix && kinds[i].has(target, of->weight))
            return &kinds[i];
    return NULL;
}

/* ---- sizes */

static tile tile_of(emit *e, const emit_tiles *of) {
    tile t = {.e = e, .kind = find_kind(e->isa, of), .form = emit_block_find(of->weight), .of = of};
    t.n_vectors = of->rows / e->isa->lanes;
    t.n_planes = t.kind->multiplied && t.kind->columns(e->isa) == 4 ? 2 : 1;
    t.row_bytes = quant_row_bytes(of->weight, of->k);
    t.group = t.form ? t.form->sub : t.kind->columns(e->isa) * e->isa->lanes;
    if (t.kind->multiplied) t.group = quant_find(of->weight)->block_len;
    t.span = t.form ? TILE_SPAN_MOST : t.group;
    while (t.form && of->k % t.span) t.span /= 2;
    return t;
}

uint64_t tile_group_bytes(const tile *t, uint32_t rows) {
    uint32_t numbers = !t->form ? 0 : t->of->packed ? 2 : t->form->minima ? 8 : 4;
    return (4ull * (tile_group_words(t) * t->n_planes + tile_integers(t)) + numbers) * rows;
}

uint32_t tile_x_block(const tile *t) {
    return quant_find(quant_find(t->of->weight)->activation)->block_len;
}

bool emit_tile_fits(const emit *e, const emit_tiles *t) {
    const tile_kind *kind = find_kind(e->isa, t);
    if (!kind || t->rows < e->isa->lanes) return false;
    uint32_t columns = kind->columns(e->isa);
    return emit_block_find(t->weight) || (t->k % columns == 0 && t->k >= columns * e->isa->lanes);
}

uint32_t emit_tile_rows(const emit *e) {
    return e->isa->lanes * e->isa->tile_vectors;
}

uint32_t emit_tile_tokens(const emit *e, const emit_tiles *t) {
    return find_kind(e->isa, t)->tokens(e->isa);
}

uint64_t emit_tile_bytes(const emit *e, const emit_tiles *of, uint32_t rows) {
    tile t = tile_of((emit *)e, of);
    if (!t.form) return of->k / t.kind->columns(e->isa) * 4ull * rows;
    return of->k / t.group * tile_group_bytes(&t, rows);
}

/* ---- multiplying */

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

/* Bytes [from, to) at `tile_at` of a tile are read next: from memory, where it is a packed one. */
static void come_to(const product *p, val tile_at, uint64_t from, uint64_t to) {
    emit    *e = p->t->e;
    uint32_t ahead = p->n_tokens == 1 ? e->options.tuning.prefetch.tiles : 0;
    if (p->t->of->packed) emit_come_to(e, emit_at(e, p->tile, tile_at), from, to, ahead);
}

/* Adds the products of `steps` words, which begin at `tile_at` in the tile and at `x_at` in the
   activations' words, to the sums. */
static void multiply_steps(const product *p, val tile_at, val x_at, uint32_t steps, val *sums) {
    emit            *e = p->t->e;
    const tile_kind *kind = p->t->kind;
    uint32_t         n = p->t->n_vectors;
    type             lane = kind->columns(e->isa) == 1 ? e->f32 : e->i32;
    if (n > EMIT_MAX_TILE_VECTORS) bug("%u vectors of rows at a time", n);
    for (uint32_t j = 0; j < steps; j++) {
        val w[EMIT_MAX_TILE_VECTORS];
        come_to(p, tile_at, tile_word_at(p->t, j, 0), tile_word_at(p->t, j + 1, 0));
        for (uint32_t v = 0; v < n; v++) w[v] = of_rows(p, lane, tile_at, tile_word_at(p->t, j, v));
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            val x = of_token(p, t, lane, x_at, kind->x(&p->layout) + 4 * j);
            for (uint32_t v = 0; v < n; v++) sums[t * n + v] = kind->dot(e, w[v], x, sums[t * n + v]);
        }
    }
}

/* With a loop where words are more than a few steps. */
void tile_multiply_words(const product *p, val tile_at, val x_at, uint32_t count, val *sums) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors, steps = p->t->kind->steps(e->isa), rest = count % steps;
    if (count > steps) {
        val  next[TILE_MAX_SUMS];
        loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, count - rest), steps);
        for (uint32_t i = 0; i < n; i++) next[i] = emit_loop_carry(e, &l, sums[i]);
        multiply_steps(p, emit_add(e, tile_at, emit_mul_const(e, l.i, tile_word_at(p->t, 1, 0))),
                       emit_add(e, x_at, emit_mul_const(e, l.i, 4)), steps, next);
        emit_loop_end(e, &l, next);
        for (uint32_t i = 0; i < n; i++) sums[i] = next[i];
        tile_at = emit_add(e, tile_at, emit_i64(e, tile_word_at(p->t, count - rest, 0)));
        x_at = emit_add(e, x_at, emit_i64(e, 4ull * (count - rest)));
        count = rest;
    }
    multiply_steps(p, tile_at, x_at, count, sums);
}

/* The same where products are added as i16 first. */
static void multiply_together(const product *p, val tile_at, val x_at, uint32_t count, val *sums) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors, lanes = 2 * e->isa->lanes;
    uint32_t together = emit_block_in_pairs(p->t->form, e->isa);
    if (together > count) together = count;
    val ones = emit_splat_int(e, e->i16, 1, lanes);
    for (uint32_t j = 0; j < count; j += together) {
        val parts[TILE_MAX_SUMS];
        for (uint32_t i = 0; i < n; i++) parts[i] = LLVMConstNull(emit_vector(e->i16, lanes));
        tile_multiply_words(p, emit_add(e, tile_at, emit_i64(e, tile_word_at(p->t, j, 0))),
                            emit_add(e, x_at, emit_i64(e, 4 * j)), together, parts);
        for (uint32_t i = 0; i < n; i++) sums[i] = e->isa->dot_words(e, parts[i], ones, sums[i]);
    }
}

/* What the sums of the sub-block whose numbers are at `at` begin with, in all vectors of rows. */
static val excess(const product *p, uint32_t t, val at) {
    emit *e = p->t->e;
    if (!tile_bias(p->t)) return LLVMConstNull(emit_vector(e->i32, e->isa->lanes));
    val totals = of_token(p, t, e->i32, at, p->layout.totals[isa_sum_of(p->t->group)]);
    return emit_block_excess(e, tile_bias(p->t), totals);
}

/* Numbers of the rows of a group at `tile_at`, vector v: scales, or minima after them. */
static val group_numbers(const product *p, val tile_at, uint32_t which, uint32_t v) {
    emit    *e = p->t->e;
    uint32_t lanes = e->isa->lanes;
    if (!p->t->of->packed) return of_rows(p, e->f32, tile_at, tile_number_at(p->t, which, v));
    val from = emit_at_const(e, emit_at(e, p->tile, tile_at), tile_number_at(p->t, which, 0) + 2ull * lanes * v);
    return emit_half_to_f32(e, emit_load(e, emit_vector(e->i16, lanes), from, 2 * lanes));
}

/* Integers · Σ of their sub-blocks' activations, by two, · factors. */
static void subtract_integers(const product *p, val number, val tile_at, const val *x_scales, uint32_t v, val *acc,
                              uint32_t apart) {
    emit    *e = p->t->e;
    uint32_t pairs = tile_integers(p->t), lanes = e->isa->lanes;
    uint64_t counts = p->layout.counts[isa_sum_of(p->t->form->sub)];
    type     words = emit_vector(e->i16, 2 * lanes);
    val      integers[TILE_MAX_INTEGERS], factors = group_numbers(p, tile_at, TILE_MINIMA, v);
    val      at = emit_mul_const(e, number, 4ull * pairs);
    for (uint32_t i = 0; i < pairs; i++) {
        val both = of_rows(p, e->i32, tile_at, tile_number_at(p->t, TILE_INTEGERS + i, v));
        integers[i] = LLVMBuildBitCast(e->builder, both, words, "");
    }
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        val sum = LLVMConstNull(emit_vector(e->i32, lanes)), *own = &acc[t * apart];
        for (uint32_t i = 0; i < pairs; i++) {
            val both = of_token(p, t, e->i32, at, counts + 4ull * i);
            sum = e->isa->dot_words(e, integers[i], LLVMBuildBitCast(e->builder, both, words, ""), sum);
        }
        *own = emit_fma(e, emit_cast(e, LLVMSIToFP, sum, e->f32), emit_fmul(e, factors, x_scales[t]), *own);
    }
}

static void subtract_minima(const product *p, val number, val tile_at, uint32_t v, val *acc, uint32_t apart) {
    emit    *e = p->t->e;
    uint64_t sums = p->layout.sums[isa_sum_of(p->t->group)];
    val      minima = group_numbers(p, tile_at, TILE_MINIMA, v), at = emit_mul_const(e, number, 4);
    for (uint32_t t = 0; t < p->n_tokens; t++)
        acc[t * apart] = emit_fma(e, minima, of_token(p, t, e->f32, at, sums), acc[t * apart]);
}

void tile_add_scaled(const product *p, val number, const val *x_scales, uint32_t v, uint32_t n, const val *sums,
                     val *acc) {
    emit *e = p->t->e;
    val   tile_at = emit_mul_const(e, number, tile_group_bytes(p->t, p->t->of->rows));
    for (uint32_t i = 0; i < n; i++) {
        val scales = group_numbers(p, tile_at, TILE_SCALES, v + i);
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            val scale = x_scales ? emit_fmul(e, scales, x_scales[t]) : scales;
            val summed = emit_cast(e, LLVMSIToFP, sums[t * n + i], e->f32);
            acc[t * n + i] = emit_fma(e, summed, scale, acc[t * n + i]);
        }
    }
    for (uint32_t i = 0; p->t->form->minima && i < n; i++) {
        if (tile_integers(p->t))
            subtract_integers(p, number, tile_at, x_scales, v + i, &acc[i], n);
        else
            subtract_minima(p, number, tile_at, v + i, &acc[i], n);
    }
}

/* Adds the products of sub-block `number` of the row, made in integers from -128 · Σ x or zero on. They are
   scaled by the rows' scales, and by those of the tokens' where these are given. */
static void multiply_group(const product *p, val number, const val *x_scales, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->t->n_vectors, words = tile_group_words(p->t);
    val      sums[TILE_MAX_SUMS], at = emit_mul_const(e, number, 4);
    val      tile_at = emit_mul_const(e, number, tile_group_bytes(p->t, p->t->of->rows));
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        val begin = excess(p, t, at);
        for (uint32_t v = 0; v < n; v++) sums[t * n + v] = begin;
    }
    val x_at = emit_mul_const(e, number, 4ull * words);
    (p->t->kind->in_pairs ? multiply_together : tile_multiply_words)(p, tile_at, x_at, words, sums);
    come_to(p, tile_at, tile_word_at(p->t, words, 0), tile_group_bytes(p->t, p->t->of->rows));
    tile_add_scaled(p, number, x_scales, 0, n, sums, acc);
}

/* The sub-blocks of block `number` of the activations, a few in each turn of a loop. */
static void multiply_groups(const product *p, val number, uint32_t count, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors, words = tile_group_words(p->t);
    uint32_t turn = words < p->t->kind->steps(e->isa) ? p->t->kind->steps(e->isa) / words : 1;
    val      next[TILE_MAX_SUMS], first = emit_mul_const(e, number, count);
    if (turn > count) turn = count;
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, count), turn);
    for (uint32_t i = 0; i < n; i++) next[i] = emit_loop_carry(e, &l, acc[i]);
    for (uint32_t i = 0; i < turn; i++)
        multiply_group(p, emit_add(e, first, emit_add(e, l.i, emit_i64(e, i))), NULL, next);
    emit_loop_end(e, &l, next);
    for (uint32_t i = 0; i < n; i++) acc[i] = next[i];
}

void tile_x_scales(const product *p, val number, val *x_scales) {
    val at = emit_mul_const(p->t->e, number, 4);
    for (uint32_t t = 0; t < p->n_tokens; t++) x_scales[t] = of_token(p, t, p->t->e->f32, at, p->layout.scales);
}

/* What one block of activations shares a scale with. */
static void multiply_block(const product *p, val number, uint32_t block, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->t->n_vectors;
    val      inner[TILE_MAX_SUMS], x_scales[EMIT_MAX_TILE_TOKENS];
    tile_x_scales(p, number, x_scales);
    if (block == p->t->group) {
        multiply_group(p, number, x_scales, acc);
        return;
    }
    for (uint32_t i = 0; i < n * p->n_tokens; i++) inner[i] = LLVMConstNull(emit_vector(e->f32, e->isa->lanes));
    multiply_groups(p, number, block / p->t->group, inner);
    for (uint32_t i = 0; i < n * p->n_tokens; i++) acc[i] = emit_fma(e, inner[i], x_scales[i / n], acc[i]);
}

/* Blocks are added to one sum after the other, which are in memory, and the sums in the order of a row's. */
static void multiply_chained(const product *p, uint32_t block, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors, chains = EMIT_CHAINS, bytes = 4 * e->isa->lanes;
    type     lanes = emit_vector(e->f32, e->isa->lanes);
    val      memory = emit_local(e, (uint64_t)chains * n * bytes), next[TILE_MAX_SUMS];
    for (uint32_t i = 0; i < chains * n; i++) emit_store(e, acc[0], emit_at_const(e, memory, i * bytes), bytes);
    loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, p->t->of->k / block), 1);
    val  chain = LLVMBuildAnd(e->builder, l.i, emit_i64(e, chains - 1), "");
    val  at = emit_at(e, memory, emit_mul_const(e, chain, n * bytes));
    for (uint32_t i = 0; i < n; i++) next[i] = emit_load(e, lanes, emit_at_const(e, at, i * bytes), bytes);
    multiply_block(p, l.i, block, next);
    for (uint32_t i = 0; i < n; i++) emit_store(e, next[i], emit_at_const(e, at, i * bytes), bytes);
    emit_loop_end(e, &l, NULL);
    for (uint32_t i = 0; i < n; i++) {
        val sums[EMIT_CHAINS];
        for (uint32_t c = 0; c < chains; c++)
            sums[c] = emit_load(e, lanes, emit_at_const(e, memory, (c * n + i) * bytes), bytes);
        for (uint32_t left = chains / 2; left; left /= 2)
            for (uint32_t c = 0; c < left; c++) sums[c] = emit_fadd(e, sums[c], sums[c + left]);
        acc[i] = sums[0];
    }
}

static void multiply_blocks(const product *p, val *acc) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors;
    uint32_t block = tile_x_block(p->t);
    if (p->t->of->chained) {
        multiply_chained(p, block, acc);
        return;
    }
    val      next[TILE_MAX_SUMS];
    loop     l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, p->t->of->k / block), 1);
    for (uint32_t i = 0; i < n; i++) next[i] = emit_loop_carry(e, &l, acc[i]);
    multiply_block(p, l.i, block, next);
    emit_loop_end(e, &l, next);
    for (uint32_t i = 0; i < n; i++) acc[i] = next[i];
}

/* All of a product by the ISA's dot. */
static void multiply(const product *p) {
    emit    *e = p->t->e;
    uint32_t n = p->n_tokens * p->t->n_vectors;
    val      acc[TILE_MAX_SUMS], zero = emit_i64(e, 0), out = p->out;
    for (uint32_t i = 0; i < n; i++) acc[i] = LLVMConstNull(emit_vector(e->f32, e->isa->lanes));
    if (p->t->form)
        multiply_blocks(p, acc);
    else
        tile_multiply_words(p, zero, zero, (uint32_t)(p->t->of->k / p->t->kind->columns(e->isa)), acc);
    for (uint32_t i = 0; i < n; i++) {
        if (i && i % p->t->n_vectors == 0) out = emit_at(e, out, p->out_stride);
        emit_store(e, acc[i], emit_at_const(e, out, i % p->t->n_vectors * e->isa->lanes * 4ull), 4);
    }
}

/* void (tile, x, stride of x, out, stride of out): out holds a row of f32 sums for each token. */
static val product_function(const tile *t, uint32_t n_tokens) {
    emit       *e = t->e;
    const char *name = arena_printf(e->memory, "tile_%s_%s%s_k%llu_r%u_x%u", quant_find(t->of->weight)->name,
                                    t->kind->name, t->of->packed ? "_packed" : t->of->chained ? "_chained" : "",
                                    (unsigned long long)t->of->k, t->of->rows, n_tokens);
    type        params[] = {e->ptr, e->ptr, e->i64, e->ptr, e->i64};
    if (!emit_function_begin(e, name, e->none, params, 5)) return LLVMGetNamedFunction(e->module, name);
    product p = {.t = t, .n_tokens = n_tokens, .tile = LLVMGetParam(e->fn, 0), .x_stride = LLVMGetParam(e->fn, 2),
                 .out = LLVMGetParam(e->fn, 3), .out_stride = LLVMGetParam(e->fn, 4)};
    p.layout = isa_activation_layout(e->isa, quant_find(t->of->weight)->activation, t->of->k);
    p.x[0] = LLVMGetParam(e->fn, 1);
    if (t->kind->matrix) {
        tile_multiply_matrix(&p);
    } else {
        for (uint32_t i = 1; i < n_tokens; i++) p.x[i] = emit_at(e, p.x[i - 1], p.x_stride);
        multiply(&p);
    }
    LLVMBuildRetVoid(e->builder);
    return LLVMGetNamedFunction(e->module, name);
}

/* ---- calling them from a kernel */

/* Makes a function in the middle of a kernel; n_tokens = 0: the one that unpacks. */
static val aside(const tile *t, uint32_t n_tokens) {
    emit_spot spot = emit_leave(t->e);
    val       function = n_tokens ? product_function(t, n_tokens) : tile_unpack_function(t);
    emit_return(t->e, spot);
    return function;
}

void emit_tile_unpack(emit *e, const emit_tiles *of, val rows, val to) {
    tile t = tile_of(e, of);
    val  args[] = {rows, to};
    emit_function_call(e, aside(&t, 0), args, 2);
}

void emit_tile_multiply(emit *e, const emit_tiles *of, uint32_t n_tokens, const emit_product *p) {
    tile t = tile_of(e, of);
    val  args[] = {p->rows, p->x, p->x_stride, p->out, p->out_stride};
    emit_function_call(e, aside(&t, n_tokens), args, 5);
}
