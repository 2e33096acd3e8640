/* Matrix products. A unit is INTERP_UNIT_ROWS rows of the weight, for all tokens.
 *
 * Where a type has blocks and the arithmetic is faithful, a row is multiplied with each token's
 * quantized activations (interp_dot.c). Everything else (reference arithmetic, plain numbers as F16,
 * weights read in a mistaken way) goes by tiles: a piece of the unit's rows as f32, multiplied with the
 * same piece of every token's x, summed in f64, or in f32 for faithful arithmetic without a mistake. */
#include "interp_call.h"

#include <string.h>

enum { ROWS = INTERP_UNIT_ROWS, PIECE = 256, TOKENS = 32 };

void interp_quantize(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    const interp_activation *form = interp_activation_find(quant_find(c->in[0].v->type)->activation);
    for (uint32_t t = begin; t < end; t++)
        form->store(interp_in(s, c, 1, t), c->in[0].v->ne[0], interp_row(s, c, &c->scratch, t));
}

/* ---- by blocks */

static void multiply_blocks(const ggufc_state *s, const interp_call *c, interp_dot *dot, uint64_t first,
                            uint64_t n) {
    const value   *weight = c->in[0].v;
    const uint32_t n_tokens = interp_tokens(s, c);
    for (uint32_t t = 0; t < n_tokens; t += TOKENS) {
        const interp_rows x = {interp_row(s, c, &c->scratch, t), c->scratch.stride,
                               n_tokens - t < TOKENS ? n_tokens - t : TOKENS};
        for (uint64_t r = first; r < first + n; r++) {
            float sums[TOKENS] = {0};
            dot(weight->type, interp_weight(s, c, 0) + r * c->in[0].stride, weight->ne[0], &x, sums);
            for (uint32_t i = 0; i < x.count; i++) interp_out(s, c, t + i)[r] = sums[i];
        }
    }
}

/* ---- by tiles */

typedef struct tile {
    const ggufc_state *s;
    const interp_call *c;
    const value   *weight; /* the right one, or a sibling */
    const uint8_t *data;
    const interp_activation *form; /* of x in the scratch; NULL: x as it is */
    uint64_t k, m;
    uint64_t first, n; /* rows */
    float    w[ROWS][PIECE];
    float    x[PIECE];
    double   sums[TOKENS][ROWS];
} tile;

/* Elements [at, at + n) of the weight as if it were one row, at any place in a block. */
static void read_run(const tile *t, uint64_t at, uint64_t n, float *to) {
    uint32_t block = quant_find(t->weight->type)->block_len;
    uint64_t first = at / block * block, last = round_up(at + n, block);
    float    values[2 * PIECE + ROWS];
    quant_read(t->weight->type, t->data + quant_row_bytes(t->weight->type, first), last - first, NULL,
               values);
    memcpy(to, values + (at - first), n * sizeof *to);
}

/* Row r's element i is element r + i · m: neighbours are of neighbouring rows. */
static void read_transposed(tile *t, uint64_t at, uint64_t n) {
    float column[ROWS];
    for (uint64_t i = 0; i < n; i++) {
        read_run(t, (at + i) * t->m + t->first, t->n, column);
        for (uint64_t r = 0; r < t->n; r++) t->w[r][i] = column[r];
    }
}

static void read_piece(tile *t, uint64_t at, uint64_t n) {
    const mistake *m = t->c->mistake;
    if (m && m->transposed) {
        read_transposed(t, at, n);
        return;
    }
    uint64_t row_bytes = quant_row_bytes(t->weight->type, t->k);
    for (uint64_t r = 0; r < t->n; r++) {
        const uint8_t *row = t->data + (t->first + r) * row_bytes;
        quant_read(t->weight->type, row + quant_row_bytes(t->weight->type, at), n,
                   m ? &m->reading : NULL, t->w[r]);
    }
}

static const float *activations(tile *t, uint32_t token, uint64_t at, uint64_t n) {
    if (!t->form) return interp_in(t->s, t->c, 1, token) + at;
    const uint8_t *row = interp_row(t->s, t->c, &t->c->scratch, token);
    t->form->load(row + at / t->form->block_len * t->form->block_bytes, n, t->x);
    return t->x;
}

/* Two chains of 16: enough for the latency of an addition. */
static float dot_f32(const float *a, const float *b, uint64_t n) {
    enum { WIDE = 32 };
    float    lanes[WIDE] = { 0 }, sum = 0;
    uint64_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        for (uint64_t j = 0; j < WIDE; j++) lanes[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum += a[i] * b[i];
    for (uint64_t j = 0; j < WIDE; j++) sum += lanes[j];
    return sum;
}

static void multiply_piece(tile *t, uint32_t token, uint32_t n_tokens, uint64_t at, uint64_t n) {
    bool exact = t->c->reference || t->c->mistake;
    for (uint32_t i = 0; i < n_tokens; i++) {
        const float *x = activations(t, token + i, at, n);
        for (uint64_t r = 0; r < t->n; r++)
            t->sums[i][r] += exact ? interp_product_f64(t->w[r], x, n) : (double)dot_f32(t->w[r], x, n);
    }
}

static void multiply_tokens(tile *t, uint32_t token, uint32_t n_tokens) {
    memset(t->sums, 0, sizeof t->sums);
    for (uint64_t at = 0; at < t->k; at += PIECE) {
        uint64_t n = t->k - at < PIECE ? t->k - at : PIECE;
        read_piece(t, at, n);
        multiply_piece(t, token, n_tokens, at, n);
    }
    for (uint32_t i = 0; i < n_tokens; i++) {
        float *out = interp_out(t->s, t->c, token + i) + t->first;
        for (uint64_t r = 0; r < t->n; r++) out[r] = (float)t->sums[i][r];
    }
}

static void multiply_tiles(const ggufc_state *s, const interp_call *c, uint64_t first, uint64_t n) {
    const value *weight = c->in[0].v;
    if (c->mistake && c->mistake->sibling) weight = mistake_sibling(c->g, c->o, c->mistake->sibling);
    tile t = {
        .s = s, .c = c, .weight = weight, .data = s->weights + weight->tensor->offset,
        .form = c->reference ? NULL : interp_activation_find(quant_find(c->in[0].v->type)->activation),
        .k = weight->ne[0], .m = weight->ne[1], .first = first, .n = n,
    };
    uint32_t n_tokens = interp_tokens(s, c);
    for (uint32_t token = 0; token < n_tokens; token += TOKENS)
        multiply_tokens(&t, token, n_tokens - token < TOKENS ? n_tokens - token : TOKENS);
}

/* ---- the kernel */

void interp_matmul(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    interp_dot *dot = c->reference || c->mistake ? NULL : interp_dot_find(c->in[0].v->type);
    uint64_t first = (uint64_t)begin * ROWS, last = (uint64_t)end * ROWS, m = c->in[0].v->ne[1];
    if (last > m) last = m;
    if (dot) {
        multiply_blocks(s, c, dot, first, last - first);
        return;
    }
    for (; first < last; first += ROWS)
        multiply_tiles(s, c, first, last - first < ROWS ? last - first : ROWS);
}
