/* Comparisons of models that are not the same file: what other weights cost; other shapes and layers;
 * and sides that cannot be compared at all. */
#include "compare_fixture.h"

#include "child.h"

#include <math.h>

static compared compare_story(const char *a, const char *b) {
    compare_options o = compared_options(a, b);
    o.tokens = story;
    o.n_tokens = STORY;
    return compared_run(&o);
}

static bool noted(const compared *c, const char *part) {
    for (uint32_t i = 0; i < c->r.n_notes; i++)
        if (strstr(c->r.notes[i], part)) return true;
    return false;
}

/* ---- what weights cost */

static void assert_costs(const compared *c) {
    if (c->outcome != COMPARE_DIFFERENT) fail_msg("outcome %d: %s", (int)c->outcome, c->said);
    assert_true(c->r.cost);
    assert_int_equal(c->r.first, -1);
    assert_int_equal(c->r.n_hypotheses, 0);
    assert_null(c->r.verdict);
    assert_null(c->r.origin);
    assert_string_equal(c->r.suspect, "B");
    assert_true(has(c->r.sentence, "The weights differ. The most costly op is "));
    assert_true(has(c->r.sentence, "; result_output comes to NMSE "));
    for (uint32_t i = 0; i < c->r.n_ops; i++) {
        const compare_op *o = &c->r.ops[i];
        assert_true(o->between.n_values && o->alone.n_values);
        assert_true(o->tolerance <= 0 && o->alone_tolerance <= 0 && !o->beyond && !o->alone_beyond);
    }
}

/* Quantized matrices cost something in every product and nothing elsewhere. */
static void quantized_weights_cost_in_products(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        double      least, most; /* of a product alone */
    } rows[] = {
        { "interpreted:" SHARED "demo-model/storyteller-f32.gguf", SHARED "demo-model/storyteller-q8_0.gguf",
          1e-6, 1e-3 },
        { DEMO, "interpreted:" SHARED "demo-model/storyteller-q4_0.gguf", 1e-3, 0.1 },
        { "interpreted:" SHARED "demo-model/storyteller-q4_0.gguf", "reference:" DEMO, 1e-3, 0.1 },
    };
    if (!exists(SHARED "demo-model")) skip();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        compared c = compare_story(rows[i].a, rows[i].b);
        assert_costs(&c);
        assert_true(noted(&c, " tensors are of another type in B: what is told is what that costs"));
        for (uint32_t k = 0; k < c.r.n_ops; k++) {
            const compare_op *o = &c.r.ops[k];
            bool product = !strcmp(o->kind, "matmul") && o->layer >= 0;
            if (product ? o->alone.nmse < rows[i].least || o->alone.nmse > rows[i].most
                        : o->layer >= 0 && o->alone.nmse > 1e-6)
                fail_msg("%s: %g alone", o->name, o->alone.nmse);
        }
        compared_free(&c);
    }
}

/* One matrix that is not the same. */
static void one_tensor_costs(void **state) {
    (void)state;
    uint8_t     block[34] = { 0 };
    const char *other = variant_with_bytes(DEMO, "blk.2.ffn_up.weight", 34, block, sizeof block, "other.gguf");
    compared    c = compare_story("interpreted:" DEMO, other);
    assert_costs(&c);
    assert_true(noted(&c, "1 tensor of one type differs in its bytes: blk.2.ffn_up.weight"));
    assert_true(has(c.r.sentence, "The most costly op is ffn_up-2 "));
    compared_free(&c);
}

/* The same bytes in another file are the same model. */
static void a_copy_is_the_same(void **state) {
    (void)state;
    uint32_t    context = 512;
    const char *copy = variant_with_key(DEMO, "llama.context_length", &context, sizeof context, "copy.gguf");
    compared    c = compare_story("interpreted:" DEMO, copy);
    assert_same_engines(&c);
    assert_false(c.r.cost);
    compared_free(&c);
}

/* ---- other shapes */

/* B ends after two of the four layers: what it does not have is not compared, and not taken for 0. */
static void fewer_layers(void **state) {
    (void)state;
    uint32_t    layers = 2;
    const char *half = variant_with_key(DEMO, "llama.block_count", &layers, sizeof layers, "half.gguf");
    for (int swap = 0; swap < 2; swap++) {
        compared c = compare_story(swap ? half : "interpreted:" DEMO, swap ? "interpreted:" DEMO : half);
        if (c.outcome != COMPARE_DIFFERENT) fail_msg("%s", c.said);
        assert_string_equal(compared_first(&c), "result_norm");
        uint32_t compared_ops = 0;
        for (uint32_t i = 0; i < c.r.n_ops; i++) compared_ops += c.r.ops[i].between.n_values > 0;
        assert_int_equal(compared_ops, 1 + 2 * 15 + 2);
        assert_int_equal(c.r.n_ops, swap ? 33 : 63);
        if (!swap) assert_true(noted(&c, "30 of 63 ops are not in both: not compared"));
        assert_true(swap || has(c.r.origin, "up to l_out-1, it is wrong too"));
        compared_free(&c);
    }
}

/* A tensor more is another graph, not other weights. */
static void one_tensor_more(void **state) {
    (void)state;
    static const float factors[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8 };
    const char *more = variant_with_tensor(DEMO, "rope_freqs.weight", factors, 16, "more.gguf");
    compared    c = compare_story(more, "interpreted:" DEMO);
    assert_found(&c, "Qcur-0.rope", "the rope frequency factors (rope_freqs.weight) are ignored");
    assert_true(noted(&c, "1 tensor is in A only, as rope_freqs.weight"));
    compared_free(&c);
}

static const char *make_model(const char *name, const char *flags) {
    const char *tools = getenv("GGUFC_TOOLS"), *to = in_folder(name);
    char  words[512], tool[512], *argv[32] = { tool }, *rest = words;
    int   n = 1;
    snprintf(tool, sizeof tool, "%s/make_model", tools && *tools ? tools : "out/tools");
    snprintf(words, sizeof words, "%s -o %s", flags, to);
    while (n < 31 && (argv[n] = strtok_r(rest, " ", &rest))) n++;
    child c = child_run((child_setup){ .argv = argv });
    if (c.exit_code) fail_msg("%s: %s", tool, c.err);
    child_free(&c);
    return to;
}

static void another_model(void **state) {
    (void)state;
    static const struct {
        const char *flags, *message;
    } rows[] = {
        { "--layers 4 --embd 256 --heads 8 --kv-heads 4 --ff 512 --vocab 1100 --ctx 64 --tied",
          "result_output has 1100 values a token, in the other model it has 1024" },
        { "--layers 4 --embd 128 --heads 8 --kv-heads 4 --ff 512 --vocab 1024 --ctx 64 --tied",
          "embd has 128 values a token, in the other model it has 256" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *other = make_model("other-shape.gguf", rows[i].flags);
        compared    c = compare_story("interpreted:" DEMO, other);
        assert_int_equal(c.outcome, COMPARE_FAILED);
        assert_int_equal(c.n_errors, 1);
        if (!has(c.said, rows[i].message)) fail_msg("%s", c.said);
        compared_free(&c);
    }
}

/* ---- what cannot be compared */

static const char *cut(const char *name) {
    const char *to = in_folder(name);
    arena      *a = arena_new();
    gguf_file  *f = variant_open(a, DEMO);
    write_bytes(to, f->data, f->size / 2);
    gguf_close(f);
    arena_free(a);
    return to;
}

static void sides_that_cannot_be_compared(void **state) {
    (void)state;
    const char *acts = in_folder("acts.gguf"), *empty = new_folder("empty"), *half = cut("cut.gguf");
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .layer = -1 };
    engine_write(&e, story, STORY, acts);
    const struct {
        const char *a, *b, *model, *message;
    } rows[] = {
        { "no/such.gguf", DEMO, NULL, "no/such.gguf: cannot open: No such file" },
        { "interpreted:" DEMO, "reference:no/such.gguf", NULL, "no/such.gguf: cannot open" },
        { acts, acts, NULL, "cannot tell what is right: say what model they are of with --model" },
        { acts, acts, "no/such.gguf", "no/such.gguf: cannot open" },
        { acts, acts, acts, "general.architecture" },
        { DEMO, acts, DEMO, "--model is for two recordings; " DEMO " is a model" },
        { "interpreted:" DEMO, half, NULL, "cut.gguf" },
        { half, acts, NULL, "cut.gguf" },
        { "interpreted:" DEMO, empty, NULL, "empty: neither activations nor token ids in it" },
        { "tests/test_measure.c", acts, NULL, "tests/test_measure.c: not a GGUF file" },
        { "interpreted:", acts, NULL, "cannot open" },
        { "", acts, NULL, "cannot open" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        compare_options o = compared_options(rows[i].a, rows[i].b);
        o.model = rows[i].model;
        o.tokens = rows[i].model == acts || !strcmp(rows[i].a, acts) ? NULL : story;
        o.n_tokens = o.tokens ? STORY : 0;
        compared c = compared_run(&o);
        if (c.outcome != COMPARE_FAILED || c.n_errors != 1 || !has(c.said, rows[i].message) || c.r.tokens_differ)
            fail_msg("row %zu: outcome %d: \"%s\"", i, (int)c.outcome, c.said);
        compared_free(&c);
    }
}

/* A type without generated code: it is said what can read it. */
static void a_type_that_is_not_compiled(void **state) {
    (void)state;
    const char *q4_0 = SHARED "demo-model/storyteller-q4_k_m.gguf";
    if (!exists(q4_0)) skip();
    compared c = compare_story("interpreted:" SHARED "demo-model/storyteller-q4_k_m.gguf", q4_0);
    if (c.outcome == COMPARE_FAILED)
        assert_true(has(c.said, "cannot be compiled") && has(c.said, "interpreted:"));
    else
        assert_same_engines(&c);
    compared_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantized_weights_cost_in_products),
        cmocka_unit_test(one_tensor_costs),
        cmocka_unit_test(a_copy_is_the_same),
        cmocka_unit_test(fewer_layers),
        cmocka_unit_test(one_tensor_more),
        cmocka_unit_test(another_model),
        cmocka_unit_test(sides_that_cannot_be_compared),
        cmocka_unit_test(a_type_that_is_not_compiled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
