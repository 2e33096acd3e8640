/* bench.h - how fast a model is in this process, and how close that is to what the machine can do.
 *
 *     limits     plain reads of memory, and of as many bytes as the weights have; products by the
 *                instructions that kernels use                                  bench_limits.c
 *     tests      reading a prompt, generating: the whole model                  bench_model.c
 *     variants   the same, compiled otherwise, by turns with the model as it is
 *     kernels    each kernel's part of a pass, generated and interpreted        bench_kernels.c
 *
 * The limit of some work is the roofline's (Williams, Waterman and Patterson 2009): the time to read
 * its weights and caches once, or the time of its products, whichever is longer. Activations are not
 * counted: they are small and stay in caches.
 *
 * All of it is measured for each number of threads. Times are in nanoseconds, medians where nothing
 * else is said.
 */
#ifndef GGUFC_BENCH_H
#define GGUFC_BENCH_H

#include <signal.h>
#include <stdio.h>

#include "engine.h"

enum { BENCH_MOST_SIZES = 16, BENCH_MOST_RUNS = 100 };

typedef struct bench_sizes {
    uint32_t at[BENCH_MOST_SIZES], n;
} bench_sizes;

typedef struct bench_options {
    engine_options engine; /* model, kernels, how it is compiled */
    bench_sizes prompts, generations, depths; /* tokens; 0 is left out, of depths it is none */
    bench_sizes threads;
    bool     prompts_asked, generations_asked; /* else they are cut to what the context has room for */
    uint32_t runs;   /* of each test, pass and variant; 0: as many as do not take long */
    const volatile sig_atomic_t *stop;    /* ends it at the next token or batch; may be NULL */
    void (*progress)(const char *what);   /* what is measured now, NULL when all is; may be NULL */
} bench_options;

/* Work: bytes of weights and caches that are read, products of 8-bit integers, products of floats. */
typedef struct bench_cost {
    double bytes, dots, fmas;
} bench_cost;

/* What the machine can do at most, a second. */
typedef struct bench_limits {
    uint32_t n_threads;
    double   memory; /* bytes, of memory far larger than the caches */
    double   weights; /* bytes, of as much memory as the model's weights: the same for large ones */
    double   dots, fmas;
} bench_limits;

typedef struct bench_test {
    const bench_limits *limits;
    uint32_t n_prompt, n_gen, n_depth; /* n_prompt or n_gen is 0 */
    bench_cost cost;
    uint32_t n_runs;
    uint64_t ns[BENCH_MOST_RUNS]; /* in the order they were run */
    double   median;
    char     time[24]; /* when it began: 2026-11-25T00:42:00Z */
} bench_test;

/* A kernel: one function of the compiled model, called for ops of one shape, wherever in the model. The
   values it makes are made by one or more ops of the interpreted model, whose times are added up. */
typedef struct bench_kernel {
    const bench_limits *limits;
    bool        prefill;
    bool        head; /* of the last token only, whatever is read before it */
    uint32_t    n_tokens, interpreted_tokens; /* of a pass */
    const char *name;  /* of the values it makes: "Qcur.rope" */
    const char *what;  /* "matmul Q8_0 256 → 256 + rope" */
    uint32_t    n_calls;
    bench_cost  cost;  /* of a pass */
    double      ns;    /* of a pass, generated */
    double      interpreted_ns; /* of a pass; 0: the interpreted model has no op like that */
    bench_cost  interpreted; /* of a pass of interpreted_tokens */
} bench_kernel;

/* Passes in which each call was timed: what of them the kernels do not explain is in neither. */
typedef struct bench_pass {
    const bench_limits *limits;
    bool     prefill;
    uint32_t n_tokens, position; /* position: of the first token */
    double   ns;       /* generated, as a whole, without a look at the clock in between */
    double   kernels;  /* the sum of the kernels' */
    double   unpaired; /* interpreted, of what no kernel makes */
    uint32_t interpreted_tokens, interpreted_position; /* fewer tokens where all would take long */
} bench_pass;

typedef struct bench_variant {
    const bench_limits *limits;
    const char *flag; /* "--unroll=4" */
    uint32_t n_prompt, n_gen, n_depth, n_runs;
    double   plain, ns; /* the model as it is, and so compiled */
    double   ratio;     /* of times, ns over plain: the median of the runs' */
} bench_variant;

typedef struct bench_report {
    /* what was measured */
    const char *path, *name, *arch, *types, *target, *kernels, *cpu, *flags;
    uint64_t n_params, weight_bytes, file_bytes;
    uint32_t n_ctx, n_batch, n_processors;

    bench_limits **limits; /* one for each number of threads */
    uint32_t       n_limits, cap_limits;
    bench_test   **tests;
    uint32_t       n_tests, cap_tests;
    bench_kernel **rows;
    uint32_t       n_rows, cap_rows;
    bench_pass   **passes;
    uint32_t       n_passes, cap_passes;
    bench_variant **variants;
    uint32_t       n_variants, cap_variants;
} bench_report;

enum bench_outcome { BENCH_DONE, BENCH_FAILED, BENCH_STOPPED };

/* Everything in the report is in `a`. BENCH_FAILED after an error was reported. */
enum bench_outcome bench_run(arena *a, diag *d, const bench_options *options, bench_report *report);

/* ---- what figures mean */

enum bench_bound { BENCH_UNBOUND, BENCH_BOUND_READ, BENCH_BOUND_DOTS, BENCH_BOUND_FMAS };

/* The least time that the work can take; 0 for none. *bound is set to what takes it, unless NULL. */
double bench_limit_ns(const bench_cost *cost, const bench_limits *limits, enum bench_bound *bound);
extern const char *const bench_bound_names[]; /* "", "read", … */

/* The work of `o` for n_tokens tokens from `position` on; of the head, for one. */
bench_cost bench_cost_of_op(const op *o, uint32_t n_tokens, uint32_t position);
bench_cost bench_cost_of_graph(const graph *g, uint32_t n_tokens, uint32_t position);
void       bench_cost_add(bench_cost *to, const bench_cost *c, double times);

/* How many times as long the kernel's work takes when it is interpreted, where passes are of fewer tokens:
   by multiply-adds where there are any. 0: the interpreted model has no op like that. */
double bench_kernel_ratio(const bench_kernel *k);

double bench_median(double *x, uint32_t n); /* sorts x */

/* ---- writing it down */

void bench_text(arena *a, const bench_report *r, FILE *to); /* tables of Markdown, in columns */
void bench_json(const bench_report *r, FILE *to);
void bench_html(arena *a, const bench_report *r, FILE *to);

#endif
