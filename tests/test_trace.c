/* Models compiled with --trace: the same logits to the bit; every activation of the graph, once and in
 * order, being what f64 makes of its inputs; and the files they are written to.
 *
 * Models are compiled and loaded in this process (engine.h); the program is driven in
 * test_trace_file.c. */
#include "engine_fixture.h"
#include "interp_fixture.h"

enum { N = 21, BATCH = 8 };

/* Of each kind of fusion, by position in odd_models: mixed types; BF16 and Q8_0 with biases; ops that
   nothing is fused to; a head of several ops; mixed types with biases. */
static const size_t chosen[] = {8, 2, 7, 12, 14, 6};

/* ---- what a traced model says of itself */

static void check_list(const interpreted *x, const ggufc_model *m) {
    assert_int_equal(m->n_activations, x->graph->n_ops);
    for (uint32_t i = 0; i < m->n_activations; i++) {
        const ggufc_activation *a = &m->activations[i];
        const value            *v = x->graph->ops[i]->out;
        uint64_t rows = a->head ? 1 : m->n_batch, bytes = value_count(v) * sizeof(float);
        assert_string_equal(a->name, v->name);
        assert_int_equal(a->head, x->graph->ops[i]->head);
        for (int k = 0; k < 3; k++) assert_int_equal(a->ne[k], v->ne[k]);
        assert_true(a->head || a->stride >= bytes);
        assert_true(a->offset + (rows - 1) * a->stride + bytes <= m->arena_bytes);
        for (uint32_t k = 0; k < i; k++) {
            const ggufc_activation *b = &m->activations[k];
            uint64_t b_end = b->offset + (b->head ? 4 * b->ne[0] : b->stride * m->n_batch);
            if (a->offset < b_end && b->offset < a->offset + rows * a->stride)
                fail_msg("%s: %s and %s share memory", x->name, a->name, b->name);
        }
    }
}

/* ---- each activation alone, from those it was made of */

static const double most_of_op = 1e-11; /* NMSE: some hundred roundings to f32 */

static void check_values(interpreted *x, float **rows, const int32_t *tokens) {
    arena    *scratch = arena_new();
    reference r = interpreted_reference(x, scratch, rows, tokens, N);
    r.activate = interpreted_activate;
    for (uint32_t i = 0; i < x->graph->n_ops; i++) {
        const op *o = x->graph->ops[i];
        uint64_t  n = value_count(o->out);
        double   *truth = arena_array(scratch, n, sizeof *truth);
        for (uint32_t t = 0; t < N; t++) {
            reference_op(&r, o, t, truth);
            double nmse = interpreted_nmse(rows[i] + t * n, truth, n);
            if (!(nmse <= most_of_op))
                fail_msg("%s: %s (%s), token %u: NMSE %.3g", x->name, o->out->name,
                         op_infos[o->kind].name, t, nmse);
        }
    }
    arena_free(scratch);
}

/* ---- against the interpreter, which never saw the fused graph */

static void check_interpreter(interpreted *x, float **rows, const int32_t *tokens) {
    ggufc_model m = interpreted_model(x, &(interp_options){.trace = true});
    float     **other = interpreted_trace(x, &m, tokens, N, N, 1);
    for (uint32_t i = 0; i < x->graph->n_ops; i++) {
        const value *v = x->graph->ops[i]->out;
        double       nmse = compiled_nmse(rows[i], other[i], value_count(v) * N);
        if (!(nmse <= 1e-4)) fail_msg("%s: %s: NMSE %.3g", x->name, v->name, nmse);
    }
}

/* ---- the same logits */

static void check_bits(const interpreted *x, const ggufc_model *plain, const ggufc_model *traced,
                       float **rows, const int32_t *tokens) {
    static const uint32_t batches[] = {1, N};
    size_t size = (size_t)plain->n_vocab * N * sizeof(float);
    for (size_t i = 0; i < ARRAY_LEN(batches); i++) {
        float *a = compiled_logits(plain, NULL, tokens, N, batches[i], 1);
        float *b = compiled_logits(traced, NULL, tokens, N, batches[i], 2);
        if (memcmp(a, b, size)) fail_msg("%s: a trace changes the logits", x->name);
        if (batches[i] == N && memcmp(a, rows[x->graph->n_ops - 1], size)) /* the trace was in batches */
            fail_msg("%s: the logits of the trace are others", x->name);
        free(a);
        free(b);
    }
}

static void check_model(const odd_model *odd, const char *gguf, const char *isa_flags) {
    char        flags[640];
    int32_t     tokens[N];
    interpreted x;
    engine      plain, traced;
    snprintf(flags, sizeof flags, "--ctx=%d --batch=%d %s %s", 2 * N, BATCH, odd_model_arch(odd), isa_flags);
    engine_fixture_open(&plain, gguf, flags);
    snprintf(flags, sizeof flags, "--ctx=%d --batch=%d --trace %s %s", 2 * N, BATCH, odd_model_arch(odd),
             isa_flags);
    engine_fixture_open(&traced, gguf, flags);
    interpreted_open(&x, odd, gguf);
    interpreted_tokens(&x, tokens, N);
    assert_null(plain.model.activations);
    assert_int_equal(plain.model.n_activations, 0);
    check_list(&x, &traced.model);
    float **rows = interpreted_trace(&x, &traced.model, tokens, N, N, 2);
    check_bits(&x, &plain.model, &traced.model, rows, tokens);
    check_values(&x, rows, tokens);
    check_interpreter(&x, rows, tokens);
    interpreted_close(&x);
    engine_close(&plain);
    engine_close(&traced);
}

static void check_isa(const compiled_variant *v, size_t n_models) {
    char flags[256];
    if (!compiled_can_run(v->needs)) {
        print_message("skipped: this machine has no %s\n", v->needs);
        skip();
    }
    for (size_t i = 0; i < n_models; i++) {
        const odd_model *odd = &odd_models[chosen[i]];
        snprintf(flags, sizeof flags, "--unroll=4 %s", v->flags);
        check_model(odd, odd_model_make(odd, chosen[i]), i % 2 ? v->flags : flags);
    }
}

static void native(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_NATIVE], ARRAY_LEN(chosen));
}

static void avx_vnni(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_AVX_VNNI], 2);
}

static void avx2(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_AVX2], 5);
}

static void generic(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_GENERIC], 2);
}

/* ---- generated code */

/* The text of the demo model's module, to be freed. */
static char *ir_of(const char *flags) {
    char   all[512], *text = NULL;
    size_t size = 0;
    snprintf(all, sizeof all, "--emit=llvm-ir %s", flags);
    const char *path = compiled_path("module.ll");
    compiled_file("tests/models/storyteller-q8_0.gguf", all, path);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_true(getdelim(&text, &size, '\0', f) > 0);
    fclose(f);
    return text;
}

static uint32_t count(const char *text, const char *what) {
    uint32_t n = 0;
    for (; (text = strstr(text, what)); text += strlen(what)) n++;
    return n;
}

/* The next function from *at on, up to its end; NULL behind the last. */
static const char *next_function(const char **at, size_t *size) {
    const char *begin = strstr(*at, "\ndefine "), *end = begin ? strstr(begin, "\n}") : NULL;
    if (!end) return NULL;
    *at = end;
    *size = (size_t)(end - begin);
    return begin;
}

static bool has_function(const char *ir, const char *function, size_t size) {
    size_t n;
    for (const char *f; (f = next_function(&ir, &n));)
        if (n == size && !memcmp(f, function, n)) return true;
    return false;
}

/* Kernels are called by what they do: none of a model without a trace stores what is read by nobody,
   and one that both models have is the same. */
static void nothing_is_paid_without_a_trace(void **state) {
    (void)state;
    static const char *const traced_only[] = {"_product", "_up_out", "_sum", "@activations"};
    char *plain = ir_of(""), *traced = ir_of("--trace");
    for (size_t i = 0; i < ARRAY_LEN(traced_only) - 2; i++) assert_true(count(traced, traced_only[i]) > 0);
    for (size_t i = 0; i < ARRAY_LEN(traced_only); i++) assert_int_equal(count(plain, traced_only[i]), 0);
    assert_true(count(traced, "@activations") > 0);
    assert_true(count(plain, "ptr null, i64 0, ptr null }") > 0); /* the model's end */
    assert_int_equal(count(plain, "\ndefine "), count(traced, "\ndefine "));
    assert_true(count(plain, "store ") < count(traced, "store "));
    uint32_t    shared = 0;
    const char *at = plain;
    size_t      size;
    for (const char *f; (f = next_function(&at, &size));) {
        const char *name = strchr(f, '@');
        char        head[256];
        snprintf(head, sizeof head, "%.*s(", (int)strcspn(name, "("), name);
        if (!count(traced, head)) continue;
        shared++;
        if (!has_function(traced, f, size)) fail_msg("%s is another with --trace", head);
    }
    assert_true(shared > 5);
    free(plain);
    free(traced);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(native),
        cmocka_unit_test(avx_vnni),
        cmocka_unit_test(avx2),
        cmocka_unit_test(generic),
        cmocka_unit_test(nothing_is_paid_without_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
