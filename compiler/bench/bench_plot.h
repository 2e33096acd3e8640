/* bench_plot.h - the roofline of a number of threads, and each kernel under it. */
#ifndef GGUFC_BENCH_PLOT_H
#define GGUFC_BENCH_PLOT_H

#include "bench.h"

/* An <svg> of the class "plot": multiply-adds for each byte of weights and caches to the right, billions
   of multiply-adds a second upwards, both as logarithms. Kernels that have neither are left out. */
void bench_plot(arena *a, const bench_report *r, const bench_limits *limits, FILE *to);

#endif
