/* Where results go: memory as f32, a key-value cache as f16, activations for the next product. */
#include "emit.h"

/* What an op writes, be it the op's own output or what fusion gave it. */
static const value *quantized_of(const op *o) {
    return o->kind == OP_QUANTIZE ? o->out : o->fused.quantized;
}

static const value *cache_of(const op *o) {
    return o->kind == OP_KV_STORE ? o->out : o->fused.cache;
}

static bool stores_f32(const op *o) {
    return !o->fused.drop_out && o->out->kind == VALUE_ACTIVATION && o->out->type == QUANT_F32;
}

sink emit_sink_begin(emit *e, const op *o) {
    sink s = {.o = o};
    bool stored = stores_f32(o);
    const value *quantized = quantized_of(o);
    const value *cache = cache_of(o);
    if (stored) {
        s.out = emit_place(e, o, o->out);
        s.out_stride = emit_operand(e, o->out->stride);
    }
    if (quantized) {
        s.quantized = emit_place(e, o, quantized);
        s.quantized_stride = emit_operand(e, quantized->stride);
    }
    if (cache) s.cache = emit_operand(e, cache->offset);
    return s;
}

char *emit_sink_key(emit *e, const op *o) {
    const value *quantized = quantized_of(o);
    const value *cache = cache_of(o);
    bool stored = stores_f32(o);
    char *key = arena_printf(e->memory, "%s", stored ? "_out" : "");
    if (quantized)
        key = arena_printf(e->memory, "%s_to_%s%llu", key, quant_find(quantized->type)->name,
                           (unsigned long long)value_count(quantized));
    if (cache) key = arena_printf(e->memory, "%s_cache_d%llu", key, (unsigned long long)cache->ne[0]);
    return key;
}

uint32_t emit_sink_width(const emit *e, const op *o) {
    const value *quantized = quantized_of(o);
    uint32_t block = quantized ? quant_find(quantized->type)->block_len : 1;
    return block > 1 ? block : e->isa->lanes;
}

/* A block being quantized: values [at, at + n) of the row of activations at `row`. */
typedef struct quantizing {
    emit             *e;
    val               row, at;
    uint32_t          n;
    activation_layout layout;
} quantizing;

/* Stores what there is one of for every `each` values, a part of the row that begins at `part`. */
static void store_each(const quantizing *q, uint64_t part, uint32_t each, uint32_t bytes, val v) {
    emit    *e = q->e;
    uint64_t log = 0;
    while (1u << log < each) log++;
    val number = LLVMBuildLShr(e->builder, q->at, emit_i64(e, log), "");
    emit_store(e, v, emit_at(e, emit_at_const(e, q->row, part), emit_mul_const(e, number, bytes)), bytes);
}

/* Element i of n of a vector for each i: those of `v` that f says. */
static val rearranged(emit *e, val v, uint32_t n, uint32_t (*from)(uint32_t i)) {
    uint32_t order[256];
    for (uint32_t i = 0; i < n; i++) order[i] = from(i);
    return emit_permute(e, v, order, n);
}

static uint32_t first_half(uint32_t i) {
    return i / 4 * 8 + i % 4;
}

static uint32_t last_half(uint32_t i) {
    return first_half(i) + 4;
}

/* 128 · Σ of four. */
static val sums_of_four(emit *e, val x) {
    uint32_t n = emit_length(x);
    if (e->isa->unsigned_weights)
        return e->isa->dot(e, LLVMConstNull(LLVMTypeOf(x)), x, LLVMConstNull(emit_vector(e->i32, n / 4)));
    val pairs = e->isa->dot_pairs(e, emit_splat_int(e, e->i8, 128, n), x);
    return e->isa->dot_words(e, pairs, emit_splat_int(e, e->i16, 1, n / 2), NULL);
}

/* -128 · Σ of four, and of four and those 16 later. */
static void store_corrections(const quantizing *q, val quants) {
    emit    *e = q->e;
    uint32_t piece = q->n < e->isa->dot_length ? q->n : e->isa->dot_length;
    for (uint32_t i = 0; i < q->n; i += piece) {
        quantizing part = *q;
        part.at = emit_add(e, q->at, emit_i64(e, i));
        val x = q->n == piece ? quants : emit_pick(e, quants, NULL, i, 1, piece);
        val less = LLVMBuildNeg(e->builder, sums_of_four(e, x), "");
        store_each(&part, q->layout.corrections, 1, 1, less);
        val both = emit_add(e, rearranged(e, less, piece / 8, first_half), rearranged(e, less, piece / 8, last_half));
        store_each(&part, q->layout.halved_corrections, 8, 4, both);
    }
}

static void store_halved(const quantizing *q, uint32_t half, val quants) {
    emit    *e = q->e;
    uint32_t unit = 2 * e->isa->dot_length;
    for (uint32_t i = 0; i < q->n; i += 2 * half) {
        val at = emit_add(e, q->at, emit_i64(e, i));
        val within = LLVMBuildAnd(e->builder, at, emit_i64(e, unit - 1), "");
        val to = emit_sub(e, at, LLVMBuildLShr(e->builder, within, emit_i64(e, 1), ""));
        to = emit_at(e, emit_at_const(e, q->row, q->layout.halved[half / 32]), to);
        emit_store(e, emit_pick(e, quants, NULL, i, 1, half), to, half);
        emit_store(e, emit_pick(e, quants, NULL, i + half, 1, half), emit_at_const(e, to, unit / 2), half);
    }
}

static val neighbours(emit *e, val v) {
    uint32_t n = emit_length(v) / 2;
    return emit_add(e, emit_pick(e, v, NULL, 0, 2, n), emit_pick(e, v, NULL, 1, 2, n));
}

static void store_sums(const quantizing *q, val quants, val scale) {
    static const uint32_t each[ISA_SUM_COUNT] = {16, 32, 256};
    emit *e = q->e;
    val   sum = emit_cast(e, LLVMSExt, quants, e->i16);
    for (int s = 0; s < ISA_SUM_COUNT && each[s] <= q->n; s++) {
        while (emit_length(sum) > q->n / each[s]) sum = neighbours(e, sum);
        val      wide = emit_cast(e, LLVMSExt, sum, e->i32);
        uint64_t total = q->layout.totals[s], as_f32 = q->layout.sums[s], count = q->layout.counts[s];
        val      times = emit_splat_int(e, e->i32, (uint64_t)-128, emit_length(wide));
        if (total) store_each(q, total, each[s], 4, emit_mul(e, wide, times));
        if (count) store_each(q, count, each[s], 2, LLVMBuildNeg(e->builder, sum, ""));
        if (!as_f32) continue;
        val v = emit_cast(e, LLVMSIToFP, wide, e->f32);
        if (scale) v = emit_half_to_f32(e, emit_f32_to_half(e, emit_fmul(e, v, scale)));
        store_each(q, as_f32, each[s], 4, v);
    }
}

/* A block of f32, by its largest magnitude, as ggml does:
 *
 *     Q8_0, Q8_1  scale = max|x| / 127 rounded to f16, q = round(x · 127 / max|x|); Q8_1's sum is that of
 *                 the quants times the scale before it is rounded (quantize_row_q8_0, quantize_row_q8_1)
 *     Q8_K        scale = 1 / (127 / max|x|), q = round(x · 127 / max|x|) (quantize_row_q8_K, which gives
 *                 both the sign of the largest value: their product is the same)
 *
 * See isa.h for where the parts go. */
static void quantize_block(const quantizing *q, enum quant_type as, val v) {
    emit *e = q->e;
    val   most = emit_max_element(e, emit_abs(e, v));
    val   zero = LLVMBuildFCmp(e->builder, LLVMRealOEQ, most, emit_f32(e, 0), "");
    val   quotient = emit_fdiv(e, emit_f32(e, 127), most);
    val   inverse = LLVMBuildSelect(e->builder, zero, emit_f32(e, 0), quotient, "");
    val   exact = as == QUANT_Q8_K ? emit_fdiv(e, emit_f32(e, 1), quotient)
                                   : emit_fdiv(e, most, emit_f32(e, 127));
    val   scale = as == QUANT_Q8_K ? exact : emit_half_to_f32(e, emit_f32_to_half(e, exact));
    val   quants = emit_round_i32(e, emit_fmul(e, v, emit_splat(e, inverse, q->n)));
    quants = emit_cast(e, LLVMTrunc, quants, e->i8);
    store_each(q, 0, 1, 1, quants);
    if (e->isa->tile_columns == 2) store_each(q, q->layout.tile, 1, 2, emit_cast(e, LLVMSExt, quants, e->i16));
    if (q->layout.corrections) store_corrections(q, quants);
    for (uint32_t half = 16; half <= 32; half *= 2)
        if (q->layout.halved[half / 32]) store_halved(q, half, quants);
    store_sums(q, quants, as == QUANT_Q8_1 ? exact : NULL);
    store_each(q, q->layout.scales, q->n, 4, scale);
}

static void store_quantized(emit *e, const sink *s, val token, val at, val v) {
    const value *q = quantized_of(s->o);
    val row = emit_at(e, emit_at(e, e->arena, s->quantized), emit_mul(e, token, s->quantized_stride));
    activation_layout layout = isa_activation_layout(e->isa, (enum quant_type)q->type, value_count(q));
    uint32_t          block = quant_find(q->type)->block_len;
    if (block > 1) {
        for (uint32_t i = 0; i < emit_length(v); i += block) {
            quantizing one = {e, row, emit_add(e, at, emit_i64(e, i)), block, layout};
            quantize_block(&one, (enum quant_type)q->type,
                           emit_length(v) == block ? v : emit_pick(e, v, NULL, i, 1, block));
        }
        return;
    }
    /* F16 and BF16: rounded, but kept as f32 so that no product converts them again. */
    if (q->type != QUANT_F16 && q->type != QUANT_BF16) bug("activations of type %u", q->type);
    bool half = q->type == QUANT_F16;
    val  bits = half ? emit_f32_to_half(e, v) : emit_f32_to_bf16(e, v);
    val  rounded = half ? emit_half_to_f32(e, bits) : emit_bf16_to_f32(e, bits);
    if (layout.bytes > layout.halves)
        emit_store(e, bits, emit_at(e, emit_at_const(e, row, layout.halves), emit_mul_const(e, at, 2)), 2);
    emit_store(e, rounded, emit_at(e, row, emit_mul_const(e, at, 4)), 4);
}

/* A cache is [head][position][head_dim]; a part never reaches over the end of a head. */
static void store_cached(emit *e, const sink *s, val token, val at, val v) {
    const value *cache = cache_of(s->o);
    uint64_t d = cache->ne[0];
    val head = LLVMBuildUDiv(e->builder, at, emit_i64(e, d), "");
    val within = LLVMBuildURem(e->builder, at, emit_i64(e, d), "");
    val row = emit_add(e, emit_mul_const(e, head, e->plan->n_ctx_padded),
                       emit_add(e, e->pos, token));
    val element = emit_add(e, emit_mul_const(e, row, d), within);
    val base = emit_at(e, e->kv, s->cache);
    emit_store(e, emit_f32_to_half(e, v), emit_at(e, base, emit_mul_const(e, element, 2)), 2);
}

void emit_sink(emit *e, const sink *s, val token, val at, val v) {
    if (s->out) {
        val row = emit_at(e, emit_at(e, e->arena, s->out), emit_mul(e, token, s->out_stride));
        emit_store(e, v, emit_at(e, row, emit_mul_const(e, at, 4)), 4);
    }
    if (s->quantized) store_quantized(e, s, token, at, v);
    if (s->cache) store_cached(e, s, token, at, v);
}
