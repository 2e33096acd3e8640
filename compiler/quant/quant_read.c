/* Weights read as numbers: a block is taken apart (quant_unpack.h), then put together in f32. Scales
 * are f16 times at most 8 bits and quants have at most 8 bits, so that a product is exact or rounded
 * once, and a fused multiply-subtract gives no other bits; whether one is used does not matter. */
#include "quant_unpack.h"

#include <inttypes.h>

/* ---- blocks */

static inline void combine(const quant_parts *p, uint32_t n, uint32_t sub, float *out) {
    for (uint32_t s = 0; s < n / sub; s++) {
        const float scale = p->d * (float)p->scale[s];
        for (uint32_t j = s * sub; j < (s + 1) * sub; j++) out[j] = scale * (float)p->quant[j];
    }
}

static inline void combine_min(const quant_parts *p, uint32_t n, uint32_t sub, float *out) {
    for (uint32_t s = 0; s < n / sub; s++) {
        const float scale = p->d * (float)p->scale[s], min = p->m * (float)p->min[s];
        for (uint32_t j = s * sub; j < (s + 1) * sub; j++) out[j] = scale * (float)p->quant[j] - min;
    }
}

static void read_blocks(const quant_info *info, const quant_blocks *blocks, const uint8_t *row, uint64_t n,
                        const quant_mistake *how, float *out) {
    const uint32_t len = info->block_len, sub = blocks->sub;
    quant_parts    p;
    for (uint64_t i = 0; i < n; i += len, row += info->block_bytes, out += len) {
        blocks->unpack(row, how, &p);
        if (blocks->has_min)
            combine_min(&p, len, sub, out);
        else
            combine(&p, len, sub, out);
    }
}

/* ---- plain numbers */

static void read_f16(const uint8_t *row, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = quant_f16_to_f32(quant_load_u16(row + 2 * i));
}

static void read_bf16(const uint8_t *row, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = quant_bf16_to_f32(quant_load_u16(row + 2 * i));
}

static void read_f32(const uint8_t *row, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = quant_f32_from_bits(quant_load_u32(row + 4 * i));
}

/* F64 and integers, which hold no weights and need not be fast. */
static void read_rare(const quant_info *info, const uint8_t *row, uint64_t n, float *out) {
    const quant_field *f = &info->fields[0];
    for (uint64_t i = 0; i < n; i++, row += info->block_bytes) {
        const uint64_t bits = quant_field_bits(f, row, 0);
        if (f->kind == QUANT_FIELD_I64)
            out[i] = (float)(int64_t)bits; /* rounded once */
        else
            out[i] = (float)quant_field_number(f->kind, bits);
    }
}

static void read_plain(uint32_t type, const uint8_t *row, uint64_t n, float *out) {
    switch (type) {
    case QUANT_F32: read_f32(row, n, out); break;
    case QUANT_F16: read_f16(row, n, out); break;
    case QUANT_BF16: read_bf16(row, n, out); break;
    default: read_rare(quant_find(type), row, n, out); break;
    }
}

/* ---- all types */

bool quant_mistake_applies(uint32_t type, const quant_mistake *how) {
    const quant_info *info = quant_find(type);
    if (!how || !info) return false;
    bool half_scale = type == QUANT_IQ1_M /* in pieces, no field */, nibbles = false;
    for (uint32_t i = 0; i < info->n_fields; i++) {
        const quant_field *f = &info->fields[i];
        half_scale |= f->kind == QUANT_FIELD_F16 &&
                      (f->role == QUANT_ROLE_SCALE || f->role == QUANT_ROLE_MIN);
        nibbles |= f->kind == QUANT_FIELD_4BITS && f->role == QUANT_ROLE_QUANT && f->group > 1;
    }
    return (half_scale && (how->scale_as_bf16 || how->subnormal_scale_zero)) ||
           (nibbles && (how->nibbles_swapped || how->nibbles_adjacent));
}

void quant_read(uint32_t type, const uint8_t *row, uint64_t n, const quant_mistake *how, float *out) {
    static const quant_mistake none;
    const quant_info          *info = quant_find(type);
    const quant_blocks        *blocks = quant_find_blocks(type);
    if (!info) bug("reading values of type %" PRIu32, type);
    if (n % info->block_len) bug("reading %" PRIu64 " values of %s", n, info->name);
    if (blocks)
        read_blocks(info, blocks, row, n, how ? how : &none, out);
    else
        read_plain(type, row, n, out);
}
