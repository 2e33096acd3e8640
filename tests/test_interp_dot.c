/* Activations in blocks, by hand-worked blocks, and products of blocks against f64. */
#include "typed_model.h"

#include "interp_call.h"
#include "reference_ops.h"

enum { MOST = 5 * 256 };

/* A block as the layouts in interp_dot.c say; F16 and BF16 are plain. */
typedef struct block_32 {
    uint16_t d, sum; /* Q8_0 has no sum */
    int8_t   quants[32];
} block_32;

typedef struct block_256 {
    float   d;
    int8_t  quants[256];
    int16_t sums[16];
} block_256;

static void store(enum quant_type type, const float *x, uint64_t n, void *to) {
    const interp_activation *form = interp_activation_find(type);
    assert_non_null(form);
    memset(to, 0x55, n / form->block_len * form->block_bytes);
    form->store(x, n, to);
}

static block_32 q8_0(const float *x) {
    struct {
        uint16_t d;
        int8_t   quants[32];
    } b;
    block_32 wide = {0};
    assert_int_equal(interp_activation_find(QUANT_Q8_0)->block_bytes, sizeof b);
    store(QUANT_Q8_0, x, 32, &b);
    wide.d = b.d;
    memcpy(wide.quants, b.quants, 32);
    return wide;
}

static block_32 q8_1(const float *x) {
    block_32 b;
    assert_int_equal(interp_activation_find(QUANT_Q8_1)->block_bytes, sizeof b);
    store(QUANT_Q8_1, x, 32, &b);
    return b;
}

static block_256 q8_k(const float *x) {
    block_256 b;
    assert_int_equal(interp_activation_find(QUANT_Q8_K)->block_bytes, sizeof b);
    store(QUANT_Q8_K, x, 256, &b);
    return b;
}

/* ---- blocks of 32 */

static void zeros_32(void **state) {
    (void)state;
    float x[32] = {0, -0.0f};
    for (int k = 0; k < 2; k++) {
        block_32 b = k ? q8_1(x) : q8_0(x);
        assert_int_equal(b.d, 0);
        assert_int_equal(b.sum, 0);
        for (int i = 0; i < 32; i++) assert_int_equal(b.quants[i], 0);
    }
}

/* 127 is the largest, so that the scale is 1: ties go to the even neighbour. */
static void ties_32(void **state) {
    (void)state;
    float x[32] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 0.49f, 0.51f};
    static const int8_t expected[32] = {127, 0, 2, 2, 0, -2, -2, 126, -126, 0, 1};
    for (int k = 0; k < 2; k++) {
        block_32 b = k ? q8_1(x) : q8_0(x);
        assert_int_equal(b.d, 0x3c00);
        assert_memory_equal(b.quants, expected, 32);
        if (k) assert_true(quant_f16_to_f32(b.sum) == 128.0f); /* the quants, added */
    }
}

/* The scale is rounded to f16, the quants are made before: 1/127 is 0x1.0204p-7, between 0x2008 and
   0x2009. */
static void scales_32(void **state) {
    (void)state;
    float x[32] = {0};
    x[31] = -1;
    x[7] = 64.0f / 127;
    block_32 b = q8_0(x);
    assert_int_equal(b.d, 0x2008);
    assert_int_equal(b.quants[31], -127);
    assert_int_equal(b.quants[7], 64);
    b = q8_1(x);
    assert_int_equal(b.d, 0x2008);
    assert_int_equal(b.sum, quant_f32_to_f16(-63 * (1.0f / 127))); /* of the scale before rounding */
    for (int i = 0; i < 32; i++) x[i] = i % 2 ? 1e-38f : -3e-9f; /* scales that are zero as f16 */
    assert_int_equal(q8_0(x).d, 0);
    for (int i = 0; i < 32; i++) x[i] = 1e-44f;
    b = q8_1(x);
    assert_true(b.d == 0 && b.sum == 0);
    x[3] = 1e4f;
    b = q8_0(x);
    assert_true(b.quants[3] == 127 && b.d == quant_f32_to_f16(1e4f / 127));
}

/* Beside a tie x · (127 / largest) and x · (1 / (largest / 127)) may round to different sides:
   llama.cpp's is the former. */
static void inverse_of_scales(void **state) {
    (void)state;
    uint32_t differ = 0;
    for (uint32_t k = 0; k < 20000; k++) {
        float x[32] = {0};
        x[0] = 1 + (float)(typed_random() >> 9) * 0x1p-23f;
        x[1] = x[0] * ((float)(k % 126) + 0.5f) / 127;
        long right = lrintf(x[1] * (127 / x[0])), other = lrintf(x[1] * (1 / (x[0] / 127)));
        if (right == other) continue;
        differ++;
        assert_int_equal(q8_0(x).quants[1], right);
    }
    assert_true(differ > 0);
}

/* ---- blocks of 256 */

static void zeros_256(void **state) {
    (void)state;
    float     x[256] = {0};
    block_256 b = q8_k(x);
    assert_true(b.d >= 0 && b.d <= 0);
    for (int i = 0; i < 256; i++) assert_int_equal(b.quants[i], 0);
    for (int i = 0; i < 16; i++) assert_int_equal(b.sums[i], 0);
}

/* The value of largest magnitude becomes -127, the first one where there are several. */
static void largest_of_256(void **state) {
    (void)state;
    float     x[256] = {0.5f, 1.5f, -2.5f, 127, -127, 126.5f};
    block_256 b = q8_k(x);
    static const int8_t positive_first[] = {0, -2, 2, -127, 127, -126};
    assert_true(b.d <= -1 && b.d >= -1);
    assert_memory_equal(b.quants, positive_first, sizeof positive_first);
    assert_int_equal(b.sums[0], -126);

    static const int8_t negative_first[] = {0, 2, -2, -127, 127, 126};
    x[255] = 16;
    x[3] = -127;
    x[4] = 127;
    b = q8_k(x);
    assert_true(b.d <= 1 && b.d >= 1);
    assert_memory_equal(b.quants, negative_first, sizeof negative_first);
    assert_int_equal(b.sums[0], 126);
    assert_int_equal(b.sums[15], 16);
}

/* The scale is f32: nothing of it is lost. */
static void scale_of_256(void **state) {
    (void)state;
    float x[256];
    for (int i = 0; i < 256; i++) x[i] = 1e-9f * (float)(i - 200);
    block_256 b = q8_k(x);
    assert_int_equal(b.quants[0], -127);
    assert_true(fabsf(b.d * 127 / 200e-9f - 1) < 1e-6f);
    for (int i = 0; i < 256; i++) assert_true(fabsf(b.d * b.quants[i] - x[i]) <= b.d * 0.5001f);
    for (int s = 0; s < 16; s++) {
        int sum = 0;
        for (int i = 0; i < 16; i++) sum += b.quants[16 * s + i];
        assert_int_equal(b.sums[s], sum);
    }
}

/* ---- all forms */

static void halves_are_rounded(void **state) {
    (void)state;
    static const float x[] = {1, 1 + 0x1p-11f, 1 + 0x1.8p-10f, -65536, 0x1p-25f, 0x1.8p-24f};
    static const uint16_t f16[] = {0x3c00, 0x3c00, 0x3c02, 0xfc00, 0, 2};
    static const uint16_t bf16[] = {0x3f80, 0x3f80, 0x3f80, 0xc780, 0x3300, 0x33c0};
    uint16_t stored[ARRAY_LEN(x)];
    store(QUANT_F16, x, ARRAY_LEN(x), stored);
    assert_memory_equal(stored, f16, sizeof f16);
    store(QUANT_BF16, x, ARRAY_LEN(x), stored);
    assert_memory_equal(stored, bf16, sizeof bf16);
}

/* What reference_activate makes of a row in f64. */
static void forms_as_in_f64(void **state) {
    (void)state;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const interp_activation *form = interp_activation_find((enum quant_type)t);
        float   x[MOST], y[MOST];
        double  z[MOST], largest = 0;
        uint8_t stored[MOST * 4];
        for (int i = 0; i < MOST; i++) {
            x[i] = (float)(int32_t)typed_random() * 0x1p-31f * (i / 256 == 2 ? 1e-4f : 1);
            z[i] = (double)x[i];
            largest = fmax(largest, fabs(z[i]));
        }
        if (!form) continue;
        assert_int_equal(MOST % form->block_len, 0);
        store((enum quant_type)t, x, MOST, stored);
        form->load(stored, MOST, y);
        reference_activate((enum quant_type)t, z, MOST);
        for (int i = 0; i < MOST; i++) /* a step of the quants, where they fall to another side */
            if (fabs((double)y[i] - z[i]) > (form->block_len > 1 ? largest / 126 : 0))
                fail_msg("%s: value %d is %g, not %g", quant_find(t)->name, i, (double)y[i], z[i]);
        for (int i = 512; form->block_len > 1 && i < 768; i++)
            assert_true(fabs((double)y[i] - (double)x[i]) < 5e-6);
    }
}

static void forms_of_types(void **state) {
    (void)state;
    static const enum quant_type all[] = {QUANT_Q8_0, QUANT_Q8_1, QUANT_Q8_K, QUANT_F16, QUANT_BF16};
    uint32_t n = 0;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) n += interp_activation_find((enum quant_type)t) != NULL;
    assert_int_equal(n, ARRAY_LEN(all));
    for (size_t i = 0; i < ARRAY_LEN(all); i++) assert_non_null(interp_activation_find(all[i]));
    for (uint32_t t = 0; t < QUANT_COUNT; t++) /* a product is of whole blocks of both */
        if (interp_dot_find(t))
            assert_int_equal(quant_find(t)->block_len %
                             interp_activation_find(quant_find(t)->activation)->block_len, 0);
}

/* ---- products */

/* The minimum of a block is multiplied with the sum as it is stored. */
static double minimum_of(uint32_t type, const uint8_t *block) {
    bool has = type == QUANT_Q4_1 || type == QUANT_Q5_1;
    return has ? reference_half(reference_u16(block + 2)) : 0;
}

static void check_dot(uint32_t type, const uint8_t *w, const float *x, uint64_t n, const char *what) {
    const quant_info        *info = quant_find(type);
    const interp_activation *form = interp_activation_find(info->activation);
    uint8_t stored[MOST * 2];
    float   y[MOST];
    double  truth = 0, size = 0;
    store(info->activation, x, n, stored);
    form->load(stored, n, y);
    for (uint64_t i = 0; i < n; i++) {
        double m = minimum_of(type, w + i / info->block_len * info->block_bytes);
        double term = (reference_weight(type, w, i) - m) * (double)y[i];
        if (fabs(m) > 0 && i % info->block_len == 0)
            term += m * reference_half(reference_u16(stored + i / info->block_len * form->block_bytes + 2));
        truth += term;
        size += fabs(term);
    }
    float             sums[3] = {0}; /* the same row several times */
    const interp_rows one = {stored, 0, 1}, three = {stored, 0, 3};
    interp_dot_find(type)(type, w, n, &one, sums);
    double found = (double)sums[0];
    sums[0] = 0;
    interp_dot_find(type)(type, w, n, &three, sums);
    for (int i = 0; i < 3; i++) assert_memory_equal(&sums[i], &(float){(float)found}, sizeof *sums);
    if (!(fabs(found - truth) <= 1e-6 * size))
        fail_msg("%s, %s, %d values: %.9g, expected %.9g", info->name, what, (int)n, found, truth);
}

static void random_products(uint32_t type) {
    const quant_info *info = quant_find(type);
    uint8_t w[MOST * 2 + 1];
    float   x[MOST];
    for (int k = 0; k < 200; k++) {
        uint64_t n = (uint64_t)(1 + k % 5) * info->block_len;
        typed_write(type, w + k % 2, n, 1);
        for (uint64_t i = 0; i < n; i++) x[i] = (float)(int32_t)typed_random() * 0x1p-30f;
        check_dot(type, w + k % 2, x, n, "random");
    }
}

/* The largest products there are: every bit of the quants and of their scales alike. */
static void extreme_products(uint32_t type) {
    static const uint8_t bits[] = {0x00, 0xff, 0x80, 0x7f, 0xf0, 0x0f, 0x3f};
    const quant_info *info = quant_find(type);
    uint8_t w[512];
    float   x[256];
    for (size_t k = 0; k < ARRAY_LEN(bits) * 3; k++) {
        memset(w, bits[k / 3], sizeof w);
        random_put_scales(info, w, random_scale_bits(random_scale_kind(type), 1), 0x3c00);
        for (int i = 0; i < 256; i++) x[i] = k % 3 == 0 || (k % 3 == 2 && i % 2) ? 127.0f : -127.0f;
        check_dot(type, w, x, info->block_len, "extremes");
    }
}

static void products(void **state) {
    (void)state;
    uint32_t n = 0;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        if (!interp_dot_find(t)) continue;
        random_products(t);
        extreme_products(t);
        n++;
    }
    assert_int_equal(n, 25);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_32),
        cmocka_unit_test(ties_32),
        cmocka_unit_test(scales_32),
        cmocka_unit_test(inverse_of_scales),
        cmocka_unit_test(zeros_256),
        cmocka_unit_test(largest_of_256),
        cmocka_unit_test(scale_of_256),
        cmocka_unit_test(halves_are_rounded),
        cmocka_unit_test(forms_as_in_f64),
        cmocka_unit_test(forms_of_types),
        cmocka_unit_test(products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
