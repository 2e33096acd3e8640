/* The steps of emit_dot.h: each a few blocks of weights times the same columns of each token.
 *
 *     plain    F32, F16, BF16: widened and multiplied
 *     pairs    BF16 where an instruction multiplies two and two
 *     scaled   products are summed as integers, four neighbours a lane; a lane's sum is scaled by what
 *              its sub-block and its activations are scaled by
 *     chained  the products of a block become one integer, which is scaled and added to one lane: as tiles
 *              do it, so that few tokens may go by these and have the sums of single ones
 *     words    sub-blocks with small integers for scales: sums of two neighbours are multiplied with
 *              them and added up as integers, a whole block has one scale in f32
 */
#include "emit_block.h"
#include "emit_dot.h"

#define SCALED_LENGTH 128 /* weights of a step of shorter blocks: four scales make a vector */

#define CHAINED_LEAST 1025 /* weights of a row beside whose whole steps (EMIT_CHAINS blocks) its end counts little */

#define WORDS_CHAINS 2 /* sums of a block where pairs are summed: one alone is too long, rows came a tenth slower */

/* ---- plain numbers */

/* `length` activations of token t as f32. */
static val load_x(const dot *d, uint32_t t, val at, uint32_t length) {
    emit *e = d->e;
    if (d->x_as_halves)
        return emit_load_f32(e, QUANT_F16, emit_at(e, emit_at_const(e, d->x[t], d->layout.halves),
                                                   emit_mul_const(e, at, 2)), length);
    return emit_load_f32(e, QUANT_F32, emit_at(e, d->x[t], emit_mul_const(e, at, 4)), length);
}

static void step_plain(const dot *d, val at, uint32_t length, val *acc) {
    emit *e = d->e;
    val   w = emit_load_f32(e, d->weight, emit_at(e, d->row, emit_row_bytes(e, d->weight, at)), length);
    for (uint32_t t = 0; t < d->n_tokens; t++) acc[t] = emit_fma(e, w, load_x(d, t, at, length), acc[t]);
}

static void step_pairs(const dot *d, val at, uint32_t length, val *acc) {
    emit *e = d->e;
    val  bytes = emit_mul_const(e, at, 2);
    type pairs = emit_vector(e->i32, length / 2);
    val  w = emit_load(e, pairs, emit_at(e, d->row, bytes), 2);
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x = emit_load(e, pairs, emit_at(e, emit_at_const(e, d->x[t], d->layout.halves), bytes), 2);
        acc[t] = e->isa->dot_bf16(e, w, x, acc[t]);
    }
}

/* ---- blocks */

/* How long the halves are of which the ISA takes several at a time, first ones, then last ones; 0: it does
   not. */
static uint32_t half_of(const isa *target, enum quant_type weight, uint32_t length) {
    uint32_t half = emit_block_half(emit_block_find(weight));
    return half < target->dot_length && length % (2 * target->dot_length) == 0 ? half : 0;
}

/* Blocks of weights being multiplied: `length` of them from element `at` on. */
typedef struct blocks {
    const dot        *d;
    const emit_block *form;
    val               at, block;
    uint32_t          length, n; /* weights, blocks */
    uint32_t          piece;     /* weights that the ISA takes at once */
    uint32_t          half;      /* of half_of: a piece is first halves, the next the last ones of these */
    uint32_t          in_pairs;  /* of emit_block_in_pairs */
} blocks;

static blocks blocks_at(const dot *d, val at, uint32_t length, uint32_t most) {
    blocks b = {.d = d, .form = emit_block_find(d->weight), .at = at, .length = length};
    b.block = emit_at(d->e, d->row, emit_row_bytes(d->e, d->weight, at));
    b.n = length / quant_find(d->weight)->block_len;
    b.half = half_of(d->e->isa, d->weight, length);
    b.in_pairs = emit_block_in_pairs(b.form, d->e->isa);
    b.piece = length < most ? length : most;
    return b;
}

/* The weights of the piece that begins at `first`. */
static emit_span piece_span(const blocks *b, uint32_t first) {
    if (!b->half) return emit_span_of(first, b->piece);
    uint32_t last = first / b->piece % 2;
    return (emit_span){first - last * b->piece + last * b->half, b->piece, b->half, 2 * b->half};
}

/* The quants, + bias, of the pieces of weights [from, to). */
static void load_quants(const blocks *b, uint32_t bias, uint32_t from, uint32_t to, val *quants) {
    for (uint32_t i = from; i < to; i += b->piece) {
        emit_span s = piece_span(b, i);
        quants[i / b->piece] = b->form->quants(b->d->e, b->form, b->block, &s, bias);
    }
}

/* What token t has of `bytes` bytes for every `each` activations, `n` numbers from the blocks' first, or
   `first` numbers later. */
static val of_token(const blocks *b, uint32_t t, uint64_t part, uint32_t each, type number, uint32_t bytes,
                    uint32_t first, uint32_t n) {
    emit    *e = b->d->e;
    uint64_t log = 0;
    while (1u << log < each) log++;
    val at = emit_mul_const(e, LLVMBuildLShr(e->builder, b->at, emit_i64(e, log), ""), bytes);
    val from = emit_at(e, emit_at_const(e, b->d->x[t], part + (uint64_t)first * bytes), at);
    return emit_load(e, emit_vector(number, n), from, n * bytes < 4 ? bytes : n * bytes < 32 ? 4 : 32);
}

static val quants_of_token(const blocks *b, uint32_t t, uint32_t first) {
    uint64_t part = b->half ? b->d->layout.halved[b->half / 32] : 0;
    return of_token(b, t, part, 1, b->d->e->i8, 1, first, b->piece);
}

/* ---- scaled */

/* What must be added to the quants of a block for the ISA's dot, and what the sum of its products with
   token t begins with for that. */
static uint32_t dot_bias(const blocks *b) {
    if (b->in_pairs) return emit_block_bias(b->form);
    if (!b->d->e->isa->unsigned_weights) return 0;
    return b->form->bits < 8 ? b->form->offset : 128;
}

/* -bias · Σ of so many activations each, of token t: n numbers from there on. */
static val dot_excess(const blocks *b, uint32_t t, uint64_t part, uint32_t each, uint32_t first, uint32_t n) {
    emit *e = b->d->e;
    if (!dot_bias(b)) return LLVMConstNull(emit_vector(e->i32, n));
    return emit_block_excess(e, dot_bias(b), of_token(b, t, part, each, e->i32, 4, first, n));
}

static val dot_begin(const blocks *b, uint32_t t, uint32_t first) {
    uint32_t each = b->half ? 8 : 4;
    uint64_t part = b->half ? b->d->layout.halved_corrections : b->d->layout.corrections;
    return dot_excess(b, t, part, each, first / each, b->piece / 4);
}

static val dot_products(const blocks *b, val quants, val x, val sum) {
    emit *e = b->d->e;
    if (!e->isa->unsigned_weights) return e->isa->dot(e, quants, x, sum);
    type lanes = LLVMTypeOf(sum);
    return e->isa->dot_rows(e, LLVMBuildBitCast(e->builder, quants, lanes, ""),
                            LLVMBuildBitCast(e->builder, x, lanes, ""), sum);
}

/* Products of so many weights from `first` on with those activations of token t, in lanes. */
static val dot_pieces(const blocks *b, const val *quants, uint32_t t, uint32_t first, uint32_t n) {
    emit *e = b->d->e;
    val   sum = dot_begin(b, t, first), pairs = NULL;
    for (uint32_t p = first; p < first + n; p += b->piece) {
        val x = quants_of_token(b, t, p), w = quants[p / b->piece];
        if (!b->in_pairs) {
            sum = dot_products(b, w, x, sum);
            continue;
        }
        val more = e->isa->dot_pairs(e, w, x);
        pairs = pairs ? emit_add(e, pairs, more) : more;
    }
    return pairs ? e->isa->dot_words(e, pairs, emit_splat_int(e, e->i16, 1, emit_length(pairs)), sum) : sum;
}

/* Of `all` numbers of the blocks' sub-blocks those of values [first, first + n). */
static val of_values(const blocks *b, val all, uint32_t first, uint32_t n) {
    uint32_t count = n > b->form->sub ? n / b->form->sub : 1;
    return emit_length(all) == 1 ? all : emit_pick(b->d->e, all, NULL, first / b->form->sub, 1, count);
}

/* The scales of token t's activations, one for each sub-block. */
static val scales_of_token(const blocks *b, uint32_t t, uint32_t subs) {
    emit    *e = b->d->e;
    uint32_t block = quant_find(quant_find(b->d->weight)->activation)->block_len;
    uint32_t n = b->length > block ? b->length / block : 1;
    val      scales = of_token(b, t, b->d->layout.scales, block, e->f32, 4, 0, n);
    return emit_spread(e, scales, subs / n);
}

static val add_halves(emit *e, val v) {
    uint32_t n = emit_length(v) / 2;
    return emit_fadd(e, emit_pick(e, v, NULL, 0, 1, n), emit_pick(e, v, NULL, n, 1, n));
}

static void step_scaled(const dot *d, val at, uint32_t length, val *acc) {
    emit    *e = d->e;
    blocks   b = blocks_at(d, at, length, e->isa->dot_length);
    val      scales = emit_block_scales(e, b.form, b.block, b.n), quants[256 / 16];
    val      minima = b.form->minima ? emit_block_minima(e, b.form, b.block, b.n) : NULL;
    uint32_t subs = emit_length(scales), summed = b.half ? 2 * b.piece : b.piece;
    if (b.in_pairs * b.piece < summed) b.in_pairs = 0;
    load_quants(&b, dot_bias(&b), 0, length, quants);
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x_scales = scales_of_token(&b, t, subs), both = emit_fmul(e, scales, x_scales);
        for (uint32_t i = 0; i < length; i += summed) {
            val sum = dot_pieces(&b, quants, t, i, summed), scale = of_values(&b, both, i, summed);
            acc[t] = emit_fma(e, emit_cast(e, LLVMSIToFP, sum, e->f32),
                              emit_spread(e, scale, b.piece / 4 / emit_length(scale)), acc[t]);
        }
        if (!minima) continue;
        val sums = of_token(&b, t, d->layout.sums[isa_sum_of(b.form->sub)], b.form->sub, e->f32, 4, 0, subs);
        val less = emit_fmul(e, minima, sums);
        if (quant_find(d->weight)->activation == QUANT_Q8_K) less = emit_fmul(e, less, x_scales);
        while (emit_length(less) > emit_length(acc[t])) less = add_halves(e, less);
        acc[t] = emit_fsub(e, acc[t], emit_widen(e, less, emit_length(acc[t])));
    }
}

/* ---- chained */

/* Vectors that hold `group` lanes of each block: the sum of each block's, in order. */
static val sum_blocks(emit *e, val *vectors, uint32_t count, uint32_t group) {
    for (; group > 1; group /= 2) {
        bool one = count == 1;
        for (uint32_t i = 0; i < count; i += 2) {
            val a = vectors[i], b = vectors[one ? i : i + 1];
            vectors[i / 2] = emit_add(e, emit_pick_groups(e, a, b, 0, group),
                                      emit_pick_groups(e, a, b, group / 2, group));
        }
        if (one) vectors[0] = emit_pick(e, vectors[0], NULL, 0, 1, emit_length(vectors[0]) / 2);
        if (!one) count /= 2;
    }
    return vectors[0];
}

/* As lanes [d->chain, …) of EMIT_CHAINS, the others zero. */
static val to_chains(const dot *d, val v) {
    uint32_t n = emit_length(v), from[EMIT_CHAINS];
    if (n == 1) v = emit_widen(d->e, v, 2);
    for (uint32_t i = 0; i < EMIT_CHAINS; i++) from[i] = i - d->chain < n ? i - d->chain : n;
    return emit_shuffle(d->e, v, LLVMConstNull(LLVMTypeOf(v)), from, EMIT_CHAINS);
}

/* All pieces' quants, + bias, and the blocks' scales: a part after the other, as they are stored. Nine lines
   asked for at once made Zen 5 a tenth slower. */
static val load_in_parts(const blocks *b, uint32_t bias, val *quants) {
    emit    *e = b->d->e;
    uint32_t part = b->length < SCALED_LENGTH ? b->length : SCALED_LENGTH;
    val      scales[EMIT_CHAINS];
    for (uint32_t i = 0; i < b->length; i += part) {
        uint64_t from = quant_row_bytes(b->d->weight, i), to = quant_row_bytes(b->d->weight, i + part);
        emit_come_to(e, b->block, from, to, b->d->ahead);
        scales[i / part] = emit_block_scales(e, b->form, emit_at_const(e, b->block, from), part / b->form->sub);
        load_quants(b, bias, i, i + part, quants);
    }
    return emit_concat_all(e, scales, b->length / part);
}

static void step_chained(const dot *d, val at, uint32_t length, val *acc) {
    emit    *e = d->e;
    blocks   b = blocks_at(d, at, length, e->isa->dot_length);
    uint32_t block = b.form->sub, pieces = length / b.piece, lanes = b.piece / 4;
    val      quants[EMIT_CHAINS], products[EMIT_CHAINS], scales = load_in_parts(&b, dot_bias(&b), quants);
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        for (uint32_t i = 0; i < pieces; i++)
            products[i] = dot_products(&b, quants[i], quants_of_token(&b, t, i * b.piece),
                                       LLVMConstNull(emit_vector(e->i32, lanes)));
        val sums = sum_blocks(e, products, pieces, block / 4);
        sums = emit_add(e, sums, dot_excess(&b, t, d->layout.totals[ISA_SUM_32], block, 0, b.n));
        val both = emit_fmul(e, scales, scales_of_token(&b, t, b.n));
        acc[t] = emit_fma(e, to_chains(d, emit_cast(e, LLVMSIToFP, sums, e->f32)), to_chains(d, both), acc[t]);
    }
}

/* ---- words */

/* -Σ of integers of sub-blocks times how much the token's activations in them add up to, in lanes. */
static val less_of_subs(const blocks *b, uint32_t t, val integers) {
    emit    *e = b->d->e;
    uint32_t n = emit_length(integers);
    val      counts = of_token(b, t, b->d->layout.counts[isa_sum_of(b->form->sub)], b->form->sub, e->i16, 2, 0, n);
    return e->isa->dot_words(e, integers, counts, NULL);
}

/* Weights at once. Pairs are not taken 64 at a time: spreading nibbles and scales took more than it saved. */
static uint32_t words_piece(const isa *target) {
    return target->narrow ? target->dot_length : 32;
}

/* Quants are multiplied as they are stored: the sum begins with less what they are too large by. */
static val words_begin(const blocks *b, uint32_t t, val integers) {
    emit    *e = b->d->e;
    uint32_t log = 0;
    if (!b->form->offset) return NULL;
    while (1u << log < b->form->offset) log++;
    val less = less_of_subs(b, t, integers);
    less = LLVMBuildShl(e->builder, less, emit_splat_int(e, e->i32, log, emit_length(less)), "");
    return emit_widen(e, less, b->piece / 4);
}

/* Products as i16, of a piece in sums of two, or of two pieces in sums of four (isa.narrow). */
static val words_products(const blocks *b, const val *quants, uint32_t t, uint32_t first) {
    emit *e = b->d->e;
    if (!e->isa->narrow)
        return (b->form->bits == 8 ? e->isa->dot_signed_pairs : e->isa->dot_pairs)(e, quants[first / b->piece],
                                                                                   quants_of_token(b, t, first));
    val sums[2], none = LLVMConstNull(emit_vector(e->i32, b->piece / 4));
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t at = first + i * b->piece;
        sums[i] = dot_products(b, quants[at / b->piece], quants_of_token(b, t, at), none);
    }
    return e->isa->narrow(e, sums[0], sums[1]);
}

/* The integer that each of those is multiplied with. */
static val words_scales(const blocks *b, val integers, uint32_t first) {
    uint32_t order[2 * EMIT_MAX_LANES], n = b->piece / 2;
    bool     narrow = b->d->e->isa->narrow;
    for (uint32_t i = 0; i < n; i++) {
        emit_span s = piece_span(b, narrow ? first + i / 4 % 2 * b->piece : first);
        order[i] = emit_span_at(&s, narrow ? i / 8 * 16 + i % 4 * 4 : 2 * i) / b->form->sub;
    }
    return emit_permute(b->d->e, integers, order, n);
}

static void step_words(const dot *d, val at, uint32_t length, val *acc) {
    emit    *e = d->e;
    blocks   b = blocks_at(d, at, length, words_piece(e->isa));
    val      quants[256 / 16], chains[DOT_MAX_SUMS][WORDS_CHAINS] = {{0}}, minima;
    uint32_t summed = e->isa->narrow ? 2 * b.piece : b.piece, lanes = b.piece / 4;
    val      integers = b.form->integers(e, b.form, b.block, &minima);
    val      factors = b.form->factors(e, b.form, b.block);
    for (uint32_t t = 0; t < d->n_tokens; t++) chains[t][0] = words_begin(&b, t, integers);
    for (uint32_t i = 0; i < length; i += summed) {
        val scales = words_scales(&b, integers, i);
        load_quants(&b, b.form->offset, i, i + summed, quants);
        for (uint32_t t = 0; t < d->n_tokens; t++) {
            val *chain = &chains[t][e->isa->narrow ? 0 : i / summed % WORDS_CHAINS];
            *chain = e->isa->dot_words(e, words_products(&b, quants, t, i), scales, *chain);
        }
    }
    for (uint32_t t = 0; t < d->n_tokens; t++) {
        val x_scale = of_token(&b, t, d->layout.scales, 256, e->f32, 4, 0, 1);
        val sum = chains[t][1] ? emit_add(e, chains[t][0], chains[t][1]) : chains[t][0];
        val both = emit_fmul(e, factors, emit_splat(e, x_scale, emit_length(factors)));
        val scale = emit_splat(e, emit_pick(e, both, NULL, 0, 1, 1), lanes);
        acc[t] = emit_fma(e, emit_cast(e, LLVMSIToFP, sum, e->f32), scale, acc[t]);
        if (!minima) continue;
        val mins = emit_cast(e, LLVMSIToFP, less_of_subs(&b, t, minima), e->f32);
        val least = emit_splat(e, emit_pick(e, both, NULL, 1, 1, 1), emit_length(mins));
        acc[t] = emit_fma(e, emit_widen(e, mins, lanes), emit_widen(e, least, lanes), acc[t]);
    }
}

/* ---- kinds */

static uint32_t length_plain(const isa *target, enum quant_type weight) {
    (void)weight;
    return target->lanes;
}

static uint32_t length_pairs(const isa *target, enum quant_type weight) {
    (void)weight;
    return 2 * target->lanes;
}

static uint32_t length_blocks(const isa *target, enum quant_type weight) {
    (void)target;
    uint32_t block = quant_find(weight)->block_len;
    return block > SCALED_LENGTH ? block : SCALED_LENGTH;
}

static uint32_t length_chained(const isa *target, enum quant_type weight) {
    (void)target;
    return EMIT_CHAINS * quant_find(weight)->block_len;
}

static uint32_t width_chained(const isa *target, uint32_t length) {
    (void)target, (void)length;
    return EMIT_CHAINS;
}

static uint32_t width_plain(const isa *target, uint32_t length) {
    (void)target;
    return length;
}

static uint32_t width_pairs(const isa *target, uint32_t length) {
    (void)target;
    return length / 2;
}

static uint32_t width_words(const isa *target, uint32_t length) {
    (void)length;
    return words_piece(target) / 4;
}

static uint32_t width_scaled(const isa *target, uint32_t length) {
    return (length < target->dot_length ? length : target->dot_length) / 4;
}

static const dot_kind plain = {4, false, length_plain, width_plain, step_plain};
static const dot_kind pairs = {4, false, length_pairs, width_pairs, step_pairs};
static const dot_kind scaled = {2, false, length_blocks, width_scaled, step_scaled};
static const dot_kind chained = {1, true, length_chained, width_chained, step_chained};
static const dot_kind words = {2, false, length_blocks, width_words, step_words};

/* Where there are lanes enough, and tiles, which sum in the same order. Types of fewer bits keep a core
   busier, and rows of Q4_0 came a tenth slower so. */
static bool is_chained(const emit *e, enum quant_type weight, uint64_t k) {
    return quant_find(weight)->block_len == 32 && emit_block_find(weight)->bits == 8 && k >= CHAINED_LEAST &&
           e->options.unroll % EMIT_CHAINS == 0 && e->isa->lanes == EMIT_CHAINS && e->isa->dot_rows &&
           e->isa->unsigned_weights;
}

const dot_kind *emit_dot_kind(const emit *e, enum quant_type weight, uint64_t k) {
    const emit_block *form = emit_block_find(weight);
    if (!form) return weight == QUANT_BF16 && e->isa->dot_bf16 && k % (2 * e->isa->lanes) == 0 ? &pairs : &plain;
    if (is_chained(e, weight, k)) return &chained;
    bool in_pairs = form->bits < 8 || e->isa->dot_signed_pairs;
    return form->integers && in_pairs && e->isa->dot_words ? &words : &scaled;
}
