/* The compiler driven as a user does: flags, messages and exit statuses; what is made, and that
 * nothing is left where it was not; broken, cut and foreign files.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "compiled_model.h"

#include "child.h"
#include "quant.h"
#include "tools/broken_gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define DEMO   "tests/models/storyteller-q8_0.gguf"
#define PROMPT "Once upon a time,"

static char compiler[4096];

/* ---- running */

static child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

#define RUN(...) run((char *[]){compiler, __VA_ARGS__, NULL})

static bool is_one_line(const char *text) {
    const char *newline = strchr(text, '\n');
    return newline && newline != text && !newline[1];
}

/* It ended with that status and one line holding `message` on standard error, and said no more. */
static void assert_refused(child c, int status, const char *message, const char *what) {
    if (c.exit_code != status || !is_one_line(c.err) || !strstr(c.err, message) || c.out_size)
        fail_msg("%s: exit %d, expected %d with \"%s\"; it said: %s%s", what, c.exit_code, status,
                 message, c.out, c.err);
    child_free(&c);
}

static void assert_silent(child c, const char *what) {
    if (c.exit_code || c.err_size || c.out_size)
        fail_msg("%s: exit %d; it said: %s%s", what, c.exit_code, c.out, c.err);
    child_free(&c);
}

/* ---- files */

static bool exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

/* A path in the test's folder, which lives until the program ends. */
static char *in_folder(const char *name) {
    char *path = strdup(compiled_path(name));
    assert_non_null(path);
    return path;
}

/* A new folder in it, empty; the test removes it. */
static char *new_folder(const char *name) {
    char *path = in_folder(name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static char *join(const char *folder, const char *name) {
    char *path;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

static uint32_t count_files(const char *folder) {
    DIR     *dir = opendir(folder);
    uint32_t n = 0;
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2;
}

static void remove_folder(const char *folder) {
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char *path = join(folder, d->d_name);
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..")) unlink(path);
        free(path);
    }
    if (dir) closedir(dir);
    assert_int_equal(rmdir(folder), 0);
}

static char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: %s", path, strerror(errno));
    return child_read(f, size);
}

static void write_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(data, 1, size, f) == size);
    assert_int_equal(fclose(f), 0);
}

static void copy_file(const char *from, const char *to) {
    size_t size;
    char  *data = read_file(from, &size);
    write_file(to, data, size);
    free(data);
}

/* ---- the command line */

static void help_and_version(void **state) {
    (void)state;
    static const char *const told[] = {"usage: ggufc", "--emit", "--target", "--unroll", "--dump"};
    child c = RUN("--help");
    assert_int_equal(c.exit_code, 0);
    assert_int_equal(c.err_size, 0);
    for (size_t i = 0; i < ARRAY_LEN(told); i++) assert_non_null(strstr(c.out, told[i]));
    child_free(&c);
    c = RUN(DEMO, "--version", "--no-such-flag");
    assert_int_equal(c.exit_code, 0);
    assert_true(!strncmp(c.out, "ggufc ", 6) && is_one_line(c.out) && !c.err_size);
    child_free(&c);
}

static const struct {
    const char *args[4], *message;
} wrong_lines[] = {
    {{NULL}, "no model given"},
    {{DEMO}, "no output given"},
    {{"-o", "x"}, "no model given"},
    {{DEMO, DEMO, "-o", "x"}, "is one too many: usage: ggufc MODEL.gguf -o FILE"},
    {{DEMO, "-o"}, "-o needs a value"},
    {{DEMO, "-o", ""}, "-o"},
    {{DEMO, "-o=x"}, "unknown option '-o=x'"},
    {{DEMO, "-q"}, "unknown option '-q'"},
    {{DEMO, "--unrol=4"}, "unknown option '--unrol=4'"},
    {{DEMO, "--unrolls=4"}, "unknown option"},
    {{DEMO, "--help=x"}, "unknown option"},
    {{DEMO, "--emit"}, "--emit needs a value"},
    {{DEMO, "--emit="}, "--emit: '' is not one of exe, obj, lib, so, llvm-ir, asm"},
    {{DEMO, "--emit=ob"}, "--emit: 'ob'"},
    {{DEMO, "--emit", "dll"}, "--emit: 'dll'"},
    {{DEMO, "--ctx=0"}, "--ctx: '0'"},
    {{DEMO, "--ctx=-1"}, "--ctx: '-1'"},
    {{DEMO, "--ctx="}, "--ctx: ''"},
    {{DEMO, "--ctx=5x"}, "--ctx: '5x'"},
    {{DEMO, "--ctx= 5"}, "--ctx: ' 5'"},
    {{DEMO, "--ctx=99999999"}, "--ctx: '99999999'"},
    {{DEMO, "--ctx=18446744073709551617"}, "--ctx"},
    {{DEMO, "--batch=0"}, "--batch: '0'"},
    {{DEMO, "--batch=1.5"}, "--batch: '1.5'"},
    {{DEMO, "--unroll=0"}, "--unroll: '0'"},
    {{DEMO, "--unroll=6"}, "--unroll: '6' is not 'full' or a multiple of 4"},
    {{DEMO, "--unroll=all"}, "--unroll: 'all'"},
    {{DEMO, "--features=avx2"}, "--features: 'avx2'"},
    {{DEMO, "--features=+avx2,fma"}, "--features"},
    {{DEMO, "--symbol="}, "--symbol: ''"},
    {{DEMO, "--symbol=9a"}, "--symbol: '9a'"},
    {{DEMO, "--symbol=a-b"}, "--symbol: 'a-b'"},
    {{DEMO, "--dump="}, "--dump: ''"},
    {{DEMO, "--dump=graph,"}, "--dump"},
    {{DEMO, "--dump=graphs"}, "--dump: 'graphs'"},
    {{DEMO, "--stop-after=parse"}, "--stop-after: 'parse'"},
    {{DEMO, "-v=1"}, "unknown option '-v=1'"},
    {{DEMO, "--verbose=1"}, "--verbose takes no value"},
};

static void wrong_flags(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong_lines); i++) {
        const char *const *a = wrong_lines[i].args;
        char *argv[] = {compiler, (char *)a[0], (char *)a[1], (char *)a[2], (char *)a[3], NULL};
        assert_refused(run(argv), 2, wrong_lines[i].message, wrong_lines[i].message);
    }
    assert_false(exists("x"));
}

/* Flags that are well-formed and mean nothing here: the input is bad, not the line. */
static const struct {
    const char *flag, *message;
} bad_choices[] = {
    {"--cpu=i9", "--cpu=i9 is not known"},
    {"--target=pdp11-dec-unix", "pdp11"},
    {"--arch=no/such.arch", "no/such.arch: No such file or directory"},
    {"--arch=.", ".: "},
    {"--runtime=no/such.a", "no/such.a"},
};

static void bad_values(void **state) {
    (void)state;
    char *out = in_folder("bad");
    for (size_t i = 0; i < ARRAY_LEN(bad_choices); i++) {
        assert_refused(RUN(DEMO, "-o", out, (char *)bad_choices[i].flag), 1,
                       bad_choices[i].message, bad_choices[i].flag);
        assert_false(exists(out));
    }
    assert_refused(RUN("no/such.gguf", "-o", out), 1, "no/such.gguf: cannot open: No such file",
                   "no model");
    assert_refused(RUN("tests", "-o", out), 1, "tests: ", "a folder for a model");
    assert_refused(RUN("/dev/null", "-o", out), 1, "/dev/null: ", "a device for a model");
    assert_false(exists(out));
    free(out);
}

/* ---- broken models */

static void broken_files(void **state) {
    (void)state;
    char *path = in_folder("broken.gguf"), *out = in_folder("broken");
    for (size_t i = 0; i < ARRAY_LEN(broken_ggufs); i++) {
        bytes b = {0};
        broken_make(&b, &broken_ggufs[i]);
        write_file(path, b.data, b.size);
        bytes_free(&b);
        assert_refused(RUN(path, "-o", out), 1, broken_ggufs[i].message, broken_ggufs[i].name);
        assert_false(exists(out));
    }
    free(path);
    free(out);
}

/* The demo model, whose first matrix says that it is of another type. */
static char *of_type(uint32_t type) {
    static const char name[] = "blk.0.attn_q.weight";
    size_t   size;
    char    *data = read_file(DEMO, &size), *path = in_folder("of-type.gguf");
    uint8_t *at = memmem(data, size, name, strlen(name));
    assert_non_null(at);
    at += strlen(name);
    assert_int_equal(at[0], 2); /* dimensions, each 8 bytes */
    memcpy(at + 4 + 2 * 8, &type, sizeof type);
    write_file(path, data, size);
    free(data);
    return path;
}

/* Of integers, which hold no weights. */
static void types_that_cannot_be_compiled(void **state) {
    (void)state;
    static const char *const parts[] = {
        "tensor 'blk.0.attn_q.weight' has type I8, which cannot be compiled; types that can: F32, F16, Q4_0, ",
        "; interpreted:MODEL.gguf can be run\n",
    };
    char *out = in_folder("refused"), *model = of_type(QUANT_I8);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        assert_refused(RUN(model, "-o", out), 1, parts[i], parts[i]);
    assert_false(exists(out));
    free(model);
    free(out);
}

static void count_errors(void *user, enum diag_level level, const char *line) {
    *(int *)user += level == DIAG_ERROR && *line;
}

/* The end of a map, behind which nothing can be read. */
static uint8_t *guarded(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = round_up(size, page);
    uint8_t *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + room, page, PROT_NONE), 0);
    return p + room;
}

static uint64_t first_tensor_byte(void) {
    arena     *a = arena_new();
    diag       d = {0};
    gguf_file *f = gguf_open(a, &d, DEMO);
    assert_non_null(f);
    uint64_t at = f->data_offset;
    gguf_close(f);
    arena_free(a);
    return at;
}

static void every_prefix_is_refused(void **state) {
    (void)state;
    size_t   size;
    char    *data = read_file(DEMO, &size);
    size_t   most = (size_t)first_tensor_byte();
    uint8_t *end = guarded(most);
    assert_true(most > 10000 && most < size);
    for (size_t n = 0; n <= most; n += n < 2000 || n > most - 500 ? 1 : 13) {
        arena *a = arena_new();
        int    errors = 0;
        diag   d = {.sink = count_errors, .user = &errors};
        memcpy(end - n, data, n);
        if (gguf_parse(a, &d, "prefix", end - n, n) || errors != 1)
            fail_msg("%zu bytes: %d errors", n, errors);
        arena_free(a);
    }
    free(data);
}

static void some_prefixes_are_refused_by_the_program(void **state) {
    (void)state;
    size_t size, most = (size_t)first_tensor_byte();
    char  *data = read_file(DEMO, &size), *path = in_folder("cut.gguf"), *out = in_folder("cut");
    size_t cuts[30] = {0, 1, 4, 23, 24, 25, most - 1, most, most + 1, size / 2, size - 1};
    for (size_t i = 11; i < ARRAY_LEN(cuts); i++) cuts[i] = most * (i - 10) / 20 + i;
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        write_file(path, data, cuts[i]);
        assert_refused(RUN(path, "-o", out), 1, "cut.gguf", "a cut file");
        assert_false(exists(out));
    }
    free(data);
    free(path);
    free(out);
}

/* ---- what is made */

static void assert_begins(const char *path, const char *magic, size_t size) {
    size_t n;
    char  *data = read_file(path, &n);
    if (n < size || memcmp(data, magic, size)) fail_msg("%s is not what was asked for", path);
    free(data);
}

static void assert_holds(const char *path, const char *text) {
    size_t n;
    char  *data = read_file(path, &n);
    if (!memmem(data, n, text, strlen(text))) fail_msg("%s holds no %s", path, text);
    free(data);
}

static void assert_tells(char *program, const char *weights) {
    child c = run((char *[]){program, "-p", PROMPT, "-n", "4", "--temp", "0",
                             weights ? "-m" : NULL, (char *)weights, NULL});
    if (c.exit_code || strncmp(c.out, PROMPT " there was", strlen(PROMPT " there was")))
        fail_msg("%s: exit %d; it said: %s%s", program, c.exit_code, c.out, c.err);
    child_free(&c);
}

static void emit_kinds(void **state) {
    (void)state;
    static const struct {
        const char *kind, *magic, *holds;
        size_t      magic_size;
    } kinds[] = {
        {"--emit=exe", "\177ELF", PROMPT, 4},
        {"--emit=obj", "\177ELF", "my_model", 4},
        {"--emit=llvm-ir", "; ModuleID", "@my_model = ", 10},
        {"--emit=asm", "\t", "\nmy_model:\n", 1},
    };
    char *folder = new_folder("kinds"), *out = join(folder, "out");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_silent(RUN(DEMO, "-o", out, "--symbol=my_model", (char *)kinds[i].kind),
                      kinds[i].kind);
        assert_begins(out, kinds[i].magic, kinds[i].magic_size);
        if (i) assert_holds(out, kinds[i].holds);
        assert_int_equal(count_files(folder), 1);
        assert_int_equal(access(out, X_OK) == 0, !i);
        if (!i) assert_tells(out, NULL);
        unlink(out);
    }
    remove_folder(folder);
    free(folder);
    free(out);
}

/* "-" is standard output for whatever is one piece of bytes, and the name of no file. */
static void standard_output(void **state) {
    (void)state;
    static const char *const kinds[] = {"--emit=obj", "--emit=llvm-ir", "--emit=asm"};
    char *folder = new_folder("stdout"), *out = join(folder, "out");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_silent(RUN(DEMO, "-o", out, (char *)kinds[i]), kinds[i]);
        child c = RUN(DEMO, "-o", "-", (char *)kinds[i]);
        struct stat file;
        assert_true(!c.exit_code && !c.err_size && !stat(out, &file) && (size_t)file.st_size == c.out_size);
        assert_begins(out, c.out, c.out_size);
        child_free(&c);
    }
    int full = open("/dev/full", O_WRONLY);
    assert_true(full > 0);
    assert_refused(child_run((child_setup){.argv = (char *[]){compiler, DEMO, "-o", "-", "--emit=asm", NULL},
                                           .out_fd = full}), 1, "standard output: ", "a full disk");
    close(full);
    assert_refused(RUN(DEMO, "-o", "-"), 1, "say -o FILE", "an executable");
    assert_refused(RUN(DEMO, "-o", "-", "--emit=lib"), 1, "say -o FILE", "a library");
    assert_refused(RUN(DEMO, "-o", "-", "--emit=so"), 1, "say -o FILE", "a shared library");
    assert_refused(RUN(DEMO, "-o", "-", "--emit=obj", "--pack"), 1, "say -o FILE", "packed weights");
    assert_refused(RUN(DEMO, "-o", "-", "--emit=obj", "--dump=plan"), 1, "say -o FILE", "a dump beside it");
    assert_int_equal(access("-", F_OK), -1);
    remove_folder(folder);
    free(folder);
    free(out);
}

static const char program[] =
    "#include \"story.h\"\n"
    "#include <stdio.h>\n"
    "int main(int argc, char **argv) {\n"
    "    ggufc_error error;\n"
    "    ggufc_session *s;\n"
    "    ggufc_session_options o = {.model = &story, .weights_path = argv[argc - 1]};\n"
    "    if (ggufc_session_open(&s, &o, &error) != GGUFC_OK) return puts(error.text), 1;\n"
    "    int32_t tokens[] = {1, 442, 439, 261, 441};\n"
    "    if (ggufc_session_evaluate(s, tokens, 5, &error) != GGUFC_OK) return 2;\n"
    "    const float *logits = ggufc_session_logits(s);\n"
    "    uint32_t best = 0;\n"
    "    for (uint32_t i = 0; i < story.n_vocab; i++) if (logits[i] > logits[best]) best = i;\n"
    "    printf(\"%u\\n\", best);\n"
    "    ggufc_session_close(s);\n"
    "    return 0;\n"
    "}\n";

/* A program that is linked with the library `name`, `more` being what its linker is told beyond that. */
static void run_with_library(const char *name, char *emit, const char *magic, char *more) {
    char *folder = new_folder("lib"), *lib = join(folder, name), *c = join(folder, "p.c");
    char *exe = join(folder, "p");
    const char *cc = getenv("CC");
    assert_silent(RUN(DEMO, "-o", lib, emit, "--symbol=story"), emit);
    assert_int_equal(count_files(folder), 2);
    assert_begins(lib, magic, strlen(magic));
    write_file(c, program, sizeof program - 1);
    char *link[] = {(char *)(cc && *cc ? cc : "cc"), "-std=c99", "-Wall", "-Werror", "-Iinclude",
                    "-o", exe, c, lib, "-pthread", more, NULL};
    assert_int_equal(compiled_run(link), 0);
    child ran = run((char *[]){exe, DEMO, NULL});
    assert_int_equal(ran.exit_code, 0);
    assert_string_equal(ran.out, "671\n");
    child_free(&ran);
    remove_folder(folder);
    free(folder);
    free(lib);
    free(c);
    free(exe);
}

static void library_with_its_header(void **state) {
    (void)state;
    run_with_library("story.a", "--emit=lib", "!<arch>\n", NULL);
}

static void shared_library_with_its_header(void **state) {
    (void)state;
    run_with_library("story.so", "--emit=so", "\177ELF", "-Wl,-rpath,$ORIGIN");
}

/* Everything that ggufc/runtime.h declares, the model, and nothing of the runtime's own. */
static void shared_library_shows_what_is_public(void **state) {
    (void)state;
    static const char *const public[] = {
        "story", "ggufc_session_open", "ggufc_session_close", "ggufc_session_evaluate", "ggufc_session_evaluate_each",
        "ggufc_session_logits", "ggufc_session_trace", "ggufc_session_truncate", "ggufc_session_n_past",
        "ggufc_session_n_ctx", "ggufc_session_n_threads", "ggufc_session_model", "ggufc_session_weights_path",
        "ggufc_status_name",
    };
    static const char *const private[] = {"threads_create", "eval_calls", "cpu_choose", "sampler_new", "main"};
    char *folder = new_folder("so"), *lib = join(folder, "story.so");
    assert_silent(RUN(DEMO, "-o", lib, "--emit=so", "--symbol=story"), "--emit=so");
    void *library = dlopen(lib, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    for (size_t i = 0; i < ARRAY_LEN(public); i++)
        if (!dlsym(library, public[i])) fail_msg("%s is not there", public[i]);
    for (size_t i = 0; i < ARRAY_LEN(private); i++)
        if (dlsym(library, private[i])) fail_msg("%s is seen", private[i]);
    dlclose(library);
    remove_folder(folder);
    free(folder);
    free(lib);
}

static void stopping_writes_nothing(void **state) {
    (void)state;
    static const char *const stages[] = {"gguf", "arch", "resolve", "fuse", "plan", "emit",
                                         "target"};
    static const struct {
        const char *what, *told;
        size_t      least; /* the first stage after which it is told */
    } dumps[] = {
        {"graph", "result_output: F32 [1024, T] = matmul(", 1},
        {"plan", "\nhead\n", 4},
        {"llvm-ir", "\n@ggufc_compiled = ", 5},
        {"asm", "\nggufc_compiled:", 5},
    };
    char *folder = new_folder("stop"), *out = join(folder, "out");
    for (size_t s = 0; s < ARRAY_LEN(stages); s++) {
        char stop[64], dump[64];
        snprintf(stop, sizeof stop, "--stop-after=%s", stages[s]);
        assert_silent(RUN(DEMO, "-o", out, stop), stop);
        for (size_t i = 0; i < ARRAY_LEN(dumps); i++) {
            snprintf(dump, sizeof dump, "--dump=%s", dumps[i].what);
            child c = RUN(DEMO, stop, dump);
            bool  told = strstr(c.out, dumps[i].told) != NULL;
            if (c.exit_code || c.err_size || told != (s >= dumps[i].least) || (!told && c.out_size))
                fail_msg("%s %s: exit %d, %zu bytes", stop, dump, c.exit_code, c.out_size);
            child_free(&c);
        }
        assert_int_equal(count_files(folder), 0);
    }
    remove_folder(folder);
    free(folder);
    free(out);
}

static void print_to_a_full_disk(void **state) {
    (void)state;
    char *lines[][5] = {
        {compiler, DEMO, "--stop-after=fuse", "--dump=graph"},
        {compiler, "--help"},
        {compiler, "--version"},
        {compiler, "compare", "--help"},
        {compiler, "dump", "--help"},
    };
    int full = open("/dev/full", O_WRONLY);
    if (full < 0) skip();
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_refused(child_run((child_setup){.argv = lines[i], .out_fd = full}), 1,
                       "standard output: No space left", lines[i][1]);
    close(full);
}

/* ---- output that cannot be written */

static int run_with_little_disk(int argc, char **argv) {
    struct rlimit most = {20000, 20000};
    (void)argc;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &most)) return 99;
    execv(argv[0], argv);
    return 98;
}

static void full_disk_leaves_nothing(void **state) {
    (void)state;
    static const char *const kinds[] = {"--emit=exe", "--emit=obj", "--emit=lib", "--emit=so", "--emit=llvm-ir",
                                        "--emit=asm"};
    char *folder = new_folder("full"), *out = join(folder, "out.a");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char *argv[] = {compiler, DEMO, "-o", out, (char *)kinds[i], NULL};
        child c = child_run((child_setup){.argv = argv, .function = run_with_little_disk});
        assert_refused(c, 1, "File too large", kinds[i]);
        assert_int_equal(count_files(folder), 0);
    }
    remove_folder(folder);
    free(folder);
    free(out);
}

static void places_that_cannot_be_written(void **state) {
    (void)state;
    char *folder = new_folder("place"), *sub = join(folder, "sub"), *out = join(folder, "out");
    char *fifo = join(folder, "fifo"), *beneath = join(folder, "file/out");
    char *file = join(folder, "file"), *missing = join(folder, "no/out");
    char *model = join(folder, "model.gguf"), *header = join(folder, "lib.h");
    assert_int_equal(mkdir(sub, 0777) | mkfifo(fifo, 0666), 0);
    write_file(file, "kept", 4);
    copy_file(DEMO, model);
    assert_refused(RUN(DEMO, "--emit=obj", "-o", missing), 1, "No such file", "no such folder");
    assert_refused(RUN(DEMO, "--emit=obj", "-o", beneath), 1, "Not a directory", "beneath a file");
    assert_refused(RUN(DEMO, "--emit=lib", "-o", sub), 1, sub, "a folder");
    assert_refused(RUN(DEMO, "--emit=lib", "-o", header), 1, "lib.h: is where", "the header");
    assert_refused(RUN(DEMO, "--emit=obj", "-o", fifo), 1, fifo, "a pipe");
    assert_refused(RUN(model, "-o", model), 1, model, "the model itself");
    if (getuid()) {
        assert_int_equal(chmod(sub, 0555), 0);
        char *denied = join(sub, "out");
        assert_refused(RUN(DEMO, "--emit=obj", "-o", denied), 1, "Permission denied", "read-only");
        free(denied);
    }
    assert_begins(file, "kept", 4);
    assert_begins(model, "GGUF", 4);
    assert_int_equal(count_files(folder), 4);
    assert_int_equal(rmdir(sub), 0);
    remove_folder(folder);
    char *all[] = {folder, sub, out, fifo, beneath, file, missing, model, header};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
}

static void a_linker_that_fails(void **state) {
    (void)state;
    char *folder = new_folder("cc"), *out = join(folder, "out"), *old = getenv("CC");
    char *saved = old ? strdup(old) : NULL;
    setenv("CC", "false", 1);
    assert_refused(RUN(DEMO, "-o", out), 1, "false failed with status 1", "CC=false");
    setenv("CC", "/no/such/cc", 1);
    assert_refused(RUN(DEMO, "-o", out), 1, "/no/such/cc", "CC=/no/such/cc");
    write_file(out, "old", 3);
    assert_refused(RUN(DEMO, "-o", out), 1, "/no/such/cc", "CC=/no/such/cc");
    assert_begins(out, "old", 3);
    assert_int_equal(count_files(folder), 1);
    if (saved) setenv("CC", saved, 1);
    else unsetenv("CC");
    free(saved);
    remove_folder(folder);
    free(folder);
    free(out);
}

/* ---- killed while it compiles: the output is there whole or not at all */

static void kill_after(long ms, int sig, const char *kind, const char *out, const char *folder) {
    child c = child_start((child_setup){
        .argv = (char *[]){compiler, DEMO, "-o", (char *)out, (char *)kind, NULL}});
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
    kill(c.pid, sig);
    child_finish(&c);
    if (exists(out)) {
        struct stat s;
        assert_int_equal(stat(out, &s), 0);
        if (!strcmp(kind, "--emit=exe")) assert_tells((char *)out, NULL);
        assert_true(s.st_size > 50000);
        unlink(out);
    }
    if (sig == SIGTERM && !strcmp(kind, "--emit=obj")) assert_int_equal(count_files(folder), 0);
    child_free(&c);
}

static void killed_leaves_no_half_output(void **state) {
    (void)state;
    for (long ms = 5; ms < 700; ms = ms * 3 / 2) {
        char *folder = new_folder("killed"), *out = join(folder, "out");
        kill_after(ms, SIGTERM, "--emit=obj", out, folder);
        kill_after(ms, SIGTERM, "--emit=exe", out, folder);
        kill_after(ms, SIGKILL, "--emit=exe", out, folder);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); /* for an orphaned cc */
        assert_false(exists(out));
        remove_folder(folder);
        free(folder);
        free(out);
    }
}

/* ---- names */

static void odd_names(void **state) {
    (void)state;
    char *folder = new_folder("a folder; with 'quotes'"), *model = join(folder, "mo del.gguf");
    char *link = join(folder, "link.gguf"), *out = join(folder, "--out put$(x)");
    copy_file(DEMO, model);
    assert_int_equal(symlink("mo del.gguf", link), 0);
    assert_silent(RUN(model, "-o", out), "a name with spaces");
    assert_tells(out, NULL);
    assert_silent(RUN(link, "-o", out), "a symbolic link");
    assert_tells(out, NULL);
    assert_silent(RUN(link, "--emit", "exe", "--unroll", "4", "-o", out), "values as words");
    assert_tells(out, NULL);
    assert_int_equal(count_files(folder), 3);
    remove_folder(folder);
    free(folder);
    free(model);
    free(link);
    free(out);
}

/* ---- the executable and its weights */

static void weights_beside_the_executable(void **state) {
    (void)state;
    char *here = new_folder("here"), *there = new_folder("there");
    char *other = join(here, "other.gguf");
    char *model = join(here, "m.gguf"), *moved = join(there, "m.gguf"), *exe = join(there, "exe");
    copy_file(DEMO, model);
    assert_silent(RUN(model, "-o", exe), "compiling");
    assert_tells(exe, NULL);
    assert_int_equal(rename(model, moved), 0);
    assert_tells(exe, NULL);

    size_t size;
    char  *data = read_file(DEMO, &size), *name = memmem(data, size, "blk.3.attn_q", 12);
    assert_non_null(name);
    name[4] = '7'; /* of the same size, with another tensor in it */
    write_file(other, data, size);
    char *ask[] = {exe, "-p", PROMPT, "-m", other, NULL};
    assert_refused(run(ask), 1, "not the file this was compiled from", "another tensor");
    write_file(other, data, size - 32);
    assert_refused(run(ask), 1, "not the file this was compiled from", "a shorter file");
    unlink(moved);
    assert_refused(run((char *[]){exe, "-p", PROMPT, NULL}), 1, "m.gguf", "no weights");
    assert_tells(exe, DEMO);
    remove_folder(here);
    remove_folder(there);
    char *all[] = {here, there, other, model, moved, exe, data};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
}

int main(void) {
    const char *given = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(wrong_flags),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(broken_files),
        cmocka_unit_test(types_that_cannot_be_compiled),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(some_prefixes_are_refused_by_the_program),
        cmocka_unit_test(emit_kinds),
        cmocka_unit_test(standard_output),
        cmocka_unit_test(library_with_its_header),
        cmocka_unit_test(shared_library_with_its_header),
        cmocka_unit_test(shared_library_shows_what_is_public),
        cmocka_unit_test(stopping_writes_nothing),
        cmocka_unit_test(print_to_a_full_disk),
        cmocka_unit_test(full_disk_leaves_nothing),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(a_linker_that_fails),
        cmocka_unit_test(killed_leaves_no_half_output),
        cmocka_unit_test(odd_names),
        cmocka_unit_test(weights_beside_the_executable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
