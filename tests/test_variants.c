/* Code for several CPUs in one program: which of it is run, that it computes what it does alone, and that it uses
 * nothing but what the processor is asked for.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "odd_models.h"

#include "child.h"
#include "cpu.h"

#define DEMO "tests/models/storyteller-q8_0.gguf"

/* A CPU of each x86-64 row, worst first. */
static const char *const names[] = {"x86-64", "x86-64-v2", "haswell", "alderlake", "cascadelake", "cooperlake",
                                    "sapphirerapids"};
static const char *const targets[] = {"x86_64 generic", "x86_64 ssse3", "x86_64 avx2", "x86_64 avx-vnni",
                                      "x86_64 avx512-vnni", "x86_64 avx512-bf16", "x86_64 amx"};
enum { N_ROWS = ARRAY_LEN(names) };
_Static_assert(N_ROWS == ARRAY_LEN(targets), "a target for each name");

#define ALL "haswell,x86-64,sapphirerapids,x86-64-v2,cooperlake,alderlake,cascadelake"

static char compiler[4096];

#if defined(__x86_64__)
#define NEEDS_X86_64() (void)state
#else
#define NEEDS_X86_64() \
    do {               \
        (void)state;   \
        skip();        \
    } while (0)
#endif

static child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

/* By the compiler, which knows where its runtime is. */
static void compile(const char *output, char *cpus, char *emit, char *symbol) {
    child c = run((char *[]){compiler, DEMO, "-o", (char *)output, cpus, emit, symbol, NULL});
    if (c.exit_code || c.err_size) fail_msg("%s: exit %d: %s", cpus, c.exit_code, c.err);
    child_free(&c);
}

/* The best of the rows that this processor can run, of those up to `most`. */
static uint32_t best_row(uint32_t most) {
    while (most && !cpu_can_run(targets[most])) most--;
    return most;
}

/* ---- a model of all rows, in this process */

static void *load_all(void) {
    static void *library;
    if (library) return library;
    const char *archive = compiled_path("all.a"), *object = compiled_path("all.so");
    compile(archive, "--cpu=" ALL, "--emit=lib", "--symbol=all");
    const char *cc = getenv("CC");
    char *argv[] = {(char *)(cc && *cc ? cc : "cc"), "-shared", "-o", (char *)object, "-Wl,-u,all", (char *)archive,
                    "-pthread", NULL};
    if (compiled_run(argv)) fail_msg("%s was not linked", archive);
    library = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    return library;
}

static const ggufc_model *all_rows(void) {
    const ggufc_model *m = dlsym(load_all(), "all");
    if (!m) fail_msg("%s", dlerror());
    return m;
}

static void best_comes_first(void **state) {
    NEEDS_X86_64();
    const ggufc_model *m = all_rows();
    for (uint32_t row = N_ROWS; row--; m = m->next) {
        assert_non_null(m);
        assert_string_equal(m->target, targets[row]);
    }
    assert_null(m);
}

static void the_best_that_can_run_is_chosen(void **state) {
    NEEDS_X86_64();
    const ggufc_model *m = all_rows();
    assert_string_equal(cpu_choose(m)->target, targets[best_row(N_ROWS - 1)]);
    for (uint32_t row = N_ROWS; row--; m = m->next)
        if (cpu_can_run(m->target)) assert_ptr_equal(cpu_choose(m), m);
}

static void vocabulary_is_there_once(void **state) {
    NEEDS_X86_64();
    const ggufc_model *first = all_rows();
    assert_non_null(first->vocab);
    for (const ggufc_model *m = first->next; m; m = m->next) assert_ptr_equal(m->vocab, first->vocab);
    assert_null(dlsym(load_all(), "all.vocab"));
    assert_null(dlsym(load_all(), "all.avx2"));
}

/* A prompt by tiles and tokens by rows. */
static void computes_what_it_does_alone(void **state) {
    NEEDS_X86_64();
    enum { COUNT = 24, N_VOCAB = 1024 };
    int32_t tokens[COUNT];
    for (int32_t i = 0; i < COUNT; i++) tokens[i] = i ? 3 + i * 37 % 1000 : 1;
    const ggufc_model *m = all_rows();
    for (uint32_t row = N_ROWS; row--; m = m->next) {
        if (!cpu_can_run(m->target)) continue;
        char flags[64];
        snprintf(flags, sizeof flags, "--cpu=%s", names[row]);
        const ggufc_model *alone = compiled_model(DEMO, flags);
        assert_int_equal(m->n_vocab, N_VOCAB);
        assert_string_equal(alone->target, m->target);
        for (uint32_t batch = 1; batch <= COUNT; batch *= COUNT) {
            float *a = compiled_logits(alone, DEMO, tokens, COUNT, batch, 2);
            float *b = compiled_logits(m, DEMO, tokens, COUNT, batch, 2);
            assert_memory_equal(a, b, sizeof(float) * COUNT * N_VOCAB);
            free(a);
            free(b);
        }
    }
}

/* ---- the code */

/* What each row asks for, as the assembler calls it, and a part of that which its code cannot do without. The CPUs
   named have more. */
#define AS_SSSE3  "+sse2+sse3+ssse3"
#define AS_AVX2   AS_SSSE3 "+sse4.1+sse4.2+avx+avx2+fma+f16c"
#define AS_AVX512 AS_AVX2 "+avx512f+avx512bw+avx512vl+avx512dq+avx512_vnni"

static const struct {
    const char *cpu, *all, *own;
} code_rows[] = {
    {"x86-64", "+sse2", NULL},
    {"x86-64-v2", AS_SSSE3, "ssse3"},
    {"skylake", AS_AVX2, "avx2"},
    {"alderlake", AS_AVX2 "+avx_vnni", "avx_vnni"},
    {"icelake-server", AS_AVX512, "avx512_vnni"},
    {"znver4", AS_AVX512 "+avx512_bf16", "avx512_vnni"},
    {"sapphirerapids", AS_AVX512 "+avx512_bf16+amx_tile+amx_int8+amx_bf16", "amx_int8"},
};

/* Its code where it is one of two; that of x86-64 is the worse one of any. */
static void write_code(const char *gguf, const char *cpu, const char *path) {
    bool  least = !strcmp(cpu, names[0]);
    char  list[64];
    snprintf(list, sizeof list, "--cpu=x86-64,%s", least ? names[1] : cpu);
    child c = run((char *[]){compiler, (char *)gguf, "--target=x86_64-linux-gnu", list, "--stop-after=emit",
                             "--dump=asm", NULL});
    if (c.exit_code) fail_msg("%s: %s", list, c.err);
    char *second = strstr(c.out + 1, "# x86_64 generic\n");
    assert_non_null(second);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fwrite(least ? second : c.out, 1, least ? strlen(second) : (size_t)(second - c.out), f) > 0);
    assert_int_equal(fclose(f), 0);
    child_free(&c);
}

/* Whether the assembler, which knows these features and no others, takes all instructions. */
static bool assembles(const char *path, const char *features, const char *without) {
    char script[768], march[256];
    snprintf(march, sizeof march, "generic64%s", features);
    char *at = without ? strstr(march, without) : NULL;
    if (at) memmove(at - 1, at + strlen(without), strlen(at + strlen(without)) + 1);
    snprintf(script, sizeof script, "as -march=%s -o /dev/null %s 2>/dev/null", march, path);
    char *argv[] = {"sh", "-c", script, NULL};
    return compiled_run(argv) == 0;
}

static void uses_what_its_row_asks_for(void **state) {
    NEEDS_X86_64();
    static const char *const types[] = {"Q8_0", "Q4_K", "IQ4_XS", "F16"};
    char path[256];
    snprintf(path, sizeof path, "%s", compiled_path("code.s"));
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        char      shape[160];
        odd_model small = {types[t], shape, "", ""};
        snprintf(shape, sizeof shape, "--layers 1 --embd 256 --heads 4 --kv-heads 1 --ff 256 --vocab 300 --ctx 64 "
                 "--type %s", types[t]);
        for (size_t i = 0; i < ARRAY_LEN(code_rows); i++) {
            write_code(odd_model_make(&small, t), code_rows[i].cpu, path);
            if (!assembles(path, code_rows[i].all, NULL))
                fail_msg("%s, %s: uses more than its row asks for", types[t], code_rows[i].cpu);
            if (!t && code_rows[i].own && assembles(path, code_rows[i].all, code_rows[i].own))
                fail_msg("%s: does without %s", code_rows[i].cpu, code_rows[i].own);
        }
    }
}

/* ---- the program */

static char *value_of(const char *text, const char *key) {
    static char value[256];
    const char *at = strstr(text, key);
    if (!at) fail_msg("no %s in %s", key, text);
    at += strlen(key);
    at += strspn(at, " ");
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\n"), at);
    return value;
}

/* Made for rows 0 to 2, which any machine of the last dozen years can run. */
static const char *program(void) {
    static char path[256];
    if (*path) return path;
    snprintf(path, sizeof path, "%s", compiled_path("program"));
    compile(path, "--cpu=x86-64-v2,haswell,x86-64", "--emit=exe", "--symbol=unused");
    return path;
}

static void program_tells_what_it_runs(void **state) {
    NEEDS_X86_64();
    child c = run((char *[]){(char *)program(), "--info", NULL});
    assert_int_equal(c.exit_code, 0);
    assert_string_equal(value_of(c.out, "target:"), targets[best_row(2)]);
    assert_string_equal(value_of(c.out, "compiled for:"), "x86_64 avx2, x86_64 ssse3, x86_64 generic");
    child_free(&c);
    c = run((char *[]){(char *)program(), "--version", NULL});
    assert_non_null(strstr(c.out, "for x86_64 avx2, x86_64 ssse3, x86_64 generic\n"));
    child_free(&c);
}

/* Processors of 2004, 2006 and 2013, by qemu: they run what they can, and tell the same story. */
static void older_processors_run_what_they_can(void **state) {
    NEEDS_X86_64();
    static const struct {
        const char *cpu, *target;
    } processors[] = {{"qemu64,-ssse3,-sse3", "x86_64 generic"}, {"Conroe", "x86_64 ssse3"}, {"Haswell", "x86_64 avx2"}};
    char *sh[] = {"sh", "-c", "qemu-x86_64 -cpu help 2>/dev/null | grep -q Haswell && "
                  "qemu-x86_64 --version | grep -Eq 'version (7\\.[2-9]|[89]|[1-9][0-9])'", NULL};
    if (compiled_run(sh)) {
        print_message("skipped: no qemu-x86_64 of version 7.2, which has AVX2\n");
        skip();
    }
    char *story[ARRAY_LEN(processors)];
    for (size_t i = 0; i < ARRAY_LEN(processors); i++) {
        char *line[] = {"/usr/bin/env", "qemu-x86_64", "-cpu", (char *)processors[i].cpu, (char *)program(), "--info",
                        NULL};
        child c = run(line);
        assert_string_equal(value_of(c.out, "target:"), processors[i].target);
        child_free(&c);
        c = run((char *[]){"/usr/bin/env", "qemu-x86_64", "-cpu", (char *)processors[i].cpu, (char *)program(), "-p",
                           "Once upon a time,", "-n", "12", "--temp", "0", "-t", "1", NULL});
        if (c.exit_code) fail_msg("%s: exit %d: %s", processors[i].cpu, c.exit_code, c.err);
        story[i] = strdup(c.out);
        child_free(&c);
        assert_string_equal(story[i], story[0]);
    }
    for (size_t i = 0; i < ARRAY_LEN(processors); i++) free(story[i]);
}

/* ---- what is refused */

static void refused_where_none_can_run(void **state) {
    NEEDS_X86_64();
    uint32_t none = N_ROWS;
    while (none && cpu_can_run(targets[none - 1])) none--;
    if (!none) skip(); /* it has everything */
    ggufc_model lesser = {.abi = GGUFC_ABI, .target = targets[none - 1]};
    ggufc_model first = {.abi = GGUFC_ABI, .target = targets[none - 1], .next = &lesser};
    ggufc_session        *session;
    ggufc_error           error;
    ggufc_session_options options = {.model = &first};
    char                  told[128];
    assert_int_equal(ggufc_session_open(&session, &options, &error), GGUFC_ERROR_OPTIONS);
    snprintf(told, sizeof told, "compiled for %s, %s, which this processor is not", first.target, lesser.target);
    assert_non_null(strstr(error.text, told));
    assert_non_null(strstr(error.text, "or with x86-64 among its CPUs"));
}

/* --info is asked what a program is, and says that as well. */
static void info_where_none_can_run(void **state) {
    NEEDS_X86_64();
    uint32_t none = N_ROWS;
    while (none && cpu_can_run(targets[none - 1])) none--;
    if (!none) skip();
    char path[256], cpu[64];
    snprintf(path, sizeof path, "%s", compiled_path("too-new"));
    snprintf(cpu, sizeof cpu, "--cpu=%s", names[none - 1]);
    compile(path, cpu, "--emit=exe", "--symbol=unused");
    child c = run((char *[]){path, "--info", NULL});
    assert_int_equal(c.exit_code, 0);
    assert_string_equal(value_of(c.out, "target:"), "none that this processor can run");
    assert_string_equal(value_of(c.out, "compiled for:"), targets[none - 1]);
    child_free(&c);
    c = run((char *[]){path, "-p", "Once", NULL});
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, targets[none - 1]));
    child_free(&c);
}

static const struct {
    const char *flags[3], *message;
} refusals[] = {
    {{"--cpu=haswell,znver3"}, "--cpu=haswell,znver3: of these two are the same here, x86_64 avx2: name one of them"},
    {{"--cpu=znver3,x86-64,haswell"}, "of these two are the same here"},
    {{"--cpu=haswell,x86-64,vax"}, "--cpu=vax is not known"},
    {{"--cpu=haswell,"}, "--cpu= is not known"},
    {{"--cpu=,haswell"}, "--cpu= is not known"},
    {{"--cpu=haswell,cortex-a76"}, "--cpu=cortex-a76 is not known"},
    {{"--cpu=cortex-a53,vax", "--target=aarch64-linux-gnu"}, "--cpu=vax is not known; cortex-a53, cortex-a76"},
    {{"--cpu=cortex-a53,haswell", "--target=aarch64-linux-gnu"}, "--cpu=haswell is not known"},
    {{"--cpu=haswell,x86-64", "--features=+fma"}, "--features is for one CPU: --cpu names 2"},
    {{"--cpu=haswell,x86-64", "--pack"}, "--pack lays weights out for one CPU: --cpu names 2"},
    {{"--cpu=haswell,x86-64", "--emit=obj"}, "only executables and libraries have code for several CPUs"},
    {{"--cpu=haswell,x86-64", "--emit=asm"}, "only executables and libraries have code for several CPUs"},
};

static void refused_with_one_line(void **state) {
    NEEDS_X86_64();
    const char *output = compiled_path("refused");
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        char *argv[8] = {compiler, DEMO, "-o", (char *)output};
        for (size_t k = 0; refusals[i].flags[k]; k++) argv[4 + k] = (char *)refusals[i].flags[k];
        child       c = run(argv);
        const char *line = strchr(c.err, '\n');
        if (c.exit_code != 1 || !line || line[1] || c.out_size || !strstr(c.err, refusals[i].message))
            fail_msg("%s: exit %d: %s", refusals[i].flags[0], c.exit_code, c.err);
        assert_int_not_equal(access(output, F_OK), 0);
        child_free(&c);
    }
}

int main(void) {
    const char *given = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_comes_first),
        cmocka_unit_test(the_best_that_can_run_is_chosen),
        cmocka_unit_test(vocabulary_is_there_once),
        cmocka_unit_test(computes_what_it_does_alone),
        cmocka_unit_test(uses_what_its_row_asks_for),
        cmocka_unit_test(program_tells_what_it_runs),
        cmocka_unit_test(older_processors_run_what_they_can),
        cmocka_unit_test(refused_where_none_can_run),
        cmocka_unit_test(info_where_none_can_run),
        cmocka_unit_test(refused_with_one_line),
    };
    return cmocka_run_group_tests_name("variants", tests, NULL, NULL);
}
