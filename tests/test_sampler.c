/* test_sampler.c - each step alone and all in order, against a plain sort and exp() of libm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "sampler.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Every step off. */
static sampler_options plain(float temp) {
    return (sampler_options){ .temp = temp, .top_p = 1, .repeat_penalty = 1, .seed = 5 };
}

static int32_t pick_once(uint32_t n, const sampler_options *o, const float *logits) {
    sampler *s = sampler_new(n, o);
    assert_non_null(s);
    int32_t id = sampler_pick(s, logits);
    sampler_free(s);
    return id;
}

/* ---- greedy and what is no number */

typedef struct greedy_case {
    float logits[4];
    int32_t id;
} greedy_case;

static const greedy_case greedy_cases[] = {
    { { 1, 3, 2, 0 }, 1 },
    { { 3, 3, 3, 3 }, 0 }, /* ties: the lowest id */
    { { 1, 2, 2, 1 }, 1 },
    { { -5, -4, -3, -4 }, 2 },
    { { NAN, NAN, NAN, NAN }, 0 },
    { { NAN, -1, NAN, -2 }, 1 },
    { { -INFINITY, -INFINITY, -INFINITY, -INFINITY }, 0 },
    { { 1, INFINITY, INFINITY, NAN }, 1 },
    { { NAN, -INFINITY, NAN, -1e30f }, 3 },
};

static void test_greedy(void **state) {
    (void)state;
    static const float temps[] = { 0, -1, NAN };
    for (size_t t = 0; t < LEN(temps); t++) {
        sampler_options o = sampler_defaults();
        o.temp = temps[t];
        for (size_t i = 0; i < LEN(greedy_cases); i++)
            assert_int_equal(pick_once(4, &o, greedy_cases[i].logits), greedy_cases[i].id);
    }
}

/* At any temperature the choice is a token whose logit is a number, if there is one. */
static void test_not_numbers(void **state) {
    (void)state;
    static const float temps[] = { 1e-30f, 0.8f, 1e30f, INFINITY };
    static const float ps[] = { 0, 0.5f, 1, 2, NAN, -1, INFINITY };
    for (size_t t = 0; t < LEN(temps); t++)
        for (size_t p = 0; p < LEN(ps); p++)
            for (size_t i = 0; i < LEN(greedy_cases); i++)
                for (int32_t k = -1; k < 6; k++) {
                    const float *logits = greedy_cases[i].logits;
                    sampler_options o = { .temp = temps[t],
                                          .top_k = k,
                                          .top_p = ps[p],
                                          .min_p = ps[LEN(ps) - 1 - p],
                                          .repeat_penalty = NAN };
                    int32_t id = pick_once(4, &o, logits), best = greedy_cases[i].id;
                    assert_in_range(id, 0, 3);
                    if (isfinite(logits[best]))
                        assert_true(isfinite(logits[id]));
                    else
                        assert_int_equal(id, best);
                }
}

static void test_one_token(void **state) {
    (void)state;
    sampler_options o = sampler_defaults();
    const float logit = 3;
    assert_int_equal(pick_once(1, &o, &logit), 0);
}

/* ---- the steps against a plain computation */

static const float *sorted_logits;

static int compare_ids(const void *a, const void *b) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sorted_logits[i] != sorted_logits[j]) return sorted_logits[i] > sorted_logits[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

/* p[id]: the probability of each token, by sorting everything. */
static void expect(uint32_t n, const sampler_options *o, const float *logits, double *p) {
    int32_t *ids = malloc(n * sizeof *ids);
    uint32_t k = o->top_k > 0 && (uint32_t)o->top_k < n ? (uint32_t)o->top_k : n, kept = 0;
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)i, p[i] = 0;
    sorted_logits = logits;
    qsort(ids, n, sizeof *ids, compare_ids);
    for (uint32_t i = 0; i < k; i++) total += exp((double)logits[ids[i]] - logits[ids[0]]);
    while (kept < k) {
        double weight = exp((double)logits[ids[kept]] - logits[ids[0]]);
        if (kept && weight < o->min_p) break;
        kept++;
        if (o->top_p < 1 && (sum += weight) >= o->top_p * total) break;
    }
    total = 0;
    for (uint32_t i = 0; i < kept; i++)
        total += p[ids[i]] = exp(((double)logits[ids[i]] - logits[ids[0]]) / o->temp);
    for (uint32_t i = 0; i < kept; i++) p[ids[i]] /= total;
    free(ids);
}

/* Draws often, and compares the frequencies: within 5 standard deviations, and never a token that
   was to be left out. */
static void check_frequencies(uint32_t n, const sampler_options *o, const float *logits,
                              unsigned draws) {
    double *p = malloc(n * sizeof *p);
    unsigned *counts = calloc(n, sizeof *counts);
    sampler *s = sampler_new(n, o);
    expect(n, o, logits, p);
    for (unsigned i = 0; i < draws; i++) counts[sampler_pick(s, logits)]++;
    for (uint32_t i = 0; i < n; i++) {
        double bound = 5 * sqrt(draws * p[i] * (1 - p[i])) + 3;
        if (p[i] == 0) assert_int_equal(counts[i], 0);
        if (p[i] == 1) assert_int_equal(counts[i], draws);
        if (fabs(counts[i] - draws * p[i]) > bound)
            fail_msg("token %u: %u of %u, expected %f", i, counts[i], draws, draws * p[i]);
    }
    sampler_free(s);
    free(counts);
    free(p);
}

static void make_logits(float *logits, uint32_t n, uint32_t random) {
    for (uint32_t i = 0; i < n; i++) {
        random = random * 1664525u + 1013904223u;
        logits[i] = (float)(random >> 16) / 65536 * 6 - 3;
        if (random % 7 == 0 && i) logits[i] = logits[i - 1]; /* ties */
    }
}

static const sampler_options step_cases[] = {
    { .temp = 1, .top_p = 1 },
    { .temp = 0.5f, .top_p = 1 },
    { .temp = 3, .top_p = 1 },
    { .temp = 1, .top_p = 1, .top_k = 1 },
    { .temp = 1, .top_p = 1, .top_k = 7 },
    { .temp = 1, .top_p = 1, .top_k = 1000000 },
    { .temp = 1, .top_p = 0.5f },
    { .temp = 1, .top_p = 0 },
    { .temp = 1, .top_p = 0.999f },
    { .temp = 1, .top_p = 1, .min_p = 0.3f },
    { .temp = 1, .top_p = 1, .min_p = 1 },
    { .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f },
    { .temp = 2, .top_k = 9, .top_p = 0.6f, .min_p = 0.4f },
    { .temp = 2, .top_k = 9, .top_p = 0.9f, .min_p = 0.4f },
};

static void test_steps(void **state) {
    (void)state;
    static const uint32_t sizes[] = { 2, 3, 16, 100 };
    float logits[100];
    for (size_t n = 0; n < LEN(sizes); n++)
        for (size_t i = 0; i < LEN(step_cases); i++) {
            sampler_options o = step_cases[i];
            o.repeat_penalty = 1;
            o.seed = i;
            make_logits(logits, sizes[n], (uint32_t)i);
            check_frequencies(sizes[n], &o, logits, 20000);
        }
}

/* The very best k of many, none missing: what is drawn at a high temperature covers them. */
static void test_top_k_is_exact(void **state) {
    (void)state;
    enum { n = 5000, k = 50 };
    static float logits[n];
    sampler_options o = plain(1e6f);
    o.top_k = k;
    for (uint32_t round = 0; round < 20; round++) {
        make_logits(logits, n, round);
        check_frequencies(n, &o, logits, 1000);
    }
}

/* ---- penalties */

static void test_penalty(void **state) {
    (void)state;
    sampler_options o = plain(0);
    const float positive[] = { 3, 2, 1 }, negative[] = { -1, -1.5f, -4 };
    o.repeat_penalty = 2;
    o.repeat_last_n = 2;
    sampler *s = sampler_new(3, &o);
    assert_int_equal(sampler_pick(s, positive), 0);
    sampler_accept(s, 0);
    assert_int_equal(sampler_pick(s, positive), 1); /* 3 / 2 < 2 */
    assert_int_equal(sampler_pick(s, negative), 1); /* -1 × 2 < -1.5 */
    sampler_accept(s, 0);
    assert_int_equal(sampler_pick(s, positive), 1); /* twice in the window, divided once: 1.5 > 1 */
    sampler_accept(s, 1);
    assert_int_equal(sampler_pick(s, positive), 0); /* 1.5, 1, 1 */
    sampler_accept(s, 2);
    assert_int_equal(sampler_pick(s, positive), 0); /* 0 has left the window */
    sampler_accept(s, 2);
    assert_int_equal(sampler_pick(s, negative), 0);
    sampler_accept(s, -1); /* ignored */
    sampler_accept(s, 3);
    assert_int_equal(sampler_pick(s, positive), 0);
    sampler_free(s);
}

static void test_window_of_64(void **state) {
    (void)state;
    sampler_options o = sampler_defaults();
    const float logits[] = { 3, 2 };
    assert_int_equal(o.repeat_last_n, 64);
    o.temp = 0;
    o.repeat_penalty = 2;
    sampler *s = sampler_new(2, &o);
    sampler_accept(s, 0);
    for (int i = 0; i < 63; i++) {
        assert_int_equal(sampler_pick(s, logits), i ? 0 : 1); /* 1.5 against 2, then against 1 */
        sampler_accept(s, 1);
    }
    assert_int_equal(sampler_pick(s, logits), 0);
    sampler_free(s);
}

static void test_penalties_off(void **state) {
    (void)state;
    static const float penalties[] = { 0, -2, NAN, INFINITY, 1 };
    const float logits[] = { 3, 2 };
    for (size_t i = 0; i < LEN(penalties) + 2; i++) {
        sampler_options o = plain(0);
        o.repeat_penalty = i < LEN(penalties) ? penalties[i] : 10;
        o.repeat_last_n = i < LEN(penalties) ? 64 : i == LEN(penalties) ? 0 : -1;
        sampler *s = sampler_new(2, &o);
        sampler_accept(s, 0);
        assert_int_equal(sampler_pick(s, logits), 0);
        sampler_free(s);
    }
}

static void test_forbid(void **state) {
    (void)state;
    const float logits[] = { 1, 9, 2 }, nans[] = { NAN, NAN, NAN };
    sampler_options o = plain(0);
    for (int i = 0; i < 2; i++, o.temp = 2) {
        sampler *s = sampler_new(3, &o);
        sampler_forbid(s, 1);
        sampler_forbid(s, -1); /* ignored */
        sampler_forbid(s, 3);
        for (int j = 0; j < 100; j++) assert_int_not_equal(sampler_pick(s, logits), 1);
        sampler_forbid(s, 0);
        assert_int_equal(sampler_pick(s, logits), 2);
        assert_int_equal(sampler_pick(s, nans), 2);
        sampler_forbid(s, 2);
        assert_in_range(sampler_pick(s, logits), 0, 2);
        sampler_free(s);
    }
}

/* ---- seeds, and time */

static void test_seed_decides(void **state) {
    (void)state;
    float logits[100];
    sampler_options o = sampler_defaults();
    int n_different = 0;
    make_logits(logits, 100, 1);
    sampler *a = sampler_new(100, &o), *b = sampler_new(100, &o);
    o.seed = 1;
    sampler *c = sampler_new(100, &o);
    for (int i = 0; i < 100; i++) {
        int32_t id = sampler_pick(a, logits);
        assert_int_equal(sampler_pick(b, logits), id);
        n_different += sampler_pick(c, logits) != id;
    }
    assert_true(n_different > 50);
    sampler_free(a);
    sampler_free(b);
    sampler_free(c);
}

/* SplitMix64 with seed 0 begins e220a8397b1dcdaf 6e789e6aa1b965f4 06c45d188009454f: of two equal
   tokens the second is drawn where the upper bit is set. */
static void test_known_draws(void **state) {
    (void)state;
    const float logits[] = { 1, 1 };
    sampler_options o = plain(1);
    o.seed = 0;
    sampler *s = sampler_new(2, &o);
    assert_int_equal(sampler_pick(s, logits), 1);
    assert_int_equal(sampler_pick(s, logits), 0);
    assert_int_equal(sampler_pick(s, logits), 0);
    sampler_free(s);
}

/* Sorted either way or all equal, a vocabulary of 256k takes milliseconds, not a full sort's time
   times the window; a generous bound that a quadratic selection would miss by far. */
static void test_large_vocabulary(void **state) {
    (void)state;
    enum { n = 262144, rounds = 10 };
    float *logits = malloc(n * sizeof *logits);
    sampler_options all = plain(1);
    all.top_p = 0.95f;
    const sampler_options options[] = { sampler_defaults(), plain(1), all };
    for (size_t i = 0; i < LEN(options); i++)
        for (int order = -1; order <= 1; order++) {
            sampler *s = sampler_new(n, &options[i]);
            for (int32_t j = 0; j < n; j++) logits[j] = (float)(order * j) * 1e-5f;
            clock_t start = clock();
            for (int j = 0; j < rounds; j++) assert_in_range(sampler_pick(s, logits), 0, n - 1);
            assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10);
            sampler_free(s);
        }
    free(logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),         cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_one_token),      cmocka_unit_test(test_steps),
        cmocka_unit_test(test_top_k_is_exact), cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_window_of_64),   cmocka_unit_test(test_penalties_off),
        cmocka_unit_test(test_forbid),         cmocka_unit_test(test_seed_decides),
        cmocka_unit_test(test_known_draws),    cmocka_unit_test(test_large_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
