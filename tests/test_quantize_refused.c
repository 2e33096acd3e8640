/* What `ggufc quantize` refuses, and what it leaves behind: one line on standard error, the right exit
 * status, OUT absent or as it was, and no other file, whether its input is wrong, a disk is full or it is
 * ended by a signal. */
#include "quantize_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

static bool is_one_line(const char *text) {
    const char *newline = strchr(text, '\n');
    return newline && newline != text && !newline[1];
}

/* It ended so, with one line holding `message`, and there is no OUT nor any other file. */
static void assert_refused_with(const char *words, int status, const char *message,
                                child_function *function) {
    child c = start_line(words, function);
    child_finish(&c);
    if (c.exit_code != status || !is_one_line(c.err) || !strstr(c.err, message) || c.out_size)
        fail_msg("quantize %s: exit %d, expected %d with \"%s\"; it said: %s%s", words, c.exit_code, status,
                 message, c.out, c.err);
    if (exists(out) || has_temporary()) fail_msg("quantize %s: left a file", words);
    child_free(&c);
}

static void assert_refused(const char *words, int status, const char *message) {
    assert_refused_with(words, status, message, NULL);
}

static int clean(void **state) {
    (void)state;
    unlink(out);
    unlink(importance);
    return 0;
}

/* ---- lines */

static void wrong_lines_are_usage(void **state) {
    (void)state;
    static const struct {
        const char *words, *message;
    } rows[] = {
        { "", "no model given" },
        { "{wide}", "no output and no type given" },
        { "{wide} {out}", "no type given" },
        { "{wide} Q8_0", "no output given" },
        { "{wide} Q4_K_M 2", "no output given" },
        { "--dry-run {wide}", "no output and no type given" },
        { "{wide} {out} Q9_0", "TYPE: 'Q9_0' is not one that --help lists" },
        { "{wide} {out} Q8_K", "TYPE: 'Q8_K'" },
        { "{wide} {out} Q8_0 x", "THREADS: 'x' is not a number in range" },
        { "{wide} {out} Q8_0 2 3", "'3' is one too many" },
        { "{wide} {out} Q8_0 -t -1", "-t: '-1' is not a number in range" },
        { "--dry-run {wide} Q8_0 2 3", "too many words" },
        { "{wide} {out} Q8_0 --quick", "unknown option '--quick'" },
        { "{wide} {out} Q8_0 --pure=yes", "--pure takes no value" },
        { "{wide} {out} Q8_0 --imatrix", "--imatrix needs a value" },
        { "--tensor-type attn_v {wide} {out} Q8_0", "'attn_v' is not NAME=TYPE" },
        { "--tensor-type =q8_0 {wide} {out} Q8_0", "is not NAME=TYPE" },
        { "--tensor-type attn_v=Q4_K_M {wide} {out} Q8_0", "with a type of tensors" },
        { "--tensor-type attn_(v=q8_0 {wide} {out} Q8_0", "with a regular expression" },
        { "--tensor-type (?!attn)=q8_0 {wide} {out} Q8_0", "with a regular expression" },
        { "--output-tensor-type Q9 {wide} {out} Q8_0", "'Q9' is not a type of tensors" },
        { "--token-embedding-type Q4_K_S {wide} {out} Q8_0", "'Q4_K_S' is not a type of tensors" },
        { "--override-kv a {wide} {out} Q8_0", "'a' is not KEY=TYPE:VALUE" },
        { "--override-kv a=int:-1 {wide} {out} Q8_0", "is not KEY=TYPE:VALUE" },
        { "--override-kv a=float:x {wide} {out} Q8_0", "is not KEY=TYPE:VALUE" },
        { "--override-kv a=bool:1 {wide} {out} Q8_0", "is not KEY=TYPE:VALUE" },
        { "--override-kv a=list:1 {wide} {out} Q8_0", "is not KEY=TYPE:VALUE" },
        { "--override-kv general.alignment=int:8 {wide} {out} Q8_0", "the alignment is kept" },
        { "--override-kv split.count=int:3 {wide} {out} Q8_0", "the result is one file" },
        { "--tensor-type-file= {wide} {out} Q8_0", "'' is not a file name" },
        { "--tensor-type a\\tb=q8_0 {wide} {out} Q8_0", "with a regular expression" },
        { "--tensor-type [a\\x41]=q8_0 {wide} {out} Q8_0", "with a regular expression" },
        { "--tensor-type [ab=q8_0 {wide} {out} Q8_0", "with a regular expression" },
        { "--include-weights a --exclude-weights b --imatrix {importance} {wide} {out} Q8_0",
          "exclude each other" },
        { "--include-weights a {wide} {out} Q8_0", "there is none" },
        { "--keep-split {wide} {out} Q8_0", "--keep-split: the result is always one file" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) assert_refused(rows[i].words, 2, rows[i].message);
}

static void help_is_told(void **state) {
    (void)state;
    child c = quantize("--help");
    assert_int_equal(c.exit_code, 0);
    for (const mixture *m = mixtures; m->name; m++)
        if (!strstr(c.out, m->name)) fail_msg("--help does not tell of %s", m->name);
    assert_non_null(strstr(c.out, "--tensor-type=NAME=TYPE"));
    child_free(&c);
}

/* ---- files */

static void wrong_files_are_bad_input(void **state) {
    (void)state;
    static const struct {
        const char *words, *message;
    } rows[] = {
        { "/nowhere/a.gguf {out} Q8_0", "/nowhere/a.gguf: cannot open" },
        { "Makefile {out} Q8_0", "Makefile: not a GGUF file" },
        { "{wide} /nowhere/b.gguf Q8_0", "/nowhere/b.gguf: cannot be written" },
        { "{wide} /dev/null Q8_0", "/dev/null: is no regular file" },
        { "{wide} {wide} Q8_0", "is read to make it" },
        { "{wide} {out} Q8_0 --imatrix /nowhere/c.gguf", "/nowhere/c.gguf: cannot open" },
        { "{wide} {out} Q8_0 --imatrix {narrow}", "general.type is 'model', expected 'imatrix'" },
        { "{wide} {out} Q8_0 --tensor-type-file /nowhere/d", "/nowhere/d: No such file" },
        { "{wide} {out} IQ2_XXS", "IQ2_XXS needs an importance matrix: give one with --imatrix" },
        { "{wide} {out} Q2_K_S", "Q2_K needs an importance matrix" },
        { "{wide} {out} Q8_0 --tensor-type attn_k=iq1_s", "'blk.0.attn_k.weight': IQ1_S needs" },
        { "{wide} {out} Q8_0 --token-embedding-type iq2_xs", "'token_embd.weight': IQ2_XS needs" },
        { DEMO " {out} Q4_0", "it is Q8_0 already" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) assert_refused(rows[i].words, 1, rows[i].message);
}

static void wrong_importances_are_bad_input(void **state) {
    (void)state;
    static const struct {
        oddities    odd;
        const char *message;
    } rows[] = {
        { { .general_type = "model" }, "general.type is 'model', expected 'imatrix'" },
        { { .missing = "blk.1.ffn_up.weight" },
          "has no entry for 'blk.1.ffn_up.weight', which needs one as IQ2_XXS" },
        { { .no_counts = true }, "weight.counts' beside it" },
        { { .other_type = true }, "it and its counts must be F32" },
        { { .negative = true }, "value 3 is -1, met 4 times: no finite importance" },
        { { .not_finite = true }, "value 3 is inf, met 4 times: no finite importance" },
        { { .narrower = true }, "has 224 importances, the tensor of" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        make_importance(wide, rows[i].odd);
        assert_refused("--imatrix {importance} {wide} {out} IQ2_XXS", 1, rows[i].message);
    }
    make_importance(wide, (oddities){ 0 });
    assert_refused("--imatrix {importance} --exclude-weights attn_q {wide} {out} IQ2_XXS", 1,
                   "has no entry for 'blk.0.attn_q.weight'");
    write_whole(importance, "\x02\0\0\0\x05\0\0\0what?", 13);
    assert_refused("--imatrix {importance} {wide} {out} IQ2_XXS", 1, "the older .dat format has to be");
    assert_int_equal(truncate(importance, 0), 0);
    assert_refused("--imatrix {importance} {wide} {out} IQ2_XXS", 1, "the file is empty");
}

static void wrong_lists_are_bad_input(void **state) {
    (void)state;
    char words[800];
    snprintf(words, sizeof words, "--tensor-type-file %s {wide} {out} Q8_0", importance);
    write_whole(importance, "attn_q=q4_0\nattn_k=q99\n", 23);
    assert_refused(words, 1, "'attn_k=q99' is not NAME=TYPE");
    unlink(importance);
    assert_int_equal(mkdir(importance, 0777), 0);
    assert_refused(words, 1, "Is a directory");
    assert_int_equal(rmdir(importance), 0);
    char word[5000];
    memset(word, 'a', sizeof word);
    write_whole(importance, word, sizeof word);
    assert_refused(words, 1, "a word is no text, or longer than 4095 bytes");
    write_whole(importance, "attn_q=q4_0\0", 12);
    assert_refused(words, 1, "a word is no text");
    snprintf(words, sizeof words, "--tensor-type-file %s {wide} %s Q8_0", importance, importance);
    write_whole(importance, "attn_q=q4_0", 11);
    assert_refused(words, 1, "is read to make it");
}

/* The library that compiles a pattern would not come back from the deepest. */
static void deep_patterns_are_refused(void **state) {
    (void)state;
    enum { DEPTH = 20000 };
    char *pattern = malloc(2 * DEPTH + 10);
    memset(pattern, '(', DEPTH);
    pattern[DEPTH] = 'a';
    memset(pattern + DEPTH + 1, ')', DEPTH);
    strcpy(pattern + 2 * DEPTH + 1, "=q4_0");
    char *argv[] = { compiler, "quantize", "--tensor-type", pattern, wide, out, "Q8_0", NULL };
    child c = child_run((child_setup){ .argv = argv });
    assert_int_equal(c.exit_code, 2);
    assert_true(is_one_line(c.err));
    child_free(&c);
    free(pattern);
}

/* Nobody ever writes to it. */
static void a_pipe_is_no_importance(void **state) {
    (void)state;
    unlink(importance);
    assert_int_equal(mkfifo(importance, 0666), 0);
    assert_refused("--imatrix {importance} {wide} {out} Q8_0", 1, "is no regular file");
}

/* ---- weights that are no numbers */

/* A copy of {wide} whose tensor has such bits at a place; its path, to be freed. */
static char *make_odd(const char *tensor, uint64_t at, uint32_t bits) {
    char  *path = strdup(compiled_path("odd.gguf"));
    size_t size;
    char  *data = read_whole(wide, &size);
    model  m = open_model(wide);
    memcpy(data + tensor_of(&m, tensor)->offset + at * 4, &bits, sizeof bits);
    write_whole(path, data, size);
    close_model(&m);
    free(data);
    return path;
}

static void weights_must_be_finite(void **state) {
    (void)state;
    static const struct {
        const char *tensor;
        uint64_t    at;
        uint32_t    bits;
        const char *quant, *message;
    } rows[] = {
        { "blk.1.ffn_down.weight", 512 * 255 + 511, 0x7fc00000, "Q4_K",
          "'blk.1.ffn_down.weight': row 255, column 511 is nan; weights must be finite" },
        { "token_embd.weight", 256 * 1090 + 7, 0x7f800000, "Q8_0", "row 1090, column 7 is inf" },
        { "output.weight", 0, 0xff800000, "IQ4_NL", "row 0, column 0 is -inf" },
        { "blk.0.ffn_norm.weight", 9, 0x7f800001, "Q8_0", "'blk.0.ffn_norm.weight': row 0, column 9 is nan" },
        { "blk.0.attn_q.weight", 3, 0x7f800001, "COPY", "'blk.0.attn_q.weight': row 0, column 3 is nan" },
        { "blk.0.attn_q.weight", 259, 0x477ff000, "F16",
          "row 1, column 3: 65520 or what is beside it is too large for F16" },
        { "blk.0.attn_q.weight", 259, 0x501502f9, "Q8_0", "is too large for Q8_0" }, /* 1e10 */
        { "blk.0.attn_q.weight", 259, 0x7f7fffff, "Q6_K", "is too large for Q6_K" },
        { "blk.0.attn_q.weight", 259, 0x49742400, "Q4_0", "1e+06 or what is beside it is too large" },
        { "blk.0.attn_q.weight", 259, 0x4b189680, "Q2_K", "is too large for Q2_K" }, /* 1e7 */
        { "blk.0.attn_q.weight", 259, 0x477de800, "NVFP4", "65000 or what is beside it is too large" },
    };
    char words[400];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int threads = 1; threads < 4; threads += 2) {
            char *path = make_odd(rows[i].tensor, rows[i].at, rows[i].bits);
            snprintf(words, sizeof words, "%s {out} %s -t %d", path, rows[i].quant, threads);
            assert_refused(words, 1, rows[i].message);
            free(path);
        }
}

/* What is large but fits is taken: a scale of Q1_0 is a mean. */
static void large_weights_are_taken(void **state) {
    (void)state;
    static const struct {
        uint32_t    bits;
        const char *quant;
    } rows[] = {
        { 0x4780e800, "Q1_0" }, { 0x4780e800, "Q4_0" }, { 0x45200000, "NVFP4" }, { 0x477fe000, "F16" },
    };
    char words[400];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *path = make_odd("blk.0.attn_q.weight", 259, rows[i].bits);
        snprintf(words, sizeof words, "%s {out} %s", path, rows[i].quant);
        assert_made(words);
        free(path);
    }
}

/* Of several the first is told of, whatever thread meets it. */
static void the_first_that_is_odd_is_told_of(void **state) {
    (void)state;
    char *path = make_odd("token_embd.weight", 256 * 1050, 0x7fc00000), words[400];
    FILE *f = fopen(path, "r+b");
    model m = open_model(wide);
    assert_true(f && !fseek(f, (long)tensor_of(&m, "blk.1.ffn_up.weight")->offset, SEEK_SET));
    assert_true(fwrite(&(uint32_t){ 0x7fc00000 }, 4, 1, f) == 1 && !fclose(f));
    for (int i = 0; i < 10; i++) {
        snprintf(words, sizeof words, "%s {out} Q8_0 -t %d", path, 1 + i % 8);
        assert_refused(words, 1, "'token_embd.weight': row 1050, column 0");
    }
    close_model(&m);
    free(path);
}

/* ---- what stood there */

static void an_old_file_stays(void **state) {
    (void)state;
    char  *path = make_odd("blk.1.ffn_up.weight", 0, 0x7fc00000), words[400];
    size_t size;
    snprintf(words, sizeof words, "%s {out} Q8_0", path);
    write_whole(out, "old", 3);
    child c = quantize(words);
    assert_int_equal(c.exit_code, 1);
    child_free(&c);
    char *data = read_whole(out, &size);
    assert_true(size == 3 && !memcmp(data, "old", 3) && !has_temporary());
    free(data);
    free(path);
    assert_made("{wide} {out} Q8_0"); /* and is replaced by a whole one */
    data = read_whole(out, &size);
    assert_true(size > 3 && !memcmp(data, "GGUF", 4) && !has_temporary());
    free(data);
}

static void a_link_is_not_followed(void **state) {
    (void)state;
    child c;
    assert_int_equal(symlink(wide, out), 0);
    c = quantize("{wide} {out} Q8_0");
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, "symbolic link"));
    child_free(&c);
}

static int run_with_little_disk(int argc, char **argv) {
    struct rlimit most = { 200000, 200000 };
    (void)argc;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &most)) return 99;
    execv(argv[0], argv);
    return 98;
}

static void a_full_disk_leaves_nothing(void **state) {
    (void)state;
    assert_refused_with("{wide} {out} Q8_0", 1, "File too large", run_with_little_disk);
    char *argv[] = { compiler, "quantize", "--dry-run", wide, "Q8_0", NULL };
    int   full = open("/dev/full", O_WRONLY);
    if (full < 0) return;
    child c = child_run((child_setup){ .argv = argv, .out_fd = full });
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, "standard output: No space left"));
    child_free(&c);
    close(full);
}

/* ---- signals */

static void wait_for_temporary(const child *c) {
    for (int i = 0; i < 2000 && !has_temporary(); i++) {
        assert_int_equal(kill(c->pid, 0), 0);
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    assert_true(has_temporary());
}

/* IQ3_S takes a second or so: long enough to be ended within. */
static void a_signal_leaves_nothing(void **state) {
    (void)state;
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1, SIGXCPU };
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        child c = start_line("-t 1 --pure {wide} {out} IQ3_S", NULL);
        wait_for_temporary(&c);
        assert_int_equal(kill(c.pid, signals[i]), 0);
        child_finish(&c);
        assert_int_equal(c.exit_code, 128 + signals[i]);
        assert_false(exists(out) || has_temporary());
        child_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(wrong_lines_are_usage, clean),
        cmocka_unit_test_teardown(help_is_told, clean),
        cmocka_unit_test_teardown(wrong_files_are_bad_input, clean),
        cmocka_unit_test_teardown(wrong_importances_are_bad_input, clean),
        cmocka_unit_test_teardown(wrong_lists_are_bad_input, clean),
        cmocka_unit_test_teardown(deep_patterns_are_refused, clean),
        cmocka_unit_test_teardown(a_pipe_is_no_importance, clean),
        cmocka_unit_test_teardown(weights_must_be_finite, clean),
        cmocka_unit_test_teardown(large_weights_are_taken, clean),
        cmocka_unit_test_teardown(the_first_that_is_odd_is_told_of, clean),
        cmocka_unit_test_teardown(an_old_file_stays, clean),
        cmocka_unit_test_teardown(a_link_is_not_followed, clean),
        cmocka_unit_test_teardown(a_full_disk_leaves_nothing, clean),
        cmocka_unit_test_teardown(a_signal_leaves_nothing, clean),
    };
    return cmocka_run_group_tests(tests, make_models, NULL);
}
