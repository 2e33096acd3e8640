/* Numbers of 16 bits as f32, by the code that is emitted: every one of them, for CPUs that convert them with an
 * instruction and for those that have none. */
#include "compiled_model.h"

#include <math.h>

#include "emit.h"
#include "jit.h"
#include "quant.h"
#include "target.h"

enum { AT_ONCE = 8, HALVES = 1 << 16 };

/* Writes `AT_ONCE` numbers as f32; F16's are taken for scales where `scales`. */
typedef void conversion(const uint16_t *bits, float *out);

static val converted(emit *e, enum quant_type weight, bool scales, val from) {
    if (!scales) return emit_load_f32(e, weight, from, AT_ONCE);
    return emit_half_to_f32(e, emit_load(e, emit_vector(e->i16, AT_ONCE), from, 2));
}

static void emit_conversion(arena *a, LLVMModuleRef module, const isa *row, enum quant_type weight, bool scales) {
    emit e = {.memory = a, .module = module, .isa = row};
    emit_begin(&e);
    LLVMTypeRef params[] = {e.ptr, e.ptr};
    emit_function_begin(&e, "convert", e.none, params, 2);
    LLVMSetLinkage(e.fn, LLVMExternalLinkage);
    emit_store(&e, converted(&e, weight, scales, LLVMGetParam(e.fn, 0)), LLVMGetParam(e.fn, 1), 4);
    LLVMBuildRetVoid(e.builder);
    LLVMDisposeBuilder(e.builder);
}

static void check_all(conversion *convert, enum quant_type weight, const char *cpu) {
    for (uint32_t first = 0; first < HALVES; first += AT_ONCE) {
        uint16_t bits[AT_ONCE];
        float    is[AT_ONCE];
        for (uint32_t i = 0; i < AT_ONCE; i++) bits[i] = (uint16_t)(first + i);
        convert(bits, is);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            float expected = weight == QUANT_F16 ? quant_f16_to_f32(bits[i]) : quant_bf16_to_f32(bits[i]);
            if (isnan(expected) ? !isnan(is[i]) : memcmp(&is[i], &expected, sizeof expected) != 0)
                fail_msg("%s: %s %04x is %a, expected %a", cpu, quant_find(weight)->name, bits[i], (double)is[i],
                         (double)expected);
        }
    }
}

static void check(const compiled_variant *v, const char *cpu, enum quant_type weight, bool scales) {
    if (!compiled_can_run(v->needs)) return;
    arena      *a = arena_new();
    diag        d = {0};
    target      machine;
    const void *convert;
    assert_true(target_open(&machine, a, &d, NULL, cpu, NULL));
    LLVMContextRef context = LLVMContextCreate();
    LLVMModuleRef  module = LLVMModuleCreateWithNameInContext("convert", context);
    target_prepare(&machine, module);
    emit_conversion(a, module, machine.isa, weight, scales);
    assert_true(target_optimize(&machine, &d, module));
    LLVMMemoryBufferRef object = target_code(&machine, &d, module, false);
    LLVMDisposeModule(module);
    LLVMContextDispose(context);
    jit *j = jit_load(&d, object, "convert", &convert);
    assert_non_null(j);
    check_all((conversion *)(uintptr_t)convert, weight, v->name);
    jit_free(j);
    target_close(&machine);
    arena_free(a);
}

static void check_cpus(enum quant_type weight, bool scales) {
    check(&compiled_isas[COMPILED_NATIVE], NULL, weight, scales);
    check(&compiled_isas[COMPILED_SSSE3], "x86-64-v2", weight, scales);
    check(&compiled_isas[COMPILED_GENERIC], "x86-64", weight, scales);
}

static void halves_are_exact(void **state) {
    (void)state;
    check_cpus(QUANT_F16, false);
}

static void scales_are_exact(void **state) {
    (void)state;
    check_cpus(QUANT_F16, true);
}

static void brain_floats_are_exact(void **state) {
    (void)state;
    check_cpus(QUANT_BF16, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_are_exact),
        cmocka_unit_test(scales_are_exact),
        cmocka_unit_test(brain_floats_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
