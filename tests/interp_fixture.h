/* interp_fixture.h - for tests of the interpreter: a model opened with its graph, interpreted models
 * of it, and what they compute.
 *
 *     interpreted x;
 *     interpreted_open(&x, &odd, "odd.gguf");
 *     ggufc_model m = interpreted_model(&x, &(interp_options){ … });
 *     float **rows = interpreted_trace(&x, &m, tokens, n, 1, 2);     rows[op] + token * count
 *     interpreted_close(&x);
 */
#ifndef GGUFC_TESTS_INTERP_FIXTURE_H
#define GGUFC_TESTS_INTERP_FIXTURE_H

#include "arch.h"
#include "interp_call.h"
#include "odd_models.h"
#include "reference_graph.h"

typedef struct interpreted {
    const char *name; /* for messages */
    arena      *memory;
    gguf_file  *file;
    graph      *graph;
} interpreted;

static inline void interpreted_ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

/* The graph as the model's template says. */
static inline void interpreted_open(interpreted *x, const odd_model *odd, const char *gguf) {
    diag        d = {.sink = interpreted_ignore}; /* of tensors that an odd template leaves out */
    size_t      size = strlen(odd->text);
    const char *text = *odd->text ? odd->text : arch_builtin("llama", &size);
    *x = (interpreted){.name = odd->name, .memory = arena_new()};
    x->file = gguf_open(x->memory, &d, gguf);
    assert_non_null(x->file);
    arch *t = arch_parse(x->memory, &d, "odd.arch", text, size);
    x->graph = t ? arch_build(x->memory, &d, t, x->file) : NULL;
    assert_non_null(x->graph);
}

static inline void interpreted_close(interpreted *x) {
    gguf_close(x->file);
    arena_free(x->memory);
}

/* `options` may leave roles, mistakes and sizes out: a context and a batch of 64. */
static inline ggufc_model interpreted_model(interpreted *x, const interp_options *options) {
    interp_options o = *options;
    ggufc_model    m = {
        .abi = GGUFC_ABI, .n_vocab = (uint32_t)x->graph->n_vocab,
        .n_ctx_train = (uint32_t)x->graph->n_ctx_train, .n_layer = (uint32_t)x->graph->n_layer,
        .n_embd = (uint32_t)x->graph->n_embd, .name = x->name, .arch = "", .types = "",
        .target = "interpreted", .compiler = "", .path = "", .embedded = x->file->data,
        .index_hash = GGUFC_HASH_BASIS, /* of no bytes */
    };
    if (!o.n_ctx) o.n_ctx = 64;
    if (!o.n_batch) o.n_batch = 64;
    interp_model(x->memory, x->graph, &o, &m);
    return m;
}

/* ---- what it computes */

typedef struct interpreted_rows {
    const graph *g;
    float      **rows;
} interpreted_rows;

static inline int interpreted_keep(void *context, uint32_t activation, uint32_t position,
                                   uint32_t count, const float *values, uint64_t stride) {
    interpreted_rows *kept = context;
    uint64_t n = value_count(kept->g->ops[activation]->out);
    for (uint32_t i = 0; i < count; i++)
        memcpy(kept->rows[activation] + (position + i) * n,
               (const uint8_t *)values + i * stride, n * sizeof *values);
    return 0;
}

/* Room for the values of every op for n tokens, in x->memory. */
static inline float **interpreted_room(interpreted *x, uint32_t n) {
    float **rows = arena_array(x->memory, x->graph->n_ops, sizeof *rows);
    for (uint32_t i = 0; i < x->graph->n_ops; i++)
        rows[i] = arena_array(x->memory, value_count(x->graph->ops[i]->out) * n, sizeof **rows);
    return rows;
}

/* Every activation of every token: by op, [n][values of a token]. The tokens are given `batch` at a
   time. The model keeps a trace. */
static inline float **interpreted_trace(interpreted *x, const ggufc_model *m, const int32_t *tokens,
                                        uint32_t n, uint32_t batch, uint32_t n_threads) {
    interpreted_rows kept = {x->graph, interpreted_room(x, n)};
    ggufc_session   *session = compiled_session(m, NULL, n_threads);
    ggufc_error      error;
    for (uint32_t i = 0; i < n; i += batch) {
        uint32_t count = n - i < batch ? n - i : batch;
        if (ggufc_session_trace(session, tokens + i, count, interpreted_keep, &kept, &error))
            fail_msg("%s: %s", x->name, error.text);
    }
    ggufc_session_close(session);
    return kept.rows;
}

/* An f64 reference whose activations are those rows. */
static inline reference interpreted_reference(interpreted *x, arena *memory, float *const *rows,
                                              const int32_t *tokens, uint32_t n) {
    reference r = {.memory = memory, .g = x->graph, .tokens = tokens, .n_tokens = n};
    reference_begin(&r);
    for (uint32_t i = 0; rows && i < x->graph->n_ops; i++) {
        const value *v = x->graph->ops[i]->out;
        for (uint64_t k = 0; k < value_count(v) * n; k++) r.values[v->id][k] = (double)rows[i][k];
    }
    return r;
}

/* Rounded as the interpreter does it, to the bit, for reference.activate:
   test_interp_dot.c is about that. */
static inline void interpreted_activate(enum quant_type type, double *x, uint64_t n) {
    const interp_activation *form = interp_activation_find(type);
    float   *values = calloc(n, sizeof *values);
    uint8_t *stored = form ? calloc(n / form->block_len, form->block_bytes) : NULL;
    for (uint64_t i = 0; i < n; i++) values[i] = (float)x[i];
    if (form) form->store(values, n, stored);
    if (form) form->load(stored, n, values);
    for (uint64_t i = 0; i < n; i++) x[i] = (double)values[i];
    free(values);
    free(stored);
}

/* Σ (a - b)² / Σ b²; 0 where both are all zeros. */
static inline double interpreted_nmse(const float *a, const double *b, uint64_t n) {
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return error > 0 || isnan(error) ? error / norm : 0;
}

static inline void interpreted_tokens(const interpreted *x, int32_t *tokens, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)((i + 1) * UINT64_C(2654435761) % x->graph->n_vocab);
}

#endif
