/* Comparisons: engines that are broken in one way each are found out, at the right operation and by
 * the right mistake; right ones are not accused.
 *
 * Broken engines are here the interpreter with a mistake (mistake.h); test_compare_dumps.c has one that
 * shares nothing with it. What needs ../shared is skipped without it. */
#include "compare_fixture.h"

/* ---- broken engines */

static const char q4_0[] = SHARED "demo-model/storyteller-q4_0.gguf";

typedef struct broken {
    const char *mistake;
    const char *name;    /* of layer %d */
    const char *verdict;
    const char *model;   /* NULL: the demo */
} broken;

static const broken broken_engines[] = {
    { "transposed", "Qcur-%d", "attn_q.weight is read transposed", NULL },
    { "sibling-1", "Qcur-%d", "attn_output.weight is read in place of attn_q.weight", NULL },
    { "scale-bf16", "Qcur-%d", "block scales of attn_q.weight are read as bf16", NULL },
    { "norm-weight", "attn_norm-%d", "attn_norm.weight is not multiplied in", NULL },
    { "norm-weight-plus-1", "attn_norm-%d", "attn_norm.weight + 1 is multiplied in", NULL },
    { "eps-1e-3", "attn_norm-%d", "eps is 0.001 instead of 1e-05", NULL },
    { "rope-pairing", "Qcur-%d.rope",
      "half-split pairs (i, i + 16) are rotated instead of interleaved ones", NULL },
    { "rope-base-500000", "Qcur-%d.rope", "the rope base is 500000 instead of 10000", NULL },
    { "rope-missing", "Qcur-%d.rope", "nothing is rotated", NULL },
    { "rope-from-1", "Qcur-%d.rope", "positions are counted from 1", NULL },
    { "heads-modulo", "kqv_out-%d", "query head h reads kv head h % 4 instead of h / 2", NULL },
    { "attn-scale", "kqv_out-%d", "scores are not scaled by 0.176777", NULL },
    { "mask-later", "kqv_out-%d", "a token sees the one after it too", NULL },
    { "mask-earlier", "kqv_out-%d", "a token does not see itself", NULL },
    { "gate-up", "ffn_swiglu-%d", "gate and up are exchanged", NULL },
    { "first-operand", "ffn_inp-%d", "attn_out-%d is not added", NULL },
    { "nibbles-swapped", "Qcur-%d", "the high nibble of a byte of attn_q.weight is taken first", q4_0 },
    { "nibbles-adjacent", "Qcur-%d", "the nibbles of a byte of attn_q.weight are taken for neighbours", q4_0 },
    { "nibbles-adjacent-swapped", "Qcur-%d",
      "the nibbles of a byte of attn_q.weight are taken for neighbours, the high one first", q4_0 },
    { "scale-bf16", "Qcur-%d", "block scales of attn_q.weight are read as bf16", q4_0 },
};

/* `layer` in place of %d; a text may hold other percent signs. */
static const char *with_layer(arena *a, const char *text, int32_t layer) {
    const char *at = strstr(text, "%d");
    if (!at) return text;
    return arena_printf(a, "%.*s%d%s", (int)(at - text), text, layer, at + 2);
}

/* Made everywhere, a mistake is found where it is made first: in reading blocks that is the embedding. */
static void expect(arena *a, const broken *b, int32_t layer, const char **name, const char **what) {
    const mistake     *m = mistake_find(b->mistake);
    const char        *weight = strstr(b->verdict, "attn_q.weight");
    static const mistake none;
    *name = with_layer(a, b->name, layer < 0 ? 0 : layer);
    *what = with_layer(a, b->verdict, layer < 0 ? 0 : layer);
    if (layer >= 0 || !memcmp(&m->reading, &none.reading, sizeof none.reading)) return;
    *name = "embd";
    *what = arena_printf(a, "%.*stoken_embd.weight%s", (int)(weight - b->verdict), b->verdict,
                         weight + strlen("attn_q.weight"));
}

static void find_broken(const broken *b, int32_t layer, enum engine_kernels kernels, bool swap, bool compile) {
    const char  *acts = in_folder("broken.gguf"), *name, *what;
    engine_setup e = { .model = b->model ? b->model : DEMO, .kernels = kernels, .mistake = b->mistake,
                       .layer = layer };
    arena       *a = arena_new();
    const char  *right = arena_printf(a, "%s%s", compile && !b->model ? "" : "interpreted:", e.model);
    engine_write(&e, story, SHORT, acts);
    compared c = compared_pair(swap ? acts : right, swap ? right : acts);
    expect(a, b, layer, &name, &what);
    assert_found(&c, name, what);
    assert_string_equal(c.r.suspect, swap ? "A" : "B");
    compared_free(&c);
    arena_free(a);
}

static void find_all(const char *model) {
    for (size_t i = 0; i < ARRAY_LEN(broken_engines); i++) {
        const broken *b = &broken_engines[i];
        if (b->model != model) continue;
        find_broken(b, 0, ENGINE_INTERPRETED, false, i % 4 == 0);
        find_broken(b, 3, ENGINE_REFERENCE, false, i % 4 == 2);
        find_broken(b, -1, i % 2 ? ENGINE_INTERPRETED : ENGINE_REFERENCE, true, false);
    }
}

static void broken_engines_are_found(void **state) {
    (void)state;
    find_all(NULL);
}

static void wrong_nibbles_are_found(void **state) {
    (void)state;
    if (!exists(q4_0)) skip();
    find_all(q4_0);
}

/* ---- mistakes that the demo cannot make, and that hide */

static const float factors[] = { 1, 1, 1.5f, 2, 2.5f, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8 };

static void ignored_factors_are_found(void **state) {
    (void)state;
    const broken b = { "rope-factors", "Qcur-%d.rope",
                       "the rope frequency factors (rope_freqs.weight) are ignored",
                       variant_with_tensor(DEMO, "rope_freqs.weight", factors, ARRAY_LEN(factors), "factors.gguf") };
    find_broken(&b, 0, ENGINE_REFERENCE, false, false);
    find_broken(&b, 2, ENGINE_INTERPRETED, true, false);
    find_broken(&b, -1, ENGINE_INTERPRETED, false, false);
}

/* A matrix whose scales are all subnormal: read as zero, it is gone. */
static void lost_scales_are_found(void **state) {
    (void)state;
    enum { BLOCK = 34, SCALE = 0x0233 };
    arena     *a = arena_new();
    gguf_file *f = variant_open(a, DEMO);
    const gguf_tensor *t = gguf_find_tensor(f, "blk.1.attn_k.weight");
    uint8_t   *blocks = arena_alloc(a, t->bytes);
    memcpy(blocks, f->data + t->offset, t->bytes);
    for (uint64_t i = 0; i < t->bytes; i += BLOCK) {
        blocks[i] = SCALE & 255;
        blocks[i + 1] = SCALE >> 8;
    }
    const broken b = { "scale-subnormal", "Kcur-%d", "subnormal block scales of attn_k.weight are read as zero",
                       variant_with_bytes(DEMO, "blk.1.attn_k.weight", 0, blocks, t->bytes, "subnormal.gguf") };
    find_broken(&b, 1, ENGINE_REFERENCE, false, false);
    find_broken(&b, 1, ENGINE_INTERPRETED, true, false);
    gguf_close(f);
    arena_free(a);
}

/* Another eps in the last layer is far less than what quantized activations have changed before it. */
static void an_error_below_the_noise_is_found(void **state) {
    (void)state;
    static const struct {
        enum engine_kernels kernels;
        const char *right;
    } rows[] = {
        { ENGINE_REFERENCE, "interpreted:" DEMO }, { ENGINE_INTERPRETED, "reference:" DEMO },
        { ENGINE_REFERENCE, DEMO },
    };
    const char *acts = in_folder("broken.gguf");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        engine_setup e = { .model = DEMO, .kernels = rows[i].kernels, .mistake = "eps-1e-6", .layer = 3 };
        engine_write(&e, story, STORY, acts);
        compared c = compared_pair(rows[i].right, acts);
        assert_int_equal(c.outcome, COMPARE_DIFFERENT);
        assert_string_equal(compared_first(&c), "attn_norm-3");
        assert_false(c.r.ops[c.r.first].beyond);
        assert_true(c.r.ops[c.r.first].alone_beyond);
        assert_true(has(c.r.verdict, "attn_norm-3: matches when eps is 1e-06 instead of 1e-05 (so it does by "));
        assert_true(has(c.r.sentence, "The first wrong op is attn_norm-3, although A and B agree within "));
        assert_true(has(c.r.origin, "Computed from B's own inputs it is wrong ("));
        compared_free(&c);
    }
}

/* A model that says another base than its twin: the same weights, so that one of them is wrong. */
static void other_metadata_is_an_error(void **state) {
    (void)state;
    static const struct {
        const char *key;
        float       x;
        const char *name, *what;
    } rows[] = {
        { "llama.rope.freq_base", 5e5f, "Qcur-0.rope", "the rope base is 500000 instead of 10000" },
        /* in no table */
        { "llama.rope.freq_base", 2000, "Qcur-0.rope", "the rope base is 2000 instead of 10000" },
        { "llama.rope.freq_base", 1234, "Qcur-0.rope", "the rope base is 1234 instead of 10000" },
        { "llama.attention.layer_norm_rms_epsilon", 3e-4f, "attn_norm-0", "eps is 0.0003 instead of 1e-05" },
        { "llama.attention.layer_norm_rms_epsilon", 0.25f, "attn_norm-0", "eps is 0.25 instead of 1e-05" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char     *other = variant_with_key(DEMO, rows[i].key, &rows[i].x, sizeof(float), "other.gguf");
        const char     *exact = arena_printf(folder_paths, "reference:%s", other);
        compare_options o = compared_options("interpreted:" DEMO, i ? exact : other);
        o.tokens = story;
        o.n_tokens = SHORT;
        compared c = compared_run(&o);
        assert_found(&c, rows[i].name, rows[i].what);
        assert_false(c.r.cost);
        compared_free(&c);
    }
}

/* A factor that was left out or made twice, of an engine that has other weights than it says. */
static void factors_are_found(void **state) {
    (void)state;
    static const float factors_of[] = { 4, 0.125f, -1 };
    arena     *a = arena_new();
    gguf_file *f = variant_open(a, DEMO);
    const gguf_tensor *t = gguf_find_tensor(f, "blk.1.attn_norm.weight");
    uint64_t   n = t->bytes / sizeof(float);
    float     *weights = arena_alloc(a, t->bytes);
    for (size_t i = 0; i < ARRAY_LEN(factors_of); i++) {
        memcpy(weights, f->data + t->offset, t->bytes);
        for (uint64_t k = 0; k < n; k++) weights[k] *= factors_of[i];
        engine_setup e = { .kernels = ENGINE_REFERENCE, .layer = -1 };
        e.model = variant_with_bytes(DEMO, "blk.1.attn_norm.weight", 0, weights, t->bytes, "scaled.gguf");
        engine_write(&e, story, SHORT, in_folder("scaled-acts.gguf"));
        compared c = compared_pair("interpreted:" DEMO, in_folder("scaled-acts.gguf"));
        assert_found(&c, "attn_norm-1", arena_printf(a, "its values are multiplied by %g", (double)factors_of[i]));
        compared_free(&c);
    }
    gguf_close(f);
    arena_free(a);
}

/* ---- engines that are right */

#define MODELS SHARED "demo-model/storyteller-%s.gguf"
#define GOLDEN SHARED "golden/storyteller-%s.gguf"

static const char *const compiled_types[] = { "q8_0", "f16", "bf16", "f32" };

static const char *const other_types[] = {
    "iq1_m", "iq1_s", "iq2_s", "iq2_xs", "iq2_xxs", "iq3_s", "iq3_xxs", "iq4_nl", "iq4_xs", "mxfp4", "nvfp4",
    "q1_0", "q2_0", "q2_k", "q3_k_m", "q4_0", "q4_1", "q4_k_m", "q5_0", "q5_1", "q5_k_m", "q6_k", "tq1_0", "tq2_0",
};

static const char *const layer_ops[] = {
    "attn_norm-%d", "Qcur-%d", "Qcur-%d.rope", "Vcur-%d", "Kcur-%d", "Kcur-%d.rope", "kqv_out-%d", "attn_out-%d",
    "ffn_inp-%d", "ffn_norm-%d", "ffn_gate-%d", "ffn_up-%d", "ffn_swiglu-%d", "ffn_out-%d", "l_out-%d",
};

static void assert_op(const compared *c, uint32_t at, const char *name, int32_t layer) {
    const compare_op *o = &c->r.ops[at];
    assert_string_equal(o->name, with_layer(c->memory, name, layer));
    assert_int_equal(o->layer, layer);
    if (!o->between.n_values || o->between.n_tokens != c->r.n_tokens || !o->alone.n_values)
        fail_msg("%s is not compared for all tokens", o->name);
    if (!(o->between.nmse <= o->tolerance && o->between.worst <= o->worst_tolerance && o->tolerance < 1))
        fail_msg("%s: NMSE %g, tolerance %g", o->name, o->between.nmse, o->tolerance);
}

/* All ops that the issue lists, in order, each of them compared. */
static void assert_whole_list(const compared *c) {
    uint32_t n = 0;
    assert_op(c, n++, "embd", -1);
    for (int32_t l = 0; l < 4; l++)
        for (size_t i = 0; i < ARRAY_LEN(layer_ops); i++) assert_op(c, n++, layer_ops[i], l);
    assert_op(c, n++, "result_norm", -1);
    assert_op(c, n++, "result_output", -1);
    assert_int_equal(c->r.n_ops, n);
    assert_int_equal(c->r.logits.n_tokens, c->r.n_tokens);
}

static void compare_with_golden(arena *a, const char *kernels, const char *model, const char *golden, bool swap) {
    const char *side = arena_printf(a, "%s%s", kernels, model);
    compared    c = compared_pair(swap ? golden : side, swap ? side : golden);
    assert_same_engines(&c);
    assert_whole_list(&c);
    assert_int_equal(c.r.n_tokens, STORY);
    assert_memory_equal(c.r.tokens, story, sizeof story);
    assert_string_equal(c.r.suspect, swap ? "A" : "B");
    compared_free(&c);
}

static void golden_is_the_same(void **state) {
    (void)state;
    static const char *const kernels[] = { "compiled:", "interpreted:", "reference:" };
    arena *a = arena_new();
    if (!exists(SHARED "golden")) skip();
    for (size_t i = 0; i < ARRAY_LEN(compiled_types); i++)
        for (size_t k = 0; k < ARRAY_LEN(kernels); k++)
            for (int swap = 0; swap < 2; swap++)
                compare_with_golden(a, kernels[k], arena_printf(a, MODELS, compiled_types[i]),
                                    arena_printf(a, GOLDEN, compiled_types[i]), swap);
    compare_with_golden(a, "", DEMO, SHARED "golden/storyteller-q8_0.f16-kv.gguf", false);
    arena_free(a);
}

static void compare_other_type(arena *a, const char *type) {
    const char *model = arena_printf(a, MODELS, type);
    const char *faithful = arena_printf(a, "interpreted:%s", model);
    const char *exact = arena_printf(a, "reference:%s", model);
    compare_options o = compared_options(faithful, exact);
    o.tokens = story;
    o.n_tokens = STORY;
    compared c = compared_run(&o);
    assert_same_engines(&c);
    compared_free(&c);
    compare_with_golden(a, "interpreted:", model, arena_printf(a, GOLDEN, type), false);
    compare_with_golden(a, "reference:", model, arena_printf(a, GOLDEN, type), true);
}

/* Compiled where it compiles, else it is said how it can be compared. */
static void compare_compiled(arena *a, const char *type) {
    const char *model = arena_printf(a, MODELS, type);
    compared    c = compared_pair(model, arena_printf(a, GOLDEN, type));
    if (c.outcome == COMPARE_FAILED && !has(c.said, "cannot be compiled"))
        fail_msg("%s: %s", type, c.said);
    if (c.outcome == COMPARE_FAILED && has(c.said, "cannot be compiled")) assert_true(has(c.said, "interpreted:"));
    if (c.outcome != COMPARE_FAILED) assert_same_engines(&c);
    compared_free(&c);
}

static void all_types_are_the_same(void **state) {
    (void)state;
    arena *a = arena_new();
    if (!exists(SHARED "golden")) skip();
    for (size_t i = 0; i < ARRAY_LEN(other_types); i++) {
        compare_other_type(a, other_types[i]);
        compare_compiled(a, other_types[i]);
    }
    arena_free(a);
}

/* Every pair of kernels, on the model that is in the project. */
static void kernels_are_the_same(void **state) {
    (void)state;
    static const char *const sides[][2] = {
        { DEMO, "interpreted:" DEMO }, { "interpreted:" DEMO, "compiled:" DEMO }, { DEMO, "reference:" DEMO },
        { "reference:" DEMO, "interpreted:" DEMO }, { "interpreted:" DEMO, "interpreted:" DEMO }, { DEMO, DEMO },
    };
    static const char *const suspects[] = { "A", "B", "A", "B", "B", "B" };
    for (size_t i = 0; i < ARRAY_LEN(sides); i++) {
        compare_options o = compared_options(sides[i][0], sides[i][1]);
        o.text = "Once upon a time,";
        o.text_size = strlen(o.text);
        compared c = compared_run(&o);
        assert_same_engines(&c);
        assert_whole_list(&c);
        assert_string_equal(c.r.suspect, suspects[i]);
        assert_string_equal(c.r.text, o.text);
        compared_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_engines_are_found),
        cmocka_unit_test(wrong_nibbles_are_found),
        cmocka_unit_test(ignored_factors_are_found),
        cmocka_unit_test(lost_scales_are_found),
        cmocka_unit_test(an_error_below_the_noise_is_found),
        cmocka_unit_test(other_metadata_is_an_error),
        cmocka_unit_test(factors_are_found),
        cmocka_unit_test(golden_is_the_same),
        cmocka_unit_test(all_types_are_the_same),
        cmocka_unit_test(kernels_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
