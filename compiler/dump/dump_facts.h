/* dump_facts.h - what `ggufc dump` knows of a tensor. Private: dump.c finds the tensor and fills
 * this in with dump_stats.c, dump_text.c and dump_json.c write it down. */
#ifndef GGUFC_DUMP_FACTS_H
#define GGUFC_DUMP_FACTS_H

#include "gguf.h"

#include <stdio.h>

enum { DUMP_QUANTILES = 5, DUMP_PLACES = 8 };

/* The quantiles told, in thousandths: 0.1 %, 1 %, 50 %, 99 %, 99.9 %. */
extern const uint32_t dump_permille[DUMP_QUANTILES];

/* Of n values. The numbers are of the finite ones, and NaN where there is none. */
typedef struct dump_values {
    uint64_t n, n_finite, n_zero, n_nan, n_infinite;
    double   min, max, mean, rms, std;
} dump_values;

/* Of n scales. The numbers are of the magnitudes of the finite ones, and NaN where there is none. */
typedef struct dump_scales {
    uint64_t n, n_finite, n_zero, n_subnormal, n_negative, n_nan, n_infinite;
    double   min, median, max;
} dump_scales;

typedef struct dump_place {
    uint64_t row, block;
    uint32_t element; /* of the field */
    uint64_t bits;
} dump_place;

/* The scales of all tensors of a type in a file, and where those of one tensor lie among them. */
typedef struct dump_usual {
    uint64_t    n_tensors;
    dump_scales all;
    double      quantile[DUMP_QUANTILES];
    double      limit; /* a |scale| above it is suspicious; infinite where no finite one is */
    uint64_t    n_suspicious;

    /* Of the tensor: the share of all finite scales that is below its min, median and max; how many
       finite ones are below the first and above the last quantile; those that are suspicious. */
    double     share_min, share_median, share_max;
    uint64_t   n_below, n_above, n_suspicious_here, n_places;
    dump_place places[DUMP_PLACES]; /* of the first n_places suspicious ones */
} dump_usual;

typedef struct dump_facts {
    const gguf_file   *file;
    const gguf_tensor *tensor;
    const quant_info  *type;
    uint64_t           n_rows, row_bytes, row_blocks;
    uint64_t           row, block, count; /* shown: `count` blocks from `block` on */

    dump_values        row_values, tensor_values;
    const quant_field *scale; /* NULL: nothing is told of scales */
    dump_scales        row_scales, tensor_scales;
    dump_usual         usual;
} dump_facts;

/* Fills in everything below `count`. */
void dump_count(arena *a, dump_facts *facts);

void dump_write_text(const dump_facts *facts, FILE *out);
void dump_write_json(const dump_facts *facts, FILE *out);
void dump_write_list_text(const gguf_file *f, FILE *out);
void dump_write_list_json(const gguf_file *f, FILE *out);

/* ---- shared by the two writers */

static inline bool dump_is_plain(const dump_facts *facts) {
    return facts->type->block_len == 1;
}

/* The file that has the tensor, and where in it an address of the tensor's data is. */
static inline const gguf_part *dump_part(const dump_facts *facts) {
    return gguf_find_part(facts->file, facts->tensor->offset);
}

static inline uint64_t dump_offset(const dump_facts *facts, const uint8_t *at) {
    return (uint64_t)(at - facts->file->data) - dump_part(facts)->offset;
}

/* The address of a block of the shown row. */
static inline const uint8_t *dump_block(const dump_facts *facts, uint64_t block) {
    return facts->file->data + facts->tensor->offset + facts->row * facts->row_bytes +
           block * facts->type->block_bytes;
}

#endif
