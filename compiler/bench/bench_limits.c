/* What the machine can do at most. Reads are of memory that nobody else touches, each thread its part;
 * products are of registers. Of several tries the best counts: a limit is what is possible. */
#include "bench_parts.h"

#include "cpu.h"
#include "emit.h"
#include "threads.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    TRIES = 4,
    CACHES = 8,                /* memory is that many times larger than the largest cache */
    LEAST_MEMORY = 256 << 20,
    MOST_MEMORY = 1 << 30,
    LEAST_WEIGHTS = 64 << 10,
    TRY_NS = 10000000,
};

struct bench_peak {
    target  machine;
    jit    *jit;
    const emit_peak_table *table;
    uint8_t *memory;
    uint64_t memory_bytes, weight_bytes;
};

/* ---- making it */

/* The quantized type that most products are with; Q8_0 where there is none. */
static enum quant_type most_multiplied(const graph *g) {
    double products[QUANT_COUNT] = { 0 };
    int    most = QUANT_Q8_0;
    for (uint32_t i = 0; i < g->n_ops; i++)
        for (uint32_t w = 0; w < graph_op_weights(g->ops[i]); w++) {
            const value *v = g->ops[i]->in[w];
            if (quant_find(v->type)->block_len > 1) products[v->type] += (double)value_count(v);
        }
    for (int t = 0; t < QUANT_COUNT; t++)
        if (products[t] > products[most]) most = t;
    return (enum quant_type)most;
}

static bool make_code(bench *b, struct bench_peak *p) {
    const ggufc_compile_options *o = &b->options->engine.compile;
    if (!target_open(&p->machine, b->memory, b->messages, NULL, o->cpu, o->features)) return false;
    if (!cpu_can_run(p->machine.name))
        return diag_error(b->messages, "limits are measured by code for %s, which this processor is not",
                          p->machine.name);
    LLVMContextRef context = LLVMContextCreate();
    LLVMModuleRef  module = LLVMModuleCreateWithNameInContext("peak", context);
    LLVMMemoryBufferRef object = NULL;
    const void *symbol = NULL;
    target_prepare(&p->machine, module);
    emit_peak(b->memory, module, p->machine.isa,
              most_multiplied(b->sides[BENCH_PLAIN].engine.compilation.graph));
    if (target_optimize(&p->machine, b->messages, module))
        object = target_code(&p->machine, b->messages, module, false);
    LLVMDisposeModule(module);
    LLVMContextDispose(context);
    if (object) p->jit = jit_load(b->messages, object, EMIT_PEAK_SYMBOL, &symbol);
    p->table = symbol;
    return p->jit != NULL;
}

/* Written to, so that it is there: what was only mapped is one page of zeros. */
static bool make_memory(const bench *b, struct bench_peak *p) {
    long     cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    uint64_t bytes = cache > 0 ? CACHES * (uint64_t)cache : 0;
    if (bytes < LEAST_MEMORY) bytes = LEAST_MEMORY;
    if (bytes > MOST_MEMORY) bytes = MOST_MEMORY;
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        return diag_error(b->messages, "cannot map %llu bytes to read: %s", (unsigned long long)bytes,
                          strerror(errno));
    madvise(m, bytes, MADV_HUGEPAGE);
    memset(m, 1, bytes);
    p->memory = m;
    p->memory_bytes = bytes;
    const graph *g = b->sides[BENCH_PLAIN].engine.compilation.graph;
    p->weight_bytes = (uint64_t)bench_cost_of_graph(g, 1, 0).bytes;
    p->weight_bytes -= p->weight_bytes % EMIT_PEAK_STEP;
    if (p->weight_bytes < LEAST_WEIGHTS) p->weight_bytes = LEAST_WEIGHTS;
    if (p->weight_bytes > bytes) p->weight_bytes = bytes;
    return true;
}

bool bench_peak_open(bench *b) {
    struct bench_peak *p = b->peak = ARENA_NEW(b->memory, struct bench_peak);
    return make_code(b, p) && make_memory(b, p);
}

void bench_peak_close(bench *b) {
    struct bench_peak *p = b->peak;
    if (!p) return;
    if (p->memory) munmap(p->memory, p->memory_bytes);
    jit_free(p->jit);
    target_close(&p->machine);
}

/* ---- measuring */

enum peak_kind { PEAK_READ, PEAK_DOTS, PEAK_FMAS };

typedef struct peak_job {
    const struct bench_peak *peak;
    enum peak_kind kind;
    uint64_t bytes, times; /* times: repetitions, or rounds of products */
} peak_job;

static void read_part(const peak_job *j, uint32_t thread, uint32_t n_threads) {
    static volatile uint32_t unused;
    uint64_t steps = j->bytes / EMIT_PEAK_STEP;
    uint64_t begin = steps * thread / n_threads, end = steps * (thread + 1) / n_threads;
    for (uint64_t i = 0; i < j->times && begin < end; i++)
        unused = j->peak->table->read(j->peak->memory + begin * EMIT_PEAK_STEP,
                                      (end - begin) * EMIT_PEAK_STEP);
    (void)unused;
}

static void peak_work(void *arg, uint32_t thread, uint32_t n_threads) {
    _Alignas(64) uint8_t operands[EMIT_PEAK_BYTES];
    const peak_job *j = arg;
    if (j->kind == PEAK_READ) {
        read_part(j, thread, n_threads);
        return;
    }
    const float one = 1;
    for (size_t i = 0; i < sizeof operands; i++)
        operands[i] = j->kind == PEAK_DOTS ? 1 : ((const uint8_t *)&one)[i % sizeof one];
    (j->kind == PEAK_DOTS ? j->peak->table->dot : j->peak->table->fma)(operands, j->times);
}

static uint64_t run_job(threads_team *team, peak_job *j) {
    uint64_t begin = bench_clock_ns();
    threads_run(team, peak_work, j);
    return bench_clock_ns() - begin;
}

/* How often it is done in a second, at best; `*most` is raised to amount times that. */
static bool measure(const bench *b, threads_team *team, peak_job j, double amount, double *most) {
    j.times = 1;
    for (uint64_t ns; (ns = run_job(team, &j)) < TRY_NS / 2; j.times *= 2)
        if (bench_stopped(b)) return false;
    for (int i = 0; i < TRIES; i++) {
        double a_second = amount * (double)j.times * 1e9 / (double)run_job(team, &j);
        if (a_second > *most) *most = a_second;
        if (bench_stopped(b)) return false;
    }
    return true;
}

static bool measure_all(const bench *b, threads_team *team) {
    const struct bench_peak *p = b->peak;
    bench_limits *l = b->limits;
    double n = (double)l->n_threads, bytes = (double)p->memory_bytes;
    bool ok = measure(b, team, (peak_job){ p, PEAK_READ, p->memory_bytes, 1 }, bytes, &l->memory) &&
              measure(b, team, (peak_job){ p, PEAK_DOTS, 0, 1 }, n * (double)p->table->dots, &l->dots) &&
              measure(b, team, (peak_job){ p, PEAK_FMAS, 0, 1 }, n * (double)p->table->fmas, &l->fmas);
    if (ok && p->weight_bytes < p->memory_bytes)
        return measure(b, team, (peak_job){ p, PEAK_READ, p->weight_bytes, 1 }, (double)p->weight_bytes,
                       &l->weights);
    l->weights = l->memory;
    return ok;
}

/* What fewer threads can do, more can. */
static void raise_to_fewer(bench *b) {
    bench_limits *l = b->limits;
    for (uint32_t i = 0; i < b->report->n_limits; i++) {
        const bench_limits *other = b->report->limits[i];
        if (other->n_threads > l->n_threads) continue;
        l->memory = fmax(l->memory, other->memory);
        l->weights = fmax(l->weights, other->weights);
        l->dots = fmax(l->dots, other->dots);
        l->fmas = fmax(l->fmas, other->fmas);
    }
}

bool bench_measure_limits(bench *b) {
    if (!bench_goes_on(b, "limits, %u threads", b->limits->n_threads)) return false;
    cpu_set_t before; /* the sessions' team may keep this thread to a processor: so it shall be again */
    sched_getaffinity(0, sizeof before, &before);
    bench_unpin(b);
    threads_team *team = threads_create(b->limits->n_threads, true);
    if (!team)
        return diag_error(b->messages, "cannot start %u threads: %s", b->limits->n_threads, strerror(errno));
    bool ok = measure_all(b, team);
    threads_destroy(team);
    sched_setaffinity(0, sizeof before, &before);
    raise_to_fewer(b);
    return ok;
}
