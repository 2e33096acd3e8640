/* test_utf8.c - the stream holds back what is incomplete, and loses nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "utf8.h"

typedef struct tail_case {
    const char *text;
    size_t tail;
} tail_case;

static const tail_case tails[] = {
    { "", 0 },
    { "a", 0 },
    { "\xc3\xa4", 0 },             /* ä */
    { "\xc3", 1 },                 /* its first byte */
    { "a\xe2\x96", 2 },            /* two of three */
    { "\xe2\x96\x81", 0 },         /* ▁ */
    { "\xf0\x9f\x98", 3 },         /* three of four */
    { "\xf0\x9f\x98\x80", 0 },     /* 😀 */
    { "\xf0\x9f\x98\x80\x80", 0 }, /* a continuation too many */
    { "\x80\x80\x80\x80", 0 },     /* continuations alone */
    { "\xc0", 0 },                 /* never a lead byte */
    { "\xc1", 0 },
    { "\xf5", 0 },
    { "\xff", 0 },
    { "\xe2\x96\xc3", 1 }, /* broken off by a new lead byte */
    { "\xc3\xa4\xe2", 1 },
};

static void test_tails(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        assert_int_equal(utf8_incomplete_tail(tails[i].text, strlen(tails[i].text)), tails[i].tail);
}

static void test_character_comes_whole(void **state) {
    (void)state;
    utf8_stream s = { .n_held = 0 };
    char out[8];
    assert_int_equal(utf8_feed(&s, "\xf0", 1, out), 0);
    assert_int_equal(utf8_feed(&s, "\x9f\x98", 2, out), 0);
    assert_int_equal(utf8_feed(&s, "\x80!", 2, out), 5);
    assert_memory_equal(out, "\xf0\x9f\x98\x80!", 5);
    assert_int_equal(utf8_flush(&s, out), 0);
}

static void test_flush_gives_the_rest(void **state) {
    (void)state;
    utf8_stream s = { .n_held = 0 };
    char out[8];
    assert_int_equal(utf8_feed(&s, "a\xe2\x96", 3, out), 1);
    assert_int_equal(utf8_feed(&s, NULL, 0, out), 0);
    assert_int_equal(utf8_flush(&s, out), 2);
    assert_memory_equal(out, "\xe2\x96", 2);
    assert_int_equal(utf8_feed(&s, "b", 1, out), 1); /* anew */
    assert_int_equal(out[0], 'b');
}

static void test_invalid_bytes_pass_unchanged(void **state) {
    (void)state;
    utf8_stream s = { .n_held = 0 };
    char out[16];
    const char bad[] = "\xc3(\xff\xe2\x28\xa1\x80";
    size_t n = 0;
    for (size_t i = 0; i + 1 < sizeof bad; i++) n += utf8_feed(&s, bad + i, 1, out + n);
    n += utf8_flush(&s, out + n);
    assert_int_equal(n, sizeof bad - 1);
    assert_memory_equal(out, bad, n);
}

/* Any bytes, cut anywhere: nothing is lost, and what is held is what the input ends with. */
static void test_random_cuts(void **state) {
    (void)state;
    static const char *const parts[] = { "a", "ä", "▁", "😀", "\xff", "\x80", "\xc3", "\xe2\x96" };
    uint32_t random = 1;
    for (int round = 0; round < 2000; round++) {
        char in[256], out[256 + UTF8_MAX_HELD];
        size_t n_in = 0, n_out = 0;
        utf8_stream s = { .n_held = 0 };
        for (int i = 0; i < 40; i++) {
            random = random * 1664525u + 1013904223u;
            const char *part = parts[random >> 29];
            memcpy(in + n_in, part, strlen(part));
            n_in += strlen(part);
        }
        for (size_t at = 0, size; at < n_in; at += size) {
            random = random * 1664525u + 1013904223u;
            size = 1 + (random >> 30);
            if (size > n_in - at) size = n_in - at;
            n_out += utf8_feed(&s, in + at, size, out + n_out);
            assert_int_equal(s.n_held, utf8_incomplete_tail(in, at + size));
            assert_int_equal(n_out + s.n_held, at + size);
        }
        n_out += utf8_flush(&s, out + n_out);
        assert_int_equal(n_out, n_in);
        assert_memory_equal(out, in, n_in);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_character_comes_whole),
        cmocka_unit_test(test_flush_gives_the_rest),
        cmocka_unit_test(test_invalid_bytes_pass_unchanged),
        cmocka_unit_test(test_random_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
