/* A model of which nothing was fused: every op that fusion would have joined is a kernel of its own,
 * and the logits are those of the fused one, but for rounding. */
#include "odd_models.h"

#include "engine.h"
#include "engine_fixture.h"

#define DEMO "tests/models/storyteller-q8_0.gguf"

enum { N_TOKENS = 21, N_BATCHES = 3 };

static const uint32_t batches[N_BATCHES] = { 1, 5, N_TOKENS };

/* Products are rounded alike; where sums may be contracted differently the last bits are not, and an
   activation may become the next quant: one of the widest model does, with an NMSE of 2e-8. */
static const double most_nmse = 1e-6;

static bool is_fused(const op *o) {
    return o->fused.bias || o->fused.residual || o->fused.rope || o->fused.cache || o->fused.quantized ||
           o->fused.drop_out || o->kind == OP_GLU_MATMUL;
}

static uint32_t count_fused(const graph *g) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_ops; i++) n += is_fused(g->ops[i]);
    return n;
}

/* As many fused ops as there are: none in `apart`, and in `joined` some (unless an odd template leaves
   nothing to join). */
static void compare_model(const char *name, const char *gguf, const char *flags, bool joins) {
    char   words[600];
    engine joined, apart;
    int32_t tokens[N_TOKENS];
    engine_fixture_open(&joined, gguf, flags);
    snprintf(words, sizeof words, "--no-fuse %s", flags);
    engine_fixture_open(&apart, gguf, words);
    assert_int_equal(count_fused(apart.compilation.graph), 0);
    if (joins) assert_true(count_fused(joined.compilation.graph) > 0);
    for (uint32_t i = 0; i < N_TOKENS; i++) tokens[i] = (int32_t)((i * 7919u + 5) % joined.model.n_vocab);
    for (int b = 0; b < N_BATCHES; b++) {
        float *a = compiled_logits(&joined.model, NULL, tokens, N_TOKENS, batches[b], 1);
        float *z = compiled_logits(&apart.model, NULL, tokens, N_TOKENS, batches[b], 2);
        double nmse = compiled_nmse(z, a, (size_t)N_TOKENS * joined.model.n_vocab);
        if (!(nmse < most_nmse)) fail_msg("%s, batches of %u: NMSE %g", name, batches[b], nmse);
        free(a);
        free(z);
    }
    engine_close(&apart);
    engine_close(&joined);
}

static void demo_has_the_same_logits(void **state) {
    (void)state;
    compare_model("the demo", DEMO, "", true);
    compare_model("the demo with a trace", DEMO, "--trace", true);
    compare_model("the demo for any x86-64", DEMO, "--cpu=x86-64", true);
}

static void odd_models_have_the_same_logits(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd_models); i++)
        compare_model(odd_models[i].name, odd_model_make(&odd_models[i], i), odd_model_arch(&odd_models[i]),
                      !*odd_models[i].template);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_has_the_same_logits),
        cmocka_unit_test(odd_models_have_the_same_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
