/* Distances of rows, by numbers worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>

#include <cmocka.h>

#include "measure.h"

#define SLACK 8

static compare_distance distance_of(const float *a, const float *b, uint64_t n) {
    measure m = { 0 };
    measure_add(&m, a, b, n, 3, 0, SLACK);
    return measure_end(&m);
}

static void assert_near(double x, double expected) {
    if (!(fabs(x - expected) <= 1e-12 * fabs(expected))) fail_msg("%.17g, expected %.17g", x, expected);
}

/* ---- one row */

static void a_row(void **state) {
    (void)state;
    const float a[] = { 1, -2, 3, 4 }, b[] = { 1, -2, 2, 6 };
    compare_distance d = distance_of(a, b, 4);
    assert_int_equal(d.n_values, 4);
    assert_int_equal(d.n_tokens, 1);
    assert_int_equal(d.n_strange, 0);
    assert_near(d.match, 0.5);
    assert_near(d.mean, 0.75);        /* (0 + 0 + 1 + 2) / 4 */
    assert_near(d.nmse, 5.0 / 30);    /* (1 + 4) / (1 + 4 + 9 + 16) */
    assert_near(d.worst, 5.0 / 30);
    assert_int_equal(d.worst_token, 3);
    assert_near(d.cosine, 35 / sqrt(30.0 * 45)); /* 1 + 4 + 6 + 24; 1 + 4 + 4 + 36 */
    assert_near(d.most, 2);
    assert_int_equal(d.most_index, 3);
    assert_int_equal(d.most_token, 3);
    assert_near(d.most_a, 4);
    assert_near(d.most_b, 6);
}

static void a_row_and_itself(void **state) {
    (void)state;
    const float a[] = { 1, -2, 0, 1e-40f };
    compare_distance d = distance_of(a, a, 4);
    assert_near(d.match, 1);
    assert_near(d.cosine, 1);
    assert_true(d.nmse <= 0 && d.worst <= 0 && d.mean <= 0 && d.most <= 0);
}

/* It is A's square that errors are a share of. */
static void the_other_way_round(void **state) {
    (void)state;
    const float a[] = { 1, 0 }, b[] = { 3, 0 };
    assert_near(distance_of(a, b, 2).nmse, 4);
    assert_near(distance_of(b, a, 2).nmse, 4.0 / 9);
}

static void opposite_and_orthogonal(void **state) {
    (void)state;
    const float a[] = { 3, 4 }, b[] = { -3, -4 }, c[] = { 4, -3 };
    assert_near(distance_of(a, b, 2).cosine, -1);
    assert_near(distance_of(a, b, 2).nmse, 4);
    assert_true(fabs(distance_of(a, c, 2).cosine) < 1e-15);
}

/* Squares of f32 that no f32 holds. */
static void large_and_small(void **state) {
    (void)state;
    const float a[] = { 1e30f, 2e30f }, b[] = { 2e30f, 2e30f };
    const float c[] = { 1e-30f, 2e-30f }, d[] = { 2e-30f, 2e-30f };
    assert_true(fabs(distance_of(a, b, 2).nmse - 0.2) < 1e-7);
    assert_true(fabs(distance_of(c, d, 2).nmse - 0.2) < 1e-7);
}

static void nothing(void **state) {
    (void)state;
    measure m = { 0 };
    compare_distance  d = measure_end(&m);
    compare_tolerance t = measure_tolerance(&m, SLACK);
    assert_int_equal(d.n_values, 0);
    assert_true(d.nmse <= 0 && t.nmse <= 0 && t.worst <= 0);
}

/* ---- zeros */

static const struct {
    float  a, b;
    double nmse, cosine;
} zeros[] = {
    { 0, 0, 0, 1 },       /* no difference */
    { 0, 1e-30f, 1, 0 },  /* all of it is error */
    { 1, 0, 1, 0 },
    { 0, -0.0f, 0, 1 },
};

static void zero_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(zeros); i++) {
        const float a[] = { zeros[i].a, 0 }, b[] = { zeros[i].b, 0 };
        compare_distance d = distance_of(a, b, 2);
        if (fabs(d.nmse - zeros[i].nmse) > 0 || fabs(d.cosine - zeros[i].cosine) > 0)
            fail_msg("%g and %g: NMSE %g, cosine %g", (double)zeros[i].a, (double)zeros[i].b, d.nmse, d.cosine);
    }
}

/* Noise about a row of zeros allows nothing: as a share of it, any would be as much as any error. */
static void noise_of_a_zero_row(void **state) {
    (void)state;
    const float a[] = { 0, 0 }, b[] = { 1, 1 };
    measure m = { 0 };
    measure_add(&m, a, b, 2, 0, 0.5, SLACK);
    assert_near(measure_end(&m).worst, 1);
    assert_near(measure_tolerance(&m, SLACK).worst, 64 * 0x1p-48);
}

/* ---- what is no number */

static const struct {
    float    a, b;
    uint64_t n_strange;
} strange[] = {
    { 1, NAN, 1 },        { NAN, 1, 1 },      { NAN, NAN, 0 },      { 1, INFINITY, 1 },
    { INFINITY, 1, 1 },   { INFINITY, INFINITY, 0 }, { INFINITY, -INFINITY, 1 },
    { -INFINITY, -INFINITY, 0 }, { INFINITY, NAN, 1 }, { NAN, -INFINITY, 1 },
};

static void no_numbers(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
        const float a[] = { 2, strange[i].a }, b[] = { 2, strange[i].b };
        compare_distance d = distance_of(a, b, 2);
        if (d.n_strange != strange[i].n_strange) fail_msg("row %zu: %d", i, (int)d.n_strange);
        assert_near(d.match, strange[i].n_strange ? 0.5 : 1);
        if (!d.n_strange) {
            assert_true(d.nmse <= 0 && d.most <= 0);
            continue;
        }
        assert_true(isinf(d.nmse) && isinf(d.worst) && isinf(d.most));
        assert_int_equal(d.most_index, 1);
        assert_int_equal(d.worst_token, 3);
        assert_true(isfinite(d.mean) && isfinite(d.cosine));
    }
}

/* The first strange value is where the difference is largest, whatever comes after it. */
static void the_first_that_is_none(void **state) {
    (void)state;
    const float a[] = { 1, 1, 1, 1 }, b[] = { 9, NAN, INFINITY, -9 };
    compare_distance d = distance_of(a, b, 4);
    assert_int_equal(d.n_strange, 2);
    assert_int_equal(d.most_index, 1);
    assert_true(isnan(d.most_b));
}

static void rows_of_no_numbers(void **state) {
    (void)state;
    const float a[] = { NAN, NAN };
    compare_distance d = distance_of(a, a, 2);
    assert_true(d.nmse <= 0);
    assert_near(d.match, 1);
    assert_near(d.cosine, 1);
}

/* ---- tokens */

/* A token of large values does not hide others. */
static void large_tokens(void **state) {
    (void)state;
    const float large[] = { 1e4f, 0 }, one[] = { 1, 0 }, wrong[] = { 0, 0 };
    measure m = { 0 };
    measure_add(&m, large, large, 2, 0, 0, SLACK);
    measure_add(&m, one, wrong, 2, 1, 0, SLACK);
    assert_near(measure_end(&m).nmse, 0.5);
    assert_int_equal(measure_end(&m).worst_token, 1);
    assert_true(measure_end(&m).cosine > 0.999);
}

/* Others do not hide a token: the mean is within its tolerance, the worst is not. */
static void one_wrong_among_a_thousand(void **state) {
    (void)state;
    const float a[] = { 1, 1 }, near[] = { 1.01f, 0.99f }, wrong[] = { -1, 1 };
    measure m = { 0 };
    for (uint32_t t = 0; t < 1000; t++) measure_add(&m, a, t == 777 ? wrong : near, 2, t, 0.01, SLACK);
    compare_distance  d = measure_end(&m);
    compare_tolerance allowed = measure_tolerance(&m, SLACK);
    assert_true(fabs(allowed.nmse - 64 * 1e-4) < 1e-6);
    assert_true(d.nmse < allowed.nmse);
    assert_near(d.worst, 2);
    assert_int_equal(d.worst_token, 777);
    assert_true(d.worst > allowed.worst);
    assert_int_equal(d.most_token, 777);
    assert_near(d.match, 1999.0 / 2000);
    assert_int_equal(d.n_values, 2000);
    assert_int_equal(d.n_tokens, 1000);
}

/* ---- noise */

static void noise(void **state) {
    (void)state;
    const float a[] = { 1, 2, 3, 4 }, b[] = { 1, 2, 0, 0 };
    const float c[] = { 1, NAN, INFINITY, 4 }, d[] = { 1, NAN, INFINITY, 6 }, e[] = { 1, 2, 3, NAN };
    assert_near(measure_noise(a, b, 4), 2.5); /* sqrt(25 / 4) */
    assert_near(measure_noise(b, a, 4), 2.5);
    assert_near(measure_noise(c, d, 4), 1);
    assert_true(measure_noise(a, a, 4) <= 0);
    assert_true(isinf(measure_noise(a, e, 4)));
    assert_true(isinf(measure_noise(c, a, 4)));
}

static void tolerances(void **state) {
    (void)state;
    const float a[] = { 3, 4 }, b[] = { 3, 4 };
    measure m = { 0 };
    measure_add(&m, a, b, 2, 0, 0, SLACK);
    assert_near(measure_tolerance(&m, SLACK).nmse, 64 * 0x1p-48); /* the rounding of a result to f32 */
    measure_add(&m, a, b, 2, 1, 0.5, SLACK);
    assert_near(measure_tolerance(&m, SLACK).nmse, 64 * (0.5 / 25) / 2);
    assert_near(measure_tolerance(&m, SLACK).worst, 64 * 0.5 / 25);
    assert_near(measure_tolerance(&m, 1).worst, 0.5 / 25);
    measure_add(&m, a, b, 2, 2, INFINITY, SLACK);
    assert_true(isinf(measure_tolerance(&m, SLACK).nmse));
}

/* Within 8 times the noise, or 8 ulps. */
static void matches(void **state) {
    (void)state;
    const float a[] = { 1, 1, 1, 1 }, b[] = { 1 + 4 * 0x1p-23f, 1 + 9 * 0x1p-23f, 1 - 8 * 0x1p-24f, 1.5f };
    measure m = { 0 };
    measure_add(&m, a, b, 4, 0, 0, SLACK);
    assert_near(measure_end(&m).match, 0.5);
    m = (measure){ 0 };
    measure_add(&m, a, b, 4, 0, 0.0625, SLACK); /* 0.5 is 8 times that */
    assert_near(measure_end(&m).match, 1);
    m = (measure){ 0 };
    measure_add(&m, a, b, 4, 0, 0.0624, SLACK);
    assert_near(measure_end(&m).match, 0.75);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row),
        cmocka_unit_test(a_row_and_itself),
        cmocka_unit_test(the_other_way_round),
        cmocka_unit_test(opposite_and_orthogonal),
        cmocka_unit_test(large_and_small),
        cmocka_unit_test(nothing),
        cmocka_unit_test(zero_rows),
        cmocka_unit_test(noise_of_a_zero_row),
        cmocka_unit_test(no_numbers),
        cmocka_unit_test(the_first_that_is_none),
        cmocka_unit_test(rows_of_no_numbers),
        cmocka_unit_test(large_tokens),
        cmocka_unit_test(one_wrong_among_a_thousand),
        cmocka_unit_test(noise),
        cmocka_unit_test(tolerances),
        cmocka_unit_test(matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
