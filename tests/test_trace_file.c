/* Activations in files: what trace_write makes, read again by recording.h; and a compiled model with
 * --trace driven as a user does: messages, full disks, interrupts.
 *
 * GGUFC is the compiler (out/ggufc), GGUFC_DEMO_EXE the demo model compiled without --trace. */
#include "engine_fixture.h"
#include "interp_fixture.h"

#include "child.h"
#include "recording.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define DEMO "tests/models/storyteller-q8_0.gguf"

enum { N = 21, BATCH = 8, ODD = 6 };

/* ---- a traced model in this process, and what it computes */

typedef struct traced {
    engine         e;
    interpreted    x; /* whose graph tells names and shapes */
    ggufc_session *session;
    int32_t        tokens[N];
    float        **rows; /* by activation */
    char           folder[256], path[300];
} traced;

static traced t;

static int open_traced(void **state) {
    (void)state;
    const char *gguf = odd_model_make(&odd_models[ODD], ODD);
    char        flags[64];
    snprintf(flags, sizeof flags, "--trace --unroll=4 --ctx=%d --batch=%d", N + 3, BATCH);
    engine_fixture_open(&t.e, gguf, flags);
    interpreted_open(&t.x, &odd_models[ODD], gguf);
    interpreted_tokens(&t.x, t.tokens, N);
    t.rows = interpreted_trace(&t.x, &t.e.model, t.tokens, N, N, 1);
    t.session = compiled_session(&t.e.model, NULL, 2);
    snprintf(t.folder, sizeof t.folder, "%s", compiled_path("folder"));
    snprintf(t.path, sizeof t.path, "%s/acts.gguf", t.folder);
    return mkdir(t.folder, 0777);
}

static int close_traced(void **state) {
    (void)state;
    ggufc_session_close(t.session);
    interpreted_close(&t.x);
    engine_close(&t.e);
    return rmdir(t.folder);
}

static uint32_t count_files(void) {
    DIR     *dir = opendir(t.folder);
    uint32_t n = 0;
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2;
}

static ggufc_status write_trace(const trace_request *r, trace_report *report, ggufc_error *error) {
    trace_request all = *r;
    if (!all.path) all.path = t.path;
    if (!all.tokens) all.tokens = t.tokens;
    if (!all.n_tokens) all.n_tokens = N;
    assert_int_equal(ggufc_session_truncate(t.session, 0, NULL), 0);
    return trace_write(t.session, &all, report, error);
}

/* ---- what is in the file */

/* Activations of `names`, or all, with the last `columns` tokens. */
static void check_file(const recording *r, const char *const *names, uint32_t n_names, uint32_t columns) {
    const graph *g = t.x.graph;
    diag         d = {0};
    uint32_t     n = 0;
    assert_string_equal(r->kind, "activations GGUF");
    assert_int_equal(r->n_tokens, N);
    assert_memory_equal(r->tokens, t.tokens, sizeof t.tokens);
    assert_string_equal(r->model, base_name(t.e.model.path));
    assert_non_null(strstr(r->producer, t.e.model.compiler));
    assert_non_null(strstr(r->producer, t.e.model.target));
    for (uint32_t i = 0; i < g->n_ops; i++) {
        const value *v = g->ops[i]->out;
        bool         wanted = !names;
        for (uint32_t k = 0; k < n_names; k++) wanted = wanted || !strcmp(names[k], v->name);
        if (!wanted) continue;
        assert_true(n < r->n_values);
        recorded_value *made = &r->values[n++];
        uint64_t        size = value_count(v);
        assert_string_equal(made->name, v->name);
        assert_true(recording_split(t.x.memory, &d, made, size));
        assert_int_equal(made->n, size);
        assert_int_equal(made->n_columns, columns);
        for (uint32_t k = N - columns; k < N; k++)
            assert_memory_equal(recording_row(made, k, N), t.rows[i] + k * size, size * sizeof(float));
    }
    assert_int_equal(n, r->n_values);
}

static const struct {
    const char *filter;
    bool        last;
    const char *names[4]; /* none: all */
    uint32_t    n_names;
} files[] = {
    {NULL, false, {NULL}, 0},
    {NULL, true, {NULL}, 0},
    {"*", false, {NULL}, 0},
    {"Qcur-1", false, {"Qcur-1"}, 1},
    {"Kcur-[01]*.rope", true, {"Kcur-0.rope", "Kcur-1.rope"}, 2},
    {"result_*", false, {"result_norm", "result_output"}, 2},
    {"result_outpu?", true, {"result_output"}, 1},
    {"attn_norm-*", false, {"attn_norm-0", "attn_norm-1"}, 2},
};

static void files_hold_what_was_computed(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        trace_request request = {.filter = files[i].filter, .last_token = files[i].last};
        trace_report  report;
        ggufc_error   error;
        diag          d = {0};
        struct stat   s;
        if (write_trace(&request, &report, &error)) fail_msg("%s", error.text);
        assert_true(recording_is(t.path));
        recording *r = recording_open(t.x.memory, &d, t.path, NULL);
        assert_non_null(r);
        check_file(r, files[i].n_names ? files[i].names : NULL, files[i].n_names, files[i].last ? 1 : N);
        assert_int_equal(report.n_activations, r->n_values);
        assert_int_equal(stat(t.path, &s), 0);
        assert_int_equal(report.bytes, s.st_size);
        recording_close(r);
        assert_int_equal(count_files(), 1);
        assert_int_equal(unlink(t.path), 0);
    }
}

/* llama.cpp's shapes: heads are a dimension of their own, tokens the last one. */
static void shapes_of_tensors(void **state) {
    (void)state;
    trace_report report;
    ggufc_error  error;
    diag         d = {0};
    assert_int_equal(write_trace(&(trace_request){.filter = NULL}, &report, &error), GGUFC_OK);
    gguf_file *f = gguf_open(t.x.memory, &d, t.path);
    assert_non_null(f);
    const gguf_tensor *q = gguf_find_tensor(f, "Qcur-0.rope"), *norm = gguf_find_tensor(f, "attn_norm-0");
    assert_int_equal(q->n_dims, 3);
    assert_true(q->dims[0] == 96 && q->dims[1] == 2 && q->dims[2] == N);
    assert_int_equal(norm->n_dims, 2);
    assert_true(norm->dims[0] == 192 && norm->dims[1] == N);
    gguf_close(f);
    unlink(t.path);
}

/* ---- what is refused */

static void assert_error(const trace_request *r, ggufc_status status, const char *message) {
    trace_report report;
    ggufc_error  error;
    uint32_t     n = count_files();
    if (write_trace(r, &report, &error) != status || !strstr(error.text, message))
        fail_msg("%s, expected %s: %s", error.text, ggufc_status_name(status), message);
    assert_int_equal(count_files(), n);
}

static void what_is_refused(void **state) {
    (void)state;
    char sub[300], link[300], fifo[300], file[300], beneath[320], missing[300], long_path[5000];
    snprintf(sub, sizeof sub, "%.200s/sub", t.folder);
    snprintf(link, sizeof link, "%.200s/link", t.folder);
    snprintf(fifo, sizeof fifo, "%.200s/fifo", t.folder);
    snprintf(file, sizeof file, "%.200s/file", t.folder);
    snprintf(beneath, sizeof beneath, "%s/acts", file);
    snprintf(missing, sizeof missing, "%.200s/no/acts", t.folder);
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = 0;
    assert_int_equal(mkdir(sub, 0777) | mkfifo(fifo, 0666) | symlink("file", link), 0);
    FILE *f = fopen(file, "w");
    assert_true(f && fputs("kept", f) >= 0 && !fclose(f));
    assert_error(&(trace_request){.filter = "qcur-*"}, GGUFC_ERROR_OPTIONS,
                 "no activation is called 'qcur-*'; they have names like ");
    assert_error(&(trace_request){.filter = ""}, GGUFC_ERROR_OPTIONS, "no activation is called ''");
    assert_error(&(trace_request){.path = sub}, GGUFC_ERROR_OPTIONS, "sub: is no regular file to be replaced");
    assert_error(&(trace_request){.path = link}, GGUFC_ERROR_OPTIONS, "link: is no regular file");
    assert_error(&(trace_request){.path = fifo}, GGUFC_ERROR_OPTIONS, "fifo: is no regular file");
    assert_error(&(trace_request){.path = "/dev/null"}, GGUFC_ERROR_OPTIONS, "/dev/null: is no regular file");
    assert_error(&(trace_request){.path = beneath}, GGUFC_ERROR_OPTIONS, "cannot be written: Not a directory");
    assert_error(&(trace_request){.path = missing}, GGUFC_ERROR_OPTIONS, "cannot be written: No such file");
    assert_error(&(trace_request){.path = long_path}, GGUFC_ERROR_OPTIONS, "too long");
    f = fopen(file, "r");
    char kept[8] = "";
    assert_true(f && fgets(kept, sizeof kept, f) && !fclose(f));
    assert_string_equal(kept, "kept");
    assert_int_equal(rmdir(sub) | unlink(link) | unlink(fifo) | unlink(file), 0);
}

static void tokens_that_do_not_fit(void **state) {
    (void)state;
    int32_t many[N + 4] = {0}, bad[] = {0, -1};
    assert_error(&(trace_request){.tokens = many, .n_tokens = N + 4}, GGUFC_ERROR_CONTEXT,
                 "25 tokens do not fit");
    assert_error(&(trace_request){.tokens = bad, .n_tokens = 2}, GGUFC_ERROR_TOKEN, "token -1 at position 1");
}

static void stopping(void **state) {
    (void)state;
    volatile sig_atomic_t stop = 1;
    assert_error(&(trace_request){.stop = &stop}, GGUFC_STOPPED, "stopped at position 7");
    assert_int_equal(ggufc_session_n_past(t.session), BATCH); /* the batch it was stopped in */
}

static void the_weights_themselves(void **state) {
    (void)state;
    char copy[300];
    snprintf(copy, sizeof copy, "%.200s/weights.gguf", t.folder);
    ggufc_session *kept = t.session;
    assert_int_equal(link(t.x.file->path, copy), 0); /* by another name */
    t.session = compiled_session(&t.e.model, t.x.file->path, 1);
    assert_error(&(trace_request){.path = t.x.file->path}, GGUFC_ERROR_OPTIONS, "is the weights file");
    assert_error(&(trace_request){.path = copy}, GGUFC_ERROR_OPTIONS, "is the weights file");
    ggufc_session_close(t.session);
    t.session = kept;
    assert_int_equal(unlink(copy), 0);
}

static void a_model_without_a_trace(void **state) {
    (void)state;
    engine         e;
    ggufc_session *kept = t.session;
    engine_fixture_open(&e, t.x.file->path, "--unroll=4 --ctx=32");
    t.session = compiled_session(&e.model, NULL, 1);
    assert_error(&(trace_request){.filter = "Qcur*"}, GGUFC_ERROR_OPTIONS,
                 "compiled without --trace: its activations are not kept");
    ggufc_error error;
    assert_int_equal(ggufc_session_trace(t.session, t.tokens, N, NULL, NULL, &error), GGUFC_ERROR_OPTIONS);
    assert_non_null(strstr(error.text, "compiled without --trace"));
    ggufc_session_close(t.session);
    engine_close(&e);
    t.session = kept;
}

/* ---- the program */

static char compiler[4096], traced_exe[300];

#define PROMPT "Once upon a time, there was a sleepy boy named Hugo. Hugo lived near the meadow."

static child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

static bool is_one_line(const char *text) {
    const char *newline = strchr(text, '\n');
    return newline && newline != text && !newline[1];
}

static void assert_says(child c, int status, const char *message) {
    if (c.exit_code != status || !is_one_line(c.err) || !strstr(c.err, message) || c.out_size)
        fail_msg("exit %d, expected %d with \"%s\"; it said: %s%s", c.exit_code, status, message, c.out, c.err);
    child_free(&c);
}

static char *traced_program(void) {
    if (*traced_exe) return traced_exe;
    snprintf(traced_exe, sizeof traced_exe, "%s", compiled_path("storyteller-traced"));
    child c = run((char *[]){compiler, DEMO, "--trace", "--batch=7", "-o", traced_exe, NULL});
    if (c.exit_code || c.err_size) fail_msg("%s", c.err);
    child_free(&c);
    return traced_exe;
}

static char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: %s", path, strerror(errno));
    return child_read(f, size);
}

/* A prompt of three batches, by the program and by `ggufc trace`: the same file. */
static void program_writes_a_trace(void **state) {
    (void)state;
    char   flag[320], other[300], *exe = traced_program();
    size_t size, other_size;
    diag   d = {0};
    snprintf(flag, sizeof flag, "--trace=%s", t.path);
    snprintf(other, sizeof other, "%.200s/other.gguf", t.folder);
    assert_says(run((char *[]){exe, "-p", PROMPT, flag, NULL}), 0,
                "acts.gguf: 63 activations of 18 tokens, ");
    assert_says(run((char *[]){compiler, "trace", DEMO, "-p", PROMPT, "--batch=7", "-o", other, NULL}), 0,
                "other.gguf: 63 activations of 18 tokens, ");
    recording *r = recording_open(t.x.memory, &d, t.path, NULL);
    assert_non_null(r);
    assert_string_equal(r->model, "storyteller-q8_0.gguf");
    assert_int_equal(r->n_values, 63);
    assert_int_equal(r->n_tokens, 18);
    recording_close(r);
    char *a = read_file(t.path, &size), *b = read_file(other, &other_size);
    assert_int_equal(size, other_size);
    assert_memory_equal(a, b, size);
    free(a);
    free(b);
    assert_says(run((char *[]){exe, "--tokens", "1,5,9", "--trace", t.path, "--last-token", "--filter",
                               "result_*", NULL}), 0, "acts.gguf: 2 activations of 3 tokens, 0.0 MiB");
    assert_int_equal(count_files(), 2);
    assert_int_equal(unlink(t.path) | unlink(other), 0);
}

/* What it generates is no other text. */
static void program_still_generates(void **state) {
    (void)state;
    char *demo = getenv("GGUFC_DEMO_EXE");
    if (!demo) skip();
    child a = run((char *[]){traced_program(), "-p", PROMPT, "-n", "30", "-s", "3", NULL});
    child b = run((char *[]){demo, "-p", PROMPT, "-n", "30", "-s", "3", NULL});
    assert_int_equal(a.exit_code | b.exit_code, 0);
    assert_string_equal(a.out, b.out);
    child_free(&a);
    child_free(&b);
}

static const struct {
    const char *args[5];
    int         status;
    const char *message;
} wrong_lines[] = {
    {{"--trace"}, 2, "--trace needs a value: --trace FILE"},
    {{"--trace="}, 2, "--trace: '' is not a file name"},
    {{"--filter", "*"}, 2, "--filter is about --trace=FILE, which is not given"},
    {{"--last-token"}, 2, "--last-token is about --trace=FILE, which is not given"},
    {{"--last-token=1", "--trace", "x"}, 2, "--last-token takes no value"},
    {{"--bench", "--trace=x"}, 2, "give only one of --trace and --bench"},
    {{"--trace=x", "--filter=nothing-*", "-p", "a"}, 1, "no activation is called 'nothing-*'; they have names like "},
    {{"--trace=/no/such/acts", "-p", "a"}, 1, "/no/such/acts: cannot be written: No such file or directory"},
    {{"--trace=/", "-p", "a"}, 1, "/: is no regular file to be replaced"},
    {{"--trace", DEMO, "-p", "a"}, 1, "storyteller-q8_0.gguf: is the weights file"},
    {{"--trace=x", "--tokens=1,5000"}, 1, "token 5000 at position 1 is not in the vocabulary"},
    {{"--trace=x", "-p", "Once upon a time", "-c2"}, 2, "unknown option '-c2'"},
    {{"--trace=x", "-p", "Once upon a time", "--ctx-size=2"}, 1, "the context has room for 2"},
};

static void program_refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong_lines); i++) {
        char *argv[7] = {traced_program()};
        for (int k = 0; k < 5 && wrong_lines[i].args[k]; k++) argv[k + 1] = (char *)wrong_lines[i].args[k];
        assert_says(run(argv), wrong_lines[i].status, wrong_lines[i].message);
    }
    assert_int_equal(access("x", F_OK), -1);
    char *demo = getenv("GGUFC_DEMO_EXE");
    if (demo)
        assert_says(run((char *[]){demo, "-p", "a", "--trace", t.path, NULL}), 1,
                    "compiled without --trace: its activations are not kept");
    assert_int_equal(count_files(), 0);
}

/* ---- full disks */

static rlim_t most_bytes;

static int run_with_little_disk(int argc, char **argv) {
    struct rlimit most = {most_bytes, most_bytes};
    (void)argc;
    if (setrlimit(RLIMIT_FSIZE, &most)) return 99;
    execv(argv[0], argv);
    return 98;
}

static void full_disk_leaves_what_was_there(void **state) {
    (void)state;
    static const rlim_t limits[] = {1, 100, 5000, 200000};
    char  *lines[][9] = {
        {traced_program(), "-p", PROMPT, "--trace", t.path, NULL},
        {compiler, "trace", DEMO, "-p", PROMPT, "-o", t.path, NULL},
        {compiler, "trace", "interpreted:" DEMO, "-p", PROMPT, "-o", t.path, NULL},
    };
    FILE *f = fopen(t.path, "w");
    assert_true(f && fputs("kept", f) >= 0 && !fclose(f));
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        for (size_t k = 0; k < ARRAY_LEN(lines); k++) {
            most_bytes = limits[i];
            child c = child_run((child_setup){.argv = lines[k], .function = run_with_little_disk});
            /* The least of these is too little for the message itself. */
            if (c.exit_code != 1 || (i > 1 && !strstr(c.err, "cannot be written: File too large")))
                fail_msg("%s with %d bytes: exit %d: %s", lines[k][0], (int)limits[i], c.exit_code, c.err);
            child_free(&c);
            assert_int_equal(count_files(), 1);
        }
    size_t size;
    char  *kept = read_file(t.path, &size);
    assert_string_equal(kept, "kept");
    free(kept);
    unlink(t.path);
}

/* ---- interrupts */

/* Waits until there is a file in the folder, or the child has ended. */
static void wait_for_file(pid_t pid) {
    for (int i = 0; i < 5000 && !count_files(); i++) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) return;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

/* Ended while it writes; a trace that was faster is whole. */
static void end_while_writing(char *const *argv, int sig, uint32_t *n_ended) {
    child c = child_start((child_setup){.argv = argv});
    wait_for_file(c.pid);
    kill(c.pid, sig);
    child_finish(&c);
    bool whole = access(t.path, F_OK) == 0;
    if (c.exit_code != (whole ? 0 : 128 + sig)) fail_msg("signal %d: exit %d, %s", sig, c.exit_code, c.err);
    assert_int_equal(count_files(), whole);
    *n_ended += !whole;
    if (whole) unlink(t.path);
    child_free(&c);
}

static void interrupts_leave_nothing(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    static char ids[4 * 500 + 16];
    char *lines[][9] = {
        {compiler, "trace", "reference:" DEMO, "--batch=1", "--tokens", ids, "-o", t.path, NULL},
        {traced_program(), "-t", "1", "--tokens", ids, "--trace", t.path, NULL},
    };
    for (int i = 0; i < 500; i++) sprintf(ids + 4 * i, "%d,", 100 + i); /* 100, … 599 */
    ids[4 * 500 - 1] = 0;
    for (size_t k = 0; k < ARRAY_LEN(lines); k++) {
        uint32_t n_ended = 0;
        for (size_t i = 0; i < 2 * ARRAY_LEN(signals); i++) end_while_writing(lines[k], signals[i % 3], &n_ended);
        assert_true(n_ended > 0);
    }
}

int main(void) {
    const char *given = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_hold_what_was_computed),
        cmocka_unit_test(shapes_of_tensors),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(tokens_that_do_not_fit),
        cmocka_unit_test(stopping),
        cmocka_unit_test(the_weights_themselves),
        cmocka_unit_test(a_model_without_a_trace),
        cmocka_unit_test(program_writes_a_trace),
        cmocka_unit_test(program_still_generates),
        cmocka_unit_test(program_refuses),
        cmocka_unit_test(full_disk_leaves_what_was_there),
        cmocka_unit_test(interrupts_leave_nothing),
    };
    return cmocka_run_group_tests(tests, open_traced, close_traced);
}
