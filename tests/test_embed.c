/* Weights that are part of a program: it needs no file, computes the same, and nothing else is left beside it.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "compiled_model.h"

#include "child.h"
#include "odd_models.h"
#include "split_model.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define DEMO "tests/models/storyteller-q8_0.gguf"

static char compiler[4096], runtime[4096];

/* A folder of its own for each test, with a copy of the model that is removed before anything is run. */
static char folder[256], model[300];

static child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

static char *in_folder(const char *name) {
    static char paths[8][600];
    static int  turn;
    char       *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: %s", path, strerror(errno));
    return child_read(f, size);
}

static void copy_file(const char *from, const char *to) {
    size_t size;
    char  *data = read_file(from, &size);
    FILE  *f = fopen(to, "wb");
    assert_true(f && fwrite(data, 1, size, f) == size);
    assert_int_equal(fclose(f), 0);
    free(data);
}

static uint32_t count_files(void) {
    uint32_t n = 0;
    DIR     *dir = opendir(folder);
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2;
}

static int begin(void **state) {
    (void)state;
    static int number;
    char       name[32];
    snprintf(name, sizeof name, "embed%d", number++);
    snprintf(folder, sizeof folder, "%s", compiled_path(name));
    if (mkdir(folder, 0777)) return -1;
    snprintf(model, sizeof model, "%s", in_folder("model.gguf"));
    copy_file(DEMO, model);
    return 0;
}

static int end(void **state) {
    (void)state;
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..")) unlink(in_folder(d->d_name));
    if (dir) closedir(dir);
    return rmdir(folder);
}

/* Compiles the model with these flags, NULL for none, removes it, and expects `files` to be left in the folder. */
static void compile(const char *output, char *flag, char *other, uint32_t files) {
    child c = run((char *[]){compiler, model, "-o", (char *)output, "--embed-weights", flag, flag ? other : NULL, NULL});
    if (c.exit_code || c.err_size) fail_msg("exit %d: %s", c.exit_code, c.err);
    child_free(&c);
    assert_int_equal(unlink(model), 0);
    assert_int_equal(count_files(), files);
}

static const char story[] =
    "Once upon a time, there was a sleepy boy named Hugo. Hugo lived near the meadow.";

/* By a program, with one more flag or NULL. */
static void tells_the_story(const char *program, char *flag) {
    child c = run((char *[]){(char *)program, "-p", "Once upon a time,", "-n", "15", "--temp", "0", flag, NULL});
    if (c.exit_code || strncmp(c.out, story, sizeof story - 1)) fail_msg("exit %d: %s%s", c.exit_code, c.out, c.err);
    child_free(&c);
}

static void link_with_runtime(const char *object, const char *program) {
    const char *cc = getenv("CC");
    char *argv[] = {(char *)(cc && *cc ? cc : "cc"), "-o", (char *)program, (char *)object, runtime, "-pthread", NULL};
    assert_int_equal(compiled_run(argv), 0);
}

/* ---- what is made */

static void program_needs_no_file(void **state) {
    (void)state;
    char *program = in_folder("program");
    compile(program, NULL, NULL, 1);
    tells_the_story(program, NULL);
    tells_the_story(program, "--no-mmap");
    child c = run((char *[]){program, "--info", NULL});
    assert_non_null(strstr(c.out, "weights file:   (embedded)\n"));
    child_free(&c);
}

static void another_file_may_be_named(void **state) {
    (void)state;
    char *program = in_folder("program"), *other = in_folder("other.gguf");
    compile(program, NULL, NULL, 1);
    copy_file(DEMO, other);
    char *argv[] = {program, "-m", other, "--tokens", "1", "-n", "1", NULL};
    child c = run(argv);
    assert_int_equal(c.exit_code, 0);
    child_free(&c);
    assert_int_equal(truncate(other, 1000), 0);
    c = run(argv);
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, "not the file this was compiled from"));
    child_free(&c);
}

static void packed_weights(void **state) {
    (void)state;
#if defined(__x86_64__)
    if (!compiled_can_run(X86_V2)) skip();
    char *program = in_folder("program");
    compile(program, "--pack", NULL, 1);
    tells_the_story(program, NULL);
#else
    skip();
#endif
}

static void library(void **state) {
    (void)state;
    static const char source[] =
        "#include \"story.h\"\n"
        "#include <stdio.h>\n"
        "int main(void) {\n"
        "    ggufc_error error;\n"
        "    ggufc_session *s;\n"
        "    ggufc_session_options o = {.model = &story};\n"
        "    if (ggufc_session_open(&s, &o, &error) != GGUFC_OK) return puts(error.text), 1;\n"
        "    puts(ggufc_session_weights_path(s));\n"
        "    ggufc_session_close(s);\n"
        "    return 0;\n"
        "}\n";
    char *archive = in_folder("story.a"), *c_file = in_folder("p.c"), *program = in_folder("p");
    compile(archive, "--emit=lib", "--symbol=story", 2);
    FILE *f = fopen(c_file, "w");
    assert_true(f && fputs(source, f) >= 0);
    assert_int_equal(fclose(f), 0);
    const char *cc = getenv("CC");
    char *argv[] = {(char *)(cc && *cc ? cc : "cc"), "-Iinclude", "-o", program, c_file, archive, "-pthread", NULL};
    assert_int_equal(compiled_run(argv), 0);
    child c = run((char *[]){program, NULL});
    assert_string_equal(c.out, "(embedded)\n");
    child_free(&c);
}

static void object(void **state) {
    (void)state;
    char *o = in_folder("o.o"), *program = in_folder("program");
    compile(o, "--emit=obj", NULL, 1);
    link_with_runtime(o, program);
    tells_the_story(program, NULL);
}

/* Text names the file, which is read when that is assembled. */
static void assembly(void **state) {
    (void)state;
    char *s = in_folder("s.s"), *program = in_folder("program");
    compile(s, "--emit=asm", NULL, 1);
    copy_file(DEMO, model);
    size_t size;
    char  *text = read_file(s, &size);
    char  *at = strstr(text, ".incbin");
    assert_true(at && !strstr(at + 1, ".incbin") && size < 1 << 20);
    free(text);
    link_with_runtime(s, program);
    unlink(model);
    tells_the_story(program, NULL);
}

static void dump_is_of_the_code(void **state) {
    (void)state;
    child c = run((char *[]){compiler, model, "--embed-weights", "--emit=llvm-ir", "--dump=asm", "--stop-after=emit",
                             NULL});
    if (c.exit_code || c.err_size) fail_msg("exit %d: %s", c.exit_code, c.err);
    assert_true(c.out_size > 10000 && c.out_size < 1 << 20);
    child_free(&c);
}

static void ir_of_packed_weights_keeps_their_file(void **state) {
    (void)state;
#if defined(__x86_64__)
    char *ll = in_folder("m.ll"), named[600];
    compile(ll, "--emit=llvm-ir", "--pack", 2);
    size_t size;
    char  *text = read_file(ll, &size), *whole = realpath(in_folder("m.ll.weights"), NULL);
    assert_non_null(whole);
    snprintf(named, sizeof named, "module asm \".incbin \\22%s\\22", whole);
    assert_non_null(strstr(text, named));
    free(text);
    free(whole);
#else
    skip();
#endif
}

static void once_for_several_cpus(void **state) {
    (void)state;
#if defined(__x86_64__)
    if (!compiled_can_run(X86_V2)) skip();
    char       *program = in_folder("program");
    struct stat one, two;
    compile(program, "--cpu=x86-64", NULL, 1);
    assert_int_equal(stat(program, &one), 0);
    copy_file(DEMO, model);
    compile(program, "--cpu=x86-64,x86-64-v2", NULL, 1);
    assert_int_equal(stat(program, &two), 0);
    assert_true(two.st_size > one.st_size && two.st_size < one.st_size + (1 << 20));
    tells_the_story(program, NULL);
#else
    skip();
#endif
}

static void split_model(void **state) {
    (void)state;
    char    *program = in_folder("program"), *stem = in_folder("split");
    uint32_t count = split_write(DEMO, stem, &(split_recipe){.each = 15});
    assert_true(count > 2);
    char *first = split_path(stem, 1, count);
    child c = run((char *[]){compiler, first, "-o", program, "--embed-weights", NULL});
    if (c.exit_code || c.err_size) fail_msg("exit %d: %s", c.exit_code, c.err);
    child_free(&c);
    free(first);
    for (uint32_t i = 1; i <= count; i++) {
        char *part = split_path(stem, i, count);
        assert_int_equal(unlink(part), 0);
        free(part);
    }
    unlink(model);
    assert_int_equal(count_files(), 1);
    tells_the_story(program, NULL);
    tells_the_story(program, "--no-mmap");
}

/* Where in its file what is mapped at `at` stands. */
static uint64_t offset_in_file(uint64_t at) {
    unsigned long long from, to, offset;
    char               line[1024];
    FILE              *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%llx-%llx %*s %llx", &from, &to, &offset) == 3 && at >= from && at < to) {
            fclose(f);
            return at - from + offset;
        }
    fail_msg("%llx is not mapped", (unsigned long long)at);
    return 0;
}

/* Both in memory and in the file, as the system can only map a huge page whole. */
static void large_weights_begin_at_a_huge_page(void **state) {
    (void)state;
    static const odd_model large = {"large", "--layers 1 --embd 1024 --heads 8 --kv-heads 8 --ff 8192 --vocab 20000 "
                                    "--ctx 64 --type q8_0", "", ""};
    enum { HUGE = 2 << 20 };
    char *path = in_folder("large.so");
    child c = run((char *[]){compiler, (char *)odd_model_make(&large, 0), "-o", path, "--emit=so", "--embed-weights",
                             NULL});
    if (c.exit_code || c.err_size) fail_msg("exit %d: %s", c.exit_code, c.err);
    child_free(&c);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    const ggufc_model *m = dlsym(library, "ggufc_compiled");
    assert_true(m && m->file_bytes >= 64 << 20);
    assert_int_equal((uintptr_t)m->embedded % HUGE, 0);
    assert_int_equal(offset_in_file((uintptr_t)m->embedded) % HUGE, 0);
    dlclose(library);
}

/* A path with all that an assembler's string must not have. */
static void any_path(void **state) {
    (void)state;
    char *program = in_folder("program"), *odd = in_folder("a \"b\\c\n\xc3\xa4\".gguf");
    assert_int_equal(rename(model, odd), 0);
    child c = run((char *[]){compiler, odd, "-o", program, "--embed-weights", NULL});
    if (c.exit_code || c.err_size) fail_msg("exit %d: %s", c.exit_code, c.err);
    child_free(&c);
    unlink(odd);
    tells_the_story(program, NULL);
}

/* ---- what is not */

/* The text of each kind names a file, which is another one when it is assembled. */
static void another_file_is_not_assembled(void **state) {
    (void)state;
    char *s = in_folder("s.s"), *o = in_folder("s.o");
    compile(s, "--emit=asm", NULL, 1);
    copy_file(DEMO, model);
    const char *cc = getenv("CC");
    char *argv[] = {(char *)(cc && *cc ? cc : "cc"), "-c", s, "-o", o, NULL};
    assert_int_equal(compiled_run(argv), 0);
    for (off_t by = -1; by <= 1; by += 2) {
        copy_file(DEMO, model);
        struct stat st;
        assert_int_equal(stat(model, &st), 0);
        assert_int_equal(truncate(model, st.st_size + by), 0);
        child c = child_run((child_setup){.argv = (char *[]){"/usr/bin/env", argv[0], "-c", s, "-o", o, NULL}});
        assert_int_not_equal(c.exit_code, 0);
        assert_non_null(strstr(c.err, "not the file that was compiled"));
        child_free(&c);
    }
}

/* Of the same size: its index is another. */
static void another_index_is_not_run(void **state) {
    (void)state;
    char *s = in_folder("s.s"), *program = in_folder("program");
    compile(s, "--emit=asm", NULL, 1);
    copy_file(DEMO, model);
    FILE *f = fopen(model, "r+b");
    assert_true(f && !fseek(f, 0, SEEK_SET));
    size_t size;
    char  *all = read_file(model, &size), *name = memmem(all, size, "blk.3.ffn_up", 12);
    assert_non_null(name);
    assert_true(!fseek(f, name - all, SEEK_SET) && fwrite("b", 1, 1, f) == 1 && fwrite("x", 1, 1, f) == 1);
    assert_int_equal(fclose(f), 0);
    free(all);
    link_with_runtime(s, program);
    child c = run((char *[]){program, "-p", "Once", NULL});
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, "(embedded): not the file this was compiled from"));
    assert_null(strstr(c.err, "-m"));
    child_free(&c);
}

static void assembler_of_another_machine(void **state) {
    (void)state;
#if defined(__x86_64__)
    char *archive = in_folder("a.a"), *cc = getenv("CC"), *kept = cc ? strdup(cc) : NULL, flag[4200];
    setenv("CC", "cc", 1);
    /* a runtime for it is not needed to see that */
    snprintf(flag, sizeof flag, "--runtime=%s", runtime);
    child c = run((char *[]){compiler, model, "-o", archive, "--embed-weights", "--emit=lib",
                             "--target=aarch64-linux-gnu", flag, NULL});
    if (kept) setenv("CC", kept, 1);
    if (!kept) unsetenv("CC");
    free(kept);
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, "the assembler that $CC runs is none for aarch64"));
    child_free(&c);
    assert_int_equal(count_files(), 1);
#else
    skip();
#endif
}

static int run_with_little_disk(int argc, char **argv) {
    struct rlimit most = {1 << 21, 1 << 21};
    (void)argc;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &most)) return 99;
    execv(argv[0], argv);
    return 98;
}

static void full_disk_leaves_nothing(void **state) {
    (void)state;
    static char *const flags[][2] = {{NULL}, {"--emit=obj"}, {"--emit=lib"}, {"--emit=exe", "--pack"}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        child c = child_run((child_setup){
            .argv = (char *[]){compiler, model, "-o", in_folder("out.a"), "--embed-weights", flags[i][0], flags[i][1],
                               NULL},
            .function = run_with_little_disk});
        if (c.exit_code != 1 || !c.err_size) fail_msg("case %zu: exit %d: %s", i, c.exit_code, c.err);
        child_free(&c);
        assert_int_equal(count_files(), 1);
    }
}

static void refused_with_one_line(void **state) {
    (void)state;
    static const struct {
        char       *flags[4];
        const char *message;
    } rows[] = {
        {{"-o", "-", "--emit=obj"}, "say -o FILE"},
        {{"-o", "-", "--emit=asm", "--pack"}, "say -o FILE"},
        {{"-o", "/no/such/folder/x", "--emit=obj", "--target=aarch64-linux-gnu"}, "name that machine's compiler with CC="},
        {{"-o", "/no/such/folder/x", "--emit=asm"}, "/no/such/folder/x"},
    };
    const char *cc = getenv("CC");
    char       *kept = cc ? strdup(cc) : NULL;
    unsetenv("CC");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *const *f = rows[i].flags;
        child        c = run((char *[]){compiler, model, "--embed-weights", f[0], f[1], f[2], f[3], NULL});
        const char  *line = strchr(c.err, '\n');
        if (c.exit_code != 1 || !line || line[1] || c.out_size || !strstr(c.err, rows[i].message))
            fail_msg("case %zu: exit %d: %s", i, c.exit_code, c.err);
        child_free(&c);
    }
    if (kept) setenv("CC", kept, 1);
    free(kept);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const char *given = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
    char *slash = strrchr(compiler, '/');
    snprintf(runtime, sizeof runtime, "%.*slibggufc_runtime.a", slash ? (int)(slash - compiler + 1) : 0, compiler);
    const struct CMUnitTest tests[] = {
        TEST(program_needs_no_file),
        TEST(another_file_may_be_named),
        TEST(packed_weights),
        TEST(library),
        TEST(object),
        TEST(assembly),
        TEST(dump_is_of_the_code),
        TEST(ir_of_packed_weights_keeps_their_file),
        TEST(once_for_several_cpus),
        TEST(split_model),
        TEST(large_weights_begin_at_a_huge_page),
        TEST(any_path),
        TEST(another_file_is_not_assembled),
        TEST(another_index_is_not_run),
        TEST(assembler_of_another_machine),
        TEST(full_disk_leaves_nothing),
        TEST(refused_with_one_line),
    };
    return cmocka_run_group_tests_name("embed", tests, NULL, NULL);
}
