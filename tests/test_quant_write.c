/* That blocks are made well: of every type, of values of many kinds, the same however they are split
 * among calls. That nothing in the values leads to numbers that are none, or to bytes outside. That
 * an importance is heeded. And, where ../shared is, that the demo model comes out as llama.cpp's files
 * have it: the same bytes in the types that are defined to the bit, no larger an error in the others. */
#include "gguf.h"
#include "quant.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DEMO "../shared/demo-model/storyteller-"

enum { MAX_VALUES = 19 * 256, MAX_BYTES = MAX_VALUES * 4 };

static const uint8_t exact_types[] = { QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1 };

static bool is_exact(uint32_t t) {
    return memchr(exact_types, (int)t, sizeof exact_types) != NULL;
}

static bool is_plain(uint32_t t) {
    return quant_find(t)->block_len == 1;
}

#define FOR_EACH_TYPE(t)                                                                             \
    for (uint32_t t = 0; t < QUANT_COUNT; t++)                                                       \
        if (quant_writable(t))

/* ---- values */

static uint32_t seed;

static float uniform(void) {
    seed = seed * 1664525 + 1013904223;
    return (float)(seed >> 8) * 0x1p-24f;
}

static float normal(void) {
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += uniform();
    return sum - 6;
}

static void fill_normal(float *x, uint32_t n, float scale) {
    for (uint32_t i = 0; i < n; i++) x[i] = normal() * scale;
}

static double error_of(const float *x, const float *y, const float *importance, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += (importance ? (double)importance[i] : 1) * pow((double)y[i] - (double)x[i], 2);
    return sqrt(sum);
}

static double size_of(const float *x, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Writes and reads back, and sees to it that no byte outside was touched. */
static void write_and_read(uint32_t t, const float *x, uint32_t n, const float *importance, float *y) {
    static uint8_t bytes[8 + MAX_BYTES + 8];
    const uint64_t size = quant_row_bytes(t, n);
    assert_true(size <= MAX_BYTES);
    memset(bytes, 0x5a, sizeof bytes);
    quant_write(t, x, n, importance, bytes + 7);
    for (uint32_t i = 0; i < 7; i++) assert_int_equal(bytes[i], 0x5a);
    for (uint64_t i = 7 + size; i < sizeof bytes; i++) assert_int_equal(bytes[i], 0x5a);
    quant_read(t, bytes + 7, n, NULL, y);
}

/* ---- all types */

static void write_what_holds_weights(void **state) {
    (void)state;
    static const uint8_t not[] = { QUANT_Q8_1, QUANT_Q8_K, QUANT_I8,  QUANT_I16,
                                   QUANT_I32,  QUANT_I64,  QUANT_F64 };
    static const uint8_t need[] = { QUANT_IQ2_XXS, QUANT_IQ2_XS, QUANT_IQ1_S, QUANT_IQ1_M };
    unsigned n_writable = 0;
    for (uint32_t t = 0; t < 100; t++) {
        const bool expected = quant_find(t) && !memchr(not, (int)t, sizeof not);
        if (quant_writable(t) != expected) fail_msg("type %u is %s writable", t, expected ? "not" : "");
        n_writable += expected;
        assert_int_equal(quant_needs_importance(t), memchr(need, (int)t, sizeof need) != NULL);
    }
    assert_int_equal(n_writable, 28);
}

/* The least relative error there can be for normal values is 2^-bits (Shannon); nothing here is worse
   than three times that. Uniform values are no harder. Plain floats spend bits on range. */
static double largest_error(uint32_t t) {
    if (t == QUANT_F32) return 0;
    if (t == QUANT_F16) return 0x1p-11;
    if (t == QUANT_BF16) return 0x1p-8;
    return 3 * exp2(-8.0 * quant_find(t)->block_bytes / quant_find(t)->block_len);
}

static void expect_small_error(const char *what, uint32_t t, const float *x, const float *importance) {
    static float y[MAX_VALUES];
    write_and_read(t, x, MAX_VALUES, importance, y);
    const double relative = error_of(x, y, NULL, MAX_VALUES) / size_of(x, MAX_VALUES);
    if (!(relative <= largest_error(t)))
        fail_msg("%s, %s: error %g, expected %g at most", quant_find(t)->name, what, relative,
                 largest_error(t));
}

static void write_close_values(void **state) {
    (void)state;
    static float x[MAX_VALUES], importance[MAX_VALUES];
    FOR_EACH_TYPE(t) {
        seed = t;
        fill_normal(x, MAX_VALUES, 1);
        expect_small_error("normal", t, x, NULL);
        for (uint32_t i = 0; i < MAX_VALUES; i++) importance[i] = 0.5f + uniform();
        expect_small_error("weighed", t, x, importance);
        memset(importance, 0, sizeof importance);
        expect_small_error("all unimportant", t, x, importance);
        for (uint32_t i = 0; i < MAX_VALUES; i++) importance[i] = 1e30f;
        expect_small_error("all very important", t, x, importance);
        for (uint32_t i = 0; i < MAX_VALUES; i++) x[i] = 2 * uniform() - 1;
        expect_small_error("uniform", t, x, NULL);
        for (uint32_t i = 0; i < MAX_VALUES; i++) x[i] = -0.125f;
        expect_small_error("constant", t, x, NULL);
        for (uint32_t i = 0; i < MAX_VALUES; i++) x[i] = i % 2 ? 300 : -300;
        expect_small_error("two values", t, x, NULL);
    }
}

static void write_zeros_as_zeros(void **state) {
    (void)state;
    static float x[MAX_VALUES], y[MAX_VALUES];
    memset(x, 0, sizeof x);
    FOR_EACH_TYPE(t) {
        write_and_read(t, x, MAX_VALUES, NULL, y);
        for (uint32_t i = 0; i < MAX_VALUES; i++)
            if (y[i] != 0) fail_msg("%s: value %u of zeros is %g", quant_find(t)->name, i, (double)y[i]);
        x[MAX_VALUES - 1] = 1; /* zeros before a block that holds something */
        write_and_read(t, x, MAX_VALUES, NULL, y);
        for (uint32_t i = 0; i < MAX_VALUES - 256; i++) assert_true(y[i] == 0);
        x[MAX_VALUES - 1] = 0;
    }
}

/* Zeros would have an error as large as the values. In types that are defined to the bit, values of
   some 2^-24 may come out several times as large, for their scales are rounded to such numbers. */
static void expect_no_worse_than_zeros(uint32_t t, const float *x, const char *what) {
    static float y[MAX_VALUES];
    write_and_read(t, x, MAX_VALUES, NULL, y);
    for (uint32_t i = 0; i < MAX_VALUES; i++)
        if (!isfinite(y[i])) fail_msg("%s, %s: %g", quant_find(t)->name, what, (double)y[i]);
    const double error = error_of(x, y, NULL, MAX_VALUES), size = size_of(x, MAX_VALUES);
    if (!(error <= size * (is_exact(t) ? 6 : 1.0001)))
        fail_msg("%s, %s: error %g of %g", quant_find(t)->name, what, error, size);
}

static void write_large_and_small(void **state) {
    (void)state;
    static float x[MAX_VALUES];
    char         what[64];
    FOR_EACH_TYPE(t) {
        if (is_plain(t)) continue; /* F16 has infinity for what is too large */
        for (int e = -149; e <= 123; e += e < -32 || e >= -8 ? 6 : 1) {
            seed = t + (uint32_t)(e + 200) * 64;
            fill_normal(x, MAX_VALUES, ldexpf(1, e));
            snprintf(what, sizeof what, "values of 2^%d", e);
            expect_no_worse_than_zeros(t, x, what);
        }
        fill_normal(x, MAX_VALUES, 1);
        for (uint32_t i = 0; i < MAX_VALUES; i += 257) x[i] = 1e30f;
        expect_no_worse_than_zeros(t, x, "few of 1e30");
        for (uint32_t i = 0; i < MAX_VALUES; i++) x[i] = i % 3 ? FLT_MAX : -FLT_MAX;
        expect_no_worse_than_zeros(t, x, "the largest there are");
    }
}

static void write_numbers_for_what_is_none(void **state) {
    (void)state;
    static const float odd[] = { INFINITY, -INFINITY, NAN, -NAN };
    static float x[MAX_VALUES], y[MAX_VALUES], importance[MAX_VALUES];
    FOR_EACH_TYPE(t) {
        if (is_plain(t)) continue;
        for (uint32_t k = 0; k < 3 * ARRAY_LEN(odd); k++) {
            fill_normal(x, MAX_VALUES, 1);
            for (uint32_t i = 0; i < MAX_VALUES; i++) importance[i] = 1;
            for (uint32_t i = k; i < MAX_VALUES; i += k < ARRAY_LEN(odd) ? 1 : 97)
                (k < 2 * ARRAY_LEN(odd) ? x : importance)[i] = odd[k % ARRAY_LEN(odd)];
            write_and_read(t, x, MAX_VALUES, k % 2 ? importance : NULL, y);
            for (uint32_t i = 0; i < MAX_VALUES; i++)
                if (!isfinite(y[i])) fail_msg("%s: %g", quant_find(t)->name, (double)y[i]);
        }
    }
}

/* Also where weighed: block by block, and all at once. */
static void write_alike_however_split(void **state) {
    (void)state;
    static float x[MAX_VALUES], importance[MAX_VALUES];
    static uint8_t whole[MAX_BYTES], parts[MAX_BYTES];
    FOR_EACH_TYPE(t) {
        const quant_info *q = quant_find(t);
        const uint32_t    n = MAX_VALUES / 256 * 256;
        seed = t;
        fill_normal(x, n, 0.02f);
        for (uint32_t i = 0; i < n; i++) importance[i] = uniform();
        for (uint32_t weighed = 0; weighed < 2; weighed++) {
            quant_write(t, x, n, weighed ? importance : NULL, whole);
            for (uint32_t at = 0, blocks = 1; at < n; blocks = blocks % 3 + 1) {
                uint32_t some = blocks * q->block_len;
                if (some > n - at) some = n - at;
                quant_write(t, x + at, some, weighed ? importance + at : NULL,
                            parts + quant_row_bytes(t, at));
                at += some;
            }
            assert_memory_equal(whole, parts, quant_row_bytes(t, n));
        }
    }
}

/* What was made of blocks of few scales gives them again: nothing is lost by going through F32. */
static void write_again_what_was_read(void **state) {
    (void)state;
    static const uint8_t types[] = { QUANT_Q8_0,  QUANT_TQ1_0, QUANT_TQ2_0, QUANT_MXFP4,
                                     QUANT_NVFP4, QUANT_Q1_0,  QUANT_Q2_0 };
    static float x[MAX_VALUES], y[MAX_VALUES];
    for (size_t k = 0; k < ARRAY_LEN(types); k++) {
        seed = 1;
        fill_normal(x, MAX_VALUES, 1);
        write_and_read(types[k], x, MAX_VALUES, NULL, y);
        write_and_read(types[k], y, MAX_VALUES, NULL, x);
        for (uint32_t i = 0; i < MAX_VALUES; i++)
            if (x[i] != y[i])
                fail_msg("%s: value %u was %g, is %g", quant_find(types[k])->name, i, (double)y[i],
                         (double)x[i]);
    }
}

/* One column in eight matters, as in real models. */
static void heed_importance(void **state) {
    (void)state;
    static float x[MAX_VALUES], y[MAX_VALUES], importance[MAX_VALUES];
    FOR_EACH_TYPE(t) {
        if (is_plain(t) || t == QUANT_Q8_0) continue; /* made the same way with one */
        seed = t;
        fill_normal(x, MAX_VALUES, 1);
        for (uint32_t i = 0; i < MAX_VALUES; i++) importance[i] = uniform() < 0.125f ? 20 : 0.2f;
        write_and_read(t, x, MAX_VALUES, NULL, y);
        const double without = error_of(x, y, importance, MAX_VALUES);
        write_and_read(t, x, MAX_VALUES, importance, y);
        const double with = error_of(x, y, importance, MAX_VALUES);
        if (!(with < without))
            fail_msg("%s: weighed error %g with importance, %g without", quant_find(t)->name, with, without);
    }
}

/* ---- against llama.cpp */

static const struct demo_file {
    const char *name;
    bool        weighed; /* made with ../shared/demo-model/imatrix.gguf */
} demo_files[] = {
    { "f16", false },     { "bf16", false },  { "q8_0", false },   { "q4_0", false },   { "q4_1", false },
    { "q5_0", false },    { "q5_1", false },  { "q2_k", false },   { "q3_k_m", false }, { "q4_k_m", false },
    { "q5_k_m", false },  { "q6_k", false },  { "iq4_nl", false }, { "iq4_xs", false }, { "tq1_0", false },
    { "tq2_0", false },   { "mxfp4", false }, { "nvfp4", false },  { "q1_0", false },   { "q2_0", false },
    { "iq3_s", false },   { "iq3_xxs", true }, { "iq2_xxs", true }, { "iq2_xs", true }, { "iq2_s", true },
    { "iq1_s", true },    { "iq1_m", true },
};

static gguf_file *open_file(arena *a, const char *path) {
    diag       d = { 0 };
    gguf_file *f = gguf_open(a, &d, path);
    if (!f) fail_msg("%s cannot be read", path);
    return f;
}

static const gguf_tensor *find_named(const gguf_file *f, gguf_string name, const char *suffix) {
    char text[128];
    snprintf(text, sizeof text, "%.*s%s", (int)name.size, name.data, suffix);
    return gguf_find_tensor(f, text);
}

/* For each value of a tensor, a column's importance: in_sum2 / counts. NULL where there is none. */
static float *find_importance(arena *a, const gguf_file *imatrix, const gguf_tensor *t, uint64_t n) {
    const gguf_tensor *sums = find_named(imatrix, t->name, ".in_sum2");
    const gguf_tensor *counts = find_named(imatrix, t->name, ".counts");
    if (!sums) return NULL;
    assert_non_null(counts);
    assert_int_equal(sums->dims[0], t->dims[0]);
    float *column = ARENA_ARRAY(a, float, t->dims[0]), *all = ARENA_ARRAY(a, float, n), count;
    quant_read(QUANT_F32, imatrix->data + counts->offset, 1, NULL, &count);
    quant_read(QUANT_F32, imatrix->data + sums->offset, t->dims[0], NULL, column);
    for (uint64_t i = 0; i < n; i++) all[i] = column[i % t->dims[0]] / count;
    return all;
}

static void compare_tensor(const char *file, const gguf_tensor *t, const uint8_t *theirs, const float *x,
                           uint64_t n, const float *importance, arena *a) {
    uint8_t *ours = arena_alloc(a, t->bytes);
    float   *y = ARENA_ARRAY(a, float, n), *z = ARENA_ARRAY(a, float, n);
    quant_write(t->type, x, n, importance, ours);
    const bool same = memcmp(ours, theirs, t->bytes) == 0;
    if ((is_exact(t->type) || is_plain(t->type)) && !same)
        fail_msg("%s: %.*s has other bytes", file, (int)t->name.size, t->name.data);
    quant_read(t->type, ours, n, NULL, y);
    quant_read(t->type, theirs, n, NULL, z);
    const double error = error_of(x, y, NULL, n), bound = error_of(x, z, NULL, n);
    if (!(error <= bound * 1.01))
        fail_msg("%s: %.*s (%s): error %g, llama.cpp's %g", file, (int)t->name.size, t->name.data,
                 quant_find(t->type)->name, error, bound);
    if (importance && error_of(x, y, importance, n) > error_of(x, z, importance, n) * 1.01)
        fail_msg("%s: %.*s: the weighed error is larger", file, (int)t->name.size, t->name.data);
}

static void compare_file(const gguf_file *original, const gguf_file *imatrix, const struct demo_file *of,
                         bool seen[QUANT_COUNT]) {
    char   path[128];
    arena *a = arena_new();
    snprintf(path, sizeof path, DEMO "%s.gguf", of->name);
    gguf_file *f = open_file(a, path);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i], *from = find_named(original, t->name, "");
        assert_non_null(from);
        arena   *memory = arena_new();
        uint64_t n = from->bytes / 4;
        float   *x = ARENA_ARRAY(memory, float, n);
        quant_read(QUANT_F32, original->data + from->offset, n, NULL, x);
        const float *importance = of->weighed ? find_importance(memory, imatrix, t, n) : NULL;
        compare_tensor(of->name, t, f->data + t->offset, x, n, importance, memory);
        seen[t->type] = true;
        arena_free(memory);
    }
    gguf_close(f);
    arena_free(a);
}

static void write_demo_as_llama_cpp_does(void **state) {
    (void)state;
    if (access(DEMO "f32.gguf", R_OK) != 0) {
        print_message(DEMO "f32.gguf is not there: nothing is compared with llama.cpp's files\n");
        skip();
    }
    arena     *a = arena_new();
    gguf_file *original = open_file(a, DEMO "f32.gguf");
    gguf_file *imatrix = open_file(a, "../shared/demo-model/imatrix.gguf");
    bool       seen[QUANT_COUNT] = { false };
    for (size_t i = 0; i < ARRAY_LEN(demo_files); i++)
        compare_file(original, imatrix, &demo_files[i], seen);
    FOR_EACH_TYPE(t) if (!seen[t]) fail_msg("no tensor is of type %s", quant_find(t)->name);
    gguf_close(original);
    gguf_close(imatrix);
    arena_free(a);
}

/* The committed model's Q8_0 tensors are what they are read as: the largest of a block is 127 scales. */
static void write_committed_model_again(void **state) {
    (void)state;
    arena     *a = arena_new();
    gguf_file *f = open_file(a, "tests/models/storyteller-q8_0.gguf");
    unsigned   n_compared = 0;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        if (t->type != QUANT_Q8_0) continue;
        const uint64_t n = t->bytes / 34 * 32;
        float         *x = ARENA_ARRAY(a, float, n);
        uint8_t       *ours = arena_alloc(a, t->bytes);
        quant_read(QUANT_Q8_0, f->data + t->offset, n, NULL, x);
        quant_write(QUANT_Q8_0, x, n, NULL, ours);
        assert_memory_equal(ours, f->data + t->offset, t->bytes);
        n_compared++;
    }
    assert_int_equal(n_compared, 29);
    gguf_close(f);
    arena_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_what_holds_weights),
        cmocka_unit_test(write_close_values),
        cmocka_unit_test(write_zeros_as_zeros),
        cmocka_unit_test(write_large_and_small),
        cmocka_unit_test(write_numbers_for_what_is_none),
        cmocka_unit_test(write_alike_however_split),
        cmocka_unit_test(write_again_what_was_read),
        cmocka_unit_test(heed_importance),
        cmocka_unit_test(write_demo_as_llama_cpp_does),
        cmocka_unit_test(write_committed_model_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
