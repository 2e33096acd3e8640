/* What the generated code consists of: rows that stand straight-line, weights that are taken apart as
 * vectors, kernels shared by layers, and nothing that calls a library, neither in LLVM's IR nor in the
 * object of any target. */
#include "odd_models.h"
#include "quant.h"

#include <elf.h>

#define DEMO "tests/models/storyteller-q8_0.gguf"

/* ---- a module as text */

/* The text of a compiled module, "llvm-ir" or "asm", to be freed. */
static char *text_of(const char *gguf, const char *kind, const char *flags) {
    char  all[512];
    char *text = NULL;
    size_t size = 0;
    snprintf(all, sizeof all, "--emit=%s %s", kind, flags);
    const char *path = compiled_path("module.text");
    compiled_file(gguf, all, path);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    ssize_t n = getdelim(&text, &size, '\0', f);
    fclose(f);
    assert_true(n > 0);
    return text;
}

static char *ir_of(const char *gguf, const char *flags) {
    return text_of(gguf, "llvm-ir", flags);
}

static uint32_t count(const char *text, const char *what) {
    uint32_t n = 0;
    for (; (text = strstr(text, what)); text += strlen(what)) n++;
    return n;
}

/* The body of a function whose name begins with `prefix` and goes on with "(" or "_r": that of the
   dots of one token. *rows is how many rows it takes at a time. To be freed. */
static char *dot_of(const char *ir, const char *prefix, uint32_t *rows) {
    size_t n = strlen(prefix);
    for (const char *at = ir; (at = strstr(at, "\ndefine ")); at++) {
        const char *name = strchr(at, '@') + 1, *end = strstr(at, "\n}");
        if (strncmp(name, prefix, n) || (name[n] != '(' && name[n] != '_')) continue;
        *rows = 1;
        if (name[n] == '_') assert_int_equal(sscanf(name + n, "_r%u(", rows), 1);
        return strndup(at + 1, (size_t)(end - at));
    }
    fail_msg("no function is called %s", prefix);
    return NULL;
}

/* Blocks of 32 that the text multiplies: by what each ISA does it with. */
static uint32_t count_blocks(const char *text) {
    static const struct {
        const char *call;
        uint32_t    weights;
    } dots[] = {
        {"@llvm.x86.avx512.vpdpbusd.512(", 64},
        {"@llvm.x86.avx512.vpdpbusd.256(", 32},
        {"@llvm.x86.avx2.pmadd.ub.sw(", 32},
        {"@llvm.x86.ssse3.pmadd.ub.sw.128(", 16},
        {" = mul <32 x i16>", 32},
        {" = mul nsw <32 x i16>", 32},
    };
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(dots); i++) n += count(text, dots[i].call) * dots[i].weights;
    assert_int_equal(n % 32, 0);
    return n / 32;
}

/* ---- rows stand straight-line */

static void check_straight(const char *ir, uint32_t k) {
    char     prefix[64];
    uint32_t rows;
    snprintf(prefix, sizeof prefix, "dot_Q8_0_k%u_x1", k);
    char *dot = dot_of(ir, prefix, &rows);
    assert_int_equal(count_blocks(dot), rows * k / 32);
    assert_int_equal(count(dot, "\n  br "), 0);
    assert_int_equal(count(dot, "\n  switch "), 0);
    assert_int_equal(count(dot, " = phi "), 0);
    assert_int_equal(count(dot, ":\n"), 1); /* a block: entry */
    assert_int_equal(count(dot, "\n  ret "), 1);
    free(dot);
}

/* A loop whose body takes `blocks` of each row. */
static void check_looped(const char *ir, uint32_t k, uint32_t blocks) {
    char     prefix[64];
    uint32_t rows;
    snprintf(prefix, sizeof prefix, "dot_Q8_0_k%u_x1", k);
    char *dot = dot_of(ir, prefix, &rows);
    assert_int_equal(count(dot, " br i1 "), rows);
    assert_int_equal(count(dot, "\nloop"), rows);
    assert_int_equal(count_blocks(dot), rows * (blocks + k / 32 % blocks));
    free(dot);
}

static void demo_rows_are_unrolled(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(compiled_isas); i++) {
        char *ir = ir_of(DEMO, compiled_isas[i].flags);
        check_straight(ir, 256);
        check_straight(ir, 512);
        free(ir);
    }
}

/* More weights than a cache holds. */
static const char *large_model(void) {
    static const odd_model tinyllama = {
        .name = "tinyllama", .shape = "tinyllama-1.1b --layers 1 --vocab 300 --ctx 64",
    };
    return odd_model_make(&tinyllama, 100);
}

static void rows_of_a_large_model_are_unrolled(void **state) {
    (void)state;
    const char *gguf = large_model();
    char *ir = ir_of(gguf, "");
    check_straight(ir, 2048);
    check_straight(ir, 5632);
    free(ir);
    ir = ir_of(gguf, "--unroll=8");
    check_looped(ir, 2048, 8);
    check_looped(ir, 5632, 8);
    free(ir);
}

/* How far the function of that name goes back, at most, from the weights it read to those that it reads next, in
   bytes: its first argument is where a row begins, in %rdi. */
static long steps_back(const char *assembly, const char *name) {
    const char *at = strstr(assembly, name), *end = at ? strstr(at, ".Lfunc_end") : NULL;
    long        most = 0, before = 0, back = 0, bytes;
    if (!at) fail_msg("no %s", name + 1);
    for (; (at = strstr(at, "(%rdi)")) && at < end; at++) {
        const char *number = at;
        while (number[-1] == '-' || (number[-1] >= '0' && number[-1] <= '9')) number--;
        if (!strncmp(number - strlen("prefetcht1\t"), "prefetch", strlen("prefetch"))) continue;
        bytes = number < at ? strtol(number, NULL, 10) : 0;
        if (before - bytes > back) back = before - bytes;
        if (bytes > most) most = bytes;
        before = bytes;
    }
    assert_in_range(most, 2048, 2176); /* it was the function, and all of a row */
    return back;
}

/* With asking ahead of time (Zen 4) and without, where a processor's own prefetchers must find out. */
static void weights_from_memory_are_read_in_order(void **state) {
    (void)state;
    static const char *const cpus[] = {"znver4", "sapphirerapids", "cascadelake", "haswell", "x86-64"};
    const char *gguf = large_model();
    for (size_t i = 0; i < ARRAY_LEN(cpus); i++) {
        char  flags[64];
        snprintf(flags, sizeof flags, "--target=x86_64-linux-gnu --cpu=%s", cpus[i]);
        char *assembly = text_of(gguf, "asm", flags);
        long  back = steps_back(assembly, "\ndot_Q8_0_k2048_x1:");
        if (back > 4 * 34) fail_msg("%s goes back %ld bytes", cpus[i], back);
        free(assembly);
    }
}

/* Instructions of the function that multiplies rows of 256 weights with one token, for each weight. */
static double instructions_a_weight(const char *assembly, const char *type) {
    char     prefix[64];
    uint32_t rows = 1, n = 0;
    snprintf(prefix, sizeof prefix, "\ndot_%s_k256_x1", type);
    const char *at = strstr(assembly, prefix);
    if (!at) fail_msg("no %s", prefix + 1);
    sscanf(at + strlen(prefix), "_r%u:", &rows);
    const char *end = strstr(at, ".Lfunc_end");
    for (; (at = strstr(at, "\n\t")) && at < end; at += 2) n += at[2] != '.';
    return n / (256.0 * rows);
}

/* What makes a model of one type; its rows are of 256. */
static const char *model_of_type(const char *type, uint32_t number) {
    char     shape[160];
    odd_model m = {type, shape, "", ""};
    snprintf(shape, sizeof shape, "--layers 1 --embd 256 --heads 4 --kv-heads 1 --ff 256 --vocab 300 --ctx 64 "
             "--type %s", type);
    return odd_model_make(&m, 1000 + number);
}

/* Taken one by one, each weight would be several instructions. Points of a grid are loaded alone, eight
   weights or four at a time, with up to three fields that say which. */
static void no_weight_is_taken_alone(void **state) {
    (void)state;
    static const struct {
        const char *flags;
        double      most, of_grids; /* instructions a weight */
    } cpus[] = {
        {"--target=x86_64-linux-gnu --cpu=znver4", 1, 2.25},
        {"--target=x86_64-linux-gnu --cpu=x86-64-v3", 1, 2.25},
        {"--target=x86_64-linux-gnu --cpu=x86-64-v2", 1.8, 3.5},
        {"--target=aarch64-linux-gnu --cpu=cortex-a72", 1.35, 2.5},
        {"--target=armv7a-linux-gnueabihf --cpu=cortex-a7", 4, 2.75}, /* without vectors, 6 and more */
    };
    uint32_t n = 0;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *info = quant_find(t);
        if (!info || info->block_len == 1 || info->activation == QUANT_F32 || t == QUANT_Q8_1) continue;
        const char *model = model_of_type(info->name, t);
        bool        grid = !strncmp(info->name, "IQ", 2) && info->name[2] < '4';
        for (size_t c = 0; c < ARRAY_LEN(cpus); c++, n++) {
            char  *assembly = text_of(model, "asm", cpus[c].flags);
            double each = instructions_a_weight(assembly, info->name);
            free(assembly);
            if (each > (grid ? cpus[c].of_grids : cpus[c].most))
                fail_msg("%s %s: %.2f instructions a weight", info->name, cpus[c].flags, each);
        }
    }
    assert_int_equal(n, 25 * ARRAY_LEN(cpus));
}

static void unroll_makes_loops(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(compiled_isas); i++) {
        char flags[256];
        snprintf(flags, sizeof flags, "--unroll=4 %s", compiled_isas[i].flags);
        char *ir = ir_of(DEMO, flags);
        check_looped(ir, 256, 4);
        check_looped(ir, 512, 4);
        free(ir);
    }
    char *ir = ir_of(DEMO, "--unroll=8");
    check_straight(ir, 256); /* no longer than what may stand straight-line */
    check_looped(ir, 512, 8);
    free(ir);
}

/* ---- kernels are shared */

static void layers_share_kernels(void **state) {
    (void)state;
    static const odd_model few = {.shape = "tiny --layers 2"}, many = {.shape = "tiny --layers 9"};
    char *ir[] = {ir_of(odd_model_make(&few, 101), ""), ir_of(odd_model_make(&many, 102), "")};
    assert_true(count(ir[0], "\ndefine ") > 10);
    assert_int_equal(count(ir[0], "\ndefine "), count(ir[1], "\ndefine "));
    free(ir[0]);
    free(ir[1]);
}

/* By panels where that is better than by tiles, for which rows are unpacked: not where conversions cost products. */
static void halves_are_multiplied_as_the_cpu_likes(void **state) {
    (void)state;
    static const struct {
        const char *cpu;
        bool        panels;
    } cpus[] = {{"x86-64-v3", true}, {"znver3", true}, {"haswell", false}, {"alderlake", false}, {"znver4", false}};
    static const odd_model model = {.shape = "--layers 1 --embd 64 --heads 4 --kv-heads 2 --ff 96 --vocab 300 "
                                             "--ctx 300 --type f16"};
    for (size_t i = 0; i < ARRAY_LEN(cpus); i++) {
        char flags[64];
        snprintf(flags, sizeof flags, "--target=x86_64-linux-gnu --cpu=%s", cpus[i].cpu);
        char *ir = ir_of(odd_model_make(&model, 103), flags);
        if (!count(ir, "@panel_F16_") != !cpus[i].panels || !count(ir, "@unpack_F16_") != cpus[i].panels)
            fail_msg("%s: panels or tiles, and not as they should be", cpus[i].cpu);
        free(ir);
    }
}

/* ---- calls, in the IR */

/* Intrinsics that no target we know turns into a call of a library, but for mem*. */
static const char *const allowed[] = {
    "llvm.fmuladd.", "llvm.sqrt.", "llvm.fabs.", "llvm.abs.", "llvm.x86.", "llvm.umin.",
    "llvm.umax.", "llvm.smin.", "llvm.smax.", "llvm.vector.reduce.", "llvm.bitreverse.",
    "llvm.fshl.", "llvm.prefetch.", "llvm.aarch64.neon.", "llvm.memcpy.", "llvm.memset.", "llvm.memmove.",
};

static bool is_allowed(const char *ir, const char *name) {
    char definition[256];
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        if (!strncmp(name, allowed[i], strlen(allowed[i]))) return true;
    for (const char *at = ir; (at = strstr(at, "\ndefine internal ")); at++) {
        const char *defined = strchr(at, '@') + 1;
        size_t      n = strcspn(defined, "(") + 1;
        snprintf(definition, sizeof definition, "%.*s", (int)n, defined);
        if (!strncmp(name, definition, n)) return true;
    }
    return false;
}

static void check_calls(const char *ir) {
    uint32_t n = 0;
    for (const char *at = ir; (at = strstr(at, "call ")); at++, n++) {
        size_t      line = strcspn(at, "\n");
        const char *name = memchr(at, '@', line), *open = memchr(at, '(', line);
        if (!name || !open || name > open)
            fail_msg("a call that names no function: %.*s", (int)line, at);
        if (!is_allowed(ir, name + 1)) fail_msg("a call: %.*s", (int)line, at);
    }
    assert_true(n > 50);
    assert_int_equal(count(ir, " asm "), 0);
    assert_int_equal(count(ir, "invoke "), 0);
}

static const struct {
    const char *name, *flags;
} targets[] = {
    {"native", ""},
    {"avx2", "--target=x86_64-linux-gnu --cpu=x86-64-v3"},
    {"avx-vnni", "--target=x86_64-linux-gnu --cpu=x86-64-v3 --features=+avxvnni"},
    {"avx512-vnni", "--target=x86_64-linux-gnu --cpu=znver4"},
    {"amx", "--target=x86_64-linux-gnu --cpu=sapphirerapids"},
    {"avx512 without vnni", "--target=x86_64-linux-gnu --cpu=x86-64-v4"},
    {"ssse3", "--target=x86_64-linux-gnu --cpu=x86-64-v2"},
    {"generic x86-64", "--target=x86_64-linux-gnu --cpu=x86-64"},
    {"aarch64", "--target=aarch64-linux-gnu"},
    {"aarch64 with dotprod", "--target=aarch64-linux-gnu --cpu=cortex-a76"},
    {"arm", "--target=armv7a-linux-gnueabihf"},
    {"arm with NEON", "--target=armv7a-linux-gnueabihf --cpu=cortex-a9"},
    {"riscv64", "--target=riscv64-linux-gnu"},
    {"arm with hard floats", "--target=arm-linux-gnueabihf"},
};

static const odd_model mixed_model = {
    .shape = "--layers 2 --embd 64 --heads 2 --kv-heads 1 --ff 100 --vocab 300 --mixed --biases "
             "--rope-freqs --ctx 100",
};

static void code_calls_no_library(void **state) {
    (void)state;
    const char *gguf = odd_model_make(&mixed_model, 103);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        char *ir = ir_of(gguf, targets[i].flags);
        check_calls(ir);
        free(ir);
    }
}

/* ---- undefined symbols, in the object */

/* An ELF file in memory: what 32 and 64 bits have in common of it. */
typedef struct elf {
    char    *data;
    bool     wide;
    uint64_t symbols, n_symbols, names;
} elf;

static void elf_read(elf *e, const char *path) {
    size_t size = 0;
    FILE  *f = fopen(path, "rb");
    assert_non_null(f);
    *e = (elf){0};
    fseek(f, 0, SEEK_END);
    size = (size_t)ftell(f);
    rewind(f);
    e->data = malloc(size);
    assert_true(e->data && fread(e->data, 1, size, f) == size && size > sizeof(Elf64_Ehdr));
    fclose(f);
    assert_memory_equal(e->data, ELFMAG, SELFMAG);
    assert_int_equal(e->data[EI_DATA], ELFDATA2LSB);
    e->wide = e->data[EI_CLASS] == ELFCLASS64;
}

#define ELF_FIELD(e, type, at, field)                                                              \
    ((e)->wide ? (uint64_t)((const Elf64_##type *)(const void *)((e)->data + (at)))->field         \
               : (uint64_t)((const Elf32_##type *)(const void *)((e)->data + (at)))->field)

static uint64_t elf_section(const elf *e, uint64_t i) {
    uint64_t size = e->wide ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    return ELF_FIELD(e, Ehdr, 0, e_shoff) + i * size;
}

static void elf_find_symbols(elf *e) {
    uint64_t n = ELF_FIELD(e, Ehdr, 0, e_shnum);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = elf_section(e, i);
        if (ELF_FIELD(e, Shdr, at, sh_type) != SHT_SYMTAB) continue;
        e->symbols = ELF_FIELD(e, Shdr, at, sh_offset);
        e->n_symbols = ELF_FIELD(e, Shdr, at, sh_size) /
                       (e->wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym));
        e->names = ELF_FIELD(e, Shdr, elf_section(e, ELF_FIELD(e, Shdr, at, sh_link)), sh_offset);
    }
    assert_true(e->n_symbols > 1);
}

static void check_undefined(const char *path, const char *target) {
    static const char *const known[] = {"", "memcpy", "memset", "memmove"};
    elf  e;
    bool model = false;
    elf_read(&e, path);
    elf_find_symbols(&e);
    for (uint64_t i = 0; i < e.n_symbols; i++) {
        uint64_t    at = e.symbols + i * (e.wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym));
        const char *name = e.data + e.names + ELF_FIELD(&e, Sym, at, st_name);
        bool        found = ELF_FIELD(&e, Sym, at, st_shndx) != SHN_UNDEF;
        model = model || (found && !strcmp(name, "ggufc_compiled"));
        for (size_t k = 0; !found && k < ARRAY_LEN(known); k++) found = !strcmp(name, known[k]);
        if (!found) fail_msg("%s: the object needs %s", target, name);
    }
    assert_true(model);
    free(e.data);
}

static void objects_need_no_library(void **state) {
    (void)state;
    const char *gguf = odd_model_make(&mixed_model, 103);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        char flags[256];
        snprintf(flags, sizeof flags, "--emit=obj %s", targets[i].flags);
        const char *path = compiled_path("object.o");
        compiled_file(gguf, flags, path);
        check_undefined(path, targets[i].name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_rows_are_unrolled),
        cmocka_unit_test(rows_of_a_large_model_are_unrolled),
        cmocka_unit_test(weights_from_memory_are_read_in_order),
        cmocka_unit_test(no_weight_is_taken_alone),
        cmocka_unit_test(unroll_makes_loops),
        cmocka_unit_test(layers_share_kernels),
        cmocka_unit_test(halves_are_multiplied_as_the_cpu_likes),
        cmocka_unit_test(code_calls_no_library),
        cmocka_unit_test(objects_need_no_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
