/* emit_dot.h - how each type of weights is multiplied, a step at a time. Private to emit_dot*.c. */
#ifndef GGUFC_EMIT_DOT_H
#define GGUFC_EMIT_DOT_H

#include "emit.h"

#define DOT_MAX_SUMS 16 /* of one function: tokens × rows */

/* A dot being written: of `n_tokens` activations with each of `n_rows` rows, a step of one after that of another. */
typedef struct dot {
    emit             *e;
    enum quant_type   weight;
    uint64_t          k;
    uint32_t          n_tokens, n_rows;
    uint32_t          n_accumulators; /* of each row and token */
    bool              x_as_halves;    /* activations are read as halves */
    uint32_t          ahead; /* of emit_come_to, which comes before each step; chained ones, which are long, do it
                                for parts */
    val               distance; /* of panels, where weights are far: an i64 in its place */
    uint32_t          chain; /* which sum the first block of a step is added to, where a kind is chained */
    val               row, x[DOT_MAX_SUMS]; /* row: the first one, in a step the one it is of */
    activation_layout layout;
} dot;

/* A way to multiply. `step` adds the products of `length` weights, from element `at` (i64) of the row on, to
   one accumulator for each token, acc[0 … n_tokens - 1]. */
typedef struct dot_kind {
    uint32_t n_accumulators; /* enough to hide the latency of an addition */
    bool     chained;        /* of EMIT_CHAINS lanes each adds up every EMIT_CHAINS-th block, from d->chain on */
    uint32_t (*length)(const isa *target, enum quant_type weight);
    uint32_t (*width)(const isa *target, uint32_t length); /* f32 values in the accumulator for such a step */
    void (*step)(const dot *d, val at, uint32_t length, val *acc);
} dot_kind;

/* Rows of k weights of that type. */
const dot_kind *emit_dot_kind(const emit *e, enum quant_type weight, uint64_t k);

#endif
