/* `ggufc compare` as a user has it: exit statuses, what is said of wrong lines, the report in its three
 * forms, maps, and the files of llama-debug.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "compare_fixture.h"

#include "child.h"
#include "strict_html.h"
#include "strict_json.h"

#include <dirent.h>
#include <fcntl.h>

#define INTERPRETED "interpreted:" DEMO
#define REFERENCE   "reference:" DEMO
#define IDS         "--tokens=1,442,439,261,441,632"
#define STORY_TEXT  "Once upon a time, Mia lived near the river. She had a red ball"

static char compiler[4096];
static const char *right, *wrong; /* recordings: wrong's Qcur is transposed in every layer */

static child run(char *const *argv) {
    return child_run((child_setup){ .argv = argv });
}

#define COMPARE(...) run((char *[]){ compiler, "compare", "-t", "1", __VA_ARGS__, NULL })

static int begin(void **state) {
    (void)state;
    const char  *given = getenv("GGUFC");
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .layer = -1 };
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
    right = in_folder("right.gguf");
    wrong = in_folder("wrong.gguf");
    engine_write(&e, story, STORY, right);
    e.mistake = "transposed";
    engine_write(&e, story, STORY, wrong);
    return 0;
}

static bool is_one_line(const char *text) {
    const char *newline = strchr(text, '\n');
    return newline && newline != text && !newline[1];
}

/* It ended with that status, said nothing on standard error, and `part` on standard output. */
static void assert_said(child c, int status, const char *part) {
    if (c.exit_code != status || c.err_size || !has(c.out, part))
        fail_msg("exit %d, expected %d with \"%s\": %s%s", c.exit_code, status, part, c.out, c.err);
    child_free(&c);
}

/* It ended with 2 and one line holding `message`, and reported nothing. */
static void assert_refused(child c, const char *message) {
    if (c.exit_code != 2 || !is_one_line(c.err) || !strstr(c.err, message) || c.out_size)
        fail_msg("exit %d, expected 2 with \"%s\": %s%s", c.exit_code, message, c.out, c.err);
    child_free(&c);
}

/* ---- statuses */

static void statuses(void **state) {
    (void)state;
    assert_said(COMPARE(INTERPRETED, (char *)right), 0, "\nsame\n");
    assert_said(COMPARE((char *)right, DEMO), 0, "\nsame\n");
    assert_said(COMPARE(INTERPRETED, (char *)wrong), 1, "\nQcur-0: matches when attn_q.weight is read transposed\n");
    assert_said(COMPARE((char *)wrong, REFERENCE), 1, "\nQcur-0: matches when attn_q.weight is read transposed\n");
    assert_said(COMPARE(INTERPRETED, (char *)right, IDS), 2, "likely cause: B goes on where A ends, after 6 tokens");
    assert_said(COMPARE(INTERPRETED, REFERENCE, IDS), 0, "tokens  6: 1, 442, 439, 261, 441, 632\n");
    assert_said(COMPARE(INTERPRETED, REFERENCE, "-p", "Once upon a time,"), 0, "\"Once upon a time,\"\n");
    assert_refused(COMPARE(INTERPRETED, "no/such.gguf", IDS), "no/such.gguf: cannot open: No such file");
    assert_refused(COMPARE((char *)right, (char *)wrong), "are recordings, which cannot tell what is right");
    assert_said(COMPARE((char *)right, (char *)wrong, "--model=" DEMO), 1, "Qcur-0: matches when");
    assert_said(COMPARE("--model", DEMO, (char *)right, (char *)right), 0, "\nsame\n");
}

static void help(void **state) {
    (void)state;
    static const char *const told[] = {
        "usage: ggufc compare A B", "Exit status: 0 same, 1 different, 2 could not compare.", "--tokens=IDS",
        "--slack=X", "--map=FILE|PATTERN=NAME", "--model=MODEL.gguf", "--json", "--html=FILE", "--batch=N",
    };
    child c = COMPARE("--help");
    assert_int_equal(c.exit_code, 0);
    for (size_t i = 0; i < ARRAY_LEN(told); i++)
        if (!has(c.out, told[i])) fail_msg("--help does not tell of %s", told[i]);
    child_free(&c);
}

/* ---- wrong lines */

static const struct {
    const char *args[5], *message;
} wrong_lines[] = {
    { { NULL }, "two sides are needed; usage: ggufc compare A B" },
    { { DEMO }, "two sides are needed; usage: ggufc compare A B" },
    { { DEMO, DEMO, DEMO }, "is one too many: usage: ggufc compare A B" },
    { { DEMO, DEMO }, "nothing to evaluate: give a text with -p or -f, or ids with --tokens" },
    { { DEMO, DEMO, "-p" }, "-p needs a value: TEXT" },
    { { DEMO, DEMO, "-p", "a", "--tokens=1" }, "give only one of -p, -f and --tokens" },
    { { DEMO, DEMO, "--file=x", "--tokens=1" }, "give only one of -p, -f and --tokens" },
    { { DEMO, DEMO, "--tokens=" }, "--tokens: '' is not a list of token ids" },
    { { DEMO, DEMO, "--tokens=1,,2" }, "--tokens: '1,,2' is not a list of token ids such as 1,2,3" },
    { { DEMO, DEMO, "--tokens=-1" }, "--tokens: '-1' is not" },
    { { INTERPRETED, DEMO, "--tokens=1,1024" }, "token 1024 at position 1 is not in the vocabulary of 1024" },
    { { DEMO, DEMO, "-f", "no/such" }, "no/such: No such file or directory" },
    { { DEMO, DEMO, IDS, "--slack=0" }, "--slack: '0'" },
    { { DEMO, DEMO, IDS, "--slack=0.5" }, "--slack: '0.5'" },
    { { DEMO, DEMO, IDS, "--slack=nan" }, "--slack: 'nan'" },
    { { DEMO, DEMO, IDS, "--slack=x" }, "--slack: 'x'" },
    { { DEMO, DEMO, IDS, "--map=no/such" }, "no/such: cannot open: No such file or directory" },
    { { INTERPRETED, DEMO, IDS, "--map={l}=x-{l}" }, "a map is for a folder of text dumps; " },
    { { INTERPRETED, "tests", "--map={l=x" }, "map:1: " },
    { { DEMO, DEMO, IDS, "--threads=0" }, "--threads: '0'" },
    { { DEMO, DEMO, IDS, "-t", "1025" }, "-t: '1025'" },
    { { DEMO, DEMO, IDS, "--batch=0" }, "--batch: '0'" },
    { { DEMO, DEMO, IDS, "--html=" }, "--html: '' is not a file name" },
    { { DEMO, DEMO, IDS, "--json=1" }, "--json takes no value" },
    { { DEMO, DEMO, IDS, "--jsn" }, "unknown option '--jsn'" },
    { { DEMO, DEMO, IDS, "-o" }, "unknown option '-o'" },
    { { INTERPRETED, DEMO, IDS, "--model=" DEMO }, "--model is for two recordings; " INTERPRETED " is a model" },
    { { DEMO, INTERPRETED, IDS, "--cpu=i9" }, "--cpu=i9 is not known" },
    { { DEMO, INTERPRETED, IDS, "--arch=no/such" }, "no/such: No such file or directory" },
    { { DEMO, "tests/test_compare_cli.c", IDS }, "not a GGUF file" },
    { { DEMO, "tests/models", IDS }, "tests/models" },
};

static void wrong_lines_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong_lines); i++) {
        const char *const *a = wrong_lines[i].args;
        assert_refused(COMPARE((char *)a[0], (char *)a[1], (char *)a[2], (char *)a[3], (char *)a[4]),
                       wrong_lines[i].message);
    }
}

/* ---- JSON */

static void assert_json(const char *text, const char *path, const char *expected) {
    size_t      size;
    const char *found = json_find(text, path, &size);
    if (!found || size != strlen(expected) || memcmp(found, expected, size))
        fail_msg("%s is %.*s, expected %s", path, found ? (int)size : 6, found ? found : "absent", expected);
}

static double json_double(const char *text, const char *path) {
    size_t      size;
    const char *found = json_find(text, path, &size);
    assert_non_null(found);
    return atof(found);
}

static child compare_json(const char *a, const char *b, const char *more, int status) {
    child c = COMPARE((char *)a, (char *)b, "--json", (char *)more);
    const char *error = json_error(c.out);
    if (c.exit_code != status || c.err_size) fail_msg("exit %d, expected %d: %s", c.exit_code, status, c.err);
    if (error) fail_msg("no JSON: %.60s", error);
    char number[8];
    snprintf(number, sizeof number, "%d", status);
    assert_json(c.out, "exit_status", number);
    return c;
}

static void json_of_what_is_wrong(void **state) {
    (void)state;
    child c = compare_json(INTERPRETED, wrong, NULL, 1);
    assert_json(c.out, "outcome", "\"different\"");
    assert_json(c.out, "first", "2");
    assert_json(c.out, "suspect", "\"B\"");
    assert_json(c.out, "ops.2.name", "\"Qcur-0\"");
    assert_json(c.out, "ops.2.kind", "\"matmul\"");
    assert_json(c.out, "ops.2.shape", "\"[256]\"");
    assert_json(c.out, "ops.2.layer", "0");
    assert_json(c.out, "ops.2.beyond", "true");
    assert_json(c.out, "ops.2.alone_beyond", "true");
    assert_json(c.out, "ops.2.between.n_values", "3840");
    assert_json(c.out, "ops.1.beyond", "false");
    assert_json(c.out, "ops.62.name", "\"result_output\"");
    assert_json(c.out, "verdict", "\"Qcur-0: matches when attn_q.weight is read transposed\"");
    assert_json(c.out, "hypotheses.0.what", "\"attn_q.weight is read transposed\"");
    assert_json(c.out, "hypotheses.0.matches", "true");
    assert_json(c.out, "hypotheses.1.matches", "false");
    assert_json(c.out, "tokens.1", "442");
    assert_json(c.out, "n_tokens", "15");
    assert_json(c.out, "slack", "8");
    assert_json(c.out, "tokens_differ", "null");
    assert_true(json_double(c.out, "ops.2.between.nmse") > 1);
    assert_true(json_double(c.out, "ops.2.between.worst") >= json_double(c.out, "ops.2.between.nmse"));
    assert_true(json_double(c.out, "ops.2.worst_tolerance") > 0);
    child_free(&c);
}

static void json_of_what_is_not(void **state) {
    (void)state;
    child c = compare_json(INTERPRETED, right, NULL, 0);
    assert_json(c.out, "outcome", "\"same\"");
    assert_json(c.out, "first", "-1");
    assert_json(c.out, "verdict", "null");
    assert_json(c.out, "hypotheses", "[]");
    assert_json(c.out, "logits.n_tokens", "15");
    child_free(&c);
    c = compare_json(INTERPRETED, right, IDS, 2);
    assert_json(c.out, "outcome", "\"failed\"");
    assert_json(c.out, "ops", "[]");
    size_t size;
    assert_true(has(json_find(c.out, "tokens_differ", &size), "A has 6 tokens: 1'<s>' 442' Once'"));
    child_free(&c);
}

/* ---- the page */

static bool is_page(const char *path) {
    size_t size;
    FILE  *f = fopen(path, "rb");
    if (!f) return false;
    char *text = child_read(f, &size);
    const char *where, *error = html_error(text, &where);
    if (error) fail_msg("%s: %s at %.60s", path, error, where);
    bool whole = size > 1000 && has(text, "</html>");
    free(text);
    return whole;
}

static uint32_t count_files(const char *path) {
    uint32_t n = 0;
    DIR     *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2;
}

static void pages(void **state) {
    (void)state;
    const char *to = new_folder("pages"), *page = in_folder("pages/a.html");
    arena      *a = arena_new();
    char       *flag = arena_printf(a, "--html=%s", page);
    assert_said(COMPARE(INTERPRETED, (char *)wrong, flag), 1, "\ndifferent\n");
    assert_true(is_page(page));
    assert_said(COMPARE(INTERPRETED, (char *)right, flag), 0, "\nsame\n"); /* in its place */
    assert_true(is_page(page));
    assert_said(COMPARE(INTERPRETED, (char *)right, flag, IDS), 2, "\nfailed\n");
    assert_true(is_page(page));
    assert_int_equal(count_files(to), 1);
    arena_free(a);
}

/* What could not be compared leaves what was there. */
static void pages_are_whole_or_not_at_all(void **state) {
    (void)state;
    const char *to = new_folder("pages"), *page = in_folder("pages/a.html");
    const char *copy = in_folder("pages/copy.gguf");
    arena      *a = arena_new();
    char       *flag = arena_printf(a, "--html=%s", page);
    size_t      size;
    assert_refused(COMPARE(INTERPRETED, "no/such.gguf", IDS, flag), "no/such.gguf: cannot open");
    assert_int_equal(count_files(to), 0);
    write_text(page, "before");
    assert_refused(COMPARE(INTERPRETED, "no/such.gguf", IDS, flag), "no/such.gguf: cannot open");
    char *text = child_read(fopen(page, "rb"), &size);
    assert_string_equal(text, "before");
    free(text);
    assert_refused(COMPARE(INTERPRETED, (char *)right, "--html=no/such/x.html"), "cannot be written: No such file");
    assert_refused(COMPARE(INTERPRETED, (char *)right, "--html=/dev/null"), "is no regular file to be replaced");
    assert_refused(COMPARE(INTERPRETED, (char *)right, arena_printf(a, "--html=%s", to)), "is no regular file");
    assert_int_equal(count_files(to), 1);
    variant_with_key(DEMO, "llama.context_length", &(uint32_t){ 512 }, 4, "pages/copy.gguf");
    flag = arena_printf(a, "--html=%s", copy);
    assert_refused(COMPARE(arena_printf(a, "reference:%s", copy), (char *)right, flag),
                   "copy.gguf: is read to make it");
    assert_refused(COMPARE(INTERPRETED, (char *)right, arena_printf(a, "--html=%s", right)), "is read to make it");
    assert_int_equal(count_files(to), 2);
    arena_free(a);
}

static void nowhere_to_write(void **state) {
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full < 0) skip();
    child c = child_run((child_setup){ .argv = (char *[]){ compiler, "compare", INTERPRETED, (char *)right, NULL },
                                       .out_fd = full });
    assert_int_equal(c.exit_code, 2);
    assert_true(has(c.err, "standard output: No space left on device"));
    child_free(&c);
    close(full);
}

/* ---- colour */

/* What is written to a terminal. */
static char *run_in_terminal(const char *term, const char *no_colour) {
    static char text[65536];
    size_t      n = 0;
    int         master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0 && !grantpt(master) && !unlockpt(master));
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    setenv("TERM", term, 1);
    setenv("NO_COLOR", no_colour, 1);
    child c = child_start((child_setup){ .argv = (char *[]){ compiler, "compare", INTERPRETED, (char *)wrong, NULL },
                                         .out_fd = slave });
    close(slave);
    for (ssize_t got; (got = read(master, text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    text[n] = 0;
    close(master);
    child_finish(&c);
    assert_int_equal(c.exit_code, 1);
    child_free(&c);
    return text;
}

static void colour_is_for_terminals(void **state) {
    (void)state;
    child c = COMPARE(INTERPRETED, (char *)wrong);
    assert_null(strchr(c.out, '\033'));
    child_free(&c);
    assert_non_null(strstr(run_in_terminal("xterm", ""), "\033["));
    assert_null(strchr(run_in_terminal("xterm", "1"), '\033'));
    assert_null(strchr(run_in_terminal("dumb", ""), '\033'));
    unsetenv("NO_COLOR");
}

/* ---- maps and slack */

/* The last layer's output, as the engine that is right has it, under a name of nobody's. */
static const char *write_renamed(void) {
    const char  *to = new_folder("dumps"), *acts = in_folder("l_out.gguf");
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .layer = -1, .filter = "l_out-3" };
    arena       *a = arena_new();
    engine_write(&e, story, STORY, acts);
    gguf_file   *f = variant_open(a, acts);
    const float *x = (const float *)(const void *)(f->data + f->tensors[0].offset);
    FILE        *file = fopen(arena_printf(a, "%s/block.3.output.txt", to), "w");
    assert_non_null(file);
    for (uint64_t i = 0; i < f->tensors[0].bytes / sizeof *x; i++) fprintf(file, "%.9g\n", (double)x[i]);
    assert_int_equal(fclose(file), 0);
    gguf_close(f);
    arena_free(a);
    return to;
}

static void maps(void **state) {
    (void)state;
    char *dumps = (char *)write_renamed();
    char  ids[256] = "--tokens=", *map = (char *)in_folder("names.map");
    for (int i = 0; i < STORY; i++)
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), i ? ",%d" : "%d", story[i]);
    write_text(map, "# ours\nblock.{l}.output.txt = l_out-{l}\n");
    assert_refused(COMPARE(INTERPRETED, dumps, ids), "have no activation in common");
    assert_said(COMPARE(INTERPRETED, dumps, ids, "--map=block.{l}.output.txt=l_out-{l}"), 0, "62 of 63 ops are not");
    assert_said(COMPARE(INTERPRETED, dumps, ids, "--map", map), 0, "The one op that both sides have agrees");
    assert_said(COMPARE(dumps, INTERPRETED, ids, "--map", map), 0, "The one op that both sides have agrees");
    assert_said(COMPARE(INTERPRETED, dumps, ids, "--map=block.{l}.output.txt=l_out-2", "--map=a=b"), 1, "l_out-2");
    write_text(map, "x.txt\n");
    assert_refused(COMPARE(INTERPRETED, dumps, ids, "--map", map), "names.map:1: ");
}

/* The same error with more slack. */
static void slack(void **state) {
    (void)state;
    const char  *acts = in_folder("eps.gguf");
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .mistake = "eps-1e-6", .layer = 3 };
    engine_write(&e, story, STORY, acts);
    assert_said(COMPARE(INTERPRETED, (char *)acts), 1, "attn_norm-3: matches when eps is 1e-06 instead of 1e-05");
    assert_said(COMPARE(INTERPRETED, (char *)acts, "--slack", "1000"), 0, "\nsame\n");
    child c = compare_json(INTERPRETED, acts, "--slack=1e6", 0);
    assert_json(c.out, "slack", "1000000");
    child_free(&c);
}

static void batches(void **state) {
    (void)state;
    child whole = COMPARE(INTERPRETED, (char *)wrong), parts = COMPARE(INTERPRETED, (char *)wrong, "--batch=4");
    assert_string_equal(whole.out, parts.out);
    child_free(&whole);
    child_free(&parts);
}

/* ---- llama-debug */

static void write_logits(const char *name, const char *acts, const char *ids, const char *prompt) {
    arena     *a = arena_new();
    gguf_file *f = variant_open(a, acts);
    const gguf_tensor *t = gguf_find_tensor(f, "result_output");
    uint64_t   row = t->dims[0] * sizeof(float);
    write_bytes(in_folder(name), f->data + t->offset + t->bytes - row, row);
    write_bytes(in_folder(ids), story, sizeof story);
    write_text(in_folder(prompt),
               "prompt: " STORY_TEXT "\nn_tokens: 15\n"
               "token ids: 1, 442, 439, 261, 441, 632, 380, 338, 262, 794, 661, 407, 261, 680, 492\n");
    gguf_close(f);
    arena_free(a);
}

static void logits_of_llama_debug(void **state) {
    (void)state;
    write_logits("llamacpp-good.bin", right, "llamacpp-good-tokens.bin", "llamacpp-good-prompt.txt");
    write_logits("llamacpp-bad.bin", wrong, "llamacpp-bad-tokens.bin", "llamacpp-bad-prompt.txt");
    char *good = (char *)in_folder("llamacpp-good.bin"), *bad = (char *)in_folder("llamacpp-bad.bin");
    child c = compare_json(INTERPRETED, good, NULL, 0);
    assert_json(c.out, "what_b", "\"llama-debug logits\"");
    assert_json(c.out, "logits.n_tokens", "1");
    assert_json(c.out, "logits.same_best", "1");
    assert_json(c.out, "ops.62.between.n_tokens", "1");
    assert_json(c.out, "ops.0.between", "null");
    child_free(&c);
    assert_said(COMPARE(bad, INTERPRETED), 1, "The first op beyond tolerance is result_output (");
    assert_said(COMPARE(INTERPRETED, good, "-p", STORY_TEXT), 0, "\nsame\n");
    assert_said(COMPARE(INTERPRETED, good, "-p", "Once upon a time, Mia"), 2, "likely cause: B goes on where A ends");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses),
        cmocka_unit_test(help),
        cmocka_unit_test(wrong_lines_are_refused),
        cmocka_unit_test(json_of_what_is_wrong),
        cmocka_unit_test(json_of_what_is_not),
        cmocka_unit_test(pages),
        cmocka_unit_test(pages_are_whole_or_not_at_all),
        cmocka_unit_test(nowhere_to_write),
        cmocka_unit_test(colour_is_for_terminals),
        cmocka_unit_test(maps),
        cmocka_unit_test(slack),
        cmocka_unit_test(batches),
        cmocka_unit_test(logits_of_llama_debug),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
