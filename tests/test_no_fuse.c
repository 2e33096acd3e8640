/* A model of which nothing was fused: every op that fusion would have joined is a kernel of its own,
 * and the logits are those of the fused one, but for rounding. */
#include "odd_models.h"

#include "engine.h"
#include "engine_fixture.h"

#define DEMO "tests/models/storyteller-q8_0.gguf"

enum { N_TOKENS = 21, N_BATCHES = 3 };

static const uint32_t batches[N_BATCHES] = { 1, 5, N_TOKENS };

/* Products are rounded alike, but sums may be contracted differently, so the last bits are not the same.
   Now and then that makes an activation the next quant: in two of 21 tokens of the widest model, by a
   trace of both. So most tokens have the same logits, and those few nearly so. */
static const double most_nmse_of_half = 1e-10, most_nmse = 1e-4;

static bool is_fused(const op *o) {
    return o->fused.bias || o->fused.residual || o->fused.rope || o->fused.cache || o->fused.quantized ||
           o->fused.drop_out || o->kind == OP_GLU_MATMUL;
}

static uint32_t count_fused(const graph *g) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_ops; i++) n += is_fused(g->ops[i]);
    return n;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare_logits(const char *name, uint32_t batch, const float *apart, const float *joined,
                           uint32_t n_vocab) {
    double nmse[N_TOKENS];
    for (size_t i = 0; i < N_TOKENS; i++)
        nmse[i] = compiled_nmse(apart + i * n_vocab, joined + i * n_vocab, n_vocab);
    qsort(nmse, N_TOKENS, sizeof *nmse, compare_doubles);
    if (!(nmse[N_TOKENS / 2] < most_nmse_of_half) || !(nmse[N_TOKENS - 1] < most_nmse))
        fail_msg("%s, batches of %u: NMSE of a token's logits %g in the middle, %g at most", name, batch,
                 nmse[N_TOKENS / 2], nmse[N_TOKENS - 1]);
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
        compare_logits(name, batches[b], z, a, joined.model.n_vocab);
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
