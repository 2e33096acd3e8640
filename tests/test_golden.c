/* What compiled models compute, against what llama.cpp computed with the same files.
 *
 * Two sources of golden numbers. tests/golden/storyteller-q8_0.*, in the project: for each position
 * of a story the best logits and some others, and greedy continuations. ../shared/golden, where it
 * exists: all logits, also for the demo model in F16, BF16 and F32; tests of those are skipped
 * without it. UPDATE_GOLDEN=1 writes the former from the latter.
 *
 * Golden logits were made with a key-value cache of F32, ours is F16; a margin below 0.1 between
 * the two most likely tokens decides nothing. */
#include "compiled_model.h"
#include "golden_logits.h"

#include <math.h>

#define SHARED      "../shared/"
#define DEMO        "tests/models/storyteller-q8_0.gguf"
#define LOGITS_TEXT "tests/golden/storyteller-q8_0.logits.txt"
#define GREEDY_TEXT "tests/golden/storyteller-q8_0.greedy.tsv"

enum { MAX_TOKENS = STORY_MOST_TOKENS, VOCAB = 1024, BEST = 8, OTHERS_STEP = 128, CHUNK = 64 };

static const double margin = 0.1;

static bool exists(const char *path) {
    return access(path, R_OK) == 0;
}

/* A line of LOGITS_TEXT: the token, then id:logit of the best, best first, and of others. */
typedef struct position {
    int32_t  token;
    uint32_t n, id[32];
    float    logit[32];
} position;

static uint32_t read_positions(position *all, uint32_t most) {
    FILE *f = fopen(LOGITS_TEXT, "r");
    char  line[1024];
    uint32_t n = 0;
    if (!f) fail_msg("%s is missing", LOGITS_TEXT);
    while (fgets(line, sizeof line, f)) {
        if (*line == '#') continue;
        assert_true(n < most);
        position *p = &all[n++];
        char     *at = line;
        int       used = 0;
        assert_int_equal(sscanf(at, "%d%n", &p->token, &used), 1);
        for (p->n = 0, at += used; p->n < 32; p->n++, at += used)
            if (sscanf(at, " %u:%f%n", &p->id[p->n], &p->logit[p->n], &used) != 2) break;
        assert_true(p->n > BEST);
    }
    fclose(f);
    return n;
}

static void write_position(FILE *f, int32_t token, const float *logits) {
    bool taken[VOCAB] = {0};
    fprintf(f, "%d", token);
    for (int i = 0; i < BEST; i++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t v = 0; v < VOCAB; v++)
            if (!taken[v] && (best == UINT32_MAX || logits[v] > logits[best])) best = v;
        taken[best] = true;
        fprintf(f, " %u:%.6g", best, (double)logits[best]);
    }
    for (uint32_t v = 3; v < VOCAB; v += OTHERS_STEP)
        if (!taken[v]) fprintf(f, " %u:%.6g", v, (double)logits[v]);
    fputs("\n", f);
}

/* ---- tables */

typedef struct golden_model {
    const char *name, *path, *activations;
    double      most; /* NMSE of all logits */
    bool        shared;
} golden_model;

static const golden_model models[] = {
    {"storyteller-q8_0", DEMO, SHARED "golden/storyteller-q8_0.gguf", 5e-5, false},
    {"storyteller-q8_0", DEMO, SHARED "golden/storyteller-q8_0.f16-kv.gguf", 5e-5, false},
    {"storyteller-f16", SHARED "demo-model/storyteller-f16.gguf",
     SHARED "golden/storyteller-f16.gguf", 1e-7, true},
    {"storyteller-bf16", SHARED "demo-model/storyteller-bf16.gguf",
     SHARED "golden/storyteller-bf16.gguf", 2.5e-6, true},
    {"storyteller-f32", SHARED "demo-model/storyteller-f32.gguf",
     SHARED "golden/storyteller-f32.gguf", 2e-8, true},
};

static const compiled_variant variants[] = {
    {"native", "", ""},
    {"avx-vnni", "--cpu=x86-64-v3 --features=+avxvnni", X86_V3 " avx_vnni"},
    {"avx2", "--cpu=x86-64-v3", X86_V3},
    {"ssse3", "--cpu=x86-64-v2", X86_V2},
    {"generic", "--cpu=x86-64", "sse2"},
    {"without avx", "--features=-avx", ""},
    {"without avx512f", "--features=-avx512f", ""},
    {"unroll 4", "--unroll=4", ""},
    {"unroll 8", "--unroll=8", ""},
    {"ctx 64, batch 5", "--ctx=64 --batch=5", ""},
    {"avx2, unroll 4", "--cpu=x86-64-v3 --unroll=4", X86_V3},
    {"generic, unroll 4, batch 7", "--cpu=x86-64 --unroll=4 --batch=7", "sse2"},
};

static const char no_shared[] = "skipped: " SHARED "golden is not here";

/* A variant of the table, NULL at the end; those that this machine cannot run are left out. */
static const compiled_variant *next_variant(size_t *i) {
    for (; *i < ARRAY_LEN(variants); ++*i) {
        if (compiled_can_run(variants[*i].needs)) return &variants[(*i)++];
        print_message("skipped: this machine has no %s\n", variants[*i].needs);
    }
    return NULL;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* ---- all logits */

/* Returns the larger NMSE, of tokens one by one and of all at once. */
static double compare_logits(const golden_model *g, const compiled_variant *v,
                             const golden *truth) {
    double worst = 0;
    const ggufc_model *m = compiled_model(g->path, v->flags);
    uint32_t n = least(truth->n_tokens, m->n_ctx), batches[] = {1, n};
    assert_int_equal(m->n_vocab, truth->n_vocab);
    for (size_t i = 0; i < ARRAY_LEN(batches); i++) {
        float *logits = compiled_logits(m, g->path, truth->tokens, n, batches[i], 1);
        double nmse = compiled_nmse(logits, truth->logits, (size_t)n * m->n_vocab);
        if (!(nmse <= g->most))
            fail_msg("%s, %s, batches of %u: NMSE %.3g, expected at most %g", g->activations,
                     v->name, batches[i], nmse, g->most);
        worst = nmse > worst ? nmse : worst;
        free(logits);
    }
    return worst;
}

static void compare_all_logits(void **state) {
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(models); k++) {
        if (!exists(models[k].activations) || !exists(models[k].path)) {
            print_message("%s\n", no_shared);
            skip();
        }
        golden truth = golden_read(models[k].activations);
        double worst = 0;
        size_t i = 0;
        for (const compiled_variant *v; (v = next_variant(&i));)
            worst = fmax(worst, compare_logits(&models[k], v, &truth));
        print_message("NMSE %.2e  %s\n", worst, models[k].activations);
        free(truth.logits);
    }
}

/* ---- some logits, from the project itself */

static void update_logits_text(void) {
    golden truth = golden_read(models[1].activations);
    FILE  *f = fopen(LOGITS_TEXT, "w");
    assert_non_null(f);
    assert_int_equal(truth.n_vocab, VOCAB);
    fputs("# llama.cpp v0.5.0, CPU, F16 cache: the token at each position, and of the logits\n"
          "# after it the best eight and some others, as id:logit. Written by test_golden with\n"
          "# UPDATE_GOLDEN=1.\n", f);
    for (uint32_t i = 0; i < truth.n_tokens; i++)
        write_position(f, truth.tokens[i], truth.logits + (size_t)i * VOCAB);
    assert_int_equal(fclose(f), 0);
    free(truth.logits);
}

static void compare_position(const position *p, const float *logits, uint32_t at) {
    if (p->logit[0] - p->logit[1] >= (float)margin)
        if (compiled_argmax(logits, VOCAB) != p->id[0])
            fail_msg("position %u: the most likely token is %u, expected %u", at,
                     compiled_argmax(logits, VOCAB), p->id[0]);
    for (uint32_t i = 0; i < p->n; i++) {
        float off = fabsf(logits[p->id[i]] - p->logit[i]);
        if (!(off < 0.25f))
            fail_msg("position %u: logit %u is %g, expected %g", at, p->id[i],
                     (double)logits[p->id[i]], (double)p->logit[i]);
    }
}

static void compare_positions(const compiled_variant *v, const position *all, uint32_t n_all,
                              uint32_t batch) {
    const ggufc_model *m = compiled_model(DEMO, v->flags);
    int32_t  tokens[MAX_TOKENS];
    double   error = 0, norm = 0;
    uint32_t n = least(n_all, m->n_ctx);
    assert_int_equal(m->n_vocab, VOCAB);
    for (uint32_t i = 0; i < n; i++) tokens[i] = all[i].token;
    float *logits = compiled_logits(m, DEMO, tokens, n, batch, 2);
    for (uint32_t i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * VOCAB;
        compare_position(&all[i], row, i);
        for (uint32_t k = 0; k < all[i].n; k++) {
            error += pow((double)row[all[i].id[k]] - (double)all[i].logit[k], 2);
            norm += pow((double)all[i].logit[k], 2);
        }
    }
    free(logits);
    if (!(error / norm <= 5e-5))
        fail_msg("%s, batches of %u: NMSE %.3g, expected at most 5e-5", v->name, batch,
                 error / norm);
}

static void compare_some_logits(void **state) {
    (void)state;
    static position all[MAX_TOKENS];
    if (getenv("UPDATE_GOLDEN")) update_logits_text();
    uint32_t n = read_positions(all, MAX_TOKENS);
    size_t   i = 0;
    assert_true(n > BEST);
    for (const compiled_variant *v; (v = next_variant(&i));) {
        compare_positions(v, all, n, 1);
        compare_positions(v, all, n, n);
    }
}

/* ---- forced along golden continuations */

static uint32_t check_story(const story *s, const golden_model *g, const compiled_variant *v,
                            uint32_t batch) {
    const ggufc_model *m = compiled_model(g->path, v->flags);
    uint32_t n = least(s->n_tokens - 1, m->n_ctx), checked = 0;
    float   *logits = compiled_logits(m, g->path, s->tokens, n, batch, 1);
    for (uint32_t i = s->n_prompt; i <= n; i++) {
        uint32_t best = compiled_argmax(logits + (size_t)(i - 1) * m->n_vocab, m->n_vocab);
        if (s->margins[i] < (float)margin) continue;
        checked++;
        if (best != (uint32_t)s->tokens[i])
            fail_msg("%s, %s, \"%s\": token %u is %u, expected %d by a margin of %.2f", g->name,
                     v->name, s->prompt, i, best, s->tokens[i], (double)s->margins[i]);
    }
    free(logits);
    return checked;
}

static void check_stories(const golden_model *g, const char *path) {
    static story stories[8];
    uint32_t n = read_stories(path, g->name, stories, ARRAY_LEN(stories)), checked = 0;
    size_t   i = 0;
    for (const compiled_variant *v; (v = next_variant(&i));)
        for (uint32_t k = 0; k < n; k++)
            checked += check_story(&stories[k], g, v, k % 2 ? CHUNK : 1);
    assert_true(checked > 20 * n);
}

static void force_demo_along_stories(void **state) {
    (void)state;
    check_stories(&models[0], GREEDY_TEXT);
}

static void force_others_along_stories(void **state) {
    (void)state;
    if (!exists(SHARED "golden/greedy.tsv")) {
        print_message("%s\n", no_shared);
        skip();
    }
    for (size_t k = 0; k < ARRAY_LEN(models); k++)
        if (models[k].shared) check_stories(&models[k], SHARED "golden/greedy.tsv");
}

/* ---- the same to the bit */

static uint32_t read_a_story(int32_t *tokens) {
    static story s;
    read_stories(GREEDY_TEXT, "storyteller-q8_0", &s, 1);
    memcpy(tokens, s.tokens, s.n_tokens * sizeof *tokens);
    return s.n_tokens;
}

static void assert_same(const float *a, const float *b, uint32_t n, uint32_t n_vocab,
                        const char *what, const char *model) {
    for (size_t i = 0; i < (size_t)n * n_vocab; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s, %s: logit %zu at position %zu is %.9g and not %.9g", model, what,
                     i % n_vocab, i / n_vocab, (double)b[i], (double)a[i]);
}

static void same_for_any_threads(void **state) {
    (void)state;
    int32_t  tokens[MAX_TOKENS];
    uint32_t n_all = read_a_story(tokens);
    size_t   i = 0;
    for (const compiled_variant *v; (v = next_variant(&i));) {
        const ggufc_model *m = compiled_model(DEMO, v->flags);
        uint32_t n = least(n_all, m->n_ctx), batches[] = {1, n};
        for (size_t b = 0; b < ARRAY_LEN(batches); b++) {
            float *one = compiled_logits(m, DEMO, tokens, n, batches[b], 1);
            for (uint32_t threads = 2; threads <= 3; threads++) {
                float *many = compiled_logits(m, DEMO, tokens, n, batches[b], threads);
                assert_same(one, many, n, m->n_vocab, "more threads", v->name);
                free(many);
            }
            free(one);
        }
    }
}

/* Small batches are multiplied as single tokens are, larger ones by tiles, whose sums have another
   order: the same to the bit among themselves, and the same tokens chosen. 64 is a multiple of all
   larger ones, so that no small batch is left over. */
static const uint32_t small_sizes[] = {2, 3, 5, 7}, large_sizes[] = {8, 16, 32, 64};
static const uint32_t batch_sizes[] = {2, 3, 5, 7, 8, 13, 64};

static float *same_sizes(const ggufc_model *m, const char *path, const int32_t *tokens, uint32_t n,
                         const uint32_t *sizes, size_t n_sizes, uint32_t first, const char *name) {
    float *one = compiled_logits(m, path, tokens, n, first, 1);
    for (size_t b = 0; b < n_sizes; b++) {
        float *many = compiled_logits(m, path, tokens, n, m->n_batch < sizes[b] ? first : sizes[b], 1);
        assert_same(one, many, n, m->n_vocab, "batched", name);
        free(many);
    }
    return one;
}

static void same_choices(const float *a, const float *b, uint32_t n, uint32_t n_vocab, const char *name) {
    double nmse = compiled_nmse(a, b, (size_t)n * n_vocab);
    if (!(nmse <= 5e-5)) fail_msg("%s: NMSE of batches against single tokens %.3g", name, nmse);
    for (uint32_t i = 0; i < n; i++) {
        const float *x = a + (size_t)i * n_vocab, *y = b + (size_t)i * n_vocab;
        uint32_t best = compiled_argmax(x, n_vocab), other = compiled_argmax(y, n_vocab);
        if (best != other && x[best] - x[other] >= (float)margin)
            fail_msg("%s: position %u: a batch chooses %u, a single token %u", name, i, other, best);
    }
}

static void same_batches(const char *path, const char *flags, const char *name) {
    const ggufc_model *m = compiled_model(path, flags);
    int32_t  tokens[MAX_TOKENS];
    uint32_t n = least(least(read_a_story(tokens), m->n_ctx), 64);
    assert_int_equal(n, 64);
    float *one = same_sizes(m, path, tokens, n, small_sizes, ARRAY_LEN(small_sizes), 1, name);
    float *many = same_sizes(m, path, tokens, n, large_sizes, ARRAY_LEN(large_sizes), 64, name);
    if (m->n_batch >= 8) same_choices(one, many, n, m->n_vocab, name);
    free(one);
    free(many);
}

static void same_for_any_batch(void **state) {
    (void)state;
    size_t i = 0;
    for (const compiled_variant *v; (v = next_variant(&i));) same_batches(DEMO, v->flags, v->name);
    for (size_t k = 0; k < ARRAY_LEN(models); k++)
        for (size_t j = 0; j < ARRAY_LEN(compiled_isas); j++)
            if (models[k].shared && exists(models[k].path) &&
                compiled_can_run(compiled_isas[j].needs))
                same_batches(models[k].path, compiled_isas[j].flags, models[k].name);
}

static void same_for_any_unroll(void **state) {
    (void)state;
    static const struct {
        const char *full, *looped, *needs;
    } pairs[] = {
        {"", "--unroll=4", ""},
        {"", "--unroll=8", ""},
        {"--cpu=x86-64-v3", "--cpu=x86-64-v3 --unroll=4", X86_V3},
        {"--cpu=x86-64-v2", "--cpu=x86-64-v2 --unroll=4", X86_V2},
        {"--cpu=x86-64", "--cpu=x86-64 --unroll=4", "sse2"},
    };
    int32_t  tokens[MAX_TOKENS];
    uint32_t n = read_a_story(tokens);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (!compiled_can_run(pairs[i].needs)) continue;
        const ggufc_model *full = compiled_model(DEMO, pairs[i].full);
        float *a = compiled_logits(full, DEMO, tokens, n, 1, 1);
        float *b = compiled_logits(compiled_model(DEMO, pairs[i].looped), DEMO, tokens, n, 1, 1);
        assert_same(a, b, n, full->n_vocab, pairs[i].looped, "against --unroll=full");
        free(a);
        free(b);
    }
}

/* ---- greedy continuation after a prompt in batches */

static void continue_greedily(const ggufc_model *m, const int32_t *prompt, uint32_t n,
                              uint32_t batch, int32_t *out, uint32_t n_out) {
    ggufc_session *s = compiled_session(m, DEMO, 2);
    for (uint32_t i = 0; i < n; i += batch)
        assert_int_equal(ggufc_session_evaluate(s, prompt + i, least(batch, n - i), NULL), 0);
    for (uint32_t i = 0; i < n_out; i++) {
        out[i] = (int32_t)compiled_argmax(ggufc_session_logits(s), m->n_vocab);
        assert_int_equal(ggufc_session_evaluate(s, &out[i], 1, NULL), 0);
    }
    ggufc_session_close(s);
}

static void same_continuation_after_any_batch(void **state) {
    (void)state;
    enum { PROMPT = 33, OUT = 30 };
    int32_t tokens[MAX_TOKENS], one[OUT], many[OUT];
    assert_true(read_a_story(tokens) >= PROMPT);
    size_t  i = 0;
    for (const compiled_variant *v; (v = next_variant(&i));) {
        const ggufc_model *m = compiled_model(DEMO, v->flags);
        continue_greedily(m, tokens, PROMPT, 1, one, OUT);
        for (size_t b = 0; b < ARRAY_LEN(batch_sizes); b++) {
            continue_greedily(m, tokens, PROMPT, batch_sizes[b], many, OUT);
            assert_memory_equal(one, many, sizeof one);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_some_logits),
        cmocka_unit_test(force_demo_along_stories),
        cmocka_unit_test(compare_all_logits),
        cmocka_unit_test(force_others_along_stories),
        cmocka_unit_test(same_for_any_threads),
        cmocka_unit_test(same_for_any_batch),
        cmocka_unit_test(same_for_any_unroll),
        cmocka_unit_test(same_continuation_after_any_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
