/* IQ1, IQ2 and IQ3: eight quants at a time are a point of a grid, or two, loaded from a constant, and their
 * signs; vectors are put together from those. Layouts are those of quant_unpack_iq.c. */
#include "emit_block_iq.h"

#include "quant_grid.h"

/* Eight quants: points of a grid of eight or two of four, and their signs, a bit each (i8). IQ1 has its signs
   in the grid, and of the bits it is all or none: whether an eighth is subtracted or added. */
typedef struct eight {
    val point, second, signs;
} eight;

typedef struct iq {
    enum quant_type weight;
    enum quant_grid grid;
    double          factor; /* of the block's f16 scale, for scales of 2s + 1 and quants as they are here */
    bool            shifts; /* IQ1 */
    eight (*eight)(emit *e, val block, uint32_t i); /* quants 8i … 8i + 7 */
    val (*steps)(emit *e, const emit_block *b, val block); /* s, of each sub-block */
    val (*scale)(emit *e, val block);               /* the f16, as i16 */
} iq;

/* ---- numbers in a block */

static val load_at(emit *e, val block, uint32_t at, type t) {
    return emit_load(e, t, emit_at_const(e, block, at), 1);
}

static val byte_at(emit *e, val block, uint32_t at) {
    return LLVMBuildZExt(e->builder, load_at(e, block, at, e->i8), e->i32, "");
}

static val word_at(emit *e, val block, uint32_t at) {
    return LLVMBuildZExt(e->builder, load_at(e, block, at, e->i16), e->i32, "");
}

/* (v >> down) & mask, << up */
static val part(emit *e, val v, uint32_t down, uint32_t mask, uint32_t up) {
    if (down) v = LLVMBuildLShr(e->builder, v, emit_i32(e, down), "");
    v = LLVMBuildAnd(e->builder, v, emit_i32(e, mask), "");
    return up ? LLVMBuildShl(e->builder, v, emit_i32(e, up), "") : v;
}

static val either(emit *e, val a, val b) {
    return LLVMBuildOr(e->builder, a, b, "");
}

static val as_byte(emit *e, val v) {
    return LLVMBuildTrunc(e->builder, v, e->i8, "");
}

/* See quant_grid_signs. */
static val full_signs(emit *e, val seven_bits) {
    enum { COUNT = 128 };
    static const char name[] = "iq_signs";
    val table = LLVMGetNamedGlobal(e->module, name);
    if (!table) {
        val all[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) all[i] = LLVMConstInt(e->i8, quant_grid_signs(i), false);
        table = emit_constant(e, name, LLVMConstArray2(e->i8, all, COUNT), 64);
    }
    return emit_load(e, e->i8, emit_at(e, table, emit_wide(e, seven_bits)), 1);
}

/* ---- eight quants of each type */

static eight eight_iq2_xxs(emit *e, val block, uint32_t i) {
    uint32_t at = 2 + i / 4 * 8;
    val      rest = load_at(e, block, at + 4, e->i32);
    return (eight){byte_at(e, block, at + i % 4), NULL, full_signs(e, part(e, rest, i % 4 * 7, 127, 0))};
}

static eight eight_iq2_xs(emit *e, val block, uint32_t i) {
    val word = word_at(e, block, 2 + 2 * i);
    return (eight){part(e, word, 0, 511, 0), NULL, full_signs(e, part(e, word, 9, 127, 0))};
}

static eight eight_iq2_s(emit *e, val block, uint32_t i) {
    val high = part(e, byte_at(e, block, 66 + i / 4), i % 4 * 2, 3, 8);
    return (eight){either(e, byte_at(e, block, 2 + i), high), NULL, load_at(e, block, 34 + i, e->i8)};
}

static eight eight_iq3_xxs(emit *e, val block, uint32_t i) {
    val rest = load_at(e, block, 66 + i / 4 * 4, e->i32);
    return (eight){byte_at(e, block, 2 + 2 * i), byte_at(e, block, 3 + 2 * i),
                   full_signs(e, part(e, rest, i % 4 * 7, 127, 0))};
}

static eight eight_iq3_s(emit *e, val block, uint32_t i) {
    val high = byte_at(e, block, 66 + i / 4);
    val first = part(e, high, i % 4 * 2, 1, 8), second = part(e, high, i % 4 * 2 + 1, 1, 8);
    return (eight){either(e, byte_at(e, block, 2 + 2 * i), first), either(e, byte_at(e, block, 3 + 2 * i), second),
                   load_at(e, block, 74 + i, e->i8)};
}

/* All bits of a byte like bit `at`. */
static val repeated(emit *e, val v, uint32_t at) {
    return as_byte(e, emit_sub(e, emit_i32(e, 0), part(e, v, at, 1, 0)));
}

static eight eight_iq1_s(emit *e, val block, uint32_t i) {
    val rest = word_at(e, block, 34 + i / 4 * 2);
    return (eight){either(e, byte_at(e, block, 2 + i), part(e, rest, i % 4 * 3, 7, 8)), NULL, repeated(e, rest, 15)};
}

static eight eight_iq1_m(emit *e, val block, uint32_t i) {
    val rest = byte_at(e, block, 32 + i / 2);
    return (eight){either(e, byte_at(e, block, i), part(e, rest, i % 2 * 4, 7, 8)), NULL,
                   repeated(e, rest, i % 2 * 4 + 3)};
}

/* ---- scales of sub-blocks, as stored */

static val and_splat(emit *e, val v, uint64_t mask) {
    type t = LLVMGetElementType(LLVMTypeOf(v));
    return LLVMBuildAnd(e->builder, v, emit_splat_int(e, t, mask, emit_length(v)), "");
}

static val down_splat(emit *e, val v, uint64_t bits) {
    type t = LLVMGetElementType(LLVMTypeOf(v));
    return LLVMBuildLShr(e->builder, v, emit_splat_int(e, t, bits, emit_length(v)), "");
}

static val steps_iq2_xxs(emit *e, const emit_block *b, val block) {
    (void)b;
    val words = load_at(e, block, 2, emit_vector(e->i32, 16));
    return emit_cast(e, LLVMTrunc, down_splat(e, emit_pick(e, words, NULL, 1, 2, 8), 28), e->i16);
}

static val steps_iq3_xxs(emit *e, const emit_block *b, val block) {
    (void)b;
    return emit_cast(e, LLVMTrunc, down_splat(e, load_at(e, block, 66, emit_vector(e->i32, 8)), 28), e->i16);
}

static val steps_nibbles(emit *e, const emit_block *b, val block) {
    const quant_info  *info = quant_find(b->weight);
    const quant_field *f = &info->fields[info->n_fields - 1];
    emit_span          all = emit_span_of(0, f->count);
    return emit_cast(e, LLVMZExt, emit_field(e, f, block, info->block_bytes, &all, 0), e->i16);
}

static val steps_iq1_s(emit *e, const emit_block *b, val block) {
    (void)b;
    return and_splat(e, down_splat(e, load_at(e, block, 34, emit_vector(e->i16, 8)), 12), 7);
}

static val steps_iq1_m(emit *e, const emit_block *b, val block) {
    (void)b;
    val by[16], words = emit_spread(e, load_at(e, block, 48, emit_vector(e->i16, 4)), 4);
    for (uint32_t i = 0; i < 16; i++) by[i] = LLVMConstInt(e->i16, i % 4 * 3, false);
    return and_splat(e, LLVMBuildLShr(e->builder, words, LLVMConstVector(by, 16), ""), 7);
}

static val scale_first(emit *e, val block) {
    return load_at(e, block, 0, e->i16);
}

/* Four bits of it are the highest of each word of scales. */
static val scale_iq1_m(emit *e, val block) {
    val all = emit_i32(e, 0);
    for (uint32_t i = 0; i < 4; i++) all = either(e, all, part(e, byte_at(e, block, 49 + 2 * i), 4, 15, 4 * i));
    return LLVMBuildTrunc(e->builder, all, e->i16, "");
}

/* ---- types */

static const iq types[] = {
    {QUANT_IQ1_S, QUANT_GRID_IQ1, 0.125, true, eight_iq1_s, steps_iq1_s, scale_first},
    {QUANT_IQ1_M, QUANT_GRID_IQ1, 0.125, true, eight_iq1_m, steps_iq1_m, scale_iq1_m},
    {QUANT_IQ2_XXS, QUANT_GRID_IQ2_XXS, 0.125, false, eight_iq2_xxs, steps_iq2_xxs, scale_first},
    {QUANT_IQ2_XS, QUANT_GRID_IQ2_XS, 0.125, false, eight_iq2_xs, steps_nibbles, scale_first},
    {QUANT_IQ2_S, QUANT_GRID_IQ2_S, 0.125, false, eight_iq2_s, steps_nibbles, scale_first},
    {QUANT_IQ3_XXS, QUANT_GRID_IQ3_XXS, 0.25, false, eight_iq3_xxs, steps_iq3_xxs, scale_first},
    {QUANT_IQ3_S, QUANT_GRID_IQ3_S, 1, false, eight_iq3_s, steps_nibbles, scale_first},
};

static const iq *find(enum quant_type weight) {
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].weight == weight) return &types[i];
    bug("type %d has no grid", weight);
}

/* The points of a grid, IQ1's eight times as large: an eighth is 1. */
static val points_of(emit *e, const iq *q) {
    const quant_grid_info *info = quant_grid_find(q->grid);
    const char  *name = arena_printf(e->memory, "iq_grid%d", q->grid);
    uint32_t     n = info->n_points * info->width;
    val          table = LLVMGetNamedGlobal(e->module, name);
    if (table) return table;
    const int8_t *points = quant_grid_values(q->grid);
    val          *all = ARENA_ARRAY(e->memory, val, n);
    for (uint32_t i = 0; i < n; i++)
        all[i] = LLVMConstInt(e->i8, (uint64_t)(points[i] * (q->shifts ? 8 : 1)), true);
    return emit_constant(e, name, LLVMConstArray2(e->i8, all, n), 64);
}

static val load_point(emit *e, val table, val number, uint32_t width) {
    val at = emit_at(e, table, emit_mul_const(e, emit_wide(e, number), width));
    return emit_load(e, LLVMIntTypeInContext(e->context, 8 * width), at, width);
}

val emit_iq_quants(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias) {
    const iq *q = find(b->weight);
    uint32_t  n = s->n, width = quant_grid_find(q->grid)->width;
    type      lane = LLVMIntTypeInContext(e->context, 8 * width);
    val       table = points_of(e, q), points = LLVMGetPoison(emit_vector(lane, n / width));
    val       signs = LLVMGetPoison(emit_vector(e->i8, n / 8));
    for (uint32_t i = 0; i < n / 8; i++) {
        eight now = q->eight(e, block, emit_span_at(s, 8 * i) / 8);
        val   first = load_point(e, table, now.point, width);
        points = LLVMBuildInsertElement(e->builder, points, first, emit_i32(e, 8 / width * i), "");
        if (now.second)
            points = LLVMBuildInsertElement(e->builder, points, load_point(e, table, now.second, width),
                                            emit_i32(e, 2 * i + 1), "");
        signs = LLVMBuildInsertElement(e->builder, signs, now.signs, emit_i32(e, i), "");
    }
    val v = LLVMBuildBitCast(e->builder, points, emit_vector(e->i8, n), "");
    val negative = emit_bits(e, signs);
    if (q->shifts)
        return emit_add(e, v, LLVMBuildSelect(e->builder, negative, emit_splat_int(e, e->i8, bias - 1, n),
                                              emit_splat_int(e, e->i8, bias + 1, n), ""));
    v = LLVMBuildSelect(e->builder, negative, LLVMBuildNeg(e->builder, v, ""), v, "");
    return bias ? emit_add(e, v, emit_splat_int(e, e->i8, bias, n)) : v;
}

val emit_iq_integers(emit *e, const emit_block *b, val block, val *minima) {
    val steps = find(b->weight)->steps(e, b, block);
    *minima = NULL;
    return emit_add(e, emit_add(e, steps, steps), emit_splat_int(e, e->i16, 1, emit_length(steps)));
}

val emit_iq_factors(emit *e, const emit_block *b, val block) {
    const iq *q = find(b->weight);
    return emit_fmul(e, emit_half_to_f32(e, q->scale(e, block)), emit_f32(e, q->factor));
}
