/* test_aarch64.c - what is compiled for AArch64, with the dot product and without, evaluates a text as the
 * reference does: by qemu-aarch64, linked by aarch64-linux-gnu-gcc. Skipped where these are not installed.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "odd_models.h"

#include "quant.h"

/* Forty tokens by tiles, five that are left of them by rows (packed, by tiles), and the logits of one. */
#define SCRIPT                                                                                              \
    "set -e; cd $DIR; CC=aarch64-linux-gnu-gcc $GGUFC $MODEL --target=aarch64-linux-gnu $FLAGS --trace "   \
    "--ctx=64 --batch=40 --runtime=$DIR/runtime.a -o aarch64.exe; "                                        \
    "case $FLAGS in *--pack*|*--embed*) ;; *) set -- -m $MODEL;; esac; "                                              \
    "run=\"qemu-aarch64 -cpu $PROCESSOR -L /usr/aarch64-linux-gnu ./aarch64.exe\"; "                        \
    "$run --info >aarch64.log; grep -q \"^target: *aarch64 $RUNS\\$\" aarch64.log || { cat aarch64.log; exit 1; }; " \
    "$run \"$@\" --tokens $TOKENS -n 1 -t 2 --trace aarch64.gguf >aarch64.log 2>&1 "                        \
    "|| { cat aarch64.log; exit 1; }; "                                                                      \
    "$GGUFC compare reference:$MODEL aarch64.gguf --ctx=64 >aarch64.log || { cat aarch64.log; exit 1; }"

/* The runtime, whose sources are in $SOURCES, as an archive. */
#define RUNTIME                                                                                             \
    "set -e; cd $DIR; for f in $SOURCES/runtime/*.c; do "                                                   \
    "aarch64-linux-gnu-gcc -std=c11 -O2 -D_GNU_SOURCE -I$SOURCES/include -I$SOURCES/runtime -c $f "         \
    "-o ${f##*/}.o; done; aarch64-linux-gnu-ar rcs runtime.a *.c.o"

/* What is compiled, where, and which instructions are then used. */
typedef struct machine {
    const char *flags, *processor, *runs;
} machine;

static const machine dotprod = {"--cpu=cortex-a76", "cortex-a76", "dotprod"};
static const machine packed = {"--cpu=cortex-a76 --pack", "cortex-a76", "dotprod"};
static const machine neon = {"--cpu=cortex-a53", "cortex-a53", "neon"};
static const machine any = {"--cpu=generic", "cortex-a53", "neon"};
static const machine embedded = {"--embed-weights --cpu=cortex-a53,cortex-a76", "cortex-a53", "neon"};
static const machine both_new = {"--cpu=cortex-a53,cortex-a76", "cortex-a76", "dotprod"};
static const machine both_old = {"--cpu=cortex-a53,cortex-a76", "cortex-a53", "neon"};

static int sh(const char *script) {
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    return compiled_run(argv);
}

static bool has_tools(void) {
    if (!sh("command -v qemu-aarch64 aarch64-linux-gnu-gcc >/dev/null")) return true;
    print_message("skipped: qemu-aarch64 and aarch64-linux-gnu-gcc are not both installed\n");
    return false;
}

/* `path` from the root on: the scripts work in another folder. */
static void set_path(const char *name, const char *path) {
    char *whole = realpath(path, NULL);
    if (!whole) fail_msg("no %s", path);
    setenv(name, whole, 1);
    free(whole);
}

static void check(const char *gguf, const machine *m, const char *name) {
    set_path("MODEL", gguf);
    setenv("FLAGS", m->flags, 1);
    setenv("PROCESSOR", m->processor, 1);
    setenv("RUNS", m->runs, 1);
    if (sh(SCRIPT))
        fail_msg("%s, flags \"%s\", %s: not what the reference computes", name, m->flags, m->processor);
}

static void odd_shapes(void **state) {
    (void)state;
    if (!has_tools()) skip();
    static const machine *const machines[] = {&dotprod, &packed, &neon};
    for (size_t i = 0; i < ARRAY_LEN(odd_models); i++)
        for (size_t k = 0; k < ARRAY_LEN(machines) && !*odd_models[i].template; k++)
            check(odd_model_make(&odd_models[i], i), machines[k], odd_models[i].name);
}

static void both_in_one_program(void **state) {
    (void)state;
    if (!has_tools()) skip();
    const char *gguf = odd_model_make(&odd_models[0], 0);
    check(gguf, &both_new, odd_models[0].name);
    check(gguf, &both_old, odd_models[0].name);
    check(gguf, &any, odd_models[0].name);
    check(gguf, &embedded, odd_models[0].name);
}

static void types(void **state) {
    (void)state;
    if (!has_tools()) skip();
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *info = quant_find(t);
        char              shape[160];
        odd_model         m = {info ? info->name : "", shape, "", ""};
        if (!info || info->block_len == 1 || info->activation == QUANT_F32 || t == QUANT_Q8_1) continue;
        snprintf(shape, sizeof shape, "--layers 1 --embd 256 --heads 4 --kv-heads 1 --ff 256 --vocab 300 --ctx 64 "
                 "--type %s", info->name);
        const char *gguf = odd_model_make(&m, 1000 + t);
        check(gguf, &dotprod, info->name);
        check(gguf, &neon, info->name);
    }
}

static int begin(void **state) {
    (void)state;
    const char *compiler = getenv("GGUFC");
    char        tokens[256] = "1";
    set_path("GGUFC", compiler && *compiler ? compiler : "out/ggufc");
    set_path("SOURCES", ".");
    for (int i = 0, n = 1; i < 44; i++) n += snprintf(tokens + n, sizeof tokens - (size_t)n, ",%d", 3 + i * 37 % 290);
    setenv("TOKENS", tokens, 1);
    compiled_path("");
    set_path("DIR", compiled_dir);
    return has_tools() && sh(RUNTIME);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_shapes),
        cmocka_unit_test(both_in_one_program),
        cmocka_unit_test(types),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
