/* cpu_can_run() against what the system says of the processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cpu.h"
#include "isa_rows.h"

/* Whether /proc/cpuinfo's first line of flags has the flag. */
static bool has_flag(const char *flag) {
    static char line[1 << 14];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool  found = false;
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "flags", 5)) {
            for (char *word = strtok(line, " \t\n"); word; word = strtok(NULL, " \t\n"))
                found = found || !strcmp(word, flag);
            break;
        }
    if (f) fclose(f);
    return found;
}

static void agrees_with_the_system(void **state) {
    (void)state;
#if defined(__x86_64__)
    bool avx2 = has_flag("avx2") && has_flag("fma") && has_flag("f16c");
    bool vnni = avx2 && has_flag("avx512f") && has_flag("avx512bw") && has_flag("avx512vl") &&
                has_flag("avx512dq") && has_flag("avx512_vnni");
    assert_int_equal(cpu_can_run("x86_64 ssse3"), has_flag("ssse3"));
    assert_int_equal(cpu_can_run("x86_64 avx2"), avx2);
    assert_int_equal(cpu_can_run("x86_64 avx512-vnni"), vnni);
    assert_int_equal(cpu_can_run("x86_64 avx-vnni"), avx2 && has_flag("avx_vnni"));
    assert_int_equal(cpu_can_run("x86_64 avx512-bf16"), vnni && has_flag("avx512_bf16"));
    bool amx = has_flag("amx_tile") && has_flag("amx_int8") && has_flag("amx_bf16");
    assert_int_equal(cpu_can_run("x86_64 amx"), vnni && has_flag("avx512_bf16") && amx);
#else
    skip();
#endif
}

/* A name that the table does not know is taken for granted, so the names must be the compiler's. */
static void names_are_the_compilers(void **state) {
    (void)state;
    assert_string_equal(isa_ssse3.name, "ssse3");
    assert_string_equal(isa_avx2.name, "avx2");
    assert_string_equal(isa_avx_vnni.name, "avx-vnni");
    assert_string_equal(isa_avx512_vnni.name, "avx512-vnni");
    assert_string_equal(isa_avx512_bf16.name, "avx512-bf16");
    assert_string_equal(isa_amx.name, "amx");
    assert_string_equal(isa_dotprod.name, "dotprod");
    assert_true(cpu_can_run("x86_64 generic"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_system),
        cmocka_unit_test(names_are_the_compilers),
    };
    return cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
}
