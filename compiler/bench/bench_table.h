/* bench_table.h - the tables of a report, as text cells that are the same in a terminal and on a page. */
#ifndef GGUFC_BENCH_TABLE_H
#define GGUFC_BENCH_TABLE_H

#include "bench.h"

enum { BENCH_MOST_COLUMNS = 12 };

typedef struct bench_column {
    const char *title, *about; /* about: what it says, for a page */
    bool        left;
} bench_column;

typedef struct bench_table {
    const char         *title, *note; /* note: what to know of it, or NULL */
    const bench_column *columns;
    uint32_t            n_columns;
    const char       *(*rows)[BENCH_MOST_COLUMNS];
    uint32_t            n_rows, cap_rows;
} bench_table;

bench_table bench_table_limits(arena *a, const bench_report *r);
bench_table bench_table_tests(arena *a, const bench_report *r);
bench_table bench_table_kernels(arena *a, const bench_report *r, const bench_pass *pass);
bench_table bench_table_variants(arena *a, const bench_report *r);

/* The model and the machine in a line each. */
const char *bench_model_text(arena *a, const bench_report *r);
const char *bench_machine_text(arena *a, const bench_report *r);

/* "pp512", "tg128 @ d64" */
const char *bench_test_name(arena *a, uint32_t n_prompt, uint32_t n_gen, uint32_t n_depth);

/* Three digits or all before the point: "0.95", "12.3", "12600". */
const char *bench_number(arena *a, double x);

/* Whether a kernel's row is of that pass. */
bool bench_is_of_pass(const bench_kernel *k, const bench_pass *pass);

#endif
