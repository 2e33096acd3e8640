/* Every emitted kernel against the same op in f64 (kernel_machine.h), on models of odd shapes
 * (odd_models.h): this is the test that catches tails. */
#include "kernel_machine.h"

static void check_isa(const compiled_variant *v, const char *more) {
    char flags[256];
    if (!compiled_can_run(v->needs)) {
        print_message("skipped: this machine has no %s\n", v->needs);
        skip();
    }
    snprintf(flags, sizeof flags, "%s%s", v->flags, more);
    for (size_t i = 0; i < ARRAY_LEN(odd_models); i++)
        check_model(&odd_models[i], odd_model_make(&odd_models[i], i), v->name, flags);
}

static void check_native(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_NATIVE], "");
}

static void check_avx_vnni(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_AVX_VNNI], " --unroll=4");
}

static void check_avx2(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_AVX2], "");
}

static void check_ssse3(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_SSSE3], " --unroll=4");
}

static void check_generic(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_GENERIC], "");
}

static void check_avx512(void **state) {
    (void)state;
    check_isa(&compiled_isas[COMPILED_AVX512], "");
}

static void check_that_every_op_was_met(void **state) {
    (void)state;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (!n_checked[k]) fail_msg("no model has an op %s of its own", op_infos[k].name);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_native),
        cmocka_unit_test(check_avx_vnni),
        cmocka_unit_test(check_avx2),
        cmocka_unit_test(check_ssse3),
        cmocka_unit_test(check_generic),
        cmocka_unit_test(check_avx512),
        cmocka_unit_test(check_that_every_op_was_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
