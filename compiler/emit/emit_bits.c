/* Packed fields as vectors: the bytes that hold them are loaded once and spread, each element is moved
 * to its place by a shift of its pair of bytes, and what came along is masked out. */
#include "emit_block.h"

#define MAX_ELEMENTS 64

/* Where elements are: element i in byte `byte[i]` of the blocks, at `place[i]` of the elements that a
   byte holds. */
typedef struct places {
    uint32_t n, byte[MAX_ELEMENTS], place[MAX_ELEMENTS];
} places;

static places locate(const quant_field *f, uint32_t block_bytes, const emit_span *s) {
    places   p = {.n = s->n};
    uint32_t per_byte = f->count / quant_field_bytes(f), group = f->group * per_byte;
    if (s->n > MAX_ELEMENTS) bug("%u elements", s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t at = emit_span_at(s, i), within = at % f->count;
        p.byte[i] = at / f->count * block_bytes + f->offset + within / group * f->group + within % f->group;
        p.place[i] = within % group / f->group;
    }
    return p;
}

/* Bytes that follow one another, of which all are wanted. */
typedef struct ranges {
    uint32_t n, start[MAX_ELEMENTS], length[MAX_ELEMENTS];
} ranges;

static uint32_t range_of(const ranges *r, uint32_t byte) {
    for (uint32_t i = 0; i < r->n; i++)
        if (byte >= r->start[i] && byte < r->start[i] + r->length[i]) return i;
    return r->n;
}

static ranges find_ranges(const places *p) {
    ranges r = {0};
    for (uint32_t i = 0; i < p->n; i++) {
        if (range_of(&r, p->byte[i]) < r.n) continue;
        if (r.n && p->byte[i] == r.start[r.n - 1] + r.length[r.n - 1]) {
            r.length[r.n - 1]++;
            continue;
        }
        r.start[r.n] = p->byte[i];
        r.length[r.n++] = 1;
    }
    return r;
}

/* The byte of each element. */
static val load_bytes(emit *e, const places *p, val block) {
    ranges   r = find_ranges(p);
    uint32_t from[MAX_ELEMENTS];
    val      all[MAX_ELEMENTS];
    for (uint32_t i = 0; i < r.n; i++) {
        if (r.length[i] != r.length[0]) bug("bytes in ranges of %u and %u", r.length[0], r.length[i]);
        all[i] = emit_load(e, emit_vector(e->i8, r.length[i]), emit_at_const(e, block, r.start[i]), 1);
    }
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t k = range_of(&r, p->byte[i]);
        from[i] = k * r.length[0] + p->byte[i] - r.start[k];
    }
    return emit_permute(e, emit_concat_all(e, all, r.n), from, p->n);
}

static val constant_i16(emit *e, const int32_t *numbers, uint32_t n, uint32_t step) {
    val all[MAX_ELEMENTS];
    for (uint32_t i = 0; i < n; i++) all[i] = LLVMConstInt(e->i16, (uint64_t)numbers[i * step], true);
    return LLVMConstVector(all, n);
}

static bool any(const int32_t *numbers, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (numbers[i]) return true;
    return false;
}

/* Each element moved right by `right` and left by `left` bits, of which one is 0. Neighbours that go the
   same way are shifted as pairs: no CPU shifts bytes. */
static val move(emit *e, val bytes, const int32_t *right, const int32_t *left, uint32_t n) {
    uint32_t step = 2;
    for (uint32_t i = 0; i < n; i += 2)
        if (right[i] != right[i + 1] || left[i] != left[i + 1]) step = 1;
    val v = step == 2 ? LLVMBuildBitCast(e->builder, bytes, emit_vector(e->i16, n / 2), "")
                      : emit_cast(e, LLVMZExt, bytes, e->i16);
    if (any(right, n)) v = LLVMBuildLShr(e->builder, v, constant_i16(e, right, n / step, step), "");
    if (any(left, n)) v = LLVMBuildShl(e->builder, v, constant_i16(e, left, n / step, step), "");
    return step == 2 ? LLVMBuildBitCast(e->builder, v, emit_vector(e->i8, n), "") : emit_cast(e, LLVMTrunc, v, e->i8);
}

static val packed_bits(emit *e, const places *p, val block, uint32_t bits, uint32_t to) {
    int32_t right[MAX_ELEMENTS], left[MAX_ELEMENTS];
    for (uint32_t i = 0; i < p->n; i++) {
        int32_t by = (int32_t)(p->place[i] * bits) - (int32_t)to;
        right[i] = by > 0 ? by : 0;
        left[i] = by < 0 ? -by : 0;
    }
    val moved = move(e, load_bytes(e, p, block), right, left, p->n);
    return LLVMBuildAnd(e->builder, moved, emit_splat_int(e, e->i8, ((1u << bits) - 1) << to, p->n), "");
}

/* See quant_field_bits. */
static val trits(emit *e, const places *p, val block) {
    static const int32_t power[] = {1, 3, 9, 27, 81};
    int32_t powers[MAX_ELEMENTS];
    for (uint32_t i = 0; i < p->n; i++) powers[i] = power[p->place[i]];
    val v = emit_cast(e, LLVMZExt, load_bytes(e, p, block), e->i16);
    v = emit_mul(e, v, constant_i16(e, powers, p->n, 1));
    v = LLVMBuildAnd(e->builder, v, emit_splat_int(e, e->i16, 0xff, p->n), "");
    v = emit_mul(e, v, emit_splat_int(e, e->i16, 3, p->n));
    v = LLVMBuildLShr(e->builder, v, emit_splat_int(e, e->i16, 8, p->n), "");
    return emit_cast(e, LLVMTrunc, v, e->i8);
}

val emit_bits(emit *e, val bytes) {
    uint32_t n = 8 * emit_length(bytes);
    val      bit[MAX_ELEMENTS];
    if (e->isa->masks) return LLVMBuildBitCast(e->builder, bytes, emit_vector(e->i1, n), "");
    for (uint32_t i = 0; i < n; i++) bit[i] = LLVMConstInt(e->i8, 1u << i % 8, false);
    val bits = LLVMConstVector(bit, n);
    val tested = LLVMBuildAnd(e->builder, emit_spread(e, bytes, 8), bits, "");
    return LLVMBuildICmp(e->builder, LLVMIntEQ, tested, bits, "");
}

/* Bits in ascending order, as they stand. */
static val bits_of_field(emit *e, const quant_field *f, val block, uint32_t block_bytes, const emit_span *s) {
    val      pieces[MAX_ELEMENTS / 8];
    uint32_t piece = s->run < f->count ? s->run : f->count;
    for (uint32_t i = 0; i < s->n; i += piece) {
        uint32_t first = emit_span_at(s, i);
        uint32_t at = first / f->count * block_bytes + f->offset + first % f->count / 8;
        pieces[i / piece] = emit_bits(e, emit_load(e, emit_vector(e->i8, piece / 8), emit_at_const(e, block, at), 1));
    }
    return emit_concat_all(e, pieces, s->n / piece);
}

val emit_field(emit *e, const quant_field *f, val block, uint32_t block_bytes, const emit_span *s, uint32_t to) {
    if (f->kind == QUANT_FIELD_BIT && f->group == 1)
        return LLVMBuildSelect(e->builder, bits_of_field(e, f, block, block_bytes, s),
                               emit_splat_int(e, e->i8, 1u << to, s->n),
                               LLVMConstNull(emit_vector(e->i8, s->n)), "");
    quant_field bytes = *f; /* an element that is a byte is a group of its own */
    if (!bytes.group) bytes.group = f->count;
    places p = locate(&bytes, block_bytes, s);
    switch (f->kind) {
    case QUANT_FIELD_I8: return load_bytes(e, &p, block);
    case QUANT_FIELD_TRIT: return trits(e, &p, block);
    case QUANT_FIELD_BIT: return packed_bits(e, &p, block, 1, to);
    case QUANT_FIELD_2BITS: return packed_bits(e, &p, block, 2, to);
    case QUANT_FIELD_4BITS: return packed_bits(e, &p, block, 4, to);
    default: bug("a field '%s' of quants", f->name);
    }
}
