/* test_vocab.c - tables from metadata: defaults, roles, and every refusal with its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vocab_fixture.h"

#define KEY(name) "tokenizer.ggml." name

static void keep_line(void *user, enum diag_level level, const char *line) {
    if (level == DIAG_ERROR) snprintf(user, 500, "%s", line);
}

/* ---- refusals: each writes its metadata behind a model that is "llama" */

typedef struct bad_case {
    const char *name;
    void (*write)(gguf_writer *w);
    const char *says[3]; /* parts of the message */
} bad_case;

static const char *const three[] = { "<unk>", "a", "b" };

static void put_three(gguf_writer *w) {
    writer_kv_strings(w, KEY("tokens"), three, 3);
}

static void put_floats(gguf_writer *w, const char *key, float last, uint64_t n) {
    float values[4] = { 0, 0, 0, 0 };
    values[n - 1] = last;
    writer_kv_array(w, key, GGUF_F32, values, n, sizeof values[0]);
}

static void no_tokens(gguf_writer *w) {
    (void)w;
}

static void tokens_a_string(gguf_writer *w) {
    writer_kv_string(w, KEY("tokens"), "a");
}

static void tokens_numbers(gguf_writer *w) {
    put_floats(w, KEY("tokens"), 1, 3);
}

static void tokens_empty(gguf_writer *w) {
    writer_kv_strings(w, KEY("tokens"), NULL, 0);
}

static void scores_short(gguf_writer *w) {
    put_three(w);
    put_floats(w, KEY("scores"), 0, 2);
}

static void scores_long(gguf_writer *w) {
    put_three(w);
    put_floats(w, KEY("scores"), 0, 4);
}

static void scores_strings(gguf_writer *w) {
    put_three(w);
    writer_kv_strings(w, KEY("scores"), three, 3);
}

static void scores_a_number(gguf_writer *w) {
    put_three(w);
    writer_kv_f32(w, KEY("scores"), 1);
}

static void scores_nan(gguf_writer *w) {
    put_three(w);
    put_floats(w, KEY("scores"), NAN, 3);
}

static void types_short(gguf_writer *w) {
    int32_t types[2] = { 1, 1 };
    put_three(w);
    writer_kv_array(w, KEY("token_type"), GGUF_I32, types, 2, 4);
}

static void types_floats(gguf_writer *w) {
    put_three(w);
    put_floats(w, KEY("token_type"), 1, 3);
}

static void bos_out(gguf_writer *w) {
    put_three(w);
    writer_kv_u32(w, KEY("bos_token_id"), 3);
}

static void eos_out(gguf_writer *w) {
    put_three(w);
    writer_kv_u32(w, KEY("eos_token_id"), UINT32_MAX);
}

static void eos_negative(gguf_writer *w) {
    put_three(w);
    writer_kv_i32(w, KEY("eos_token_id"), -1);
}

static void unk_text(gguf_writer *w) {
    put_three(w);
    writer_kv_string(w, KEY("unknown_token_id"), "<unk>");
}

static void eot_out(gguf_writer *w) {
    put_three(w);
    writer_kv_u64(w, KEY("eot_token_id"), UINT64_C(1) << 32);
}

static void add_bos_number(gguf_writer *w) {
    put_three(w);
    writer_kv_u32(w, KEY("add_bos_token"), 1);
}

static const bad_case bad_cases[] = {
    { "no tokens", no_tokens, { KEY("tokens"), "missing" } },
    { "tokens a string", tokens_a_string, { KEY("tokens"), "string" } },
    { "tokens numbers", tokens_numbers, { KEY("tokens"), "f32" } },
    { "tokens empty", tokens_empty, { KEY("tokens"), "0 elements" } },
    { "scores short", scores_short, { KEY("scores"), "2 elements", "expected 3" } },
    { "scores long", scores_long, { KEY("scores"), "4 elements", "expected 3" } },
    { "scores strings", scores_strings, { KEY("scores"), "string" } },
    { "scores a number", scores_a_number, { KEY("scores"), "f32" } },
    { "scores NaN", scores_nan, { KEY("scores") "[2]", "NaN" } },
    { "types short", types_short, { KEY("token_type"), "2 elements", "expected 3" } },
    { "types floats", types_floats, { KEY("token_type"), "f32" } },
    { "bos out of range", bos_out, { KEY("bos_token_id"), "is 3", "less than 3" } },
    { "eos out of range", eos_out, { KEY("eos_token_id"), "4294967295" } },
    { "eos negative", eos_negative, { KEY("eos_token_id") } },
    { "unk a text", unk_text, { KEY("unknown_token_id"), "string" } },
    { "eot out of range", eot_out, { KEY("eot_token_id"), "4294967296" } },
    { "add_bos a number", add_bos_number, { KEY("add_bos_token"), "bool" } },
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_cases); i++) {
        const bad_case *c = &bad_cases[i];
        char line[500] = "";
        diag d = { .sink = keep_line, .user = line };
        fixture x = { .a = NULL };
        writer_begin(&x.writer);
        writer_kv_string(&x.writer, KEY("model"), "llama");
        c->write(&x.writer);
        fixture_read(&x, &d);
        if (x.result != VOCAB_BAD || d.n_errors != 1) fail_msg("%s: not refused", c->name);
        assert_non_null(strstr(line, "test.gguf"));
        for (size_t s = 0; s < ARRAY_LEN(c->says) && c->says[s]; s++)
            if (!strstr(line, c->says[s]))
                fail_msg("%s: \"%s\" lacks %s", c->name, line, c->says[s]);
        fixture_close(&x);
    }
}

/* ---- what is not ours */

static void check_model(const char *model, int result) {
    char line[500] = "";
    diag d = { .sink = keep_line, .user = line };
    fixture x = { .a = NULL };
    writer_begin(&x.writer);
    if (model) writer_kv_string(&x.writer, KEY("model"), model);
    put_three(&x.writer);
    fixture_read(&x, &d);
    assert_int_equal(x.result, result);
    assert_int_equal(d.n_errors, 0);
    if (model)
        assert_string_equal(x.tables.model, model);
    else
        assert_null(x.tables.model);
    fixture_close(&x);
}

static void test_unsupported(void **state) {
    (void)state;
    check_model("llama", VOCAB_READ);
    check_model("gpt2", VOCAB_UNSUPPORTED);
    check_model("bert", VOCAB_UNSUPPORTED);
    check_model("", VOCAB_UNSUPPORTED);
    check_model(NULL, VOCAB_UNSUPPORTED);
}

static void test_model_mistyped(void **state) {
    (void)state;
    char line[500] = "";
    diag d = { .sink = keep_line, .user = line };
    fixture x = { .a = NULL };
    writer_begin(&x.writer);
    writer_kv_u32(&x.writer, KEY("model"), 1);
    fixture_read(&x, &d);
    assert_int_equal(x.result, VOCAB_BAD);
    assert_int_equal(d.n_errors, 1);
    fixture_close(&x);
}

/* ---- defaults, flags, roles */

static void test_defaults(void **state) {
    (void)state;
    diag d = { .sink = fixture_ignore };
    fixture x = { .a = NULL };
    writer_begin(&x.writer);
    writer_kv_string(&x.writer, KEY("model"), "llama");
    put_three(&x.writer);
    fixture_read(&x, &d);
    const ggufc_vocab *v = &x.tables.vocab;
    assert_int_equal(x.result, VOCAB_READ);
    assert_int_equal(v->kind, GGUFC_VOCAB_SPM);
    assert_int_equal(v->n_tokens, 3);
    assert_int_equal(x.tables.text_bytes, 7);
    assert_int_equal(v->bos, 1);
    assert_int_equal(v->eos, 2);
    assert_int_equal(v->unk, 0);
    assert_int_equal(v->eot, -1);
    assert_true(v->add_bos && !v->add_eos && v->add_space_prefix);
    assert_int_equal(v->n_special, 0);
    assert_non_null(v->special);
    assert_int_equal(v->types[0], GGUFC_TOKEN_NORMAL);
    assert_int_equal(v->types[2], GGUFC_TOKEN_NORMAL | GGUFC_TOKEN_ENDS);
    assert_true(v->scores[1] == 0);
    assert_int_equal(v->byte_tokens['a'], 1); /* no <0x61>: the byte itself */
    assert_int_equal(v->byte_tokens['c'], -1);
    fixture_close(&x);
}

static void test_given_values(void **state) {
    (void)state;
    const int32_t scores[3] = { -1, 2, 7 }, types[3] = { 2, 77, -1 };
    diag d = { .sink = fixture_ignore };
    fixture x = { .a = NULL };
    gguf_writer *w = &x.writer;
    writer_begin(w);
    writer_kv_string(w, KEY("model"), "llama");
    put_three(w);
    writer_kv_array(w, KEY("scores"), GGUF_I32, scores, 3, 4);
    writer_kv_array(w, KEY("token_type"), GGUF_I32, types, 3, 4);
    writer_kv_u32(w, KEY("bos_token_id"), 2);
    writer_kv_i32(w, KEY("eos_token_id"), 0);
    writer_kv_u32(w, KEY("unknown_token_id"), 1);
    writer_kv_u32(w, KEY("eot_token_id"), 1);
    writer_kv_bool(w, KEY("add_bos_token"), false);
    writer_kv_bool(w, KEY("add_eos_token"), true);
    writer_kv_bool(w, KEY("add_space_prefix"), false);
    fixture_read(&x, &d);
    const ggufc_vocab *v = &x.tables.vocab;
    assert_int_equal(x.result, VOCAB_READ);
    assert_true(v->scores[0] == -1 && v->scores[1] == 2 && v->scores[2] == 7);
    assert_int_equal(v->types[1], GGUFC_TOKEN_ENDS); /* no type that is known */
    assert_int_equal(v->types[2], 0);
    assert_int_equal(v->bos, 2);
    assert_int_equal(v->eos, 0);
    assert_int_equal(v->unk, 1);
    assert_int_equal(v->eot, 1);
    assert_true(!v->add_bos && v->add_eos && !v->add_space_prefix);
    assert_int_equal(v->n_special, 1);
    assert_int_equal(v->special[0], 0);
    fixture_close(&x);
}

static void test_tiny_vocabulary(void **state) {
    (void)state;
    const fixture_token row = { "", 0, 1 };
    fixture x;
    fixture_make(&x, "tiny", &row, 1);
    assert_int_equal(x.result, VOCAB_READ);
    assert_int_equal(x.tables.vocab.bos, -1); /* the defaults are out of range */
    assert_int_equal(x.tables.vocab.eos, -1);
    assert_int_equal(x.tables.vocab.unk, 0);
    assert_int_equal(x.tables.text_bytes, 0);
    fixture_close(&x);
}

static void test_duplicates_and_order(void **state) {
    (void)state;
    const fixture_token rows[] = { { "<unk>", 0, 2 }, { "<s>", 0, 3 }, { "x", 0, 1 },
                                   { "x", 9, 1 },     { "", 0, 1 },    { "<long token>", 0, 4 },
                                   { "<t>", 0, 4 },   { "", 0, 4 } };
    const int32_t order[] = { 5, 0, 1, 6, 7 };
    fixture x;
    fixture_make(&x, "some", rows, ARRAY_LEN(rows));
    const ggufc_vocab *v = &x.tables.vocab;
    assert_int_equal(x.result, VOCAB_READ);
    assert_int_equal(ggufc_vocab_find(v, "x", 1), 2);
    assert_int_equal(ggufc_vocab_find(v, "", 0), 4);
    assert_int_equal(v->n_special, ARRAY_LEN(order));
    for (size_t i = 0; i < ARRAY_LEN(order); i++) assert_int_equal(v->special[i], order[i]);
    fixture_close(&x);
}

static void test_roles_by_text(void **state) {
    (void)state;
    const fixture_token rows[] = { { "<unk>", 0, 2 },      { "<s>", 0, 3 },
                                   { "</s>", 0, 1 },       { "<|endoftext|>", 0, 3 },
                                   { "<|end|>", 0, 4 },    { "▁<PRE>", 0, 1 },
                                   { "<|eom_id|>", 0, 1 }, { "a", 0, 1 } };
    fixture x;
    fixture_make(&x, "some", rows, ARRAY_LEN(rows));
    const ggufc_vocab *v = &x.tables.vocab;
    assert_int_equal(v->eot, 4); /* stands before <|endoftext|> in the table */
    assert_int_equal(v->types[2], GGUFC_TOKEN_CONTROL | GGUFC_TOKEN_ENDS);
    assert_int_equal(v->types[3], GGUFC_TOKEN_CONTROL | GGUFC_TOKEN_ENDS);
    assert_int_equal(v->types[4], GGUFC_TOKEN_CONTROL | GGUFC_TOKEN_ENDS);
    assert_int_equal(v->types[5], GGUFC_TOKEN_CONTROL);
    assert_int_equal(v->types[6], GGUFC_TOKEN_CONTROL | GGUFC_TOKEN_ENDS);
    assert_int_equal(v->types[7], GGUFC_TOKEN_NORMAL);
    assert_int_equal(v->n_special, 7);
    fixture_close(&x);
}

static void test_demo(void **state) {
    (void)state;
    fixture x;
    assert_true(fixture_open(&x, FIXTURE_DEMO));
    const ggufc_vocab *v = &x.tables.vocab;
    assert_int_equal(x.result, VOCAB_READ);
    assert_string_equal(x.tables.model, "llama");
    assert_int_equal(v->n_tokens, 1024);
    assert_int_equal(v->bos, 1);
    assert_int_equal(v->eos, 2);
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        const char *text = v->text + v->offsets[i];
        int32_t id = ggufc_vocab_find(v, text, v->offsets[i + 1] - v->offsets[i]);
        assert_in_range(id, 0, i);
    }
    for (int b = 0; b < 256; b++) assert_in_range(v->byte_tokens[b], 0, 1023);
    fixture_close(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_model_mistyped),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_given_values),
        cmocka_unit_test(test_tiny_vocabulary),
        cmocka_unit_test(test_duplicates_and_order),
        cmocka_unit_test(test_roles_by_text),
        cmocka_unit_test(test_demo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
