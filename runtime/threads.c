/* threads.c - a team, its barrier, and nothing else.
 *
 * The barrier is a counter of arrivals and an epoch. The last to arrive resets the counter and
 * advances the epoch; the others watch the epoch, first spinning, then asleep on a condition
 * variable. Spinning costs nothing where each thread has a core and is the only way to meet within
 * a fraction of a microsecond. Where threads outnumber free cores it burns the time that the late
 * thread needs. So a thread whose long spin was in vain spins only briefly at its next barriers:
 * at one, then three, seven, … until a long spin is enough again. Without that second try a team
 * that once fell asleep would stay so, each waking later than the other is willing to spin.
 *
 * Where other programs want the processors too, the system likes to wake a thread on the processor
 * of the one that woke it; two threads that alternate on one processor look as busy as one, so
 * nothing ever parts them. A team with as many threads as processors can be pinned, one to each,
 * which was measured to be two to ten times faster then, and no slower on an idle machine.
 *
 * Starting a job is a barrier too: workers wait in one between jobs, and the caller, having written
 * the job down, arrives last. A job without a function ends the workers.
 *
 *     worker:   barrier  job  barrier   barrier  job  barrier   …
 *     caller:   barrier  job  barrier   (idle)   barrier  job  …
 */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

enum {
    LINE_BYTES = 64,
    SPIN_SHORT_NS = 2000,
    SPIN_LONG_NS = 50000,      /* longer than it takes to wake up */
    SPIN_SHORT_MOST = 63,      /* barriers in a row with a short spin */
    SPINS_PER_LOOK = 32,       /* tries between two looks at the clock */
    STACK_BYTES = 4 << 20,     /* of a worker, room for tiles of weights; no memory until touched */
};

typedef struct member {
    alignas(LINE_BYTES) threads_team *team;
    pthread_t thread;
    uint32_t  index;
    uint32_t  failures;     /* 0, 1, 3, 7, …: more after each long spin in vain */
    uint32_t  short_spins;  /* that many barriers until the next long one */
} member;

struct threads_team {
    uint32_t     n_threads;
    threads_job *job; /* written by the caller between two barriers */
    void        *arg;
    bool         pinned;
    cpu_set_t    allowed; /* where the caller may run when it is not pinned */

    alignas(LINE_BYTES) atomic_uint arrived;
    alignas(LINE_BYTES) atomic_uint epoch;
    alignas(LINE_BYTES) atomic_uint sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t  wake;

    alignas(LINE_BYTES) member members[];
};

static void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* True when the epoch moved on within `limit_ns`. */
static bool team_spin(threads_team *team, unsigned epoch, uint64_t limit_ns) {
    uint64_t start = 0;
    for (;;) {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (atomic_load_explicit(&team->epoch, memory_order_acquire) != epoch) return true;
            spin_pause();
        }
        uint64_t now = clock_ns();
        if (start == 0) start = now;
        if (now - start >= limit_ns) return false;
    }
}

/* A sleeper counts itself before it looks at the epoch; team_release moves the epoch before it
   looks at the count: one of the two sees the other. There a fence stands in between, for QEMU lets a load
   of AArch64 overtake a store that the processor would keep before it (a team slept for ever). */
static void team_sleep(threads_team *team, unsigned epoch) {
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->epoch) == epoch) pthread_cond_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->mutex);
}

static void team_release(threads_team *team, unsigned epoch) {
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->epoch, epoch + 1, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&team->sleepers, memory_order_relaxed) == 0) return;
    pthread_mutex_lock(&team->mutex);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
}

/* True when the last of the team has just arrived. The epoch is read before arriving: afterwards it
   may move at any time. */
static bool team_arrive(threads_team *team, unsigned *epoch) {
    *epoch = atomic_load_explicit(&team->epoch, memory_order_relaxed);
    unsigned before = atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel);
    return before + 1 == team->n_threads;
}

/* Spins as long as it has paid of late; false when that was not long enough. */
static bool member_spin(member *me, unsigned epoch) {
    if (me->short_spins > 0) {
        me->short_spins--;
        return team_spin(me->team, epoch, SPIN_SHORT_NS);
    }
    bool met = team_spin(me->team, epoch, SPIN_LONG_NS);
    if (met)
        me->failures = 0;
    else if (me->failures < SPIN_SHORT_MOST)
        me->failures = me->failures * 2 + 1;
    me->short_spins = me->failures;
    return met;
}

void threads_barrier(threads_team *team, uint32_t thread) {
    unsigned epoch;
    if (team->n_threads == 1) return;
    if (team_arrive(team, &epoch))
        team_release(team, epoch);
    else if (!member_spin(&team->members[thread], epoch))
        team_sleep(team, epoch);
}

/* A barrier whose wait says nothing of how busy the machine is. */
static void team_wait_job(threads_team *team) {
    unsigned epoch;
    if (team_arrive(team, &epoch))
        team_release(team, epoch);
    else if (!team_spin(team, epoch, SPIN_LONG_NS))
        team_sleep(team, epoch);
}

static void *team_work(void *arg) {
    member *me = arg;
    threads_team *team = me->team;
    for (;;) {
        team_wait_job(team);
        if (!team->job) return NULL;
        team->job(team->arg, me->index, team->n_threads);
        threads_barrier(team, me->index);
    }
}

void threads_run(threads_team *team, threads_job *job, void *arg) {
    team->job = job;
    team->arg = arg;
    threads_barrier(team, 0);
    job(arg, 0, team->n_threads);
    threads_barrier(team, 0);
}

/* ---- processors */

static uint32_t online_count(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return (uint32_t)CPU_COUNT(&allowed);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

uint32_t threads_online(void) {
    uint32_t n = online_count();
    return n < THREADS_MAX ? n : THREADS_MAX;
}

/* Only that processor which is the index-th of those allowed. */
static cpu_set_t only_processor(const cpu_set_t *allowed, uint32_t index) {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && index-- == 0) CPU_SET(cpu, &one);
    return one;
}

static bool team_can_pin(threads_team *team) {
    return team->n_threads > 1 && sched_getaffinity(0, sizeof team->allowed, &team->allowed) == 0 &&
           (uint32_t)CPU_COUNT(&team->allowed) == team->n_threads;
}

/* Where it fails the thread is merely not pinned. */
static void pin_member(threads_team *team, pthread_t thread, uint32_t index) {
    if (!team->pinned) return;
    cpu_set_t one = only_processor(&team->allowed, index);
    pthread_setaffinity_np(thread, sizeof one, &one);
}

static void unpin_caller(threads_team *team) {
    if (team->pinned) pthread_setaffinity_np(pthread_self(), sizeof team->allowed, &team->allowed);
}

/* ---- creating and ending */

/* Ends the `started` workers there are, arriving for those that could not be started. */
static void team_end(threads_team *team, uint32_t started) {
    team->job = NULL;
    atomic_fetch_add(&team->arrived, team->n_threads - 1 - started);
    threads_barrier(team, 0);
    for (uint32_t i = 1; i <= started; i++) pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    unpin_caller(team);
    free(team);
}

void threads_destroy(threads_team *team) {
    if (team) team_end(team, team->n_threads - 1);
}

static threads_team *team_allocate(uint32_t n_threads) {
    void *memory = NULL;
    size_t bytes = sizeof(threads_team) + n_threads * sizeof(member);
    if ((errno = posix_memalign(&memory, LINE_BYTES, bytes)) != 0) return NULL;
    memset(memory, 0, bytes);
    threads_team *team = memory;
    team->n_threads = n_threads;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    for (uint32_t i = 0; i < n_threads; i++) {
        team->members[i].team = team;
        team->members[i].index = i;
    }
    return team;
}

/* Workers take no signals: they are for the thread that the program knows. */
static uint32_t team_start(threads_team *team) {
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* raised by the thread itself: blocked, it would end the process unheard */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    uint32_t started = 0;
    while (started + 1 < team->n_threads) {
        member *m = &team->members[started + 1];
        errno = pthread_create(&m->thread, &attributes, team_work, m);
        if (errno != 0) break;
        pin_member(team, m->thread, ++started);
    }
    int failure = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    errno = failure;
    return started;
}

threads_team *threads_create(uint32_t n_threads, bool pin) {
    if (n_threads < 1 || n_threads > THREADS_MAX) {
        errno = EINVAL;
        return NULL;
    }
    threads_team *team = team_allocate(n_threads);
    if (!team) return NULL;
    team->pinned = pin && team_can_pin(team);
    uint32_t started = team_start(team);
    if (started + 1 == n_threads) {
        pin_member(team, pthread_self(), 0);
        return team;
    }
    int failure = errno;
    team_end(team, started);
    errno = failure;
    return NULL;
}

uint32_t threads_count(const threads_team *team) {
    return team->n_threads;
}
