/* Code for several CPUs in one program: which of it is run, that it computes what it does alone, and that it uses
 * nothing but what the processor is asked for.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "odd_models.h"

#include "child.h"
#include "cpu.h"

#define DEMO "tests/models/storyteller-q8_0.gguf"

/* A CPU of each x86-64 row, worst first. */
static const char *const names[] = {"x86-64", "x86-64-v2", "haswell", "alderlake", "icelake-server", "znver4",
                                    "sapphirerapids"};
static const char *const targets[] = {"x86_64 generic", "x86_64 ssse3", "x86_64 avx2", "x86_64 avx-vnni",
                                      "x86_64 avx512-vnni", "x86_64 avx512-bf16", "x86_64 amx"};
enum { N_ROWS = ARRAY_LEN(names) };
_Static_assert(N_ROWS == ARRAY_LEN(targets), "a target for each name");

#define ALL "haswell,x86-64,sapphirerapids,x86-64-v2,znver4,alderlake,icelake-server"

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
    assert_null(dlsym(load_all(), "all_vocab"));
    assert_null(dlsym(load_all(), "all_avx2"));
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

/* Instructions that a CPU has and its row does not ask for, and one that the row's code has. */
static const struct {
    const char *cpu, *words[6], *own;
} beyond[] = {
    {"x86-64-v2", {"pmovsx", "pmovzx", "pinsrd", "pinsrb", "pextrb", NULL}, "pshufb"},
    {"znver4", {"vpermb", "vpermi2b", "vpermt2b", NULL}, "vpdpbusd"},
    {"sapphirerapids", {"vcvtph2psx", "vcvtps2phx", "vmovw", NULL}, "tdpbssd"},
};

static uint32_t count_words(const char *text, const char *const *words) {
    uint32_t n = 0;
    for (; *words; words++)
        for (const char *at = text; (at = strstr(at, *words)); at++) n++;
    return n;
}

static child assembly(const char *cpus) {
    static const odd_model nibbles = {"nibbles", "--layers 1 --embd 256 --heads 4 --kv-heads 1 --ff 256 --vocab 300 "
                                      "--ctx 64 --type Q4_K", "", ""};
    char cpu[64];
    snprintf(cpu, sizeof cpu, "--cpu=%s", cpus);
    child c = run((char *[]){compiler, (char *)odd_model_make(&nibbles, 0), "--target=x86_64-linux-gnu", cpu,
                             "--stop-after=emit", "--dump=asm", NULL});
    if (c.exit_code) fail_msg("--cpu=%s: %s", cpus, c.err);
    return c;
}

/* Alone it does use them; beside what is for x86-64, which has nothing, it does not. */
static void uses_what_its_row_asks_for(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(beyond); i++) {
        char list[64];
        snprintf(list, sizeof list, "x86-64,%s", beyond[i].cpu);
        child alone = assembly(beyond[i].cpu), beside = assembly(list);
        const char *const own[] = {beyond[i].own, NULL};
        if (!count_words(alone.out, beyond[i].words)) fail_msg("%s: alone it uses none of these", beyond[i].cpu);
        if (count_words(beside.out, beyond[i].words)) fail_msg("%s uses more than its row", list);
        if (!count_words(beside.out, own)) fail_msg("%s: no %s", list, beyond[i].own);
        child_free(&alone);
        child_free(&beside);
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

/* Processors of 2006, 2008 and 2013, by qemu: they run what they can, and tell the same story. */
static void older_processors_run_what_they_can(void **state) {
    NEEDS_X86_64();
    static const struct {
        const char *cpu, *target;
    } processors[] = {{"qemu64,-ssse3,-sse3", "x86_64 generic"}, {"Conroe", "x86_64 ssse3"}, {"Haswell", "x86_64 avx2"}};
    char *sh[] = {"sh", "-c", "command -v qemu-x86_64 >/dev/null", NULL};
    if (compiled_run(sh)) {
        print_message("skipped: qemu-x86_64 is not installed\n");
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
}

static const struct {
    const char *flags[3], *message;
} refusals[] = {
    {{"--cpu=haswell,znver3"}, "haswell and znver3 are the same here, x86_64 avx2: name one of them"},
    {{"--cpu=znver3,x86-64,haswell"}, "znver3 and haswell are the same here"},
    {{"--cpu=haswell,x86-64,vax"}, "--cpu=vax is not known"},
    {{"--cpu=haswell,"}, "--cpu= is not known"},
    {{"--cpu=,haswell"}, "--cpu= is not known"},
    {{"--cpu=haswell,cortex-a76"}, "--cpu=cortex-a76 is not known"},
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
        cmocka_unit_test(refused_with_one_line),
    };
    return cmocka_run_group_tests_name("variants", tests, NULL, NULL);
}
