/* bench_parts.h - what the files of bench share. Private to them. */
#ifndef GGUFC_BENCH_PARTS_H
#define GGUFC_BENCH_PARTS_H

#include "bench.h"

#include "session.h"

#include <sched.h>
#include <time.h>

/* How the model is run: as asked for, by generic loops, or compiled in another way. */
typedef struct bench_side {
    const char    *flag; /* of a variant */
    engine         engine;
    ggufc_session *session; /* of the number of threads that are measured now */
    bool           opened;
} bench_side;

enum { BENCH_PLAIN, BENCH_INTERPRETED, BENCH_UNROLL, BENCH_FUSE, BENCH_SIDES };

typedef struct bench {
    arena *memory;
    diag  *messages;
    const bench_options *options;
    bench_report *report;
    bench_side sides[BENCH_SIDES]; /* only the first where the model is not compiled */
    bool       compiled;
    int32_t   *tokens; /* as many as the context has room for */
    cpu_set_t  allowed; /* where this process may run */
    struct bench_peak *peak;
    bench_limits *limits; /* of the number of threads that are measured now */
} bench;

static inline uint64_t bench_clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- bench.c */

/* False where it is to stop; else says what is measured now. */
bool bench_goes_on(const bench *b, const char *format, ...) PRINTF_LIKE(2, 3);
bool bench_stopped(const bench *b);

/* A team that is made while another keeps this thread to one processor would have but that one. */
void bench_unpin(const bench *b);

/* Of an evaluation: reports an error. */
bool bench_check(const bench *b, ggufc_status status, const ggufc_error *error);

/* ---- bench_limits.c */

/* Code and memory to measure with, for the ISA that the model is compiled for. False after an error was
   reported; bench_peak_close either way. */
bool bench_peak_open(bench *b);
void bench_peak_close(bench *b);

/* Measures b->limits for its number of threads; what is there already is only replaced by what is more,
   so that a moment in which others had the machine does no harm. False after an error was reported. */
bool bench_measure_limits(bench *b);

/* ---- bench_model.c; false where it is to stop or an error was reported */

/* How often what takes each_ns can be done in all_ns, at least and at most so often; bench_runs is what
   the options say instead, if they do. */
uint32_t bench_how_often(double each_ns, double all_ns, uint32_t least, uint32_t most);
uint32_t bench_runs(const bench *b, double each_ns, double all_ns, uint32_t least, uint32_t most);

/* Brings a session to where `depth` tokens are in its cache. */
bool bench_fill(const bench *b, ggufc_session *s, uint32_t depth);

/* Reads n tokens from there on, a batch at a time, and computes the logits of the last; or one at a
   time, with the logits of each. */
bool bench_prefill(const bench *b, ggufc_session *s, uint32_t depth, uint32_t n);
bool bench_decode(const bench *b, ggufc_session *s, uint32_t depth, uint32_t n);

bool bench_measure_model(bench *b);
bool bench_measure_variants(bench *b);

/* ---- bench_kernels.c */

bool bench_measure_kernels(bench *b);

#endif
