/* Attention of one head of one token, over a cache [kv head][position][head_dim].
 *
 * Positions are taken in chunks with a running softmax, so that nothing of the context's length is
 * stored. Faithful: f16 cache, f32 sums. Reference: f32 cache, f64 sums and exponentials. The
 * arithmetic differs in every line, so there is a loop for each. */
#include "interp_call.h"

#include <math.h>
#include <string.h>

#define CHUNK    64
#define LANES    16
#define MAX_HEAD 1024 /* values; the driver refuses more */

/* ---- the cache */

static uint64_t cache_at(const interp_call *c, uint64_t kv_head, uint64_t position) {
    return (kv_head * c->n_ctx + position) * c->o->params.head_dim;
}

static void store_row(const ggufc_state *s, const interp_call *c, const float *x, uint64_t cache,
                      uint64_t position) {
    uint64_t d = c->o->params.head_dim, heads = value_count(c->o->in[1]) / d;
    for (uint64_t h = 0; h < heads; h++, x += d) {
        if (c->reference) {
            float *to = (float *)(void *)(s->kv + cache) + cache_at(c, h, position);
            memcpy(to, x, d * sizeof *x);
            continue;
        }
        uint16_t *to = (uint16_t *)(void *)(s->kv + cache) + cache_at(c, h, position);
        for (uint64_t i = 0; i < d; i++) to[i] = quant_f32_to_f16(x[i]);
    }
}

void interp_store_kv(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    for (uint32_t t = begin; t < end; t++) {
        store_row(s, c, interp_in(s, c, 1, t), c->cache_k, s->pos + t);
        store_row(s, c, interp_in(s, c, 2, t), c->cache_v, s->pos + t);
    }
}

/* ---- one head */

typedef struct head {
    const float *q;
    const void  *k, *v; /* of position 0 */
    uint64_t     d, n;  /* values, positions seen */
    double       scale;
    float       *out;
} head;

static void attend_reference(const head *h) {
    const float *k = h->k, *v = h->v;
    double sums[MAX_HEAD] = { 0 }, scores[CHUNK], most = -INFINITY, total = 0;
    for (uint64_t first = 0; first < h->n; first += CHUNK) {
        uint64_t count = h->n - first < CHUNK ? h->n - first : CHUNK;
        double before = most;
        for (uint64_t j = 0; j < count; j++) {
            scores[j] = h->scale * interp_product_f64(h->q, k + (first + j) * h->d, h->d);
            most = fmax(most, scores[j]);
        }
        double shrink = exp(before - most);
        total *= shrink;
        for (uint64_t i = 0; i < h->d; i++) sums[i] *= shrink;
        for (uint64_t j = 0; j < count; j++) {
            double w = exp(scores[j] - most);
            const float *row = v + (first + j) * h->d;
            total += w;
            for (uint64_t i = 0; i < h->d; i++) sums[i] += w * (double)row[i];
        }
    }
    for (uint64_t i = 0; i < h->d; i++) h->out[i] = h->n ? (float)(sums[i] / total) : 0;
}

static float dot_f32(const float *a, const float *b, uint64_t n) {
    float lanes[LANES] = { 0 }, sum = 0;
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (uint64_t j = 0; j < LANES; j++) lanes[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum += a[i] * b[i];
    for (uint64_t j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

static void read_f16(const uint16_t *from, uint64_t n, float *to) {
    quant_read(QUANT_F16, (const uint8_t *)from, n, NULL, to);
}

static void attend_faithful(const head *h) {
    const uint16_t *k = h->k, *v = h->v;
    float sums[MAX_HEAD] = { 0 }, row[MAX_HEAD], scores[CHUNK], most = -INFINITY, total = 0;
    for (uint64_t first = 0; first < h->n; first += CHUNK) {
        uint64_t count = h->n - first < CHUNK ? h->n - first : CHUNK;
        float before = most;
        for (uint64_t j = 0; j < count; j++) {
            read_f16(k + (first + j) * h->d, h->d, row);
            scores[j] = (float)h->scale * dot_f32(h->q, row, h->d);
            most = fmaxf(most, scores[j]);
        }
        float shrink = expf(before - most);
        total *= shrink;
        for (uint64_t i = 0; i < h->d; i++) sums[i] *= shrink;
        for (uint64_t j = 0; j < count; j++) {
            float w = expf(scores[j] - most);
            read_f16(v + (first + j) * h->d, h->d, row);
            total += w;
            for (uint64_t i = 0; i < h->d; i++) sums[i] += w * row[i];
        }
    }
    for (uint64_t i = 0; i < h->d; i++) h->out[i] = h->n ? sums[i] / total : 0;
}

/* ---- the kernel */

/* How many positions token t sees. More than its own only as far as the batch has them. */
static uint64_t positions_seen(const ggufc_state *s, const interp_call *c, uint32_t t) {
    int64_t seen = (int64_t)s->pos + t + 1 + (c->mistake ? c->mistake->mask_shift : 0);
    int64_t there = (int64_t)s->pos + s->n_tokens;
    return (uint64_t)(seen < there ? seen : there);
}

static uint32_t kv_head_of(const interp_call *c, uint32_t h, uint32_t n_heads, uint32_t n_kv) {
    return c->mistake && c->mistake->heads_by_modulo ? h % n_kv : h / (n_heads / n_kv);
}

void interp_attention(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const interp_call *c = interp_args(args);
    uint64_t d = c->o->params.head_dim, size = c->reference ? sizeof(float) : sizeof(uint16_t);
    uint32_t n_heads = (uint32_t)(value_count(c->o->in[0]) / d);
    uint32_t n_kv = (uint32_t)(value_count(c->o->in[1]) / d);
    bool     scaled = !(c->mistake && c->mistake->no_attn_scale);
    for (uint32_t unit = begin; unit < end; unit++) {
        uint32_t t = unit / n_heads, h = unit % n_heads;
        uint64_t at = cache_at(c, kv_head_of(c, h, n_heads, n_kv), 0) * size;
        head one = {
            .q = interp_in(s, c, 0, t) + h * d,
            .k = s->kv + c->cache_k + at,
            .v = s->kv + c->cache_v + at,
            .d = d,
            .n = positions_seen(s, c, t),
            .scale = scaled ? (double)c->o->params.attn_scale : 1,
            .out = interp_out(s, c, t) + h * d,
        };
        if (c->reference)
            attend_reference(&one);
        else
            attend_faithful(&one);
    }
}
