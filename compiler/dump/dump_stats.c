/* Counting values and scales.
 *
 * Scales are counted by bit pattern, so that quantiles of any number of them are exact. A pattern
 * without its sign is the key: keys are in the order of magnitudes for f16 and for both 8-bit
 * kinds, once ue4m3's 0x7f, which ggml reads as zero, is counted as 0. */
#include "dump_facts.h"

#include <math.h>

const uint32_t dump_permille[DUMP_QUANTILES] = { 1, 10, 500, 990, 999 };

enum { CHUNK = 4096, N_KEYS = 0x8000 };

static const double suspicious_factor = 16;

/* ---- values */

typedef struct moments {
    dump_values v;
    double      squares; /* of the distances from the mean */
} moments;

/* The type's f32 values; f64 and wide integers are not rounded to f32. */
static void read_chunk(uint32_t type, const uint8_t *from, uint32_t n, double *out) {
    const quant_info  *q = quant_find(type);
    const quant_field *f = &q->fields[0];
    float              values[CHUNK];
    if (f->kind == QUANT_FIELD_F64 || f->kind == QUANT_FIELD_I32 || f->kind == QUANT_FIELD_I64) {
        for (uint32_t i = 0; i < n; i++, from += q->block_bytes)
            out[i] = quant_field_number(f->kind, quant_field_bits(f, from, 0));
        return;
    }
    quant_read(type, from, n, NULL, values);
    for (uint32_t i = 0; i < n; i++) out[i] = (double)values[i];
}

/* Moves the finite values to the front and counts the others. */
static uint32_t drop_strange(double *x, uint32_t n, dump_values *v) {
    uint32_t finite = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (isfinite(x[i])) {
            x[finite++] = x[i];
            continue;
        }
        v->n_nan += isnan(x[i]) != 0;
        v->n_infinite += isinf(x[i]) != 0;
    }
    return finite;
}

/* Adds values by merging mean and squares of two sets (Chan, Golub and LeVeque 1983), which loses
   nothing where the mean is far from zero. */
static void add_values(moments *m, double *x, uint32_t n) {
    dump_values *v = &m->v;
    double       sum = 0, squares = 0;
    v->n += n;
    n = drop_strange(x, n, v);
    if (!n) return;
    for (uint32_t i = 0; i < n; i++) {
        sum += x[i];
        v->n_zero += x[i] == 0;
        if (!(v->min <= x[i])) v->min = x[i];
        if (!(v->max >= x[i])) v->max = x[i];
    }
    const double mean = sum / n, distance = mean - v->mean;
    for (uint32_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    const double before = (double)v->n_finite, all = before + n;
    v->mean += distance * (n / all);
    m->squares += squares + distance * distance * (before / all) * n;
    v->n_finite += n;
}

static dump_values count_values(uint32_t type, const uint8_t *from, uint64_t n) {
    moments m = { .v = { .min = (double)NAN, .max = (double)NAN } };
    double  x[CHUNK];
    while (n) {
        uint32_t now = n < CHUNK ? (uint32_t)n : CHUNK;
        read_chunk(type, from, now, x);
        add_values(&m, x, now);
        from += quant_row_bytes(type, now);
        n -= now;
    }
    dump_values *v = &m.v;
    v->std = sqrt(m.squares / (double)v->n_finite);
    v->rms = sqrt(m.squares / (double)v->n_finite + v->mean * v->mean);
    if (!v->n_finite) v->mean = v->rms = v->std = (double)NAN;
    return *v;
}

/* ---- scales */

typedef struct tally {
    uint64_t n_negative; /* but for -0 and NaN */
    uint64_t count[N_KEYS];
} tally;

static uint32_t key_of(enum quant_field_kind kind, uint64_t bits) {
    if (kind == QUANT_FIELD_F16) return bits & 0x7fff;
    if (kind == QUANT_FIELD_E8M0) return bits & 0xff;
    return bits == 0x7f ? 0 : bits & 0x7f;
}

/* Of ue4m3's key 0x7f the other pattern is meant, 0xff. */
static double magnitude(enum quant_field_kind kind, uint32_t key) {
    return quant_field_number(kind, kind == QUANT_FIELD_UE4M3 ? key | 0x80 : key);
}

static bool is_negative(enum quant_field_kind kind, uint64_t bits) {
    return kind == QUANT_FIELD_F16 && bits > 0x8000 && bits <= 0xfc00;
}

static bool is_subnormal(enum quant_field_kind kind, uint32_t key) {
    return kind == QUANT_FIELD_F16 && key > 0 && key < 0x400;
}

static void add_scales(tally *t, const quant_info *q, const quant_field *f, const uint8_t *from,
                       uint64_t n_blocks) {
    for (; n_blocks; n_blocks--, from += q->block_bytes)
        for (uint32_t i = 0; i < f->count; i++) {
            uint64_t bits = quant_field_bits(f, from, i);
            t->count[key_of(f->kind, bits)]++;
            t->n_negative += is_negative(f->kind, bits);
        }
}

/* The `rank`th smallest finite magnitude, counted from 1. */
static double find_rank(const tally *t, enum quant_field_kind kind, uint64_t rank) {
    uint64_t seen = 0;
    for (uint32_t k = 0; k < N_KEYS; k++)
        if (t->count[k] && isfinite(magnitude(kind, k)) && (seen += t->count[k]) >= rank)
            return magnitude(kind, k);
    return (double)NAN;
}

static uint64_t rank_of(uint64_t n, uint32_t permille) {
    return n / 1000 * permille + (n % 1000 * permille + 999) / 1000;
}

static dump_scales summarize(const tally *t, enum quant_field_kind kind) {
    dump_scales s = { .n_negative = t->n_negative };
    for (uint32_t k = 0; k < N_KEYS; k++) {
        if (!t->count[k]) continue;
        const double size = magnitude(kind, k);
        s.n += t->count[k];
        if (isfinite(size)) s.n_finite += t->count[k];
        if (isnan(size)) s.n_nan += t->count[k];
        if (isinf(size)) s.n_infinite += t->count[k];
        if (size == 0) s.n_zero += t->count[k];
        if (is_subnormal(kind, k)) s.n_subnormal += t->count[k];
    }
    s.min = find_rank(t, kind, 1);
    s.median = find_rank(t, kind, rank_of(s.n_finite, 500));
    s.max = find_rank(t, kind, s.n_finite);
    return s;
}

/* ---- what is usual */

static bool suspicious(double size, double limit) {
    return !isfinite(size) || size > limit;
}

/* Counts the scales for which the magnitude is within (above, below), both excluded. */
static uint64_t count_between(const tally *t, enum quant_field_kind kind, double above,
                              double below) {
    uint64_t n = 0;
    for (uint32_t k = 0; k < N_KEYS; k++) {
        const double size = t->count[k] ? magnitude(kind, k) : (double)NAN;
        if (size > above && size < below) n += t->count[k];
    }
    return n;
}

static uint64_t count_suspicious(const tally *t, enum quant_field_kind kind, double limit) {
    uint64_t n = 0;
    for (uint32_t k = 0; k < N_KEYS; k++)
        if (t->count[k] && suspicious(magnitude(kind, k), limit)) n += t->count[k];
    return n;
}

/* See dump.h. Where nearly all scales are zero there is nothing to compare with. */
static double find_limit(const tally *t, enum quant_field_kind kind, uint64_t n) {
    uint64_t rank = rank_of(n, 999);
    if (rank >= n) rank = n - 1;
    const double usual = n > 1 ? find_rank(t, kind, rank) : 0;
    return usual > 0 ? suspicious_factor * usual : (double)INFINITY;
}

static void find_places(dump_facts *facts) {
    const quant_field *f = facts->scale;
    dump_usual        *u = &facts->usual;
    const uint8_t     *from = facts->file->data + facts->tensor->offset;
    uint64_t           n_blocks = facts->n_rows * facts->row_blocks;
    for (uint64_t b = 0; b < n_blocks && u->n_places < DUMP_PLACES; b++)
        for (uint32_t i = 0; i < f->count && u->n_places < DUMP_PLACES; i++) {
            uint64_t bits = quant_field_bits(f, from + b * facts->type->block_bytes, i);
            if (!suspicious(magnitude(f->kind, key_of(f->kind, bits)), u->limit)) continue;
            u->places[u->n_places++] = (dump_place){ .row = b / facts->row_blocks,
                                                     .block = b % facts->row_blocks,
                                                     .element = i,
                                                     .bits = bits };
        }
}

static void add_file(tally *t, const dump_facts *facts, uint64_t *n_tensors) {
    const gguf_file *file = facts->file;
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const gguf_tensor *other = &file->tensors[i];
        if (other->type != facts->tensor->type) continue;
        add_scales(t, facts->type, facts->scale, file->data + other->offset,
                   other->bytes / facts->type->block_bytes);
        ++*n_tensors;
    }
}

static double share_below(const tally *t, enum quant_field_kind kind, uint64_t n, double size) {
    return (double)count_between(t, kind, -1, size) / (double)n;
}

static void find_usual(dump_facts *facts, const tally *tensor, const tally *file) {
    const enum quant_field_kind kind = facts->scale->kind;
    const dump_scales          *here = &facts->tensor_scales;
    dump_usual                 *u = &facts->usual;
    u->all = summarize(file, kind);
    const uint64_t n = u->all.n_finite;
    for (int i = 0; i < DUMP_QUANTILES; i++)
        u->quantile[i] = find_rank(file, kind, rank_of(n, dump_permille[i]));
    u->limit = find_limit(file, kind, n);
    u->n_suspicious = count_suspicious(file, kind, u->limit);
    u->share_min = share_below(file, kind, n, here->min);
    u->share_median = share_below(file, kind, n, here->median);
    u->share_max = share_below(file, kind, n, here->max);
    u->n_below = count_between(tensor, kind, -1, u->quantile[0]);
    u->n_above = count_between(tensor, kind, u->quantile[DUMP_QUANTILES - 1], (double)INFINITY);
    u->n_suspicious_here = count_suspicious(tensor, kind, u->limit);
    if (u->n_suspicious_here) find_places(facts);
}

/* A tally has a counter for each f16: an f32 scale (Q8_K, which no model is stored in) has none. */
static const quant_field *find_countable_scale(uint32_t type) {
    const quant_field *f = quant_find_scale(type);
    return f && f->kind != QUANT_FIELD_F32 ? f : NULL;
}

void dump_count(arena *a, dump_facts *facts) {
    const gguf_tensor *t = facts->tensor;
    const uint8_t     *data = facts->file->data + t->offset;
    const uint64_t     row_values = t->dims[0];
    facts->row_values = count_values(t->type, dump_block(facts, 0), row_values);
    facts->tensor_values = count_values(t->type, data, row_values * facts->n_rows);
    facts->scale = find_countable_scale(t->type);
    if (!facts->scale) return;
    tally *row = ARENA_NEW(a, tally), *tensor = ARENA_NEW(a, tally), *file = ARENA_NEW(a, tally);
    add_scales(row, facts->type, facts->scale, dump_block(facts, 0), facts->row_blocks);
    add_scales(tensor, facts->type, facts->scale, data, facts->n_rows * facts->row_blocks);
    add_file(file, facts, &facts->usual.n_tensors);
    facts->row_scales = summarize(row, facts->scale->kind);
    facts->tensor_scales = summarize(tensor, facts->scale->kind);
    find_usual(facts, tensor, file);
}
