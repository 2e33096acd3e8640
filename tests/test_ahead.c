/* test_ahead.c - looking ahead changes nothing but the time: batches of up to GGUFC_BATCH_EXACT tokens
 * have the logits of single ones to the bit, for every machine type and type of weights, and texts
 * are the same with and without, however they are chosen and wherever they end. */
#include "cli_prompt.h"
#include "engine_fixture.h"
#include "generate.h"
#include "odd_models.h"
#include "session.h"

#include <fcntl.h>

#define DEMO "tests/models/storyteller-q8_0.gguf"

/* ---- batches */

enum { COUNT = 40, THREADS = 2 };

static void make_tokens(int32_t *tokens, uint32_t n_vocab) {
    for (uint32_t i = 0; i < COUNT; i++) tokens[i] = (int32_t)((i + 3) * UINT64_C(2654435761) % n_vocab);
}

/* Batches from 2 tokens on, whose logits are computed at once, their beginnings at other places each time. */
static void assert_exact(const ggufc_model *model, const char *gguf, const char *what) {
    int32_t tokens[COUNT];
    make_tokens(tokens, model->n_vocab);
    float *one = compiled_logits(model, gguf, tokens, COUNT, 1, 1);
    for (uint32_t batch = 2; batch <= GGUFC_BATCH_EXACT; batch++) {
        float *many = compiled_logits(model, gguf, tokens, COUNT, batch, THREADS);
        for (uint32_t i = 0; i < COUNT; i++) {
            size_t row = (size_t)i * model->n_vocab;
            if (memcmp(one + row, many + row, model->n_vocab * sizeof *one))
                fail_msg("%s: batches of %u: other logits after token %u", what, batch, i);
        }
        free(many);
    }
    free(one);
}

/* ---- logits of a few tokens at once */

static void assert_heads_exact(const ggufc_model *model, const char *gguf, const char *what) {
    int32_t        tokens[COUNT];
    uint32_t       batch = GGUFC_BATCH_EXACT + 2 < model->n_batch ? GGUFC_BATCH_EXACT + 2 : model->n_batch;
    ggufc_error    error;
    ggufc_session *s = compiled_session(model, gguf, THREADS);
    size_t         bytes = model->n_vocab * sizeof(float);
    float         *one = calloc(batch, bytes);
    make_tokens(tokens, model->n_vocab);
    assert_non_null(one);
    assert_int_equal(ggufc_session_evaluate(s, tokens, batch, &error), GGUFC_OK);
    for (uint32_t i = 0; i < batch; i++)
        memcpy(one + (size_t)i * model->n_vocab, session_logits_at(s, i), bytes);
    for (uint32_t count = 1; count <= GGUFC_BATCH_EXACT && count <= batch; count++)
        for (uint32_t first = batch - count + 1; first-- > 0;) { /* whose are not there yet */
            assert_true(session_compute_logits(s, first, count));
            for (uint32_t i = first; i < first + count; i++)
                if (memcmp(one + (size_t)i * model->n_vocab, session_logits_at(s, i), bytes))
                    fail_msg("%s: logits of tokens %u to %u at once: other ones after %u", what, first,
                             first + count - 1, i);
        }
    free(one);
    ggufc_session_close(s);
}

static void check_variant(const compiled_variant *v, const char *gguf, const char *arch, const char *name) {
    char what[256], flags[640];
    if (!compiled_can_run(v->needs)) return;
    snprintf(what, sizeof what, "%s, %s", name, v->name);
    snprintf(flags, sizeof flags, "--ctx=64 %s %s", v->flags, arch);
    assert_exact(compiled_model(gguf, flags), gguf, what);
    assert_heads_exact(compiled_model(gguf, flags), gguf, what);
}

static void compiled_batches_are_exact(void **state) {
    (void)state;
    for (size_t v = 0; v < ARRAY_LEN(compiled_isas); v++) {
        check_variant(&compiled_isas[v], DEMO, "", "demo");
        for (size_t i = 0; i < ARRAY_LEN(odd_models); i += v ? 4 : 1) { /* F32, Q8_0 and mixed types */
            const char *gguf = odd_model_make(&odd_models[i], i);
            check_variant(&compiled_isas[v], gguf, odd_model_arch(&odd_models[i]), odd_models[i].name);
        }
    }
}

/* However the model is compiled: what a trace keeps has a row for each of the tokens. */
static void heads_are_exact(void **state) {
    (void)state;
    static const compiled_variant ways[] = {
        {"trace", "--trace", ""},
        {"no fusion", "--no-fuse", ""},
        {"a small batch", "--batch=4", ""},
        {"packed", "--pack", "avx512f avx512bw avx512vl avx512dq avx512_vnni"},
        {"unrolled a little", "--unroll=4", ""},
    };
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        if (!compiled_can_run(ways[w].needs)) continue;
        bool        packed = !strcmp(ways[w].flags, "--pack");
        const char *gguf = packed ? NULL : DEMO;
        assert_heads_exact(compiled_model(DEMO, ways[w].flags), gguf, ways[w].name);
    }
}

static void interpreted_batches_are_exact(void **state) {
    (void)state;
    for (int k = ENGINE_INTERPRETED; k <= ENGINE_REFERENCE; k++) {
        engine         e;
        engine_options options = {.kernels = (enum engine_kernels)k, .layer = -1};
        diag           d = {.sink = engine_fixture_tell};
        ggufc_compile_defaults(&options.compile);
        options.compile.model = DEMO;
        assert_true(engine_open(&e, &options, &d));
        assert_exact(&e.model, NULL, engine_kernels_names[k]);
        engine_close(&e);
    }
}

/* ---- texts */

typedef struct told {
    generate_report report;
    ggufc_status    status;
    uint32_t        n_past;
    char            text[8192];
} told;

static ggufc_session *session;
static uint64_t       n_accepted, n_drafted;

static told tell(generate_request r, sampler_options sampling, bool ignore_eos) {
    told        t = {.n_past = 0};
    ggufc_error error;
    const char *path = compiled_path("told.txt");
    stream      out = {.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)};
    const ggufc_model *model = ggufc_session_model(session);
    sampler    *choose = sampler_new(model->n_vocab, &sampling);
    assert_int_equal(ggufc_session_truncate(session, 0, &error), GGUFC_OK);
    if (ignore_eos) generate_forbid_end(choose, model->vocab);
    t.status = generate_run(session, choose, &r, &out, &t.report, &error);
    t.n_past = ggufc_session_n_past(session);
    assert_true(pread(out.fd, t.text, sizeof t.text - 1, 0) > 0);
    close(out.fd);
    sampler_free(choose);
    return t;
}

/* Without looking ahead, then with drafts of every length, and as it pays. */
static void assert_same(generate_request r, sampler_options sampling, bool ignore_eos) {
    r.look_ahead = false;
    told plain = tell(r, sampling, ignore_eos);
    assert_int_equal(plain.status, GGUFC_OK);
    assert_int_equal(plain.report.n_passes, plain.report.n_evaluated);
    for (uint32_t max_draft = 1; max_draft <= LOOKUP_MAX_DRAFT + 1; max_draft++) {
        r.look_ahead = true;
        r.always_draft = max_draft <= LOOKUP_MAX_DRAFT;
        r.max_draft = r.always_draft ? max_draft : LOOKUP_MAX_DRAFT;
        told t = tell(r, sampling, ignore_eos);
        assert_int_equal(t.status, GGUFC_OK);
        assert_string_equal(t.text, plain.text);
        assert_int_equal(t.report.end, plain.report.end);
        assert_int_equal(t.report.n_generated, plain.report.n_generated);
        assert_int_equal(t.report.n_evaluated, plain.report.n_evaluated);
        assert_int_equal(t.report.n_accepted, t.report.n_evaluated - t.report.n_passes);
        assert_int_equal(t.n_past, plain.n_past);
        n_accepted += t.report.n_accepted;
        n_drafted += t.report.n_drafted;
    }
}

/* The beginning of a story that the model goes on with in its own words, three times and with edits. */
static const char story[] =
    "Once upon a time, there was a clever girl named Nora. Nora lived near the bridge. One day, Nora found "
    "a big red ball. Once upon a time, there was a clever boy named Tom. Tom lived near the bridge. One "
    "day, Tom found a big red ball. Once upon a time, there was a clever girl named";

static const sampler_options samplings[] = {
    {.temp = 0, .repeat_penalty = 1},
    {.temp = 0, .repeat_penalty = 1.1f, .repeat_last_n = 30},
    {.temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1},
    {.temp = 0.4f, .top_k = 5, .top_p = 1, .repeat_penalty = 1.05f, .repeat_last_n = 64},
    {.temp = 1.5f, .top_p = 1, .repeat_penalty = 1},
};

static void check_texts(const ggufc_model *model, const char *gguf, uint32_t n_ctx, uint32_t n_threads) {
    ggufc_error           error;
    cli_prompt            in = {0};
    ggufc_session_options options = {
        .model = model, .weights_path = gguf, .n_threads = n_threads, .n_ctx = n_ctx,
    };
    assert_int_equal(ggufc_session_open(&session, &options, &error), GGUFC_OK);
    assert_int_equal(cli_prompt_copy_text(&in, story, &error), GGUFC_OK);
    assert_int_equal(cli_prompt_tokenize(&in, model->vocab, &error), GGUFC_OK);
    for (size_t k = 0; k < ARRAY_LEN(samplings); k++) {
        for (uint64_t seed = 0; seed < (samplings[k].temp > 0 ? 3 : 1); seed++) {
            sampler_options sampling = samplings[k];
            sampling.seed = seed;
            generate_request r = {
                .tokens = in.tokens, .n_tokens = in.n_tokens, .hide_prompt = true, .n_predict = -1,
            };
            assert_same(r, sampling, false);
            assert_same(r, sampling, true); /* to a full context */
        }
    }
    cli_prompt_free(&in);
    ggufc_session_close(session);
}

static void texts_are_the_same(void **state) {
    (void)state;
    n_accepted = n_drafted = 0;
    check_texts(compiled_model(DEMO, ""), DEMO, 0, 1);
    check_texts(compiled_model(DEMO, ""), DEMO, 130, 2); /* the context ends in the middle of drafts */
    check_texts(compiled_model(DEMO, "--batch=4"), DEMO, 200, 2);
    check_texts(compiled_model(DEMO, "--batch=1"), DEMO, 150, 1);
    assert_true(n_accepted > 500);
    assert_true(n_drafted > n_accepted + 500); /* and many were wrong */
}

/* Wherever it ends, it ends with the same. */
static void every_length(void **state) {
    (void)state;
    static int32_t tokens[60];
    ggufc_error    error;
    n_accepted = n_drafted = 0;
    ggufc_session_options options = {.model = compiled_model(DEMO, ""), .weights_path = DEMO};
    assert_int_equal(ggufc_session_open(&session, &options, &error), GGUFC_OK);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) tokens[i] = (int32_t)(300 + i % 9);
    for (int64_t n = 0; n < 30; n++) {
        generate_request r = {.tokens = tokens, .n_tokens = ARRAY_LEN(tokens), .n_predict = n};
        assert_same(r, samplings[0], true);
        assert_same(r, samplings[2], true);
    }
    ggufc_session_close(session);
    assert_true(n_accepted > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiled_batches_are_exact),
        cmocka_unit_test(heads_are_exact),
        cmocka_unit_test(interpreted_batches_are_exact),
        cmocka_unit_test(texts_are_the_same),
        cmocka_unit_test(every_length),
    };
    return cmocka_run_group_tests_name("ahead", tests, NULL, NULL);
}
