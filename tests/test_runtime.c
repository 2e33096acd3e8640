/* test_runtime.c - weights and sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <linux/capability.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "fake_model.h"
#include "ggufc/runtime.h"
#include "sanitized.h"
#include "session.h"
#include "threads.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- sessions */

static char folder[] = "/tmp/ggufc-test-XXXXXX", weights_path[64];
static ggufc_model model;
static ggufc_error error;

static int make_weights(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(weights_path, sizeof weights_path, "%s/weights-%d.gguf", folder, (int)getpid());
    fake_write_weights(weights_path);
    model = fake_model(weights_path);
    return 0;
}

static int remove_weights(void **state) {
    (void)state;
    return unlink(weights_path) || rmdir(folder);
}

static ggufc_session *open_session(uint32_t n_threads) {
    ggufc_session *session;
    ggufc_session_options options = { .model = &model, .n_threads = n_threads };
    ggufc_status status = ggufc_session_open(&session, &options, &error);
    if (status != GGUFC_OK) fail_msg("%s", error.text);
    return session;
}

static void assert_logits(ggufc_session *s, const int32_t *tokens, uint32_t n) {
    float expected[FAKE_VOCAB];
    fake_expect(tokens, n, expected);
    const float *logits = ggufc_session_logits(s);
    assert_non_null(logits);
    assert_memory_equal(logits, expected, sizeof expected);
}

static void fill_tokens(int32_t *tokens, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)(i * i * 7 + 3) % FAKE_VOCAB;
}

static uint32_t done[2]; /* units of each call, eight bits a thread */

/* Two threads do a call each of two that are split together, but half of each where calls are timed one by one. */
static void note_shares(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    __atomic_fetch_add(&done[*args], (end - begin) << 8 * s->thread, __ATOMIC_RELAXED);
}

static void test_calls_are_timed_alone(void **state) {
    (void)state;
    static const uint64_t   args[] = { 0, 1 };
    static const ggufc_call calls[] = {
        { note_shares, &args[0], 2, 0, 0, 2, 0 }, { note_shares, &args[1], 2, 0, 2, 0, 0 },
    };
    ggufc_calls    before = model.decode;
    ggufc_session *s = open_session(2);
    int32_t        token = 1;
    uint64_t       ns[2 + 1];
    model.decode = (ggufc_calls){ calls, 2 };
    memset(done, 0, sizeof done);
    ggufc_status status = ggufc_session_evaluate(s, &token, 1, &error);
    uint32_t     together[] = { done[0], done[1] };
    memset(done, 0, sizeof done);
    if (status == GGUFC_OK) status = session_time_calls(s, &token, 1, ns, &error);
    ggufc_session_close(s);
    model.decode = before;
    assert_int_equal(status, GGUFC_OK);
    assert_true(together[0] == 0x002 && together[1] == 0x200);
    assert_true(done[0] == 0x101 && done[1] == 0x101);
}

static void test_session_batches(void **state) {
    (void)state;
    int32_t tokens[FAKE_CTX];
    fill_tokens(tokens, FAKE_CTX);
    for (uint32_t n_threads = 1; n_threads <= 4; n_threads++) {
        ggufc_session *s = open_session(n_threads);
        assert_int_equal(ggufc_session_n_threads(s), n_threads);
        for (uint32_t n = 1; n <= FAKE_CTX; n += 5) {
            assert_int_equal(ggufc_session_truncate(s, 0, &error), GGUFC_OK);
            assert_null(ggufc_session_logits(s));
            assert_int_equal(ggufc_session_evaluate(s, tokens, n, &error), GGUFC_OK);
            assert_int_equal(ggufc_session_n_past(s), n);
            assert_logits(s, tokens, n);
            assert_logits(s, tokens, n); /* the second time from memory */
        }
        ggufc_session_close(s);
    }
}

static uint32_t decode_calls, prefill_calls, largest_batch;

static void count_decode(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    fake_store(s, args, begin, end);
    assert_int_equal(s->n_tokens, 1);
    decode_calls++;
}

static void count_prefill(const ggufc_state *s, const uint64_t *args, uint32_t begin,
                          uint32_t end) {
    fake_store(s, args, begin, end);
    prefill_calls++;
    if (s->n_tokens > largest_batch) largest_batch = s->n_tokens;
}

static void test_session_lists(void **state) {
    (void)state;
    ggufc_call decode[] = { fake_body[0], fake_body[1] };
    ggufc_call prefill[] = { fake_body[0], fake_body[1] };
    decode[0].kernel = count_decode;
    prefill[0].kernel = count_prefill;
    ggufc_model m = fake_model(weights_path);
    m.decode.calls = decode;
    m.prefill.calls = prefill;
    ggufc_session *s;
    ggufc_session_options options = { .model = &m, .n_threads = 1 };
    assert_int_equal(ggufc_session_open(&s, &options, &error), GGUFC_OK);

    int32_t tokens[FAKE_CTX];
    fill_tokens(tokens, FAKE_CTX);
    decode_calls = prefill_calls = largest_batch = 0;
    ggufc_session_evaluate(s, tokens, 2 * FAKE_BATCH + 1, &error); /* 8, 8, 1 */
    ggufc_session_evaluate(s, tokens + 17, 0, &error);
    ggufc_session_evaluate(s, tokens + 17, 1, &error);
    ggufc_session_evaluate(s, tokens + 18, 3, &error);
    assert_int_equal(prefill_calls, 3);
    assert_int_equal(decode_calls, 2);
    assert_int_equal(largest_batch, FAKE_BATCH);
    assert_logits(s, tokens, 21);
    ggufc_session_close(s);
}

typedef struct collected {
    uint32_t count, first, stop_at;
    const int32_t *tokens;
} collected;

static int collect(void *context, uint32_t position, const float *logits) {
    collected *c = context;
    float expected[FAKE_VOCAB];
    fake_expect(c->tokens, position + 1, expected);
    assert_int_equal(position, c->first + c->count);
    assert_memory_equal(logits, expected, sizeof expected);
    c->count++;
    return position == c->stop_at;
}

static void test_session_each(void **state) {
    (void)state;
    int32_t tokens[FAKE_CTX];
    fill_tokens(tokens, FAKE_CTX);
    ggufc_session *s = open_session(2);
    collected all = { .stop_at = UINT32_MAX, .tokens = tokens };
    assert_int_equal(ggufc_session_evaluate_each(s, tokens, 30, collect, &all, &error), GGUFC_OK);
    assert_int_equal(all.count, 30);
    assert_logits(s, tokens, 30);

    for (uint32_t stop_at = 30; stop_at < 40; stop_at++) {
        assert_int_equal(ggufc_session_truncate(s, 30, &error), GGUFC_OK);
        collected some = { .first = 30, .stop_at = stop_at, .tokens = tokens };
        ggufc_status status =
            ggufc_session_evaluate_each(s, tokens + 30, 20, collect, &some, &error);
        assert_int_equal(status, GGUFC_STOPPED);
        assert_int_equal(ggufc_session_n_past(s), stop_at + 1);
        assert_logits(s, tokens, stop_at + 1);
        ggufc_session_evaluate(s, tokens + stop_at + 1, 4, &error);
        assert_logits(s, tokens, stop_at + 5);
    }
    ggufc_session_close(s);
}

static uint32_t head_calls;

static void count_head(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    fake_head(s, args, begin, end);
    head_calls++;
}

/* The logits of tokens [first, first + count) of a batch that begins at `pos`; those of one before or
   behind are computed when asked for, and then no others are there. */
static void assert_few_logits(ggufc_session *s, const int32_t *tokens, uint32_t pos, uint32_t first,
                              uint32_t count) {
    float expected[FAKE_VOCAB];
    head_calls = 0;
    assert_int_equal(session_compute_logits(s, first, count), model.heads.count != 0);
    for (uint32_t k = 0; k < FAKE_BATCH; k++) {
        uint32_t i = (first + k) % FAKE_BATCH;
        fake_expect(tokens, pos + i + 1, expected);
        assert_memory_equal(session_logits_at(s, i), expected, sizeof expected);
        if (k + 1 == count && model.heads.count) assert_int_equal(head_calls, 0);
    }
    assert_logits(s, tokens, pos + FAKE_BATCH);
}

/* A model without a list for a few tokens has the same, one by one. */
static void test_session_few_logits(void **state) {
    (void)state;
    ggufc_model whole = model;
    ggufc_call  counted = { count_head, fake_head_args, FAKE_VOCAB, 0, 0, 0, 0 };
    int32_t     tokens[FAKE_CTX];
    fill_tokens(tokens, FAKE_CTX);
    model.head = (ggufc_calls){ &counted, 1 };
    for (int k = 0; k < 2; k++) {
        ggufc_session *s = open_session(1);
        assert_false(session_compute_logits(s, 0, 1)); /* of nothing */
        for (uint32_t pos = 0; pos < 2 * FAKE_BATCH; pos += FAKE_BATCH) {
            assert_int_equal(ggufc_session_evaluate(s, tokens + pos, FAKE_BATCH, &error), GGUFC_OK);
            for (uint32_t count = 2; count <= GGUFC_BATCH_EXACT; count++)
                for (uint32_t first = 0; first + count <= FAKE_BATCH; first++)
                    assert_few_logits(s, tokens, pos, first, count);
        }
        assert_int_equal(ggufc_session_truncate(s, FAKE_BATCH, &error), GGUFC_OK);
        assert_false(session_compute_logits(s, 0, 2));
        assert_null(session_logits_at(s, 0));
        ggufc_session_close(s);
        model.heads = (ggufc_calls){ 0 };
    }
    model = whole;
}

static void test_session_truncate(void **state) {
    (void)state;
    int32_t tokens[] = { 1, 2, 3, 4, 5 }, other[] = { 1, 2, 9, 8 };
    ggufc_session *s = open_session(2);
    ggufc_session_evaluate(s, tokens, 5, &error);
    assert_int_equal(ggufc_session_truncate(s, 6, &error), GGUFC_ERROR_CONTEXT);
    assert_string_equal(error.text, "cannot go back to 6 tokens, there are 5");
    assert_logits(s, tokens, 5);
    assert_int_equal(ggufc_session_truncate(s, 2, NULL), GGUFC_OK);
    assert_int_equal(ggufc_session_n_past(s), 2);
    ggufc_session_evaluate(s, other + 2, 2, &error);
    assert_logits(s, other, 4);
    ggufc_session_close(s);
}

static void test_session_bad_tokens(void **state) {
    (void)state;
    int32_t good[] = { 1, 2, 3 }, low[] = { 1, -1 }, high[] = { 4, 5, FAKE_VOCAB };
    ggufc_session *s = open_session(2);
    ggufc_session_evaluate(s, good, 3, &error);
    assert_int_equal(ggufc_session_evaluate(s, high, 3, &error), GGUFC_ERROR_TOKEN);
    assert_string_equal(error.text, "token 50 at position 5 is not in the vocabulary of 50");
    assert_int_equal(ggufc_session_evaluate(s, low, 2, NULL), GGUFC_ERROR_TOKEN);
    assert_int_equal(ggufc_session_evaluate_each(s, low, 2, collect, NULL, &error),
                     GGUFC_ERROR_TOKEN);
    assert_int_equal(ggufc_session_n_past(s), 3);
    assert_logits(s, good, 3);
    ggufc_session_close(s);
}

static void test_session_context(void **state) {
    (void)state;
    int32_t tokens[FAKE_CTX + 1] = { 0 };
    ggufc_session_options options = { .model = &model, .n_threads = 2, .n_ctx = 20 };
    ggufc_session *s;
    assert_int_equal(ggufc_session_open(&s, &options, &error), GGUFC_OK);
    assert_int_equal(ggufc_session_n_ctx(s), 20);
    assert_int_equal(ggufc_session_evaluate(s, tokens, 21, &error), GGUFC_ERROR_CONTEXT);
    assert_string_equal(error.text,
                        "21 tokens do not fit: the context has room for 20, and 0 are taken");
    assert_int_equal(ggufc_session_n_past(s), 0);
    assert_int_equal(ggufc_session_evaluate(s, tokens, 20, &error), GGUFC_OK);
    assert_int_equal(ggufc_session_evaluate(s, tokens, 1, &error), GGUFC_ERROR_CONTEXT);
    assert_logits(s, tokens, 20);
    ggufc_session_close(s);
}

/* ---- opening */

static void refuse(const ggufc_session_options *options, ggufc_status status, const char *text) {
    ggufc_session *s = (ggufc_session *)&error;
    assert_int_equal(ggufc_session_open(&s, options, &error), status);
    assert_null(s);
    assert_int_equal(error.status, status);
    assert_non_null(strstr(error.text, text));
    assert_null(strchr(error.text, '\n'));
    assert_int_equal(ggufc_session_open(&s, options, NULL), status);
}

static void test_open_bad_options(void **state) {
    (void)state;
    ggufc_model old = model;
    old.abi = GGUFC_ABI + 1;
    refuse(&(ggufc_session_options){ 0 }, GGUFC_ERROR_OPTIONS, "no model");
    refuse(&(ggufc_session_options){ .model = &old }, GGUFC_ERROR_OPTIONS, "compiled for ABI");
    refuse(&(ggufc_session_options){ .model = &model, .n_ctx = FAKE_CTX + 1 }, GGUFC_ERROR_OPTIONS,
           "a context of 65 was asked for, the model was compiled for at most 64");
    refuse(&(ggufc_session_options){ .model = &model, .n_threads = THREADS_MAX + 1 },
           GGUFC_ERROR_OPTIONS, "1025 threads");
}

static void test_open_bad_memory(void **state) {
    (void)state;
    ggufc_model huge = model;
    huge.kv_bytes = UINT64_C(1) << 62;
    refuse(&(ggufc_session_options){ .model = &huge }, GGUFC_ERROR_MEMORY, "cannot map 4611686");
}

typedef struct bad_weights {
    const char *what; /* the file's content, or kind */
    const char *text;
} bad_weights;

static void make_bad_weights(const char *path, const char *what) {
    uint8_t bytes[FAKE_FILE_BYTES + 1] = { 0 };
    fake_file_bytes(bytes);
    if (strcmp(what, "index") == 0) bytes[FAKE_INDEX_OFFSET + FAKE_INDEX_BYTES - 1] ^= 1;
    if (strcmp(what, "directory") == 0)
        mkdir(path, 0700);
    else if (strcmp(what, "pipe") == 0)
        mkfifo(path, 0600);
    else if (strcmp(what, "missing") != 0)
        fake_write(path, bytes,
                   strcmp(what, "empty") == 0     ? 0
                   : strcmp(what, "longer") == 0  ? FAKE_FILE_BYTES + 1
                   : strcmp(what, "shorter") == 0 ? FAKE_FILE_BYTES - 1
                                                  : FAKE_FILE_BYTES);
}

static void test_open_bad_weights(void **state) {
    (void)state;
    static const bad_weights rows[] = {
        { "missing", ": No such file or directory" },
        { "empty", ": not the file this was compiled from: it has 0 bytes, expected 200" },
        { "shorter", ": it has 199 bytes, expected 200" },
        { "longer", ": it has 201 bytes, expected 200" },
        { "index", ": its index hashes to " },
        { "directory", ": not a regular file" },
        { "pipe", ": not a regular file" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char path[96];
        snprintf(path, sizeof path, "%s.%s", weights_path, rows[i].what);
        make_bad_weights(path, rows[i].what);
        refuse(&(ggufc_session_options){ .model = &model, .weights_path = path },
               GGUFC_ERROR_WEIGHTS, rows[i].text);
        assert_memory_equal(error.text, path, strlen(path));
        remove(path);
    }
}

static void test_open_odd_paths(void **state) {
    (void)state;
    char path[PATH_MAX + 10];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    refuse(&(ggufc_session_options){ .model = &model, .weights_path = path }, GGUFC_ERROR_WEIGHTS,
           "too long");
    refuse(&(ggufc_session_options){ .model = &model, .weights_path = "two\nlines\x7f" },
           GGUFC_ERROR_WEIGHTS, "two?lines?: No such file");
}

static void beside_path(char *path, size_t size, const char *name) {
    char self[PATH_MAX] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    *strrchr(self, '/') = '\0';
    assert_true((size_t)snprintf(path, size, "%s/%s", self, name) < size);
}

/* Beside the executable comes first, even if that file is another; then the recorded path. */
static void test_open_search(void **state) {
    (void)state;
    char beside[PATH_MAX * 2], recorded[96];
    const char *name = strrchr(weights_path, '/') + 1;
    snprintf(recorded, sizeof recorded, "/no/such/folder/%s", name);
    beside_path(beside, sizeof beside, name);
    ggufc_model moved = model;
    moved.path = recorded;
    ggufc_session_options options = { .model = &moved, .n_threads = 1 };
    refuse(&options, GGUFC_ERROR_WEIGHTS, "weights not found, neither beside the executable nor");

    ggufc_session *s;
    fake_write_weights(beside);
    assert_int_equal(ggufc_session_open(&s, &options, &error), GGUFC_OK);
    assert_string_equal(ggufc_session_weights_path(s), beside);
    ggufc_session_close(s);

    fake_write(beside, (const uint8_t *)"no", 2);
    options.model = &model;
    refuse(&options, GGUFC_ERROR_WEIGHTS, "it has 2 bytes");
    unlink(beside);
    s = open_session(1);
    assert_string_equal(ggufc_session_weights_path(s), weights_path);
    ggufc_session_close(s);
}

static void test_open_embedded(void **state) {
    (void)state;
    static _Alignas(64) uint8_t bytes[FAKE_FILE_BYTES];
    fake_file_bytes(bytes);
    ggufc_model m = fake_model("/no/such/file.gguf");
    m.embedded = bytes;
    ggufc_session *s;
    ggufc_session_options options = { .model = &m, .n_threads = 2 };
    assert_int_equal(ggufc_session_open(&s, &options, &error), GGUFC_OK);
    assert_string_equal(ggufc_session_weights_path(s), "(embedded)");
    int32_t tokens[] = { 5, 6, 7 };
    ggufc_session_evaluate(s, tokens, 3, &error);
    assert_logits(s, tokens, 3);
    ggufc_session_close(s);

    options.copy_weights = 1; /* what is done to the original is not seen */
    assert_int_equal(ggufc_session_open(&s, &options, &error), GGUFC_OK);
    memset(bytes, 0, sizeof bytes);
    ggufc_session_evaluate(s, tokens, 3, &error);
    assert_logits(s, tokens, 3);
    ggufc_session_close(s);

    refuse(&options, GGUFC_ERROR_WEIGHTS, "(embedded): not the file this was compiled from: its index hashes to");

    options.weights_path = "/no/such/file.gguf"; /* what is asked for is not replaced */
    refuse(&options, GGUFC_ERROR_WEIGHTS, "No such file");
}

/* KiB of this process that are locked, as the kernel counts. */
static long locked_kib(void) {
    char  line[256];
    long  kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status)) sscanf(line, "VmLck: %ld kB", &kib);
    fclose(status);
    return kib;
}

/* Takes the right from this process to lock any memory, root's included. */
static bool may_not_lock(void) {
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct   data[_LINUX_CAPABILITY_U32S_3] = { 0 };
    return setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){ 0 }) == 0 && syscall(SYS_capset, &head, data) == 0;
}

static int open_without_right(int argc, char **argv) {
    (void)argc;
    (void)argv;
    ggufc_session        *s;
    ggufc_session_options options = { .model = &model, .n_threads = 1, .lock_weights = 1 };
    if (!may_not_lock()) return 3;
    if (ggufc_session_open(&s, &options, &error) == GGUFC_OK) return 4;
    fputs(error.text, stderr);
    return error.status == GGUFC_ERROR_WEIGHTS ? 0 : 5;
}

static void test_open_locked(void **state) {
    (void)state;
    if (SANITIZED) { /* whose own mlock() does nothing */
        skip();
        return;
    }
    static _Alignas(64) uint8_t bytes[FAKE_FILE_BYTES];
    ggufc_model in_memory = model;
    fake_file_bytes(bytes);
    in_memory.embedded = bytes;
    ggufc_session_options rows[] = {
        { .model = &model, .n_threads = 1, .lock_weights = 1 },
        { .model = &model, .n_threads = 1, .lock_weights = 1, .copy_weights = 1 },
        { .model = &in_memory, .n_threads = 1, .lock_weights = 1 },
    };
    int32_t tokens[] = { 5, 6, 7 };
    assert_int_equal(locked_kib(), 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        ggufc_session *s;
        assert_int_equal(ggufc_session_open(&s, &rows[i], &error), GGUFC_OK);
        assert_true(locked_kib() > 0);
        ggufc_session_evaluate(s, tokens, 3, &error);
        assert_logits(s, tokens, 3);
        ggufc_session_close(s);
        if (rows[i].model->embedded) { /* another session's as well */
            assert_true(locked_kib() > 0);
            munlockall();
        }
        assert_int_equal(locked_kib(), 0);
    }
    char *argv[] = { "open", NULL };
    child c = child_run((child_setup){ .argv = argv, .function = open_without_right });
    assert_int_equal(c.exit_code, 0);
    assert_non_null(strstr(c.err, "cannot lock 1 KiB in memory, where 0 are allowed: `ulimit -l` raises that"));
    child_free(&c);
}

static void test_sessions_are_independent(void **state) {
    (void)state;
    int32_t a_tokens[] = { 1, 2, 3 }, b_tokens[] = { 40, 41 };
    ggufc_session *a = open_session(2), *b = open_session(3);
    ggufc_session_evaluate(a, a_tokens, 3, &error);
    ggufc_session_evaluate(b, b_tokens, 2, &error);
    assert_logits(a, a_tokens, 3);
    assert_logits(b, b_tokens, 2);
    ggufc_session_close(a);
    ggufc_session_close(b);
    ggufc_session_close(NULL);
}

static void test_status_names(void **state) {
    (void)state;
    for (int i = GGUFC_OK; i <= GGUFC_STOPPED; i++)
        assert_string_not_equal(ggufc_status_name((ggufc_status)i), "unknown");
    assert_string_equal(ggufc_status_name((ggufc_status)99), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_are_timed_alone),
        cmocka_unit_test(test_session_batches),
        cmocka_unit_test(test_session_lists),
        cmocka_unit_test(test_session_each),
        cmocka_unit_test(test_session_few_logits),
        cmocka_unit_test(test_session_truncate),
        cmocka_unit_test(test_session_bad_tokens),
        cmocka_unit_test(test_session_context),
        cmocka_unit_test(test_open_bad_options),
        cmocka_unit_test(test_open_bad_memory),
        cmocka_unit_test(test_open_bad_weights),
        cmocka_unit_test(test_open_odd_paths),
        cmocka_unit_test(test_open_search),
        cmocka_unit_test(test_open_embedded),
        cmocka_unit_test(test_open_locked),
        cmocka_unit_test(test_sessions_are_independent),
        cmocka_unit_test(test_status_names),
    };
    return cmocka_run_group_tests_name("runtime", tests, make_weights, remove_weights);
}
