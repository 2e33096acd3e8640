/* test_eval.c - call lists over threads, the team and its barrier. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "eval.h"
#include "sanitized.h"
#include "threads.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- eval */

enum { MAX_UNITS = 200 };

static uint8_t unit_seen[MAX_UNITS];
static uint32_t next_unit, kernel_calls;

static void mark_units(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    (void)s;
    (void)args;
    assert_int_equal(begin, next_unit);
    assert_true(begin < end && end <= MAX_UNITS);
    for (uint32_t i = begin; i < end; i++) unit_seen[i]++;
    next_unit = end;
}

static void follow_bounds(const ggufc_state *s, const uint64_t *args, uint32_t b, uint32_t e) {
    (void)s;
    assert_int_equal(args[0], 77);
    assert_true(b == next_unit && b < e);
    next_unit = e;
    kernel_calls++;
}

static void count_barrier(void *team, uint32_t thread) {
    ((uint32_t *)team)[thread]++;
}

/* Threads one after another: what each is given must join up with the one before. */
static void check_split(uint32_t units, uint32_t tokens, uint32_t n_threads) {
    uint32_t barriers[8] = { 0 };
    ggufc_call call = { mark_units, NULL, units, GGUFC_CALL_BARRIER, 0, 0, 0 };
    if (tokens) call.flags |= GGUFC_CALL_PER_TOKEN;
    ggufc_calls list = { &call, 1 };
    ggufc_state state = { .n_tokens = tokens ? tokens : 3 };
    memset(unit_seen, 0, sizeof unit_seen);
    next_unit = 0;
    for (uint32_t i = 0; i < n_threads; i++) {
        eval_share share = { .thread = i, .n_threads = n_threads, .team = barriers };
        if (n_threads > 1) share.barrier = count_barrier;
        eval_calls(&list, &state, &share);
        assert_int_equal(barriers[i], n_threads > 1);
    }
    uint32_t total = units * (tokens ? tokens : 1);
    assert_int_equal(next_unit, total);
    for (uint32_t i = 0; i < total; i++) assert_int_equal(unit_seen[i], 1);
}

static void test_eval_split(void **state) {
    (void)state;
    for (uint32_t n_threads = 1; n_threads <= 8; n_threads++)
        for (uint32_t units = 0; units <= 20; units++)
            for (uint32_t tokens = 0; tokens <= 9; tokens++) check_split(units, tokens, n_threads);
}

static void test_eval_split_is_even(void **state) {
    (void)state;
    static const uint64_t args[] = { 77 };
    ggufc_call call = { follow_bounds, args, UINT32_MAX, 0, 0, 0, 0 };
    ggufc_calls list = { &call, 1 };
    ggufc_state s = { .n_tokens = 1 };
    next_unit = kernel_calls = 0;
    for (uint32_t i = 0; i < 7; i++) {
        uint32_t before = next_unit;
        eval_calls(&list, &s, &(eval_share){ .thread = i, .n_threads = 7 });
        assert_in_range(next_unit - before, UINT32_MAX / 7, UINT32_MAX / 7 + 1);
    }
    assert_int_equal(next_unit, UINT32_MAX);
    assert_int_equal(kernel_calls, 7);
}

static void test_eval_no_barrier_unless_asked(void **state) {
    (void)state;
    uint32_t barriers[2] = { 0 };
    static const uint64_t args[] = { 77 };
    ggufc_call calls[] = { { follow_bounds, args, 1, 0, 0, 0, 0 },
                           { follow_bounds, args, 0, GGUFC_CALL_BARRIER, 0, 0, 0 } };
    ggufc_calls list = { calls, 2 }, none = { NULL, 0 };
    ggufc_state s = { .n_tokens = 1 };
    next_unit = kernel_calls = 0;
    eval_share share = { .thread = 1, .n_threads = 2, .barrier = count_barrier, .team = barriers };
    eval_calls(&list, &s, &share);
    eval_calls(&none, &s, &share);
    assert_int_equal(barriers[1], 1);
    assert_int_equal(kernel_calls, 1);
}

/* What each of `n_threads` did of three calls of 2, 1 and 3 units that are split together. */
enum { TOGETHER = 3 };

static uint32_t done[TOGETHER], done_begin[TOGETHER];

static void note_units(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    (void)s;
    done[*args] = end - begin;
    done_begin[*args] = begin;
}

static void test_eval_splits_calls_together(void **state) {
    (void)state;
    static const uint64_t args[TOGETHER] = { 0, 1, 2 };
    static const uint32_t units[TOGETHER] = { 2, 1, 3 };
    for (uint32_t times = 1; times <= 4; times++)
        for (uint32_t n_threads = 1; n_threads <= 8; n_threads++) {
            ggufc_call calls[TOGETHER];
            uint32_t next[TOGETHER] = { 0 }, before = 0, total = 6 * times;
            for (uint32_t i = 0; i < TOGETHER; before += units[i++])
                calls[i] = (ggufc_call){ note_units, &args[i], units[i], GGUFC_CALL_PER_TOKEN, before,
                                         6 - before - units[i], 0 };
            ggufc_calls list = { calls, TOGETHER };
            for (uint32_t t = 0; t < n_threads; t++) {
                memset(done, 0, sizeof done);
                eval_calls(&list, &(ggufc_state){ .n_tokens = times }, &(eval_share){ .thread = t, .n_threads = n_threads });
                assert_in_range(done[0] + done[1] + done[2], total / n_threads, (total + n_threads - 1) / n_threads);
                for (uint32_t i = 0; i < TOGETHER; i++) {
                    if (done[i]) assert_int_equal(done_begin[i], next[i]);
                    next[i] += done[i];
                }
            }
            for (uint32_t i = 0; i < TOGETHER; i++) assert_int_equal(next[i], units[i] * times);
        }
}

static void note_thread(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    (void)args;
    assert_true(begin == 0 && end == 5);
    done[0] |= 1u << s->thread;
}

static void test_eval_each_thread_does_all(void **state) {
    (void)state;
    ggufc_call call = { note_thread, NULL, 5, GGUFC_CALL_EACH, 0, 0, 0 };
    ggufc_calls list = { &call, 1 };
    done[0] = 0;
    for (uint32_t t = 0; t < 7; t++)
        eval_calls(&list, &(ggufc_state){ .n_tokens = 1 }, &(eval_share){ .thread = t, .n_threads = 7 });
    assert_int_equal(done[0], 0x7f);
}

/* ---- threads */

enum { STRESS_THREADS = 16, STRESS_ROUNDS = SANITIZED ? 200 : 3000 };

typedef struct stress {
    threads_team *team;
    uint32_t rounds;
    uint32_t step[STRESS_THREADS]; /* plain: only the barrier makes reading the others' legal */
    atomic_uint wrong;
} stress;

static void stress_job(void *arg, uint32_t thread, uint32_t n_threads) {
    stress *s = arg;
    for (uint32_t round = 1; round <= s->rounds; round++) {
        s->step[thread]++;
        threads_barrier(s->team, thread);
        for (uint32_t i = 0; i < n_threads; i++)
            if (s->step[i] != s->step[thread]) atomic_fetch_add(&s->wrong, 1);
        threads_barrier(s->team, thread);
    }
}

static void test_threads_barrier(void **state) {
    (void)state;
    static const uint32_t sizes[] = { 1, 2, 3, 5, STRESS_THREADS };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        stress s = { .team = threads_create(sizes[i], false), .rounds = STRESS_ROUNDS };
        assert_non_null(s.team);
        assert_int_equal(threads_count(s.team), sizes[i]);
        threads_run(s.team, stress_job, &s);
        assert_int_equal(s.wrong, 0);
        for (uint32_t t = 0; t < sizes[i]; t++) assert_int_equal(s.step[t], STRESS_ROUNDS);
        threads_destroy(s.team);
    }
}

static void count_job(void *arg, uint32_t thread, uint32_t n_threads) {
    (void)n_threads;
    ((uint32_t *)arg)[thread]++;
}

static void test_threads_many_jobs(void **state) {
    (void)state;
    uint32_t counts[4] = { 0 };
    threads_team *team = threads_create(4, false);
    for (uint32_t i = 1; i <= 500; i++) {
        threads_run(team, count_job, counts);
        for (int t = 0; t < 4; t++) assert_int_equal(counts[t], i);
        if (i % 100 == 0) usleep(2000); /* workers fall asleep */
    }
    threads_destroy(team);
}

static void test_threads_come_and_go(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++) {
        uint32_t counts[3] = { 0 };
        threads_team *team = threads_create(3, false);
        assert_non_null(team);
        if (i % 2) threads_run(team, count_job, counts);
        threads_destroy(team);
        assert_int_equal(counts[2], i % 2);
    }
    threads_destroy(NULL);
}

/* A pinned team works as any other, and its caller is free again when it is gone. */
static void test_threads_pinned(void **state) {
    (void)state;
    cpu_set_t before, pinned, after;
    sched_getaffinity(0, sizeof before, &before);
    uint32_t n = threads_online() < STRESS_THREADS ? threads_online() : STRESS_THREADS;
    stress s = { .team = threads_create(n, true), .rounds = STRESS_ROUNDS };
    assert_non_null(s.team);
    sched_getaffinity(0, sizeof pinned, &pinned);
    if (n == threads_online()) assert_int_equal(CPU_COUNT(&pinned), 1);
    threads_run(s.team, stress_job, &s);
    assert_int_equal(s.wrong, 0);
    threads_destroy(s.team);
    sched_getaffinity(0, sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));

    s.team = threads_create(n + 1, true); /* not one for each: nobody is pinned */
    sched_getaffinity(0, sizeof pinned, &pinned);
    assert_true(CPU_EQUAL(&before, &pinned));
    threads_destroy(s.team);
}

static void test_threads_limits(void **state) {
    (void)state;
    errno = 0;
    assert_null(threads_create(0, false));
    assert_int_equal(errno, EINVAL);
    assert_null(threads_create(THREADS_MAX + 1, false));
    assert_in_range(threads_online(), 1, THREADS_MAX);
}

/* In a process of its own, which has no room for the stacks: some start, then one cannot. */
static void test_threads_failure(void **state) {
    (void)state;
    if (SANITIZED) skip();
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = { 64 << 20, 64 << 20 };
        setrlimit(RLIMIT_AS, &limit);
        bool refused = threads_create(THREADS_MAX, false) == NULL && errno == EAGAIN;
        threads_team *team = threads_create(2, false);
        threads_destroy(team);
        _exit(refused && team ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eval_split),
        cmocka_unit_test(test_eval_split_is_even),
        cmocka_unit_test(test_eval_splits_calls_together),
        cmocka_unit_test(test_eval_each_thread_does_all),
        cmocka_unit_test(test_eval_no_barrier_unless_asked),
        cmocka_unit_test(test_threads_barrier),
        cmocka_unit_test(test_threads_many_jobs),
        cmocka_unit_test(test_threads_come_and_go),
        cmocka_unit_test(test_threads_pinned),
        cmocka_unit_test(test_threads_limits),
        cmocka_unit_test(test_threads_failure),
    };
    return cmocka_run_group_tests_name("eval", tests, NULL, NULL);
}
