/* Numbers of 16 bits as f32, by the code that is emitted: every one of them, for CPUs that convert them with an
 * instruction and for those that have none. */
#include "emitted_code.h"

#include <math.h>
#ifdef __x86_64__
#include <xmmintrin.h>
#endif

#include "quant.h"

enum { AT_ONCE = 8, HALVES = 1 << 16 };

/* Writes `AT_ONCE` numbers as f32, which a conversion takes `n` at a time, as scales (emit_half_to_f32) or not. */
typedef void conversion(const uint16_t *bits, float *out);

static val converted(emit *e, enum quant_type weight, bool scales, val from, uint32_t n) {
    if (!scales) return emit_load_f32(e, weight, from, n);
    return emit_half_to_f32(e, emit_load(e, emit_vector(e->i16, n), from, 2));
}

static void emit_conversion(emitted_code *c, enum quant_type weight, bool scales, uint32_t n) {
    emit e = {.memory = c->memory, .module = c->module, .isa = c->machine.isa};
    emit_begin(&e);
    LLVMTypeRef params[] = {e.ptr, e.ptr};
    emit_function_begin(&e, "convert", e.none, params, 2);
    LLVMSetLinkage(e.fn, LLVMExternalLinkage);
    for (uint32_t i = 0; i < AT_ONCE; i += n)
        emit_store(&e, converted(&e, weight, scales, emit_at_const(&e, LLVMGetParam(e.fn, 0), 2 * i), n),
                   emit_at_const(&e, LLVMGetParam(e.fn, 1), 4 * i), 4);
    LLVMBuildRetVoid(e.builder);
    LLVMDisposeBuilder(e.builder);
}

/* Subnormal f32s are as zeros, which is also how to find out that there are none on the way. */
static void subnormals_are_zeros(bool on) {
#ifdef __x86_64__
    enum { FLUSHED = 0x8000, TAKEN_FOR_ZERO = 0x0040 };
    uint32_t now = _mm_getcsr() & ~(uint32_t)(FLUSHED | TAKEN_FOR_ZERO);
    _mm_setcsr(on ? now | FLUSHED | TAKEN_FOR_ZERO : now);
#else
    (void)on;
#endif
}

static void check_all(conversion *convert, enum quant_type weight, bool scales, const char *cpu) {
    for (uint32_t first = 0; first < HALVES; first += AT_ONCE) {
        uint16_t bits[AT_ONCE];
        float    is[AT_ONCE];
        for (uint32_t i = 0; i < AT_ONCE; i++) bits[i] = (uint16_t)(first + i);
        subnormals_are_zeros(scales);
        convert(bits, is);
        subnormals_are_zeros(false);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            float expected = weight == QUANT_F16 ? quant_f16_to_f32(bits[i]) : quant_bf16_to_f32(bits[i]);
            if (isnan(expected) ? !isnan(is[i]) : memcmp(&is[i], &expected, sizeof expected) != 0)
                fail_msg("%s: %s %04x is %a, expected %a", cpu, quant_find(weight)->name, bits[i], (double)is[i],
                         (double)expected);
        }
    }
}

static void check_at(const compiled_variant *v, const char *cpu, enum quant_type weight, bool scales, uint32_t n) {
    if (!compiled_can_run(v->needs)) return;
    emitted_code c;
    emitted_begin(&c, cpu, NULL);
    emit_conversion(&c, weight, scales, n);
    check_all((conversion *)(uintptr_t)emitted_end(&c, "convert"), weight, scales, v->name);
    emitted_free(&c);
}

static void check(const compiled_variant *v, const char *cpu, enum quant_type weight, bool scales) {
    for (uint32_t n = 1; n <= AT_ONCE; n *= 2) check_at(v, cpu, weight, scales, n);
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
