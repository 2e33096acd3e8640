/* The demo model compiled in every type, against what llama.cpp computes with the same files: all logits of
 * a text, token by token and in batches, and the most likely token, forced along its continuations; and
 * small batches against single tokens. Each once for the best instruction set that this machine has, for
 * AVX2, SSSE3 and the generic one. ../shared has the models and the numbers; without it everything is skipped. */
#include "compiled_model.h"
#include "golden_logits.h"
#include "golden_types.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 64, STORIES = 2, THREE_BATCHES = 3 * 7 };

/* A token of a small batch has the logits it has alone, to the bit. */
static void compare_few(const golden_type *type, const compiled_variant *v, const golden *truth) {
    char path[256];
    snprintf(path, sizeof path, "%s", golden_model_path(type));
    const ggufc_model *m = compiled_model(path, v->flags);
    uint32_t n = truth->n_tokens < THREE_BATCHES ? truth->n_tokens : THREE_BATCHES;
    float   *alone = compiled_logits(m, path, truth->tokens, n, 1, 1);
    float   *few = compiled_logits(m, path, truth->tokens, n, n / 3, 1);
    if (memcmp(alone, few, (size_t)n * m->n_vocab * sizeof *alone))
        fail_msg("%s, %s: other logits in batches of %u than one by one", type->activations, v->name, n / 3);
    free(alone);
    free(few);
}

static void compare(const golden_type *type, const compiled_variant *v, const golden *truth, uint32_t batch) {
    char path[256];
    snprintf(path, sizeof path, "%s", golden_model_path(type));
    const ggufc_model *m = compiled_model(path, v->flags);
    assert_int_equal(m->n_vocab, truth->n_vocab);
    float *logits = compiled_logits(m, path, truth->tokens, truth->n_tokens, batch, 1);
    double nmse = compiled_nmse(logits, truth->logits, (size_t)truth->n_tokens * m->n_vocab);
    free(logits);
    print_message("%-8s %-8s batches of %2u  NMSE %.1e\n", type->activations, v->name, batch, nmse);
    if (!(nmse <= type->logits))
        fail_msg("%s, %s, batches of %u: NMSE %.3g, expected at most %g", type->activations, v->name, batch,
                 nmse, type->logits);
}

static uint32_t force(const golden_type *type, const compiled_variant *v, const story *s, uint32_t batch) {
    char path[256];
    snprintf(path, sizeof path, "%s", golden_model_path(type));
    const ggufc_model *m = compiled_model(path, v->flags);
    uint32_t n = s->n_tokens - 1 < m->n_ctx ? s->n_tokens - 1 : m->n_ctx, checked = 0;
    float   *logits = compiled_logits(m, path, s->tokens, n, batch, 1);
    for (uint32_t i = s->n_prompt; i <= n; i++) {
        uint32_t best = compiled_argmax(logits + (size_t)(i - 1) * m->n_vocab, m->n_vocab);
        if ((double)s->margins[i] < type->margin) continue;
        checked++;
        if (best != (uint32_t)s->tokens[i])
            fail_msg("%s, %s, \"%s\": token %u is %u, expected %d by a margin of %.2f", type->model, v->name,
                     s->prompt, i, best, s->tokens[i], (double)s->margins[i]);
    }
    free(logits);
    return checked;
}

static bool check_type(const golden_type *type, const compiled_variant *v) {
    static story stories[STORIES];
    char         name[64];
    if (!golden_is_here(type)) return false;
    golden truth = golden_read(golden_activations_path(type));
    compare(type, v, &truth, 1);
    compare(type, v, &truth, CHUNK);
    compare_few(type, v, &truth);
    free(truth.logits);
    snprintf(name, sizeof name, "storyteller-%s", type->model);
    uint32_t n = read_stories(GOLDEN_SHARED "golden/greedy.tsv", name, stories, STORIES), checked = 0;
    for (uint32_t i = 0; i < n; i++) checked += force(type, v, &stories[i], i ? CHUNK : 1);
    assert_true(checked > 0);
    return true;
}

static void check(const compiled_variant *v) {
    bool all = compiled_can_run(v->needs);
    if (!all) print_message("skipped: this machine has no %s\n", v->needs);
    for (size_t i = 0; all && i < ARRAY_LEN(golden_types); i++) {
        all = check_type(&golden_types[i], v);
        if (!all) print_message("skipped: " GOLDEN_SHARED " is not here\n");
    }
    if (!all) skip();
}

static void check_native(void **state) {
    (void)state;
    check(&compiled_isas[COMPILED_NATIVE]);
}

static void check_avx2(void **state) {
    (void)state;
    check(&compiled_isas[COMPILED_AVX2]);
}

static void check_ssse3(void **state) {
    (void)state;
    check(&compiled_isas[COMPILED_SSSE3]);
}

static void check_generic(void **state) {
    (void)state;
    check(&compiled_isas[COMPILED_GENERIC]);
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
