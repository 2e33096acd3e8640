/* The interpreter's faithful arithmetic against what llama.cpp computed with the same files: all
 * logits of the demo model in every type, each op alone, from llama.cpp's own inputs, and which token
 * is the most likely, forced along its continuations. ../shared/golden has the numbers; without it
 * everything is skipped. */
#include "interp_fixture.h"

#include "golden_stories.h"
#include "golden_types.h"
#include "recording.h"
#include "session.h"

/* Of an op alone: some hundred roundings to f32; the rounded cache. */
static const double most_of_op = 1e-12, most_of_attention = 1e-6;

typedef struct golden {
    const golden_type *type;
    interpreted x;
    recording  *r;
    recorded_value **values; /* by op */
    double      worst; /* NMSE of an op alone, attention left out */
} golden;

static void open_model(interpreted *x, const golden_type *type) {
    static const odd_model llama = {.name = "storyteller", .template = "", .text = ""};
    interpreted_open(x, &llama, golden_model_path(type));
}

static bool golden_open(golden *g, const golden_type *type) {
    char path[256];
    diag d = {0};
    snprintf(path, sizeof path, GOLDEN_SHARED "golden/storyteller-%s.gguf", type->activations);
    if (access(golden_model_path(type), R_OK) || access(path, R_OK)) return false;
    *g = (golden){.type = type};
    open_model(&g->x, type);
    g->r = recording_open(g->x.memory, &d, path, NULL);
    assert_non_null(g->r);
    g->values = arena_array(g->x.memory, g->x.graph->n_ops, sizeof *g->values);
    for (uint32_t i = 0; i < g->x.graph->n_ops; i++) {
        const value *v = g->x.graph->ops[i]->out;
        g->values[i] = recording_find(g->r, v->name);
        if (!g->values[i]) fail_msg("%s has no %s", path, v->name);
        assert_true(recording_split(g->x.memory, &d, g->values[i], value_count(v)));
    }
    return true;
}

static void golden_close(golden *g) {
    recording_close(g->r);
    interpreted_close(&g->x);
}

static double distance(const float *a, const float *b, uint64_t n) {
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        error += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return error / norm;
}

/* ---- logits */

static void compare_logits(golden *g) {
    uint32_t     last = g->x.graph->n_ops - 1;
    uint32_t     n = g->r->n_tokens;
    double       error = 0;
    ggufc_model  m = interpreted_model(&g->x, &(interp_options){.n_ctx = n, .n_batch = n});
    float       *logits = compiled_logits(&m, NULL, g->r->tokens, n, n, 2);
    for (uint32_t t = 0; t < n; t++) {
        const float *row = recording_row(g->values[last], t, n);
        error += distance(logits + (size_t)t * m.n_vocab, row, m.n_vocab);
    }
    free(logits);
    if (!(error / n <= g->type->logits))
        fail_msg("%s: NMSE of the logits %.3g, expected at most %g", g->type->activations, error / n,
                 g->type->logits);
    print_message("%-12s NMSE of the logits %.1e", g->type->activations, error / n);
}

/* ---- ops alone */

static int force(void *context, const ggufc_call *call, uint32_t position, uint32_t count, uint8_t *memory) {
    golden   *g = context;
    const op *o = interp_call_op(call);
    uint32_t  at = 0;
    if (!o) return 0;
    while (g->x.graph->ops[at] != o) at++;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *row = memory + interp_call_offset(call) + (o->head ? 0 : i) * interp_call_stride(call);
        const float *theirs = recording_row(g->values[at], position + i, g->r->n_tokens);
        uint64_t     n = value_count(o->out);
        double       d = distance((const float *)(void *)row, theirs, n);
        if (!(d <= (o->kind == OP_ATTENTION ? most_of_attention : most_of_op)))
            fail_msg("%s: %s, token %u: NMSE %.3g", g->type->activations, o->name, position + i, d);
        if (o->kind != OP_ATTENTION) g->worst = fmax(g->worst, d);
        memcpy(row, theirs, n * sizeof *theirs);
    }
    return 0;
}

static void compare_ops(golden *g) {
    uint32_t    n = g->r->n_tokens;
    ggufc_model m = interpreted_model(&g->x, &(interp_options){.n_ctx = n, .n_batch = n});
    ggufc_session *s = compiled_session(&m, NULL, 2);
    assert_int_equal(session_evaluate_calls(s, g->r->tokens, n, force, g, NULL), GGUFC_OK);
    ggufc_session_close(s);
    print_message(", of an op at most %.1e\n", g->worst);
}

/* ---- forced along continuations */

/* Returns how many positions decided something. */
static uint32_t force_story(const golden_type *type, const ggufc_model *m, const story *s, uint32_t batch) {
    uint32_t n = s->n_tokens - 1, checked = 0;
    float   *logits = compiled_logits(m, NULL, s->tokens, n, batch, 1);
    for (uint32_t i = s->n_prompt; i <= n; i++) {
        uint32_t best = compiled_argmax(logits + (size_t)(i - 1) * m->n_vocab, m->n_vocab);
        if ((double)s->margins[i] < type->margin) continue;
        checked++;
        if (best != (uint32_t)s->tokens[i])
            fail_msg("%s, \"%s\": token %u is %u, expected %d by a margin of %.2f", type->model, s->prompt, i,
                     best, s->tokens[i], (double)s->margins[i]);
    }
    free(logits);
    return checked;
}

static void force_stories(const golden_type *type) {
    static story stories[8];
    char         name[64];
    interpreted  x;
    uint32_t     most = 0, checked = 0;
    snprintf(name, sizeof name, "storyteller-%s", type->model);
    uint32_t n = read_stories(GOLDEN_SHARED "golden/greedy.tsv", name, stories, ARRAY_LEN(stories));
    for (uint32_t k = 0; k < n; k++) most = stories[k].n_tokens > most ? stories[k].n_tokens : most;
    open_model(&x, type);
    ggufc_model m = interpreted_model(&x, &(interp_options){.n_ctx = most, .n_batch = 64});
    for (uint32_t k = 0; k < n; k++) checked += force_story(type, &m, &stories[k], k % 2 ? 64 : 1);
    interpreted_close(&x);
    if (checked <= 10 * n) fail_msg("%s: only %u tokens of %u continuations decided", name, checked, n);
}

static void force_all(void **state) {
    (void)state;
    if (access(GOLDEN_SHARED "golden/greedy.tsv", R_OK)) {
        print_message("skipped: " GOLDEN_SHARED "golden is not here\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(golden_types); i++)
        if (!strcmp(golden_types[i].model, golden_types[i].activations)) force_stories(&golden_types[i]);
}

static void compare_all(void **state) {
    (void)state;
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(golden_types); i++) {
        golden g;
        if (!golden_open(&g, &golden_types[i])) continue;
        compare_logits(&g);
        compare_ops(&g);
        golden_close(&g);
        n++;
    }
    if (n == ARRAY_LEN(golden_types)) return;
    print_message("skipped: " GOLDEN_SHARED "golden is not here\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_all),
        cmocka_unit_test(force_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
