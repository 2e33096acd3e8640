/* Kernels of every quantized type of weights against f64 (kernel_machine.h), on models of random blocks whose
 * rows are an odd number of blocks: rows and tiles, one token and many. */
#include "kernel_machine.h"

#include <stdio.h>

static const struct {
    uint32_t    block;
    const char *shape;
} shapes[] = {
    {32, "--embd 288 --heads 6 --kv-heads 2 --ff 352"},
    {64, "--embd 320 --heads 5 --kv-heads 1 --ff 448"},
    {128, "--embd 384 --heads 4 --kv-heads 2 --ff 640"},
    {256, "--embd 512 --heads 4 --kv-heads 2 --ff 768"},
};

static const char *shape_of(uint32_t block) {
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (shapes[i].block == block) return shapes[i].shape;
    fail_msg("no shape has rows of blocks of %u", block);
    return NULL;
}

static bool is_of_weights(const quant_info *info) {
    return info && info->compiled && info->block_len > 1;
}

static void check_types(const compiled_variant *v) {
    uint32_t n = 0;
    if (!compiled_can_run(v->needs)) {
        print_message("skipped: this machine has no %s\n", v->needs);
        skip();
    }
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *info = quant_find(t);
        char shape[256];
        if (!is_of_weights(info)) continue;
        snprintf(shape, sizeof shape, "--layers 1 %s --vocab 300 --ctx 300 --tied --type %s",
                 shape_of(info->block_len), info->name);
        odd_model odd = {info->name, shape, "", ""};
        check_model(&odd, odd_model_make(&odd, 100 + t), v->name, v->flags);
        n++;
    }
    assert_int_equal(n, 25);
}

static void check_native(void **state) {
    (void)state;
    check_types(&compiled_isas[COMPILED_NATIVE]);
}

static void check_avx_vnni(void **state) {
    (void)state;
    check_types(&compiled_isas[COMPILED_AVX_VNNI]);
}

static void check_avx2(void **state) {
    (void)state;
    check_types(&compiled_isas[COMPILED_AVX2]);
}

static void check_ssse3(void **state) {
    (void)state;
    check_types(&compiled_isas[COMPILED_SSSE3]);
}

static void check_generic(void **state) {
    (void)state;
    check_types(&compiled_isas[COMPILED_GENERIC]);
}

static void check_avx512(void **state) {
    (void)state;
    check_types(&compiled_isas[COMPILED_AVX512]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_native),
        cmocka_unit_test(check_avx_vnni),
        cmocka_unit_test(check_avx2),
        cmocka_unit_test(check_ssse3),
        cmocka_unit_test(check_generic),
        cmocka_unit_test(check_avx512),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
