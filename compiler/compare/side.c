#include "side.h"

#include "session.h"

#include <math.h>
#include <string.h>

#define ENOUGH 256 /* numbers, to tell by them what an engine computes with */

/* ---- values of a batch */

static uint64_t op_values(const side *s, uint32_t at) {
    return value_count(s->g->ops[at]->out);
}

static void make_room(side *s, arena *a) {
    s->values = ARENA_ARRAY(a, float *, s->g->n_ops);
    for (uint32_t i = 0; i < s->g->n_ops; i++)
        s->values[i] = ARENA_ARRAY(a, float, op_values(s, i) * s->n_batch);
}

static void keep(side *s, uint32_t at, uint32_t token, const float *row) {
    uint64_t n = op_values(s, at);
    memcpy(s->values[at] + (token - s->first) * n, row, n * sizeof *row);
}

static const void *row_at(const void *rows, uint32_t i, uint64_t stride) {
    return (const uint8_t *)rows + i * stride;
}

/* ---- models */

static bool open_session(side *s, diag *d, const ggufc_model *model, uint32_t n_threads) {
    s->model = *model;
    ggufc_session_options options = { .model = &s->model, .n_threads = n_threads };
    ggufc_error error;
    if (ggufc_session_open(&s->session, &options, &error) == GGUFC_OK) return true;
    return diag_error(d, "%s: %s", s->name, error.text);
}

static uint32_t find_op(const graph *g, const char *name) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (!strcmp(g->ops[i]->out->name, name)) return i + 1;
    return 0;
}

static bool match_activations(side *s, arena *a, diag *d, const ggufc_model *model) {
    s->ops = ARENA_ARRAY(a, uint32_t, model->n_activations);
    s->made = ARENA_ARRAY(a, bool, s->g->n_ops);
    for (uint64_t i = 0; i < model->n_activations; i++) {
        const ggufc_activation *made = &model->activations[i];
        uint64_t n = made->ne[0] * made->ne[1] * made->ne[2];
        s->ops[i] = find_op(s->g, made->name);
        if (s->ops[i]) s->made[s->ops[i] - 1] = true;
        if (s->ops[i] && op_values(s, s->ops[i] - 1) != n)
            return diag_error(d, "%s: %s has %llu values a token, in the other model it has %llu", s->name,
                              made->name, (unsigned long long)n,
                              (unsigned long long)op_values(s, s->ops[i] - 1));
    }
    return true;
}

bool side_open_model(side *s, arena *a, diag *d, const graph *g, const ggufc_model *model,
                     uint32_t n_threads) {
    s->g = g;
    s->n_batch = model->n_batch;
    if (!match_activations(s, a, d, model)) return false;
    make_room(s, a);
    return open_session(s, d, model, n_threads);
}

bool side_open_forced(side *s, arena *a, diag *d, const graph *g, const ggufc_model *model,
                      uint32_t n_threads, const side *by) {
    s->forced_by = by;
    s->op_by_value = ARENA_ARRAY(a, uint32_t, g->n_values);
    for (uint32_t i = 0; i < g->n_ops; i++) s->op_by_value[g->ops[i]->out->id] = i + 1;
    return side_open_model(s, a, d, g, model, n_threads);
}

static int keep_activation(void *context, uint32_t activation, uint32_t position, uint32_t count,
                           const float *values, uint64_t stride) {
    side    *s = context;
    uint32_t at = s->ops[activation];
    for (uint32_t i = 0; at && i < count; i++) keep(s, at - 1, position + i, row_at(values, i, stride));
    return 0;
}

/* Between -0.5 and 0.5, always the same for an index. */
static double random_half(uint64_t index) {
    index = (index + 1) * 0x9e3779b97f4a7c15u;
    index = (index ^ index >> 31) * 0xbf58476d1ce4e5b9u;
    return (double)(index >> 11) * 0x1p-53 - 0.5;
}

static void unround(const side *s, uint32_t at, uint32_t token, float *values) {
    const recorded_value *v = s->forced_by->recorded[at];
    for (uint64_t i = 0; i < v->n; i++)
        values[i] += (float)(random_half(token * v->n + i) * recording_step(&v->precision, values[i]));
}

/* The value that the call made is kept, then replaced. */
static int force_value(void *context, const ggufc_call *call, uint32_t position, uint32_t count,
                       uint8_t *arena_bytes) {
    side     *s = context;
    const op *made = interp_call_op(call);
    if (!made) return 0;
    uint32_t at = s->op_by_value[made->out->id] - 1;
    uint64_t bytes = op_values(s, at) * sizeof(float);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = made->head ? 0 : position + i - s->first;
        uint8_t *values = arena_bytes + interp_call_offset(call) + row * interp_call_stride(call);
        keep(s, at, position + i, (const float *)(const void *)values);
        const float *other = side_full_row(s->forced_by, at, position + i);
        if (other) memcpy(values, other, bytes);
        if (other && s->unrounded) unround(s, at, position + i, (float *)(void *)values);
    }
    return 0;
}

static bool evaluate_model(side *s, diag *d, const int32_t *tokens) {
    ggufc_error error;
    if (s->first == 0) ggufc_session_truncate(s->session, 0, &error);
    ggufc_status status =
        s->forced_by ? session_evaluate_calls(s->session, tokens + s->first, s->count, force_value, s, &error)
                     : ggufc_session_trace(s->session, tokens + s->first, s->count, keep_activation, s, &error);
    return status == GGUFC_OK || diag_error(d, "%s: %s", s->name, error.text);
}

/* ---- recordings */

/* An engine whose activations are f16 or bf16 is told by its numbers: all of them, but for embeddings,
   which the weights make so. */
static int find_bits(const side *s) {
    static const int bits[] = { 8, 11 };
    for (size_t b = 0; b < ARRAY_LEN(bits); b++) {
        uint64_t n = 0;
        bool     fits = true;
        for (uint32_t i = 0; i < s->g->n_ops && fits; i++) {
            if (!s->recorded[i] || s->g->ops[i]->kind == OP_GET_ROWS) continue;
            fits = recording_fits(s->recorded[i], bits[b], &n);
        }
        if (fits && n >= ENOUGH) return bits[b];
    }
    return 0;
}

/* Rounding that is less than that of a result to f32 is none. */
static bool is_rounded(const recorded_value *v) {
    for (uint32_t c = 0; (v->precision.n_digits || v->precision.n_bits) && c < v->n_columns; c++) {
        double lost = 0, square = 0;
        for (uint64_t i = 0; i < v->n; i++) {
            float  x = v->columns[c].data[i];
            double step = recording_step(&v->precision, x);
            lost += step * step / 12;
            square += (double)x * (double)x;
        }
        if (lost > 0x1p-48 * square) return true;
    }
    return false;
}

/* Which tokens columns are of is only known with the number of tokens. */
static bool check_columns(const side *s, diag *d, const recorded_value *v) {
    int64_t first = v->columns[0].token, last = v->columns[v->n_columns - 1].token;
    if (last < (int64_t)s->n_tokens && first >= -(int64_t)s->n_tokens) return true;
    return diag_error(d, "%s: %s is of %lld tokens or more, but there are %u", v->source, v->name,
                      (long long)(first < 0 ? -first : last + 1), s->n_tokens);
}

static void find_foreign(side *s) {
    for (uint32_t i = 0; i < s->recording->n_values; i++)
        if (!find_op(s->g, s->recording->values[i].name) && !s->n_foreign++)
            s->foreign = s->recording->values[i].name;
}

bool side_open_recording(side *s, arena *a, diag *d, const graph *g, recording *r, uint32_t n_tokens) {
    s->g = g;
    s->recording = r;
    s->n_batch = s->n_tokens = n_tokens;
    s->recorded = ARENA_ARRAY(a, recorded_value *, g->n_ops);
    for (uint32_t i = 0; i < g->n_ops; i++) {
        recorded_value *v = s->recorded[i] = recording_find(r, g->ops[i]->out->name);
        uint64_t n = op_values(s, i);
        if (!v) continue;
        if (!recording_split(a, d, v, n)) return false;
        if (v->n > n)
            return diag_error(d, "%s: %s has %llu values a token, in the model it has %llu", v->source,
                              v->name, (unsigned long long)v->n, (unsigned long long)n);
        if (!check_columns(s, d, v)) return false;
    }
    s->n_bits = find_bits(s);
    for (uint32_t i = 0; i < g->n_ops; i++) {
        if (!s->recorded[i]) continue;
        s->recorded[i]->precision.n_bits = s->n_bits;
        s->rounded = s->rounded || is_rounded(s->recorded[i]);
    }
    find_foreign(s);
    return true;
}

/* ---- both */

bool side_evaluate(side *s, diag *d, const int32_t *tokens, uint32_t first, uint32_t count) {
    if (s->count && s->first == first && s->count == count) return true; /* they are there */
    s->first = first;
    s->count = count;
    return s->recording || evaluate_model(s, d, tokens);
}

const float *side_row(const side *s, uint32_t at, uint32_t token, uint64_t *n) {
    if (s->recording) {
        const recorded_value *v = s->recorded[at];
        *n = v ? v->n : 0;
        return v ? recording_row(v, token, s->n_tokens) : NULL;
    }
    *n = op_values(s, at);
    if (!s->made[at]) return NULL;
    if (token < s->first || token >= s->first + s->count) bug("token %u is not there", token);
    return s->values[at] + (token - s->first) * *n;
}

const float *side_full_row(const side *s, uint32_t at, uint32_t token) {
    uint64_t     n;
    const float *row = side_row(s, at, token, &n);
    return row && n == op_values(s, at) ? row : NULL;
}

bool side_has(const side *s, uint32_t at, uint32_t token) {
    if (!s->recording) return s->made[at];
    return side_full_row(s, at, token) != NULL;
}

double side_rounding(const side *s, uint32_t at, uint32_t token) {
    uint64_t     n = 0;
    const float *row = s->rounded ? side_row(s, at, token, &n) : NULL;
    double       lost = 0;
    for (uint64_t i = 0; row && i < n; i++) {
        double step = recording_step(&s->recorded[at]->precision, row[i]);
        lost += step * step / 12;
    }
    return row ? sqrt(lost / (double)n) : 0;
}

void side_close(side *s) {
    ggufc_session_close(s->session);
    s->session = NULL;
}
