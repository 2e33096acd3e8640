/* test_cli.c - a compiled model driven as a user does: flags, messages, exit statuses, pipes, full
 * disks and interrupts.
 *
 * GGUFC_DEMO_EXE is the executable, of a model with a tokenizer whose context has 40 tokens or more
 * and whose weights are where they were. Without it every test is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"

#define COUNT(a)  (sizeof(a) / sizeof *(a))
#define ARGS(...) ((char *[]){ executable, __VA_ARGS__, NULL })
#define PROMPT    "Once upon a time"

static char *executable;
static char folder[] = "/tmp/ggufc-cli-XXXXXX";

static int find_executable(void **state) {
    (void)state;
    executable = getenv("GGUFC_DEMO_EXE");
    if (!executable) print_message("GGUFC_DEMO_EXE is not set: nothing is tested\n");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

#define NEEDS_EXECUTABLE()                                                                         \
    do {                                                                                           \
        (void)state;                                                                               \
        if (!executable) skip();                                                                   \
    } while (0)

static child run(char *const *argv) {
    return child_run((child_setup){ .argv = argv });
}

static bool is_one_line(const char *text) {
    const char *newline = strchr(text, '\n');
    return newline && newline != text && newline[1] == '\0';
}

/* It ended with this status, said nothing on standard output, and one line that contains `message`
   on standard error. */
static void assert_refused(child *c, int exit_code, const char *message) {
    if (c->exit_code != exit_code || c->out_size || !is_one_line(c->err) ||
        !strstr(c->err, message))
        fail_msg("exit %d, '%s', '%s'; expected %d, '%s'", c->exit_code, c->out, c->err, exit_code,
                 message);
    child_free(c);
}

static void assert_silent_success(const child *c) {
    if (c->exit_code || c->err_size) fail_msg("exit %d, '%s'", c->exit_code, c->err);
}

/* The value of a key in what --info says. */
static void read_info(const char *key, char *value, size_t size) {
    child c = run(ARGS("--info"));
    const char *line = strstr(c.out, key);
    assert_non_null(line);
    line += strlen(key);
    line += strspn(line, " ");
    snprintf(value, size, "%.*s", (int)strcspn(line, "\n"), line);
    child_free(&c);
}

/* ---- what is refused */

typedef struct refusal {
    const char *arguments[5]; /* ends with NULL */
    int exit_code;
    const char *message;
} refusal;

static const refusal refusals[] = {
    { { "--frobnicate" }, 2, "unknown option '--frobnicate' (see --help)" },
    { { "-q" }, 2, "unknown option '-q'" },
    { { "Once" }, 2, "unexpected argument 'Once' (a prompt is given with -p)" },
    { { "-m" }, 2, "-m needs a value: -m FILE" },
    { { "-p" }, 2, "-p needs a value: -p TEXT" },
    { { "-f" }, 2, "-f needs a value: -f FILE" },
    { { "--tokens" }, 2, "--tokens needs a value: --tokens IDS" },
    { { "-n" }, 2, "-n needs a value: -n N" },
    { { "-n", "many" }, 2, "-n: 'many' is not a whole number" },
    { { "--predict", "3x" }, 2, "--predict: '3x' is not a whole number" },
    { { "--n-predict", "" }, 2, "--n-predict: '' is not a whole number" },
    { { "-c", "-1" }, 2, "-c: '-1' is not a whole number" },
    { { "--ctx-size", "1000000" },
      2,
      "a context of 1000000 was asked for, the model was compiled" },
    { { "-t", "0" }, 2, "-t: '0' is not a whole number from 1" },
    { { "--threads", "two" }, 2, "--threads: 'two' is not" },
    { { "-s", "-2" }, 2, "-s: '-2' is not a whole number" },
    { { "--seed", "0x1" }, 2, "--seed: '0x1' is not a whole number" },
    { { "--temp", "warm" }, 2, "--temp: 'warm' is not a number" },
    { { "--temp", "inf" }, 2, "--temp: 'inf' is not a number" },
    { { "--top-k", "1.5" }, 2, "--top-k: '1.5' is not a whole number" },
    { { "--top-p", "2" }, 2, "--top-p: '2' is not a number from 0 to 1" },
    { { "--min-p", "-1" }, 2, "--min-p: '-1' is not a number from 0 to 1" },
    { { "--repeat-penalty", "0" }, 2, "--repeat-penalty: '0' is not a number" },
    { { "--repeat-last-n", "-1" }, 2, "--repeat-last-n: '-1' is not a whole number" },
    { { "--bench-runs", "0" }, 2, "--bench-runs: '0' is not a whole number" },
    { { "--verbose=1" }, 2, "--verbose takes no value" },
    { { "-p", "a", "-f", "b" }, 2, "give only one of -p, -f and --tokens" },
    { { "--tokens", "1,,2" }, 2, "--tokens: '1,,2' is not a list of token ids such as 1,2,3" },
    { { "--tokens", "1,999999" }, 1, "token 999999 at position 1 is not in the vocabulary" },
    { { "-f", "/no/such/file" }, 1, "/no/such/file: No such file or directory" },
    { { "-f", "/" }, 1, "/: Is a directory" },
    { { "-f", "/dev/null" }, 1, "/dev/null: the prompt is empty" },
    { { NULL }, 1, "standard input: the prompt is empty" },
    { { "-p", PROMPT, "-c", "2" }, 1, "tokens, the context has room for 2" },
    { { "-p", "a", "-m", "/no/such.gguf" }, 1, "/no/such.gguf: No such file or directory" },
    { { "-p", "a", "-m", "/dev/null" }, 1, "/dev/null: not a regular file" },
    { { "-p", "a", "-m", "/proc/self/exe" }, 1, "not the file this was compiled from" },
};

static void test_refusals(void **state) {
    NEEDS_EXECUTABLE();
    for (size_t i = 0; i < COUNT(refusals); i++) {
        char *argv[6] = { executable };
        for (int k = 0; refusals[i].arguments[k]; k++)
            argv[k + 1] = (char *)refusals[i].arguments[k];
        child c = run(argv);
        assert_refused(&c, refusals[i].exit_code, refusals[i].message);
    }
}

static void test_terminal_without_prompt(void **state) {
    NEEDS_EXECUTABLE();
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) skip();
    int other = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    child c = child_run((child_setup){ .argv = ARGS("-n", "1"), .in_fd = other });
    close(other);
    close(terminal);
    assert_refused(&c, 2, "no prompt: give one with -p");
}

/* ---- what it says of itself */

static void test_help(void **state) {
    NEEDS_EXECUTABLE();
    static const char *const words[] = { "-m, --model FILE",
                                         "-p, --prompt TEXT",
                                         "-f, --file FILE",
                                         "--tokens IDS",
                                         "-n, --predict, --n-predict N",
                                         "-c, --ctx-size N",
                                         "-t, --threads N",
                                         "-s, --seed N",
                                         "--temp X",
                                         "--top-k N",
                                         "--top-p X",
                                         "--min-p X",
                                         "--repeat-penalty X",
                                         "--repeat-last-n N",
                                         "--ignore-eos",
                                         "--no-display-prompt",
                                         "-v, --verbose",
                                         "--bench",
                                         "--info",
                                         "-h, --help",
                                         "--version" };
    child c = run(ARGS("--help")), h = run(ARGS("-h"));
    assert_silent_success(&c);
    assert_string_equal(c.out, h.out);
    for (size_t i = 0; i < COUNT(words); i++)
        if (!strstr(c.out, words[i])) fail_msg("--help does not name '%s'", words[i]);
    child_free(&c);
    child_free(&h);
}

static void test_version(void **state) {
    NEEDS_EXECUTABLE();
    child c = run(ARGS("--version"));
    assert_silent_success(&c);
    assert_true(is_one_line(c.out));
    assert_non_null(strstr(c.out, "compiled by ggufc "));
    child_free(&c);
}

static void test_info(void **state) {
    NEEDS_EXECUTABLE();
    static const char *const keys[] = { "model:",   "architecture:", "types:",   "target:",
                                        "context:", "batch:",        "code:",    "executable:",
                                        "arena:",   "kv cache:",     "weights:", "weights file:" };
    child c = run(ARGS("--info"));
    assert_silent_success(&c);
    for (size_t i = 0; i < COUNT(keys); i++) {
        const char *line = strstr(c.out, keys[i]);
        if (!line || (line != c.out && line[-1] != '\n')) fail_msg("no line '%s'", keys[i]);
    }
    child_free(&c);

    char text[64];
    struct stat st;
    assert_int_equal(stat(executable, &st), 0);
    read_info("executable:", text, sizeof text);
    assert_int_equal(strtoull(text, NULL, 10), st.st_size);
    read_info("code:", text, sizeof text);
    assert_in_range(strtoull(text, NULL, 10), 1024, (unsigned long long)st.st_size);
}

static void test_bench(void **state) {
    NEEDS_EXECUTABLE();
    child c = run(ARGS("--bench", "--bench-prompt", "16", "-n", "8", "--bench-runs", "3"));
    assert_silent_success(&c);
    double ms[2], speed[2];
    int n[2];
    assert_int_equal(sscanf(c.out,
                            "prefill %d tokens %lf ms %lf tokens/s (median of 3, %*d threads)"
                            " decode %d tokens %lf ms %lf tokens/s (median of 3,",
                            &n[0], &ms[0], &speed[0], &n[1], &ms[1], &speed[1]),
                     6);
    assert_true(n[0] == 16 && n[1] == 8 && speed[0] > 0 && speed[1] > 0);
    child_free(&c);
}

/* ---- text */

/* Greedy text of `n` tokens after PROMPT; the caller frees it. */
static child greedy(const char *n) {
    child c = run(ARGS("-p", PROMPT, "-n", (char *)n, "--temp", "0"));
    assert_silent_success(&c);
    assert_memory_equal(c.out, PROMPT, strlen(PROMPT));
    assert_int_equal(c.out[c.out_size - 1], '\n');
    return c;
}

static void test_text(void **state) {
    NEEDS_EXECUTABLE();
    child c = greedy("10");
    assert_true(c.out_size > strlen(PROMPT) + 10);
    child rest = run(ARGS("-p", PROMPT, "-n", "10", "--temp", "0", "--no-display-prompt"));
    assert_silent_success(&rest);
    assert_string_equal(rest.out, c.out + strlen(PROMPT));
    child_free(&rest);
    child_free(&c);
}

static void test_nothing_wanted(void **state) {
    NEEDS_EXECUTABLE();
    child c = greedy("0");
    assert_string_equal(c.out, PROMPT "\n");
    child_free(&c);
    c = run(ARGS("-p", "a\xff\xe2\x82", "-n", "0")); /* comes out as it went in */
    assert_silent_success(&c);
    assert_string_equal(c.out, "a\xff\xe2\x82\n");
    child_free(&c);
}

static void test_empty_prompt(void **state) {
    NEEDS_EXECUTABLE();
    child c = run(ARGS("-p", "", "-n", "3", "--temp", "0"));
    bool begins = c.exit_code == 0 && c.out_size > 1; /* from BOS, where the model adds one */
    bool refused = c.exit_code == 1 && strstr(c.err, "the prompt is empty");
    assert_true(begins || refused);
    child_free(&c);
}

static void test_prompt_from_elsewhere(void **state) {
    NEEDS_EXECUTABLE();
    child c = greedy("12");
    child in =
        child_run((child_setup){ .argv = ARGS("-n", "12", "--temp", "0"), .input = PROMPT "\n" });
    assert_silent_success(&in);
    assert_string_equal(in.out, c.out);
    child_free(&in);

    char path[64];
    snprintf(path, sizeof path, "%s/prompt.txt", folder);
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(PROMPT "\n", f) >= 0 && fclose(f) == 0);
    child file = run(ARGS("-f", path, "-n", "12", "--temp", "0"));
    unlink(path);
    assert_silent_success(&file);
    assert_string_equal(file.out, c.out);
    child_free(&file);
    child_free(&c);
}

static void test_tokens(void **state) {
    NEEDS_EXECUTABLE();
    child a = run(ARGS("--tokens", "1,5,9", "-n", "5", "--temp", "0"));
    child b = run(ARGS("--tokens", "1, 5, 9", "-n", "5", "--temp=0", "-t", "1"));
    assert_silent_success(&a);
    assert_silent_success(&b);
    assert_true(a.out_size > 1);
    assert_string_equal(a.out, b.out);
    child_free(&a);
    child_free(&b);
}

static void test_seeds(void **state) {
    NEEDS_EXECUTABLE();
    char *threads[] = { "1", "2", "3", "8" };
    child first = run(ARGS("-p", PROMPT, "-n", "30", "-s", "7", "--ignore-eos"));
    assert_silent_success(&first);
    for (size_t i = 0; i < COUNT(threads); i++) {
        child same =
            run(ARGS("-p", PROMPT, "-n", "30", "-s", "7", "--ignore-eos", "-t", threads[i]));
        assert_string_equal(same.out, first.out);
        child_free(&same);
    }
    child other = run(ARGS("-p", PROMPT, "-n", "30", "-s", "8", "--temp", "2", "--ignore-eos"));
    child another = run(ARGS("-p", PROMPT, "-n", "30", "-s", "9", "--temp", "2", "--ignore-eos"));
    assert_string_not_equal(other.out, another.out);
    child_free(&other);
    child_free(&another);
    child_free(&first);
}

/* Read into memory, or locked there, the weights are the same, and so are the refusals of another file. */
static void test_no_mmap(void **state) {
    NEEDS_EXECUTABLE();
    child mapped = run(ARGS("-p", PROMPT, "-n", "30", "--temp", "0"));
    child copied = run(ARGS("-p", PROMPT, "-n", "30", "--temp", "0", "--no-mmap"));
    child locked = run(ARGS("-p", PROMPT, "-n", "30", "--temp", "0", "--mlock"));
    assert_silent_success(&copied);
    assert_string_equal(copied.out, mapped.out);
    assert_silent_success(&locked);
    assert_string_equal(locked.out, mapped.out);
    child other = run(ARGS("-p", PROMPT, "--no-mmap", "-m", "/proc/self/exe"));
    assert_refused(&other, 1, "not the file this was compiled from");
    child_free(&mapped);
    child_free(&copied);
    child_free(&locked);
}

static void test_context_full(void **state) {
    NEEDS_EXECUTABLE();
    child c = run(ARGS("-p", PROMPT, "-c", "32", "-n", "-1", "--ignore-eos", "-s", "1"));
    assert_int_equal(c.exit_code, 0);
    assert_true(is_one_line(c.err));
    assert_non_null(strstr(c.err, "stopped: the context of 32 tokens is full"));
    assert_true(c.out_size > strlen(PROMPT) + 20);
    child_free(&c);
}

static void test_verbose(void **state) {
    NEEDS_EXECUTABLE();
    static const char *const words[] = { "load:",  "seed: 5\n", "2 threads",    "prompt eval:",
                                         " eval:", "tokens/s",  "ms per token", "total:" };
    child plain = run(ARGS("-p", PROMPT, "-n", "5", "-s", "5", "-t", "2"));
    child c = run(ARGS("-p", PROMPT, "-n", "5", "-s", "5", "-t", "2", "-v"));
    assert_int_equal(c.exit_code, 0);
    assert_string_equal(c.out, plain.out);
    for (size_t i = 0; i < COUNT(words); i++)
        if (!strstr(c.err, words[i])) fail_msg("-v does not say '%s': %s", words[i], c.err);
    child_free(&c);
    child_free(&plain);
}

/* A text that repeats itself, so that something is drafted; nothing shows of it but with -v. */
static void test_look_ahead(void **state) {
    NEEDS_EXECUTABLE();
    static char *const ends[][3] = { { "-n", "60" }, { "-n", "23" }, { "-c", "40" } };
    static char *const flags[] = { "--lookup", "--lookup-always", "--draft-max=3" };
    char *tokens = "20,21,22,23,24,25,20,21,22,23,24,25,20,21,22,23,24,25";
    for (size_t i = 0; i < COUNT(ends); i++) {
        for (int seed = 0; seed < 3; seed++) {
            char *number = (char *[]){ "1", "2", "3" }[seed];
            char *argv[] = { executable, "--tokens", tokens, "--ignore-eos", "-s", number,
                             ends[i][0], ends[i][1], "--no-lookup", NULL, NULL };
            child plain = run(argv);
            for (size_t k = 0; k < COUNT(flags); k++) {
                argv[8] = "--lookup-always";
                argv[9] = flags[k];
                child c = run(argv);
                assert_int_equal(c.exit_code, plain.exit_code);
                assert_string_equal(c.out, plain.out);
                assert_string_equal(c.err, plain.err);
                child_free(&c);
            }
            child_free(&plain);
        }
    }
    unsigned right, drafted, passes, read;
    child c = run(ARGS("--tokens", tokens, "-n", "60", "--temp", "0", "--ignore-eos", "--lookup-always",
                       "-v"));
    const char *line = strstr(c.err, "look-ahead:");
    assert_non_null(line);
    const char *format = "look-ahead: %u of %u drafted tokens were right, %u passes for %u tokens";
    assert_int_equal(sscanf(line, format, &right, &drafted, &passes, &read), 4);
    assert_true(drafted > 0 && right <= drafted && read == 59 && passes == read - right);
    child_free(&c);
    c = run(ARGS("-p", PROMPT, "-n", "5", "--no-lookup", "-v"));
    assert_null(strstr(c.err, "look-ahead"));
    child_free(&c);
}

/* ---- output that ends early */

static void test_closed_pipe(void **state) {
    NEEDS_EXECUTABLE();
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child c =
        child_start((child_setup){ .argv = ARGS("-p", PROMPT, "--ignore-eos"), .out_fd = ends[1] });
    close(ends[1]);
    char first[4];
    assert_true(read(ends[0], first, sizeof first) > 0);
    close(ends[0]);
    child_finish(&c);
    assert_int_equal(c.exit_code, 0);
    child_free(&c);

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0); /* closed before anything was written */
    close(ends[0]);
    c = child_run((child_setup){ .argv = ARGS("--help"), .out_fd = ends[1] });
    assert_silent_success(&c);
    child_free(&c);
    c = child_run((child_setup){ .argv = ARGS("-p", PROMPT), .out_fd = ends[1] });
    assert_silent_success(&c);
    child_free(&c);
    close(ends[1]);
}

static void test_full_disk(void **state) {
    NEEDS_EXECUTABLE();
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full < 0) skip();
    char *const *commands[] = { ARGS("-p", PROMPT, "-n", "50"), ARGS("--help"), ARGS("--info"),
                                ARGS("--version"), ARGS("--bench", "-n", "1") };
    for (size_t i = 0; i < COUNT(commands); i++) {
        child c = child_run((child_setup){ .argv = commands[i], .out_fd = full });
        assert_refused(&c, 1, "cannot write to standard output: No space left on device");
    }
    close(full);
}

/* ---- interrupts */

/* Waits until the child has stopped writing because the pipe is full. */
static void wait_until_blocked(int fd) {
    int before = -1, now = 0;
    for (int i = 0; i < 200 && (now == 0 || now != before); i++) {
        before = now;
        usleep(100000);
        assert_int_equal(ioctl(fd, FIONREAD, &now), 0);
    }
}

static void read_all(int fd, char *text, size_t size) {
    size_t used = 0;
    for (ssize_t n; (n = read(fd, text + used, size - 1 - used)) > 0;) used += (size_t)n;
    text[used] = '\0';
}

/* The pipe is filled but for a few bytes, so that the interrupt comes while a token is written. */
static void test_interrupt(void **state) {
    NEEDS_EXECUTABLE();
    enum { PAGE = 4096, ROOM = 60 };
    static char text[4 * PAGE], junk[PAGE];
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    if (fcntl(ends[1], F_SETPIPE_SZ, PAGE) != PAGE) skip();
    memset(junk, '.', sizeof junk);
    assert_int_equal(write(ends[1], junk, PAGE - ROOM), PAGE - ROOM);
    child c = child_start(
        (child_setup){ .argv = ARGS("-p", PROMPT, "--ignore-eos", "-v"), .out_fd = ends[1] });
    close(ends[1]);
    wait_until_blocked(ends[0]);
    kill(c.pid, SIGINT);
    read_all(ends[0], text, sizeof text);
    close(ends[0]);
    child_finish(&c);

    assert_int_equal(c.exit_code, 130);
    size_t size = strlen(text);
    assert_in_range(size, PAGE - ROOM + strlen(PROMPT), PAGE + 40); /* one token more, not all */
    assert_int_equal(text[size - 1], '\n');
    assert_non_null(strstr(c.err, "ended by an interrupt"));
    assert_non_null(strstr(c.err, "tokens/s"));
    child_free(&c);
}

static void test_interrupt_while_waiting_for_a_prompt(void **state) {
    NEEDS_EXECUTABLE();
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child c = child_start((child_setup){ .argv = ARGS("-v"), .in_fd = ends[0] });
    int written = (int)write(ends[1], "x", 1);
    for (int left = 1; written == 1 && left;) { /* it has begun to read */
        usleep(2000);
        assert_int_equal(ioctl(ends[1], FIONREAD, &left), 0);
    }
    usleep(50000);
    kill(c.pid, SIGINT);
    child_finish(&c);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(c.exit_code, 130);
    child_free(&c);
}

/* ---- where the weights are */

static void copy_file(const char *from, const char *to, mode_t mode) {
    char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;)
        assert_int_equal(write(out, buffer, (size_t)n), n);
    close(in);
    close(out);
}

/* A copy of the executable in a folder with a file named as the weights. */
static void test_weights_beside(void **state) {
    NEEDS_EXECUTABLE();
    char weights[PATH_MAX], copy[64], beside[PATH_MAX];
    read_info("weights file:", weights, sizeof weights);
    if (weights[0] != '/') skip(); /* embedded */
    snprintf(copy, sizeof copy, "%s/copy", folder);
    snprintf(beside, sizeof beside, "%s%s", folder, strrchr(weights, '/'));
    copy_file(executable, copy, 0755);
    FILE *f = fopen(beside, "w");
    assert_true(f && fputs("GGUF", f) >= 0 && fclose(f) == 0);

    child c = run((char *[]){ copy, "-p", PROMPT, "-n", "1", NULL });
    assert_non_null(strstr(c.err, beside));
    assert_refused(&c, 1, "not the file this was compiled from: it has 4 bytes, expected ");
    c = run((char *[]){ copy, "-p", PROMPT, "-n", "1", "-m", weights, NULL });
    assert_silent_success(&c);
    child_free(&c);

    unlink(beside);
    copy_file(weights, beside, 0600);
    c = run((char *[]){ copy, "--info", NULL });
    assert_non_null(strstr(c.out, beside));
    child_free(&c);

    unlink(beside);
    unlink(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_terminal_without_prompt),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_nothing_wanted),
        cmocka_unit_test(test_empty_prompt),
        cmocka_unit_test(test_prompt_from_elsewhere),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_no_mmap),
        cmocka_unit_test(test_context_full),
        cmocka_unit_test(test_verbose),
        cmocka_unit_test(test_look_ahead),
        cmocka_unit_test(test_closed_pipe),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_interrupt_while_waiting_for_a_prompt),
        cmocka_unit_test(test_weights_beside),
    };
    return cmocka_run_group_tests_name("cli", tests, find_executable, remove_folder);
}
