/* test_lookup.c - matches against a search of the whole text, what is drafted from them, and how much:
 * over times that are made up, so that nothing here depends on the machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "lookup.h"

static uint32_t random_below(uint32_t n) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % n;
}

static lookup *lookup_make(uint32_t capacity, uint32_t max_draft, bool always) {
    lookup *l = lookup_new(&(lookup_options){ capacity, max_draft, always });
    assert_non_null(l);
    return l;
}

/* ---- matches */

/* The same by comparing with every place of the text; `before` is the match a token ago. */
static lookup_match search(const int32_t *text, uint32_t n, lookup_match before) {
    lookup_match found = { 0, 0 };
    for (uint32_t most = LOOKUP_MOST; most >= LOOKUP_LEAST && !found.length; most--) {
        for (uint32_t at = n - 1; at >= most && !found.length; at--) {
            uint32_t length = 0;
            while (length < LOOKUP_LONGEST && length < at && text[at - 1 - length] == text[n - 1 - length])
                length++;
            if (length >= most) found = (lookup_match){ at, length };
        }
    }
    if (before.length && text[before.next] == text[n - 1]) {
        uint32_t length = before.length < LOOKUP_LONGEST ? before.length + 1 : before.length;
        if (length > found.length) found = (lookup_match){ before.next + 1, length };
    }
    return found;
}

/* Random tokens, and now and then a stretch of the text once more, with an edit. */
static uint32_t make_text(int32_t *text, uint32_t n, uint32_t n_vocab) {
    uint32_t copied = 0;
    for (uint32_t i = 0; i < n;) {
        uint32_t length = 1 + random_below(40), from = i ? random_below(i) : 0;
        bool copies = i && random_below(3) == 0;
        for (uint32_t k = 0; k < length && i < n; k++, i++) {
            bool edited = random_below(15) == 0;
            text[i] = copies && !edited ? text[from + k] : (int32_t)random_below(n_vocab);
            copied += copies;
        }
    }
    return copied;
}

static void test_matches(void **state) {
    (void)state;
    static const uint32_t vocabs[] = { 1, 2, 3, 17, 400, 2147483647 };
    enum { LENGTH = 1500 };
    static int32_t text[LENGTH];
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++) {
        make_text(text, LENGTH, vocabs[v]);
        lookup *l = lookup_make(LENGTH, LOOKUP_MAX_DRAFT, true);
        lookup_match expected = { 0, 0 };
        uint32_t matches = 0;
        for (uint32_t n = 1; n <= LENGTH; n++) {
            lookup_push(l, text[n - 1]);
            expected = search(text, n, expected);
            lookup_match m = lookup_current(l);
            if (m.length != expected.length || (m.length && m.next != expected.next))
                fail_msg("%u tokens of %u: %u before %u, expected %u before %u", n, vocabs[v], m.length,
                         m.next, expected.length, expected.next);
            matches += m.length != 0;
        }
        assert_true(matches > LENGTH / 10);
        lookup_free(l);
    }
}

static void test_capacity(void **state) {
    (void)state;
    lookup *l = lookup_make(5, LOOKUP_MAX_DRAFT, true);
    for (int32_t i = 0; i < 5; i++) lookup_push(l, i % 2);
    lookup_match m = lookup_current(l);
    assert_int_equal(m.length, 3);
    for (int32_t i = 0; i < 1000; i++) lookup_push(l, 1);
    assert_int_equal(lookup_current(l).length, m.length);
    assert_int_equal(lookup_current(l).next, m.next);
    lookup_free(l);
    l = lookup_make(0, LOOKUP_MAX_DRAFT, true);
    lookup_push(l, 1);
    assert_int_equal(lookup_current(l).length, 0);
    lookup_free(l);
    lookup_free(NULL);
}

/* ---- drafts */

static void test_drafts(void **state) {
    (void)state;
    static const int32_t text[] = { 7, 8, 9, 1, 2, 3, 4, 5, 6, 0, 7, 8, 9 }, next[] = { 1, 2, 3, 4, 5, 6 };
    int32_t draft[LOOKUP_MAX_DRAFT] = { 0 };
    lookup *l = lookup_make(100, LOOKUP_MAX_DRAFT, true);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        lookup_push(l, text[i]);
        if (i < 11) assert_int_equal(lookup_draft(l, draft, LOOKUP_MAX_DRAFT), 0);
    }
    assert_int_equal(lookup_draft(l, draft, 0), 0);
    assert_int_equal(lookup_draft(l, draft, 2), 2);
    assert_memory_equal(draft, next, 2 * sizeof *draft);
    assert_int_equal(lookup_draft(l, draft, LOOKUP_MAX_DRAFT), LOOKUP_MAX_DRAFT);
    assert_memory_equal(draft, next, sizeof next);
    lookup_free(l);

    l = lookup_make(100, 3, true); /* a loop goes on beyond the text's end */
    for (int32_t i = 0; i < 6; i++) lookup_push(l, i % 2);
    static const int32_t loop[] = { 0, 1, 0 };
    assert_int_equal(lookup_draft(l, draft, LOOKUP_MAX_DRAFT), 3);
    assert_memory_equal(draft, loop, sizeof loop);
    lookup_free(l);

    l = lookup_make(100, 0, true);
    for (int32_t i = 0; i < 6; i++) lookup_push(l, i % 2);
    assert_int_equal(lookup_draft(l, draft, LOOKUP_MAX_DRAFT), 0);
    lookup_free(l);
}

/* The longer a match has been right, the more of what it drafted is likely so. */
static void test_likely(void **state) {
    (void)state;
    uint32_t before = 0;
    lookup  *l = lookup_make(1000, LOOKUP_MAX_DRAFT, false);
    assert_int_equal(lookup_count_likely(l, LOOKUP_MAX_DRAFT), 0);
    for (int32_t i = 0; i < 400; i++) {
        lookup_push(l, i % 50);
        uint32_t n = lookup_count_likely(l, LOOKUP_MAX_DRAFT);
        if (i < 50 + LOOKUP_MOST) assert_int_equal(n, 0); /* an accident, for all that is known */
        assert_true(n >= before);
        assert_int_equal(lookup_count_likely(l, 1), n ? 1 : 0);
        before = n;
    }
    assert_int_equal(before, LOOKUP_MAX_DRAFT);
    lookup_push(l, 999);
    assert_int_equal(lookup_count_likely(l, LOOKUP_MAX_DRAFT), 0);
    lookup_free(l);

    l = lookup_make(100, LOOKUP_MAX_DRAFT, true);
    assert_int_equal(lookup_count_likely(l, 3), 3);
    lookup_free(l);
}

/* ---- how much is drafted */

#define TOKEN_NS 1000.0

/* What batches cost, in tokens: where weights are streamed, where two cost as two, and one that has a
   good size in the middle. */
static const double streamed[] = { 0, 1, 1.2, 1.4, 1.6, 1.8, 2, 2.2 };
static const double computed[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
static const double stepped[] = { 0, 1, 1.9, 2.7, 2.2, 4, 5, 6 };

typedef struct simulation {
    double   took, alone; /* ns, with drafts and without */
    uint64_t drafted, right, passes, late; /* late: drafted in the second half */
    uint64_t batches[GGUFC_BATCH_EXACT + 1];
} simulation;

/* Reads text[begin …] as generation would, the tokens before it being the prompt. */
static simulation simulate(const int32_t *text, uint32_t begin, uint32_t n, const double *cost) {
    simulation s = { 0 };
    lookup *l = lookup_make(n, LOOKUP_MAX_DRAFT, false);
    int32_t draft[LOOKUP_MAX_DRAFT];
    for (uint32_t i = 0; i < begin; i++) lookup_push(l, text[i]);
    for (uint32_t i = begin; i < n;) {
        lookup_push(l, text[i++]);
        uint32_t limit = n - i < LOOKUP_MAX_DRAFT ? n - i : LOOKUP_MAX_DRAFT;
        uint32_t count = lookup_draft(l, draft, limit), right = 0;
        uint64_t ns = (uint64_t)(cost[count + 1] * TOKEN_NS * (0.97 + 0.0006 * random_below(100)));
        lookup_note_cost(l, count + 1, ns);
        while (right < count && draft[right] == text[i]) {
            lookup_push(l, text[i++]);
            right++;
        }
        if (count) lookup_note_result(l, right + 1, ns);
        s.took += (double)ns;
        s.alone += TOKEN_NS * (right + 1.0);
        s.passes++;
        s.drafted += count;
        s.right += right;
        s.batches[count + 1]++;
        if (i > (begin + n) / 2) s.late += count;
    }
    lookup_free(l);
    return s;
}

enum { COPIED = 600 };

/* A file, and the same with an edit in 50 tokens. */
static void make_copy(int32_t *text) {
    for (uint32_t i = 0; i < COPIED; i++) text[i] = (int32_t)random_below(2000);
    for (uint32_t i = 0; i < COPIED; i++)
        text[COPIED + i] = i % 50 == 49 ? (int32_t)random_below(2000) : text[i];
}

static void test_copying(void **state) {
    (void)state;
    static int32_t text[2 * COPIED];
    make_copy(text);
    simulation s = simulate(text, COPIED, 2 * COPIED, streamed);
    if (s.alone < 2.2 * s.took) fail_msg("%.2f times as fast", s.alone / s.took);
    assert_true(s.batches[7] > 40);
    s = simulate(text, COPIED, 2 * COPIED, stepped); /* it finds the good size */
    if (s.alone < 1.4 * s.took) fail_msg("%.2f times as fast", s.alone / s.took);
    assert_true(s.batches[4] > s.passes / 2);
    s = simulate(text, COPIED, 2 * COPIED, computed); /* nothing to be had, and next to nothing lost */
    if (s.took > 1.02 * s.alone) fail_msg("%.3f of the time", s.took / s.alone);
    assert_true(s.drafted < COPIED);
}

/* Every match is a wrong guess: pairs come again, what follows does not. */
static void test_wrong_guesses(void **state) {
    (void)state;
    enum { LENGTH = 3000 };
    static int32_t text[LENGTH];
    static const double *const costs[] = { streamed, computed, stepped };
    for (uint32_t i = 0; i < LENGTH; i++) text[i] = i % 3 < 2 ? (int32_t)(i % 3) : (int32_t)(i + 10);
    for (size_t k = 0; k < 3; k++) {
        simulation s = simulate(text, 0, LENGTH, costs[k]);
        if (s.took > 1.02 * s.alone) fail_msg("costs %zu: %.3f of the time", k, s.took / s.alone);
        assert_int_equal(s.right, 0);
        assert_true(s.late <= s.drafted / 2);
    }
}

/* Words that come again by chance, as in any text: no more is lost for that. */
static void test_ordinary_text(void **state) {
    (void)state;
    enum { LENGTH = 4000 };
    static int32_t text[LENGTH];
    static const double *const costs[] = { streamed, computed, stepped };
    for (size_t k = 0; k < 3; k++) {
        for (uint32_t i = 0; i < LENGTH; i++)
            text[i] = random_below(4) ? (int32_t)random_below(12) : (int32_t)random_below(500);
        for (uint32_t n = 60; n <= LENGTH; n *= 4) {
            simulation s = simulate(text, 0, n, costs[k]);
            if (s.took > 1.02 * s.alone + TOKEN_NS)
                fail_msg("costs %zu, %u tokens: %.3f of the time", k, n, s.took / s.alone);
        }
    }
}

/* One bad measurement, as another process makes them, is not for ever. */
static void test_bad_measurement(void **state) {
    (void)state;
    lookup *l = lookup_make(10000, LOOKUP_MAX_DRAFT, false);
    int32_t draft[LOOKUP_MAX_DRAFT];
    uint32_t counts[2] = { 0, 0 };
    for (uint32_t i = 0; i < 3000; i++) {
        lookup_push(l, (int32_t)(i % 5));
        uint32_t count = lookup_draft(l, draft, LOOKUP_MAX_DRAFT);
        bool bad = i < 60 && count;
        lookup_note_cost(l, count + 1, bad ? 1000000 : (uint64_t)(streamed[count + 1] * TOKEN_NS));
        for (uint32_t k = 0; k < count; k++) lookup_push(l, (int32_t)(++i % 5));
        if (count) lookup_note_result(l, count + 1, (uint64_t)(streamed[count + 1] * TOKEN_NS));
        counts[i >= 1500] += count >= 5;
    }
    assert_true(counts[1] > 150);
    lookup_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),         cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_drafts),          cmocka_unit_test(test_likely),
        cmocka_unit_test(test_copying),         cmocka_unit_test(test_wrong_guesses),
        cmocka_unit_test(test_ordinary_text),   cmocka_unit_test(test_bad_measurement),
    };
    return cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
}
