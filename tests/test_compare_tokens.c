/* Comparisons whose sides do not have the same tokens: both lists are shown, and the likely cause. */
#include "compare_fixture.h"

#include <fnmatch.h>

typedef struct tokens {
    int32_t  id[256];
    uint32_t n;
} tokens;

/* How an engine reads a text; all false: as it should. */
typedef struct reading {
    bool no_ends, no_special, other_prefix, twice_bos, eos;
    uint32_t more; /* tokens behind it */
    int32_t  instead; /* of the last token; 0: that */
} reading;

static engine demo;

static int open_demo(void **state) {
    (void)state;
    engine_setup s = { .model = DEMO, .kernels = ENGINE_INTERPRETED, .layer = -1 };
    engine_begin(&demo, &s, 64);
    return 0;
}

static int close_demo(void **state) {
    (void)state;
    engine_close(&demo);
    return 0;
}

static tokens read_text(const char *text, reading r) {
    ggufc_vocab v = demo.compilation.vocab.vocab;
    tokens      t = { .n = r.twice_bos };
    unsigned    flags = (r.no_ends ? 0 : TOKENIZER_ADD_SPECIAL) | (r.no_special ? 0 : TOKENIZER_PARSE_SPECIAL);
    if (r.other_prefix) v.add_space_prefix = !v.add_space_prefix;
    t.id[0] = v.bos;
    t.n += (uint32_t)tokenizer_encode(&v, text, strlen(text), flags, t.id + t.n, ARRAY_LEN(t.id) - t.n);
    if (r.eos) t.id[t.n++] = v.eos;
    for (uint32_t i = 0; i < r.more; i++) t.id[t.n++] = 300 + (int32_t)i;
    if (r.instead) t.id[t.n - 1] = r.instead;
    return t;
}

/* A recording of these tokens and nothing else. */
static const char *write_ids(const char *name, const tokens *t) {
    const char *to = new_folder(name);
    arena      *a = arena_new();
    const char *text = "";
    for (uint32_t i = 0; i < t->n; i++) text = arena_printf(a, "%s%d\n", text, t->id[i]);
    write_text(arena_printf(a, "%s/tokens.txt", to), text);
    arena_free(a);
    return to;
}

#define STORY_TEXT   "Once upon a time, Mia lived near the river."
#define SPECIAL_TEXT "Once</s> upon a time"

static const struct {
    const char *text;
    reading     reading; /* of B; A reads it as it should */
    const char *cause;   /* a pattern; NULL: none is told */
} differences[] = {
    { STORY_TEXT, { .no_ends = true }, "BOS (1'<s>') is missing in B" },
    { STORY_TEXT, { .twice_bos = true }, "B begins with two BOS (1'<s>'): the text has one, and another was added" },
    { STORY_TEXT, { .other_prefix = true }, "the space before the text: one adds it and the other does not" },
    { STORY_TEXT, { .other_prefix = true, .no_ends = true }, "the space before the text, and BOS or EOS" },
    { SPECIAL_TEXT, { .no_special = true },
      "special tokens in the text: one parses them and the other takes them for text" },
    { SPECIAL_TEXT, { .no_special = true, .no_ends = true }, "special tokens taken for text, and BOS or EOS" },
    { SPECIAL_TEXT, { .no_special = true, .other_prefix = true },
      "the space before the text, and special tokens taken for text" },
    { STORY_TEXT, { .eos = true }, "EOS (2'</s>') was added in B" },
    { STORY_TEXT, { .more = 3 }, "B goes on where A ends, after ?* tokens: of another text, or generated" },
    { STORY_TEXT, { .instead = 300 }, NULL },
    { SPECIAL_TEXT, { .instead = 300 }, NULL },
    { "a", { .instead = 300 }, NULL },
};

/* What is said holds both lists, and the cause where there is one, of A and B in either order. */
static void assert_told(const compared *c, size_t row, bool swap) {
    const char *said = c->r.tokens_differ, *cause = differences[row].cause;
    if (c->outcome != COMPARE_FAILED || c->n_errors || !said) fail_msg("row %zu: %s", row, c->said);
    char pattern[512] = "*A has * tokens: *\nB has * tokens: *\nthey differ from token ?*";
    size_t n = strlen(pattern);
    if (cause) n += (size_t)snprintf(pattern + n, sizeof pattern - n, " on; likely cause: %s", cause);
    for (char *at = pattern; swap && cause && (at = strpbrk(at, "AB")); at++)
        if (at > strstr(pattern, "cause: ") && (at[1] == ' ' || !at[1])) *at = *at == 'A' ? 'B' : 'A';
    if (fnmatch(pattern, said, 0)) fail_msg("row %zu: expected \"%s\": %s", row, pattern, said);
    if (!cause && strstr(said, "likely cause")) fail_msg("row %zu: %s", row, said);
}

static void causes_are_told(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(differences); i++)
        for (int swap = 0; swap < 2; swap++) {
            tokens          t = read_text(differences[i].text, differences[i].reading);
            const char     *ids = write_ids("ids", &t), *model = "interpreted:" DEMO;
            compare_options o = compared_options(swap ? ids : model, swap ? model : ids);
            o.text = differences[i].text;
            o.text_size = strlen(o.text);
            compared c = compared_run(&o);
            assert_told(&c, i, swap);
            compared_free(&c);
        }
}

/* Two recordings, neither of which says what text it is of. */
static void causes_without_a_text(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(differences); i++) {
        tokens          right = read_text(differences[i].text, (reading){ 0 });
        tokens          other = read_text(differences[i].text, differences[i].reading);
        compare_options o = compared_options(write_ids("right", &right), write_ids("other", &other));
        o.model = DEMO;
        compared c = compared_run(&o);
        assert_told(&c, i, false);
        compared_free(&c);
    }
}

/* Of long lists that part is shown where they differ. */
static void long_lists(void **state) {
    (void)state;
    tokens a = { .n = 200 }, b;
    for (int i = 0; i < 200; i++) a.id[i] = 300 + i;
    b = a;
    b.id[120] = 999;
    compare_options o = compared_options(write_ids("right", &a), write_ids("other", &b));
    o.model = DEMO;
    compared c = compared_run(&o);
    assert_true(has(c.r.tokens_differ, "A has 200 tokens: … 412'"));
    assert_true(has(c.r.tokens_differ, "B has 200 tokens: … 412'"));
    assert_true(has(c.r.tokens_differ, " 420'") && has(c.r.tokens_differ, " 999'"));
    assert_true(has(c.r.tokens_differ, "' …\nthey differ from token 120 on"));
    compared_free(&c);
}

/* Bytes of tokens that would break a line, or end a text. */
static void odd_tokens(void **state) {
    (void)state;
    tokens a = { .n = 4 }, b;
    const int32_t *bytes = demo.compilation.vocab.vocab.byte_tokens, newline = bytes['\n'], zero = bytes[0];
    assert_true(newline > 0 && zero > 0);
    memcpy(a.id, (int32_t[]){ 1, newline, zero, 300 }, 4 * sizeof *a.id);
    b = a;
    b.id[3] = 301;
    compare_options o = compared_options(write_ids("right", &a), write_ids("other", &b));
    o.model = DEMO;
    compared c = compared_run(&o);
    char shown[64];
    snprintf(shown, sizeof shown, " %d'\\n' %d'\\x00' 300'", newline, zero);
    if (!has(c.r.tokens_differ, shown)) fail_msg("no \"%s\": %s", shown, c.r.tokens_differ);
    compared_free(&c);
}

/* ---- whose tokens are taken */

static void ids_out_of_range(void **state) {
    (void)state;
    tokens   t = { .id = { 1, 1024 }, .n = 2 };
    compared c = compared_pair(write_ids("ids", &t), "interpreted:" DEMO);
    assert_int_equal(c.outcome, COMPARE_FAILED);
    assert_string_equal(c.said, "token 1024 at position 1 is not in the vocabulary of 1024\n");
    compared_free(&c);
    tokens right = { .id = { 1, 300 }, .n = 2 };
    compare_options o = compared_options(write_ids("other", &right), write_ids("ids", &t));
    o.model = DEMO;
    c = compared_run(&o);
    assert_true(has(c.r.tokens_differ, "B has 2 tokens: 1'<s>' 1024''\n"));
    compared_free(&c);
}

static void nothing_to_evaluate(void **state) {
    (void)state;
    compare_options o = compared_options(DEMO, "interpreted:" DEMO);
    compared c = compared_run(&o);
    assert_string_equal(c.said, "nothing to evaluate: give a text with -p or -f, or ids with --tokens\n");
    compared_free(&c);
    o.text = "";
    c = compared_run(&o);
    /* BOS alone, or nothing: not both */
    assert_int_equal(c.n_errors, c.outcome == COMPARE_FAILED);
    compared_free(&c);
    o.text = NULL;
    o.tokens = story;
    c = compared_run(&o);
    assert_string_equal(c.said, "there are no tokens to evaluate\n");
    compared_free(&c);
}

/* A text that was recorded stands for its tokens where these were not. */
static void a_recorded_text(void **state) {
    (void)state;
    tokens      t = read_text(STORY_TEXT, (reading){ 0 });
    const char *to = new_folder("text");
    arena      *a = arena_new();
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .layer = -1 };
    write_text(arena_printf(a, "%s/prompt.txt", to), STORY_TEXT "\n");
    write_text(arena_printf(a, "%s/embd.txt", to), "0.123456789 0.5\n");
    compared c = compared_pair("interpreted:" DEMO, to);
    assert_int_equal(c.outcome, COMPARE_DIFFERENT);
    assert_int_equal(c.r.n_tokens, t.n);
    assert_memory_equal(c.r.tokens, t.id, t.n * sizeof *t.id);
    assert_string_equal(c.r.text, STORY_TEXT);
    compared_free(&c);
    const char *acts = in_folder("acts.gguf");
    engine_write(&e, t.id, t.n, acts);
    compare_options o = compared_options(to, acts);
    o.model = DEMO;
    o.text = "another text";
    o.text_size = strlen(o.text);
    c = compared_run(&o);
    assert_int_equal(c.r.n_tokens, t.n);
    assert_true(has(c.r.notes[1], "the text or tokens that were given are left out: those recorded are taken"));
    compared_free(&c);
    arena_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(causes_are_told),
        cmocka_unit_test(causes_without_a_text),
        cmocka_unit_test(long_lists),
        cmocka_unit_test(odd_tokens),
        cmocka_unit_test(ids_out_of_range),
        cmocka_unit_test(nothing_to_evaluate),
        cmocka_unit_test(a_recorded_text),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
