/* That the table of tensor types is what ggml's is: each row's size is the sum of the fields its
 * block has, no id is forgotten, and removed ids are empty. */
#include "quant.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A block in bits: what each value takes by itself, and what all of them share. */
typedef struct layout {
    const char *name;
    uint32_t id, block_len;
    uint32_t value_bits;  /* a value; those that take no whole number are in shared_bits */
    uint32_t shared_bits; /* a block: its scales, minima, signs, sums, indices */
} layout;

static const layout layouts[] = {
    { "F32", 0, 1, 32, 0 },
    { "F16", 1, 1, 16, 0 },
    { "BF16", 30, 1, 16, 0 },
    { "F64", 28, 1, 64, 0 },
    { "I8", 24, 1, 8, 0 },
    { "I16", 25, 1, 16, 0 },
    { "I32", 26, 1, 32, 0 },
    { "I64", 27, 1, 64, 0 },

    { "Q1_0", 41, 128, 1, 16 },
    { "Q2_0", 42, 64, 2, 16 },
    { "Q4_0", 2, 32, 4, 16 },
    { "Q4_1", 3, 32, 4, 16 + 16 },
    { "Q5_0", 6, 32, 4 + 1, 16 },
    { "Q5_1", 7, 32, 4 + 1, 16 + 16 },
    { "Q8_0", 8, 32, 8, 16 },
    { "Q8_1", 9, 32, 8, 16 + 16 },

    { "Q2_K", 10, 256, 2, 16 + 16 + 16 * (4 + 4) },
    { "Q3_K", 11, 256, 2 + 1, 16 + 16 * 6 },
    { "Q4_K", 12, 256, 4, 16 + 16 + 8 * (6 + 6) },
    { "Q5_K", 13, 256, 4 + 1, 16 + 16 + 8 * (6 + 6) },
    { "Q6_K", 14, 256, 4 + 2, 16 + 16 * 8 },
    { "Q8_K", 15, 256, 8, 32 + 16 * 16 },

    { "IQ1_S", 19, 256, 1, 16 + 8 * 16 },
    { "IQ1_M", 29, 256, 1, 16 * 8 + 8 * 8 },
    { "IQ2_XXS", 16, 256, 2, 16 },
    { "IQ2_XS", 17, 256, 2, 16 + 8 * 8 },
    { "IQ2_S", 22, 256, 2, 16 + 8 * 8 + 8 * 8 },
    { "IQ3_XXS", 18, 256, 3, 16 },
    { "IQ3_S", 21, 256, 2 + 1, 16 + 8 * 8 + 4 * 8 },
    { "IQ4_NL", 20, 32, 4, 16 },
    { "IQ4_XS", 23, 256, 4, 16 + 8 * (4 + 2) },

    { "TQ1_0", 34, 256, 0, 16 + 240 / 5 * 8 + 16 / 4 * 8 }, /* five values a byte, or four */
    { "TQ2_0", 35, 256, 2, 16 },
    { "MXFP4", 39, 32, 4, 8 },
    { "NVFP4", 40, 64, 4, 4 * 8 },
};

static void compare_rows_with_layouts(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
        const layout *l = &layouts[i];
        const quant_info *q = quant_find(l->id);
        if (!q) fail_msg("type %u, %s, has no row", l->id, l->name);
        assert_string_equal(q->name, l->name);
        assert_int_equal(q->block_len, l->block_len);
        uint32_t bits = l->block_len * l->value_bits + l->shared_bits;
        if (bits != q->block_bytes * 8)
            fail_msg("%s: %u bits by its fields, %u by its row", l->name, bits, q->block_bytes * 8);
    }
}

static void find_no_other_rows(void **state) {
    (void)state;
    for (uint32_t id = 0; id < 1000; id++) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(layouts); i++) known |= layouts[i].id == id;
        if (known != (quant_find(id) != NULL))
            fail_msg("type %u is %s the table", id, known ? "missing in" : "too many in");
    }
    assert_null(quant_find(UINT32_MAX));
    assert_non_null(quant_find(QUANT_COUNT - 1));
}

static void compile_with_right_activations(void **state) {
    (void)state;
    unsigned n_compiled = 0;
    for (uint32_t id = 0; id < QUANT_COUNT; id++) {
        const quant_info *q = quant_find(id);
        if (!q) continue;
        const quant_info *activation = quant_find(q->activation);
        assert_non_null(activation);
        /* A row of weights must be a whole number of blocks of its activations. */
        if (q->activation != QUANT_F32 || q->compiled)
            assert_int_equal(q->block_len % activation->block_len, 0);
        if (!q->compiled) continue;
        assert_int_equal(q->activation, id);
        n_compiled++;
    }
    assert_int_equal(n_compiled, 4);
    assert_true(quant_find(QUANT_F32)->compiled && quant_find(QUANT_F16)->compiled);
    assert_true(quant_find(QUANT_BF16)->compiled && quant_find(QUANT_Q8_0)->compiled);
    assert_int_equal(quant_find(QUANT_Q4_0)->activation, QUANT_Q8_0);
    assert_int_equal(quant_find(QUANT_Q4_1)->activation, QUANT_Q8_1);
    assert_int_equal(quant_find(QUANT_Q4_K)->activation, QUANT_Q8_K);
}

static void size_rows(void **state) {
    (void)state;
    for (uint32_t id = 0; id < QUANT_COUNT; id++) {
        const quant_info *q = quant_find(id);
        if (!q) continue;
        assert_int_equal(quant_row_bytes(id, 0), 0);
        assert_int_equal(quant_row_bytes(id, q->block_len), q->block_bytes);
        assert_int_equal(quant_row_bytes(id, 7 * q->block_len), 7 * q->block_bytes);
    }
    assert_int_equal(quant_row_bytes(QUANT_Q8_0, 2048), 2176);
    assert_true(quant_row_bytes(QUANT_F32, UINT64_C(1) << 40) == UINT64_C(1) << 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_rows_with_layouts),
        cmocka_unit_test(find_no_other_rows),
        cmocka_unit_test(compile_with_right_activations),
        cmocka_unit_test(size_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
