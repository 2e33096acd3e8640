/* Where results go: memory as f32, a key-value cache as f16, activations for the next product. */
#include "emit.h"

#define BLOCK 32

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
        s.out = emit_operand(e, o->out->offset);
        s.out_stride = emit_operand(e, o->out->stride);
    }
    if (quantized) {
        s.quantized = emit_operand(e, quantized->offset);
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
    return quantized && quantized->type == QUANT_Q8_0 ? BLOCK : e->isa->lanes;
}

/* A block of 32 f32 as Q8_0: d = max|x| / 127 rounded to f16, q = round(x · 127 / max|x|), as
   ggml's quantize_row_q8_0 does; see isa.h for where the parts go. */
static void quantize_block(emit *e, val row, activation_layout layout, val at, val v) {
    val most = emit_max_element(e, emit_abs(e, v));
    val scale = emit_half_to_f32(e, emit_f32_to_half(e, emit_fdiv(e, most, emit_f32(e, 127))));
    val zero = LLVMBuildFCmp(e->builder, LLVMRealOEQ, most, emit_f32(e, 0), "");
    val inverse = emit_fdiv(e, emit_f32(e, 127), most);
    inverse = LLVMBuildSelect(e->builder, zero, emit_f32(e, 0), inverse, "");
    val q = emit_round_i32(e, emit_fmul(e, v, emit_splat(e, inverse, BLOCK)));
    q = emit_cast(e, LLVMTrunc, q, e->i8);
    emit_store(e, q, emit_at(e, row, at), BLOCK);
    if (e->isa->tile_columns == 2) {
        val wide = emit_at(e, emit_at_const(e, row, layout.tile), emit_mul_const(e, at, 2));
        emit_store(e, emit_cast(e, LLVMSExt, q, e->i16), wide, BLOCK);
    }
    if (e->isa->unsigned_weights) {
        val none = LLVMConstNull(emit_vector(e->i32, 8));
        val excess = e->isa->dot(e, LLVMConstNull(LLVMTypeOf(q)), q, none); /* 128 · Σ q */
        excess = LLVMBuildNeg(e->builder, excess, "");
        emit_store(e, excess, emit_at(e, emit_at_const(e, row, layout.corrections), at), BLOCK);
        if (e->isa->dot_rows) {
            val total = emit_intrinsic(e, "llvm.vector.reduce.add", LLVMTypeOf(excess), &excess, 1);
            val total_at = LLVMBuildLShr(e->builder, at, emit_i64(e, 3), "");
            emit_store(e, total, emit_at(e, emit_at_const(e, row, layout.totals), total_at), 4);
        }
    }
    val scale_at = LLVMBuildLShr(e->builder, at, emit_i64(e, 3), ""); /* 4 bytes a block of 32 */
    emit_store(e, scale, emit_at(e, emit_at_const(e, row, layout.scales), scale_at), 4);
}

static void store_quantized(emit *e, const sink *s, val token, val at, val v) {
    const value *q = quantized_of(s->o);
    val row = emit_at(e, emit_at(e, e->arena, s->quantized), emit_mul(e, token, s->quantized_stride));
    if (q->type == QUANT_Q8_0) {
        activation_layout layout = isa_activation_layout(e->isa, q->type, value_count(q));
        uint32_t n = emit_length(v);
        for (uint32_t i = 0; i < n; i += BLOCK)
            quantize_block(e, row, layout, emit_add(e, at, emit_i64(e, i)),
                           n == BLOCK ? v : emit_pick(e, v, NULL, i, 1, BLOCK));
        return;
    }
    /* F16 and BF16: rounded, but kept as f32 so that no product converts them again. */
    if (q->type != QUANT_F16 && q->type != QUANT_BF16) bug("activations of type %u", q->type);
    bool half = q->type == QUANT_F16;
    val  bits = half ? emit_f32_to_half(e, v) : emit_f32_to_bf16(e, v);
    val  rounded = half ? emit_half_to_f32(e, bits) : emit_bf16_to_f32(e, bits);
    activation_layout layout = isa_activation_layout(e->isa, q->type, value_count(q));
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
