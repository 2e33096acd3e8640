/* imatrix.h - an importance matrix: how much each column of a weight matrix matters.
 *
 * The file is llama.cpp's GGUF: general.type "imatrix"; imatrix.datasets (strings), .chunk_count and
 * .chunk_size; and for each matrix NAME two F32 tensors: NAME.in_sum2 [columns, matrices], the sums
 * of squared activations that met a column, and NAME.counts [1, matrices], how many met it. A
 * column's importance is their quotient; 1 where nothing was counted, as in experts no token chose.
 *
 * Promise: all importances are finite and not negative. Refused, naming the tensor: anything else,
 * tensors without their other half, of another type or of sizes that do not fit; files of another
 * general.type; and the older .dat format. */
#ifndef GGUFC_IMATRIX_H
#define GGUFC_IMATRIX_H

#include "diag.h"
#include "gguf.h"

typedef struct imatrix_entry {
    gguf_string  name;    /* of the weight matrix */
    uint64_t     n;       /* importances: a matrix's columns, of one matrix after another */
    const float *weights;
} imatrix_entry;

typedef struct imatrix {
    const char          *path;
    gguf_string          dataset; /* the first; no data where none is named */
    uint64_t             n_chunks;
    const imatrix_entry *entries; /* in order of their names */
    uint32_t             n_entries;
} imatrix;

/* Reads the file; the result is in `a` and keeps nothing open. NULL after an error was reported. */
imatrix *imatrix_read(arena *a, diag *d, const char *path);

/* Leaves the entries whose names hold one of the `parts`, or with `exclude` none of them. */
void imatrix_select(imatrix *m, const char *const *parts, uint32_t n_parts, bool exclude);

const imatrix_entry *imatrix_find(const imatrix *m, gguf_string name); /* NULL: none */

#endif
