/* test_tokenizer.c - ids against llama.cpp's, round trips, rules one by one, worst cases.
 *
 * The vectors and golden prompts stand in ../shared and are skipped where it is absent; the rules
 * are tested on vocabularies of a few tokens, made here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tokenizer.h"
#include "sanitized.h"
#include "vocab_fixture.h"

enum {
    N = GGUFC_TOKEN_NORMAL,
    U = GGUFC_TOKEN_UNKNOWN,
    C = GGUFC_TOKEN_CONTROL,
    D = GGUFC_TOKEN_USER_DEFINED,
    B = GGUFC_TOKEN_BYTE
};

/* The file's text, NUL-terminated and malloc'd, or NULL. */
static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t size = 0, room = 1 << 20;
    char *text = malloc(room);
    assert_non_null(text);
    size = fread(text, 1, room - 1, f);
    assert_true(size < room - 1);
    text[size] = 0;
    fclose(f);
    return text;
}

/* The ids as "1 23 4"; malloc'd. */
static char *encode_to_text(const ggufc_vocab *v, const char *text, size_t size, unsigned flags) {
    int64_t n = tokenizer_encode(v, text, size, flags, NULL, 0);
    assert_true(n >= 0);
    int32_t *ids = malloc((size_t)n * sizeof *ids + 1);
    char *line = malloc((size_t)n * 12 + 1), *at = line;
    assert_int_equal(tokenizer_encode(v, text, size, flags, ids, (size_t)n), n);
    *at = 0;
    for (int64_t i = 0; i < n; i++) at += sprintf(at, i ? " %d" : "%d", ids[i]);
    free(ids);
    return line;
}

static void check(const fixture *x, const char *text, unsigned flags, const char *expected) {
    char *ids = encode_to_text(&x->tables.vocab, text, strlen(text), flags);
    assert_string_equal(ids, expected);
    free(ids);
}

/* ---- against llama.cpp */

static char *cut_at(char *text, const char *end) {
    char *at = strstr(text, end);
    if (!at) return NULL;
    *at = 0;
    return at + strlen(end);
}

static void replace_commas(char *text) {
    while ((text = strchr(text, ','))) *text = ' ';
}

static void test_golden_prompts(void **state) {
    (void)state;
    fixture x;
    char *golden = read_text(FIXTURE_SHARED "golden/greedy.tsv"), *next = golden;
    int n_lines = 0;
    if (!golden) {
        print_message("skipped: " FIXTURE_SHARED "golden/greedy.tsv is absent\n");
        skip();
    }
    assert_true(fixture_open(&x, FIXTURE_DEMO));
    for (char *line = golden; line && *line; line = next, n_lines++) {
        next = cut_at(line, "\n");
        char *prompt = cut_at(line, "\t"), *text = cut_at(prompt, "\t"), *ids = cut_at(text, "\t");
        cut_at(ids, "\t");
        replace_commas(ids);
        check(&x, prompt, TOKENIZER_ADD_SPECIAL, ids);
    }
    assert_true(n_lines > 100);
    free(golden);
    fixture_close(&x);
}

static void check_vectors(const char *name) {
    char path[256];
    fixture x;
    int n_cases = 0;
    snprintf(path, sizeof path, FIXTURE_SHARED "vocab/ggml-vocab-%s.gguf", name);
    if (!fixture_open(&x, path)) {
        fixture_close(&x);
        print_message("skipped: %s is absent\n", path);
        skip();
    }
    assert_int_equal(x.result, VOCAB_READ);
    strcat(path, ".inp");
    char *inputs = read_text(path);
    strcpy(path + strlen(path) - 3, "out");
    char *outputs = read_text(path), *out = outputs;
    assert_non_null(inputs);
    assert_non_null(outputs);
    for (char *in = inputs, *next; in; in = next, n_cases++) {
        next = cut_at(in, "\n__ggml_vocab_test__\n");
        char *next_out = cut_at(out, "\n");
        size_t size = strlen(out);
        while (size && out[size - 1] == ' ') out[--size] = 0;
        check(&x, in, 0, out + strspn(out, " "));
        out = next_out ? next_out : out + size;
    }
    assert_true(n_cases > 40);
    free(inputs);
    free(outputs);
    fixture_close(&x);
}

static void test_vectors_llama(void **state) {
    (void)state;
    check_vectors("llama-spm");
}

static void test_vectors_phi3(void **state) {
    (void)state;
    check_vectors("phi-3");
}

/* Ids recorded from llama.cpp: special tokens, and that they swallow white space. */
static void test_phi3_chat(void **state) {
    (void)state;
    fixture x;
    if (!fixture_open(&x, FIXTURE_SHARED "vocab/ggml-vocab-phi-3.gguf")) {
        fixture_close(&x);
        print_message("skipped: " FIXTURE_SHARED "vocab is absent\n");
        skip();
    }
    const char *chat = "<s><|user|>\n Hi <|end|>\n<|assistant|>\n";
    check(&x, chat, TOKENIZER_PARSE_SPECIAL, "1 32010 6324 29871 32007 32001");
    check(
        &x, chat, TOKENIZER_ADD_SPECIAL,
        "1 529 29879 5299 29989 1792 29989 29958 13 6324 529 29989 355 29989 29958 13 29966 29989 "
        "465 22137 29989 29958 13");
    assert_true(tokenizer_is_end(&x.tables.vocab, 32000)); /* <|endoftext|>, its EOS */
    assert_true(tokenizer_is_end(&x.tables.vocab, 32007)); /* <|end|>, its EOT */
    assert_true(tokenizer_is_end(&x.tables.vocab, 2));     /* </s> */
    assert_false(tokenizer_is_end(&x.tables.vocab, 32010));
    assert_int_equal(x.tables.vocab.eot, 32007);
    fixture_close(&x);
}

/* ---- the rules, one by one */

static const fixture_token small[] = {
    { "<unk>", 0, U },  { "<s>", 0, C },    { "</s>", 0, C }, { "▁", -1, N },      { "a", -2, N },
    { "b", -2, N },     { "aa", -3, N },    { "ab", -3, N },  { "▁a", -4, N },     { "aaa", -1, N },
    { "<0x41>", 0, B }, { "<tool>", 0, D }, { "ä", -5, N },   { "<tool>s", 0, C },
};

static void test_merging(void **state) {
    (void)state;
    fixture x;
    fixture_make(&x, "small", small, ARRAY_LEN(small));
    assert_int_equal(x.result, VOCAB_READ);
    check(&x, "", 0, "");
    check(&x, "a", 0, "8");
    check(&x, "b", 0, "3 5");
    check(&x, "ba", 0, "3 5 4");
    check(&x, "baa", 0, "3 5 6");
    check(&x, "baaa", 0, "3 5 9");
    check(&x, "baab", 0, "3 5 6 5");  /* aa and ab are equally good: the left one */
    check(&x, "baaaa", 0, "3 5 9 4"); /* aa, then aaa before the other aa */
    check(&x, "baaaaaa", 0, "3 5 9 9");
    check(&x, "aab", 0, "3 6 5"); /* the better aa before ▁a */
    check(&x, "b  b", 0, "3 5 3 3 5");
    check(&x, "ä", 0, "3 12");
    fixture_close(&x);
}

static void test_bytes_and_unknown(void **state) {
    (void)state;
    fixture x;
    fixture_make(&x, "small", small, ARRAY_LEN(small));
    check(&x, "A", 0, "3 10");
    check(&x, "Z", 0, "3 0");     /* no byte token */
    check(&x, "€", 0, "3 0 0 0"); /* one for each byte */
    check(&x, "\xff", 0, "3 0");
    check(&x,
          "\xe2"
          "bb",
          0, "3 0 5 5");         /* taken for a character of three bytes */
    check(&x, "\xe2", 0, "3 0"); /* cut short by the end */
    check(&x, "\xc3 b", 0, "3 0 0 0 0 5");
    fixture_close(&x);
}

static void test_special_tokens(void **state) {
    (void)state;
    fixture x;
    fixture_make(&x, "small", small, ARRAY_LEN(small));
    ggufc_vocab *v = &x.tables.vocab;
    check(&x, "", TOKENIZER_ADD_SPECIAL, "1");
    check(&x, "b", TOKENIZER_ADD_SPECIAL, "1 3 5");
    check(&x, "b<tool>b", 0, "3 5 11 3 5"); /* user-defined: always, and a prefix after it */
    check(&x, "<tool>", 0, "11");
    check(&x, "<tool><tool>b", TOKENIZER_PARSE_SPECIAL, "11 11 3 5");
    check(&x, "<tool>s", TOKENIZER_PARSE_SPECIAL, "13"); /* the longest */
    check(&x, "b</s>b", TOKENIZER_PARSE_SPECIAL, "3 5 2 3 5");
    check(&x, "b<unk>", TOKENIZER_PARSE_SPECIAL, "3 5 0");
    check(&x, "<s>b", TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, "1 1 3 5");
    check(&x, "</s> b", TOKENIZER_PARSE_SPECIAL, "2 3 3 5");
    v->add_space_prefix = 0;
    check(&x, "b<tool>b", 0, "5 11 5");
    v->add_bos = 0;
    v->add_eos = 1;
    check(&x, "b", TOKENIZER_ADD_SPECIAL, "5 2");
    check(&x, "", TOKENIZER_ADD_SPECIAL, "2");
    v->bos = v->eos = -1;
    v->add_bos = 1;
    check(&x, "b", TOKENIZER_ADD_SPECIAL, "5");
    fixture_close(&x);
}

static void test_phi3_strips(void **state) {
    (void)state;
    fixture x;
    fixture_make(&x, "My Phi-3 mini", small, ARRAY_LEN(small));
    check(&x, "</s> \n\tb", TOKENIZER_PARSE_SPECIAL, "2 3 5");
    check(&x, "<tool>  ", 0, "11");
    check(&x, "<tool>  <tool> b", 0, "11 11 3 5");
    check(&x, "<s> b", TOKENIZER_PARSE_SPECIAL, "1 3 3 5"); /* an exception */
    fixture_close(&x);
}

static void test_without_unknown(void **state) {
    (void)state;
    fixture x;
    fixture_make(&x, "small", small, ARRAY_LEN(small));
    x.tables.vocab.unk = -1;
    check(&x, "bZb", 0, "3 5 5");
    fixture_close(&x);
}

static void test_capacity(void **state) {
    (void)state;
    fixture x;
    int32_t out[4] = { -7, -7, -7, -7 };
    fixture_make(&x, "small", small, ARRAY_LEN(small));
    assert_int_equal(tokenizer_encode(&x.tables.vocab, "bbb", 3, 0, out, 2), 4);
    assert_int_equal(out[0], 3);
    assert_int_equal(out[1], 5);
    assert_int_equal(out[2], -7);
    assert_int_equal(tokenizer_encode(&x.tables.vocab, NULL, 0, 0, NULL, 0), 0);
    assert_int_equal(tokenizer_encode(&x.tables.vocab, "b", TOKENIZER_MAX_TEXT + 1, 0, out, 4),
                     TOKENIZER_TOO_LONG);
    fixture_close(&x);
}

static void check_piece(const fixture *x, int32_t id, unsigned flags, const char *expected) {
    char out[16];
    size_t n = tokenizer_piece(&x->tables.vocab, id, out, sizeof out, flags);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(out, expected, n);
}

static void test_pieces(void **state) {
    (void)state;
    fixture x;
    char out[2] = { '#', '#' };
    fixture_make(&x, "small", small, ARRAY_LEN(small));
    check_piece(&x, 8, 0, " a");
    check_piece(&x, 12, 0, "ä");
    check_piece(&x, 10, 0, "A");
    check_piece(&x, 11, 0, "<tool>");
    check_piece(&x, 0, 0, "");
    check_piece(&x, 1, 0, "");
    check_piece(&x, 0, TOKENIZER_SHOW_SPECIAL, "<unk>");
    check_piece(&x, 2, TOKENIZER_SHOW_SPECIAL, "</s>");
    check_piece(&x, -1, TOKENIZER_SHOW_SPECIAL, "");
    check_piece(&x, (int32_t)ARRAY_LEN(small), TOKENIZER_SHOW_SPECIAL, "");
    check_piece(&x, INT32_MAX, 0, "");
    assert_int_equal(tokenizer_piece(&x.tables.vocab, 9, out, 1, 0), 3); /* no room: one byte */
    assert_int_equal(out[0], 'a');
    assert_int_equal(out[1], '#');
    assert_int_equal(tokenizer_piece(&x.tables.vocab, 9, NULL, 0, 0), 3);
    assert_int_equal(tokenizer_max_piece(&x.tables.vocab), 7);
    assert_int_equal(ggufc_vocab_find(&x.tables.vocab, "▁a", 4), 8);
    assert_int_equal(ggufc_vocab_find(&x.tables.vocab, "c", 1), -1);
    assert_int_equal(ggufc_vocab_find(&x.tables.vocab, "", 0), -1);
    fixture_close(&x);
}

/* ---- round trips */

static uint32_t next_random(uint32_t *random) {
    *random = *random * 1664525u + 1013904223u;
    return *random >> 8;
}

/* What the tokens of `text` say is the text again, behind the space put before it. */
static void check_round_trip(const ggufc_vocab *v, const char *text, size_t size) {
    int32_t *ids = malloc((3 * size + 4) * sizeof *ids);
    int64_t n = tokenizer_encode(v, text, size, 0, ids, 3 * size + 4);
    char *out = malloc(size + 2);
    size_t at = 0;
    assert_in_range(n, 1, 3 * size + 4);
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(ids[i], 0, v->n_tokens - 1);
        at += tokenizer_piece(v, ids[i], out + at, size + 1 - at, 0);
        assert_true(at <= size + 1);
    }
    assert_int_equal(at, size + 1);
    assert_int_equal(out[0], ' ');
    assert_memory_equal(out + 1, text, size);
    free(ids);
    free(out);
}

static size_t put_character(char *out, uint32_t c) {
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n) | c);
    return n;
}

static size_t random_utf8(char *out, size_t n_characters, uint32_t *random) {
    static const uint32_t limits[] = { 0x80, 0x80, 0x250, 0x3000, 0x10000, 0x110000 };
    size_t size = 0;
    for (size_t i = 0; i < n_characters; i++) {
        uint32_t limit = limits[next_random(random) % ARRAY_LEN(limits)];
        uint32_t c = next_random(random) % limit;
        if (c == 0x2581 || (c >= 0xd800 && c < 0xe000)) c = ' '; /* "▁" comes back as a space */
        size += put_character(out + size, c);
    }
    return size;
}

/* A space within what looks like a character is escaped into its middle, as in llama.cpp, and does
   not come back as one; so random bytes have no spaces here. */
static size_t random_bytes(char *out, size_t size, uint32_t *random) {
    for (size_t i = 0; i < size; i++) {
        out[i] = (char)next_random(random);
        if (out[i] == ' ') out[i] = '\0';
    }
    return size;
}

static void check_random_texts(const char *path, int n_rounds) {
    fixture x;
    uint32_t random = 7;
    char text[400];
    if (!fixture_open(&x, path)) {
        fixture_close(&x);
        print_message("skipped: %s is absent\n", path);
        skip();
    }
    for (int i = 0; i < n_rounds; i++) {
        size_t n = 1 + next_random(&random) % 99;
        check_round_trip(&x.tables.vocab, text, random_utf8(text, n, &random));
        check_round_trip(&x.tables.vocab, text, random_bytes(text, n, &random));
    }
    fixture_close(&x);
}

static void test_round_trip_demo(void **state) {
    (void)state;
    check_random_texts(FIXTURE_DEMO, 2000);
}

static void test_round_trip_llama(void **state) {
    (void)state;
    check_random_texts(FIXTURE_SHARED "vocab/ggml-vocab-llama-spm.gguf", 2000);
}

/* ---- worst cases: a megabyte of each of these, in less than two seconds; a sanitizer on a busy machine took as long.
   In a time that grows with its square, it would be hours. */

static const double most_seconds = SANITIZED ? 60 : 2;

static void check_time(const ggufc_vocab *v, const char *unit, unsigned flags) {
    size_t size = 1 << 20, unit_size = strlen(unit);
    char *text = malloc(size);
    clock_t start = clock();
    for (size_t i = 0; i < size; i++) text[i] = unit[i % unit_size];
    assert_true(tokenizer_encode(v, text, size, flags, NULL, 0) > 0);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (seconds >= most_seconds) fail_msg("1 MiB of \"%s\" took %.1f s", unit, seconds);
    free(text);
}

static void test_pathological(void **state) {
    (void)state;
    static const char *const units[] = {
        "a",   " ",    "<",   "\n", "\x01", "\xff",   "ab",
        "the", " the", "<s>", "▁",  "😀",    "<unk>a", "Once upon a time "
    };
    static const char *const paths[] = { FIXTURE_DEMO,
                                         FIXTURE_SHARED "vocab/ggml-vocab-phi-3.gguf" };
    for (size_t p = 0; p < ARRAY_LEN(paths); p++) {
        fixture x;
        bool found = fixture_open(&x, paths[p]);
        if (!found) print_message("left out: %s is absent\n", paths[p]);
        for (size_t i = 0; found && i < ARRAY_LEN(units); i++)
            check_time(&x.tables.vocab, units[i], TOKENIZER_PARSE_SPECIAL);
        fixture_close(&x);
    }
}

/* Every length of one letter is a token, so that merging never ends early. */
static void test_tokens_of_every_length(void **state) {
    (void)state;
    enum { n_tokens = 256 };
    static char texts[n_tokens][n_tokens + 1];
    fixture_token rows[n_tokens];
    fixture x;
    for (int i = 0; i < n_tokens; i++) {
        memset(texts[i], 'a', (size_t)i + 1);
        rows[i] = (fixture_token){ texts[i], (float)i, N };
    }
    fixture_make(&x, "lengths", rows, n_tokens);
    x.tables.vocab.add_space_prefix = 0;
    check_time(&x.tables.vocab, "a", 0);
    for (int i = 0; i < n_tokens; i++) rows[i].score = (float)-i;
    fixture_close(&x);
    fixture_make(&x, "lengths", rows, n_tokens);
    check_time(&x.tables.vocab, "a", 0);
    fixture_close(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_prompts),
        cmocka_unit_test(test_vectors_llama),
        cmocka_unit_test(test_vectors_phi3),
        cmocka_unit_test(test_phi3_chat),
        cmocka_unit_test(test_merging),
        cmocka_unit_test(test_bytes_and_unknown),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_phi3_strips),
        cmocka_unit_test(test_without_unknown),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_round_trip_demo),
        cmocka_unit_test(test_round_trip_llama),
        cmocka_unit_test(test_pathological),
        cmocka_unit_test(test_tokens_of_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
