/* `ggufc run`, `ggufc trace` and `ggufc dump` driven as a user does: the same text by any kernels,
 * options anywhere on the line, one clear line and the right exit status for every wrong one.
 *
 * The compiler is $GGUFC, or out/ggufc; $GGUFC_DEMO_EXE the demo model as an executable. */
#include "typed_model.h"

#include "child.h"
#include "recording.h"
#include "tools/broken_gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DEMO        "tests/models/storyteller-q8_0.gguf"
#define INTERPRETED "interpreted:" DEMO
#define PROMPT      "Once upon a time,"

static char compiler[4096], folder[256], acts[300];

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
static void assert_says(child c, int status, const char *message, const char *what) {
    if (c.exit_code != status || !is_one_line(c.err) || !strstr(c.err, message) || c.out_size)
        fail_msg("%s: exit %d, expected %d with \"%s\"; it said: %s%s", what, c.exit_code, status,
                 message, c.out, c.err);
    child_free(&c);
}

static void assert_succeeded(const child *c) {
    if (c->exit_code || c->err_size) fail_msg("exit %d; it said: %s", c->exit_code, c->err);
}

/* The text of a command that succeeds in silence, to be freed. */
static char *text_of(child c) {
    assert_succeeded(&c);
    free(c.err);
    return c.out;
}

static void assert_text(child c, const char *expected, const char *what) {
    char *text = text_of(c);
    if (strcmp(text, expected)) fail_msg("%s: '%s', expected '%s'", what, text, expected);
    free(text);
}

/* ---- a folder for output, which every test leaves empty */

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", compiled_path("folder"));
    snprintf(acts, sizeof acts, "%s/acts.gguf", folder);
    return mkdir(folder, 0777);
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

static bool is_empty(void) {
    DIR *dir = opendir(folder);
    int  n = 0;
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n == 2;
}

/* ---- help */

static const struct {
    const char *command, *words[8];
} helps[] = {
    {"run", {"usage: ggufc run [KERNELS:]MODEL.gguf", "-m, --model=FILE", "-c, --ctx-size=N", "--batch=N",
             "--temp X", "--bench", "--trace FILE"}},
    {"trace", {"usage: ggufc trace [KERNELS:]MODEL.gguf", "-o, --output=ACTS.gguf",
               "--mistake=NAME[@LAYER]", "--filter GLOB", "--last-token", "--unroll=full|N"}},
    {"dump", {"usage: ggufc dump MODEL.gguf [TENSOR]", "--row=N", "--block=N", "--count=N", "--json"}},
};

static void help_and_version(void **state) {
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(helps); i++) {
        char *command = (char *)helps[i].command;
        char *help = text_of(RUN(command, "--help"));
        for (int k = 0; k < 8 && helps[i].words[k]; k++)
            if (!strstr(help, helps[i].words[k])) fail_msg("%s --help has no '%s'", command, helps[i].words[k]);
        assert_null(strstr(strstr(help, "usage:") + 1, "usage:"));
        for (const char *line = help; *line; line += strcspn(line, "\n") + 1)
            if (strcspn(line, "\n") > 110) fail_msg("%s --help has a line of %zu", command, strcspn(line, "\n"));
        assert_text(RUN(command, "-h"), help, "-h");
        char *version = text_of(RUN(command, "no/such.gguf", "--version"));
        assert_true(!strncmp(version, "ggufc ", 6) && is_one_line(version));
        free(version);
        free(help);
        char *const line[] = {compiler, command, "--help", NULL};
        if (full >= 0)
            assert_says(child_run((child_setup){.argv = line, .out_fd = full}), 1,
                        "standard output: No space left", command);
    }
    if (full >= 0) close(full);
}

/* ---- lines that are refused */

typedef struct wrong_line {
    const char *args[8]; /* ends with NULL; "ACTS" stands for a path that nothing is at */
    int         status;
    const char *message;
} wrong_line;

static const wrong_line wrong_lines[] = {
    {{"run"}, 2, "no model given; usage: ggufc run [KERNELS:]MODEL.gguf"},
    {{"run", "-p", "x"}, 2, "no model given"},
    {{"run", "interpreted:", "-p", "x"}, 2, "no model given"},
    {{"run", DEMO, "-m"}, 2, "-m needs a value: FILE"},
    {{"run", DEMO, "-m", DEMO, "-p", "x"}, 2, "two models are named: '" DEMO "' and '" DEMO "'"},
    {{"run", "-m", "a", "--model=b"}, 2, "two models are named: 'a' and 'b'"},
    {{"run", DEMO, "Once", "upon"}, 2, "unexpected argument 'Once' (a prompt is given with -p)"},
    {{"run", DEMO, "--frobnicate"}, 2, "ggufc run: unknown option '--frobnicate'"},
    {{"run", "no/such.gguf", "-q"}, 2, "unknown option '-q'"},
    {{"run", DEMO, "--", "x"}, 2, "unknown option '--'"},
    {{"run", DEMO, "-o", "ACTS"}, 2, "unknown option '-o'"},
    {{"run", DEMO, "--emit=obj"}, 2, "unknown option '--emit=obj'"},
    {{"run", DEMO, "-p"}, 2, "ggufc run: -p needs a value: -p TEXT"},
    {{"run", DEMO, "-p", "a", "-f", "b"}, 2, "give only one of -p, -f and --tokens"},
    {{"run", DEMO, "-n", "many"}, 2, "-n: 'many' is not a whole number"},
    {{"run", DEMO, "--temp=hot"}, 2, "--temp: 'hot' is not a number"},
    {{"run", DEMO, "-c", "-1"}, 2, "-c: '-1' is not a number in range"},
    {{"run", DEMO, "--ctx-size", "99999999"}, 2, "--ctx-size: '99999999' is not a number in range"},
    {{"run", DEMO, "--ctx=0"}, 2, "--ctx: '0' is not a number in range"},
    {{"run", DEMO, "--batch", "0"}, 2, "--batch: '0' is not a number in range"},
    {{"run", DEMO, "--verbose=1"}, 2, "--verbose takes no value"},
    {{"run", DEMO, "--unroll=3"}, 2, "--unroll: '3' is not 'full' or a multiple of 4"},
    {{"run", DEMO, "--mistake=eps-0"}, 2, "--mistake is for interpreted:MODEL.gguf and"},
    {{"run", DEMO, "--trace="}, 2, "--trace: '' is not a file name"},
    {{"run", DEMO, "--filter=*"}, 2, "--filter is about --trace=FILE, which is not given"},
    {{"run", DEMO, "--bench", "--trace=ACTS"}, 2, "give only one of --trace and --bench"},
    {{"run", DEMO, "--tokens", "1,,2"}, 2, "'1,,2' is not a list of token ids"},

    {{"run", "no/such.gguf", "-p", "x"}, 1, "no/such.gguf: cannot open: No such file or directory"},
    {{"run", "foo:" DEMO, "-p", "x"}, 1,
     "there is no such file, and 'foo' is none of compiled, interpreted, reference"},
    {{"run", "Interpreted:" DEMO, "-p", "x"}, 1, "'Interpreted' is none of"},
    {{"run", "interpreted:no/such.gguf", "-p", "x"}, 1, "no/such.gguf: cannot open: No such file"},
    {{"run", "reference:compiled:" DEMO, "-p", "x"}, 1, "'compiled' is none of"},
    {{"run", "tests", "-p", "x"}, 1, "tests: this is a directory, expected a GGUF file"},
    {{"run", "/dev/null", "-p", "x"}, 1, "/dev/null: "},
    {{"run", INTERPRETED}, 1, "standard input: the prompt is empty"},
    {{"run", INTERPRETED, "-f", "no/such.txt"}, 1, "no/such.txt: No such file or directory"},
    {{"run", INTERPRETED, "--tokens", "1,5000"}, 1, "token 5000 at position 1 is not in the vocabulary of 1024"},
    {{"run", DEMO, "-p", PROMPT, "-c", "2"}, 1, "tokens, the context has room for 2"},
    {{"run", DEMO, "-p", "x", "--cpu=i9"}, 1, "--cpu=i9 is not known"},
    {{"run", DEMO, "-p", "x", "--arch=no/such.arch"}, 1, "no/such.arch: No such file or directory"},
    {{"run", INTERPRETED, "-p", "x", "--arch=no/such.arch"}, 1, "no/such.arch: No such file"},

    {{"trace"}, 2, "no model given; usage: ggufc trace [KERNELS:]MODEL.gguf -p TEXT -o ACTS.gguf"},
    {{"trace", DEMO, "-p", "x"}, 2, "no output given; say -o ACTS.gguf"},
    {{"trace", DEMO, "-o"}, 2, "-o needs a value: ACTS.gguf"},
    {{"trace", DEMO, "-o", ""}, 2, "-o: '' is not a file name"},
    {{"trace", DEMO, "-o=ACTS"}, 2, "no output given"},
    {{"trace", DEMO, "-o", "ACTS", "--bench"}, 2, "give only one of --trace and --bench"},
    {{"trace", DEMO, "-o", "ACTS", "--last-token=1"}, 2, "--last-token takes no value"},
    {{"trace", INTERPRETED, "-o", "ACTS", "-p", "x", "--filter", "qcur*"}, 1,
     "no activation is called 'qcur*'; they have names like "},
    {{"trace", INTERPRETED, "-o", DEMO, "-p", "x"}, 1, DEMO ": is the weights file"},
    {{"trace", INTERPRETED, "-o", "/dev/null", "-p", "x"}, 1, "/dev/null: is no regular file to be replaced"},
    {{"trace", INTERPRETED, "-o", "no/such/acts", "-p", "x"}, 1, "no/such/acts: cannot be written: No such file"},
    {{"trace", "foo:" DEMO, "-o", "ACTS", "-p", "x"}, 1, "'foo' is none of"},

    {{"trace", INTERPRETED, "--mistake", "-o", "ACTS"}, 2,
     "--mistake: '-o' is not one of transposed, embedding-transposed, sibling-1"},
    {{"trace", INTERPRETED, "-o", "ACTS", "--mistake=foo@1"}, 2, "'foo' is not one of transposed,"},
    {{"trace", INTERPRETED, "-o", "ACTS", "--mistake=eps-0@"}, 2, "--mistake: '' is not a number"},
    {{"trace", INTERPRETED, "-o", "ACTS", "--mistake=eps-0@-1"}, 2, "--mistake: '-1' is not a number"},
    {{"trace", INTERPRETED, "-o", "ACTS", "--mistake=@1"}, 2, "'' is not one of transposed,"},
    {{"trace", DEMO, "-o", "ACTS", "-p", "x", "--mistake=eps-0"}, 2,
     "--mistake is for interpreted:MODEL.gguf and reference:MODEL.gguf"},
    {{"trace", INTERPRETED, "-o", "ACTS", "-p", "x", "--mistake=eps-0@9"}, 1,
     "the mistake eps-0 applies to no operation of layer 9"},
    {{"trace", "reference:" DEMO, "-o", "ACTS", "-p", "x", "--mistake=rope-factors"}, 1,
     "the mistake rope-factors applies to no operation"},

    {{"dump"}, 2, "no model given; usage: ggufc dump MODEL.gguf [TENSOR]"},
    {{"dump", DEMO, "a", "b"}, 2, "'b' is one too many: usage: ggufc dump"},
    {{"dump", DEMO, "--frobnicate"}, 2, "unknown option '--frobnicate'"},
    {{"dump", DEMO, "--json=1"}, 2, "--json takes no value"},
    {{"dump", DEMO, "token_embd.weight", "--row"}, 2, "--row needs a value: N"},
    {{"dump", DEMO, "token_embd.weight", "--row=-1"}, 2, "--row: '-1' is not a number in range"},
    {{"dump", DEMO, "token_embd.weight", "--count=x"}, 2, "--count: 'x' is not a number in range"},
    {{"dump", DEMO, "--row=3"}, 2, "--row, --block and --count are about a tensor, and none is named"},
    {{"dump", DEMO, "token_embd"}, 1, "there is no tensor 'token_embd'"},
    {{"dump", DEMO, "token_embd.weight", "--row=1024"}, 1, "there is no row 1024, the tensor has 1024 rows"},
    {{"dump", DEMO, "token_embd.weight", "--block=8"}, 1, "there is no block 8, a row has 8"},
    {{"dump", "no/such.gguf"}, 1, "no/such.gguf: cannot open: No such file or directory"},
    {{"dump", "tests"}, 1, "tests: this is a directory, expected a GGUF file"},
};

static void lines_that_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong_lines); i++) {
        const wrong_line *w = &wrong_lines[i];
        char  all[1024] = "", *argv[10] = {compiler};
        for (int k = 0; k < 8 && w->args[k]; k++) {
            argv[k + 1] = !strcmp(w->args[k], "ACTS") ? acts : (char *)w->args[k];
            snprintf(all + strlen(all), sizeof all - strlen(all), " %s", w->args[k]);
        }
        assert_says(run(argv), w->status, w->message, all);
    }
    assert_true(is_empty());
    assert_int_equal(access("ACTS", F_OK), -1);
}

/* ---- models that are refused */

static const char *const kernels[] = {"", "compiled:", "interpreted:", "reference:"};

static void write_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(data, 1, size, f) == size);
    assert_int_equal(fclose(f), 0);
}

/* By each command and kernel in turn. */
static void broken_files(void **state) {
    (void)state;
    char path[300], model[340];
    snprintf(path, sizeof path, "%.250s/broken.gguf", folder);
    for (size_t i = 0; i < ARRAY_LEN(broken_ggufs); i++) {
        bytes b = {0};
        broken_make(&b, &broken_ggufs[i]);
        write_file(path, b.data, b.size);
        bytes_free(&b);
        const char *message = broken_ggufs[i].message, *name = broken_ggufs[i].name;
        snprintf(model, sizeof model, "%s%s", kernels[i % 4], path);
        child c = i % 3 == 0   ? RUN("run", model, "-p", "x")
                  : i % 3 == 1 ? RUN("trace", model, "-p", "x", "-o", acts)
                               : RUN("dump", path);
        assert_says(c, 1, message, name);
    }
    assert_int_equal(unlink(path), 0);
    assert_true(is_empty());
}

static const odd_model typed_shape = {
    "types", "--layers 1 --embd 256 --heads 4 --kv-heads 2 --ff 256 --vocab 300 --ctx 64 --type f32", "", "",
};

/* F64 is storage alone: it is interpreted as all types are, and not compiled. */
static void types_that_are_not_compiled(void **state) {
    (void)state;
    static const uint32_t types[] = {QUANT_F64};
    typed_list list = {types, 1, 0};
    char       path[300], model[340];
    snprintf(path, sizeof path, "%s", typed_model_make(&typed_shape, 400, &list));
    assert_says(RUN("run", path, "-p", "x"), 1, "has type F64, which cannot be compiled; types that can: F32",
                path);
    assert_says(RUN("trace", path, "-p", "x", "-o", acts), 1, "; interpreted:MODEL.gguf can be run", path);
    for (size_t i = 2; i < ARRAY_LEN(kernels); i++) {
        snprintf(model, sizeof model, "%s%s", kernels[i], path);
        char *text = text_of(RUN("run", model, "--tokens", "1,5,9", "-n", "5", "--temp", "0", "--ignore-eos"));
        assert_true(strlen(text) > 1);
        free(text);
    }
    unlink(path);
}

/* ---- text */

/* What the demo model says, as an executable; NULL without one. */
static char *demo_text(char *const *options) {
    char *exe = getenv("GGUFC_DEMO_EXE"), *argv[16] = {exe};
    for (int i = 0; options[i]; i++) argv[i + 1] = options[i];
    return exe ? text_of(run(argv)) : NULL;
}

static void same_text_by_any_kernels(void **state) {
    (void)state;
    static char *const lines[][10] = {
        {"-p", PROMPT, "-n", "60", "--temp", "0", NULL},
        {"-p", "Mia found a key.", "-n", "40", "--temp=0", "-t", "1", "--no-display-prompt", NULL},
        {"--tokens", "1,5,9", "-n", "20", "--temp", "0", "--ignore-eos", NULL},
        {"-p", PROMPT, "-n", "30", "-s", "7", "--top-k", "3", NULL},
    };
    if (!getenv("GGUFC_DEMO_EXE")) skip();
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        char *expected = demo_text(lines[i]);
        for (size_t k = 0; k < 3; k++) { /* f64 may choose another token where two are near */
            char model[128], *argv[14] = {compiler, "run", model};
            snprintf(model, sizeof model, "%s" DEMO, kernels[k]);
            for (int n = 0; lines[i][n]; n++) argv[n + 3] = lines[i][n];
            assert_text(run(argv), expected, model);
        }
        free(expected);
    }
    for (int k = 0; k < 3; k++) { /* what is drafted does not show, whatever the kernels are */
        char *model = (char *[]){DEMO, INTERPRETED, "reference:" DEMO}[k];
        char *again = PROMPT " " PROMPT " " PROMPT;
        char *plain = text_of(RUN("run", model, "-p", again, "-n", "12", "-s", "3", "--no-lookup"));
        assert_text(RUN("run", model, "-p", again, "-n", "12", "-s", "3", "--lookup-always"), plain, model);
        free(plain);
    }
    char *text = text_of(RUN("run", "reference:" DEMO, "-p", PROMPT, "-n", "12", "--temp", "0"));
    assert_int_equal(strncmp(text, PROMPT " there was a ", strlen(PROMPT " there was a ")), 0);
    free(text);
}

/* Options before the model and behind it, its name alone or with -m, values with = and without. */
static void options_anywhere(void **state) {
    (void)state;
    char *expected = text_of(RUN("run", INTERPRETED, "-p", PROMPT, "-n", "9", "--temp", "0"));
    static char *const lines[][12] = {
        {"-p", PROMPT, "-n", "9", "--temp", "0", INTERPRETED, NULL},
        {"-n", "9", INTERPRETED, "--temp=0", "-p", PROMPT, NULL},
        {"-m", INTERPRETED, "-n", "9", "--temp=0", "-p", PROMPT, NULL},
        {"--batch=2", "--prompt=" PROMPT, "--model=interpreted:" DEMO, "-n", "9", "--temp", "0", NULL},
        {"-t", "3", "-c", "40", "--predict=9", INTERPRETED, "--temp", "0", "-p", PROMPT, NULL},
        {"--ctx", "40", "interpreted:./" DEMO, "--n-predict", "9", "--temp=0", "-p", PROMPT, NULL},
        {"--lookup-always", INTERPRETED, "-p", PROMPT, "-n", "9", "--draft-max", "4", "--temp=0", NULL},
        {"--ctx=40", "-n", "9", "-c", "0", INTERPRETED, "--temp=0", "-p", PROMPT, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        char *argv[16] = {compiler, "run"};
        for (int n = 0; lines[i][n]; n++) argv[n + 2] = lines[i][n];
        assert_text(run(argv), expected, lines[i][0]);
    }
    free(expected);
}

static void prompts_from_elsewhere(void **state) {
    (void)state;
    char path[300], *expected = text_of(RUN("run", DEMO, "-p", PROMPT, "-n", "9", "--temp", "0"));
    for (size_t k = 0; k < 3; k++) {
        char model[128];
        snprintf(model, sizeof model, "%s" DEMO, kernels[k]);
        char *const argv[] = {compiler, "run", model, "-n", "9", "--temp", "0", NULL};
        assert_text(child_run((child_setup){.argv = argv, .input = PROMPT "\n"}), expected, model);
    }
    snprintf(path, sizeof path, "%s/prompt.txt", folder);
    write_file(path, PROMPT "\n", strlen(PROMPT "\n"));
    assert_text(RUN("run", "-f", path, "--temp=0", "-n", "9", DEMO), expected, "-f");
    unlink(path);
    free(expected);
}

static void a_full_context(void **state) {
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        char model[128];
        snprintf(model, sizeof model, "%s" DEMO, kernels[k]);
        child c = RUN("run", model, "-p", PROMPT, k ? "-c" : "--ctx-size", "20", "-n", "-1", "--ignore-eos");
        if (c.exit_code || strcmp(c.err, "ggufc run: stopped: the context of 20 tokens is full\n"))
            fail_msg("%s: exit %d; it said: %s", model, c.exit_code, c.err);
        child_free(&c);
    }
    child c = RUN("run", DEMO, "-p", PROMPT, "-n", "1", "--ctx=600");
    assert_int_equal(c.exit_code, 0);
    assert_true(is_one_line(c.err));
    assert_non_null(strstr(c.err, "--ctx=600 is more than the 512 positions that the model was trained for"));
    child_free(&c);
}

/* ---- what else an executable does */

static void info_and_bench(void **state) {
    (void)state;
    static const char *const targets[] = {"", "", "interpreted", "reference"};
    for (size_t k = 1; k < ARRAY_LEN(kernels); k++) {
        char model[128], target[64];
        snprintf(model, sizeof model, "%s" DEMO, kernels[k]);
        snprintf(target, sizeof target, "\ntarget:         %s", targets[k]);
        char *info = text_of(RUN("run", model, "--info", "-c", "100", "--batch=30"));
        assert_non_null(strstr(info, "model:          storyteller\n"));
        assert_non_null(strstr(info, target));
        assert_non_null(strstr(info, "\ncontext:        100 tokens (trained for 512)\nbatch:          30 tokens\n"));
        assert_non_null(strstr(info, "\nweights file:   " DEMO "\n"));
        assert_null(strstr(info, "code:")); /* that of this program says nothing of the model */
        assert_null(strstr(info, "executable:"));
        free(info);
        char *bench = text_of(RUN("run", model, "--bench", "--bench-prompt", "8", "-n", "2", "--bench-runs=1"));
        assert_true(!strncmp(bench, "prefill      8 tokens ", 22) && strstr(bench, "\ndecode       2 tokens "));
        free(bench);
    }
}

static void verbose(void **state) {
    (void)state;
    static const char *const words[] = {"arch ", "target ", "load:", "seed: 5\n", "2 threads, context 512", " eval:"};
    child c = RUN("run", DEMO, "-p", PROMPT, "-n", "5", "-s", "5", "-t", "2", "-v");
    assert_int_equal(c.exit_code, 0);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!strstr(c.err, words[i])) fail_msg("-v does not say '%s': %s", words[i], c.err);
    child_free(&c);
}

static void full_disk(void **state) {
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full < 0) skip();
    static char *const lines[][8] = {
        {compiler, "run", DEMO, "-p", PROMPT, "-n", "5", NULL},
        {compiler, "run", INTERPRETED, "--info", NULL},
        {compiler, "dump", DEMO, NULL},
        {compiler, "dump", DEMO, "token_embd.weight", "--json", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_says(child_run((child_setup){.argv = lines[i], .out_fd = full}), 1, "No space left on device",
                    lines[i][1]);
    close(full);
}

/* ---- traces */

static recording *open_recording(arena *a, const char *path) {
    diag       d = {0};
    recording *r = recording_open(a, &d, path, NULL);
    assert_non_null(r);
    return r;
}

static void make_trace(const char *model, const char *name, const char *more, char *path, size_t size) {
    snprintf(path, size, "%s/%s.gguf", folder, name);
    assert_says(RUN("trace", (char *)model, "-p", PROMPT, "-o", path, (char *)more), 0,
                ".gguf: 63 activations of ", model);
}

/* By how much two traces differ in an activation. */
static double difference(arena *a, const recording *x, const recording *y, const char *name) {
    diag d = {0};
    recorded_value *v = recording_find(x, name), *w = recording_find(y, name);
    assert_true(v && w);
    assert_true(recording_split(a, &d, v, v->n) && recording_split(a, &d, w, w->n));
    assert_true(v->n == w->n && v->n_columns == w->n_columns);
    return compiled_nmse(v->columns[0].data, w->columns[0].data, v->n * v->n_columns);
}

static void traces_by_any_kernels(void **state) {
    (void)state;
    char       paths[3][300];
    recording *r[3];
    arena     *a = arena_new();
    for (int k = 0; k < 3; k++) {
        char model[128], name[16];
        snprintf(model, sizeof model, "%s" DEMO, kernels[k + 1]);
        snprintf(name, sizeof name, "%d", k);
        make_trace(model, name, NULL, paths[k], sizeof paths[k]);
        r[k] = open_recording(a, paths[k]);
    }
    for (uint32_t i = 0; i < r[0]->n_values; i++) {
        const char *name = r[0]->values[i].name;
        assert_string_equal(r[1]->values[i].name, name);
        assert_string_equal(r[2]->values[i].name, name);
        if (difference(a, r[0], r[1], name) > 1e-4) fail_msg("%s: compiled and interpreted differ", name);
        if (difference(a, r[1], r[2], name) > 1e-3) fail_msg("%s: interpreted and reference differ", name);
    }
    assert_true(difference(a, r[0], r[2], "embd") <= 0);
    assert_true(difference(a, r[1], r[2], "result_output") > 1e-8); /* they are two arithmetics */
    for (int k = 0; k < 3; k++) {
        recording_close(r[k]);
        unlink(paths[k]);
    }
    arena_free(a);
}

static void traces_with_a_mistake(void **state) {
    (void)state;
    char   right_path[300], wrong_path[300];
    arena *a = arena_new();
    make_trace(INTERPRETED, "right", NULL, right_path, sizeof right_path);
    make_trace(INTERPRETED, "wrong", "--mistake=rope-pairing@2", wrong_path, sizeof wrong_path);
    recording  *right = open_recording(a, right_path), *wrong = open_recording(a, wrong_path);
    const char *changed = NULL;
    for (uint32_t i = 0; i < right->n_values && !changed; i++)
        if (difference(a, right, wrong, right->values[i].name) > 0) changed = right->values[i].name;
    assert_string_equal(changed, "Qcur-2.rope");
    assert_true(difference(a, right, wrong, "Kcur-2.rope") > 0.01);
    assert_true(difference(a, right, wrong, "Vcur-2") <= 0);
    assert_true(difference(a, right, wrong, "result_output") > 1e-6);
    assert_non_null(strstr(wrong->producer, "mistaken: rope-pairing"));
    assert_null(strstr(right->producer, "mistaken"));
    recording_close(right);
    recording_close(wrong);
    unlink(right_path);
    unlink(wrong_path);
    arena_free(a);
}

/* `ggufc run --trace` is `ggufc trace`; some activations of the last token only; -o twice. */
static void other_traces(void **state) {
    (void)state;
    char flag[320], other[300];
    snprintf(flag, sizeof flag, "--trace=%s", acts);
    snprintf(other, sizeof other, "%s/other.gguf", folder);
    assert_says(RUN("run", DEMO, "-p", PROMPT, flag), 0, "ggufc run: ", flag);
    assert_int_equal(unlink(acts), 0);
    assert_says(RUN("trace", DEMO, flag, "--tokens=1,2", "--filter", "l_out-*", "--last-token"), 0,
                "acts.gguf: 4 activations of 2 tokens", flag);
    arena     *a = arena_new();
    recording *r = open_recording(a, acts);
    assert_true(r->n_tokens == 2 && r->n_values == 4 && r->values[0].n == 256);
    assert_string_equal(r->values[3].name, "l_out-3");
    recording_close(r);
    arena_free(a);
    assert_int_equal(unlink(acts), 0);
    assert_says(RUN("trace", "-o", acts, DEMO, "-p", "x", "--output", other), 0, "other.gguf: 63", "-o twice");
    assert_int_equal(access(acts, F_OK), -1);
    assert_int_equal(unlink(other), 0);
    assert_true(is_empty());
}

/* ---- tensors */

static void tensors(void **state) {
    (void)state;
    char *list = text_of(RUN("dump", DEMO)), *json = text_of(RUN("dump", "--json", DEMO));
    assert_non_null(strstr(list, "token_embd.weight         Q8_0      [256, 1024]\n"));
    assert_true(*json == '{' || *json == '[');
    char *tensor = text_of(RUN("dump", DEMO, "token_embd.weight", "--row=5", "--block", "2", "--count=1"));
    assert_non_null(strstr(tensor, "\nrow 5, block 2, at offset "));
    assert_null(strstr(tensor, "block 3, at"));
    free(list);
    free(json);
    free(tensor);
}

int main(void) {
    const char *given = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(lines_that_are_refused),
        cmocka_unit_test(broken_files),
        cmocka_unit_test(types_that_are_not_compiled),
        cmocka_unit_test(same_text_by_any_kernels),
        cmocka_unit_test(options_anywhere),
        cmocka_unit_test(prompts_from_elsewhere),
        cmocka_unit_test(a_full_context),
        cmocka_unit_test(info_and_bench),
        cmocka_unit_test(verbose),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(traces_by_any_kernels),
        cmocka_unit_test(traces_with_a_mistake),
        cmocka_unit_test(other_traces),
        cmocka_unit_test(tensors),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
