/* What the blocks of each type are made of; see emit_block.h. Layouts of packed scales are those of
 * quant_read.c. */
#include "emit_block.h"

#include "emit_block_iq.h"
#include "quant_grid.h"

/* ---- small vectors of integers */

static val and_const(emit *e, val v, uint64_t mask) {
    type t = LLVMGetElementType(LLVMTypeOf(v));
    return LLVMBuildAnd(e->builder, v, emit_splat_int(e, t, mask, emit_length(v)), "");
}

static val bits_u32(emit *e, val block, uint32_t at) {
    return emit_load(e, e->i32, emit_at_const(e, block, at), 1);
}

/* Four bytes at a time: (v >> down, or << up where negative) & mask of each. */
static val four(emit *e, val v, int32_t down, uint32_t mask) {
    if (down > 0) v = LLVMBuildLShr(e->builder, v, emit_i32(e, (uint64_t)down), "");
    if (down < 0) v = LLVMBuildShl(e->builder, v, emit_i32(e, (uint64_t)-down), "");
    return LLVMBuildAnd(e->builder, v, emit_i32(e, mask * 0x01010101u), "");
}

static val either(emit *e, val a, val b) {
    return LLVMBuildOr(e->builder, a, b, "");
}

/* The 4 · n bytes of n words (2 or 4), as i16. */
static val bytes_of(emit *e, const val *words, uint32_t n, LLVMOpcode extend) {
    val v = LLVMGetPoison(emit_vector(e->i32, n));
    for (uint32_t i = 0; i < n; i++) v = LLVMBuildInsertElement(e->builder, v, words[i], emit_i32(e, i), "");
    return emit_cast(e, extend, LLVMBuildBitCast(e->builder, v, emit_vector(e->i8, 4 * n), ""), e->i16);
}

static val half_at(emit *e, val block, uint32_t at) {
    return emit_half_to_f32(e, emit_load(e, e->i16, emit_at_const(e, block, at), 1));
}

/* ---- one scale a block */

static const quant_field *find_field(const emit_block *b, enum quant_role role) {
    const quant_info *info = quant_find(b->weight);
    for (uint32_t i = 0; i < info->n_fields; i++)
        if (info->fields[i].role == role) return &info->fields[i];
    return NULL;
}

static val scale_half(emit *e, const emit_block *b, val block) {
    return half_at(e, block, find_field(b, QUANT_ROLE_SCALE)->offset);
}

/* Q4_1 and Q5_1 add what they call a minimum. */
static val minimum_half(emit *e, const emit_block *b, val block) {
    return LLVMBuildFNeg(e->builder, half_at(e, block, find_field(b, QUANT_ROLE_MIN)->offset), "");
}

/* The same of each sub-block, where activations have a scale for each 32. */
static val scale_repeated(emit *e, const emit_block *b, val block) {
    return emit_spread(e, scale_half(e, b, block), quant_find(b->weight)->block_len / b->sub);
}

/* 2^(e - 128): the table has twice the values of f4. Subnormal for the least two. */
static val scale_e8m0(emit *e, const emit_block *b, val block) {
    val bits = emit_load(e, e->i8, emit_at_const(e, block, find_field(b, QUANT_ROLE_SCALE)->offset), 1);
    val exponent = LLVMBuildZExt(e->builder, bits, e->i32, "");
    val least = LLVMBuildICmp(e->builder, LLVMIntULT, exponent, emit_i32(e, 2), "");
    val tiny = LLVMBuildShl(e->builder, emit_i32(e, 0x200000), exponent, "");
    val usual = LLVMBuildShl(e->builder, emit_sub(e, exponent, emit_i32(e, 1)), emit_i32(e, 23), "");
    return LLVMBuildBitCast(e->builder, LLVMBuildSelect(e->builder, least, tiny, usual, ""), e->f32, "");
}

/* Half an f8 e4m3: its bits are those of an f32 but for the exponent, of which 7 is 127 there. */
static val scales_ue4m3(emit *e, const emit_block *b, val block) {
    const quant_field *f = find_field(b, QUANT_ROLE_SCALE);
    val bits = emit_load(e, emit_vector(e->i8, f->count), emit_at_const(e, block, f->offset), 1);
    val nan = LLVMBuildICmp(e->builder, LLVMIntEQ, bits, emit_splat_int(e, e->i8, 0x7f, f->count), "");
    val moved = emit_cast(e, LLVMZExt, and_const(e, bits, 0x7f), e->i32);
    moved = LLVMBuildShl(e->builder, moved, emit_splat_int(e, e->i32, 20, f->count), "");
    val x = emit_raise_exponent(e, moved, 119);
    return LLVMBuildSelect(e->builder, nan, LLVMConstNull(LLVMTypeOf(x)), x, "");
}

/* ---- integers of sub-blocks, as i16 */

static val integers_q2_k(emit *e, const emit_block *b, val block, val *minima) {
    (void)b;
    val bytes = emit_load(e, emit_vector(e->i8, 16), block, 1);
    val words = emit_cast(e, LLVMZExt, bytes, e->i16);
    *minima = LLVMBuildLShr(e->builder, words, emit_splat_int(e, e->i16, 4, 16), "");
    return and_const(e, words, 15);
}

static val integers_q3_k(emit *e, const emit_block *b, val block, val *minima) {
    uint32_t at = find_field(b, QUANT_ROLE_SUB)->offset;
    val low[2] = {bits_u32(e, block, at), bits_u32(e, block, at + 4)}, high = bits_u32(e, block, at + 8), words[4];
    for (int32_t i = 0; i < 4; i++)
        words[i] = either(e, four(e, low[i % 2], i / 2 * 4, 15), four(e, high, 2 * i - 4, 0x30));
    *minima = NULL;
    return emit_sub(e, bytes_of(e, words, 4, LLVMZExt), emit_splat_int(e, e->i16, 32, 16));
}

static val and_i64(emit *e, val v, uint64_t mask) {
    return LLVMBuildAnd(e->builder, v, emit_i64(e, mask), "");
}

static val up_i64(emit *e, val v, uint32_t by) {
    return LLVMBuildShl(e->builder, v, emit_i64(e, by), "");
}

static val down_i64(emit *e, val v, uint32_t by) {
    return LLVMBuildLShr(e->builder, v, emit_i64(e, by), "");
}

static val eight_words(emit *e, val bytes) {
    return emit_cast(e, LLVMZExt, LLVMBuildBitCast(e->builder, bytes, emit_vector(e->i8, 8), ""), e->i16);
}

/* Four bytes hold scales, four more minima, and the high bits of as many again; the last four hold the low
   bits of these. Done by integer units: the vector units have enough to do. */
static val integers_q4_k(emit *e, const emit_block *b, val block, val *minima) {
    uint32_t at = find_field(b, QUANT_ROLE_SUB)->offset;
    val own = emit_load(e, e->i64, emit_at_const(e, block, at), 1);
    val common = LLVMBuildZExt(e->builder, bits_u32(e, block, at + 8), e->i64, "");
    val high = and_i64(e, down_i64(e, own, 2), 0x3030303030303030);
    val low = and_i64(e, either(e, common, up_i64(e, common, 28)), 0x0f0f0f0f0f0f0f0f);
    val first = and_i64(e, own, 0x3f3f3f3f3f3f3f3f), last = either(e, low, high); /* scales, then minima */
    *minima = eight_words(e, either(e, down_i64(e, first, 32), and_i64(e, last, 0xffffffff00000000)));
    return eight_words(e, either(e, and_i64(e, first, 0xffffffff), up_i64(e, last, 32)));
}

static val integers_q6_k(emit *e, const emit_block *b, val block, val *minima) {
    *minima = NULL;
    val at = emit_at_const(e, block, find_field(b, QUANT_ROLE_SUB)->offset);
    return emit_cast(e, LLVMSExt, emit_load(e, emit_vector(e->i8, 16), at, 1), e->i16);
}

/* Nibble i of a word is the low part of scale i, bits 2i and 2i + 1 of another its high part. */
static val integers_iq4_xs(emit *e, const emit_block *b, val block, val *minima) {
    (void)b;
    val by = emit_iota(e, e->i32, 8), high = emit_load(e, e->i16, emit_at_const(e, block, 2), 1);
    val four_bits = emit_mul(e, by, emit_splat_int(e, e->i32, 4, 8));
    val two_bits = emit_mul(e, by, emit_splat_int(e, e->i32, 2, 8));
    val l = LLVMBuildLShr(e->builder, emit_splat(e, bits_u32(e, block, 4), 8), four_bits, "");
    val h = LLVMBuildLShr(e->builder, emit_splat(e, LLVMBuildZExt(e->builder, high, e->i32, ""), 8), two_bits, "");
    h = LLVMBuildShl(e->builder, and_const(e, h, 3), emit_splat_int(e, e->i32, 4, 8), "");
    val v = emit_sub(e, either(e, and_const(e, l, 15), h), emit_splat_int(e, e->i32, 32, 8));
    *minima = NULL;
    return emit_cast(e, LLVMTrunc, v, e->i16);
}

/* ---- their factors, and both together */

/* The block's scale, and its minimum after that: one or two. */
static val factors_half(emit *e, const emit_block *b, val block) {
    if (!find_field(b, QUANT_ROLE_MIN)) return scale_half(e, b, block);
    val at = emit_at_const(e, block, find_field(b, QUANT_ROLE_SCALE)->offset);
    return emit_half_to_f32(e, emit_load(e, emit_vector(e->i16, 2), at, 1));
}

static val times(emit *e, val integers, val factor) {
    return emit_fmul(e, emit_cast(e, LLVMSIToFP, integers, e->f32), emit_splat(e, factor, emit_length(integers)));
}

static val scales_sub(emit *e, const emit_block *b, val block) {
    val minima, factors = b->factors(e, b, block);
    return times(e, b->integers(e, b, block, &minima), emit_pick(e, factors, NULL, 0, 1, 1));
}

static val minima_sub(emit *e, const emit_block *b, val block) {
    val minima, factors = b->factors(e, b, block);
    b->integers(e, b, block, &minima);
    return times(e, minima, emit_pick(e, factors, NULL, 1, 1, 1));
}

/* ---- quants */

static int by_bits(const quant_field *a, const quant_field *b) {
    static const uint32_t bits[QUANT_FIELD_KIND_COUNT] = {
        [QUANT_FIELD_I8] = 8, [QUANT_FIELD_4BITS] = 4, [QUANT_FIELD_2BITS] = 2, [QUANT_FIELD_BIT] = 1,
    };
    return (int)bits[b->kind] - (int)bits[a->kind];
}

/* The bits of a quant may be spread over two fields: the one with more of them has the lower ones. */
static val stored(emit *e, const emit_block *b, val block, const emit_span *s) {
    const quant_info  *info = quant_find(b->weight);
    const quant_field *low = NULL, *high = NULL;
    for (uint32_t i = 0; i < info->n_fields; i++) {
        const quant_field *f = &info->fields[i];
        if (f->role != QUANT_ROLE_QUANT) continue;
        if (low && by_bits(low, f) <= 0)
            high = f;
        else
            high = low, low = f;
    }
    val v = emit_field(e, low, block, info->block_bytes, s, 0);
    if (!high) return v;
    uint32_t to = low->kind == QUANT_FIELD_4BITS ? 4 : 2;
    return either(e, v, emit_field(e, high, block, info->block_bytes, s, to));
}

static val quants_numbers(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias) {
    val v = stored(e, b, block, s);
    if (bias == b->offset) return v;
    if (b->bits == 8 && bias == 128) return LLVMBuildXor(e->builder, v, emit_splat_int(e, e->i8, 0x80, s->n), "");
    return emit_add(e, v, emit_splat_int(e, e->i8, bias - b->offset, s->n));
}

static val quants_table(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias) {
    int8_t table[16];
    for (int i = 0; i < 16; i++) table[i] = (int8_t)(b->table[i] + (int)bias);
    return e->isa->look_up(e, table, stored(e, b, block, s));
}

/* A bit is -1 or 1. */
static val quants_signs(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias) {
    val bits = stored(e, b, block, s);
    return emit_add(e, emit_add(e, bits, bits), emit_splat_int(e, e->i8, bias - 1, s->n));
}

/* Digits are packed in fields of their own, of 160, 80 and 16. */
static val quants_trits(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias) {
    enum { PIECE = 16 };
    const quant_info *info = quant_find(b->weight);
    val v[64 / PIECE];
    for (uint32_t i = 0; i < s->n / PIECE; i++) {
        const quant_field *f = info->fields;
        emit_span          own = emit_span_of(emit_span_at(s, i * PIECE), PIECE);
        while (own.first >= f->count) own.first -= f++->count;
        v[i] = emit_field(e, f, block, info->block_bytes, &own, 0);
    }
    return emit_add(e, emit_concat_all(e, v, s->n / PIECE), emit_splat_int(e, e->i8, bias - 1, s->n));
}

/* ---- types */

#define ONE_SCALE .scales = scale_half
#define SUB_SCALES(of) .scales = scales_sub, .integers = (of), .factors = factors_half

#define GRID_SCALES .scales = scales_sub, .integers = emit_iq_integers, .factors = emit_iq_factors

static const emit_block blocks[] = {
    {QUANT_Q4_0, 32, 4, 8, NULL, quants_numbers, ONE_SCALE},
    {QUANT_Q4_1, 32, 4, 0, NULL, quants_numbers, ONE_SCALE, .minima = minimum_half},
    {QUANT_Q5_0, 32, 5, 16, NULL, quants_numbers, ONE_SCALE},
    {QUANT_Q5_1, 32, 5, 0, NULL, quants_numbers, ONE_SCALE, .minima = minimum_half},
    {QUANT_Q8_0, 32, 8, 0, NULL, quants_numbers, ONE_SCALE},
    {QUANT_Q1_0, 32, 8, 0, NULL, quants_signs, .scales = scale_repeated},
    {QUANT_Q2_0, 32, 2, 1, NULL, quants_numbers, .scales = scale_repeated},
    {QUANT_IQ4_NL, 32, 8, 0, quant_iq4_values, quants_table, ONE_SCALE},
    {QUANT_MXFP4, 32, 8, 0, quant_fp4_values, quants_table, .scales = scale_e8m0},
    {QUANT_NVFP4, 16, 8, 0, quant_fp4_values, quants_table, .scales = scales_ue4m3},
    {QUANT_Q2_K, 16, 2, 0, NULL, quants_numbers, SUB_SCALES(integers_q2_k), .minima = minima_sub},
    {QUANT_Q3_K, 16, 3, 4, NULL, quants_numbers, SUB_SCALES(integers_q3_k)},
    {QUANT_Q4_K, 32, 4, 0, NULL, quants_numbers, SUB_SCALES(integers_q4_k), .minima = minima_sub},
    {QUANT_Q5_K, 32, 5, 0, NULL, quants_numbers, SUB_SCALES(integers_q4_k), .minima = minima_sub},
    {QUANT_Q6_K, 16, 6, 32, NULL, quants_numbers, SUB_SCALES(integers_q6_k)},
    {QUANT_IQ4_XS, 32, 8, 0, quant_iq4_values, quants_table, SUB_SCALES(integers_iq4_xs)},
    {QUANT_IQ1_S, 32, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_IQ1_M, 16, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_IQ2_XXS, 32, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_IQ2_XS, 16, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_IQ2_S, 16, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_IQ3_XXS, 32, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_IQ3_S, 32, 8, 0, NULL, emit_iq_quants, GRID_SCALES},
    {QUANT_TQ1_0, 256, 8, 0, NULL, quants_trits, ONE_SCALE},
    {QUANT_TQ2_0, 256, 2, 1, NULL, quants_numbers, ONE_SCALE},
};

const emit_block *emit_block_find(enum quant_type weight) {
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        if (blocks[i].weight == weight) return &blocks[i];
    return NULL;
}

uint32_t emit_block_half(const emit_block *b) {
    const quant_info *info = quant_find(b->weight);
    for (uint32_t i = 0; i < info->n_fields; i++)
        if (info->fields[i].role == QUANT_ROLE_QUANT && info->fields[i].kind == QUANT_FIELD_4BITS)
            return b->sub == 32 && info->fields[i].group <= 32 ? info->fields[i].group : 0;
    return 0;
}

uint32_t emit_block_bias(const emit_block *b) {
    uint32_t bias = b->offset;
    for (int i = 0; b->table && i < 16; i++)
        while ((int)bias < -b->table[i]) bias = bias ? 2 * bias : 1;
    return bias;
}

val emit_block_excess(emit *e, uint32_t bias, val totals) {
    uint32_t down = 0;
    if (!bias) bug("no bias is in excess");
    while (bias << down < 128) down++;
    if (!down) return totals;
    return LLVMBuildAShr(e->builder, totals, emit_splat_int(e, e->i32, down, emit_length(totals)), "");
}

uint32_t emit_block_in_pairs(const emit_block *b, const isa *target) {
    if (!target->pair_tokens || !b || (b->bits == 8 && !b->table)) return 0;
    uint32_t most = (1u << b->bits) - 1, n = 0;
    for (int i = 0; b->table && i < 16; i++) {
        uint32_t biased = (uint32_t)(b->table[i] + (int)emit_block_bias(b));
        if (i == 0 || biased > most) most = biased;
    }
    while ((n ? 2 * n : 1) * 2 * most * 127 <= INT16_MAX) n = n ? 2 * n : 1;
    return n;
}

/* n f16 (at most 4, of a little-endian target), `apart` bytes, are joined as integers: the vector units have
   enough to do. Each is loaded with what is around it, so that it comes to stand at its place. */
static val joined_halves(emit *e, val first_at, uint32_t apart, uint32_t n) {
    type whole = LLVMIntTypeInContext(e->context, 16 * n);
    val  all = LLVMConstNull(whole);
    for (uint32_t i = 0; i < n; i++) {
        val loaded = emit_load(e, whole, emit_at_const(e, first_at, i * (apart - 2)), 1);
        val mask = LLVMConstInt(whole, 0xffffull << 16 * i, false);
        all = either(e, all, LLVMBuildAnd(e->builder, loaded, mask, ""));
    }
    return emit_half_to_f32(e, LLVMBuildBitCast(e->builder, all, emit_vector(e->i16, n), ""));
}

bool emit_block_halves(const emit_block *b, uint32_t *scale, int32_t *minimum) {
    if (b->scales != scale_half) return false;
    const quant_field *least = find_field(b, QUANT_ROLE_MIN);
    *scale = find_field(b, QUANT_ROLE_SCALE)->offset;
    *minimum = least ? (int32_t)least->offset : -1;
    return true;
}

/* `one` of each of n blocks, where `half` bytes from a block's start it is an f16 (or -1). */
static val of_blocks(emit *e, const emit_block *b, val block, uint32_t n, int32_t half,
                     val (*one)(emit *, const emit_block *, val)) {
    uint32_t bytes = quant_find(b->weight)->block_bytes;
    if (n == 1) return one(e, b, block);
    if (n <= 4 && half >= 0) return joined_halves(e, emit_at_const(e, block, (uint32_t)half), bytes, n);
    return emit_concat(e, of_blocks(e, b, block, n / 2, half, one),
                       of_blocks(e, b, emit_at_const(e, block, n / 2 * bytes), n / 2, half, one));
}

val emit_block_scales(emit *e, const emit_block *b, val block, uint32_t n) {
    uint32_t at;
    int32_t  least;
    bool     half = emit_block_halves(b, &at, &least);
    return of_blocks(e, b, block, n, half ? (int32_t)at : -1, b->scales);
}

val emit_block_minima(emit *e, const emit_block *b, val block, uint32_t n) {
    uint32_t at;
    int32_t  least;
    if (n == 1 || !emit_block_halves(b, &at, &least)) return of_blocks(e, b, block, n, -1, b->minima);
    return LLVMBuildFNeg(e->builder, of_blocks(e, b, block, n, least, b->minima), "");
}

/* Of `all` numbers of a block's sub-blocks those of values [first, first + n), one for each value. */
static val for_values(emit *e, const emit_block *b, val all, uint32_t first, uint32_t n) {
    uint32_t subs = n > b->sub ? n / b->sub : 1;
    val      own = emit_length(all) == 1 ? all : emit_pick(e, all, NULL, first / b->sub, 1, subs);
    return emit_spread(e, own, n / subs);
}

val emit_block_values(emit *e, const emit_block *b, val block, uint32_t first, uint32_t n) {
    emit_span s = emit_span_of(first, n);
    val quants = emit_cast(e, LLVMSIToFP, b->quants(e, b, block, &s, 0), e->f32);
    val v = emit_fmul(e, quants, for_values(e, b, b->scales(e, b, block), first, n));
    return b->minima ? emit_fsub(e, v, for_values(e, b, b->minima(e, b, block), first, n)) : v;
}
