/* test_steal.c - units handed out while threads do them: each once, whatever the order and speed of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "steal.h"
#include "threads.h"

enum { MAX_UNITS = 300, MAX_THREADS = 12 };

static uint32_t random_below(uint32_t n) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

static eval_work work_of(const ggufc_call *call, uint32_t times, uint32_t n_threads, uint32_t number) {
    return (eval_work){ .call = call, .times = times, .n_threads = n_threads, .number = number };
}

/* ---- threads that are but steps of this one */

/* What each thread is at of the calls between two barriers. */
typedef struct group {
    ggufc_call calls[EVAL_TAKEN_MOST];
    uint32_t   n_calls, times;
    uint32_t   at[MAX_THREADS];
    uint8_t    seen[EVAL_TAKEN_MOST][MAX_UNITS];
} group;

/* False when the thread is at the barrier. */
static bool step(steal_ranges *r, group *g, uint32_t n_threads, uint32_t thread) {
    uint32_t   number = g->at[thread];
    eval_units units;
    if (number == g->n_calls) return false;
    eval_work work = work_of(&g->calls[number], g->times, n_threads, number);
    if (!steal_take(r, thread, &work, &units)) {
        if (++g->at[thread] == g->n_calls) steal_turn(r, thread);
        return true;
    }
    assert_true(units.begin < units.end && units.end <= g->calls[number].units * g->times);
    for (uint32_t i = units.begin; i < units.end; i++) g->seen[number][i]++;
    return true;
}

static void check_group(const group *g) {
    for (uint32_t c = 0; c < g->n_calls; c++)
        for (uint32_t i = 0; i < g->calls[c].units * g->times; i++) assert_int_equal(g->seen[c][i], 1);
}

/* Calls of many units, or few, or none. */
static void begin_group(group *g, uint32_t n_calls, uint32_t times) {
    *g = (group){ .n_calls = n_calls, .times = times };
    for (uint32_t c = 0; c < n_calls; c++)
        g->calls[c] = (ggufc_call){ .units = random_below(4) ? random_below(MAX_UNITS / times) : random_below(4) };
}

/* In each group another thread is the fastest, and another one hardly comes to anything. */
static void test_each_unit_once(void **state) {
    (void)state;
    static group g;
    for (uint32_t n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        steal_ranges *r = steal_new(n_threads);
        for (uint32_t round = 0; round < 300; round++) {
            uint32_t fast = random_below(n_threads), slow = random_below(n_threads);
            begin_group(&g, 1 + random_below(EVAL_TAKEN_MOST), 1 + random_below(3));
            for (uint32_t i = 0; i < 4000; i++) {
                uint32_t thread = random_below(3) ? random_below(n_threads) : fast;
                if (thread != slow || random_below(50) == 0) step(r, &g, n_threads, thread);
            }
            for (uint32_t t = 0; t < n_threads; t++)
                while (step(r, &g, n_threads, t)) continue;
            check_group(&g);
        }
        steal_free(r);
    }
    steal_free(NULL);
}

static void test_others_do_the_part_of_one_that_does_not_come(void **state) {
    (void)state;
    static group g;
    steal_ranges *r = steal_new(MAX_THREADS);
    g = (group){ .calls = { { .units = 200 }, { .units = 31 } }, .n_calls = 2, .times = 1 };
    for (uint32_t busy = 1; busy;) {
        busy = 0;
        for (uint32_t t = 2; t < 4; t++) busy += step(r, &g, MAX_THREADS, t);
    }
    check_group(&g);
    for (uint32_t t = 0; t < MAX_THREADS; t++)
        while (step(r, &g, MAX_THREADS, t)) continue;
    check_group(&g);
    steal_free(r);
}

/* Threads of one speed have next to nothing of one another's, and each begins where its part does. */
static void test_own_part_first(void **state) {
    (void)state;
    enum { UNITS = 240, THREADS = 4 };
    ggufc_call    call = { .units = UNITS, .before = 100, .after = 20 };
    eval_work     work = work_of(&call, 1, THREADS, 0);
    steal_ranges *r = steal_new(THREADS);
    uint32_t      next[THREADS], stolen = 0, done = 0;
    for (uint32_t t = 0; t < THREADS; t++) next[t] = eval_part(&work, t).begin;
    for (uint32_t t = 0; done < UNITS; t = (t + 1) % THREADS) {
        eval_units units;
        if (!steal_take(r, t, &work, &units)) continue;
        done += units.end - units.begin;
        if (units.begin == next[t])
            next[t] = units.end;
        else
            stolen += units.end - units.begin;
    }
    assert_in_range(stolen, 0, THREADS);
    steal_free(r);
}

/* ---- real threads */

enum { CALLS = 40, TEAM = 5, ROUNDS = 60 };

typedef struct run {
    threads_team *team;
    steal_ranges *ranges;
    ggufc_calls   list;
} run;

static atomic_uint   done[CALLS], wrong;
static _Atomic uint8_t marks[CALLS][MAX_UNITS];
static uint32_t      slow;
static uint64_t    call_args[CALLS][2]; /* its number, and that of the call before the barrier before it, or CALLS */

static void count_units(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    if (s->thread == slow && begin % 4 == 0) usleep(50);
    if (args[1] < CALLS && atomic_load(&done[args[1]]) != MAX_UNITS) atomic_fetch_add(&wrong, 1);
    for (uint32_t i = begin; i < end; i++) atomic_fetch_add(&marks[args[0]][i], 1);
    atomic_fetch_add(&done[args[0]], end - begin);
}

static void run_barrier(void *team, uint32_t thread) {
    threads_barrier(((run *)team)->team, thread);
}

static bool run_take(void *team, uint32_t thread, const eval_work *work, eval_units *units) {
    return steal_take(((run *)team)->ranges, thread, work, units);
}

static void run_turn(void *team, uint32_t thread) {
    steal_turn(((run *)team)->ranges, thread);
}

static void run_job(void *arg, uint32_t thread, uint32_t n_threads) {
    run *r = arg;
    eval_calls(&r->list, &(ggufc_state){ .n_tokens = 1 },
               &(eval_share){ .thread = thread, .n_threads = n_threads, .barrier = run_barrier, .take = run_take,
                              .turn = run_turn, .team = r });
}

/* Calls of which some are worth handing out and others not, more between two barriers than there are ranges, and
   several lists: after a barrier, all units of the call before it are done. */
static void test_lists_of_calls(void **state) {
    (void)state;
    ggufc_call calls[CALLS];
    uint64_t   before = CALLS;
    for (uint64_t i = 0; i < CALLS; i++) {
        bool barrier = i < 10 ? i == 9 : random_below(2), is_long = i < 10 || random_below(4);
        call_args[i][0] = i;
        call_args[i][1] = before;
        calls[i] = (ggufc_call){ .kernel = count_units, .args = call_args[i], .units = MAX_UNITS,
                                 .flags = barrier ? GGUFC_CALL_BARRIER : 0, .work = is_long ? UINT32_MAX : 1 };
        if (barrier) before = i;
    }
    for (uint32_t n_threads = 1; n_threads <= TEAM; n_threads++) {
        run r = { threads_create(n_threads, false), steal_new(n_threads), { calls, CALLS } };
        for (uint32_t round = 1; round <= ROUNDS; round++) {
            memset(done, 0, sizeof done);
            memset(marks, 0, sizeof marks);
            slow = round % n_threads;
            r.list.count = CALLS - round % 7;
            threads_run(r.team, run_job, &r);
            for (uint64_t i = 0; i < r.list.count * MAX_UNITS; i++)
                assert_int_equal(marks[i / MAX_UNITS][i % MAX_UNITS], 1);
        }
        threads_destroy(r.team);
        steal_free(r.ranges);
    }
    assert_int_equal(wrong, 0);
}

/* ---- which calls are handed out */

static uint32_t asked[EVAL_TAKEN_MOST + 1], turns;

static bool note_take(void *team, uint32_t thread, const eval_work *work, eval_units *units) {
    (void)team;
    assert_true(thread == 1 && units);
    assert_true(work->number < EVAL_TAKEN_MOST);
    asked[work->number]++;
    return false;
}

static void note_turn(void *team, uint32_t thread) {
    (void)team;
    (void)thread;
    turns++;
}

static void no_barrier(void *team, uint32_t thread) {
    (void)team;
    (void)thread;
}

static void no_kernel(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    (void)s;
    (void)args;
    atomic_fetch_add(&done[0], end - begin);
}

static void walk(ggufc_call *calls, uint64_t n, uint32_t n_tokens, const eval_share *share) {
    memset(asked, 0, sizeof asked);
    memset(done, 0, sizeof done);
    turns = 0;
    eval_calls(&(ggufc_calls){ calls, n }, &(ggufc_state){ .n_tokens = n_tokens }, share);
}

static void test_long_calls_only(void **state) {
    (void)state;
    enum { N = EVAL_TAKEN_MOST + 2, LONG = 1 << 20, SHORT = 1 << 10 };
    ggufc_call calls[N];
    eval_share share = { .thread = 1, .n_threads = 2, .take = note_take, .turn = note_turn, .barrier = no_barrier };

    /* The ninth and tenth between two barriers are not asked for: this thread does one of their two units. */
    for (uint32_t i = 0; i < N; i++) calls[i] = (ggufc_call){ .kernel = no_kernel, .units = 2, .work = LONG };
    walk(calls, N, 1, &share);
    for (uint32_t i = 0; i < EVAL_TAKEN_MOST; i++) assert_int_equal(asked[i], 1);
    assert_true(done[0] == 2 && turns == 1);

    for (uint32_t i = 0; i < N; i++) calls[i].flags = GGUFC_CALL_BARRIER;
    walk(calls, N, 1, &share);
    assert_true(asked[0] == N && done[0] == 0 && turns == N);

    for (uint32_t i = 0; i < N; i++) calls[i].flags = GGUFC_CALL_EACH;
    walk(calls, N, 1, &share);
    assert_true(asked[0] == 0 && done[0] == 2 * N && turns == 0);

    for (uint32_t i = 0; i < N; i++) calls[i] = (ggufc_call){ .kernel = no_kernel, .units = 2, .work = SHORT };
    walk(calls, N, 1, &share);
    assert_true(asked[0] == 0 && done[0] == N && turns == 0);
    walk(calls, 1, SHORT, &share); /* so many tokens make it long */
    assert_true(asked[0] == 1 && done[0] == 0 && turns == 1);
    share.n_threads = 100; /* and so many threads short */
    walk(calls, 1, SHORT, &share);
    assert_true(asked[0] == 0 && turns == 0);

    share = (eval_share){ .thread = 1, .n_threads = 2, .barrier = no_barrier };
    calls[0].work = LONG;
    walk(calls, 1, 1, &share);
    assert_true(asked[0] == 0 && done[0] == 1 && turns == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_unit_once),
        cmocka_unit_test(test_others_do_the_part_of_one_that_does_not_come),
        cmocka_unit_test(test_own_part_first),
        cmocka_unit_test(test_lists_of_calls),
        cmocka_unit_test(test_long_calls_only),
    };
    return cmocka_run_group_tests_name("steal", tests, NULL, NULL);
}
