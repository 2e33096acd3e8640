/* interp_call.h - what the interpreter's kernels see of an op. Private to interp*.c. */
#ifndef GGUFC_INTERP_CALL_H
#define GGUFC_INTERP_CALL_H

#include "interp.h"

#define INTERP_UNIT_ROWS 16 /* of a matrix product's unit */

/* Where an operand is: in the arena, or a weight in the file. */
typedef struct interp_place {
    const value *v; /* NULL: absent */
    uint64_t     offset, stride;
    bool         one_row; /* made by the head: of state.out_token alone */
} interp_place;

/* What ggufc_call.args points to: the compiler and the kernels alone know that it is no offsets. */
typedef struct interp_call {
    const op     *o;
    const graph  *g;
    const mistake *mistake; /* NULL: done right */
    bool          reference;
    bool          makes_value;
    uint32_t      n_ctx;
    interp_place  in[OP_MAX_INPUTS], out;
    interp_place  scratch;      /* x quantized, for OP_MATMUL */
    uint64_t      cache_k, cache_v; /* in the key-value memory, for OP_ATTENTION */
} interp_call;

static inline const interp_call *interp_args(const uint64_t *args) {
    return (const interp_call *)(const void *)args;
}

/* The token that unit `token` of a call is about: a head's calls are about one. */
static inline uint32_t interp_token(const ggufc_state *s, const interp_call *c, uint32_t token) {
    return c->o->head ? s->out_token : token;
}

/* How many tokens a call is about. */
static inline uint32_t interp_tokens(const ggufc_state *s, const interp_call *c) {
    return c->o->head ? 1 : s->n_tokens;
}

static inline void *interp_row(const ggufc_state *s, const interp_call *c, const interp_place *p,
                               uint32_t token) {
    uint64_t row = p->one_row ? 0 : interp_token(s, c, token);
    return s->arena + p->offset + row * p->stride;
}

static inline const float *interp_in(const ggufc_state *s, const interp_call *c, uint32_t k,
                                     uint32_t token) {
    return interp_row(s, c, &c->in[k], token);
}

static inline float *interp_out(const ggufc_state *s, const interp_call *c, uint32_t token) {
    return interp_row(s, c, &c->out, token);
}

static inline const uint8_t *interp_weight(const ggufc_state *s, const interp_call *c, uint32_t k) {
    return s->weights + c->in[k].offset;
}

/* ---- interp_activation.c: activations as weights of a type want them */

/* How x is stored before it is multiplied with weights of a type. */
typedef struct interp_activation {
    uint32_t block_len, block_bytes;
    void (*store)(const float *x, uint64_t n, void *to); /* n whole blocks */
    void (*load)(const void *from, uint64_t n, float *x);
} interp_activation;

/* NULL for F32: x is used as it is. */
const interp_activation *interp_activation_find(enum quant_type type);

/* ---- interp_dot.c: their products */

/* Rows of activations in the form that a type wants, bytes apart. */
typedef struct interp_rows {
    const uint8_t *first;
    uint64_t       stride;
    uint32_t       count;
} interp_rows;

/* The products of n weights (whole blocks) with each row are added to `sums`, one a row, which are
   zero; NULL for types of plain numbers, which are multiplied as f32. */
typedef void interp_dot(uint32_t type, const uint8_t *weights, uint64_t n, const interp_rows *x, float *sums);
interp_dot *interp_dot_find(uint32_t weight_type);

/* Σ a · b in f64, in eight chains. */
static inline double interp_product_f64(const float *a, const float *b, uint64_t n) {
    enum { LANES = 8 };
    double   lanes[LANES] = { 0 }, sum = 0;
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (uint64_t j = 0; j < LANES; j++) lanes[j] += (double)a[i + j] * (double)b[i + j];
    for (; i < n; i++) sum += (double)a[i] * (double)b[i];
    for (uint64_t j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

/* ---- kernels */

ggufc_kernel interp_given;                                 /* interp.c */
ggufc_kernel interp_quantize;                              /* interp_matmul.c */
ggufc_kernel interp_matmul;
ggufc_kernel interp_store_kv, interp_attention;            /* interp_attention.c */
ggufc_kernel interp_get_rows, interp_rms_norm, interp_rope; /* interp_ops.c */
ggufc_kernel interp_add, interp_mul, interp_swiglu;

#endif
