/* That grids are ggml's: each has as many points as positions address, in ascending order, and a hash
 * over all of its values, in order, is that of ggml's table; some points stand here as ggml has them. */
#include "quant_grid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

typedef struct known_point {
    uint32_t at;
    uint64_t bytes; /* the first value in the lowest byte */
} known_point;

/* The hash is FNV-1a, 64 bits, over the values' bytes. */
static const struct known_grid {
    uint32_t    n_points, width;
    uint64_t    hash;
    known_point points[3];
} known[QUANT_GRID_COUNT] = {
    [QUANT_GRID_IQ1] = { 2048, 8, 0x6703ed863501ae2e,
                         { { 1, 0xffffffffffffff01 }, { 1024, 0x0000000000ff0100 },
                           { 2047, 0x0101010101010101 } } },
    [QUANT_GRID_IQ2_XXS] = { 256, 8, 0xbb4ee025b5ac6e8e,
                             { { 1, 0x080808080808082b }, { 128, 0x082b2b0808082b08 },
                               { 255, 0x2b2b2b1908081908 } } },
    [QUANT_GRID_IQ2_XS] = { 512, 8, 0xc9b1ee61e79909bd,
                            { { 1, 0x080808080808082b }, { 256, 0x190808080808192b },
                              { 511, 0x2b2b2b2b2b2b2b2b } } },
    [QUANT_GRID_IQ2_S] = { 1024, 8, 0x123edd38a3b62b90,
                           { { 1, 0x080808080808082b }, { 512, 0x19080819082b1919 },
                             { 1023, 0x2b2b2b2b2b2b2b2b } } },
    [QUANT_GRID_IQ3_XXS] = { 256, 4, 0xdfa5dc83d6a155d5,
                             { { 1, 0x04040414 }, { 128, 0x141c3e04 }, { 255, 0x3e341c04 } } },
    [QUANT_GRID_IQ3_S] = { 512, 4, 0xfa37020c25b44829,
                           { { 1, 0x01010103 }, { 256, 0x05090507 }, { 511, 0x0f0f0101 } } },
};

static uint64_t hash(const int8_t *values, size_t n) {
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)values[i]) * 0x100000001b3;
    return h;
}

static void expand(void **state) {
    (void)state;
    static int8_t values[QUANT_GRID_MOST + 1];
    for (int g = 0; g < QUANT_GRID_COUNT; g++) {
        const struct known_grid *k = &known[g];
        const quant_grid_info   *info = quant_grid_find((enum quant_grid)g);
        size_t n = (size_t)k->n_points * k->width;
        assert_int_equal(info->n_points, k->n_points);
        assert_int_equal(info->width, k->width);
        assert_true(n <= QUANT_GRID_MOST);
        memset(values, 0x55, sizeof values);
        quant_grid_expand((enum quant_grid)g, values);
        assert_int_equal(values[n], 0x55); /* as many as announced, no more */
        assert_true(hash(values, n) == k->hash);
        for (size_t i = 0; i < ARRAY_LEN(k->points); i++) {
            const int8_t *point = values + k->points[i].at * k->width;
            for (uint32_t j = 0; j < k->width; j++)
                assert_int_equal((uint8_t)point[j], k->points[i].bytes >> 8 * j & 255);
        }
        assert_memory_equal(quant_grid_values((enum quant_grid)g), values, n);
    }
}

static bool is_level(const quant_grid_info *g, int8_t number) {
    for (uint32_t i = 0; i < g->n_levels; i++)
        if (g->levels[i] == number) return true;
    return false;
}

/* Of two points the later has the greater value where they differ last. */
static void ascend(void **state) {
    (void)state;
    for (int g = 0; g < QUANT_GRID_COUNT; g++) {
        const quant_grid_info *info = quant_grid_find((enum quant_grid)g);
        const int8_t *p = quant_grid_values((enum quant_grid)g);
        for (uint32_t i = 1; i < info->n_levels; i++) assert_true(info->levels[i - 1] < info->levels[i]);
        for (uint32_t i = 0; i < info->n_points; i++, p += info->width) {
            uint32_t j = info->width - 1;
            for (uint32_t k = 0; k <= j; k++) assert_true(is_level(info, p[k]));
            if (!i) continue;
            while (j && p[j] == p[(int)j - (int)info->width]) j--;
            assert_true(p[j] > p[(int)j - (int)info->width]);
        }
    }
}

/* Some of ksigns_iq2xs, and what all have in common. */
static void complete_signs(void **state) {
    (void)state;
    static const uint8_t first[] = { 0, 129, 130, 3, 132, 5, 6, 135 }, last[] = { 120, 249, 250, 123, 252 };
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(quant_grid_signs(i), first[i]);
    for (uint32_t i = 0; i < 5; i++) assert_int_equal(quant_grid_signs(120 + i), last[i]);
    for (uint32_t i = 0; i < 128; i++) {
        assert_int_equal(quant_grid_signs(i) & 127, i);
        assert_int_equal(__builtin_popcount(quant_grid_signs(i)) % 2, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expand),
        cmocka_unit_test(ascend),
        cmocka_unit_test(complete_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
