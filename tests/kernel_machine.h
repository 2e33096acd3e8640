/* kernel_machine.h - a compiled model whose kernels are run one by one and compared with f64.
 *
 * A model is compiled for an ISA and planned again here, so that each call of the compiled model is
 * known by its op and by where its operands are. The calls are then run one by one, in two halves
 * and the later first; after each, what it wrote is compared with what f64 makes of its inputs as
 * they stand in memory, and everything else must be as it was. Memory begins as NaNs, the
 * key-value cache as random numbers of earlier positions. */
#ifndef GGUFC_TESTS_KERNEL_MACHINE_H
#define GGUFC_TESTS_KERNEL_MACHINE_H

#include "compiled_model.h"

#include "arch.h"
#include "odd_models.h"
#include "pass.h"
#include "plan.h"
#include "reference_graph.h"

enum { MAX_BATCH = 45, CTX = 261 };

/* Normalised mean square error of a row of f32: some hundred roundings of 2^-24; an exponential of large
   scores makes more of theirs. */
static const double most_nmse = 1e-11, most_nmse_attention = 1e-10;

typedef struct machine {
    const char  *name; /* of the model and ISA, for messages */
    arena       *memory;
    gguf_file   *file;
    graph       *graph;
    plan        *plan;
    const isa   *isa;
    const ggufc_model *model;
    ggufc_state  state;
    uint8_t     *arena, *kv;           /* as the model writes them */
    uint8_t     *arena_was, *kv_was;   /* before the call */
    int32_t      tokens[MAX_BATCH];
    double      *table[OP_MAX_INPUTS]; /* the op's weights as numbers */
    uint32_t     n_checked[OP_KIND_COUNT];
} machine;

/* ---- setting up */

static uint32_t random_u32(void) {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static const isa *isa_of(const ggufc_model *model) {
    const char *name = strrchr(model->target, ' ') + 1;
    for (const isa *const *row = isa_rows; *row; row++)
        if (!strcmp((*row)->name, name)) return *row;
    fail_msg("no ISA is called %s", name);
    return NULL;
}

static void *aligned(uint64_t bytes) {
    void *p = aligned_alloc(64, round_up(bytes + 64, 64));
    assert_non_null(p);
    return p;
}

static void ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

static graph *build_graph(machine *m, const odd_model *odd) {
    diag        d = {.sink = ignore}; /* the warnings of tensors that an odd template leaves out */
    size_t      size = strlen(odd->text);
    const char *text = *odd->text ? odd->text : arch_builtin("llama", &size);
    arch  *t = arch_parse(m->memory, &d, "odd.arch", text, size);
    graph *g = t ? arch_build(m->memory, &d, t, m->file) : NULL;
    assert_non_null(g);
    return g;
}

static void machine_open(machine *m, const odd_model *odd, const char *gguf) {
    diag d = {0};
    m->memory = arena_new();
    m->file = gguf_open(m->memory, &d, gguf);
    assert_non_null(m->file);
    m->isa = isa_of(m->model);
    m->graph = build_graph(m, odd);
    pass_resolve(m->graph);
    pass_fuse(m->graph, false);
    plan_options options = {.n_ctx = m->model->n_ctx, .n_batch = m->model->n_batch};
    m->plan = pass_plan(m->graph, m->isa, &options);
    assert_int_equal(m->plan->arena_bytes, m->model->arena_bytes);
    assert_int_equal(m->plan->kv_bytes, m->model->kv_bytes);
    assert_int_equal(m->plan->n_body, m->model->decode.count);
    assert_int_equal(m->plan->n_body, m->model->prefill.count);
    assert_int_equal(m->plan->n_head, m->model->head.count);
    m->arena = aligned(m->plan->arena_bytes);
    m->arena_was = aligned(m->plan->arena_bytes);
    m->kv = aligned(m->plan->kv_bytes);
    m->kv_was = aligned(m->plan->kv_bytes);
    memset(m->arena, 0xff, m->plan->arena_bytes);
    for (uint64_t i = 0; i + 1 < m->plan->kv_bytes; i += 2) { /* sign, 2^-7 … 2^0, fraction */
        uint32_t r = random_u32();
        uint16_t half = (uint16_t)((r & 0x83ff) | (8 + (r >> 16) % 8) << 10);
        memcpy(m->kv + i, &half, 2);
    }
}

static void machine_close(machine *m) {
    free(m->arena);
    free(m->arena_was);
    free(m->kv);
    free(m->kv_was);
    gguf_close(m->file);
    arena_free(m->memory);
}

/* ---- reading values */

/* The row that v has for token t. */
static uint32_t own_row(const machine *m, const value *v, uint32_t t) {
    bool one = v->producer->head || m->state.n_tokens == 1;
    return v->each && one ? m->state.thread % m->plan->n_batch : t;
}

/* The row of v that op o reads for token t. */
static uint32_t row_of(const machine *m, const op *o, const value *v, uint32_t t) {
    return o->head && !v->producer->head ? m->state.out_token : own_row(m, v, t);
}

static const uint8_t *activation_row(const uint8_t *arena_at, const value *v, uint32_t row) {
    return arena_at + v->offset + v->stride * row;
}

static void read_quantized(const machine *m, const value *v, const uint8_t *row, double *out) {
    uint64_t n = value_count(v);
    activation_layout l = isa_activation_layout(m->isa, v->type, n);
    uint32_t block = quant_find(v->type)->block_len;
    for (uint64_t i = 0; i < n; i++)
        out[i] = block > 1 ? (int8_t)row[i] * reference_f32(row + l.scales + i / block * 4)
                           : reference_f32(row + 4 * i);
}

/* Types of 256 values a block by what test_quant compares with llama.cpp bit by bit. */
static void read_weights(const machine *m, const value *v, double *x, uint64_t n) {
    const uint8_t *data = m->file->data + v->offset;
    if (quant_find(v->type)->block_len < 256) {
        for (uint64_t i = 0; i < n; i++) x[i] = reference_weight(v->type, data, i);
        return;
    }
    float *values = arena_array(m->memory, n, sizeof *values);
    quant_read(v->type, data, n, NULL, values);
    for (uint64_t i = 0; i < n; i++) x[i] = (double)values[i];
}

/* Input v of o for token t, as it was before the call; NULL for NULL. */
static double *read_input(const machine *m, const op *o, const value *v, uint32_t t) {
    if (!v) return NULL;
    uint64_t n = value_count(v);
    double  *x = arena_array(m->memory, n, sizeof *x);
    if (v->kind == VALUE_WEIGHT)
        read_weights(m, v, x, n);
    else
        read_quantized(m, v, activation_row(m->arena_was, v, row_of(m, o, v, t)), x);
    return x;
}

/* ---- ops: the result for token t, n values */

static void rotate(const op *o, const double *table, double *x, uint64_t n) {
    reference_rotate(x, n, table, o->params.head_dim, o->params.rope_dims,
                     o->params.rope_pairing == ROPE_HALVES);
}

static double *read_cache(const machine *m, const value *v, uint64_t head, uint64_t n) {
    uint64_t d = v->ne[0];
    const uint8_t *at = m->kv_was + v->offset + head * m->plan->n_ctx_padded * d * 2;
    double *x = arena_array(m->memory, n * d, sizeof *x);
    for (uint64_t i = 0; i < n * d; i++) x[i] = reference_half(reference_u16(at + 2 * i));
    return x;
}

static void attend(const machine *m, const op *o, uint32_t t, const double *q, double *out) {
    uint64_t d = o->params.head_dim, heads = value_count(o->in[0]) / d, n_kv = o->in[1]->ne[1];
    uint64_t n = m->state.pos + t + 1;
    for (uint64_t h = 0; h < heads; h++) {
        uint64_t kv_head = h / (heads / n_kv);
        reference_attend(q + h * d, read_cache(m, o->in[1], kv_head, n),
                         read_cache(m, o->in[2], kv_head, n), d, d, n,
                         (double)o->params.attn_scale, out + h * d);
    }
}

static void make_norm(const op *o, const double *x, const double *w, double *out) {
    uint64_t n = o->in[0]->ne[0];
    for (uint64_t i = 0; i < value_count(o->in[0]); i += n)
        reference_rms_norm(x + i, w, (double)o->params.eps, n, out + i);
}

static void make_rows(const machine *m, const op *o, uint32_t t, double *out) {
    uint64_t n = o->in[0]->ne[0];
    memcpy(out, m->table[0] + n * (uint32_t)m->tokens[t], n * sizeof *out);
}

/* Row by row the weights k of o times x, which is o's input `x_value` for token t. Minima multiply sums that
   Q8_1 has rounded to f16. */
static void multiply(const machine *m, const op *o, uint32_t k, const value *x_value, uint32_t t, const double *x,
                     uint64_t n, double *out) {
    const value      *w = o->in[k];
    const quant_info *info = quant_find(w->type);
    uint64_t          length = w->ne[0], blocks = length / info->block_len;
    reference_multiply(m->table[k], x, length, n, out);
    if (x_value->type != QUANT_Q8_1) return;
    activation_layout l = isa_activation_layout(m->isa, QUANT_Q8_1, length);
    const uint8_t    *row = activation_row(m->arena_was, x_value, row_of(m, o, x_value, t));
    for (uint64_t b = 0; b < blocks; b++) {
        double rounding = reference_f32(row + l.sums[ISA_SUM_32] + 4 * b);
        for (uint64_t i = 0; i < 32; i++) rounding -= x[b * 32 + i];
        for (uint64_t r = 0; r < n; r++) {
            const uint8_t *block = m->file->data + w->offset + (r * blocks + b) * info->block_bytes;
            out[r] += reference_half(reference_u16(block + 2)) * rounding;
        }
    }
}

/* What the op itself makes, before what is fused to it. */
static void make_result(machine *m, const op *o, uint32_t t, double *out, uint64_t n) {
    const value *x_value = o->kind == OP_GLU_MATMUL ? o->in[2] : o->kind == OP_MATMUL ? o->in[1]
                                                                                      : o->in[0];
    bool    reads_x = x_value && x_value->kind == VALUE_ACTIVATION;
    double *x = reads_x ? read_input(m, o, x_value, t) : NULL, *y;
    double *b = o->n_in > 1 && o->in[1] && o->in[1]->kind == VALUE_ACTIVATION
                    ? read_input(m, o, o->in[1], t) : m->table[1];
    switch (o->kind) {
    case OP_GET_ROWS: make_rows(m, o, t, out); return;
    case OP_RMS_NORM: make_norm(o, x, b, out); return;
    case OP_MATMUL: multiply(m, o, 0, x_value, t, x, n, out); return;
    case OP_ATTENTION: attend(m, o, t, x, out); return;
    case OP_ROPE_TABLE:
        reference_angles(out, o->params.rope_dims, o->params.rope_base, o->params.rope_scale,
                         o->in[0] ? m->table[0] : NULL, m->state.pos + t);
        return;
    case OP_GLU_MATMUL:
        y = arena_array(m->memory, n, sizeof *y);
        multiply(m, o, 0, x_value, t, x, n, y);
        multiply(m, o, 1, x_value, t, x, n, out);
        for (uint64_t i = 0; i < n; i++) out[i] *= reference_silu(y[i]);
        return;
    default: break;
    }
    memcpy(out, x, n * sizeof *out);
    for (uint64_t i = 0; i < n; i++) {
        if (o->kind == OP_ADD) out[i] += b[i];
        if (o->kind == OP_MUL) out[i] *= b[i];
        if (o->kind == OP_SWIGLU) out[i] = reference_silu(x[i]) * b[i];
    }
    if (o->kind == OP_ROPE) rotate(o, b, out, n);
}

static void make_all(machine *m, const op *o, uint32_t t, double *out, uint64_t n) {
    make_result(m, o, t, out, n);
    double *bias = read_input(m, o, o->fused.bias, t);
    double *residual = read_input(m, o, o->fused.residual, t);
    for (uint64_t i = 0; bias && i < n; i++) out[i] += bias[i];
    for (uint64_t i = 0; residual && i < n; i++) out[i] += residual[i];
    if (o->fused.rope) rotate(o, read_input(m, o, o->fused.rope, t), out, n);
}

/* ---- comparing; each also takes what the call wrote over into what was there before */

static void accept(uint8_t *was, const uint8_t *now, uint64_t bytes) {
    memcpy(was, now, bytes);
}

static void check_plain(machine *m, const value *v, uint32_t t, const double *truth, uint64_t n) {
    const uint8_t *row = activation_row(m->arena, v, own_row(m, v, t));
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        error += pow(reference_f32(row + 4 * i) - truth[i], 2);
        norm += truth[i] * truth[i];
    }
    if (!(error <= (v->producer->kind == OP_ATTENTION ? most_nmse_attention : most_nmse) * norm))
        fail_msg("%s: %s (%s), token %u of %u: NMSE %.3g", m->name, v->name,
                 op_infos[v->producer->kind].name, t, m->state.n_tokens, error / norm);
    accept(m->arena_was + (row - m->arena), row, 4 * n);
}

static void check_near(const machine *m, const value *v, uint64_t i, double is, double truth,
                       double most) {
    if (fabs(is - truth) <= most) return;
    fail_msg("%s: %s, value %llu is %.9g, expected %.9g ± %.2g", m->name, v->name,
             (unsigned long long)i, is, truth, most);
}

/* 4 neighbours' sum times -128 in each lane, where the ISA wants it: see isa.h. */
static void check_corrections(const machine *m, const value *v, const uint8_t *row, uint64_t at,
                              uint64_t corrections) {
    for (uint64_t i = at; m->isa->unsigned_weights && i < at + 32; i += 4) {
        int32_t is, sum = 0;
        memcpy(&is, row + corrections + i, 4);
        for (int k = 0; k < 4; k++) sum += (int8_t)row[i + (uint64_t)k];
        if (is != -128 * sum) fail_msg("%s: %s, correction %llu", m->name, v->name,
                                       (unsigned long long)(i / 4));
    }
}

static void check_block(const machine *m, const value *v, const uint8_t *row, uint64_t at,
                        const double *truth) {
    activation_layout l = isa_activation_layout(m->isa, v->type, value_count(v));
    uint32_t n = quant_find(v->type)->block_len;
    bool     half = v->type != QUANT_Q8_K; /* the scale is rounded */
    double   most = 0, scale = reference_f32(row + l.scales + at / n * 4);
    for (uint64_t i = at; i < at + n; i++) most = fmax(most, fabs(truth[i]));
    check_near(m, v, at, scale, most / 127, most / 127 * (half ? 0x1.01p-11 : 1e-5) + 0x1p-25);
    if (half) check_near(m, v, at, scale, reference_round(scale, 11, -24), 0);
    for (uint64_t i = at; i < at + n && most > 0; i++)
        check_near(m, v, i, (int8_t)row[i], truth[i] * 127 / most, 0.5 + 1e-3);
    for (uint64_t i = at; i < at + n; i += 32) check_corrections(m, v, row, i, l.corrections);
}

/* How far `x` may be from itself as f16 or bf16: half a unit of the last bit, and what f32 lost of
   it, which a value near zero among large ones feels most. */
static double rounding(bool half, double x, double rms) {
    return fabs(x) * (half ? 0x1.02p-11 : 0x1.02p-8) + (half ? 0x1p-25 : 0) + 1e-6 * rms;
}

static double root_mean_square(const double *x, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum / (double)n);
}

static void check_quantized(machine *m, const value *v, uint32_t t, const double *truth) {
    const uint8_t *row = activation_row(m->arena, v, own_row(m, v, t));
    bool     half = v->type == QUANT_F16;
    uint64_t n = value_count(v);
    double   rms = root_mean_square(truth, n);
    uint32_t block = quant_find(v->type)->block_len;
    for (uint64_t i = 0; block > 1 && i < n; i += block) check_block(m, v, row, i, truth);
    for (uint64_t i = 0; block == 1 && i < n; i++) {
        double is = reference_f32(row + 4 * i);
        check_near(m, v, i, is, truth[i], rounding(half, truth[i], rms));
        check_near(m, v, i, is, half ? reference_round(is, 11, -24) : reference_round(is, 8, -133),
                   0);
    }
    accept(m->arena_was + (row - m->arena), row, isa_activation_layout(m->isa, v->type, n).bytes);
}

static void check_cache(machine *m, const value *v, uint32_t t, const double *truth, uint64_t n) {
    uint64_t d = v->ne[0];
    double   rms = root_mean_square(truth, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t row = i / d * m->plan->n_ctx_padded + m->state.pos + t;
        uint8_t *at = m->kv + v->offset + 2 * (row * d + i % d);
        check_near(m, v, i, reference_half(reference_u16(at)), truth[i],
                   rounding(true, truth[i], rms));
        accept(m->kv_was + (at - m->kv), at, 2);
    }
}

static void check_token(machine *m, const op *o, uint32_t t) {
    const value *quantized = o->kind == OP_QUANTIZE ? o->out : o->fused.quantized;
    const value *cache = o->kind == OP_KV_STORE ? o->out : o->fused.cache;
    uint64_t     n = value_count(o->out);
    double      *truth = arena_array(m->memory, n, sizeof *truth);
    make_all(m, o, t, truth, n);
    if (o->out->type == QUANT_F32 && !o->fused.drop_out) check_plain(m, o->out, t, truth, n);
    if (quantized) check_quantized(m, quantized, t, truth);
    if (cache) check_cache(m, cache, t, truth, n);
}

/* ---- running */

static void run_call(machine *m, const plan_call *c, const ggufc_call *call) {
    uint32_t units = call->units, n = c->op->head ? 1 : m->state.n_tokens;
    if (call->flags & GGUFC_CALL_PER_TOKEN) units *= n;
    memcpy(m->arena_was, m->arena, m->plan->arena_bytes);
    memcpy(m->kv_was, m->kv, m->plan->kv_bytes);
    if (units / 2 < units) call->kernel(&m->state, call->args, units / 2, units);
    if (units / 2) call->kernel(&m->state, call->args, 0, units / 2);
    call->kernel(&m->state, call->args, units, units); /* nothing to do */

    arena *outer = m->memory;
    m->memory = arena_new();
    for (uint32_t k = 0; k < c->op->n_in; k++)
        m->table[k] = c->op->in[k] && c->op->in[k]->kind == VALUE_WEIGHT
                          ? read_input(m, c->op, c->op->in[k], 0) : NULL;
    for (uint32_t t = 0; t < n; t++) check_token(m, c->op, t);
    arena_free(m->memory);
    m->memory = outer;
    if (memcmp(m->arena, m->arena_was, m->plan->arena_bytes) ||
        memcmp(m->kv, m->kv_was, m->plan->kv_bytes))
        fail_msg("%s: %s wrote where nothing of it is", m->name, c->op->name);
    m->n_checked[c->op->kind]++;
}

/* What each thread makes for itself, by thread 0 and by another: the head reads what the first made of a body. */
static void run_by_threads(machine *m, const plan_call *c, const ggufc_call *call) {
    uint32_t thread = m->state.thread;
    run_call(m, c, call);
    m->state.thread = 0;
    if (thread && c->each) run_call(m, c, call);
    m->state.thread = thread;
}

static void run_tokens(machine *m, uint32_t pos, uint32_t n) {
    const ggufc_calls *list = n == 1 ? &m->model->decode : &m->model->prefill;
    for (uint32_t i = 0; i < n; i++)
        m->tokens[i] = (int32_t)(random_u32() % m->model->n_vocab);
    m->tokens[0] = pos ? (int32_t)m->model->n_vocab - 1 : 0;
    m->state = (ggufc_state){
        .weights = m->file->data, .arena = m->arena, .kv = m->kv, .tokens = m->tokens,
        .n_tokens = n, .pos = pos, .thread = random_u32() % (2 * m->plan->n_batch),
    };
    for (uint32_t i = 0; i < m->plan->n_body; i++)
        run_by_threads(m, &m->plan->body[i], &list->calls[i]);
    for (uint32_t k = 0; k < 2 && k < n; k++) { /* the head of the last token and of the first */
        m->state.out_token = k ? 0 : n - 1;
        for (uint32_t i = 0; i < m->plan->n_head; i++)
            run_by_threads(m, &m->plan->head[i], &m->model->head.calls[i]);
    }
}

/* A query that is no number makes its head's result none, and no other's. */
static void check_strange_query(machine *m, const plan_call *c, const ggufc_call *call) {
    const op *o = c->op;
    uint64_t  n = value_count(o->in[0]);
    float    *q = (float *)(void *)(m->arena + o->in[0]->offset);
    for (uint64_t i = 0; i < n; i++) q[i] = i ? 1 : NAN;
    call->kernel(&m->state, call->args, 0, call->units);
    const float *out = (const float *)(const void *)(m->arena + o->out->offset);
    for (uint64_t i = 0; i < n; i++)
        if (!isnan(out[i]) != (i >= o->params.head_dim))
            fail_msg("%s: %s: value %llu is %g", m->name, o->name, (unsigned long long)i,
                     (double)out[i]);
}

static void check_strange(machine *m) {
    m->state.n_tokens = 1;
    m->state.pos = 40;
    for (uint32_t i = 0; i < m->plan->n_body; i++) {
        const op *o = m->plan->body[i].op;
        if (o->kind == OP_ATTENTION && !o->fused.drop_out)
            check_strange_query(m, &m->plan->body[i], &m->model->decode.calls[i]);
    }
}

/* ---- the whole model: the graph as its template says, no pass applied, against all of it */

/* NMSE of all logits; the weights with the coarsest activations decide. Rounding to fewer bits
   falls to the other side now and then where f32 and f64 differ. */
static double most_of_model(const graph *g) {
    double most = 1e-7;
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (g->values[i]->kind != VALUE_WEIGHT) continue;
        enum quant_type activation = quant_find(g->values[i]->type)->activation;
        if (activation == QUANT_Q8_0) most = fmax(most, 3e-4); /* 1e-15, but 1e-4 by one number of IQ4_NL */
        if (activation == QUANT_Q8_1 || activation == QUANT_Q8_K) most = fmax(most, 1e-3);
        if (g->values[i]->type == QUANT_BF16) most = fmax(most, 1e-5);
        if (g->values[i]->type == QUANT_F16) most = fmax(most, 1e-6);
    }
    return most;
}

static void check_whole(machine *m, const odd_model *odd, const char *gguf) {
    enum { N = 21 };
    int32_t tokens[N];
    diag    d = {0};
    m->memory = arena_new();
    m->file = gguf_open(m->memory, &d, gguf);
    assert_non_null(m->file);
    graph *g = build_graph(m, odd);
    for (uint32_t i = 0; i < N; i++) tokens[i] = (int32_t)(random_u32() % m->model->n_vocab);
    double *truth = reference_graph(m->memory, g, tokens, N);
    float  *one = compiled_logits(m->model, gguf, tokens, N, 1, 1);
    float  *many = compiled_logits(m->model, gguf, tokens, N, N, 2);
    const float *ways[] = {one, many};
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        double error = 0, norm = 0;
        for (size_t i = 0; i < (size_t)N * m->model->n_vocab; i++) {
            error += pow((double)ways[w][i] - truth[i], 2);
            norm += truth[i] * truth[i];
        }
        if (!(error <= most_of_model(g) * norm))
            fail_msg("%s: NMSE of the logits %.3g, expected at most %.3g", m->name, error / norm,
                     most_of_model(g));
    }
    free(one);
    free(many);
    gguf_close(m->file);
    arena_free(m->memory);
}

/* ---- all of it */


static const struct {
    uint32_t pos, n;
} batches[] = {{0, 1}, {15, 1}, {16, 3}, {31, 13}, {33, 11}, {CTX - 2, 2}, {CTX - 1, 1}, {44, 24}, {44, MAX_BATCH}};

static uint32_t n_checked[OP_KIND_COUNT];

static void check_model(const odd_model *odd, const char *gguf, const char *isa_name,
                        const char *isa_flags) {
    char flags[640], name[128];
    snprintf(flags, sizeof flags, "--ctx=%d --batch=%d %s %s", CTX, MAX_BATCH, odd_model_arch(odd),
             isa_flags);
    snprintf(name, sizeof name, "%s, %s", odd->name, isa_name);
    machine m = {.name = name, .model = compiled_model(gguf, flags)};
    machine_open(&m, odd, gguf);
    for (size_t i = 0; i < ARRAY_LEN(batches); i++) /* a matrix unit takes many tokens at a time */
        if (batches[i].n < 24 || m.isa->matrix) run_tokens(&m, batches[i].pos, batches[i].n);
    check_strange(&m);
    for (int k = 0; k < OP_KIND_COUNT; k++) n_checked[k] += m.n_checked[k];
    machine_close(&m);
    check_whole(&m, odd, gguf);
}

#endif
