/* quantize_job.h - one run of quantize_file, for its parts: choosing, metadata, rows, reports. */
#ifndef GGUFC_QUANTIZE_JOB_H
#define GGUFC_QUANTIZE_JOB_H

#include "gguf_header.h"
#include "imatrix.h"
#include "quantize.h"

#include <stdio.h>

typedef struct quantize_tensor {
    const gguf_tensor *in;
    const char        *name, *shown; /* shown: fit for a terminal */
    uint32_t quant;  /* what it becomes */
    uint32_t wanted; /* the same, or what its rows are too odd for */
    uint64_t n_rows, bytes; /* bytes: of the whole tensor in OUT */
    uint64_t offset;        /* of its data in OUT */

    const float *importance; /* for each column, of one matrix after another; NULL: all alike */

    /* Under quantize_rows' lock while threads run. */
    uint64_t n_done;                    /* rows */
    double   square_error, square_sum;  /* of what was converted */
} quantize_tensor;

typedef struct quantize_job {
    quantize_options *options;
    arena            *memory;
    diag             *messages;
    gguf_file        *file;
    imatrix          *importance; /* NULL: none */
    quantize_tensor  *tensors;    /* in the order they are written in */
    uint64_t          n_tensors, n_fallbacks;
    uint64_t          n_prepared; /* tensors with an importance */
    gguf_header       header;
    uint64_t          bytes;       /* of OUT */
    const char       *unprepared; /* a dry run only: a tensor that needs an importance */
} quantize_job;

/* quantize_choose.c: fills in the tensors; refuses what cannot be done. */
bool quantize_choose(quantize_job *job);

/* quantize_metadata.c: makes the header, and sets where everything stands. */
bool quantize_make_header(quantize_job *job);

/* quantize_rows.c: writes all of OUT to `fd`, whose path is for messages; tells of progress. */
bool quantize_write_rows(quantize_job *job, int fd);

/* quantize_report.c. A tensor's line goes to `to`; progress rewrites a line on standard error where
   that is a terminal, and is quiet elsewhere. */
void quantize_print_tensor(const quantize_job *job, uint64_t index, FILE *to);
void quantize_print_progress(const quantize_job *job, uint64_t index, uint64_t done, double seconds);
void quantize_clear_progress(void);
void quantize_print_summary(const quantize_job *job, FILE *to);

#endif
