/* Attention over contexts that have chunks and ranges, in batches of every kind.
 *
 * The models are one layer of f32 weights, so that attention is what their logits are made of, and of
 * groups and heads that fit nothing. What they compute token by token is compared with f64; every
 * other way must be the same to the bit, or, where a batch is long enough for products of matrices or
 * the context is split, nearly so. */
#include "compiled_model.h"

#include "arch.h"
#include "odd_models.h"
#include "plan.h"
#include "reference_graph.h"

/* Into a second range; a context that is split, and one that is not. */
enum {
    N = PLAN_RANGE_LEAST + 45,
    CTX = 2301,
    CTX_WHOLE = N + 2,
    LONG = PLAN_FEW_TOKENS + 1,
    TRUE = 300, /* compared with f64 */
    N_VOCAB = 64,
};

static const double most_nmse = 1e-9; /* of logits */
static const double most_between = 1e-11;

#define ONE_LAYER "--layers 1 --ff 32 --vocab 64 --ctx 4096 --type f32 "

static const odd_model models[] = {
    {"8 heads of 64", ONE_LAYER "--embd 64 --heads 8 --kv-heads 1 --head-dim 64", "", ""},
    {"7 heads of 100", ONE_LAYER "--embd 32 --heads 7 --kv-heads 1 --head-dim 100", "", ""},
    {"12 heads of 48", ONE_LAYER "--embd 32 --heads 12 --kv-heads 1 --head-dim 48", "", ""},
    {"16 heads of 20", ONE_LAYER "--embd 32 --heads 16 --kv-heads 1 --head-dim 20", "", ""},
    {"4 heads of 80, twice", ONE_LAYER "--embd 32 --heads 8 --kv-heads 2 --head-dim 80", "", ""},
    {"2 heads of 256", ONE_LAYER "--embd 32 --heads 2 --kv-heads 1 --head-dim 256", "", ""},
    {"2 heads of 8, four times", ONE_LAYER "--embd 64 --heads 8 --kv-heads 4 --head-dim 8", "", ""},
    {"3 heads of 22", ONE_LAYER "--embd 32 --heads 3 --kv-heads 1 --head-dim 22", "", ""},
    {"a head of 48, five times", ONE_LAYER "--embd 32 --heads 5 --kv-heads 5 --head-dim 48", "", ""},
    {"a head of 2", ONE_LAYER "--embd 32 --heads 1 --kv-heads 1 --head-dim 2", "", ""},
};

static void choose_tokens(int32_t *tokens, uint32_t n_vocab) {
    for (uint32_t i = 0; i < N; i++) tokens[i] = (int32_t)(i * i * 31 + i * 7) % (int32_t)n_vocab;
}

/* The first TRUE logits in f64, made once for each model and kept. */
static const double *make_truth(size_t number, const char *gguf, const int32_t *tokens) {
    static double *all[ARRAY_LEN(models)];
    if (all[number]) return all[number];
    arena      *memory = arena_new();
    diag        d = {0};
    gguf_file  *file = gguf_open(memory, &d, gguf);
    size_t      size;
    const char *text = arch_builtin("llama", &size);
    graph      *g = arch_build(memory, &d, arch_parse(memory, &d, "llama.arch", text, size), file);
    assert_non_null(g);
    size_t bytes = (size_t)TRUE * g->n_vocab * sizeof(double);
    all[number] = malloc(bytes);
    assert_non_null(all[number]);
    memcpy(all[number], reference_graph(memory, g, tokens, TRUE), bytes);
    gguf_close(file);
    arena_free(memory);
    return all[number];
}

static void check_reference(const char *name, const double *truth, const float *logits, uint32_t n_vocab) {
    for (uint32_t i = 0; i < TRUE; i++) {
        double error = 0, norm = 0;
        for (uint32_t k = 0; k < n_vocab; k++) {
            double x = truth[(size_t)i * n_vocab + k], miss = (double)logits[(size_t)i * n_vocab + k] - x;
            error += miss * miss;
            norm += x * x;
        }
        if (!(error <= most_nmse * norm)) fail_msg("%s: position %u: NMSE %.3g", name, i, error / norm);
    }
}

/* Few tokens: as token by token, with any number of threads. */
static void check_few(const char *name, const ggufc_model *m, const char *gguf, const int32_t *tokens,
                      const float *one) {
    static const struct {
        uint32_t batch, threads;
    } ways[] = {{3, 1}, {5, 2}, {LONG - 1, 1}, {LONG - 1, 3}};
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        float *few = compiled_logits(m, gguf, tokens, N, ways[w].batch, ways[w].threads);
        for (uint32_t i = 0; i < N; i++)
            if (memcmp(few + (size_t)i * m->n_vocab, one + (size_t)i * m->n_vocab, m->n_vocab * sizeof *few))
                fail_msg("%s: batches of %u, position %u: other logits", name, ways[w].batch, i);
        free(few);
    }
}

static void check_long(const char *name, const ggufc_model *m, const char *gguf, const int32_t *tokens,
                       const float *one) {
    static const uint32_t batches[] = {LONG, 61};
    size_t bytes = (size_t)N * m->n_vocab * sizeof(float);
    for (size_t b = 0; b < ARRAY_LEN(batches); b++) {
        float *first = compiled_logits(m, gguf, tokens, N, batches[b], 1);
        double nmse = compiled_nmse(first, one, (size_t)N * m->n_vocab);
        if (!(nmse <= most_between)) fail_msg("%s: batches of %u: NMSE %.3g", name, batches[b], nmse);
        for (uint32_t threads = 2; threads <= 3; threads += 1 + (b > 0)) {
            float *other = compiled_logits(m, gguf, tokens, N, batches[b], threads);
            if (memcmp(other, first, bytes))
                fail_msg("%s: batches of %u: other logits with %u threads", name, batches[b], threads);
            free(other);
        }
        free(first);
    }
}

/* The logits token by token, after all ways to make them were compared. */
static float *check_context(size_t number, uint32_t ctx, const compiled_variant *v) {
    const odd_model *odd = &models[number];
    const char *gguf = odd_model_make(odd, number);
    char        flags[256], name[128];
    int32_t     tokens[N];
    snprintf(flags, sizeof flags, "--ctx=%u %s", ctx, v->flags);
    snprintf(name, sizeof name, "%s, context of %u, %s", odd->name, ctx, v->name);
    const ggufc_model *m = compiled_model(gguf, flags);
    choose_tokens(tokens, m->n_vocab);
    float *one = compiled_logits(m, gguf, tokens, N, 1, 1);
    check_reference(name, make_truth(number, gguf, tokens), one, m->n_vocab);
    check_few(name, m, gguf, tokens, one);
    check_long(name, m, gguf, tokens, one);
    return one;
}

static void check_model(size_t number, const compiled_variant *v) {
    float *split = check_context(number, CTX, v), *whole = check_context(number, CTX_WHOLE, v);
    double nmse = compiled_nmse(split, whole, (size_t)N * N_VOCAB);
    if (!(nmse <= most_between)) fail_msg("%s, %s: split: NMSE %.3g", models[number].name, v->name, nmse);
    free(split);
    free(whole);
}

/* Every `step`-th model. */
static void check_isa(const compiled_variant *v, size_t step) {
    if (!compiled_can_run(v->needs)) {
        print_message("skipped: this machine has no %s\n", v->needs);
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(models); i += step) check_model(i, v);
}

static void check_native(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_NATIVE], 1);
}

static void check_avx2(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_AVX2], 2);
}

static void check_ssse3(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_SSSE3], 3);
}

static void check_generic(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_GENERIC], 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_native),
        cmocka_unit_test(check_avx2),
        cmocka_unit_test(check_ssse3),
        cmocka_unit_test(check_generic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
