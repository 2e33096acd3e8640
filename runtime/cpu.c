/* An instruction that a processor lacks ends a program with a signal and no word; asking first is
 * a few lines. The names are those of the compiler's ISA rows. */
#include "cpu.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool has_ssse3(void) {
    return __builtin_cpu_supports("ssse3");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

/* Leaf 7, subleaf 1, EAX bit 4; not every compiler has a name for it. */
static bool has_avx_vnni(void) {
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static bool has_avx512_vnni(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512_bf16(void) {
    return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16");
}

/* Leaf 7, EDX. Linux keeps the tiles' state for processes that have asked for it: this does. */
static bool has_amx(void) {
    enum { BF16 = 1u << 22, TILE = 1u << 24, INT8 = 1u << 25, ALL = BF16 | TILE | INT8 };
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    unsigned a, b, c, d;
    return has_avx512_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & ALL) == ALL &&
           syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}

const char cpu_least[] = "x86-64";

#define ASK __builtin_cpu_init()
#define ROWS                                 \
    {"x86_64 ssse3", has_ssse3},             \
    {"x86_64 avx2", has_avx2},               \
    {"x86_64 avx-vnni", has_avx_vnni},       \
    {"x86_64 avx512-vnni", has_avx512_vnni}, \
    {"x86_64 avx512-bf16", has_avx512_bf16}, \
    {"x86_64 amx", has_amx},

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

#include <asm/hwcap.h>

static bool has_dotprod(void) {
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}

const char cpu_least[] = "cortex-a53";

#define ASK  (void)0
#define ROWS {"aarch64 dotprod", has_dotprod},

#endif

#ifdef ROWS

bool cpu_can_run(const char *target) {
    static const struct {
        const char *target;
        bool (*supported)(void);
    } rows[] = {ROWS};
    ASK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].target, target) == 0) return rows[i].supported();
    return true;
}

#else

const char cpu_least[] = "generic";

bool cpu_can_run(const char *target) {
    (void)target;
    return true;
}

#endif

const ggufc_model *cpu_choose(const ggufc_model *model) {
    while (model && !cpu_can_run(model->target)) model = model->next;
    return model;
}

void cpu_list_targets(const ggufc_model *model, char *text, size_t size) {
    size_t n = 0;
    for (const ggufc_model *m = model; m && n < size; m = m->next)
        n += (size_t)snprintf(text + n, size - n, "%s%s", m == model ? "" : ", ", m->target);
}
