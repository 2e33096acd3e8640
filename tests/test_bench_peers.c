/* bench.sh and bench_peers.sh with peers that are scripts: what they are asked, and what becomes of
 * what they answer. The programs of ours are $GGUFC and those in $GGUFC_TOOLS. */
#include "child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_bench_peers.XXXXXX";

static const char *in_folder(const char *name) {
    static char paths[4][512];
    static int  turn;
    char       *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* What llama-bench prints with -o json, but for the fields that nobody reads. */
static const char peer_text[] =
    "#!/bin/sh\n"
    "echo \"$@\" >>\"$0.asked\"\n"
    "echo noise >&2\n"
    "cat <<END\n"
    "[\n"
    "  {\n    \"n_threads\": 1,\n    \"n_prompt\": 64,\n    \"n_gen\": 0,\n    \"avg_ts\": 1.5,\n"
    "    \"samples_ns\": [ 1, 2 ],\n    \"samples_ts\": [ 5000.5, 7e+03, 6000 ]\n  },\n"
    "  {\n    \"n_threads\": 1,\n    \"n_prompt\": 0,\n    \"n_gen\": 16,\n    \"avg_ts\": 1.5,\n"
    "    \"samples_ns\": [ 1, 2 ],\n    \"samples_ts\": [ 731, 733, 732 ]\n  }\n"
    "]\n"
    "END\n";

static void write_script(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(in_folder(name), 0700), 0);
}

static const char *read_whole(const char *path) {
    static char text[16384];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* Everything a user can set is unset, but for what `variables` sets: words in which @ is the folder. */
static child run(const char *variables, const char *command) {
    char line[2048];
    int  n = snprintf(line, sizeof line, "unset LLAMA_BENCH IK_LLAMA_BENCH LLAMA_BENCH_AVX2 "
                      "IK_LLAMA_BENCH_AVX2 LLAMA_BENCH_SSE42 IK_LLAMA_BENCH_SSE42 "
                      "BENCH_MODELS BENCH_QUICK BENCH_ROUNDS BENCH_THREADS; ");
    const char *parts[] = { variables, " sh tests/", command };
    for (size_t i = 0; i < 3; i++)
        for (const char *s = parts[i]; *s; s++)
            n += snprintf(line + n, sizeof line - (size_t)n, "%.*s", *s == '@' ? 64 : 1,
                          *s == '@' ? folder : s);
    char *argv[] = { "/bin/sh", "-c", line, NULL };
    return child_run((child_setup){ .argv = argv });
}

static void check(const char *variables, const char *command, int exit_code, const char *out,
                  const char *err) {
    child c = run(variables, command);
    assert_string_equal(c.out, out);
    assert_string_equal(c.err, err);
    assert_int_equal(c.exit_code, exit_code);
    child_free(&c);
}

#define BOTH "prefill 5000.5\nprefill 7e+03\nprefill 6000\ndecode 731\ndecode 733\ndecode 732\n"

static void test_asked(void **state) {
    (void)state;
    static const struct {
        const char *variables, *command, *asked; /* asked: after the model; NULL: nobody is */
    } cases[] = {
        { "LLAMA_BENCH=@/peer", "llama.cpp native", "-t 1 -r 3 -o json -p 64 -n 16\n" },
        { "IK_LLAMA_BENCH=@/peer", "ik_llama.cpp native", "-t 1 -r 3 -o json -p 64 -n 16\n" },
        { "LLAMA_BENCH_AVX2=@/peer", "llama.cpp avx2", "-t 1 -r 3 -o json -p 64 -n 16\n" },
        { "LLAMA_BENCH_SSE42=@/peer", "llama.cpp sse42", "-t 1 -r 3 -o json -p 64 -n 16\n" },
        { "LLAMA_BENCH=@/peer", "llama.cpp avx2", NULL },
        { "LLAMA_BENCH_AVX2=@/peer", "llama.cpp sse42", NULL },
        { "LLAMA_BENCH=@/peer", "ik_llama.cpp native", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char command[256], asked[256];
        snprintf(command, sizeof command, "bench_peers.sh measure %s m.gguf 1 64 16 0 3", cases[i].command);
        unlink(in_folder("peer.asked"));
        check(cases[i].variables, command, 0, cases[i].asked ? BOTH : "", "");
        if (!cases[i].asked) {
            assert_int_equal(access(in_folder("peer.asked"), F_OK), -1);
            continue;
        }
        snprintf(asked, sizeof asked, "-m m.gguf %s", cases[i].asked);
        assert_string_equal(read_whole(in_folder("peer.asked")), asked);
    }
}

static void test_asked_behind(void **state) {
    (void)state;
    unlink(in_folder("peer.asked"));
    check("LLAMA_BENCH=@/peer",
          "bench_peers.sh measure llama.cpp native m.gguf 2 64 16 512 1", 0, BOTH, "");
    check("IK_LLAMA_BENCH=@/peer",
          "bench_peers.sh measure ik_llama.cpp native m.gguf 2 64 16 512 1", 0, BOTH, "");
    assert_string_equal(read_whole(in_folder("peer.asked")),
                        "-m m.gguf -t 2 -r 1 -o json -fa 1 -d 512 -p 64 -n 16\n"
                        "-m m.gguf -t 2 -r 1 -o json -fa 1 -p 0 -n 0 -gp 512,16\n");
}

static void test_list(void **state) {
    (void)state;
    check("", "bench_peers.sh list", 0, "", "");
    check("IK_LLAMA_BENCH=@/peer", "bench_peers.sh list", 0, "ik_llama.cpp\n", "");
    check("LLAMA_BENCH_SSE42=@/peer", "bench_peers.sh list", 0, "llama.cpp\n", "");
    check("LLAMA_BENCH_AVX2=@/peer IK_LLAMA_BENCH=@/peer", "bench_peers.sh list", 0,
          "llama.cpp\nik_llama.cpp\n", "");
}

static void test_refused(void **state) {
    (void)state;
    check("IK_LLAMA_BENCH_AVX2=/none", "bench.sh @", 2, "",
          "bench: IK_LLAMA_BENCH_AVX2: /none is not a program\n");
    child c = run("BENCH_MODELS='demo nothing'", "bench.sh @");
    assert_int_equal(c.exit_code, 2);
    assert_string_equal(c.out, "");
    assert_ptr_equal(strstr(c.err, "bench: BENCH_MODELS: no row is called nothing; there are demo "), c.err);
    child_free(&c);
}

static void test_failing(void **state) {
    (void)state;
    char said[512];
    snprintf(said, sizeof said, "bench: llama.cpp failed: %s -m m.gguf -t 1 -r 3 -o json -p 64 -n 16\n",
             in_folder("broken"));
    check("LLAMA_BENCH=@/broken", "bench_peers.sh measure llama.cpp native m.gguf 1 64 16 0 3", 1, "", said);
}

/* The demo model, compiled and run, beside a peer that answers and one that fails. */
static void test_report(void **state) {
    (void)state;
    const char *ggufc = getenv("GGUFC"), *tools = getenv("GGUFC_TOOLS");
    char path[4096];
    assert_int_equal(symlink(ggufc ? ggufc : realpath("out/ggufc", path), in_folder("ggufc")), 0);
    assert_int_equal(symlink(tools ? tools : realpath("out/tools", path), in_folder("tools")), 0);
    child c = run("BENCH_QUICK=1 BENCH_ROUNDS=1 BENCH_THREADS=1 LLAMA_BENCH=@/peer IK_LLAMA_BENCH=@/broken",
                  "bench.sh @");
    if (c.exit_code) fputs(c.err, stderr);
    assert_int_equal(c.exit_code, 0);
    const char *row = strstr(c.out, "\n| demo | 1 |");
    assert_non_null(row);
    double decode, ratio, prefill, ratio_prefill;
    assert_int_equal(sscanf(row, "\n| demo | 1 | %lf | 732 | %lf | – | – | %lf | 6000 | %lf | – | – |\n",
                            &decode, &ratio, &prefill, &ratio_prefill), 4);
    assert_true(decode > 0 && prefill > 0);
    assert_float_equal(ratio, decode / 732, 0.006 + 0.01 * ratio);
    assert_float_equal(ratio_prefill, prefill / 6000, 0.006 + 0.01 * ratio_prefill);
    assert_non_null(strstr(c.err, "bench: ik_llama.cpp failed: "));
    assert_non_null(strstr(c.out, "| model | compiled in |"));
    assert_string_equal(read_whole(in_folder("bench/report.md")), c.out);
    child_free(&c);
}

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    write_script("peer", peer_text);
    write_script("broken", "#!/bin/sh\nexit 1\n");
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    char *argv[] = { "/bin/rm", "-rf", folder, NULL };
    child c = child_run((child_setup){ .argv = argv });
    int   failed = c.exit_code;
    child_free(&c);
    return failed;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked),   cmocka_unit_test(test_asked_behind),
        cmocka_unit_test(test_list),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_failing), cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
