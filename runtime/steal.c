/* steal.c - see steal.h.
 *
 * What is left of a thread's units of a call is one number, begin and count, that is changed by compare-and-swap alone:
 * whoever succeeds has what it took off, and an old number that came back is as good as the first. Ranges carry no
 * data between threads, barriers do, so no order is asked for.
 */
#include "steal.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE_BYTES = 64,
    PIECES = 4,  /* of what is left to it a thread takes one in so many at a time, */
    LEAST = 32,  /* … but not less than one in so many of a part */
};

#define UNSET UINT64_MAX

typedef struct member {
    alignas(LINE_BYTES) _Atomic uint64_t left[2][EVAL_TAKEN_MOST]; /* by turn, by number of the call */
    alignas(LINE_BYTES) uint32_t turn, n_taken[2]; /* its own alone: how many calls of a turn it took units of, or
                                                      found none left */
} member;

struct steal_ranges {
    uint32_t n_threads;
    alignas(LINE_BYTES) member members[];
};

_Static_assert(EVAL_TAKEN_MOST * sizeof(uint64_t) == LINE_BYTES, "a turn's ranges are a line");

steal_ranges *steal_new(uint32_t n_threads) {
    void *memory = NULL;
    size_t bytes = sizeof(steal_ranges) + n_threads * sizeof(member);
    if (posix_memalign(&memory, LINE_BYTES, bytes) != 0) return NULL;
    memset(memory, 0, bytes);
    steal_ranges *r = memory;
    r->n_threads = n_threads;
    for (uint32_t t = 0; t < n_threads; t++)
        for (uint32_t i = 0; i < 2 * EVAL_TAKEN_MOST; i++)
            atomic_init(&r->members[t].left[i / EVAL_TAKEN_MOST][i % EVAL_TAKEN_MOST], UNSET);
    return r;
}

void steal_free(steal_ranges *ranges) {
    free(ranges);
}

static uint64_t pack(uint32_t begin, uint32_t count) {
    return (uint64_t)begin << 32 | count;
}

static uint32_t begin_of(uint64_t left) {
    return (uint32_t)(left >> 32);
}

static uint32_t count_of(uint64_t left) {
    return (uint32_t)left;
}

static bool swap(_Atomic uint64_t *left, uint64_t *seen, uint64_t by) {
    return atomic_compare_exchange_weak_explicit(left, seen, by, memory_order_relaxed, memory_order_relaxed);
}

/* What a number seen stands for: where none was set, the thread's whole part. */
static uint64_t left_of(uint64_t seen, const eval_work *work, uint32_t thread) {
    if (seen != UNSET) return seen;
    eval_units part = eval_part(work, thread);
    return pack(part.begin, part.end - part.begin);
}

/* How many of `count` units that are left to it a thread takes next. */
static uint32_t next_few(uint32_t count, const eval_work *work) {
    uint64_t least = work->call->units * work->times / work->n_threads / LEAST;
    uint32_t few = (count + PIECES - 1) / PIECES;
    if (few < least) few = (uint32_t)least;
    return few < count ? few : count;
}

/* The next few of its own; false: there are none left. */
static bool take_own(_Atomic uint64_t *left, const eval_work *work, uint32_t thread, eval_units *units) {
    uint64_t seen = atomic_load_explicit(left, memory_order_relaxed);
    for (;;) {
        uint64_t now = left_of(seen, work, thread);
        uint32_t begin = begin_of(now), count = count_of(now), n = next_few(count, work);
        if (!count) return false;
        *units = (eval_units){ begin, begin + n };
        if (swap(left, &seen, pack(begin + n, count - n))) return true;
    }
}

/* Takes the larger half of what another has left, from the back; a count of 0: it had nothing. */
static uint64_t take_half(_Atomic uint64_t *left, const eval_work *work, uint32_t thread) {
    uint64_t seen = atomic_load_explicit(left, memory_order_relaxed);
    for (;;) {
        uint64_t now = left_of(seen, work, thread);
        uint32_t begin = begin_of(now), count = count_of(now), stay = count / 2;
        if (!count || swap(left, &seen, pack(begin, stay))) return pack(begin + stay, count - stay);
    }
}

bool steal_take(steal_ranges *r, uint32_t thread, const eval_work *work, eval_units *units) {
    member  *me = &r->members[thread];
    uint32_t turn = me->turn;
    _Atomic uint64_t *own = &me->left[turn][work->number];
    me->n_taken[turn] = work->number + 1;
    if (take_own(own, work, thread, units)) return true;
    for (uint32_t i = 1; i < r->n_threads; i++) {
        uint32_t other = (thread + i) % r->n_threads;
        uint64_t stolen = take_half(&r->members[other].left[turn][work->number], work, other);
        if (!count_of(stolen)) continue;
        atomic_store_explicit(own, stolen, memory_order_relaxed); /* nobody changes one of none */
        if (take_own(own, work, thread, units)) return true;
    }
    return false;
}

/* All threads take units of the same calls. The other turn's are those before a barrier: all are through with them. */
void steal_turn(steal_ranges *r, uint32_t thread) {
    member *me = &r->members[thread];
    me->turn = !me->turn;
    for (uint32_t i = 0; i < me->n_taken[me->turn]; i++)
        atomic_store_explicit(&me->left[me->turn][i], UNSET, memory_order_relaxed);
    me->n_taken[me->turn] = 0;
}
