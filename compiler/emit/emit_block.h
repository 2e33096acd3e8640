/* emit_block.h - blocks of weights taken apart, as vectors: what quant_read.c does number by number.
 *
 *     weight[i] = scale[i / sub] · quant[i] - minimum[i / sub]
 *
 * Quants are i8. Where and how they are packed is told by the table of types (quant.c) alone; what a
 * type's scales are made of is a function of its row here. Everything that multiplies or reads
 * quantized weights is built on these: rows (emit_dot_step.c), tiles (emit_tile_unpack.c), embeddings.
 */
#ifndef GGUFC_EMIT_BLOCK_H
#define GGUFC_EMIT_BLOCK_H

#include "emit.h"

typedef struct emit_block emit_block;

/* Which values of a row: `n` (at most 64), from `first` on in runs of `run`, a run's beginning `stride` from
   the one before. They may be of several blocks that follow one another. */
typedef struct emit_span {
    uint32_t first, n, run, stride;
} emit_span;

static inline emit_span emit_span_of(uint32_t first, uint32_t n) {
    return (emit_span){first, n, n, n};
}

static inline uint32_t emit_span_at(const emit_span *s, uint32_t i) {
    return s->first + i / s->run * s->stride + i % s->run;
}

struct emit_block {
    enum quant_type weight;
    uint32_t sub;    /* values that share a scale; a power of two from 16 */
    uint32_t bits;   /* of the quants as stored, which are unsigned below 8 */
    uint32_t offset; /* by which these are too large; a power of two, or 0 */
    const int8_t *table; /* of 16: the stored quants are positions in it; NULL: numbers */

    /* Those quants of the blocks at `block`, + bias, as <n x i8>. */
    val (*quants)(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias);

    /* All scales of a block, as f32: a vector, or a scalar where there is one. */
    val (*scales)(emit *e, const emit_block *b, val block);
    val (*minima)(emit *e, const emit_block *b, val block); /* likewise; NULL: there are none */

    /* Where sub-blocks have integers beside the block's own scale and minimum: these as i16, and what they
       multiply, the scale's factor before the minimum's. NULL: there are none. */
    val (*integers)(emit *e, const emit_block *b, val block, val *minima);
    val (*factors)(emit *e, const emit_block *b, val block);
};

/* NULL for types of plain numbers. */
const emit_block *emit_block_find(enum quant_type weight);

/* Where a byte holds two nibbles, values i and i + h of 2h: h, 16 or 32; else 0. */
uint32_t emit_block_half(const emit_block *b);

/* What makes a type's quants numbers from 0 on when it is added to them: a power of two, or 0. */
uint32_t emit_block_bias(const emit_block *b);

/* -bias · Σ of activations from their -128 · Σ (a part of their layout): what sums begin with where `bias`, a
   power of two of at most 128, has been added to quants. */
val emit_block_excess(emit *e, uint32_t bias, val totals);

/* Of products of such numbers with activations, summed by two (isa.dot_pairs), how many sums an i16 holds; a
   power of two. 0 where the ISA has a better way, or the type (NULL as well) none of this kind. */
uint32_t emit_block_in_pairs(const emit_block *b, const isa *target);

/* The scales of `n` (a power of two) blocks in a row, which have one each where they are more. */
val emit_block_scales(emit *e, const emit_block *b, val block, uint32_t n);
val emit_block_minima(emit *e, const emit_block *b, val block, uint32_t n);

/* Where a block's only scale is an f16: how far from the block's start; likewise its minimum, -1 where
   there is none. False for all other types. */
bool emit_block_halves(const emit_block *b, uint32_t *scale, int32_t *minimum);

/* Weights [first, first + n) of a block, n <= 64, as <n x f32>. */
val emit_block_values(emit *e, const emit_block *b, val block, uint32_t first, uint32_t n);

/* ---- emit_bits.c */

/* The bits of a vector of bytes, as <8n x i1>: those of a byte from the lowest on. LLVM would take them one
   by one where an ISA has no masks. */
val emit_bits(emit *e, val bytes);

/* Those elements of a packed field, as <n x i8>, moved up by `to` bits; blocks are `block_bytes` apart. */
val emit_field(emit *e, const quant_field *f, val block, uint32_t block_bytes, const emit_span *s, uint32_t to);

#endif
