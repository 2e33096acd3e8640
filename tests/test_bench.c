/* `ggufc bench`: that all is there and agrees with itself, whatever the speed of the machine; what work
 * there is in an op; that what measures the machine does the work it is said to.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "typed_model.h"

#include "bench.h"
#include "child.h"
#include "emitted_code.h"
#include "engine.h"
#include "engine_fixture.h"
#include "session.h"
#include "strict_html.h"
#include "strict_json.h"

#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#define DEMO "tests/models/storyteller-q8_0.gguf"

/* Of what is measured: more than the limit is not possible, but a limit is measured too. */
static const double most_share = 1.15;

static char compiler[4096];

static child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

#define RUN(...) run((char *[]){compiler, "bench", __VA_ARGS__, NULL})

/* ---- JSON */

static const char *find(const char *json, const char *path) {
    static char text[400];
    size_t      size;
    const char *at = json_find(json, path, &size);
    if (!at) return NULL;
    snprintf(text, sizeof text, "%.*s", (int)size, at);
    return text;
}

static const char *at(const char *array, unsigned i, const char *name) {
    static char path[100];
    snprintf(path, sizeof path, "%s.%u.%s", array, i, name);
    return path;
}

static double number(const char *json, const char *path) {
    const char *text = find(json, path);
    char       *end;
    if (!text) fail_msg("there is no %s", path);
    double x = strtod(text, &end);
    if (end == text || *end) fail_msg("%s: '%s' is no number", path, text);
    return x;
}

static void assert_is(const char *json, const char *path, const char *expected) {
    const char *text = find(json, path);
    if (!text || strcmp(text, expected)) fail_msg("%s is %s, expected %s", path, text ? text : "absent", expected);
}

static unsigned count(const char *json, const char *array) {
    unsigned n = 0;
    char     path[100];
    for (;; n++) {
        snprintf(path, sizeof path, "%s.%u", array, n);
        size_t size;
        if (!json_find(json, path, &size)) return n;
    }
}

/* What a bench says as JSON, to be freed. */
static char *json_of(child c) {
    if (c.exit_code || c.err_size) fail_msg("exit %d; it said: %s", c.exit_code, c.err);
    const char *wrong = json_error(c.out);
    if (wrong) fail_msg("no JSON from here on: %.60s", wrong);
    free(c.err);
    return c.out;
}

/* ---- the whole model */

static void check_share(const char *json, const char *array, unsigned i) {
    const char *limit = find(json, at(array, i, "limit"));
    if (!strcmp(limit, "null")) {
        assert_is(json, at(array, i, "share"), "null");
        assert_true(number(json, at(array, i, "dots")) + number(json, at(array, i, "fmas")) == 0);
        return;
    }
    assert_true(!strcmp(limit, "\"read\"") || !strcmp(limit, "\"dot\"") || !strcmp(limit, "\"fma\""));
    double share = number(json, at(array, i, "share"));
    if (!(share > 0 && share < most_share)) fail_msg("%s: %g of the limit", at(array, i, ""), share);
}

static void check_test(const char *json, unsigned i, unsigned n_runs) {
    char   path[100];
    double n = number(json, at("tests", i, "n_prompt")) + number(json, at("tests", i, "n_gen"));
    double ns = 0, ts = 0;
    for (unsigned k = 0; k < n_runs; k++) {
        snprintf(path, sizeof path, "tests.%u.samples_ns.%u", i, k);
        double sample = number(json, path);
        ns += sample / n_runs;
        snprintf(path, sizeof path, "tests.%u.samples_ts.%u", i, k);
        assert_true(fabs(number(json, path) * sample / 1e9 / n - 1) < 1e-9);
        ts += number(json, path) / n_runs;
    }
    snprintf(path, sizeof path, "tests.%u.samples_ns.%u", i, n_runs);
    assert_null(find(json, path));
    assert_true(fabs(number(json, at("tests", i, "avg_ns")) - ns) <= 1);
    assert_true(fabs(number(json, at("tests", i, "avg_ts")) / ts - 1) < 1e-9);
    assert_true(number(json, at("tests", i, "stddev_ts")) >= 0);
    assert_is(json, at("tests", i, "model_filename"), "\"" DEMO "\"");
    assert_is(json, at("tests", i, "model_n_params"), "2623744");
    assert_is(json, at("tests", i, "n_batch"), "16");
    assert_int_equal(strlen(find(json, at("tests", i, "test_time"))), 22);
    assert_non_null(find(json, at("tests", i, "cpu_info")));
    check_share(json, "tests", i);
}

/* ---- kernels */

static bool is_kernel(const char *json, unsigned i, bool prefill, unsigned threads) {
    bool is = !strcmp(find(json, at("kernels", i, "prefill")), prefill ? "true" : "false");
    return is && (unsigned)number(json, at("kernels", i, "n_threads")) == threads;
}

/* The kernels of a pass are those of the compiled model: as many calls, all of the work. */
static void check_kernels(const char *json, const engine *e, bool prefill, unsigned threads, uint32_t n_tokens,
                          uint32_t position) {
    const plan *p = e->compilation.variant->plan;
    bench_cost  all = bench_cost_of_graph(e->compilation.graph, n_tokens, position);
    double      calls = 0, dots = 0, fmas = 0, bytes = 0;
    for (unsigned i = 0; i < count(json, "kernels"); i++) {
        if (!is_kernel(json, i, prefill, threads)) continue;
        calls += number(json, at("kernels", i, "n_calls"));
        dots += number(json, at("kernels", i, "dots"));
        fmas += number(json, at("kernels", i, "fmas"));
        bytes += number(json, at("kernels", i, "bytes"));
        assert_true(number(json, at("kernels", i, "ns")) > 0);
        check_share(json, "kernels", i);
        bool table = !strncmp(find(json, at("kernels", i, "name")), "\"rope_table", 11);
        if (table) assert_is(json, at("kernels", i, "interpreted"), "null");
        else assert_true(number(json, at("kernels", i, "interpreted.ns")) > 0);
    }
    assert_true(calls == p->n_body + p->n_head);
    assert_true(fabs(dots / all.dots - 1) < 1e-12 && fabs(fmas / all.fmas - 1) < 1e-12);
    assert_true(fabs(bytes / all.bytes - 1) < 1e-12);
}

static void check_passes(const char *json, const double *threads, unsigned n_threads) {
    assert_int_equal(count(json, "passes"), 2 * n_threads);
    for (unsigned i = 0; i < 2 * n_threads; i++) {
        assert_true(number(json, at("passes", i, "n_threads")) == threads[i / 2]);
        assert_true(number(json, at("passes", i, "unpaired_ns")) == 0);
        assert_true(number(json, at("passes", i, "kernels_ns")) > 0);
    }
}

static void check_names(const char *json, const char *const *names) {
    for (; *names; names++) {
        unsigned found = 0;
        for (unsigned i = 0; i < count(json, "kernels"); i++) {
            char quoted[100];
            snprintf(quoted, sizeof quoted, "\"%s\"", *names);
            found += !strcmp(find(json, at("kernels", i, "name")), quoted);
        }
        if (!found) fail_msg("no kernel makes %s", *names);
    }
}

static void json_holds_all_of_it(void **state) {
    (void)state;
    static const char *const names[] = {"embd", "attn_norm, ffn_norm", "Qcur.rope", "Kcur.rope", "Vcur", "kqv_out",
                                        "ffn_inp", "ffn_swiglu", "l_out", "result_norm", "result_output", NULL};
    static const double threads[] = {1, 2};
    char  *json = json_of(RUN(DEMO, "-p", "40,8", "-n", "6", "-d", "0,20", "-t", "1,2", "-r", "3", "--batch=16",
                              "--ctx=100", "-o", "json"));
    engine e;
    assert_int_equal(count(json, "limits"), 2);
    assert_int_equal(count(json, "tests"), 12);
    for (unsigned i = 0; i < 12; i++) {
        static const double prompts[] = {40, 8, 0}, generated[] = {0, 0, 6};
        assert_true(number(json, at("tests", i, "n_prompt")) == prompts[i % 3]);
        assert_true(number(json, at("tests", i, "n_gen")) == generated[i % 3]);
        assert_true(number(json, at("tests", i, "n_depth")) == (i / 3 % 2 ? 20 : 0));
        assert_true(number(json, at("tests", i, "n_threads")) == threads[i / 6]);
        check_test(json, i, 3);
    }
    check_passes(json, threads, 2);
    check_names(json, names);
    engine_fixture_open(&e, DEMO, "--batch=16 --ctx=100");
    for (unsigned t = 1; t <= 2; t++) {
        check_kernels(json, &e, false, t, 1, 64);
        check_kernels(json, &e, true, t, 16, 0);
    }
    engine_close(&e);
    assert_int_equal(count(json, "variants"), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_is(json, at("variants", i, "flag"), i % 2 ? "\"--no-fuse\"" : "\"--unroll=4\"");
        assert_true(number(json, at("variants", i, "ratio")) > 0);
    }
    free(json);
}

/* More cannot be done than what is measured to be possible: limits are sane in themselves. */
static void limits_are_sane(void **state) {
    (void)state;
    char *json = json_of(RUN(DEMO, "-p", "0", "-n", "1", "-t", "2,1", "-r", "1", "-o", "json"));
    static const char *const names[] = {"memory_bytes_per_second", "weights_bytes_per_second", "dots_per_second",
                                        "fmas_per_second"};
    for (size_t k = 0; k < ARRAY_LEN(names); k++)
        for (unsigned i = 0; i < 2; i++) {
            double x = number(json, at("limits", i, names[k]));
            if (!(x > 1e7 && x < 1e15)) fail_msg("%s: %g", names[k], x);
        }
    free(json);
}

/* Whatever else runs on this machine takes from both alike; a few tries for what takes from one. */
static void kernels_add_up_to_the_whole(void **state) {
    (void)state;
    double ratios[2] = {0};
    for (int i = 0; i < 4; i++) {
        bool  ok = true;
        char *json = json_of(RUN(DEMO, "-p", "64", "-n", "4", "-t", "1", "-r", "25", "-o", "json"));
        for (unsigned k = 0; k < 2; k++) {
            ratios[k] = number(json, at("passes", k, "kernels_ns")) / number(json, at("passes", k, "ns"));
            ok = ok && ratios[k] > 0.7 && ratios[k] < 1.3;
        }
        free(json);
        if (ok) return;
    }
    fail_msg("the kernels' sum is %g and %g of a pass", ratios[0], ratios[1]);
}

/* ---- otherwise compiled */

static void what_is_not_fused_is_listed(void **state) {
    (void)state;
    static const char *const names[] = {"attn_norm, ffn_norm", "Qcur, attn_out", "Qcur.rope", "Kcur.rope",
                                        "Vcur, Kcur", "cache_k", "cache_v", "kqv_out", "ffn_inp, l_out", "ffn_gate, ffn_up",
                                        "ffn_swiglu", NULL};
    static const double threads[] = {1};
    char *json = json_of(RUN("compiled:" DEMO, "--no-fuse", "--unroll=8", "-p", "16", "-n", "3", "-t", "1", "-o",
                             "json", "-r", "1"));
    check_names(json, names);
    check_passes(json, threads, 1);
    assert_is(json, "variants.0.flag", "\"--unroll=full\"");
    assert_is(json, "variants.1.flag", "\"without --no-fuse\"");
    assert_is(json, "flags", "\"--unroll=8 --no-fuse\"");
    free(json);
}

static void only_the_whole_is_interpreted(void **state) {
    (void)state;
    char *json = json_of(RUN("interpreted:" DEMO, "-p", "4", "-n", "2", "-t", "1", "-r", "2", "-o", "json"));
    assert_int_equal(count(json, "tests"), 2);
    assert_int_equal(count(json, "kernels") + count(json, "variants") + count(json, "passes"), 0);
    assert_is(json, "kernels_used", "\"interpreted\"");
    free(json);
}

/* Floats are multiplied by another instruction; the default sizes are cut to the context. */
static void types_of_floats(void **state) {
    (void)state;
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char tool[512], shape[200], words[300], *argv[32] = {tool}, *rest = words;
        int  n = 1;
        const char *tools = getenv("GGUFC_TOOLS"), *path = compiled_path("floats.gguf");
        snprintf(tool, sizeof tool, "%s/make_model", tools && *tools ? tools : "out/tools");
        snprintf(shape, sizeof shape, "--layers 1 --embd 64 --heads 4 --kv-heads 2 --ff 96 --vocab 300 --ctx 20 "
                 "--type %s -o", types[i]);
        snprintf(words, sizeof words, "%s %s", shape, path);
        while ((argv[n] = strtok_r(rest, " ", &rest))) n++;
        assert_int_equal(compiled_run(argv), 0);
        char *json = json_of(RUN((char *)path, "-t", "1", "-r", "1", "-o", "json"));
        assert_true(number(json, "tests.0.n_prompt") == 20 && number(json, "tests.1.n_gen") == 20);
        for (unsigned k = 0; k < count(json, "kernels"); k++)
            assert_true(number(json, at("kernels", k, "dots")) == 0);
        assert_true(number(json, "tests.0.fmas") > 0 && number(json, "passes.0.unpaired_ns") == 0);
        free(json);
    }
}

/* ---- texts */

static unsigned bars(const char *line) {
    unsigned n = 0;
    for (size_t i = 0; line[i] && line[i] != '\n'; i++) n += line[i] == '|';
    return n;
}

static void markdown_is_tables(void **state) {
    (void)state;
    static const char *const headings[] = {"### What this machine can do\n", "### Whole model\n",
        "### What unrolling and fusing bring\n", "### Kernels, generating, 1 thread\n",
        "### Kernels, reading a prompt, 1 thread\n", "| pp8 ", "| tg3 "};
    child    c = RUN(DEMO, "-p", "8", "-n", "3", "-t", "1", "-r", "1");
    unsigned in_table = 0, n_tables = 0;
    if (c.exit_code || c.err_size) fail_msg("exit %d; it said: %s", c.exit_code, c.err);
    for (size_t i = 0; i < ARRAY_LEN(headings); i++)
        if (!strstr(c.out, headings[i])) fail_msg("no %s", headings[i]);
    for (const char *line = c.out; *line; line += strcspn(line, "\n") + 1) {
        unsigned n = *line == '|' ? bars(line) : 0;
        if (n && in_table) assert_int_equal(n, in_table);
        n_tables += n && !in_table;
        in_table = n;
    }
    assert_int_equal(n_tables, 5);
    child_free(&c);
}

static void page_is_html(void **state) {
    (void)state;
    const char *page = compiled_path("page.html");
    char        html[300];
    const char *where;
    snprintf(html, sizeof html, "--html=%s", page);
    child c = RUN(DEMO, "-p", "8", "-n", "3", "-t", "1,2", "-r", "1", html);
    if (c.exit_code || c.err_size) fail_msg("exit %d; it said: %s", c.exit_code, c.err);
    child_free(&c);
    FILE *f = fopen(page, "r");
    assert_non_null(f);
    size_t      size;
    char       *text = child_read(f, &size);
    const char *wrong = html_error(text, &where);
    if (wrong) fail_msg("%s: %.60s", wrong, where);
    assert_null(strstr(text, "<script"));
    unsigned plots = 0, roofs = 0, dots = 0;
    for (const char *s = text; (s = strstr(s, "<svg class=\"plot\"")); s++) plots++;
    for (const char *s = text; (s = strstr(s, "<path class=\"roof")); s++) roofs++;
    for (const char *s = text; (s = strstr(s, "<circle class=\"dot")); s++) dots++;
    assert_int_equal(plots, 2);
    assert_true(roofs >= 6);
    assert_int_equal(dots, 2 * (4 + 2 * 2 * 8)); /* a legend; each of 8 products twice for each pass */
    free(text);
}

/* ---- what is refused */

static const struct {
    const char *args[6];
    int         status;
    const char *message;
} wrong_lines[] = {
    {{NULL}, 2, "no model given; usage: ggufc bench [KERNELS:]MODEL.gguf"},
    {{"interpreted:"}, 2, "no model given"},
    {{DEMO, DEMO}, 2, "is one too many"},
    {{DEMO, "-t", "0"}, 2, "-t: '0' is not a number in range"},
    {{DEMO, "-t", "1,,2"}, 2, "-t: '' is not a number in range"},
    {{DEMO, "-t", "1,x"}, 2, "-t: 'x' is not a number in range"},
    {{DEMO, "-t", "99999"}, 2, "-t: '99999' is not a number in range"},
    {{DEMO, "-p", "1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8"}, 2, "is not a list of at most 16 numbers"},
    {{DEMO, "-p", "-1"}, 2, "-p: '-1' is not a number in range"},
    {{DEMO, "-p", "00000000000000000000000000"}, 2, "is not a number in range"},
    {{DEMO, "-r", "0"}, 2, "-r: '0' is not a number in range"},
    {{DEMO, "-o", "xml"}, 2, "-o: 'xml' is not one of md, json"},
    {{DEMO, "--html="}, 2, "--html: '' is not a file name"},
    {{DEMO, "--unroll=3"}, 2, "--unroll: '3' is not 'full' or a multiple of 4"},
    {{DEMO, "--no-fuse=1"}, 2, "--no-fuse takes no value"},
    {{DEMO, "--frobnicate"}, 2, "unknown option '--frobnicate'"},
    {{"no/such.gguf"}, 1, "no/such.gguf: cannot open"},
    {{DEMO, "-p", "600"}, 1, "600 tokens at a depth of 0 cannot be measured, the context has room for 512"},
    {{DEMO, "-n", "3", "-d", "510"}, 1, "3 tokens at a depth of 510 cannot be measured"},
    {{DEMO, "-d", "512"}, 1, "1 tokens at a depth of 512 cannot be measured"},
    {{DEMO, "--html=" DEMO}, 1, "is read to make it"},
    {{DEMO, "--html=no/such/folder.html"}, 1, "cannot be written"},
    {{DEMO, "--html=/dev/null"}, 1, "is no regular file"},
};

static void wrong_lines_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong_lines); i++) {
        char *argv[10] = {compiler, "bench"};
        for (int k = 0; k < 6; k++) argv[2 + k] = (char *)wrong_lines[i].args[k];
        child c = run(argv);
        const char *newline = strchr(c.err, '\n');
        if (c.exit_code != wrong_lines[i].status || !strstr(c.err, wrong_lines[i].message) || c.out_size ||
            !newline || newline[1])
            fail_msg("line %zu: exit %d; it said: %s", i, c.exit_code, c.err);
        child_free(&c);
    }
}

static void help_tells_of_it(void **state) {
    (void)state;
    child c = RUN("--help");
    assert_int_equal(c.exit_code, 0);
    static const char *const words[] = {"usage: ggufc bench", "-p, --n-prompt=LIST", "--html=FILE", "--no-fuse",
                                        "--unroll=full|N", "-d, --n-depth=LIST"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!strstr(c.out, words[i])) fail_msg("--help has no '%s'", words[i]);
    child_free(&c);
}

/* ---- interrupted */

static bool exists_any(const char *prefix) {
    char command[400];
    snprintf(command, sizeof command, "ls %s* >/dev/null 2>&1", prefix);
    return compiled_run((char *[]){"sh", "-c", command, NULL}) == 0;
}

static void interrupt(int signal_number, int status) {
    const char *page = compiled_path("stopped.html");
    char        html[300];
    snprintf(html, sizeof html, "--html=%s", page);
    char *argv[] = {compiler, "bench", DEMO, "-r", "100", "-n", "500", "-t", "1", html, NULL};
    child c = child_start((child_setup){.argv = argv});
    struct timespec bit = {.tv_nsec = 20000000};
    for (int i = 0; i < 500 && !exists_any(page); i++) nanosleep(&bit, NULL); /* it has begun */
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    kill(c.pid, signal_number);
    child_finish(&c);
    if (c.exit_code != status || c.out_size || c.err_size)
        fail_msg("exit %d; it said: %s%s", c.exit_code, c.out, c.err);
    if (exists_any(page)) fail_msg("it left something behind");
    child_free(&c);
}

static void interrupts_end_it(void **state) {
    (void)state;
    interrupt(SIGINT, 130);
    interrupt(SIGTERM, 143);
}

/* ---- figures */

static void limits_of_work(void **state) {
    (void)state;
    bench_limits l = {.memory = 1, .weights = 10e9, .dots = 100e9, .fmas = 50e9};
    enum bench_bound bound;
    bench_cost reading = {1000, 100, 0}, dots = {100, 2000, 100}, floats = {100, 100, 2000}, none = {0, 0, 0};
    assert_true(fabs(bench_limit_ns(&reading, &l, &bound) - 100) < 1e-9 && bound == BENCH_BOUND_READ);
    assert_true(fabs(bench_limit_ns(&dots, &l, &bound) - 22) < 1e-9 && bound == BENCH_BOUND_DOTS);
    assert_true(fabs(bench_limit_ns(&floats, &l, &bound) - 41) < 1e-9 && bound == BENCH_BOUND_FMAS);
    assert_true(bench_limit_ns(&none, &l, &bound) == 0 && bound == BENCH_UNBOUND);
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2};
    assert_true(bench_median(odd, 3) == 2 && bench_median(even, 4) == 2.5);

    bench_kernel k = {.n_tokens = 8, .interpreted_tokens = 2, .ns = 80, .interpreted_ns = 100};
    assert_true(fabs(bench_kernel_ratio(&k) - 5) < 1e-12); /* by tokens */
    k.head = true;
    assert_true(fabs(bench_kernel_ratio(&k) - 1.25) < 1e-12);
    k.cost.dots = 800;
    k.interpreted.dots = 100;
    assert_true(fabs(bench_kernel_ratio(&k) - 10) < 1e-12); /* by products */
    k.interpreted_ns = 0;
    assert_true(bench_kernel_ratio(&k) == 0);
}

/* The demo: 4 layers of 256, heads of 32, 4 of 8 for keys and values, 512 wide in the middle. */
static void work_of_the_demo(void **state) {
    (void)state;
    engine e;
    double layer = 256 * 256 * 2 + 256 * 128 * 2 + 256 * 512 * 3, head = 256 * 1024;
    engine_fixture_open(&e, DEMO, "");
    bench_cost one = bench_cost_of_graph(e.compilation.graph, 1, 9);
    bench_cost many = bench_cost_of_graph(e.compilation.graph, 5, 10);
    engine_close(&e);
    double cache = 4 * 2 * 2 * 32 * 4; /* bytes of a position */
    assert_true(one.dots == 4 * layer + head && many.dots == 5 * 4 * layer + head);
    assert_true(one.fmas == 4 * 2 * 256 * 10 && many.fmas == 4 * 2 * 256 * (11 + 12 + 13 + 14 + 15));
    assert_true(one.bytes == (4 * layer + head) / 32 * 34 + 10 * cache);
    assert_true(many.bytes == (4 * layer + head) / 32 * 34 + 15 * cache);
}

/* ---- the runtime's part */

/* A timed pass is a pass like any other: the same logits, and every call took some time. */
static void timed_passes_compute_the_same(void **state) {
    (void)state;
    engine      e;
    ggufc_error error;
    int32_t     tokens[20];
    engine_fixture_open(&e, DEMO, "--batch=16 --ctx=64");
    uint64_t n_calls = e.model.prefill.count + e.model.head.count, ns[400];
    assert_true(n_calls <= ARRAY_LEN(ns));
    for (int i = 0; i < 20; i++) tokens[i] = i * 37 % 1024;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        ggufc_session *timed = compiled_session(&e.model, NULL, threads);
        ggufc_session *plain = compiled_session(&e.model, NULL, threads);
        for (uint32_t n = 16, at = 0; at < 20; at += n, n = 1) {
            assert_int_equal(session_time_calls(timed, tokens + at, n, ns, &error), GGUFC_OK);
            assert_int_equal(ggufc_session_evaluate(plain, tokens + at, n, &error), GGUFC_OK);
            assert_memory_equal(ggufc_session_logits(timed), ggufc_session_logits(plain), 1024 * sizeof(float));
            assert_int_equal(ggufc_session_n_past(timed), at + n);
            for (uint64_t i = 0; i < n_calls; i++) assert_true(ns[i] > 0 && ns[i] < 60000000000u);
        }
        assert_int_equal(session_time_calls(timed, tokens, 17, ns, &error), GGUFC_ERROR_OPTIONS);
        assert_int_equal(session_time_calls(timed, tokens, 0, ns, &error), GGUFC_ERROR_OPTIONS);
        assert_int_equal(session_skip(timed, 65, &error), GGUFC_ERROR_CONTEXT);
        assert_int_equal(session_skip(timed, 64, &error), GGUFC_OK);
        assert_int_equal(session_time_calls(timed, tokens, 1, ns, &error), GGUFC_ERROR_CONTEXT);
        assert_int_equal(session_skip(timed, 0, &error), GGUFC_OK);
        assert_int_equal(session_time_calls(timed, tokens, 1, ns, &error), GGUFC_OK);
        ggufc_session_close(plain);
        ggufc_session_close(timed);
    }
    engine_close(&e);
}

/* ---- the code that measures the machine */

/* What sums are: f32, i32, or i16, of which two are together in 32 bits. */
enum sums { SUMS_F32, SUMS_I32, SUMS_I16 };

static double sum_of(const void *memory, enum sums sums) {
    double sum = 0;
    for (size_t i = 0; i < EMIT_PEAK_BYTES / 4; i++)
        sum += sums == SUMS_F32 ? (double)((const float *)memory)[i] : ((const int32_t *)memory)[i];
    for (size_t i = 0; sums == SUMS_I16 && i < EMIT_PEAK_BYTES / 4; i++)
        sum -= ((const int32_t *)memory)[i] - ((const int16_t *)memory)[2 * i] - ((const int16_t *)memory)[2 * i + 1];
    return sum;
}

/* Operands are ones: f32, bytes, or i16 where a lane holds two `columns`. Sums of bytes may be i16. */
static void check_products(const emit_peak_table *t, uint32_t columns, bool pairs, void *memory) {
    const uint32_t ones = columns == 2 && !pairs ? 0x00010001 : 0x01010101;
    const uint32_t rounds = 7;
    const float    one = 1;
    for (int integers = 0; integers < 2; integers++) {
        uint8_t *bytes = memory;
        for (size_t i = 0; i < EMIT_PEAK_BYTES; i++)
            bytes[i] = ((const uint8_t *)(integers ? (const void *)&ones : &one))[i % sizeof one];
        enum sums sums = !integers ? SUMS_F32 : pairs ? SUMS_I16 : SUMS_I32;
        double before = sum_of(memory, sums);
        /* What is not overwritten was there before: a second time tells how much was. */
        (integers ? t->dot : t->fma)(memory, rounds);
        double after = sum_of(memory, sums);
        double products = (double)(integers ? t->dots : t->fmas) * rounds;
        double element = sums == SUMS_I16 ? ones & 0xffff : integers ? ones : 1, lanes = (products - (after - before)) / element;
        /* `lanes` numbers of `element` made room for the sums. */
        assert_true(lanes > 0 && lanes == floor(lanes) && lanes <= EMIT_PEAK_BYTES / (sums == SUMS_I16 ? 2 : 4));
        assert_true(products > 0 && fmod(products, lanes * rounds) == 0);
    }
}

static void check_reads(const emit_peak_table *t, uint8_t *memory) {
    memset(memory, 0, 2 * EMIT_PEAK_STEP);
    assert_int_equal(t->read(memory, EMIT_PEAK_STEP), 0);
    for (uint32_t i = 0; i < 2 * EMIT_PEAK_STEP; i++) {
        memory[i] = 1;
        assert_true(t->read(memory, 2 * EMIT_PEAK_STEP) == 1u << 8 * (i % 4));
        assert_true((t->read(memory, EMIT_PEAK_STEP) != 0) == (i < EMIT_PEAK_STEP));
        memory[i] = 0;
    }
}

static void peaks_are_what_they_say(void **state) {
    (void)state;
    static const struct {
        const char *cpu, *features;
        int         isa; /* of compiled_isas */
        enum quant_type weight;
    } rows[] = {
        {NULL, NULL, COMPILED_NATIVE, QUANT_Q8_0},
        {"x86-64-v3", "+avxvnni", COMPILED_AVX_VNNI, QUANT_Q8_0},
        {"x86-64-v3", NULL, COMPILED_AVX2, QUANT_Q8_0}, {"x86-64-v3", NULL, COMPILED_AVX2, QUANT_Q4_K},
        {"x86-64-v2", NULL, COMPILED_SSSE3, QUANT_Q8_0}, {"x86-64-v2", NULL, COMPILED_SSSE3, QUANT_Q4_K},
        {"x86-64", NULL, COMPILED_GENERIC, QUANT_Q8_0}, {"x86-64", NULL, COMPILED_GENERIC, QUANT_Q4_K},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!compiled_can_run(compiled_isas[rows[i].isa].needs)) continue;
        emitted_code c;
        emitted_begin(&c, rows[i].cpu, rows[i].features);
        emit_peak(c.memory, c.module, c.machine.isa, rows[i].weight);
        const emit_peak_table *table = emitted_end(&c, EMIT_PEAK_SYMBOL);
        void *memory = aligned_alloc(64, EMIT_PEAK_BYTES);
        assert_non_null(memory);
        bool pairs = c.machine.isa->pair_tokens && rows[i].weight == QUANT_Q4_K;
        check_products(table, c.machine.isa->tile_columns, pairs, memory);
        check_reads(table, memory);
        free(memory);
        emitted_free(&c);
    }
}

int main(void) {
    const char *ggufc = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", ggufc && *ggufc ? ggufc : "out/ggufc");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_of_work),
        cmocka_unit_test(work_of_the_demo),
        cmocka_unit_test(timed_passes_compute_the_same),
        cmocka_unit_test(peaks_are_what_they_say),
        cmocka_unit_test(wrong_lines_are_refused),
        cmocka_unit_test(help_tells_of_it),
        cmocka_unit_test(json_holds_all_of_it),
        cmocka_unit_test(limits_are_sane),
        cmocka_unit_test(kernels_add_up_to_the_whole),
        cmocka_unit_test(what_is_not_fused_is_listed),
        cmocka_unit_test(only_the_whole_is_interpreted),
        cmocka_unit_test(types_of_floats),
        cmocka_unit_test(markdown_is_tables),
        cmocka_unit_test(page_is_html),
        cmocka_unit_test(interrupts_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
